//! A real Postfix asks the milter door; the answers are looked at from both of its ends, the client's and the next hop's.

use std::time::Duration;

use mailweir::gateway::milter::Config;
use mailweir::mail::Edit;
use mailweir::pipeline::{Answer, Refusal, Transaction};

use crate::support::client::{Client, stuffed};
use crate::support::milter::{Door, Scripted, deliver};
use crate::support::postfix::{Options, Postfix, available};
use crate::support::sink::Sink;

/// A sink, Postfix before it, the milter door beside.
struct Scene {
    sink: Sink,
    door: Door,
    postfix: Postfix,
}

impl Scene {
    async fn set(config: Config, script: impl Fn(&Transaction) -> Answer + Send + Sync + 'static) -> (Self, SeenBy) {
        let inspect = Scripted::new(move |transaction| (Duration::ZERO, Some(script(transaction))));
        let sink = Sink::start().await;
        let door = Door::open(config, inspect.clone()).await;
        let milter = Some(door.endpoint.to_string());
        let postfix = Postfix::start(Options { milter, sink: Some(sink.address), ..Options::default() }).await;
        (Self { sink, door, postfix }, inspect)
    }
}

type SeenBy = std::sync::Arc<Scripted>;

fn subject(transaction: &Transaction) -> String {
    let raw = String::from_utf8_lossy(&transaction.raw).into_owned();
    let line = raw.lines().find_map(|line| line.strip_prefix("Subject: "));
    line.unwrap_or_default().to_owned()
}

fn refusal(code: u16, text: &str) -> Refusal {
    Refusal { code, enhanced: [code / 100, 7, 1], text: text.into() }
}

fn message(subject: &str) -> Vec<u8> {
    format!("From: Ada <ada@example.net>\r\nSubject: {subject}\r\n\r\nHello.\r\n").into_bytes()
}

#[tokio::test]
async fn edits_arrive_and_everything_else_byte_for_byte() {
    if !available("postfix_milter::edits_arrive_and_everything_else_byte_for_byte") {
        return;
    }
    let edit = |transaction: &Transaction| {
        assert!(!transaction.raw.is_empty());
        let prepend = |name: &str, value: &str| Edit::Prepend { name: name.into(), value: value.into() };
        let edits = vec![
            prepend("X-First", "1"),
            prepend("X-Second", "2\n\tfolded"),
            Edit::Replace { name: "Subject".into(), occurrence: 1, value: "[odd] new".into() },
            Edit::Remove { name: "X-Dup".into(), occurrence: 1 },
            Edit::Remove { name: "X-Dup".into(), occurrence: 3 },
        ];
        Answer::Deliver { edits, held: vec![] }
    };
    let (scene, inspect) = Scene::set(Config::default(), edit).await;
    let raw = b"From:Ada <ada@example.net>\r\nTo:  Bob\r\n\t<bob@example.com>\r\nSubject: old\r\nX-Dup: one\r\nX-Dup: two\r\n\
        X-Dup: three\r\nX-Empty:\r\nX-Tab:\ttab \r\nX-Eight: \xe4\xff\r\n\r\n.dot\r\n..two dots\r\n  spaces \r\n\xe4\r\n\r\nlast\r\n";
    let mut client = Client::connect(scene.postfix.smtp).await;
    let reply = client.send("ada@example.net", &["bob@example.com"], raw).await;
    assert!(reply.starts_with("250"), "{reply}");
    let mails = scene.sink.wait_for(1).await;

    let seen = &inspect.seen()[0];
    assert_eq!(seen.raw.escape_ascii().to_string(), raw.escape_ascii().to_string(), "what was judged is what was sent");
    let connection = &seen.connection;
    assert_eq!(connection.client_ip.unwrap().to_string(), "127.0.0.1");
    assert!(connection.client_port.is_some());
    assert_eq!(connection.client_name, None, "an unknown name is none");
    assert_eq!(connection.helo.as_deref(), Some("client.example.net"));
    assert_eq!(connection.receiver.as_deref(), Some("mx.example.com"));
    assert!(connection.queue_id.is_some());
    assert_eq!((connection.tls.as_ref(), connection.login.as_ref()), (None, None));
    assert_eq!(seen.envelope.sender.text, "ada@example.net");
    assert_eq!(seen.envelope.recipients[0].text, "bob@example.com");

    let arrived = &mails[0].raw;
    let top = b"X-First: 1\r\nX-Second: 2\r\n\tfolded\r\n";
    assert!(arrived.starts_with(top), "{}", arrived.escape_ascii());
    let below = crate::support::sink::Mail { raw: arrived[top.len()..].to_vec(), ..mails[0].clone() }.without_trace();
    let expected =
        b"From:Ada <ada@example.net>\r\nTo:  Bob\r\n\t<bob@example.com>\r\nSubject: [odd] new\r\nX-Dup: two\r\n\
        X-Empty:\r\nX-Tab:\ttab \r\nX-Eight: \xe4\xff\r\n\r\n.dot\r\n..two dots\r\n  spaces \r\n\xe4\r\n\r\nlast\r\n";
    assert_eq!(below.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[tokio::test]
async fn answers_on_one_connection() {
    if !available("postfix_milter::answers_on_one_connection") {
        return;
    }
    let mut config = Config::default();
    config.limits.message_bytes = 500_000;
    let (scene, inspect) = Scene::set(config, |transaction| match subject(transaction).as_str() {
        "reject" => Answer::Reject(refusal(550, "100% refused")),
        "defer" => Answer::Defer(refusal(451, "Later")),
        "hold" => Answer::Hold,
        _ => deliver(),
    })
    .await;
    let mut client = Client::connect(scene.postfix.smtp).await;
    let to = ["bob@example.com"];
    for (subject, expected) in [
        ("fine", "250 2.0.0 Ok"),
        ("reject", "550 5.7.1 100% refused"),
        ("defer", "451 4.7.1 Later"),
        ("fine", "250 2.0.0 Ok"),
        ("hold", "250 2.0.0 Ok"),
        ("reject", "550 5.7.1 100% refused"),
        ("fine", "250 2.0.0 Ok"),
    ] {
        let reply = client.send("ada@example.net", &to, &message(subject)).await;
        assert!(reply.starts_with(expected), "{subject}: {reply}");
    }
    // A message begun and given up, EHLO in a transaction, an unknown command, and a message beyond the limit.
    for line in ["MAIL FROM:<eve@example.org>", "RCPT TO:<eve@example.com>", "RSET", "EHLO again.example.net"] {
        let reply = client.command(line).await;
        assert!(reply.starts_with("250"), "{line}: {reply}");
    }
    assert!(client.command("FOO").await.starts_with("50"));
    for line in ["MAIL FROM:<eve@example.org>", "RCPT TO:<eve@example.com>", "EHLO third.example.net"] {
        let reply = client.command(line).await;
        assert!(reply.starts_with("250"), "{line}: {reply}");
    }
    let mut big = message("big");
    big.extend(b"0123456789\r\n".repeat(50_000));
    let reply = client.send("ada@example.net", &to, &big).await;
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    let reply = client.send("", &["bob@example.com", "carol@example.com"], &message("last")).await;
    assert!(reply.starts_with("250"), "{reply}");

    let mails = scene.sink.wait_for(4).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(scene.sink.mails().len(), 4, "what was refused or discarded goes nowhere");
    assert!(mails.iter().all(|mail| !mail.raw.windows(4).any(|w| w == b"hold")));
    let last = inspect.seen().pop().unwrap();
    assert!(last.envelope.sender.is_null());
    assert_eq!(last.envelope.recipients.len(), 2);
    assert_eq!(last.connection.helo.as_deref(), Some("third.example.net"));
    assert_eq!(inspect.seen().len(), 8, "one connection of the client is one of the milter");
    assert_eq!(scene.door.metrics.connections_total.get(), 2, "the probe at the start, and the client");
    for kind in ["out_of_order", "malformed", "timeout", "io"] {
        assert_eq!(scene.door.faults(kind), 0, "{kind}\n{}", scene.postfix.log());
    }
    let log = scene.postfix.log();
    assert!(!log.contains("milter") || !log.contains("warning: milter"), "{log}");
}

#[tokio::test]
async fn the_hold_queue_and_its_release() {
    if !available("postfix_milter::the_hold_queue_and_its_release") {
        return;
    }
    let (scene, _) = Scene::set(Config::default(), |transaction| match subject(transaction).as_str() {
        "odd" => Answer::HoldAtMta {
            reason: "looks odd".into(),
            edits: vec![Edit::Prepend { name: "X-Held".into(), value: "yes".into() }],
        },
        _ => deliver(),
    })
    .await;
    let mut client = Client::connect(scene.postfix.smtp).await;
    assert!(client.send("a@example.net", &["bob@example.com"], &message("odd")).await.starts_with("250"));
    assert!(client.send("a@example.net", &["bob@example.com"], &message("fine")).await.starts_with("250"));
    let mails = scene.sink.wait_for(1).await;
    assert!(mails[0].without_trace().ends_with(&message("fine")));
    // What was passed on leaves Postfix' queue a moment after the sink has it.
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    let mut queue = scene.postfix.queue();
    while queue.len() > 1 && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
        queue = scene.postfix.queue();
    }
    assert_eq!(queue.len(), 1, "{queue:?}");
    assert!(queue[0].contains("\"queue_name\": \"hold\""), "{queue:?}");
    scene.postfix.command("postsuper", &["-H", "ALL"]);
    scene.postfix.command("postqueue", &["-f"]);
    let mails = scene.sink.wait_for(2).await;
    assert!(mails[1].raw.starts_with(b"X-Held: yes\r\n"), "{}", mails[1].raw.escape_ascii());
    assert!(mails[1].raw.ends_with(&message("odd")));
}

#[tokio::test]
async fn recipients_are_taken_out() {
    if !available("postfix_milter::recipients_are_taken_out") {
        return;
    }
    let (scene, inspect) = Scene::set(Config::default(), |transaction| {
        let held = |text: &str| text.contains("held");
        let recipients = transaction.envelope.recipients.iter().enumerate();
        let held = recipients.filter(|(_, r)| held(&r.text)).map(|(place, _)| place).collect();
        Answer::Deliver { edits: vec![], held }
    })
    .await;
    let mut client = Client::connect(scene.postfix.smtp).await;
    let to = ["a@example.com", "held-b@example.com", "c@example.com", "\"held d\"@example.com", "e+x=y@example.com"];
    assert!(client.send("s@example.net", &to, &message("some")).await.starts_with("250"));
    let to = ["held-f@example.com", "held-g@example.com"];
    assert!(client.send("s@example.net", &to, &message("all")).await.starts_with("250"));
    assert!(client.send("s@example.net", &["z@example.com"], &message("none")).await.starts_with("250"));
    let mut recipients = Vec::new();
    while recipients.len() < 4 {
        recipients = scene.sink.mails().into_iter().flat_map(|mail| mail.recipients).collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut recipients: Vec<String> = scene.sink.mails().into_iter().flat_map(|mail| mail.recipients).collect();
    recipients.sort();
    let named = |text: &str| recipients.iter().any(|r| r.contains(text));
    assert!(!named("held"), "{recipients:?}");
    assert_eq!(recipients.len(), 4, "{recipients:?}");
    assert_eq!(inspect.seen().len(), 3);
}

#[tokio::test]
async fn pipelined_messages_keep_apart() {
    if !available("postfix_milter::pipelined_messages_keep_apart") {
        return;
    }
    let (scene, inspect) = Scene::set(Config::default(), |transaction| match subject(transaction).as_str() {
        "reject" => Answer::Reject(refusal(554, "No")),
        _ => deliver(),
    })
    .await;
    let mut client = Client::connect(scene.postfix.smtp).await;
    // Content of one message and the commands of the next in one piece (RFC 2920 allows it).
    let start =
        |n: usize| format!("MAIL FROM:<s{n}@example.net>\r\nRCPT TO:<r{n}@example.com>\r\nDATA\r\n").into_bytes();
    client.write(&start(0)).await;
    for n in 0..6 {
        for expected in ["250", "250", "354"] {
            let reply = client.reply().await;
            assert!(reply.starts_with(expected), "{n}: {reply}");
        }
        let mut bytes = stuffed(&message(if n % 2 == 0 { "fine" } else { "reject" }));
        bytes.extend(if n < 5 { start(n + 1) } else { b"QUIT\r\n".to_vec() });
        client.write(&bytes).await;
        let reply = client.reply().await;
        assert!(reply.starts_with(if n % 2 == 0 { "250" } else { "554 5.7.1" }), "{n}: {reply}");
    }
    assert!(client.reply().await.starts_with("221"));
    scene.sink.wait_for(3).await;
    for (n, transaction) in inspect.seen().iter().enumerate() {
        assert_eq!(transaction.envelope.sender.text, format!("s{n}@example.net"));
        assert_eq!(transaction.envelope.recipients.len(), 1);
        assert_eq!(transaction.envelope.recipients[0].text, format!("r{n}@example.com"));
    }
}
