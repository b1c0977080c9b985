//! What must stand in a message for a rule to be able to match: found out once for each rule, asked once for each message.
//!
//! A rule that wants `invoice` in the subject cannot match a message whose subject lacks it, whatever else is known or not
//! known. Such conditions are gates: a set of literals, each in a place of the message, one of which has to be there. All
//! gates are asked together, by one literal pass over each place; only rules whose gates are all open are evaluated, and
//! of those only the parts whose gates are open.
//! Gates of a second kind leave out what hangs on capabilities that are never there: closed, they mean that the rule cannot
//! match, though it may stay undecided.
//! A closed gate means false or null in every case, so that what is unavailable elsewhere does not matter; a place that is
//! itself unavailable opens its gates. Where false and null are not the same (under `not`) no gate is asked.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::rc::Rc;

use super::ast::Compare;
use super::compile::{FIRST_BUILT_IN, LENGTH};
use super::evaluate::Run;
use super::graph::Graph;
use super::hits::Quick;
use super::needs::Needs;
use super::node::{Constant, Each, NodeId, Op};
use super::scanner::MIN_LITERAL_BYTES;
use super::signature;
use super::value::Value;
use crate::policy::fold;

/// Steps that asking a place may cost: opening files only to ask a gate would be dearer than the rule.
const MAX_PLACE_COST: u32 = 400;
/// Gates kept of one expression: the best ones.
const MAX_GATES: usize = 4;
/// Collections within collections that are gone through.
const MAX_CHAIN: usize = 3;

/// A text of the message, or of every element of nested collections of it.
type Place = (Box<[NodeId]>, NodeId);

/// One literal of a place, or (without one) an element of the chain at all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Atom {
    place: u32,
    literal: Option<u32>,
}

/// Conditions one of which has to hold.
type Gate = BTreeSet<Atom>;

/// The gates of all rules, as they are asked.
#[derive(Debug, Default)]
pub(super) struct Gates {
    chains: Vec<Chain>,
    /// Gates of a literal in a place.
    postings: HashMap<(u32, u32), Vec<u32>, BuildHasherDefault<Quick>>,
    /// All gates of a place.
    of_place: Vec<Vec<u32>>,
    /// Sets of gates all of which have to be open; nodes refer to them.
    sets: Vec<Box<[u32]>>,
    count: usize,
}

/// Sets of gates in one piece: going through all rules must not wait for memory.
#[derive(Debug, Default)]
pub(super) struct Sets {
    ids: Vec<u32>,
    /// Where each set ends.
    ends: Vec<u32>,
}

impl Sets {
    /// Whether all gates are open, set by set.
    pub(super) fn open<'o>(&'o self, open: &'o Open) -> impl Iterator<Item = bool> + 'o {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ids = starts.zip(&self.ends).map(|(from, to)| &self.ids[from as usize..*to as usize]);
        ids.map(|gates| open.all(gates))
    }
}

#[derive(Debug)]
struct Chain {
    lists: Box<[NodeId]>,
    /// Texts of an element and their places.
    texts: Vec<(NodeId, u32)>,
    /// Gates that want an element.
    exists: Vec<u32>,
}

/// Which gates are open for one message; `None`: there was no time to ask, all are.
#[derive(Clone, Default)]
pub(super) struct Open(Option<Rc<[u64]>>);

impl Open {
    fn all(&self, gates: &[u32]) -> bool {
        self.0.as_ref().is_none_or(|open| gates.iter().all(|gate| open[*gate as usize / 64] & 1 << (gate % 64) != 0))
    }
}

impl Gates {
    /// Whether all gates of a set are open.
    pub(super) fn lets(&self, open: &Open, set: u32) -> bool {
        self.sets.get(set as usize).is_none_or(|gates| open.all(gates))
    }

    /// The sets of those numbers; `None`: no gates.
    pub(super) fn sets(&self, numbers: impl Iterator<Item = Option<u32>>) -> Sets {
        let mut all = Sets::default();
        for number in numbers {
            let set = number.and_then(|number| self.sets.get(number as usize));
            all.ids.extend(set.into_iter().flat_map(|set| set.iter()));
            all.ends.push(u32::try_from(all.ids.len()).unwrap_or(u32::MAX));
        }
        all
    }

    /// Nodes asked for gates.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.chains
            .iter()
            .flat_map(|chain| chain.lists.iter().copied().chain(chain.texts.iter().map(|(text, _)| *text)))
    }

    /// Asks all gates of a message.
    pub(super) fn ask(&self, run: &Run<'_>) -> Open {
        let mut open = vec![0_u64; self.count.div_ceil(64)];
        run.allow(run.budget.max_gate_steps);
        for chain in &self.chains {
            self.walk(run, chain, 0, &mut open);
        }
        Open(run.spend(0).then(|| open.into()))
    }

    fn walk(&self, run: &Run<'_>, chain: &Chain, depth: usize, open: &mut [u64]) {
        let Some(list) = chain.lists.get(depth) else {
            mark(open, &chain.exists);
            for (text, place) in &chain.texts {
                self.look(run, run.eval(*text), *place, open);
            }
            return;
        };
        match run.eval(*list) {
            Value::Array(items) => {
                for item in items {
                    run.within(*item, || self.walk(run, chain, depth + 1, open));
                }
            }
            Value::List(list) => {
                for item in list.iter() {
                    run.within(Value::Text(item), || self.walk(run, chain, depth + 1, open));
                }
            }
            // A text or map has a length too, and is gone through by nobody.
            other if !other.is_null() => {
                mark(open, &chain.exists);
                chain.texts.iter().for_each(|(_, place)| mark(open, &self.of_place[*place as usize]));
            }
            _ => {}
        }
    }

    fn look<'m>(&self, run: &Run<'m>, value: Value<'m>, place: u32, open: &mut [u64]) {
        match value {
            Value::Text(text) => {
                for literal in run.hits(text).iter() {
                    if let Some(gates) = self.postings.get(&(place, literal)) {
                        mark(open, gates);
                    }
                }
            }
            Value::Unavailable(_) => mark(open, &self.of_place[place as usize]),
            other if other.unavailable().is_some() => mark(open, &self.of_place[place as usize]),
            _ => {}
        }
    }
}

fn mark(open: &mut [u64], gates: &[u32]) {
    for gate in gates {
        open[*gate as usize / 64] |= 1 << (gate % 64);
    }
}

/// Finds the gates of programs; literals they need are added to the graph.
pub(super) struct Finder<'g> {
    graph: &'g mut Graph,
    places: HashMap<Place, u32>,
    gates: HashMap<Gate, u32>,
    sets: HashMap<Box<[u32]>, u32>,
    done: HashSet<NodeId>,
    /// Characters expected in each place.
    lengths: Vec<f64>,
    /// The node of a lambda's own element.
    element: NodeId,
    /// What is never there.
    absent: Needs,
    /// Whether what hangs on that is left out, and what each node can become then.
    only_true: bool,
    outcomes: HashMap<NodeId, u8>,
}

impl<'g> Finder<'g> {
    pub(super) fn new(graph: &'g mut Graph, absent: Needs) -> Self {
        let element = graph.add(Op::Element(0));
        Self {
            graph,
            places: HashMap::new(),
            gates: HashMap::new(),
            sets: HashMap::new(),
            done: HashSet::new(),
            lengths: Vec::new(),
            element,
            absent,
            only_true: false,
            outcomes: HashMap::new(),
        }
    }

    /// Finds the gates of an expression of which only matters whether it is true, and of its parts.
    pub(super) fn visit(&mut self, id: NodeId) {
        if self.graph.node(id).open > 0 || !self.done.insert(id) {
            return;
        }
        match self.graph.node(id).op.clone() {
            Op::And(all) | Op::Or(all) | Op::AtLeast(_, all) => all.iter().for_each(|one| self.visit(*one)),
            Op::Each(Each::Any, ..) | Op::Compare(..) => {}
            // These look at the hits of their text themselves.
            _ => return,
        }
        self.graph.nodes[id.0 as usize].gates = self.set(id);
    }

    /// The gates without which an expression cannot be true, what it says undecided left aside.
    pub(super) fn set_to_match(&mut self, id: NodeId) -> Option<u32> {
        self.only_true = true;
        let set = self.set(id);
        self.only_true = false;
        set
    }

    /// The best gates of an expression.
    fn set(&mut self, id: NodeId) -> Option<u32> {
        let mut found = self.gates(id, &[]);
        found.sort_by(|a, b| self.weight(a).total_cmp(&self.weight(b)));
        found.dedup();
        found.truncate(MAX_GATES);
        let ids = found.into_iter().map(|gate| {
            let next = u32::try_from(self.gates.len()).unwrap_or(u32::MAX);
            *self.gates.entry(gate).or_insert(next)
        });
        let ids: Box<[u32]> = ids.collect();
        let next = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        (!ids.is_empty()).then(|| *self.sets.entry(ids).or_insert(next))
    }

    /// All gates as they are asked.
    pub(super) fn finish(self) -> Gates {
        let mut gates = Gates { count: self.gates.len(), ..Gates::default() };
        let mut sets: Vec<(Box<[u32]>, u32)> = self.sets.into_iter().collect();
        sets.sort_unstable_by_key(|(_, number)| *number);
        gates.sets = sets.into_iter().map(|(set, _)| set).collect();
        gates.of_place = vec![Vec::new(); self.places.len()];
        let mut wanted: Vec<Vec<u32>> = vec![Vec::new(); self.places.len()];
        for (gate, id) in &self.gates {
            for atom in gate {
                match atom.literal {
                    Some(literal) => gates.postings.entry((atom.place, literal)).or_default().push(*id),
                    None => wanted[atom.place as usize].push(*id),
                }
                gates.of_place[atom.place as usize].push(*id);
            }
        }
        let mut places: Vec<(Place, u32)> = self.places.into_iter().collect();
        places.sort_unstable();
        for ((lists, text), place) in places {
            if gates.of_place[place as usize].is_empty() {
                continue;
            }
            gates.of_place[place as usize].sort_unstable();
            gates.of_place[place as usize].dedup();
            if gates.chains.last().is_none_or(|last| last.lists != lists) {
                gates.chains.push(Chain { lists, texts: Vec::new(), exists: Vec::new() });
            }
            let Some(chain) = gates.chains.last_mut() else { continue };
            let exists = std::mem::take(&mut wanted[place as usize]);
            if exists.len() < gates.of_place[place as usize].len() {
                chain.texts.push((text, place));
            }
            chain.exists.extend(exists);
        }
        gates
    }

    fn place(&mut self, chain: &[NodeId], text: NodeId) -> u32 {
        let next = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        let place = *self.places.entry((chain.into(), text)).or_insert(next);
        if place == next {
            // What is dear to have is long: bodies, pages.
            let one = if self.graph.node(text).cost >= 30 { 4_000.0 } else { 40.0 };
            self.lengths.push(if chain.is_empty() { one } else { one * 10.0 });
        }
        place
    }

    /// Gates all of which have to be open for the node to be true.
    fn gates(&mut self, id: NodeId, chain: &[NodeId]) -> Vec<Gate> {
        let op = self.graph.node(id).op.clone();
        match op {
            Op::And(all) => all.iter().flat_map(|one| self.gates(*one, chain)).collect(),
            Op::Or(all) => self.one_of(&all, 1, chain),
            Op::AtLeast(needed, all) => self.one_of(&all, usize::from(needed), chain),
            Op::Coalesce(all) => match all.split_first() {
                Some((first, rest)) if rest.iter().all(|one| self.is_false(*one)) => self.gates(*first, chain),
                _ => Vec::new(),
            },
            Op::Each(Each::Any, list, Some(body)) => self.some(list, Some(body), chain),
            Op::Text { subject, needles, .. } => {
                let literals = needles.iter().map(|needle| self.graph.needles[*needle as usize].literal).collect();
                self.literals(subject, literals, chain)
            }
            Op::Pattern { subject, patterns } => {
                let of = |pattern: &u32| {
                    let literals = &self.graph.patterns[*pattern as usize].literals;
                    if literals.is_empty() { vec![None] } else { literals.iter().copied().map(Some).collect() }
                };
                let literals = patterns.iter().flat_map(of).collect();
                self.literals(subject, literals, chain)
            }
            Op::InTable { item, table, .. } => {
                let table = &self.graph.tables[table as usize];
                if !table.ints.is_empty() {
                    return Vec::new();
                }
                let texts: Vec<Box<str>> = table.texts.iter().cloned().collect();
                let literals = texts.iter().map(|text| self.constant(text)).collect();
                self.literals(item, literals, chain)
            }
            Op::Compare(operator, a, b) => self.compare(operator, a, b, chain),
            Op::In { item, set, .. } => match self.graph.node(item).op.clone() {
                Op::Constant(Constant::Text(text)) => {
                    let literal = self.constant(&text);
                    self.chained(chain, set)
                        .map(|chain| self.literals(self.element, vec![literal], &chain))
                        .unwrap_or_default()
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    fn is_false(&self, id: NodeId) -> bool {
        matches!(self.graph.node(id).op, Op::Constant(Constant::Bool(false)))
    }

    /// The literal of a constant that a text has to equal.
    fn constant(&mut self, text: &str) -> Option<u32> {
        self.graph.literal(&fold::folded(text))
    }

    fn compare(&mut self, operator: Compare, a: NodeId, b: NodeId, chain: &[NodeId]) -> Vec<Gate> {
        let (node, constant) = match (&self.graph.node(a).op, &self.graph.node(b).op) {
            (_, Op::Constant(constant)) => (a, constant.clone()),
            (Op::Constant(constant), _) if matches!(operator, Compare::Equal | Compare::Like) => (b, constant.clone()),
            _ => return Vec::new(),
        };
        match (operator, constant, self.graph.node(node).op.clone()) {
            (Compare::Equal | Compare::Like, Constant::Text(text), _) => {
                let literal = self.constant(&text);
                self.literals(node, vec![literal], chain)
            }
            // How many there are: more than none.
            (operator, Constant::Int(n), Op::Call { function: LENGTH, args })
                if matches!(operator, Compare::Greater) && n >= 0
                    || matches!(operator, Compare::GreaterEqual | Compare::Equal) && n >= 1 =>
            {
                self.some(args[0], None, chain)
            }
            // So few changes leave one of so many pieces as it was.
            (Compare::Less | Compare::LessEqual | Compare::Equal, Constant::Int(n), Op::Call { function, args })
                if function < FIRST_BUILT_IN && signature::at(function).name.ends_with("levenshtein") =>
            {
                let changes = if operator == Compare::Less { n.saturating_sub(1) } else { n };
                let texts = [&args[0], &args[1]].map(|arg| match &self.graph.node(*arg).op {
                    Op::Constant(Constant::Text(text)) => Some(text.to_string()),
                    _ => None,
                });
                match texts {
                    [None, Some(text)] => self.near(args[0], &text, changes, chain),
                    [Some(text), None] => self.near(args[1], &text, changes, chain),
                    _ => Vec::new(),
                }
            }
            (operator, Constant::Int(n), Op::PatternCount { subject, pattern })
                if matches!(operator, Compare::Greater) && n >= 0
                    || matches!(operator, Compare::GreaterEqual | Compare::Equal) && n >= 1 =>
            {
                let literals: Vec<_> =
                    self.graph.patterns[pattern as usize].literals.iter().copied().map(Some).collect();
                self.literals(subject, literals, chain)
            }
            _ => Vec::new(),
        }
    }

    /// A text that so many changes make of another.
    fn near(&mut self, text: NodeId, other: &str, changes: i64, chain: &[NodeId]) -> Vec<Gate> {
        let other: Vec<char> = fold::folded(other).chars().collect();
        let Some(pieces) = usize::try_from(changes).ok().map(|changes| changes.saturating_add(1)) else {
            return Vec::new();
        };
        if other.len() / pieces < MIN_LITERAL_BYTES {
            return Vec::new();
        }
        let bounds = (0..pieces).map(|n| (other.len() * n / pieces, other.len() * (n + 1) / pieces));
        let pieces: Vec<String> = bounds.map(|(from, to)| other[from..to].iter().collect()).collect();
        let literals = pieces.iter().map(|piece| self.graph.literal(piece)).collect();
        self.literals(text, literals, chain)
    }

    /// An element of the list that fulfils the body.
    fn some(&mut self, list: NodeId, body: Option<NodeId>, chain: &[NodeId]) -> Vec<Gate> {
        match self.graph.node(list).op.clone() {
            // What a filter lets through is in what it filters, and fulfils both.
            Op::Each(Each::Filter, inner, Some(condition)) => {
                let mut all = self.some(inner, Some(condition), chain);
                all.extend(body.into_iter().flat_map(|body| self.some(inner, Some(body), chain)));
                return all;
            }
            Op::Each(Each::Distinct, inner, _) => return self.some(inner, body, chain),
            _ => {}
        }
        let Some(chain) = self.chained(chain, list) else { return Vec::new() };
        let found = body.map(|body| self.gates(body, &chain)).unwrap_or_default();
        if !found.is_empty() {
            return found;
        }
        let place = self.place(&chain, self.element);
        vec![Gate::from([Atom { place, literal: None }])]
    }

    /// The chain with one more list, when going through it is cheap.
    fn chained(&self, chain: &[NodeId], list: NodeId) -> Option<Vec<NodeId>> {
        let node = self.graph.node(list);
        let fits = node.cost <= MAX_PLACE_COST && chain.len() < MAX_CHAIN && !matches!(node.op, Op::List(_));
        // What does not depend on the elements around is gone through once, not for each of them.
        let outer = if node.open == 0 { &[] } else { chain };
        fits.then(|| outer.iter().copied().chain([list]).collect())
    }

    /// One of the literals in that text; `None` among them: it cannot be told.
    fn literals(&mut self, text: NodeId, literals: Vec<Option<u32>>, chain: &[NodeId]) -> Vec<Gate> {
        let node = self.graph.node(text);
        let fits = node.cost <= MAX_PLACE_COST && usize::from(node.open) <= chain.len();
        let chain = if node.open == 0 { &[] } else { chain };
        let Some(literals) = literals.into_iter().collect::<Option<Vec<u32>>>().filter(|all| fits && !all.is_empty())
        else {
            return Vec::new();
        };
        let place = self.place(chain, text);
        vec![literals.into_iter().map(|literal| Atom { place, literal: Some(literal) }).collect()]
    }

    /// So many of the clauses are true: one of those with gates is, when fewer than that many have none.
    fn one_of(&mut self, all: &[NodeId], needed: usize, chain: &[NodeId]) -> Vec<Gate> {
        let (mut union, mut without) = (Gate::new(), 0);
        for one in all {
            if self.only_true && !self.graph.may_be_true(*one, self.absent, &mut self.outcomes) {
                continue;
            }
            let best = self.gates(*one, chain).into_iter().min_by(|a, b| self.weight(a).total_cmp(&self.weight(b)));
            match best {
                Some(gate) => union.extend(gate),
                None => without += 1,
            }
        }
        if without < needed && !union.is_empty() { vec![union] } else { Vec::new() }
    }

    /// How often a gate stands open, roughly: the sum over its atoms.
    fn weight(&self, gate: &Gate) -> f64 {
        let of = |atom: &Atom| match atom.literal {
            None => 0.5,
            Some(literal) => (self.graph.chance(literal) * self.lengths[atom.place as usize]).min(1.0),
        };
        gate.iter().map(of).sum()
    }
}
