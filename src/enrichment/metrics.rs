//! Metrics of the caches of services' answers.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

/// Counters of the caches; declared here, with help, and nowhere else.
#[derive(Debug)]
pub struct Metrics {
    pub(super) lookups: IntCounterVec,
    pub(super) shared: IntCounterVec,
    pub(super) entries: IntGaugeVec,
    pub(super) forgotten: IntCounterVec,
}

impl Metrics {
    /// Declares them at a registry.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            lookups: counter(
                "mailweir_service_cache_lookups_total",
                "Look-ups in the cache of a service's answers: hit, stale (used while a new one is fetched) or miss.",
                &["cache", "outcome"],
            )?,
            shared: counter(
                "mailweir_shared_cache_lookups_total",
                "Look-ups in the cache that gateways share, after a miss in memory: hit, miss, failed or unreadable.",
                &["cache", "outcome"],
            )?,
            entries: IntGaugeVec::new(
                Opts::new("mailweir_service_cache_entries", "Answers of a service in memory."),
                &["cache"],
            )?,
            forgotten: counter(
                "mailweir_service_cache_forgotten_total",
                "Orders to forget answers before their time: tags, everything, or elsewhere (learnt from the shared cache).",
                &["what"],
            )?,
        };
        registry.register(Box::new(metrics.lookups.clone()))?;
        registry.register(Box::new(metrics.shared.clone()))?;
        registry.register(Box::new(metrics.entries.clone()))?;
        registry.register(Box::new(metrics.forgotten.clone()))?;
        for what in ["tags", "everything", "elsewhere"] {
            metrics.forgotten.with_label_values(&[what]);
        }
        Ok(metrics)
    }
}
