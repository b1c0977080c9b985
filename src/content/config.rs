//! Limits of looking into attachments. What is beyond stays closed and the file carries a trait that says so.

use serde::{Deserialize, Serialize};

/// How much of the attachments is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContentLimits {
    /// Files of one message, members of archives counted. Default 1,000.
    pub max_files: usize,
    /// Members listed of one archive. Default 1,000.
    pub max_members: usize,
    /// Archives and messages inside one another. Default 5.
    pub max_depth: usize,
    /// Bytes unpacked of one member. Default 8 MiB.
    pub max_member_bytes: usize,
    /// Bytes unpacked of all members of a message. Default 32 MiB.
    pub max_unpacked_bytes: usize,
    /// How many times its packed size a member may claim to be, from 1 MiB up. Default 200.
    pub max_ratio: u64,
    /// Bytes of the dictionary an LZMA, LZX or xz decoder may ask for; memory is taken as it fills. Default 64 MiB.
    pub max_dictionary_bytes: usize,
    /// Bytes of one file read for markers (HTML, PDF, test virus). Default 16 MiB.
    pub max_read_bytes: usize,
    /// Links taken from one attachment. Default 500.
    pub max_links: usize,
    /// Bytes read of one file and all that is in it when it is opened in depth, files inside counted each. Default 128 MiB.
    pub max_work_bytes: usize,
    /// Printable strings, names, properties taken from one file, each. Default 50,000.
    pub max_strings: usize,
    /// Bytes of text taken from one document. Default 1 MiB.
    pub max_text_bytes: usize,
    /// Pages of one document read for text. Default 50.
    pub max_pages: usize,
    /// Pixels of a picture that is decoded. Default 16,000,000.
    pub max_pixels: usize,
    /// Pixels of all pictures of a message that are decoded. Default 64,000,000.
    pub max_message_pixels: usize,
    /// Bytes of work on all PDF files of a message opened in depth: objects, unpacked streams, pages. Default 64 MiB.
    pub max_pdf_bytes: usize,
    /// QR codes read from one picture. Default 20.
    pub max_codes: usize,
}

impl Default for ContentLimits {
    fn default() -> Self {
        Self {
            max_files: 1_000,
            max_members: 1_000,
            max_depth: 5,
            max_member_bytes: 8 << 20,
            max_unpacked_bytes: 32 << 20,
            max_ratio: 200,
            max_dictionary_bytes: 64 << 20,
            max_read_bytes: 16 << 20,
            max_links: 500,
            max_work_bytes: 128 << 20,
            max_strings: 50_000,
            max_text_bytes: 1 << 20,
            max_pages: 50,
            max_pixels: 16_000_000,
            max_message_pixels: 64_000_000,
            max_pdf_bytes: 64 << 20,
            max_codes: 20,
        }
    }
}
