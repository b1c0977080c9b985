//! Mends the relaxed body hash of mail-auth 0.13: it keeps trailing lines that hold nothing but white space, which RFC 6376,
//! 3.4.4 says to drop, and so calls good signatures bad. (Mended in mail-auth 0.15.0.)

use mail_auth::AuthenticatedMessage;
use mail_auth::dkim::Canonicalization;

/// Computes the relaxed body hashes anew when the body ends in lines of white space.
pub(super) fn mend_relaxed(message: &mut AuthenticatedMessage<'_>) {
    let body = message.raw_message.get(message.body_offset as usize..).unwrap_or_default();
    let kept = without_blank_end(body);
    if kept.len() == body.len() {
        return;
    }
    for (canonicalization, algorithm, limit, hash) in &mut message.body_hashes {
        if *canonicalization == Canonicalization::Relaxed && *limit == 0 {
            *hash = algorithm.hash(canonicalization.canonical_body(kept, 0)).as_ref().to_vec();
        }
    }
}

/// The body without trailing lines that are empty or hold only spaces and tabs; the line end before them stays.
fn without_blank_end(body: &[u8]) -> &[u8] {
    let Some(last) = body.iter().rposition(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) else { return &[] };
    // White space after the last word on its own line is the canonicalisation's matter.
    let line_end = body[last..].iter().position(|byte| *byte == b'\n');
    line_end.map_or(body, |end| &body[..=last + end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_at_the_end() {
        let cases: [(&[u8], &[u8]); 7] = [
            (b"hello\r\n \r\n\t\r\n", b"hello\r\n"),
            (b"hello\r\n\r\n\r\n", b"hello\r\n"),
            (b"hello \t\r\n \r\n", b"hello \t\r\n"),
            (b"hello", b"hello"),
            (b"hello  ", b"hello  "),
            (b"\r\n \r\n", b""),
            (b"a\r\n \r\nb\r\n", b"a\r\n \r\nb\r\n"),
        ];
        for (body, expected) in cases {
            assert_eq!(without_blank_end(body), expected, "{:?}", body.escape_ascii().to_string());
        }
    }
}
