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
    /// Where they are remembered nobody answers.
    #[error("whether this request came before cannot be told: {0}")]
    Silent(String),
}

/// Remembers used nonces.
pub trait Nonces: Send + Sync {
    /// Whether it was not used before; it is from now on, until `until_ms` at least.
    ///
    /// # Errors
    /// When that cannot be told.
    fn first_use(
        &self,
        nonce: &str,
        until_ms: i64,
        now_ms: i64,
    ) -> impl Future<Output = Result<bool, NonceError>> + Send;
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
    async fn first_use(&self, nonce: &str, until_ms: i64, now_ms: i64) -> Result<bool, NonceError> {
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
        queue.push_back((until_ms, nonce.to_owned()));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bounded_and_forgetful_only_of_what_is_over() {
        let nonces = MemoryNonces::new(2);
        assert_eq!(nonces.first_use("a", 10, 0).await, Ok(true));
        assert_eq!(nonces.first_use("a", 10, 5).await, Ok(false));
        assert_eq!(nonces.first_use("b", 15, 5).await, Ok(true));
        assert_eq!(nonces.first_use("c", 20, 10).await, Err(NonceError::Full));
        assert_eq!(nonces.first_use("c", 20, 11).await, Ok(true), "a is over");
        assert_eq!(nonces.first_use("b", 20, 11).await, Ok(false));
    }
}
