//! One MIME part: where it stands, what it says it is, its decoded bytes and text (RFC 2045, 2046, 2183).

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Parameters, decode};

/// How a part is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartKind {
    /// Holds other parts.
    Multipart,
    /// Text to show as it is.
    Plain,
    /// HTML to show.
    Html,
    /// A whole message; its bytes can be parsed again.
    Message,
    /// Anything else.
    Other,
}

/// Transfer encodings (RFC 2045, 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// 7bit, 8bit, binary, and what nobody knows.
    Identity,
    /// base64.
    Base64,
    /// quoted-printable.
    QuotedPrintable,
}

/// One part. Ranges are places in the raw message.
#[derive(Debug)]
pub struct Part {
    /// Index of the container, `None` for the message itself.
    pub parent: Option<usize>,
    /// Containers above it.
    pub depth: usize,
    /// How it is treated.
    pub kind: PartKind,
    /// The first `Content-Type`; `text/plain` when there is none.
    pub content_type: Parameters,
    /// Another `Content-Type` that differs, which some reader may prefer.
    pub other_type: Option<Parameters>,
    /// The first `Content-Disposition`.
    pub disposition: Option<Parameters>,
    /// `Content-ID` without brackets.
    pub content_id: Option<String>,
    /// The transfer encoding that was undone.
    pub encoding: Encoding,
    pub(super) fields: Range<usize>,
    pub(super) body: Range<usize>,
    pub(super) bytes: Bytes,
    pub(super) other_bytes: Option<Bytes>,
    pub(super) text: OnceLock<Option<String>>,
    pub(super) sha256: OnceLock<[u8; 32]>,
}

impl Part {
    /// The decoded content; empty for containers.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The content under the other of two contradicting transfer encodings.
    pub fn other_bytes(&self) -> Option<&Bytes> {
        self.other_bytes.as_ref()
    }

    /// Where the undecoded body stands in the raw message.
    pub fn body_range(&self) -> Range<usize> {
        self.body.clone()
    }

    /// The decoded content as text, by the declared charset.
    pub fn text(&self) -> &str {
        let decoded = self.text.get_or_init(|| match str::from_utf8(&self.bytes) {
            Ok(_) if decode::is_utf8(self.charset()) => None,
            Ok(text) if text.is_ascii() && decode::keeps_ascii(self.charset()) => None,
            _ => Some(decode::charset(&self.bytes, self.charset())),
        });
        match decoded {
            Some(text) => text,
            None => str::from_utf8(&self.bytes).unwrap_or_default(),
        }
    }

    /// The charset as declared, empty when it is not.
    pub fn charset(&self) -> &str {
        self.content_type.get("charset").unwrap_or_default()
    }

    /// The name of the file, from `Content-Disposition` or else `Content-Type`.
    pub fn file_name(&self) -> Option<&str> {
        self.file_names().next()
    }

    /// All names given for the file; readers differ in which they take.
    pub fn file_names(&self) -> impl Iterator<Item = &str> {
        let disposition = self.disposition.iter().flat_map(|d| d.all("filename"));
        let types = std::iter::once(&self.content_type).chain(&self.other_type);
        disposition.chain(types.flat_map(|t| t.all("name"))).filter(|name| !name.is_empty())
    }

    /// Whether a reader shows it as (part of) the text of the message.
    pub fn is_body(&self) -> bool {
        let disposition = self.disposition.as_ref().map_or("", |d| d.value.as_str());
        matches!(self.kind, PartKind::Plain | PartKind::Html)
            && disposition != "attachment"
            && (disposition == "inline" || self.file_name().is_none())
    }

    /// Whether a reader offers it as a file, inline images included.
    pub fn is_attachment(&self) -> bool {
        self.kind != PartKind::Multipart && (!self.is_body() || self.file_name().is_some())
    }

    /// SHA-256 of the decoded content.
    pub fn sha256(&self) -> &[u8; 32] {
        self.sha256.get_or_init(|| Sha256::digest(&self.bytes).into())
    }

    /// Size of the decoded content in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Every declared type, the one that was read first.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.content_type).chain(&self.other_type).map(|t| t.value.as_str())
    }

    /// Whether any declared type is this one.
    pub(super) fn is_type(&self, wanted: &str) -> bool {
        self.types().any(|t| t == wanted)
    }

    /// The text under the other of two contradicting encodings.
    pub(super) fn other_text(&self) -> Option<Cow<'_, str>> {
        self.other_bytes.as_ref().map(|bytes| decode::charset(bytes, self.charset()).into())
    }
}
