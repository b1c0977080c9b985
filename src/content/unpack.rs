//! Packed streams: gzip (RFC 1952), bzip2, xz and `.lzma`, each one file; and the bounded reading of every decoder.
//!
//! Never more is read than `max_member_bytes`, what is left of `max_unpacked_bytes`, and `max_ratio` times the packed
//! size (from 1 MiB up). Decoders' memory is held by `max_dictionary_bytes`. A panic in one counts as a broken file; what
//! was read before an error is kept. Not here: archives with several members (`archive`, `seven_zip`, `cabinet`, `iso`).

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::ContentLimits;

/// How reading came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All of it was read.
    Whole,
    /// A limit was reached.
    Cut,
    /// It grew more than `max_ratio`.
    Bomb,
    /// It cannot be read any further.
    Broken,
}

/// The packed stream that some bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Gzip,
    Bzip2,
    Xz,
    Lzma,
}

impl Codec {
    /// Tells it from the first bytes.
    pub(super) fn detect(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            bytes if is_lzma(bytes) => Some(Self::Lzma),
            _ => None,
        }
    }

    /// The name of what is inside, from that of the file.
    pub(super) fn inner_name(self, outer: &str) -> Option<String> {
        let endings: &[(&str, &str)] = match self {
            Self::Gzip => &[(".tgz", ".tar"), (".svgz", ".svg"), (".gz", "")],
            Self::Bzip2 => &[(".tbz2", ".tar"), (".tbz", ".tar"), (".bz2", "")],
            Self::Xz => &[(".txz", ".tar"), (".xz", "")],
            Self::Lzma => &[(".tlz", ".tar"), (".lzma", "")],
        };
        endings.iter().find_map(|(ending, instead)| {
            let start = outer.len().checked_sub(ending.len())?;
            let fits = outer.get(start..)?.eq_ignore_ascii_case(ending);
            fits.then(|| format!("{}{instead}", &outer[..start]))
        })
    }
}

/// `.lzma` has no magic number: usual properties, a dictionary of at least 64 KiB, the first byte of the range coder.
pub(super) fn is_lzma(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x5d, 0, 0]) && bytes.get(13) == Some(&0) && {
        let size = bytes.get(5..13).and_then(|size| size.first_chunk()).map_or(0, |size| u64::from_le_bytes(*size));
        size == u64::MAX || size < 1 << 40
    }
}

/// Unpacks a stream. `budget`: bytes that may still be unpacked.
pub(super) fn stream(codec: Codec, bytes: &[u8], limits: &ContentLimits, budget: &mut usize) -> (Vec<u8>, End) {
    match codec {
        Codec::Gzip => read(flate2::read::MultiGzDecoder::new(bytes), bytes.len(), limits, budget),
        Codec::Bzip2 => read(bzip2::read::MultiBzDecoder::new(bytes), bytes.len(), limits, budget),
        Codec::Xz => {
            let reader = lzma_rust2::XzReader::new_mem_limit(bytes, true, memory(limits));
            read(reader, bytes.len(), limits, budget)
        }
        Codec::Lzma => match lzma_rust2::LzmaReader::new_mem_limit(bytes, memory(limits), None) {
            Ok(reader) => read(reader, bytes.len(), limits, budget),
            Err(_) => (Vec::new(), End::Broken),
        },
    }
}

/// KiB an LZMA decoder may take: its dictionary, and what it needs besides.
fn memory(limits: &ContentLimits) -> u32 {
    u32::try_from(limits.max_dictionary_bytes / 1_024).unwrap_or(u32::MAX - 8_192) + 8_192
}

/// Reads what a decoder of `packed` bytes gives, within the limits.
pub(super) fn read(reader: impl Read, packed: usize, limits: &ContentLimits, budget: &mut usize) -> (Vec<u8>, End) {
    let room = limits.max_member_bytes.min(*budget);
    let ratio = most_of(packed, limits);
    let (content, end) = fill(reader, room.min(ratio));
    *budget -= content.len().min(*budget);
    let end = if end == End::Cut && ratio < room { End::Bomb } else { end };
    (content, end)
}

/// Bytes that so many packed ones may become.
pub(super) fn most_of(packed: usize, limits: &ContentLimits) -> usize {
    packed.saturating_mul(usize::try_from(limits.max_ratio).unwrap_or(usize::MAX)).max(1 << 20)
}

/// Reads at most so many bytes; one more is asked for, to know whether that was all.
pub(super) fn fill(mut reader: impl Read, most: usize) -> (Vec<u8>, End) {
    let mut content = Vec::new();
    let read = catch_unwind(AssertUnwindSafe(|| {
        reader.by_ref().take(most as u64).read_to_end(&mut content)?;
        Ok::<bool, std::io::Error>(content.len() < most || reader.read(&mut [0])? == 0)
    }));
    let end = match read {
        Ok(Ok(true)) => End::Whole,
        Ok(Ok(false)) => End::Cut,
        Ok(Err(_)) | Err(_) => End::Broken,
    };
    (content, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let cases = [
            (Codec::Gzip, "a.tar.gz", Some("a.tar")),
            (Codec::Gzip, "a.TGZ", Some("a.tar")),
            (Codec::Bzip2, "é.bz2", Some("é")),
            (Codec::Bzip2, "a.tbz2", Some("a.tar")),
            (Codec::Xz, "a.exe.xz", Some("a.exe")),
            (Codec::Lzma, "a.lzma", Some("a")),
            (Codec::Xz, "a.bin", None),
            (Codec::Xz, "", None),
        ];
        for (codec, outer, expected) in cases {
            assert_eq!(codec.inner_name(outer).as_deref(), expected, "{outer}");
        }
    }

    #[test]
    fn ends() {
        let limits = ContentLimits { max_member_bytes: 3 << 20, ..ContentLimits::default() };
        let mut budget = 10 << 20;
        assert_eq!(read(&b"abc"[..], 3, &limits, &mut budget), (b"abc".to_vec(), End::Whole));
        assert_eq!(budget, (10 << 20) - 3);
        // Ten bytes may become a mebibyte, never two.
        let (content, end) = read(std::io::repeat(0).take(2 << 20), 10, &limits, &mut budget);
        assert_eq!((content.len(), end), (1 << 20, End::Bomb));
        let (content, end) = read(std::io::repeat(0).take(4 << 20), 1 << 20, &limits, &mut budget);
        assert_eq!((content.len(), end), (3 << 20, End::Cut));
        let (content, end) = read(std::io::repeat(0).take(3 << 20), 1 << 20, &limits, &mut budget);
        assert_eq!((content.len(), end), (3 << 20, End::Whole));
        budget = 0;
        assert_eq!(read(&b"abc"[..], 3, &limits, &mut budget), (Vec::new(), End::Cut));
    }

    struct Panics;

    impl Read for Panics {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            panic!("a decoder's bug");
        }
    }

    #[test]
    fn a_panic_is_a_broken_file() {
        assert_eq!(fill(b"ab".chain(Panics), 10), (b"ab".to_vec(), End::Broken));
    }
}
