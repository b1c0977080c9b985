//! From the tree of a rule to nodes of the graph, checking every type on the way.
//!
//! Unknown fields, functions and lists, wrong types and arities are errors with place and mend: a typo must not become a
//! rule that never fires.
//!
//! Over 500 lines: one method for each form of the grammar, all on the same scopes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::ast::{Arithmetic, Expr, Kind};
use super::error::{Error, Span, nearest};
use super::graph::Graph;
use super::needs::{Capability, Needs};
use super::node::{Constant, Each, NodeId, Op, TextTest};
use super::schema::{Class, ClassId, Type, schema};
use super::signature::{self, signature};
use crate::policy::lists::Lists;

/// A rule compiled.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    pub(super) root: NodeId,
    /// The type of its value, as people read it.
    pub(super) kind: String,
    pub(super) boolean: bool,
    /// Capabilities it names, whether or not they are there.
    pub(super) names: Needs,
    /// Functions and lists it names.
    pub(super) calls: BTreeSet<String>,
    /// Lists that are not configured.
    pub(super) missing_lists: BTreeSet<String>,
}

/// Compiles one tree into the graph.
pub(super) fn compile(expr: &Expr, graph: &mut Graph, lists: &Lists) -> Result<Compiled, Error> {
    let names = Needs::NONE;
    let mut compiler =
        Compiler { graph, lists, scopes: Vec::new(), names, calls: BTreeSet::new(), missing_lists: BTreeSet::new() };
    let (root, kind) = compiler.expr(expr)?;
    let boolean = matches!(kind, Type::Bool | Type::Any);
    let Compiler { names, calls, missing_lists, .. } = compiler;
    Ok(Compiled { root, kind: kind.to_string(), boolean, names, calls, missing_lists })
}

struct Compiler<'e> {
    graph: &'e mut Graph,
    lists: &'e Lists,
    /// Types of the elements of the lambdas around, innermost last.
    scopes: Vec<Type>,
    names: Needs,
    calls: BTreeSet<String>,
    missing_lists: BTreeSet<String>,
}

/// Lists that history keeps, by their place in [`Op::HistoryList`].
pub(super) const HISTORY_LISTS: [&str; 4] =
    ["sender_emails", "sender_domains", "recipient_emails", "recipient_domains"];

type Typed = (NodeId, Type);

impl Compiler<'_> {
    fn add(&mut self, op: Op) -> NodeId {
        self.graph.add(op)
    }

    fn expr(&mut self, expr: &Expr) -> Result<Typed, Error> {
        match &expr.kind {
            Kind::Null => Ok((self.constant(Constant::Null), Type::Any)),
            Kind::Bool(is) => Ok((self.constant(Constant::Bool(*is)), Type::Bool)),
            Kind::Int(n) => Ok((self.constant(Constant::Int(*n)), Type::Int)),
            Kind::Float(n) => Ok((self.constant(Constant::Float(n.to_bits())), Type::Float)),
            Kind::Text(text) => Ok((self.constant(Constant::Text(text.as_str().into())), Type::Text)),
            Kind::List(name) => Ok(self.list(name)),
            Kind::Name(name) => self.root(name, expr.span),
            Kind::Element(up) => self.element(*up, expr.span),
            Kind::Field(base, name, span) => self.field(base, name, *span),
            Kind::Index(base, index) => self.index(base, index),
            Kind::Slice(base, from, to) => self.slice(base, from.as_deref(), to.as_deref()),
            Kind::Call { name, name_span, args, named } => self.call(name, *name_span, args, named, expr.span),
            Kind::And(clauses) => {
                let clauses = self.booleans(clauses)?;
                Ok((self.add(Op::And(clauses)), Type::Bool))
            }
            Kind::Or(clauses) => {
                let clauses = self.booleans(clauses)?;
                Ok((self.add(Op::Or(clauses)), Type::Bool))
            }
            Kind::Not(inner) => {
                let inner = self.boolean(inner)?;
                Ok((self.add(Op::Not(inner)), Type::Bool))
            }
            Kind::Threshold(needed, clauses) => {
                let clauses = self.booleans(clauses)?;
                let needed = u16::try_from(*needed).unwrap_or(u16::MAX);
                Ok((self.add(Op::AtLeast(needed, clauses)), Type::Bool))
            }
            Kind::Compare(operator, left, right) => {
                let (a, ta) = self.expr(left)?;
                let (b, tb) = self.expr(right)?;
                if !ta.meets(&tb) || matches!(ta, Type::Array(_) | Type::Map(_) | Type::Object(_)) {
                    return Err(Error::new(format!("{ta} and {tb} cannot be compared"), expr.span));
                }
                Ok((self.add(Op::Compare(*operator, a, b)), Type::Bool))
            }
            Kind::In { item, set, negated, folded } => self.membership(item, set, *negated, *folded),
            Kind::IsNull(inner, negated) => {
                let (node, kind) = self.expr(inner)?;
                if matches!(kind, Type::Array(_)) {
                    return Err(Error::new("an array is never null", inner.span).help("ask `length(...) == 0`"));
                }
                let is = self.add(Op::IsNull(node));
                Ok((if *negated { self.add(Op::Not(is)) } else { is }, Type::Bool))
            }
            Kind::Arithmetic(operator, left, right) => self.arithmetic(*operator, left, right),
            Kind::Negate(inner) => {
                let (node, kind) = self.number(inner)?;
                Ok((self.add(Op::Negate(node)), kind))
            }
            Kind::Array(items) => self.array(items),
        }
    }

    fn constant(&mut self, constant: Constant) -> NodeId {
        self.add(Op::Constant(constant))
    }

    fn booleans(&mut self, clauses: &[Expr]) -> Result<Box<[NodeId]>, Error> {
        clauses.iter().map(|clause| self.boolean(clause)).collect()
    }

    fn boolean(&mut self, expr: &Expr) -> Result<NodeId, Error> {
        match self.expr(expr)? {
            (node, Type::Bool | Type::Any) => Ok(node),
            (_, kind) => {
                let mend = match kind {
                    Type::Json => "write `== true`",
                    Type::Array(_) => "ask `length(...) > 0` or `any(...)`",
                    _ => "compare it, or ask `is not null`",
                };
                Err(Error::new(format!("a bool is wanted here, this is {kind}"), expr.span).help(mend))
            }
        }
    }

    fn number(&mut self, expr: &Expr) -> Result<Typed, Error> {
        match self.expr(expr)? {
            (node, kind @ (Type::Int | Type::Float)) => Ok((node, kind)),
            (node, Type::Any | Type::Json) => Ok((node, Type::Float)),
            (_, kind) => {
                let error = Error::new(format!("a number is wanted here, this is {kind}"), expr.span);
                Err(if kind == Type::Text { error.help("texts are joined by `strings.concat`") } else { error })
            }
        }
    }

    fn arithmetic(&mut self, operator: Arithmetic, left: &Expr, right: &Expr) -> Result<Typed, Error> {
        let (a, ta) = self.number(left)?;
        let (b, tb) = self.number(right)?;
        let kind = if ta == Type::Int && tb == Type::Int { Type::Int } else { Type::Float };
        Ok((self.add(Op::Arithmetic(operator, a, b)), kind))
    }

    fn array(&mut self, items: &[Expr]) -> Result<Typed, Error> {
        let mut common: Option<Type> = None;
        let mut nodes = Vec::with_capacity(items.len());
        for item in items {
            let (node, kind) = self.expr(item)?;
            common = match common {
                None => Some(kind),
                Some(known) if kind.fits(&known) => Some(known),
                Some(known) if known.fits(&kind) => Some(kind),
                Some(_) => Some(Type::Any),
            };
            nodes.push(node);
        }
        let kind = Type::Array(common.unwrap_or(Type::Any).into());
        Ok((self.add(Op::Array(nodes.into())), kind))
    }

    fn list(&mut self, name: &str) -> Typed {
        self.calls.insert(format!("${name}"));
        let texts = Type::Array(Type::Text.into());
        if let Some(place) = HISTORY_LISTS.iter().position(|known| *known == name) {
            self.names = self.names.and(Needs::of(Capability::History));
            return (self.add(Op::HistoryList(u8::try_from(place).unwrap_or(0))), texts);
        }
        if name == "org_vips" {
            let vips = Type::Array(Type::Object(schema().class("Vip")).into());
            if self.lists.org_vips().is_none() {
                self.missing_lists.insert(name.to_owned());
                return (self.add(Op::Missing(Capability::List)), vips);
            }
            return (self.add(Op::Vips), vips);
        }
        match self.lists.get(name) {
            Some(list) => {
                let index = self.graph.list(name, list.clone());
                (self.add(Op::List(index)), texts)
            }
            None => {
                self.missing_lists.insert(name.to_owned());
                (self.add(Op::Missing(Capability::List)), texts)
            }
        }
    }

    fn root(&mut self, name: &str, span: Span) -> Result<Typed, Error> {
        let class = &schema().classes[0];
        if name == "triage" {
            self.names = self.names.and(Needs::of(Capability::Triage));
            return Ok((self.add(Op::Missing(Capability::Triage)), Type::Object(schema().class("Triage"))));
        }
        let Some(place) = class.place(name) else {
            let error = Error::new(format!("a message has no `{name}`"), span);
            return Err(match nearest(name, class.fields.iter().map(|f| f.name)) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None => error,
            });
        };
        let kind = class.fields[place].kind.clone();
        Ok((self.add(Op::Root(u16::try_from(place).unwrap_or(0))), kind))
    }

    fn element(&mut self, up: usize, span: Span) -> Result<Typed, Error> {
        let Some(kind) = self.scopes.len().checked_sub(up + 1).map(|at| self.scopes[at].clone()) else {
            let message = match self.scopes.len() {
                0 => "`.` is the element of `any`, `filter`, `map` …; here is none".to_owned(),
                n => format!("{} dots climb higher than the {n} functions around", up + 1),
            };
            return Err(Error::new(message, span));
        };
        Ok((self.add(Op::Element(u8::try_from(up).unwrap_or(u8::MAX))), kind))
    }

    fn field(&mut self, base: &Expr, name: &str, span: Span) -> Result<Typed, Error> {
        let (node, kind) = self.expr(base)?;
        match kind {
            Type::Object(class) => {
                let (place, kind) = field_of(class, name, span)?;
                if let Some(capability) = missing_field(&schema().classes[class.0], name) {
                    self.names = self.names.and(Needs::of(capability));
                }
                Ok((self.add(Op::Field(node, class, place)), kind))
            }
            Type::Json | Type::Any => Ok((self.add(Op::Key(node, name.into())), Type::Json)),
            Type::Map(item) => Ok((self.add(Op::Key(node, name.into())), *item)),
            Type::Array(_) => Err(Error::new(format!("an array has no `{name}`"), span)
                .help("ask `any(..., .x == y)`, `map(..., .x)` or one element by `[0]`")),
            other => Err(Error::new(format!("{other} has no fields"), span)),
        }
    }

    fn index(&mut self, base: &Expr, index: &Expr) -> Result<Typed, Error> {
        let (node, kind) = self.expr(base)?;
        let (at, at_kind) = self.expr(index)?;
        let (wanted, result) = match kind {
            Type::Array(item) => (Type::Int, *item),
            Type::Map(item) => (Type::Text, *item),
            Type::Json | Type::Any => (Type::Any, Type::Json),
            Type::Text => (Type::Int, Type::Text),
            other => return Err(Error::new(format!("{other} has no elements"), base.span)),
        };
        if !at_kind.fits(&wanted) {
            return Err(Error::new(format!("the index is {wanted}, not {at_kind}"), index.span));
        }
        Ok((self.add(Op::Index(node, at)), result))
    }

    fn slice(&mut self, base: &Expr, from: Option<&Expr>, to: Option<&Expr>) -> Result<Typed, Error> {
        let (node, kind) = self.expr(base)?;
        if !matches!(kind, Type::Array(_) | Type::Text | Type::Any | Type::Json) {
            return Err(Error::new(format!("{kind} cannot be cut"), base.span));
        }
        let from = from.map(|e| self.number(e)).transpose()?.map(|(n, _)| n);
        let to = to.map(|e| self.number(e)).transpose()?.map(|(n, _)| n);
        Ok((self.add(Op::Slice(node, from, to)), kind))
    }

    fn membership(&mut self, item: &Expr, set: &Expr, negated: bool, folded: bool) -> Result<Typed, Error> {
        let (left, kind) = self.expr(item)?;
        let (mut right, set_kind) = self.expr(set)?;
        let element = match set_kind {
            Type::Array(element) => *element,
            Type::Any | Type::Json => Type::Any,
            // A single value in brackets is a set of one.
            scalar => {
                right = self.add(Op::Array([right].into()));
                scalar
            }
        };
        if !kind.meets(&element) {
            return Err(Error::new(format!("{kind} cannot be among {element}"), item.span.to(set.span)));
        }
        let op = match self.graph.table(right, folded) {
            Some(table) => Op::InTable { item: left, table, folded },
            None => Op::In { item: left, set: right, folded },
        };
        let is = self.add(op);
        Ok((if negated { self.add(Op::Not(is)) } else { is }, Type::Bool))
    }

    fn call(
        &mut self,
        name: &str,
        name_span: Span,
        args: &[Expr],
        named: &[(String, Expr)],
        span: Span,
    ) -> Result<Typed, Error> {
        self.calls.insert(name.to_owned());
        if let Some((first, _)) = named.first().filter(|_| signature::GRAMMAR.contains(&name)) {
            return Err(Error::new(format!("{name} takes no `{first}=`"), span));
        }
        let test = match name {
            "strings.contains" | "strings.icontains" => Some(TextTest::Contains),
            "strings.starts_with" | "strings.istarts_with" => Some(TextTest::StartsWith),
            "strings.ends_with" | "strings.iends_with" => Some(TextTest::EndsWith),
            "strings.like" | "strings.ilike" | "ilike" => Some(TextTest::Like),
            _ => None,
        };
        let short = name.rsplit('.').next().unwrap_or(name);
        let folded = short.starts_with('i');
        if let Some(test) = test {
            return self.text_test(test, folded, args, span);
        }
        match name {
            "any" => self.each(Each::Any, args, span),
            "all" => self.each(Each::All, args, span),
            "filter" => self.each(Each::Filter, args, span),
            "map" => self.each(Each::Map, args, span),
            "distinct" => self.each(Each::Distinct, args, span),
            "ratio" => self.each(Each::Ratio, args, span),
            "sum" => self.each(Each::Sum, args, span),
            "coalesce" => self.coalesce(args, span),
            "length" => self.length(args, span),
            "min" | "max" => self.extreme(name, args, span),
            "html.xpath" => self.xpath(args, span),
            "beta.ip_in" => self.ip_in(args, span),
            "regex.contains" | "regex.icontains" | "regex.match" | "regex.imatch" | "regex.count" | "regex.icount"
            | "regex.extract" | "regex.iextract" => self.regex(short.trim_start_matches('i'), folded, args, span),
            _ => self.function(name, name_span, args, named, span),
        }
    }

    fn arity(args: &[Expr], least: usize, most: usize, span: Span) -> Result<(), Error> {
        if (least..=most).contains(&args.len()) {
            return Ok(());
        }
        let wanted = match (least, most) {
            (a, b) if a == b => format!("{a}"),
            (a, usize::MAX) => format!("at least {a}"),
            (a, b) => format!("{a} to {b}"),
        };
        Err(Error::new(format!("{wanted} arguments are wanted, {} given", args.len()), span))
    }

    fn text(&mut self, expr: &Expr) -> Result<NodeId, Error> {
        match self.expr(expr)? {
            (node, Type::Text | Type::Any | Type::Json) => Ok(node),
            (_, kind) => Err(Error::new(format!("a string is wanted here, this is {kind}"), expr.span)),
        }
    }

    fn text_test(&mut self, test: TextTest, folded: bool, args: &[Expr], span: Span) -> Result<Typed, Error> {
        Self::arity(args, 2, usize::MAX, span)?;
        let subject = self.text(&args[0])?;
        let mut constants = Vec::new();
        let mut computed = Vec::new();
        for arg in &args[1..] {
            match &arg.kind {
                Kind::Text(text) => constants.push(self.graph.needle(text, test, folded)),
                _ => computed.push(self.text(arg)?),
            }
        }
        let constant = (!constants.is_empty()).then(|| Op::Text { test, folded, subject, needles: constants.into() });
        let computed = (!computed.is_empty()).then(|| Op::TextOf { test, folded, subject, needles: computed.into() });
        let node = match (constant, computed) {
            (Some(a), Some(b)) => {
                let both = [self.add(a), self.add(b)];
                self.add(Op::Or(both.into()))
            }
            (Some(op), None) | (None, Some(op)) => self.add(op),
            (None, None) => self.constant(Constant::Null),
        };
        Ok((node, Type::Bool))
    }

    fn regex(&mut self, what: &str, folded: bool, args: &[Expr], span: Span) -> Result<Typed, Error> {
        Self::arity(args, 2, usize::MAX, span)?;
        let subject = self.text(&args[0])?;
        let mut patterns = Vec::new();
        for arg in &args[1..] {
            let Kind::Text(text) = &arg.kind else {
                return Err(Error::new("a pattern is written out: '...'", arg.span));
            };
            patterns.push(self.graph.pattern(text, folded, what == "match").map_err(|why| {
                Error::new(why, arg.span).help("patterns are RE2's: no look-around, no back-references")
            })?);
        }
        Ok(match what {
            "count" => {
                Self::arity(args, 2, 2, span)?;
                (self.add(Op::PatternCount { subject, pattern: patterns[0] }), Type::Int)
            }
            "extract" => {
                let found = Type::Array(Type::Object(schema().class("RegexMatch")).into());
                (self.add(Op::PatternExtract { subject, patterns: patterns.into() }), found)
            }
            _ => (self.add(Op::Pattern { subject, patterns: patterns.into() }), Type::Bool),
        })
    }

    fn each(&mut self, each: Each, args: &[Expr], span: Span) -> Result<Typed, Error> {
        let least = if matches!(each, Each::Distinct | Each::Sum) { 1 } else { 2 };
        Self::arity(args, least, 2, span)?;
        let (list, kind) = self.expr(&args[0])?;
        let element = match kind {
            Type::Array(element) => *element,
            Type::Any | Type::Json => Type::Json,
            other => {
                let mend = "the first argument is what is gone through: `any(body.links, ...)`";
                return Err(Error::new(format!("an array is wanted here, this is {other}"), args[0].span).help(mend));
            }
        };
        let body = match args.get(1) {
            None => None,
            Some(body) => {
                self.scopes.push(element.clone());
                let result = if matches!(each, Each::Any | Each::All | Each::Filter | Each::Ratio) {
                    self.boolean(body).map(|node| (node, Type::Bool))
                } else {
                    self.expr(body)
                };
                self.scopes.pop();
                Some(result?)
            }
        };
        let kind = match each {
            Each::Any | Each::All => Type::Bool,
            Each::Filter | Each::Distinct => Type::Array(element.into()),
            Each::Map => Type::Array(body.as_ref().map_or(Type::Any, |(_, kind)| kind.clone()).into()),
            Each::Ratio => Type::Float,
            Each::Sum => match body.as_ref().map_or(element, |(_, kind)| kind.clone()) {
                Type::Int => Type::Int,
                _ => Type::Float,
            },
        };
        let body = body.map(|(node, _)| node);
        let unrolled = body.filter(|_| each == Each::Any).and_then(|body| self.unrolled(list, body));
        Ok((unrolled.unwrap_or_else(|| self.add(Op::Each(each, list, body))), kind))
    }

    /// `any(["a", "b"], strings.contains(x, .))` is `strings.contains(x, "a", "b")`, but false where that is null.
    fn unrolled(&mut self, list: NodeId, body: NodeId) -> Option<NodeId> {
        let (Op::Array(items), Op::TextOf { test, folded, subject, needles }) =
            (&self.graph.node(list).op, &self.graph.node(body).op)
        else {
            return None;
        };
        let (test, folded, subject) = (*test, *folded, *subject);
        let by_element = matches!(**needles, [needle] if self.graph.node(needle).op == Op::Element(0));
        let text = |item: &NodeId| match &self.graph.node(*item).op {
            Op::Constant(Constant::Text(text)) => Some(Arc::clone(text)),
            _ => None,
        };
        let texts = items.iter().map(text).collect::<Option<Vec<_>>>()?;
        if !by_element || texts.is_empty() || self.graph.node(subject).open > 0 {
            return None;
        }
        let needles = texts.iter().map(|text| self.graph.needle(text, test, folded)).collect();
        let is = self.add(Op::Text { test, folded, subject, needles });
        let no = self.constant(Constant::Bool(false));
        Some(self.add(Op::Coalesce([is, no].into())))
    }

    fn coalesce(&mut self, args: &[Expr], span: Span) -> Result<Typed, Error> {
        Self::arity(args, 1, usize::MAX, span)?;
        let mut nodes = Vec::new();
        let mut kind: Option<Type> = None;
        for arg in args {
            let (node, one) = self.expr(arg)?;
            if let Some(kind) = kind.as_ref().filter(|kind| !one.meets(kind)) {
                return Err(Error::new(format!("{kind} cannot be replaced by {one}"), arg.span));
            }
            kind = kind.or(Some(one));
            nodes.push(node);
        }
        Ok((self.add(Op::Coalesce(nodes.into())), kind.unwrap_or(Type::Any)))
    }

    fn length(&mut self, args: &[Expr], span: Span) -> Result<Typed, Error> {
        Self::arity(args, 1, 1, span)?;
        let (node, kind) = self.expr(&args[0])?;
        if matches!(kind, Type::Bool | Type::Int | Type::Float | Type::Object(_)) {
            return Err(Error::new(format!("{kind} has no length"), args[0].span));
        }
        // A map that is null has no entries, any other null no length.
        let op = if matches!(kind, Type::Map(_)) {
            Op::Call { function: MAP_LENGTH, args: [node].into() }
        } else {
            Op::Call { function: LENGTH, args: [node].into() }
        };
        Ok((self.add(op), Type::Int))
    }

    fn extreme(&mut self, name: &str, args: &[Expr], span: Span) -> Result<Typed, Error> {
        Self::arity(args, 1, usize::MAX, span)?;
        let function = if name == "min" { MIN } else { MAX };
        let (mut nodes, mut result) = (Vec::new(), Type::Int);
        for arg in args {
            let (node, kind) = self.expr(arg)?;
            let kind = match kind {
                Type::Array(item) if args.len() == 1 => *item,
                other => other,
            };
            match kind {
                Type::Int => {}
                Type::Float | Type::Any | Type::Json => result = Type::Float,
                other => return Err(Error::new(format!("numbers are wanted here, this is {other}"), arg.span)),
            }
            nodes.push(node);
        }
        Ok((self.add(Op::Call { function, args: nodes.into() }), result))
    }

    fn xpath(&mut self, args: &[Expr], span: Span) -> Result<Typed, Error> {
        Self::arity(args, 2, 2, span)?;
        let (html, kind) = self.expr(&args[0])?;
        let has_raw = match &kind {
            Type::Object(class) => schema().classes[class.0].place("raw").is_some(),
            other => matches!(other, Type::Any | Type::Json),
        };
        if !has_raw {
            return Err(Error::new(format!("HTML is wanted here, this is {kind}"), args[0].span).help("`body.html`"));
        }
        let Kind::Text(query) = &args[1].kind else {
            return Err(Error::new("an XPath query is written out: '...'", args[1].span));
        };
        let query = self.graph.xpath(query).map_err(|why| Error::new(why, args[1].span))?;
        Ok((self.add(Op::XPath { html, query }), Type::Object(schema().class("XPathResult"))))
    }

    fn ip_in(&mut self, args: &[Expr], span: Span) -> Result<Typed, Error> {
        Self::arity(args, 2, usize::MAX, span)?;
        let ip = self.text(&args[0])?;
        let mut networks = Vec::with_capacity(args.len());
        for arg in &args[1..] {
            let Kind::Text(text) = &arg.kind else {
                return Err(Error::new("a network is written out: '192.0.2.0/24'", arg.span));
            };
            networks.push(text.parse().map_err(|_| Error::new("not an address or network", arg.span))?);
        }
        let table = self.graph.networks(networks);
        Ok((self.add(Op::Networks { ip, table }), Type::Bool))
    }

    fn function(
        &mut self,
        name: &str,
        name_span: Span,
        args: &[Expr],
        named: &[(String, Expr)],
        span: Span,
    ) -> Result<Typed, Error> {
        let Some((function, signature)) = signature(name) else {
            let error = Error::new(format!("there is no function `{name}`"), name_span);
            return Err(match nearest(name, signature::names()) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None => error,
            });
        };
        let most = if signature.many { usize::MAX } else { signature.args.len() };
        Self::arity(args, signature.least, most, span)?;
        let mut nodes = Vec::new();
        for (place, arg) in args.iter().enumerate() {
            let (node, kind) = self.expr(arg)?;
            let wanted = signature.args.get(place).or(signature.args.last()).unwrap_or(&Type::Any);
            if !kind.fits(wanted) {
                return Err(Error::new(format!("{wanted} is wanted here, this is {kind}"), arg.span));
            }
            nodes.push(node);
        }
        let null = self.constant(Constant::Null);
        nodes.resize(nodes.len().max(signature.args.len()), null);
        for (known, wanted) in &signature.named {
            let given = named.iter().find(|(name, _)| name == known);
            let node = match given {
                None => null,
                Some((_, value)) => {
                    let (node, kind) = self.expr(value)?;
                    if !kind.fits(wanted) {
                        return Err(Error::new(format!("`{known}` is {wanted}, this is {kind}"), value.span));
                    }
                    node
                }
            };
            nodes.push(node);
        }
        if let Some((unknown, value)) = named.iter().find(|(name, _)| !signature.named.iter().any(|(k, _)| k == name)) {
            return Err(Error::new(format!("{name} takes no `{unknown}=`"), value.span));
        }
        if let Some(capability) = signature.needs {
            self.names = self.names.and(Needs::of(capability));
        }
        Ok((self.add(Op::Call { function, args: nodes.into() }), signature.result.clone()))
    }
}

/// Functions from here on have no name of their own in the table of functions.
pub(super) const FIRST_BUILT_IN: u16 = 50_000;
pub(super) const LENGTH: u16 = 60_000;
pub(super) const MAP_LENGTH: u16 = 60_001;
pub(super) const MIN: u16 = 60_002;
pub(super) const MAX: u16 = 60_003;

/// Fields that only a capability fills.
pub(super) fn missing_field(class: &Class, name: &str) -> Option<Capability> {
    match (class.name, name) {
        ("Scan", "ocr") => Some(Capability::Ocr),
        ("Scan", "yara") => Some(Capability::Yara),
        _ => None,
    }
}

fn field_of(class: ClassId, name: &str, span: Span) -> Result<(u16, Type), Error> {
    let class = &schema().classes[class.0];
    if let Some(place) = class.place(name) {
        return Ok((u16::try_from(place).unwrap_or(0), class.fields[place].kind.clone()));
    }
    let error = Error::new(format!("{} has no `{name}`", class.name), span);
    Err(match nearest(name, class.fields.iter().map(|f| f.name)) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None if class.fields.len() <= 12 => {
            let known: Vec<&str> = class.fields.iter().map(|f| f.name).collect();
            error.help(format!("it has {}", known.join(", ")))
        }
        None => error,
    })
}

/// A text shared by the nodes that hold it.
pub(super) type SharedText = Arc<str>;

/// Tables by what they hold.
pub(super) type ByKey<K> = HashMap<K, u32>;
