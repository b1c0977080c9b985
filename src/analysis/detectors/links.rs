//! Where links lead, and what they show.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use memchr::memmem::{self, Finder};

use crate::analysis::Code;
use crate::analysis::brands::owners;
use crate::analysis::hosts;
use crate::analysis::signal::Signals;
use crate::analysis::view::{Followed, View};
use crate::mail::{Address, Link, LinkKind, registrable_domain};

/// Links looked at one by one; beyond, a message is bulk and more of the same.
const MAX_LINKS: usize = 200;

pub(super) fn detect(view: &View<'_>, out: &mut Signals) {
    let recipients: Vec<Recipient> = view.recipients.iter().take(5).map(Recipient::new).collect();
    for link in view.links.iter().take(MAX_LINKS) {
        shown(view, link, out);
        host(view, link, out);
        if !link.link.shown.is_empty() || link.link.kind == LinkKind::Plain {
            recipient(link.link, &recipients, out);
        }
    }
    for link in view.input.message.links().iter().filter(|l| l.kind.is_followed()).take(MAX_LINKS) {
        let page = link.text.get(..14).is_some_and(|start| start.eq_ignore_ascii_case("data:text/html"));
        if matches!(link.scheme(), "javascript" | "vbscript" | "blob") || page {
            out.add(Code::LinkScriptOrData, 1.0, link.scheme());
        }
    }
    for host in view.codes {
        out.add(Code::QrLink, 1.0, host);
    }
    all(view, out);
}

fn shown(view: &View<'_>, followed: &Followed<'_>, out: &mut Signals) {
    let (link, host) = (followed.link, view.host(followed));
    if !matches!(link.kind, LinkKind::Anchor | LinkKind::Area) {
        return;
    }
    let (Some(shown), Some(target)) = (link.shown_host(), host.domain) else { return };
    let Some(shown_domain) = registrable_domain(&shown) else { return };
    if shown_domain == target {
        return;
    }
    let evidence = format!("{shown} leads to {}", host.name);
    let brand = owners(&shown, Some(shown_domain)).first();
    match brand.filter(|place| !host.owners.contains(*place)) {
        Some(_) if view.from_domain != shown_domain => out.add(Code::LinkBrandMismatch, 1.0, evidence),
        // Newsletters count clicks: the sender's own name shown, a service's host behind it.
        _ if view.proved == Some(true) => out.add(Code::LinkTextMismatch, 0.3, evidence),
        _ => out.add(Code::LinkTextMismatch, 1.0, evidence),
    }
}

fn host(view: &View<'_>, followed: &Followed<'_>, out: &mut Signals) {
    let (link, domain) = (followed.link, view.host(followed).domain);
    let Some(url) = &link.url else { return };
    if let Some(ip) = link.ip() {
        if !is_private(ip) {
            out.add(Code::LinkIpHost, 1.0, ip.to_string());
        }
        return;
    }
    let host = view.host(followed).name;
    if !url.username().is_empty() {
        out.add(Code::LinkUserinfo, 1.0, format!("{}@{host}", url.username()));
    }
    if url.port().is_some_and(|port| !matches!(port, 8080 | 8443)) {
        out.add(Code::LinkOddPort, 1.0, format!("{host}:{}", url.port().unwrap_or_default()));
    }
    let senders_own = domain == Some(view.from_domain);
    if senders_own {
        return;
    }
    // What the host alone says is said once.
    if followed.first {
        for (is, code) in [
            (hosts::is_risky_suffix(host), Code::LinkRiskyTld),
            (hosts::is_shortener(host), Code::LinkShortener),
            (hosts::is_free_hosting(host), Code::LinkFreeHosting),
        ] {
            if is {
                out.add(code, 1.0, host);
            }
        }
    }
    let carries =
        url.query().is_some_and(|q| q.contains("http") || q.contains("url=") || q.contains("q=") || q.contains("u="));
    if carries && hosts::is_redirector(host, url.path()) {
        out.add(Code::LinkRedirector, 1.0, host);
    }
    let label = domain.and_then(|d| d.split('.').next()).unwrap_or_default();
    if followed.first && hosts::looks_random(label) {
        out.add(Code::LinkRandomHost, 1.0, host);
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    }
}

/// A recipient's address as links carry it.
struct Recipient {
    plain: Finder<'static>,
    percent: Finder<'static>,
    base64: String,
}

impl Recipient {
    fn new(address: &Address) -> Self {
        let plain = address.to_string().to_lowercase();
        let finder = |text: &str| Finder::new(text).into_owned();
        Self {
            plain: finder(&plain),
            percent: finder(&plain.replace('@', "%40")),
            base64: STANDARD_NO_PAD.encode(&plain),
        }
    }

    /// `lower` is `text` in lower case.
    fn is_in(&self, text: &str, lower: &str) -> bool {
        let plain = self.plain.find(lower.as_bytes()).is_some() || self.percent.find(lower.as_bytes()).is_some();
        plain || (self.base64.len() > 8 && memmem::find(text.as_bytes(), self.base64.as_bytes()).is_some())
    }
}

/// The recipient's address in the link, plain or in base64: to fill in a form beforehand. Unsubscribing needs it too.
fn recipient(link: &Link, recipients: &[Recipient], out: &mut Signals) {
    if recipients.is_empty() {
        return;
    }
    let text = link.text.to_lowercase();
    if !recipients.iter().any(|recipient| recipient.is_in(&link.text, &text)) {
        return;
    }
    let leaving =
        ["unsub", "optout", "opt-out", "abmelde", "preferences", "remove", "subscription", "newsletter", "list"];
    let shown = link.shown.to_lowercase();
    if !leaving.iter().any(|word| text.contains(word) || shown.contains(word)) && !shown.contains('@') {
        out.add(Code::LinkRecipient, 1.0, link.host().unwrap_or_default());
    }
}

/// All links of a message that asks to click lead to one domain that has nothing to do with the sender.
fn all(view: &View<'_>, out: &mut Signals) {
    let anchors: Vec<&str> = view
        .links
        .iter()
        .filter(|l| matches!(l.link.kind, LinkKind::Anchor | LinkKind::Area))
        .filter_map(|l| view.host(l).domain)
        .collect();
    let Some(first) = anchors.first() else { return };
    let foreign = *first != view.from_domain && !view.input.site.owns(first);
    let tied = view.dkim_pass(|d| registrable_domain(d) == Some(first))
        || view.envelope_from.as_ref().is_some_and(|e| registrable_domain(&e.domain) == Some(first));
    if foreign && !tied && !view.is_reply() && anchors.iter().all(|domain| domain == first) {
        out.add(Code::LinkForeignOnly, 1.0, *first);
    }
}
