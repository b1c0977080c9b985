//! Our own `Received` field (RFC 5321, 4.4; protocol words RFC 3848) and the look at those of others for mail loops.
//!
//! What the client said is written so that it can neither end the field nor pose as a comment.

use std::fmt::Write as _;
use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::mail::{Connection, MessageId};

/// What a `Received` field tells.
#[derive(Debug)]
pub(super) struct Trace<'a> {
    pub(super) connection: &'a Connection,
    pub(super) host_name: &'a str,
    pub(super) id: MessageId,
    /// EHLO rather than HELO.
    pub(super) extended: bool,
    pub(super) received: SystemTime,
}

/// The field with its final CRLF.
pub(super) fn received_field(trace: &Trace<'_>) -> String {
    let connection = trace.connection;
    let mut text = String::with_capacity(256);
    text.push_str("Received: from ");
    plain(connection.helo.as_deref().unwrap_or("unknown"), &mut text);
    text.push_str(" (");
    plain(connection.client_name.as_deref().unwrap_or("unknown"), &mut text);
    match connection.client_ip {
        Some(std::net::IpAddr::V6(ip)) => _ = write!(text, " [IPv6:{ip}]"),
        Some(ip) => _ = write!(text, " [{ip}]"),
        None => {}
    }
    text.push(')');
    if let Some(tls) = &connection.tls {
        _ = write!(text, "\r\n\t(using {} with cipher {})", tls.version, tls.cipher);
    }
    let protocol = match (trace.extended, &connection.tls, &connection.login) {
        (false, _, _) => "SMTP",
        (true, None, None) => "ESMTP",
        (true, Some(_), None) => "ESMTPS",
        (true, None, Some(_)) => "ESMTPA",
        (true, Some(_), Some(_)) => "ESMTPSA",
    };
    let date = OffsetDateTime::from(trace.received).format(&Rfc2822).unwrap_or_default();
    _ = write!(text, "\r\n\tby {} (Mailweir) with {protocol} id {};\r\n\t{date}\r\n", trace.host_name, trace.id);
    text
}

fn plain(word: &str, out: &mut String) {
    out.extend(word.chars().take(255).map(|c| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' | ':' | '[' | ']' => c,
        _ => '?',
    }));
}

/// `Received` fields in the header: all of them, and those `by` this host.
pub(super) fn count_received(raw: &[u8], host_name: &str) -> (usize, usize) {
    let (mut all, mut own) = (0, 0);
    let mut rest = raw;
    let mut in_received = false;
    let mut seen_here = false;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        match line.first() {
            None | Some(b'\r') => break,
            Some(b' ' | b'\t') => {}
            Some(_) => {
                in_received = line.len() > 9 && line[..9].eq_ignore_ascii_case(b"received:");
                seen_here = false;
                all += usize::from(in_received);
            }
        }
        if in_received && !seen_here && is_by(line, host_name) {
            seen_here = true;
            own += 1;
        }
    }
    (all, own)
}

fn is_by(line: &[u8], host_name: &str) -> bool {
    let mut words = line.split(|b| b" \t\r".contains(b)).filter(|word| !word.is_empty());
    words.any(|word| word.eq_ignore_ascii_case(b"by"))
        && words.next().is_some_and(|word| word.trim_suffix_semicolon().eq_ignore_ascii_case(host_name.as_bytes()))
}

trait TrimSemicolon {
    fn trim_suffix_semicolon(&self) -> &[u8];
}

impl TrimSemicolon for [u8] {
    fn trim_suffix_semicolon(&self) -> &[u8] {
        self.strip_suffix(b";").unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Door, TlsSession};

    #[test]
    fn field() {
        let connection = Connection {
            helo: Some("evil)\r\nX: (y".into()),
            client_ip: "2001:db8::1".parse().ok(),
            client_name: Some("mail.example".into()),
            tls: Some(TlsSession { version: "TLSv1.3".into(), cipher: "TLS13_AES_256_GCM_SHA384".into() }),
            ..Connection::unknown(Door::Relay)
        };
        let id = MessageId::new(1_763_700_000_000, [7; 10]);
        let received = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_763_700_000);
        let trace = Trace { connection: &connection, host_name: "us.example", id, extended: true, received };
        let expected = format!(
            "Received: from evil???X:??y (mail.example [IPv6:2001:db8::1])\r\n\
             \t(using TLSv1.3 with cipher TLS13_AES_256_GCM_SHA384)\r\n\
             \tby us.example (Mailweir) with ESMTPS id {id};\r\n\
             \tFri, 21 Nov 2025 04:40:00 +0000\r\n"
        );
        assert_eq!(received_field(&trace), expected);
    }

    #[test]
    fn loops() {
        let own = "Received: from a\r\n\tby us.example (Mailweir) with SMTP id 1;\r\n\tdate\r\n";
        let other = "received: from us.example by them.example; date\r\n";
        let cases = [
            (String::new(), (0, 0)),
            (format!("{own}{other}Subject: x\r\n\r\n{own}"), (2, 1)),
            (format!("{own}{own}X-Received: by us.example\r\n\r\n"), (2, 2)),
            ("Received: by US.example; date".to_owned() + "\r\n", (1, 1)),
        ];
        for (raw, expected) in cases {
            assert_eq!(count_received(raw.as_bytes(), "us.example"), expected, "{raw:?}");
        }
    }
}
