//! The filter's answers (`SMFIR_*`): the verdict on a message as frames, cut down to what the MTA offered.
//!
//! Nothing leaves here that an MTA could choke on: reply texts are valid whatever they are made of (right class, the same code on every
//! line, printable, `%` doubled, lines of at most 980 bytes), header values hold no NUL, no CR and no line break that is not
//! followed by white space. What was not offered degrades safely and never lets pass what was to be held. A replaced field
//! gets the name as the edit writes it, in the edit's case: MTAs put it in as given.

use std::borrow::Cow;

use super::Agreement;
use super::command::smfir;
use super::frame::write_frame;
use super::negotiate::action;
use crate::mail::Edit;

/// What is to be done with a message; the words of [`Edit`] for its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Pass it on with these changes, to all recipients but those at these places of the envelope.
    Deliver {
        /// Changes to the header: all of them, or none where the MTA lets none be made.
        edits: &'a [Edit],
        /// Recipients left out. Where the MTA does not let recipients be taken out, the message is deferred.
        without: &'a [usize],
    },
    /// Let the MTA hold it (`SMFIR_QUARANTINE`). Where it has no hold queue, the message is deferred.
    Quarantine {
        /// One line; cut to 100 bytes, as Postfix would.
        reason: &'a str,
        /// Changes to the header.
        edits: &'a [Edit],
    },
    /// Tell the client 250 and pass nothing on: the message is safe elsewhere.
    Discard,
    /// Tell the client no.
    Refuse(Refuse<'a>),
}

/// A refusal. A code that is none becomes 451; an enhanced code of another class is given the class of the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refuse<'a> {
    /// 400 to 599.
    pub code: u16,
    /// Enhanced status code (RFC 3463).
    pub enhanced: [u16; 3],
    /// What the client reads; line breaks make a multi-line reply.
    pub text: &'a str,
}

/// What the MTA was really told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// The final answer.
    pub action: Action,
    /// Whether it is less than was decided, because the MTA did not offer what that needs.
    pub degraded: bool,
}

/// The kinds of final answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The message goes on.
    Deliver,
    /// The MTA holds it.
    Quarantine,
    /// The MTA forgets it and says 250.
    Discard,
    /// 5xx.
    Reject,
    /// 4xx.
    Defer,
}

impl Action {
    /// The word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deliver => "deliver",
            Self::Quarantine => "quarantine",
            Self::Discard => "discard",
            Self::Reject => "reject",
            Self::Defer => "defer",
        }
    }
}

/// Longest line of a reply, in bytes, without its line end.
const REPLY_LINE_BYTES: usize = 980;
/// Most lines of a reply.
const REPLY_LINES: usize = 32;
/// Longest reason of a quarantine, in bytes.
const REASON_BYTES: usize = 100;

/// Said when what was decided cannot be carried out by this MTA.
const NOT_ABLE: Refuse<'static> = Refuse { code: 451, enhanced: [4, 3, 0], text: "Please try again later" };

/// A decision about one message, with what is needed to carry it out.
#[derive(Debug)]
pub(super) struct Verdict<'a> {
    pub(super) agreement: Agreement,
    /// Recipients as the MTA sent them, with their brackets, each ended by NUL.
    pub(super) recipients: &'a [u8],
}

impl Verdict<'_> {
    /// Appends modifications and the one final reply.
    ///
    /// Degrades where the MTA did not offer what is needed: header edits are left out (all of them); a recipient that
    /// cannot be taken out, or a quarantine that is not there, defers the message. If every recipient is to be left out, the
    /// message is discarded, as its copies are safe.
    pub(super) fn write(&self, decision: &Decision<'_>, out: &mut Vec<u8>) -> Said {
        match decision {
            Decision::Deliver { edits, without } => self.deliver(edits, without, out),
            Decision::Quarantine { reason, edits } => {
                if !self.agreement.can(action::QUARANTINE) {
                    return self.not_able(out);
                }
                let degraded = !self.edit(edits, out);
                write_frame(out, smfir::QUARANTINE, &[one_line(reason, REASON_BYTES).as_bytes(), b"\0"]);
                write_frame(out, smfir::CONTINUE, &[]);
                Said { action: Action::Quarantine, degraded }
            }
            Decision::Discard => {
                write_frame(out, smfir::DISCARD, &[]);
                Said { action: Action::Discard, degraded: false }
            }
            Decision::Refuse(refuse) => Said { action: write_refusal(refuse, out), degraded: false },
        }
    }

    fn deliver(&self, edits: &[Edit], without: &[usize], out: &mut Vec<u8>) -> Said {
        if without.is_empty() {
            let degraded = !self.edit(edits, out);
            // CONTINUE, not ACCEPT: other filters have their say, and no MTA can carry it over to the next message.
            write_frame(out, smfir::CONTINUE, &[]);
            return Said { action: Action::Deliver, degraded };
        }
        let recipients: Vec<&[u8]> = self.recipients.split_inclusive(|byte| *byte == 0).collect();
        let mut without = without.to_vec();
        without.sort_unstable();
        without.dedup();
        if without.last().is_some_and(|last| *last >= recipients.len()) {
            return self.not_able(out);
        }
        // A recipient named twice is one to the MTA: taken out once, it is out.
        let held = |place: usize| without.iter().any(|w| recipients[*w] == recipients[place]);
        if (0..recipients.len()).all(held) {
            write_frame(out, smfir::DISCARD, &[]);
            return Said { action: Action::Discard, degraded: false };
        }
        if !self.agreement.can(action::DELRCPT) {
            return self.not_able(out);
        }
        let degraded = !self.edit(edits, out);
        for place in without {
            write_frame(out, smfir::DELRCPT, &[recipients[place]]);
        }
        write_frame(out, smfir::CONTINUE, &[]);
        Said { action: Action::Deliver, degraded }
    }

    fn not_able(&self, out: &mut Vec<u8>) -> Said {
        Said { action: write_refusal(&NOT_ABLE, out), degraded: true }
    }

    /// Appends the changes to the header; false when the MTA lets none (or not all) of them be made, and none is.
    ///
    /// Order: replacements first, then deletions from the highest index down, so that no index shifts under another; insertions
    /// last and in reverse, each to the very top, so that the first in the list ends up topmost.
    fn edit(&self, edits: &[Edit], out: &mut Vec<u8>) -> bool {
        if edits.is_empty() {
            return true;
        }
        let only_new = edits.iter().all(|edit| matches!(edit, Edit::Prepend { .. }));
        if !self.agreement.can(if only_new { action::ADDHDRS } else { action::ADDHDRS | action::CHGHDRS }) {
            return false;
        }
        for edit in edits {
            if let Edit::Replace { name, occurrence, value } = edit {
                self.header(smfir::CHGHEADER, *occurrence, name, Some(value), out);
            }
        }
        let mut removed: Vec<(&str, u32)> = edits
            .iter()
            .filter_map(|edit| match edit {
                Edit::Remove { name, occurrence } => Some((name.as_str(), *occurrence)),
                _ => None,
            })
            .collect();
        removed.sort_by_key(|(_, occurrence)| std::cmp::Reverse(*occurrence));
        // Twice the same deletion would take out the next field of that name as well.
        removed.dedup_by(|a, b| a.1 == b.1 && a.0.eq_ignore_ascii_case(b.0));
        for (place, (name, occurrence)) in removed.iter().enumerate() {
            let again = removed[..place].iter().any(|(n, o)| o == occurrence && n.eq_ignore_ascii_case(name));
            if !again {
                self.header(smfir::CHGHEADER, *occurrence, name, None, out);
            }
        }
        for edit in edits.iter().rev() {
            if let Edit::Prepend { name, value } = edit {
                self.header(smfir::INSHEADER, 0, name, Some(value), out);
            }
        }
        true
    }

    /// One change; a name that is none leaves it out. An empty value would delete the field, so it becomes a space.
    fn header(&self, command: u8, index: u32, name: &str, value: Option<&str>, out: &mut Vec<u8>) {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
            return;
        }
        let clean = value.map(clean_value).unwrap_or_default();
        let spaced = value.is_some() && (self.agreement.keeps_leading_space() || clean.is_empty());
        let space: &[u8] = if spaced { b" " } else { b"" };
        write_frame(out, command, &[&index.to_be_bytes(), name.as_bytes(), b"\0", space, clean.as_bytes(), b"\0"]);
    }
}

/// A header value as milters write it: line breaks are LF and white space; no NUL, no CR, none at the end.
fn clean_value(text: &str) -> Cow<'_, str> {
    let text = text.trim_end();
    let bytes = text.as_bytes();
    let folds = |end: usize| matches!(bytes.get(end + 1), Some(b' ' | b'\t'));
    if memchr::memchr2(0, b'\r', bytes).is_none() && memchr::memchr_iter(b'\n', bytes).all(folds) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().filter(|c| !matches!(c, '\0' | '\r')).peekable();
    while let Some(c) = rest.next() {
        clean.push(c);
        if c == '\n' {
            // A line of nothing but white space would end the header for some readers.
            while rest.next_if(|c| *c == '\n').is_some() {}
            if !matches!(rest.peek(), Some(' ' | '\t')) {
                clean.push(' ');
            }
        }
    }
    Cow::Owned(clean)
}

/// Printable ASCII on one line, cut to so many bytes.
fn one_line(text: &str, bytes: usize) -> String {
    let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.chars().take(bytes).map(printable).collect()
}

/// Appends `SMFIR_REPLYCODE`: `550 5.7.1 text NUL`, or `550-5.7.1 text CRLF 550 5.7.1 text NUL`.
pub(super) fn write_refusal(refuse: &Refuse<'_>, out: &mut Vec<u8>) -> Action {
    let (code, enhanced) = match refuse.code {
        400..=599 => (refuse.code, refuse.enhanced),
        _ => (451, [4, 3, 0]),
    };
    let [_, subject, detail] = enhanced.map(|number| number.min(999));
    let enhanced = format!("{}.{subject}.{detail}", code / 100);
    let lines = reply_lines(refuse.text, REPLY_LINE_BYTES - "550 ".len() - enhanced.len() - 1);
    let mut reply = String::new();
    for (place, line) in lines.iter().enumerate() {
        let last = place + 1 == lines.len();
        let (dash, end) = if last { (' ', "\0") } else { ('-', "\r\n") };
        reply.push_str(&format!("{code}{dash}{enhanced} {line}{end}"));
    }
    write_frame(out, smfir::REPLYCODE, &[reply.as_bytes()]);
    if code < 500 { Action::Defer } else { Action::Reject }
}

/// Lines of printable ASCII with `%` doubled (Sendmail reads the text as a format string), each at most `room` bytes; at least one.
fn reply_lines(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for given in text.lines() {
        let mut line = String::new();
        for c in given.chars() {
            let (c, times) = match c {
                '%' => ('%', 2),
                ' '..='~' => (c, 1),
                _ => ('?', 1),
            };
            if line.len() + times > room {
                lines.push(std::mem::take(&mut line));
            }
            line.extend(std::iter::repeat_n(c, times));
        }
        lines.push(line);
    }
    lines.truncate(REPLY_LINES);
    if lines.is_empty() {
        lines.push(String::new());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::milter::FrameReader;

    fn frames(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut reader = FrameReader::new(1 << 20);
        let mut input = bytes;
        let mut frames = Vec::new();
        while let Some(frame) = reader.next(&mut input).unwrap() {
            frames.push((frame.command, frame.data.to_vec()));
        }
        frames
    }

    fn said(actions: u32, protocol: u32, recipients: &[u8], decision: &Decision<'_>) -> (Said, String) {
        let agreement = Agreement { version: 6, actions, protocol };
        let mut out = Vec::new();
        let said = Verdict { agreement, recipients }.write(decision, &mut out);
        let text = frames(&out)
            .iter()
            .map(|(command, data)| format!("{}{}", char::from(*command), data.escape_ascii()))
            .collect::<Vec<_>>()
            .join(" | ");
        (said, text)
    }

    fn prepend(name: &str, value: &str) -> Edit {
        Edit::Prepend { name: name.into(), value: value.into() }
    }

    fn remove(name: &str, occurrence: u32) -> Edit {
        Edit::Remove { name: name.into(), occurrence }
    }

    const ALL: u32 = 0x1ff;
    const LEADSPC: u32 = 0x10_0000;

    #[test]
    fn edits_in_an_order_that_keeps_indexes_right() {
        let edits = [
            prepend("X-A", "1"),
            remove("dup", 1),
            Edit::Replace { name: "Subject".into(), occurrence: 1, value: "new".into() },
            remove("Dup", 3),
            remove("DUP", 1),
            remove("Other", 1),
            remove("dup", 1),
            prepend("X-B", "2"),
        ];
        let (got, text) = said(ALL, LEADSPC, b"", &Decision::Deliver { edits: &edits, without: &[] });
        assert_eq!(got, Said { action: Action::Deliver, degraded: false });
        let expected = "m\\x00\\x00\\x00\\x01Subject\\x00 new\\x00 | m\\x00\\x00\\x00\\x03Dup\\x00\\x00 \
                        | m\\x00\\x00\\x00\\x01dup\\x00\\x00 | m\\x00\\x00\\x00\\x01Other\\x00\\x00 \
                        | i\\x00\\x00\\x00\\x00X-B\\x00 2\\x00 | i\\x00\\x00\\x00\\x00X-A\\x00 1\\x00 | c";
        assert_eq!(text, expected);
    }

    #[test]
    fn leading_space_as_agreed() {
        let edits = [prepend("X", "v"), Edit::Replace { name: "Y".into(), occurrence: 2, value: String::new() }];
        let (_, with) = said(ALL, LEADSPC, b"", &Decision::Deliver { edits: &edits, without: &[] });
        let (_, without) = said(ALL, 0, b"", &Decision::Deliver { edits: &edits, without: &[] });
        assert_eq!(with, "m\\x00\\x00\\x00\\x02Y\\x00 \\x00 | i\\x00\\x00\\x00\\x00X\\x00 v\\x00 | c");
        assert_eq!(without, "m\\x00\\x00\\x00\\x02Y\\x00 \\x00 | i\\x00\\x00\\x00\\x00X\\x00v\\x00 | c");
    }

    #[test]
    fn what_was_not_offered_degrades_safely() {
        let edits = [prepend("X", "v"), remove("Y", 1)];
        let tempfail = "y451 4.3.0 Please try again later\\x00";
        let two = b"<a@x>\0<b@x>\0";
        let deliver = |without| Decision::Deliver { edits: &edits, without };
        let hold = Decision::Quarantine { reason: "why", edits: &[] };
        let cases: [(u32, &Decision<'_>, Action, bool, &str); 9] = [
            (0, &deliver(&[]), Action::Deliver, true, "c"),
            (action::ADDHDRS, &deliver(&[]), Action::Deliver, true, "c"),
            (0, &Decision::Deliver { edits: &[], without: &[] }, Action::Deliver, false, "c"),
            (0, &Decision::Deliver { edits: &[], without: &[1] }, Action::Defer, true, tempfail),
            (0, &Decision::Deliver { edits: &[], without: &[1, 0] }, Action::Discard, false, "d"),
            (ALL, &Decision::Deliver { edits: &[], without: &[2] }, Action::Defer, true, tempfail),
            (ALL, &Decision::Deliver { edits: &[], without: &[1, 1] }, Action::Deliver, false, "-<b@x>\\x00 | c"),
            (0, &hold, Action::Defer, true, tempfail),
            (ALL, &hold, Action::Quarantine, false, "qwhy\\x00 | c"),
        ];
        for (actions, decision, expected, degraded, frames) in cases {
            let (got, text) = said(actions, 0, two, decision);
            assert_eq!(
                (got.action, got.degraded, text.as_str()),
                (expected, degraded, frames),
                "{actions:x} {decision:?}"
            );
        }
    }

    #[test]
    fn a_recipient_named_twice_is_not_left_in() {
        let twice = b"<a@x>\0<a@x>\0";
        let (got, _) = said(ALL, 0, twice, &Decision::Deliver { edits: &[], without: &[0] });
        assert_eq!(got.action, Action::Discard);
    }

    #[test]
    fn header_values_come_out_clean() {
        let cases = [
            ("plain", "plain"),
            ("a\n\tb", "a\n\tb"),
            ("a\r\n b", "a\n b"),
            ("a\nEvil: b", "a\n Evil: b"),
            ("a\r\rb\0c", "abc"),
            ("a\n\n\nb", "a\n b"),
            ("a\n", "a"),
            ("a\r\n\r\nbody", "a\n body"),
            ("", ""),
        ];
        for (given, expected) in cases {
            assert_eq!(clean_value(given), expected, "{given:?}");
        }
        for name in ["", "A:", "A B", "A\nB", "Ä"] {
            let edits = [prepend(name, "v")];
            assert_eq!(said(ALL, 0, b"", &Decision::Deliver { edits: &edits, without: &[] }).1, "c", "{name:?}");
        }
    }

    #[test]
    fn replies_are_always_valid() {
        let long = "x".repeat(2_000);
        let percents = "%".repeat(1_000);
        let many = "line\n".repeat(100);
        let cases = [
            (550, [5, 7, 1], "no"),
            (451, [5, 7, 1], "class"),
            (250, [2, 0, 0], "ok?"),
            (0, [0, 0, 0], ""),
            (999, [9, 9999, 9999], "odd"),
            (550, [5, 7, 1], "100% sure\r\nRCPT TO:<x>\0\u{7f}é"),
            (550, [5, 7, 1], &long),
            (450, [4, 7, 1], &percents),
            (550, [5, 7, 1], &many),
        ];
        for (code, enhanced, text) in cases {
            let mut out = Vec::new();
            let action = write_refusal(&Refuse { code, enhanced, text }, &mut out);
            let frames = frames(&out);
            let [(smfir::REPLYCODE, data)] = frames.as_slice() else { panic!("{frames:?}") };
            let reply = str::from_utf8(data.strip_suffix(b"\0").unwrap()).unwrap();
            let lines: Vec<&str> = reply.split("\r\n").collect();
            assert!(lines.len() <= REPLY_LINES);
            for (place, line) in lines.iter().enumerate() {
                let dash = if place + 1 == lines.len() { ' ' } else { '-' };
                let (number, rest) = line.split_at(3);
                assert_eq!(number, &lines[0][..3]);
                assert_eq!(action == Action::Reject, number.starts_with('5'));
                assert!(rest.starts_with(&format!("{dash}{}.", &number[..1])), "{line}");
                assert!(line.len() <= REPLY_LINE_BYTES && line.bytes().all(|b| (32..127).contains(&b)), "{line}");
                assert!(!line.replace("%%", "").contains('%'), "{line}");
            }
        }
    }
}
