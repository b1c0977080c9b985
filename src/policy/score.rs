//! Score: the sum of all evidence in log-odds, through a logistic to a risk from 0 to 100, each term kept.
//!
//! The terms and the bias add up to the log-odds exactly; a group that exceeds its cap has its positive terms scaled down
//! in proportion, and the terms say what they were before. Matches of enforced rules are terms too, under a cap of their own.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::rule::{RuleFindings, RuleMode};
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

/// What the match of one enforced rule added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleTerm {
    /// Identity of the rule.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it added, log-odds.
    pub weight: f64,
    /// What it would have added without the cap of all rules, when that was more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncapped: Option<f64>,
}

/// The score of a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// 0 to 100.
    pub risk: f64,
    /// Sum of bias and terms.
    pub log_odds: f64,
    /// Where the sum starts.
    pub bias: f64,
    /// What signals added, the heaviest first.
    pub terms: Vec<Term>,
    /// What enforced rules added, the heaviest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleTerm>,
}

/// Adds up the evidence.
pub fn score(signals: Vec<Signal>, found: &RuleFindings, weights: &Weights) -> Score {
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
    let rules = rule_terms(found, weights.rules.cap);
    let added = terms.iter().map(|term| term.weight).chain(rules.iter().map(|term| term.weight));
    let log_odds = weights.bias + added.sum::<f64>();
    Score { risk: risk(log_odds), log_odds, bias: weights.bias, terms, rules }
}

/// Terms of enforced rules; none for a message that an exclusion leaves out. What is worth nothing is no term.
fn rule_terms(found: &RuleFindings, cap: f64) -> Vec<RuleTerm> {
    if found.excluded.is_some() {
        return Vec::new();
    }
    let counts = found.matches.iter().filter(|one| one.mode == RuleMode::Enforce && one.weight != 0.0);
    let term = |id: &str, name: &str, weight| RuleTerm { id: id.into(), name: name.into(), weight, uncapped: None };
    let mut terms: Vec<RuleTerm> = counts.map(|one| term(&one.id, &one.name, one.weight)).collect();
    let positive: f64 = terms.iter().map(|term| term.weight.max(0.0)).sum();
    if positive > cap {
        for term in terms.iter_mut().filter(|term| term.weight > 0.0) {
            term.uncapped = Some(term.weight);
            term.weight *= cap / positive;
        }
    }
    terms.sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()));
    terms
}

/// The risk that log-odds stand for, 0 to 100.
pub fn risk(log_odds: f64) -> f64 {
    100.0 / (1.0 + (-log_odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rule::RuleMatch;
    use crate::policy::{BUILT_IN_WEIGHTS, RuleWeights};

    fn found(weights: &[(f64, RuleMode)]) -> RuleFindings {
        let one = |(at, (weight, mode)): (usize, &(f64, RuleMode))| RuleMatch {
            id: at.to_string(),
            name: format!("rule {at}"),
            feed: "f".into(),
            severity: None,
            mode: *mode,
            weight: *weight,
            wait: None,
            attack_types: Vec::new(),
            tags: Vec::new(),
            clauses: Vec::new(),
        };
        RuleFindings { matches: weights.iter().enumerate().map(one).collect(), ..RuleFindings::default() }
    }

    #[test]
    fn rules_add_up_under_their_cap() {
        let weights = Weights::parse(BUILT_IN_WEIGHTS).unwrap();
        let weights = Weights { rules: RuleWeights { cap: 4.0, ..weights.rules }, ..weights };
        let (enforce, shadow) = (RuleMode::Enforce, RuleMode::Shadow);
        let plain =
            score(Vec::new(), &found(&[(1.0, enforce), (2.0, enforce), (3.0, shadow), (0.0, enforce)]), &weights);
        assert_eq!(plain.rules.iter().map(|term| term.weight).collect::<Vec<_>>(), [2.0, 1.0]);
        assert!((plain.log_odds - weights.bias - 3.0).abs() < 1e-9 && plain.rules[0].uncapped.is_none());
        let capped = score(Vec::new(), &found(&[(2.0, enforce), (6.0, enforce), (-1.0, enforce)]), &weights);
        assert!((capped.log_odds - weights.bias - 3.0).abs() < 1e-9, "{capped:?}");
        assert_eq!((capped.rules[0].weight, capped.rules[0].uncapped), (3.0, Some(6.0)));
        let excluded = RuleFindings { excluded: Some("x".into()), ..found(&[(2.0, enforce)]) };
        let score = score(Vec::new(), &excluded, &weights);
        assert!(score.rules.is_empty() && score.log_odds == weights.bias);
    }
}
