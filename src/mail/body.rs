//! What the reader of a message sees: its text and links, of all bodies in all readings together. Made once, on demand.

use std::ops::Range;

use super::finding::{Finding, FindingKind, Findings};
use super::html::{self, HtmlContent, LinkPlace};
use super::link::Link;
use super::url_finder::UrlFinder;
use super::{MessageLimits, Part, PartKind, decode};

/// Text and links of a message.
#[derive(Debug, Default)]
pub struct Body {
    /// Each HTML body: its part, and what it holds.
    pub html: Vec<(usize, HtmlContent)>,
    /// What a person sees: the HTML bodies' text, or the plain ones' when there is no HTML.
    pub visible: String,
    /// The plain bodies' text, whether shown or not.
    pub plain: String,
    /// Links of all bodies, in order.
    pub links: Vec<Link>,
    /// Where links stand in `plain`.
    pub(super) plain_places: Vec<LinkPlace>,
    /// Where URLs stand in the visible text of the HTML bodies, counted from the start of `visible`.
    pub(super) visible_places: Vec<LinkPlace>,
    pub(super) findings: Vec<Finding>,
}

impl Body {
    /// Where in `visible` the text of an HTML body begins.
    pub(super) fn visible_base(&self, place: usize) -> usize {
        let before = self.html[..place].iter().fold(0, |end, (_, content)| after(end) + content.visible.len());
        after(before)
    }
}

/// Where the next text begins: a line end goes between two.
fn after(end: usize) -> usize {
    if end == 0 { 0 } else { end + 1 }
}

/// Reads all bodies.
pub(super) fn read(raw: &[u8], parts: &[Part], asides: &[(usize, Range<usize>)], limits: &MessageLimits) -> Body {
    let mut reader = Reader {
        body: Body::default(),
        findings: Findings::default(),
        limits,
        text_left: limits.max_text_bytes,
        finder: UrlFinder::new(),
    };
    for (index, part) in parts.iter().enumerate() {
        if part.is_body() {
            reader.part(index, part, part.text());
            if let Some(other) = part.other_text() {
                reader.part(index, part, &other);
            }
        } else if let Some(other) = part.other_text().filter(|_| part.kind == PartKind::Multipart) {
            // An encoded container: what is in there once decoded is read as text, tags and all.
            reader.plain(index, &other);
            reader.html(index, &other);
        }
    }
    for (part, range) in asides {
        let text = decode::charset(&raw[range.clone()], "");
        reader.links_in(*part, &text, Where::Aside);
    }
    reader.finish()
}

/// Which text is searched for URLs, and where it begins in the whole.
#[derive(Clone, Copy)]
enum Where {
    Plain(usize),
    Visible(usize),
    Aside,
}

struct Reader<'a> {
    body: Body,
    findings: Findings,
    limits: &'a MessageLimits,
    text_left: usize,
    finder: UrlFinder,
}

impl Reader<'_> {
    fn part(&mut self, index: usize, part: &Part, text: &str) {
        let text = self.within_limit(index, text);
        let as_html = part.kind == PartKind::Html;
        let as_plain = !as_html || part.is_type("text/plain");
        if as_html {
            self.html(index, text);
        }
        if as_plain {
            self.plain(index, text);
        }
    }

    fn within_limit<'t>(&mut self, part: usize, text: &'t str) -> &'t str {
        if text.len() <= self.text_left {
            self.text_left -= text.len();
            return text;
        }
        self.findings.add(FindingKind::TooMuchText, part);
        let end = text.floor_char_boundary(self.text_left);
        self.text_left = 0;
        &text[..end]
    }

    fn html(&mut self, index: usize, text: &str) {
        let (content, full) = html::scan(text, index, &mut self.body.links, self.limits.max_links);
        if full {
            self.findings.add(FindingKind::TooManyLinks, index);
        }
        let base = self.body.visible_base(self.body.html.len());
        self.links_in(index, &content.visible, Where::Visible(base));
        self.body.html.push((index, content));
    }

    fn plain(&mut self, index: usize, text: &str) {
        if !self.body.plain.is_empty() {
            self.body.plain.push('\n');
        }
        let base = self.body.plain.len();
        self.body.plain.push_str(text);
        self.links_in(index, text, Where::Plain(base));
    }

    /// URLs standing in text. Those that are shown for a link already are not given twice.
    fn links_in(&mut self, part: usize, text: &str, place: Where) {
        if memchr::memmem::find(text.as_bytes(), b"://").is_none() && !text.contains("www.") {
            return;
        }
        let known = self.body.links.len();
        let all = !matches!(place, Where::Visible(_));
        let found = self.finder.find(text);
        let www = text.match_indices("www.").filter_map(|(at, _)| {
            let starts =
                !text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '@' | '-' | '='));
            let word = text[at..].split(|c: char| c.is_whitespace() || "<>\"'()[]{}|,;".contains(c)).next()?;
            (starts && word.matches('.').count() > 1).then(|| (at, word.trim_end_matches(['.', '!', '?', ':'])))
        });
        for (at, target) in found.chain(www) {
            let shown_already = |l: &Link| !all && (l.text == target || l.shown.contains(target));
            if self.body.links[..known].iter().any(shown_already) {
                continue;
            }
            if self.body.links.len() >= self.limits.max_links {
                self.findings.add(FindingKind::TooManyLinks, part);
                return;
            }
            let link = self.body.links.len();
            match place {
                Where::Plain(base) => self.body.plain_places.push(LinkPlace { link, at: base + at, words: true }),
                Where::Visible(base) => self.body.visible_places.push(LinkPlace { link, at: base + at, words: true }),
                Where::Aside => {}
            }
            self.body.links.push(Link { part, ..Link::plain(target) });
        }
    }

    fn finish(mut self) -> Body {
        for (_, content) in &self.body.html {
            if !self.body.visible.is_empty() {
                self.body.visible.push('\n');
            }
            self.body.visible.push_str(&content.visible);
        }
        if self.body.html.is_empty() {
            self.body.visible = self.body.plain.clone();
        }
        self.body.findings = self.findings.into_vec();
        self.body
    }
}
