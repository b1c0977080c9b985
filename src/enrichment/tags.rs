//! What a kept answer is about, in words by which it can be forgotten before its time: `dependency:rdap`,
//! `host:www.example.org`, `domain:example.org`, `message:SHA256`.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Longest tag taken, in bytes.
const TAG_BYTES: usize = 300;
const KINDS: [&str; 4] = ["dependency", "host", "domain", "message"];

/// What a kept answer is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Tag(Arc<str>);

/// A tag that names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no tag: write dependency:NAME, host:NAME, domain:NAME or message:SHA256")]
pub struct TagError(String);

impl Tag {
    /// Reads a tag; case does not matter.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, TagError> {
        let wrong = || TagError(text.chars().filter(|c| !c.is_control()).take(80).collect());
        let (kind, name) = text.split_once(':').ok_or_else(wrong)?;
        let named = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() || byte >= 0x80);
        if !KINDS.contains(&kind) || !named || text.len() > TAG_BYTES {
            return Err(wrong());
        }
        Ok(Self(text.to_lowercase().into()))
    }

    /// All answers of a dependency.
    pub fn dependency(name: &str) -> Self {
        Self::of("dependency", name)
    }

    pub(super) fn host(name: &str) -> Self {
        Self::of("host", name)
    }

    pub(super) fn domain(name: &str) -> Self {
        Self::of("domain", name)
    }

    pub(super) fn message(sha256: &str) -> Self {
        Self::of("message", sha256)
    }

    fn of(kind: &str, name: &str) -> Self {
        let mut text = format!("{kind}:{}", name.to_lowercase());
        let end = (0..=TAG_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        Self(text.into())
    }

    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_kinds_name_something() {
        assert_eq!(Tag::parse("host:WWW.Example.ORG").unwrap(), Tag::host("www.example.org"));
        for wrong in ["", "host", "host:", "all:x", "host:a b", "host:a\n", &format!("host:{}", "x".repeat(300))] {
            assert!(Tag::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Tag::host(&"ä".repeat(300)).as_str().len(), 299);
    }
}
