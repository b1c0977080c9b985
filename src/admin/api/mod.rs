//! `/api/v1`: judged messages, the quarantine, queue and workers, and alerts, as JSON.
//!
//! What goes over the wire has types of its own here, so that the stores can change without the API doing so.

mod alerts;
mod ask;
mod caches;
mod dead_letters;
mod demo;
mod diagram;
mod logging;
mod messages;
mod quarantine;
mod scalability;
mod settle;
mod view;

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::config::{Config, DemoConfig};
use super::problem::Problem;
use super::router::Shared;
use crate::enforcement::alert::Board;
use crate::enforcement::{Reinject, Release, ReleaseError, Released};
use crate::mail::MessageId;
use crate::records::Records;

pub(super) use ask::Asked;
pub use demo::{Demo, DemoBusy, DemoOrder, DemoState};
pub use scalability::Workforce;
pub(super) use settle::NotReleased;

/// What the API works with.
pub(super) struct Api {
    records: Arc<Records>,
    release: Arc<dyn Releases>,
    /// Releases at work. They go on when whoever asked has gone: half a release is worse than one nobody waits for.
    begun: TaskTracker,
    /// Held messages in memory at a time.
    bodies: Arc<Semaphore>,
    view_bytes: usize,
    /// Where alerts are; not set when nothing is watched.
    pub(super) alerts: OnceLock<Board>,
    /// Demo runs; not set when they are off.
    pub(super) demo: OnceLock<Arc<dyn Demo>>,
    demo_most: DemoConfig,
    pub(super) request_bytes: usize,
    /// Queue and workers; none when this process has none.
    work: Option<Workforce>,
}

impl Api {
    pub(super) fn new<R: Reinject>(
        config: &Config,
        records: Arc<Records>,
        release: Arc<Release<R>>,
        work: Option<Workforce>,
    ) -> Self {
        Self {
            records,
            release,
            begun: TaskTracker::new(),
            bodies: Arc::new(Semaphore::new(config.bodies)),
            view_bytes: config.view_bytes,
            alerts: OnceLock::new(),
            demo: OnceLock::new(),
            demo_most: config.demo.clone(),
            request_bytes: config.request_bytes,
            work,
        }
    }

    /// Waits until all releases that have begun are done.
    pub(super) async fn finish(&self) {
        self.begun.close();
        self.begun.wait().await;
    }
}

/// [`Release`] without the type of its next hop.
trait Releases: Send + Sync {
    fn release(
        self: Arc<Self>,
        id: MessageId,
        recipients: Vec<String>,
    ) -> BoxFuture<'static, Result<Released, ReleaseError>>;
}

impl<R: Reinject> Releases for Release<R> {
    fn release(
        self: Arc<Self>,
        id: MessageId,
        recipients: Vec<String>,
    ) -> BoxFuture<'static, Result<Released, ReleaseError>> {
        async move { Release::release(&self, id, &recipients).await }.boxed()
    }
}

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(messages::list))
        .routes(routes!(messages::one))
        .routes(routes!(messages::second_look))
        .routes(routes!(quarantine::list))
        .routes(routes!(quarantine::view, settle::delete))
        .routes(routes!(quarantine::raw))
        .routes(routes!(settle::release))
        .routes(routes!(scalability::status))
        .routes(routes!(scalability::config, scalability::set_config))
        .routes(routes!(scalability::scale_up))
        .routes(routes!(scalability::scale_down))
        .routes(routes!(scalability::jobs))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::replay))
        .routes(routes!(dead_letters::purge))
        .routes(routes!(scalability::performance))
        .routes(routes!(scalability::health))
        .routes(routes!(scalability::architecture))
        .routes(routes!(demo::run, demo::state))
        .routes(routes!(caches::invalidate))
        .routes(routes!(logging::state, logging::set, logging::reset))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::silence))
        .routes(routes!(alerts::end_silence))
        .routes(routes!(alerts::acknowledge))
}
