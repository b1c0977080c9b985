//! Names made to be taken for others: a brand's or ours with a letter changed, added or from another script.

use std::sync::LazyLock;

use unicode_security::confusable_detection::skeleton;

use super::identity::odd_word;
use crate::analysis::Code;
use crate::analysis::brands::{BRANDS, Brand, BrandSet, owners};
use crate::analysis::hosts;
use crate::analysis::signal::Signals;
use crate::analysis::view::View;
use crate::mail::registrable_domain;

/// Hosts of links looked at one by one.
const MAX_HOSTS: usize = 50;

pub(super) fn detect(view: &View<'_>, out: &mut Signals) {
    let reply_to = view.input.message.reply_to();
    let senders = reply_to.iter().filter_map(|m| m.address.as_ref()).chain(view.from).chain(&view.envelope_from);
    let mut seen: Vec<&str> = Vec::new();
    for host in senders.map(|address| address.domain.as_str()) {
        if seen.contains(&host) || seen.len() > 8 || view.input.site.owns(host) || hosts::is_free_mail(host) {
            continue;
        }
        seen.push(host);
        let domain = registrable_domain(host);
        if let Some(brand) = brand_like(host, domain, owners(host, domain)) {
            out.add(Code::LookalikeSender, 1.0, format!("{host} for {brand}"));
        }
        if let Some(own) = view
            .input
            .site
            .own_domains
            .iter()
            .find(|own| Shape::new(label(host)).is_like(label(own), &token_skeleton(label(own))))
        {
            out.add(Code::LookalikeOwn, 1.0, format!("{host} for {own}"));
        }
        mixed(host, out);
    }
    for host in view.hosts.iter().take(MAX_HOSTS) {
        // A sender's own host that names a partner (`amazon.shop.example`) is the sender's affair.
        let senders_own = host.domain == Some(view.from_domain) && view.proved == Some(true);
        if !senders_own && let Some(brand) = brand_like(host.name, host.domain, host.owners) {
            out.add(Code::LookalikeLink, 1.0, format!("{} for {brand}", host.name));
        }
        mixed(host.name, out);
    }
}

fn mixed(host: &str, out: &mut Signals) {
    if !host.is_ascii() || host.contains("xn--") {
        let (shown, _) = idna::domain_to_unicode(host);
        if odd_word(&shown).is_some() || all_confusable(&shown) {
            out.add(Code::MixedScriptHost, 1.0, shown);
        }
    }
}

/// A label wholly in letters of another script that read as Latin ones.
fn all_confusable(host: &str) -> bool {
    host.split('.')
        .any(|label| !label.is_ascii() && skeleton(label).all(|c| c.is_ascii()) && label.chars().all(|c| c > '\u{370}'))
}

/// The brand that a host is made to look like; `None` when it is some brand's own.
fn brand_like(host: &str, domain: Option<&str>, owners: BrandSet) -> Option<&'static str> {
    let domain = domain?;
    if !owners.is_empty() {
        return None;
    }
    let front = host.strip_suffix(domain).unwrap_or_default();
    let shape = Shape::new(domain.split('.').next().unwrap_or_default());
    let made = |token: &&Token| {
        shape.is_like(token.text, &token.skeleton) || carries(shape.label, token.text) || in_front(front, token.text)
    };
    TOKENS.iter().find(made).map(|token| token.brand)
}

/// A brand's name as it stands in domains, where it is long enough to be no accident.
struct Token {
    brand: &'static str,
    text: &'static str,
    skeleton: String,
}

/// In the order of the brands.
static TOKENS: LazyLock<Vec<Token>> = LazyLock::new(|| {
    let of = |brand: &'static Brand| {
        let labels = brand.domains.iter().take(3).map(|d| label(d));
        labels.filter(|token| token.len() >= 5 && !ORDINARY.contains(token)).map(|text| Token {
            brand: brand.name(),
            text,
            skeleton: token_skeleton(text),
        })
    };
    BRANDS.iter().flat_map(of).collect()
});

/// Labels that are ordinary words or names.
const ORDINARY: &[&str] = &[
    "apple",
    "office",
    "azure",
    "outlook",
    "chase",
    "target",
    "ledger",
    "orange",
    "booking",
    "kraken",
    "windows",
    "stripe",
    "vodafone",
    "telekom",
    "shopify",
    "elster",
    "google",
    "amazon",
    "github",
    "ameli",
    "strato",
    "steam",
    "disney",
    "blockchain",
    "spotify",
    "norton",
    "sites",
    "service",
    "crypto",
];

fn label(domain: &str) -> &str {
    registrable_domain(domain).unwrap_or(domain).split('.').next().unwrap_or_default()
}

/// A label as the eye takes it; made once for all names it is held against.
struct Shape<'a> {
    label: &'a str,
    /// Characters of it, not in Punycode.
    chars: usize,
    skeleton: String,
}

impl<'a> Shape<'a> {
    fn new(label: &'a str) -> Self {
        if let Some(skeleton) = plain_skeleton(label) {
            return Self { label, chars: label.len(), skeleton };
        }
        let (plain, _) = idna::domain_to_unicode(label);
        Self { label, chars: plain.chars().count(), skeleton: token_skeleton(&plain) }
    }

    /// A letter changed, added, left out or swapped, a digit for a letter, or letters that only look the same.
    fn is_like(&self, token: &str, skeleton: &str) -> bool {
        if self.label == token || token.len() < 5 || self.chars.abs_diff(token.len()) > 2 {
            return false;
        }
        self.skeleton == skeleton || (token.len() >= 7 && one_edit(self.label.as_bytes(), token.as_bytes()))
    }
}

/// What is left when digits are read as letters and letters as what they look like (UTS 39).
fn token_skeleton(text: &str) -> String {
    let text = text.to_lowercase();
    let text = text.replace("vv", "w").replace('0', "o").replace(['1', '!'], "l").replace('3', "e").replace('5', "s");
    skeleton(&text).collect()
}

/// The same for a label of small letters, digits and hyphens, which nearly all are; `None` for others and Punycode.
fn plain_skeleton(label: &str) -> Option<String> {
    static LETTERS: LazyLock<[String; 128]> =
        LazyLock::new(|| std::array::from_fn(|at| skeleton(char::from(at as u8).encode_utf8(&mut [0; 4])).collect()));
    let bytes = label.as_bytes();
    if label.contains("xn--") || !bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-') {
        return None;
    }
    let mut out = String::with_capacity(bytes.len() + 4);
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let double = *byte == b'v' && bytes.get(at + 1) == Some(&b'v');
        at += if double { 2 } else { 1 };
        let letter = match byte {
            b'v' if double => b'w',
            b'0' => b'o',
            b'1' => b'l',
            b'3' => b'e',
            b'5' => b's',
            other => *other,
        };
        out.push_str(&LETTERS[usize::from(letter)]);
    }
    Some(out)
}

/// At most one insertion, deletion, change or swap of neighbours.
fn one_edit(a: &[u8], b: &[u8]) -> bool {
    let start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let end = a[start..].iter().rev().zip(b[start..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[start..a.len() - end], &b[start..b.len() - end]);
    match (a.len(), b.len()) {
        (0, 0) => false,
        (0 | 1, 0 | 1) => true,
        (2, 2) => a[0] == b[1] && a[1] == b[0],
        _ => false,
    }
}

/// `paypal-login`, `securepaypal`: the brand's name as a piece of another one.
fn carries(label: &str, token: &str) -> bool {
    let piece = label != token && label.split('-').any(|piece| piece == token);
    let glued = token.len() >= 6 && label != token && (label.starts_with(token) || label.ends_with(token));
    piece || glued
}

/// `paypal.com.example`: the brand's name in front of somebody else's domain.
fn in_front(front: &str, token: &str) -> bool {
    !front.is_empty() && front.split(['.', '-']).any(|piece| piece == token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brand_of(host: &str) -> Option<&'static str> {
        let domain = registrable_domain(host);
        brand_like(host, domain, owners(host, domain))
    }

    #[test]
    fn plain_labels_have_the_same_skeleton() {
        for label in ["paypal", "rnicr0s0ft", "vvells-fargo", "vvv5", "n3tf1ix", "amazon-m", "0", ""] {
            assert_eq!(plain_skeleton(label), Some(token_skeleton(label)), "{label}");
        }
        assert_eq!(plain_skeleton("xn--pypal-4ve").or(plain_skeleton("päypal")), None);
    }

    #[test]
    fn brands() {
        for host in [
            "paypa1.example",
            "paypal-login.example",
            "securepaypal.top",
            "paypal.com.example.net",
            "micosoft.com",
            "rnicrosoft.com",
            "xn--pypal-4ve.com",
            "netfIix.com",
        ] {
            assert!(brand_of(&host.to_lowercase()).is_some(), "{host}");
        }
        for host in [
            "paypal.com",
            "www.paypal.de",
            "example.com",
            "pineapple.com",
            "mypal.org",
            "softmicro.org",
            "usps.com",
            "amazon.co.uk",
            "binary.org",
        ] {
            assert_eq!(brand_of(host), None, "{host}");
        }
    }

    #[test]
    fn edits() {
        assert!(
            one_edit(b"example", b"exampel") && one_edit(b"exmple", b"example") && one_edit(b"exbmple", b"example")
        );
        assert!(!one_edit(b"example", b"example") && !one_edit(b"exbmqle", b"example"));
    }
}
