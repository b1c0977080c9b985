//! What the gateway does while everything that it asks hangs: `cargo bench --bench dependencies`.
//!
//! Two gateways, each a process with its own rules and its records, as they are set up by default: one with nothing to ask, and
//! one with all services, the resolver and the shared cache, each of which takes what it is sent and says nothing. Both get
//! messages at the milter door, in turn, by connections that send one after the other. Prints messages a second after the
//! breakers have opened, the share of those without dependencies, processor time a message, the latest answers with the
//! inspection's deadline, and how long `/health` takes meanwhile.
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used, clippy::panic, clippy::expect_used)]
#![allow(missing_docs, unreachable_pub, dead_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mailweir::app::mock_services::{Fault, Mock, Service};
use mailweir::gateway::milter::Endpoint;
use support::gateway::{Gateway, free_port};
use support::http::request;
use support::milter::Mta;
use support::sink::Sink;
use tokio::net::TcpListener;

#[path = "../tests/support/mod.rs"]
mod support;

/// Connections at a time: as many MTA processes.
const CONNECTIONS: usize = 32;
/// While `/health` is looked at: enough for all processors, with no queue before them.
const FEW_CONNECTIONS: usize = 4;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(4);
/// What a message with everything in order is: some kilobytes with a link or two.
const WORDS: usize = 700;
/// Every tenth is neither good nor bad at first sight: the text analyser is asked about it.
const GREY: u64 = 10;
/// Time between two looks at `/health`.
const LOOK: Duration = Duration::from_millis(50);
/// Ticks of a second in which the kernel counts processor time (`sysconf(_SC_CLK_TCK)`, the same on all Linux).
const TICKS: f64 = 100.0;

struct Measured {
    gateway: Gateway,
    /// The next hop that it looks for.
    _sink: Sink,
    http: SocketAddr,
    sent: AtomicU64,
}

/// What one round gave.
#[derive(Default, Clone, Copy)]
struct Round {
    a_second: f64,
    cpu_ms: f64,
    latest: Duration,
}

impl Measured {
    async fn start(settings: &str) -> Self {
        let (sink, http) = (Sink::start().await, free_port());
        let settings = format!("{settings}\n[http]\nenabled = true\nlisten = \"{http}\"\n");
        let gateway = Gateway::start_with(sink.address, &settings).await;
        while tokio::net::TcpStream::connect(http).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { gateway, _sink: sink, http, sent: AtomicU64::new(0) }
    }

    /// Sends for so long.
    async fn load(self: &Arc<Self>, connections: usize, time: Duration) -> Round {
        let (started, cpu) = (Instant::now(), self.cpu());
        let senders: Vec<_> = (0..connections)
            .map(|_| {
                let gateway = Arc::clone(self);
                tokio::spawn(async move {
                    let mut mta = Mta::connect(&Endpoint::Inet(gateway.gateway.milter.to_string())).await.unwrap();
                    mta.greet().await;
                    let (mut count, mut latest) = (0u64, Duration::ZERO);
                    while started.elapsed() < time {
                        // Nobody was asked about this one before.
                        let number = gateway.sent.fetch_add(1, Ordering::Relaxed);
                        let body = body(number);
                        let began = Instant::now();
                        let frames = message(&mut mta, number, &body).await;
                        latest = latest.max(began.elapsed());
                        // Passed on: as it is, or with changes (a tag, when nobody vouches for it).
                        let last = frames.last().map(|(command, _)| char::from(*command));
                        assert!(matches!(last, Some('a' | 'c')), "{last:?}");
                        count += 1;
                    }
                    (count, latest)
                })
            })
            .collect();
        let (mut all, mut latest) = (0, Duration::ZERO);
        for sender in senders {
            let (count, late) = sender.await.unwrap();
            (all, latest) = (all + count, latest.max(late));
        }
        let (all, cpu) = (all as f64, self.cpu() - cpu);
        Round { a_second: all / started.elapsed().as_secs_f64(), cpu_ms: cpu * 1e3 / all, latest }
    }

    /// How long `/health` took while messages were judged: 95 of 100 times at most so long, and the longest.
    async fn health(self: &Arc<Self>, time: Duration) -> (Duration, Duration) {
        let load = tokio::spawn({
            let gateway = Arc::clone(self);
            async move { gateway.load(FEW_CONNECTIONS, time).await }
        });
        let mut took = Vec::new();
        while !load.is_finished() {
            tokio::time::sleep(LOOK).await;
            let began = Instant::now();
            let said = request(self.http, "GET", "/health", &[], "").await;
            took.push(began.elapsed());
            assert_eq!(said.status, 200, "{}", said.text());
        }
        load.await.unwrap();
        took.sort();
        (took[took.len() * 95 / 100], took[took.len() - 1])
    }

    /// Processor time of the process so far, in seconds (proc(5), `stat`).
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.gateway.id())).unwrap();
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..].split(' ').collect();
        let ticks = |place: usize| fields[place].parse::<f64>().unwrap();
        (ticks(12) + ticks(13)) / TICKS
    }

    /// The dependencies, and those of them whose breaker is closed.
    async fn closed(&self) -> (usize, Vec<String>) {
        let token = std::fs::read_to_string(self.gateway.data().join("admin.token")).unwrap();
        let token = format!("Authorization: Bearer {}", token.trim());
        let report = request(self.http, "GET", "/health/metrics", &[&token], "").await.json();
        let all = report["dependencies"].as_array().unwrap();
        // The registries that are not named by their host have nothing to answer.
        let asked = || all.iter().filter(|one| one["name"] != "rdap");
        let closed = asked().filter(|one| one["state"] == "closed");
        (asked().count(), closed.map(|one| one["name"].as_str().unwrap().to_owned()).collect())
    }
}

/// Sends one message whole; what comes back up to the final reply.
async fn message(mta: &mut Mta, number: u64, body: &str) -> Vec<(u8, Vec<u8>)> {
    let grey = number.is_multiple_of(GREY);
    let subject = if grey { "Urgent: your account will be suspended" } else { "Figures of our meeting" };
    mta.begin(&format!("{subject} ({number})")).await;
    let id = format!("<{number}@example.net>");
    for (name, value) in [
        ("From", "Ada Example <ada@example.net>"),
        ("To", "bob@example.com"),
        ("Date", "Sat, 21 Nov 2026 10:00:00 +0000"),
        ("Message-ID", &id),
        ("MIME-Version", "1.0"),
        ("Content-Type", "text/plain; charset=utf-8"),
    ] {
        mta.say(b'L', format!("{name}\0 {value}\0").as_bytes()).await;
    }
    mta.say(b'B', body.as_bytes()).await;
    mta.say(b'E', b"").await;
    mta.verdict().await
}

/// A letter of which no two are alike.
fn body(number: u64) -> String {
    const LETTER: [&str; 24] = [
        "thank", "you", "for", "the", "minutes", "of", "our", "meeting", "in", "spring", "we", "agreed", "to", "send",
        "figures", "about", "sales", "before", "summer", "and", "look", "at", "them", "together",
    ];
    let mut text = format!("Hello, see https://www.a{number}.example/x for more.\r\n");
    if number.is_multiple_of(GREY) {
        text.push_str(
            "Your mailbox is almost full and will be suspended within 24 hours. Click here to verify your account ",
        );
        text.push_str(&format!("and confirm your password: https://www.a{number}.example/login\r\n"));
    }
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for place in 0..WORDS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(LETTER[(state % LETTER.len() as u64) as usize]);
        text.push_str(if place % 12 == 11 { ".\r\n" } else { " " });
    }
    text + "\r\n"
}

/// Asks everything, and is told nothing.
fn hanging(clamd: &Mock, http: &Mock, dns: &Mock, redis: &TcpListener, places: &std::path::Path) -> String {
    let (clamd, http, dns, redis) = (clamd.address(), http.address(), dns.address(), redis.local_addr().unwrap());
    format!(
        r#"
[cache]
url = "redis://{redis}"
[enrichment]
allow_networks = ["127.0.0.0/8"]
[enrichment.sender_auth]
enabled = true
resolvers = ["{dns}"]
[enrichment.clamd]
enabled = true
address = "inet:{clamd}"
on_failure = "open"
[enrichment.block_lists]
enabled = true
on_failure = "open"
zones = [{{ name = "ip.mock", of = "addresses" }}, {{ name = "domain.mock", of = "domains" }}]
[enrichment.url_service]
enabled = true
url = "http://{http}/v1/url"
on_failure = "open"
[enrichment.text_service]
enabled = true
url = "http://{http}/v1/analyse"
on_failure = "open"
[enrichment.rdap]
enabled = true
bootstrap_file = "{places}"
"#,
        places = places.display()
    )
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let start = async |service| Mock::start(service, 0, Fault::Hang).await.unwrap();
    let (clamd, http, dns) = (start(Service::Clamd).await, start(Service::Http).await, start(Service::Dnsbl).await);
    // A listener that nobody accepts from takes connections and says nothing.
    let redis = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let places = folder.path().join("dns.json");
    let text = serde_json::json!({"services": [[["example", "net"], [format!("http://{}", http.address())]]]});
    std::fs::write(&places, text.to_string()).unwrap();

    let none = Arc::new(Measured::start("").await);
    let all = Arc::new(Measured::start(&hanging(&clamd, &http, &dns, &redis, &places)).await);
    let (mut opening, mut latest) = (Duration::ZERO, Duration::ZERO);
    let dependencies = loop {
        let round = all.load(CONNECTIONS, Duration::from_millis(500)).await;
        (opening, latest) = (opening + Duration::from_millis(500), latest.max(round.latest));
        let (count, closed) = all.closed().await;
        if closed.is_empty() {
            break count;
        }
        assert!(opening < Duration::from_secs(30), "closed still: {closed:?}");
    };
    println!("{dependencies} dependencies hang; while their breakers opened");
    println!("  latest answer       {:8.0} ms (inspection.deadline_ms 4000)", latest.as_secs_f64() * 1e3);
    let (mut best, mut shares) = ([Round::default(), Round::default()], Vec::new());
    for _ in 0..ROUNDS {
        let mut rates = [0.0; 2];
        for ((best, rate), gateway) in best.iter_mut().zip(&mut rates).zip([&none, &all]) {
            let round = gateway.load(CONNECTIONS, ROUND).await;
            *rate = round.a_second;
            let latest = best.latest.max(round.latest);
            *best = Round { latest, ..if round.a_second > best.a_second { round } else { *best } };
        }
        shares.push(rates[1] / rates[0]);
    }
    shares.sort_by(f64::total_cmp);
    for (round, name) in best.iter().zip(["nothing to ask", "all of it hangs"]) {
        let (rate, cpu, late) = (round.a_second, round.cpu_ms, round.latest.as_secs_f64() * 1e3);
        println!(
            "{name:18} {rate:8.0} messages a second, {cpu:.3} ms of processor time each; latest answer {late:.0} ms"
        );
    }
    for (gateway, name) in [(&none, "nothing to ask"), (&all, "all of it hangs")] {
        let (most, longest) = gateway.health(ROUND).await;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!("{name:18} /health under load: p95 {:.1} ms, longest {:.1} ms (limit 25)", ms(most), ms(longest));
    }
    let share = best[1].a_second / best[0].a_second;
    println!(
        "share of the best of {ROUNDS} rounds {share:.2}; of each pair of rounds, median {:.2}",
        shares[ROUNDS / 2]
    );
    println!("processor time of the first in that of the second {:.2}", best[0].cpu_ms / best[1].cpu_ms);
}
