//! Alerts in outages of others: of a channel, of a next hop while the gateway is started anew, of the clock, of the gateway.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mailweir::enforcement::alert::{
    Alert, AlertMetrics, AlertsConfig, Board, BoardState, Channel, Channels, Kind, Machine, Measure, Notice, Now,
    Readings, Severity, Watch, Ways, What,
};
use mailweir::enforcement::{Refused, Reinject};
use mailweir::mail::{Envelope, Message, MessageLimits};
use serde_json::Value;

use crate::alerts::{Server, config, node, ways};
use crate::support::client::Client;
use crate::support::endpoint::{Endpoint, Got};
use crate::support::gateway::{Gateway, free_port, until};
use crate::support::next_hop::{Behaviour, NextHop};
use crate::support::records::now_ms;
use crate::support::sink::Sink;

const NOON: i64 = 1_767_225_600_000;

fn disk(free: f64) -> Readings {
    Readings { disks: vec![("data".into(), Some(free))], ..Readings::default() }
}

fn metrics() -> AlertMetrics {
    AlertMetrics::new(&prometheus::Registry::new()).unwrap()
}

fn known(gateway: &Gateway, key: &str) -> Option<Alert> {
    let state = Board::new(&gateway.data()).state().unwrap()?;
    state.alerts.into_iter().find(|alert| alert.key == key)
}

/// Waits for so many looks more.
async fn looks(gateway: &Gateway, count: usize) {
    let at = || Board::new(&gateway.data()).state().unwrap().map_or(0, |state| state.at_ms);
    for _ in 0..count {
        let before = at();
        until("a look", gateway, || at() > before).await;
    }
}

/// A server that is gone for a while.
#[derive(Clone, Default)]
struct Flaky {
    gone: Arc<AtomicBool>,
    subjects: Arc<Mutex<Vec<String>>>,
}

impl Reinject for Flaky {
    async fn reinject(&self, _: Envelope, raw: Bytes) -> Result<String, Refused> {
        if self.gone.load(Ordering::Relaxed) {
            return Err(Refused { why: "connecting: refused".into(), for_good: false });
        }
        let message = Message::parse(raw, &MessageLimits::default());
        self.subjects.lock().unwrap().push(message.subject().to_owned());
        Ok("250 ok".into())
    }
}

/// A channel that was gone for hours is told soon after it is back, and only what holds by then.
#[tokio::test(start_paused = true)]
async fn a_channel_that_is_back_is_told_soon_and_nothing_that_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let flaky = Flaky::default();
    flaky.gone.store(true, Ordering::Relaxed);
    let ways = Ways { mailer: Arc::new(flaky.clone()), ..ways(&folder, &Server::default()) };
    let mut config = AlertsConfig { resolve_after_seconds: 0, ..AlertsConfig::default() };
    config.mail.to = vec!["ops@example.com".into()];
    config.call.rate.per_second = 0;
    let channels = Channel::configured(&config, &ways).unwrap().into_iter().map(Arc::new).collect();
    let (channels, mut deliveries) = Channels::new(channels, &config.delivery, &metrics(), None);
    let delivering = tokio::spawn(deliveries.remove(0));
    let mut watch = Watch::new(node(), config, Board::new(folder.path()), channels, metrics());
    watch.look(&disk(0.01), NOON, 0);
    tokio::time::sleep(Duration::from_secs(7_200)).await;
    watch.look(&disk(0.5), NOON + 7_200_000, 7_200_000);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(flaky.subjects.lock().unwrap().is_empty());
    flaky.gone.store(false, Ordering::Relaxed);
    // Twice the time after which a breaker lets somebody try.
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(*flaky.subjects.lock().unwrap(), ["RESOLVED: Space runs out: data [gw]"]);
    drop(watch);
    delivering.await.unwrap();
}

fn ids(got: &[Got]) -> Vec<String> {
    got.iter().map(|got| got.json()["id"].as_str().unwrap().to_owned()).collect()
}

/// Notices of one moment are told apart by their ids; tries of one are not.
#[tokio::test]
async fn an_id_is_of_one_notice() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(|_, before| if before == 1 { "503 Later" } else { "204 No Content" }).await;
    let mut config = config(&folder, endpoint.address);
    (config.slack.url_file, config.pagerduty.routing_key_file) = (None, None);
    config.mail.to.clear();
    config.webhook.heartbeat_seconds = 60;
    let channels: Vec<_> =
        Channel::configured(&config, &ways(&folder, &Server::default())).unwrap().into_iter().map(Arc::new).collect();
    let webhook = Arc::clone(&channels[0]);
    let (channels, deliveries) = Channels::new(channels, &config.delivery, &metrics(), None);
    let mut watch = Watch::new(node(), config, Board::new(folder.path()), channels, metrics());
    watch.look(&disk(0.5), NOON - 120_000, 0);
    watch.look(&disk(0.01), NOON, 120_000);
    drop(watch);
    for delivery in deliveries {
        delivery.await;
    }
    let got = endpoint.got();
    let lines: Vec<usize> = got.iter().map(|got| got.json()["alerts"].as_array().unwrap().len()).collect();
    assert_eq!(lines, [0, 1, 1, 0], "a heartbeat, an alert tried twice, a heartbeat");
    let told = ids(&got);
    assert!(told[1] == told[2] && told[2] != told[3], "{told:?}");
    // Two messages that were judged anew in one millisecond.
    let line = Notice::test("gw", "", What::Fired, NOON).lines.remove(0);
    for key in ["second_verdict:a", "second_verdict:b", "second_verdict:b"] {
        let line = mailweir::enforcement::alert::Line { key: key.into(), ..line.clone() };
        webhook.deliver(&Notice::one("gw", "", line, NOON)).await.unwrap();
    }
    let told = ids(&endpoint.got()[4..]);
    assert!(told[0] != told[1] && told[1] == told[2], "{told:?}");
}

/// What a clock that is set says of time is nothing: nothing ends by it, and no end is kept back.
#[test]
fn steps_of_the_clock_end_nothing_and_keep_no_end_back() {
    let (hour, day) = (3_600_000, 86_400_000);
    let folder = tempfile::tempdir().unwrap();
    let board = Board::new(folder.path());
    let fires = || {
        let alerts = board.state().unwrap().unwrap().alerts;
        alerts.iter().find(|alert| alert.kind == Kind::Disk).is_some_and(|alert| alert.severity.is_some())
    };
    let config = AlertsConfig { fire_after_seconds: 30, ..AlertsConfig::default() };
    let new = || Watch::new(node(), config.clone(), board.clone(), Channels::default(), metrics());
    let mut watch = new().recalling(NOON, 0);
    watch.look(&disk(0.01), NOON, 0);
    watch.look(&disk(0.01), NOON + hour, 10_000);
    assert!(!fires(), "it has been bad for ten seconds");
    watch.look(&disk(0.01), NOON + hour + 20_000, 30_000);
    assert!(fires());
    watch.look(&Readings::default(), NOON + 9 * hour, 40_000);
    assert!(fires(), "not read for ten seconds");
    watch.look(&disk(0.5), NOON + 9 * hour + 10_000, 50_000);
    watch.look(&disk(0.5), NOON + 9 * hour + 70_000 - day, 110_000);
    assert!(!fires(), "it has been well for a minute");
    for second in [120, 150] {
        watch.look(&disk(0.01), NOON - day + second * 1_000, second * 1_000);
    }
    assert!(fires());
    // In the next process, whose steady clock is another, time goes on.
    let mut watch = new().recalling(NOON - day + 150_000 + 3_000_000, 7_000);
    watch.look(&Readings::default(), NOON - day + 150_000 + 3_000_000, 7_000);
    assert!(fires(), "not read for fifty minutes");
    watch.look(&Readings::default(), NOON - day + 150_000 + 3_500_000, 507_000);
    assert!(fires(), "not yet an hour");
    watch.look(&Readings::default(), NOON + 8 * day, 608_000);
    assert!(!fires(), "an hour");
}

/// A gateway that is started anew in the middle of an outage takes it neither for over nor for new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_outlives_the_gateway() {
    let place = free_port();
    let settings = "[alerts]\nevery_seconds = 1\nresolve_after_seconds = 0\nminimum_calls = 1000\n\
                    [alerts.thresholds]\nnext_hop_down_seconds = { warning = 1.0, critical = 3.0 }\n";
    let gateway = Gateway::start_with(place, settings).await;
    let ask = async || {
        let mut client = Client::connect(gateway.relay).await;
        client.command("EHLO a.example").await;
        client.command("MAIL FROM:<a@firm.example>").await;
        client.command("RCPT TO:<b@example.com>").await
    };
    assert!(ask().await.starts_with("451"));
    let critical = || known(&gateway, "next_hop:mta").is_some_and(|hop| hop.severity == Some(Severity::Critical));
    until("it is critical", &gateway, critical).await;
    let before = known(&gateway, "next_hop:mta").unwrap();
    gateway.kill();
    gateway.start().await;
    looks(&gateway, 3).await;
    assert!(critical(), "nobody has asked: {:?}\n{}", known(&gateway, "next_hop:mta"), gateway.log());
    assert!(ask().await.starts_with("451"));
    looks(&gateway, 2).await;
    let now = known(&gateway, "next_hop:mta").unwrap();
    assert!(critical() && now.since_ms == before.since_ms, "{before:?} {now:?}\n{}", gateway.log());
    assert!(now.value > before.value, "it has lasted since then: {before:?} {now:?}");
    let log = gateway.log();
    assert!(!log.contains("eased") && !log.contains("resolved"), "{log}");
    let hop = NextHop::start_at(place, Behaviour::default()).await;
    until("it is over", &gateway, || known(&gateway, "next_hop:mta").is_some_and(|hop| hop.severity.is_none())).await;
    drop(hop);
}

/// What a channel took just before the gateway was killed is not told again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_is_not_told_again_after_a_kill() {
    // Slow enough that the look which tells is over before.
    let endpoint = Endpoint::start(|_, _| {
        std::thread::sleep(Duration::from_millis(500));
        "204 No Content"
    })
    .await;
    let settings = |every: u32| {
        format!(
            "[alerts]\nevery_seconds = {every}\n\
             [alerts.thresholds]\ndisk_free_ratio = {{ warning = 1.0, critical = 0.0 }}\n\
             [alerts.webhook]\nurl = \"http://{}/hook\"\n",
            endpoint.address
        )
    };
    let sink = Sink::start().await;
    // The next look does not come in this test.
    let gateway = Gateway::start_with(sink.address, &settings(600)).await;
    endpoint.wait_for(1).await;
    let state = || Board::new(&gateway.data()).state().unwrap();
    until("the board knows that it was taken", &gateway, || state().is_some_and(|state| state.untold.is_empty())).await;
    gateway.kill();
    gateway.configure(sink.address, &settings(1));
    gateway.start().await;
    looks(&gateway, 3).await;
    let told = endpoint.got();
    let told: Vec<Value> = told.iter().flat_map(|got| got.json()["alerts"].as_array().unwrap().clone()).collect();
    assert_eq!(told.iter().filter(|line| line["kind"] == "disk").count(), 1, "{told:?}");
}

/// What a dead gateway saw last is not shown as if it were so now.
#[tokio::test]
async fn a_dead_gateways_alerts_are_shown_as_old() {
    let gateway = Gateway::prepare("127.0.0.1:9".parse().unwrap(), "");
    let board = Board::new(&gateway.data());
    let mut machine = Machine::new(AlertsConfig::default(), Vec::new());
    let bad = Measure { kind: Kind::Disk, subject: "data".into(), value: Some(0.01), note: None };
    machine.step(&[bad], &[], Now { ms: now_ms(), steady_ms: 0 });
    let write = |age_ms: i64| {
        let (node, alerts) = ("gw.example.com".into(), machine.alerts().cloned().collect());
        let state = BoardState { node, at_ms: now_ms() - age_ms, every_seconds: 10, alerts, ..BoardState::default() };
        board.write(&state).unwrap();
    };
    write(40_000);
    let listed = gateway.command(&["alert", "list"]).await;
    let text = listed.text();
    let first = text.lines().next().unwrap_or_default();
    assert!(first.contains("gw.example.com last looked at") && text.contains("disk:data"), "{listed:?}");
    let json = gateway.command(&["alert", "list", "--json"]).await.json();
    assert_eq!(json[0]["stale"], true);
    write(0);
    let listed = gateway.command(&["alert", "list"]).await.text();
    assert!(!listed.contains("last looked") && listed.contains("disk:data"), "{listed}");
}
