//! The mapping of a rule file with its keys in their order, and typed access to them that names place and mend.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;

use super::place::value_of;

/// A rule file that cannot be used: file, place, reason and mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {reason}")]
pub struct RuleError {
    /// Path.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong and how to mend it.
    pub reason: String,
}

struct Mapping(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Mapping {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Mapping;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping with the keys name, type and source")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Mapping, A::Error> {
                let mut keys = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    keys.push(entry);
                }
                Ok(Mapping(keys))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// The keys of a file that were not taken yet.
pub(super) struct Keys<'t> {
    file: &'t str,
    text: &'t str,
    rest: Vec<(String, Value)>,
}

impl<'t> Keys<'t> {
    pub(super) fn read(file: &'t str, text: &'t str) -> Result<Self, RuleError> {
        // A byte order mark is no key.
        let plain = text.strip_prefix('\u{feff}').unwrap_or(text);
        match serde_saphyr::from_str::<Mapping>(plain) {
            Ok(Mapping(rest)) => Ok(Self { file, text, rest }),
            Err(error) => {
                let place = error.location();
                let at = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(1).max(1);
                Err(RuleError {
                    file: file.to_owned(),
                    line: at(place.map(|place| place.line())),
                    column: at(place.map(|place| place.column())),
                    reason: format!("not a rule file: {}", error.without_snippet()),
                })
            }
        }
    }

    /// A mistake at a key.
    pub(super) fn wrong(&self, key: &str, reason: impl Into<String>) -> RuleError {
        let (line, column) = value_of(self.text, key).map_or((1, 1), |(line, _, _)| (line, 1));
        RuleError { file: self.file.to_owned(), line, column, reason: reason.into() }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        let place = self.rest.iter().position(|(name, _)| name == key)?;
        Some(self.rest.remove(place).1).filter(|value| !value.is_null())
    }

    /// A text; numbers and booleans count as their text.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, RuleError> {
        self.take(key)
            .map(|value| scalar(value).ok_or_else(|| self.wrong(key, format!("`{key}` must be a text"))))
            .transpose()
    }

    /// A text that must be there and not be empty.
    pub(super) fn needed(&mut self, key: &str) -> Result<String, RuleError> {
        let text = self.text(key)?.filter(|text| !text.trim().is_empty());
        text.ok_or_else(|| self.wrong(key, format!("`{key}` is missing or empty: every rule needs one")))
    }

    /// A list of texts; empty when the key is not there.
    pub(super) fn texts(&mut self, key: &str) -> Result<Vec<String>, RuleError> {
        let texts: Option<Vec<String>> = self.list(key)?.into_iter().map(scalar).collect();
        texts.ok_or_else(|| self.wrong(key, format!("`{key}` must be a list of texts")))
    }

    /// A list; empty when the key is not there.
    pub(super) fn list(&mut self, key: &str) -> Result<Vec<Value>, RuleError> {
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => Ok(values),
            Some(_) => {
                Err(self.wrong(key, format!("`{key}` must be a list: write each item on a line of its own after `- `")))
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &str) -> Result<Option<bool>, RuleError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(self.wrong(key, format!("`{key}` must be true or false"))),
        }
    }

    /// What nobody took, in its order.
    pub(super) fn rest(self) -> Vec<(String, Value)> {
        self.rest
    }
}

/// The text of a scalar.
pub(super) fn scalar(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
