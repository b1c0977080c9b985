//! Functions over values. A required argument that is null gives null, one that is unavailable gives unavailable.

mod files;
mod services;
mod texts;

use std::collections::HashSet;

use regex::Regex;

use super::ast::Compare;
use super::compile::{LENGTH, MAP_LENGTH, MAX, MIN};
use super::evaluate::Run;
use super::model::class;
use super::needs::{Capability, Needs};
use super::node::NodeId;
use super::operate::{compare, lost};
use super::signature;
use super::value::{Source, Store, Value};
use crate::analysis::Facts;

pub(super) use files::xpath;
pub use services::{About, Ask};

/// Calls a function of the table.
pub(super) fn call<'m>(run: &Run<'m>, function: u16, args: &'m [NodeId]) -> Value<'m> {
    match function {
        LENGTH | MAP_LENGTH => return length(run.eval(args[0]), function == MAP_LENGTH),
        MIN | MAX => return extreme(run, function == MIN, args),
        _ => {}
    }
    let signature = signature::at(function);
    let mut values = [Value::Null; 6];
    if signature.many {
        return texts::concat(run, args);
    }
    let service = signature.needs.filter(|capability| *capability != Capability::Files);
    for (place, arg) in args.iter().take(values.len()).enumerate() {
        values[place] = run.eval(*arg);
        if let Some(needs) = values[place].unavailable() {
            return Value::Unavailable(service.map_or(needs, |capability| needs.and(Needs::of(capability))));
        }
        if service.is_some() {
            values[place] = services::plain(values[place], run.store);
        }
    }
    if signature.least > 0 && values[0].is_null() && !matches!(signature.name, "flatten" | "keys" | "values") {
        return Value::Null;
    }
    if !run.spend(signature.cost as usize / 4) {
        return Value::Unavailable(Needs::of(Capability::Budget));
    }
    match (service, signature.name) {
        (Some(Capability::History), name) => return services::profile(run, name),
        (Some(capability), _) => return services::call(run, signature, capability, &values),
        _ => {}
    }
    match signature.name {
        "mailweir.unanswered" => unanswered(run, values[0]),
        "flatten" => flatten(run, values[0]),
        "keys" => match values[0] {
            Value::Map(entries) => run.store.array(entries.iter().map(|(key, _)| Value::Text(key))),
            _ => Value::Null,
        },
        "values" => match values[0] {
            Value::Map(entries) => run.store.array(entries.iter().map(|(_, value)| *value)),
            _ => Value::Null,
        },
        name if name.starts_with("file.") || name.starts_with("beta.") && !name.contains("base64") => {
            files::call(run, name, &values)
        }
        name => texts::call(run, name, &values),
    }
}

/// Whether something should have been asked and gave no answer, by the name of its fact as in a record's `degraded`; null for
/// what is no fact. What is switched off is not missed.
fn unanswered<'m>(run: &Run<'m>, name: Value<'m>) -> Value<'m> {
    let Value::Text(name) = name else { return lost(name) };
    let facts = run.root.view.facts;
    if !Facts::NAMES.contains(&name) {
        return Value::Null;
    }
    Value::bool(facts.unknowns().iter().any(|(what, why)| *what == name && why.is_failure()))
}

fn length<'m>(value: Value<'m>, map: bool) -> Value<'m> {
    let count = match value {
        Value::Text(text) if text.is_ascii() => text.len(),
        Value::Text(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::List(list) => list.len(),
        Value::Map(entries) => entries.len(),
        Value::Null if map => 0,
        other => return lost(other),
    };
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

fn extreme<'m>(run: &Run<'m>, least: bool, args: &[NodeId]) -> Value<'m> {
    let mut best = Value::Null;
    let mut take = |value: Value<'m>| {
        let operator = if least { Compare::Less } else { Compare::Greater };
        if best.is_null() || compare(operator, value, best).truth().0.is_true() {
            best = value;
        }
    };
    for arg in args {
        let value = run.eval(*arg);
        if let Some(needs) = value.unavailable() {
            return Value::Unavailable(needs);
        }
        match value {
            Value::Array(items) => items.iter().copied().filter(|item| !item.is_null()).for_each(&mut take),
            value if value.is_null() => {}
            value => take(value),
        }
    }
    best
}

fn flatten<'m>(run: &Run<'m>, list: Value<'m>) -> Value<'m> {
    let Value::Array(items) = list else { return Value::Array(&[]) };
    let mut all = Vec::new();
    for item in items {
        match item {
            Value::Array(inner) => all.extend_from_slice(inner),
            other if other.unavailable().is_some() => return lost(*other),
            other if other.is_null() => {}
            other => all.push(*other),
        }
    }
    run.store.array(all)
}

#[derive(PartialEq, Eq, Hash)]
enum Key<'m> {
    Null,
    Bool(bool),
    Int(i64),
    Float(u64),
    Text(&'m str),
    Place(usize),
}

/// First element of each key, in order.
pub(super) fn distinct<'m>(
    run: &Run<'m>,
    items: &mut dyn Iterator<Item = Value<'m>>,
    key: &mut dyn FnMut(Value<'m>) -> Value<'m>,
) -> Value<'m> {
    let (mut seen, mut kept) = (HashSet::new(), Vec::new());
    for (place, item) in items.enumerate() {
        let value = key(item);
        if let Some(needs) = value.unavailable() {
            return Value::Unavailable(needs);
        }
        let key = match value {
            Value::Truth(truth, _) if !truth.is_null() => Key::Bool(truth.is_true()),
            Value::Int(n) => Key::Int(n),
            Value::Float(n) => Key::Float(n.to_bits()),
            Value::Text(text) => Key::Text(text),
            Value::Array(_) | Value::Map(_) | Value::Object(_) | Value::List(_) => Key::Place(place),
            _ => Key::Null,
        };
        if seen.insert(key) {
            kept.push(item);
        }
    }
    run.store.array(kept)
}

/// Matches of a pattern as objects.
pub(super) fn extract<'m>(run: &Run<'m>, regex: &'m Regex, text: &'m str, found: &mut Vec<Value<'m>>) {
    for captures in regex.captures_iter(text).take(10_000) {
        let store = run.store;
        let group = |place: usize| captures.get(place).map_or("", |group| group.as_str());
        let groups = store.array((1..captures.len()).map(|place| Value::Text(group(place))));
        let named = store.map(
            regex.capture_names().enumerate().filter_map(|(place, name)| Some((name?, Value::Text(group(place))))),
        );
        found.push(store.object(class("RegexMatch"), RegexMatch { full: group(0), groups, named }));
    }
}

struct RegexMatch<'m> {
    full: &'m str,
    groups: Value<'m>,
    named: Value<'m>,
}

impl<'m> Source<'m> for RegexMatch<'m> {
    fn field(&self, field: &'static str, _: &'m Store) -> Value<'m> {
        match field {
            "full_match" => Value::Text(self.full),
            "groups" => self.groups,
            _ => self.named,
        }
    }
}
