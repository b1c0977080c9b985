//! The watch over the gateway: reads it every few seconds, runs the channels of alerts, renews signing keys.

mod certificate;
mod collector;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use futures_util::FutureExt;
use prometheus::Registry;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::reinject::IntoNextHop;
use super::{data, standing};
use crate::deferred::Queue;
use crate::egress;
use crate::enforcement::alert::{
    AlertJobs, AlertMetrics, Board, Channel, Channels, Delivery, Later, Node, Untold, Watch, Ways,
};
use crate::enforcement::signing::rotate_by_age;
use crate::enrichment::Outside;
use crate::gateway::next_hop::{HopConfig, NextHopMetrics, NextHops, NextHopsConfig, TlsMode};
use crate::observe::{self, Category, event};
use crate::pipeline::Pipeline;
use crate::records::Records;

use collector::Collector;

/// How long what waits for the channels may take at the end, and then to be laid into the job queue.
const LAST: Duration = Duration::from_secs(3);
const LAID_DOWN: Duration = Duration::from_secs(1);

/// The watch, before it runs.
pub(super) struct Alerting {
    every: Duration,
    watch: Box<dyn Fn() -> Watch + Send + Sync>,
    collector: Collector,
    deliveries: Vec<Delivery>,
    later: Option<Later>,
    untold: Untold,
    board: Board,
    config: Arc<Config>,
}

/// The channels, for whoever watches and for whoever works on what waits.
#[derive(Clone)]
pub(super) struct Tellers {
    channels: Vec<Arc<Channel>>,
    dependencies: egress::Registry,
    node: Node,
    metrics: AlertMetrics,
}

impl Tellers {
    /// Sets the channels up; `None` when nothing is to be watched.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub(super) fn new(
        config: &Config,
        outside: &Outside,
        next_hops: &Arc<NextHops>,
        registry: &Registry,
    ) -> anyhow::Result<Option<Self>> {
        if !config.alerts.enabled {
            return Ok(None);
        }
        // Of their own: a reload forgets services that are gone, not channels.
        let ways = ways(config, outside.dependencies.beside(), Some(next_hops)).context("[alerts]")?;
        let channels = Channel::configured(&config.alerts, &ways).context("[alerts]")?;
        let channels = channels.into_iter().map(Arc::new).collect();
        let metrics = AlertMetrics::new(registry)?;
        data::prepare(config)?;
        let node = Node { name: ways.host_name, id: Board::new(&config.data).node_id()? };
        Ok(Some(Self { channels, dependencies: ways.dependencies, node, metrics }))
    }

    /// What works on notices that wait in the queue.
    pub(super) fn jobs(self, config: &Config, queue: &Arc<dyn Queue>) -> AlertJobs {
        let later = Later::new(Arc::clone(queue), &config.alerts.delivery);
        AlertJobs::new(self.channels, later, (self.node.id, Board::new(&config.data)), self.metrics)
    }
}

impl Alerting {
    /// Sets it up.
    pub(super) fn new(
        config: &Arc<Config>,
        (records, outside, next_hops, pipeline): (&Arc<Records>, &Arc<Outside>, &Arc<NextHops>, &Arc<Pipeline>),
        tellers: Tellers,
        queue: &Arc<dyn Queue>,
        registry: &Registry,
    ) -> Self {
        let Tellers { channels, dependencies, node, metrics } = tellers;
        // Nobody might ever work on a queue that is only here.
        let shared = !config.queue.url.is_empty() || config.queue.url_file.is_some();
        let worked_on = config.workers.enabled || shared;
        let later = worked_on.then(|| Later::new(Arc::clone(queue), &config.alerts.delivery));
        let (channels, deliveries) = Channels::new(channels, &config.alerts.delivery, &metrics, later.as_ref());
        let board = Board::new(&config.data);
        match board.state() {
            Ok(state) => channels.resume(state.unwrap_or_default().untold),
            Err(error) => tracing::warn!(event = event::SYSTEM, %error, "what was not yet told is not told"),
        }
        let (untold, settings, shown) = (channels.untold().clone(), config.alerts.clone(), board.clone());
        // Its place is taken by another of its kind when it breaks down: that one goes on from the board.
        let watch =
            move || Watch::new(node.clone(), settings.clone(), shown.clone(), channels.clone(), metrics.clone());
        let collector =
            Collector::new(config, records, (outside, pipeline), (dependencies, next_hops), queue, registry);
        let every = Duration::from_secs(u64::from(config.alerts.every_seconds.max(1)));
        let config = Arc::clone(config);
        Self { every, watch: Box::new(watch), collector, deliveries, later, untold, board, config }
    }

    /// Watches until `stop`; then what waits for the channels has a moment, and what is left waits as jobs or on the board.
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { every, watch: new_watch, mut collector, deliveries, later, untold, board, config } = self;
        // Milliseconds like those of the clock, but nobody sets them.
        let (began, began_ms) = (Instant::now(), now_ms());
        let steady_ms = move || began_ms.saturating_add(i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX));
        let mut watch = new_watch().recalling(now_ms(), steady_ms());
        let mut delivering = JoinSet::new();
        for delivery in deliveries {
            delivering.spawn(delivery);
        }
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rotation = Box::pin(rotate_by_age(config.signing.clone(), config.data.clone(), now_ms));
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = &mut rotation => {}
                _ = ticks.tick() => {
                    let reading = AssertUnwindSafe(collector.read()).catch_unwind();
                    let Ok(readings) = reading.await else {
                        broken_down("reading");
                        continue;
                    };
                    // It writes files: a disk that hangs must not take the mail's threads with it.
                    let look = move || {
                        watch.look(&readings, now_ms(), steady_ms());
                        watch
                    };
                    watch = surviving(look, &new_watch).await;
                }
            }
        }
        // Closes the queues.
        drop((watch, new_watch));
        let last = async { while delivering.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST, last).await;
        delivering.shutdown().await;
        if let Some(later) = later {
            let _ = tokio::time::timeout(LAID_DOWN, later.put_all(&untold)).await;
        }
        let untold = untold.all();
        if !untold.is_empty() {
            let notices = untold.len();
            tracing::warn!(
                event = event::SYSTEM,
                notices,
                "alerts that were not delivered yet wait for the next start"
            );
        }
        let kept = tokio::task::spawn_blocking(move || board.keep_untold(untold)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(event = event::SYSTEM, %error, "what was not told cannot be kept: it may be told twice");
        }
    }
}

/// Does something that may block and may break down; in the latter case the next look begins with a new one.
async fn surviving<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static, anew: impl Fn() -> T) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => {
            broken_down("looking");
            anew()
        }
    }
}

fn broken_down(what: &str) {
    observe::count("app", Category::Internal);
    tracing::error!(event = event::SYSTEM, what, "the watch has broken down: it goes on at the next look");
}

/// Whether the settings of alerts can be used.
///
/// # Errors
/// Names the setting that cannot.
pub(super) fn check(config: &Config) -> anyhow::Result<()> {
    let dependencies = egress::Registry::new(egress::Metrics::new(&Registry::new())?);
    Channel::configured(&config.alerts, &ways(config, dependencies, None)?)?;
    Ok(())
}

/// What channels go out by. Without `next_hops` they are made of the configuration.
///
/// # Errors
/// Names the setting that cannot be used.
pub(super) fn ways(
    config: &Config,
    dependencies: egress::Registry,
    next_hops: Option<&Arc<NextHops>>,
) -> anyhow::Result<Ways> {
    let host_name = standing::host_name(config);
    let server = &config.alerts.mail.server;
    let settings = if server.is_empty() {
        config.next_hop.clone()
    } else {
        let hop = HopConfig {
            name: "alerts".into(),
            address: server.clone(),
            tls: TlsMode::Opportunistic,
            ..HopConfig::default()
        };
        NextHopsConfig { hops: vec![hop], helo_name: config.next_hop.helo_name.clone(), ..NextHopsConfig::default() }
    };
    let hops = match next_hops.filter(|_| server.is_empty()) {
        Some(hops) => Arc::clone(hops),
        None => {
            // Its counters would be taken twice.
            let metrics = NextHopMetrics::new(&Registry::new())?;
            Arc::new(NextHops::new(&settings, &host_name, metrics).context("alerts.mail.server")?)
        }
    };
    let resolvers: Vec<SocketAddr> = config.enrichment.sender_auth.resolvers.clone();
    let (signing, data) = (config.signing.clone(), config.data.clone());
    Ok(Ways { dependencies, mailer: Arc::new(IntoNextHop(hops)), resolvers, host_name, signing, data })
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watch_that_breaks_down_is_followed_by_another() {
        assert_eq!(surviving(|| 1, || 2).await, 1);
        assert_eq!(surviving(|| panic!("as the test wants it"), || 2).await, 2);
    }
}
