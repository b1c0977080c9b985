//! Wildcards of `strings.like`: `*` any run, `?` one character, all else stands for itself; the whole text.

/// Whether the text matches. Linear in text times pattern at worst, no recursion.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (p, t) = (pattern.as_bytes(), text.as_bytes());
    let (mut i, mut j) = (0, 0);
    // Where to go on after the last star: pattern place, text place.
    let mut star: Option<(usize, usize)> = None;
    while j < t.len() {
        match p.get(i) {
            Some(b'*') => {
                star = Some((i + 1, j));
                i += 1;
                // Jump to where what follows the star can begin.
                if let Some(next) = p.get(i).filter(|b| !matches!(b, b'*' | b'?')) {
                    match memchr::memchr(*next, &t[j..]) {
                        Some(skip) => j += skip,
                        None => return false,
                    }
                    star = Some((i, j));
                }
            }
            Some(b'?') => {
                i += 1;
                j += width(t[j]);
            }
            Some(byte) if *byte == t[j] => {
                i += 1;
                j += 1;
            }
            _ => match star {
                None => return false,
                Some((after, from)) => {
                    let from = from + width(t[from]);
                    star = Some((after, from));
                    (i, j) = (after, from);
                }
            },
        }
    }
    p[i.min(p.len())..].iter().all(|b| *b == b'*')
}

fn width(first: u8) -> usize {
    match first {
        0..=0x7f => 1,
        0x80..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    }
}

/// The longest piece without wildcards: what must stand in the text.
pub(super) fn longest_piece(pattern: &str) -> &str {
    pattern.split(['*', '?']).max_by_key(|piece| piece.len()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_text() {
        for (pattern, text, is) in [
            ("", "", true),
            ("*", "", true),
            ("*", "a\nb", true),
            ("a?c", "abc", true),
            ("a?c", "aäc", true),
            ("a?c", "ac", false),
            ("*fax*", "a fax b", true),
            ("*fax", "a fax b", false),
            ("fax*", "fax", true),
            ("*ab*ab", "abab", true),
            ("*ab*ab", "aab", false),
            (r"*\f*;}", r"{\f1;}", true),
            ("*[x]*", "a[x]b", true),
            ("*[x]*", "x", false),
            ("**a**", "bab", true),
            ("*ä?", "äää", true),
            ("*aab", "aaab", true),
            ("?*", "", false),
        ] {
            assert_eq!(matches(pattern, text), is, "{pattern} {text}");
        }
    }
}
