//! Runs nodes over one message. Every node of the whole message is computed at most once; texts are searched for the
//! literals of all rules in one pass each.
//!
//! Over 500 lines: the operations of the language stand together, as one match and its arms.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::ast::{Arithmetic, Compare};
use super::engine::Budget;
use super::functions::{self, Ask};
use super::gate::Open;
use super::graph::Graph;
use super::hits::{ByText, Hits, Passes, key as key_of};
use super::model::{FileBytes, Root, class, scan};
use super::needs::{Capability, Needs};
use super::node::{Constant, Each, NodeId, Op, TextTest};
use super::operate::{arithmetic, compare, excerpt, holds, key, lost, shown};
use super::schema::{ClassId, schema};
use super::truth::Truth;
use super::value::{Store, Value};
use crate::content::{File, Means};
use crate::mail::{Dom, spells_by_number};
use crate::policy::fold;

/// One evaluation: a message, all rules.
pub(super) struct Run<'m> {
    pub(super) graph: &'m Graph,
    pub(super) store: &'m Store,
    pub(super) root: &'m Root<'m>,
    message: Value<'m>,
    memo: &'m [Cell<Option<Value<'m>>>],
    /// As `memo`, of what was asked only whether it is true.
    decided: &'m [Cell<Option<Value<'m>>>],
    open: RefCell<Open>,
    /// What nobody answered.
    asks: RefCell<Vec<Ask>>,
    passes: Passes<'m>,
    scopes: RefCell<Vec<Value<'m>>>,
    steps: Cell<u64>,
    /// Steps at which to stop.
    until: Cell<u64>,
    pub(super) budget: Budget,
    /// Memo and literal pass can be left out, to compare.
    naive: bool,
    sights: RefCell<Option<Vec<String>>>,
    trees: RefCell<ByText<&'m Dom>>,
    /// Pages that may spell attribute values by number.
    spelled: RefCell<ByText<bool>>,
    files: RefCell<ByText<&'m Vec<File>>>,
    /// What may still be spent on all of them.
    means: Arc<Means>,
    out_of_time: &'m dyn Fn() -> bool,
    /// What may take long to look at: a file that was opened.
    slow: ClassId,
}

impl<'m> Run<'m> {
    pub(super) fn new(
        graph: &'m Graph,
        store: &'m Store,
        root: &'m Root<'m>,
        budget: Budget,
        naive: bool,
        out_of_time: &'m dyn Fn() -> bool,
    ) -> Self {
        Self {
            graph,
            store,
            root,
            message: root.message(store),
            memo: store.cells(graph.slots as usize),
            decided: store.cells(graph.slots as usize),
            open: RefCell::default(),
            asks: RefCell::default(),
            passes: Passes::default(),
            scopes: RefCell::default(),
            steps: Cell::new(0),
            until: Cell::new(0),
            budget,
            naive,
            sights: RefCell::default(),
            trees: RefCell::default(),
            spelled: RefCell::default(),
            files: RefCell::default(),
            means: root.view.site.means(root.view.message, root.view.content),
            out_of_time,
            slow: class("ScanRecord"),
        }
    }

    /// Whether there is no time to look at one more file.
    fn too_late_for(&self, item: Value<'m>) -> bool {
        matches!(item, Value::Object(object) if object.class == self.slow) && (self.out_of_time)()
    }

    /// Steps taken so far.
    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// Evaluates a root within so many more steps.
    pub(super) fn evaluate(&self, root: NodeId, max_steps: u64) -> Value<'m> {
        self.allow(max_steps);
        self.eval(root)
    }

    /// Evaluates a root of which only matters whether it is true: false may stand for null.
    pub(super) fn decide(&self, root: NodeId, max_steps: u64) -> Value<'m> {
        self.allow(max_steps);
        if self.naive { self.eval(root) } else { self.is_true(root) }
    }

    /// Asks once which expressions can be true at all.
    pub(super) fn ask_gates(&self) -> Open {
        let open = self.graph.gates.ask(self);
        self.open.replace(open.clone());
        open
    }

    /// Whether an expression can be true.
    pub(super) fn lets(&self, id: NodeId) -> bool {
        self.graph.node(id).gates.is_none_or(|set| self.graph.gates.lets(&self.open.borrow(), set))
    }

    fn is_true(&self, id: NodeId) -> Value<'m> {
        if !self.lets(id) {
            return Value::bool(false);
        }
        let node = self.graph.node(id);
        let cell = |memo: &'m [Cell<_>]| node.slot.and_then(|slot| memo.get(slot as usize));
        if let Some(value) = cell(self.memo).and_then(Cell::get).or_else(|| cell(self.decided).and_then(Cell::get)) {
            return value;
        }
        let value = match &node.op {
            Op::And(clauses) => self.and(clauses, Self::is_true),
            Op::Or(clauses) => self.or(clauses, Self::is_true),
            Op::AtLeast(needed, clauses) => self.at_least(usize::from(*needed), clauses, Self::is_true),
            _ => return self.eval(id),
        };
        if let Some(cell) = cell(self.decided).filter(|_| !cut_short(value)) {
            cell.set(Some(value));
        }
        value
    }

    /// So many steps from here on, outside all lambdas.
    pub(super) fn allow(&self, steps: u64) {
        self.until.set(self.steps.get().saturating_add(steps));
        self.scopes.borrow_mut().clear();
    }

    /// Does something inside a lambda over that element.
    pub(super) fn within<T>(&self, element: Value<'m>, work: impl FnOnce() -> T) -> T {
        self.scopes.borrow_mut().push(element);
        let done = work();
        self.scopes.borrow_mut().pop();
        done
    }

    /// Evaluates and tells what the tests that came out true saw.
    pub(super) fn watch(&self, node: NodeId, max_steps: u64) -> (Value<'m>, Vec<String>) {
        *self.sights.borrow_mut() = Some(Vec::new());
        let value = self.evaluate(node, max_steps);
        (value, self.sights.borrow_mut().take().unwrap_or_default())
    }

    /// Notes a question that nobody answered.
    pub(super) fn asks(&self, ask: impl FnOnce() -> Ask) {
        let mut asks = self.asks.borrow_mut();
        if asks.len() < self.budget.max_asks {
            let ask = ask();
            if !asks.iter().any(|known| (known.function, &known.key) == (ask.function, &ask.key)) {
                asks.push(ask);
            }
        }
    }

    /// All questions so far.
    pub(super) fn into_asks(self) -> Vec<Ask> {
        self.asks.into_inner()
    }

    /// Counts work; false when the budget is used up.
    pub(super) fn spend(&self, steps: usize) -> bool {
        self.steps.set(self.steps.get().saturating_add(steps as u64));
        self.steps.get() <= self.until.get() && self.store.size_bytes() <= self.budget.max_value_bytes
    }

    /// The tree of a page, built once.
    pub(super) fn tree(&self, raw: &'m str, build: impl FnOnce() -> Dom) -> &'m Dom {
        let key = key_of(raw);
        if let Some(tree) = self.trees.borrow().get(&key) {
            return tree;
        }
        let tree = self.store.keep(build());
        self.trees.borrow_mut().insert(key, tree);
        tree
    }

    /// Whether the source of a page lacks one of the literals that a query wants in it.
    pub(super) fn lacks(&self, source: &'m str, required: &[u32]) -> bool {
        if self.naive || required.is_empty() {
            return false;
        }
        let hits = self.hits(source);
        let spells = || *self.spelled.borrow_mut().entry(key_of(source)).or_insert_with(|| spells_by_number(source));
        required.iter().any(|literal| !hits.has(*literal)) && !spells()
    }

    /// A file and what is in it, opened once.
    pub(super) fn files(&self, file: &'m FileBytes) -> Option<(&'m File, &'m [File])> {
        let key = (std::ptr::from_ref(file) as usize, 0);
        let known = self.files.borrow().get(&key).copied();
        let files = known.unwrap_or_else(|| {
            let files = scan::explode(file, self.root.view.content, &self.means, self.out_of_time);
            let files = self.store.keep(files);
            self.files.borrow_mut().insert(key, files);
            files
        });
        files.first().map(|first| (first, files.as_slice()))
    }

    fn sees(&self, text: impl FnOnce() -> String) {
        if let Some(sights) = self.sights.borrow_mut().as_mut() {
            let text = text();
            if sights.len() < 12 && !sights.contains(&text) {
                sights.push(text);
            }
        }
    }

    pub(super) fn eval(&self, id: NodeId) -> Value<'m> {
        let node = self.graph.node(id);
        let watched = self.naive || self.sights.borrow().is_some();
        let slot = node.slot.filter(|_| !watched).and_then(|slot| self.memo.get(slot as usize));
        if let Some(value) = slot.and_then(Cell::get) {
            return value;
        }
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > self.until.get() {
            return Value::Unavailable(Needs::of(Capability::Budget));
        }
        let value = self.compute(&node.op);
        if let Some(slot) = slot
            && !cut_short(value)
        {
            slot.set(Some(value));
        }
        value
    }

    fn compute(&self, op: &'m Op) -> Value<'m> {
        match op {
            Op::Constant(constant) => match constant {
                Constant::Null => Value::Null,
                Constant::Bool(is) => Value::bool(*is),
                Constant::Int(n) => Value::Int(*n),
                Constant::Float(bits) => Value::Float(f64::from_bits(*bits)),
                Constant::Text(text) => Value::Text(text),
            },
            Op::Root(place) => match self.message {
                Value::Object(message) => message.get(usize::from(*place), self.store),
                other => other,
            },
            Op::Element(up) => {
                let scopes = self.scopes.borrow();
                scopes.len().checked_sub(usize::from(*up) + 1).map_or(Value::Null, |at| scopes[at])
            }
            Op::Field(base, class, place) => match self.eval(*base) {
                Value::Object(object) if object.class == *class => object.get(usize::from(*place), self.store),
                Value::Object(object) => {
                    object.named(schema().classes[class.0].fields[usize::from(*place)].name, self.store)
                }
                Value::Map(_) | Value::Array(_) | Value::List(_) => Value::Null,
                other => lost(other),
            },
            Op::Key(base, name) => key(self.eval(*base), name),
            Op::Index(base, index) => self.index(self.eval(*base), self.eval(*index)),
            Op::Slice(base, from, to) => self.slice(*base, *from, *to),
            Op::List(list) => self.graph.lists.get(*list as usize).map_or(Value::Null, |list| Value::List(list)),
            Op::Vips => self.root.vips(self.store),
            Op::HistoryList(_) => Value::Unavailable(Needs::of(Capability::History)),
            Op::Missing(capability) => Value::Unavailable(Needs::of(*capability)),
            Op::And(clauses) => self.and(clauses, Self::eval),
            Op::Or(clauses) => self.or(clauses, Self::eval),
            Op::Not(inner) => {
                let (truth, needs) = self.eval(*inner).truth();
                Value::Truth(truth.not(), needs)
            }
            Op::AtLeast(needed, clauses) => self.at_least(usize::from(*needed), clauses, Self::eval),
            Op::Compare(operator, a, b) => self.compare(*operator, self.eval(*a), self.eval(*b)),
            Op::In { item, set, folded } => self.among(*item, *set, *folded),
            Op::InTable { item, table, folded } => self.in_table(self.eval(*item), *table, *folded),
            Op::IsNull(inner) => match self.eval(*inner) {
                Value::Unavailable(needs) => Value::Unavailable(needs),
                Value::Truth(truth, needs) if !truth.is_settled() => Value::Unavailable(needs),
                value => Value::bool(value.is_null()),
            },
            Op::Arithmetic(operator, a, b) => arithmetic(*operator, self.eval(*a), self.eval(*b)),
            Op::Negate(inner) => match self.eval(*inner) {
                Value::Int(n) => Value::Int(n.wrapping_neg()),
                Value::Float(n) => Value::Float(-n),
                other => lost(other),
            },
            Op::Array(items) => self.store.array(items.iter().map(|item| self.eval(*item))),
            Op::Each(Each::Any, list, body) if matches!(self.graph.node(*list).op, Op::HistoryList(_)) => {
                self.any_remembered(*list, *body)
            }
            Op::Each(each, list, body) => self.each(*each, self.eval(*list), *body),
            Op::Text { test, folded, subject, needles } => self.text(*test, *folded, *subject, needles),
            Op::TextOf { test, folded, subject, needles } => self.text_of(*test, *folded, *subject, needles),
            Op::Pattern { subject, patterns } => self.pattern(*subject, patterns),
            Op::PatternCount { subject, pattern } => self.pattern_count(*subject, *pattern),
            Op::PatternExtract { subject, patterns } => self.pattern_extract(*subject, patterns),
            Op::Networks { ip, table } => match self.eval(*ip) {
                Value::Text(text) => match text.parse() {
                    Ok(ip) => Value::bool(self.graph.networks.get(*table as usize).is_some_and(|t| t.has(ip))),
                    Err(_) => Value::Null,
                },
                other => lost(other),
            },
            Op::XPath { html, query } => {
                let html = self.eval(*html);
                match self.graph.queries.get(*query as usize) {
                    Some(query) => functions::xpath(self, html, query),
                    None => Value::Null,
                }
            }
            Op::Coalesce(all) => self.coalesce(all),
            Op::Call { function, args } => functions::call(self, *function, args),
        }
    }

    fn and(&self, clauses: &[NodeId], eval: fn(&Self, NodeId) -> Value<'m>) -> Value<'m> {
        let (mut truth, mut needs) = (Truth::TRUE, Needs::NONE);
        for clause in clauses {
            let (one, more) = eval(self, *clause).truth();
            if one.is_false() {
                return Value::bool(false);
            }
            truth = truth.and(one);
            needs = needs.and(more);
        }
        Value::Truth(truth, needs)
    }

    fn or(&self, clauses: &[NodeId], eval: fn(&Self, NodeId) -> Value<'m>) -> Value<'m> {
        let (mut truth, mut needs) = (Truth::FALSE, Needs::NONE);
        for clause in clauses {
            let (one, more) = eval(self, *clause).truth();
            if one.is_true() {
                return Value::bool(true);
            }
            truth = truth.or(one);
            needs = needs.and(more);
        }
        Value::Truth(truth, needs)
    }

    fn at_least(&self, needed: usize, clauses: &[NodeId], eval: fn(&Self, NodeId) -> Value<'m>) -> Value<'m> {
        let mut seen = Vec::with_capacity(clauses.len());
        let (mut trues, mut needs) = (0, Needs::NONE);
        for clause in clauses {
            let (one, more) = eval(self, *clause).truth();
            trues += usize::from(one.is_true());
            if trues >= needed {
                return Value::bool(true);
            }
            needs = needs.and(more);
            seen.push(one);
        }
        Value::Truth(Truth::at_least(needed, seen.into_iter()), needs)
    }

    fn compare(&self, operator: Compare, a: Value<'m>, b: Value<'m>) -> Value<'m> {
        let result = compare(operator, a, b);
        if result.truth().0.is_true() {
            self.sees(|| shown(a));
        }
        result
    }

    fn among(&self, item: NodeId, set: NodeId, folded: bool) -> Value<'m> {
        let item = self.eval(item);
        // Membership in what history keeps is asked, not gone through.
        if let Op::HistoryList(list) = self.graph.node(set).op {
            return match item {
                Value::Text(text) => self.root.remembered(list, text),
                other => lost(other),
            };
        }
        let set = self.eval(set);
        if let Some(needs) = item.unavailable().or(set.unavailable()) {
            return Value::Unavailable(needs);
        }
        if item.is_null() {
            return Value::Null;
        }
        let operator = if folded { Compare::Like } else { Compare::Equal };
        let mut doubt = Needs::NONE;
        let is = match set {
            Value::List(list) => match item {
                Value::Text(text) if folded => list.contains_folded(text),
                Value::Text(text) => list.contains(text),
                _ => false,
            },
            Value::Array(items) => items.iter().any(|one| {
                let (truth, needs) = compare(operator, item, *one).truth();
                doubt = doubt.and(needs);
                truth.is_true()
            }),
            Value::Null => return Value::Null,
            one => compare(operator, item, one).truth().0.is_true(),
        };
        if is {
            self.sees(|| shown(item));
        } else if !doubt.is_none() {
            return Value::Unavailable(doubt);
        }
        Value::bool(is)
    }

    fn in_table(&self, item: Value<'m>, table: u32, folded: bool) -> Value<'m> {
        let Some(table) = self.graph.tables.get(table as usize) else { return Value::Null };
        let is = match item {
            Value::Text(text) if folded => table.texts.contains(&*fold::folded(text)),
            Value::Text(text) => table.texts.contains(text),
            Value::Int(n) => table.ints.contains(&n),
            Value::Float(n) => table.ints.iter().any(|one| *one as f64 == n),
            other => return lost(other),
        };
        if is {
            self.sees(|| shown(item));
        }
        Value::bool(is)
    }

    fn coalesce(&self, all: &[NodeId]) -> Value<'m> {
        let mut carried: Option<(Truth, Needs)> = None;
        for one in all {
            let value = self.eval(*one);
            if value.is_null() {
                continue;
            }
            // A truth that may be null is settled by what comes next.
            match (value, carried) {
                (Value::Truth(..), Some((truth, needs))) => {
                    let (next, more) = value.truth();
                    carried = Some((truth.or_else(next), needs.and(more)));
                }
                (Value::Truth(truth, needs), None) if !truth.is_settled() => carried = Some((truth, needs)),
                (_, Some((_, needs))) => return Value::Unavailable(needs),
                (value, None) => return value,
            }
        }
        carried.map_or(Value::Null, |(truth, needs)| Value::Truth(truth, needs))
    }

    fn index(&self, base: Value<'m>, index: Value<'m>) -> Value<'m> {
        if let Some(needs) = base.unavailable().or(index.unavailable()) {
            return Value::Unavailable(needs);
        }
        match (base, index) {
            (Value::Array(items), Value::Int(n)) => {
                usize::try_from(n).ok().and_then(|n| items.get(n).copied()).unwrap_or(Value::Null)
            }
            (Value::Text(text), Value::Int(n)) => {
                let at = usize::try_from(n).ok().and_then(|n| text.char_indices().nth(n));
                at.map_or(Value::Null, |(from, c)| Value::Text(&text[from..from + c.len_utf8()]))
            }
            (Value::List(list), Value::Int(n)) => {
                let entry = usize::try_from(n).ok().and_then(|n| list.iter().nth(n));
                entry.map_or(Value::Null, |entry| Value::Text(self.store.text(entry)))
            }
            (base, Value::Text(name)) => key(base, name),
            _ => Value::Null,
        }
    }

    fn slice(&self, base: NodeId, from: Option<NodeId>, to: Option<NodeId>) -> Value<'m> {
        let base = self.eval(base);
        let mut bounds = [0, usize::MAX];
        for (place, bound) in [from, to].into_iter().enumerate() {
            match bound.map(|bound| self.eval(bound)) {
                None => {}
                Some(Value::Int(n)) => bounds[place] = usize::try_from(n).unwrap_or(0),
                Some(other) => return lost(other),
            }
        }
        let [from, to] = bounds;
        match base {
            Value::Array(items) => {
                let to = to.min(items.len());
                Value::Array(&items[from.min(to)..to])
            }
            Value::Text(text) => {
                let place = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
                let (start, end) = (place(from), place(to));
                Value::Text(&text[start.min(end)..end])
            }
            other => lost(other),
        }
    }

    fn each(&self, each: Each, list: Value<'m>, body: Option<NodeId>) -> Value<'m> {
        let items: &mut dyn Iterator<Item = Value<'m>> = match list {
            Value::Array(items) => &mut items.iter().copied(),
            Value::List(list) => &mut list.iter().map(Value::Text),
            Value::Null => return of_null(each),
            other => return other.unavailable().map_or_else(|| of_null(each), Value::Unavailable),
        };
        let mut run = |item: Value<'m>| match body {
            None => item,
            Some(_) if self.too_late_for(item) => Value::Unavailable(Needs::of(Capability::Budget)),
            Some(body) => self.within(item, || self.eval(body)),
        };
        match each {
            Each::Any | Each::All => {
                // `all` is `not any not`; a null predicate neither makes `any` true nor `all` false.
                let wanted = each == Each::Any;
                let (mut doubt, mut doubtful) = (Needs::NONE, false);
                for item in items {
                    let (truth, needs) = run(item).truth();
                    let decides = if wanted { truth.is_true() } else { truth.is_false() };
                    if decides {
                        return Value::bool(wanted);
                    }
                    let may = if wanted { truth.may_be_true() } else { truth.not().may_be_true() };
                    if may && !truth.is_settled() {
                        doubtful = true;
                        doubt = doubt.and(needs);
                    }
                }
                match (doubtful, wanted) {
                    (false, _) => Value::bool(!wanted),
                    (true, _) => Value::Truth(Truth::TRUE_OR_FALSE, doubt),
                }
            }
            Each::Filter => {
                let mut kept = Vec::new();
                for item in items {
                    let (truth, needs) = run(item).truth();
                    if !truth.is_settled() && truth.may_be_true() {
                        return Value::Unavailable(needs);
                    }
                    if truth.is_true() {
                        kept.push(item);
                    }
                }
                self.store.array(kept)
            }
            Each::Map => {
                let mut values = Vec::new();
                for item in items {
                    let value = run(item);
                    if !self.spend(1) {
                        return Value::Unavailable(Needs::of(Capability::Budget));
                    }
                    values.push(value);
                }
                self.store.array(values)
            }
            Each::Distinct => functions::distinct(self, items, &mut run),
            Each::Ratio => {
                let (mut trues, mut count) = (0_u32, 0_u32);
                for item in items {
                    let value = run(item);
                    if let Some(needs) = value.unavailable() {
                        return Value::Unavailable(needs);
                    }
                    trues += u32::from(value.truth().0.is_true());
                    count += 1;
                }
                if count == 0 { Value::Null } else { Value::Float(f64::from(trues) / f64::from(count)) }
            }
            Each::Sum => {
                let mut total = Value::Int(0);
                for item in items {
                    let value = run(item);
                    if let Some(needs) = value.unavailable() {
                        return Value::Unavailable(needs);
                    }
                    if !value.is_null() {
                        total = arithmetic(Arithmetic::Add, total, value);
                    }
                }
                total
            }
        }
    }

    /// A list of history is known only as far as it was asked for the addresses of the message: what is among them is
    /// sure, what is not may still be on the list.
    fn any_remembered(&self, list: NodeId, body: Option<NodeId>) -> Value<'m> {
        let Op::HistoryList(list) = self.graph.node(list).op else { return Value::Null };
        let unknown = Value::Unavailable(Needs::of(Capability::History));
        let Some(known) = self.root.remembered_names(list) else { return unknown };
        let is = self.each(Each::Any, self.store.texts(known), body);
        if is.truth().0.is_true() { is } else { unknown }
    }

    /// The literal pass over a text, once.
    pub(super) fn hits(&self, text: &'m str) -> Hits<'m> {
        let (hits, first) = self.passes.of(text, &self.graph.scanner, self.store);
        if first {
            self.spend(text.len() / 64);
        }
        hits
    }

    fn text(&self, test: TextTest, folded: bool, subject: NodeId, needles: &[u32]) -> Value<'m> {
        let text = match self.eval(subject) {
            Value::Text(text) => text,
            other => return lost(other),
        };
        let hits = (!self.naive).then(|| self.hits(text));
        let found = needles.iter().filter_map(|needle| self.graph.needles.get(*needle as usize)).find(|needle| {
            if let (Some(hits), Some(literal)) = (hits, needle.literal) {
                if !hits.has(literal) {
                    return false;
                }
                if needle.is_answer {
                    return true;
                }
            }
            let own;
            let haystack = match (folded, hits) {
                (false, _) => text,
                (true, Some(hits)) => hits.folded,
                (true, None) => {
                    own = fold::folded(text);
                    &own
                }
            };
            holds(test, haystack, &needle.text)
        });
        if let Some(needle) = found {
            self.sees(|| excerpt(text, &needle.text));
        }
        Value::bool(found.is_some())
    }

    fn text_of(&self, test: TextTest, folded: bool, subject: NodeId, needles: &[NodeId]) -> Value<'m> {
        let text = match self.eval(subject) {
            Value::Text(text) => text,
            other => return lost(other),
        };
        let haystack = match folded {
            true if self.naive => fold::folded(text),
            true => self.hits(text).folded.into(),
            false => text.into(),
        };
        let (mut any, mut doubt) = (false, None);
        for needle in needles {
            match self.eval(*needle) {
                Value::Text(needle) => {
                    any = true;
                    self.spend(haystack.len() / 256);
                    let needle = if folded { fold::folded(needle) } else { needle.into() };
                    if holds(test, &haystack, &needle) {
                        self.sees(|| excerpt(text, &needle));
                        return Value::bool(true);
                    }
                }
                other => doubt = doubt.or(other.unavailable()),
            }
        }
        match doubt {
            Some(needs) => Value::Unavailable(needs),
            None if any => Value::bool(false),
            None => Value::Null,
        }
    }

    fn pattern(&self, subject: NodeId, patterns: &[u32]) -> Value<'m> {
        let text = match self.eval(subject) {
            Value::Text(text) => text,
            other => return lost(other),
        };
        let mut too_large = false;
        for searched in patterns.iter().filter_map(|pattern| self.graph.patterns.get(*pattern as usize)) {
            if !self.naive && !searched.literals.is_empty() {
                let hits = self.hits(text);
                if !searched.literals.iter().any(|literal| hits.has(*literal)) {
                    continue;
                }
            }
            if !self.spend(10 + text.len() / 32) {
                return Value::Unavailable(Needs::of(Capability::Budget));
            }
            match searched.pattern.regex() {
                None => too_large = true,
                Some(regex) if self.sights.borrow().is_some() => {
                    if let Some(found) = regex.find(text) {
                        self.sees(|| found.as_str().chars().take(120).collect());
                        return Value::bool(true);
                    }
                }
                Some(regex) if regex.is_match(text) => return Value::bool(true),
                Some(_) => {}
            }
        }
        if too_large { Value::Unavailable(Needs::of(Capability::Budget)) } else { Value::bool(false) }
    }

    fn pattern_count(&self, subject: NodeId, pattern: u32) -> Value<'m> {
        let text = match self.eval(subject) {
            Value::Text(text) => text,
            other => return lost(other),
        };
        let Some(searched) = self.graph.patterns.get(pattern as usize) else { return Value::Null };
        if !self.naive && !searched.literals.is_empty() {
            let hits = self.hits(text);
            if !searched.literals.iter().any(|literal| hits.has(*literal)) {
                return Value::Int(0);
            }
        }
        match searched.pattern.regex() {
            Some(regex) if self.spend(10 + text.len() / 16) => {
                Value::Int(i64::try_from(regex.find_iter(text).count()).unwrap_or(i64::MAX))
            }
            _ => Value::Unavailable(Needs::of(Capability::Budget)),
        }
    }

    fn pattern_extract(&self, subject: NodeId, patterns: &[u32]) -> Value<'m> {
        let text = match self.eval(subject) {
            Value::Text(text) => text,
            other => return lost(other),
        };
        let mut found = Vec::new();
        for searched in patterns.iter().filter_map(|pattern| self.graph.patterns.get(*pattern as usize)) {
            if !self.naive && !searched.literals.is_empty() {
                let hits = self.hits(text);
                if !searched.literals.iter().any(|literal| hits.has(*literal)) {
                    continue;
                }
            }
            match searched.pattern.regex() {
                Some(regex) if self.spend(10 + text.len() / 16) => functions::extract(self, regex, text, &mut found),
                _ => return Value::Unavailable(Needs::of(Capability::Budget)),
            }
        }
        self.store.array(found)
    }
}

/// What only the budget of one rule cut short may come out for the next.
fn cut_short(value: Value<'_>) -> bool {
    value.unavailable().is_some_and(|needs| needs.has(Capability::Budget))
}

fn of_null<'m>(each: Each) -> Value<'m> {
    match each {
        Each::Any | Each::Map | Each::Ratio => Value::Null,
        Each::All => Value::bool(true),
        Each::Filter | Each::Distinct => Value::Array(&[]),
        Each::Sum => Value::Int(0),
    }
}
