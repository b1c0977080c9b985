//! Metrics of the HTTP side, and the text of all of them.

use std::time::Duration;

use axum::http::StatusCode;
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::access::Refusal;
use super::numbers::Numbers;
use super::process::Process;

/// Counters of the HTTP side, and the registry of the whole process.
pub(super) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    pub(super) refused: IntCounterVec,
    pub(super) connections: IntGauge,
    pub(super) connections_refused: IntCounter,
    pub(super) panics: IntCounter,
    /// 0 healthy, 1 degraded, 2 unhealthy: of the whole, and of each check.
    pub(super) health: IntGauge,
    pub(super) checks: IntGaugeVec,
    pub(super) check_seconds: GaugeVec,
    pub(super) free_bytes: IntGaugeVec,
    pub(super) free_ratio: GaugeVec,
    pub(super) certificates: IntGaugeVec,
    pub(super) feeds: GaugeVec,
}

impl Metrics {
    /// Declares them at the registry.
    pub(super) fn new(registry: Registry) -> Result<Self, prometheus::Error> {
        let seconds = HistogramOpts::new("mailweir_http_request_seconds", "Time to the head of an answer, by route.")
            .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0]);
        let requests = Opts::new("mailweir_http_requests_total", "Requests, by route and class of the status.");
        let refused = Opts::new(
            "mailweir_http_auth_failures_total",
            "Requests refused before they reached a route, by reason: missing or wrong token, too many wrong ones; a \
             signature that is stale, replayed or not good; a role that is too small.",
        );
        let metrics = Self {
            requests: IntCounterVec::new(requests, &["route", "class"])?,
            seconds: HistogramVec::new(seconds, &["route"])?,
            refused: IntCounterVec::new(refused, &["reason"])?,
            connections: IntGauge::new("mailweir_http_connections", "Connections of HTTP clients at the moment.")?,
            connections_refused: IntCounter::new(
                "mailweir_http_connections_refused_total",
                "Connections closed at once because `http.connections` were open.",
            )?,
            panics: IntCounter::new("mailweir_http_panics_total", "Panics caught while a request was answered.")?,
            health: IntGauge::new("mailweir_health", "State at the last look: 0 healthy, 1 degraded, 2 unhealthy.")?,
            checks: IntGaugeVec::new(
                Opts::new(
                    "mailweir_health_check",
                    "State of one part at the last look: 0 healthy, 1 degraded, 2 unhealthy.",
                ),
                &["check"],
            )?,
            check_seconds: GaugeVec::new(
                Opts::new("mailweir_health_check_seconds", "How long the last look at one part took."),
                &["check"],
            )?,
            free_bytes: IntGaugeVec::new(
                Opts::new("mailweir_disk_free_bytes", "Free space at the last look, by what is kept there."),
                &["place"],
            )?,
            free_ratio: GaugeVec::new(
                Opts::new(
                    "mailweir_disk_free_ratio",
                    "Share of space that is free at the last look, or of inodes where that is smaller, by what is kept there.",
                ),
                &["place"],
            )?,
            certificates: IntGaugeVec::new(
                Opts::new(
                    "mailweir_tls_certificate_expiry_timestamp_seconds",
                    "When a certificate that we show ends, in seconds since 1970.",
                ),
                &["certificate"],
            )?,
            feeds: GaugeVec::new(
                Opts::new("mailweir_rule_feed_age_seconds", "Age of the newest file of a feed of rules."),
                &["feed"],
            )?,
            registry: registry.clone(),
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.connections_refused.clone()))?;
        registry.register(Box::new(metrics.panics.clone()))?;
        registry.register(Box::new(metrics.health.clone()))?;
        registry.register(Box::new(metrics.checks.clone()))?;
        registry.register(Box::new(metrics.check_seconds.clone()))?;
        registry.register(Box::new(metrics.free_bytes.clone()))?;
        registry.register(Box::new(metrics.free_ratio.clone()))?;
        registry.register(Box::new(metrics.certificates.clone()))?;
        registry.register(Box::new(metrics.feeds.clone()))?;
        for reason in Refusal::WORDS {
            metrics.refused.with_label_values(&[reason]);
        }
        let build =
            GaugeVec::new(Opts::new("mailweir_build_info", "Always 1; the labels tell the build."), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        registry.register(Box::new(build))?;
        registry.register(Box::new(Process::new()?))?;
        Ok(metrics)
    }

    /// Counts one answered request. Routes are templates, so that labels stay few.
    pub(super) fn answered(&self, route: &str, status: StatusCode, took: Duration) {
        let class = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[route, class]).inc();
        self.seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    /// All metrics of the process in Prometheus' text format 0.0.4.
    pub(super) fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// All metrics of the process, to be read by name.
    pub(super) fn numbers(&self) -> Numbers {
        Numbers::new(self.registry.gather())
    }
}
