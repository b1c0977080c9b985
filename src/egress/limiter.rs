//! How often a dependency may be asked: a token bucket (governor), a sliding window, and what the dependency tells us.
//!
//! The bucket spreads calls, the window bounds them over a longer time, and the window's rate adapts: halved at most once a
//! second when the dependency is overloaded, grown back by a tenth of the whole a second while it is well. While it is less than
//! whole, calls come evenly at what is left of it: a window that is full from before the cut stops nobody. `Retry-After` stops all
//! calls until it is over. Pure: `now` is an argument, for governor too.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use super::config::RateConfig;
use super::window::Window;

/// Least time between two cuts of the rate: those who were under way together are one trouble.
const ONE_TROUBLE: Duration = Duration::from_secs(1);
/// Share of the whole rate that grows back in a second.
const RECOVERY: f64 = 0.1;
/// Share of the window's calls that may come at once while the rate is cut.
const AT_ONCE: f64 = 0.1;

/// The time that the limiter was told.
#[derive(Debug, Clone, Default)]
struct Told(Arc<AtomicU64>);

impl Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Nanos>>;

/// The machine.
#[derive(Debug)]
pub struct Limiter {
    config: RateConfig,
    begun: Instant,
    told: Told,
    bucket: Option<Bucket>,
    window: Window,
    /// Share of the window's rate that is in effect.
    share: f64,
    /// Calls that a cut rate has given and nobody has made, as of then.
    given: (f64, Instant),
    cut: Option<Instant>,
    grown: Instant,
    blocked_until: Option<Instant>,
}

impl Limiter {
    /// One that has not been asked yet.
    pub fn new(config: RateConfig, now: Instant) -> Self {
        let told = Told::default();
        let quota = NonZeroU32::new(config.per_second).map(|rate| {
            let burst = NonZeroU32::new(config.burst).unwrap_or(NonZeroU32::MIN);
            Quota::per_second(rate).allow_burst(burst)
        });
        let bucket = quota.map(|quota| Bucket::direct_with_clock(quota, told.clone()));
        let window = Window::new(Duration::from_secs(config.window_seconds.into()));
        let (share, given, cut, grown, blocked_until) = (1.0, (0.0, now), None, now, None);
        Self { config, begun: now, told, bucket, window, share, given, cut, grown, blocked_until }
    }

    /// May a call be made now? Yes takes it.
    ///
    /// # Errors
    /// No; the time after which it is worth asking again.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        if let Some(until) = self.blocked_until {
            let left = until.saturating_duration_since(now);
            if !left.is_zero() {
                return Err(left);
            }
            self.blocked_until = None;
        }
        if let Some(limit) = self.window_limit() {
            let (calls, _) = self.window.counts(now);
            if f64::from(calls) >= limit {
                return Err(self.window.forgets_in(now).max(Duration::from_millis(1)));
            }
            if let Some(wait) = self.paces(limit, now) {
                return Err(wait.max(Duration::from_millis(1)));
            }
        }
        if let Some(bucket) = &self.bucket {
            let passed = now.saturating_duration_since(self.begun).as_nanos();
            self.told.0.store(u64::try_from(passed).unwrap_or(u64::MAX), Ordering::Relaxed);
            if let Err(not_until) = bucket.check() {
                return Err(not_until.wait_time_from(self.told.now()).max(Duration::from_millis(1)));
            }
        }
        self.window.add(true, now);
        self.given.0 -= 1.0;
        Ok(())
    }

    /// How long a cut rate makes the next call wait. One in a window comes through however deep the cut.
    fn paces(&mut self, limit: f64, now: Instant) -> Option<Duration> {
        if self.share >= 1.0 {
            return None;
        }
        let seconds = f64::from(self.config.window_seconds.max(1));
        let in_window = (limit * self.share).max(1.0);
        let (before, at) = self.given;
        let since = now.saturating_duration_since(at).as_secs_f64();
        let given = (before + in_window / seconds * since).min((in_window * AT_ONCE).max(1.0));
        self.given = (given, now);
        (given < 1.0).then(|| Duration::from_secs_f64((1.0 - given) * seconds / in_window))
    }

    /// The dependency answered well and in time: the rate grows back.
    pub fn fine(&mut self, took: Duration, now: Instant) {
        let slow = self.config.slow_ms > 0 && took > Duration::from_millis(self.config.slow_ms);
        if slow {
            return self.overloaded(None, now);
        }
        if self.share < 1.0 {
            let passed = now.saturating_duration_since(self.grown).as_secs_f64();
            self.share = (self.share + RECOVERY * passed).min(1.0);
            self.grown = now;
        }
    }

    /// The dependency is asked too much, and perhaps says for how long to stop.
    pub fn overloaded(&mut self, retry_after: Option<Duration>, now: Instant) {
        if let Some(wait) = retry_after {
            let wait = wait.min(Duration::from_secs(self.config.max_retry_after_seconds.into()));
            let until = now + wait;
            self.blocked_until = Some(self.blocked_until.map_or(until, |before| before.max(until)));
        }
        let rested = self.cut.is_none_or(|cut| now.saturating_duration_since(cut) >= ONE_TROUBLE);
        if self.config.adaptive && rested {
            if self.share >= 1.0 {
                self.given = (1.0, now);
            }
            self.share = (self.share / 2.0).max(self.config.floor.clamp(0.0, 1.0));
            (self.cut, self.grown) = (Some(now), now);
        }
    }

    /// Share of the rate in effect, 0 to 1.
    pub fn share(&self) -> f64 {
        self.share
    }

    fn window_limit(&self) -> Option<f64> {
        let (calls, rate) = (self.config.window_calls, self.config.per_second);
        match (calls, rate) {
            (0, 0) => None,
            (0, rate) => Some(f64::from(rate) * f64::from(self.config.window_seconds.max(1))),
            (calls, _) => Some(f64::from(calls)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn admitted(limiter: &mut Limiter, now: Instant, tries: u32) -> u32 {
        (0..tries).filter(|_| limiter.admit(now).is_ok()).count() as u32
    }

    fn window_of(calls: u32) -> RateConfig {
        RateConfig { per_second: 0, window_calls: calls, window_seconds: 10, ..RateConfig::default() }
    }

    #[test]
    fn a_bucket_gives_a_burst_and_then_its_rate() {
        let start = Instant::now();
        let config = RateConfig { per_second: 10, burst: 5, window_calls: 1_000, ..RateConfig::default() };
        let mut limiter = Limiter::new(config, start);
        assert_eq!(admitted(&mut limiter, start, 20), 5);
        assert_eq!(limiter.admit(start).unwrap_err(), Duration::from_millis(100));
        assert_eq!(admitted(&mut limiter, start + Duration::from_millis(300), 20), 3);
        assert_eq!(admitted(&mut limiter, start + Duration::from_secs(60), 20), 5);
    }

    #[test]
    fn a_window_bounds_calls_and_says_when_to_come_back() {
        let start = Instant::now();
        let mut limiter = Limiter::new(window_of(3), start);
        assert_eq!(admitted(&mut limiter, start, 10), 3);
        assert_eq!(limiter.admit(start + Duration::from_secs(4)).unwrap_err(), Duration::from_secs(6));
        assert_eq!(admitted(&mut limiter, start + Duration::from_secs(10), 10), 3);
    }

    #[test]
    fn overload_halves_the_limit_once_a_second_and_it_grows_back() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limiter = Limiter::new(window_of(100), start);
        limiter.overloaded(None, at(0));
        (0..50).for_each(|_| limiter.overloaded(None, at(10)));
        assert_eq!(limiter.share(), 0.5, "one burst of troubles is one trouble");
        limiter.overloaded(None, at(1_000));
        assert_eq!(limiter.share(), 0.25);
        assert_eq!(admitted(&mut limiter, at(1_000), 200), 2, "25 in ten seconds, and evenly");
        assert_eq!(limiter.admit(at(1_000)).unwrap_err(), Duration::from_millis(200));
        for second in 2..10 {
            limiter.overloaded(None, at(second * 1_000));
        }
        assert_eq!(limiter.share(), 0.1, "the floor");
        limiter.fine(Duration::ZERO, at(14_000));
        assert!((limiter.share() - 0.6).abs() < 1e-9, "{}", limiter.share());
        limiter.fine(Duration::ZERO, at(60_000));
        assert_eq!(limiter.share(), 1.0);
    }

    /// As a service does it that takes no more than so much: some are told to go away, the rest is answered.
    #[test]
    fn overloads_among_answers_bring_the_rate_down_and_do_not_stop_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limiter = Limiter::new(window_of(600), start);
        let (mut passed, mut share, mut calls) = ([0u32; 60], [1.0f64; 60], 0);
        for call in 0..60 * 60u64 {
            let (now, second) = (at(call * 1_000 / 60), (call / 60) as usize);
            if limiter.admit(now).is_ok() {
                passed[second] += 1;
                calls += 1;
                match second < 30 && calls * 3 % 10 < 3 {
                    true => limiter.overloaded(None, now),
                    false => limiter.fine(Duration::from_millis(5), now),
                }
            }
            share[second] = limiter.share();
        }
        assert!(share[5..30].iter().all(|share| *share <= 0.35), "{share:?}");
        for second in 1..30 {
            // Of 60 a second; within one it is cut once and grows, and a call more or less comes at its ends.
            let (before, after) = (60.0 * share[second - 1], 60.0 * share[second]);
            let wanted = (before / 2.0 - 2.0) as u32..=(before.max(after) + 8.0) as u32;
            assert!(wanted.contains(&passed[second]), "second {second}: {passed:?} {share:?}");
        }
        assert_eq!(share[45], 1.0, "well again");
        assert_eq!(passed[50], 60, "{passed:?}");
    }

    #[test]
    fn slow_answers_are_overload_when_asked_for() {
        let start = Instant::now();
        let mut limiter = Limiter::new(RateConfig { slow_ms: 100, ..window_of(100) }, start);
        limiter.fine(Duration::from_millis(100), start);
        assert_eq!(limiter.share(), 1.0);
        limiter.fine(Duration::from_millis(101), start);
        assert_eq!(limiter.share(), 0.5);
        let mut deaf = Limiter::new(RateConfig { adaptive: false, ..window_of(100) }, start);
        deaf.overloaded(None, start);
        assert_eq!(deaf.share(), 1.0);
    }

    #[test]
    fn retry_after_stops_all_calls_but_not_for_ever() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut limiter = Limiter::new(window_of(100), start);
        limiter.overloaded(Some(Duration::from_secs(30)), at(0));
        limiter.overloaded(Some(Duration::from_secs(5)), at(0));
        assert_eq!(limiter.admit(at(20)).unwrap_err(), Duration::from_secs(10), "the longer one holds");
        assert!(limiter.admit(at(30)).is_ok());
        limiter.overloaded(Some(Duration::from_secs(u64::from(u32::MAX))), at(30));
        assert_eq!(limiter.admit(at(31)).unwrap_err(), Duration::from_secs(299));
        assert!(limiter.admit(at(330)).is_ok());
    }

    #[test]
    fn without_limits_everything_passes() {
        let start = Instant::now();
        let mut limiter = Limiter::new(RateConfig { per_second: 0, ..RateConfig::default() }, start);
        assert_eq!(admitted(&mut limiter, start, 100_000), 100_000);
    }

    proptest! {
        /// However calls and troubles come: never more than the limit in any window, and never stuck for good.
        #[test]
        fn never_more_than_allowed(steps in prop::collection::vec((0u64..500, 0u8..8), 1..400)) {
            let start = Instant::now();
            let mut limiter = Limiter::new(RateConfig { per_second: 20, burst: 10, ..window_of(30) }, start);
            let (mut now, mut passed) = (start, Vec::new());
            for (ms, what) in steps {
                now += Duration::from_millis(ms);
                match what {
                    0 => limiter.overloaded(Some(Duration::from_secs(1)), now),
                    1 => limiter.fine(Duration::ZERO, now),
                    _ => if limiter.admit(now).is_ok() { passed.push(now) },
                }
            }
            for from in &passed {
                let within = passed.iter().filter(|t| *t >= from && **t < *from + Duration::from_secs(9)).count();
                prop_assert!(within <= 30, "{within} calls in a window");
            }
            prop_assert!(limiter.admit(now + Duration::from_secs(400)).is_ok());
        }
    }
}
