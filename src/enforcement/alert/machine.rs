//! The alerts as a machine: measures in, `now` in, what is to be told out. How long something has lasted is told by a clock that
//! nobody sets (`steady_ms`); the other one is for what people read, and for their orders.
//!
//! Two layers. The level of each subject: it rises at its thresholds (after `fire_after_seconds`), and falls only when it has
//! been better by the hysteresis for `resolve_after_seconds`. And what the receivers were told of it: whenever that differs from the
//! level and no silence covers it, there is a change to tell, once. So one trouble is one alert however often it is measured,
//! a silence that ends in the middle of a trouble tells it, and what was resolved is told as resolved even under a silence. No
//! reading changes nothing, until it has been missing for `forget_after_seconds`. Pure; serialised whole between starts.
//! More than 500 lines with its tests: levels and what is told of them are read together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::AlertsConfig;
use super::kind::{Kind, Severity, Threshold};
use super::measure::Measure;
use super::order::{Act, Order};

/// Subjects that are watched altogether.
const SUBJECTS: usize = 2_000;

/// What is known of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// `kind` or `kind:subject`.
    pub key: String,
    /// What is watched.
    pub kind: Kind,
    /// Of what; empty when there is only one.
    pub subject: String,
    /// How bad it is; none: it is not.
    pub severity: Option<Severity>,
    /// Since when it has been bad without a break, milliseconds since 1970; 0 when it is not.
    pub since_ms: i64,
    /// The last value in the unit of the kind; none: no answer at all.
    pub value: Option<f64>,
    /// What else was known then, in words.
    pub note: Option<String>,
    /// When that was measured, milliseconds since 1970.
    pub measured_ms: i64,
    /// The same moment by the steady clock.
    #[serde(default)]
    measured_at: i64,
    /// It is over only because nothing was measured for so long.
    #[serde(default)]
    forgotten: bool,
    /// What the receivers were told.
    pub told: Option<Severity>,
    /// When they were told, by the steady clock.
    #[serde(default)]
    told_at: i64,
    /// Somebody has said that he looks at it.
    pub acknowledged: bool,
    /// A silence covers it.
    pub silenced: bool,
    /// The level it may change to, and since when by the steady clock.
    pending: Option<(Option<Severity>, i64)>,
}

impl Alert {
    fn new(measure: &Measure) -> Self {
        Self {
            key: key(measure.kind, &measure.subject),
            kind: measure.kind,
            subject: measure.subject.clone(),
            severity: None,
            since_ms: 0,
            value: None,
            note: None,
            measured_ms: 0,
            measured_at: 0,
            forgotten: false,
            told: None,
            told_at: 0,
            acknowledged: false,
            silenced: false,
            pending: None,
        }
    }

    /// The value in words.
    pub fn words(&self) -> String {
        if self.forgotten { "nothing is known of it any more".to_owned() } else { self.kind.words(self.value) }
    }

    /// `firing`, `acknowledged`, `silenced` or `ok`.
    pub fn state(&self) -> &'static str {
        match self.severity {
            None => "ok",
            Some(_) if self.silenced => "silenced",
            Some(_) if self.acknowledged => "acknowledged",
            Some(_) => "firing",
        }
    }

    /// Takes a measure in; changes the level when it is time.
    fn measured(&mut self, measure: &Measure, config: &AlertsConfig, now: Now) {
        (self.value, self.forgotten) = (measure.value, false);
        (self.measured_ms, self.measured_at) = (now.ms, now.steady_ms);
        self.note.clone_from(&measure.note);
        let threshold = config.thresholds.of(self.kind);
        let (is, at_least) = levels(self.kind, measure.value, threshold, config.hysteresis);
        // Between the two lines of a level it stays as it is.
        let target = if is > self.severity { is } else { at_least.min(self.severity) };
        if target == self.severity {
            self.pending = None;
            return;
        }
        let wait_s = if target > self.severity { config.fire_after_seconds } else { config.resolve_after_seconds };
        let since_ms = match self.pending {
            Some((level, since)) if (level > self.severity) == (target > self.severity) => since,
            _ => now.steady_ms,
        };
        self.pending = Some((target, since_ms));
        if now.steady_ms.saturating_sub(since_ms) >= i64::from(wait_s) * 1_000 {
            self.becomes(target, now.ms);
        }
    }

    /// Nothing has been measured for too long.
    fn forget(&mut self, now: Now) {
        (self.value, self.forgotten) = (None, true);
        self.note = Some("nothing is measured any more".into());
        self.becomes(None, now.ms);
    }

    fn becomes(&mut self, level: Option<Severity>, now_ms: i64) {
        if self.severity.is_none() {
            self.since_ms = now_ms;
        }
        // Whoever looked at a warning has not seen that it became critical.
        if level > self.severity || level.is_none() {
            self.acknowledged = false;
        }
        self.severity = level;
        self.pending = None;
    }

    /// What is to be told, if anything.
    fn tell(&mut self, config: &AlertsConfig, steady_ms: i64) -> Option<What> {
        let what = match (self.told, self.severity) {
            (Some(_), None) => What::Resolved,
            _ if self.silenced => return None,
            (None, Some(_)) => What::Fired,
            (Some(told), Some(is)) if is > told => What::Escalated,
            (Some(told), Some(is)) if is < told => What::Eased,
            (Some(_), Some(_)) => {
                let every = i64::from(config.repeat_seconds) * 1_000;
                if every == 0 || self.acknowledged || steady_ms.saturating_sub(self.told_at) < every {
                    return None;
                }
                What::Repeated
            }
            (None, None) => return None,
        };
        (self.told, self.told_at) = (self.severity, steady_ms);
        Some(what)
    }
}

/// What there is to tell of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It has become bad.
    Fired,
    /// It has become worse.
    Escalated,
    /// It has become better, but not good.
    Eased,
    /// It goes on.
    Repeated,
    /// Somebody looks at it.
    Acknowledged,
    /// It is over.
    Resolved,
}

impl What {
    /// The word used in alerts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Escalated => "escalated",
            Self::Eased => "eased",
            Self::Repeated => "goes on",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What has happened.
    pub what: What,
    /// What the receivers knew before.
    pub before: Option<Severity>,
    /// The alert as it is now.
    pub alert: Alert,
}

impl Change {
    /// How bad it is; for what is over, how bad it was told to be.
    pub fn severity(&self) -> Severity {
        self.alert.severity.or(self.before).unwrap_or(Severity::Warning)
    }

    /// What it is to somebody who is told from this severity on only; `None`: nothing. For him a trouble that has eased below
    /// that is over.
    pub fn seen_from(&self, from: Severity) -> Option<(What, Severity)> {
        let seen = |level: Option<Severity>| level.filter(|level| *level >= from);
        match (seen(self.before), seen(self.alert.severity)) {
            (None, None) => None,
            (None, Some(is)) => Some((What::Fired, is)),
            (Some(was), None) => Some((What::Resolved, was)),
            (Some(_), Some(is)) => Some((self.what, is)),
        }
    }
}

/// A moment, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970.
    pub ms: i64,
    /// Milliseconds of a clock that nobody sets.
    pub steady_ms: i64,
}

/// All alerts.
#[derive(Debug, Clone)]
pub struct Machine {
    config: AlertsConfig,
    alerts: BTreeMap<String, Alert>,
}

impl Machine {
    /// With what was known when the last one ended.
    pub fn new(config: AlertsConfig, known: Vec<Alert>) -> Self {
        let alerts = known.into_iter().take(SUBJECTS).map(|alert| (alert.key.clone(), alert)).collect();
        Self { config, alerts }
    }

    /// Goes on in a process whose steady clock, which is at `steady_ms`, is so much ahead of the one that it was known by.
    pub(super) fn shift(&mut self, later_ms: i64, steady_ms: i64) {
        let shifted = |at: i64| at.saturating_add(later_ms).min(steady_ms);
        for alert in self.alerts.values_mut() {
            (alert.measured_at, alert.told_at) = (shifted(alert.measured_at), shifted(alert.told_at));
            alert.pending = alert.pending.map(|(level, since)| (level, shifted(since)));
        }
    }

    /// Everything that is watched, with its level.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values()
    }

    /// Takes in what was measured and what people ordered; gives what is to be told, the worst first.
    pub fn step(&mut self, measures: &[Measure], orders: &[Order], now: Now) -> Vec<Change> {
        for measure in measures {
            let key = key(measure.kind, &measure.subject);
            if !self.alerts.contains_key(&key) && self.alerts.len() >= SUBJECTS {
                continue;
            }
            let alert = self.alerts.entry(key).or_insert_with(|| Alert::new(measure));
            alert.measured(measure, &self.config, now);
        }
        let forget_ms = i64::from(self.config.forget_after_seconds) * 1_000;
        let mut changes = Vec::new();
        for alert in self.alerts.values_mut() {
            if now.steady_ms.saturating_sub(alert.measured_at) >= forget_ms && alert.severity.is_some() {
                alert.forget(now);
            }
            let covers = |act: Act| orders.iter().any(|order| order.act == act && order.covers(&alert.key, now.ms));
            alert.silenced = covers(Act::Silence);
            let seen = covers(Act::Acknowledge) && alert.severity.is_some();
            let was = alert.told;
            let told = alert.tell(&self.config, now.steady_ms).or_else(|| {
                let news = seen && !alert.acknowledged && alert.told.is_some();
                alert.acknowledged |= news;
                news.then_some(What::Acknowledged)
            });
            changes.extend(told.map(|what| Change { what, before: was, alert: alert.clone() }));
        }
        self.alerts
            .retain(|_, alert| alert.severity.is_some() || now.steady_ms.saturating_sub(alert.measured_at) < forget_ms);
        changes.sort_by_key(|change| std::cmp::Reverse((change.what != What::Resolved, change.severity())));
        changes
    }
}

/// The key of a subject: `kind` or `kind:subject`.
pub fn key(kind: Kind, subject: &str) -> String {
    if subject.is_empty() { kind.as_str().to_owned() } else { format!("{}:{subject}", kind.as_str()) }
}

/// The level that a value has, and the level below which it is not clearly better: the first from the thresholds, the second
/// from those moved by the hysteresis.
fn levels(
    kind: Kind,
    value: Option<f64>,
    threshold: Threshold,
    hysteresis: f64,
) -> (Option<Severity>, Option<Severity>) {
    let reached = |line: f64, ease: f64| match value {
        _ if line == 0.0 => false,
        None => true,
        // A share cannot be better than 1.
        Some(value) if kind == Kind::ServiceAvailability => value < line + (1.0 - line) * ease,
        Some(value) if kind.low_is_bad() => value < line * (1.0 + ease),
        Some(value) => value >= line * (1.0 - ease),
    };
    let level = |ease: f64| match (reached(threshold.critical, ease), reached(threshold.warning, ease)) {
        (true, _) => Some(Severity::Critical),
        (_, true) => Some(Severity::Warning),
        _ => None,
    };
    (level(0.0), level(hysteresis.clamp(0.0, 0.9)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(kind: Kind, subject: &str, value: f64) -> Measure {
        Measure { kind, subject: subject.into(), value: Some(value), note: None }
    }

    /// Both clocks agree.
    fn now(ms: i64) -> Now {
        Now { ms, steady_ms: ms }
    }

    /// Runs a table: second, value, what is told.
    fn run(config: &AlertsConfig, kind: Kind, table: &[(i64, f64, &str)]) {
        let mut machine = Machine::new(config.clone(), Vec::new());
        for (second, value, expected) in table {
            let changes = machine.step(&[measure(kind, "x", *value)], &[], now(second * 1_000));
            let told: Vec<String> =
                changes.iter().map(|c| format!("{} {}", c.what.as_str(), c.severity().as_str())).collect();
            assert_eq!(told.join(", "), *expected, "{kind:?} second {second}, {value}");
        }
    }

    #[test]
    fn levels_rise_at_once_and_fall_late() {
        let config = AlertsConfig { repeat_seconds: 0, ..AlertsConfig::default() };
        run(
            &config,
            Kind::DatabaseLatency,
            &[
                (0, 0.1, ""),
                (10, 4.99, ""),
                (20, 5.0, "fired warning"),
                (30, 6.0, ""),
                (40, 10.0, "escalated critical"),
                (50, 9.5, ""),
                (60, 9.5, ""),
                (200, 9.01, ""),
                (210, 8.9, ""),
                (260, 8.9, ""),
                (270, 8.9, "eased warning"),
                (280, 4.0, ""),
                (290, 4.6, ""),
                (300, 4.0, ""),
                (350, 4.0, ""),
                (360, 4.0, "resolved warning"),
                (370, 4.0, ""),
                (380, 100.0, "fired critical"),
                (390, 0.0, ""),
                (450, 0.0, "resolved critical"),
            ],
        );
    }

    #[test]
    fn low_values_are_bad_for_some() {
        let config = AlertsConfig { resolve_after_seconds: 0, ..AlertsConfig::default() };
        run(
            &config,
            Kind::ServiceAvailability,
            &[
                (0, 1.0, ""),
                (10, 0.951, ""),
                (15, 0.95, ""),
                (20, 0.949, "fired warning"),
                (30, 0.954, ""),
                (35, 0.8, ""),
                (40, 0.79, "escalated critical"),
                (50, 0.81, ""),
                (60, 0.83, "eased warning"),
                (70, 0.96, "resolved warning"),
            ],
        );
        run(&config, Kind::Disk, &[(0, 0.2, ""), (10, 0.04, "fired critical"), (20, 0.109, "eased warning")]);
        run(
            &config,
            Kind::Certificate,
            &[(0, 31.0, ""), (10, 29.0, "fired warning"), (20, -1.0, "escalated critical")],
        );
        let mut machine = Machine::new(config.clone(), Vec::new());
        let unread = Measure { value: None, ..measure(Kind::Certificate, "relay", 0.0) };
        let told = machine.step(&[unread], &[], now(0));
        assert_eq!((told[0].severity(), told[0].alert.words().as_str()), (Severity::Critical, "it cannot be read"));
        run(&config, Kind::FeedAge, &[(0, 31.0, "fired warning"), (10, 1e9, "")]);
    }

    #[test]
    fn what_must_last_does() {
        let config = AlertsConfig { fire_after_seconds: 30, ..AlertsConfig::default() };
        run(
            &config,
            Kind::QueueDepth,
            &[(0, 1_000.0, ""), (20, 10.0, ""), (30, 1_000.0, ""), (50, 6_000.0, ""), (60, 6_000.0, "fired critical")],
        );
    }

    #[test]
    fn what_goes_on_is_repeated_unless_somebody_looks() {
        let mut machine = Machine::new(AlertsConfig { repeat_seconds: 100, ..AlertsConfig::default() }, Vec::new());
        let order = Order::acknowledge("disk:data", "ann", 0).unwrap();
        let mut at = |second: i64, free: f64, orders: &[Order]| -> Vec<What> {
            let changes = machine.step(&[measure(Kind::Disk, "data", free)], orders, now(second * 1_000));
            changes.iter().map(|change| change.what).collect()
        };
        assert_eq!(at(0, 0.09, &[]), [What::Fired]);
        assert_eq!(at(99, 0.09, &[]), []);
        assert_eq!(at(100, 0.09, &[]), [What::Repeated]);
        assert_eq!(at(110, 0.09, std::slice::from_ref(&order)), [What::Acknowledged]);
        assert_eq!(at(120, 0.09, std::slice::from_ref(&order)), []);
        assert_eq!(at(300, 0.09, &[]), [], "acknowledged");
        assert_eq!(at(310, 0.01, &[]), [What::Escalated]);
        assert_eq!(at(410, 0.01, &[]), [What::Repeated], "worse than what was looked at");
    }

    #[test]
    fn silences() {
        let mut machine =
            Machine::new(AlertsConfig { resolve_after_seconds: 0, ..AlertsConfig::default() }, Vec::new());
        let silence = |pattern: &str| vec![Order::silence(pattern, 60, "ann", "works", 0).unwrap()];
        let mut at = |second: i64, free: f64, orders: &[Order]| -> Vec<What> {
            let changes = machine.step(&[measure(Kind::Disk, "data", free)], orders, now(second * 1_000));
            changes.iter().map(|change| change.what).collect()
        };
        assert_eq!(at(0, 0.01, &silence("disk:data")), []);
        assert_eq!(at(10, 0.01, &silence("disk")), [], "a whole kind");
        assert_eq!(at(20, 0.01, &silence("*")), []);
        assert_eq!(at(30, 0.01, &silence("disk:bodies")), [What::Fired], "no longer silenced");
        assert_eq!(at(40, 0.5, &silence("*")), [What::Resolved], "who was told hears the end");
        assert_eq!(at(50, 0.01, &silence("*")), []);
        assert_eq!(at(60, 0.5, &silence("*")), [], "who was not does not");
        assert_eq!(at(70, 0.01, &silence("*")), []);
        assert_eq!(at(3_600, 0.01, &silence("*")), [What::Fired], "the silence is over");
    }

    #[test]
    fn no_reading_is_not_good_news() {
        let mut machine = Machine::new(AlertsConfig::default(), Vec::new());
        assert_eq!(machine.step(&[measure(Kind::BreakerOpen, "clamd", 61.0)], &[], now(0)).len(), 1);
        assert!(machine.step(&[], &[], now(3_599_000)).is_empty());
        let over = machine.step(&[], &[], now(3_600_000));
        assert_eq!((over.len(), over[0].what), (1, What::Resolved));
        assert_eq!((over[0].alert.value, &*over[0].alert.words()), (None, "nothing is known of it any more"));
        assert_eq!(machine.alerts().count(), 0);
        let none = Measure { value: None, ..measure(Kind::DatabaseLatency, "", 0.0) };
        let silent = machine.step(&[none], &[], now(3_610_000));
        assert_eq!((silent[0].what, silent[0].severity()), (What::Fired, Severity::Critical));
        assert_eq!(silent[0].alert.words(), "no answer");
    }

    #[test]
    fn alerts_outlive_the_process() {
        let mut machine = Machine::new(AlertsConfig::default(), Vec::new());
        machine.step(&[measure(Kind::Disk, "data", 0.01)], &[], now(0));
        let text = serde_json::to_string(&machine.alerts().collect::<Vec<_>>()).unwrap();
        let mut next = Machine::new(AlertsConfig::default(), serde_json::from_str(&text).unwrap());
        assert!(next.step(&[measure(Kind::Disk, "data", 0.01)], &[], now(10_000)).is_empty(), "told already");
        next.step(&[measure(Kind::Disk, "data", 0.5)], &[], now(20_000));
        let over = next.step(&[measure(Kind::Disk, "data", 0.5)], &[], now(80_000));
        assert_eq!(over[0].what, What::Resolved);
    }

    #[test]
    fn who_hears_of_the_critical_only_hears_its_end() {
        let config = AlertsConfig { resolve_after_seconds: 0, ..AlertsConfig::default() };
        let mut machine = Machine::new(config, Vec::new());
        let mut at = |second: i64, free: f64| {
            let changes = machine.step(&[measure(Kind::Disk, "data", free)], &[], now(second * 1_000));
            (changes[0].what, changes[0].seen_from(Severity::Critical).map(|(what, _)| what))
        };
        assert_eq!(at(0, 0.09), (What::Fired, None));
        assert_eq!(at(10, 0.01), (What::Escalated, Some(What::Fired)));
        assert_eq!(at(20, 0.09), (What::Eased, Some(What::Resolved)));
        assert_eq!(at(30, 0.5), (What::Resolved, None));
    }

    #[test]
    fn the_worst_comes_first() {
        let mut machine = Machine::new(AlertsConfig::default(), Vec::new());
        let all = [measure(Kind::Disk, "a", 0.09), measure(Kind::Disk, "b", 0.01), measure(Kind::Disk, "c", 0.5)];
        let keys: Vec<String> = machine.step(&all, &[], now(0)).into_iter().map(|change| change.alert.key).collect();
        assert_eq!(keys, ["disk:b", "disk:a"]);
    }
}
