//! Text without what tells who is written to: addresses, paths and queries of URLs, numbers of [`DIGITS`] digits and more.
//!
//! URLs are found as people and mail programs read them: with any scheme or none, with backslashes, with dots in brackets. Of what
//! looks like a host and goes on after it the rest of the word is dropped: rather too much than a link that somebody could use.
//! Linear in the text. Not here: names of people, and words that only a reader understands; shorter numbers (a year, a price) stay.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// Shorter numbers tell nobody who somebody is: a year, a price.
const DIGITS: usize = 5;
/// What is read as a slash.
const SLASHES: [char; 5] = ['/', '\\', '\u{2044}', '\u{2215}', '\u{ff0f}'];
/// What is read as a dot (RFC 3490, 3.1).
const DOTS: [char; 4] = ['.', '\u{3002}', '\u{ff0e}', '\u{ff61}'];
/// What people write around dots and signs, so that nothing makes a link of it.
const BRACKETS: [char; 6] = ['(', ')', '[', ']', '{', '}'];

/// At most so many characters of a text, redacted.
pub(super) fn redacted(text: &str, max_chars: usize) -> String {
    static ADDRESS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let plain = r"[^\s<>@\u{ff20},;:]+(?:[@\u{ff20}]|%40)[^\s<>@\u{ff20},;:]+";
        let spelt = r"[^\s<>,;:()\[\]{}]+ ?[(\[{] ?(?:@|at|ät) ?[)\]}] ?[^\s<>,;:()\[\]{}]+";
        Regex::new(&format!("(?i){plain}|{spelt}")).ok()
    });
    // A pattern that does not compile would let secrets out: then nothing goes out.
    let Some(address) = ADDRESS.as_ref() else { return String::new() };
    // Redacting shortens: what is cut off is cut before, with room to spare.
    let text = first(text, max_chars.saturating_mul(2));
    let text = if text.contains(is_sign) { Cow::Owned(without_paths(text)) } else { Cow::Borrowed(text) };
    let text = address.replace_all(&text, "[address]");
    first(&without_numbers(&text), max_chars).to_owned()
}

/// At most so many characters.
fn first(text: &str, chars: usize) -> &str {
    // There are no more characters than bytes.
    let end = if text.len() <= chars { None } else { text.char_indices().nth(chars) };
    end.map_or(text, |(at, _)| &text[..at])
}

fn without_paths(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"');
    let mut out = String::with_capacity(text.len());
    for part in text.split_inclusive(ends) {
        let word = part.trim_end_matches(ends);
        match place(word) {
            Some((before, host)) => out.extend([before, host, "/…"]),
            None => out.push_str(word),
        }
        out.push_str(&part[word.len()..]);
    }
    out
}

/// Where a word leads, when it says more than that: what stands before the host, and the host.
fn place(word: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    for (at, sign) in word.char_indices().filter(|(_, c)| is_sign(*c)) {
        let (piece, rest) = (&word[from..at], &word[at..]);
        let authority = rest.trim_start_matches(SLASHES);
        let schemed = piece.trim_end_matches(BRACKETS).ends_with(':');
        if schemed && rest.chars().take(2).filter(|c| SLASHES.contains(c)).count() == 2 && !authority.is_empty() {
            let before = &word[..word.len() - authority.len()];
            let authority = authority.split(is_sign).next().unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default();
            return Some((before, host.split(|c| !is_in_host(c) && c != ':').next().unwrap_or_default()));
        }
        // A question mark may be one.
        let goes_on = SLASHES.contains(&sign) || rest.len() > sign.len_utf8();
        if let Some(host) = host_at_end(piece).filter(|_| goes_on) {
            return Some((&word[..at - host.len()], host));
        }
        from = at + sign.len_utf8();
    }
    None
}

/// The name of a host, or an IPv4 address, that ends a text, with its port.
fn host_at_end(text: &str) -> Option<&str> {
    let is_port = |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let named = text.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(text, |(name, _)| name);
    let name = named.rsplit(|c| !is_in_host(c)).next()?;
    let labels = name.split(DOTS).map(|label| label.trim_matches(BRACKETS)).filter(|label| !label.is_empty());
    let (mut count, mut last, mut numbers) = (0, "", 0);
    for label in labels {
        (count, last) = (count + 1, label);
        numbers += usize::from(label.bytes().all(|byte| byte.is_ascii_digit()));
    }
    let top_level =
        last.chars().nth(1).is_some() && (last.chars().all(char::is_alphabetic) || last.starts_with("xn--"));
    let is_host = count >= 2 && top_level || count == 4 && numbers == 4;
    is_host.then(|| &text[named.len() - name.len()..])
}

/// Where a path, a query or a fragment begins.
fn is_sign(c: char) -> bool {
    SLASHES.contains(&c) || matches!(c, '?' | '#')
}

fn is_in_host(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_') || DOTS.contains(&c) || BRACKETS.contains(&c)
}

/// Text without numbers of [`DIGITS`] digits and more, written in one or with a sign between two digits.
fn without_numbers(text: &str) -> Cow<'_, str> {
    let (mut out, mut kept, mut at) = (String::new(), 0, 0);
    // Most of a text is no digit: it is passed over byte by byte.
    let may_be_digit = |byte: u8| byte.is_ascii_digit() || !byte.is_ascii();
    while let Some(skipped) = text[at..].bytes().position(may_be_digit) {
        at += skipped;
        let (digits, length) = number(&text[at..]);
        if digits >= DIGITS {
            out.push_str(&text[kept..at]);
            out.push_str("[number]");
            kept = at + length;
        }
        // The character at least.
        at += length.max(text[at..].chars().next().map_or(1, char::len_utf8));
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[kept..]);
    Cow::Owned(out)
}

/// How many digits the number at the start has, and how long it is in bytes.
fn number(text: &str) -> (usize, usize) {
    let (mut digits, mut length) = (0, 0);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c.is_numeric() {
            (digits, length) = (digits + 1, at + c.len_utf8());
        } else if digits == 0 || !" .-/".contains(c) || !chars.peek().is_some_and(|(_, next)| next.is_numeric()) {
            break;
        }
    }
    (digits, length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_tells_who_is_written_to_is_taken_out() {
        let text = "Dear erika@example.org, your card 4111 1111-1111 1111 (PIN 1234) is blocked: \
            https://u:p@evil.example/login?user=erika#x <mailto:x@y.example>";
        assert_eq!(
            redacted(text, 1_000),
            "Dear [address], your card [number] (PIN 1234) is blocked: https://evil.example/… <mailto:[address]>"
        );
        assert_eq!(redacted("äöü1234567", 3), "äöü");
        for (text, without) in [
            ("1234", "1234"),
            ("in 2026, 12345.", "in 2026, [number]."),
            ("1 2-3.4/5", "[number]"),
            ("1  2345 6", "1  [number]"),
            ("1-2-3-4-", "1-2-3-4-"),
            ("-12345-", "-[number]-"),
            ("ä١٢٣٤٥ö", "ä[number]ö"),
            ("1a2345678a9", "1a[number]a9"),
        ] {
            assert_eq!(redacted(text, 1_000), without, "{text}");
        }
        assert_eq!(redacted(&"x".repeat(100_000), 10).len(), 10);
    }

    #[test]
    fn of_urls_the_host_is_left_however_they_are_written() {
        for (text, left) in [
            ("www.bank.example/reset/AbCdEfToken?u=john.doe", "www.bank.example/…"),
            ("bank.example/u/john?t=secretvalue", "bank.example/…"),
            ("bank.example?t=secretvalue", "bank.example/…"),
            ("bank.example:8443/u/john", "bank.example:8443/…"),
            ("(see bank.example/u/john).", "(see bank.example/…"),
            ("to=bank.example/u", "to=bank.example/…"),
            ("and/or/www.bank.example/u", "and/or/www.bank.example/…"),
            ("ftp://h.example/priv/path", "ftp://h.example/…"),
            ("hxxps://x.example/secretpath", "hxxps://x.example/…"),
            ("hxxps[:]//x[.]example/secretpath", "hxxps[:]//x[.]example/…"),
            ("x[.]example/secretpath", "x[.]example/…"),
            (r"https:\\e.example\hid", r"https:\\e.example/…"),
            (r"https:\e.example\hid", r"https:\e.example/…"),
            (r"e.example\hid", "e.example/…"),
            ("https:/e.example/hid", "https:/e.example/…"),
            ("https:e.example/hid", "https:e.example/…"),
            ("HTTPS:////e.example/hid", "HTTPS:////e.example/…"),
            ("https://john:pw@e.example;x=secret/y", "https://e.example/…"),
            ("https://e.example", "https://e.example/…"),
            ("http://[2001:db8::1]:80/x", "http://[2001:db8::1]:80/…"),
            ("http://;secret/x", "http:///…"),
            ("192.0.2.1/x", "[number]/…"),
            ("bücher.example/x", "bücher.example/…"),
            ("bank。example／x", "bank。example/…"),
            ("a.example/x,b.example/y", "a.example/…"),
            ("<a href=\"e.example/x\">e.example/x</a>", "<a href=\"e.example/…\">e.example/…</a>"),
        ] {
            assert_eq!(redacted(text, 1_000), left, "{text}");
        }
        for text in [
            "and/or",
            "24/7",
            "km/h",
            "z.B./d.h.",
            "1.5/2.5",
            "bank.example?",
            "bank.example.",
            "a / b",
            "?",
            "//",
            "C#",
        ] {
            assert_eq!(redacted(text, 1_000), text);
        }
    }

    #[test]
    fn addresses_are_taken_out_however_they_are_written() {
        for text in [
            "john.doe@corp.example",
            "john.doe(at)corp.example",
            "john.doe [at] corp.example",
            "john.doe{AT}corp.example",
            "john.doe[@]corp.example",
            "john.doe\u{ff20}corp.example",
            "john.doe%40corp.example",
        ] {
            assert_eq!(redacted(text, 1_000), "[address]", "{text}");
        }
        assert_eq!(redacted("we met at noon (at last)", 1_000), "we met at noon (at last)");
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in r"[a-c.:/\\?#@()\[\] <äٴ－。／1-9%4]{0,200}") {
            let once = redacted(&text, 1_000);
            prop_assert!(once.chars().count() <= 1_000);
            prop_assert!(!once.contains("a.aa/a"), "{once}");
        }
    }
}
