//! Office Open XML (ECMA-376): properties, external relationships, text, pictures, the macro project.
//!
//! Only the members that carry these are unpacked, each and together bounded (`max_member_bytes`, `max_unpacked_bytes`).
//! Never fails: what cannot be read is absent. Not here: old Office (`ole`), macro source (`vba`).

use std::io::{Cursor, Read};

use bytes::Bytes;

use super::ContentLimits;
use super::xml::{Event, Reader, attribute, local};

/// Something a part of an Office file points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relationship {
    /// The last word of the type: `hyperlink`, `oleObject`, `attachedTemplate`, …
    pub name: String,
    /// Where it leads, as written, entities decoded.
    pub target: String,
}

/// What an Office file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Office {
    /// Document properties as ExifTool names them, in order.
    pub properties: Vec<(String, String)>,
    /// Relationships to places outside the file.
    pub relationships: Vec<Relationship>,
    /// Text of the document, the slides or the shared strings; paragraphs are lines.
    pub text: String,
    /// Words in the text.
    pub word_count: usize,
    /// Pictures placed in the text or on slides.
    pub image_count: usize,
    /// The macro project (a compound file), as far as it was unpacked.
    pub macros: Option<Bytes>,
}

impl Office {
    /// One property.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.properties.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Who wrote it (`dc:creator`).
    pub fn author(&self) -> Option<&str> {
        self.property("Creator")
    }
}

/// Reads a file; `None` when the zip cannot be opened.
pub(super) fn read(bytes: &Bytes, limits: &ContentLimits) -> Option<Office> {
    if memchr::memmem::find_iter(bytes, b"PK\x01\x02").take(limits.max_members + 1).count() > limits.max_members {
        return None;
    }
    let mut archive = ::zip::ZipArchive::new(Cursor::new(bytes.clone())).ok()?;
    let (mut out, mut budget) = (Office::default(), limits.max_unpacked_bytes);
    for index in 0..archive.len() {
        let Ok(file) = archive.by_index(index) else { continue };
        let name = String::from_utf8_lossy(file.name_raw()).to_ascii_lowercase();
        let Some(role) = role(&name) else { continue };
        let mut content = Vec::new();
        let most = limits.max_member_bytes.min(budget);
        let _ = file.take(most as u64).read_to_end(&mut content);
        budget -= content.len();
        if role == Role::Macros {
            out.macros = Some(content.into());
            continue;
        }
        let text = String::from_utf8_lossy(&content);
        match role {
            Role::Properties => properties(&text, &mut out.properties, limits),
            Role::Custom => custom(&text, &mut out.properties, limits),
            Role::Relations => relations(&text, &mut out.relationships, limits),
            Role::Text => self::text(&text, &mut out, limits),
            Role::Macros => {}
        }
    }
    out.word_count = out.text.split_whitespace().count();
    Some(out)
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Properties,
    Custom,
    Relations,
    Text,
    Macros,
}

fn role(name: &str) -> Option<Role> {
    let file = name.rsplit('/').next().unwrap_or(name);
    if name.ends_with(".rels") {
        Some(Role::Relations)
    } else if file == "vbaproject.bin" {
        Some(Role::Macros)
    } else if name.starts_with("docprops/custom") {
        Some(Role::Custom)
    } else if name.starts_with("docprops/") && name.ends_with(".xml") {
        Some(Role::Properties)
    } else {
        let text = (name.starts_with("word/")
            && (file.starts_with("document") || file.starts_with("header") || file.starts_with("footer")))
            || name == "xl/sharedstrings.xml"
            || (name.starts_with("ppt/slides/") && file.starts_with("slide"));
        (text && name.ends_with(".xml")).then_some(Role::Text)
    }
}

/// The name ExifTool gives to a property of `docProps/app.xml` and `core.xml`.
fn exif_name(name: &str) -> String {
    match name {
        "TotalTime" => "TotalEditTime".to_owned(),
        "created" => "CreateDate".to_owned(),
        "modified" => "ModifyDate".to_owned(),
        "lastPrinted" => "LastPrinted".to_owned(),
        "revision" => "RevisionNumber".to_owned(),
        "HLinks" => "Hyperlinks".to_owned(),
        other => capital(other),
    }
}

/// With a capital first letter.
pub(super) fn capital(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn properties(text: &str, out: &mut Vec<(String, String)>, limits: &ContentLimits) {
    // Depth 1 is the property, what is deeper (vectors) is joined into its value.
    let (mut depth, mut key, mut values) = (0_usize, String::new(), Vec::new());
    for event in Reader::new(text) {
        match event {
            Event::Start { name, .. } => {
                if depth == 1 {
                    key = exif_name(name);
                    values.clear();
                }
                depth += 1;
            }
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                if depth == 1 && !key.is_empty() && out.len() < limits.max_members {
                    let mut value = values.join(", ");
                    if key == "TotalEditTime" && value != "0" {
                        value.push_str(if value == "1" { " minute" } else { " minutes" });
                    }
                    out.push((std::mem::take(&mut key), value));
                }
            }
            Event::Text(text) if depth > 1 && !text.trim().is_empty() => values.push(text.trim().to_owned()),
            Event::Text(_) => {}
        }
    }
}

fn custom(text: &str, out: &mut Vec<(String, String)>, limits: &ContentLimits) {
    let (mut key, mut value) = (None, String::new());
    for event in Reader::new(text) {
        match event {
            Event::Start { name: "property", attributes } => {
                key = attribute(attributes, "name").map(|name| capital(&name));
                value.clear();
            }
            Event::End("property") => {
                if let Some(key) = key.take().filter(|_| out.len() < limits.max_members) {
                    out.push((key, std::mem::take(&mut value)));
                }
            }
            Event::Text(text) if key.is_some() => value.push_str(text.trim()),
            _ => {}
        }
    }
}

fn relations(text: &str, out: &mut Vec<Relationship>, limits: &ContentLimits) {
    for event in Reader::new(text) {
        let Event::Start { name: "Relationship", attributes } = event else { continue };
        let external = attribute(attributes, "TargetMode").is_some_and(|mode| mode.eq_ignore_ascii_case("External"));
        let (kind, target) = (attribute(attributes, "Type"), attribute(attributes, "Target"));
        if let (true, Some(kind), Some(target)) = (external && out.len() < limits.max_links, kind, target) {
            let name = local(kind.rsplit('/').next().unwrap_or_default()).to_owned();
            out.push(Relationship { name, target: target.into_owned() });
        }
    }
}

fn text(text: &str, out: &mut Office, limits: &ContentLimits) {
    let mut run = false;
    for event in Reader::new(text) {
        match event {
            Event::Start { name: "t", .. } => run = true,
            Event::Start { name: "pic", .. } => out.image_count += 1,
            Event::Start { name: "tab", .. } => out.text.push('\t'),
            Event::End("t") => run = false,
            Event::End("p" | "si") | Event::Start { name: "br", .. }
                if !out.text.is_empty() && !out.text.ends_with('\n') =>
            {
                out.text.push('\n');
            }
            Event::Text(piece) if run && out.text.len() < limits.max_text_bytes => out.text.push_str(&piece),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    pub(crate) fn pack(members: &[(&str, &str)]) -> Bytes {
        let mut zip = ::zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in members {
            zip.start_file(*name, ::zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap().into_inner().into()
    }

    fn document() -> Bytes {
        pack(&[
            (
                "docProps/core.xml",
                "<cp:coreProperties><dc:title>Offer</dc:title><dc:creator>root</dc:creator>\
              <dcterms:created>2026-01-01T00:00:00Z</dcterms:created><dc:subject/></cp:coreProperties>",
            ),
            (
                "docProps/app.xml",
                "<Properties><TotalTime>0</TotalTime><Application>Go Excelize</Application>\
              <TitlesOfParts><vt:vector><vt:lpstr>One</vt:lpstr><vt:lpstr>Two</vt:lpstr></vt:vector></TitlesOfParts>\
              </Properties>",
            ),
            (
                "docProps/custom.xml",
                "<Properties><property fmtid='{D}' name='contentTypeId'><vt:lpwstr>0x01</vt:lpwstr>\
              </property></Properties>",
            ),
            (
                "word/_rels/document.xml.rels",
                "<Relationships><Relationship Type=\"http://s/relationships/hyperlink\" \
              Target=\"https://example.com/?a&amp;b\" TargetMode=\"External\"/><Relationship Type='http://s/image' \
              Target='media/1.png'/></Relationships>",
            ),
            (
                "word/document.xml",
                "<w:document><w:p><w:r><w:t>Pay </w:t></w:r><w:r><w:t xml:space='preserve'>&lt;now&gt;\
              </w:t></w:r></w:p><w:p><pic:pic><pic:nvPicPr/></pic:pic></w:p></w:document>",
            ),
        ])
    }

    #[test]
    fn a_document() {
        let office = read(&document(), &ContentLimits::default()).unwrap();
        assert_eq!(office.author(), Some("root"));
        let expected = [
            ("Title", "Offer"),
            ("CreateDate", "2026-01-01T00:00:00Z"),
            ("TotalEditTime", "0"),
            ("Subject", ""),
            ("Application", "Go Excelize"),
            ("TitlesOfParts", "One, Two"),
            ("ContentTypeId", "0x01"),
        ];
        for (key, value) in expected {
            assert_eq!(office.property(key), Some(value), "{key}");
        }
        assert_eq!(office.text, "Pay <now>\n");
        assert_eq!((office.word_count, office.image_count), (2, 1));
        let link = Relationship { name: "hyperlink".into(), target: "https://example.com/?a&b".into() };
        assert_eq!(office.relationships, [link]);
    }

    #[test]
    fn limits_hold() {
        let limits = ContentLimits { max_text_bytes: 2, max_unpacked_bytes: 900, ..ContentLimits::default() };
        assert!(read(&document(), &limits).unwrap().text.len() < 8);
        assert!(read(&document(), &ContentLimits { max_members: 2, ..limits }).is_none());
        let whole = document();
        for at in 0..whole.len() {
            read(&whole.slice(..at), &ContentLimits::default());
        }
    }
}
