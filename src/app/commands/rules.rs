//! `mailweir rules`: what a folder of rules would do, without a gateway.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use bytes::Bytes;
use serde::Serialize;

use super::scan::gather;
use crate::analysis::{Facts, Site, Why};
use crate::app::cli::{Common, RulesCommand};
use crate::app::config::Config;
use crate::app::rules::{load_rules, missing_lists};
use crate::app::terminal::{Terminal, Tone};
use crate::mail::Message;
use crate::policy::mql::{Budget, Capability, Needs, Size, View};
use crate::policy::{FeedConfig, RuleFindings, RuleKind, RuleMode, RuleSet, RuleWeights};

/// Runs the command.
pub(in crate::app) fn run(command: &RulesCommand, config: &Config, common: &Common) -> anyhow::Result<ExitCode> {
    let terminal = Terminal::new(common.colour);
    match command {
        RulesCommand::Check { path, json } => check(path, *json, config, &terminal),
        RulesCommand::Run { path, messages, json } => over_messages(path, messages, *json, config, &terminal),
    }
}

/// Capabilities that only a service outside gives.
fn services() -> Needs {
    let outside = |capability: &&Capability| matches!(capability.tier(), 'D'..='G' | 'P' | 'T');
    Capability::ALL.iter().filter(outside).fold(Needs::NONE, |all, one| all.and(Needs::of(*one)))
}

#[derive(Serialize)]
struct Checked {
    rules: usize,
    broken: Vec<String>,
    detections: usize,
    /// Detections by the last tier of the reference that they need.
    tiers: BTreeMap<char, usize>,
    /// Detections that name nothing which only a service gives.
    without_service: usize,
    /// Detections that can still match without any service.
    can_match: usize,
    missing_lists: Vec<String>,
    nodes: usize,
    patterns: usize,
}

fn load(path: &Path, config: &Config) -> anyhow::Result<(RuleSet, Vec<crate::policy::RuleError>)> {
    let feed = FeedConfig { path: path.to_owned(), name: String::new(), mode: RuleMode::Enforce };
    // Looking at rules changes no score: the built-in weights serve.
    load_rules(&[feed], &config.policy, &RuleWeights::default())
}

fn check(path: &Path, json: bool, config: &Config, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let (rules, broken) = load(path, config)?;
    let engine = rules.engine();
    let detections: Vec<usize> =
        (0..rules.rules().len()).filter(|place| rules.rules()[*place].file.kind == RuleKind::Detection).collect();
    let mut tiers = BTreeMap::new();
    for place in &detections {
        let needs = engine.programs()[*place].needs();
        let last = needs.iter().map(Capability::tier).filter(char::is_ascii_alphabetic).max().unwrap_or('A');
        *tiers.entry(last).or_insert(0) += 1;
    }
    let absent = services().and(Needs::of(Capability::Yara));
    let Size { nodes, patterns, .. } = engine.size();
    let checked = Checked {
        rules: rules.rules().len(),
        broken: broken.iter().map(ToString::to_string).collect(),
        detections: detections.len(),
        tiers,
        without_service: detections
            .iter()
            .filter(|place| engine.programs()[**place].needs().common(services()).is_none())
            .count(),
        can_match: detections.iter().filter(|place| engine.can_fire(**place, absent)).count(),
        missing_lists: missing_lists(&rules).into_iter().collect(),
        nodes,
        patterns,
    };
    if json {
        terminal.line(&serde_json::to_string(&checked)?)?;
    } else {
        for error in &checked.broken {
            terminal.line(&terminal.toned(Tone::Bad, error))?;
        }
        terminal.line(&format!("{} rules load, {} are broken", checked.rules, checked.broken.len()))?;
        terminal.line(&format!(
            "{} detections: {} need no service, {} can match without one",
            checked.detections, checked.without_service, checked.can_match
        ))?;
        let tiers: Vec<String> = checked.tiers.iter().map(|(tier, count)| format!("{tier} {count}")).collect();
        terminal.line(&format!("by tier: {}", tiers.join(", ")))?;
        if !checked.missing_lists.is_empty() {
            terminal.line(&format!("lists that are not there: ${}", checked.missing_lists.join(", $")))?;
        }
    }
    Ok(if checked.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Serialize)]
struct Line<'a> {
    path: String,
    #[serde(flatten)]
    found: &'a RuleFindings,
}

fn over_messages(
    path: &Path,
    messages: &[PathBuf],
    json: bool,
    config: &Config,
    terminal: &Terminal,
) -> anyhow::Result<ExitCode> {
    let (rules, broken) = load(path, config)?;
    for error in &broken {
        tracing::warn!(%error, "a rule was left out");
    }
    let policy = &config.policy;
    let content = config.inspection.content.clone();
    let site = Site { content, ..Site::new(&policy.own_domains, &policy.vips) };
    let mut files = Vec::new();
    for path in messages {
        gather(path, &mut files)?;
    }
    // Authentication is not asked: what hangs on it is undecided, not false.
    let facts = Facts::unknown(Why::Disabled);
    for file in files {
        let raw = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let message = Message::parse(Bytes::from(raw), &config.inspection.message);
        let view = View {
            message: &message,
            envelope: None,
            connection: None,
            facts: &facts,
            site: &site,
            content: &site.content,
            now: 0,
        };
        let found = rules.find(view, Budget::default(), &|| false);
        let path = file.display().to_string();
        if json {
            terminal.line(&serde_json::to_string(&Line { path, found: &found })?)?;
            continue;
        }
        terminal.line(&path)?;
        for one in &found.matches {
            terminal.line(&terminal.toned(Tone::Bad, &format!("  {}", one.name)))?;
            for clause in &one.clauses {
                let saw =
                    if clause.saw.is_empty() { String::new() } else { format!("  <- {}", clause.saw.join(" | ")) };
                terminal.line(&format!("    {}{saw}", clause.text))?;
            }
        }
        let undecided: Vec<String> = found.undecided.iter().map(|(what, count)| format!("{what} {count}")).collect();
        if !undecided.is_empty() {
            terminal
                .line(&terminal.toned(Tone::Quiet, &format!("  undecided for want of: {}", undecided.join(", "))))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
