//! From readings to measures: counts become rates over windows, times a percentile, verdicts a change of their mix.
//!
//! Pure: the time is an argument, and it is that of a clock that nobody sets (`steady_ms`), for windows must not shrink or empty
//! when the other one steps. Memory is bounded: each window keeps at most so many samples, spread over its time. What counts over
//! long times is remembered ([`Memory`]) and goes on in the next process, whose counters begin at zero; so does since when
//! something has been down.
//! More than 500 lines with its tests: windows and what is made of them are read together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::AlertsConfig;
use super::kind::Kind;
use super::readings::{Answers, Breaker, Database, Readings, Service, Times, Verdicts};

const HOUR_MS: i64 = 60 * 60 * 1_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Samples of one window; between two ticks there may be half the space, so twice as many at most.
const SAMPLES: i64 = 720;
/// Services and other subjects of one kind that are watched.
const SUBJECTS: usize = 500;

/// One thing, measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// What it is.
    pub kind: Kind,
    /// Of what: a service, a disk. Empty when there is only one.
    pub subject: String,
    /// In the unit of the kind; none: no answer at all.
    pub value: Option<f64>,
    /// What else is known, in words.
    pub note: Option<String>,
}

/// State of counters.
trait Count: Clone + Default {
    /// So much more than what was counted before.
    fn plus(&self, before: &Self) -> Self;

    /// Whether it can come after `earlier` in one life of what is counted.
    fn follows(&self, earlier: &Self) -> bool;
}

impl Count for u64 {
    fn plus(&self, before: &Self) -> Self {
        self.saturating_add(*before)
    }

    fn follows(&self, earlier: &Self) -> bool {
        self >= earlier
    }
}

impl Count for (u64, u64) {
    fn plus(&self, before: &Self) -> Self {
        (self.0.plus(&before.0), self.1.plus(&before.1))
    }

    fn follows(&self, earlier: &Self) -> bool {
        self.0 >= earlier.0 && self.1 >= earlier.1
    }
}

impl Count for Answers {
    fn plus(&self, before: &Self) -> Self {
        Self { all: self.all.plus(&before.all), deferred: self.deferred.plus(&before.deferred) }
    }

    fn follows(&self, earlier: &Self) -> bool {
        self.all >= earlier.all && self.deferred >= earlier.deferred
    }
}

impl Count for Verdicts {
    fn plus(&self, before: &Self) -> Self {
        Self { all: self.all.plus(&before.all), stopped: self.stopped.plus(&before.stopped) }
    }

    fn follows(&self, earlier: &Self) -> bool {
        self.all >= earlier.all && self.stopped >= earlier.stopped
    }
}

impl Count for Times {
    // Of the last minutes only: nothing is remembered.
    fn plus(&self, _: &Self) -> Self {
        self.clone()
    }

    fn follows(&self, earlier: &Self) -> bool {
        self.count >= earlier.count && self.bounds == earlier.bounds
    }
}

/// Samples of a window: milliseconds of the steady clock, and what was counted by then.
type Samples<T> = Vec<(i64, T)>;

/// What is remembered between two processes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// When, milliseconds since 1970.
    at_ms: i64,
    /// The same moment by the steady clock.
    steady_ms: i64,
    rate_limited: Samples<u64>,
    auth_failures: Samples<u64>,
    failed_holds: Samples<u64>,
    panics: Samples<u64>,
    answers: Samples<Answers>,
    mix: Samples<Verdicts>,
    /// Since when breakers have not been closed, and next hops not been reached.
    open_since_ms: BTreeMap<String, i64>,
    down_since_ms: BTreeMap<String, i64>,
}

/// By how much the steady clock of this process is ahead of another's, each given with what the clock of all said then. One that
/// was set back meanwhile says nothing of how long it has been.
pub(super) fn later_ms((then_ms, their_steady_ms): (i64, i64), (now_ms, steady_ms): (i64, i64)) -> i64 {
    let gone_ms = now_ms.saturating_sub(then_ms).max(0);
    steady_ms.saturating_sub(gone_ms).saturating_sub(their_steady_ms)
}

/// Counts over time.
#[derive(Debug, Clone)]
struct Window<T> {
    length_ms: i64,
    /// What was counted before the counters began.
    base: T,
    samples: VecDeque<(i64, T)>,
    /// Whether a share of it has been told at the last look.
    told: bool,
}

impl<T: Count> Window<T> {
    fn new(length_ms: i64) -> Self {
        Self { length_ms: length_ms.max(1), base: T::default(), samples: VecDeque::new(), told: false }
    }

    /// Goes on where another process was, of whose clock `later_ms` have gone by on ours.
    fn recall(&mut self, samples: Samples<T>, later_ms: i64) {
        self.base = samples.last().map(|(_, last)| last.clone()).unwrap_or_default();
        self.samples = samples.into_iter().map(|(at, count)| (at.saturating_add(later_ms), count)).collect();
    }

    fn samples(&self) -> Samples<T> {
        self.samples.iter().cloned().collect()
    }

    /// Adds a sample; counts that went back belong to another life of what is counted.
    fn add(&mut self, now_ms: i64, sample: T) {
        let sample = sample.plus(&self.base);
        if self.samples.back().is_some_and(|(at, last)| !sample.follows(last) || *at > now_ms) {
            self.samples.clear();
        }
        // The one just outside is kept: what is counted is counted since then.
        while self.samples.get(1).is_some_and(|(at, _)| *at <= now_ms - self.length_ms) {
            self.samples.pop_front();
        }
        let close = self.samples.len() > 1
            && self.samples.get(self.samples.len() - 2).is_some_and(|(at, _)| now_ms - at < self.length_ms / SAMPLES);
        if close {
            self.samples.pop_back();
        }
        self.samples.push_back((now_ms, sample));
    }

    fn ends(&self) -> Option<(&T, &T)> {
        Some((&self.samples.front()?.1, &self.samples.back()?.1))
    }

    /// How much good was counted since the last sample in which something bad was.
    fn since_last(&self, bad: impl Fn(&T) -> u64, good: impl Fn(&T) -> u64) -> u64 {
        let Some((_, last)) = self.samples.back() else { return 0 };
        let quiet = self.samples.iter().rev().take_while(|(_, count)| bad(count) == bad(last)).last();
        quiet.map_or(0, |(_, count)| good(last) - good(count))
    }

    /// Whether a share of what was counted is to be told. Troubles that were too few to speak of do not become one by what went
    /// well after them.
    fn tells(&mut self, enough: bool, recovers: bool) -> bool {
        self.told = enough && (self.told || !recovers);
        self.told
    }

    /// The newest sample that is at least so old, with its time.
    fn before(&self, at_ms: i64) -> Option<&(i64, T)> {
        self.samples.iter().rfind(|(at, _)| *at <= at_ms)
    }
}

/// Makes measures of readings; remembers what it needs of those before.
#[derive(Debug)]
pub struct Gauges {
    window_ms: i64,
    minimum: u64,
    mix_ms: i64,
    mix_minimum: u64,
    api: Window<Times>,
    rate_limited: Window<u64>,
    auth_failures: Window<u64>,
    services: BTreeMap<String, Window<(u64, u64)>>,
    /// Since when breakers have not been closed: half open between two openings does not count as closed.
    open_since_ms: BTreeMap<String, i64>,
    /// Since when next hops have not been reached, and since when they had not been when the last process ended.
    down_since_ms: BTreeMap<String, i64>,
    down_before_ms: BTreeMap<String, i64>,
    mix: Window<Verdicts>,
    failed_holds: Window<u64>,
    panics: Window<u64>,
    answers: Window<Answers>,
}

impl Gauges {
    /// Without any memory.
    pub fn new(config: &AlertsConfig) -> Self {
        let window_ms = i64::from(config.window_seconds) * 1_000;
        let mix_ms = i64::from(config.mix_seconds) * 1_000;
        Self {
            window_ms,
            minimum: u64::from(config.minimum_calls.max(1)),
            mix_ms,
            mix_minimum: u64::from(config.mix_minimum_messages.max(1)),
            api: Window::new(window_ms),
            rate_limited: Window::new(HOUR_MS),
            auth_failures: Window::new(HOUR_MS),
            services: BTreeMap::new(),
            open_since_ms: BTreeMap::new(),
            down_since_ms: BTreeMap::new(),
            down_before_ms: BTreeMap::new(),
            mix: Window::new(DAY_MS + mix_ms),
            failed_holds: Window::new(window_ms),
            panics: Window::new(window_ms),
            answers: Window::new(window_ms),
        }
    }

    /// Measures by other settings from now on; what was counted stays.
    pub fn retune(&mut self, config: &AlertsConfig) {
        let new = Self::new(config);
        (self.window_ms, self.minimum) = (new.window_ms, new.minimum);
        (self.mix_ms, self.mix_minimum) = (new.mix_ms, new.mix_minimum);
        self.api.length_ms = new.window_ms;
        self.services.values_mut().for_each(|window| window.length_ms = new.window_ms);
        self.mix.length_ms = new.mix.length_ms;
        self.failed_holds.length_ms = new.window_ms;
        self.panics.length_ms = new.window_ms;
        self.answers.length_ms = new.window_ms;
    }

    /// What is to be remembered at this moment.
    pub fn memory(&self, now_ms: i64, steady_ms: i64) -> Memory {
        Memory {
            at_ms: now_ms,
            steady_ms,
            rate_limited: self.rate_limited.samples(),
            auth_failures: self.auth_failures.samples(),
            failed_holds: self.failed_holds.samples(),
            panics: self.panics.samples(),
            answers: self.answers.samples(),
            mix: self.mix.samples(),
            open_since_ms: self.open_since_ms.clone(),
            down_since_ms: self.down_since_ms.clone(),
        }
    }

    /// Goes on from what another process remembered, before anything is measured.
    pub fn recall(&mut self, memory: Memory, now_ms: i64, steady_ms: i64) {
        let later_ms = later_ms((memory.at_ms, memory.steady_ms), (now_ms, steady_ms));
        self.rate_limited.recall(memory.rate_limited, later_ms);
        self.auth_failures.recall(memory.auth_failures, later_ms);
        self.failed_holds.recall(memory.failed_holds, later_ms);
        self.panics.recall(memory.panics, later_ms);
        self.answers.recall(memory.answers, later_ms);
        self.mix.recall(memory.mix, later_ms);
        let recalled = |since: BTreeMap<String, i64>| {
            since.into_iter().map(|(name, since)| (name, since.saturating_add(later_ms))).collect()
        };
        self.open_since_ms = recalled(memory.open_since_ms);
        self.down_before_ms = recalled(memory.down_since_ms);
        self.down_since_ms = self.down_before_ms.clone();
    }

    /// Measures everything that was read; `now_ms` by a clock that only goes on.
    pub fn measure(&mut self, readings: &Readings, now_ms: i64) -> Vec<Measure> {
        let mut measures = Vec::new();
        let one = |kind, value| Measure { kind, subject: String::new(), value: Some(value), note: None };
        if let Some(times) = &readings.api {
            self.api.add(now_ms, times.clone());
            let seconds = self.api.ends().and_then(|(from, to)| percentile(from, to, 0.95, self.minimum));
            measures.extend(seconds.map(|seconds| one(Kind::ApiLatency, seconds)));
        }
        for (kind, count, window) in [
            (Kind::RateLimitAbuse, readings.rate_limited, &mut self.rate_limited),
            (Kind::AuthFailures, readings.auth_failures, &mut self.auth_failures),
            (Kind::FailedHolds, readings.failed_holds, &mut self.failed_holds),
            (Kind::Panics, readings.panics, &mut self.panics),
        ] {
            let Some(count) = count else { continue };
            window.add(now_ms, count);
            measures.extend(window.ends().map(|(from, to)| one(kind, (to - from) as f64)));
        }
        self.services(&readings.services, now_ms, &mut measures);
        for (name, seconds) in readings.next_hops.iter().take(SUBJECTS) {
            measures.push(Measure { subject: name.clone(), ..one(Kind::NextHop, self.down(name, *seconds, now_ms)) });
        }
        let age = |(name, seconds): &(String, f64)| Measure { subject: name.clone(), ..one(Kind::QueueAge, *seconds) };
        measures.extend(readings.queue_ages.iter().take(SUBJECTS).map(age));
        let perhaps = [
            (Kind::Disk, &readings.disks),
            (Kind::FeedAge, &readings.feeds),
            (Kind::Certificate, &readings.certificates),
        ];
        for (kind, values) in perhaps {
            let named = |(subject, value): &(String, Option<f64>)| Measure {
                subject: subject.clone(),
                value: *value,
                ..one(kind, 0.0)
            };
            measures.extend(values.iter().take(SUBJECTS).map(named));
        }
        measures.extend(readings.queue_silent.map(|seconds| one(Kind::Queue, seconds)));
        let queue =
            |(name, jobs): &(String, u64)| Measure { subject: name.clone(), ..one(Kind::QueueDepth, *jobs as f64) };
        measures.extend(readings.queues.iter().take(SUBJECTS).map(queue));
        measures.extend(readings.dead_letters.map(|dead| one(Kind::DeadLetters, dead as f64)));
        measures.extend(readings.database.map(|database| match database {
            Database::After(seconds) => one(Kind::DatabaseLatency, seconds),
            Database::Open(seconds) => {
                Measure { note: Some("it has not answered yet".into()), ..one(Kind::DatabaseLatency, seconds) }
            }
            Database::Silent(seconds) => {
                Measure { value: None, note: Some(format!("for {seconds:.0} s")), ..one(Kind::DatabaseLatency, 0.0) }
            }
        }));
        if let Some(answers) = readings.answers {
            self.answers.add(now_ms, answers);
            let (all, deferred) =
                self.answers.ends().map_or((0, 0), |(from, to)| (to.all - from.all, to.deferred - from.deferred));
            // Too few make no share, and where mail has stopped, so has the reading. But if the last were taken, the trouble is over.
            let taken = self.answers.since_last(|a| a.deferred, |a| a.all - a.deferred) > 0;
            let tells = self.answers.tells(all >= self.minimum, taken);
            let share = if tells { Some(deferred as f64 / all as f64) } else { taken.then_some(0.0) };
            measures.extend(share.map(|share| one(Kind::Deferrals, share)));
        }
        if let Some(verdicts) = readings.verdicts {
            self.mix.add(now_ms, verdicts);
            measures.extend(self.mix(now_ms));
        }
        measures
    }

    /// For how long a next hop has not been reached, of which this process knows the last `seconds`.
    fn down(&mut self, name: &str, seconds: f64, now_ms: i64) -> f64 {
        if seconds == 0.0 {
            self.down_since_ms.remove(name);
            self.down_before_ms.remove(name);
            return 0.0;
        }
        let began = now_ms.saturating_sub((seconds * 1_000.0) as i64);
        let since = self.down_before_ms.get(name).map_or(began, |before| began.min(*before));
        self.down_since_ms.insert(name.to_owned(), since);
        now_ms.saturating_sub(since) as f64 / 1_000.0
    }

    fn services(&mut self, services: &[Service], now_ms: i64, measures: &mut Vec<Measure>) {
        let names: BTreeSet<&str> = services.iter().take(SUBJECTS).map(|service| service.name.as_str()).collect();
        self.services.retain(|name, _| names.contains(name.as_str()));
        self.open_since_ms.retain(|name, _| names.contains(name.as_str()));
        for service in services.iter().take(SUBJECTS) {
            let window = self.services.entry(service.name.clone()).or_insert_with(|| Window::new(self.window_ms));
            window.add(now_ms, (service.answered, service.failed));
            let of = |kind, value| Measure {
                kind,
                subject: service.name.clone(),
                value: Some(value),
                note: service.last_failure.clone(),
            };
            let (answered, failed) = window.ends().map_or((0, 0), |(from, to)| (to.0 - from.0, to.1 - from.1));
            let closed = !matches!(service.breaker, Breaker::Open(_));
            // Too few make no share; but if the last were answered, it does not fail any more.
            let well = closed && window.since_last(|(_, failed)| *failed, |(answered, _)| *answered) > 0;
            if window.tells(answered + failed >= self.minimum, well && failed > 0) {
                let share = answered as f64 / (answered + failed) as f64;
                measures.push(of(Kind::ServiceAvailability, share));
            } else if well {
                let note = Some("the last calls were answered".to_owned());
                measures.push(Measure { note, ..of(Kind::ServiceAvailability, 1.0) });
            }
            let seconds = match service.breaker {
                // What was known of it stands until somebody has asked.
                Breaker::Unasked => continue,
                Breaker::Closed => {
                    self.open_since_ms.remove(&service.name);
                    0.0
                }
                Breaker::Open(seconds) => {
                    let began = now_ms - i64::try_from(seconds).unwrap_or(0).saturating_mul(1_000);
                    let since = self.open_since_ms.entry(service.name.clone()).or_insert(began);
                    (now_ms - *since).max(0) as f64 / 1_000.0
                }
            };
            measures.push(of(Kind::BreakerOpen, seconds));
        }
    }

    /// By how much the share of stopped messages has changed, when that is more than chance.
    fn mix(&self, now_ms: i64) -> Option<Measure> {
        let (first, last) = self.mix.ends()?;
        let (_, middle) = self.mix.before(now_ms - self.mix_ms)?;
        let recent = Verdicts { all: last.all - middle.all, stopped: last.stopped - middle.stopped };
        let usual = Verdicts { all: middle.all - first.all, stopped: middle.stopped - first.stopped };
        if recent.all < self.mix_minimum || usual.all < 4 * self.mix_minimum {
            return None;
        }
        let share = |verdicts: Verdicts| verdicts.stopped as f64 / verdicts.all as f64;
        let (is, was) = (share(recent), share(usual));
        // Three standard deviations of a share that small numbers cannot make certain.
        let floor = was.clamp(0.01, 0.99);
        let chance = 3.0 * (floor * (1.0 - floor) / recent.all as f64).sqrt();
        let change = (is - was).abs();
        let value = if change > chance { change } else { 0.0 };
        let note = format!(
            "{:.0}% of {} messages were not passed on, {:.0}% of {} before",
            is * 100.0,
            recent.all,
            was * 100.0,
            usual.all
        );
        Some(Measure { kind: Kind::VerdictMix, subject: String::new(), value: Some(value), note: Some(note) })
    }
}

/// A percentile of what came between two states of a histogram, by linear interpolation within its bucket; the last bound
/// for what lies beyond it.
fn percentile(from: &Times, to: &Times, share: f64, minimum: u64) -> Option<f64> {
    let count = to.count - from.count;
    if count < minimum {
        return None;
    }
    let rank = share * count as f64;
    let mut below = (0.0, 0.0);
    for (bound, (a, b)) in to.bounds.iter().zip(from.within.iter().zip(&to.within)) {
        let within = b.saturating_sub(*a) as f64;
        if within >= rank {
            let (lower, fewer) = below;
            return Some(if within > fewer {
                lower + (bound - lower) * (rank - fewer) / (within - fewer)
            } else {
                *bound
            });
        }
        below = (*bound, within);
    }
    to.bounds.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000;

    fn value(measures: &[Measure], kind: Kind) -> Option<f64> {
        measures.iter().find(|m| m.kind == kind).map(|m| m.value.unwrap())
    }

    #[test]
    fn counts_are_of_the_last_hour() {
        let mut gauges = Gauges::new(&AlertsConfig::default());
        let mut at = |second: i64, count: u64| {
            let readings = Readings { auth_failures: Some(count), ..Readings::default() };
            value(&gauges.measure(&readings, second * SECOND), Kind::AuthFailures).unwrap()
        };
        assert_eq!(at(0, 1_000), 0.0, "what was before nobody knows");
        assert_eq!(at(10, 1_007), 7.0);
        assert_eq!(at(1_800, 1_050), 50.0);
        assert_eq!(at(3_600, 1_050), 50.0);
        assert_eq!(at(3_610, 1_050), 43.0);
        assert_eq!(at(5_500, 1_050), 0.0);
        assert_eq!(at(5_510, 3), 0.0, "the counter began anew");
        for second in 5_511..20_000 {
            at(second, 3 + second as u64);
        }
        let last = at(20_000, 30_000);
        assert!((13_597.0..=13_603.0).contains(&last), "{last}");
        assert!(
            gauges.auth_failures.samples.len() <= 2 * SAMPLES as usize + 3,
            "{}",
            gauges.auth_failures.samples.len()
        );
    }

    #[test]
    fn jobs_that_wait_and_jobs_that_are_dead() {
        let mut gauges = Gauges::new(&AlertsConfig::default());
        let of = |name: &str, value| (name.to_owned(), value);
        let readings = Readings {
            queue_silent: Some(0.0),
            queues: vec![("high".into(), 7)],
            queue_ages: vec![of("high", 301.5), of("low", 0.0)],
            dead_letters: Some(3),
            ..Readings::default()
        };
        let measures = gauges.measure(&readings, 0);
        let found = |kind| measures.iter().filter(move |m| m.kind == kind).map(move |m| (m.subject.as_str(), m.value));
        assert_eq!(found(Kind::QueueAge).collect::<Vec<_>>(), [("high", Some(301.5)), ("low", Some(0.0))]);
        assert_eq!(found(Kind::DeadLetters).collect::<Vec<_>>(), [("", Some(3.0))]);
        assert_eq!(found(Kind::Queue).collect::<Vec<_>>(), [("", Some(0.0))]);
        let words = [Kind::QueueAge.words(Some(301.5)), Kind::DeadLetters.words(Some(3.0))];
        assert_eq!(words, ["the oldest job has waited for 302 s", "3 jobs are not tried again"]);
        assert!(gauges.measure(&Readings::default(), 1).is_empty(), "what is not read is not judged");
    }

    #[test]
    fn percentiles() {
        let times = |within: [u64; 3], count| Times { bounds: vec![0.1, 1.0, 10.0], within: within.to_vec(), count };
        let none = times([0, 0, 0], 0);
        for (to, expected) in [
            (times([100, 100, 100], 100), Some(0.095)),
            (times([90, 100, 100], 100), Some(0.55)),
            (times([0, 0, 0], 100), Some(10.0)),
            (times([4, 4, 4], 4), None),
        ] {
            let got = percentile(&none, &to, 0.95, 5);
            assert_eq!(got.map(|v| (v * 1e6).round()), expected.map(|v: f64| (v * 1e6).round()), "{to:?}");
        }
        let old = times([1_000, 1_000, 1_000], 1_000);
        let slow = times([1_000, 1_000, 1_010], 1_010);
        assert!(percentile(&old, &slow, 0.95, 5).unwrap() > 9.0, "only what is new counts");
    }

    #[test]
    fn availability_and_open_breakers() {
        let mut gauges = Gauges::new(&AlertsConfig::default());
        let mut at = |second: i64, answered, failed, open: Option<u64>| {
            let breaker = open.map_or(Breaker::Closed, Breaker::Open);
            let service = Service { name: "clamd".into(), answered, failed, breaker, last_failure: None };
            let measures =
                gauges.measure(&Readings { services: vec![service], ..Readings::default() }, second * SECOND);
            (value(&measures, Kind::ServiceAvailability), value(&measures, Kind::BreakerOpen).unwrap())
        };
        assert_eq!(at(0, 50, 0, None), (None, 0.0));
        assert_eq!(at(10, 68, 1, None), (None, 0.0), "too few");
        assert_eq!(at(20, 69, 1, Some(5)), (Some(0.95), 5.0), "one of twenty: not below the threshold");
        assert_eq!(at(80, 69, 1, Some(1)), (Some(0.95), 65.0), "half open and open again");
        assert_eq!(at(400, 69, 31, Some(200)), (Some(0.0), 385.0));
        assert_eq!(at(410, 70, 31, None).1, 0.0);
        let gone = gauges.measure(&Readings::default(), 420 * SECOND);
        assert!(gone.is_empty() && gauges.services.is_empty(), "{gone:?}");
    }

    #[test]
    fn what_is_over_is_seen_with_little_mail() {
        let mut gauges = Gauges::new(&AlertsConfig::default());
        let mut at = |second: i64, answered, failed, open: Option<u64>, all, deferred| {
            let breaker = open.map_or(Breaker::Closed, Breaker::Open);
            let service = Service { name: "clamd".into(), answered, failed, breaker, last_failure: None };
            let readings =
                Readings { services: vec![service], answers: Some(Answers { all, deferred }), ..Readings::default() };
            let measures = gauges.measure(&readings, second * SECOND);
            (value(&measures, Kind::ServiceAvailability), value(&measures, Kind::Deferrals))
        };
        at(0, 0, 0, None, 0, 0);
        assert_eq!(at(10, 0, 40, None, 40, 40), (Some(0.0), Some(1.0)));
        assert_eq!(at(400, 0, 40, None, 40, 40), (None, None), "nothing is asked, nothing is known");
        assert_eq!(at(410, 0, 41, None, 41, 41), (None, None), "not over");
        assert_eq!(at(420, 1, 41, Some(5), 42, 41), (None, Some(0.0)), "its breaker is not closed");
        assert_eq!(at(430, 1, 41, None, 42, 42), (Some(1.0), None));
        assert_eq!(at(440, 1, 42, None, 43, 42), (None, Some(0.0)));
    }

    #[test]
    fn a_service_that_is_back_is_not_told_as_one_that_fails() {
        let shares = |table: &[(u64, u64)]| -> Vec<Option<f64>> {
            let mut gauges = Gauges::new(&AlertsConfig::default());
            let mut at = |(place, (answered, failed)): (usize, &(u64, u64))| {
                let service =
                    Service { name: "clamd".into(), answered: *answered, failed: *failed, ..Service::default() };
                let all = Readings { services: vec![service], ..Readings::default() };
                value(&gauges.measure(&all, place as i64 * 10 * SECOND), Kind::ServiceAvailability)
            };
            table.iter().enumerate().map(&mut at).collect()
        };
        // Ten failures are too few to speak of; then it answers.
        let back = shares(&[(0, 0), (0, 10), (5, 10), (15, 10), (40, 10), (40, 10), (80, 10)]);
        assert_eq!(back[..2], [None, None]);
        assert!(back[2..].iter().all(|share| *share == Some(1.0)), "{back:?}");
        // It fails again: all of it counts.
        assert_eq!(shares(&[(0, 0), (0, 10), (15, 10), (39, 11)])[3], Some(0.78));
        // Half of the calls fail, one by one: told, and from then on it is said how it is.
        let half = shares(&[(0, 0), (1, 0), (1, 9), (10, 9), (10, 10), (11, 10), (12, 10)]);
        assert_eq!(half[4..], [Some(0.5), Some(11.0 / 21.0), Some(12.0 / 22.0)], "{half:?}");
        // So with mail that is put off.
        let mut gauges = Gauges::new(&AlertsConfig::default());
        let mut at = |place: i64, all, deferred| {
            let answers = Some(Answers { all, deferred });
            value(&gauges.measure(&Readings { answers, ..Readings::default() }, place * 10 * SECOND), Kind::Deferrals)
        };
        assert_eq!(
            [at(0, 0, 0), at(1, 10, 10), at(2, 30, 10), at(3, 31, 11)].map(|share| share.map(|s| s > 0.3)),
            [None, None, Some(false), Some(true)]
        );
    }

    #[test]
    fn counts_go_on_in_the_next_process_and_past_steps_of_the_clock() {
        let mut gauges = Gauges::new(&AlertsConfig::default());
        let readings = |failures, all| Readings {
            auth_failures: Some(failures),
            verdicts: Some(Verdicts { all, stopped: all / 10 }),
            ..Readings::default()
        };
        gauges.measure(&readings(5, 0), 0);
        gauges.measure(&readings(65, 1_000), 1_800 * SECOND);
        let wall = 1_767_225_600_000;
        let memory = serde_json::to_string(&gauges.memory(wall, 1_800 * SECOND)).unwrap();
        // The next one begins a minute later, at zero, with a clock of its own; one more has failed before the first look.
        let mut next = Gauges::new(&AlertsConfig::default());
        next.recall(serde_json::from_str(&memory).unwrap(), wall + 60_000, 7 * SECOND);
        let measures = next.measure(&readings(1, 0), 7 * SECOND);
        assert_eq!(value(&measures, Kind::AuthFailures), Some(61.0));
        let measures = next.measure(&readings(1, 100), 907 * SECOND);
        assert!(value(&measures, Kind::VerdictMix).is_some(), "what was usual is known");
        let measures = next.measure(&readings(1, 0), (7 + 1_740) * SECOND);
        assert_eq!(value(&measures, Kind::AuthFailures), Some(61.0));
        let measures = next.measure(&readings(1, 0), (7 + 3_600) * SECOND);
        assert_eq!(value(&measures, Kind::AuthFailures), Some(0.0));
        // A clock that was set back meanwhile.
        let mut back = Gauges::new(&AlertsConfig::default());
        back.recall(serde_json::from_str(&memory).unwrap(), wall - 86_400_000, 7 * SECOND);
        assert_eq!(value(&back.measure(&readings(0, 0), 8 * SECOND), Kind::AuthFailures), Some(60.0));
    }

    #[test]
    fn what_is_down_goes_on_in_the_next_process() {
        let readings = |breaker, hop: Option<f64>| Readings {
            services: vec![Service { name: "clamd".into(), breaker, ..Service::default() }],
            next_hops: hop.map(|seconds| ("mta".to_owned(), seconds)).into_iter().collect(),
            ..Readings::default()
        };
        let both = |measures: &[Measure]| (value(measures, Kind::BreakerOpen), value(measures, Kind::NextHop));
        let mut gauges = Gauges::new(&AlertsConfig::default());
        let down = gauges.measure(&readings(Breaker::Open(100), Some(200.0)), 1_000 * SECOND);
        assert_eq!(both(&down), (Some(100.0), Some(200.0)));
        let memory = gauges.memory(5_000 * SECOND, 1_000 * SECOND);
        let next = || {
            let mut next = Gauges::new(&AlertsConfig::default());
            next.recall(memory.clone(), 5_050 * SECOND, 7 * SECOND);
            next
        };
        let mut gauges = next();
        assert_eq!(both(&gauges.measure(&readings(Breaker::Unasked, None), 7 * SECOND)), (None, None), "nobody knows");
        let down = gauges.measure(&readings(Breaker::Open(1), Some(1.0)), 17 * SECOND);
        assert_eq!(both(&down), (Some(160.0), Some(260.0)), "fifty seconds were nobody's, and ten are ours");
        // What this process remembers is as old.
        let memory = gauges.memory(0, 17 * SECOND);
        let mut third = Gauges::new(&AlertsConfig::default());
        third.recall(memory, 0, 0);
        let down = third.measure(&readings(Breaker::Open(0), Some(0.5)), SECOND);
        assert_eq!(both(&down), (Some(161.0), Some(261.0)));
        // It was back meanwhile: a new outage begins anew.
        assert_eq!(both(&gauges.measure(&readings(Breaker::Closed, Some(0.0)), 27 * SECOND)), (Some(0.0), Some(0.0)));
        let down = gauges.measure(&readings(Breaker::Open(2), Some(2.0)), 37 * SECOND);
        assert_eq!(both(&down), (Some(2.0), Some(2.0)));
        assert_eq!(
            value(&gauges.measure(&readings(Breaker::Open(2), Some(1.0)), 47 * SECOND), Kind::NextHop),
            Some(1.0)
        );
    }

    #[test]
    fn mail_that_stops() {
        let mut gauges = Gauges::new(&AlertsConfig::default());
        let mut at = |second: i64, all, deferred, failed, panics| {
            let readings = Readings {
                answers: Some(Answers { all, deferred }),
                failed_holds: Some(failed),
                panics: Some(panics),
                next_hops: vec![("mta".into(), second as f64)],
                certificates: vec![("relay".into(), None)],
                ..Readings::default()
            };
            let measures = gauges.measure(&readings, second * SECOND);
            let of = |kind| measures.iter().find(|m| m.kind == kind).and_then(|m| m.value);
            assert_eq!(of(Kind::NextHop), Some(second as f64));
            assert!(measures.iter().any(|m| m.kind == Kind::Certificate && m.value.is_none()), "an unread one is told");
            (of(Kind::Deferrals), of(Kind::FailedHolds), of(Kind::Panics))
        };
        assert_eq!(at(0, 100, 50, 7, 2), (None, Some(0.0), Some(0.0)), "what was before nobody knows");
        assert_eq!(at(10, 119, 69, 7, 2), (None, Some(0.0), Some(0.0)), "too few");
        assert_eq!(at(20, 120, 60, 8, 2), (None, Some(1.0), Some(0.0)), "counted anew: another life");
        assert_eq!(at(30, 160, 70, 8, 3), (Some(0.25), Some(1.0), Some(1.0)));
        assert_eq!(at(600, 160, 70, 8, 3), (None, Some(0.0), Some(0.0)), "long ago");
    }

    #[test]
    fn the_mix_of_verdicts() {
        let mut gauges = Gauges::new(&AlertsConfig::default());
        let mut at = |minute: i64, all, stopped| {
            let verdicts = Some(Verdicts { all, stopped });
            value(
                &gauges.measure(&Readings { verdicts, ..Readings::default() }, minute * 60 * SECOND),
                Kind::VerdictMix,
            )
        };
        assert_eq!(at(0, 0, 0), None);
        assert_eq!(at(60, 1_000, 100), None, "nothing to compare with");
        assert_eq!(at(75, 1_100, 112), Some(0.0), "chance");
        let change = at(90, 1_200, 212).unwrap();
        assert!((change - 0.898).abs() < 0.01, "{change}");
        assert_eq!(at(105, 1_210, 213), None, "too few");
    }

    #[test]
    fn other_settings_keep_what_was_counted() {
        let mut gauges = Gauges::new(&AlertsConfig::default());
        let panics = |gauges: &mut Gauges, count, at| {
            let readings = Readings { panics: Some(count), ..Readings::default() };
            let measures = gauges.measure(&readings, at);
            measures.iter().find(|measure| measure.kind == Kind::Panics).and_then(|measure| measure.value)
        };
        panics(&mut gauges, 3, 0);
        assert_eq!(panics(&mut gauges, 5, 100_000), Some(2.0));
        gauges.retune(&AlertsConfig { window_seconds: 1_000, ..AlertsConfig::default() });
        assert_eq!(panics(&mut gauges, 6, 900_000), Some(3.0), "the longer window, with what was counted before");
        gauges.retune(&AlertsConfig { window_seconds: 10, ..AlertsConfig::default() });
        assert_eq!(panics(&mut gauges, 6, 920_000), Some(0.0), "the shorter one");
    }
}
