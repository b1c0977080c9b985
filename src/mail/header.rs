//! Header fields as they stand in the message (RFC 5322, 2.2): every one, in order, with its raw bytes.

use std::borrow::Cow;
use std::ops::Range;

use super::encoded_word;

/// Where one field stands in the raw message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldPlace {
    pub(super) name: Range<usize>,
    pub(super) value: Range<usize>,
}

/// One header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as sent, without white space before the colon; printable ASCII.
    pub name: &'a str,
    /// The bytes between the colon and the line end of the last line; folds are in there.
    pub raw: &'a [u8],
}

impl<'a> Field<'a> {
    pub(super) fn new(message: &'a [u8], place: &FieldPlace) -> Self {
        Self {
            // Only ASCII is taken for a name.
            name: str::from_utf8(&message[place.name.clone()]).unwrap_or_default(),
            raw: &message[place.value.clone()],
        }
    }

    /// Whether this is the field of that name, without regard to case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The value unfolded and trimmed, encoded words decoded.
    pub fn text(&self) -> String {
        encoded_word::decode_text(self.raw).0
    }

    /// The value unfolded and trimmed, encoded words left as they are.
    pub fn unfolded(&self) -> Cow<'a, str> {
        match encoded_word::unfold(self.raw) {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes.trim_ascii()),
            Cow::Owned(bytes) => String::from_utf8_lossy(bytes.trim_ascii()).into_owned().into(),
        }
    }
}

/// Length of a field's name when `line` begins a field: printable ASCII up to a colon, white space before it allowed.
///
/// The second value tells that there was such white space.
pub(super) fn field_name(line: &[u8]) -> Option<(usize, bool)> {
    let colon = memchr::memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    let valid = !name.is_empty() && name.iter().all(|b| (33..=126).contains(b));
    valid.then_some((name.len(), name.len() < colon))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let cases: &[(&str, Option<(usize, bool)>)] = &[
            ("Subject: x", Some((7, false))),
            ("Subject : x", Some((7, true))),
            (": x", None),
            (":From: x", None),
            ("no colon", None),
            ("two words: x", None),
            ("Sübject: x", None),
            ("X:", Some((1, false))),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(field_name(line.as_bytes()), *expected, "{line}");
        }
    }
}
