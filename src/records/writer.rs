//! The one writer: gathers rows and commits them in groups.
//!
//! A durable step per message is bound by fsync at a few hundred a second, so many messages share one commit. Ledger rows
//! wait a little ([`Config::ledger_linger_ms`]), and while the database is not there, until it is back; those that are more than
//! [`Config::ledger_queue`] are dropped, counted and logged: the mail has been answered by then. Quarantine rows are committed at once and confirmed to whoever waits; when the commit fails the
//! sender is asked to try later. Nothing is confirmed that is not synced, and what was not confirmed is taken back: a commit whose
//! answer was lost may be there all the same, while its sender was told to come again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::ledger::LedgerRow;
use super::quarantine::HeldRow;
use super::sql::Sql;
use super::store::Store;
use super::{Config, Metrics, StoreError, campaign, history, outbox};
use crate::mail::MessageId;
use crate::observe::event;

/// Rows in one commit.
const BATCH: usize = 256;
/// Recipients in one statement: SQLite takes at most 32,766 values, PostgreSQL 65,535.
const RECIPIENTS: usize = 4_000;
/// Pause before a ledger batch that failed is tried again, and how often it is tried while the database is there.
const RETRY: Duration = Duration::from_millis(500);
const RETRIES: u32 = 5;
/// Time for taking one row back; others wait for the writer meanwhile.
const TAKE_BACK: Duration = Duration::from_secs(3);
/// Time a statement of PostgreSQL waits for a lock: somebody else's commit may hang, and all who are to be held wait for the writer.
const LOCK: Duration = Duration::from_millis(200);
/// Rows taken back at a time, and the time after which no more are tried.
const TAKEN_BACK: usize = 32;
const TAKEN_BACK_TIME: Duration = Duration::from_millis(400);
/// Rows that may be there although nobody was told so, until they are taken back.
const DOUBTFUL: usize = 4_096;
/// Time in which it is logged once that rows cannot be taken back.
const QUIET: Duration = Duration::from_secs(30);
/// Every so many failures are logged.
const REPEATED: u32 = 60;

enum Row {
    Ledger(Box<LedgerRow>),
    Held(Held),
}

/// A quarantine row, and who waits for it.
struct Held {
    row: Box<HeldRow>,
    done: oneshot::Sender<Result<(), StoreError>>,
    /// So long.
    until: Instant,
}

/// The sending side; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    rows: mpsc::Sender<Row>,
    commit: Duration,
    /// Whether the database is not there; ledger rows are tried until it is.
    away: Arc<AtomicBool>,
    /// Whether the last commit failed, for whatever reason.
    failed: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

impl Writer {
    /// Makes the writer and the loop that its owner has to run until it returns.
    pub(super) fn new(
        store: Store,
        config: &Config,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (rows, inbox) = mpsc::channel(config.ledger_queue.max(1));
        let away = Arc::<AtomicBool>::default();
        let failed = Arc::<AtomicBool>::default();
        let marks = (Arc::clone(&away), Arc::clone(&failed));
        let run = write_all(store, inbox, config.clone(), marks, Arc::clone(&metrics));
        (Self { rows, commit: Duration::from_millis(config.commit_ms), away, failed, metrics }, run)
    }

    /// Whether the last commit failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Something else was committed.
    pub(super) fn is_well(&self) {
        self.failed.store(false, Ordering::Relaxed);
    }

    /// Hands over a ledger row; never waits.
    pub(super) fn ledger(&self, row: LedgerRow) {
        if let Err(refused) = self.rows.try_send(Row::Ledger(Box::new(row))) {
            self.metrics.ledger_dropped.inc();
            let why =
                if matches!(refused, mpsc::error::TrySendError::Full(_)) { "queue full" } else { "writer stopped" };
            tracing::warn!(event = event::SYSTEM, why, "ledger row dropped");
        } else {
            self.metrics.ledger_waiting.inc();
        }
    }

    /// Commits a quarantine row; returns when it is on disk, at `until` at the latest, and sooner after `commit_ms`. Fails at once
    /// while it is known that the database is not there.
    pub(super) async fn hold(&self, row: HeldRow, until: Instant) -> Result<(), StoreError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(StoreError::Away);
        }
        let (done, mut confirmed) = oneshot::channel();
        let began = Instant::now();
        let until = until.min(began + self.commit);
        let wait = async {
            let held = Held { row: Box::new(row), done, until };
            self.rows.send(Row::Held(held)).await.map_err(|_| StoreError::Stopped)?;
            (&mut confirmed).await.map_err(|_| StoreError::Stopped)?
        };
        if let Ok(result) = tokio::time::timeout_at(until, wait).await {
            return result;
        }
        // Either it was confirmed at the last moment, or the writer learns that nobody waits and takes it back.
        confirmed.close();
        let late = StoreError::Slow(until.saturating_duration_since(began).as_millis() as u64);
        confirmed.try_recv().unwrap_or(Err(late))
    }
}

async fn write_all(
    store: Store,
    mut inbox: mpsc::Receiver<Row>,
    config: Config,
    (away, failed): (Arc<AtomicBool>, Arc<AtomicBool>),
    metrics: Arc<Metrics>,
) {
    let linger = Duration::from_millis(config.ledger_linger_ms);
    let mut ledger = Ledger { rows: Vec::with_capacity(BATCH), failed: 0, next: Instant::now(), away, broken: failed };
    let (mut held, mut back) =
        (Vec::new(), TakenBack { rows: VecDeque::new(), quiet_until: Instant::now(), next: Instant::now() });
    loop {
        let times = [(!ledger.rows.is_empty()).then_some(ledger.next), (!back.rows.is_empty()).then_some(back.next)];
        let first = match times.into_iter().flatten().min() {
            None => inbox.recv().await,
            Some(at) => match tokio::time::timeout_at(at, inbox.recv()).await {
                Ok(first) => first,
                Err(_) => {
                    ledger.commit_due(&store, &metrics).await;
                    back.take(&store).await;
                    continue;
                }
            },
        };
        let Some(first) = first else { break };
        let until = Instant::now() + linger;
        let (mut next, mut taken) = (Some(first), 0);
        while let Some(row) = next.take() {
            match row {
                Row::Ledger(row) => ledger.rows.push(*row),
                Row::Held(row) => held.push(row),
            }
            taken += 1;
            if taken >= BATCH {
                break;
            }
            // Whoever waits for a commit waits for no other row than those that are there already.
            next = if held.is_empty() {
                tokio::time::timeout_at(until, inbox.recv()).await.ok().flatten()
            } else {
                inbox.try_recv().ok()
            };
        }
        commit_held(&store, &mut held, &mut back, (&metrics, &ledger.broken)).await;
        ledger.commit_due(&store, &metrics).await;
        back.take(&store).await;
        ledger.keep(config.ledger_queue.max(BATCH), &metrics);
    }
    for _ in 0..RETRIES {
        while !ledger.rows.is_empty() && ledger.failed == 0 {
            ledger.commit(&store, &metrics).await;
        }
        back.take(&store).await;
        if ledger.rows.is_empty() && back.rows.is_empty() {
            return;
        }
        tokio::time::sleep_until(ledger.next.max(back.next)).await;
        ledger.commit(&store, &metrics).await;
    }
    ledger.keep(0, &metrics);
    left(back.rows);
}

/// Ledger rows that are not committed yet. While the database is not there they wait, as many as `ledger_queue`.
struct Ledger {
    rows: Vec<LedgerRow>,
    /// Commits in a row that failed.
    failed: u32,
    /// The next try.
    next: Instant,
    /// Set only while there are rows: their commit takes it back.
    away: Arc<AtomicBool>,
    /// Whether the last commit failed.
    broken: Arc<AtomicBool>,
}

impl Ledger {
    async fn commit_due(&mut self, store: &Store, metrics: &Metrics) {
        if Instant::now() >= self.next {
            self.commit(store, metrics).await;
        }
    }

    /// Commits the oldest rows. Two batches, one more than came meanwhile: what has piled up becomes less, and no message that
    /// is to be held waits for all of it.
    async fn commit(&mut self, store: &Store, metrics: &Metrics) {
        for _ in 0..2 {
            let count = self.rows.len().min(BATCH);
            if count == 0 {
                return;
            }
            let Err(error) = metrics.timed("ledger", insert_ledger(store, &self.rows[..count])).await else {
                self.failed = 0;
                self.away.store(false, Ordering::Relaxed);
                self.broken.store(false, Ordering::Relaxed);
                metrics.ledger_rows.inc_by(count as u64);
                self.gone(count, metrics);
                continue;
            };
            self.failed = self.failed.saturating_add(1);
            self.broken.store(true, Ordering::Relaxed);
            self.next = Instant::now() + RETRY;
            let answered = matches!(&error, StoreError::Query { source: sqlx::Error::Database(_), .. });
            if !answered {
                self.away.store(true, Ordering::Relaxed);
            }
            let is_there = history::in_time(sqlx::query("SELECT 1").execute(&store.write)).await.is_ok();
            self.away.store(!is_there, Ordering::Relaxed);
            // The database is there and does not take these rows: others may be better.
            if is_there && self.failed >= RETRIES {
                metrics.ledger_dropped.inc_by(count as u64);
                tracing::error!(
                    event = event::SYSTEM,
                    rows = count, %error, source = ?std::error::Error::source(&error), "ledger rows dropped"
                );
                self.gone(count, metrics);
                self.failed = 0;
            } else if self.failed % REPEATED == 1 {
                let waiting = self.rows.len();
                tracing::warn!(
                    event = event::SYSTEM,
                    waiting, %error, source = ?std::error::Error::source(&error), "ledger rows wait for the database"
                );
            }
            return;
        }
    }

    /// Drops the newest rows when there are more than these.
    fn keep(&mut self, most: usize, metrics: &Metrics) {
        let surplus = self.rows.len().saturating_sub(most);
        if surplus > 0 {
            metrics.ledger_dropped.inc_by(surplus as u64);
            metrics.ledger_waiting.sub(surplus as i64);
            tracing::error!(
                event = event::SYSTEM,
                rows = surplus,
                "ledger rows dropped: the database does not take them in time"
            );
            self.rows.truncate(most);
        }
    }

    fn gone(&mut self, count: usize, metrics: &Metrics) {
        metrics.ledger_waiting.sub(count as i64);
        self.rows.drain(..count);
    }
}

async fn commit_held(
    store: &Store,
    held: &mut Vec<Held>,
    back: &mut TakenBack,
    (metrics, broken): (&Metrics, &AtomicBool),
) {
    // The waiter of a row that was given up has told the sender 451: holding it now would invent a message.
    held.retain(|one| !one.done.is_closed());
    let Some(until) = held.iter().map(|one| one.until).max() else { return };
    let started = Instant::now();
    let rows: Vec<&HeldRow> = held.iter().map(|one| &*one.row).collect();
    let mut together = insert_held(store, &rows, until).await;
    metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
    metrics.took("hold", started, together.is_err());
    // One bad row must not take the others with it: after a failure each is tried by itself.
    let alone = together.is_err() && held.len() > 1;
    for Held { row, done, until } in held.drain(..) {
        let result = match &mut together {
            Ok(()) => Ok(()),
            // Nobody waits for it any more.
            Err(_) if alone && done.is_closed() => Err(StoreError::Stopped),
            Err(_) if alone => insert_held(store, &[&row], until).await,
            Err(_) => std::mem::replace(&mut together, Ok(())),
        };
        let failed = result.is_err();
        broken.store(failed, Ordering::Relaxed);
        metrics.held.with_label_values(&[if failed { "failed" } else { "committed" }]).inc();
        let abandoned = done.send(result).is_err();
        // A failed commit may have been done and only its answer lost.
        if abandoned || failed {
            back.rows.push_back(row);
        }
        if failed {
            back.next = Instant::now() + RETRY;
        }
    }
}

async fn insert_held(store: &Store, rows: &[&HeldRow], until: Instant) -> Result<(), StoreError> {
    let inserts = async {
        let mut transaction = store.write.begin().await?;
        wait_at_most(until.saturating_duration_since(Instant::now()), store.sqlite, &mut transaction).await?;
        let mut sql = Sql::many(HeldRow::INSERT, store.sqlite);
        sql.rows(rows, |sql, row| row.bind(sql));
        sql.execute(&mut *transaction).await?;
        let recipients: Vec<_> =
            rows.iter().flat_map(|row| row.recipients.iter().map(move |one| (*row, one))).collect();
        for some in recipients.chunks(RECIPIENTS) {
            let mut sql = Sql::many(HeldRow::INSERT_RECIPIENT, store.sqlite);
            sql.rows(some, |sql, (row, recipient)| recipient.bind(row, sql));
            sql.execute(&mut *transaction).await?;
        }
        let jobs: Vec<_> = rows.iter().flat_map(|row| &row.jobs).collect();
        outbox::write(&jobs, store.sqlite, &mut transaction).await?;
        transaction.commit().await
    };
    // Nobody waits longer; a connection that carries nothing any more must not keep the next messages waiting for ever.
    let began = Instant::now();
    match tokio::time::timeout_at(until, inserts).await {
        Ok(done) => done.map_err(StoreError::query("hold messages")),
        Err(_) => Err(StoreError::Slow(until.saturating_duration_since(began).as_millis() as u64)),
    }
}

/// Has PostgreSQL end what waits for a lock, or takes longer than all of it may. Not the commit: no such time is for that.
async fn wait_at_most(
    statement: Duration,
    sqlite: bool,
    transaction: &mut sqlx::AnyConnection,
) -> Result<(), sqlx::Error> {
    if sqlite {
        return Ok(());
    }
    // 0 were for ever.
    let ms = |time: Duration| time.as_millis().clamp(1, i32::MAX as u128).to_string();
    let mut sql = Sql::new("SELECT set_config('lock_timeout', ");
    sql.bind(ms(LOCK)).push(", true), set_config('statement_timeout', ").bind(ms(statement)).push(", true)");
    sql.execute(transaction).await.map(drop)
}

/// A row that may be there although its sender was told to come again; whole, for what a server may still be committing is waited
/// for by the key that it holds.
type Doubtful = Box<HeldRow>;

/// Rows to be taken back, while the database is there.
struct TakenBack {
    rows: VecDeque<Doubtful>,
    /// What failed is not logged before.
    quiet_until: Instant,
    /// The next try.
    next: Instant,
}

impl TakenBack {
    async fn take(&mut self, store: &Store) {
        let surplus = self.rows.len().saturating_sub(DOUBTFUL);
        left(self.rows.drain(..surplus));
        if Instant::now() < self.next {
            return;
        }
        // A few at a time: what is to be held meanwhile waits for the writer.
        let (began, mut failed) = (Instant::now(), false);
        for _ in 0..self.rows.len().min(TAKEN_BACK) {
            let Some(one) = self.rows.pop_front() else { break };
            match withdraw(store, one.id, Some(&one)).await {
                Ok(()) => {}
                Err(error) => {
                    if Instant::now() >= self.quiet_until {
                        self.quiet_until = Instant::now() + QUIET;
                        let waiting = self.rows.len() + 1;
                        tracing::warn!(
                            event = event::SYSTEM,
                            id = %one.id, waiting, %error, source = ?std::error::Error::source(&error),
                            "messages that were deferred may stay in quarantine for a while"
                        );
                    }
                    failed = true;
                    // The others first: what holds this one may hold it for long.
                    self.rows.push_back(one);
                }
            }
            if began.elapsed() >= TAKEN_BACK_TIME {
                break;
            }
        }
        if failed {
            self.next = Instant::now() + RETRY;
        }
    }
}

fn left(doubtful: impl IntoIterator<Item = Doubtful>) {
    for one in doubtful {
        tracing::error!(
            event = event::SYSTEM,
            id = %one.id, "a message that was deferred may be in quarantine as well"
        );
    }
}

/// Takes back a row whose sender was told to come again, and its jobs, so that none acts on it. With `under_way`, also one that a
/// server may still be committing: inserting its key waits for that to end.
pub(super) async fn withdraw(store: &Store, id: MessageId, under_way: Option<&HeldRow>) -> Result<(), StoreError> {
    let deletes = async {
        let mut transaction = store.write.begin().await?;
        wait_at_most(TAKE_BACK, store.sqlite, &mut transaction).await?;
        if let Some(row) = under_way {
            let mut sql = Sql::many(HeldRow::INSERT, store.sqlite);
            sql.rows([row], |sql, row| row.bind(sql));
            sql.push(" ON CONFLICT (id) DO NOTHING");
            sql.execute(&mut *transaction).await?;
        }
        for job in under_way.iter().flat_map(|row| &row.jobs) {
            sqlx::query("DELETE FROM outbox WHERE job_key = $1").bind(&job.key).execute(&mut *transaction).await?;
        }
        for sql in ["DELETE FROM quarantine_recipients WHERE message_id = $1", "DELETE FROM quarantine WHERE id = $1"] {
            sqlx::query(sql).bind(id.to_string()).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    };
    let late = |_| Err(sqlx::Error::PoolTimedOut);
    let done = tokio::time::timeout(TAKE_BACK, deletes).await.unwrap_or_else(late);
    done.map_err(StoreError::query("take back a held message"))
}

async fn insert_ledger(store: &Store, rows: &[LedgerRow]) -> Result<(), StoreError> {
    let additions = history::together(rows.iter().map(|row| &row.history));
    let inserts = async {
        store.history_comes(&additions)?;
        let mut transaction = store.write.begin().await?;
        let mut sql = Sql::many(LedgerRow::INSERT, store.sqlite);
        sql.rows(rows, |sql, row| row.bind(sql));
        sql.push(" ON CONFLICT (id) DO NOTHING");
        sql.execute(&mut *transaction).await?;
        let recipients: Vec<_> =
            rows.iter().flat_map(|row| row.recipients.iter().map(move |one| (row.id, one))).collect();
        for some in recipients.chunks(RECIPIENTS) {
            let into = "INSERT INTO message_recipients (recipient, message_id) VALUES ";
            let mut sql = Sql::many(into, store.sqlite);
            sql.rows(some, |sql, (id, recipient)| {
                sql.text(recipient).comma().bind(id.to_string());
            });
            sql.push(" ON CONFLICT (recipient, message_id) DO NOTHING");
            sql.execute(&mut *transaction).await?;
        }
        history::write(&additions, store.sqlite, &mut transaction).await?;
        let likenesses: Vec<_> = rows.iter().filter_map(|row| row.likeness.as_ref()).collect();
        campaign::write(&likenesses, store.sqlite, &mut transaction).await?;
        let jobs: Vec<_> = rows.iter().flat_map(|row| &row.jobs).collect();
        outbox::write(&jobs, store.sqlite, &mut transaction).await?;
        transaction.commit().await
    };
    history::in_time(inserts).await.map_err(StoreError::query("insert ledger rows"))
}
