//! Levels of the log as the HTTP side sees them; who has them is not known here.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

/// What is logged at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LogState {
    /// As the configuration has it (`log.level`).
    pub configured: String,
    /// Levels by room that were asked for since; empty: none.
    pub levels: BTreeMap<String, String>,
    /// When the configuration counts again, milliseconds since 1970; none when it does now.
    pub until_ms: Option<i64>,
}

/// The levels of the log of this process.
pub trait LogLevels: std::fmt::Debug + Send + Sync {
    /// What is logged at the moment.
    fn state(&self) -> LogState;

    /// Lets these rooms log at these levels for so many minutes; what was asked for before is forgotten.
    ///
    /// # Errors
    /// Which room or level there is not.
    fn set(self: Arc<Self>, levels: BTreeMap<String, String>, minutes: u32) -> Result<LogState, String>;

    /// What is configured counts again.
    fn reset(&self) -> LogState;
}
