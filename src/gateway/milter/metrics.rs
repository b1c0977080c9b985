//! What the milter door counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Counters of the milter door, registered once.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Connections open now.
    pub connections: IntGauge,
    /// Connections taken.
    pub connections_total: IntCounter,
    /// Connections closed at once because `connections` was reached.
    pub connections_refused_total: IntCounter,
    /// Messages by `answer`: deliver, quarantine, discard, reject, defer.
    pub messages_total: IntCounterVec,
    /// Messages whose answer was cut down because the MTA did not offer what it needs.
    pub degraded_total: IntCounter,
    /// Messages refused by `limit`: message, header, recipients.
    pub overruns_total: IntCounterVec,
    /// Verdicts that did not come, by `kind`: timeout, panic. The sender was asked to try again.
    pub verdicts_missing_total: IntCounterVec,
    /// Connections ended by the peer's fault or the network's, by `kind`: frame_empty, frame_too_long, out_of_order, malformed,
    /// version, timeout, io.
    pub protocol_errors_total: IntCounterVec,
    /// Connections that could not be taken for want of resources.
    pub accept_errors_total: IntCounter,
}

impl Metrics {
    /// Makes the counters and registers them; an error when they are there already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(format!("mailweir_milter_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let counters = |name: &str, help: &str, label: &str| -> Result<IntCounterVec, prometheus::Error> {
            let counters = IntCounterVec::new(Opts::new(format!("mailweir_milter_{name}"), help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let connections = IntGauge::new("mailweir_milter_connections", "Connections of MTAs that are open.")?;
        registry.register(Box::new(connections.clone()))?;
        let metrics = Self {
            connections,
            connections_total: counter("connections_total", "Connections of MTAs taken.")?,
            connections_refused_total: counter(
                "connections_refused_total",
                "Connections closed at once because the limit was reached.",
            )?,
            messages_total: counters("messages_total", "Messages by the answer given to the MTA.", "answer")?,
            degraded_total: counter("degraded_total", "Answers cut down to what the MTA offered.")?,
            overruns_total: counters("overruns_total", "Messages refused for passing a limit.", "limit")?,
            verdicts_missing_total: counters(
                "verdicts_missing_total",
                "Messages deferred because no verdict came.",
                "kind",
            )?,
            protocol_errors_total: counters(
                "protocol_errors_total",
                "Connections ended by a fault of the peer or the network.",
                "kind",
            )?,
            accept_errors_total: counter(
                "accept_errors_total",
                "Connections that could not be taken for want of resources.",
            )?,
        };
        // Closed sets begin at zero, so that the first of each is seen as an increase.
        for limit in ["message", "header", "recipients"] {
            metrics.overruns_total.with_label_values(&[limit]);
        }
        for kind in ["timeout", "panic"] {
            metrics.verdicts_missing_total.with_label_values(&[kind]);
        }
        for kind in ["frame_empty", "frame_too_long", "out_of_order", "malformed", "version", "timeout", "io"] {
            metrics.protocol_errors_total.with_label_values(&[kind]);
        }
        Ok(metrics)
    }
}
