//! The second look, through the running gateway: what waits is released, what turns bad raises actions. On both queue engines.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use mailweir::app::mock_services::{Fault, Mock, Service};
use serde_json::Value;
use sqlx::{Connection, Executor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::client::Client;
use crate::support::dns::{Answer, Dns};
use crate::support::endpoint::Endpoint;
use crate::support::gateway::{Gateway, free_port};
use crate::support::milter::Mta;
use crate::support::postfix::{self, Options, Postfix};
use crate::support::redis::{Keep, Redis, available};
use crate::support::sink::Sink;

const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway that asks a URL analyser which can fail.
struct Scene {
    urls: Mock,
    fickle: Fickle,
    sink: Sink,
    gateway: Gateway,
    /// Where mail goes in.
    door: SocketAddr,
    _redis: Option<Redis>,
    _postfix: Option<Postfix>,
}

/// A URL analyser that finds every URL clean when it is first asked, and phishing from then on.
struct Fickle {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Fickle {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut asked = 0_usize;
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\"}") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                let verdict = if asked == 0 { "clean" } else { "phishing" };
                // The gateway tries it with a URL of documentation at its start.
                asked += usize::from(memchr::memmem::find(&request, b"firm.example").is_some());
                let body = format!("{{\"verdict\": \"{verdict}\", \"confidence\": 0.9}}");
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
                let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, task }
    }
}

impl Drop for Fickle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What stands around the gateway.
#[derive(Default)]
struct Around {
    /// Settings of `[queue]`.
    queue: String,
    redis: Option<Redis>,
    /// Postfix stands before it and asks it as a milter; released mail goes through Postfix and that door again.
    postfix: bool,
    /// The URL analyser is the one that changes its mind.
    fickle: bool,
    /// Attempts and looks are as by default; else so many that a test can take its time.
    few: bool,
    /// The URL analyser must be asked.
    closed: bool,
}

impl Around {
    async fn redis() -> Self {
        let redis = Redis::start(Keep::Nothing).await;
        Self { queue: format!("url = \"redis://127.0.0.1:{}\"", redis.port), redis: Some(redis), ..Self::default() }
    }
}

impl Scene {
    async fn start(reassess: &str, around: Around) -> Self {
        let Around { queue, redis, postfix, fickle: changes, few, closed } = around;
        let on_failure = if closed { "on_failure = \"closed\"" } else { "" };
        let (looks, attempts) = if few { ("", "") } else { ("looks = 400", "attempts = 400") };
        let fickle = Fickle::start().await;
        let urls = Mock::start(Service::Http, 0, Fault::ServerError).await.unwrap();
        let sink = Sink::start().await;
        let first_contact = if reassess.contains("first_contact") { "" } else { "first_contact = false" };
        let settings = format!(
            r#"
            [store.history]
            warm_up_days = 0
            [inspection]
            deadline_ms = 3000
            [reassess]
            enabled = true
            {first_contact}
            risk_from = 100.0
            risk_to = 100.0
            {looks}
            look_pause_seconds = 0
            {reassess}
            [queue]
            pump_ms = 20
            {queue}
            [workers]
            {attempts}
            backoff_ms = 100
            backoff_max_seconds = 1
            idle_ms = 20
            [workers.patience]
            wait_ms = 20
            wait_max_seconds = 1
            [policy.default]
            tag_at = 12.0
            quarantine_at = 15.0
            reject_at = 101.0
            [enrichment.url_service]
            enabled = true
            {on_failure}
            url = "http://{}/v1/url"
            [enrichment.url_service.service.call]
            deadline_ms = 1000
            [enrichment.url_service.service.call.breaker]
            consecutive_failures = 1000
            recovery_seconds = 1
            minimum_calls = 1000
            success_threshold = 1
            [enrichment.url_service.service.call.retry]
            attempts = 1
            "#,
            if changes { fickle.address } else { urls.address() }
        );
        let smtp = free_port();
        let gateway = Gateway::start_with(if postfix { smtp } else { sink.address }, &settings).await;
        let milter = Some(format!("inet:{}", gateway.milter));
        let options = Options { milter, sink: Some(sink.address), smtp: Some(smtp), ..Options::default() };
        let postfix = if postfix { Some(Postfix::start(options).await) } else { None };
        let door = if postfix.is_some() { smtp } else { gateway.relay };
        Self { urls, fickle, sink, gateway, door, _redis: redis, _postfix: postfix }
    }

    async fn send(&self, link: &str) {
        let raw = format!(
            "From: A <a@firm.example>\r\nTo: b@example.com\r\nSubject: hello\r\nMessage-ID: <1@firm.example>\r\n\
             Date: Fri, 20 Nov 2026 10:00:00 +0000\r\n\r\nHello {link}\r\n"
        );
        let mut client = Client::connect(self.door).await;
        let reply = client.send("a@firm.example", &["b@example.com"], raw.as_bytes()).await;
        assert!(reply.starts_with("250"), "{reply}\n{}", self.gateway.log());
    }

    /// The id of the only message that is held.
    async fn held(&self) -> (String, String) {
        let listed = self.gateway.command(&["quarantine", "list", "--json"]).await.json();
        assert_eq!(listed.len(), 1, "{listed:?}");
        (listed[0]["id"].as_str().unwrap().to_owned(), listed[0]["reason"].as_str().unwrap().to_owned())
    }

    /// The record once it is as wanted.
    async fn explained(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let ran = self.gateway.command(&["explain", id, "--json"]).await;
            let found = if ran.ok { ran.json().remove(0) } else { Value::Null };
            if wanted(&found) {
                return found;
            }
            assert!(tokio::time::Instant::now() < until, "{found:#}\n{}\n{}", ran.stderr, self.gateway.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn results(record: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let actions = record["actions"].as_array().cloned().unwrap_or_default();
    actions.iter().map(|action| (text(&action["kind"]), text(&action["result"]))).collect()
}

async fn a_held_message_is_released(around: Around) {
    let scene = Scene::start("wait = \"hold\"\nhold_seconds = 600", around).await;
    scene.send("https://firm.example/x").await;
    let (id, reason) = scene.held().await;
    assert_eq!(reason, "waiting");
    let first = scene.explained(&id, |record| record["action"] == "quarantine").await;
    assert_eq!((&first["degraded"][0], &first["second"]), (&"urls=status".into(), &Value::Null), "{first:#}");
    assert!(scene.sink.mails().is_empty(), "it waits");
    scene.urls.set(Fault::None);
    let mails = scene.sink.wait_for(1).await;
    assert!(String::from_utf8_lossy(&mails[0].raw).contains("https://firm.example/x"));
    let record = scene.explained(&id, |record| results(record).iter().any(|(_, result)| !result.is_empty())).await;
    assert_eq!(results(&record), [("release".to_owned(), "released for b@example.com".to_owned())]);
    assert_eq!((&record["second"]["change"], &record["second"]["record"]["action"]), (&"same".into(), &"allow".into()));
    assert_eq!(record["second"]["record"]["degraded"].as_array().unwrap().len(), 0);
    assert_eq!(scene.gateway.command(&["quarantine", "list", "--json"]).await.json().len(), 0);
    assert_eq!(scene.sink.mails().len(), 1, "once");
}

async fn a_delivered_message_turns_bad(around: Around) {
    let scene = Scene::start("on_worse = [\"remediate\", \"alert\", \"notify\"]", around).await;
    scene.send("https://evil.test/login").await;
    let mails = scene.sink.wait_for(1).await;
    let raw = String::from_utf8_lossy(&mails[0].raw).into_owned();
    let id = raw.lines().find_map(|line| line.strip_prefix("X-Mailweir-Id: ")).unwrap().trim().to_owned();
    scene.urls.set(Fault::None);
    let done =
        |record: &Value| results(record).len() == 3 && results(record).iter().all(|(_, result)| !result.is_empty());
    let record = scene.explained(&id, done).await;
    assert_eq!((&record["second"]["change"], &record["action"]), (&"worse".into(), &"allow".into()), "{record:#}");
    let terms = |record: &Value| record["score"]["terms"].to_string();
    assert!(!terms(&record).contains("URL_BAD") && terms(&record["second"]["record"]).contains("URL_BAD"));
    for (kind, result) in results(&record) {
        assert_eq!(result, "recorded, nobody configured to act", "{kind}");
    }
    let text = scene.gateway.command(&["explain", &id]).await.text();
    assert!(text.contains("looked at again") && text.contains("action remediate for b@example.com"), "{text}");
    assert_eq!(scene.sink.mails().len(), 1);
    // Nobody holds on to the records.
    assert!(scene.gateway.terminate().await.success());
    assert!(!scene.gateway.log().contains("did not close"), "{}", scene.gateway.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_message_is_released_after_a_clean_second_verdict() {
    a_held_message_is_released(Around::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivered_message_that_turns_bad_raises_actions() {
    a_delivered_message_turns_bad(Around::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_through_redis() {
    if !available("both_through_redis") {
        return;
    }
    a_held_message_is_released(Around::redis().await).await;
    a_delivered_message_turns_bad(Around::redis().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_behind_postfix() {
    if !postfix::available("both_behind_postfix") {
        return;
    }
    a_held_message_is_released(Around { postfix: true, ..Around::default() }).await;
    a_delivered_message_turns_bad(Around { postfix: true, ..Around::default() }).await;
}

/// The next hop is away for longer than all attempts of a job take: what was found clean, and what waited in vain, goes out
/// when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_next_hop_that_is_away_strands_nothing() {
    for (hold, clean) in [("hold_seconds = 600", true), ("hold_seconds = 1", false)] {
        let scene = Scene::start(&format!("wait = \"hold\"\n{hold}"), Around { few: true, ..Around::default() }).await;
        scene.send("https://firm.example/x").await;
        scene.sink.set(|replies| replies.mail = "451 4.3.2 not now".into());
        let (id, reason) = scene.held().await;
        assert_eq!(reason, "waiting");
        if clean {
            scene.urls.set(Fault::None);
        }
        let tries = async || {
            let listed = scene.gateway.command(&["quarantine", "list", "--json"]).await.json();
            listed[0]["recipients"][0]["attempts"].as_i64().unwrap_or_default()
        };
        let until = tokio::time::Instant::now() + PATIENCE;
        while tries().await < 8 {
            assert!(tokio::time::Instant::now() < until, "{id}\n{}", scene.gateway.log());
        }
        let dead = scene.gateway.command(&["queue", "dead", "list", "--json"]).await;
        assert!(dead.ok && dead.json().iter().all(|one| one["kind"] != "release"), "{}", dead.text());
        scene.sink.set(|replies| replies.mail = "250 2.1.0 Ok".into());
        scene.sink.wait_for(1).await;
        // The end of the wait and the last look may both have ordered it.
        let released = ("release".to_owned(), "released for b@example.com".to_owned());
        scene.explained(&id, |record| results(record).contains(&released)).await;
        assert_eq!(scene.sink.mails().len(), 1, "once");
    }
}

/// What is held because a service that must be asked could not be is looked at until it can be, and released then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_asked_is_released_when_it_is_found_clean() {
    let scene = Scene::start("wait = \"deliver\"", Around { few: true, closed: true, ..Around::default() }).await;
    scene.send("https://firm.example/x").await;
    let (id, reason) = scene.held().await;
    assert_eq!(reason, "unasked");
    // More looks than there are attempts, or looks that count.
    let until = tokio::time::Instant::now() + PATIENCE;
    while scene.urls.seen() < 12 {
        assert!(tokio::time::Instant::now() < until, "{}", scene.gateway.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    scene.held().await;
    scene.urls.set(Fault::None);
    scene.sink.wait_for(1).await;
    let record = scene.explained(&id, |record| results(record).iter().any(|(_, result)| !result.is_empty())).await;
    assert_eq!(results(&record), [("release".to_owned(), "released for b@example.com".to_owned())]);
    assert_eq!(record["second"]["change"], "better");
}

/// The look at what could not be asked commits with the hold: it is there although the ledger takes no row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_look_at_what_is_held_needs_no_ledger() {
    let scene = Scene::start("wait = \"deliver\"", Around { few: true, closed: true, ..Around::default() }).await;
    sqlx::any::install_default_drivers();
    let file = format!("sqlite://{}", scene.gateway.data().join("mailweir.db").display());
    let mut database = sqlx::AnyConnection::connect(&file).await.unwrap();
    let full = "CREATE TRIGGER no_room BEFORE INSERT ON messages BEGIN SELECT RAISE(ABORT, 'full'); END";
    database.execute(full).await.unwrap();
    scene.send("https://firm.example/x").await;
    let (id, reason) = scene.held().await;
    assert_eq!(reason, "unasked");
    let jobs = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM outbox WHERE job_key = $1");
    assert_eq!(jobs.bind(format!("reassess:{id}")).fetch_one(&mut database).await.unwrap(), 1);
}

/// A commit whose answer was lost, and a crash before it could be taken back: nobody acts on such a copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_sender_was_told_to_send_again_is_not_released() {
    let settings = "wait = \"hold\"\nhold_seconds = 600";
    let scene = Scene::start(settings, Around::default()).await;
    scene.send("https://firm.example/x").await;
    let (id, _) = scene.held().await;
    scene.explained(&id, |record| record["action"] == "quarantine").await;
    sqlx::any::install_default_drivers();
    let file = format!("sqlite://{}", scene.gateway.data().join("mailweir.db").display());
    let mut database = sqlx::AnyConnection::connect(&file).await.unwrap();
    let deferred = "UPDATE messages SET record = replace(record, '\"action\":\"quarantine\"', '\"action\":\"defer\"')";
    database.execute(deferred).await.unwrap();
    assert_eq!(scene.explained(&id, |record| record["action"] == "defer").await["action"], "defer");
    scene.urls.set(Fault::None);
    let until = tokio::time::Instant::now() + PATIENCE;
    while !scene.gateway.command(&["quarantine", "list", "--json"]).await.json().is_empty() {
        assert!(tokio::time::Instant::now() < until, "{}", scene.gateway.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(scene.gateway.log().contains("that copy is taken back"), "{}", scene.gateway.log());
    assert!(scene.gateway.terminate().await.success());
    assert!(scene.sink.mails().is_empty(), "it was not released");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_in_vain_ends_as_configured() {
    let scene = Scene::start("wait = \"hold\"\nhold_seconds = 1\nafter_hold = \"release\"", Around::default()).await;
    scene.send("https://firm.example/x").await;
    scene.sink.wait_for(1).await;
    let scene = Scene::start("wait = \"hold\"\nhold_seconds = 1\nafter_hold = \"keep\"", Around::default()).await;
    scene.send("https://firm.example/x").await;
    let (id, _) = scene.held().await;
    let record = scene.explained(&id, |record| !results(record).is_empty() && !results(record)[0].1.is_empty()).await;
    assert_eq!(results(&record), [("waited".to_owned(), "not looked at in time: stays held".to_owned())]);
    assert!(scene.sink.mails().is_empty());
    scene.held().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_clean_and_kept_is_asked_anew() {
    let scene = Scene::start("share = 1.0", Around { fickle: true, ..Around::default() }).await;
    scene.send("https://firm.example/x").await;
    let mails = scene.sink.wait_for(1).await;
    let raw = String::from_utf8_lossy(&mails[0].raw).into_owned();
    assert!(!raw.contains("X-Mailweir-Degraded"), "{} {raw}", scene.fickle.address);
    let id = raw.lines().find_map(|line| line.strip_prefix("X-Mailweir-Id: ")).unwrap().trim().to_owned();
    let record = scene.explained(&id, |record| results(record).len() == 2).await;
    assert_eq!(record["facts"]["services"]["urls"]["known"][0]["verdict"], "clean");
    let second = &record["second"];
    assert_eq!(second["record"]["facts"]["services"]["urls"]["known"][0]["verdict"], "phishing", "{second:#}");
    assert_eq!(second["change"], "worse");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_contacts_with_links_are_looked_at_again() {
    let scene = Scene::start("first_contact = true", Around::default()).await;
    scene.urls.set(Fault::None);
    let ids = async |count| {
        let mails = scene.sink.wait_for(count).await;
        let id =
            |raw: &str| raw.lines().find_map(|line| line.strip_prefix("X-Mailweir-Id: ")).unwrap().trim().to_owned();
        mails.iter().map(|mail| id(&String::from_utf8_lossy(&mail.raw))).collect::<Vec<_>>()
    };
    // Nothing is remembered before the first message of all.
    scene.send("https://firm.example/x").await;
    let first = ids(1).await.remove(0);
    scene.explained(&first, |record| !record.is_null()).await;
    scene.send("nothing to click on").await;
    scene.send("https://firm.example/y").await;
    let ids = ids(3).await;
    let looked = scene.explained(&ids[2], |record| record["second"].is_object()).await;
    assert_eq!((&looked["second"]["change"], looked["actions"].as_array()), (&"same".into(), None), "{looked:#}");
    for id in &ids[..2] {
        assert!(scene.explained(id, |record| !record.is_null()).await["second"].is_null());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fifth_of_a_campaign_has_the_first_four_looked_at_again() {
    let scene = Scene::start("[campaigns]\nenabled = true", Around::default()).await;
    scene.urls.set(Fault::None);
    let ids = async |count| {
        let mails = scene.sink.wait_for(count).await;
        let id =
            |raw: &str| raw.lines().find_map(|line| line.strip_prefix("X-Mailweir-Id: ")).unwrap().trim().to_owned();
        mails.iter().map(|mail| id(&String::from_utf8_lossy(&mail.raw))).collect::<Vec<_>>()
    };
    let mut client = Client::connect(scene.door).await;
    for number in 1..=5 {
        let (from, to) = (format!("post{number}@sender{number}.example"), format!("r{number}@example.com"));
        let raw = format!(
            "From: Post {number} <{from}>\r\nTo: {to}\r\nSubject: parcel {number}\r\nMessage-ID: <{number}@x.example>\r\n\
             Date: Fri, 20 Nov 2026 10:00:00 +0000\r\n\r\nDear r{number},\r\nwe could not bring your parcel {number}{number} \
             today because nobody was at home. Please choose another day for it, or it goes back to where it came \
             from.\r\n"
        );
        let reply = client.send(&from, &[&to], raw.as_bytes()).await;
        assert!(reply.starts_with("250"), "{reply}\n{}", scene.gateway.log());
        let id = ids(number).await.pop().unwrap();
        // The next one is to find it.
        let record = scene.explained(&id, |record| !record.is_null()).await;
        let campaign = &record["facts"]["campaign"]["known"];
        assert_eq!(
            (campaign["messages"].as_u64(), campaign["senders"].as_u64()),
            (Some(number as u64), Some(number as u64))
        );
    }
    let has = |record: &Value| record["score"]["terms"].to_string().contains("CAMPAIGN");
    for (place, id) in ids(5).await.iter().enumerate() {
        let record = scene.explained(id, |record| record["second"].is_object()).await;
        assert_eq!((has(&record), has(&record["second"]["record"])), (place == 4, true), "{place}: {record:#}");
        assert_eq!(record["second"]["record"]["facts"]["campaign"]["known"]["messages"], 5);
    }
}

/// Rules that the operator wrote, and the settings that name them.
fn with_rule(rule: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("one.yml"), rule).unwrap();
    let path = folder.path().display();
    let settings = format!("[[policy.rules.paths]]\npath = \"{path}\"\nname = \"ours\"\nmode = \"enforce\"\n");
    (folder, settings)
}

fn matched(record: &Value) -> Vec<&str> {
    let matches = record["rules"]["matches"].as_array();
    matches.into_iter().flatten().filter(|one| one["feed"] == "ours").filter_map(|one| one["name"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_of_the_second_look_is_run_only_there() {
    let rule = "name: later\ntype: rule\nseverity: high\nstage: deferred\nsource: strings.icontains(body.plain.raw, 'unicorn')\n";
    let (_folder, rules) = with_rule(rule);
    let scene = Scene::start(&format!("share = 1.0\n{rules}"), Around::default()).await;
    scene.urls.set(Fault::None);
    scene.send("unicorn").await;
    let mails = scene.sink.wait_for(1).await;
    let raw = String::from_utf8_lossy(&mails[0].raw).into_owned();
    let id = raw.lines().find_map(|line| line.strip_prefix("X-Mailweir-Id: ")).unwrap().trim().to_owned();
    let record = scene.explained(&id, |record| record["second"].is_object()).await;
    assert!(matched(&record).is_empty(), "{record:#}");
    assert_eq!(matched(&record["second"]["record"]), ["later"]);
    assert_eq!(record["second"]["change"], "worse");
}

/// A short link is followed after the reply only; the record and the URL analyser learn where it leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_are_followed_in_the_second_look() {
    let there = Endpoint::start(|got, _| match got.path.as_str() {
        "/3xYzAb9" => "302 Found\r\nLocation: /there",
        _ => "200 OK\r\nContent-Type: text/plain",
    })
    .await;
    let dns = Dns::start();
    dns.says("bit.ly", Answer::A(vec![std::net::Ipv4Addr::LOCALHOST]));
    let settings = format!(
        "share = 1.0\n[enrichment]\nallow_networks = [\"127.0.0.1/32\"]\n[enrichment.sender_auth]\nresolvers = \
         [\"{}\"]\n[enrichment.redirects]\nenabled = true\n",
        dns.address
    );
    let scene = Scene::start(&settings, Around::default()).await;
    scene.urls.set(Fault::None);
    let link = format!("http://bit.ly:{}/3xYzAb9", there.address.port());
    scene.send(&link).await;
    // A short link at an odd port is enough to be held.
    let (id, _) = scene.held().await;
    let record = scene.explained(&id, |record| record["second"].is_object()).await;
    assert_eq!(record["facts"]["services"]["followed"]["unknown"], "disabled", "not while the sender waited");
    let second = &record["second"]["record"]["facts"]["services"];
    let end = format!("http://bit.ly:{}/there", there.address.port());
    let followed = &second["followed"]["known"][0];
    assert_eq!((&followed["hops"][0], &followed["end"]["page"]), (&end.as_str().into(), &200.into()), "{second:#}");
    let read = second["urls"]["known"].as_array().unwrap();
    assert!(read.iter().any(|one| one["url"] == end.as_str()), "the analyser was asked about it: {second:#}");
    assert_eq!(there.got().iter().filter(|got| got.path == "/there").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_may_have_its_matches_wait() {
    let rule = "name: patience\ntype: rule\nseverity: informational\nwait: hold\nsource: strings.icontains(body.plain.raw, 'unicorn')\n";
    let (_folder, rules) = with_rule(rule);
    let scene = Scene::start(&format!("wait = \"deliver\"\nhold_seconds = 600\n{rules}"), Around::default()).await;
    scene.urls.set(Fault::None);
    scene.send("horse").await;
    scene.send("unicorn").await;
    let mails = scene.sink.wait_for(2).await;
    let id = |place: usize| {
        let raw = String::from_utf8_lossy(&mails[place].raw).into_owned();
        raw.lines().find_map(|line| line.strip_prefix("X-Mailweir-Id: ")).map(|id| id.trim().to_owned())
    };
    // What was released from quarantine came through no door: it has no header of ours.
    assert!(id(0).is_some() && id(1).is_none(), "{}", scene.gateway.log());
    let held = |log: String| {
        log.lines().filter(|line| line.contains("judged") && line.contains("action=\"quarantine\"")).count()
    };
    assert_eq!(held(scene.gateway.log()), 1, "it waited");
}

#[tokio::test]
async fn waiting_without_anybody_who_looks_is_said() {
    for (settings, expected) in [
        ("[workers]\nenabled = false\n[reassess]\nenabled = true\nwait = \"hold\"", "nobody can do it"),
        ("[workers]\nenabled = false\n[reassess]\nenabled = true\n[policy.default]\nwait = \"hold\"", "mail may wait"),
        ("[[policy.tenants]]\nname = \"a\"\ndomains = [\"a.example\"]\nwait = \"hold\"", "tenant `a`"),
    ] {
        let gateway = Gateway::prepare("127.0.0.1:9".parse().unwrap(), settings);
        let ran = gateway.command(&["config", "check"]).await;
        assert!(ran.ok && ran.text().contains(expected), "{expected}: {}{}", ran.text(), ran.stderr);
        let ran = gateway.command(&["doctor"]).await;
        assert!(ran.text().contains(expected), "{expected}: {}{}", ran.text(), ran.stderr);
    }
    let gateway = Gateway::prepare("127.0.0.1:9".parse().unwrap(), "[reassess]\nenabled = true\nwait = \"hold\"");
    let ran = gateway.command(&["config", "check"]).await;
    assert!(ran.ok && !ran.text().contains("warning"), "{}", ran.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worse_verdict_is_told_once_by_each_way() {
    // The first answer is a failure that passes: the queue tries again.
    let hook = Endpoint::start(|_, before| if before == 0 { "503 Busy" } else { "200 OK" }).await;
    let operators = Endpoint::start(|_, _| "200 OK").await;
    let settings = format!(
        "on_worse = [\"alert\", \"notify\", \"webhook\", \"remediate\"]\n[actions.webhook]\nurl = \"http://{}/hook\"\n\
         [actions.notify]\nrecipients = true\nto = [\"desk@example.com\"]\n[alerts]\nenabled = true\n[alerts.webhook]\nurl = \
         \"http://{}/alerts\"\n[alerts.call.retry]\nattempts = 1\n",
        free_port(),
        free_port()
    );
    let scene = Scene::start(&settings, Around::default()).await;
    // Nobody is there; who is there is named by a reload.
    let mut file = fs::read_to_string(scene.gateway.file()).unwrap();
    for (path, place) in [("hook", hook.address), ("alerts", operators.address)] {
        let (before, after) = file.split_once(&format!("/{path}\"")).unwrap();
        let (before, _) = before.rsplit_once("http://").unwrap();
        file = format!("{before}http://{place}/{path}\"{after}");
    }
    fs::write(scene.gateway.file(), file).unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while !scene.gateway.log().contains("configuration reloaded") {
        assert!(tokio::time::Instant::now() < until, "{}", scene.gateway.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    scene.send("https://evil.test/login").await;
    let mails = scene.sink.wait_for(1).await;
    let raw = String::from_utf8_lossy(&mails[0].raw).into_owned();
    let id = raw.lines().find_map(|line| line.strip_prefix("X-Mailweir-Id: ")).unwrap().trim().to_owned();
    scene.urls.set(Fault::None);
    let done =
        |record: &Value| results(record).len() == 4 && results(record).iter().all(|(_, result)| !result.is_empty());
    let record = scene.explained(&id, done).await;
    let by = |kind: &str| results(&record).into_iter().find(|(one, _)| one == kind).unwrap().1;
    assert_eq!((by("alert").as_str(), by("webhook").as_str()), ("told by webhook", "told by webhook"));
    assert_eq!(
        (by("notify").as_str(), by("remediate").as_str()),
        ("told by mail, mail", "recorded, nobody configured to act")
    );
    let told = |got: &crate::support::endpoint::Got| {
        let one = got.json()["alerts"][0].clone();
        (one["kind"].clone(), one["key"].clone())
    };
    let hooked = hook.got();
    assert_eq!(hooked.len(), 2, "the one that failed, and the one that did not");
    assert_eq!(told(&hooked[1]), ("second_verdict".into(), format!("second_verdict:{id}").into()));
    assert!(hooked[1].headers.iter().any(|(name, _)| name.to_lowercase().contains("signature")), "{hooked:?}");
    let alerted = operators.got().iter().filter(|got| got.json()["alerts"][0]["kind"] == "second_verdict").count();
    assert_eq!(alerted, 1);
    let mails = scene.sink.wait_for(3).await;
    let to = |mail: &crate::support::sink::Mail| mail.recipients.clone();
    let mut recipients: Vec<_> = mails[1..].iter().flat_map(to).collect();
    recipients.sort();
    assert_eq!(recipients, ["RCPT TO:<b@example.com>", "RCPT TO:<desk@example.com>"]);
    // Told again, nothing happens: the record has its result.
    assert_eq!(scene.sink.mails().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_in_a_picture_is_read_in_the_second_look() {
    let there = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join("tesseract").is_file());
    if !there {
        println!("left out: what_is_written_in_a_picture_is_read_in_the_second_look needs tesseract (tesseract-ocr)");
        return;
    }
    let rule = "name: written\ntype: rule\nseverity: high\nsource: any(attachments, strings.icontains(beta.ocr(.).text, 'your account'))\n";
    let (_folder, rules) = with_rule(rule);
    let scene = Scene::start(&format!("undecided = true\n{rules}"), Around::default()).await;
    scene.urls.set(Fault::None);
    let picture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures/verify.png");
    let picture = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, std::fs::read(picture).unwrap());
    let lines: Vec<&str> = picture.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let raw = format!(
        "From: A <a@firm.example>\r\nTo: b@example.com\r\nSubject: hello\r\nMessage-ID: <1@firm.example>\r\n\
         Date: Fri, 20 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n\
         --x\r\n\r\nsee the picture\r\n--x\r\nContent-Type: image/png\r\nContent-Disposition: attachment; filename=a.png\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}\r\n--x--\r\n",
        lines.join("\r\n")
    );
    let mut client = Client::connect(scene.door).await;
    let reply = client.send("a@firm.example", &["b@example.com"], raw.as_bytes()).await;
    assert!(reply.starts_with("250"), "{reply}\n{}", scene.gateway.log());
    let mails = scene.sink.wait_for(1).await;
    let raw = String::from_utf8_lossy(&mails[0].raw).into_owned();
    let id = raw.lines().find_map(|line| line.strip_prefix("X-Mailweir-Id: ")).unwrap().trim().to_owned();
    let record = scene.explained(&id, |record| record["second"].is_object()).await;
    assert!(record["rules"]["undecided"].to_string().contains("ocr"), "{record:#}");
    let second = &record["second"]["record"];
    assert!(matched(&record).is_empty() && matched(second) == ["written"], "{record:#}");
    assert!(second["facts"]["answers"]["beta.ocr"].to_string().contains("YOUR ACCOUNT"), "{second:#}");
    let said = scene.gateway.command(&["doctor"]).await.text();
    assert!(said.lines().any(|line| line.contains("ocr") && line.contains("reads eng")), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_survives_a_kill() {
    let scene = Scene::start("wait = \"hold\"\nhold_seconds = 4", Around::default()).await;
    for number in 0..3 {
        scene.send(&format!("https://firm.example/{number}")).await;
        // The 250 is there: the message is durable, its record perhaps not yet. Either way it gets out, once.
        scene.gateway.kill();
        scene.urls.set(if number == 2 { Fault::ServerError } else { Fault::None });
        scene.gateway.start().await;
        let mails = scene.sink.wait_for(number + 1).await;
        let text = format!("https://firm.example/{number}\r\n");
        let those = mails.iter().filter(|mail| String::from_utf8_lossy(&mail.raw).contains(&text));
        assert_eq!(those.count(), 1, "{}", scene.gateway.log());
        scene.urls.set(Fault::ServerError);
    }
    assert_eq!(scene.gateway.command(&["quarantine", "list", "--json"]).await.json().len(), 0);
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused() {
    for (settings, expected) in [
        ("share = 1.5", "reassess.share"),
        ("deadline_ms = 30000", "reassess.deadline_ms is not below"),
        ("looks = 6", "reassess.looks is above"),
        ("[release]\ncopy_seconds = 0", "release.copy_seconds must be at least 1"),
    ] {
        let settings = format!("[reassess]\nenabled = true\n{settings}\n");
        let gateway = Gateway::prepare("127.0.0.1:9".parse().unwrap(), &settings);
        let ran = gateway.command(&["config", "check"]).await;
        let said = format!("{}{}", ran.text(), ran.stderr);
        assert!(!ran.ok && said.contains(expected), "{said}");
    }
}

/// The correlation id that a line of the log carries by its spans.
fn correlation_of(line: &Value) -> Option<&str> {
    line["spans"].as_array()?.iter().find_map(|span| span["correlation"].as_str())
}

/// One message through the milter door, judged worse at its second look: the same id binds the connection's lines, the message's,
/// those of its jobs, the record, and what the webhook is told.
async fn one_id_binds_it_all(around: Around) {
    let hook = Endpoint::start(|_, _| "200 OK").await;
    let settings = format!(
        "share = 1.0\non_worse = [\"webhook\", \"remediate\"]\n[actions.webhook]\nurl = \"http://{}/hook\"\n[log]\nformat = \"json\"\n",
        hook.address
    );
    let scene = Scene::start(&settings, Around { fickle: true, ..around }).await;
    let mut mta = Mta::connect(&format!("inet:{}", scene.gateway.milter).parse().unwrap()).await.unwrap();
    mta.greet().await;
    mta.say(b'M', b"<a@firm.example>\0").await;
    mta.say(b'R', b"<b@example.com>\0").await;
    for (name, value) in [
        ("From", "A <a@firm.example>"),
        ("To", "b@example.com"),
        ("Subject", "a secret subject"),
        ("Message-ID", "<1@firm.example>"),
        ("Date", "Fri, 20 Nov 2026 10:00:00 +0000"),
    ] {
        mta.say(b'L', format!("{name}\0 {value}\0").as_bytes()).await;
    }
    mta.say(b'B', b"Hello https://firm.example/x\r\n").await;
    mta.say(b'E', b"").await;
    mta.verdict().await;
    // An empty frame after it: the connection ends by a breach of the protocol, in the log by the same id.
    mta.raw(&[0; 4]).await.unwrap();

    let told = hook.wait_for(1).await[0].json();
    let alert = &told["alerts"][0];
    let correlation = alert["correlation"].as_str().unwrap_or_else(|| panic!("{told:#}")).to_owned();
    assert!(correlation.len() == 32 && mailweir::observe::is_correlation(&correlation), "{correlation}");
    let id = alert["key"].as_str().unwrap().trim_start_matches("second_verdict:").to_owned();
    let done =
        |record: &Value| results(record).len() == 2 && results(record).iter().all(|(_, result)| !result.is_empty());
    let record = scene.explained(&id, done).await;
    assert_eq!(record["connection"]["correlation"], correlation.as_str(), "{record:#}");

    let until = tokio::time::Instant::now() + PATIENCE;
    let of_message = |wanted: &[(&str, &str)]| -> bool {
        let all = super::observe::lines(&scene.gateway);
        let has = |line: &Value| wanted.iter().all(|(key, value)| line[*key] == *value);
        let found: Vec<&Value> = all.iter().filter(|line| has(line)).collect();
        assert!(found.iter().all(|line| correlation_of(line) == Some(&correlation)), "{found:#?}");
        !found.is_empty()
    };
    for wanted in [
        &[("event", "mail"), ("message", "judged"), ("id", id.as_str()), ("door", "milter"), ("action", "allow")][..],
        &[("event", "mail"), ("message", "looked at again"), ("id", &id), ("change", "worse")],
        &[("event", "mail"), ("message", "an action is wanted and nobody is configured to act"), ("id", &id)],
        &[("event", "security"), ("message", "milter connection ended by a fault")],
    ] {
        while !of_message(wanted) {
            assert!(tokio::time::Instant::now() < until, "{wanted:?}\n{}", scene.gateway.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let log = scene.gateway.log();
    assert!(!log.contains("secret subject") && !log.contains("b@example.com"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_id_binds_connection_message_jobs_and_webhook() {
    one_id_binds_it_all(Around::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_id_binds_them_through_redis_too() {
    if !available("one_id_binds_them_through_redis_too") {
        return;
    }
    one_id_binds_it_all(Around::redis().await).await;
}
