//! What ends a message's stay in quarantine: release and deletion.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Extension, RawQuery, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::ask::{Id, Order};
use crate::admin::front::Peer;
use crate::admin::problem::{Denied, Problem};
use crate::admin::router::Shared;
use crate::enforcement::ReleaseError;
use crate::observe::event;
use crate::records::HeldMessage;

/// What became of a release.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct ReleaseReport {
    /// Recipients whose copy the next hop took.
    released: Vec<String>,
    /// Recipients whose copy it did not take: still held, to be tried again.
    failed: Vec<NotReleased>,
}

/// A recipient whose copy is still held.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(in crate::admin) struct NotReleased {
    /// Address.
    recipient: String,
    /// What the next hop said, or why it could not be asked.
    why: String,
}

/// What became of a deletion.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct DeleteReport {
    /// For how many recipients the message was thrown away.
    deleted: u64,
}

/// For whom to delete.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes the query for the OpenAPI document; it is read as pairs")]
pub(super) struct DeleteParams {
    /// Recipient's address; may be repeated. Left out here and in the body: all that wait.
    #[param(explode = true)]
    to: Option<Vec<String>>,
}

/// Give a held message to the next hop as it came, for the named recipients or all that wait.
///
/// A release that has begun goes on when the client goes away. Asking again is safe: whoever has it gets it no more.
#[utoipa::path(post, path = "/api/v1/quarantine/{id}/release", tag = "quarantine",
    params(("id" = String, Path, description = "The gateway's id")),
    request_body(content = Option<Order>, description = "May be left out"),
    responses(
        (status = 200, description = "The next hop took at least one copy", body = ReleaseReport),
        (status = 404, description = "Never held", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Nothing waits for these recipients", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "Bytes no longer kept", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 502, description = "The next hop took none; `failed` says why. Still held", body = Problem, content_type = "application/problem+json"),
        Denied))]
pub(super) async fn release(
    State(shared): State<Arc<Shared>>,
    Id(id): Id,
    Extension(Peer(peer)): Extension<Peer>,
    order: Order,
) -> Result<Json<ReleaseReport>, Problem> {
    let api = &shared.api;
    let held = api.records.held_message(id).await?;
    let recipients = named(&held, order.recipients)?;
    tracing::info!(
        event = event::AUDIT, action = "quarantine.release", by = %peer, %id, recipients = recipients.len(),
        "changed by HTTP"
    );
    // The bytes are in memory until the next hop has them.
    let permit = Arc::clone(&api.bodies).acquire_owned().await;
    let release = Arc::clone(&api.release).release(id, recipients);
    let begun = api.begun.spawn(async move {
        let _permit = permit;
        release.await
    });
    let outcome = begun.await.map_err(|error| {
        tracing::error!(event = event::API, %id, %error, "a release broke down; its lease runs out by itself");
        Problem::internal()
    })?;
    let outcome = outcome.map_err(|error| match error {
        ReleaseError::NothingHeld(_) => nothing_waits(),
        ReleaseError::Store { source, .. } => Problem::from(source),
    })?;
    if outcome.released.is_empty() && outcome.failed.is_empty() {
        return Err(nothing_waits());
    }
    let failed = outcome.failed.into_iter().map(|f| NotReleased { recipient: f.recipient, why: f.why });
    let report = ReleaseReport { failed: failed.collect(), released: outcome.released };
    if report.released.is_empty() && !report.failed.is_empty() {
        let detail = "the next hop took no copy; the message is still held and can be released again";
        return Err(Problem { failed: report.failed, ..Problem::new(StatusCode::BAD_GATEWAY, detail) });
    }
    Ok(Json(report))
}

/// Throw a held message away, for the named recipients or all that wait.
#[utoipa::path(delete, path = "/api/v1/quarantine/{id}", tag = "quarantine",
    params(("id" = String, Path, description = "The gateway's id"), DeleteParams),
    request_body(content = Option<Order>, description = "May be left out"),
    responses(
        (status = 200, body = DeleteReport),
        (status = 404, description = "Never held", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Nothing waits for these recipients", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Body is not JSON", body = Problem, content_type = "application/problem+json"),
        Denied))]
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Id(id): Id,
    RawQuery(query): RawQuery,
    Extension(Peer(peer)): Extension<Peer>,
    order: Order,
) -> Result<Json<DeleteReport>, Problem> {
    let records = &shared.api.records;
    let mut wanted = order.recipients;
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name != "to" {
            return Err(Problem::bad_request(format!("unknown parameter `{name}`, expected `to`")));
        }
        wanted.get_or_insert_default().push(value.into_owned());
    }
    let held = records.held_message(id).await?;
    let recipients = named(&held, wanted)?;
    let deleted = records.delete_held(id, &recipients, now_ms()).await?;
    if deleted == 0 {
        return Err(nothing_waits());
    }
    tracing::info!(event = event::AUDIT, action = "quarantine.delete", by = %peer, %id, deleted, "changed by HTTP");
    Ok(Json(DeleteReport { deleted }))
}

/// The named recipients as the quarantine writes them; none named: an empty list, which means all.
fn named(held: &HeldMessage, wanted: Option<Vec<String>>) -> Result<Vec<String>, Problem> {
    let Some(wanted) = wanted else { return Ok(Vec::new()) };
    // An empty selection must not become "all of them".
    if wanted.is_empty() {
        return Err(Problem::bad_request("recipients: name at least one, or leave the list out to mean all that wait"));
    }
    if wanted.len() > held.recipients.len() {
        return Err(Problem::bad_request("recipients: more are named than the message is held for"));
    }
    let mut names = Vec::with_capacity(wanted.len());
    for name in wanted {
        let mut known =
            held.recipients.iter().map(|r| &r.recipient).filter(|r| r.eq_ignore_ascii_case(&name)).peekable();
        if known.peek().is_none() {
            return Err(Problem::bad_request(format!("recipients: the message is not held for `{name}`")));
        }
        names.extend(known.cloned());
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn nothing_waits() -> Problem {
    let detail =
        "nothing of this message waits for these recipients: it was released, deleted, or is being released now";
    Problem::new(StatusCode::CONFLICT, detail)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
