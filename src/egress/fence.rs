//! The fence: which addresses may be connected to at all (RFC 6890 and its registries).
//!
//! It looks at addresses after resolution, right before they are connected to, so that a name that answers differently each
//! time gains nothing. Addresses that carry an IPv4 address (mapped, NAT64, 6to4) are judged by that one. A host that the
//! operator wrote into the configuration may be local or private; link-local and metadata addresses may only be reached when
//! a network allows them by name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// How far a connection may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To the public internet only: the name came from a stranger or an answer.
    Public,
    /// To local and private networks too: the operator named the host.
    Configured,
}

/// Refused: it leads where nothing may be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place} is not asked: {why}")]
pub struct Fenced {
    /// Host or address.
    pub place: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Which addresses may be connected to.
#[derive(Debug, Clone, Default)]
pub struct Fence {
    allowed: Vec<RangeInclusive<u128>>,
}

/// How public an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Public,
    Private(&'static str),
    Never(&'static str),
}

impl Fence {
    /// A fence that lets these networks pass: first and last address each, IPv4 as mapped into IPv6.
    pub fn allowing(networks: impl IntoIterator<Item = (u128, u128)>) -> Self {
        Self { allowed: networks.into_iter().map(|(first, last)| first..=last).collect() }
    }

    /// May this address be connected to?
    ///
    /// # Errors
    /// No, and why.
    pub fn check(&self, address: IpAddr, reach: Reach) -> Result<(), Fenced> {
        let number = match address.to_canonical() {
            IpAddr::V4(ip) => u128::from(ip.to_ipv6_mapped()),
            IpAddr::V6(ip) => u128::from(ip),
        };
        if self.allowed.iter().any(|range| range.contains(&number)) {
            return Ok(());
        }
        let why = match (kind(address), reach) {
            (Kind::Public, _) | (Kind::Private(_), Reach::Configured) => return Ok(()),
            (Kind::Private(why) | Kind::Never(why), _) => why,
        };
        Err(Fenced { place: address.to_string(), why })
    }
}

fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(ip) => kind_v4(ip),
        IpAddr::V6(ip) => kind_v6(ip),
    }
}

fn kind_v4(ip: Ipv4Addr) -> Kind {
    match ip.octets() {
        [0, ..] => Kind::Never("an address of this host"),
        [10, ..] | [192, 168, ..] => Kind::Private("a private address"),
        [172, b, ..] if b & 0xf0 == 16 => Kind::Private("a private address"),
        [127, ..] => Kind::Private("a loopback address"),
        [100, 100, 100, 200] | [192, 0, 0, 192] => Kind::Never("a cloud's metadata address"),
        [100, b, ..] if b & 0xc0 == 64 => Kind::Private("a carrier's shared address"),
        [169, 254, ..] => Kind::Never("a link-local address"),
        [192, 0, 0, _] | [192, 88, 99, _] => Kind::Never("a special address"),
        [198, 18 | 19, ..] => Kind::Private("a benchmarking address"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Kind::Never("a documentation address"),
        [224..=239, ..] => Kind::Never("a multicast address"),
        [240..=255, ..] => Kind::Never("a reserved address"),
        _ => Kind::Public,
    }
}

fn kind_v6(ip: Ipv6Addr) -> Kind {
    if let Some(mapped) = ip.to_ipv4_mapped() {
        return kind_v4(mapped);
    }
    let segments = ip.segments();
    let carried = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        kind_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Private("a loopback address"),
        [0, 0, 0, 0, 0, 0, ..] => Kind::Never("a special address"),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => carried(high, low),
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Kind::Never("a cloud's metadata address"),
        [0xfc00..=0xfdff, ..] => Kind::Private("a unique local address"),
        [0xfe80..=0xfebf, ..] => Kind::Never("a link-local address"),
        [0xff00..=0xffff, ..] => Kind::Never("a multicast address"),
        [0x2001, 0..=0x1ff, ..] => Kind::Never("a special address"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Kind::Never("a documentation address"),
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Never("a reserved address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forty_addresses() {
        // (address, may be asked by a stranger's name, may be asked when the operator named the host)
        let cases = [
            ("8.8.8.8", true, true),
            ("1.1.1.1", true, true),
            ("172.15.0.1", true, true),
            ("172.32.0.1", true, true),
            ("100.63.255.255", true, true),
            ("100.128.0.1", true, true),
            ("169.253.1.1", true, true),
            ("192.167.1.1", true, true),
            ("2606:4700::1111", true, true),
            ("64:ff9b::808:808", true, true),
            ("2002:808:808::1", true, true),
            ("127.0.0.1", false, true),
            ("127.255.255.254", false, true),
            ("10.0.0.1", false, true),
            ("172.16.0.1", false, true),
            ("172.31.255.255", false, true),
            ("192.168.1.1", false, true),
            ("100.64.0.1", false, true),
            ("198.18.0.1", false, true),
            ("::1", false, true),
            ("fd12:3456::1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("::ffff:10.1.2.3", false, true),
            ("64:ff9b::a00:1", false, true),
            ("2002:7f00:1::", false, true),
            ("0.0.0.0", false, false),
            ("0.1.2.3", false, false),
            ("169.254.169.254", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("64:ff9b::a9fe:a9fe", false, false),
            ("2002:a9fe:a9fe::", false, false),
            ("100.100.100.200", false, false),
            ("192.0.0.192", false, false),
            ("192.0.2.1", false, false),
            ("203.0.113.9", false, false),
            ("224.0.0.1", false, false),
            ("239.255.255.250", false, false),
            ("255.255.255.255", false, false),
            ("240.0.0.1", false, false),
            ("::", false, false),
            ("::7f00:1", false, false),
            ("fe80::1", false, false),
            ("fd00:ec2::254", false, false),
            ("ff02::1", false, false),
            ("2001::1", false, false),
            ("2001:db8::1", false, false),
            ("fec0::1", false, false),
            ("64:ff9b:1::1", false, false),
        ];
        let fence = Fence::default();
        for (address, stranger, operator) in cases {
            let ip: IpAddr = address.parse().unwrap();
            assert_eq!(fence.check(ip, Reach::Public).is_ok(), stranger, "{address} from a stranger");
            assert_eq!(fence.check(ip, Reach::Configured).is_ok(), operator, "{address} from the operator");
        }
    }

    #[test]
    fn networks_that_are_allowed_pass_in_every_spelling() {
        let number = |ip: Ipv4Addr| u128::from(ip.to_ipv6_mapped());
        let (first, last) = (Ipv4Addr::new(169, 254, 169, 0), Ipv4Addr::new(169, 254, 169, 255));
        let fence = Fence::allowing([(number(first), number(last))]);
        for (address, passes) in
            [("169.254.169.254", true), ("::ffff:169.254.169.254", true), ("169.254.170.1", false), ("10.0.0.1", false)]
        {
            assert_eq!(fence.check(address.parse().unwrap(), Reach::Public).is_ok(), passes, "{address}");
        }
    }
}
