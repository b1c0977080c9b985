//! The tree of an expression. Chains of `and`, `or`, `+` are one node each: depth is nesting, not length.

use super::error::Span;

/// An expression and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub span: Span,
}

/// Comparison operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the operators of the language")]
pub enum Compare {
    Equal,
    NotEqual,
    /// `=~`: equal without regard to case.
    Like,
    /// `!~`.
    NotLike,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

/// Arithmetic operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the operators of the language")]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// Kinds of expressions.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "named as the grammar names them")]
pub enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(String),
    /// A root name: `sender`.
    Name(String),
    /// `.` (0 up), `..` (1 up), …
    Element(usize),
    Field(Box<Expr>, String, Span),
    Index(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, Option<Box<Expr>>, Option<Box<Expr>>),
    Call {
        name: String,
        name_span: Span,
        args: Vec<Expr>,
        named: Vec<(String, Expr)>,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Threshold(usize, Vec<Expr>),
    Compare(Compare, Box<Expr>, Box<Expr>),
    In {
        item: Box<Expr>,
        set: Box<Expr>,
        negated: bool,
        folded: bool,
    },
    IsNull(Box<Expr>, bool),
    Arithmetic(Arithmetic, Box<Expr>, Box<Expr>),
    Negate(Box<Expr>),
    /// Tuple or array.
    Array(Vec<Expr>),
}
