//! A URL in parts as rules compare them (RFC 3986, read with a browser's leniency).
//!
//! The parts keep what the sender wrote: nothing is sorted, escaped or removed but white space that browsers drop. The
//! host alone is normalised: lower case, percent-escapes undone, IPv4 addresses in any disguise recognised. Never panics;
//! `None` for what is no URL. Not here: unwrapping of redirectors (`rewrite.rs`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::{DomainParts, decode};

/// Longer ones are cut: no reader opens them, `data:` aside.
const MAX_URL_BYTES: usize = 64 << 10;
const MAX_QUERY_PAIRS: usize = 500;

/// The host of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UrlHost {
    /// A name in lower case, without a final dot.
    Domain(String),
    /// An address, and how it was disguised: `hex`, `octal`, `decimal_integer`, `mixed_radix`, `dotted`.
    Ip(IpAddr, Option<&'static str>),
}

/// A URL in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlParts {
    /// The URL, white space around and line ends within removed.
    pub url: String,
    /// The host; `None` for URLs without one (`mailto:`).
    pub host: Option<UrlHost>,
    /// The port, given or implied by the scheme.
    pub port: Option<u16>,
    scheme: Option<String>,
    path: Range<usize>,
    query: Option<Range<usize>>,
    fragment: Option<Range<usize>>,
    username: Option<Range<usize>>,
    password: Option<Range<usize>>,
}

impl UrlParts {
    /// Takes a URL apart. Without `strict` the scheme may be missing (`example.com/a`, `//example.com/a`).
    pub fn parse(text: &str, strict: bool) -> Option<Self> {
        let text = text.trim();
        let text = &text[..text.floor_char_boundary(MAX_URL_BYTES)];
        let url: String = match text.contains(['\t', '\r', '\n']) {
            true => text.chars().filter(|c| !matches!(c, '\t' | '\r' | '\n')).collect(),
            false => text.to_owned(),
        };
        let (scheme, after) = match scheme_length(&url) {
            Some(length) => (Some(url[..length].to_ascii_lowercase()), length + 1),
            None => (None, 0),
        };
        let web = matches!(scheme.as_deref(), Some("http" | "https" | "ftp"));
        let slashes = url[after..].bytes().take_while(|b| *b == b'/' || *b == b'\\').count();
        let authority = match &scheme {
            // Browsers do not count the slashes of schemes they know.
            Some(_) if web => true,
            Some(_) => url[after..].starts_with("//"),
            None if strict => return None,
            None => slashes == 2 || slashes == 0,
        };
        let mut parts = Self {
            host: None,
            port: None,
            path: after..after,
            query: None,
            fragment: None,
            username: None,
            password: None,
            scheme,
            url,
        };
        let mut at = after;
        if authority {
            at = parts.authority(after + slashes, web || parts.scheme.is_none())?;
        }
        parts.rest(at);
        let usable = parts.host.is_some() || (parts.scheme.is_some() && !web && !parts.url[at..].is_empty());
        usable.then_some(parts)
    }

    fn authority(&mut self, start: usize, web: bool) -> Option<usize> {
        let ends = |c: char| matches!(c, '/' | '?' | '#') || (web && c == '\\');
        let end = self.url[start..].find(ends).map_or(self.url.len(), |offset| start + offset);
        let authority = &self.url[start..end];
        let mut host_start = start;
        if let Some(at) = authority.rfind('@') {
            let user_end = authority[..at].find(':').unwrap_or(at);
            self.username = Some(start..start + user_end);
            self.password = (user_end < at).then(|| start + user_end + 1..start + at);
            host_start = start + at + 1;
            // `someone@example.com` is an address.
            self.scheme.as_ref()?;
        }
        let host_port = &self.url[host_start..end];
        let (host, port) = match host_port.rfind(':') {
            Some(colon) if !host_port[colon..].contains(']') => (&host_port[..colon], &host_port[colon + 1..]),
            _ => (host_port, ""),
        };
        let host = read_host(host)?;
        let named = match &host {
            UrlHost::Domain(name) => DomainParts::of(name).valid,
            // `7` and `1.5` are numbers.
            UrlHost::Ip(_, disguise) => disguise.is_none(),
        };
        if self.scheme.is_none() && !named {
            return None;
        }
        self.host = Some(host);
        self.port = match port {
            "" => implied_port(self.scheme.as_deref()),
            port => port.parse().ok(),
        };
        Some(end)
    }

    fn rest(&mut self, start: usize) {
        let end = self.url.len();
        let hash = memchr::memchr(b'#', &self.url.as_bytes()[start..]).map_or(end, |o| start + o);
        let question = memchr::memchr(b'?', &self.url.as_bytes()[start..hash]).map_or(hash, |o| start + o);
        self.path = start..question;
        self.query = (question < hash).then_some(question + 1..hash);
        self.fragment = (hash < end).then_some(hash + 1..end);
    }

    /// The scheme in lower case; `None` when it was left out.
    pub fn scheme(&self) -> Option<&str> {
        self.scheme.as_deref()
    }

    /// The host when it is a name.
    pub fn domain(&self) -> Option<&str> {
        match self.host.as_ref()? {
            UrlHost::Domain(name) => Some(name),
            UrlHost::Ip(..) => None,
        }
    }

    /// The host when it is an address.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.host.as_ref()? {
            UrlHost::Domain(_) => None,
            UrlHost::Ip(ip, _) => Some(*ip),
        }
    }

    /// The path as written; `None` when there is none.
    pub fn path(&self) -> Option<&str> {
        Some(&self.url[self.path.clone()]).filter(|path| !path.is_empty())
    }

    /// What stands between `?` and `#`, undecoded.
    pub fn query(&self) -> Option<&str> {
        self.query.clone().map(|range| &self.url[range])
    }

    /// What stands after `#`.
    pub fn fragment(&self) -> Option<&str> {
        self.fragment.clone().map(|range| &self.url[range])
    }

    /// What stands before `:` or `@` in the authority.
    pub fn username(&self) -> Option<&str> {
        self.username.clone().map(|range| &self.url[range])
    }

    /// What stands between `:` and `@` in the authority.
    pub fn password(&self) -> Option<&str> {
        self.password.clone().map(|range| &self.url[range])
    }

    /// The query decoded: names in order of their first place, each with all of its values. At most 500 pairs.
    pub fn query_decoded(&self) -> Vec<(String, Vec<String>)> {
        let mut map: Vec<(String, Vec<String>)> = Vec::new();
        for (name, value) in pairs(self.query().unwrap_or_default()) {
            match map.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value),
                None => map.push((name, vec![value])),
            }
        }
        map
    }

    /// The first value of a query parameter, decoded; the name's case does not count.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let query = self.query()?.replace("&amp;", "&");
        let mut all = query.split(['&', ';']).take(MAX_QUERY_PAIRS);
        let value = all.find_map(|pair| pair.split_once('=').filter(|(key, _)| key.eq_ignore_ascii_case(name)))?.1;
        Some(decoded(value))
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).take(MAX_QUERY_PAIRS).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// `+` and percent-escapes undone; what is no UTF-8 afterwards is replaced.
pub(super) fn decoded(text: &str) -> String {
    let text = text.replace('+', " ");
    match text.contains('%') {
        true => String::from_utf8_lossy(&decode::percent(text.as_bytes())).into_owned(),
        false => text,
    }
}

/// Length of the scheme. `example.com:80/` has none.
fn scheme_length(url: &str) -> Option<usize> {
    let colon = url.find(':')?;
    let name = &url[..colon];
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let first = name.bytes().next()?.is_ascii_alphabetic();
    let port = name.contains('.') && url[colon + 1..].starts_with(|c: char| c.is_ascii_digit());
    let slashes = url[colon + 1..].starts_with("//");
    (letters && first && !port && (slashes || !name.contains('.'))).then_some(colon)
}

fn implied_port(scheme: Option<&str>) -> Option<u16> {
    match scheme? {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        "ftp" => Some(21),
        _ => None,
    }
}

fn read_host(text: &str) -> Option<UrlHost> {
    if let Some(inner) = text.strip_prefix('[') {
        let ip: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(UrlHost::Ip(ip.into(), None));
    }
    let unescaped = match text.contains('%') {
        true => String::from_utf8_lossy(&decode::percent(text.as_bytes())).into_owned(),
        false => text.to_owned(),
    };
    let mut host = match unescaped.is_ascii() {
        true => unescaped.to_ascii_lowercase(),
        // Full-width letters, ideographic dots and the like become what they stand for.
        false => idna::domain_to_unicode(&unescaped).0,
    };
    host.truncate(host.trim_end_matches('.').len());
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || "<>\"'(){}|^`,;".contains(c)) {
        return None;
    }
    Some(match ipv4(&host) {
        Some((ip, disguise)) => UrlHost::Ip(ip.into(), disguise),
        None => UrlHost::Domain(host),
    })
}

/// An IPv4 address in any form that browsers take (WHATWG URL, 3.5), and the name of the form when not the usual one.
fn ipv4(host: &str) -> Option<(Ipv4Addr, Option<&'static str>)> {
    if !host.bytes().next()?.is_ascii_digit() {
        return None;
    }
    let mut numbers = [0u64; 4];
    let mut radixes = [0u32; 4];
    let mut count = 0;
    for piece in host.split('.') {
        let (digits, radix) = match piece.as_bytes() {
            [b'0', b'x' | b'X', ..] => (&piece[2..], 16),
            [b'0', _, ..] => (&piece[1..], 8),
            _ => (piece, 10),
        };
        if count == 4 || digits.starts_with('+') {
            return None;
        }
        numbers[count] = match digits {
            "" if radix == 16 => 0,
            digits => u64::from_str_radix(digits, radix).ok()?,
        };
        radixes[count] = radix;
        count += 1;
    }
    let last = numbers[count - 1];
    if numbers[..count - 1].iter().any(|n| *n > 255) || last >= 1 << (8 * (5 - count)) {
        return None;
    }
    let mut value = last;
    for (place, number) in numbers[..count - 1].iter().enumerate() {
        value |= number << (8 * (3 - place));
    }
    let first = radixes[0];
    let disguise = match (radixes[..count].iter().all(|r| *r == first), first, count) {
        (false, ..) => Some("mixed_radix"),
        (_, 16, _) => Some("hex"),
        (_, 8, _) => Some("octal"),
        (_, _, 1) => Some("decimal_integer"),
        (_, _, 4) => None,
        _ => Some("dotted"),
    };
    Some((Ipv4Addr::from(value as u32), disguise))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> UrlParts {
        UrlParts::parse(text, false).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn parts() {
        let url = parse(" HTTPS://User:pw@WWW.Example.COM:8443/A%20b/c.php?x=1&y=%26+z&x=2#frag?y ");
        assert_eq!((url.scheme(), url.domain(), url.port), (Some("https"), Some("www.example.com"), Some(8443)));
        assert_eq!((url.username(), url.password()), (Some("User"), Some("pw")));
        assert_eq!((url.path(), url.fragment()), (Some("/A%20b/c.php"), Some("frag?y")));
        assert_eq!(url.query(), Some("x=1&y=%26+z&x=2"));
        let expected =
            vec![("x".to_owned(), vec!["1".to_owned(), "2".to_owned()]), ("y".to_owned(), vec!["& z".to_owned()])];
        assert_eq!(url.query_decoded(), expected);
    }

    #[test]
    fn shapes() {
        #[allow(clippy::type_complexity)]
        let cases: &[(&str, Option<(Option<&str>, Option<&str>, Option<&str>, Option<u16>)>)] = &[
            ("http://example.com", Some((Some("http"), Some("example.com"), None, Some(80)))),
            ("example.com/a", Some((None, Some("example.com"), Some("/a"), None))),
            ("example.com:81/a", Some((None, Some("example.com"), Some("/a"), Some(81)))),
            ("//example.com", Some((None, Some("example.com"), None, None))),
            ("http:\\\\example.com\\x", Some((Some("http"), Some("example.com"), Some("\\x"), Some(80)))),
            ("http:example.com/", Some((Some("http"), Some("example.com"), Some("/"), Some(80)))),
            ("ht\ntp://exa\tmple.com", Some((Some("http"), Some("example.com"), None, Some(80)))),
            ("ttp://example.com", Some((Some("ttp"), Some("example.com"), None, None))),
            ("http://ex%61mple.com./", Some((Some("http"), Some("example.com"), Some("/"), Some(80)))),
            ("http://ｅxample。com/", Some((Some("http"), Some("example.com"), Some("/"), Some(80)))),
            ("mailto:a@example.com?subject=x", Some((Some("mailto"), None, Some("a@example.com"), None))),
            ("file://srv/x", Some((Some("file"), Some("srv"), Some("/x"), None))),
            ("a@example.com", None),
            ("see example.com", None),
            ("Click", None),
            ("readme.txt", None),
            ("/path/only", None),
            ("http://", None),
            ("http:///", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let got = UrlParts::parse(text, false);
            let got = got.as_ref().map(|u| (u.scheme(), u.domain(), u.path(), u.port));
            assert_eq!(got, *expected, "{text}");
        }
        assert_eq!(UrlParts::parse("example.com/a", true), None);
    }

    #[test]
    fn disguised_addresses() {
        let cases = [
            ("192.0.2.1", Some(("192.0.2.1", None))),
            ("0xC0.0x0.0x2.0x1", Some(("192.0.2.1", Some("hex")))),
            ("0300.0.02.01", Some(("192.0.2.1", Some("mixed_radix")))),
            ("0300.00.02.01", Some(("192.0.2.1", Some("octal")))),
            ("3221225985", Some(("192.0.2.1", Some("decimal_integer")))),
            ("192.513", Some(("192.0.2.1", Some("dotted")))),
            ("256.1.1.1", None),
            ("4294967296", None),
            ("1.2.3.4.5", None),
            ("1e1.example", None),
        ];
        for (host, expected) in cases {
            let got = ipv4(host).map(|(ip, disguise)| (ip.to_string(), disguise));
            assert_eq!(got, expected.map(|(ip, disguise)| (ip.to_owned(), disguise)), "{host}");
        }
        assert_eq!(parse("http://[2001:db8::1]:81/").port, Some(81));
        assert_eq!(parse("http://[2001:db8::1]/").ip(), "2001:db8::1".parse().ok());
    }

    #[test]
    fn every_cut_is_read() {
        let text = "http://u:p@exämple.com:80/a?b=%c3&c#d@[::1]";
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            for part in [&text[..end], &text[end..]] {
                if let Some(url) = UrlParts::parse(part, false) {
                    url.query_decoded();
                }
            }
        }
    }
}
