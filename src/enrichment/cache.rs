//! Answers of a service, kept for a while.
//!
//! Those who ask the same at the same time wait for one question. An answer is fresh for a time; for another time it is still
//! given while a new one is fetched behind it. "Nothing there" is an answer like any other; failures are not kept. Entries are
//! bounded.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::time::Instant;

use super::{Metrics, ServiceConfig};
use crate::egress::Failure;

#[derive(Clone)]
struct Kept<V> {
    answer: V,
    at: Instant,
}

pub(super) struct Cache<V> {
    kept: moka::future::Cache<String, Kept<V>>,
    refreshing: Arc<Mutex<HashSet<String>>>,
    fresh: Duration,
    hits: IntCounter,
    stale: IntCounter,
    misses: IntCounter,
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    pub(super) fn new(name: &str, config: &ServiceConfig, metrics: &Metrics) -> Self {
        let fresh = Duration::from_secs(config.fresh_seconds.into());
        let longest = fresh + Duration::from_secs(config.stale_seconds.into());
        let kept = moka::future::Cache::builder().max_capacity(config.cache_entries).time_to_live(longest).build();
        let count = |outcome| metrics.lookups.with_label_values(&[name, outcome]);
        Self {
            kept,
            refreshing: Arc::default(),
            fresh,
            hits: count("hit"),
            stale: count("stale"),
            misses: count("miss"),
        }
    }

    /// The answer kept, else the one that `ask` gives.
    pub(super) async fn get<F>(&self, key: String, ask: F) -> Result<V, Failure>
    where
        F: Future<Output = Result<V, Failure>> + Send + 'static,
    {
        if let Some(kept) = self.kept.get(&key).await {
            if kept.at.elapsed() <= self.fresh {
                self.hits.inc();
            } else {
                self.stale.inc();
                self.refresh(key, ask);
            }
            return Ok(kept.answer);
        }
        self.misses.inc();
        let asked = async { ask.await.map(|answer| Kept { answer, at: Instant::now() }) };
        let kept = self.kept.try_get_with(key, asked).await.map_err(|failure: Arc<Failure>| (*failure).clone())?;
        Ok(kept.answer)
    }

    /// As [`Self::get`]; with `again` what is kept is passed over and replaced.
    pub(super) async fn fetch<F>(&self, key: String, again: bool, ask: F) -> Result<V, Failure>
    where
        F: Future<Output = Result<V, Failure>> + Send + 'static,
    {
        if again {
            self.kept.invalidate(&key).await;
        }
        self.get(key, ask).await
    }

    /// Fetches a new answer behind the old one: one task for each key, ended by the dependency's deadline.
    fn refresh(&self, key: String, ask: impl Future<Output = Result<V, Failure>> + Send + 'static) {
        if !self.refreshing.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            return;
        }
        let (kept, refreshing) = (self.kept.clone(), Arc::clone(&self.refreshing));
        tokio::spawn(async move {
            if let Ok(answer) = ask.await {
                kept.insert(key.clone(), Kept { answer, at: Instant::now() }).await;
            }
            refreshing.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn cache(registry: &prometheus::Registry) -> Cache<u32> {
        let config = ServiceConfig { fresh_seconds: 10, stale_seconds: 3_600, ..ServiceConfig::default() };
        Cache::new("test", &config, &Metrics::new(registry).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_serves_all_who_wait_and_failures_are_not_kept() {
        let cache = cache(&prometheus::Registry::new());
        let asked = Arc::new(AtomicU32::new(0));
        let ask = |result: Result<u32, Failure>| {
            let asked = Arc::clone(&asked);
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                asked.fetch_add(1, Ordering::Relaxed);
                result
            }
        };
        let failed = cache.get("a".into(), ask(Err(Failure::Busy))).await;
        assert!(matches!(failed, Err(Failure::Busy)));
        let (one, two) = tokio::join!(cache.get("a".into(), ask(Ok(1))), cache.get("a".into(), ask(Ok(2))));
        assert_eq!((one.unwrap(), two.unwrap()), (1, 1));
        assert_eq!(cache.get("a".into(), ask(Ok(3))).await.unwrap(), 1);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn who_asks_again_gets_a_new_answer() {
        let cache = cache(&prometheus::Registry::new());
        let ready = |result: Result<u32, Failure>| std::future::ready(result);
        assert_eq!(cache.get("a".into(), ready(Ok(1))).await.unwrap(), 1);
        assert_eq!(cache.fetch("a".into(), false, ready(Ok(2))).await.unwrap(), 1);
        assert_eq!(cache.fetch("a".into(), true, ready(Ok(3))).await.unwrap(), 3);
        assert_eq!(cache.get("a".into(), ready(Ok(4))).await.unwrap(), 3, "and others get it too");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stale_answer_is_given_while_a_new_one_is_fetched() {
        let cache = cache(&prometheus::Registry::new());
        let ready = |result: Result<u32, Failure>| std::future::ready(result);
        assert_eq!(cache.get("a".into(), ready(Ok(1))).await.unwrap(), 1);
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(cache.get("a".into(), ready(Err(Failure::Busy))).await.unwrap(), 1);
        tokio::task::yield_now().await;
        assert_eq!(cache.get("a".into(), ready(Ok(2))).await.unwrap(), 1, "what failed leaves the old one");
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(cache.get("a".into(), ready(Ok(3))).await.unwrap(), 2);
        assert_eq!((cache.misses.get(), cache.stale.get(), cache.hits.get()), (1, 2, 1));
    }
}
