//! From the verdicts of all recipients to one answer that the door can carry out.
//!
//! If all agree on reject, the message is refused. Otherwise it goes to those that are allowed it and is held for the rest:
//! nobody gets a bounce. Where the door cannot leave single recipients out, a message that one of them must not get is held
//! for all of them.

use super::{Abilities, Refusal};
use crate::mail::{Edit, Message, MessageId};
use crate::policy::{Action, HoldIn, Judgement, Reason, Verdict};
use crate::records::RecipientVerdict;

/// What is done with the message as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    Deliver {
        /// Places of the recipients that it is held for.
        held: Vec<usize>,
        /// What the subject is tagged with.
        tag: Option<String>,
    },
    Hold,
    HoldAtMta,
    Reject,
}

impl Decision {
    pub(super) fn action(&self) -> Action {
        match self {
            Self::Deliver { tag: None, .. } => Action::Allow,
            Self::Deliver { tag: Some(_), .. } => Action::Tag,
            Self::Hold | Self::HoldAtMta => Action::Quarantine,
            Self::Reject => Action::Reject,
        }
    }
}

pub(super) fn combine(judgement: &Judgement, abilities: Abilities) -> Decision {
    let verdicts = &judgement.verdicts;
    let delivered = |action: Action| matches!(action, Action::Allow | Action::Tag);
    if !verdicts.is_empty() && verdicts.iter().all(|(_, verdict)| verdict.action == Action::Reject) {
        return Decision::Reject;
    }
    let held: Vec<usize> =
        verdicts.iter().enumerate().filter(|(_, (_, v))| !delivered(v.action)).map(|(place, _)| place).collect();
    if held.is_empty() || (held.len() < verdicts.len() && abilities.drop_recipients) {
        let tag = verdicts.iter().find(|(_, v)| v.action == Action::Tag);
        return Decision::Deliver { held, tag: tag.map(|(tenant, _)| tenant.thresholds.subject_tag.clone()) };
    }
    let at_mta = held.len() == verdicts.len() && verdicts.iter().all(|(t, _)| t.thresholds.hold_in == HoldIn::Mta);
    if at_mta && abilities.hold_at_mta { Decision::HoldAtMta } else { Decision::Hold }
}

/// Holds what would have been passed on although a service that must be asked was not.
pub(super) fn hold_unasked(judgement: &mut Judgement, recorded: &mut [RecipientVerdict]) {
    hold_passed(judgement, recorded, &Reason::Unasked, |_| true);
}

/// Holds what would have been passed on until it has been looked at again, for those recipients that wait.
pub(super) fn hold_waiting(judgement: &mut Judgement, recorded: &mut [RecipientVerdict], waits: &[bool]) {
    hold_passed(judgement, recorded, &Reason::Waiting, |place| waits.get(place).copied().unwrap_or(false));
}

fn hold_passed(
    judgement: &mut Judgement,
    recorded: &mut [RecipientVerdict],
    reason: &Reason,
    those: impl Fn(usize) -> bool,
) {
    let decided = judgement.verdicts.iter_mut().map(|(_, verdict)| verdict).enumerate();
    for (place, verdict) in decided.chain(recorded.iter_mut().map(|one| &mut one.verdict).enumerate()) {
        if those(place) && matches!(verdict.action, Action::Allow | Action::Tag) {
            *verdict = Verdict { action: Action::Quarantine, reason: reason.clone() };
        }
    }
}

/// Adds the tag to the subject.
pub(super) fn tagged(mut edits: Vec<Edit>, message: &Message, tag: Option<&str>) -> Vec<Edit> {
    let Some(tag) = tag.filter(|tag| !tag.is_empty()) else { return edits };
    let tag = if tag.is_ascii() { tag.to_owned() } else { encoded_word(tag) };
    edits.push(match message.header("Subject") {
        Some(subject) => {
            // What stands there stays as it is, encoded words and folds too.
            let old = String::from_utf8_lossy(subject.raw).replace('\r', "");
            Edit::Replace { name: "Subject".into(), occurrence: 1, value: format!("{tag}{}", old.trim_start()) }
        }
        None => Edit::Prepend { name: "Subject".into(), value: tag.trim_end().to_owned() },
    });
    edits
}

/// RFC 2047; a tag is far shorter than the 75 characters of one word.
fn encoded_word(text: &str) -> String {
    use base64::Engine;
    format!("=?utf-8?B?{}?= ", base64::engine::general_purpose::STANDARD.encode(text))
}

impl Refusal {
    /// 550 5.7.1: refused by policy.
    pub(super) fn refused(id: MessageId) -> Self {
        Self { code: 550, enhanced: [5, 7, 1], text: format!("Message refused by policy, reference {id}") }
    }

    /// 451 4.3.0: cannot be held now.
    pub(super) fn store(id: MessageId) -> Self {
        Self {
            code: 451,
            enhanced: [4, 3, 0],
            text: format!("Temporary failure, please try again later, reference {id}"),
        }
    }

    /// 451 4.7.1: cannot be judged now.
    pub(super) fn later(id: MessageId) -> Self {
        Self { code: 451, enhanced: [4, 7, 1], text: format!("Please try again later, reference {id}") }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::{Score, Tenant, Thresholds};

    fn judgement(actions: &[Action], hold_in: HoldIn) -> Judgement {
        let thresholds = Thresholds { hold_in, ..Thresholds::default() };
        let tenant = Arc::new(Tenant { name: "t".into(), thresholds });
        let verdict = |action: &Action| (Arc::clone(&tenant), Verdict { action: *action, reason: Reason::Score });
        Judgement {
            score: Score { risk: 0.0, log_odds: 0.0, bias: 0.0, terms: Vec::new(), rules: Vec::new() },
            verdicts: actions.iter().map(verdict).collect(),
        }
    }

    #[test]
    fn table() {
        use Action::{Allow, Quarantine, Reject, Tag};
        let all = Abilities { edit_headers: true, drop_recipients: true, hold_at_mta: true };
        let none = Abilities { edit_headers: false, drop_recipients: false, hold_at_mta: false };
        let deliver = |held: &[usize], tag: bool| Decision::Deliver {
            held: held.to_vec(),
            tag: tag.then(|| Thresholds::default().subject_tag),
        };
        let cases: [(&[Action], HoldIn, Abilities, Decision); 11] = [
            (&[Allow], HoldIn::Store, all, deliver(&[], false)),
            (&[Allow, Tag], HoldIn::Store, all, deliver(&[], true)),
            (&[Reject, Reject], HoldIn::Store, all, Decision::Reject),
            (&[Reject, Allow], HoldIn::Store, all, deliver(&[0], false)),
            (&[Allow, Quarantine, Reject], HoldIn::Store, all, deliver(&[1, 2], false)),
            (&[Reject, Quarantine], HoldIn::Store, all, Decision::Hold),
            (&[Quarantine], HoldIn::Mta, all, Decision::HoldAtMta),
            (&[Quarantine], HoldIn::Mta, none, Decision::Hold),
            (&[Quarantine, Allow], HoldIn::Mta, none, Decision::Hold),
            (&[Reject, Allow], HoldIn::Store, none, Decision::Hold),
            (&[], HoldIn::Store, all, deliver(&[], false)),
        ];
        for (actions, hold_in, abilities, expected) in cases {
            assert_eq!(
                combine(&judgement(actions, hold_in), abilities),
                expected,
                "{actions:?} {hold_in:?} {abilities:?}"
            );
        }
    }
}
