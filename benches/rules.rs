//! What rules cost on top of reading a message: `cargo bench --bench rules [RULES MESSAGES [LISTS]]`.
//!
//! RULES: a folder of rule files, gone through with its folders; MESSAGES: a folder of `.eml` files; LISTS: a folder of
//! named lists. Without them: our own rules over generated mail. Prints what loading took, and microseconds a message of a
//! naive walk of the same rules (nothing shared, nothing remembered, no gates) beside the engine's, measured in one run.
//! Every outcome of both is compared: where they differ, the bench says so and fails.
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailweir::analysis::{Facts, Site, Why};
use mailweir::content::ContentLimits;
use mailweir::mail::{Message, MessageLimits};
use mailweir::policy::mql::{Budget, Outcome, View};
use mailweir::policy::{
    BUILT_IN_RULES, Feed, ListFile, Lists, Organisation, RuleFile, RuleKind, RuleMode, RuleModes, RuleSet, RuleWeights,
};

/// Rounds over all messages; the best of each message counts.
const ROUNDS: usize = 5;
/// Messages of the folder that are taken.
const MAX_MESSAGES: usize = 2_000;
/// Messages that the naive walk is measured on.
const NAIVE_MESSAGES: usize = 200;

fn main() {
    let folders: Vec<PathBuf> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).map(PathBuf::from).collect();
    let feed = Arc::new(Feed { default_mode: RuleMode::Enforce, ..Feed::imported("bench", "") });
    let files: Vec<(Arc<Feed>, RuleFile)> = match folders.first() {
        Some(folder) => {
            files(folder, "yml").iter().filter_map(|path| rule(path)).map(|file| (feed.clone(), file)).collect()
        }
        None => BUILT_IN_RULES
            .iter()
            .filter_map(|(name, text)| RuleFile::parse(name, text).ok())
            .map(|file| (feed.clone(), file))
            .collect(),
    };
    let files: Vec<_> = files.into_iter().filter(|(_, file)| file.kind == RuleKind::Detection).collect();
    let mut messages: Vec<Vec<u8>> = match folders.get(1) {
        Some(folder) => files_of(folder),
        None => generated(),
    };
    // Evenly from all that there are.
    let (all, mut place) = (messages.len(), 0);
    messages.retain(|_| {
        place += 1;
        place * MAX_MESSAGES / all.max(MAX_MESSAGES) > (place - 1) * MAX_MESSAGES / all.max(MAX_MESSAGES)
    });
    let before = memory_bytes();
    let started = Instant::now();
    let lists = lists(folders.get(2));
    let (set, broken) = RuleSet::build(files, Arc::new(lists), &RuleModes::default(), &RuleWeights::default());
    let loaded = started.elapsed();
    let after_load = memory_bytes().saturating_sub(before) >> 20;
    let started = Instant::now();
    let engine = set.engine();
    let too_large = engine.warm();
    println!(
        "{} rules ({} broken) loaded in {:.0} ms; patterns compiled in {:.0} ms ({too_large} too large); memory: {after_load} MB more after loading, {} MB with all patterns compiled\n{:?}",
        set.rules().len(),
        broken.len(),
        loaded.as_secs_f64() * 1e3,
        started.elapsed().as_secs_f64() * 1e3,
        memory_bytes().saturating_sub(before) >> 20,
        engine.size(),
    );
    let (site, facts, content) =
        (Site::new(&["example.org".to_owned()], &[]), Facts::unknown(Why::Disabled), ContentLimits::default());
    let (mut parse, mut fast, mut plain, mut naive, mut beside) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut run, mut differ) = (0, 0);
    for raw in &messages {
        let raw = bytes::Bytes::from(raw.clone());
        let best = |work: &mut dyn FnMut()| {
            let mut best = Duration::MAX;
            for _ in 0..ROUNDS {
                let started = Instant::now();
                work();
                best = best.min(started.elapsed());
            }
            best
        };
        let read = || {
            let message = Message::parse(raw.clone(), &MessageLimits::default());
            message.body();
            message
        };
        parse.push(best(&mut || drop(std::hint::black_box(read()))));
        let message = read();
        let view = View {
            message: &message,
            envelope: None,
            connection: None,
            facts: &facts,
            site: &site,
            content: &content,
            now: 0,
        };
        let time = best(&mut || drop(std::hint::black_box(engine.run(view, Budget::default(), &|| false))));
        fast.push(time);
        if message.attachments().next().is_none() {
            plain.push(time);
        }
        let verdicts = engine.run(view, Budget::default(), &|| false);
        run += verdicts.run;
        if naive.len() < NAIVE_MESSAGES {
            let budget = Budget { max_message_steps: u64::MAX, max_rule_steps: u64::MAX, ..Budget::default() };
            let started = Instant::now();
            let walked = engine.run_naive(view, budget);
            naive.push(started.elapsed());
            beside.extend(fast.last());
            differ += verdicts.outcomes.iter().zip(&walked.outcomes).filter(|(a, b)| !agree(**a, **b)).count();
        }
    }
    println!("{} messages, {} rules a message had to be run", messages.len(), run / messages.len().max(1));
    row("reading the message", parse);
    row("all rules", fast);
    row("  messages without files", plain);
    let ratio = total(&naive) / total(&beside);
    row("the same, walked naively", naive);
    println!("the naive walk takes {ratio:.1} times as long over the first {NAIVE_MESSAGES}; {differ} outcomes differ");
    assert_eq!(differ, 0, "the engine and the naive walk disagree");
}

/// The engine may settle what the naive walk leaves open, never to a match.
fn agree(engine: Outcome, naive: Outcome) -> bool {
    match (engine, naive) {
        (Outcome::Undecided(_), Outcome::Undecided(_)) | (Outcome::NoMatch, Outcome::Undecided(_)) => true,
        // A rule that waits for what is not there is not run: it says so even where the walk would find it false.
        (Outcome::Undecided(_), Outcome::NoMatch) => true,
        (a, b) => a == b,
    }
}

fn row(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    println!("{name:26} median {:8.1}  p90 {:8.1}  p99 {:8.1} µs", at(50), at(90), at(99));
}

fn total(times: &[Duration]) -> f64 {
    times.iter().sum::<Duration>().as_secs_f64().max(f64::MIN_POSITIVE)
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut all: Vec<PathBuf> = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            all.extend(files(&path, extension));
        } else if path.extension().is_some_and(|one| one == extension) {
            all.push(path);
        }
    }
    all.sort();
    all
}

fn files_of(folder: &Path) -> Vec<Vec<u8>> {
    files(folder, "eml").iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

fn rule(path: &Path) -> Option<RuleFile> {
    RuleFile::parse(&path.display().to_string(), &std::fs::read_to_string(path).ok()?).ok()
}

fn lists(folder: Option<&PathBuf>) -> Lists {
    let names = folder.map(|folder| [files(folder, "txt"), files(folder, "csv")].concat()).unwrap_or_default();
    let read: Vec<(String, Vec<u8>)> = names
        .iter()
        .filter_map(|path| Some((path.file_name()?.to_string_lossy().into_owned(), std::fs::read(path).ok()?)))
        .collect();
    let files: Vec<ListFile<'_>> =
        read.iter().map(|(label, bytes)| ListFile { label: label.clone(), bytes, hint: None }).collect();
    let organisation = Organisation::new(&["example.org".to_owned()], &["Ada Boss <ada@example.org>".to_owned()]);
    Lists::build(&organisation, files, 64 << 20, |_| true).unwrap_or_else(|error| panic!("{error:?}"))
}

/// Mail of three kinds, of a few kilobytes each.
fn generated() -> Vec<Vec<u8>> {
    let head = "From: Ada <ada@sender.example>\r\nTo: bob@example.org\r\nSubject: Your invoice of March\r\nMIME-Version: 1.0\r\n";
    let text = "Please look at the invoice at https://files.sender.example/invoice?id=7 before Friday. ".repeat(30);
    let row = "<tr><td style=\"color:#333\"><a href=\"https://x.example/p?q=1\">An offer</a> and more of it</td></tr>";
    let html = format!("<html><body><table>{}</table></body></html>", row.repeat(60));
    [("text/plain", &text), ("text/html", &html), ("text/html; charset=utf-8", &text)]
        .map(|(kind, body)| format!("{head}Content-Type: {kind}\r\n\r\n{body}\r\n").into_bytes())
        .into()
}

/// Memory of this process that is in use.
fn memory_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or_default() << 10
}
