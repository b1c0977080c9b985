//! The names others give to file types: the `file_type` of MDM, libmagic's MIME type, and type-tasting flavors.
//!
//! Names are a closed set by the bytes; `unknown` where they say nothing. Text has no magic: `unknown` as file type too,
//! unless its words tell (HTML, SVG, calendar, mail). Not here: the trait-bearing [`FileType`](super::FileType).

use memchr::memmem;

use super::FileType;
use super::strings::Charset;

/// Name and MIME type of what starts with some bytes at some place.
const MAGIC: &[(usize, &[u8], &str, &str)] = &[
    (0, b"%PDF-", "pdf", "application/pdf"),
    (0, b"\x89PNG\r\n", "png", "image/png"),
    (0, b"\xff\xd8\xff", "jpg", "image/jpeg"),
    (0, b"GIF8", "gif", "image/gif"),
    (0, b"BM", "bmp", "image/bmp"),
    (0, b"II*\0\x10\0\0\0CR", "cr2", "image/x-canon-cr2"),
    (0, b"II*\0", "tif", "image/tiff"),
    (0, b"MM\0*", "tif", "image/tiff"),
    (0, b"II\xbc", "jxr", "image/jxr"),
    (0, b"\0\0\x01\0", "ico", "image/vnd.microsoft.icon"),
    (8, b"WEBP", "webp", "image/webp"),
    (4, b"ftypheic", "heif", "image/heic"),
    (4, b"ftypmif1", "heif", "image/heif"),
    (4, b"ftypheix", "heif", "image/heic"),
    (4, b"jP  \r\n", "jp2", "image/jp2"),
    (0, b"8BPS", "psd", "image/vnd.adobe.photoshop"),
    (0, b"{\\rt", "rtf", "text/rtf"),
    (0, b"Rar!\x1a\x07", "rar", "application/x-rar"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z", "application/x-7z-compressed"),
    (0, b"\x1f\x8b\x08", "gz", "application/gzip"),
    (0, b"BZh", "bz2", "application/x-bzip2"),
    (0, b"\xfd7zXZ\0", "xz", "application/x-xz"),
    (0, b"\x28\xb5\x2f\xfd", "zst", "application/zstd"),
    (0, b"LZIP", "lz", "application/x-lzip"),
    (0, b"\x1f\x9d", "z", "application/x-compress"),
    (0, b"MSCF", "cab", "application/vnd.ms-cab-compressed"),
    (257, b"ustar", "tar", "application/x-tar"),
    (0, b"MZ", "exe", "application/x-dosexec"),
    (0, b"\x7fELF", "elf", "application/x-executable"),
    (0, b"\xcf\xfa\xed\xfe", "macho", "application/x-mach-binary"),
    (0, b"\xce\xfa\xed\xfe", "macho", "application/x-mach-binary"),
    (0, b"\xca\xfe\xba\xbe", "macho", "application/x-mach-binary"),
    (0, b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", "one", "application/onenote"),
    (0, b"\x4c\0\0\0\x01\x14\x02\0", "lnk", "application/x-ms-shortcut"),
    (0x8001, b"CD001", "iso", "application/x-iso9660-image"),
    (0, b"ID3", "mp3", "audio/mpeg"),
    (0, b"\xff\xfb", "mp3", "audio/mpeg"),
    (0, b"\xff\xf3", "mp3", "audio/mpeg"),
    (0, b"OggS", "ogg", "audio/ogg"),
    (0, b"fLaC", "flac", "audio/flac"),
    (8, b"WAVE", "wav", "audio/x-wav"),
    (8, b"AVI ", "avi", "video/x-msvideo"),
    (4, b"ftypqt", "mov", "video/quicktime"),
    (4, b"ftypM4A", "m4a", "audio/x-m4a"),
    (4, b"ftyp", "mp4", "video/mp4"),
    (0, b"MThd", "mid", "audio/midi"),
    (0, b"\0asm", "wasm", "application/wasm"),
    (0, b"wOFF", "woff", "font/woff"),
    (0, b"wOF2", "woff2", "font/woff2"),
    (0, b"OTTO", "otf", "font/otf"),
    (0, b"SQLite format 3\0", "sqlite", "application/vnd.sqlite3"),
    (0, b"%!PS", "ps", "application/postscript"),
    (0, b"!BDN", "pst", "application/vnd.ms-outlook"),
    (0, b"FasdUAS", "scpt", "application/octet-stream"),
];

/// `file_type` and MIME type of a file. `charset` is that of the file as text, if it is one.
pub(super) fn names(
    bytes: &[u8],
    kind: FileType,
    name: &str,
    charset: Option<Charset>,
) -> (&'static str, &'static str) {
    match kind {
        FileType::Empty => return ("unknown", "inode/x-empty"),
        FileType::OfficeXml => return office(bytes),
        FileType::Ole => return ole(bytes),
        FileType::OpenDocument => return open_document(bytes),
        FileType::Zip => return ("zip", "application/zip"),
        FileType::Pdf => return ("pdf", "application/pdf"),
        FileType::Html => return ("html", "text/html"),
        FileType::Svg => return ("svg", "image/svg+xml"),
        FileType::Xml => return ("xml", "text/xml"),
        FileType::Calendar => return ("ics", "text/calendar"),
        FileType::Mail => return ("eml", "message/rfc822"),
        FileType::Executable if bytes.starts_with(b"MZ") && is_dll(bytes) => return ("dll", "application/x-dosexec"),
        FileType::Executable if bytes.starts_with(b"PK") => return ("zip", "application/java-archive"),
        _ => {}
    }
    if bytes.starts_with(b"BM") && !matches!(kind, FileType::Image) {
        return ("unknown", if charset.is_some() { "text/plain" } else { "application/octet-stream" });
    }
    let starts = |(at, magic, ..): &&(usize, &[u8], _, _)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic));
    if let Some((_, _, file_type, mime)) = MAGIC.iter().find(starts) {
        return (file_type, mime);
    }
    match (charset, kind) {
        (None, _) => ("unknown", "application/octet-stream"),
        (Some(_), FileType::Script) => ("unknown", script_mime(bytes, name)),
        _ if has_word(bytes, b"BEGIN:VCARD") => ("vcf", "text/vcard"),
        _ => ("unknown", "text/plain"),
    }
}

fn has_word(bytes: &[u8], word: &[u8]) -> bool {
    bytes.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

fn script_mime(bytes: &[u8], name: &str) -> &'static str {
    let start = bytes[..bytes.len().min(256)].to_ascii_lowercase();
    if bytes.starts_with(b"#!") {
        match memmem::find(&start, b"python") {
            Some(_) => "text/x-script.python",
            None => "text/x-shellscript",
        }
    } else if memmem::find(&start, b"@echo off").is_some() {
        "text/x-msdos-batch"
    } else if matches!(super::name::extension(name).as_deref(), Some("js" | "jse")) {
        "application/javascript"
    } else {
        "text/plain"
    }
}

/// The characteristics of a PE header say whether it is a library.
fn is_dll(bytes: &[u8]) -> bool {
    let word = |at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let header = || Some(usize::from(word(0x3c)?));
    let flags = || {
        let at = header()?;
        bytes.get(at..at + 4).filter(|magic| *magic == b"PE\0\0")?;
        word(at + 22)
    };
    flags().is_some_and(|flags| flags & 0x2000 != 0)
}

fn office(bytes: &[u8]) -> (&'static str, &'static str) {
    let has = |word: &[u8]| memmem::find(bytes, word).is_some();
    // Names of members stand in the directory, uncompressed.
    if has(b"word/document") || has(b"word/_rels") {
        ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document")
    } else if has(b"xl/workbook") || has(b"xl/_rels") || has(b"xl/worksheets") {
        ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")
    } else if has(b"ppt/presentation") || has(b"ppt/slides") {
        ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation")
    } else if has(b"AppxManifest.xml") {
        ("zip", "application/zip")
    } else {
        ("zip", "application/vnd.openxmlformats-officedocument")
    }
}

fn open_document(bytes: &[u8]) -> (&'static str, &'static str) {
    let start = &bytes[..bytes.len().min(256)];
    let has = |word: &[u8]| memmem::find(start, word).is_some();
    if has(b"opendocument.text") {
        ("odt", "application/vnd.oasis.opendocument.text")
    } else if has(b"opendocument.spreadsheet") {
        ("ods", "application/vnd.oasis.opendocument.spreadsheet")
    } else if has(b"opendocument.presentation") {
        ("odp", "application/vnd.oasis.opendocument.presentation")
    } else {
        ("zip", "application/zip")
    }
}

/// A compound file by the streams its directory names.
fn ole(bytes: &[u8]) -> (&'static str, &'static str) {
    let has = |name: &str| {
        let wide: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        memmem::find(bytes, &wide).is_some()
    };
    if has("WordDocument") {
        ("doc", "application/msword")
    } else if has("Workbook") || has("Book\0") {
        ("xls", "application/vnd.ms-excel")
    } else if has("PowerPoint Document") {
        ("ppt", "application/vnd.ms-powerpoint")
    } else if has("__substg1.0_") {
        ("msg", "application/vnd.ms-outlook")
    } else if has("EncryptedPackage") {
        ("doc", "application/encrypted")
    } else if has("\u{4840}") {
        ("msi", "application/x-msi")
    } else {
        ("unknown", "application/x-ole-storage")
    }
}

/// The name of a file's type in the closed set that rules compare with; `unknown` when it has none.
pub fn file_type_name(bytes: &[u8], name: &str) -> &'static str {
    names(bytes, FileType::detect(bytes, name), name, None).0
}

/// Type-tasting names of a file, as rules compare them.
pub(super) fn flavors(
    bytes: &[u8],
    text: Option<&str>,
    mime: &str,
    kind: FileType,
    encrypted: bool,
) -> Vec<&'static str> {
    let mut out = Vec::new();
    let mut add = |is: bool, name: &'static str| out.extend(is.then_some(name));
    add(bytes.starts_with(b"MZ"), "mz_file");
    add(bytes.starts_with(b"\x7fELF"), "elf_file");
    add(mime == "application/x-mach-binary", "macho_file");
    add(kind == FileType::Pdf, "pdf_file");
    add(kind == FileType::Html, "html_file");
    add(kind == FileType::Svg, "svg_file");
    add(matches!(kind, FileType::Xml | FileType::Svg), "xml_file");
    add(kind == FileType::Mail, "email_file");
    add(kind == FileType::Ole, "olecf_file");
    add(kind == FileType::OfficeXml, "ooxml_file");
    add(bytes.starts_with(b"PK\x03\x04") && !encrypted, "zip_file");
    add(bytes.starts_with(b"PK\x03\x04") && encrypted, "encrypted_zip");
    add(kind == FileType::Rar, "rar_file");
    add(kind == FileType::SevenZip, "_7zip_file");
    add(kind == FileType::Gzip, "gzip_file");
    add(mime == "application/x-bzip2", "bzip2_file");
    add(mime == "application/x-xz", "xz_file");
    add(mime == "application/vnd.ms-cab-compressed", "cab_file");
    add(kind == FileType::Tar, "tar_file");
    add(kind == FileType::Rtf, "rtf_file");
    add(kind == FileType::Shortcut, "lnk_file");
    add(kind == FileType::OneNote, "onenote_file");
    add(kind == FileType::Calendar, "ics_file");
    add(mime == "image/jpeg", "jpeg_file");
    add(mime == "image/png", "png_file");
    add(mime == "image/gif", "gif_file");
    add(mime == "application/x-iso9660-image", "iso_file");
    let Some(text) = text else { return out };
    add(base64_pe(text), "base64_pe");
    let code = matches!(kind, FileType::Text | FileType::Script);
    add(code && looks_like_javascript(text), "javascript_file");
    add(code && looks_like_basic(text), "vb_file");
    add(code && text.starts_with("#!") && text.lines().next().is_some_and(|l| l.contains("python")), "python_file");
    add(code && text.get(..9).is_some_and(|s| s.eq_ignore_ascii_case("@echo off")), "batch_file");
    out
}

/// The base64 of `MZ` with zeros of a DOS header behind it.
fn base64_pe(text: &str) -> bool {
    let starts = ["TVqQAAMAAAAEAAAA", "TVpQAAIAAAAEAA8A", "TVoAAAAAAAAAAAAA", "TVqAAAEAAAAEABAA", "TVpAAAEAAAAC"];
    starts.iter().any(|start| memmem::find(text.as_bytes(), start.as_bytes()).is_some())
}

fn looks_like_javascript(text: &str) -> bool {
    let start = &text[..text.floor_char_boundary(16_384)];
    let strong =
        ["function(", "function (", "=> {", "=>{", "document.", "window.", "ActiveXObject", "WScript.", "eval("];
    let weak = ["var ", "let ", "const ", "return ", "if (", "if(", "for (", "for(", "new ", ");"];
    let count = |list: &[&str]| list.iter().filter(|word| start.contains(**word)).count();
    count(&strong) > 0 && count(&weak) > 1 && !looks_like_basic(text)
}

fn looks_like_basic(text: &str) -> bool {
    let start = text[..text.floor_char_boundary(16_384)].to_ascii_lowercase();
    let has = |word: &str| start.contains(word);
    let words =
        ["\ndim ", "end sub", "end function", "createobject(", "on error resume next", "attribute vb_name", "\nset "];
    words.iter().filter(|word| has(word)).count() >= 2 || start.starts_with("attribute vb_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let mut dll = b"MZ".to_vec();
        dll.resize(0x80, 0);
        dll[0x3c] = 0x40;
        dll[0x40..0x44].copy_from_slice(b"PE\0\0");
        dll[0x40 + 23] = 0x20;
        let cases: &[(&[u8], &str, &str, &str)] = &[
            (b"%PDF-1.4", "a", "pdf", "application/pdf"),
            (b"\xff\xd8\xff\xe0", "a.png", "jpg", "image/jpeg"),
            (b"RIFF\x01\x02\x03\x04WEBPVP8 \x01\x02", "a", "webp", "image/webp"),
            (b"RIFF\x01\x02\x03\x04WAVEfmt \x01\x02", "a", "wav", "audio/x-wav"),
            (
                b"PK\x03\x04\0\0word/document.xml",
                "a.docm",
                "docx",
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            ),
            (b"PK\x03\x04\0\0a.exe", "a.docx", "zip", "application/zip"),
            (b"<html>", "a", "html", "text/html"),
            (b"<svg xmlns=", "a", "svg", "image/svg+xml"),
            (b"BEGIN:VCALENDAR", "a", "ics", "text/calendar"),
            (b"plain words", "a.txt", "unknown", "text/plain"),
            (b"BMW is a car", "a.txt", "unknown", "text/plain"),
            (b"\x01\x02\x03\x04", "a", "unknown", "application/octet-stream"),
            (b"MZ\x90\0\x03", "a", "exe", "application/x-dosexec"),
            (&dll, "a", "dll", "application/x-dosexec"),
            (b"", "a", "unknown", "inode/x-empty"),
        ];
        for (bytes, name, file_type, mime) in cases {
            let kind = FileType::detect(bytes, name);
            let charset = super::super::strings::text(bytes).1;
            assert_eq!(names(bytes, kind, name, charset), (*file_type, *mime), "{name} {kind:?}");
        }
        for at in 0..dll.len() {
            is_dll(&dll[..at]);
        }
    }

    #[test]
    fn tastes() {
        let of = |text: &str| flavors(text.as_bytes(), Some(text), "text/plain", FileType::Text, false);
        assert_eq!(of("var a = function(x) { return 1 };"), ["javascript_file"]);
        assert_eq!(of("x\nDim a\nSet b = CreateObject(\"W\")"), ["vb_file"]);
        assert_eq!(of("TVqQAAMAAAAEAAAA//8AALg"), ["base64_pe"]);
        assert!(of("A letter with var in it.").is_empty());
        assert_eq!(flavors(b"PK\x03\x04", None, "application/zip", FileType::Zip, true), ["encrypted_zip"]);
    }
}
