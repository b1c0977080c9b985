//! The links a person can follow, as rules see them: where each leads once rewriters are off, and what is shown for it.
//!
//! Each pair of target and shown text is given once. Not here: pictures and other things that a reader loads by itself.

use std::collections::HashSet;

use super::link::{Link, LinkKind};
use super::rewrite::{Unwrapped, unwrap_url};
use super::{DomainParts, UrlParts};

/// One link of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyLink {
    /// Its first occurrence in `Message::links`.
    pub link: usize,
    /// Where it leads.
    pub href: Unwrapped,
    /// What is shown, when that is words; `None` for pictures and where a URL is shown.
    pub display_text: Option<String>,
    /// What is shown, when that is a URL, not unwrapped.
    pub display_url: Option<UrlParts>,
    /// Whether it is an element of HTML rather than a URL standing in text.
    pub hyperlink: bool,
    /// Whether a person can see it.
    pub visible: bool,
}

impl BodyLink {
    /// The followed links among these, unique, in order.
    pub fn all(links: &[Link]) -> Vec<Self> {
        read(links, |_| true).0
    }

    /// Whether target and shown URL are of different owners; `None` unless both are valid names.
    pub fn mismatched(&self) -> Option<bool> {
        let root = |url: &UrlParts| {
            let parts = DomainParts::of(url.domain()?);
            parts.root_domain.filter(|_| parts.valid).map(str::to_owned)
        };
        Some(root(&self.href.target)? != root(self.display_url.as_ref()?)?)
    }
}

/// The followed links, unique, and for each of `links` its place among them.
pub(super) fn read(links: &[Link], has_words: impl Fn(usize) -> bool) -> (Vec<BodyLink>, Vec<Option<usize>>) {
    let mut out: Vec<BodyLink> = Vec::new();
    let mut known: std::collections::HashMap<(&str, &str, bool), Option<usize>> = std::collections::HashMap::new();
    let mut places = Vec::with_capacity(links.len());
    for (index, link) in links.iter().enumerate() {
        if !matches!(link.kind, LinkKind::Anchor | LinkKind::Area | LinkKind::Form | LinkKind::Plain) {
            places.push(None);
            continue;
        }
        let place = *known.entry((&link.text, &link.shown, link.kind == LinkKind::Plain)).or_insert_with(|| {
            let made = one(index, link, has_words(index))?;
            out.push(made);
            Some(out.len() - 1)
        });
        if let Some(place) = place {
            out[place].visible |= link.visible;
        }
        places.push(place);
    }
    (out, places)
}

fn one(index: usize, link: &Link, has_words: bool) -> Option<BodyLink> {
    let target = UrlParts::parse(&link.text, false).or_else(|| UrlParts::parse(link.url.as_ref()?.as_str(), true))?;
    let hyperlink = link.kind != LinkKind::Plain;
    let shown = Some(link.shown.trim()).filter(|shown| has_words && !shown.is_empty());
    let display_url = shown.and_then(shown_url);
    let display_text = shown.filter(|_| display_url.is_none() && hyperlink).map(str::to_owned);
    Some(BodyLink {
        link: index,
        href: unwrap_url(target),
        display_text,
        display_url,
        hyperlink,
        visible: link.visible,
    })
}

fn shown_url(shown: &str) -> Option<UrlParts> {
    // Most links show words.
    if !shown.contains('.') || shown.contains(char::is_whitespace) {
        return None;
    }
    UrlParts::parse(shown, false).filter(|url| url.host.is_some())
}

/// How often links are shared between two lists does not count: each once, in order.
pub(super) fn unique(places: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut seen = HashSet::new();
    places.filter(|place| seen.insert(*place)).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::mail::{Message, MessageLimits};

    fn message(html: &str) -> Message {
        let raw = format!("Content-Type: text/html; charset=utf-8\r\n\r\n{html}");
        Message::parse(Bytes::from(raw), &MessageLimits::default())
    }

    #[test]
    fn shown_and_targets() {
        let message = message(
            "<a href='https://href.li/?http://evil.example.com/x'>www.example.org/login</a> \
             <a href=http://example.com/a>Pay  <b>now</b></a><a href=http://example.com/a>Pay now</a>\
             <a href=http://example.com/p><img src=http://i.example/x.png alt=Logo></a>\
             <a href='mailto:me@example.com'>me@example.com</a><p>see http://example.net/plain</p>\
             <a href='#x'>top</a><a href=nowhere>n</a><a style='display:none' href=http://h.example.com>h</a>",
        );
        let got: Vec<_> = message
            .body_links()
            .iter()
            .map(|l| {
                let shown = l.display_url.as_ref().map(|u| u.url.as_str());
                (l.href.target.url.as_str(), l.display_text.as_deref(), shown, l.mismatched(), l.hyperlink, l.visible)
            })
            .collect();
        assert_eq!(
            got,
            [
                ("http://evil.example.com/x", None, Some("www.example.org/login"), Some(true), true, true),
                ("http://example.com/a", Some("Pay now"), None, None, true, true),
                ("http://example.com/p", None, None, None, true, true),
                ("mailto:me@example.com", Some("me@example.com"), None, None, true, true),
                ("http://h.example.com", Some("h"), None, None, true, false),
                ("http://example.net/plain", None, Some("http://example.net/plain"), Some(false), false, true),
            ]
        );
        assert_eq!(message.body_links()[0].href.encoders, ["href_li"]);
    }
}
