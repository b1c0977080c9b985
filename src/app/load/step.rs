//! A real load on a real queue and the product's own pool, in phases; and `bench step`, which watches the workers over it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::bench::{empty, now_ms, place, progress};
use super::cli::{BenchStep, Times};
use super::dice::Dice;
use super::figures::{Better, Histogram, Reading, Run};
use super::model::Service;
use super::picture::{Picture, draw};
use crate::app::config::Config;
use crate::deferred::{
    Crew, Failure, Handler, Handlers, Job, Metrics, Mode, Pool, Queue, QueueConfig, ScalingConfig, WorkersConfig, open,
};

/// How often jobs that are due are put into the queue.
const FEED: Duration = Duration::from_millis(20);
/// How often the workers are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long the queue may take to become empty after the last phase.
const DRAIN: Duration = Duration::from_secs(120);
/// Jobs in one call at most.
const BATCH: usize = 1_000;

/// What is to be driven.
#[derive(Debug, Clone)]
pub(super) struct Drive {
    pub(super) queue: QueueConfig,
    pub(super) workers: WorkersConfig,
    /// Jobs a second, and for how many seconds.
    pub(super) phases: Vec<(f64, u32)>,
    pub(super) service: Service,
    pub(super) seed: u64,
}

/// The workers at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Look {
    pub(super) second: f64,
    /// Jobs that waited when the pool measured last.
    pub(super) depth: u64,
    pub(super) workers: u32,
    /// Jobs a second that come.
    pub(super) rate: f64,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) looks: Vec<Look>,
    /// From when a job was made until a worker began, in microseconds.
    pub(super) waits: Histogram,
    /// Calls that put jobs into the queue, in microseconds.
    pub(super) enqueue: Histogram,
    pub(super) jobs: u64,
    pub(super) done: u64,
    /// Until the last job was done.
    pub(super) seconds: f64,
}

impl Seen {
    /// Numbers of workers one after the other, each different from the one before.
    pub(super) fn steps(&self) -> Vec<u32> {
        let mut steps: Vec<u32> = self.looks.iter().map(|look| look.workers).collect();
        steps.dedup();
        steps
    }

    /// How often the number changed its direction.
    pub(super) fn turns(&self) -> usize {
        let steps = self.steps();
        let up: Vec<bool> = steps.windows(2).map(|pair| pair[1] > pair[0]).collect();
        up.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }
}

#[derive(Default)]
struct Tally {
    waits: Histogram,
    done: u64,
}

/// A worker's work: so long it waits.
struct Sleeper {
    tally: Arc<Mutex<Tally>>,
}

impl Handler for Sleeper {
    fn run<'a>(&'a self, job: &'a Job, _soon: CancellationToken) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let begun_ms = now_ms();
            let us = std::str::from_utf8(&job.payload).ok().and_then(|text| text.parse().ok());
            let us = us.ok_or_else(|| Failure::never("the job does not say how long it takes"))?;
            sleep(Duration::from_micros(us)).await;
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.waits.add(begun_ms.saturating_sub(job.enqueued_ms).max(0).unsigned_abs() * 1_000);
            tally.done += 1;
            Ok(())
        }
        .boxed()
    }
}

/// Drives the load; `folder` is where an embedded queue is.
///
/// # Errors
/// When the queue fails, or is not empty.
pub(super) async fn drive(drive: &Drive, folder: &Path) -> anyhow::Result<Seen> {
    let queue = open(&drive.queue, folder).await?;
    empty(&*queue, &drive.queue.prefix).await?;
    let tally = Arc::new(Mutex::new(Tally::default()));
    let sleeper: Arc<dyn Handler> = Arc::new(Sleeper { tally: Arc::clone(&tally) });
    let handlers = Handlers::from([("bench".to_owned(), sleeper)]);
    let metrics = Arc::new(Metrics::new(&prometheus::Registry::new())?);
    let pool = Pool::new(Arc::clone(&queue), None, handlers, (&drive.queue, &drive.workers), metrics)?;
    let (crew, stop) = (pool.crew(), CancellationToken::new());
    let working = tokio::spawn(pool.run(stop.clone()));
    let seen = watch(drive, &queue, &crew, &tally).await;
    stop.cancel();
    let ended = working.await;
    queue.close().await;
    ended.context("the pool broke down")?;
    let mut seen = seen?;
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    (seen.waits, seen.done) = (tally.waits.clone(), tally.done);
    Ok(seen)
}

async fn watch(drive: &Drive, queue: &Arc<dyn Queue>, crew: &Crew, tally: &Mutex<Tally>) -> anyhow::Result<Seen> {
    let total: u32 = drive.phases.iter().map(|(_, seconds)| seconds).sum();
    let (mut seen, mut dice, bar) = (Seen::default(), Dice::new(drive.seed), progress(total.into(), "s"));
    let begun = Instant::now();
    let (mut feed, mut look) = (interval(FEED), interval(LOOK));
    // What was missed is made up for by the number of jobs, not by the number of calls.
    feed.set_missed_tick_behavior(MissedTickBehavior::Skip);
    look.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut fed = 0.0;
    loop {
        tokio::select! {
            _ = look.tick() => {
                let second = begun.elapsed().as_secs_f64();
                seen.looks.push(look_at(crew, second, rate(&drive.phases, second)));
                bar.set_position(second as u64);
            }
            _ = feed.tick() => {
                let now = begun.elapsed().as_secs_f64();
                let mean = between(&drive.phases, fed, now);
                fed = now;
                let mut due: VecDeque<Job> = (0..dice.poisson(mean)).map(|n| job(drive, &mut dice, seen.jobs + n)).collect();
                seen.jobs += due.len() as u64;
                while !due.is_empty() {
                    let some: Vec<Job> = due.drain(..due.len().min(BATCH)).collect();
                    let called = Instant::now();
                    queue.enqueue(&some).await?;
                    seen.enqueue.add(u64::try_from(called.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
                if now >= f64::from(total) {
                    break;
                }
            }
        }
    }
    let all_done = async {
        while tally.lock().unwrap_or_else(PoisonError::into_inner).done < seen.jobs {
            sleep(FEED).await;
        }
    };
    // What is not done by then is told by the difference of jobs and done.
    let _ = timeout(DRAIN, all_done).await;
    seen.seconds = begun.elapsed().as_secs_f64();
    bar.finish_and_clear();
    Ok(seen)
}

fn job(drive: &Drive, dice: &mut Dice, number: u64) -> Job {
    let us = (drive.service.draw(dice) * 1_000.0) as u64;
    Job::new("bench", format!("{}:{number}", drive.seed), us.to_string(), now_ms())
}

fn look_at(crew: &Crew, second: f64, rate: f64) -> Look {
    let depth = crew.measurement().map_or(0, |(depth, _)| depth.waiting());
    Look { second, depth, workers: crew.target(), rate }
}

/// Jobs a second at a second.
pub(super) fn rate(phases: &[(f64, u32)], second: f64) -> f64 {
    let mut end = 0.0;
    for (rate, seconds) in phases {
        end += f64::from(*seconds);
        if second < end {
            return *rate;
        }
    }
    0.0
}

/// Jobs that come between two seconds, on average.
fn between(phases: &[(f64, u32)], from: f64, to: f64) -> f64 {
    let (mut jobs, mut begin) = (0.0, 0.0);
    for (rate, seconds) in phases {
        let end = begin + f64::from(*seconds);
        jobs += rate * (to.min(end) - from.max(begin)).max(0.0);
        begin = end;
    }
    jobs
}

/// Measures; the second value is whether all jobs were done and the number of workers turned once at most.
///
/// # Errors
/// When the queue fails or is refused, a setting cannot be used, or the picture cannot be written.
pub(super) async fn measure(options: &BenchStep, config: &Config) -> anyhow::Result<(Run, bool)> {
    let (queue, folder) = place(&options.place).await?;
    let mut scaling: ScalingConfig = config.workers.scaling.clone();
    if matches!(scaling.mode, Mode::Cpu | Mode::Hybrid) {
        scaling.mode = Mode::Queue;
    }
    scaling.cooldown_seconds = options.cooldown.unwrap_or(scaling.cooldown_seconds);
    let drive_it = Drive {
        queue,
        workers: WorkersConfig { scaling: scaling.clone(), ..config.workers.clone() },
        phases: vec![(options.base, options.before), (options.peak, options.during), (options.base, options.after)],
        service: Service::new(Times::Mean(options.work_ms.into())),
        seed: 1,
    };
    let seen = drive(&drive_it, folder.path()).await?;
    let (steps, turns) = (seen.steps(), seen.turns());
    let workers =
        |pick: fn(std::vec::IntoIter<u32>) -> Option<u32>| f64::from(pick(steps.clone().into_iter()).unwrap_or(0));
    let depth = seen.looks.iter().map(|look| look.depth).max().unwrap_or(0);
    let mut readings = vec![
        Reading::new("workers at the beginning", "workers", Better::Neither, workers(|mut all| all.next())),
        Reading::new("workers at most", "workers", Better::Neither, workers(Iterator::max)),
        Reading::new("workers at the end", "workers", Better::Neither, workers(Iterator::last)),
        Reading::new("changes", "changes", Better::Neither, steps.len().saturating_sub(1) as f64),
        Reading::new("changes of direction", "changes", Better::Less, turns as f64),
        Reading::new("depth at most", "jobs", Better::Less, depth as f64),
        Reading::new("jobs", "jobs", Better::Neither, seen.jobs as f64),
        Reading::new("jobs lost", "jobs", Better::Less, seen.jobs.saturating_sub(seen.done) as f64),
    ];
    readings.extend(Reading::times("wait", &seen.waits));
    let title = format!(
        "{} jobs/s, then {} jobs/s for {} s, then {} again; {} ms a job; cooldown {} s",
        options.base, options.peak, options.during, options.base, options.work_ms, scaling.cooldown_seconds
    );
    let said = json!({
        "base": options.base, "peak": options.peak, "before": options.before, "during": options.during,
        "after": options.after, "work_ms": options.work_ms, "scaling": scaling,
        "queue": if drive_it.queue.url.is_empty() { "embedded" } else { "redis" },
    });
    let mut run = Run::new("step", said, &[readings]);
    let steps: Vec<String> = steps.iter().map(u32::to_string).collect();
    run.notes.push(format!("workers: {}", steps.join(" → ")));
    run.notes.push(title.clone());
    if let Some(file) = &options.svg {
        let svg = draw(&Picture { title, looks: &seen.looks, turns, scaling: &scaling });
        std::fs::write(file, svg).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok((run, turns <= 1 && seen.done == seen.jobs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(workers: &[u32]) -> Seen {
        let look = |workers: &u32| Look { second: 0.0, depth: 0, workers: *workers, rate: 0.0 };
        Seen { looks: workers.iter().map(look).collect(), ..Seen::default() }
    }

    #[test]
    fn turns_are_counted() {
        for (workers, turns) in
            [(&[2, 2, 4, 8, 8, 7, 6, 2][..], 1), (&[2, 4, 3, 6, 5], 3), (&[2, 2], 0), (&[], 0), (&[2, 4], 0)]
        {
            assert_eq!(seen(workers).turns(), turns, "{workers:?}");
        }
    }

    #[test]
    fn jobs_of_phases() {
        let phases = [(10.0, 2), (100.0, 1), (1.0, 2)];
        assert_eq!(between(&phases, 0.0, 9.0), 122.0);
        assert_eq!(between(&phases, 1.5, 2.5), 55.0);
        assert_eq!(
            [rate(&phases, 0.0), rate(&phases, 2.0), rate(&phases, 4.9), rate(&phases, 5.0)],
            [10.0, 100.0, 1.0, 0.0]
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_short_drive_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let drive_it = Drive {
            queue: QueueConfig::default(),
            workers: WorkersConfig::default(),
            phases: vec![(200.0, 1)],
            service: Service::new(Times::Mean(1.0)),
            seed: 3,
        };
        let seen = drive(&drive_it, folder.path()).await.unwrap();
        assert!(seen.jobs > 100 && seen.done == seen.jobs && seen.waits.count() == seen.jobs, "{seen:?}");
        assert!(seen.looks.len() > 1 && seen.enqueue.count() > 0);
    }
}
