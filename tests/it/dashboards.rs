//! `deploy/grafana` and `deploy/prometheus`: every query of every panel and every alert, asked of a Prometheus that reads a
//! running gateway.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use mailweir::enforcement::alert::{AlertsConfig, Kind, Severity};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::observed::Observed;
use crate::support::prometheus::{Prometheus, available, files, promtool};

/// Panels there must be at least, over all dashboards.
const PANELS: usize = 35;
const DASHBOARDS: [&str; 6] = ["database", "mail", "queue", "security", "services", "system"];

/// Quantiles and shares of what happens seldom (the cache that gateways share is asked only after a miss in memory): when nothing
/// of the kind was in the last seconds there is a series, but no number.
const SELDOM: [&str; 4] = [
    "Time of an attempt, 95 %",
    "Wait until the first attempt, 95 %",
    "Wait for a turn, 95 %",
    "Answers out of the cache",
];

struct Panel {
    dashboard: &'static str,
    title: String,
    queries: Vec<String>,
}

/// All panels; the variables are filled in as Grafana does.
fn panels() -> Vec<Panel> {
    let mut panels = Vec::new();
    for dashboard in DASHBOARDS {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("deploy/grafana/{dashboard}.json"));
        let json: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(json["uid"], format!("mailweir-{dashboard}"));
        for panel in json["panels"].as_array().unwrap() {
            let query = |target: &Value| {
                let query = target["expr"].as_str().unwrap();
                query.replace("$instance", ".*").replace("$__rate_interval", "20s")
            };
            let queries: Vec<String> = panel["targets"].as_array().unwrap().iter().map(query).collect();
            let title = panel["title"].as_str().unwrap().to_owned();
            assert!(!queries.is_empty() && queries.iter().all(|query| !query.contains('$')), "{dashboard}: {title}");
            panels.push(Panel { dashboard, title, queries });
        }
    }
    panels
}

#[test]
fn dashboards_are_whole() {
    let panels = panels();
    assert!(panels.len() >= PANELS, "{} panels", panels.len());
    let titles: BTreeSet<_> = panels.iter().map(|panel| (panel.dashboard, &panel.title)).collect();
    assert_eq!(titles.len(), panels.len(), "two panels of a dashboard have one title");
    for dashboard in DASHBOARDS {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("deploy/grafana/{dashboard}.json"));
        let json: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let panels = json["panels"].as_array().unwrap();
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len());
        // None lies over another, none sticks out.
        let mut taken = BTreeSet::new();
        for panel in panels {
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{dashboard}: {} lies over another", panel["title"]);
                }
            }
        }
    }
}

#[test]
fn promtool_takes_the_rules() {
    if available("promtool_takes_the_rules") {
        let said = promtool(&["check", "rules", "mailweir.rules.yml"]);
        assert!(said.contains("rules found"), "{said}");
    }
}

/// Rules of each group fire and end: the cases are in the file.
#[test]
fn rules_fire_and_resolve() {
    if available("rules_fire_and_resolve") {
        let said = promtool(&["test", "rules", "mailweir.rules.test.yml"]);
        assert!(said.contains("SUCCESS"), "{said}");
    }
}

/// The rule that tells a kind at a severity, and by what its threshold is multiplied there.
const RULES: [(&str, Kind, Severity, f64); 34] = {
    use Kind::*;
    use Severity::{Critical, Warning};
    [
        ("MailweirApiSlow", ApiLatency, Warning, 1.0),
        ("MailweirApiVerySlow", ApiLatency, Critical, 1.0),
        ("MailweirLimitsReached", RateLimitAbuse, Warning, 1.0),
        ("MailweirLimitsAbused", RateLimitAbuse, Critical, 1.0),
        ("MailweirTokenGuessed", AuthFailures, Warning, 1.0),
        ("MailweirTokenGuessedOften", AuthFailures, Critical, 1.0),
        ("MailweirServicePoor", ServiceAvailability, Warning, 1.0),
        ("MailweirServiceGone", ServiceAvailability, Critical, 1.0),
        ("MailweirQueueSilent", Queue, Warning, 1.0),
        ("MailweirQueueGone", Queue, Critical, 1.0),
        ("MailweirQueueDeep", QueueDepth, Warning, 1.0),
        ("MailweirQueueVeryDeep", QueueDepth, Critical, 1.0),
        ("MailweirQueueLate", QueueAge, Warning, 1.0),
        ("MailweirQueueVeryLate", QueueAge, Critical, 1.0),
        ("MailweirDeadLetters", DeadLetters, Warning, 1.0),
        ("MailweirManyDeadLetters", DeadLetters, Critical, 1.0),
        ("MailweirDatabaseSlow", DatabaseLatency, Warning, 1.0),
        ("MailweirDatabaseVerySlow", DatabaseLatency, Critical, 1.0),
        ("MailweirBreakerOpen", BreakerOpen, Warning, 1.0),
        ("MailweirBreakerLongOpen", BreakerOpen, Critical, 1.0),
        ("MailweirDiskLow", Disk, Warning, 1.0),
        ("MailweirDiskVeryLow", Disk, Critical, 1.0),
        ("MailweirCertificateEnds", Certificate, Warning, 86_400.0),
        ("MailweirCertificateEnded", Certificate, Critical, 86_400.0),
        ("MailweirFeedOld", FeedAge, Warning, 86_400.0),
        ("MailweirVerdictMixChanged", VerdictMix, Warning, 1.0),
        ("MailweirVerdictMixTurned", VerdictMix, Critical, 1.0),
        ("MailweirNextHopLost", NextHop, Warning, 1.0),
        ("MailweirNextHopDown", NextHop, Critical, 1.0),
        ("MailweirHoldsFail", FailedHolds, Warning, 1.0),
        ("MailweirManyHoldsFail", FailedHolds, Critical, 1.0),
        ("MailweirSomeMailPutOff", Deferrals, Warning, 1.0),
        ("MailweirMailPutOff", Deferrals, Critical, 1.0),
        ("MailweirPanics", Panics, Critical, 1.0),
    ]
};

/// The expression of a rule, how long it must be so in seconds, and its severity.
fn written(rules: &str, name: &str) -> (String, f64, String) {
    let begin = rules.find(&format!("- alert: {name}\n")).unwrap_or_else(|| panic!("no {name}"));
    let rule = &rules[begin + 1..];
    let rule = &rule[..rule.find("- alert: ").unwrap_or(rule.len())];
    let lines = || rule.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let expression = lines().skip(1).take_while(|line| !line.starts_with("for:") && !line.starts_with("labels:"));
    let lasting = lines().find_map(|line| line.strip_prefix("for: ")).map_or(0.0, |time| {
        let (number, unit) = time.split_at(time.len() - 1);
        number.parse::<f64>().unwrap() * if unit == "m" { 60.0 } else { 1.0 }
    });
    let severity = lines().find_map(|line| line.strip_prefix("labels: { severity: ")).unwrap();
    (expression.collect::<Vec<_>>().join(" "), lasting, severity.trim_end_matches(" }").to_owned())
}

/// The numbers that an expression compares with, products multiplied out.
fn compared(expression: &str) -> Vec<f64> {
    let mut numbers = Vec::new();
    for (at, _) in expression.match_indices(['>', '<']) {
        let right = expression[at + 1..].trim_start_matches('=').trim_start();
        let mut words = right.split_whitespace();
        let Some(Ok(mut number)) = words.next().map(str::parse::<f64>) else { continue };
        while let (Some("*"), Some(factor)) = (words.next(), words.next()) {
            number *= factor.parse::<f64>().unwrap();
        }
        numbers.push(number);
    }
    numbers
}

/// Prometheus tells from the same thresholds on as the gateway itself does.
#[test]
fn rules_have_the_thresholds_of_the_settings() {
    let rules = std::fs::read_to_string(files().join("mailweir.rules.yml")).unwrap();
    let thresholds = AlertsConfig::default().thresholds;
    let mut told = BTreeSet::new();
    for (name, kind, severity, factor) in RULES {
        let (expression, lasting, labelled) = written(&rules, name);
        assert_eq!(labelled, severity.as_str(), "{name}");
        let threshold = thresholds.of(kind);
        let wanted = factor * if severity == Severity::Warning { threshold.warning } else { threshold.critical };
        // What lasts is told by how long it must be so.
        let found = match kind {
            Kind::BreakerOpen | Kind::NextHop | Kind::Queue => lasting == wanted,
            _ => compared(&expression).contains(&wanted),
        };
        assert!(found, "{name}: {wanted} is not in {expression}, for {lasting} s");
        told.insert((kind, severity));
    }
    for kind in Kind::ALL {
        let threshold = thresholds.of(kind);
        for (severity, line) in [(Severity::Warning, threshold.warning), (Severity::Critical, threshold.critical)] {
            assert_eq!(told.contains(&(kind, severity)), line != 0.0, "{kind:?} {severity:?}");
        }
    }
}

fn is_number(series: &Value) -> bool {
    series["value"][1].as_str().is_some_and(|value| value.parse::<f64>().is_ok_and(|value| !value.is_nan()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_has_data_from_a_running_gateway() {
    if !available("every_query_has_data_from_a_running_gateway") {
        return;
    }
    let observed = Observed::start().await;
    let prometheus = Prometheus::start(observed.http, &observed.token).await;
    // Until it has read the gateway both before and after mail.
    let until = Instant::now() + Duration::from_secs(90);
    loop {
        observed.traffic().await;
        let read = prometheus.query("count_over_time(mailweir_jobs_total[1m]) > 3 and mailweir_jobs_total > 0").await;
        let mail = prometheus.query("sum(increase(mailweir_messages_total[20s])) > 8").await;
        if !read.unwrap().is_empty() && !mail.unwrap().is_empty() {
            break;
        }
        assert!(Instant::now() < until, "nothing was read\n{}", prometheus.log());
        sleep(Duration::from_millis(500)).await;
    }
    let mut asked = 0;
    let mut wrong = Vec::new();
    for Panel { dashboard, title, queries } in panels() {
        for query in queries {
            asked += 1;
            let until = Instant::now() + Duration::from_secs(20);
            loop {
                let problem = match prometheus.query(&query).await {
                    // What is divided by nothing is no data.
                    Ok(result) if result.iter().any(is_number) => break,
                    Ok(result) if !result.is_empty() && SELDOM.contains(&&*title) => break,
                    Ok(_) => "no data".to_owned(),
                    Err(error) => error,
                };
                if Instant::now() >= until {
                    wrong.push(format!("{dashboard}, {title}: {problem}: {query}"));
                    break;
                }
                // Of the last seconds there is a share only while something happens.
                observed.traffic().await;
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
    assert!(wrong.is_empty(), "of {asked} queries:\n{}", wrong.join("\n"));
    // The service that does not answer is seen: the alerts are reckoned from what is there.
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let rules = prometheus.rules().await;
        let state = |name: &str| rules.iter().find(|rule| rule["name"] == name).map(|rule| rule["state"].clone());
        let seen = state("MailweirBreakerOpen").is_some_and(|state| state != "inactive");
        if seen && rules.iter().all(|rule| rule["health"] == "ok") {
            assert_eq!(state("MailweirDown").unwrap(), "inactive");
            assert!(rules.len() >= 20, "{}", rules.len());
            break;
        }
        assert!(Instant::now() < until, "{rules:#?}");
        observed.traffic().await;
        sleep(Duration::from_millis(500)).await;
    }
}
