//! Levels of the log, room by room, changed while the gateway runs; for a while only.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use serde::Deserialize;
use utoipa::ToSchema;

use super::ask::Given;
use crate::admin::front::Peer;
use crate::admin::levels::{LogLevels, LogState};
use crate::admin::problem::{Denied, Problem};
use crate::admin::router::Shared;
use crate::observe::event;

/// Longest time that levels may differ from the configuration: a day.
const MAX_MINUTES: u32 = 24 * 60;

/// What is to be logged.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLevels {
    /// Level (`off`, `error`, `warn`, `info`, `debug`, `trace`) by room (`gateway`, `records`, …; `all`: everything).
    levels: BTreeMap<String, String>,
    /// For how long; 15 by default.
    #[serde(default = "quarter")]
    #[schema(minimum = 1, maximum = 1440)]
    minutes: u32,
}

fn quarter() -> u32 {
    15
}

fn levels(shared: &Shared) -> Result<Arc<dyn LogLevels>, Problem> {
    let levels = shared.full_health.examination.levels();
    levels.ok_or_else(|| Problem::not_found("the levels of this process cannot be changed"))
}

/// What is logged at the moment.
#[utoipa::path(get, path = "/api/v1/logging", tag = "service", responses((status = 200, body = LogState), Denied))]
pub(super) async fn state(State(shared): State<Arc<Shared>>) -> Result<Json<LogState>, Problem> {
    Ok(Json(levels(&shared)?.state()))
}

/// Other levels for a while. What was asked for before is forgotten; a reload of the configuration ends it too.
#[utoipa::path(put, path = "/api/v1/logging", tag = "service", request_body = NewLevels,
    responses((status = 200, body = LogState), Denied))]
pub(super) async fn set(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    Given(wanted): Given<NewLevels>,
) -> Result<Json<LogState>, Problem> {
    let NewLevels { levels: wanted, minutes } = wanted;
    if wanted.is_empty() || !(1..=MAX_MINUTES).contains(&minutes) {
        return Err(Problem::bad_request(format!("name levels by room, and 1 to {MAX_MINUTES} minutes")));
    }
    let state = levels(&shared)?.set(wanted, minutes).map_err(Problem::bad_request)?;
    tracing::info!(event = event::AUDIT, action = "logging.set", by = %peer, levels = ?state.levels, minutes, "changed by HTTP");
    Ok(Json(state))
}

/// What is configured counts again.
#[utoipa::path(delete, path = "/api/v1/logging", tag = "service", responses((status = 200, body = LogState), Denied))]
pub(super) async fn reset(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
) -> Result<Json<LogState>, Problem> {
    let state = levels(&shared)?.reset();
    tracing::info!(event = event::AUDIT, action = "logging.reset", by = %peer, "changed by HTTP");
    Ok(Json(state))
}
