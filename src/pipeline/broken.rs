//! Messages whose judgement broke down, by hash, with how often within the last hour.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a message is remembered after it first broke.
const MEMORY: Duration = Duration::from_secs(60 * 60);
/// Messages remembered at once; beyond that the oldest is forgotten.
const MOST: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Broken {
    seen: Mutex<HashMap<[u8; 32], (Instant, u32)>>,
}

impl Broken {
    /// Notes that a message broke the judgement; gives how often it has by now.
    pub(super) fn again(&self, hash: [u8; 32], now: Instant) -> u32 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, (first, _)| now.duration_since(*first) < MEMORY);
        if seen.len() >= MOST
            && let Some(oldest) = seen.iter().min_by_key(|(_, (first, _))| *first).map(|(hash, _)| *hash)
        {
            seen.remove(&oldest);
        }
        let (_, times) = seen.entry(hash).or_insert((now, 0));
        *times += 1;
        *times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_within_the_hour() {
        let broken = Broken::default();
        let now = Instant::now();
        assert_eq!((broken.again([1; 32], now), broken.again([1; 32], now), broken.again([2; 32], now)), (1, 2, 1));
        assert_eq!(broken.again([1; 32], now + MEMORY), 1);
    }
}
