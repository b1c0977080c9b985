//! Kills, cuts and floods: every job whose cause was committed has at least one effect and exactly one result.
//!
//! The outbox is the product's own, in the records. A result is what the outbox still had when the job was done: a second
//! result of a job finds nothing there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mailweir::deferred::{
    Failure, Handler, Handlers, Job, Metrics, Outbox, OutboxError, Pool, Priority, Queue, QueueConfig, WorkersConfig,
    open, pump,
};
use mailweir::records::{OutboxJob, Records};
use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::postgres::{self, Postgres};
use crate::support::records::{Place, id_at, now_ms, record};
use crate::support::redis::{Keep, Redis, available};
use crate::support::wire::Wire;

const ROUNDS: u64 = 100;

/// What happened.
#[derive(Default)]
struct Log {
    enqueued: AtomicU64,
    effects: Mutex<HashMap<String, u32>>,
    results: AtomicU64,
}

/// The outbox in the records, as `app` has it, and counting.
struct Ledger {
    records: Arc<Records>,
    log: Arc<Log>,
}

impl Outbox for Ledger {
    fn unfinished(&self, now_ms: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Job>, OutboxError>> {
        async move {
            let rows = self.records.unfinished(now_ms, limit as u32).await?;
            let job = |row: OutboxJob| Job {
                priority: Priority::at(row.priority.into()),
                correlation: row.correlation,
                ..Job::new(&row.kind, row.key, row.payload, row.enqueued_ms)
            };
            Ok(rows.into_iter().map(job).collect())
        }
        .boxed()
    }

    fn queued<'a>(&'a self, jobs: &'a [(String, i64)]) -> BoxFuture<'a, Result<(), OutboxError>> {
        async move { Ok(self.records.queued(jobs).await?) }.boxed()
    }

    fn done<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<u64, OutboxError>> {
        // A kill does not reach into a commit: what the database does is counted whoever waits for it.
        let (records, log, keys) = (Arc::clone(&self.records), Arc::clone(&self.log), keys.to_vec());
        let counted = tokio::spawn(async move {
            let gone = records.done(&keys).await?;
            log.results.fetch_add(gone, Ordering::Relaxed);
            Ok(gone)
        });
        async move { counted.await? }.boxed()
    }
}

/// Has an effect, mostly; fails now and then, before or after.
struct Effect(Arc<Log>);

impl Handler for Effect {
    fn run<'a>(&'a self, job: &'a Job, _soon: CancellationToken) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let chance =
                job.key.bytes().fold(u32::from(job.attempt as u8), |sum, b| sum.wrapping_mul(31) + u32::from(b));
            tokio::time::sleep(Duration::from_millis(u64::from(chance % 7))).await;
            if chance % 11 == 3 {
                return Err(Failure::again("before"));
            }
            *self.0.effects.lock().unwrap().entry(job.key.clone()).or_default() += 1;
            if chance % 11 == 4 { Err(Failure::again("after")) } else { Ok(()) }
        }
        .boxed()
    }
}

/// One process: pump and workers.
struct Process {
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Process {
    async fn start(config: &QueueConfig, place: &Place, records: &Arc<Records>, log: &Arc<Log>) -> Self {
        let queue: Arc<dyn Queue> = open(config, place.path()).await.unwrap();
        let outbox: Arc<dyn Outbox> = Arc::new(Ledger { records: Arc::clone(records), log: Arc::clone(log) });
        let handlers = Handlers::from([("effect".to_owned(), Arc::new(Effect(Arc::clone(log))) as Arc<dyn Handler>)]);
        let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
        // Kills count as attempts: here nothing shall die of them.
        let workers = WorkersConfig {
            attempts: 10_000,
            backoff_ms: 5,
            backoff_max_seconds: 1,
            idle_ms: 10,
            ..WorkersConfig::default()
        };
        let sections = (config, &workers);
        let pool = Pool::new(Arc::clone(&queue), Some(Arc::clone(&outbox)), handlers, sections, Arc::clone(&metrics));
        let stop = CancellationToken::new();
        let tasks = vec![
            tokio::spawn(pump(outbox, queue, config.clone(), metrics, stop.clone())),
            tokio::spawn(pool.unwrap().run(stop.clone())),
        ];
        Self { tasks, stop }
    }

    /// As `kill -9`: whatever they are at, they do no more.
    async fn kill(self) {
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
    }

    async fn finish(self) {
        self.stop.cancel();
        for task in self.tasks {
            tokio::time::timeout(Duration::from_secs(30), task).await.expect("it ends").unwrap();
        }
    }
}

fn settings(url: &str) -> QueueConfig {
    QueueConfig {
        url: url.to_owned(),
        lease_seconds: 1,
        resend_seconds: 1,
        pump_ms: 20,
        command_ms: 1_000,
        ..QueueConfig::default()
    }
}

/// Commits records with jobs until it is told to stop.
async fn cause(records: Arc<Records>, log: Arc<Log>, enough: Arc<AtomicBool>) {
    let mut number = 0_u16;
    while !enough.load(Ordering::Relaxed) {
        let id = id_at(now_ms(), number);
        let jobs = (0..3_u8).map(|n| OutboxJob {
            key: format!("effect:{number}:{n}"),
            kind: "effect".into(),
            priority: n,
            payload: vec![n; 100],
            correlation: id.to_string(),
            enqueued_ms: now_ms(),
            not_before_ms: 0,
        });
        records.note_with_jobs(&record(id, "cause", &["a@x.example"]), jobs.collect());
        log.enqueued.fetch_add(3, Ordering::Relaxed);
        number += 1;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

/// What can happen to the queue; `None`: it is a file.
struct Redises {
    kept: Redis,
    wire: Wire,
}

async fn rounds(place: &Place, url: &str, mut redis: Option<Redises>) {
    let opened = place.open().await;
    let (log, enough) = (Arc::new(Log::default()), Arc::new(AtomicBool::new(false)));
    let causing = tokio::spawn(cause(Arc::clone(&opened.records), Arc::clone(&log), Arc::clone(&enough)));
    let config = settings(url);
    let mut first = Process::start(&config, place, &opened.records, &log).await;
    let second = Process::start(&config, place, &opened.records, &log).await;
    for round in 0..ROUNDS {
        tokio::time::sleep(Duration::from_millis(20 + round * 7_919 % 90)).await;
        match (&mut redis, round % 4) {
            (Some(redis), 1) => {
                redis.kept.kill();
                tokio::time::sleep(Duration::from_millis(round % 60)).await;
                redis.kept.start_again().await;
            }
            (Some(redis), 2) => {
                redis.wire.cut().await;
                tokio::time::sleep(Duration::from_millis(round % 60)).await;
                redis.wire.mend().await;
            }
            _ => {
                first.kill().await;
                first = Process::start(&config, place, &opened.records, &log).await;
            }
        }
    }
    enough.store(true, Ordering::Relaxed);
    causing.await.unwrap();
    let enqueued = log.enqueued.load(Ordering::Relaxed);
    // Everything gets its result, and then nothing is due any more.
    let all = async {
        while log.results.load(Ordering::Relaxed) < enqueued
            || !opened.records.unfinished(i64::MAX, 10).await.unwrap().is_empty()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), all).await.is_err() {
        let left = opened.records.unfinished(i64::MAX, 5).await.unwrap();
        let left: Vec<String> = left.into_iter().map(|job| job.key).collect();
        panic!("{} results of {enqueued} jobs; left: {left:?}", log.results.load(Ordering::Relaxed));
    }
    first.finish().await;
    second.finish().await;
    let effects = log.effects.lock().unwrap().clone();
    let (results, repeated) = (log.results.load(Ordering::Relaxed), effects.values().filter(|n| **n > 1).count());
    println!("{enqueued} jobs, {ROUNDS} rounds: {results} results, effects of {}, {repeated} repeated", effects.len());
    assert_eq!((results, effects.len() as u64), (enqueued, enqueued));
    assert!(enqueued > 300, "only {enqueued} jobs: no load");
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_killed_embedded() {
    rounds(&Place::new(""), "", None).await;
}

async fn with_redis(place: &Place, keep: Keep) {
    let kept = Redis::start(keep).await;
    let wire = Wire::to(([127, 0, 0, 1], kept.port).into()).await;
    let url = format!("redis://{}", wire.address);
    rounds(place, &url, Some(Redises { kept, wire })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_with_its_log() {
    if available("queue_kills::redis_killed_with_its_log") {
        with_redis(&Place::new(""), Keep::All).await;
    }
}

/// All that was in the queue is gone, again and again: the outbox has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_and_empty() {
    if available("queue_kills::redis_killed_and_empty") {
        with_redis(&Place::new(""), Keep::Nothing).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_and_empty_over_postgresql() {
    let name = "queue_kills::redis_killed_and_empty_over_postgresql";
    if available(name) && postgres::available(name) {
        let postgres = Postgres::start().await;
        with_redis(&Place::new(&postgres.url), Keep::Nothing).await;
    }
}
