//! The outbox: jobs caused by a record, from its commit until they have their result. What they are is not known here.
//!
//! A job's key is its identity: a second one with the same key, while the first is not done, changes nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::sql::Sql;
use super::store::Store;
use super::{Records, StoreError};

/// Rows in one statement.
const ROWS: usize = 2_048;

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

impl OutboxJob {
    fn read(row: &AnyRow) -> Result<Self, StoreError> {
        let failed = StoreError::query("read the outbox");
        let read = || -> Result<(Self, String), sqlx::Error> {
            let job = Self {
                key: row.try_get("job_key")?,
                kind: row.try_get("kind")?,
                priority: row.try_get::<i64, _>("priority")?.clamp(0, 2) as u8,
                payload: Vec::new(),
                correlation: row.try_get("correlation")?,
                enqueued_ms: row.try_get("enqueued_ms")?,
                not_before_ms: row.try_get("not_before_ms")?,
            };
            Ok((job, row.try_get("payload")?))
        };
        let (job, payload) = read().map_err(failed)?;
        match STANDARD.decode(payload) {
            Ok(payload) => Ok(Self { payload, ..job }),
            Err(_) => Err(StoreError::Row { id: job.correlation, column: "outbox.payload" }),
        }
    }
}

/// Adds jobs within the transaction that commits their cause.
pub(super) async fn write(
    jobs: &[&OutboxJob],
    sqlite: bool,
    transaction: &mut sqlx::AnyConnection,
) -> Result<(), sqlx::Error> {
    for some in jobs.chunks(ROWS) {
        let into = "INSERT INTO outbox (job_key, kind, priority, payload, correlation, enqueued_ms, not_before_ms, due_ms) \
                    VALUES ";
        let mut sql = Sql::many(into, sqlite);
        sql.rows(some, |sql, job| {
            sql.text(&job.key).comma().text(&job.kind).comma().bind(i64::from(job.priority)).comma();
            sql.bind(STANDARD.encode(&job.payload)).comma().text(&job.correlation).comma();
            sql.bind(job.enqueued_ms).comma().bind(job.not_before_ms).comma().bind(job.enqueued_ms);
        });
        sql.push(" ON CONFLICT (job_key) DO NOTHING");
        sql.execute(&mut *transaction).await?;
    }
    Ok(())
}

impl Records {
    /// Jobs without result that are due at `now_ms`, those due longest first.
    ///
    /// # Errors
    /// When the database does not answer or a row cannot be read.
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
}

impl Store {
    async fn unfinished(&self, now_ms: i64, limit: u32) -> Result<Vec<OutboxJob>, StoreError> {
        let mut sql = Sql::new("SELECT * FROM outbox WHERE due_ms <= ");
        sql.bind(now_ms).push(" ORDER BY due_ms LIMIT ").bind(i64::from(limit));
        let rows = sql.fetch(&self.read).await.map_err(StoreError::query("read the outbox"))?;
        rows.iter().map(OutboxJob::read).collect()
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
