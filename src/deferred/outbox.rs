//! The outbox: where a job waits from the moment its cause is committed until it is done.
//!
//! It is kept by whoever keeps the cause, in the same transaction, so that there is no cause without its job. The pump puts
//! its jobs into the queue and lets them stay in the outbox until they are done; a job without result is put into the queue
//! again from time to time, which changes nothing while the queue still has it. So a queue that was absent, flushed or failed
//! over loses nothing. A dead letter stays in the outbox too, with its payload, until it is replayed or purged.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::error::with_causes;
use super::queue::now_ms;
use super::{DeadJob, Job, Metrics, Placed, Queue, QueueConfig, QueueError, Reason};
use crate::observe::{self, Fault, event};

/// Jobs moved at a time.
const BATCH: usize = 256;
/// Longest pause after failures, and how often a full queue is asked for room.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why an outbox failed.
pub type OutboxError = Box<dyn std::error::Error + Send + Sync>;

/// Where jobs wait until they are done.
pub trait Outbox: Send + Sync {
    /// Jobs that have no result and are due at this time (milliseconds since 1970), by priority and then those that are due
    /// longest first. One that cannot be read is set aside as a dead letter.
    fn unfinished(&self, now_ms: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Job>, OutboxError>>;

    /// They are in the queue: due again at that time, should there be no result by then.
    fn queued<'a>(&'a self, jobs: &'a [(String, i64)]) -> BoxFuture<'a, Result<(), OutboxError>>;

    /// They are done: forgets them. Gives how many it still had: a job's second result finds nothing.
    fn done<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<u64, OutboxError>>;

    /// They are dead letters: they stay, and are due again at that time, should the queue have lost them by then.
    fn dead<'a>(&'a self, dead: &'a [DeadJob], due_ms: i64) -> BoxFuture<'a, Result<(), OutboxError>>;

    /// Dead letters that are due at this time.
    fn buried(&self, now_ms: i64, limit: usize) -> BoxFuture<'_, Result<Vec<DeadJob>, OutboxError>>;

    /// Dead letters become jobs again, due at once; all of them without keys. Gives how many.
    fn revive<'a>(&'a self, keys: Option<&'a [String]>, now_ms: i64) -> BoxFuture<'a, Result<u64, OutboxError>>;

    /// Forgets dead letters; all of them without keys. Gives how many.
    fn purge<'a>(&'a self, keys: Option<&'a [String]>) -> BoxFuture<'a, Result<u64, OutboxError>>;
}

/// Puts dead letters into the queue again, as new jobs; all of them without keys. Gives how many.
///
/// # Errors
/// When queue or outbox does not answer: to do it again is safe.
pub async fn replay(queue: &dyn Queue, outbox: &dyn Outbox, keys: Option<&[String]>) -> Result<u64, QueueError> {
    // The queue first: a job that the pump has put there already would leave its dead letter behind.
    let queued = queue.replay(keys).await?;
    let failed = |source| QueueError::Outbox { attempt: "replay dead letters", source };
    Ok(queued.max(outbox.revive(keys, now_ms()).await.map_err(failed)?))
}

/// Throws dead letters away, and what was to be done with them; all of them without keys. Gives how many.
///
/// # Errors
/// When queue or outbox does not answer: to do it again is safe.
pub async fn purge(queue: &dyn Queue, outbox: &dyn Outbox, keys: Option<&[String]>) -> Result<u64, QueueError> {
    // The outbox first: it would give them back to the queue.
    let failed = |source| QueueError::Outbox { attempt: "purge dead letters", source };
    let forgotten = outbox.purge(keys).await.map_err(failed)?;
    Ok(forgotten.max(queue.purge(keys).await?))
}

/// Moves jobs from the outbox into the queue until `stop`.
pub async fn pump(
    outbox: Arc<dyn Outbox>,
    queue: Arc<dyn Queue>,
    config: QueueConfig,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let every = Duration::from_millis(config.pump_ms);
    let mut pause = every;
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        match move_some(&*outbox, &*queue, &config, &metrics).await {
            Ok(Moved::All) => pause = every,
            Ok(Moved::More) => pause = Duration::ZERO,
            Ok(Moved::Full) => pause = PAUSE_MAX.max(every),
            Err(error) => {
                metrics.failures.with_label_values(&["pump"]).inc();
                observe::count("deferred", error.category());
                if !failing {
                    tracing::warn!(
                        event = event::SYSTEM,
                        error = with_causes(&error),
                        "jobs wait in the outbox until the queue takes them"
                    );
                }
                failing = true;
                pause = (pause.max(every) * 2).min(PAUSE_MAX);
                continue;
            }
        }
        if std::mem::take(&mut failing) {
            tracing::info!(event = event::SYSTEM, "the queue takes jobs again");
        }
    }
}

enum Moved {
    /// Nothing is left.
    All,
    /// There may be more.
    More,
    /// The queue takes no more.
    Full,
}

async fn move_some(
    outbox: &dyn Outbox,
    queue: &dyn Queue,
    config: &QueueConfig,
    metrics: &Metrics,
) -> Result<Moved, QueueError> {
    let failed = |attempt| move |source| QueueError::Outbox { attempt, source };
    let now = now_ms();
    let resend_ms = config.resend_ms();
    let jobs = outbox.unfinished(now, BATCH).await.map_err(failed("read"))?;
    if jobs.is_empty() {
        return give_back(outbox, queue, now, resend_ms).await;
    }
    let placed = queue.enqueue(&jobs).await?;
    let (mut queued, mut hopeless, mut full) = (Vec::new(), Vec::new(), false);
    for (job, placed) in jobs.iter().zip(placed) {
        metrics.enqueued.with_label_values(&[placed.as_str()]).inc();
        match placed {
            Placed::Queued | Placed::Duplicate => {
                queued.push((job.key.clone(), job.not_before_ms.max(now).saturating_add(resend_ms)));
            }
            Placed::Full => full = true,
            Placed::Refused => {
                let why = job.check(config.max_payload_bytes).err().map(|why| why.to_string()).unwrap_or_default();
                tracing::error!(
                    event = event::SYSTEM,
                    job = job.key,
                    why,
                    "a job that can never be queued is a dead letter now"
                );
                hopeless.push(DeadJob { job: job.failed(&why), reason: Reason::Refused, dead_ms: now });
            }
        }
    }
    if !queued.is_empty() {
        outbox.queued(&queued).await.map_err(failed("note what is queued"))?;
    }
    if !hopeless.is_empty() {
        outbox.dead(&hopeless, now).await.map_err(failed("note dead letters"))?;
    }
    Ok(match full {
        true => Moved::Full,
        false if jobs.len() == BATCH => Moved::More,
        false => Moved::All,
    })
}

/// Dead letters that the queue may have lost.
async fn give_back(outbox: &dyn Outbox, queue: &dyn Queue, now_ms: i64, resend_ms: i64) -> Result<Moved, QueueError> {
    let failed = |attempt| move |source| QueueError::Outbox { attempt, source };
    let dead = outbox.buried(now_ms, BATCH).await.map_err(failed("read dead letters"))?;
    if dead.is_empty() {
        return Ok(Moved::All);
    }
    queue.bury(&dead).await?;
    let due_ms = now_ms.saturating_add(resend_ms);
    let due: Vec<(String, i64)> = dead.iter().map(|dead| (dead.job.key.clone(), due_ms)).collect();
    outbox.queued(&due).await.map_err(failed("note what is queued"))?;
    Ok(if dead.len() == BATCH { Moved::More } else { Moved::All })
}
