//! Entries of the operator's allow and block lists, by address, domain, network and hash. Not here: the lists that rules
//! name ([`lists`](super::lists)).
//!
//! An entry's kind is read off its shape: `a@b.example` an address, `192.0.2.0/24` a network, 64 hexadecimal digits the
//! SHA-256 of an attachment, `b.example` a domain, `*.b.example` its subdomains. Look-ups are by hash; only networks are
//! walked. Who may use an allow entry is decided in [`verdict`](super::verdict): a name alone proves nothing.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::mail::{Address, InvalidNetwork, Network};

/// One list.
#[derive(Debug, Clone, Default)]
pub struct List {
    addresses: HashSet<String>,
    domains: HashSet<String>,
    suffixes: HashSet<String>,
    networks: Vec<Network>,
    hashes: HashSet<String>,
}

/// An entry that is of no known shape.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "list entry `{0}`: write an address (a@b.example), a domain (b.example, *.b.example), a network (192.0.2.0/24) or a SHA-256"
)]
pub struct InvalidEntry(String);

impl List {
    /// Reads entries, one each.
    ///
    /// # Errors
    /// The first entry that is of no known shape.
    pub fn new<'e>(entries: impl IntoIterator<Item = &'e str>) -> Result<Self, InvalidEntry> {
        let mut list = Self::default();
        for entry in entries {
            list.add(entry.trim())?;
        }
        Ok(list)
    }

    fn add(&mut self, entry: &str) -> Result<(), InvalidEntry> {
        let network: Result<Network, InvalidNetwork> = entry.parse();
        if let Ok(network) = network {
            self.networks.push(network);
        } else if entry.len() == 64 && entry.bytes().all(|b| b.is_ascii_hexdigit()) {
            self.hashes.insert(entry.to_lowercase());
        } else if entry.contains('@') {
            let address = Address::parse(entry).ok_or_else(|| InvalidEntry(entry.to_owned()))?;
            self.addresses.insert(address.to_string().to_lowercase());
        } else {
            let domain = entry.strip_prefix("*.").unwrap_or(entry);
            let odd = |c: char| !(c.is_alphanumeric() || c == '-' || c == '.' || c == '_');
            if domain.contains(odd) || !domain.contains('.') || domain.split('.').any(str::is_empty) {
                return Err(InvalidEntry(entry.to_owned()));
            }
            let set = if domain.len() < entry.len() { &mut self.suffixes } else { &mut self.domains };
            set.insert(domain.to_lowercase());
        }
        Ok(())
    }

    /// The entry that covers an address: itself, its domain, or a domain above.
    pub fn address(&self, address: &Address) -> Option<String> {
        if !self.addresses.is_empty() {
            let whole = address.to_string().to_lowercase();
            if self.addresses.contains(&whole) {
                return Some(whole);
            }
        }
        self.domain(&address.domain)
    }

    /// The entry that covers a domain (lower case).
    pub fn domain(&self, domain: &str) -> Option<String> {
        if self.domains.contains(domain) {
            return Some(domain.to_owned());
        }
        if self.suffixes.is_empty() {
            return None;
        }
        let mut rest = domain;
        while let Some((_, above)) = rest.split_once('.') {
            if self.suffixes.contains(above) {
                return Some(format!("*.{above}"));
            }
            rest = above;
        }
        None
    }

    /// The entry that covers a client's address.
    pub fn ip(&self, ip: IpAddr) -> Option<String> {
        self.networks.iter().find(|network| network.contains(ip)).map(Network::to_string)
    }

    /// The entry for a SHA-256 in lower-case hexadecimal digits.
    pub fn hash(&self, sha256: &str) -> Option<String> {
        self.hashes.get(sha256).cloned()
    }

    /// Whether any hash is listed: saves computing them.
    pub fn has_hashes(&self) -> bool {
        !self.hashes.is_empty()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.addresses.len() + self.domains.len() + self.suffixes.len() + self.networks.len() + self.hashes.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let hash = "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f";
        let list =
            List::new(["Boss@Example.com", "good.example", "*.wide.example", "192.0.2.0/24", "2001:db8::1", hash])
                .unwrap();
        let address = |text: &str| list.address(&Address::parse(text).unwrap());
        assert_eq!(address("boss@example.com").as_deref(), Some("boss@example.com"));
        assert_eq!(address("other@example.com"), None);
        assert_eq!(address("any@good.example").as_deref(), Some("good.example"));
        assert_eq!(address("any@sub.good.example"), None);
        assert_eq!(address("any@a.b.wide.example").as_deref(), Some("*.wide.example"));
        assert_eq!(address("any@wide.example"), None);
        assert_eq!(list.ip("192.0.2.9".parse().unwrap()).as_deref(), Some("192.0.2.0/24"));
        assert_eq!(list.ip("192.0.3.9".parse().unwrap()), None);
        assert!(list.hash(hash).is_some() && list.len() == 6);
    }

    #[test]
    fn bad_entries_are_named() {
        for entry in ["", "localhost", "a b.example", "@x", "192.0.2.0/40", "x..example", "https://x.example/"] {
            assert_eq!(List::new([entry]).unwrap_err(), InvalidEntry(entry.to_owned()));
        }
    }
}
