//! Settings of the release and of what is done after a worse second verdict: sections `[release]` and `[actions]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How held messages are released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReleaseConfig {
    /// How long a released message may take to come through our own doors again, in seconds.
    pub pass_seconds: u64,
    /// How long giving one copy to the next hop may take, in seconds. Longer than all times of `[next_hop]` together: who cuts a
    /// copy off when the next hop has it already gives it a second one.
    pub copy_seconds: u64,
    /// File with the key of release passes, shared by all gateways of one site. None: `DATA/release.key`, made on first start.
    pub key_file: Option<PathBuf>,
}

impl Default for ReleaseConfig {
    fn default() -> Self {
        Self { pass_seconds: 60 * 60, copy_seconds: 10 * 60, key_file: None }
    }
}

/// Who acts when a second verdict is worse (`reassess.on_worse` says what is wanted). Operators are told by `[alerts]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActionsConfig {
    /// `notify`: people are told by mail, past our own doors.
    pub notify: NotifyConfig,
    /// `webhook`: a program of the operator's is told, signed as `[signing]` says.
    pub webhook: ActionWebhookConfig,
}

/// Who is told by mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NotifyConfig {
    /// The recipients of the message, each by himself.
    pub recipients: bool,
    /// At most so many of them.
    pub max_recipients: usize,
    /// These as well.
    pub to: Vec<String>,
    /// From whom. Empty: as in `[alerts.mail]`.
    pub sender: String,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self { recipients: false, max_recipients: 100, to: Vec::new(), sender: String::new() }
    }
}

/// A program that is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActionWebhookConfig {
    /// Where to: `POST` of JSON. Empty: not told.
    pub url: String,
    /// File that holds the address instead, so that a secret in it stays out of the configuration.
    pub url_file: Option<PathBuf>,
}
