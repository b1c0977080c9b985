//! One source looked at clause by clause: what each came to and what it saw. For people who write rules.
//!
//! The clauses of the whole and, one level deeper, those of each `and`, `or`, `N of` and `not` among them are compiled each by
//! itself and run each by itself: this is slow and shares nothing. Not here: the clauses of a match in the record ([`Engine::explain`]).

use std::sync::Arc;

use serde::Serialize;

use super::ast::{Expr, Kind};
use super::engine::{Budget, Builder, Engine};
use super::error::{Error, Span};
use super::format::one_line;
use super::model::View;
use super::needs::Needs;
use super::parse::parse;
use super::truth::Truth;
use crate::policy::lists::Lists;

/// How parts make up a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Joint {
    /// One clause, without parts.
    One,
    /// `and`
    All,
    /// `or`
    Any,
    /// `N of`
    AtLeast(usize),
}

/// What a clause came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// True.
    True,
    /// False.
    False,
    /// Null: it asks about what is not there.
    Null,
    /// It hangs on what is not known.
    Unavailable(Vec<String>),
}

impl State {
    fn of(truth: Truth, needs: Needs) -> Self {
        match truth {
            truth if truth.is_true() => Self::True,
            truth if truth.is_false() => Self::False,
            truth if truth.is_null() => Self::Null,
            _ => Self::Unavailable(needs.iter().map(|one| one.as_str().to_owned()).collect()),
        }
    }

    /// The word for people.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::True => "true",
            Self::False => "false",
            Self::Null => "null",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// A clause, what it came to, what it saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Its text on one line, without comments.
    pub text: String,
    /// How its parts make it up.
    pub joint: Joint,
    /// `not` stands before its parts.
    pub negated: bool,
    /// What it came to.
    pub state: State,
    /// Texts of the message that its true tests saw, short.
    pub saw: Vec<String>,
    /// Its parts.
    pub parts: Vec<Seen>,
}

/// Levels below the whole.
const MAX_LEVELS: usize = 2;

struct Clause {
    program: usize,
    joint: Joint,
    negated: bool,
    parts: Vec<Clause>,
}

/// A source, ready to be looked at.
pub struct Examination {
    engine: Engine,
    whole: Clause,
}

impl Examination {
    /// Compiles a source and its clauses.
    ///
    /// # Errors
    /// The first mistake.
    pub fn new(source: &str, lists: Arc<Lists>) -> Result<Self, Error> {
        let tree = parse(source)?;
        let mut builder = Builder::new(lists);
        let whole = clause(source, &tree, Span::new(0, source.len()), 0, &mut builder)?;
        Ok(Self { engine: builder.build(), whole })
    }

    /// The engine; its program 0 is the whole source.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The whole source over a message, clause by clause.
    pub fn look(&self, view: View<'_>, budget: Budget) -> Seen {
        self.see(&self.whole, view, budget)
    }

    fn see(&self, clause: &Clause, view: View<'_>, budget: Budget) -> Seen {
        let (truth, needs, saw) = self.engine.look(clause.program, view, budget);
        let text = self.engine.programs().get(clause.program).map(|program| one_line(program.source()));
        Seen {
            text: text.unwrap_or_default(),
            joint: clause.joint,
            negated: clause.negated,
            state: State::of(truth, needs),
            saw,
            parts: clause.parts.iter().map(|part| self.see(part, view, budget)).collect(),
        }
    }
}

fn clause(source: &str, tree: &Expr, span: Span, level: usize, builder: &mut Builder) -> Result<Clause, Error> {
    let program = builder.query(source.get(span.start..span.end).unwrap_or_default())?;
    let (negated, inner) = match &tree.kind {
        Kind::Not(inner) => (true, &inner.kind),
        kind => (false, kind),
    };
    let (joint, parts) = match inner {
        _ if level >= MAX_LEVELS => (Joint::One, [].as_slice()),
        Kind::And(parts) => (Joint::All, parts.as_slice()),
        Kind::Or(parts) => (Joint::Any, parts.as_slice()),
        Kind::Threshold(count, parts) => (Joint::AtLeast(*count), parts.as_slice()),
        _ => (Joint::One, [].as_slice()),
    };
    let parts = parts.iter().map(|part| clause(source, part, part.span, level + 1, builder));
    let parts = parts.collect::<Result<_, _>>()?;
    Ok(Clause { program, joint, negated: negated && joint != Joint::One, parts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Facts, Site, Why};
    use crate::content::ContentLimits;
    use crate::mail::{Message, MessageLimits};

    #[test]
    fn clauses_one_by_one() {
        let source = "subject.subject == 'one' // first\nand not (strings.icontains(subject.subject, 'two') or headers.in_reply_to == 'x')\n\
            and 1 of (ml.nlu_classifier(subject.subject).language == 'english', any(recipients.to, .email.local_part == 'bob'))";
        let raw = "From: a@a.example\r\nTo: bob@b.example\r\nSubject: one\r\n\r\n";
        let message = Message::parse(raw.as_bytes().to_vec().into(), &MessageLimits::default());
        let (facts, site, content) = (Facts::unknown(Why::Disabled), Site::default(), ContentLimits::default());
        let view = View {
            message: &message,
            envelope: None,
            connection: None,
            facts: &facts,
            site: &site,
            content: &content,
            now: 0,
        };
        let examination = Examination::new(source, Arc::new(Lists::default())).unwrap();
        let seen = examination.look(view, Budget::default());
        let states = |seen: &Seen| seen.parts.iter().map(|part| part.state.as_str()).collect::<Vec<_>>();
        // `not (false or null)` is null: the whole is too.
        assert_eq!(
            (seen.joint, seen.state.as_str(), states(&seen)),
            (Joint::All, "null", vec!["true", "null", "true"])
        );
        assert_eq!(
            (seen.parts[1].joint, seen.parts[1].negated, states(&seen.parts[1])),
            (Joint::Any, true, vec!["false", "null"])
        );
        assert_eq!((seen.parts[2].joint, states(&seen.parts[2])), (Joint::AtLeast(1), vec!["unavailable", "true"]));
        assert_eq!(seen.parts[0].text, "subject.subject == 'one'");
        assert_eq!(seen.parts[2].parts[0].state, State::Unavailable(vec!["nlu".into()]));
        assert!(Examination::new("a and", Arc::new(Lists::default())).is_err());
    }
}
