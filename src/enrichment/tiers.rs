//! What the caches share: which tags were forgotten, and the shelf behind all of them, where there is one.
//!
//! In memory a forgetting has a number too; an entry is good while none of its tags was forgotten under a higher number than
//! it was asked for at. Most of the time that is one comparison. The shelf is a dependency like others (`cache`): short
//! deadline, breaker; what fails there is a miss. What is kept there goes out as JSON, with zstd (RFC 8878) above a size, after
//! one byte that says which.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::shelf::{Look, News, Shelf, Stamp};
use super::{CacheConfig, Metrics, Tag};
use crate::egress::{Dependency, Failure, Repeat};

/// Tags remembered as forgotten; beyond that everything older is.
const MAX_TAGS: usize = 10_000;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// Fast: answers are small and look-ups wait for it.
const LEVEL: i32 = 1;

/// What was forgotten.
#[derive(Debug, Default, Clone)]
struct Forgotten {
    number: u64,
    /// Entries asked for before this are not good, whatever they are about.
    floor: u64,
    tags: HashMap<Tag, u64>,
}

pub(super) struct Tiers {
    forgotten: ArcSwap<Forgotten>,
    shelf: Option<(Arc<dyn Shelf>, Arc<Dependency>, CacheConfig)>,
    metrics: Arc<Metrics>,
    /// The caches that are in use, by what they are made of.
    standing: Mutex<HashMap<String, Weak<dyn Any + Send + Sync>>>,
}

/// What the shelf had.
pub(super) struct Looked<V> {
    pub(super) found: Option<(V, Duration)>,
    /// `None`: there is no shelf, or it did not answer; then nothing is to be kept there.
    pub(super) stamp: Option<Stamp>,
}

impl std::fmt::Debug for Tiers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tiers").field("shelf", &self.shelf.as_ref().map(|(shelf, ..)| shelf.place())).finish()
    }
}

impl Tiers {
    pub(super) fn new(
        shelf: Option<(Arc<dyn Shelf>, Arc<Dependency>, CacheConfig)>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self { forgotten: ArcSwap::default(), shelf, metrics, standing: Mutex::default() })
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The cache that is made of this, as long as somebody uses it, else a new one.
    pub(super) fn standing<T: Any + Send + Sync>(&self, made_of: String, new: impl FnOnce() -> T) -> Arc<T> {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.retain(|_, cache| cache.strong_count() > 0);
        if let Some(cache) = standing.get(&made_of).and_then(Weak::upgrade).and_then(|cache| cache.downcast().ok()) {
            return cache;
        }
        let cache = Arc::new(new());
        let weak: Weak<T> = Arc::downgrade(&cache);
        standing.insert(made_of, weak);
        cache
    }

    pub(super) fn place(&self) -> Option<String> {
        self.shelf.as_ref().map(|(shelf, ..)| shelf.place())
    }

    /// The number for an entry that is asked for now.
    pub(super) fn number(&self) -> u64 {
        self.forgotten.load().number
    }

    /// Whether an entry that was asked for at `number` is still good.
    pub(super) fn is_good(&self, number: u64, tags: &[Tag]) -> bool {
        let forgotten = self.forgotten.load();
        let kept = |tag: &Tag| forgotten.tags.get(tag).is_none_or(|at| *at <= number);
        number >= forgotten.number || (number >= forgotten.floor && tags.iter().all(kept))
    }

    /// Forgets in memory; everything without tags.
    pub(super) fn forget_here(&self, tags: &[Tag]) {
        self.forgotten.rcu(|old| {
            let number = old.number + 1;
            if tags.is_empty() || old.tags.len() + tags.len() > MAX_TAGS {
                return Forgotten { number, floor: number, tags: HashMap::new() };
            }
            let mut new = Forgotten { number, ..Forgotten::clone(old) };
            new.tags.extend(tags.iter().map(|tag| (tag.clone(), number)));
            new
        });
    }

    /// Forgets on the shelf too, if there is one.
    pub(super) async fn forget(&self, tags: &[Tag]) -> Result<(), Failure> {
        self.metrics.forgotten.with_label_values(&[if tags.is_empty() { "everything" } else { "tags" }]).inc();
        self.forget_here(tags);
        let Some((shelf, dependency, _)) = &self.shelf else { return Ok(()) };
        dependency.call(Repeat::Safe, None, |_| shelf.forget(tags)).await
    }

    /// Asks the shelf again and again what others have forgotten; ends at once without one.
    pub(super) async fn follow(&self) {
        let Some((shelf, dependency, config)) = &self.shelf else { return };
        let mut every = tokio::time::interval(Duration::from_millis(config.follow_ms.max(10)));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut known: Option<Stamp> = None;
        loop {
            every.tick().await;
            let news = dependency.call(Repeat::Never, None, |_| shelf.news(known.as_ref())).await;
            // Else what it says next is compared with what is known: nothing is missed meanwhile.
            let Ok(News { stamp, everything, tags }) = news else { continue };
            if everything || !tags.is_empty() {
                if known.is_some() {
                    self.metrics.forgotten.with_label_values(&["elsewhere"]).inc();
                }
                self.forget_here(if everything { &[] } else { &tags });
            }
            known = Some(stamp);
        }
    }

    /// Whether there is no shelf to look at now: none is configured, or it is left alone.
    pub(super) fn refuses(&self) -> bool {
        self.shelf.as_ref().is_none_or(|(_, dependency, _)| dependency.refuses().is_some())
    }

    /// Counts a look that was spared because the shelf is left alone.
    pub(super) fn spared(&self, cache: &str) {
        if self.shelf.is_some() {
            self.metrics.shared.with_label_values(&[cache, "failed"]).inc();
        }
    }

    /// What the shelf has. Never longer than its own deadline; what fails is nothing.
    pub(super) async fn look<V: DeserializeOwned>(&self, cache: &str, key: &str, tags: &[Tag]) -> Looked<V> {
        let Some((shelf, dependency, config)) = &self.shelf else { return Looked { found: None, stamp: None } };
        let count = |outcome: &str| self.metrics.shared.with_label_values(&[cache, outcome]).inc();
        let look = dependency.call(Repeat::Never, None, |_| shelf.look(key, tags)).await;
        let Ok(Look { stamp, found }) = look else {
            count("failed");
            return Looked { found: None, stamp: None };
        };
        let read = found.map(|(bytes, left)| Some((decoded(&bytes, config.max_answer_bytes)?, left)));
        count(match &read {
            None => "miss",
            Some(None) => "unreadable",
            Some(Some(_)) => "hit",
        });
        Looked { found: read.flatten(), stamp: Some(stamp) }
    }

    /// Keeps an answer on the shelf, behind whoever asked: nobody waits for it.
    pub(super) fn put<V: Serialize>(self: &Arc<Self>, key: String, stamp: Stamp, answer: &V, keep: Duration) {
        let Some((_, _, config)) = &self.shelf else { return };
        let Some(bytes) = encoded(answer, config) else { return };
        let tiers = Arc::clone(self);
        // Ended by the dependency's deadline; no more at a time than its `concurrent`.
        tokio::spawn(async move {
            let Some((shelf, dependency, _)) = &tiers.shelf else { return };
            let put = dependency.call(Repeat::Never, None, |_| shelf.put(&key, &stamp, &bytes, keep)).await;
            if let Err(failure) = put {
                tracing::debug!(%failure, "an answer is not kept for other gateways");
            }
        });
    }
}

/// The key on the shelf: what is asked about may be long, or nobody's business.
pub(super) fn shelf_key(kind: &str, whose: &str, key: &str) -> String {
    let hash = Sha256::new().chain_update(whose).chain_update([0]).chain_update(key).finalize();
    hash.iter().fold(format!("{kind}:"), |mut text, byte| {
        use std::fmt::Write;
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn encoded<V: Serialize>(answer: &V, config: &CacheConfig) -> Option<Vec<u8>> {
    let json = serde_json::to_vec(answer).ok().filter(|json| json.len() <= config.max_answer_bytes)?;
    let (form, body) = if json.len() > config.compress_above_bytes {
        (ZSTD, zstd::bulk::compress(&json, LEVEL).ok()?)
    } else {
        (PLAIN, json)
    };
    let mut bytes = Vec::with_capacity(body.len() + 1);
    bytes.push(form);
    bytes.extend(body);
    Some(bytes)
}

fn decoded<V: DeserializeOwned>(bytes: &[u8], max: usize) -> Option<V> {
    match bytes.split_first()? {
        (&PLAIN, json) if json.len() <= max => serde_json::from_slice(json).ok(),
        (&ZSTD, body) => serde_json::from_slice(&zstd::bulk::decompress(body, max).ok()?).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_forgotten_is_not_good_and_the_rest_is() {
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let tiers = Tiers::new(None, metrics);
        let (a, b) = ([Tag::host("a.example")], [Tag::host("b.example")]);
        let before = tiers.number();
        assert!(tiers.is_good(before, &a));
        tiers.forget_here(&a);
        assert!(!tiers.is_good(before, &a) && tiers.is_good(before, &b));
        assert!(tiers.is_good(tiers.number(), &a), "asked for after that");
        let before = tiers.number();
        tiers.forget_here(&[]);
        assert!(!tiers.is_good(before, &a) && !tiers.is_good(before, &b));
        let before = tiers.number();
        for number in 0..=MAX_TAGS {
            tiers.forget_here(&[Tag::host(&number.to_string())]);
        }
        assert!(!tiers.is_good(before, &b), "more than can be remembered: everything");
        assert!(tiers.forgotten.load().tags.len() <= MAX_TAGS);
    }

    #[test]
    fn answers_go_out_and_come_back_and_nothing_else_does() {
        let config = CacheConfig { compress_above_bytes: 100, max_answer_bytes: 10_000, ..CacheConfig::default() };
        for (answer, form) in [("x".repeat(20), PLAIN), ("x".repeat(5_000), ZSTD)] {
            let bytes = encoded(&answer, &config).unwrap();
            assert_eq!(bytes[0], form);
            assert!(bytes.len() < 100, "{}", bytes.len());
            assert_eq!(decoded::<String>(&bytes, 10_000).unwrap(), answer);
            assert_eq!(decoded::<u32>(&bytes, 10_000), None);
        }
        assert_eq!(encoded(&"x".repeat(10_000), &config), None, "too large");
        let bomb = encoded(&"x".repeat(9_000), &config).unwrap();
        assert_eq!(decoded::<String>(&bomb, 8_000), None);
        for wrong in [&[][..], &[PLAIN], &[ZSTD], &[7, b'1'], &[ZSTD, 1, 2, 3], b"\0<html>"] {
            assert_eq!(decoded::<u32>(wrong, 10_000), None);
        }
        assert_eq!(decoded::<Option<u32>>(&encoded(&None::<u32>, &config).unwrap(), 100), Some(None));
    }
}
