//! What a request is told when it fails: RFC 9457 problem details (`application/problem+json`).
//!
//! The detail says what to mend. What failed inside is logged here, once, and never told: no driver's text, path or host.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use super::api::NotReleased;
use crate::observe::{self, Category, Fault, event};
use crate::records::StoreError;

/// Media type of problem details.
const MEDIA_TYPE: &str = "application/problem+json";

/// Problem details (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Kind of the problem; `about:blank`: the title says all.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// Name of the status.
    pub(super) title: &'static str,
    /// Status code.
    #[schema(minimum = 400, maximum = 599)]
    pub(super) status: u16,
    /// What happened and what to mend.
    pub(super) detail: String,
    /// Recipients whose copy the next hop did not take; only with 502.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) failed: Vec<NotReleased>,
    /// What kind of thing went wrong: `network`, `database`, `external`, `validation`, `protocol`, `configuration`, `resource`,
    /// `internal`.
    pub(super) category: &'static str,
    /// Whether the same request may succeed later.
    pub(super) retryable: bool,
    /// Seconds after which to try again; sent as `Retry-After`.
    #[serde(skip)]
    pub(super) retry_seconds: Option<u64>,
}

impl Problem {
    /// A problem of this status.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let (category, retryable) = match status {
            StatusCode::TOO_MANY_REQUESTS => (Category::Resource, true),
            StatusCode::BAD_GATEWAY => (Category::External, true),
            StatusCode::SERVICE_UNAVAILABLE => (Category::Resource, true),
            status if status.is_client_error() => (Category::Validation, false),
            _ => (Category::Internal, false),
        };
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            failed: Vec::new(),
            category: category.as_str(),
            retryable,
            retry_seconds: None,
        }
    }

    /// 400: what was asked is not understood.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 500: our own fault.
    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "an error inside the gateway; its log says which")
    }

    /// 503 with the time after which to try again.
    pub(super) fn unavailable(detail: impl Into<String>, retry_seconds: u64) -> Self {
        Self { retry_seconds: Some(retry_seconds), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if let Some(category) = Category::ALL.into_iter().find(|one| one.as_str() == self.category) {
            observe::count("admin", category);
        }
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status(), [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED.as_u16() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"mailweir\""));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if let StoreError::NotHeld(id) = &error {
            return Self::not_found(format!("no message {id} is or was in quarantine"));
        }
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(event = event::API, %error, source, "a request failed: the records did not answer");
        let problem = match &error {
            StoreError::Row { .. } | StoreError::Damaged(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "what is stored cannot be read back; the log says more")
            }
            StoreError::Body { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Self::new(StatusCode::GONE, "the bytes of this message are no longer kept")
            }
            _ => Self::unavailable("the records do not answer; mail that must be held is answered 451 meanwhile", 5),
        };
        Self { category: error.category().as_str(), retryable: error.is_retryable(), ..problem }
    }
}

/// Answers that every route behind the token may give.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "describes answers for the OpenAPI document")]
pub(super) enum Denied {
    /// An id, parameter or body is not understood; the detail says which and what is expected.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// No token, or a wrong one; a signature that is stale, replayed or not good.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// The key that it was signed with may less.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// Too many wrong tokens or signatures from this address.
    #[response(status = 429, content_type = "application/problem+json")]
    TooManyRequests(Problem),
    /// The records do not answer, the request took too long, or a signature cannot be verified at the moment.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}
