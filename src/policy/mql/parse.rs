//! Pratt parser for the whole grammar. Length costs no stack, nesting is bounded by [`MAX_NESTING`].

use std::mem;

use super::ast::{Arithmetic, Compare, Expr, Kind};
use super::error::{Error, Span};
use super::lex::{Token, lex};

/// Brackets, calls and unary operators inside one another.
pub const MAX_NESTING: usize = 100;

/// Reads one source: a single expression.
pub fn parse(source: &str) -> Result<Expr, Error> {
    let mut parser = Parser { tokens: lex(source)?, at: 0, depth: 0 };
    let expr = parser.expr(LOWEST)?;
    match parser.peek() {
        Token::End => Ok(expr),
        _ => Err(parser.unexpected("`and`, `or` or the end of the rule")),
    }
}

struct Parser<'s> {
    tokens: Vec<(Token<'s>, Span)>,
    at: usize,
    depth: usize,
}

// How strongly operators bind: reference 2.3, lowest first.
const LOWEST: u8 = 0;
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARE: u8 = 4;
const SUM: u8 = 5;
const TERM: u8 = 6;
const UNARY: u8 = 7;

impl<'s> Parser<'s> {
    fn peek(&self) -> &Token<'s> {
        &self.tokens[self.at.min(self.tokens.len() - 1)].0
    }

    fn peek_second(&self) -> &Token<'s> {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].0
    }

    fn span(&self) -> Span {
        self.tokens[self.at.min(self.tokens.len() - 1)].1
    }

    fn previous(&self) -> Span {
        self.tokens[self.at.saturating_sub(1)].1
    }

    fn next(&mut self) -> Token<'s> {
        let at = self.at.min(self.tokens.len() - 1);
        if at + 1 < self.tokens.len() {
            self.at = at + 1;
            return mem::replace(&mut self.tokens[at].0, Token::End);
        }
        Token::End
    }

    fn sign(&mut self, sign: &str) -> bool {
        let is = matches!(self.peek(), Token::Sign(s) if *s == sign);
        self.at += usize::from(is);
        is
    }

    fn word(&mut self, word: &str) -> bool {
        let is = matches!(self.peek(), Token::Word(w) if *w == word);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Error> {
        if self.sign(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn unexpected(&self, wanted: &str) -> Error {
        let found = match self.peek() {
            Token::Name(name) => format!("`{name}`"),
            Token::List(name) => format!("`${name}`"),
            Token::Text(_) => "a text".to_owned(),
            Token::Int(_) | Token::Float(_) => "a number".to_owned(),
            Token::Dots(n) => format!("`{}`", ".".repeat((*n).min(8))),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::Word(word) => format!("`{word}`"),
            Token::End => "the end of the rule".to_owned(),
        };
        Error::new(format!("expected {wanted}, found {found}"), self.span())
    }

    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(Error::new(format!("nested deeper than {MAX_NESTING}"), self.span()));
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn expr(&mut self, floor: u8) -> Result<Expr, Error> {
        self.nested(|p| {
            let mut left = p.prefix()?;
            loop {
                let power = p.power();
                if power <= floor {
                    return Ok(left);
                }
                left = p.infix(left, power)?;
            }
        })
    }

    /// How strongly the operator that comes next binds; 0 for none.
    fn power(&self) -> u8 {
        match self.peek() {
            Token::Word("or") => OR,
            Token::Word("and") => AND,
            Token::Word("in" | "in~" | "is") => COMPARE,
            Token::Word("not") if matches!(self.peek_second(), Token::Word("in" | "in~")) => COMPARE,
            Token::Sign("==" | "!=" | "=~" | "!~" | "<" | "<=" | ">" | ">=") => COMPARE,
            Token::Sign("+" | "-") => SUM,
            Token::Sign("*" | "/" | "%") => TERM,
            _ => LOWEST,
        }
    }

    fn infix(&mut self, left: Expr, power: u8) -> Result<Expr, Error> {
        let start = left.span;
        let kind = match power {
            OR => Kind::Or(self.chain(left, "or", OR)?),
            AND => Kind::And(self.chain(left, "and", AND)?),
            COMPARE => self.comparison(left)?,
            _ => {
                let operator = match self.next() {
                    Token::Sign("+") => Arithmetic::Add,
                    Token::Sign("-") => Arithmetic::Subtract,
                    Token::Sign("*") => Arithmetic::Multiply,
                    Token::Sign("/") => Arithmetic::Divide,
                    _ => Arithmetic::Remainder,
                };
                // Left to right: each step makes the tree deeper.
                self.depth += 1;
                if self.depth > MAX_NESTING {
                    return Err(Error::new(format!("more than {MAX_NESTING} steps of arithmetic"), self.previous()));
                }
                let right = self.expr(power)?;
                Kind::Arithmetic(operator, left.into(), right.into())
            }
        };
        Ok(Expr { kind, span: start.to(self.previous()) })
    }

    fn chain(&mut self, first: Expr, word: &str, power: u8) -> Result<Vec<Expr>, Error> {
        let mut clauses = vec![first];
        while self.word(word) {
            clauses.push(self.expr(power)?);
        }
        Ok(clauses)
    }

    fn comparison(&mut self, left: Expr) -> Result<Kind, Error> {
        if self.word("is") {
            let negated = self.word("not");
            return match self.word("null") {
                true => Ok(Kind::IsNull(left.into(), negated)),
                false => Err(self.unexpected("`null`")),
            };
        }
        let negated = self.word("not");
        if matches!(self.peek(), Token::Word("in" | "in~")) {
            let folded = matches!(self.next(), Token::Word("in~"));
            let set = self.expr(COMPARE)?.into();
            return Ok(Kind::In { item: left.into(), set, negated, folded });
        }
        let operator = |sign: &Token<'_>| match sign {
            Token::Sign("==") => Some(Compare::Equal),
            Token::Sign("!=") => Some(Compare::NotEqual),
            Token::Sign("=~") => Some(Compare::Like),
            Token::Sign("!~") => Some(Compare::NotLike),
            Token::Sign("<") => Some(Compare::Less),
            Token::Sign("<=") => Some(Compare::LessEqual),
            Token::Sign(">") => Some(Compare::Greater),
            Token::Sign(">=") => Some(Compare::GreaterEqual),
            _ => None,
        };
        let token = self.next();
        let Some(first) = operator(&token) else { return Err(self.unexpected("a comparison")) };
        let middle = self.expr(COMPARE)?;
        let ranges = |o| matches!(o, Compare::Less | Compare::LessEqual);
        match operator(self.peek()) {
            None => Ok(Kind::Compare(first, left.into(), middle.into())),
            Some(second) if ranges(first) && ranges(second) => {
                self.next();
                let right = self.expr(COMPARE)?;
                let (low, high) = (left.span.to(middle.span), middle.span.to(right.span));
                let lower = Kind::Compare(first, left.into(), middle.clone().into());
                let upper = Kind::Compare(second, middle.into(), right.into());
                Ok(Kind::And(vec![Expr { kind: lower, span: low }, Expr { kind: upper, span: high }]))
            }
            Some(_) => Err(Error::new("comparisons do not chain; only `low < x <= high` does", self.span())
                .help("join two comparisons by `and`")),
        }
    }

    fn prefix(&mut self) -> Result<Expr, Error> {
        let start = self.span();
        let kind = match (self.peek(), self.peek_second()) {
            (Token::Word("not"), _) => {
                self.next();
                // `not x in y` is `not (x in y)`.
                Kind::Not(self.expr(NOT)?.into())
            }
            (Token::Sign("-"), _) => {
                self.next();
                Kind::Negate(self.expr(UNARY)?.into())
            }
            (Token::Int(needed), Token::Word("of")) => {
                let needed = usize::try_from(*needed).unwrap_or(usize::MAX);
                self.next();
                self.next();
                self.expect("(")?;
                let (clauses, named) = self.args(")")?;
                if let Some((name, _)) = named.first() {
                    return Err(Error::new(format!("`{name}=` does not belong into a threshold"), start));
                }
                if needed == 0 || needed > clauses.len() {
                    let message = format!("{needed} of {} clauses is never reached or always", clauses.len());
                    return Err(Error::new(message, start.to(self.previous())));
                }
                Kind::Threshold(needed, clauses)
            }
            _ => return self.postfix(),
        };
        Ok(Expr { kind, span: start.to(self.previous()) })
    }

    fn postfix(&mut self) -> Result<Expr, Error> {
        let start = self.span();
        let mut expr = self.primary()?;
        let mut steps = 0;
        loop {
            steps += 1;
            if steps > MAX_NESTING {
                return Err(Error::new(format!("more than {MAX_NESTING} fields and indexes in a row"), self.span()));
            }
            let kind = match (self.peek(), self.peek_second()) {
                (Token::Dots(1), Token::Name(_)) => {
                    self.next();
                    let span = self.span();
                    let Token::Name(name) = self.next() else { return Err(self.unexpected("a field name")) };
                    Kind::Field(expr.into(), name.to_owned(), span)
                }
                (Token::Sign("("), _) => {
                    let name = dotted(&expr).ok_or_else(|| Error::new("only a function can be called", expr.span))?;
                    self.next();
                    let (args, named) = self.args(")")?;
                    Kind::Call { name, name_span: expr.span, args, named }
                }
                (Token::Sign("["), _) => {
                    self.next();
                    self.subscript(expr)?
                }
                _ => return Ok(expr),
            };
            expr = Expr { kind, span: start.to(self.previous()) };
        }
    }

    fn subscript(&mut self, base: Expr) -> Result<Kind, Error> {
        let from = if matches!(self.peek(), Token::Sign(":")) { None } else { Some(self.expr(LOWEST)?) };
        if !self.sign(":") {
            self.expect("]")?;
            let Some(index) = from else { return Err(self.unexpected("an index")) };
            return Ok(Kind::Index(base.into(), index.into()));
        }
        let to = if matches!(self.peek(), Token::Sign("]")) { None } else { Some(self.expr(LOWEST)?) };
        self.expect("]")?;
        Ok(Kind::Slice(base.into(), from.map(Box::new), to.map(Box::new)))
    }

    fn primary(&mut self) -> Result<Expr, Error> {
        let start = self.span();
        let kind = match self.peek() {
            Token::Dots(n) => {
                let up = n - 1;
                self.next();
                let element = Expr { kind: Kind::Element(up), span: start };
                let span = self.span();
                match self.peek() {
                    Token::Name(name) if span.start == start.end => {
                        let name = (*name).to_owned();
                        self.next();
                        Kind::Field(element.into(), name, span)
                    }
                    _ => element.kind,
                }
            }
            Token::Sign("(") => {
                self.next();
                let first = self.expr(LOWEST)?;
                if self.sign(")") {
                    return Ok(Expr { kind: first.kind, span: start.to(self.previous()) });
                }
                self.expect(",")?;
                let mut items = vec![first];
                items.extend(self.items(")")?);
                Kind::Array(items)
            }
            Token::Sign("[") => {
                self.next();
                Kind::Array(self.items("]")?)
            }
            Token::Name(_)
            | Token::List(_)
            | Token::Text(_)
            | Token::Int(_)
            | Token::Float(_)
            | Token::Word("true" | "false" | "null") => match self.next() {
                Token::Name(name) => Kind::Name(name.to_owned()),
                Token::List(name) => Kind::List(name.to_owned()),
                Token::Text(text) => Kind::Text(text.into_owned()),
                Token::Int(n) => Kind::Int(n),
                Token::Float(n) => Kind::Float(n),
                Token::Word(word) if word != "null" => Kind::Bool(word == "true"),
                _ => Kind::Null,
            },
            _ => return Err(self.unexpected("a value")),
        };
        Ok(Expr { kind, span: start.to(self.previous()) })
    }

    /// Expressions up to the closing bracket; a comma may stand before it.
    fn items(&mut self, close: &'static str) -> Result<Vec<Expr>, Error> {
        let mut items = Vec::new();
        loop {
            if self.sign(close) {
                return Ok(items);
            }
            items.push(self.expr(LOWEST)?);
            if !self.sign(",") {
                self.expect(close)?;
                return Ok(items);
            }
        }
    }

    #[allow(clippy::type_complexity, reason = "arguments by place, then by name")]
    fn args(&mut self, close: &'static str) -> Result<(Vec<Expr>, Vec<(String, Expr)>), Error> {
        let (mut args, mut named) = (Vec::new(), Vec::<(String, Expr)>::new());
        loop {
            if self.sign(close) {
                return Ok((args, named));
            }
            if let (Token::Name(name), Token::Sign("=")) = (self.peek(), self.peek_second()) {
                let name = (*name).to_owned();
                let span = self.span();
                self.next();
                self.next();
                if named.iter().any(|(known, _)| *known == name) {
                    return Err(Error::new(format!("`{name}=` is given twice"), span));
                }
                named.push((name, self.expr(LOWEST)?));
            } else if named.is_empty() {
                args.push(self.expr(LOWEST)?);
            } else {
                return Err(self.unexpected("a named argument (they come last)"));
            }
            if !self.sign(",") {
                self.expect(close)?;
                return Ok((args, named));
            }
        }
    }
}

/// The name that a chain of names spells: `strings.icontains`.
fn dotted(expr: &Expr) -> Option<String> {
    match &expr.kind {
        Kind::Name(name) => Some(name.clone()),
        Kind::Field(base, name, _) => Some(format!("{}.{name}", dotted(base)?)),
        _ => None,
    }
}
