//! From rule text to tokens, each with its place. Strings are decoded here; comments and white space go.

use std::borrow::Cow;

use super::error::{Error, Span};

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token<'s> {
    Name(&'s str),
    List(&'s str),
    Text(Cow<'s, str>),
    Int(i64),
    Float(f64),
    /// A run of dots: `.` is 1, `..` is 2.
    Dots(usize),
    /// An operator or bracket.
    Sign(&'static str),
    /// A keyword: `and or not in in~ of is null true false`.
    Word(&'static str),
    End,
}

const WORDS: [&str; 9] = ["and", "or", "not", "in", "of", "is", "null", "true", "false"];
const SIGNS: [&str; 22] = [
    "==", "!=", "=~", "!~", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "=", "(", ")", "[", "]", ",", ":", "{", "}",
];

/// All tokens of a source, the last one `End`.
pub(super) fn lex(source: &str) -> Result<Vec<(Token<'_>, Span)>, Error> {
    let mut tokens = Vec::with_capacity(source.len() / 5);
    let bytes = source.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let token = match bytes[at] {
            b' ' | b'\t' | b'\r' | b'\n' => {
                at += 1;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |n| at + n);
                continue;
            }
            b'"' => quoted(source, &mut at)?,
            b'\'' => raw(source, &mut at)?,
            b'0'..=b'9' => number(source, &mut at)?,
            b'$' => {
                let name = name(source, at + 1);
                if name.is_empty() {
                    return Err(Error::new("a list name is missing after `$`", Span::new(at, at + 1)));
                }
                at += 1 + name.len();
                Token::List(name)
            }
            b'.' => {
                at += bytes[at..].iter().take_while(|b| **b == b'.').count();
                Token::Dots(at - start)
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => word(source, &mut at),
            _ => {
                let rest = &source[at..];
                let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) else {
                    let odd = rest.chars().next().unwrap_or_default();
                    let message = format!("`{}` does not belong here", odd.escape_default());
                    return Err(Error::new(message, Span::new(at, at + odd.len_utf8())));
                };
                at += sign.len();
                Token::Sign(sign)
            }
        };
        tokens.push((token, Span::new(start, at)));
    }
    tokens.push((Token::End, Span::new(source.len(), source.len())));
    Ok(tokens)
}

fn name(source: &str, at: usize) -> &str {
    let rest = &source[at.min(source.len())..];
    let first = rest.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let length = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    if first { &rest[..length] } else { "" }
}

fn word<'s>(source: &'s str, at: &mut usize) -> Token<'s> {
    let name = name(source, *at);
    *at += name.len();
    match WORDS.iter().find(|word| **word == name) {
        Some(&"in") if source[*at..].starts_with('~') => {
            *at += 1;
            Token::Word("in~")
        }
        Some(word) => Token::Word(word),
        None => Token::Name(name),
    }
}

fn number<'s>(source: &'s str, at: &mut usize) -> Result<Token<'s>, Error> {
    let rest = &source[*at..];
    let whole = rest.bytes().take_while(u8::is_ascii_digit).count();
    let fraction = match rest[whole..].strip_prefix('.') {
        Some(after) => after.bytes().take_while(u8::is_ascii_digit).count(),
        None => 0,
    };
    let length = if fraction > 0 { whole + 1 + fraction } else { whole };
    let span = Span::new(*at, *at + length);
    *at += length;
    if rest[length..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return Err(Error::new("a number has no unit or suffix in MQL; write it out", span));
    }
    let text = &rest[..length];
    if fraction > 0 {
        return text.parse().map(Token::Float).map_err(|_| Error::new("not a number", span));
    }
    text.parse().map(Token::Int).map_err(|_| Error::new("a whole number has at most 64 bits", span))
}

/// `'...'`: nothing is escaped, `''` is one quote.
fn raw<'s>(source: &'s str, at: &mut usize) -> Result<Token<'s>, Error> {
    let start = *at + 1;
    let bytes = source.as_bytes();
    let mut end = start;
    let mut doubled = false;
    loop {
        match bytes.get(end) {
            Some(b'\'') if bytes.get(end + 1) == Some(&b'\'') => {
                doubled = true;
                end += 2;
            }
            Some(b'\'') => break,
            None | Some(b'\n' | b'\r') => {
                return Err(Error::new("this text is not closed by `'`", Span::new(*at, end)));
            }
            Some(_) => end += 1,
        }
    }
    *at = end + 1;
    let text = &source[start..end];
    Ok(Token::Text(if doubled { text.replace("''", "'").into() } else { text.into() }))
}

/// `"..."` with escapes.
fn quoted<'s>(source: &'s str, at: &mut usize) -> Result<Token<'s>, Error> {
    let open = *at;
    let start = open + 1;
    let bytes = source.as_bytes();
    let mut built: Option<String> = None;
    let mut from = start;
    let mut end = start;
    loop {
        match bytes.get(end) {
            Some(b'"') => break,
            None | Some(b'\n' | b'\r') => {
                return Err(Error::new("this text is not closed by `\"`", Span::new(open, end)));
            }
            Some(b'\\') => {
                let text = built.get_or_insert_default();
                text.push_str(&source[from..end]);
                let (c, length) = escape(&source[end + 1..])
                    .map_err(|why| Error::new(why, Span::new(end, (end + 2).min(source.len()))))?;
                text.push(c);
                end += 1 + length;
                from = end;
            }
            Some(_) => end += 1,
        }
    }
    *at = end + 1;
    let rest = &source[from..end];
    Ok(Token::Text(match built {
        Some(text) => (text + rest).into(),
        None => rest.into(),
    }))
}

fn escape(rest: &str) -> Result<(char, usize), &'static str> {
    const KNOWN: &str = "only \\\" \\' \\\\ \\n \\r \\t and \\u{...} are escapes; use a '...' text for backslashes";
    match rest.bytes().next() {
        Some(b'"') => Ok(('"', 1)),
        Some(b'\'') => Ok(('\'', 1)),
        Some(b'\\') => Ok(('\\', 1)),
        Some(b'n') => Ok(('\n', 1)),
        Some(b'r') => Ok(('\r', 1)),
        Some(b't') => Ok(('\t', 1)),
        Some(b'u') => {
            let (hex, _) = rest[1..].strip_prefix('{').and_then(|r| r.split_once('}')).ok_or(KNOWN)?;
            let good = (2..=8).contains(&hex.len());
            let code = u32::from_str_radix(hex, 16).ok().filter(|_| good).and_then(char::from_u32);
            code.map(|c| (c, hex.len() + 3)).ok_or("`\\u{...}` names no character")
        }
        _ => Err(KNOWN),
    }
}
