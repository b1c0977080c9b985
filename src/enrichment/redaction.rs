//! Text without what tells who is written to: addresses, paths and queries of URLs, numbers of [`DIGITS`] digits and more.
//!
//! All are found as people and mail programs read them: without what nobody sees, with any white space and dash between digits, with
//! signs in per cent; URLs with any scheme or none, with backslashes, with dots in brackets. Of what looks like a host and goes on
//! after it the rest of the word is dropped, also behind a blank: rather too much than a link that somebody could use.
//! Linear in the text. Not here: names of people, and words that only a reader understands; shorter numbers (a year, a price) stay.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// Shorter numbers tell nobody who somebody is: a year, a price.
const DIGITS: usize = 5;
/// What is read as a slash.
const SLASHES: [char; 5] = ['/', '\\', '\u{2044}', '\u{2215}', '\u{ff0f}'];
/// What is read as a dot (RFC 3490, 3.1).
const DOTS: [char; 4] = ['.', '\u{3002}', '\u{ff0e}', '\u{ff61}'];
/// What people write around dots and signs, so that nothing makes a link of it.
const BRACKETS: [char; 6] = ['(', ')', '[', ']', '{', '}'];

/// What is between two digits of a number at most, besides white space: ` - `, `) `, `/`.
const MAX_BETWEEN: usize = 3;

/// At most so many characters of a text, redacted.
pub(super) fn redacted(text: &str, max_chars: usize) -> String {
    static ADDRESS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let plain = r"[^\s<>@\u{ff20},;:]+[@\u{ff20}][^\s<>@\u{ff20},;:]+";
        // With blanks, only what has a domain.
        let dot = r"[.\u{3002}\u{ff0e}\u{ff61}]";
        let apart = format!(
            r"[^\s<>@\u{{ff20}},;:]+\s*[@\u{{ff20}}]\s*[^\s<>@\u{{ff20}},;:]+{dot}[^\s<>@\u{{ff20}},;:]*\p{{L}}[^\s<>@\u{{ff20}},;:]*"
        );
        let spelt = r"[^\s<>,;:()\[\]{}]+\s?[(\[{]\s?(?:@|at|ät)\s?[)\]}]\s?[^\s<>,;:()\[\]{}]+";
        Regex::new(&format!("(?i){plain}|{apart}|{spelt}")).ok()
    });
    // A pattern that does not compile would let secrets out: then nothing goes out.
    let Some(address) = ADDRESS.as_ref() else { return String::new() };
    // Redacting shortens: what is cut off is cut before, with room to spare.
    let text = first(text, max_chars.saturating_mul(2));
    let Some(text) = plain(text) else { return String::new() };
    let leads = |c: char| is_sign(c) || c == ':';
    let text = if text.contains(leads) { Cow::Owned(without_paths(&text)) } else { text };
    let text = address.replace_all(&text, "[address]");
    first(&without_numbers(&text), max_chars).to_owned()
}

/// A text without what nobody sees, and with those signs as themselves that were put in per cent (RFC 3986, 2.1), once or more
/// often, and that tell what is a link, an address or a number. None: a pattern does not compile.
fn plain(text: &str) -> Option<Cow<'_, str>> {
    static IN_PER_CENT: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new("%(?:25)*(2[3EFef]|3[0-9Ff]|40|5[Cc])").ok());
    let text = match text.contains(is_unseen) {
        true => Cow::Owned(text.replace(is_unseen, "")),
        false => Cow::Borrowed(text),
    };
    if !text.contains('%') {
        return Some(text);
    }
    let sign =
        |found: &Captures<'_>| -> String { u8::from_str_radix(&found[1], 16).map(char::from).into_iter().collect() };
    Some(Cow::Owned(IN_PER_CENT.as_ref()?.replace_all(&text, sign).into_owned()))
}

/// What is not drawn: Default_Ignorable_Code_Point (Unicode, DerivedCoreProperties), and control characters but white space.
fn is_unseen(c: char) -> bool {
    match c {
        ' '..='~' => false,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' => true,
        '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' => true,
        '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' => true,
        '\u{e0000}'..='\u{e0fff}' => true,
        _ => c.is_control() && !c.is_whitespace(),
    }
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
    let mut led = Led::Nowhere;
    for part in text.split_inclusive(ends) {
        let word = part.trim_end_matches(ends);
        let end = &part[word.len()..];
        led = match led {
            // Another end after an end.
            led if word.is_empty() => led.past(end),
            Led::Host | Led::Link(_) if word.starts_with(is_sign) && word.chars().nth(1).is_some() => {
                out.push_str("/…");
                Led::Link(true).past(end)
            }
            Led::Link(true) if word.starts_with(|c: char| c.is_ascii_graphic()) => {
                out.push('…');
                Led::Link(true).past(end)
            }
            _ => match (place(word), data(word)) {
                (Some((before, host)), _) => {
                    out.extend([before, host, "/…"]);
                    Led::Link(true).past(end)
                }
                (None, Some(before)) => {
                    out.extend([before, "…"]);
                    Led::Nowhere
                }
                (None, None) => {
                    out.push_str(word);
                    if host_at_end(word).is_some() { Led::Host.past(end) } else { Led::Nowhere }
                }
            },
        };
        out.push_str(end);
    }
    out
}

/// Where the words up to here lead, for what goes on after a blank.
#[derive(Clone, Copy)]
enum Led {
    Nowhere,
    /// To a host, and no further.
    Host,
    /// Further; whether what followed is nothing but blanks that some take for a part of a link, an ideographic one say.
    Link(bool),
}

impl Led {
    fn past(self, end: &str) -> Self {
        match self {
            _ if end.contains(['<', '>', '"']) => Self::Nowhere,
            Self::Link(joined) => Self::Link(joined && !end.is_ascii()),
            other => other,
        }
    }
}

/// What stands before the contents of a `data:` URL (RFC 2397), with the scheme.
fn data(word: &str) -> Option<&str> {
    let scheme = b"data:";
    let found = |at: &usize| {
        let starts = *at == 0 || !word.as_bytes()[at - 1].is_ascii_alphanumeric();
        starts && word.as_bytes()[*at..].get(..scheme.len()).is_some_and(|there| there.eq_ignore_ascii_case(scheme))
    };
    let end = (0..word.len()).find(found)? + scheme.len();
    word.get(..end).filter(|_| end < word.len())
}

/// Where a word leads, when it says more than that: what stands before the host, and the host.
fn place(word: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    for (at, sign) in word.char_indices().filter(|(_, c)| is_sign(*c)) {
        let (piece, rest) = (&word[from..at], &word[at..]);
        let schemed = piece.trim_end_matches(BRACKETS).ends_with(':');
        // Not for each of many slashes.
        let authority = if schemed { rest.trim_start_matches(SLASHES) } else { "" };
        if rest.chars().take(2).filter(|c| SLASHES.contains(c)).count() == 2 && !authority.is_empty() {
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

/// Text without numbers of [`DIGITS`] digits and more, written in one or with something between two digits.
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
    // Since the last digit.
    let (mut blanks, mut separators, mut signs) = (0, 0, 0);
    for (at, c) in text.char_indices() {
        if c.is_numeric() {
            (digits, length) = (digits + 1, at + c.len_utf8());
            (blanks, separators, signs) = (0, 0, 0);
            continue;
        }
        match c {
            c if c.is_whitespace() => blanks += 1,
            c if separates(c) => separators += 1,
            _ => signs += 1,
        }
        // Any other sign only alone: 1'234,567.
        let alone = signs == 1 && blanks == 0 && separators == 0;
        if digits == 0 || c.is_alphabetic() || separators > MAX_BETWEEN || signs > 0 && !alone {
            break;
        }
    }
    (digits, length)
}

/// What people write between the groups of a number: dots, slashes, brackets, and dashes (Unicode's property Dash).
fn separates(c: char) -> bool {
    let dash =
        matches!(c, '-' | '\u{58a}' | '\u{5be}' | '\u{1400}' | '\u{1806}' | '\u{2010}'..='\u{2015}' | '\u{2053}')
            || matches!(c, '\u{207b}' | '\u{208b}' | '\u{2212}' | '\u{2e17}' | '\u{2e1a}' | '\u{2e3a}' | '\u{2e3b}')
            || matches!(c, '\u{2e40}' | '\u{2e5d}' | '\u{301c}' | '\u{3030}' | '\u{30a0}' | '\u{fe31}' | '\u{fe32}')
            || matches!(c, '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' | '\u{10d6e}' | '\u{10ead}');
    dash || DOTS.contains(&c) || SLASHES.contains(&c) || BRACKETS.contains(&c)
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
            ("1  2345 6", "[number]"),
            ("1-2-3-4-", "1-2-3-4-"),
            ("4111\u{a0}1111\u{a0}1111\u{a0}1111", "[number]"),
            ("4\u{200b}1\u{200b}1\u{200b}1\u{200b}1", "[number]"),
            ("4111\u{ad}1111", "[number]"),
            ("4111 \u{2013} 1111\u{2011}1111\u{2212}1111", "[number]"),
            ("4111\n1111", "[number]"),
            ("+49 (0) 89/123 45", "+[number]"),
            ("1,234,567.00 1'234'567 1_234_567", "[number]"),
            ("%34%31%31%31%31 1%2E2%2E3%2E4%2E5", "[number]"),
            ("at 10:30, of 1200", "at 10:30, of 1200"),
            ("(12) and (2026)", "(12) and (2026)"),
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
            ("a.example%2FSECRET", "a.example/…"),
            ("a.example%252fSECRET", "a.example/…"),
            ("a.example%3Ft=SECRET", "a.example/…"),
            ("https%3A%2F%2Fa.example%2FSECRET", "https%3A//a.example/…"),
            ("a.exam\u{200b}ple/SECRET", "a.example/…"),
            ("data:text/html;base64,PHNlY3JldD4=", "data:…"),
            ("(DATA:,secret)", "(DATA:…"),
            ("https://x.example\u{3000}/SECRETN", "https://x.example/…\u{3000}/…"),
            ("x.example\u{a0}/SECRETN now", "x.example\u{a0}/… now"),
            ("x.example ?t=SECRETN", "x.example /…"),
            ("x.example/a\u{3000}SECRETN now", "x.example/…\u{3000}… now"),
            ("x.example/a\u{3000}をご覧ください", "x.example/…\u{3000}をご覧ください"),
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
            "bank.example / shop.example",
            "Data: 5",
            "metadata:new",
            "50% / 60%",
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
            "john.doe%2540corp.example",
            "user3 @ corp.example",
            "user3\u{a0}@\u{a0}corp.example",
            "user3 \u{ff20} mail.corp\u{3002}example",
            "us\u{200b}er3@corp.example",
            "user3\u{a0}(at)\u{a0}corp.example",
        ] {
            assert_eq!(redacted(text, 1_000), "[address]", "{text}");
        }
        for text in ["we met at noon (at last)", "we meet @ noon", "3 @ 5.00 each"] {
            assert_eq!(redacted(text, 1_000), text);
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in r"[a-c.:/\\?#@()\[\] <äٴ－。／1-9%4\u{200b}\u{3000}\u{a0}F]{0,200}") {
            let once = redacted(&text, 1_000);
            prop_assert!(once.chars().count() <= 1_000);
            prop_assert!(!once.contains("a.aa/a"), "{once}");
        }

        #[test]
        fn no_number_is_left(
            digits in prop::collection::vec((r"[0-9٣５]", r"[ \t\n\u{a0}\u{2009}\u{3000}\u{200b}\u{2060}\u{feff}]{0,3}[\-.\u{2010}-\u{2015}\u{2212}]?[ \u{a0}\u{ad}]{0,3}"), 5..24),
        ) {
            let text: String = digits.iter().flat_map(|(digit, between)| [digit.as_str(), between]).collect();
            let left = redacted(&text, 1_000);
            prop_assert!(!left.chars().any(char::is_numeric), "{text:?}: {left:?}");
        }

        #[test]
        fn nothing_is_left_after_a_host(
            before in "(https?:/{0,3})?", host in "[a-z]{1,9}(\\.[a-z]{2,9}){1,3}",
            sign in "[\u{3000}\u{a0} \u{200b}]?(/|\\\\|\\?|#|%2[fF]|%5C|%25252F|／)[\u{200b}]?",
        ) {
            let text = format!("see {before}{host}{sign}SECRET end");
            let left = redacted(&text, 1_000);
            prop_assert!(!left.contains("SECRET") && left.contains(&host) && left.ends_with(" end"), "{text:?}: {left:?}");
        }
    }
}
