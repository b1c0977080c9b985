//! The outbox in the records, as `app` has it.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mailweir::deferred::{DeadJob, Job, Outbox, OutboxError, Priority, Reason};
use mailweir::records::{Burial, OutboxJob, Records};

pub struct OfRecords(pub Arc<Records>);

fn job(row: OutboxJob) -> Job {
    Job {
        priority: Priority::at(row.priority.into()),
        not_before_ms: row.not_before_ms,
        correlation: row.correlation,
        ..Job::new(&row.kind, row.key, row.payload, row.enqueued_ms)
    }
}

impl Outbox for OfRecords {
    fn unfinished(&self, now_ms: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Job>, OutboxError>> {
        async move { Ok(self.0.unfinished(now_ms, limit as u32).await?.into_iter().map(job).collect()) }.boxed()
    }

    fn queued<'a>(&'a self, jobs: &'a [(String, i64)]) -> BoxFuture<'a, Result<(), OutboxError>> {
        async move { Ok(self.0.queued(jobs).await?) }.boxed()
    }

    fn done<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<u64, OutboxError>> {
        async move { Ok(self.0.done(keys).await?) }.boxed()
    }

    fn dead<'a>(&'a self, dead: &'a [DeadJob], due_ms: i64) -> BoxFuture<'a, Result<(), OutboxError>> {
        let burial = |dead: &DeadJob| Burial {
            key: dead.job.key.clone(),
            reason: dead.reason.as_str().into(),
            error: dead.job.last_error.clone().unwrap_or_default(),
            attempts: dead.job.attempt,
            dead_ms: dead.dead_ms,
        };
        let dead: Vec<Burial> = dead.iter().map(burial).collect();
        async move { Ok(self.0.bury(&dead, due_ms).await?) }.boxed()
    }

    fn buried(&self, now_ms: i64, limit: usize) -> BoxFuture<'_, Result<Vec<DeadJob>, OutboxError>> {
        let dead = |(row, burial): (OutboxJob, Burial)| DeadJob {
            job: Job { attempt: burial.attempts, last_error: Some(burial.error), ..job(row) },
            reason: Reason::read(&burial.reason),
            dead_ms: burial.dead_ms,
        };
        async move { Ok(self.0.buried(now_ms, limit as u32).await?.into_iter().map(dead).collect()) }.boxed()
    }

    fn revive<'a>(&'a self, keys: Option<&'a [String]>, now_ms: i64) -> BoxFuture<'a, Result<u64, OutboxError>> {
        async move { Ok(self.0.revive(keys, now_ms).await?) }.boxed()
    }

    fn purge<'a>(&'a self, keys: Option<&'a [String]>) -> BoxFuture<'a, Result<u64, OutboxError>> {
        async move { Ok(self.0.purge_dead(keys).await?) }.boxed()
    }
}
