//! The built program with `mailweir dev mock-services`: every service at once, hanging and back.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::mock_services::{MockServices, three_ports};
use crate::support::sink::Sink;

/// Sends a message through the relay and gives it as it arrived.
async fn passed(gateway: &Gateway, sink: &Sink, number: usize) -> String {
    let raw = format!(
        "From: A <a@firm.example>\r\nTo: b@example.com\r\nSubject: number {number}\r\nMessage-ID: <{number}@firm.example>\r\n\
         Date: Fri, 20 Nov 2026 10:00:00 +0000\r\n\r\nHello https://firm.example/{number}\r\n"
    );
    let mut client = Client::connect(gateway.relay).await;
    let reply = client.send("a@firm.example", &["b@example.com"], raw.as_bytes()).await;
    assert!(reply.starts_with("250"), "{reply}\n{}", gateway.log());
    let mails = sink.wait_for(number + 1).await;
    let mark = format!("Subject: number {number}\r\n");
    let mail = mails.iter().map(|mail| String::from_utf8_lossy(&mail.raw).into_owned()).find(|raw| raw.contains(&mark));
    mail.unwrap_or_else(|| panic!("number {number} is lost"))
}

/// The header that marks a degraded verdict.
fn degraded(mail: &str) -> Option<&str> {
    mail.lines().find_map(|line| line.strip_prefix("X-Mailweir-Degraded: "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_services_hang_at_once_and_come_back() {
    let sink = Sink::start().await;
    let port = three_ports();
    let start = move |fault: &'static str| tokio::task::spawn_blocking(move || MockServices::start(port, fault));
    let hanging = start("hang").await.unwrap();
    let gateway = Gateway::start_with(sink.address, &hanging.quick(0.0)).await;
    let mut number = 0;
    let first = passed(&gateway, &sink, number).await;
    let marks = degraded(&first).unwrap_or_else(|| panic!("not marked\n{first}"));
    for fact in ["malware=timeout", "lists=timeout", "urls=timeout", "text=timeout", "domains=timeout"] {
        assert!(marks.contains(fact), "{fact} is not in {marks}");
    }
    // Each is left alone before long; which of them is tried again differs from message to message.
    let mut left_alone = BTreeSet::new();
    while left_alone.len() < 5 {
        number += 1;
        assert!(number < 50, "the breakers do not open\n{}", gateway.log());
        let mail = passed(&gateway, &sink, number).await;
        let marks = degraded(&mail).expect("marked").to_owned();
        left_alone.extend(marks.split(' ').filter_map(|mark| mark.strip_suffix("=breaker_open")).map(str::to_owned));
    }
    let doctor = gateway.command(&["doctor", "--json"]).await;
    let looks = doctor.json();
    let found = |what: &str| looks.iter().find(|look| look["what"] == what).unwrap_or_else(|| panic!("{looks:?}"));
    assert_eq!(found("clamd")["finding"], "problem");
    drop(hanging);

    let _well = start("none").await.unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        number += 1;
        let mail = passed(&gateway, &sink, number).await;
        if degraded(&mail).is_none() {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "not recovered: {:?}\n{}", degraded(&mail), gateway.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let looks = gateway.command(&["doctor", "--json"]).await.json();
    for what in ["clamd", "block_list:ip.mock", "block_list:domain.mock", "url_service", "text_service", "rdap"] {
        let look = looks.iter().find(|look| look["what"] == what).unwrap_or_else(|| panic!("{what}: {looks:?}"));
        assert_eq!(look["finding"], "ok", "{look}");
    }
    // Neither lost nor doubled.
    assert_eq!(sink.mails().len(), number + 1);
}

#[tokio::test]
async fn a_deadline_longer_than_the_messages_is_refused() {
    let settings = "[enrichment.clamd]\nenabled = true\n[enrichment.clamd.service.call]\ndeadline_ms = 60000\n";
    let gateway = Gateway::prepare("127.0.0.1:9".parse().unwrap(), settings);
    let ran = gateway.command(&["config", "check"]).await;
    let said = format!("{}{}", ran.text(), ran.stderr);
    assert!(!ran.ok && said.contains("enrichment.clamd.service.call.deadline_ms is longer than"), "{said}");
}
