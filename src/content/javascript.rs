//! A tokenizer for JavaScript (ECMA-262, clause 12): names, strings, keywords and regular expressions, each once.
//!
//! It never fails and never builds a tree: what is broken is skipped by a character. Whether a slash divides or opens a
//! regular expression is told by the token before it. Names stay as written (escapes show intent), strings are decoded.
//! Limit: `most` entries of each kind. Not here: what the code does.

use std::collections::HashSet;

/// What the tokens of a script are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JavaScript {
    /// Names, as written, each once.
    pub identifiers: Vec<String>,
    /// String literals without quotes, decoded, each once.
    pub strings: Vec<String>,
    /// Reserved words used, each once.
    pub keywords: Vec<String>,
    /// Kinds of tokens met: `Identifier`, `String`, `Keyword`, `Numeric`, `Punctuator`, …
    pub tokens: Vec<&'static str>,
    /// Regular expression literals with slashes and flags, each once.
    pub regular_expressions: Vec<String>,
}

const KEYWORDS: &[&str] = &[
    "await",
    "break",
    "case",
    "catch",
    "class",
    "const",
    "continue",
    "debugger",
    "default",
    "delete",
    "do",
    "else",
    "enum",
    "export",
    "extends",
    "finally",
    "for",
    "function",
    "if",
    "implements",
    "import",
    "in",
    "instanceof",
    "interface",
    "let",
    "new",
    "package",
    "private",
    "protected",
    "public",
    "return",
    "static",
    "super",
    "switch",
    "this",
    "throw",
    "try",
    "typeof",
    "var",
    "void",
    "while",
    "with",
    "yield",
];

/// Longest literal kept, in bytes; a longer one is cut (a whole file is often packed into one).
const LONGEST: usize = 1 << 16;

#[derive(Clone, Copy, PartialEq)]
enum Before {
    /// A value: a slash divides.
    Value,
    /// An operator or nothing: a slash opens a regular expression.
    Operator,
}

/// Collects the tokens of one or more scripts.
pub(super) struct Collector {
    out: JavaScript,
    seen: HashSet<(u8, String)>,
    most: usize,
}

impl Collector {
    pub(super) fn new(most: usize) -> Self {
        Self { out: JavaScript::default(), seen: HashSet::new(), most }
    }

    pub(super) fn finish(self) -> JavaScript {
        self.out
    }

    fn add(&mut self, kind: &'static str, text: &str) {
        if !self.out.tokens.contains(&kind) {
            self.out.tokens.push(kind);
        }
        let (mark, list) = match kind {
            "Identifier" => (0, &mut self.out.identifiers),
            "String" => (1, &mut self.out.strings),
            "Keyword" => (2, &mut self.out.keywords),
            "RegularExpression" => (3, &mut self.out.regular_expressions),
            _ => return,
        };
        let text = &text[..text.floor_char_boundary(LONGEST)];
        if list.len() < self.most && self.seen.insert((mark, text.to_owned())) {
            list.push(text.to_owned());
        }
    }

    /// Reads one script.
    pub(super) fn read(&mut self, source: &str) {
        let bytes = source.as_bytes();
        let (mut at, mut before) = (0, Before::Operator);
        while let Some(&byte) = bytes.get(at) {
            let rest = &source[at..];
            at += match byte {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => 1,
                b'/' if rest.starts_with("//") => line(rest),
                b'<' if rest.starts_with("<!--") => line(rest),
                b'/' if rest.starts_with("/*") => rest[2..].find("*/").map_or(rest.len(), |end| end + 4),
                b'/' if before == Before::Operator && regex(rest).is_some() => {
                    let length = regex(rest).unwrap_or(1);
                    self.add("RegularExpression", &rest[..length]);
                    before = Before::Value;
                    length
                }
                b'"' | b'\'' => {
                    let length = quoted(rest, byte);
                    let inner = rest[1..length].strip_suffix(char::from(byte)).unwrap_or(&rest[1..length]);
                    self.add("String", &unescape(inner));
                    before = Before::Value;
                    length
                }
                b'`' => {
                    self.add("Template", "");
                    before = Before::Value;
                    self.template(rest)
                }
                b'0'..=b'9' => {
                    self.add("Numeric", "");
                    before = Before::Value;
                    rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_').unwrap_or(rest.len())
                }
                b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | b'\\' | b'#' | 0x80.. => {
                    let length = name(rest);
                    before = self.word(&rest[..length]);
                    length
                }
                _ => {
                    self.add("Punctuator", "");
                    before = if matches!(byte, b')' | b']' | b'}') { Before::Value } else { Before::Operator };
                    1
                }
            };
        }
    }

    fn word(&mut self, word: &str) -> Before {
        let kind = match word {
            "true" | "false" => "Boolean",
            "null" => "Null",
            word if KEYWORDS.contains(&word) => "Keyword",
            _ => "Identifier",
        };
        self.add(kind, word);
        match kind {
            "Keyword" if !matches!(word, "this" | "super") => Before::Operator,
            _ => Before::Value,
        }
    }

    /// Length of a template literal; the expressions in it are read one level deep, as names only.
    fn template(&mut self, rest: &str) -> usize {
        let bytes = rest.as_bytes();
        let (mut at, mut inside) = (1, 0_usize);
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'\\' => at += 1,
                b'`' if inside == 0 => return at + 1,
                b'$' if bytes.get(at + 1) == Some(&b'{') => {
                    inside += 1;
                    at += 1;
                }
                b'}' => inside = inside.saturating_sub(1),
                b'a'..=b'z' | b'A'..=b'Z' | b'_' if inside > 0 => {
                    let length = name(&rest[at..]);
                    self.word(&rest[at..at + length]);
                    at += length - 1;
                }
                _ => {}
            }
            at += 1;
        }
        rest.len()
    }
}

fn line(rest: &str) -> usize {
    memchr::memchr2(b'\n', b'\r', rest.as_bytes()).unwrap_or(rest.len())
}

/// Length of a name; at least one character, so that there is always progress.
fn name(rest: &str) -> usize {
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            // `\u0062` and `\u{62}` are part of a name.
            if chars.next_if(|(_, c)| *c == 'u').is_some() && chars.next_if(|(_, c)| *c == '{').is_some() {
                while chars.next_if(|(_, c)| c.is_ascii_hexdigit()).is_some() {}
                chars.next_if(|(_, c)| *c == '}');
            }
        } else if at > 0 && !(c.is_alphanumeric() || matches!(c, '_' | '$' | '\u{200c}' | '\u{200d}')) {
            return at;
        }
    }
    rest.len()
}

/// Length of a quoted string with its quotes; an unclosed one ends with the line.
fn quoted(rest: &str, quote: u8) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'\n' | b'\r' => return at,
            b if b == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    rest.len()
}

/// Length of a regular expression literal with flags; `None` when the line ends before it does.
fn regex(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let (mut at, mut class) = (1, false);
    loop {
        match *bytes.get(at)? {
            b'\\' => at += 1,
            b'\n' | b'\r' => return None,
            b'[' => class = true,
            b']' => class = false,
            b'/' if !class => break,
            _ => {}
        }
        at += 1;
    }
    let flags = bytes[at + 1..].iter().take_while(|b| b.is_ascii_alphabetic()).count();
    Some(at + 1 + flags)
}

/// Decodes the escapes of a string literal (12.9.4).
fn unescape(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let code = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>, digits: usize| {
            let mut value = 0;
            for _ in 0..digits {
                let digit = chars.next_if(char::is_ascii_hexdigit)?.to_digit(16)?;
                value = value * 16 + digit;
            }
            char::from_u32(value)
        };
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('v') => out.push('\u{b}'),
            Some('0') => out.push('\0'),
            Some('x') => out.extend(code(&mut chars, 2)),
            Some('u') if chars.next_if_eq(&'{').is_some() => {
                let mut value = 0_u32;
                while let Some(digit) = chars.next_if(char::is_ascii_hexdigit).and_then(|c| c.to_digit(16)) {
                    value = value.saturating_mul(16).saturating_add(digit);
                }
                chars.next_if_eq(&'}');
                out.extend(char::from_u32(value));
            }
            Some('u') => out.extend(code(&mut chars, 4)),
            Some('\r' | '\n') | None => {}
            Some(other) => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &str) -> JavaScript {
        let mut all = Collector::new(100);
        all.read(source);
        all.finish()
    }

    #[test]
    fn tokens() {
        let found = read(
            "// no\nvar a = atob(\"aGk=\") + 'it\\'s\\x41\\u0042\\u{43}'; /* \"x\" */ document.write(unescape('%41'));\n\
             if (a/2/b) a = a.replace(/[/\"]+/gi, `t ${inner('q')} \"`); ato\\u0062(1.5e3, null, true)",
        );
        assert_eq!(
            found.identifiers,
            ["a", "atob", "document", "write", "unescape", "b", "replace", "inner", "q", "ato\\u0062"]
        );
        assert_eq!(found.strings, ["aGk=", "it'sABC", "%41"]);
        assert_eq!(found.keywords, ["var", "if"]);
        assert_eq!(found.regular_expressions, ["/[/\"]+/gi"]);
        for kind in ["Identifier", "String", "Keyword", "Numeric", "Punctuator", "Template", "Null", "Boolean"] {
            assert!(found.tokens.contains(&kind), "{kind}");
        }
    }

    #[test]
    fn broken_source_ends() {
        let whole = "x='a\\";
        for source in [whole, "`${", "/*", "/a", "\\", "\\u", "é\\u{", "'\n'", "#", "`\\", "a\\u{62}b/", "\u{2028}"] {
            for cut in (0..=source.len()).filter(|at| source.is_char_boundary(*at)) {
                read(&source[..cut]);
            }
        }
        assert_eq!(read("'open\nnext").identifiers, ["next"]);
    }

    #[test]
    fn bounded() {
        let many: String = (0..1_000).map(|n| format!("v{n} ")).collect();
        assert_eq!(read(&many).identifiers.len(), 100);
        assert_eq!(read(&format!("'{}'", "é".repeat(LONGEST))).strings[0].len(), LONGEST);
    }
}
