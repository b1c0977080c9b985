//! A summary of an Office or RTF file in the shape of the oletools suite: macros, relationships, indicators.
//!
//! It asks the other accessors and computes nothing twice. Risk of macros: high when they start by themselves or hold
//! suspicious words, medium when they only exist, as `oleid` has it.

use super::office::Relationship;
use super::vba::Keyword;
use super::{File, FileType, Trait};

/// What the macros of a file mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacroIndicator {
    /// Whether there are macros.
    pub exists: bool,
    /// `none`, `medium` or `high`.
    pub risk: &'static str,
}

/// The summary. Borrows from the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OleSummary<'a> {
    /// Relationships to places outside the file.
    pub relationships: &'a [Relationship],
    /// Findings in macro source.
    pub keywords: &'a [Keyword],
    /// VBA macros.
    pub vba_macros: MacroIndicator,
    /// Whether the file needs a password.
    pub encryption: bool,
    /// Whether it loads something through an external relationship other than a hyperlink.
    pub external_relationships: usize,
    /// Whether objects are packed into it.
    pub embedded_objects: bool,
    /// What kind of file it is, in words.
    pub file_format: &'static str,
}

impl File {
    /// The summary of an Office file, old or new, or of RTF; `None` for all others.
    pub fn oletools(&self) -> Option<OleSummary<'_>> {
        if !matches!(self.kind, FileType::Ole | FileType::OfficeXml | FileType::Rtf) {
            return None;
        }
        let keywords = self.vba().map(|vba| vba.keywords.as_slice()).unwrap_or_default();
        let exists = self.vba().is_some() || self.is(Trait::Macros);
        let worse = keywords.iter().any(|k| matches!(k.kind, "AutoExec" | "Suspicious"));
        let risk = match (exists, worse) {
            (false, _) => "none",
            (true, false) => "medium",
            (true, true) => "high",
        };
        let relationships = self.office().map(|office| office.relationships.as_slice()).unwrap_or_default();
        let loads = relationships.iter().filter(|r| r.name != "hyperlink").count();
        let file_format = match self.file_type_name() {
            "doc" if self.mime() == "application/encrypted" => "Encrypted MS Office file",
            "doc" => "MS Word 97-2003 Document or Template",
            "xls" => "MS Excel 97-2003 Workbook or Template",
            "ppt" => "MS PowerPoint 97-2003 Presentation or Template",
            "docx" => "MS Word 2007+ Document",
            "xlsx" => "MS Excel 2007+ Workbook",
            "pptx" => "MS PowerPoint 2007+ Presentation",
            "rtf" => "Rich Text Format",
            _ => "Unknown file type",
        };
        Some(OleSummary {
            relationships,
            keywords,
            vba_macros: MacroIndicator { exists, risk },
            encryption: self.is_encrypted(),
            external_relationships: loads,
            embedded_objects: self.is(Trait::EmbeddedObject),
            file_format,
        })
    }
}
