//! The outbox: jobs caused by a record, from its commit until they have their result. What they are is not known here.
//!
//! A job's key is its identity: a second one with the same key, while the first is not done, changes nothing. A dead letter
//! stays until it is replayed or purged, or a new job with its key takes its place; the retention of the ledger is its own.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::sql::Sql;
use super::store::Store;
use super::{Records, StoreError};
use crate::observe::event;

/// Rows in one statement.
const ROWS: usize = 2_048;
/// Priorities: see [`OutboxJob::priority`].
const PRIORITIES: i64 = 3;
/// Why a row is a dead letter that cannot be read.
const UNREADABLE: &str = "unreadable";

/// A job that waits for its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxJob {
    /// Identity.
    pub key: String,
    /// What is to be done.
    pub kind: String,
    /// 0 high, 1 medium, 2 low.
    pub priority: u8,
    /// What it is to be done with.
    pub payload: Vec<u8>,
    /// What it belongs to, such as a message's id.
    pub correlation: String,
    /// When it was made, milliseconds since 1970.
    pub enqueued_ms: i64,
    /// Not before this, milliseconds since 1970; 0: at once.
    pub not_before_ms: i64,
}

/// Why a job is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burial {
    /// Its key.
    pub key: String,
    /// Why, as a word.
    pub reason: String,
    /// What happened last.
    pub error: String,
    /// Attempts made.
    pub attempts: u32,
    /// When, milliseconds since 1970.
    pub dead_ms: i64,
}

impl OutboxJob {
    /// The job of a row; `Err` with its key, if that is there, when the row cannot be read.
    fn read(row: &AnyRow) -> Result<Self, Option<String>> {
        let read = || -> Result<(Self, String), sqlx::Error> {
            let job = Self {
                key: row.try_get("job_key")?,
                kind: row.try_get("kind")?,
                priority: row.try_get::<i64, _>("priority")?.clamp(0, PRIORITIES - 1) as u8,
                payload: Vec::new(),
                correlation: row.try_get("correlation")?,
                enqueued_ms: row.try_get("enqueued_ms")?,
                not_before_ms: row.try_get("not_before_ms")?,
            };
            Ok((job, row.try_get("payload")?))
        };
        let read = read().ok().and_then(|(job, payload)| Some(Self { payload: STANDARD.decode(payload).ok()?, ..job }));
        read.ok_or_else(|| row.try_get("job_key").ok())
    }

    /// A dead letter's row: what cannot be read of it is left empty, and a payload that is no base 64 stays as it is.
    fn read_dead(row: &AnyRow) -> (Self, Burial) {
        let text = |column: &str| row.try_get::<String, _>(column).unwrap_or_default();
        let number = |column: &str| row.try_get::<i64, _>(column).unwrap_or_default();
        let payload = text("payload");
        let burial = Burial {
            key: text("job_key"),
            reason: text("reason"),
            error: text("last_error"),
            attempts: number("attempts").clamp(0, u32::MAX.into()) as u32,
            dead_ms: number("dead_ms"),
        };
        let job = Self {
            key: burial.key.clone(),
            kind: text("kind"),
            priority: number("priority").clamp(0, PRIORITIES - 1) as u8,
            payload: STANDARD.decode(&payload).unwrap_or_else(|_| payload.into_bytes()),
            correlation: text("correlation"),
            enqueued_ms: number("enqueued_ms"),
            not_before_ms: number("not_before_ms"),
        };
        (job, burial)
    }
}

/// Adds jobs within the transaction that commits their cause.
pub(super) async fn write(
    jobs: &[&OutboxJob],
    sqlite: bool,
    transaction: &mut sqlx::AnyConnection,
) -> Result<(), sqlx::Error> {
    // No row twice in one statement: PostgreSQL refuses that.
    let mut seen = HashSet::new();
    let jobs: Vec<&OutboxJob> = jobs.iter().copied().filter(|job| seen.insert(job.key.as_str())).collect();
    for some in jobs.chunks(ROWS) {
        let into = "INSERT INTO outbox (job_key, kind, priority, payload, correlation, enqueued_ms, not_before_ms, due_ms) \
                    VALUES ";
        let mut sql = Sql::many(into, sqlite);
        sql.rows(some, |sql, job| {
            sql.text(&job.key).comma().text(&job.kind).comma();
            sql.bind(i64::from(job.priority).min(PRIORITIES - 1)).comma();
            sql.bind(STANDARD.encode(&job.payload)).comma().text(&job.correlation).comma();
            sql.bind(job.enqueued_ms).comma().bind(job.not_before_ms).comma().bind(job.enqueued_ms);
        });
        // A new job takes the place of a dead one.
        sql.push(
            " ON CONFLICT (job_key) DO UPDATE SET kind = excluded.kind, priority = excluded.priority, \
             payload = excluded.payload, correlation = excluded.correlation, enqueued_ms = excluded.enqueued_ms, \
             not_before_ms = excluded.not_before_ms, due_ms = excluded.due_ms, dead_ms = 0, reason = '', \
             last_error = '', attempts = 0 WHERE outbox.dead_ms > 0",
        );
        sql.execute(&mut *transaction).await?;
    }
    Ok(())
}

impl Records {
    /// Adds jobs that have no other cause; they are durable when this returns.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn order(&self, jobs: &[OutboxJob]) -> Result<(), StoreError> {
        self.metrics.timed("outbox_order", self.store.order(jobs)).await
    }

    /// Jobs without result that are due at `now_ms`, by priority and then those due longest first. A row that cannot be read
    /// becomes a dead letter.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn unfinished(&self, now_ms: i64, limit: u32) -> Result<Vec<OutboxJob>, StoreError> {
        self.metrics.timed("outbox_read", self.store.unfinished(now_ms, limit)).await
    }

    /// These jobs are in the queue; each is due again at its time, should it have no result by then.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn queued(&self, jobs: &[(String, i64)]) -> Result<(), StoreError> {
        self.metrics.timed("outbox_queued", self.store.queued(jobs)).await
    }

    /// These jobs have their result: forgets them. Gives how many were still known.
    ///
    /// # Errors
    /// When the database does not answer; they are not forgotten then.
    pub async fn done(&self, keys: &[String]) -> Result<u64, StoreError> {
        self.metrics.timed("outbox_done", self.store.done(keys)).await
    }

    /// These jobs are dead letters now; each is due again at `due_ms`, for a queue that has lost it by then.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn bury(&self, dead: &[Burial], due_ms: i64) -> Result<(), StoreError> {
        self.metrics.timed("outbox_bury", self.store.bury(dead, due_ms)).await
    }

    /// Dead letters that are due at `now_ms`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn buried(&self, now_ms: i64, limit: u32) -> Result<Vec<(OutboxJob, Burial)>, StoreError> {
        self.metrics.timed("outbox_read", self.store.buried(now_ms, limit)).await
    }

    /// Dead letters become jobs again; all of them without keys. Gives how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn revive(&self, keys: Option<&[String]>, now_ms: i64) -> Result<u64, StoreError> {
        // Made anew: what is tried by time begins its time again.
        let text = "UPDATE outbox SET dead_ms = 0, reason = '', attempts = 0, not_before_ms = 0, due_ms = ";
        self.metrics.timed("outbox_revive", self.store.of_the_dead((text, Some(now_ms)), keys)).await
    }

    /// Throws dead letters away; all of them without keys. Gives how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn purge_dead(&self, keys: Option<&[String]>) -> Result<u64, StoreError> {
        self.metrics.timed("outbox_purge", self.store.of_the_dead(("DELETE FROM outbox", None), keys)).await
    }
}

impl Store {
    async fn order(&self, jobs: &[OutboxJob]) -> Result<(), StoreError> {
        let inserts = async {
            let mut transaction = self.write.begin().await?;
            write(&jobs.iter().collect::<Vec<_>>(), self.sqlite, &mut transaction).await?;
            transaction.commit().await
        };
        inserts.await.map_err(StoreError::query("order jobs"))
    }

    async fn unfinished(&self, now_ms: i64, limit: u32) -> Result<Vec<OutboxJob>, StoreError> {
        let (mut jobs, mut broken) = (Vec::new(), Vec::new());
        for priority in 0..PRIORITIES {
            let left = i64::from(limit) - jobs.len() as i64;
            if left <= 0 {
                break;
            }
            let mut sql = Sql::new("SELECT * FROM outbox WHERE dead_ms = 0 AND priority = ");
            sql.bind(priority).push(" AND due_ms <= ").bind(now_ms).push(" ORDER BY due_ms LIMIT ").bind(left);
            let rows = sql.fetch(&self.read).await.map_err(StoreError::query("read the outbox"))?;
            for row in &rows {
                match OutboxJob::read(row) {
                    Ok(job) => jobs.push(job),
                    Err(key) => broken.extend(key),
                }
            }
        }
        if !broken.is_empty() {
            tracing::error!(event = event::SYSTEM, jobs = ?broken, "jobs in the outbox cannot be read: they are dead letters");
            let burial = |key| Burial {
                key,
                reason: UNREADABLE.into(),
                error: "its row in the outbox cannot be read".into(),
                attempts: 0,
                dead_ms: now_ms.max(1),
            };
            let dead: Vec<Burial> = broken.into_iter().map(burial).collect();
            self.bury(&dead, now_ms).await?;
        }
        Ok(jobs)
    }

    async fn bury(&self, dead: &[Burial], due_ms: i64) -> Result<(), StoreError> {
        let updates = async {
            let mut transaction = self.write.begin().await?;
            for one in dead {
                let mut sql = Sql::new("UPDATE outbox SET dead_ms = ");
                sql.bind(one.dead_ms).push(", reason = ").text(&one.reason).push(", last_error = ").text(&one.error);
                sql.push(", attempts = ").bind(i64::from(one.attempts)).push(", due_ms = ").bind(due_ms);
                sql.push(" WHERE dead_ms = 0 AND job_key = ").text(&one.key);
                sql.execute(&mut *transaction).await?;
            }
            transaction.commit().await
        };
        updates.await.map_err(StoreError::query("note dead letters"))
    }

    async fn buried(&self, now_ms: i64, limit: u32) -> Result<Vec<(OutboxJob, Burial)>, StoreError> {
        let mut sql = Sql::new("SELECT * FROM outbox WHERE dead_ms > 0 AND due_ms <= ");
        sql.bind(now_ms).push(" ORDER BY due_ms LIMIT ").bind(i64::from(limit));
        let rows = sql.fetch(&self.read).await.map_err(StoreError::query("read dead letters"))?;
        Ok(rows.iter().map(OutboxJob::read_dead).collect())
    }

    /// Runs a statement on dead letters: all of them, or those with keys.
    async fn of_the_dead(
        &self,
        (text, value): (&'static str, Option<i64>),
        keys: Option<&[String]>,
    ) -> Result<u64, StoreError> {
        let statement = || {
            let mut sql = Sql::many(text, self.sqlite);
            if let Some(value) = value {
                sql.bind(value).push(", enqueued_ms = ").bind(value);
            }
            sql.push(" WHERE dead_ms > 0");
            sql
        };
        let all = async {
            let Some(keys) = keys else { return statement().execute(&self.write).await };
            let (mut transaction, mut count) = (self.write.begin().await?, 0);
            for some in keys.chunks(ROWS) {
                let mut sql = statement();
                sql.push(" AND job_key IN (");
                keys_in(&mut sql, some);
                count += sql.execute(&mut *transaction).await?;
            }
            transaction.commit().await.map(|()| count)
        };
        all.await.map_err(StoreError::query("settle dead letters"))
    }

    async fn queued(&self, jobs: &[(String, i64)]) -> Result<(), StoreError> {
        // Jobs that were put into the queue together are due again together, so that there are few different times.
        let mut times: Vec<i64> = jobs.iter().map(|(_, due)| *due).collect();
        times.sort_unstable();
        times.dedup();
        let updates = async {
            let mut transaction = self.write.begin().await?;
            for due in times {
                let keys: Vec<&str> = jobs.iter().filter(|(_, d)| *d == due).map(|(key, _)| key.as_str()).collect();
                for some in keys.chunks(ROWS) {
                    let mut sql = Sql::many("UPDATE outbox SET due_ms = ", self.sqlite);
                    sql.bind(due).push(" WHERE job_key IN (");
                    keys_in(&mut sql, some);
                    sql.execute(&mut *transaction).await?;
                }
            }
            transaction.commit().await
        };
        updates.await.map_err(StoreError::query("note queued jobs"))
    }

    pub(super) async fn done(&self, keys: &[String]) -> Result<u64, StoreError> {
        let deletes = async {
            let mut transaction = self.write.begin().await?;
            let mut gone = 0;
            for some in keys.chunks(ROWS) {
                let mut sql = Sql::many("DELETE FROM outbox WHERE job_key IN (", self.sqlite);
                keys_in(&mut sql, some);
                gone += sql.execute(&mut *transaction).await?;
            }
            transaction.commit().await.map(|()| gone)
        };
        deletes.await.map_err(StoreError::query("forget jobs that are done"))
    }
}

fn keys_in(sql: &mut Sql, keys: &[impl AsRef<str>]) {
    for (place, key) in keys.iter().enumerate() {
        sql.push(if place == 0 { "" } else { ", " }).text(key.as_ref());
    }
    sql.push(")");
}
