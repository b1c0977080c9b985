//! What is inside attachments: file types, archives, documents; one bounded explosion tree.
//!
//! Pure: no sockets, no files, no clock; nothing is ever written to disk or run. Imports `mail` only. A file that cannot
//! be opened carries a trait that says why. [`explode`] is the fast look at a message for the detectors, [`explode_file`]
//! opens one file in depth for rules; what rules ask about a file is computed when it is first asked ([`File`]).
//! Not here: judging (`analysis`), virus scanning (`enrichment`), rendering and text in pictures, passwords, the contents
//! of RAR.

mod archive;
mod cabinet;
mod calendar;
mod config;
mod document;
mod exif;
mod explode;
mod file_type;
mod flavor;
mod iso;
mod javascript;
mod means;
mod name;
mod objects;
mod office;
mod ole;
mod oletools;
mod page;
mod password;
#[cfg(feature = "pdf")]
mod pdf;
mod picture;
mod rar;
mod scan;
mod seven_zip;
mod shortcut;
mod strings;
mod unpack;
mod vba;
mod xml;
mod yara;

pub use calendar::{Calendar, Component, Participant, Property};
pub use config::ContentLimits;
pub use exif::Exif;
pub use explode::{File, Trait, explode, explode_file, explode_file_with, explode_with, has_eicar};
pub use file_type::FileType;
pub use flavor::file_type_name;
pub use javascript::JavaScript;
pub use means::Means;
pub use office::{Office, Relationship};
pub use oletools::{MacroIndicator, OleSummary};
pub use page::{Page, Script, Span};
pub use password::passwords;
#[cfg(feature = "pdf")]
pub use pdf::Pdf;
pub use picture::{QrCode, codes_of as codes, is_picture, pictures_in, size as picture_size};
pub use scan::{Hashes, Urls, Zip};
pub use vba::{Keyword, Vba};
pub use xml::Xml;
pub use yara::{Yara, YaraConfig, YaraError, YaraFindings, YaraMatch, YaraSource, YaraValue};
