//! One list: all entries in one string, found by hash. A million domains take some 30 MB.
//!
//! The tables hold numbers of entries and are searched onwards from the hash's place until a free one (open addressing, at
//! most three quarters full). Entries keep the order in which they came; doubles are left out.

use std::hash::Hasher;
use std::mem::size_of;

use crate::policy::fold::fold_char;

/// A place of a table that holds no entry.
const FREE: u32 = u32::MAX;

/// Strings and whether one is among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedList {
    text: String,
    /// Where each entry ends in `text`.
    ends: Vec<u32>,
    exact: Vec<u32>,
    /// By the folded form; there when it was asked for.
    folded: Option<Vec<u32>>,
}

/// More text than a list can hold.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a list holds 4 GiB of text at most")]
pub struct TooLarge;

impl NamedList {
    /// Makes a list. `folded`: [`Self::contains_folded`] will be asked, which takes a second table.
    ///
    /// # Errors
    /// When the entries are more than 4 GiB.
    pub fn build<'e>(entries: impl Iterator<Item = &'e str> + Clone, folded: bool) -> Result<Self, TooLarge> {
        let (count, bytes) = entries.clone().fold((0, 0), |(count, bytes), e: &str| (count + 1, bytes + e.len()));
        if count >= FREE as usize || u32::try_from(bytes).is_err() {
            return Err(TooLarge);
        }
        let mut list = Self {
            text: String::with_capacity(bytes),
            ends: Vec::with_capacity(count),
            exact: table(count),
            folded: None,
        };
        for entry in entries {
            let Err(place) = list.find(&list.exact, hash(entry), |other| other == entry) else { continue };
            list.exact[place] = list.ends.len() as u32;
            list.text.push_str(entry);
            list.ends.push(list.text.len() as u32);
        }
        list.text.shrink_to_fit();
        list.ends.shrink_to_fit();
        if folded {
            let mut by_folded = table(list.ends.len());
            for number in 0..list.ends.len() {
                let entry = list.entry(number);
                if let Err(place) = list.find(&by_folded, hash_folded(entry), |other| same_folded(other, entry)) {
                    by_folded[place] = number as u32;
                }
            }
            list.folded = Some(by_folded);
        }
        Ok(list)
    }

    /// Whether exactly this string is an entry.
    pub fn contains(&self, entry: &str) -> bool {
        self.find(&self.exact, hash(entry), |other| other == entry).is_ok()
    }

    /// Whether this string is an entry, without regard to case (simple folding). Without the second table all entries are
    /// walked.
    pub fn contains_folded(&self, entry: &str) -> bool {
        match &self.folded {
            Some(table) => self.find(table, hash_folded(entry), |other| same_folded(other, entry)).is_ok(),
            None => self.iter().any(|other| same_folded(other, entry)),
        }
    }

    /// All entries in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.ends.len()).map(|number| self.entry(number))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of memory that it takes.
    pub fn size_bytes(&self) -> usize {
        let places = self.ends.capacity() + self.exact.capacity() + self.folded.as_ref().map_or(0, Vec::capacity);
        self.text.capacity() + places * size_of::<u32>()
    }

    fn entry(&self, number: usize) -> &str {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.text[start as usize..self.ends[number] as usize]
    }

    /// The place of the entry in the table, or the free place where it would be.
    fn find(&self, table: &[u32], hash: u64, is: impl Fn(&str) -> bool) -> Result<usize, usize> {
        // A table has a power of two of places and always a free one.
        let last = table.len() - 1;
        let mut place = hash as usize & last;
        loop {
            match table[place] {
                FREE => return Err(place),
                number if is(self.entry(number as usize)) => return Ok(place),
                _ => place = (place + 1) & last,
            }
        }
    }
}

/// An empty table with room for so many entries.
fn table(entries: usize) -> Vec<u32> {
    vec![FREE; (entries + entries / 3 + 1).next_power_of_two()]
}

fn hash(text: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

fn hash_folded(text: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    text.chars().for_each(|c| hasher.write_u32(u32::from(fold_char(c))));
    hasher.finish()
}

fn same_folded(a: &str, b: &str) -> bool {
    a.chars().map(fold_char).eq(b.chars().map(fold_char))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str], folded: bool) -> NamedList {
        NamedList::build(entries.iter().copied(), folded).unwrap()
    }

    #[test]
    fn members() {
        for folded in [false, true] {
            let list = list(&["example.com", "Überweisung", "", "example.com", "EXAMPLE.com", "straße"], folded);
            assert_eq!(list.iter().collect::<Vec<_>>(), ["example.com", "Überweisung", "", "EXAMPLE.com", "straße"]);
            assert!(list.contains("example.com") && list.contains("") && !list.contains("Example.com"));
            assert!(list.contains_folded("eXample.COM") && list.contains_folded("ÜBERWEISUNG"));
            assert!(!list.contains_folded("example.co") && !list.contains_folded("strasse"));
        }
        for folded in [false, true] {
            let none = list(&[], folded);
            assert!(
                none.is_empty() && !none.contains("") && !none.contains_folded("x") && none.iter().next().is_none()
            );
        }
    }

    #[test]
    fn every_size_has_a_free_place() {
        let names: Vec<String> = (0..300).map(|n| format!("n{n}")).collect();
        for size in 0..names.len() {
            let list = NamedList::build(names[..size].iter().map(String::as_str), true).unwrap();
            assert!(names[..size].iter().all(|name| list.contains(name) && list.contains_folded(name)));
            assert!(!list.contains("absent") && !list.contains_folded("absent"), "{size}");
        }
    }

    #[test]
    fn a_million_domains() {
        let names: Vec<String> = (0..1_000_000).map(|n| format!("host-{n}.example{}.com", n % 97)).collect();
        let list = NamedList::build(names.iter().map(String::as_str), false).unwrap();
        assert_eq!(list.len(), 1_000_000);
        assert!(list.size_bytes() <= 40_000_000, "{}", list.size_bytes());
        assert!(names.iter().all(|name| list.contains(name)));
        assert!((0..1_000_000).all(|n| !list.contains(&format!("host-{n}.example{}.com", (n + 1) % 97))));
    }
}
