//! Functions over files and HTML.

use std::cell::Cell;

use super::{Run, Value};
use crate::mail::{Dom, Message, XPathNode};
use crate::policy::mql::graph::Query;
use crate::policy::mql::model::{self, FileBytes, HtmlSource, class, scan};
use crate::policy::mql::needs::{Capability, Needs};
use crate::policy::mql::value::{Source, Store};

pub(super) fn call<'m>(run: &Run<'m>, name: &str, values: &[Value<'m>]) -> Value<'m> {
    let store = run.store;
    let file = values[0].as_object().and_then(|object| object.source().as_any()).and_then(|any| any.downcast_ref());
    let file: &'m FileBytes = match file {
        Some(file) => file,
        None => return Value::Unavailable(Needs::of(Capability::Files)),
    };
    if !run.spend(file.bytes.len() / 64) {
        return Value::Unavailable(Needs::of(Capability::Budget));
    }
    let head = &file.bytes[..file.bytes.len().min(run.budget.max_parsed_bytes)];
    match name {
        "file.parse_eml" => {
            let head = &file.bytes[..file.bytes.len().min(4_096)];
            let is_message = head.split(|b| *b == b'\n').take(5).any(|line| {
                let name: &[u8] = line.split(|b| *b == b':').next().unwrap_or_default();
                name.len() < line.len() && !name.is_empty() && name.iter().all(|b| b.is_ascii_graphic())
            });
            if !is_message {
                return Value::Null;
            }
            run.root.nested(store.keep(Message::parse(file.bytes.clone(), run.root.view.message.limits())), store)
        }
        "file.parse_html" => {
            let text = store.keep(String::from_utf8_lossy(head).into_owned());
            let limit = run.root.view.content.max_links;
            store.object(class("Html"), HtmlSource::read(text, limit, store))
        }
        "file.parse_text" => match decoded(head, values[1]) {
            Some(text) => store.object(class("ParsedText"), ParsedText(store.text(&text))),
            None => Value::Null,
        },
        _ => {
            let Some((first, files)) = run.files(file) else { return Value::Null };
            match name {
                "file.explode" => scan::records(files, &run.root.view.facts.answers, store),
                "file.expand_archives" => scan::archive(files, store),
                "file.oletools" => scan::oletools(first, store),
                "beta.parse_exif" => scan::exif(first, store),
                "beta.scan_qr" => scan::qr(first, store),
                _ => scan::calendar(first, store),
            }
        }
    }
}

fn decoded(bytes: &[u8], encodings: Value<'_>) -> Option<String> {
    let asked = |name: &str| match encodings {
        Value::Array(names) => names.iter().any(|one| one.as_text().is_some_and(|t| t.eq_ignore_ascii_case(name))),
        _ => matches!(name, "ascii" | "utf8"),
    };
    if asked("utf16-le") && bytes.len().is_multiple_of(2) && bytes.starts_with(&[0xff, 0xfe]) {
        let units: Vec<u16> = bytes[2..].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        if let Ok(text) = String::from_utf16(&units) {
            return Some(text);
        }
    }
    let text = str::from_utf8(bytes).ok()?;
    (asked("utf8") || asked("ascii") && text.is_ascii()).then(|| text.to_owned())
}

struct ParsedText<'m>(&'m str);

impl<'m> Source<'m> for ParsedText<'m> {
    fn field(&self, _: &'static str, _: &'m Store) -> Value<'m> {
        Value::Text(self.0)
    }
}

/// `html.xpath`: nodes of an HTML object.
pub(in crate::policy::mql) fn xpath<'m>(run: &Run<'m>, html: Value<'m>, query: &'m Query) -> Value<'m> {
    let store = run.store;
    let raw = match html {
        Value::Object(object) => object.named("raw", store),
        other => other,
    };
    let raw = match raw {
        Value::Text(raw) => raw,
        other => return super::lost(other),
    };
    if !run.spend(raw.len() / 16) {
        return Value::Unavailable(Needs::of(Capability::Budget));
    }
    if run.lacks(raw, &query.required) {
        return store.object(class("XPathResult"), Nodes(Value::Array(&[])));
    }
    let tree = run.tree(raw, || Dom::parse(raw));
    let found = store.keep(query.xpath.evaluate(tree, run.budget.max_xpath_steps));
    if found.exhausted {
        return Value::Unavailable(Needs::of(Capability::Budget));
    }
    let left = store.keep(Cell::new(run.budget.max_xpath_nodes));
    let nodes =
        store.array(found.nodes.iter().map(|node| store.object(class("XPathNode"), NodeSource { node, tree, left })));
    store.object(class("XPathResult"), Nodes(nodes))
}

struct Nodes<'m>(Value<'m>);

impl<'m> Source<'m> for Nodes<'m> {
    fn field(&self, _: &'static str, _: &'m Store) -> Value<'m> {
        self.0
    }
}

struct NodeSource<'m> {
    node: &'m XPathNode,
    tree: &'m Dom,
    /// Nodes whose texts may still be made: nodes of a result may stand within each other.
    left: &'m Cell<usize>,
}

impl<'m> Source<'m> for NodeSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let Some(left) = self.left.get().checked_sub(self.node.size(self.tree)) else {
            return Value::Unavailable(Needs::of(Capability::Budget));
        };
        self.left.set(left);
        match field {
            "raw" => Value::Text(store.text(&self.node.raw(self.tree))),
            "inner_text" => Value::Text(store.text(&self.node.inner_text(self.tree))),
            "display_text" => Value::Text(store.text(&self.node.display(self.tree).0)),
            _ => {
                let links = store.keep(self.node.display(self.tree).1);
                model::links(links, store)
            }
        }
    }
}
