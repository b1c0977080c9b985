//! Which names the history has never seen, known without asking the database: a Bloom filter (Bloom, 1970) in front of it.
//!
//! Strangers are the rule among those who write, and each costs a look-up that finds nothing. The filter never says "never
//! seen" of a name that is there: it is asked only when every name of the database is in it, names go in before they are
//! committed, and none is ever taken out. What is forgotten in the database stays in it until the next start, as a false
//! positive at most.
//!
//! Only with the embedded database, where this process can know of every write. Another process that writes to the same file
//! (`mailweir quarantine release`) touches a file beside it first; from then on nothing is answered without the database, until
//! that file has been left alone for [`QUIET`] and all names were read again. One process has the filter: it holds a lock. With
//! PostgreSQL there is none, for other gateways write there too.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sqlx::Row;

use super::history::{Additions, START};
use super::metrics::SeenMetrics;
use super::store::Store;
use super::{Metrics, StoreError};
use crate::observe::event;

/// Bits of one name: the best for a filter that is half full at a false-positive rate of 1 %.
const HASHES: u64 = 7;
/// Names read from the database at a time.
const BATCH: i64 = 5_000;
/// Pause between two batches: mail comes first.
const PAUSE: Duration = Duration::from_millis(5);
/// How often it is looked whether others have written.
const EVERY: Duration = Duration::from_secs(5);
/// Longest time between another process's sign and its commit.
const QUIET: Duration = Duration::from_secs(60);
/// A first time that is not known.
const UNKNOWN: i64 = i64::MAX;

/// The filter.
pub(super) struct Bloom {
    words: Box<[AtomicU64]>,
    keys: [RandomState; 2],
    set: AtomicU64,
}

impl Bloom {
    /// Of so many bytes. Its keys are drawn by chance: nobody outside can make names that collide.
    pub(super) fn new(bytes: u64) -> Self {
        let words = usize::try_from(bytes / 8).unwrap_or(usize::MAX).clamp(1, 1 << 27);
        let words = (0..words).map(|_| AtomicU64::new(0)).collect();
        Self { words, keys: [RandomState::new(), RandomState::new()], set: AtomicU64::new(0) }
    }

    /// Puts a name in.
    pub(super) fn add(&self, name: &str) {
        for (word, bit) in self.places(name) {
            if self.words[word].fetch_or(bit, Ordering::SeqCst) & bit == 0 {
                self.set.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// `false`: it was never put in.
    pub(super) fn may_have(&self, name: &str) -> bool {
        self.places(name).all(|(word, bit)| self.words[word].load(Ordering::SeqCst) & bit != 0)
    }

    /// Share of the bits that are set.
    pub(super) fn fill(&self) -> f64 {
        self.set.load(Ordering::Relaxed) as f64 / (self.words.len() as f64 * 64.0)
    }

    /// Two hashes give all (Kirsch and Mitzenmacher, 2006).
    fn places(&self, name: &str) -> impl Iterator<Item = (usize, u64)> {
        let (first, step) = (self.keys[0].hash_one(name), self.keys[1].hash_one(name) | 1);
        let bits = self.words.len() as u64 * 64;
        (0..HASHES).map(move |number| {
            // Spreads over all bits without a division.
            let hash = first.wrapping_add(number.wrapping_mul(step));
            let bit = ((u128::from(hash) * u128::from(bits)) >> 64) as u64;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }
}

/// The filter, and whether it may be asked.
pub(super) struct Seen {
    bloom: Bloom,
    sign: PathBuf,
    /// The sign that all names of before are in; `None`: not all are.
    whole: Mutex<Option<Option<SystemTime>>>,
    /// When the very first message came, milliseconds since 1970.
    started_ms: AtomicI64,
    metrics: SeenMetrics,
    /// Held as long as this lives.
    _lock: File,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").field("sign", &self.sign).field("fill", &self.bloom.fill()).finish_non_exhaustive()
    }
}

/// What others touch before they write to a database.
pub(super) fn sign_of(database: &Path) -> PathBuf {
    beside(database, ".written-by-others")
}

fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Touches the sign: this process writes, and has not the filter.
pub(super) fn touch(sign: &Path) -> std::io::Result<()> {
    OpenOptions::new().create(true).write(true).truncate(true).open(sign)?.write_all(b"see the history filter\n")
}

fn touched(sign: &Path) -> Option<SystemTime> {
    std::fs::metadata(sign).and_then(|meta| meta.modified()).ok()
}

impl Seen {
    /// An empty one for a database; `None` when another process has it.
    pub(super) fn new(database: &Path, bytes: u64, metrics: &Metrics) -> std::io::Result<Option<Self>> {
        let lock = beside(database, ".filter-lock");
        let lock = OpenOptions::new().create(true).write(true).truncate(false).open(lock)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
        Ok(Some(Self {
            bloom: Bloom::new(bytes),
            sign: sign_of(database),
            whole: Mutex::default(),
            started_ms: AtomicI64::new(UNKNOWN),
            metrics: metrics.seen.clone(),
            _lock: lock,
        }))
    }

    /// Before these are committed.
    pub(super) fn comes(&self, additions: &Additions) {
        additions.keys().for_each(|(who, _)| self.bloom.add(who));
        self.metrics.fill.set(self.bloom.fill());
    }

    /// Whether it may be asked now.
    pub(super) fn is_whole(&self) -> bool {
        let whole = *self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        whole.is_some_and(|sign| sign == touched(&self.sign))
    }

    /// Those of these names that may be in the database.
    pub(super) fn known(&self, names: &[String]) -> Vec<String> {
        let known: Vec<String> = names.iter().filter(|name| self.bloom.may_have(name)).cloned().collect();
        self.metrics.new.inc_by((names.len() - known.len()) as u64);
        known
    }

    /// Of so many names that the database was asked for it had so many.
    pub(super) fn found(&self, asked: usize, had: usize) {
        self.metrics.known.inc_by(had as u64);
        self.metrics.mistaken.inc_by(asked.saturating_sub(had) as u64);
    }

    /// When the first message came.
    pub(super) fn started_ms(&self) -> Option<i64> {
        Some(self.started_ms.load(Ordering::Relaxed)).filter(|ms| *ms != UNKNOWN)
    }

    pub(super) fn starts(&self, ms: i64) {
        self.started_ms.fetch_min(ms, Ordering::Relaxed);
    }

    /// Keeps it whole: reads all names, and again when others have written. Runs until it is dropped.
    pub(super) async fn keep(self: Arc<Self>, store: Store) {
        loop {
            let sign = touched(&self.sign);
            // Of a clock that was set back nothing can be told: then it is never asked again.
            let quiet = sign.is_none_or(|at| at.elapsed().is_ok_and(|since| since >= QUIET));
            let whole = *self.whole.lock().unwrap_or_else(PoisonError::into_inner);
            if quiet && whole != Some(sign) {
                match self.fill(&store).await {
                    Ok(names) => {
                        *self.whole.lock().unwrap_or_else(PoisonError::into_inner) = Some(sign);
                        tracing::info!(
                            event = event::SYSTEM,
                            names,
                            fill = self.bloom.fill(),
                            "the filter before the history is in use"
                        );
                    }
                    Err(error) => tracing::warn!(
                        event = event::SYSTEM,
                        %error, "the names of the history cannot be read: tried again"
                    ),
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn fill(&self, store: &Store) -> Result<u64, StoreError> {
        let failed = StoreError::query;
        let (mut after, mut names) = (String::new(), 0);
        loop {
            let batch = "SELECT DISTINCT who FROM history WHERE who > $1 ORDER BY who LIMIT $2";
            let rows = sqlx::query(batch).bind(after.clone()).bind(BATCH).fetch_all(&store.read).await;
            let rows = rows.map_err(failed("read the names of the history"))?;
            for row in &rows {
                after = row.try_get("who").map_err(failed("read the names of the history"))?;
                if after != START {
                    self.bloom.add(&after);
                    names += 1;
                }
            }
            self.metrics.fill.set(self.bloom.fill());
            if rows.len() < BATCH as usize {
                return Ok(names);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_in_is_there_and_few_others_are() {
        let bloom = Bloom::new(120_000);
        let name = |kind: &str, number: u32| format!("{kind}:{number}@example.org");
        // 9.6 bits a name: a false-positive rate of 1 % (ln 2 squared).
        (0..100_000).for_each(|number| bloom.add(&name("a", number)));
        assert!((0..100_000).all(|number| bloom.may_have(&name("a", number))));
        let wrong = (0..100_000).filter(|number| bloom.may_have(&name("b", *number))).count();
        assert!((200..3_000).contains(&wrong), "{wrong} of 100,000");
        assert!((0.45..0.58).contains(&bloom.fill()), "{}", bloom.fill());
        let full = Bloom::new(0);
        (0..1_000).for_each(|number| full.add(&name("a", number)));
        assert!(full.may_have("anybody"), "one that is full lets everything through");
    }
}
