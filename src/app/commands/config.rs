//! `mailweir config check|explain|print`

use std::process::ExitCode;

use serde::Serialize;

use crate::app::cli::{Common, ConfigCommand};
use crate::app::config::{Config, ConfigError, Loaded};
use crate::app::terminal::{Terminal, Tone};
use crate::app::{check, secrets, shelf, standing};

#[derive(Serialize)]
struct Setting<'a> {
    name: &'a str,
    value: &'a str,
    source: &'static str,
}

/// Runs the command; a configuration that cannot be used gives exit code 2.
pub(in crate::app) fn run(
    command: &ConfigCommand,
    loaded: Result<Loaded, ConfigError>,
    common: &Common,
) -> anyhow::Result<ExitCode> {
    let terminal = Terminal::new(common.colour);
    match command {
        ConfigCommand::Check { json } => say_whether_usable(&terminal, loaded, *json),
        ConfigCommand::Explain { filter, json } => explain(&terminal, &loaded?, filter.as_deref(), *json),
        ConfigCommand::Print { json: true } => {
            Ok(terminal.json(&secrets::whole(&loaded?.config)?).map(|()| ExitCode::SUCCESS)?)
        }
        ConfigCommand::Print { json: false } => {
            terminal.line(toml::to_string_pretty(&secrets::whole(&loaded?.config)?)?.trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn say_whether_usable(
    terminal: &Terminal,
    loaded: Result<Loaded, ConfigError>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let checked = loaded.map_err(anyhow::Error::new).and_then(|loaded| {
        let warnings = usable(&loaded.config)?;
        Ok((loaded, warnings))
    });
    let place =
        |loaded: &Loaded| loaded.file.as_ref().map_or("(built-in defaults)".to_owned(), |f| f.display().to_string());
    match (&checked, json) {
        (Ok((loaded, warnings)), true) => {
            terminal.json(&serde_json::json!({"ok": true, "file": place(loaded), "warnings": warnings}))?;
        }
        (Ok((loaded, warnings)), false) => {
            for warning in warnings {
                terminal.line(&format!("{} {warning}", terminal.toned(Tone::Warning, "warning:")))?;
            }
            terminal.line(&format!("{} {}", terminal.toned(Tone::Good, "ok"), place(loaded)))?;
        }
        (Err(error), true) => terminal.json(&serde_json::json!({"ok": false, "error": format!("{error:#}")}))?,
        (Err(error), false) => terminal.line(&format!("{} {error:#}", terminal.toned(Tone::Bad, "not usable:")))?,
    }
    Ok(if checked.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(crate::app::USAGE) })
}

/// Whether everything that can be known of settings before a port is bound is right. What is given is no error: rules that
/// are left out, lists that are not there.
pub(in crate::app) fn usable(config: &Config) -> anyhow::Result<Vec<String>> {
    check::settings(config)?;
    let (_, rules) = standing::build(config, false, &shelf::outside(config, &prometheus::Registry::new())?)?;
    for file in config.relay.tls.cert_file.iter().chain(&config.relay.tls.key_file) {
        std::fs::metadata(file).map_err(|e| anyhow::anyhow!("relay.tls: {}: {e}", file.display()))?;
    }
    Ok(rules.warnings())
}

fn explain(terminal: &Terminal, loaded: &Loaded, filter: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let values = secrets::shown(&loaded.config);
    let in_file: toml::Table = toml::from_str(&loaded.text)?;
    let in_file = secrets::shown(&in_file);
    let source = |name: &str| {
        let within = |list: &str| list == name || name.starts_with(&format!("{list}."));
        if loaded.overridden.iter().any(|o| within(o)) {
            "environment or command line"
        } else if in_file.contains_key(name) {
            "file"
        } else {
            "default"
        }
    };
    let shown = values.iter().filter(|(name, _)| filter.is_none_or(|part| name.contains(part)));
    if json {
        for (name, value) in shown {
            terminal.json(&Setting { name, value, source: source(name) })?;
        }
    } else {
        let rows: Vec<Vec<String>> = shown.map(|(n, v)| vec![n.clone(), source(n).to_owned(), v.clone()]).collect();
        terminal.table(&["SETTING", "FROM", "VALUE"], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}
