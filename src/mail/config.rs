//! Limits of the message model. Beyond a limit nothing is refused: the rest stays unread and a finding says so.

use serde::{Deserialize, Serialize};

/// How much of a message is taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MessageLimits {
    /// Parts of one message, containers counted. Default 1,000.
    pub max_parts: usize,
    /// Containers inside one another; nested messages count as well. Default 50.
    pub max_depth: usize,
    /// Bytes of one header block (the message's, or one part's). Default 1 MiB.
    pub max_header_bytes: usize,
    /// Header fields of the message and its parts together. Default 10,000.
    pub max_header_count: usize,
    /// Links of one message. Default 5,000.
    pub max_links: usize,
    /// Bytes that transfer decoding may give, all parts together. Default 96 MiB.
    pub max_decoded_bytes: usize,
    /// Bytes of text (HTML source or plain) read for text and links, all parts together. Default 4 MiB.
    pub max_text_bytes: usize,
    /// Mailboxes read from one address field. Default 2,000.
    pub max_mailboxes: usize,
}

impl Default for MessageLimits {
    fn default() -> Self {
        Self {
            max_parts: 1_000,
            max_depth: 50,
            max_header_bytes: 1 << 20,
            max_header_count: 10_000,
            max_links: 5_000,
            max_decoded_bytes: 96 << 20,
            max_text_bytes: 4 << 20,
            max_mailboxes: 2_000,
        }
    }
}
