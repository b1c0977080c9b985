//! Case folding: simple (one character to one), without locale, as `(?i)` of the RE2 family does.

use std::borrow::Cow;

/// The folded character.
pub(super) fn fold_char(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    match c {
        // Signs, punctuation and writing without case: most of what is not ASCII in mail.
        '\u{80}'..='\u{b4}' | '\u{2000}'..='\u{2125}' | '\u{2e80}'..='\u{a63f}' | '\u{ac00}'..='\u{d7a3}' => return c,
        // Dotless i folds to nothing else.
        'ı' => return c,
        // Pairs without a capital of one character.
        '\u{1fd3}' => return '\u{390}',
        '\u{1fe3}' => return '\u{3b0}',
        '\u{fb05}' => return '\u{fb06}',
        _ => {}
    }
    let upper = single(c.to_uppercase()).unwrap_or(c);
    single(upper.to_lowercase()).unwrap_or(upper)
}

fn single(mut of: impl Iterator<Item = char>) -> Option<char> {
    of.next().filter(|_| of.next().is_none())
}

/// The folded text; borrowed when folding changes nothing.
pub(super) fn folded(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return match text.bytes().any(|b| b.is_ascii_uppercase()) {
            true => Cow::Owned(text.to_ascii_lowercase()),
            false => Cow::Borrowed(text),
        };
    }
    let mut folded = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        // Mail is mostly ASCII, also where it is not.
        let ascii = rest.bytes().position(|b| !b.is_ascii()).unwrap_or(rest.len());
        let start = folded.len();
        folded.push_str(&rest[..ascii]);
        folded[start..].make_ascii_lowercase();
        rest = &rest[ascii..];
        if let Some(c) = rest.chars().next() {
            folded.push(fold_char(c));
            rest = &rest[c.len_utf8()..];
        }
    }
    if folded == text { Cow::Borrowed(text) } else { Cow::Owned(folded) }
}

/// Whether two texts are equal without regard to case.
pub(super) fn equal(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        return a.eq_ignore_ascii_case(b);
    }
    a.chars().map(fold_char).eq(b.chars().map(fold_char))
}

#[cfg(test)]
mod tests {
    use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

    use super::*;

    #[test]
    fn agrees_with_the_folding_of_regexes() {
        for c in (0..=0x1_ffff).filter_map(char::from_u32).filter(|c| c.is_alphabetic() || !c.is_ascii()) {
            let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
            class.case_fold_simple();
            for range in class.ranges() {
                for other in range.start()..=range.end() {
                    assert_eq!(fold_char(other), fold_char(c), "{c:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn keeps_what_has_no_case() {
        assert!(matches!(folded("abc 123 äß"), Cow::Borrowed(_)));
        assert_eq!(folded("ÄSSE ẞ K"), "ässe ß k");
        assert!(equal("Straße", "STRAẞE") && !equal("İ", "i"));
    }
}
