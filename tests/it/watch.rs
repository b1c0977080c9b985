//! What is told when mail stops: next hops that are gone, a database that takes no writes, a watch that does not look; and that
//! nothing of it shows what is secret.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mailweir::admin::{Config, openapi};
use mailweir::app::config::load;
use serde_json::Value;
use sqlx::{Connection, Executor};

use crate::support::admin::{self, record};
use crate::support::client::Client;
use crate::support::endpoint::{Endpoint, Got};
use crate::support::gateway::{Gateway, free_port, is_private};
use crate::support::http::{Answer, request};
use crate::support::next_hop::{Behaviour, NextHop};
use crate::support::redis::{Keep, Redis, available};
use crate::support::sink::Sink;

const MARKER: &str = "hunter2-hunter2-hunter2";

async fn get(gateway: &Gateway, http: SocketAddr, path: &str) -> Answer {
    let token = fs::read_to_string(gateway.data().join("admin.token")).unwrap();
    request(http, "GET", path, &[&format!("Authorization: Bearer {}", token.trim())], "").await
}

/// Asks until it is so.
async fn until(what: &str, gateway: &Gateway, mut is: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if is().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not come to pass: {what}\n{}", gateway.log());
}

/// Until the HTTP side, which is set up last, is there.
async fn serving(gateway: &Gateway, http: SocketAddr) {
    until("the HTTP side", gateway, async || tokio::net::TcpStream::connect(http).await.is_ok()).await;
}

fn part(report: &Value, name: &str) -> Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {report}")).clone()
}

/// No command, no line of the log and no answer shows what is secret in addresses, at the start, at a reload, and in an error.
#[tokio::test]
async fn secrets_in_settings_are_shown_nowhere() {
    let (sink, http) = (Sink::start().await, free_port());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("slack"), format!("http://127.0.0.1:1/services/{MARKER}")).unwrap();
    fs::write(folder.path().join("routing"), "0123456789abcdef0123456789abcdef").unwrap();
    let settings = |marker: &str, more: &str| {
        format!(
            "[http]\nenabled = true\nlisten = \"{http}\"\n[log]\nlevel = \"debug\"\n\
             [queue]\nurl = \"redis://weir:{marker}@127.0.0.1:1/0\"\n[cache]\nurl = \"redis://:{marker}@127.0.0.1:1/0\"\n\
             [signing]\nnonces_url = \"redis://weir:{marker}@127.0.0.1:1/0\"\n[http.callers]\n\"*\" = \"read\"\n\
             [alerts]\nevery_seconds = 1\n[alerts.thresholds]\nqueue_depth_jobs = {{ warning = 0.0, critical = 0.0 }}\n\
             [alerts.slack]\nurl_file = \"{0}/slack\"\n[alerts.pagerduty]\nrouting_key_file = \"{0}/routing\"\n\
             url = \"http://weir:{marker}@127.0.0.1:1/?key={marker}\"\n\
             [alerts.webhook]\nurl = \"http://weir:{marker}@127.0.0.1:1/{marker}?key={marker}\"\nheartbeat_seconds = 1\n\
             [actions.webhook]\nurl = \"http://127.0.0.1:1/{marker}?key={marker}\"\n\
             [enrichment.url_service]\nenabled = true\nurl = \"http://weir:{marker}@127.0.0.1:1/x?key={marker}\"\n{more}",
            folder.path().display(),
        )
    };
    let gateway = Gateway::start_with(sink.address, &settings(MARKER, "")).await;
    let raw = "From: A <a@firm.example>\r\nTo: b@example.com\r\nSubject: x\r\n\r\nSee http://a.example/\r\n";
    let mut client = Client::connect(gateway.relay).await;
    assert!(client.send("a@firm.example", &["b@example.com"], raw.as_bytes()).await.starts_with("250"));
    let store = format!("[store]\nurl = \"postgres://weir:{MARKER}@127.0.0.1:1/x?password={MARKER}\"\n");
    gateway.configure(sink.address, &settings(&format!("{MARKER}-again"), &store));
    gateway.hang_up();
    until("a reload", &gateway, async || gateway.log().contains("these settings take effect after a restart")).await;
    let log = gateway.log();
    assert!(log.contains("store.url") && log.contains("weir:***@127.0.0.1"), "that it changed is told: {log}");

    let mut shown = vec![("log".to_owned(), log)];
    for command in [
        &["config", "explain"][..],
        &["config", "explain", "--json"],
        &["config", "print"],
        &["config", "print", "--json"],
        &["config", "check"],
        &["alert", "test", "webhook"],
        &["alert", "test", "slack"],
        &["alert", "list"],
        &["doctor"],
        &["queue", "status"],
        &["queue", "list"],
    ] {
        let ran = gateway.command(command).await;
        shown.push((command.join(" "), ran.text() + &ran.stderr));
    }
    assert!(shown[1].1.contains("redis://weir:***@127.0.0.1:1/0"), "{}", shown[1].1);
    let mut asked = 0;
    for (path, item) in serde_json::to_value(openapi()).unwrap()["paths"].as_object().unwrap() {
        if item.get("get").is_some() && !path.contains('{') {
            asked += 1;
            shown.push((path.clone(), get(&gateway, http, path).await.text()));
        }
    }
    assert!(asked > 10, "{asked}");
    // An error quotes the line.
    gateway.configure(
        sink.address,
        &settings(MARKER, "").replace("every_seconds = 1", &format!("every_seconds = \"redis://u:{MARKER}@x\"")),
    );
    gateway.hang_up();
    until("a refusal", &gateway, async || gateway.log().contains("the old one stays in effect")).await;
    shown.push(("check".into(), gateway.command(&["config", "check"]).await.text()));
    shown.push(("log".into(), gateway.log()));
    for (what, text) in shown {
        assert!(!text.contains("hunter2"), "{what} shows it:\n{text}");
    }
    let copies: Vec<_> =
        fs::read_dir(gateway.data().join("config")).unwrap().map(|copy| copy.unwrap().path()).collect();
    assert!(copies.len() >= 2 && copies.iter().all(|copy| is_private(&File::open(copy).unwrap())), "{copies:?}");
    assert!(load(Some(&copies[0]), None, std::iter::empty()).is_ok(), "a copy is whole");
}

/// A next hop that is gone: health says so, it is told, and it ends by itself when the hop is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_next_hop_is_told() {
    let (http, place) = (free_port(), free_port());
    let settings = format!(
        "[http]\nenabled = true\nlisten = \"{http}\"\n[alerts]\nevery_seconds = 1\nresolve_after_seconds = 0\n\
         minimum_calls = 20\n[alerts.thresholds]\nnext_hop_down_seconds = {{ warning = 1.0, critical = 0.0 }}\n\
         [relay]\nmax_recipients = 100\n"
    );
    let gateway = Gateway::start_with(place, &settings).await;
    let mut client = Client::connect(gateway.relay).await;
    client.command("EHLO a.example").await;
    client.command("MAIL FROM:<a@firm.example>").await;
    // The first look has been: what comes now is more than there was.
    until("a look", &gateway, async || gateway.data().join("alerts/state.json").exists()).await;
    let quiet = request(http, "GET", "/health", &[], "").await;
    assert_eq!(quiet.status, 200, "no mail has needed it yet: {}", quiet.text());
    for _ in 0..25 {
        assert!(client.command("RCPT TO:<b@example.com>").await.starts_with("451"), "{}", gateway.log());
    }
    let health = request(http, "GET", "/health", &[], "").await;
    assert_eq!((health.status, health.json()["status"].as_str()), (503, Some("UNHEALTHY")), "{}", health.text());
    assert!(health.text().contains("no next hop can be reached"), "{}", health.text());
    let ready = request(http, "GET", "/ready", &[], "").await;
    assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("degraded")));
    let state = async |key: &str| {
        let report = get(&gateway, http, "/api/v1/alerts").await.json();
        let items = report["items"].as_array().unwrap().clone();
        items.iter().find(|item| item["key"] == key).map(|item| item["state"].as_str().unwrap().to_owned())
    };
    until("an alert of the hop", &gateway, async || state("next_hop:mta").await.as_deref() == Some("firing")).await;
    until("an alert of mail put off", &gateway, async || state("deferrals").await.as_deref() == Some("firing")).await;
    until("health of all", &gateway, async || {
        let full = get(&gateway, http, "/health/full").await.json();
        let bad =
            part(&full, "next_hop:mta")["status"] == "UNHEALTHY" && part(&full, "deferrals")["status"] == "DEGRADED";
        bad && part(&full, "alerting")["status"] == "HEALTHY" && full["status"] == "UNHEALTHY"
    })
    .await;
    let metrics = get(&gateway, http, "/metrics").await.text();
    for line in ["mailweir_next_hop_up{hop=\"mta\"} 0", "mailweir_relay_recipients_total{answer=\"deferred\"} 25"] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    // It is back, without any mail.
    let hop = NextHop::start_at(place, Behaviour::default()).await;
    until("it is back", &gateway, async || request(http, "GET", "/health", &[], "").await.status == 200).await;
    until("it is told", &gateway, async || state("next_hop:mta").await.as_deref() != Some("firing")).await;
    drop(hop);
}

/// A database that answers and takes no writes is not healthy; nor is one that another keeps locked, and nobody waits for it.
#[tokio::test]
async fn a_database_that_takes_no_writes_is_not_healthy() {
    let gateway = admin::Gateway::start(Config::default()).await;
    let health = async || request(gateway.address, "GET", "/health", &[], "").await;
    assert_eq!(health().await.status, 200);
    let file = gateway.folder.path().join("mailweir.db");
    let mut other = sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    for table in ["messages", "pulse"] {
        let sql = format!("CREATE TRIGGER full_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(FAIL, 'full'); END");
        other.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    }
    gateway.records.note(&record(1, "x", &["a@x.example"]));
    let mut tried = 0;
    while health().await.status == 200 {
        tried += 1;
        assert!(tried < 200, "it stays healthy");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(health().await.text().contains("cannot be written to"));
    assert_eq!(request(gateway.address, "GET", "/ready", &[], "").await.json()["status"], "degraded");
    // The last look at everything serves for a second.
    tried = 0;
    while part(&gateway.get("/health/full").await.json(), "database")["status"] != "UNHEALTHY" {
        tried += 1;
        assert!(tried < 200, "it is not seen by the look at everything");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for table in ["messages", "pulse"] {
        other.execute(sqlx::AssertSqlSafe(format!("DROP TRIGGER full_{table}"))).await.unwrap();
    }
    tried = 0;
    while health().await.status != 200 {
        tried += 1;
        assert!(tried < 200, "it does not recover: {}", health().await.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Somebody keeps the lock: first it is told how it was, and then how it is.
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let (mut stale, mut unhealthy) = (0, false);
    for _ in 0..200 {
        let answer = health().await;
        stale += u32::from(answer.json()["stale_seconds"].as_f64().is_some_and(|age| age > 0.9));
        unhealthy |= answer.status == 503;
        if unhealthy && stale > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(stale > 0 && unhealthy, "stale {stale}, unhealthy {unhealthy}");
    other.execute("ROLLBACK").await.unwrap();
    tried = 0;
    while health().await.status != 200 {
        tried += 1;
        assert!(tried < 200, "it does not recover: {}", health().await.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // And when nobody has asked for a while the first who does is told how it is.
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(health().await.status, 503);
}

/// What a reload adds to the rules is watched, what it takes away is not; and what was counted outlives a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feeds_follow_a_reload_and_counts_a_restart() {
    let (sink, http, folder) = (Sink::start().await, free_port(), tempfile::tempdir().unwrap());
    let settings = |feed: &str| {
        let place = folder.path().join(feed);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("x.txt"), "no rule").unwrap();
        format!(
            "[http]\nenabled = true\nlisten = \"{http}\"\nfailed_tokens_per_minute = 1000\nsnapshot_seconds = 1\n\
             [alerts]\nevery_seconds = 1\nresolve_after_seconds = 0\n\
             [alerts.thresholds]\nauth_failures_per_hour = {{ warning = 3.0, critical = 0.0 }}\n\
             [[policy.rules.paths]]\npath = \"{}\"\nname = \"{feed}\"\n",
            place.display()
        )
    };
    let gateway = Gateway::start_with(sink.address, &settings("old")).await;
    serving(&gateway, http).await;
    let items = async || get(&gateway, http, "/api/v1/alerts").await.json()["items"].as_array().unwrap().clone();
    let state = async |key: &str| {
        let items = items().await;
        items.iter().find(|item| item["key"] == key).map(|item| item["state"].as_str().unwrap().to_owned())
    };
    until("an age", &gateway, async || state("feed_age:old").await.as_deref() == Some("ok")).await;
    let feeds = async || {
        let full = get(&gateway, http, "/health/full").await.json();
        let checks = full["checks"].as_array().unwrap().clone();
        let of = |check: &Value| {
            let name = check["name"].as_str()?.strip_prefix("feed:")?;
            Some(format!("{name} {}", check["status"].as_str()?))
        };
        checks.iter().filter_map(of).collect::<Vec<_>>()
    };
    until("its health", &gateway, async || feeds().await == ["old HEALTHY"]).await;
    gateway.configure(sink.address, &settings("new"));
    gateway.hang_up();
    until("an age of the new one", &gateway, async || state("feed_age:new").await.as_deref() == Some("ok")).await;
    until("the health of the new one", &gateway, async || feeds().await == ["new HEALTHY"]).await;
    let metrics = get(&gateway, http, "/metrics").await.text();
    assert!(metrics.contains("mailweir_rule_feed_age_seconds{feed=\"new\"}"), "{metrics}");
    assert!(!metrics.contains("mailweir_rule_feed_age_seconds{feed=\"old\"}"), "{metrics}");

    for _ in 0..4 {
        assert_eq!(request(http, "GET", "/metrics", &["Authorization: Bearer wrong"], "").await.status, 401);
    }
    until("an alert", &gateway, async || state("auth_failures").await.as_deref() == Some("firing")).await;
    assert!(gateway.terminate().await.success(), "{}", gateway.log());
    gateway.start().await;
    serving(&gateway, http).await;
    let looked = async || get(&gateway, http, "/api/v1/alerts").await.json()["at_ms"].as_i64().unwrap_or(0);
    let before = looked().await;
    until("some looks", &gateway, async || looked().await > before + 2_500).await;
    assert_eq!(
        state("auth_failures").await.as_deref(),
        Some("firing"),
        "not over because we are new\n{}",
        gateway.log()
    );
}

/// A queue that is gone is told; what it held before is no reading of now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_queue_is_told() {
    if !available("a_dead_queue_is_told") {
        return;
    }
    let redis = Redis::start(Keep::Nothing).await;
    let (sink, http) = (Sink::start().await, free_port());
    let settings = format!(
        "[http]\nenabled = true\nlisten = \"{http}\"\n[queue]\nurl = \"{}\"\n[alerts]\nevery_seconds = 1\n\
         resolve_after_seconds = 0\n[alerts.thresholds]\nqueue_silent_seconds = {{ warning = 1.0, critical = 2.0 }}\n",
        redis.url()
    );
    let gateway = Gateway::start_with(sink.address, &settings).await;
    serving(&gateway, http).await;
    let item = async |key: &str| {
        let report = get(&gateway, http, "/api/v1/alerts").await.json();
        let items = report["items"].as_array().unwrap().clone();
        items.into_iter().find(|item| item["key"] == key).unwrap_or_default()
    };
    until("a reading", &gateway, async || item("queue").await["state"] == "ok").await;
    until("a depth", &gateway, async || item("dead_letters").await["state"] == "ok").await;
    let shown = async || get(&gateway, http, "/metrics").await.text();
    until("gauges", &gateway, async || shown().await.contains("\nmailweir_queue_dead_letters 0")).await;
    drop(redis);
    until("critical", &gateway, async || item("queue").await["severity"] == "critical").await;
    until("no gauges", &gateway, async || {
        let text = shown().await;
        ["mailweir_queue_jobs{", "mailweir_queue_oldest_seconds{", "\nmailweir_queue_dead_letters "]
            .iter()
            .all(|gone| !text.contains(gone))
    })
    .await;
    let unread = gateway.command(&["alert", "list", "--json"]).await.json()[0]["unread"].clone();
    for kind in ["queue_depth", "queue_age", "dead_letters"] {
        assert!(unread.as_array().unwrap().contains(&kind.into()), "{kind}: {unread}");
    }
}

/// Whoever watches and does not look is not well.
#[tokio::test]
async fn a_watch_that_does_not_look_is_seen() {
    use mailweir::enforcement::alert::{Board, BoardState, Kind};
    let gateway = admin::Gateway::start(Config::default()).await;
    let full = gateway.get("/health/full").await.json();
    assert_eq!(part(&full, "alerting")["status"], "HEALTHY", "it has only begun: {full}");
    let state = BoardState { node: "gw".into(), every_seconds: 10, unread: Kind::ALL.into(), ..BoardState::default() };
    Board::new(gateway.folder.path()).write(&state).unwrap();
    assert!(Path::new(gateway.folder.path()).join("alerts/state.json").exists());
    let until_silent = async {
        loop {
            let full = gateway.get("/health/full").await.json();
            if part(&full, "alerting")["status"] == "DEGRADED" {
                return part(&full, "alerting")["problem"].clone();
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    // Real time would be a minute: the clock of tasks is what counts.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    let problem = tokio::time::timeout(Duration::from_secs(20), until_silent).await.unwrap();
    assert!(problem.as_str().unwrap().contains("no alerts are told"), "{problem}");
}

/// A channel that refuses for good: health says so until it takes something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_refuses_is_told_by_health() {
    let takes = Arc::new(AtomicBool::new(false));
    let taking = Arc::clone(&takes);
    let answer = move |_: &Got, _| if taking.load(Ordering::SeqCst) { "204 No Content" } else { "400 Bad Request" };
    let endpoint = Endpoint::start(answer).await;
    let (sink, http) = (Sink::start().await, free_port());
    let settings = format!(
        "[http]\nenabled = true\nlisten = \"{http}\"\n[alerts]\nevery_seconds = 1\n[alerts.webhook]\n\
         url = \"http://{0}/hook\"\nfrom = \"warning\"\nheartbeat_seconds = 1\n[alerts.thresholds]\n\
         disk_free_ratio = {{ warning = 1.0, critical = 0.0 }}\n[actions.webhook]\nurl = \"http://{0}/verdict\"\n",
        endpoint.address
    );
    let gateway = Gateway::start_with(sink.address, &settings).await;
    serving(&gateway, http).await;
    let full = async || get(&gateway, http, "/health/full").await.json();
    until("trouble", &gateway, async || part(&full().await, "channel:webhook")["status"] == "DEGRADED").await;
    let told = full().await;
    let channel = part(&told, "channel:webhook");
    assert!(channel["problem"].as_str().unwrap().contains("mailweir alert test webhook"), "{channel}");
    assert!(channel["measured"]["undelivered"].as_f64() >= Some(1.0) && channel["critical"] == false, "{channel}");
    assert_eq!(told["status"], "DEGRADED", "{told}");
    assert_eq!(get(&gateway, http, "/health/full").await.status, 200);
    // The breakers of channels are seen as those of services are.
    let metrics = get(&gateway, http, "/health/metrics").await.json();
    let dependencies = metrics["dependencies"].as_array().unwrap().clone();
    for name in ["alert_webhook", "action_webhook"] {
        assert_eq!(part(&told, &format!("service:{name}"))["measured"]["state"], "closed", "{told}");
        assert!(dependencies.iter().any(|one| one["name"] == name), "{name}: {metrics}");
    }
    let shown = get(&gateway, http, "/metrics").await.text();
    assert!(shown.contains("mailweir_health_check{check=\"channel:webhook\"} 1"), "{shown}");
    takes.store(true, Ordering::SeqCst);
    until("its end", &gateway, async || part(&full().await, "channel:webhook")["status"] == "HEALTHY").await;
}

/// What cannot be measured any more is not shown as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gauges_end_with_what_they_measured() {
    let (sink, http, folder) = (Sink::start().await, free_port(), tempfile::tempdir().unwrap());
    let pair = rcgen::generate_simple_self_signed(vec!["mx.example".to_owned()]).unwrap();
    let (cert, key, bodies) = (folder.path().join("crt"), folder.path().join("key"), folder.path().join("bodies"));
    fs::write(&cert, pair.cert.pem()).unwrap();
    fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let copy = folder.path().join("copy.db");
    let settings = format!(
        "[http]\nenabled = true\nlisten = \"{http}\"\nsnapshot_seconds = 1\n[relay.tls]\nenabled = true\n\
         cert_file = \"{}\"\nkey_file = \"{}\"\n[store]\nbodies = \"{}\"\nreplica_url = \"sqlite:{}\"\n",
        cert.display(),
        key.display(),
        bodies.display(),
        copy.display()
    );
    let gateway = Gateway::start_with(sink.address, &settings).await;
    serving(&gateway, http).await;
    let shows = async |name: &str| {
        let text = get(&gateway, http, "/metrics").await.text();
        text.lines().any(|line| line.starts_with(name))
    };
    let lag = "mailweir_database_replica_lag_seconds";
    let gone = [
        "mailweir_tls_certificate_expiry_timestamp_seconds{certificate=\"relay\"}",
        "mailweir_disk_free_bytes{place=\"bodies\"}",
        "mailweir_disk_free_ratio{place=\"bodies\"}",
    ];
    for name in gone {
        until(name, &gateway, async || shows(name).await).await;
    }
    // The copy is not there yet: nobody knows how far behind it is.
    let full = async || get(&gateway, http, "/health/full").await.json();
    assert_eq!(part(&full().await, "replica")["status"], "DEGRADED");
    assert!(!shows(lag).await);
    let mut first =
        sqlx::SqliteConnection::connect(&format!("sqlite://{}", gateway.data().join("mailweir.db").display()))
            .await
            .unwrap();
    first.execute(sqlx::AssertSqlSafe(format!("VACUUM INTO '{}'", copy.display()))).await.unwrap();
    until("a lag", &gateway, async || shows(lag).await).await;

    fs::write(&cert, "junk").unwrap();
    fs::rename(&bodies, folder.path().join("elsewhere")).unwrap();
    let mut second = sqlx::SqliteConnection::connect(&format!("sqlite://{}", copy.display())).await.unwrap();
    second.execute("ALTER TABLE messages RENAME TO elsewhere").await.unwrap();
    for name in gone.into_iter().chain([lag]) {
        until(name, &gateway, async || !shows(name).await).await;
    }
    assert_eq!(part(&full().await, "certificate:relay")["status"], "DEGRADED");
    assert!(shows("mailweir_disk_free_bytes{place=\"data\"}").await, "others stay");
}
