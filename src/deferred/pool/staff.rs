//! The number of workers: measured, decided, changed. Workers are drained, not killed: one that is to go ends its job first.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::worker::work;
use super::{Held, Shop};
use crate::deferred::cpu::Cpu;
use crate::deferred::queue::now_ms;
use crate::deferred::{Load, Settlement};
use crate::observe::event;

/// How often the load is measured.
const MEASURE: Duration = Duration::from_secs(1);

struct Staff {
    shop: Arc<Shop>,
    take: Arc<Mutex<mpsc::Receiver<Held>>>,
    tell: mpsc::Sender<(Held, Settlement)>,
    stop: CancellationToken,
    /// Each gives its number at its end.
    workers: JoinSet<u32>,
    cpu: Cpu,
    failing: bool,
}

/// Keeps the right number of workers until `stop`; then lets them end, and gives back what they leave.
pub(super) async fn staff(
    shop: Arc<Shop>,
    take: mpsc::Receiver<Held>,
    tell: mpsc::Sender<(Held, Settlement)>,
    stop: CancellationToken,
) {
    let take = Arc::new(Mutex::new(take));
    let (workers, cpu) = (JoinSet::new(), Cpu::default());
    let mut staff = Staff { shop, take, tell, stop, workers, cpu, failing: false };
    let mut every = interval(MEASURE);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        staff.adjust();
        tokio::select! {
            () = staff.stop.cancelled() => break,
            Some(ended) = staff.workers.join_next() => staff.ended(ended.ok()),
            () = staff.shop.crew.changed() => {}
            _ = every.tick() => staff.measure().await,
        }
    }
    staff.drain().await;
}

impl Staff {
    /// Hires or retires until the number is right.
    fn adjust(&mut self) {
        let (missing, retired) = self.shop.crew.difference();
        for worker in retired {
            worker.cancel();
        }
        for _ in 0..missing {
            let (id, retire) = self.shop.crew.hire(now_ms());
            let (shop, take, tell) = (Arc::clone(&self.shop), Arc::clone(&self.take), self.tell.clone());
            let tokens = (retire, self.stop.clone());
            self.workers.spawn(async move {
                work(id, shop, take, tell, tokens).await;
                id
            });
        }
    }

    fn ended(&self, worker: Option<u32>) {
        match worker {
            Some(id) => self.shop.crew.gone(id),
            None => tracing::error!(event = event::SYSTEM, "a worker ended by a panic of its own"),
        }
    }

    /// Waits for workers to end, while there are any and `more` of them are worth it.
    async fn ends(&mut self, more: impl Fn(&Shop) -> bool) {
        while more(&self.shop) {
            let Some(ended) = self.workers.join_next().await else { return };
            self.ended(ended.ok());
        }
    }

    async fn measure(&mut self) {
        match self.shop.queue.depth().await {
            Ok(depth) => {
                self.failing = false;
                let (crew, now) = (&self.shop.crew, now_ms());
                let load = Load {
                    depth: depth.waiting(),
                    oldest_ms: depth.oldest_ms(),
                    cpu_percent: self.cpu.percent(),
                    workers: crew.target(),
                    busy: crew.busy(now),
                };
                crew.measured(now, &depth, &load);
            }
            Err(error) => {
                self.shop.metrics.unmeasured();
                self.shop.failed("measure", &error, &mut self.failing);
            }
        }
    }

    /// Waits for the jobs at work, and for their grace where one of them has it; then gives back what nobody settles any more.
    async fn drain(mut self) {
        let patience = Duration::from_secs(self.shop.config.drain_seconds);
        if timeout(patience, self.ends(|_| true)).await.is_err() {
            let grace = self.shop.grace_at_work();
            // However it ends: what is still at work then is cut off.
            let _ = timeout(grace, self.ends(|shop| !shop.grace_at_work().is_zero())).await;
        }
        if !self.workers.is_empty() {
            tracing::warn!(event = event::SYSTEM, "jobs were not done in time: they go back to the queue");
            self.workers.shutdown().await;
        }
        let left: Vec<Held> =
            self.shop.active().values().filter(|active| !active.settling).map(|active| active.held.clone()).collect();
        for held in left {
            self.shop.settles(&held);
            if self.tell.send((held, Settlement::Back)).await.is_err() {
                return;
            }
        }
    }
}
