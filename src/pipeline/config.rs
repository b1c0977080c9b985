//! Settings of the inspection: section `[inspection]`.

use serde::{Deserialize, Serialize};

use crate::content::ContentLimits;
use crate::mail::MessageLimits;

/// How long a message may be looked at, and what is said about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time for all questions to the outside about one message; at the deadline there is a verdict, marked degraded.
    pub deadline_ms: u64,
    /// Which headers tell the verdict: `full` (with each signal's weight), `brief` or `none`.
    pub headers: ResultHeaders,
    /// What is done with a message that broke the judgement again and again: `quarantine`, `allow` or `defer`.
    pub after_panics: AfterPanics,
    /// Tries of the same message within an hour that are answered 451 before that.
    pub panic_retries: u32,
    /// Bounds of what is read of one message.
    pub message: MessageLimits,
    /// Bounds of what is opened inside attachments.
    pub content: ContentLimits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deadline_ms: 4_000,
            headers: ResultHeaders::Full,
            after_panics: AfterPanics::Quarantine,
            panic_retries: 3,
            message: MessageLimits::default(),
            content: ContentLimits::default(),
        }
    }
}

/// Which headers tell the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultHeaders {
    /// Id, verdict, risk and each signal's weight.
    Full,
    /// Id, verdict and risk.
    Brief,
    /// None; `Authentication-Results` is still written.
    None,
}

/// What is done with a message that breaks the judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterPanics {
    /// Hold it.
    Quarantine,
    /// Pass it on, marked as not judged.
    Allow,
    /// Go on asking the sender to try later.
    Defer,
}
