//! ISO 9660 (ECMA-119) with Joliet names, as disk images by mail hold them: the tree walked, files given as they lie.
//!
//! The Joliet tree is preferred: Windows shows it. Folders are walked once each, with a list, within `max_members`; files
//! may share bytes, so each counts against the budget. Not here: UDF alone, raw sectors, Rock Ridge, sessions.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;

use bytes::Bytes;

use super::archive::{Listing, Member};
use super::{ContentLimits, Trait};

const SECTOR: usize = 2_048;
/// Descriptors looked at; real images have three or four.
const MAX_DESCRIPTORS: usize = 64;
/// Records looked at for each member there may be: every folder has two that name no member.
const RECORDS: usize = 4;
/// Folders inside one another.
const MAX_FOLDERS: usize = 32;

fn le32(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?)).ok()
}

/// Whether the volume is one that can be opened.
pub(super) fn is_iso(bytes: &[u8]) -> bool {
    bytes.get(0x8001..).is_some_and(|rest| rest.starts_with(b"CD001"))
}

struct Volume<'a> {
    root: &'a [u8],
    block: usize,
    joliet: bool,
}

fn volume(bytes: &[u8]) -> Option<Volume<'_>> {
    let mut found = None;
    for descriptor in bytes.get(16 * SECTOR..)?.chunks(SECTOR).take(MAX_DESCRIPTORS) {
        if descriptor.len() < 190 || &descriptor[1..6] != b"CD001" || descriptor[0] == 255 {
            break;
        }
        let joliet = descriptor[0] == 2 && matches!(&descriptor[88..91], b"%/@" | b"%/C" | b"%/E");
        if descriptor[0] == 1 && found.is_none() || joliet {
            let block = usize::from(u16::from_le_bytes([descriptor[128], descriptor[129]]));
            found = Some(Volume { root: &descriptor[156..190], block, joliet });
        }
        if joliet {
            break;
        }
    }
    found.filter(|volume| volume.block.is_power_of_two() && volume.block >= 512)
}

impl Volume<'_> {
    fn name(&self, name: &[u8]) -> String {
        let text = match self.joliet {
            true => {
                let units: Vec<u16> = name.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
                String::from_utf16_lossy(&units)
            }
            false => String::from_utf8_lossy(name).into_owned(),
        };
        // The version, and the dot of a name without extension.
        let text = text.rsplit_once(';').map_or(text.as_str(), |(name, _)| name);
        text.strip_suffix('.').unwrap_or(text).to_owned()
    }

    /// Where what a record points to lies, and whether it is not all there.
    fn extent(&self, length: usize, record: &[u8]) -> Option<(Range<usize>, bool)> {
        let (start, size) = (le32(record, 2)?.checked_mul(self.block)?, le32(record, 10)?);
        let end = start.checked_add(size)?;
        (start <= length).then(|| (start..end.min(length), end > length))
    }
}

/// Opens an image. `budget`: bytes that may still be unpacked.
pub(super) fn open(bytes: &Bytes, limits: &ContentLimits, budget: &mut usize) -> Listing {
    let mut out = Listing::default();
    let Some(volume) = volume(bytes) else {
        out.traits.push(Trait::Broken);
        return out;
    };
    let (mut seen, mut left) = (HashSet::new(), limits.max_members.saturating_mul(RECORDS));
    let mut folders = VecDeque::from([(String::new(), volume.root, 0)]);
    while let Some((path, record, depth)) = folders.pop_front() {
        let fresh = le32(record, 2).is_some_and(|start| seen.insert(start));
        let Some((range, cut)) = volume.extent(bytes.len(), record).filter(|_| fresh) else {
            out.traits.push(Trait::Broken);
            continue;
        };
        out.traits.extend(cut.then_some(Trait::Cut));
        for record in records(&bytes[range], volume.block) {
            left = left.saturating_sub(1);
            if left == 0 || out.members.len() + seen.len() + folders.len() > limits.max_members {
                out.traits.push(Trait::TooManyMembers);
                return out;
            }
            let Some(name) = record.get(33..).and_then(|rest| rest.get(..usize::from(record[32]))) else { continue };
            // The folder itself and the one around it.
            if matches!(name, [0] | [1]) {
                continue;
            }
            let name = format!("{path}{}", volume.name(name));
            if record[25] & 2 != 0 {
                match depth < MAX_FOLDERS {
                    true => folders.push_back((format!("{name}/"), record, depth + 1)),
                    false => out.traits.push(Trait::TooDeep),
                }
                continue;
            }
            let size = le32(record, 10).unwrap_or(0) as u64;
            let (range, cut) = volume.extent(bytes.len(), record).unwrap_or((0..0, true));
            let kept = range.len().min(limits.max_member_bytes).min(*budget);
            *budget -= kept;
            let cut = cut || kept < range.len();
            let content = bytes.slice(range.start..range.start + kept);
            out.members.push(Member { size, bytes: content, cut, ..Member::empty(name) });
        }
    }
    out
}

/// Directory records; none crosses a block, a zero length leads to the next one.
fn records(folder: &[u8], block: usize) -> impl Iterator<Item = &[u8]> {
    folder.chunks(block).flat_map(|block| {
        let mut rest = block;
        std::iter::from_fn(move || {
            let length = usize::from(*rest.first()?);
            let record = rest.get(..length).filter(|record| record.len() > 33)?;
            rest = &rest[length..];
            Some(record)
        })
    })
}
