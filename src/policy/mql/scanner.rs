//! Finds which of thousands of literals stand in a text, in a few cycles a byte.
//!
//! Every literal is known by one of its grams (four bytes; the whole of shorter ones): one of rare letters that few literals
//! share, so that what is common in the language is seldom chosen. Bitmaps that stay in the nearest cache tell at each place of
//! the text whether its grams are anybody's; only then literals are compared. An automaton over as many literals takes
//! several times longer: it misses the cache at every byte.

use std::collections::HashMap;

/// Bits of the hash that the bitmap is asked for: 32 KiB.
const BITMAP_BITS: u32 = 18;
/// Bits of it that choose a bucket.
const BUCKET_BITS: u32 = 13;

/// A set of literals.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// Literals of four bytes and more, of three, of two.
    four: Grams,
    three: Grams,
    two: Grams,
    /// All literals, one after the other.
    texts: Vec<u8>,
    count: usize,
}

/// Literals by their gram.
#[derive(Debug, Default)]
struct Grams {
    /// Hashes that occur.
    bitmap: Vec<u64>,
    /// For each bucket, where its entries start; one more than buckets.
    starts: Vec<u32>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    gram: u32,
    literal: u32,
    /// Where it starts in `texts`.
    start: u32,
    len: u16,
    /// Where the gram stands in it.
    offset: u16,
    /// A byte of it beside the gram, and how far from the gram's start it stands: most that share a gram differ there.
    beside: i8,
    byte: u8,
}

/// Which literals were seen; can be used again and again.
#[derive(Debug, Default)]
pub(super) struct Seen {
    bits: Vec<u64>,
    found: Vec<u32>,
}

impl Seen {
    /// The literals of the last scan, in order, each once; forgets them.
    pub(super) fn take<T>(&mut self, with: impl FnOnce(&[u32]) -> T) -> T {
        self.found.sort_unstable();
        let result = with(&self.found);
        self.found.drain(..).for_each(|literal| self.bits[literal as usize / 64] = 0);
        result
    }
}

/// Bytes of a literal that are looked for; of longer ones this many stand for the whole.
pub(super) const MAX_LITERAL_BYTES: usize = 128;
/// Bytes of the shortest literal.
pub(super) const MIN_LITERAL_BYTES: usize = 2;

impl Scanner {
    /// For literals by number, each of [`MIN_LITERAL_BYTES`] to [`MAX_LITERAL_BYTES`].
    pub(super) fn new(literals: &[&str]) -> Self {
        let mut shared: HashMap<&[u8], u32> = HashMap::new();
        for literal in literals {
            literal.as_bytes().windows(4).for_each(|gram| *shared.entry(gram).or_default() += 1);
        }
        let mut texts = Vec::new();
        let mut entries = [const { Vec::new() }; 3];
        for (literal, text) in (0..).zip(literals) {
            let bytes = text.as_bytes();
            let cost = |gram: &[u8]| f64::from(shared[gram]) * chance(gram);
            let best = bytes.windows(4).enumerate().min_by(|(_, a), (_, b)| cost(a).total_cmp(&cost(b)));
            let (kind, offset) = match (best, bytes.len()) {
                (Some((offset, _)), _) => (0, offset),
                (None, 3) => (1, 0),
                (None, _) => (2, 0),
            };
            let gram = gram(&bytes[offset..], 4 - kind);
            // Positions and lengths fit: literals are short, all of them together far below 4 GB.
            let (start, len) = (texts.len() as u32, bytes.len() as u16);
            // Behind the gram, else before it, else in it.
            let (beside, byte) = match (bytes.get(offset + 4 - kind), offset) {
                (Some(byte), _) => (4 - kind as i8, *byte),
                (None, 0) => (0, bytes[0]),
                (None, before) => (-1, bytes[before - 1]),
            };
            entries[kind].push(Entry { gram, literal, start, len, offset: offset as u16, beside, byte });
            texts.extend_from_slice(bytes);
        }
        let [four, three, two] = entries.map(Grams::new);
        Self { four, three, two, texts, count: literals.len() }
    }

    /// Notes the literals that stand in a text.
    pub(super) fn scan(&self, text: &[u8], seen: &mut Seen) {
        seen.bits.resize(self.count.div_ceil(64), 0);
        for (at, window) in text.windows(4).enumerate() {
            let four = window.first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
            self.look(&self.four, four, text, at, seen);
            self.look(&self.three, four & 0xff_ffff, text, at, seen);
            self.look(&self.two, four & 0xffff, text, at, seen);
        }
        // The last places have no gram of four.
        for at in text.len().saturating_sub(3)..text.len() {
            let rest = &text[at..];
            if rest.len() >= 3 {
                self.look(&self.three, gram(rest, 3), text, at, seen);
            }
            if rest.len() >= 2 {
                self.look(&self.two, gram(rest, 2), text, at, seen);
            }
        }
    }

    #[inline]
    fn look(&self, grams: &Grams, gram: u32, text: &[u8], at: usize, seen: &mut Seen) {
        if grams.has(gram) {
            self.compare(grams, gram, text, at, seen);
        }
    }

    #[cold]
    fn compare(&self, grams: &Grams, gram: u32, text: &[u8], at: usize, seen: &mut Seen) {
        for entry in grams.bucket(gram).iter().filter(|entry| entry.gram == gram) {
            let beside = at.checked_add_signed(entry.beside.into()).and_then(|place| text.get(place));
            if beside != Some(&entry.byte) {
                continue;
            }
            let (word, bit) = (entry.literal as usize / 64, 1 << (entry.literal % 64));
            if seen.bits[word] & bit != 0 {
                continue;
            }
            let Some(from) = at.checked_sub(usize::from(entry.offset)) else { continue };
            let len = usize::from(entry.len);
            if text.get(from..from + len) == Some(&self.texts[entry.start as usize..][..len]) {
                seen.bits[word] |= bit;
                seen.found.push(entry.literal);
            }
        }
    }
}

impl Grams {
    fn new(mut entries: Vec<Entry>) -> Self {
        let bucket = |gram: u32| (hash(gram) & ((1 << BUCKET_BITS) - 1)) as usize;
        entries.sort_by_key(|entry| (bucket(entry.gram), entry.gram));
        let (mut bitmap, mut starts) = (vec![0; (1 << BITMAP_BITS) / 64], vec![0; (1 << BUCKET_BITS) + 1]);
        for entry in &entries {
            let hash = hash(entry.gram);
            bitmap[hash as usize / 64] |= 1 << (hash % 64);
            starts[bucket(entry.gram) + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        Self { bitmap, starts, entries }
    }

    #[inline]
    fn has(&self, gram: u32) -> bool {
        let hash = hash(gram);
        self.bitmap.get(hash as usize / 64).is_some_and(|word| word & 1 << (hash % 64) != 0)
    }

    fn bucket(&self, gram: u32) -> &[Entry] {
        let bucket = (hash(gram) & ((1 << BUCKET_BITS) - 1)) as usize;
        &self.entries[self.starts[bucket] as usize..self.starts[bucket + 1] as usize]
    }
}

/// Roughly how often bytes stand at one place of a text of mail, in lower case.
pub(super) fn chance(bytes: &[u8]) -> f64 {
    bytes.iter().map(|byte| f64::from(per_thousand(*byte)) / 1_000.0).product()
}

fn per_thousand(byte: u8) -> u8 {
    /// Letters of English text from `a` on.
    const LETTERS: [u8; 26] =
        [65, 12, 28, 34, 101, 18, 16, 46, 60, 2, 6, 35, 22, 57, 61, 19, 1, 50, 53, 74, 24, 8, 17, 2, 16, 1];
    match byte {
        b'a'..=b'z' => LETTERS[usize::from(byte - b'a')],
        b' ' => 120,
        b'/' | b'.' | b'<' | b'>' | b'"' | b'=' | b'-' | b':' => 12,
        b'0'..=b'9' => 6,
        _ => 2,
    }
}

/// The first so many bytes as a number.
fn gram(bytes: &[u8], len: usize) -> u32 {
    bytes.iter().take(len).rev().fold(0, |gram, byte| gram << 8 | u32::from(*byte))
}

fn hash(gram: u32) -> u32 {
    gram.wrapping_mul(0x9e37_79b1) >> (32 - BITMAP_BITS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Scanner, Seen};

    #[test]
    fn no_literals_and_no_text() {
        let mut seen = Seen::default();
        Scanner::default().scan(b"some text", &mut seen);
        Scanner::new(&[]).scan(b"some text", &mut seen);
        Scanner::new(&["ab"]).scan(b"", &mut seen);
        Scanner::new(&["ab"]).scan(b"a", &mut seen);
        assert_eq!(seen.take(<[u32]>::len), 0);
    }

    proptest! {
        #[test]
        fn finds_what_stands_there_and_nothing_else(
            literals in proptest::collection::vec("[ab é]{2,9}", 0..40), text in "[ab é]{0,60}", other in "[ab]{0,9}",
        ) {
            let literals: Vec<&str> = literals.iter().map(String::as_str).filter(|one| one.len() >= 2).collect();
            let scanner = Scanner::new(&literals);
            let mut seen = Seen::default();
            for text in [&text, &other] {
                scanner.scan(text.as_bytes(), &mut seen);
                let naive: Vec<u32> =
                    (0..).zip(&literals).filter(|(_, one)| text.contains(**one)).map(|(number, _)| number).collect();
                prop_assert_eq!(seen.take(<[u32]>::to_vec), naive);
            }
        }
    }
}
