//! Answers of services that are kept: forgetting them before their time.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ask::Given;
use crate::admin::front::Peer;
use crate::admin::problem::{Denied, Problem};
use crate::admin::router::Shared;
use crate::enrichment::Tag;
use crate::observe::event;

/// Tags taken at once.
const MAX_TAGS: usize = 100;

/// What is to be forgotten: tags, a dependency, or everything.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct NewInvalidation {
    /// `host:NAME`, `domain:NAME`, `message:SHA256` or `dependency:NAME`; 100 at most.
    tags: Vec<String>,
    /// All answers of a service: `clamd`, `block_lists`, `block_list:ZONE`, `url_service`, `text_service`, `rdap`, `redirects`.
    dependency: Option<String>,
    /// All answers there are.
    everything: bool,
}

/// What was forgotten.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Invalidation {
    /// Tags; empty: everything.
    tags: Vec<String>,
    /// Where answers are that gateways share, if they share any: the others learn of it there within `cache.follow_ms`.
    shared: Option<String>,
}

/// Forget answers of services before their time: the next message that needs one asks anew.
#[utoipa::path(post, path = "/api/v1/caches/invalidations", tag = "caches", request_body = NewInvalidation, responses(
    (status = 200, body = Invalidation),
    (status = 404, description = "Nothing is asked here", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Forgotten here, but the shared cache could not be told", body = Problem,
        content_type = "application/problem+json"),
    Denied))]
pub(super) async fn invalidate(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    Given(wanted): Given<NewInvalidation>,
) -> Result<Json<Invalidation>, Problem> {
    let outside = shared.full_health.examination.outside();
    let outside = outside.ok_or_else(|| Problem::not_found("no service is asked by this process"))?;
    let NewInvalidation { tags, dependency, everything } = wanted;
    let tags = tags.into_iter().chain(dependency.map(|name| format!("dependency:{name}")));
    let tags: Result<Vec<Tag>, _> = tags.map(|tag| Tag::parse(&tag)).collect();
    let tags = tags.map_err(|error| Problem::bad_request(error.to_string()))?;
    if tags.len() > MAX_TAGS {
        return Err(Problem::bad_request(format!("{MAX_TAGS} tags at most at once")));
    }
    if tags.is_empty() != everything {
        return Err(Problem::bad_request("name tags, a dependency, or `everything`, and not both"));
    }
    let result = outside.forget(&tags).await;
    let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
    let told = result.is_ok();
    tracing::info!(
        event = event::AUDIT, action = "caches.forget", by = %peer, ?tags, everything, told, "changed by HTTP"
    );
    result.map_err(|failure| {
        let what = format!("forgotten here, but the shared cache could not be told ({failure}): ask again");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, what)
    })?;
    Ok(Json(Invalidation { tags, shared: outside.shelf() }))
}
