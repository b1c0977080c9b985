//! `mailweir rules bench`: what rules cost over messages, together and each alone.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::{Looking, feed_of, progress};
use crate::app::commands::scan::{gather, read_message};
use crate::app::config::Config;
use crate::app::rules::{Feeds, Sources, read_rules};
use crate::app::terminal::{Terminal, plain};
use crate::mail::Message;
use crate::policy::mql::{Engine, Outcome};
use crate::policy::{RuleKind, RuleModes, RuleSet, RuleWeights};

#[derive(Serialize)]
struct Measured {
    messages: usize,
    rules: usize,
    broken: usize,
    /// Microseconds a message, all rules together.
    together: Times,
    /// Messages that some detection matched.
    messages_matched: usize,
    /// Rules that matched some message.
    rules_matched: usize,
    /// Share of the rules that did, in percent.
    rules_matched_percent: f64,
    /// Outcomes that were undecided, in percent of all.
    undecided_percent: f64,
    /// The slowest rules by their own time.
    slowest: Vec<Alone>,
}

#[derive(Serialize, Default)]
struct Times {
    median_micros: f64,
    p99_micros: f64,
    max_micros: f64,
    mean_micros: f64,
}

#[derive(Serialize)]
struct Alone {
    id: String,
    name: String,
    matches: usize,
    #[serde(flatten)]
    times: Times,
}

impl Times {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort();
        let micros = |time: Duration| time.as_nanos() as f64 / 1_000.0;
        let at = |share: usize| all.get((all.len() * share / 100).min(all.len().saturating_sub(1)));
        let total: Duration = all.iter().sum();
        Self {
            median_micros: at(50).copied().map_or(0.0, micros),
            p99_micros: at(99).copied().map_or(0.0, micros),
            max_micros: all.last().copied().map_or(0.0, micros),
            mean_micros: micros(total) / (all.len().max(1)) as f64,
        }
    }
}

pub(super) struct Options<'a> {
    pub(super) path: &'a Path,
    pub(super) messages: &'a [PathBuf],
    pub(super) slowest: usize,
    pub(super) limit: Option<usize>,
    pub(super) json: bool,
}

pub(super) fn bench(options: &Options<'_>, config: &Config, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let sources = read_rules(Feeds::Only(&[feed_of(options.path)]), &config.policy)?;
    let mut paths = Vec::new();
    options.messages.iter().try_for_each(|path| gather(path, &mut paths))?;
    paths.truncate(options.limit.unwrap_or(usize::MAX));
    if paths.is_empty() {
        anyhow::bail!("there is no message to measure with");
    }
    let looking = Looking::new(config);
    let Sources { files, lists, broken } = sources;
    let (rules, wrong) = RuleSet::build(files.clone(), lists.clone(), &RuleModes::default(), &RuleWeights::default());
    let engine = rules.engine();
    engine.warm();

    let (mut together, mut matches, mut undecided, mut messages_matched) =
        (Vec::new(), vec![0; rules.rules().len()], 0, 0);
    let bar = progress(paths.len(), "messages");
    for path in &paths {
        let message = message(path, config)?;
        let started = Instant::now();
        let verdicts = engine.run(looking.view(&message), config.policy.rules.budget(), &|| false);
        together.push(started.elapsed());
        let mut any = false;
        for (place, outcome) in verdicts.outcomes.iter().enumerate() {
            match outcome {
                Outcome::Match => {
                    matches[place] += 1;
                    any |= rules.rules()[place].file.kind == RuleKind::Detection;
                }
                Outcome::Undecided(_) => undecided += 1,
                Outcome::NoMatch => {}
            }
        }
        messages_matched += usize::from(any);
        bar.inc(1);
    }
    bar.finish_and_clear();

    let count = rules.rules().len();
    let percent = |part: usize, whole: usize| (part as f64 * 10_000.0 / whole.max(1) as f64).round() / 100.0;
    let rules_matched = matches.iter().filter(|count| **count > 0).count();
    let measured = Measured {
        messages: paths.len(),
        rules: count,
        broken: broken.len() + wrong.len(),
        together: Times::of(together),
        messages_matched,
        rules_matched,
        rules_matched_percent: percent(rules_matched, count),
        undecided_percent: percent(undecided, count * paths.len()),
        slowest: if options.slowest == 0 {
            Vec::new()
        } else {
            alone(options, &rules, &lists, &paths, &matches, config)?
        },
    };
    if options.json {
        terminal.json(&measured)?;
    } else {
        print(&measured, terminal)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn message(path: &Path, config: &Config) -> anyhow::Result<Message> {
    let message = Message::parse(read_message(path)?, &config.inspection.message);
    // Read on first use, and not the rules' work.
    message.body();
    Ok(message)
}

/// Each rule, compiled by itself, over all messages.
fn alone(
    options: &Options<'_>,
    rules: &RuleSet,
    lists: &std::sync::Arc<crate::policy::Lists>,
    paths: &[PathBuf],
    matches: &[usize],
    config: &Config,
) -> anyhow::Result<Vec<Alone>> {
    let mut engines: Vec<Engine> = Vec::new();
    for rule in rules.rules() {
        let one = vec![(rule.feed.clone(), rule.file.clone())];
        let (set, _) = RuleSet::build(one, lists.clone(), &RuleModes::default(), &RuleWeights::default());
        engines.push(set.into_engine());
    }
    for engine in &engines {
        engine.warm();
    }
    let mut times = vec![Vec::with_capacity(paths.len()); engines.len()];
    let (looking, budget) = (Looking::new(config), config.policy.rules.budget());
    let bar = progress(paths.len(), "messages, each rule alone");
    for path in paths {
        let message = message(path, config)?;
        for (engine, times) in engines.iter().zip(&mut times) {
            let started = Instant::now();
            engine.run(looking.view(&message), budget, &|| false);
            times.push(started.elapsed());
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let named = rules.rules().iter().zip(times).zip(matches);
    let mut all: Vec<Alone> = named
        .map(|((rule, times), matches)| Alone {
            id: rule.file.id.clone(),
            name: rule.file.name.clone(),
            matches: *matches,
            times: Times::of(times),
        })
        .collect();
    all.sort_by(|a, b| b.times.mean_micros.total_cmp(&a.times.mean_micros));
    all.truncate(options.slowest);
    Ok(all)
}

fn print(measured: &Measured, terminal: &Terminal) -> anyhow::Result<()> {
    let Measured { messages, rules, broken, together, messages_matched, rules_matched, .. } = measured;
    terminal.line(&format!("{rules} rules ({broken} broken) over {messages} messages, microseconds a message:"))?;
    let Times { median_micros, p99_micros, max_micros, mean_micros } = together;
    terminal.line(&format!(
        "together: median {median_micros:.1}, p99 {p99_micros:.1}, max {max_micros:.1}, mean {mean_micros:.1}"
    ))?;
    terminal.line(&format!(
        "{rules_matched} rules matched ({:.2} %), on {messages_matched} messages; {:.2} % of outcomes undecided",
        measured.rules_matched_percent, measured.undecided_percent
    ))?;
    if measured.slowest.is_empty() {
        return Ok(());
    }
    terminal.line("")?;
    let rows: Vec<Vec<String>> = measured
        .slowest
        .iter()
        .map(|one| {
            let number = |micros: f64| format!("{micros:.1}");
            let Times { median_micros, p99_micros, max_micros, mean_micros } = one.times;
            let mut row = [mean_micros, median_micros, p99_micros, max_micros].map(number).to_vec();
            row.extend([one.matches.to_string(), plain(&one.name, 100)]);
            row
        })
        .collect();
    terminal.table(&["MEAN", "MEDIAN", "P99", "MAX", "MATCHES", "RULE, ALONE"], &rows)?;
    Ok(())
}
