//! The embedded queue: an SQLite file of its own, in WAL with `synchronous=FULL`. One node needs nothing else.
//!
//! Each call is one transaction over all its jobs: batches are what makes it fast. `ready_ms` is both the time of a job that
//! waits and the end of the lease of one that is worked on, so that claiming, retrying and taking over from the dead are one
//! question to one index. Several processes may use the file; one writes at a time.
//!
//! Over 500 lines: the same contract as the Redis scripts keep, statement by statement, is easiest to hold in one place.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, QueryBuilder, Row, Sqlite, Transaction};

use super::queue::{Answer, Waiting, in_order, new_owner, now_ms};
use super::{
    Claim, DEAD_PAGE_MAX, DeadJob, DeadPlace, Depth, Job, Placed, Priority, Queue, QueueConfig, QueueError, Reason,
    Settlement, Ticket,
};
use crate::observe::event;

/// Jobs in one statement: SQLite takes at most 32,766 values.
const ROWS: usize = 500;
/// How long the number of jobs is believed before they are counted anew.
const COUNT_MS: i64 = 1_000;

/// Tries to bring the schema up to date, and the pause between them.
const MIGRATE_TRIES: u32 = 5;
const MIGRATE_PAUSE: Duration = Duration::from_millis(100);

/// The embedded queue.
#[derive(Debug)]
pub(super) struct Embedded {
    write: SqlitePool,
    read: SqlitePool,
    owner: String,
    place: String,
    max_jobs: u64,
    max_payload_bytes: usize,
    max_dead: i64,
    lease_ms: i64,
    command: Duration,
    /// Jobs in the queue when they were last counted, with those added since.
    jobs: AtomicU64,
    counted_ms: AtomicI64,
}

impl Embedded {
    pub(super) async fn open(config: &QueueConfig, file: &Path) -> Result<Self, QueueError> {
        let place = file.display().to_string();
        let command = Duration::from_millis(config.command_ms);
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(command)
            .disable_statement_logging();
        let pool = |most| {
            SqlitePoolOptions::new()
                .max_connections(most)
                .acquire_timeout(command)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let open = |source| QueueError::Open { place: place.clone(), source };
        let write = pool(1).connect_with(options.clone()).await.map_err(open)?;
        migrate(&write).await.map_err(|source| QueueError::Migrate { place: place.clone(), source })?;
        Ok(Self {
            write,
            read: pool(2).connect_lazy_with(options),
            owner: new_owner()?,
            place,
            max_jobs: config.max_jobs,
            max_payload_bytes: config.max_payload_bytes,
            max_dead: i64::try_from(config.max_dead).unwrap_or(i64::MAX),
            lease_ms: i64::try_from(config.lease_seconds.saturating_mul(1_000)).unwrap_or(i64::MAX),
            command,
            jobs: AtomicU64::new(0),
            counted_ms: AtomicI64::new(0),
        })
    }

    /// Runs work in one transaction that has the file for itself from the start: no deadlock between readers that turn writers.
    async fn write<T>(
        &self,
        attempt: &'static str,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, QueueError> {
        let all = async {
            let mut transaction: Transaction<'_, Sqlite> = self.write.begin_with("BEGIN IMMEDIATE").await?;
            let done = work(&mut transaction).await?;
            transaction.commit().await?;
            Ok(done)
        };
        all.await.map_err(QueueError::query(attempt))
    }

    /// Room for more jobs.
    async fn room(&self) -> Result<u64, QueueError> {
        let now = now_ms();
        if now.abs_diff(self.counted_ms.load(Ordering::Relaxed)) >= COUNT_MS as u64 {
            let count = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM jobs").fetch_one(&self.read);
            let count = count.await.map_err(QueueError::query("count the jobs"))?;
            self.jobs.store(count.unsigned_abs(), Ordering::Relaxed);
            self.counted_ms.store(now, Ordering::Relaxed);
        }
        Ok(self.max_jobs.saturating_sub(self.jobs.load(Ordering::Relaxed)))
    }

    async fn add(&self, jobs: &[Job]) -> Result<Vec<Placed>, QueueError> {
        let room = usize::try_from(self.room().await?).unwrap_or(usize::MAX);
        let fit = |job: &Job| job.check(self.max_payload_bytes).is_ok();
        let mut seen = HashSet::new();
        let mut wanted: Vec<&Job> = jobs.iter().filter(|job| fit(job) && seen.insert(job.key.as_str())).collect();
        let mut known = HashSet::new();
        if wanted.len() > room {
            // Those that are there already take no room.
            known = self.known(&wanted).await?;
            wanted.retain(|job| !known.contains(&job.key));
        }
        let (now, chosen) = (now_ms(), &wanted[..wanted.len().min(room)]);
        let mut added = self
            .write("add jobs", async |on| {
                let mut added = HashSet::new();
                for some in chosen.chunks(ROWS) {
                    added.extend(insert(on, some, now).await?);
                }
                Ok(added)
            })
            .await?;
        self.jobs.fetch_add(added.len() as u64, Ordering::Relaxed);
        let tried: HashSet<&str> = chosen.iter().map(|job| job.key.as_str()).collect();
        let placed = jobs.iter().map(|job| match job {
            job if !fit(job) => Placed::Refused,
            // Taken out: the second of two with one key in one call is the duplicate.
            job if added.remove(&job.key) => Placed::Queued,
            job if tried.contains(job.key.as_str()) || known.contains(&job.key) => Placed::Duplicate,
            _ => Placed::Full,
        });
        Ok(placed.collect())
    }

    /// Keys of those that are in the queue.
    async fn known(&self, jobs: &[&Job]) -> Result<HashSet<String>, QueueError> {
        let keys: Vec<String> = jobs.iter().map(|job| job.key.clone()).collect();
        let sql = "SELECT key FROM jobs WHERE key IN (SELECT value FROM json_each(?))";
        let known = sqlx::query_scalar::<_, String>(sql).bind(these(Some(&keys))).fetch_all(&self.read).await;
        Ok(known.map_err(QueueError::query("look for jobs"))?.into_iter().collect())
    }

    async fn take(&self, wanted: [usize; 3]) -> Result<Vec<Claim>, QueueError> {
        let now = now_ms();
        // Mostly there is nothing: that is found out without writing.
        let any = "SELECT 1 FROM jobs WHERE priority IN (0, 1, 2) AND ready_ms <= ? LIMIT 1";
        let any = sqlx::query(any).bind(now).fetch_optional(&self.read).await;
        let most: usize = wanted.iter().sum();
        if most == 0 || any.map_err(QueueError::query("look for jobs"))?.is_none() {
            return Ok(Vec::new());
        }
        self.write("claim jobs", async |on| {
            let mut claims = Vec::with_capacity(most);
            let mut lost = self.may_take_lost(on, now).await?;
            for (place, priority) in in_order() {
                claims.extend(self.claim_of(on, priority, wanted[place], (now, &mut lost)).await?);
            }
            for (_, priority) in in_order() {
                let left = most - claims.len();
                claims.extend(self.claim_of(on, priority, left, (now, &mut lost)).await?);
            }
            Ok(claims)
        })
        .await
    }

    /// Whether this worker may take over a job that another has lost: one at a time. Should it die over that one, it is the only
    /// one that is charged with it once more.
    async fn may_take_lost(&self, on: &mut SqliteConnection, now: i64) -> Result<bool, sqlx::Error> {
        let sql = "SELECT 1 FROM jobs WHERE owner = ? AND delivery > 1 AND ready_ms > ? LIMIT 1";
        Ok(sqlx::query(sql).bind(&self.owner).bind(now).fetch_optional(on).await?.is_none())
    }

    /// The rows that have waited longest; of those that others have lost the first, if one may be taken.
    async fn choose(
        &self,
        on: &mut SqliteConnection,
        priority: Priority,
        most: usize,
        (now, lost): (i64, &mut bool),
    ) -> Result<Vec<i64>, sqlx::Error> {
        let mut rows = async |which: &str, most: usize| {
            let sql = format!(
                "SELECT rowid, delivery FROM jobs WHERE priority = ? AND ready_ms <= ? {which} ORDER BY ready_ms LIMIT ?"
            );
            sqlx::query_as::<_, (i64, i64)>(sqlx::AssertSqlSafe(sql))
                .bind(priority.place() as i64)
                .bind(now)
                .bind(i64::try_from(most).unwrap_or(i64::MAX))
                .fetch_all(&mut *on)
                .await
        };
        let mut chosen = rows("", most).await?;
        let all = chosen.len();
        chosen.retain(|(_, delivery)| *delivery == 0 || std::mem::take(lost));
        if chosen.len() < all {
            // Some were left out: what nobody has had yet comes in their place.
            chosen.retain(|(_, delivery)| *delivery > 0);
            chosen.extend(rows("AND delivery = 0", most - chosen.len()).await?);
        }
        Ok(chosen.into_iter().map(|(row, _)| row).collect())
    }

    async fn claim_of(
        &self,
        on: &mut SqliteConnection,
        priority: Priority,
        most: usize,
        which: (i64, &mut bool),
    ) -> Result<Vec<Claim>, sqlx::Error> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let now = which.0;
        let chosen = self.choose(&mut *on, priority, most, which).await?;
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(
            "UPDATE jobs SET owner = ?, ready_ms = ?, delivery = delivery + 1 \
             WHERE rowid IN (SELECT value FROM json_each(?)) \
             RETURNING key, kind, priority, payload, correlation, enqueued_ms, attempt, last_error, delivery",
        )
        .bind(&self.owner)
        .bind(now.saturating_add(self.lease_ms))
        .bind(serde_json::to_string(&chosen).unwrap_or_else(|_| "[]".into()))
        .fetch_all(on)
        .await?;
        let claim = |row: &SqliteRow| {
            let mut job = read_job(row)?;
            let delivery = row.try_get::<i64, _>("delivery")?.clamp(0, u32::MAX.into()) as u32;
            job.attempt = job.attempt.saturating_add(delivery);
            Ok(Claim { job, ticket: Ticket { entry: String::new(), delivery } })
        };
        let mut claims: Vec<Claim> = rows.iter().map(claim).collect::<Result<_, sqlx::Error>>()?;
        // The order of what an UPDATE gives back is not promised.
        claims.sort_by_key(|claim| claim.job.enqueued_ms);
        Ok(claims)
    }

    async fn settle_all(&self, claims: &[(Arc<Claim>, Settlement)]) -> Result<Vec<bool>, QueueError> {
        let now = now_ms();
        let settled = self.write("settle jobs", async |on| {
            let done = claims.iter().filter(|(_, settlement)| *settlement == Settlement::Done).map(|(claim, _)| claim);
            let done = tickets(done);
            let gone = "DELETE FROM jobs WHERE rowid IN (SELECT jobs.rowid FROM json_each(?) AS t JOIN jobs \
                        ON jobs.key = t.value ->> 0 AND jobs.delivery = t.value ->> 1 WHERE jobs.owner = ?) RETURNING key";
            let gone = sqlx::query_scalar::<_, String>(gone).bind(done).bind(&self.owner).fetch_all(&mut *on).await?;
            let mut settled: HashSet<String> = gone.into_iter().collect();
            for (claim, settlement) in claims {
                if *settlement != Settlement::Done && self.settle_one(on, claim, settlement, now).await? {
                    settled.insert(claim.job.key.clone());
                }
            }
            Ok(settled)
        });
        let mut settled = settled.await?;
        Ok(claims.iter().map(|(claim, _)| settled.remove(&claim.job.key)).collect())
    }

    async fn settle_one(
        &self,
        on: &mut SqliteConnection,
        claim: &Claim,
        settlement: &Settlement,
        now: i64,
    ) -> Result<bool, sqlx::Error> {
        let ours = "WHERE key = ? AND owner = ? AND delivery = ?";
        let (sql, failed) = match settlement {
            Settlement::Done | Settlement::Dead { .. } => (format!("DELETE FROM jobs {ours}"), None),
            Settlement::Again { due_ms, error } => {
                let failed = claim.job.failed(error);
                let set = "UPDATE jobs SET owner = '', delivery = 0, ready_ms = ?, attempt = ?, last_error = ?";
                (format!("{set} {ours}"), Some((*due_ms, failed)))
            }
            Settlement::Later { due_ms, error } => {
                let set = "UPDATE jobs SET owner = '', delivery = 0, ready_ms = ?, attempt = ?, last_error = ?";
                (format!("{set} {ours}"), Some((*due_ms, claim.excused(error))))
            }
            Settlement::Back => {
                (format!("UPDATE jobs SET owner = '', delivery = delivery - 1, ready_ms = ? {ours}"), None)
            }
        };
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        if let Some((due_ms, failed)) = &failed {
            query = query.bind(due_ms).bind(i64::from(failed.attempt)).bind(&failed.last_error);
        } else if *settlement == Settlement::Back {
            query = query.bind(now);
        }
        let query = query.bind(&claim.job.key).bind(&self.owner).bind(i64::from(claim.ticket.delivery));
        let settled = query.execute(&mut *on).await?.rows_affected() > 0;
        if let Settlement::Dead { reason, error } = settlement
            && settled
        {
            self.bury_one(on, &claim.job.failed(error), *reason, now).await?;
        }
        Ok(settled)
    }

    async fn bury_one(
        &self,
        on: &mut SqliteConnection,
        job: &Job,
        reason: Reason,
        now: i64,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT OR REPLACE INTO dead (key, kind, priority, payload, correlation, enqueued_ms, attempt, last_error, \
             reason, dead_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&job.key)
        .bind(&job.kind)
        .bind(job.priority.place() as i64)
        .bind(&job.payload[..])
        .bind(&job.correlation)
        .bind(job.enqueued_ms)
        .bind(i64::from(job.attempt))
        .bind(&job.last_error)
        .bind(reason.as_str())
        .bind(now)
        .execute(&mut *on)
        .await?;
        let surplus = "DELETE FROM dead WHERE rowid IN (SELECT rowid FROM dead ORDER BY dead_ms DESC, key DESC LIMIT -1 OFFSET ?)";
        let dropped = sqlx::query(surplus).bind(self.max_dead).execute(on).await?.rows_affected();
        if dropped > 0 {
            tracing::warn!(
                event = event::SYSTEM,
                dropped,
                "more dead letters than queue.max_dead: the oldest are gone"
            );
        }
        Ok(())
    }

    async fn measure(&self) -> Result<Depth, sqlx::Error> {
        let now = now_ms();
        let mut depth = Depth::default();
        let rows = sqlx::query(
            "SELECT priority, COUNT(*) FILTER (WHERE ready_ms <= ?1) AS waiting, \
             COUNT(*) FILTER (WHERE ready_ms > ?1 AND owner <> '') AS running, \
             COUNT(*) FILTER (WHERE ready_ms > ?1 AND owner = '') AS later, \
             MIN(ready_ms) AS oldest FROM jobs GROUP BY priority",
        )
        .bind(now)
        .fetch_all(&self.read)
        .await?;
        for row in rows {
            let number = |column: &str| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
            let (waiting, oldest) = (number("waiting")?, row.try_get::<i64, _>("oldest")?);
            let oldest_ms = if waiting > 0 { now.saturating_sub(oldest).max(0).unsigned_abs() } else { 0 };
            depth.by_priority[Priority::at(row.try_get("priority")?).place()] =
                Waiting { waiting, running: number("running")?, later: number("later")?, oldest_ms };
        }
        let dead = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM dead").fetch_one(&self.read).await?;
        depth.dead = dead.unsigned_abs();
        Ok(depth)
    }

    async fn list_dead(&self, after: Option<&DeadPlace>, limit: usize) -> Result<Vec<DeadJob>, sqlx::Error> {
        let DeadPlace(ms, key) = after.cloned().unwrap_or(DeadPlace(i64::MAX, String::new()));
        let sql = "SELECT * FROM dead WHERE dead_ms <= ?1 AND (dead_ms, key) < (?1, ?2) \
                   ORDER BY dead_ms DESC, key DESC LIMIT ?3";
        let rows =
            sqlx::query(sql).bind(ms).bind(key).bind(limit.min(DEAD_PAGE_MAX) as i64).fetch_all(&self.read).await?;
        let dead = |row: &SqliteRow| {
            let reason = Reason::read(row.try_get("reason")?);
            Ok(DeadJob { job: read_job(row)?, reason, dead_ms: row.try_get("dead_ms")? })
        };
        rows.iter().map(dead).collect()
    }
}

/// Brings the schema up to date. SQLite has no lock for that: when another process does it at the same moment, ours fails, and
/// finds it done when it looks again.
async fn migrate(write: &SqlitePool) -> Result<(), MigrateError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match sqlx::migrate!("src/deferred/migrations").run(write).await {
            Err(_) if tries < MIGRATE_TRIES => tokio::time::sleep(MIGRATE_PAUSE).await,
            ended => return ended,
        }
    }
}

/// Keys and deliveries as JSON, for `json_each`: one text of SQL for any number of them.
fn tickets<'a>(claims: impl Iterator<Item = &'a Arc<Claim>>) -> String {
    let pairs: Vec<(&str, u32)> = claims.map(|claim| (claim.job.key.as_str(), claim.ticket.delivery)).collect();
    serde_json::to_string(&pairs).unwrap_or_else(|_| "[]".into())
}

/// Keys as JSON; JSON's `null` stands for all.
fn these(keys: Option<&[String]>) -> String {
    serde_json::to_string(&keys).unwrap_or_else(|_| "[]".into())
}

async fn insert(on: &mut SqliteConnection, jobs: &[&Job], now: i64) -> Result<Vec<String>, sqlx::Error> {
    let into =
        "INSERT INTO jobs (key, kind, priority, payload, correlation, enqueued_ms, ready_ms, attempt, last_error) ";
    let mut query = QueryBuilder::<Sqlite>::new(into);
    query.push_values(jobs, |mut row, job| {
        row.push_bind(&job.key)
            .push_bind(&job.kind)
            .push_bind(job.priority.place() as i64)
            .push_bind(&job.payload[..])
            .push_bind(&job.correlation)
            .push_bind(job.enqueued_ms)
            .push_bind(if job.not_before_ms > now { job.not_before_ms } else { now })
            .push_bind(i64::from(job.attempt))
            .push_bind(&job.last_error);
    });
    query.push(" ON CONFLICT (key) DO NOTHING RETURNING key");
    let rows = query.build_query_scalar::<String>().persistent(false).fetch_all(&mut *on).await?;
    // It is alive again.
    let dead = "DELETE FROM dead WHERE key IN (SELECT value FROM json_each(?))";
    sqlx::query(dead).bind(these(Some(&rows))).execute(on).await?;
    Ok(rows)
}

fn read_job(row: &SqliteRow) -> Result<Job, sqlx::Error> {
    Ok(Job {
        key: row.try_get("key")?,
        kind: row.try_get("kind")?,
        priority: Priority::at(row.try_get("priority")?),
        payload: Bytes::from(row.try_get::<Vec<u8>, _>("payload")?),
        not_before_ms: 0,
        attempt: row.try_get::<i64, _>("attempt")?.clamp(0, u32::MAX.into()) as u32,
        enqueued_ms: row.try_get("enqueued_ms")?,
        correlation: row.try_get("correlation")?,
        last_error: row.try_get("last_error")?,
    })
}

impl Queue for Embedded {
    fn enqueue<'a>(&'a self, jobs: &'a [Job]) -> Answer<'a, Vec<Placed>> {
        self.within("add jobs", self.add(jobs))
    }

    fn claim(&self, wanted: [usize; 3]) -> Answer<'_, Vec<Claim>> {
        self.within("claim jobs", self.take(wanted))
    }

    fn beat<'a>(&'a self, claims: &'a [Arc<Claim>]) -> Answer<'a, Vec<bool>> {
        let work = self.write("renew leases", async |on| {
            let sql = "UPDATE jobs SET ready_ms = ? WHERE rowid IN (SELECT jobs.rowid FROM json_each(?) AS t JOIN jobs \
                       ON jobs.key = t.value ->> 0 AND jobs.delivery = t.value ->> 1 WHERE jobs.owner = ?) RETURNING key";
            let until = now_ms().saturating_add(self.lease_ms);
            let query = sqlx::query_scalar::<_, String>(sql).bind(until).bind(tickets(claims.iter())).bind(&self.owner);
            let ours: HashSet<String> = query.fetch_all(on).await?.into_iter().collect();
            Ok(claims.iter().map(|claim| ours.contains(&claim.job.key)).collect())
        });
        self.within("renew leases", work)
    }

    fn settle<'a>(&'a self, claims: &'a [(Arc<Claim>, Settlement)]) -> Answer<'a, Vec<bool>> {
        self.within("settle jobs", self.settle_all(claims))
    }

    fn depth(&self) -> Answer<'_, Depth> {
        self.within("measure the queue", async { self.measure().await.map_err(QueueError::query("measure the queue")) })
    }

    fn dead<'a>(&'a self, after: Option<&'a DeadPlace>, limit: usize) -> Answer<'a, Vec<DeadJob>> {
        let work = async move { self.list_dead(after, limit).await.map_err(QueueError::query("list dead letters")) };
        self.within("list dead letters", work)
    }

    fn bury<'a>(&'a self, dead: &'a [DeadJob]) -> Answer<'a, u64> {
        let work = self.write("take in dead letters", async move |on| {
            let mut count = 0;
            for one in dead {
                // As many as may be, and all of them newer: it would be the first to go.
                let out = "SELECT 1 FROM jobs WHERE key = ?1 UNION ALL SELECT 1 FROM dead WHERE key = ?1 UNION ALL \
                           SELECT 1 WHERE (SELECT COUNT(*) FROM dead) >= ?2 AND (SELECT MIN(dead_ms) FROM dead) >= ?3";
                let out = sqlx::query(out).bind(&one.job.key).bind(self.max_dead).bind(one.dead_ms);
                if out.fetch_optional(&mut *on).await?.is_none() {
                    self.bury_one(&mut *on, &one.job, one.reason, one.dead_ms).await?;
                    count += 1;
                }
            }
            Ok(count)
        });
        self.within("take in dead letters", work)
    }

    fn replay<'a>(&'a self, keys: Option<&'a [String]>) -> Answer<'a, u64> {
        let work = self.write("replay dead letters", async move |on| {
            let chosen = "(json_type(?1) = 'null' OR key IN (SELECT value FROM json_each(?1)))";
            let again = format!(
                "INSERT INTO jobs (key, kind, priority, payload, correlation, enqueued_ms, ready_ms, attempt, last_error) \
                 SELECT key, kind, priority, payload, correlation, ?2, ?2, 0, last_error FROM dead WHERE {chosen} \
                 ON CONFLICT (key) DO NOTHING RETURNING key"
            );
            let again = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(again)).bind(these(keys)).bind(now_ms());
            let again = again.fetch_all(&mut *on).await?;
            let gone = "DELETE FROM dead WHERE key IN (SELECT value FROM json_each(?))";
            sqlx::query(gone).bind(these(Some(&again))).execute(on).await?;
            Ok(again.len() as u64)
        });
        self.within("replay dead letters", work)
    }

    fn purge<'a>(&'a self, keys: Option<&'a [String]>) -> Answer<'a, u64> {
        let work = self.write("purge dead letters", async move |on| {
            let sql = "DELETE FROM dead WHERE json_type(?1) = 'null' OR key IN (SELECT value FROM json_each(?1))";
            Ok(sqlx::query(sql).bind(these(keys)).execute(on).await?.rows_affected())
        });
        self.within("purge dead letters", work)
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            self.read.close().await;
            self.write.close().await;
        }
        .boxed()
    }
}

impl Embedded {
    /// One call under its deadline. A transaction that is given up rolls back.
    fn within<'a, T>(
        &'a self,
        attempt: &'static str,
        work: impl Future<Output = Result<T, QueueError>> + Send + 'a,
    ) -> Answer<'a, T> {
        async move {
            let late = QueueError::Slow { attempt, ms: self.command.as_millis() as u64 };
            tokio::time::timeout(self.command, work).await.unwrap_or(Err(late))
        }
        .boxed()
    }
}
