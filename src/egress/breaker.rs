//! The circuit breaker as a state machine: `now` is an argument, nothing here waits.
//!
//! Closed: calls pass; too many failures in a row, or too large a share of them over a window with enough calls, open it. Open:
//! calls are refused until the recovery time is over. Half open: a few probes pass at a time; enough successes close it, one
//! failure opens it again. A result that comes back after the state has changed is counted, but decides nothing: it is about
//! a time that is over.
//!
//! Besides, a look of our own may be taken at any time, one after the other: enough good ones close it before the recovery time
//! is over, a bad one changes nothing for calls. If it then opens again before a single call has succeeded, looks and calls see
//! different things: looks are not believed, and only calls close it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::window::Window;
use super::wrong_setting::{WrongSetting, wrong};

/// When a dependency is left alone, and when it is tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerConfig {
    /// Failures in a row that open it; 0: never.
    pub consecutive_failures: u32,
    /// Share of failures within the window that opens it, above 0 to 1; 2: never.
    pub failure_rate: f64,
    /// Calls within the window below which the share says nothing.
    pub minimum_calls: u32,
    /// Length of the window.
    pub window_seconds: u32,
    /// How long it stays open before a call is let through as a probe.
    pub recovery_seconds: u32,
    /// How often we look ourselves, a fifth earlier or later, while it is not closed: so it closes soon after the service is
    /// back, and no message has to find that out; 0: never. Only where there is something harmless to ask.
    pub look_seconds: u32,
    /// Successful probes or looks that close it.
    pub success_threshold: u32,
    /// Probes at a time while it is half open.
    pub probes: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_rate: 0.5,
            minimum_calls: 10,
            window_seconds: 30,
            recovery_seconds: 60,
            look_seconds: 10,
            success_threshold: 2,
            probes: 1,
        }
    }
}

impl BreakerConfig {
    /// Whether these settings do what they say.
    ///
    /// # Errors
    /// The first that does not, by its name below `breaker`.
    pub fn check(&self) -> Result<(), WrongSetting> {
        // Above 1 means never, and 50 would be meant for 50 percent.
        if !(self.failure_rate > 0.0 && self.failure_rate <= 2.0) {
            let what = format!("a share from 0 to 1, not {}: for 50 percent write 0.5, for never 2", self.failure_rate);
            return Err(wrong("failure_rate", what));
        }
        if self.window_seconds == 0 {
            return Err(wrong("window_seconds", "a window of no length counts nothing: write at least 1"));
        }
        if self.recovery_seconds == 0 {
            return Err(wrong("recovery_seconds", "it would never be left alone: write at least 1"));
        }
        Ok(())
    }
}

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Lets them pass.
    Closed,
    /// Refuses them.
    Open,
    /// Lets a few pass, to see.
    HalfOpen,
}

impl BreakerState {
    /// The word used in health and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Leave to call; its result is told with it.
#[derive(Debug)]
#[must_use = "the result of the call must be told, or that it was given up"]
pub struct Permit {
    era: u64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Call,
    /// A call that shows whether it is well.
    Probe,
    /// Nobody waits for its answer.
    Look,
}

/// The machine.
#[derive(Debug)]
pub struct Breaker {
    config: BreakerConfig,
    state: BreakerState,
    /// Since when it has been closed, or not.
    since: Instant,
    /// When it last opened.
    left_alone: Instant,
    /// Counts changes of state.
    era: u64,
    window: Window,
    in_a_row: u32,
    probing: u32,
    probes_succeeded: u32,
    looking: bool,
    /// Looks closed it, and no call has shown yet that they were right.
    closed_by_looks: bool,
    looks_err: bool,
    refused: u64,
    opened: u64,
}

impl Breaker {
    /// A closed one.
    pub fn new(config: BreakerConfig, now: Instant) -> Self {
        let window = Window::new(Duration::from_secs(config.window_seconds.into()));
        Self {
            config,
            state: BreakerState::Closed,
            since: now,
            left_alone: now,
            era: 0,
            window,
            in_a_row: 0,
            probing: 0,
            probes_succeeded: 0,
            looking: false,
            closed_by_looks: false,
            looks_err: false,
            refused: 0,
            opened: 0,
        }
    }

    /// May a call be made now?
    ///
    /// # Errors
    /// No; the time after which it is worth asking again (zero while probes are under way).
    pub fn ask(&mut self, now: Instant) -> Result<Permit, Duration> {
        if let Some(left) = self.refuses(now) {
            self.refused += 1;
            return Err(left);
        }
        if self.state == BreakerState::Open {
            self.change(BreakerState::HalfOpen, now);
        }
        let probe = self.state == BreakerState::HalfOpen;
        if probe {
            self.probing += 1;
        }
        Ok(Permit { era: self.era, kind: if probe { Kind::Probe } else { Kind::Call } })
    }

    /// Whether a call made now is refused, and the time after which it is worth asking again.
    pub fn refuses(&self, now: Instant) -> Option<Duration> {
        match self.state {
            BreakerState::Closed => None,
            BreakerState::Open => {
                Some((self.left_alone + self.recovery()).saturating_duration_since(now)).filter(|left| !left.is_zero())
            }
            BreakerState::HalfOpen => (self.probing >= self.config.probes.max(1)).then_some(Duration::ZERO),
        }
    }

    /// Counts a call that was not made because it would have been refused.
    pub fn spared(&mut self) {
        self.refused += 1;
    }

    /// May a look be taken now? A closed one takes it as any other call.
    ///
    /// # Errors
    /// No: another look is under way, or looks are not believed; as [`Self::ask`].
    pub fn look(&mut self, now: Instant) -> Result<Permit, Duration> {
        if self.state == BreakerState::Closed {
            return self.ask(now);
        }
        if self.looking || self.looks_err {
            return Err((self.left_alone + self.recovery()).saturating_duration_since(now));
        }
        self.looking = true;
        Ok(Permit { era: self.era, kind: Kind::Look })
    }

    /// Tells how a call ended.
    pub fn done(&mut self, permit: Permit, succeeded: bool, now: Instant) {
        self.window.add(succeeded, now);
        if permit.era != self.era {
            return;
        }
        match permit.kind {
            Kind::Call => {}
            // What it says in between: nothing.
            Kind::Look if !succeeded && self.state == BreakerState::Open => {
                self.looking = false;
                self.probes_succeeded = 0;
                return;
            }
            Kind::Probe | Kind::Look => return self.shown(permit.kind, succeeded, now),
        }
        if succeeded {
            self.in_a_row = 0;
            self.closed_by_looks = false;
            return;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        let in_a_row = self.config.consecutive_failures > 0 && self.in_a_row >= self.config.consecutive_failures;
        if in_a_row || self.too_large_a_share(now) {
            self.open(now);
        }
    }

    /// A probe or a look shows how it is.
    fn shown(&mut self, kind: Kind, succeeded: bool, now: Instant) {
        match kind {
            Kind::Look => self.looking = false,
            _ => self.probing = self.probing.saturating_sub(1),
        }
        if !succeeded {
            return self.open(now);
        }
        self.probes_succeeded += 1;
        if self.probes_succeeded >= self.config.success_threshold {
            self.change(BreakerState::Closed, now);
            self.closed_by_looks = kind == Kind::Look;
            self.looks_err = false;
            self.window.clear();
        }
    }

    /// A call was given up, or ended in a way that says nothing about the dependency's health.
    pub fn given_up(&mut self, permit: Permit) {
        if permit.era != self.era {
            return;
        }
        match permit.kind {
            Kind::Call => {}
            Kind::Probe => self.probing = self.probing.saturating_sub(1),
            Kind::Look => self.looking = false,
        }
    }

    /// What it does with calls. An open one whose time is over says `open` until the next call probes.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Since when it has been closed, or not closed.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Good and bad calls of the window.
    pub fn counts(&mut self, now: Instant) -> (u32, u32) {
        self.window.counts(now)
    }

    /// Calls refused, and times it opened, since the start.
    pub fn totals(&self) -> (u64, u64) {
        (self.refused, self.opened)
    }

    fn recovery(&self) -> Duration {
        Duration::from_secs(self.config.recovery_seconds.into())
    }

    fn too_large_a_share(&mut self, now: Instant) -> bool {
        let (ok, bad) = self.window.counts(now);
        let all = ok.saturating_add(bad);
        all >= self.config.minimum_calls.max(1) && f64::from(bad) / f64::from(all) >= self.config.failure_rate
    }

    fn open(&mut self, now: Instant) {
        self.opened += 1;
        if self.state == BreakerState::Closed {
            self.looks_err = self.closed_by_looks;
        }
        self.left_alone = now;
        self.change(BreakerState::Open, now);
    }

    fn change(&mut self, state: BreakerState, now: Instant) {
        if (self.state == BreakerState::Closed) != (state == BreakerState::Closed) {
            self.since = now;
        }
        self.state = state;
        self.era += 1;
        self.looking = false;
        self.in_a_row = 0;
        self.probing = 0;
        self.probes_succeeded = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::BreakerState::{Closed, HalfOpen, Open};
    use super::*;

    fn config() -> BreakerConfig {
        BreakerConfig { consecutive_failures: 3, minimum_calls: 4, success_threshold: 2, ..BreakerConfig::default() }
    }

    fn call(breaker: &mut Breaker, succeeded: bool, now: Instant) {
        let permit = breaker.ask(now).expect("may call");
        breaker.done(permit, succeeded, now);
    }

    #[test]
    fn failures_in_a_row_open_it_and_probes_close_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut breaker = Breaker::new(config(), start);
        call(&mut breaker, false, at(0));
        call(&mut breaker, false, at(0));
        call(&mut breaker, true, at(0)); // the row begins anew
        call(&mut breaker, false, at(40));
        call(&mut breaker, false, at(40));
        assert_eq!(breaker.state(), Closed);
        call(&mut breaker, false, at(41));
        assert_eq!((breaker.state(), breaker.since()), (Open, at(41)));
        assert_eq!(breaker.ask(at(42)).unwrap_err(), Duration::from_secs(59));
        assert_eq!(breaker.ask(at(100)).unwrap_err(), Duration::from_secs(1));
        // One probe at a time.
        let probe = breaker.ask(at(101)).unwrap();
        assert_eq!(breaker.state(), HalfOpen);
        assert_eq!(breaker.ask(at(101)).unwrap_err(), Duration::ZERO);
        breaker.done(probe, true, at(102));
        assert_eq!(breaker.state(), HalfOpen);
        call(&mut breaker, true, at(103));
        assert_eq!(breaker.state(), Closed);
        assert_eq!(breaker.counts(at(103)), (0, 0), "old failures must not open it at once again");
        assert_eq!(breaker.totals(), (3, 1));
    }

    #[test]
    fn a_probe_that_fails_opens_it_again_for_the_whole_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut breaker = Breaker::new(config(), start);
        (0..3).for_each(|_| call(&mut breaker, false, start));
        call(&mut breaker, false, at(60));
        assert_eq!((breaker.state(), breaker.since()), (Open, at(0)), "not closed since then");
        assert!(breaker.ask(at(119)).is_err());
        call(&mut breaker, true, at(120));
        assert_eq!(breaker.state(), HalfOpen);
    }

    #[test]
    fn a_share_of_failures_opens_it_when_there_were_enough_calls() {
        let start = Instant::now();
        let mut breaker = Breaker::new(BreakerConfig { consecutive_failures: 0, ..config() }, start);
        for succeeded in [true, false, true] {
            call(&mut breaker, succeeded, start);
        }
        assert_eq!(breaker.state(), Closed, "one of three, and too few to tell");
        call(&mut breaker, false, start);
        assert_eq!(breaker.state(), Open, "two of four");
    }

    #[test]
    fn late_results_decide_nothing() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut breaker = Breaker::new(config(), start);
        let (slow_bad, slow_good) = (breaker.ask(start).unwrap(), breaker.ask(start).unwrap());
        (0..3).for_each(|_| call(&mut breaker, false, at(1)));
        let probe = breaker.ask(at(61)).unwrap();
        breaker.done(slow_bad, false, at(62));
        assert_eq!(breaker.state(), HalfOpen, "a call from before must not open it");
        breaker.done(slow_good, true, at(62));
        assert!(breaker.ask(at(62)).is_err(), "nor give back the probe's place");
        breaker.done(probe, true, at(63));
        assert_eq!(breaker.state(), HalfOpen, "nor count as a probe");
    }

    #[test]
    fn probes_given_up_give_their_place_back() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut breaker = Breaker::new(config(), start);
        (0..3).for_each(|_| call(&mut breaker, false, start));
        for _ in 0..5 {
            let probe = breaker.ask(at(60)).expect("the place is free again");
            breaker.given_up(probe);
        }
        assert_eq!(breaker.state(), HalfOpen);
    }

    #[test]
    fn looks_close_it_before_its_time_and_are_not_believed_twice() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let look = |breaker: &mut Breaker, succeeded, now| {
            let permit = breaker.look(now).expect("may look");
            breaker.done(permit, succeeded, now);
        };
        let mut breaker = Breaker::new(config(), start);
        (0..3).for_each(|_| call(&mut breaker, false, start));
        look(&mut breaker, true, at(10));
        look(&mut breaker, false, at(20)); // the row begins anew
        assert_eq!(breaker.ask(at(20)).unwrap_err(), Duration::from_secs(40), "a bad look costs no time");
        look(&mut breaker, true, at(30));
        assert!(breaker.ask(at(30)).is_err(), "no call is let through for a look");
        let one = breaker.look(at(31)).unwrap();
        assert!(breaker.look(at(31)).is_err(), "one at a time");
        breaker.done(one, true, at(32));
        assert_eq!((breaker.state(), breaker.since()), (Closed, at(32)));
        // Calls find otherwise: from now on they decide.
        (0..3).for_each(|_| call(&mut breaker, false, at(33)));
        assert_eq!(breaker.look(at(43)).unwrap_err(), Duration::from_secs(50));
        (0..2).for_each(|_| call(&mut breaker, true, at(93)));
        assert_eq!(breaker.state(), Closed);
        (0..3).for_each(|_| call(&mut breaker, false, at(94)));
        (0..2).for_each(|_| look(&mut breaker, true, at(95)));
        call(&mut breaker, true, at(96));
        (0..3).for_each(|_| call(&mut breaker, false, at(97)));
        assert!(breaker.look(at(98)).is_ok(), "they were right");
    }

    proptest! {
        /// Whatever happens in whatever order: never more probes than allowed, an open one refuses until its time is over,
        /// and when all calls succeed from then on it closes.
        #[test]
        fn holds_its_promises(steps in prop::collection::vec((0u8..5, 0u64..30, 0usize..8), 0..300)) {
            let mut now = Instant::now();
            let mut breaker = Breaker::new(BreakerConfig { probes: 2, ..config() }, now);
            let mut under_way: Vec<Permit> = Vec::new();
            for (what, seconds, which) in steps {
                now += Duration::from_secs(seconds);
                match what {
                    0 | 1 => {
                        let (state, since) = (breaker.state(), breaker.left_alone);
                        match breaker.ask(now) {
                            Ok(permit) => under_way.push(permit),
                            Err(left) => prop_assert!(state != Closed && left <= Duration::from_secs(60)),
                        }
                        if state == Open && breaker.state() == HalfOpen {
                            prop_assert!(now >= since + Duration::from_secs(60));
                        }
                    }
                    4 => under_way.extend(breaker.look(now)),
                    _ if under_way.is_empty() => {}
                    2 => {
                        let permit = under_way.remove(which % under_way.len());
                        breaker.done(permit, which % 2 == 0, now);
                    }
                    _ => breaker.given_up(under_way.remove(which % under_way.len())),
                }
                let of = |kind| under_way.iter().filter(|p| p.kind == kind && p.era == breaker.era).count();
                let (probes, looks) = (of(Kind::Probe), of(Kind::Look));
                prop_assert!(probes <= 2 && looks == usize::from(breaker.looking));
                prop_assert_eq!(breaker.probing as usize, probes);
            }
            under_way.into_iter().for_each(|permit| breaker.given_up(permit));
            for _ in 0..4 {
                now += Duration::from_secs(60);
                call(&mut breaker, true, now);
            }
            prop_assert_eq!(breaker.state(), Closed);
        }
    }
}
