//! A copy of the database for searches: read only, a little behind, and never needed.
//!
//! When it does not answer, the first database is asked, and the copy is left alone for [`REST`]. When it is too far behind, the first
//! one is asked until it has caught up. How far it is behind is found out by the ledger, whatever copies it: how long the first row has
//! been there that the copy lacks, looked at before a search every [`LOOK`], and by health.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus::{GaugeVec, IntCounter};
use sqlx::AnyPool;
use sqlx::any::AnyRow;
use tokio::time::{Instant, timeout};

use super::sql::Sql;
use super::store::{Store, options, place, pool_options, understood, written};
use super::{Config, Metrics, StoreError};
use crate::mail::MessageId;
use crate::observe::event;

/// How long it is left alone after it failed.
const REST: Duration = Duration::from_secs(10);
/// How long it is taken to be as far behind as it was.
const LOOK: Duration = Duration::from_secs(5);
/// How long a search waits for a connection to it at most.
const ACQUIRE_MS: u64 = 1_000;

/// The copy.
#[derive(Debug, Clone)]
pub(super) struct Replica {
    pool: AnyPool,
    place: String,
    rests_until: Arc<Mutex<Option<Instant>>>,
    /// How far it was behind, and when that was looked at.
    looked: Arc<Mutex<Option<(Instant, Duration)>>>,
    max_lag: Duration,
    fallbacks: IntCounter,
    lag_seconds: GaugeVec,
}

impl Replica {
    /// The configured copy. It is connected to when it is first asked.
    pub(super) fn open(config: &Config, metrics: &Metrics) -> Result<Option<Self>, StoreError> {
        let Some(url) = address(config)? else { return Ok(None) };
        let place = place(&url);
        let open = |source| StoreError::Open { place: place.clone(), source };
        let config = Config { acquire_ms: config.acquire_ms.min(ACQUIRE_MS), min_connections: 0, ..config.clone() };
        let pool = pool_options(&config, config.connections.max(1)).connect_lazy_with(options(&url).map_err(open)?);
        Ok(Some(Self {
            pool,
            place,
            rests_until: Arc::default(),
            looked: Arc::default(),
            max_lag: Duration::from_secs(config.replica_max_lag_seconds.into()),
            fallbacks: metrics.replica_fallbacks.clone(),
            lag_seconds: metrics.replica_lag.clone(),
        }))
    }

    fn rests(&self) -> bool {
        let until = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn failed(&self, error: &sqlx::Error) {
        *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + REST);
        tracing::warn!(
            event = event::SYSTEM,
            place = self.place, %error, "the copy of the database does not answer: searches go to the first one"
        );
    }

    /// How far it may be behind.
    pub(super) fn max_lag(&self) -> Duration {
        self.max_lag
    }

    /// How far it is behind the first database, which is asked by `read`: zero when it lacks nothing. The outer error is the copy's
    /// own; while the first one does not answer (the inner) it is taken to be as far behind as it was.
    pub(super) async fn lag(&self, read: &AnyPool) -> Result<Result<Duration, sqlx::Error>, sqlx::Error> {
        let mut known = Known { gauge: &self.lag_seconds, lag: None };
        // Ids begin with the time.
        let newest = sqlx::query_scalar::<_, Option<String>>("SELECT max(id) FROM messages");
        let newest = newest.fetch_one(&self.pool).await?.unwrap_or_default();
        let lacks = sqlx::query_scalar::<_, Option<String>>("SELECT min(id) FROM messages WHERE id > $1");
        let lacks = timeout(Duration::from_millis(ACQUIRE_MS), lacks.bind(newest).fetch_one(read)).await;
        let lacks = lacks.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        let before = self.looked().map(|(_, lag)| lag).unwrap_or_default();
        let lag = match &lacks {
            Ok(None) => Duration::ZERO,
            Ok(Some(id)) => id
                .parse::<MessageId>()
                .map_or(Duration::ZERO, |id| Duration::from_millis(now_ms().saturating_sub(id.unix_millis()))),
            Err(_) => before,
        };
        *self.looked() = Some((Instant::now(), lag));
        known.lag = lacks.is_ok().then_some(lag);
        if lag > self.max_lag && before <= self.max_lag {
            tracing::warn!(
                event = event::SYSTEM,
                place = self.place,
                lag_seconds = lag.as_secs(),
                "the copy of the database is behind: searches go to the first one"
            );
        }
        Ok(lacks.map(|_| lag))
    }

    fn looked(&self) -> MutexGuard<'_, Option<(Instant, Duration)>> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it can be asked: it does not rest, and is not too far behind.
    async fn serves(&self, read: &AnyPool) -> bool {
        if self.rests() {
            return false;
        }
        let known = self.looked().filter(|(at, _)| at.elapsed() < LOOK).map(|(_, lag)| lag);
        if let Some(lag) = known {
            return lag <= self.max_lag;
        }
        match self.lag(read).await {
            // Only the copy can answer then.
            Ok(Err(_)) => true,
            Ok(Ok(lag)) => lag <= self.max_lag,
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    pub(super) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// What is known of the copy's lag when the question is over, however it ends; when it is not known the gauge is not there: what it
/// was before is no reading of now, and a copy that hangs is not up to date.
struct Known<'g> {
    gauge: &'g GaugeVec,
    lag: Option<Duration>,
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        match self.lag {
            Some(lag) => self.gauge.with_label_values::<&str>(&[]).set(lag.as_secs_f64()),
            None => self.gauge.reset(),
        }
    }
}

/// Where the copy is; `None` when there is none.
pub(super) fn address(config: &Config) -> Result<Option<String>, StoreError> {
    let url = written("store.replica_url_file", config.replica_url_file.as_deref(), &config.replica_url)?;
    if url.is_empty() {
        return Ok(None);
    }
    // Nothing is made there: a copy that is not there is not to be an empty one.
    let url = match url.strip_prefix("sqlite:") {
        Some(path) if !path.contains('?') => format!("{url}?mode=ro"),
        _ => url,
    };
    understood("store.replica_url", url, Path::new("")).map(Some)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Store {
    /// Runs a search where searches are run. Its statement is made anew when the copy fails.
    pub(super) async fn search(
        &self,
        attempt: &'static str,
        statement: impl Fn() -> Sql,
    ) -> Result<Vec<AnyRow>, StoreError> {
        if let Some(replica) = &self.replica {
            if replica.serves(&self.read).await {
                match statement().fetch(&replica.pool).await {
                    Ok(rows) => return Ok(rows),
                    Err(error) => replica.failed(&error),
                }
            }
            replica.fallbacks.inc();
        }
        statement().fetch(&self.read).await.map_err(StoreError::query(attempt))
    }
}
