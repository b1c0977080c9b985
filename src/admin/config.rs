//! Settings of the HTTP side: section `[http]`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::AdminError;

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
    /// File with a token for metrics and health alone, for Prometheus and the like. None: `DATA/metrics.token`, made on first start.
    pub metrics_token_file: Option<PathBuf>,
    /// Time for one request, in seconds.
    pub request_seconds: u64,
    /// Time for the header of a request, and for an idle connection to begin the next one, in seconds.
    pub header_seconds: u64,
    /// Time that a client may take nothing of its answer before it is cut, in seconds.
    pub write_seconds: u64,
    /// Largest request body, in bytes.
    pub request_bytes: usize,
    /// Connections at a time; beyond that new ones are closed at once.
    pub connections: usize,
    /// Requests worked on at a time; others wait within their time. Health is never kept waiting.
    pub requests: usize,
    /// Held messages read into memory at a time, for viewing and download.
    pub bodies: usize,
    /// Most text of a held message that is shown, and most of its headers, in bytes each.
    pub view_bytes: usize,
    /// Wrong tokens of one address (IPv6: one /64) within a minute after which it is refused (429) until the minute is over; wrong signatures count too.
    /// All that come through one proxy have one address. A request without any token is refused but not counted.
    pub failed_tokens_per_minute: u32,
    /// Who may ask without the token, by signing each request (`[signing]`): ids of keys (`mailweir keys list`), and what each
    /// may: `metrics`: look at these and at health; `read`: at everything but what is in held messages; `respond`: besides, silence
    /// and acknowledge alerts and order second looks; `admin`: everything. `"*"` is every key that is good and has no line of its
    /// own. Empty: nobody.
    pub callers: BTreeMap<String, Role>,
    /// Free space of the body store below which `/health` says DEGRADED, in bytes. Folders only.
    pub low_space_bytes: u64,
    /// Days before its end from which a certificate makes `/health/full` say DEGRADED.
    pub certificate_days: u32,
    /// Time that each look of `/health/full` may take, in milliseconds.
    pub health_check_ms: u64,
    /// How often the metrics are summed up for `/metrics/snapshots`, and everything is looked at for `/health/full`, in seconds.
    pub snapshot_seconds: u64,
    /// Summaries of the metrics kept in memory.
    pub snapshots: usize,
    /// File that is written anew with the newest summaries as JSON. None: no file.
    pub metrics_file: Option<PathBuf>,
    /// How often that file is written, in seconds.
    pub metrics_file_seconds: u64,
    /// Demo runs (`POST /api/v1/scalability/demo/run`).
    pub demo: DemoConfig,
}

/// What somebody who asks may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look at metrics and health, and nothing else. Who has the token of metrics has this.
    Metrics,
    /// Look at everything but what is in held messages.
    Read,
    /// And answer to it: silence and acknowledge alerts, order second looks.
    Respond,
    /// Everything. Who has the token has this.
    Admin,
}

/// Demo runs: a bounded load of made-up mail that is judged, delivered nowhere and not recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DemoConfig {
    /// Whether they can be started. They take CPU that mail may want.
    pub enabled: bool,
    /// Messages of one run at most. A run ends after a minute in any case.
    pub max_messages: u32,
    /// Messages judged at a time at most.
    pub at_a_time: u32,
}

impl Default for DemoConfig {
    fn default() -> Self {
        Self { enabled: false, max_messages: 10_000, at_a_time: 4 }
    }
}

impl Config {
    /// Refuses settings under which nothing could be answered, and callers who are nobody.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<(), AdminError> {
        super::callers::check(&self.callers)?;
        let sizes = [
            ("request_seconds", self.request_seconds),
            ("header_seconds", self.header_seconds),
            ("write_seconds", self.write_seconds),
            ("connections", self.connections as u64),
            ("requests", self.requests as u64),
            ("bodies", self.bodies as u64),
            ("health_check_ms", self.health_check_ms),
            ("snapshot_seconds", self.snapshot_seconds),
            ("snapshots", self.snapshots as u64),
            ("metrics_file_seconds", self.metrics_file_seconds),
            ("failed_tokens_per_minute", self.failed_tokens_per_minute.into()),
        ];
        sizes.iter().find(|(_, value)| *value == 0).map_or(Ok(()), |(name, _)| Err(AdminError::Zero(name)))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from(([127, 0, 0, 1], 8025)),
            token_file: None,
            metrics_token_file: None,
            request_seconds: 30,
            header_seconds: 10,
            write_seconds: 30,
            request_bytes: 1024 * 1024,
            connections: 256,
            requests: 64,
            bodies: 4,
            view_bytes: 256 * 1024,
            failed_tokens_per_minute: 20,
            callers: BTreeMap::new(),
            low_space_bytes: 1024 * 1024 * 1024,
            certificate_days: 14,
            health_check_ms: 2_000,
            snapshot_seconds: 60,
            snapshots: 100,
            metrics_file: None,
            metrics_file_seconds: 300,
            demo: DemoConfig::default(),
        }
    }
}
