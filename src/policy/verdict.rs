//! Verdict: what is done with a message for one recipient, and why.
//!
//! In this order: test patterns, the operator's block list, malware, the operator's allow list, thresholds. The first that
//! applies decides. An allow entry counts only for a sender that is proven: an address or domain by an aligned pass (From)
//! or an SPF pass (envelope); a network needs no proof, the address of the client is one.

use serde::{Deserialize, Serialize};

use super::entries::List;
use super::gtube::Gtube;
use super::score::Score;
use super::tenant::{MalwareAction, Thresholds};
use crate::analysis::{Code, Facts, SpfResult};
use crate::mail::{Address, Connection};

/// What is done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Passed on.
    Allow,
    /// Passed on with a tagged subject.
    Tag,
    /// Held.
    Quarantine,
    /// Refused for good.
    Reject,
    /// The sender was asked to try later.
    Defer,
}

impl Action {
    /// The word in records, headers, metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Tag => "tag",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
            Self::Defer => "defer",
        }
    }
}

/// Why an action was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The risk reached a threshold, or none.
    Score,
    /// A test pattern.
    Gtube,
    /// An entry of the block list.
    BlockList(String),
    /// An entry of the allow list.
    AllowList(String),
    /// Malware, by this signal.
    Malware(Code),
    /// The judgement broke down again and again.
    Unjudged,
    /// A service that must be asked could not be.
    Unasked,
    /// It waits until it has been looked at again.
    Waiting,
}

/// What is done for one recipient, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What is done.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// What the operator's lists are held against.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'m> {
    /// The client.
    pub connection: &'m Connection,
    /// Envelope sender, unless `<>`.
    pub sender: Option<&'m Address>,
    /// All addresses of all From fields.
    pub from: &'m [Address],
    /// What authentication found.
    pub facts: &'m Facts,
    /// SHA-256 of the attachments, when the lists hold hashes.
    pub hashes: &'m [String],
}

/// What the lists and patterns say; the same for all recipients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Test pattern in the message.
    pub gtube: Option<Gtube>,
    /// Entry of the block list.
    pub blocked: Option<String>,
    /// Entry of the allow list, usable by this sender.
    pub allowed: Option<String>,
}

/// The entry of the block list that covers a message. No proof is needed to be blocked.
pub fn blocked(list: &List, subject: &Subject<'_>) -> Option<String> {
    let by_name = || subject.from.iter().chain(subject.sender).find_map(|address| list.address(address));
    let by_network = || subject.connection.client_ip.and_then(|ip| list.ip(ip));
    let by_hash = || subject.hashes.iter().find_map(|hash| list.hash(hash));
    by_network().or_else(by_name).or_else(by_hash)
}

/// The entry of the allow list that covers a message and may be used by its sender.
pub fn allowed(list: &List, subject: &Subject<'_>) -> Option<String> {
    let by_network = || subject.connection.client_ip.and_then(|ip| list.ip(ip));
    let by_from = || {
        // Several From addresses prove nothing about each other.
        let [from] = subject.from else { return None };
        let proven = subject.facts.proven_from()?;
        (proven == from.domain).then(|| list.address(from)).flatten()
    };
    let by_sender = || {
        let spf = subject.facts.spf.known()?;
        let sender = subject.sender?;
        let passed = spf.result == SpfResult::Pass && spf.domain == sender.domain;
        // The envelope alone must not vouch for somebody else's name in From.
        let same = subject.from.iter().all(|from| from.registrable() == sender.registrable());
        (passed && same).then(|| list.address(sender)).flatten()
    };
    by_network().or_else(by_from).or_else(by_sender)
}

/// Decides for one recipient's tenant.
pub fn verdict(score: &Score, overrides: &Overrides, thresholds: &Thresholds) -> Verdict {
    let decided = |action, reason| Verdict { action, reason };
    match overrides.gtube {
        Some(Gtube::Reject) => return decided(Action::Reject, Reason::Gtube),
        Some(Gtube::Quarantine) => return decided(Action::Quarantine, Reason::Gtube),
        Some(Gtube::Tag) => return decided(Action::Tag, Reason::Gtube),
        None => {}
    }
    if let Some(entry) = &overrides.blocked {
        return decided(Action::Reject, Reason::BlockList(entry.clone()));
    }
    if let Some(malware) = score.terms.iter().find(|term| term.code.is_malware()) {
        let action = match thresholds.malware {
            MalwareAction::Reject => Action::Reject,
            MalwareAction::Quarantine => Action::Quarantine,
        };
        return decided(action, Reason::Malware(malware.code));
    }
    if let Some(entry) = &overrides.allowed {
        return decided(Action::Allow, Reason::AllowList(entry.clone()));
    }
    let action = if score.risk >= thresholds.reject_at {
        Action::Reject
    } else if score.risk >= thresholds.quarantine_at {
        Action::Quarantine
    } else if score.risk >= thresholds.tag_at {
        Action::Tag
    } else {
        Action::Allow
    };
    decided(action, Reason::Score)
}
