//! A part while it is read: what its header says about type, encoding and disposition, then its decoding.

use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;

use super::decode::{self, Decoded};
use super::finding::{FindingKind, Findings};
use super::header::Field;
use super::{Encoding, Parameters, Part, PartKind};

/// What is known of a part before its end is found.
pub(super) struct Draft {
    pub(super) parent: Option<usize>,
    pub(super) depth: usize,
    pub(super) fields: Range<usize>,
    pub(super) body: Range<usize>,
    pub(super) kind: PartKind,
    pub(super) content_type: Parameters,
    other_type: Option<Parameters>,
    disposition: Option<Parameters>,
    content_id: Option<String>,
    encoding: Encoding,
    other_encoding: Option<Encoding>,
}

impl Draft {
    pub(super) fn new<'a>(
        fields: impl Iterator<Item = Field<'a>>,
        in_digest: bool,
        part: usize,
        findings: &mut Findings,
    ) -> Self {
        let (mut types, mut encodings) = (Vec::new(), Vec::new());
        let (mut disposition, mut content_id) = (None, None);
        for field in fields {
            // Nearly all fields are other ones.
            let name = field.name.as_bytes();
            if name.len() < 10 || !name[..8].eq_ignore_ascii_case(b"content-") {
                continue;
            }
            if field.is("Content-Type") && types.len() < 8 {
                types.push(Parameters::parse(field.raw));
            } else if field.is("Content-Transfer-Encoding") && encodings.len() < 8 {
                encodings.push(encoding(&field.unfolded(), part, findings));
            } else if field.is("Content-Disposition") && disposition.is_none() {
                disposition = Some(Parameters::parse(field.raw));
            } else if field.is("Content-ID") && content_id.is_none() {
                content_id = Some(field.unfolded().trim_matches(['<', '>', ' ']).to_owned());
            }
        }
        let mut types = types.into_iter();
        let content_type = types.next().unwrap_or_else(|| default_type(in_digest));
        let other_type = types.rfind(|other| *other != content_type);
        if other_type.is_some() {
            findings.add(FindingKind::SeveralContentTypes, part);
        }
        let encoding = encodings.first().copied().unwrap_or(Encoding::Identity);
        let other_encoding = encodings.into_iter().rfind(|other| *other != encoding);
        if other_encoding.is_some() {
            findings.add(FindingKind::SeveralEncodings, part);
        }
        let kind = kind(std::iter::once(&content_type).chain(&other_type).map(|t| t.value.as_str()));
        if kind == PartKind::Multipart && encoding != Encoding::Identity {
            findings.add(FindingKind::EncodedMultipart, part);
        }
        let draft = Self {
            parent: None,
            depth: 0,
            fields: 0..0,
            body: 0..0,
            kind,
            content_type,
            other_type,
            disposition,
            content_id,
            encoding,
            other_encoding,
        };
        draft.note_parameters(part, findings);
        draft
    }

    /// Every `boundary` of every type.
    pub(super) fn boundaries(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.content_type).chain(&self.other_type).flat_map(|t| t.all("boundary"))
    }

    fn note_parameters(&self, part: usize, findings: &mut Findings) {
        let named = [Some((&self.content_type, "name")), self.disposition.as_ref().map(|d| (d, "filename"))];
        let mut extensions = Vec::new();
        for (list, name) in named.into_iter().flatten() {
            extensions.extend(list.all(name).map(|n| n.rsplit_once('.').map(|(_, e)| e.trim().to_lowercase())));
            if list.continued {
                findings.add(FindingKind::ContinuedFileName, part);
            }
        }
        extensions.dedup();
        if extensions.len() > 1 {
            findings.add(FindingKind::ConflictingFileNames, part);
        }
        if self.content_type.repeats("charset") {
            findings.add(FindingKind::RepeatedParameter, part);
        }
        if !self.content_type.value.starts_with("text/") {
            return;
        }
        let charset = self.content_type.get("charset").unwrap_or_default();
        if charset.eq_ignore_ascii_case("utf-7") {
            findings.add(FindingKind::Utf7, part);
        } else if !decode::charset_known(charset) {
            findings.add(FindingKind::UnknownCharset, part);
        }
    }

    /// Decodes and makes the part. `budget` is what may still be decoded, in bytes.
    pub(super) fn finish(self, raw: &Bytes, part: usize, budget: &mut usize, findings: &mut Findings) -> Part {
        let mut undo = |encoding| undo(raw, &self.body, encoding, part, budget, findings);
        let (bytes, other_bytes) = match self.kind {
            PartKind::Multipart if self.encoding == Encoding::Identity => (Bytes::new(), None),
            PartKind::Multipart => (Bytes::new(), Some(undo(self.encoding))),
            _ => (undo(self.encoding), self.other_encoding.map(&mut undo)),
        };
        Part {
            parent: self.parent,
            depth: self.depth,
            kind: self.kind,
            content_type: self.content_type,
            other_type: self.other_type,
            disposition: self.disposition,
            content_id: self.content_id,
            encoding: self.encoding,
            fields: self.fields,
            body: self.body,
            bytes,
            other_bytes,
            text: OnceLock::new(),
            sha256: OnceLock::new(),
        }
    }
}

fn undo(
    raw: &Bytes,
    body: &Range<usize>,
    encoding: Encoding,
    part: usize,
    budget: &mut usize,
    findings: &mut Findings,
) -> Bytes {
    let source = &raw[body.clone()];
    let (Decoded { bytes, broken }, kind) = match encoding {
        Encoding::Identity => return raw.slice(body.clone()),
        Encoding::Base64 => (decode::base64(source, *budget), FindingKind::BrokenBase64),
        Encoding::QuotedPrintable => {
            (decode::quoted_printable(source, *budget, false), FindingKind::BrokenQuotedPrintable)
        }
    };
    if broken {
        findings.add(kind, part);
    }
    *budget -= bytes.len().min(*budget);
    if *budget == 0 {
        findings.add(FindingKind::TooMuchDecoded, part);
    }
    bytes.into()
}

fn encoding(text: &str, part: usize, findings: &mut Findings) -> Encoding {
    // Comments and parameters do not belong here, but readers pass over them.
    let name = text.split(['(', ';', ' ']).find(|word| !word.is_empty()).unwrap_or_default();
    let named = |known: &str| name.eq_ignore_ascii_case(known);
    if named("base64") {
        Encoding::Base64
    } else if named("quoted-printable") {
        Encoding::QuotedPrintable
    } else {
        if !["", "7bit", "8bit", "binary"].iter().any(|known| named(known)) {
            findings.add(FindingKind::UnknownEncoding, part);
        }
        Encoding::Identity
    }
}

fn default_type(in_digest: bool) -> Parameters {
    let value = if in_digest { "message/rfc822" } else { "text/plain" };
    Parameters { value: value.to_owned(), ..Parameters::default() }
}

/// The most revealing reading of all declared types: a container before HTML before text.
fn kind<'a>(types: impl Iterator<Item = &'a str> + Clone) -> PartKind {
    let any = |wanted: fn(&str) -> bool| types.clone().any(wanted);
    if any(|t| t.starts_with("multipart/")) {
        PartKind::Multipart
    } else if any(|t| matches!(t, "text/html" | "application/xhtml+xml" | "text/x-amp-html")) {
        PartKind::Html
    } else if any(|t| matches!(t, "message/rfc822" | "message/global")) {
        PartKind::Message
    } else if any(|t| matches!(t, "text/plain" | "text/enriched" | "text") || !t.contains('/')) {
        PartKind::Plain
    } else {
        PartKind::Other
    }
}
