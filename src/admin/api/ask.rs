//! Reading what was asked: ids, parameters, bodies. What is not understood is 400 and says what was expected.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use super::Problem;
use crate::mail::MessageId;
use crate::records::PAGE_MAX;

/// Rows on a page when nobody says otherwise.
const PAGE: u32 = 50;

/// The `{id}` of the path.
pub(super) struct Id(pub(super) MessageId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
        text.parse().map(Self).map_err(|error| Problem::bad_request(format!("id in the path: {error}")))
    }
}

/// The parameters of the query; unknown and repeated ones are refused.
pub(in crate::admin) struct Asked<T>(pub(in crate::admin) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let Query(asked) = Query::try_from_uri(&parts.uri).map_err(|e| Problem::bad_request(e.body_text()))?;
        Ok(Self(asked))
    }
}

/// For which recipients something is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// Addresses as the quarantine lists them. Left out: all that wait.
    pub(super) recipients: Option<Vec<String>>,
}

impl<S: Send + Sync> FromRequest<S> for Order {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        JsonBody::from_request(request, state).await.map(|JsonBody(order)| order)
    }
}

/// A body of JSON; none at all is the default.
pub(super) struct JsonBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = json_body(request, state).await?;
        if body.is_empty() { Ok(Self(T::default())) } else { parse(&body).map(Self) }
    }
}

/// A body of JSON that must be there.
pub(super) struct Given<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Given<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        parse(&json_body(request, state).await?).map(Self)
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::bad_request(format!("body: {error}")))
}

/// The body, if it is called JSON or empty.
async fn json_body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    let json = request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"application/json")
    });
    let body = Bytes::from_request(request, state).await.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(e) if e.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than http.request_bytes")
        }
        other => Problem::bad_request(other.body_text()),
    })?;
    if !json && !body.is_empty() {
        let detail = "send the body as JSON with `Content-Type: application/json`, or none";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    Ok(body)
}

/// How many rows.
pub(super) fn limit(limit: Option<u32>) -> Result<u32, Problem> {
    match limit.unwrap_or(PAGE) {
        rows @ 1..=PAGE_MAX => Ok(rows),
        rows => Err(Problem::bad_request(format!("limit: from 1 to {PAGE_MAX} rows, not {rows}"))),
    }
}

/// A time as RFC 3339 or in milliseconds since 1970.
pub(super) fn time_ms(name: &str, text: Option<&str>) -> Result<Option<u64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    if let Ok(ms) = text.parse() {
        return Ok(Some(ms));
    }
    // An unescaped `+` of the offset arrives as a space.
    let text = text.replace(' ', "+");
    let time = OffsetDateTime::parse(&text, &Rfc3339).ok();
    let ms = time.and_then(|time| u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok());
    let expected = || {
        let detail =
            format!("{name}: a time since 1970 as RFC 3339 (2026-01-31T08:00:00Z) or in milliseconds expected");
        Problem::bad_request(detail)
    };
    ms.map(Some).ok_or_else(expected)
}

/// An id among the parameters.
pub(super) fn id(name: &str, text: Option<&str>) -> Result<Option<MessageId>, Problem> {
    text.map(str::parse).transpose().map_err(|error| Problem::bad_request(format!("{name}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let cases = [
            (None, Ok(None)),
            (Some("0"), Ok(Some(0))),
            (Some("1767225600123"), Ok(Some(1_767_225_600_123))),
            (Some("2026-01-01T00:00:00Z"), Ok(Some(1_767_225_600_000))),
            (Some("2026-01-01T01:00:00.5+01:00"), Ok(Some(1_767_225_600_500))),
            (Some("2026-01-01T01:00:00 01:00"), Ok(Some(1_767_225_600_000))),
            (Some("1969-12-31T00:00:00Z"), Err(400)),
            (Some("-1"), Err(400)),
            (Some("2026-01-01"), Err(400)),
            (Some("yesterday"), Err(400)),
            (Some(""), Err(400)),
        ];
        for (text, expected) in cases {
            assert_eq!(time_ms("since", text).map_err(|problem| problem.status), expected, "{text:?}");
        }
    }

    #[test]
    fn limits() {
        for (asked, expected) in
            [(None, Some(50)), (Some(1), Some(1)), (Some(500), Some(500)), (Some(501), None), (Some(0), None)]
        {
            assert_eq!(limit(asked).ok(), expected, "{asked:?}");
        }
    }
}
