//! `mailweir rules explain`: one rule, and what its clauses come to over a message.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use serde::Serialize;

use super::{Looking, feed_of, say_clauses};
use crate::app::commands::scan::read_message;
use crate::app::config::Config;
use crate::app::rules::{Feeds, Sources, read_rules};
use crate::app::terminal::{Terminal, Tone, plain};
use crate::mail::Message;
use crate::policy::mql::{self, Examination, Seen};
use crate::policy::{
    BUILT_IN_WEIGHTS, Feed, ModeOrigin, RuleError, RuleFile, RuleKind, RuleMode, RuleWeights, Severity, Stage, Wait,
    Weights,
};

#[derive(Serialize)]
struct Explained<'a> {
    id: &'a str,
    name: &'a str,
    file: &'a str,
    feed: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    description: &'a str,
    mode: RuleMode,
    mode_from: String,
    stage: Stage,
    stage_from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<Wait>,
    severity: Option<Severity>,
    /// Log-odds of a match; 0 unless it is enforced.
    weight: f64,
    tags: &'a [String],
    attack_types: &'a [String],
    references: &'a [String],
    tests: usize,
    /// What is wrong with it; it is left out then.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
    capabilities: Vec<Needed>,
    lists: Vec<Needed>,
    functions: Vec<String>,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    clauses: Option<Seen>,
    /// Of an insight.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<serde_json::Value>,
}

/// Something a rule needs, and whether it is there.
#[derive(Serialize)]
struct Needed {
    name: String,
    there: bool,
}

pub(super) fn explain(
    wanted: &str,
    rules: Option<&Path>,
    message: Option<&Path>,
    json: bool,
    config: &Config,
    terminal: &Terminal,
) -> anyhow::Result<ExitCode> {
    let feeds = rules.map(feed_of);
    let feeds = feeds.as_ref().map_or(Feeds::Configured, |feed| Feeds::Only(std::slice::from_ref(feed)));
    let sources = read_rules(feeds, &config.policy)?;
    let (feed, file) = find(&sources, wanted)?;
    let (stage, stage_from) = config.policy.rules.stages.origin(file, feed);
    let (mode, origin) = config.policy.rules.modes.origin(file, feed);
    let weight = if mode == RuleMode::Enforce { weights(config)?.of(file.severity) } else { 0.0 };
    let mut shown = Explained {
        id: &file.id,
        name: &file.name,
        file: &file.label,
        feed: &feed.name,
        kind: &file.written_type,
        description: file.description.trim(),
        mode,
        mode_from: from(&origin, feed),
        stage,
        stage_from,
        wait: file.wait,
        severity: file.severity,
        weight,
        tags: &file.tags,
        attack_types: &file.attack_types,
        references: &file.references,
        tests: file.tests.len(),
        broken: None,
        capabilities: Vec::new(),
        lists: Vec::new(),
        functions: Vec::new(),
        source: mql::format(&file.source).unwrap_or_else(|_| file.source.clone()),
        clauses: None,
        value: None,
    };
    match Examination::new(&file.source, Arc::clone(&sources.lists)) {
        Err(error) => shown.broken = Some(super::source_error(file, &error).to_string()),
        Ok(examination) => {
            needs(&examination, &mut shown);
            if let Some(path) = message {
                let message = Message::parse(read_message(path)?, &config.inspection.message);
                let looking = Looking::new(config).with_yara(config)?;
                let (view, budget) = (looking.view(&message), config.policy.rules.budget());
                shown.clauses = Some(examination.look(view, budget));
                if file.kind == RuleKind::Insight {
                    shown.value = examination.engine().value(0, view, budget);
                }
            }
        }
    }
    if json {
        terminal.json(&shown)?;
    } else {
        print(&shown, terminal)?;
    }
    Ok(if shown.broken.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The rule of that id or name, or the only one whose id or name begins so.
fn find<'s>(sources: &'s Sources, wanted: &str) -> anyhow::Result<(&'s Feed, &'s RuleFile)> {
    let folded = wanted.trim().to_lowercase();
    let by = |fits: &dyn Fn(&str, &str) -> bool| -> Vec<&'s (Arc<Feed>, RuleFile)> {
        sources.files.iter().filter(|(_, file)| fits(&file.id, &file.name.to_lowercase())).collect()
    };
    let mut found = by(&|id, name| id == folded || name == folded);
    if found.is_empty() && !folded.is_empty() {
        found = by(&|id, name| id.starts_with(&folded) || name.starts_with(&folded));
    }
    match found.as_slice() {
        [(feed, file)] => Ok((feed, file)),
        [] => {
            let broken: Vec<String> = sources.broken.iter().map(RuleError::to_string).collect();
            let also = if broken.is_empty() { String::new() } else { format!("; broken: {}", broken.join("; ")) };
            bail!("no rule has the id or name `{}`{also}", plain(wanted, 80));
        }
        several => {
            let names: Vec<String> =
                several.iter().take(10).map(|(_, file)| format!("{} {}", file.id, plain(&file.name, 80))).collect();
            bail!("{} rules begin so:\n  {}", several.len(), names.join("\n  "));
        }
    }
}

fn weights(config: &Config) -> anyhow::Result<RuleWeights> {
    let text = config.policy.weights_file.as_ref().map(std::fs::read_to_string).transpose()?;
    Ok(Weights::parse(text.as_deref().unwrap_or(BUILT_IN_WEIGHTS))?.rules)
}

fn from(origin: &ModeOrigin, feed: &Feed) -> String {
    match origin {
        ModeOrigin::Id => "policy.rules.modes.ids".to_owned(),
        ModeOrigin::Inactive => "`active: false` in the file".to_owned(),
        ModeOrigin::Tag(tag) => format!("policy.rules.modes.tags, `{tag}`"),
        ModeOrigin::Severity(severity) => format!("policy.rules.modes.severities, `{}`", severity.as_str()),
        ModeOrigin::Feed => format!("policy.rules.modes.feeds, `{}`", feed.name),
        ModeOrigin::FeedItself => format!("the feed `{}`", feed.name),
    }
}

fn needs(examination: &Examination, shown: &mut Explained<'_>) {
    let Some(program) = examination.engine().programs().first() else { return };
    let absent = super::absent();
    let missing = program.missing_lists();
    for capability in program.needs().iter() {
        shown.capabilities.push(Needed { name: capability.as_str().to_owned(), there: !absent.has(capability) });
    }
    for call in program.calls() {
        match call.strip_prefix('$') {
            Some(list) => shown.lists.push(Needed { name: list.to_owned(), there: !missing.contains(list) }),
            None => shown.functions.push(call.clone()),
        }
    }
    for list in missing.iter().filter(|list| !program.calls().contains(&format!("${list}"))) {
        shown.lists.push(Needed { name: list.clone(), there: false });
    }
}

fn print(rule: &Explained<'_>, terminal: &Terminal) -> anyhow::Result<()> {
    terminal.line(&terminal.toned(Tone::Strong, &plain(rule.name, 200)))?;
    let row = |name: &str, value: &str| {
        if value.is_empty() { Ok(()) } else { terminal.line(&format!("{name:<13}{}", plain(value, 500))) }
    };
    row("id", rule.id)?;
    row("file", rule.file)?;
    row("feed", rule.feed)?;
    row("type", rule.kind)?;
    row("mode", &format!("{} (by {})", super::mode(rule.mode), rule.mode_from))?;
    row("stage", &format!("{} (by {})", rule.stage.as_str(), rule.stage_from))?;
    match rule.wait {
        None => {}
        Some(Wait::Deliver) => row("wait", "a match orders a second look, the message is delivered meanwhile")?,
        Some(Wait::Hold) => row("wait", "a match orders a second look, the message is held meanwhile")?,
    }
    let severity = rule.severity.map_or("none", Severity::as_str);
    row("severity", &format!("{severity}, weight {:+.2}", rule.weight))?;
    row("attack types", &rule.attack_types.join(", "))?;
    row("tags", &rule.tags.join(", "))?;
    for line in rule.description.lines() {
        row("about", line)?;
    }
    for page in rule.references {
        row("reference", page)?;
    }
    let needed = |all: &[Needed], sign: &str| {
        let words = all.iter().map(|one| format!("{sign}{}{}", one.name, if one.there { "" } else { " (not there)" }));
        words.collect::<Vec<_>>().join(", ")
    };
    row("needs", &needed(&rule.capabilities, ""))?;
    row("lists", &needed(&rule.lists, "$"))?;
    row("functions", &rule.functions.join(", "))?;
    row("tests", &rule.tests.to_string())?;
    if let Some(broken) = &rule.broken {
        terminal.line(&terminal.toned(Tone::Bad, &format!("broken: {broken}")))?;
    }
    terminal.line("")?;
    for line in rule.source.lines() {
        terminal.line(&format!("  {}", plain(line, 4_000)))?;
    }
    if let Some(seen) = &rule.clauses {
        terminal.line("")?;
        say_clauses(seen, terminal)?;
    }
    if let Some(value) = &rule.value {
        terminal.line(&format!("value: {}", plain(&value.to_string(), 2_000)))?;
    }
    Ok(())
}
