//! Documents, by cheap markers: macros and embedded objects in Office files, active parts and links of PDF, scripts
//! and forms of HTML and SVG.
//!
//! No file format is parsed in full: a marker that is compressed away (PDF object streams) is not seen, and a broken
//! file shows its markers all the same. Never fails.

use memchr::memmem;

use super::{ContentLimits, Trait};
use crate::mail::{HtmlContent, Link, LinkKind};

/// Old Office files: the directory of a compound file names its streams in UTF-16.
pub(super) fn ole(bytes: &[u8]) -> Vec<Trait> {
    let names = [
        ("_VBA_PROJECT", Trait::Macros),
        ("Ole10Native", Trait::EmbeddedObject),
        ("EncryptedPackage", Trait::Encrypted),
    ];
    let has = |name: &str| {
        let wide: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        memmem::find(bytes, &wide).is_some()
    };
    names.into_iter().filter(|(name, _)| has(name)).map(|(_, found)| found).collect()
}

/// One member of an Office XML file, by name and content.
pub(super) fn office_member(
    name: &str,
    bytes: &[u8],
    traits: &mut Vec<Trait>,
    links: &mut Vec<Link>,
    limits: &ContentLimits,
) {
    let lower = name.to_ascii_lowercase();
    if lower.ends_with("vbaproject.bin") {
        traits.push(Trait::Macros);
    } else if lower.contains("/embeddings/") && lower.ends_with(".bin") {
        traits.push(Trait::EmbeddedObject);
    } else if lower.ends_with(".rels") {
        let text = String::from_utf8_lossy(bytes);
        for relation in text.split("<Relationship").skip(1).take(limits.max_links) {
            let external = relation.contains("TargetMode=\"External\"");
            let loaded =
                ["attachedTemplate", "oleObject", "/frame", "externalLink"].iter().any(|t| relation.contains(t));
            if external && loaded {
                traits.push(Trait::ExternalTemplate);
            }
            if let Some(target) = relation.split("Target=\"").nth(1).and_then(|t| t.split('"').next())
                && external
                && links.len() < limits.max_links
            {
                links.push(Link::plain(&target.replace("&amp;", "&")));
            }
        }
    }
}

/// PDF by its names (ISO 32000, 7.3.5) and the targets of its links.
pub(super) fn pdf(bytes: &[u8], limits: &ContentLimits) -> (Vec<Trait>, Vec<Link>) {
    let names: [(&[u8], Trait); 7] = [
        (b"/JavaScript", Trait::PdfScript),
        (b"/JS", Trait::PdfScript),
        (b"/Launch", Trait::PdfLaunch),
        (b"/OpenAction", Trait::PdfOpenAction),
        (b"/EmbeddedFile", Trait::EmbeddedObject),
        (b"/Encrypt", Trait::Encrypted),
        (b"/AcroForm", Trait::Form),
    ];
    let has = |name: &[u8]| {
        memmem::find_iter(bytes, name).take(1_000).any(|at| {
            // A name ends where it ends: `/JSX` is another one.
            bytes.get(at + name.len()).is_none_or(|next| !next.is_ascii_alphanumeric() || name == b"/EmbeddedFile")
        })
    };
    let mut traits: Vec<Trait> = names.into_iter().filter(|(name, _)| has(name)).map(|(_, found)| found).collect();
    traits.dedup();
    let mut links = Vec::new();
    for at in memmem::find_iter(bytes, b"/URI").take(limits.max_links * 2) {
        let rest = &bytes[at + 4..bytes.len().min(at + 4 + 2_048)];
        let rest = rest.trim_ascii_start();
        if let Some(inner) = rest.strip_prefix(b"(")
            && let Some(end) = memchr::memchr(b')', inner)
            && links.len() < limits.max_links
        {
            links.push(Link::plain(&String::from_utf8_lossy(&inner[..end]).replace('\\', "")));
        }
    }
    (traits, links)
}

/// HTML or SVG as a file: opened in a browser, where scripts run.
pub(super) fn html(text: &str, svg: bool, limits: &ContentLimits) -> (Vec<Trait>, Vec<Link>) {
    let (content, links) = HtmlContent::read(text, limits.max_links);
    let mut traits = Vec::new();
    let mut add = |is: bool, what: Trait| traits.extend(is.then_some(what));
    let script = content.script_text.as_str();
    let has = |list: &[&str]| list.iter().any(|word| script.contains(word) || text.contains(word));
    let builds = ["createObjectURL", "new Blob", "msSaveOrOpenBlob", "msSaveBlob", ".download="];
    let decodes = ["atob(", "unescape(", "fromCharCode", "decodeURIComponent(", "charCodeAt"];
    add(content.scripts > 0, if svg { Trait::SvgScript } else { Trait::HtmlScript });
    add(content.passwords > 0, Trait::PasswordForm);
    add(!content.forms.is_empty(), Trait::Form);
    add(has(&builds) || data_target(&links), Trait::Smuggling);
    add(
        content.scripts > 0 && has(&decodes) && longest_word(script).max(longest_word(longest_literal(text))) > 400,
        Trait::EncodedScript,
    );
    add(content.refresh.is_some() || has(&["location.href", "location.replace", "window.location"]), Trait::Redirect);
    (traits, links)
}

fn data_target(links: &[Link]) -> bool {
    let carries = |l: &Link| {
        matches!(l.kind, LinkKind::Anchor | LinkKind::Resource | LinkKind::Refresh)
            && ["data:text/html", "data:application/"].iter().any(|p| l.text.to_ascii_lowercase().starts_with(p))
    };
    links.iter().any(carries)
}

/// Event handlers hold code as well; it is enough to look where the longest run may be.
fn longest_literal(text: &str) -> &str {
    text.find("onload=").map_or("", |at| &text[at..])
}

/// Bytes of the longest run without white space or quotes: what is encoded is long.
fn longest_word(text: &str) -> usize {
    text.split([' ', '\n', '\r', '\t', '"', '\'', '`']).map(str::len).max().unwrap_or(0)
}
