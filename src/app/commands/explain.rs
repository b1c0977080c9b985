//! `mailweir explain ID`: why a message was judged as it was.

use std::process::ExitCode;

use anyhow::Context;

use crate::admin::defang;
use crate::analysis::{BlockLists, DomainAge, ServiceFacts, UrlReading, UrlVerdict};
use crate::app::cli::{Common, Explain};
use crate::app::config::Config;
use crate::app::terminal::{Terminal, Tone, plain, time, tone};
use crate::mail::MessageId;
use crate::policy::RuleMode;
use crate::records::{Explained, Record};

/// Longest piece of evidence shown, in characters.
const EVIDENCE: usize = 90;

/// Runs the command.
pub(in crate::app) async fn run(options: &Explain, config: &Config, common: &Common) -> anyhow::Result<ExitCode> {
    let terminal = Terminal::new(common.colour);
    let id: MessageId = options.id.parse()?;
    let (records, _writer) = super::quarantine::open(config).await?;
    let explained = records.explained(id).await?;
    let explained =
        explained.with_context(|| format!("no record of message {id}: it may be too old (store.ledger_days)"))?;
    if options.json {
        terminal.json(&explained)?
    } else {
        show(&terminal, &explained.record)?;
        later(&terminal, &explained)?
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the second verdict with its own terms, and what was to be done.
fn later(terminal: &Terminal, explained: &Explained) -> std::io::Result<()> {
    if let Some(second) = &explained.second {
        terminal.line("")?;
        let head = format!("looked at again {}: {}", time(second.at_ms), second.change.as_str());
        terminal.line(&terminal.toned(Tone::Strong, &head))?;
        show(terminal, &second.record)?;
    }
    for action in &explained.actions {
        let result = action.result.as_deref().unwrap_or("not done yet");
        let whom = plain(&action.recipients.join(", "), 160);
        terminal.line(&format!("action {} for {whom}: {}", action.kind, plain(result, 200)))?;
    }
    Ok(())
}

/// Shows a record: what was done, for whom, the terms that add up to the score, what was not known.
pub(super) fn show(terminal: &Terminal, record: &Record) -> std::io::Result<()> {
    let row = |name: &str, value: &str| {
        terminal.line(&format!("{} {value}", terminal.toned(Tone::Quiet, &format!("{name:<12}"))))
    };
    let action = terminal.toned(tone(record.action), record.action.as_str());
    row("message", &terminal.toned(Tone::Strong, &record.id.to_string()))?;
    row("received", &format!("{} by {}", time(record.received_ms), record.connection.door.as_str()))?;
    row("verdict", &format!("{action}, risk {:.1} of 100", record.score.risk))?;
    if let Some(reply) = &record.reply {
        row("reply", &plain(reply, 200))?;
    }
    let client = &record.connection;
    let address = client.client_ip.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string());
    let name = client.client_name.as_deref().unwrap_or("no confirmed name");
    row(
        "client",
        &format!("{address} ({}), HELO {}", plain(name, 80), plain(client.helo.as_deref().unwrap_or("unknown"), 80)),
    )?;
    row("sender", &format!("<{}>", plain(&record.envelope.sender.text, 120)))?;
    row("from", &plain(&record.from.join(", "), 160))?;
    row("subject", &plain(&defang(&record.subject), 160))?;
    for one in record.verdicts.iter().filter(|one| !one.recipient.is_empty()) {
        let reason = serde_json::to_string(&one.verdict.reason).unwrap_or_default().replace(['"', '{', '}'], "");
        row(
            "recipient",
            &format!(
                "{}: {} ({}), tenant {}",
                plain(&one.recipient, 120),
                one.verdict.action.as_str(),
                plain(&reason, 120),
                one.tenant
            ),
        )?;
    }
    facts(terminal, record)?;
    if !record.findings.is_empty() {
        row("findings", &record.findings.join(", "))?;
    }
    let timing = record.timing;
    row(
        "time",
        &format!(
            "parse {} µs, enrich {} µs, judge {} µs, settle {} µs",
            timing.parse_us, timing.enrich_us, timing.judge_us, timing.settle_us
        ),
    )?;
    terminal.line("")?;
    terms(terminal, record)?;
    rules(terminal, record)
}

fn facts(terminal: &Terminal, record: &Record) -> std::io::Result<()> {
    let facts = &record.facts;
    let word =
        |value: Result<String, crate::analysis::Why>| value.unwrap_or_else(|why| format!("unknown ({})", why.as_str()));
    let said = |known: Option<String>, unknown: Option<crate::analysis::Why>| {
        word(known.ok_or(unknown.unwrap_or(crate::analysis::Why::Disabled)))
    };
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let spf = said(facts.spf.known().map(|spf| text(&spf.result)), facts.spf.unknown());
    let dkim = facts.dkim.known().map(|all| {
        let each: Vec<String> = all.iter().map(|s| format!("{} {}", text(&s.result), plain(&s.domain, 60))).collect();
        if each.is_empty() { "none".to_owned() } else { each.join(", ") }
    });
    let dmarc = facts.dmarc.known().map(|dmarc| format!("{} (p={})", text(&dmarc.result), text(&dmarc.policy)));
    let line =
        format!("spf {spf}; dkim {}; dmarc {}", said(dkim, facts.dkim.unknown()), said(dmarc, facts.dmarc.unknown()));
    terminal.line(&format!("{} {line}", terminal.toned(Tone::Quiet, &format!("{:<12}", "auth"))))?;
    services(terminal, &facts.services)
}

/// What services found; those that are switched off are left out.
fn services(terminal: &Terminal, facts: &ServiceFacts) -> std::io::Result<()> {
    let none_or = |found: Vec<String>| if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
    let malware = facts.malware.known().map(|names| none_or(names.clone()));
    let listed = |list: &BlockLists| list.listings.iter().map(|one| format!("{} in {}", one.name, one.zone)).collect();
    let lists = facts.lists.known().map(|lists| none_or(listed(lists)));
    let bad = |one: &&UrlReading| one.verdict != UrlVerdict::Clean;
    let urls = facts.urls.known().map(|all| none_or(all.iter().filter(bad).map(|one| one.url.clone()).collect()));
    let text = facts.text.known().map(|text| format!("{} {} %", text.intent, text.percent));
    let age = |one: &DomainAge| one.days.map(|days| format!("{} {days} days", one.domain));
    let domains = facts.domains.known().map(|all| none_or(all.iter().filter_map(age).collect()));
    let said = [("malware", malware), ("lists", lists), ("urls", urls), ("text", text), ("domains", domains)];
    let unknown = |name: &str| facts.unknowns().find(|(what, why)| *what == name && why.is_failure());
    let word = |(name, known): (&str, Option<String>)| match (known, unknown(name)) {
        (Some(known), None) => Some(format!("{name} {}", plain(&defang(&known), 200))),
        (Some(known), Some((_, why))) => {
            Some(format!("{name} {} (not all: {})", plain(&defang(&known), 200), why.as_str()))
        }
        (None, Some((_, why))) => Some(format!("{name} unknown ({})", why.as_str())),
        (None, None) => None,
    };
    let words: Vec<String> = said.into_iter().filter_map(word).collect();
    if words.is_empty() {
        return Ok(());
    }
    let label = terminal.toned(Tone::Quiet, &format!("{:<12}", "services"));
    terminal.line(&format!("{label} {}", words.join("; ")))
}

fn terms(terminal: &Terminal, record: &Record) -> std::io::Result<()> {
    let score = &record.score;
    let mut rows =
        vec![vec![format!("{:+.2}", score.bias), "(bias)".to_owned(), "where every message starts".to_owned()]];
    for term in &score.terms {
        let mut why = term.code.sentence().to_owned();
        if let Some(uncapped) = term.uncapped {
            why.push_str(&format!(" [capped from {uncapped:+.2}]"));
        }
        if !term.evidence.is_empty() {
            why.push_str(&format!(": {}", plain(&defang(&term.evidence.join(", ")), EVIDENCE)));
        }
        rows.push(vec![format!("{:+.2}", term.weight), term.code.as_str().to_owned(), why]);
    }
    for term in &score.rules {
        let mut why = plain(&term.name, EVIDENCE);
        if let Some(uncapped) = term.uncapped {
            why.push_str(&format!(" [capped from {uncapped:+.2}]"));
        }
        rows.push(vec![format!("{:+.2}", term.weight), format!("RULE {}", term.id), why]);
    }
    rows.push(vec![format!("{:+.2}", score.log_odds), "= log-odds".to_owned(), format!("risk {:.1}", score.risk)]);
    terminal.table(&["WEIGHT", "SIGNAL", "WHY"], &rows)
}

/// Rules that matched, in whichever mode, with the clauses that were true; and what was not there to decide others.
fn rules(terminal: &Terminal, record: &Record) -> std::io::Result<()> {
    let found = &record.rules;
    if let Some(id) = &found.excluded {
        terminal.line("")?;
        terminal.line(&format!("left out of judgement by rules: exclusion {}", plain(id, EVIDENCE)))?;
    }
    for one in &found.matches {
        let mode = if one.mode == RuleMode::Enforce { "enforced" } else { "in shadow" };
        terminal.line("")?;
        let head = format!("rule {} ({mode}, {})", plain(&one.name, 160), plain(&one.feed, 60));
        terminal.line(&terminal.toned(Tone::Strong, &head))?;
        for clause in &one.clauses {
            let saw = plain(&defang(&clause.saw.join(", ")), EVIDENCE);
            let saw = if saw.is_empty() { saw } else { format!("  -> {saw}") };
            terminal.line(&format!("  {}{saw}", plain(&clause.text, 160)))?;
        }
    }
    let undecided: Vec<String> = found.undecided.iter().map(|(what, count)| format!("{what} {count}")).collect();
    if !undecided.is_empty() {
        terminal.line("")?;
        terminal.line(&format!("rules undecided, by what is not there: {}", undecided.join(", ")))?;
    }
    Ok(())
}
