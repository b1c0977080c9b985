//! Which nonces were used: each counts once while its signature could still be good.
//!
//! In memory it is bounded and refuses when it is full of nonces that could still come again, for what it forgot could be
//! replayed. Gateways that share their callers need a shared one: [`super::SiteNonces`].

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Whether a nonce was used before cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NonceError {
    /// More than can be remembered.
    #[error("too many signed requests at once: whether this one came before cannot be told")]
    Full,
    /// Signed before what is remembered begins.
    #[error("signed before anything is remembered: whether this request came before cannot be told")]
    Before,
    /// Where they are remembered nobody answers.
    #[error("whether this request came before cannot be told: {0}")]
    Silent(String),
}

/// When a request was signed, and until when its signature is good; milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// When it was signed.
    pub signed_ms: i64,
    /// Until when it is good.
    pub until_ms: i64,
}

/// Remembers used nonces.
pub trait Nonces: Send + Sync {
    /// Whether it was not used before; it is from now on, until the end of its life at least.
    ///
    /// # Errors
    /// When that cannot be told.
    fn first_use(&self, nonce: &str, life: Life, now_ms: i64) -> impl Future<Output = Result<bool, NonceError>> + Send;
}

/// Nonces in memory.
#[derive(Debug)]
pub struct MemoryNonces {
    most: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    known: HashSet<String>,
    /// In the order of use; lifetimes are nearly the same, so the front expires first.
    queue: VecDeque<(i64, String)>,
}

impl MemoryNonces {
    /// At most so many.
    pub fn new(most: usize) -> Self {
        Self { most, used: Mutex::default() }
    }
}

impl Nonces for MemoryNonces {
    async fn first_use(&self, nonce: &str, life: Life, now_ms: i64) -> Result<bool, NonceError> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let Used { known, queue } = &mut *used;
        while let Some((_, old)) = queue.pop_front_if(|(until, _)| *until < now_ms) {
            known.remove(&old);
        }
        if known.contains(nonce) {
            return Ok(false);
        }
        if known.len() >= self.most {
            return Err(NonceError::Full);
        }
        known.insert(nonce.to_owned());
        queue.push_back((life.until_ms, nonce.to_owned()));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bounded_and_forgetful_only_of_what_is_over() {
        let nonces = MemoryNonces::new(2);
        let until = |until_ms| Life { signed_ms: 0, until_ms };
        assert_eq!(nonces.first_use("a", until(10), 0).await, Ok(true));
        assert_eq!(nonces.first_use("a", until(10), 5).await, Ok(false));
        assert_eq!(nonces.first_use("b", until(15), 5).await, Ok(true));
        assert_eq!(nonces.first_use("c", until(20), 10).await, Err(NonceError::Full));
        assert_eq!(nonces.first_use("c", until(20), 11).await, Ok(true), "a is over");
        assert_eq!(nonces.first_use("b", until(20), 11).await, Ok(false));
    }
}
