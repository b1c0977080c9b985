//! What is remembered: the ledger of all messages, the quarantine with its bodies, release passes, the outbox
//! of jobs, retention.
//!
//! SQLite or PostgreSQL by `store.url`, bodies as files or in S3. May import `observe`, `mail`, `analysis` and `policy`. Not here: what is
//! held or released and why (`pipeline`, `enforcement`).

mod bodies;
mod campaign;
mod config;
mod error;
mod history;
mod ledger;
mod metrics;
mod outbox;
mod pass;
mod quarantine;
mod record;
mod replica;
mod retention;
mod second;
mod seen;
mod sql;
mod store;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use bodies::Bodies;
use ledger::LedgerRow;
use quarantine::{HeldRecipient, HeldRow};
use store::Store;
use writer::Writer;

use crate::analysis::{Fact, History, HistoryKeys};
use crate::mail::MessageId;
use crate::observe::event;
use crate::policy::{Action, Reason, Verdict};

pub use config::{Config, S3Config};
pub use error::StoreError;
pub use history::HistoryConfig;
pub use ledger::{MessageQuery, MessageSummary, PAGE_MAX};
pub use metrics::Metrics;
pub use outbox::{Burial, OutboxJob};
pub use pass::{Pass, PassKey, RELEASE_HEADER};
pub use quarantine::{HeldMessage, HeldQuery, HeldState, RELEASE_RENEW, RecipientState, ReleaseLease};
pub use record::{RecipientVerdict, Record, Timing};
pub use second::{ActionOrder, ActionTaken, BY_CAMPAIGN, BY_LOOK, Change, Explained, Reassessment, WantedAction};

/// How long a body may take for somebody who has time; the commit has its own limit, `store.commit_ms`.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// All that is remembered; shared by everything that remembers.
#[derive(Debug)]
pub struct Records {
    config: Config,
    store: Store,
    bodies: Bodies,
    writer: Writer,
    metrics: Arc<Metrics>,
    keeping: Arc<Semaphore>,
    /// Where the retention of bodies goes on.
    bodies_after: Mutex<Option<String>>,
}

impl Records {
    /// Opens database and bodies, making them if need be. The second value is the writer's loop: run it until it returns,
    /// which it does when all [`Records`] are gone and everything is written.
    ///
    /// # Errors
    /// Names what could not be opened and why.
    pub async fn open(
        config: &Config,
        data: &Path,
        metrics: Arc<Metrics>,
    ) -> Result<(Arc<Self>, impl Future<Output = ()> + Send + 'static), StoreError> {
        let bodies = Bodies::open(config, data)?;
        metrics.slow_from(config.slow_query_ms);
        let store = Store::open(config, data, &metrics).await?;
        metrics.watch(&store);
        let (writer, run) = Writer::new(store.clone(), config, Arc::clone(&metrics));
        let closing = store.clone();
        let run = async move {
            run.await;
            closing.close().await;
        };
        Ok((
            Arc::new(Self {
                config: config.clone(),
                store,
                bodies,
                writer,
                metrics,
                keeping: Arc::new(Semaphore::new(second::KEEPING)),
                bodies_after: Mutex::default(),
            }),
            run,
        ))
    }

    /// Puts the filter before the history (`history.filter_bytes`), when this process can have it: call it before anything is
    /// written. Gives what keeps it whole: run it as long as there is mail. It is in use when it has read all names.
    pub fn filtered(&self, data: &Path) -> Option<impl Future<Output = ()> + Send + 'static + use<>> {
        let bytes = self.config.history.filter_bytes;
        let file = store::file_of(&store::address(&self.config, data).ok()?).filter(|_| bytes > 0)?;
        let seen = match seen::Seen::new(&file, bytes, &self.metrics) {
            Ok(Some(seen)) => Arc::new(seen),
            Ok(None) => {
                tracing::info!(event = event::SYSTEM, "another process has the filter before the history");
                return None;
            }
            Err(error) => {
                tracing::warn!(event = event::SYSTEM, %error, "no filter before the history: its files cannot be made");
                return None;
            }
        };
        self.store.seen.set(Arc::clone(&seen)).ok()?;
        Some(seen.keep(self.store.clone()))
    }

    /// Adds a record to the ledger, soon; never waits and never fails the mail.
    pub fn note(&self, record: &Record) {
        self.note_with_jobs(record, Vec::new());
    }

    /// The same with the jobs that it causes: record and jobs are committed together, or not at all.
    pub fn note_with_jobs(&self, record: &Record, jobs: Vec<OutboxJob>) {
        let lower = |text: &str| text.to_lowercase();
        let mut signals = String::from(",");
        for term in &record.score.terms {
            signals.push_str(term.code.as_str());
            signals.push(',');
        }
        let json = match serde_json::to_string(record) {
            Ok(json) => json,
            Err(error) => {
                return tracing::error!(
                    event = event::SYSTEM,
                    id = %record.id, %error, "a record could not be written as JSON"
                );
            }
        };
        self.writer.ledger(LedgerRow {
            id: record.id,
            received_ms: record.received_ms,
            door: record.connection.door.as_str(),
            tenant: record.verdicts.first().map(|v| v.tenant.clone()).unwrap_or_default(),
            action: record.action.as_str(),
            risk: record.score.risk,
            degraded: !record.degraded.is_empty(),
            client_ip: record.connection.client_ip.map(|ip| ip.to_string()),
            sender: lower(&record.envelope.sender.text),
            from_address: record.from.first().map(|from| lower(from)).unwrap_or_default(),
            subject: record.subject.clone(),
            header_id: record.header_id.clone(),
            size: i64::try_from(record.size).unwrap_or(i64::MAX),
            signals,
            recipients: record.envelope.recipients.iter().map(|path| lower(&path.text)).collect(),
            history: history::additions(record),
            likeness: campaign::LikenessRow::of(record),
            jobs,
            record: json,
        });
    }

    /// Holds a message for some of its recipients (places in the envelope). When this returns `Ok`, bytes and rows are synced.
    ///
    /// # Errors
    /// The sender must be asked to try later: nothing is held then.
    pub async fn hold(&self, record: &Record, raw: Bytes, recipients: &[usize]) -> Result<(), StoreError> {
        self.hold_with_jobs(record, raw, recipients, Vec::new()).await
    }

    /// The same with the jobs that it causes: all are committed together, or nothing.
    ///
    /// # Errors
    /// As [`Records::hold`].
    pub async fn hold_with_jobs(
        &self,
        record: &Record,
        raw: Bytes,
        recipients: &[usize],
        jobs: Vec<OutboxJob>,
    ) -> Result<(), StoreError> {
        self.hold_until(record, raw, recipients, jobs, Instant::now() + PATIENCE).await
    }

    /// The same, for somebody who waits until then, body and commit together. What comes through later is taken back.
    ///
    /// # Errors
    /// As [`Self::hold`].
    pub async fn hold_until(
        &self,
        record: &Record,
        raw: Bytes,
        recipients: &[usize],
        jobs: Vec<OutboxJob>,
        until: Instant,
    ) -> Result<(), StoreError> {
        let started = Instant::now();
        let late = |_| StoreError::Slow(until.saturating_duration_since(started).as_millis() as u64);
        let body = tokio::time::timeout_at(until, self.bodies.put(raw)).await.map_err(late)??;
        self.metrics.body_seconds.observe(started.elapsed().as_secs_f64());
        let held = held_for(record, recipients);
        let reason = recipients.first().and_then(|place| record.verdicts.get(*place)).map(|v| &v.verdict.reason);
        self.writer
            .hold(
                HeldRow {
                    id: record.id,
                    held_ms: record.received_ms,
                    reason: reason.map(quarantine::word).unwrap_or_default(),
                    risk: record.score.risk,
                    sender: record.envelope.sender.clone(),
                    from_address: record.from.first().cloned().unwrap_or_default(),
                    subject: record.subject.clone(),
                    client_ip: record.connection.client_ip.map(|ip| ip.to_string()),
                    size: i64::try_from(record.size).unwrap_or(i64::MAX),
                    body,
                    recipients: held,
                    jobs,
                },
                until,
            )
            .await
    }

    /// Takes back the held copy of a message whose sender was told to come again.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn withdraw(&self, id: MessageId) -> Result<(), StoreError> {
        self.metrics.timed("withdraw", writer::withdraw(&self.store, id, None)).await
    }

    /// Searches the ledger, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn messages(&self, query: &MessageQuery) -> Result<Vec<MessageSummary>, StoreError> {
        self.metrics.timed("messages", self.store.messages(query)).await
    }

    /// The record of one message.
    ///
    /// # Errors
    /// When the database does not answer or the record cannot be read.
    pub async fn record(&self, id: MessageId) -> Result<Option<Record>, StoreError> {
        self.metrics.timed("record", self.store.record(id)).await
    }

    /// Lists held messages, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn held(&self, query: &HeldQuery) -> Result<Vec<HeldMessage>, StoreError> {
        self.metrics.timed("held", self.store.held(query)).await
    }

    /// One held message.
    ///
    /// # Errors
    /// [`StoreError::NotHeld`] when there is none.
    pub async fn held_message(&self, id: MessageId) -> Result<HeldMessage, StoreError> {
        self.metrics.timed("held", self.store.held_message(id)).await
    }

    /// The bytes of a held message, as they came.
    ///
    /// # Errors
    /// When they are gone or damaged.
    pub async fn held_bytes(&self, message: &HeldMessage) -> Result<Bytes, StoreError> {
        self.bodies.get(&message.body).await
    }

    /// Begins a release: takes the lease for those of the named recipients that wait, and gives them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin_release(
        &self,
        id: MessageId,
        recipients: &[String],
        now_ms: i64,
    ) -> Result<Vec<ReleaseLease>, StoreError> {
        self.metrics.timed("release", self.store.lease(id, recipients, now_ms)).await
    }

    /// A sign of life of a release that runs, every [`RELEASE_RENEW`]. `false`: somebody else may have taken it up.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn renew_release(&self, id: MessageId, lease: &ReleaseLease, now_ms: i64) -> Result<bool, StoreError> {
        self.metrics.timed("release", self.store.renew(id, lease, now_ms)).await
    }

    /// Ends a release: with the time of the next hop's 250, or with the reason why it failed (it can be tried again).
    ///
    /// # Errors
    /// When the database does not answer; the lease then runs out by itself.
    pub async fn end_release(
        &self,
        id: MessageId,
        leases: &[ReleaseLease],
        outcome: Result<i64, &str>,
    ) -> Result<(), StoreError> {
        self.metrics.timed("release", self.store.end_release(id, leases, outcome)).await?;
        let Ok(now_ms) = outcome else { return Ok(()) };
        // The message is delivered: that this cannot be remembered is no failure of the release.
        if let Err(error) = self.remember_release(id, now_ms).await {
            tracing::warn!(
                event = event::SYSTEM,
                %id, %error, "a release could not be added to the history of its sender"
            );
        }
        Ok(())
    }

    async fn remember_release(&self, id: MessageId, now_ms: i64) -> Result<(), StoreError> {
        match self.store.record(id).await? {
            Some(record) => self.store.add_history(&history::released(&record, now_ms)).await,
            None => Ok(()),
        }
    }

    /// What was known of the people around a message just before `at_ms` (milliseconds since 1970).
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn history(&self, at_ms: i64, keys: &HistoryKeys) -> Result<Fact<History>, StoreError> {
        self.metrics.timed("history", self.store.history(at_ms, keys, &self.config.history)).await
    }

    /// Names of one message that the history is asked about at most.
    pub fn history_names(&self) -> usize {
        self.config.history.max_names
    }

    /// Throws a held message away for the named recipients, or for all. Gives for how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delete_held(&self, id: MessageId, recipients: &[String], now_ms: i64) -> Result<u64, StoreError> {
        self.metrics.timed("delete_held", self.store.delete_held(id, recipients, now_ms)).await
    }

    /// Notes a single-use pass through our own doors.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn add_pass(&self, nonce: &str, id: MessageId, expires_ms: i64) -> Result<(), StoreError> {
        self.metrics.timed("add_pass", self.store.add_pass(nonce, id, expires_ms)).await
    }

    /// Uses a pass up; `false` when it is unknown, used or too old.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn use_pass(&self, nonce: &str, now_ms: i64) -> Result<bool, StoreError> {
        self.metrics.timed("use_pass", self.store.use_pass(nonce, now_ms)).await
    }

    /// Asks the database for an answer, and whether it can be written to.
    ///
    /// # Errors
    /// When there is none, or it cannot.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let doubtful = self.writer.is_failing();
        self.metrics.timed("ping", self.store.ping(doubtful)).await?;
        if doubtful {
            self.writer.is_well();
        }
        Ok(())
    }

    /// Asks an object store of bodies for an answer; a folder has nothing to say.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ping_bodies(&self) -> Result<(), StoreError> {
        self.bodies.ping().await
    }

    /// Rows of each table: takes long where there are many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn counts(&self) -> Result<Vec<(&'static str, u64)>, StoreError> {
        let counts = self.metrics.timed("count", self.store.counts()).await?;
        for (table, count) in &counts {
            self.metrics.rows.with_label_values(&[table]).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        Ok(counts)
    }

    /// Whether there is a copy for searches.
    pub fn has_replica(&self) -> bool {
        self.store.replica.is_some()
    }

    /// How far the copy may be behind; without one, not at all.
    pub fn replica_max_lag(&self) -> Duration {
        self.store.replica.as_ref().map(replica::Replica::max_lag).unwrap_or_default()
    }

    /// How far the copy is behind; zero when there is none.
    ///
    /// # Errors
    /// When one of the two does not answer.
    pub async fn replica_lag(&self) -> Result<Duration, StoreError> {
        let Some(replica) = &self.store.replica else { return Ok(Duration::ZERO) };
        let lag =
            replica.lag(&self.store.read).await.map_err(StoreError::query("ask the copy how far it is behind"))?;
        lag.map_err(StoreError::query("compare the copy with the first database"))
    }

    /// The database's clock, milliseconds since 1970.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn clock_ms(&self) -> Result<i64, StoreError> {
        self.metrics.timed("clock", self.store.clock_ms()).await
    }

    /// Where database and bodies are, for people; without passwords.
    pub fn places(&self) -> (String, String) {
        (self.store.place.clone(), self.bodies.place())
    }
}

/// The recipients at these places, each with his tenant and why he does not get the message.
fn held_for(record: &Record, places: &[usize]) -> Vec<HeldRecipient> {
    let passes = |verdict: &Verdict| matches!(verdict.action, Action::Allow | Action::Tag);
    let verdicts = || places.iter().filter_map(|place| record.verdicts.get(*place)).map(|one| &one.verdict);
    // Who is held only because of others waits when they do nothing else.
    let waits = verdicts().any(|one| !passes(one))
        && verdicts().filter(|one| !passes(one)).all(|one| one.reason == Reason::Waiting);
    let why = |verdict: &Verdict| quarantine::word(if waits { &Reason::Waiting } else { &verdict.reason });
    let held = places.iter().filter_map(|place| {
        let (path, one) = (record.envelope.recipients.get(*place)?.clone(), record.verdicts.get(*place));
        let tenant = one.map(|one| one.tenant.clone()).unwrap_or_default();
        Some(HeldRecipient { path, tenant, reason: one.map(|one| why(&one.verdict)).unwrap_or_default() })
    });
    let mut held: Vec<HeldRecipient> = held.collect();
    held.sort_by(|a, b| a.path.text.cmp(&b.path.text));
    held.dedup_by(|a, b| a.path.text == b.path.text);
    held
}
