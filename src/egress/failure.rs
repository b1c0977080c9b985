//! Why a call gave no answer.

use std::sync::Arc;
use std::time::Duration;

use super::fence::Fenced;
use crate::observe::{Category, Fault};

/// Why a call gave no answer. Cheap to clone: those who wait for the same call share its failure.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The dependency is switched off.
    #[error("switched off")]
    Disabled,
    /// No whole answer within the total deadline, or nothing of that was left to ask in.
    #[error("{}", no_answer(*after_ms))]
    Timeout {
        /// The time that was given; 0: none, it was not asked.
        after_ms: u64,
    },
    /// It failed so often that it is left alone for a while.
    #[error("left alone after failures; asked again in {}s", .retry_in.as_secs())]
    BreakerOpen {
        /// When it is asked again at the earliest; zero while somebody else probes.
        retry_in: Duration,
    },
    /// Asked as often as is allowed, or it told us to wait.
    #[error("asked as often as is allowed; again in {}ms", .retry_in.as_millis())]
    RateLimited {
        /// When it may be asked again.
        retry_in: Duration,
    },
    /// As many calls as are allowed are under way.
    #[error("as many calls as are allowed are under way")]
    Busy,
    /// The name cannot be resolved, or nobody answers there, or the connection broke.
    #[error("cannot be reached: {0}")]
    Unreachable(#[source] Arc<std::io::Error>),
    /// It leads where nothing may be asked.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The answer is larger than is allowed.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: usize,
    },
    /// The answer cannot be understood.
    #[error("the answer cannot be understood: {0}")]
    Malformed(String),
    /// An HTTP status that is no answer.
    #[error("HTTP status {code}")]
    Status {
        /// The status.
        code: u16,
        /// What `Retry-After` said.
        retry_after: Option<Duration>,
    },
    /// The dependency says that it has an error of its own.
    #[error("it reports an error: {0}")]
    Reported(String),
    /// The dependency does not take this one request; others it may take.
    #[error("it does not take this request: {0}")]
    Declined(String),
}

fn no_answer(after_ms: u64) -> String {
    if after_ms == 0 { "no time was left to ask".to_owned() } else { format!("no whole answer within {after_ms} ms") }
}

impl Failure {
    /// An answer that cannot be understood.
    pub fn malformed(what: impl ToString) -> Self {
        Self::Malformed(what.to_string())
    }

    /// No answer within this time.
    pub fn timeout(given: Duration) -> Self {
        Self::Timeout { after_ms: u64::try_from(given.as_millis()).unwrap_or(u64::MAX).max(1) }
    }

    /// The connection could not be made or broke.
    pub fn unreachable(error: std::io::Error) -> Self {
        Self::Unreachable(Arc::new(error))
    }

    /// Whether it speaks against the dependency's health. What we did not even ask, and what is about one request, does not.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Unreachable(_) | Self::TooLarge { .. } => true,
            Self::Malformed(_) | Self::Reported(_) => true,
            // 401, 403: our key is wrong, and every call costs time for nothing. 429: it is not there for us.
            Self::Status { code, .. } => *code >= 500 || matches!(code, 401 | 403 | 408 | 429) || *code < 400,
            Self::Disabled | Self::BreakerOpen { .. } | Self::RateLimited { .. } | Self::Busy => false,
            Self::Fenced(_) | Self::Declined(_) => false,
        }
    }

    /// Whether it says that we ask too much.
    pub fn is_overload(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Status { code: 429 | 500..=599, .. })
    }

    /// Whether the same call may succeed a moment later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Status { code: 408 | 429 | 500 | 502 | 503 | 504, .. })
    }

    /// The word used in metrics and records.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Timeout { .. } => "timeout",
            Self::BreakerOpen { .. } => "breaker_open",
            Self::RateLimited { .. } => "rate_limited",
            Self::Busy => "busy",
            Self::Unreachable(_) => "unreachable",
            Self::Fenced(_) => "fenced",
            Self::TooLarge { .. } => "too_large",
            Self::Malformed(_) => "malformed",
            Self::Status { .. } => "status",
            Self::Reported(_) => "reported",
            Self::Declined(_) => "declined",
        }
    }
}

impl Fault for Failure {
    fn category(&self) -> Category {
        match self {
            Self::Timeout { .. } | Self::Unreachable(_) => Category::Network,
            Self::BreakerOpen { .. } | Self::RateLimited { .. } | Self::Busy => Category::Resource,
            Self::TooLarge { .. } | Self::Malformed(_) | Self::Status { .. } | Self::Reported(_) => Category::External,
            Self::Declined(_) => Category::Validation,
            Self::Disabled | Self::Fenced(_) => Category::Configuration,
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::BreakerOpen { .. } | Self::RateLimited { .. } | Self::Busy => true,
            Self::Reported(_) | Self::Malformed(_) => true,
            _ => self.is_passing(),
        }
    }
}
