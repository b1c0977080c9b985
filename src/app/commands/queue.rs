//! `mailweir queue status|dead`: looks at the queue of a gateway, whether it runs or not.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use crate::app::cli::{Chosen, Common, Dead, QueueCommand};
use crate::app::config::Config;
use crate::app::data;
use crate::app::terminal::{Terminal, Tone, plain, time};
use crate::app::work::OutboxOfRecords;
use crate::deferred::{self, DeadJob, DeadPlace, Depth, Priority};
use crate::observe::event;

/// Runs the command.
pub(in crate::app) async fn run(command: &QueueCommand, config: &Config, common: &Common) -> anyhow::Result<ExitCode> {
    let terminal = Terminal::new(common.colour);
    data::prepare(config)?;
    let queue = deferred::open(&config.queue, &config.data).await?;
    match command {
        QueueCommand::Status { json } => status(&terminal, &queue.place(), &queue.depth().await?, *json)?,
        QueueCommand::Dead(Dead::List { limit, before, json }) => {
            let before = before.as_deref().map(str::parse::<DeadPlace>).transpose().context("--before")?;
            let limit = usize::try_from(*limit)?;
            let dead = queue.dead(before.as_ref(), limit).await?;
            list(&terminal, &dead, *json)?;
            if let Some(last) = dead.last().filter(|_| dead.len() == limit && !json) {
                terminal.line(&format!("more: --before '{}'", plain(&last.place().to_string(), 240)))?;
            }
        }
        QueueCommand::Dead(Dead::Replay(chosen)) => {
            let (records, _writer) = super::quarantine::open(config).await?;
            let count = deferred::replay(&*queue, &OutboxOfRecords(records), chosen.keys()).await?;
            said(&terminal, config, "replayed", count, chosen)?;
        }
        QueueCommand::Dead(Dead::Purge { chosen, yes }) => {
            if chosen.all && !yes && !asked(&queue.place(), queue.depth().await?.dead)? {
                terminal.line("nothing was purged")?;
                return Ok(ExitCode::FAILURE);
            }
            let (records, _writer) = super::quarantine::open(config).await?;
            let count = deferred::purge(&*queue, &OutboxOfRecords(records), chosen.keys()).await?;
            said(&terminal, config, "purged", count, chosen)?;
        }
    }
    queue.close().await;
    Ok(ExitCode::SUCCESS)
}

impl Chosen {
    /// None: all. The command line takes either keys or `--all`.
    fn keys(&self) -> Option<&[String]> {
        (!self.all).then_some(&self.keys)
    }
}

/// Asks whoever sits there. Nobody does: `--yes` must say it.
fn asked(place: &str, dead: u64) -> anyhow::Result<bool> {
    let input = std::io::stdin();
    anyhow::ensure!(input.is_terminal(), "this throws away all dead letters, and nobody can be asked: say --yes");
    write!(
        std::io::stderr(),
        "Throw away all {dead} dead letters of {place}? What was to be done is never done. [y/N] "
    )?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn said(terminal: &Terminal, config: &Config, what: &str, count: u64, chosen: &Chosen) -> anyhow::Result<()> {
    // Whoever collects this command's standard error has the same line as the log of the gateway.
    crate::app::telemetry::start(config)?;
    let action = format!("dead_letters.{what}");
    tracing::info!(event = event::AUDIT, action, by = "command line", all = chosen.all, keys = ?chosen.keys, count, "done");
    if chosen.json {
        terminal.json(&json!({what: count}))?;
    } else {
        terminal.line(&format!("{what}: {count}"))?;
    }
    Ok(())
}

fn status(terminal: &Terminal, place: &str, depth: &Depth, json: bool) -> anyhow::Result<()> {
    if json {
        let of = |priority: Priority| (priority.as_str().to_owned(), json!(depth.by_priority[priority.place()]));
        let by_priority: serde_json::Map<_, _> = Priority::ALL.into_iter().map(of).collect();
        terminal.json(&json!({"queue": place, "by_priority": by_priority, "dead": depth.dead}))?;
        return Ok(());
    }
    terminal.line(&format!("{} {place}", terminal.toned(Tone::Quiet, "queue")))?;
    let row = |priority: Priority| {
        let now = &depth.by_priority[priority.place()];
        vec![
            priority.as_str().to_owned(),
            now.waiting.to_string(),
            now.running.to_string(),
            now.later.to_string(),
            format!("{:.1} s", now.oldest_ms as f64 / 1_000.0),
        ]
    };
    let rows: Vec<Vec<String>> = Priority::ALL.into_iter().map(row).collect();
    terminal.table(&["PRIORITY", "WAITING", "RUNNING", "LATER", "OLDEST"], &rows)?;
    let tone = if depth.dead > 0 { Tone::Warning } else { Tone::Good };
    terminal.line(&format!("dead letters: {}", terminal.toned(tone, &depth.dead.to_string())))?;
    Ok(())
}

fn list(terminal: &Terminal, dead: &[DeadJob], json: bool) -> anyhow::Result<()> {
    if json {
        let line = |dead: &DeadJob| {
            let job = &dead.job;
            terminal.json(&json!({
                "key": job.key, "kind": job.kind, "priority": job.priority, "correlation": job.correlation,
                "attempts": job.attempt, "reason": dead.reason, "error": job.last_error,
                "enqueued_ms": job.enqueued_ms, "dead_ms": dead.dead_ms, "payload_bytes": job.payload.len(),
            }))
        };
        return dead.iter().try_for_each(|dead| Ok(line(dead)?));
    }
    let row = |dead: &DeadJob| {
        vec![
            plain(&dead.job.key, 60),
            plain(&dead.job.kind, 20),
            time(dead.dead_ms),
            dead.reason.as_str().to_owned(),
            dead.job.attempt.to_string(),
            plain(dead.job.last_error.as_deref().unwrap_or_default(), 80),
        ]
    };
    let rows: Vec<Vec<String>> = dead.iter().map(row).collect();
    terminal.table(&["KEY", "KIND", "SINCE", "REASON", "ATTEMPTS", "LAST ERROR"], &rows)?;
    Ok(())
}
