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
    /// Bytes of one file read for markers (HTML, PDF, test virus). Default 16 MiB.
    pub max_read_bytes: usize,
    /// Links taken from one attachment. Default 500.
    pub max_links: usize,
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
            max_read_bytes: 16 << 20,
            max_links: 500,
        }
    }
}
