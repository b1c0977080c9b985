//! Weights: what each signal is worth, in log-odds (natural units). Data, in TOML, that an operator can read and change.
//!
//! ```toml
//! bias = -4.0                 # a message of which nothing is known
//! [caps]                      # the most that one group may add
//! identity = 4.0
//! [weights]
//! REPLY_TO_FREEMAIL = 1.2
//! [rules]                     # matches of rules, by severity
//! high = 2.6
//! ```

use std::collections::HashMap;

use serde::Deserialize;

use super::rule::RuleWeights;
use crate::analysis::{Code, Group};

/// The weights that are built in: `policies/weights.toml`.
pub const BUILT_IN_WEIGHTS: &str = include_str!("../../policies/weights.toml");

/// Bias, caps and weights.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Log-odds of a message of which nothing is known.
    pub bias: f64,
    /// The most that the positive evidence of one group may add.
    #[serde(default)]
    pub caps: HashMap<Group, f64>,
    /// Weight of each signal at full strength.
    pub weights: HashMap<Code, f64>,
    /// What matches of rules are worth, by severity.
    #[serde(default)]
    pub rules: RuleWeights,
}

/// Weights that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidWeights {
    /// Not the TOML that is expected; the message names line and column.
    #[error("weights: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A signal has none.
    #[error("weights: no weight for {}: add it under [weights] (0 switches the signal off)", .0.as_str())]
    Missing(Code),
    /// A number that is none, or a negative cap.
    #[error("weights: {0} must be a finite number, a cap not below 0")]
    Range(String),
}

impl Weights {
    /// Reads weights and checks that every signal has one.
    ///
    /// # Errors
    /// Names the place and the mend.
    pub fn parse(text: &str) -> Result<Self, InvalidWeights> {
        let weights: Self = toml::from_str(text)?;
        if let Some(missing) = Code::ALL.iter().find(|code| !weights.weights.contains_key(code)) {
            return Err(InvalidWeights::Missing(*missing));
        }
        if !weights.bias.is_finite() {
            return Err(InvalidWeights::Range("bias".into()));
        }
        if let Some((code, _)) = weights.weights.iter().find(|(_, weight)| !weight.is_finite()) {
            return Err(InvalidWeights::Range(code.as_str().into()));
        }
        if let Some((group, _)) = weights.caps.iter().find(|(_, cap)| !cap.is_finite() || **cap < 0.0) {
            return Err(InvalidWeights::Range(group.as_str().into()));
        }
        if !weights.rules.is_usable() {
            return Err(InvalidWeights::Range("rules".into()));
        }
        Ok(weights)
    }
}
