//! The headers that go on a message that is passed on: ours are added, forged ones that claim to be ours are taken out.

use std::fmt::Write;

use super::{ResultHeaders, Standing, Transaction};
use crate::enrichment::{authentication_results, forged_results};
use crate::mail::{Edit, Message};
use crate::policy::Action;
use crate::records::Record;

/// Fields whose names begin like this are ours alone.
const NAMESPACE: &str = "x-mailweir-";
/// Longest line of the list of signals before it is folded.
const LINE: usize = 76;

/// All changes to the header of a message that is passed on.
pub(super) fn edits(
    standing: &Standing,
    transaction: &Transaction,
    message: &Message,
    record: &Record,
    action: Action,
) -> Vec<Edit> {
    let mut edits = Vec::new();
    let prepend = |name: &str, value: String| Edit::Prepend { name: name.into(), value };
    if standing.config.headers != ResultHeaders::None {
        edits.push(prepend("X-Mailweir-Id", record.id.to_string()));
        edits.push(prepend("X-Mailweir-Verdict", format!("{}; risk={:.1}", action.as_str(), record.score.risk)));
        if standing.config.headers == ResultHeaders::Full {
            edits.push(prepend("X-Mailweir-Signals", signals(record)));
        }
        if !record.degraded.is_empty() {
            edits.push(prepend("X-Mailweir-Degraded", record.degraded.join(" ")));
        }
    }
    let connection = &transaction.connection;
    let results = authentication_results(
        &standing.authserv_id,
        &record.facts,
        connection.helo.as_deref(),
        &transaction.envelope.sender,
    );
    edits.push(prepend("Authentication-Results", results));
    edits.extend(forged_results(&standing.authserv_id, message.headers_named("Authentication-Results").map(|f| f.raw)));
    edits.extend(forged_own(message));
    edits
}

/// Removes every field of our own namespace that came with the message.
fn forged_own(message: &Message) -> Vec<Edit> {
    let mut seen: Vec<(String, u32)> = Vec::new();
    let mut edits = Vec::new();
    for field in message.headers() {
        let name = field.name.to_ascii_lowercase();
        if !name.starts_with(NAMESPACE) {
            continue;
        }
        let occurrence = match seen.iter_mut().find(|(other, _)| *other == name) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                seen.push((name, 1));
                1
            }
        };
        edits.push(Edit::Remove { name: field.name.to_owned(), occurrence });
    }
    edits
}

/// `CODE(+1.2) CODE(-0.5)`, folded.
fn signals(record: &Record) -> String {
    let mut value = String::new();
    let mut line = "X-Mailweir-Signals: ".len();
    let signals = record.score.terms.iter().map(|term| (term.code.as_str().to_owned(), term.weight));
    let rules = record.score.rules.iter().map(|term| (format!("RULE_{}", term.id), term.weight));
    for (name, weight) in signals.chain(rules) {
        let word = format!("{name}({weight:+.2})");
        if line + 1 + word.len() > LINE {
            value.push_str("\n\t");
            line = 8;
        } else if !value.is_empty() {
            value.push(' ');
            line += 1;
        }
        line += word.len();
        value.push_str(&word);
    }
    let _ = write!(value, "{}bias({:+.2})", if value.is_empty() { "" } else { " " }, record.score.bias);
    value
}

/// The value of the first field of a name, unfolded; looks at the raw header only.
pub(super) fn first_value(raw: &[u8], name: &str) -> Option<String> {
    let header = &raw[..memchr::memmem::find(raw, b"\r\n\r\n").map_or(raw.len(), |end| end + 2)];
    let mut at = 0;
    while at < header.len() {
        let line = &header[at..];
        let is_it = line.len() > name.len()
            && line[name.len()] == b':'
            && line[..name.len()].eq_ignore_ascii_case(name.as_bytes());
        if is_it {
            let mut end = at;
            loop {
                end += memchr::memchr(b'\n', &header[end..]).map_or(header.len() - end, |n| n + 1);
                if end >= header.len() || !matches!(header[end], b' ' | b'\t') {
                    break;
                }
            }
            let value = String::from_utf8_lossy(&header[at + name.len() + 1..end]).replace(['\r', '\n'], "");
            return Some(value.trim().to_owned());
        }
        at += memchr::memchr(b'\n', line).map_or(line.len(), |n| n + 1);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_value_of_a_field() {
        let raw = b"Received: x\r\nx-mailweir-release: a;\r\n\tb\r\nSubject: s\r\n\r\nX-Body: no\r\n";
        assert_eq!(first_value(raw, "X-Mailweir-Release").as_deref(), Some("a;\tb"));
        assert_eq!(first_value(raw, "Subject").as_deref(), Some("s"));
        assert_eq!(first_value(raw, "X-Body"), None);
        assert_eq!(first_value(b"", "Subject"), None);
        assert_eq!(first_value(b"Subject: x", "Subject").as_deref(), Some("x"));
    }
}
