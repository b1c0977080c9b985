//! A host name in parts by the Public Suffix List: what was registered, what stands left and right of it.
//!
//! Only suffixes under which registries register count (`co.uk`), not those that companies ask to be listed
//! (`github.io`, `workers.dev`): rules name the company. Slices of the given name, nothing is copied. The name must be in
//! lower case. Not here: `registrable_domain`, which keeps customers of one company apart.

use psl::Type;

/// Longest name that DNS carries, in bytes without the final dot (RFC 1035, 2.3.4).
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// A host name in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainParts<'a> {
    /// The whole name as given.
    pub domain: &'a str,
    /// Suffix and one label: `example.co.uk`. `None` for a bare suffix or a single label.
    pub root_domain: Option<&'a str>,
    /// The label left of the suffix: `example`.
    pub sld: Option<&'a str>,
    /// The public suffix: `co.uk`; of an unknown one the last label. `None` for a single label that is no suffix.
    pub tld: Option<&'a str>,
    /// What stands left of the root domain: `mail.eu`.
    pub subdomain: Option<&'a str>,
    /// Whether it is written as the DNS wants it, under a known suffix.
    pub valid: bool,
}

impl<'a> DomainParts<'a> {
    /// Takes a name apart. Any text is taken; what is no name is not valid.
    pub fn of(domain: &'a str) -> Self {
        let none = Self { domain, root_domain: None, sld: None, tld: None, subdomain: None, valid: false };
        let syntax = is_name(domain);
        let Some((suffix, known)) = suffix(domain).filter(|_| !domain.starts_with(['[', '.'])) else { return none };
        let Some(left) = domain[..domain.len() - suffix.len()].strip_suffix('.') else {
            return Self { tld: known.then_some(suffix), ..none };
        };
        let start = left.rfind('.').map_or(0, |dot| dot + 1);
        let (sld, root) = (&left[start..], &domain[start..]);
        if sld.is_empty() {
            return Self { tld: Some(suffix), ..none };
        }
        let subdomain = (start > 1).then(|| &left[..start - 1]);
        Self { domain, root_domain: Some(root), sld: Some(sld), tld: Some(suffix), subdomain, valid: syntax && known }
    }

    /// The name in Unicode, when one of its labels is in the ASCII form (`xn--`) and decodes.
    pub fn punycode(&self) -> Option<String> {
        if !self.domain.split('.').any(|label| label.starts_with("xn--")) {
            return None;
        }
        let (text, _) = idna::domain_to_unicode(self.domain);
        (text != self.domain).then_some(text)
    }
}

/// The suffix under which names are registered, and whether it is a known one.
fn suffix(domain: &str) -> Option<(&str, bool)> {
    let mut rest = domain;
    // Each turn drops a label of a suffix, of which there are few.
    for _ in 0..8 {
        let found = psl::suffix(rest.as_bytes())?;
        let text = str::from_utf8(found.as_bytes()).ok()?;
        let text = &rest[rest.len().checked_sub(text.len())?..];
        match found.typ() {
            Some(Type::Icann) => return Some((text, true)),
            None => return Some((text, false)),
            Some(Type::Private) => rest = text.split_once('.')?.1,
        }
    }
    None
}

/// Labels of letters, digits, hyphens and underscores, one dot between them.
fn is_name(domain: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= MAX_LABEL_BYTES
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
    };
    !domain.is_empty() && domain.len() <= MAX_NAME_BYTES && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        #[allow(clippy::type_complexity)]
        let cases: &[(&str, Option<&str>, Option<&str>, Option<&str>, Option<&str>, bool)] = &[
            ("example.com", Some("example.com"), Some("example"), Some("com"), None, true),
            ("a.b.example.co.uk", Some("example.co.uk"), Some("example"), Some("co.uk"), Some("a.b"), true),
            ("shop.workers.dev", Some("workers.dev"), Some("workers"), Some("dev"), Some("shop"), true),
            ("a.blogspot.co.uk", Some("blogspot.co.uk"), Some("blogspot"), Some("co.uk"), Some("a"), true),
            ("x.s3.amazonaws.com", Some("amazonaws.com"), Some("amazonaws"), Some("com"), Some("x.s3"), true),
            ("host.lan", Some("host.lan"), Some("host"), Some("lan"), None, false),
            ("a..example.com", Some("example.com"), Some("example"), Some("com"), Some("a."), false),
            ("exa mple.com", Some("exa mple.com"), Some("exa mple"), Some("com"), None, false),
            ("com", None, None, Some("com"), None, false),
            ("localhost", None, None, None, None, false),
            ("[192.0.2.1]", None, None, None, None, false),
            (".com", None, None, None, None, false),
            ("..", None, None, None, None, false),
            ("", None, None, None, None, false),
        ];
        for (name, root, sld, tld, subdomain, valid) in cases {
            let got = DomainParts::of(name);
            let got = (got.root_domain, got.sld, got.tld, got.subdomain, got.valid);
            assert_eq!(got, (*root, *sld, *tld, *subdomain, *valid), "{name}");
        }
    }

    #[test]
    fn unicode_form() {
        assert_eq!(DomainParts::of("xn--mnchen-3ya.de").punycode().as_deref(), Some("münchen.de"));
        assert_eq!(DomainParts::of("example.de").punycode(), None);
    }
}
