//! Every pair of line ends around the dot, written in pieces: at most one message reaches the next hop, and on that wire
//! nothing but CRLF . CRLF ends data.

use mailweir::gateway::relay::RelayConfig;
use mailweir::protocol::smtp::BareNewline;

use crate::support::next_hop::{Behaviour, NextHop};
use crate::support::relay::{TestRelay, hop, hops};
use crate::support::smtp_client::{SmtpClient, assert_starts};

const SMUGGLED: &str =
    "MAIL FROM:<evil@x.example>\r\nRCPT TO:<victim@y.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nboo";

#[tokio::test]
async fn one_message_whatever_surrounds_the_dot() {
    for policy in [BareNewline::Reject, BareNewline::Normalize] {
        let next = NextHop::start(Behaviour::default()).await;
        let config = RelayConfig { bare_newline: policy, max_errors: 1000, ..Default::default() };
        let relay = TestRelay::start(config, hops(vec![hop("mta", next.address)])).await;
        let ends = ["\r", "\n", "\r\n"];
        for before in ends {
            for after in ends.into_iter().filter(|after| (before, *after) != ("\r\n", "\r\n")) {
                one_case(&relay, &next, policy, before, after).await;
            }
        }
    }
}

async fn one_case(relay: &TestRelay, next: &NextHop, policy: BareNewline, before: &str, after: &str) {
    let content = format!("Subject: x\r\n\r\nline{before}.{after}{SMUGGLED}\r\n.\r\n");
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    // Cut at every byte; what the framer does with each piece by itself is shown by its own tests.
    for cut in 1..content.len() {
        let had = next.messages().len();
        client.begin("sender@client.example", &["rcpt@y.example"]).await;
        client.write(&content.as_bytes()[..cut]).await;
        tokio::task::yield_now().await;
        client.write(&content.as_bytes()[cut..]).await;
        let reply = client.reply().await;
        let case = format!("{before:?}.{after:?} cut at {cut}, {policy:?}");
        let now = next.messages();
        match policy {
            BareNewline::Reject => {
                assert_starts(&reply, "550 5.6.11");
                assert_eq!(now.len(), had, "{case}");
            }
            BareNewline::Normalize => {
                assert_starts(&reply, "250");
                assert_eq!(now.len(), had + 1, "{case}");
                let message = now.last().unwrap();
                let wire = String::from_utf8(message.wire.clone()).unwrap();
                assert!(wire.contains("MAIL FROM:<evil@x.example>"), "{case}: {wire}");
                assert!(!wire.replace("\r\n", "").contains(['\r', '\n']), "{case}: {wire:?}");
                let shown = relay.judge.seen.lock().unwrap().last().unwrap().raw.clone();
                assert_eq!(message.below_trace().as_bytes(), &shown[..], "{case}");
            }
        }
        // The conversation is where it should be: nothing of the content ran as a command.
        assert_starts(&client.ask("RCPT TO:<again@y.example>").await, "503");
    }
    assert!(!next.commands().iter().any(|command| command.contains("evil@x.example")));
}

#[tokio::test]
async fn a_nul_and_dots_and_long_lines() {
    let next = NextHop::start(Behaviour::default()).await;
    let relay = TestRelay::start(RelayConfig::default(), hops(vec![hop("mta", next.address)])).await;
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    assert_starts(&client.send(&["r@y.example"], "a\0b\r\n").await, "550 5.6.11");
    let body = format!("Subject: x\r\n\r\n..\r\n...two\r\n{}\r\nend.\r\n", "y".repeat(5000));
    assert_starts(&client.send(&["r@y.example"], &body).await, "250");
    let expected = body.replace("\r\n..\r\n...two", "\r\n.\r\n..two");
    assert_eq!(next.messages().pop().unwrap().below_trace(), expected);
}
