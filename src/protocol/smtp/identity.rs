//! Who the client is, when a trusted peer says so: XCLIENT and XFORWARD attributes (Postfix XCLIENT_README, XFORWARD_README).
//!
//! Values are xtext (RFC 3461, 4); `[UNAVAILABLE]` and `[TEMPUNAVAIL]` mean unknown; IPv6 addresses are written `IPV6:...`.
//! A value with control characters is refused. Not here: whom to trust (`gateway`).

use std::net::IpAddr;

/// The attributes of both commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Attribute {
    /// Client host name.
    Name = 1,
    /// Client address.
    Addr = 1 << 1,
    /// Client port.
    Port = 1 << 2,
    /// SMTP or ESMTP.
    Proto = 1 << 3,
    /// HELO or EHLO name.
    Helo = 1 << 4,
    /// Queue id at the peer (XFORWARD).
    Ident = 1 << 5,
    /// LOCAL or REMOTE (XFORWARD).
    Source = 1 << 6,
    /// SASL login (XCLIENT).
    Login = 1 << 7,
    /// Address the client connected to (XCLIENT).
    DestAddr = 1 << 8,
    /// Port the client connected to (XCLIENT).
    DestPort = 1 << 9,
}

impl Attribute {
    /// All of them, in the order in which they are announced.
    pub const ALL: [Self; 10] = [
        Self::Name,
        Self::Addr,
        Self::Port,
        Self::Proto,
        Self::Helo,
        Self::Ident,
        Self::Source,
        Self::Login,
        Self::DestAddr,
        Self::DestPort,
    ];
    /// Those of XFORWARD.
    pub const XFORWARD: [Self; 7] =
        [Self::Name, Self::Addr, Self::Port, Self::Proto, Self::Helo, Self::Ident, Self::Source];
    /// Those of XCLIENT.
    pub const XCLIENT: [Self; 8] =
        [Self::Name, Self::Addr, Self::Port, Self::Proto, Self::Helo, Self::Login, Self::DestAddr, Self::DestPort];

    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "NAME",
            Self::Addr => "ADDR",
            Self::Port => "PORT",
            Self::Proto => "PROTO",
            Self::Helo => "HELO",
            Self::Ident => "IDENT",
            Self::Source => "SOURCE",
            Self::Login => "LOGIN",
            Self::DestAddr => "DESTADDR",
            Self::DestPort => "DESTPORT",
        }
    }

    /// The attribute of a word, in any case.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attribute| attribute.name().eq_ignore_ascii_case(word))
    }

    pub(crate) fn bit(self) -> u16 {
        self as u16
    }
}

/// What is known of the client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Host name, confirmed by the peer that states it.
    pub name: Option<String>,
    /// Address.
    pub addr: Option<IpAddr>,
    /// Port.
    pub port: Option<u16>,
    /// HELO name as forwarded; `None`: what the client itself said counts.
    pub helo: Option<String>,
    /// SMTP or ESMTP, as forwarded.
    pub proto: Option<String>,
    /// Login name.
    pub login: Option<String>,
    /// Queue id at the peer.
    pub ident: Option<String>,
    /// LOCAL or REMOTE.
    pub source: Option<String>,
}

impl Identity {
    /// Takes over attributes; `None` when a value is malformed, and then nothing has changed.
    #[must_use]
    pub fn overridden(&self, attributes: &[(Attribute, String)]) -> Option<Self> {
        let mut next = self.clone();
        if attributes.iter().any(|(attribute, _)| *attribute == Attribute::Addr) {
            // Another client: nothing that was known of the old one holds.
            next = Self { helo: next.helo, proto: next.proto, login: next.login, ..Self::default() };
        }
        for (attribute, value) in attributes {
            let value = match value.as_str() {
                "[UNAVAILABLE]" | "[TEMPUNAVAIL]" => None,
                known => Some(known.to_owned()),
            };
            match attribute {
                Attribute::Name => next.name = value,
                Attribute::Addr => next.addr = value.map(|text| parse_address(&text).ok_or(())).transpose().ok()?,
                Attribute::Port => next.port = value.map(|text| text.parse().map_err(|_| ())).transpose().ok()?,
                Attribute::Proto => next.proto = value,
                Attribute::Helo => next.helo = value,
                Attribute::Ident => next.ident = value,
                Attribute::Source => next.source = value,
                Attribute::Login => next.login = value,
                Attribute::DestAddr | Attribute::DestPort => {}
            }
        }
        Some(next)
    }

    /// The value of an attribute as XFORWARD sends it.
    pub fn forwarded(&self, attribute: Attribute) -> String {
        let value = match attribute {
            Attribute::Name => self.name.clone(),
            Attribute::Addr => self.addr.map(|addr| match addr {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("IPV6:{v6}"),
            }),
            Attribute::Port => self.port.map(|port| port.to_string()),
            Attribute::Proto => self.proto.clone(),
            Attribute::Helo => self.helo.clone(),
            Attribute::Ident => self.ident.clone(),
            Attribute::Source => self.source.clone(),
            Attribute::Login => self.login.clone(),
            Attribute::DestAddr | Attribute::DestPort => None,
        };
        value.map_or_else(|| "[UNAVAILABLE]".to_owned(), |text| encode_xtext(&text))
    }
}

fn parse_address(text: &str) -> Option<IpAddr> {
    let v6 = text.get(..5).filter(|head| head.eq_ignore_ascii_case("IPV6:")).map(|_| &text[5..]);
    v6.unwrap_or(text).parse().ok()
}

/// Decodes xtext; `None` for what is none, and for control characters.
pub fn decode_xtext(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => {
                let pair = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(str::from_utf8(&pair).ok()?, 16).ok()?
            }
            _ => byte,
        });
    }
    let text = String::from_utf8(out).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

/// Encodes as xtext: everything but printable ASCII, and `+` and `=`, as `+XX`.
pub fn encode_xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'+' && byte != b'=' => out.push(byte as char),
            _ => out.push_str(&format!("+{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xtext() {
        for (plain, coded) in [("a b", "a+20b"), ("a+b=c", "a+2Bb+3Dc"), ("\u{e9}", "+C3+A9"), ("[IPv6]", "[IPv6]")] {
            assert_eq!(encode_xtext(plain), coded);
            assert_eq!(decode_xtext(coded).as_deref(), Some(plain));
        }
        for bad in ["+", "+2", "+GG", "+0D+0A", "a+00"] {
            assert_eq!(decode_xtext(bad), None, "{bad}");
        }
    }

    #[test]
    fn another_address_is_another_client() {
        let peer =
            Identity { name: Some("peer".into()), addr: "192.0.2.1".parse().ok(), port: Some(5), ..Default::default() };
        let addr = |text: &str| vec![(Attribute::Addr, text.to_owned())];
        let next = peer.overridden(&addr("IPV6:2001:db8::1")).unwrap();
        assert_eq!((next.name, next.addr, next.port), (None, "2001:db8::1".parse().ok(), None));
        assert_eq!(peer.overridden(&addr("[UNAVAILABLE]")).unwrap().addr, None);
        assert_eq!(peer.overridden(&addr("no address")), None);
    }
}
