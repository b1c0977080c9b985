//! The command line of `mailweir bench` and `mailweir simulate`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `mailweir bench`
#[derive(Debug, Subcommand)]
pub(in crate::app) enum BenchCommand {
    /// How many jobs a second the queue takes through their whole life: enqueue, claim, settle.
    ///
    /// Measured by some handles at once, each in batches: first in, then claimed and settled as done. Without --queue the
    /// embedded queue in a folder of its own that is removed again: put it with --folder on the disk whose speed counts, for
    /// each batch waits for that disk. With --queue a Redis; keys begin with --prefix, so that jobs of a gateway are not
    /// touched.
    ///
    /// Example: mailweir bench queue --queue redis://127.0.0.1:6379 --save before.json
    ///
    /// Exit codes: 0 measured; 1 the queue failed; 2 the command line is wrong or the host is not yours to load.
    #[command(verbatim_doc_comment)]
    Queue(BenchQueue),
    /// How many messages a second are judged in this process, with the settings of the gateway.
    ///
    /// Nothing is delivered, held or recorded. Nothing outside is asked unless --online is given: then the services and the
    /// resolver of the configuration get this load, too. Messages are made up (plain, HTML, newsletters, attachments; the
    /// seed decides all of them) or come from a folder.
    ///
    /// Example: mailweir bench pipeline --messages ./samples --at-a-time 4 --save today.json
    ///
    /// Exit codes: 0 measured; 1 failed; 2 the command line or configuration is wrong.
    #[command(verbatim_doc_comment)]
    Pipeline(BenchPipeline),
    /// Sends mail to a running gateway and measures its answers: SMTP to the relay, or the milter protocol.
    ///
    /// Over SMTP what passes IS DELIVERED to the gateway's next hop, and what does not is in its quarantine and records: use a
    /// test gateway, or a recipient that swallows mail. With --rate messages leave at fixed times whether or not earlier ones
    /// were answered (as long as a connection is free), and time counts from when a message was due; without it each
    /// connection sends the next message as soon as it has an answer.
    ///
    /// Example: mailweir bench end-to-end --to 127.0.0.1:2525 --connections 32 --rate 200 --seconds 60 --rcpt sink@example.com
    ///
    /// Exit codes: 0 every message got an answer, whatever it was; 1 some got none; 2 the command line is wrong, or the host
    /// is not yours to load.
    #[command(verbatim_doc_comment, name = "end-to-end")]
    EndToEnd(BenchWire),
    /// Lets a step of load fall on a pool of workers and watches their number go up and come back.
    ///
    /// Jobs that take --work-ms come at --base a second, then at --peak, then at --base again, through a real queue and the
    /// product's own pool; its number of workers follows [workers.scaling] of the configuration, with the options below over
    /// it. Counts how often the number changed its direction: twice (up, down) is right, more is thrashing.
    ///
    /// Example: mailweir bench step --peak 150 --during 60 --after 120 --cooldown 5 --svg step.svg
    ///
    /// Exit codes: 0 done, and the number turned once at most; 1 it turned more often, jobs were lost, or the queue failed;
    /// 2 the command line is wrong or the host is not yours to load.
    #[command(verbatim_doc_comment)]
    Step(BenchStep),
    /// Compares two saved runs of the same bench: each figure's ratio, which is better, and whether that is more than noise.
    ///
    /// Exit codes: 0 nothing in B is worse than in A beyond the noise; 1 something is; 2 a file is wrong.
    Compare {
        /// The run before.
        #[arg(value_name = "A")]
        a: PathBuf,
        /// The run after.
        #[arg(value_name = "B")]
        b: PathBuf,
        /// JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What all measurements do with their result.
#[derive(Debug, Clone, Args)]
pub(in crate::app) struct Output {
    /// JSON.
    #[arg(long)]
    pub json: bool,
    /// Write the run to this file, for `bench compare` and `simulate --measured`.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

/// Which queue is loaded.
#[derive(Debug, Clone, Args)]
pub(in crate::app) struct Place {
    /// Address of a Redis as in `queue.url`. Without it: the embedded queue.
    #[arg(long, value_name = "URL")]
    pub queue: Option<String>,
    /// Folder below which the embedded queue gets its own one. Without it: that of the system for temporary files.
    #[arg(long, value_name = "DIR", conflicts_with = "queue")]
    pub folder: Option<PathBuf>,
    /// Beginning of the keys in Redis. Not that of a gateway.
    #[arg(long, default_value = "mailweir-bench", value_name = "NAME")]
    pub prefix: String,
    /// Load a host that is neither this machine nor in a private network.
    #[arg(long)]
    pub i_own_this_host: bool,
}

/// `mailweir bench queue`
#[derive(Debug, Clone, Args)]
pub(in crate::app) struct BenchQueue {
    #[command(flatten)]
    pub place: Place,
    /// Jobs in each round.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub jobs: u32,
    /// Jobs in each batch.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,
    /// Bytes of a job.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(0..=65_536))]
    pub bytes: u32,
    /// Handles at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub handles: u32,
    /// Rounds; figures are their medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    #[command(flatten)]
    pub output: Output,
}

/// Which messages.
#[derive(Debug, Clone, Args)]
pub(in crate::app) struct Source {
    /// Folder of messages (looked through to the bottom), or one file. Without it: made-up mail.
    #[arg(long, value_name = "DIR")]
    pub messages: Option<PathBuf>,
    /// Decides the made-up mail.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Different messages at most; all of them are in memory.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

/// `mailweir bench pipeline`
#[derive(Debug, Clone, Args)]
pub(in crate::app) struct BenchPipeline {
    #[command(flatten)]
    pub source: Source,
    /// Messages judged at a time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub at_a_time: u32,
    /// How often each message is judged in a round.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub times: u32,
    /// Rounds; figures are their medians. One more, which is not counted, goes before them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Ask resolver and services as the gateway does.
    #[arg(long)]
    pub online: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `mailweir bench end-to-end`
#[derive(Debug, Clone, Args)]
pub(in crate::app) struct BenchWire {
    /// The gateway's relay.
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "milter", conflicts_with = "milter")]
    pub to: Option<String>,
    /// The gateway's milter door instead.
    #[arg(long, value_name = "HOST:PORT")]
    pub milter: Option<String>,
    #[command(flatten)]
    pub source: Source,
    /// Envelope sender.
    #[arg(long, value_name = "ADDRESS", default_value = "load@example.com")]
    pub from: String,
    /// Envelope recipient.
    #[arg(long, value_name = "ADDRESS", default_value = "postmaster@localhost")]
    pub rcpt: String,
    /// Connections at a time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub connections: u32,
    /// Messages a second at most, all connections together. Without it: as fast as they are answered.
    #[arg(long, value_parser = rate, value_name = "N[/s]")]
    pub rate: Option<f64>,
    /// How long.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// Time that one message may take, connecting included.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub timeout_seconds: u32,
    /// Load a host that is neither this machine nor in a private network.
    #[arg(long)]
    pub i_own_this_host: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `mailweir bench step`
#[derive(Debug, Clone, Args)]
pub(in crate::app) struct BenchStep {
    #[command(flatten)]
    pub place: Place,
    /// Jobs a second before and after the step.
    #[arg(long, default_value = "5", value_parser = rate)]
    pub base: f64,
    /// Jobs a second during the step.
    #[arg(long, default_value = "130", value_parser = rate)]
    pub peak: f64,
    /// Seconds before the step.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub before: u32,
    /// Seconds of the step.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=36_000))]
    pub during: u32,
    /// Seconds after the step.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(0..=36_000))]
    pub after: u32,
    /// Time that a job takes a worker, in milliseconds.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub work_ms: u32,
    /// `workers.scaling.cooldown_seconds` instead of the configured one.
    #[arg(long, value_name = "SECONDS")]
    pub cooldown: Option<u64>,
    /// Draw it into this file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    #[command(flatten)]
    pub output: Output,
}

/// `mailweir simulate`
#[derive(Debug, Clone, Args)]
pub(in crate::app) struct Simulate {
    /// Messages a second on average over a day.
    #[arg(long, value_parser = rate, value_name = "N[/s]", default_value = "100")]
    pub rate: f64,
    /// How long.
    #[arg(long, default_value_t = 24.0, value_parser = hours)]
    pub hours: f64,
    /// Course of a day: `flat`, `office`, or a CSV file of rows `HOUR,WEIGHT` (hour 0 to 24; between rows a straight line).
    #[arg(long, default_value = "flat", value_name = "flat|office|FILE")]
    pub shape: String,
    /// Share of messages that are looked at again after the reply.
    #[arg(long, default_value_t = 0.1, value_parser = share)]
    pub looked_again: f64,
    /// Saved runs of `bench pipeline` (CPU of a message, times of the second look) and `bench queue` (its speed) on the machine
    /// that counts.
    #[arg(long, value_name = "FILE")]
    pub measured: Vec<PathBuf>,
    /// CPU that a message takes a gateway, in milliseconds, over what was measured.
    #[arg(long, value_parser = positive)]
    pub gateway_cpu_ms: Option<f64>,
    /// Time that the second look takes a worker, in milliseconds: `MEAN`, or quantiles `P50,P95,P99`, over what was measured.
    #[arg(long, value_parser = times, value_name = "MS[,MS,MS]")]
    pub look_ms: Option<Times>,
    /// Of that time, the share in which it takes CPU: the rest waits for services.
    #[arg(long, default_value_t = 1.0, value_parser = share)]
    pub look_cpu_share: f64,
    /// Cores of a gateway.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub gateway_cores: u32,
    /// Cores of a machine with one worker process.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub worker_cores: u32,
    /// How busy a gateway may be at the peak, as a share.
    #[arg(long, default_value_t = 0.7, value_parser = share)]
    pub busy: f64,
    /// Worker processes, each with workers by [workers.scaling]. Without it: as many as the peak needs.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub processes: Option<u32>,
    /// Price of a core for an hour, in any currency.
    #[arg(long, default_value_t = 0.04, value_parser = price)]
    pub core_hour_price: f64,
    /// Step of the model in milliseconds. Without it: as fine as 2 million steps allow, at least 1 ms.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub tick_ms: Option<u32>,
    /// Decides the chance.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Run a short real load on this machine's embedded queue instead, model the same, and show both.
    #[arg(long)]
    pub validate: bool,
    /// JSON.
    #[arg(long)]
    pub json: bool,
}

/// Service times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::app) enum Times {
    /// Always the same.
    Mean(f64),
    /// Median, 95th and 99th percentile.
    Quantiles([f64; 3]),
}

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && (least..=most).contains(n));
    number.ok_or_else(|| format!("`{text}` is no number from {least} to {most}"))
}

fn rate(text: &str) -> Result<f64, String> {
    number(text.strip_suffix("/s").unwrap_or(text), 0.001, 1e7)
}

fn hours(text: &str) -> Result<f64, String> {
    number(text, 0.001, 24.0 * 31.0)
}

fn share(text: &str) -> Result<f64, String> {
    number(text, 0.0, 1.0)
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, 0.000_1, 60_000.0)
}

fn price(text: &str) -> Result<f64, String> {
    number(text, 0.0, 1e6)
}

fn times(text: &str) -> Result<Times, String> {
    let all = text.split(',').map(positive).collect::<Result<Vec<f64>, String>>()?;
    match all[..] {
        [mean] => Ok(Times::Mean(mean)),
        [p50, p95, p99] if p50 <= p95 && p95 <= p99 => Ok(Times::Quantiles([p50, p95, p99])),
        _ => Err(format!("`{text}` is neither one time nor three that grow")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_bounds() {
        assert_eq!((rate("10000/s"), rate("0.5")), (Ok(10_000.0), Ok(0.5)));
        assert_eq!(times("80"), Ok(Times::Mean(80.0)));
        assert_eq!(times("1,2,3"), Ok(Times::Quantiles([1.0, 2.0, 3.0])));
        for wrong in ["0", "-1", "NaN", "inf", "x", "", "1/m"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        for wrong in ["1,2", "3,2,1", "", "1,2,3,4"] {
            assert!(times(wrong).is_err(), "{wrong}");
        }
        assert!(share("1.1").is_err() && hours("0").is_err() && price("-1").is_err());
    }
}
