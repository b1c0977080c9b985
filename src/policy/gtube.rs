//! The test patterns for spam filters, as Rspamd knows them: a way to see each verdict without a bad message.

use memchr::memmem;

/// What the three patterns share; the letter before it tells them apart.
const PATTERN: &[u8] = b"JS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";

/// Which of the patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gtube {
    /// `XJS*…`: reject.
    Reject,
    /// `YJS*…`: quarantine.
    Quarantine,
    /// `ZJS*…`: tag the subject.
    Tag,
}

/// Looks for a pattern in text or raw bytes; the first one found counts.
pub fn gtube(text: &[u8]) -> Option<Gtube> {
    memmem::find_iter(text, PATTERN).find_map(|at| match at.checked_sub(1).map(|before| text[before]) {
        Some(b'X') => Some(Gtube::Reject),
        Some(b'Y') => Some(Gtube::Quarantine),
        Some(b'Z') => Some(Gtube::Tag),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters() {
        let with = |letter: &str| {
            format!("hello {letter}JS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n")
        };
        assert_eq!(gtube(with("X").as_bytes()), Some(Gtube::Reject));
        assert_eq!(gtube(with("Y").as_bytes()), Some(Gtube::Quarantine));
        assert_eq!(gtube(with("Z").as_bytes()), Some(Gtube::Tag));
        assert_eq!(gtube(with("A").as_bytes()), None);
        assert_eq!(gtube(PATTERN), None);
        assert_eq!(gtube(b"about GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL"), None);
    }
}
