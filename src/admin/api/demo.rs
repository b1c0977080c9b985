//! A demo run: made-up mail through this node, to see it work. Off unless `http.demo.enabled`; one at a time.
//!
//! Not here: the load itself, which the application gives as a [`Demo`].

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ask::JsonBody;
use crate::admin::front::Peer;
use crate::admin::problem::{Denied, Problem};
use crate::admin::router::Shared;
use crate::observe::event;

/// Gives load to this node. A run is bounded, delivers nothing and records nothing.
pub trait Demo: Send + Sync {
    /// The run at work, or the last one.
    fn state(&self) -> DemoState;

    /// Starts one.
    ///
    /// # Errors
    /// When one is at work.
    fn start(&self, order: DemoOrder) -> Result<DemoState, DemoBusy>;
}

/// A run is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a demo run is at work: GET tells how far it is")]
pub struct DemoBusy;

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DemoOrder {
    /// Messages, 1 to `http.demo.max_messages`; 200 when left out.
    #[schema(minimum = 1)]
    pub messages: u32,
    /// Judged at a time, 1 to `http.demo.at_a_time`; 1 when left out.
    #[schema(minimum = 1)]
    pub at_a_time: u32,
    /// Decides the messages; 1 when left out.
    pub seed: u64,
}

impl Default for DemoOrder {
    fn default() -> Self {
        Self { messages: 200, at_a_time: 1, seed: 1 }
    }
}

/// A run at work, or the last one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct DemoState {
    /// Whether it is at work.
    pub running: bool,
    /// When it began; none when there was none since the process began.
    pub started_ms: Option<i64>,
    /// Messages ordered.
    pub wanted: u32,
    /// Messages judged so far. Fewer than were ordered when it took a minute.
    pub judged: u32,
    /// Of these, how many would have been treated how.
    pub actions: BTreeMap<String, u64>,
    /// Seconds so far.
    pub seconds: f64,
    /// Messages a second.
    pub per_second: f64,
    /// Median of the time of a message, in milliseconds.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// What broke it off.
    pub error: Option<String>,
}

fn demo(shared: &Shared) -> Result<&dyn Demo, Problem> {
    let demo = shared.api.demo.get().map(|demo| &**demo);
    demo.ok_or_else(|| Problem::not_found("demo runs are off (http.demo.enabled)"))
}

/// Starts a bounded load of made-up mail through this node. Nothing is delivered, held or recorded, nothing outside is asked.
#[utoipa::path(post, path = "/api/v1/scalability/demo/run", tag = "scalability", request_body = Option<DemoOrder>, responses(
    (status = 202, description = "It runs", body = DemoState),
    (status = 404, description = "Demo runs are off"),
    (status = 409, description = "One is at work"), Denied))]
pub(in crate::admin) async fn run(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    JsonBody(order): JsonBody<DemoOrder>,
) -> Result<(StatusCode, Json<DemoState>), Problem> {
    let demo = demo(&shared)?;
    let most = &shared.api.demo_most;
    for (name, value, most) in
        [("messages", order.messages, most.max_messages), ("at_a_time", order.at_a_time, most.at_a_time)]
    {
        if value == 0 || value > most {
            return Err(Problem::bad_request(format!("{name}: 1 to {most} (http.demo)")));
        }
    }
    let messages = order.messages;
    let state = demo.start(order).map_err(|busy| Problem::new(StatusCode::CONFLICT, busy.to_string()))?;
    tracing::info!(event = event::AUDIT, action = "demo.run", by = %peer, messages, "started by HTTP");
    Ok((StatusCode::ACCEPTED, Json(state)))
}

/// The demo run at work, or the last one.
#[utoipa::path(get, path = "/api/v1/scalability/demo/run", tag = "scalability", responses(
    (status = 200, body = DemoState), (status = 404, description = "Demo runs are off"), Denied))]
pub(in crate::admin) async fn state(State(shared): State<Arc<Shared>>) -> Result<Json<DemoState>, Problem> {
    Ok(Json(demo(&shared)?.state()))
}
