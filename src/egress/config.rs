//! Settings of calls to one dependency: section `call` of whoever asks it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backoff::{Backoff, Curve};
use super::breaker::BreakerConfig;
use super::wrong_setting::{WrongSetting, wrong};

/// How one dependency may be called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallConfig {
    /// Time for one call with all its retries, waits and bytes, however slowly they drip.
    pub deadline_ms: u64,
    /// Calls at a time.
    pub concurrent: u32,
    /// How long a call may wait for its turn (concurrency, rate) before it is given up.
    pub max_wait_ms: u64,
    /// Largest answer taken, after decompression.
    pub max_answer_bytes: usize,
    /// When it is left alone after failures.
    pub breaker: BreakerConfig,
    /// How often it may be asked.
    pub rate: RateConfig,
    /// Tries of calls that are safe to repeat.
    pub retry: RetryConfig,
}

impl Default for CallConfig {
    fn default() -> Self {
        Self {
            deadline_ms: 2_500,
            concurrent: 64,
            max_wait_ms: 250,
            max_answer_bytes: 1 << 20,
            breaker: BreakerConfig::default(),
            rate: RateConfig::default(),
            retry: RetryConfig::default(),
        }
    }
}

impl CallConfig {
    /// Whether these settings do what they say.
    ///
    /// # Errors
    /// The first that does not, by its name below `call`.
    pub fn check(&self) -> Result<(), WrongSetting> {
        if self.deadline_ms == 0 {
            return Err(wrong("deadline_ms", "nothing answers in no time: write at least 1"));
        }
        if self.concurrent == 0 {
            return Err(wrong("concurrent", "nothing could be asked: write at least 1"));
        }
        if self.max_answer_bytes == 0 {
            return Err(wrong("max_answer_bytes", "every answer would be too large: write at least 1"));
        }
        self.breaker.check().map_err(|error| error.below("breaker"))?;
        self.rate.check().map_err(|error| error.below("rate"))
    }

    /// The total deadline.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    pub(super) fn max_wait(&self) -> Duration {
        Duration::from_millis(self.max_wait_ms)
    }
}

/// How often a dependency may be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateConfig {
    /// Calls a second in the long run; 0: no limit.
    pub per_second: u32,
    /// Calls at once after a pause.
    pub burst: u32,
    /// Calls within the window; 0: as many as `per_second` gives.
    pub window_calls: u32,
    /// Length of the window.
    pub window_seconds: u32,
    /// Whether the window's rate is halved at 429, 5xx, timeouts and slow answers, once a second at most, and grows back by a tenth
    /// of the whole a second; calls then come evenly.
    pub adaptive: bool,
    /// Least share of the rate that is left, 0 to 1.
    pub floor: f64,
    /// Answers slower than this count as slow; 0: none do.
    pub slow_ms: u64,
    /// Longest `Retry-After` that is obeyed.
    pub max_retry_after_seconds: u32,
}

impl Default for RateConfig {
    fn default() -> Self {
        Self {
            per_second: 500,
            burst: 1_000,
            window_calls: 0,
            window_seconds: 10,
            adaptive: true,
            floor: 0.1,
            slow_ms: 0,
            max_retry_after_seconds: 300,
        }
    }
}

impl RateConfig {
    fn check(&self) -> Result<(), WrongSetting> {
        if self.window_seconds == 0 {
            return Err(wrong("window_seconds", "a window of no length counts nothing: write at least 1"));
        }
        if !(0.0..=1.0).contains(&self.floor) {
            return Err(wrong(
                "floor",
                format!("a share is from 0 to 1, not {}: for 10 percent write 0.1", self.floor),
            ));
        }
        Ok(())
    }
}

/// Tries of calls that are safe to repeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// Tries altogether; 1: none is repeated.
    pub attempts: u32,
    /// How waits grow: `fixed`, `linear`, `exponential`, `exponential_jitter`, `fibonacci`.
    pub backoff: Curve,
    /// The first wait.
    pub base_ms: u64,
    /// The longest wait.
    pub max_ms: u64,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { attempts: 2, backoff: Curve::ExponentialJitter, base_ms: 50, max_ms: 1_000 }
    }
}

impl RetryConfig {
    pub(super) fn waits(&self) -> Backoff {
        Backoff {
            curve: self.backoff,
            base: Duration::from_millis(self.base_ms),
            longest: Duration::from_millis(self.max_ms),
        }
    }
}
