//! Settling in batches, and renewing leases until then.
//!
//! The result first (the outbox forgets the job), then the queue: whoever dies between the two leaves a job that is done once
//! more, never one that is forgotten. A dead letter is written first and noted by the outbox then, if it was ours to write.

use std::sync::Arc;

use futures_util::{FutureExt, TryFutureExt};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{FAILED_PAUSE, Held, Shop};
use crate::deferred::queue::now_ms;
use crate::deferred::{Answer, Claim, DeadJob, QueueError, Settlement};
use crate::observe::event;

/// Settlements in one batch.
const BATCH: usize = 256;
/// Tries of one step once the pool is stopping; before that it is tried until it succeeds.
const LAST_TRIES: u32 = 3;

/// Settles until all who tell are gone.
pub(super) async fn settle(shop: &Shop, mut told: mpsc::Receiver<(Held, Settlement)>, stop: &CancellationToken) {
    let mut batch = Vec::with_capacity(BATCH);
    while told.recv_many(&mut batch, BATCH).await > 0 {
        let claims: Vec<(Arc<Claim>, Settlement)> =
            batch.iter().map(|(held, settlement)| (Arc::clone(&held.claim), settlement.clone())).collect();
        settle_batch(shop, &claims, stop).await;
        for (held, _) in batch.drain(..) {
            shop.forget(&held);
        }
    }
}

async fn settle_batch(shop: &Shop, claims: &[(Arc<Claim>, Settlement)], stop: &CancellationToken) {
    let done = claims.iter().filter(|(_, settlement)| *settlement == Settlement::Done);
    let done: Vec<String> = done.map(|(claim, _)| claim.job.key.clone()).collect();
    forget(shop, &done, stop).await;
    let settled = insist(shop, "settle", stop, || shop.queue.settle(claims)).await;
    let lost = settled.as_ref().map_or(0, |settled| settled.iter().filter(|settled| !**settled).count());
    if lost > 0 {
        // Somebody else has them, or had; the queue may have been emptied. The outbox knows what is still to be done.
        tracing::info!(event = event::SYSTEM, lost, "claims were lost before they were settled");
    }
    // Of those that were lost, whoever has them now decides.
    let settled = settled.unwrap_or_default();
    let now = now_ms();
    let dead = claims.iter().zip(settled).filter(|(_, settled)| *settled).filter_map(|((claim, settlement), _)| {
        let Settlement::Dead { reason, error } = settlement else { return None };
        Some(DeadJob { job: claim.job.failed(error), reason: *reason, dead_ms: now })
    });
    let dead: Vec<DeadJob> = dead.collect();
    let Some(outbox) = shop.outbox.as_deref().filter(|_| !dead.is_empty()) else { return };
    let failed = |source| QueueError::Outbox { attempt: "note dead letters", source };
    let due_ms = now.saturating_add(shop.resend_ms);
    insist(shop, "bury", stop, || outbox.dead(&dead, due_ms).map_err(failed).boxed()).await;
}

async fn forget(shop: &Shop, keys: &[String], stop: &CancellationToken) {
    let Some(outbox) = shop.outbox.as_deref().filter(|_| !keys.is_empty()) else { return };
    let failed = |source| QueueError::Outbox { attempt: "forget", source };
    insist(shop, "forget", stop, || outbox.done(keys).map_err(failed).boxed()).await;
}

/// Does a step until it succeeds; when the pool is stopping, a few times.
async fn insist<'a, T>(
    shop: &Shop,
    attempt: &str,
    stop: &CancellationToken,
    step: impl Fn() -> Answer<'a, T>,
) -> Option<T> {
    let (mut failing, mut last_tries) = (false, 0);
    loop {
        match step().await {
            Ok(done) => return Some(done),
            Err(error) => shop.failed(attempt, &error, &mut failing),
        }
        if stop.is_cancelled() {
            last_tries += 1;
            if last_tries >= LAST_TRIES {
                return None;
            }
        }
        sleep(FAILED_PAUSE).await;
    }
}

/// Renews the leases of all claims, three times in each lease, until `over`.
pub(super) async fn keep(shop: &Shop, over: &CancellationToken) {
    let mut every = interval(shop.lease / 3);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = over.cancelled() => return,
            _ = every.tick() => {}
        }
        let held: Vec<Held> = shop.active().values().map(|active| active.held.clone()).collect();
        if held.is_empty() {
            continue;
        }
        let claims: Vec<Arc<Claim>> = held.iter().map(|held| Arc::clone(&held.claim)).collect();
        match shop.queue.beat(&claims).await {
            Ok(ours) => {
                failing = false;
                for (held, _) in held.iter().zip(ours).filter(|(_, ours)| !ours) {
                    held.lost.cancel();
                }
            }
            // The leases may run out meanwhile: then others begin too, and the first result counts.
            Err(error) => shop.failed("beat", &error, &mut failing),
        }
    }
}
