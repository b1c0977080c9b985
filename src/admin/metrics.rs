//! Metrics of the HTTP side, and the text of all of them.

use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

/// Counters of the HTTP side, and the registry of the whole process.
pub(super) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    pub(super) refused: IntCounterVec,
    pub(super) connections: IntGauge,
    pub(super) connections_refused: IntCounter,
    pub(super) panics: IntCounter,
    resident: IntGauge,
}

impl Metrics {
    /// Declares them at the registry.
    pub(super) fn new(registry: Registry) -> Result<Self, prometheus::Error> {
        let seconds = HistogramOpts::new("mailweir_http_request_seconds", "Time to the head of an answer, by route.")
            .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0]);
        let requests = Opts::new("mailweir_http_requests_total", "Requests, by route and class of the status.");
        let refused = Opts::new(
            "mailweir_http_auth_failures_total",
            "Requests refused before they reached a route, by reason: missing or wrong token, or too many wrong ones.",
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
            resident: IntGauge::new("process_resident_memory_bytes", "Resident memory of the process in bytes.")?,
            registry: registry.clone(),
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.connections_refused.clone()))?;
        registry.register(Box::new(metrics.panics.clone()))?;
        registry.register(Box::new(metrics.resident.clone()))?;
        for reason in ["missing", "wrong", "too_many"] {
            metrics.refused.with_label_values(&[reason]);
        }
        let build =
            GaugeVec::new(Opts::new("mailweir_build_info", "Always 1; the labels tell the build."), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        registry.register(Box::new(build))?;
        let started = Gauge::new("process_start_time_seconds", "Start of the process in seconds since 1970.")?;
        started.set(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        registry.register(Box::new(started))?;
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
        if let Some(bytes) = resident_bytes() {
            self.resident.set(bytes);
        }
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Resident memory, as Linux tells it; `None` elsewhere.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok().map(|kib| kib * 1024)
}
