//! What is counted about the next hops.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

/// Counters of all next hops.
#[derive(Debug, Clone)]
pub struct NextHopMetrics {
    pub(super) connections: IntCounterVec,
    pub(super) reused: IntCounter,
    pub(super) retried: IntCounter,
    pub(super) results: IntCounterVec,
    pub(super) up: IntGaugeVec,
}

impl NextHopMetrics {
    /// Declares the counters in the registry.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            connections: IntCounterVec::new(
                Opts::new("mailweir_next_hop_connections_total", "Connections to next hops, by hop and result"),
                &["hop", "result"],
            )?,
            reused: IntCounter::new("mailweir_next_hop_reused_total", "Transactions over an idle connection")?,
            retried: IntCounter::new(
                "mailweir_next_hop_retried_total",
                "Transactions begun again because a connection was found dead before any content was sent",
            )?,
            results: IntCounterVec::new(
                Opts::new("mailweir_next_hop_results_total", "Final answers of next hops, by hop and result"),
                &["hop", "result"],
            )?,
            up: IntGaugeVec::new(
                Opts::new(
                    "mailweir_next_hop_up",
                    "0 when the last connection to a next hop that mail needs did not come about, else 1",
                ),
                &["hop"],
            )?,
        };
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.reused.clone()))?;
        registry.register(Box::new(metrics.retried.clone()))?;
        registry.register(Box::new(metrics.results.clone()))?;
        registry.register(Box::new(metrics.up.clone()))?;
        Ok(metrics)
    }
}
