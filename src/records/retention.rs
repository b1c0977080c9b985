//! Retention: what is too old goes, in small steps, so that no lock is held for long.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::Duration;

use sqlx::Row;

use super::second::KEPT_MS;
use super::sql::Sql;
use super::{Records, StoreError};
use crate::mail::MessageId;

/// Rows or bodies removed in one step.
const STEP: i64 = 500;
/// Bodies looked at in one step, and steps of one run at most.
const BODY_PAGE: usize = 500;
const BODY_PAGES: u32 = 2_000;
/// Bodies whose use is looked up together, right before those that nobody names are removed.
const BODY_CHUNK: usize = 32;
/// A body younger than this may belong to a message whose row is being committed.
const BODY_GRACE_MS: i64 = 60 * 60 * 1_000;
/// Steps of one run at most; what is left waits for the next.
const STEPS: u32 = 200;

/// How long digests are kept; no window is longer.
const LIKENESSES_MS: i64 = 31 * DAY_MS;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

impl Records {
    /// Removes ledger rows, held messages and bodies that are too old at `now_ms`.
    ///
    /// # Errors
    /// The first failure of the database or the store of bodies; what was removed until then stays removed.
    pub async fn expire(&self, now_ms: i64) -> Result<(), StoreError> {
        self.metrics.timed("expire", Box::pin(self.expire_all(now_ms))).await
    }

    async fn expire_all(&self, now_ms: i64) -> Result<(), StoreError> {
        if self.config.ledger_days > 0 {
            let before = boundary(now_ms, self.config.ledger_days);
            let rows = [
                "DELETE FROM message_recipients WHERE message_id IN (SELECT id FROM messages WHERE id < ",
                "DELETE FROM reassessments WHERE message_id IN (SELECT id FROM messages WHERE id < ",
                "DELETE FROM actions WHERE message_id IN (SELECT id FROM messages WHERE id < ",
                "DELETE FROM likenesses WHERE message_id IN (SELECT id FROM messages WHERE id < ",
                "DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE id < ",
            ];
            self.expire_rows("ledger", &rows, &before).await?;
            let mut dead = Sql::new("DELETE FROM outbox WHERE dead_ms > 0 AND dead_ms < ");
            dead.bind(now_ms - i64::from(self.config.ledger_days) * DAY_MS);
            dead.execute(&self.store.write).await.map_err(StoreError::query("expire dead letters"))?;
        }
        if self.config.quarantine_days > 0 {
            let before = boundary(now_ms, self.config.quarantine_days);
            let rows = [
                "DELETE FROM quarantine_recipients WHERE message_id IN (SELECT id FROM quarantine WHERE id < ",
                "DELETE FROM quarantine WHERE id IN (SELECT id FROM quarantine WHERE id < ",
            ];
            self.expire_rows("quarantine", &rows, &before).await?;
        }
        if self.config.history.keep_days > 0 {
            let before = now_ms / DAY_MS - i64::from(self.config.history.keep_days);
            for _ in 0..STEPS {
                // Day 0 holds the time of the very first message.
                let mut sql = Sql::new(
                    "DELETE FROM history WHERE (who, day) IN (SELECT who, day FROM history WHERE day > 0 AND day < ",
                );
                sql.bind(before).push(" ORDER BY day LIMIT ").bind(STEP).push(")");
                let gone = sql.execute(&self.store.write).await.map_err(StoreError::query("expire history"))?;
                self.metrics.expired.with_label_values(&["history"]).inc_by(gone);
                if (gone as i64) < STEP {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let mut likenesses = Sql::new("DELETE FROM likenesses WHERE received_ms < ");
        likenesses.bind(now_ms - LIKENESSES_MS);
        likenesses.execute(&self.store.write).await.map_err(StoreError::query("expire digests"))?;
        let mut kept = Sql::new("DELETE FROM kept WHERE kept_ms < ");
        kept.bind(now_ms - KEPT_MS).push(" OR (until_ms > 0 AND until_ms < ").bind(now_ms);
        // Not while a job waits that looks at it: its key is of the message.
        kept.push(" AND NOT EXISTS (SELECT 1 FROM outbox WHERE job_key = 'reassess:' || kept.message_id)");
        kept.push(
            " AND NOT EXISTS (SELECT 1 FROM outbox WHERE job_key = 'reassess:' || kept.message_id || ':campaign'))",
        );
        kept.execute(&self.store.write).await.map_err(StoreError::query("expire kept messages"))?;
        let mut passes = Sql::new("DELETE FROM release_passes WHERE expires_ms < ");
        passes.bind(now_ms - DAY_MS);
        passes.execute(&self.store.write).await.map_err(StoreError::query("expire release passes"))?;
        self.expire_bodies(now_ms).await
    }

    /// Runs all statements over the same step of ids, oldest first, until nothing is left.
    async fn expire_rows(&self, kind: &str, statements: &[&'static str], before: &str) -> Result<(), StoreError> {
        for _ in 0..STEPS {
            let step = async {
                let mut transaction = self.store.write.begin().await?;
                let mut gone = 0;
                for statement in statements.iter().copied() {
                    let mut sql = Sql::new(statement);
                    sql.bind(before).push(" ORDER BY id LIMIT ").bind(STEP).push(")");
                    gone = sql.execute(&mut *transaction).await?;
                }
                transaction.commit().await.map(|()| gone)
            };
            let gone = step.await.map_err(StoreError::query("expire rows"))?;
            self.metrics.expired.with_label_values(&[kind]).inc_by(gone);
            if (gone as i64) < STEP {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Removes bodies that neither a held nor a kept message names any more, page by page; where it ends the next run goes on.
    async fn expire_bodies(&self, now_ms: i64) -> Result<(), StoreError> {
        let mut after = self.bodies_after.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for _ in 0..BODY_PAGES {
            let before_ms = now_ms - BODY_GRACE_MS;
            let page = self.bodies.older_than(before_ms, after, BODY_PAGE).await?;
            for names in page.names.chunks(BODY_CHUNK) {
                let used = self.used_bodies(names).await?;
                for name in names.iter().filter(|name| !used.contains(*name)) {
                    // Not when the same bytes have been stored again since: their row is about to be committed.
                    let gone = self.bodies.delete_older(name, before_ms).await?;
                    self.metrics.expired.with_label_values(&["body"]).inc_by(u64::from(gone));
                }
            }
            after = page.next;
            self.bodies_after.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&after);
            if after.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Those of these bodies that somebody names.
    async fn used_bodies(&self, names: &[String]) -> Result<HashSet<String>, StoreError> {
        if names.is_empty() {
            return Ok(HashSet::new());
        }
        let mut sql = Sql::new(
            "SELECT q.body AS body FROM quarantine q JOIN quarantine_recipients r ON r.message_id = q.id \
             WHERE r.state <> 'deleted' AND q.body IN (",
        );
        let list = |sql: &mut Sql| {
            for (place, name) in names.iter().enumerate() {
                sql.push(if place == 0 { "" } else { ", " }).text(name);
            }
            sql.push(")");
        };
        list(&mut sql);
        sql.push(" UNION SELECT body FROM kept WHERE body IN (");
        list(&mut sql);
        let failed = || StoreError::query("look up bodies");
        let rows = sql.fetch(&self.store.read).await.map_err(failed())?;
        rows.iter().map(|row| row.try_get("body")).collect::<Result<_, _>>().map_err(failed())
    }
}

/// The smallest id that is young enough.
fn boundary(now_ms: i64, days: u32) -> String {
    let before = now_ms.saturating_sub(i64::from(days) * DAY_MS).max(0);
    MessageId::new(before as u64, [0; 10]).to_string()
}
