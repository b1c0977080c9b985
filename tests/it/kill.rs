//! `kill -9` under load, again and again: nothing that got its 250 is lost, nothing refused is delivered, and a second copy
//! exists only where the answer to the first was lost.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mailweir::records::{self, HeldQuery, Records};

use crate::support::gateway::{Gateway, free_port};
use crate::support::load::{Entry, Load};
use crate::support::postfix::{Options, Postfix, available};
use crate::support::sink::Sink;

const ROUNDS: u64 = 30;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Allow,
    Quarantine,
    Reject,
}

fn kind(number: usize) -> Kind {
    match number % 5 {
        0 => Kind::Reject,
        1 | 2 => Kind::Quarantine,
        _ => Kind::Allow,
    }
}

fn compose(number: usize) -> Vec<u8> {
    let letter = match kind(number) {
        Kind::Allow => "Nothing: ",
        Kind::Quarantine => "Y",
        Kind::Reject => "X",
    };
    // In two halves, so that this file is no test pattern.
    let (head, tail) = ("JS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD", "-ANTI-UBE-TEST-EMAIL*C.34X");
    let pattern = if kind(number) == Kind::Allow { format!("{letter}at all") } else { format!("{letter}{head}{tail}") };
    let filling = "Some more of it, so that it is not over at once.\r\n".repeat(number % 37);
    format!(
        "From: Ada <ada@sender.example>\r\nTo: bob@example.com\r\nSubject: load\r\nMessage-ID: <{number}@load.example>\r\n\
         \r\nHello,\r\n.{number}\r\n{pattern}\r\n{filling}Ada\r\n"
    )
    .into_bytes()
}

/// Copies by number, each checked byte for byte.
struct Found {
    delivered: HashMap<usize, usize>,
    held: HashMap<usize, usize>,
}

fn number_of(raw: &[u8]) -> usize {
    let text = String::from_utf8_lossy(raw);
    let rest = text.split("Message-ID: <").nth(1).expect("a Message-ID");
    rest.split('@').next().unwrap().parse().unwrap()
}

async fn find(sink: &Sink, data: &Path, entries: &BTreeMap<usize, Entry>) -> Found {
    let mut found = Found { delivered: HashMap::new(), held: HashMap::new() };
    for mail in sink.mails() {
        let number = number_of(&mail.raw);
        assert!(mail.raw.ends_with(&entries[&number].raw), "{number} came altered: {}", mail.raw.escape_ascii());
        *found.delivered.entry(number).or_default() += 1;
    }
    let metrics = Arc::new(records::Metrics::new(&prometheus::Registry::new()).unwrap());
    let (records, writer) = Records::open(&records::Config::default(), data, metrics).await.unwrap();
    let writer = tokio::spawn(writer);
    let mut query = HeldQuery { limit: 500, ..HeldQuery::default() };
    loop {
        let page = records.held(&query).await.unwrap();
        let Some(last) = page.last() else { break };
        query.before = Some(last.id);
        for held in page {
            let raw = records.held_bytes(&held).await.unwrap_or_else(|error| panic!("{}: {error}", held.id));
            let number = number_of(&raw);
            // Behind Postfix as a filter there may be a trace on top; here the bytes are the sender's own.
            assert_eq!(&raw[..], &entries[&number].raw[..], "{number} is held altered");
            assert_eq!(held.recipients.len(), 1);
            *found.held.entry(number).or_default() += 1;
        }
    }
    drop(records);
    writer.await.unwrap();
    found
}

/// Compares what was answered with what is there. Not `strictly`: Postfix stands between; it may deliver a copy again when it
/// was stopped in the middle, and makes a 451 of an answer of ours that it lost.
fn reconcile(entries: &BTreeMap<usize, Entry>, found: &Found, strictly: bool) {
    let mut faults = Vec::new();
    for (number, entry) in entries {
        let copies = |of: &HashMap<usize, usize>| of.get(number).copied().unwrap_or_default();
        let (delivered, held) = (copies(&found.delivered), copies(&found.held));
        let excused = entry.accepted + entry.unknown + if strictly { 0 } else { entry.deferred };
        let right = match kind(*number) {
            Kind::Allow => entry.accepted == 1 && held == 0 && delivered >= 1 && (delivered <= excused || !strictly),
            Kind::Quarantine => entry.accepted == 1 && delivered == 0 && (1..=excused).contains(&held),
            Kind::Reject => entry.refused == 1 && entry.accepted == 0 && delivered + held == 0,
        };
        if !right {
            let Entry { accepted, refused, deferred, unknown, .. } = entry;
            faults.push(format!(
                "{number} ({:?}): accepted {accepted}, refused {refused}, deferred {deferred}, unknown {unknown}; \
                 delivered {delivered}, held {held}",
                kind(*number)
            ));
        }
    }
    assert!(faults.is_empty(), "{} of {} do not reconcile:\n{}", faults.len(), entries.len(), faults.join("\n"));
}

fn tell(entries: &BTreeMap<usize, Entry>, found: &Found) {
    let sum = |count: fn(&Entry) -> usize| entries.values().map(count).sum::<usize>();
    println!(
        "{} messages: {} accepted, {} refused, {} tries deferred, {} answers lost; {} delivered, {} held",
        entries.len(),
        sum(|e| e.accepted),
        sum(|e| e.refused),
        sum(|e| e.deferred),
        sum(|e| e.unknown),
        found.delivered.values().sum::<usize>(),
        found.held.values().sum::<usize>(),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_invented() {
    let sink = Sink::start().await;
    let gateway = Gateway::prepare(sink.address, "[log]\nlevel = \"warn\"\n");
    let load = Load::start(gateway.relay, 12, compose);
    for round in 0..ROUNDS {
        gateway.start().await;
        let before = load.settled();
        // Sometimes in the first moments, sometimes in the middle of it.
        tokio::time::sleep(Duration::from_millis(40 + round * 7_919 % 760)).await;
        if round % 5 == 4 {
            assert!(load.settled() > before, "no mail flows in round {round}:\n{}", gateway.log());
        }
        gateway.kill();
    }
    gateway.start().await;
    let entries = load.finish().await;
    assert!(gateway.terminate().await.success());
    let found = find(&sink, &gateway.data(), &entries).await;
    tell(&entries, &found);
    reconcile(&entries, &found, true);
    assert!(entries.len() > 500, "only {} messages: no load", entries.len());
    let lost: usize = entries.values().map(|entry| entry.unknown).sum();
    assert!(lost > 0, "no kill came between a final dot and its answer: the test shows nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postfix_restarted_and_the_gateway_killed() {
    if !available("kill::postfix_restarted_and_the_gateway_killed") {
        return;
    }
    let sink = Sink::start().await;
    let smtp = free_port();
    let gateway = Gateway::start_with(smtp, "[log]\nlevel = \"warn\"\n").await;
    let milter = Some(format!("inet:{}", gateway.milter));
    let options = Options { milter, sink: Some(sink.address), smtp: Some(smtp), ..Options::default() };
    let mut postfix = Postfix::start(options).await;
    let load = Load::start(smtp, 8, compose);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(900)).await;
        postfix.stop();
        tokio::time::sleep(Duration::from_millis(100)).await;
        postfix.start_again().await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        gateway.kill();
        tokio::time::sleep(Duration::from_millis(100)).await;
        gateway.start().await;
    }
    let entries = load.finish().await;
    for attempt in 0.. {
        let queue = postfix.queue();
        if queue.is_empty() {
            break;
        }
        assert!(attempt < 200, "{} messages stay in Postfix's queue: {:?}", queue.len(), queue.first());
        postfix.command("postqueue", &["-f"]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(gateway.terminate().await.success());
    let found = find(&sink, &gateway.data(), &entries).await;
    tell(&entries, &found);
    reconcile(&entries, &found, false);
    assert!(entries.len() > 50, "only {} messages: no load", entries.len());
}
