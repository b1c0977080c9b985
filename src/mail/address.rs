//! A mail address in parts (RFC 5321 `addr-spec`, with RFC 6531's UTF-8), and domains by the Public Suffix List.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `local@domain`; the domain in lower case as sent (U-label or A-label), the local part as sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// Left of the last `@`, as sent (a quoted string keeps its quotes).
    pub local: String,
    /// Right of the last `@`, lower case, without a final dot; `[192.0.2.1]` for an address literal.
    pub domain: String,
}

impl Address {
    /// Parses `local@domain`; `None` when either side is empty or holds white space or control characters.
    ///
    /// Lenient beyond that: what strangers write must still be comparable.
    pub fn parse(text: &str) -> Option<Self> {
        let (local, domain) = text.trim().rsplit_once('@')?;
        let domain = domain.trim_end_matches('.').to_lowercase();
        let odd = |c: char| c.is_control() || c == '<' || c == '>';
        if local.is_empty() || domain.is_empty() || local.contains(odd) {
            return None;
        }
        if domain.contains(|c: char| odd(c) || c.is_whitespace() || c == '@') {
            return None;
        }
        Some(Self { local: local.to_owned(), domain })
    }

    /// The domain that was registered: `mail.example.co.uk` gives `example.co.uk`. `None` for literals and bare suffixes.
    pub fn registrable(&self) -> Option<&str> {
        registrable_domain(&self.domain)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// The registrable part of a host name by the Public Suffix List: suffix and one label more.
///
/// `None` for a bare suffix, an IP address, an address literal or a single label. The name must be in lower case.
pub fn registrable_domain(host: &str) -> Option<&str> {
    // An IPv4 address ends in a digit, no top-level domain does; an IPv6 address has no dot, or a colon.
    let last = *host.as_bytes().last()?;
    if last.is_ascii_digit() || last == b']' || host.contains(':') || !host.contains('.') {
        return None;
    }
    psl::domain_str(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let cases = [
            ("a@b.example", Some(("a", "b.example"))),
            ("A@B.Example.", Some(("A", "b.example"))),
            ("\"a@b\"@c.example", Some(("\"a@b\"", "c.example"))),
            ("a@[192.0.2.1]", Some(("a", "[192.0.2.1]"))),
            ("postmaster", None),
            ("@b.example", None),
            ("a@", None),
            ("a\r\n@b.example", None),
            ("a@b c.example", None),
        ];
        for (text, expected) in cases {
            let got = Address::parse(text);
            assert_eq!(got.as_ref().map(|a| (a.local.as_str(), a.domain.as_str())), expected, "{text}");
        }
    }

    #[test]
    fn registrable() {
        let cases = [
            ("mail.example.co.uk", Some("example.co.uk")),
            ("example.com", Some("example.com")),
            ("com", None),
            ("192.0.2.1", None),
            ("[192.0.2.1]", None),
            ("localhost", None),
            ("a.github.io", Some("a.github.io")),
        ];
        for (host, expected) in cases {
            assert_eq!(registrable_domain(host), expected, "{host}");
        }
    }
}
