//! Simple case folding of Unicode: each character by itself, as rules compare without regard to case.

use std::borrow::Cow;

/// A character folded: its capital's small letter, where each is one character (so `ſ` and `S` are `s`, `ς` is `σ`).
pub(super) fn fold(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    // The dotless i has a capital of ASCII and yet folds to itself.
    if c == '\u{131}' { c } else { lower(upper(c)) }
}

fn upper(c: char) -> char {
    let mut capital = c.to_uppercase();
    match (capital.next(), capital.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

fn lower(c: char) -> char {
    let mut small = c.to_lowercase();
    match (small.next(), small.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

/// A text folded; borrowed when nothing changes.
pub fn folded(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| fold(c) == c) { Cow::Borrowed(text) } else { text.chars().map(fold).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds() {
        for (text, expected) in [
            ("Example.COM", "example.com"),
            ("ÜBERWEISUNG", "überweisung"),
            ("ΣΊΣΥΦΟΣ σίσυφος", "σίσυφοσ σίσυφοσ"),
            ("\u{17f}\u{212a}", "sk"),
            ("straße", "straße"),
            ("\u{130}\u{131}", "\u{130}\u{131}"),
        ] {
            assert_eq!(folded(text), expected);
        }
        assert!(matches!(folded("plain text"), Cow::Borrowed(_)));
    }
}
