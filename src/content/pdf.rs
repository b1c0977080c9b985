//! PDF in depth (ISO 32000): links, information, text, scripts, files and pictures inside; object streams are unpacked.
//!
//! Read by `lopdf`, which repairs broken cross references and opens what the empty password opens. It is held by
//! `max_member_bytes` a stream, `max_pages` and `max_text_bytes`; a panic in it counts as a broken file.
//! Not here: the marker scan for detectors (`document`), rendering, passwords.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use lopdf::{Dictionary, Document, LoadOptions, Object, ObjectId, Stream};

use super::ContentLimits;

/// What a PDF holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pdf {
    /// Targets of link actions, as written, each once.
    pub urls: Vec<String>,
    /// Pages.
    pub page_count: Option<usize>,
    /// Document information under ExifTool's names.
    pub information: Vec<(String, String)>,
    /// Text of the pages, in the order of their content.
    pub text: String,
    /// JavaScript of actions.
    pub scripts: Vec<String>,
    /// Files and pictures inside: name and content.
    pub files: Vec<(String, Bytes)>,
    /// Whether it cannot be read without a password.
    pub encrypted: bool,
    /// Whether it could not be read.
    pub broken: bool,
}

/// Reads a PDF.
pub(super) fn read(bytes: &[u8], limits: &ContentLimits) -> Pdf {
    let broken = Pdf { broken: true, ..Pdf::default() };
    catch_unwind(AssertUnwindSafe(|| load(bytes, limits))).unwrap_or(broken)
}

fn load(bytes: &[u8], limits: &ContentLimits) -> Pdf {
    let options = LoadOptions::with_max_decompressed_size(limits.max_member_bytes);
    let mut out = Pdf::default();
    let document = match Document::load_mem_with_options(bytes, options) {
        Ok(document) => document,
        Err(_) => {
            out.encrypted = memchr::memmem::find(bytes, b"/Encrypt").is_some();
            out.broken = !out.encrypted;
            if out.encrypted {
                out.information.push(("Encryption".into(), "Standard".into()));
                out.information.push(("Warning".into(), "Document is password protected".into()));
            } else {
                out.information.push(("Warning".into(), "Invalid xref table".into()));
            }
            return out;
        }
    };
    let budget = limits.max_unpacked_bytes;
    let mut walk = Walk { document: &document, limits, budget, out };
    walk.information(bytes);
    walk.objects();
    if !walk.out.encrypted {
        walk.text();
    }
    walk.out
}

struct Walk<'a> {
    document: &'a Document,
    limits: &'a ContentLimits,
    /// Bytes that streams may still unpack to.
    budget: usize,
    out: Pdf,
}

/// A text string (7.9.2.2): UTF-16 with a mark, UTF-8 with a mark, or one byte a character.
fn text(bytes: &[u8]) -> String {
    match bytes {
        [0xfe, 0xff, rest @ ..] => {
            let units: Vec<u16> = rest.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
            String::from_utf16_lossy(&units)
        }
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        bytes => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
        },
    }
}

/// `D:20260131120000+01'00'` (7.9.4) as `2026:01:31 12:00:00+01:00`.
fn date(text: &str) -> Option<String> {
    let rest = text.strip_prefix("D:")?;
    let digits = rest.get(..14).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    let zone = rest[14..].trim_end_matches('\'').replace('\'', ":");
    let part = |range: std::ops::Range<usize>| &digits[range];
    let (day, time) = ((part(0..4), part(4..6), part(6..8)), (part(8..10), part(10..12), part(12..14)));
    Some(format!("{}:{}:{} {}:{}:{}{zone}", day.0, day.1, day.2, time.0, time.1, time.2))
}

impl<'a> Walk<'a> {
    fn follow<'b>(&self, object: &'b Object) -> &'b Object
    where
        'a: 'b,
    {
        let document: &'a Document = self.document;
        document.dereference(object).map_or(object, |(_, found)| found)
    }

    fn string(&self, dictionary: &Dictionary, key: &[u8]) -> Option<String> {
        self.follow(dictionary.get(key).ok()?).as_str().ok().map(text)
    }

    fn information(&mut self, bytes: &[u8]) {
        let mut fields = Vec::new();
        let start = memchr::memmem::find(&bytes[..bytes.len().min(1_024)], b"%PDF-");
        if let Some(version) = start.and_then(|at| bytes.get(at + 5..at + 8)) {
            fields.push(("PDFVersion".to_owned(), String::from_utf8_lossy(version).into_owned()));
        }
        let pages = self.document.page_iter().take(self.limits.max_members).count();
        // What waits for a password shows no pages: that is not known, not none.
        if !self.document.is_encrypted() {
            self.out.page_count = Some(pages);
            fields.push(("PageCount".to_owned(), pages.to_string()));
        }
        if self.document.is_encrypted() {
            self.out.encrypted = true;
            fields.push(("Warning".to_owned(), "Document is password protected".to_owned()));
        }
        if self.document.is_encrypted() || self.document.was_encrypted() {
            fields.push(("Encryption".to_owned(), "Standard".to_owned()));
        }
        if self.document.xref_recovery.is_some() {
            fields.push(("Warning".to_owned(), "Invalid xref table".to_owned()));
        }
        let info = self.document.trailer.get(b"Info").ok().map(|info| self.follow(info));
        if let Some(Object::Dictionary(info)) = info {
            for (key, value) in info.iter().take(100) {
                let Ok(value) = self.follow(value).as_str() else { continue };
                let key = match key.as_slice() {
                    b"CreationDate" => "CreateDate".to_owned(),
                    b"ModDate" => "ModifyDate".to_owned(),
                    key => super::office::capital(&text(key)),
                };
                let value = text(value);
                fields.push((key, date(&value).unwrap_or(value)));
            }
        }
        self.out.information = fields;
    }

    fn objects(&mut self) {
        let document = self.document;
        for (id, object) in &document.objects {
            // Inner objects are walked with a list, not the stack.
            let mut open = vec![object];
            while let Some(object) = open.pop() {
                match object {
                    Object::Array(list) => open.extend(list),
                    Object::Dictionary(dictionary) => {
                        self.dictionary(dictionary);
                        open.extend(dictionary.iter().map(|(_, value)| value));
                    }
                    Object::Stream(stream) => {
                        self.stream(*id, stream);
                        open.extend(stream.dict.iter().map(|(_, value)| value));
                    }
                    _ => {}
                }
            }
        }
    }

    fn dictionary(&mut self, dictionary: &Dictionary) {
        if let Some(url) = self.string(dictionary, b"URI") {
            self.url(&url);
        }
        let submits = [&b"SubmitForm"[..], b"GoToR", b"Launch", b"ImportData"];
        if dictionary.get(b"S").and_then(Object::as_name).is_ok_and(|name| submits.contains(&name)) {
            let file = dictionary.get(b"F").ok().map(|file| self.follow(file));
            let url = match file {
                Some(Object::Dictionary(file)) => self.string(file, b"F"),
                Some(Object::String(url, _)) => Some(text(url)),
                _ => None,
            };
            if let Some(url) = url.filter(|url| url.contains("://")) {
                self.url(&url);
            }
        }
        if let Ok(script) = dictionary.get(b"JS") {
            let script = match self.follow(script) {
                Object::String(source, _) => Some(text(source)),
                Object::Stream(stream) => self.unpack(stream).map(|bytes| text(&bytes)),
                _ => None,
            };
            if let Some(script) = script.filter(|s| self.out.scripts.len() < 100 && !self.out.scripts.contains(s)) {
                self.out.scripts.push(script);
            }
        }
        if let Ok(Object::Dictionary(embedded)) = dictionary.get(b"EF").map(|ef| self.follow(ef)) {
            let name = self.string(dictionary, b"UF").or_else(|| self.string(dictionary, b"F")).unwrap_or_default();
            let stream = embedded.get(b"F").or_else(|_| embedded.get(b"UF")).map(|f| self.follow(f));
            if let Ok(Object::Stream(stream)) = stream
                && let Some(content) = self.unpack(stream)
            {
                self.file(name, content);
            }
        }
    }

    fn url(&mut self, url: &str) {
        let url = url.trim();
        if !url.is_empty() && self.out.urls.len() < self.limits.max_links && !self.out.urls.iter().any(|u| u == url) {
            self.out.urls.push(url.to_owned());
        }
    }

    fn file(&mut self, name: String, content: Vec<u8>) {
        if self.out.files.len() < self.limits.max_members && !content.is_empty() {
            self.out.files.push((name, content.into()));
        }
    }

    /// Pictures, and embedded files that no file specification names.
    fn stream(&mut self, id: ObjectId, stream: &Stream) {
        let is = |key: &[u8], value: &[u8]| stream.dict.get(key).and_then(Object::as_name).is_ok_and(|n| n == value);
        let name = format!("object_{}", id.0);
        if is(b"Subtype", b"Image") {
            let filters = stream.filters().unwrap_or_default();
            let whole = filters.last().is_some_and(|last| matches!(*last, b"DCTDecode" | b"JPXDecode"));
            if whole && filters.len() == 1 && stream.content.len() <= self.budget {
                self.budget -= stream.content.len();
                self.file(name, stream.content.clone());
            } else if !whole && let Some(picture) = self.pixels(stream) {
                self.file(name, picture);
            }
        } else if is(b"Type", b"EmbeddedFile") {
            let named = self.document.objects.values().any(|object| {
                let specification = object.as_dict().ok().and_then(|d| d.get(b"EF").ok());
                let files = specification.map(|ef| self.follow(ef)).and_then(|ef| ef.as_dict().ok());
                files.is_some_and(|files| files.iter().any(|(_, value)| value.as_reference().is_ok_and(|r| r == id)))
            });
            if !named && let Some(content) = self.unpack(stream) {
                self.file(name, content);
            }
        }
    }

    fn unpack(&mut self, stream: &Stream) -> Option<Vec<u8>> {
        let most = self.limits.max_member_bytes.min(self.budget);
        let content = match stream.is_compressed() {
            true => stream.decompressed_content_with_limit(most).ok()?,
            false => stream.content.get(..stream.content.len().min(most))?.to_vec(),
        };
        self.budget -= content.len().min(self.budget);
        Some(content)
    }

    /// A PNG of a picture that is kept as bare pixels, so that codes in it can be read.
    #[cfg(feature = "qr")]
    fn pixels(&mut self, stream: &Stream) -> Option<Vec<u8>> {
        let number =
            |key: &[u8]| stream.dict.get(key).and_then(Object::as_i64).ok().and_then(|n| u32::try_from(n).ok());
        let (width, height) = (number(b"Width")?, number(b"Height")?);
        let bits = number(b"BitsPerComponent").unwrap_or(1);
        let pixels = usize::try_from(u64::from(width) * u64::from(height)).ok()?;
        if pixels == 0 || pixels > self.limits.max_pixels {
            return None;
        }
        let content = self.unpack(stream)?;
        let gray: Vec<u8> = match (bits, content.len() / pixels) {
            (8, 1) => content.get(..pixels)?.to_vec(),
            (8, 3) => content.as_chunks::<3>().0.iter().take(pixels).map(|[r, g, b]| luma(*r, *g, *b)).collect(),
            (1, _) => {
                let row = usize::try_from(width.div_ceil(8)).ok()?;
                let bit = |line: &[u8], x: u32| line[(x / 8) as usize] >> (7 - x % 8) & 1;
                let lines = content.chunks_exact(row).take(usize::try_from(height).ok()?);
                lines.flat_map(|line| (0..width).map(move |x| bit(line, x) * 255)).collect()
            }
            _ => return None,
        };
        let picture = image::GrayImage::from_raw(width, height, gray)?;
        let mut out = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut out, image::ImageFormat::Png).ok()?;
        Some(out.into_inner())
    }

    #[cfg(not(feature = "qr"))]
    fn pixels(&mut self, _stream: &Stream) -> Option<Vec<u8>> {
        None
    }

    fn text(&mut self) {
        let mut budget = self.limits.max_member_bytes;
        for (number, id) in self.document.get_pages().into_iter().take(self.limits.max_pages) {
            let Ok(content) = self.document.get_page_content_with_limit(id, budget) else { continue };
            budget -= content.len().min(budget);
            if budget == 0 || self.out.text.len() >= self.limits.max_text_bytes {
                break;
            }
            if let Ok(page) = self.document.extract_text_with_limit(&[number], self.limits.max_member_bytes) {
                self.out.text.push_str(&page);
            }
        }
        let cut = self.out.text.floor_char_boundary(self.limits.max_text_bytes);
        self.out.text.truncate(cut);
    }
}

#[cfg(feature = "qr")]
fn luma(red: u8, green: u8, blue: u8) -> u8 {
    ((u32::from(red) * 299 + u32::from(green) * 587 + u32::from(blue) * 114) / 1_000) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_text() {
        assert_eq!(date("D:20260131120000+01'00'").as_deref(), Some("2026:01:31 12:00:00+01:00"));
        assert_eq!(date("D:20260131120000Z").as_deref(), Some("2026:01:31 12:00:00Z"));
        assert!(["2026", "D:2026", "D:2026é131120000", ""].iter().all(|text| date(text).is_none()));
        assert_eq!(text(b"\xfe\xff\0A\0\xe9"), "Aé");
        assert_eq!(text(b"\xe9"), "é");
    }
}
