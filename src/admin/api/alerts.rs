//! Alerts: what is watched, what fires, silences and acknowledgements.
//!
//! What is shown is what the gateway last saw; orders count from its next look on.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ask::Given;
use crate::admin::front::Peer;
use crate::admin::problem::{Denied, Problem};
use crate::admin::router::Shared;
use crate::enforcement::alert::{Act, Alert, Board, BoardError, Order, OrderError, Severity};
use crate::mail::defang;
use crate::observe::event;

/// What is watched.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AlertsReport {
    /// The gateway.
    node: String,
    /// When it last looked; none before the first look.
    at_ms: Option<i64>,
    /// Everything that is watched.
    items: Vec<AlertView>,
    /// Silences, and acknowledgements not yet seen.
    orders: Vec<OrderView>,
    /// Kinds that are not watched, for there is no reading of them.
    unread: Vec<&'static str>,
}

/// One thing that is watched.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AlertView {
    /// `kind` or `kind:subject`.
    key: String,
    /// `ok`, `firing`, `acknowledged` or `silenced`.
    state: &'static str,
    /// `warning` or `critical`; none when it is neither.
    severity: Option<&'static str>,
    /// What it is about.
    title: &'static str,
    /// The value in the unit of the kind; none: no answer at all.
    value: Option<f64>,
    /// The value in words.
    words: String,
    /// What else is known, defanged.
    note: Option<String>,
    /// What to look at first.
    advice: &'static str,
    /// Since when it fires; 0 when it does not.
    since_ms: i64,
    /// When it was measured.
    measured_ms: i64,
}

/// A silence or an acknowledgement.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderView {
    /// To end it by.
    id: String,
    /// `silence` or `acknowledge`.
    act: &'static str,
    /// `*`, a kind or a key.
    alert: String,
    /// Until when it holds.
    until_ms: i64,
    /// Who ordered it.
    by: String,
    /// Why.
    comment: String,
    /// How many known alerts it is about (an acknowledgement: that fire); only in the answer to the order itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<usize>,
}

/// A silence to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSilence {
    /// `*`, a kind or a key.
    alert: String,
    /// For how long.
    minutes: u32,
    /// Why.
    #[serde(default)]
    comment: String,
}

/// What somebody looks at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAcknowledgement {
    /// `*`, a kind or a key.
    alert: String,
}

impl From<Order> for OrderView {
    fn from(order: Order) -> Self {
        let act = match order.act {
            Act::Silence => "silence",
            Act::Acknowledge => "acknowledge",
        };
        let Order { id, pattern, until_ms, by, comment, .. } = order;
        Self { id, act, alert: pattern, until_ms, by, comment, about: None }
    }
}

impl From<&Alert> for AlertView {
    fn from(alert: &Alert) -> Self {
        Self {
            key: alert.key.clone(),
            state: alert.state(),
            severity: alert.severity.map(Severity::as_str),
            title: alert.kind.title(),
            value: alert.value,
            words: alert.words(),
            note: alert.note.as_deref().map(defang),
            advice: alert.kind.advice(),
            since_ms: alert.since_ms,
            measured_ms: alert.measured_ms,
        }
    }
}

/// Everything that is watched, as the gateway last saw it.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "alerts", responses(
    (status = 200, body = AlertsReport),
    (status = 404, description = "Nothing is watched", body = Problem, content_type = "application/problem+json"),
    Denied))]
pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Result<Json<AlertsReport>, Problem> {
    let board = board(&shared)?;
    let (state, orders) = blocking(move || Ok((board.state()?, board.orders(now_ms())))).await?;
    let orders = orders.into_iter().map(OrderView::from).collect();
    let empty = AlertsReport { node: String::new(), at_ms: None, items: Vec::new(), orders, unread: Vec::new() };
    Ok(Json(match state {
        None => empty,
        Some(state) => AlertsReport {
            at_ms: Some(state.at_ms),
            items: state.alerts.iter().map(AlertView::from).collect(),
            unread: state.unread.iter().map(|kind| kind.as_str()).collect(),
            node: state.node,
            ..empty
        },
    }))
}

/// Tell nothing of some alerts for a while. What was told already is told when it is over.
#[utoipa::path(post, path = "/api/v1/alerts/silences", tag = "alerts", request_body = NewSilence, responses(
    (status = 201, body = OrderView),
    (status = 404, description = "Nothing is watched", body = Problem, content_type = "application/problem+json"),
    Denied))]
pub(super) async fn silence(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    Given(wanted): Given<NewSilence>,
) -> Result<(StatusCode, Json<OrderView>), Problem> {
    let by = format!("HTTP from {peer}");
    add(&shared, Order::silence(&wanted.alert, wanted.minutes, &by, &wanted.comment, now_ms())).await
}

/// End a silence.
#[utoipa::path(delete, path = "/api/v1/alerts/silences/{id}", tag = "alerts",
    params(("id" = String, Path, description = "As the list shows it")),
    responses(
        (status = 204, description = "Ended"),
        (status = 404, description = "No such silence", body = Problem, content_type = "application/problem+json"),
        Denied))]
pub(super) async fn end_silence(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let board = board(&shared)?;
    let ended = blocking(move || board.remove(&id)).await?;
    if ended { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found("no such silence; the list shows them")) }
}

/// Say that somebody looks at an alert: it is not repeated until it becomes worse.
#[utoipa::path(post, path = "/api/v1/alerts/acknowledgements", tag = "alerts", request_body = NewAcknowledgement, responses(
    (status = 201, body = OrderView),
    (status = 404, description = "Nothing is watched", body = Problem, content_type = "application/problem+json"),
    Denied))]
pub(super) async fn acknowledge(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    Given(wanted): Given<NewAcknowledgement>,
) -> Result<(StatusCode, Json<OrderView>), Problem> {
    add(&shared, Order::acknowledge(&wanted.alert, &format!("HTTP from {peer}"), now_ms())).await
}

async fn add(shared: &Shared, order: Result<Order, OrderError>) -> Result<(StatusCode, Json<OrderView>), Problem> {
    let board = board(shared)?;
    let order = order.map_err(|error| match error {
        OrderError::Chance => Problem::internal(),
        wrong => Problem::bad_request(wrong.to_string()),
    })?;
    let work = move || {
        board.add(&order)?;
        let about = board.state()?.map_or(0, |state| order.about(&state.alerts, now_ms()));
        Ok((order, about))
    };
    let (order, about) = blocking(work).await?;
    tracing::info!(
        event = event::AUDIT,
        action = "alerts.order",
        by = order.by,
        id = order.id,
        pattern = order.pattern,
        "changed by HTTP"
    );
    Ok((StatusCode::CREATED, Json(OrderView { about: Some(about), ..order.into() })))
}

fn board(shared: &Shared) -> Result<Board, Problem> {
    shared.api.alerts.get().cloned().ok_or_else(|| Problem::not_found("nothing is watched: alerts.enabled is false"))
}

/// Files may hang; the threads that answer mail must not.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BoardError> + Send + 'static,
) -> Result<T, Problem> {
    let failed = |error: &dyn std::fmt::Display| {
        tracing::warn!(event = event::API, %error, "a request about alerts failed");
        Problem::internal()
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
