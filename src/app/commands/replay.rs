//! `mailweir replay DIR --to HOST:PORT`: sends the messages of a folder over SMTP and counts what is answered.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::scan::{gather, read_message, sender_of};
use crate::app::cli::{Common, Replay};
use crate::app::terminal::{Terminal, plain};
use crate::gateway::next_hop::{HopConfig, NextHopMetrics, NextHops, NextHopsConfig, SendError};
use crate::mail::{Envelope, Path as MailPath};

/// Runs the command. Exit code 1 when a message got no answer at all.
pub(in crate::app) async fn run(options: &Replay, common: &Common) -> anyhow::Result<ExitCode> {
    let terminal = Terminal::new(common.colour);
    let mut files = Vec::new();
    gather(&options.folder, &mut files)?;
    files.truncate(options.limit.unwrap_or(usize::MAX));
    if files.is_empty() {
        anyhow::bail!("{}: there is no file in it", options.folder.display());
    }
    let hop = HopConfig { address: options.to.clone(), xforward: false, ..HopConfig::default() };
    let settings = NextHopsConfig {
        hops: vec![hop],
        max_connections_per_hop: usize::from(options.connections),
        // A target that is down is to be tried again for each message, and each failure counted.
        down_seconds: 0,
        ..NextHopsConfig::default()
    };
    let metrics = NextHopMetrics::new(&prometheus::Registry::new())?;
    let hops = Arc::new(NextHops::new(&settings, "replay.mailweir.localdomain", metrics)?);

    let bar = progress(files.len());
    let started = Instant::now();
    let total = files.len();
    let sends = files.into_iter().map(|file| {
        let (hops, options) = (Arc::clone(&hops), options.clone());
        tokio::spawn(async move { send(&hops, &options, file).await })
    });
    let mut sends = futures_util::stream::iter(sends).buffer_unordered(usize::from(options.connections));
    let mut replies: BTreeMap<String, usize> = BTreeMap::new();
    let mut unanswered = 0;
    while let Some(sent) = sends.next().await {
        let reply = sent?.unwrap_or_else(|error| {
            unanswered += 1;
            format!("no answer: {error:#}")
        });
        *replies.entry(reply).or_default() += 1;
        bar.inc(1);
    }
    bar.finish_and_clear();
    hops.close().await;
    let seconds = started.elapsed().as_secs_f64();
    if options.json {
        terminal.json(
            &serde_json::json!({"messages": total, "unanswered": unanswered, "seconds": seconds, "replies": replies}),
        )?;
    } else {
        let rows: Vec<Vec<String>> =
            replies.iter().map(|(reply, count)| vec![count.to_string(), plain(reply, 160)]).collect();
        terminal.table(&["MESSAGES", "ANSWER"], &rows)?;
        terminal.line(&format!("{total} messages in {seconds:.1} s"))?;
    }
    Ok(if unanswered > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn send(hops: &Arc<NextHops>, options: &Replay, file: PathBuf) -> anyhow::Result<String> {
    let raw = tokio::task::spawn_blocking(move || read_message(&file)).await??;
    let sender = match &options.from {
        Some(from) => MailPath::new(from.trim_matches(['<', '>'])),
        None => sender_of(&raw),
    };
    let envelope = Envelope { sender, recipients: options.rcpt.iter().map(MailPath::new).collect() };
    let summary = |code: u16, enhanced: Option<[u16; 3]>| match enhanced {
        Some([class, subject, detail]) => format!("{code} {class}.{subject}.{detail}"),
        None => code.to_string(),
    };
    match hops.send(&envelope, &[raw]).await {
        Ok(reply) => Ok(summary(reply.code, reply.enhanced)),
        Err(SendError::Refused(reply)) => Ok(summary(reply.code, reply.enhanced)),
        Err(SendError::Recipients(refused)) => {
            let reply = refused.into_iter().next().map(|(_, reply)| summary(reply.code, reply.enhanced));
            Ok(format!("{} (recipient)", reply.unwrap_or_default()))
        }
        Err(error) => Err(anyhow::Error::new(error)),
    }
}

/// A bar on a terminal; nothing elsewhere.
fn progress(total: usize) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(total as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} messages, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    bar
}
