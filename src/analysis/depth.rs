//! What detectors see of a message in its second look besides the message: attachments opened with the passwords that it
//! gives, where QR codes in pictures and documents lead, what is written in pictures, where links led that were followed, where macros lead and what they do. The
//! source of macros is no prose: it is not read for wording.

use super::Input;
use crate::content::{self, File};
use crate::mail::Link;

/// Links taken from pictures.
const MAX_LINKS: usize = 50;
/// Bytes of text taken from pictures.
const MAX_TEXT_BYTES: usize = 32 << 10;

/// What was found.
#[derive(Default)]
pub(super) struct Depth {
    /// Where codes in pictures and addresses written in them lead.
    pub(super) links: Vec<Link>,
    /// Hosts of codes.
    pub(super) codes: Vec<String>,
    /// What is written in pictures.
    pub(super) text: String,
    /// Files with macros that run by themselves and start or load something: name, and the word that says so.
    pub(super) macros: Vec<(String, String)>,
}

/// Opens the attachments, and in a second look what else there is to see.
pub(super) fn look(input: &Input<'_>) -> (Vec<File>, Depth) {
    let (message, limits) = (input.message, &input.site.content);
    let mut depth = Depth::default();
    if input.site.deep {
        for text in input.facts.answers.all("beta.ocr").filter_map(|answer| answer["text"].as_str()) {
            let room = MAX_TEXT_BYTES - depth.text.len().min(MAX_TEXT_BYTES);
            depth.text.push_str(&text[..text.floor_char_boundary(room)]);
            depth.text.push('\n');
        }
        let written = depth.text.split_whitespace().filter(|word| word.contains("://") || word.starts_with("www."));
        let links: Vec<Link> = written.take(MAX_LINKS).map(Link::plain).collect();
        depth.links.extend(links.into_iter().filter(Link::is_web));
        let followed = input.facts.services.followed.known().into_iter().flatten();
        let ends = followed.filter(|link| !link.hops.is_empty()).map(|link| Link::plain(link.effective()));
        depth.links.extend(ends.take(MAX_LINKS).filter(Link::is_web));
    }
    if message.attachments().next().is_none() {
        return (Vec::new(), depth);
    }
    let files = content::explode_with(message, limits, &input.site.means(message, limits));
    if !input.site.deep {
        return (files, depth);
    }
    let codes = files.iter().flat_map(content::codes).filter(|code| code.kind == "url").take(MAX_LINKS);
    for link in codes.map(|code| Link::plain(code.data.trim())).filter(Link::is_web) {
        depth.codes.extend(link.host().map(str::to_owned));
        depth.links.push(link);
    }
    for (file, vba) in files.iter().filter_map(|file| Some((file, file.vba()?))) {
        depth.macros.extend(vba.attack().map(|word| (file.name.clone(), word.to_owned())));
        let links: Vec<Link> = vba.addresses().take(MAX_LINKS).map(Link::plain).collect();
        depth.links.extend(links.into_iter().filter(Link::is_web));
    }
    (files, depth)
}
