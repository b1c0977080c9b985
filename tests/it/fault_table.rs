//! The table of faults: every dependency broken in every way while mail flows through the built program, and all at once.
//!
//! `MAILWEIR_FAULT_TABLE=1 cargo test --test it fault_table -- --nocapture` prints it, with the times of the breakers as they
//! are by default; it takes six minutes. Without the variable these are five times shorter, and each is broken in two ways only.
//! Everything else is as by default, but answers of services are not kept, so that each message asks. The times stand in the table and are not asserted.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use mailweir::app::mock_services::{Fault, Mock, Service};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::client::Client;
use crate::support::gateway::{Gateway, free_port, lay_over};
use crate::support::http::request;
use crate::support::sink::Sink;
use crate::support::wire::Wire;
use crate::support::{postgres, redis};

/// Longest wait for a breaker, either way.
const PATIENCE: Duration = Duration::from_secs(120);
const SENDERS: usize = 3;
/// How long a sender rests after a message.
const REST: Duration = Duration::from_millis(200);

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq)]
enum One {
    Clamd,
    Lists,
    Urls,
    Text,
    Chat,
    Rdap,
    /// DNS about the sender.
    Resolver,
    /// Redis behind the caches.
    Cache,
    /// PostgreSQL with the records.
    Store,
    /// All services and the resolver.
    All,
}

impl One {
    /// Its breaker, by name; and what a message that was judged without it is marked with.
    fn known_as(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Clamd => &[("clamd", "malware")],
            Self::Lists => &[("block_list:domain.mock", "lists")],
            Self::Urls => &[("url_service", "urls")],
            Self::Text | Self::Chat => &[("text_service", "text")],
            Self::Rdap => &[("rdap", "domains")],
            Self::Resolver => &[("resolver", "dmarc")],
            // No verdict is worse without it.
            Self::Cache => &[("cache", "")],
            Self::Store => &[],
            Self::All => &[
                ("clamd", "malware"),
                ("block_list:domain.mock", "lists"),
                ("url_service", "urls"),
                ("text_service", "text"),
                ("rdap", "domains"),
            ],
        }
    }

    fn faults(self) -> &'static [Fault] {
        match self {
            // Over UDP; the others are answers of a list, not of a resolver.
            Self::Resolver => &[Fault::Refuse, Fault::Hang, Fault::ServerError],
            // Broken on the wire.
            Self::Cache | Self::Store => &[Fault::Refuse, Fault::Hang],
            _ => &Fault::BROKEN,
        }
    }

    fn asks(self, other: Self) -> bool {
        self == other || self == Self::All && !matches!(other, Self::Chat | Self::Cache | Self::Store)
    }
}

const ALL: [One; 10] = [
    One::Clamd,
    One::Lists,
    One::Urls,
    One::Text,
    One::Chat,
    One::Rdap,
    One::Resolver,
    One::Cache,
    One::Store,
    One::All,
];

/// The services, and the gateway that asks one of them or all.
struct Scene {
    one: One,
    mocks: [Mock; 3],
    wire: Option<Wire>,
    gateway: Gateway,
    http: SocketAddr,
    token: String,
    sink: Sink,
    _servers: (Option<redis::Redis>, Option<postgres::Postgres>, tempfile::TempDir),
}

impl Scene {
    async fn start(one: One, full: bool) -> Self {
        let start = async |service| Mock::start(service, 0, Fault::None).await.unwrap();
        let mocks = [start(Service::Clamd).await, start(Service::Http).await, start(Service::Dnsbl).await];
        let folder = tempfile::tempdir().unwrap();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (mut redis, mut database, mut wire) = (None, None, None);
        let mut behind = String::new();
        if one == One::Cache {
            let server = redis::Redis::start(redis::Keep::Nothing).await;
            wire = Some(Wire::to(at(server.port)).await);
            redis = Some(server);
            behind = format!("[cache]\nurl = \"redis://{}\"\n", wire.as_ref().unwrap().address);
        } else if one == One::Store {
            let server = postgres::Postgres::start().await;
            wire = Some(Wire::to(at(server.port())).await);
            let wire = wire.as_ref().unwrap().address;
            behind = format!("[store]\nurl = \"{}\"\n", server.url_at(wire));
            database = Some(server);
        }
        let sink = Sink::start().await;
        let http = free_port();
        let settings = settings(one, &mocks, folder.path(), full);
        let mut settings: toml::Table = toml::from_str(&settings).unwrap();
        lay_over(&mut settings, toml::from_str(&behind).unwrap());
        lay_over(&mut settings, toml::from_str(&format!("[http]\nenabled = true\nlisten = \"{http}\"\n")).unwrap());
        let gateway = Gateway::start_with(sink.address, &toml::to_string(&settings).unwrap()).await;
        let until = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(http).await.is_err() {
            assert!(Instant::now() < until, "{}", gateway.log());
            sleep(Duration::from_millis(20)).await;
        }
        let token = std::fs::read_to_string(gateway.data().join("admin.token")).unwrap().trim().to_owned();
        Self { one, mocks, wire, gateway, http, token, sink, _servers: (redis, database, folder) }
    }

    async fn set(&mut self, fault: Fault) {
        match (&mut self.wire, fault) {
            (Some(wire), Fault::Refuse) => wire.cut().await,
            (Some(wire), Fault::Hang) => wire.hang(),
            (Some(wire), _) => {
                wire.cut().await;
                wire.mend().await;
            }
            (None, fault) => self.mocks.iter().for_each(|mock| mock.set(fault)),
        }
    }

    /// The states of the breakers.
    async fn breakers(&self) -> Vec<String> {
        let token = format!("Authorization: Bearer {}", self.token);
        let report = request(self.http, "GET", "/health/metrics", &[&token], "").await.json();
        let all = report["dependencies"].as_array().unwrap().iter();
        let known: HashMap<&str, &str> =
            all.map(|one| (one["name"].as_str().unwrap(), one["state"].as_str().unwrap())).collect();
        // A registry is known by its host, once it was asked.
        let of =
            |name: &str| known.iter().find(|(is, _)| is.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')));
        let state = |name: &str| of(name).map_or(known[name], |(_, state)| *state).to_owned();
        self.one.known_as().iter().map(|(name, _)| state(name)).collect()
    }
}

fn settings(one: One, [clamd, http, dns]: &[Mock; 3], folder: &Path, full: bool) -> String {
    let file = folder.join("dns.json");
    let places = serde_json::json!({"services": [[["example", "test"], [format!("http://{}", http.address())]]]});
    std::fs::write(&file, places.to_string()).unwrap();
    let breaker = if full { "" } else { "recovery_seconds = 12\nlook_seconds = 2\n" };
    let kept = if one == One::Cache { 1_000 } else { 0 };
    let service = |name: &str, on: bool, more: &str| {
        format!(
            "[{name}]\nenabled = {on}\non_failure = \"open\"\n{more}\n[{name}.service]\ncache_entries = {kept}\n\
             [{name}.service.call.breaker]\n{breaker}"
        )
    };
    let on = |other| one.asks(other);
    let path = if one == One::Chat { "chat/completions\"\ndialect = \"chat\"\nmodel = \"mock" } else { "analyse" };
    let zone = "[[enrichment.block_lists.zones]]\nname = \"domain.mock\"\nof = \"domains\"\n";
    let lists = service("enrichment.block_lists", on(One::Lists), "");
    [
        "[enrichment]\nallow_networks = [\"127.0.0.0/8\"]\n".to_owned(),
        format!(
            "[enrichment.sender_auth]\nenabled = {}\nresolvers = [\"{}\"]\ncache_max_seconds = 0\n\
             [enrichment.sender_auth.breaker]\n{breaker}",
            on(One::Resolver),
            dns.address()
        ),
        service("enrichment.clamd", on(One::Clamd), &format!("address = \"inet:{}\"", clamd.address())),
        format!("{lists}{zone}"),
        service(
            "enrichment.url_service",
            on(One::Urls) || one == One::Cache,
            &format!("url = \"http://{}/v1/url\"", http.address()),
        ),
        service(
            "enrichment.text_service",
            on(One::Text) || one == One::Chat,
            &format!("url = \"http://{}/v1/{path}\"\nrisk_from = 0.0\nrisk_to = 100.0", http.address()),
        ),
        service("enrichment.rdap", on(One::Rdap), &format!("bootstrap_file = \"{}\"", file.display())),
    ]
    .concat()
}

/// One message that was answered.
struct Sent {
    begun: Instant,
    took: Duration,
    reply: String,
}

/// Mail that does not stop: by number, what was answered.
struct Mail {
    next: Arc<AtomicUsize>,
    sent: Arc<Mutex<BTreeMap<usize, Sent>>>,
    stop: Arc<AtomicBool>,
    senders: JoinSet<()>,
}

impl Mail {
    fn start(relay: SocketAddr) -> Self {
        let (next, sent, stop) = (Arc::default(), Arc::default(), Arc::default());
        let mut mail = Self { next, sent, stop, senders: JoinSet::new() };
        for _ in 0..SENDERS {
            let (next, sent, stop) = (Arc::clone(&mail.next), Arc::clone(&mail.sent), Arc::clone(&mail.stop));
            mail.senders.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let raw = format!(
                        "From: A <a@n{number}.example>\r\nTo: b@example.com\r\nSubject: number {number}.\r\n\
                         Message-ID: <{number}@firm.example>\r\nDate: Fri, 20 Nov 2026 10:00:00 +0000\r\n\r\n\
                         Hello {number} https://n{number}.example/{number}\r\n"
                    );
                    let mut client = Client::connect(relay).await;
                    let begun = Instant::now();
                    let reply = client.send(&format!("a@n{number}.example"), &["b@example.com"], raw.as_bytes()).await;
                    let took = begun.elapsed();
                    sent.lock().unwrap().insert(number, Sent { begun, took, reply });
                    sleep(REST).await;
                }
            });
        }
        mail
    }

    fn answered(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    /// How long after a moment a message was answered that was sent after it and is not marked.
    fn first_well(&self, found: &HashMap<usize, Vec<String>>, after: Instant) -> Option<Duration> {
        let sent = self.sent.lock().unwrap();
        let well = |number| found.get(number).is_some_and(|copies| copies.iter().all(String::is_empty));
        let well = sent.iter().filter(|(number, sent)| sent.begun > after && well(number));
        well.map(|(_, sent)| (sent.begun + sent.took).duration_since(after)).min()
    }

    /// Waits until each has its answer.
    async fn finish(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.senders.join_next().await {
            ended.unwrap();
        }
    }
}

/// What arrived, by number: the marks of each copy.
fn arrived(sink: &Sink) -> HashMap<usize, Vec<String>> {
    let mut found: HashMap<usize, Vec<String>> = HashMap::new();
    for mail in sink.mails() {
        let text = String::from_utf8_lossy(&mail.raw).into_owned();
        let number = text.split("Subject: number ").nth(1).unwrap().split('.').next().unwrap().parse().unwrap();
        let marks = text.lines().find_map(|line| line.strip_prefix("X-Mailweir-Degraded: "));
        found.entry(number).or_default().push(marks.unwrap_or_default().to_owned());
    }
    found
}

struct Row {
    one: One,
    fault: Fault,
    answered: usize,
    lost: usize,
    latest: Duration,
    marked: usize,
    until_open: Option<usize>,
    back: Duration,
}

async fn until(what: &str, scene: &Scene, mut is: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is().await {
        assert!(Instant::now() < end, "{:?}: waited for: {what}\n{}", scene.one, scene.gateway.log());
        sleep(Duration::from_millis(50)).await;
    }
}

/// Breaks it under mail, and mends it.
async fn broken(scene: &mut Scene, fault: Fault) -> Row {
    let one = scene.one;
    let mut mail = Mail::start(scene.gateway.relay);
    until("mail flows", scene, async || mail.answered() >= SENDERS).await;
    scene.set(fault).await;
    let begun = Instant::now();
    let at = mail.answered();
    let mut until_open = None;
    if one.known_as().is_empty() {
        sleep(Duration::from_secs(3)).await;
    } else {
        let mut opened = vec![false; one.known_as().len()];
        until("the breaker opens", scene, async || {
            let states = scene.breakers().await;
            opened.iter_mut().zip(&states).for_each(|(was, state)| *was |= state == "open");
            opened.iter().all(|was| *was)
        })
        .await;
        until_open = Some(mail.answered() - at);
        sleep(Duration::from_secs(1)).await;
    }
    scene.set(Fault::None).await;
    let mended = Instant::now();
    // The first message that was sent after it came back and is judged with everything.
    let mut back = None;
    until("it is well again", scene, async || {
        back = mail.first_well(&arrived(&scene.sink), mended);
        back.is_some() && scene.breakers().await.iter().all(|state| state == "closed")
    })
    .await;
    // Of the cache no mark tells.
    let back = if one == One::Cache { mended.elapsed() } else { back.unwrap() };
    mail.finish().await;

    let (found, sent) = (arrived(&scene.sink), std::mem::take(&mut *mail.sent.lock().unwrap()));
    assert_eq!(sent.len(), mail.next.load(Ordering::Relaxed), "{one:?} {fault:?}: each is answered");
    let mut row =
        Row { one, fault, answered: sent.len(), lost: 0, latest: Duration::ZERO, marked: 0, until_open, back };
    for (number, Sent { begun: sent_at, took, reply }) in &sent {
        assert!(reply.starts_with("250"), "{one:?} {fault:?}: {reply}");
        let copies = found.get(number).map_or(&[][..], Vec::as_slice);
        assert!(copies.len() <= 1, "{one:?} {fault:?}: {number} came twice");
        row.lost += usize::from(copies.is_empty());
        if *sent_at >= begun {
            row.latest = row.latest.max(*took);
        }
        let has = |fact: &str| copies.iter().any(|marks| marks.contains(&format!("{fact}=")));
        row.marked += usize::from(one.known_as().iter().any(|(_, fact)| !fact.is_empty() && has(fact)));
    }
    assert_eq!(row.lost, 0, "{one:?} {fault:?}: nothing is lost");
    assert_eq!(row.marked > 0, one.known_as().iter().any(|(_, fact)| !fact.is_empty()), "{one:?} {fault:?}: marked");
    scene.sink.forget();
    row
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dependency_breaks_in_every_way_under_mail() {
    let name = "fault_table::every_dependency_breaks_in_every_way_under_mail";
    let full = std::env::var_os("MAILWEIR_FAULT_TABLE").is_some();
    let there = [redis::available(name), postgres::available(name)];
    let asked = ALL.into_iter().filter(|one| match one {
        One::Cache => there[0],
        One::Store => there[1],
        _ => true,
    });
    let each = asked.map(|one| async move {
        let mut scene = Scene::start(one, full).await;
        let mut rows = Vec::new();
        let some = [Fault::Refuse, Fault::Hang];
        for fault in one.faults().iter().filter(|fault| full || some.contains(fault)) {
            rows.push(broken(&mut scene, *fault).await);
        }
        rows
    });
    // Some at a time: the machine may be small, the deadlines are real.
    let rows: Vec<Vec<Row>> = futures_util::stream::iter(each).buffered(4).collect().await;
    println!("breakers {}; deadline of a message 4 s", if full { "as by default" } else { "five times as quick" });
    println!(
        "| dependency | fault | answered | lost | latest answer, s | marked | answers until it opened | back after, s |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for Row { one, fault, answered, lost, latest, marked, until_open, back } in rows.into_iter().flatten() {
        let opened = until_open.map_or("–".to_owned(), |count| count.to_string());
        let (latest, back) = (latest.as_secs_f64(), back.as_secs_f64());
        println!("| {one:?} | {fault:?} | {answered} | {lost} | {latest:.2} | {marked} | {opened} | {back:.1} |");
    }
}
