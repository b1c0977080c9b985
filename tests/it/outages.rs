//! A real clamd, a real Redis and a real PostgreSQL, killed and started again, each and all at once, while mail comes through
//! the milter door. What is promised: every message is answered; what only the scanner would have refused passes marked while
//! it is gone; what must be held is held durably or answered 451; nothing else notices. The records are complete afterwards.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mailweir::gateway::milter::Endpoint;
use mailweir::records::{self, HeldQuery, MessageQuery, Records};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::clamd::{self, Clamd, SAMPLE};
use crate::support::gateway::{Gateway, free_port};
use crate::support::http::request;
use crate::support::milter::Mta;
use crate::support::postgres::{self, Postgres};
use crate::support::redis::{self, Keep, Redis};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(90);
const SENDERS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    /// Only the scanner knows it.
    Malware,
    /// To be held.
    Held,
}

fn kind(number: usize) -> Kind {
    match number % 4 {
        0 => Kind::Malware,
        1 => Kind::Held,
        _ => Kind::Plain,
    }
}

fn body(number: usize) -> String {
    // In two halves, so that this file is no test pattern.
    let pattern = ["YJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD", "-ANTI-UBE-TEST-EMAIL*C.34X"].concat();
    let line = match kind(number) {
        Kind::Plain => "Nothing at all",
        Kind::Malware => SAMPLE,
        Kind::Held => &pattern,
    };
    format!("Hello {number}\r\n{line}\r\n")
}

/// One message that was answered.
struct Answered {
    begun: Instant,
    took: Duration,
    /// The milter's final answer.
    answer: u8,
    marked: bool,
}

type Log = Arc<Mutex<BTreeMap<usize, Answered>>>;

/// Sends without end over connections of many messages each.
async fn send(door: SocketAddr, next: Arc<AtomicUsize>, log: Log, stop: Arc<AtomicBool>) {
    let mut mta = Mta::connect(&Endpoint::Inet(door.to_string())).await.unwrap();
    mta.greet().await;
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let frames = mta.message(&format!("outage {number}."), body(number).as_bytes()).await;
        let (answer, _) = frames.last().unwrap();
        let marked = frames.iter().any(|(_, data)| data.windows(19).any(|at| at == b"X-Mailweir-Degraded"));
        let answered = Answered { begun, took: begun.elapsed(), answer: *answer, marked };
        log.lock().unwrap().insert(number, answered);
        sleep(Duration::from_millis(30)).await;
    }
}

struct Scene {
    clamd: Clamd,
    redis: Redis,
    database: Postgres,
    gateway: Gateway,
    http: SocketAddr,
    token: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Gone {
    Clamd,
    Redis,
    Database,
    All,
}

impl Gone {
    fn is(self, other: Self) -> bool {
        self == other || self == Self::All
    }
}

impl Scene {
    async fn start() -> Self {
        let (clamd, redis) = (Clamd::start().await, Redis::start(Keep::All).await);
        let (database, http) = (Postgres::start().await, free_port());
        let settings = format!(
            "[http]\nenabled = true\nlisten = \"{http}\"\nlow_space_bytes = 1\n[store]\nurl = \"{}\"\n\
             [queue]\nurl = \"{1}\"\n[cache]\nurl = \"{1}\"\n\
             [enrichment]\nallow_networks = [\"127.0.0.0/8\"]\n\
             [enrichment.clamd]\nenabled = true\naddress = \"inet:{2}\"\non_failure = \"open\"\n",
            database.url,
            redis.url(),
            clamd.address
        );
        let gateway = Gateway::start_with("127.0.0.1:9".parse().unwrap(), &settings).await;
        let until = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(http).await.is_err() {
            assert!(Instant::now() < until, "{}", gateway.log());
            sleep(Duration::from_millis(20)).await;
        }
        let token = std::fs::read_to_string(gateway.data().join("admin.token")).unwrap().trim().to_owned();
        Self { clamd, redis, database, gateway, http, token }
    }

    fn kill(&mut self, gone: Gone) {
        if gone.is(Gone::Clamd) {
            self.clamd.kill();
        }
        if gone.is(Gone::Redis) {
            self.redis.kill();
        }
        if gone.is(Gone::Database) {
            self.database.kill();
        }
    }

    async fn start_again(&mut self, gone: Gone) {
        if gone.is(Gone::Clamd) {
            self.clamd.start_again().await;
        }
        if gone.is(Gone::Redis) {
            self.redis.start_again().await;
        }
        if gone.is(Gone::Database) {
            self.database.start_again().await;
        }
    }

    async fn get(&self, target: &str) -> (u16, Value) {
        let answer = request(self.http, "GET", target, &[&format!("Authorization: Bearer {}", self.token)], "").await;
        (answer.status, answer.json())
    }

    /// Whether its breaker is open.
    async fn is_left_alone(&self, name: &str) -> bool {
        let (_, report) = self.get("/health/metrics").await;
        let all = report["dependencies"].as_array().unwrap();
        all.iter().any(|one| one["name"] == name && one["state"] != "closed")
    }

    /// Whether health says of everything how it is.
    async fn is_seen(&self, gone: Gone) -> bool {
        let (status, health) = self.get("/health").await;
        let (ready, _) = self.get("/ready").await;
        assert_eq!(ready, 200, "mail is answered");
        let (database, queue) = (&health["database"]["reachable"], &health["queue"]["reachable"]);
        status == if gone.is(Gone::Database) { 503 } else { 200 }
            && *database == !gone.is(Gone::Database)
            && *queue == !gone.is(Gone::Redis)
            && self.is_left_alone("clamd").await == gone.is(Gone::Clamd)
            && self.is_left_alone("cache").await == gone.is(Gone::Redis)
    }

    async fn is_well(&self) -> bool {
        let (status, health) = self.get("/health").await;
        let left_alone = self.is_left_alone("clamd").await || self.is_left_alone("cache").await;
        status == 200 && health["status"] == "HEALTHY" && !left_alone
    }
}

async fn until(what: &str, scene: &Scene, mut is: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is().await {
        assert!(
            Instant::now() < end,
            "waited for: {what}: {:#}\n{}",
            scene.get("/health").await.1,
            scene.gateway.log()
        );
        sleep(Duration::from_millis(50)).await;
    }
}

/// Each answer is one that is right at its time. `gone`: what was missing, from when to when it was well again.
fn right(log: &BTreeMap<usize, Answered>, gone: &[(Gone, Instant, Instant)]) {
    let mut wrong = Vec::new();
    for (number, Answered { begun, took, answer, marked }) in log {
        let missing =
            |one: Gone| gone.iter().any(|(what, from, to)| what.is(one) && begun <= to && *begun + *took >= *from);
        let right = match (kind(*number), answer) {
            (Kind::Plain, b'c' | b'a') => !*marked || missing(Gone::Clamd),
            (Kind::Malware, b'y' | b'r') => true,
            (Kind::Malware, b'c' | b'a') => *marked && missing(Gone::Clamd),
            // Taken: it is in the quarantine, see there.
            (Kind::Held, b'd') => true,
            (Kind::Held, b't' | b'y') => missing(Gone::Database),
            _ => false,
        };
        if !right {
            wrong.push(format!("{number} {:?}: {} marked {marked}", kind(*number), char::from(*answer)));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), log.len(), wrong.join("\n"));
}

fn number_of(text: &str) -> usize {
    text.split("outage ").nth(1).and_then(|rest| rest.split('.').next()).and_then(|n| n.parse().ok()).unwrap()
}

/// What is in the database: rows of the ledger and held messages, by number.
async fn kept(scene: &Scene) -> (HashMap<usize, usize>, HashMap<usize, usize>) {
    let metrics = Arc::new(records::Metrics::new(&prometheus::Registry::new()).unwrap());
    let config = records::Config { url: scene.database.url.clone(), ..records::Config::default() };
    let (records, writer) = Records::open(&config, &scene.gateway.data(), metrics).await.unwrap();
    let writer = tokio::spawn(writer);
    let (mut rows, mut held) = (HashMap::new(), HashMap::new());
    let mut query = MessageQuery { limit: 500, ..MessageQuery::default() };
    loop {
        let page = records.messages(&query).await.unwrap();
        let Some(last) = page.last() else { break };
        query.before = Some(last.id);
        page.iter().for_each(|row| *rows.entry(number_of(&row.subject)).or_default() += 1);
    }
    let mut query = HeldQuery { limit: 500, ..HeldQuery::default() };
    loop {
        let page = records.held(&query).await.unwrap();
        let Some(last) = page.last() else { break };
        query.before = Some(last.id);
        for one in page {
            let raw = records.held_bytes(&one).await.unwrap_or_else(|error| panic!("{}: {error}", one.id));
            *held.entry(number_of(&String::from_utf8_lossy(&raw))).or_default() += 1;
        }
    }
    drop(records);
    writer.await.unwrap();
    (rows, held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_servers_killed_and_back_under_mail() {
    let name = "outages::real_servers_killed_and_back_under_mail";
    if !clamd::available(name) || !redis::available(name) || !postgres::available(name) {
        return;
    }
    let mut scene = Scene::start().await;
    let (next, log, stop) = (Arc::default(), Log::default(), Arc::new(AtomicBool::new(false)));
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        senders.spawn(send(scene.gateway.milter, Arc::clone(&next), Arc::clone(&log), Arc::clone(&stop)));
    }
    let mut gone = Vec::new();
    let mut told = Vec::new();
    for what in [Gone::Clamd, Gone::Redis, Gone::Database, Gone::All] {
        until("everything is well", &scene, async || scene.is_well().await).await;
        let before = log.lock().unwrap().len();
        until("mail flows", &scene, async || log.lock().unwrap().len() > before + 20).await;
        let (from, before) = (Instant::now(), log.lock().unwrap().len());
        scene.kill(what);
        until("health says so", &scene, async || scene.is_seen(what).await).await;
        let seen = from.elapsed();
        // Longer than anything is tried again for.
        sleep(Duration::from_secs(6)).await;
        let starts = Instant::now();
        scene.start_again(what).await;
        let answers = Instant::now();
        let is_held = |(number, one): (&usize, &Answered)| {
            kind(*number) == Kind::Held && one.begun >= answers && one.answer == b'd'
        };
        until("everything is well", &scene, async || scene.is_well().await && log.lock().unwrap().iter().any(is_held))
            .await;
        let back = answers.elapsed();
        gone.push((what, from, Instant::now()));
        let log = log.lock().unwrap();
        let during = log.values().filter(|one| one.begun >= from && one.begun <= starts);
        let latest = during.map(|one| one.took).max().unwrap_or_default();
        told.push(format!(
            "{what:?} gone for {:.1} s: seen after {:.1} s, {} messages answered, the latest after {:.2} s; all well {:.1} s after it \
             answered again",
            (answers - from).as_secs_f64(),
            seen.as_secs_f64(),
            log.len() - before,
            latest.as_secs_f64(),
            back.as_secs_f64(),
        ));
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = senders.join_next().await {
        ended.unwrap();
    }
    let log = std::mem::take(&mut *log.lock().unwrap());
    assert_eq!(log.len(), next.load(Ordering::Relaxed), "every message is answered");
    right(&log, &gone);
    let marked = log.values().filter(|one| one.marked).count();
    let deferred = log.iter().filter(|(_, one)| matches!(one.answer, b't' | b'y'));
    let deferred = deferred.filter(|(number, _)| kind(**number) == Kind::Held).count();
    assert!(marked > 0, "no message came while the scanner was gone: the test shows nothing");

    assert!(scene.gateway.terminate().await.success(), "{}", scene.gateway.log());
    let (rows, held) = kept(&scene).await;
    for (number, one) in &log {
        assert_eq!(rows.get(number), Some(&1), "{number} is in the ledger");
        let taken = kind(*number) == Kind::Held && one.answer == b'd';
        let copies = held.get(number).copied().unwrap_or_default();
        // Also when the answer to a commit was lost with the server: that copy was taken back.
        assert_eq!(copies, usize::from(taken), "{number}: {}\n{}", char::from(one.answer), scene.gateway.log());
    }
    println!("{}", told.join("\n"));
    println!(
        "{} messages: {marked} marked, {deferred} deferred, {} held, {} in the ledger",
        log.len(),
        held.len(),
        rows.len()
    );
}
