//! Scripted conversations with the server machine: `tests/conversations/*.smtp`, each also written byte by byte.
//!
//! `C: ` is a line of the client (CRLF is added; `\r \n \0 \xHH` are escapes and `\` at the end leaves the CRLF out), `S: ` the start of a line of the server,
//! `= ` an answer of the driver to the event that asks (250 when there is none), `# ` a comment. `@chunking`, `@normalize`, `@xclient` set options.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mailweir::protocol::smtp::{
    BareNewline, Event, Extension, Extensions, Identity, Reply, Server, ServerSettings, Trust,
};

pub fn settings(bare_newline: BareNewline) -> Arc<ServerSettings> {
    Arc::new(ServerSettings {
        host_name: "relay.example".into(),
        max_command_line_bytes: 2048,
        max_message_bytes: 2000,
        max_line_bytes: 1000,
        max_recipients: 3,
        max_errors: 20,
        max_idle_commands: 10,
        command_timeout: Duration::from_secs(300),
        data_timeout: Duration::from_secs(1800),
        data_min_bytes_per_second: 500,
        bare_newline,
        require_tls: false,
    })
}

#[test]
fn scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conversations");
    let mut ran = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "smtp") {
            let script = std::fs::read_to_string(&path).unwrap();
            for step in [usize::MAX, 1, 2, 3] {
                run(&script, step, &path.display().to_string());
            }
            ran += 1;
        }
    }
    assert!(ran >= 8, "only {ran} conversations found");
}

fn run(script: &str, step: usize, name: &str) {
    let has = |option: &str| script.lines().any(|line| line == option);
    let policy = if has("@normalize") { BareNewline::Normalize } else { BareNewline::Reject };
    let mut offer = Extensions::own(2000).with(Extension::EightBitMime).with(Extension::Dsn);
    if has("@chunking") {
        offer = offer.with(Extension::Chunking);
    }
    let trust = Trust { xclient: has("@xclient"), xforward: has("@xclient") };
    let now = tokio::time::Instant::now().into_std();
    let mut server = Server::new(settings(policy), offer, trust, Identity::default(), now);
    let mut input = BytesMut::new();
    server.greet(&input, now);
    let mut answers: Vec<Reply> = Vec::new();
    let mut said = String::new();
    for (number, line) in script.lines().enumerate() {
        let place = format!("{name}:{} by {step}", number + 1);
        if let Some(text) = line.strip_prefix("= ") {
            let (code, text) = text.split_once(' ').unwrap_or((text, "as told"));
            answers.push(Reply::composed(code.parse().unwrap(), None, text.to_owned()));
        } else if let Some(text) = line.strip_prefix("C: ").or_else(|| (line == "C:").then_some("")) {
            let bytes = unescaped(text);
            for piece in bytes.chunks(step.min(bytes.len())) {
                input.extend_from_slice(piece);
                drive(&mut server, &mut input, &mut answers, now);
            }
            said += &String::from_utf8(std::mem::take(server.output())).unwrap();
        } else if let Some(expected) = line.strip_prefix("S: ") {
            said += &String::from_utf8(std::mem::take(server.output())).unwrap();
            let Some((first, rest)) = said.split_once("\r\n") else {
                panic!("{place}: expected {expected}, nothing was said")
            };
            assert!(first.starts_with(expected), "{place}: expected {expected:?}, got {first:?}");
            said = rest.to_owned();
        } else {
            assert!(line.is_empty() || line.starts_with(['#', '@']), "{place}: what is {line:?}?");
        }
    }
    assert_eq!(said, "", "{name}: more was said");
}

fn drive(server: &mut Server, input: &mut BytesMut, answers: &mut Vec<Reply>, now: Instant) {
    while let Some(event) = server.receive(input, now) {
        match event {
            Event::Mail(_) | Event::Rcpt(_) | Event::Message { .. } => {
                let told = if answers.is_empty() { Reply::new(250, [2, 0, 0], "Ok") } else { answers.remove(0) };
                server.answer(&told, now);
            }
            Event::Close => return,
            Event::Reset | Event::StartTls | Event::Reconnected => {}
        }
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let (text, end) = text.strip_suffix('\\').map_or((text, "\r\n"), |text| (text, ""));
    let mut out = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (c, c == '\\') {
            (_, true) => match rest.next() {
                Some('r') => out.push(b'\r'),
                Some('n') => out.push(b'\n'),
                Some('0') => out.push(0),
                Some('x') => {
                    let digits: String = rest.by_ref().take(2).collect();
                    out.push(u8::from_str_radix(&digits, 16).unwrap());
                }
                other => panic!("unknown escape {other:?}"),
            },
            _ => out.extend(c.to_string().bytes()),
        }
    }
    out.extend_from_slice(end.as_bytes());
    out
}
