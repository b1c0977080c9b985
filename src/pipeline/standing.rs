//! What judging depends on: one value, replaced whole on reload.

use std::sync::Arc;
use std::time::Duration;

use super::Config;
use crate::analysis::Site;
use crate::enrichment::{SenderAuth, Services};
use crate::mail::Network;
use crate::policy::mql::Budget;
use crate::policy::{Judge, RuleSet};

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
}
