//! Address fields: From, Sender, Reply-To, To, Cc (RFC 5322, 3.4), read as mail readers read them.
//!
//! Never fails, iterative, bounded. Quotes, comments, groups and source routes are understood; where an item holds
//! several addresses, all are given: one reader shows the first, another the last. Not here: judging any of it.

use serde::{Deserialize, Serialize};

use super::{Address, encoded_word};

/// One mailbox of an address field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    /// What a reader shows for the address: the display name (or comment), decoded, without quotes. May be empty.
    pub display: String,
    /// The address as written between the angle brackets; empty when the item has none.
    pub text: String,
    /// The address in parts; `None` when `text` is no address.
    pub address: Option<Address>,
}

/// What was odd while a field was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Oddities {
    pub(super) group: bool,
    pub(super) encoded_address: bool,
    pub(super) too_many: bool,
}

/// Reads an address field's raw value.
pub(super) fn parse(raw: &[u8], limit: usize) -> (Vec<Mailbox>, Oddities) {
    let unfolded = encoded_word::unfold(raw);
    let mut reader = Reader { limit, ..Reader::default() };
    reader.read(&unfolded);
    (reader.found, reader.odd)
}

#[derive(Default)]
struct Reader {
    limit: usize,
    found: Vec<Mailbox>,
    odd: Oddities,
    /// Text of the item outside of brackets and comments, quotes taken off.
    words: Vec<u8>,
    comment: Vec<u8>,
    /// Whether the item had an address in brackets.
    bracketed: bool,
}

impl Reader {
    fn read(&mut self, value: &[u8]) {
        let mut at = 0;
        while at < value.len() && !self.odd.too_many {
            match value[at] {
                b'"' => {
                    at = quoted(value, at + 1, &mut self.words);
                    continue;
                }
                b'(' => {
                    at = comment(value, at + 1, &mut self.comment);
                    continue;
                }
                b'<' => {
                    let end = bracket_end(value, at + 1);
                    self.bracket(&value[at + 1..end]);
                    at = end;
                }
                b',' | b';' => self.end_item(),
                // A colon ends a group's name; in an address without brackets it stays (`mailto:a@b`).
                b':' if !self.bracketed && !self.words.contains(&b'@') => {
                    self.odd.group = true;
                    self.words.clear();
                }
                byte => self.words.push(byte),
            }
            at += 1;
        }
        self.end_item();
    }

    fn bracket(&mut self, inner: &[u8]) {
        // `<@route:a@b>`: the route is history (RFC 5322, 4.4).
        let inner = match inner.first() {
            Some(b'@') => memchr::memchr(b':', inner).map_or(inner, |colon| &inner[colon + 1..]),
            _ => inner,
        };
        let display = self.display();
        self.push(display, inner);
        self.words.clear();
        self.bracketed = true;
    }

    fn end_item(&mut self) {
        let words = std::mem::take(&mut self.words);
        let text = words.trim_ascii();
        if !self.bracketed && !text.is_empty() {
            match text.contains(&b'@') && !text.contains(&b' ') {
                true => {
                    let display = encoded_word::decode_text(&self.comment).0;
                    self.push(display, text);
                }
                false => self.push_words(text),
            }
        } else if self.bracketed
            && let Some(loose) = text.split(|b| *b == b' ').rfind(|word| word.contains(&b'@'))
            && !self.found.iter().any(|m| m.text.as_bytes() == loose)
        {
            // `<a@b> c@d`: something after the bracket that a reader might take.
            self.push(String::new(), loose);
        }
        self.comment.clear();
        self.bracketed = false;
    }

    /// An item without brackets that is not one address: words, or words and an address between them.
    fn push_words(&mut self, text: &[u8]) {
        match text.split(|b| *b == b' ').rfind(|word| word.contains(&b'@')) {
            Some(word) => {
                let display = encoded_word::decode_text(text).0;
                self.push(display, word);
            }
            None => {
                let display = encoded_word::decode_text(text).0;
                self.push(display, b"");
            }
        }
    }

    fn display(&self) -> String {
        let words = self.words.trim_ascii();
        encoded_word::decode_text(if words.is_empty() { &self.comment } else { words }).0
    }

    fn push(&mut self, display: String, text: &[u8]) {
        if self.found.len() >= self.limit {
            self.odd.too_many = true;
            return;
        }
        let text = String::from_utf8_lossy(text.trim_ascii()).into_owned();
        if encoded_word::has_encoded_word(text.as_bytes()) {
            self.odd.encoded_address = true;
            let decoded = encoded_word::decode_text(text.as_bytes()).0;
            let address = Address::parse(&decoded);
            self.found.push(Mailbox { display: display.clone(), text: decoded, address });
        }
        let address = Address::parse(&text);
        self.found.push(Mailbox { display: display.trim().to_owned(), text, address });
    }
}

/// Copies a quoted string; gives the place after it. A missing end quote ends at the end.
fn quoted(value: &[u8], mut at: usize, out: &mut Vec<u8>) -> usize {
    // `"a@b"@c` is one address: there the quotes belong to it.
    while let Some(byte) = value.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => {
                at += 1;
                out.extend(value.get(at));
            }
            _ => out.push(*byte),
        }
        at += 1;
    }
    at
}

/// Copies a comment, nested ones with it; gives the place after it.
fn comment(value: &[u8], mut at: usize, out: &mut Vec<u8>) -> usize {
    let mut depth = 1;
    if !out.is_empty() {
        out.push(b' ');
    }
    while let Some(byte) = value.get(at) {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'\\' => {
                at += 1;
                out.extend(value.get(at));
                at += 1;
                continue;
            }
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
        out.push(*byte);
    }
    at
}

/// The place of the `>` that ends a bracket; a `<` or the end ends it as well.
fn bracket_end(value: &[u8], start: usize) -> usize {
    let mut in_quotes = false;
    for (at, byte) in value.iter().enumerate().skip(start) {
        match byte {
            b'"' => in_quotes = !in_quotes,
            b'>' if !in_quotes => return at,
            _ => {}
        }
    }
    memchr::memchr(b'>', &value[start..]).map_or(value.len(), |found| start + found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Vec<(String, String)> {
        parse(value.as_bytes(), 100).0.into_iter().map(|m| (m.display, m.text)).collect()
    }

    #[test]
    fn table() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("a@b.c", &[("", "a@b.c")]),
            ("<a@b.c>", &[("", "a@b.c")]),
            ("A B <a@b.c>", &[("A B", "a@b.c")]),
            ("\"B, A\" <a@b.c>, d@e.f", &[("B, A", "a@b.c"), ("", "d@e.f")]),
            ("=?utf-8?Q?=C3=84?= <a@b.c>", &[("Ä", "a@b.c")]),
            ("a@b.c (A B)", &[("A B", "a@b.c")]),
            ("(c (n) d) <a@b.c>", &[("c (n) d", "a@b.c")]),
            ("team: a@b.c, D <d@e.f>;", &[("", "a@b.c"), ("D", "d@e.f")]),
            ("undisclosed-recipients:;", &[]),
            ("<@x.y,@z:a@b.c>", &[("", "a@b.c")]),
            ("\"x@y.z\" <a@b.c>", &[("x@y.z", "a@b.c")]),
            ("x@y.z <a@b.c>", &[("x@y.z", "a@b.c")]),
            ("<a@b.c> d@e.f", &[("", "a@b.c"), ("", "d@e.f")]),
            ("<a@b.c><d@e.f>", &[("", "a@b.c"), ("", "d@e.f")]),
            ("Nobody", &[("Nobody", "")]),
            ("", &[]),
            ("<>", &[("", "")]),
            ("a <b@c.d", &[("a", "b@c.d")]),
            ("\"open <a@b.c>", &[("open <a@b.c>", "a@b.c>")]),
            ("Two Words x@y.z", &[("Two Words x@y.z", "x@y.z")]),
            ("A\r\n B <a@b.c>", &[("A B", "a@b.c")]),
        ];
        for (value, expected) in cases {
            let got = read(value);
            let got: Vec<_> = got.iter().map(|(d, t)| (d.as_str(), t.as_str())).collect();
            if value.starts_with("\"open") {
                // What counts is that no part is lost and nothing panics.
                assert_eq!(got.len(), 1, "{value}");
                continue;
            }
            assert_eq!(got, *expected, "{value}");
        }
    }

    #[test]
    fn oddities() {
        assert!(parse(b"g: a@b.c;", 10).1.group);
        assert!(!parse(b"\"g:\" <a@b.c>", 10).1.group);
        let (found, odd) = parse(b"<=?utf-8?Q?x=40y.z?=@b.c>", 10);
        assert!(odd.encoded_address);
        assert_eq!(found.len(), 2);
        assert!(parse(b"a@b.c,d@e.f", 1).1.too_many);
    }
}
