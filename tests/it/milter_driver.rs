//! The milter door over real sockets: deadlines, many connections, broken peers, shutdown.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use mailweir::gateway::milter::{BindError, Config, Endpoint, Listener};
use mailweir::mail::Edit;
use mailweir::pipeline::{Answer, Refusal};
use tokio::time::{Instant, sleep, timeout};

use crate::support::milter::{Door, Mta, Scripted, commands, deliver};

fn quick() -> Config {
    Config { command_seconds: 1, idle_seconds: 60, progress_seconds: 1, verdict_seconds: 30, ..Config::default() }
}

#[tokio::test]
async fn messages_and_answers() {
    let inspect = Scripted::new(|transaction| {
        let raw = String::from_utf8_lossy(&transaction.raw).into_owned();
        let refusal = |code| Refusal { code, enhanced: [code / 100, 7, 1], text: format!("No ({})", transaction.id) };
        let answer = match raw.split("\r\n").next().unwrap() {
            "Subject: reject" => Answer::Reject(refusal(550)),
            "Subject: defer" => Answer::Defer(refusal(451)),
            "Subject: hold" => Answer::Hold,
            "Subject: mta" => Answer::HoldAtMta { reason: "odd".into(), edits: vec![] },
            _ => Answer::Deliver {
                edits: vec![Edit::Prepend { name: "X-Mailweir".into(), value: "ok".into() }],
                held: vec![],
            },
        };
        (Duration::ZERO, Some(answer))
    });
    let door = Door::open(quick(), inspect.clone()).await;
    let mut mta = door.connect().await;
    mta.greet().await;
    for (subject, expected) in [("reject", "y"), ("fine", "ic"), ("defer", "y"), ("hold", "d"), ("mta", "qc")] {
        let frames = mta.message(subject, b"body\r\n").await;
        assert_eq!(commands(&frames), expected, "{subject}");
        mta.say(b'A', b"").await;
        if expected == "y" {
            let id = inspect.seen().last().unwrap().id.to_string();
            assert!(String::from_utf8_lossy(&frames[0].1).contains(&id));
        }
    }
    let seen = inspect.seen();
    assert_eq!(seen.len(), 5);
    assert_eq!(&seen[1].raw[..], b"Subject: fine\r\n\r\nbody\r\n");
    assert!(seen[1].abilities.edit_headers && seen[1].abilities.drop_recipients && seen[1].abilities.hold_at_mta);
    assert_eq!(seen[1].connection.client_port, Some(40_000));
    for (answer, count) in [("reject", 1), ("deliver", 1), ("defer", 1), ("discard", 1), ("quarantine", 1)] {
        assert_eq!(door.metrics.messages_total.with_label_values(&[answer]).get(), count, "{answer}");
    }
}

#[tokio::test]
async fn progress_while_a_verdict_takes_long_and_451_when_it_does_not_come() {
    let inspect = Scripted::new(|transaction| {
        let long = transaction.raw.starts_with(b"Subject: never");
        (Duration::from_millis(if long { 60_000 } else { 2_500 }), Some(deliver()))
    });
    let door = Door::open(Config { verdict_seconds: 4, ..quick() }, inspect).await;
    let mut mta = door.connect().await;
    mta.greet().await;
    assert_eq!(commands(&mta.message("slow", b"").await), "ppc");
    let begun = Instant::now();
    let frames = mta.message("never", b"").await;
    assert_eq!(commands(&frames), "pppy");
    assert!(frames[3].1.starts_with(b"451 4.7.1 "), "{frames:?}");
    assert!(begun.elapsed() < Duration::from_secs(8));
    assert_eq!(door.metrics.verdicts_missing_total.with_label_values(&["timeout"]).get(), 1);
    assert_eq!(commands(&mta.message("slow", b"").await), "ppc", "the connection goes on");
}

#[tokio::test]
async fn a_panic_is_451_and_the_connection_goes_on() {
    let inspect =
        Scripted::new(|transaction| (Duration::ZERO, (!transaction.raw.starts_with(b"Subject: panic")).then(deliver)));
    let door = Door::open(quick(), inspect).await;
    let mut mta = door.connect().await;
    mta.greet().await;
    let frames = mta.message("panic", b"").await;
    assert!(frames[0].1.starts_with(b"451 4.7.1 "), "{frames:?}");
    assert_eq!(commands(&mta.message("fine", b"").await), "c");
    assert_eq!(door.metrics.verdicts_missing_total.with_label_values(&["panic"]).get(), 1);
}

/// Each of these loses its own connection; a message that another one is sending meanwhile gets its answer.
#[tokio::test]
async fn broken_peers_harm_nobody_else() {
    let inspect = Scripted::new(|transaction| {
        let slow = transaction.raw.starts_with(b"Subject: slow");
        (Duration::from_millis(if slow { 1_500 } else { 0 }), Some(deliver()))
    });
    let door = Door::open(quick(), inspect).await;
    let mut good = door.connect().await;
    good.greet().await;
    good.begin("good").await;

    let mut garbage = door.connect().await;
    garbage.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert_eq!(garbage.hear().await, None);
    let mut empty = door.connect().await;
    empty.raw(&[0; 4]).await.unwrap();
    assert_eq!(empty.hear().await, None);
    let mut huge = door.connect().await;
    huge.greet().await;
    huge.raw(&[0x7f, 0xff, 0xff, 0xff, b'B']).await.unwrap();
    assert_eq!(huge.hear().await, None);
    let mut order = door.connect().await;
    order.greet().await;
    order.say(b'E', b"").await;
    assert_eq!(order.hear().await, None);
    // One that goes away in the middle of a frame, and one that goes away while its verdict is being found.
    let mut gone = door.connect().await;
    gone.greet().await;
    gone.raw(&[0, 0, 1, 0, b'L', b'S']).await.unwrap();
    drop(gone);
    let mut impatient = door.connect().await;
    impatient.greet().await;
    impatient.begin("slow").await;
    impatient.say(b'E', b"").await;
    drop(impatient);
    // One that says nothing at all.
    let mut silent = door.connect().await;
    assert_eq!(silent.hear().await, None);

    good.say(b'E', b"").await;
    assert_eq!(commands(&good.verdict().await), "c");
    for (kind, count) in [("frame_too_long", 2), ("frame_empty", 1), ("out_of_order", 1), ("timeout", 1)] {
        assert_eq!(door.faults(kind), count, "{kind}");
    }
}

#[tokio::test]
async fn dripping_bytes_do_not_stretch_a_deadline() {
    let config = Config { content_seconds: 2, ..quick() };
    let door = Door::open(config, Scripted::always(deliver())).await;
    // A frame of 1,000 bytes at ten bytes a second.
    let mut drip = door.connect().await;
    drip.greet().await;
    let begun = Instant::now();
    drip.raw(&[0, 0, 3, 0xe8, b'M']).await.unwrap();
    while drip.raw(b"x").await.is_ok() && begun.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    // A body whose chunks are whole, but endless: the second message, so that the first one's time is not counted.
    let mut endless = door.connect().await;
    endless.greet().await;
    endless.message("first", b"").await;
    let begun = Instant::now();
    endless.begin("second").await;
    let mut chunk = Vec::new();
    mailweir::protocol::milter::write_frame(&mut chunk, b'B', &[b"x"]);
    while endless.raw(&chunk).await.is_ok() && begun.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(100)).await;
    }
    assert!((1..5).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(door.faults("timeout"), 2);
    // An open envelope is no stall: an SMTP client may think.
    let mut thinking = door.connect().await;
    thinking.greet().await;
    thinking.say(b'M', b"<a@example.net>\0").await;
    sleep(Duration::from_millis(2_500)).await;
    thinking.say(b'R', b"<b@example.com>\0").await;
    thinking.say(b'E', b"").await;
    assert_eq!(commands(&thinking.verdict().await), "c");
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_552_and_the_next_one_is_judged() {
    let mut config = quick();
    config.limits.message_bytes = 100_000;
    let inspect = Scripted::always(deliver());
    let door = Door::open(config, inspect.clone()).await;
    let mut mta = door.connect().await;
    mta.greet().await;
    let frames = mta.message("big", &vec![b'x'; 300_000]).await;
    assert_eq!(frames, [(b'y', b"552 5.3.4 Message too big\0".to_vec())]);
    let body = vec![b'x'; 99_000];
    assert_eq!(commands(&mta.message("fits", &body).await), "c");
    assert_eq!(inspect.seen().len(), 1);
    assert!(inspect.seen()[0].raw.ends_with(&body));
    assert_eq!(door.metrics.overruns_total.with_label_values(&["message"]).get(), 1);
}

#[tokio::test]
async fn idle_connections_cost_next_to_nothing() {
    let door = Door::open(quick(), Scripted::always(deliver())).await;
    let mut first = door.connect().await;
    first.greet().await;
    let before = resident_bytes();
    let mut idle = Vec::new();
    for _ in 0..500 {
        let mut mta = door.connect().await;
        mta.greet().await;
        assert_eq!(commands(&mta.message("one", b"body\r\n").await), "c");
        idle.push(mta);
    }
    assert_eq!(door.metrics.connections.get(), 501);
    let each = resident_bytes().saturating_sub(before) / 500;
    assert!(each < 16 << 10, "{each} bytes for both ends of an idle connection and its message kept by the script");
    assert_eq!(commands(&first.message("another", b"body\r\n").await), "c");
    drop(idle);
    timeout(Duration::from_secs(5), async {
        while door.metrics.connections.get() > 1 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("closed connections are let go");
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let door = Door::open(Config { connections: 2, ..quick() }, Scripted::always(deliver())).await;
    let (mut a, mut b) = (door.connect().await, door.connect().await);
    a.greet().await;
    b.greet().await;
    assert_eq!(door.connect().await.hear().await, None);
    assert_eq!(door.metrics.connections_refused_total.get(), 1);
    drop(b);
    timeout(Duration::from_secs(5), async {
        while door.metrics.connections.get() > 1 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    door.connect().await.greet().await;
    assert_eq!(commands(&a.message("x", b"").await), "c");
}

#[tokio::test]
async fn cancel_drains() {
    let inspect = Scripted::new(|_| (Duration::from_millis(700), Some(deliver())));
    let mut door = Door::open(quick(), inspect).await;
    let (mut idle, mut amid, mut judged) = (door.connect().await, door.connect().await, door.connect().await);
    for mta in [&mut idle, &mut amid, &mut judged] {
        mta.greet().await;
    }
    amid.begin("amid").await;
    judged.begin("judged").await;
    judged.say(b'E', b"").await;
    sleep(Duration::from_millis(200)).await;
    door.cancel.cancel();
    assert_eq!(idle.hear().await, None, "between messages: closed at once");
    assert!(Mta::connect(&door.endpoint).await.is_err(), "the listener closes first");
    assert_eq!(commands(&judged.verdict().await), "c");
    assert!(!door.task.is_finished(), "a message in flight may finish");
    amid.say(b'B', b"body\r\n").await;
    amid.say(b'E', b"").await;
    assert_eq!(commands(&amid.verdict().await), "c");
    assert_eq!((judged.hear().await, amid.hear().await), (None, None));
    timeout(Duration::from_secs(5), &mut door.task).await.expect("serve returns when all are gone").unwrap();
}

#[tokio::test]
async fn unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("milter.sock");
    // What a process that died leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let listen = Endpoint::Unix(path.clone());
    let config = Config { listen, socket_mode: "0640".into(), socket_group: "root".into(), ..quick() };
    let mut door = Door::open(config.clone(), Scripted::always(deliver())).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    let mut mta = door.connect().await;
    mta.greet().await;
    assert_eq!(commands(&mta.message("x", b"").await), "c");
    assert!(matches!(Listener::bind(&config).await, Err(BindError::InUse(_))), "somebody listens");
    assert_eq!(commands(&mta.message("x", b"").await), "c");
    drop(mta);
    door.cancel.cancel();
    timeout(Duration::from_secs(5), &mut door.task).await.unwrap().unwrap();
    assert!(!path.exists(), "removed at the end");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing left");

    std::fs::write(&path, "not a socket").unwrap();
    assert!(matches!(Listener::bind(&config).await, Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "not a socket");
    std::fs::remove_file(&path).unwrap();
    for (wrong, expected) in [
        (Config { socket_mode: "0999".into(), ..config.clone() }, "socket_mode"),
        (Config { socket_group: "no-such-group".into(), ..config.clone() }, "socket_group"),
        (Config { socket_owner: "no-such-user".into(), ..config.clone() }, "socket_owner"),
    ] {
        let error = Listener::bind(&wrong).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
