//! From evidence to a verdict: score, thresholds, lists, per tenant and recipient.
//!
//! Pure: no sockets, no files, no clock. May import `mail`, `content` and `analysis`. Not here: what is done about a verdict
//! (`pipeline`, `gateway`), reading the files that its settings name (`app`).

mod config;
mod entries;
mod fold;
mod gtube;
mod judge;
mod lists;
pub mod mql;
mod rule;
mod score;
mod tenant;
mod verdict;
mod weights;

pub use config::{Config, FeedConfig, ListsConfig, NamedListsConfig, RulesConfig};
pub use entries::{InvalidEntry, List};
pub use gtube::{Gtube, gtube};
pub use judge::{InvalidPolicy, Judge, Judgement, PolicyFiles};
pub use lists::{
    InvalidList, ListFile, ListHint, Lists, NamedList, ORG_VIPS, OrgVip, Organisation, TooLarge, list_name, manifest,
};
pub use rule::{
    Author, BUILT_IN_FEED, BUILT_IN_RULES, Expect, Feed, LoadedRule, MatchedClause, ModeOrigin, Position, RuleError,
    RuleFile, RuleFindings, RuleKind, RuleMatch, RuleMode, RuleModes, RuleSet, RuleStages, RuleTest, RuleWeights,
    Severity, SourcePlace, Stage, TestMessage,
};
pub use score::{RuleTerm, Score, Term, risk, score};
pub use tenant::{
    DEFAULT_TENANT, HoldIn, InvalidTenants, MalwareAction, Tenant, TenantConfig, Tenants, Thresholds, Wait,
};
pub use verdict::{Action, Overrides, Reason, Subject, Verdict, allowed, blocked, verdict};
pub use weights::{BUILT_IN_WEIGHTS, InvalidWeights, Weights};
