//! Answers of a service, kept for a while: in memory, and behind that on a shelf that all gateways share, where there is one.
//!
//! Those who ask the same at the same time wait for one question. An answer is fresh for a time; for another time it is still
//! given while a new one is fetched behind it. "Nothing there" is an answer like any other, with a time of its own; failures
//! are not kept. What nobody asks for goes earlier; entries are bounded. What it is about are its tags: by them it can be
//! forgotten before its time ([`super::tiers`]).

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use prometheus::{IntCounter, IntGauge};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::tiers::{Tiers, shelf_key};
use super::{ServiceConfig, Tag};
use crate::egress::{Dependency, Failure};

/// An answer that can be kept.
pub(super) trait Kept: Clone + Send + Sync + Serialize + DeserializeOwned + 'static {
    /// Whether it says that there is nothing.
    fn is_nothing(&self) -> bool {
        false
    }
}

impl<T: Clone + Send + Sync + Serialize + DeserializeOwned + 'static> Kept for Option<T> {
    fn is_nothing(&self) -> bool {
        self.is_none()
    }
}

impl<T: Clone + Send + Sync + Serialize + DeserializeOwned + 'static> Kept for Vec<T> {
    fn is_nothing(&self) -> bool {
        self.is_empty()
    }
}

impl Kept for () {}

#[derive(Clone)]
struct Entry<V> {
    answer: V,
    fresh_until: Instant,
    until: Instant,
    /// Of [`Tiers`], when it was asked for.
    number: u64,
    tags: Arc<[Tag]>,
}

pub(super) struct Cache<V> {
    inner: Arc<Inner<V>>,
    /// Whose answers they are.
    dependency: Arc<Dependency>,
}

struct Inner<V> {
    name: String,
    /// Beginning of its keys on the shelf; `None`: its answers are for this gateway alone.
    kind: Option<String>,
    whose: String,
    kept: moka::future::Cache<String, Entry<V>>,
    refreshing: Mutex<HashSet<String>>,
    fresh: Duration,
    nothing: Duration,
    stale: Duration,
    tiers: Arc<Tiers>,
    hits: IntCounter,
    stales: IntCounter,
    misses: IntCounter,
    entries: IntGauge,
    /// Whether anything was ever kept.
    any: AtomicBool,
    /// What this cache has added to `entries`.
    counted: AtomicI64,
}

impl<V: Kept> Cache<V> {
    /// For answers of a dependency; shared under `kind`, where there is a shelf. `whose` tells those apart that would answer
    /// differently: what one said is not given for another. The cache outlives a reload that changes nothing of this.
    pub(super) fn new(
        (name, kind, whose): (&str, &str, &str),
        config: &ServiceConfig,
        tiers: &Arc<Tiers>,
        dependency: &Arc<Dependency>,
    ) -> Self {
        Self::kept((name, Some(kind), whose), config, tiers, dependency)
    }

    /// A cache whose answers are true for this gateway alone.
    pub(super) fn own(
        (name, whose): (&str, &str),
        config: &ServiceConfig,
        tiers: &Arc<Tiers>,
        dependency: &Arc<Dependency>,
    ) -> Self {
        Self::kept((name, None, whose), config, tiers, dependency)
    }

    fn kept(
        (name, kind, whose): (&str, Option<&str>, &str),
        config: &ServiceConfig,
        tiers: &Arc<Tiers>,
        dependency: &Arc<Dependency>,
    ) -> Self {
        let made_of = format!("{name}\u{1f}{kind:?}\u{1f}{whose}\u{1f}{config:?}");
        let inner = tiers.standing(made_of, || Inner::new((name, kind, whose), config, tiers));
        Self { inner, dependency: Arc::clone(dependency) }
    }

    /// The same answers, where another dependency is asked.
    pub(super) fn of(&self, dependency: &Arc<Dependency>) -> Self {
        Self { inner: Arc::clone(&self.inner), dependency: Arc::clone(dependency) }
    }

    /// Why there is no answer to anything at the moment: nothing was ever kept, and nobody may be asked. For those whose keys
    /// cost something to make.
    pub(super) fn refuses(&self) -> Option<Failure> {
        if self.inner.any.load(Ordering::Relaxed) {
            return None;
        }
        self.refused().inspect(|_| self.inner.misses.inc())
    }

    /// What needs no question: the answer kept while it is fresh, and while nobody may be asked any answer kept, or why there is
    /// none. For those to whom it costs something to get ready to ask.
    pub(super) fn at_hand(&self, key: &str, again: bool) -> Option<Result<V, Failure>> {
        if let Some(failure) = self.refuses() {
            return Some(Err(failure));
        }
        let inner = &self.inner;
        // What would have to be waited for is not at hand.
        let kept = if again { None } else { inner.kept.get(key).now_or_never()? };
        match kept.filter(|entry| inner.is_good(entry)) {
            Some(entry) if Instant::now() <= entry.fresh_until => {
                inner.hits.inc();
                Some(Ok(entry.answer))
            }
            Some(entry) if self.dependency.refuses().is_some() => {
                inner.stales.inc();
                Some(Ok(entry.answer))
            }
            Some(_) => None,
            None => self.refused().map(|failure| {
                inner.misses.inc();
                Err(failure)
            }),
        }
    }

    /// The answer kept, else the one that `ask` gives. `about` tells what it is about, when it has to be asked for.
    pub(super) async fn get<F>(&self, key: String, about: impl FnOnce() -> Vec<Tag>, ask: F) -> Result<V, Failure>
    where
        F: Future<Output = Result<V, Failure>> + Send + 'static,
    {
        self.fetch(key, about, false, ask).await
    }

    /// As [`Self::get`]; with `again` what is kept is passed over and replaced.
    pub(super) async fn fetch<F>(
        &self,
        key: String,
        about: impl FnOnce() -> Vec<Tag>,
        again: bool,
        ask: F,
    ) -> Result<V, Failure>
    where
        F: Future<Output = Result<V, Failure>> + Send + 'static,
    {
        if let Some(answer) = self.at_hand(&key, again) {
            return answer;
        }
        let inner = &self.inner;
        if again {
            inner.misses.inc();
            // What is kept stays until there is something better: others may have nothing else.
            let entry = Box::pin(inner.ask(key.clone(), about().into(), Duration::MAX, ask)).await?;
            inner.kept.insert(key, entry.clone()).await;
            inner.count();
            return Ok(entry.answer);
        }
        if let Some(entry) = inner.kept.get(&key).await {
            if inner.is_good(&entry) {
                inner.stales.inc();
                self.refresh(key, entry.tags, ask);
                return Ok(entry.answer);
            }
            inner.kept.invalidate(&key).await;
        }
        inner.misses.inc();
        let tags: Arc<[Tag]> = about().into();
        let asked = Box::pin(inner.ask(key.clone(), tags, Duration::ZERO, ask));
        let entry = inner.kept.try_get_with(key, asked).await.map_err(|failure: Arc<Failure>| (*failure).clone())?;
        inner.count();
        Ok(entry.answer)
    }

    /// Why nobody can be asked at the moment: neither the dependency, nor what others keep of its answers.
    fn refused(&self) -> Option<Failure> {
        let Inner { kind, tiers, name, .. } = &*self.inner;
        let failure = self.dependency.refuses().filter(|_| kind.is_none() || tiers.refuses())?;
        self.dependency.spared(&failure);
        if kind.is_some() {
            tiers.spared(name);
        }
        Some(failure)
    }

    /// Fetches a new answer behind the old one: one task for each key, ended by the dependency's deadline.
    fn refresh(&self, key: String, tags: Arc<[Tag]>, ask: impl Future<Output = Result<V, Failure>> + Send + 'static) {
        let inner = Arc::clone(&self.inner);
        if !inner.refreshing.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            return;
        }
        tokio::spawn(async move {
            // Of the shelf only what is fresh.
            let least = inner.stale.saturating_add(Duration::from_millis(1));
            if let Ok(entry) = inner.ask(key.clone(), tags, least, ask).await {
                inner.kept.insert(key.clone(), entry).await;
            }
            inner.refreshing.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        });
    }
}

impl<V: Kept> Inner<V> {
    fn new((name, kind, whose): (&str, Option<&str>, &str), config: &ServiceConfig, tiers: &Arc<Tiers>) -> Self {
        let seconds = |n: u32| Duration::from_secs(n.into());
        let (fresh, stale) = (seconds(config.fresh_seconds), seconds(config.stale_seconds));
        let mut kept = moka::future::Cache::builder().max_capacity(config.cache_entries).time_to_live(fresh + stale);
        if config.idle_seconds > 0 {
            kept = kept.time_to_idle(seconds(config.idle_seconds));
        }
        let metrics = tiers.metrics();
        let count = |outcome| metrics.lookups.with_label_values(&[name, outcome]);
        if kind.is_some() {
            for outcome in ["hit", "miss", "failed", "unreadable"] {
                metrics.shared.with_label_values(&[name, outcome]);
            }
        }
        Self {
            name: name.to_owned(),
            kind: kind.map(str::to_owned),
            whose: whose.to_owned(),
            kept: kept.build(),
            refreshing: Mutex::default(),
            fresh,
            nothing: seconds(config.nothing_seconds).min(fresh),
            stale,
            tiers: Arc::clone(tiers),
            hits: count("hit"),
            stales: count("stale"),
            misses: count("miss"),
            entries: metrics.entries.with_label_values(&[name]),
            counted: AtomicI64::new(0),
            any: AtomicBool::new(false),
        }
    }

    /// Whether an answer may still be given.
    fn is_good(&self, entry: &Entry<V>) -> bool {
        Instant::now() <= entry.until && self.tiers.is_good(entry.number, &entry.tags)
    }

    /// The shelf's answer, if it is kept there for `least` more, else the service's.
    async fn ask<F>(&self, key: String, tags: Arc<[Tag]>, least: Duration, ask: F) -> Result<Entry<V>, Failure>
    where
        F: Future<Output = Result<V, Failure>> + Send + 'static,
    {
        let number = self.tiers.number();
        let mut shelf = None;
        if let Some(kind) = &self.kind {
            let at = shelf_key(kind, &self.whose, &key);
            let looked = self.tiers.look(&self.name, &at, &tags).await;
            if let Some((answer, left)) = looked.found.filter(|(_, left)| *left >= least) {
                return Ok(self.entry(answer, left, number, tags));
            }
            shelf = looked.stamp.map(|stamp| (at, stamp));
        }
        let answer = ask.await?;
        let keep = if answer.is_nothing() { self.nothing } else { self.fresh } + self.stale;
        if let Some((at, stamp)) = shelf {
            self.tiers.put(at, stamp, &answer, keep);
        }
        Ok(self.entry(answer, keep, number, tags))
    }

    fn entry(&self, answer: V, left: Duration, number: u64, tags: Arc<[Tag]>) -> Entry<V> {
        let left = left.min(self.fresh + self.stale);
        let now = Instant::now();
        self.any.store(true, Ordering::Relaxed);
        Entry { answer, fresh_until: now + left.saturating_sub(self.stale), until: now + left, number, tags }
    }
}

impl<V> Inner<V> {
    /// Several caches may have one name.
    fn count(&self) {
        let now = i64::try_from(self.kept.entry_count()).unwrap_or(i64::MAX);
        self.entries.add(now - self.counted.swap(now, Ordering::Relaxed));
    }
}

impl<V> Drop for Inner<V> {
    fn drop(&mut self) {
        self.entries.sub(*self.counted.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    impl Kept for u32 {
        fn is_nothing(&self) -> bool {
            *self == 0
        }
    }

    fn cache(registry: &prometheus::Registry) -> Cache<u32> {
        let config = ServiceConfig { fresh_seconds: 10, stale_seconds: 3_600, ..ServiceConfig::default() };
        let metrics = Arc::new(super::super::Metrics::new(registry).unwrap());
        Cache::own(("test", ""), &config, &Tiers::new(None, metrics), &dependency())
    }

    fn dependency() -> Arc<Dependency> {
        let metrics = crate::egress::Metrics::new(&prometheus::Registry::new()).unwrap();
        crate::egress::Registry::new(metrics).dependency("test", &crate::egress::CallConfig::default())
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
        let failed = cache.get("a".into(), Vec::new, ask(Err(Failure::Busy))).await;
        assert!(matches!(failed, Err(Failure::Busy)));
        let (one, two) =
            tokio::join!(cache.get("a".into(), Vec::new, ask(Ok(1))), cache.get("a".into(), Vec::new, ask(Ok(2))));
        assert_eq!((one.unwrap(), two.unwrap()), (1, 1));
        assert_eq!(cache.get("a".into(), Vec::new, ask(Ok(3))).await.unwrap(), 1);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn answers_outlive_a_reload_that_changes_nothing_of_them() {
        let metrics = Arc::new(super::super::Metrics::new(&prometheus::Registry::new()).unwrap());
        let (tiers, config) = (Tiers::new(None, metrics), ServiceConfig::default());
        let cache = |whose, config: &ServiceConfig| Cache::<u32>::own(("test", whose), config, &tiers, &dependency());
        let asked = async |cache: &Cache<u32>, new| cache.get("a".into(), Vec::new, std::future::ready(Ok(new))).await;
        let before = cache("one", &config);
        assert_eq!(asked(&before, 1).await.unwrap(), 1);
        let after = cache("one", &config);
        drop(before);
        assert_eq!(asked(&after, 2).await.unwrap(), 1);
        assert_eq!(asked(&cache("two", &config), 3).await.unwrap(), 3, "somebody else's answer");
        let longer = ServiceConfig { fresh_seconds: config.fresh_seconds + 1, ..config.clone() };
        assert_eq!(asked(&cache("one", &longer), 4).await.unwrap(), 4, "kept for another time");
        drop(after);
        assert_eq!(asked(&cache("one", &config), 5).await.unwrap(), 5, "nobody kept it");
    }

    #[tokio::test]
    async fn who_asks_again_gets_a_new_answer() {
        let cache = cache(&prometheus::Registry::new());
        let ready = |result: Result<u32, Failure>| std::future::ready(result);
        assert_eq!(cache.get("a".into(), Vec::new, ready(Ok(1))).await.unwrap(), 1);
        assert_eq!(cache.fetch("a".into(), Vec::new, false, ready(Ok(2))).await.unwrap(), 1);
        assert_eq!(cache.fetch("a".into(), Vec::new, true, ready(Ok(3))).await.unwrap(), 3);
        assert_eq!(cache.get("a".into(), Vec::new, ready(Ok(4))).await.unwrap(), 3, "and others get it too");
        let failed = cache.fetch("a".into(), Vec::new, true, ready(Err(Failure::Busy))).await;
        assert!(matches!(failed, Err(Failure::Busy)));
        assert_eq!(cache.get("a".into(), Vec::new, ready(Ok(5))).await.unwrap(), 3, "what failed takes nothing away");
        // Nor does one that is under way keep others waiting.
        let hanging = cache.fetch("a".into(), Vec::new, true, std::future::pending());
        tokio::select! {
            biased;
            _ = hanging => unreachable!("it hangs"),
            answer = cache.get("a".into(), Vec::new, ready(Ok(6))) => assert_eq!(answer.unwrap(), 3),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stale_answer_is_given_while_a_new_one_is_fetched() {
        let cache = cache(&prometheus::Registry::new());
        let ready = |result: Result<u32, Failure>| std::future::ready(result);
        assert_eq!(cache.get("a".into(), Vec::new, ready(Ok(1))).await.unwrap(), 1);
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(cache.get("a".into(), Vec::new, ready(Err(Failure::Busy))).await.unwrap(), 1);
        tokio::task::yield_now().await;
        assert_eq!(cache.get("a".into(), Vec::new, ready(Ok(2))).await.unwrap(), 1, "what failed leaves the old one");
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(cache.get("a".into(), Vec::new, ready(Ok(3))).await.unwrap(), 2);
        assert_eq!((cache.inner.misses.get(), cache.inner.stales.get(), cache.inner.hits.get()), (1, 2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn each_answer_has_its_time_and_what_nobody_asks_for_goes_earlier() {
        let config = ServiceConfig {
            fresh_seconds: 100,
            nothing_seconds: 10,
            stale_seconds: 0,
            idle_seconds: 0,
            ..ServiceConfig::default()
        };
        let metrics = Arc::new(super::super::Metrics::new(&prometheus::Registry::new()).unwrap());
        let cache = Cache::own(("test", ""), &config, &Tiers::new(None, metrics), &dependency());
        let ready = |result: Result<u32, Failure>| std::future::ready(result);
        assert_eq!(cache.get("some".into(), Vec::new, ready(Ok(1))).await.unwrap(), 1);
        assert_eq!(cache.get("nothing".into(), Vec::new, ready(Ok(0))).await.unwrap(), 0);
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(cache.get("some".into(), Vec::new, ready(Ok(2))).await.unwrap(), 1);
        assert_eq!(cache.get("nothing".into(), Vec::new, ready(Ok(2))).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn while_nobody_may_be_asked_what_is_kept_is_given_and_the_rest_is_refused_at_once() {
        let cache = cache(&prometheus::Registry::new());
        let dependency = Arc::clone(&cache.dependency);
        let ready = |result: Result<u32, Failure>| std::future::ready(result);
        assert_eq!(cache.get("a".into(), Vec::new, ready(Ok(1))).await.unwrap(), 1);
        while dependency.refuses().is_none() {
            let fail = |_| ready(Err(Failure::malformed("no")));
            assert!(dependency.call(crate::egress::Repeat::Never, None, fail).await.is_err());
        }
        let refused = dependency.snapshot().refused;
        assert_eq!(cache.get("a".into(), Vec::new, ready(Ok(2))).await.unwrap(), 1);
        let failure = cache.get("b".into(), Vec::new, ready(Ok(2))).await.unwrap_err();
        assert!(matches!(failure, Failure::BreakerOpen { .. }), "{failure}");
        assert_eq!(dependency.snapshot().refused, refused + 1, "counted as any call that is refused");
    }

    #[tokio::test]
    async fn what_is_forgotten_by_its_tag_is_asked_for_again() {
        let cache = cache(&prometheus::Registry::new());
        let ready = |result: Result<u32, Failure>| std::future::ready(result);
        let about = |host: &'static str| move || vec![Tag::host(host)];
        assert_eq!(cache.get("a".into(), about("a.example"), ready(Ok(1))).await.unwrap(), 1);
        assert_eq!(cache.get("b".into(), about("b.example"), ready(Ok(1))).await.unwrap(), 1);
        cache.inner.tiers.forget(&[Tag::host("a.example")]).await.unwrap();
        assert_eq!(cache.get("a".into(), about("a.example"), ready(Ok(2))).await.unwrap(), 2);
        assert_eq!(cache.get("b".into(), about("b.example"), ready(Ok(2))).await.unwrap(), 1);
        // Asked for before it was forgotten, answered after it: not good.
        let tiers = Arc::clone(&cache.inner.tiers);
        let slow = async move {
            tiers.forget_here(&[Tag::host("c.example")]);
            Ok(1)
        };
        assert_eq!(cache.get("c".into(), about("c.example"), slow).await.unwrap(), 1);
        assert_eq!(cache.get("c".into(), about("c.example"), ready(Ok(2))).await.unwrap(), 2);
    }
}
