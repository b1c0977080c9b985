//! Evaluation: node-sets in document order, values as XPath converts them (3.2–3.5, 4), every node visited counted.

use std::borrow::Cow;

use super::functions::{self, Function};
use super::parse::{Axis, Comparison, Expression, Step, Test};
use super::{XPathNode, XPathOverBudget};
use crate::mail::dom::{HtmlTree, Kind};

/// Bytes of text that cost as much as one node.
const BYTES_A_STEP: usize = 64;

enum Value<'t> {
    Nodes(Vec<XPathNode>),
    Boolean(bool),
    Number(f64),
    Text(Cow<'t, str>),
}

/// The node a predicate is asked about, its place from 1, and how many there are.
#[derive(Clone, Copy)]
struct Context {
    node: XPathNode,
    position: usize,
    size: usize,
}

type Evaluated<T> = Result<T, XPathOverBudget>;

pub(super) fn select(query: &Expression, tree: &HtmlTree, max_steps: usize) -> Evaluated<Vec<XPathNode>> {
    let mut evaluator = Evaluator { tree, left: max_steps, steps: max_steps };
    match evaluator.value(query, Context { node: XPathNode::new(0), position: 1, size: 1 })? {
        Value::Nodes(nodes) => Ok(nodes),
        _ => Ok(Vec::new()),
    }
}

struct Evaluator<'t> {
    tree: &'t HtmlTree,
    left: usize,
    steps: usize,
}

impl<'t> Evaluator<'t> {
    fn pay(&mut self, steps: usize) -> Evaluated<()> {
        self.left = self.left.checked_sub(steps).ok_or(XPathOverBudget { steps: self.steps })?;
        Ok(())
    }

    fn value(&mut self, expression: &'t Expression, context: Context) -> Evaluated<Value<'t>> {
        self.pay(1)?;
        Ok(match expression {
            Expression::Or(all) => {
                for one in all {
                    if self.boolean(one, context)? {
                        return Ok(Value::Boolean(true));
                    }
                }
                Value::Boolean(false)
            }
            Expression::And(all) => {
                for one in all {
                    if !self.boolean(one, context)? {
                        return Ok(Value::Boolean(false));
                    }
                }
                Value::Boolean(true)
            }
            Expression::Compare(kind, sides) => {
                let left = self.value(&sides[0], context)?;
                let right = self.value(&sides[1], context)?;
                Value::Boolean(self.compare(*kind, &left, &right)?)
            }
            Expression::Arithmetic(first, more) => {
                let mut number = self.number(first, context)?;
                for (sign, operand) in more {
                    let other = self.number(operand, context)?;
                    number = match sign {
                        b'+' => number + other,
                        b'-' => number - other,
                        b'*' => number * other,
                        b'd' => number / other,
                        _ => number % other,
                    };
                }
                Value::Number(number)
            }
            Expression::Negate(inner) => Value::Number(-self.number(inner, context)?),
            Expression::Union(all) => {
                let mut nodes = Vec::new();
                for one in all {
                    nodes.append(&mut self.nodes(one, context)?);
                }
                Value::Nodes(ordered(nodes))
            }
            Expression::Path { start, from_root, steps } => {
                let from = match start {
                    Some(start) => self.nodes(start, context)?,
                    None if *from_root => vec![XPathNode::new(0)],
                    None => vec![context.node],
                };
                Value::Nodes(self.walk(from, steps)?)
            }
            Expression::Filter(inner, predicates) => {
                let mut nodes = self.nodes(inner, context)?;
                for predicate in predicates {
                    self.keep(&mut nodes, predicate)?;
                }
                Value::Nodes(nodes)
            }
            Expression::Literal(text) => Value::Text(Cow::Borrowed(text)),
            Expression::Number(number) => Value::Number(*number),
            Expression::Call(function, arguments) => self.call(*function, arguments, context)?,
        })
    }

    fn nodes(&mut self, expression: &'t Expression, context: Context) -> Evaluated<Vec<XPathNode>> {
        match self.value(expression, context)? {
            Value::Nodes(nodes) => Ok(nodes),
            _ => Ok(Vec::new()),
        }
    }

    fn boolean(&mut self, expression: &'t Expression, context: Context) -> Evaluated<bool> {
        let value = self.value(expression, context)?;
        Ok(truth(&value))
    }

    fn number(&mut self, expression: &'t Expression, context: Context) -> Evaluated<f64> {
        let value = self.value(expression, context)?;
        self.number_of(&value)
    }

    fn text(&mut self, expression: &'t Expression, context: Context) -> Evaluated<Cow<'t, str>> {
        match self.value(expression, context)? {
            Value::Text(text) => Ok(text),
            Value::Nodes(nodes) => nodes.first().map_or(Ok(Cow::Borrowed("")), |node| self.string_value(*node)),
            Value::Number(number) => Ok(functions::text(number).into()),
            Value::Boolean(boolean) => Ok(if boolean { "true" } else { "false" }.into()),
        }
    }

    fn string_value(&mut self, node: XPathNode) -> Evaluated<Cow<'t, str>> {
        let text = node.value(self.tree);
        let inside = match node.attribute {
            0 => self.tree.node(node.node).end - node.node,
            _ => 1,
        };
        self.pay(inside as usize + text.len() / BYTES_A_STEP)?;
        Ok(text)
    }

    fn number_of(&mut self, value: &Value<'t>) -> Evaluated<f64> {
        Ok(match value {
            Value::Number(number) => *number,
            Value::Boolean(boolean) => f64::from(u8::from(*boolean)),
            Value::Text(text) => functions::number(text),
            Value::Nodes(nodes) => match nodes.first() {
                Some(node) => functions::number(&self.string_value(*node)?),
                None => f64::NAN,
            },
        })
    }

    /// All steps from all starting nodes; document order, each node once.
    fn walk(&mut self, mut from: Vec<XPathNode>, steps: &'t [Step]) -> Evaluated<Vec<XPathNode>> {
        for step in steps {
            let mut found = Vec::new();
            let places = step.predicates.iter().any(Expression::is_positional);
            let mut seen_up_to = 0;
            for node in &from {
                // What stands in a subtree that was walked through has been found.
                let downwards = matches!(step.axis, Axis::Descendant | Axis::DescendantOrSelf);
                if downwards && !places && node.attribute == 0 {
                    let end = self.tree.node(node.node).end;
                    if end <= seen_up_to && node.node != 0 {
                        self.pay(1)?;
                        continue;
                    }
                    seen_up_to = end;
                }
                let mut some = self.axis(*node, step)?;
                for predicate in &step.predicates {
                    self.keep(&mut some, predicate)?;
                }
                found.append(&mut some);
            }
            from = if from.len() == 1 && !is_reverse(step.axis) { found } else { ordered(found) };
        }
        Ok(from)
    }

    /// Nodes of one axis that pass the test, nearest first.
    fn axis(&mut self, from: XPathNode, step: &Step) -> Evaluated<Vec<XPathNode>> {
        let tree = self.tree;
        let mut found = Vec::new();
        let here = tree.node(from.node);
        let of_attribute = from.attribute > 0;
        let (own, parent) = (from.node, if of_attribute { from.node } else { here.parent });
        let is_root = own == 0 && !of_attribute;
        let with_itself = matches!(step.axis, Axis::Own | Axis::DescendantOrSelf | Axis::AncestorOrSelf);
        if of_attribute && with_itself && step.test == Test::Node {
            found.push(from);
        }
        let mut visit = |evaluator: &mut Self, index: u32| -> Evaluated<()> {
            evaluator.pay(1)?;
            if matches(&tree.node(index).kind, &step.test) {
                found.push(XPathNode::new(index));
            }
            Ok(())
        };
        match step.axis {
            Axis::Attribute if !of_attribute => {
                self.pay(1)?;
                if let Kind::Element { attributes, .. } = &here.kind {
                    let fits = |name: &str| match &step.test {
                        Test::Any | Test::Node => true,
                        Test::Name(wanted) => name.eq_ignore_ascii_case(wanted),
                        _ => false,
                    };
                    let places = attributes.iter().enumerate().filter(|(_, (name, _))| fits(name));
                    let place = |at: usize| u32::try_from(at + 1).unwrap_or(u32::MAX);
                    found.extend(places.map(|(at, _)| XPathNode { node: own, attribute: place(at) }));
                }
            }
            Axis::Own | Axis::DescendantOrSelf if of_attribute => {}
            Axis::Child if !of_attribute => {
                for index in tree.children(own) {
                    visit(self, index)?;
                }
            }
            Axis::Descendant | Axis::DescendantOrSelf if !of_attribute => {
                let first = own + u32::from(step.axis == Axis::Descendant);
                for index in first..here.end {
                    visit(self, index)?;
                }
            }
            Axis::Own => visit(self, own)?,
            Axis::Parent if !is_root => visit(self, parent)?,
            Axis::Ancestor | Axis::AncestorOrSelf => {
                let mut at = if step.axis == Axis::Ancestor { parent } else { own };
                if !(is_root && step.axis == Axis::Ancestor) {
                    visit(self, at)?;
                }
                while at != 0 {
                    at = tree.node(at).parent;
                    visit(self, at)?;
                }
            }
            Axis::FollowingSibling if !of_attribute && !is_root => {
                let (mut at, end) = (here.end, tree.node(parent).end);
                while at < end {
                    visit(self, at)?;
                    at = tree.node(at).end;
                }
            }
            Axis::PrecedingSibling if !of_attribute && !is_root => {
                let before: Vec<u32> = tree.children(parent).take_while(|index| *index < own).collect();
                for index in before.into_iter().rev() {
                    visit(self, index)?;
                }
            }
            Axis::Following => {
                let start = if of_attribute { own + 1 } else { here.end };
                for index in start..tree.node(0).end {
                    visit(self, index)?;
                }
            }
            Axis::Preceding => {
                for index in (1..own).rev() {
                    // Ancestors are not before it.
                    if tree.node(index).end <= own {
                        visit(self, index)?;
                    } else {
                        self.pay(1)?;
                    }
                }
            }
            _ => {}
        }
        Ok(found)
    }

    fn keep(&mut self, nodes: &mut Vec<XPathNode>, predicate: &'t Expression) -> Evaluated<()> {
        let size = nodes.len();
        let mut kept = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            let context = Context { node: *node, position: at + 1, size };
            let stays = match self.value(predicate, context)? {
                Value::Number(number) => number == (at + 1) as f64,
                value => truth(&value),
            };
            if stays {
                kept.push(*node);
            }
        }
        *nodes = kept;
        Ok(())
    }

    fn compare(&mut self, kind: Comparison, left: &Value<'t>, right: &Value<'t>) -> Evaluated<bool> {
        Ok(match (left, right) {
            (Value::Nodes(nodes), Value::Boolean(_)) => {
                compare_numbers(kind, f64::from(u8::from(!nodes.is_empty())), self.number_of(right)?)
            }
            (Value::Boolean(_), Value::Nodes(nodes)) => {
                compare_numbers(kind, self.number_of(left)?, f64::from(u8::from(!nodes.is_empty())))
            }
            // A node-set compares when one of its nodes does.
            (Value::Nodes(nodes), _) => {
                for node in nodes {
                    let text = Value::Text(self.string_value(*node)?);
                    if self.compare(kind, &text, right)? {
                        return Ok(true);
                    }
                }
                false
            }
            (_, Value::Nodes(nodes)) => {
                for node in nodes {
                    let text = Value::Text(self.string_value(*node)?);
                    if self.compare(kind, left, &text)? {
                        return Ok(true);
                    }
                }
                false
            }
            (Value::Text(a), Value::Text(b)) if kind == Comparison::Equal => a == b,
            (Value::Text(a), Value::Text(b)) if kind == Comparison::Unequal => a != b,
            (Value::Boolean(_), _) | (_, Value::Boolean(_))
                if matches!(kind, Comparison::Equal | Comparison::Unequal) =>
            {
                (truth(left) == truth(right)) == (kind == Comparison::Equal)
            }
            _ => compare_numbers(kind, self.number_of(left)?, self.number_of(right)?),
        })
    }

    fn call(&mut self, function: Function, of: &'t [Expression], context: Context) -> Evaluated<Value<'t>> {
        let text = |evaluator: &mut Self, at: usize| match of.get(at) {
            Some(argument) => evaluator.text(argument, context),
            None => evaluator.string_value(context.node),
        };
        Ok(match function {
            Function::Last => Value::Number(context.size as f64),
            Function::Position => Value::Number(context.position as f64),
            Function::Count => Value::Number(self.nodes(&of[0], context)?.len() as f64),
            Function::LocalName | Function::Name => {
                let node = match of.first() {
                    Some(argument) => self.nodes(argument, context)?.first().copied(),
                    None => Some(context.node),
                };
                Value::Text(node.map_or("", |node| node.name(self.tree)).into())
            }
            Function::NamespaceUri => Value::Text("".into()),
            Function::Number => Value::Number(match of.first() {
                Some(argument) => self.number(argument, context)?,
                None => functions::number(&text(self, 0)?),
            }),
            Function::Sum => {
                let mut sum = 0.0;
                for node in self.nodes(&of[0], context)? {
                    sum += functions::number(&self.string_value(node)?);
                }
                Value::Number(sum)
            }
            Function::Floor => Value::Number(self.number(&of[0], context)?.floor()),
            Function::Ceiling => Value::Number(self.number(&of[0], context)?.ceil()),
            Function::Round => Value::Number(functions::round(self.number(&of[0], context)?)),
            Function::Boolean => Value::Boolean(self.boolean(&of[0], context)?),
            Function::Not => Value::Boolean(!self.boolean(&of[0], context)?),
            Function::True => Value::Boolean(true),
            Function::False => Value::Boolean(false),
            Function::Concat => {
                let mut all = String::new();
                for at in 0..of.len() {
                    let piece = text(self, at)?;
                    self.pay(piece.len() / BYTES_A_STEP)?;
                    all.push_str(&piece);
                }
                Value::Text(all.into())
            }
            Function::StringLength => Value::Number(text(self, 0)?.chars().count() as f64),
            Function::Substring => {
                let whole = text(self, 0)?;
                let start = self.number(&of[1], context)?;
                let length = of.get(2).map(|argument| self.number(argument, context)).transpose()?;
                Value::Text(functions::substring(&whole, start, length).into())
            }
            _ => {
                let first = text(self, 0)?;
                let second = if of.len() > 1 { text(self, 1)? } else { Cow::Borrowed("") };
                let third = if of.len() > 2 { text(self, 2)? } else { Cow::Borrowed("") };
                self.pay((first.len() + second.len()) / BYTES_A_STEP)?;
                of_texts(function, &first, &second, &third)
            }
        })
    }
}

fn of_texts<'t>(function: Function, first: &str, second: &str, third: &str) -> Value<'t> {
    match function {
        Function::StartsWith => Value::Boolean(first.starts_with(second)),
        Function::EndsWith => Value::Boolean(first.ends_with(second)),
        Function::Contains => Value::Boolean(first.contains(second)),
        Function::SubstringBefore => {
            Value::Text(first.split_once(second).map_or("", |(before, _)| before).to_owned().into())
        }
        Function::SubstringAfter => {
            Value::Text(first.split_once(second).map_or("", |(_, after)| after).to_owned().into())
        }
        Function::NormalizeSpace => Value::Text(functions::normalize_space(first).into()),
        Function::Translate => Value::Text(functions::translate(first, second, third).into()),
        Function::LowerCase => Value::Text(first.to_lowercase().into()),
        Function::UpperCase => Value::Text(first.to_uppercase().into()),
        // `string`; the others were answered before.
        _ => Value::Text(first.to_owned().into()),
    }
}

fn matches(kind: &Kind, test: &Test) -> bool {
    match (test, kind) {
        (Test::Node, _) | (Test::Text, Kind::Text(_)) | (Test::Comment, Kind::Comment(_)) => true,
        (Test::Any, Kind::Element { .. }) => true,
        (Test::Name(wanted), Kind::Element { name, .. }) => str::eq_ignore_ascii_case(name, wanted),
        _ => false,
    }
}

fn is_reverse(axis: Axis) -> bool {
    matches!(axis, Axis::Ancestor | Axis::AncestorOrSelf | Axis::PrecedingSibling | Axis::Preceding)
}

fn ordered(mut nodes: Vec<XPathNode>) -> Vec<XPathNode> {
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

fn truth(value: &Value<'_>) -> bool {
    match value {
        Value::Nodes(nodes) => !nodes.is_empty(),
        Value::Boolean(boolean) => *boolean,
        Value::Number(number) => *number != 0.0 && !number.is_nan(),
        Value::Text(text) => !text.is_empty(),
    }
}

fn compare_numbers(kind: Comparison, a: f64, b: f64) -> bool {
    match kind {
        Comparison::Equal => a == b,
        Comparison::Unequal => a != b,
        Comparison::Less => a < b,
        Comparison::LessOrEqual => a <= b,
        Comparison::More => a > b,
        Comparison::MoreOrEqual => a >= b,
    }
}
