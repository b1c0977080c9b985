//! What stands before the routes: who asks, how long and how much at a time, what must be on every answer.
//!
//! In this order, the outermost first: headers and metrics for every answer, the token or the signature, the number of requests at
//! a time, the time of one, a panic, and only then the router; behind it, whether the role is enough for the route. The body of a
//! signed request is read before its signature can be verified: as many at a time, within the same time, and in nobody else's way.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use super::Config;
use super::access::{Access, Refusal};
use super::callers::{self, Callers, NotTaken, Who};
use super::config::Role;
use super::metrics::Metrics;
use super::problem::Problem;
use crate::observe::{correlation, event, is_correlation};

/// Paths that need no token: compared as sent, without decoding, and only for reading.
const OPEN: [&str; 3] = ["/alive", "/ready", "/health"];

/// Names a request in the log; told to the client.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The routes and all that stands before them.
pub(super) struct Front {
    pub(super) access: Access,
    /// Who may sign instead; not set when nobody may.
    pub(super) callers: OnceLock<Callers>,
    metrics: Arc<Metrics>,
    requests: Semaphore,
    /// Bodies read before it is known whether they are signed: strangers wait for each other, and nobody waits for them.
    reading: Semaphore,
    request_seconds: u64,
    request_bytes: usize,
    router: TowerToHyperService<Router>,
}

/// In a request's extensions: it carried the token, or was signed where that is looked at; the open paths tell more with the token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trusted(pub(super) Role);

/// In a request's extensions: who asks, for the log.
#[derive(Debug, Clone)]
pub(super) struct Peer(pub(super) Who);

/// Where the router leaves the template of the route it chose.
#[derive(Debug, Clone, Default)]
struct Chosen(Arc<OnceLock<MatchedPath>>);

impl Front {
    pub(super) fn new(config: &Config, access: Access, metrics: Arc<Metrics>, router: Router) -> Self {
        Self {
            access,
            callers: OnceLock::new(),
            router: TowerToHyperService::new(
                router.route_layer(axum::middleware::from_fn_with_state(Arc::clone(&metrics), note_route)),
            ),
            metrics,
            requests: Semaphore::new(config.requests),
            reading: Semaphore::new(config.requests),
            request_seconds: config.request_seconds,
            request_bytes: config.request_bytes,
        }
    }

    /// Answers one request; never fails and never panics.
    pub(super) async fn answer(&self, peer: IpAddr, request: Request) -> Response {
        let correlation = request_id(request.headers());
        let span = tracing::info_span!("http", correlation);
        let mut response = self.answer_one(peer, request).instrument(span).await;
        // Only letters, digits, dots, dashes and underscores: always a header.
        if let Ok(value) = HeaderValue::from_str(&correlation) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    }

    async fn answer_one(&self, peer: IpAddr, request: Request) -> Response {
        let method = request.method().clone();
        let started = Instant::now();
        let chosen = Chosen::default();
        let open = OPEN.contains(&request.uri().path()) && matches!(*request.method(), Method::GET | Method::HEAD);
        let (mut response, route) = match self.identified(peer, request, open, started).await {
            Err(NotTaken::Problem(problem)) => (problem.into_response(), "refused"),
            Err(NotTaken::Refused(refusal)) => {
                self.metrics.refused.with_label_values(&[refusal.as_str()]).inc();
                // Who is kept out was told of before: whoever guesses must not fill the log.
                if !matches!(refusal, Refusal::TooMany(_)) {
                    tracing::info!(event = event::SECURITY, %peer, why = refusal.as_str(), "a request was refused");
                }
                (Problem::from(refusal).into_response(), "refused")
            }
            Ok(mut request) => {
                request.extensions_mut().insert(chosen.clone());
                let response = self.work(request, open).await.unwrap_or_else(IntoResponse::into_response);
                (response, chosen.0.get().map_or("unmatched", MatchedPath::as_str))
            }
        };
        self.metrics.answered(route, response.status(), started.elapsed());
        harden(response.headers_mut());
        let (status, ms) = (response.status().as_u16(), started.elapsed().as_millis() as u64);
        let changes = !matches!(method, Method::GET | Method::HEAD);
        if status >= 500 || (changes && route != "refused") {
            tracing::info!(event = event::API, %peer, %method, route, status, ms, "request answered");
        } else {
            tracing::debug!(event = event::API, %peer, %method, route, status, ms, "request answered");
        }
        response
    }

    /// The request with who asks and what they may; open ones also when nobody is known.
    async fn identified(
        &self,
        peer: IpAddr,
        mut request: Request,
        open: bool,
        now: Instant,
    ) -> Result<Request, NotTaken> {
        let headers = request.headers();
        let callers = self
            .callers
            .get()
            .filter(|callers| !open && !headers.contains_key(header::AUTHORIZATION) && callers.is_signed(headers));
        if let Some(callers) = callers {
            self.access.may_try(peer, now).map_err(NotTaken::Refused)?;
            let taken = self.signed(callers, peer, request).await;
            if let Err(NotTaken::Refused(_)) = taken {
                self.access.guessed(peer, now);
            }
            return taken;
        }
        let known = self.access.check(peer, headers, now);
        let extensions = request.extensions_mut();
        match known {
            Ok(role) => drop(extensions.insert(Trusted(role))),
            Err(_) if open => {}
            Err(refusal) => return Err(NotTaken::Refused(refusal)),
        }
        extensions.insert(Peer(Who { address: peer, key: None }));
        Ok(request)
    }

    /// The same for a request that is signed: its body has been read then.
    async fn signed(&self, callers: &Callers, peer: IpAddr, request: Request) -> Result<Request, NotTaken> {
        let claim = callers.claim(peer, request.headers()).await?;
        let (mut parts, body) = request.into_parts();
        let read = async {
            let _permit = self.reading.acquire().await;
            axum::body::to_bytes(body, self.request_bytes).await
        };
        let problem = |problem: Problem| NotTaken::Problem(Box::new(problem));
        let body = match timeout(Duration::from_secs(self.request_seconds), read).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => {
                let detail = format!("the body is larger than {} bytes, or it broke off", self.request_bytes);
                return Err(problem(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)));
            }
            Err(_elapsed) => {
                return Err(problem(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")));
            }
        };
        let who = callers.verify(&claim, peer, (&parts.method, &parts.uri, &parts.headers), &body).await?;
        parts.extensions.insert(Trusted(claim.role));
        parts.extensions.insert(Peer(who));
        Ok(Request::from_parts(parts, Body::from(body)))
    }

    async fn work(&self, request: Request, open: bool) -> Result<Response, Problem> {
        let work = async {
            // Probes are never kept waiting: a busy API must not look like a gateway that does not answer mail.
            let _permit = if open { None } else { Some(self.requests.acquire().await) };
            AssertUnwindSafe(self.router.call(request)).catch_unwind().await
        };
        match timeout(Duration::from_secs(self.request_seconds), work).await {
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Err(_panic)) => {
                self.metrics.panics.inc();
                tracing::error!(event = event::API, "a panic was caught while a request was answered");
                Err(Problem::internal())
            }
            Err(_elapsed) => Err(Problem::unavailable(
                format!("no answer within {} s; a release that has begun goes on: look first", self.request_seconds),
                5,
            )),
        }
    }
}

/// The correlation id of a request: the client's own when it can do no harm, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|text| is_correlation(text));
    given.map_or_else(correlation, str::to_owned)
}

/// Notes the route, and refuses whose role is too small for it.
async fn note_route(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let extensions = request.extensions();
    let Some(path) = extensions.get::<MatchedPath>() else { return next.run(request).await };
    if let Some(Chosen(chosen)) = extensions.get::<Chosen>() {
        // Set once: a request meets one route.
        let _ = chosen.set(path.clone());
    }
    // Without any role there is nothing but the open paths.
    let short =
        extensions.get::<Trusted>().is_some_and(|trusted| trusted.0 < callers::needed(request.method(), path.as_str()));
    if short {
        let refusal = Refusal::Role;
        metrics.refused.with_label_values(&[refusal.as_str()]).inc();
        let by = extensions.get::<Peer>().map(|Peer(who)| who.to_string());
        tracing::info!(
            event = event::SECURITY,
            by,
            why = refusal.as_str(),
            route = path.as_str(),
            "a request was refused"
        );
        return Problem::from(refusal).into_response();
    }
    next.run(request).await
}

/// Headers of every answer, unless the route has set its own: nothing is cached, sniffed, framed or run.
fn harden(headers: &mut HeaderMap) {
    const NEEDED: [(HeaderName, HeaderValue); 4] = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
        ),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    for (name, value) in NEEDED {
        headers.entry(name).or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;

    use super::*;

    fn front(config: &Config) -> (Front, prometheus::Registry) {
        let registry = prometheus::Registry::new();
        let metrics = Arc::new(Metrics::new(registry.clone()).unwrap());
        let router = Router::new()
            .route("/panic", get(async || -> Response { panic!("as the test wants it") }))
            .route("/slow/{id}", get(async || std::future::pending::<Response>().await))
            .route("/health", get(async || "fine"));
        let access = Access::new("0123456789abcdef", 3).unwrap();
        (Front::new(config, access, metrics, router), registry)
    }

    async fn get_status(front: &Front, path: &str) -> StatusCode {
        let request = Request::get(path).header("Authorization", "Bearer 0123456789abcdef");
        front.answer([192, 0, 2, 1].into(), request.body(Body::empty()).unwrap()).await.status()
    }

    #[tokio::test]
    async fn a_panic_is_500_and_the_next_request_is_answered() {
        let (front, _) = front(&Config::default());
        assert_eq!(get_status(&front, "/panic").await, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(front.metrics.panics.get(), 1);
        assert_eq!(get_status(&front, "/health").await, StatusCode::OK);
    }

    #[tokio::test]
    async fn an_id_of_the_client_is_kept_when_it_can_do_no_harm() {
        let (front, _) = front(&Config::default());
        let ask = async |id: &'static str| {
            let request = Request::get("/health").header("X-Request-Id", id).body(Body::empty()).unwrap();
            let answer = front.answer([192, 0, 2, 1].into(), request).await;
            answer.headers()[REQUEST_ID].to_str().unwrap().to_owned()
        };
        assert_eq!(ask("deploy-42").await, "deploy-42");
        let made = ask("a b").await;
        assert!(made.len() == 32 && is_correlation(&made), "{made}");
    }

    #[tokio::test]
    async fn a_stuck_request_is_503_and_health_is_not_kept_waiting() {
        let (front, registry) = front(&Config { requests: 1, request_seconds: 1, ..Config::default() });
        let begun = Instant::now();
        let health = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            (get_status(&front, "/health").await, begun.elapsed() < Duration::from_secs(1))
        };
        let (stuck, waiting, health) =
            tokio::join!(get_status(&front, "/slow/1"), get_status(&front, "/slow/2"), health);
        assert_eq!((stuck, waiting), (StatusCode::SERVICE_UNAVAILABLE, StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(health, (StatusCode::OK, true));
        assert!(begun.elapsed() < Duration::from_secs(2), "waiting counts");
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains("mailweir_http_requests_total{class=\"5xx\",route=\"/slow/{id}\"}"), "{text}");
    }
}
