//! Settings of the release: section `[release]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How held messages are released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReleaseConfig {
    /// How long a released message may take to come through our own doors again, in seconds.
    pub pass_seconds: u64,
    /// File with the key of release passes, shared by all gateways of one site. None: `DATA/release.key`, made on first start.
    pub key_file: Option<PathBuf>,
}

impl Default for ReleaseConfig {
    fn default() -> Self {
        Self { pass_seconds: 60 * 60, key_file: None }
    }
}
