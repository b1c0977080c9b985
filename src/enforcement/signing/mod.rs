//! Signed requests: webhooks that go out, callbacks that come in.
//!
//! HMAC-SHA256 (RFC 2104) over six lines, each ended by a line feed: the word `mailweir-v1`, the time in seconds since 1970, a
//! nonce, the method in capitals, path with query as in the request line, SHA-256 of the body in hexadecimal digits. It travels
//! in five headers, `X-Mailweir-Signature` (`v1=` and hexadecimal digits), `-Timestamp`, `-Nonce`, `-Body-SHA256`, `-Key-Id`;
//! the prefix is a setting. Keys have ids and follow each other with an overlap. `deploy/webhooks` verifies it in other
//! languages. Not here: HTTP itself.

#[cfg(not(feature = "redis"))]
mod alone;
mod config;
mod error;
mod key;
mod key_file;
mod nonces;
mod rotation;
#[cfg(feature = "redis")]
mod shared;
mod signature;

#[cfg(not(feature = "redis"))]
pub use alone::SiteNonces;
pub use config::SigningConfig;
pub use error::{KeyFileError, SettingError, SignatureError};
pub use key::{KeyInfo, KeyState, Keys, Revoked, Rotated, SigningKey};
pub use nonces::{Life, MemoryNonces, NonceError, Nonces};
pub use rotation::rotate_by_age;
#[cfg(feature = "redis")]
pub use shared::{RedisNonces, SiteNonces};
pub use signature::{Asked, Signer, Verifier};
