//! What can go wrong with the stores. Every variant says what was attempted; the cause is its source.

use std::path::PathBuf;

use crate::mail::MessageId;
use crate::observe::{Category, Fault};

/// A failure of the database or of the store of bodies.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The configured address is none that we know.
    #[error("{setting} `{place}` is not understood: use sqlite:///PATH or postgres://USER@HOST/DATABASE")]
    Address {
        /// Such as `store.url`.
        setting: &'static str,
        /// The address without password.
        place: String,
    },
    /// The file of an address cannot be read.
    #[error("{setting} `{file}` cannot be read")]
    AddressFile {
        /// Such as `store.url_file`.
        setting: &'static str,
        /// Which file.
        file: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A setting under which nothing could be kept.
    #[error("store.{setting} {value}: {why}")]
    Setting {
        /// Its key within `[store]`.
        setting: &'static str,
        /// What it is.
        value: u64,
        /// What would do.
        why: String,
    },
    /// The database could not be opened or brought to the current schema.
    #[error("cannot open the database {place}")]
    Open {
        /// Path or address without password.
        place: String,
        /// The driver's reason.
        #[source]
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date.
    #[error("cannot bring the database {place} to the current schema")]
    Migrate {
        /// Path or address without password.
        place: String,
        /// The migrator's reason.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// A query failed.
    #[error("database: {attempt}")]
    Query {
        /// What was to be done, such as `insert quarantine rows`.
        attempt: &'static str,
        /// The driver's reason.
        #[source]
        source: sqlx::Error,
    },
    /// A stored value does not read back.
    #[error("database: the row of message {id} holds an unreadable {column}")]
    Row {
        /// Which message.
        id: String,
        /// Which column.
        column: &'static str,
    },
    /// The writer did not take or confirm the row in time.
    #[error("database: no commit within {0} ms")]
    Slow(u64),
    /// The database has not been there for a moment; the writer tries all the time whether it is back.
    #[error("database: it is not there")]
    Away,
    /// The writer has ended.
    #[error("database: the writer has stopped")]
    Stopped,
    /// A body could not be stored or read.
    #[error("body store: {attempt} {place}")]
    Body {
        /// `write`, `read`, `delete`, `list`.
        attempt: &'static str,
        /// File or object.
        place: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Too little space is left to hold mail.
    #[error("body store: {path} has {free} bytes free, {needed} are kept back (store.min_free_bytes)")]
    DiskFull {
        /// Folder of the bodies.
        path: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes that must stay free.
        needed: u64,
    },
    /// The bytes read back are not those that were stored.
    #[error("body store: {0} is damaged: its content has another hash")]
    Damaged(String),
    /// Nothing with this id is there.
    #[error("no message {0} in quarantine")]
    NotHeld(MessageId),
    /// As many bytes as are allowed wait for their second look.
    #[error(
        "no room for more messages that wait for their second look: {0} bytes are allowed (reassess.max_kept_bytes)"
    )]
    Kept(u64),
    /// The body's object store is not built in or not configured rightly.
    #[error("body store: {0}")]
    Bodies(String),
}

impl StoreError {
    /// Whether something failed: not that the message is not held, nor an address that was never right.
    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Self::Query { .. } | Self::Row { .. } | Self::Slow(_) | Self::Away | Self::Stopped)
    }

    /// Pairs a driver's error with what was attempted.
    pub(super) fn query(attempt: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Query { attempt, source }
    }
}

impl Fault for StoreError {
    fn category(&self) -> Category {
        match self {
            Self::Address { .. } | Self::AddressFile { .. } | Self::Setting { .. } | Self::Bodies(_) => {
                Category::Configuration
            }
            Self::Open { .. } | Self::Migrate { .. } | Self::Query { .. } | Self::Slow(_) | Self::Away => {
                Category::Database
            }
            Self::Row { .. } | Self::Damaged(_) | Self::Stopped => Category::Internal,
            Self::Body { .. } | Self::DiskFull { .. } | Self::Kept(_) => Category::Resource,
            Self::NotHeld(_) => Category::Validation,
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            Self::Body { source, .. } => source.kind() != std::io::ErrorKind::NotFound,
            Self::Open { .. } | Self::Query { .. } | Self::Slow(_) | Self::Away | Self::Stopped => true,
            Self::DiskFull { .. } | Self::Kept(_) => true,
            Self::Address { .. } | Self::AddressFile { .. } | Self::Setting { .. } | Self::Bodies(_) => false,
            Self::Migrate { .. } => false,
            Self::Row { .. } | Self::Damaged(_) | Self::NotHeld(_) => false,
        }
    }
}
