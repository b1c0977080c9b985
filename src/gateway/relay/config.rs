//! Configuration of the relay.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::protocol::smtp::{BareNewline, ServerSettings};

use crate::mail::Network;

/// The SMTP relay's listeners and limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelayConfig {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Our name in the banner, in EHLO and in `Received`. Empty: the `host_name` of all.
    pub host_name: String,
    /// STARTTLS for clients.
    pub tls: RelayTls,
    /// Longest message in bytes; 552 beyond. The next hop's SIZE counts when it is smaller.
    pub max_message_bytes: u64,
    /// Messages in hand at a time, all clients together, in bytes; 452 beyond.
    pub max_inflight_bytes: usize,
    /// Longest line of a message in bytes; 552 beyond. Lines pass unfolded.
    pub max_line_bytes: usize,
    /// Longest command line in bytes.
    pub max_command_line_bytes: usize,
    /// Recipients a message; 452 beyond.
    pub max_recipients: usize,
    /// 5xx replies after which a client is sent away with 421.
    pub max_errors: u32,
    /// Commands that do nothing (NOOP, RSET, VRFY, EHLO) between two messages before each counts as an error.
    pub max_idle_commands: u32,
    /// Connections at a time; 421 beyond.
    pub max_connections: usize,
    /// Connections of one client address at a time; 421 beyond.
    pub max_connections_per_client: usize,
    /// Messages a minute of one client address, 451 beyond; 0: no limit.
    pub messages_per_minute_per_client: u32,
    /// Time a client must wait for the banner, in milliseconds; who speaks before is sent away.
    pub greet_delay_ms: u64,
    /// Total time for a command to arrive, in seconds.
    pub idle_seconds: u64,
    /// Rate a message must keep once `idle_seconds` have passed, in bytes per second.
    pub data_min_bytes_per_second: u64,
    /// Total time for a message to arrive, in seconds.
    pub data_seconds: u64,
    /// Total time for a verdict, in seconds; 451 beyond. Above the inspection's own deadline.
    pub verdict_seconds: u64,
    /// Time for a TLS handshake, in seconds.
    pub handshake_seconds: u64,
    /// Time for replies to be taken by the client, in seconds.
    pub write_seconds: u64,
    /// Time for messages in hand to be finished when the service stops, in seconds.
    pub drain_seconds: u64,
    /// Bare CR and bare LF in messages: `reject` or `normalize`.
    pub bare_newline: BareNewline,
    /// Offer CHUNKING (BDAT).
    pub chunking: bool,
    /// `Received` fields of a message; 554 beyond (mail loop).
    pub max_received: usize,
    /// `Received` fields by our own name; 554 beyond (mail loop).
    pub max_own_received: usize,
    /// Peers whose connections begin with a PROXY protocol header.
    pub proxy_protocol_from: Vec<Network>,
    /// Peers that may tell another client's identity by XCLIENT.
    pub xclient_from: Vec<Network>,
    /// Peers that may tell another client's identity by XFORWARD.
    pub xforward_from: Vec<Network>,
}

/// STARTTLS for clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelayTls {
    /// Offer STARTTLS.
    pub enabled: bool,
    /// Take mail over TLS only (530 otherwise).
    pub required: bool,
    /// Certificate chain (PEM). Without it a self-signed one is made.
    pub cert_file: Option<PathBuf>,
    /// Private key (PEM).
    pub key_file: Option<PathBuf>,
}

impl Default for RelayTls {
    fn default() -> Self {
        Self { enabled: true, required: false, cert_file: None, key_file: None }
    }
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 2525))],
            host_name: String::new(),
            tls: RelayTls::default(),
            max_message_bytes: 50 * 1024 * 1024,
            max_inflight_bytes: 512 * 1024 * 1024,
            max_line_bytes: 1024 * 1024,
            max_command_line_bytes: 2048,
            max_recipients: 1000,
            max_errors: 20,
            max_idle_commands: 100,
            max_connections: 2000,
            max_connections_per_client: 200,
            messages_per_minute_per_client: 0,
            greet_delay_ms: 0,
            idle_seconds: 300,
            data_min_bytes_per_second: 500,
            data_seconds: 1800,
            verdict_seconds: 60,
            handshake_seconds: 30,
            write_seconds: 120,
            drain_seconds: 25,
            bare_newline: BareNewline::Reject,
            chunking: false,
            max_received: 100,
            max_own_received: 3,
            proxy_protocol_from: Vec::new(),
            xclient_from: Vec::new(),
            xforward_from: Vec::new(),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A host name that cannot stand in a reply or header.
    #[error("relay: host_name {0:?} is no host name")]
    HostName(String),
    /// A limit of 0 that would stop all mail.
    #[error("relay: {0} must not be 0")]
    Zero(&'static str),
    /// One of certificate and key without the other.
    #[error("relay: tls needs both cert_file and key_file, or neither")]
    HalfTls,
    /// TLS required and not enabled.
    #[error("relay: tls is required and not enabled")]
    TlsOff,
}

impl RelayConfig {
    /// Refuses what could not work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let name = &self.host_name;
        if name.is_empty()
            || name.len() > 255
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_[]:".contains(&b))
        {
            return Err(ConfigError::HostName(name.clone()));
        }
        let numbers = [
            ("max_message_bytes", self.max_message_bytes),
            ("max_inflight_bytes", self.max_inflight_bytes as u64),
            ("max_line_bytes", self.max_line_bytes as u64),
            ("max_command_line_bytes", self.max_command_line_bytes as u64),
            ("max_recipients", self.max_recipients as u64),
            ("max_errors", self.max_errors.into()),
            ("max_connections", self.max_connections as u64),
            ("max_connections_per_client", self.max_connections_per_client as u64),
            ("idle_seconds", self.idle_seconds),
            ("data_min_bytes_per_second", self.data_min_bytes_per_second),
            ("data_seconds", self.data_seconds),
            ("verdict_seconds", self.verdict_seconds),
            ("max_received", self.max_received as u64),
            ("max_own_received", self.max_own_received as u64),
        ];
        if let Some((name, _)) = numbers.into_iter().find(|(_, number)| *number == 0) {
            return Err(ConfigError::Zero(name));
        }
        if self.tls.cert_file.is_some() != self.tls.key_file.is_some() {
            return Err(ConfigError::HalfTls);
        }
        if self.tls.required && !self.tls.enabled {
            return Err(ConfigError::TlsOff);
        }
        Ok(())
    }

    pub(super) fn server_settings(&self) -> ServerSettings {
        ServerSettings {
            host_name: self.host_name.clone(),
            max_command_line_bytes: self.max_command_line_bytes,
            max_message_bytes: self.max_message_bytes,
            max_line_bytes: self.max_line_bytes,
            max_recipients: self.max_recipients,
            max_errors: self.max_errors,
            max_idle_commands: self.max_idle_commands,
            command_timeout: Duration::from_secs(self.idle_seconds),
            data_timeout: Duration::from_secs(self.data_seconds),
            data_min_bytes_per_second: self.data_min_bytes_per_second,
            bare_newline: self.bare_newline,
            require_tls: self.tls.required,
        }
    }
}
