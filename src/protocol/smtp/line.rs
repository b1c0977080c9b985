//! Command lines, strictly: `CRLF` ends a line, nothing else does (RFC 5321, 2.3.8).
//!
//! A bare LF, a bare CR or a NUL spoils the line. Too long a line is skipped to its end and reported once. The buffer is the
//! driver's: what is not consumed stays there. Not here: what a line means (`command`), message content (`data`).

use bytes::{Buf, Bytes, BytesMut};

/// What the reader found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A whole line without its CRLF: no CR, LF or NUL inside.
    Whole(Bytes),
    /// A line longer than the limit; it has been skipped to its end.
    TooLong,
    /// A line with a bare LF: where it ends for the sender cannot be known.
    BareLf,
    /// A line with a CR that no LF follows.
    BareCr,
    /// A line with a NUL.
    Nul,
}

/// Cuts lines from a buffer, across reads at any place.
#[derive(Debug)]
pub struct LineReader {
    max_bytes: usize,
    skipping: bool,
    /// Bytes of the buffer already searched in vain.
    searched: usize,
}

impl LineReader {
    /// A reader for lines of at most `max_bytes`, CRLF included.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, skipping: false, searched: 0 }
    }

    /// The next line, taken off the front of `input`; `None` when more bytes are needed.
    pub fn next(&mut self, input: &mut BytesMut) -> Option<Line> {
        // The buffer may have been cleared meanwhile (STARTTLS).
        let from = self.searched.min(input.len());
        let Some(end) = memchr::memchr(b'\n', &input[from..]).map(|place| from + place) else {
            return self.unfinished(input);
        };
        self.searched = 0;
        let whole = end > 0 && input[end - 1] == b'\r';
        let skipped = std::mem::take(&mut self.skipping);
        if skipped || end + 1 > self.max_bytes {
            input.advance(end + 1);
            return Some(if whole { Line::TooLong } else { Line::BareLf });
        }
        if !whole {
            input.advance(end + 1);
            return Some(Line::BareLf);
        }
        let line = input.split_to(end + 1).freeze().slice(..end - 1);
        Some(match memchr::memchr2(b'\r', 0, &line) {
            None => Line::Whole(line),
            Some(place) if line[place] == 0 => Line::Nul,
            Some(_) => Line::BareCr,
        })
    }

    /// Forgets a half-read line, as after STARTTLS.
    pub fn clear(&mut self) {
        self.skipping = false;
        self.searched = 0;
    }

    fn unfinished(&mut self, input: &mut BytesMut) -> Option<Line> {
        if self.skipping || input.len() >= self.max_bytes {
            self.skipping = true;
            // A CR at the end may belong to the CRLF that is to come.
            let keep = usize::from(input.last() == Some(&b'\r'));
            input.advance(input.len() - keep);
        }
        self.searched = input.len();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8], step: usize) -> Vec<Line> {
        let mut reader = LineReader::new(16);
        let mut input = BytesMut::new();
        let mut out = Vec::new();
        for piece in text.chunks(step) {
            input.extend_from_slice(piece);
            while let Some(line) = reader.next(&mut input) {
                out.push(line);
            }
        }
        out
    }

    #[test]
    fn only_crlf_ends_a_line() {
        let whole = |text: &'static str| Line::Whole(Bytes::from_static(text.as_bytes()));
        let cases: [(&[u8], Vec<Line>); 8] = [
            (b"NOOP\r\nQUIT\r\n", vec![whole("NOOP"), whole("QUIT")]),
            (b"\r\n", vec![whole("")]),
            (b"NOOP\nQUIT\r\n", vec![Line::BareLf, whole("QUIT")]),
            (b"A\rB\r\n", vec![Line::BareCr]),
            (b"A\r\r\n", vec![Line::BareCr]),
            (b"A\0B\r\n", vec![Line::Nul]),
            (b"12345678901234\r\n123456789012345\r\nX\r\n", vec![whole("12345678901234"), Line::TooLong, whole("X")]),
            (b"1234567890123456789012345678901234567890\r\nX\r\n", vec![Line::TooLong, whole("X")]),
        ];
        for (text, expected) in cases {
            for step in 1..=text.len() {
                assert_eq!(lines(text, step), expected, "{:?} by {step}", text.escape_ascii().to_string());
            }
        }
    }
}
