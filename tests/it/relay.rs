//! The relay between a client and a next hop, over real sockets.

use std::time::Duration;

use mailweir::gateway::next_hop::{HopConfig, NextHopsConfig, ProxyVersion, RouteConfig, SendError, TlsMode};
use mailweir::gateway::relay::RelayConfig;
use mailweir::gateway::tls::ServerTls;
use mailweir::mail::{Edit, Envelope, Path};
use mailweir::pipeline::{Answer, Refusal};
use mailweir::protocol::smtp::Dialect;
use tokio::io::AsyncWriteExt as _;

use crate::support::next_hop::{Behaviour, NextHop};
use crate::support::relay::{Judge, TestRelay, hop, hops};
use crate::support::smtp_client::{SmtpClient, assert_starts};

const TEXT: &str = "From: a@client.example\r\nSubject:  two  spaces\r\n\tfolded\r\n\r\n8-bit \u{e9}\r\n\r\n";

async fn pair(behaviour: Behaviour) -> (NextHop, TestRelay) {
    let next = NextHop::start(behaviour).await;
    let relay = TestRelay::start(RelayConfig::default(), hops(vec![hop("mta", next.address)])).await;
    (next, relay)
}

fn refusal(code: u16, enhanced: [u16; 3]) -> Refusal {
    Refusal { code, enhanced, text: "no id=1".into() }
}

#[tokio::test]
async fn bytes_pass_unaltered_below_our_trace() {
    let (next, relay) = pair(Behaviour::default()).await;
    let (mut client, offer) = SmtpClient::greeted(relay.address).await;
    for keyword in ["PIPELINING", "SIZE 10000000", "8BITMIME", "DSN", "SMTPUTF8", "ENHANCEDSTATUSCODES", "STARTTLS"] {
        assert!(offer.contains(keyword), "{offer}");
    }
    assert!(!offer.contains("CHUNKING") && !offer.contains("XCLIENT") && !offer.contains("XFORWARD"));
    let mail = "MAIL FROM:<s@client.example> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=a+2Bb";
    assert_starts(&client.ask(mail).await, "250");
    let rcpt = "RCPT TO:<R@y.example> NOTIFY=SUCCESS ORCPT=rfc822;R+2Bx@y.example";
    assert_starts(&client.ask(rcpt).await, "250 2.1.0");
    assert_starts(&client.ask("DATA").await, "354");
    client.write(format!("{TEXT}.\r\n").as_bytes()).await;
    assert_eq!(client.reply().await, "250 2.0.0 Ok: queued as HOP1");
    let message = next.messages().pop().unwrap();
    assert_eq!((message.mail.as_str(), message.rcpt[0].as_str()), (mail, rcpt));
    assert_eq!(message.below_trace(), TEXT);
    let content = String::from_utf8(message.content()).unwrap();
    assert!(
        content.starts_with("Received: from client.example (unknown [127.0.0.1])\r\n\tby relay.example"),
        "{content}"
    );
    assert_starts(&client.ask("QUIT").await, "221");
    assert_eq!(client.reply().await, "");
}

#[tokio::test]
async fn many_messages_reuse_one_connection() {
    let (next, relay) = pair(Behaviour::default()).await;
    for _ in 0..3 {
        let (mut client, _) = SmtpClient::greeted(relay.address).await;
        for _ in 0..3 {
            assert_starts(&client.send(&["a@y.example", "b@y.example"], TEXT).await, "250");
        }
    }
    assert_eq!((next.messages().len(), next.connections()), (9, 1));
}

#[tokio::test]
async fn replies_to_recipients_are_the_next_hops() {
    let replies = vec![
        ("bad@", "550 5.1.1 no such user".to_owned()),
        ("later@", "450 4.2.0 grey".to_owned()),
        ("odd@", "550-one\r\n550 tw\u{1b}o".to_owned()),
    ];
    let (next, relay) = pair(Behaviour { replies, ..Behaviour::default() }).await;
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    client.ask("MAIL FROM:<>").await;
    assert_starts(&client.ask("RCPT TO:<bad@y.example>").await, "550 5.1.1 no such user");
    assert_starts(&client.ask("DATA").await, "554 5.5.1");
    assert_starts(&client.ask("RCPT TO:<a@y.example>").await, "250");
    assert_starts(&client.ask("RCPT TO:<later@y.example>").await, "450 4.2.0 grey");
    assert_eq!(client.ask("RCPT TO:<odd@y.example>").await, "550-5.0.0 one\r\n550 5.0.0 tw?o");
    assert_starts(&client.ask("RCPT TO:<b@y.example>").await, "250");
    client.ask("DATA").await;
    client.write(b".\r\n").await;
    assert_starts(&client.reply().await, "250");
    assert_eq!(next.messages()[0].rcpt, ["RCPT TO:<a@y.example>", "RCPT TO:<b@y.example>"]);
    let seen = relay.judge.seen.lock().unwrap()[0].clone();
    assert_eq!(seen.envelope.recipients, [Path::new("a@y.example"), Path::new("b@y.example")]);
}

#[tokio::test]
async fn sender_refused_by_the_next_hop() {
    let (next, relay) =
        pair(Behaviour { replies: vec![("MAIL", "553 5.1.8 no".into())], ..Behaviour::default() }).await;
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    client.ask("MAIL FROM:<a@b.example>").await;
    assert_starts(&client.ask("RCPT TO:<a@y.example>").await, "553 5.1.8");
    assert_starts(&client.ask("RCPT TO:<b@y.example>").await, "553 5.1.8");
    assert_starts(&client.ask("RSET").await, "250");
    next.set(|behaviour| behaviour.replies.clear());
    assert_starts(&client.send(&["a@y.example"], TEXT).await, "250");
}

#[tokio::test]
async fn answers_of_the_pipeline() {
    let (next, relay) = pair(Behaviour::default()).await;
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    let cases = [
        (Answer::Reject(refusal(550, [5, 7, 1])), "550 5.7.1 no id=1"),
        (Answer::Defer(refusal(451, [4, 7, 1])), "451 4.7.1 no id=1"),
        (Answer::Reject(refusal(250, [2, 0, 0])), "550 5.7.1"),
        (Answer::Defer(refusal(421, [4, 0, 0])), "451 4.7.1"),
        (Answer::Hold, "250 2.0.0 Ok: queued as "),
        (Answer::HoldAtMta { reason: "x".into(), edits: vec![] }, "451 4.3.0"),
    ];
    for (answer, expected) in cases {
        relay.answer(answer);
        assert_starts(&client.send(&["a@y.example"], TEXT).await, expected);
        // Whatever the answer was: the transaction is over on both sides.
        assert_starts(&client.ask("RCPT TO:<b@y.example>").await, "503");
        assert_starts(&client.ask("DATA").await, "503");
    }
    assert!(next.messages().is_empty());
    assert_eq!(next.commands().iter().filter(|command| *command == "RSET").count(), 6);
    assert_eq!(next.connections(), 1);
}

#[tokio::test]
async fn edits_and_held_recipients() {
    let (next, relay) = pair(Behaviour::default()).await;
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    let edits = vec![
        Edit::Prepend { name: "X-A".into(), value: "1".into() },
        Edit::Replace { name: "subject".into(), occurrence: 1, value: "new".into() },
        Edit::Remove { name: "From".into(), occurrence: 1 },
    ];
    relay.answer(Answer::Deliver { edits, held: vec![1] });
    assert_starts(&client.send(&["a@y.example", "held@y.example", "c@y.example"], TEXT).await, "250");
    let message = next.messages().pop().unwrap();
    assert_eq!(message.rcpt, ["RCPT TO:<a@y.example>", "RCPT TO:<c@y.example>"]);
    assert_eq!(message.below_trace(), "X-A: 1\r\nsubject: new\r\n\r\n8-bit \u{e9}\r\n\r\n");
    relay.answer(Answer::Deliver { edits: vec![], held: vec![0] });
    assert_starts(&client.send(&["a@y.example"], TEXT).await, "451");
    assert_eq!(next.messages().len(), 1);
}

#[tokio::test]
async fn a_panic_or_a_slow_verdict_is_451() {
    let next = NextHop::start(Behaviour::default()).await;
    let config = RelayConfig { verdict_seconds: 1, ..Default::default() };
    let to = hops(vec![hop("mta", next.address)]);
    let panics = TestRelay::start_with(config.clone(), to.clone(), Judge { panics: true, ..Judge::default() }).await;
    let (mut client, _) = SmtpClient::greeted(panics.address).await;
    assert_starts(&client.send(&["a@y.example"], TEXT).await, "451 4.3.0");
    assert_eq!(panics.counted("mailweir_relay_panics_total", ""), 1);
    let slow = TestRelay::start(config, to).await;
    *slow.judge.delay.lock().unwrap() = Duration::from_secs(60);
    let (mut client, _) = SmtpClient::greeted(slow.address).await;
    assert_starts(&client.send(&["a@y.example"], TEXT).await, "451 4.3.0");
    assert!(next.messages().is_empty());
}

#[tokio::test]
async fn next_hop_lost_after_the_dot_is_unknown() {
    let (next, relay) = pair(Behaviour { drop_after_dot: true, ..Behaviour::default() }).await;
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    assert_starts(&client.send(&["a@y.example"], TEXT).await, "451 4.4.2");
    // Not tried again: the hop may have it.
    assert_eq!(next.commands().iter().filter(|command| *command == "DATA").count(), 1);
    next.set(|behaviour| behaviour.drop_after_dot = false);
    assert_starts(&client.send(&["a@y.example"], TEXT).await, "250");
}

#[tokio::test]
async fn final_replies_pass_and_late_ones_do_not() {
    let (next, relay) = pair(Behaviour::default()).await;
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    for (reply, expected) in [
        ("550 5.7.1 content", "550 5.7.1 content"),
        ("452 4.3.1 disk", "452 4.3.1 disk"),
        ("421 4.3.2 going", "451 4.3.0"),
        ("nonsense", "451 4.4.2"),
        ("354 what", "451 4.4.2"),
        // A second reply that nobody asked for: the first is good, the connection is not.
        ("250 2.0.0 one\r\n250 2.0.0 two", "250 2.0.0 one"),
    ] {
        next.set(|behaviour| behaviour.final_reply = reply.into());
        let connections = next.connections();
        assert_starts(&client.send(&["a@y.example"], TEXT).await, expected);
        next.set(|behaviour| behaviour.final_reply = "250 ok".into());
        assert_starts(&client.send(&["a@y.example"], TEXT).await, "250 2.0.0 ok");
        let doubtful = !reply.starts_with("550") && !reply.starts_with("452");
        assert_eq!(next.connections(), connections + usize::from(doubtful), "{reply}");
    }
}

#[tokio::test]
async fn a_stale_connection_is_replaced_once() {
    let (next, relay) = pair(Behaviour { drop_after_message: true, ..Behaviour::default() }).await;
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    for _ in 0..3 {
        assert_starts(&client.send(&["a@y.example", "b@y.example"], TEXT).await, "250");
    }
    // Dead when DATA comes: MAIL and RCPT are repeated on another connection, once.
    next.set(|behaviour| (behaviour.drop_after_message, behaviour.drop_at) = (false, Some(("DATA", 1))));
    assert_starts(&client.send(&["a@y.example", "b@y.example"], TEXT).await, "250");
    let message = next.messages().pop().unwrap();
    assert_eq!((message.rcpt.len(), message.below_trace().as_str(), next.messages().len()), (2, TEXT, 4));
    assert_eq!(relay.counted("mailweir_next_hop_retried_total", ""), 1);
    next.set(|behaviour| behaviour.drop_at = Some(("DATA", 2)));
    assert_starts(&client.send(&["a@y.example", "b@y.example"], TEXT).await, "451 4.4.2");
    assert_eq!(next.messages().len(), 4);
    // The same at the second recipient; and when one taken before is refused then, nothing is delivered to half of them.
    next.set(|behaviour| behaviour.drop_at = Some(("b@", 1)));
    assert_starts(&client.send(&["a@y.example", "b@y.example"], TEXT).await, "250");
    client.ask("MAIL FROM:<a@b.example>").await;
    assert_starts(&client.ask("RCPT TO:<a@y.example>").await, "250");
    next.set(|behaviour| {
        behaviour.drop_at = Some(("b@", 1));
        behaviour.replies = vec![("a@y", "550 5.1.1 gone".into())];
    });
    assert_starts(&client.ask("RCPT TO:<b@y.example>").await, "451 4.3.0");
    client.ask("DATA").await;
    client.write(b"x\r\n.\r\n").await;
    assert_starts(&client.reply().await, "451");
    assert_eq!(next.messages().len(), 5);
}

#[tokio::test]
async fn next_hop_down_and_failover() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = closed.local_addr().unwrap();
    drop(closed);
    let relay = TestRelay::start(RelayConfig::default(), hops(vec![hop("mta", nowhere)])).await;
    let (mut client, offer) = SmtpClient::greeted(relay.address).await;
    assert!(!offer.contains("DSN") && !offer.contains("SMTPUTF8"), "{offer}");
    client.ask("MAIL FROM:<a@b.example>").await;
    assert_starts(&client.ask("RCPT TO:<a@y.example>").await, "451 4.4.1");
    assert_starts(&client.ask("DATA").await, "554");

    let next = NextHop::start(Behaviour::default()).await;
    let relay =
        TestRelay::start(RelayConfig::default(), hops(vec![hop("one", nowhere), hop("two", next.address)])).await;
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    assert_starts(&client.send(&["a@y.example"], TEXT).await, "250");
}

#[tokio::test]
async fn recipients_of_another_hop_are_sent_separately() {
    let (one, two) = (NextHop::start(Behaviour::default()).await, NextHop::start(Behaviour::default()).await);
    let routes = vec![RouteConfig { domains: vec!["two.example".into()], hops: vec!["two".into()] }];
    let config = NextHopsConfig { routes, ..hops(vec![hop("one", one.address), hop("two", two.address)]) };
    let relay = TestRelay::start(RelayConfig::default(), config).await;
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    client.ask("MAIL FROM:<a@b.example>").await;
    assert_starts(&client.ask("RCPT TO:<a@one.example>").await, "250");
    assert_starts(&client.ask("RCPT TO:<a@TWO.example>").await, "452 4.5.3");
    client.ask("DATA").await;
    client.write(b".\r\n").await;
    assert_starts(&client.reply().await, "250");
    assert_starts(&client.send(&["a@two.example"], TEXT).await, "250");
    assert_eq!((one.messages().len(), two.messages().len()), (1, 1));
}

#[tokio::test]
async fn lmtp_takes_one_recipient() {
    let next = NextHop::start(Behaviour { lmtp: true, ..Behaviour::default() }).await;
    let lmtp = HopConfig { dialect: Dialect::Lmtp, ..hop("mta", next.address) };
    let relay = TestRelay::start(RelayConfig::default(), hops(vec![lmtp])).await;
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    for _ in 0..2 {
        client.ask("MAIL FROM:<a@b.example>").await;
        assert_starts(&client.ask("RCPT TO:<a@y.example>").await, "250");
        assert_starts(&client.ask("RCPT TO:<b@y.example>").await, "452 4.5.3");
        client.ask("DATA").await;
        client.write(b"x\r\n.\r\n").await;
        assert_starts(&client.reply().await, "250");
    }
    assert!(next.commands()[0].starts_with("LHLO "));
    assert_eq!((next.messages().len(), next.connections()), (2, 1));
}

#[tokio::test]
async fn old_next_hop_with_helo_only() {
    let (next, relay) = pair(Behaviour { refuse_ehlo: true, ..Behaviour::default() }).await;
    let (mut client, offer) = SmtpClient::greeted(relay.address).await;
    assert!(!offer.contains("8BITMIME") && !offer.contains("DSN"));
    assert_starts(&client.ask("MAIL FROM:<a@b.example> SMTPUTF8").await, "553 5.6.7");
    assert_starts(&client.ask("MAIL FROM:<a@b.example> RET=FULL").await, "555 5.5.4");
    assert_starts(&client.send(&["a@y.example", "b@y.example"], TEXT).await, "250");
    assert_eq!(next.messages()[0].below_trace(), TEXT);
}

fn test_tls() -> (std::sync::Arc<rustls::ServerConfig>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let tls = ServerTls::self_signed(folder.path(), "localhost").unwrap();
    (tls.current(), folder)
}

#[tokio::test]
async fn tls_towards_the_next_hop() {
    let (config, folder) = test_tls();
    let next = NextHop::start(Behaviour { tls: Some(config), ..Behaviour::default() }).await;
    let with = |tls, ca: bool, name: &str| HopConfig {
        tls,
        tls_name: name.into(),
        ca_file: ca.then(|| folder.path().join("relay.crt")),
        ..hop("mta", next.address)
    };
    let cases = [
        (with(TlsMode::Verify, true, "localhost"), "250", true),
        (with(TlsMode::Verify, true, "other.example"), "451 4.4.1", false),
        (with(TlsMode::Opportunistic, false, "whatever.example"), "250", true),
        (with(TlsMode::None, false, ""), "250", false),
    ];
    for (hop, expected, encrypted) in cases {
        next.recorded.lock().unwrap().commands.clear();
        let relay = TestRelay::start(RelayConfig::default(), hops(vec![hop])).await;
        let (mut client, _) = SmtpClient::greeted(relay.address).await;
        client.ask("MAIL FROM:<a@b.example>").await;
        assert_starts(&client.ask("RCPT TO:<a@y.example>").await, expected);
        assert_eq!(next.commands().iter().any(|command| command == "(tls)"), encrypted);
    }
    // Verified TLS is not had in plain text, and bytes behind the 220 are an injection.
    for change in [(|b: &mut Behaviour| b.tls = None) as fn(&mut Behaviour), |b| b.inject = "250 injected\r\n"] {
        next.set(|behaviour| behaviour.tls = Some(test_tls().0));
        next.set(change);
        let relay =
            TestRelay::start(RelayConfig::default(), hops(vec![with(TlsMode::Verify, true, "localhost")])).await;
        let (mut client, _) = SmtpClient::greeted(relay.address).await;
        client.ask("MAIL FROM:<a@b.example>").await;
        assert_starts(&client.ask("RCPT TO:<a@y.example>").await, "451 4.4");
    }
}

#[tokio::test]
async fn starttls_as_server_and_no_injection() {
    let (next, relay) = pair(Behaviour::default()).await;
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    // In one packet: whatever follows STARTTLS must never be executed.
    client.write(b"STARTTLS\r\nMAIL FROM:<evil@x.example>\r\nRCPT TO:<v@y.example>\r\n").await;
    assert_starts(&client.reply().await, "220 2.0.0");
    client.start_tls().await.unwrap();
    assert_starts(&client.ask("RCPT TO:<v@y.example>").await, "503");
    assert_starts(&client.ask("MAIL FROM:<a@b.example>").await, "503");
    let offer = client.ask("EHLO client.example").await;
    assert!(!offer.contains("STARTTLS"), "{offer}");
    assert_starts(&client.ask("STARTTLS").await, "503");
    assert_starts(&client.send(&["a@y.example"], TEXT).await, "250");
    let content = String::from_utf8(next.messages()[0].content()).unwrap();
    assert!(content.contains("(using TLSv1.3 with cipher TLS13_") && content.contains("with ESMTPS id"), "{content}");
    assert!(relay.judge.seen.lock().unwrap()[0].connection.tls.is_some());
    assert_eq!(relay.counted("mailweir_relay_violations_total", "tls_injection"), 1);
}

#[tokio::test]
async fn tls_required() {
    let next = NextHop::start(Behaviour::default()).await;
    let mut config = RelayConfig::default();
    config.tls.required = true;
    let relay = TestRelay::start(config, hops(vec![hop("mta", next.address)])).await;
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    assert_starts(&client.ask("MAIL FROM:<a@b.example>").await, "530 5.7.0");
}

#[tokio::test]
async fn xclient_and_xforward_from_trusted_peers_only() {
    let next = NextHop::start(Behaviour {
        extensions: vec!["XFORWARD NAME ADDR PORT PROTO HELO SOURCE"],
        ..Behaviour::default()
    })
    .await;
    let trusting = RelayConfig {
        xclient_from: vec!["127.0.0.0/8".parse().unwrap()],
        xforward_from: vec!["127.0.0.0/8".parse().unwrap()],
        ..Default::default()
    };
    let to = hops(vec![hop("mta", next.address)]);
    let relay = TestRelay::start(trusting, to.clone()).await;
    let (mut client, offer) = SmtpClient::greeted(relay.address).await;
    assert!(offer.contains("XCLIENT NAME ADDR") && offer.contains("XFORWARD NAME ADDR"), "{offer}");
    assert_starts(&client.ask("XCLIENT ADDR=192.0.2.7 NAME=mail.example LOGIN=joe").await, "220");
    assert_starts(&client.ask("MAIL FROM:<a@b.example>").await, "503");
    client.ask("EHLO real.example").await;
    assert_starts(&client.send(&["a@y.example"], TEXT).await, "250");
    assert_starts(
        &client.ask("XFORWARD ADDR=IPV6:2001:db8::9 NAME=[UNAVAILABLE] HELO=other.example PROTO=ESMTP").await,
        "250",
    );
    assert_starts(&client.send(&["a@y.example"], TEXT).await, "250");
    // XFORWARD lasts for one message.
    assert_starts(&client.send(&["a@y.example"], TEXT).await, "250");
    let seen: Vec<_> = relay.judge.seen.lock().unwrap().iter().map(|t| t.connection.clone()).collect();
    let facts = |place: usize| {
        let c = &seen[place];
        (c.client_ip.unwrap().to_string(), c.client_name.clone(), c.helo.clone().unwrap(), c.login.clone())
    };
    let joe =
        || ("192.0.2.7".to_owned(), Some("mail.example".to_owned()), "real.example".to_owned(), Some("joe".to_owned()));
    assert_eq!(facts(0), joe());
    assert_eq!(facts(1), ("2001:db8::9".into(), None, "other.example".into(), None));
    assert_eq!(facts(2), joe());
    let forwarded: Vec<_> = next.commands().into_iter().filter(|command| command.starts_with("XFORWARD")).collect();
    assert_eq!(
        forwarded[..2],
        [
            "XFORWARD NAME=mail.example ADDR=192.0.2.7 PORT=[UNAVAILABLE] PROTO=ESMTP HELO=real.example",
            "XFORWARD NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::9 PORT=[UNAVAILABLE] PROTO=ESMTP HELO=other.example",
        ]
    );

    let wary = TestRelay::start(RelayConfig::default(), to).await;
    let (mut client, _) = SmtpClient::greeted(wary.address).await;
    assert_starts(&client.ask("XCLIENT ADDR=192.0.2.7").await, "550 5.7.0");
    assert_starts(&client.ask("XFORWARD ADDR=192.0.2.7").await, "550 5.7.0");
}

#[tokio::test]
async fn proxy_protocol_in_and_out() {
    let next = NextHop::start(Behaviour { proxy: true, ..Behaviour::default() }).await;
    let config = RelayConfig { proxy_protocol_from: vec!["127.0.0.1".parse().unwrap()], ..Default::default() };
    let out = HopConfig { proxy_protocol: ProxyVersion::V1, ..hop("mta", next.address) };
    let relay = TestRelay::start(config, hops(vec![out])).await;
    for port in [1001, 1002] {
        let mut client = SmtpClient::connect(relay.address).await;
        client.write(format!("PROXY TCP4 192.0.2.9 198.51.100.1 {port} 25\r\n").as_bytes()).await;
        assert_starts(&client.reply().await, "220");
        client.ask("EHLO client.example").await;
        assert_starts(&client.send(&["a@y.example"], TEXT).await, "250");
    }
    let lines = next.recorded.lock().unwrap().proxy_lines.clone();
    // The first connection only asked what is offered; after that one connection a client.
    assert_eq!(lines.len(), 3);
    assert_starts(&lines[1], "PROXY TCP4 192.0.2.9 127.0.0.1 1001 ");
    assert_starts(&lines[2], "PROXY TCP4 192.0.2.9 127.0.0.1 1002 ");
    let mut client = SmtpClient::connect(relay.address).await;
    client.write(b"EHLO no.header\r\n").await;
    assert_eq!(client.reply().await, "");
}

#[tokio::test]
async fn early_talkers() {
    let next = NextHop::start(Behaviour::default()).await;
    let config = RelayConfig { greet_delay_ms: 200, ..Default::default() };
    let relay = TestRelay::start(config, hops(vec![hop("mta", next.address)])).await;
    let mut client = SmtpClient::connect(relay.address).await;
    client.write(b"EHLO x\r\n").await;
    assert_starts(&client.reply().await, "554 5.5.0");
    assert_eq!(client.reply().await, "");
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    client.write(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<a@y.example>\r\nDATA\r\nSubject: x\r\n.\r\n").await;
    client.reply().await;
    client.reply().await;
    assert_starts(&client.reply().await, "554 5.5.0");
    assert!(next.messages().is_empty());
}

#[tokio::test]
async fn sizes_and_memory() {
    let next = NextHop::start(Behaviour { extensions: vec!["SIZE 3000"], ..Behaviour::default() }).await;
    let config = RelayConfig { max_message_bytes: 5000, ..Default::default() };
    let relay = TestRelay::start(config, hops(vec![hop("mta", next.address)])).await;
    let (mut client, offer) = SmtpClient::greeted(relay.address).await;
    assert!(offer.contains("SIZE 3000"));
    assert_starts(&client.ask("MAIL FROM:<a@b.example> SIZE=3001").await, "552 5.3.4");
    assert_starts(&client.ask("MAIL FROM:<a@b.example> SIZE=99999999999999999999999").await, "552 5.3.4");
    assert_starts(&client.send(&["a@y.example"], &format!("{}\r\n", "x".repeat(2998))).await, "250");
    assert_starts(&client.send(&["a@y.example"], &format!("{}\r\n", "x".repeat(2999))).await, "552 5.3.4");
    assert_eq!(next.messages().len(), 1);

    let next = NextHop::start(Behaviour::default()).await;
    let small = RelayConfig { max_inflight_bytes: 100 * 1024, ..Default::default() };
    let relay = TestRelay::start(small, hops(vec![hop("mta", next.address)])).await;
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    assert_starts(&client.send(&["a@y.example"], &"x\r\n".repeat(100_000)).await, "452 4.3.1");
    assert_starts(&client.send(&["a@y.example"], TEXT).await, "250");
    assert_eq!(next.messages().len(), 1);
}

#[tokio::test]
async fn limits_of_clients() {
    let next = NextHop::start(Behaviour::default()).await;
    let config = RelayConfig {
        max_connections_per_client: 2,
        messages_per_minute_per_client: 2,
        max_recipients: 2,
        max_errors: 5,
        ..Default::default()
    };
    let relay = TestRelay::start(config, hops(vec![hop("mta", next.address)])).await;
    let (mut one, _) = SmtpClient::greeted(relay.address).await;
    let two = SmtpClient::greeted(relay.address).await;
    let mut three = SmtpClient::connect(relay.address).await;
    assert_starts(&three.reply().await, "421 4.3.2");
    drop(two);
    one.ask("MAIL FROM:<a@b.example>").await;
    for recipient in ["a", "b"] {
        assert_starts(&one.ask(&format!("RCPT TO:<{recipient}@y.example>")).await, "250");
    }
    assert_starts(&one.ask("RCPT TO:<c@y.example>").await, "452 4.5.3");
    one.ask("DATA").await;
    one.write(b"x\r\n.\r\n").await;
    assert_starts(&one.reply().await, "250");
    assert_starts(&one.send(&["a@y.example"], TEXT).await, "250");
    assert_starts(&one.ask("MAIL FROM:<a@b.example>").await, "451 4.7.1");
    for _ in 0..5 {
        assert_starts(&one.ask("FOO").await, "500");
    }
    assert_starts(&one.reply().await, "421 4.7.0");
    assert_eq!(one.reply().await, "");
}

#[tokio::test]
async fn mail_loops() {
    let (next, relay) = pair(Behaviour::default()).await;
    let (mut client, _) = SmtpClient::greeted(relay.address).await;
    let own = "Received: from x\r\n\tby relay.example (Mailweir) with SMTP id 1; date\r\n";
    assert_starts(&client.send(&["a@y.example"], &own.repeat(4)).await, "554 5.4.6");
    assert_starts(&client.send(&["a@y.example"], &"Received: by other; date\r\n".repeat(101)).await, "554 5.4.6");
    assert_starts(&client.send(&["a@y.example"], &own.repeat(3)).await, "250");
    assert_eq!(next.messages().len(), 1);
}

#[tokio::test]
async fn drain() {
    let (next, mut relay) = pair(Behaviour { final_delay: Duration::from_millis(300), ..Behaviour::default() }).await;
    let (mut idle, _) = SmtpClient::greeted(relay.address).await;
    let (mut busy, _) = SmtpClient::greeted(relay.address).await;
    busy.begin("a@b.example", &["a@y.example"]).await;
    relay.stop.cancel();
    assert_starts(&idle.reply().await, "421 4.3.2");
    assert!(tokio::net::TcpStream::connect(relay.address).await.is_err());
    busy.write(b"x\r\n.\r\n").await;
    assert_starts(&busy.reply().await, "250");
    assert_starts(&busy.reply().await, "421 4.3.2");
    tokio::time::timeout(Duration::from_secs(5), &mut relay.task).await.expect("it ends").unwrap();
    assert_eq!(next.messages().len(), 1);
}

#[tokio::test]
async fn a_client_that_goes_away_in_data_leaves_nothing() {
    let (next, relay) = pair(Behaviour::default()).await;
    for cut in ["", "Subject: x\r\n", "Subject: x\r\n.\r", "Subject: x\r\n."] {
        let (mut client, _) = SmtpClient::greeted(relay.address).await;
        client.begin("a@b.example", &["a@y.example"]).await;
        client.write(cut.as_bytes()).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(next.messages().is_empty() && relay.judge.seen.lock().unwrap().is_empty());
    assert_eq!(next.commands().iter().filter(|command| *command == "DATA").count(), 0);
}

#[tokio::test]
async fn chunking() {
    let next = NextHop::start(Behaviour::default()).await;
    let config = RelayConfig { chunking: true, ..Default::default() };
    let relay = TestRelay::start(config, hops(vec![hop("mta", next.address)])).await;
    let (mut client, offer) = SmtpClient::greeted(relay.address).await;
    assert!(offer.contains("CHUNKING"));
    let begin = "MAIL FROM:<a@b.example>\r\nRCPT TO:<a@y.example>\r\n";
    // A line end and a lone dot cut by the chunks: opaque octets, no end of data.
    client.write(format!("{begin}BDAT 7\r\nA: b\r\n\rBDAT 12\r\n\n.\r\n.\r\nno enBDAT 1 LAST\r\nd").as_bytes()).await;
    for _ in 0..5 {
        assert_starts(&client.reply().await, "250");
    }
    assert_eq!(next.messages()[0].below_trace(), "A: b\r\n\r\n.\r\n.\r\nno end\r\n");
    let had = next.messages().len();
    client.write(format!("{begin}BDAT 6\r\nA: b\r\nBDAT 9 LAST\r\n\r\n.\r\n.end").as_bytes()).await;
    for _ in 0..4 {
        assert_starts(&client.reply().await, "250");
    }
    assert_eq!(next.messages()[had].below_trace(), "A: b\r\n\r\n.\r\n.end\r\n");
    // Octets of a refused chunk never run as commands, and all is 503 until RSET.
    client.write(b"BDAT 25 LAST\r\nMAIL FROM:<x@y.example>\r\n").await;
    assert_starts(&client.reply().await, "503");
    assert_starts(&client.ask("NOOP").await, "250");
    // A bare LF in a chunk is refused at its end.
    client.write(format!("{begin}BDAT 3 LAST\r\na\nb").as_bytes()).await;
    client.reply().await;
    client.reply().await;
    assert_starts(&client.reply().await, "550 5.6.11");
}

#[tokio::test]
async fn send_now() {
    let (next, relay) = pair(Behaviour { replies: vec![("bad@", "550 no".into())], ..Behaviour::default() }).await;
    let envelope = |recipients: &[&str]| Envelope {
        sender: Path::new(""),
        recipients: recipients.iter().map(|r| Path::new(*r)).collect(),
    };
    let segments = [bytes::Bytes::from_static(b"A: 1\r\n\r\n.x\r\n")];
    let reply = relay.next_hops.send(&envelope(&["a@y.example"]), &segments).await.unwrap();
    assert_eq!(reply.code, 250);
    assert_eq!(next.messages()[0].content(), b"A: 1\r\n\r\n.x\r\n");
    let refused = relay.next_hops.send(&envelope(&["a@y.example", "bad@y.example"]), &segments).await;
    assert!(matches!(refused, Err(SendError::Recipients(list)) if list.len() == 1 && list[0].0 == 1));
    next.set(|behaviour| behaviour.drop_after_dot = true);
    let unknown = relay.next_hops.send(&envelope(&["a@y.example"]), &segments).await;
    assert!(matches!(unknown, Err(SendError::Unknown(_))));
    assert_eq!(next.messages().len(), 1);
}

#[tokio::test]
async fn certificates_are_reloaded() {
    let folder = tempfile::tempdir().unwrap();
    let tls = ServerTls::self_signed(folder.path(), "one.example").unwrap();
    let before = tls.current();
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(folder.path().join("relay.key")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    tokio::fs::File::create(folder.path().join("relay.crt")).await.unwrap().write_all(b"broken").await.unwrap();
    assert!(tls.reload().is_err());
    assert!(std::sync::Arc::ptr_eq(&before, &tls.current()));
    std::fs::remove_file(folder.path().join("relay.crt")).unwrap();
    ServerTls::self_signed(folder.path(), "two.example").unwrap();
    tls.reload().unwrap();
    assert!(!std::sync::Arc::ptr_eq(&before, &tls.current()));
}
