//! Settings of the HTTP side: section `[http]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the HTTP side listens, and who may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether it listens at all.
    pub enabled: bool,
    /// Address to listen on. Loopback by default: put a TLS proxy in front before you open it.
    pub listen: SocketAddr,
    /// File with the admin token. None: `DATA/admin.token`, made on first start.
    pub token_file: Option<PathBuf>,
    /// Time for one request, in seconds.
    pub request_seconds: u64,
    /// Largest request body, in bytes.
    pub request_bytes: usize,
    /// Requests worked on at a time.
    pub requests: usize,
    /// Failed authentications of one address within a minute after which it is refused (429).
    pub failed_tokens_per_minute: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from(([127, 0, 0, 1], 8025)),
            token_file: None,
            request_seconds: 30,
            request_bytes: 1024 * 1024,
            requests: 64,
            failed_tokens_per_minute: 20,
        }
    }
}
