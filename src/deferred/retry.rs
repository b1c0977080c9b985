//! What follows a failed attempt: another one after a while, or none. Exponential backoff with full jitter.

use std::time::Duration;

use super::{Failure, Reason, Settlement, WorkersConfig};

/// What becomes of a job whose attempt number `attempt` (from 1) failed; `chance` is uniform in 0..1.
pub(super) fn after_failure(
    config: &WorkersConfig,
    attempt: u32,
    failure: Failure,
    now_ms: i64,
    chance: f64,
) -> Settlement {
    match failure {
        Failure::Never { error, .. } => Settlement::Dead { reason: Reason::Refused, error },
        Failure::Again { error, .. } if attempt >= config.attempts => {
            Settlement::Dead { reason: Reason::Attempts, error }
        }
        Failure::Again { error, not_before, .. } => {
            let wait = backoff(config, attempt).mul_f64(chance.clamp(0.0, 1.0)).max(not_before);
            let due_ms = now_ms.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
            Settlement::Again { due_ms, error }
        }
    }
}

/// Longest wait after an attempt.
fn backoff(config: &WorkersConfig, attempt: u32) -> Duration {
    let doubled = 1_u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX);
    let most = Duration::from_secs(config.backoff_max_seconds);
    Duration::from_millis(config.backoff_ms.saturating_mul(doubled)).min(most)
}

/// A number from 0 to 1. Without random numbers the longest wait.
pub(super) fn chance() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Category;

    #[test]
    fn waits_double_up_to_the_cap() {
        let config = WorkersConfig { attempts: 100, backoff_max_seconds: 10, ..WorkersConfig::default() };
        let due = |attempt, chance, not_before| {
            let not_before = Duration::from_secs(not_before);
            let failure = Failure::Again { error: "x".into(), not_before, category: Category::External };
            match after_failure(&config, attempt, failure, 1_000, chance) {
                Settlement::Again { due_ms, .. } => due_ms - 1_000,
                other => panic!("{other:?}"),
            }
        };
        let cases = [(1, 1_000), (2, 2_000), (3, 4_000), (4, 8_000), (5, 10_000), (64, 10_000), (99, 10_000)];
        for (attempt, most) in cases {
            assert_eq!(due(attempt, 1.0, 0), most, "attempt {attempt}");
            assert_eq!(due(attempt, 0.5, 0), most / 2, "attempt {attempt}");
            assert_eq!(due(attempt, 0.0, 0), 0, "attempt {attempt}");
        }
        assert_eq!(due(1, 0.0, 60), 60_000, "who asks for time gets it");
    }

    #[test]
    fn the_last_attempt_and_a_refusal_end_it() {
        let config = WorkersConfig::default();
        let again = || Failure::again("x");
        assert!(matches!(after_failure(&config, 4, again(), 0, 0.0), Settlement::Again { .. }));
        let dead = after_failure(&config, 5, again(), 0, 0.0);
        assert!(matches!(dead, Settlement::Dead { reason: Reason::Attempts, .. }));
        let never = after_failure(&config, 1, Failure::never("x"), 0, 0.0);
        assert!(matches!(never, Settlement::Dead { reason: Reason::Refused, .. }));
        assert!((0.0..=1.0).contains(&chance()));
    }
}
