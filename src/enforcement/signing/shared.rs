//! Used nonces in Redis, for gateways that share their callers.
//!
//! | key | type | holds |
//! | --- | --- | --- |
//! | `mailweir:nonces` | sorted set | `KEY:NONCE` by the time until which it is good; `since`, by the negative of the time from which on all are remembered |
//!
//! All in one key without an end: Redis loses or evicts all of it or nothing. Who finds no `since` writes it, three seconds ahead,
//! and what was signed before that is refused: it may have been taken before Redis lost its memory. Who forgets something moves it
//! behind that; who finds it more than three seconds ahead sets it back to that, for a clock was wrong (see `nonces`). Times are the
//! gateways': clocks may differ by a second, those of one site have the same `max_age_seconds`. A snapshot from before the loss, or
//! a replica that lacks the last writes, is not noticed.
//!
//! While Redis does not answer nothing is taken for signed: what cannot be told could be a replay.

use std::time::Duration;

use redis::Script;

use super::nonces::beginning;
use super::{Life, MemoryNonces, NonceError, Nonces, SigningConfig};
use crate::deferred::{LinkUse, QueueError, RedisAddress, RedisLink};

const LINK: LinkUse =
    LinkUse { setting: "signing.nonces_url", without: "no signed request is taken meanwhile", keeps: true };
const KEY: &str = "mailweir:nonces";

/// A clock of another gateway may be behind: so much longer than its signature is good a nonce is remembered.
const BEHIND_MS: i64 = 1_000;

/// `KEYS[1]`, since when if that begins now, and then, for a use: the nonce, when it was signed, until when it is good, now.
/// 1: first use; 0: used before; 2: signed before anything is remembered.
const USE_ONCE: &str = "
local found = redis.call('ZSCORE', KEYS[1], 'since')
local since = found and -tonumber(found) or tonumber(ARGV[1])
if ARGV[2] then
  local over = redis.call('ZREVRANGEBYSCORE', KEYS[1], '(' .. ARGV[5], 0, 'WITHSCORES', 'LIMIT', 0, 1)[2]
  if over then
    since = math.max(since, tonumber(over) - (tonumber(ARGV[4]) - tonumber(ARGV[3])) + 1)
    redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, '(' .. ARGV[5])
  end
end
since = math.min(since, tonumber(ARGV[1]))
if since ~= -tonumber(found or 0) then
  redis.call('ZADD', KEYS[1], string.format('%.0f', -since), 'since')
end
if not ARGV[2] then return 1 end
if tonumber(ARGV[3]) < since then return 2 end
return redis.call('ZADD', KEYS[1], 'NX', ARGV[4], ARGV[2])";

/// Nonces in Redis.
#[derive(Debug)]
pub struct RedisNonces {
    link: RedisLink,
    use_once: Script,
}

impl RedisNonces {
    /// Reads the address and the certificates; nothing is connected yet.
    ///
    /// # Errors
    /// When they are not understood.
    pub fn new(address: RedisAddress<'_>, deadline: Duration) -> Result<Self, QueueError> {
        Ok(Self { link: RedisLink::new(address, deadline, LINK)?, use_once: Script::new(USE_ONCE) })
    }
}

impl Nonces for RedisNonces {
    async fn first_use(&self, nonce: &str, life: Life, now_ms: i64) -> Result<bool, NonceError> {
        let mut call = self.use_once.prepare_invoke();
        call.key(KEY).arg(beginning(now_ms)).arg(nonce).arg(life.signed_ms);
        call.arg(life.until_ms.max(0).saturating_add(BEHIND_MS)).arg(now_ms.max(0));
        match self.link.run::<i64>("use a nonce", &call).await {
            Ok(2) => Err(NonceError::Before),
            used => used.map(|first| first == 1).map_err(|error| NonceError::Silent(error.to_string())),
        }
    }
}

/// Nonces as the settings say.
#[derive(Debug)]
pub enum SiteNonces {
    /// This gateway has callers of its own.
    Memory(MemoryNonces),
    /// Gateways share them.
    Redis(Box<RedisNonces>),
}

impl SiteNonces {
    /// In Redis where `nonces_url` is set, else in memory.
    ///
    /// # Errors
    /// When the address or its certificates are not understood.
    pub fn new(config: &SigningConfig) -> Result<Self, QueueError> {
        let address = config.nonces_address()?;
        if address.is_empty() {
            return Ok(Self::Memory(MemoryNonces::new(config.max_nonces)));
        }
        let deadline = Duration::from_millis(config.nonces_ms);
        let address = RedisAddress {
            url: &address,
            ca_file: config.nonces_ca_file.as_deref(),
            cert_file: config.nonces_cert_file.as_deref(),
            key_file: config.nonces_key_file.as_deref(),
        };
        Ok(Self::Redis(Box::new(RedisNonces::new(address, deadline)?)))
    }
}

impl SiteNonces {
    /// Lets the memory begin, where it has not: so that the first request is not refused for that. A Redis that does not answer
    /// begins with the first use.
    pub async fn prepare(&self, now_ms: i64) {
        let nonces = match self {
            Self::Memory(nonces) => return nonces.prepare(now_ms),
            Self::Redis(nonces) => nonces,
        };
        let mut call = nonces.use_once.prepare_invoke();
        call.key(KEY).arg(beginning(now_ms));
        // Logged by the connection.
        let _ = nonces.link.run::<i64>("begin to remember nonces", &call).await;
    }
}

impl Nonces for SiteNonces {
    async fn first_use(&self, nonce: &str, life: Life, now_ms: i64) -> Result<bool, NonceError> {
        match self {
            Self::Memory(nonces) => nonces.first_use(nonce, life, now_ms).await,
            Self::Redis(nonces) => nonces.first_use(nonce, life, now_ms).await,
        }
    }
}
