//! Replies (RFC 5321, 4.2; enhanced codes RFC 2034 and 3463): written so that they are always valid, read with bounds.
//!
//! Text from elsewhere is untrusted: control characters and non-ASCII become `?`, lines are cut at 450 bytes, at most 64 lines.
//! Reading fails on anything that is no reply; the connection is then unusable. Not here: which reply is due when.

use std::borrow::Cow;

use bytes::{Buf, BytesMut};

const MAX_LINE_BYTES: usize = 450;
const MAX_LINES: usize = 64;

/// One reply; the text of several lines is separated by LF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// Enhanced status code; its class equals the first digit of `code`.
    pub enhanced: Option<[u16; 3]>,
    /// Text without codes.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// A reply of fixed words.
    pub const fn new(code: u16, enhanced: [u16; 3], text: &'static str) -> Self {
        Self { code, enhanced: Some(enhanced), text: Cow::Borrowed(text) }
    }

    /// A reply of composed words.
    pub fn composed(code: u16, enhanced: Option<[u16; 3]>, text: String) -> Self {
        Self { code, enhanced, text: Cow::Owned(text) }
    }

    /// 2xx.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 4xx.
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5xx.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// The same reply with an enhanced code: its own, or `fallback` behind the class.
    pub fn with_enhanced(mut self, fallback: [u16; 2]) -> Self {
        if self.enhanced.is_none() && matches!(self.code / 100, 2 | 4 | 5) {
            self.enhanced = Some([self.code / 100, fallback[0], fallback[1]]);
        }
        self
    }

    /// Appends the reply as it goes over the wire; whatever the fields hold, the result is one valid reply.
    pub fn write(&self, out: &mut Vec<u8>) {
        // A code out of range would desynchronise the client: treat it as our own failure.
        let (code, enhanced) = match self.code {
            200..=599 => (self.code, self.enhanced.filter(|e| e[0] == self.code / 100 && e[1] < 1000 && e[2] < 1000)),
            _ => (451, Some([4, 3, 0])),
        };
        let mut lines = self.text.split('\n').take(MAX_LINES).peekable();
        while let Some(line) = lines.next() {
            let mark = if lines.peek().is_some() { '-' } else { ' ' };
            out.extend_from_slice(format_code(code).as_slice());
            out.push(mark as u8);
            if let Some([class, subject, detail]) = enhanced {
                out.extend_from_slice(format!("{class}.{subject}.{detail} ").as_bytes());
            }
            out.extend(line.bytes().take(MAX_LINE_BYTES).filter(|b| *b != b'\r').map(|b| match b {
                b'\t' => b' ',
                b' '..=b'~' => b,
                _ => b'?',
            }));
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn format_code(code: u16) -> [u8; 3] {
    [b'0' + (code / 100) as u8, b'0' + (code / 10 % 10) as u8, b'0' + (code % 10) as u8]
}

/// Bytes that are no reply. The conversation cannot go on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReplyError {
    /// A line of more than 2,048 bytes.
    #[error("a reply line is too long")]
    LineTooLong,
    /// More than 128 lines.
    #[error("a reply has too many lines")]
    TooManyLines,
    /// Not `ddd`, then space, hyphen or the line's end; or the lines disagree about the code; or a control character.
    #[error("not an SMTP reply")]
    Malformed,
}

/// Reads replies of a next hop, across reads at any place.
#[derive(Debug, Default)]
pub struct ReplyReader {
    code: Option<u16>,
    text: String,
    lines: usize,
}

impl ReplyReader {
    /// The next whole reply, taken off the front of `input`; `None` when more bytes are needed.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Reply>, ReplyError> {
        loop {
            let Some(end) = memchr::memchr(b'\n', input) else {
                return if input.len() > 2048 { Err(ReplyError::LineTooLong) } else { Ok(None) };
            };
            if end > 2048 {
                return Err(ReplyError::LineTooLong);
            }
            let last = {
                let line = input[..end].strip_suffix(b"\r").ok_or(ReplyError::Malformed)?;
                self.line(line)?
            };
            input.advance(end + 1);
            if last {
                return Ok(Some(self.finish()));
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<bool, ReplyError> {
        let (digits, rest) = line.split_at_checked(3).ok_or(ReplyError::Malformed)?;
        if !digits.iter().all(u8::is_ascii_digit) || !(b'2'..=b'5').contains(&digits[0]) {
            return Err(ReplyError::Malformed);
        }
        let code = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        if self.code.is_some_and(|first| first != code) || memchr::memchr2(b'\r', 0, rest).is_some() {
            return Err(ReplyError::Malformed);
        }
        let (last, text) = match rest {
            [] => (true, rest),
            [b' ', text @ ..] => (true, text),
            [b'-', text @ ..] => (false, text),
            _ => return Err(ReplyError::Malformed),
        };
        self.lines += 1;
        if self.lines > 128 {
            return Err(ReplyError::TooManyLines);
        }
        if self.code.replace(code).is_some() {
            self.text.push('\n');
        }
        self.text.push_str(&String::from_utf8_lossy(text));
        Ok(last)
    }

    fn finish(&mut self) -> Reply {
        let code = self.code.take().unwrap_or(451);
        let text = std::mem::take(&mut self.text);
        self.lines = 0;
        let Some((enhanced, _)) = split_enhanced(&text, code) else { return Reply::composed(code, None, text) };
        let without: Vec<&str> =
            text.split('\n').map(|line| split_enhanced(line, code).map_or(line, |(_, rest)| rest)).collect();
        Reply::composed(code, Some(enhanced), without.join("\n"))
    }
}

/// `5.7.1 text` of the right class, in its parts.
fn split_enhanced(line: &str, code: u16) -> Option<([u16; 3], &str)> {
    let (head, rest) = line.split_once([' ', '\n']).unwrap_or((line, ""));
    let mut parts = head.splitn(3, '.').map(|part| {
        (part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<u16>().ok()).flatten()
    });
    let enhanced = [parts.next()??, parts.next()??, parts.next()??];
    (enhanced[0] == code / 100).then_some((enhanced, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn always_valid() {
        let cases = [
            (Reply::new(250, [2, 0, 0], "Ok"), "250 2.0.0 Ok\r\n"),
            (Reply::composed(250, None, "a\nSIZE 10\nDSN".into()), "250-a\r\n250-SIZE 10\r\n250 DSN\r\n"),
            (Reply::composed(550, Some([4, 1, 1]), "no".into()), "550 no\r\n"),
            (Reply::composed(99, Some([2, 0, 0]), "x".into()), "451 4.3.0 x\r\n"),
            (
                Reply::composed(550, Some([5, 7, 1]), "a\r\nb\0c\u{e9}\x1b[1m".into()),
                "550-5.7.1 a\r\n550 5.7.1 b?c???[1m\r\n",
            ),
        ];
        for (reply, expected) in cases {
            assert_eq!(written(&reply), expected);
        }
        let long = written(&Reply::composed(550, Some([5, 7, 999]), "x".repeat(9000)));
        assert!(long.len() <= 512 && long.ends_with("x\r\n"));
        assert_eq!(written(&Reply::composed(250, None, "a\n".repeat(500))).lines().count(), MAX_LINES);
    }

    fn read(text: &[u8], step: usize) -> Result<Vec<Reply>, ReplyError> {
        let (mut reader, mut input, mut out) = (ReplyReader::default(), BytesMut::new(), Vec::new());
        for piece in text.chunks(step) {
            input.extend_from_slice(piece);
            while let Some(reply) = reader.next(&mut input)? {
                out.push(reply);
            }
        }
        Ok(out)
    }

    #[test]
    fn reads_at_every_split() {
        let text = b"220 host ready\r\n250-host\r\n250-SIZE 1\r\n250 DSN\r\n550-5.1.1 no\r\n550 5.1.1 such\r\n354\r\n450 4 x\r\n";
        for step in 1..text.len() {
            let replies = read(text, step).unwrap();
            assert_eq!(replies.len(), 5, "by {step}");
            assert_eq!(replies[1].text, "host\nSIZE 1\nDSN");
            assert_eq!((replies[2].enhanced, replies[2].text.as_ref()), (Some([5, 1, 1]), "no\nsuch"));
            assert_eq!((replies[3].code, replies[3].text.as_ref()), (354, ""));
            assert_eq!(replies[4].enhanced, None);
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in
            ["hello\r\n", "25 x\r\n", "250x\r\n", "250-a\r\n251 b\r\n", "250 a\n", "650 a\r\n", "250 a\rb\r\n", "\r\n"]
        {
            assert_eq!(read(text.as_bytes(), 1), Err(ReplyError::Malformed), "{text:?}");
        }
        assert_eq!(read(&[b'2'; 3000], 100), Err(ReplyError::LineTooLong));
        assert_eq!(read("250-a\r\n".repeat(200).as_bytes(), 100), Err(ReplyError::TooManyLines));
    }
}
