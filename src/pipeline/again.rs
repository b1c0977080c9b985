//! Messages that come again because their senders were told to try later, by hash: since when, and how often.
//!
//! The memory is this process's own and bounded: [`MOST`] messages, each for a time from when it last came. Beyond that the
//! older half is forgotten; such a message is new.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Messages remembered at once: about 10 MB.
const MOST: usize = 100_000;

/// What came again, and for how long it is remembered.
#[derive(Debug)]
pub(super) struct Returning {
    memory: Duration,
    seen: Mutex<Halves>,
}

/// Those that came lately, and before them.
#[derive(Debug, Default)]
struct Halves {
    young: HashMap<[u8; 32], Seen>,
    old: HashMap<[u8; 32], Seen>,
    turned: Option<Instant>,
}

/// When a message first came, and how often by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) first: Instant,
    pub(super) times: u32,
}

impl Returning {
    /// Remembers a message for `memory` after it last came, at most twice that.
    pub(super) fn new(memory: Duration) -> Self {
        Self { memory, seen: Mutex::default() }
    }

    /// Notes that a message came and was turned away.
    pub(super) fn again(&self, hash: [u8; 32], now: Instant) -> Seen {
        let mut halves = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let turned = *halves.turned.get_or_insert(now);
        if halves.young.len() >= MOST / 2 || now.duration_since(turned) >= self.memory {
            let long_ago = now.duration_since(turned) >= 2 * self.memory;
            halves.old = if long_ago { HashMap::new() } else { std::mem::take(&mut halves.young) };
            halves.young.clear();
            halves.turned = Some(now);
        }
        let before = halves.young.get(&hash).or_else(|| halves.old.get(&hash));
        let seen =
            before.map_or(Seen { first: now, times: 1 }, |one| Seen { times: one.times.saturating_add(1), ..*one });
        halves.young.insert(hash, seen);
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn counts_while_it_comes_again() {
        let returning = Returning::new(HOUR);
        let now = Instant::now();
        let times = |hash, at| returning.again([hash; 32], at).times;
        assert_eq!((times(1, now), times(1, now), times(2, now)), (1, 2, 1));
        let later = returning.again([1; 32], now + HOUR * 3 / 2);
        assert_eq!((later.first, later.times), (now, 3), "it is remembered from when it last came");
        assert_eq!(returning.again([1; 32], now + HOUR * 5).times, 1, "and forgotten after that");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let returning = Returning::new(HOUR);
        let now = Instant::now();
        let hash = |number: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_le_bytes());
            hash
        };
        for number in 0..3 * MOST {
            returning.again(hash(number), now);
        }
        let kept = {
            let halves = returning.seen.lock().unwrap();
            halves.young.len() + halves.old.len()
        };
        assert!(kept <= MOST, "{kept}");
        assert_eq!(returning.again(hash(3 * MOST - 1), now).times, 2);
        assert_eq!(returning.again(hash(0), now).times, 1);
    }
}
