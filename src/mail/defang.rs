//! Text from mail, made harmless for people: nothing to click, nothing that changes how a terminal or browser shows it.
//!
//! Addresses lose what programs turn into links: `https://evil.example/x` becomes `hxxps://evil[.]example/x`,
//! `a@evil.example` becomes `a@evil[.]example`. This errs on the side of too many brackets; it is for reading, not for
//! parsing back. Not here: escaping for HTML, which is the console's affair and needed all the same.

use std::net::IpAddr;

use super::named_host;

/// Removes what does not print or changes the direction or order of text: control characters but tab and line feed, bidi
/// controls, zero-width and invisible characters. Line and paragraph separators become line feeds.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\r' if letters.peek() == Some(&'\n') => {}
            '\r' | '\u{2028}' | '\u{2029}' | '\u{85}' | '\u{b}' | '\u{c}' => clean.push('\n'),
            '\n' | '\t' => clean.push(letter),
            _ if is_hidden(letter) => {}
            _ => clean.push(letter),
        }
    }
    clean
}

/// Cleans text as [`clean`] does, and takes the addresses in it apart so that nothing makes links of them.
pub fn defang(text: &str) -> String {
    let text = clean(text);
    let mut safe = String::with_capacity(text.len() + text.len() / 8);
    let mut rest = text.as_str();
    // A run of letters that may be a scheme or a host, then one character that is neither.
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_host_letter(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let scheme = after.strip_prefix(':').and_then(|tail| unlink(word, tail));
        if let Some(scheme) = scheme {
            safe.push_str(&scheme);
            // The colon is part of what was written.
            rest = &after[1..];
            continue;
        }
        let linked = safe.ends_with(['/', '@', '\\']) || after.starts_with('@');
        push_word(&mut safe, word, linked);
        let next = after.chars().next().map_or(0, char::len_utf8);
        safe.push_str(&after[..next]);
        rest = &after[next..];
    }
    safe
}

/// What stands for `word:` when that begins a link; `tail` is what follows the colon.
fn unlink(word: &str, tail: &str) -> Option<String> {
    // `x.http` is a host letter run whose end is a scheme all the same.
    let start = word.rfind(|c: char| !c.is_ascii_alphanumeric()).map_or(0, |at| at + 1);
    let (before, name) = word.split_at_checked(start)?;
    let swapped = match name.to_ascii_lowercase().as_str() {
        "http" => "hxxp:",
        "https" => "hxxps:",
        "ftp" => "fxp:",
        "ftps" => "fxps:",
        "javascript" | "vbscript" | "data" | "file" | "mailto" | "tel" | "sms" | "ws" | "wss" | "smb" => "[:]",
        _ if tail.starts_with("//") && !name.is_empty() && !matches!(name, "hxxp" | "hxxps" | "fxp" | "fxps") => "[:]",
        _ => return None,
    };
    let mut text = String::new();
    push_word(&mut text, before, false);
    if swapped == "[:]" {
        text.push_str(name);
    }
    text.push_str(swapped);
    Some(text)
}

/// Adds a run of host letters, its dots bracketed when it may be a host; `linked`: what stands around it says so.
fn push_word(safe: &mut String, word: &str, linked: bool) {
    let dotted = word.chars().any(is_dot);
    if !dotted || !(linked || is_host(word)) {
        return safe.push_str(word);
    }
    let mut letters = word.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let inside = at > 0 && letters.peek().is_some_and(|(_, next)| !is_dot(*next));
        if is_dot(letter) && inside {
            safe.push_str("[.]");
        } else {
            safe.push(letter);
        }
    }
}

fn is_host(word: &str) -> bool {
    let host: String = word.chars().map(|c| if is_dot(c) { '.' } else { c }).collect();
    let host = host.trim_matches(['.', '-', '_']);
    // Any name within a run may be taken for the host: `_x.evil.example` as well as `evil.example`.
    let tail = host.rsplit('_').next().unwrap_or(host);
    host.to_ascii_lowercase().starts_with("www.") || host.parse::<IpAddr>().is_ok() || named_host(tail).is_some()
}

fn is_host_letter(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_') || is_dot(c)
}

/// Dots as browsers read them in a host (UTS 46).
fn is_dot(c: char) -> bool {
    matches!(c, '.' | '\u{3002}' | '\u{ff0e}' | '\u{ff61}')
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{17b4}'
                | '\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_addresses() {
        let cases = [
            ("https://evil.example/a.b?x=1", "hxxps://evil[.]example/a[.]b?x=1"),
            ("HTTP://Evil.Example", "hxxp://Evil[.]Example"),
            ("see (http://user@10.0.0.1:80/)!", "see (hxxp://user@10[.]0[.]0[.]1:80/)!"),
            ("http:\\\\evil.test\\x", "hxxp:\\\\evil[.]test\\x"),
            ("http:/evil.test", "hxxp:/evil[.]test"),
            ("//evil.test/x", "//evil[.]test/x"),
            ("www.evil.test", "www[.]evil[.]test"),
            ("go to example.com/login now.", "go to example[.]com/login now."),
            ("example.com.", "example[.]com."),
            ("例え。com", "例え[.]com"),
            ("a.b@mail.evil.test", "a[.]b@mail[.]evil[.]test"),
            ("<a href=\"https://x.test\">", "<a href=\"hxxps://x[.]test\">"),
            ("x.http://y.test", "x.hxxp://y[.]test"),
            ("javascript:alert(1)", "javascript[:]alert(1)"),
            ("gopher://x.test", "gopher[:]//x[.]test"),
            ("mailto:a@example.com", "mailto[:]a@example[.]com"),
            ("192.0.2.1", "192[.]0[.]2[.]1"),
            ("http://[2001:db8::1]/", "hxxp://[2001:db8::1]/"),
            ("ev\u{200b}il.com \u{202e}moc.live", "evil[.]com moc[.]live"),
            // Not links.
            ("It costs 3.50 EUR, i.e. little. Regards, A. B.", "It costs 3.50 EUR, i.e. little. Regards, A. B."),
            ("Time: 10:30, note: none", "Time: 10:30, note: none"),
            ("...", "..."),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(defang(text), expected, "{text}");
        }
    }

    #[test]
    fn twice_is_once() {
        for text in ["https://evil.example/a", "a@evil.com, gopher://x.test", "www.x.test: javascript:x", "http:a.com"]
        {
            assert_eq!(defang(&defang(text)), defang(text));
        }
    }

    #[test]
    fn what_does_not_print_is_gone() {
        let dirty =
            "a\u{1b}[31mb\u{7}\u{0}\u{9b}c\r\nd\re\u{2028}f\tg\u{202e}h\u{2066}i\u{feff}j\u{e0041}k\u{7f}l\u{ad}";
        assert_eq!(clean(dirty), "a[31mbc\nd\ne\nf\tghijkl");
    }

    #[test]
    fn nothing_clickable_is_left() {
        use linkify::{LinkFinder, LinkKind};
        let mut finder = LinkFinder::new();
        finder.kinds(&[LinkKind::Url, LinkKind::Email]).url_must_have_scheme(false);
        for text in [
            "https://evil.com/a.b/c?d=e.f#g.h",
            "x@evil.com and evil.com/x and sub.evil.co.uk:8080",
            "http://a.com/http://b.com",
            "ftp://files.evil.com, ws://evil.com",
            "(evil.com)[evil.com]<evil.com>'evil.com'",
            "http://xn--80ak6aa92e.com http://пример.рф",
        ] {
            let safe = defang(text);
            // A finder that takes every scheme finds `hxxps://evil`: nothing opens that.
            let dead = |link: &str| (link.starts_with("hxxp") || link.starts_with("fxp")) && !link.contains('.');
            let links: Vec<_> = finder.links(&safe).map(|l| l.as_str()).filter(|l| !dead(l)).collect();
            assert!(links.is_empty(), "{safe}: {links:?}");
        }
    }
}
