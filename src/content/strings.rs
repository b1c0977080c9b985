//! Text and printable runs of a file: the whole file as text when it is text, runs of printable ASCII otherwise.
//!
//! Charsets told: UTF-8, UTF-16 (by mark or by its zeros), ISO 8859-1. Bounded by the caller's slice and `max_strings`.

use std::ops::Range;

/// Shortest run of printable characters that is given, in characters.
pub(super) const SHORTEST: usize = 4;

/// The text of a file that is text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Text {
    /// Not text.
    None,
    /// The bytes are UTF-8 from here on (a mark is skipped).
    AsIs(usize),
    /// Decoded from another charset.
    Decoded(String),
}

/// Which charset a text was written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    Ascii,
    Utf8,
    Utf16,
    Latin1,
}

/// Tells whether the file is text as a whole, and decodes it.
pub(super) fn text(bytes: &[u8]) -> (Text, Option<Charset>) {
    if bytes.is_empty() {
        return (Text::None, None);
    }
    if let Some(wide) = wide(bytes) {
        return (Text::Decoded(wide), Some(Charset::Utf16));
    }
    if bytes.iter().any(|b| is_control(*b)) {
        return (Text::None, None);
    }
    let start = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    if std::str::from_utf8(bytes).is_ok() {
        let charset = if bytes.is_ascii() { Charset::Ascii } else { Charset::Utf8 };
        return (Text::AsIs(start), Some(charset));
    }
    let high = bytes.iter().filter(|b| **b >= 0x80).count();
    if high * 3 > bytes.len() {
        return (Text::None, None);
    }
    (Text::Decoded(bytes.iter().map(|b| char::from(*b)).collect()), Some(Charset::Latin1))
}

/// Control characters that no text has.
fn is_control(byte: u8) -> bool {
    matches!(byte, 0..=6 | 0x0e..=0x1a | 0x1c..=0x1f | 0x7f)
}

fn wide(bytes: &[u8]) -> Option<String> {
    let (body, little) = match bytes {
        [0xff, 0xfe, rest @ ..] => (rest, true),
        [0xfe, 0xff, rest @ ..] => (rest, false),
        // Without a mark: the first characters are ASCII, each with a zero.
        [a, 0, b, 0, c, 0, ..] if is_plain(*a) && is_plain(*b) && is_plain(*c) => (bytes, true),
        [0, a, 0, b, 0, c, ..] if is_plain(*a) && is_plain(*b) && is_plain(*c) => (bytes, false),
        _ => return None,
    };
    let units = body.as_chunks::<2>().0.iter().map(|pair| match little {
        true => u16::from_le_bytes(*pair),
        false => u16::from_be_bytes(*pair),
    });
    let mut out = String::with_capacity(body.len() / 2);
    let mut odd = 0;
    for c in char::decode_utf16(units) {
        let c = c.unwrap_or(char::REPLACEMENT_CHARACTER);
        odd += usize::from(c == char::REPLACEMENT_CHARACTER || (u32::from(c) < 0x80 && is_control(c as u8)));
        out.push(c);
    }
    (!out.is_empty() && odd * 20 <= out.len()).then_some(out)
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\r' | b'\n' | b' '..=b'~')
}

/// Runs of at least [`SHORTEST`] printable ASCII characters, at most `most`.
pub(super) fn runs(bytes: &[u8], most: usize) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut start = 0;
    for at in 0..=bytes.len() {
        if bytes.get(at).is_some_and(|b| matches!(b, b' '..=b'~')) {
            continue;
        }
        if at - start >= SHORTEST {
            if out.len() >= most {
                break;
            }
            out.push(start..at);
        }
        start = at + 1;
    }
    out
}

/// Shannon entropy in bits a byte, 0 to 8.
pub(super) fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u64; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    #[allow(clippy::cast_precision_loss)] // Far below 2^52.
    let (total, counts) = (bytes.len() as f64, counts.map(|c| c as f64));
    counts.iter().filter(|c| **c > 0.0).map(|c| -(c / total) * (c / total).log2()).sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charsets() {
        assert_eq!(text(b"plain\r\n"), (Text::AsIs(0), Some(Charset::Ascii)));
        assert_eq!(text("\u{feff}größe".as_bytes()), (Text::AsIs(3), Some(Charset::Utf8)));
        assert_eq!(
            text(b"gr\xf6\xdfe und noch mehr"),
            (Text::Decoded("größe und noch mehr".into()), Some(Charset::Latin1))
        );
        for (mark, little) in [(&b"\xff\xfe"[..], true), (b"", true), (b"\xfe\xff", false), (b"", false)] {
            let mut bytes = mark.to_vec();
            for unit in "<html>é</html>".encode_utf16() {
                bytes.extend(if little { unit.to_le_bytes() } else { unit.to_be_bytes() });
            }
            assert_eq!(
                text(&bytes),
                (Text::Decoded("<html>é</html>".into()), Some(Charset::Utf16)),
                "{mark:?} {little}"
            );
        }
        for binary in [&b""[..], b"MZ\x90\0\x03", b"\0\0\0\0", b"\xff\xd8\xff\xe0", b"abc\0def"] {
            assert_eq!(text(binary).0, Text::None, "{binary:?}");
        }
    }

    #[test]
    fn printable_runs() {
        let bytes = b"\0abcd\x01abc\x02 efgh\ttail";
        let found: Vec<&[u8]> = runs(bytes, 10).into_iter().map(|r| &bytes[r]).collect();
        assert_eq!(found, [&b"abcd"[..], b" efgh", b"tail"]);
        assert_eq!(runs(bytes, 1).len(), 1);
    }

    #[test]
    fn entropies() {
        assert!(entropy(b"").abs() < 1e-9 && entropy(b"aaaa").abs() < 1e-9);
        assert!((entropy(b"abab") - 1.0).abs() < 1e-9);
        let all: Vec<u8> = (0..=255).collect();
        assert!((entropy(&all) - 8.0).abs() < 1e-9);
    }
}
