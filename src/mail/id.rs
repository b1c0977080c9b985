//! The gateway's own id of a message: a ULID (48 bits of milliseconds, 80 bits of chance).
//!
//! Written as 26 lower-case letters and digits of Crockford's base 32, so that it sorts by time, fits into an SMTP
//! reply and can be read out over the telephone. It is not the `Message-ID` header, which the sender chooses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 26;

/// Id of one message at one gateway; sorts by the time of its making.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(u128);

impl MessageId {
    /// Composes an id of the time (milliseconds since 1970) and ten bytes of chance.
    pub fn new(unix_millis: u64, chance: [u8; 10]) -> Self {
        let mut low = [0; 16];
        low[6..].copy_from_slice(&chance);
        let time = u128::from(unix_millis & 0xffff_ffff_ffff) << 80;
        Self(time | u128::from_be_bytes(low))
    }

    /// When the id was made, in milliseconds since 1970.
    pub fn unix_millis(self) -> u64 {
        (self.0 >> 80) as u64
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; LENGTH];
        for (place, letter) in text.iter_mut().enumerate() {
            *letter = ALPHABET[(self.0 >> (5 * (LENGTH - 1 - place))) as usize & 31];
        }
        f.pad(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a message id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "not a message id: 26 letters and digits of Crockford's base 32 are expected, such as 01jd3q5xk9v7m2r8t4w6y0z1ab"
)]
pub struct InvalidMessageId;

impl FromStr for MessageId {
    type Err = InvalidMessageId;

    fn from_str(text: &str) -> Result<Self, InvalidMessageId> {
        // The first letter carries the upper 3 of 128 bits only.
        if text.len() != LENGTH || !matches!(text.as_bytes()[0], b'0'..=b'7') {
            return Err(InvalidMessageId);
        }
        text.bytes()
            .try_fold(0u128, |sum, letter| {
                let value = ALPHABET.iter().position(|l| *l == letter.to_ascii_lowercase())?;
                Some(sum << 5 | value as u128)
            })
            .map(Self)
            .ok_or(InvalidMessageId)
    }
}

impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for (millis, chance) in [(0, [0; 10]), (1_763_700_000_000, [7; 10]), (0xffff_ffff_ffff, [0xff; 10])] {
            let id = MessageId::new(millis, chance);
            assert_eq!(id.to_string().len(), LENGTH);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
            assert_eq!(id.unix_millis(), millis);
        }
    }

    #[test]
    fn later_sorts_after() {
        let (a, b) = (MessageId::new(1, [0xff; 10]), MessageId::new(2, [0; 10]));
        assert!(a < b && a.to_string() < b.to_string());
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "0", "zzzzzzzzzzzzzzzzzzzzzzzzzz", "0123456789abcdefghjkmnpqru", "01jd3q5xk9v7m2r8t4w6y0z1aé"]
        {
            assert_eq!(text.parse::<MessageId>(), Err(InvalidMessageId), "{text}");
        }
    }
}
