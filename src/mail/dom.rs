//! A tree of an HTML text as browsers build it (WHATWG HTML, 13.2.6), flat, in document order.
//!
//! html5ever builds it; the nodes are numbered in document order afterwards, so a node's descendants are the numbers up to
//! its end. Nodes, depth and copied bytes are bounded: at a bound building stops and `is_cut` says so. Nothing here
//! recurses. Not here: queries (`xpath`), what a person sees (`html.rs`).

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use html5ever::interface::{ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::tendril::{StrTendril, TendrilSink};
use html5ever::{Attribute, ExpandedName, LocalName, Namespace, ParseOpts, QualName, parse_document};

/// Nodes of one tree at most.
const MAX_NODES: usize = 100_000;
/// Elements inside one another; checked after each piece of the source, so somewhat more may get in.
const MAX_DEPTH: usize = 512;
/// Bytes of source handed on between two looks at the bounds.
const PIECE_BYTES: usize = 2 << 10;
const VOID: &[&str] =
    &["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"];

/// What a node is; its texts are those the parser made, not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Document,
    /// Local name, attributes in order.
    Element(LocalName, Vec<(LocalName, StrTendril)>),
    Text(StrTendril),
    Comment(StrTendril),
}

/// One node; its number is its place in document order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// The root is its own parent.
    pub(super) parent: usize,
    /// The number after its last descendant.
    pub(super) end: usize,
}

/// A tree; node 0 is the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dom {
    pub(super) nodes: Vec<Node>,
    cut: bool,
}

impl Dom {
    /// Builds the tree of an HTML text.
    pub fn parse(html: &str) -> Self {
        let sink = Sink::new(html.len());
        let mut parser = parse_document(sink, ParseOpts::default());
        let mut rest = html;
        while !rest.is_empty() && !parser.tokenizer.sink.sink.full.get() {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
            parser.process(StrTendril::from(piece));
            rest = after;
        }
        let mut dom = parser.finish();
        dom.cut |= !rest.is_empty();
        dom
    }

    /// Whether the tree ends before the text does.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Text of a node and all below it, as it stands; comments are no text.
    pub(super) fn text(&self, node: usize) -> Cow<'_, str> {
        if let Kind::Text(text) | Kind::Comment(text) = &self.nodes[node].kind {
            return Cow::Borrowed(text);
        }
        let mut below = self.nodes[node..self.nodes[node].end].iter().filter_map(|node| match &node.kind {
            Kind::Text(text) => Some(&**text),
            _ => None,
        });
        let Some(first) = below.next() else { return Cow::Borrowed("") };
        let Some(second) = below.next() else { return Cow::Borrowed(first) };
        Cow::Owned([first, second].into_iter().chain(below).collect())
    }

    /// Nodes of a subtree, its root included.
    pub(super) fn size(&self, node: usize) -> usize {
        self.nodes.get(node).map_or(0, |one| one.end - node)
    }

    /// The children of a node.
    pub(super) fn children(&self, node: usize) -> impl Iterator<Item = usize> {
        let end = self.nodes[node].end;
        let first = Some(node + 1).filter(|first| *first < end);
        std::iter::successors(first, move |child| Some(self.nodes[*child].end).filter(|next| *next < end))
    }

    /// A node as HTML, its tags included.
    pub(super) fn outer_html(&self, node: usize) -> String {
        let mut out = String::new();
        let mut open: Vec<usize> = Vec::new();
        for at in node..self.nodes[node].end {
            self.close(&mut open, at, &mut out);
            match &self.nodes[at].kind {
                Kind::Document => {}
                Kind::Text(text) => {
                    let raw = matches!(&self.nodes[self.nodes[at].parent].kind,
                        Kind::Element(name, _) if matches!(&**name, "script" | "style" | "xmp" | "iframe" | "noembed" | "noframes"));
                    if raw { out.push_str(text) } else { escape(text, false, &mut out) }
                }
                Kind::Comment(text) => {
                    out.push_str("<!--");
                    out.push_str(text);
                    out.push_str("-->");
                }
                Kind::Element(name, attributes) => {
                    out.push('<');
                    out.push_str(name);
                    for (name, value) in attributes {
                        out.push(' ');
                        out.push_str(name);
                        out.push_str("=\"");
                        escape(value, true, &mut out);
                        out.push('"');
                    }
                    out.push('>');
                    if !VOID.contains(&&**name) {
                        open.push(at);
                    }
                }
            }
        }
        self.close(&mut open, usize::MAX, &mut out);
        out
    }

    fn close(&self, open: &mut Vec<usize>, at: usize, out: &mut String) {
        while let Some(last) = open.pop_if(|last| self.nodes[*last].end <= at) {
            if let Kind::Element(name, _) = &self.nodes[last].kind {
                out.push_str("</");
                out.push_str(name);
                out.push('>');
            }
        }
    }
}

fn escape(text: &str, attribute: bool, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '\u{a0}' => out.push_str("&nbsp;"),
            '"' if attribute => out.push_str("&quot;"),
            '<' if !attribute => out.push_str("&lt;"),
            '>' if !attribute => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
}

/// No node: the end of a chain of siblings.
const NONE: usize = usize::MAX;

struct Built {
    kind: Kind,
    /// [`NONE`] while it hangs nowhere.
    parent: usize,
    depth: usize,
    first: usize,
    last: usize,
    before: usize,
    after: usize,
}

impl Built {
    fn new(kind: Kind) -> Self {
        Self { kind, parent: NONE, depth: 0, first: NONE, last: NONE, before: NONE, after: NONE }
    }
}

/// A node's number in order of making, and its name.
#[derive(Clone)]
struct Handle {
    id: usize,
    /// Both empty for what is no element.
    space: Namespace,
    local: LocalName,
}

impl Handle {
    fn nameless(id: usize) -> Self {
        Self { id, space: Namespace::default(), local: LocalName::default() }
    }
}

struct Sink {
    nodes: RefCell<Vec<Built>>,
    full: Cell<bool>,
    bytes_left: Cell<usize>,
}

impl Sink {
    fn new(source: usize) -> Self {
        let bytes_left = source.saturating_mul(4).saturating_add(1 << 20);
        let nodes = vec![Built::new(Kind::Document)];
        Self { nodes: RefCell::new(nodes), full: Cell::new(false), bytes_left: Cell::new(bytes_left) }
    }

    fn add(&self, kind: Kind, bytes: usize) -> usize {
        let mut nodes = self.nodes.borrow_mut();
        let left = self.bytes_left.get();
        if nodes.len() >= MAX_NODES || bytes > left {
            self.full.set(true);
        }
        self.bytes_left.set(left.saturating_sub(bytes));
        nodes.push(Built::new(kind));
        nodes.len() - 1
    }

    fn detach(&self, node: usize) {
        let nodes = &mut *self.nodes.borrow_mut();
        let Built { parent, before, after, .. } = nodes[node];
        if parent == NONE {
            return;
        }
        match before {
            NONE => nodes[parent].first = after,
            before => nodes[before].after = after,
        }
        match after {
            NONE => nodes[parent].last = before,
            after => nodes[after].before = before,
        }
        let node = &mut nodes[node];
        (node.parent, node.before, node.after) = (NONE, NONE, NONE);
    }

    /// Puts a node or text into `parent`, before its child `after` ([`NONE`]: behind all).
    fn insert(&self, parent: usize, after: usize, child: NodeOrText<Handle>) {
        if let NodeOrText::AppendNode(node) = &child {
            self.detach(node.id);
        }
        let before = match after {
            NONE => self.nodes.borrow()[parent].last,
            after => self.nodes.borrow()[after].before,
        };
        let id = match child {
            NodeOrText::AppendNode(handle) => handle.id,
            NodeOrText::AppendText(text) => {
                if let Some(Built { kind: Kind::Text(known), .. }) = self.nodes.borrow_mut().get_mut(before) {
                    known.push_tendril(&text);
                    return;
                }
                self.add(Kind::Text(text), 0)
            }
        };
        let nodes = &mut *self.nodes.borrow_mut();
        let depth = nodes[parent].depth + 1;
        if depth > MAX_DEPTH {
            self.full.set(true);
        }
        match before {
            NONE => nodes[parent].first = id,
            before => nodes[before].after = id,
        }
        match after {
            NONE => nodes[parent].last = id,
            after => nodes[after].before = id,
        }
        let node = &mut nodes[id];
        (node.parent, node.depth, node.before, node.after) = (parent, depth, before, after);
    }
}

impl TreeSink for Sink {
    type Handle = Handle;
    type Output = Dom;
    type ElemName<'a> = ExpandedName<'a>;

    fn finish(self) -> Dom {
        let mut built = self.nodes.into_inner();
        let mut nodes: Vec<Node> = Vec::with_capacity(built.len());
        // Numbers of the nodes that are open: the node reached last and those around it.
        let mut open: Vec<usize> = Vec::new();
        let mut next = 0;
        while next != NONE {
            let (kind, number) = (std::mem::replace(&mut built[next].kind, Kind::Document), nodes.len());
            nodes.push(Node { kind, parent: open.last().copied().unwrap_or(0), end: number + 1 });
            if built[next].first != NONE {
                open.push(number);
                next = built[next].first;
                continue;
            }
            // Up until there is a sibling to go on with.
            while next != NONE && built[next].after == NONE {
                next = built[next].parent;
                if let Some(closed) = open.pop() {
                    nodes[closed].end = nodes.len();
                }
            }
            if next != NONE {
                next = built[next].after;
            }
        }
        Dom { nodes, cut: self.full.get() }
    }

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> Handle {
        Handle::nameless(0)
    }

    fn elem_name<'a>(&'a self, target: &'a Handle) -> ExpandedName<'a> {
        ExpandedName { ns: &target.space, local: &target.local }
    }

    fn create_element(&self, name: QualName, attributes: Vec<Attribute>, _: ElementFlags) -> Handle {
        let bytes = attributes.iter().map(|a| a.value.len()).sum();
        let kept = if bytes > self.bytes_left.get() { Vec::new() } else { attributes };
        let list = kept.into_iter().map(|attribute| (attribute.name.local, attribute.value)).collect();
        let id = self.add(Kind::Element(name.local.clone(), list), bytes);
        Handle { id, space: name.ns, local: name.local }
    }

    fn create_comment(&self, text: StrTendril) -> Handle {
        Handle::nameless(self.add(Kind::Comment(text), 0))
    }

    fn create_pi(&self, target: StrTendril, data: StrTendril) -> Handle {
        Handle::nameless(self.add(Kind::Comment(format!("?{target} {data}").into()), 0))
    }

    fn append(&self, parent: &Handle, child: NodeOrText<Handle>) {
        self.insert(parent.id, NONE, child);
    }

    fn append_based_on_parent_node(&self, element: &Handle, before: &Handle, child: NodeOrText<Handle>) {
        let has_parent = self.nodes.borrow()[element.id].parent != NONE;
        if has_parent { self.append_before_sibling(element, child) } else { self.append(before, child) }
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, target: &Handle) -> Handle {
        // The contents of a template are its children here.
        target.clone()
    }

    fn same_node(&self, x: &Handle, y: &Handle) -> bool {
        x.id == y.id
    }

    fn set_quirks_mode(&self, _: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &Handle, child: NodeOrText<Handle>) {
        if let NodeOrText::AppendNode(node) = &child {
            self.detach(node.id);
        }
        let parent = self.nodes.borrow()[sibling.id].parent;
        if parent != NONE {
            self.insert(parent, sibling.id, child);
        }
    }

    fn add_attrs_if_missing(&self, target: &Handle, attributes: Vec<Attribute>) {
        if let Kind::Element(_, list) = &mut self.nodes.borrow_mut()[target.id].kind {
            for attribute in attributes {
                let name = attribute.name.local;
                if list.len() < 256 && !list.iter().any(|(known, _)| *known == name) {
                    list.push((name, attribute.value));
                }
            }
        }
    }

    fn remove_from_parent(&self, target: &Handle) {
        self.detach(target.id);
    }

    fn reparent_children(&self, node: &Handle, new_parent: &Handle) {
        loop {
            let first = self.nodes.borrow()[node.id].first;
            if first == NONE {
                return;
            }
            self.insert(new_parent.id, NONE, NodeOrText::AppendNode(Handle::nameless(first)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees() {
        let cases = [
            ("<p>a<p>b", "<html><head></head><body><p>a</p><p>b</p></body></html>"),
            (
                "<table><td>x",
                "<html><head></head><body><table><tbody><tr><td>x</td></tr></tbody></table></body></html>",
            ),
            ("<b><p>x</b>y", "<html><head></head><body><b></b><p><b>x</b>y</p></body></html>"),
            (
                "<table>a<tr><td>b",
                "<html><head></head><body>a<table><tbody><tr><td>b</td></tr></tbody></table></body></html>",
            ),
            (
                "<!--c--><img alt='a\"b'>&lt;",
                "<!--c--><html><head></head><body><img alt=\"a&quot;b\">&lt;</body></html>",
            ),
            ("<script>a<b</script>", "<html><head><script>a<b</script></head><body></body></html>"),
        ];
        for (html, expected) in cases {
            assert_eq!(Dom::parse(html).outer_html(0), expected, "{html}");
        }
    }

    #[test]
    fn bounds() {
        let deep = Dom::parse(&"<div>".repeat(200_000));
        assert!(deep.is_cut() && deep.nodes.len() < 3_000, "{}", deep.nodes.len());
        let wide = Dom::parse(&"<br>".repeat(200_000));
        assert!(wide.is_cut() && wide.nodes.len() < MAX_NODES + 1_000);
        let formats: String = (0..2_000).map(|n| format!("<b x={n}><p>")).collect();
        assert!(Dom::parse(&formats).nodes.len() < 2 * MAX_NODES);
        assert!(!Dom::parse("<p>é</p>").is_cut());
    }
}
