//! The machine it came from and the software that made it.

use std::net::IpAddr;

use crate::analysis::Code;
use crate::analysis::hosts;
use crate::analysis::signal::Signals;
use crate::analysis::view::View;

pub(super) fn detect(view: &View<'_>, out: &mut Signals) {
    if view.input.connection.login.is_none() {
        client(view, out);
    }
    made_by(view, out);
    recipients(view, out);
}

fn client(view: &View<'_>, out: &mut Signals) {
    let connection = view.input.connection;
    if let Some(helo) = connection.helo.as_deref() {
        let bare = helo.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        let host =
            helo.contains('.') && helo.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        let own = connection.receiver.as_deref().is_some_and(|r| r.eq_ignore_ascii_case(helo));
        let private =
            connection.client_ip.is_some_and(|ip| matches!(ip, IpAddr::V4(v4) if v4.is_private() || v4.is_loopback()));
        if private {
            return;
        }
        if own || view.input.site.owns(&helo.to_lowercase()) {
            out.add(Code::HeloOurs, 1.0, helo);
        } else if bare || !host || helo.ends_with(".local") || helo.ends_with(".localdomain") {
            out.add(Code::HeloInvalid, if bare || !host { 1.0 } else { 0.7 }, helo);
        }
    }
    let name = connection.client_name.as_deref().or(connection.helo.as_deref()).unwrap_or_default().to_lowercase();
    if hosts::is_dynamic_name(&name) && name.parse::<IpAddr>().is_err() && view.proved != Some(true) {
        out.add(Code::ClientDynamic, 1.0, name);
    }
}

fn made_by(view: &View<'_>, out: &mut Signals) {
    let message = view.input.message;
    match message.message_id() {
        None => out.add(Code::MessageIdMissing, 1.0, ""),
        Some(id) => {
            let host = id.rsplit_once('@').map_or("", |(_, host)| host);
            let odd = host.is_empty()
                || matches!(host, "localhost" | "localhost.localdomain")
                || host.contains(char::is_whitespace);
            if odd {
                out.add(Code::MessageIdOdd, 1.0, id);
            }
        }
    }
    match (message.date(), message.header("Date")) {
        (None, _) => out.add(Code::DateOdd, 1.0, "none that can be read"),
        // Before mail, or so far in the future that it sorts on top for ever. `now` is not known here.
        (Some(date), _) if !(315_532_800..4_102_444_800).contains(&date) => {
            out.add(Code::DateOdd, 1.0, date.to_string())
        }
        _ => {}
    }
    let script =
        ["X-PHP-Script", "X-PHP-Originating-Script", "X-PHP-Filename"].iter().find_map(|name| message.header(name));
    let mailer = message.header("X-Mailer").map(|f| f.text()).unwrap_or_default();
    if let Some(field) = script {
        out.add(Code::ScriptMailer, 1.0, field.text());
    } else if ["PHPMailer", "Leaf PHP", "PHP/", "SwiftMailer"].iter().any(|name| mailer.contains(name)) {
        out.add(Code::ScriptMailer, 0.6, mailer);
    }
}

fn recipients(view: &View<'_>, out: &mut Signals) {
    let message = view.input.message;
    let listed = ["List-Id", "List-Unsubscribe", "List-Post"].iter().any(|name| message.header(name).is_some());
    if view.recipients.is_empty() || listed || message.is_reply() {
        return;
    }
    let named: Vec<_> = message.to().into_iter().chain(message.cc()).filter_map(|m| m.address).collect();
    let same = |a: &crate::mail::Address| {
        view.recipients.iter().any(|r| r.domain == a.domain && r.local.eq_ignore_ascii_case(&a.local))
    };
    if !named.iter().any(same) {
        // An alias hides the same way as a blind copy: weak, unless nobody at all is named.
        if hosts::is_free_mail(view.from_host) {
            out.add(Code::FreemailToHidden, 1.0, view.from_host);
        }
        out.add(Code::RecipientHidden, if named.is_empty() { 1.0 } else { 0.6 }, "");
    }
}
