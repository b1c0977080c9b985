//! Finds which of thousands of literals stand in a text, in a few cycles a byte.
//!
//! Every literal is known by one of its grams (four bytes; two for the shortest): the one that fewest literals share, so
//! that what is common in the language is seldom chosen. A bitmap that stays in the nearest cache tells at each place of
//! the text whether its gram is anybody's; only then the literals are compared. An automaton over as many literals takes
//! several times longer: it misses the cache at every byte.

use std::collections::HashMap;

/// Bits of the hash of a gram.
const HASH_BITS: u32 = 16;

/// A set of literals.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    wide: Grams,
    narrow: Grams,
    /// All literals, one after the other.
    texts: Vec<u8>,
    count: usize,
}

/// Literals by the hash of their gram.
#[derive(Debug, Default)]
struct Grams {
    /// Hashes that occur.
    bitmap: Vec<u64>,
    /// For each hash, where its entries start; one more than hashes.
    starts: Vec<u32>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    literal: u32,
    /// Where it starts in `texts`.
    start: u32,
    len: u16,
    /// Where the gram stands in it.
    offset: u16,
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
        let (mut texts, mut wide, mut narrow) = (Vec::new(), Vec::new(), Vec::new());
        for (number, literal) in (0..).zip(literals) {
            let bytes = literal.as_bytes();
            let best = bytes.windows(4).enumerate().min_by_key(|(_, gram)| shared[gram]);
            // Positions and lengths fit: literals are short, all of them together far below 4 GB.
            let entry = |offset: usize| Entry {
                literal: number,
                start: texts.len() as u32,
                len: bytes.len() as u16,
                offset: offset as u16,
            };
            match best {
                Some((offset, gram)) => wide.push((hash4(word4(gram)), entry(offset))),
                None => narrow.push((u32::from(word2(bytes)), entry(0))),
            }
            texts.extend_from_slice(bytes);
        }
        Self { wide: Grams::new(wide), narrow: Grams::new(narrow), texts, count: literals.len() }
    }

    /// Notes the literals that stand in a text.
    pub(super) fn scan(&self, text: &[u8], seen: &mut Seen) {
        seen.bits.resize(self.count.div_ceil(64), 0);
        for (at, window) in text.windows(4).enumerate() {
            let hash = hash4(word4(window));
            if self.wide.has(hash) {
                self.compare(&self.wide, hash, text, at, seen);
            }
            let narrow = u32::from(word2(window));
            if self.narrow.has(narrow) {
                self.compare(&self.narrow, narrow, text, at, seen);
            }
        }
        // The last places have no wide gram.
        let rest = text.len().saturating_sub(3);
        for (at, window) in text[rest..].windows(2).enumerate() {
            let narrow = u32::from(word2(window));
            if self.narrow.has(narrow) {
                self.compare(&self.narrow, narrow, text, rest + at, seen);
            }
        }
    }

    #[cold]
    fn compare(&self, grams: &Grams, hash: u32, text: &[u8], at: usize, seen: &mut Seen) {
        for entry in grams.of(hash) {
            let (word, bit) = (entry.literal as usize / 64, 1 << (entry.literal % 64));
            let Some(from) = at.checked_sub(usize::from(entry.offset)) else { continue };
            let len = usize::from(entry.len);
            let literal = &self.texts[entry.start as usize..][..len];
            if seen.bits[word] & bit == 0 && text.get(from..from + len) == Some(literal) {
                seen.bits[word] |= bit;
                seen.found.push(entry.literal);
            }
        }
    }
}

impl Grams {
    fn new(mut entries: Vec<(u32, Entry)>) -> Self {
        entries.sort_by_key(|(hash, _)| *hash);
        let hashes = 1_usize << HASH_BITS;
        let (mut bitmap, mut starts) = (vec![0; hashes / 64], vec![0; hashes + 1]);
        for (hash, _) in &entries {
            bitmap[*hash as usize / 64] |= 1 << (hash % 64);
            starts[*hash as usize + 1] += 1;
        }
        for hash in 0..hashes {
            starts[hash + 1] += starts[hash];
        }
        Self { bitmap, starts, entries: entries.into_iter().map(|(_, entry)| entry).collect() }
    }

    fn has(&self, hash: u32) -> bool {
        self.bitmap.get(hash as usize / 64).is_some_and(|word| word & 1 << (hash % 64) != 0)
    }

    fn of(&self, hash: u32) -> &[Entry] {
        let hash = hash as usize;
        &self.entries[self.starts[hash] as usize..self.starts[hash + 1] as usize]
    }
}

fn word4(gram: &[u8]) -> u32 {
    gram.first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

fn word2(gram: &[u8]) -> u16 {
    gram.first_chunk().map_or(0, |two| u16::from_le_bytes(*two))
}

fn hash4(gram: u32) -> u32 {
    gram.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)
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
