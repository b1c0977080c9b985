//! Tokens of XPath (3.7): a name is an operator where an operand has just ended.

use super::XPathError;

/// Longest query, in bytes.
const MAX_QUERY_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `( ) [ ] . .. @ , :: / // | + - = != < <= > >= *`; also `and or mod div` as operators.
    Sign(&'static str),
    /// A name, with its prefix.
    Name(String),
    Literal(String),
    Number(f64),
}

/// Each token with the column where it begins.
pub(super) fn tokens(query: &str) -> Result<Vec<(Token, usize)>, XPathError> {
    let error = |column: usize, message: &str| Err(XPathError { column, message: message.to_owned() });
    if query.len() > MAX_QUERY_BYTES {
        return error(1, "the query is longer than 64 KiB");
    }
    let mut out: Vec<(Token, usize)> = Vec::new();
    let (mut rest, mut column) = (query, 1);
    while let Some(first) = rest.chars().next() {
        if first.is_ascii_whitespace() {
            rest = &rest[1..];
            column += 1;
            continue;
        }
        let (token, length) = if let Some(sign) = sign(rest) {
            (Token::Sign(sign), sign.len())
        } else if matches!(first, '"' | '\'') {
            let Some(end) = rest[1..].find(first) else { return error(column, "the string never ends") };
            (Token::Literal(rest[1..=end].to_owned()), end + 2)
        } else if first.is_ascii_digit() || first == '.' {
            let length = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
            match rest[..length].parse() {
                Ok(number) => (Token::Number(number), length),
                Err(_) => return error(column, "no number"),
            }
        } else if first.is_alphabetic() || first == '_' {
            let name = &rest[..name_length(rest)];
            let operand_before = out.last().is_some_and(|(token, _)| ends_operand(token));
            let operator = ["and", "or", "mod", "div"].into_iter().find(|o| operand_before && *o == name);
            (operator.map_or_else(|| Token::Name(name.to_owned()), Token::Sign), name.len())
        } else {
            return error(column, &format!("`{first}` has no place here"));
        };
        out.push((token, column));
        column += rest[..length].chars().count();
        rest = &rest[length..];
    }
    Ok(out)
}

fn sign(rest: &str) -> Option<&'static str> {
    const SIGNS: &[&str] = &[
        "..", "::", "//", "!=", "<=", ">=", "(", ")", "[", "]", ".", "@", ",", "/", "|", "+", "-", "=", "<", ">", "*",
    ];
    let found = SIGNS.iter().find(|sign| rest.starts_with(**sign)).copied()?;
    // `.5` is a number.
    let number = found == "." && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    (!number).then_some(found)
}

/// Length of a name with at most one single colon in it; `a::b` is an axis, `a:*` ends before the colon.
fn name_length(text: &str) -> usize {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let first = text.find(|c| !part(c)).unwrap_or(text.len());
    match text[first..].strip_prefix(':') {
        Some(more) if more.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
            first + 1 + more.find(|c| !part(c)).unwrap_or(more.len())
        }
        _ => first,
    }
}

fn ends_operand(token: &Token) -> bool {
    match token {
        Token::Sign(sign) => matches!(*sign, ")" | "]" | "." | ".." | "*"),
        _ => true,
    }
}
