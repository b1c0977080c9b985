//! XPath 1.0 over an [`HtmlTree`] (W3C XPath 1.0): compiled once, evaluated under a budget of steps.
//!
//! All axes but `namespace`, all core functions but `id` and `lang`; `ends-with`, `lower-case` and `upper-case` besides.
//! Names match in lower case, as the tree has them; a prefix is part of the name. Variables are not there.
//! Nesting of an expression is bounded, and nothing recurses over the tree.

mod evaluate;
mod functions;
mod lex;
mod parse;

use std::borrow::Cow;

use super::dom::{HtmlTree, Kind};
use parse::Expression;

/// A query that is no XPath.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct XPathError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What was wrong.
    pub message: String,
}

/// The budget ran out before the answer was found: it is unknown, not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the query took more than {steps} steps")]
pub struct XPathOverBudget {
    /// The budget, in nodes visited (long texts count for more).
    pub steps: usize,
}

/// A compiled query.
#[derive(Debug, Clone, PartialEq)]
pub struct XPath(Expression);

impl XPath {
    /// Compiles a query. Closing brackets left over at its end are overlooked, as the language's home does.
    ///
    /// # Errors
    /// What is no XPath 1.0, or names a function or axis that is not there.
    pub fn compile(query: &str) -> Result<Self, XPathError> {
        parse::parse(query).map(Self)
    }

    /// The nodes that the query selects, in document order; none when its value is no node-set.
    ///
    /// # Errors
    /// More than `max_steps` nodes were visited.
    pub fn select(&self, tree: &HtmlTree, max_steps: usize) -> Result<Vec<XPathNode>, XPathOverBudget> {
        evaluate::select(&self.0, tree, max_steps)
    }
}

/// A selected node: an element, text, comment, or an attribute. Ordered as in the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct XPathNode {
    pub(super) node: u32,
    /// 0: the node itself; else one more than the attribute's place.
    pub(super) attribute: u32,
}

impl XPathNode {
    fn new(node: u32) -> Self {
        Self { node, attribute: 0 }
    }

    /// Its source: outer HTML, the text, or the attribute's value. At most `max_bytes` and what the last piece adds.
    pub fn raw(self, tree: &HtmlTree, max_bytes: usize) -> Cow<'_, str> {
        match (&tree.node(self.node).kind, self.attribute) {
            (_, 1..) | (Kind::Text(_), _) => self.value(tree),
            _ => Cow::Owned(tree.source(self.node, max_bytes)),
        }
    }

    /// The text inside, tags off, hidden text included, scripts and styles left out unless it is one.
    pub fn inner_text(self, tree: &HtmlTree) -> Cow<'_, str> {
        match (&tree.node(self.node).kind, self.attribute) {
            (_, 1..) => self.value(tree),
            (Kind::Comment(_), _) => Cow::Borrowed(""),
            _ => tree.text_inside(self.node, false),
        }
    }

    /// Whether it is an element, so that its source can be read as a piece of HTML.
    pub fn is_element(self, tree: &HtmlTree) -> bool {
        self.attribute == 0 && matches!(tree.node(self.node).kind, Kind::Element { .. } | Kind::Document)
    }

    /// XPath's string-value.
    fn value(self, tree: &HtmlTree) -> Cow<'_, str> {
        match &tree.node(self.node).kind {
            Kind::Element { attributes, .. } if self.attribute > 0 => {
                Cow::Borrowed(attributes.get(self.attribute as usize - 1).map_or("", |(_, value)| value))
            }
            _ => tree.text_inside(self.node, true),
        }
    }

    /// XPath's name: of elements and attributes only.
    fn name(self, tree: &HtmlTree) -> &str {
        match &tree.node(self.node).kind {
            Kind::Element { attributes, .. } if self.attribute > 0 => {
                attributes.get(self.attribute as usize - 1).map_or("", |(name, _)| name)
            }
            Kind::Element { name, .. } => name,
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests;
