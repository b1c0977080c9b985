//! XPath 1.0 text to an expression (W3C XPath 1.0, 2 and 3). Nesting is bounded.

use super::XPathError;

const MAX_NESTING: usize = 48;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    Ancestor,
    AncestorOrSelf,
    Attribute,
    Child,
    Descendant,
    DescendantOrSelf,
    Following,
    FollowingSibling,
    Parent,
    Preceding,
    PrecedingSibling,
    Itself,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    Any,
    Name(String),
    AnyNode,
    Text,
    Comment,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) axis: Axis,
    pub(super) test: Test,
    pub(super) predicates: Vec<Expression>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Union,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Start {
    Root,
    Context,
    Value(Box<Expression>, Vec<Expression>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    Binary(Operator, Box<Expression>, Box<Expression>),
    Negated(Box<Expression>),
    Number(f64),
    Literal(String),
    Call(&'static str, Vec<Expression>),
    Path(Start, Vec<Step>),
}

/// Functions: name, fewest and most arguments.
const FUNCTIONS: &[(&str, usize, usize)] = &[
    ("last", 0, 0),
    ("position", 0, 0),
    ("count", 1, 1),
    ("local-name", 0, 1),
    ("name", 0, 1),
    ("string", 0, 1),
    ("concat", 2, 50),
    ("starts-with", 2, 2),
    ("ends-with", 2, 2),
    ("contains", 2, 2),
    ("substring-before", 2, 2),
    ("substring-after", 2, 2),
    ("substring", 2, 3),
    ("string-length", 0, 1),
    ("normalize-space", 0, 1),
    ("translate", 3, 3),
    ("lower-case", 1, 1),
    ("upper-case", 1, 1),
    ("boolean", 1, 1),
    ("not", 1, 1),
    ("true", 0, 0),
    ("false", 0, 0),
    ("number", 0, 1),
    ("sum", 1, 1),
    ("floor", 1, 1),
    ("ceiling", 1, 1),
    ("round", 1, 1),
];

const AXES: &[(&str, Axis)] = &[
    ("ancestor", Axis::Ancestor),
    ("ancestor-or-self", Axis::AncestorOrSelf),
    ("attribute", Axis::Attribute),
    ("child", Axis::Child),
    ("descendant", Axis::Descendant),
    ("descendant-or-self", Axis::DescendantOrSelf),
    ("following", Axis::Following),
    ("following-sibling", Axis::FollowingSibling),
    ("parent", Axis::Parent),
    ("preceding", Axis::Preceding),
    ("preceding-sibling", Axis::PrecedingSibling),
    ("self", Axis::Itself),
];

/// Binary operators by rising strength; of one level the longer ones first.
const LEVELS: &[&[(&str, Operator)]] = &[
    &[("or", Operator::Or)],
    &[("and", Operator::And)],
    &[("!=", Operator::NotEqual), ("=", Operator::Equal)],
    &[("<=", Operator::LessOrEqual), (">=", Operator::GreaterOrEqual), ("<", Operator::Less), (">", Operator::Greater)],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[("*", Operator::Multiply), ("div", Operator::Divide), ("mod", Operator::Modulo)],
];

pub(super) fn parse(query: &str) -> Result<Expression, XPathError> {
    let mut parser = Parser { query, at: 0, nesting: 0 };
    let expression = parser.binary(0)?;
    parser.space();
    // The public feed has a query with a bracket too many, which its engine takes.
    if parser.rest() == "]" {
        parser.at += 1;
    }
    if parser.at < query.len() { Err(parser.error("an operator or the end")) } else { Ok(expression) }
}

struct Parser<'q> {
    query: &'q str,
    at: usize,
    nesting: usize,
}

type Parsed<T> = Result<T, XPathError>;

impl<'q> Parser<'q> {
    fn rest(&self) -> &'q str {
        &self.query[self.at..]
    }

    fn error(&self, expected: &str) -> XPathError {
        let column = self.query[..self.at].chars().count() + 1;
        XPathError { column, message: format!("expected {expected}") }
    }

    fn space(&mut self) {
        self.at = self.query.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        self.space();
        let taken = self.rest().starts_with(token);
        if taken {
            self.at += token.len();
        }
        taken
    }

    fn expect(&mut self, token: &str) -> Parsed<()> {
        if self.take(token) { Ok(()) } else { Err(self.error(token)) }
    }

    fn name(&mut self) -> Option<&'q str> {
        self.space();
        let rest = self.rest();
        let first = rest.chars().next()?;
        if !(first.is_alphabetic() || first == '_') {
            return None;
        }
        let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let mut end = rest.find(|c| !inside(c)).unwrap_or(rest.len());
        // A prefix is part of the name: `o:p`. Two colons end an axis.
        if rest[end..].starts_with(':') && !rest[end..].starts_with("::") {
            let after = &rest[end + 1..];
            let more = after.find(|c| !inside(c)).unwrap_or(after.len());
            end += if more > 0 { more + 1 } else { 0 };
        }
        self.at += end;
        Some(&rest[..end])
    }

    fn binary(&mut self, level: usize) -> Parsed<Expression> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        let mut count = 0;
        while let Some(operator) = self.operator(operators) {
            count += 1;
            if count > MAX_NESTING * 4 {
                return Err(self.error("fewer operators"));
            }
            let right = self.binary(level + 1)?;
            left = Expression::Binary(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn operator(&mut self, operators: &[(&str, Operator)]) -> Option<Operator> {
        self.space();
        for (text, operator) in operators {
            let Some(after) = self.rest().strip_prefix(text) else { continue };
            let word = text.starts_with(|c: char| c.is_alphabetic());
            if !word || !after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '_')) {
                self.at += text.len();
                return Some(*operator);
            }
        }
        None
    }

    fn unary(&mut self) -> Parsed<Expression> {
        let mut negative = false;
        while self.take("-") {
            negative = !negative;
            // Bounded like everything else, though this one does not nest.
            self.nesting += 1;
            if self.nesting > MAX_NESTING * 4 {
                return Err(self.error("fewer signs"));
            }
        }
        let mut left = self.path()?;
        while self.take("|") {
            let right = self.path()?;
            left = Expression::Binary(Operator::Union, Box::new(left), Box::new(right));
        }
        Ok(if negative { Expression::Negated(Box::new(left)) } else { left })
    }

    fn path(&mut self) -> Parsed<Expression> {
        let mut steps = Vec::new();
        let start = if self.take("//") {
            steps.push(anywhere());
            Start::Root
        } else if self.take("/") {
            self.space();
            if !self.starts_step() {
                return Ok(Expression::Path(Start::Root, steps));
            }
            Start::Root
        } else if let Some(primary) = self.primary()? {
            let predicates = self.predicates()?;
            self.space();
            if predicates.is_empty() && !self.rest().starts_with('/') {
                return Ok(primary);
            }
            let start = Start::Value(Box::new(primary), predicates);
            if self.take("//") {
                steps.push(anywhere());
            } else if !self.take("/") {
                return Ok(Expression::Path(start, steps));
            }
            start
        } else {
            Start::Context
        };
        loop {
            let step = self.step()?;
            let anywhere_before = steps.last() == Some(&anywhere());
            match step.axis {
                // `//name`: the nodes below, not the children of every node below.
                Axis::Child if anywhere_before && !step.predicates.iter().any(counts) => {
                    steps.pop();
                    steps.push(Step { axis: Axis::Descendant, ..step });
                }
                _ => steps.push(step),
            }
            if steps.len() > MAX_NESTING * 4 {
                return Err(self.error("fewer steps"));
            }
            if self.take("//") {
                steps.push(anywhere());
            } else if !self.take("/") {
                return Ok(Expression::Path(start, steps));
            }
        }
    }

    fn starts_step(&self) -> bool {
        self.rest().starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | '*' | '@' | '.'))
    }

    /// A literal, number, bracketed expression or function call; `None` when a step begins here.
    fn primary(&mut self) -> Parsed<Option<Expression>> {
        self.space();
        let rest = self.rest();
        let first = rest.chars().next().unwrap_or(' ');
        if first == '\'' || first == '"' {
            let Some(end) = rest[1..].find(first) else { return Err(self.error("a closing quote")) };
            self.at += end + 2;
            return Ok(Some(Expression::Literal(rest[1..=end].to_owned())));
        }
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        if let Ok(number) = rest[..digits].parse() {
            self.at += digits;
            return Ok(Some(Expression::Number(number)));
        }
        if first == '(' {
            self.at += 1;
            let inner = self.nested()?;
            self.expect(")")?;
            return Ok(Some(inner));
        }
        self.call()
    }

    fn nested(&mut self) -> Parsed<Expression> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(self.error("less nesting"));
        }
        let inner = self.binary(0)?;
        self.nesting -= 1;
        Ok(inner)
    }

    fn call(&mut self) -> Parsed<Option<Expression>> {
        let start = self.at;
        let name = self.name();
        let Some(name) = name
            .filter(|name| !matches!(*name, "text" | "comment" | "node") && self.rest().trim_start().starts_with('('))
        else {
            self.at = start;
            return Ok(None);
        };
        let Some((name, least, most)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else {
            self.at = start;
            return Err(self.error("a known function"));
        };
        self.expect("(")?;
        let mut arguments = Vec::new();
        if !self.take(")") {
            loop {
                arguments.push(self.nested()?);
                if self.take(")") {
                    break;
                }
                self.expect(",")?;
            }
        }
        if arguments.len() < *least || arguments.len() > *most {
            return Err(self.error("another number of arguments"));
        }
        Ok(Some(Expression::Call(name, arguments)))
    }

    fn predicates(&mut self) -> Parsed<Vec<Expression>> {
        let mut out = Vec::new();
        while self.take("[") {
            out.push(self.nested()?);
            self.expect("]")?;
        }
        Ok(out)
    }

    fn step(&mut self) -> Parsed<Step> {
        for (text, axis) in [("..", Axis::Parent), (".", Axis::Itself)] {
            if self.take(text) {
                return Ok(Step { axis, test: Test::AnyNode, predicates: self.predicates()? });
            }
        }
        let mut axis = if self.take("@") { Axis::Attribute } else { Axis::Child };
        let start = self.at;
        if axis == Axis::Child
            && let Some(name) = self.name()
        {
            match AXES.iter().find(|(known, _)| *known == name) {
                Some((_, named)) if self.take("::") => axis = *named,
                _ => self.at = start,
            }
        }
        let test = self.test()?;
        Ok(Step { axis, test, predicates: self.predicates()? })
    }

    fn test(&mut self) -> Parsed<Test> {
        if self.take("*") {
            return Ok(Test::Any);
        }
        let Some(name) = self.name() else { return Err(self.error("a name")) };
        if !self.take("(") {
            return Ok(Test::Name(name.to_lowercase()));
        }
        let test = match name {
            "text" => Test::Text,
            "comment" => Test::Comment,
            "node" => Test::AnyNode,
            _ => return Err(self.error("text(), comment() or node()")),
        };
        self.expect(")")?;
        Ok(test)
    }
}

/// Whether a predicate may depend on where among its like a node stands: it is, or may be, a number, or asks.
fn counts(predicate: &Expression) -> bool {
    match predicate {
        Expression::Literal(_) | Expression::Path(..) => asks_position(predicate),
        Expression::Binary(operator, ..) => {
            use Operator::{Add, Divide, Modulo, Multiply, Subtract};
            matches!(operator, Add | Subtract | Multiply | Divide | Modulo) || asks_position(predicate)
        }
        Expression::Call(name, _) => {
            !matches!(
                *name,
                "contains"
                    | "starts-with"
                    | "ends-with"
                    | "not"
                    | "boolean"
                    | "true"
                    | "false"
                    | "string"
                    | "normalize-space"
            ) || asks_position(predicate)
        }
        Expression::Number(_) | Expression::Negated(_) => true,
    }
}

fn asks_position(expression: &Expression) -> bool {
    match expression {
        Expression::Number(_) | Expression::Literal(_) => false,
        Expression::Negated(inner) => asks_position(inner),
        Expression::Binary(_, a, b) => asks_position(a) || asks_position(b),
        Expression::Call("position" | "last", _) => true,
        Expression::Call(_, arguments) => arguments.iter().any(asks_position),
        // Predicates within count places of their own.
        Expression::Path(Start::Value(inner, _), _) => asks_position(inner),
        Expression::Path(..) => false,
    }
}

fn anywhere() -> Step {
    Step { axis: Axis::DescendantOrSelf, test: Test::AnyNode, predicates: Vec::new() }
}
