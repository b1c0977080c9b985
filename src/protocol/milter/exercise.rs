//! The check behind the fuzz target and a test: whatever bytes come, each event is answered as often as it is owed.
//!
//! The oracle is a table of its own, not the machine's. Panics when the machine is wrong.

use super::answer::{Decision, Refuse};
use super::command::{smfic, smfir};
use super::frame::write_frame;
use super::negotiate::{Agreement, protocol};
use super::{Event, FrameReader, Limits, Session, Stage};
use crate::mail::Edit;

/// Runs bytes from a peer through a session: as they are, in two pieces, and, cut at each 0xff, as frames.
///
/// # Panics
/// When an event is answered too often or not at all, when an answer is no valid frame, or when the pieces matter.
pub fn exercise(data: &[u8]) {
    let (first, second) = data.split_at(data.len() / 2);
    assert_eq!(run(&[data]), run(&[first, second]), "pieces matter");
    let mut framed = Vec::new();
    for part in data.split(|byte| *byte == 0xff) {
        if let Some((command, rest)) = part.split_first() {
            write_frame(&mut framed, *command, &[rest]);
        }
    }
    run(&[&framed]);
    count_replies(&framed);
}

fn limits() -> Limits {
    // Small, so that a fuzzer finds the edges.
    Limits {
        frame_bytes: 1 << 16,
        message_bytes: 64,
        header_bytes: 40,
        header_count: 4,
        recipients: 2,
        ..Limits::default()
    }
}

/// All that is said to these pieces, and where the session stands after them.
fn run(pieces: &[&[u8]]) -> (Vec<u8>, Stage) {
    let mut session = Session::new(limits());
    let mut out = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        while let Ok(Some(event)) = session.advance(&mut input, &mut out) {
            answer(&mut session, event, &mut out);
        }
    }
    (out, session.stage())
}

fn answer(session: &mut Session, event: Event, out: &mut Vec<u8>) {
    let Event::Message(message, judging) = event else { return };
    let edits = [
        Edit::Prepend { name: "X".into(), value: String::from_utf8_lossy(&message.raw).into_owned() },
        Edit::Remove { name: "X".into(), occurrence: 1 },
    ];
    let text = message.envelope.sender.text.as_str();
    let decision = match message.raw.len() % 4 {
        0 => Decision::Deliver { edits: &edits, without: &[] },
        1 => Decision::Deliver { edits: &edits, without: &[0] },
        2 => Decision::Quarantine { reason: text, edits: &edits },
        _ => Decision::Refuse(Refuse { code: message.raw.len() as u16, enhanced: [5, 0, 0], text }),
    };
    assert!(message.raw.len() <= limits().message_bytes + 2, "beyond the limit");
    session.progress(&judging, out);
    session.answer(judging, &decision, out);
}

/// Feeds frame by frame and counts the replies to each.
fn count_replies(framed: &[u8]) {
    let mut session = Session::new(limits());
    let mut reader = FrameReader::new(usize::MAX);
    let mut rest = framed;
    while let Ok(Some(frame)) = reader.next(&mut rest) {
        let (command, mut bytes) = (frame.command, Vec::new());
        write_frame(&mut bytes, command, &[frame.data]);
        let (mut input, mut out) = (&bytes[..], Vec::new());
        loop {
            match session.advance(&mut input, &mut out) {
                Ok(Some(event)) => answer(&mut session, event, &mut out),
                Ok(None) => break,
                Err(_) => {
                    assert_eq!(replies(&out), 0, "an answer to what broke the protocol");
                    return;
                }
            }
        }
        if session.stage() == Stage::Closed {
            return;
        }
        assert_eq!(replies(&out), owed(command, session.agreement()), "replies to {}", char::from(command));
    }
}

/// How many replies an event is owed.
fn owed(command: u8, agreement: Agreement) -> usize {
    let unless = |bit| usize::from(!agreement.has(bit));
    match command {
        smfic::OPTNEG | smfic::BODYEOB => 1,
        smfic::CONNECT => unless(protocol::NR_CONN),
        smfic::HELO => unless(protocol::NR_HELO),
        smfic::MAIL => unless(protocol::NR_MAIL),
        smfic::RCPT => unless(protocol::NR_RCPT),
        smfic::DATA => unless(protocol::NR_DATA),
        smfic::HEADER => unless(protocol::NR_HDR),
        smfic::EOH => unless(protocol::NR_EOH),
        smfic::BODY => unless(protocol::NR_BODY),
        smfic::UNKNOWN => unless(protocol::NR_UNKN),
        _ => 0,
    }
}

/// Final replies among valid frames; modifications and PROGRESS are none.
fn replies(out: &[u8]) -> usize {
    let mut reader = FrameReader::new(usize::MAX);
    let mut rest = out;
    let mut count = 0;
    while let Ok(Some(frame)) = reader.next(&mut rest) {
        match frame.command {
            smfir::CONTINUE | smfir::DISCARD | smfir::SKIP => {
                assert!(frame.data.is_empty());
                count += 1;
            }
            smfir::REPLYCODE => {
                assert!(matches!(frame.data, [b'4' | b'5', ..]) && frame.data.ends_with(b"\0"));
                count += 1;
            }
            smfic::OPTNEG => count += 1,
            _ => assert_eq!(count, 0, "something after the final reply"),
        }
    }
    assert!(!reader.is_amid(), "half a frame");
    count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Frames that make a session likely, in any order.
    fn part() -> impl Strategy<Value = Vec<u8>> {
        let fixed: Vec<&[u8]> = vec![
            b"C\0U",
            b"Cx\x004\0\x19192.0.2.1\0",
            b"Hx\0",
            b"M<a@b>\0",
            b"R<c@d>\0",
            b"R<e@f>\0X=1\0",
            b"T",
            b"LA\0 b\0",
            b"LA\0\n\n\0",
            b"N",
            b"Bbody\r\n",
            b"B0123456789012345678901234567890123456789012345678901234567890123",
            b"E",
            b"Emore",
            b"A",
            b"K",
            b"DMi\0x\0",
            b"DR{rcpt_mailer}\0error\0",
            b"D",
            b"Ufoo\0",
            b"zfoo",
        ];
        prop_oneof![
            20 => prop::sample::select(fixed).prop_map(<[u8]>::to_vec),
            1 => prop::collection::vec(0u8..=254, 1..20),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_event_is_answered_as_often_as_owed(
            version in 2u8..=7, actions in 0u8..=0xff, protocol in prop::array::uniform3(0u8..=0xfe),
            envelope in prop::bool::ANY, parts in prop::collection::vec(part(), 0..40),
        ) {
            let [high, middle, low] = protocol;
            let mut data = vec![b'O', 0, 0, 0, version, 0, 0, 0, actions.min(0xfe), 0, high & 0x1f, middle, low, 0xff];
            if envelope {
                data.extend_from_slice(b"C\0U\xffM<a@b>\0\xffR<c@d>\0\xff");
            }
            for part in parts {
                data.extend(part);
                data.push(0xff);
            }
            exercise(&data);
        }
    }
}
