//! A link: where it leads, what is shown for it, where it stands. URLs are read as browsers do (WHATWG URL).

use std::net::IpAddr;

use url::{Host, Url};

use super::registrable_domain;
use super::url_finder::UrlFinder;

/// Where a link was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkKind {
    /// `<a href>`.
    Anchor,
    /// `<area href>` of an image map.
    Area,
    /// Where a form is sent: `<form action>`, `formaction`.
    Form,
    /// A picture that is loaded.
    Image,
    /// Anything else that is loaded: scripts, frames, objects, style sheets, backgrounds.
    Resource,
    /// `<meta http-equiv=refresh>`.
    Refresh,
    /// A URL standing in text.
    Plain,
}

impl LinkKind {
    /// Whether a person follows it, rather than a mail reader loading it.
    pub fn is_followed(self) -> bool {
        !matches!(self, Self::Image | Self::Resource)
    }
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where it was found.
    pub kind: LinkKind,
    /// The target as written, trimmed.
    pub text: String,
    /// The target read as a browser does, `<base>` applied; `None` when it is no absolute URL.
    pub url: Option<Url>,
    /// The text a reader shows for it, white space collapsed; the URL itself for plain ones.
    pub shown: String,
    /// Whether a picture is what is clicked on.
    pub image: bool,
    /// Whether a person can see it.
    pub visible: bool,
    /// The part it stands in.
    pub part: usize,
}

impl Link {
    /// A URL standing in text.
    pub fn plain(text: &str) -> Self {
        let (url, text) = (resolve(text, None), text.to_owned());
        Self { kind: LinkKind::Plain, url, shown: text.clone(), text, image: false, visible: true, part: 0 }
    }

    /// URLs standing in a text, each with its scheme; at most `max`.
    pub fn in_text(text: &str, max: usize) -> Vec<Self> {
        UrlFinder::new().find(text).take(max).map(|(_, url)| Self::plain(url)).collect()
    }

    /// Host name in lower case (A-labels) or address; `None` when the URL has none (`mailto:`, `data:`).
    pub fn host(&self) -> Option<&str> {
        self.url.as_ref()?.host_str().map(|host| host.trim_end_matches('.'))
    }

    /// The address, when the host is one; also when it is written in octal, hexadecimal or as one number.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.url.as_ref()?.host()? {
            Host::Domain(_) => None,
            Host::Ipv4(ip) => Some(ip.into()),
            Host::Ipv6(ip) => Some(ip.into()),
        }
    }

    /// Registrable domain of the host.
    pub fn registrable(&self) -> Option<&str> {
        self.host().and_then(registrable_domain)
    }

    /// Scheme in lower case; empty when the target is no absolute URL.
    pub fn scheme(&self) -> &str {
        self.url.as_ref().map_or("", |url| url.scheme())
    }

    /// Whether it leads to the web.
    pub fn is_web(&self) -> bool {
        matches!(self.scheme(), "http" | "https")
    }

    /// The host that the shown text names, when that text is a URL or a domain name: lower case.
    pub fn shown_host(&self) -> Option<String> {
        named_host(&self.shown)
    }
}

/// The host in a text that is a URL or domain name as a whole; `None` for other text. The suffix must be a known one.
pub fn named_host(text: &str) -> Option<String> {
    // Most links show words, not names.
    if !text.contains('.') {
        return None;
    }
    let text = text.trim();
    let after_scheme = text.split_once("://").map_or(text, |(scheme, rest)| match scheme.len() {
        1..=8 => rest,
        _ => text,
    });
    let host = after_scheme.split(['/', '?', '#', ':']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default().trim_end_matches('.');
    let is_name = |c: char| c.is_alphanumeric() || c == '-' || c == '.';
    if after_scheme.len() > 2_000
        || text.contains(char::is_whitespace)
        || !host.contains('.')
        || !host.chars().all(is_name)
    {
        return None;
    }
    // `a@b.example` is an address, no link.
    if after_scheme.len() == text.len() && text.contains('@') {
        return None;
    }
    let host = host.to_lowercase();
    let known = psl::suffix(host.as_bytes()).is_some_and(|suffix| suffix.is_known());
    (known && registrable_domain(&host).is_some()).then_some(host)
}

/// Reads a target as a browser does, against `base` when there is one.
pub(super) fn resolve(text: &str, base: Option<&Url>) -> Option<Url> {
    match Url::parse(text) {
        Ok(url) => Some(url),
        Err(url::ParseError::RelativeUrlWithoutBase) => match base {
            Some(base) => base.join(text).ok(),
            // Mail readers have no base: `//host/` and `www.host/` are still followed by some.
            None if text.starts_with("//") => Url::parse(&format!("http:{text}")).ok(),
            None if text.len() > 4 && text.as_bytes()[..4].eq_ignore_ascii_case(b"www.") => {
                Url::parse(&format!("http://{text}")).ok()
            }
            None => None,
        },
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_hosts() {
        let cases = [
            ("https://www.Example.com/x", Some("www.example.com")),
            ("example.com", Some("example.com")),
            (" www.example.co.uk/a?b ", Some("www.example.co.uk")),
            ("http://user@host.example.org:80/", Some("host.example.org")),
            ("Click here", None),
            ("a@example.com", None),
            ("readme.nosuchtld", None),
            ("1.2.3", None),
            ("...", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(named_host(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn resolving() {
        let host = |text: &str| resolve(text, None).and_then(|u| u.host_str().map(str::to_owned));
        assert_eq!(host("http:\\\\example.com\\a").as_deref(), Some("example.com"));
        assert_eq!(host("http://0x7f.1/").as_deref(), Some("127.0.0.1"));
        assert_eq!(host("//example.com/a").as_deref(), Some("example.com"));
        assert_eq!(host("ht\ntp://exam\tple.com/").as_deref(), Some("example.com"));
        assert_eq!(host("relative/path"), None);
        let base = Url::parse("https://example.org/d/").unwrap();
        assert_eq!(resolve("x", Some(&base)).unwrap().as_str(), "https://example.org/d/x");
    }
}
