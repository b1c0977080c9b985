//! What can go wrong with the queue. Every variant says what was attempted; the cause is its source.

use crate::observe::{Category, Fault};

/// A failure of the queue's engine or of its settings. Nothing here is about a single job: those have [`super::Failure`].
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The configured address is none that we know.
    #[error("{setting} `{place}` is not understood: {why}")]
    Address {
        /// The setting it stands in.
        setting: &'static str,
        /// The address without password.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file of certificates or of a key cannot be used.
    #[error("{setting}: its {what} {}", file.display())]
    Pem {
        /// The setting that holds the address they are for.
        setting: &'static str,
        /// Which of them.
        what: &'static str,
        /// Path.
        file: std::path::PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A setting that cannot be used.
    #[error("{setting} {why}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The embedded queue could not be opened.
    #[error("cannot open the queue {place}")]
    Open {
        /// Path.
        place: String,
        /// The driver's reason.
        #[source]
        source: sqlx::Error,
    },
    /// The embedded queue could not be brought to the current schema.
    #[error("cannot bring the queue {place} to the current schema")]
    Migrate {
        /// Path.
        place: String,
        /// The migrator's reason.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// A query to the embedded queue failed.
    #[error("queue: {attempt}")]
    Query {
        /// What was to be done.
        attempt: &'static str,
        /// The driver's reason.
        #[source]
        source: sqlx::Error,
    },
    /// A command to Redis failed, or there is no connection.
    #[cfg(feature = "redis")]
    #[error("Redis: {attempt}")]
    Redis {
        /// What was to be done.
        attempt: &'static str,
        /// The driver's reason.
        #[source]
        source: redis::RedisError,
    },
    /// No answer within the deadline.
    #[error("{attempt}: no answer within {ms} ms")]
    Slow {
        /// What was to be done.
        attempt: &'static str,
        /// The deadline.
        ms: u64,
    },
    /// The place where jobs wait for the queue failed.
    #[error("outbox: {attempt}")]
    Outbox {
        /// What was to be done.
        attempt: &'static str,
        /// Its reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No random numbers.
    #[error("queue: no random numbers for the name of this worker")]
    Random,
}

impl QueueError {
    /// Pairs a driver's error with what was attempted.
    pub(super) fn query(attempt: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Query { attempt, source }
    }
}

impl Fault for QueueError {
    fn category(&self) -> Category {
        match self {
            Self::Address { .. } | Self::Pem { .. } | Self::Setting { .. } => Category::Configuration,
            Self::Open { .. } | Self::Migrate { .. } | Self::Query { .. } | Self::Outbox { .. } => Category::Database,
            #[cfg(feature = "redis")]
            Self::Redis { .. } => Category::Network,
            Self::Slow { .. } => Category::Network,
            Self::Random => Category::Internal,
        }
    }

    fn is_retryable(&self) -> bool {
        !matches!(self, Self::Address { .. } | Self::Pem { .. } | Self::Setting { .. } | Self::Migrate { .. })
    }
}

/// An error with its causes in one line, for the log and for what is kept of a job.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        text.push_str(": ");
        text.push_str(&below.to_string());
        cause = below.source();
    }
    text
}
