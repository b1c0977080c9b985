//! The envelope: MAIL FROM and RCPT TO as they were said (RFC 5321, 4.1.1.2 and 4.1.1.3).

use serde::{Deserialize, Serialize};

use super::Address;

/// One reverse-path or forward-path with its ESMTP parameters, kept as sent so that it can be passed on unaltered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Path {
    /// The address between the angle brackets, as sent; empty for the null reverse-path `<>`.
    pub text: String,
    /// ESMTP parameters as sent, one `KEYWORD[=VALUE]` each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<String>,
}

impl Path {
    /// A path without parameters.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), params: Vec::new() }
    }

    /// Whether this is `<>`, the sender of bounces.
    pub fn is_null(&self) -> bool {
        self.text.is_empty()
    }

    /// The address in parts; `None` for `<>` and for what is no address (`postmaster` without a domain).
    pub fn address(&self) -> Option<Address> {
        Address::parse(&self.text)
    }
}

/// Sender and recipients of one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Envelope {
    /// Reverse-path; empty text for bounces.
    pub sender: Path,
    /// Accepted recipients, in the order in which they were named.
    pub recipients: Vec<Path>,
}
