//! `deploy/grafana` and `deploy/prometheus`: every query of every panel and every alert, asked of a Prometheus that reads a
//! running gateway.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::observed::Observed;
use crate::support::prometheus::{Prometheus, available, promtool};

/// Panels there must be at least, over all dashboards.
const PANELS: usize = 35;
const DASHBOARDS: [&str; 6] = ["database", "mail", "queue", "security", "services", "system"];

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
    let mut wrong = Vec::new();
    let mut asked = 0;
    for Panel { dashboard, title, queries } in panels() {
        for query in queries {
            asked += 1;
            match prometheus.query(&query).await {
                Ok(result) if result.is_empty() => wrong.push(format!("{dashboard}, {title}: no data: {query}")),
                Ok(_) => {}
                Err(error) => wrong.push(format!("{dashboard}, {title}: {error}: {query}")),
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
