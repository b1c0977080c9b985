//! What can be seen of a running gateway: every log line says what kind of event it is, the HTTP side changes levels for a while,
//! failures have categories. The id that binds lines together is followed in `reassess`.

use std::path::Path;
use std::time::Duration;

use mailweir::observe::event;
use serde_json::Value;

use crate::support::admin;
use crate::support::client::Client;
use crate::support::gateway::{Gateway, free_port};
use crate::support::http::{Answer, request};
use crate::support::sink::Sink;

/// The arguments of each call of a macro in a text.
fn calls<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    text.match_indices(name).map(|(at, _)| text[at + name.len()..].trim_start()).collect()
}

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path.display().to_string(), text));
        }
    }
}

#[test]
fn every_line_of_the_log_says_what_kind_of_event_it_is() {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (file, text) in &found {
        for name in ["tracing::info!(", "tracing::warn!(", "tracing::error!("] {
            for call in calls(text, name) {
                seen += 1;
                if !call.starts_with("event = event::") && !call.starts_with("event,") {
                    wrong.push(format!("{file}: {name}{}", call.lines().next().unwrap_or_default()));
                }
            }
        }
        for call in ["use tracing::info", "use tracing::warn", "use tracing::error"] {
            assert!(!text.contains(call), "{file} imports a macro: this test would not see its calls");
        }
    }
    assert!(seen > 80, "only {seen} calls were looked at");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The log of a gateway that writes JSON; what it says before it logs is left out.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

pub fn lines(gateway: &Gateway) -> Vec<Value> {
    gateway.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn levels_are_changed_by_command() {
    let (sink, http) = (Sink::start().await, free_port());
    let settings = format!("[http]\nenabled = true\nlisten = \"0.0.0.0:{}\"\n", http.port());
    let gateway = Gateway::prepare(sink.address, &settings);
    let level = async |arguments: &[&str]| gateway.command(&[&["log", "level"], arguments].concat()).await;
    let early = level(&[]).await;
    assert!(!early.ok && early.stderr.contains("admin.token") && early.stderr.contains("--token-file"), "{early:?}");
    gateway.start().await;
    while tokio::net::TcpStream::connect(http).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = level(&["--json"]).await;
    assert!(before.ok, "{before:?}");
    assert_eq!(before.json()[0], serde_json::json!({"configured": "info", "levels": {}, "until_ms": null}));
    let changed = level(&["gateway=debug", "records=trace", "--for", "2h", "--json"]).await.json().remove(0);
    assert_eq!(changed["levels"], serde_json::json!({"gateway": "debug", "records": "trace"}), "{changed}");
    let minutes = (changed["until_ms"].as_i64().unwrap() - now_ms()) / 60_000;
    assert!((110..=120).contains(&minutes), "{changed}");
    assert!(level(&[]).await.text().contains("records trace until 20"));
    assert_eq!(level(&["warn", "--json"]).await.json()[0]["levels"], serde_json::json!({"all": "warn"}));
    for (arguments, said) in [
        (&["cellar=debug"][..], "`cellar` is no room: all, admin"),
        (&["gateway=loud"], "`loud` is no level: off, error"),
        (&["debug", "--for", "2d"], "1 to 1440 minutes"),
        (&["=debug"], "ROOM=LEVEL"),
        (&["debug", "--reset"], "cannot be used with"),
        (&["--url", "gopher://127.0.0.1/"], "--url: an http or https URL"),
        (&["--url", "http://127.0.0.1:1"], "no gateway answers at http://127.0.0.1:1"),
    ] {
        let refused = level(arguments).await;
        assert!(!refused.ok && refused.stderr.contains(said), "{arguments:?}: {refused:?}");
    }
    assert_eq!(level(&["--json"]).await.json()[0]["levels"], serde_json::json!({"all": "warn"}), "nothing was changed");
    let other = gateway.data().join("other.token");
    std::fs::write(&other, "not-the-token-of-it\n").unwrap();
    let wrong = level(&["--token-file", other.to_str().unwrap()]).await;
    assert!(!wrong.ok && wrong.stderr.contains("other.token") && !wrong.stderr.contains("not-the-token"), "{wrong:?}");
    let reset = level(&["--reset"]).await;
    assert!(reset.ok && reset.text().trim() == "configured info", "{reset:?}");
    assert_eq!(level(&["--json"]).await.json(), before.json());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn levels_are_changed_by_http_and_it_is_in_the_log() {
    let (sink, http) = (Sink::start().await, free_port());
    let settings = format!("[http]\nenabled = true\nlisten = \"{http}\"\n[log]\nformat = \"json\"\n");
    let gateway = Gateway::start_with(sink.address, &settings).await;
    while tokio::net::TcpStream::connect(http).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let token = std::fs::read_to_string(gateway.data().join("admin.token")).unwrap().trim().to_owned();
    let bearer = format!("Authorization: Bearer {token}");
    let ask = async |method: &str, body: &str| -> Answer {
        let headers = [bearer.as_str(), "Content-Type: application/json", "X-Request-Id: change-42"];
        request(http, method, "/api/v1/logging", &headers, body).await
    };
    let before = ask("GET", "").await.json();
    assert_eq!((&before["configured"], &before["until_ms"]), (&"info".into(), &Value::Null), "{before}");
    for (body, said) in [
        (r#"{"levels": {"cellar": "debug"}}"#, "`cellar` is no room"),
        (r#"{"levels": {"admin": "loud"}}"#, "`loud` is no level"),
        (r#"{"levels": {}}"#, "name levels by room"),
        (r#"{"levels": {"admin": "debug"}, "minutes": 100000}"#, "minutes"),
    ] {
        let refused = ask("PUT", body).await;
        let problem = refused.json();
        assert_eq!(refused.status, 400, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
        assert_eq!((&problem["category"], &problem["retryable"]), (&"validation".into(), &false.into()), "{problem}");
    }
    assert_eq!(ask("GET", "").await.json(), before, "nothing was changed");
    let changed = ask("PUT", r#"{"levels": {"admin": "debug"}, "minutes": 5}"#).await;
    assert_eq!(changed.header("x-request-id"), "change-42");
    assert_eq!(changed.json()["levels"]["admin"], "debug", "{}", changed.text());
    assert!(changed.json()["until_ms"].as_i64().is_some());
    // A request that only reads is told of at debug.
    ask("GET", "").await;
    assert_eq!(ask("DELETE", "").await.json(), before);
    assert_eq!(request(http, "GET", "/api/v1/logging", &["Authorization: Bearer wrong"], "").await.status, 401);
    // The log is written before the answer, but by another process: its file may be a moment behind.
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    let has = |wanted: &dyn Fn(&Value) -> bool| lines(&gateway).iter().any(wanted);
    let all = || {
        let audit = |action: &'static str| {
            has(&move |line| {
                line["event"] == "audit" && line["action"] == action && line["spans"][0]["correlation"] == "change-42"
            })
        };
        audit("logging.set")
            && audit("logging.reset")
            && has(&|line| line["event"] == "api" && line["level"] == "DEBUG" && line["method"] == "GET")
            && has(&|line| line["event"] == "security" && line["why"] == "wrong")
    };
    while !all() {
        assert!(tokio::time::Instant::now() < until, "{}", gateway.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for line in lines(&gateway).iter().filter(|line| line["target"].as_str().unwrap().starts_with("mailweir")) {
        assert!(event::ALL.iter().any(|kind| line["event"] == *kind), "{line}");
    }
    assert!(!gateway.log().contains(&token));
    let numbers = request(http, "GET", "/health/metrics", &[&bearer], "").await.json();
    assert!(numbers["errors"]["admin"]["validation"].as_f64().unwrap() >= 4.0, "{}", numbers["errors"]);
    assert_eq!(numbers["errors"]["egress"]["network"], 0.0, "shown at zero");
}

/// What is wrong with a message is no line of the log for each place where it is: strangers do not fill it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parsers_of_mail_do_not_fill_the_log() {
    let pdf = "%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[]/Count 0>>\nendobj\n\
               xref\n0 9\nbroken\ntrailer\n<</Root 1 0 R>>\nstartxref\n77777\n%%EOF\n";
    let raw = format!(
        "From: a@firm.example\r\nTo: b@example.com\r\nSubject: x\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n\
         <table><b>x</b><tr><i>y</i></table>\r\n--b\r\nContent-Type: application/pdf; name=x.pdf\r\n\
         Content-Disposition: attachment; filename=x.pdf\r\n\r\n{}\r\n--b--\r\n",
        pdf.replace('\n', "\r\n")
    );
    // The tree of an HTML text is built for rules that ask for it.
    let rules = tempfile::tempdir().unwrap();
    let rule = "name: \"Bold\"\ntype: \"rule\"\nsource: |\n  length(html.xpath(body.html, '//b').nodes) > 0\n";
    std::fs::write(rules.path().join("bold.yml"), rule).unwrap();
    let run = async |level: &str| {
        let sink = Sink::start().await;
        let settings = format!(
            "[log]\nformat = \"json\"\nlevel = \"{level}\"\n[[policy.rules.paths]]\npath = \"{}\"\nname = \"bold\"\n",
            rules.path().display()
        );
        let gateway = Gateway::start_with(sink.address, &settings).await;
        let mut client = Client::connect(gateway.relay).await;
        let reply = client.send("a@firm.example", &["b@example.com"], raw.as_bytes()).await;
        assert!(reply.starts_with("250"), "{reply}");
        drop(client);
        assert!(gateway.terminate().await.success(), "{}", gateway.log());
        let from = |library: &'static str| {
            let said = move |line: &Value| line["target"].as_str().is_some_and(|from| from.starts_with(library));
            lines(&gateway).into_iter().filter(said).count()
        };
        [from("html5ever"), from("lopdf")]
    };
    let told = run("info,html5ever=warn,lopdf=warn").await;
    assert!(told.iter().all(|lines| *lines > 0), "who is named speaks: {told:?}");
    assert_eq!(run("info").await, [0, 0]);
}

#[cfg(feature = "otlp")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_reach_a_collector_and_mail_does_not_wait_for_it() {
    use crate::support::endpoint::Endpoint;

    // It fails at first: those spans are counted, and that is all.
    let collector = Endpoint::start(|_, before| if before == 0 { "503 Busy" } else { "200 OK" }).await;
    let (sink, http) = (Sink::start().await, free_port());
    let settings = format!(
        "[http]\nenabled = true\nlisten = \"{http}\"\n[log]\nformat = \"json\"\n[otlp]\nendpoint = \"http://{}/v1/traces\"\nlinger_ms = 20\n",
        collector.address
    );
    let gateway = Gateway::start_with(sink.address, &settings).await;
    let raw = b"From: a@firm.example\r\nTo: b@example.com\r\nSubject: hello\r\n\r\nHello\r\n";
    let mut spans = Vec::new();
    for _ in 0..200 {
        let mut client = Client::connect(gateway.relay).await;
        let reply = client.send("a@firm.example", &["b@example.com"], raw).await;
        assert!(reply.starts_with("250"), "{reply}");
        drop(client);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let taken = collector.got();
        spans = taken
            .iter()
            .skip(1)
            .flat_map(|got| got.json()["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone())
            .collect();
        if spans.iter().any(|span: &Value| span["name"] == "message")
            && spans.iter().any(|span| span["name"] == "relay")
        {
            break;
        }
    }
    let message = spans.iter().find(|span| span["name"] == "message").unwrap_or_else(|| panic!("{spans:#?}"));
    let trace = message["traceId"].as_str().unwrap();
    assert!(lines(&gateway).iter().any(|line| line["spans"][0]["correlation"] == trace), "{trace}");
    let times =
        ["startTimeUnixNano", "endTimeUnixNano"].map(|name| message[name].as_str().unwrap().parse::<u128>().unwrap());
    assert!(times[0] <= times[1] && times[0] > 1_700_000_000_000_000_000, "{times:?}");
    assert!(message["parentSpanId"].as_str().unwrap().len() == 16);
    // Its breaker is seen as those of services are.
    let token = std::fs::read_to_string(gateway.data().join("admin.token")).unwrap();
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let full = request(http, "GET", "/health/full", &[&bearer], "").await.json();
    let checks = full["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["name"] == "service:otlp"), "{full}");
}

#[cfg(feature = "otlp")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_spans_reach_the_collector_or_the_end_comes_all_the_same() {
    use crate::support::endpoint::Endpoint;

    let run = async |collector: std::net::SocketAddr| {
        let sink = Sink::start().await;
        // Nothing would go out for an hour.
        let otlp = "deadline_ms = 1000\nlinger_ms = 3600000\nmax_batch_spans = 100\n";
        let settings = format!("[otlp]\nendpoint = \"http://{collector}/v1/traces\"\n{otlp}");
        let gateway = Gateway::start_with(sink.address, &settings).await;
        let raw = b"From: a@firm.example\r\nTo: b@example.com\r\nSubject: hello\r\n\r\nHello\r\n";
        let mut client = Client::connect(gateway.relay).await;
        let reply = client.send("a@firm.example", &["b@example.com"], raw).await;
        assert!(reply.starts_with("250"), "{reply}");
        drop(client);
        assert!(gateway.terminate().await.success(), "{}", gateway.log());
        gateway.log()
    };
    let collector = Endpoint::start(|_, _| "200 OK").await;
    let log = run(collector.address).await;
    assert!(!log.contains("last spans"), "{log}");
    let names = collector.got().iter().map(|got| got.json().to_string()).collect::<String>();
    for name in ["\"name\":\"message\"", "\"name\":\"relay\""] {
        assert!(names.contains(name), "{name}: {names}");
    }
    // Takes the connection and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    run(silent.local_addr().unwrap()).await;
}

/// Settings that are refused, and alerts that nobody takes, are failures of a kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_settings_and_untaken_alerts_are_counted_by_kind() {
    let (sink, http, closed) = (Sink::start().await, free_port(), free_port());
    let settings = format!(
        "[http]\nenabled = true\nlisten = \"{http}\"\n[alerts]\nevery_seconds = 1\n[alerts.webhook]\n\
         url = \"http://{closed}/hook\"\nfrom = \"warning\"\n[alerts.thresholds]\n\
         disk_free_ratio = {{ warning = 1.0, critical = 0.0 }}\n"
    );
    let gateway = Gateway::start_with(sink.address, &settings).await;
    while tokio::net::TcpStream::connect(http).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gateway.configure(sink.address, "[policy.default]\ntag_at = 99.0\nquarantine_at = 1.0\n");
    // Before it listens to signals one would end it.
    assert_eq!(request(http, "GET", "/alive", &[], "").await.status, 200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    gateway.hang_up();
    let token = std::fs::read_to_string(gateway.data().join("admin.token")).unwrap().trim().to_owned();
    let bearer = format!("Authorization: Bearer {token}");
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let errors = request(http, "GET", "/health/metrics", &[&bearer], "").await.json()["errors"].take();
        let count = |room: &str, category: &str| errors[room][category].as_f64().unwrap();
        if count("app", "configuration") >= 1.0 && count("enforcement", "network") >= 1.0 {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "{errors:#}\n{}", gateway.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn problems_say_what_kind_of_failure_it_is() {
    let gateway = admin::Gateway::start(mailweir::admin::Config::default()).await;
    let missing = gateway.get("/api/v1/quarantine/01jd3q5xk9v7m2r8t4w6y0z1ab").await;
    assert_eq!((missing.status, &missing.json()["category"]), (404, &"validation".into()), "{}", missing.text());
    assert_eq!(missing.json()["retryable"], false);
    assert_eq!(gateway.get("/api/v1/logging").await.status, 404, "a process that cannot change them says so");
}
