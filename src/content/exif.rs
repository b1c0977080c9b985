//! Metadata under the key names that ExifTool gives them: EXIF, XMP, PNG text, ICC profiles, picture sizes, zip and gzip
//! headers. Documents bring their own (`pdf`, `office`, `ole`).
//!
//! Never fails: what cannot be read is absent, or a `Warning`. Limits: `max_members` fields, values cut at 1 KiB.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::office::capital;
use super::xml::{Event, Reader, attributes};

/// Metadata of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exif {
    /// Keys and values in the order found; a key may come twice.
    pub fields: Vec<(String, String)>,
}

/// Longest value kept, in bytes.
const LONGEST: usize = 1_024;

impl Exif {
    /// The first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.fields.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.trim().parse().ok()
    }

    /// `Creator`: the program (PDF) or the person (Office).
    pub fn creator(&self) -> Option<&str> {
        self.get("Creator")
    }

    /// `Producer`.
    pub fn producer(&self) -> Option<&str> {
        self.get("Producer")
    }

    /// `Title`.
    pub fn title(&self) -> Option<&str> {
        self.get("Title")
    }

    /// `Author`.
    pub fn author(&self) -> Option<&str> {
        self.get("Author")
    }

    /// `PageCount` of a PDF.
    pub fn page_count(&self) -> Option<u64> {
        self.number("PageCount")
    }

    /// Width in pixels.
    pub fn image_width(&self) -> Option<u64> {
        self.number("ImageWidth")
    }

    /// Height in pixels.
    pub fn image_height(&self) -> Option<u64> {
        self.number("ImageHeight")
    }

    /// Name of the first member of a zip.
    pub fn zip_file_name(&self) -> Option<&str> {
        self.get("ZipFileName")
    }

    /// Size of the first member of a zip, unpacked, in bytes, as the header claims.
    pub fn zip_uncompressed_size(&self) -> Option<u64> {
        self.number("ZipUncompressedSize")
    }

    pub(super) fn push(&mut self, key: &str, value: impl AsRef<str>) {
        let value = value.as_ref();
        let cut = &value[..value.floor_char_boundary(LONGEST)];
        self.fields.push((key.to_owned(), cut.to_owned()));
    }
}

/// Size of a picture in pixels, from its header: PNG, JPEG, GIF, BMP, WebP.
pub(super) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    let le16 = |at: usize| Some(u32::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?)));
    let be16 = |at: usize| Some(u32::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?)));
    let le32 = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let be32 = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    if bytes.starts_with(b"\x89PNG\r\n") {
        return Some((be32(16)?, be32(20)?));
    }
    if bytes.starts_with(b"GIF8") {
        return Some((le16(6)?, le16(8)?));
    }
    if bytes.starts_with(b"BM") {
        return Some((le32(18)?, le32(22)?.cast_signed().unsigned_abs()));
    }
    if bytes.get(8..12) == Some(b"WEBP") {
        return match bytes.get(12..16)? {
            b"VP8X" => Some(((le32(24)? & 0xff_ffff) + 1, (le32(27)? & 0xff_ffff) + 1)),
            b"VP8L" => le32(21).map(|bits| ((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1)),
            _ => Some((le16(26)? & 0x3fff, le16(28)? & 0x3fff)),
        };
    }
    if !bytes.starts_with(b"\xff\xd8") {
        return None;
    }
    let mut at = 2;
    loop {
        let (mark, kind) = (*bytes.get(at)?, *bytes.get(at + 1)?);
        match (mark, kind) {
            (0xff, 0xc0..=0xcf) if !matches!(kind, 0xc4 | 0xc8 | 0xcc) => return Some((be16(at + 7)?, be16(at + 5)?)),
            (0xff, 0xff) => at += 1,
            (0xff, 0x01 | 0xd0..=0xd8) => at += 2,
            (0xff, _) => at += 2 + usize::try_from(be16(at + 2)?.max(2)).ok()?,
            _ => return None,
        }
    }
}

/// Metadata of a picture.
pub(super) fn picture(bytes: &[u8], most: usize, out: &mut Exif) {
    if let Some((width, height)) = size(bytes) {
        out.push("ImageWidth", width.to_string());
        out.push("ImageHeight", height.to_string());
        out.push("ImageSize", format!("{width}x{height}"));
    }
    camera(bytes, most, out);
    if bytes.starts_with(b"\x89PNG\r\n") {
        png(bytes, most, out);
    } else if let Some(at) = memchr::memmem::find(&bytes[..bytes.len().min(1 << 20)], b"ICC_PROFILE\0") {
        profile(bytes.get(at + 14..).unwrap_or_default(), out);
    }
    xmp(bytes, most, out);
}

/// EXIF fields of JPEG, PNG, WebP, TIFF and HEIF.
fn camera(bytes: &[u8], most: usize, out: &mut Exif) {
    let read = || exif::Reader::new().read_from_container(&mut Cursor::new(bytes));
    let Ok(Ok(found)) = catch_unwind(AssertUnwindSafe(read)) else { return };
    for field in found.fields().filter(|f| f.ifd_num == exif::In::PRIMARY).take(most) {
        let name = field.tag.to_string();
        let key = match name.as_str() {
            "DateTime" => "ModifyDate",
            "DateTimeDigitized" => "CreateDate",
            "PixelXDimension" => "ExifImageWidth",
            "PixelYDimension" => "ExifImageHeight",
            "PhotographicSensitivity" => "ISO",
            name if name.starts_with("Tag(") => continue,
            name => name,
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_matches(['\0', ' ']).to_owned();
        let value = match &field.value {
            exif::Value::Ascii(lines) => lines.iter().map(|line| text(line)).collect::<Vec<_>>().join(" "),
            // The first eight bytes name the character set.
            exif::Value::Undefined(bytes, _) if key == "UserComment" => text(bytes.get(8..).unwrap_or_default()),
            exif::Value::Undefined(bytes, _) if bytes.len() > 64 => format!("(Binary data {} bytes)", bytes.len()),
            _ => field.display_value().to_string(),
        };
        out.push(key, value);
    }
}

/// Chunks of a PNG: text, the profile, and whether the file ends as it should.
fn png(bytes: &[u8], most: usize, out: &mut Exif) {
    let mut at = 8;
    let mut complete = false;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = usize::try_from(u32::from_be_bytes([head[0], head[1], head[2], head[3]])).unwrap_or(usize::MAX);
        let end = (at + 8).saturating_add(length);
        let body = &bytes[at + 8..end.min(bytes.len())];
        match &head[4..8] {
            b"tEXt" if out.fields.len() < most => {
                if let Some(zero) = memchr::memchr(0, body) {
                    let latin = |bytes: &[u8]| bytes.iter().map(|b| char::from(*b)).collect::<String>();
                    let key: String = latin(&body[..zero]).split_whitespace().map(capital).collect();
                    out.push(&key, latin(&body[zero + 1..]));
                }
            }
            b"iCCP" => {
                if let Some(zero) = memchr::memchr(0, body) {
                    // Name, zero, method, then zlib; the header is all that is read.
                    let mut header = Vec::new();
                    let packed = body.get(zero + 2..).unwrap_or_default();
                    let _ = std::io::Read::read_to_end(
                        &mut std::io::Read::take(flate2::read::ZlibDecoder::new(packed), 128),
                        &mut header,
                    );
                    profile(&header, out);
                }
            }
            b"IEND" => {
                complete = end <= bytes.len();
                break;
            }
            _ => {}
        }
        at = end.saturating_add(4);
    }
    if !complete {
        out.push("Warning", "Truncated PNG image");
    }
}

/// The header of an ICC profile (ICC.1, 7.2).
fn profile(header: &[u8], out: &mut Exif) {
    let name = |at: usize| header.get(at..at + 4).and_then(|b| std::str::from_utf8(b).ok()).map(str::trim);
    let company = |code: &str| match code {
        "APPL" | "appl" => "Apple Computer Inc.".to_owned(),
        "ADBE" => "Adobe Systems Inc.".to_owned(),
        "MSFT" => "Microsoft Corporation".to_owned(),
        "HP" => "Hewlett-Packard".to_owned(),
        other => other.to_owned(),
    };
    if header.get(36..40) != Some(b"acsp") {
        return;
    }
    for (key, at) in
        [("ProfileCMMType", 4), ("PrimaryPlatform", 40), ("DeviceManufacturer", 48), ("ProfileCreator", 80)]
    {
        if let Some(code) = name(at).filter(|code| !code.trim_matches('\0').is_empty()) {
            out.push(key, company(code));
        }
    }
}

/// XMP packets: elements and attributes with text, by their local name with a capital.
pub(super) fn xmp(bytes: &[u8], most: usize, out: &mut Exif) {
    let Some(start) = memchr::memmem::find(bytes, b"<x:xmpmeta") else { return };
    let rest = &bytes[start..];
    let end = memchr::memmem::find(rest, b"</x:xmpmeta").unwrap_or(rest.len()).min(1 << 20);
    let text = String::from_utf8_lossy(&rest[..end]);
    let mut key: Option<String> = None;
    let keep = |name: &str| match name {
        "xmptk" => "XMPToolkit".to_owned(),
        "CreatorTool" | "Producer" => name.to_owned(),
        other => capital(other),
    };
    for event in Reader::new(&text) {
        if out.fields.len() >= most {
            return;
        }
        match event {
            Event::Start { name, attributes: list } => {
                for (full, value) in attributes(list) {
                    let (prefix, name) = full.split_once(':').unwrap_or(("", full));
                    if !matches!(prefix, "xmlns" | "rdf" | "xml" | "") {
                        out.push(&keep(name), value);
                    }
                }
                // Lists: the value belongs to the element around them.
                if !matches!(name, "Alt" | "Seq" | "Bag" | "li") {
                    key = Some(keep(name));
                }
            }
            Event::Text(value) if !value.trim().is_empty() => {
                if let Some(key) = &key
                    && out.get(key).is_none()
                {
                    out.push(key, value.trim());
                }
            }
            _ => {}
        }
    }
}

/// The first local header of a zip (APPNOTE 4.3.7).
pub(super) fn zip(bytes: &[u8], out: &mut Exif) {
    let le16 = |at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let le32 = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let mut read = || {
        let (version, flags, method) = (le16(4)?, le16(6)?, le16(8)?);
        let (packed, size, name) = (le32(18)?, le32(22)?, usize::from(le16(26)?));
        let name = String::from_utf8_lossy(bytes.get(30..30 + name)?).into_owned();
        out.push("ZipRequiredVersion", version.to_string());
        out.push("ZipBitFlag", if flags == 0 { "0".to_owned() } else { format!("0x{flags:04x}") });
        out.push(
            "ZipCompression",
            match method {
                0 => "None",
                8 => "Deflated",
                _ => "Other",
            },
        );
        out.push("ZipCompressedSize", packed.to_string());
        out.push("ZipUncompressedSize", size.to_string());
        out.push("ZipFileName", name);
        Some(())
    };
    if bytes.starts_with(b"PK\x03\x04") {
        read();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: &[u8], body: &[u8]) -> Vec<u8> {
        [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], kind, body, &[0; 4]].concat()
    }

    fn png_file() -> Vec<u8> {
        let mut header = vec![0, 0, 1, 0, 0, 0, 0, 9];
        header.extend([8, 2, 0, 0, 0]);
        let mut profile = vec![0; 128];
        profile[36..40].copy_from_slice(b"acsp");
        profile[48..52].copy_from_slice(b"APPL");
        let mut packed = flate2::write::ZlibEncoder::new(b"icc\0\0".to_vec(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &profile).unwrap();
        let xmp = b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='Core 6'><rdf:RDF>\
            <rdf:Description rdf:about='' xmp:CreatorTool='Tool'><exif:UserComment><rdf:Alt><rdf:li>Screenshot</rdf:li>\
            </rdf:Alt></exif:UserComment></rdf:Description></rdf:RDF></x:xmpmeta>";
        [
            b"\x89PNG\r\n\x1a\n".to_vec(),
            chunk(b"IHDR", &header),
            chunk(b"iCCP", &packed.finish().unwrap()),
            chunk(b"tEXt", b"Software\0Paint"),
            chunk(b"iTXt", xmp),
            chunk(b"IEND", b""),
        ]
        .concat()
    }

    #[test]
    fn a_png() {
        let mut exif = Exif::default();
        picture(&png_file(), 100, &mut exif);
        let expected = [
            ("ImageWidth", "256"),
            ("ImageHeight", "9"),
            ("Software", "Paint"),
            ("XMPToolkit", "Core 6"),
            ("CreatorTool", "Tool"),
            ("UserComment", "Screenshot"),
            ("DeviceManufacturer", "Apple Computer Inc."),
        ];
        for (key, value) in expected {
            assert_eq!(exif.get(key), Some(value), "{key} {exif:?}");
        }
        assert_eq!((exif.image_width(), exif.get("Warning")), (Some(256), None));
    }

    #[test]
    fn cut_anywhere() {
        let jpeg = b"\xff\xd8\xff\xe1\0\x12Exif\0\0II*\0\x08\0\0\0\0\0\xff\xc0\0\x11\x08\0\x05\0\x07\x03";
        assert_eq!(size(jpeg), Some((7, 5)));
        for whole in [&png_file()[..], jpeg, b"BM12345678901234567890123456", b"RIFF1234WEBPVP8X12345678901234567890"] {
            for at in 0..whole.len() {
                picture(&whole[..at], 100, &mut Exif::default());
            }
        }
        let mut cut = Exif::default();
        picture(&png_file()[..60], 100, &mut cut);
        assert_eq!(cut.get("Warning"), Some("Truncated PNG image"));
    }

    #[test]
    fn the_first_member_of_a_zip() {
        let mut head = b"PK\x03\x04\x14\0\x01\0\x08\0aaaaCRC4\x05\0\0\0\x09\0\0\0\x05\0\0\0a.doc".to_vec();
        let mut exif = Exif::default();
        zip(&head, &mut exif);
        assert_eq!((exif.zip_file_name(), exif.zip_uncompressed_size()), (Some("a.doc"), Some(9)));
        while head.pop().is_some() {
            zip(&head, &mut Exif::default());
        }
    }
}
