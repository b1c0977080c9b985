//! Judged messages: search, the record that explains one, and the order to look at it again.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ask::{self, Asked, Id, JsonBody};
use crate::admin::front::Peer;
use crate::admin::problem::{Denied, Problem};
use crate::admin::router::Shared;
use crate::admin::summary::now_ms;
use crate::mail::MessageId;
use crate::observe::event;
use crate::pipeline::asked_look;
use crate::policy::Action;
use crate::records::{Explained, MessageQuery, MessageSummary};

/// Longest comment of an order, in characters.
const COMMENT_CHARS: usize = 500;

/// What to look for. Every given condition must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MessageParams {
    /// Address (`a@b.example`) or domain (`b.example`) in the From header.
    from: Option<String>,
    /// Address or domain of the envelope sender.
    sender: Option<String>,
    /// Address of an envelope recipient.
    to: Option<String>,
    /// Words anywhere in the subject, as they stand there.
    subject: Option<String>,
    /// Address of the client.
    #[param(value_type = Option<String>)]
    client_ip: Option<IpAddr>,
    /// `Message-ID` header without brackets, exactly.
    header_id: Option<String>,
    /// Action taken: `allow`, `tag`, `quarantine`, `reject`, `defer`.
    #[param(value_type = Option<String>)]
    action: Option<Action>,
    /// Code of a signal.
    signal: Option<String>,
    /// Tenant by name.
    tenant: Option<String>,
    /// Received at or after: RFC 3339, or milliseconds since 1970.
    since: Option<String>,
    /// Received before: RFC 3339, or milliseconds since 1970.
    until: Option<String>,
    /// Risk at least, 0 to 100.
    risk_min: Option<f64>,
    /// Only those older than this id: `next` of the page before.
    before: Option<String>,
    /// Rows wanted, 1 to 500; 50 by default.
    limit: Option<u32>,
}

impl MessageParams {
    fn query(self) -> Result<MessageQuery, Problem> {
        if self.risk_min.is_some_and(|risk| !(0.0..=100.0).contains(&risk)) {
            return Err(Problem::bad_request("risk_min: from 0 to 100"));
        }
        Ok(MessageQuery {
            since_ms: ask::time_ms("since", self.since.as_deref())?,
            until_ms: ask::time_ms("until", self.until.as_deref())?,
            before: ask::id("before", self.before.as_deref())?,
            limit: ask::limit(self.limit)?,
            from: self.from,
            sender: self.sender,
            to: self.to,
            subject: self.subject,
            client_ip: self.client_ip.map(|ip| ip.to_string()),
            header_id: self.header_id,
            action: self.action.map(|action| action.as_str().to_owned()),
            signal: self.signal,
            tenant: self.tenant,
            risk_min: self.risk_min,
        })
    }
}

/// One page, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MessagePage {
    items: Vec<MessageRow>,
    /// Give it as `before` for the next page, which may be empty; none when this is the last.
    #[schema(value_type = Option<String>)]
    next: Option<MessageId>,
}

/// One judged message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MessageRow {
    /// The gateway's id.
    #[schema(value_type = String, example = "01jd3q5xk9v7m2r8t4w6y0z1ab")]
    id: MessageId,
    /// When its last byte had come, milliseconds since 1970.
    received_ms: i64,
    /// Which door took it: `milter`, `relay`.
    door: String,
    /// Tenant of the first recipient.
    tenant: String,
    /// Action taken.
    action: String,
    /// Risk, 0 to 100.
    risk: f64,
    /// Whether something could not be asked.
    degraded: bool,
    /// Address of the client.
    client_ip: Option<String>,
    /// Envelope sender.
    sender: String,
    /// Address in From.
    from: String,
    /// Subject, decoded; text from a stranger.
    subject: String,
    /// Bytes.
    size: i64,
    /// Codes of the signals that fired.
    signals: Vec<String>,
}

impl From<MessageSummary> for MessageRow {
    fn from(row: MessageSummary) -> Self {
        Self {
            id: row.id,
            received_ms: row.received_ms,
            door: row.door,
            tenant: row.tenant,
            action: row.action,
            risk: row.risk,
            degraded: row.degraded,
            client_ip: row.client_ip,
            sender: row.sender,
            from: row.from,
            subject: row.subject,
            size: row.size,
            signals: row.signals,
        }
    }
}

/// Search judged messages, newest first.
#[utoipa::path(get, path = "/api/v1/messages", tag = "messages", params(MessageParams),
    responses((status = 200, body = MessagePage), Denied))]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Asked(params): Asked<MessageParams>,
) -> Result<Json<MessagePage>, Problem> {
    let query = params.query()?;
    let rows = shared.api.records.messages(&query).await?;
    let next = if rows.len() == query.limit as usize { rows.last().map(|row| row.id) } else { None };
    Ok(Json(MessagePage { items: rows.into_iter().map(MessageRow::from).collect(), next }))
}

/// The record of one message: everything that led to its verdict.
#[utoipa::path(get, path = "/api/v1/messages/{id}", tag = "messages",
    params(("id" = String, Path, description = "The gateway's id")),
    responses(
        (status = 200, description = "As `mailweir explain --json` shows it", body = Object),
        (status = 404, description = "Unknown, or no longer kept", body = Problem, content_type = "application/problem+json"),
        Denied))]
pub(super) async fn one(State(shared): State<Arc<Shared>>, Id(id): Id) -> Result<Json<Explained>, Problem> {
    let record = shared.api.records.explained(id).await?;
    record
        .map(Json)
        .ok_or_else(|| Problem::not_found(format!("no record of message {id}; records are kept for store.ledger_days")))
}

/// Why a message is to be looked at again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LookOrder {
    /// What somebody found out since, for the log: 500 characters at most.
    comment: String,
}

/// A second look that is ordered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LookOrdered {
    /// The gateway's id.
    #[schema(value_type = String)]
    id: MessageId,
    /// Key of the job.
    job: String,
}

/// Look at a message again, once: larger budgets, every service asked anew. What follows from a worse verdict is done as after
/// any second look.
#[utoipa::path(post, path = "/api/v1/messages/{id}/second-look", tag = "messages",
    params(("id" = String, Path, description = "The gateway's id")), request_body(content = Option<LookOrder>, description = "May be left out"),
    responses(
        (status = 202, description = "Ordered, or it was already", body = LookOrdered),
        (status = 404, description = "Unknown, or no longer kept", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It was looked at again; the record shows both", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "Its bytes are not kept", body = Problem, content_type = "application/problem+json"),
        Denied))]
pub(super) async fn second_look(
    State(shared): State<Arc<Shared>>,
    Id(id): Id,
    Extension(Peer(peer)): Extension<Peer>,
    JsonBody(LookOrder { comment }): JsonBody<LookOrder>,
) -> Result<(StatusCode, Json<LookOrdered>), Problem> {
    let api = &shared.api;
    if api.work.is_none() {
        return Err(Problem::not_found("this process has no job queue"));
    }
    let Some(record) = api.records.record(id).await? else {
        return Err(Problem::not_found(format!("no record of message {id}; records are kept for store.ledger_days")));
    };
    if api.records.reassessment(id).await?.is_some() {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "it was looked at again already; its record shows both verdicts",
        ));
    }
    if !api.records.is_kept(id).await? {
        let detail = "its bytes are not kept: only what is held or waits for a second look is";
        return Err(Problem::new(StatusCode::GONE, detail));
    }
    let comment: String = comment.chars().filter(|c| !c.is_control()).take(COMMENT_CHARS).collect();
    let job = asked_look(&record, now_ms());
    let key = job.key.clone();
    // Into the outbox, from where it comes into the queue: a queue that is flushed must not lose what was promised.
    api.records.order(&[job]).await?;
    tracing::info!(event = event::AUDIT, action = "message.second_look", by = %peer, %id, comment, "changed by HTTP");
    Ok((StatusCode::ACCEPTED, Json(LookOrdered { id, job: key })))
}
