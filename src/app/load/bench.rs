//! `mailweir bench`: runs a measurement, shows and saves it. What the measurements share is here, too.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use time::OffsetDateTime;

use super::cli::{BenchCommand, Output, Place, Source};
use super::compare;
use super::figures::{Run, short};
use super::mail::Mails;
use super::{pipeline, queue, step, target, wire};
use crate::app::cli::Common;
use crate::app::commands::scan::{gather, read_message};
use crate::app::config::Config;
use crate::app::terminal::{Terminal, Tone, plain};
use crate::deferred::QueueConfig;

/// Deadline of one command to a queue under load, in milliseconds.
const COMMAND_MS: u64 = 60_000;
/// Bytes of messages from a folder that are kept in memory.
const MESSAGES_BYTES: usize = 1 << 30;

/// Runs the command.
pub(in crate::app) async fn run(command: &BenchCommand, config: &Config, common: &Common) -> anyhow::Result<ExitCode> {
    let terminal = Terminal::new(common.colour);
    match command {
        BenchCommand::Queue(options) => {
            let run = queue::measure(options).await?;
            tell(&terminal, &run, &options.output)?;
        }
        BenchCommand::Pipeline(options) => {
            let run = Box::pin(pipeline::measure(options, config)).await?;
            tell(&terminal, &run, &options.output)?;
        }
        BenchCommand::EndToEnd(options) => {
            let (run, unanswered) = Box::pin(wire::measure(options)).await?;
            tell(&terminal, &run, &options.output)?;
            return Ok(if unanswered > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        }
        BenchCommand::Step(options) => {
            let (run, well) = Box::pin(step::measure(options, config)).await?;
            tell(&terminal, &run, &options.output)?;
            return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        BenchCommand::Compare { a, b, json } => {
            let wrong = |error: anyhow::Error| target::Refused(format!("{error:#}"));
            let (a, b) = (Run::read(a).map_err(wrong)?, Run::read(b).map_err(wrong)?);
            let worse = compare::show(&terminal, &a, &b, *json).map_err(wrong)?;
            return Ok(if worse { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows a run, and saves it if that is wanted.
fn tell(terminal: &Terminal, run: &Run, output: &Output) -> anyhow::Result<()> {
    if let Some(file) = &output.save {
        run.save(file)?;
    }
    if output.json {
        terminal.json(run)?;
        return Ok(());
    }
    let noise = |figure: &super::figures::Figure| match figure.rounds.len() {
        0 | 1 => "-".to_owned(),
        _ => format!("{:.0} %", figure.noise * 100.0),
    };
    let rows: Vec<Vec<String>> = run
        .figures
        .iter()
        .map(|figure| vec![figure.name.clone(), short(figure.value), figure.unit.clone(), noise(figure)])
        .collect();
    terminal.table(&["FIGURE", "VALUE", "UNIT", "NOISE"], &rows)?;
    if !run.counts.is_empty() {
        let rows: Vec<Vec<String>> =
            run.counts.iter().map(|(what, count)| vec![count.to_string(), plain(what, 120)]).collect();
        terminal.table(&["COUNT", "WHAT"], &rows)?;
    }
    for note in &run.notes {
        terminal.line(&terminal.toned(Tone::Quiet, note))?;
    }
    if run.debug_build {
        terminal.line(
            &terminal.toned(Tone::Warning, "this program was built without optimisation: it is slower than a release"),
        )?;
    }
    Ok(())
}

/// A bar on a terminal; nothing elsewhere.
pub(super) fn progress(total: u64, what: &str) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    let template = format!("{{bar:40}} {{pos}}/{{len}} {what}, {{per_sec}}, {{eta}} left");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    (OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000) as i64
}

/// CPU that this process has used, in milliseconds, to 10 ms; `None` where Linux does not say.
pub(super) fn cpu_ms() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program is in brackets and may hold anything; a tick is 10 ms towards programs.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    Some((fields.next()?.ok()? + fields.next()?.ok()?) as f64 * 10.0)
}

/// The messages that are wanted, all of them in memory.
pub(super) async fn messages(source: &Source) -> anyhow::Result<Vec<Bytes>> {
    let limit = source.limit as usize;
    let Some(path) = source.messages.clone() else {
        let mut mails = Mails::new(source.seed, OffsetDateTime::now_utc());
        return Ok((0..limit).map(|_| mails.next()).collect());
    };
    let read = move || {
        let mut files = Vec::new();
        gather(&path, &mut files)?;
        let (mut all, mut bytes) = (Vec::new(), 0usize);
        for file in files.into_iter().take(limit) {
            let raw = read_message(&file)?;
            bytes += raw.len();
            if bytes > MESSAGES_BYTES {
                break;
            }
            all.push(raw);
        }
        anyhow::ensure!(!all.is_empty(), "{}: there is no message in it", path.display());
        Ok(all)
    };
    tokio::task::spawn_blocking(read).await?
}

/// A folder of our own, removed at the end with all that is in it.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(below: Option<&Path>) -> anyhow::Result<Self> {
        let mut chance = [0; 8];
        getrandom::fill(&mut chance).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
        let below = below.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = below.join(format!("mailweir-bench-{:016x}", u64::from_be_bytes(chance)));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Settings of the queue that is to be loaded, and the folder of an embedded one.
pub(super) async fn place(place: &Place) -> anyhow::Result<(QueueConfig, Folder)> {
    let url = place.queue.clone().unwrap_or_default();
    for host in target::hosts(&url) {
        target::resolve(&host, place.i_own_this_host).await?;
    }
    let config = QueueConfig { url, prefix: place.prefix.clone(), command_ms: COMMAND_MS, ..QueueConfig::default() };
    Ok((config, Folder::new(place.folder.as_deref())?))
}

/// Refuses a queue in which something is: another bench's, or a gateway's.
pub(super) async fn empty(queue: &dyn crate::deferred::Queue, prefix: &str) -> anyhow::Result<()> {
    let depth = queue.depth().await?;
    if depth.total() + depth.dead > 0 {
        let message = format!(
            "{}: there are jobs under the prefix `{prefix}`: another bench runs, or one was killed; give another --prefix",
            queue.place()
        );
        return Err(target::Refused(message).into());
    }
    Ok(())
}
