//! Which nonces were used: each counts once while its signature could still be good.
//!
//! What was signed before the memory begins may have been taken before and is refused. It begins three seconds after it was made,
//! and later whenever something is forgotten, for a clock that is set back would let it come again. It never begins later than three
//! seconds from now: where the clock was ahead when it was made, it begins anew as soon as the clock is right. Not seen: what was
//! taken under a clock that was ahead, signed by one that was as well, and lost with the memory; it counts once more in its time.
//!
//! In memory it is bounded and refuses when it is full of nonces that could still come again, for what it forgot could be
//! replayed. Gateways that share their callers need a shared one: [`super::SiteNonces`].

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// How far a caller's clock may be ahead, and a second for times that are cut off.
const MARGIN_MS: i64 = 3_000;

/// Whether a nonce was used before cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NonceError {
    /// More than can be remembered.
    #[error("too many signed requests at once: whether this one came before cannot be told")]
    Full,
    /// Signed before what is remembered begins.
    #[error("signed before what this gateway remembers: whether this request came before cannot be told")]
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

/// From when on everything is remembered, if that begins now.
pub(super) fn beginning(now_ms: i64) -> i64 {
    // Times of signatures are whole seconds.
    now_ms.max(0) / 1_000 * 1_000 + MARGIN_MS
}

/// Nonces in memory.
#[derive(Debug)]
pub struct MemoryNonces {
    most: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    /// From when on all are remembered; none: that has not begun.
    since_ms: Option<i64>,
    known: HashSet<String>,
    /// In the order of use; lifetimes are nearly the same, so the front expires first.
    queue: VecDeque<(Life, String)>,
}

impl Used {
    fn begin(&mut self, now_ms: i64) -> i64 {
        let since_ms = self.since_ms.unwrap_or(i64::MAX).min(beginning(now_ms));
        *self.since_ms.insert(since_ms)
    }
}

impl MemoryNonces {
    /// At most so many. The first use begins it.
    pub fn new(most: usize) -> Self {
        Self { most, used: Mutex::default() }
    }

    /// Begins to remember, where that has not begun.
    pub fn prepare(&self, now_ms: i64) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).begin(now_ms);
    }
}

impl Nonces for MemoryNonces {
    async fn first_use(&self, nonce: &str, life: Life, now_ms: i64) -> Result<bool, NonceError> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((old, forgotten)) = used.queue.pop_front_if(|(life, _)| life.until_ms < now_ms) {
            used.known.remove(&forgotten);
            used.since_ms = used.since_ms.max(Some(old.signed_ms.saturating_add(1)));
        }
        let since_ms = used.begin(now_ms);
        let Used { known, queue, .. } = &mut *used;
        if life.signed_ms < since_ms {
            return Err(NonceError::Before);
        }
        if known.contains(nonce) {
            return Ok(false);
        }
        if known.len() >= self.most {
            return Err(NonceError::Full);
        }
        known.insert(nonce.to_owned());
        queue.push_back((life, nonce.to_owned()));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    #[tokio::test]
    async fn bounded_and_forgetful_only_of_what_is_over() {
        let nonces = MemoryNonces::new(2);
        nonces.prepare(0);
        let until = |until_ms| Life { signed_ms: until_ms - 10, until_ms };
        assert_eq!(nonces.first_use("a", until(3_010), 3_000).await, Ok(true));
        assert_eq!(nonces.first_use("a", until(3_010), 3_005).await, Ok(false));
        assert_eq!(nonces.first_use("b", until(3_015), 3_005).await, Ok(true));
        assert_eq!(nonces.first_use("c", until(3_020), 3_010).await, Err(NonceError::Full));
        assert_eq!(nonces.first_use("c", until(3_020), 3_011).await, Ok(true), "a is over");
        assert_eq!(nonces.first_use("b", until(3_020), 3_011).await, Ok(false));
    }

    /// A request signed at a time, shown when the gateway's clock says another.
    async fn shown(nonces: &MemoryNonces, nonce: &str, signed_ms: i64, now_ms: i64) -> Result<bool, NonceError> {
        nonces.first_use(nonce, Life { signed_ms, until_ms: signed_ms + 300_000 }, now_ms).await
    }

    #[tokio::test]
    async fn a_clock_that_was_ahead_at_the_start_keeps_nobody_out() {
        let nonces = MemoryNonces::new(9);
        nonces.prepare(HOUR_MS);
        assert_eq!(shown(&nonces, "fast", HOUR_MS + 4_000, HOUR_MS + 4_000).await, Ok(true), "by a clock like ours");
        // The clock is right again.
        assert_eq!(shown(&nonces, "a", 10_000, 10_000).await, Err(NonceError::Before), "it may have come before");
        assert_eq!(shown(&nonces, "b", 13_000, 13_000).await, Ok(true));
        assert_eq!(shown(&nonces, "b", 13_000, 13_000).await, Ok(false));
        assert_eq!(shown(&nonces, "a", 10_000, 13_000).await, Err(NonceError::Before), "still");
        assert_eq!(shown(&nonces, "fast", HOUR_MS + 4_000, HOUR_MS + 4_000).await, Ok(false), "when its time comes");
    }

    #[tokio::test]
    async fn what_a_clock_ahead_let_forget_does_not_count_again() {
        let nonces = MemoryNonces::new(9);
        nonces.prepare(0);
        assert_eq!(shown(&nonces, "a", 100_000, 100_000).await, Ok(true));
        assert_eq!(shown(&nonces, "fast", HOUR_MS, HOUR_MS).await, Ok(true), "a is forgotten");
        assert_eq!(shown(&nonces, "a", 100_000, 101_000).await, Err(NonceError::Before));
        assert_eq!(shown(&nonces, "b", 101_000, 101_000).await, Ok(true), "others are not kept waiting");
    }
}
