//! The framer and the stuffer, split at every byte.

use super::*;

fn framed(policy: BareNewline, wire: &[u8], step: usize) -> (Vec<u8>, Findings, Vec<u8>, bool) {
    let mut framer = DataFramer::new(policy, 1000, 100);
    let (mut input, mut done) = (BytesMut::new(), false);
    for piece in wire.chunks(step) {
        input.extend_from_slice(piece);
        done = done || framer.receive(&mut input);
    }
    let (body, findings) = framer.finish();
    (body.to_vec(), findings, input.to_vec(), done)
}

#[test]
fn clean_content() {
    let cases: [(&str, &str, &str); 8] = [
        (".\r\n", "", ""),
        ("a\r\n.\r\n", "a\r\n", ""),
        ("a\r\n.\r\nQUIT\r\n", "a\r\n", "QUIT\r\n"),
        ("..\r\n.\r\n", ".\r\n", ""),
        ("..a\r\n...b\r\n.\r\n", ".a\r\n..b\r\n", ""),
        (".a\r\n.\r\n", "a\r\n", ""),
        ("\r\n\r\n.\r\n", "\r\n\r\n", ""),
        ("a.\r\n b\r\n.\r\n.\r\n", "a.\r\n b\r\n", ".\r\n"),
    ];
    for policy in [BareNewline::Reject, BareNewline::Normalize] {
        for (wire, expected, rest) in cases {
            for step in 1..=wire.len() {
                let (body, findings, left, done) = framed(policy, wire.as_bytes(), step);
                assert!(done && findings.is_empty(), "{wire:?} by {step}");
                assert_eq!(
                    (body.as_slice(), left.as_slice()),
                    (expected.as_bytes(), rest.as_bytes()),
                    "{wire:?} by {step}"
                );
            }
        }
    }
}

#[test]
fn only_crlf_dot_crlf_ends_data() {
    let ends = ["\r", "\n", "\r\n"];
    for before in ends {
        for after in ends {
            if (before, after) == ("\r\n", "\r\n") {
                continue;
            }
            let wire = format!("a{before}.{after}b\r\n.\r\n");
            for step in 1..=wire.len() {
                let (body, findings, left, done) = framed(BareNewline::Reject, wire.as_bytes(), step);
                assert!(done && left.is_empty() && body.is_empty() && !findings.is_empty(), "{wire:?} by {step}");
                let (body, _, left, done) = framed(BareNewline::Normalize, wire.as_bytes(), step);
                let text = String::from_utf8(body).unwrap();
                assert!(done && left.is_empty() && text.contains('b'), "{wire:?} by {step}: {text:?}");
                let without = text.replace("\r\n", "");
                assert!(!without.contains(['\r', '\n']) && !text.contains("\r\n.\r\n"), "{wire:?}: {text:?}");
            }
        }
    }
}

#[test]
fn normalized_as_the_reference_does() {
    let cases = [
        ("a\nb\r\n.\r\n", "a\r\nb\r\n"),
        ("a\n.\r\nb\r\n.\r\n", "a\r\nb\r\n"),
        ("a\r\n.\nb\r\n.\r\n", "a\r\nb\r\n"),
        ("a\n.\nb\r\n.\r\n", "a\r\nb\r\n"),
        ("a\r.\rb\r\n.\r\n", "a . b\r\n"),
        ("a\r\n.\r\r\nb\r\n.\r\n", "a\r\n \r\nb\r\n"),
        ("a\n..x\r\n.\r\n", "a\r\n.x\r\n"),
        ("a\r\r\n.\r\n", "a \r\n"),
        ("a\n.\r\n.\r\n", "a\r\n"),
    ];
    for (wire, expected) in cases {
        for step in 1..=wire.len() {
            let (body, findings, left, done) = framed(BareNewline::Normalize, wire.as_bytes(), step);
            assert!(done && !findings.is_empty() && left.is_empty(), "{wire:?} by {step}");
            assert_eq!(String::from_utf8_lossy(&body), expected, "{wire:?} by {step}");
        }
    }
}

#[test]
fn limits_and_nul() {
    let at_limit = format!("{}\r\n.\r\n", "x".repeat(100));
    let long_line = format!("{}\r\n.\r\n", "x".repeat(101));
    let big = format!("{}.\r\n", "123456789\r\n".repeat(91));
    let fits = format!("{}.\r\n", "12345678\r\n".repeat(100));
    for policy in [BareNewline::Reject, BareNewline::Normalize] {
        for step in [1, 2, 3, 7, 5000] {
            let findings = |wire: &str| framed(policy, wire.as_bytes(), step).1;
            assert!(findings(&at_limit).is_empty() && findings(&fits).is_empty());
            assert!(findings(&long_line).has(Finding::LineTooLong), "by {step}");
            assert!(findings(&big).has(Finding::TooBig));
            assert!(findings("a\0b\r\n.\r\n").has(Finding::Nul));
        }
    }
}

#[test]
fn chunks_are_opaque() {
    let text = b"a\r\n.\r\n..b\r\n.";
    for cut in 0..=text.len() {
        let mut framer = DataFramer::new(BareNewline::Reject, 1000, 100);
        framer.receive_chunk(&text[..cut]);
        framer.receive_chunk(&text[cut..]);
        let (body, findings) = framer.finish();
        assert_eq!((body.as_ref(), findings.is_empty()), (text.as_slice(), true), "cut at {cut}");
    }
    for odd in ["a\nb", "a\rb", "a\r", "\0", "a\r\r\n"] {
        for cut in 0..=odd.len() {
            let mut framer = DataFramer::new(BareNewline::Reject, 1000, 100);
            framer.receive_chunk(&odd.as_bytes()[..cut]);
            framer.receive_chunk(&odd.as_bytes()[cut..]);
            assert!(!framer.finish().1.is_empty(), "{odd:?} cut at {cut}");
        }
    }
}

#[test]
fn stuffed_and_back() {
    let cases = ["", "a\r\n", ".\r\n", "..\r\n.a\r\n", "\r\n.\r\n", "no end", ".", "a\r\n."];
    for text in cases {
        for cut in 0..=text.len() {
            let (mut stuffer, mut wire) = (DotStuffer::default(), Vec::new());
            stuffer.write(&text.as_bytes()[..cut], &mut wire);
            stuffer.write(&text.as_bytes()[cut..], &mut wire);
            stuffer.finish(&mut wire);
            let (body, findings, left, done) = framed(BareNewline::Reject, &wire, 3);
            assert!(done && left.is_empty() && findings.is_empty(), "{text:?}");
            let ended = if text.is_empty() || text.ends_with("\r\n") { text.to_owned() } else { format!("{text}\r\n") };
            assert_eq!(String::from_utf8_lossy(&body), ended, "{text:?} cut at {cut}");
        }
    }
}

proptest::proptest! {
    /// Whatever bytes are written, one message comes out at the other end and nothing follows it.
    #[test]
    fn any_bytes_make_one_message(bytes in proptest::collection::vec(proptest::sample::select(b"\r\n.ab".to_vec()), 0..60), cut in 0usize..60, step in 1usize..9) {
        let cut = cut.min(bytes.len());
        let (mut stuffer, mut wire) = (DotStuffer::default(), Vec::new());
        stuffer.write(&bytes[..cut], &mut wire);
        stuffer.write(&bytes[cut..], &mut wire);
        stuffer.finish(&mut wire);
        let (_, findings, left, done) = framed(BareNewline::Reject, &wire, step);
        proptest::prop_assert!(done && left.is_empty() && findings.is_empty());
    }

    /// The place of the reads never matters.
    #[test]
    fn splits_do_not_matter(bytes in proptest::collection::vec(proptest::sample::select(b"\r\n.a\0".to_vec()), 0..60), step in 1usize..9) {
        for policy in [BareNewline::Reject, BareNewline::Normalize] {
            let whole = framed(policy, &bytes, bytes.len().max(1));
            proptest::prop_assert_eq!(&framed(policy, &bytes, step), &whole);
        }
    }
}
