//! URLs standing in text, each with its scheme.
//!
//! `linkify` finds those whose host is a host name. Browsers and mail programs open others too: labels with an underscore, which
//! no host name may have (RFC 952) and DNS has. Those are found here. Linear in the text's length.

use linkify::{LinkFinder, LinkKind};

/// Longest authority of a URL that is looked at here, in bytes: a name (255) and a user before it.
const AUTHORITY: usize = 512;
/// What is opened by its scheme when it stands in a text.
const SCHEMES: [&str; 3] = ["http", "https", "ftp"];

/// Finds URLs.
pub(super) struct UrlFinder(LinkFinder);

impl UrlFinder {
    pub(super) fn new() -> Self {
        let mut finder = LinkFinder::new();
        finder.kinds(&[LinkKind::Url]).url_must_have_scheme(true);
        Self(finder)
    }

    /// Where each begins, and the URL, in the order in which they stand.
    pub(super) fn find<'t>(&self, text: &'t str) -> impl Iterator<Item = (usize, &'t str)> {
        let mut usual = self.0.links(text).map(|link| (link.start(), link.as_str())).peekable();
        let mut after = memchr::memmem::find_iter(text.as_bytes(), b"://");
        let mut done = 0;
        std::iter::from_fn(move || {
            loop {
                // What stands before the next `://`, and is no URL of its own, was none.
                let Some(at) = after.next() else { return usual.next() };
                if at < done {
                    continue;
                }
                if let Some((start, url)) = usual.next_if(|(start, _)| *start <= at) {
                    done = start + url.len();
                    return Some((start, url));
                }
                if let Some((start, url)) = unusual(text, at) {
                    // Whatever else is found within it is a part of it.
                    done = start + url.len();
                    while usual.next_if(|(start, _)| *start < done).is_some() {}
                    return Some((start, url));
                }
            }
        })
    }
}

/// The URL around a `://` whose host is a name of labels that DNS can have.
fn unusual(text: &str, at: usize) -> Option<(usize, &str)> {
    let scheme = text[..at].bytes().rev().take(6).take_while(u8::is_ascii_alphabetic).count();
    let start = at - scheme;
    if !SCHEMES.iter().any(|known| text[start..at].eq_ignore_ascii_case(known)) {
        return None;
    }
    let rest = &text[at + 3..];
    let near = &rest[..rest.floor_char_boundary(AUTHORITY)];
    let authority = near.split(|c: char| ends(c) || matches!(c, '/' | '?' | '#' | '\\')).next()?;
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') || !c.is_ascii();
    let host = authority.rsplit('@').next()?.split(|c| !named(c)).next()?.trim_end_matches('.');
    if !host.contains('.') || host.split('.').any(str::is_empty) {
        return None;
    }
    let end = rest.find(ends).unwrap_or(rest.len());
    let url = text[start..at + 3 + end].trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', ')', ']']);
    Some((start, url))
}

/// What ends a URL in a text.
fn ends(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"' | '`' | '{' | '}' | '|' | '^')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<&str> {
        UrlFinder::new()
            .find(text)
            .map(|(at, url)| {
                assert_eq!(&text[at..at + url.len()], url);
                url
            })
            .collect()
    }

    #[test]
    fn usual_and_unusual_hosts() {
        for (text, urls) in [
            ("see http://a_b.evil.example/p.", &["http://a_b.evil.example/p"][..]),
            ("(HTTPS://_x.evil.example:8443/?q=1#f)", &["HTTPS://_x.evil.example:8443/?q=1#f"]),
            ("http://u@a_b.example, https://firm.example/x", &["http://u@a_b.example", "https://firm.example/x"]),
            ("https://firm.example/?to=http://a_b.example/", &["https://firm.example/?to=http://a_b.example/"]),
            ("http://a_b.example/?to=https://firm.example/", &["http://a_b.example/?to=https://firm.example/"]),
            ("<http://a_b.example>\nhttp://c_d.example\u{a0}x", &["http://a_b.example", "http://c_d.example"]),
            ("http://a_.пример.рф/я", &["http://a_.пример.рф/я"]),
            ("http://localhost_x/ http://a..b_c/ http:// a_b://", &[]),
            ("http://", &[]),
        ] {
            assert_eq!(found(text), urls, "{text}");
        }
    }

    #[test]
    fn many_that_are_none_take_little() {
        let text = "http://_".repeat(200_000);
        assert_eq!(found(&text).len(), 0);
    }

    proptest! {
        #[test]
        fn nothing_of_the_usual_is_lost(text in "(http://|https://|a_b|[a-z.:/_@ é\u{3000}]|firm\\.example){0,40}") {
            let mut finder = LinkFinder::new();
            finder.kinds(&[LinkKind::Url]).url_must_have_scheme(true);
            let spans: Vec<_> = UrlFinder::new().find(&text).map(|(at, url)| at..at + url.len()).collect();
            for link in finder.links(&text) {
                prop_assert!(spans.iter().any(|span| span.contains(&link.start())), "{:?} in {text:?}", link.as_str());
            }
            prop_assert!(spans.windows(2).all(|two| two[0].start < two[1].start), "{spans:?} in {text:?}");
        }
    }
}
