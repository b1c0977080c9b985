//! The load that the API may start: made-up mail through a pipeline of this node that records and delivers nothing.
//!
//! Judged as mail is, but nothing outside is asked: nobody's service gets load that no mail caused. Its statistics are its
//! own (`mailweir_demo_messages_total`); those of mail do not change.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use prometheus::{IntCounterVec, Opts, Registry};
use time::OffsetDateTime;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::bench::now_ms;
use super::figures::Histogram;
use super::mail::Mails;
use super::pipeline::{bare, judge};
use crate::admin::{Demo, DemoBusy, DemoOrder, DemoState};
use crate::app::config::Config;
use crate::observe::event;
use crate::pipeline::Pipeline;
use crate::policy::Action;

/// Longest run, whatever was ordered.
const LONGEST: Duration = Duration::from_secs(60);

/// Starts and tells.
pub(in crate::app) struct DemoLoad {
    config: Arc<Config>,
    messages: IntCounterVec,
    shared: Arc<Mutex<DemoState>>,
    run: Mutex<Option<AbortHandle>>,
}

impl DemoLoad {
    /// # Errors
    /// When the name of its metric is taken.
    pub(in crate::app) fn new(config: &Config, registry: &Registry) -> anyhow::Result<Self> {
        let help =
            "Messages of demo runs, made up and delivered nowhere, by action; they are in no other metric of mail.";
        let messages = IntCounterVec::new(Opts::new("mailweir_demo_messages_total", help), &["action"])?;
        for action in [Action::Allow, Action::Tag, Action::Quarantine, Action::Reject, Action::Defer] {
            messages.with_label_values(&[action.as_str()]);
        }
        registry.register(Box::new(messages.clone()))?;
        Ok(Self { config: Arc::new(config.clone()), messages, shared: Arc::default(), run: Mutex::default() })
    }
}

impl Drop for DemoLoad {
    fn drop(&mut self) {
        if let Some(run) = self.run.lock().unwrap_or_else(PoisonError::into_inner).take() {
            run.abort();
        }
    }
}

impl Demo for DemoLoad {
    fn state(&self) -> DemoState {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn start(&self, order: DemoOrder) -> Result<DemoState, DemoBusy> {
        let mut state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if state.running {
            return Err(DemoBusy);
        }
        *state =
            DemoState { running: true, started_ms: Some(now_ms()), wanted: order.messages, ..DemoState::default() };
        let (config, shared, messages) = (Arc::clone(&self.config), Arc::clone(&self.shared), self.messages.clone());
        let run = tokio::spawn(async move {
            let error = Box::pin(load(&config, &order, &shared, &messages)).await.err();
            let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            state.running = false;
            state.error = error.map(|error| format!("{error:#}"));
            tracing::info!(
                event = event::SYSTEM,
                judged = state.judged,
                wanted = state.wanted,
                "the demo run has ended"
            );
        });
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = Some(run.abort_handle());
        tracing::info!(
            event = event::SYSTEM,
            messages = order.messages,
            at_a_time = order.at_a_time,
            "a demo run begins"
        );
        Ok(state.clone())
    }
}

async fn load(
    config: &Arc<Config>,
    order: &DemoOrder,
    shared: &Mutex<DemoState>,
    messages: &IntCounterVec,
) -> anyhow::Result<()> {
    let config = Arc::clone(config);
    let pipeline: Arc<Pipeline> = Arc::new(tokio::task::spawn_blocking(move || bare(&config, true)).await??);
    let mut mails = Mails::new(order.seed, OffsetDateTime::now_utc());
    let begun = Instant::now();
    let judging = (0..u64::from(order.messages)).take_while(|_| begun.elapsed() < LONGEST).map(|number| {
        let (pipeline, raw) = (Arc::clone(&pipeline), mails.next());
        async move { judge(&pipeline, raw, number).await }
    });
    let mut judging = futures_util::stream::iter(judging.map(tokio::spawn)).buffer_unordered(order.at_a_time as usize);
    let mut times = Histogram::default();
    while let Some(judged) = judging.next().await {
        let judged = judged?;
        let [.., all_us] = judged.stages;
        times.add(all_us);
        messages.with_label_values(&[judged.action.as_str()]).inc();
        let seconds = begun.elapsed().as_secs_f64();
        let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
        state.judged += 1;
        *state.actions.entry(judged.action.as_str().to_owned()).or_default() += 1;
        state.seconds = seconds;
        state.per_second = f64::from(state.judged) / seconds.max(0.001);
        state.p50_ms = times.quantile(0.5) / 1_000.0;
        state.p95_ms = times.quantile(0.95) / 1_000.0;
        state.max_ms = times.max() / 1_000.0;
    }
    Ok(())
}
