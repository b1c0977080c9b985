//! Work after the reply, wired: the queue, the outbox in the records, the workers and what they can do.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use prometheus::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::alerts::Tellers;
use super::config::Config;
use super::reinject::IntoNextHop;
use crate::admin::Workforce;
use crate::deferred::{
    self, Crew, DeadJob, Handler, Handlers, Job, Metrics, Outbox, OutboxError, Pool, Priority, Queue, Reason, pump,
};
use crate::enforcement::{self, Recorded, Release, ReleaseJobs};
use crate::gateway::next_hop::NextHops;
use crate::observe::event;
use crate::pipeline::{Pipeline, REASSESS, Reassess, WAITED, Waited};
use crate::records::{Burial, OutboxJob, PassKey, Records};

/// Time that is given to settle what drained, after the drain.
const SETTLE: Duration = Duration::from_secs(5);

/// Queue and workers, before they work.
pub(super) struct Work {
    pub(super) queue: Arc<dyn Queue>,
    /// None: this process does not work.
    crew: Option<Arc<Crew>>,
    pool: Option<Pool>,
    outbox: Arc<dyn Outbox>,
    metrics: Arc<Metrics>,
    config: Arc<Config>,
}

/// Queue and workers at work.
pub(super) struct Working {
    stop: CancellationToken,
    parts: JoinSet<()>,
    queue: Arc<dyn Queue>,
    patience: Duration,
}

/// What the handlers of jobs work with.
pub(super) struct Hands {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) next_hops: Arc<NextHops>,
    pub(super) key: PassKey,
    /// Who tells people and programs.
    pub(super) tellers: Arc<Tellers>,
}

/// What the workers can do, by kind of job. Jobs of other kinds become dead letters that say so.
fn handlers(config: &Config, records: &Arc<Records>, queue: &Arc<dyn Queue>, hands: Hands) -> anyhow::Result<Handlers> {
    let Hands { pipeline, next_hops, key, tellers } = hands;
    let release = Release::new(Arc::clone(records), key, IntoNextHop(next_hops), config.release.clone());
    let recorded: Arc<dyn Handler> = Arc::new(Recorded(Arc::clone(records)));
    let mut handlers: Handlers = enforcement::RECORDED.map(|kind| (kind.to_owned(), Arc::clone(&recorded))).into();
    let reassess = Reassess::new(Arc::clone(&pipeline), Arc::clone(records));
    let waited = Waited::new(pipeline, Arc::clone(records));
    let release = ReleaseJobs::new(Arc::new(release), Arc::clone(records));
    let others: [(&str, Arc<dyn Handler>); 3] =
        [(REASSESS, Arc::new(reassess)), (WAITED, Arc::new(waited)), (enforcement::RELEASE, Arc::new(release))];
    handlers.extend(others.map(|(kind, handler)| (kind.to_owned(), handler)));
    handlers.extend(tellers.handlers(records, queue)?.into_iter().map(|(kind, handler)| (kind.to_owned(), handler)));
    Ok(handlers)
}

impl Work {
    /// Opens the queue; with `hands` there is a pool too.
    pub(super) async fn open(
        config: &Arc<Config>,
        records: &Arc<Records>,
        registry: &Registry,
        hands: Option<Hands>,
    ) -> anyhow::Result<Self> {
        let queue = deferred::open(&config.queue, &config.data).await.context("[queue]")?;
        let metrics = Arc::new(Metrics::new(registry)?);
        let outbox: Arc<dyn Outbox> = Arc::new(OutboxOfRecords(Arc::clone(records)));
        let pool = if let Some(hands) = hands {
            let sections = (&config.queue, &config.workers);
            let handlers = handlers(config, records, &queue, hands)?;
            let (queue, outbox) = (Arc::clone(&queue), Some(Arc::clone(&outbox)));
            Some(Pool::new(queue, outbox, handlers, sections, Arc::clone(&metrics)).context("[workers]")?)
        } else {
            None
        };
        let crew = pool.as_ref().map(Pool::crew);
        Ok(Self { queue, crew, pool, outbox, metrics, config: Arc::clone(config) })
    }

    /// What the HTTP side shows of it.
    pub(super) fn workforce(&self, doors: Vec<(String, String)>) -> Workforce {
        let (queue, outbox) = (Arc::clone(&self.queue), Arc::clone(&self.outbox));
        Workforce { queue, outbox, crew: self.crew.clone(), doors }
    }

    /// Starts pump and workers.
    pub(super) fn start(self) -> Working {
        let Self { queue, pool, outbox, metrics, config, .. } = self;
        let (stop, mut parts) = (CancellationToken::new(), JoinSet::new());
        let patience = pool.as_ref().map_or(Duration::from_secs(config.workers.drain_seconds), Pool::patience);
        parts.spawn(pump(outbox, Arc::clone(&queue), config.queue.clone(), Arc::clone(&metrics), stop.clone()));
        match pool {
            Some(pool) => parts.spawn(pool.run(stop.clone())),
            None => parts.spawn(deferred::watch(Arc::clone(&queue), metrics, stop.clone())),
        };
        Working { stop, parts, queue, patience: patience.saturating_add(SETTLE) }
    }
}

impl Working {
    /// Claims nothing more; jobs at work go on.
    pub(super) fn drain(&self) {
        self.stop.cancel();
    }

    /// Drains, and waits for the end.
    pub(super) async fn finish(mut self) {
        self.drain();
        let all = async { while self.parts.join_next().await.is_some() {} };
        if tokio::time::timeout(self.patience, all).await.is_err() {
            tracing::warn!(
                event = event::SYSTEM,
                "the workers did not end in time: their jobs are done again when the leases have run out"
            );
            self.parts.shutdown().await;
        }
        self.queue.close().await;
    }
}

/// The outbox that commits with the records.
pub(super) struct OutboxOfRecords(pub(super) Arc<Records>);

impl Outbox for OutboxOfRecords {
    fn unfinished(&self, now_ms: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Job>, OutboxError>> {
        async move {
            let jobs = self.0.unfinished(now_ms, u32::try_from(limit).unwrap_or(u32::MAX)).await?;
            Ok(jobs.into_iter().map(job).collect())
        }
        .boxed()
    }

    fn queued<'a>(&'a self, jobs: &'a [(String, i64)]) -> BoxFuture<'a, Result<(), OutboxError>> {
        async move { Ok(self.0.queued(jobs).await?) }.boxed()
    }

    fn done<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<u64, OutboxError>> {
        async move { Ok(self.0.done(keys).await?) }.boxed()
    }

    fn dead<'a>(&'a self, dead: &'a [DeadJob], due_ms: i64) -> BoxFuture<'a, Result<(), OutboxError>> {
        let burial = |DeadJob { job, reason, dead_ms }: &DeadJob| Burial {
            key: job.key.clone(),
            reason: reason.as_str().to_owned(),
            error: job.last_error.clone().unwrap_or_default(),
            attempts: job.attempt,
            dead_ms: *dead_ms,
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
        async move {
            let rows = self.0.buried(now_ms, u32::try_from(limit).unwrap_or(u32::MAX)).await?;
            Ok(rows.into_iter().map(dead).collect())
        }
        .boxed()
    }

    fn revive<'a>(&'a self, keys: Option<&'a [String]>, now_ms: i64) -> BoxFuture<'a, Result<u64, OutboxError>> {
        async move { Ok(self.0.revive(keys, now_ms).await?) }.boxed()
    }

    fn purge<'a>(&'a self, keys: Option<&'a [String]>) -> BoxFuture<'a, Result<u64, OutboxError>> {
        async move { Ok(self.0.purge_dead(keys).await?) }.boxed()
    }
}

fn job(row: OutboxJob) -> Job {
    Job {
        priority: Priority::at(row.priority.into()),
        not_before_ms: row.not_before_ms,
        correlation: row.correlation,
        ..Job::new(&row.kind, row.key, row.payload, row.enqueued_ms)
    }
}
