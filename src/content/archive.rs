//! Archives: members listed and unpacked, within limits. Zip and tar; what others share.
//!
//! The directory is counted before it is read, so that a forged one costs nothing. Names are never used as paths.
//! Not here: 7z, cabinets and disk images (modules of their own), RAR contents (no free unpacker): those stay closed.

use std::io::{Cursor, Read};
use std::sync::Arc;

use bytes::Bytes;

use super::{ContentLimits, Trait};

/// One member of an archive.
pub(super) struct Member {
    pub(super) name: String,
    /// Size unpacked, as the directory says, in bytes.
    pub(super) size: u64,
    pub(super) encrypted: bool,
    /// Content, when it was unpacked whole or in part.
    pub(super) bytes: Bytes,
    /// Whether the content is not all there.
    pub(super) cut: bool,
}

impl Member {
    /// One without content.
    pub(super) fn empty(name: String) -> Self {
        Self { name, size: 0, encrypted: false, bytes: Bytes::new(), cut: false }
    }
}

/// What an archive showed.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) members: Vec<Member>,
    pub(super) traits: Vec<Trait>,
}

/// Members of all archives of a message on which passwords are tried, times passwords.
const MAX_TRIES: usize = 200;

/// Passwords to try, and how often they may still be.
pub(super) struct Passwords {
    all: Arc<[String]>,
    /// The one that opened the last member is tried first.
    right: usize,
    left: usize,
}

impl Passwords {
    pub(super) fn new(all: Arc<[String]>) -> Self {
        Self { all, right: 0, left: MAX_TRIES }
    }

    /// The content of a member under the first password that opens it whole: what its checksum says is right.
    fn open(&mut self, archive: &mut ::zip::ZipArchive<Cursor<Bytes>>, index: usize, most: usize) -> Option<Vec<u8>> {
        let order = (self.right..self.all.len()).chain(0..self.right);
        for place in order {
            self.left = self.left.checked_sub(1)?;
            let Ok(file) = archive.by_index_decrypt(index, self.all[place].as_bytes()) else { continue };
            let mut content = Vec::new();
            if file.take(most as u64).read_to_end(&mut content).is_ok() && !content.is_empty() {
                self.right = place;
                return Some(content);
            }
        }
        None
    }
}

/// Opens a zip. `budget`: bytes that may still be unpacked.
pub(super) fn zip(bytes: &Bytes, limits: &ContentLimits, budget: &mut usize, passwords: &mut Passwords) -> Listing {
    let mut out = Listing::default();
    let entries = memchr::memmem::find_iter(bytes, b"PK\x01\x02").take(limits.max_members + 1).count();
    if entries > limits.max_members {
        out.traits.push(Trait::TooManyMembers);
        return out;
    }
    let Ok(mut archive) = ::zip::ZipArchive::new(Cursor::new(bytes.clone())) else {
        out.traits.push(Trait::Broken);
        return out;
    };
    for index in 0..archive.len() {
        let Ok(file) = archive.by_index_raw(index) else {
            out.traits.push(Trait::Broken);
            continue;
        };
        let (size, packed, encrypted) = (file.size(), file.compressed_size(), file.encrypted());
        let name = String::from_utf8_lossy(file.name_raw()).into_owned();
        if file.is_dir() {
            continue;
        }
        let mut member = Member { name, size, encrypted, bytes: Bytes::new(), cut: true };
        let bomb = size > 1 << 20 && size / packed.max(1) > limits.max_ratio;
        if bomb {
            out.traits.push(Trait::Bomb);
        }
        drop(file);
        if !encrypted && !bomb {
            let most = limits.max_member_bytes.min(*budget);
            if let Ok(file) = archive.by_index(index) {
                let mut content = Vec::new();
                let read = file.take(most as u64).read_to_end(&mut content);
                *budget -= content.len().min(*budget);
                member.cut = read.is_err() || (content.len() as u64) < size || content.len() == most;
                member.bytes = content.into();
            }
        } else if encrypted
            && !bomb
            && let Some(content) = passwords.open(&mut archive, index, limits.max_member_bytes.min(*budget))
        {
            *budget -= content.len().min(*budget);
            member.cut = (content.len() as u64) < size;
            member.bytes = content.into();
            member.encrypted = false;
            out.traits.extend([Trait::Encrypted, Trait::PasswordGiven]);
        }
        out.members.push(member);
    }
    out
}

/// Lists a tar; members lie in it as they are.
pub(super) fn tar(bytes: &Bytes, limits: &ContentLimits) -> Listing {
    let mut out = Listing::default();
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + 512).filter(|header| header[0] != 0) {
        if out.members.len() >= limits.max_members {
            out.traits.push(Trait::TooManyMembers);
            break;
        }
        let text = |range: std::ops::Range<usize>| {
            let field = &header[range];
            let end = memchr::memchr(0, field).unwrap_or(field.len());
            String::from_utf8_lossy(&field[..end]).trim().to_owned()
        };
        let Ok(size) = u64::from_str_radix(&text(124..136), 8) else {
            out.traits.push(Trait::Broken);
            break;
        };
        let start = at + 512;
        let end = start.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
        let cut = end > bytes.len();
        let content = bytes.slice(start..end.min(bytes.len()));
        if matches!(header[156], 0 | b'0') {
            out.members.push(Member { name: text(0..100), size, encrypted: false, bytes: content, cut });
        }
        at = end.saturating_add(511) / 512 * 512;
    }
    out
}

/// Whether a RAR says in its first header that even the names are encrypted (RAR 4: flag 0x80; RAR 5: header type 4).
pub(super) fn rar_encrypted(bytes: &[u8]) -> bool {
    match bytes {
        // Signature, CRC (4), size (1), type.
        [b'R', b'a', b'r', b'!', 0x1a, 7, 1, 0, _, _, _, _, _, kind, ..] => *kind == 4,
        // Signature, CRC (2), type 0x73, flags.
        [b'R', b'a', b'r', b'!', 0x1a, 7, 0, _, _, 0x73, flags, ..] => flags & 0x80 != 0,
        _ => false,
    }
}

/// The original name in a gzip header (RFC 1952, 2.3.1).
pub(super) fn gzip_name(bytes: &[u8]) -> Option<String> {
    let flags = *bytes.get(3)?;
    let mut rest = bytes.get(10..)?;
    if flags & 4 != 0 {
        let length = usize::from(u16::from_le_bytes([*rest.first()?, *rest.get(1)?]));
        rest = rest.get(2 + length..)?;
    }
    let end = memchr::memchr(0, &rest[..rest.len().min(1024)])?;
    (flags & 8 != 0).then(|| String::from_utf8_lossy(&rest[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use ::zip::unstable::write::FileOptionsExt;
    use ::zip::write::SimpleFileOptions;
    use ::zip::{AesMode, ZipWriter};

    use super::*;

    fn packed(options: SimpleFileOptions) -> Bytes {
        let mut out = ZipWriter::new(Cursor::new(Vec::new()));
        for name in ["one.txt", "two.txt"] {
            out.start_file(name, options).unwrap();
            out.write_all(name.repeat(50).as_bytes()).unwrap();
        }
        out.finish().unwrap().into_inner().into()
    }

    #[test]
    fn given_passwords_open() {
        let plain = SimpleFileOptions::default();
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let open = |bytes: &Bytes, list: &[&str]| {
            let (words, limits) = (words(list), ContentLimits::default());
            let mut budget = limits.max_unpacked_bytes;
            let listing = zip(bytes, &limits, &mut budget, &mut Passwords::new(words.into()));
            let opened = listing.members.iter().filter(|one| !one.bytes.is_empty() && !one.cut).count();
            (opened, listing.traits.contains(&Trait::PasswordGiven), listing.members[0].encrypted)
        };
        for bytes in [
            packed(plain.with_deprecated_encryption(b"wehr").unwrap()),
            packed(plain.with_aes_encryption(AesMode::Aes256, "wehr")),
        ] {
            assert_eq!(open(&bytes, &["nothing", "wehr"]), (2, true, false));
            assert_eq!(open(&bytes, &["nothing", "Wehr", ""]), (0, false, true));
            assert_eq!(open(&bytes, &[]), (0, false, true));
            // Broken anywhere: no panic.
            for at in (0..bytes.len()).step_by(13) {
                let mut broken = bytes.to_vec();
                broken[at] ^= 0x55;
                let (words, limits) = (words(&["wehr"]), ContentLimits::default());
                zip(&broken.into(), &limits, &mut 1_000_000, &mut Passwords::new(words.into()));
            }
        }
        assert_eq!(open(&packed(plain), &["wehr"]), (2, false, false), "needs none");
    }
}
