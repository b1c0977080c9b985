//! What rules ask about one file, computed when first asked and kept: text, links, metadata, scripts, …
//!
//! Each accessor gives `None` where the question does not fit the kind of file. The types are those of the submodules.
//! Not here: opening archives (`explode`), the MQL names of these fields (`policy`).

use std::sync::OnceLock;

use linkify::{LinkFinder, LinkKind};
use md5::Digest as _;

use super::calendar::Calendar;
use super::exif::Exif;
use super::javascript::{Collector, JavaScript};
use super::office::Office;
use super::page::Page;
#[cfg(feature = "pdf")]
use super::pdf::Pdf;
use super::picture::QrCode;
use super::strings::{Charset, Text};
use super::vba::Vba;
use super::xml::Xml;
use super::yara::YaraFindings;
use super::{File, FileType, Trait, calendar, exif, flavor, office, ole, page, picture, strings, vba, xml};

/// The answers already known of a file.
#[derive(Debug, Default)]
pub(super) struct Answers {
    text: OnceLock<(Text, Option<Charset>)>,
    runs: OnceLock<Vec<std::ops::Range<usize>>>,
    names: OnceLock<(&'static str, &'static str)>,
    urls: OnceLock<Urls>,
    exif: OnceLock<Exif>,
    javascript: OnceLock<Option<JavaScript>>,
    page: OnceLock<Option<Page>>,
    xml: OnceLock<Option<Xml>>,
    calendars: OnceLock<Option<Vec<Calendar>>>,
    office: OnceLock<Option<Office>>,
    #[cfg(feature = "pdf")]
    pdf: OnceLock<Option<Pdf>>,
    zip: OnceLock<Option<Zip>>,
    hashes: OnceLock<Hashes>,
    qr: OnceLock<(Vec<QrCode>, bool)>,
    vba: OnceLock<Option<Vba>>,
    yara: OnceLock<Option<YaraFindings>>,
}

/// URLs of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Urls {
    /// Those that can be read, as written, each once.
    pub urls: Vec<String>,
    /// Those that look like URLs and cannot be read.
    pub invalid_urls: Vec<String>,
}

/// The directory of a zip.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zip {
    /// Names of all entries, folders included, in order.
    pub all_paths: Vec<String>,
    /// Names of those that were to be unpacked: all that are no folders.
    pub attempted_files: Vec<String>,
    /// Whether one of them needs a password.
    pub encrypted: bool,
    /// Entries that are no folders.
    pub total_files: usize,
    /// Those that could be unpacked.
    pub total_extracted: usize,
}

/// Digests of the content in lower-case hexadecimal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hashes {
    /// MD5.
    pub md5: String,
    /// SHA-1.
    pub sha1: String,
    /// SHA-256.
    pub sha256: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl File {
    /// The bytes that are looked at.
    fn head(&self) -> &[u8] {
        &self.bytes[..self.bytes.len().min(self.limits.max_read_bytes)]
    }

    fn decoded(&self) -> &(Text, Option<Charset>) {
        self.answers.text.get_or_init(|| strings::text(self.head()))
    }

    fn names(&self) -> (&'static str, &'static str) {
        *self.answers.names.get_or_init(|| flavor::names(self.head(), self.kind, &self.name, self.decoded().1))
    }

    /// The file type in the closed set of MDM: `pdf`, `docx`, `html`, …, `unknown`.
    pub fn file_type_name(&self) -> &'static str {
        self.names().0
    }

    /// The MIME type its bytes show, in libmagic's words.
    pub fn mime(&self) -> &'static str {
        self.names().1
    }

    /// Names of the type-tasting patterns that match.
    pub fn yara_flavors(&self) -> Vec<&'static str> {
        let encrypted = self.bytes.starts_with(b"PK") && self.zip().is_some_and(|zip| zip.encrypted);
        flavor::flavors(self.head(), self.text(), self.mime(), self.kind, encrypted)
    }

    /// The whole file as text, when it is text (UTF-8, UTF-16, ISO 8859-1).
    pub fn text(&self) -> Option<&str> {
        match &self.decoded().0 {
            Text::None => None,
            Text::AsIs(start) => self.head().get(*start..).and_then(|bytes| std::str::from_utf8(bytes).ok()),
            Text::Decoded(text) => Some(text),
        }
    }

    /// Runs of at least four printable ASCII characters, in order.
    pub fn strings(&self) -> impl Iterator<Item = &str> {
        let bytes = match &self.decoded().0 {
            Text::Decoded(text) => text.as_bytes(),
            _ => self.head(),
        };
        let runs = self.answers.runs.get_or_init(|| strings::runs(bytes, self.limits.max_strings));
        runs.iter().filter_map(|run| std::str::from_utf8(bytes.get(run.clone())?).ok())
    }

    /// Shannon entropy in bits a byte, 0 to 8.
    pub fn entropy(&self) -> f64 {
        strings::entropy(&self.bytes)
    }

    /// Whether it needs a password.
    pub fn is_encrypted(&self) -> bool {
        self.is(Trait::Encrypted) || self.zip().is_some_and(|zip| zip.encrypted)
    }

    /// Digests of the content.
    pub fn hashes(&self) -> &Hashes {
        self.answers.hashes.get_or_init(|| Hashes {
            md5: hex(&md5::Md5::digest(&self.bytes)),
            sha1: hex(&sha1::Sha1::digest(&self.bytes)),
            sha256: hex(self.sha256()),
        })
    }

    /// HTML and SVG.
    pub fn html(&self) -> Option<&Page> {
        let markup = matches!(self.kind, FileType::Html | FileType::Svg);
        let read = || Some(page::read(self.text().filter(|_| markup)?, self.limits.max_links));
        self.answers.page.get_or_init(read).as_ref()
    }

    /// Markup of XML files; that of HTML files as well, where it has no namespaces.
    pub fn xml(&self) -> Option<&Xml> {
        let markup = matches!(self.kind, FileType::Xml | FileType::Svg);
        let read = || Some(xml::names(self.text().filter(|_| markup)?, self.limits.max_members));
        self.answers.xml.get_or_init(read).as_ref()
    }

    /// Calendars of an iCalendar file.
    pub fn ics(&self) -> Option<&[Calendar]> {
        let read = || {
            let text = self.text().filter(|_| self.kind == FileType::Calendar)?;
            Some(calendar::read(text, self.limits.max_strings))
        };
        self.answers.calendars.get_or_init(read).as_deref()
    }

    /// Tokens of a script, or of all scripts and handlers of a page.
    pub fn javascript(&self) -> Option<&JavaScript> {
        let read = || {
            let mut all = Collector::new(self.limits.max_strings);
            if let Some(page) = self.html() {
                let code = page.scripts.iter().map(|script| script.text.as_str());
                code.chain(page.handlers.iter().map(String::as_str)).for_each(|code| all.read(code));
            } else if self.kind == FileType::Script || self.yara_flavors().contains(&"javascript_file") {
                all.read(self.text()?);
            } else {
                return None;
            }
            Some(all.finish())
        };
        self.answers.javascript.get_or_init(read).as_ref()
    }

    /// Word, Excel, PowerPoint of 2007 and later.
    pub fn office(&self) -> Option<&Office> {
        let read = || (self.kind == FileType::OfficeXml).then(|| office::read(&self.bytes, &self.limits)).flatten();
        self.answers.office.get_or_init(read).as_ref()
    }

    /// A Word document of 2007 and later.
    pub fn docx(&self) -> Option<&Office> {
        self.office().filter(|_| self.file_type_name() == "docx")
    }

    /// A presentation of 2007 and later.
    pub fn pptx(&self) -> Option<&Office> {
        self.office().filter(|_| self.file_type_name() == "pptx")
    }

    /// A PDF.
    #[cfg(feature = "pdf")]
    pub fn pdf(&self) -> Option<&Pdf> {
        let read = || {
            (self.kind == FileType::Pdf).then(|| {
                let (pdf, spent) = super::pdf::read(self.head(), &self.limits, self.means.pdf());
                self.means.spend_on_pdf(spent);
                pdf
            })
        };
        self.answers.pdf.get_or_init(read).as_ref()
    }

    /// Macros of an Office file, old or new, or of a macro project by itself.
    pub fn vba(&self) -> Option<&Vba> {
        let read = || match self.kind {
            FileType::Ole if self.bytes.len() <= self.limits.max_read_bytes => vba::read(&self.bytes, &self.limits),
            FileType::OfficeXml => vba::read(self.office()?.macros.as_ref()?, &self.limits),
            _ => None,
        };
        self.answers.vba.get_or_init(read).as_ref()
    }

    /// QR codes of a picture. Empty without the feature `qr`.
    pub fn qr(&self) -> &[QrCode] {
        &self.codes().0
    }

    /// Whether the pictures before it took all that one message may: codes in it are not known.
    pub fn qr_left_out(&self) -> bool {
        self.codes().1
    }

    fn codes(&self) -> &(Vec<QrCode>, bool) {
        let read = || match self.kind {
            FileType::Image => match picture::codes(&self.bytes, &self.limits, &self.means) {
                Some(codes) => (codes, false),
                None => (Vec::new(), true),
            },
            _ => (Vec::new(), false),
        };
        self.answers.qr.get_or_init(read)
    }

    /// What YARA rules say of the content; `None` when there are no rules.
    pub fn yara(&self) -> Option<&YaraFindings> {
        self.answers.yara.get_or_init(|| self.means.scan(&self.bytes)).as_ref()
    }

    /// The directory of a zip, Office files included.
    pub fn zip(&self) -> Option<&Zip> {
        self.answers.zip.get_or_init(|| self.directory()).as_ref()
    }

    fn directory(&self) -> Option<Zip> {
        let most = self.limits.max_members;
        let entries = memchr::memmem::find_iter(&self.bytes, b"PK\x01\x02").take(most + 1).count();
        if !self.bytes.starts_with(b"PK") || entries > most {
            return None;
        }
        let mut archive = ::zip::ZipArchive::new(std::io::Cursor::new(self.bytes.clone())).ok()?;
        let mut out = Zip::default();
        for index in 0..archive.len() {
            let Ok(file) = archive.by_index_raw(index) else { continue };
            let name = String::from_utf8_lossy(file.name_raw()).into_owned();
            if !file.is_dir() {
                out.total_files += 1;
                out.total_extracted += usize::from(!file.encrypted());
                out.attempted_files.push(name.clone());
            }
            out.encrypted |= file.encrypted();
            out.all_paths.push(name);
        }
        Some(out)
    }

    /// Metadata under ExifTool's key names.
    pub fn exif(&self) -> &Exif {
        self.answers.exif.get_or_init(|| {
            let mut out = Exif::default();
            let most = self.limits.max_members;
            match self.kind {
                FileType::Image => exif::picture(self.head(), most, &mut out),
                FileType::Ole if self.bytes.len() <= self.limits.max_read_bytes => ole::summary(&self.bytes, &mut out),
                _ if self.bytes.starts_with(b"PK\x03\x04") => exif::zip(&self.bytes, &mut out),
                FileType::Shortcut => super::shortcut::read(&self.bytes, &mut out),
                FileType::Rar => {
                    for member in super::rar::list(&self.bytes, most) {
                        out.push("ArchivedFileName", member.name);
                    }
                }
                FileType::Gzip => {
                    if let Some(name) = super::archive::gzip_name(&self.bytes) {
                        out.push("ArchivedFileName", name);
                    }
                }
                _ => {}
            }
            for (key, value) in self.office().map(|office| office.properties.as_slice()).unwrap_or_default() {
                out.push(key, value);
            }
            #[cfg(feature = "pdf")]
            if let Some(pdf) = self.pdf() {
                for (key, value) in &pdf.information {
                    out.push(key, value);
                }
                exif::xmp(self.head(), most, &mut out);
            }
            if self.html().is_some_and(|page| page.title.is_some()) {
                out.push("Title", self.html().and_then(|page| page.title.as_deref()).unwrap_or_default());
            }
            out
        })
    }

    /// URLs in its text, its links and its relationships.
    pub fn urls(&self) -> &Urls {
        self.answers.urls.get_or_init(|| {
            let mut found = Found { out: Urls::default(), most: self.limits.max_links };
            if let Some(page) = self.html() {
                page.hyperlinks.iter().filter(|link| !link.starts_with("data:")).for_each(|link| found.add(link));
            }
            if let Some(calendars) = self.ics() {
                for property in calendars.iter().flat_map(|c| &c.components).flat_map(|c| &c.properties) {
                    found.search(&property.text());
                }
            } else if let Some(text) = self.text() {
                found.search(text);
            }
            if let Some(office) = self.office() {
                office.relationships.iter().for_each(|relation| found.add(&relation.target));
                found.search(&office.text);
            }
            #[cfg(feature = "pdf")]
            if let Some(pdf) = self.pdf() {
                pdf.urls.iter().for_each(|url| found.add(url));
                found.search(&pdf.text);
            }
            if matches!(self.kind, FileType::Rtf | FileType::Ole | FileType::Shortcut | FileType::OneNote) {
                self.strings().for_each(|run| found.search(run));
            }
            found.out
        })
    }
}

struct Found {
    out: Urls,
    most: usize,
}

impl Found {
    fn search(&mut self, text: &str) {
        let mut finder = LinkFinder::new();
        finder.kinds(&[LinkKind::Url]).url_must_have_scheme(false);
        for link in finder.links(text) {
            let url = link.as_str();
            let www = url.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("www."));
            if self.out.urls.len() >= self.most {
                return;
            }
            if www {
                self.add(&format!("http://{url}"));
            } else if url.contains("://") {
                self.add(url);
            }
        }
    }

    fn add(&mut self, url: &str) {
        let url = url.trim();
        // Relative links lead nowhere outside the file.
        let absolute = url.split_once(':').is_some_and(|(scheme, _)| {
            !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        });
        if !absolute || url.get(..11).is_some_and(|start| start.eq_ignore_ascii_case("javascript:")) {
            return;
        }
        let list = if url::Url::parse(url).is_ok() { &mut self.out.urls } else { &mut self.out.invalid_urls };
        if list.len() < self.most && !list.iter().any(|known| known == url) {
            list.push(url.to_owned());
        }
    }
}
