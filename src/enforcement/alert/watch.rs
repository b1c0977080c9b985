//! One look: readings are measured, the machine steps, what changed is told, and the board shows it.

use super::board::bounded;
use super::channels::Channels;
use super::machine::Now;
use super::measure::later_ms;
use super::metrics::AlertMetrics;
use super::order::Act;
use super::{AlertsConfig, Board, BoardState, Gauges, Kind, Machine, Node, Readings};
use crate::observe::event;

/// Looks at everything, again and again.
#[derive(Debug)]
pub struct Watch {
    node: Node,
    config: AlertsConfig,
    gauges: Gauges,
    machine: Machine,
    board: Board,
    channels: Channels,
    metrics: AlertMetrics,
    /// When the last process looked, by the clock of all and by its steady one.
    left_ms: (i64, i64),
    /// When it was last told that we watch, by the steady clock.
    beaten_ms: Option<i64>,
}

impl Watch {
    /// Goes on where the last process left off, if its board can be read.
    pub fn new(node: Node, config: AlertsConfig, board: Board, channels: Channels, metrics: AlertMetrics) -> Self {
        let known = board.state().unwrap_or_else(|error| {
            tracing::warn!(
                event = event::SYSTEM,
                %error, "what was known of alerts cannot be read: what still fires is told again"
            );
            None
        });
        let known = known.unwrap_or_default();
        let machine = Machine::new(config.clone(), known.alerts);
        let (gauges, left_ms) = (Gauges::new(&config), (known.at_ms, known.steady_ms));
        Self { node, config, gauges, machine, board, channels, metrics, left_ms, beaten_ms: None }
    }

    /// Goes on from what the last process counted, and from its clock: once, before the first look, for counters and the steady
    /// clock begin with their process.
    pub fn recalling(mut self, now_ms: i64, steady_ms: i64) -> Self {
        self.machine.shift(later_ms(self.left_ms, (now_ms, steady_ms)), steady_ms);
        match self.board.memory() {
            Ok(memory) => self.gauges.recall(memory, now_ms, steady_ms),
            Err(error) => {
                tracing::warn!(event = event::SYSTEM, %error, "what was counted for alerts cannot be read: it is counted anew");
            }
        }
        self
    }

    /// Goes on under other settings, telling others; what is known and counted stays.
    #[must_use]
    pub fn under(self, config: AlertsConfig, channels: Channels) -> Self {
        let Self { node, mut gauges, machine, board, metrics, left_ms, beaten_ms, .. } = self;
        gauges.retune(&config);
        let machine = Machine::new(config.clone(), machine.alerts().cloned().collect());
        Self { node, config, gauges, machine, board, channels, metrics, left_ms, beaten_ms }
    }

    /// Looks once; `steady_ms` is of a clock that nobody sets. Writes small files, so it may block for a moment.
    pub fn look(&mut self, readings: &Readings, now_ms: i64, steady_ms: i64) {
        let measures = self.gauges.measure(readings, steady_ms);
        let orders = self.board.orders(now_ms);
        let changes = self.machine.step(&measures, &orders, Now { ms: now_ms, steady_ms });
        for change in &changes {
            let (key, what, severity) = (&change.alert.key, change.what.as_str(), change.severity().as_str());
            tracing::warn!(event = event::SYSTEM, alert = %key, what, severity, value = change.alert.words(), "alert");
            self.metrics.changes.with_label_values(&[change.alert.kind.as_str(), what]).inc();
        }
        self.metrics.count(self.machine.alerts());
        self.channels.know(self.machine.alerts());
        self.channels.tell(&self.node, &self.config.link_url, &changes, now_ms);
        let every_ms = i64::from(self.config.webhook.heartbeat_seconds) * 1_000;
        if every_ms > 0 && self.beaten_ms.is_none_or(|beaten| steady_ms.saturating_sub(beaten) >= every_ms) {
            self.beaten_ms = Some(steady_ms);
            self.channels.beat(&self.node, now_ms);
        }
        // Seen, whether there was anything to acknowledge or not.
        for order in orders.iter().filter(|order| order.act == Act::Acknowledge) {
            if let Err(error) = self.board.remove(&order.id) {
                tracing::warn!(event = event::SYSTEM, %error, "an acknowledgement cannot be removed");
            }
        }
        let unread = |kind: &Kind| !measures.iter().any(|measure| measure.kind == *kind);
        let state = BoardState {
            node: self.node.name.clone(),
            node_id: self.node.id.clone(),
            at_ms: now_ms,
            steady_ms,
            every_seconds: self.config.every_seconds,
            alerts: self.machine.alerts().cloned().collect(),
            unread: Kind::ALL.into_iter().filter(unread).collect(),
            // With what was told, in one: whatever ends us between two looks, nothing is known as told that is nowhere.
            untold: bounded(self.channels.untold().all()),
        };
        let remembered = self.board.remember(&self.gauges.memory(now_ms, steady_ms));
        if let Err(error) = self.board.write(&state).and(remembered) {
            tracing::warn!(event = event::SYSTEM, %error, "what is known of alerts cannot be written");
        }
    }
}
