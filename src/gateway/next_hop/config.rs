//! Configuration of the next hops.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::protocol::smtp::Dialect;

/// Where accepted mail goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NextHopsConfig {
    /// The servers mail can be passed on to.
    pub hops: Vec<HopConfig>,
    /// Recipient domains that go elsewhere than to the default hops; the first route that fits counts.
    pub routes: Vec<RouteConfig>,
    /// Our name in EHLO towards the next hops; empty: the relay's host name.
    pub helo_name: String,
    /// Time for a connection to be made, in seconds.
    pub connect_seconds: u64,
    /// Time for the reply to a command, in seconds.
    pub command_seconds: u64,
    /// Time for the content to be written, in seconds.
    pub content_seconds: u64,
    /// Time for the reply to the final dot, in seconds. Shorter than the senders' patience.
    pub final_reply_seconds: u64,
    /// Messages after which a connection is not used again.
    pub max_messages_per_connection: u32,
    /// Time after which an idle connection is not used again, in seconds.
    pub pool_idle_seconds: u64,
    /// Connections to one hop at a time.
    pub max_connections_per_hop: usize,
    /// How long a hop that could not be reached is left alone, in seconds.
    pub down_seconds: u64,
    /// How long what a hop offers is believed without a new connection, in seconds.
    pub learn_seconds: u64,
}

impl Default for NextHopsConfig {
    fn default() -> Self {
        Self {
            hops: vec![HopConfig::default()],
            routes: Vec::new(),
            helo_name: String::new(),
            connect_seconds: 5,
            command_seconds: 60,
            content_seconds: 120,
            final_reply_seconds: 100,
            max_messages_per_connection: 100,
            pool_idle_seconds: 30,
            max_connections_per_hop: 100,
            down_seconds: 5,
            learn_seconds: 60,
        }
    }
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HopConfig {
    /// Name by which routes, logs and metrics call it.
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// `smtp` or `lmtp`. With LMTP a transaction has one recipient.
    pub dialect: Dialect,
    /// `none`, `opportunistic` (any certificate, plain text if it must be) or `verify` (name and chain, else no mail).
    pub tls: TlsMode,
    /// Name the certificate must have; empty: the host of `address`.
    pub tls_name: String,
    /// Root certificates (PEM) to verify with instead of the machine's own.
    pub ca_file: Option<PathBuf>,
    /// Tell the client's identity by XFORWARD when the hop offers it.
    pub xforward: bool,
    /// Tell the client's address by the PROXY protocol: `none`, `v1` or `v2`. Such a connection serves one client only.
    pub proxy_protocol: ProxyVersion,
}

impl Default for HopConfig {
    fn default() -> Self {
        Self {
            name: "mta".to_owned(),
            address: "127.0.0.1:10026".to_owned(),
            dialect: Dialect::Smtp,
            tls: TlsMode::None,
            tls_name: String::new(),
            ca_file: None,
            xforward: true,
            proxy_protocol: ProxyVersion::None,
        }
    }
}

/// Recipient domains and where they go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteConfig {
    /// `example.com` for the domain itself, `.example.com` for all below it.
    pub domains: Vec<String>,
    /// Names of hops, tried in this order.
    pub hops: Vec<String>,
}

/// TLS towards a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// Plain text.
    #[default]
    None,
    /// TLS when offered, unverified; plain text otherwise.
    Opportunistic,
    /// TLS with name and chain verified, or no mail.
    Verify,
}

/// PROXY protocol towards a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyVersion {
    /// Not used.
    #[default]
    None,
    /// The line.
    V1,
    /// The binary block.
    V2,
}
