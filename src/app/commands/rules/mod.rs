//! `mailweir rules`: what a folder of rules would do, without a gateway.

mod bench;
mod explain;
mod fmt;
mod test;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::scan::{gather, read_message, warn};
use crate::analysis::{Facts, Site, Why};
use crate::app::cli::{Common, RulesCommand};
use crate::app::config::Config;
use crate::app::rules::{Feeds, load_rules, missing_lists};
use crate::app::terminal::{Terminal, Tone, plain};
use crate::app::yara;
use crate::mail::Message;
use crate::policy::mql::{self, Budget, Capability, Joint, Needs, Seen, Size, State, View};
use crate::policy::{FeedConfig, RuleError, RuleFile, RuleFindings, RuleKind, RuleMode, RuleSet, RuleWeights};

/// Runs the command.
pub(in crate::app) fn run(command: &RulesCommand, config: &Config, common: &Common) -> anyhow::Result<ExitCode> {
    let terminal = Terminal::new(common.colour);
    match command {
        RulesCommand::Check { path, json } => check(path, *json, config, &terminal),
        RulesCommand::Run { path, messages, json } => over_messages(path, messages, *json, config, &terminal),
        RulesCommand::Explain { rule, rules, message, json } => {
            explain::explain(rule, rules.as_deref(), message.as_deref(), *json, config, &terminal)
        }
        RulesCommand::Fmt { paths, check } => fmt::fmt(paths, *check, config, &terminal),
        RulesCommand::Test { paths, json } => test::test(paths, *json, config, &terminal),
        RulesCommand::Bench { path, messages, slowest, limit, json } => {
            let options = bench::Options { path, messages, slowest: *slowest, limit: *limit, json: *json };
            bench::bench(&options, config, &terminal)
        }
    }
}

/// A path as a feed of its own, enforced.
fn feed_of(path: &Path) -> FeedConfig {
    FeedConfig { path: path.to_owned(), name: String::new(), mode: RuleMode::Enforce }
}

fn mode(mode: RuleMode) -> &'static str {
    match mode {
        RuleMode::Off => "off",
        RuleMode::Shadow => "shadow",
        RuleMode::Enforce => "enforce",
    }
}

/// A mistake in a rule's source, with its place in the file and the mend.
fn source_error(file: &RuleFile, error: &mql::Error) -> RuleError {
    let (line, column) = error.place(&file.source);
    file.source_error(line, column, &format!("{}\n{}", error.message, error.excerpt(&file.source)))
}

/// What messages are looked at with when nothing is asked of the network: facts are not known, which is not the same as
/// false.
struct Looking {
    site: Site,
    facts: Facts,
}

impl Looking {
    fn new(config: &Config) -> Self {
        Self::of(config, &config.policy.own_domains, &config.policy.vips)
    }

    fn of(config: &Config, own_domains: &[String], vips: &[String]) -> Self {
        let site = Site { content: config.inspection.content.clone(), ..Site::new(own_domains, vips) };
        Self { site, facts: Facts::unknown(Why::Disabled) }
    }

    /// With the YARA rules of the settings.
    fn with_yara(mut self, config: &Config) -> anyhow::Result<Self> {
        self.site.yara = yara::load(&config.inspection.yara)?.map(Arc::new);
        Ok(self)
    }

    fn view<'v>(&'v self, message: &'v Message) -> View<'v> {
        let Self { site, facts } = self;
        View { message, envelope: None, connection: None, facts, site, content: &site.content, now: 0 }
    }
}

/// A bar on a terminal; nothing elsewhere.
fn progress(total: usize, what: &str) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(total as u64), target);
    if let Ok(style) = ProgressStyle::with_template(&format!("{{bar:40}} {{pos}}/{{len}} {what}, {{eta}} left")) {
        bar.set_style(style);
    }
    bar
}

/// Clause by clause: what each came to, and what it saw.
fn say_clauses(seen: &Seen, terminal: &Terminal) -> std::io::Result<()> {
    fn walk(seen: &Seen, level: usize, terminal: &Terminal) -> std::io::Result<()> {
        let (tone, needs) = match &seen.state {
            State::True => (Tone::Good, String::new()),
            State::False => (Tone::Bad, String::new()),
            State::Null => (Tone::Quiet, String::new()),
            State::Unavailable(needs) => (Tone::Warning, format!(" ({})", needs.join(", "))),
        };
        let not = if seen.negated { "not " } else { "" };
        let text = match seen.joint {
            Joint::One => plain(&seen.text, 160),
            Joint::All => format!("{not}all of:"),
            Joint::Any => format!("{not}any of:"),
            Joint::AtLeast(count) => format!("{not}{count} of:"),
        };
        let state = terminal.toned(tone, &format!("{:<11}", seen.state.as_str()));
        let saw: Vec<String> = seen.saw.iter().map(|text| plain(text, 100)).collect();
        let saw =
            if saw.is_empty() || !seen.parts.is_empty() { String::new() } else { format!("  <- {}", saw.join(" | ")) };
        terminal.line(&format!("  {state} {}{text}{needs}{saw}", "  ".repeat(level)))?;
        seen.parts.iter().try_for_each(|part| walk(part, level + 1, terminal))
    }
    walk(seen, 0, terminal)
}

/// What nobody gives here: services, and YARA.
fn absent() -> Needs {
    Needs::services().and(Needs::of(Capability::Yara))
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
    /// Run only in the second look.
    deferred: usize,
    /// A match orders a second look.
    ordering: usize,
    nodes: usize,
    patterns: usize,
}

fn load(path: &Path, config: &Config) -> anyhow::Result<(RuleSet, Vec<RuleError>)> {
    // Looking at rules changes no score: the built-in weights serve.
    let given = yara::given(&config.inspection.yara);
    load_rules(Feeds::Only(&[feed_of(path)]), &config.policy, &RuleWeights::default(), given)
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
    let absent = absent();
    let Size { nodes, patterns, .. } = engine.size();
    let checked = Checked {
        rules: rules.rules().len(),
        broken: broken.iter().map(ToString::to_string).collect(),
        detections: detections.len(),
        tiers,
        without_service: detections
            .iter()
            .filter(|place| engine.programs()[**place].needs().common(Needs::services()).is_none())
            .count(),
        can_match: detections.iter().filter(|place| engine.can_fire(**place, absent)).count(),
        missing_lists: missing_lists(&rules).into_iter().collect(),
        deferred: rules.deferred(),
        ordering: rules.rules().iter().filter(|rule| rule.file.wait.is_some()).count(),
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
        if checked.deferred + checked.ordering > 0 {
            terminal
                .line(&format!("second look: {} run only there, {} order one", checked.deferred, checked.ordering))?;
        }
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
        warn(&anyhow::anyhow!("a rule is left out: {error}"));
    }
    let mut files = Vec::new();
    for path in messages {
        gather(path, &mut files)?;
    }
    let looking = Looking::new(config).with_yara(config)?;
    for file in files {
        let message = Message::parse(read_message(&file)?, &config.inspection.message);
        let found = rules.find(looking.view(&message), Budget::default(), &|| false);
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
