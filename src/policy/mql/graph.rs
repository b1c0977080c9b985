//! The graph of all rules: nodes, and the tables they refer to. Equal things are held once.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::compile::{ByKey, FIRST_BUILT_IN, SharedText, missing_field};
use super::gate::{Finder, Gates};
use super::glob;
use super::needs::{Capability, Needs};
use super::node::{Constant, Node, NodeId, Op, TextTest};
use super::re2::Pattern;
use super::scanner::{MAX_LITERAL_BYTES, MIN_LITERAL_BYTES, Scanner, chance};
use super::schema::schema;
use super::signature;
use crate::mail::{Network, XPath};
use crate::policy::fold;
use crate::policy::lists::NamedList;

/// A constant that is looked for in texts.
#[derive(Debug)]
pub(super) struct Needle {
    /// Folded when the test is.
    pub(super) text: SharedText,
    /// Folded text that stands wherever the needle does: `None` for needles too short to be worth it.
    pub(super) literal: Option<u32>,
    /// The literal is the whole needle: its presence is the answer.
    pub(super) is_answer: bool,
}

/// A pattern and the literals one of which stands in every match; none: it is always run.
#[derive(Debug)]
pub(super) struct Searched {
    pub(super) pattern: Pattern,
    pub(super) literals: Box<[u32]>,
}

/// Constants a value may be among.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) texts: HashSet<Box<str>>,
    pub(super) ints: HashSet<i64>,
}

/// An XPath query and the literals all of which stand in the source of a page where it finds anything.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) xpath: XPath,
    pub(super) required: Box<[u32]>,
}

/// Everything compiled.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    ids: HashMap<Op, NodeId>,
    literals: ByKey<Box<str>>,
    chances: Vec<f64>,
    pub(super) needles: Vec<Needle>,
    needle_ids: ByKey<(Box<str>, TextTest, bool)>,
    pub(super) patterns: Vec<Searched>,
    pattern_ids: ByKey<(Box<str>, bool, bool)>,
    pub(super) tables: Vec<Table>,
    table_ids: ByKey<(NodeId, bool)>,
    pub(super) networks: Vec<Ranges>,
    pub(super) lists: Vec<Arc<NamedList>>,
    list_ids: ByKey<Box<str>>,
    pub(super) queries: Vec<Query>,
    query_ids: ByKey<Box<str>>,
    pub(super) slots: u32,
    pub(super) scanner: Scanner,
    pub(super) gates: Gates,
}

/// Networks as sorted ranges that do not touch.
#[derive(Debug)]
pub(super) struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    pub(super) fn has(&self, ip: IpAddr) -> bool {
        let key = key_of(ip);
        let at = self.0.partition_point(|(low, _)| *low <= key);
        at > 0 && self.0[at - 1].1 >= key
    }
}

fn key_of(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_ipv6_mapped()),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Graph {
    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The node of that operation; a new one only when there is none yet.
    pub(super) fn add(&mut self, op: Op) -> NodeId {
        let op = match op {
            // Equal sets of clauses in other order are equal.
            Op::And(all) => Op::And(self.ordered(all)),
            Op::Or(all) => Op::Or(self.ordered(all)),
            other => other,
        };
        if let Some(id) = self.ids.get(&op) {
            return *id;
        }
        let (mut open, mut cost) = (0, own_cost(&op));
        let lambda = match &op {
            Op::Each(_, _, body) => *body,
            _ => None,
        };
        op.operands(|operand| {
            let node = &self.nodes[operand.0 as usize];
            let inside = lambda == Some(operand);
            open = open.max(if inside { node.open.saturating_sub(1) } else { node.open });
            cost = cost.saturating_add(if inside { node.cost.saturating_mul(8) } else { node.cost });
        });
        if let Op::Element(up) = op {
            open = up + 1;
        }
        let id = NodeId(number(self.nodes.len()));
        self.ids.insert(op.clone(), id);
        self.nodes.push(Node { op, open, cost, slot: None, gates: None });
        id
    }

    /// Cheap clauses first: connectives do not depend on order, and a cheap one may settle the matter.
    fn ordered(&self, all: Box<[NodeId]>) -> Box<[NodeId]> {
        let mut all = all;
        all.sort_by_key(|id| (self.node(*id).cost, *id));
        all
    }

    /// The number of a literal: `None` for one too short to be worth looking for. Of a long one its start is looked for.
    pub(super) fn literal(&mut self, folded: &str) -> Option<u32> {
        let folded = &folded[..folded.floor_char_boundary(MAX_LITERAL_BYTES)];
        if folded.len() < MIN_LITERAL_BYTES {
            return None;
        }
        if let Some(known) = self.literals.get(folded) {
            return Some(*known);
        }
        let next = number(self.literals.len());
        self.literals.insert(folded.into(), next);
        self.chances.push(chance(folded.as_bytes()));
        Some(next)
    }

    /// Roughly how often a literal stands at a place of a text.
    pub(super) fn chance(&self, literal: u32) -> f64 {
        self.chances.get(literal as usize).copied().unwrap_or(1.0)
    }

    pub(super) fn literal_count(&self) -> usize {
        self.literals.len()
    }

    pub(super) fn needle(&mut self, text: &str, test: TextTest, folded: bool) -> u32 {
        let key = (text.into(), test, folded);
        if let Some(id) = self.needle_ids.get(&key) {
            return *id;
        }
        let lower = fold::folded(text);
        let (piece, whole) = match test {
            TextTest::Like => {
                let piece = glob::longest_piece(&lower);
                (piece, lower.len() == piece.len() + 2 && lower.starts_with('*') && lower.ends_with('*'))
            }
            TextTest::Contains => (&*lower, true),
            _ => (&*lower, false),
        };
        let literal = self.literal(piece);
        let whole = whole && piece.len() <= MAX_LITERAL_BYTES;
        let text = if folded { lower.as_ref().into() } else { text.into() };
        let id = number(self.needles.len());
        self.needles.push(Needle { text, literal, is_answer: whole && folded && literal.is_some() });
        self.needle_ids.insert(key, id);
        id
    }

    pub(super) fn pattern(&mut self, text: &str, folded: bool, whole: bool) -> Result<u32, String> {
        let key = (text.into(), folded, whole);
        if let Some(id) = self.pattern_ids.get(&key) {
            return Ok(*id);
        }
        let (pattern, required) = Pattern::new(text, folded, whole)?;
        // One that is too short may stand anywhere: then the pattern is always run.
        let literals = required.iter().map(|one| self.literal(one)).collect::<Option<_>>().unwrap_or_default();
        let id = number(self.patterns.len());
        self.patterns.push(Searched { pattern, literals });
        self.pattern_ids.insert(key, id);
        Ok(id)
    }

    pub(super) fn xpath(&mut self, query: &str) -> Result<u32, String> {
        if let Some(id) = self.query_ids.get(query) {
            return Ok(*id);
        }
        let compiled = XPath::compile(query).map_err(|error| error.to_string())?;
        let id = number(self.queries.len());
        // What a query needs beyond what a page has of itself: the literal pass over the source tells.
        let required = compiled.required().iter().filter_map(|text| self.literal(text)).collect();
        self.queries.push(Query { xpath: compiled, required });
        self.query_ids.insert(query.into(), id);
        Ok(id)
    }

    pub(super) fn list(&mut self, name: &str, list: Arc<NamedList>) -> u32 {
        if let Some(id) = self.list_ids.get(name) {
            return *id;
        }
        let id = number(self.lists.len());
        self.lists.push(list);
        self.list_ids.insert(name.into(), id);
        id
    }

    /// A table for an array of constants; `None` when it holds anything else.
    pub(super) fn table(&mut self, set: NodeId, folded: bool) -> Option<u32> {
        let Op::Array(items) = &self.node(set).op else { return None };
        if let Some(id) = self.table_ids.get(&(set, folded)) {
            return Some(*id);
        }
        let mut table = Table::default();
        for item in items {
            match &self.node(*item).op {
                Op::Constant(Constant::Text(text)) => {
                    let text = if folded { fold::folded(text).into_owned().into() } else { (**text).into() };
                    table.texts.insert(text);
                }
                Op::Constant(Constant::Int(n)) => {
                    table.ints.insert(*n);
                }
                _ => return None,
            }
        }
        let id = number(self.tables.len());
        self.tables.push(table);
        self.table_ids.insert((set, folded), id);
        Some(id)
    }

    pub(super) fn networks(&mut self, networks: Vec<Network>) -> u32 {
        let mut ranges: Vec<(u128, u128)> = networks.iter().map(Network::range).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1 => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        self.networks.push(Ranges(merged));
        number(self.networks.len() - 1)
    }

    /// Ends building: gates, slots for what is asked more than once, one scanner for all literals. `roots`: those whose
    /// value is wanted in any case, or only when it is true; `absent`: what is never there. Gives for each root the gates
    /// without which it cannot be true.
    pub(super) fn finish(&mut self, roots: &[(NodeId, bool)], absent: Needs) -> Vec<Option<u32>> {
        let mut finder = Finder::new(self, absent);
        roots.iter().filter(|(_, only_true)| *only_true).for_each(|(root, _)| finder.visit(*root));
        let to_match = |(root, only_true): &(NodeId, bool)| only_true.then(|| finder.set_to_match(*root)).flatten();
        let to_match = roots.iter().map(to_match).collect();
        self.gates = finder.finish();
        let mut uses = vec![0_u32; self.nodes.len()];
        for node in &self.nodes {
            node.op.operands(|operand| uses[operand.0 as usize] += 1);
        }
        roots.iter().for_each(|(root, _)| uses[root.0 as usize] += 1);
        self.gates.nodes().for_each(|node| uses[node.0 as usize] += 1);
        let mut slots = 0;
        for (node, uses) in self.nodes.iter_mut().zip(uses) {
            let trivial = matches!(node.op, Op::Constant(_) | Op::Root(_) | Op::List(_) | Op::Missing(_));
            node.slot = (node.open == 0 && uses > 1 && !trivial).then(|| {
                slots += 1;
                slots - 1
            });
        }
        self.slots = slots;
        self.ids = HashMap::new();
        let mut texts: Vec<(&str, u32)> = self.literals.iter().map(|(text, id)| (&**text, *id)).collect();
        texts.sort_unstable_by_key(|(_, id)| *id);
        self.scanner = Scanner::new(&texts.into_iter().map(|(text, _)| text).collect::<Vec<_>>());
        to_match
    }
}

/// Steps of the operation alone.
fn own_cost(op: &Op) -> u32 {
    match op {
        Op::Constant(_) | Op::Root(_) | Op::Element(_) | Op::List(_) | Op::Missing(_) | Op::Vips => 0,
        Op::Text { needles, .. } => 4 + number(needles.len()),
        Op::TextOf { needles, .. } => 20 * number(needles.len()),
        Op::Pattern { patterns, .. } => 10 + 8 * number(patterns.len()),
        Op::PatternCount { .. } | Op::PatternExtract { .. } => 100,
        Op::XPath { .. } => 1_000,
        Op::Field(_, class, place) => {
            let class = &schema().classes[class.0];
            match (class.name, class.fields[usize::from(*place)].name) {
                ("Body", "current_thread" | "previous_threads") => 60,
                ("Body", _) | ("Headers", "hops") => 30,
                ("Attachment", "md5" | "sha1" | "sha256") => 100,
                ("Scan", name) => match missing_field(class, name) {
                    Some(_) => 5_000,
                    None => 200,
                },
                _ => 1,
            }
        }
        Op::Call { function, .. } if *function < FIRST_BUILT_IN => signature::at(*function).cost,
        Op::HistoryList(_) => 50,
        _ => 1,
    }
}

/// What a node can still become when some capabilities are not there, for the statistics of `rules check`.
impl Graph {
    /// Whether the rule can turn out true although these are missing.
    pub(super) fn can_be_true(&self, root: NodeId, missing: Needs) -> bool {
        let mut known = HashMap::new();
        self.outcomes(root, missing, &mut known) & TRUE != 0
    }

    /// The same; `known`: outcomes found before.
    pub(super) fn may_be_true(&self, id: NodeId, missing: Needs, known: &mut HashMap<NodeId, u8>) -> bool {
        self.outcomes(id, missing, known) & TRUE != 0
    }

    fn outcomes(&self, id: NodeId, missing: Needs, known: &mut HashMap<NodeId, u8>) -> u8 {
        if let Some(set) = known.get(&id) {
            return *set;
        }
        let mut of = |id: NodeId| self.outcomes(id, missing, known);
        let set = match &self.node(id).op {
            Op::Constant(Constant::Bool(true)) => TRUE,
            Op::Constant(Constant::Bool(false)) => FALSE,
            Op::Missing(capability) if missing.has(*capability) => MISSING,
            Op::HistoryList(_) if missing.has(Capability::History) => MISSING,
            Op::And(all) => all.iter().fold(TRUE, |set, one| and(set, of(*one))),
            Op::Or(all) => flip(all.iter().fold(TRUE, |set, one| and(set, flip(of(*one))))),
            Op::Not(one) => flip(of(*one)),
            Op::AtLeast(needed, all) => {
                let sets: Vec<u8> = all.iter().map(|one| of(*one)).collect();
                let possible = sets.iter().filter(|set| *set & TRUE != 0).count();
                let lost = sets.iter().fold(0, |lost, set| lost | set & MISSING);
                FALSE | lost | if possible >= usize::from(*needed) { TRUE } else { 0 }
            }
            Op::Call { function, .. }
                if *function < FIRST_BUILT_IN
                    && signature::at(*function).needs.is_some_and(|capability| missing.has(capability)) =>
            {
                MISSING
            }
            Op::Field(base, class, place) => {
                let class = &schema().classes[class.0];
                let gone = missing_field(class, class.fields[usize::from(*place)].name)
                    .is_some_and(|capability| missing.has(capability));
                if gone { MISSING } else { pass(of(*base)) }
            }
            op => {
                let mut lost = 0;
                let lambda = matches!(op, Op::Each(..));
                let mut body_lost = 0;
                let mut at = 0;
                op.operands(|operand| {
                    let set = of(operand);
                    if lambda && at == 1 {
                        body_lost = set;
                    } else if set & ANY == 0 {
                        lost = MISSING;
                    }
                    at += 1;
                });
                if lost != 0 {
                    MISSING
                } else if lambda && at == 2 && body_lost & ANY == 0 {
                    FALSE | MISSING
                } else if lambda
                    && at == 2
                    && body_lost & TRUE == 0
                    && matches!(op, Op::Each(super::node::Each::Any, ..))
                {
                    FALSE | (body_lost & MISSING)
                } else {
                    ANY
                }
            }
        };
        known.insert(id, set);
        set
    }
}

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const MISSING: u8 = 4;
const ANY: u8 = TRUE | FALSE;

fn pass(set: u8) -> u8 {
    if set & ANY == 0 { MISSING } else { ANY }
}

fn flip(set: u8) -> u8 {
    set & MISSING | (set & TRUE) << 1 | (set & FALSE) >> 1
}

fn and(a: u8, b: u8) -> u8 {
    a & b & TRUE | (a | b) & FALSE | (a | b) & MISSING
}
