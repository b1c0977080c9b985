//! The metrics of a running gateway: the catalogue in `deploy/README.md` and what is there are the same; summaries, snapshots
//! and health are made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::support::gateway::{Gateway, free_port};
use crate::support::http::request;
use crate::support::observed::Observed;
use crate::support::redis::{Keep, Redis, available};

/// Names there must be at least.
const NAMES: usize = 60;

/// A row of the catalogue: kind and labels.
type Series = (String, BTreeSet<String>);

/// What `/metrics` shows, by name; and that each has help, base units and a name of our own or of Prometheus'.
fn shown(text: &str) -> BTreeMap<String, Series> {
    let mut all: BTreeMap<String, Series> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.len() > 10, "{line}");
            helped.insert(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(helped.contains(name), "{name} has no help");
            assert!(name.starts_with("mailweir_") || name.starts_with("process_"), "{name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(
                !["_ms", "_millis", "_kb", "_percent", "_minutes"].iter().any(|unit| name.ends_with(unit)),
                "{name}"
            );
            all.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else {
            let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
            let family = |name: &str| all.contains_key(name).then(|| name.to_owned());
            let base = |end| name.strip_suffix(end).and_then(family);
            let family = family(name).or_else(|| ["_bucket", "_sum", "_count"].into_iter().find_map(base));
            let labels = rest.strip_prefix('{').map_or("", |rest| rest.split('}').next().unwrap());
            let names = labels.split("\",").filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
            let series = all.get_mut(&family.unwrap_or_else(|| panic!("{line}"))).unwrap();
            series.1.extend(names.filter(|name| name != "le"));
        }
    }
    all
}

/// The tables of `deploy/README.md`: ``| `name` | kind | `label` `label` | what it counts |``.
fn catalogue() -> BTreeMap<String, Series> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/README.md");
    let text = std::fs::read_to_string(file).unwrap();
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `mailweir_") || line.starts_with("| `process_")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, help] = cells[..] else { panic!("{line}") };
        assert!(help.len() > 10, "{line}");
        let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let before = all.insert(name.trim_matches('`').to_owned(), (kind.to_owned(), labels));
        assert!(before.is_none(), "{line} is there twice");
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalogue_is_what_a_running_gateway_shows() {
    let observed = Observed::start().await;
    let documented = catalogue();
    let until = Instant::now() + Duration::from_secs(30);
    let last = loop {
        observed.traffic().await;
        let answer = observed.get("/metrics").await;
        let last = shown(&answer.text());
        // Some are shown after the first measurement or the next commit.
        if last == documented || Instant::now() > until {
            if let Ok(file) = std::env::var("MAILWEIR_TEST_METRICS_TEXT") {
                std::fs::write(file, answer.text()).unwrap();
            }
            break last;
        }
        sleep(Duration::from_millis(300)).await;
    };
    assert!(last.len() >= NAMES, "{}", last.len());
    let differ: Vec<String> = documented
        .keys()
        .chain(last.keys())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter(|name| documented.get(*name) != last.get(*name))
        .map(|name| format!("{name}: shown {:?}, in deploy/README.md {:?}", last.get(name), documented.get(name)))
        .collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn summaries_and_health_tell_what_happened() {
    let observed = Observed::start().await;
    observed.traffic().await;
    observed.traffic().await;
    let summary = observed.json("/metrics/summary").await;
    let mail = &summary["sections"]["mail"];
    assert_eq!((&mail["by_action.reject"], &mail["messages"]), (&2.0.into(), &8.0.into()), "{mail}");
    assert_eq!(mail["by_door.milter"], 2.0, "{mail}");
    assert_eq!(mail["stage_seconds.parse.count"], mail["messages"], "{mail}");
    assert!(mail["risk.p95"].as_f64().unwrap() > 0.0, "{mail}");
    assert_eq!(summary["sections"]["security"]["authentication_failures.wrong"], 2.0);
    let negative = |number: &serde_json::Value| number.as_f64().is_some_and(|number| number.is_sign_negative());
    let sections = summary["sections"].as_object().unwrap().values();
    assert!(!sections.flat_map(|words| words.as_object().unwrap().values()).any(negative), "no -0: {summary}");
    let text = observed.get("/metrics/summary?format=text").await;
    assert!(text.header("content-type").starts_with("text/plain"));
    assert!(text.text().contains("by_action.reject") && text.text().starts_with("database\n"), "{}", text.text());
    assert_eq!(observed.get("/metrics/summary?format=xml").await.status, 400);

    // Three are kept, one a second.
    let until = Instant::now() + Duration::from_secs(30);
    let snapshots = loop {
        let snapshots = observed.json("/metrics/snapshots").await["items"].as_array().unwrap().clone();
        if snapshots.len() == 3 && snapshots[2]["sections"]["mail"]["messages"] == 8.0 {
            break snapshots;
        }
        assert!(snapshots.len() <= 3 && Instant::now() < until, "{snapshots:?}");
        sleep(Duration::from_millis(100)).await;
    };
    let times: Vec<i64> = snapshots.iter().map(|one| one["at_ms"].as_i64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a > b), "the newest first: {times:?}");
    let exported: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(observed.metrics_file()).unwrap()).unwrap();
    assert!(exported["items"].as_array().is_some_and(|items| !items.is_empty()), "{exported}");

    let health = observed.json("/health").await;
    assert_eq!((&health["status"], &health["queue"]["reachable"]), (&"HEALTHY".into(), &true.into()), "{health}");
    let full = observed.json("/health/full").await;
    let check = |name: &str| {
        let checks = full["checks"].as_array().unwrap().iter();
        checks.clone().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {full:#}")).clone()
    };
    // Counted when it was looked at first.
    let rows = check("database")["measured"]["rows"].clone();
    for table in ["messages", "quarantine", "history", "outbox", "release_passes", "likenesses"] {
        assert!(rows[table].is_u64(), "{table}: {full:#}");
    }
    assert_eq!(check("queue")["measured"]["dead_letters"], 1);
    assert_eq!(check("feed:observed")["measured"]["files"], 2);
    assert!(check("certificate:relay")["measured"]["days"].as_i64().unwrap() > 300);
    assert!(check("disk")["measured"]["free_bytes"].as_u64().unwrap() > 0);
    assert!(check("body_store")["critical"] == true && check("queue")["critical"] == false);
    for name in ["clock", "workers", "service:rdap", "service:url_service"] {
        assert_eq!(check(name)["status"], "HEALTHY", "{name}");
    }
    // None of its calls was answered: that is told before its breaker opens.
    assert_eq!(check("service:clamd")["status"], "DEGRADED", "{full:#}");
    // The one that nobody answers for: its breaker opened, and nothing is worse for it than degraded.
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        observed.traffic().await;
        let full = observed.json("/health/full").await;
        let open = |reason: &serde_json::Value| reason.as_str().unwrap().starts_with("service:clamd: ");
        if full["status"] == "DEGRADED" && full["reasons"].as_array().unwrap().iter().any(open) {
            let history = full["history"].as_array().unwrap();
            assert!(history[0]["parts"].as_array().unwrap().contains(&"service:clamd".into()), "{history:?}");
            break;
        }
        assert!(Instant::now() < until, "{full:#}");
    }
    let metrics = observed.json("/health/metrics").await;
    assert!(metrics["calls"]["clamd"]["unreachable"].as_f64().unwrap() >= 3.0, "{metrics:#}");
    assert!(metrics["degraded"]["malware"]["unreachable"].as_f64().unwrap() >= 1.0, "{metrics:#}");
    let clamd = metrics["dependencies"].as_array().unwrap().iter().find(|one| one["name"] == "clamd").unwrap();
    assert_eq!(clamd["success_ratio"], 0.0, "{metrics:#}");
    assert!(observed.get("/ready").await.json()["status"] == "ready", "never false because a service is down");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_keeps_no_look_waiting() {
    if !available("metrics::a_redis_that_hangs_keeps_no_look_waiting") {
        return;
    }
    let redis = Redis::start(Keep::Nothing).await;
    let http = free_port();
    let settings = format!(
        "[http]\nenabled = true\nlisten = \"{http}\"\nhealth_check_ms = 300\n[queue]\nurl = \"{}\"\ncommand_ms = 20000\n",
        redis.url()
    );
    let gateway = Gateway::start_with(free_port(), &settings).await;
    let until = Instant::now() + Duration::from_secs(30);
    while tokio::net::TcpStream::connect(http).await.is_err() {
        assert!(Instant::now() < until, "{}", gateway.log());
        sleep(Duration::from_millis(20)).await;
    }
    let token = std::fs::read_to_string(gateway.data().join("admin.token")).unwrap();
    let token = format!("Authorization: Bearer {}", token.trim());
    let ask = async |target| {
        let answer = request(http, "GET", target, &[&token], "").await;
        (answer.status, answer.json())
    };
    let check = |full: &serde_json::Value, name: &str| {
        full["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).cloned().unwrap()
    };
    let (status, full) = ask("/health/full").await;
    assert_eq!((status, &full["status"]), (200, &"HEALTHY".into()), "{full:#}");
    assert!(check(&full, "redis")["measured"]["memory_bytes"].as_u64().unwrap() > 100_000, "{full:#}");
    assert_eq!(check(&full, "queue")["measured"]["by_priority"]["high"]["waiting"], 0);

    // It takes connections and says nothing.
    assert!(redis.ask("CLIENT PAUSE 60000 ALL").contains("OK"));
    let until = Instant::now() + Duration::from_secs(30);
    let full = loop {
        let (status, full) = ask("/health/full").await;
        assert_eq!(status, 200, "{full:#}");
        if full["status"] == "DEGRADED" {
            break full;
        }
        // The last look serves for a moment.
        assert!(Instant::now() < until, "{full:#}");
        sleep(Duration::from_millis(100)).await;
    };
    for name in ["queue", "redis"] {
        assert_eq!(check(&full, name)["problem"], "no answer within 300 ms", "{full:#}");
    }
    assert_eq!(check(&full, "database")["status"], "HEALTHY");
    // For a moment it is told how it was.
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let (status, health) = ask("/health").await;
        assert_eq!(status, 200, "{health}");
        if health["queue"]["reachable"] == false {
            break;
        }
        assert!(health["stale_seconds"].as_f64().is_none_or(|age| age < 5.0) && Instant::now() < until, "{health}");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ask("/ready").await, (200, serde_json::json!({ "status": "ready" })));
}
