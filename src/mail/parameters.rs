//! `Content-Type` and `Content-Disposition`: a value and its parameters (RFC 2045, 5.1), with RFC 2231's
//! continuations and charsets, and the encoded words that people put there in spite of RFC 2047.
//!
//! Never fails. The same parameter given twice is kept twice: the reader may take either.

use super::{decode, encoded_word};

const MAX_PARAMETERS: usize = 64;

/// A value with parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// The value before the first `;`, lower case, such as `text/html`. Empty when there is none.
    pub value: String,
    /// Name in lower case and decoded value, in order, repeated ones too.
    pub list: Vec<(String, String)>,
    /// Whether a value came in continued pieces (`name*0=`).
    pub continued: bool,
}

impl Parameters {
    /// Parses a field's value.
    pub(super) fn parse(raw: &[u8]) -> Self {
        let unfolded = encoded_word::unfold(raw);
        let mut pieces = split(&unfolded).into_iter();
        let value =
            String::from_utf8_lossy(strip_comment(pieces.next().unwrap_or_default())).trim().to_ascii_lowercase();
        let mut simple = Vec::new();
        let mut extended: Vec<(String, Vec<Piece>)> = Vec::new();
        for piece in pieces.take(MAX_PARAMETERS) {
            let Some(equals) = memchr::memchr(b'=', piece) else { continue };
            let name = String::from_utf8_lossy(piece[..equals].trim_ascii()).to_ascii_lowercase();
            let bytes = unquote(piece[equals + 1..].trim_ascii());
            match name.split_once('*') {
                Some((base, rest)) => {
                    let (number, encoded) = match rest.strip_suffix('*') {
                        Some(number) => (number.parse().unwrap_or(0), true),
                        None if rest.is_empty() => (0, true),
                        None => (rest.parse().unwrap_or(0), false),
                    };
                    let piece = Piece { number, encoded, continued: !rest.is_empty(), bytes };
                    match extended.iter_mut().find(|(known, _)| known == base) {
                        Some((_, pieces)) => pieces.push(piece),
                        None => extended.push((base.to_owned(), vec![piece])),
                    }
                }
                None => simple.push((name, encoded_word::decode_text(&bytes).0)),
            }
        }
        let continued = extended.iter().any(|(_, pieces)| pieces.iter().any(|p| p.continued));
        // The extended form is the one to show when both are there (RFC 6266, 4.3, and what mail readers do).
        let mut list: Vec<_> = extended.into_iter().map(|(name, pieces)| (name, join(pieces))).collect();
        list.extend(simple);
        Self { value, list, continued }
    }

    /// The first value of a parameter; the name in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter; the name in lower case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.list.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter occurs with two different values.
    pub(super) fn repeats(&self, name: &str) -> bool {
        let mut values = self.all(name);
        values.next().is_some_and(|first| values.any(|other| other != first))
    }
}

struct Piece {
    number: u32,
    encoded: bool,
    continued: bool,
    bytes: Vec<u8>,
}

/// Joins the pieces of one parameter: `charset'language'text` in the first, percent-encoded where marked.
fn join(mut pieces: Vec<Piece>) -> String {
    pieces.sort_by_key(|piece| piece.number);
    let mut charset = String::new();
    let mut bytes = Vec::new();
    for (place, piece) in pieces.iter().enumerate() {
        let mut text = piece.bytes.as_slice();
        if piece.encoded && place == 0 {
            let mut quotes = memchr::memchr_iter(b'\'', text);
            if let (Some(first), Some(second)) = (quotes.next(), quotes.next()) {
                charset = String::from_utf8_lossy(&text[..first]).into_owned();
                text = &text[second + 1..];
            }
        }
        match piece.encoded {
            true => bytes.extend(decode::percent(text)),
            false => bytes.extend_from_slice(text),
        }
    }
    match encoded_word::has_encoded_word(&bytes) {
        true => encoded_word::decode_text(&bytes).0,
        false => decode::charset(&bytes, &charset),
    }
}

/// Parts at `;` outside of quotes.
fn split(value: &[u8]) -> Vec<&[u8]> {
    let (mut pieces, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' if !quoted => {
                pieces.push(&value[start..at]);
                start = at + 1;
                if pieces.len() > MAX_PARAMETERS {
                    return pieces;
                }
            }
            _ => {}
        }
    }
    // An open quote swallows the rest; lenient readers part there all the same.
    match quoted && start == 0 {
        true => value.split(|b| *b == b';').take(MAX_PARAMETERS).collect(),
        false => {
            pieces.push(&value[start..]);
            pieces
        }
    }
}

fn strip_comment(value: &[u8]) -> &[u8] {
    memchr::memchr(b'(', value).map_or(value, |at| &value[..at])
}

fn unquote(value: &[u8]) -> Vec<u8> {
    let Some(inner) = value.strip_prefix(b"\"") else {
        return strip_comment(value).trim_ascii().to_vec();
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => break,
            b'\\' => match bytes.next() {
                // A backslash before anything but a quote or itself is more often a path than an escape.
                Some(next @ (b'"' | b'\\')) => out.push(*next),
                Some(next) => out.extend_from_slice(&[b'\\', *next]),
                None => {}
            },
            _ => out.push(*byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        #[allow(clippy::type_complexity)]
        let cases: &[(&str, &str, &[(&str, &str)])] = &[
            ("text/HTML", "text/html", &[]),
            ("text/plain; charset=UTF-8", "text/plain", &[("charset", "UTF-8")]),
            ("text/plain; charset=\"a;b\"; x=y", "text/plain", &[("charset", "a;b"), ("x", "y")]),
            ("a/b; name=\"x\\\"y\"", "a/b", &[("name", "x\"y")]),
            ("a/b; boundary=one; boundary=two", "a/b", &[("boundary", "one"), ("boundary", "two")]),
            ("attachment; filename*=UTF-8''%C3%A4.exe", "attachment", &[("filename", "ä.exe")]),
            (
                "attachment; filename*0*=UTF-8''%C3%A4; filename*1=\".ex\"; filename*2=e",
                "attachment",
                &[("filename", "ä.exe")],
            ),
            ("attachment; filename*1=e; filename*0=x.ex", "attachment", &[("filename", "x.exe")]),
            ("a/b; name=\"=?utf-8?B?w6QuZXhl?=\"", "a/b", &[("name", "ä.exe")]),
            ("a/b; filename=a.txt; filename*=utf-8''a.exe", "a/b", &[("filename", "a.exe"), ("filename", "a.txt")]),
            ("a/b (comment); x=y (z)", "a/b", &[("x", "y")]),
            ("a/b; name=two words.pdf", "a/b", &[("name", "two words.pdf")]),
            ("a/b; name=\"open; x=y", "a/b", &[("name", "open; x=y")]),
            ("; ;=;a", "", &[("", "")]),
            ("", "", &[]),
        ];
        for (input, value, list) in cases {
            let got = Parameters::parse(input.as_bytes());
            let got_list: Vec<_> = got.list.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!((got.value.as_str(), got_list.as_slice()), (*value, *list), "{input}");
        }
        assert!(Parameters::parse(b"a/b; boundary=1; boundary=2").repeats("boundary"));
        assert!(!Parameters::parse(b"a/b; boundary=1; boundary=1").repeats("boundary"));
    }
}
