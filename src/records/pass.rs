//! The pass of a released message: a header that lets it through our own doors once, unjudged.
//!
//! `X-Mailweir-Release: id=…; nonce=…; expires=…; mac=…`. The code (HMAC-SHA256) covers id, nonce, expiry and the hash of the
//! message's body, so that a pass cannot be moved to another message; the nonce is used up at the first door.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::mail::MessageId;

/// Name of the header field.
pub const RELEASE_HEADER: &str = "X-Mailweir-Release";

/// The key that passes are made with; 32 bytes of chance, shared by all gateways of one site.
#[derive(Clone)]
pub struct PassKey([u8; 32]);

impl std::fmt::Debug for PassKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PassKey(..)")
    }
}

/// A pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The released message.
    pub id: MessageId,
    /// Single use.
    pub nonce: String,
    /// Milliseconds since 1970.
    pub expires_ms: i64,
}

impl PassKey {
    /// A key of 32 bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The header's value for a pass of this message.
    pub fn sign(&self, pass: &Pass, raw: &[u8]) -> String {
        let mac = self.mac(pass, raw).finalize().into_bytes();
        let mac: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("id={}; nonce={}; expires={}; mac={mac}", pass.id, pass.nonce, pass.expires_ms)
    }

    /// The pass that a header's value is, if it was made with this key for this message and is not too old. Whether it was
    /// used already is for [`Records::use_pass`](super::Records::use_pass) to say.
    pub fn verify(&self, value: &str, raw: &[u8], now_ms: i64) -> Option<Pass> {
        let mut pass = Pass { id: MessageId::new(0, [0; 10]), nonce: String::new(), expires_ms: 0 };
        let mut mac = None;
        for pair in value.split(';') {
            match pair.trim().split_once('=')? {
                ("id", id) => pass.id = id.parse().ok()?,
                ("nonce", nonce) => pass.nonce = nonce.to_owned(),
                ("expires", expires) => pass.expires_ms = expires.parse().ok()?,
                ("mac", hex) => mac = Some(unhex(hex)?),
                _ => return None,
            }
        }
        // Compares in constant time.
        self.mac(&pass, raw).verify_slice(&mac?).ok()?;
        (pass.expires_ms >= now_ms).then_some(pass)
    }

    fn mac(&self, pass: &Pass, raw: &[u8]) -> Hmac<Sha256> {
        // A key shorter than the hash's block is filled up with zeros (RFC 2104, 2).
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.0);
        let mut mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
        mac.update(format!("{}\n{}\n{}\n", pass.id, pass.nonce, pass.expires_ms).as_bytes());
        mac.update(&Sha256::digest(body(raw)));
        mac
    }
}

/// What follows the header: MTAs add fields on the way, the body stays.
fn body(raw: &[u8]) -> &[u8] {
    memchr::memmem::find(raw, b"\r\n\r\n").map_or(&[], |end| &raw[end + 4..])
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_message_in_time() {
        let key = PassKey::new([7; 32]);
        let pass = Pass { id: MessageId::new(5, [1; 10]), nonce: "n1".into(), expires_ms: 1_000 };
        let raw = b"Subject: x\r\n\r\nhello\r\n";
        let value = key.sign(&pass, raw);
        assert_eq!(key.verify(&value, raw, 1_000), Some(pass.clone()));
        assert_eq!(key.verify(&value, b"Received: y\r\nSubject: x\r\n\r\nhello\r\n", 0), Some(pass));
        assert_eq!(key.verify(&value, b"Subject: x\r\n\r\nother\r\n", 0), None);
        assert_eq!(key.verify(&value, raw, 1_001), None);
        assert_eq!(PassKey::new([8; 32]).verify(&value, raw, 0), None);
        assert_eq!(key.verify(&value.replace("n1", "n2"), raw, 0), None);
        for broken in ["", "mac=00", "id=x; nonce=y", "mac=é0", &value.replace("mac=", "mac=0")] {
            assert_eq!(key.verify(broken, raw, 0), None, "{broken}");
        }
    }
}
