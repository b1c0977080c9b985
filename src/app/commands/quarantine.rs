//! `mailweir quarantine list|show|release|delete`: works on the same stores as the gateway, whether it runs or not.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::json;
use tokio::task::JoinHandle;

use crate::admin::defang;
use crate::app::cli::{Common, Quarantine};
use crate::app::config::Config;
use crate::app::reinject::IntoNextHop;
use crate::app::terminal::{Terminal, Tone, plain, time};
use crate::app::{data, standing};
use crate::enforcement::Release;
use crate::gateway::next_hop::{NextHopMetrics, NextHops};
use crate::mail::{Message, MessageId};
use crate::records::{HeldMessage, HeldQuery, Metrics, Records};

/// Longest text of a message shown, in characters.
const TEXT: usize = 4_000;

/// Opens the stores of a configuration.
pub(super) async fn open(config: &Config) -> anyhow::Result<(Arc<Records>, JoinHandle<()>)> {
    data::prepare(config)?;
    let metrics = Arc::new(Metrics::new(&prometheus::Registry::new())?);
    let (records, writer) = Records::open(&config.store, &config.data, metrics).await?;
    Ok((records, tokio::spawn(writer)))
}

/// Runs the command.
pub(in crate::app) async fn run(command: &Quarantine, config: &Config, common: &Common) -> anyhow::Result<ExitCode> {
    let terminal = Terminal::new(common.colour);
    let (records, _writer) = open(config).await?;
    match command {
        Quarantine::List { state, to, limit, before, json } => {
            let before = before.as_deref().map(str::parse).transpose()?;
            let state = (state != "held").then(|| state.clone());
            let query = HeldQuery { state, to: to.clone(), tenant: None, before, limit: *limit };
            list(&terminal, &records.held(&query).await?, *json)?;
            Ok(ExitCode::SUCCESS)
        }
        Quarantine::Show { id, raw, json } => {
            let held = records.held_message(id.parse()?).await?;
            let bytes = records.held_bytes(&held).await?;
            if *raw {
                std::io::stdout().lock().write_all(&bytes)?;
            } else {
                let message = Message::parse(bytes, &config.inspection.message);
                show(&terminal, &held, &message, *json)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Quarantine::Release { ids, to, json } => release(&terminal, config, records, ids, to, *json).await,
        Quarantine::Delete { ids, to, json } => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let mut code = ExitCode::SUCCESS;
            for id in ids {
                let id: MessageId = id.parse()?;
                let gone = records.delete_held(id, to, i64::try_from(now.as_millis()).unwrap_or(i64::MAX)).await?;
                if gone == 0 {
                    code = ExitCode::FAILURE;
                }
                if *json {
                    terminal.json(&json!({"id": id, "deleted": gone}))?;
                } else {
                    terminal.line(&format!("{id}: deleted for {gone} recipients"))?;
                }
            }
            Ok(code)
        }
    }
}

async fn release(
    terminal: &Terminal,
    config: &Config,
    records: Arc<Records>,
    ids: &[String],
    to: &[String],
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    standing::check_release(config)?;
    let metrics = NextHopMetrics::new(&prometheus::Registry::new())?;
    let hops = Arc::new(NextHops::new(&config.next_hop, &standing::host_name(config), metrics)?);
    let release =
        Release::new(records, data::pass_key(config)?, IntoNextHop(Arc::clone(&hops)), config.release.clone());
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        let id: MessageId = id.parse()?;
        match release.release(id, to).await {
            Ok(outcome) => {
                if !outcome.failed.is_empty() || !outcome.elsewhere.is_empty() {
                    code = ExitCode::FAILURE;
                }
                if as_json {
                    terminal.json(&json!({"id": id, "released": outcome.released, "failed": outcome.failed,
                                           "elsewhere": outcome.elsewhere}))?;
                    continue;
                }
                for recipient in &outcome.released {
                    terminal.line(&format!(
                        "{} {id} to {}",
                        terminal.toned(Tone::Good, "released"),
                        plain(recipient, 200)
                    ))?;
                }
                for recipient in &outcome.elsewhere {
                    terminal.line(&format!("{id} to {}: is being released now", plain(recipient, 200)))?;
                }
                for failure in &outcome.failed {
                    let why = plain(&failure.why, 300);
                    terminal.line(&format!(
                        "{} {id} to {}: {why}",
                        terminal.toned(Tone::Bad, "still held"),
                        plain(&failure.recipient, 200)
                    ))?;
                }
            }
            Err(error) => {
                code = ExitCode::FAILURE;
                let error = anyhow::Error::new(error);
                if as_json {
                    terminal.json(&json!({"id": id, "error": format!("{error:#}")}))?;
                } else {
                    terminal.line(&format!("{} {error:#}", terminal.toned(Tone::Bad, "not released:")))?;
                }
            }
        }
    }
    hops.close().await;
    Ok(code)
}

fn list(terminal: &Terminal, messages: &[HeldMessage], json: bool) -> anyhow::Result<()> {
    if json {
        return messages.iter().try_for_each(|message| Ok(terminal.json(message)?));
    }
    let rows: Vec<Vec<String>> = messages
        .iter()
        .map(|message| {
            let to: Vec<&str> = message.recipients.iter().map(|r| r.recipient.as_str()).collect();
            vec![
                message.id.to_string(),
                time(message.held_ms),
                format!("{:.0}", message.risk),
                plain(&message.reason, 24),
                plain(&message.from, 32),
                plain(&to.join(","), 32),
                plain(&defang(&message.subject), 48),
            ]
        })
        .collect();
    terminal.table(&["ID", "HELD", "RISK", "REASON", "FROM", "TO", "SUBJECT"], &rows)?;
    Ok(())
}

fn show(terminal: &Terminal, held: &HeldMessage, message: &Message, json: bool) -> anyhow::Result<()> {
    let headers: Vec<(String, String)> =
        message.headers().map(|field| (field.name.to_owned(), plain(&defang(&field.text()), 500))).collect();
    let text = defang(message.text());
    if json {
        let attachments: Vec<_> = message
            .attachments()
            .map(|(_, part)| json!({"name": part.file_name(), "type": part.content_type.value, "size": part.size()}))
            .collect();
        terminal.json(&json!({"held": held, "headers": headers, "text": text, "attachments": attachments}))?;
        return Ok(());
    }
    let row = |name: &str, value: &str| {
        terminal.line(&format!("{} {value}", terminal.toned(Tone::Quiet, &format!("{name:<12}"))))
    };
    row("message", &terminal.toned(Tone::Strong, &held.id.to_string()))?;
    row(
        "held",
        &format!("{}, {}, risk {:.1}, {} bytes", time(held.held_ms), plain(&held.reason, 120), held.risk, held.size),
    )?;
    for one in &held.recipients {
        let error = one.last_error.as_ref().map(|e| format!(" (last try: {})", plain(e, 200))).unwrap_or_default();
        row("recipient", &format!("{}: {}{error}", plain(&one.recipient, 200), one.state.as_str()))?;
    }
    terminal.line("")?;
    for (name, value) in &headers {
        terminal.line(&format!("{}: {value}", terminal.toned(Tone::Quiet, name)))?;
    }
    terminal.line("")?;
    for line in text.chars().take(TEXT).collect::<String>().lines() {
        terminal.line(&plain(line, 300))?;
    }
    for (_, part) in message.attachments() {
        let name = plain(part.file_name().unwrap_or("(no name)"), 120);
        terminal.line(&format!(
            "[attachment {name}, {}, {} bytes]",
            plain(&part.content_type.value, 60),
            part.size()
        ))?;
    }
    Ok(())
}
