//! From settings to what judging depends on: everything that can be wrong with them is found here, before any port is bound.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::config::Config;
use super::rules::{self, Feeds, RuleReport};
use crate::analysis::Site;
use crate::enrichment::{Outside, SenderAuth, Services};
use crate::pipeline::Standing;
use crate::policy::mql::Capability;
use crate::policy::{BUILT_IN_WEIGHTS, Judge, PolicyFiles, Weights};

/// Builds it; the second value says which rules were left out. `outside` outlives what is built.
///
/// # Errors
/// Names the setting or file that cannot be used.
pub(super) fn build(config: &Config, offline: bool, outside: &Outside) -> anyhow::Result<(Standing, RuleReport)> {
    let host = host_name(config);
    let policy = &config.policy;
    let weights = policy.weights_file.as_deref().map(|file| read("policy.weights_file", file)).transpose()?;
    let rule_weights = Weights::parse(weights.as_deref().unwrap_or(BUILT_IN_WEIGHTS))?.rules;
    let (rules, broken) = rules::load_rules(Feeds::Configured, policy, &rule_weights)?;
    let report = RuleReport::new(&rules, broken);
    let files = PolicyFiles {
        weights,
        rules_digest: rules::digest(&rules),
        allow: optional("policy.lists.allow_file", policy.lists.allow_file.as_deref())?,
        block: optional("policy.lists.block_file", policy.lists.block_file.as_deref())?,
    };
    let auth = &config.enrichment.sender_auth;
    let sender_auth = if offline { SenderAuth::offline() } else { SenderAuth::new(auth, &host)? };
    let judge = Judge::new(policy, &files)?;
    // Else calls would be cut off by the message's deadline before their own, and the breaker would learn nothing of them.
    let most = config.inspection.deadline_ms;
    if let Some((name, _)) = config.enrichment.enabled().find(|(_, service)| service.call.deadline_ms > most) {
        let setting = format!("enrichment.{name}.service.call.deadline_ms");
        anyhow::bail!("{setting} is longer than inspection.deadline_ms ({most}): a message does not wait so long");
    }
    // Last: from here on nothing fails, so dependencies are not forgotten for settings that are not taken.
    let services = if offline { Services::default() } else { Services::new(&config.enrichment, outside)? };
    let standing = Standing {
        judge,
        site: Site { content: config.inspection.content.clone(), ..Site::new(&policy.own_domains, &policy.vips) },
        sender_auth,
        services,
        authserv_id: if auth.authserv_id.is_empty() { host } else { auth.authserv_id.clone() },
        own_networks: policy.own_networks.clone(),
        needs_history: rules.needs(Capability::History),
        rules: Arc::new(rules),
        rule_budget: policy.rules.budget(),
        rule_time: Duration::from_millis(policy.rules.max_message_ms),
        config: config.inspection.clone(),
    };
    Ok((standing, report))
}

/// Our host name: as configured, else the system's.
pub(super) fn host_name(config: &Config) -> String {
    if !config.host_name.is_empty() {
        return config.host_name.clone();
    }
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let fits =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    match name {
        name if !fits(&name) => "mailweir.localdomain".to_owned(),
        name if name.contains('.') => name,
        name => format!("{name}.localdomain"),
    }
}

fn optional(setting: &str, file: Option<&Path>) -> anyhow::Result<String> {
    file.map_or(Ok(String::new()), |file| read(setting, file))
}

fn read(setting: &str, file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("{setting}: cannot read {}", file.display()))
}
