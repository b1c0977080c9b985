//! Notices that a channel did not take wait as jobs: they outlive the process, and keep nobody behind them waiting.
//!
//! So they may be overtaken by what was told since. What is told late is therefore only what still holds: a trouble that has
//! ended meanwhile is not told as one, and an end is not told of what has begun again (the board of this node says; of other
//! nodes' notices nothing is known and they are told as they are). Each try is a job of its own, with the waits and tries of
//! `alerts.delivery`; one that is given up becomes a dead letter.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::channels::{Channel, is_final, waits};
use super::metrics::AlertMetrics;
use super::untold::{Undelivered, Untold};
use super::{Alert, Board, DeliveryConfig, Kind, Line, Notice, Severity, What};
use crate::deferred::{self, Handler, Job, Placed, Priority, Queue};
use crate::egress::Failure;
use crate::observe::{self, Category, Fault, event};

/// Kind of the jobs.
pub const DELIVER_ALERT: &str = "alert_delivery";

/// A notice that waits.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    channel: String,
    /// How often it was given to the channel.
    tried: u32,
    notice: Notice,
}

/// Puts notices into the job queue.
#[derive(Clone)]
pub struct Later {
    queue: Arc<dyn Queue>,
    config: DeliveryConfig,
}

impl Later {
    /// Into this queue.
    pub fn new(queue: Arc<dyn Queue>, config: &DeliveryConfig) -> Self {
        Self { queue, config: config.clone() }
    }

    /// Lets all wait that are on their way to channels: for when the process ends. What the queue does not take stays.
    pub async fn put_all(&self, untold: &Untold) {
        for (number, Undelivered { channel, notice }) in untold.numbered() {
            if self.put(channel.as_str(), &notice, 0, Duration::ZERO).await {
                untold.done(number);
            }
        }
    }

    /// Lets a notice wait that a channel did not take for the first time; whether it is safe in the queue.
    pub(in crate::enforcement) async fn wait(&self, channel: &Channel, notice: &Notice, failure: &Failure) -> bool {
        self.put(channel.name().as_str(), notice, 1, waits(&self.config, 1, failure)).await
    }

    /// Lets a notice wait that was tried so often; whether it is safe in the queue.
    pub(super) async fn put(&self, channel: &str, notice: &Notice, tried: u32, wait: Duration) -> bool {
        let waiting = Waiting { channel: channel.to_owned(), tried, notice: notice.clone() };
        let Ok(payload) = serde_json::to_vec(&waiting) else { return false };
        // The end of it tells most.
        let id: String = notice.id().chars().rev().filter(char::is_ascii).take(120).collect();
        let id: String = id.chars().rev().collect();
        let now = now_ms();
        let job = Job {
            priority: Priority::High,
            not_before_ms: now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)),
            ..Job::new(DELIVER_ALERT, format!("alert:{channel}:{id}:{tried}"), payload, now)
        };
        match self.queue.enqueue(&[job]).await {
            Ok(placed) => placed.iter().all(|one| matches!(one, Placed::Queued | Placed::Duplicate)),
            Err(error) => {
                tracing::warn!(event = event::SYSTEM, channel, %error, "an alert cannot wait in the job queue");
                false
            }
        }
    }
}

/// Gives waiting notices to their channels: handler of [`DELIVER_ALERT`].
pub struct AlertJobs {
    channels: Vec<Arc<Channel>>,
    later: Later,
    /// Which gateway we are: [`super::Node::id`].
    node_id: String,
    board: Board,
    metrics: AlertMetrics,
}

impl AlertJobs {
    /// To these channels; `board` tells what still holds of what `node_id` told.
    pub fn new(
        channels: Vec<Arc<Channel>>,
        later: Later,
        (node_id, board): (String, Board),
        metrics: AlertMetrics,
    ) -> Self {
        Self { channels, later, node_id, board, metrics }
    }

    async fn deliver(&self, job: &Job) -> Result<(), deferred::Failure> {
        let waiting: Waiting =
            serde_json::from_slice(&job.payload).map_err(|error| deferred::Failure::never(error.to_string()))?;
        let Waiting { channel: name, tried, mut notice } = waiting;
        let channel = self.channels.iter().find(|one| one.name().as_str() == name);
        let channel = channel.ok_or_else(|| {
            let error = format!("no channel `{name}` is configured any more");
            deferred::Failure::never(error).because(Category::Configuration)
        })?;
        let count = |outcome: &str| self.metrics.deliveries.with_label_values(&[&name, outcome]).inc();
        let turn = channel.turn().await;
        if notice.node_id == self.node_id
            && let Some(alerts) = self.known().await
        {
            notice.lines.retain(|line| holds(line, &alerts, channel.from()));
        }
        if notice.lines.is_empty() {
            count("overtaken");
            return Ok(());
        }
        let result = channel.deliver_left(&mut notice).await;
        drop(turn);
        let Err(failure) = result else {
            count("ok");
            return Ok(());
        };
        let category = failure.category();
        observe::count("enforcement", category);
        if is_final(&failure) {
            count("refused");
            return Err(deferred::Failure::never(failure.to_string()).because(category));
        }
        if tried.saturating_add(1) >= self.later.config.attempts {
            count("given_up");
            return Err(deferred::Failure::never(failure.to_string()).because(category));
        }
        count("retried");
        let tried = tried.saturating_add(1);
        if self.later.put(&name, &notice, tried, waits(&self.later.config, tried, &failure)).await {
            Ok(())
        } else {
            Err(deferred::Failure::again(failure.to_string()).because(category))
        }
    }

    /// What this node knows of alerts; `None` when that cannot be told.
    async fn known(&self) -> Option<Vec<Alert>> {
        let board = self.board.clone();
        let state = tokio::task::spawn_blocking(move || board.state()).await.ok()?.ok()??;
        Some(state.alerts)
    }
}

impl Handler for AlertJobs {
    fn run<'a>(&'a self, job: &'a Job, _soon: CancellationToken) -> BoxFuture<'a, Result<(), deferred::Failure>> {
        self.deliver(job).boxed()
    }
}

/// Whether a line still holds for somebody who is told from this severity on. What is no alert of the gateway's own, such as a
/// second verdict, is on no board and always does.
pub(super) fn holds(line: &Line, alerts: &[Alert], from: Severity) -> bool {
    if Kind::parse(&line.kind).is_none() {
        return true;
    }
    let alert = alerts.iter().find(|alert| line.is_about(alert));
    let fires = alert.and_then(|alert| alert.severity).filter(|severity| *severity >= from);
    match line.what {
        What::Resolved => fires.is_none(),
        _ => fires == Some(line.severity) && alert.is_some_and(|alert| alert.since_ms == line.since_ms),
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_no_board_holds_and_what_is_over_does_not() {
        let line = Notice::test("gw", "", What::Fired, 0).lines.remove(0);
        let of = |kind: &'static str| Line { kind: kind.into(), key: kind.into(), ..line.clone() };
        assert!(holds(&of(super::super::SECOND_VERDICT), &[], Severity::Warning));
        assert!(!holds(&of("disk"), &[], Severity::Warning));
        assert!(holds(&Line { what: What::Resolved, ..of("disk") }, &[], Severity::Warning));
    }
}
