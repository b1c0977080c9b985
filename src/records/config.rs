//! Settings of the stores: section `[store]`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{HistoryConfig, StoreError, replica, store};

/// Where records and bodies are kept, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Database: empty for `DATA/mailweir.db` (SQLite), `sqlite:///PATH`, or `postgres://USER@HOST/DATABASE`.
    pub url: String,
    /// File that holds the address instead, so that a password stays out of the configuration.
    pub url_file: Option<PathBuf>,
    /// Copy of the database that is only read, kept up to date by the database itself: searches of the API go there (lists of
    /// messages and of the quarantine), and to the first one while it does not answer. Empty: none.
    pub replica_url: String,
    /// File that holds that address instead.
    pub replica_url_file: Option<PathBuf>,
    /// How far the copy may be behind, in seconds: while it is further, searches go to the first one. Measured every few seconds, by
    /// how long the first row of the ledger has been there that the copy lacks.
    pub replica_max_lag_seconds: u32,
    /// Connections for reading; for PostgreSQL also for writing, and as many to the copy.
    pub connections: u32,
    /// Connections of each of these that stay open when nothing is to be done.
    pub min_connections: u32,
    /// How long a call may wait for a connection.
    pub acquire_ms: u64,
    /// After how long without work a connection is closed. 0: never.
    pub idle_seconds: u64,
    /// After how long a connection is closed, for another one to be made. 0: never.
    pub lifetime_seconds: u64,
    /// Time of a call from which the log tells of it, by its name. 0: never.
    pub slow_query_ms: u64,
    /// How long a held message may wait for its commit before the sender is asked to try later.
    pub commit_ms: u64,
    /// Ledger rows that may wait for the writer; beyond that rows are dropped and counted, mail is not.
    pub ledger_queue: usize,
    /// How long the writer gathers ledger rows for one commit.
    pub ledger_linger_ms: u64,
    /// Bodies of held messages: empty for `DATA/bodies`, a folder, or `s3://BUCKET/PREFIX`.
    pub bodies: String,
    /// Free space below which nothing more is held (the sender is asked to try later). Folders only.
    pub min_free_bytes: u64,
    /// Days that ledger rows are kept. 0: for ever.
    pub ledger_days: u32,
    /// Days that held messages are kept. 0: for ever.
    pub quarantine_days: u32,
    /// What is remembered of senders.
    pub history: HistoryConfig,
    /// Access to S3.
    pub s3: S3Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: String::new(),
            url_file: None,
            replica_url: String::new(),
            replica_url_file: None,
            replica_max_lag_seconds: 30,
            connections: 4,
            min_connections: 0,
            acquire_ms: 5_000,
            idle_seconds: 0,
            lifetime_seconds: 0,
            slow_query_ms: 500,
            commit_ms: 5_000,
            ledger_queue: 4_096,
            ledger_linger_ms: 100,
            bodies: String::new(),
            min_free_bytes: 256 * 1024 * 1024,
            ledger_days: 30,
            quarantine_days: 30,
            history: HistoryConfig::default(),
            s3: S3Config::default(),
        }
    }
}

impl Config {
    /// Refuses settings under which nothing could be kept.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self, data: &Path) -> Result<(), StoreError> {
        let sizes = [
            ("connections", u64::from(self.connections)),
            ("acquire_ms", self.acquire_ms),
            ("commit_ms", self.commit_ms),
            ("ledger_queue", self.ledger_queue as u64),
        ];
        if let Some((setting, value)) = sizes.into_iter().find(|(_, value)| *value == 0) {
            return Err(StoreError::Setting { setting, value, why: "must be at least 1".into() });
        }
        if self.min_connections > self.connections {
            let why = format!("must not be above store.connections ({})", self.connections);
            return Err(StoreError::Setting { setting: "min_connections", value: self.min_connections.into(), why });
        }
        store::address(self, data)?;
        replica::address(self).map(drop)
    }
}

/// Access to an S3 object store; only used when `store.bodies` begins with `s3://`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// Endpoint of a store that is not Amazon's, such as `https://minio.example:9000`. Empty: Amazon's.
    pub endpoint: String,
    /// Region.
    pub region: String,
    /// Access key. Empty: from the environment (`AWS_ACCESS_KEY_ID`).
    pub access_key_id: String,
    /// File that holds the secret key. None: from the environment (`AWS_SECRET_ACCESS_KEY`).
    pub secret_access_key_file: Option<PathBuf>,
    /// Allow plain HTTP to the endpoint.
    pub allow_http: bool,
    /// Deadline of one request.
    pub request_seconds: u64,
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            region: "us-east-1".into(),
            access_key_id: String::new(),
            secret_access_key_file: None,
            allow_http: false,
            request_seconds: 10,
        }
    }
}
