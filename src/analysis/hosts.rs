//! Kinds of hosts and domains that say something about mail: free mailboxes, free hosting, shorteners, redirectors,
//! abused suffixes. General knowledge, written by us; none is fitted on any mail.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use crate::mail::registrable_domain;

// The tables themselves are the built-in lists of `policies/lists`, which rules use too: one source of truth.
const FREE_MAIL: &str = include_str!("../../policies/lists/free_email_providers.txt");
const RISKY_SUFFIXES: &str = include_str!("../../policies/lists/suspicious_tlds.txt");
const FREE_SUBDOMAINS: &str = include_str!("../../policies/lists/free_subdomain_hosts.txt");
const FREE_FILES: &str = include_str!("../../policies/lists/free_file_hosts.txt");
const SHORTENERS: &str = include_str!("../../policies/lists/url_shorteners.txt");

/// Free mail providers under so many national suffixes that their first label stands for all.
const FREE_MAIL_LABELS: &[&str] = &["outlook", "hotmail", "live", "yahoo", "aol", "gmx", "yandex"];

fn entries(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Hosts with a page that passes on to any target given in the query or path.
const REDIRECTORS: &[(&str, &str)] = &[
    ("google.", "/url"),
    ("google.", "/amp"),
    ("googleadservices.com", "/pagead/aclk"),
    ("doubleclick.net", "/"),
    ("bing.com", "/ck/a"),
    ("youtube.com", "/redirect"),
    ("linkedin.com", "/slink"),
    ("linkedin.com", "/redir"),
    ("facebook.com", "/l.php"),
    ("baidu.com", "/link"),
    ("yandex.", "/redir"),
    ("slack-redir.net", "/"),
    ("steamcommunity.com", "/linkfilter"),
    ("vk.com", "/away"),
    ("tiktok.com", "/link"),
    ("medium.com", "/r/"),
];

/// What a name on one of the lists is; a name may be on several.
#[derive(Debug, Clone, Copy, Default)]
struct Kinds {
    risky_suffix: bool,
    free_hosting: bool,
    shortener: bool,
}

static KINDS: LazyLock<HashMap<&'static str, Kinds>> = LazyLock::new(|| {
    let mut kinds: HashMap<_, Kinds> = HashMap::new();
    entries(RISKY_SUFFIXES).for_each(|name| kinds.entry(name).or_default().risky_suffix = true);
    let hosting = entries(FREE_SUBDOMAINS).chain(entries(FREE_FILES));
    hosting.for_each(|name| kinds.entry(name).or_default().free_hosting = true);
    entries(SHORTENERS).for_each(|name| kinds.entry(name).or_default().shortener = true);
    kinds
});

static FREE_MAIL_NAMES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| entries(FREE_MAIL).collect());

/// The name itself and every name above it: `a.b.c`, `b.c`, `c`.
pub(super) fn names_above(host: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(host), |name| name.split_once('.').map(|(_, above)| above))
}

fn is_named(domain: &str, known: &str) -> bool {
    match known.strip_suffix('.') {
        Some(name) => domain.split('.').next() == Some(name),
        None => domain == known,
    }
}

/// Whether anybody gets a mailbox at this domain.
pub(super) fn is_free_mail(domain: &str) -> bool {
    let label = domain.split_once('.').map(|(label, _)| label);
    FREE_MAIL_NAMES.contains(domain) || label.is_some_and(|label| FREE_MAIL_LABELS.contains(&label))
}

/// Whether the domain is under a suffix that is mostly abused.
pub(super) fn is_risky_suffix(host: &str) -> bool {
    let suffixes = names_above(host).filter(|name| host.len() - name.len() > 1);
    suffixes.filter_map(|name| KINDS.get(name)).any(|kinds| kinds.risky_suffix)
}

/// Whether anybody puts up pages under this host.
pub(super) fn is_free_hosting(host: &str) -> bool {
    under(host, |kinds| kinds.free_hosting)
        || host.contains(".s3.")
        || host.contains(".s3-")
        || (host.starts_with("s3.") && host.ends_with("amazonaws.com"))
}

/// Whether the host shortens links.
pub(super) fn is_shortener(host: &str) -> bool {
    under(host, |kinds| kinds.shortener)
}

fn under(host: &str, is: fn(&Kinds) -> bool) -> bool {
    names_above(host).filter_map(|name| KINDS.get(name)).any(is)
}

/// Whether host and path are an open redirector's.
pub(super) fn is_redirector(host: &str, path: &str) -> bool {
    let Some(domain) = registrable_domain(host) else { return false };
    REDIRECTORS.iter().any(|(known, start)| is_named(domain, known) && path.starts_with(start))
}

/// Whether a link does nothing but lead on: to a host that shortens links, or through an open redirector.
pub fn leads_on(url: &url::Url) -> bool {
    url.host_str().is_some_and(|host| is_shortener(host) || is_redirector(host, url.path()))
}

/// Whether a label looks made by chance: long, and with few vowels or many changes between letters and digits.
pub(super) fn looks_random(label: &str) -> bool {
    let letters = label.chars().filter(char::is_ascii_alphabetic).count();
    let digits = label.chars().filter(char::is_ascii_digit).count();
    let vowels = label.chars().filter(|c| "aeiouyAEIOUY".contains(*c)).count();
    if label.len() < 8 || !label.is_ascii() || label.contains(['-', '.', '_', '+', '=']) {
        return false;
    }
    let kind = |c: char| c.is_ascii_digit();
    let changes = label.chars().zip(label.chars().skip(1)).filter(|(a, b)| kind(*a) != kind(*b)).count();
    let run = label.split(|c: char| "aeiouyAEIOUY0123456789".contains(c)).map(str::len).max().unwrap_or(0);
    (changes >= 3 && digits >= 3 && letters >= 3) || (letters >= 9 && vowels * 6 < letters) || run >= 6
}

/// Whether a host's name carries its address or words of dial-up lines.
pub(super) fn is_dynamic_name(name: &str) -> bool {
    let words =
        ["dynamic", "dyn.", "dhcp", "dsl", "pool", "ppp", "cable", "dialup", "broadband", "customer", "static."];
    let numbers = name.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty() && n.len() <= 3).count();
    numbers >= 4 || (numbers >= 2 && words.iter().any(|w| name.contains(w)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        assert!(is_free_mail("gmail.com") && is_free_mail("yahoo.co.jp") && is_free_mail("gmx.net"));
        assert!(!is_free_mail("example.com") && !is_free_mail("gmail.com.example"));
        assert!(is_risky_suffix("a.top") && !is_risky_suffix("top.com") && !is_risky_suffix("laptop"));
        assert!(is_free_hosting("x.web.app") && is_free_hosting("b.s3.eu-west-1.amazonaws.com"));
        assert!(!is_free_hosting("web.app.example") && !is_free_hosting("myweb.app"));
        assert!(is_shortener("bit.ly") && !is_shortener("rabbit.ly"));
        assert!(is_redirector("www.google.co.uk", "/url?q=x") && !is_redirector("www.google.com", "/maps"));
        for random in ["xkqzvbnmtr", "a8f3k2m9q1", "qwrtplkjhgf"] {
            assert!(looks_random(random), "{random}");
        }
        for word in ["newsletter", "support", "johnsmith", "info2024", "no-reply", "jsmith1985", "hauptstrasse"] {
            assert!(!looks_random(word), "{word}");
        }
        assert!(is_dynamic_name("192-0-2-1.dsl.example.net") && is_dynamic_name("p4.3.2.1.dyn.example"));
        assert!(!is_dynamic_name("mail-ua1-f42.google.com") && !is_dynamic_name("mx1.example.org"));
    }
}
