//! `mailweir keys list|rotate|revoke`: the keys that webhooks are signed with.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, bail};
use serde_json::json;

use crate::app::cli::{Common, KeysCommand};
use crate::app::config::Config;
use crate::app::data;
use crate::app::terminal::{Terminal, Tone, time};
use crate::enforcement::signing::{KeyState, Keys};

/// Runs the command.
pub(in crate::app) fn run(command: &KeysCommand, config: &Config, common: &Common) -> anyhow::Result<ExitCode> {
    let terminal = Terminal::new(common.colour);
    data::prepare(config)?;
    let (file, now) = (Keys::file(&config.signing, &config.data), now_ms());
    let signing = &config.signing;
    match command {
        KeysCommand::List { secrets, json } => {
            list(&terminal, &Keys::load(&file, signing, now)?, *secrets, *json, now)?;
        }
        KeysCommand::Rotate { now: at_once, json } => {
            let rotate = |keys: &mut Keys| keys.rotate(signing, *at_once, now);
            let (keys, key) = Keys::change(&file, signing, now, rotate)?;
            let state = keys.list(now).into_iter().find(|info| info.id == key.id).context("the new key is gone")?.state;
            if *json {
                let (from, replaced) = (key.active_from_ms, key.replaced);
                terminal.json(&json!({"id": key.id, "state": state, "active_from_ms": from, "replaced": replaced}))?;
            } else {
                let why = if *at_once { "was announced" } else { "was announced for a time too far away" };
                for id in &key.replaced {
                    let warning = terminal.toned(Tone::Warning, "warning:");
                    terminal.line(&format!("{warning} {id} {why} and is replaced: receivers need it no more"))?;
                }
                terminal.line(&format!(
                    "{} signs from {} on",
                    terminal.toned(Tone::Strong, &key.id),
                    time(key.active_from_ms)
                ))?;
                terminal.line("Give it to receivers before that: mailweir keys list --secrets")?;
            }
        }
        KeysCommand::Revoke { id, json } => {
            let revoke = |keys: &mut Keys| keys.revoke(id, &super::alert::who(), signing, now);
            let Some(revoked) = Keys::change(&file, signing, now, revoke)?.1 else { bail!("there is no key {id}") };
            if *json {
                terminal.json(&json!({"id": id, "state": KeyState::Revoked, "successor": revoked.successor}))?;
            } else {
                terminal.line(&format!("{} is of no use any more", terminal.toned(Tone::Strong, id)))?;
                if let Some(next) = &revoked.successor {
                    terminal.line(&format!("{} signs now", terminal.toned(Tone::Strong, next)))?;
                    terminal.line("Give it to receivers at once: mailweir keys list --secrets")?;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(terminal: &Terminal, keys: &Keys, secrets: bool, json: bool, now: i64) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for (info, key) in keys.list(now).into_iter().zip(keys.keys()) {
        if json {
            let mut value = serde_json::to_value(&info)?;
            if secrets {
                value["secret"] = key.secret().into();
            }
            terminal.json(&value)?;
            continue;
        }
        let tone = match info.state {
            KeyState::Signing => Tone::Good,
            KeyState::Announced => Tone::Warning,
            KeyState::Revoked => Tone::Bad,
            KeyState::Retiring | KeyState::Expired => Tone::Quiet,
        };
        let until = info.expires_ms.map_or_else(|| "(nothing follows it)".to_owned(), time);
        let mut row = vec![info.id, terminal.toned(tone, info.state.as_str()), time(info.active_from_ms), until];
        if secrets {
            row.push(key.secret().to_owned());
        }
        rows.push(row);
    }
    if !json {
        let head = ["ID", "STATE", "SIGNS FROM", "VERIFIES UNTIL", "SECRET"];
        terminal.table(&head[..if secrets { 5 } else { 4 }], &rows)?;
    }
    Ok(())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
