//! The metrics in short, for people: `/metrics/summary`, and how it was before: `/metrics/snapshots`.
//!
//! One summary every `http.snapshot_seconds`, the last `http.snapshots` kept; with `http.metrics_file` they are written as JSON
//! every `http.metrics_file_seconds`, whole or not at all. A restart begins anew.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval};
use utoipa::{IntoParams, ToSchema};

use super::Config;
use super::api::Asked;
use super::metrics::Metrics;
use super::numbers::Numbers;
use super::problem::Denied;
use super::router::Shared;
use crate::observe::event;

/// What is summed up: section, word, metric, and how.
const ROWS: &[(&str, &str, &str, How)] = &[
    ("mail", "messages", "mailweir_messages_total", How::Sum),
    ("mail", "by_action", "mailweir_messages_total", How::By("action")),
    ("mail", "by_door", "mailweir_messages_total", How::By("door")),
    ("mail", "verdicts_by_tenant", "mailweir_verdicts_total", How::By("tenant")),
    ("mail", "degraded", "mailweir_degraded_total", How::Sum),
    ("mail", "in_flight", "mailweir_inspections_in_flight", How::Sum),
    ("mail", "risk", "mailweir_risk", How::Spread),
    ("mail", "size_bytes", "mailweir_message_size_bytes", How::Spread),
    ("mail", "links", "mailweir_message_links", How::Counts),
    ("mail", "stage_seconds", "mailweir_stage_seconds", How::SpreadBy("stage")),
    ("rules", "loaded", "mailweir_rules_loaded", How::By("mode")),
    ("rules", "matches", "mailweir_rule_matches_total", How::By("mode")),
    ("rules", "undecided", "mailweir_rules_undecided_total", How::Sum),
    ("services", "calls", "mailweir_dependency_calls_total", How::By("outcome")),
    ("services", "seconds", "mailweir_dependency_call_seconds", How::SpreadBy("dependency")),
    ("services", "success_ratio", "mailweir_dependency_success_ratio", How::By("dependency")),
    ("services", "breaker_opened", "mailweir_dependency_breaker_opened_total", How::By("dependency")),
    ("services", "cache_lookups", "mailweir_service_cache_lookups_total", How::By("outcome")),
    ("queue", "jobs", "mailweir_queue_jobs", How::By("state")),
    ("queue", "oldest_seconds", "mailweir_queue_oldest_seconds", How::By("priority")),
    ("queue", "dead_letters", "mailweir_queue_dead_letters", How::Sum),
    ("queue", "attempts", "mailweir_jobs_total", How::By("outcome")),
    ("queue", "workers", "mailweir_workers", How::By("state")),
    ("database", "seconds", "mailweir_database_seconds", How::Spread),
    ("database", "errors", "mailweir_database_errors_total", How::Sum),
    ("database", "connections", "mailweir_database_connections", How::By("state")),
    ("database", "ledger_rows_dropped", "mailweir_ledger_rows_dropped_total", How::Sum),
    ("database", "quarantine_commits", "mailweir_quarantine_commits_total", How::By("outcome")),
    ("http", "requests", "mailweir_http_requests_total", How::By("class")),
    ("http", "seconds", "mailweir_http_request_seconds", How::Spread),
    ("security", "authentication_failures", "mailweir_http_auth_failures_total", How::By("reason")),
    ("security", "relay_refused", "mailweir_relay_refused_total", How::By("limit")),
    ("security", "relay_violations", "mailweir_relay_violations_total", How::By("kind")),
    ("security", "milter_protocol_errors", "mailweir_milter_protocol_errors_total", How::By("kind")),
    ("process", "cpu_seconds", "process_cpu_seconds_total", How::Sum),
    ("process", "resident_bytes", "process_resident_memory_bytes", How::Sum),
    ("process", "open_files", "process_open_fds", How::Sum),
    ("process", "panics", "mailweir_panics_total", How::Sum),
];

/// How a metric is summed up.
#[derive(Debug, Clone, Copy)]
enum How {
    /// Over all labels.
    Sum,
    /// By the values of a label.
    By(&'static str),
    /// Count, mean and quantiles.
    Spread,
    /// The same of whole numbers.
    Counts,
    /// The same by the values of a label.
    SpreadBy(&'static str),
}

/// The metrics in short.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Summary {
    /// When, milliseconds since 1970.
    at_ms: i64,
    /// Section, then word, then number; counters count from the start of the process.
    sections: BTreeMap<&'static str, BTreeMap<String, f64>>,
}

impl Summary {
    pub(super) fn new(numbers: &Numbers) -> Self {
        let mut sections: BTreeMap<&'static str, BTreeMap<String, f64>> = BTreeMap::new();
        for (section, word, metric, how) in ROWS {
            let section = sections.entry(section).or_default();
            match how {
                How::Sum => drop(section.insert((*word).to_owned(), numbers.sum(metric))),
                How::By(label) => {
                    let sums = numbers.by(metric, label);
                    section.extend(sums.into_iter().map(|(value, sum)| (format!("{word}.{value}"), sum)));
                }
                How::Spread | How::Counts | How::SpreadBy(_) => {
                    let label = if let How::SpreadBy(label) = how { label } else { "" };
                    for (value, spread) in numbers.spreads(metric, label) {
                        let name = if value.is_empty() { (*word).to_owned() } else { format!("{word}.{value}") };
                        let whole = matches!(how, How::Counts);
                        let quantile = |share| if whole { spread.bound(share) } else { spread.quantile(share) };
                        let figures = [("mean", spread.mean()), ("p50", quantile(0.5)), ("p95", quantile(0.95))];
                        section.insert(format!("{name}.count"), spread.count as f64);
                        let known = figures.into_iter().filter_map(|(figure, number)| Some((figure, number?)));
                        section.extend(known.map(|(figure, number)| (format!("{name}.{figure}"), number)));
                    }
                }
            }
        }
        Self { at_ms: now_ms(), sections }
    }

    /// For a terminal.
    fn text(&self) -> String {
        let mut text = String::new();
        for (section, numbers) in &self.sections {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{section}");
            let width = numbers.keys().map(String::len).max().unwrap_or(0);
            for (word, number) in numbers {
                let number = if number.fract() == 0.0 { format!("{number:.0}") } else { format!("{number:.6}") };
                let _ = writeln!(text, "  {word:width$}  {number}");
            }
        }
        text
    }
}

/// The last summaries, the newest last.
pub(super) struct Snapshots {
    metrics: Arc<Metrics>,
    kept: Mutex<VecDeque<Summary>>,
    most: usize,
    every: Duration,
    file: Option<PathBuf>,
    file_every: Duration,
}

impl Snapshots {
    pub(super) fn new(config: &Config, metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            kept: Mutex::default(),
            most: config.snapshots,
            every: Duration::from_secs(config.snapshot_seconds),
            file: config.metrics_file.clone(),
            file_every: Duration::from_secs(config.metrics_file_seconds),
        }
    }

    /// Sums up for ever.
    pub(super) async fn run(&self) {
        let mut every = interval(self.every);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut written: Option<Instant> = None;
        loop {
            every.tick().await;
            let summary = Summary::new(&self.metrics.numbers());
            {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_back(summary);
                let surplus = kept.len().saturating_sub(self.most);
                kept.drain(..surplus);
            }
            if let Some(file) =
                self.file.as_deref().filter(|_| written.is_none_or(|at| at.elapsed() >= self.file_every))
            {
                written = Some(Instant::now());
                self.export(file).await;
            }
        }
    }

    async fn export(&self, file: &Path) {
        let (file, summaries) = (file.to_owned(), SnapshotsReport { items: self.newest() });
        let write = move || {
            let json = serde_json::to_vec_pretty(&summaries)?;
            let aside = file.with_extension("new");
            std::fs::write(&aside, json)?;
            std::fs::rename(&aside, &file)
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(event = event::SYSTEM, %error, "http.metrics_file could not be written"),
            Err(error) => tracing::warn!(event = event::SYSTEM, %error, "http.metrics_file could not be written"),
        }
    }

    fn newest(&self) -> Vec<Summary> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// As what.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SummaryQuery {
    /// `json` or `text`; left out: `text` when `Accept` begins with `text/plain`, else `json`.
    #[param(inline)]
    format: Option<Format>,
}

/// As what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    Json,
    Text,
}

/// The metrics in short, as JSON or text.
#[utoipa::path(get, path = "/metrics/summary", tag = "service", params(SummaryQuery), responses(
    (status = 200, body = Summary), Denied))]
pub(super) async fn summary(
    State(shared): State<Arc<Shared>>,
    Asked(query): Asked<SummaryQuery>,
    headers: HeaderMap,
) -> Response {
    let summary = Summary::new(&shared.metrics.numbers());
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let text = query.format.map_or(accepts.starts_with("text/plain"), |format| format == Format::Text);
    if text {
        return ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], summary.text()).into_response();
    }
    Json(summary).into_response()
}

/// How it was before.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SnapshotsReport {
    /// The newest first.
    items: Vec<Summary>,
}

/// The last summaries, one every `http.snapshot_seconds`.
#[utoipa::path(get, path = "/metrics/snapshots", tag = "service", responses(
    (status = 200, body = SnapshotsReport), Denied))]
pub(super) async fn snapshots(State(shared): State<Arc<Shared>>) -> Json<SnapshotsReport> {
    Json(SnapshotsReport { items: shared.snapshots.newest() })
}
