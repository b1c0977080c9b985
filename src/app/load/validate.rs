//! `simulate --validate`: the model beside a real load on this machine's embedded queue, with known service times.

use std::process::ExitCode;

use serde::Serialize;

use super::bench::Folder;
use super::cli::Times;
use super::figures::{Histogram, short};
use super::model::{self, Range, Service, Site};
use super::step::{self, Drive};
use crate::app::terminal::{Terminal, Tone};
use crate::deferred::{Mode, QueueConfig, ScalingConfig, WorkersConfig};

/// Jobs a second, and for how long: a step that two workers cannot carry, and ten can.
const PHASES: [(f64, u32); 3] = [(10.0, 8), (90.0, 15), (10.0, 22)];
/// Median, 95th and 99th percentile of the known service times, in milliseconds.
const SERVICE: [f64; 3] = [60.0, 150.0, 240.0];
/// Runs of the model with different chance, whose outcomes are taken together.
const SEEDS: u64 = 20;

/// One figure of both.
#[derive(Debug, Serialize)]
struct Row {
    figure: &'static str,
    unit: &'static str,
    measured: f64,
    model: f64,
    /// What the model says too much, as a share of what was measured.
    error: f64,
}

/// Drives, models, shows.
///
/// # Errors
/// When the queue fails.
pub(super) async fn run(terminal: &Terminal, seed: u64, json: bool) -> anyhow::Result<ExitCode> {
    let scaling = ScalingConfig { mode: Mode::Queue, min: 2, max: 20, cooldown_seconds: 2, ..ScalingConfig::default() };
    let workers = WorkersConfig { scaling: scaling.clone(), ..WorkersConfig::default() };
    let service = Service::new(Times::Quantiles(SERVICE));
    let drive = Drive {
        queue: QueueConfig::default(),
        workers: workers.clone(),
        phases: PHASES.to_vec(),
        service: service.clone(),
        seed,
    };
    let folder = Folder::new(None)?;
    let seen = step::drive(&drive, folder.path()).await?;
    let mut range = Range::default();
    seen.looks.iter().for_each(|look| range.add(f64::from(look.workers)));
    let seconds: u32 = PHASES.iter().map(|(_, seconds)| seconds).sum();
    let site = Site {
        tick_ms: 1,
        ticks: u64::from(seconds) * 1_000,
        looked_again: 1.0,
        service,
        cpu_share: 0.0,
        hard_ms: workers.hard_seconds * 1_000,
        processes: 1,
        worker_cores: 1,
        scaling,
        prefetch: workers.prefetch as u64,
        idle_ms: workers.idle_ms,
        queue_per_second: 1e9,
        // The call that puts in was measured; the call that claims is taken to be as long.
        queue_ms: seen.enqueue.mean() / 1_000.0 * 2.0,
        gateway_cpu_ms: 0.001,
        gateway_cores: 1,
        busy: 1.0,
        seed,
    };
    let (mut age, mut modelled) = (Histogram::default(), [Range::default(); 4]);
    for more in 0..SEEDS {
        let site = Site { seed: seed.wrapping_add(more), ..site.clone() };
        let out = model::run(&site, |ms| step::rate(&PHASES, ms as f64 / 1_000.0));
        age.merge(&out.age);
        let started = out.started as f64 / f64::from(seconds);
        for (range, value) in
            modelled.iter_mut().zip([started, out.workers.mean, out.workers.peak, out.depth_peak as f64])
        {
            range.add(value);
        }
    }
    let ms = |histogram: &Histogram, share: f64| histogram.quantile(share) / 1_000.0;
    let depth = seen.looks.iter().map(|look| look.depth).max().unwrap_or(0) as f64;
    let [rate, mean, peak, modelled_depth] = modelled.map(|range| range.mean);
    let row = |figure, unit, measured: f64, model: f64| {
        let error = if measured.abs() > f64::EPSILON { model / measured - 1.0 } else { 0.0 };
        Row { figure, unit, measured, model, error }
    };
    let rows = [
        row("throughput", "jobs/s", seen.done as f64 / seen.seconds, rate),
        row("queue age p50", "ms", ms(&seen.waits, 0.5), ms(&age, 0.5)),
        row("queue age p95", "ms", ms(&seen.waits, 0.95), ms(&age, 0.95)),
        row("queue age p99", "ms", ms(&seen.waits, 0.99), ms(&age, 0.99)),
        row("depth at most", "jobs", depth, modelled_depth),
        row("workers, mean", "workers", range.mean, mean),
        row("workers, most", "workers", range.peak, peak),
    ];
    show(terminal, &rows, seen.done, seen.jobs, json)?;
    Ok(if seen.done == seen.jobs { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(terminal: &Terminal, rows: &[Row], done: u64, jobs: u64, json: bool) -> anyhow::Result<()> {
    if json {
        let value = serde_json::json!({
            "phases": PHASES, "service_ms": SERVICE, "model_runs": SEEDS, "jobs": jobs, "done": done, "figures": rows,
        });
        terminal.json(&value)?;
        return Ok(());
    }
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let figure = format!("{}, {}", row.figure, row.unit);
            vec![figure, short(row.measured), short(row.model), format!("{:+.0} %", row.error * 100.0)]
        })
        .collect();
    terminal.table(&["FIGURE", "MEASURED", "MODEL", "MODEL ERROR"], &lines)?;
    let [p50, p95, p99] = SERVICE;
    terminal.line(&terminal.toned(
        Tone::Quiet,
        &format!(
            "{done} of {jobs} jobs done. One real run of 10, 90 and 10 jobs/s on the embedded queue, {p50}, {p95}, {p99} ms a job \
             (p50, p95, p99), cooldown 2 s; {SEEDS} runs of the model."
        ),
    ))?;
    Ok(())
}
