//! What a file is, by its first bytes; the name is asked only where bytes cannot tell (scripts, text).
//!
//! Magic numbers of the common types are ours, the long tail is `infer`'s. Never fails: `Unknown` is an answer.

use serde::{Deserialize, Serialize};

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileType {
    /// No magic number known.
    Unknown,
    /// No bytes.
    Empty,
    /// Text without a better name.
    Text,
    /// HTML.
    Html,
    /// SVG: a picture that can run scripts.
    Svg,
    /// XML other than those named.
    Xml,
    /// iCalendar.
    Calendar,
    /// A message as a file.
    Mail,
    /// Source of a scripting language that a system runs on a double click.
    Script,
    /// Portable document.
    Pdf,
    /// Rich text.
    Rtf,
    /// Word, Excel, PowerPoint of 2007 and later.
    OfficeXml,
    /// Compound file: old Office, Outlook items, installers.
    Ole,
    /// OneNote section.
    OneNote,
    /// OpenDocument.
    OpenDocument,
    /// Zip that is nothing better.
    Zip,
    /// RAR.
    Rar,
    /// 7-Zip.
    SevenZip,
    /// Tape archive.
    Tar,
    /// gzip.
    Gzip,
    /// Other packed forms: bzip2, xz, zstd, cab, ace, arj, lzh.
    OtherArchive,
    /// Disk images: ISO, VHD, VHDX, DMG.
    DiskImage,
    /// Programs: PE, ELF, Mach-O, Java classes.
    Executable,
    /// Windows shortcut.
    Shortcut,
    /// Pictures.
    Image,
    /// Sound and film.
    Media,
    /// Fonts and whatever else `infer` knows.
    Other,
}

impl FileType {
    /// Tells the type from content, with the name as a hint.
    pub fn detect(bytes: &[u8], name: &str) -> Self {
        magic(bytes).unwrap_or_else(|| Self::of_text(bytes, name))
    }

    /// Whether files are inside.
    pub fn is_archive(self) -> bool {
        matches!(self, Self::Zip | Self::Rar | Self::SevenZip | Self::Tar | Self::Gzip | Self::OtherArchive)
    }

    /// Whether opening it runs something.
    pub fn is_runnable(self) -> bool {
        matches!(self, Self::Executable | Self::Script | Self::Shortcut)
    }

    fn of_text(bytes: &[u8], name: &str) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        let start = &bytes[..bytes.len().min(1024)];
        let readable = start.iter().filter(|b| matches!(b, b'\t' | b'\r' | b'\n' | b' '..=b'~' | 0x80..)).count();
        if readable * 100 < start.len() * 95 {
            return match infer::get(bytes).map(|t| t.matcher_type()) {
                Some(infer::MatcherType::Image) => Self::Image,
                Some(infer::MatcherType::Audio | infer::MatcherType::Video) => Self::Media,
                Some(infer::MatcherType::Archive) => Self::OtherArchive,
                Some(infer::MatcherType::App) => Self::Executable,
                Some(_) => Self::Other,
                None => Self::Unknown,
            };
        }
        let text = String::from_utf8_lossy(start).to_ascii_lowercase();
        let text = text.trim_start_matches(['\u{feff}', ' ', '\r', '\n', '\t']);
        let has = |needle: &str| text.contains(needle);
        if text.starts_with("begin:vcalendar") {
            Self::Calendar
        } else if has("<svg") && (text.starts_with("<?xml") || text.starts_with("<svg") || text.starts_with("<!")) {
            Self::Svg
        } else if ["<!doctype html", "<html", "<head", "<body", "<script", "<meta http", "<iframe", "<form"]
            .iter()
            .any(|t| has(t))
        {
            Self::Html
        } else if text.starts_with("<?xml") {
            Self::Xml
        } else if super::name::is_script(name) || text.starts_with("#!/") {
            Self::Script
        } else if name.to_ascii_lowercase().ends_with(".eml")
            || text.starts_with("received: ")
            || text.starts_with("return-path: ")
        {
            Self::Mail
        } else if super::name::extension(name).is_some_and(|e| matches!(e.as_str(), "htm" | "html" | "shtml" | "xhtml"))
        {
            Self::Html
        } else {
            Self::Text
        }
    }
}

fn magic(bytes: &[u8]) -> Option<FileType> {
    use FileType::{
        DiskImage, Executable, Gzip, Image, Ole, OneNote, OtherArchive, Pdf, Rar, Rtf, SevenZip, Shortcut, Tar,
    };
    const TABLE: &[(&[u8], FileType)] = &[
        (b"\x89PNG\r\n", Image),
        (b"\xff\xd8\xff", Image),
        (b"GIF8", Image),
        (b"{\\rt", Rtf),
        (b"MZ", Executable),
        (b"\x7fELF", Executable),
        (b"\xca\xfe\xba\xbe", Executable),
        (b"\xcf\xfa\xed\xfe", Executable),
        (b"\xce\xfa\xed\xfe", Executable),
        (b"Rar!\x1a\x07", Rar),
        (b"7z\xbc\xaf\x27\x1c", SevenZip),
        (b"\x1f\x8b\x08", Gzip),
        (b"BZh", OtherArchive),
        (b"\xfd7zXZ\0", OtherArchive),
        (b"\x28\xb5\x2f\xfd", OtherArchive),
        (b"MSCF", OtherArchive),
        (b"\x60\xea", OtherArchive),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Ole),
        (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", OneNote),
        (b"\x4c\0\0\0\x01\x14\x02\0", Shortcut),
        (b"conectix", DiskImage),
        (b"vhdxfile", DiskImage),
    ];
    if let Some((_, found)) = TABLE.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some(*found);
    }
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if at(0, b"PK\x03\x04") || at(0, b"PK\x05\x06") {
        return Some(zip_kind(bytes));
    }
    // A reader accepts a PDF header anywhere in the first kilobyte.
    if memchr::memmem::find(&bytes[..bytes.len().min(1024)], b"%PDF-").is_some() {
        return Some(Pdf);
    }
    let footer = bytes.len().saturating_sub(512);
    if at(0x8001, b"CD001")
        || at(0x8001, b"BEA01")
        || at(0x8801, b"CD001")
        || at(footer, b"koly")
        || at(footer, b"conectix")
    {
        return Some(DiskImage);
    }
    if at(257, b"ustar") {
        return Some(Tar);
    }
    (at(7, b"**ACE**") || super::unpack::is_lzma(bytes)).then_some(OtherArchive)
}

fn zip_kind(bytes: &[u8]) -> FileType {
    let start = &bytes[..bytes.len().min(4096)];
    let has = |needle: &[u8]| memchr::memmem::find(start, needle).is_some();
    if has(b"[Content_Types].xml") || has(b"word/") || has(b"xl/") || has(b"ppt/") {
        FileType::OfficeXml
    } else if has(b"mimetypeapplication/vnd.oasis.opendocument") {
        FileType::OpenDocument
    } else if has(b"META-INF/MANIFEST.MF") && memchr::memmem::find(bytes, b".class").is_some() {
        FileType::Executable
    } else {
        FileType::Zip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let mut iso = vec![0; 0x8001];
        iso.extend_from_slice(b"CD001");
        let cases: &[(&[u8], &str, FileType)] = &[
            (b"", "a.txt", FileType::Empty),
            (b"hello", "a.txt", FileType::Text),
            (b"WScript.Echo(1)", "a.JS", FileType::Script),
            (b"#!/bin/sh\n", "a", FileType::Script),
            (b"<!DOCTYPE html><p>", "a.bin", FileType::Html),
            (b"<p>x</p>", "a.HTM", FileType::Html),
            (b"<?xml version='1.0'?>\n<svg>", "a.svg", FileType::Svg),
            (b"<?xml version='1.0'?><a/>", "a.xml", FileType::Xml),
            (b"BEGIN:VCALENDAR\r\n", "a.ics", FileType::Calendar),
            (b"Received: from a\r\n", "x", FileType::Mail),
            (b"%PDF-1.4", "a.jpg", FileType::Pdf),
            (b"junk %PDF-1.4", "a.pdf", FileType::Pdf),
            (b"MZ\x90\0", "a.pdf", FileType::Executable),
            (b"PK\x03\x04....word/document.xml", "a", FileType::OfficeXml),
            (b"PK\x03\x04....a.exe", "a", FileType::Zip),
            (b"\x4c\0\0\0\x01\x14\x02\0", "a", FileType::Shortcut),
            (b"\0\x01\x02\x03\x04\x05", "a", FileType::Unknown),
            (&iso, "a", FileType::DiskImage),
        ];
        for (bytes, name, expected) in cases {
            assert_eq!(
                FileType::detect(bytes, name),
                *expected,
                "{name} {:?}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(30)])
            );
        }
    }
}
