//! Settings of the policy: section `[policy]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::tenant::{TenantConfig, Thresholds};
use crate::mail::Network;

/// How messages are judged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// File of weights instead of the built-in ones (`policies/weights.toml`).
    pub weights_file: Option<PathBuf>,
    /// The domains of the organisation: mail that claims to come from them must prove it.
    pub own_domains: Vec<String>,
    /// People whose names are worth borrowing: `Display Name <address@example.com>`.
    pub vips: Vec<String>,
    /// Networks of our own clients: SPF is not asked about them. Clients that logged in are never asked about.
    pub own_networks: Vec<Network>,
    /// Thresholds of every tenant that sets none of its own.
    pub default: Thresholds,
    /// Operator's lists.
    pub lists: ListsConfig,
    /// Tenants.
    pub tenants: Vec<TenantConfig>,
}

/// Operator's lists: entries here and in files (one entry a line, `#` begins a comment).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListsConfig {
    /// Passed whatever the score, if the sender is proven. Malware is not.
    pub allow: Vec<String>,
    /// More of the same.
    pub allow_file: Option<PathBuf>,
    /// Refused whatever the score.
    pub block: Vec<String>,
    /// More of the same.
    pub block_file: Option<PathBuf>,
}
