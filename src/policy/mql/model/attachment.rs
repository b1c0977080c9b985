//! Attachments: parts with file semantics, inline pictures and messages included.

use std::any::Any;

use bytes::Bytes;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::{Value, class};
use crate::content::file_type_name;
use crate::mail::{Encoding, Message, Part};
use crate::policy::mql::value::{Source, Store};

/// Bytes of a file with its name and declared type: what functions on files take.
#[derive(Debug, Clone)]
pub(in crate::policy::mql) struct FileBytes {
    pub(in crate::policy::mql) name: String,
    pub(in crate::policy::mql) declared: String,
    pub(in crate::policy::mql) bytes: Bytes,
}

pub(super) fn attachments<'m>(message: &'m Message, store: &'m Store) -> Value<'m> {
    store.array(message.attachments().map(|(_, part)| {
        let file = store.keep(FileBytes {
            name: part.file_name().unwrap_or_default().to_owned(),
            declared: part.content_type.value.clone(),
            bytes: part.bytes().clone(),
        });
        store.object(class("Attachment"), AttachmentSource { file, part: Some(part) })
    }))
}

/// An attachment, or a file from within one.
pub(in crate::policy::mql) struct AttachmentSource<'m> {
    pub(in crate::policy::mql) file: &'m FileBytes,
    pub(in crate::policy::mql) part: Option<&'m Part>,
}

impl<'m> Source<'m> for AttachmentSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let file = self.file;
        let some = |text: &'m str| if text.is_empty() { Value::Null } else { Value::Text(text) };
        match field {
            "file_type" => Value::Text(file_type_name(&file.bytes, &file.name)),
            "file_extension" => match file.name.rsplit_once('.') {
                Some((_, extension)) if !extension.is_empty() && extension.len() <= 32 => Value::Text(extension),
                _ => Value::Null,
            },
            "file_name" => some(&file.name),
            "content_type" => some(&file.declared),
            "content_disposition" => {
                Value::text_or_null(self.part.and_then(|p| p.disposition.as_ref()).map(|d| d.value.as_str()))
            }
            "content_id" => Value::text_or_null(self.part.and_then(|part| part.content_id.as_deref())),
            "content_transfer_encoding" => match self.part.map(|part| part.encoding) {
                Some(Encoding::Base64) => Value::Text("base64"),
                Some(Encoding::QuotedPrintable) => Value::Text("quoted-printable"),
                Some(Encoding::Identity) => Value::Text("7bit"),
                None => Value::Null,
            },
            "size" => Value::Int(i64::try_from(file.bytes.len()).unwrap_or(i64::MAX)),
            "md5" => Value::Text(store.text(&hex(&Md5::digest(&file.bytes)))),
            "sha1" => Value::Text(store.text(&hex(&Sha1::digest(&file.bytes)))),
            "sha256" => Value::Text(store.text(&match self.part {
                Some(part) => hex(part.sha256()),
                None => hex(&Sha256::digest(&file.bytes)),
            })),
            // The whole file as base64: nothing that a rule should search.
            _ => Value::Null,
        }
    }

    fn as_any(&self) -> Option<&'m dyn Any> {
        Some(self.file)
    }
}

/// Lower-case hexadecimal.
pub(in crate::policy::mql) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
