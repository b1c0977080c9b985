//! XPath 1.0 over the tree of an HTML text: compiled once, run over many trees.
//!
//! All axes but `namespace`, all operators, the core functions that rules can need. Names compare in lower case, as HTML's
//! do. A query takes a bounded number of steps; over that it gives nothing and says so. Not here: variables, namespaces,
//! `id()`, `lang()`.

mod evaluate;
mod parse;
mod required;

use std::borrow::Cow;

use super::{Dom, HtmlContent, Link};
use evaluate::{Place, Value};
use parse::Expression;

pub use required::spells_by_number;

/// Links given for one node.
const MAX_LINKS: usize = 1_000;

/// A compiled query.
#[derive(Debug, Clone, PartialEq)]
pub struct XPath(Expression);

/// Why a query does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("XPath, column {column}: {message}")]
pub struct XPathError {
    /// Characters before the place, and one.
    pub column: usize,
    /// What was expected.
    pub message: String,
}

/// What a query gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct XPathResult {
    /// The nodes in document order, each once; a query for a number or text gives that as one node.
    pub nodes: Vec<XPathNode>,
    /// Whether it ran out of steps; there are no nodes then.
    pub exhausted: bool,
}

/// One node of a result. Its texts are made when they are asked for: nested nodes would multiply the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XPathNode(Given);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Given {
    /// A node of the tree that the query ran over.
    Place(Place),
    /// A number or text.
    Plain(String),
}

impl XPathNode {
    /// The element as HTML, its tags included; the value of an attribute; the text.
    pub fn raw<'d>(&'d self, dom: &'d Dom) -> Cow<'d, str> {
        match &self.0 {
            Given::Place(place) if dom.is_element(place.node) && dom.attribute(*place).is_none() => {
                dom.outer_html(place.node).into()
            }
            _ => self.inner_text(dom),
        }
    }

    /// Its text without tags, hidden text included.
    pub fn inner_text<'d>(&'d self, dom: &'d Dom) -> Cow<'d, str> {
        match &self.0 {
            Given::Plain(text) => text.into(),
            Given::Place(place) => match dom.attribute(*place) {
                Some((_, value)) => value.into(),
                None => dom.text(place.node),
            },
        }
    }

    /// What a person sees of it, and the links in it.
    pub fn display(&self, dom: &Dom) -> (String, Vec<Link>) {
        match &self.0 {
            Given::Place(place) if dom.is_element(place.node) && dom.attribute(*place).is_none() => {
                let (content, links) = HtmlContent::read(&dom.outer_html(place.node), MAX_LINKS);
                (content.visible.trim().to_owned(), links)
            }
            _ => (self.inner_text(dom).into_owned(), Vec::new()),
        }
    }

    /// Nodes of the tree it is made of: what its texts cost, roughly.
    pub fn size(&self, dom: &Dom) -> usize {
        match &self.0 {
            Given::Place(place) => dom.size(place.node),
            Given::Plain(_) => 1,
        }
    }
}

impl XPath {
    /// Compiles a query.
    pub fn compile(query: &str) -> Result<Self, XPathError> {
        parse::parse(query).map(Self)
    }

    /// Texts (lower case) all of which stand in the source of every page in which it finds a node; attribute values only
    /// where the source does not [spell by number](spells_by_number).
    pub fn required(&self) -> Vec<String> {
        required::of(&self.0)
    }

    /// Runs it over a tree with at most `steps` nodes looked at.
    pub fn evaluate(&self, dom: &Dom, steps: usize) -> XPathResult {
        let Some(value) = evaluate::run(&self.0, dom, steps) else {
            return XPathResult { nodes: Vec::new(), exhausted: true };
        };
        let nodes = match value {
            Value::Nodes(places) => places.into_iter().map(|place| XPathNode(Given::Place(place))).collect(),
            other => vec![XPathNode(Given::Plain(other.text(dom).into_owned()))],
        };
        XPathResult { nodes, exhausted: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<title>T</title><!-- note --><div class='a b'><p>one</p><p id=x>two <b>2</b></p><a href=/u>go</a></div>\
        <table width=700><tr><td>1<td>2</table><img src=i.png alt=Logo><p> </p>";

    fn run(query: &str) -> Vec<String> {
        let dom = Dom::parse(PAGE);
        let result = XPath::compile(query).unwrap_or_else(|e| panic!("{query}: {e}")).evaluate(&dom, 100_000);
        assert!(!result.exhausted);
        result.nodes.iter().map(|node| node.raw(&dom).into_owned()).collect()
    }

    #[test]
    fn queries() {
        let cases: &[(&str, &[&str])] = &[
            ("//title", &["<title>T</title>"]),
            ("//img/@src", &["i.png"]),
            ("//a/@href | //img/@alt", &["/u", "Logo"]),
            ("//comment()", &[" note "]),
            ("//p[2]/b/text()", &["2"]),
            ("//div/p[last()]/@id", &["x"]),
            ("//p[contains(@id, 'x') and b]/text()", &["two "]),
            ("//tr/td[2]", &["<td>2</td>"]),
            ("//td[2]", &["<td>2</td>"]),
            ("//td[position() = 2][contains(., '2')]", &["<td>2</td>"]),
            ("//td[not(last() = position())]", &["<td>1</td>"]),
            ("//p[string-length(.)]", &["<p> </p>"]),
            ("//div//p[b]/b/text()", &["2"]),
            ("//td[position() < 2]", &["<td>1</td>"]),
            ("//div[@class='a b'][.//a]/a/text()", &["go"]),
            ("//*[local-name() = 'b']/ancestor::div/@class", &["a b"]),
            ("//a/preceding-sibling::p[1]/@id", &["x"]),
            ("//p/following-sibling::a/@href", &["/u"]),
            ("//b/parent::p/@id", &["x"]),
            ("//b/../@id", &["x"]),
            ("//title/following::b/text()", &["2"]),
            ("//p[normalize-space()][1]/text()", &["one"]),
            ("//*[translate(@alt, 'LOG', 'log') = 'logo']/@src", &["i.png"]),
            ("//table[number(@width) > 699.5]/@width", &["700"]),
            ("//tr[count(td) = 2]/td[1]/text()", &["1"]),
            ("//p[not(@id)][starts-with(., 'o')]/text()", &["one"]),
            ("//body/descendant::b/text()", &["2"]),
            ("(//td)[2]/text()", &["2"]),
            ("//td[1 + 1]/text()", &["2"]),
            ("//td[2 - 1]/text()", &["1"]),
            ("count(//td) * 2", &["4"]),
            ("concat('a', substring('hello', 2, 3), string-length('é'))", &["aell1"]),
            ("substring-after('a-b', '-')", &["b"]),
            ("//P/@ID", &["x"]),
            ("//nothing", &[]),
            ("//p[@id and (b or i)]/b/text()", &["2"]),
            ("//a[string-length(@href) = 2]/@*", &["/u"]),
            ("/html/body/div/a/text()", &["go"]),
            ("//td[. = '2']/preceding::title/text()", &["T"]),
        ];
        for (query, expected) in cases {
            assert_eq!(run(query), *expected, "{query}");
        }
    }

    #[test]
    fn errors_have_a_column() {
        for (query, column) in [("//p[", 5), ("//p[@]", 6), ("", 1), ("//p)", 4), ("foo(1)", 1), ("'open", 1)] {
            assert_eq!(XPath::compile(query).map_err(|e| e.column), Err(column), "{query}");
        }
        assert!(XPath::compile(&"(".repeat(100_000)).is_err());
        assert!(XPath::compile(&"-".repeat(100_000)).is_err());
    }

    #[test]
    fn shown_text_and_links() {
        let dom = Dom::parse("<div>a<span style='display:none'>h</span> <a href='http://example.com/'>b</a></div>");
        let result = XPath::compile("//div").unwrap().evaluate(&dom, 1_000);
        let (text, links) = result.nodes[0].display(&dom);
        assert_eq!((&*result.nodes[0].inner_text(&dom), text.as_str(), links.len()), ("ah b", "a b", 1));
    }

    #[test]
    fn steps_are_bounded() {
        let dom = Dom::parse(&"<i>x</i>".repeat(3_000));
        assert!(XPath::compile("//*[following::*[following::*]]").unwrap().evaluate(&dom, 100_000).exhausted);
    }
}
