//! Transfer encodings and charsets: base64 and quoted-printable (RFC 2045, 6), lenient as mail readers are.
//!
//! Never fails: what does not decode is passed over (base64) or kept as it stands (quoted-printable), and `broken` says so.
//! Charsets come from mail-parser's tables. Not here: encoded words (RFC 2047).

use mail_parser::decoders::charsets::map::charset_decoder;

/// What decoding gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) bytes: Vec<u8>,
    pub(super) broken: bool,
}

const SKIP: u8 = 0x40;
const PAD: u8 = 0x41;
const BAD: u8 = 0x42;

const fn alphabet() -> [u8; 256] {
    let mut table = [BAD; 256];
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut i = 0;
    while i < letters.len() {
        table[letters[i] as usize] = i as u8;
        i += 1;
    }
    table[b'\r' as usize] = SKIP;
    table[b'\n' as usize] = SKIP;
    table[b' ' as usize] = SKIP;
    table[b'\t' as usize] = SKIP;
    table[b'=' as usize] = PAD;
    table
}

const BASE64: [u8; 256] = alphabet();

/// base64. Data after padding is decoded as well: some readers go on there, so its content must be seen.
pub(super) fn base64(input: &[u8], limit: usize) -> Decoded {
    let mut out = Vec::with_capacity((input.len() / 4 * 3 + 3).min(limit));
    let (mut bits, mut held, mut padded, mut broken) = (0u32, 0u8, false, false);
    let mut at = 0;
    while at < input.len() && out.len() < limit {
        if held == 0
            && let Some(four) = input.get(at..at + 4)
        {
            let [a, b, c, d] = [four[0], four[1], four[2], four[3]].map(|byte| BASE64[byte as usize]);
            if (a | b | c | d) < SKIP {
                broken |= padded;
                let word = u32::from(a) << 18 | u32::from(b) << 12 | u32::from(c) << 6 | u32::from(d);
                out.extend_from_slice(&word.to_be_bytes()[1..]);
                at += 4;
                continue;
            }
        }
        match BASE64[input[at] as usize] {
            SKIP => {}
            PAD => {
                flush(&mut out, bits, held, &mut broken);
                (bits, held, padded) = (0, 0, true);
            }
            BAD => broken = true,
            value => {
                broken |= padded;
                bits = bits << 6 | u32::from(value);
                held += 1;
                if held == 4 {
                    out.extend_from_slice(&bits.to_be_bytes()[1..]);
                    (bits, held) = (0, 0);
                }
            }
        }
        at += 1;
    }
    flush(&mut out, bits, held, &mut broken);
    out.truncate(limit);
    Decoded { bytes: out, broken }
}

fn flush(out: &mut Vec<u8>, bits: u32, held: u8, broken: &mut bool) {
    match held {
        0 => {}
        2 => out.push((bits >> 4) as u8),
        3 => out.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
        _ => *broken = true,
    }
}

/// quoted-printable; with `word`, the `Q` encoding of RFC 2047, 4.2 (`_` is a space).
pub(super) fn quoted_printable(input: &[u8], limit: usize, word: bool) -> Decoded {
    let mut out = Vec::with_capacity(input.len().min(limit));
    let mut broken = false;
    let mut at = 0;
    while at < input.len() && out.len() < limit {
        let rest = &input[at..];
        let plain = match word {
            true => memchr::memchr2(b'=', b'_', rest),
            false => memchr::memchr(b'=', rest),
        }
        .unwrap_or(rest.len());
        out.extend_from_slice(&rest[..plain]);
        at += plain;
        let Some(byte) = input.get(at) else { break };
        if *byte == b'_' {
            out.push(b' ');
            at += 1;
            continue;
        }
        match (input.get(at + 1).and_then(hex), input.get(at + 2).and_then(hex)) {
            (Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            _ => match soft_break(&input[at + 1..]) {
                Some(length) => at += 1 + length,
                None => {
                    broken = true;
                    out.push(b'=');
                    at += 1;
                }
            },
        }
    }
    out.truncate(limit);
    Decoded { bytes: out, broken }
}

/// Length of white space and line end after a `=`; at the end of the input nothing is needed.
fn soft_break(rest: &[u8]) -> Option<usize> {
    let blank = rest.iter().take_while(|b| **b == b' ' || **b == b'\t').count();
    match &rest[blank..] {
        [b'\r', b'\n', ..] => Some(blank + 2),
        [b'\n', ..] => Some(blank + 1),
        [] => Some(blank),
        _ => None,
    }
}

fn hex(byte: &u8) -> Option<u8> {
    (*byte as char).to_digit(16).map(|digit| digit as u8)
}

/// Percent decoding (RFC 2231, 4); what is no escape stays.
pub(super) fn percent(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len());
    let mut at = 0;
    while let Some(byte) = input.get(at) {
        match (*byte, input.get(at + 1).and_then(hex), input.get(at + 2).and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

/// Whether a charset's name is known.
pub(super) fn charset_known(name: &str) -> bool {
    is_utf8(name) || charset_decoder(name.as_bytes()).is_some()
}

/// Whether bytes in this charset can be taken as UTF-8 when they are UTF-8.
pub(super) fn is_utf8(name: &str) -> bool {
    ["", "utf-8", "utf8", "us-ascii", "ascii", "unicode-1-1-utf-8"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether ASCII bytes in this charset are themselves: the single-byte families that mail is written in.
pub(super) fn keeps_ascii(name: &str) -> bool {
    ["iso-8859-", "windows-125", "cp125", "latin"]
        .iter()
        .any(|family| name.get(..family.len()).is_some_and(|start| start.eq_ignore_ascii_case(family)))
}

/// Bytes in a charset as text. Unknown charsets and broken UTF-8 are read as Windows-1252.
pub(super) fn charset(bytes: &[u8], name: &str) -> String {
    if is_utf8(name)
        && let Ok(text) = str::from_utf8(bytes)
    {
        return text.to_owned();
    }
    let utf8_named = name.to_ascii_lowercase().contains("utf") && is_utf8(name);
    match charset_decoder(name.as_bytes()) {
        Some(decode) if !is_utf8(name) => decode(bytes),
        // Declared UTF-8 with some bytes wrong: mostly a cut character; the rest must stay readable.
        _ if utf8_named => String::from_utf8_lossy(bytes).into_owned(),
        _ => match str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                charset_decoder(b"cp1252").map_or_else(|| String::from_utf8_lossy(bytes).into_owned(), |d| d(bytes))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_table() {
        let cases: &[(&str, &str, bool)] = &[
            ("", "", false),
            ("TQ==", "M", false),
            ("TWE=", "Ma", false),
            ("TWFu", "Man", false),
            ("TWFuTQ", "ManM", false),
            ("TWE", "Ma", false),
            ("TW\r\nFu\n", "Man", false),
            ("T W\tF u", "Man", false),
            ("TQ==TWFu", "MMan", true),
            ("TW*Fu", "Man", true),
            ("T", "", true),
        ];
        for (input, expected, broken) in cases {
            let got = base64(input.as_bytes(), 100);
            assert_eq!((str::from_utf8(&got.bytes).unwrap(), got.broken), (*expected, *broken), "{input}");
        }
        assert_eq!(base64(b"TWFuTWFu", 4).bytes, b"ManM");
    }

    #[test]
    fn quoted_printable_table() {
        let cases: &[(&str, &str, bool)] = &[
            ("a=3Db", "a=b", false),
            ("a=3db", "a=b", false),
            ("a=\r\nb", "ab", false),
            ("a= \t\nb", "ab", false),
            ("a=", "a", false),
            ("a=zb", "a=zb", true),
            ("a=4", "a=4", true),
            ("a_b", "a_b", false),
        ];
        for (input, expected, broken) in cases {
            let got = quoted_printable(input.as_bytes(), 100, false);
            assert_eq!((str::from_utf8(&got.bytes).unwrap(), got.broken), (*expected, *broken), "{input}");
        }
        assert_eq!(quoted_printable(b"a_=5F", 100, true).bytes, b"a _");
    }

    #[test]
    fn charsets() {
        assert_eq!(charset(b"\xe1", "iso-8859-1"), "\u{e1}");
        assert_eq!(charset(b"\xe1", "no-such"), "\u{e1}");
        assert_eq!(charset("ä".as_bytes(), "no-such"), "ä");
        assert_eq!(charset(b"a\xc3", "utf-8"), "a\u{fffd}");
        assert_eq!(charset(b"\xe1", "us-ascii"), "\u{e1}");
        assert!(charset_known("UTF-8") && charset_known("koi8-r") && !charset_known("no-such"));
    }
}
