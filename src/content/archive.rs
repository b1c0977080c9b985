//! Archives: members listed and unpacked, within limits. Zip and tar; what others share.
//!
//! The directory is counted before it is read, so that a forged one costs nothing. Names are never used as paths.
//! Not here: 7z, cabinets and disk images (modules of their own), RAR contents (no free unpacker): those stay closed.

use std::io::{Cursor, Read};

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

/// Opens a zip. `budget`: bytes that may still be unpacked.
pub(super) fn zip(bytes: &Bytes, limits: &ContentLimits, budget: &mut usize) -> Listing {
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
