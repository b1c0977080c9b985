//! `mailweir alert list|silence|ack|test`: works on the files in `DATA/alerts`, whether the gateway runs or not.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::json;

use crate::app::alerts::{self, now_ms};
use crate::app::cli::{AlertChannel, AlertCommand, Common};
use crate::app::config::Config;
use crate::app::data;
use crate::app::terminal::{Terminal, Tone, plain, time};
use crate::enforcement::alert::{Act, Alert, Board, BoardState, Channel, ChannelName, Notice, Order, Severity, What};

/// Runs the command.
pub(in crate::app) async fn run(command: &AlertCommand, config: &Config, common: &Common) -> anyhow::Result<ExitCode> {
    let terminal = Terminal::new(common.colour);
    let board = Board::new(&config.data);
    match command {
        AlertCommand::List { firing, json } => list(&terminal, &board, *firing, *json),
        AlertCommand::Silence { end: Some(id), json, .. } => {
            let ended = board.remove(id)?;
            if *json {
                terminal.json(&json!({"id": id, "ended": ended}))?;
            } else if ended {
                terminal.line(&format!("{id}: ended"))?;
            } else {
                bail!("no silence {id}: `mailweir alert list` shows them");
            }
            Ok(if ended { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        AlertCommand::Silence { alert, minutes, comment, json, .. } => {
            let alert = alert.as_deref().unwrap_or("*");
            order(&terminal, config, &board, &Order::silence(alert, *minutes, &who(), comment, now_ms())?, *json)
        }
        AlertCommand::Ack { alert, json } => {
            order(&terminal, config, &board, &Order::acknowledge(alert, &who(), now_ms())?, *json)
        }
        AlertCommand::Test { channel, json } => test(&terminal, config, *channel, *json).await,
    }
}

fn order(terminal: &Terminal, config: &Config, board: &Board, order: &Order, json: bool) -> anyhow::Result<ExitCode> {
    data::prepare(config)?;
    board.add(order)?;
    let about = board.state()?.map_or(0, |state| order.about(&state.alerts, now_ms()));
    let known = about > 0 || order.is_wide();
    if json {
        let mut value = serde_json::to_value(order)?;
        value["about"] = about.into();
        terminal.json(&value)?;
    } else {
        let id = terminal.toned(Tone::Strong, &order.id);
        terminal.line(&format!("{id}: {} until {}", plain(&order.pattern, 200), time(order.until_ms)))?;
        if !known {
            let fires = if order.act == Act::Acknowledge { " that fires" } else { "" };
            let said = format!(
                "There is no such alert{fires}: `mailweir alert list` shows them. The order holds all the same."
            );
            terminal.line(&terminal.toned(Tone::Bad, &said))?;
        }
    }
    Ok(if known { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list(terminal: &Terminal, board: &Board, firing: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    let now = now_ms();
    let orders = board.orders(now);
    let Some(state) = board.state()? else {
        bail!("no gateway has looked yet with this folder of data (or alerts.enabled is false)");
    };
    // Three looks, and the time that one may take.
    let stale = now.saturating_sub(state.at_ms) > i64::from(state.every_seconds.max(1)) * 3_000 + 2_000;
    let open = state.alerts.iter().any(|alert| alert.state() == "firing");
    if as_json {
        let mut value = serde_json::to_value(&state)?;
        value["stale"] = stale.into();
        value["orders"] = serde_json::to_value(&orders)?;
        terminal.json(&value)?;
    } else {
        if stale {
            let node = plain(&state.node, 100);
            let since = format!(
                "The gateway {node} last looked at {}: this is how it was then, not how it is.",
                time(state.at_ms)
            );
            terminal.line(&terminal.toned(Tone::Bad, &since))?;
        }
        show(terminal, &state, &orders, firing)?;
    }
    Ok(if open || stale { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(terminal: &Terminal, state: &BoardState, orders: &[Order], firing: bool) -> anyhow::Result<()> {
    let mut alerts: Vec<&Alert> = state.alerts.iter().filter(|a| !firing || a.severity.is_some()).collect();
    alerts.sort_by_key(|alert| std::cmp::Reverse(alert.severity));
    let row = |alert: &&Alert| {
        let tone = match alert.severity {
            None => Tone::Good,
            Some(Severity::Warning) => Tone::Warning,
            Some(Severity::Critical) => Tone::Bad,
        };
        let severity = alert.severity.map_or("", Severity::as_str);
        let since = if alert.severity.is_some() { time(alert.since_ms) } else { String::new() };
        vec![terminal.toned(tone, alert.state()), severity.to_owned(), plain(&alert.key, 60), since, alert.words()]
    };
    terminal.table(&["STATE", "SEVERITY", "ALERT", "SINCE", "VALUE"], &alerts.iter().map(row).collect::<Vec<_>>())?;
    if !orders.is_empty() {
        terminal.line("")?;
        let row = |order: &Order| {
            vec![
                order.id.clone(),
                plain(&order.pattern, 60),
                time(order.until_ms),
                plain(&order.by, 40),
                plain(&order.comment, 80),
            ]
        };
        terminal.table(&["SILENCE", "ALERT", "UNTIL", "BY", "WHY"], &orders.iter().map(row).collect::<Vec<_>>())?;
    }
    if !state.unread.is_empty() && !firing {
        let unread: Vec<&str> = state.unread.iter().map(|kind| kind.as_str()).collect();
        terminal.line("")?;
        terminal.line(
            &terminal.toned(Tone::Quiet, &format!("Not watched, for there is no reading: {}", unread.join(", "))),
        )?;
    }
    Ok(())
}

async fn test(terminal: &Terminal, config: &Config, wanted: AlertChannel, json: bool) -> anyhow::Result<ExitCode> {
    data::prepare(config)?;
    let (name, setting) = match wanted {
        AlertChannel::Slack => (ChannelName::Slack, "alerts.slack.url_file"),
        AlertChannel::Pagerduty => (ChannelName::PagerDuty, "alerts.pagerduty.routing_key_file"),
        AlertChannel::Mail => (ChannelName::Mail, "alerts.mail.to"),
        AlertChannel::Webhook => (ChannelName::Webhook, "alerts.webhook.url"),
    };
    let registry = prometheus::Registry::new();
    let dependencies = crate::egress::Registry::new(crate::egress::Metrics::new(&registry)?);
    let ways = alerts::ways(config, dependencies, None)?;
    let channels = Channel::configured(&config.alerts, &ways)?;
    let Some(channel) = channels.iter().find(|channel| channel.name() == name) else {
        bail!("{} is not configured: set {setting}", name.as_str());
    };
    for what in [What::Fired, What::Resolved] {
        let notice = Notice::test(&ways.host_name, &config.alerts.link_url, what, now_ms());
        let result = channel.deliver(&notice).await;
        let taken = result.is_ok();
        let why = result.err().map(|failure| plain(&failure.to_string(), 300));
        if json {
            terminal.json(&json!({"channel": name.as_str(), "what": what, "taken": taken, "why": why}))?;
        } else {
            let tone = if taken { Tone::Good } else { Tone::Bad };
            let said = why.unwrap_or_else(|| "taken".into());
            terminal.line(&format!("{} {}: {}", name.as_str(), what.as_str(), terminal.toned(tone, &said)))?;
        }
        if !taken {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Who orders: the user of the system.
pub(super) fn who() -> String {
    std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "(command line)".into())
}
