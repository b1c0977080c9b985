//! A reload of what is watched and who is told: nothing is lost, nothing is told twice, and what is wrong changes nothing.

use std::net::SocketAddr;

use mailweir::enforcement::alert::{Alert, Board, Kind};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::support::endpoint::{Endpoint, Got};
use crate::support::gateway::{Gateway, until};

/// The next hop, which nobody needs here.
const HOP: ([u8; 4], u16) = ([127, 0, 0, 1], 9);

/// What the disk is told to be, in the order in which it was told.
fn disk(got: &[Got]) -> Vec<(String, String)> {
    let word = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    let lines = got.iter().flat_map(|got| got.json()["alerts"].as_array().unwrap().clone());
    let lines = lines.filter(|line| line["kind"] == "disk");
    lines.map(|line| (word(&line, "what"), word(&line, "severity"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thresholds_and_channels_follow_a_reload() {
    let settings = |place: SocketAddr, (warning, critical): (f64, f64), rest: &str| {
        format!(
            "[workers]\nenabled = false\n[alerts]\nevery_seconds = 1\nresolve_after_seconds = 0\n{rest}\
             [alerts.thresholds]\ndisk_free_ratio = {{ warning = {warning:.1}, critical = {critical:.1} }}\n\
             [alerts.webhook]\nurl = \"http://{place}/hook\"\n[alerts.call]\ndeadline_ms = 60000\n"
        )
    };
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = hanging.local_addr().unwrap();
    // There is always less than everything free.
    let gateway = Gateway::start_with(HOP.into(), &settings(dead, (1.0, 0.0), "")).await;
    let _held = hanging.accept().await.unwrap();
    let board = Board::new(&gateway.data());
    let state = |is: fn(&Alert) -> bool| {
        let known = board.state().unwrap().map(|state| state.alerts).unwrap_or_default();
        known.iter().any(|alert| alert.kind == Kind::Disk && is(alert))
    };
    until("it fires", &gateway, || state(|disk| disk.told.is_some())).await;
    let reloads = || gateway.log().matches("configuration reloaded").count();

    // Wrong settings change nothing, whatever else is right in them.
    for (wrong, named) in [
        ("[alerts.mail]\nto = [\"no address\"]\n", "alerts.mail: `no address`"),
        ("[actions.webhook]\nurl = \"ftp://x.example\"\n", "actions.webhook.url: no http"),
        ("[actions.notify]\nto = [\"no address\"]\n", "actions.notify: `no address`"),
    ] {
        gateway.configure(HOP.into(), &settings(dead, (0.0, 0.0), wrong));
        gateway.hang_up();
        until(named, &gateway, || gateway.log().contains(named)).await;
    }
    assert!(state(|disk| disk.severity.is_some()), "it fires as before");
    assert_eq!(reloads(), 0);

    // Another channel: what the first one hangs on is told by it, and once.
    let endpoint = Endpoint::start(|_, _| "204 No Content").await;
    gateway.configure(HOP.into(), &settings(endpoint.address, (1.0, 0.0), ""));
    until("it is told by the new channel", &gateway, || !disk(&endpoint.got()).is_empty()).await;
    // Other thresholds: it becomes worse, and then it ends.
    gateway.configure(HOP.into(), &settings(endpoint.address, (1.0, 1.0), ""));
    until("it becomes critical", &gateway, || disk(&endpoint.got()).len() == 2).await;
    gateway.configure(HOP.into(), &settings(endpoint.address, (0.0, 0.0), ""));
    until("it ends", &gateway, || disk(&endpoint.got()).len() == 3).await;
    let told = disk(&endpoint.got());
    let what: Vec<&str> = told.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(what, ["fired", "escalated", "resolved"], "{told:?}");
    assert_eq!((told[0].1.as_str(), told[1].1.as_str()), ("warning", "critical"));

    // Whether anything is watched is decided at the start.
    gateway.configure(HOP.into(), &settings(endpoint.address, (1.0, 0.0), "enabled = false\n"));
    until("it is watched all the same", &gateway, || disk(&endpoint.got()).len() == 4).await;
    let waiting = "these settings take effect after a restart";
    let line = gateway.log().lines().find(|line| line.contains(waiting)).map(str::to_owned).unwrap_or_default();
    assert!(line.contains("alerts.enabled") && !line.contains("alerts.thresholds"), "{line}");
    assert!(gateway.terminate().await.success(), "{}", gateway.log());
}
