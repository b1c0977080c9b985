//! Operations on values that need no message: comparison, arithmetic, tests of one text by another, and what people are
//! shown of a value.

use super::ast::{Arithmetic, Compare};
use super::glob;
use super::node::TextTest;
use super::value::Value;
use crate::policy::fold;

/// What a function of an operand without a usable value gives: unavailable stays, all else is null.
pub(super) fn lost(value: Value<'_>) -> Value<'_> {
    match value.unavailable() {
        Some(needs) => Value::Unavailable(needs),
        None => Value::Null,
    }
}

pub(super) fn key<'m>(base: Value<'m>, name: &str) -> Value<'m> {
    match base {
        Value::Map(entries) => entries.iter().find(|(key, _)| *key == name).map_or(Value::Null, |(_, value)| *value),
        other => lost(other),
    }
}

pub(super) fn holds(test: TextTest, haystack: &str, needle: &str) -> bool {
    match test {
        TextTest::Contains => memchr::memmem::find(haystack.as_bytes(), needle.as_bytes()).is_some(),
        TextTest::StartsWith => haystack.starts_with(needle),
        TextTest::EndsWith => haystack.ends_with(needle),
        TextTest::Like => glob::matches(needle, haystack),
    }
}

/// Compares two values; null when either is null or they are of different kinds.
pub(super) fn compare<'m>(operator: Compare, a: Value<'m>, b: Value<'m>) -> Value<'m> {
    use std::cmp::Ordering;
    if let Some(needs) = a.unavailable().or(b.unavailable()) {
        return Value::Unavailable(needs);
    }
    let ordering = match (a, b) {
        (Value::Text(a), Value::Text(b)) => match operator {
            Compare::Like => return Value::bool(fold::equal(a, b)),
            Compare::NotLike => return Value::bool(!fold::equal(a, b)),
            _ => Some(a.cmp(b)),
        },
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(&b)),
        (Value::Int(a), Value::Float(b)) => (a as f64).partial_cmp(&b),
        (Value::Float(a), Value::Int(b)) => a.partial_cmp(&(b as f64)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(&b),
        (Value::Truth(a, _), Value::Truth(b, _)) if !a.is_null() && !b.is_null() => Some(a.is_true().cmp(&b.is_true())),
        _ => None,
    };
    let Some(ordering) = ordering else { return Value::Null };
    Value::bool(match operator {
        Compare::Equal | Compare::Like => ordering == Ordering::Equal,
        Compare::NotEqual | Compare::NotLike => ordering != Ordering::Equal,
        Compare::Less => ordering == Ordering::Less,
        Compare::LessEqual => ordering != Ordering::Greater,
        Compare::Greater => ordering == Ordering::Greater,
        Compare::GreaterEqual => ordering != Ordering::Less,
    })
}

pub(super) fn arithmetic<'m>(operator: Arithmetic, a: Value<'m>, b: Value<'m>) -> Value<'m> {
    if let Some(needs) = a.unavailable().or(b.unavailable()) {
        return Value::Unavailable(needs);
    }
    let floats = |a: f64, b: f64| {
        let result = match operator {
            Arithmetic::Add => a + b,
            Arithmetic::Subtract => a - b,
            Arithmetic::Multiply => a * b,
            Arithmetic::Divide => a / b,
            Arithmetic::Remainder => a % b,
        };
        // Division by zero has no value.
        if result.is_finite() { Value::Float(result) } else { Value::Null }
    };
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => match operator {
            Arithmetic::Add => Some(a.wrapping_add(b)),
            Arithmetic::Subtract => Some(a.wrapping_sub(b)),
            Arithmetic::Multiply => Some(a.wrapping_mul(b)),
            Arithmetic::Divide => a.checked_div(b),
            Arithmetic::Remainder => a.checked_rem(b),
        }
        .map_or(Value::Null, Value::Int),
        (Value::Int(a), Value::Float(b)) => floats(a as f64, b),
        (Value::Float(a), Value::Int(b)) => floats(a, b as f64),
        (Value::Float(a), Value::Float(b)) => floats(a, b),
        _ => Value::Null,
    }
}

pub(super) fn shown(value: Value<'_>) -> String {
    match value {
        Value::Text(text) => text.chars().take(120).collect(),
        Value::Int(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Truth(truth, _) => if truth.is_true() { "true" } else { "false" }.to_owned(),
        _ => String::new(),
    }
}

/// The text around what was found.
pub(super) fn excerpt(text: &str, needle: &str) -> String {
    let needle = needle.trim_matches(['*', '?']);
    let chars = |text: &str| text.chars().take(120).collect::<String>();
    let lower = fold::folded(text);
    match lower.find(&*fold::folded(needle)) {
        Some(at) if lower.len() == text.len() && text.is_char_boundary(at) => {
            let start = text[..at].char_indices().rev().nth(30).map_or(0, |(i, _)| i);
            chars(&text[start..])
        }
        _ => chars(text),
    }
}
