//! PROXY protocol, versions 1 and 2 (haproxy `proxy-protocol.txt`, 2.1 and 2.2): who the client of a connection really is.
//!
//! Comes before anything else on a connection and only from configured peers. Bounded: 107 bytes (v1), 16 + 4,096 (v2).
//! Malformed input is an error, the connection must then be closed. TLVs are skipped. Not here: whom to believe.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BytesMut};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const MAX_V1: usize = 107;
const MAX_V2: usize = 4096;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The proxy's own connection (health check): the peer is the client.
    Local,
    /// A connection on behalf of a client.
    Client {
        /// The client.
        source: SocketAddr,
        /// Where the client connected to.
        destination: SocketAddr,
    },
}

/// Bytes that are no PROXY header.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a PROXY protocol header")]
pub struct ProxyError;

/// Takes a header off the front of `input`; `None` when more bytes are needed.
pub fn parse_proxy_header(input: &mut BytesMut) -> Result<Option<ProxyHeader>, ProxyError> {
    let shown = input.len().min(SIGNATURE.len());
    if input[..shown] == SIGNATURE[..shown] {
        return if shown == SIGNATURE.len() { version_2(input) } else { Ok(None) };
    }
    let shown = input.len().min(6);
    if input[..shown] != b"PROXY "[..shown] {
        return Err(ProxyError);
    }
    let Some(end) = memchr::memchr(b'\n', &input[..input.len().min(MAX_V1)]) else {
        return if input.len() >= MAX_V1 { Err(ProxyError) } else { Ok(None) };
    };
    let line = input.split_to(end + 1);
    let text = str::from_utf8(&line).ok().and_then(|text| text.strip_suffix("\r\n")).ok_or(ProxyError)?;
    version_1(text).map(Some)
}

fn version_1(line: &str) -> Result<ProxyHeader, ProxyError> {
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(ProxyError)?;
    if family == "UNKNOWN" {
        return Ok(ProxyHeader::Local);
    }
    let mut address = || words.next().and_then(|word| word.parse::<IpAddr>().ok()).ok_or(ProxyError);
    let (source, destination) = (address()?, address()?);
    let mut port = || words.next().and_then(|word| word.parse::<u16>().ok()).ok_or(ProxyError);
    let (source_port, destination_port) = (port()?, port()?);
    let fits = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    if !fits || words.next().is_some() {
        return Err(ProxyError);
    }
    Ok(ProxyHeader::Client {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

fn version_2(input: &mut BytesMut) -> Result<Option<ProxyHeader>, ProxyError> {
    if input.len() < 16 {
        return Ok(None);
    }
    let (version_command, family) = (input[12], input[13]);
    let length = usize::from(u16::from_be_bytes([input[14], input[15]]));
    if version_command >> 4 != 2 || length > MAX_V2 {
        return Err(ProxyError);
    }
    if input.len() < 16 + length {
        return Ok(None);
    }
    input.advance(16);
    let body = input.split_to(length);
    match (version_command & 15, family) {
        (0, _) => Ok(Some(ProxyHeader::Local)),
        (1, 0x11) => addresses::<4>(&body).map(Some),
        (1, 0x21) => addresses::<16>(&body).map(Some),
        // Unspecified, datagrams and unix sockets: nothing that an SMTP client has.
        (1, 0x00) => Ok(Some(ProxyHeader::Local)),
        _ => Err(ProxyError),
    }
}

fn addresses<const N: usize>(body: &[u8]) -> Result<ProxyHeader, ProxyError> {
    if body.len() < 2 * N + 4 {
        return Err(ProxyError);
    }
    let ip = |bytes: &[u8]| -> Result<IpAddr, ProxyError> {
        if N == 4 {
            <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into()).map_err(|_| ProxyError)
        } else {
            <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into()).map_err(|_| ProxyError)
        }
    };
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    Ok(ProxyHeader::Client {
        source: SocketAddr::new(ip(&body[..N])?, port(2 * N)),
        destination: SocketAddr::new(ip(&body[N..2 * N])?, port(2 * N + 2)),
    })
}

/// The line of version 1 towards a next hop; `UNKNOWN` when the client is not known or the families differ.
pub fn write_proxy_v1(source: Option<SocketAddr>, destination: SocketAddr) -> Vec<u8> {
    match source {
        Some(source) if source.is_ipv4() == destination.is_ipv4() => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port())
                .into_bytes()
        }
        _ => b"PROXY UNKNOWN\r\n".to_vec(),
    }
}

/// The block of version 2 towards a next hop; both addresses as IPv6 when the families differ.
pub fn write_proxy_v2(source: Option<SocketAddr>, destination: SocketAddr) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    let Some(source) = source else {
        out.extend_from_slice(&[0x20, 0, 0, 0]);
        return out;
    };
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        (from, to) => {
            let mapped = |ip| match ip {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&mapped(from).octets());
            out.extend_from_slice(&mapped(to).octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8], step: usize) -> Result<(Option<ProxyHeader>, Vec<u8>), ProxyError> {
        let mut input = BytesMut::new();
        let mut found = None;
        for piece in bytes.chunks(step) {
            input.extend_from_slice(piece);
            if found.is_none() {
                found = parse_proxy_header(&mut input)?;
            }
        }
        Ok((found, input.to_vec()))
    }

    #[test]
    fn both_versions_at_every_split() {
        for (source, destination) in [("192.0.2.1:1234", "198.51.100.2:25"), ("[2001:db8::1]:1", "[2001:db8::2]:25")] {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            for header in [write_proxy_v1(Some(source), destination), write_proxy_v2(Some(source), destination)] {
                let wire = [header, b"EHLO".to_vec()].concat();
                for step in 1..=wire.len() {
                    let expected = (Some(ProxyHeader::Client { source, destination }), b"EHLO".to_vec());
                    assert_eq!(parse(&wire, step), Ok(expected));
                }
            }
        }
        assert_eq!(parse(b"PROXY UNKNOWN\r\n", 1), Ok((Some(ProxyHeader::Local), vec![])));
        assert_eq!(
            parse(&write_proxy_v2(None, "192.0.2.1:25".parse().unwrap()), 1).unwrap().0,
            Some(ProxyHeader::Local)
        );
    }

    #[test]
    fn refused() {
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        let mut huge = SIGNATURE.to_vec();
        huge.extend_from_slice(&[0x21, 0x11, 0xff, 0xff]);
        let cases: [&[u8]; 7] = [
            b"EHLO x\r\n",
            b"PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 99999\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            &long,
            &huge,
        ];
        for case in cases {
            assert_eq!(parse(case, 1), Err(ProxyError), "{}", case.escape_ascii());
        }
    }
}
