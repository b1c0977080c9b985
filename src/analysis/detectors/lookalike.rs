//! Names made to be taken for others: a brand's or ours with a letter changed, added or from another script.

use unicode_security::confusable_detection::skeleton;

use super::identity::odd_word;
use crate::analysis::Code;
use crate::analysis::brands::{BRANDS, Brand};
use crate::analysis::hosts;
use crate::analysis::signal::Signals;
use crate::analysis::view::View;
use crate::mail::registrable_domain;

pub(super) fn detect(view: &View<'_>, out: &mut Signals) {
    let reply_to = view.input.message.reply_to();
    let senders = reply_to.iter().filter_map(|m| m.address.as_ref()).chain(view.from).chain(&view.envelope_from);
    let mut seen: Vec<&str> = Vec::new();
    for host in senders.map(|address| address.domain.as_str()) {
        if seen.contains(&host) || seen.len() > 8 || view.input.site.owns(host) || hosts::is_free_mail(host) {
            continue;
        }
        seen.push(host);
        if let Some(brand) = brand_like(host) {
            out.add(Code::LookalikeSender, 1.0, format!("{host} for {brand}"));
        }
        if let Some(own) = view.input.site.own_domains.iter().find(|own| is_like(label(host), label(own))) {
            out.add(Code::LookalikeOwn, 1.0, format!("{host} for {own}"));
        }
        mixed(host, out);
    }
    let mut seen: Vec<&str> = Vec::new();
    for host in view.links.iter().filter_map(|l| l.host()) {
        if seen.contains(&host) || seen.len() >= 50 {
            continue;
        }
        seen.push(host);
        // A sender's own host that names a partner (`amazon.shop.example`) is the sender's affair.
        let senders_own = registrable_domain(host) == Some(view.from_domain) && view.proved == Some(true);
        if let Some(brand) = brand_like(host).filter(|_| !senders_own) {
            out.add(Code::LookalikeLink, 1.0, format!("{host} for {brand}"));
        }
        mixed(host, out);
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

/// The brand that a host is made to look like; `None` when it is that brand's own.
fn brand_like(host: &str) -> Option<&'static str> {
    let domain = registrable_domain(host)?;
    let (label, front) = (label(domain), host.strip_suffix(domain).unwrap_or_default());
    if BRANDS.iter().any(|b| b.owns(host)) {
        return None;
    }
    let made = |brand: &&Brand| {
        tokens(brand).any(|token| is_like(label, token) || carries(label, token) || in_front(front, token))
    };
    BRANDS.iter().find(made).map(Brand::name)
}

/// The brand's name as it stands in domains, where it is long enough to be no accident.
fn tokens(brand: &Brand) -> impl Iterator<Item = &'static str> {
    let labels = brand.domains.iter().take(3).map(|d| label(d));
    labels.filter(|token| token.len() >= 5 && !ORDINARY.contains(token))
}

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

/// A letter changed, added, left out or swapped, a digit for a letter, or letters that only look the same.
fn is_like(label: &str, token: &str) -> bool {
    let (plain, _) = idna::domain_to_unicode(label);
    if label == token || token.len() < 5 || plain.chars().count().abs_diff(token.len()) > 2 {
        return false;
    }
    let digits = |text: &str| {
        text.replace("vv", "w").replace('0', "o").replace(['1', '!'], "l").replace('3', "e").replace('5', "s")
    };
    let skeleton_of = |text: &str| skeleton(&digits(&text.to_lowercase())).collect::<String>();
    skeleton_of(&plain) == skeleton_of(token) || (token.len() >= 7 && one_edit(label.as_bytes(), token.as_bytes()))
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
    front.split(['.', '-']).any(|piece| piece == token)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert!(brand_like(&host.to_lowercase()).is_some(), "{host}");
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
            assert_eq!(brand_like(host), None, "{host}");
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
