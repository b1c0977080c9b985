//! Kinds of hosts and domains that say something about mail: free mailboxes, free hosting, shorteners, redirectors,
//! abused suffixes. General knowledge, written by us; none is fitted on any mail.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use crate::mail::registrable_domain;

/// Providers where anybody gets a mailbox; `gmx.` stands for every suffix.
const FREE_MAIL: &[&str] = &[
    "gmail.com",
    "googlemail.com",
    "outlook.",
    "hotmail.",
    "live.",
    "msn.com",
    "yahoo.",
    "ymail.com",
    "rocketmail.com",
    "aol.",
    "icloud.com",
    "me.com",
    "mac.com",
    "gmx.",
    "web.de",
    "freenet.de",
    "t-online.de",
    "mail.com",
    "mail.ru",
    "bk.ru",
    "inbox.ru",
    "list.ru",
    "yandex.",
    "ya.ru",
    "rambler.ru",
    "proton.me",
    "protonmail.com",
    "pm.me",
    "tutanota.com",
    "tuta.io",
    "zoho.com",
    "zohomail.eu",
    "qq.com",
    "163.com",
    "126.com",
    "sina.com",
    "naver.com",
    "daum.net",
    "libero.it",
    "virgilio.it",
    "tiscali.it",
    "alice.it",
    "orange.fr",
    "wanadoo.fr",
    "free.fr",
    "laposte.net",
    "sfr.fr",
    "bluewin.ch",
    "ziggo.nl",
    "kpnmail.nl",
    "home.nl",
    "uol.com.br",
    "bol.com.br",
    "terra.com.br",
    "ig.com.br",
    "wp.pl",
    "o2.pl",
    "onet.pl",
    "interia.pl",
    "seznam.cz",
    "centrum.cz",
    "comcast.net",
    "verizon.net",
    "att.net",
    "sbcglobal.net",
    "cox.net",
    "btinternet.com",
    "sky.com",
    "rediffmail.com",
    "inbox.lv",
    "usa.com",
    "email.com",
    "consultant.com",
    "accountant.com",
    "aliyun.com",
    "hushmail.com",
    "fastmail.com",
    "mailfence.com",
];

/// Suffixes whose names are mostly bought to be thrown away.
const RISKY_SUFFIXES: &[&str] = &[
    "top", "xyz", "icu", "click", "buzz", "cyou", "cfd", "sbs", "monster", "rest", "quest", "bond", "beauty", "hair",
    "makeup", "skin", "mom", "lol", "pics", "shop", "store", "online", "site", "website", "space", "fun", "live",
    "best", "win", "bid", "loan", "date", "racing", "review", "stream", "gdn", "men", "party", "trade", "cam", "surf",
    "autos", "boats", "yachts", "homes", "lat", "vip", "work", "link", "zip", "mov", "tk", "ml", "ga", "cf", "gq",
    "pw", "su", "rip", "today", "life", "live", "world", "ru.com", "sa.com", "za.com", "in.net", "us.com", "eu.com",
    "uk.com", "cn.com", "br.com", "casa", "uno", "bar",
];

/// Hosts under which anybody puts up pages; a name or one with anything in front.
const FREE_HOSTING: &[&str] = &[
    "weebly.com",
    "wixsite.com",
    "wixstudio.io",
    "web.app",
    "firebaseapp.com",
    "r2.dev",
    "pages.dev",
    "workers.dev",
    "blogspot.com",
    "github.io",
    "gitlab.io",
    "glitch.me",
    "herokuapp.com",
    "netlify.app",
    "vercel.app",
    "azurewebsites.net",
    "azureedge.net",
    "web.core.windows.net",
    "blob.core.windows.net",
    "onrender.com",
    "surge.sh",
    "000webhostapp.com",
    "ngrok.io",
    "ngrok-free.app",
    "trycloudflare.com",
    "square.site",
    "godaddysites.com",
    "myshopify.com",
    "webflow.io",
    "jimdosite.com",
    "strikingly.com",
    "yolasite.com",
    "repl.co",
    "replit.app",
    "ipfs.io",
    "dweb.link",
    "cf-ipfs.com",
    "ipfs.dweb.link",
    "fleek.co",
    "backblazeb2.com",
    "s3.amazonaws.com",
    "digitaloceanspaces.com",
    "storage.googleapis.com",
    "sites.google.com",
    "docs.google.com",
    "drive.google.com",
    "forms.gle",
    "forms.office.com",
    "typeform.com",
    "jotform.com",
    "notion.site",
    "canva.site",
    "framer.app",
    "framer.website",
    "carrd.co",
    "linktr.ee",
    "appspot.com",
    "duckdns.org",
    "ddns.net",
    "sharepoint.com",
    "wordpress.com",
    "zyrosite.com",
    "ukit.me",
    "webnode.page",
    "ghost.io",
    "codesandbox.io",
    "run.app",
    "cloudfront.net",
    "translate.goog",
    "script.google.com",
    "cprapid.com",
    "mystrikingly.com",
    "plesk.page",
    "linodeobjects.com",
];

const SHORTENERS: &[&str] = &[
    "bit.ly",
    "tinyurl.com",
    "t.co",
    "goo.gl",
    "ow.ly",
    "is.gd",
    "v.gd",
    "buff.ly",
    "rebrand.ly",
    "cutt.ly",
    "shorturl.at",
    "rb.gy",
    "tiny.cc",
    "t.ly",
    "s.id",
    "bl.ink",
    "lnkd.in",
    "soo.gd",
    "clck.ru",
    "qrco.de",
    "l.ead.me",
    "urlz.fr",
    "surl.li",
    "u.to",
    "short.gy",
    "linkr.bio",
    "shorter.me",
    "me2.kr",
    "bitly.ws",
    "n9.cl",
    "acesse.dev",
    "encurtador.com.br",
    "kutt.it",
    "dub.sh",
    "tr.ee",
    "x.gd",
    "linktr.ee",
    "t.me",
    "wa.me",
    "g.page",
    "page.link",
    "app.link",
    "shrtco.de",
    "2no.co",
    "grabify.link",
    "q-r.to",
];

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
    RISKY_SUFFIXES.iter().for_each(|name| kinds.entry(*name).or_default().risky_suffix = true);
    FREE_HOSTING.iter().for_each(|name| kinds.entry(*name).or_default().free_hosting = true);
    SHORTENERS.iter().for_each(|name| kinds.entry(*name).or_default().shortener = true);
    kinds
});

/// Whole domains, and first labels that stand for every suffix.
static FREE_MAIL_NAMES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| FREE_MAIL.iter().copied().collect());

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
    // The label with its dot is how such an entry is written.
    let label = domain.split_inclusive('.').next().unwrap_or_default();
    FREE_MAIL_NAMES.contains(domain) || FREE_MAIL_NAMES.contains(label)
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
