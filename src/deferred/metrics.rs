//! Metrics of queue and workers.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use tokio_util::sync::CancellationToken;

use super::{Depth, Priority, Queue};

/// How often a process that does not work looks at the queue.
const LOOK: Duration = Duration::from_secs(5);

/// Shows what is in the queue until `stop`, for a process without workers: they may all be gone elsewhere.
pub async fn watch(queue: Arc<dyn Queue>, metrics: Arc<Metrics>, stop: CancellationToken) {
    loop {
        match queue.depth().await {
            Ok(depth) => metrics.measured(&depth),
            Err(_) => {
                metrics.failures.with_label_values(&["measure"]).inc();
                metrics.unmeasured();
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Counters, gauges and histograms of queue and workers; declared here, with help, and nowhere else.
#[derive(Debug)]
pub struct Metrics {
    depth: IntGaugeVec,
    oldest_seconds: GaugeVec,
    /// Without labels, but one that is not there while nobody knows.
    dead: IntGaugeVec,
    pub(super) enqueued: IntCounterVec,
    pub(super) failures: IntCounterVec,
    jobs: IntCounterVec,
    job_seconds: HistogramVec,
    wait_seconds: HistogramVec,
    pub(super) workers: IntGaugeVec,
    pub(super) utilisation: Gauge,
    pub(super) scalings: IntCounterVec,
}

impl Metrics {
    /// Declares them at a registry.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let buckets =
            vec![0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0];
        let seconds =
            |name, help| HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.clone()), &["kind"]);
        let counter = |name, help, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let gauge = |name, help, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            depth: gauge("mailweir_queue_jobs", "Jobs in the queue, by priority and state.", &["priority", "state"])?,
            oldest_seconds: GaugeVec::new(
                Opts::new(
                    "mailweir_queue_oldest_seconds",
                    "How long the oldest job that could be worked on has waited, by priority.",
                ),
                &["priority"],
            )?,
            dead: gauge("mailweir_queue_dead_letters", "Dead letters in the queue.", &[])?,
            enqueued: counter(
                "mailweir_queue_enqueued_total",
                "Jobs moved from the outbox, by outcome.",
                &["outcome"],
            )?,
            failures: counter(
                "mailweir_queue_failures_total",
                "Calls to the queue that failed, by what was attempted.",
                &["attempt"],
            )?,
            jobs: counter("mailweir_jobs_total", "Attempts at jobs, by kind and outcome.", &["kind", "outcome"])?,
            job_seconds: seconds("mailweir_job_seconds", "Time of one attempt at a job, by kind.")?,
            wait_seconds: seconds(
                "mailweir_job_wait_seconds",
                "Time from making a job to its first attempt, by kind.",
            )?,
            workers: gauge("mailweir_workers", "Workers of this process, by state.", &["state"])?,
            utilisation: Gauge::new("mailweir_workers_utilisation", "Share of the workers that are busy, 0 to 1.")?,
            scalings: counter(
                "mailweir_worker_scalings_total",
                "Changes of the number of workers, by cause.",
                &["cause"],
            )?,
        };
        registry.register(Box::new(metrics.depth.clone()))?;
        registry.register(Box::new(metrics.oldest_seconds.clone()))?;
        registry.register(Box::new(metrics.dead.clone()))?;
        registry.register(Box::new(metrics.enqueued.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.jobs.clone()))?;
        registry.register(Box::new(metrics.job_seconds.clone()))?;
        registry.register(Box::new(metrics.wait_seconds.clone()))?;
        registry.register(Box::new(metrics.workers.clone()))?;
        registry.register(Box::new(metrics.utilisation.clone()))?;
        registry.register(Box::new(metrics.scalings.clone()))?;
        // Closed sets begin at zero, so that the first of each is seen as an increase.
        for outcome in ["queued", "duplicate", "full", "refused"] {
            metrics.enqueued.with_label_values(&[outcome]);
        }
        for attempt in ["pump", "claim", "beat", "settle", "forget", "bury", "measure"] {
            metrics.failures.with_label_values(&[attempt]);
        }
        for cause in ["depth", "age", "cpu", "quiet", "bounds", "asked"] {
            metrics.scalings.with_label_values(&[cause]);
        }
        Ok(metrics)
    }

    /// Shows what is in the queue.
    pub(super) fn measured(&self, depth: &Depth) {
        for priority in Priority::ALL {
            let (name, now) = (priority.as_str(), &depth.by_priority[priority.place()]);
            for (state, count) in [("waiting", now.waiting), ("running", now.running), ("later", now.later)] {
                self.depth.with_label_values(&[name, state]).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
            self.oldest_seconds.with_label_values(&[name]).set(now.oldest_ms as f64 / 1_000.0);
        }
        self.dead.with_label_values(&[] as &[&str]).set(i64::try_from(depth.dead).unwrap_or(i64::MAX));
    }

    /// Shows nothing of the queue: what it held before says nothing of now.
    pub(super) fn unmeasured(&self) {
        self.depth.reset();
        self.oldest_seconds.reset();
        self.dead.reset();
    }

    /// Counts one attempt; kinds are those that have handlers, and `unknown`.
    pub(super) fn attempted(&self, kind: &str, outcome: &str, took: Duration, waited: Option<Duration>) {
        self.jobs.with_label_values(&[kind, outcome]).inc();
        self.job_seconds.with_label_values(&[kind]).observe(took.as_secs_f64());
        if let Some(waited) = waited {
            self.wait_seconds.with_label_values(&[kind]).observe(waited.as_secs_f64());
        }
    }
}
