//! `/health/full`: everything that was looked at, and how it was before. `/health/metrics`: breakers, limiters, caches and
//! errors as JSON. Both need the token: they tell places and names.
//!
//! Everything is looked at every `http.snapshot_seconds`, and when somebody asks; the last look serves for a second.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};
use utoipa::ToSchema;

use super::examination::{Check, Examination};
use super::health::HealthStatus;
use super::metrics::Metrics;
use super::problem::Denied;
use super::router::Shared;
use super::summary::now_ms;

/// How long a look serves for others who ask.
const FRESH: Duration = Duration::from_secs(1);
/// Looks that are remembered.
const HISTORY: usize = 100;

/// Looks, and remembers what was seen.
pub(super) struct FullHealth {
    pub(super) examination: Examination,
    metrics: Arc<Metrics>,
    every: Duration,
    /// Held while looking, so that one looks for many.
    looked: Mutex<Looked>,
}

#[derive(Default)]
struct Looked {
    last: Option<(Instant, Vec<Check>)>,
    /// The newest last.
    history: VecDeque<Past>,
}

/// How it was.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Past {
    /// When, milliseconds since 1970.
    at_ms: i64,
    status: HealthStatus,
    /// Which parts were not well.
    parts: Vec<String>,
}

impl FullHealth {
    pub(super) fn new(examination: Examination, metrics: Arc<Metrics>, every_seconds: u64) -> Self {
        Self { examination, metrics, every: Duration::from_secs(every_seconds), looked: Mutex::default() }
    }

    /// Looks for ever.
    pub(super) async fn run(&self) {
        let mut every = interval(self.every);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            self.look().await;
        }
    }

    /// What was found, and how it was before, the newest first.
    async fn look(&self) -> (Vec<Check>, Vec<Past>) {
        let mut looked = self.looked.lock().await;
        let checks = match &looked.last {
            Some((at, checks)) if at.elapsed() < FRESH => checks.clone(),
            _ => {
                let checks = self.examination.look().await;
                let status = worst(&checks);
                self.metrics.health.set(status as i64);
                let parts = checks.iter().filter(|check| check.status != HealthStatus::Healthy);
                let parts = parts.map(|check| check.name.clone()).collect();
                looked.history.push_back(Past { at_ms: now_ms(), status, parts });
                let surplus = looked.history.len().saturating_sub(HISTORY);
                looked.history.drain(..surplus);
                looked.last = Some((Instant::now(), checks.clone()));
                checks
            }
        };
        (checks, looked.history.iter().rev().cloned().collect())
    }
}

fn worst(checks: &[Check]) -> HealthStatus {
    checks.iter().map(|check| check.status).max().unwrap_or(HealthStatus::Healthy)
}

/// Answer of `/health/full`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FullHealthReport {
    /// UNHEALTHY when something critical is, DEGRADED when anything is not well.
    status: HealthStatus,
    /// What is wrong, in words; empty when nothing is.
    reasons: Vec<String>,
    /// Every part that was looked at.
    checks: Vec<Check>,
    /// The last 100 looks, the newest first.
    history: Vec<Past>,
    /// Whether the gateway is about to end.
    draining: bool,
    version: &'static str,
    /// Seconds since the start.
    uptime_seconds: u64,
}

/// Everything that can be looked at: each part within `http.health_check_ms`, all at once.
#[utoipa::path(get, path = "/health/full", tag = "health", responses(
    (status = 200, description = "HEALTHY or DEGRADED", body = FullHealthReport),
    (status = 503, description = "UNHEALTHY", body = FullHealthReport),
    Denied,
))]
pub(super) async fn full(State(shared): State<Arc<Shared>>) -> Response {
    let (checks, history) = shared.full_health.look().await;
    let draining = shared.health.draining();
    let mut status = worst(&checks);
    let told = |check: &Check| check.problem.as_ref().map(|problem| format!("{}: {problem}", check.name));
    let mut reasons: Vec<String> = checks.iter().filter_map(told).collect();
    if draining {
        status = status.max(HealthStatus::Degraded);
        reasons.push("the gateway drains".into());
    }
    let (version, uptime_seconds) = (env!("CARGO_PKG_VERSION"), shared.health.uptime_seconds());
    let report = FullHealthReport { status, reasons, checks, history, draining, version, uptime_seconds };
    let code = if status == HealthStatus::Unhealthy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(report)).into_response()
}

/// Numbers by name, by another name.
type Table = BTreeMap<String, BTreeMap<String, f64>>;

/// Answer of `/health/metrics`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HealthMetrics {
    /// Each service, channel of alerts, collector: breaker (`state`, `since_seconds`, `opened`, `success_ratio`, `recent_…`), limiter (`rate_ratio`,
    /// `refused`, `in_flight`), last failure.
    #[schema(value_type = Vec<Object>)]
    dependencies: Vec<serde_json::Value>,
    /// Look-ups of each cache: `hit`, `stale`, `miss`.
    caches: Table,
    /// Calls of each service by outcome.
    calls: Table,
    /// What messages were judged without, by why.
    degraded: Table,
    /// Calls to the database that failed, by operation.
    database_errors: BTreeMap<String, f64>,
    /// Calls to the queue that failed, by attempt.
    queue_errors: BTreeMap<String, f64>,
    /// Answers of the HTTP side by class of the status.
    http_answers: BTreeMap<String, f64>,
    /// Breaches of the protocol by clients of the relay and by MTAs, by kind.
    protocol_errors: BTreeMap<String, f64>,
    /// Failures of all kinds: by room, by category.
    errors: Table,
}

/// Breakers, limiters, caches and errors.
#[utoipa::path(get, path = "/health/metrics", tag = "health", responses(
    (status = 200, body = HealthMetrics), Denied))]
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Json<HealthMetrics> {
    let numbers = shared.metrics.numbers();
    let mut protocol_errors = numbers.by("mailweir_relay_violations_total", "kind");
    for (kind, count) in numbers.by("mailweir_milter_protocol_errors_total", "kind") {
        *protocol_errors.entry(kind).or_insert(0.0) += count;
    }
    Json(HealthMetrics {
        dependencies: shared.full_health.examination.called(),
        caches: numbers.table("mailweir_service_cache_lookups_total", "cache", "outcome"),
        calls: numbers.table("mailweir_dependency_calls_total", "dependency", "outcome"),
        degraded: numbers.table("mailweir_degraded_total", "what", "why"),
        database_errors: numbers.by("mailweir_database_errors_total", "operation"),
        queue_errors: numbers.by("mailweir_queue_failures_total", "attempt"),
        http_answers: numbers.by("mailweir_http_requests_total", "class"),
        protocol_errors,
        errors: numbers.table("mailweir_errors_total", "room", "category"),
    })
}
