//! Reads the gateway: its own metrics, the dependencies, the database, disks, certificates, feeds.
//!
//! What may hang (a database, a network file system) is asked by a task that is left to itself: one at a time, and what it says
//! late is read at a later look. Nothing here takes longer than a second.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus::Registry;
use prometheus::proto::{Metric, MetricFamily};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::certificate;
use crate::admin::newest_file;
use crate::app::config::Config;
use crate::deferred::{Depth, Priority, Queue};
use crate::egress;
use crate::egress::BreakerState;
use crate::enforcement::alert::{Answers, Breaker, Database, Readings, Service, Times, Verdicts};
use crate::enrichment::Outside;
use crate::gateway::next_hop::NextHops;
use crate::observe::event;
use crate::pipeline::Pipeline;
use crate::records::Records;

/// How long an answer is waited for within one look.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often feeds and certificates are looked at: they change rarely, and a feed has many files.
const RARELY: Duration = Duration::from_secs(600);
/// Answers of the doors that are 451 to the sender.
const PUT_OFF: [&str; 4] = ["deferred", "deferred_by_next_hop", "failed", "defer"];
/// Counters of what a limit refused, at all doors.
const LIMITS: [&str; 4] = [
    "mailweir_relay_refused_total",
    "mailweir_milter_connections_refused_total",
    "mailweir_milter_overruns_total",
    "mailweir_http_connections_refused_total",
];
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
    queue: Arc<dyn Queue>,
    ping: Slow<bool>,
    depth: Slow<Option<Depth>>,
    /// Since when the database has not answered well.
    silent_since: Option<Instant>,
    /// When the queue answered last; at first when we began.
    queue_answered: Instant,
    disks: Slow<Vec<(String, Option<f64>)>>,
    files: Slow<Files>,
    places: Vec<(String, PathBuf)>,
    certificates: Vec<(String, PathBuf)>,
    /// Feeds are those of the policy that stands.
    pipeline: Arc<Pipeline>,
    /// The feeds that were last looked at.
    feeds: Vec<(String, PathBuf)>,
}

/// What is read rarely.
#[derive(Debug, Clone, Default)]
struct Files {
    certificates: Vec<(String, Option<f64>)>,
    feeds: Vec<(String, Option<f64>)>,
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
        (outside, pipeline): (&Arc<Outside>, &Arc<Pipeline>),
        (channels, next_hops): (egress::Registry, &Arc<NextHops>),
        queue: &Arc<dyn Queue>,
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
        Self {
            registry: registry.clone(),
            records: Arc::clone(records),
            outside: Arc::clone(outside),
            channels,
            next_hops: (!config.relay.listen.is_empty()).then(|| Arc::clone(next_hops)),
            has_http: config.http.enabled,
            queue: Arc::clone(queue),
            ping: Slow::new(),
            depth: Slow::new(),
            silent_since: None,
            queue_answered: Instant::now(),
            disks: Slow::new(),
            files: Slow::new(),
            places,
            certificates,
            pipeline: Arc::clone(pipeline),
            feeds: Vec::new(),
        }
    }

    /// Reads everything.
    pub(super) async fn read(&mut self) -> Readings {
        let records = Arc::clone(&self.records);
        let ping = self.ping.ask(|| tokio::spawn(async move { records.ping().await.is_ok() }));
        let queue = Arc::clone(&self.queue);
        let depth = self.depth.ask(|| tokio::spawn(async move { queue.depth().await.ok() }));
        let places = self.places.clone();
        let disks = self.disks.ask(|| tokio::task::spawn_blocking(move || free(&places)));
        let standing = self.pipeline.standing().rules.feeds().to_vec();
        let fresh = self.files.last.as_ref().is_some_and(|(at, ..)| at.elapsed() < RARELY) && self.feeds == standing;
        self.feeds = standing;
        let (certificates, feeds) = (self.certificates.clone(), self.feeds.clone());
        let (files, asked) = (&mut self.files, !fresh);
        let files = async move {
            if asked {
                let _ = files.ask(|| tokio::task::spawn_blocking(move || look_at(&certificates, &feeds))).await;
            }
        };
        let (ping, depth, disks, ()) = tokio::join!(ping, depth, disks, files);
        let well = self.ping.last.as_ref().filter(|(.., well)| *well).map(|(_, took, _)| *took);
        let database = database(ping, well, &mut self.silent_since);
        let depth = depth.ok().and(self.depth.last.as_ref()).and_then(|(.., depth)| *depth);
        if depth.is_some() {
            self.queue_answered = Instant::now();
        }
        // A file system that hangs says nothing; what it said before is no reading of now.
        let disks = disks.ok().and(self.disks.last.as_ref()).map(|(.., disks)| disks.clone());
        let files = self.files.last.as_ref().map(|(.., files)| files.clone()).unwrap_or_default();
        let families = self.registry.gather();
        let snapshots = [self.outside.snapshots(), self.channels.snapshots()].concat();
        Readings {
            services: snapshots.into_iter().map(service).collect(),
            database: Some(database),
            disks: disks.unwrap_or_default(),
            certificates: files.certificates,
            feeds: files.feeds,
            next_hops: self.next_hops.as_ref().map(|hops| down(hops.standing(), &families)).unwrap_or_default(),
            queue_silent: Some(if depth.is_some() { 0.0 } else { self.queue_answered.elapsed().as_secs_f64() }),
            ..counted(&families, self.has_http, depth)
        }
    }
}

/// What the queue holds.
fn in_queue(depth: Depth) -> Readings {
    let named = || Priority::ALL.map(|priority| (priority.as_str().to_owned(), depth.by_priority[priority.place()]));
    Readings {
        // Whether its time has come or not; what is being worked on does not wait.
        queues: named().map(|(name, jobs)| (name, jobs.waiting.saturating_add(jobs.later))).into(),
        queue_ages: named().map(|(name, jobs)| (name, jobs.oldest_ms as f64 / 1_000.0)).into(),
        dead_letters: Some(depth.dead),
        ..Readings::default()
    }
}

/// How the database is doing, when it was just asked: it has answered, or the question is open for so long; `well`: how long the
/// last answer took, if it was a good one. One that said no stays silent until it says yes: that it is asked again begins nothing
/// anew.
fn database(asked: Result<(), Duration>, well: Option<Duration>, silent_since: &mut Option<Instant>) -> Database {
    match (asked, well) {
        (Ok(()), Some(took)) => {
            *silent_since = None;
            Database::After(took.as_secs_f64())
        }
        (Err(open), _) if silent_since.is_none() => Database::Open(open.as_secs_f64()),
        _ => Database::Silent(silent_since.get_or_insert_with(Instant::now).elapsed().as_secs_f64()),
    }
}

/// For how long each next hop has been down. One that failed before any mail wanted it, and one that nobody has asked, is
/// neither down nor up.
fn down(standing: Vec<(String, Option<Duration>)>, families: &[MetricFamily]) -> Vec<(String, f64)> {
    let family = families.iter().find(|family| family.name() == "mailweir_next_hop_connections_total");
    let metrics = family.map(MetricFamily::get_metric).unwrap_or_default();
    let reached = |hop: &str| {
        let is = |metric: &&Metric, name, value| {
            metric.get_label().iter().any(|label| label.name() == name && label.value() == value)
        };
        let ok = |metric: &&Metric| is(metric, "hop", hop) && is(metric, "result", "ok");
        metrics.iter().filter(ok).any(|metric| metric.get_counter().get_value() > 0.0)
    };
    let seconds = |(name, down): (String, Option<Duration>)| match down {
        Some(down) => Some((name, down.as_secs_f64())),
        None => reached(&name).then_some((name, 0.0)),
    };
    standing.into_iter().filter_map(seconds).collect()
}

fn service(snapshot: egress::Snapshot) -> Service {
    Service {
        breaker: match snapshot.state {
            // Failures do not open it at once, and not before somebody asks.
            BreakerState::Closed if snapshot.succeeded == 0 && snapshot.opened == 0 => Breaker::Unasked,
            BreakerState::Closed => Breaker::Closed,
            _ => Breaker::Open(snapshot.since_seconds),
        },
        answered: snapshot.succeeded,
        failed: snapshot.failed.saturating_add(snapshot.refused),
        last_failure: snapshot.last_failure,
        name: snapshot.name,
    }
}

/// What the gateway counts of itself, and what its queue holds.
fn counted(families: &[MetricFamily], has_http: bool, queue: Option<Depth>) -> Readings {
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
        label(metric, "action").is_some_and(|action| matches!(action.as_str(), "allow" | "tag" | "released"))
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
    Readings {
        api: has_http.then(|| times(metrics("mailweir_http_request_seconds").unwrap_or_default())),
        rate_limited: Some(LIMITS.iter().map(|name| sum(name, &|_| true)).sum::<u64>() + too_many),
        // Whoever sends no token tries none: a probe of somebody who looks what listens here. Nor was it looked at what an address
        // sends that is kept out: it may be the right one.
        auth_failures: has_http.then(|| {
            sum("mailweir_http_auth_failures_total", &|metric| !reason(metric, &["missing", "role", "too_many"]))
        }),
        verdicts: Some(Verdicts { all, stopped: all.saturating_sub(passed) }),
        failed_holds: Some(failed_holds),
        answers: Some(Answers { all: answered, deferred }),
        panics: Some(panics),
        ..queue.map(in_queue).unwrap_or_default()
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

/// Share of what is free, of space or of inodes; some file systems have no fixed number of inodes.
fn free(places: &[(String, PathBuf)]) -> Vec<(String, Option<f64>)> {
    let share = |path: &Path| {
        let stat = rustix::fs::statvfs(path).ok().filter(|stat| stat.f_blocks > 0)?;
        let space = stat.f_bavail as f64 / stat.f_blocks as f64;
        let inodes = if stat.f_files > 0 { stat.f_favail as f64 / stat.f_files as f64 } else { 1.0 };
        Some(space.min(inodes))
    };
    places.iter().map(|(name, path)| (name.clone(), share(path))).collect()
}

fn look_at(certificates: &[(String, PathBuf)], feeds: &[(String, PathBuf)]) -> Files {
    let now = SystemTime::now();
    let days = |(name, file): &(String, PathBuf)| (name.clone(), certificate::days_left(file, now));
    let age = |(name, feed): &(String, PathBuf)| {
        let newest = newest_file(feed).ok().and_then(|(_, newest)| newest);
        let age = newest.map(|newest| now.duration_since(newest).unwrap_or_default().as_secs_f64() / DAY_SECONDS);
        (name.clone(), age)
    };
    Files { certificates: certificates.iter().map(days).collect(), feeds: feeds.iter().map(age).collect() }
}

#[cfg(test)]
mod tests {
    use prometheus::{IntCounter, IntCounterVec, Opts};

    use super::*;

    #[test]
    fn refusals_of_all_doors_and_messages_let_go() {
        let registry = Registry::new();
        let labelled = |name: &str, label: &str, values: &[(&str, u64)]| {
            let counter = IntCounterVec::new(Opts::new(name, name), &[label]).unwrap();
            registry.register(Box::new(counter.clone())).unwrap();
            values.iter().for_each(|(value, count)| counter.with_label_values(&[*value]).inc_by(*count));
        };
        let plain = |name: &str, count| {
            let counter = IntCounter::new(name, name).unwrap();
            registry.register(Box::new(counter.clone())).unwrap();
            counter.inc_by(count);
        };
        labelled("mailweir_relay_refused_total", "limit", &[("connections", 1), ("rate", 2)]);
        labelled("mailweir_milter_overruns_total", "limit", &[("message", 4)]);
        plain("mailweir_milter_connections_refused_total", 8);
        plain("mailweir_http_connections_refused_total", 16);
        let failures = [("too_many", 32), ("missing", 64), ("wrong", 128), ("role", 256)];
        labelled("mailweir_http_auth_failures_total", "reason", &failures);
        let actions = [("allow", 1), ("tag", 2), ("released", 4), ("quarantine", 8), ("reject", 16), ("defer", 32)];
        labelled("mailweir_messages_total", "action", &actions);
        let readings = counted(&registry.gather(), true, None);
        assert_eq!((readings.rate_limited, readings.auth_failures), (Some(63), Some(128)));
        assert_eq!(readings.verdicts, Some(Verdicts { all: 63, stopped: 56 }));
        assert_eq!((readings.dead_letters, readings.queues.len()), (None, 0), "a queue that does not answer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_breaker_is_closed_when_somebody_was_answered() {
        use crate::egress::{CallConfig, Failure, Metrics, Repeat};
        let dependencies = egress::Registry::new(Metrics::new(&Registry::new()).unwrap());
        let clamd = dependencies.dependency("clamd", &CallConfig::default());
        let breaker = || service(clamd.snapshot()).breaker;
        let call = async |well: bool| {
            let answer = move |_| async move { if well { Ok(()) } else { Err(Failure::Malformed("no".into())) } };
            clamd.call(Repeat::Never, None, answer).await.is_ok()
        };
        assert_eq!(breaker(), Breaker::Unasked);
        assert!(!call(false).await);
        assert_eq!(breaker(), Breaker::Unasked, "one failure opens nothing, and is no good news");
        assert!(call(true).await);
        assert_eq!(breaker(), Breaker::Closed);
        for _ in 0..CallConfig::default().breaker.consecutive_failures {
            assert!(!call(false).await);
        }
        assert_eq!(breaker(), Breaker::Open(0));
    }

    #[test]
    fn next_hops_that_nobody_has_reached_are_neither_down_nor_up() {
        let registry = Registry::new();
        let name = "mailweir_next_hop_connections_total";
        let connections = IntCounterVec::new(Opts::new(name, name), &["hop", "result"]).unwrap();
        registry.register(Box::new(connections.clone())).unwrap();
        for (hop, result) in [("mta", "ok"), ("new", "failed"), ("gone", "failed")] {
            connections.with_label_values(&[hop, result]).inc();
        }
        let gone = Some(Duration::from_secs(3));
        let standing = [("mta", None), ("new", None), ("unasked", None), ("gone", gone)];
        let standing = standing.map(|(hop, failing)| (hop.to_owned(), failing)).into();
        assert_eq!(down(standing, &registry.gather()), [("mta".to_owned(), 0.0), ("gone".to_owned(), 3.0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_says_no_is_silent_until_it_says_yes() {
        let (mut since, second) = (None, Duration::from_secs(1));
        assert_eq!(database(Ok(()), Some(second), &mut since), Database::After(1.0));
        assert_eq!(database(Err(second), Some(second), &mut since), Database::Open(1.0));
        assert_eq!(database(Ok(()), None, &mut since), Database::Silent(0.0));
        tokio::time::advance(10 * second).await;
        assert_eq!(database(Err(second), None, &mut since), Database::Silent(10.0), "asked anew, and silent as before");
        assert_eq!(database(Ok(()), Some(second), &mut since), Database::After(1.0));
    }

    #[test]
    fn feeds_and_places_that_cannot_be_read_are_bad_readings() {
        let folder = tempfile::tempdir().unwrap();
        let (full, empty) = (folder.path().join("full"), folder.path().join("empty"));
        std::fs::create_dir_all(&full).unwrap();
        std::fs::create_dir_all(&empty).unwrap();
        std::fs::write(full.join("a.yml"), "").unwrap();
        let feed = |name: &str, path: PathBuf| (name.to_owned(), path);
        let gone = folder.path().join("gone");
        let feeds = [
            feed("full", full.clone()),
            feed("file", full.join("a.yml")),
            feed("empty", empty),
            feed("gone", gone.clone()),
        ];
        let read: Vec<bool> = look_at(&[], &feeds).feeds.iter().map(|(_, age)| age.is_some()).collect();
        assert_eq!(read, [true, true, false, false]);
        let places = free(&[("here".into(), full), ("gone".into(), gone)]);
        assert!(places[0].1.is_some_and(|share| share > 0.0 && share <= 1.0) && places[1].1.is_none(), "{places:?}");
    }
}
