//! Where links lead, and what they show.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::analysis::Code;
use crate::analysis::brands::BRANDS;
use crate::analysis::hosts;
use crate::analysis::signal::Signals;
use crate::analysis::view::View;
use crate::mail::{Link, LinkKind, registrable_domain};

/// Links looked at one by one; beyond, a message is bulk and more of the same.
const MAX_LINKS: usize = 200;

pub(super) fn detect(view: &View<'_>, out: &mut Signals) {
    let recipients: Vec<String> = view.recipients.iter().take(5).map(|r| r.to_string().to_lowercase()).collect();
    for link in view.links.iter().take(MAX_LINKS) {
        shown(view, link, out);
        host(view, link, out);
        if !link.shown.is_empty() || link.kind == LinkKind::Plain {
            recipient(link, &recipients, out);
        }
    }
    for link in view.input.message.links().iter().filter(|l| l.kind.is_followed()).take(MAX_LINKS) {
        let page = link.text.get(..14).is_some_and(|start| start.eq_ignore_ascii_case("data:text/html"));
        if matches!(link.scheme(), "javascript" | "vbscript" | "blob") || page {
            out.add(Code::LinkScriptOrData, 1.0, link.scheme());
        }
    }
    all(view, out);
}

fn shown(view: &View<'_>, link: &Link, out: &mut Signals) {
    if !matches!(link.kind, LinkKind::Anchor | LinkKind::Area) {
        return;
    }
    let (Some(shown), Some(target)) = (link.shown_host(), link.registrable()) else { return };
    let Some(shown_domain) = registrable_domain(&shown) else { return };
    if shown_domain == target {
        return;
    }
    let evidence = format!("{shown} leads to {}", link.host().unwrap_or_default());
    let brand = BRANDS.iter().find(|b| b.owns(&shown));
    match brand.filter(|b| link.host().is_none_or(|h| !b.owns(h))) {
        Some(_) if view.from_domain != shown_domain => out.add(Code::LinkBrandMismatch, 1.0, evidence),
        // Newsletters count clicks: the sender's own name shown, a service's host behind it.
        _ if view.proved == Some(true) => out.add(Code::LinkTextMismatch, 0.3, evidence),
        _ => out.add(Code::LinkTextMismatch, 1.0, evidence),
    }
}

fn host(view: &View<'_>, link: &Link, out: &mut Signals) {
    let Some(url) = &link.url else { return };
    if let Some(ip) = link.ip() {
        if !is_private(ip) {
            out.add(Code::LinkIpHost, 1.0, ip.to_string());
        }
        return;
    }
    let Some(host) = link.host() else { return };
    if !url.username().is_empty() {
        out.add(Code::LinkUserinfo, 1.0, format!("{}@{host}", url.username()));
    }
    if url.port().is_some_and(|port| !matches!(port, 8080 | 8443)) {
        out.add(Code::LinkOddPort, 1.0, format!("{host}:{}", url.port().unwrap_or_default()));
    }
    let senders_own = link.registrable() == Some(view.from_domain);
    if senders_own {
        return;
    }
    if hosts::is_risky_suffix(host) {
        out.add(Code::LinkRiskyTld, 1.0, host);
    }
    if hosts::is_shortener(host) {
        out.add(Code::LinkShortener, 1.0, host);
    }
    if hosts::is_free_hosting(host) {
        out.add(Code::LinkFreeHosting, 1.0, host);
    }
    let carries =
        url.query().is_some_and(|q| q.contains("http") || q.contains("url=") || q.contains("q=") || q.contains("u="));
    if hosts::is_redirector(host, url.path()) && carries {
        out.add(Code::LinkRedirector, 1.0, host);
    }
    let label = link.registrable().and_then(|d| d.split('.').next()).unwrap_or_default();
    if hosts::looks_random(label) {
        out.add(Code::LinkRandomHost, 1.0, host);
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    }
}

/// The recipient's address in the link, plain or in base64: to fill in a form beforehand. Unsubscribing needs it too.
fn recipient(link: &Link, recipients: &[String], out: &mut Signals) {
    let text = link.text.to_lowercase();
    let leaving =
        ["unsub", "optout", "opt-out", "abmelde", "preferences", "remove", "subscription", "newsletter", "list"];
    let shown = link.shown.to_lowercase();
    if leaving.iter().any(|word| text.contains(word) || shown.contains(word)) || shown.contains('@') {
        return;
    }
    for address in recipients {
        let encoded = STANDARD_NO_PAD.encode(address);
        let plain = text.contains(address.as_str()) || text.contains(&address.replace('@', "%40"));
        if plain || (encoded.len() > 8 && link.text.contains(&encoded)) {
            out.add(Code::LinkRecipient, 1.0, link.host().unwrap_or_default());
        }
    }
}

/// All links of a message that asks to click lead to one domain that has nothing to do with the sender.
fn all(view: &View<'_>, out: &mut Signals) {
    let anchors: Vec<&str> = view
        .links
        .iter()
        .filter(|l| matches!(l.kind, LinkKind::Anchor | LinkKind::Area))
        .filter_map(|l| l.registrable())
        .collect();
    let Some(first) = anchors.first() else { return };
    let foreign = *first != view.from_domain && !view.input.site.owns(first);
    let tied = view.dkim_pass(|d| registrable_domain(d) == Some(first))
        || view.envelope_from.as_ref().is_some_and(|e| registrable_domain(&e.domain) == Some(first));
    if foreign && !tied && !view.is_reply() && anchors.iter().all(|domain| domain == first) {
        out.add(Code::LinkForeignOnly, 1.0, *first);
    }
}
