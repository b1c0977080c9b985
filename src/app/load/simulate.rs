//! `mailweir simulate`: how many gateways and workers a rate needs, how long jobs wait, and what it costs.

use std::process::ExitCode;

use serde::Serialize;

use super::cli::{Simulate, Times};
use super::figures::{Run, short};
use super::model::{self, Outcome, Range, Service, Site};
use super::shape::Shape;
use super::{target, validate};
use crate::app::cli::Common;
use crate::app::config::Config;
use crate::app::terminal::{Terminal, Tone};

/// CPU of a message in a gateway whose milter enforces the whole public feed, in milliseconds: README, "What it costs".
const GATEWAY_CPU_MS: f64 = 1.7;
/// Of that, what is not judging: sockets, ledger (0.49 ms less the 0.12 ms of judging, from the same place).
const DOOR_CPU_MS: f64 = 0.37;
const README: &str = "README \"What it costs\", 2026-11-21";
/// Steps of the model when nobody says otherwise.
const TICKS: f64 = 2e6;
/// Steps of the model at most.
const TICKS_MAX: f64 = 1e8;

/// A number and where it comes from.
#[derive(Debug, Clone, Serialize)]
struct Given<T> {
    value: T,
    from: String,
}

impl<T> Given<T> {
    fn new(value: T, from: impl Into<String>) -> Self {
        Self { value, from: from.into() }
    }
}

/// What goes into the model besides the command line.
struct Inputs {
    gateway_cpu_ms: Given<f64>,
    look: Given<Times>,
    queue_per_second: Given<f64>,
    queue_ms: Given<f64>,
}

/// Costs, in the currency of the price.
#[derive(Debug, Serialize)]
struct Cost {
    /// Machines for the peak stand there all the time.
    fixed_per_million: f64,
    /// Machines come and go with the load, minute by minute.
    following_per_million: f64,
}

/// Runs the command.
pub(in crate::app) async fn run(options: &Simulate, config: &Config, common: &Common) -> anyhow::Result<ExitCode> {
    let terminal = Terminal::new(common.colour);
    if options.validate {
        return Box::pin(validate::run(&terminal, options.seed, options.json)).await;
    }
    let wrong = |error: anyhow::Error| target::Refused(format!("{error:#}"));
    let shape = Shape::read(&options.shape).map_err(wrong)?;
    let inputs = inputs(options).map_err(wrong)?;
    let site = site(options, config, &inputs, shape.peak(options.hours)).map_err(wrong)?;
    let modelled = site.clone();
    let rate = options.rate;
    let work = move || model::run(&modelled, |ms| rate * shape.at(ms as f64 / 3_600_000.0));
    let begun = tokio::time::Instant::now();
    let out = tokio::task::spawn_blocking(work).await?;
    let took = begun.elapsed().as_secs_f64();
    let cost = cost(options, &site, &out);
    if options.json {
        json(&terminal, (options, &inputs), &site, &out, (&cost, took))?;
    } else {
        show(&terminal, (options, &inputs), &site, &out, (&cost, took))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn inputs(options: &Simulate) -> anyhow::Result<Inputs> {
    let built_in = format!("{README}: milter, the whole feed enforced");
    let mut inputs = Inputs {
        gateway_cpu_ms: Given::new(GATEWAY_CPU_MS, built_in),
        look: Given::new(Times::Mean(GATEWAY_CPU_MS), "as long as the first look: no service is asked"),
        queue_per_second: Given::new(5_000.0, "the least that the embedded queue is to do"),
        queue_ms: Given::new(0.0, "left out"),
    };
    for file in &options.measured {
        let run = Run::read(file)?;
        let from = format!("{}, {}", file.display(), crate::app::terminal::time(run.at_ms));
        match run.bench.as_str() {
            "pipeline" => {
                if let Some(cpu) = run.figure("CPU a message") {
                    inputs.gateway_cpu_ms =
                        Given::new(cpu + DOOR_CPU_MS, format!("{from}, and {DOOR_CPU_MS} ms for the door: {README}"));
                }
                let times = ["p50", "p95", "p99"].map(|which| run.figure(&format!("message {which}")));
                if let [Some(p50), Some(p95), Some(p99)] = times {
                    let times = Times::Quantiles([p50, p95.max(p50), p99.max(p95)]);
                    inputs.look = Given::new(times, format!("{from}: as long as the first look"));
                }
            }
            "queue" => {
                if let Some(rate) = run.figure("whole life") {
                    inputs.queue_per_second = Given::new(rate, from.clone());
                }
                if let Some((put, claim)) = run.figure("enqueue p50").zip(run.figure("claim p50")) {
                    inputs.queue_ms = Given::new(put + claim, from);
                }
            }
            other => anyhow::bail!("{}: `bench {other}` measures nothing that the model takes", file.display()),
        }
    }
    if let Some(ms) = options.gateway_cpu_ms {
        inputs.gateway_cpu_ms = Given::new(ms, "--gateway-cpu-ms");
    }
    if let Some(times) = options.look_ms {
        inputs.look = Given::new(times, "--look-ms");
    }
    Ok(inputs)
}

fn site(options: &Simulate, config: &Config, inputs: &Inputs, peak: f64) -> anyhow::Result<Site> {
    let span_ms = options.hours * 3_600_000.0;
    let tick_ms = options.tick_ms.map_or_else(|| (span_ms / TICKS).ceil().max(1.0), f64::from);
    let ticks = (span_ms / tick_ms).ceil();
    anyhow::ensure!(ticks <= TICKS_MAX, "--tick-ms: {ticks:.0} steps are too many; {TICKS_MAX:.0} at most");
    let workers = &config.workers;
    workers.check()?;
    let service = Service::new(inputs.look.value);
    let jobs = options.rate * peak * options.looked_again;
    let (most, cores) = (f64::from(workers.scaling.max), f64::from(options.worker_cores));
    let busy = options.busy.max(0.01);
    let by_workers = jobs * service.mean() / 1_000.0 / (most * busy);
    let by_cores = jobs * service.mean() / 1_000.0 * options.look_cpu_share / (cores * busy);
    let needed = by_workers.max(by_cores).ceil().clamp(1.0, 1e6) as u32;
    Ok(Site {
        tick_ms: tick_ms as u64,
        ticks: ticks as u64,
        looked_again: options.looked_again,
        service,
        cpu_share: options.look_cpu_share,
        hard_ms: workers.hard_seconds.min(3_600) * 1_000,
        processes: options.processes.unwrap_or(needed),
        worker_cores: options.worker_cores,
        scaling: workers.scaling.clone(),
        prefetch: workers.prefetch as u64,
        idle_ms: workers.idle_ms,
        queue_per_second: inputs.queue_per_second.value,
        queue_ms: inputs.queue_ms.value,
        gateway_cpu_ms: inputs.gateway_cpu_ms.value,
        gateway_cores: options.gateway_cores,
        busy,
        seed: options.seed,
    })
}

fn cost(options: &Simulate, site: &Site, out: &Outcome) -> Cost {
    let hours = (site.ticks * site.tick_ms) as f64 / 3_600_000.0;
    let millions = out.messages as f64 / 1e6;
    let machines = |gateways: f64, processes: f64| {
        gateways * f64::from(site.gateway_cores) + processes * f64::from(site.worker_cores)
    };
    let per_million =
        |cores: f64| if millions > 0.0 { cores * hours * options.core_hour_price / millions } else { 0.0 };
    let processes = f64::from(site.processes);
    let share = if out.workers.peak > 0.0 { out.workers.mean / out.workers.peak } else { 1.0 };
    Cost {
        fixed_per_million: per_million(machines(out.gateways.peak, processes)),
        following_per_million: per_million(machines(out.gateways.mean, (processes * share).max(1.0))),
    }
}

fn age(out: &Outcome) -> [(&'static str, f64); 4] {
    let ms = |share| out.age.quantile(share) / 1_000.0;
    [("p50", ms(0.5)), ("p95", ms(0.95)), ("p99", ms(0.99)), ("max", out.age.max() / 1_000.0)]
}

fn json(
    terminal: &Terminal,
    (options, inputs): (&Simulate, &Inputs),
    site: &Site,
    out: &Outcome,
    (cost, took): (&Cost, f64),
) -> anyhow::Result<()> {
    let age: serde_json::Map<_, _> = age(out).into_iter().map(|(name, ms)| (name.to_owned(), ms.into())).collect();
    let look = Given::new(site.service.mean(), inputs.look.from.clone());
    terminal.json(&serde_json::json!({
        "rate": options.rate, "hours": options.hours, "shape": options.shape, "looked_again": options.looked_again,
        "inputs": {
            "gateway_cpu_ms": inputs.gateway_cpu_ms, "look_mean_ms": look, "queue_jobs_per_second": inputs.queue_per_second,
            "queue_ms": inputs.queue_ms,
        },
        "messages": out.messages, "jobs": out.jobs, "jobs_left": out.left,
        "gateways": out.gateways, "gateway_cores": site.gateway_cores,
        "worker_processes": site.processes, "workers": out.workers, "worker_utilisation": out.utilisation,
        "worker_cpu_cores": out.worker_cores, "scalings": out.scalings, "turns": out.turns,
        "queue_age_ms": age, "depth_max": out.depth_peak, "cost": cost, "tick_ms": site.tick_ms, "took_seconds": took,
    }))?;
    Ok(())
}

fn show(
    terminal: &Terminal,
    (options, inputs): (&Simulate, &Inputs),
    site: &Site,
    out: &Outcome,
    (cost, took): (&Cost, f64),
) -> anyhow::Result<()> {
    let range =
        |name: &str, range: &Range| vec![name.to_owned(), short(range.min), short(range.mean), short(range.peak)];
    terminal.table(
        &["NEEDED", "MIN", "MEAN", "PEAK"],
        &[
            range(&format!("gateways of {} cores", site.gateway_cores), &out.gateways),
            range(&format!("workers, in {} process(es) of {} cores", site.processes, site.worker_cores), &out.workers),
        ],
    )?;
    let [p50, p95, p99, max] = age(out).map(|(_, ms)| short(ms));
    let rows = [
        ("messages", short(out.messages as f64)),
        ("looked at again", format!("{} jobs, {} left at the end", short(out.jobs as f64), short(out.left as f64))),
        (
            "queue age, ms",
            format!("p50 {p50}, p95 {p95}, p99 {p99}, max {max}; {} jobs deep at most", short(out.depth_peak as f64)),
        ),
        (
            "workers busy",
            format!("{:.0} % of their time, {} cores on average", out.utilisation * 100.0, short(out.worker_cores)),
        ),
        ("scaling", format!("{} changes, {} of direction", out.scalings, out.turns)),
        (
            "cost of a million",
            format!(
                "{} with machines for the peak, {} with machines that follow the load ({} a core hour)",
                short(cost.fixed_per_million),
                short(cost.following_per_million),
                options.core_hour_price
            ),
        ),
    ];
    for (name, value) in rows {
        terminal.line(&format!("{name:<18} {value}"))?;
    }
    let per_job = format!("mean {} ms", short(site.service.mean()));
    let given = [
        ("CPU of a message", format!("{} ms", short(inputs.gateway_cpu_ms.value)), &inputs.gateway_cpu_ms.from),
        ("second look", per_job, &inputs.look.from),
        ("queue", format!("{} jobs/s", short(inputs.queue_per_second.value)), &inputs.queue_per_second.from),
    ];
    for (name, value, from) in given {
        terminal.line(&terminal.toned(Tone::Quiet, &format!("{name}: {value} ({from})")))?;
    }
    let jobs = options.rate * options.looked_again;
    if jobs > inputs.queue_per_second.value {
        let text = format!("{} jobs a second are more than the queue takes", short(jobs));
        terminal.line(&terminal.toned(Tone::Warning, &text))?;
    }
    if out.left > out.depth_peak / 2 && out.left > 1_000 {
        terminal.line(&terminal.toned(Tone::Warning, "the workers fall behind: give more processes or workers"))?;
    }
    let steps = format!(
        "{} steps of {} ms in {took:.1} s; `--validate` shows the model beside a real load",
        short(site.ticks as f64),
        site.tick_ms
    );
    terminal.line(&terminal.toned(Tone::Quiet, &steps))?;
    Ok(())
}
