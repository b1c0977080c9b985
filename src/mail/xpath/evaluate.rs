//! Running a compiled query over a tree, with a budget of nodes looked at. Recursion follows the query's bounded nesting.

use std::borrow::Cow;

use super::parse::{Axis, Expression, Operator, Start, Step, Test};
use crate::mail::Dom;
use crate::mail::dom::Kind;

/// A node, or an attribute of one. Order is document order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) node: usize,
    /// 0: the node itself; else the attribute of that number, from 1.
    attribute: usize,
}

/// A value; its texts are those of the tree and the query as far as they stand there.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'d> {
    Nodes(Vec<Place>),
    Number(f64),
    Text(Cow<'d, str>),
    Truth(bool),
}

impl Dom {
    /// Name and value, when the place is an attribute.
    pub(super) fn attribute(&self, place: Place) -> Option<(&str, &str)> {
        let Kind::Element(_, list) = &self.nodes[place.node].kind else { return None };
        list.get(place.attribute.checked_sub(1)?).map(|(name, value)| (&**name, &**value))
    }

    /// Whether it is an element.
    pub(super) fn is_element(&self, node: usize) -> bool {
        matches!(self.nodes[node].kind, Kind::Element(..) | Kind::Document)
    }

    fn string(&self, place: Place) -> Cow<'_, str> {
        self.attribute(place).map_or_else(|| self.text(place.node), |(_, value)| value.into())
    }

    fn name(&self, place: Place) -> &str {
        match (&self.nodes[place.node].kind, self.attribute(place)) {
            (_, Some((name, _))) => name,
            (Kind::Element(name, _), None) => name,
            _ => "",
        }
    }
}

impl<'d> Value<'d> {
    pub(super) fn text<'v>(&'v self, dom: &'d Dom) -> Cow<'v, str> {
        match self {
            Self::Nodes(places) => places.first().map(|place| dom.string(*place)).unwrap_or_default(),
            Self::Number(number) => number.to_string().into(),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Truth(truth) => truth.to_string().into(),
        }
    }

    /// The text of a value that is not needed any more.
    fn into_text(self, dom: &'d Dom) -> Cow<'d, str> {
        match self {
            Self::Nodes(places) => places.first().map(|place| dom.string(*place)).unwrap_or_default(),
            Self::Text(text) => text,
            other => other.text(dom).into_owned().into(),
        }
    }

    fn number(&self, dom: &'d Dom) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Truth(truth) => f64::from(u8::from(*truth)),
            other => number(&other.text(dom)),
        }
    }

    fn truth(&self) -> bool {
        match self {
            Self::Nodes(places) => !places.is_empty(),
            Self::Number(number) => *number != 0.0 && !number.is_nan(),
            Self::Text(text) => !text.is_empty(),
            Self::Truth(truth) => *truth,
        }
    }
}

fn number(text: &str) -> f64 {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'));
    if plain { text.parse().unwrap_or(f64::NAN) } else { f64::NAN }
}

/// The value; `None` when the budget is spent.
pub(super) fn run<'d>(expression: &'d Expression, dom: &'d Dom, steps: usize) -> Option<Value<'d>> {
    let mut run = Run { dom, left: steps };
    run.value(expression, Context { place: Place { node: 0, attribute: 0 }, position: 1, size: 1 })
}

#[derive(Clone, Copy)]
struct Context {
    place: Place,
    position: usize,
    size: usize,
}

struct Run<'d> {
    dom: &'d Dom,
    left: usize,
}

impl<'d> Run<'d> {
    fn spend(&mut self, amount: usize) -> Option<()> {
        self.left = self.left.checked_sub(amount)?;
        Some(())
    }

    fn value(&mut self, expression: &'d Expression, context: Context) -> Option<Value<'d>> {
        self.spend(1)?;
        Some(match expression {
            Expression::Number(number) => Value::Number(*number),
            Expression::Literal(text) => Value::Text(text.into()),
            Expression::Negated(inner) => Value::Number(-self.value(inner, context)?.number(self.dom)),
            Expression::Binary(operator, left, right) => self.binary(*operator, left, right, context)?,
            Expression::Call(name, arguments) => self.call(name, arguments, context)?,
            Expression::Path(start, steps) => Value::Nodes(self.path(start, steps, context)?),
        })
    }

    fn binary(
        &mut self,
        operator: Operator,
        left: &'d Expression,
        right: &'d Expression,
        context: Context,
    ) -> Option<Value<'d>> {
        let left = self.value(left, context)?;
        match operator {
            Operator::Or if left.truth() => return Some(Value::Truth(true)),
            Operator::And if !left.truth() => return Some(Value::Truth(false)),
            _ => {}
        }
        let right = self.value(right, context)?;
        let numbers = || (left.number(self.dom), right.number(self.dom));
        Some(match operator {
            Operator::Or | Operator::And => Value::Truth(right.truth()),
            Operator::Add => Value::Number(numbers().0 + numbers().1),
            Operator::Subtract => Value::Number(numbers().0 - numbers().1),
            Operator::Multiply => Value::Number(numbers().0 * numbers().1),
            Operator::Divide => Value::Number(numbers().0 / numbers().1),
            Operator::Modulo => Value::Number(numbers().0 % numbers().1),
            Operator::Union => match (left, right) {
                (Value::Nodes(mut all), Value::Nodes(more)) => {
                    all.extend(more);
                    all.sort_unstable();
                    all.dedup();
                    Value::Nodes(all)
                }
                _ => Value::Nodes(Vec::new()),
            },
            comparison => Value::Truth(self.compare(comparison, &left, &right)?),
        })
    }

    /// XPath 1.0, 3.4: a node set compares when any of its nodes does.
    fn compare(&mut self, operator: Operator, left: &Value<'d>, right: &Value<'d>) -> Option<bool> {
        let dom = self.dom;
        let each = |value: &Value<'d>| match value {
            Value::Nodes(places) => places.iter().map(|place| Value::Text(dom.string(*place))).collect(),
            other => vec![other.clone()],
        };
        if let (Value::Truth(_), _) | (_, Value::Truth(_)) = (left, right) {
            let (l, r) = (Value::Truth(left.truth()), Value::Truth(right.truth()));
            return Some(compare_one(operator, &l, &r, dom));
        }
        let (lefts, rights) = (each(left), each(right));
        self.spend(lefts.len().saturating_mul(rights.len()))?;
        Some(lefts.iter().any(|l| rights.iter().any(|r| compare_one(operator, l, r, dom))))
    }

    fn path(&mut self, start: &'d Start, steps: &'d [Step], context: Context) -> Option<Vec<Place>> {
        let mut places = match start {
            Start::Root => vec![Place { node: 0, attribute: 0 }],
            Start::Context => vec![context.place],
            Start::Value(inner, predicates) => match self.value(inner, context)? {
                Value::Nodes(places) => self.filter(places, predicates)?,
                _ => Vec::new(),
            },
        };
        for step in steps {
            let mut found = Vec::new();
            for place in places {
                let mut matching = self.axis(step, place)?;
                if !step.predicates.is_empty() {
                    matching = self.filter(matching, &step.predicates)?;
                }
                found.extend(matching);
            }
            found.sort_unstable();
            found.dedup();
            places = found;
        }
        Some(places)
    }

    /// The nodes of a step's axis that pass its test, nearest first.
    fn axis(&mut self, step: &Step, from: Place) -> Option<Vec<Place>> {
        let dom = self.dom;
        let Place { node, attribute } = from;
        let (end, parent) = (dom.nodes[node].end, dom.nodes[node].parent);
        let is_attribute = attribute > 0;
        let mut out = Vec::new();
        let mut looked = 1;
        let mut take = |nodes: &mut dyn Iterator<Item = usize>| {
            for node in nodes {
                looked += 1;
                let place = Place { node, attribute: 0 };
                if passes(dom, &step.test, place) {
                    out.push(place);
                }
            }
        };
        let mut ancestors = std::iter::successors(Some(node), |n| (*n > 0).then(|| dom.nodes[*n].parent));
        match step.axis {
            Axis::Itself if is_attribute => out.extend(matches!(step.test, Test::AnyNode).then_some(from)),
            Axis::Itself => take(&mut std::iter::once(node)),
            Axis::Parent if is_attribute => take(&mut std::iter::once(node)),
            Axis::Parent => take(&mut (node > 0).then_some(parent).into_iter()),
            Axis::Ancestor => take(&mut ancestors.by_ref().skip(usize::from(!is_attribute))),
            Axis::AncestorOrSelf => take(&mut ancestors),
            Axis::Attribute if !is_attribute => {
                let Kind::Element(_, list) = &dom.nodes[node].kind else { return Some(out) };
                looked += list.len();
                let places = (1..=list.len()).map(|attribute| Place { node, attribute });
                out.extend(places.filter(|place| passes(dom, &step.test, *place)));
            }
            Axis::Following => take(&mut (if is_attribute { node + 1 } else { end }..dom.nodes.len())),
            Axis::Preceding => {
                let mut above = ancestors.skip(1).peekable();
                take(&mut (0..node).rev().filter(|n| above.next_if_eq(n).is_none()));
            }
            _ if is_attribute => {}
            Axis::Child => take(&mut dom.children(node)),
            Axis::Descendant => take(&mut (node + 1..end)),
            Axis::DescendantOrSelf => take(&mut (node..end)),
            Axis::FollowingSibling => take(&mut dom.children(parent).filter(|n| *n > node)),
            Axis::PrecedingSibling => {
                let before: Vec<usize> = dom.children(parent).take_while(|n| *n < node).collect();
                take(&mut before.into_iter().rev());
            }
            Axis::Attribute => {}
        }
        self.spend(looked)?;
        Some(out)
    }

    fn filter(&mut self, mut places: Vec<Place>, predicates: &'d [Expression]) -> Option<Vec<Place>> {
        for predicate in predicates {
            let size = places.len();
            let mut kept = Vec::new();
            for (index, place) in places.into_iter().enumerate() {
                let position = index + 1;
                let holds = match self.value(predicate, Context { place, position, size })? {
                    Value::Number(number) => number == position as f64,
                    other => other.truth(),
                };
                if holds {
                    kept.push(place);
                }
            }
            places = kept;
        }
        Some(places)
    }

    /// A function over texts of its arguments; without any, over the text of where it stands.
    fn call(&mut self, name: &str, arguments: &'d [Expression], context: Context) -> Option<Value<'d>> {
        let dom = self.dom;
        let mut values = Vec::with_capacity(arguments.len().max(1));
        for argument in arguments {
            values.push(self.value(argument, context)?);
        }
        if values.is_empty() {
            values.push(Value::Nodes(vec![context.place]));
        }
        // Text of nodes is copied: it counts.
        let size = match &values[0] {
            Value::Nodes(places) => places.first().map_or(0, |place| dom.size(place.node)),
            _ => 0,
        };
        self.spend(size / 4)?;
        let nodes = || if let Value::Nodes(places) = &values[0] { places.as_slice() } else { &[] };
        let text = |at: usize| values.get(at).map(|value| value.text(dom)).unwrap_or_default();
        let truth = Value::Truth;
        Some(match name {
            "last" => Value::Number(context.size as f64),
            "position" => Value::Number(context.position as f64),
            "count" => Value::Number(nodes().len() as f64),
            "local-name" | "name" => {
                let full = nodes().first().map(|place| dom.name(*place)).unwrap_or_default();
                let local = full.rsplit(':').next().unwrap_or_default();
                Value::Text(if name == "name" { full } else { local }.into())
            }
            "concat" => Value::Text((0..values.len()).map(text).collect::<String>().into()),
            "starts-with" => truth(text(0).starts_with(&*text(1))),
            "ends-with" => truth(text(0).ends_with(&*text(1))),
            "contains" => truth(memchr::memmem::find(text(0).as_bytes(), text(1).as_bytes()).is_some()),
            "string-length" => Value::Number(text(0).chars().count() as f64),
            "boolean" => truth(values[0].truth()),
            "not" => truth(!values[0].truth()),
            "true" => truth(true),
            "false" => truth(false),
            "number" => Value::Number(values[0].number(dom)),
            "sum" => Value::Number(nodes().iter().map(|place| number(&dom.string(*place))).sum()),
            "floor" => Value::Number(values[0].number(dom).floor()),
            "ceiling" => Value::Number(values[0].number(dom).ceil()),
            "round" => Value::Number((values[0].number(dom) + 0.5).floor()),
            "string" => Value::Text(values.swap_remove(0).into_text(dom)),
            _ => Value::Text(made(name, &text, values.get(1..).unwrap_or_default(), dom).into()),
        })
    }
}

/// The functions that make a text of their first argument, with what else they were given.
fn made<'v>(name: &str, text: &dyn Fn(usize) -> Cow<'v, str>, more: &[Value<'_>], dom: &Dom) -> String {
    match name {
        "substring-before" => text(0).split_once(&*text(1)).map(|(l, _)| l.to_owned()).unwrap_or_default(),
        "substring-after" => text(0).split_once(&*text(1)).map(|(_, r)| r.to_owned()).unwrap_or_default(),
        "substring" => {
            let at = |value: Option<&Value<'_>>| value.map(|value| value.number(dom).round());
            let from = at(more.first()).unwrap_or(f64::NAN);
            let to = at(more.get(1)).map_or(f64::INFINITY, |length| from + length);
            let inside = |at: usize| (at + 1) as f64 >= from && ((at + 1) as f64) < to;
            text(0).chars().enumerate().filter(|(at, _)| inside(*at)).map(|(_, c)| c).collect()
        }
        "translate" => {
            let (from, to): (Vec<char>, Vec<char>) = (text(1).chars().collect(), text(2).chars().collect());
            let one = |c: char| match from.iter().position(|known| *known == c) {
                Some(place) => to.get(place).copied(),
                None => Some(c),
            };
            text(0).chars().filter_map(one).collect()
        }
        "lower-case" => text(0).to_lowercase(),
        "upper-case" => text(0).to_uppercase(),
        // normalize-space
        _ => text(0).split_ascii_whitespace().collect::<Vec<_>>().join(" "),
    }
}

fn passes(dom: &Dom, test: &Test, place: Place) -> bool {
    let kind = &dom.nodes[place.node].kind;
    let attribute = dom.attribute(place);
    match test {
        Test::AnyNode => true,
        Test::Any => attribute.is_some() || matches!(kind, Kind::Element(..)),
        Test::Name(name) => {
            dom.name(place).eq_ignore_ascii_case(name) && (attribute.is_some() || matches!(kind, Kind::Element(..)))
        }
        Test::Text => attribute.is_none() && matches!(kind, Kind::Text(_)),
        Test::Comment => attribute.is_none() && matches!(kind, Kind::Comment(_)),
    }
}

fn compare_one(operator: Operator, left: &Value, right: &Value, dom: &Dom) -> bool {
    let equal = || match (left, right) {
        (Value::Truth(_), _) | (_, Value::Truth(_)) => left.truth() == right.truth(),
        (Value::Number(_), _) | (_, Value::Number(_)) => left.number(dom) == right.number(dom),
        _ => left.text(dom) == right.text(dom),
    };
    let (l, r) = (left.number(dom), right.number(dom));
    match operator {
        Operator::Equal => equal(),
        Operator::NotEqual => !equal(),
        Operator::Less => l < r,
        Operator::LessOrEqual => l <= r,
        Operator::Greater => l > r,
        _ => l >= r,
    }
}
