//! What speaks for a message. Only what a stranger cannot write: proof, a login; the thread and the list only beside it.

use crate::analysis::Code;
use crate::analysis::brands::BRANDS;
use crate::analysis::hosts::{is_free_hosting, is_free_mail};
use crate::analysis::signal::Signals;
use crate::analysis::view::View;
use crate::mail::LinkKind;

pub(super) fn detect(view: &View<'_>, out: &mut Signals) {
    let message = view.input.message;
    if let Some(login) = &view.input.connection.login {
        out.add(Code::LoggedIn, 1.0, login);
    }
    if let Some(arc) = view.input.facts.arc.known()
        && arc.trusted_pass
    {
        out.add(Code::TrustedArc, 1.0, arc.sealer.clone().unwrap_or_default());
    }
    // Anybody can write In-Reply-To; it counts full only with a proved sender.
    let proved = view.proved == Some(true);
    if view.is_reply() {
        out.add(Code::InThread, if view.proved == Some(false) { 0.4 } else { 1.0 }, "");
    }
    if !proved {
        return;
    }
    let anybodys = is_free_mail(view.from_domain) || is_free_hosting(view.from_host);
    // That a free mailbox is really one proves little.
    out.add(Code::AlignedAuthentic, if anybodys { 0.3 } else { 1.0 }, view.from_host);
    if let Some(place) = view.from_owners.first().filter(|_| !anybodys && !shared(view.from_host)) {
        out.add(Code::BrandAuthentic, 1.0, BRANDS[place].name());
    }
    if message.header("List-Id").is_some() || (message.header("List-Unsubscribe").is_some() && !anybodys) {
        out.add(Code::ListMail, 1.0, "");
    }
    let mut anchors = view.links.iter().filter(|l| l.link.kind == LinkKind::Anchor).peekable();
    let any = anchors.peek().is_some();
    if any && !anybodys && anchors.all(|l| view.host(l).domain == Some(view.from_domain)) {
        out.add(Code::LinksOwnDomain, 1.0, view.from_domain);
    }
}

/// Domains of brands under which their customers write.
fn shared(host: &str) -> bool {
    [
        "onmicrosoft.com",
        "amazonses.com",
        "amazonaws.com",
        "sharepoint.com",
        "myshopify.com",
        "secureserver.net",
        "windows.net",
    ]
    .iter()
    .any(|name| host.ends_with(name))
}
