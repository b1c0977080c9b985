//! What follows a failed attempt: another one after a while, or none. Exponential backoff with full jitter.
//!
//! What is tried by time needs no count: a wait as long as the job is old doubles its age each time.

use std::time::Duration;

use super::{Failure, Job, Reason, Settlement, WorkersConfig};

/// What becomes of a job whose attempt (`job.attempt`, from 1) failed; `chance` is uniform in 0..1.
pub(super) fn after_failure(
    config: &WorkersConfig,
    job: &Job,
    failure: Failure,
    now_ms: i64,
    chance: f64,
) -> Settlement {
    let attempt = job.attempt;
    let due = |wait: Duration| now_ms.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
    match failure {
        Failure::More => Settlement::Back,
        Failure::Never { error, .. } => Settlement::Dead { reason: Reason::Refused, error },
        Failure::Again { error, .. } if attempt >= config.attempts => {
            Settlement::Dead { reason: Reason::Attempts, error }
        }
        Failure::Again { error, not_before, .. } => {
            let wait = backoff(config, attempt).mul_f64(chance.clamp(0.0, 1.0)).max(not_before);
            Settlement::Again { due_ms: due(wait), error }
        }
        Failure::Later { error, not_before, .. } => {
            let patience = &config.patience;
            let age = Duration::from_millis(now_ms.saturating_sub(job.enqueued_ms).max(0).unsigned_abs());
            // However long it lay in an outage of the queue: it is tried more than once.
            if age >= Duration::from_secs(patience.give_up_hours.saturating_mul(3_600)) && job.last_error.is_some() {
                return Settlement::Dead { reason: Reason::Attempts, error };
            }
            let most = Duration::from_secs(patience.wait_max_seconds);
            let wait = age.max(Duration::from_millis(patience.wait_ms)).min(most);
            // Half of it at least: what was too early comes no earlier by luck.
            let wait = wait.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0).max(not_before);
            Settlement::Later { due_ms: due(wait), error }
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

    fn job(attempt: u32) -> Job {
        Job { attempt, ..Job::new("test", "k", "", 0) }
    }

    #[test]
    fn what_is_tried_by_time_is_given_up_by_time() {
        let config = WorkersConfig::default();
        let (minute, hour) = (60_000, 3_600_000);
        let wait = |age_ms, chance| {
            let failure = Failure::later("the next hop is down");
            // A hundredth attempt is nothing special.
            let old = Job { last_error: Some("x".into()), ..job(100) };
            match after_failure(&config, &old, failure, age_ms, chance) {
                Settlement::Later { due_ms, .. } => Some(due_ms - age_ms),
                Settlement::Dead { reason: Reason::Attempts, .. } => None,
                other => panic!("{other:?}"),
            }
        };
        let waits = [(0, 1_000), (10_000, 10_000), (minute, minute), (hour, 5 * minute), (71 * hour, 5 * minute)];
        for (age, expected) in waits {
            assert_eq!((wait(age, 1.0), wait(age, 0.0)), (Some(expected), Some(expected / 2)), "{age}");
        }
        assert_eq!(wait(72 * hour, 1.0), None);
        let first = after_failure(&config, &job(1), Failure::later("x"), 100 * hour, 1.0);
        assert!(matches!(first, Settlement::Later { .. }), "it lay in an outage: not given up at its first try");
        let not_before = Duration::from_secs(90);
        let asked = Failure::Later { error: "x".into(), not_before, category: Category::External };
        assert_eq!(
            after_failure(&config, &job(1), asked, 0, 1.0),
            Settlement::Later { due_ms: 90_000, error: "x".into() }
        );
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let config = WorkersConfig { attempts: 100, backoff_max_seconds: 10, ..WorkersConfig::default() };
        let due = |attempt, chance, not_before| {
            let not_before = Duration::from_secs(not_before);
            let failure = Failure::Again { error: "x".into(), not_before, category: Category::External };
            match after_failure(&config, &job(attempt), failure, 1_000, chance) {
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
        assert!(matches!(after_failure(&config, &job(4), again(), 0, 0.0), Settlement::Again { .. }));
        let dead = after_failure(&config, &job(5), again(), 0, 0.0);
        assert!(matches!(dead, Settlement::Dead { reason: Reason::Attempts, .. }));
        let never = after_failure(&config, &job(1), Failure::never("x"), 0, 0.0);
        assert!(matches!(never, Settlement::Dead { reason: Reason::Refused, .. }));
        assert!((0.0..=1.0).contains(&chance()));
    }
}
