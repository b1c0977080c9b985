//! How many jobs a second go through their whole life: `cargo bench --bench queue [redis://…]`.
//!
//! Enqueued, claimed and settled in batches of 256, payloads of 1 KB, by two handles at once; best of rounds. Then the same
//! through the pool, each job run by a handler that does nothing. At last what ordering a second look adds to a verdict: messages
//! are judged one after the other with and without; median time until the answer, in microseconds. Redis: with an address, else a server of its own is started
//! if there is one, on a unix socket, with its log written every second.
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::panic, clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mailweir::analysis::Site;
use mailweir::deferred::{
    Failure, Handler, Handlers, Job, Metrics, Pool, Queue, QueueConfig, ScalingConfig, Settlement, WorkersConfig, open,
};
use mailweir::enrichment::{SenderAuth, Services};
use mailweir::mail::{Connection, Door, Envelope, MessageId, Path as MailPath};
use mailweir::pipeline::{self, Abilities, Answer, Deep, Inspect, Pipeline, ReassessConfig, Standing, Transaction};
use mailweir::policy::{self, Judge, PolicyFiles, RuleSet};
use mailweir::records::{self, Records};
use tokio_util::sync::CancellationToken;

const JOBS: usize = 20_000;
const BATCH: usize = 256;
const ROUNDS: usize = 5;

struct Nothing;

impl Handler for Nothing {
    fn run<'a>(&'a self, _job: &'a Job, _soon: CancellationToken) -> BoxFuture<'a, Result<(), Failure>> {
        async { Ok(()) }.boxed()
    }
}

/// A server for the bench, ended with it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn server(folder: &Path) -> Option<(Server, String)> {
    let socket = folder.join("redis.sock");
    let mut command = Command::new("redis-server");
    command
        .args(["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--dir"])
        .arg(folder);
    let child = command.arg("--unixsocket").arg(&socket).stdin(Stdio::null()).stdout(Stdio::null()).spawn().ok()?;
    let server = Server(child);
    for _ in 0..200 {
        if socket.exists() {
            return Some((server, format!("redis+unix://{}", socket.display())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Messages of one round of verdicts, and after how many it is waited until what they ordered is written.
const VERDICTS: u64 = 1_024;
const PACE: u64 = 16;

fn main() {
    let given = std::env::args().skip(1).find(|argument| argument.contains("://"));
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(engine("embedded", "", folder.path()));
    let own = if given.is_none() { server(folder.path()) } else { None };
    match given.or_else(|| own.as_ref().map(|(_, url)| url.clone())) {
        Some(url) => runtime.block_on(engine("Redis", &url, folder.path())),
        None => println!("Redis: left out: redis-server is not installed"),
    }
    let (mut without, mut with) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        without = without.min(runtime.block_on(verdict(false)));
        with = with.min(runtime.block_on(verdict(true)));
    }
    println!("verdict without a second look:  {without:8.1} µs");
    println!("verdict that orders one:        {with:8.1} µs, {:.1} more", with - without);
}

/// Median time until the answer to a message, in microseconds. The job goes to the outbox with the record, behind the answer.
async fn verdict(again: bool) -> f64 {
    let data = tempfile::tempdir().unwrap();
    let metrics = Arc::new(records::Metrics::new(&prometheus::Registry::new()).unwrap());
    let (records, writer) = Records::open(&records::Config::default(), data.path(), metrics).await.unwrap();
    let writer = tokio::spawn(writer);
    let (rules, _) = RuleSet::build(Vec::new(), Arc::default(), &Default::default(), &Default::default());
    let config = ReassessConfig { enabled: again, share: 1.0, ..ReassessConfig::default() };
    let standing = Standing {
        judge: Judge::new(&policy::Config::default(), &PolicyFiles::default()).unwrap(),
        site: Site::default(),
        sender_auth: SenderAuth::offline(),
        services: Services::default(),
        authserv_id: "mx.example.org".into(),
        own_networks: Vec::new(),
        needs_history: false,
        rules: Arc::new(rules),
        rule_budget: Default::default(),
        rule_time: Duration::from_secs(1),
        config: pipeline::Config::default(),
        deep: Deep { config, ..Deep::default() },
    };
    let metrics = Arc::new(pipeline::Metrics::new(&prometheus::Registry::new()).unwrap());
    let judging = Pipeline::new(standing, Some(Arc::clone(&records)), None, metrics);
    let mut times = Vec::new();
    for number in 0..VERDICTS {
        let raw = format!(
            "From: A <a@firm.example>\r\nTo: b@example.org\r\nSubject: {number}\r\nDate: Fri, 20 Nov 2026 10:00:00 +0000\r\n\
             Message-ID: <{number}@firm.example>\r\n\r\nHello {number}\r\n"
        );
        let transaction = Transaction {
            id: MessageId::new(number, [1; 10]),
            connection: Arc::new(Connection::unknown(Door::Relay)),
            envelope: Envelope {
                sender: MailPath::new("a@firm.example"),
                recipients: vec![MailPath::new("b@example.org")],
            },
            raw: raw.into(),
            received: SystemTime::now(),
            abilities: Abilities { edit_headers: true, drop_recipients: true, hold_at_mta: false },
        };
        let begun = Instant::now();
        let answer = judging.inspect(transaction).await;
        times.push(begun.elapsed());
        assert!(matches!(answer, Answer::Deliver { .. }), "{answer:?}");
        if number % PACE == PACE - 1 {
            // What is ordered faster than it can be kept is not ordered: that is not what is measured.
            let until = Instant::now() + Duration::from_secs(10);
            while again && orders(&records).await <= number {
                assert!(Instant::now() < until, "each message orders a second look");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    drop((judging, records));
    writer.await.unwrap();
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

async fn orders(records: &Records) -> u64 {
    records.counts().await.unwrap().into_iter().find(|(table, _)| *table == "outbox").unwrap().1
}

async fn engine(name: &str, url: &str, folder: &Path) {
    let config = QueueConfig { url: url.into(), prefix: "bench".into(), command_ms: 60_000, ..QueueConfig::default() };
    let (mut alone, mut batches) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let handles = [open(&config, folder).await.unwrap(), open(&config, folder).await.unwrap()];
        let begun = Instant::now();
        let lives = handles.iter().enumerate().map(|(n, queue)| life(Arc::clone(queue), format!("{round}.{n}"), BATCH));
        let tasks: Vec<_> = lives.map(tokio::spawn).collect();
        for task in tasks {
            task.await.unwrap();
        }
        batches.push(JOBS as f64 / begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        for job in jobs(&format!("{round}.one"), 200) {
            handles[0].enqueue(&[job]).await.unwrap();
        }
        alone.push(begun.elapsed().as_secs_f64() * 1e6 / 200.0);
        empty(&*handles[0]).await;
        for handle in handles {
            handle.close().await;
        }
    }
    let best = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
    println!("{name:10} whole life in batches of {BATCH}:  {:9.0} jobs/s", best(&batches));
    println!("{name:10} enqueue of one job:            {:9.0} µs", alone.iter().copied().fold(f64::MAX, f64::min));
    for workers in [2, 20] {
        println!(
            "{name:10} through a pool of {workers:2} workers:   {:9.0} jobs/s",
            pool(&config, folder, workers).await
        );
    }
}

fn jobs(round: &str, count: usize) -> Vec<Job> {
    (0..count).map(|n| Job::new("nothing", format!("{round}:{n}"), vec![b'x'; 1_024], 0)).collect()
}

/// Half of the jobs: in, out, done.
async fn life(queue: Arc<dyn Queue>, round: String, batch: usize) {
    for some in jobs(&round, JOBS / 2).chunks(batch) {
        queue.enqueue(some).await.unwrap();
        settle_some(&*queue, batch).await;
    }
    while settle_some(&*queue, batch).await > 0 {}
}

async fn settle_some(queue: &dyn Queue, batch: usize) -> usize {
    let claims = queue.claim([0, batch, 0]).await.unwrap();
    let done: Vec<_> = claims.into_iter().map(|claim| (Arc::new(claim), Settlement::Done)).collect();
    if !done.is_empty() {
        assert!(queue.settle(&done).await.unwrap().iter().all(|settled| *settled));
    }
    done.len()
}

async fn empty(queue: &dyn Queue) {
    while settle_some(queue, BATCH).await > 0 {}
}

async fn pool(config: &QueueConfig, folder: &Path, workers: u32) -> f64 {
    let queue = open(config, folder).await.unwrap();
    for some in jobs("pool", JOBS).chunks(BATCH) {
        queue.enqueue(some).await.unwrap();
    }
    let handlers = Handlers::from([("nothing".to_owned(), Arc::new(Nothing) as Arc<dyn Handler>)]);
    let scaling = ScalingConfig { min: workers, max: workers, ..ScalingConfig::default() };
    let settings = WorkersConfig { scaling, prefetch: BATCH, idle_ms: 5, ..WorkersConfig::default() };
    let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
    let pool = Pool::new(Arc::clone(&queue), None, handlers, (config, &settings), metrics).unwrap();
    let stop = CancellationToken::new();
    let begun = Instant::now();
    let running = tokio::spawn(pool.run(stop.clone()));
    while queue.depth().await.unwrap().total() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let per_second = JOBS as f64 / begun.elapsed().as_secs_f64();
    stop.cancel();
    running.await.unwrap();
    queue.close().await;
    per_second
}
