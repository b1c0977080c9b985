//! EHLO keywords as a set (RFC 5321, 4.1.1.1), and what two hops have in common.
//!
//! A proxy may promise only what the next hop keeps: 8BITMIME, SMTPUTF8, DSN and SIZE are the next hop's to give; PIPELINING,
//! ENHANCEDSTATUSCODES, STARTTLS, CHUNKING are ours alone. Unknown keywords are never passed through.

use std::fmt::Write as _;

use super::identity::Attribute;
use super::reply::Reply;

/// The keywords this gateway understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Extension {
    /// RFC 2920.
    Pipelining = 1,
    /// RFC 1870.
    Size = 1 << 1,
    /// RFC 6152.
    EightBitMime = 1 << 2,
    /// RFC 6531.
    SmtpUtf8 = 1 << 3,
    /// RFC 3461.
    Dsn = 1 << 4,
    /// RFC 2034.
    EnhancedStatusCodes = 1 << 5,
    /// RFC 3207.
    StartTls = 1 << 6,
    /// RFC 3030.
    Chunking = 1 << 7,
}

use Extension::{Chunking, Dsn, EightBitMime, EnhancedStatusCodes, Pipelining, Size, SmtpUtf8, StartTls};

const NAMES: [(Extension, &str); 8] = [
    (Pipelining, "PIPELINING"),
    (Size, "SIZE"),
    (EightBitMime, "8BITMIME"),
    (SmtpUtf8, "SMTPUTF8"),
    (Dsn, "DSN"),
    (EnhancedStatusCodes, "ENHANCEDSTATUSCODES"),
    (StartTls, "STARTTLS"),
    (Chunking, "CHUNKING"),
];

/// A set of keywords with the parameters of SIZE, XFORWARD and XCLIENT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions {
    bits: u16,
    /// Limit of SIZE in bytes; `None`: no limit stated.
    pub size: Option<u64>,
    xforward: u16,
    xclient: u16,
}

impl Extensions {
    /// What the relay may offer whatever the next hop is.
    pub fn own(max_message_bytes: u64) -> Self {
        let size = Some(max_message_bytes);
        Self { size, ..Self::default() }.with(Pipelining).with(Size).with(EnhancedStatusCodes)
    }

    /// Whether the keyword is in the set.
    pub fn has(self, extension: Extension) -> bool {
        self.bits & extension as u16 != 0
    }

    /// The set with one keyword more.
    #[must_use]
    pub fn with(mut self, extension: Extension) -> Self {
        self.bits |= extension as u16;
        self
    }

    /// The set without one keyword.
    #[must_use]
    pub fn without(mut self, extension: Extension) -> Self {
        self.bits &= !(extension as u16);
        self
    }

    /// Adds of the next hop's keywords those which are the next hop's to give, and the smaller SIZE.
    #[must_use]
    pub fn limited_by(mut self, next_hop: Self) -> Self {
        for extension in [EightBitMime, SmtpUtf8, Dsn] {
            if next_hop.has(extension) {
                self = self.with(extension);
            }
        }
        self.size = smaller(self.size, next_hop.size);
        self
    }

    /// What both sets have, with the smaller SIZE: for several next hops behind one listener.
    #[must_use]
    pub fn intersection(mut self, other: Self) -> Self {
        self.bits &= other.bits;
        self.xforward &= other.xforward;
        self.xclient &= other.xclient;
        self.size = smaller(self.size, other.size);
        self
    }

    /// Reads a next hop's EHLO or LHLO reply; its first line is the greeting.
    pub fn parse(reply: &Reply) -> Self {
        let mut set = Self::default();
        for line in reply.text.split('\n').skip(1) {
            let mut words = line.split_ascii_whitespace();
            let Some(keyword) = words.next() else { continue };
            if let Some((extension, _)) = NAMES.iter().find(|(_, name)| keyword.eq_ignore_ascii_case(name)) {
                set = set.with(*extension);
            }
            if keyword.eq_ignore_ascii_case("SIZE") {
                // RFC 1870: 0 means no fixed limit.
                set.size = words.next().and_then(|digits| digits.parse().ok()).filter(|size| *size > 0);
            } else if keyword.eq_ignore_ascii_case("XFORWARD") {
                set.xforward = words.filter_map(Attribute::parse).fold(0, |bits, a| bits | a.bit());
            } else if keyword.eq_ignore_ascii_case("XCLIENT") {
                set.xclient = words.filter_map(Attribute::parse).fold(0, |bits, a| bits | a.bit());
            }
        }
        set
    }

    /// The set with XFORWARD for all attributes.
    #[must_use]
    pub fn with_xforward(mut self) -> Self {
        self.xforward = Attribute::XFORWARD.iter().fold(0, |bits, a| bits | a.bit());
        self
    }

    /// The set with XCLIENT for all attributes.
    #[must_use]
    pub fn with_xclient(mut self) -> Self {
        self.xclient = Attribute::XCLIENT.iter().fold(0, |bits, a| bits | a.bit());
        self
    }

    /// Whether XFORWARD is offered with this attribute.
    pub fn xforwards(self, attribute: Attribute) -> bool {
        self.xforward & attribute.bit() != 0
    }

    /// Whether XFORWARD is offered at all.
    pub fn has_xforward(self) -> bool {
        self.xforward != 0
    }

    /// Whether XCLIENT is offered at all.
    pub fn has_xclient(self) -> bool {
        self.xclient != 0
    }

    /// The EHLO reply.
    pub fn reply(self, host_name: &str) -> Reply {
        let mut text = String::with_capacity(200);
        text.push_str(host_name);
        for (extension, name) in NAMES {
            if self.has(extension) {
                text.push('\n');
                text.push_str(name);
            }
            if let (Size, true, Some(size)) = (extension, self.has(Size), self.size) {
                let _ = write!(text, " {size}");
            }
        }
        for (name, bits) in [("XFORWARD", self.xforward), ("XCLIENT", self.xclient)] {
            if bits != 0 {
                text.push('\n');
                text.push_str(name);
                for attribute in Attribute::ALL.iter().filter(|a| bits & a.bit() != 0) {
                    text.push(' ');
                    text.push_str(attribute.name());
                }
            }
        }
        Reply::composed(250, None, text)
    }
}

fn smaller(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(text: &str) -> Extensions {
        Extensions::parse(&Reply::composed(250, None, text.to_owned()))
    }

    #[test]
    fn promises_what_the_next_hop_keeps() {
        let own = Extensions::own(1000);
        let cases = [
            ("h", "x\nPIPELINING\nSIZE 1000\nENHANCEDSTATUSCODES"),
            ("h\nSIZE 500\n8bitmime\nDSN", "x\nPIPELINING\nSIZE 500\n8BITMIME\nDSN\nENHANCEDSTATUSCODES"),
            ("h\nSIZE 0\nAUTH PLAIN\nETRN\nSTARTTLS\nCHUNKING", "x\nPIPELINING\nSIZE 1000\nENHANCEDSTATUSCODES"),
            ("h\nSIZE 5000\nSMTPUTF8", "x\nPIPELINING\nSIZE 1000\nSMTPUTF8\nENHANCEDSTATUSCODES"),
        ];
        for (theirs, expected) in cases {
            assert_eq!(own.limited_by(hop(theirs)).reply("x").text, expected, "{theirs:?}");
        }
    }

    #[test]
    fn first_line_is_no_keyword() {
        assert_eq!(hop("DSN"), Extensions::default());
        assert!(hop("h\nXFORWARD NAME ADDR").xforwards(Attribute::Addr));
        assert!(!hop("h\nXFORWARD NAME ADDR").xforwards(Attribute::Helo));
    }
}
