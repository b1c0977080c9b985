//! Metrics of calls out. Label `dependency` is a name that the configuration gives: there are few.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::Dependency;
use super::breaker::BreakerState;

/// Counters, gauges and histograms of calls out; declared here, with help, and nowhere else.
#[derive(Debug)]
pub struct Metrics {
    calls: IntCounterVec,
    seconds: HistogramVec,
    waits: HistogramVec,
    retries: IntCounterVec,
    opened: IntCounterVec,
    now: Now,
}

/// What is true at the moment: of the dependencies there are, not of those there were.
#[derive(Debug, Clone)]
struct Now {
    state: IntGaugeVec,
    available: GaugeVec,
    share: GaugeVec,
    in_flight: IntGaugeVec,
    known: Arc<Mutex<BTreeMap<String, Weak<Dependency>>>>,
}

impl Collector for Now {
    fn desc(&self) -> Vec<&Desc> {
        let Self { state, available, share, in_flight, .. } = self;
        [state.desc(), available.desc(), share.desc(), in_flight.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Self { state, available, share, in_flight, known } = self;
        known.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, one| {
            let labels = &[name.as_str()];
            if let Some(dependency) = one.upgrade() {
                available.with_label_values(labels).set(dependency.available());
                dependency.show();
                return true;
            }
            // One that was never collected is not there to be removed.
            let _ = (state.remove_label_values(labels), available.remove_label_values(labels));
            let _ = (share.remove_label_values(labels), in_flight.remove_label_values(labels));
            false
        });
        [state.collect(), available.collect(), share.collect(), in_flight.collect()].concat()
    }
}

impl Metrics {
    /// Declares them at a registry.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let labels = &["dependency"];
        let seconds = HistogramOpts::new(
            "mailweir_dependency_call_seconds",
            "Time of one try that reached the dependency, whatever came of it.",
        )
        .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 2.6, 3.0, 4.0, 5.0, 10.0]);
        let waits = HistogramOpts::new(
            "mailweir_dependency_wait_seconds",
            "Time a call waited for its turn because of rate or concurrency limits; calls that did not wait are not in it.",
        )
        .buckets(vec![0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0]);
        let counter = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            calls: counter(
                "mailweir_dependency_calls_total",
                "Tries to call a dependency, by outcome: ok, or why there was no answer.",
                &["dependency", "outcome"],
            )?,
            seconds: HistogramVec::new(seconds, labels)?,
            waits: HistogramVec::new(waits, labels)?,
            retries: counter("mailweir_dependency_retries_total", "Tries that repeated one that failed.", labels)?,
            opened: counter("mailweir_dependency_breaker_opened_total", "Times the breaker opened.", labels)?,
            now: Now {
                known: Arc::default(),
                state: IntGaugeVec::new(
                    Opts::new(
                        "mailweir_dependency_breaker_state",
                        "State of the breaker: 0 closed, 1 half open, 2 open.",
                    ),
                    labels,
                )?,
                available: GaugeVec::new(
                    Opts::new(
                        "mailweir_dependency_success_ratio",
                        "Share of calls within the breaker's window that gave an answer, 0 to 1; without any: 1 while the breaker is closed, else 0.",
                    ),
                    labels,
                )?,
                share: GaugeVec::new(
                    Opts::new(
                        "mailweir_dependency_rate_ratio",
                        "Share of the configured rate that is in effect: less than 1 after 429, 5xx or slow answers.",
                    ),
                    labels,
                )?,
                in_flight: IntGaugeVec::new(
                    Opts::new("mailweir_dependency_calls_in_flight", "Calls under way at the moment."),
                    labels,
                )?,
            },
        };
        registry.register(Box::new(metrics.calls.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.waits.clone()))?;
        registry.register(Box::new(metrics.retries.clone()))?;
        registry.register(Box::new(metrics.opened.clone()))?;
        registry.register(Box::new(metrics.now.clone()))?;
        Ok(metrics)
    }

    /// A dependency whose present is told from now on.
    pub(super) fn watch(&self, dependency: &Arc<Dependency>) {
        let mut known = self.now.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(dependency.name().to_owned(), Arc::downgrade(dependency));
    }

    /// One that may never be in effect: what is told of it ends with it, unless another of its name is there.
    pub(super) fn watch_draft(&self, dependency: &Arc<Dependency>) {
        let mut known = self.now.known.lock().unwrap_or_else(PoisonError::into_inner);
        let one = known.entry(dependency.name().to_owned()).or_default();
        if one.strong_count() == 0 {
            *one = Arc::downgrade(dependency);
        }
    }

    /// Those of one dependency.
    pub(super) fn of(&self, name: &str) -> Meters {
        let labels = &[name];
        Meters {
            calls: self.calls.clone(),
            ok: self.calls.with_label_values(&[name, "ok"]),
            refused: self.calls.with_label_values(&[name, "breaker_open"]),
            seconds: self.seconds.with_label_values(labels),
            waits: self.waits.with_label_values(labels),
            retries: self.retries.with_label_values(labels),
            opened: self.opened.with_label_values(labels),
            state: self.now.state.with_label_values(labels),
            share: self.now.share.with_label_values(labels),
            in_flight: self.now.in_flight.with_label_values(labels),
        }
    }
}

/// The metrics of one dependency, looked up once.
#[derive(Debug)]
pub(super) struct Meters {
    calls: IntCounterVec,
    pub(super) ok: IntCounter,
    pub(super) refused: IntCounter,
    pub(super) seconds: Histogram,
    pub(super) waits: Histogram,
    pub(super) retries: IntCounter,
    pub(super) opened: IntCounter,
    state: IntGauge,
    pub(super) share: prometheus::Gauge,
    pub(super) in_flight: IntGauge,
}

impl Meters {
    pub(super) fn failed(&self, name: &str, outcome: &str) {
        self.calls.with_label_values(&[name, outcome]).inc();
    }

    pub(super) fn state(&self, state: BreakerState) {
        self.state.set(match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
    }
}
