//! What must hold for any bytes in any pieces, as one function: the fuzz target calls it, and so do the tests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::{
    BareNewline, Event, Extension, Extensions, Identity, Reply, ReplyReader, Server, ServerSettings, Trust, Violation,
};

/// Feeds `input` (first byte: options and size of the pieces) to a server machine and panics when a reply is not valid, when a
/// message holds anything but CRLF line ends, or when whole and cut input give different messages.
#[doc(hidden)]
pub fn check_conversation(input: &[u8], now: Instant) {
    let Some((&options, bytes)) = input.split_first() else { return };
    let policy = if options & 1 == 1 { BareNewline::Normalize } else { BareNewline::Reject };
    let whole = run(bytes, usize::MAX, policy, now);
    let cut = run(bytes, usize::from(options >> 1) + 1, policy, now);
    // One thing depends on the cut by its nature: whether bytes wait behind DATA or STARTTLS.
    assert!(whole.1 || cut.1 || whole.0 == cut.0, "the place of a read matters");
}

/// The messages that came through, and whether somebody spoke too early.
fn run(bytes: &[u8], step: usize, bare_newline: BareNewline, now: Instant) -> (Vec<Vec<u8>>, bool) {
    let settings = Arc::new(ServerSettings {
        host_name: "relay.example".to_owned(),
        max_command_line_bytes: 200,
        max_message_bytes: 500,
        max_line_bytes: 100,
        max_recipients: 3,
        max_errors: 20,
        max_idle_commands: 10,
        command_timeout: Duration::from_secs(300),
        data_timeout: Duration::from_secs(300),
        data_min_bytes_per_second: 500,
        bare_newline,
        require_tls: false,
    });
    let offer = Extensions::own(500).with(Extension::Chunking).with(Extension::Dsn).with(Extension::StartTls);
    let trust = Trust { xclient: true, xforward: true };
    let mut server = Server::new(settings, offer, trust, Identity::default(), now);
    let (mut input, mut said, mut messages, mut early) = (BytesMut::new(), Vec::new(), Vec::new(), false);
    server.greet(&input, now);
    'wire: for piece in bytes.chunks(step.min(bytes.len().max(1))) {
        input.extend_from_slice(piece);
        while let Some(event) = server.receive(&mut input, now) {
            match event {
                Event::Message { envelope, raw } => {
                    assert!(!envelope.recipients.is_empty(), "a message without recipients");
                    check_content(&raw);
                    messages.push(raw.to_vec());
                    server.answer(&Reply::new(250, [2, 0, 0], "Ok"), now);
                }
                Event::Mail(_) | Event::Rcpt(_) => server.answer(&Reply::new(250, [2, 1, 0], "Ok"), now),
                Event::StartTls => server.tls_started(now),
                Event::Close => break 'wire,
                Event::Reset | Event::Reconnected => {}
            }
        }
        early |= server.take_violations().iter().any(|v| matches!(v, Violation::EarlyTalk | Violation::TlsInjection));
    }
    early |= server.take_violations().iter().any(|v| matches!(v, Violation::EarlyTalk | Violation::TlsInjection));
    said.append(server.output());
    let (mut reader, mut said) = (ReplyReader::default(), BytesMut::from(said.as_slice()));
    while matches!(reader.next(&mut said), Ok(Some(_))) {}
    assert!(said.is_empty(), "a reply that is none");
    (messages, early)
}

fn check_content(raw: &[u8]) {
    let mut before = 0;
    for (place, &byte) in raw.iter().enumerate() {
        let odd = match byte {
            b'\r' => raw.get(place + 1) != Some(&b'\n'),
            b'\n' => before != b'\r',
            0 => true,
            _ => false,
        };
        assert!(!odd, "a bare line end or NUL in a message");
        before = byte;
    }
}
