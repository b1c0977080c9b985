//! XPath's grammar (2, 3) by recursive descent; nesting is bounded, flat chains are flat.

use super::XPathError;
use super::functions::Function;
use super::lex::{self, Token};

/// Brackets inside one another, and operators in one chain.
const MAX_DEPTH: usize = 48;
const MAX_CHAIN: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    Child,
    Descendant,
    DescendantOrSelf,
    Parent,
    Ancestor,
    AncestorOrSelf,
    FollowingSibling,
    PrecedingSibling,
    Following,
    Preceding,
    Attribute,
    Own,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    /// `*`.
    Any,
    Name(String),
    /// `node()`.
    Node,
    /// `text()`.
    Text,
    /// `comment()`.
    Comment,
    /// `processing-instruction()`: HTML has none.
    Nothing,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) axis: Axis,
    pub(super) test: Test,
    pub(super) predicates: Vec<Expression>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    Or(Vec<Expression>),
    And(Vec<Expression>),
    Compare(Comparison, Box<[Expression; 2]>),
    /// `+ - * div mod` by their first byte, on the value so far.
    Arithmetic(Box<Expression>, Vec<(u8, Expression)>),
    Negate(Box<Expression>),
    Union(Vec<Expression>),
    /// Where it starts (`None`: the context node), whether from the root, and the way.
    Path {
        start: Option<Box<Expression>>,
        from_root: bool,
        steps: Vec<Step>,
    },
    /// A value with predicates.
    Filter(Box<Expression>, Vec<Expression>),
    Literal(String),
    Number(f64),
    Call(Function, Vec<Expression>),
}

impl Expression {
    /// Whether a predicate asks for the place of a node: it may be a number, or reads `position()` or `last()`.
    pub(super) fn is_positional(&self) -> bool {
        match self {
            Self::Or(_) | Self::And(_) | Self::Compare(..) => self.reads_position(),
            Self::Union(_) | Self::Path { .. } | Self::Literal(_) => self.reads_position(),
            Self::Filter(inner, _) => inner.is_positional(),
            Self::Arithmetic(..) | Self::Negate(_) | Self::Number(_) => true,
            Self::Call(function, _) => function.gives_number() || self.reads_position(),
        }
    }

    fn reads_position(&self) -> bool {
        match self {
            Self::Or(all) | Self::And(all) | Self::Union(all) => all.iter().any(Self::reads_position),
            Self::Call(function, all) => function.is_position() || all.iter().any(Self::reads_position),
            Self::Compare(_, sides) => sides.iter().any(Self::reads_position),
            Self::Arithmetic(first, more) => first.reads_position() || more.iter().any(|(_, e)| e.reads_position()),
            Self::Negate(inner) | Self::Filter(inner, _) => inner.reads_position(),
            // Predicates inside have their own places.
            Self::Path { start, .. } => start.as_ref().is_some_and(|inner| inner.reads_position()),
            Self::Literal(_) | Self::Number(_) => false,
        }
    }
}

pub(super) fn parse(query: &str) -> Result<Expression, XPathError> {
    let tokens = lex::tokens(query)?;
    let end = query.chars().count() + 1;
    let mut parser = Parser { tokens: &tokens, at: 0, end, depth: 0 };
    let expression = parser.or()?;
    while parser.takes("]") || parser.takes(")") {}
    if parser.at < tokens.len() {
        return parser.error("the query should end here");
    }
    Ok(expression)
}

struct Parser<'t> {
    tokens: &'t [(Token, usize)],
    at: usize,
    end: usize,
    depth: usize,
}

type Parsed<T> = Result<T, XPathError>;

impl Parser<'_> {
    fn error<T>(&self, message: &str) -> Parsed<T> {
        let column = self.tokens.get(self.at).map_or(self.end, |(_, column)| *column);
        Err(XPathError { column, message: message.to_owned() })
    }

    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|(token, _)| token)
    }

    fn sees(&self, ahead: usize, sign: &str) -> bool {
        matches!(self.peek(ahead), Some(Token::Sign(found)) if *found == sign)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = self.sees(0, sign);
        self.at += usize::from(found);
        found
    }

    fn wants(&mut self, sign: &str) -> Parsed<()> {
        if self.takes(sign) { Ok(()) } else { self.error(&format!("`{sign}` is missing")) }
    }

    /// Operands between signs of one kind, gathered flat.
    fn chain(
        &mut self,
        sign: &str,
        operand: fn(&mut Self) -> Parsed<Expression>,
        join: fn(Vec<Expression>) -> Expression,
    ) -> Parsed<Expression> {
        let first = operand(self)?;
        if !self.sees(0, sign) {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.takes(sign) {
            if all.len() >= MAX_CHAIN {
                return self.error("too many operands");
            }
            all.push(operand(self)?);
        }
        Ok(join(all))
    }

    fn or(&mut self) -> Parsed<Expression> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error("nested too deep");
        }
        let parsed = self.chain("or", Self::and, Expression::Or);
        self.depth -= 1;
        parsed
    }

    fn and(&mut self) -> Parsed<Expression> {
        self.chain("and", Self::equality, Expression::And)
    }

    fn equality(&mut self) -> Parsed<Expression> {
        self.comparison(&[("=", Comparison::Equal), ("!=", Comparison::Unequal)], Self::relation)
    }

    fn relation(&mut self) -> Parsed<Expression> {
        const SIGNS: &[(&str, Comparison)] = &[
            ("<", Comparison::Less),
            ("<=", Comparison::LessOrEqual),
            (">", Comparison::More),
            (">=", Comparison::MoreOrEqual),
        ];
        self.comparison(SIGNS, Self::sum)
    }

    fn comparison(
        &mut self,
        signs: &[(&str, Comparison)],
        operand: fn(&mut Self) -> Parsed<Expression>,
    ) -> Parsed<Expression> {
        let mut left = operand(self)?;
        let mut count = 0;
        while let Some((_, kind)) = signs.iter().find(|(sign, _)| self.sees(0, sign)) {
            self.at += 1;
            count += 1;
            if count > MAX_DEPTH {
                return self.error("too many comparisons");
            }
            left = Expression::Compare(*kind, Box::new([left, operand(self)?]));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Parsed<Expression> {
        self.arithmetic(&["+", "-"], Self::product)
    }

    fn product(&mut self) -> Parsed<Expression> {
        self.arithmetic(&["*", "div", "mod"], Self::negation)
    }

    fn arithmetic(&mut self, signs: &[&str], operand: fn(&mut Self) -> Parsed<Expression>) -> Parsed<Expression> {
        let first = operand(self)?;
        let mut more = Vec::new();
        while let Some(sign) = signs.iter().find(|sign| self.sees(0, sign)) {
            self.at += 1;
            if more.len() >= MAX_CHAIN {
                return self.error("too many operands");
            }
            more.push((sign.as_bytes()[0], operand(self)?));
        }
        Ok(if more.is_empty() { first } else { Expression::Arithmetic(Box::new(first), more) })
    }

    fn negation(&mut self) -> Parsed<Expression> {
        let mut signs = 0_usize;
        while self.takes("-") {
            signs += 1;
        }
        let inner = self.chain("|", Self::path, Expression::Union)?;
        Ok(match signs {
            0 => inner,
            _ if signs % 2 == 1 => Expression::Negate(Box::new(inner)),
            _ => Expression::Negate(Box::new(Expression::Negate(Box::new(inner)))),
        })
    }

    fn path(&mut self) -> Parsed<Expression> {
        if self.starts_value() {
            let mut value = self.primary()?;
            let predicates = self.predicates()?;
            if !predicates.is_empty() {
                value = Expression::Filter(Box::new(value), predicates);
            }
            if !self.sees(0, "/") && !self.sees(0, "//") {
                return Ok(value);
            }
            let steps = self.steps(false)?;
            return Ok(Expression::Path { start: Some(Box::new(value)), from_root: false, steps });
        }
        let from_root = self.sees(0, "/") || self.sees(0, "//");
        let steps = self.steps(!from_root)?;
        Ok(Expression::Path { start: None, from_root, steps })
    }

    /// Whether a value begins here rather than a step: a bracket, literal, number or a call that is no node test.
    fn starts_value(&self) -> bool {
        match self.peek(0) {
            Some(Token::Literal(_) | Token::Number(_)) => true,
            Some(Token::Sign(sign)) => *sign == "(",
            Some(Token::Name(name)) => {
                let node_test = matches!(name.as_str(), "node" | "text" | "comment" | "processing-instruction");
                self.sees(1, "(") && !node_test
            }
            None => false,
        }
    }

    fn primary(&mut self) -> Parsed<Expression> {
        let here = self.at;
        self.at += 1;
        match self.tokens.get(here).map(|(token, _)| token) {
            Some(Token::Literal(text)) => Ok(Expression::Literal(text.clone())),
            Some(Token::Number(number)) => Ok(Expression::Number(*number)),
            Some(Token::Name(name)) => {
                self.wants("(")?;
                let mut arguments = Vec::new();
                while !self.takes(")") {
                    if !arguments.is_empty() {
                        self.wants(",")?;
                    }
                    if arguments.len() >= MAX_CHAIN {
                        return self.error("too many arguments");
                    }
                    arguments.push(self.or()?);
                }
                match Function::find(name, arguments.len()) {
                    Ok(function) => Ok(Expression::Call(function, arguments)),
                    Err(message) => {
                        self.at = here;
                        self.error(&message)
                    }
                }
            }
            _ => {
                let inner = self.or()?;
                self.wants(")")?;
                Ok(inner)
            }
        }
    }

    /// Steps up to the end of the path; `bare`: the first one without a slash before it.
    fn steps(&mut self, bare: bool) -> Parsed<Vec<Step>> {
        let mut steps = Vec::new();
        let mut first = bare;
        loop {
            if !first {
                if self.takes("//") {
                    steps.push(Step { axis: Axis::DescendantOrSelf, test: Test::Node, predicates: Vec::new() });
                } else if self.takes("/") {
                    // `/` alone is the document.
                    if steps.is_empty() && !self.starts_step() {
                        return Ok(steps);
                    }
                } else {
                    return Ok(steps);
                }
            }
            first = false;
            if steps.len() > MAX_CHAIN {
                return self.error("too many steps");
            }
            let step = self.step()?;
            push_step(&mut steps, step);
        }
    }

    fn starts_step(&self) -> bool {
        match self.peek(0) {
            Some(Token::Name(_)) => true,
            Some(Token::Sign(sign)) => matches!(*sign, "." | ".." | "@" | "*"),
            _ => false,
        }
    }

    fn step(&mut self) -> Parsed<Step> {
        if self.takes(".") {
            let predicates = self.predicates()?;
            return Ok(Step { axis: Axis::Own, test: Test::Node, predicates });
        }
        if self.takes("..") {
            let predicates = self.predicates()?;
            return Ok(Step { axis: Axis::Parent, test: Test::Node, predicates });
        }
        let axis = self.axis()?;
        let test = self.test()?;
        Ok(Step { axis, test, predicates: self.predicates()? })
    }

    fn axis(&mut self) -> Parsed<Axis> {
        if self.takes("@") {
            return Ok(Axis::Attribute);
        }
        let Some(Token::Name(name)) = self.peek(0).filter(|_| self.sees(1, "::")) else { return Ok(Axis::Child) };
        let axis = match name.as_str() {
            "child" => Axis::Child,
            "descendant" => Axis::Descendant,
            "descendant-or-self" => Axis::DescendantOrSelf,
            "parent" => Axis::Parent,
            "ancestor" => Axis::Ancestor,
            "ancestor-or-self" => Axis::AncestorOrSelf,
            "following-sibling" => Axis::FollowingSibling,
            "preceding-sibling" => Axis::PrecedingSibling,
            "following" => Axis::Following,
            "preceding" => Axis::Preceding,
            "attribute" => Axis::Attribute,
            "self" => Axis::Own,
            _ => return self.error("there is no such axis"),
        };
        self.at += 2;
        Ok(axis)
    }

    fn test(&mut self) -> Parsed<Test> {
        if self.takes("*") {
            return Ok(Test::Any);
        }
        let Some(Token::Name(name)) = self.peek(0) else { return self.error("a name is missing") };
        let name = name.to_lowercase();
        if !self.sees(1, "(") {
            self.at += 1;
            return Ok(Test::Name(name));
        }
        let test = match name.as_str() {
            "node" => Test::Node,
            "text" => Test::Text,
            "comment" => Test::Comment,
            "processing-instruction" => Test::Nothing,
            _ => return self.error("there is no such node test"),
        };
        self.at += 2;
        if test == Test::Nothing && matches!(self.peek(0), Some(Token::Literal(_))) {
            self.at += 1;
        }
        self.wants(")")?;
        Ok(test)
    }

    fn predicates(&mut self) -> Parsed<Vec<Expression>> {
        let mut predicates = Vec::new();
        while self.takes("[") {
            if predicates.len() >= MAX_CHAIN {
                return self.error("too many predicates");
            }
            predicates.push(self.or()?);
            self.wants("]")?;
        }
        Ok(predicates)
    }
}

/// Appends a step; `//name` becomes one walk over the descendants when no predicate asks for places.
fn push_step(steps: &mut Vec<Step>, mut step: Step) {
    let joins = step.axis == Axis::Child && !step.predicates.iter().any(Expression::is_positional);
    let before = steps.last();
    if joins
        && before.is_some_and(|b| b.axis == Axis::DescendantOrSelf && b.test == Test::Node && b.predicates.is_empty())
    {
        steps.pop();
        step.axis = Axis::Descendant;
    }
    steps.push(step);
}
