//! Reads the gateway: its own metrics, the dependencies, the database, disks, certificates, feeds.
//!
//! What may hang (a database, a network file system) is asked by a task that is left to itself: one at a time, and what it says
//! late is read at a later look. Nothing here takes longer than a second.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus::Registry;
use prometheus::proto::{Metric, MetricFamily};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::certificate;
use crate::app::config::Config;
use crate::egress;
use crate::egress::BreakerState;
use crate::enforcement::alert::{Answers, Database, Readings, Service, Times, Verdicts};
use crate::enrichment::Outside;
use crate::gateway::next_hop::NextHops;
use crate::observe::event;
use crate::records::Records;

/// How long an answer is waited for within one look.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often feeds and certificates are looked at: they change rarely, and a feed has many files.
const RARELY: Duration = Duration::from_secs(600);
/// Files of one feed that are looked at, and folders inside one another.
const FEED_FILES: usize = 100_000;
const FEED_DEPTH: u32 = 16;
/// Answers of the doors that are 451 to the sender.
const PUT_OFF: [&str; 4] = ["deferred", "deferred_by_next_hop", "failed", "defer"];
const DAY_SECONDS: f64 = 24.0 * 60.0 * 60.0;

/// Reads the gateway.
pub(super) struct Collector {
    registry: Registry,
    records: Arc<Records>,
    outside: Arc<Outside>,
    channels: egress::Registry,
    /// None where mail does not flow through them.
    next_hops: Option<Arc<NextHops>>,
    has_http: bool,
    ping: Slow<bool>,
    disks: Slow<Vec<(String, f64)>>,
    files: Slow<Files>,
    places: Vec<(String, PathBuf)>,
    certificates: Vec<(String, PathBuf)>,
    feeds: Vec<(String, PathBuf)>,
}

/// What is read rarely.
#[derive(Debug, Clone, Default)]
struct Files {
    certificates: Vec<(String, Option<f64>)>,
    feeds: Vec<(String, f64)>,
}

/// Something that may hang, asked by one task at a time.
struct Slow<T> {
    asking: Option<(Instant, JoinHandle<T>)>,
    /// When it last answered, how long that took, and what.
    last: Option<(Instant, Duration, T)>,
}

impl<T: Send + 'static> Slow<T> {
    fn new() -> Self {
        Self { asking: None, last: None }
    }

    /// Asks unless somebody does; waits a moment. Gives how long the question is open when there is no answer yet.
    async fn ask(&mut self, start: impl FnOnce() -> JoinHandle<T>) -> Result<(), Duration> {
        let (since, task) = self.asking.get_or_insert_with(|| (Instant::now(), start()));
        let since = *since;
        match timeout(PATIENCE, task).await {
            Ok(Ok(answer)) => {
                self.last = Some((Instant::now(), since.elapsed(), answer));
                self.asking = None;
                Ok(())
            }
            Ok(Err(error)) => {
                tracing::warn!(event = event::SYSTEM, %error, "a reading for alerts broke down");
                self.asking = None;
                Err(since.elapsed())
            }
            Err(_) => Err(since.elapsed()),
        }
    }
}

impl Collector {
    pub(super) fn new(
        config: &Config,
        records: &Arc<Records>,
        outside: &Arc<Outside>,
        (channels, next_hops): (egress::Registry, &Arc<NextHops>),
        registry: &Registry,
    ) -> Self {
        let (_, bodies) = records.places();
        let mut places = vec![("data".to_owned(), config.data.clone())];
        if !bodies.contains("://") && !Path::new(&bodies).starts_with(&config.data) {
            places.push(("bodies".to_owned(), bodies.into()));
        }
        let tls = &config.relay.tls;
        let mut certificates = Vec::new();
        if tls.enabled && !config.relay.listen.is_empty() {
            let file = match (&tls.cert_file, &tls.key_file) {
                (Some(cert), Some(_)) => cert.clone(),
                _ => config.data.join("certs").join("relay.crt"),
            };
            certificates.push(("relay".to_owned(), file));
        }
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let feed = |feed: &crate::policy::FeedConfig| {
            let named = if feed.name.is_empty() { name(&feed.path) } else { feed.name.clone() };
            (named, feed.path.clone())
        };
        Self {
            registry: registry.clone(),
            records: Arc::clone(records),
            outside: Arc::clone(outside),
            channels,
            next_hops: (!config.relay.listen.is_empty()).then(|| Arc::clone(next_hops)),
            has_http: config.http.enabled,
            ping: Slow::new(),
            disks: Slow::new(),
            files: Slow::new(),
            places,
            certificates,
            feeds: config.policy.rules.paths.iter().map(feed).collect(),
        }
    }

    /// Reads everything.
    pub(super) async fn read(&mut self) -> Readings {
        let records = Arc::clone(&self.records);
        let ping = self.ping.ask(|| tokio::spawn(async move { records.ping().await.is_ok() }));
        let places = self.places.clone();
        let disks = self.disks.ask(|| tokio::task::spawn_blocking(move || free(&places)));
        let fresh = self.files.last.as_ref().is_some_and(|(at, ..)| at.elapsed() < RARELY);
        let (certificates, feeds) = (self.certificates.clone(), self.feeds.clone());
        let (files, asked) = (&mut self.files, !fresh);
        let files = async move {
            if asked {
                let _ = files.ask(|| tokio::task::spawn_blocking(move || look_at(&certificates, &feeds))).await;
            }
        };
        let (ping, disks, ()) = tokio::join!(ping, disks, files);
        let database = match (ping, &self.ping.last) {
            (Ok(()), Some((_, took, true))) => Database::After(took.as_secs_f64()),
            (Ok(()), _) => Database::Silent,
            (Err(open), _) => Database::After(open.as_secs_f64()),
        };
        // A file system that hangs says nothing; what it said before is no reading of now.
        let disks = disks.ok().and(self.disks.last.as_ref()).map(|(.., disks)| disks.clone());
        let files = self.files.last.as_ref().map(|(.., files)| files.clone()).unwrap_or_default();
        let snapshots = [self.outside.snapshots(), self.channels.snapshots()].concat();
        Readings {
            services: snapshots.into_iter().map(service).collect(),
            database: Some(database),
            disks: disks.unwrap_or_default(),
            certificates: files.certificates,
            feeds: files.feeds,
            next_hops: self.next_hops.iter().flat_map(|hops| hops.standing()).map(down_seconds).collect(),
            ..counted(&self.registry.gather(), self.has_http)
        }
    }
}

fn down_seconds((name, down): (String, Option<Duration>)) -> (String, f64) {
    (name, down.unwrap_or_default().as_secs_f64())
}

fn service(snapshot: egress::Snapshot) -> Service {
    Service {
        open_seconds: (snapshot.state != BreakerState::Closed).then_some(snapshot.since_seconds),
        answered: snapshot.succeeded,
        failed: snapshot.failed.saturating_add(snapshot.refused),
        last_failure: snapshot.last_failure,
        name: snapshot.name,
    }
}

/// What the gateway counts of itself.
fn counted(families: &[MetricFamily], has_http: bool) -> Readings {
    let metrics = |name: &str| families.iter().find(|family| family.name() == name).map(MetricFamily::get_metric);
    let label = |metric: &Metric, name: &str| {
        metric.get_label().iter().find(|label| label.name() == name).map(|label| label.value().to_owned())
    };
    let sum = |name: &str, counts: &dyn Fn(&Metric) -> bool| -> u64 {
        let counted = metrics(name).unwrap_or_default().iter().filter(|metric| counts(metric));
        counted.map(|metric| metric.get_counter().get_value() as u64).sum()
    };
    let reason = |metric: &Metric, reasons: &[&str]| {
        label(metric, "reason").is_some_and(|reason| reasons.contains(&reason.as_str()))
    };
    let too_many = sum("mailweir_http_auth_failures_total", &|metric| reason(metric, &["too_many"]));
    let all = sum("mailweir_messages_total", &|_| true);
    let passed = sum("mailweir_messages_total", &|metric| {
        label(metric, "action").is_some_and(|action| matches!(action.as_str(), "allow" | "tag"))
    });
    let failed_holds =
        sum("mailweir_quarantine_commits_total", &|metric| label(metric, "outcome").is_some_and(|o| o != "committed"));
    let panics = ["mailweir_panics_total", "mailweir_relay_panics_total", "mailweir_http_panics_total"];
    let panics = panics.iter().map(|name| sum(name, &|_| true)).sum();
    let answer = |metric: &Metric, answers: &[&str]| {
        label(metric, "answer").is_some_and(|answer| answers.contains(&answer.as_str()))
    };
    let put_off = |metric: &Metric| answer(metric, &PUT_OFF);
    // A recipient that is taken shows in the answer to his message.
    let messages = ["mailweir_relay_messages_total", "mailweir_milter_messages_total"];
    let recipients = "mailweir_relay_recipients_total";
    let deferred = messages.iter().chain([&recipients]).map(|name| sum(name, &put_off)).sum();
    let answered = messages.iter().map(|name| sum(name, &|_| true)).sum::<u64>()
        + sum(recipients, &|metric| !answer(metric, &["taken"]));
    // What waits: whether its time has come or not; what is being worked on does not.
    let mut queues: BTreeMap<String, u64> = BTreeMap::new();
    for metric in metrics("mailweir_queue_jobs").unwrap_or_default() {
        let waits = label(metric, "state").is_some_and(|state| state != "running");
        if let Some(priority) = label(metric, "priority").filter(|_| waits) {
            *queues.entry(priority).or_default() += metric.get_gauge().get_value() as u64;
        }
    }
    let ages = metrics("mailweir_queue_oldest_seconds").unwrap_or_default().iter();
    let age = |metric: &Metric| Some((label(metric, "priority")?, metric.get_gauge().get_value()));
    let dead = metrics("mailweir_queue_dead_letters").and_then(<[Metric]>::first);
    Readings {
        queues: queues.into_iter().collect(),
        queue_ages: ages.filter_map(age).collect(),
        dead_letters: dead.map(|metric| metric.get_gauge().get_value() as u64),
        api: has_http.then(|| times(metrics("mailweir_http_request_seconds").unwrap_or_default())),
        rate_limited: Some(sum("mailweir_relay_refused_total", &|_| true) + too_many),
        // Whoever sends no token tries none: a probe of somebody who looks what listens here.
        auth_failures: has_http
            .then(|| sum("mailweir_http_auth_failures_total", &|metric| !reason(metric, &["missing", "role"]))),
        verdicts: Some(Verdicts { all, stopped: all.saturating_sub(passed) }),
        failed_holds: Some(failed_holds),
        answers: Some(Answers { all: answered, deferred }),
        panics: Some(panics),
        ..Readings::default()
    }
}

/// All routes together.
fn times(metrics: &[Metric]) -> Times {
    let mut times = Times::default();
    for metric in metrics {
        let histogram = metric.get_histogram();
        let buckets = histogram.get_bucket();
        if times.bounds.is_empty() {
            times.bounds = buckets.iter().map(|bucket| bucket.upper_bound()).collect();
            times.within = vec![0; buckets.len()];
        }
        times.count += histogram.get_sample_count();
        for (within, bucket) in times.within.iter_mut().zip(buckets) {
            *within += bucket.cumulative_count();
        }
    }
    times
}

fn free(places: &[(String, PathBuf)]) -> Vec<(String, f64)> {
    let share = |(name, path): &(String, PathBuf)| {
        let stat = rustix::fs::statvfs(path).ok().filter(|stat| stat.f_blocks > 0)?;
        Some((name.clone(), stat.f_bavail as f64 / stat.f_blocks as f64))
    };
    places.iter().filter_map(share).collect()
}

fn look_at(certificates: &[(String, PathBuf)], feeds: &[(String, PathBuf)]) -> Files {
    let now = SystemTime::now();
    let days = |(name, file): &(String, PathBuf)| (name.clone(), certificate::days_left(file, now));
    let age = |(name, folder): &(String, PathBuf)| {
        let newest = newest(folder)?;
        Some((name.clone(), now.duration_since(newest).unwrap_or_default().as_secs_f64() / DAY_SECONDS))
    };
    Files { certificates: certificates.iter().map(days).collect(), feeds: feeds.iter().filter_map(age).collect() }
}

/// When the newest file below a folder was changed.
fn newest(folder: &Path) -> Option<SystemTime> {
    let mut newest = None;
    let mut todo = vec![(folder.to_owned(), 0)];
    let mut seen = 0;
    while let Some((folder, depth)) = todo.pop() {
        for entry in std::fs::read_dir(folder).ok()?.flatten() {
            seen += 1;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && !hidden && depth < FEED_DEPTH {
                todo.push((entry.path(), depth + 1));
            } else if kind.is_file() && !hidden {
                newest = newest.max(entry.metadata().ok().and_then(|file| file.modified().ok()));
            }
            if seen >= FEED_FILES {
                return newest;
            }
        }
    }
    newest
}
