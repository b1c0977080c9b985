//! The database: SQLite (one writer) or PostgreSQL, by the same SQL.
//!
//! SQLite runs in WAL with `synchronous=FULL`: what is committed survives a power cut. A pool of one connection writes,
//! another reads. Any failure is a [`StoreError`]; nothing here retries.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use log::LevelFilter;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyPool, ConnectOptions, Executor};

use super::metrics::SeenMetrics;
use super::replica::Replica;
use super::seen::{Seen, sign_of};
use super::{Config, Metrics, StoreError};

/// How long SQLite waits for a lock that another process holds.
const BUSY_MS: u64 = 5_000;

/// The tables that grow, and how their rows are counted.
const TABLES: [(&str, &str); 6] = [
    ("messages", "SELECT count(*) FROM messages"),
    ("quarantine", "SELECT count(*) FROM quarantine"),
    ("release_passes", "SELECT count(*) FROM release_passes"),
    ("history", "SELECT count(*) FROM history"),
    ("outbox", "SELECT count(*) FROM outbox"),
    ("likenesses", "SELECT count(*) FROM likenesses"),
];

/// Handles to the database; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub(super) read: AnyPool,
    pub(super) write: AnyPool,
    /// A copy for searches.
    pub(super) replica: Option<Replica>,
    /// Address without password, for people.
    pub(super) place: String,
    /// SQLite, not PostgreSQL.
    pub(super) sqlite: bool,
    /// The filter before the history, when this process has it.
    pub(super) seen: Arc<OnceLock<Arc<Seen>>>,
    /// What is touched before the history is written by a process that has it not; `None`: nobody can have it.
    pub(super) sign: Option<PathBuf>,
    pub(super) meters: SeenMetrics,
}

impl Store {
    /// Opens (and for SQLite makes) the database and brings its schema up to date.
    pub(super) async fn open(config: &Config, data: &Path, metrics: &Metrics) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let url = address(config, data)?;
        let place = place(&url);
        let sqlite = url.starts_with("sqlite:");
        let open = |source| StoreError::Open { place: place.clone(), source };
        let options = options(&url).map_err(open)?;
        let pool = |connections: u32| {
            let pool = pool_options(config, connections).test_before_acquire(!sqlite);
            if sqlite {
                pool.after_connect(|connection, _| Box::pin(async move { pragmas(connection).await }))
            } else {
                pool
            }
        };
        let write = pool(if sqlite { 1 } else { config.connections.max(1) });
        let write = write.connect_with(options.clone()).await.map_err(open)?;
        sqlx::migrate!("src/records/migrations")
            .run(&write)
            .await
            .map_err(|source| StoreError::Migrate { place: place.clone(), source })?;
        let read = pool(config.connections.max(1)).connect_lazy_with(options);
        let replica = Replica::open(config, metrics)?;
        let sign = file_of(&url).map(|file| sign_of(&file));
        let meters = metrics.seen.clone();
        Ok(Self { read, write, replica, place, sqlite, seen: Arc::default(), sign, meters })
    }

    /// Asks the database for an answer out of a table of ours, and whether it may be written to: a copy that follows, a file system
    /// that has become read-only. `doubtful`: commits fail; whether they still do, a small one tells.
    pub(super) async fn ping(&self, doubtful: bool) -> Result<(), StoreError> {
        let read = sqlx::query("SELECT id FROM messages LIMIT 1").fetch_optional(&self.read);
        // Nothing fits, so nothing is written; but only who may write may ask.
        let written = if doubtful {
            "INSERT INTO pulse (id, beats) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET beats = pulse.beats + 1"
        } else {
            "UPDATE pulse SET beats = beats WHERE id < 0"
        };
        let written = sqlx::query(written).execute(&self.write);
        tokio::try_join!(read, written).map(drop).map_err(StoreError::query("ping"))
    }

    /// Rows of each table.
    pub(super) async fn counts(&self) -> Result<Vec<(&'static str, u64)>, StoreError> {
        let mut counts = Vec::new();
        for (table, sql) in TABLES {
            let count = sqlx::query_scalar::<_, i64>(sql).fetch_one(&self.read).await;
            counts.push((table, count.map_err(StoreError::query("count rows"))?.unsigned_abs()));
        }
        Ok(counts)
    }

    /// What time the database says it is, milliseconds since 1970.
    pub(super) async fn clock_ms(&self) -> Result<i64, StoreError> {
        let sql = if self.sqlite {
            "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
        } else {
            "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
        };
        sqlx::query_scalar(sql).fetch_one(&self.read).await.map_err(StoreError::query("read the clock"))
    }

    /// Closes all connections; what was committed stays.
    pub(super) async fn close(&self) {
        if let Some(replica) = &self.replica {
            replica.close().await;
        }
        self.read.close().await;
        self.write.close().await;
    }
}

/// What statements are is traced (`sqlx::query=trace`): their text, never their values.
pub(super) fn options(url: &str) -> Result<AnyConnectOptions, sqlx::Error> {
    let options = AnyConnectOptions::from_str(url)?.log_statements(LevelFilter::Trace);
    Ok(options.log_slow_statements(LevelFilter::Off, Duration::MAX))
}

pub(super) fn pool_options(config: &Config, connections: u32) -> AnyPoolOptions {
    let wanted = |seconds| (seconds > 0).then(|| Duration::from_secs(seconds));
    AnyPoolOptions::new()
        .max_connections(connections)
        .min_connections(config.min_connections.min(connections))
        .acquire_timeout(Duration::from_millis(config.acquire_ms))
        .idle_timeout(wanted(config.idle_seconds))
        .max_lifetime(wanted(config.lifetime_seconds))
}

async fn pragmas(connection: &mut sqlx::AnyConnection) -> Result<(), sqlx::Error> {
    for pragma in ["PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA foreign_keys=ON"] {
        connection.execute(pragma).await?;
    }
    connection.execute(sqlx::AssertSqlSafe(format!("PRAGMA busy_timeout={BUSY_MS}"))).await?;
    Ok(())
}

/// The file of an embedded database.
pub(super) fn file_of(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path).split('?').next().unwrap_or_default();
    (!path.is_empty() && path != ":memory:").then(|| path.into())
}

/// The address to open: of the file, of the setting, or the embedded database.
pub(super) fn address(config: &Config, data: &Path) -> Result<String, StoreError> {
    understood("store.url", written("store.url_file", config.url_file.as_deref(), &config.url)?, data)
}

/// What the file says, or else the setting.
pub(super) fn written(setting: &'static str, file: Option<&Path>, url: &str) -> Result<String, StoreError> {
    let Some(file) = file else { return Ok(url.to_owned()) };
    let failed = |source| StoreError::AddressFile { setting, file: file.to_owned(), source };
    Ok(std::fs::read_to_string(file).map_err(failed)?.trim().to_owned())
}

/// An address as the driver wants it.
pub(super) fn understood(setting: &'static str, url: String, data: &Path) -> Result<String, StoreError> {
    if url.is_empty() {
        return Ok(format!("sqlite://{}?mode=rwc", data.join("mailweir.db").display()));
    }
    if let Some(path) = url.strip_prefix("sqlite:") {
        return Ok(if path.contains('?') { url } else { format!("{url}?mode=rwc") });
    }
    let known = url.starts_with("postgres://") || url.starts_with("postgresql://");
    if known && cfg!(feature = "postgres") { Ok(url) } else { Err(StoreError::Address { setting, place: place(&url) }) }
}

/// The address without a password.
pub(super) fn place(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let rest = rest.split('?').next().unwrap_or_default();
    match rest.rsplit_once('@') {
        Some((who, host)) => format!("{scheme}://{}@{host}", who.split(':').next().unwrap_or_default()),
        None => format!("{scheme}://{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(place("postgres://weir:s3c@r@t@db.example/mail?sslmode=require"), "postgres://weir@db.example/mail");
        assert_eq!(place("sqlite:///var/lib/x.db?mode=rwc"), "sqlite:///var/lib/x.db");
    }

    #[test]
    fn unknown_schemes_are_refused() {
        let config = Config { url: "mysql://root:pw@db/mail".into(), ..Config::default() };
        let error = address(&config, Path::new("/x")).unwrap_err().to_string();
        assert!(
            error.contains("mysql://root@db/mail") && error.contains("postgres://") && !error.contains("pw"),
            "{error}"
        );
    }
}
