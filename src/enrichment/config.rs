//! Settings of the enrichment: section `[enrichment]`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What is asked outside, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// SPF, DKIM, DMARC, ARC.
    pub sender_auth: SenderAuthConfig,
}

/// Sender authentication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SenderAuthConfig {
    /// Whether DNS is asked at all.
    pub enabled: bool,
    /// Resolvers, `ADDRESS:PORT` each. Empty: those of `/etc/resolv.conf`.
    pub resolvers: Vec<SocketAddr>,
    /// Time for all of a message's questions together.
    pub deadline_ms: u64,
    /// Time for one question to one resolver.
    pub query_ms: u64,
    /// Answers kept in memory, for as long as their TTL says.
    pub cache_entries: u64,
    /// Longest time an answer is kept, whatever its TTL says.
    pub cache_max_seconds: u64,
    /// DKIM signatures verified in one message; further ones are not looked at.
    pub max_signatures: usize,
    /// Name in `Authentication-Results` (RFC 8601). Empty: the host name.
    pub authserv_id: String,
    /// Domains whose ARC seal is believed when it says that DMARC passed before a forwarder changed the message.
    pub trusted_arc_sealers: Vec<String>,
}

impl Default for SenderAuthConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            resolvers: Vec::new(),
            deadline_ms: 2_500,
            query_ms: 1_000,
            cache_entries: 65_536,
            cache_max_seconds: 3_600,
            max_signatures: 10,
            authserv_id: String::new(),
            trusted_arc_sealers: Vec::new(),
        }
    }
}
