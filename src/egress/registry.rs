//! All dependencies there are, by name, and how each is doing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

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

/// All dependencies there are; clones are the same. It outlives reloads: a service keeps its breaker while its settings stay the same.
#[derive(Debug, Clone)]
pub struct Registry {
    metrics: Arc<Metrics>,
    known: Arc<Mutex<BTreeMap<String, Arc<Dependency>>>>,
}

impl Registry {
    /// An empty one.
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics: Arc::new(metrics), known: Arc::default() }
    }

    /// Another one with the same metrics, for dependencies with a life of their own: [`Self::keep`] here forgets none there.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { metrics: Arc::clone(&self.metrics), known: Arc::default() }
    }

    /// The dependency of a name; made when there is none yet, or when its settings have changed.
    pub fn dependency(&self, name: &str, config: &CallConfig) -> Arc<Dependency> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(name)
            && found.config() == config
        {
            return Arc::clone(found);
        }
        let made = Dependency::new(name, config.clone(), self.metrics.of(name));
        self.metrics.watch(&made);
        known.insert(name.to_owned(), Arc::clone(&made));
        made
    }

    /// Forgets all but those that stay: what a new configuration does not name is gone.
    pub fn keep(&self, stays: impl Fn(&str) -> bool) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| stays(name));
    }

    /// How each is doing, by name.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let known: Vec<_> = self.known.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        known.iter().map(|dependency| dependency.snapshot()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        registry.keep(|name| name == "rdap");
        assert_eq!(names(), ["rdap"]);
    }
}
