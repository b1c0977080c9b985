//! HTML as a tree, built by html5ever as the standard says (WHATWG HTML, 13.2.6): implied `tbody`, `head`, foster parents.
//!
//! One flat list in document order, an element's inside right behind it: nothing here recurses, nor does freeing it.
//! Bounded by bytes, nodes, depth and attributes of a tag; beyond a limit the rest is unread and [`HtmlTree::is_cut`]
//! says so. Not here: style, scripts, text as a person sees it (`html.rs` does that in one pass without a tree).

use std::borrow::Cow;
use std::cell::{Cell, Ref, RefCell};

use html5ever::interface::tree_builder::{ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::tendril::{StrTendril, TendrilSink};
use html5ever::{Attribute, LocalName, QualName, local_name, ns, parse_document};

/// How much of a page becomes a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLimits {
    /// Bytes of source.
    pub max_bytes: usize,
    /// Elements, texts and comments together.
    pub max_nodes: usize,
    /// Elements inside one another.
    pub max_depth: usize,
    /// Attributes of one tag.
    pub max_attributes: usize,
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self { max_bytes: 2 << 20, max_nodes: 100_000, max_depth: 512, max_attributes: 256 }
    }
}

/// The parser looks at the limits after so many bytes; it can overrun them by what fits in there.
const CHUNK_BYTES: usize = 1 << 10;
const NONE: u32 = u32::MAX;

/// What a node is.
#[derive(Debug)]
pub(super) enum Kind {
    Document,
    Element { name: LocalName, attributes: Vec<(Box<str>, Box<str>)> },
    Text(Box<str>),
    Comment(Box<str>),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Index of the parent; of the document: itself.
    pub(super) parent: u32,
    /// Index after the last node inside.
    pub(super) end: u32,
}

/// A page as a tree. Node 0 is the document; a node's inside is the nodes after it up to its `end`.
#[derive(Debug)]
pub struct HtmlTree {
    pub(super) nodes: Vec<Node>,
    cut: bool,
}

impl HtmlTree {
    /// Reads a page or a piece of one. Never fails.
    pub fn parse(html: &str, limits: TreeLimits) -> Self {
        let length = harmless_length(html, limits);
        let mut parser = parse_document(Builder::new(), html5ever::ParseOpts::default());
        let mut at = 0;
        while at < length {
            let end = html.ceil_char_boundary(at + CHUNK_BYTES).min(length);
            parser.process(StrTendril::from_slice(&html[at..end]));
            at = end;
            let built = &parser.tokenizer.sink.sink;
            if built.nodes.borrow().len() > limits.max_nodes || built.deepest.get() > limits.max_depth {
                break;
            }
        }
        let cut = at < html.len();
        Self { nodes: parser.finish(), cut }
    }

    /// Whether a limit was met and the rest left out.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Nodes in the tree, the document counted.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn node(&self, index: u32) -> &Node {
        // Indexes come from this tree only; the document is always there.
        self.nodes.get(index as usize).unwrap_or(&self.nodes[0])
    }

    /// Children, in order.
    pub(super) fn children(&self, index: u32) -> impl Iterator<Item = u32> {
        let end = self.node(index).end;
        let mut next = index + 1;
        std::iter::from_fn(move || {
            let child = next;
            (child < end).then(|| {
                next = self.node(child).end;
                child
            })
        })
    }

    /// The text inside, tags off. What scripts and styles hold counts only for themselves.
    pub(super) fn text_inside(&self, index: u32, all: bool) -> Cow<'_, str> {
        let node = self.node(index);
        match &node.kind {
            Kind::Text(text) | Kind::Comment(text) => return Cow::Borrowed(text),
            Kind::Document | Kind::Element { .. } => {}
        }
        let mut pieces = Cow::Borrowed("");
        let mut at = index + 1;
        while at < node.end {
            let inner = self.node(at);
            match &inner.kind {
                Kind::Text(text) if pieces.is_empty() => pieces = Cow::Borrowed(text),
                Kind::Text(text) => pieces.to_mut().push_str(text),
                Kind::Element { name, .. } if !all && is_silent(name) => {
                    at = inner.end;
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        pieces
    }

    /// The source of a node and its inside, written anew: at most `max_bytes` and what the last node adds.
    pub(super) fn source(&self, index: u32, max_bytes: usize) -> String {
        let mut out = String::new();
        let mut open: Vec<u32> = Vec::new();
        let end = self.node(index).end;
        for at in index..end {
            while let Some(top) = open.pop_if(|top| self.node(*top).end <= at) {
                self.write_end(top, &mut out);
            }
            if out.len() > max_bytes {
                break;
            }
            match &self.node(at).kind {
                Kind::Document => {}
                Kind::Element { name, attributes } => {
                    write_start(name, attributes, &mut out);
                    if !is_void(name) {
                        open.push(at);
                    }
                }
                Kind::Text(text) => match &self.node(self.node(at).parent).kind {
                    Kind::Element { name, .. } if is_raw(name) => out.push_str(text),
                    _ => escape(text, false, &mut out),
                },
                Kind::Comment(text) => {
                    out.push_str("<!--");
                    out.push_str(text);
                    out.push_str("-->");
                }
            }
        }
        while let Some(top) = open.pop() {
            self.write_end(top, &mut out);
        }
        out
    }

    fn write_end(&self, index: u32, out: &mut String) {
        if let Kind::Element { name, .. } = &self.node(index).kind {
            out.push_str("</");
            out.push_str(name);
            out.push('>');
        }
    }
}

fn write_start(name: &str, attributes: &[(Box<str>, Box<str>)], out: &mut String) {
    out.push('<');
    out.push_str(name);
    for (name, value) in attributes {
        out.push(' ');
        out.push_str(name);
        out.push_str("=\"");
        escape(value, true, out);
        out.push('"');
    }
    out.push('>');
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

fn is_silent(name: &LocalName) -> bool {
    matches!(*name, local_name!("script") | local_name!("style") | local_name!("template"))
}

fn is_raw(name: &LocalName) -> bool {
    matches!(
        *name,
        local_name!("script")
            | local_name!("style")
            | local_name!("xmp")
            | local_name!("iframe")
            | local_name!("noembed")
            | local_name!("noframes")
            | local_name!("plaintext")
    )
}

fn is_void(name: &LocalName) -> bool {
    const VOID: &[&str] = &[
        "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
        "frame", "basefont", "bgsound", "keygen",
    ];
    VOID.contains(&&**name)
}

/// How much of the source may be given to the parser, which looks at each attribute of a tag for each further one:
/// up to the first tag with too many.
fn harmless_length(html: &str, limits: TreeLimits) -> usize {
    let html = &html[..html.floor_char_boundary(limits.max_bytes)];
    let bytes = html.as_bytes();
    let mut at = 0;
    while let Some(offset) = memchr::memchr(b'<', &bytes[at..]) {
        let open = at + offset;
        at = open + 1;
        match bytes.get(at) {
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'/') => match tag_end(bytes, at, limits.max_attributes) {
                Some(end) => at = end,
                None => return open,
            },
            _ => continue,
        }
    }
    html.len()
}

/// The place after a tag, or the end when it never ends; `None` when it has more than so many attributes.
fn tag_end(bytes: &[u8], start: usize, max_attributes: usize) -> Option<usize> {
    let (mut at, mut attributes, mut between) = (start, 0, false);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'>' => return Some(at),
            b'=' => {
                while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
                    at += 1;
                }
                if let Some(quote @ (b'"' | b'\'')) = bytes.get(at) {
                    at = memchr::memchr(*quote, &bytes[at + 1..]).map_or(bytes.len(), |offset| at + offset + 2);
                    between = true;
                }
            }
            b'/' => between = true,
            byte if byte.is_ascii_whitespace() => between = true,
            _ if between => {
                between = false;
                attributes += 1;
                if attributes > max_attributes {
                    return None;
                }
            }
            _ => {}
        }
    }
    Some(bytes.len())
}

/// A node while the tree is built: a link to each neighbour.
struct Loose {
    kind: LooseKind,
    depth: usize,
    parent: u32,
    first: u32,
    last: u32,
    before: u32,
    after: u32,
}

enum LooseKind {
    Document,
    Element(QualName, Vec<Attribute>),
    Text(String),
    Comment(StrTendril),
    /// Processing instructions, which HTML has not.
    Nothing,
}

/// Takes the parser's orders.
struct Builder {
    nodes: RefCell<Vec<Loose>>,
    deepest: Cell<usize>,
}

impl Builder {
    fn new() -> Self {
        let builder = Self { nodes: RefCell::default(), deepest: Cell::new(0) };
        builder.add(LooseKind::Document);
        builder
    }

    fn add(&self, kind: LooseKind) -> u32 {
        let mut nodes = self.nodes.borrow_mut();
        let index = u32::try_from(nodes.len()).unwrap_or(NONE - 1);
        nodes.push(Loose { kind, depth: 0, parent: NONE, first: NONE, last: NONE, before: NONE, after: NONE });
        index
    }

    fn detach(nodes: &mut [Loose], index: u32) {
        let Loose { parent, before, after, .. } = nodes[index as usize];
        if parent == NONE {
            return;
        }
        match before {
            NONE => nodes[parent as usize].first = after,
            _ => nodes[before as usize].after = after,
        }
        match after {
            NONE => nodes[parent as usize].last = before,
            _ => nodes[after as usize].before = before,
        }
        let node = &mut nodes[index as usize];
        (node.parent, node.before, node.after) = (NONE, NONE, NONE);
    }

    /// Puts a detached node before a sibling, or last when that is `NONE`.
    fn attach(&self, parent: u32, next: u32, index: u32) {
        let mut nodes = self.nodes.borrow_mut();
        Self::detach(&mut nodes, index);
        let before = if next == NONE { nodes[parent as usize].last } else { nodes[next as usize].before };
        match before {
            NONE => nodes[parent as usize].first = index,
            _ => nodes[before as usize].after = index,
        }
        match next {
            NONE => nodes[parent as usize].last = index,
            _ => nodes[next as usize].before = index,
        }
        let depth = nodes[parent as usize].depth + 1;
        let node = &mut nodes[index as usize];
        (node.parent, node.before, node.after, node.depth) = (parent, before, next, depth);
        self.deepest.set(self.deepest.get().max(depth));
    }

    fn insert(&self, parent: u32, next: u32, child: NodeOrText<u32>) {
        match child {
            NodeOrText::AppendNode(index) => self.attach(parent, next, index),
            NodeOrText::AppendText(text) => {
                let mut nodes = self.nodes.borrow_mut();
                let before = if next == NONE { nodes[parent as usize].last } else { nodes[next as usize].before };
                if before != NONE
                    && let LooseKind::Text(known) = &mut nodes[before as usize].kind
                {
                    known.push_str(&text);
                    return;
                }
                drop(nodes);
                let index = self.add(LooseKind::Text(text.to_string()));
                self.attach(parent, next, index);
            }
        }
    }
}

impl TreeSink for Builder {
    type Handle = u32;
    type Output = Vec<Node>;
    type ElemName<'a> = Ref<'a, QualName>;

    fn finish(self) -> Vec<Node> {
        flatten(self.nodes.into_inner())
    }

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> u32 {
        0
    }

    fn elem_name<'a>(&'a self, target: &'a u32) -> Ref<'a, QualName> {
        static NAMELESS: std::sync::LazyLock<QualName> =
            std::sync::LazyLock::new(|| QualName::new(None, ns!(html), local_name!("")));
        Ref::map(self.nodes.borrow(), |nodes| match &nodes[*target as usize].kind {
            LooseKind::Element(name, _) => name,
            // The parser asks for elements only.
            _ => &NAMELESS,
        })
    }

    fn create_element(&self, name: QualName, attributes: Vec<Attribute>, _: ElementFlags) -> u32 {
        self.add(LooseKind::Element(name, attributes))
    }

    fn create_comment(&self, text: StrTendril) -> u32 {
        self.add(LooseKind::Comment(text))
    }

    fn create_pi(&self, _: StrTendril, _: StrTendril) -> u32 {
        self.add(LooseKind::Nothing)
    }

    fn append(&self, parent: &u32, child: NodeOrText<u32>) {
        self.insert(*parent, NONE, child);
    }

    fn append_based_on_parent_node(&self, element: &u32, previous: &u32, child: NodeOrText<u32>) {
        let has_parent = self.nodes.borrow()[*element as usize].parent != NONE;
        match has_parent {
            true => self.append_before_sibling(element, child),
            false => self.append(previous, child),
        }
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, target: &u32) -> u32 {
        *target
    }

    fn same_node(&self, one: &u32, other: &u32) -> bool {
        one == other
    }

    fn set_quirks_mode(&self, _: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &u32, child: NodeOrText<u32>) {
        let parent = self.nodes.borrow()[*sibling as usize].parent;
        match parent {
            NONE => {}
            _ => self.insert(parent, *sibling, child),
        }
    }

    fn add_attrs_if_missing(&self, target: &u32, more: Vec<Attribute>) {
        if let LooseKind::Element(_, known) = &mut self.nodes.borrow_mut()[*target as usize].kind {
            for attribute in more {
                if known.len() < 256 && !known.iter().any(|k| k.name == attribute.name) {
                    known.push(attribute);
                }
            }
        }
    }

    fn remove_from_parent(&self, target: &u32) {
        Self::detach(&mut self.nodes.borrow_mut(), *target);
    }

    fn reparent_children(&self, node: &u32, new_parent: &u32) {
        loop {
            let first = self.nodes.borrow()[*node as usize].first;
            if first == NONE {
                break;
            }
            self.attach(*new_parent, NONE, first);
        }
    }
}

/// Brings the nodes that hang on the document into document order.
fn flatten(mut loose: Vec<Loose>) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::with_capacity(loose.len());
    // Old index of the node, new index of its parent.
    let (mut current, mut parent) = (0_u32, 0_u32);
    loop {
        let old = &mut loose[current as usize];
        let new = u32::try_from(nodes.len()).unwrap_or(NONE);
        let kind = match std::mem::replace(&mut old.kind, LooseKind::Nothing) {
            LooseKind::Document => Kind::Document,
            LooseKind::Nothing => Kind::Comment(Box::default()),
            LooseKind::Element(name, attributes) => {
                Kind::Element { name: name.local, attributes: attributes.into_iter().map(plain).collect() }
            }
            LooseKind::Text(text) => Kind::Text(text.into()),
            LooseKind::Comment(text) => Kind::Comment(Box::from(&*text)),
        };
        nodes.push(Node { kind, parent, end: new + 1 });
        if old.first != NONE {
            (current, parent) = (old.first, new);
            continue;
        }
        let mut open = new;
        loop {
            let place = &loose[current as usize];
            if current == 0 {
                return nodes;
            }
            if place.after != NONE {
                current = place.after;
                break;
            }
            // Up: the parent ends where the list ends now.
            current = place.parent;
            open = nodes[open as usize].parent;
            nodes[open as usize].end = u32::try_from(nodes.len()).unwrap_or(NONE);
        }
        parent = nodes[open as usize].parent;
    }
}

fn plain(attribute: Attribute) -> (Box<str>, Box<str>) {
    let name = match &attribute.name.prefix {
        Some(prefix) if !prefix.is_empty() => format!("{prefix}:{}", attribute.name.local).into(),
        _ => Box::from(&*attribute.name.local),
    };
    (name, Box::from(&*attribute.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(html: &str) -> HtmlTree {
        HtmlTree::parse(html, TreeLimits::default())
    }

    fn written(html: &str) -> String {
        read(html).source(0, 1 << 20)
    }

    #[test]
    fn built_as_browsers_do() {
        let cases = [
            ("a", "<html><head></head><body>a</body></html>"),
            (
                "<table><tr><td>a",
                "<html><head></head><body><table><tbody><tr><td>a</td></tr></tbody></table></body></html>",
            ),
            ("<p>a<p>b", "<html><head></head><body><p>a</p><p>b</p></body></html>"),
            ("<b>a<i>b</b>c</i>", "<html><head></head><body><b>a<i>b</i></b><i>c</i></body></html>"),
            ("<table>x<tr></table>", "<html><head></head><body>x<table><tbody><tr></tr></tbody></table></body></html>"),
            (
                "<a title='\"&amp;' HREF=x>&lt;</a><br>",
                "<html><head></head><body><a title=\"&quot;&amp;\" href=\"x\">&lt;</a><br></body></html>",
            ),
            ("<script>a<b&&c</script>", "<html><head><script>a<b&&c</script></head><body></body></html>"),
            ("<!-- c --><p>", "<!-- c --><html><head></head><body><p></p></body></html>"),
            ("", "<html><head></head><body></body></html>"),
        ];
        for (html, expected) in cases {
            assert_eq!(written(html), expected, "{html}");
        }
    }

    #[test]
    fn order_and_ends() {
        let tree = read("<div><p>a<b>c</b></p><p>d</p></div>e<!--f-->");
        for index in 0..tree.node_count() as u32 {
            let node = tree.node(index);
            assert!(index < node.end && node.end <= tree.node(node.parent).end.max(node.end));
            for child in tree.children(index) {
                assert_eq!(tree.node(child).parent, index);
            }
        }
        assert_eq!(tree.node(0).end as usize, tree.node_count());
        assert_eq!(tree.text_inside(0, false), "acde");
    }

    #[test]
    fn limits() {
        let limits = TreeLimits { max_nodes: 1_000, ..TreeLimits::default() };
        let many = HtmlTree::parse(&"<i>".repeat(100_000), limits);
        assert!(many.is_cut() && many.node_count() < 3_000);
        let wide = HtmlTree::parse(&"<hr>".repeat(100_000), limits);
        assert!(wide.is_cut() && wide.node_count() < 3_000);
        let attributes = format!("a<b {}>c", (0..50_000).map(|n| format!("a{n} ")).collect::<String>());
        let tree = HtmlTree::parse(&attributes, TreeLimits::default());
        assert!(tree.is_cut());
        assert_eq!(tree.text_inside(0, false), "a");
        let quoted = format!("a<b {}>c", (0..50_000).map(|n| format!("a{n}='>'")).collect::<String>());
        assert!(HtmlTree::parse(&quoted, TreeLimits::default()).is_cut());
        assert!(!read(&"<p class=a id=b>x</p>".repeat(1_000)).is_cut());
    }

    #[test]
    fn hostile_nesting_is_cut() {
        for piece in
            ["<b><p>", "<a><table>", "<i a={}><p></p>", "<svg><math>", "<table><b>", "</p><form>", "<template>"]
        {
            let html: String = (0..30_000).map(|n| piece.replace("{}", &n.to_string())).collect();
            let tree = read(&html);
            assert!(tree.source(0, 1_000).len() < 100_000, "{piece}");
        }
    }

    #[test]
    fn every_cut_is_read() {
        let html = "<!doctype html><table><tr><td a='b'>é&amp;<!-- c --><script>d</script></td></table><svg a:b=c/>";
        for end in (0..=html.len()).filter(|end| html.is_char_boundary(*end)) {
            read(&html[..end]);
            read(&html[end..]);
        }
    }
}
