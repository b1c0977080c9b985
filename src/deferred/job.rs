//! A job: something to be done after the reply, as a value that survives a restart.
//!
//! Its key is its identity: two jobs with one key are one job while the first is not done. Whoever makes it puts into the key
//! what makes doing it twice pointless (message, kind, version).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Longest key and longest correlation id, in bytes.
const KEY_BYTES: usize = 200;
/// Longest kind, in bytes.
const KIND_BYTES: usize = 40;
/// Longest error text kept of a job, in characters.
const ERROR_CHARS: usize = 500;

/// Which jobs go first. None starves: see `shares`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Somebody waits for it.
    High,
    /// The rule.
    Medium,
    /// When there is time.
    Low,
}

impl Priority {
    /// All of them, the first first.
    pub const ALL: [Self; 3] = [Self::High, Self::Medium, Self::Low];

    /// The word in metrics and API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }

    /// Place in [`Self::ALL`], as stores keep it.
    pub fn place(self) -> usize {
        self as usize
    }

    /// The priority at a place; anything beyond is low.
    pub fn at(place: i64) -> Self {
        usize::try_from(place).ok().and_then(|at| Self::ALL.get(at).copied()).unwrap_or(Self::Low)
    }
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Identity; see the head of this file.
    pub key: String,
    /// What is to be done: chooses the handler.
    pub kind: String,
    /// How soon.
    pub priority: Priority,
    /// What it is to be done with; the handler knows the form.
    pub payload: Bytes,
    /// Not before this, milliseconds since 1970; 0: at once.
    pub not_before_ms: i64,
    /// Attempts that have failed so far; while it is worked on, the number of this attempt (from 1).
    pub attempt: u32,
    /// When it was made, milliseconds since 1970.
    pub enqueued_ms: i64,
    /// What it belongs to, such as a message's id; for logs and people.
    pub correlation: String,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// Why a job cannot be queued at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// Empty or too long.
    #[error("a job's key has 1 to 200 bytes")]
    Key,
    /// Not a word.
    #[error("a job's kind has 1 to 40 of the letters a-z, 0-9, _ and .")]
    Kind,
    /// Too long.
    #[error("a job's correlation id has at most 200 bytes")]
    Correlation,
    /// Too large.
    #[error("a job's payload has {0} bytes, {1} are allowed (queue.max_payload_bytes)")]
    Payload(usize, usize),
}

impl Job {
    /// A job of medium priority, to be done at once.
    pub fn new(kind: &str, key: impl Into<String>, payload: impl Into<Bytes>, now_ms: i64) -> Self {
        Self {
            key: key.into(),
            kind: kind.to_owned(),
            priority: Priority::Medium,
            payload: payload.into(),
            not_before_ms: 0,
            attempt: 0,
            enqueued_ms: now_ms,
            correlation: String::new(),
            last_error: None,
        }
    }

    /// Whether it can be queued.
    ///
    /// # Errors
    /// What is too long or not a word.
    pub fn check(&self, max_payload_bytes: usize) -> Result<(), JobError> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.');
        if self.key.is_empty() || self.key.len() > KEY_BYTES {
            return Err(JobError::Key);
        }
        if self.kind.is_empty() || self.kind.len() > KIND_BYTES || !self.kind.bytes().all(letter) {
            return Err(JobError::Kind);
        }
        if self.correlation.len() > KEY_BYTES {
            return Err(JobError::Correlation);
        }
        if self.payload.len() > max_payload_bytes {
            return Err(JobError::Payload(self.payload.len(), max_payload_bytes));
        }
        Ok(())
    }

    /// The job after an attempt that failed.
    pub(super) fn failed(&self, error: &str) -> Self {
        Self { last_error: Some(error.chars().take(ERROR_CHARS).collect()), ..self.clone() }
    }
}

/// Why a job is not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It failed as often as it may.
    Attempts,
    /// Its handler said that trying again is pointless.
    Refused,
    /// Nobody here knows how to do it.
    UnknownKind,
    /// Workers died over it, or lost it, as often as it may be tried.
    Poison,
    /// What was stored of it cannot be read.
    Unreadable,
}

impl Reason {
    /// The word in the stores, metrics and API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Refused => "refused",
            Self::UnknownKind => "unknown_kind",
            Self::Poison => "poison",
            Self::Unreadable => "unreadable",
        }
    }

    /// What [`Self::as_str`] wrote; anything else counts as too many attempts.
    pub fn read(text: &str) -> Self {
        [Self::Refused, Self::UnknownKind, Self::Poison, Self::Unreadable]
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .unwrap_or(Self::Attempts)
    }
}

/// A dead letter: a job that is not tried again unless somebody says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadJob {
    /// With the number of its last attempt and its last error.
    pub job: Job,
    /// Why.
    pub reason: Reason,
    /// Since when, milliseconds since 1970.
    pub dead_ms: i64,
}

/// Where a page of dead letters ended: since when its last one was dead, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadPlace(pub i64, pub String);

impl DeadJob {
    /// The place after this one.
    pub fn place(&self) -> DeadPlace {
        DeadPlace(self.dead_ms, self.job.key.clone())
    }
}

impl std::fmt::Display for DeadPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

impl std::str::FromStr for DeadPlace {
    type Err = DeadPlaceError;

    fn from_str(text: &str) -> Result<Self, DeadPlaceError> {
        let (ms, key) = text.split_once(':').ok_or(DeadPlaceError)?;
        Ok(Self(ms.parse().map_err(|_| DeadPlaceError)?, key.to_owned()))
    }
}

/// That is no place in a list of dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give the `next` of the page before")]
pub struct DeadPlaceError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_cut() {
        let job = Job::new("reassess", "k", "", 0).failed(&"no\n".repeat(1_000));
        assert_eq!(job.last_error.unwrap().chars().count(), ERROR_CHARS);
    }

    #[test]
    fn bounds() {
        let job = |kind: &str, key: usize, payload: usize| {
            Job::new(kind, "k".repeat(key), vec![0; payload], 0).check(10).map_err(|error| error.to_string())
        };
        assert_eq!(job("a.b_9", 200, 10), Ok(()));
        for (kind, key, payload) in
            [("a", 0, 0), ("a", 201, 0), ("", 1, 0), ("A", 1, 0), (&"a".repeat(41), 1, 0), ("a", 1, 11)]
        {
            assert!(job(kind, key, payload).is_err(), "{kind} {key} {payload}");
        }
    }

    #[test]
    fn words_read_back() {
        use Reason::{Attempts, Poison, Refused, UnknownKind, Unreadable};
        for reason in [Attempts, Refused, UnknownKind, Poison, Unreadable] {
            assert_eq!(Reason::read(reason.as_str()), reason);
        }
        for priority in Priority::ALL {
            assert_eq!(Priority::at(priority.place() as i64), priority);
        }
        assert_eq!((Priority::at(-1), Priority::at(3)), (Priority::Low, Priority::Low));
    }
}
