//! The watch over the gateway: reads it every few seconds, runs the channels of alerts, renews signing keys.

mod certificate;
mod collector;
mod tellers;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use futures_util::FutureExt;
use prometheus::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::reinject::IntoNextHop;
use super::standing;
use crate::deferred::Queue;
use crate::egress;
use crate::enforcement::Tell;
use crate::enforcement::alert::{AlertsConfig, Board, Channel, Channels, Later, Undelivered, Untold, Watch, Ways};
use crate::enforcement::signing::rotate_by_age;
use crate::enrichment::Outside;
use crate::gateway::next_hop::{HopConfig, NextHopMetrics, NextHops, NextHopsConfig, TlsMode};
use crate::observe::{self, Category, event};
use crate::pipeline::Pipeline;
use crate::records::Records;

use collector::Collector;
use tellers::{Told, Watcher};

pub(super) use tellers::Tellers;

/// How long what waits for the channels may take at the end, and then to be laid into the job queue.
const LAST: Duration = Duration::from_secs(3);
const LAID_DOWN: Duration = Duration::from_secs(1);

/// The watch, before it runs.
pub(super) struct Alerting {
    watcher: Watcher,
    told: watch::Receiver<Told>,
    collector: Collector,
    /// None: nobody might ever work on a queue that is only here.
    queue: Option<Arc<dyn Queue>>,
    board: Board,
    config: Arc<Config>,
}

/// The channels at work, of one set of settings.
struct Telling {
    channels: Channels,
    delivering: JoinSet<()>,
    later: Option<Later>,
    every: Duration,
    new_watch: Box<dyn Fn() -> Watch + Send + Sync>,
}

impl Alerting {
    /// Sets it up; `None` when nothing is to be watched.
    pub(super) fn new(
        config: &Arc<Config>,
        (records, outside, next_hops, pipeline): (&Arc<Records>, &Arc<Outside>, &Arc<NextHops>, &Arc<Pipeline>),
        tellers: &Tellers,
        queue: &Arc<dyn Queue>,
        registry: &Registry,
    ) -> Option<Self> {
        let watcher = tellers.watcher.clone()?;
        let channels = tellers.dependencies.clone();
        let collector = Collector::new(config, records, (outside, pipeline), (channels, next_hops), queue, registry);
        let shared = !config.queue.url.is_empty() || config.queue.url_file.is_some();
        let queue = (config.workers.enabled || shared).then(|| Arc::clone(queue));
        let (told, board, config) = (tellers.told(), Board::new(&config.data), Arc::clone(config));
        Some(Self { watcher, told, collector, queue, board, config })
    }

    /// Watches until `stop`; then what waits for the channels has a moment, and what is left waits as jobs or on the board.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        // Milliseconds like those of the clock, but nobody sets them.
        let (began, began_ms) = (Instant::now(), now_ms());
        let steady_ms = move || began_ms.saturating_add(i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX));
        let mut telling = self.telling();
        match self.board.state() {
            Ok(state) => telling.channels.resume(state.unwrap_or_default().untold),
            Err(error) => tracing::warn!(event = event::SYSTEM, %error, "what was not yet told is not told"),
        }
        let mut watch = (telling.new_watch)().recalling(now_ms(), steady_ms());
        let mut rotation = Box::pin(rotate_by_age(self.config.signing.clone(), self.config.data.clone(), now_ms));
        let mut ticks = ticks(telling.every);
        loop {
            let untold = telling.channels.untold().clone();
            tokio::select! {
                () = stop.cancelled() => break,
                () = &mut rotation => {}
                // Lest it is told again after whatever ends us before the next look.
                () = untold.fewer() => keep(self.board.clone(), untold.all()).await,
                Ok(()) = self.told.changed() => {
                    let next = self.telling();
                    watch = watch.under(AlertsConfig::clone(&self.told.borrow().config), next.channels.clone());
                    // What waits has a moment; what is left is told by the channels that stand now.
                    let (untold, _) = std::mem::replace(&mut telling, next).finish().await;
                    telling.channels.resume(untold.all());
                    ticks = self::ticks(telling.every);
                }
                _ = ticks.tick() => {
                    let reading = AssertUnwindSafe(self.collector.read()).catch_unwind();
                    let Ok(readings) = reading.await else {
                        broken_down("reading");
                        continue;
                    };
                    // It writes files: a disk that hangs must not take the mail's threads with it.
                    let look = move || {
                        watch.look(&readings, now_ms(), steady_ms());
                        watch
                    };
                    watch = surviving(look, &telling.new_watch).await;
                }
            }
        }
        drop(watch);
        let (untold, later) = telling.finish().await;
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
        keep(self.board, untold).await;
    }

    /// Sets the channels to work that stand.
    fn telling(&mut self) -> Telling {
        let Told { config, channels } = self.told.borrow_and_update().clone();
        let Watcher { node, metrics } = self.watcher.clone();
        let later = self.queue.as_ref().map(|queue| Later::new(Arc::clone(queue), &config.delivery));
        let (channels, deliveries) = Channels::new(channels, &config.delivery, &metrics, later.as_ref());
        let delivering = deliveries.into_iter().collect();
        let every = Duration::from_secs(u64::from(config.every_seconds.max(1)));
        let (board, told) = (self.board.clone(), channels.clone());
        // A watch that breaks down is followed by another: that one goes on from the board.
        let new_watch =
            move || Watch::new(node.clone(), (*config).clone(), board.clone(), told.clone(), metrics.clone());
        Telling { channels, delivering, later, every, new_watch: Box::new(new_watch) }
    }
}

impl Telling {
    /// Gives what waits a moment; what is left, and where it can wait. Nobody else may hold the channels by now.
    async fn finish(self) -> (Untold, Option<Later>) {
        let Self { channels, mut delivering, later, new_watch, .. } = self;
        let untold = channels.untold().clone();
        // Closes the queues.
        drop((channels, new_watch));
        let last = async { while delivering.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST, last).await;
        delivering.shutdown().await;
        (untold, later)
    }
}

/// Puts onto the board what is on its way to channels.
async fn keep(board: Board, untold: Vec<Undelivered>) {
    let kept = tokio::task::spawn_blocking(move || board.keep_untold(untold)).await;
    if let Ok(Err(error)) = kept {
        tracing::warn!(event = event::SYSTEM, %error, "what was not told cannot be kept: it may be told twice");
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
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

/// Whether the settings of alerts, and of what is told of second verdicts, can be used.
///
/// # Errors
/// Names the setting that cannot.
pub(super) fn check(config: &Config) -> anyhow::Result<()> {
    let dependencies = egress::Registry::new(egress::Metrics::new(&Registry::new())?);
    Channel::configured(&config.alerts, &ways(config, dependencies.clone(), None)?)?;
    Tell::check((&config.alerts, &config.actions), ways(config, dependencies, None)?)?;
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
