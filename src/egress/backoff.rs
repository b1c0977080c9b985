//! How long to wait before the next try: five curves, bounded. Pure: chance is an argument.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How waits grow from try to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Curve {
    /// Always the same: 1, 1, 1, 1.
    Fixed,
    /// By the first wait more each time: 1, 2, 3, 4.
    Linear,
    /// Twice as long each time: 1, 2, 4, 8.
    Exponential,
    /// Anything between nothing and twice as long each time, so that many who failed together do not come back together.
    ExponentialJitter,
    /// The sum of the two before: 1, 1, 2, 3, 5.
    Fibonacci,
}

/// Waits between tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// How they grow.
    pub curve: Curve,
    /// The first.
    pub base: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Backoff {
    /// The wait after failure number `failed` (from 1); `chance` from 0 to 1 is used by the jittered curve only.
    pub fn wait(&self, failed: u32, chance: f64) -> Duration {
        let failed = failed.max(1);
        let times = match self.curve {
            Curve::Fixed => 1,
            Curve::Linear => failed,
            Curve::Exponential | Curve::ExponentialJitter => 2u32.checked_pow(failed - 1).unwrap_or(u32::MAX),
            Curve::Fibonacci => fibonacci(failed),
        };
        let wait = self.base.saturating_mul(times).min(self.longest);
        match self.curve {
            Curve::ExponentialJitter => wait.mul_f64(chance.clamp(0.0, 1.0)),
            _ => wait,
        }
    }
}

fn fibonacci(number: u32) -> u32 {
    // The 47th is the last that fits.
    (1..number.min(48)).fold((1u32, 1u32), |(a, b), _| (b, a.saturating_add(b))).0
}

/// A number from 0 to 1 by chance.
pub(super) fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without a source of chance the wait is the longest: nothing is lost but the spread.
    if getrandom::fill(&mut bytes).is_err() {
        return 1.0;
    }
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves() {
        let waits = |curve, chance| -> Vec<u64> {
            let (base, longest) = (Duration::from_millis(100), Duration::from_millis(1_000));
            let backoff = Backoff { curve, base, longest };
            (1..=7).map(|failed| backoff.wait(failed, chance).as_millis() as u64).collect()
        };
        assert_eq!(waits(Curve::Fixed, 0.5), [100; 7]);
        assert_eq!(waits(Curve::Linear, 0.5), [100, 200, 300, 400, 500, 600, 700]);
        assert_eq!(waits(Curve::Exponential, 0.5), [100, 200, 400, 800, 1_000, 1_000, 1_000]);
        assert_eq!(waits(Curve::ExponentialJitter, 0.5), [50, 100, 200, 400, 500, 500, 500]);
        assert_eq!(waits(Curve::ExponentialJitter, 0.0), [0; 7]);
        assert_eq!(waits(Curve::Fibonacci, 0.5), [100, 100, 200, 300, 500, 800, 1_000]);
        for curve in [Curve::Fixed, Curve::Linear, Curve::Exponential, Curve::ExponentialJitter, Curve::Fibonacci] {
            let backoff = Backoff { curve, base: Duration::from_secs(1), longest: Duration::from_secs(60) };
            assert!(backoff.wait(u32::MAX, 1.0) <= Duration::from_secs(60), "{curve:?}");
            assert_eq!(backoff.wait(0, 1.0), Duration::from_secs(1), "{curve:?}");
        }
        assert!((0..100).map(|_| chance()).all(|c| (0.0..=1.0).contains(&c)));
    }
}
