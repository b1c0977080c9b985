//! Header text: unfolding (RFC 5322, 2.2.3) and encoded words (RFC 2047), lenient as mail readers are.
//!
//! Adjacent words of one charset are joined before the charset is decoded: senders cut characters in two.

use super::decode;

/// RFC 2047 says 75; careless senders write a whole subject as one word. A bound keeps the work linear.
const MAX_WORD_BYTES: usize = 4_096;

/// Decodes unstructured header text. The flag tells that an encoded word did not decode.
pub(super) fn decode_text(raw: &[u8]) -> (String, bool) {
    let unfolded = unfold(raw);
    let text = unfolded.trim_ascii();
    if memchr::memmem::find(text, b"=?").is_none() {
        return (decode::charset(text, ""), false);
    }
    let mut out = String::with_capacity(text.len());
    // Bytes of adjacent words in one charset, not yet turned into text.
    let mut pending: Option<(String, Vec<u8>)> = None;
    let mut broken = false;
    let mut rest = text;
    while !rest.is_empty() {
        let start = memchr::memmem::find(rest, b"=?").unwrap_or(rest.len());
        let (plain, tail) = rest.split_at(start);
        let word = word(tail);
        // White space between two encoded words is not part of the text (RFC 2047, 6.2).
        let joins = pending.is_some() && word.is_some() && plain.iter().all(u8::is_ascii_whitespace);
        if !joins {
            flush(&mut out, &mut pending);
            out.push_str(&decode::charset(plain, ""));
        }
        match word {
            Some(word) => {
                broken |= word.broken;
                match &mut pending {
                    Some((charset, bytes)) if charset.eq_ignore_ascii_case(word.charset) => bytes.extend(word.bytes),
                    _ => {
                        flush(&mut out, &mut pending);
                        pending = Some((word.charset.to_owned(), word.bytes));
                    }
                }
                rest = &tail[word.length..];
            }
            None if tail.is_empty() => break,
            None => {
                flush(&mut out, &mut pending);
                out.push_str("=?");
                broken = true;
                rest = &tail[2..];
            }
        }
    }
    flush(&mut out, &mut pending);
    (out, broken)
}

/// Whether an encoded word seems to be in there.
pub(super) fn has_encoded_word(raw: &[u8]) -> bool {
    memchr::memmem::find(raw, b"=?").is_some() && memchr::memmem::find(raw, b"?=").is_some()
}

/// Takes line ends out; the white space of a fold stays, as RFC 5322 says.
pub(super) fn unfold(raw: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if memchr::memchr2(b'\r', b'\n', raw).is_none() {
        return raw.into();
    }
    raw.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect::<Vec<u8>>().into()
}

struct Word<'a> {
    charset: &'a str,
    bytes: Vec<u8>,
    broken: bool,
    length: usize,
}

/// `=?charset*language?B|Q?text?=` at the start of `input`.
fn word(input: &[u8]) -> Option<Word<'_>> {
    let inner = input.strip_prefix(b"=?")?;
    let charset_end = memchr::memchr(b'?', &inner[..inner.len().min(80)])?;
    let charset = str::from_utf8(&inner[..charset_end]).ok()?;
    let charset = charset.split('*').next().unwrap_or_default();
    let encoding = *inner.get(charset_end + 1)?;
    if inner.get(charset_end + 2) != Some(&b'?') {
        return None;
    }
    let text = &inner[charset_end + 3..];
    let end = memchr::memmem::find(&text[..text.len().min(MAX_WORD_BYTES)], b"?=")?;
    let decoded = match encoding {
        b'B' | b'b' => decode::base64(&text[..end], MAX_WORD_BYTES),
        b'Q' | b'q' => decode::quoted_printable(&text[..end], MAX_WORD_BYTES, true),
        _ => return None,
    };
    let broken = decoded.broken || !decode::charset_known(charset);
    Some(Word { charset, bytes: decoded.bytes, broken, length: 2 + charset_end + 3 + end + 2 })
}

fn flush(out: &mut String, pending: &mut Option<(String, Vec<u8>)>) {
    if let Some((charset, bytes)) = pending.take() {
        out.push_str(&decode::charset(&bytes, &charset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let cases: &[(&str, &str, bool)] = &[
            ("plain", "plain", false),
            (" a\r\n b ", "a b", false),
            ("=?utf-8?B?w6Q=?=", "ä", false),
            ("=?UTF-8?q?=C3=A4_b?= c", "ä b c", false),
            ("=?utf-8?Q?a?= =?utf-8?Q?b?=", "ab", false),
            ("=?utf-8?Q?a?=\r\n =?utf-8?Q?b?=", "ab", false),
            ("=?utf-8?Q?=C3?= =?utf-8?Q?=A4?=", "ä", false),
            ("=?utf-8?Q?a?= x =?utf-8?Q?b?=", "a x b", false),
            ("=?iso-8859-1*de?Q?=E4?=", "ä", false),
            ("=?no-such?Q?a?=", "a", true),
            ("=?utf-8?X?a?=", "=?utf-8?X?a?=", true),
            ("a =? b", "a =? b", true),
            ("=?utf-8?Q?a", "=?utf-8?Q?a", true),
        ];
        for (input, expected, broken) in cases {
            assert_eq!(decode_text(input.as_bytes()), ((*expected).to_owned(), *broken), "{input}");
        }
    }
}
