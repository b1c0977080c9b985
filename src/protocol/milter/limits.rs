//! What a milter peer may make us keep. Every bound of the machine is here.

use serde::{Deserialize, Serialize};

/// Bounds on one milter connection and the messages on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest frame taken, in bytes after the length field. At least 131072, or the MTA's longest header cannot pass;
    /// from 1048576 on, Sendmail is told that body chunks of 1 MiB are welcome. A longer frame ends the connection.
    pub frame_bytes: usize,
    /// Longest message (header and body), in bytes. A longer one is read to its end, not kept, and rejected with 552 5.3.4.
    pub message_bytes: usize,
    /// Longest header of a message, all fields together, in bytes. A longer one is rejected with 552 5.3.4.
    pub header_bytes: usize,
    /// Most header fields of a message. More are rejected with 552 5.3.4.
    pub header_count: usize,
    /// Most recipients of a message. Those beyond are answered 452 4.5.3, or, where the MTA does not listen at that stage,
    /// the whole message is.
    pub recipients: usize,
    /// Longest set of ESMTP parameters on one MAIL or RCPT, with the address, in bytes. Longer ones end the connection.
    pub envelope_bytes: usize,
    /// Most macros kept of one stage; those beyond are left out.
    pub macro_count: usize,
    /// Most bytes of macros (names and values) kept of one stage; those beyond are left out.
    pub macro_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 1 << 20,
            message_bytes: 50 << 20,
            header_bytes: 1 << 20,
            header_count: 10_000,
            recipients: 1_000,
            envelope_bytes: 16 << 10,
            macro_count: 100,
            macro_bytes: 16 << 10,
        }
    }
}
