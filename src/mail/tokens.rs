//! HTML tokens as browsers form them (WHATWG HTML, 13.2.5): tags, attributes, text, comments, raw text elements.
//!
//! Iterative and linear, whatever the input (html5gum 0.9 recurses from state to state and overflows the stack in builds
//! without tail calls, which one mail can bring about). A tag cut off by the end is given all the same: better a link
//! too many. Not here: the tree, and what the standard does with misplaced tags.

use std::borrow::Cow;

use mail_parser::decoders::html::add_html_token;

/// One piece. Names are as written; compare without regard to case.
pub(super) enum Event<'a> {
    /// `<name`.
    Open(&'a str),
    /// One attribute of the open tag; the value undecoded, empty when it has none.
    Attribute(&'a str, &'a str),
    /// `>`, or `/>`.
    Close {
        /// Whether it was `/>`.
        self_closing: bool,
    },
    /// `</name>`.
    End(&'a str),
    /// Text between tags, character references undone.
    Text(Cow<'a, str>),
    /// Inside of `<!-- -->`.
    Comment(&'a str),
}

/// Elements whose inside is no markup, and whether character references count there.
const RAW: &[(&str, bool)] = &[
    ("script", false),
    ("style", false),
    ("title", true),
    ("textarea", true),
    ("iframe", false),
    ("noembed", false),
    ("noframes", false),
    ("xmp", false),
    ("plaintext", false),
];

/// Goes over the text and hands each piece on.
pub(super) fn tokenize(html: &str, mut sink: impl FnMut(Event<'_>)) {
    let bytes = html.as_bytes();
    let (mut at, mut text) = (0, 0);
    while let Some(offset) = memchr::memchr(b'<', &bytes[at..]) {
        let open = at + offset;
        at = open + 1;
        let end = match bytes.get(open + 1) {
            Some(b'a'..=b'z' | b'A'..=b'Z') => {
                flush(html, text, open, &mut sink);
                let (after, name) = start_tag(html, open + 1, &mut sink);
                raw_text(html, after, name, &mut sink)
            }
            Some(b'/') => match bytes.get(open + 2) {
                Some(b'a'..=b'z' | b'A'..=b'Z') => {
                    flush(html, text, open, &mut sink);
                    end_tag(html, open + 2, &mut sink)
                }
                _ => {
                    flush(html, text, open, &mut sink);
                    after_byte(bytes, open + 2, b'>')
                }
            },
            Some(b'!') if bytes[open..].starts_with(b"<!--") => {
                flush(html, text, open, &mut sink);
                comment(html, open + 4, &mut sink)
            }
            Some(b'!' | b'?') => {
                flush(html, text, open, &mut sink);
                after_byte(bytes, open + 1, b'>')
            }
            // A lone `<` is text.
            _ => continue,
        };
        (at, text) = (end, end);
    }
    flush(html, text, html.len(), &mut sink);
}

fn flush(html: &str, start: usize, end: usize, sink: &mut impl FnMut(Event<'_>)) {
    if start < end {
        sink(Event::Text(unescape(&html[start..end], false)));
    }
}

fn after_byte(bytes: &[u8], at: usize, byte: u8) -> usize {
    memchr::memchr(byte, &bytes[at..]).map_or(bytes.len(), |offset| at + offset + 1)
}

fn comment(html: &str, start: usize, sink: &mut impl FnMut(Event<'_>)) -> usize {
    let rest = &html.as_bytes()[start..];
    // `<!-->` and `<!--->` are over before they begin.
    for short in [&b">"[..], b"->"] {
        if rest.starts_with(short) {
            return start + short.len();
        }
    }
    let mut from = 0;
    while let Some(offset) = memchr::memmem::find(&rest[from..], b"--") {
        let dashes = from + offset;
        let length = match &rest[dashes + 2..] {
            [b'>', ..] => 3,
            [b'!', b'>', ..] => 4,
            _ => {
                from = dashes + 1;
                continue;
            }
        };
        sink(Event::Comment(&html[start..start + dashes]));
        return start + dashes + length;
    }
    sink(Event::Comment(&html[start..]));
    html.len()
}

fn name_end(bytes: &[u8], start: usize) -> usize {
    let ends = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'/' | b'>');
    bytes[start..].iter().position(ends).map_or(bytes.len(), |offset| start + offset)
}

fn end_tag(html: &str, start: usize, sink: &mut impl FnMut(Event<'_>)) -> usize {
    let end = name_end(html.as_bytes(), start);
    // Attributes of an end tag mean nothing, but a `>` in a quoted one does not end it.
    let after = attributes(html, end, &mut |_, _| {}).0;
    sink(Event::End(&html[start..end]));
    after
}

fn start_tag<'a>(html: &'a str, start: usize, sink: &mut impl FnMut(Event<'_>)) -> (usize, &'a str) {
    let end = name_end(html.as_bytes(), start);
    let name = &html[start..end];
    sink(Event::Open(name));
    let (after, self_closing) = attributes(html, end, &mut |name, value| sink(Event::Attribute(name, value)));
    sink(Event::Close { self_closing });
    (after, name)
}

/// Reads attributes up to and with `>`; tells whether a `/` stood right before it.
fn attributes(html: &str, mut at: usize, take: &mut impl FnMut(&str, &str)) -> (usize, bool) {
    let bytes = html.as_bytes();
    let mut slash = false;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'>' => return (at + 1, slash),
            b'/' => {
                slash = true;
                at += 1;
                continue;
            }
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            _ => slash = false,
        }
        let start = at;
        // A first `=` belongs to the name.
        at += 1;
        while bytes.get(at).is_some_and(|b| !b.is_ascii_whitespace() && !matches!(b, b'/' | b'>' | b'=')) {
            at += 1;
        }
        let name = &html[start..at];
        let mut after = at;
        while bytes.get(after).is_some_and(u8::is_ascii_whitespace) {
            after += 1;
        }
        if bytes.get(after) != Some(&b'=') {
            take(name, "");
            continue;
        }
        after += 1;
        while bytes.get(after).is_some_and(u8::is_ascii_whitespace) {
            after += 1;
        }
        let (value, next) = match bytes.get(after) {
            Some(quote @ (b'"' | b'\'')) => {
                let end = memchr::memchr(*quote, &bytes[after + 1..]).map_or(bytes.len(), |o| after + 1 + o);
                (&html[after + 1..end], (end + 1).min(bytes.len()))
            }
            _ => {
                let ends = |b: &u8| b.is_ascii_whitespace() || *b == b'>';
                let end = bytes[after..].iter().position(ends).map_or(bytes.len(), |o| after + o);
                (&html[after..end], end)
            }
        };
        take(name, value);
        at = next;
    }
    (bytes.len(), false)
}

/// After a start tag: when its element holds raw text, gives that text and the place of its end tag.
fn raw_text(html: &str, start: usize, name: &str, sink: &mut impl FnMut(Event<'_>)) -> usize {
    let Some((raw, references)) = RAW.iter().find(|(raw, _)| name.eq_ignore_ascii_case(raw)) else { return start };
    let bytes = html.as_bytes();
    let mut from = start;
    let end = loop {
        let Some(offset) = memchr::memmem::find(&bytes[from..], b"</") else { break bytes.len() };
        let at = from + offset;
        let word = bytes.get(at + 2..at + 2 + raw.len());
        let next = bytes.get(at + 2 + raw.len());
        let whole = next.is_none_or(|b| b.is_ascii_whitespace() || matches!(b, b'/' | b'>'));
        if whole && word.is_some_and(|word| word.eq_ignore_ascii_case(raw.as_bytes())) {
            break at;
        }
        from = at + 2;
    };
    if start < end {
        let text = &html[start..end];
        sink(Event::Text(if *references { unescape(text, false) } else { text.into() }));
    }
    end
}

/// Undoes character references. In attributes `&copy=1` stays, as browsers keep it.
pub(super) fn unescape(text: &str, attribute: bool) -> Cow<'_, str> {
    let Some(first) = memchr::memchr(b'&', text.as_bytes()) else { return text.into() };
    let mut out = String::with_capacity(text.len());
    out.push_str(&text[..first]);
    let mut rest = &text[first..];
    while !rest.is_empty() {
        let length = reference(rest, attribute, &mut out);
        let tail = &rest[length..];
        let next = memchr::memchr(b'&', tail.as_bytes()).unwrap_or(tail.len());
        out.push_str(&tail[..next]);
        rest = &tail[next..];
    }
    out.into()
}

/// Names that count without a semicolon, of those people use.
const LEGACY: &[&str] =
    &["amp", "lt", "gt", "quot", "nbsp", "copy", "reg", "shy", "eacute", "auml", "ouml", "uuml", "szlig"];

/// Undoes the reference at the start of `text` (an `&`); gives its length, 1 when it is none.
fn reference(text: &str, attribute: bool, out: &mut String) -> usize {
    let inner = &text.as_bytes()[1..];
    if inner.first() == Some(&b'#') {
        return number(text, out);
    }
    let length = inner.iter().take(40).take_while(|b| b.is_ascii_alphanumeric()).count();
    if length > 0 && inner.get(length) == Some(&b';') {
        add_html_token(out, &text.as_bytes()[..length + 2], false);
        return length + 2;
    }
    let legacy = LEGACY.iter().find(|name| inner.starts_with(name.as_bytes()));
    let stays =
        |name: &&&str| attribute && inner.get(name.len()).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'=');
    if let Some(name) = legacy.filter(|name| !stays(name)) {
        add_html_token(out, format!("&{name};").as_bytes(), false);
        return 1 + name.len();
    }
    out.push('&');
    1
}

/// `&#60;`, `&#x3c;`, semicolon or not.
fn number(text: &str, out: &mut String) -> usize {
    let bytes = text.as_bytes();
    let (start, radix) = if matches!(bytes.get(2), Some(b'x' | b'X')) { (3, 16) } else { (2, 10) };
    let digits = bytes[start.min(bytes.len())..].iter().take_while(|b| (**b as char).is_digit(radix)).count();
    if digits == 0 {
        out.push('&');
        return 1;
    }
    let value = u32::from_str_radix(&text[start..start + digits], radix).unwrap_or(u32::MAX);
    out.push(match value {
        0 => char::REPLACEMENT_CHARACTER,
        // What the C1 controls are in Windows-1252 is what was meant.
        0x80..=0x9f => {
            super::decode::charset(&[value as u8], "cp1252").chars().next().unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        _ => char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER),
    });
    start + digits + usize::from(bytes.get(start + digits) == Some(&b';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(html: &str) -> String {
        let mut out = String::new();
        tokenize(html, |event| match event {
            Event::Open(name) => out += &format!("<{name}"),
            Event::Attribute(name, value) => out += &format!(" {name}=[{}]", unescape(value, true)),
            Event::Close { self_closing } => out += if self_closing { "/>" } else { ">" },
            Event::End(name) => out += &format!("</{name}>"),
            Event::Text(text) => out += &format!("({text})"),
            Event::Comment(text) => out += &format!("!{text}!"),
        });
        out
    }

    #[test]
    fn table() {
        let cases = [
            ("a<b>c</b>", "(a)<b>(c)</b>"),
            ("a < b", "(a < b)"),
            ("<a href=x>", "<a href=[x]>"),
            ("<a href = 'x y' >", "<a href=[x y]>"),
            ("<a\nhref=\"x>y\"b c=d/>", "<a href=[x>y] b=[] c=[d/]>"),
            ("<br/>", "<br/>"),
            ("<a/href=x>", "<a href=[x]>"),
            ("<a =x>", "<a =x=[]>"),
            ("<a href=\"x", "<a href=[x]>"),
            ("<a href", "<a href=[]>"),
            ("<!-- a -- b -->c", "! a -- b !(c)"),
            ("<!-->a", "(a)"),
            ("<!--a--!>b", "!a!(b)"),
            ("<!--a", "!a!"),
            ("<!doctype html>a", "(a)"),
            ("<?xml?>a", "(a)"),
            ("</>a", "(a)"),
            ("</ x>a", "(a)"),
            ("</b x='>'>a", "</b>(a)"),
            ("<script>a<b></x></SCRIPT >c", "<script>(a<b></x>)</SCRIPT>(c)"),
            ("<title>a&amp;b</title>", "<title>(a&b)</title>"),
            ("<style>a", "<style>(a)"),
            ("&lt;&#60;&#x3C;&lt&#60 &auml;&nosuch;&", "(<<<<< ä&nosuch;&)"),
            ("<a href='?a=1&copy=2&amp;b'>", "<a href=[?a=1&copy=2&b]>"),
            ("&#0;&#x110000;&#128;&#;", "(\u{fffd}\u{fffd}\u{20ac}&#;)"),
            ("<", "(<)"),
            ("", ""),
        ];
        for (html, expected) in cases {
            assert_eq!(read(html), expected, "{html}");
        }
    }

    #[test]
    fn every_cut_is_read() {
        let html = "a<b c='d' e=f>g&amp;h&#60;<!-- i --><script>j</script></b><k/>é<";
        for end in (0..=html.len()).filter(|end| html.is_char_boundary(*end)) {
            read(&html[..end]);
            read(&html[end..]);
        }
    }
}
