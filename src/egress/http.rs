//! HTTP to third parties, by reqwest over rustls with ring.
//!
//! Bounded by the dependency's deadline and size cap (after decompression). No proxy of the environment, no cookies, no
//! referrer. Redirects are not followed unless allowed, and then each hop is checked like the first: scheme, address, and no
//! step from https to http; what authorises a request does not travel to another host. Names are resolved here and only
//! addresses that passed the fence are connected to, so a name that changes its answer gains nothing.

use std::collections::HashSet;
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::Instant;
use url::{Host, Url};

use super::{Dependency, Failure, Fence, Fenced, Names, Reach, Repeat, parse_retry_after};
use crate::observe::event;

/// Idle connections are closed after this.
const IDLE: Duration = Duration::from_secs(30);

/// Something about HTTP that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The file of certificates cannot be read.
    #[error("cannot read the certificates in {file}: {source}")]
    Roots {
        /// Which.
        file: String,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// TLS refuses the settings.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The library refuses the settings.
    #[error("HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// The certificates that servers are checked against.
#[derive(Debug, Clone)]
pub struct TlsRoots(rustls::ClientConfig);

impl TlsRoots {
    /// Those of the system, and the ones of a PEM file when there is one.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn load(extra: Option<&Path>) -> Result<Self, HttpError> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        if system.certs.is_empty() {
            tracing::warn!(
                event = event::SYSTEM,
                errors = ?system.errors, "the system has no certificates: no public https server is trusted"
            );
        }
        roots.add_parsable_certificates(system.certs);
        if let Some(file) = extra {
            let failed = |source| HttpError::Roots { file: file.display().to_string(), source };
            for certificate in CertificateDer::pem_file_iter(file).map_err(failed)? {
                roots.add(certificate.map_err(failed)?)?;
            }
        }
        // Named, so that it does not matter which provider the process installed.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(config))
    }
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Bytes,
    /// Statuses besides 2xx that are answers.
    answers: &'static [u16],
}

impl Request {
    /// GET.
    pub fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new(), answers: &[] }
    }

    /// HEAD.
    pub fn head(url: Url) -> Self {
        Self { method: Method::HEAD, ..Self::get(url) }
    }

    /// POST of JSON.
    pub fn post_json(url: Url, body: impl Into<Bytes>) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        Self { method: Method::POST, url, headers, body: body.into(), answers: &[] }
    }

    /// PUT of JSON.
    pub fn put_json(url: Url, body: impl Into<Bytes>) -> Self {
        Self { method: Method::PUT, ..Self::post_json(url, body) }
    }

    /// DELETE.
    pub fn delete(url: Url) -> Self {
        Self { method: Method::DELETE, ..Self::get(url) }
    }

    /// With a header of a fixed name and value.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// With headers made at run time, not shown in logs. `None` when one of them cannot stand in a header.
    #[must_use]
    pub fn headers<'h>(mut self, headers: impl IntoIterator<Item = (&'h str, &'h str)>) -> Option<Self> {
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            self.headers.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
        }
        Some(self)
    }

    /// With a bearer token, which is not shown in logs. A token that cannot stand in a header is left out.
    #[must_use]
    pub fn bearer(mut self, token: &str) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}")) {
            value.set_sensitive(true);
            self.headers.insert(AUTHORIZATION, value);
        }
        self
    }

    /// Statuses besides 2xx that are answers, not failures.
    #[must_use]
    pub fn answers(mut self, statuses: &'static [u16]) -> Self {
        self.answers = statuses;
        self
    }
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// 2xx, or one that the request called an answer.
    pub status: u16,
    /// Decompressed.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body read as JSON.
    ///
    /// # Errors
    /// [`Failure::Malformed`].
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(Failure::malformed)
    }
}

/// What stands at a stranger's place.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Any status.
    pub status: u16,
    /// Where it sends on to.
    pub location: Option<Url>,
    /// Whether it says to be a page.
    pub html: bool,
    /// The beginning of the body, decompressed.
    pub start: Vec<u8>,
}

/// HTTP to one dependency.
#[derive(Debug, Clone)]
pub struct HttpClient {
    dependency: Arc<Dependency>,
    client: Client,
    gate: Arc<Gate>,
    redirects: u8,
}

impl HttpClient {
    /// A client. `configured` are hosts that the operator named; `redirects` is how many are followed.
    ///
    /// # Errors
    /// When the library refuses the settings.
    pub fn new(
        dependency: Arc<Dependency>,
        names: Names,
        fence: Fence,
        configured: impl IntoIterator<Item = String>,
        roots: &TlsRoots,
        redirects: u8,
    ) -> Result<Self, HttpError> {
        let configured = configured.into_iter().map(|host| host.to_lowercase()).collect();
        let gate = Arc::new(Gate { names, fence, configured });
        let client = Client::builder()
            .tls_backend_preconfigured(roots.0.clone())
            .dns_resolver(Arc::clone(&gate))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(dependency.config().deadline())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(dependency.config().concurrent as usize)
            .user_agent(concat!("mailweir/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { dependency, client, gate, redirects })
    }

    /// The dependency that is asked.
    pub fn dependency(&self) -> &Arc<Dependency> {
        &self.dependency
    }

    /// Sends a request; `read` makes the answer of it, so that an answer it cannot read counts as a failure.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn call<T>(
        &self,
        repeat: Repeat,
        until: Option<Instant>,
        request: &Request,
        read: impl Fn(Answer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let read = &read;
        self.dependency.call(repeat, until, |_| async move { read(self.exchange(request).await?) }).await
    }

    /// Looks at a stranger's place: every status is an answer, no redirect is followed, and of the body no more than
    /// `max_bytes` are read. That a place does not answer in time or at all says nothing of the others: it does not count
    /// for the breaker.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn visit(&self, until: Instant, request: &Request, max_bytes: usize) -> Result<Visit, Failure> {
        let attempt = async |cut: Instant| {
            let left = cut.saturating_duration_since(Instant::now());
            // A little less than what the dependency gives: there it would count.
            let looked = tokio::time::timeout(left.mul_f64(0.9), self.look(request, max_bytes)).await;
            Ok(looked.unwrap_or_else(|_| Err(Failure::timeout(left))))
        };
        self.dependency.call(Repeat::Never, Some(until), attempt).await?
    }

    async fn look(&self, request: &Request, max_bytes: usize) -> Result<Visit, Failure> {
        self.gate.check(&request.url)?;
        let sent = self.client.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
        let mut response = sent.send().await.map_err(|error| self.failure(error))?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let (status, location) = (response.status().as_u16(), target(&response, &request.url));
        let html = kind.to_ascii_lowercase().contains("html");
        let mut start = Vec::new();
        while start.len() < max_bytes && location.is_none() {
            // What broke off is looked at as far as it came.
            let Ok(Some(chunk)) = response.chunk().await else { break };
            start.extend_from_slice(&chunk[..chunk.len().min(max_bytes - start.len())]);
        }
        Ok(Visit { status, location, html, start })
    }

    async fn exchange(&self, request: &Request) -> Result<Answer, Failure> {
        let mut url = request.url.clone();
        let mut headers = request.headers.clone();
        let mut hops = 0;
        loop {
            self.gate.check(&url)?;
            let sent = self.client.request(request.method.clone(), url.clone()).headers(headers.clone());
            let response = sent.body(request.body.clone()).send().await.map_err(|error| self.failure(error))?;
            let status = response.status();
            if status.is_success() || request.answers.contains(&status.as_u16()) {
                return Ok(Answer { status: status.as_u16(), body: self.body(response).await? });
            }
            let next = target(&response, &url).filter(|_| hops < self.redirects && request.method == Method::GET);
            let Some(next) = next else { return Err(refused(&response)) };
            if url.scheme() == "https" && next.scheme() != "https" {
                let place = next.host_str().unwrap_or_default().to_owned();
                return Err(Fenced { place, why: "a redirect from https to http" }.into());
            }
            if next.origin() != url.origin() {
                headers.remove(AUTHORIZATION);
            }
            url = next;
            hops += 1;
        }
    }

    fn failure(&self, error: reqwest::Error) -> Failure {
        // Of the library's own times there is one, for connecting.
        if error.is_timeout() { Failure::timeout(self.dependency.config().deadline()) } else { failure(error) }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let limit = self.dependency.config().max_answer_bytes;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure(error))? {
            if body.len() + chunk.len() > limit {
                return Err(Failure::TooLarge { limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Where a redirect leads; `None` for anything else.
fn target(response: &Response, from: &Url) -> Option<Url> {
    let redirects = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    let place = response.headers().get(LOCATION)?.to_str().ok()?;
    redirects.contains(&response.status()).then(|| from.join(place).ok())?
}

fn refused(response: &Response) -> Failure {
    let told = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = told.and_then(|value| parse_retry_after(value, SystemTime::now()));
    Failure::Status { code: response.status().as_u16(), retry_after }
}

/// What the library's error is about. Its text names the URL, which may hold a key: it is not kept.
fn failure(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(at) = cause {
        if let Some(failure) = at.downcast_ref::<Failure>() {
            return failure.clone();
        }
        if at.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return Failure::malformed(at);
        }
        if let Some(io) = at.downcast_ref::<io::Error>() {
            // The library wraps what it gets in errors of its own kind.
            if let Some(failure) = io.get_ref().and_then(|inner| inner.downcast_ref::<Failure>()) {
                return failure.clone();
            }
        }
        cause = at.source();
    }
    if error.is_decode() {
        return Failure::malformed(error);
    }
    Failure::unreachable(io::Error::other(innermost(&error).to_string()))
}

/// What it came from in the end: a certificate, a connection refused. The library's own words are the same for all.
fn innermost<'e>(mut error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}

/// Lets only those addresses through that may be connected to.
#[derive(Clone)]
struct Gate {
    names: Names,
    fence: Fence,
    configured: HashSet<String>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("configured", &self.configured).finish_non_exhaustive()
    }
}

impl Gate {
    fn reach(&self, host: &str) -> Reach {
        let known = self.configured.contains(host.trim_matches(['[', ']']));
        if known { Reach::Configured } else { Reach::Public }
    }

    /// Scheme, and the address when the URL names one: the library connects to those without asking a resolver.
    fn check(&self, url: &Url) -> Result<(), Failure> {
        let fenced = |why| Fenced { place: url.host_str().unwrap_or_default().to_owned(), why };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(fenced("neither http nor https").into());
        }
        let address = match url.host() {
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(fenced("no host").into()),
        };
        let reach = self.reach(url.host_str().unwrap_or_default());
        Ok(self.fence.check(address, reach)?)
    }
}

impl Resolve for Gate {
    fn resolve(&self, name: Name) -> Resolving {
        let gate = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_lowercase();
            let addresses = allowed(&gate.names, &gate.fence, &host, gate.reach(&host)).await?;
            let addresses: Addrs = Box::new(addresses.into_iter().map(|ip| (ip, 0).into()));
            Ok(addresses)
        })
    }
}

/// The addresses of a host that may be connected to.
///
/// # Errors
/// When it has none, none that is allowed, or could not be asked about.
pub(super) async fn allowed(names: &Names, fence: &Fence, host: &str, reach: Reach) -> Result<Vec<IpAddr>, Failure> {
    let found = match host.parse() {
        Ok(literal) => vec![literal],
        Err(_) => names.addresses(host).await?,
    };
    let mut fenced = None;
    let mut pass = |ip: &IpAddr| fence.check(*ip, reach).map_err(|why| fenced = Some(why)).is_ok();
    let passed: Vec<IpAddr> = found.into_iter().filter(|ip| pass(ip)).collect();
    match (passed.is_empty(), fenced) {
        (false, _) => Ok(passed),
        (true, Some(Fenced { why, .. })) => Err(Fenced { place: host.to_owned(), why }.into()),
        (true, None) => Err(Failure::unreachable(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))),
    }
}
