//! What judging depends on: one value, replaced whole on reload.

use super::Config;
use crate::analysis::Site;
use crate::enrichment::SenderAuth;
use crate::mail::Network;
use crate::policy::Judge;

/// Everything that judging depends on and that a reload replaces, whole.
pub struct Standing {
    /// Weights, lists, tenants.
    pub judge: Judge,
    /// What detectors know of the operator's site.
    pub site: Site,
    /// Asks DNS about senders.
    pub sender_auth: SenderAuth,
    /// Name in `Authentication-Results`.
    pub authserv_id: String,
    /// Clients of our own: SPF is not asked about them.
    pub own_networks: Vec<Network>,
    /// Whether some rule asks for what is remembered of senders.
    pub needs_history: bool,
    /// Times and limits.
    pub config: Config,
}
