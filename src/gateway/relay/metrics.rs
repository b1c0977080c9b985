//! What is counted about the relay.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::protocol::smtp::Violation;

/// Counters of the relay.
#[derive(Debug, Clone)]
pub struct RelayMetrics {
    pub(super) connections: IntCounter,
    pub(super) open: IntGauge,
    pub(super) refused: IntCounterVec,
    pub(super) messages: IntCounterVec,
    pub(super) recipients: IntCounterVec,
    pub(super) violations: IntCounterVec,
    pub(super) tls: IntCounterVec,
    pub(super) panics: IntCounter,
    pub(super) seconds: Histogram,
}

impl RelayMetrics {
    /// Declares the counters in the registry.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let vec = |name: &str, help: &str, label| IntCounterVec::new(Opts::new(name, help), &[label]);
        let seconds = HistogramOpts::new(
            "mailweir_relay_message_seconds",
            "Time from the last byte of a message to its answer, in seconds",
        )
        .buckets(vec![
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 4.5, 5.0, 10.0, 30.0, 100.0,
        ]);
        let metrics = Self {
            connections: IntCounter::new("mailweir_relay_connections_total", "Connections of clients")?,
            open: IntGauge::new("mailweir_relay_connections", "Connections of clients at the moment")?,
            refused: vec("mailweir_relay_refused_total", "Connections and messages refused by a limit", "limit")?,
            messages: vec("mailweir_relay_messages_total", "Messages received whole, by answer", "answer")?,
            recipients: vec(
                "mailweir_relay_recipients_total",
                "Recipients that the next hop was asked for, by what the client was told",
                "answer",
            )?,
            violations: vec("mailweir_relay_violations_total", "Breaches of the protocol, by kind", "kind")?,
            tls: vec("mailweir_relay_tls_total", "TLS handshakes of clients, by result", "result")?,
            panics: IntCounter::new("mailweir_relay_panics_total", "Panics caught while a message was judged")?,
            seconds: Histogram::with_opts(seconds)?,
        };
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.open.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.messages.clone()))?;
        registry.register(Box::new(metrics.recipients.clone()))?;
        registry.register(Box::new(metrics.violations.clone()))?;
        registry.register(Box::new(metrics.tls.clone()))?;
        registry.register(Box::new(metrics.panics.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        // Closed sets begin at zero, so that the first of each is seen as an increase.
        for limit in ["connections", "connections_per_client", "memory", "message_rate", "proxy_header"] {
            metrics.refused.with_label_values(&[limit]);
        }
        for answer in ["taken", "deferred", "refused"] {
            metrics.recipients.with_label_values(&[answer]);
        }
        for violation in Violation::ALL {
            metrics.violations.with_label_values(&[violation.as_str()]);
        }
        for result in ["ok", "failed"] {
            metrics.tls.with_label_values(&[result]);
        }
        Ok(metrics)
    }
}
