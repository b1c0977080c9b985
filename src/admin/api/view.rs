//! What a held message looks like, as harmless text: headers, text, names of attachments. Bounded by `http.view_bytes`.

use axum::body::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use crate::mail::{Message, MessageLimits};
use crate::mail::{clean, defang};

/// Longest value of one header, and longest name of an attachment shown, in bytes.
const VALUE_BYTES: usize = 4_096;

/// A message as harmless text.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct MessageView {
    /// Header fields in order, decoded and defanged.
    headers: Vec<HeaderView>,
    /// Whether headers are missing above or values were cut.
    headers_cut: bool,
    /// The text a reader sees (of the HTML when there is any), defanged.
    text: String,
    /// Whether the text was cut.
    text_cut: bool,
    /// What a reader would offer as files.
    attachments: Vec<AttachmentView>,
}

/// One header field.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct HeaderView {
    name: String,
    value: String,
}

/// One attachment.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct AttachmentView {
    /// Name of the file as the message gives it.
    name: Option<String>,
    /// Declared media type.
    #[serde(rename = "type")]
    kind: String,
    /// Bytes, decoded.
    size: usize,
    /// Of the decoded content, hexadecimal.
    sha256: String,
}

/// Takes a message apart for viewing. Never fails; works for tens of milliseconds on large messages.
pub(super) fn view(raw: Bytes, view_bytes: usize) -> MessageView {
    let message = Message::parse(raw, &MessageLimits::default());
    let mut headers = Vec::new();
    let (mut left, mut headers_cut) = (view_bytes, false);
    for field in message.headers() {
        let value = field.text();
        let (shown, cut) = head(&value, VALUE_BYTES);
        headers_cut |= cut;
        let size = field.name.len() + shown.len();
        if size > left {
            headers_cut = true;
            break;
        }
        left -= size;
        headers.push(HeaderView { name: field.name.to_owned(), value: line(&defang(shown)) });
    }
    let (text, text_cut) = head(message.text(), view_bytes);
    let attachments = message.attachments().map(|(_, part)| AttachmentView {
        name: part.file_name().map(|name| line(&clean(head(name, VALUE_BYTES).0))),
        kind: line(&clean(head(&part.content_type.value, VALUE_BYTES).0)),
        size: part.size(),
        sha256: part.sha256().iter().map(|byte| format!("{byte:02x}")).collect(),
    });
    MessageView { headers, headers_cut, text: defang(text), text_cut, attachments: attachments.collect() }
}

/// The first bytes of a text, whole characters; whether that is less than all.
fn head(text: &str, bytes: usize) -> (&str, bool) {
    (&text[..text.floor_char_boundary(bytes)], text.len() > bytes)
}

/// Text on one line.
fn line(text: &str) -> String {
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_text_and_files() {
        let raw = "From: =?utf-8?q?Bank_=1B[31m?= <x@bank.example>\r\nSubject: see\r\n https://evil.com/\r\n\
            Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n\
            <p>Pay at <a href='https://evil.com/x'>https://bank.com</a></p><script>alert(1)</script>\r\n--b\r\n\
            Content-Type: application/zip\r\nContent-Disposition: attachment; filename*=utf-8''a%E2%80%AEpiz.exe\r\n\r\n\
            PK\r\n--b--\r\n";
        let view = view(Bytes::from_static(raw.as_bytes()), 10_000);
        let shown: Vec<_> = view.headers.iter().map(|h| (h.name.as_str(), h.value.as_str())).collect();
        assert_eq!(shown[1], ("Subject", "see hxxps://evil[.]com/"));
        assert!(shown[0].1.contains("x@bank[.]example") && !shown[0].1.contains('\u{1b}'), "{shown:?}");
        assert_eq!(view.text.trim(), "Pay at hxxps://bank[.]com");
        let [file] = &view.attachments[..] else { panic!("{:?}", view.attachments) };
        assert_eq!((file.name.as_deref(), file.kind.as_str(), file.size), (Some("apiz.exe"), "application/zip", 2));
        assert!(file.sha256.len() == 64 && !view.headers_cut && !view.text_cut);
    }

    #[test]
    fn cut_at_the_limit() {
        let long = format!("Subject: {}\r\nTo: a\r\n\r\n{}", "é".repeat(3_000), "ü".repeat(600));
        let view = view(long.into(), 1_001);
        assert!(view.headers_cut && view.headers.is_empty());
        assert_eq!((view.text.len(), view.text_cut), (1_000, true));
    }
}
