//! Used nonces in Redis, for gateways that share their callers: each is a key that expires by itself.
//!
//! While Redis does not answer nothing is taken for signed: what cannot be told could be a replay.

use std::time::Duration;

use redis::Script;

use super::{MemoryNonces, NonceError, Nonces, SigningConfig};
use crate::deferred::{LinkUse, QueueError, RedisAddress, RedisLink};

const LINK: LinkUse =
    LinkUse { setting: "signing.nonces_url", without: "no signed request is taken meanwhile", keeps: true };

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
        let use_once = "return redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[1]) and 1 or 0";
        Ok(Self { link: RedisLink::new(address, deadline, LINK)?, use_once: Script::new(use_once) })
    }
}

impl Nonces for RedisNonces {
    async fn first_use(&self, nonce: &str, until_ms: i64, now_ms: i64) -> Result<bool, NonceError> {
        let mut call = self.use_once.prepare_invoke();
        // A clock of another gateway may be behind: a second more than that a signature is good.
        call.key(format!("mailweir:nonce:{nonce}")).arg(until_ms.saturating_sub(now_ms).max(0).saturating_add(1_000));
        let used = self.link.run::<i64>("use a nonce", &call).await;
        used.map(|first| first == 1).map_err(|error| NonceError::Silent(error.to_string()))
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

impl Nonces for SiteNonces {
    async fn first_use(&self, nonce: &str, until_ms: i64, now_ms: i64) -> Result<bool, NonceError> {
        match self {
            Self::Memory(nonces) => nonces.first_use(nonce, until_ms, now_ms).await,
            Self::Redis(nonces) => nonces.first_use(nonce, until_ms, now_ms).await,
        }
    }
}
