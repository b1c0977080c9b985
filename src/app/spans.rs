//! What becomes of spans that go to a collector (`otlp`, with the feature of that name); counted in every build, so that the metrics
//! are the same.

use std::sync::LazyLock;

use prometheus::{IntCounterVec, Opts, Registry};
use tokio::task::JoinHandle;

use super::config::Config;
use super::telemetry::Levels;
use crate::enrichment::Outside;

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

/// Starts the export, if one is configured.
///
/// # Errors
/// Names the setting that cannot be used; that this build cannot export.
#[cfg(feature = "otlp")]
pub(super) fn export(config: &Config, levels: &Levels, outside: &Outside) -> anyhow::Result<Option<JoinHandle<()>>> {
    let node = super::standing::host_name(config);
    let exporter = super::otlp::Exporter::new(&config.otlp, &levels.spans, &outside.dependencies.beside(), node)?;
    Ok(exporter.map(|exporter| tokio::spawn(exporter.run())))
}

/// Starts the export, if one is configured.
///
/// # Errors
/// Names the setting that cannot be used; that this build cannot export.
#[cfg(not(feature = "otlp"))]
pub(super) fn export(config: &Config, _levels: &Levels, _outside: &Outside) -> anyhow::Result<Option<JoinHandle<()>>> {
    if !config.otlp.endpoint.is_empty() {
        anyhow::bail!("otlp.endpoint: this build does not export spans (cargo feature `otlp`)");
    }
    Ok(None)
}
