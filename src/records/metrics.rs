//! Metrics of the stores.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

/// Counters and histograms of the stores; declared here, with help, and nowhere else.
#[derive(Debug)]
pub struct Metrics {
    pub(super) ledger_dropped: IntCounter,
    pub(super) held: IntCounterVec,
    pub(super) commit_seconds: Histogram,
    pub(super) body_seconds: Histogram,
    pub(super) expired: IntCounterVec,
}

impl Metrics {
    /// Declares them at a registry.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            ledger_dropped: IntCounter::new(
                "mailweir_ledger_rows_dropped_total",
                "Ledger rows lost because the database did not take them in time; the mail itself was answered.",
            )?,
            held: IntCounterVec::new(
                Opts::new(
                    "mailweir_quarantine_commits_total",
                    "Messages that were to be held, by outcome of the commit.",
                ),
                &["outcome"],
            )?,
            commit_seconds: Histogram::with_opts(
                HistogramOpts::new("mailweir_quarantine_commit_seconds", "Time of one commit of quarantine rows.")
                    .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]),
            )?,
            body_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "mailweir_body_store_seconds",
                    "Time to store the body of one held message, synced.",
                )
                .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]),
            )?,
            expired: IntCounterVec::new(
                Opts::new("mailweir_retention_expired_total", "Rows and bodies removed by retention, by kind."),
                &["kind"],
            )?,
        };
        registry.register(Box::new(metrics.ledger_dropped.clone()))?;
        registry.register(Box::new(metrics.held.clone()))?;
        registry.register(Box::new(metrics.commit_seconds.clone()))?;
        registry.register(Box::new(metrics.body_seconds.clone()))?;
        registry.register(Box::new(metrics.expired.clone()))?;
        Ok(metrics)
    }
}
