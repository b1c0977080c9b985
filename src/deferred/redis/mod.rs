//! The queue in Redis 7 (Streams), for many nodes. One stream a priority, one consumer group, one consumer a process.
//!
//! All keys share one hash tag, so that a cluster keeps them on one node and each call is one script, whole or not at all:
//!
//! | key | type | holds |
//! | --- | --- | --- |
//! | `{prefix}:jobs` | hash | key → job, for as long as it is not done: this is the deduplication |
//! | `{prefix}:high` `:medium` `:low` | stream | keys that can be claimed or are claimed |
//! | `{prefix}:later:high` … | sorted set | keys by due time: retries and those with a time of their own |
//! | `{prefix}:dead` | hash | key → dead letter |
//! | `{prefix}:dead_since` | sorted set | keys by time of death |
//!
//! The lease is the idle time of the pending entry, by Redis' clock; due times are by ours. What Redis answers when it is
//! ill (LOADING, OOM, READONLY, MASTERDOWN, a closed connection) is an error here, and the outbox keeps the jobs. Needs
//! `maxmemory-policy noeviction`; says so when it is not.

mod form;
mod link;
mod target;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{Script, ScriptInvocation};

use super::queue::{Answer, Waiting, in_order, new_owner, now_ms};
use super::{
    Claim, DEAD_PAGE_MAX, DeadJob, DeadPlace, Depth, Job, Placed, Priority, Queue, QueueConfig, QueueError,
    ServerFacts, Settlement, Ticket,
};
pub use link::{LinkUse, RedisLink};
pub use target::RedisAddress;

const LINK: LinkUse = LinkUse { setting: "queue.url", without: "jobs wait in the outbox", keeps: true };
/// Jobs in one script: others wait while it runs.
const BATCH: usize = 500;

/// The queue in Redis.
#[derive(Debug)]
pub(super) struct Streams {
    link: RedisLink,
    keys: [String; 9],
    scripts: Scripts,
    owner: String,
    max_jobs: u64,
    max_payload_bytes: usize,
    max_dead: u64,
    lease_ms: i64,
    /// Where the search for the dead goes on, by priority.
    cursors: Mutex<[String; 3]>,
    reclaimed_ms: AtomicI64,
}

#[derive(Debug)]
struct Scripts {
    enqueue: Script,
    claim: Script,
    reclaim: Script,
    beat: Script,
    bury: Script,
    settle: Script,
    depth: Script,
    dead: Script,
    dead_of: Script,
    replay: Script,
    purge: Script,
    server: Script,
}

impl Scripts {
    fn new() -> Self {
        Self {
            enqueue: Script::new(include_str!("enqueue.lua")),
            claim: Script::new(include_str!("claim.lua")),
            reclaim: Script::new(include_str!("reclaim.lua")),
            beat: Script::new(include_str!("beat.lua")),
            bury: Script::new(include_str!("bury.lua")),
            settle: Script::new(include_str!("settle.lua")),
            depth: Script::new(include_str!("depth.lua")),
            dead: Script::new(include_str!("dead.lua")),
            dead_of: Script::new(include_str!("dead_of.lua")),
            replay: Script::new(include_str!("replay.lua")),
            purge: Script::new(include_str!("purge.lua")),
            server: Script::new("return {redis.call('INFO', 'memory'), redis.call('DBSIZE')}"),
        }
    }
}

impl Streams {
    /// Reads the address; nothing is connected yet.
    pub(super) fn new(config: &QueueConfig, url: &str) -> Result<Self, QueueError> {
        let key = |name: &str| format!("{{{}}}:{name}", config.prefix);
        let stream = |at: usize| key(Priority::ALL[at].as_str());
        let later = |at: usize| key(&format!("later:{}", Priority::ALL[at].as_str()));
        let address = RedisAddress {
            url,
            ca_file: config.ca_file.as_deref(),
            cert_file: config.cert_file.as_deref(),
            key_file: config.key_file.as_deref(),
        };
        Ok(Self {
            link: RedisLink::new(address, Duration::from_millis(config.command_ms), LINK)?,
            keys: [
                key("jobs"),
                stream(0),
                stream(1),
                stream(2),
                later(0),
                later(1),
                later(2),
                key("dead"),
                key("dead_since"),
            ],
            scripts: Scripts::new(),
            owner: new_owner()?,
            max_jobs: config.max_jobs,
            max_payload_bytes: config.max_payload_bytes,
            max_dead: config.max_dead,
            lease_ms: i64::try_from(config.lease_seconds.saturating_mul(1_000)).unwrap_or(i64::MAX),
            cursors: Mutex::new(std::array::from_fn(|_| "0-0".to_owned())),
            reclaimed_ms: AtomicI64::new(0),
        })
    }

    fn call<'s>(&self, script: &'s Script) -> ScriptInvocation<'s> {
        let mut call = script.prepare_invoke();
        for key in &self.keys {
            call.key(key);
        }
        call
    }

    async fn add(&self, jobs: &[Job]) -> Result<Vec<Placed>, QueueError> {
        let mut placed = Vec::with_capacity(jobs.len());
        for some in jobs.chunks(BATCH) {
            let now = now_ms();
            let mut call = self.call(&self.scripts.enqueue);
            call.arg(self.max_jobs);
            let fit = |job: &Job| job.check(self.max_payload_bytes).is_ok();
            for job in some.iter().filter(|job| fit(job)) {
                let due = if job.not_before_ms > now { job.not_before_ms } else { 0 };
                call.arg(&job.key).arg(form::encode(job)).arg(job.priority.place() + 1).arg(due);
            }
            let answers: Vec<u8> = if some.iter().any(fit) {
                self.link.run::<Vec<i64>>("add jobs", &call).await?.into_iter().map(|n| n as u8).collect()
            } else {
                Vec::new()
            };
            let mut answers = answers.into_iter();
            placed.extend(some.iter().map(|job| match fit(job).then(|| answers.next()).flatten() {
                Some(1) => Placed::Queued,
                Some(2) => Placed::Duplicate,
                Some(_) => Placed::Full,
                None => Placed::Refused,
            }));
        }
        Ok(placed)
    }

    async fn take(&self, wanted: [usize; 3]) -> Result<Vec<Claim>, QueueError> {
        let most: usize = wanted.iter().sum();
        if most == 0 {
            return Ok(Vec::new());
        }
        let mut claims = self.reclaim().await?;
        let mut left = wanted;
        for _ in 0..claims.len() {
            // What was taken over counts against the largest share.
            if let Some(largest) = left.iter_mut().max() {
                *largest = largest.saturating_sub(1);
            }
        }
        let mut call = self.call(&self.scripts.claim);
        call.arg(now_ms()).arg(&self.owner).arg(&left[..]);
        let fresh = self.link.run::<Vec<Fresh>>("claim jobs", &call).await;
        match fresh {
            Ok(fresh) => {
                claims.extend(fresh.into_iter().map(|(at, entry, key, bytes)| claim(at, entry, &key, &bytes, 1)))
            }
            // Those taken over are ours by now: they must not wait for another lease to run out.
            Err(error) if claims.is_empty() => return Err(error),
            Err(_) => {}
        }
        Ok(claims)
    }

    /// Takes over from the dead, four times in each lease, and one after the other while there are more.
    async fn reclaim(&self) -> Result<Vec<Claim>, QueueError> {
        let now = now_ms();
        if now.abs_diff(self.reclaimed_ms.load(Ordering::Relaxed)) < (self.lease_ms / 4).unsigned_abs() {
            return Ok(Vec::new());
        }
        let cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut call = self.call(&self.scripts.reclaim);
        call.arg(&self.owner).arg(self.lease_ms).arg(&cursors[..]);
        let (next, taken) =
            self.link.run::<((String, String, String), Vec<Taken>)>("take over from the dead", &call).await?;
        let next = [next.0, next.1, next.2];
        // As long as the search has not come round, or finds some, it goes on with the next call.
        if taken.is_empty() && next.iter().all(|cursor| cursor == "0-0") {
            self.reclaimed_ms.store(now, Ordering::Relaxed);
        }
        *self.cursors.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(taken
            .into_iter()
            .map(|(at, entry, key, bytes, delivery)| claim(at, entry, &key, &bytes, delivery))
            .collect())
    }

    async fn settle_all(&self, claims: &[(Arc<Claim>, Settlement)]) -> Result<Vec<bool>, QueueError> {
        let mut settled = Vec::with_capacity(claims.len());
        for some in claims.chunks(BATCH) {
            let now = now_ms();
            let mut call = self.call(&self.scripts.settle);
            call.arg(&self.owner).arg(now).arg(self.max_dead).arg(self.lease_ms);
            for (claim, settlement) in some {
                let job = &claim.job;
                call.arg(job.priority.place() + 1).arg(&claim.ticket.entry).arg(claim.ticket.delivery).arg(&job.key);
                match settlement {
                    Settlement::Done => call.arg("done").arg(0).arg(""),
                    Settlement::Again { due_ms, error } => {
                        call.arg("again").arg(*due_ms).arg(form::encode(&job.failed(error)))
                    }
                    Settlement::Later { due_ms, error } => {
                        call.arg("again").arg(*due_ms).arg(form::encode(&claim.excused(error)))
                    }
                    Settlement::Dead { reason, error } => {
                        let dead = DeadJob { job: job.failed(error), reason: *reason, dead_ms: now };
                        call.arg("dead").arg(0).arg(form::encode_dead(&dead))
                    }
                    Settlement::Back => call.arg("back").arg(0).arg(""),
                };
            }
            let answers = self.link.run::<Vec<i64>>("settle jobs", &call).await?;
            settled.extend(answers.into_iter().map(|answer| answer == 1));
        }
        if claims.iter().any(|(claim, _)| claim.lost_by() > 0) {
            // The next of the dead's may be taken over.
            self.reclaimed_ms.store(0, Ordering::Relaxed);
        }
        Ok(settled)
    }

    async fn list_dead(&self, after: Option<&DeadPlace>, limit: usize) -> Result<Vec<DeadJob>, QueueError> {
        let mut call = self.call(&self.scripts.dead);
        call.arg(limit.clamp(1, DEAD_PAGE_MAX));
        match after {
            Some(DeadPlace(ms, key)) => call.arg(*ms).arg(key),
            None => call.arg("+inf").arg(""),
        };
        let found = self.link.run::<Vec<(String, Vec<u8>)>>("list dead letters", &call).await?;
        Ok(found.into_iter().map(|(key, bytes)| form::decode_dead(&key, &bytes)).collect())
    }

    async fn dead_of(&self, keys: &[String]) -> Result<Vec<DeadJob>, QueueError> {
        let mut call = self.call(&self.scripts.dead_of);
        call.arg(keys);
        let found = self.link.run::<Vec<(String, Vec<u8>)>>("list dead letters", &call).await?;
        Ok(found.into_iter().map(|(key, bytes)| form::decode_dead(&key, &bytes)).collect())
    }

    async fn revive(&self, dead: &[DeadJob]) -> Result<u64, QueueError> {
        let mut call = self.call(&self.scripts.replay);
        for dead in dead {
            let job = Job { attempt: 0, not_before_ms: 0, enqueued_ms: now_ms(), ..dead.job.clone() };
            call.arg(&job.key).arg(form::encode(&job)).arg(job.priority.place() + 1);
        }
        self.link.run::<u64>("replay dead letters", &call).await
    }

    async fn replay_some(&self, keys: Option<&[String]>) -> Result<u64, QueueError> {
        let mut count = 0;
        if let Some(keys) = keys {
            for some in keys.chunks(DEAD_PAGE_MAX) {
                count += self.revive(&self.dead_of(some).await?).await?;
            }
            return Ok(count);
        }
        // What stays dead because its key is queued already is passed over.
        let mut after = None;
        loop {
            let page = self.list_dead(after.as_ref(), DEAD_PAGE_MAX).await?;
            count += self.revive(&page).await?;
            let Some(last) = page.last() else { return Ok(count) };
            after = Some(last.place());
        }
    }
}

/// Priority (from 1), stream entry, key, job; and how often it was delivered.
type Fresh = (i64, String, String, Vec<u8>);
type Taken = (i64, String, String, Vec<u8>, u32);

fn claim(priority: i64, entry: String, key: &str, bytes: &[u8], delivery: u32) -> Claim {
    // The stream tells the priority: bytes that cannot be read do not.
    let mut job = Job { priority: Priority::at(priority - 1), ..form::decode(key, bytes) };
    job.attempt = job.attempt.saturating_add(delivery);
    Claim { job, ticket: Ticket { entry, delivery } }
}

impl Queue for Streams {
    fn enqueue<'a>(&'a self, jobs: &'a [Job]) -> Answer<'a, Vec<Placed>> {
        self.add(jobs).boxed()
    }

    fn claim(&self, wanted: [usize; 3]) -> Answer<'_, Vec<Claim>> {
        self.take(wanted).boxed()
    }

    fn beat<'a>(&'a self, claims: &'a [Arc<Claim>]) -> Answer<'a, Vec<bool>> {
        async move {
            let mut call = self.call(&self.scripts.beat);
            call.arg(&self.owner);
            for claim in claims {
                call.arg(claim.job.priority.place() + 1).arg(&claim.ticket.entry).arg(claim.ticket.delivery);
            }
            let answers = self.link.run::<Vec<i64>>("renew leases", &call).await?;
            Ok(answers.into_iter().map(|answer| answer == 1).collect())
        }
        .boxed()
    }

    fn settle<'a>(&'a self, claims: &'a [(Arc<Claim>, Settlement)]) -> Answer<'a, Vec<bool>> {
        self.settle_all(claims).boxed()
    }

    fn depth(&self) -> Answer<'_, Depth> {
        async {
            let mut call = self.call(&self.scripts.depth);
            call.arg(now_ms()).arg(self.lease_ms);
            let numbers = self.link.run::<Vec<u64>>("measure the queue", &call).await?;
            let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
            let mut depth = Depth { dead: number(12), ..Depth::default() };
            for (place, _) in in_order() {
                let at = place * 4;
                depth.by_priority[place] = Waiting {
                    waiting: number(at),
                    running: number(at + 1),
                    later: number(at + 2),
                    oldest_ms: number(at + 3),
                };
            }
            Ok(depth)
        }
        .boxed()
    }

    fn dead<'a>(&'a self, after: Option<&'a DeadPlace>, limit: usize) -> Answer<'a, Vec<DeadJob>> {
        self.list_dead(after, limit).boxed()
    }

    fn bury<'a>(&'a self, dead: &'a [DeadJob]) -> Answer<'a, u64> {
        async move {
            let mut count = 0;
            for some in dead.chunks(BATCH) {
                let mut call = self.call(&self.scripts.bury);
                call.arg(self.max_dead);
                for dead in some {
                    call.arg(&dead.job.key).arg(form::encode_dead(dead)).arg(dead.dead_ms);
                }
                count += self.link.run::<u64>("take in dead letters", &call).await?;
            }
            Ok(count)
        }
        .boxed()
    }

    fn replay<'a>(&'a self, keys: Option<&'a [String]>) -> Answer<'a, u64> {
        self.replay_some(keys).boxed()
    }

    fn purge<'a>(&'a self, keys: Option<&'a [String]>) -> Answer<'a, u64> {
        async move {
            if keys.is_some_and(<[String]>::is_empty) {
                return Ok(0);
            }
            let mut call = self.call(&self.scripts.purge);
            call.arg(keys.unwrap_or_default());
            self.link.run::<u64>("purge dead letters", &call).await
        }
        .boxed()
    }

    fn server(&self) -> Answer<'_, Option<ServerFacts>> {
        async {
            let call = self.call(&self.scripts.server);
            let (memory, keys) = self.link.run::<(String, u64)>("ask the server", &call).await?;
            let field =
                |name: &str| memory.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
            Ok(Some(ServerFacts {
                memory_bytes: field("used_memory:").unwrap_or(0),
                memory_max_bytes: field("maxmemory:").filter(|most| *most > 0),
                keys,
            }))
        }
        .boxed()
    }

    fn place(&self) -> String {
        self.link.place().to_owned()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.link.close().boxed()
    }
}
