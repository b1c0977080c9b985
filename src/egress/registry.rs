//! All dependencies there are, by name, and how each is doing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::breaker::BreakerState;
use super::{CallConfig, Dependency, Metrics};

/// How a dependency is doing: for health, metrics and people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// The name it has in the configuration.
    pub name: String,
    /// What the breaker does with calls.
    pub state: BreakerState,
    /// For how long it has been closed, or not closed.
    pub since_seconds: u64,
    /// Calls within the breaker's window that gave an answer.
    pub recent_succeeded: u32,
    /// Calls within the window that failed.
    pub recent_failed: u32,
    /// Share of the calls within the window that gave an answer; `None` without calls.
    pub success_ratio: Option<f64>,
    /// Calls that gave an answer, since the start.
    pub succeeded: u64,
    /// Calls that failed, since the start.
    pub failed: u64,
    /// Calls that the breaker refused, since the start.
    pub refused: u64,
    /// Times the breaker opened, since the start.
    pub opened: u64,
    /// Share of the configured rate that is in effect.
    pub rate_ratio: f64,
    /// Calls under way.
    pub in_flight: usize,
    /// What went wrong last.
    pub last_failure: Option<String>,
    /// How long ago that was.
    pub last_failure_seconds: Option<u64>,
}

type Known = BTreeMap<String, Arc<Dependency>>;

/// All dependencies there are; clones are the same. It outlives reloads: a service keeps its breaker while its settings stay the same.
#[derive(Debug, Clone)]
pub struct Registry {
    metrics: Arc<Metrics>,
    known: Arc<Mutex<Known>>,
    /// Those of a set-up that is not in effect; `None` within: it is by now.
    draft: Option<Arc<Mutex<Option<Known>>>>,
}

impl Registry {
    /// An empty one.
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics: Arc::new(metrics), known: Arc::default(), draft: None }
    }

    /// Another one with the same metrics, for dependencies with a life of their own: [`Self::commit`] here forgets none there.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { metrics: Arc::clone(&self.metrics), known: Arc::default(), draft: None }
    }

    /// The same one for a set-up in the making, that may yet be refused: what is made here is nobody's until [`Self::commit`].
    #[must_use]
    pub fn draft(&self) -> Self {
        Self { draft: Some(Arc::new(Mutex::new(Some(Known::new())))), ..self.clone() }
    }

    /// A draft comes into effect: what it was asked for is known from now on, and of the others those that stay; the rest, which a
    /// new configuration does not name, is gone.
    pub fn commit(&self, stays: impl Fn(&str) -> bool) {
        let draft = self.draft.as_ref().and_then(|draft| locked(draft).take());
        let mut known = locked(&self.known);
        let draft = draft.unwrap_or_default();
        known.retain(|name, _| stays(name) && !draft.contains_key(name));
        draft.values().for_each(|one| self.metrics.watch(one));
        known.extend(draft);
    }

    /// The dependency of a name; made when there is none yet, or when its settings have changed.
    pub fn dependency(&self, name: &str, config: &CallConfig) -> Arc<Dependency> {
        let mut draft = self.draft.as_ref().map(|draft| locked(draft));
        let draft = draft.as_mut().and_then(|draft| draft.as_mut());
        let mut known = locked(&self.known);
        let same = |all: &Known| all.get(name).filter(|one| one.config() == config).cloned();
        let found = draft.as_deref().and_then(same).or_else(|| same(&known));
        let is_new = found.is_none();
        let one = found.unwrap_or_else(|| Dependency::new(name, config.clone(), self.metrics.of(name)));
        match draft {
            Some(draft) => {
                self.metrics.watch_draft(&one);
                draft.insert(name.to_owned(), Arc::clone(&one));
            }
            None if is_new => {
                self.metrics.watch(&one);
                known.insert(name.to_owned(), Arc::clone(&one));
            }
            None => {}
        }
        one
    }

    /// Whether there is one of this name, in effect.
    pub fn has(&self, name: &str) -> bool {
        locked(&self.known).contains_key(name)
    }

    /// How each is doing, by name.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let known: Vec<_> = locked(&self.known).values().cloned().collect();
        known.iter().map(|dependency| dependency.snapshot()).collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::{Failure, Repeat};

    #[tokio::test]
    async fn a_dependency_keeps_its_state_while_its_settings_stay_the_same() {
        let registry = Registry::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let config = CallConfig::default();
        let first = registry.dependency("clamd", &config);
        assert!(Arc::ptr_eq(&first, &registry.dependency("clamd", &config)));
        let other = CallConfig { deadline_ms: 1, ..config.clone() };
        assert!(!Arc::ptr_eq(&first, &registry.dependency("clamd", &other)));
        registry.dependency("rdap", &config);
        let names = || registry.snapshots().into_iter().map(|s| s.name).collect::<Vec<_>>();
        assert_eq!(names(), ["clamd", "rdap"]);
        registry.commit(|name| name == "rdap");
        assert_eq!(names(), ["rdap"]);
    }

    #[tokio::test]
    async fn a_draft_that_is_refused_changes_nothing() {
        let prometheus = prometheus::Registry::new();
        let registry = Registry::new(Metrics::new(&prometheus).unwrap());
        let (config, other) = (CallConfig::default(), CallConfig { deadline_ms: 1, ..CallConfig::default() });
        let (clamd, rdap) = (registry.dependency("clamd", &config), registry.dependency("rdap", &config));
        for _ in 0..config.breaker.consecutive_failures {
            let attempt = |_| async { Err::<(), _>(Failure::Malformed("no".into())) };
            assert!(clamd.call(Repeat::Never, None, attempt).await.is_err());
        }
        let refused = registry.draft();
        refused.dependency("clamd", &other);
        refused.dependency("new", &other);
        drop(refused);
        assert!(Arc::ptr_eq(&clamd, &registry.dependency("clamd", &config)) && !registry.has("new"));
        let families = prometheus.gather();
        let states = families.iter().find(|one| one.name() == "mailweir_dependency_breaker_state").unwrap();
        let of_clamd = states.get_metric().iter().find(|one| one.get_label()[0].value() == "clamd").unwrap();
        assert_eq!(of_clamd.get_gauge().get_value(), 2.0, "open, as it is");
        let gauges = families.iter().filter(|one| one.get_field_type() == prometheus::proto::MetricType::GAUGE);
        let named = gauges.flat_map(|one| one.get_metric()).map(|one| one.get_label()[0].value());
        assert_eq!(named.filter(|name| *name == "new").count(), 0, "nothing is told of what never was");

        let taken = registry.draft();
        let changed = taken.dependency("clamd", &other);
        assert!(Arc::ptr_eq(&changed, &taken.dependency("clamd", &other)), "one and the same within");
        assert!(Arc::ptr_eq(&rdap, &taken.dependency("rdap", &config)), "what stays the same keeps its state");
        registry.dependency("cache", &config);
        registry.dependency("gone", &config);
        taken.commit(|name| name == "cache");
        assert!(Arc::ptr_eq(&changed, &registry.dependency("clamd", &other)));
        let names: Vec<String> = registry.snapshots().into_iter().map(|s| s.name).collect();
        assert_eq!(names, ["cache", "clamd", "rdap"]);
        taken.dependency("later", &config);
        assert!(registry.has("later"), "in effect, as any other");
    }
}
