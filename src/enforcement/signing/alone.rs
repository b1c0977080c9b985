//! Nonces of a build that has no Redis in it: each gateway remembers its own.

use super::{Life, MemoryNonces, NonceError, Nonces, SigningConfig};
use crate::deferred::QueueError;

/// Nonces as the settings say.
#[derive(Debug)]
pub enum SiteNonces {
    /// This gateway has callers of its own.
    Memory(MemoryNonces),
}

impl SiteNonces {
    /// In memory.
    ///
    /// # Errors
    /// When the settings want them in Redis.
    pub fn new(config: &SigningConfig) -> Result<Self, QueueError> {
        let address = config.nonces_address()?;
        if address.is_empty() {
            return Ok(Self::Memory(MemoryNonces::new(config.max_nonces)));
        }
        let place = address.split("://").next().unwrap_or_default().to_owned();
        Err(QueueError::Address { setting: "signing.nonces_url", place, why: "this build has no Redis in it".into() })
    }
}

impl SiteNonces {
    /// Lets the memory begin, so that the first request is not refused for that.
    #[allow(clippy::unused_async, reason = "it waits in a build with Redis")]
    pub async fn prepare(&self, now_ms: i64) {
        let Self::Memory(nonces) = self;
        nonces.prepare(now_ms);
    }
}

impl Nonces for SiteNonces {
    async fn first_use(&self, nonce: &str, life: Life, now_ms: i64) -> Result<bool, NonceError> {
        let Self::Memory(nonces) = self;
        nonces.first_use(nonce, life, now_ms).await
    }
}
