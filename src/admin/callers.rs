//! Who signs a request instead of showing the token: keys of `[signing]` that `http.callers` allows, each with a role.
//!
//! Whether a key may ask at all is looked at before the body is read. The keys are read anew for each request: a rotation counts at
//! once. A stranger is told a class (`stale`, `signature`, `replayed`); what exactly was wrong is in the log. What only our memory
//! is too short for is not held against the caller: 503.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use axum::http::{HeaderMap, Method, Uri};

use super::AdminError;
use super::access::Refusal;
use super::config::Role;
use super::problem::Problem;
use crate::enforcement::signing::{Asked, Keys, NonceError, SignatureError, SigningConfig, SiteNonces, Verifier};
use crate::observe::event;

/// How far a caller's clock may be ahead: else what was signed with a later time could be shown again after a restart, or after
/// Redis lost its memory.
const AHEAD_MS: i64 = 2_000;
/// Every key that is good.
const ANY: &str = "*";

/// Routes beyond reading that `respond` may use.
pub(super) const RESPONSES: [&str; 4] = [
    "/api/v1/alerts/silences",
    "/api/v1/alerts/silences/{id}",
    "/api/v1/alerts/acknowledgements",
    "/api/v1/messages/{id}/second-look",
];

/// Routes that tell of the gateway alone, of no mail.
const MEASURED: [&str; 8] = [
    "/alive",
    "/ready",
    "/health",
    "/health/full",
    "/health/metrics",
    "/metrics",
    "/metrics/summary",
    "/metrics/snapshots",
];

/// The least role for a route, by its template.
pub(super) fn needed(method: &Method, route: &str) -> Role {
    // Whoever sees what is held sees mail.
    let held = route.starts_with("/api/v1/quarantine/");
    match matches!(*method, Method::GET | Method::HEAD) {
        true if MEASURED.contains(&route) => Role::Metrics,
        true if !held => Role::Read,
        false if RESPONSES.contains(&route) => Role::Respond,
        _ => Role::Admin,
    }
}

/// Somebody who asks, for the log: an address, and the key if one was signed with.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) address: IpAddr,
    pub(super) key: Option<String>,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "key {key} from {}", self.address),
            None => self.address.fmt(f),
        }
    }
}

/// Why a signed request is not taken.
pub(super) enum NotTaken {
    /// It is not good.
    Refused(Refusal),
    /// It cannot be told, or not be read.
    Problem(Box<Problem>),
}

/// Whether each of them can be a key.
///
/// # Errors
/// Names the one that cannot.
pub(super) fn check(allowed: &BTreeMap<String, Role>) -> Result<(), AdminError> {
    let named = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let odd = allowed.keys().find(|id| *id != ANY && !named(id));
    odd.map_or(Ok(()), |odd| Err(AdminError::Caller(odd.clone())))
}

/// Those who may ask by signing.
pub(super) struct Callers {
    allowed: BTreeMap<String, Role>,
    signing: SigningConfig,
    key_file: PathBuf,
    verifier: Verifier<SiteNonces>,
}

impl Callers {
    /// These; the keys are made if there are none yet.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub(super) fn new(
        allowed: BTreeMap<String, Role>,
        signing: &SigningConfig,
        data: &Path,
    ) -> Result<Self, AdminError> {
        check(&allowed)?;
        let key_file = Keys::file(signing, data);
        Keys::load(&key_file, signing, now_ms())?;
        let verifier = Verifier::new(signing, SiteNonces::new(signing)?);
        Ok(Self { allowed, signing: signing.clone(), key_file, verifier })
    }

    /// Lets what remembers nonces begin.
    pub(super) async fn prepare(&self) {
        self.verifier.nonces().prepare(now_ms()).await;
    }

    /// Whether a request says that it is signed.
    pub(super) fn is_signed(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(self.name("Signature"))
    }

    /// Keys, and the role of the one that the request names; nothing is verified yet.
    pub(super) async fn claim(&self, who: IpAddr, headers: &HeaderMap) -> Result<Claim, NotTaken> {
        let now_ms = now_ms();
        let id = self.value(headers, "Key-Id").unwrap_or_default();
        let Some(role) = self.allowed.get(id).or_else(|| self.allowed.get(ANY)).copied() else {
            return Err(self.refused(who, None, &SignatureError::UnknownKey));
        };
        let (file, signing) = (self.key_file.clone(), self.signing.clone());
        // Files may hang; the threads that answer mail must not.
        let loaded = tokio::task::spawn_blocking(move || Keys::load(&file, &signing, now_ms)).await;
        let keys = match loaded {
            Ok(Ok(keys)) => keys,
            Ok(Err(error)) => return Err(cannot_tell(&error)),
            Err(error) => return Err(cannot_tell(&error)),
        };
        if keys.verifying(id, now_ms).is_none() {
            return Err(self.refused(who, None, &SignatureError::UnknownKey));
        }
        let signed_ms = self.value(headers, "Timestamp").and_then(|text| text.parse::<i64>().ok()?.checked_mul(1_000));
        if let Some(signed_ms) = signed_ms.filter(|at| *at > now_ms + AHEAD_MS) {
            let seconds = now_ms.abs_diff(signed_ms) / 1_000;
            return Err(self.refused(who, Some(id), &SignatureError::Stale { seconds }));
        }
        Ok(Claim { keys, role })
    }

    /// Verifies a request with its whole body; gives who asks.
    pub(super) async fn verify(
        &self,
        claim: &Claim,
        address: IpAddr,
        (method, uri, headers): (&Method, &Uri, &HeaderMap),
        body: &[u8],
    ) -> Result<Who, NotTaken> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let asked = Asked { method: method.as_str(), path, body };
        let header = |name: &str| one(headers, name);
        match self.verifier.verify(&claim.keys, &asked, header, now_ms()).await {
            Ok(key) => Ok(Who { address, key: Some(key) }),
            Err(SignatureError::Nonces(error)) => Err(not_remembered(&error)),
            Err(error) => Err(self.refused(address, self.value(headers, "Key-Id"), &error)),
        }
    }

    fn refused(&self, peer: IpAddr, key: Option<&str>, error: &SignatureError) -> NotTaken {
        tracing::info!(event = event::SECURITY, %peer, key, %error, "a signature is not good");
        NotTaken::Refused(match error {
            SignatureError::Stale { .. } => Refusal::Stale,
            SignatureError::Replayed => Refusal::Replayed,
            _ => Refusal::Signature,
        })
    }

    fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.signing.header_prefix)
    }

    fn value<'h>(&self, headers: &'h HeaderMap, what: &str) -> Option<&'h str> {
        one(headers, &self.name(what))
    }
}

/// What a request claims before it is verified.
pub(super) struct Claim {
    keys: Keys,
    /// What the key may.
    pub(super) role: Role,
}

/// The one value of a header.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn cannot_tell(error: &dyn fmt::Display) -> NotTaken {
    unverified(error, "signatures cannot be verified at the moment")
}

fn not_remembered(error: &NonceError) -> NotTaken {
    let before = "forgotten: what this gateway remembers of signed requests begins after this one was signed (its start, a Redis \
         that lost its memory, a clock of ours that was ahead): whether it came before cannot be told; sign anew";
    if *error == NonceError::Before { unverified(error, before) } else { cannot_tell(error) }
}

fn unverified(error: &dyn fmt::Display, told: &str) -> NotTaken {
    tracing::warn!(event = event::SECURITY, %error, "a signature cannot be verified");
    NotTaken::Problem(Box::new(Problem::unavailable(told, 5)))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_needs_the_most() {
        for (method, route, role) in [
            (Method::GET, "/api/v1/messages/{id}", Role::Read),
            (Method::HEAD, "/metrics", Role::Metrics),
            (Method::GET, "/health/full", Role::Metrics),
            (Method::POST, "/metrics", Role::Admin),
            (Method::GET, "/api/v1/quarantine", Role::Read),
            (Method::GET, "/api/v1/quarantine/{id}/raw", Role::Admin),
            (Method::POST, "/api/v1/alerts/acknowledgements", Role::Respond),
            (Method::POST, "/api/v1/quarantine/{id}/release", Role::Admin),
            (Method::PUT, "/api/v1/logging", Role::Admin),
            (Method::POST, "/api/v2/anything", Role::Admin),
        ] {
            assert_eq!(needed(&method, route), role, "{method} {route}");
        }
        assert!(Role::Metrics < Role::Read && Role::Read < Role::Respond && Role::Respond < Role::Admin);
    }
}
