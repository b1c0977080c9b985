//! `bench pipeline`: judging in this process, stage by stage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::StreamExt;
use prometheus::Registry;
use serde_json::json;
use tokio::time::Instant;

use super::bench::{cpu_ms, messages, progress};
use super::cli::BenchPipeline;
use super::figures::{Better, Histogram, Reading, Run};
use crate::app::commands::scan::sender_of;
use crate::app::config::Config;
use crate::app::standing;
use crate::enrichment::Outside;
use crate::mail::{Connection, Door, Envelope, MessageId, Path as MailPath};
use crate::pipeline::{Abilities, Metrics, Pipeline, Transaction};
use crate::policy::Action;

/// What was measured of one message.
pub(super) struct Judged {
    /// Microseconds: parse, enrich, judge, all together.
    pub(super) stages: [u64; 4],
    pub(super) action: Action,
}

/// Names of [`Judged::stages`].
const STAGES: [&str; 4] = ["parse", "enrich", "judge", "message"];

/// A pipeline that holds and records nothing. Offline it asks nobody.
///
/// # Errors
/// Names the setting or file that cannot be used.
pub(super) fn bare(config: &Config, offline: bool) -> anyhow::Result<Pipeline> {
    let registry = Registry::new();
    let (standing, _) = standing::build(config, offline, &Outside::new(&registry)?)?;
    Ok(Pipeline::new(standing, None, None, Arc::new(Metrics::new(&registry)?)))
}

/// Judges one message, and forgets it.
pub(super) async fn judge(pipeline: &Pipeline, raw: Bytes, number: u64) -> Judged {
    let received = SystemTime::now();
    let millis = received.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut chance = [0; 10];
    chance[2..].copy_from_slice(&number.to_be_bytes());
    let mut connection = Connection::unknown(Door::Scan);
    connection.client_ip = Some([192, 0, 2, 25].into());
    let transaction = Transaction {
        id: MessageId::new(u64::try_from(millis).unwrap_or_default(), chance),
        connection: Arc::new(connection),
        envelope: Envelope { sender: sender_of(&raw), recipients: vec![MailPath::new("load@example.com")] },
        raw,
        received,
        abilities: Abilities { edit_headers: true, drop_recipients: true, hold_at_mta: false },
    };
    let standing = pipeline.standing();
    let begun = Instant::now();
    let record = pipeline.judge(&standing, &transaction).await.record;
    let all = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let action = record.verdicts.iter().map(|one| one.verdict.action).max().unwrap_or(Action::Allow);
    let timing = record.timing;
    Judged { stages: [timing.parse_us, timing.enrich_us, timing.judge_us, all], action }
}

/// Measures.
///
/// # Errors
/// When settings or messages cannot be used.
pub(super) async fn measure(options: &BenchPipeline, config: &Config) -> anyhow::Result<Run> {
    let mails = Arc::new(messages(&options.source).await?);
    let pipeline = Arc::new(bare(config, !options.online)?);
    let each = mails.len() as u64 * u64::from(options.times);
    let bar = progress(each * (u64::from(options.rounds) + 1), "messages");
    let (mut rounds, mut counts) = (Vec::new(), BTreeMap::new());
    for round in 0..=options.rounds {
        let (begun, cpu) = (Instant::now(), cpu_ms());
        let judging = (0..each).map(|number| {
            let (pipeline, mails) = (Arc::clone(&pipeline), Arc::clone(&mails));
            tokio::spawn(async move {
                let raw = mails[(number % mails.len() as u64) as usize].clone();
                judge(&pipeline, raw, number).await
            })
        });
        let mut judging = futures_util::stream::iter(judging).buffer_unordered(options.at_a_time as usize);
        let mut stages: [Histogram; 4] = Default::default();
        while let Some(judged) = judging.next().await {
            let judged = judged?;
            for (stage, us) in stages.iter_mut().zip(judged.stages) {
                stage.add(us);
            }
            if round > 0 {
                *counts.entry(judged.action.as_str().to_owned()).or_default() += 1;
            }
            bar.inc(1);
        }
        let seconds = begun.elapsed().as_secs_f64();
        // Patterns are compiled and pages mapped when they are first needed: that round is not counted.
        if round == 0 {
            continue;
        }
        let mut readings = vec![Reading::new("judged", "messages/s", Better::More, each as f64 / seconds)];
        if let Some((before, after)) = cpu.zip(cpu_ms()) {
            readings.push(Reading::new("CPU a message", "ms", Better::Less, (after - before) / each as f64));
        }
        for (name, times) in STAGES.into_iter().zip(&stages) {
            readings.extend(Reading::times(name, times));
        }
        rounds.push(readings);
    }
    bar.finish_and_clear();
    let bytes: usize = mails.iter().map(Bytes::len).sum();
    let source = options
        .source
        .messages
        .as_ref()
        .map_or_else(|| format!("seed {}", options.source.seed), |path| path.display().to_string());
    let said = json!({
        "messages": mails.len(), "bytes_mean": bytes / mails.len(), "source": source, "at_a_time": options.at_a_time,
        "times": options.times, "online": options.online,
    });
    let mut run = Run::new("pipeline", said, &rounds);
    run.counts = counts;
    run.notes.push(format!(
        "{} messages ({source}), {} bytes on average, {} at a time, {}; nothing was recorded or delivered",
        mails.len(),
        bytes / mails.len(),
        options.at_a_time,
        if options.online { "resolver and services asked as configured" } else { "nothing outside was asked" }
    ));
    Ok(run)
}
