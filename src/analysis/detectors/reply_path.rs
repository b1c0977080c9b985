//! Where answers and bounces go.

use crate::analysis::Code;
use crate::analysis::hosts::is_free_mail;
use crate::analysis::signal::Signals;
use crate::analysis::view::View;
use crate::mail::registrable_domain;

pub(super) fn detect(view: &View<'_>, out: &mut Signals) {
    let says_so = ["re:", "aw:", "sv:", "antw:", "res:"].iter().any(|p| view.subject_lower.trim_start().starts_with(p));
    if says_so && !view.input.message.is_reply() {
        out.add(Code::FalseReply, 1.0, "");
    }
    if view.from_domain.is_empty() {
        return;
    }
    reply_to(view, out);
    envelope(view, out);
}

fn reply_to(view: &View<'_>, out: &mut Signals) {
    // A list sets Reply-To to itself: answers go where the message came from.
    let listed = view.input.message.header("List-Id").is_some();
    for mailbox in view.input.message.reply_to().iter().take(20) {
        let Some(address) = &mailbox.address else { continue };
        let Some(domain) = registrable_domain(&address.domain) else { continue };
        let known = view.recipients.contains(address);
        if listed || known || view.input.site.owns(&address.domain) {
            continue;
        }
        let from_free = is_free_mail(view.from_domain);
        if domain == view.from_domain {
            let other_mailbox = from_free && view.from.is_some_and(|f| !f.local.eq_ignore_ascii_case(&address.local));
            if other_mailbox {
                out.add(Code::ReplyToOtherFreemail, 0.8, address.to_string());
            }
        } else if is_free_mail(domain) {
            let code = if from_free { Code::ReplyToOtherFreemail } else { Code::ReplyToFreemail };
            out.add(code, 1.0, address.to_string());
        } else {
            // Newsletters have their answers read elsewhere; a proved sender says where.
            out.add(Code::ReplyToOtherDomain, if view.proved == Some(true) { 0.3 } else { 1.0 }, address.to_string());
        }
    }
}

fn envelope(view: &View<'_>, out: &mut Signals) {
    match &view.envelope_from {
        Some(sender) => {
            let other = registrable_domain(&sender.domain).is_some_and(|domain| domain != view.from_domain);
            if other && view.proved != Some(true) && view.input.message.header("List-Id").is_none() {
                out.add(Code::EnvelopeOtherDomain, 1.0, format!("{} for {}", sender.domain, view.from_host));
            }
        }
        None if view.input.envelope.sender.is_null() => {
            let message = view.input.message;
            let report = message.parts().first().is_some_and(|p| p.content_type.value == "multipart/report");
            let automatic = ["Auto-Submitted", "X-Autoreply", "X-Auto-Response-Suppress", "X-Failed-Recipients"];
            let local = view.from.map(|f| f.local.to_lowercase()).unwrap_or_default();
            let daemon = ["mailer-daemon", "postmaster", "noreply", "no-reply"].iter().any(|name| local.contains(name));
            // A file has no envelope at all.
            let conversed = view.input.connection.client_ip.is_some();
            if conversed && !report && !daemon && automatic.iter().all(|name| message.header(name).is_none()) {
                out.add(Code::NullSenderNoBounce, 1.0, "");
            }
        }
        None => {}
    }
}
