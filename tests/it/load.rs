//! The load tools and demo runs, with the program itself, a real next hop and a real Redis.

use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::support::gateway::{Gateway, free_port};
use crate::support::http::request;
use crate::support::redis::{Keep, Redis, available};
use crate::support::sink::Sink;

fn figure(run: &Value, name: &str) -> f64 {
    let found = run["figures"].as_array().unwrap().iter().find(|figure| figure["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {run}"))["value"].as_f64().unwrap()
}

fn count(run: &Value, begins: &str) -> u64 {
    let counts = run["counts"].as_object().unwrap().iter();
    counts.filter(|(what, _)| what.starts_with(begins)).map(|(_, count)| count.as_u64().unwrap()).sum()
}

/// What the tool counts as 250 is what the next hop got, and the milter door answers too.
#[tokio::test]
async fn end_to_end() {
    let sink = Sink::start().await;
    let gateway = Gateway::start_with(sink.address, "").await;
    let (relay, milter) = (gateway.relay.to_string(), gateway.milter.to_string());
    let saved = gateway.data().join("run.json");
    let saved = saved.to_str().unwrap();
    let common = ["--seconds", "1", "--connections", "2", "--limit", "20", "--json"];
    let load = async |more: &[&str]| {
        let arguments = [&["bench", "end-to-end"], more, &common].concat();
        let ran = gateway.command(&arguments).await;
        assert!(ran.ok, "{ran:?}");
        ran.json().remove(0)
    };
    let run = load(&["--to", &relay, "--save", saved]).await;
    assert!(count(&run, "250") > 0 && figure(&run, "reply p50") > 0.0, "{run}");
    assert_eq!(count(&run, "250") as usize, sink.mails().len(), "{run}");
    // At ten a second, in one second: ten, however fast it could go.
    let run = load(&["--to", &relay, "--rate", "10/s"]).await;
    assert_eq!(count(&run, ""), 10, "{run}");
    let run = load(&["--milter", &milter]).await;
    assert!(count(&run, "accept") > 0, "{run}");
    assert_eq!(count(&run, "no answer"), 0, "{run}");

    let same = gateway.command(&["bench", "compare", saved, saved, "--json"]).await;
    assert!(same.ok && same.json()[0]["worse"] == false, "{same:?}");
    let nobody = free_port().to_string();
    let nobody = gateway.command(&["bench", "end-to-end", "--to", &nobody, "--seconds", "1", "--json"]).await;
    assert!(!nobody.ok && count(&nobody.json()[0], "no answer") > 0, "{nobody:?}");
    let stranger = gateway.command(&["bench", "end-to-end", "--to", "192.0.2.1:25"]).await;
    assert!(!stranger.ok && stranger.stderr.contains("--i-own-this-host"), "{stranger:?}");
}

/// Pipeline and queue are measured, saved, and taken by the model.
#[tokio::test]
async fn measured_and_simulated() {
    let gateway = Gateway::prepare(([127, 0, 0, 1], 9).into(), "");
    std::fs::create_dir_all(gateway.data()).unwrap();
    let file = |name: &str| gateway.data().join(name).to_str().unwrap().to_owned();
    let (pipeline, queue) = (file("pipeline.json"), file("queue.json"));
    let ran =
        gateway.command(&["bench", "pipeline", "--limit", "30", "--rounds", "2", "--json", "--save", &pipeline]).await;
    assert!(ran.ok, "{ran:?}");
    assert_eq!(count(&ran.json()[0], ""), 60, "every message of every round has an action");
    let ran = gateway.command(&["bench", "queue", "--jobs", "500", "--rounds", "2", "--save", &queue]).await;
    assert!(ran.ok && ran.text().contains("whole life"), "{ran:?}");

    let simulate =
        ["simulate", "--rate", "50/s", "--hours", "0.2", "--json", "--measured", &pipeline, "--measured", &queue];
    let ran = gateway.command(&simulate).await;
    assert!(ran.ok, "{ran:?}");
    let out = ran.json().remove(0);
    assert!(out["inputs"]["gateway_cpu_ms"]["from"].as_str().unwrap().contains("pipeline.json"), "{out}");
    let expected = 50.0 * 720.0;
    assert!((out["messages"].as_f64().unwrap() / expected - 1.0).abs() < 0.05, "{out}");
    assert!(out["workers"]["min"].as_f64().unwrap() >= 2.0 && out["jobs_left"].is_number(), "{out}");
    let wrong = gateway.command(&["simulate", "--measured", &file("none.json")]).await;
    assert!(!wrong.ok && wrong.stderr.contains("none.json"), "{wrong:?}");
}

/// Over Redis, in its own corner: what is there under another prefix stays, and a corner that is not empty is refused.
#[tokio::test]
async fn bench_of_redis() {
    if !available("load::bench_of_redis") {
        return;
    }
    let redis = Redis::start(Keep::Nothing).await;
    let gateway = Gateway::prepare(([127, 0, 0, 1], 9).into(), "");
    let url = redis.url();
    let bench = ["bench", "queue", "--queue", &url, "--jobs", "400", "--rounds", "1", "--json"];
    for _ in 0..2 {
        let ran = gateway.command(&bench).await;
        assert!(ran.ok && figure(&ran.json()[0], "whole life") > 0.0, "{ran:?}");
    }
    redis.ask("XADD {mailweir-bench}:medium * k leftover");
    let ran = gateway.command(&bench).await;
    assert!(!ran.ok && ran.stderr.contains("--prefix"), "{ran:?}");
}

#[tokio::test]
async fn demo_runs() {
    let (http, sink) = (free_port(), Sink::start().await);
    let settings = |demo: &str| format!("[http]\nenabled = true\nlisten = \"{http}\"\n{demo}");
    let gateway = Gateway::start_with(sink.address, &settings("demo = { enabled = true, max_messages = 400 }")).await;
    let ask = async |method: &str, path: &str, body: &str| {
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(http).await.is_err() {
            assert!(Instant::now() < until, "HTTP does not listen");
            sleep(Duration::from_millis(20)).await;
        }
        let token = std::fs::read_to_string(gateway.data().join("admin.token")).unwrap();
        let token = format!("Authorization: Bearer {}", token.trim());
        request(http, method, path, &[&token, "Content-Type: application/json"], body).await
    };
    const DEMO: &str = "/api/v1/scalability/demo/run";
    assert_eq!(ask("GET", DEMO, "").await.json()["running"], false);
    for wrong in ["{\"messages\": 401}", "{\"messages\": 0}", "{\"at_a_time\": 5}", "{\"message\": 1}"] {
        assert_eq!(ask("POST", DEMO, wrong).await.status, 400, "{wrong}");
    }
    assert_eq!(ask("POST", DEMO, "{\"messages\": 300, \"at_a_time\": 2}").await.status, 202);
    // One at a time; it cannot be done yet: its rules are being read.
    assert_eq!(ask("POST", DEMO, "").await.status, 409);
    let until = Instant::now() + Duration::from_secs(60);
    let state = loop {
        let state = ask("GET", DEMO, "").await.json();
        if state["running"] == false {
            break state;
        }
        assert!(Instant::now() < until, "{state}");
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((&state["judged"], &state["error"]), (&300.into(), &Value::Null), "{state}");
    let by_action: u64 = state["actions"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(by_action, 300, "{state}");
    // Nothing was delivered or recorded, and the statistics of mail know nothing of it.
    assert!(sink.mails().is_empty());
    let listed = ask("GET", "/api/v1/messages", "").await.json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(0), "{listed}");
    let metrics = ask("GET", "/metrics", "").await.text().to_owned();
    let sum = |name: &str| -> f64 {
        metrics
            .lines()
            .filter(|line| line.starts_with(name))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
            .sum()
    };
    assert_eq!((sum("mailweir_demo_messages_total{"), sum("mailweir_messages_total{")), (300.0, 0.0), "{metrics}");
    assert!(gateway.terminate().await.success());

    gateway.configure(sink.address, &settings(""));
    gateway.start().await;
    assert_eq!(ask("POST", DEMO, "").await.status, 404, "off unless enabled");
    assert_eq!(ask("GET", DEMO, "").await.status, 404);
    assert_eq!(request(http, "POST", DEMO, &[], "").await.status, 401, "for administrators only");
}

/// A short step of load: up from two, nothing lost, and drawn.
#[tokio::test]
async fn bench_step() {
    let gateway = Gateway::prepare(([127, 0, 0, 1], 9).into(), "");
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("step.svg");
    let drawn = picture.to_str().unwrap();
    let phases = ["--base", "2", "--peak", "300", "--before", "1", "--during", "4", "--after", "1", "--work-ms", "100"];
    let ran =
        gateway.command(&[&["bench", "step", "--cooldown", "1", "--svg", drawn, "--json"][..], &phases].concat()).await;
    assert!(ran.ok, "{ran:?}");
    let run = ran.json().remove(0);
    let figure = |name: &str| {
        let one = run["figures"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone();
        one["value"].as_f64().unwrap()
    };
    assert_eq!((figure("workers at the beginning"), figure("jobs lost")), (2.0, 0.0), "{run}");
    assert!(figure("workers at most") >= 4.0 && figure("jobs") > 800.0, "{run}");
    assert!(figure("changes of direction") <= 1.0, "{run}");
    let svg = std::fs::read_to_string(&picture).unwrap();
    assert!(
        svg.starts_with("<svg ") && svg.ends_with("</svg>\n") | svg.ends_with("</svg>") && svg.contains("300 jobs/s"),
        "{svg}"
    );
}
