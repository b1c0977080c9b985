//! Health: `/alive`, `/ready`, `/health`. No token needed, and cheap however often they are asked.
//!
//! - `/alive`: the process turns. Always 200. A supervisor may restart on its silence.
//! - `/ready`: mail is answered. 503 only while the gateway drains. **Not** when a service is down: without the database mail
//!   still flows and only what must be held is answered 451, message by message; taking the gateway out of service would turn
//!   that into an outage for all mail. The body then says `degraded`.
//! - `/health`: for people and monitoring. UNHEALTHY (503): the database does not answer, nothing can be held. DEGRADED (200):
//!   the queue does not answer, the body store runs out of space, or the gateway drains.
//!
//! Where database and bodies are is told only to those who send the token. Everything else that can be looked at is in
//! `full_health`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{Extensions, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::front::Trusted;
use super::router::Shared;
use crate::deferred::Queue;
use crate::records::Records;

/// How long the database, and the file system of the bodies, may take to answer.
const PING: Duration = Duration::from_millis(500);
/// How long their answers serve for others who ask.
const FRESH: Duration = Duration::from_secs(1);

/// What health is told from.
pub(super) struct Health {
    records: Arc<Records>,
    queue: Option<Arc<dyn Queue>>,
    low_space_bytes: u64,
    started: Instant,
    draining: OnceLock<CancellationToken>,
    /// Held while asking, so that one asks for many.
    asked: Mutex<Asked>,
}

/// What was last asked, and when.
#[derive(Default)]
struct Asked {
    last: Option<(Instant, Vitals)>,
    /// Asks the file system. A network file system may hang for good: then one thread does, not one for each request.
    measuring: Option<JoinHandle<Option<u64>>>,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
struct Vitals {
    /// How long the database took to answer; `None`: it did not.
    database: Option<Duration>,
    /// How many jobs wait and how long that took to tell; `None`: the queue did not answer, or there is none.
    queue: Option<(u64, Duration)>,
    /// Free bytes of the body store; `None` for an object store, or when the system does not say in time.
    free_bytes: Option<u64>,
}

impl Health {
    pub(super) fn new(records: Arc<Records>, queue: Option<Arc<dyn Queue>>, low_space_bytes: u64) -> Self {
        let (started, draining, asked) = (Instant::now(), OnceLock::new(), Mutex::default());
        Self { records, queue, low_space_bytes, started, draining, asked }
    }

    /// Seconds since the start.
    pub(super) fn uptime_seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Tells what says that the gateway drains.
    pub(super) fn drains_with(&self, draining: CancellationToken) {
        // Set once: a server serves once.
        let _ = self.draining.set(draining);
    }

    pub(super) fn draining(&self) -> bool {
        self.draining.get().is_some_and(CancellationToken::is_cancelled)
    }

    async fn vitals(&self) -> Vitals {
        let mut asked = self.asked.lock().await;
        let begun = Instant::now();
        if let Some((at, vitals)) = asked.last
            && begun.saturating_duration_since(at) < FRESH
        {
            return vitals;
        }
        let database = async {
            let answered = timeout(PING, self.records.ping()).await;
            matches!(answered, Ok(Ok(()))).then(|| begun.elapsed())
        };
        let queue = async {
            let depth = timeout(PING, self.queue.as_ref()?.depth()).await.ok()?.ok()?;
            Some((depth.waiting(), begun.elapsed()))
        };
        let (database, queue, free_bytes) = tokio::join!(database, queue, self.free_bytes(&mut asked.measuring));
        let vitals = Vitals { database, queue, free_bytes };
        asked.last = Some((Instant::now(), vitals));
        vitals
    }

    async fn free_bytes(&self, measuring: &mut Option<JoinHandle<Option<u64>>>) -> Option<u64> {
        let (_, place) = self.records.places();
        if place.contains("://") {
            return None;
        }
        let free = move || {
            let stat = rustix::fs::statvfs(place.as_str()).ok()?;
            Some(stat.f_bavail.saturating_mul(stat.f_frsize))
        };
        let measured = timeout(PING, measuring.get_or_insert_with(|| tokio::task::spawn_blocking(free))).await.ok()?;
        *measuring = None;
        measured.ok().flatten()
    }
}

/// Answer of `/alive`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AliveReport {
    /// Always `alive`.
    status: &'static str,
}

/// Answer of `/ready`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReadyReport {
    /// `ready`, `degraded` (mail is answered, but what must be held is deferred) or `draining`.
    status: &'static str,
}

/// The state of the gateway in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum HealthStatus {
    /// Everything works.
    Healthy,
    /// Mail is answered, but something needs attention.
    Degraded,
    /// Mail that must be held is deferred.
    Unhealthy,
}

/// Answer of `/health`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HealthReport {
    status: HealthStatus,
    /// What is wrong, in words; empty when nothing is.
    reasons: Vec<&'static str>,
    database: DatabaseReport,
    /// None when this process has no queue.
    queue: Option<QueueReport>,
    body_store: BodyStoreReport,
    /// Whether the gateway is about to end.
    draining: bool,
    version: &'static str,
    /// Seconds since the start.
    uptime_seconds: u64,
}

/// The database.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DatabaseReport {
    reachable: bool,
    /// Milliseconds until it answered; none when it did not within 500 ms.
    latency_ms: Option<f64>,
    /// Where it is, without password; only with the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
}

/// The queue of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QueueReport {
    reachable: bool,
    /// Milliseconds until it answered; none when it did not within 500 ms.
    latency_ms: Option<f64>,
    /// Jobs that wait.
    waiting: Option<u64>,
}

/// The store of held messages' bytes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BodyStoreReport {
    /// Bytes free; none for an object store.
    free_bytes: Option<u64>,
    /// Where it is; only with the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
}

/// Whether the process turns.
#[utoipa::path(get, path = "/alive", tag = "health", security(()), responses((status = 200, body = AliveReport)))]
pub(super) async fn alive() -> Json<AliveReport> {
    Json(AliveReport { status: "alive" })
}

/// Whether mail is answered. Never false because a service is down.
#[utoipa::path(get, path = "/ready", tag = "health", security(()), responses(
    (status = 200, description = "Mail is answered", body = ReadyReport),
    (status = 503, description = "The gateway drains: send mail elsewhere", body = ReadyReport),
))]
pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let health = &shared.health;
    if health.draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(ReadyReport { status: "draining" })).into_response();
    }
    let status = if health.vitals().await.database.is_some() { "ready" } else { "degraded" };
    Json(ReadyReport { status }).into_response()
}

/// The state of the gateway and of what it keeps its records in.
#[utoipa::path(get, path = "/health", tag = "health", security(()), responses(
    (status = 200, description = "HEALTHY or DEGRADED", body = HealthReport),
    (status = 503, description = "UNHEALTHY", body = HealthReport),
))]
pub(super) async fn health(State(shared): State<Arc<Shared>>, extensions: Extensions) -> Response {
    let health = &shared.health;
    let trusted = extensions.get::<Trusted>().is_some();
    let (database_place, body_place) = health.records.places();
    let Vitals { database: latency, queue, free_bytes } = health.vitals().await;
    let draining = health.draining();
    let mut reasons = Vec::new();
    let mut status = HealthStatus::Healthy;
    if draining {
        reasons.push("the gateway drains");
        status = HealthStatus::Degraded;
    }
    if free_bytes.is_some_and(|free| free < health.low_space_bytes) {
        reasons.push("the body store runs out of space (http.low_space_bytes)");
        status = HealthStatus::Degraded;
    }
    if health.queue.is_some() && queue.is_none() {
        reasons.push("the queue does not answer: work after the reply waits");
        status = HealthStatus::Degraded;
    }
    if latency.is_none() {
        reasons.push("the database does not answer: mail that must be held is deferred");
        status = HealthStatus::Unhealthy;
    }
    let report = HealthReport {
        status,
        reasons,
        database: DatabaseReport {
            reachable: latency.is_some(),
            latency_ms: latency.map(millis),
            place: trusted.then_some(database_place),
        },
        queue: health.queue.as_ref().map(|_| QueueReport {
            reachable: queue.is_some(),
            latency_ms: queue.map(|(_, took)| millis(took)),
            waiting: queue.map(|(waiting, _)| waiting),
        }),
        body_store: BodyStoreReport { free_bytes, place: trusted.then_some(body_place) },
        draining,
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: health.uptime_seconds(),
    };
    let code = if status == HealthStatus::Unhealthy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(report)).into_response()
}

fn millis(took: Duration) -> f64 {
    took.as_micros() as f64 / 1_000.0
}
