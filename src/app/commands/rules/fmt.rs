//! `mailweir rules fmt`: sources of rules, written anew.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::app::config::Config;
use crate::app::rules::{looks_like_rule, read_text, rule_files};
use crate::app::terminal::{Terminal, Tone};
use crate::policy::{RuleError, RuleFile, mql};

pub(super) fn fmt(paths: &[PathBuf], check: bool, config: &Config, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    if paths.iter().any(|path| path == Path::new("-")) {
        return standard_input(check);
    }
    let limits = &config.policy.rules;
    let (mut changed, mut broken, mut left) = (0, 0, 0);
    let files = rule_files(paths, limits.max_files)?;
    for path in &files {
        let label = path.display().to_string();
        let text = match read_text(path, limits.max_file_bytes)? {
            Ok(text) => text,
            Err(reason) => {
                broken += 1;
                terminal.line(&terminal.toned(Tone::Bad, &format!("{label}: {reason}")))?;
                continue;
            }
        };
        match formatted(&label, &text) {
            Ok(Formatted::Same) => {}
            Ok(Formatted::NoBlock) => {
                left += 1;
                terminal.line(&terminal.toned(Tone::Warning, &format!("{label}: left as it is: write `source: |`")))?;
            }
            Ok(Formatted::New(new)) => {
                changed += 1;
                if !check {
                    replace(path, &new)?;
                }
                terminal.line(&label)?;
            }
            Err(_) if !looks_like_rule(&text) => {}
            Err(error) => {
                broken += 1;
                terminal.line(&terminal.toned(Tone::Bad, &error.to_string()))?;
            }
        }
    }
    let verb = if check { "would be changed" } else { "changed" };
    let count = files.len();
    terminal.line(
        &terminal.toned(Tone::Quiet, &format!("{changed} of {count} files {verb}, {left} left, {broken} broken")),
    )?;
    Ok(if broken > 0 || (check && changed > 0) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

enum Formatted {
    Same,
    New(String),
    /// The source is no literal block.
    NoBlock,
}

fn formatted(label: &str, text: &str) -> Result<Formatted, RuleError> {
    let file = RuleFile::parse(label, text)?;
    let source = mql::format(&file.source).map_err(|error| super::source_error(&file, &error))?;
    let same = source.trim_end() == file.source.trim_end();
    Ok(match file.with_source(text, &source) {
        _ if same => Formatted::Same,
        Some(new) => Formatted::New(new),
        None => Formatted::NoBlock,
    })
}

/// Writes beside the file and puts it in its place: a crash leaves the old one or the new one.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    // The file that a link leads to, not the link.
    let path = std::fs::canonicalize(path).with_context(cannot)?;
    let mut beside = path.clone().into_os_string();
    beside.push(".new");
    let mode = std::fs::metadata(&path).with_context(cannot)?.permissions();
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::set_permissions(&beside, mode));
    let placed = written.and_then(|()| std::fs::rename(&beside, &path));
    if placed.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    placed.with_context(cannot)
}

fn standard_input(check: bool) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text).context("cannot read standard input")?;
    let new = if looks_like_rule(&text) {
        match formatted("-", &text)? {
            Formatted::New(new) => new,
            Formatted::Same | Formatted::NoBlock => text.clone(),
        }
    } else {
        mql::format(&text).map_err(|error| {
            let (line, column) = error.place(&text);
            anyhow::anyhow!("-:{line}:{column}: {}\n{}", error.message, error.excerpt(&text))
        })?
    };
    if check {
        return Ok(if new == text { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    std::io::stdout().lock().write_all(new.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
