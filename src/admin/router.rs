//! The routes and the document that describes them (OpenAPI 3.1), made of the same list.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::{self, Api};
use super::full_health::{self, FullHealth};
use super::health::{self, Health};
use super::metrics::Metrics;
use super::problem::{Denied, Problem};
use super::summary::{self, Snapshots};
use crate::observe::event;

/// What the routes work with.
pub(super) struct Shared {
    pub(super) health: Health,
    pub(super) full_health: FullHealth,
    pub(super) snapshots: Snapshots,
    pub(super) api: Api,
    pub(super) metrics: Arc<Metrics>,
}

/// The description of all routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes().into_openapi()
}

/// The router with everything but what [`super::front`] puts before it.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let (router, _) = routes().split_for_parts();
    let limit = axum::extract::DefaultBodyLimit::max(shared.api.request_bytes);
    router
        .fallback(async || Problem::not_found("no such path; /openapi.json lists those that are"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path takes other methods; the Allow header lists them")
        })
        .layer(limit)
        .with_state(shared)
}

fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::health))
        .routes(routes!(full_health::full))
        .routes(routes!(full_health::metrics))
        .routes(routes!(metrics))
        .routes(routes!(summary::summary))
        .routes(routes!(summary::snapshots))
        .routes(routes!(openapi_json))
        .merge(api::routes())
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Mailweir",
        description = "Judged messages, the quarantine, health and metrics of a Mailweir gateway. Times are milliseconds \
                       since 1970 unless said otherwise. Failures are RFC 9457 problem details."
    ),
    components(schemas(Problem)),
    modifiers(&Token),
    tags(
        (name = "health", description = "For probes, without token; and for people, with it"),
        (name = "messages", description = "What was judged, and why"),
        (name = "quarantine", description = "What is held"),
        (name = "scalability", description = "Job queue and workers"),
        (name = "caches", description = "Answers of services that are kept"),
        (name = "alerts", description = "What is watched, what fires, and silences"),
        (name = "service", description = "Metrics and this document"),
    ),
    security(("token" = []), ("signature" = []))
)]
struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The admin token: in the file that the gateway names at start."))
            .build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
        let signature = "For keys of `http.callers`: `v1=` and the HMAC-SHA256 of the request, with the headers `-Timestamp`, \
                         `-Nonce`, `-Body-SHA256` and `-Key-Id` (`signing.header_prefix` changes `X-Mailweir`); \
                         deploy/webhooks says how it is made. A key may do what its role lets it: 403 else.";
        let signature = ApiKeyValue::with_description("X-Mailweir-Signature", signature);
        components.add_security_scheme("signature", SecurityScheme::ApiKey(ApiKey::Header(signature)));
    }
}

/// All metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "service", responses(
    (status = 200, body = String, content_type = "text/plain; version=0.0.4"), Denied))]
async fn metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let text = shared.metrics.text().map_err(|error| {
        tracing::error!(event = event::API, %error, "the metrics could not be written");
        Problem::internal()
    })?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "service", responses((status = 200, body = Object), Denied))]
async fn openapi_json() -> Json<utoipa::openapi::OpenApi> {
    Json(openapi())
}
