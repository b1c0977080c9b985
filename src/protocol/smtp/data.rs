//! Message content on the wire: framing on the way in, dot-stuffing on the way out (RFC 5321, 4.5.2).
//!
//! `CRLF . CRLF` ends data and nothing else does. A bare CR, bare LF or NUL is found in the byte stream before any decoding:
//! the message is then read to its end and refused, or (bare CR and LF only) normalised, so that no other hop can see
//! another end of data than we did. No decision is taken before the bytes it needs are there: what is undecided (at most two bytes)
//! stays in the caller's buffer, so that the place of a read never matters. Limits: bytes of the message, bytes of a line.

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::{memchr2, memchr3};

/// What to do with a bare CR or bare LF in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BareNewline {
    /// Refuse the message with 550 once it has been read.
    #[default]
    Reject,
    /// A bare LF becomes CRLF, a bare CR a space, a line of a lone dot next to a bare LF is left out.
    Normalize,
}

/// One thing found in the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Finding {
    /// A CR that no LF follows.
    BareCr = 1,
    /// A LF that follows no CR.
    BareLf = 2,
    /// A NUL.
    Nul = 4,
    /// The message exceeds its limit.
    TooBig = 8,
    /// A line exceeds its limit.
    LineTooLong = 16,
}

/// A set of [`Finding`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Findings(u8);

impl Findings {
    /// Whether something was found.
    pub fn has(self, finding: Finding) -> bool {
        self.0 & finding as u8 != 0
    }

    /// Whether nothing was found.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn add(&mut self, finding: Finding) {
        self.0 |= finding as u8;
    }
}

/// Takes the content off the wire.
#[derive(Debug)]
pub struct DataFramer {
    policy: BareNewline,
    max_bytes: u64,
    max_line_bytes: usize,
    body: BytesMut,
    findings: Findings,
    /// The content is not kept any more: it will be refused.
    dropped: bool,
    /// At the first byte of a line.
    line_start: bool,
    /// The line before ended in CRLF (not in a bare LF).
    after_crlf: bool,
    /// A chunk (BDAT) ended in CR.
    pending_cr: bool,
    line_bytes: usize,
    received: u64,
}

impl DataFramer {
    /// A framer for one message of at most `max_bytes` with lines of at most `max_line_bytes`.
    pub fn new(policy: BareNewline, max_bytes: u64, max_line_bytes: usize) -> Self {
        Self {
            policy,
            max_bytes,
            max_line_bytes,
            body: BytesMut::new(),
            findings: Findings::default(),
            dropped: false,
            line_start: true,
            after_crlf: true,
            pending_cr: false,
            line_bytes: 0,
            received: 0,
        }
    }

    /// Takes what is there off the front of `input`; `true` once `CRLF . CRLF` has been consumed.
    pub fn receive(&mut self, input: &mut BytesMut) -> bool {
        let (consumed, done) = self.scan(input);
        self.received += consumed as u64;
        input.advance(consumed);
        done
    }

    /// Takes octets of a BDAT chunk: dots mean nothing there.
    pub fn receive_chunk(&mut self, mut octets: &[u8]) {
        self.received += octets.len() as u64;
        if self.pending_cr && !octets.is_empty() {
            self.pending_cr = false;
            if octets[0] == b'\n' {
                self.keep(b"\r\n");
                self.line_bytes = 0;
                octets = &octets[1..];
            } else {
                self.stray_cr();
            }
        }
        let (mut run, mut at) = (0, 0);
        while let Some(place) = memchr3(b'\r', b'\n', 0, &octets[at..]).map(|place| at + place) {
            match octets[place] {
                b'\r' if octets.get(place + 1) == Some(&b'\n') => {
                    self.line_ends(place - at);
                    at = place + 2;
                    continue;
                }
                b'\r' if place + 1 == octets.len() => {
                    self.keep(&octets[run..place]);
                    self.pending_cr = true;
                    return;
                }
                _ => {}
            }
            self.keep(&octets[run..place]);
            self.odd(octets[place]);
            at = place + 1;
            run = at;
        }
        self.line_bytes += octets.len() - at;
        self.keep(&octets[run..]);
        self.check_line();
    }

    /// Nothing of this message needs to be kept: it will be refused when its end has come.
    pub fn drop_content(&mut self) {
        self.dropped = true;
        self.body = BytesMut::new();
    }

    /// Octets of content kept so far.
    pub fn kept_bytes(&self) -> usize {
        self.body.len()
    }

    /// Octets taken off the wire so far.
    pub fn received_bytes(&self) -> u64 {
        self.received
    }

    /// The message (CRLF line ends, no dot-stuffing, no final dot) and what was found; the message is empty when it is to be refused.
    pub fn finish(mut self) -> (Bytes, Findings) {
        if self.pending_cr {
            self.stray_cr();
        }
        (self.body.freeze(), self.findings)
    }

    /// How far the bytes are decided, and whether data ended there.
    fn scan(&mut self, input: &[u8]) -> (usize, bool) {
        let mut at = 0;
        loop {
            if self.line_start {
                match &input[at..] {
                    [] | [b'.'] | [b'.', b'\r'] => return (at, false),
                    [b'.', b'\r', b'\n', ..] if self.after_crlf => return (at + 3, true),
                    // A lone dot next to a bare LF: another hop could take it for the end of data. Not kept.
                    [b'.', b'\r', b'\n', ..] => {
                        self.after_crlf = true;
                        at += 3;
                        continue;
                    }
                    [b'.', b'\n', ..] => {
                        self.found(Finding::BareLf);
                        self.after_crlf = false;
                        at += 2;
                        continue;
                    }
                    [b'.', ..] => at += 1,
                    _ => {}
                }
                self.line_start = false;
                self.line_bytes = 0;
            }
            match self.lines(input, at) {
                (consumed, true) => at = consumed,
                (consumed, false) => return (consumed, false),
            }
        }
    }

    /// Takes lines up to one that starts with a dot, or that ended oddly; `true` when there may be more to take.
    fn lines(&mut self, input: &[u8], from: usize) -> (usize, bool) {
        let (run, mut at) = (from, from);
        loop {
            let Some(place) = memchr3(b'\r', b'\n', 0, &input[at..]).map(|place| at + place) else {
                self.line_bytes += input.len() - at;
                self.keep(&input[run..]);
                self.check_line();
                return (input.len(), false);
            };
            match (input[place], input.get(place + 1)) {
                (b'\r', Some(b'\n')) => {
                    self.line_ends(place - at);
                    at = place + 2;
                    if input.get(at).is_some_and(|next| *next != b'.') {
                        continue;
                    }
                    self.keep(&input[run..at]);
                    self.line_start = true;
                    self.after_crlf = true;
                    return (at, true);
                }
                (b'\r', None) => {
                    self.line_bytes += place - at;
                    self.keep(&input[run..place]);
                    return (place, false);
                }
                (odd, _) => {
                    self.line_bytes += place - at;
                    self.keep(&input[run..place]);
                    self.odd(odd);
                    if odd == b'\n' {
                        self.line_start = true;
                        self.after_crlf = false;
                    }
                    return (place + 1, true);
                }
            }
        }
    }

    fn odd(&mut self, byte: u8) {
        match byte {
            b'\r' => self.stray_cr(),
            b'\n' => {
                self.found(Finding::BareLf);
                self.keep(b"\r\n");
                self.line_bytes = 0;
            }
            _ => self.found(Finding::Nul),
        }
    }

    fn stray_cr(&mut self) {
        self.found(Finding::BareCr);
        self.keep(b" ");
    }

    fn line_ends(&mut self, bytes: usize) {
        self.line_bytes += bytes;
        self.check_line();
        self.line_bytes = 0;
    }

    fn check_line(&mut self) {
        if self.line_bytes > self.max_line_bytes {
            self.found(Finding::LineTooLong);
        }
    }

    fn found(&mut self, finding: Finding) {
        self.findings.add(finding);
        let mended = matches!(finding, Finding::BareCr | Finding::BareLf) && self.policy == BareNewline::Normalize;
        if !mended {
            self.drop_content();
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.dropped {
            return;
        }
        if (self.body.len() + bytes.len()) as u64 > self.max_bytes {
            return self.found(Finding::TooBig);
        }
        self.body.extend_from_slice(bytes);
    }
}

/// Writes content for the wire: leading dots doubled, line ends CRLF and nothing else, a final CRLF, then the dot.
#[derive(Debug)]
pub struct DotStuffer {
    line_start: bool,
    pending_cr: bool,
}

impl Default for DotStuffer {
    fn default() -> Self {
        Self { line_start: true, pending_cr: false }
    }
}

impl DotStuffer {
    /// Appends one piece of content to `out`. Pieces may be cut anywhere.
    pub fn write(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        if self.pending_cr && !piece.is_empty() {
            self.pending_cr = false;
            if piece[0] == b'\n' {
                piece = &piece[1..];
                out.extend_from_slice(b"\r\n");
                self.line_start = true;
            } else {
                out.push(b' ');
                self.line_start = false;
            }
        }
        out.reserve(piece.len() + 16);
        let (mut run, mut at) = (0, 0);
        while at < piece.len() {
            if self.line_start && piece[at] == b'.' {
                out.extend_from_slice(&piece[run..at]);
                out.push(b'.');
                run = at;
            }
            self.line_start = false;
            let Some(place) = memchr2(b'\r', b'\n', &piece[at..]).map(|place| at + place) else { break };
            match (piece[place], piece.get(place + 1)) {
                (b'\r', Some(b'\n')) => {
                    at = place + 2;
                    self.line_start = true;
                }
                // Never sent on as they are: the next hop could see another end of data.
                (b'\r', next) => {
                    out.extend_from_slice(&piece[run..place]);
                    self.pending_cr = next.is_none();
                    if !self.pending_cr {
                        out.push(b' ');
                    }
                    at = place + 1;
                    run = at;
                }
                _ => {
                    out.extend_from_slice(&piece[run..place]);
                    out.extend_from_slice(b"\r\n");
                    at = place + 1;
                    run = at;
                    self.line_start = true;
                }
            }
        }
        out.extend_from_slice(&piece[run..]);
    }

    /// Ends the content: the line's end if it lacks, then `. CRLF`.
    pub fn finish(self, out: &mut Vec<u8>) {
        if self.pending_cr {
            out.extend_from_slice(b" \r\n");
        } else if !self.line_start {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
