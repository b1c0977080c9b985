//! PDF in depth (ISO 32000): links, information, text, scripts, files and pictures inside; object streams are unpacked.
//!
//! Read by `lopdf`, which repairs broken cross references and opens what the empty password opens. It is held by
//! `max_member_bytes` a stream, `max_pages` and `max_text_bytes`, and all of it by what is left of `max_pdf_bytes` for the
//! message: objects count what they hold, streams what they unpack to, pictures their pixels. Beyond that the file is [`cut`](Pdf::cut).
//! A panic counts as a broken file.
//! Not here: the marker scan for detectors (`document`), rendering, passwords.

use std::collections::HashSet;
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
    /// Whether the message's work on PDF files was used up before all of it was read.
    pub cut: bool,
}

/// Bytes that an object counts besides what it holds.
const OBJECT_BYTES: usize = 32;

/// Reads a PDF with so many bytes of work; the second value says how many it took.
pub(super) fn read(bytes: &[u8], limits: &ContentLimits, work: usize) -> (Pdf, usize) {
    if work <= bytes.len() {
        return (Pdf { cut: true, ..Pdf::default() }, work);
    }
    // What broke it may have taken all.
    let broken = (Pdf { broken: true, ..Pdf::default() }, work);
    catch_unwind(AssertUnwindSafe(|| load(bytes, limits, work))).unwrap_or(broken)
}

/// Streams that hold objects or cross references: they are unpacked when the file is loaded, all of them. Their own dictionaries
/// are never packed, but a name may be written with `#53` for `S` (7.3.5).
fn unpacked_on_load(bytes: &[u8]) -> usize {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let is_one = |name: &[u8]| {
        let (mut rest, mut plain) = (name, [0; 7]);
        for (at, slot) in plain.iter_mut().enumerate() {
            let next = match rest {
                [b'#', high, low, tail @ ..] => digit(*high).zip(digit(*low)).map(|(h, l)| ((h * 16 + l) as u8, tail)),
                [byte, tail @ ..] => Some((*byte, tail)),
                [] => None,
            };
            match next {
                Some((byte, tail)) => (*slot, rest) = (byte, tail),
                None => return at >= 4 && plain.starts_with(b"XRef"),
            }
        }
        plain.starts_with(b"ObjStm") || plain.starts_with(b"XRef")
    };
    memchr::memchr_iter(b'/', bytes).filter(|at| is_one(&bytes[at + 1..])).count()
}

fn load(bytes: &[u8], limits: &ContentLimits, work: usize) -> (Pdf, usize) {
    let left = work - bytes.len();
    // Each may take its share and no more, so that together they stay within what is left.
    let share = left / unpacked_on_load(bytes).max(1);
    let most = limits.max_member_bytes.min(share);
    let options = LoadOptions::with_max_decompressed_size(most);
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
            return (out, bytes.len());
        }
    };
    let mut walk = Walk { document: &document, limits, budget: left, named: HashSet::new(), out };
    walk.information(bytes);
    walk.objects();
    if !walk.out.encrypted {
        walk.text();
    }
    (walk.out, work - walk.budget)
}

struct Walk<'a> {
    document: &'a Document,
    limits: &'a ContentLimits,
    /// Bytes of work that are left.
    budget: usize,
    /// Embedded files that a file specification names.
    named: HashSet<ObjectId>,
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

    /// Takes work; `false`, and the file is cut, when there is not so much left.
    fn spend(&mut self, bytes: usize) -> bool {
        let enough = bytes <= self.budget;
        self.budget -= bytes.min(self.budget);
        self.out.cut |= !enough;
        enough
    }

    /// Gathers the embedded files that have a name somewhere.
    fn specifications(&mut self) {
        let document = self.document;
        for object in document.objects.values() {
            let Some(files) = object.as_dict().ok().and_then(|d| d.get(b"EF").ok()) else { continue };
            if let Ok(files) = self.follow(files).as_dict() {
                let named: Vec<_> = files.iter().filter_map(|(_, value)| value.as_reference().ok()).collect();
                self.named.extend(named);
            }
        }
    }

    fn objects(&mut self) {
        let document = self.document;
        self.specifications();
        for (id, object) in &document.objects {
            // Inner objects are walked with a list, not the stack.
            let mut open = vec![object];
            while let Some(object) = open.pop() {
                let holds = match object {
                    Object::String(text, _) | Object::Name(text) => text.len(),
                    Object::Stream(stream) => stream.content.len(),
                    _ => 0,
                };
                if !self.spend(OBJECT_BYTES.saturating_add(holds)) {
                    return;
                }
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
            if whole && filters.len() == 1 && self.spend(stream.content.len()) {
                self.file(name, stream.content.clone());
            } else if !whole && let Some(picture) = self.pixels(stream) {
                self.file(name, picture);
            }
        } else if is(b"Type", b"EmbeddedFile")
            && !self.named.contains(&id)
            && let Some(content) = self.unpack(stream)
        {
            self.file(name, content);
        }
    }

    fn unpack(&mut self, stream: &Stream) -> Option<Vec<u8>> {
        let most = self.limits.max_member_bytes.min(self.budget);
        let content = match stream.is_compressed() {
            true => stream.decompressed_content_with_limit(most).ok(),
            false => stream.content.get(..stream.content.len().min(most)).map(<[u8]>::to_vec),
        };
        // What did not fit was unpacked up to there all the same.
        let spent = content.as_ref().map_or(most, Vec::len);
        self.budget -= spent.min(self.budget);
        self.out.cut |= self.budget == 0;
        content
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
        if !self.spend(pixels) {
            return None;
        }
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
        for (number, id) in self.document.get_pages().into_iter().take(self.limits.max_pages) {
            let most = self.limits.max_member_bytes.min(self.budget);
            let content = self.document.get_page_content_with_limit(id, most).map(|content| content.len());
            // It is unpacked twice: to know its size, and for its text.
            if !self.spend(content.as_ref().map_or(most, |size| size.saturating_mul(2))) {
                break;
            }
            if content.is_err() {
                continue;
            }
            if self.out.text.len() >= self.limits.max_text_bytes {
                break;
            }
            if let Ok(page) = self.document.extract_text_with_limit(&[number], most) {
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
    fn streams_unpacked_on_load() {
        let text =
            b"<</Type/ObjStm/N 1>> <</Type /XRef>> <</Type/O#62jStm>> <</Type/#58Ref>> /ObjStX /Object /XRe /XRef";
        assert_eq!(unpacked_on_load(text), 5);
        for at in 0..text.len() {
            unpacked_on_load(&text[..at]);
        }
        assert_eq!(unpacked_on_load(b"/#"), 0);
    }

    #[test]
    fn dates_and_text() {
        assert_eq!(date("D:20260131120000+01'00'").as_deref(), Some("2026:01:31 12:00:00+01:00"));
        assert_eq!(date("D:20260131120000Z").as_deref(), Some("2026:01:31 12:00:00Z"));
        assert!(["2026", "D:2026", "D:2026é131120000", ""].iter().all(|text| date(text).is_none()));
        assert_eq!(text(b"\xfe\xff\0A\0\xe9"), "Aé");
        assert_eq!(text(b"\xe9"), "é");
    }
}
