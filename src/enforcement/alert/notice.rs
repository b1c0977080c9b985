//! What a channel is told at once: everything that changed at one look, in words that can do no harm.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::kind::Severity;
use super::machine::{Alert, Change, What};
use crate::mail::defang;

/// Longest text of one field, in characters.
const TEXT: usize = 300;

/// What a channel is told at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// The gateway, by its name for people.
    pub node: String,
    /// Which gateway tells what it saw: [`Node::id`]. Empty for what any of them may tell.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node_id: String,
    /// When it looked, milliseconds since 1970.
    pub at_ms: i64,
    /// What tells it from others of that moment: digits made of its lines as they were then; empty without lines.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mark: String,
    /// Page that links lead to; empty: none.
    pub link_url: String,
    /// What has changed, the worst first.
    pub lines: Vec<Line>,
    /// Recipients of mail that are still to be told, when others have been; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

/// One change, in words: but for its key defanged, without control characters, bounded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What has happened.
    pub what: What,
    /// How bad it is, or was.
    pub severity: Severity,
    /// Of the alert: the same from its beginning to its end, and what orders name it by. As it is: people are shown
    /// [`Self::shown_key`].
    pub key: String,
    /// The word of its kind.
    pub kind: Cow<'static, str>,
    /// What it is about.
    pub title: String,
    /// The value as a number; none: no answer at all.
    pub value: Option<f64>,
    /// The value in words.
    pub words: String,
    /// What else is known.
    pub note: String,
    /// What to look at first.
    pub advice: Cow<'static, str>,
    /// Since when, milliseconds since 1970.
    pub since_ms: i64,
    /// What binds it to lines of the log, when it is about a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
}

/// A gateway that tells what it sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its host name: for people. Two may have the same.
    pub name: String,
    /// What no other has: 16 hexadecimal digits, kept in the folder of data.
    pub id: String,
}

impl Notice {
    /// What somebody is told who wants to know from this severity on; `None`: nothing.
    pub fn new(node: &Node, link_url: &str, changes: &[Change], from: Severity, at_ms: i64) -> Option<Self> {
        let line = |change: &Change| {
            let (what, severity) = change.seen_from(from)?;
            let alert = &change.alert;
            let subject = harmless(&alert.subject);
            let title = alert.kind.title();
            Some(Line {
                what,
                severity,
                key: alert.key.clone(),
                kind: alert.kind.as_str().into(),
                title: if subject.is_empty() { title.to_owned() } else { format!("{title}: {subject}") },
                value: alert.value,
                words: alert.words(),
                note: harmless(alert.note.as_deref().unwrap_or_default()),
                advice: alert.kind.advice().into(),
                since_ms: alert.since_ms,
                correlation: None,
            })
        };
        let lines: Vec<Line> = changes.iter().filter_map(line).collect();
        (!lines.is_empty()).then(|| Self::of(node, link_url, lines, at_ms))
    }

    /// A notice that says that it is a test.
    pub fn test(node: &str, link_url: &str, what: What, at_ms: i64) -> Self {
        let line = Line {
            what,
            severity: Severity::Warning,
            key: "test".into(),
            kind: "test".into(),
            title: "A test of this channel".into(),
            value: Some(0.0),
            words: "nothing is wrong".into(),
            note: "asked for by `mailweir alert test`".into(),
            advice: "Nothing is to be done.".into(),
            since_ms: at_ms,
            correlation: None,
        };
        Self::of(&Node { name: node.to_owned(), id: String::new() }, link_url, vec![line], at_ms)
    }

    /// That we watch.
    pub(super) fn heartbeat(node: &Node, at_ms: i64) -> Self {
        Self::of(node, "", Vec::new(), at_ms)
    }

    fn of(node: &Node, link_url: &str, lines: Vec<Line>, at_ms: i64) -> Self {
        let (node, node_id, link_url) = (node.name.clone(), node.id.clone(), link_url.to_owned());
        let mark = if lines.is_empty() { String::new() } else { mark(&lines) };
        Self { node, node_id, at_ms, mark, link_url, lines, left: Vec::new() }
    }

    /// The same for every try of one notice, whatever of it still holds by then, and for no other.
    pub(super) fn id(&self) -> String {
        let node = if self.node_id.is_empty() { &self.node } else { &self.node_id };
        match self.mark.as_str() {
            "" => format!("{node}:{}", self.at_ms),
            mark => format!("{node}:{}:{mark}", self.at_ms),
        }
    }

    /// A notice of one thing that is no alert; texts of others in it are made harmless.
    pub fn one(node: &str, link_url: &str, line: Line, at_ms: i64) -> Self {
        let line =
            Line { title: harmless(&line.title), words: harmless(&line.words), note: harmless(&line.note), ..line };
        Self::of(&Node { name: node.to_owned(), id: String::new() }, link_url, vec![line], at_ms)
    }

    /// All of it in one line.
    pub fn headline(&self) -> String {
        let more = match self.lines.len().saturating_sub(1) {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let first = self.lines.first().map(Line::headline).unwrap_or_default();
        format!("{first}{more} [{}]", self.node)
    }
}

impl Line {
    /// Whether it is about this alert.
    pub(super) fn is_about(&self, alert: &Alert) -> bool {
        self.key == alert.key
    }

    /// The key for people; orders take it in this form, too.
    pub fn shown_key(&self) -> String {
        harmless(&self.key)
    }

    /// It in one line: `CRITICAL fired: Space runs out: data`.
    pub fn headline(&self) -> String {
        let severity = self.severity.as_str();
        match self.what {
            What::Resolved => format!("RESOLVED: {}", self.title),
            What::Fired => format!("{}: {}", severity.to_uppercase(), self.title),
            what => format!("{} ({}): {}", severity.to_uppercase(), what.as_str(), self.title),
        }
    }
}

/// 16 hexadecimal digits that are others for other lines.
fn mark(lines: &[Line]) -> String {
    let mut digest = Sha256::new();
    for line in lines {
        let Line { what, key, since_ms, .. } = line;
        digest.update(format!("{}:{key}\n{} {since_ms}\n", key.len(), what.as_str()));
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Text of others (services say what went wrong in words of their own), made harmless.
pub(super) fn harmless(text: &str) -> String {
    defang(text).chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT).collect()
}

/// A time in UTC: `2026-01-31 08:00:00Z`.
pub(super) fn utc(at_ms: i64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    let at = time::OffsetDateTime::from_unix_timestamp(at_ms / 1_000).ok();
    at.and_then(|at| at.format(&format).ok()).unwrap_or_else(|| at_ms.to_string())
}
