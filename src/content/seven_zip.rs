//! 7z (7-Zip's `7zFormat.txt`): the directory read, the members unpacked.
//!
//! Coders: Copy, LZMA, LZMA2, Deflate, BZip2, Delta and the branch filters, BCJ2 among them, in any chain. AES marks the
//! members as encrypted; if the directory itself is, the archive is, and shows no names. Members of one solid block are
//! read in a row, so skipping one costs of the budget too. A broken directory ends the list. Checksums are not compared.
//! Not here: PPMd, Deflate64, volumes.
//!
//! Over 500 lines with its tests: the header is one grammar, and its coders only make sense beside it.

use std::io::Read;

use bytes::Bytes;

use super::archive::{Listing, Member};
use super::unpack::{End, fill, most_of};
use super::{ContentLimits, Trait};

const COPY: u64 = 0;
const LZMA2: u64 = 0x21;
const LZMA: u64 = 0x03_01_01;
const DEFLATE: u64 = 0x04_01_08;
const BZIP2: u64 = 0x04_02_02;
const DELTA: u64 = 3;
const BCJ2: u64 = 0x03_03_01_1b;
const AES: u64 = 0x06_f1_07_01;
/// Coders of one block, and streams between them.
const MAX_CODERS: usize = 32;
/// Directories packed into one another.
const MAX_HEADERS: usize = 4;

/// Opens a 7z. `budget`: bytes that may still be unpacked.
pub(super) fn open(bytes: &Bytes, limits: &ContentLimits, budget: &mut usize) -> Listing {
    let mut out = Listing::default();
    match directory(bytes, limits, budget) {
        Ok(directory) => directory.members(bytes, limits, budget, &mut out),
        Err(why) => out.traits.push(why),
    }
    out
}

/// Bytes still to be read of a directory.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    /// A number: leading ones of the first byte say how many bytes follow.
    fn number(&mut self) -> Option<u64> {
        let first = self.byte()?;
        let (mut value, mut mask) = (0, 0x80_u8);
        for place in 0..8 {
            if first & mask == 0 {
                return Some(value | u64::from(first & (mask - 1)) << (8 * place));
            }
            value |= u64::from(self.byte()?) << (8 * place);
            mask >>= 1;
        }
        Some(value)
    }

    fn count(&mut self, most: usize) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|count| *count <= most)
    }

    fn bits(&mut self, count: usize) -> Option<Vec<bool>> {
        let bytes = self.take(count.div_ceil(8))?;
        Some((0..count).map(|at| bytes[at / 8] >> (7 - at % 8) & 1 == 1).collect())
    }

    /// Which of so many things have a checksum; the checksums are passed over.
    fn checksums(&mut self, count: usize) -> Option<Vec<bool>> {
        let known = if self.byte()? == 0 { self.bits(count)? } else { vec![true; count] };
        self.take(known.iter().filter(|is| **is).count().checked_mul(4)?)?;
        Some(known)
    }
}

struct Coder {
    method: u64,
    inputs: usize,
    properties: Vec<u8>,
}

/// A block: coders, and how they hang together.
#[derive(Default)]
struct Folder {
    coders: Vec<Coder>,
    /// Input, and the coder whose output it is.
    bound: Vec<(usize, usize)>,
    /// Inputs that are packed streams, in order.
    packed: Vec<usize>,
    /// Size unpacked of each coder's output.
    sizes: Vec<u64>,
    checked: bool,
}

#[derive(Default)]
struct Streams {
    start: u64,
    packed: Vec<u64>,
    folders: Vec<Folder>,
    /// Sizes of the files in each folder.
    parts: Vec<Vec<u64>>,
}

#[derive(Default)]
struct Directory {
    streams: Streams,
    names: Vec<String>,
    /// Files without content, and those of them that are no folders.
    empty: Vec<bool>,
    empty_files: Vec<bool>,
    count: usize,
}

fn directory(bytes: &Bytes, limits: &ContentLimits, budget: &mut usize) -> Result<Directory, Trait> {
    let read = || {
        let le64 = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let start = usize::try_from(le64(12)?.checked_add(32)?).ok()?;
        let end = start.checked_add(usize::try_from(le64(20)?).ok()?)?;
        Some(start..end)
    };
    let range = read().ok_or(Trait::Broken)?;
    if range.is_empty() {
        return Ok(Directory::default());
    }
    let mut header = bytes.get(range).ok_or(Trait::Broken)?.to_vec();
    for _ in 0..MAX_HEADERS {
        let mut rest = Rest(&header);
        match rest.byte() {
            Some(1) => return contents(&mut rest, limits),
            Some(0x17) => {
                let streams = streams(&mut rest).ok_or(Trait::Broken)?;
                let folder = streams.folders.first().ok_or(Trait::Broken)?;
                if folder.is_encrypted() {
                    return Err(Trait::Encrypted);
                }
                let size = folder.size().ok_or(Trait::Broken)?;
                let room = limits.max_member_bytes.min(*budget);
                if size > room as u64 {
                    return Err(Trait::Bomb);
                }
                let reader = streams.reader(bytes, 0, limits).ok_or(Trait::Broken)?;
                let (unpacked, end) = fill(reader, room);
                *budget -= unpacked.len();
                if end != End::Whole {
                    return Err(Trait::Broken);
                }
                header = unpacked;
            }
            _ => return Err(Trait::Broken),
        }
    }
    Err(Trait::Broken)
}

fn contents(rest: &mut Rest<'_>, limits: &ContentLimits) -> Result<Directory, Trait> {
    let mut out = Directory::default();
    let mut many = false;
    let mut read = || loop {
        match rest.byte()? {
            0 => return Some(()),
            // Properties of the archive: kind, size, bytes.
            2 => {
                while rest.number()? != 0 {
                    let size = rest.count(rest.0.len())?;
                    rest.take(size)?;
                }
            }
            3 => drop(streams(rest)?),
            4 => out.streams = streams(rest)?,
            5 => {
                out.count = rest.count(usize::MAX)?;
                many = out.count > limits.max_members;
                if many {
                    return None;
                }
                out.files(rest)?;
            }
            _ => return None,
        }
    };
    match read() {
        Some(()) => Ok(out),
        None if many => Err(Trait::TooManyMembers),
        None => Err(Trait::Broken),
    }
}

fn streams(rest: &mut Rest<'_>) -> Option<Streams> {
    let mut out = Streams::default();
    loop {
        match rest.byte()? {
            0 => break,
            6 => {
                out.start = rest.number()?;
                let count = rest.count(rest.0.len())?;
                loop {
                    match rest.byte()? {
                        0 => break,
                        9 => out.packed = (0..count).map(|_| rest.number()).collect::<Option<_>>()?,
                        0x0a => drop(rest.checksums(count)?),
                        _ => return None,
                    }
                }
            }
            7 => out.folders(rest)?,
            8 => out.substreams(rest)?,
            _ => return None,
        }
    }
    if out.parts.is_empty() {
        out.parts = out.folders.iter().map(|folder| vec![folder.size().unwrap_or(0)]).collect();
    }
    Some(out)
}

impl Folder {
    fn read(rest: &mut Rest<'_>) -> Option<Self> {
        let mut out = Self::default();
        let mut inputs = 0;
        for _ in 0..rest.count(MAX_CODERS)? {
            let flags = rest.byte()?;
            let id = rest.take(usize::from(flags & 15)).filter(|id| id.len() <= 8)?;
            let method = id.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
            let mut coder = Coder { method, inputs: 1, properties: Vec::new() };
            if flags & 0x10 != 0 {
                coder.inputs = rest.count(MAX_CODERS)?;
                // No coder that unpacks has more than one output.
                rest.count(1).filter(|outputs| *outputs == 1)?;
            }
            if flags & 0x20 != 0 {
                let size = rest.count(rest.0.len())?;
                coder.properties = rest.take(size)?.to_vec();
            }
            inputs += coder.inputs;
            out.coders.push(coder);
        }
        for _ in 1..out.coders.len() {
            let (input, output) = (rest.count(inputs)?, rest.count(out.coders.len())?);
            // Used twice, a chain would have loops.
            if out.bound.iter().any(|(i, o)| *i == input || *o == output) {
                return None;
            }
            out.bound.push((input, output));
        }
        let packed = inputs.checked_sub(out.bound.len())?;
        out.packed = match packed {
            1 => vec![(0..inputs).find(|input| out.bound.iter().all(|(bound, _)| bound != input))?],
            _ => (0..packed).map(|_| rest.count(inputs)).collect::<Option<_>>()?,
        };
        Some(out)
    }

    /// The coder whose output is nobody's input.
    fn last(&self) -> Option<usize> {
        (0..self.coders.len()).find(|coder| self.bound.iter().all(|(_, output)| output != coder))
    }

    fn size(&self) -> Option<u64> {
        self.sizes.get(self.last()?).copied()
    }

    fn is_encrypted(&self) -> bool {
        self.coders.iter().any(|coder| coder.method == AES)
    }
}

impl Streams {
    fn folders(&mut self, rest: &mut Rest<'_>) -> Option<()> {
        loop {
            match rest.byte()? {
                0 => return Some(()),
                0x0b => {
                    let count = rest.count(rest.0.len())?;
                    // Directories kept elsewhere are not written by anybody.
                    rest.byte().filter(|external| *external == 0)?;
                    self.folders = (0..count).map(|_| Folder::read(rest)).collect::<Option<_>>()?;
                }
                0x0c => {
                    for folder in &mut self.folders {
                        folder.sizes = (0..folder.coders.len()).map(|_| rest.number()).collect::<Option<_>>()?;
                    }
                }
                0x0a => {
                    let checked = rest.checksums(self.folders.len())?;
                    self.folders.iter_mut().zip(checked).for_each(|(folder, is)| folder.checked = is);
                }
                _ => return None,
            }
        }
    }

    fn substreams(&mut self, rest: &mut Rest<'_>) -> Option<()> {
        let mut counts = vec![1; self.folders.len()];
        let mut kind = rest.byte()?;
        if kind == 0x0d {
            // Each but the last of a folder has a size of at least one byte.
            let count = |_| rest.count(rest.0.len().saturating_add(1));
            counts = (0..counts.len()).map(count).collect::<Option<_>>()?;
            kind = rest.byte()?;
        }
        // The last of a folder is what the others leave.
        for (folder, count) in self.folders.iter().zip(&counts) {
            let mut left = folder.size()?;
            let mut sizes = Vec::new();
            for _ in 1..*count {
                let size = if kind == 9 { rest.number()? } else { return None };
                left = left.checked_sub(size)?;
                sizes.push(size);
            }
            sizes.extend((*count > 0).then_some(left));
            self.parts.push(sizes);
        }
        if kind == 9 {
            kind = rest.byte()?;
        }
        loop {
            match kind {
                0 => return Some(()),
                0x0a => {
                    let own =
                        |(folder, count): (&Folder, &usize)| if *count == 1 && folder.checked { 0 } else { *count };
                    let unknown = self.folders.iter().zip(&counts).map(own).sum();
                    rest.checksums(unknown)?;
                }
                _ => return None,
            }
            kind = rest.byte()?;
        }
    }

    /// Where the packed streams of a folder begin in the list, and how many bytes they are.
    fn packed_of(&self, folder: usize) -> (usize, u64) {
        let first = self.folders[..folder].iter().map(|folder| folder.packed.len()).sum();
        let count = self.folders[folder].packed.len();
        (first, self.packed.iter().skip(first).take(count).fold(0, |sum, size| sum.saturating_add(*size)))
    }

    /// The content of a folder; `None` if a coder is not known, encrypted, or wants too large a dictionary.
    fn reader<'a>(&'a self, bytes: &'a [u8], folder: usize, limits: &ContentLimits) -> Option<Box<dyn Read + 'a>> {
        self.output(bytes, folder, self.folders[folder].last()?, limits)
    }

    fn output<'a>(
        &'a self,
        bytes: &'a [u8],
        folder: usize,
        coder: usize,
        limits: &ContentLimits,
    ) -> Option<Box<dyn Read + 'a>> {
        let block = &self.folders[folder];
        let (coders, size) = (&block.coders, *block.sizes.get(coder)?);
        let first: usize = coders.get(..coder)?.iter().map(|before| before.inputs).sum();
        let mut inputs = Vec::new();
        for input in first..first + coders[coder].inputs {
            // Each output is used once, so this goes no deeper than there are coders.
            inputs.push(match block.bound.iter().find(|(bound, _)| *bound == input) {
                Some((_, from)) => self.output(bytes, folder, *from, limits)?,
                None => {
                    let place = self.packed_of(folder).0 + block.packed.iter().position(|packed| *packed == input)?;
                    Box::new(self.packed_stream(bytes, place)?)
                }
            });
        }
        let decoder = decoder(&coders[coder], inputs, size, limits)?;
        Some(Box::new(decoder.take(size)))
    }

    fn packed_stream<'a>(&self, bytes: &'a [u8], place: usize) -> Option<&'a [u8]> {
        let before = self.packed.get(..place)?.iter().fold(self.start, |sum, size| sum.saturating_add(*size));
        let start = usize::try_from(before.checked_add(32)?).ok()?;
        let rest = bytes.get(start..)?;
        let size = usize::try_from(*self.packed.get(place)?).unwrap_or(usize::MAX);
        Some(&rest[..size.min(rest.len())])
    }
}

fn decoder<'a>(
    coder: &Coder,
    mut inputs: Vec<Box<dyn Read + 'a>>,
    size: u64,
    limits: &ContentLimits,
) -> Option<Box<dyn Read + 'a>> {
    use lzma_rust2::filter::bcj::BcjReader;
    if coder.method == BCJ2 && inputs.len() == 4 {
        return Some(Box::new(lzma_rust2::filter::bcj2::Bcj2Reader::try_new(inputs, size).ok()?));
    }
    let input = inputs.pop().filter(|_| inputs.is_empty())?;
    let properties = coder.properties.as_slice();
    // A dictionary larger than what comes out is never filled.
    let dictionary = |wanted: u32| {
        let used = u64::from(wanted).min(size.max(4_096));
        u32::try_from(used).ok().filter(|used| *used as usize <= limits.max_dictionary_bytes)
    };
    Some(match coder.method {
        COPY => input,
        LZMA => {
            let wanted = u32::from_le_bytes(*properties.get(1..)?.first_chunk()?);
            let (first, used) = (*properties.first()?, dictionary(wanted)?);
            Box::new(lzma_rust2::LzmaReader::new_with_props(input, size, first, used, None).ok()?)
        }
        LZMA2 => {
            let wanted = match u32::from(*properties.first()?) {
                bits @ 0..40 => (2 | bits & 1) << (bits / 2 + 11),
                40 => u32::MAX,
                _ => return None,
            };
            Box::new(lzma_rust2::Lzma2Reader::new(input, dictionary(wanted)?, None))
        }
        DEFLATE => Box::new(flate2::read::DeflateDecoder::new(input)),
        BZIP2 => Box::new(bzip2::read::MultiBzDecoder::new(input)),
        DELTA => {
            let distance = usize::from(*properties.first()?) + 1;
            Box::new(lzma_rust2::filter::delta::DeltaReader::new(input, distance))
        }
        4 | 0x03_03_01_03 => Box::new(BcjReader::new_x86(input, 0)),
        5 | 0x03_03_02_05 => Box::new(BcjReader::new_ppc(input, 0)),
        6 | 0x03_03_04_01 => Box::new(BcjReader::new_ia64(input, 0)),
        7 | 0x03_03_05_01 => Box::new(BcjReader::new_arm(input, 0)),
        8 | 0x03_03_07_01 => Box::new(BcjReader::new_arm_thumb(input, 0)),
        9 | 0x03_03_08_05 => Box::new(BcjReader::new_sparc(input, 0)),
        0x0a => Box::new(BcjReader::new_arm64(input, 0)),
        _ => return None,
    })
}

impl Directory {
    fn files(&mut self, rest: &mut Rest<'_>) -> Option<()> {
        loop {
            let kind = rest.number()?;
            if kind == 0 {
                return Some(());
            }
            let size = rest.count(rest.0.len())?;
            let mut property = Rest(rest.take(size)?);
            match kind {
                0x0e => self.empty = property.bits(self.count)?,
                0x0f => self.empty_files = property.bits(self.empty.iter().filter(|is| **is).count())?,
                0x11 => {
                    property.byte().filter(|external| *external == 0)?;
                    let units: Vec<u16> =
                        property.0.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
                    let names = units.split(|unit| *unit == 0).take(self.count);
                    self.names = names.map(String::from_utf16_lossy).collect();
                }
                _ => {}
            }
        }
    }

    fn members(&self, bytes: &Bytes, limits: &ContentLimits, budget: &mut usize, out: &mut Listing) {
        let mut empty_files = self.empty_files.iter();
        let mut names = (0..self.count).filter_map(|file| {
            let name = self.names.get(file).cloned().unwrap_or_default();
            let empty = self.empty.get(file).copied().unwrap_or(false);
            // Without content: a folder, or an empty file.
            let is_file = !empty || empty_files.next().copied().unwrap_or(false);
            is_file.then_some((name, empty))
        });
        for (folder, parts) in self.streams.parts.iter().enumerate() {
            let block = &self.streams.folders[folder];
            let (_, packed) = self.streams.packed_of(folder);
            let encrypted = block.is_encrypted();
            let size = block.size().unwrap_or(0);
            let bomb = size > most_of(usize::try_from(packed).unwrap_or(usize::MAX), limits) as u64;
            if bomb {
                out.traits.push(Trait::Bomb);
            }
            let mut reader = match encrypted || bomb {
                true => None,
                false => self.streams.reader(bytes, folder, limits),
            };
            for size in parts {
                let name = loop {
                    match names.next() {
                        Some((name, true)) => out.members.push(Member::empty(name)),
                        Some((name, false)) => break name,
                        None => return,
                    }
                };
                let (content, whole) = next(&mut reader, *size, limits, budget);
                out.members.push(Member { name, size: *size, encrypted, bytes: content.into(), cut: !whole });
            }
        }
        out.members.extend(names.map(|(name, _)| Member::empty(name)));
    }
}

/// The next file of a block, and whether it is all there. What cannot be read ends the block.
fn next(
    reader: &mut Option<Box<dyn Read + '_>>,
    size: u64,
    limits: &ContentLimits,
    budget: &mut usize,
) -> (Vec<u8>, bool) {
    let Some(block) = reader else { return (Vec::new(), size == 0) };
    let wanted = usize::try_from(size).unwrap_or(usize::MAX).min(limits.max_member_bytes).min(*budget);
    let (content, end) = fill(block.take(wanted as u64), wanted);
    *budget -= content.len();
    let skip = size - content.len() as u64;
    if end == End::Broken || content.len() < wanted || skip > *budget as u64 {
        *reader = None;
    } else if skip > 0 {
        *budget -= usize::try_from(skip).unwrap_or(*budget);
        let skipped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            std::io::copy(&mut block.take(skip), &mut std::io::sink()).is_ok_and(|read| read == skip)
        }));
        if !skipped.unwrap_or(false) {
            *reader = None;
        }
    }
    let whole = content.len() as u64 == size;
    (content, whole)
}
