//! Whether others got the same, from whom and to whom. Newsletters of one proved, known sender say nothing; nor do answers.

use crate::analysis::signal::Signals;
use crate::analysis::view::View;
use crate::analysis::{Code, Prevalence};

pub(super) fn detect(view: &View<'_>, out: &mut Signals) {
    let (facts, limits) = (view.input.facts, &view.input.site.campaigns);
    let Some(campaign) = facts.campaign.known().filter(|one| one.messages >= limits.members.max(2)) else { return };
    let proved = view.proved == Some(true);
    let ours = view.is_own() || view.input.connection.login.is_some();
    // A report or an answer written by a program is the same everywhere.
    let program =
        view.input.envelope.sender.is_null() || (proved && view.input.message.header("Auto-Submitted").is_some());
    if ours || program || (proved && view.is_reply()) {
        return;
    }
    let profile = facts.history.known().and_then(|history| history.by_sender_email.as_ref());
    let new = profile.map(|profile| profile.prevalence == Prevalence::New);
    let evidence =
        format!("{} messages, {} senders, {} recipients", campaign.messages, campaign.senders, campaign.recipients);
    if campaign.senders >= limits.senders.max(2) {
        match (proved, new) {
            // Whom we know writes what others write too: invitations, forms, disclaimers.
            (true, Some(false) | None) => {}
            (true, Some(true)) => out.add(Code::Campaign, 0.5, evidence),
            (false, _) => out.add(Code::Campaign, 1.0, evidence),
        }
    } else if campaign.recipients >= limits.recipients.max(2) && new == Some(true) && !is_list(view, proved) {
        out.add(Code::Campaign, if proved { 0.3 } else { 0.7 }, evidence);
    }
}

/// Mail of a list or newsletter that says so and is proved.
fn is_list(view: &View<'_>, proved: bool) -> bool {
    let message = view.input.message;
    proved && (message.header("List-Id").is_some() || message.header("List-Unsubscribe").is_some())
}
