//! The explosion tree: every attachment, what is in it, and what is remarkable about each file. Bounded, iterative.
//!
//! Over 500 lines: one queue of files, and what each kind of file adds to it.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, OnceLock};

use bytes::Bytes;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::scan::Answers;
use super::unpack::{Codec, End};
use super::{
    ContentLimits, FileType, Means, archive, cabinet, document, iso, name, objects, ole, rar, seven_zip, unpack,
};
use crate::mail::{Link, Message, MessageLimits, PartKind};

macro_rules! traits {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal,)+) => {
        /// What is remarkable about a file. Not yet a judgement.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Trait {
            $($(#[doc = $doc])+ #[serde(rename = $code)] $name,)+
        }

        impl Trait {
            /// The code used in records and for people.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }
        }
    };
}

traits! {
    /// Runs when opened: a program.
    Program = "program",
    /// Runs when opened: a script.
    ScriptFile = "script_file",
    /// Runs something else when opened.
    Shortcut = "shortcut",
    /// A disk image: files in it lose the mark of the web.
    DiskImage = "disk_image",
    /// A harmless extension in front of one that runs.
    DoubleExtension = "double_extension",
    /// The name promises a harmless type, the bytes are another.
    TypeMismatch = "type_mismatch",
    /// The name is shown in another order than it stands.
    ReorderedName = "reordered_name",
    /// A member's name leads out of the folder.
    TraversalName = "traversal_name",
    /// Cannot be opened without a password.
    Encrypted = "encrypted",
    /// Was opened with a password that the message gives.
    PasswordGiven = "password_given",
    /// Office macros.
    Macros = "macros",
    /// An Office file that loads a template or object from elsewhere.
    ExternalTemplate = "external_template",
    /// A file packed into a document.
    EmbeddedObject = "embedded_object",
    /// PDF with JavaScript.
    PdfScript = "pdf_script",
    /// PDF that starts a program.
    PdfLaunch = "pdf_launch",
    /// PDF that does something when opened.
    PdfOpenAction = "pdf_open_action",
    /// HTML with scripts.
    HtmlScript = "html_script",
    /// SVG with scripts.
    SvgScript = "svg_script",
    /// Scripts that decode a long text.
    EncodedScript = "encoded_script",
    /// Builds a file on the reader's side, past every scanner.
    Smuggling = "smuggling",
    /// Leads on to another place when opened.
    Redirect = "redirect",
    /// A form.
    Form = "form",
    /// A form that asks for a password.
    PasswordForm = "password_form",
    /// The EICAR test file.
    Eicar = "eicar",
    /// More members than `max_members`, unopened.
    TooManyMembers = "too_many_members",
    /// Claims to unpack to far more than it is; unopened.
    Bomb = "bomb",
    /// Nested deeper than `max_depth`; unopened.
    TooDeep = "too_deep",
    /// Not all of it was read.
    Cut = "cut",
    /// Cannot be read.
    Broken = "broken",
}

/// One file: an attachment or a member of one.
#[derive(Debug)]
pub struct File {
    /// Index of the archive or message it is in; `None` for an attachment.
    pub parent: Option<usize>,
    /// Part of the message it came with (of the nested message, for files inside one).
    pub part: usize,
    /// Archives and messages around it.
    pub depth: usize,
    /// Its name; empty when it has none.
    pub name: String,
    /// The type its sender declared; empty for members of archives.
    pub declared: String,
    /// The type its bytes show.
    pub kind: FileType,
    /// Size in bytes; for a member that was not unpacked, what the archive claims.
    pub size: u64,
    /// Its content, as far as it was unpacked.
    pub bytes: Bytes,
    /// What is remarkable, each once.
    pub traits: Vec<Trait>,
    /// Links found inside.
    pub links: Vec<Link>,
    pub(super) limits: Arc<ContentLimits>,
    pub(super) means: Arc<Means>,
    pub(super) answers: Answers,
    sha256: OnceLock<[u8; 32]>,
}

impl File {
    /// The extension in lower case.
    pub fn extension(&self) -> Option<String> {
        name::extension(&self.name)
    }

    /// Whether it has that trait.
    pub fn is(&self, what: Trait) -> bool {
        self.traits.contains(&what)
    }

    /// SHA-256 of the content, as far as it was unpacked.
    pub fn sha256(&self) -> &[u8; 32] {
        self.sha256.get_or_init(|| Sha256::digest(&self.bytes).into())
    }
}

/// Opens all attachments of a message. Archives come before what they hold.
pub fn explode(message: &Message, limits: &ContentLimits) -> Vec<File> {
    explode_with(message, limits, &Means::new(limits, None))
}

/// The same, with what there is for the files of this message.
pub fn explode_with(message: &Message, limits: &ContentLimits, means: &Arc<Means>) -> Vec<File> {
    let mut work = Work::new(limits, means, None);
    work.attachments(message, None, 0);
    while let Some(index) = work.open.pop_front() {
        work.examine(index, message.limits());
    }
    work.files
}

/// Opens one file in depth: it is the first of the list, what is in it follows. Documents are opened as well.
///
/// `declared` is the type its sender gave. Bounded by `max_files`, `max_depth`, `max_unpacked_bytes` and, for all bytes
/// that are read, `max_work_bytes`; what is beyond stays closed and is marked [`Trait::Cut`]. RAR is listed only, what
/// needs a password stays closed.
pub fn explode_file(name: &str, declared: &str, bytes: Bytes, limits: &ContentLimits) -> Vec<File> {
    explode_file_with(name, declared, bytes, limits, &Means::new(limits, None), &|| false)
}

/// The same, with what there is for the files of this message. `out_of_time` is asked before each file: what is then still
/// unopened is marked [`Trait::Cut`].
pub fn explode_file_with(
    name: &str,
    declared: &str,
    bytes: Bytes,
    limits: &ContentLimits,
    means: &Arc<Means>,
    out_of_time: &dyn Fn() -> bool,
) -> Vec<File> {
    let mut work = Work::new(limits, means, Some(limits.max_work_bytes));
    let kind = match FileType::detect(&bytes, name) {
        FileType::Text if declared.eq_ignore_ascii_case("message/rfc822") => FileType::Mail,
        FileType::Text if declared.eq_ignore_ascii_case("text/html") => FileType::Html,
        FileType::Text if declared.eq_ignore_ascii_case("text/calendar") => FileType::Calendar,
        kind => kind,
    };
    work.push(None, 0, 0, name, declared, kind, bytes.len() as u64, bytes);
    let mail = MessageLimits::default();
    while let Some(index) = work.open.pop_front() {
        let size = work.files[index].bytes.len();
        match work.work.as_mut() {
            Some(left) if *left >= size && !out_of_time() => {
                *left -= size;
                work.examine(index, &mail);
            }
            _ => work.add(index, &[Trait::Cut]),
        }
    }
    work.files
}

struct Work<'a> {
    limits: &'a ContentLimits,
    shared: Arc<ContentLimits>,
    means: Arc<Means>,
    /// Bytes that may still be read, when files are opened in depth.
    work: Option<usize>,
    files: Vec<File>,
    open: VecDeque<usize>,
    budget: usize,
    passwords: archive::Passwords,
}

impl<'a> Work<'a> {
    fn new(limits: &'a ContentLimits, means: &Arc<Means>, work: Option<usize>) -> Self {
        let (shared, budget) = (Arc::new(limits.clone()), limits.max_unpacked_bytes);
        let means = Arc::clone(means);
        let passwords = archive::Passwords::new(means.passwords());
        Self { limits, shared, means, work, files: Vec::new(), open: VecDeque::new(), budget, passwords }
    }

    fn attachments(&mut self, message: &Message, parent: Option<usize>, depth: usize) {
        for (index, part) in message.attachments() {
            for bytes in std::iter::once(part.bytes()).chain(part.other_bytes()) {
                let names: Vec<&str> = part.file_names().collect();
                // With two names readers differ: the worse one is looked at.
                let risky = |n: &&str| name::is_program(n) || name::is_script(n) || name::is_shortcut(n);
                let name = names.iter().copied().find(risky).or(names.first().copied()).unwrap_or_default();
                let declared = part.content_type.value.as_str();
                let mut kind = FileType::detect(bytes, name);
                if part.kind == PartKind::Message {
                    kind = FileType::Mail;
                } else if part.kind == PartKind::Html && kind == FileType::Text {
                    kind = FileType::Html;
                }
                self.push(parent, index, depth, name, declared, kind, bytes.len() as u64, bytes.clone());
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // One row of the tree, in the order of its fields.
    fn push(
        &mut self,
        parent: Option<usize>,
        part: usize,
        depth: usize,
        name: &str,
        declared: &str,
        kind: FileType,
        size: u64,
        bytes: Bytes,
    ) -> Option<usize> {
        let index = self.files.len();
        if index >= self.limits.max_files {
            if let Some(parent) = parent {
                self.add(parent, &[Trait::TooManyMembers]);
            }
            return None;
        }
        let (name, declared) = (name.chars().take(500).collect(), declared.to_owned());
        let (traits, links, sha256) = (Vec::new(), Vec::new(), OnceLock::new());
        let (limits, means, answers) = (self.shared.clone(), self.means.clone(), Answers::default());
        self.files.push(File {
            parent,
            part,
            depth,
            name,
            declared,
            kind,
            size,
            bytes,
            traits,
            links,
            limits,
            means,
            answers,
            sha256,
        });
        self.open.push_back(index);
        Some(index)
    }

    fn add(&mut self, index: usize, traits: &[Trait]) {
        let known = &mut self.files[index].traits;
        for what in traits {
            if !known.contains(what) {
                known.push(*what);
            }
        }
    }

    fn examine(&mut self, index: usize, mail_limits: &MessageLimits) {
        let file = &self.files[index];
        let bytes = file.bytes.slice(..file.bytes.len().min(self.limits.max_read_bytes));
        let (kind, depth) = (file.kind, file.depth);
        let mut traits = of_name(file);
        if has_eicar(&bytes) {
            traits.push(Trait::Eicar);
        }
        if depth >= self.limits.max_depth && (kind.is_archive() || matches!(kind, FileType::Mail | FileType::DiskImage))
        {
            traits.push(Trait::TooDeep);
            self.add(index, &traits);
            return;
        }
        let (more, links) = match kind {
            FileType::Ole => (document::ole(&bytes), Vec::new()),
            FileType::Pdf => document::pdf(&bytes, self.limits),
            FileType::Html => document::html(&String::from_utf8_lossy(&bytes), false, self.limits),
            FileType::Svg => document::html(&String::from_utf8_lossy(&bytes), true, self.limits),
            FileType::Rar => {
                (archive::rar_encrypted(&bytes).then_some(Trait::Encrypted).into_iter().collect(), Vec::new())
            }
            FileType::Rtf => (rtf(&bytes), Vec::new()),
            FileType::Zip | FileType::OfficeXml | FileType::OpenDocument => self.zip(index),
            FileType::Tar => {
                let listing = archive::tar(&self.files[index].bytes, self.limits);
                (self.members(index, listing), Vec::new())
            }
            FileType::Gzip | FileType::SevenZip | FileType::OtherArchive | FileType::DiskImage => {
                (self.unpack(index), Vec::new())
            }
            FileType::Mail => self.mail(index, bytes, mail_limits),
            _ => (Vec::new(), Vec::new()),
        };
        traits.extend(more);
        self.add(index, &traits);
        self.files[index].links.extend(links);
        if self.work.is_some() && depth < self.limits.max_depth {
            self.deepen(index);
        }
    }

    /// What is in 7z, cabinets, disk images, packed streams. Directories may stand at the end: all bytes are read.
    fn unpack(&mut self, index: usize) -> Vec<Trait> {
        let file = &self.files[index];
        let (kind, bytes) = (file.kind, file.bytes.clone());
        let listing = if kind == FileType::SevenZip {
            seven_zip::open(&bytes, self.limits, &mut self.budget)
        } else if bytes.starts_with(b"MSCF") {
            cabinet::open(&bytes, self.limits, &mut self.budget)
        } else if iso::is_iso(&bytes) {
            iso::open(&bytes, self.limits, &mut self.budget)
        } else if let Some(codec) = Codec::detect(&bytes) {
            let name = archive::gzip_name(&bytes).filter(|_| codec == Codec::Gzip);
            let name = name.or_else(|| codec.inner_name(&file.name));
            let (content, end) = unpack::stream(codec, &bytes, self.limits, &mut self.budget);
            let traits = match end {
                End::Whole => None,
                End::Cut => Some(Trait::Cut),
                End::Bomb => Some(Trait::Bomb),
                End::Broken => Some(Trait::Broken),
            };
            let known = name.is_some() || !content.is_empty();
            let member = archive::Member {
                size: content.len() as u64,
                bytes: content.into(),
                cut: end != End::Whole,
                ..archive::Member::empty(name.unwrap_or_default())
            };
            let members = known.then_some(member).into_iter().collect();
            archive::Listing { members, traits: traits.into_iter().collect() }
        } else {
            archive::Listing::default()
        };
        self.members(index, listing)
    }

    /// What is in documents, and the names in archives that stay closed.
    fn deepen(&mut self, index: usize) {
        let most = self.limits.max_members;
        let (kind, bytes) = (self.files[index].kind, self.files[index].bytes.clone());
        let mut found: Vec<(String, Bytes, Option<FileType>)> = Vec::new();
        let plain = |(name, content): (String, Vec<u8>)| (name, Bytes::from(content), None);
        match kind {
            FileType::Html | FileType::Svg => self.page(index, &mut found),
            FileType::OfficeXml => {
                let text = self.files[index].office().map(|office| office.text.clone()).unwrap_or_default();
                found.push(("text".to_owned(), text.into(), Some(FileType::Text)));
            }
            FileType::Pdf => self.pdf(index, &mut found),
            FileType::Rtf => found.extend(objects::rtf(&bytes, most, &mut self.budget).into_iter().map(plain)),
            FileType::OneNote => found.extend(objects::onenote(&bytes, most, &mut self.budget).into_iter().map(plain)),
            FileType::Ole if bytes.len() <= self.limits.max_read_bytes => {
                found.extend(ole::objects(&bytes, most, &mut self.budget).into_iter().map(plain))
            }
            FileType::Rar => self.rar(index, &bytes),
            _ => {}
        }
        if let Some(vba) = self.files[index].vba() {
            let modules = vba.modules.iter().take(most);
            let modules = modules.map(|(name, text)| (name.clone(), text.clone().into(), Some(FileType::Script)));
            found.extend(modules.collect::<Vec<_>>());
        }
        let (part, depth) = (self.files[index].part, self.files[index].depth + 1);
        for (name, content, kind) in found.into_iter().filter(|(_, content, _)| !content.is_empty()) {
            let kind = kind.unwrap_or_else(|| FileType::detect(&content, &name));
            self.push(Some(index), part, depth, &name, "", kind, content.len() as u64, content);
        }
    }

    fn page(&self, index: usize, found: &mut Vec<(String, Bytes, Option<FileType>)>) {
        let Some(page) = self.files[index].html() else { return };
        for (number, script) in page.scripts.iter().enumerate().filter(|(_, script)| !script.text.trim().is_empty()) {
            found.push((format!("script_{number}"), script.text.clone().into(), Some(FileType::Script)));
        }
        found.extend(page.data(self.limits.max_member_bytes).map(|(_, content)| (String::new(), content.into(), None)));
    }

    #[cfg(feature = "pdf")]
    fn pdf(&mut self, index: usize, found: &mut Vec<(String, Bytes, Option<FileType>)>) {
        let Some(pdf) = self.files[index].pdf() else { return };
        let mut traits = Vec::new();
        traits.extend(pdf.encrypted.then_some(Trait::Encrypted));
        traits.extend(pdf.broken.then_some(Trait::Broken));
        traits.extend(pdf.cut.then_some(Trait::Cut));
        traits.extend((!pdf.scripts.is_empty()).then_some(Trait::PdfScript));
        found.push(("text".to_owned(), pdf.text.clone().into(), Some(FileType::Text)));
        let scripts = pdf.scripts.iter().map(|s| ("javascript".to_owned(), s.clone().into(), Some(FileType::Script)));
        found.extend(scripts);
        found.extend(pdf.files.iter().map(|(name, content)| (name.clone(), content.clone(), None)));
        self.add(index, &traits);
    }

    #[cfg(not(feature = "pdf"))]
    fn pdf(&mut self, _index: usize, _found: &mut Vec<(String, Bytes, Option<FileType>)>) {}

    fn rar(&mut self, index: usize, bytes: &[u8]) {
        let members = rar::list(bytes, self.limits.max_members).into_iter().map(|entry| archive::Member {
            name: entry.name,
            size: entry.size,
            encrypted: entry.encrypted,
            bytes: Bytes::new(),
            cut: true,
        });
        let listing = archive::Listing { members: members.collect(), traits: Vec::new() };
        let traits = self.members(index, listing);
        self.add(index, &traits);
    }

    fn zip(&mut self, index: usize) -> (Vec<Trait>, Vec<Link>) {
        let bytes = self.files[index].bytes.clone();
        let listing = archive::zip(&bytes, self.limits, &mut self.budget, &mut self.passwords);
        if self.files[index].kind == FileType::Zip {
            return (self.members(index, listing), Vec::new());
        }
        let (mut traits, mut links) = (Vec::new(), Vec::new());
        for member in &listing.members {
            document::office_member(&member.name, &member.bytes, &mut traits, &mut links, self.limits);
            if has_eicar(&member.bytes) {
                traits.push(Trait::Eicar);
            }
        }
        match self.work {
            Some(_) => traits.extend(self.members(index, listing)),
            None => traits.extend(listing.traits),
        }
        (traits, links)
    }

    fn members(&mut self, index: usize, listing: archive::Listing) -> Vec<Trait> {
        let (part, depth) = (self.files[index].part, self.files[index].depth + 1);
        let mut traits = listing.traits;
        for member in listing.members {
            traits.extend(member.encrypted.then_some(Trait::Encrypted));
            traits.extend(name::is_traversal(&member.name).then_some(Trait::TraversalName));
            let kind = match member.bytes.is_empty() {
                true => FileType::Unknown,
                false => FileType::detect(&member.bytes, &member.name),
            };
            if let Some(new) = self.push(Some(index), part, depth, &member.name, "", kind, member.size, member.bytes) {
                let marks = [(member.cut, Trait::Cut), (member.encrypted, Trait::Encrypted)];
                self.add(new, &marks.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect::<Vec<_>>());
            }
        }
        traits
    }

    fn mail(&mut self, index: usize, bytes: Bytes, limits: &MessageLimits) -> (Vec<Trait>, Vec<Link>) {
        let depth = self.files[index].depth + 1;
        let message = Message::parse(bytes, limits);
        self.attachments(&message, Some(index), depth);
        let links = message.links().iter().take(self.limits.max_links).cloned().collect();
        (Vec::new(), links)
    }
}

/// Whether the EICAR test file is in there. Backwards here, or scanners would take this program for it.
pub fn has_eicar(bytes: &[u8]) -> bool {
    static FINDER: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| {
        let text: Vec<u8> =
            br"*H+H$!ELIF-TSET-SURIVITNA-DRADNATS-RACIE$}7)CC7)^P(45XZP\4[PA@%P!O5X".iter().rev().copied().collect();
        memmem::Finder::new(&text).into_owned()
    });
    FINDER.find(bytes).is_some()
}

fn of_name(file: &File) -> Vec<Trait> {
    let name = file.name.as_str();
    let runs = [
        (file.kind == FileType::Executable || name::is_program(name), Trait::Program),
        (file.kind == FileType::Script || name::is_script(name), Trait::ScriptFile),
        (file.kind == FileType::Shortcut || name::is_shortcut(name), Trait::Shortcut),
        (file.kind == FileType::DiskImage || name::is_disk_image(name), Trait::DiskImage),
        (name::is_double(name), Trait::DoubleExtension),
        (name::misleads(name, file.kind), Trait::TypeMismatch),
        (name::is_reordered(name), Trait::ReorderedName),
    ];
    runs.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect()
}

fn rtf(bytes: &[u8]) -> Vec<Trait> {
    let has = |word: &[u8]| memmem::find(bytes, word).is_some();
    let mut traits = Vec::new();
    if has(b"\\objdata") || has(b"\\objupdate") {
        traits.push(Trait::EmbeddedObject);
    }
    if has(b"\\*\\template") && has(b"://") {
        traits.push(Trait::ExternalTemplate);
    }
    traits
}
