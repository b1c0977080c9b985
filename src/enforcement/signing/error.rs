//! Why a signature is not good, and why keys cannot be used.

use std::path::PathBuf;

use super::NonceError;

/// Why a request is not taken for signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A header is missing.
    #[error("the header {0} is missing")]
    Missing(String),
    /// A header is not what it should be.
    #[error("the header {0} is not understood")]
    Malformed(String),
    /// The time is too far from ours.
    #[error("signed {seconds} s away from our time")]
    Stale {
        /// How far.
        seconds: u64,
    },
    /// No such key, or no longer.
    #[error("no key of this id is good")]
    UnknownKey,
    /// The body is not the one that was signed.
    #[error("the body is not the one that was signed")]
    Body,
    /// The signature is not made with the key for this request.
    #[error("the signature does not fit")]
    Mismatch,
    /// The nonce was used before.
    #[error("the nonce was used before")]
    Replayed,
    /// Whether the nonce was used before cannot be told.
    #[error(transparent)]
    Nonces(#[from] NonceError),
}

/// Why the settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// No header begins like this.
    #[error("signing.header_prefix `{0}`: letters, digits and dashes, 64 at most, as in X-Mailweir")]
    Prefix(String),
    /// A number under which nothing would be good.
    #[error("signing.{0} 0: must be at least 1")]
    Zero(&'static str),
    /// A new key would never sign.
    #[error("signing.announce_hours {0}: must be at most {most}, a year", most = super::config::MAX_ANNOUNCE_HOURS)]
    Announce(u32),
}

/// Why the file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error("the signing keys in {file} cannot be {what}")]
    File {
        /// Which file.
        file: PathBuf,
        /// locked, read, written.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("{file} holds no signing keys")]
    Content {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A key in it cannot be used.
    #[error("{file}: key `{id}`: 64 hexadecimal digits are expected as secret, letters, digits and dashes as id")]
    Key {
        /// Which file.
        file: PathBuf,
        /// Which key.
        id: String,
    },
    /// No other is made.
    #[error(
        "{good} signing keys are good, and no other is made: revoke those that nobody needs (mailweir keys list, \
         mailweir keys revoke ID), or set signing.overlap_hours to less"
    )]
    Many {
        /// How many.
        good: usize,
    },
    /// The system has no random numbers.
    #[error("no random numbers")]
    Chance,
}
