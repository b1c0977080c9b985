//! One worker: takes a claimed job, runs its handler under its deadlines, says what becomes of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::crew::{JobRun, Outcome};
use super::{Failure, Held, Shop};
use crate::deferred::queue::now_ms;
use crate::deferred::retry::{after_failure, chance};
use crate::deferred::{Reason, Settlement};
use crate::observe::{self, Category, event};

/// Works until it is told to retire, or nothing more comes.
pub(super) async fn work(
    id: u32,
    shop: Arc<Shop>,
    take: Arc<Mutex<mpsc::Receiver<Held>>>,
    tell: mpsc::Sender<(Held, Settlement)>,
    (retire, stop): (CancellationToken, CancellationToken),
) {
    loop {
        let next = async { take.lock().await.recv().await };
        let held = tokio::select! {
            biased;
            () = retire.cancelled() => return,
            held = next => held,
        };
        let Some(held) = held else { return };
        if held.lost.is_cancelled() {
            shop.forget(&held);
            continue;
        }
        let settlement = if stop.is_cancelled() {
            Some(Settlement::Back)
        } else {
            let job = &held.claim.job;
            let span = tracing::info_span!("job", correlation = job.correlation, kind = job.kind, key = job.key);
            one(id, &shop, &held, &stop).instrument(span).await
        };
        match settlement {
            Some(settlement) => {
                shop.settles(&held);
                if tell.send((held, settlement)).await.is_err() {
                    return;
                }
            }
            None => shop.forget(&held),
        }
    }
}

/// Does one job; `None`: the lease was lost meanwhile, and nothing is ours to settle.
async fn one(id: u32, shop: &Shop, held: &Held, stop: &CancellationToken) -> Option<Settlement> {
    let job = &held.claim.job;
    let (begun_ms, begun) = (now_ms(), Instant::now());
    shop.crew.begins(id, job, begun_ms);
    let settlement = attempt(shop, held, stop).await;
    let took = begun.elapsed();
    let due_ms = job.enqueued_ms.max(job.not_before_ms);
    let waited_ms = begun_ms.saturating_sub(due_ms).max(0).unsigned_abs();
    let (outcome, error) = match &settlement {
        None => (Outcome::Lost, None),
        Some(Settlement::Done) => (Outcome::Done, None),
        Some(Settlement::Again { error, .. } | Settlement::Later { error, .. }) => {
            (Outcome::Again, Some(error.clone()))
        }
        Some(Settlement::Dead { error, .. }) => (Outcome::Dead, Some(error.clone())),
        Some(Settlement::Back) => (Outcome::Back, None),
    };
    if let Some(Settlement::Dead { reason, error }) = &settlement {
        tracing::warn!(
            event = event::SYSTEM,
            job = job.key,
            kind = job.kind,
            correlation = job.correlation,
            attempts = job.attempt,
            reason = reason.as_str(),
            error,
            "a job is a dead letter now"
        );
    }
    let kind = if shop.handlers.contains_key(&job.kind) { job.kind.as_str() } else { "unknown" };
    let waited = (job.attempt == 1).then(|| Duration::from_millis(waited_ms));
    shop.metrics.attempted(kind, outcome.as_str(), took, waited);
    shop.crew.ends(JobRun {
        number: 0,
        key: job.key.clone(),
        kind: job.kind.clone(),
        priority: job.priority,
        correlation: job.correlation.clone(),
        worker: id,
        attempt: job.attempt,
        started_ms: begun_ms,
        waited_ms,
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        outcome,
        error,
    });
    settlement
}

async fn attempt(shop: &Shop, held: &Held, stop: &CancellationToken) -> Option<Settlement> {
    let (job, config) = (&held.claim.job, &shop.config);
    // A job that was lost once may only have been claimed ahead when the worker died. From then on it is claimed singly.
    if job.attempt > config.attempts && held.claim.lost_by() != 1 {
        let last = job.last_error.as_deref().unwrap_or("none");
        let error = format!("{} workers died over it or lost it; last error: {last}", held.claim.lost_by());
        observe::count("deferred", Category::Internal);
        return Some(Settlement::Dead { reason: Reason::Poison, error });
    }
    let Some(handler) = shop.handlers.get(&job.kind) else {
        let error = format!("nobody here handles jobs of kind `{}`", job.kind);
        observe::count("deferred", Category::Configuration);
        return Some(Settlement::Dead { reason: Reason::UnknownKind, error });
    };
    let grace = handler.grace();
    // What is awaited rather than cut off begins nothing new once the workers stop. Others have the drain, and their time.
    let soon = if grace.is_zero() { CancellationToken::new() } else { stop.child_token() };
    let run = AssertUnwindSafe(handler.run(job, soon.clone())).catch_unwind();
    let hard = Duration::from_secs(config.hard_seconds).saturating_add(grace);
    let run = timeout(hard, run);
    let remind = async {
        sleep(Duration::from_secs(config.soft_seconds)).await;
        soon.cancel();
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        biased;
        () = held.lost.cancelled() => return None,
        ended = run => ended,
        () = remind => return None,
    };
    let failure = match ended {
        Ok(Ok(Ok(()))) => return Some(Settlement::Done),
        Ok(Ok(Err(failure))) => failure,
        Ok(Err(_panic)) => Failure::again("the handler panicked").because(Category::Internal),
        Err(_elapsed) => {
            let error = format!("not done within {} s", hard.as_secs());
            let failure = if handler.delivers() { Failure::later(error) } else { Failure::again(error) };
            failure.because(Category::Resource)
        }
    };
    if let Some(category) = failure.category() {
        observe::count("deferred", category);
    }
    Some(after_failure(config, job, failure, now_ms(), chance()))
}
