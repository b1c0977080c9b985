//! The HTTP side over real sockets: who may ask, what is answered, what is refused, how it ends.
//!
//! Longer than most: one subject, one fixture (`support/admin.rs`), and each test a table or a story of its own.

use std::time::Duration;

use mailweir::admin::{Config, openapi};
use mailweir::analysis::Code;
use mailweir::mail::{MessageId, Path};
use mailweir::records::Record;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::support::admin::{Gateway, METRICS_TOKEN, TOKEN, check_headers, record};
use crate::support::http::{exchange, request};

/// Method and path of every operation of the document.
fn operations() -> Vec<(String, String)> {
    let document = serde_json::to_value(openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap().clone();
    let operations = |(path, item): (String, Value)| {
        let methods: Vec<String> = item.as_object().unwrap().keys().map(|m| m.to_uppercase()).collect();
        methods.into_iter().map(move |method| (method, path.clone()))
    };
    paths.into_iter().flat_map(operations).collect()
}

#[test]
fn the_document_lists_every_route_and_resolves() {
    let mut found: Vec<String> = operations().iter().map(|(m, p)| format!("{m} {p}")).collect();
    found.sort();
    let expected = [
        "DELETE /api/v1/alerts/silences/{id}",
        "DELETE /api/v1/logging",
        "DELETE /api/v1/quarantine/{id}",
        "GET /alive",
        "GET /api/v1/alerts",
        "GET /api/v1/logging",
        "GET /api/v1/messages",
        "GET /api/v1/messages/{id}",
        "GET /api/v1/quarantine",
        "GET /api/v1/quarantine/{id}",
        "GET /api/v1/quarantine/{id}/raw",
        "GET /api/v1/scalability/architecture/diagram",
        "GET /api/v1/scalability/dead-letters",
        "GET /api/v1/scalability/demo/run",
        "GET /api/v1/scalability/health",
        "GET /api/v1/scalability/jobs",
        "GET /api/v1/scalability/metrics/performance",
        "GET /api/v1/scalability/scaling/config",
        "GET /api/v1/scalability/scaling/status",
        "GET /health",
        "GET /health/full",
        "GET /health/metrics",
        "GET /metrics",
        "GET /metrics/snapshots",
        "GET /metrics/summary",
        "GET /openapi.json",
        "GET /ready",
        "POST /api/v1/alerts/acknowledgements",
        "POST /api/v1/alerts/silences",
        "POST /api/v1/caches/invalidations",
        "POST /api/v1/messages/{id}/second-look",
        "POST /api/v1/quarantine/{id}/release",
        "POST /api/v1/scalability/dead-letters/purge",
        "POST /api/v1/scalability/dead-letters/replay",
        "POST /api/v1/scalability/demo/run",
        "POST /api/v1/scalability/scale-down",
        "POST /api/v1/scalability/scale-up",
        "PUT /api/v1/logging",
        "PUT /api/v1/scalability/scaling/config",
    ];
    assert_eq!(found, expected);
    let document = serde_json::to_value(openapi()).unwrap();
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
    }
    let open: Vec<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, item)| item["get"]["security"] == serde_json::json!([{}]))
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(open, ["/alive", "/health", "/ready"]);
    assert_eq!(document["security"], serde_json::json!([{ "token": [] }, { "signature": [] }]));
    let list = document.pointer("/paths/~1api~1v1~1messages/get/parameters").unwrap().as_array().unwrap().len();
    assert_eq!(list, 14, "one for each parameter");
}

#[tokio::test]
async fn everything_but_health_needs_the_token() {
    let gateway = Gateway::start(Config { failed_tokens_per_minute: 10_000, ..Config::default() }).await;
    let id = gateway.hold(1, b"Subject: x\r\n\r\nbody\r\n", &["a@x.example"]).await.to_string();
    gateway.note(&[record(1, "held", &["a@x.example"])]).await;
    let good = format!("Authorization: Bearer {TOKEN}");
    let mut targets: Vec<(String, String)> =
        operations().into_iter().map(|(method, path)| (method, path.replace("{id}", &id))).collect();
    targets.sort_by_key(|(method, _)| method == "DELETE");
    let tricks = [
        "/",
        "//api/v1/messages",
        "/api/v1/messages/",
        "/api/../health",
        "/health/../metrics",
        "/health/",
        "//health",
        "/%68ealth",
        "/health%2f",
        "/health;x",
        "/HEALTH",
        "/Metrics",
        "/metrics%00",
        "/alive/metrics",
        "/nowhere",
        "/metrics?token=correct-horse-battery-staple",
        "/api%2fv1%2fmessages",
        "/./health",
        "http://x/metrics",
        "*",
    ];
    let open = |path: &str| ["/alive", "/ready", "/health"].contains(&path);
    for (method, path) in targets.iter().map(|(m, p)| (m.as_str(), p.as_str())).chain(tricks.map(|t| ("GET", t))) {
        let method = if path == "*" { "OPTIONS" } else { method };
        for headers in [
            &[][..],
            &["Authorization: Bearer wrong-horse-battery-staple"],
            &["Authorization: Basic Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZTo="],
            &["Authorization: Bearer correct-horse-battery-stapl"],
            &["X-Original-URL: /health", "X-Forwarded-For: 127.0.0.1", "X-Rewrite-URL: /health"],
            &[good.as_str(), good.as_str()],
        ] {
            let answer = request(gateway.address, method, path, headers, "").await;
            check_headers(&answer);
            if open(path) {
                assert_eq!(answer.status, 200, "{method} {path} {headers:?}");
            } else {
                assert_eq!(answer.status, 401, "{method} {path} {headers:?}");
                assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"mailweir\"");
                assert!(!answer.text().contains("horse"));
            }
        }
    }
    for path in ["/alive", "/ready", "/health"] {
        assert_eq!(request(gateway.address, "POST", path, &[], "").await.status, 401, "only reading is open");
        assert_eq!(gateway.ask("POST", path, "").await.status, 405);
    }
    // With the token every one of them is there; the tricks are not.
    for (method, path) in &targets {
        let expected: &[u16] =
            match (method.as_str(), path.starts_with("/api/v1/alerts/") || path.starts_with("/api/v1/caches/")) {
                // Off unless enabled; levels are those of a whole process. Without an order nothing is changed.
                ("PUT", _) if path.ends_with("/logging") => &[400],
                ("POST", _) if path.contains("/dead-letters/") => &[400],
                _ if path.ends_with("/demo/run") || path.ends_with("/logging") => &[404],
                ("POST", true) => &[400],
                ("DELETE", true) => &[404],
                _ => &[200, 202, 409],
            };
        assert!(expected.contains(&gateway.ask(method, path, "").await.status), "{method} {path}");
    }
    for path in ["/", "//api/v1/messages", "/api/v1/messages/", "/api/../health", "//health", "/HEALTH", "/nowhere"] {
        assert_eq!(gateway.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_token_of_metrics_opens_metrics_and_health_and_nothing_else() {
    let gateway = Gateway::start(Config::default()).await;
    let token = format!("Authorization: Bearer {METRICS_TOKEN}");
    for (path, status) in [
        ("/metrics", 200),
        ("/metrics/summary", 200),
        ("/health", 200),
        ("/health/full", 200),
        ("/health/metrics", 200),
        ("/api/v1/messages", 403),
        ("/api/v1/quarantine", 403),
        ("/api/v1/alerts", 403),
        ("/openapi.json", 403),
    ] {
        let answer = request(gateway.address, "GET", path, &[&token], "").await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    assert_eq!(request(gateway.address, "POST", "/metrics", &[&token], "").await.status, 403, "looking only");
}

#[tokio::test]
async fn guessing_the_token_is_cut_short() {
    let gateway = Gateway::start(Config { failed_tokens_per_minute: 3, ..Config::default() }).await;
    let wrong = ["Authorization: Bearer wrong-horse-battery-staple"];
    for expected in [401, 401, 401, 429, 429] {
        assert_eq!(request(gateway.address, "GET", "/metrics", &wrong, "").await.status, expected);
    }
    let refused = gateway.get("/metrics").await;
    assert_eq!(refused.status, 429, "even the right one: or guessing would not be bounded");
    assert!((1..=61).contains(&refused.header("retry-after").parse::<u32>().unwrap()));
    assert_eq!(request(gateway.address, "GET", "/health", &wrong, "").await.status, 200, "probes are not kept out");
}

#[tokio::test]
async fn health_and_drain() {
    let gateway = Gateway::start(Config::default()).await;
    let bare = async |path| request(gateway.address, "GET", path, &[], "").await;
    assert_eq!(bare("/alive").await.json()["status"], "alive");
    assert_eq!(bare("/ready").await.json()["status"], "ready");
    let health = bare("/health").await.json();
    assert_eq!((&health["status"], &health["database"]["reachable"]), (&"HEALTHY".into(), &true.into()), "{health}");
    assert!(health["database"]["latency_ms"].as_f64().unwrap() < 500.0);
    assert!(health["body_store"]["free_bytes"].as_u64().unwrap() > 0);
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    let folder = gateway.folder.path().to_str().unwrap();
    assert!(!health.to_string().contains(folder), "strangers are not told where things are");
    let told = gateway.get("/health").await.json();
    assert!(told["body_store"]["place"].as_str().unwrap().starts_with(folder), "{told}");
    assert!(told["database"]["place"].as_str().unwrap().contains(folder), "{told}");
    assert!(request(gateway.address, "HEAD", "/health", &[], "").await.body.is_empty());

    gateway.draining.cancel();
    let ready = bare("/ready").await;
    assert_eq!((ready.status, ready.json()["status"].as_str()), (503, Some("draining")));
    assert_eq!(bare("/alive").await.status, 200);
    let health = bare("/health").await;
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("DEGRADED")));
}

#[tokio::test]
async fn little_space_is_degraded_and_no_database_is_unhealthy_but_ready() {
    let gateway = Gateway::start(Config { low_space_bytes: u64::MAX, ..Config::default() }).await;
    let health = request(gateway.address, "GET", "/health", &[], "").await;
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("DEGRADED")), "{}", health.text());

    let full = gateway.get("/health/full").await;
    assert_eq!((full.status, full.json()["status"].as_str()), (200, Some("DEGRADED")), "{}", full.text());
    let reasons = full.json()["reasons"].to_string();
    assert!(reasons.contains("body_store: ") && reasons.contains("disk: "), "{reasons}");

    // Nothing has read yet, so the readers' first connection finds no database.
    let gateway = Gateway::start(Config::default()).await;
    std::fs::remove_dir_all(gateway.folder.path()).unwrap();
    let bare = async |path| request(gateway.address, "GET", path, &[], "").await;
    let health = bare("/health").await;
    assert_eq!((health.status, health.json()["status"].as_str()), (503, Some("UNHEALTHY")), "{}", health.text());
    assert_eq!(health.json()["database"]["reachable"], false);
    let full = gateway.get("/health/full").await;
    assert_eq!((full.status, full.json()["status"].as_str()), (503, Some("UNHEALTHY")), "{}", full.text());
    assert!(full.json()["reasons"].to_string().contains("database: "), "{}", full.text());
    assert_eq!(full.json()["history"][0]["status"], "UNHEALTHY");
    let ready = bare("/ready").await;
    assert_eq!(
        (ready.status, ready.json()["status"].as_str()),
        (200, Some("degraded")),
        "mail is answered all the same"
    );
    assert_eq!(bare("/alive").await.status, 200);
    let id = MessageId::new(1, [0; 10]);
    for path in ["/api/v1/messages".to_owned(), format!("/api/v1/messages/{id}"), format!("/api/v1/quarantine/{id}")] {
        let failed = gateway.get(&path).await;
        assert_eq!((failed.status, failed.header("retry-after")), (503, "5"), "{path}: {}", failed.text());
        let text = failed.text().to_lowercase();
        let inside = ["sqlite", "unable to open", "select", gateway.folder.path().to_str().unwrap()];
        assert!(!inside.iter().any(|word| text.contains(word)), "{text}");
    }
}

#[tokio::test]
async fn metrics_are_text_and_count_by_route() {
    let gateway = Gateway::start(Config::default()).await;
    gateway.get("/api/v1/messages?limit=1").await;
    gateway.get(&format!("/api/v1/messages/{}", MessageId::new(1, [0; 10]))).await;
    gateway.get("/nowhere/at/all").await;
    request(gateway.address, "GET", "/metrics", &[], "").await;
    let metrics = gateway.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    let text = metrics.text();
    for line in [
        "mailweir_http_requests_total{class=\"2xx\",route=\"/api/v1/messages\"} 1",
        "mailweir_http_requests_total{class=\"4xx\",route=\"/api/v1/messages/{id}\"} 1",
        "mailweir_http_requests_total{class=\"4xx\",route=\"unmatched\"} 1",
        "mailweir_http_requests_total{class=\"4xx\",route=\"refused\"} 1",
        "mailweir_http_auth_failures_total{reason=\"missing\"} 1",
        "mailweir_http_connections 1",
        "mailweir_ledger_rows_dropped_total 0",
        &format!("mailweir_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let rss = text.lines().find_map(|l| l.strip_prefix("process_resident_memory_bytes ")).unwrap();
    assert!(rss.parse::<f64>().unwrap() > 1e6, "{rss}");
    assert!(!text.contains("nowhere"));
}

#[tokio::test]
async fn messages_are_found_and_paged() {
    let gateway = Gateway::start(Config::default()).await;
    let subjects =
        ["<script>alert('x')</script>", "100% off", "100 off", "a_b", "axb", "It's \"quoted\" \\ \u{202e}", "x"];
    let all: Vec<Record> =
        subjects.iter().zip(1..).map(|(s, n)| record(n, s, &["rcpt@one.example", "O'Brien@two.example"])).collect();
    gateway.note(&all).await;
    let first = gateway.items("/api/v1/messages?subject=%3Cscript%3E").await;
    assert_eq!(first.len(), 1);
    assert_eq!(first[0]["subject"], subjects[0], "text stays text");
    assert_eq!(gateway.get("/api/v1/messages").await.header("content-type"), "application/json");
    let code = Code::ALL[0].as_str();
    let cases = [
        ("subject=100%25", 1),
        ("subject=a_b", 1),
        ("subject=it's", 1),
        ("subject=';drop%20table%20messages--", 0),
        ("subject=%25", 1),
        ("subject=!", 0),
        ("sender=o'brien@sender.example", 1 + 6),
        ("sender=SENDER.example", 7),
        ("from=boss@from.example", 7),
        ("from=nobody@from.example", 0),
        ("to=o'brien@two.example", 7),
        ("to=two.example", 0),
        ("client_ip=192.0.2.3", 1),
        ("client_ip=192.0.2.99", 0),
        ("header_id=4@h.example", 1),
        ("action=reject", 3),
        ("action=quarantine", 4),
        (&format!("signal={code}"), 7),
        ("signal=%25", 0),
        ("signal=NO_SUCH", 0),
        ("tenant=default", 7),
        ("tenant=other", 0),
        ("since=2026-01-01T00:00:03Z", 5),
        ("until=2026-01-01T00:00:03Z", 2),
        ("since=2026-01-01T01:00:03%2B01:00&until=1767225605000", 2),
        ("risk_min=55.5", 2),
        ("risk_min=55.5&action=reject", 1),
    ];
    for (query, expected) in cases {
        assert_eq!(gateway.items(&format!("/api/v1/messages?{query}")).await.len(), expected, "{query}");
    }
    let (mut seen, mut before, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = gateway.get(&format!("/api/v1/messages?limit=3{before}")).await.json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        before = format!("&before={next}");
    }
    let expected: Vec<String> = all.iter().rev().map(|r| r.id.to_string()).collect();
    assert_eq!((seen, pages), (expected, 3));
    let one = gateway.get(&format!("/api/v1/messages/{}", all[0].id)).await;
    assert_eq!(one.json(), serde_json::to_value(&all[0]).unwrap(), "the record as it was noted");
}

#[tokio::test]
async fn what_is_not_understood_is_400_and_says_why() {
    let gateway = Gateway::start(Config { request_bytes: 1_000, ..Config::default() }).await;
    let id = gateway.hold(1, b"Subject: x\r\n\r\nbody\r\n", &["a@x.example"]).await;
    let unknown = MessageId::new(5, [0; 10]);
    let (release, one) = (format!("/api/v1/quarantine/{id}/release"), format!("/api/v1/quarantine/{id}"));
    let large = format!("{{\"recipients\":[\"{}\"]}}", "a".repeat(1_000));
    let cases = [
        ("GET", "/api/v1/messages?colour=red", "", 400, "colour"),
        ("GET", "/api/v1/messages?limit=0", "", 400, "limit"),
        ("GET", "/api/v1/messages?limit=501", "", 400, "500"),
        ("GET", "/api/v1/messages?limit=x", "", 400, "limit"),
        ("GET", "/api/v1/messages?limit=1&limit=2", "", 400, "limit"),
        ("GET", "/api/v1/messages?since=yesterday", "", 400, "since"),
        ("GET", "/api/v1/messages?before=abc", "", 400, "before"),
        ("GET", "/api/v1/messages?risk_min=NaN", "", 400, "risk_min"),
        ("GET", "/api/v1/messages?risk_min=101", "", 400, "risk_min"),
        ("GET", "/api/v1/messages?action=explode", "", 400, "explode"),
        ("GET", "/api/v1/messages?client_ip=1.2.3", "", 400, "client_ip"),
        ("GET", "/api/v1/messages/abc", "", 400, "Crockford"),
        ("GET", "/api/v1/messages/%ff", "", 400, "UTF-8"),
        ("GET", "/api/v1/messages/..%2f..%2fetc%2fpasswd", "", 400, "Crockford"),
        ("GET", &format!("/api/v1/messages/{unknown}"), "", 404, "no record"),
        ("GET", "/api/v1/quarantine?state=gone", "", 400, "gone"),
        ("GET", "/api/v1/quarantine?subject=x", "", 400, "subject"),
        ("GET", &format!("/api/v1/quarantine/{unknown}"), "", 404, "quarantine"),
        ("GET", &format!("/api/v1/quarantine/{unknown}/raw"), "", 404, "quarantine"),
        ("POST", &format!("/api/v1/quarantine/{unknown}/release"), "", 404, "quarantine"),
        ("DELETE", &format!("/api/v1/quarantine/{unknown}"), "", 404, "quarantine"),
        ("POST", &release, "{\"recipients\":[]}", 400, "at least one"),
        ("POST", &release, "{\"recipient\":\"a@x.example\"}", 400, "recipient"),
        ("POST", &release, "{\"recipients\":[\"other@x.example\"]}", 400, "other@x.example"),
        ("POST", &release, "not json", 400, "body"),
        ("POST", &release, &large, 413, "http.request_bytes"),
        ("DELETE", &format!("{one}?all=yes"), "", 400, "all"),
        ("DELETE", &format!("{one}?to=other@x.example"), "", 400, "other@x.example"),
        ("PUT", &one, "", 405, "Allow"),
        ("GET", &release, "", 405, "Allow"),
    ];
    for (method, target, body, status, word) in cases {
        let answer = gateway.ask(method, target, body).await;
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(answer.json()["detail"].as_str().unwrap().contains(word), "{method} {target}: {}", answer.text());
    }
    let token = format!("Authorization: Bearer {TOKEN}");
    let headers = [token.as_str(), "Content-Type: text/plain"];
    assert_eq!(request(gateway.address, "POST", &release, &headers, "{}").await.status, 415);
    assert!(!gateway.get("/metrics").await.header("content-type").is_empty());
    assert_eq!(gateway.state(id, "a@x.example").await, "held", "nothing of this touched it");
}

const DANGEROUS: &[u8] = b"From: Bank <x@bank.example>\r\nSubject: =?utf-8?q?=E2=80=AE_evil?=\r\n\
    X-Odd: \x1b[31m\x07\xff\r\nContent-Type: text/html\r\n\r\n\
    <script>alert(1)</script><a href=\"https://evil.com/\">https://evil.com/pay</a>\r\n.\r\nbare\nend";

#[tokio::test]
async fn a_held_message_is_seen_harmless_and_fetched_identical() {
    let gateway = Gateway::start(Config::default()).await;
    let id = gateway.hold(1, DANGEROUS, &["a@x.example", "b@y.example"]).await;
    let view = gateway.get(&format!("/api/v1/quarantine/{id}")).await;
    let json = view.json();
    assert_eq!(json["held"]["recipients"][1]["recipient"], "b@y.example");
    let text = json["message"].to_string();
    assert!(json["message"]["text"].as_str().unwrap().contains("hxxps://evil[.]com/pay"), "{text}");
    assert!(!text.contains("https://") && !text.contains("alert(1)") && !text.contains('\u{202e}'), "{text}");
    assert!(!text.contains("\\u001b") && !text.contains("\\u0007"), "{text}");
    let raw = gateway.get(&format!("/api/v1/quarantine/{id}/raw")).await;
    assert_eq!(raw.body, DANGEROUS);
    assert_eq!(raw.header("content-type"), "message/rfc822");
    assert_eq!(raw.header("content-disposition"), format!("attachment; filename=\"{id}.eml\""));
    assert!(raw.header("content-security-policy").contains("sandbox"));
    assert_eq!(gateway.items("/api/v1/quarantine?to=A@x.example").await.len(), 1);
    assert_eq!(gateway.items("/api/v1/quarantine?to=a@x.example&tenant=other").await.len(), 0);
    assert_eq!(gateway.items("/api/v1/quarantine?state=released").await.len(), 0);
    for number in 2..5 {
        gateway.hold(number, DANGEROUS, &["c@x.example"]).await;
    }
    let page = gateway.get("/api/v1/quarantine?limit=2").await.json();
    let next = page["next"].as_str().unwrap();
    let rest = gateway.items(&format!("/api/v1/quarantine?limit=3&before={next}")).await;
    assert_eq!((page["items"].as_array().unwrap().len(), rest.len()), (2, 2));
}

#[tokio::test]
async fn release_refusal_and_deletion() {
    let gateway = Gateway::start(Config::default()).await;
    let id = gateway.hold(1, DANGEROUS, &["a@x.example", "full@x.example", "c@x.example"]).await;
    let release = format!("/api/v1/quarantine/{id}/release");
    let refused = gateway.ask("POST", &release, "{\"recipients\":[\"full@x.example\"]}").await;
    assert_eq!(refused.status, 502);
    let why = serde_json::json!([{ "recipient": "full@x.example", "why": "452 4.2.2 mailbox full" }]);
    assert_eq!(refused.json()["failed"], why);
    assert_eq!(gateway.state(id, "full@x.example").await, "held", "to be tried again");

    let some = gateway.ask("POST", &release, "{\"recipients\":[\"A@X.example\",\"full@x.example\"]}").await;
    assert_eq!(some.status, 200);
    assert_eq!(some.json(), serde_json::json!({ "released": ["a@x.example"], "failed": why }));
    let got = gateway.next_hop.got.lock().unwrap().clone();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].0.recipients, [Path::new("a@x.example")]);
    assert!(got[0].1.ends_with(DANGEROUS) && got[0].1.len() > DANGEROUS.len(), "as it came, with its pass on top");
    assert_eq!(gateway.state(id, "a@x.example").await, "released");
    assert_eq!(gateway.ask("POST", &release, "{\"recipients\":[\"a@x.example\"]}").await.status, 409, "only once");

    let one = format!("/api/v1/quarantine/{id}");
    let deleted = gateway.ask("DELETE", &format!("{one}?to=C@x.example"), "").await;
    assert_eq!((deleted.status, deleted.json()["deleted"].as_u64()), (200, Some(1)));
    assert_eq!(gateway.ask("DELETE", &one, "{\"recipients\":[\"c@x.example\"]}").await.status, 409);
    assert_eq!(gateway.ask("DELETE", &one, "").await.json()["deleted"], 1, "the one that was left");
    assert_eq!(gateway.ask("POST", &release, "").await.status, 409);
    assert_eq!(gateway.items("/api/v1/quarantine").await.len(), 0);
    assert_eq!(gateway.items("/api/v1/quarantine?state=deleted").await.len(), 1);
    assert_eq!(gateway.next_hop.got.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn two_releases_at_once_deliver_one_copy() {
    let gateway = Gateway::start(Config::default()).await;
    let id = gateway.hold(1, DANGEROUS, &["a@x.example"]).await;
    let release = format!("/api/v1/quarantine/{id}/release");
    let ask = || gateway.ask("POST", &release, "");
    let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), ask());
    let mut statuses = [a.status, b.status, c.status, d.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409]);
    assert_eq!(gateway.next_hop.got.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_release_goes_on_without_its_client_and_is_waited_for_at_the_end() {
    let gateway = Gateway::start(Config { request_seconds: 1, ..Config::default() }).await;
    let (gone, late) = (
        gateway.hold(1, DANGEROUS, &["slow1@x.example"]).await,
        gateway.hold(2, DANGEROUS, &["slow2@x.example"]).await,
    );
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let text =
        format!("POST /api/v1/quarantine/{gone}/release HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    sleep(Duration::from_millis(300)).await;
    drop(stream);
    let answer = gateway.ask("POST", &format!("/api/v1/quarantine/{late}/release"), "").await;
    assert_eq!(answer.status, 503, "longer than request_seconds");
    gateway.stop.cancel();
    timeout(Duration::from_secs(5), gateway.served).await.unwrap().unwrap();
    assert_eq!(gateway.next_hop.got.lock().unwrap().len(), 2);
    for id in [gone, late] {
        assert!(!gateway.records.held_message(id).await.unwrap().is_held());
    }
}

#[tokio::test]
async fn a_release_that_panics_is_500_and_the_gateway_goes_on() {
    let gateway = Gateway::start(Config::default()).await;
    let id = gateway.hold(1, DANGEROUS, &["panic@x.example"]).await;
    assert_eq!(gateway.ask("POST", &format!("/api/v1/quarantine/{id}/release"), "").await.status, 500);
    assert_eq!(gateway.get("/api/v1/messages").await.status, 200);
}

#[tokio::test]
async fn slow_clients_are_cut_and_connections_are_counted() {
    let config = Config { header_seconds: 1, request_seconds: 1, connections: 3, ..Config::default() };
    let gateway = Gateway::start(config).await;
    let begun = Instant::now();
    // A header that never ends, one byte at a time.
    let drip = async {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        for byte in b"GET /alive HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat(&b'y')) {
            if stream.write_all(&[*byte]).await.is_err() || begun.elapsed() > Duration::from_secs(10) {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        begun.elapsed()
    };
    // A connection that says nothing.
    let silent = async {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        begun.elapsed()
    };
    // A body that never comes, with the token.
    let body = async {
        let text = format!(
            "POST /api/v1/quarantine/{}/release HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
            MessageId::new(1, [0; 10])
        );
        let answer = exchange(gateway.address, text.as_bytes()).await;
        assert!(answer.starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&answer));
        begun.elapsed()
    };
    let one_more = async {
        sleep(Duration::from_millis(300)).await;
        assert!(exchange(gateway.address, b"GET /alive HTTP/1.0\r\n\r\n").await.is_empty(), "the fourth is closed");
    };
    let (drip, silent, body, ()) = tokio::join!(drip, silent, body, one_more);
    for took in [drip, silent, body] {
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    assert!(exchange(gateway.address, b"GET /alive HTTP/1.0\r\n\r\n").await.starts_with(b"HTTP/1.0 200"));
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_dropped() {
    let config = Config { write_seconds: 1, bodies: 1, request_seconds: 5, ..Config::default() };
    let gateway = Gateway::start(config).await;
    // More than the sockets' buffers take.
    let large: &'static [u8] = vec![b'x'; 24 << 20].leak();
    let id = gateway.hold(1, large, &["a@x.example"]).await;
    let mut stuck = TcpStream::connect(gateway.address).await.unwrap();
    let text = format!("GET /api/v1/quarantine/{id}/raw HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    stuck.write_all(text.as_bytes()).await.unwrap();
    sleep(Duration::from_millis(500)).await;
    // The one place in memory is taken until the first client is cut.
    let begun = Instant::now();
    let second = gateway.get(&format!("/api/v1/quarantine/{id}/raw")).await;
    assert_eq!((second.status, second.body.len()), (200, large.len()));
    assert!(begun.elapsed() > Duration::from_millis(300), "it had to wait");
    let mut rest = Vec::new();
    let _ = stuck.read_to_end(&mut rest).await;
    assert!(rest.len() < large.len(), "cut");
}

#[tokio::test]
async fn hostile_requests_are_refused_and_harm_nobody() {
    let gateway = Gateway::start(Config::default()).await;
    let auth = format!("Authorization: Bearer {TOKEN}\r\n");
    let requests = [
        (format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{auth}X: {}\r\n\r\n", "a".repeat(100_000)), "431"),
        (format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{}{auth}\r\n", "X: y\r\n".repeat(1_000)), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000)), "414"),
        ("\u{16}\u{3}\u{1} rubbish\r\n\r\n".to_owned(), "400"),
        ("GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello".to_owned(), "400"),
        ("GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n".to_owned(), "400"),
    ];
    for (text, status) in requests {
        let answer = String::from_utf8_lossy(&exchange(gateway.address, text.as_bytes()).await).into_owned();
        let line = answer.lines().next().unwrap_or_default();
        // A peer that is cut while it still sends may lose the answer.
        assert!(line.contains(status) || line.contains("431") || line.is_empty(), "{line} for {:.60}", text);
    }
    // CL and TE together: one request, not two.
    let smuggled = format!(
        "POST /nowhere HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /alive HTTP/1.1\r\nHost: x\r\n\r\n"
    );
    let answer = String::from_utf8_lossy(&exchange(gateway.address, smuggled.as_bytes()).await).into_owned();
    assert!(!answer.contains("\"alive\""), "{answer}");
    assert_eq!(gateway.get("/metrics").await.status, 200);
}

#[tokio::test]
async fn the_end_closes_idle_connections_and_the_listener() {
    let gateway = Gateway::start(Config::default()).await;
    let mut idle = TcpStream::connect(gateway.address).await.unwrap();
    idle.write_all(b"GET /alive HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 1_024];
    assert!(idle.read(&mut answer).await.unwrap() > 0);
    gateway.stop.cancel();
    timeout(Duration::from_secs(2), gateway.served).await.expect("at once").unwrap();
    assert_eq!(idle.read(&mut answer).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(gateway.address).await.is_err());
}

/// Dead letters by HTTP: page by page, and what is done with them is said exactly.
#[tokio::test]
async fn dead_letters() {
    use mailweir::deferred::{self, DeadJob, Job, QueueConfig, Reason};
    let gateway = Gateway::start(Config::default()).await;
    let queue = deferred::open(&QueueConfig::default(), gateway.folder.path()).await.unwrap();
    let dead = |n: i64| DeadJob {
        job: Job { attempt: 5, last_error: Some("broke".into()), ..Job::new("reassess", format!("d{n}"), "secret", 7) },
        reason: Reason::Attempts,
        dead_ms: 1_000 + n,
    };
    queue.bury(&(0..5).map(dead).collect::<Vec<_>>()).await.unwrap();
    let base = "/api/v1/scalability/dead-letters";
    let first = gateway.get(&format!("{base}?limit=3")).await;
    assert!(!first.text().contains("secret"), "{}", first.text());
    let first = first.json();
    assert_eq!(
        first["items"][0],
        serde_json::json!({"key": "d4", "kind": "reassess", "priority": "medium", "correlation": "", "attempts": 5,
            "reason": "attempts", "error": "broke", "enqueued_ms": 7, "dead_ms": 1_004, "payload_bytes": 6})
    );
    let next = first["next"].as_str().unwrap();
    let second = gateway.get(&format!("{base}?limit=3&before={next}")).await.json();
    let keys: Vec<&str> = second["items"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap()).collect();
    assert_eq!((keys, &second["next"]), (vec!["d1", "d0"], &Value::Null));
    assert_eq!(gateway.get(&format!("{base}?before=yesterday")).await.status, 400);

    let post = async |what: &str, body: &str| gateway.ask("POST", &format!("{base}/{what}"), body).await;
    for (what, body) in [
        ("purge", ""),
        ("purge", "{}"),
        ("purge", "{\"all\": true}"),
        ("purge", "{\"all\": true, \"confirm\": \"yes\"}"),
        ("purge", "{\"all\": true, \"keys\": [\"d1\"]}"),
        ("replay", "{\"every\": true}"),
        ("replay", "{}"),
    ] {
        assert_eq!(post(what, body).await.status, 400, "{what} {body}");
    }
    assert_eq!(queue.depth().await.unwrap().dead, 5, "nothing was done");
    assert_eq!(post("replay", "{\"keys\": [\"d1\", \"nobody\"]}").await.json()["count"], 1);
    assert_eq!(post("purge", "{\"keys\": [\"d2\"]}").await.json()["count"], 1);
    assert_eq!(post("purge", "{\"all\": true, \"confirm\": \"purge all dead letters\"}").await.json()["count"], 3);
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.dead, depth.total()), (0, 1));
}
