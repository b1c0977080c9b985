//! `bench queue`: the whole life of jobs in batches, by some handles at once.

use std::collections::HashMap;
use std::sync::Arc;

use indicatif::ProgressBar;
use serde_json::json;
use tokio::time::Instant;

use super::bench::{empty, place, progress};
use super::cli::BenchQueue;
use super::figures::{Better, Histogram, Reading, Run};
use crate::deferred::{Job, Queue, QueueConfig, Settlement, open};

/// What one handle measured, in microseconds: calls, and lives of jobs.
#[derive(Debug, Default)]
struct Measured {
    enqueue: Histogram,
    claim: Histogram,
    settle: Histogram,
    life: Histogram,
    done: u64,
}

/// Measures.
///
/// # Errors
/// When the queue fails, is not empty, or a job is lost.
pub(super) async fn measure(options: &BenchQueue) -> anyhow::Result<Run> {
    let (config, folder) = place(&options.place).await?;
    let mut handles: Vec<Arc<dyn Queue>> = Vec::new();
    for _ in 0..options.handles {
        handles.push(open(&config, folder.path()).await?);
    }
    empty(&*handles[0], &config.prefix).await?;
    let bar = progress(u64::from(options.jobs) * u64::from(options.rounds), "jobs");
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        rounds.push(one_round(options, &config, &handles, round, &bar).await?);
    }
    bar.finish_and_clear();
    let place = if config.url.is_empty() { "embedded".to_owned() } else { handles[0].place() };
    for handle in handles {
        handle.close().await;
    }
    let said = json!({
        "queue": place, "jobs": options.jobs, "batch": options.batch, "bytes": options.bytes, "handles": options.handles,
    });
    let mut run = Run::new("queue", said, &rounds);
    run.notes.push(format!(
        "{place}: {} jobs of {} bytes a round, {} handles, batches of {}; times of calls are of whole batches, life is of a \
         job, in to done; a handle claims what another put in",
        options.jobs, options.bytes, options.handles, options.batch
    ));
    Ok(run)
}

async fn one_round(
    options: &BenchQueue,
    config: &QueueConfig,
    handles: &[Arc<dyn Queue>],
    round: u32,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Reading>> {
    let begun = Instant::now();
    let born = Arc::new(std::sync::Mutex::new(HashMap::with_capacity(options.jobs as usize)));
    let share = options.jobs.div_ceil(options.handles);
    let tasks: Vec<_> = handles
        .iter()
        .zip(0u32..)
        .map(|(queue, n)| {
            let count = share.min(options.jobs.saturating_sub(n * share));
            let life = Life {
                queue: Arc::clone(queue),
                born: Arc::clone(&born),
                batch: options.batch as usize,
                bar: bar.clone(),
                measured: Measured::default(),
            };
            let payload = bytes::Bytes::from(vec![b'x'; (options.bytes as usize).min(config.max_payload_bytes)]);
            tokio::spawn(life.live(format!("{round}.{n}"), count, payload))
        })
        .collect();
    let mut all = Measured::default();
    for task in tasks {
        let one = task.await??;
        all.enqueue.merge(&one.enqueue);
        all.claim.merge(&one.claim);
        all.settle.merge(&one.settle);
        all.life.merge(&one.life);
        all.done += one.done;
    }
    // What a handle had claimed when another looked last is done by now.
    let seconds = begun.elapsed().as_secs_f64();
    anyhow::ensure!(all.done == u64::from(options.jobs), "{} jobs went in, {} were done", options.jobs, all.done);
    let mut readings = vec![Reading::new("whole life", "jobs/s", Better::More, all.done as f64 / seconds)];
    for (name, times) in
        [("enqueue", &all.enqueue), ("claim", &all.claim), ("settle", &all.settle), ("life of a job", &all.life)]
    {
        readings.extend(Reading::times(name, times));
    }
    Ok(readings)
}

struct Life {
    queue: Arc<dyn Queue>,
    /// When each job went in, by key.
    born: Arc<std::sync::Mutex<HashMap<String, Instant>>>,
    batch: usize,
    bar: ProgressBar,
    measured: Measured,
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Life {
    async fn live(mut self, name: String, count: u32, payload: bytes::Bytes) -> anyhow::Result<Measured> {
        let jobs: Vec<Job> = (0..count).map(|n| Job::new("bench", format!("{name}:{n}"), payload.clone(), 0)).collect();
        for some in jobs.chunks(self.batch) {
            let begun = Instant::now();
            {
                let mut born = self.born.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                born.extend(some.iter().map(|job| (job.key.clone(), begun)));
            }
            self.queue.enqueue(some).await?;
            self.measured.enqueue.add(micros(begun));
            self.settle_some().await?;
        }
        while self.settle_some().await? > 0 {}
        Ok(self.measured)
    }

    async fn settle_some(&mut self) -> anyhow::Result<usize> {
        let begun = Instant::now();
        let claims = self.queue.claim([0, self.batch, 0]).await?;
        if claims.is_empty() {
            return Ok(0);
        }
        self.measured.claim.add(micros(begun));
        let done: Vec<_> = claims.into_iter().map(|claim| (Arc::new(claim), Settlement::Done)).collect();
        let begun = Instant::now();
        let settled = self.queue.settle(&done).await?;
        self.measured.settle.add(micros(begun));
        self.measured.done += settled.iter().filter(|settled| **settled).count() as u64;
        let born = self.born.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (claim, _) in &done {
            if let Some(born) = born.get(&claim.job.key) {
                self.measured.life.add(micros(*born));
            }
        }
        drop(born);
        self.bar.inc(done.len() as u64);
        Ok(done.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::load::cli::{Output, Place};

    #[tokio::test(flavor = "multi_thread")]
    async fn every_job_lives_once() {
        let place = Place { queue: None, folder: None, prefix: "mailweir-bench".into(), i_own_this_host: false };
        let output = Output { json: false, save: None };
        let options = BenchQueue { place, jobs: 101, batch: 10, bytes: 100, handles: 3, rounds: 2, output };
        let run = measure(&options).await.unwrap();
        assert!(run.figure("whole life").unwrap() > 0.0);
        assert!(run.figure("life of a job p50").unwrap() <= run.figure("life of a job max").unwrap());
        assert_eq!(run.figures.len(), 17);
        assert_eq!(run.figures[0].rounds.len(), 2);
    }
}
