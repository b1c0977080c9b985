//! Who may ask: bearer tokens (RFC 6750, 2.1: header only, never the query), one for everything and one for metrics and health,
//! and a bound on guessing. Who signs instead is known to `callers`.
//!
//! Only the tokens' hashes are kept, and hashes are compared in constant time: neither time nor a core dump tells the token.
//! Wrong tokens are counted by address; an address over the limit is refused whatever it sends, or the limit would not keep
//! it from guessing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::AdminError;
use super::config::Role;
use super::problem::Problem;
use crate::observe::event;

/// Shortest token taken, in characters: 16 of base 64 are 96 bits.
const TOKEN_MIN: usize = 16;
/// The time over which wrong tokens are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses counted at a time. When more than that guess within a minute, counting begins anew.
const ADDRESSES_MAX: usize = 4_096;

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No token, or several, or another scheme.
    Missing,
    /// Not the token.
    Wrong,
    /// Too many wrong tokens; seconds until the next try.
    TooMany(u64),
    /// Signed too long ago, or ahead of our time.
    Stale,
    /// Not signed with a key that may ask; which of key, body and signature is wrong is not told.
    Signature,
    /// Signed, but the nonce was used before.
    Replayed,
    /// Signed, by somebody who may less.
    Role,
}

impl Refusal {
    /// The word in the metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::TooMany(_) => "too_many",
            Self::Stale => "stale",
            Self::Signature => "signature",
            Self::Replayed => "replayed",
            Self::Role => "role",
        }
    }

    /// The words of all.
    pub(super) const WORDS: [&str; 7] = ["missing", "wrong", "too_many", "stale", "signature", "replayed", "role"];
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Missing => Self::new(StatusCode::UNAUTHORIZED, "send the token: `Authorization: Bearer TOKEN`"),
            Refusal::Wrong => Self::new(StatusCode::UNAUTHORIZED, "this is not the token of this gateway"),
            Refusal::TooMany(seconds) => Self {
                retry_seconds: Some(seconds),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens from this address; wait a minute")
            },
            Refusal::Stale => {
                Self::new(StatusCode::UNAUTHORIZED, "stale: the time of the signature is not ours; sign anew")
            }
            Refusal::Signature => {
                Self::new(StatusCode::UNAUTHORIZED, "signature: this is not signed by one who may ask")
            }
            Refusal::Replayed => Self::new(StatusCode::UNAUTHORIZED, "replayed: this came before; sign anew"),
            Refusal::Role => Self::new(StatusCode::FORBIDDEN, "role: the key may not ask for this (http.callers)"),
        }
    }
}

struct Failures {
    since: Instant,
    count: u32,
}

/// The guard before everything but health.
pub(super) struct Access {
    token: [u8; 32],
    /// Of whoever may see metrics and health, and nothing else.
    metrics: OnceLock<[u8; 32]>,
    limit: u32,
    failures: Mutex<HashMap<IpAddr, Failures>>,
}

impl Access {
    pub(super) fn new(token: &str, failed_tokens_per_minute: u32) -> Result<Self, AdminError> {
        let (token, metrics) = (hashed(token)?, OnceLock::new());
        Ok(Self { token, metrics, limit: failed_tokens_per_minute, failures: Mutex::default() })
    }

    /// Lets whoever has this token see metrics and health.
    pub(super) fn allow_metrics(&self, token: &str) -> Result<(), AdminError> {
        // Set once: nobody asks yet.
        let _ = self.metrics.set(hashed(token)?);
        Ok(())
    }

    /// Whether a request with these headers may pass, and what it may.
    pub(super) fn check(&self, peer: IpAddr, headers: &HeaderMap, now: Instant) -> Result<Role, Refusal> {
        let peer = subscriber(peer);
        let token = bearer(headers).ok_or(Refusal::Missing)?;
        self.blocked(peer, now)?;
        let given: [u8; 32] = Sha256::digest(token).into();
        let is = |token: &[u8; 32]| {
            let differ = given.iter().zip(token).fold(0, |differ, (a, b)| differ | (a ^ b));
            std::hint::black_box(differ) == 0
        };
        match (is(&self.token), self.metrics.get().is_some_and(is)) {
            (true, _) => return Ok(Role::Admin),
            (_, true) => return Ok(Role::Metrics),
            _ => {}
        }
        self.count(peer, now);
        Err(Refusal::Wrong)
    }

    /// Refuses whoever has guessed too often.
    pub(super) fn may_try(&self, peer: IpAddr, now: Instant) -> Result<(), Refusal> {
        self.blocked(subscriber(peer), now)
    }

    /// Takes note of a wrong signature.
    pub(super) fn guessed(&self, peer: IpAddr, now: Instant) {
        self.count(subscriber(peer), now);
    }

    fn blocked(&self, peer: IpAddr, now: Instant) -> Result<(), Refusal> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(failed) = failures.get(&peer).filter(|failed| failed.count >= self.limit) else { return Ok(()) };
        match WINDOW.checked_sub(now.saturating_duration_since(failed.since)) {
            Some(rest) if !rest.is_zero() => Err(Refusal::TooMany(rest.as_secs() + 1)),
            _ => Ok(()),
        }
    }

    fn count(&self, peer: IpAddr, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= ADDRESSES_MAX && !failures.contains_key(&peer) {
            failures.retain(|_, failed| now.saturating_duration_since(failed.since) < WINDOW);
            if failures.len() >= ADDRESSES_MAX {
                failures.clear();
            }
        }
        let failed = failures.entry(peer).or_insert(Failures { since: now, count: 0 });
        if now.saturating_duration_since(failed.since) >= WINDOW {
            *failed = Failures { since: now, count: 0 };
        }
        failed.count += 1;
        if failed.count == self.limit {
            tracing::warn!(
                event = event::SECURITY,
                %peer, "too many wrong admin tokens or signatures from this address: refused until the minute is over"
            );
        }
    }
}

fn hashed(token: &str) -> Result<[u8; 32], AdminError> {
    let fits = token.len() >= TOKEN_MIN && token.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(Sha256::digest(token).into()) } else { Err(AdminError::Token(TOKEN_MIN)) }
}

/// The token of the one `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let one = values.next().is_none() && scheme.eq_ignore_ascii_case("Bearer");
    one.then(|| token.trim_matches(' ')).filter(|token| !token.is_empty())
}

/// Who counts as one: an IPv4 address, or the /64 that an IPv6 subscriber has.
fn subscriber(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdefABCDEF";

    fn with(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::AUTHORIZATION, value.parse().unwrap())).collect()
    }

    fn peer(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_token_passes() {
        let access = Access::new(TOKEN, 1_000).unwrap();
        let metrics = with(&["Bearer metrics-metrics-metrics"]);
        assert_eq!(access.check(peer("192.0.2.1"), &metrics, Instant::now()), Err(Refusal::Wrong), "nobody may yet");
        access.allow_metrics("metrics-metrics-metrics").unwrap();
        assert_eq!(access.check(peer("192.0.2.1"), &metrics, Instant::now()), Ok(Role::Metrics));
        let good = format!("Bearer {TOKEN}");
        let cases: &[(&[&str], Result<Role, Refusal>)] = &[
            (&[&good], Ok(Role::Admin)),
            (&[&good.replace("Bearer", "bEARER")], Ok(Role::Admin)),
            (&[&good.replace(' ', "  ")], Ok(Role::Admin)),
            (&[], Err(Refusal::Missing)),
            (&[""], Err(Refusal::Missing)),
            (&["Bearer"], Err(Refusal::Missing)),
            (&["Bearer "], Err(Refusal::Missing)),
            (&[TOKEN], Err(Refusal::Missing)),
            (&[&good.replace("Bearer", "Basic")], Err(Refusal::Missing)),
            (&[&good, &good], Err(Refusal::Missing)),
            (&[&good[..good.len() - 1]], Err(Refusal::Wrong)),
            (&[&format!("{good}F")], Err(Refusal::Wrong)),
            (&[&good.to_lowercase()], Err(Refusal::Wrong)),
            (&[&format!("Bearer {TOKEN} {TOKEN}")], Err(Refusal::Wrong)),
        ];
        for (values, expected) in cases {
            assert_eq!(access.check(peer("192.0.2.1"), &with(values), Instant::now()), *expected, "{values:?}");
        }
    }

    #[test]
    fn guessing_is_bounded_by_address_and_minute() {
        let access = Access::new(TOKEN, 3).unwrap();
        let (good, bad) = (with(&[&format!("Bearer {TOKEN}")]), with(&["Bearer nonsense"]));
        let start = Instant::now();
        let at = |seconds, from: &str, headers| access.check(peer(from), headers, start + Duration::from_secs(seconds));
        let check = |from: &str, headers| at(0, from, headers);
        for _ in 0..3 {
            assert_eq!(check("2001:db8::1", &bad), Err(Refusal::Wrong));
        }
        assert_eq!(check("2001:db8::2", &bad), Err(Refusal::TooMany(61)), "the same /64");
        assert!(matches!(check("2001:db8::1", &good), Err(Refusal::TooMany(_))), "even with the token");
        assert_eq!(check("2001:db8:0:1::1", &good), Ok(Role::Admin), "others are not kept out");
        assert_eq!(check("192.0.2.1", &good), Ok(Role::Admin));
        assert!(matches!(at(59, "2001:db8::1", &good), Err(Refusal::TooMany(2))));
        assert_eq!(at(60, "2001:db8::1", &good), Ok(Role::Admin));
        assert_eq!(at(60, "2001:db8::1", &bad), Err(Refusal::Wrong), "counted anew");
        assert_eq!(at(60, "2001:db8::1", &good), Ok(Role::Admin));
    }

    #[test]
    fn many_addresses_take_bounded_memory() {
        let access = Access::new(TOKEN, 3).unwrap();
        for ip in 0..10_000u32 {
            let _ = access.check(IpAddr::V4(ip.into()), &with(&["Bearer nonsense"]), Instant::now());
        }
        assert!(access.failures.lock().unwrap().len() <= ADDRESSES_MAX);
    }

    #[test]
    fn poor_tokens_are_refused() {
        for token in ["", "short", "with a space in it, long", "with-ünsendable-letters", "line\nend-long-enough"] {
            assert!(matches!(Access::new(token, 1), Err(AdminError::Token(_))), "{token}");
        }
    }
}
