//! A real Postfix on both sides of the relay: before-queue (`smtpd_proxy_filter`, it sends XFORWARD) and as the next hop.

use std::time::Duration;

use mailweir::gateway::relay::RelayConfig;
use mailweir::pipeline::{Answer, Refusal};
use tokio::net::TcpListener;

use crate::support::next_hop::{Behaviour, NextHop};
use crate::support::postfix::{Options, Postfix, available};
use crate::support::relay::{Judge, TestRelay, hop, hops};
use crate::support::smtp_client::{SmtpClient, assert_starts};

/// No Message-Id, no Date, odd spaces, 8-bit, dots, a To that Postfix would rewrite for local clients.
const TEXT: &str = "From: Peacock - offer ,_<x@y.example>\r\nTO:  undisclosed\r\nSubject: a\r\n\t b  \r\nX-Empty:\r\n\r\n\
                    .dot\r\n..\r\n\r\n8-bit \u{e9}\r\nFrom here\r\n   \r\n\r\n";

struct Scene {
    sink: NextHop,
    relay: TestRelay,
    postfix: Postfix,
}

impl Scene {
    async fn set() -> Self {
        let sink = NextHop::start(Behaviour::default()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = Options {
            proxy_filter: Some(listener.local_addr().unwrap()),
            sink: Some(sink.address),
            ..Options::default()
        };
        let postfix = Postfix::start(options).await;
        let config = RelayConfig { xforward_from: vec!["127.0.0.0/8".parse().unwrap()], ..RelayConfig::default() };
        let to = hops(vec![hop("mta", postfix.reinject)]);
        let relay = TestRelay::start_on(listener, config, to, Judge::default()).await;
        Self { sink, relay, postfix }
    }

    /// Waits for the message at the sink; its text below the traces.
    async fn delivered(&self, count: usize) -> String {
        for _ in 0..400 {
            if let Some(message) = self.sink.messages().get(count - 1) {
                let content = String::from_utf8(message.content()).unwrap();
                return content[content.find("From: Peacock").expect("the first field")..].to_owned();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nothing delivered:\n{}", self.postfix.log());
    }
}

fn stuffed() -> String {
    TEXT.replace("\r\n.", "\r\n..")
}

#[tokio::test]
async fn before_queue_and_in_front() {
    if !available("postfix_relay::before_queue_and_in_front") {
        return;
    }
    let scene = Scene::set().await;
    // Before the queue: Postfix's own answer to the sender is the one that came through us from Postfix's second smtpd.
    let (mut client, _) = SmtpClient::greeted(scene.postfix.smtp).await;
    assert_starts(&client.send(&["a@example.com", "b@example.com"], &stuffed()).await, "250 2.0.0 Ok: queued as");
    assert_eq!(scene.delivered(1).await, TEXT);
    let seen = scene.relay.judge.seen.lock().unwrap()[0].connection.clone();
    assert_eq!(seen.helo.as_deref(), Some("client.example"), "as forwarded by XFORWARD");
    assert_eq!(seen.client_ip, "127.0.0.1".parse().ok());

    scene.relay.answer(Answer::Reject(Refusal { code: 550, enhanced: [5, 7, 1], text: "no id=7".into() }));
    assert_starts(&client.send(&["a@example.com"], &stuffed()).await, "550 5.7.1 no id=7");
    scene.relay.answer(Answer::Deliver { edits: vec![], held: vec![] });

    // In front: the next hop is Postfix, and a recipient it refuses is refused to the sender.
    let (mut client, offer) = SmtpClient::greeted(scene.relay.address).await;
    assert!(offer.contains("8BITMIME") && offer.contains("DSN"), "{offer}");
    for number in 2..5 {
        assert_starts(&client.send(&["a@example.com"], &stuffed()).await, "250 2.0.0 Ok: queued as");
        assert_eq!(scene.delivered(number).await, TEXT);
    }
    client.ask("MAIL FROM:<s@example.net>").await;
    assert_starts(&client.ask("RCPT TO:<\"bad..\"@>").await, "501");
    assert_eq!(scene.sink.messages().len(), 4, "the refused one was not passed on");
    assert!(scene.postfix.queue().is_empty(), "{:?}", scene.postfix.queue());
}
