//! Metrics of the caches of services' answers.

use prometheus::{IntCounterVec, Opts, Registry};

/// Counters of the caches; declared here, with help, and nowhere else.
#[derive(Debug)]
pub struct Metrics {
    pub(super) lookups: IntCounterVec,
}

impl Metrics {
    /// Declares them at a registry.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let lookups = IntCounterVec::new(
            Opts::new(
                "mailweir_service_cache_lookups_total",
                "Look-ups in the cache of a service's answers: hit, stale (used while a new one is fetched) or miss.",
            ),
            &["cache", "outcome"],
        )?;
        registry.register(Box::new(lookups.clone()))?;
        Ok(Self { lookups })
    }
}
