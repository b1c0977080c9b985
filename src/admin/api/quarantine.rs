//! The quarantine: what is held, what it looks like, its bytes.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::ask::{self, Asked, Id};
use super::view::{self, MessageView};
use crate::admin::problem::{Denied, Problem};
use crate::admin::router::Shared;
use crate::mail::MessageId;
use crate::observe::event;
use crate::records::{HeldMessage, HeldQuery, HeldState, RecipientState};

/// What became of a held message for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum RecipientStatus {
    /// Waits.
    Held,
    /// Is being given to the next hop.
    Releasing,
    /// The next hop took it.
    Released,
    /// Was thrown away.
    Deleted,
}

impl From<HeldState> for RecipientStatus {
    fn from(state: HeldState) -> Self {
        match state {
            HeldState::Held => Self::Held,
            HeldState::Releasing => Self::Releasing,
            HeldState::Released => Self::Released,
            HeldState::Deleted => Self::Deleted,
        }
    }
}

impl RecipientStatus {
    fn in_records(self) -> HeldState {
        match self {
            Self::Held => HeldState::Held,
            Self::Releasing => HeldState::Releasing,
            Self::Released => HeldState::Released,
            Self::Deleted => HeldState::Deleted,
        }
    }
}

/// Which held messages to list. Every given condition must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HeldParams {
    /// State of at least one recipient. Left out: those that still wait.
    #[param(inline)]
    state: Option<RecipientStatus>,
    /// Recipient's address.
    to: Option<String>,
    /// Tenant by name.
    tenant: Option<String>,
    /// Only those older than this id: `next` of the page before.
    before: Option<String>,
    /// Rows wanted, 1 to 500; 50 by default.
    limit: Option<u32>,
}

/// One page, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeldPage {
    items: Vec<HeldRow>,
    /// Give it as `before` for the next page, which may be empty; none when this is the last.
    #[schema(value_type = Option<String>)]
    next: Option<MessageId>,
}

/// One held message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeldRow {
    /// The gateway's id.
    #[schema(value_type = String, example = "01jd3q5xk9v7m2r8t4w6y0z1ab")]
    id: MessageId,
    /// When it was held, milliseconds since 1970.
    held_ms: i64,
    /// Why.
    reason: String,
    /// Risk, 0 to 100.
    risk: f64,
    /// Envelope sender.
    sender: String,
    /// Address in From.
    from: String,
    /// Subject, decoded; text from a stranger.
    subject: String,
    /// Address of the client.
    client_ip: Option<String>,
    /// Bytes.
    size: i64,
    /// The recipients it is held for.
    recipients: Vec<RecipientRow>,
}

/// One recipient of a held message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecipientRow {
    /// Address.
    recipient: String,
    /// Tenant.
    tenant: String,
    /// What became of it.
    state: RecipientStatus,
    /// Releases tried.
    attempts: i64,
    /// Why the last release failed.
    last_error: Option<String>,
    /// When it was released or deleted, milliseconds since 1970.
    settled_ms: Option<i64>,
}

impl From<HeldMessage> for HeldRow {
    fn from(held: HeldMessage) -> Self {
        Self {
            id: held.id,
            held_ms: held.held_ms,
            reason: held.reason,
            risk: held.risk,
            sender: held.sender,
            from: held.from,
            subject: held.subject,
            client_ip: held.client_ip,
            size: held.size,
            recipients: held.recipients.into_iter().map(RecipientRow::from).collect(),
        }
    }
}

impl From<RecipientState> for RecipientRow {
    fn from(row: RecipientState) -> Self {
        Self {
            recipient: row.recipient,
            tenant: row.tenant,
            state: row.state.into(),
            attempts: row.attempts,
            last_error: row.last_error,
            settled_ms: row.settled_ms,
        }
    }
}

/// A held message and what it looks like.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeldView {
    /// The message as the quarantine lists it.
    held: HeldRow,
    /// What a reader would see of it.
    message: MessageView,
}

/// List held messages, newest first.
#[utoipa::path(get, path = "/api/v1/quarantine", tag = "quarantine", params(HeldParams),
    responses((status = 200, body = HeldPage), Denied))]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Asked(params): Asked<HeldParams>,
) -> Result<Json<HeldPage>, Problem> {
    let query = HeldQuery {
        before: ask::id("before", params.before.as_deref())?,
        limit: ask::limit(params.limit)?,
        state: params.state.map(|state| state.in_records().as_str().to_owned()),
        to: params.to,
        tenant: params.tenant,
    };
    let rows = shared.api.records.held(&query).await?;
    let next = if rows.len() == query.limit as usize { rows.last().map(|row| row.id) } else { None };
    Ok(Json(HeldPage { items: rows.into_iter().map(HeldRow::from).collect(), next }))
}

/// View a held message: its headers and text, defanged, and its attachments. Nothing of it is fetched or rendered.
#[utoipa::path(get, path = "/api/v1/quarantine/{id}", tag = "quarantine",
    params(("id" = String, Path, description = "The gateway's id")),
    responses(
        (status = 200, body = HeldView),
        (status = 404, description = "Never held", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "Bytes no longer kept", body = Problem, content_type = "application/problem+json"),
        Denied))]
pub(super) async fn view(State(shared): State<Arc<Shared>>, Id(id): Id) -> Result<Json<HeldView>, Problem> {
    let (held, raw, permit) = read(&shared.api, id).await?;
    let view_bytes = shared.api.view_bytes;
    // Taking a large message apart keeps a thread busy for a while.
    let parse = tokio::task::spawn_blocking(move || {
        let view = view::view(raw, view_bytes);
        drop(permit);
        view
    });
    let message = parse.await.map_err(|error| {
        tracing::error!(event = event::API, %id, %error, "viewing a held message failed");
        Problem::internal()
    })?;
    Ok(Json(HeldView { held: held.into(), message }))
}

/// Download the bytes of a held message, as they came.
#[utoipa::path(get, path = "/api/v1/quarantine/{id}/raw", tag = "quarantine",
    params(("id" = String, Path, description = "The gateway's id")),
    responses(
        (status = 200, description = "The message, live and dangerous", body = String, content_type = "message/rfc822"),
        (status = 404, description = "Never held", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "Bytes no longer kept", body = Problem, content_type = "application/problem+json"),
        Denied))]
pub(super) async fn raw(State(shared): State<Arc<Shared>>, Id(id): Id) -> Result<Response, Problem> {
    let (_, raw, permit) = read(&shared.api, id).await?;
    let headers = [
        (header::CONTENT_TYPE, "message/rfc822".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{id}.eml\"")),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox".to_owned()),
    ];
    let bytes = Bytes::from_owner(InMemory { raw, _permit: permit });
    Ok((headers, Body::from(bytes)).into_response())
}

/// The bytes of a message, counted until they are sent.
struct InMemory {
    raw: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for InMemory {
    fn as_ref(&self) -> &[u8] {
        &self.raw
    }
}

async fn read(api: &Api, id: MessageId) -> Result<(HeldMessage, Bytes, OwnedSemaphorePermit), Problem> {
    let held = api.records.held_message(id).await?;
    let busy = |_| Problem::unavailable("the gateway is about to end", 5);
    let permit = Arc::clone(&api.bodies).acquire_owned().await.map_err(busy)?;
    let raw = api.records.held_bytes(&held).await?;
    Ok((held, raw, permit))
}
