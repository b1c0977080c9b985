//! MQL, the language of the rules, over the Message Data Model.
//!
//! A source is read ([`parse`]), checked and compiled into one graph for all rules, and run over a [`View`] of a message.
//! Specified by the public rule feed and its documentation; what is unavailable is not null and not empty ([`Truth`]).
//! A rule cannot loop, read a file or open a socket, and every run has a budget.

mod ast;
mod compile;
mod engine;
mod error;
mod evaluate;
mod examine;
mod format;
mod functions;
mod gate;
mod glob;
mod graph;
mod hits;
mod lex;
mod model;
mod needs;
mod node;
mod operate;
mod parse;
mod re2;
mod scanner;
mod schema;
mod signature;
mod truth;
mod value;

pub use ast::{Arithmetic, Compare, Expr, Kind};
pub use engine::{Budget, Builder, Clause, Engine, Outcome, Program, Size, Verdicts};
pub use error::{Error, Span};
pub use examine::{Examination, Joint, Seen, State};
pub use format::{WIDTH, format, one_line};
pub use functions::{About, Ask};
pub use model::View;
pub use needs::{Capability, Needs};
pub use parse::{MAX_NESTING, parse};
pub use truth::Truth;
