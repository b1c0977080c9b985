//! What is odd about a message: limits met, and places where two readers would see two different messages.
//!
//! A finding is never a verdict. Most of them also come from careless software; the detectors weigh them.

use serde::{Deserialize, Serialize};

macro_rules! findings {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal,)+) => {
        /// The kinds of finding. Stable in records by their snake-case code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum FindingKind {
            $($(#[doc = $doc])+ #[serde(rename = $code)] $name,)+
        }

        impl FindingKind {
            /// Every kind there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The code used in records and for people.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }
        }
    };
}

findings! {
    /// More parts than `max_parts`; the rest is unread.
    TooManyParts = "too_many_parts",
    /// Nested deeper than `max_depth`; the inside is taken as one leaf.
    TooDeep = "too_deep",
    /// A header block longer than `max_header_bytes`; the rest of the block is taken as body.
    HeaderTooLong = "header_too_long",
    /// More header fields than `max_header_count`; the rest is unread.
    TooManyHeaders = "too_many_headers",
    /// More links than `max_links`; the rest is unread.
    TooManyLinks = "too_many_links",
    /// More decoded bytes than `max_decoded_bytes`; the rest stays undecoded.
    TooMuchDecoded = "too_much_decoded",
    /// More text than `max_text_bytes`; the rest is unread.
    TooMuchText = "too_much_text",
    /// More mailboxes in a field than `max_mailboxes`.
    TooManyMailboxes = "too_many_mailboxes",
    /// A multipart with several different `boundary` parameters; all of them part it here.
    SeveralBoundaries = "several_boundaries",
    /// A multipart without a `boundary` parameter; the first line with two hyphens is taken for it.
    MissingBoundary = "missing_boundary",
    /// A multipart that was never closed.
    UnclosedBoundary = "unclosed_boundary",
    /// A part after the closing delimiter of its multipart.
    PartAfterClose = "part_after_close",
    /// A closing delimiter with more text on its line.
    OddDelimiter = "odd_delimiter",
    /// Several `Content-Type` fields that differ; first and last are both read.
    SeveralContentTypes = "several_content_types",
    /// Several `Content-Transfer-Encoding` fields that differ; first and last are both decoded.
    SeveralEncodings = "several_encodings",
    /// A transfer encoding nobody knows; taken as it stands.
    UnknownEncoding = "unknown_encoding",
    /// base64 or quoted-printable declared on a multipart, where only identity is allowed (RFC 2045, 6.4).
    EncodedMultipart = "encoded_multipart",
    /// Bytes outside of the alphabet, or data after the padding.
    BrokenBase64 = "broken_base64",
    /// `=` not followed by two hexadecimal digits or a line end.
    BrokenQuotedPrintable = "broken_quoted_printable",
    /// A charset nobody knows; read as UTF-8 or Windows-1252.
    UnknownCharset = "unknown_charset",
    /// UTF-7, which no modern sender uses and which hides markup.
    Utf7 = "utf7",
    /// Text before the first part that reads like content.
    PreambleContent = "preamble_content",
    /// Text after the last part that reads like content.
    EpilogueContent = "epilogue_content",
    /// Several `From` fields.
    SeveralFrom = "several_from",
    /// One `From` field with several mailboxes.
    SeveralFromMailboxes = "several_from_mailboxes",
    /// No `From` field.
    NoFrom = "no_from",
    /// A `From` field without any address.
    FromWithoutAddress = "from_without_address",
    /// Group syntax in `From`.
    FromGroup = "from_group",
    /// An encoded word where an address stands (RFC 2047, 5 forbids it).
    EncodedAddress = "encoded_address",
    /// Another field that may occur once only occurs several times (Subject, To, Date, Message-ID, Reply-To, Sender).
    RepeatedField = "repeated_field",
    /// A line in a header block that is no field; the body starts there.
    HeaderWithoutColon = "header_without_colon",
    /// A field name followed by white space before its colon.
    SpaceBeforeColon = "space_before_colon",
    /// A NUL byte.
    NulByte = "nul_byte",
    /// A CR that does not end a line.
    BareCr = "bare_cr",
    /// Bytes above 127 in a header that are not UTF-8.
    EightBitHeader = "eight_bit_header",
    /// Encoded word that does not decode.
    BrokenEncodedWord = "broken_encoded_word",
    /// The same parameter twice, with different values.
    RepeatedParameter = "repeated_parameter",
    /// `filename` and `filename*` (or `name`) disagree about the extension.
    ConflictingFileNames = "conflicting_file_names",
    /// A file name in continued pieces (RFC 2231, 3), which almost nobody needs.
    ContinuedFileName = "continued_file_name",
}

/// One finding, at one part (0 is the message itself).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// Index into [`Message::parts`](super::Message::parts).
    pub part: u32,
}

/// Findings while they are gathered; each once a part, bounded.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

const MAX_FINDINGS: usize = 256;

impl Findings {
    pub(super) fn add(&mut self, kind: FindingKind, part: usize) {
        let finding = Finding { kind, part: u32::try_from(part).unwrap_or(u32::MAX) };
        if self.0.len() < MAX_FINDINGS && !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    pub(super) fn into_vec(self) -> Vec<Finding> {
        self.0
    }
}
