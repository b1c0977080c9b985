//! Health: `/alive`, `/ready`, `/health`. No token needed, and cheap however often they are asked.
//!
//! - `/alive`: the process turns. Always 200. A supervisor may restart on its silence.
//! - `/ready`: mail is answered. 503 only while the gateway drains. **Not** when a service is down: without the database mail
//!   still flows and only what must be held is answered 451, message by message; taking the gateway out of service would turn
//!   that into an outage for all mail. The body then says `degraded`.
//! - `/health`: for people and monitoring. UNHEALTHY (503): the database does not answer or takes no writes, nothing can be held;
//!   or no next hop of the relay can be reached, nothing can be passed on. DEGRADED (200): one of several next hops cannot be
//!   reached, the queue does not answer, the body store runs out of space, or the gateway drains.
//!
//! What hangs keeps nobody waiting: after a moment it is told how it was, and since when (`stale_seconds`).
//!
//! Where database and bodies are is told only to those who send the token. Everything else that can be looked at is in
//! `full_health`.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{Extensions, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::front::Trusted;
use super::router;
use crate::deferred::Queue;
use crate::records::Records;

/// How long the database, and the file system of the bodies, may take to answer.
const PING: Duration = Duration::from_millis(500);
/// How long their answers serve for others who ask.
const FRESH: Duration = Duration::from_secs(1);
/// How often they are asked although nobody wants to know, so that what is told at once is not old.
const EVERY: Duration = Duration::from_secs(2);
/// Age from which what is told counts as not known.
const STALE: Duration = Duration::from_secs(10);
/// How long whoever asks waits for what is being asked, when it is known how it was before.
const WAIT: Duration = Duration::from_millis(15);

/// Next hops of mail as the HTTP side sees them; who has them is not known here.
pub trait NextHopStates: std::fmt::Debug + Send + Sync {
    /// Each with its name, and for how long it could not be connected to; none when it can.
    fn states(&self) -> Vec<(String, Option<Duration>)>;
}

/// What health is told from.
pub(super) struct Health {
    asks: Arc<Asks>,
    next_hops: Option<Arc<dyn NextHopStates>>,
    low_space_bytes: u64,
    started: Instant,
    draining: OnceLock<CancellationToken>,
    asked: Mutex<Asked>,
}

/// Who is asked.
struct Asks {
    records: Arc<Records>,
    queue: Option<Arc<dyn Queue>>,
    /// Asks the file system. A network file system may hang for good: then one thread does, not one for each request.
    measuring: tokio::sync::Mutex<Option<JoinHandle<Option<u64>>>>,
}

/// What is being asked; none when asking broke down.
type Asking = Shared<BoxFuture<'static, Option<(Instant, Vitals)>>>;

/// What was last asked, and when.
#[derive(Default)]
struct Asked {
    last: Option<(Instant, Vitals)>,
    /// What is being asked: one asks for many.
    asking: Option<Asking>,
}

/// What was measured.
#[derive(Debug, Clone, Copy, Default)]
struct Vitals {
    /// How long the database took to answer; `None`: it did not, or cannot be written to.
    database: Option<Duration>,
    /// How many jobs wait and how long that took to tell; `None`: the queue did not answer, or there is none.
    queue: Option<(u64, Duration)>,
    /// Free bytes of the body store; `None` for an object store, or when the system does not say in time.
    free_bytes: Option<u64>,
}

impl Health {
    pub(super) fn new(
        records: Arc<Records>,
        queue: Option<Arc<dyn Queue>>,
        next_hops: Option<Arc<dyn NextHopStates>>,
        low_space_bytes: u64,
    ) -> Self {
        let (started, draining, asked) = (Instant::now(), OnceLock::new(), Mutex::default());
        let asks = Arc::new(Asks { records, queue, measuring: tokio::sync::Mutex::default() });
        Self { asks, next_hops, low_space_bytes, started, draining, asked }
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

    /// Looks for ever, so that it is known how it is before anybody asks.
    pub(super) async fn run(&self) {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            self.vitals().await;
        }
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was measured, and how long ago when that is not now: whatever hangs keeps nobody waiting who can be told how it was.
    async fn vitals(&self) -> (Vitals, Option<Duration>) {
        let (asking, before) = {
            let mut asked = self.asked();
            // What came in after nobody waited for it any more.
            if let Some(known) = asked.asking.clone().and_then(FutureExt::now_or_never) {
                asked.last = known.or(asked.last);
                asked.asking = None;
            }
            if let Some((at, vitals)) = asked.last
                && at.elapsed() < FRESH
            {
                return (vitals, None);
            }
            let asks = &self.asks;
            let asking = asked.asking.get_or_insert_with(|| {
                let task = tokio::spawn(Arc::clone(asks).ask());
                async move { task.await.ok() }.boxed().shared()
            });
            (asking.clone(), asked.last)
        };
        let Some((at, vitals)) = before else {
            // Each part has its own time.
            return (asking.await.map_or_else(Vitals::default, |(_, vitals)| vitals), None);
        };
        match timeout(WAIT, asking).await {
            Ok(Some((_, vitals))) => (vitals, None),
            Ok(None) => (Vitals::default(), None),
            Err(_) => (vitals, Some(at.elapsed())),
        }
    }

    /// Next hops that cannot be reached, and whether that is all of them.
    fn lost(&self) -> (Vec<String>, bool) {
        let hops = self.next_hops.as_ref().map(|hops| hops.states()).unwrap_or_default();
        let all = hops.len();
        let lost: Vec<String> = hops.into_iter().filter_map(|(name, down)| down.map(|_| name)).collect();
        let none_left = all > 0 && lost.len() == all;
        (lost, none_left)
    }
}

impl Asks {
    async fn ask(self: Arc<Self>) -> (Instant, Vitals) {
        let begun = Instant::now();
        let database = async {
            let answered = timeout(PING, self.records.ping()).await;
            matches!(answered, Ok(Ok(()))).then(|| begun.elapsed())
        };
        let queue = async {
            let depth = timeout(PING, self.queue.as_ref()?.depth()).await.ok()?.ok()?;
            Some((depth.waiting(), begun.elapsed()))
        };
        let (database, queue, free_bytes) = tokio::join!(database, queue, self.free_bytes());
        (Instant::now(), Vitals { database, queue, free_bytes })
    }

    async fn free_bytes(&self) -> Option<u64> {
        let (_, place) = self.records.places();
        if place.contains("://") {
            return None;
        }
        let free = move || {
            let stat = rustix::fs::statvfs(place.as_str()).ok()?;
            Some(stat.f_bavail.saturating_mul(stat.f_frsize))
        };
        let mut measuring = self.measuring.lock().await;
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
    /// How old this is when the answers of now have not come in time; none when they have.
    stale_seconds: Option<f64>,
    /// Whether the gateway is about to end.
    draining: bool,
    version: &'static str,
    /// Seconds since the start.
    uptime_seconds: u64,
}

/// The database.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DatabaseReport {
    /// Whether it answered and can be written to.
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
pub(super) async fn ready(State(shared): State<Arc<router::Shared>>) -> Response {
    let health = &shared.health;
    if health.draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(ReadyReport { status: "draining" })).into_response();
    }
    let writes = health.vitals().await.0.database.is_some();
    let status = if writes && !health.lost().1 { "ready" } else { "degraded" };
    Json(ReadyReport { status }).into_response()
}

/// The state of the gateway and of what it keeps its records in.
#[utoipa::path(get, path = "/health", tag = "health", security(()), responses(
    (status = 200, description = "HEALTHY or DEGRADED", body = HealthReport),
    (status = 503, description = "UNHEALTHY", body = HealthReport),
))]
pub(super) async fn health(State(shared): State<Arc<router::Shared>>, extensions: Extensions) -> Response {
    let health = &shared.health;
    let trusted = extensions.get::<Trusted>().is_some();
    let (database_place, body_place) = health.asks.records.places();
    let (Vitals { database: latency, queue, free_bytes }, stale) = health.vitals().await;
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
    if health.asks.queue.is_some() && queue.is_none() {
        reasons.push("the queue does not answer: work after the reply waits");
        status = HealthStatus::Degraded;
    }
    if stale.is_some_and(|age| age >= STALE) {
        reasons.push("what is told is old (stale_seconds): nothing has answered since");
        status = HealthStatus::Degraded;
    }
    if latency.is_none() {
        reasons.push("the database does not answer or cannot be written to: mail that must be held is deferred");
        status = HealthStatus::Unhealthy;
    }
    match health.lost() {
        (_, true) => {
            reasons.push("no next hop can be reached: all mail is deferred");
            status = HealthStatus::Unhealthy;
        }
        (lost, false) if !lost.is_empty() => {
            reasons.push("a next hop cannot be reached: /health/full says which");
            status = status.max(HealthStatus::Degraded);
        }
        _ => {}
    }
    let report = HealthReport {
        status,
        reasons,
        database: DatabaseReport {
            reachable: latency.is_some(),
            latency_ms: latency.map(millis),
            place: trusted.then_some(database_place),
        },
        queue: health.asks.queue.as_ref().map(|_| QueueReport {
            reachable: queue.is_some(),
            latency_ms: queue.map(|(_, took)| millis(took)),
            waiting: queue.map(|(waiting, _)| waiting),
        }),
        body_store: BodyStoreReport { free_bytes, place: trusted.then_some(body_place) },
        stale_seconds: stale.map(|age| age.as_secs_f64()),
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
