//! RE2's regular expressions on Rust's engine: translation, required literals, compiling once with a size limit.
//!
//! The dialects differ in escapes within classes, `\<`, nested classes and Unicode classes (reference 3.5); untranslated,
//! some patterns would be refused and others silently mean something else.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::policy::fold::{fold_char, folded};

/// Bytes of a compiled pattern.
const MAX_COMPILED_BYTES: usize = 4 << 20;
/// RE2's bound on repeats, for patterns that would be huge.
const MAX_REPEATS: u32 = 1_000;

/// A pattern of a rule.
#[derive(Debug)]
pub(super) struct Pattern {
    translated: String,
    folded: bool,
    regex: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// Translates and checks a pattern; gives the texts (folded) one of which must stand in whatever matches, empty when
    /// there are none.
    pub(super) fn new(source: &str, folded: bool, whole: bool) -> Result<(Self, Vec<String>), String> {
        let translated = translate(source);
        let hir = regex_syntax::parse(&translated).map_err(|error| short(&error.to_string()))?;
        check_repeats(&hir)?;
        let required = required(&hir).map(|set| set.into_iter().collect()).unwrap_or_default();
        let translated = if whole { format!("^(?:{translated})$") } else { translated };
        Ok((Self { translated, folded, regex: OnceLock::new() }, required))
    }

    /// The compiled pattern; `None` when it is larger than the limit.
    pub(super) fn regex(&self) -> Option<&Regex> {
        let compile = || {
            let mut builder = RegexBuilder::new(&self.translated);
            builder.case_insensitive(self.folded).size_limit(MAX_COMPILED_BYTES).dfa_size_limit(MAX_COMPILED_BYTES);
            builder.build().ok()
        };
        self.regex.get_or_init(compile).as_ref()
    }
}

fn short(error: &str) -> String {
    let last = error.lines().rev().find(|line| line.starts_with("error: ")).unwrap_or("error: not a pattern");
    format!("not a pattern: {}", last.trim_start_matches("error: "))
}

fn check_repeats(hir: &Hir) -> Result<(), String> {
    let mut open = vec![hir];
    while let Some(hir) = open.pop() {
        match hir.kind() {
            HirKind::Repetition(r) => {
                if r.min.max(r.max.unwrap_or(0)) > MAX_REPEATS {
                    return Err(format!("a repeat of more than {MAX_REPEATS}"));
                }
                open.push(&r.sub);
            }
            HirKind::Capture(capture) => open.push(&capture.sub),
            HirKind::Concat(all) | HirKind::Alternation(all) => open.extend(all),
            _ => {}
        }
    }
    Ok(())
}

/// Rewrites a pattern of RE2 for Rust's engine (reference 3.5, rules 1 to 5).
fn translate(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 16);
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\\' => escape(after, &mut out, false),
            '[' => class(after, &mut out),
            '{' => {
                if !is_repeat(after) {
                    out.push('\\');
                }
                out.push('{');
                after
            }
            '}' => {
                // Closes a repeat, or stands for itself.
                let open = source[..source.len() - rest.len()].rfind('{');
                let repeat = open.is_some_and(|at| {
                    let inner = &source[at + 1..source.len() - rest.len()];
                    is_repeat(&source[at + 1..]) && !inner.contains('}')
                });
                if !repeat {
                    out.push('\\');
                }
                out.push('}');
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
    }
    out
}

/// Whether `n}`, `n,}` or `n,m}` follows.
fn is_repeat(after: &str) -> bool {
    let Some((inner, _)) = after.split_once('}') else { return false };
    let (low, high) = inner.split_once(',').unwrap_or((inner, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    !low.is_empty() && digits(low) && digits(high)
}

/// What follows a backslash.
fn escape<'s>(rest: &'s str, out: &mut String, in_class: bool) -> &'s str {
    let Some(c) = rest.chars().next() else {
        out.push('\\');
        return rest;
    };
    let after = &rest[c.len_utf8()..];
    let set = match c {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        's' => r"\t\n\x0C\r ",
        'D' => r"\x00-/:-\x{10FFFF}",
        'W' => r"\x00-/:-@\[-\^`\{-\x{10FFFF}",
        'S' => r"\x00-\x08\x0B\x0E-\x1F!-\x{10FFFF}",
        'b' | 'B' if !in_class => {
            out.push_str(if c == 'b' { r"(?-u:\b)" } else { r"(?-u:\B)" });
            return after;
        }
        'Q' if !in_class => {
            let (literal, after) = after.split_once(r"\E").unwrap_or((after, ""));
            out.push_str(&regex_syntax::escape(literal));
            return after;
        }
        'C' | 'G' | 'K' | 'X' | 'R' => {
            // None of RE2 or never used: refused by the parser that comes next.
            out.push('\\');
            out.push(c);
            return after;
        }
        _ if c.is_ascii_punctuation() => {
            out.push_str(&format!("\\x{{{:02X}}}", u32::from(c)));
            return after;
        }
        _ => {
            out.push('\\');
            out.push(c);
            // \x{..}, \p{..}: the braces belong to it.
            if matches!(c, 'x' | 'p' | 'P')
                && after.starts_with('{')
                && let Some(end) = after.find('}')
            {
                out.push_str(&after[..=end]);
                return &after[end + 1..];
            }
            return after;
        }
    };
    if in_class {
        out.push_str(set);
    } else {
        out.push('[');
        out.push_str(set);
        out.push(']');
    }
    after
}

/// A bracket class, after its `[`.
fn class<'s>(mut rest: &'s str, out: &mut String) -> &'s str {
    out.push('[');
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    let mut first = true;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            ']' if !first => {
                out.push(']');
                return after;
            }
            '\\' => escape(after, out, true),
            '[' if after.starts_with(':') && after.contains(":]") => {
                let end = after.find(":]").unwrap_or(0) + 2;
                out.push('[');
                out.push_str(&after[..end]);
                &after[end..]
            }
            // A minus at either end stands for itself.
            '-' if first || after.starts_with(']') => {
                out.push_str(r"\-");
                after
            }
            '[' | ']' | '&' | '~' | '^' => {
                out.push_str(&format!("\\x{{{:02X}}}", u32::from(c)));
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
        first = false;
    }
    rest
}

const MAX_SET: usize = 48;
const MAX_LITERAL: usize = 24;
const MIN_LITERAL: usize = 3;

/// Texts, folded, one of which stands in every match; `None` when no useful ones are known.
fn required(hir: &Hir) -> Option<BTreeSet<String>> {
    inner(hir, 0).filter(|set| shortest(set) >= MIN_LITERAL)
}

fn shortest(set: &BTreeSet<String>) -> usize {
    set.iter().map(String::len).min().unwrap_or(0)
}

fn better(a: Option<BTreeSet<String>>, b: Option<BTreeSet<String>>) -> Option<BTreeSet<String>> {
    let worth = |set: &BTreeSet<String>| (shortest(set).min(8), usize::MAX - set.len());
    match (a, b) {
        (Some(a), Some(b)) => Some(if worth(&b) > worth(&a) { b } else { a }),
        (a, b) => a.or(b),
    }
}

fn inner(hir: &Hir, depth: usize) -> Option<BTreeSet<String>> {
    // The parser bounds nesting at 250; literals that deep are not worth the stack.
    if depth > 50 {
        return None;
    }
    match hir.kind() {
        HirKind::Capture(capture) => inner(&capture.sub, depth + 1),
        HirKind::Repetition(r) if r.min >= 1 => inner(&r.sub, depth + 1),
        HirKind::Alternation(all) => {
            let mut union = BTreeSet::new();
            for one in all {
                union.extend(inner(one, depth + 1)?);
            }
            (union.len() <= MAX_SET).then_some(union)
        }
        HirKind::Concat(all) => {
            let mut best = None;
            let mut run: Option<BTreeSet<String>> = None;
            for one in all {
                let exact = exact(one, depth + 1);
                let joined = match (&run, &exact) {
                    (Some(run), Some(exact)) => join(run, exact),
                    _ => None,
                };
                if joined.is_none() {
                    best = better(best, run.take());
                    best = better(best, if exact.is_none() { inner(one, depth + 1) } else { None });
                }
                run = joined.or(exact);
            }
            better(best, run).filter(|set| shortest(set) > 0)
        }
        _ => exact(hir, depth).filter(|set| shortest(set) > 0),
    }
}

fn join(a: &BTreeSet<String>, b: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    if a.len() * b.len() > MAX_SET || a.iter().any(|text| text.len() > MAX_LITERAL) {
        return None;
    }
    Some(a.iter().flat_map(|x| b.iter().map(move |y| format!("{x}{y}"))).collect())
}

/// All texts, folded, that it can match, when they are few.
fn exact(hir: &Hir, depth: usize) -> Option<BTreeSet<String>> {
    if depth > 50 {
        return None;
    }
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(BTreeSet::from([String::new()])),
        HirKind::Literal(literal) => Some(BTreeSet::from([folded(str::from_utf8(&literal.0).ok()?).into_owned()])),
        HirKind::Capture(capture) => exact(&capture.sub, depth + 1),
        HirKind::Class(Class::Unicode(class)) => {
            let count: usize = class.iter().map(|range| range.len()).sum();
            if count > 16 {
                return None;
            }
            Some(class.iter().flat_map(|r| r.start()..=r.end()).map(|c| fold_char(c).to_string()).collect())
        }
        HirKind::Repetition(r) if r.min == 0 && r.max == Some(1) => {
            let mut set = exact(&r.sub, depth + 1)?;
            set.insert(String::new());
            (set.len() <= 8).then_some(set)
        }
        HirKind::Repetition(r) if Some(r.min) == r.max && r.min <= 4 => {
            let one = exact(&r.sub, depth + 1)?;
            let mut set = BTreeSet::from([String::new()]);
            for _ in 0..r.min {
                set = join(&set, &one)?;
            }
            Some(set)
        }
        HirKind::Alternation(all) => {
            let mut union = BTreeSet::new();
            for one in all {
                union.extend(exact(one, depth + 1)?);
                if union.len() > MAX_SET {
                    return None;
                }
            }
            Some(union)
        }
        HirKind::Concat(all) => {
            let mut set = BTreeSet::from([String::new()]);
            for one in all {
                set = join(&set, &exact(one, depth + 1)?)?;
            }
            Some(set)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(pattern: &str, text: &str) -> bool {
        let (compiled, _) = Pattern::new(pattern, false, false).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        compiled.regex().unwrap().is_match(text)
    }

    #[test]
    fn reads_as_re2_does() {
        for (pattern, text, matches) in [
            (r"[^\<]x", "<x", false),
            (r"\<b\>", "<b>", true),
            (r"\<b\>", "b", false),
            ("{domain}", "{domain}", true),
            (r#"":{"#, r#"":{"#, true),
            ("({.*})", "{}", true),
            ("a{2}", "aa", true),
            ("a{2,}b", "aaab", true),
            ("[[]", "[", true),
            ("[a&&b]", "&", true),
            ("[]a]", "]", true),
            ("[a-]", "-", true),
            (r"[\w\-]+x", "a-x", true),
            (r"\w", "ä", false),
            (r"\W", "ä", true),
            (r"[^\W]", "ä", false),
            (r"\d", "٣", false),
            (r"\s", "\u{a0}", false),
            (r"\s", "\x0b", false),
            (r"\S", "\x0b", true),
            (r"[\S]", " ", false),
            (r"\bIT\b", "čITč", true),
            (r"\p{Cyrillic}", "д", true),
            (r"\x{430}", "а", true),
            ("[[:alpha:]]", "b", true),
            (r"(?P<n>a)(?<m>b)", "ab", true),
            (r"a\.b\/c", "a.b/c", true),
            (r"\QA.B\E", "A.B", true),
        ] {
            assert_eq!(is(pattern, text), matches, "{pattern} on {text}");
        }
    }

    #[test]
    fn refuses_what_re2_does_not_have() {
        for pattern in ["(?=a)", r"\1", "(a", "a{1001}", "[z-a]"] {
            assert!(Pattern::new(pattern, false, false).is_err(), "{pattern}");
        }
    }

    #[test]
    fn required_texts_stand_in_every_match() {
        let required = |p: &str| Pattern::new(p, true, false).unwrap().1;
        assert_eq!(required(r"\bPay[ -]?Pal\b"), ["pay pal", "pay-pal", "paypal"]);
        assert_eq!(required(r"\bPay.*Pa"), ["pay"]);
        assert_eq!(required("(?:invoice|receipt) #[0-9]+"), ["invoice #", "receipt #"]);
        assert_eq!(required("[a-z]+ab"), Vec::<String>::new());
        assert_eq!(required("colou?r"), ["color", "colour"]);
        assert_eq!(required(".*secure.*message.*"), ["message"]);
    }
}
