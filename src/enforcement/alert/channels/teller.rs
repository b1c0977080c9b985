//! What tells one channel, one notice after the other.
//!
//! A notice that it does not take waits as a job ([`Later`]). Where there is no queue, or it does not take it, the notice is given
//! to the channel until it takes it, refuses it for good, or `attempts` are used up; those behind it wait, so that an end is never
//! told before its beginning. It is given again as soon as the breaker lets somebody try, lest a channel that is well by then is
//! kept waiting; such a try is no attempt that counts before its time has come. What is over by then is not told.

use std::sync::{Arc, PoisonError};

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Channel, Given, Known, is_final, waits};
use crate::enforcement::alert::config::DeliveryConfig;
use crate::enforcement::alert::later::{Later, holds};
use crate::enforcement::alert::metrics::AlertMetrics;
use crate::enforcement::alert::notice::Notice;
use crate::enforcement::alert::untold::Untold;
use crate::observe::{self, Fault, event};

/// What tells one channel.
pub(super) struct Teller {
    pub(super) channel: Arc<Channel>,
    pub(super) config: DeliveryConfig,
    pub(super) metrics: AlertMetrics,
    pub(super) later: Option<Later>,
    pub(super) untold: Untold,
    pub(super) known: Known,
}

impl Teller {
    /// Tells what is given until nobody can give any more.
    pub(super) async fn run(self, mut notices: mpsc::Receiver<Given>) {
        while let Some((number, notice)) = notices.recv().await {
            self.tell(number, notice).await;
            number.inspect(|number| self.untold.done(*number));
        }
    }

    /// Tells one notice: until it is taken, refused, waits as a job, or is given up.
    async fn tell(&self, number: Option<u64>, mut notice: Notice) {
        let name = self.channel.name.as_str();
        let count = |outcome: &str| self.metrics.deliveries.with_label_values(&[name, outcome]).inc();
        let (mut tried, mut due) = (0, Instant::now());
        loop {
            let counts = Instant::now() >= due;
            let turn = self.channel.turn().await;
            let result = self.channel.deliver_left(&mut notice).await;
            drop(turn);
            let Err(failure) = result else { return count("ok") };
            number.inspect(|number| self.untold.left(*number, &notice));
            observe::count("enforcement", failure.category());
            let channel = name;
            if notice.lines.is_empty() {
                // That we watched a while ago helps nobody: the next one tells.
                tracing::warn!(event = event::SYSTEM, channel, %failure, "a heartbeat was not taken");
                return count("given_up");
            }
            if is_final(&failure) {
                let said = "an alert is not delivered: the channel refuses it";
                tracing::error!(event = event::SYSTEM, channel, %failure, "{said}");
                return count("refused");
            }
            tried += u32::from(counts);
            if tried >= self.config.attempts {
                tracing::error!(event = event::SYSTEM, channel, %failure, tried, "an alert is not delivered: given up");
                return count("given_up");
            }
            let wait = waits(&self.config, tried, &failure);
            if let Some(later) = &self.later
                && later.put(name, &notice, tried, wait).await
            {
                return count("queued");
            }
            if counts {
                tracing::warn!(event = event::SYSTEM, channel, %failure, tried, "an alert is not delivered yet");
                count("retried");
                due = Instant::now() + wait;
            }
            tokio::time::sleep_until(due.min(Instant::now() + self.channel.recovery)).await;
            self.keep_what_holds(&mut notice);
            if notice.lines.is_empty() {
                return count("overtaken");
            }
            number.inspect(|number| self.untold.left(*number, &notice));
        }
    }

    /// Leaves out what is over by now.
    fn keep_what_holds(&self, notice: &mut Notice) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(alerts) = known {
            notice.lines.retain(|line| holds(line, &alerts, self.channel.from));
        }
    }
}
