//! All rules of all feeds, compiled together, and what they say about a message.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Feed, RuleError, RuleFile, RuleKind, RuleMode, RuleModes, RuleStages, RuleWeights, Severity, Stage};
use crate::policy::lists::Lists;
use crate::policy::mql::{Ask, Budget, Builder, Capability, Clause, Engine, Needs, Outcome, View};
use crate::policy::tenant::Wait;

/// A rule that is loaded.
#[derive(Debug)]
pub struct LoadedRule {
    /// The file as read.
    pub file: RuleFile,
    /// The feed it came with.
    pub feed: Arc<Feed>,
    /// What is done with it.
    pub mode: RuleMode,
    /// When it is run.
    pub stage: Stage,
    /// Weight in log-odds of a match.
    pub weight: f64,
}

/// Rules, ready to run.
#[derive(Debug)]
pub struct RuleSet {
    rules: Vec<LoadedRule>,
    engine: Engine,
    asks_who_failed: bool,
    feeds: Vec<(String, PathBuf)>,
}

/// A rule that matched, as it is kept in the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleMatch {
    /// Identity of the rule.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its feed.
    pub feed: String,
    /// How bad a match is.
    pub severity: Option<Severity>,
    /// What was done with it.
    pub mode: RuleMode,
    /// Weight in log-odds; 0 in shadow.
    pub weight: f64,
    /// It orders a second look, for which the message waits so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// Kinds of attack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attack_types: Vec<String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Clauses that were true, and what they saw.
    pub clauses: Vec<MatchedClause>,
}

/// A clause of a match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchedClause {
    /// Its text in the rule, cut.
    pub text: String,
    /// What it saw, not yet defanged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub saw: Vec<String>,
}

/// Characters kept of a clause.
const MAX_CLAUSE_CHARS: usize = 300;

impl From<Clause> for MatchedClause {
    fn from(clause: Clause) -> Self {
        let words: Vec<&str> = clause.text.split_whitespace().collect();
        Self { text: words.join(" ").chars().take(MAX_CLAUSE_CHARS).collect(), saw: clause.saw }
    }
}

/// What the rules say about a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleFindings {
    /// Rules that matched, enforced ones first, heaviest first.
    pub matches: Vec<RuleMatch>,
    /// Identity of a matching exclusion: the message is left out of judgement by rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded: Option<String>,
    /// Rules whose outcome hangs on something that is not known, by what that is.
    pub undecided: Vec<(String, usize)>,
}

impl RuleSet {
    /// Compiles all rules that are not off. A broken one is left out and named; the others load.
    pub fn build(
        files: Vec<(Arc<Feed>, RuleFile)>,
        lists: Arc<Lists>,
        modes: &RuleModes,
        weights: &RuleWeights,
    ) -> (Self, Vec<RuleError>) {
        Self::build_with(files, lists, (modes, &RuleStages::default()), weights, Needs::NONE)
    }

    /// The same where services give these capabilities: rules that rest on them are run, and ask.
    pub fn build_with(
        files: Vec<(Arc<Feed>, RuleFile)>,
        lists: Arc<Lists>,
        (modes, stages): (&RuleModes, &RuleStages),
        weights: &RuleWeights,
        given: Needs,
    ) -> (Self, Vec<RuleError>) {
        let never = Needs::services().and(Needs::of(Capability::Yara)).and(Needs::of(Capability::List));
        let mut builder = Builder::new(lists).without(never.less(given));
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        for (feed, file) in files {
            let mode = modes.of(&file, &feed);
            if mode == RuleMode::Off || file.kind == RuleKind::Automation {
                continue;
            }
            let added = match file.kind {
                RuleKind::Insight => builder.query(&file.source),
                _ => builder.rule(&file.source),
            };
            match added {
                Ok(_) => {
                    let weight = if mode == RuleMode::Enforce { weights.of(file.severity) } else { 0.0 };
                    let stage = stages.origin(&file, &feed).0;
                    rules.push(LoadedRule { file, feed, mode, stage, weight });
                }
                Err(error) => {
                    let (line, column) = error.place(&file.source);
                    let excerpt = error.excerpt(&file.source);
                    errors.push(file.source_error(line, column, &format!("{}\n{excerpt}", error.message)));
                }
            }
        }
        let engine = builder.build();
        let asks_who_failed = engine.programs().iter().any(|program| program.calls().contains("mailweir.unanswered"));
        (Self { rules, engine, asks_who_failed, feeds: Vec::new() }, errors)
    }

    /// Notes which feeds it was read from: name and place.
    pub fn with_feeds(self, feeds: Vec<(String, PathBuf)>) -> Self {
        Self { feeds, ..self }
    }

    /// The feeds that it was read from, those without any rule too.
    pub fn feeds(&self) -> &[(String, PathBuf)] {
        &self.feeds
    }

    /// The rules, in the order of the engine's programs.
    pub fn rules(&self) -> &[LoadedRule] {
        &self.rules
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The engine alone.
    pub fn into_engine(self) -> Engine {
        self.engine
    }

    /// Whether a rule asks for this capability.
    pub fn needs(&self, capability: Capability) -> bool {
        self.engine.programs().iter().any(|program| program.needs().has(capability))
    }

    /// Whether a rule asks who gave no answer.
    pub fn ask_who_failed(&self) -> bool {
        self.asks_who_failed
    }

    /// How many rules are run only in the second look.
    pub fn deferred(&self) -> usize {
        self.rules.iter().filter(|rule| rule.stage == Stage::Deferred).count()
    }

    /// Runs all rules over a message, those of the second look as well. `out_of_time` is asked between rules and
    /// files.
    pub fn find(&self, view: View<'_>, budget: Budget, out_of_time: &dyn Fn() -> bool) -> RuleFindings {
        self.find_and_ask(view, budget, out_of_time, Stage::Deferred).0
    }

    /// The same for the rules of this stage, and what they would have asked services: with answers in the facts less is
    /// undecided.
    pub fn find_and_ask(
        &self,
        view: View<'_>,
        budget: Budget,
        out_of_time: &dyn Fn() -> bool,
        stage: Stage,
    ) -> (RuleFindings, Vec<Ask>) {
        if self.rules.is_empty() {
            return Default::default();
        }
        let now = |place: usize| self.rules.get(place).is_none_or(|rule| rule.stage <= stage);
        let verdicts = self.engine.run_those(view, budget, out_of_time, &now);
        let mut found = RuleFindings::default();
        let mut undecided = vec![0; Capability::ALL.len()];
        for (place, (rule, outcome)) in self.rules.iter().zip(&verdicts.outcomes).enumerate() {
            match (outcome, rule.file.kind) {
                (Outcome::Undecided(needs), RuleKind::Detection) => count(&mut undecided, *needs),
                (Outcome::Match, RuleKind::Exclusion) if rule.mode == RuleMode::Enforce => {
                    found.excluded = Some(rule.file.id.clone())
                }
                // An exclusion in shadow is recorded as any match and leaves nothing out.
                (Outcome::Match, RuleKind::Detection | RuleKind::Exclusion) => {
                    let clauses = self.engine.explain(place, view, budget).into_iter().map(Into::into).collect();
                    found.matches.push(rule.matched(clauses));
                }
                _ => {}
            }
        }
        found.matches.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        found.undecided = Capability::ALL
            .iter()
            .zip(undecided)
            .filter(|(_, count)| *count > 0)
            .map(|(capability, count)| (capability.as_str().to_owned(), count))
            .collect();
        (found, verdicts.asks)
    }
}

fn count(counts: &mut [usize], needs: Needs) {
    for capability in needs.iter() {
        if let Some(count) = counts.get_mut(capability as usize) {
            *count += 1;
        }
    }
}

impl LoadedRule {
    fn matched(&self, clauses: Vec<MatchedClause>) -> RuleMatch {
        RuleMatch {
            id: self.file.id.clone(),
            name: self.file.name.clone(),
            feed: self.feed.name.clone(),
            severity: self.file.severity,
            mode: self.mode,
            weight: self.weight,
            wait: self.file.wait,
            attack_types: self.file.attack_types.clone(),
            tags: self.file.tags.clone(),
            clauses,
        }
    }
}
