//! One service that is asked: everything a call has to pass on its way out, and what is learnt when it comes back.
//!
//! The order of a call: breaker, rate, concurrency, the try itself under the total deadline, and for calls that are safe to
//! repeat, the next try after a wait, inside the same deadline. A call that is dropped gives everything back.
//!
//! Over 500 lines: the order of fences around one call is the point, and stands in one place.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::backoff::chance;
use super::breaker::{Breaker, BreakerState, Permit};
use super::limiter::Limiter;
use super::metrics::Meters;
use super::registry::Snapshot;
use super::{CallConfig, Failure};
use crate::observe::{self, Fault, event};

/// Whether a call may be made again after it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Asking twice changes nothing over there.
    Safe,
    /// It may have been done although no answer came.
    Never,
    /// Not: it is a look of our own, which an open breaker lets pass; see [`Dependency::wants_look`].
    Look,
}

/// One service that is asked.
#[derive(Debug)]
pub struct Dependency {
    name: String,
    config: CallConfig,
    state: Mutex<State>,
    slots: Semaphore,
    meters: Meters,
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    limiter: Limiter,
    succeeded: u64,
    failed: u64,
    last_failure: Option<(String, Instant)>,
    /// Of the failures since the last success, the first.
    failing_since: Option<Instant>,
    next_look: Instant,
}

impl Dependency {
    pub(super) fn new(name: &str, config: CallConfig, meters: Meters) -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            breaker: Breaker::new(config.breaker.clone(), now),
            limiter: Limiter::new(config.rate.clone(), now),
            succeeded: 0,
            failed: 0,
            last_failure: None,
            failing_since: None,
            next_look: now,
        };
        let slots = Semaphore::new((config.concurrent.max(1) as usize).min(Semaphore::MAX_PERMITS));
        Arc::new(Self { name: name.to_owned(), config, state: Mutex::new(state), slots, meters })
    }

    /// The name it has in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it may be called.
    pub fn config(&self) -> &CallConfig {
        &self.config
    }

    /// Calls it. `attempt` makes one try and is given the time by which it will be cut off; `until` is the caller's own
    /// deadline, when that is earlier than the dependency's.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn call<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        repeat: Repeat,
        until: Option<Instant>,
        mut attempt: impl FnMut(Instant) -> F,
    ) -> Result<T, Failure> {
        let own = Instant::now() + self.config.deadline();
        let deadline = until.map_or(own, |until| until.min(own));
        let attempts = if repeat == Repeat::Safe { self.config.retry.attempts.max(1) } else { 1 };
        let mut failed = 0;
        loop {
            let failure = match self.once(repeat, deadline, &mut attempt).await {
                Err(failure) if failure.is_passing() => failure,
                decided => return decided,
            };
            failed += 1;
            let wait = self.config.retry.waits().wait(failed, chance());
            let next = Instant::now() + wait.max(told_to_wait(&failure));
            if failed >= attempts || next >= deadline {
                return Err(failure);
            }
            sleep_until(next).await;
            self.meters.retries.inc();
        }
    }

    /// Why its breaker would refuse a call at this moment, if it would. For those who can spare themselves the work of asking;
    /// who does, says so by [`Self::spared`].
    pub fn refuses(&self) -> Option<Failure> {
        let retry_in = self.state().breaker.refuses(Instant::now())?;
        Some(Failure::BreakerOpen { retry_in })
    }

    /// Counts a call that was not made because it would have been refused, as one that was refused.
    pub fn spared(&self, failure: &Failure) {
        self.state().breaker.spared();
        self.meters.refused.inc();
        observe::count("egress", failure.category());
    }

    /// How long it has been failing: since the first failure after its last success. Zero while it answers.
    pub fn failing_for(&self) -> Duration {
        self.state().failing_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether it is time for a look of our own ([`Repeat::Look`]): the breaker is not closed, and `look_seconds` have passed
    /// since it opened or since the last look, or that one was good. Says so once.
    pub fn wants_look(&self) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        let wants = self.config.breaker.look_seconds > 0
            && state.breaker.state() != BreakerState::Closed
            && now >= state.next_look;
        if wants {
            state.next_look = now + self.until_look();
        }
        wants
    }

    /// A fifth earlier or later: gateways that lost a service together do not come back to it together.
    fn until_look(&self) -> Duration {
        Duration::from_secs(self.config.breaker.look_seconds.into()).mul_f64(0.8 + 0.4 * chance())
    }

    /// Share of the calls within the breaker's window that gave an answer; without any what the breaker does with calls, 1 or 0.
    pub(super) fn available(&self) -> f64 {
        let mut state = self.state();
        let (ok, bad) = state.breaker.counts(Instant::now());
        ratio(ok, bad).unwrap_or(if state.breaker.state() == BreakerState::Closed { 1.0 } else { 0.0 })
    }

    /// Shows its state: others of its name may have been made, and never used.
    pub(super) fn show(&self) {
        let state = self.state();
        self.meters.state(state.breaker.state());
        self.meters.share.set(state.limiter.share());
    }

    /// How it is doing.
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let mut state = self.state();
        let (ok, bad) = state.breaker.counts(now);
        let (refused, opened) = state.breaker.totals();
        let seconds = |since: Instant| now.saturating_duration_since(since).as_secs();
        Snapshot {
            name: self.name.clone(),
            state: state.breaker.state(),
            since_seconds: seconds(state.breaker.since()),
            recent_succeeded: ok,
            recent_failed: bad,
            success_ratio: ratio(ok, bad),
            succeeded: state.succeeded,
            failed: state.failed,
            refused,
            opened,
            rate_ratio: state.limiter.share(),
            in_flight: (self.config.concurrent.max(1) as usize).saturating_sub(self.slots.available_permits()),
            last_failure: state.last_failure.as_ref().map(|(what, _)| what.clone()),
            last_failure_seconds: state.last_failure.as_ref().map(|(_, at)| seconds(*at)),
        }
    }

    async fn once<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        repeat: Repeat,
        deadline: Instant,
        attempt: &mut impl FnMut(Instant) -> F,
    ) -> Result<T, Failure> {
        let begun = Instant::now();
        let (mut leave, slot) = match self.enter(repeat, begun, deadline).await {
            Ok(entered) => entered,
            Err(failure) => {
                // Whose time was over before was never sent.
                if !matches!(failure, Failure::Timeout { .. }) {
                    self.meters.failed(&self.name, failure.as_str());
                    observe::count("egress", failure.category());
                }
                return Err(failure);
            }
        };
        let started = Instant::now();
        leave.begins();
        let given = deadline.saturating_duration_since(started);
        let late = |_| Err(Failure::Timeout { after_ms: u64::try_from(given.as_millis()).unwrap_or(u64::MAX) });
        let result = timeout_at(deadline, attempt(deadline)).await.unwrap_or_else(late);
        drop(slot);
        leave.with(&result, started, given);
        result
    }

    /// Asks breaker, limiter and the slots, in this order; waits as long as is allowed.
    async fn enter(
        &self,
        repeat: Repeat,
        begun: Instant,
        deadline: Instant,
    ) -> Result<(Leave<'_>, SemaphorePermit<'_>), Failure> {
        let patience = deadline.min(begun + self.config.max_wait());
        let leave = loop {
            let now = Instant::now();
            if now >= deadline {
                return Err(Failure::Timeout { after_ms: 0 });
            }
            let wait = match self.permit(repeat, now)? {
                Ok(permit) => break Leave { dependency: self, permit: Some(permit), repeat, trying: false },
                Err(wait) => wait,
            };
            if now + wait > patience {
                return Err(Failure::RateLimited { retry_in: wait });
            }
            sleep_until(now + wait).await;
        };
        let slot = match self.slots.try_acquire() {
            Ok(slot) => slot,
            Err(_) => timeout_at(patience, self.slots.acquire())
                .await
                .map_err(|_| Failure::Busy)?
                .map_err(|_| Failure::Busy)?,
        };
        let waited = begun.elapsed();
        if waited >= Duration::from_millis(1) {
            self.meters.waits.observe(waited.as_secs_f64());
        }
        Ok((leave, slot))
    }

    /// Breaker and limiter at this moment: leave to call, or how long the limiter wants to wait.
    fn permit(&self, repeat: Repeat, now: Instant) -> Result<Result<Permit, Duration>, Failure> {
        let mut state = self.state();
        let before = state.breaker.state();
        let permit = match repeat {
            Repeat::Look => state.breaker.look(now),
            Repeat::Safe | Repeat::Never => state.breaker.ask(now),
        };
        let permit = permit.map_err(|retry_in| Failure::BreakerOpen { retry_in })?;
        self.note_change(before, state.breaker.state());
        Ok(match state.limiter.admit(now) {
            Ok(()) => Ok(permit),
            Err(wait) => {
                state.breaker.given_up(permit);
                Err(wait)
            }
        })
    }

    fn note_change(&self, before: BreakerState, after: BreakerState) {
        if before == after {
            return;
        }
        self.meters.state(after);
        match after {
            BreakerState::Open => {
                self.meters.opened.inc();
                tracing::warn!(
                    event = event::SYSTEM,
                    dependency = %self.name, "a dependency failed too often and is left alone for a while"
                );
            }
            BreakerState::HalfOpen => tracing::info!(
                event = event::SYSTEM,
                dependency = %self.name, "a dependency is tried again"
            ),
            BreakerState::Closed => tracing::info!(
                event = event::SYSTEM,
                dependency = %self.name, "a dependency is well again"
            ),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to call; dropped without a result it is given back.
struct Leave<'d> {
    dependency: &'d Dependency,
    permit: Option<Permit>,
    repeat: Repeat,
    trying: bool,
}

impl Leave<'_> {
    fn begins(&mut self) {
        self.trying = true;
        self.dependency.meters.in_flight.inc();
    }

    fn with<T>(mut self, result: &Result<T, Failure>, started: Instant, given: Duration) {
        let Some(permit) = self.permit.take() else { return };
        let Dependency { name, config, meters, .. } = self.dependency;
        let now = Instant::now();
        let took = now.saturating_duration_since(started);
        meters.seconds.observe(took.as_secs_f64());
        let mut guard = self.dependency.state();
        let state = &mut *guard;
        let before = state.breaker.state();
        match result {
            Ok(_) => {
                meters.ok.inc();
                state.succeeded += 1;
                state.failing_since = None;
                state.breaker.done(permit, true, now);
                state.limiter.fine(took, now);
            }
            Err(failure) => {
                meters.failed(name, failure.as_str());
                observe::count("egress", failure.category());
                // Whoever came with little time left learnt nothing about the dependency.
                let hasty = matches!(failure, Failure::Timeout { .. }) && given < config.deadline() / 2;
                if failure.is_outage() && !hasty {
                    state.failed += 1;
                    state.failing_since.get_or_insert(now);
                    state.last_failure = Some((failure.to_string(), now));
                    state.breaker.done(permit, false, now);
                } else {
                    state.breaker.given_up(permit);
                }
                if failure.is_overload() && !hasty {
                    let told = match failure {
                        Failure::Status { retry_after, .. } => *retry_after,
                        _ => None,
                    };
                    state.limiter.overloaded(told, now);
                }
            }
        }
        meters.share.set(state.limiter.share());
        let after = state.breaker.state();
        if before == BreakerState::Closed && after != before {
            state.next_look = now + self.dependency.until_look();
        } else if self.repeat == Repeat::Look && result.is_ok() {
            // It seems to be back: the next look shows it.
            state.next_look = now;
        }
        self.dependency.note_change(before, after);
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.trying {
            self.dependency.meters.in_flight.dec();
        }
        if let Some(permit) = self.permit.take() {
            self.dependency.state().breaker.given_up(permit);
        }
    }
}

fn ratio(ok: u32, bad: u32) -> Option<f64> {
    let all = ok.saturating_add(bad);
    (all > 0).then(|| f64::from(ok) / f64::from(all))
}

fn told_to_wait(failure: &Failure) -> Duration {
    match failure {
        Failure::Status { retry_after: Some(wait), .. } => *wait,
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::egress::{BreakerConfig, Metrics, RateConfig, Registry, RetryConfig};

    fn dependency(config: CallConfig) -> Arc<Dependency> {
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        Registry::new(metrics).dependency("test", &config)
    }

    fn status(code: u16, retry_after: Option<u64>) -> Failure {
        Failure::Status { code, retry_after: retry_after.map(Duration::from_secs) }
    }

    async fn ask(dependency: &Dependency, result: Result<u8, Failure>) -> Result<u8, Failure> {
        dependency.call(Repeat::Never, None, |_| std::future::ready(result.clone())).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_hangs_costs_its_deadline_until_the_breaker_opens() {
        let breaker = BreakerConfig { consecutive_failures: 3, success_threshold: 1, ..BreakerConfig::default() };
        let dependency = dependency(CallConfig { deadline_ms: 1_000, breaker, ..CallConfig::default() });
        let hang = || dependency.call(Repeat::Safe, None, |_| std::future::pending::<Result<u8, Failure>>());
        for _ in 0..3 {
            let begun = Instant::now();
            assert!(matches!(hang().await, Err(Failure::Timeout { after_ms: 1_000 })));
            assert_eq!(begun.elapsed(), Duration::from_millis(1_000));
        }
        let begun = Instant::now();
        assert!(matches!(hang().await, Err(Failure::BreakerOpen { .. })));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let snapshot = dependency.snapshot();
        assert_eq!((snapshot.state, snapshot.failed, snapshot.opened, snapshot.refused), (BreakerState::Open, 3, 1, 1));
        assert_eq!(snapshot.success_ratio, Some(0.0));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(ask(&dependency, Ok(7)).await.unwrap(), 7);
        assert_eq!(dependency.snapshot().state, BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn by_default_it_is_well_within_half_a_minute_of_its_return() {
        for back_after in [0, 7, 59, 61, 300] {
            let dependency = dependency(CallConfig::default());
            let hang = || dependency.call(Repeat::Safe, None, |_| std::future::pending::<Result<u8, Failure>>());
            while dependency.snapshot().state == BreakerState::Closed {
                assert!(hang().await.is_err());
            }
            let back = Instant::now() + Duration::from_secs(back_after);
            let mut looks = 0;
            // As whoever looks does, every second; no mail comes.
            while dependency.snapshot().state != BreakerState::Closed {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if !dependency.wants_look() {
                    continue;
                }
                looks += 1;
                let answers = Instant::now() >= back;
                let look = |_| async move { if answers { Ok(1u8) } else { std::future::pending().await } };
                assert_eq!(dependency.call(Repeat::Look, None, look).await.is_ok(), answers);
                if !answers {
                    let begun = Instant::now();
                    let call = ask(&dependency, Ok(1)).await;
                    assert!(call.is_ok() || begun.elapsed().is_zero(), "no message waits for a look");
                }
            }
            assert!(back.elapsed() <= Duration::from_secs(20), "{back_after}: {:?}", back.elapsed());
            assert!(looks <= back_after / 8 + 3, "{looks} looks in {back_after} s");
        }
        let breaker = BreakerConfig { look_seconds: 0, consecutive_failures: 1, ..BreakerConfig::default() };
        let never = dependency(CallConfig { breaker, ..CallConfig::default() });
        assert!(ask(&never, Err(status(500, None))).await.is_err());
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(!never.wants_look());
    }

    #[tokio::test(start_paused = true)]
    async fn only_safe_calls_are_repeated_and_inside_the_deadline() {
        let retry = RetryConfig { attempts: 3, backoff: super::super::Curve::Fixed, base_ms: 400, max_ms: 400 };
        let dependency = dependency(CallConfig { deadline_ms: 1_000, retry, ..CallConfig::default() });
        let tries = AtomicU32::new(0);
        let fail_until = |last: u32, failure: Failure| {
            let tries = &tries;
            move |_| {
                let failed = tries.fetch_add(1, Ordering::Relaxed) + 1 < last;
                std::future::ready(if failed { Err(failure.clone()) } else { Ok(1u8) })
            }
        };
        let begun = Instant::now();
        assert!(dependency.call(Repeat::Safe, None, fail_until(3, status(503, None))).await.is_ok());
        assert_eq!((tries.swap(0, Ordering::Relaxed), begun.elapsed().as_millis()), (3, 800));
        assert!(dependency.call(Repeat::Never, None, fail_until(2, status(503, None))).await.is_err());
        assert_eq!(tries.swap(0, Ordering::Relaxed), 1);
        assert!(dependency.call(Repeat::Safe, None, fail_until(2, status(404, None))).await.is_err());
        assert_eq!(tries.swap(0, Ordering::Relaxed), 1, "another try would be told the same");
        let late = dependency.call(Repeat::Safe, None, fail_until(2, status(503, Some(2)))).await;
        assert!(matches!(late, Err(Failure::Status { code: 503, .. })));
        assert_eq!(tries.swap(0, Ordering::Relaxed), 1, "told to wait longer than the deadline");
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_holds_for_everybody() {
        let dependency = dependency(CallConfig::default());
        assert!(ask(&dependency, Err(status(429, Some(5)))).await.is_err());
        let begun = Instant::now();
        assert!(matches!(ask(&dependency, Ok(1)).await, Err(Failure::RateLimited { .. })));
        assert_eq!(begun.elapsed(), Duration::ZERO, "longer than anybody may wait");
        tokio::time::sleep(Duration::from_millis(4_900)).await;
        assert!(ask(&dependency, Ok(1)).await.is_ok(), "so short a time is waited for");
        assert!(begun.elapsed() >= Duration::from_secs(5));
        assert_eq!(dependency.snapshot().rate_ratio, 0.5 + 0.1 * 5.0);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_wait_for_a_place_and_not_for_ever() {
        let config = CallConfig { concurrent: 1, max_wait_ms: 100, ..CallConfig::default() };
        let dependency = dependency(config);
        let holder = tokio::spawn({
            let dependency = Arc::clone(&dependency);
            async move {
                let hold = |_| async {
                    tokio::time::sleep(Duration::from_millis(150)).await;
                    Ok(1u8)
                };
                dependency.call(Repeat::Never, None, hold).await
            }
        });
        tokio::task::yield_now().await;
        assert_eq!(dependency.snapshot().in_flight, 1);
        assert!(matches!(ask(&dependency, Ok(2)).await, Err(Failure::Busy)));
        assert!(ask(&dependency, Ok(2)).await.is_ok(), "50 ms more are waited for");
        assert!(holder.await.unwrap().is_ok());
        assert_eq!(dependency.snapshot().failed, 0, "having no place says nothing about the dependency");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_or_hasty_gives_its_place_back_and_counts_for_nothing() {
        let breaker = BreakerConfig { consecutive_failures: 1, success_threshold: 1, ..BreakerConfig::default() };
        let dependency = dependency(CallConfig { concurrent: 1, breaker, ..CallConfig::default() });
        let hang = |until| dependency.call(Repeat::Safe, until, |_| std::future::pending::<Result<u8, Failure>>());
        let dropped = tokio::time::timeout(Duration::from_millis(10), hang(None)).await;
        assert!(dropped.is_err());
        let until = Instant::now() + Duration::from_millis(10);
        assert!(matches!(hang(Some(until)).await, Err(Failure::Timeout { after_ms: 10 })));
        assert!(matches!(hang(Some(Instant::now())).await, Err(Failure::Timeout { after_ms: 0 })));
        assert!(ask(&dependency, Err(Failure::Declined("too large".into()))).await.is_err());
        let snapshot = dependency.snapshot();
        assert_eq!((snapshot.state, snapshot.in_flight, snapshot.failed), (BreakerState::Closed, 0, 0));
        // As a probe too.
        assert!(ask(&dependency, Err(status(500, None))).await.is_err());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(tokio::time::timeout(Duration::from_millis(10), hang(None)).await.is_err());
        assert!(ask(&dependency, Ok(1)).await.is_ok());
        assert_eq!(dependency.snapshot().state, BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn it_has_been_failing_since_the_first_failure_after_its_last_success() {
        let dependency = dependency(CallConfig::default());
        // Begun before the success, failed after it.
        let slow = |_| async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Err::<u8, _>(status(500, None))
        };
        let well = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            ask(&dependency, Ok(1)).await
        };
        let (failed, well) = tokio::join!(dependency.call(Repeat::Never, None, slow), well);
        assert!(failed.is_err() && well.is_ok());
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(dependency.failing_for(), Duration::from_millis(500));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_when_his_time_is_over_is_no_call() {
        let registry = prometheus::Registry::new();
        let dependency = Registry::new(Metrics::new(&registry).unwrap()).dependency("test", &CallConfig::default());
        let over = dependency.call(Repeat::Safe, Some(Instant::now()), |_| std::future::ready(Ok(1u8))).await;
        assert_eq!(over.unwrap_err().to_string(), "no time was left to ask");
        let families = registry.gather();
        let calls = families.iter().find(|one| one.name() == "mailweir_dependency_calls_total").unwrap();
        let counted: f64 = calls.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum();
        assert_eq!(counted, 0.0, "{calls:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_bucket_is_waited_for() {
        let rate = RateConfig { per_second: 10, burst: 1, ..RateConfig::default() };
        let dependency = dependency(CallConfig { max_wait_ms: 150, rate, ..CallConfig::default() });
        let begun = Instant::now();
        assert!(ask(&dependency, Ok(1)).await.is_ok());
        assert!(ask(&dependency, Ok(1)).await.is_ok());
        assert_eq!(begun.elapsed(), Duration::from_millis(100));
    }
}
