//! A change to a message, as a value: made by the pipeline, carried out by each door in its own way.
//!
//! Only headers change. The body is never rewritten: a signature over it must stay good.

use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One change to the header of a message. Values hold no CR; a line break inside a value is LF and white space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// A new header field on top of all others; of several the first one is on top.
    Prepend {
        /// Field name, without colon.
        name: String,
        /// Field value, without the space after the colon.
        value: String,
    },
    /// Replaces the value of an existing field.
    Replace {
        /// Field name, compared without regard to case.
        name: String,
        /// Which of the fields of this name, from the top, the first is 1.
        occurrence: u32,
        /// The new value, without the space after the colon.
        value: String,
    },
    /// Takes a field out.
    Remove {
        /// Field name, compared without regard to case.
        name: String,
        /// Which of the fields of this name, from the top, the first is 1; counted before any edit is carried out.
        occurrence: u32,
    },
}

impl Edit {
    /// The message with the edits carried out, in pieces to be written one after the other; the body is never copied.
    ///
    /// `raw` has CRLF line ends. Occurrences are counted before any edit; one that is not there is left out. Of several
    /// `Prepend`s the first one is on top. Names and values are written so that
    /// they stay one header field, whatever they hold.
    pub fn apply(raw: &Bytes, edits: &[Self]) -> Vec<Bytes> {
        let mut pieces = Vec::with_capacity(2 + edits.len());
        let mut top = Vec::new();
        for edit in edits {
            if let Self::Prepend { name, value } = edit {
                write_field(name, value, &mut top);
            }
        }
        if !top.is_empty() {
            pieces.push(Bytes::from(top));
        }
        let mut copied = 0;
        for (range, change) in changes(raw, edits) {
            if copied < range.start {
                pieces.push(raw.slice(copied..range.start));
            }
            if let Some((name, value)) = change {
                let mut field = Vec::with_capacity(name.len() + value.len() + 4);
                write_field(name, value, &mut field);
                pieces.push(Bytes::from(field));
            }
            copied = range.end;
        }
        pieces.push(raw.slice(copied..));
        pieces
    }
}

/// Name and value that come in the place of a field; `None`: it is taken out.
type Replacement<'a> = Option<(&'a str, &'a str)>;

/// Which fields change, in the order of the message: their bytes, and name and value that replace them.
fn changes<'a>(raw: &[u8], edits: &'a [Edit]) -> Vec<(Range<usize>, Replacement<'a>)> {
    let wanted: Vec<(&str, u32, Option<&str>)> = edits
        .iter()
        .filter_map(|edit| match edit {
            Edit::Prepend { .. } => None,
            Edit::Replace { name, occurrence, value } => Some((name.as_str(), *occurrence, Some(value.as_str()))),
            Edit::Remove { name, occurrence } => Some((name.as_str(), *occurrence, None)),
        })
        .collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let mut seen = vec![0; wanted.len()];
    let mut found = Vec::new();
    for range in fields(raw) {
        let name = raw[range.clone()].split(|b| *b == b':').next().unwrap_or_default().trim_ascii_end();
        let mut hit = None;
        for (place, (wanted_name, occurrence, value)) in wanted.iter().enumerate() {
            if wanted_name.as_bytes().eq_ignore_ascii_case(name) {
                seen[place] += 1;
                // Of two edits of one field, taking it out wins: nothing that was to go may stay.
                if seen[place] == *occurrence && !matches!(hit, Some(None)) {
                    hit = Some(value.map(|value| (*wanted_name, value)));
                }
            }
        }
        if let Some(change) = hit {
            found.push((range, change));
        }
    }
    found
}

/// The bytes of each header field with its line ends; ends at the empty line or at the first line that is no field.
fn fields(raw: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        let mut end = start + line_length(&raw[start..])?;
        while matches!(raw.get(end), Some(b' ' | b'\t')) {
            end += line_length(&raw[end..])?;
        }
        at = end;
        let line = &raw[start..end];
        // An mbox line on top belongs to no field and ends no header.
        let is_field = line.contains(&b':') && !line.starts_with(b"\r\n") || start == 0 && line.starts_with(b"From ");
        is_field.then_some(start..end)
    })
}

fn line_length(text: &[u8]) -> Option<usize> {
    if text.is_empty() { None } else { Some(memchr::memchr(b'\n', text).map_or(text.len(), |place| place + 1)) }
}

fn write_field(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend(name.bytes().filter(|b| matches!(b, b'!'..=b'~') && *b != b':'));
    out.extend_from_slice(b": ");
    let mut rest = value.bytes().filter(|b| !matches!(b, b'\r' | 0)).peekable();
    while let Some(byte) = rest.next() {
        match (byte, rest.peek()) {
            (b'\n', Some(b' ' | b'\t')) => out.extend_from_slice(b"\r\n"),
            // A line break without white space after it would begin another field.
            (b'\n', _) => out.push(b' '),
            _ => out.push(byte),
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(raw: &str, edits: &[Edit]) -> String {
        let pieces = Edit::apply(&Bytes::copy_from_slice(raw.as_bytes()), edits);
        String::from_utf8(pieces.concat()).unwrap()
    }

    fn prepend(name: &str, value: &str) -> Edit {
        Edit::Prepend { name: name.into(), value: value.into() }
    }

    fn remove(name: &str, occurrence: u32) -> Edit {
        Edit::Remove { name: name.into(), occurrence }
    }

    fn replace(name: &str, occurrence: u32, value: &str) -> Edit {
        Edit::Replace { name: name.into(), occurrence, value: value.into() }
    }

    const RAW: &str = "A: 1\r\nB: x\r\n y\r\na : 2\r\nC: 3\r\n\r\nA: body\r\n";

    #[test]
    fn edits() {
        let cases = [
            (vec![], RAW.to_owned()),
            (vec![prepend("X", "1"), prepend("Y", "2\n\tz")], format!("X: 1\r\nY: 2\r\n\tz\r\n{RAW}")),
            (vec![remove("a", 2)], RAW.replace("a : 2\r\n", "")),
            (vec![remove("A", 1), remove("A", 2)], RAW.replace("A: 1\r\n", "").replace("a : 2\r\n", "")),
            (vec![remove("A", 3), remove("D", 1)], RAW.to_owned()),
            (vec![replace("b", 1, "z")], RAW.replace("B: x\r\n y", "b: z")),
            (vec![remove("B", 1), replace("B", 1, "z")], RAW.replace("B: x\r\n y\r\n", "")),
            (vec![prepend("X", "1"), replace("C", 1, "4")], format!("X: 1\r\n{}", RAW.replace("C: 3", "C: 4"))),
            (vec![prepend("X:\r\nY", "1\r\nZ: 2")], format!("XY: 1 Z: 2\r\n{RAW}")),
        ];
        for (edits, expected) in cases {
            assert_eq!(applied(RAW, &edits), expected, "{edits:?}");
        }
    }

    #[test]
    fn odd_messages() {
        for raw in ["", "\r\nbody", "no header\r\nA: 1\r\n", "A: 1"] {
            assert_eq!(applied(raw, &[remove("B", 1)]), raw);
        }
        assert_eq!(applied("A: 1", &[remove("A", 1)]), "");
        assert_eq!(applied("no header\r\nA: 1\r\n", &[remove("A", 1)]), "no header\r\nA: 1\r\n");
    }
}
