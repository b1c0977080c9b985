//! What is inside attachments: file types, archives, documents; one bounded explosion tree.
//!
//! Pure: no sockets, no files, no clock; nothing is ever written to disk or run. Imports `mail` only. A file that cannot
//! be opened carries a trait that says why. Not here: judging (`analysis`), virus scanning (`enrichment`),
//! unpacking of gzip, 7z and RAR, pictures and QR codes (later).

mod archive;
mod config;
mod document;
mod explode;
mod file_type;
mod name;

pub use config::ContentLimits;
pub use explode::{File, Trait, explode, has_eicar};
pub use file_type::FileType;
