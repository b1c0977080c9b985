//! Settings of the policy: section `[policy]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::mql::Budget;
use super::rule::{RuleMode, RuleModes, RuleStages};
use super::tenant::{TenantConfig, Thresholds};
use crate::mail::Network;

/// How messages are judged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// File of weights instead of the built-in ones (`policies/weights.toml`).
    pub weights_file: Option<PathBuf>,
    /// The domains of the organisation: mail that claims to come from them must prove it.
    pub own_domains: Vec<String>,
    /// People whose names are worth borrowing: `Display Name <address@example.com>`.
    pub vips: Vec<String>,
    /// Networks of our own clients: SPF is not asked about them. Clients that logged in are never asked about.
    pub own_networks: Vec<Network>,
    /// Thresholds of every tenant that sets none of its own.
    pub default: Thresholds,
    /// Operator's lists.
    pub lists: ListsConfig,
    /// Rules in MQL.
    pub rules: RulesConfig,
    /// Named lists of the rules: `$name`.
    pub named_lists: NamedListsConfig,
    /// Tenants.
    pub tenants: Vec<TenantConfig>,
}

/// Operator's lists: entries here and in files (one entry a line, `#` begins a comment).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListsConfig {
    /// Passed whatever the score, if the sender is proven. Malware is not.
    pub allow: Vec<String>,
    /// More of the same.
    pub allow_file: Option<PathBuf>,
    /// Refused whatever the score.
    pub block: Vec<String>,
    /// More of the same.
    pub block_file: Option<PathBuf>,
}

/// Rules in MQL: where they are, what is done with them, what they may take of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RulesConfig {
    /// Feeds: folders of rule files (`*.yml`, `*.yaml`), read with all folders below.
    pub paths: Vec<FeedConfig>,
    /// Modes of single rules, tags, severities and feeds. The most specific counts.
    pub modes: RuleModes,
    /// Which rules are run only in the second look. The most specific setting counts, then the rule's own `stage`.
    pub stages: RuleStages,
    /// Steps that one rule may take over one message; beyond, it is undecided.
    pub max_rule_steps: u64,
    /// Steps that all rules may take over one message; those not yet run are undecided then.
    pub max_message_steps: u64,
    /// Bytes that the values of all rules over one message may take.
    pub max_value_bytes: usize,
    /// Time that all rules may take over one message, in milliseconds; those not yet run are undecided then.
    pub max_message_ms: u64,
    /// Steps of asking which rules can match a message at all; beyond them every rule is run.
    pub max_gate_steps: u64,
    /// Nodes of a page that one XPath query looks at; beyond, what hangs on it is undecided.
    pub max_xpath_steps: usize,
    /// Nodes of a page that the texts of what one XPath query found are made of, counted for each text.
    pub max_xpath_nodes: usize,
    /// Bytes of a file that `file.parse_text` and `file.parse_html` read; what is behind them is not seen.
    pub max_parsed_bytes: usize,
    /// Characters of each of two texts that are compared by edit distance; of longer ones it is not known.
    pub max_distance_chars: usize,
    /// Questions to services that are noted of one message; further ones stay unanswered.
    pub max_asks: usize,
    /// Most rule files of all feeds together; more are refused.
    pub max_files: usize,
    /// Largest rule file, in bytes; a larger one is left out and named.
    pub max_file_bytes: u64,
}

impl Default for RulesConfig {
    fn default() -> Self {
        let budget = Budget::default();
        Self {
            paths: Vec::new(),
            modes: RuleModes::default(),
            stages: RuleStages::default(),
            max_rule_steps: budget.max_rule_steps,
            max_message_steps: budget.max_message_steps,
            max_value_bytes: budget.max_value_bytes,
            max_gate_steps: budget.max_gate_steps,
            max_xpath_steps: budget.max_xpath_steps,
            max_xpath_nodes: budget.max_xpath_nodes,
            max_parsed_bytes: budget.max_parsed_bytes,
            max_distance_chars: budget.max_distance_chars,
            max_asks: budget.max_asks,
            max_message_ms: 500,
            max_files: 20_000,
            max_file_bytes: 1 << 20,
        }
    }
}

impl RulesConfig {
    /// What rules may take of one message.
    pub fn budget(&self) -> Budget {
        Budget {
            max_rule_steps: self.max_rule_steps,
            max_message_steps: self.max_message_steps,
            max_value_bytes: self.max_value_bytes,
            max_gate_steps: self.max_gate_steps,
            max_xpath_steps: self.max_xpath_steps,
            max_xpath_nodes: self.max_xpath_nodes,
            max_parsed_bytes: self.max_parsed_bytes,
            max_distance_chars: self.max_distance_chars,
            max_asks: self.max_asks,
        }
    }
}

/// A feed: a folder of rules, or one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedConfig {
    /// The folder.
    pub path: PathBuf,
    /// Its name in modes, records and metrics. Empty: the folder's.
    #[serde(default)]
    pub name: String,
    /// What is done with its rules when `modes` says nothing: `shadow` (recorded, without weight), `enforce` or `off`.
    #[serde(default = "shadow")]
    pub mode: RuleMode,
}

fn shadow() -> RuleMode {
    RuleMode::Shadow
}

/// Named lists of the rules. What is not configured is unknown to rules, which is not the same as empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamedListsConfig {
    /// Folders of lists: `NAME.txt` or `NAME.csv`, also `.gz`; a `manifest.json` may say more about them.
    pub paths: Vec<PathBuf>,
    /// Largest list, unpacked, in bytes.
    pub max_list_bytes: usize,
    /// Names of the organisation's people as they are shown: `$org_display_names`.
    pub display_names: Vec<String>,
    /// Domains that services gave the organisation, such as `example.sharepoint.com`: `$tenant_domains`.
    pub tenant_domains: Vec<String>,
    /// The organisation's own brands and trade names: `$org_brand_names`.
    pub brand_names: Vec<String>,
}

impl Default for NamedListsConfig {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            max_list_bytes: 64 << 20,
            display_names: Vec::new(),
            tenant_domains: Vec::new(),
            brand_names: Vec::new(),
        }
    }
}
