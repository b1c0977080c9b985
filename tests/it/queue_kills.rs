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
    DeadJob, Failure, Handler, Handlers, Job, Metrics, Outbox, OutboxError, Pool, Queue, QueueConfig, WorkersConfig,
    open, pump,
};
use mailweir::records::{OutboxJob, Records};
use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::outbox::OfRecords;
use crate::support::postgres::{self, Postgres};
use crate::support::records::{Place, id_at, now_ms, record};
use crate::support::redis::{Keep, Redis, ask, available};
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
    outbox: OfRecords,
    log: Arc<Log>,
}

impl Outbox for Ledger {
    fn unfinished(&self, now_ms: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Job>, OutboxError>> {
        self.outbox.unfinished(now_ms, limit)
    }

    fn queued<'a>(&'a self, jobs: &'a [(String, i64)]) -> BoxFuture<'a, Result<(), OutboxError>> {
        self.outbox.queued(jobs)
    }

    fn done<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<u64, OutboxError>> {
        // A kill does not reach into a commit: what the database does is counted whoever waits for it.
        let (records, log, keys) = (Arc::clone(&self.outbox.0), Arc::clone(&self.log), keys.to_vec());
        let counted = tokio::spawn(async move {
            let gone = records.done(&keys).await?;
            log.results.fetch_add(gone, Ordering::Relaxed);
            Ok(gone)
        });
        async move { counted.await? }.boxed()
    }

    fn dead<'a>(&'a self, dead: &'a [DeadJob], due_ms: i64) -> BoxFuture<'a, Result<(), OutboxError>> {
        self.outbox.dead(dead, due_ms)
    }

    fn buried(&self, now_ms: i64, limit: usize) -> BoxFuture<'_, Result<Vec<DeadJob>, OutboxError>> {
        self.outbox.buried(now_ms, limit)
    }

    fn revive<'a>(&'a self, keys: Option<&'a [String]>, now_ms: i64) -> BoxFuture<'a, Result<u64, OutboxError>> {
        self.outbox.revive(keys, now_ms)
    }

    fn purge<'a>(&'a self, keys: Option<&'a [String]>) -> BoxFuture<'a, Result<u64, OutboxError>> {
        self.outbox.purge(keys)
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
        let outbox: Arc<dyn Outbox> = Arc::new(Ledger { outbox: OfRecords(Arc::clone(records)), log: Arc::clone(log) });
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
    each_has_its_result(&opened.records, &log, [first, second]).await;
    opened.close().await;
}

/// Waits until every job has its one result and nothing is due any more, and ends the processes.
async fn each_has_its_result(records: &Records, log: &Log, processes: [Process; 2]) {
    let enqueued = log.enqueued.load(Ordering::Relaxed);
    // Everything gets its result, and then nothing is due any more.
    let all = async {
        while log.results.load(Ordering::Relaxed) < enqueued
            || !records.unfinished(i64::MAX, 10).await.unwrap().is_empty()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), all).await.is_err() {
        let left = records.unfinished(i64::MAX, 5).await.unwrap();
        let left: Vec<String> = left.into_iter().map(|job| job.key).collect();
        panic!("{} results of {enqueued} jobs; left: {left:?}", log.results.load(Ordering::Relaxed));
    }
    for process in processes {
        process.finish().await;
    }
    let effects = log.effects.lock().unwrap().clone();
    let (results, repeated) = (log.results.load(Ordering::Relaxed), effects.values().filter(|n| **n > 1).count());
    println!("{enqueued} jobs: {results} results, effects of {}, {repeated} repeated", effects.len());
    assert_eq!((results, effects.len() as u64), (enqueued, enqueued));
    assert!(enqueued > 300, "only {enqueued} jobs: no load");
}

/// A queue at `url` under load; `calamity` happens to it meanwhile.
async fn under_load<F: Future<Output = ()>>(url: &str, calamity: impl FnOnce(Arc<Log>) -> F) {
    let place = Place::new("");
    let opened = place.open().await;
    let (log, enough) = (Arc::new(Log::default()), Arc::new(AtomicBool::new(false)));
    let causing = tokio::spawn(cause(Arc::clone(&opened.records), Arc::clone(&log), Arc::clone(&enough)));
    let config = settings(url);
    let first = Process::start(&config, &place, &opened.records, &log).await;
    let second = Process::start(&config, &place, &opened.records, &log).await;
    more_results(&log, 100).await;
    calamity(Arc::clone(&log)).await;
    more_results(&log, 100).await;
    enough.store(true, Ordering::Relaxed);
    causing.await.unwrap();
    each_has_its_result(&opened.records, &log, [first, second]).await;
    opened.close().await;
}

/// Waits for that many further results: the queue goes on.
async fn more_results(log: &Log, more: u64) {
    let goal = log.results.load(Ordering::Relaxed) + more;
    let reached = async {
        while log.results.load(Ordering::Relaxed) < goal {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.expect("the queue goes on");
}

/// The master dies; its replica, which may lack the last writes, takes its place; the old one comes back as its replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_loses_nothing() {
    if !available("queue_kills::a_failover_loses_nothing") {
        return;
    }
    let mut master = Redis::start(Keep::Nothing).await;
    let mut replica = master.start_replica().await;
    let sentinel = replica.watch(master.port, "").await;
    let known = format!("{}\r\n", replica.port);
    replica.wait("sentinel", || ask(sentinel, "SENTINEL REPLICAS main").contains(&known)).await;
    let url = format!("redis-sentinel://127.0.0.1:{sentinel}/main");
    let promoted = || ask(sentinel, "SENTINEL GET-MASTER-ADDR-BY-NAME main").contains(&known);
    under_load(&url, async |log| {
        master.kill();
        replica.wait("failover", promoted).await;
        replica.wait("master", || replica.ask("ROLE").contains("master")).await;
        more_results(&log, 100).await;
        master.start_again().await;
        replica.wait("old master", || master.ask("INFO replication").contains("role:slave")).await;
    })
    .await;
    assert!(replica.ask("DBSIZE").starts_with(':'), "the replica has the queue now");
}

/// The slot of the queue moves to another node under load, key by key; then that node is killed, and comes back with its log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_moves_and_a_node_restarts() {
    if !available("queue_kills::a_slot_moves_and_a_node_restarts") {
        return;
    }
    let mut nodes = Redis::start_cluster_of_three(Keep::All).await;
    let url = format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", nodes[0].port, nodes[1].port);
    under_load(&url, async |log| {
        let slot = nodes[0].ask("CLUSTER KEYSLOT {mailweir}").trim_matches([':', '\r', '\n']).to_owned();
        let keys_of = |node: &Redis| -> Vec<String> {
            let said = node.ask(&format!("CLUSTER GETKEYSINSLOT {slot} 100"));
            said.lines().filter(|line| line.starts_with('{')).map(str::to_owned).collect()
        };
        let from = nodes.iter().position(|node| !keys_of(node).is_empty()).unwrap();
        let to = (from + 1) % 3;
        let id = |at: usize| nodes[at].ask("CLUSTER MYID").lines().nth(1).unwrap().to_owned();
        let (old, new) = (id(from), id(to));
        let order = |at: usize, order: &str| {
            let said = nodes[at].ask(&format!("CLUSTER SETSLOT {slot} {order}"));
            assert!(said.starts_with("+OK"), "{said}");
        };
        order(to, &format!("IMPORTING {old}"));
        order(from, &format!("MIGRATING {new}"));
        loop {
            let keys = keys_of(&nodes[from]);
            let Some(key) = keys.first() else { break };
            let said = nodes[from].ask(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", nodes[to].port));
            assert!(said.starts_with("+OK") || said.starts_with("+NOKEY"), "{said}");
            // Half of the queue here and half of it there, for a while.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for at in [to, from, (from + 2) % 3] {
            order(at, &format!("NODE {new}"));
        }
        more_results(&log, 100).await;
        assert!(!keys_of(&nodes[to]).is_empty() && keys_of(&nodes[from]).is_empty());
        nodes[to].kill();
        tokio::time::sleep(Duration::from_millis(500)).await;
        nodes[to].start_again().await;
    })
    .await;
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
