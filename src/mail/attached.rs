//! A part as a file that came with the message: the fields that rules compare. Inline pictures and attached messages count.
//!
//! Not here: what the bytes are (`content`), hashes (`Part`).

use super::{Message, Part, PartKind};

/// One attached file. Borrows from its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached<'a> {
    /// Index among `Message::parts`.
    pub part: usize,
    /// The name given, path left off; `None` when there is none.
    pub file_name: Option<&'a str>,
    /// After the name's last dot, case as sent.
    pub file_extension: Option<&'a str>,
    /// The declared type, lower case.
    pub content_type: &'a str,
    /// `attachment`, `inline` …, lower case.
    pub content_disposition: Option<&'a str>,
    /// Without brackets.
    pub content_id: Option<&'a str>,
    /// Decoded size in bytes.
    pub size: usize,
}

impl Message {
    /// The files that came with the message, in order.
    pub fn attached(&self) -> impl Iterator<Item = Attached<'_>> {
        let counts = |part: &Part| {
            let referred = part.content_id.is_some() && !matches!(part.kind, PartKind::Plain | PartKind::Html);
            part.kind != PartKind::Multipart && (part.is_attachment() || referred)
        };
        self.parts().iter().enumerate().filter(move |(_, part)| counts(part)).map(|(index, part)| attached(index, part))
    }
}

fn attached(index: usize, part: &Part) -> Attached<'_> {
    let file_name = part.file_name().map(base_name).filter(|name| !name.is_empty());
    Attached {
        part: index,
        file_name,
        file_extension: file_name.and_then(extension),
        content_type: &part.content_type.value,
        content_disposition: part.disposition.as_ref().map(|d| d.value.as_str()).filter(|value| !value.is_empty()),
        content_id: part.content_id.as_deref(),
        size: part.size(),
    }
}

/// What stands behind the last slash of either kind.
fn base_name(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name).trim()
}

fn extension(name: &str) -> Option<&str> {
    let (_, extension) = name.trim_end_matches(['.', ' ']).rsplit_once('.')?;
    (!extension.is_empty() && extension.len() <= 32).then_some(extension)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mail::MessageLimits;

    #[test]
    fn files() {
        let raw = "Content-Type: multipart/mixed; boundary=b\r\n\r\n\
            --b\r\nContent-Type: text/plain\r\n\r\nHello\r\n\
            --b\r\nContent-Type: image/png\r\nContent-ID: <logo@x>\r\nContent-Disposition: inline\r\n\r\nx\r\n\
            --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\ny\r\n\
            --b\r\nContent-Type: application/pdf; name=\"..\\a.b.PDF\"\r\nContent-Disposition: attachment\r\n\r\nxyz\r\n--b--\r\n";
        let message = Message::parse(Bytes::from(raw), &MessageLimits::default());
        let got: Vec<_> =
            message.attached().map(|a| (a.content_type, a.file_name, a.file_extension, a.content_id, a.size)).collect();
        assert_eq!(
            got,
            [
                ("image/png", None, None, Some("logo@x"), 1),
                ("message/rfc822", None, None, None, 15),
                ("application/pdf", Some("a.b.PDF"), Some("PDF"), None, 3),
            ]
        );
    }

    #[test]
    fn extensions() {
        let cases = [
            ("a.txt", Some("txt")),
            ("a.tar.GZ", Some("GZ")),
            ("a", None),
            ("a.", None),
            (".htaccess", Some("htaccess")),
            ("a.exe. ", Some("exe")),
        ];
        for (name, expected) in cases {
            assert_eq!(extension(name), expected, "{name}");
        }
    }
}
