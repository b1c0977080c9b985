//! The identity of a rule: a UUID (RFC 9562), as its file says or made out of the file's name.

use sha1::{Digest, Sha1};

/// The name space of names of rule files: that of URLs (RFC 9562, 6.6), with names that begin with `mailweir:rule:`.
const NAMES: [u8; 16] =
    [0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8];

/// The identity of a rule whose file gives none: version 5, out of the file's path within its feed, `folder/name.yml`.
/// Renaming or moving the file makes it another rule; files of one path in two feeds are one.
pub(super) fn of_file(path: &str) -> String {
    let hash = Sha1::new().chain_update(NAMES).chain_update("mailweir:rule:").chain_update(path).finalize();
    let mut bytes: [u8; 16] = std::array::from_fn(|place| hash[place]);
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The UUID in lower case, if it is one.
pub(super) fn uuid(text: &str) -> Option<String> {
    let dash = |place: usize| matches!(place, 8 | 13 | 18 | 23);
    let fits = |(place, byte): (usize, u8)| if dash(place) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    (text.len() == 36 && text.bytes().enumerate().all(fits)).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let id = of_file("folder/a_rule.yml");
        assert_eq!(uuid(&id).as_deref(), Some(id.as_str()));
        assert_eq!(&id[14..15], "5");
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        assert_eq!(id, of_file("folder/a_rule.yml"));
        assert_ne!(id, of_file("other/a_rule.yml"));
        assert_ne!(id, of_file("b_rule.yml"));
        assert_eq!(uuid("C4F46473-0f5a-56d6-bb7e-489460bdb20f").unwrap(), "c4f46473-0f5a-56d6-bb7e-489460bdb20f");
        for bad in [
            "",
            "c4f46473-0f5a-56d6-bb7e-489460bdb20",
            "c4f46473x0f5a-56d6-bb7e-489460bdb20f",
            "é4f46473-0f5a-56d6-bb7e-489460bdb20",
        ] {
            assert_eq!(uuid(bad), None, "{bad}");
        }
    }
}
