//! Dead letters: jobs that are not tried again unless somebody says so. Lists, replays and purges them.
//!
//! What they are to be done with is not shown: it names messages and people.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ask::{self, Asked, Given};
use super::scalability::workforce;
use crate::admin::front::Peer;
use crate::admin::problem::{Denied, Problem};
use crate::admin::router::Shared;
use crate::deferred::{self, DeadJob, DeadPlace, QueueError};
use crate::observe::event;

/// Keys in one order at most.
const KEYS: usize = 500;
/// What is to be said when all are to be thrown away.
const PURGE_ALL: &str = "purge all dead letters";
/// When to ask again after the queue did not answer, in seconds.
const RETRY_SECONDS: u64 = 5;

/// Which rows.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeadParams {
    /// Rows wanted, 1 to 500; 50 by default.
    limit: Option<u32>,
    /// Only those before this one: `next` of the page before.
    before: Option<String>,
}

/// One page, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadPage {
    items: Vec<DeadRow>,
    /// Give it as `before` for the next page, which may be empty; none when this is the last.
    next: Option<String>,
}

/// One dead letter.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadRow {
    /// The job's key.
    key: String,
    /// What was to be done.
    kind: String,
    /// `high`, `medium`, `low`.
    priority: &'static str,
    /// What it belongs to, such as a message's id.
    correlation: String,
    /// Attempts made.
    attempts: u32,
    /// `attempts`, `refused`, `unknown_kind`, `poison`, `unreadable`.
    reason: &'static str,
    /// What happened last.
    error: Option<String>,
    /// When it was made, milliseconds since 1970.
    enqueued_ms: i64,
    /// Since when it is dead, milliseconds since 1970.
    dead_ms: i64,
    /// Bytes of what it is to be done with.
    payload_bytes: usize,
}

impl From<DeadJob> for DeadRow {
    fn from(DeadJob { job, reason, dead_ms }: DeadJob) -> Self {
        Self {
            priority: job.priority.as_str(),
            attempts: job.attempt,
            reason: reason.as_str(),
            error: job.last_error,
            enqueued_ms: job.enqueued_ms,
            dead_ms,
            payload_bytes: job.payload.len(),
            key: job.key,
            kind: job.kind,
            correlation: job.correlation,
        }
    }
}

/// Which dead letters: those with `keys`, or `all`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Chosen {
    /// Keys of jobs, 500 at most.
    keys: Option<Vec<String>>,
    /// All of them.
    all: bool,
    /// To purge all: `purge all dead letters`.
    confirm: Option<String>,
}

impl Chosen {
    /// None: all.
    fn keys(&self) -> Result<Option<&[String]>, Problem> {
        match (&self.keys, self.all) {
            (Some(keys), false) if keys.len() <= KEYS => Ok(Some(keys)),
            (Some(_), false) => Err(Problem::bad_request(format!("keys: {KEYS} at most"))),
            (None, true) => Ok(None),
            _ => Err(Problem::bad_request("say which: either `keys`, or `all`: true")),
        }
    }
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Settled {
    /// Dead letters that are none any more.
    count: u64,
}

fn silent(error: QueueError) -> Problem {
    tracing::warn!(event = event::SYSTEM, error = %error, "dead letters cannot be reached");
    Problem::unavailable("the queue does not answer", RETRY_SECONDS)
}

/// Jobs that are not tried again, the newest first. A queue that was emptied gets its dead letters back within
/// `queue.resend_seconds`.
#[utoipa::path(get, path = "/api/v1/scalability/dead-letters", tag = "scalability", params(DeadParams),
    responses((status = 200, body = DeadPage), Denied))]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Asked(params): Asked<DeadParams>,
) -> Result<Json<DeadPage>, Problem> {
    let limit = ask::limit(params.limit)? as usize;
    let before = params.before.as_deref().map(str::parse::<DeadPlace>).transpose();
    let before = before.map_err(|error| Problem::bad_request(format!("before: {error}")))?;
    let dead = workforce(&shared)?.queue.dead(before.as_ref(), limit).await.map_err(silent)?;
    let next = if dead.len() == limit { dead.last().map(|dead| dead.place().to_string()) } else { None };
    Ok(Json(DeadPage { items: dead.into_iter().map(DeadRow::from).collect(), next }))
}

/// Put dead letters into the queue again, as new jobs.
#[utoipa::path(post, path = "/api/v1/scalability/dead-letters/replay", tag = "scalability", request_body = Chosen,
    responses((status = 200, body = Settled), Denied))]
pub(super) async fn replay(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    Given(chosen): Given<Chosen>,
) -> Result<Json<Settled>, Problem> {
    let (work, keys) = (workforce(&shared)?, chosen.keys()?);
    let count = deferred::replay(&*work.queue, &*work.outbox, keys).await.map_err(silent)?;
    tracing::info!(event = event::AUDIT, action = "dead_letters.replay", by = %peer, all = chosen.all, keys = ?chosen.keys, count,
        "replayed by HTTP");
    Ok(Json(Settled { count }))
}

/// Throw dead letters away. What was to be done is never done then.
#[utoipa::path(post, path = "/api/v1/scalability/dead-letters/purge", tag = "scalability", request_body = Chosen,
    responses((status = 200, body = Settled), Denied))]
pub(super) async fn purge(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    Given(chosen): Given<Chosen>,
) -> Result<Json<Settled>, Problem> {
    let (work, keys) = (workforce(&shared)?, chosen.keys()?);
    if keys.is_none() && chosen.confirm.as_deref() != Some(PURGE_ALL) {
        return Err(Problem::bad_request(format!("to purge all, say `confirm`: `{PURGE_ALL}`")));
    }
    let count = deferred::purge(&*work.queue, &*work.outbox, keys).await.map_err(silent)?;
    tracing::info!(event = event::AUDIT, action = "dead_letters.purge", by = %peer, all = chosen.all, keys = ?chosen.keys, count,
        "purged by HTTP");
    Ok(Json(Settled { count }))
}
