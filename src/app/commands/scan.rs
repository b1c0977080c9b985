//! `mailweir scan`: judges messages in files, without doing anything about them.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Serialize;

use crate::app::cli::{Common, Scan};
use crate::app::config::Config;
use crate::app::standing;
use crate::app::terminal::{Terminal, Tone, plain, tone};
use crate::enrichment::Outside;
use crate::mail::{Address, Connection, Door, Envelope, Message, MessageId, MessageLimits, Path as MailPath};
use crate::pipeline::{Abilities, Metrics, Pipeline, Transaction};
use crate::policy::{Action, RuleFindings};
use crate::records::Record;

/// Messages judged at a time.
const AT_A_TIME: usize = 4;

/// One line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    path: String,
    action: Action,
    score: f64,
    signals: Vec<LineSignal<'a>>,
    rules: &'a RuleFindings,
    unknown: Vec<String>,
    findings: &'a [String],
    micros: u64,
}

#[derive(Serialize)]
struct LineSignal<'a> {
    code: &'static str,
    weight: f64,
    evidence: &'a [String],
}

/// Runs the command.
pub(in crate::app) async fn run(options: &Scan, config: &Config, common: &Common) -> anyhow::Result<ExitCode> {
    let terminal = Terminal::new(common.colour);
    let registry = prometheus::Registry::new();
    let (standing, rules) = standing::build(config, options.offline, &Outside::new(&registry)?)?;
    rules.warnings().iter().for_each(|warning| warn(&anyhow::anyhow!("{warning}")));
    let metrics = Arc::new(Metrics::new(&registry)?);
    let pipeline = Arc::new(Pipeline::new(standing, None, None, metrics));
    let mut files = Vec::new();
    for path in &options.paths {
        gather(path, &mut files)?;
    }
    let one = files.len() == 1;
    let mut results = futures_util::stream::iter(files.into_iter().map(|file| {
        let (pipeline, options) = (Arc::clone(&pipeline), options.clone());
        tokio::spawn(async move { judge(&pipeline, &options, file).await })
    }))
    .buffered(AT_A_TIME);
    let (mut bad, mut failed) = (0usize, 0usize);
    if !options.json && !one {
        terminal.line(&terminal.toned(Tone::Quiet, "ACTION       RISK  PATH"))?;
    }
    while let Some(result) = results.next().await {
        let (path, micros, record) = match result? {
            Ok(judged) => judged,
            Err(error) => {
                failed += 1;
                warn(&error);
                continue;
            }
        };
        if !matches!(record.action, Action::Allow | Action::Tag) {
            bad += 1;
        }
        if options.json {
            json(&terminal, &path, micros, &record)?;
        } else if one {
            super::explain::show(&terminal, &record)?;
        } else {
            let action = format!("{:<10}", record.action.as_str());
            let action = terminal.toned(tone(record.action), &action);
            terminal.line(&format!(
                "{action} {:>6.1}  {}",
                record.score.risk,
                plain(&path.display().to_string(), 200)
            ))?;
        }
    }
    Ok(if failed > 0 || (options.exit_code && bad > 0) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub(super) fn warn(error: &anyhow::Error) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "mailweir: {error:#}");
}

async fn judge(pipeline: &Pipeline, options: &Scan, path: PathBuf) -> anyhow::Result<(PathBuf, u64, Record)> {
    let read = path.clone();
    let raw = tokio::task::spawn_blocking(move || read_message(&read)).await??;
    let transaction = transaction(options, raw)?;
    let standing = pipeline.standing();
    let started = tokio::time::Instant::now();
    let inspected = pipeline.judge(&standing, &transaction).await;
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut record = inspected.record;
    record.action = record.verdicts.iter().map(|one| one.verdict.action).max().unwrap_or(Action::Allow);
    Ok((path, micros, record))
}

fn transaction(options: &Scan, raw: Bytes) -> anyhow::Result<Transaction> {
    let mut connection = Connection::unknown(Door::Scan);
    connection.client_ip = options.ip;
    connection.helo.clone_from(&options.helo);
    let sender = match &options.from {
        Some(from) => MailPath::new(from.trim_matches(['<', '>'])),
        None => sender_of(&raw),
    };
    // Without a recipient the default tenant's thresholds apply.
    let recipients = match options.rcpt.as_slice() {
        [] => vec![MailPath::new("")],
        named => named.iter().map(MailPath::new).collect(),
    };
    let mut chance = [0; 10];
    getrandom::fill(&mut chance).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let received = SystemTime::now();
    let millis = received.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    Ok(Transaction {
        id: MessageId::new(u64::try_from(millis).unwrap_or_default(), chance),
        connection: Arc::new(connection),
        envelope: Envelope { sender, recipients },
        raw,
        received,
        abilities: Abilities { edit_headers: true, drop_recipients: true, hold_at_mta: false },
    })
}

/// The envelope sender that a stored message names: `Return-Path`, else From.
pub(in crate::app) fn sender_of(raw: &Bytes) -> MailPath {
    let header_only = MessageLimits { max_parts: 1, max_links: 0, ..MessageLimits::default() };
    let message = Message::parse(raw.clone(), &header_only);
    if let Some(path) = message.header("Return-Path") {
        let text = path.text();
        return MailPath::new(text.trim().trim_matches(['<', '>']));
    }
    let from = message.from().iter().find_map(|mailbox| mailbox.address.as_ref().map(Address::to_string));
    MailPath::new(from.unwrap_or_default())
}

fn json(terminal: &Terminal, path: &Path, micros: u64, record: &Record) -> std::io::Result<()> {
    let terms = record.score.terms.iter();
    terminal.json(&Line {
        path: path.display().to_string(),
        action: record.action,
        score: (record.score.risk * 100.0).round() / 100.0,
        signals: terms.map(|t| LineSignal { code: t.code.as_str(), weight: t.weight, evidence: &t.evidence }).collect(),
        rules: &record.rules,
        unknown: record.facts.unknowns().into_iter().map(|(what, why)| format!("{what}={}", why.as_str())).collect(),
        findings: &record.findings,
        micros,
    })
}

/// All messages below a path, in order of their names. `-` is standard input.
pub(in crate::app) fn gather(path: &Path, into: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if path == Path::new("-") {
        into.push(path.to_owned());
        return Ok(());
    }
    let cannot = || format!("cannot read {}", path.display());
    if !std::fs::metadata(path).with_context(cannot)?.is_dir() {
        into.push(path.to_owned());
        return Ok(());
    }
    let mut below: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        // A link may lead round in a circle.
        if !entry.file_type().with_context(cannot)?.is_symlink() {
            below.push(entry.path());
        }
    }
    below.sort();
    below.iter().try_for_each(|path| gather(path, into))
}

/// A message from a file: line ends become CRLF, an mbox `From ` line and what Exim puts before a message go.
pub(in crate::app) fn read_message(path: &Path) -> anyhow::Result<Bytes> {
    let mut raw = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut raw).context("cannot read standard input")?;
    } else {
        raw = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    if raw.starts_with(b"From ")
        && let Some(end) = memchr::memchr(b'\n', &raw)
    {
        raw.drain(..=end);
    }
    Ok(with_crlf(raw).into())
}

/// Line ends as they would have come by SMTP. A file that has CRLF throughout stays as it is.
pub(super) fn with_crlf(raw: Vec<u8>) -> Vec<u8> {
    let bare = memchr::memchr_iter(b'\n', &raw).filter(|at| *at == 0 || raw[at - 1] != b'\r').count();
    if bare == 0 {
        return raw;
    }
    let mut out = Vec::with_capacity(raw.len() + bare);
    let mut start = 0;
    for at in memchr::memchr_iter(b'\n', &raw) {
        let line = &raw[start..at];
        out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        out.extend_from_slice(b"\r\n");
        start = at + 1;
    }
    out.extend_from_slice(&raw[start..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends() {
        let cases: [(&[u8], &[u8]); 4] =
            [(b"a\nb\r\nc", b"a\r\nb\r\nc"), (b"a\r\n", b"a\r\n"), (b"\n", b"\r\n"), (b"", b"")];
        for (raw, expected) in cases {
            assert_eq!(with_crlf(raw.to_vec()), expected);
        }
    }
}
