//! What services said about the arguments of functions that rules call, as it was known for one message.
//!
//! A value like any other fact: frozen into the record, so that rules re-run over history see the same answers. Not here:
//! who is asked (`enrichment`), and what an answer means (`policy/mql`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Answers by function (`network.whois`) and by what was asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Answers(BTreeMap<String, BTreeMap<String, Value>>);

impl Answers {
    /// Notes an answer: JSON of the shape that the data model gives the function's result.
    pub fn insert(&mut self, function: &str, key: String, answer: Value) {
        self.0.entry(function.to_owned()).or_default().insert(key, answer);
    }

    /// The answer of a function about something.
    pub fn get(&self, function: &str, key: &str) -> Option<&Value> {
        self.0.get(function)?.get(key)
    }

    /// All answers of a function.
    pub fn all(&self, function: &str) -> impl Iterator<Item = &Value> {
        self.0.get(function).into_iter().flat_map(BTreeMap::values)
    }

    /// Whether nothing was answered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
