//! What becomes of spans that go to a collector (`otlp`, with the feature of that name); counted in every build, so that the metrics
//! are the same.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{IntCounterVec, Opts, Registry};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::config::{Config, OtlpConfig};
use super::telemetry::Levels;
use crate::egress;
use crate::observe::event;

static SPANS: LazyLock<Option<IntCounterVec>> = LazyLock::new(|| {
    let help = "Spans for the collector ([otlp]), by outcome: exported, dropped (the queue was full), failed.";
    let spans = IntCounterVec::new(Opts::new("mailweir_otlp_spans_total", help), &["outcome"]).ok()?;
    for outcome in ["exported", "dropped", "failed"] {
        spans.with_label_values(&[outcome]);
    }
    Some(spans)
});

/// Shows them.
///
/// # Errors
/// When the name is taken in the registry.
pub(super) fn register(registry: &Registry) -> Result<(), prometheus::Error> {
    SPANS.as_ref().map_or(Ok(()), |spans| registry.register(Box::new(spans.clone())))
}

#[cfg(feature = "otlp")]
pub(super) fn count(outcome: &str, spans: usize) {
    if let Some(all) = SPANS.as_ref() {
        all.with_label_values(&[outcome]).inc_by(spans as u64);
    }
}

/// The export at work.
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "nothing is exported without the feature"))]
pub(super) struct Exporting {
    task: JoinHandle<()>,
    stop: CancellationToken,
    /// Time for what is left: that of one batch.
    patience: Duration,
}

impl Exporting {
    /// Gives the collector what is there, and ends.
    pub(super) async fn finish(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(self.patience, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!(event = event::SYSTEM, "the collector did not take the last spans in time");
        }
    }
}

/// Whether these settings can be used.
///
/// # Errors
/// Names the one that cannot; that this build cannot export.
#[cfg(feature = "otlp")]
pub(super) fn check(config: &OtlpConfig) -> anyhow::Result<()> {
    if config.endpoint.is_empty() { Ok(()) } else { super::otlp::collector(config).map(drop) }
}

/// Whether these settings can be used.
///
/// # Errors
/// Names the one that cannot; that this build cannot export.
#[cfg(not(feature = "otlp"))]
pub(super) fn check(config: &OtlpConfig) -> anyhow::Result<()> {
    if !config.endpoint.is_empty() {
        anyhow::bail!("otlp.endpoint: this build does not export spans (cargo feature `otlp`)");
    }
    Ok(())
}

/// Starts the export, if one is configured.
///
/// # Errors
/// Names the setting that cannot be used; that this build cannot export.
#[cfg(feature = "otlp")]
pub(super) fn export(
    config: &Config,
    levels: &Levels,
    dependencies: &egress::Registry,
) -> anyhow::Result<Option<Exporting>> {
    let node = super::standing::host_name(config);
    let exporter = super::otlp::Exporter::new(&config.otlp, &levels.spans, dependencies, node)?;
    Ok(exporter.map(|exporter| {
        let stop = CancellationToken::new();
        let patience = Duration::from_millis(config.otlp.deadline_ms);
        Exporting { task: tokio::spawn(exporter.run(stop.clone())), stop, patience }
    }))
}

/// Starts the export, if one is configured.
///
/// # Errors
/// Names the setting that cannot be used; that this build cannot export.
#[cfg(not(feature = "otlp"))]
pub(super) fn export(
    config: &Config,
    _levels: &Levels,
    _dependencies: &egress::Registry,
) -> anyhow::Result<Option<Exporting>> {
    check(&config.otlp).map(|()| None)
}
