//! Cabinets ([MS-CAB]): the directory read; folders stored, in MSZIP ([MS-MCI]) or LZX unpacked.
//!
//! A folder is unpacked once, as far as its files reach; files are ranges of it. Ranges that overlap are left closed, so
//! that many files of the same bytes cost nothing. Not here: Quantum, files that go on in another cabinet, checksums.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::archive::{Listing, Member};
use super::unpack::most_of;
use super::{ContentLimits, Trait};

struct Folder {
    data: usize,
    blocks: usize,
    compression: u16,
}

struct Entry {
    name: String,
    size: usize,
    start: usize,
    folder: usize,
}

struct Cabinet {
    folders: Vec<Folder>,
    entries: Vec<Entry>,
    /// Bytes kept free in front of each block of data.
    reserved: usize,
}

fn le16(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?)))
}

fn le32(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?)).ok()
}

/// Opens a cabinet. `budget`: bytes that may still be unpacked.
pub(super) fn open(bytes: &Bytes, limits: &ContentLimits, budget: &mut usize) -> Listing {
    let mut out = Listing::default();
    if le16(bytes, 28).is_some_and(|files| files > limits.max_members) {
        out.traits.push(Trait::TooManyMembers);
        return out;
    }
    let Some(cabinet) = directory(bytes) else {
        out.traits.push(Trait::Broken);
        return out;
    };
    let mut unpacked: Vec<Option<Bytes>> = vec![None; cabinet.folders.len()];
    let mut given = vec![0; cabinet.folders.len()];
    for entry in &cabinet.entries {
        let mut member = Member { cut: true, size: entry.size as u64, ..Member::empty(entry.name.clone()) };
        if let (Some(slot), Some(given)) = (unpacked.get_mut(entry.folder), given.get_mut(entry.folder)) {
            let folder = slot.get_or_insert_with(|| {
                let reach = cabinet.entries.iter().filter(|other| other.folder == entry.folder);
                let reach = reach.map(|other| other.start.saturating_add(other.size)).max().unwrap_or(0);
                let (content, bomb) = cabinet.unpack(bytes, entry.folder, reach, limits, budget);
                out.traits.extend(bomb.then_some(Trait::Bomb));
                content.into()
            });
            let end = entry.start.saturating_add(entry.size.min(limits.max_member_bytes)).min(folder.len());
            if entry.start >= *given && entry.start <= end {
                member.bytes = folder.slice(entry.start..end);
                member.cut = member.bytes.len() < entry.size;
                *given = end;
            }
        }
        out.members.push(member);
    }
    out
}

fn directory(bytes: &[u8]) -> Option<Cabinet> {
    let (folders, files, flags) = (le16(bytes, 26)?, le16(bytes, 28)?, le16(bytes, 30)?);
    let (mut at, mut of_folder, mut reserved) = (36, 0, 0);
    if flags & 4 != 0 {
        let of_header = le16(bytes, 36)?;
        of_folder = usize::from(*bytes.get(38)?);
        reserved = usize::from(*bytes.get(39)?);
        at = 40 + of_header;
    }
    // Names of the cabinets before and after, two texts each.
    for _ in 0..2 * ((flags & 1) + (flags >> 1 & 1)) {
        at += memchr::memchr(0, bytes.get(at..)?)? + 1;
    }
    let mut out = Cabinet { folders: Vec::new(), entries: Vec::new(), reserved };
    for _ in 0..folders {
        let compression = u16::try_from(le16(bytes, at + 6)?).ok()?;
        out.folders.push(Folder { data: le32(bytes, at)?, blocks: le16(bytes, at + 4)?, compression });
        at += 8 + of_folder;
    }
    at = le32(bytes, 16)?;
    for _ in 0..files {
        let rest = bytes.get(at.checked_add(16)?..)?;
        let name = &rest[..memchr::memchr(0, rest)?];
        out.entries.push(Entry {
            name: String::from_utf8_lossy(name).into_owned(),
            size: le32(bytes, at)?,
            start: le32(bytes, at + 4)?,
            folder: le16(bytes, at + 8)?,
        });
        at += 16 + name.len() + 1;
    }
    Some(out)
}

enum Method {
    Stored,
    MsZip,
    Lzx(Box<lzxd::Lzxd>),
}

impl Method {
    fn of(compression: u16, limits: &ContentLimits) -> Option<Self> {
        use lzxd::WindowSize::{KB32, KB64, KB128, KB256, KB512, MB1, MB2};
        match compression & 15 {
            0 => Some(Self::Stored),
            1 => Some(Self::MsZip),
            3 => {
                let bits = usize::from(compression >> 8 & 0x1f);
                let window = *[KB32, KB64, KB128, KB256, KB512, MB1, MB2].get(bits.checked_sub(15)?)?;
                (1 << bits <= limits.max_dictionary_bytes).then(|| Self::Lzx(Box::new(lzxd::Lzxd::new(window))))
            }
            _ => None,
        }
    }

    /// One block, put behind what is there already; `false` if it cannot be read.
    fn block(&mut self, data: &[u8], size: usize, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Stored => {
                out.extend(data);
                data.len() == size
            }
            Self::MsZip => {
                let Some(data) = data.strip_prefix(b"CK") else { return false };
                // The block may refer to the one before: it is given to the decoder in front, as a stored block.
                let window = &out[out.len().saturating_sub(0x8000)..];
                let length = u16::try_from(window.len()).unwrap_or(0);
                let [a, b] = length.to_le_bytes();
                let head = [0, a, b, !a, !b];
                let input = head.chain(window).chain(data);
                let mut content = Vec::new();
                let most = window.len() + size;
                let read = flate2::read::DeflateDecoder::new(input).take(most as u64).read_to_end(&mut content);
                let fresh = content.get(window.len()..).unwrap_or_default();
                out.extend(fresh);
                read.is_ok() && fresh.len() == size
            }
            Self::Lzx(decoder) => {
                let read = catch_unwind(AssertUnwindSafe(|| decoder.decompress_next(data, size).map(<[u8]>::to_vec)));
                let Ok(Ok(content)) = read else { return false };
                out.extend(content);
                true
            }
        }
    }
}

impl Cabinet {
    /// The content of a folder, at most `reach` bytes, and whether it grew too much.
    fn unpack(
        &self,
        bytes: &[u8],
        folder: usize,
        reach: usize,
        limits: &ContentLimits,
        budget: &mut usize,
    ) -> (Vec<u8>, bool) {
        let Folder { data: mut at, blocks, compression } = self.folders[folder];
        let (mut out, mut packed, mut bomb) = (Vec::new(), 0, false);
        let Some(mut method) = Method::of(compression, limits) else { return (out, bomb) };
        for _ in 0..blocks {
            let (Some(length), Some(size)) = (le16(bytes, at + 4), le16(bytes, at + 6)) else { break };
            let start = at + 8 + self.reserved;
            let Some(data) = bytes.get(start..start + length) else { break };
            packed += length;
            bomb = out.len() + size > most_of(packed, limits);
            if bomb || out.len() >= reach || size > *budget {
                break;
            }
            let before = out.len();
            let read = method.block(data, size, &mut out);
            *budget -= (out.len() - before).min(*budget);
            if !read {
                break;
            }
            at = start + length;
        }
        (out, bomb)
    }
}
