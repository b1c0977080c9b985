//! What is inside a file: scan records, and the answers of functions over one file.
//!
//! Over 500 lines: one view for each kind of finding, all on the same file.

use std::sync::Arc;

use super::attachment::FileBytes;
use super::{AttachmentSource, HtmlSource, Value, class, facts_missing, links, name, url};
use crate::analysis::Answers;
use crate::content::{
    Calendar, Component, ContentLimits, Exif, File, FileType, Means, OleSummary, Participant, YaraFindings, YaraMatch,
    YaraValue, explode_file_with,
};
use crate::mail::Link;
use crate::policy::mql::model::hex;
use crate::policy::mql::needs::{Capability, Needs};
use crate::policy::mql::value::{Source, Store};

type Text<'m> = &'m str;

/// Links given of one calendar entry.
const MAX_LINKS: usize = 500;

/// The explosion of a file.
pub(in crate::policy::mql) fn explode(
    file: &FileBytes,
    limits: &ContentLimits,
    means: &Arc<Means>,
    out_of_time: &dyn Fn() -> bool,
) -> Vec<File> {
    explode_file_with(&file.name, &file.declared, file.bytes.clone(), limits, means, out_of_time)
}

/// All files as scan records, the file itself first.
pub(in crate::policy::mql) fn records<'m>(files: &'m [File], answers: &'m Answers, store: &'m Store) -> Value<'m> {
    let record = |(place, file)| store.object(class("ScanRecord"), Record { file, answers, place });
    store.array(files.iter().enumerate().map(record))
}

/// All files but the first, as attachments.
pub(in crate::policy::mql) fn archive<'m>(files: &'m [File], store: &'m Store) -> Value<'m> {
    let files = store.array(files.iter().skip(1).map(|file| {
        let kept = FileBytes { name: file.name.clone(), declared: file.declared.clone(), bytes: file.bytes.clone() };
        store.object(class("Attachment"), AttachmentSource { file: store.keep(kept), part: None })
    }));
    store.object(class("Archive"), Only(files))
}

/// Metadata of one file.
pub(in crate::policy::mql) fn exif<'m>(file: &'m File, store: &'m Store) -> Value<'m> {
    store.object(class("Exif"), ExifSource(file.exif()))
}

/// QR codes of one file.
pub(in crate::policy::mql) fn qr<'m>(file: &'m File, store: &'m Store) -> Value<'m> {
    store.object(class("QrResult"), QrSource(file))
}

/// Office macros and relations of one file; null for other files.
pub(in crate::policy::mql) fn oletools<'m>(file: &'m File, store: &'m Store) -> Value<'m> {
    file.oletools().map_or(Value::Null, |summary| store.object(class("OleTools"), Ole(summary)))
}

/// A calendar; null for other files.
pub(in crate::policy::mql) fn calendar<'m>(file: &'m File, store: &'m Store) -> Value<'m> {
    match file.ics().and_then(<[Calendar]>::first) {
        Some(calendar) => store.object(class("Ics"), CalendarSource(calendar)),
        None => Value::Null,
    }
}

fn int<'m>(n: usize) -> Value<'m> {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn some(text: &str) -> Value<'_> {
    if text.is_empty() { Value::Null } else { Value::Text(text) }
}

fn urls<'m, S: AsRef<str>>(texts: impl IntoIterator<Item = S>, store: &'m Store) -> Value<'m> {
    store.array(texts.into_iter().map(|text| url(text.as_ref(), false, store)))
}

/// An object with one field.
struct Only<'m>(Value<'m>);

impl<'m> Source<'m> for Only<'m> {
    fn field(&self, _: &'static str, _: &'m Store) -> Value<'m> {
        self.0
    }
}

struct Record<'m> {
    file: &'m File,
    answers: &'m Answers,
    place: usize,
}

impl<'m> Source<'m> for Record<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let file = self.file;
        match field {
            "depth" => int(file.depth),
            "file_name" => some(&file.name),
            "file_extension" => match file.name.rsplit_once('.') {
                Some((_, extension)) => some(extension),
                None => Value::Null,
            },
            "flavors" => store.object(class("Flavors"), FlavorSource(file)),
            "size" => Value::Int(i64::try_from(file.size).unwrap_or(i64::MAX)),
            "node_id" => Value::Text(store.text(&self.place.to_string())),
            "parent_node_id" => Value::text_or_null(file.parent.map(|parent| &*store.text(&parent.to_string()))),
            "scan" => store.object(class("Scan"), ScanSource(file, self.answers)),
            _ => Value::Null,
        }
    }
}

/// What is written in a picture.
struct Written<'m>(&'m str);

impl<'m> Source<'m> for Written<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            "raw" => Value::Text(self.0),
            _ => store.texts(self.0.split_whitespace()),
        }
    }
}

struct FlavorSource<'m>(&'m File);

impl<'m> Source<'m> for FlavorSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            "mime" => Value::Text(self.0.mime()),
            "yara" => store.texts(self.0.yara_flavors()),
            _ => Value::Array(&[]),
        }
    }
}

struct ScanSource<'m>(&'m File, &'m Answers);

impl<'m> Source<'m> for ScanSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let file = self.0;
        let part = |name: &'static str, is: bool| {
            if is { store.object(class(name), PartSource { file, scanner: field }) } else { Value::Null }
        };
        match field {
            "ocr" => match self.1.get("beta.ocr", &hex(file.sha256())) {
                Some(answer) => match answer["text"].as_str() {
                    Some(text) => store.object(class("ScanText"), Written(text)),
                    None => Value::Null,
                },
                // Pictures were read, and this is none.
                None if self.1.get("beta.ocr", "").is_some() && file.kind != FileType::Image => Value::Null,
                None => Value::Unavailable(Needs::of(Capability::Ocr)),
            },
            "yara" => match file.yara() {
                Some(findings) => store.object(class("ScanYara"), Yara(findings)),
                None => Value::Unavailable(Needs::of(Capability::Yara)),
            },
            "strings" => part("ScanStrings", true),
            "url" => part("ScanUrl", true),
            "qr" if file.qr_left_out() => Value::Unavailable(Needs::of(Capability::Budget)),
            "qr" => match file.qr().first() {
                Some(code) => store.object(class("ScanQr"), Code { kind: code.kind, data: &code.data }),
                None => Value::Null,
            },
            "exiftool" => exif(file, store),
            "javascript" => part("ScanJavascript", file.javascript().is_some()),
            "pdf" => part("ScanPdf", is_pdf(file)),
            "entropy" => store.object(class("ScanEntropy"), Only(Value::Float(file.entropy()))),
            "zip" => part("ScanZip", file.zip().is_some()),
            "html" => part("ScanHtml", file.html().is_some()),
            "ics" => part("ScanIcs", file.ics().is_some()),
            "vba" => part("ScanVba", file.vba().is_some()),
            "docx" => part("ScanOffice", file.docx().is_some()),
            "pptx" => part("ScanOffice", file.pptx().is_some()),
            "hash" => part("ScanHash", true),
            "xml" => part("ScanXml", file.xml().is_some()),
            // Cracked passwords: nobody tries any here. The object hash of a PDF is defined by one program's way of reading
            // broken files alone, so one of our own would differ where it matters, and say "no match" where it is not known.
            _ => Value::Unavailable(Needs::of(Capability::Files)),
        }
    }
}

#[cfg(feature = "pdf")]
fn is_pdf(file: &File) -> bool {
    file.pdf().is_some()
}

#[cfg(not(feature = "pdf"))]
fn is_pdf(_: &File) -> bool {
    false
}

#[cfg(feature = "pdf")]
fn pdf<'m>(file: &'m File, field: &str, store: &'m Store) -> Value<'m> {
    let Some(pdf) = file.pdf() else { return Value::Null };
    match field {
        "urls" => urls(&pdf.urls, store),
        "total_extracted" => int(pdf.files.len()),
        _ => Value::Array(&[]),
    }
}

#[cfg(not(feature = "pdf"))]
fn pdf<'m>(_: &'m File, _: &str, _: &'m Store) -> Value<'m> {
    Value::Unavailable(Needs::of(Capability::Files))
}

/// What YARA rules say of a file.
struct Yara<'m>(&'m YaraFindings);

impl<'m> Source<'m> for Yara<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            // Without all of them, whether one is among them is not known.
            "matches" if self.0.cut => Value::Unavailable(Needs::of(Capability::Budget)),
            "matches" => store.array(self.0.matches.iter().map(|one| store.object(class("YaraMatch"), One(one)))),
            _ if self.0.cut => store.texts(["cut"]),
            _ => Value::Array(&[]),
        }
    }
}

struct One<'m>(&'m YaraMatch);

impl<'m> Source<'m> for One<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            "name" => Value::Text(&self.0.name),
            _ => store.map(self.0.meta.iter().map(|(key, value)| {
                let value = match value {
                    YaraValue::Text(text) => Value::Text(text),
                    YaraValue::Int(number) => Value::Int(*number),
                    YaraValue::Bool(is) => Value::bool(*is),
                };
                (key.as_str(), value)
            })),
        }
    }
}

/// What one scanner found in a file.
struct PartSource<'m> {
    file: &'m File,
    scanner: &'static str,
}

impl<'m> Source<'m> for PartSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let file = self.file;
        self.lists(field, store).unwrap_or_else(|| match (self.scanner, field) {
            ("strings", "raw") => Value::text_or_null(file.text()),
            ("strings", _) => store.array(file.strings().map(Value::Text)),
            ("url", "urls") => urls(&file.urls().urls, store),
            ("url", _) => store.texts(&file.urls().invalid_urls),
            ("pdf", field) => pdf(file, field, store),
            ("hash", "md5") => Value::Text(&file.hashes().md5),
            ("hash", "sha1") => Value::Text(&file.hashes().sha1),
            ("hash", "sha256") => Value::Text(&file.hashes().sha256),
            ("ics", _) => {
                let calendars = file.ics().unwrap_or_default().iter();
                store.array(calendars.map(|one| store.object(class("IcsCalendar"), CalendarSource(one))))
            }
            _ => Value::Null,
        })
    }
}

impl<'m> PartSource<'m> {
    fn lists(&self, field: &str, store: &'m Store) -> Option<Value<'m>> {
        let file = self.file;
        Some(match self.scanner {
            "javascript" => {
                let script = file.javascript()?;
                match field {
                    "identifiers" => store.texts(&script.identifiers),
                    "strings" => store.texts(&script.strings),
                    "keywords" => store.texts(&script.keywords),
                    "tokens" => store.texts(&script.tokens),
                    "regular_expressions" => store.texts(&script.regular_expressions),
                    _ => urls(script.strings.iter().filter(|text| text.contains("://")), store),
                }
            }
            "zip" => {
                let zip = file.zip()?;
                match field {
                    "all_paths" => store.texts(&zip.all_paths),
                    "attempted_files" => store.texts(&zip.attempted_files),
                    "encrypted" => Value::bool(zip.encrypted),
                    "total_files" => int(zip.total_files),
                    _ => int(zip.total_extracted),
                }
            }
            "html" => {
                let page = file.html()?;
                match field {
                    "title" => Value::text_or_null(page.title.as_deref()),
                    "hyperlinks" => store.texts(&page.hyperlinks),
                    "scripts" => store.array(page.scripts.iter().map(|script| {
                        let fields = [script.language.as_deref(), script.source.as_deref()];
                        store.object(class("HtmlScript"), Pair(["language", "src"], fields))
                    })),
                    _ => store.array(page.spans.iter().map(|span| {
                        let fields = [span.class.as_deref(), span.style.as_deref()];
                        store.object(class("HtmlSpan"), Pair(["class", "style"], fields))
                    })),
                }
            }
            "vba" => {
                let vba = file.vba()?;
                match field {
                    "auto_exec" => store.texts(vba.auto_exec()),
                    "hex" => store.texts(vba.hex()),
                    "base64" => store.texts(vba.base64()),
                    "ioc" => store.texts(vba.ioc()),
                    _ => store.texts(vba.suspicious()),
                }
            }
            "docx" | "pptx" => {
                let office = file.office()?;
                match field {
                    "author" => Value::text_or_null(office.author()),
                    "word_count" => int(office.word_count),
                    "image_count" => int(office.image_count),
                    "last_modified_by" => Value::text_or_null(office.property("LastModifiedBy")),
                    _ => Value::text_or_null(office.property("Title")),
                }
            }
            "xml" => {
                let xml = file.xml()?;
                match field {
                    "tags" => store.texts(&xml.tags),
                    "namespaces" => store.texts(&xml.namespaces),
                    _ => Value::text_or_null(xml.doc_type.as_deref()),
                }
            }
            _ => return None,
        })
    }
}

/// Two texts by name.
struct Pair<'m>([&'static str; 2], [Option<Text<'m>>; 2]);

impl<'m> Source<'m> for Pair<'m> {
    fn field(&self, field: &'static str, _: &'m Store) -> Value<'m> {
        let place = self.0.iter().position(|name| *name == field);
        Value::text_or_null(place.and_then(|place| self.1[place]))
    }
}

struct ExifSource<'m>(&'m Exif);

impl<'m> Source<'m> for ExifSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let exif = self.0;
        let number = |n: Option<u64>| Value::int_or_null(n.and_then(|n| i64::try_from(n).ok()));
        match field {
            "fields" => store.array(exif.fields.iter().map(|(key, value)| {
                store.object(class("ExifField"), Pair(["key", "value"], [Some(key), Some(value)]))
            })),
            "creator" => Value::text_or_null(exif.creator()),
            "producer" => Value::text_or_null(exif.producer()),
            "title" => Value::text_or_null(exif.title()),
            "author" => Value::text_or_null(exif.author()),
            "page_count" => number(exif.page_count()),
            "image_height" => number(exif.image_height()),
            "image_width" => number(exif.image_width()),
            "zip_uncompressed_size" => number(exif.zip_uncompressed_size()),
            _ => Value::text_or_null(exif.zip_file_name()),
        }
    }
}

struct QrSource<'m>(&'m File);

struct Code<'m> {
    kind: &'static str,
    data: &'m str,
}

impl<'m> Source<'m> for QrSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let codes = self.0.qr();
        if self.0.qr_left_out() {
            return Value::Unavailable(Needs::of(Capability::Budget));
        }
        match field {
            "found" => Value::bool(!codes.is_empty()),
            _ => store.array(
                codes.iter().map(|code| store.object(class("QrItem"), Code { kind: code.kind, data: &code.data })),
            ),
        }
    }
}

impl<'m> Source<'m> for Code<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            "type" => Value::Text(self.kind),
            "data" => Value::Text(self.data),
            _ if self.kind == "url" => url(self.data, false, store),
            _ => Value::Null,
        }
    }
}

struct Ole<'m>(OleSummary<'m>);

impl<'m> Source<'m> for Ole<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let summary = &self.0;
        let indicator =
            |exists: bool, risk: Option<&'static str>| store.object(class("OleIndicator"), Indicator { exists, risk });
        match field {
            "relationships" => store.array(summary.relationships.iter().map(|relation| {
                store.object(class("OleRelationship"), Relation { name: &relation.name, target: &relation.target })
            })),
            "macros" => {
                let keywords = store.array(summary.keywords.iter().map(|keyword| {
                    let fields = [Some(keyword.keyword.as_str()), Some(keyword.description.as_str())];
                    store.object(
                        class("OleKeyword"),
                        KeywordSource(keyword.kind, Pair(["keyword", "description"], fields)),
                    )
                }));
                store.object(class("OleMacros"), Only(keywords))
            }
            "indicators" => store.object(class("OleIndicators"), Ole(summary.clone())),
            "vba_macros" => indicator(summary.vba_macros.exists, Some(summary.vba_macros.risk)),
            "encryption" => indicator(summary.encryption, None),
            "external_relationships" => indicator(summary.external_relationships > 0, None),
            "object_pool" => indicator(summary.embedded_objects, None),
            "file_format" => store.object(class("OleValue"), Only(Value::Text(summary.file_format))),
            // Not looked for: XLM macros, Flash, the program's name.
            _ => Value::Unavailable(Needs::of(Capability::Files)),
        }
    }
}

struct Relation<'m> {
    name: &'m str,
    target: &'m str,
}

impl<'m> Source<'m> for Relation<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            "name" => Value::Text(self.name),
            "target" => Value::Text(self.target),
            _ => url(self.target, true, store),
        }
    }
}

struct KeywordSource<'m>(&'static str, Pair<'m>);

impl<'m> Source<'m> for KeywordSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        if field == "type" { Value::Text(self.0) } else { self.1.field(field, store) }
    }
}

struct Indicator {
    exists: bool,
    risk: Option<&'static str>,
}

impl<'m> Source<'m> for Indicator {
    fn field(&self, field: &'static str, _: &'m Store) -> Value<'m> {
        match field {
            "exists" => Value::bool(self.exists),
            "risk" => Value::text_or_null(self.risk),
            _ => facts_missing(),
        }
    }
}

struct CalendarSource<'m>(&'m Calendar);

impl<'m> Source<'m> for CalendarSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let calendar = self.0;
        match field {
            "product_id" => Value::text_or_null(calendar.product_id()),
            "scale" => Value::text_or_null(calendar.scale()),
            "method" => Value::text_or_null(calendar.method()),
            "events" => store.array(calendar.events().map(|one| store.object(class("IcsEvent"), ComponentSource(one)))),
            _ => {
                let all = calendar.components.iter();
                store.array(all.map(|one| store.object(class("IcsComponent"), ComponentSource(one))))
            }
        }
    }
}

struct ComponentSource<'m>(&'m Component);

impl<'m> Source<'m> for ComponentSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let component = self.0;
        let owned = |text: Option<String>| Value::text_or_null(text.map(|text| &*store.text(&text)));
        match field {
            "type" => Value::Text(&component.kind),
            "uid" => Value::text_or_null(component.uid()),
            "summary" => owned(component.summary()),
            "description" => owned(component.description()),
            "location" => owned(component.location()),
            "description_html" => match component.description_html() {
                Some(html) => store.object(class("Html"), HtmlSource::read(store.text(&html), 500, store)),
                None => Value::Null,
            },
            "organizer" => component.organizers().next().map_or(Value::Null, |who| participant(&who, "Mailbox", store)),
            "organizers" => store.array(component.organizers().map(|who| participant(&who, "IcsPerson", store))),
            "attendees" => store.array(component.attendees().map(|who| participant(&who, "IcsPerson", store))),
            "attachments" => {
                store.array(component.attachments().map(|text| store.object(class("IcsAttachment"), Attached(text))))
            }
            "raw_properties" => store.array(component.properties.iter().map(|one| {
                let fields = [Some(one.name.as_str()), Some(one.value.as_str())];
                store.object(class("IcsProperty"), Pair(["key", "value"], fields))
            })),
            "url" => component.text("URL").map_or(Value::Null, |text| url(&text, false, store)),
            "urls" => urls(component.text("URL"), store),
            // Links of the description as HTML, else as text.
            _ => match component.description_html() {
                Some(html) => HtmlSource::read(store.text(&html), MAX_LINKS, store).field("links", store),
                None => links(&Link::in_text(&component.description().unwrap_or_default(), MAX_LINKS), store),
            },
        }
    }
}

/// An `ATTACH` by its URI; contents that stand in the calendar are not given.
struct Attached<'m>(&'m str);

impl<'m> Source<'m> for Attached<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            "type" => Value::Text("uri"),
            "uri" => Value::Text(self.0),
            "url" => url(self.0, false, store),
            _ => Value::Null,
        }
    }
}

fn participant<'m>(who: &Participant, kind: &str, store: &'m Store) -> Value<'m> {
    let mailbox = crate::mail::Mailbox {
        display: who.name.clone().unwrap_or_default(),
        text: who.address.clone(),
        address: crate::mail::Address::parse(&who.address),
    };
    let mailbox = name::mailbox(store.keep(mailbox), store);
    match kind {
        "Mailbox" => mailbox,
        _ => store.object(class("IcsPerson"), Person { mailbox, mailto: store.text(&who.address) }),
    }
}

struct Person<'m> {
    mailbox: Value<'m>,
    mailto: &'m str,
}

impl<'m> Source<'m> for Person<'m> {
    fn field(&self, field: &'static str, _: &'m Store) -> Value<'m> {
        if field == "mailto" { Value::Text(self.mailto) } else { self.mailbox }
    }
}
