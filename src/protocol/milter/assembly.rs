//! One message as it comes, event by event, until it is whole.
//!
//! Header fields come unfolded by LF and go back to CRLF; with HDR_LEADSPC the value carries its own white space, without it
//! one space was eaten and is put back. The body comes as CRLF text in pieces cut anywhere, also between CR and LF. What
//! passes a limit is not kept, but the message is still read to its end, where it is refused.

use super::answer::Refuse;
use super::command::smfic;
use super::{Error, Limits};
use crate::mail::{Connection, Envelope, Path};

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The client's connection, as far as the MTA told.
    pub connection: Connection,
    /// Sender and recipients with their parameters.
    pub envelope: Envelope,
    /// Header, empty line, body; CRLF line ends as far as the MTA sent them.
    pub raw: Vec<u8>,
}

/// A message that passed a limit and was refused for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overrun {
    /// More than `message_bytes`.
    Message,
    /// More than `header_bytes` or `header_count`.
    Header,
    /// More than `recipients`, and the MTA did not listen when they were named.
    Recipients,
}

impl Overrun {
    /// A word for metrics.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Header => "header",
            Self::Recipients => "recipients",
        }
    }

    pub(super) fn refusal(self) -> Refuse<'static> {
        match self {
            Self::Message => Refuse { code: 552, enhanced: [5, 3, 4], text: "Message too big" },
            Self::Header => Refuse { code: 552, enhanced: [5, 3, 4], text: "Message header too big" },
            Self::Recipients => Refuse { code: 452, enhanced: [4, 5, 3], text: "Too many recipients" },
        }
    }
}

/// First allocation for a message, in bytes: most are smaller than twice this.
const FIRST_BYTES: usize = 8 << 10;

/// A message that is not whole yet.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    pub(super) envelope: Envelope,
    /// Recipients as sent, brackets and all, each with its NUL: what DELRCPT must name.
    pub(super) recipients: Vec<u8>,
    pub(super) overrun: Option<Overrun>,
    raw: Vec<u8>,
    header_count: usize,
    header_ended: bool,
}

impl Assembly {
    /// Begins with the data of `SMFIC_MAIL`.
    pub(super) fn begin(data: &[u8], limits: &Limits) -> Result<Self, Error> {
        let (sender, _) = path(smfic::MAIL, data, limits)?;
        Ok(Self { envelope: Envelope { sender, recipients: Vec::new() }, ..Self::default() })
    }

    /// Takes the data of `SMFIC_RCPT`; false when it is one too many and was not kept.
    pub(super) fn recipient(&mut self, data: &[u8], limits: &Limits) -> Result<bool, Error> {
        let (path, sent) = path(smfic::RCPT, data, limits)?;
        if self.envelope.recipients.len() >= limits.recipients {
            return Ok(false);
        }
        self.recipients.extend_from_slice(sent);
        self.recipients.push(0);
        self.envelope.recipients.push(path);
        Ok(true)
    }

    /// Takes the data of `SMFIC_HEADER`.
    pub(super) fn header(&mut self, data: &[u8], leading_space: bool, limits: &Limits) -> Result<(), Error> {
        let malformed = |what| Error::Malformed { command: smfic::HEADER, what };
        let (name, rest) = cut(data).ok_or(malformed("no NUL after the name"))?;
        let (value, _) = cut(rest).ok_or(malformed("no NUL after the value"))?;
        self.header_count += 1;
        let length = name.len() + value.len() + if leading_space { 3 } else { 4 };
        if self.header_count > limits.header_count || self.raw.len() + length > limits.header_bytes {
            self.overrun(Overrun::Header);
        }
        if self.overrun.is_some() {
            return Ok(());
        }
        if self.raw.capacity() == 0 {
            self.raw.reserve(FIRST_BYTES.min(limits.message_bytes));
        }
        self.raw.extend_from_slice(name);
        self.raw.extend_from_slice(if leading_space { b":" } else { b": " });
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', value) {
            let line = value[start..end].strip_suffix(b"\r").unwrap_or(&value[start..end]);
            self.raw.extend_from_slice(line);
            self.raw.extend_from_slice(b"\r\n");
            start = end + 1;
        }
        self.raw.extend_from_slice(&value[start..]);
        self.raw.extend_from_slice(b"\r\n");
        if self.raw.len() > limits.header_bytes {
            self.overrun(Overrun::Header);
        } else if self.raw.len() > limits.message_bytes {
            self.overrun(Overrun::Message);
        }
        Ok(())
    }

    /// The header ends, once: told by its event or by the first thing after it.
    pub(super) fn end_header(&mut self) {
        if !std::mem::replace(&mut self.header_ended, true) && self.overrun.is_none() {
            self.raw.extend_from_slice(b"\r\n");
        }
    }

    /// Whether the header has ended.
    pub(super) fn has_ended_header(&self) -> bool {
        self.header_ended
    }

    /// Takes a piece of the body.
    pub(super) fn body(&mut self, piece: &[u8], limits: &Limits) {
        self.end_header();
        if self.raw.len() + piece.len() > limits.message_bytes {
            self.overrun(Overrun::Message);
        }
        if self.overrun.is_none() {
            self.raw.extend_from_slice(piece);
        }
    }

    /// Notes the first limit passed, and gives the memory back: what comes is only counted off.
    pub(super) fn overrun(&mut self, overrun: Overrun) {
        self.overrun.get_or_insert(overrun);
        self.raw = Vec::new();
    }

    /// The message, whole.
    pub(super) fn finish(mut self, connection: Connection) -> (Message, Vec<u8>) {
        self.end_header();
        (Message { connection, envelope: self.envelope, raw: self.raw }, self.recipients)
    }
}

/// Address and parameters, each ended by NUL; and the address as sent.
fn path<'a>(command: u8, data: &'a [u8], limits: &Limits) -> Result<(Path, &'a [u8]), Error> {
    if data.len() > limits.envelope_bytes {
        return Err(Error::Malformed { command, what: "longer than envelope_bytes" });
    }
    let (sent, mut rest) = cut(data).ok_or(Error::Malformed { command, what: "no NUL after the address" })?;
    let inner = sent.strip_prefix(b"<").and_then(|s| s.strip_suffix(b">")).unwrap_or(sent);
    let mut path = Path::new(String::from_utf8_lossy(inner));
    while let Some((param, after)) = cut(rest) {
        if !param.is_empty() {
            path.params.push(String::from_utf8_lossy(param).into_owned());
        }
        rest = after;
    }
    Ok((path, sent))
}

/// What is before the first NUL, and what is after it.
pub(super) fn cut(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, data)?;
    Some((&data[..end], &data[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(leading_space: bool, headers: &[&[u8]], body: &[&[u8]], limits: &Limits) -> Result<Vec<u8>, Overrun> {
        let mut assembly = Assembly::begin(b"<a@b>\0", limits).unwrap();
        for header in headers {
            assembly.header(header, leading_space, limits).unwrap();
        }
        for piece in body {
            assembly.body(piece, limits);
        }
        match assembly.overrun {
            Some(overrun) => Err(overrun),
            None => Ok(assembly.finish(Connection::unknown(crate::mail::Door::Milter)).0.raw),
        }
    }

    #[test]
    fn header_and_body_as_they_were() {
        let limits = Limits::default();
        type Case<'a> = (bool, &'a [&'a [u8]], &'a [&'a [u8]], &'a [u8]);
        let cases: [Case<'_>; 6] = [
            (true, &[b"Subject\0 hi\0"], &[b"text\r\n"], b"Subject: hi\r\n\r\ntext\r\n"),
            (false, &[b"Subject\0hi\0"], &[b"text\r\n"], b"Subject: hi\r\n\r\ntext\r\n"),
            (
                true,
                &[b"A\0  two\0", b"B\0\ttab\n fold\n\tmore\0", b"C\0\0"],
                &[],
                b"A:  two\r\nB:\ttab\r\n fold\r\n\tmore\r\nC:\r\n\r\n",
            ),
            (true, &[b"A\0 a\r\n b\0"], &[], b"A: a\r\n b\r\n\r\n"),
            (true, &[], &[b"a\r", b"\nb"], b"\r\na\r\nb"),
            (true, &[b"A\0 \xff\xfe\0"], &[b"\0\xff"], b"A: \xff\xfe\r\n\r\n\0\xff"),
        ];
        for (leading_space, headers, body, expected) in cases {
            let got = raw(leading_space, headers, body, &limits).unwrap();
            assert_eq!(got.escape_ascii().to_string(), expected.escape_ascii().to_string());
        }
    }

    #[test]
    fn limits_at_the_edge() {
        let small = Limits { message_bytes: 20, header_bytes: 16, header_count: 2, ..Limits::default() };
        // `A: b` with its line end is 6 bytes, the empty line 2.
        assert!(raw(true, &[b"A\0 b\0"], &[b"123456789012"], &small).is_ok());
        assert_eq!(raw(true, &[b"A\0 b\0"], &[b"1234567890123"], &small), Err(Overrun::Message));
        assert_eq!(raw(true, &[b"A\0 b\0"], &[b"123456789012", b"3"], &small), Err(Overrun::Message));
        assert!(raw(true, &[b"A\0 2345678901b\0"], &[], &small).is_ok());
        assert_eq!(raw(true, &[b"A\0 2345678901bc\0"], &[], &small), Err(Overrun::Header));
        assert_eq!(raw(true, &[b"A\0\n\n\n\n\n\n\n\0"], &[], &small), Err(Overrun::Header));
        assert_eq!(raw(true, &[b"A\0\0", b"B\0\0", b"C\0\0"], &[b"x"], &small), Err(Overrun::Header));
    }

    #[test]
    fn paths() {
        let limits = Limits { envelope_bytes: 40, ..Limits::default() };
        type Case<'a> = (&'a [u8], Option<(&'a str, &'a [&'a str])>);
        let cases: [Case<'_>; 7] = [
            (b"<a@b>\0", Some(("a@b", &[]))),
            (b"<>\0SIZE=10\0BODY=8BITMIME\0", Some(("", &["SIZE=10", "BODY=8BITMIME"]))),
            (b"a@b\0\0", Some(("a@b", &[]))),
            (b"<a@b>\0X=unended", Some(("a@b", &[]))),
            (b"\0", Some(("", &[]))),
            (b"<a@b>", None),
            (b"<aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@b>\0", None),
        ];
        for (data, expected) in cases {
            let got = path(smfic::MAIL, data, &limits).ok();
            let got = got.as_ref().map(|(p, _)| (p.text.clone(), p.params.clone()));
            let expected = expected.map(|(t, p)| (t.to_owned(), p.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()));
            assert_eq!(got, expected, "{data:?}");
        }
    }
}
