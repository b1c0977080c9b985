//! Which literals of all rules stand in a text: one pass over each text of a message.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::scanner::{Scanner, Seen};
use super::value::Store;
use crate::policy::fold;

/// What the pass found in one text.
#[derive(Clone, Copy)]
pub(super) struct Hits<'m> {
    /// In order, each once.
    found: &'m [u32],
    /// The text without case.
    pub(super) folded: &'m str,
}

impl Hits<'_> {
    pub(super) fn has(&self, literal: u32) -> bool {
        self.found.binary_search(&literal).is_ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.found.iter().copied()
    }
}

/// Texts by where they lie and how long they are: they outlive the evaluation.
pub(super) type ByText<T> = HashMap<(usize, usize), T, BuildHasherDefault<Quick>>;

pub(super) fn key(text: &str) -> (usize, usize) {
    (text.as_ptr() as usize, text.len())
}

/// The passes of one evaluation.
#[derive(Default)]
pub(super) struct Passes<'m> {
    known: RefCell<ByText<Hits<'m>>>,
    seen: RefCell<Seen>,
}

impl<'m> Passes<'m> {
    /// The hits in a text; `true` when the text was gone through only now.
    pub(super) fn of(&self, text: &'m str, scanner: &Scanner, store: &'m Store) -> (Hits<'m>, bool) {
        if let Some(hits) = self.known.borrow().get(&key(text)) {
            return (*hits, false);
        }
        let folded = match fold::folded(text) {
            std::borrow::Cow::Borrowed(_) => text,
            std::borrow::Cow::Owned(folded) => store.text(&folded),
        };
        let mut seen = self.seen.borrow_mut();
        scanner.scan(folded.as_bytes(), &mut seen);
        let hits = Hits { found: seen.take(|found| store.copy(found)), folded };
        self.known.borrow_mut().insert(key(text), hits);
        (hits, true)
    }
}

/// A hasher for numbers that nobody outside can choose: places in memory, numbers of literals.
#[derive(Default)]
pub(super) struct Quick(u64);

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
