//! The correlation id: given to a connection or an HTTP request, handed on to its messages, their jobs, and what follows from
//! these. 32 hexadecimal digits of chance, which is also the form of a trace id (W3C Trace Context, 3.2.2.3).

use std::fmt::Write;

/// Longest id taken from others, in bytes.
const MAX_BYTES: usize = 64;

/// A new id. Without random numbers it is all zeros: log lines are then not bound together, and nothing else suffers.
pub fn correlation() -> String {
    let mut chance = [0; 16];
    // All zeros are what is said for "none".
    let _ = getrandom::fill(&mut chance);
    let mut text = String::with_capacity(32);
    for byte in chance {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Whether a text of a stranger may serve as one: 1 to 64 letters, digits, dots, dashes and underscores.
pub fn is_correlation(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !text.is_empty() && text.len() <= MAX_BYTES && text.bytes().all(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_are_taken_back() {
        let (a, b) = (correlation(), correlation());
        assert_ne!(a, b);
        assert_eq!(a.len(), 32);
        assert!(is_correlation(&a), "{a}");
    }

    #[test]
    fn what_could_forge_a_line_is_no_id() {
        let long = "a".repeat(65);
        for text in ["", "a b", "a\nb", "a\"b", "\u{e4}", long.as_str()] {
            assert!(!is_correlation(text), "{text:?}");
        }
        assert!(is_correlation("Req-2026.11_21"));
    }
}
