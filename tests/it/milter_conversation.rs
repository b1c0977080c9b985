//! Runs `tests/conversations/*.milter` against the milter machine; the format is in the README there.
//!
//! Each runs whole, line by line (then replies are compared after each line), split in two at every byte, and byte by byte.

use std::fmt::Write;
use std::path::Path;

use mailweir::mail::Edit;
use mailweir::protocol::milter::{Decision, Event, FrameReader, Limits, Message, Refuse, Session, write_frame};

#[derive(Debug)]
enum Step {
    Say(Vec<u8>),
    Hear(Vec<u8>),
    Message(String, String),
    Refused(String),
    Answer(Answer),
    Said(String),
    Error(String),
    Quit,
}

#[derive(Debug, Default)]
struct Answer {
    edits: Vec<Edit>,
    without: Vec<usize>,
    last: Vec<String>,
}

impl Answer {
    fn decision(&self) -> Decision<'_> {
        let text = self.last.last().map_or("", String::as_str);
        match self.last[0].as_str() {
            "deliver" => Decision::Deliver { edits: &self.edits, without: &self.without },
            "discard" => Decision::Discard,
            "quarantine" => Decision::Quarantine { reason: text, edits: &self.edits },
            "refuse" => {
                let enhanced: Vec<u16> = self.last[2].split('.').map(|n| n.parse().unwrap()).collect();
                let enhanced = enhanced.try_into().unwrap();
                Decision::Refuse(Refuse { code: self.last[1].parse().unwrap(), enhanced, text })
            }
            other => panic!("unknown answer {other}"),
        }
    }
}

/// Splits a line into words; quoted ones are unescaped.
fn words(line: &str) -> Vec<(bool, Vec<u8>)> {
    let mut words = Vec::new();
    let mut rest = line.bytes().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b' ' => {}
            b'"' => {
                let mut word = Vec::new();
                loop {
                    match rest.next().expect("unended quote") {
                        b'"' => break,
                        b'\\' => word.push(match rest.next().unwrap() {
                            b'0' => 0,
                            b'n' => b'\n',
                            b'r' => b'\r',
                            b't' => b'\t',
                            b'x' => {
                                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                                u8::from_str_radix(str::from_utf8(&hex).unwrap(), 16).unwrap()
                            }
                            other => other,
                        }),
                        other => word.push(other),
                    }
                }
                words.push((true, word));
            }
            _ => {
                let mut word = vec![byte];
                while let Some(byte) = rest.next_if(|b| *b != b' ') {
                    word.push(byte);
                }
                words.push((false, word));
            }
        }
    }
    words
}

fn texts(line: &str) -> Vec<String> {
    words(line).into_iter().map(|(_, word)| String::from_utf8(word).unwrap()).collect()
}

fn number(text: &str) -> u32 {
    text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u32::from_str_radix(hex, 16)).unwrap()
}

fn frame(line: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut words = words(line).into_iter();
    let (_, first) = words.next().unwrap();
    if let Some(hex) = first.strip_prefix(b"raw:") {
        return hex.chunks(2).map(|h| u8::from_str_radix(str::from_utf8(h).unwrap(), 16).unwrap()).collect();
    }
    let mut data = Vec::new();
    for (quoted, word) in words {
        match str::from_utf8(&word).ok().and_then(|w| w.split_once(':')) {
            Some(("u16", n)) if !quoted => data.extend_from_slice(&(number(n) as u16).to_be_bytes()),
            Some(("u32", n)) if !quoted => data.extend_from_slice(&number(n).to_be_bytes()),
            _ => data.extend_from_slice(&word),
        }
    }
    write_frame(&mut out, first[0], &[&data]);
    out
}

fn answer(line: &str) -> Answer {
    let mut answer = Answer::default();
    for part in line.split(';') {
        let part = texts(part);
        let [word, rest @ ..] = part.as_slice() else { continue };
        match (word.as_str(), rest) {
            ("prepend", [name, value]) => {
                answer.edits.push(Edit::Prepend { name: name.clone(), value: value.clone() });
            }
            ("replace", [name, n, value]) => {
                let occurrence = n.parse().unwrap();
                answer.edits.push(Edit::Replace { name: name.clone(), occurrence, value: value.clone() });
            }
            ("remove", [name, n]) => {
                answer.edits.push(Edit::Remove { name: name.clone(), occurrence: n.parse().unwrap() });
            }
            ("without", places) => answer.without = places.iter().map(|p| p.parse().unwrap()).collect(),
            _ => answer.last = part,
        }
    }
    answer
}

fn parse(text: &str) -> (Limits, Vec<Step>) {
    let mut limits = Limits::default();
    let mut steps = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        steps.push(match word {
            "set" => {
                let (name, value) = rest.split_once(' ').unwrap();
                let value = value.parse().unwrap();
                match name {
                    "message_bytes" => limits.message_bytes = value,
                    "header_count" => limits.header_count = value,
                    "recipients" => limits.recipients = value,
                    other => panic!("unknown limit {other}"),
                }
                continue;
            }
            ">" => Step::Say(frame(rest)),
            "<" => Step::Hear(frame(rest)),
            "message:" => {
                let [field, value] = texts(rest).try_into().unwrap();
                Step::Message(field, value)
            }
            "refused:" => Step::Refused(rest.into()),
            "answer:" => Step::Answer(answer(rest)),
            "said:" => Step::Said(rest.into()),
            "error:" => Step::Error(rest.into()),
            "quit" => Step::Quit,
            other => panic!("unknown line {other}"),
        });
    }
    (limits, steps)
}

/// What a message must say of itself.
fn field(message: &Message, name: &str) -> String {
    let c = &message.connection;
    let text = |value: &Option<String>| value.clone().unwrap_or("-".into());
    match name {
        "raw" => String::from_utf8_lossy(&message.raw).into_owned(),
        "sender" => message.envelope.sender.text.clone(),
        "rcpt" => message.envelope.recipients.iter().map(|r| r.text.clone()).collect::<Vec<_>>().join(" "),
        "ip" => c.client_ip.map_or("-".into(), |ip| ip.to_string()),
        "port" => c.client_port.map_or("-".into(), |port| port.to_string()),
        "name" => text(&c.client_name),
        "helo" => text(&c.helo),
        "receiver" => text(&c.receiver),
        "login" => text(&c.login),
        "queue" => text(&c.queue_id),
        "tls" => text(&c.tls.as_ref().map(|t| t.version.clone())),
        other => panic!("unknown field {other}"),
    }
}

/// Runs a conversation. What is said is handed over in the pieces that `cut` makes of each unbroken run of the MTA's lines.
fn run(text: &str, cut: &dyn Fn(&[u8]) -> Vec<Vec<u8>>) -> Result<(), String> {
    let (limits, steps) = parse(text);
    let mut session = Session::new(limits);
    let mut out = Vec::new();
    let mut events = Vec::new();
    let mut failed = None;
    let mut message = None;
    let mut said = None;
    let mut steps = steps.into_iter().peekable();
    while let Some(step) = steps.next() {
        match step {
            Step::Say(mut bytes) => {
                if !out.is_empty() {
                    return Err(format!("a reply too many: {}", show(&out)));
                }
                while let Some(Step::Say(more)) = steps.next_if(|s| matches!(s, Step::Say(_))) {
                    bytes.extend_from_slice(&more);
                }
                for piece in cut(&bytes) {
                    let mut input = &piece[..];
                    loop {
                        match session.advance(&mut input, &mut out) {
                            Ok(Some(Event::Negotiated(..))) => {}
                            Ok(Some(event)) => events.push(event),
                            Ok(None) => break,
                            Err(error) => {
                                failed = Some(error);
                                break;
                            }
                        }
                    }
                    if !input.is_empty() && failed.is_none() {
                        return Err(format!("left unread at {:?}: {}", session.stage(), show(input)));
                    }
                }
            }
            Step::Hear(expected) => {
                if !out.starts_with(&expected) {
                    return Err(format!("expected {} but had {}", show(&expected), show(&out)));
                }
                out.drain(..expected.len());
            }
            Step::Message(name, expected) => {
                if message.is_none() {
                    message = take_message(&mut events)?;
                }
                let got = field(&message.as_ref().ok_or("no message")?.0, &name);
                if got != expected {
                    return Err(format!("{name}: expected {expected:?}, got {got:?}"));
                }
            }
            Step::Answer(answer) => {
                if message.is_none() {
                    message = take_message(&mut events)?;
                }
                let (_, judging) = message.take().ok_or("no message")?;
                said = Some(session.answer(judging, &answer.decision(), &mut out));
            }
            Step::Said(expected) => {
                let said = said.take().ok_or("nothing said")?;
                let got = format!("{}{}", said.action.as_str(), if said.degraded { " degraded" } else { "" });
                if got != expected {
                    return Err(format!("said {got}, expected {expected}"));
                }
            }
            Step::Refused(expected) => match events.pop() {
                Some(Event::Refused(overrun)) if overrun.kind() == expected => {}
                other => return Err(format!("expected refused {expected}, got {other:?}")),
            },
            Step::Error(expected) => {
                let got = failed.take().map(|error| error.kind());
                if got != Some(expected.as_str()) {
                    return Err(format!("expected error {expected}, got {got:?}"));
                }
            }
            Step::Quit => match events.pop() {
                Some(Event::Quit) => {}
                other => return Err(format!("expected quit, got {other:?}")),
            },
        }
    }
    if !out.is_empty() || !events.is_empty() || failed.is_some() {
        return Err(format!("left over: {} {events:?} {failed:?}", show(&out)));
    }
    Ok(())
}

type Whole = (Box<Message>, mailweir::protocol::milter::Judging);

fn take_message(events: &mut Vec<Event>) -> Result<Option<Whole>, String> {
    match events.pop() {
        Some(Event::Message(message, judging)) => Ok(Some((message, judging))),
        other => Err(format!("expected a message, got {other:?}")),
    }
}

fn show(bytes: &[u8]) -> String {
    let mut reader = FrameReader::new(1 << 20);
    let mut input = bytes;
    let mut text = String::new();
    while let Ok(Some(frame)) = reader.next(&mut input) {
        write!(text, "[{} {}] ", char::from(frame.command), frame.data.escape_ascii()).unwrap();
    }
    text
}

#[test]
fn conversations() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "milter") {
            continue;
        }
        count += 1;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let check = |how: &str, cut: &dyn Fn(&[u8]) -> Vec<Vec<u8>>| {
            if let Err(error) = run(&text, cut) {
                panic!("{name} ({how}): {error}");
            }
        };
        check("whole", &|bytes| vec![bytes.to_vec()]);
        check("byte by byte", &|bytes| bytes.iter().map(|b| vec![*b]).collect());
        for place in 0..2_000 {
            check(&format!("cut at {place}"), &|bytes| {
                let (first, second) = bytes.split_at(place.min(bytes.len()));
                vec![first.to_vec(), second.to_vec()]
            });
        }
    }
    assert!(count >= 15, "only {count} conversations found");
}

/// The runner itself must notice what it is there for.
#[test]
fn a_wrong_conversation_is_noticed() {
    let whole = |bytes: &[u8]| vec![bytes.to_vec()];
    let open = "> O u32:2 u32:0 u32:0\n< O u32:2 u32:0 u32:0\n> C \"x\\0\" \"U\"\n";
    for (rest, expected) in [
        ("", "left over"),
        ("> Q\nquit", "left over"),
        ("< c\n< c", "expected"),
        ("< c\n> E\nerror: malformed", "expected error"),
        ("< c\n> Q\nrefused: header", "expected refused"),
    ] {
        let error = run(&format!("{open}{rest}"), &whole).unwrap_err();
        assert!(error.starts_with(expected), "{rest}: {error}");
    }
}
