//! The record of a message: everything that led to its verdict, put together once.

use super::{Standing, Transaction};
use crate::analysis::{Contact, Facts, Likeness, Why};
use crate::mail::{Message, Path};
use crate::policy::mql::Capability;
use crate::policy::{Action, Judgement, Reason, RuleFindings, Score, Verdict};
use crate::records::{RecipientVerdict, Record, Timing};

/// Longest subject kept in a record, in characters.
const SUBJECT_CHARS: usize = 500;

/// The record of a judged message; what is done with the whole is not decided yet.
pub(super) fn judged(
    standing: &Standing,
    transaction: &Transaction,
    message: &Message,
    facts: Facts,
    judgement: &Judgement,
    timing: Timing,
) -> Record {
    let verdicts = transaction.envelope.recipients.iter().zip(&judgement.verdicts);
    let verdicts = verdicts.map(|(path, (tenant, verdict))| RecipientVerdict {
        recipient: path.text.clone(),
        tenant: tenant.name.clone(),
        verdict: verdict.clone(),
    });
    let degraded = facts.unknowns().into_iter().filter(|(_, why)| why.is_failure());
    Record {
        id: transaction.id,
        received_ms: unix_millis(transaction.received),
        connection: (*transaction.connection).clone(),
        envelope: transaction.envelope.clone(),
        size: transaction.raw.len() as u64,
        from: message
            .from()
            .iter()
            .map(|mailbox| mailbox.address.as_ref().map_or_else(|| mailbox.text.clone(), ToString::to_string))
            .collect(),
        subject: message.subject().chars().take(SUBJECT_CHARS).collect(),
        header_id: message.message_id().unwrap_or_default(),
        action: Action::Allow,
        verdicts: verdicts.collect(),
        score: judgement.score.clone(),
        degraded: degraded.map(|(what, why)| [what, "=", why.as_str()].concat()).collect(),
        facts,
        findings: message.findings().map(|finding| finding.kind.code().to_owned()).collect(),
        policy_version: standing.judge.version().to_owned(),
        contact: Contact::of(message, &transaction.envelope, &standing.site, own_client(standing, transaction)),
        rules: RuleFindings::default(),
        likeness: None,
        in_campaign: false,
        timing,
        reply: None,
    }
}

/// The record of a message that could not be judged.
pub(super) fn unjudged(standing: &Standing, transaction: &Transaction) -> Record {
    let verdict = |path: &Path| RecipientVerdict {
        recipient: path.text.clone(),
        tenant: standing.judge.tenant(path).name.clone(),
        verdict: Verdict { action: Action::Quarantine, reason: Reason::Unjudged },
    };
    Record {
        id: transaction.id,
        received_ms: unix_millis(transaction.received),
        connection: (*transaction.connection).clone(),
        envelope: transaction.envelope.clone(),
        size: transaction.raw.len() as u64,
        from: Vec::new(),
        subject: String::new(),
        header_id: String::new(),
        action: Action::Quarantine,
        verdicts: transaction.envelope.recipients.iter().map(verdict).collect(),
        score: Score { risk: 0.0, log_odds: 0.0, bias: 0.0, terms: Vec::new(), rules: Vec::new() },
        facts: Facts::unknown(Why::Malformed),
        findings: Vec::new(),
        degraded: vec!["judgement=malformed".into()],
        policy_version: standing.judge.version().to_owned(),
        contact: Contact::default(),
        rules: RuleFindings::default(),
        likeness: None,
        in_campaign: false,
        timing: Timing::default(),
        reply: None,
    }
}

/// The record with its mark, when the rules did not come to their end.
pub(super) fn with_degraded_rules(mut record: Record) -> Record {
    if record.rules.undecided.iter().any(|(why, _)| why == Capability::Budget.as_str()) {
        record.degraded.push("rules=budget".into());
    }
    record
}

/// What the message is compared by with others; none for outgoing mail.
pub(super) fn likeness(standing: &Standing, transaction: &Transaction, message: &Message) -> Option<Likeness> {
    let compared = standing.site.campaigns.enabled && !own_client(standing, transaction);
    compared.then(|| Likeness::of(message, &transaction.envelope, &standing.site.campaigns)).flatten()
}

/// Whether the client is ours: it logged in, or is in a network of ours.
fn own_client(standing: &Standing, transaction: &Transaction) -> bool {
    let connection = &*transaction.connection;
    let own = |ip| standing.own_networks.iter().any(|network| network.contains(ip));
    connection.login.is_some() || connection.client_ip.is_some_and(own)
}

/// Milliseconds since 1970.
pub(super) fn unix_millis(at: std::time::SystemTime) -> i64 {
    let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
