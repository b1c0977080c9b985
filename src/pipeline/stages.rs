//! What is done with a message when a stage of its judgement failed, as the operator chose; services have choices of their own.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::config::StagesConfig;
use crate::enrichment::OnFailure;
use crate::mail::{FindingKind, Message};
use crate::records::Record;

/// Findings that say that something of the message was not read.
const UNREAD: [FindingKind; 7] = [
    FindingKind::TooManyParts,
    FindingKind::TooDeep,
    FindingKind::HeaderTooLong,
    FindingKind::TooManyHeaders,
    FindingKind::TooManyLinks,
    FindingKind::TooMuchDecoded,
    FindingKind::TooMuchText,
];

/// The stages that may come back, and since when each fails.
#[derive(Debug, Default)]
pub(super) struct Stages {
    down: Mutex<[Option<Instant>; 3]>,
}

impl Stages {
    /// What is done with a message that would be passed on: the strictest of the stages that failed. `deferred`: since when its
    /// sender has been asked to try later.
    pub(super) fn wanted(
        &self,
        config: &StagesConfig,
        record: &Record,
        message: &Message,
        deferred: Duration,
    ) -> OnFailure {
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = Duration::from_secs(config.defer_seconds.into());
        let mut strictest = OnFailure::Open;
        for (since, (chosen, failed)) in down.iter_mut().zip(stages(config, record)) {
            if !failed {
                *since = None;
                continue;
            }
            let waited = since.get_or_insert_with(Instant::now).elapsed().max(deferred) >= patience;
            strictest = strictest.max(if chosen == OnFailure::Defer && waited { OnFailure::Open } else { chosen });
        }
        strictest.max(if holds_unread(config, message) { OnFailure::Closed } else { OnFailure::Open })
    }
}

/// Whether a stage that may come back failed, and mail is held for that.
pub(super) fn holds_failed(config: &StagesConfig, record: &Record) -> bool {
    stages(config, record).into_iter().any(|(chosen, failed)| failed && chosen == OnFailure::Closed)
}

/// Whether the message has more than is read of one, and is held for that. It will be no smaller when it comes again.
pub(super) fn holds_unread(config: &StagesConfig, message: &Message) -> bool {
    config.unread != OnFailure::Open && message.findings().any(|finding| UNREAD.contains(&finding.kind))
}

/// What is chosen for each stage that may come back, and whether it failed.
fn stages(config: &StagesConfig, record: &Record) -> [(OnFailure, bool); 3] {
    let (mut sender_auth, mut history, mut rules) = (false, false, false);
    for one in &record.degraded {
        match one.split_once('=').map_or(one.as_str(), |(what, _)| what) {
            "spf_helo" | "spf" | "dkim" | "dmarc" | "arc" => sender_auth = true,
            "history" => history = true,
            "rules" => rules = true,
            _ => {}
        }
    }
    [(config.sender_auth, sender_auth), (config.history, history), (config.rules, rules)]
}
