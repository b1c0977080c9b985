//! A copy of the database for searches: read only, a little behind, and never needed.
//!
//! When it does not answer, the first database is asked, and the copy is left alone for [`REST`].

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;
use sqlx::AnyPool;
use sqlx::any::AnyRow;
use tokio::time::Instant;

use super::sql::Sql;
use super::store::{Store, options, place, pool_options, understood, written};
use super::{Config, Metrics, StoreError};
use crate::observe::event;

/// How long it is left alone after it failed.
const REST: Duration = Duration::from_secs(10);
/// How long a search waits for a connection to it at most.
const ACQUIRE_MS: u64 = 1_000;

/// The copy.
#[derive(Debug, Clone)]
pub(super) struct Replica {
    pool: AnyPool,
    place: String,
    rests_until: Arc<Mutex<Option<Instant>>>,
    fallbacks: IntCounter,
}

impl Replica {
    /// The configured copy. It is connected to when it is first asked.
    pub(super) fn open(config: &Config, metrics: &Metrics) -> Result<Option<Self>, StoreError> {
        let Some(url) = address(config)? else { return Ok(None) };
        let place = place(&url);
        let open = |source| StoreError::Open { place: place.clone(), source };
        let config = Config { acquire_ms: config.acquire_ms.min(ACQUIRE_MS), min_connections: 0, ..config.clone() };
        let pool = pool_options(&config, config.connections.max(1)).connect_lazy_with(options(&url).map_err(open)?);
        Ok(Some(Self { pool, place, rests_until: Arc::default(), fallbacks: metrics.replica_fallbacks.clone() }))
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

    pub(super) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
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

impl Store {
    /// Runs a search where searches are run. Its statement is made anew when the copy fails.
    pub(super) async fn search(
        &self,
        attempt: &'static str,
        statement: impl Fn() -> Sql,
    ) -> Result<Vec<AnyRow>, StoreError> {
        if let Some(replica) = &self.replica {
            if !replica.rests() {
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
