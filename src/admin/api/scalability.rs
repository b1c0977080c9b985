//! Workers and queue: what they do, how many there are and why, how fast it goes; and orders for more or fewer.
//!
//! Everything about workers is of this process. The queue is everybody's.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ask::{self, Asked, JsonBody};
use super::diagram::{self, Picture};
use crate::admin::front::Peer;
use crate::admin::problem::{Denied, Problem};
use crate::admin::router::Shared;
use crate::deferred::{
    Crew, Depth, JobRun, Load, Mode, Outbox, Queue, Sample, ScalingConfig, ScalingEvent, WorkerStatus,
};
use crate::enrichment::Outside;
use crate::observe::event;

/// Queue and workers of a process, for its HTTP side.
#[derive(Clone)]
pub struct Workforce {
    /// Where jobs wait.
    pub queue: Arc<dyn Queue>,
    /// Where they stay until they are done.
    pub outbox: Arc<dyn Outbox>,
    /// Who does them; none when this process does not work.
    pub crew: Option<Arc<Crew>>,
    /// Where mail comes in, for the picture: name and address.
    pub doors: Vec<(String, String)>,
}

/// Age of the oldest job from which the queue counts as late, in milliseconds.
const LATE_MS: u64 = 5 * 60 * 1_000;
/// Milliseconds of the middle span of the performance report.
const FIVE_MINUTES_MS: i64 = 5 * 60 * 1_000;
/// Change that counts as a trend, as a share.
const TREND: f64 = 0.2;

pub(super) fn workforce(shared: &Shared) -> Result<&Workforce, Problem> {
    shared.api.work.as_ref().ok_or_else(|| Problem::not_found("this process has no queue"))
}

fn crew(shared: &Shared) -> Result<&Crew, Problem> {
    let crew = workforce(shared)?.crew.as_deref();
    crew.ok_or_else(|| Problem::not_found("this process does not work (workers.enabled); ask one that does"))
}

/// The workers of this process.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScalingStatus {
    /// Workers wanted.
    target: u32,
    /// Workers at least.
    min: u32,
    /// Workers at most.
    max: u32,
    /// What the number follows: `manual`, `cpu`, `queue`, `hybrid`.
    #[schema(value_type = String)]
    mode: Mode,
    /// What was measured last: depth, age of the oldest in ms, CPU in percent, workers.
    #[schema(value_type = Option<Object>)]
    load: Option<Load>,
    /// What was in the queue then, high, medium, low: waiting, running, later, age of the oldest in ms; dead letters.
    #[schema(value_type = Option<Object>)]
    queue: Option<Depth>,
    /// Each worker: state (`idle`, `busy`, `draining`), job, utilisation.
    #[schema(value_type = Vec<Object>)]
    workers: Vec<WorkerStatus>,
    /// The last 50 changes of their number, the newest first, each with its cause.
    #[schema(value_type = Vec<Object>)]
    events: Vec<ScalingEvent>,
}

/// Workers, their load, and the last changes of their number.
#[utoipa::path(get, path = "/api/v1/scalability/scaling/status", tag = "scalability",
    responses((status = 200, body = ScalingStatus), Denied))]
pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Result<Json<ScalingStatus>, Problem> {
    let crew = crew(&shared)?;
    let config = crew.config();
    let (queue, load) = crew.measurement().unzip();
    let (target, workers, events) = (crew.target(), crew.workers(), crew.events());
    Ok(Json(ScalingStatus {
        target,
        min: config.min,
        max: config.max,
        mode: config.mode,
        load,
        queue,
        workers,
        events,
    }))
}

/// The settings by which the number of workers changes: `[workers.scaling]` of the configuration.
#[utoipa::path(get, path = "/api/v1/scalability/scaling/config", tag = "scalability",
    responses((status = 200, body = Object), Denied))]
pub(super) async fn config(State(shared): State<Arc<Shared>>) -> Result<Json<ScalingConfig>, Problem> {
    Ok(Json(crew(&shared)?.config()))
}

/// Other settings for this process, until it ends. What is left out gets its default.
#[utoipa::path(put, path = "/api/v1/scalability/scaling/config", tag = "scalability", request_body = Object,
    responses((status = 200, body = Object), Denied))]
pub(super) async fn set_config(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    JsonBody(config): JsonBody<ScalingConfig>,
) -> Result<Json<ScalingConfig>, Problem> {
    let crew = crew(&shared)?;
    crew.set_config(config).map_err(|error| Problem::bad_request(error.to_string()))?;
    tracing::info!(event = event::AUDIT, action = "scaling.config", by = %peer, "changed by HTTP");
    Ok(Json(crew.config()))
}

/// By how many.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Step {
    /// Workers more or fewer; 1 when left out.
    #[schema(minimum = 1, maximum = 1024)]
    by: u16,
}

impl Default for Step {
    fn default() -> Self {
        Self { by: 1 }
    }
}

/// What is wanted now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Target {
    /// Workers wanted, within the bounds.
    target: u32,
}

/// More workers. In modes other than `manual` the load decides again after the pause.
#[utoipa::path(post, path = "/api/v1/scalability/scale-up", tag = "scalability", request_body = Option<Step>,
    responses((status = 200, body = Target), Denied))]
pub(super) async fn scale_up(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    JsonBody(step): JsonBody<Step>,
) -> Result<Json<Target>, Problem> {
    let target = crew(&shared)?.ask(i32::from(step.by));
    tracing::info!(event = event::AUDIT, action = "scaling.up", by = %peer, target, "changed by HTTP");
    Ok(Json(Target { target }))
}

/// Fewer workers: those that go end their jobs first.
#[utoipa::path(post, path = "/api/v1/scalability/scale-down", tag = "scalability", request_body = Option<Step>,
    responses((status = 200, body = Target), Denied))]
pub(super) async fn scale_down(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    JsonBody(step): JsonBody<Step>,
) -> Result<Json<Target>, Problem> {
    let target = crew(&shared)?.ask(-i32::from(step.by));
    tracing::info!(event = event::AUDIT, action = "scaling.down", by = %peer, target, "changed by HTTP");
    Ok(Json(Target { target }))
}

/// Which rows.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct JobParams {
    /// Rows wanted, 1 to 500; 50 by default. The last 1,000 attempts are remembered.
    limit: Option<u32>,
    /// Only attempts before this one: `next` of the page before.
    before: Option<u64>,
}

/// The last attempts at jobs in this process.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobPage {
    /// Newest first: key, kind, priority, attempt, worker, times, outcome (`done`, `again`, `dead`, `back`, `lost`), error.
    #[schema(value_type = Vec<Object>)]
    items: Vec<JobRun>,
    /// Give it as `before` for the next page, which may be empty; none when this is the last.
    next: Option<u64>,
}

/// The last attempts at jobs.
#[utoipa::path(get, path = "/api/v1/scalability/jobs", tag = "scalability", params(JobParams),
    responses((status = 200, body = JobPage), Denied))]
pub(super) async fn jobs(
    State(shared): State<Arc<Shared>>,
    Asked(params): Asked<JobParams>,
) -> Result<Json<JobPage>, Problem> {
    let limit = ask::limit(params.limit)?;
    let items = crew(&shared)?.history(params.before, limit as usize);
    let next = if items.len() == limit as usize { items.last().map(|run| run.number) } else { None };
    Ok(Json(JobPage { items, next }))
}

/// What happened over a span of time.
#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct Span {
    /// Seconds that were measured; fewer than asked for when the process is young.
    seconds: f64,
    /// Attempts ended.
    attempts: u64,
    /// Of these, those that were not done.
    failed: u64,
    /// Attempts a second.
    attempts_per_second: f64,
    /// Mean time of an attempt in milliseconds; none when there were none.
    mean_ms: Option<f64>,
    /// Most jobs that waited at a time.
    depth_max: u64,
    /// Longest wait of the oldest job, in milliseconds.
    oldest_ms_max: u64,
    /// Mean of the CPU, in percent.
    cpu_percent: Option<f64>,
    /// Mean number of workers.
    workers: f64,
    /// Mean share of workers that were busy, 0 to 1.
    utilisation: f64,
}

fn span(samples: &[Sample]) -> Span {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Span::default() };
    let count = samples.len() as f64;
    let seconds = (last.at_ms - first.at_ms).max(0) as f64 / 1_000.0;
    let attempts = last.attempts.saturating_sub(first.attempts);
    let took_ms = last.took_ms.saturating_sub(first.took_ms);
    let cpu: Vec<f64> = samples.iter().filter_map(|sample| sample.load.cpu_percent).collect();
    let share = |sample: &Sample| f64::from(sample.busy) / f64::from(sample.load.workers.max(1));
    Span {
        seconds,
        attempts,
        failed: last.failed.saturating_sub(first.failed),
        attempts_per_second: if seconds > 0.0 { attempts as f64 / seconds } else { 0.0 },
        mean_ms: (attempts > 0).then(|| took_ms as f64 / attempts as f64),
        depth_max: samples.iter().map(|sample| sample.load.depth).max().unwrap_or(0),
        oldest_ms_max: samples.iter().map(|sample| sample.load.oldest_ms).max().unwrap_or(0),
        cpu_percent: (!cpu.is_empty()).then(|| cpu.iter().sum::<f64>() / cpu.len() as f64),
        workers: samples.iter().map(|sample| f64::from(sample.load.workers)).sum::<f64>() / count,
        utilisation: (samples.iter().map(share).sum::<f64>() / count).min(1.0),
    }
}

/// Which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Trend {
    /// More than a fifth above the hour.
    Rising,
    /// Between the two.
    Steady,
    /// More than a fifth below the hour.
    Falling,
}

fn trend(now: f64, before: f64) -> Trend {
    // Less than one is no trend.
    let scale = (before.abs() * TREND).max(1.0);
    match now - before {
        more if more > scale => Trend::Rising,
        less if less < -scale => Trend::Falling,
        _ => Trend::Steady,
    }
}

/// How fast it goes; measured every ten seconds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Performance {
    /// Between the last two measurements.
    current: Span,
    /// The last five minutes.
    last_5_minutes: Span,
    /// The last hour.
    last_hour: Span,
    trends: Trends,
}

/// The last five minutes beside the last hour.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Trends {
    /// Attempts a second.
    attempts_per_second: Trend,
    /// Jobs that wait.
    depth: Trend,
    /// Utilisation, in percent.
    utilisation: Trend,
}

fn measure(samples: &[Sample]) -> Performance {
    let since = samples.last().map_or(0, |last| last.at_ms - FIVE_MINUTES_MS);
    let from = samples.partition_point(|sample| sample.at_ms < since);
    let current = span(&samples[samples.len().saturating_sub(2)..]);
    let (five, hour) = (span(&samples[from..]), span(samples));
    let depth = |samples: &[Sample]| {
        samples.iter().map(|sample| sample.load.depth as f64).sum::<f64>() / samples.len().max(1) as f64
    };
    let trends = Trends {
        attempts_per_second: trend(five.attempts_per_second, hour.attempts_per_second),
        depth: trend(depth(&samples[from..]), depth(samples)),
        utilisation: trend(five.utilisation * 100.0, hour.utilisation * 100.0),
    };
    Performance { current, last_5_minutes: five, last_hour: hour, trends }
}

/// How fast it goes: now, over five minutes, over an hour, and which way.
#[utoipa::path(get, path = "/api/v1/scalability/metrics/performance", tag = "scalability",
    responses((status = 200, body = Performance), Denied))]
pub(super) async fn performance(State(shared): State<Arc<Shared>>) -> Result<Json<Performance>, Problem> {
    Ok(Json(measure(&crew(&shared)?.samples())))
}

/// The state of queue and workers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WorkHealth {
    /// `HEALTHY`, `DEGRADED` (something needs attention) or `UNHEALTHY` (the queue does not answer: jobs wait in the outbox).
    status: &'static str,
    /// What is wrong, in words; empty when nothing is.
    reasons: Vec<&'static str>,
    /// Where the queue is, without password.
    queue: String,
    /// What is in it; none when it does not answer.
    #[schema(value_type = Option<Object>)]
    depth: Option<Depth>,
    /// Workers of this process.
    workers: usize,
}

async fn examine(work: &Workforce) -> WorkHealth {
    let depth = work.queue.depth().await.ok();
    let workers = work.crew.as_ref().map_or(0, |crew| crew.workers().len());
    let mut reasons = Vec::new();
    if depth.is_some_and(|depth| depth.dead > 0) {
        reasons.push("there are dead letters (GET /api/v1/scalability/dead-letters)");
    }
    if depth.is_some_and(|depth| depth.oldest_ms() > LATE_MS) {
        reasons.push("jobs have waited for more than five minutes");
    }
    let mut status = if reasons.is_empty() { "HEALTHY" } else { "DEGRADED" };
    if depth.is_none() {
        reasons.push("the queue does not answer: jobs wait in the outbox");
        status = "UNHEALTHY";
    }
    WorkHealth { status, reasons, queue: work.queue.place(), depth, workers }
}

/// Whether queue and workers are well. 503 when the queue does not answer; mail is judged all the same.
#[utoipa::path(get, path = "/api/v1/scalability/health", tag = "scalability", responses(
    (status = 200, description = "HEALTHY or DEGRADED", body = WorkHealth),
    (status = 503, description = "UNHEALTHY", body = WorkHealth), Denied))]
pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let health = examine(workforce(&shared)?).await;
    let code = if health.depth.is_none() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    Ok((code, Json(health)).into_response())
}

/// What is asked outside, whether its breaker lets calls pass, and how it does.
fn services(shared: &Shared) -> Vec<(String, bool, String)> {
    let snapshots = shared.full_health.examination.outside().map(Outside::snapshots).unwrap_or_default();
    let words = snapshots.into_iter().map(|snapshot| {
        let state = snapshot.state.as_str();
        let share =
            snapshot.success_ratio.map_or_else(|| "idle".to_owned(), |share| format!("{:.0} % answer", share * 100.0));
        let asked = state != "open";
        let words = if state == "closed" { share } else { format!("breaker {}", state.replace('_', " ")) };
        (snapshot.name, asked, words)
    });
    words.collect()
}

/// A picture of what is connected to what, with states and rates, as it is now.
#[utoipa::path(get, path = "/api/v1/scalability/architecture/diagram", tag = "scalability",
    responses((status = 200, body = String, content_type = "image/svg+xml"), Denied))]
pub(super) async fn architecture(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let work = workforce(&shared)?;
    let (database, bodies) = shared.api.records.places();
    let health = examine(work).await;
    let samples = work.crew.as_ref().map(|crew| crew.samples()).unwrap_or_default();
    let svg = diagram::draw(&Picture {
        doors: work.doors.clone(),
        database,
        bodies,
        queue: health.queue,
        depth: health.depth,
        workers: work.crew.as_ref().map(|crew| crew.workers()),
        per_second: span(&samples[samples.len().saturating_sub(2)..]).attempts_per_second,
        dependencies: services(&shared),
    });
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], svg).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: i64, depth: u64, attempts: u64, busy: u32) -> Sample {
        let load = Load { depth, oldest_ms: depth, cpu_percent: Some(50.0), workers: 4, busy: busy.into() };
        Sample { at_ms: second * 1_000, load, busy, attempts, failed: attempts / 10, took_ms: attempts * 20 }
    }

    #[test]
    fn spans_and_trends() {
        assert_eq!(span(&[]), Span::default());
        // An hour: quiet at first, then ten attempts a second for the last five minutes.
        let samples: Vec<Sample> = (0..360)
            .map(|n| if n < 330 { sample(n * 10, 0, 0, 0) } else { sample(n * 10, 40, (n as u64 - 329) * 100, 4) })
            .collect();
        let measured = measure(&samples);
        assert_eq!((measured.current.seconds, measured.current.attempts, measured.current.failed), (10.0, 100, 10));
        assert_eq!(measured.last_5_minutes.seconds, 300.0);
        assert!((measured.last_5_minutes.attempts_per_second - 10.0).abs() < 0.01, "{measured:?}");
        assert_eq!((measured.last_hour.depth_max, measured.last_hour.mean_ms), (40, Some(20.0)));
        assert!(measured.last_hour.attempts_per_second < 1.0);
        let Trends { attempts_per_second, depth, utilisation } = measured.trends;
        assert_eq!([attempts_per_second, depth, utilisation], [Trend::Rising; 3]);
        assert_eq!(
            (trend(0.0, 10.0), trend(0.5, 0.0), trend(11.0, 10.0)),
            (Trend::Falling, Trend::Steady, Trend::Steady)
        );
    }
}
