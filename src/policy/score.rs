//! Score: the sum of all evidence in log-odds, through a logistic to a risk from 0 to 100, each term kept.
//!
//! The terms and the bias add up to the log-odds exactly; a group that exceeds its cap has its positive terms scaled down
//! in proportion, and the terms say what they were before.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::weights::Weights;
use crate::analysis::{Code, Group, Signal};

/// What one signal added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Term {
    /// The signal.
    pub code: Code,
    /// What it added, log-odds.
    pub weight: f64,
    /// What it would have added without the cap of its group, when that was more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncapped: Option<f64>,
    /// What it saw.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

/// The score of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// 0 to 100.
    pub risk: f64,
    /// Sum of bias and terms.
    pub log_odds: f64,
    /// Where the sum starts.
    pub bias: f64,
    /// What was added, the heaviest first.
    pub terms: Vec<Term>,
}

/// Adds up the evidence.
pub fn score(signals: Vec<Signal>, weights: &Weights) -> Score {
    let mut positive: HashMap<Group, f64> = HashMap::new();
    let mut terms: Vec<Term> = signals
        .into_iter()
        .map(|signal| {
            let weight = weights.weights.get(&signal.code).copied().unwrap_or(0.0) * f64::from(signal.strength);
            if weight > 0.0 {
                *positive.entry(signal.code.group()).or_default() += weight;
            }
            Term { code: signal.code, weight, uncapped: None, evidence: signal.evidence }
        })
        .collect();
    for term in terms.iter_mut().filter(|term| term.weight > 0.0) {
        let group = term.code.group();
        let (Some(cap), Some(sum)) = (weights.caps.get(&group), positive.get(&group)) else { continue };
        if sum > cap {
            term.uncapped = Some(term.weight);
            term.weight *= cap / sum;
        }
    }
    terms.sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()));
    let log_odds = weights.bias + terms.iter().map(|term| term.weight).sum::<f64>();
    Score { risk: risk(log_odds), log_odds, bias: weights.bias, terms }
}

/// The risk that log-odds stand for, 0 to 100.
pub fn risk(log_odds: f64) -> f64 {
    100.0 / (1.0 + (-log_odds).exp())
}
