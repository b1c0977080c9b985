//! A pull reader for XML, forgiving: tags with attributes and text, in order. No entities but the five of XML and numbers,
//! no DTD, no nesting kept: what is broken is skipped. Never fails, never recurses.

use std::borrow::Cow;

/// One event. Names are without their namespace prefix.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event<'a> {
    /// `<name …>`; also for `<name …/>`, which is followed by an `End`.
    Start { name: &'a str, attributes: &'a str },
    /// `</name>`.
    End(&'a str),
    /// Text between tags, entities decoded.
    Text(Cow<'a, str>),
}

/// Reads the events of an XML text.
pub(super) struct Reader<'a> {
    rest: &'a str,
    closing: Option<&'a str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, closing: None }
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        if let Some(name) = self.closing.take() {
            return Some(Event::End(name));
        }
        loop {
            if self.rest.is_empty() {
                return None;
            }
            if !self.rest.starts_with('<') {
                let end = memchr::memchr(b'<', self.rest.as_bytes()).unwrap_or(self.rest.len());
                let (text, rest) = self.rest.split_at(end);
                self.rest = rest;
                return Some(Event::Text(decode(text)));
            }
            let skip = |open: &str, close: &str| {
                let inner = self.rest.strip_prefix(open)?;
                Some(inner.find(close).map_or((inner, ""), |at| (&inner[..at], &inner[at + close.len()..])))
            };
            if let Some((text, rest)) = skip("<![CDATA[", "]]>") {
                self.rest = rest;
                return Some(Event::Text(Cow::Borrowed(text)));
            }
            if let Some((_, rest)) = skip("<!--", "-->").or_else(|| skip("<?", "?>")).or_else(|| skip("<!", ">")) {
                self.rest = rest;
                continue;
            }
            let end = tag_end(self.rest);
            let tag = self.rest[1..end].trim_end_matches('>');
            self.rest = &self.rest[end..];
            if let Some(name) = tag.strip_prefix('/') {
                return Some(Event::End(local(name.trim())));
            }
            let empty = tag.ends_with('/');
            let tag = tag.trim_end_matches('/');
            let split = tag.find(|c: char| c.is_ascii_whitespace() || c == '/').unwrap_or(tag.len());
            let name = local(&tag[..split]);
            self.closing = empty.then_some(name);
            return Some(Event::Start { name, attributes: &tag[split..] });
        }
    }
}

/// Where the tag at the start of `text` ends, quotes respected.
fn tag_end(text: &str) -> usize {
    let mut quote = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' | b'\'' if quote == 0 => quote = byte,
            b if b == quote => quote = 0,
            b'>' if quote == 0 => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A name without its prefix.
pub(super) fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

/// The attributes of a tag: name as written (with prefix) and decoded value.
pub(super) fn attributes(text: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let inner = &after[1..];
        let (value, next) = inner.split_once(quote).unwrap_or((inner, ""));
        rest = next;
        Some((name.trim(), decode(value)))
    })
}

/// One attribute, by its local name.
pub(super) fn attribute<'a>(text: &'a str, name: &str) -> Option<Cow<'a, str>> {
    attributes(text).find(|(n, _)| local(n) == name).map(|(_, value)| value)
}

/// Decodes the entities of XML.
pub(super) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.bytes().take(12).position(|b| b == b';');
        let found = end.and_then(|end| {
            let entity = &rest[1..end];
            match entity {
                "amp" => Some('&'),
                "lt" => Some('<'),
                "gt" => Some('>'),
                "quot" => Some('"'),
                "apos" => Some('\''),
                _ => {
                    let number = entity.strip_prefix('#')?;
                    let code = match number.strip_prefix(['x', 'X']) {
                        Some(hex) => u32::from_str_radix(hex, 16),
                        None => number.parse(),
                    };
                    code.ok().and_then(char::from_u32)
                }
            }
        });
        match (found, end) {
            (Some(c), Some(end)) => {
                out.push(c);
                rest = &rest[end + 1..];
            }
            _ => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// What the markup of an XML file names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Xml {
    /// Element names without prefix, each once, in order.
    pub tags: Vec<String>,
    /// Namespace names declared, each once.
    pub namespaces: Vec<String>,
    /// The document type declaration, without `<!` and `>`.
    pub doc_type: Option<String>,
}

/// Collects the names; at most `most` of each.
pub(super) fn names(text: &str, most: usize) -> Xml {
    let mut out = Xml::default();
    for event in Reader::new(text) {
        let Event::Start { name, attributes: list } = event else { continue };
        if out.tags.len() < most && !out.tags.iter().any(|tag| tag == name) {
            out.tags.push(name.to_owned());
        }
        if !list.contains("xmlns") {
            continue;
        }
        for (name, value) in attributes(list) {
            let declares = name == "xmlns" || name.starts_with("xmlns:");
            if declares && out.namespaces.len() < most && !out.namespaces.iter().any(|n| *n == value) {
                out.namespaces.push(value.into_owned());
            }
        }
    }
    out.doc_type = text.find("<!DOCTYPE").map(|at| {
        let rest = &text[at + 2..];
        rest[..rest.find('>').unwrap_or(rest.len()).min(rest.floor_char_boundary(1_000))].to_owned()
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "<?xml version='1.0'?><!DOCTYPE svg PUBLIC \"x\"><!-- <no> --><s:svg xmlns:s=\"http://s\" \
        a='>&amp;&#x41;'><a href=\"b\"/>t&lt;&bad;<![CDATA[<c>]]></s:svg>";

    #[test]
    fn events() {
        let found: Vec<Event<'_>> = Reader::new(TEXT).collect();
        let Event::Start { name: "svg", attributes: list } = found[0] else { panic!("{found:?}") };
        assert_eq!(attribute(list, "a").as_deref(), Some(">&A"));
        assert_eq!(found[2], Event::End("a"));
        assert_eq!(found[3], Event::Text("t<&bad;".into()));
        assert_eq!(found[4], Event::Text("<c>".into()));
        let names = names(TEXT, 10);
        assert_eq!(names.tags, ["svg", "a"]);
        assert_eq!(names.namespaces, ["http://s"]);
        assert_eq!(names.doc_type.as_deref(), Some("DOCTYPE svg PUBLIC \"x\""));
    }

    #[test]
    fn cut_anywhere() {
        for at in 0..TEXT.len() {
            for event in Reader::new(&TEXT[..at]) {
                if let Event::Start { attributes: list, .. } = event {
                    attributes(list).count();
                }
            }
        }
        assert_eq!(Reader::new("<<<>></></ >é<é").count(), Reader::new("<<<>></></ >é<é").count());
    }
}
