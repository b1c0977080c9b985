//! All rules, compiled together; and their run over one message.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::compile::{Compiled, compile};
use super::error::{Error, Span};
use super::evaluate::Run;
use super::functions::Ask;
use super::gate::{Open, Sets};
use super::graph::Graph;
use super::model::{Root, View};
use super::needs::{Capability, Needs};
use super::node::NodeId;
use super::parse::parse;
use super::truth::Truth;
use super::value::{Store, Value};
use crate::policy::lists::Lists;

/// What rules may take of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Steps of one rule.
    pub max_rule_steps: u64,
    /// Steps of all rules over one message.
    pub max_message_steps: u64,
    /// Bytes that values of one message take.
    pub max_value_bytes: usize,
    /// Steps of asking which rules can match at all; beyond them every rule is run.
    pub max_gate_steps: u64,
    /// Nodes of a page that one XPath query looks at.
    pub max_xpath_steps: usize,
    /// Nodes of a page that the texts of what one XPath query found are made of, counted for each text.
    pub max_xpath_nodes: usize,
    /// Bytes of a file that `file.parse_text` and `file.parse_html` read.
    pub max_parsed_bytes: usize,
    /// Characters of each of two texts that are compared by edit distance; longer ones are not.
    pub max_distance_chars: usize,
    /// Questions to services that are noted of one message.
    pub max_asks: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            max_rule_steps: 2_000_000,
            max_message_steps: 20_000_000,
            max_value_bytes: 64 << 20,
            max_gate_steps: 3_000_000,
            max_xpath_steps: 200_000,
            max_xpath_nodes: 200_000,
            max_parsed_bytes: 4 << 20,
            max_distance_chars: 2_000,
            max_asks: 64,
        }
    }
}

/// A source that compiled, by its place in the engine.
#[derive(Debug)]
pub struct Program {
    compiled: Compiled,
    /// Top-level clauses: what a match is explained by.
    clauses: Vec<(NodeId, Span)>,
    source: Arc<str>,
    /// Only whether it is true matters.
    is_rule: bool,
    /// What is never there and without which it cannot be true.
    waits_for: Needs,
    /// What it names and is never there.
    lacks: Needs,
}

impl Program {
    /// Functions and `$lists` it names.
    pub fn calls(&self) -> &BTreeSet<String> {
        &self.compiled.calls
    }

    /// Capabilities it names, whether they are there or not.
    pub fn needs(&self) -> Needs {
        self.compiled.names
    }

    /// Lists it names that are not configured.
    pub fn missing_lists(&self) -> &BTreeSet<String> {
        &self.compiled.missing_lists
    }

    /// The type of its value.
    pub fn kind(&self) -> &str {
        &self.compiled.kind
    }

    /// What is not there on any message and without which it cannot be true: it is never run.
    pub fn waits_for(&self) -> Needs {
        self.waits_for
    }

    /// Its source.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// What came of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// True.
    Match,
    /// False or null.
    NoMatch,
    /// It hangs on what is not known.
    Undecided(Needs),
}

/// A clause of a match and what it saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Its text in the source.
    pub text: String,
    /// Texts of the message that made it true, short.
    pub saw: Vec<String>,
}

/// Builds an [`Engine`].
#[derive(Debug)]
pub struct Builder {
    graph: Graph,
    lists: Arc<Lists>,
    programs: Vec<Program>,
    absent: Needs,
}

impl Builder {
    /// No rules yet.
    pub fn new(lists: Arc<Lists>) -> Self {
        Self { graph: Graph::default(), lists, programs: Vec::new(), absent: Needs::NONE }
    }

    /// These are not there on any message: a rule that cannot be true without them is not run, it stays undecided.
    #[must_use]
    pub fn without(self, absent: Needs) -> Self {
        Self { absent, ..self }
    }

    /// Adds a source whose value is a bool; gives its place.
    ///
    /// # Errors
    /// The first mistake: syntax, type, pattern, query.
    pub fn rule(&mut self, source: &str) -> Result<usize, Error> {
        self.add(source, true)
    }

    /// Adds a source of any type (an insight).
    ///
    /// # Errors
    /// As [`Self::rule`].
    pub fn query(&mut self, source: &str) -> Result<usize, Error> {
        self.add(source, false)
    }

    fn add(&mut self, source: &str, boolean: bool) -> Result<usize, Error> {
        let tree = parse(source)?;
        let compiled = compile(&tree, &mut self.graph, &self.lists)?;
        if boolean && !compiled.boolean {
            let message = format!("a rule is true or false, this is {}", compiled.kind);
            return Err(Error::new(message, tree.span));
        }
        let mut clauses = Vec::new();
        let parts = match &tree.kind {
            super::ast::Kind::And(parts) => parts.as_slice(),
            _ => std::slice::from_ref(&tree),
        };
        for part in parts {
            // The same nodes again: everything is held once.
            clauses.push((compile(part, &mut self.graph, &self.lists)?.root, part.span));
        }
        self.programs.push(Program {
            compiled,
            clauses,
            source: source.into(),
            is_rule: boolean,
            waits_for: Needs::NONE,
            lacks: Needs::NONE,
        });
        Ok(self.programs.len() - 1)
    }

    /// Everything that was added, ready to run.
    pub fn build(mut self) -> Engine {
        let absent = self.absent;
        let roots: Vec<(NodeId, bool)> =
            self.programs.iter().map(|program| (program.compiled.root, program.is_rule)).collect();
        for program in self.programs.iter_mut().filter(|program| program.is_rule) {
            let lists = match program.compiled.missing_lists.is_empty() {
                true => Needs::NONE,
                false => Needs::of(Capability::List),
            };
            program.lacks = program.compiled.names.and(lists).common(absent);
            if !self.graph.can_be_true(program.compiled.root, absent) {
                program.waits_for = program.lacks;
            }
        }
        let to_match = self.graph.finish(&roots, absent);
        let gates = roots.iter().map(|(root, is_rule)| self.graph.node(*root).gates.filter(|_| *is_rule));
        let (can, may_match) = (self.graph.gates.sets(gates), self.graph.gates.sets(to_match.into_iter()));
        Engine { graph: self.graph, lists: self.lists, programs: self.programs, can, may_match }
    }
}

/// How large compiled rules are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Distinct expressions.
    pub nodes: usize,
    /// Texts looked for in one pass.
    pub literals: usize,
    /// Regexes.
    pub patterns: usize,
    /// Rules that are run only when something they want is in the message.
    pub gated: usize,
}

/// Compiled rules.
#[derive(Debug)]
pub struct Engine {
    graph: Graph,
    lists: Arc<Lists>,
    programs: Vec<Program>,
    /// The gates of each program: closed, it is false or null.
    can: Sets,
    /// Gates of each program that mean less: closed, it cannot match.
    may_match: Sets,
}

/// What all rules made of a message.
#[derive(Debug)]
pub struct Verdicts {
    /// One outcome a program.
    pub outcomes: Vec<Outcome>,
    /// Steps taken.
    pub steps: u64,
    /// Programs that had to be run: the others lack something they want.
    pub run: usize,
    /// The message's budget was used up.
    pub cut: bool,
    /// What services were not asked: with answers to these in [`crate::analysis::Facts::answers`] less is undecided.
    pub asks: Vec<Ask>,
}

impl Engine {
    /// The lists they ask.
    pub fn lists(&self) -> &Lists {
        &self.lists
    }

    /// The programs, by place.
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// How large it is.
    pub fn size(&self) -> Size {
        let (nodes, literals, patterns) =
            (self.graph.nodes.len(), self.graph.literal_count(), self.graph.patterns.len());
        Size {
            nodes,
            literals,
            patterns,
            gated: self.programs.iter().filter(|program| self.gates_of(program).is_some()).count(),
        }
    }

    fn gates_of(&self, program: &Program) -> Option<u32> {
        self.graph.node(program.compiled.root).gates
    }

    /// Compiles all patterns now rather than when first needed; gives those beyond the size limit.
    pub fn warm(&self) -> usize {
        self.graph.patterns.iter().filter(|searched| searched.pattern.regex().is_none()).count()
    }

    /// Whether a rule can still turn out true when these are not there.
    pub fn can_fire(&self, program: usize, missing: Needs) -> bool {
        self.programs.get(program).is_some_and(|program| self.graph.can_be_true(program.compiled.root, missing))
    }

    /// Runs all programs. `out_of_time` is asked between rules, and between the files that one looks into.
    pub fn run(&self, view: View<'_>, budget: Budget, out_of_time: &dyn Fn() -> bool) -> Verdicts {
        self.run_with(view, budget, out_of_time, (false, &|_| true))
    }

    /// Runs the programs of these places; the others do not match.
    pub fn run_those(
        &self,
        view: View<'_>,
        budget: Budget,
        out_of_time: &dyn Fn() -> bool,
        those: &dyn Fn(usize) -> bool,
    ) -> Verdicts {
        self.run_with(view, budget, out_of_time, (false, those))
    }

    /// As [`Self::run`], every rule by itself: nothing shared, nothing remembered, no literal pass. To compare.
    pub fn run_naive(&self, view: View<'_>, budget: Budget) -> Verdicts {
        self.run_with(view, budget, &|| false, (true, &|_| true))
    }

    fn run_with(
        &self,
        view: View<'_>,
        budget: Budget,
        out_of_time: &dyn Fn() -> bool,
        (naive, those): (bool, &dyn Fn(usize) -> bool),
    ) -> Verdicts {
        let store = Store::default();
        let root = Root { view, lists: &self.lists };
        let run = Run::new(&self.graph, &store, &root, budget, naive, out_of_time);
        let (mut cut, mut ran) = (false, 0);
        let open = if naive { Open::default() } else { run.ask_gates() };
        let (can, may_match) = (self.can.open(&open), self.may_match.open(&open));
        let outcomes = can
            .zip(may_match)
            .zip(&self.programs)
            .enumerate()
            .map(|(place, ((can, may_match), program))| {
                if !can || !those(place) {
                    return Outcome::NoMatch;
                }
                if !may_match && !program.lacks.is_none() {
                    return Outcome::Undecided(program.lacks);
                }
                cut = cut || run.steps() > budget.max_message_steps || out_of_time();
                if cut {
                    return Outcome::Undecided(Needs::of(Capability::Budget));
                }
                if !naive && !program.waits_for.is_none() {
                    return Outcome::Undecided(program.waits_for);
                }
                ran += 1;
                outcome(run.decide(program.compiled.root, budget.max_rule_steps))
            })
            .collect();
        Verdicts { outcomes, steps: run.steps(), run: ran, cut, asks: run.into_asks() }
    }

    /// Why a program matched: its clauses and what they saw.
    pub fn explain(&self, program: usize, view: View<'_>, budget: Budget) -> Vec<Clause> {
        let Some(program) = self.programs.get(program) else { return Vec::new() };
        let store = Store::default();
        let root = Root { view, lists: &self.lists };
        let run = Run::new(&self.graph, &store, &root, budget, false, &|| false);
        let mut clauses = Vec::new();
        for (node, span) in &program.clauses {
            let (value, saw) = run.watch(*node, budget.max_rule_steps);
            if value.truth().0.is_true() {
                let text = program.source.get(span.start..span.end).unwrap_or_default();
                clauses.push(Clause { text: text.to_owned(), saw });
            }
        }
        clauses
    }

    /// What a program comes to by itself, what stands in the way of knowing it, and what its true tests saw.
    pub fn look(&self, program: usize, view: View<'_>, budget: Budget) -> (Truth, Needs, Vec<String>) {
        let Some(program) = self.programs.get(program) else { return (Truth::NULL, Needs::NONE, Vec::new()) };
        let store = Store::default();
        let root = Root { view, lists: &self.lists };
        let run = Run::new(&self.graph, &store, &root, budget, false, &|| false);
        let (value, saw) = run.watch(program.compiled.root, budget.max_rule_steps);
        let (truth, needs) = value.truth();
        (truth, needs, saw)
    }

    /// The value of a program as JSON, for insights and people. `None`: not known.
    pub fn value(&self, program: usize, view: View<'_>, budget: Budget) -> Option<serde_json::Value> {
        let program = self.programs.get(program)?;
        let store = Store::default();
        let root = Root { view, lists: &self.lists };
        let run = Run::new(&self.graph, &store, &root, budget, false, &|| false);
        let value = run.evaluate(program.compiled.root, budget.max_rule_steps);
        to_json(value, 0)
    }
}

fn outcome(value: Value<'_>) -> Outcome {
    let (truth, needs): (Truth, Needs) = value.truth();
    match truth {
        truth if truth.is_true() => Outcome::Match,
        truth if truth.may_be_true() => Outcome::Undecided(needs),
        _ => Outcome::NoMatch,
    }
}

/// Levels of a value that are shown.
const MAX_SHOWN_DEPTH: usize = 6;

fn to_json(value: Value<'_>, depth: usize) -> Option<serde_json::Value> {
    use serde_json::Value as Json;
    if value.unavailable().is_some() {
        return None;
    }
    if depth > MAX_SHOWN_DEPTH {
        return Some(Json::Null);
    }
    Some(match value {
        Value::Truth(truth, _) if !truth.is_null() => Json::Bool(truth.is_true()),
        Value::Int(n) => n.into(),
        Value::Float(n) => n.into(),
        Value::Text(text) => text.into(),
        Value::Array(items) => {
            items.iter().take(1_000).map(|item| to_json(*item, depth + 1).unwrap_or(Json::Null)).collect()
        }
        Value::List(list) => list.iter().take(1_000).map(Json::from).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), to_json(*value, depth + 1).unwrap_or(Json::Null)))
            .collect(),
        Value::Object(_) => Json::String("{…}".into()),
        _ => Json::Null,
    })
}
