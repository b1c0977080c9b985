//! Writes a source anew as the public feed writes it: two spaces a level, `and` and `or` at the head of a line, what does not
//! fit into [`WIDTH`] opened one item a line.
//!
//! Only white space changes: every token stays as it is written, every comment stays where it is (before a token on lines of
//! its own, or behind it), one empty line between paragraphs stays. So the source means the same, and formatting it again
//! changes nothing.
//!
//! Over 500 lines with its tests: one layout, and the choices that a generator of sources needs to try it.

use super::error::{Error, Span};
use super::lex::{Token, lex};
use super::parse::parse;

/// Characters of a line that is not opened. A long text or comment may still be longer.
pub const WIDTH: usize = 80;

/// The source, formatted; ends with a line end.
///
/// # Errors
/// The first mistake of a source that cannot be read.
pub fn format(source: &str) -> Result<String, Error> {
    // Checked first: nesting is bounded from here on.
    parse(source)?;
    let words = Words::read(source)?;
    let end = words.all.len() - 1;
    let mut out = Out::new(&words);
    out.chain(0, end, true);
    out.notes(end);
    let mut text = out.text.trim_end().to_owned();
    text.push('\n');
    Ok(text)
}

/// The source on one line, without comments; as it is when it cannot be read.
pub fn one_line(source: &str) -> String {
    match Words::read(source) {
        Ok(words) => {
            let mut text = String::with_capacity(source.len());
            for (place, word) in words.all.iter().enumerate() {
                if word.spaced && place > 0 && !word.text.is_empty() {
                    text.push(' ');
                }
                text.push_str(word.text);
            }
            text
        }
        Err(_) => source.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// A comment, and whether an empty line stands before it.
struct Note<'s> {
    text: &'s str,
    blank: bool,
}

/// A token with what stands around it.
struct Word<'s> {
    text: &'s str,
    token: Token<'s>,
    /// Comments on lines of their own before it.
    before: Vec<Note<'s>>,
    /// An empty line stands before it.
    blank: bool,
    /// A comment behind it on the same line.
    after: Option<&'s str>,
    /// A space stands before it on a line.
    spaced: bool,
    /// Characters of everything up to its beginning and its end, on one line.
    start: usize,
    end: usize,
    /// Comments up to before it, and up to behind it.
    notes_before: usize,
    notes_after: usize,
    /// The bracket that closes this one.
    partner: usize,
}

struct Words<'s> {
    /// The last one is the end.
    all: Vec<Word<'s>>,
}

impl<'s> Words<'s> {
    fn read(source: &'s str) -> Result<Self, Error> {
        let mut all: Vec<Word<'s>> = Vec::new();
        let mut at = 0;
        for (token, span) in lex(source)? {
            let Span { start, end } = span;
            let (before, blank) = notes(source.get(at..start).unwrap_or_default(), all.last_mut());
            at = end;
            let text = source.get(start..end).unwrap_or_default();
            let spaced = is_spaced(&all, &token);
            all.push(Word {
                text,
                token,
                before,
                blank,
                after: None,
                spaced,
                start: 0,
                end: 0,
                notes_before: 0,
                notes_after: 0,
                partner: 0,
            });
        }
        // A comment between an item and its comma belongs behind the comma.
        for place in 1..all.len() {
            if all[place].is(",") && all[place].after.is_none() && all[place].before.is_empty() {
                all[place].after = all[place - 1].after.take();
            }
        }
        let (mut width, mut count, mut open) = (0, 0, Vec::new());
        for place in 0..all.len() {
            let word = &mut all[place];
            width += usize::from(word.spaced);
            count += word.before.len();
            (word.start, word.notes_before) = (width, count);
            width += word.text.chars().count();
            count += usize::from(word.after.is_some());
            (word.end, word.notes_after) = (width, count);
            if word.is("(") || word.is("[") {
                open.push(place);
            } else if (word.is(")") || word.is("]"))
                && let Some(opened) = open.pop()
            {
                all[opened].partner = place;
            }
        }
        Ok(Self { all })
    }
}

/// The comments and empty lines between two tokens: a comment on the first line is the earlier token's.
fn notes<'s>(gap: &'s str, earlier: Option<&mut Word<'s>>) -> (Vec<Note<'s>>, bool) {
    let (mut before, mut blank) = (Vec::new(), false);
    let mut lines = gap.split('\n');
    let count = gap.matches('\n').count();
    if let Some(earlier) = earlier {
        let rest = lines.next().unwrap_or_default().trim();
        earlier.after = (!rest.is_empty()).then_some(rest);
    }
    let last = gap.rsplit('\n').next().unwrap_or_default();
    for line in lines {
        let text = line.trim();
        if !text.is_empty() {
            before.push(Note { text, blank });
            blank = false;
        } else if count > 0 && !std::ptr::eq(line, last) {
            blank = true;
        }
    }
    (before, blank)
}

/// Whether a space stands before this token on a line.
fn is_spaced(earlier: &[Word<'_>], token: &Token<'_>) -> bool {
    let Some(previous) = earlier.last() else { return false };
    let value = |token: &Token<'_>| match token {
        Token::Name(_) | Token::Dots(_) | Token::List(_) | Token::Text(_) => true,
        Token::Sign(sign) => matches!(*sign, ")" | "]"),
        _ => false,
    };
    if let Token::Sign("(" | "[" | "=" | ":") = previous.token {
        return false;
    }
    // A sign before a value, not between two.
    if previous.is("-") {
        let left = earlier.len().checked_sub(2).and_then(|place| earlier.get(place));
        let binary = left.is_some_and(|left| {
            value(&left.token)
                || matches!(left.token, Token::Int(_) | Token::Float(_) | Token::Word("null" | "true" | "false"))
        });
        if !binary {
            return false;
        }
    }
    match token {
        Token::End => false,
        Token::Sign(")" | "]" | "," | "=" | ":") => false,
        Token::Sign("(" | "[") => !value(&previous.token),
        // Behind a value dots are a field of it; behind dots they would become one run.
        Token::Dots(_) => !value(&previous.token) || matches!(previous.token, Token::Dots(_)),
        Token::Name(_) => !matches!(previous.token, Token::Dots(_)),
        _ => true,
    }
}

impl Word<'_> {
    fn is(&self, sign: &str) -> bool {
        matches!(self.token, Token::Sign(own) if own == sign)
    }

    fn opens(&self) -> bool {
        self.is("(") || self.is("[")
    }

    fn joins(&self) -> bool {
        matches!(self.token, Token::Word("and" | "or"))
    }
}

/// The text as it grows.
struct Out<'w, 's> {
    words: &'w Words<'s>,
    text: String,
    column: usize,
    indent: usize,
    at_start: bool,
    /// A comment was written: the line is over.
    ended: bool,
    /// Nothing was written yet since a bracket was opened: no empty line here.
    fresh: bool,
}

const STEP: usize = 2;

impl<'w, 's> Out<'w, 's> {
    fn new(words: &'w Words<'s>) -> Self {
        Self { words, text: String::new(), column: 0, indent: 0, at_start: true, ended: false, fresh: true }
    }

    fn line(&mut self) {
        if !self.at_start {
            self.text.push('\n');
        }
        (self.at_start, self.ended, self.column) = (true, false, 0);
    }

    fn empty_line(&mut self, wanted: bool) {
        if wanted && !self.fresh {
            self.text.push('\n');
        }
        self.fresh = false;
    }

    fn begin(&mut self) {
        self.text.extend(std::iter::repeat_n(' ', self.indent));
        self.column = self.indent;
        self.at_start = false;
    }

    /// The comments before a token.
    fn notes(&mut self, place: usize) {
        let words = self.words;
        for note in &words.all[place].before {
            self.line();
            self.empty_line(note.blank);
            self.begin();
            self.text.push_str(note.text);
            self.line();
        }
    }

    fn word(&mut self, place: usize) {
        let words = self.words;
        let word = &words.all[place];
        self.notes(place);
        if self.ended {
            self.line();
        }
        if self.at_start {
            let closes = word.is(")") || word.is("]");
            self.empty_line(word.blank && !closes);
            self.begin();
        } else if word.spaced {
            self.text.push(' ');
            self.column += 1;
        }
        self.text.push_str(word.text);
        self.column += word.end - word.start;
        self.fresh = false;
        if let Some(after) = word.after {
            self.text.push(' ');
            self.text.push_str(after);
            self.ended = true;
        }
    }

    /// Whether these tokens (the last one not counted) hold no comment that ends a line among them.
    fn plain(&self, from: usize, to: usize) -> bool {
        let all = &self.words.all;
        to <= from || all[to - 1].notes_after - usize::from(all[to - 1].after.is_some()) == all[from].notes_before
    }

    /// Characters of these tokens on one line.
    fn width(&self, from: usize, to: usize) -> usize {
        let all = &self.words.all;
        if to <= from { 0 } else { all[to - 1].end - all[from].start }
    }

    /// Places of these tokens that stand in no bracket and are wanted.
    fn outer(&self, from: usize, to: usize, wanted: impl Fn(&Word<'_>) -> bool) -> Vec<usize> {
        let (mut places, mut place) = (Vec::new(), from);
        while place < to {
            let word = &self.words.all[place];
            if wanted(word) {
                places.push(place);
            }
            place = if word.opens() { word.partner.max(place) + 1 } else { place + 1 };
        }
        places
    }

    /// Operands with `and` and `or` between them: on one line, or each on its own.
    fn chain(&mut self, from: usize, to: usize, open: bool) {
        let joints = self.outer(from, to, |word| word.joins());
        let column = if self.at_start { self.indent } else { self.column };
        // One more for a comma.
        let fits = self.plain(from, to) && column + self.width(from, to) < WIDTH;
        if joints.is_empty() || (fits && !open) {
            return self.operand(from, to);
        }
        let mut start = from;
        for joint in joints {
            self.operand(start, joint);
            self.line();
            start = joint;
        }
        self.operand(start, to);
    }

    /// Tokens in a row; brackets that do not fit are opened.
    fn operand(&mut self, from: usize, to: usize) {
        let mut place = from;
        while place < to {
            let word = &self.words.all[place];
            if word.opens() && word.partner > place {
                let close = word.partner;
                self.bracket(place, close, to);
                place = close + 1;
            } else {
                self.word(place);
                place += 1;
            }
        }
    }

    fn bracket(&mut self, open: usize, close: usize, to: usize) {
        let all = &self.words.all;
        // What must stand behind it on the same line: up to the next bracket.
        let tail = (close + 1..to).find(|place| all[*place].opens()).map_or(to, |next| next + 1);
        let fits = self.column + 1 + self.width(open, tail) < WIDTH;
        let index = all[open].is("[") && !all[open].spaced && open > 0 && !all[open - 1].opens();
        let empty = close == open + 1;
        if (fits || index || empty) && self.plain(open, close + 1) {
            return (open..=close).for_each(|place| self.word(place));
        }
        let commas = self.outer(open + 1, close, |word| word.is(","));
        let call = all[open].is("(") && !all[open].spaced;
        if call && commas.is_empty() && self.is_call(open, close) {
            self.word(open);
            self.operand(open + 1, close);
            return self.word(close);
        }
        self.word(open);
        self.fresh = true;
        self.indent += STEP;
        let mut start = open + 1;
        for comma in commas {
            let first = start == open + 1;
            let short = self.column + self.width(start, comma) < WIDTH && self.plain(open + 1, comma);
            let beside = call && first && short && all[open].after.is_none() && all[start].before.is_empty();
            if beside && self.outer(start, comma, |word| word.joins()).is_empty() {
                (start..comma).for_each(|place| self.word(place));
            } else {
                self.line();
                self.chain(start, comma, false);
            }
            self.word(comma);
            start = comma + 1;
        }
        if start < close {
            self.line();
            self.chain(start, close, false);
        }
        self.notes(close);
        self.indent -= STEP;
        self.line();
        self.fresh = true;
        self.closing(close);
    }

    /// A closing bracket whose comments are written already.
    fn closing(&mut self, place: usize) {
        let words = self.words;
        let word = &words.all[place];
        self.begin();
        self.text.push_str(word.text);
        self.column += word.text.len();
        self.fresh = false;
        if let Some(after) = word.after {
            self.text.push(' ');
            self.text.push_str(after);
            self.ended = true;
        }
    }

    /// Whether the only argument is itself a call and nothing else: `length(filter(…))`.
    fn is_call(&self, open: usize, close: usize) -> bool {
        let all = &self.words.all;
        let inner = (open + 1..close).find(|place| all[*place].opens());
        let Some(inner) = inner.filter(|inner| all[*inner].partner + 1 == close && *inner > open + 1) else {
            return false;
        };
        let names = all[open + 1..inner].iter().all(|word| matches!(word.token, Token::Name(_) | Token::Dots(1)));
        let bare = all[open + 1..=inner].iter().all(|word| word.before.is_empty());
        let ends = all[close - 1].after.is_none() && all[close].before.is_empty() && all[open].after.is_none();
        names && bare && ends && all[open + 1..inner].iter().all(|word| word.after.is_none())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn formatted(source: &str) -> String {
        let once = format(source).unwrap_or_else(|error| panic!("{source}: {error}"));
        assert_eq!(format(&once).unwrap(), once, "not the same again");
        assert_eq!(tokens(&once), tokens(source), "another meaning");
        once
    }

    fn tokens(source: &str) -> Vec<Token<'_>> {
        lex(source).unwrap().into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn as_the_feed_writes_it() {
        let source = "type.inbound and any(body.links, .href_url.domain.root_domain in ('a.example', 'b.example') and not .mismatched)\n\
            and  (length( attachments )==0 or 2 of (any(attachments, .file_type == 'pdf'), strings.icontains(subject.subject, \"invoice\", 'payment'),true))";
        let expected = "type.inbound\n\
            and any(body.links,\n  .href_url.domain.root_domain in ('a.example', 'b.example')\n  and not .mismatched\n)\n\
            and (\n  length(attachments) == 0\n  or 2 of (\n    any(attachments, .file_type == 'pdf'),\n    \
            strings.icontains(subject.subject, \"invoice\", 'payment'),\n    true\n  )\n)\n";
        assert_eq!(formatted(source), expected);
    }

    #[test]
    fn comments_and_paragraphs_stay() {
        let source = "// what it is\n\n\ntype.inbound // mail\n// why\nand x.y in ( // hosts\n 'a' // first\n, 'b',\n // 'c',\n) // done\n\n\n// last\nand true\n// end";
        let expected = "// what it is\n\ntype.inbound // mail\n// why\nand x.y in ( // hosts\n  'a', // first\n  'b',\n  // 'c',\n) // done\n\n// last\nand true\n// end\n";
        assert_eq!(formatted(source), expected);
    }

    #[test]
    fn spacing() {
        for (source, expected) in [
            ("a . b [ 0 ] . c", "a.b[0].c"),
            ("- 1+ - x", "-1 + -x"),
            ("x - 1", "x - 1"),
            ("any ( a , . in~ ( ..b , ) )", "any(a, . in~ (..b,))"),
            ("f(x , mode = 'a')[ 1 : 2 ]", "f(x, mode='a')[1:2]"),
            ("not( a )", "not (a)"),
            ("3 of(a,b,c)", "3 of (a, b, c)"),
            ("1<x<=2 and x is not null", "1 < x <= 2\nand x is not null"),
            ("\"a\" in[ 'b' ]", "\"a\" in ['b']"),
            ("true", "true"),
        ] {
            assert_eq!(formatted(source).trim_end(), expected);
        }
        assert_eq!(one_line("a // b\n and\n (c)"), "a and (c)");
        assert!(format("a and").is_err());
    }

    #[test]
    fn a_single_call_inside_a_call_stays_beside_it() {
        let source = "length(filter(attachments, .file_type == 'aaaaaaaaaaaaaaaaaaaaaaa' or .file_name == 'bbbbbbbbbbbbbbbbbbbbbbbbb')) > 3";
        let expected = "length(filter(attachments,\n  .file_type == 'aaaaaaaaaaaaaaaaaaaaaaa'\n  or .file_name == 'bbbbbbbbbbbbbbbbbbbbbbbbb'\n)) > 3\n";
        assert_eq!(formatted(source), expected);
    }

    /// A source made of these choices, with comments and empty lines strewn in.
    fn source(choices: &mut impl Iterator<Item = u8>, depth: usize) -> String {
        const GAPS: [&str; 7] = [" ", "\n", " // note\n", "\n\n// note\n\n", "\n // note\r\n", "  ", " //\n"];
        const LEAVES: [&str; 7] = [
            "a.b",
            ".",
            "..name",
            "'text // no comment'",
            "\"a fairly long text that takes up some of the line\"",
            "-1",
            "$list",
        ];
        let choice = usize::from(choices.next().unwrap_or(0));
        if depth == 0 || choice < 40 {
            return LEAVES[choice % LEAVES.len()].to_owned();
        }
        let mut gap = || GAPS[usize::from(choices.next().unwrap_or(0)) % GAPS.len()];
        let (x, y, z) = (gap(), gap(), gap());
        let a = source(choices, depth - 1);
        let b = source(choices, depth - 1);
        match choice % 9 {
            0 => format!("({a}{x}and{y}{b}{z})"),
            1 => format!("({a}){x}or{y}({b})"),
            2 => format!("({a}){x}=={y}({b})"),
            3 => format!("any({x}{a}{y},{z}{b})"),
            4 => format!("2 of{z}({a},{x}{b}{y},)"),
            5 => format!("not{x}({a}){y}and{z}({b})"),
            6 => format!("length(f.g({x}{a}, m{y}={z}{b}))[{x}0]"),
            7 => format!("[{x}{a}{y},{z}{b}]"),
            _ => format!("strings.icontains({a}{x},{y}{b}, \"one more text to fill the line\"{z})"),
        }
    }

    proptest! {
        #[test]
        fn nothing_but_white_space_changes(choices in proptest::collection::vec(any::<u8>(), 1..200)) {
            let source = source(&mut choices.into_iter(), 6);
            prop_assert!(parse(&source).is_ok(), "{}", source);
            let comments = |text: &str| text.matches("//").count();
            let once = formatted(&source);
            prop_assert_eq!(comments(&once), comments(&source));
        }
    }
}
