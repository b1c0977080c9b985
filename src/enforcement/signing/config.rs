//! Settings of signatures: section `[signing]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::SettingError;
use crate::deferred::QueueError;

/// Longest beginning of the headers' names.
const MAX_PREFIX: usize = 64;

/// Longest announcement of a key: a year.
pub(super) const MAX_ANNOUNCE_HOURS: u32 = 366 * 24;

/// How requests are signed and signatures are verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SigningConfig {
    /// Beginning of the headers' names.
    pub header_prefix: String,
    /// File of the keys, shared by all gateways of one site. None: `DATA/signing.keys`, made on first use.
    pub key_file: Option<PathBuf>,
    /// Age in days at which the gateway makes a new key by itself, 90 say; 0: never, only `mailweir keys rotate` does. Receivers
    /// must get the new key while it is announced, or they refuse what is signed with it; the log says so every day.
    pub rotate_days: u32,
    /// How long a new key is known before anything is signed with it, in hours, a year at most: the time to give it to receivers. A
    /// key that is announced for later than that, by a clock that was wrong, is replaced by the next rotation.
    pub announce_hours: u32,
    /// How long a key is still good for verifying after the next one has taken over, in hours.
    pub overlap_hours: u32,
    /// How far the time of a signature may be from ours, in seconds.
    pub max_age_seconds: u32,
    /// Nonces remembered in memory; with more unexpired ones, requests are refused.
    pub max_nonces: usize,
    /// Redis that remembers nonces for all gateways that are called by the same, in the forms of `queue.url`; empty: each
    /// remembers its own. While it does not answer no signed request is taken.
    pub nonces_url: String,
    /// File that holds that address instead, so that a password stays out of the configuration.
    pub nonces_url_file: Option<PathBuf>,
    /// Certificate authorities that the server's certificate is checked against with `rediss…://`, as PEM; none: the machine's
    /// own.
    pub nonces_ca_file: Option<PathBuf>,
    /// Our certificate (with its chain), for a server that asks for one, as PEM.
    pub nonces_cert_file: Option<PathBuf>,
    /// Its key, as PEM.
    pub nonces_key_file: Option<PathBuf>,
    /// How long Redis may take to answer, in milliseconds.
    pub nonces_ms: u64,
}

impl Default for SigningConfig {
    fn default() -> Self {
        Self {
            header_prefix: "X-Mailweir".into(),
            key_file: None,
            rotate_days: 0,
            announce_hours: 336,
            overlap_hours: 168,
            max_age_seconds: 300,
            max_nonces: 100_000,
            nonces_url: String::new(),
            nonces_url_file: None,
            nonces_ca_file: None,
            nonces_cert_file: None,
            nonces_key_file: None,
            nonces_ms: 1_000,
        }
    }
}

impl SigningConfig {
    /// Refuses settings under which no signature would be good.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<(), SettingError> {
        // What a header's name may consist of (RFC 9110, 5.6.2).
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let prefix = &self.header_prefix;
        if !(1..=MAX_PREFIX).contains(&prefix.len()) || !prefix.bytes().all(token) {
            return Err(SettingError::Prefix(prefix.clone()));
        }
        if self.announce_hours > MAX_ANNOUNCE_HOURS {
            return Err(SettingError::Announce(self.announce_hours));
        }
        let sizes = [
            ("max_age_seconds", u64::from(self.max_age_seconds)),
            ("max_nonces", self.max_nonces as u64),
            ("nonces_ms", self.nonces_ms),
        ];
        sizes.into_iter().find(|(_, size)| *size == 0).map_or(Ok(()), |(name, _)| Err(SettingError::Zero(name)))
    }

    /// Where nonces are remembered, of the file or the setting; empty: in memory.
    pub(super) fn nonces_address(&self) -> Result<String, QueueError> {
        let Some(file) = &self.nonces_url_file else { return Ok(self.nonces_url.clone()) };
        let place = format!("(signing.nonces_url_file {})", file.display());
        let read = std::fs::read_to_string(file);
        let wrong =
            |why: std::io::Error| QueueError::Address { setting: "signing.nonces_url", place, why: why.to_string() };
        read.map(|text| text.trim().to_owned()).map_err(wrong)
    }
}
