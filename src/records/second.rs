//! The second look in the records: bytes kept for it, its verdict beside the first, the actions that followed.
//!
//! The second verdict commits with its actions and their jobs, once: who comes second changes nothing, but for the look that
//! alone knows of a campaign. Of the two the worse verdict stands; the actions of both are done. Kept bytes go with it; those of
//! jobs that were never done go with the retention ([`KEPT_MS`]). A job names its message and who ordered it; for whom, the
//! action on the record says: it may be for any number.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::any::AnyRow;
use tokio::sync::OwnedSemaphorePermit;

use super::sql::Sql;
use super::{OutboxJob, Record, Records, StoreError, outbox};
use crate::mail::MessageId;

/// Begins a choice between an earlier verdict and one that knows of a campaign.
const UNLESS_WORSE: &str = "CASE WHEN reassessments.change = 'worse' AND excluded.change <> 'worse' THEN ";

/// How long bytes are kept for a second look that never comes: so long a dead job can be tried again.
pub(super) const KEPT_MS: i64 = 7 * 24 * 60 * 60 * 1_000;

/// Messages that are being kept at a time.
pub(super) const KEEPING: usize = 64;

/// Cause of an action: the second look.
pub const BY_LOOK: &str = "look";
/// Cause of an action: the look that a campaign ordered.
pub const BY_CAMPAIGN: &str = "campaign";

/// How a second verdict differs from the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Not in what is done.
    Same,
    /// Somebody got, or would have got, what he must not get.
    Worse,
    /// Somebody may get what was held.
    Better,
}

impl Change {
    /// The word in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Worse => "worse",
            Self::Better => "better",
        }
    }
}

/// The second verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reassessment {
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// How it differs.
    pub change: Change,
    /// Everything that led to it, with its own terms.
    pub record: Record,
}

/// The record of a message with what came later.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explained {
    /// What led to the first verdict.
    #[serde(flatten)]
    pub record: Record,
    /// The second verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<Reassessment>,
    /// What was to be done because of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<ActionTaken>,
}

/// Something that is to be done about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedAction {
    /// What: `release`, `remediate`, `alert`, `notify`, `webhook`.
    pub kind: String,
    /// Who ordered it: each may order a kind once.
    pub cause: &'static str,
    /// For whom.
    pub recipients: Vec<String>,
}

/// What was to be done about a message, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActionTaken {
    /// What.
    pub kind: String,
    /// Who ordered it; empty: an earlier version.
    pub cause: String,
    /// For whom.
    pub recipients: Vec<String>,
    /// Since when, milliseconds since 1970.
    pub wanted_ms: i64,
    /// What came of it; none while it is not done.
    pub result: Option<String>,
    /// When it was done, milliseconds since 1970.
    pub result_ms: Option<i64>,
}

/// The payload of a job about a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionOrder {
    /// Which message.
    pub id: MessageId,
    /// A campaign became known after it was judged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub campaign: bool,
    /// Who ordered the action: with message and kind it says which.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// For whom, as earlier versions wrote it; now the action on the record says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
}

impl ActionOrder {
    /// An order about a message.
    pub fn new(id: MessageId, cause: &str) -> Self {
        Self { id, campaign: false, cause: cause.to_owned(), recipients: Vec::new() }
    }

    /// As JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        // An id and texts always become JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(payload: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(payload).map_err(|error| format!("the payload is no order: {error}"))
    }
}

impl ActionTaken {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let recipients: String = row.try_get("recipients")?;
        Ok(Self {
            kind: row.try_get("kind")?,
            cause: row.try_get("cause")?,
            recipients: serde_json::from_str(&recipients).map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
            wanted_ms: row.try_get("wanted_ms")?,
            result: row.try_get("result")?,
            result_ms: row.try_get("result_ms")?,
        })
    }
}

impl Records {
    /// Leave to keep one message; none while too many are being kept. Held until it is.
    pub fn keeping(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.keeping).try_acquire_owned().ok()
    }

    /// Notes a record with its jobs and keeps the bytes of the message for them; together they are at most `max_bytes`. The
    /// bytes are durable before the record is noted. When they cannot be kept, the record is noted with the other jobs alone.
    /// The second look forgets them, but not before `until_ms`.
    ///
    /// # Errors
    /// Why they could not be kept; [`StoreError::Kept`] when there is no room.
    pub async fn keep_and_note(
        &self,
        record: &Record,
        raw: Bytes,
        (max_bytes, until_ms): (u64, i64),
        (mut jobs, others): (Vec<OutboxJob>, Vec<OutboxJob>),
    ) -> Result<(), StoreError> {
        let kept = self.keep(record, raw, max_bytes, until_ms).await;
        if kept.is_err() {
            jobs.clear();
        }
        jobs.extend(others);
        self.note_with_jobs(record, jobs);
        kept
    }

    async fn keep(&self, record: &Record, raw: Bytes, max_bytes: u64, until_ms: i64) -> Result<(), StoreError> {
        let call = async {
            let fail = StoreError::query("keep a message");
            let used: i64 = sqlx::query_scalar("SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM kept")
                .fetch_one(&self.store.read)
                .await
                .map_err(StoreError::query("count kept messages"))?;
            let size = i64::try_from(raw.len()).unwrap_or(i64::MAX);
            if used.saturating_add(size) > i64::try_from(max_bytes).unwrap_or(i64::MAX) {
                return Err(StoreError::Kept(max_bytes));
            }
            let body = self.bodies.put(raw).await?;
            let mut sql = Sql::new("INSERT INTO kept (message_id, body, size, kept_ms, until_ms) VALUES (");
            sql.bind(record.id.to_string()).comma().bind(body).comma().bind(size).comma().bind(record.received_ms);
            sql.comma().bind(until_ms).push(") ON CONFLICT (message_id) DO NOTHING");
            sql.execute(&self.store.write).await.map(drop).map_err(fail)
        };
        self.metrics.timed("keep", call).await
    }

    /// The bytes of a message, out of what is kept for its second look or out of the quarantine.
    ///
    /// # Errors
    /// When the database or the bodies do not answer.
    pub async fn kept_bytes(&self, id: MessageId) -> Result<Option<Bytes>, StoreError> {
        let call = async {
            let mut sql = Sql::new("SELECT body FROM kept WHERE message_id = ");
            sql.bind(id.to_string()).push(" UNION SELECT body FROM quarantine WHERE id = ").bind(id.to_string());
            let rows = sql.fetch(&self.store.read).await.map_err(StoreError::query("look up a message"))?;
            let Some(row) = rows.first() else { return Ok(None) };
            let body: String = row.try_get("body").map_err(StoreError::query("look up a message"))?;
            self.bodies.get(&body).await.map(Some)
        };
        self.metrics.timed("kept_bytes", call).await
    }

    /// Whether the bytes of a message are kept or held.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn is_kept(&self, id: MessageId) -> Result<bool, StoreError> {
        let call = async {
            let mut sql = Sql::new("SELECT body FROM kept WHERE message_id = ");
            sql.bind(id.to_string()).push(" UNION SELECT body FROM quarantine WHERE id = ").bind(id.to_string());
            let rows = sql.fetch(&self.store.read).await.map_err(StoreError::query("look up a message"))?;
            Ok(!rows.is_empty())
        };
        self.metrics.timed("is_kept", call).await
    }

    /// The second verdict on a message, if there is one.
    ///
    /// # Errors
    /// When the database does not answer or the row cannot be read.
    pub async fn reassessment(&self, id: MessageId) -> Result<Option<Reassessment>, StoreError> {
        let call = async {
            let fail = || StoreError::query("read a second verdict");
            let mut sql = Sql::new("SELECT at_ms, change, in_campaign, record FROM reassessments WHERE message_id = ");
            sql.bind(id.to_string());
            let rows = sql.fetch(&self.store.read).await.map_err(fail())?;
            let Some(row) = rows.first() else { return Ok(None) };
            let unreadable = |_| StoreError::Row { id: id.to_string(), column: "reassessments.record" };
            let (change, record): (String, String) =
                (row.try_get("change").map_err(fail())?, row.try_get("record").map_err(fail())?);
            let mut record: Record = serde_json::from_str(&record).map_err(unreadable)?;
            // It may stand although a later look, which knew of the campaign, found nothing worse.
            record.in_campaign |= row.try_get::<i64, _>("in_campaign").map_err(fail())? == 1;
            Ok(Some(Reassessment {
                at_ms: row.try_get("at_ms").map_err(fail())?,
                change: serde_json::from_value(change.into()).map_err(unreadable)?,
                record,
            }))
        };
        self.metrics.timed("second_read", call).await
    }

    /// The record of a message with what came later.
    ///
    /// # Errors
    /// When the database does not answer or a row cannot be read.
    pub async fn explained(&self, id: MessageId) -> Result<Option<Explained>, StoreError> {
        let Some(record) = self.record(id).await? else { return Ok(None) };
        // In this order: actions commit with the second verdict, so whoever sees them sees it too.
        let actions = self.actions(id).await?;
        let second = self.reassessment(id).await?;
        Ok(Some(Explained { record, second, actions }))
    }

    /// Notes the second verdict, its actions and their jobs in one commit, and forgets the bytes that were kept for it. A
    /// second one changes nothing, unless it alone knows of a campaign: its actions are noted then, and its verdict stands unless
    /// that takes back what the first found worse.
    ///
    /// # Errors
    /// When the database does not answer; nothing is noted then.
    pub async fn note_reassessment(
        &self,
        second: &Reassessment,
        actions: Vec<WantedAction>,
        jobs: Vec<OutboxJob>,
    ) -> Result<(), StoreError> {
        let call = async {
            let id = second.record.id;
            let unreadable = |_| StoreError::Row { id: id.to_string(), column: "reassessments.record" };
            let record = serde_json::to_string(&second.record).map_err(unreadable)?;
            let writes = async {
                let mut transaction = self.store.write.begin().await?;
                let mut sql =
                    Sql::new("INSERT INTO reassessments (message_id, at_ms, change, in_campaign, record) VALUES (");
                sql.bind(id.to_string()).comma().bind(second.at_ms).comma().bind(second.change.as_str()).comma();
                sql.bind(i64::from(second.record.in_campaign)).comma();
                sql.text(&record).push(") ON CONFLICT (message_id) DO ");
                if second.record.in_campaign {
                    // Who knows of the campaign knows more, but does not make good what was bad; of two such the first stands.
                    sql.push("UPDATE SET at_ms = ")
                        .push(UNLESS_WORSE)
                        .push("reassessments.at_ms ELSE excluded.at_ms END, ");
                    sql.push("record = ").push(UNLESS_WORSE).push("reassessments.record ELSE excluded.record END, ");
                    sql.push("change = ").push(UNLESS_WORSE).push("reassessments.change ELSE excluded.change END, ");
                    sql.push("in_campaign = 1 WHERE reassessments.in_campaign = 0");
                } else {
                    sql.push("NOTHING");
                }
                if sql.execute(&mut *transaction).await? == 1 {
                    write_actions(id, &actions, second.at_ms, &mut transaction).await?;
                    outbox::write(&jobs.iter().collect::<Vec<_>>(), self.store.sqlite, &mut transaction).await?;
                }
                let mut sql = Sql::new("DELETE FROM kept WHERE message_id = ");
                sql.bind(id.to_string()).push(" AND until_ms <= ").bind(second.at_ms);
                sql.execute(&mut *transaction).await?;
                transaction.commit().await
            };
            writes.await.map_err(StoreError::query("note a second verdict"))
        };
        self.metrics.timed("second_note", call).await
    }

    /// Notes what is to be done about a message, with the jobs that do it, in one commit.
    ///
    /// # Errors
    /// When the database does not answer; nothing is noted then.
    pub async fn want_actions(
        &self,
        id: MessageId,
        actions: Vec<WantedAction>,
        jobs: Vec<OutboxJob>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let call = async {
            let writes = async {
                let mut transaction = self.store.write.begin().await?;
                write_actions(id, &actions, now_ms, &mut transaction).await?;
                outbox::write(&jobs.iter().collect::<Vec<_>>(), self.store.sqlite, &mut transaction).await?;
                transaction.commit().await
            };
            writes.await.map_err(StoreError::query("note actions"))
        };
        self.metrics.timed("actions_want", call).await
    }

    /// Notes what came of an action; the first word stands.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn action_done(
        &self,
        id: MessageId,
        (kind, cause): (&str, &str),
        result: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let call = async {
            let mut sql = Sql::new("UPDATE actions SET result = ");
            sql.text(result).push(", result_ms = ").bind(now_ms).push(" WHERE message_id = ").bind(id.to_string());
            sql.push(" AND kind = ").text(kind).push(" AND cause = ").text(cause).push(" AND result IS NULL");
            sql.execute(&self.store.write).await.map(drop).map_err(StoreError::query("note the result of an action"))
        };
        self.metrics.timed("action_done", call).await
    }

    /// What was to be done about a message, the oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn actions(&self, id: MessageId) -> Result<Vec<ActionTaken>, StoreError> {
        let call = async {
            let fail = || StoreError::query("read actions");
            let mut sql = Sql::new(
                "SELECT kind, cause, recipients, wanted_ms, result, result_ms FROM actions WHERE message_id = ",
            );
            sql.bind(id.to_string()).push(" ORDER BY wanted_ms, kind, cause");
            let rows = sql.fetch(&self.store.read).await.map_err(fail())?;
            rows.iter().map(ActionTaken::read).collect::<Result<_, _>>().map_err(fail())
        };
        self.metrics.timed("actions_read", call).await
    }
}

async fn write_actions(
    id: MessageId,
    actions: &[WantedAction],
    now_ms: i64,
    transaction: &mut sqlx::AnyConnection,
) -> Result<(), sqlx::Error> {
    for action in actions {
        let recipients = serde_json::to_string(&action.recipients).unwrap_or_default();
        let mut sql = Sql::new("INSERT INTO actions (message_id, kind, cause, recipients, wanted_ms) VALUES (");
        sql.bind(id.to_string())
            .comma()
            .text(&action.kind)
            .comma()
            .text(action.cause)
            .comma()
            .text(&recipients)
            .comma()
            .bind(now_ms);
        sql.push(") ON CONFLICT (message_id, kind, cause) DO NOTHING");
        sql.execute(&mut *transaction).await?;
    }
    Ok(())
}
