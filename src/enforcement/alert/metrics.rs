//! Metrics of alerts.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::channels::ChannelName;
use super::kind::{Kind, Severity};
use super::machine::Alert;

/// Counters and gauges of alerts; declared here, with help, and nowhere else.
#[derive(Debug, Clone)]
pub struct AlertMetrics {
    pub(super) changes: IntCounterVec,
    pub(super) deliveries: IntCounterVec,
    firing: IntGaugeVec,
}

impl AlertMetrics {
    /// Declares them at a registry.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            changes: counter(
                "mailweir_alert_changes_total",
                "Changes of alerts, by kind and by what has happened.",
                &["kind", "what"],
            )?,
            deliveries: counter(
                "mailweir_alert_deliveries_total",
                "Notices of alerts, by channel and outcome: ok, retried, queued (waits as a job), overtaken (did not hold any more), refused, given_up, dropped (the queue was full).",
                &["channel", "outcome"],
            )?,
            firing: IntGaugeVec::new(
                Opts::new("mailweir_alerts_firing", "Alerts that fire at the moment, silenced ones too, by severity."),
                &["severity"],
            )?,
        };
        registry.register(Box::new(metrics.changes.clone()))?;
        registry.register(Box::new(metrics.deliveries.clone()))?;
        registry.register(Box::new(metrics.firing.clone()))?;
        // Shown from the start, also without channels and while all is well.
        for kind in Kind::ALL {
            metrics.changes.with_label_values(&[kind.as_str(), "fired"]);
        }
        for channel in ["slack", "pagerduty", "mail", "webhook"] {
            metrics.deliveries.with_label_values(&[channel, "ok"]);
        }
        Ok(metrics)
    }

    /// Counts what came of one notice.
    pub(in crate::enforcement) fn delivered(&self, channel: ChannelName, outcome: &str) {
        self.deliveries.with_label_values(&[channel.as_str(), outcome]).inc();
    }

    pub(super) fn count<'a>(&self, alerts: impl Iterator<Item = &'a Alert>) {
        let (mut warnings, mut critical) = (0, 0);
        for alert in alerts {
            match alert.severity {
                Some(Severity::Warning) => warnings += 1,
                Some(Severity::Critical) => critical += 1,
                None => {}
            }
        }
        self.firing.with_label_values(&["warning"]).set(warnings);
        self.firing.with_label_values(&["critical"]).set(critical);
    }
}
