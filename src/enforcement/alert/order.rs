//! What people order about alerts: silences and acknowledgements.

use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::machine::Alert;
use super::notice::harmless;

/// Longest text of an order, in characters.
const TEXT: usize = 500;
/// Longest silence, in minutes: 90 days.
pub const MAX_SILENCE_MINUTES: u32 = 90 * 24 * 60;
/// The kind that a second verdict is told as: no reading of the gateway, but it can be silenced like one.
pub const SECOND_VERDICT: &str = "second_verdict";
/// How long an acknowledgement waits to be seen.
const ACKNOWLEDGE_MS: i64 = 60 * 60 * 1_000;

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Nothing is told.
    Silence,
    /// Somebody looks at it: it is not repeated.
    Acknowledge,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// 16 hexadecimal digits.
    pub id: String,
    /// What is ordered.
    pub act: Act,
    /// `*`, a kind, or the key of one alert.
    pub pattern: String,
    /// Until when it holds, milliseconds since 1970.
    pub until_ms: i64,
    /// Who ordered it.
    pub by: String,
    /// Why.
    pub comment: String,
}

/// An order that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The pattern.
    #[error("`{0}` is no alert: write *, a kind (such as disk) or a key (such as disk:data); `alert list` shows them")]
    Pattern(String),
    /// The time.
    #[error("a silence lasts from 1 to {MAX_SILENCE_MINUTES} minutes")]
    Minutes,
    /// The system has no random numbers.
    #[error("no random numbers")]
    Chance,
}

impl Order {
    /// Silence for so many minutes.
    ///
    /// # Errors
    /// When pattern or time mean nothing.
    pub fn silence(pattern: &str, minutes: u32, by: &str, comment: &str, now_ms: i64) -> Result<Self, OrderError> {
        if !(1..=MAX_SILENCE_MINUTES).contains(&minutes) {
            return Err(OrderError::Minutes);
        }
        let until_ms = now_ms.saturating_add(i64::from(minutes) * 60_000);
        Self::new(Act::Silence, pattern, until_ms, by, comment)
    }

    /// Somebody looks at it.
    ///
    /// # Errors
    /// When the pattern means nothing.
    pub fn acknowledge(pattern: &str, by: &str, now_ms: i64) -> Result<Self, OrderError> {
        Self::new(Act::Acknowledge, pattern, now_ms.saturating_add(ACKNOWLEDGE_MS), by, "")
    }

    fn new(act: Act, pattern: &str, until_ms: i64, by: &str, comment: &str) -> Result<Self, OrderError> {
        let kind = pattern.split_once(':').map_or(pattern, |(kind, _)| kind);
        let known = Kind::parse(kind).is_some() || (act == Act::Silence && kind == SECOND_VERDICT);
        if pattern.len() > TEXT || (pattern != "*" && !known) {
            return Err(OrderError::Pattern(pattern.chars().take(80).collect()));
        }
        let cut = |text: &str| text.chars().take(TEXT).collect();
        let id = random_id()?;
        Ok(Self { id, act, pattern: pattern.to_owned(), until_ms, by: cut(by), comment: cut(comment) })
    }

    /// How many of these alerts it is about: an acknowledgement only about those that fire.
    pub fn about(&self, alerts: &[Alert], now_ms: i64) -> usize {
        let meant = |alert: &&Alert| self.act == Act::Silence || alert.severity.is_some();
        alerts.iter().filter(meant).filter(|alert| self.covers(&alert.key, now_ms)).count()
    }

    /// Whether it is about something of its own accord: a whole kind, or all, whatever is known of it by now.
    pub fn is_wide(&self) -> bool {
        self.act == Act::Silence && (!self.pattern.contains(':') || self.pattern.starts_with(SECOND_VERDICT))
    }

    /// Whether it holds for an alert; its key may be written as people are shown it.
    pub fn covers(&self, key: &str, now_ms: i64) -> bool {
        let kind = key.split_once(':').map_or(key, |(kind, _)| kind);
        let named = self.pattern == key || self.pattern == kind || self.pattern == harmless(key);
        now_ms < self.until_ms && (self.pattern == "*" || named)
    }
}

/// 16 hexadecimal digits that nobody else has.
pub(super) fn random_id() -> Result<String, OrderError> {
    let mut chance = [0; 8];
    getrandom::fill(&mut chance).map_err(|_| OrderError::Chance)?;
    Ok(chance.iter().map(|byte| format!("{byte:02x}")).collect())
}
