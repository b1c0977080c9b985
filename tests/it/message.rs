//! The message model on whole messages: double meanings, limits, bytes from strangers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mailweir::mail::{FindingKind, LinkKind, Message, MessageLimits, PartKind};
use proptest::prelude::*;

fn parse(text: impl Into<Vec<u8>>) -> Message {
    Message::parse(Bytes::from(text.into()), &MessageLimits::default())
}

fn findings(message: &Message) -> Vec<&'static str> {
    message.findings().map(|f| f.kind.code()).collect()
}

/// `\n` in the text stands for CRLF.
fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

const FROM: &str = "From: A <a@a.example>\nTo: b@b.example\nSubject: s\nMIME-Version: 1.0\n";

#[test]
fn a_plain_message() {
    for text in [
        "From: A <a@a.example>\nReply-To: r@r.example\nSubject: =?utf-8?Q?gr=C3=BC=C3=9Fe?=\nDate: Fri, 1 Mar 2024 10:00:00 +0100\nMessage-ID: <1@a.example>\n\nHello http://x.example/a\n".to_owned(),
        crlf("From: A <a@a.example>\nReply-To: r@r.example\nSubject: =?utf-8?Q?gr=C3=BC=C3=9Fe?=\nDate: Fri, 1 Mar 2024 10:00:00 +0100\nMessage-ID: <1@a.example>\n\nHello http://x.example/a\n"),
    ] {
        let m = parse(text);
        assert_eq!(m.from()[0].display, "A");
        assert_eq!(m.reply_to()[0].text, "r@r.example");
        assert_eq!(m.subject(), "grüße");
        assert_eq!(m.date(), Some(1_709_283_600));
        assert_eq!(m.message_id().as_deref(), Some("1@a.example"));
        assert_eq!(m.headers().count(), 5);
        assert_eq!(m.text().trim_end(), "Hello http://x.example/a");
        assert_eq!(m.links()[0].host(), Some("x.example"));
        assert_eq!(findings(&m), Vec::<&str>::new());
    }
}

#[test]
fn an_ordinary_tree() {
    let m = parse(crlf(&format!(
        "{FROM}Content-Type: multipart/mixed; boundary=\"o\"\n\nThis is a multi-part message in MIME format.\n--o\n\
         Content-Type: multipart/alternative; boundary=oi\n\n--oi\n\nplain\n--oi\nContent-Type: text/html\n\
         Content-Transfer-Encoding: quoted-printable\n\n<p>html <a href=3D\"https://x.example/\">go</a></p>\n--oi--\n\
         --o\nContent-Type: application/pdf; name=a.pdf\nContent-Disposition: attachment; filename=\"a.pdf\"\n\
         Content-Transfer-Encoding: base64\n\nJVBERi0=\n--o--\n"
    )));
    let kinds: Vec<_> = m.parts().iter().map(|p| (p.kind, p.parent)).collect();
    assert_eq!(
        kinds,
        [
            (PartKind::Multipart, None),
            (PartKind::Multipart, Some(0)),
            (PartKind::Plain, Some(1)),
            (PartKind::Html, Some(1)),
            (PartKind::Other, Some(0)),
        ]
    );
    assert_eq!(m.plain(), Some("plain"));
    assert_eq!(m.text().trim(), "html go");
    assert_eq!(m.links()[0].shown, "go");
    let attachments: Vec<_> = m.attachments().map(|(_, p)| (p.file_name().unwrap(), &p.bytes()[..])).collect();
    assert_eq!(attachments, [("a.pdf", &b"%PDF-"[..])]);
    assert_eq!(findings(&m), Vec::<&str>::new());
}

/// Each ambiguous message names its findings and shows the payload `evil.example` in whatever reading hides it.
#[test]
fn double_meanings() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "two boundaries, payload in the first",
            "Content-Type: multipart/mixed; boundary=one; boundary=two\n\n--one\n\nhttp://evil.example/\n--one--\n--two\n\nok\n--two--\n",
            &["part_after_close", "several_boundaries"],
        ),
        (
            "two boundaries, payload in the second",
            "Content-Type: multipart/mixed; boundary=one; boundary=two\n\n--two\n\nhttp://evil.example/\n--two--\n--one\n\nok\n--one--\n",
            &["part_after_close", "several_boundaries"],
        ),
        (
            "two content types",
            "Content-Type: text/plain\nContent-Type: text/html\n\n<a href=\"http://evil.example/\">x</a>\n",
            &["several_content_types"],
        ),
        (
            "two content types, other order",
            "Content-Type: text/html\nContent-Type: text/plain\n\n<a href=\"http://evil.example/\">x</a>\n",
            &["several_content_types"],
        ),
        (
            "two encodings, payload in the second",
            "Content-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: base64\n\naHR0cDovL2V2aWwuZXhhbXBsZS8=\n",
            &["several_encodings"],
        ),
        (
            "two encodings, payload in the first",
            "Content-Transfer-Encoding: base64\nContent-Transfer-Encoding: 7bit\n\naHR0cDovL2V2aWwuZXhhbXBsZS8=\n",
            &["several_encodings"],
        ),
        ("broken base64", "Content-Transfer-Encoding: base64\n\naHR0cDov*L2V2aWwuZXhhbXBsZS8=\n", &["broken_base64"]),
        (
            "data after padding",
            "Content-Transfer-Encoding: base64\n\naGFsbG8=aHR0cDovL2V2aWwuZXhhbXBsZS8=\n",
            &["broken_base64"],
        ),
        (
            "no boundary",
            "Content-Type: multipart/mixed\n\n--guess\nContent-Transfer-Encoding: base64\n\naHR0cDovL2V2aWwuZXhhbXBsZS8=\n--guess--\n",
            &["missing_boundary"],
        ),
        (
            "never closed",
            "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhttp://evil.example/\n",
            &["unclosed_boundary"],
        ),
        (
            "part after the end",
            "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nok\n--b--\n--b\n\nhttp://evil.example/\n--b--\n",
            &["part_after_close"],
        ),
        (
            "in the preamble",
            "Content-Type: multipart/mixed; boundary=b\n\nhttp://evil.example/\n--b\n\nok\n--b--\n",
            &["preamble_content"],
        ),
        (
            "in the epilogue",
            "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nok\n--b--\nhttp://evil.example/\n",
            &["epilogue_content"],
        ),
        (
            "odd closing line",
            "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhttp://evil.example/\n--b--x\n",
            &["odd_delimiter"],
        ),
        (
            "multipart in base64",
            "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\naHR0cDovL2V2aWwuZXhhbXBsZS8=\n",
            &["encoded_multipart", "unclosed_boundary"],
        ),
        ("unknown encoding", "Content-Transfer-Encoding: x-none\n\nhttp://evil.example/\n", &["unknown_encoding"]),
        ("unknown charset", "Content-Type: text/plain; charset=none\n\nhttp://evil.example/\n", &["unknown_charset"]),
        ("utf-7", "Content-Type: text/plain; charset=utf-7\n\nhttp://evil.example/\n", &["utf7"]),
        ("header cut short", "no field here\nX: y\n\nhttp://evil.example/\n", &["header_without_colon"]),
        ("space before the colon", "X : y\n\nhttp://evil.example/\n", &["space_before_colon"]),
        ("NUL", "\nhttp://evil.example/ \0\n", &["nul_byte"]),
        ("repeated subject", "Subject: t\n\nhttp://evil.example/\n", &["repeated_field"]),
        ("two From", "From: c@c.example\n\nhttp://evil.example/\n", &["several_from"]),
    ];
    for (name, rest, expected) in cases {
        for text in [format!("{FROM}{rest}"), crlf(&format!("{FROM}{rest}"))] {
            let m = parse(text);
            assert!(m.links().iter().any(|l| l.host() == Some("evil.example")), "{name}: {:?}", m.body());
            let mut got = findings(&m);
            got.sort_unstable();
            assert_eq!(got, *expected, "{name}");
        }
    }
}

#[test]
fn from_in_all_its_forms() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("From: a@a.example\n", &["a@a.example"], &[]),
        ("From: a@a.example\nFrom: b@b.example\n", &["a@a.example", "b@b.example"], &["several_from"]),
        ("From: a@a.example, b@b.example\n", &["a@a.example", "b@b.example"], &["several_from_mailboxes"]),
        ("From: <a@a.example> <b@b.example>\n", &["a@a.example", "b@b.example"], &["several_from_mailboxes"]),
        ("From: g: a@a.example;\n", &["a@a.example"], &["from_group"]),
        ("From: g:;\n", &[], &["from_group", "from_without_address"]),
        ("From:\n", &[], &["from_without_address"]),
        ("From: <>\n", &[""], &["from_without_address"]),
        ("From: Name only\n", &[""], &["from_without_address"]),
        ("X: y\n", &[], &["no_from"]),
        (":From: a@a.example\n", &[], &["header_without_colon", "no_from"]),
        ("from : a@a.example\n", &["a@a.example"], &["space_before_colon"]),
        (
            "From: =?utf-8?Q?a=40x.example?=@b.example\n",
            &["a@x.example@b.example", "=?utf-8?Q?a=40x.example?=@b.example"],
            &["encoded_address", "several_from_mailboxes"],
        ),
    ];
    for (header, addresses, expected) in cases {
        let m = parse(format!("{header}\nx\n"));
        let got: Vec<_> = m.from().iter().map(|f| f.text.as_str()).collect();
        assert_eq!(got, *addresses, "{header}");
        let mut got = findings(&m);
        got.sort_unstable();
        assert_eq!(got, *expected, "{header}");
    }
}

#[test]
fn file_names() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("Content-Disposition: attachment; filename=a.pdf\n", "a.pdf", &[]),
        ("Content-Type: application/pdf; name=\"=?utf-8?Q?=C3=A4=2Eexe?=\"\n", "ä.exe", &[]),
        (
            "Content-Disposition: attachment;\n filename*0*=utf-8''a%2E;\n filename*1=exe\n",
            "a.exe",
            &["continued_file_name"],
        ),
        (
            "Content-Disposition: attachment; filename=a.txt; filename*=utf-8''a.exe\n",
            "a.exe",
            &["conflicting_file_names"],
        ),
        (
            "Content-Type: a/b; name=a.txt\nContent-Disposition: attachment; filename=a.exe\n",
            "a.exe",
            &["conflicting_file_names"],
        ),
    ];
    for (header, name, expected) in cases {
        let m = parse(format!("{FROM}{header}\nx"));
        assert_eq!(m.attachments().next().unwrap().1.file_name(), Some(*name), "{header}");
        assert_eq!(findings(&m), *expected, "{header}");
    }
}

#[test]
fn limits_become_findings() {
    let tight = MessageLimits {
        max_parts: 3,
        max_depth: 2,
        max_header_bytes: 200,
        max_header_count: 20,
        max_links: 2,
        max_decoded_bytes: 100,
        max_text_bytes: 1_000,
        max_mailboxes: 2,
    };
    let long = "x".repeat(300);
    let cases = [
        (format!("From: a@a.example\nX: {long}\n\nbody"), FindingKind::HeaderTooLong),
        (format!("From: a@a.example\n{}\nbody", "X:\n".repeat(21)), FindingKind::TooManyHeaders),
        ("From: a@a.example\n\nhttp://a.example http://b.example http://c.example".to_owned(), FindingKind::TooManyLinks),
        (
            "From: a@a.example\nContent-Type: text/html\n\n<a href=http://a.example>1</a><a href=http://b.example>1</a><a href=http://c.example>1</a>".to_owned(),
            FindingKind::TooManyLinks,
        ),
        (
            format!("From: a@a.example\nContent-Transfer-Encoding: base64\n\n{}", "QUJD".repeat(50)),
            FindingKind::TooMuchDecoded,
        ),
        (format!("From: a@a.example\n\n{}", long.repeat(4)), FindingKind::TooMuchText),
        ("From: a@a.example, b@b.example, c@c.example\n\n".to_owned(), FindingKind::TooManyMailboxes),
        (
            format!("From: a@a.example\nContent-Type: multipart/mixed; boundary=b\n\n{}", "--b\n\nx\n".repeat(3)),
            FindingKind::TooManyParts,
        ),
        (nested(3), FindingKind::TooDeep),
    ];
    for (text, kind) in cases {
        let m = Message::parse(Bytes::from(text.clone()), &tight);
        assert!(m.has_finding(kind), "{kind:?} {:?}", findings(&m));
        assert!(!parse(text).has_finding(kind), "{kind:?}");
        assert!(m.parts().len() <= 3 && m.links().len() <= 2 && m.from().len() <= 2);
    }
}

fn nested(depth: usize) -> String {
    let mut text = "From: a@a.example\n".to_owned();
    for level in 0..depth {
        text += &format!("Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n");
    }
    text + "\nhttp://evil.example/\n"
}

/// Work is bounded by the limits, not by what the sender writes. The bound is generous: it catches quadratic work only.
#[test]
fn hostile_sizes() {
    let cases = [
        ("deep", nested(10_000)),
        (
            "a million parts",
            format!("{FROM}Content-Type: multipart/mixed; boundary=b\n\n{}", "--b\n\n\n".repeat(1_000_000)),
        ),
        ("a million fields", format!("{}\nbody", "X: y\n".repeat(1_000_000))),
        ("hyphens", format!("{}{}", nested(49), "--b\n--c--\n".repeat(500_000))),
        ("open quote", format!("From: \"{}\n\n", "\\\"<(".repeat(200_000))),
        ("open comments", format!("From: {}\n\n", "(".repeat(900_000))),
        ("brackets", format!("From: {}\n\n", "<".repeat(900_000))),
        ("encoded words", format!("Subject: {}\nFrom: a@a.example\n\n", "=?".repeat(400_000))),
        ("open words", format!("Subject: {}\nFrom: a@a.example\n\n", "=?a?Q?".repeat(150_000))),
        ("parameters", format!("Content-Type: multipart/mixed{}\n\n", "; boundary*0=x".repeat(50_000))),
        ("tags", format!("{FROM}Content-Type: text/html\n\n{}", "<a href=http://x.example/><div>".repeat(100_000))),
        ("urls", format!("{FROM}\n{}", "http://x.example/ ".repeat(200_000))),
    ];
    for (name, text) in cases {
        let size = text.len();
        #[allow(clippy::disallowed_methods)] // Real time, of a computation: nothing here is paused.
        let started = Instant::now();
        let m = parse(text);
        let links = m.links().len();
        assert!(started.elapsed() < Duration::from_secs(20), "{name}: {size} bytes took {:?}", started.elapsed());
        println!("{name}: {size} bytes, {links} links, {:?}", started.elapsed());
        assert!(m.parts().len() <= 1_000 && links <= 5_000 && m.headers().count() <= 10_000, "{name}");
    }
}

/// Nothing recurses with what the sender writes: a quarter of a megabyte of stack is enough for anything.
#[test]
fn a_small_stack_is_enough() {
    let texts = [
        nested(5_000),
        format!("{FROM}Content-Type: text/html\n\n{}", "<div style='color:red'><a href=x>&amp;<!--".repeat(20_000)),
        format!("{FROM}Content-Type: text/html\n\n{}", "a=\"b\" <td class=c>&#60;text ".repeat(20_000)),
        format!("From: {}{}\n\nx", "(".repeat(50_000), "<".repeat(50_000)),
        format!("{}x", "From: a@a.example\nContent-Type: message/rfc822\n\n".repeat(5_000)),
    ];
    let work = move || texts.into_iter().for_each(|text| parse(text).read_all());
    std::thread::Builder::new().stack_size(256 << 10).spawn(work).unwrap().join().unwrap();
}

/// Lines that stress the walker when they are put together by chance.
fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"From: \"x\" <a@b.example>, (c) g: <@r:d@e.example>;".to_vec()),
        Just(b"Content-Type: multipart/mixed; boundary=b; boundary=\"c\"".to_vec()),
        Just(b"Content-Type: text/html; charset=utf-7".to_vec()),
        Just(b"Content-Type: message/rfc822; name*0*=utf-8''%41; name*1=b".to_vec()),
        Just(b"Content-Transfer-Encoding: base64".to_vec()),
        Just(b"Content-Transfer-Encoding: quoted-printable".to_vec()),
        Just(b"Date: Mon, 99 Foo 99999 99:99:99 +9999".to_vec()),
        Just(b"--b".to_vec()),
        Just(b"--c--".to_vec()),
        Just(b"".to_vec()),
        Just(b"<a href='http://x\xff/'><p style='color:#fff;font-size:0'>=3D=\xc3=".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_parse(lines in prop::collection::vec(line(), 0..30), crlf in any::<bool>()) {
        let end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
        let raw = lines.join(end);
        let m = parse(raw);
        m.read_all();
        prop_assert!(m.parts().iter().all(|part| part.parent.is_none_or(|p| p < m.parts().len())));
        prop_assert!(m.links().iter().all(|link| link.kind == LinkKind::Plain || !link.text.is_empty()));
    }
}
