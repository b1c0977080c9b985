//! What judging depends on: one value, replaced whole on reload.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Config, ReassessConfig};
use crate::analysis::Site;
use crate::enrichment::{SenderAuth, Services};
use crate::mail::Network;
use crate::policy::mql::{Budget, Needs};
use crate::policy::{Judge, RuleSet, Stage};

/// Everything that judging depends on and that a reload replaces, whole.
pub struct Standing {
    /// Weights, lists, tenants.
    pub judge: Judge,
    /// Rules and their lists.
    pub rules: Arc<RuleSet>,
    /// What all rules may take of one message.
    pub rule_budget: Budget,
    /// Time that all rules may take over one message.
    pub rule_time: Duration,
    /// What detectors know of the operator's site.
    pub site: Site,
    /// Asks DNS about senders.
    pub sender_auth: SenderAuth,
    /// Asks services about messages.
    pub services: Services,
    /// Name in `Authentication-Results`.
    pub authserv_id: String,
    /// Clients of our own: SPF is not asked about them.
    pub own_networks: Vec<Network>,
    /// Whether some rule asks for what is remembered of senders.
    pub needs_history: bool,
    /// Times and limits.
    pub config: Config,
    /// The same for a message that is looked at again.
    pub deep: Deep,
}

/// What is spent on a message that is looked at again, after the reply.
#[derive(Default)]
pub struct Deep {
    /// Which messages, and what follows.
    pub config: ReassessConfig,
    /// What all rules may take of one message.
    pub rule_budget: Budget,
    /// Time that all rules may take over one message.
    pub rule_time: Duration,
    /// What services and the second look give to rules.
    pub gives: Needs,
    /// What detectors know of the operator's site, with larger limits.
    pub site: Site,
}

/// What is spent on one message.
pub(super) struct Effort<'s> {
    pub(super) deadline: Duration,
    pub(super) rule_budget: Budget,
    pub(super) rule_time: Duration,
    pub(super) site: &'s Site,
    /// What was kept of earlier questions is asked anew.
    pub(super) again: bool,
    /// From then on nothing more is asked: the verdict is what is known by then, marked degraded.
    pub(super) soon: CancellationToken,
}

impl Effort<'_> {
    /// Which rules are run.
    pub(super) fn stage(&self) -> Stage {
        if self.again { Stage::Deferred } else { Stage::Inline }
    }
}

impl Standing {
    /// While the sender waits.
    pub(super) fn inline(&self) -> Effort<'_> {
        let deadline = self.config.deadline();
        let (rule_budget, rule_time, site) = (self.rule_budget, self.rule_time, &self.site);
        Effort { deadline, rule_budget, rule_time, site, again: false, soon: CancellationToken::new() }
    }

    /// When nobody waits, until `soon`.
    pub(super) fn deep(&self, soon: &CancellationToken) -> Effort<'_> {
        let Deep { config, rule_budget, rule_time, site, .. } = &self.deep;
        let deadline = Duration::from_millis(config.deadline_ms);
        Effort { deadline, rule_budget: *rule_budget, rule_time: *rule_time, site, again: true, soon: soon.clone() }
    }
}
