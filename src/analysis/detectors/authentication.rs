//! SPF, DKIM and DMARC as evidence. What is not known says nothing but that it is not known.

use crate::analysis::signal::Signals;
use crate::analysis::view::View;
use crate::analysis::{Code, DkimResult, DmarcPolicy, DmarcResult, SpfResult};
use crate::mail::registrable_domain;

pub(super) fn detect(view: &View<'_>, out: &mut Signals) {
    if view.input.connection.login.is_some() {
        // Our own users' mail is not authenticated from outside.
        return;
    }
    let facts = view.input.facts;
    let trusted = facts.arc.known().is_some_and(|arc| arc.trusted_pass);
    if trusted {
        return;
    }
    let proved = view.proved == Some(true);
    // A forwarder breaks SPF; a signature that still holds outweighs it.
    let half = if proved { 0.2 } else { 1.0 };
    let spf = facts.spf.known();
    if let Some(spf) = spf {
        match spf.result {
            SpfResult::Fail => out.add(Code::SpfFail, half, &spf.domain),
            SpfResult::SoftFail => out.add(Code::SpfSoftfail, half, &spf.domain),
            SpfResult::None | SpfResult::PermError if !proved => out.add(Code::SpfNone, 1.0, &spf.domain),
            _ => {}
        }
    }
    if let Some(list) = facts.dkim.known() {
        let own = |domain: &str| registrable_domain(domain) == Some(view.from_domain);
        let good = list.iter().any(|s| s.result == DkimResult::Pass);
        if let Some(bad) = list.iter().find(|s| s.result == DkimResult::Fail && own(&s.domain))
            && !good
        {
            out.add(Code::DkimFail, half, &bad.domain);
        }
        // A signature whose key could not be asked for may be a good one.
        let unasked = list.iter().any(|s| s.result == DkimResult::TempError);
        if !good && !unasked {
            out.add(Code::DkimNone, half, "");
        }
    }
    if let Some(dmarc) = facts.dmarc.known()
        && dmarc.result == DmarcResult::Fail
    {
        match dmarc.policy {
            DmarcPolicy::Quarantine | DmarcPolicy::Reject => out.add(Code::DmarcFailStrict, 1.0, &dmarc.domain),
            DmarcPolicy::None | DmarcPolicy::Unspecified => out.add(Code::DmarcFail, 1.0, &dmarc.domain),
        }
    }
    if let (Some(spf), Some(list)) = (spf, facts.dkim.known())
        && !matches!(spf.result, SpfResult::Pass | SpfResult::TempError)
        && list.iter().all(|s| !matches!(s.result, DkimResult::Pass | DkimResult::TempError))
    {
        out.add(Code::NoAuthentication, 1.0, "");
    }
    let unknown: Vec<&str> = facts.authentication_unknowns().map(|(name, _)| name).collect();
    if !unknown.is_empty() {
        out.add(Code::AuthUnknown, 1.0, unknown.join(", "));
    }
}
