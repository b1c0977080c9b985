//! What rules are compiled to: one graph for all rules, equal expressions are one node.

use std::sync::Arc;

use super::ast::{Arithmetic, Compare};
use super::needs::Capability;
use super::schema::ClassId;

/// Index of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NodeId(pub(super) u32);

/// A constant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Constant {
    Null,
    Bool(bool),
    Int(i64),
    /// By its bits.
    Float(u64),
    Text(Arc<str>),
}

/// Tests of a text against texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
    /// Wildcards over the whole text.
    Like,
}

/// Functions that run an expression for each element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Each {
    Any,
    All,
    Filter,
    Map,
    Distinct,
    Ratio,
    Sum,
}

/// One operation. Operands are nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Constant(Constant),
    /// A root of the model: field of `Message`.
    Root(u16),
    /// The element of the lambda so many levels up.
    Element(u8),
    Field(NodeId, ClassId, u16),
    /// A field or key of a dynamic value.
    Key(NodeId, Arc<str>),
    Index(NodeId, NodeId),
    Slice(NodeId, Option<NodeId>, Option<NodeId>),
    List(u32),
    /// Protected people: objects.
    Vips,
    /// A list kept by history: membership only.
    HistoryList(u8),
    /// Cannot be had here.
    Missing(Capability),
    And(Box<[NodeId]>),
    Or(Box<[NodeId]>),
    Not(NodeId),
    AtLeast(u16, Box<[NodeId]>),
    Compare(Compare, NodeId, NodeId),
    In {
        item: NodeId,
        set: NodeId,
        folded: bool,
    },
    /// Membership in constants, by table.
    InTable {
        item: NodeId,
        table: u32,
        folded: bool,
    },
    IsNull(NodeId),
    Arithmetic(Arithmetic, NodeId, NodeId),
    Negate(NodeId),
    Array(Box<[NodeId]>),
    Each(Each, NodeId, Option<NodeId>),
    /// Any of the needles; constants, answered by the literal pass.
    Text {
        test: TextTest,
        folded: bool,
        subject: NodeId,
        needles: Box<[u32]>,
    },
    /// Any of the needles; computed.
    TextOf {
        test: TextTest,
        folded: bool,
        subject: NodeId,
        needles: Box<[NodeId]>,
    },
    /// Any of the patterns, anywhere.
    Pattern {
        subject: NodeId,
        patterns: Box<[u32]>,
    },
    /// Matches of one pattern: their number.
    PatternCount {
        subject: NodeId,
        pattern: u32,
    },
    /// Matches of one pattern, with groups.
    PatternExtract {
        subject: NodeId,
        patterns: Box<[u32]>,
    },
    /// An address in a table of networks.
    Networks {
        ip: NodeId,
        table: u32,
    },
    XPath {
        html: NodeId,
        query: u32,
    },
    Coalesce(Box<[NodeId]>),
    Call {
        function: u16,
        args: Box<[NodeId]>,
    },
}

/// A node: the operation and what the evaluator must know about it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) op: Op,
    /// How many enclosing lambdas it refers to; 0: the same for the whole message.
    pub(super) open: u8,
    /// Estimated cost in steps, for the order of clauses.
    pub(super) cost: u32,
    /// Where its value is remembered within a message.
    pub(super) slot: Option<u32>,
    /// Gates without which it cannot be true.
    pub(super) gates: Option<u32>,
}

impl Op {
    /// All operands, those of a lambda's body last.
    pub(super) fn operands(&self, mut take: impl FnMut(NodeId)) {
        match self {
            Self::Constant(_)
            | Self::Root(_)
            | Self::Element(_)
            | Self::List(_)
            | Self::Vips
            | Self::HistoryList(_)
            | Self::Missing(_) => {}
            Self::Field(a, ..) | Self::Key(a, _) | Self::Not(a) | Self::IsNull(a) | Self::Negate(a) => take(*a),
            Self::InTable { item, .. } => take(*item),
            Self::Index(a, b) | Self::Compare(_, a, b) | Self::Arithmetic(_, a, b) => {
                take(*a);
                take(*b);
            }
            Self::In { item, set, .. } => {
                take(*item);
                take(*set);
            }
            Self::Slice(a, from, to) => {
                take(*a);
                from.iter().chain(to).copied().for_each(take);
            }
            Self::And(all) | Self::Or(all) | Self::AtLeast(_, all) | Self::Array(all) | Self::Coalesce(all) => {
                all.iter().copied().for_each(take);
            }
            Self::Call { args, .. } => args.iter().copied().for_each(take),
            Self::Each(_, list, body) => {
                take(*list);
                body.iter().copied().for_each(take);
            }
            Self::Text { subject, .. }
            | Self::Pattern { subject, .. }
            | Self::PatternCount { subject, .. }
            | Self::PatternExtract { subject, .. } => take(*subject),
            Self::TextOf { subject, needles, .. } => {
                take(*subject);
                needles.iter().copied().for_each(take);
            }
            Self::Networks { ip, .. } => take(*ip),
            Self::XPath { html, .. } => take(*html),
        }
    }
}
