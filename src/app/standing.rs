//! From settings to what judging depends on: everything that can be wrong with them is found here, before any port is bound.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::config::Config;
use super::rules::{self, Feeds, RuleReport};
use super::{telemetry, yara};
use crate::analysis::{MAX_DISTANCE, Site};
use crate::content::{ContentLimits, Yara};
use crate::enrichment::{FunctionNeed, Outside, SenderAuth, Services};
use crate::pipeline::{Deep, Standing};
use crate::policy::mql::{Budget, Capability, Needs};
use crate::policy::{BUILT_IN_WEIGHTS, DEFAULT_TENANT, Judge, PolicyFiles, RuleSet, Wait, Weights};

/// The longest window of campaigns.
const MAX_WINDOW_HOURS: u32 = 30 * 24;

/// Builds it; the second value says which rules were left out. `outside` outlives what is built.
///
/// # Errors
/// Names the setting or file that cannot be used.
pub(super) fn build(config: &Config, offline: bool, outside: &Outside) -> anyhow::Result<(Standing, RuleReport)> {
    // Whatever is refused, dependencies of what is in use stay as they are.
    let draft = &outside.draft();
    telemetry::filter(&config.log.level)?;
    check_outside(config)?;
    let host = host_name(config);
    let policy = &config.policy;
    let weights = policy.weights_file.as_deref().map(|file| read("policy.weights_file", file)).transpose()?;
    let rule_weights = Weights::parse(weights.as_deref().unwrap_or(BUILT_IN_WEIGHTS))?.rules;
    let (rules, broken) = rules::load_rules(Feeds::Configured, policy, &rule_weights, given(config, offline))?;
    let report = RuleReport::new(&rules, broken).with_undone(undone(config, &rules));
    let yara = yara::load(&config.inspection.yara)?.map(Arc::new);
    let files = PolicyFiles {
        weights,
        rules_digest: rules::digest(&rules) + &yara.as_deref().map(yara::digest).unwrap_or_default(),
        allow: optional("policy.lists.allow_file", policy.lists.allow_file.as_deref())?,
        block: optional("policy.lists.block_file", policy.lists.block_file.as_deref())?,
    };
    let auth = &config.enrichment.sender_auth;
    let sender_auth = if offline { SenderAuth::offline() } else { SenderAuth::new(auth, &host)?.guarded(draft)? };
    let judge = Judge::new(policy, &files)?;
    check_reassess(config)?;
    check_campaigns(config)?;
    check_release(config)?;
    let services = if offline { Services::default() } else { Services::drafted(&config.enrichment, draft)? };
    draft.commit();
    let standing = Standing {
        judge,
        site: Site {
            content: config.inspection.content.clone(),
            yara: yara.clone(),
            campaigns: config.campaigns.clone(),
            ..Site::new(&policy.own_domains, &policy.vips)
        },
        sender_auth,
        services,
        authserv_id: if auth.authserv_id.is_empty() { host } else { auth.authserv_id.clone() },
        own_networks: policy.own_networks.clone(),
        needs_history: rules.needs(Capability::History)
            || (config.reassess.enabled && config.reassess.first_contact)
            || config.campaigns.enabled,
        rules: Arc::new(rules),
        rule_budget: policy.rules.budget(),
        rule_time: Duration::from_millis(policy.rules.max_message_ms),
        config: config.inspection.clone(),
        deep: deep(config, yara),
    };
    Ok((standing, report))
}

/// Settings of what is asked outside that would not do what they say.
fn check_outside(config: &Config) -> anyhow::Result<()> {
    config.enrichment.check().map_err(|error| error.below("enrichment"))?;
    let (cache, shared) = (&config.cache, config.cache.is_shared());
    if shared {
        cache.check().map_err(|error| error.below("cache"))?;
    }
    // Else calls would be cut off by the message's deadline before their own, and the breaker would learn nothing of them.
    let most = config.inspection.deadline_ms;
    let services =
        config.enrichment.enabled().map(|(name, service)| (format!("enrichment.{name}.service"), &service.call));
    let mut calls = services.chain(shared.then(|| ("cache".to_owned(), &cache.call)));
    if let Some((section, _)) = calls.find(|(_, call)| call.deadline_ms > most) {
        anyhow::bail!(
            "{section}.call.deadline_ms is longer than inspection.deadline_ms ({most}): a message does not wait so long"
        );
    }
    let auth = &config.enrichment.sender_auth;
    anyhow::ensure!(
        !auth.enabled || auth.deadline_ms <= most,
        "enrichment.sender_auth.deadline_ms {} is longer than inspection.deadline_ms ({most}): a message does not wait so \
         long, and it would never be seen that the resolver is silent",
        auth.deadline_ms
    );
    Ok(())
}

/// Settings of the second look that would not do what they say.
fn check_reassess(config: &Config) -> anyhow::Result<()> {
    let (reassess, workers) = (&config.reassess, &config.workers);
    if !reassess.enabled {
        return Ok(());
    }
    if !(0.0..=1.0).contains(&reassess.share) {
        anyhow::bail!("reassess.share: a share from 0 to 1, not {}", reassess.share);
    }
    if reassess.deadline_ms >= workers.soft_seconds.saturating_mul(1_000) {
        anyhow::bail!("reassess.deadline_ms is not below workers.soft_seconds ({})", workers.soft_seconds);
    }
    if reassess.looks > workers.attempts {
        anyhow::bail!(
            "reassess.looks is above workers.attempts ({}): the last look would never count",
            workers.attempts
        );
    }
    Ok(())
}

/// What these settings want done and nobody would do.
fn undone(config: &Config, rules: &RuleSet) -> Vec<String> {
    let (reassess, policy) = (&config.reassess, &config.policy);
    let mut undone = Vec::new();
    if !reassess.enabled {
        let asks = rules.rules().iter().find(|rule| rule.file.wait.is_some());
        if let Some(rule) = asks {
            undone.push(format!(
                "the rule `{}` says `wait`, and nothing is looked at again: set reassess.enabled",
                rule.file.name
            ));
        }
        if rules.deferred() > 0 {
            undone.push(format!(
                "{} rules are of the second look (`stage: deferred`), which is off: set reassess.enabled",
                rules.deferred()
            ));
        }
        let tenants = policy.tenants.iter().map(|tenant| (tenant.name.as_str(), tenant.wait));
        let tenants = tenants.chain([(DEFAULT_TENANT, policy.default.wait)]);
        for (name, _) in tenants.filter(|(_, wait)| *wait == Some(Wait::Hold)) {
            undone.push(format!("tenant `{name}`: `wait = \"hold\"` holds nothing: set reassess.enabled"));
        }
        return undone;
    }
    let holds = |wait: Option<Wait>| wait == Some(Wait::Hold);
    let may_wait = reassess.wait == Wait::Hold
        || holds(policy.default.wait)
        || policy.tenants.iter().any(|tenant| holds(tenant.wait))
        || rules.rules().iter().any(|rule| holds(rule.file.wait));
    if !config.workers.enabled {
        let what = if may_wait { "mail may wait for its second look" } else { "messages are to be looked at again" };
        let who = match config.queue.is_embedded() {
            true => "and nobody can do it: set workers.enabled, or share a queue (queue.url) with `mailweir worker`",
            false => "and this process has no workers: run `mailweir worker` beside it",
        };
        undone.push(format!("{what}, {who}"));
    }
    undone
}

/// Settings under which nothing could be released.
pub(super) fn check_release(config: &Config) -> anyhow::Result<()> {
    anyhow::ensure!(config.release.copy_seconds > 0, "release.copy_seconds must be at least 1: no copy takes no time");
    Ok(())
}

/// Settings of campaigns that would find nothing, or everything.
fn check_campaigns(config: &Config) -> anyhow::Result<()> {
    let campaigns = &config.campaigns;
    if campaigns.distance > MAX_DISTANCE {
        anyhow::bail!("campaigns.distance: {MAX_DISTANCE} at most, not {}", campaigns.distance);
    }
    if campaigns.members < 2 || campaigns.senders < 2 || campaigns.recipients < 2 {
        anyhow::bail!("campaigns.members, senders and recipients: 2 at least; one alone is no campaign");
    }
    if !(1..=MAX_WINDOW_HOURS).contains(&campaigns.window_hours) {
        anyhow::bail!("campaigns.window_hours: 1 to {MAX_WINDOW_HOURS}: digests are not kept longer");
    }
    Ok(())
}

/// What services and YARA give to rules.
fn given(config: &Config, offline: bool) -> Needs {
    let of = |need| match need {
        FunctionNeed::Whois => Capability::Whois,
        FunctionNeed::Link => Capability::LinkAnalysis,
        FunctionNeed::Text => Capability::Nlu,
        FunctionNeed::Ocr => Capability::Ocr,
    };
    let answered = config.enrichment.answers().filter(|_| !offline);
    answered.fold(yara::given(&config.inspection.yara), |all, need| all.and(Needs::of(of(need))))
}

/// What is spent when a message is looked at again: the budgets of the inspection, so many times.
fn deep(config: &Config, yara: Option<Arc<Yara>>) -> Deep {
    let (reassess, rules) = (&config.reassess, config.policy.rules.budget());
    let times = reassess.times_budgets.max(1) as usize;
    let more = |n: usize| n.saturating_mul(times);
    let content = &config.inspection.content;
    let content = ContentLimits {
        max_files: more(content.max_files),
        max_members: more(content.max_members),
        max_member_bytes: more(content.max_member_bytes),
        max_unpacked_bytes: more(content.max_unpacked_bytes),
        max_read_bytes: more(content.max_read_bytes),
        max_work_bytes: more(content.max_work_bytes),
        max_text_bytes: more(content.max_text_bytes),
        max_pages: more(content.max_pages),
        max_pixels: more(content.max_pixels),
        max_message_pixels: more(content.max_message_pixels),
        max_pdf_bytes: more(content.max_pdf_bytes),
        max_codes: more(content.max_codes),
        max_depth: content.max_depth.saturating_add(times),
        ..content.clone()
    };
    let content = reassess.content.clone().unwrap_or(content);
    Deep {
        rule_budget: Budget {
            max_rule_steps: rules.max_rule_steps.saturating_mul(times as u64),
            max_message_steps: rules.max_message_steps.saturating_mul(times as u64),
            ..rules
        },
        rule_time: Duration::from_millis(config.policy.rules.max_message_ms.saturating_mul(times as u64)),
        gives: given(config, false),
        site: Site {
            content,
            deep: true,
            yara,
            campaigns: config.campaigns.clone(),
            ..Site::new(&config.policy.own_domains, &config.policy.vips)
        },
        config: reassess.clone(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_not_do_what_it_says_is_refused_by_its_whole_name() {
        let outside = Outside::new(&prometheus::Registry::new()).unwrap();
        let refused = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::default();
            config.enrichment.sender_auth.enabled = false;
            config.enrichment.text_service.url = "http://text.example/".into();
            change(&mut config);
            build(&config, false, &outside).err().expect("refused").to_string()
        };
        let told = refused(&|config| {
            config.enrichment.clamd.enabled = true;
            config.enrichment.clamd.service.call.deadline_ms = 0;
        });
        assert!(told.starts_with("enrichment.clamd.service.call.deadline_ms: "), "{told}");
        let told = refused(&|config| {
            config.cache.url = "redis://127.0.0.1/".into();
            config.cache.call.deadline_ms = config.inspection.deadline_ms + 1;
        });
        assert!(told.starts_with("cache.call.deadline_ms is longer than inspection.deadline_ms"), "{told}");
        let told = refused(&|config| {
            config.enrichment.text_service.enabled = true;
            config.enrichment.text_service.url = "ftp://u:s3cret@h/?k=s3cret".into();
        });
        assert_eq!(told, "enrichment.text_service.url: `ftp://***@h/` is no http or https URL");
        let file = tempfile::NamedTempFile::new().unwrap();
        for token in ["", "\n", "one\ntwo\n", "one two", "t\u{f6}ken"] {
            std::fs::write(file.path(), token).unwrap();
            let told = refused(&|config| {
                config.enrichment.text_service.enabled = true;
                config.enrichment.text_service.token_file = Some(file.path().to_owned());
            });
            assert!(told.starts_with("enrichment.text_service.token_file: "), "{told}");
            assert!(told.ends_with("one line of visible ASCII characters, and nothing else"), "{told}");
        }
    }

    #[test]
    fn what_is_refused_leaves_dependencies_alone() {
        let outside = Outside::new(&prometheus::Registry::new()).unwrap();
        let names = || outside.snapshots().into_iter().map(|one| one.name).collect::<Vec<_>>();
        let mut config = Config::default();
        config.enrichment.sender_auth.enabled = false;
        build(&config, false, &outside).unwrap();
        assert!(names().is_empty());
        config.enrichment.sender_auth.enabled = true;
        config.enrichment.sender_auth.resolvers = vec!["127.0.0.1:53".parse().unwrap()];
        config.enrichment.clamd.enabled = true;
        let changes: [fn(&mut Config); 3] = [
            |config| config.campaigns.distance = u32::MAX,
            |config| config.policy.lists.allow_file = Some("/nonexistent/list".into()),
            |config| config.log.level = "mailweir=loud".into(),
        ];
        for change in changes {
            let mut refused = config.clone();
            change(&mut refused);
            assert!(build(&refused, false, &outside).is_err());
            assert!(names().is_empty(), "{:?}", names());
        }
        build(&config, false, &outside).unwrap();
        assert_eq!(names(), ["clamd", "resolver"]);
    }
}
