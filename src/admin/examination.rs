//! Everything that can be looked at, all at once, each within its own time: for `/health/full` and the metrics.
//!
//! Critical is what mail cannot be held without: database and bodies. Of the rest nothing makes the gateway UNHEALTHY: mail is
//! judged without it, jobs wait in the outbox. Over 500 lines: each part is short, and what counts as well stands in one place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use utoipa::ToSchema;

use super::Config;
use super::api::Workforce;
use super::certificate;
use super::channels::ChannelHealth;
use super::health::{HealthStatus, NextHopStates};
use super::levels::LogLevels;
use super::metrics::Metrics;
use super::summary::now_ms;
use crate::enforcement::alert::{Board, Kind};
use crate::enrichment::Outside;
use crate::records::Records;

/// How long counted rows serve: counting reads the whole table.
const COUNTED: Duration = Duration::from_secs(300);
/// Difference between our clock and another from which it counts as wrong, in milliseconds.
const CLOCK_MS: i64 = 5_000;
/// How long it is told that our clock was set.
const STEP_TOLD: Duration = Duration::from_secs(10 * 60);
/// Age of the oldest job from which the queue counts as late, in milliseconds.
const LATE_MS: u64 = 5 * 60 * 1_000;
/// Files of a feed that are looked at.
const FEED_FILES: usize = 20_000;
/// Looks at a time: all of them, unless somebody has very many feeds.
const TOGETHER: usize = 64;
/// Time without any look after which the watch counts as silent, at least.
const WATCHED: Duration = Duration::from_secs(60);
/// What alerts know of mail itself.
const OF_MAIL: [Kind; 3] = [Kind::FailedHolds, Kind::Deferrals, Kind::Panics];
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// What health looks at besides records and queue.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Services that are asked.
    pub outside: Option<Arc<Outside>>,
    /// Certificates that we show: name, and file in PEM.
    pub certificates: Vec<(String, PathBuf)>,
    /// Feeds of rules.
    pub feeds: Option<Arc<dyn RuleFeeds>>,
    /// Levels of the log.
    pub levels: Option<Arc<dyn LogLevels>>,
    /// The folder of the data.
    pub data: Option<PathBuf>,
    /// The next hops that mail flows to.
    pub next_hops: Option<Arc<dyn NextHopStates>>,
    /// Who is called besides the services.
    pub others: Option<Arc<dyn Others>>,
}

/// Who is called besides the services: channels of alerts, what `[actions]` names, the collector of spans.
pub trait Others: std::fmt::Debug + Send + Sync {
    /// How each is doing, as `/health/metrics` shows a service: `name` (of a channel of alerts `alert_CHANNEL`), `state`,
    /// `recent_succeeded`, `recent_failed` and more.
    fn snapshots(&self) -> Vec<Value>;
}

/// The feeds of rules at the moment: name and folder.
pub trait RuleFeeds: std::fmt::Debug + Send + Sync {
    /// All of them; a reload changes them.
    fn feeds(&self) -> Vec<(String, PathBuf)>;
}

/// What a look at one part found.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Check {
    /// `database`, `replica`, `queue`, `redis`, `body_store`, `disk`, `clock`, `workers`, `service:NAME`,
    /// `certificate:NAME`, `feed:NAME`, `next_hop:NAME`, `channel:NAME`, `alerting`, and of mail what alerts know: `failed_holds`,
    /// `deferrals`, `panics`.
    pub(super) name: String,
    pub(super) status: HealthStatus,
    /// Whether mail cannot be held without it.
    pub(super) critical: bool,
    /// How long the look took, in milliseconds.
    took_ms: f64,
    /// What is wrong; none when nothing is.
    pub(super) problem: Option<String>,
    /// What was measured.
    #[schema(value_type = Object)]
    measured: Value,
}

impl Check {
    /// Of what is known without a look.
    pub(super) fn of(name: String, critical: bool, problem: Option<String>, measured: Value) -> Self {
        let status = match (&problem, critical) {
            (None, _) => HealthStatus::Healthy,
            (Some(_), true) => HealthStatus::Unhealthy,
            (Some(_), false) => HealthStatus::Degraded,
        };
        Self { name, status, critical, took_ms: 0.0, problem, measured }
    }
}

/// What was measured, and what is wrong with it.
struct Found {
    measured: Value,
    problem: Option<String>,
}

impl Found {
    fn new(measured: Value) -> Self {
        Self { measured, problem: None }
    }

    fn with(self, wrong: bool, problem: impl FnOnce() -> String) -> Self {
        let problem = self.problem.or_else(|| wrong.then(problem));
        Self { problem, ..self }
    }
}

/// A look: what it found, or why it could not.
type Look<'a> = BoxFuture<'a, Result<Found, String>>;

/// Looks at everything.
pub(super) struct Examination {
    records: Arc<Records>,
    work: Option<Workforce>,
    surroundings: Surroundings,
    metrics: Arc<Metrics>,
    patience: Duration,
    low_space_bytes: u64,
    certificate_days: i64,
    started: Instant,
    clocks: std::sync::Mutex<Clocks>,
    counted: Mutex<Option<(Instant, Value)>>,
    /// What the watch over the gateway knows; not set when nobody watches.
    pub(super) board: OnceLock<Board>,
    shown: std::sync::Mutex<BTreeSet<String>>,
    channels: ChannelHealth,
}

impl Examination {
    pub(super) fn new(
        config: &Config,
        records: Arc<Records>,
        work: Option<Workforce>,
        surroundings: Surroundings,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            records,
            work,
            surroundings,
            metrics,
            patience: Duration::from_millis(config.health_check_ms),
            low_space_bytes: config.low_space_bytes,
            certificate_days: config.certificate_days.into(),
            started: Instant::now(),
            clocks: std::sync::Mutex::new(Clocks::new(Instant::now(), SystemTime::now())),
            counted: Mutex::default(),
            board: OnceLock::new(),
            shown: std::sync::Mutex::default(),
            channels: ChannelHealth::default(),
        }
    }

    /// Levels of the log of this process.
    pub(super) fn levels(&self) -> Option<Arc<dyn LogLevels>> {
        self.surroundings.levels.clone()
    }

    /// The services that are asked.
    pub(super) fn outside(&self) -> Option<&Outside> {
        self.surroundings.outside.as_deref()
    }

    /// Looks at everything, all at once.
    pub(super) async fn look(&self) -> Vec<Check> {
        let feeds = self.surroundings.feeds.as_ref().map(|feeds| feeds.feeds()).unwrap_or_default();
        let mut looks: Vec<(String, bool, Look<'_>)> = vec![
            ("database".into(), true, self.database().boxed()),
            ("body_store".into(), true, self.body_store().boxed()),
            ("clock".into(), false, self.clock().boxed()),
        ];
        if self.records.has_replica() {
            looks.push(("replica".into(), false, self.replica().boxed()));
        }
        if let Some(work) = &self.work {
            looks.push(("queue".into(), false, queue(work).boxed()));
            if work.queue.place().starts_with("redis") {
                looks.push(("redis".into(), false, redis(work).boxed()));
            }
            if work.crew.is_some() {
                looks.push(("workers".into(), false, async { Ok(workers(work)) }.boxed()));
            }
        }
        if let Some(data) = &self.surroundings.data {
            looks.push(("disk".into(), false, self.space("data", data.clone()).boxed()));
        }
        for (name, file) in &self.surroundings.certificates {
            looks.push((format!("certificate:{name}"), false, self.certificate(name, file).boxed()));
        }
        for (name, folder) in &feeds {
            looks.push((format!("feed:{name}"), false, self.feed(name, folder).boxed()));
        }
        // Boxed one by one: the compiler cannot see through a closure here that all of it may be sent.
        let mut bounded: Vec<BoxFuture<'_, Check>> = Vec::with_capacity(looks.len());
        for (name, critical, look) in looks {
            bounded.push(self.within(name, critical, look).boxed());
        }
        let mut checks: Vec<Check> = stream::iter(bounded).buffered(TOGETHER).collect().await;
        checks.extend(self.services());
        checks.extend(self.channels.look(&self.others(), &self.metrics.numbers()));
        checks.extend(self.next_hops());
        checks.extend(self.watched().await);
        self.show(&checks);
        checks
    }

    async fn within(&self, name: String, critical: bool, look: Look<'_>) -> Check {
        let started = Instant::now();
        let late = |_| Err(format!("no answer within {} ms", self.patience.as_millis()));
        let found = timeout(self.patience, look).await.unwrap_or_else(late);
        let took_ms = started.elapsed().as_micros() as f64 / 1_000.0;
        let (status, problem, measured) = match found {
            Ok(Found { measured, problem: None }) => (HealthStatus::Healthy, None, measured),
            Ok(Found { measured, problem }) => (HealthStatus::Degraded, problem, measured),
            Err(problem) if critical => (HealthStatus::Unhealthy, Some(problem), Value::Null),
            Err(problem) => (HealthStatus::Degraded, Some(problem), Value::Null),
        };
        Check { name, status, critical, took_ms, problem, measured }
    }

    async fn database(&self) -> Result<Found, String> {
        let started = Instant::now();
        self.records.ping().await.map_err(|error| told(&error))?;
        let latency_ms = started.elapsed().as_micros() as f64 / 1_000.0;
        // Rows that cannot be counted in time are no illness.
        let rows = timeout(self.patience / 2, self.rows()).await.unwrap_or(Value::Null);
        Ok(Found::new(json!({ "latency_ms": latency_ms, "rows": rows, "place": self.records.places().0 })))
    }

    /// How far the copy for searches is behind.
    async fn replica(&self) -> Result<Found, String> {
        let lag = self.records.replica_lag().await.map_err(|error| told(&error))?;
        let most = self.records.replica_max_lag();
        let measured = json!({ "lag_seconds": lag.as_secs_f64(), "max_lag_seconds": most.as_secs() });
        Ok(Found::new(measured).with(lag > most, || {
            format!(
                "the copy is {} s behind: searches go to the first database (store.replica_max_lag_seconds)",
                lag.as_secs()
            )
        }))
    }

    async fn rows(&self) -> Value {
        let mut counted = self.counted.lock().await;
        if let Some((_, rows)) = counted.as_ref().filter(|(at, _)| at.elapsed() < COUNTED) {
            return rows.clone();
        }
        let rows = self.records.counts().await.map_or(Value::Null, |counts| {
            Value::Object(counts.into_iter().map(|(table, rows)| (table.to_owned(), rows.into())).collect())
        });
        *counted = Some((Instant::now(), rows.clone()));
        rows
    }

    async fn body_store(&self) -> Result<Found, String> {
        let (_, place) = self.records.places();
        if place.contains("://") {
            self.records.ping_bodies().await.map_err(|error| told(&error))?;
            return Ok(Found::new(json!({ "place": place })));
        }
        self.space("bodies", place.into()).await
    }

    async fn space(&self, name: &'static str, folder: PathBuf) -> Result<Found, String> {
        let place = folder.display().to_string();
        let look = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&folder));
        let stat = look.await.map_err(|error| error.to_string())?.map_err(|error| format!("{place}: {error}"))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let total = stat.f_blocks.saturating_mul(stat.f_frsize);
        self.metrics.free_bytes.with_label_values(&[name]).set(i64::try_from(free).unwrap_or(i64::MAX));
        let inodes = (stat.f_files > 0).then_some(stat.f_favail);
        let share = |free: u64, all: u64| free as f64 / all.max(1) as f64;
        let free_inodes = inodes.map_or(1.0, |free| share(free, stat.f_files));
        self.metrics.free_ratio.with_label_values(&[name]).set(share(stat.f_bavail, stat.f_blocks).min(free_inodes));
        let measured = json!({ "place": place, "free_bytes": free, "total_bytes": total, "free_inodes": inodes });
        let low = free < self.low_space_bytes || inodes.is_some_and(|free| free < 1_000);
        Ok(Found::new(measured).with(low, || format!("{place} runs out of space (http.low_space_bytes)")))
    }

    /// Our clock against the one that cannot be set, and against the database's.
    async fn clock(&self) -> Result<Found, String> {
        let step = {
            let mut clocks = self.clocks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            clocks.look(Instant::now(), SystemTime::now())
        };
        let before = now_ms();
        let database = self.records.clock_ms().await.ok();
        let middle = before + (now_ms() - before) / 2;
        let offset = database.map(|database| middle - database);
        let measured = json!({ "stepped_ms": step.unwrap_or(0), "ahead_of_database_ms": offset });
        let far = |ms: i64| ms.abs() > CLOCK_MS;
        Ok(Found::new(measured).with(offset.is_some_and(far), || "our clock and the database's differ".into()).with(
            step.is_some(),
            || {
                format!(
                    "the clock was set by {} s a short while ago: signatures and times of then are off",
                    step.unwrap_or(0) / 1_000
                )
            },
        ))
    }

    async fn certificate(&self, name: &str, file: &Path) -> Result<Found, String> {
        let place = file.to_owned();
        let look = tokio::task::spawn_blocking(move || certificate::end_of(&place));
        let end = look.await.map_err(|error| error.to_string())??;
        self.metrics.certificates.with_label_values(&[name]).set(end);
        let days = (end - now_ms() / 1_000).div_euclid(DAY_SECONDS);
        let measured = json!({ "file": file.display().to_string(), "ends": end, "days": days });
        Ok(Found::new(measured)
            .with(days < 0, || "the certificate has ended".into())
            .with(days < self.certificate_days, || format!("the certificate ends in {days} days")))
    }

    async fn feed(&self, name: &str, folder: &Path) -> Result<Found, String> {
        let place = folder.to_owned();
        let look = tokio::task::spawn_blocking(move || newest_file(&place));
        let (files, newest) = look.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let age = newest.map(|newest| newest.elapsed().unwrap_or_default().as_secs());
        match age {
            Some(age) => self.metrics.feeds.with_label_values(&[name]).set(age as f64),
            // What has nothing has no age.
            None => drop(self.metrics.feeds.remove_label_values(&[name])),
        }
        let measured = json!({ "folder": folder.display().to_string(), "files": files, "age_seconds": age });
        Ok(Found::new(measured).with(files == 0, || "the folder is empty".into()))
    }

    /// How everybody who is called is doing: the services, and those besides.
    pub(super) fn called(&self) -> Vec<Value> {
        let services = self.outside().map(Outside::snapshots).unwrap_or_default();
        services.into_iter().map(|snapshot| json!(snapshot)).chain(self.others()).collect()
    }

    fn others(&self) -> Vec<Value> {
        self.surroundings.others.as_ref().map(|others| others.snapshots()).unwrap_or_default()
    }

    /// How each of them is doing: what calls have shown, nothing is asked.
    fn services(&self) -> Vec<Check> {
        let services = self.outside().map(Outside::snapshots).unwrap_or_default();
        let services = services
            .into_iter()
            .map(|snapshot| service(json!(snapshot), "what becomes of mail meanwhile its on_failure says"));
        services.chain(self.others().into_iter().map(|other| service(other, "it is left alone for a while"))).collect()
    }

    /// Whether mail can be passed on: what connections have shown.
    fn next_hops(&self) -> Vec<Check> {
        let states = self.surroundings.next_hops.as_ref().map(|hops| hops.states()).unwrap_or_default();
        let lost = states.iter().all(|(_, down)| down.is_some());
        let check = |(name, down): (String, Option<Duration>)| {
            let seconds = down.map(|down| down.as_secs());
            let problem =
                seconds.map(|seconds| format!("it could not be reached for {seconds} s: its mail is deferred"));
            // With none of them nothing can be passed on.
            Check::of(format!("next_hop:{name}"), lost, problem, json!({ "down_seconds": seconds }))
        };
        states.into_iter().map(check).collect()
    }

    /// Whether the watch still looks, and what it knows of mail.
    async fn watched(&self) -> Vec<Check> {
        let Some(board) = self.board.get().cloned() else { return Vec::new() };
        let read = timeout(self.patience, tokio::task::spawn_blocking(move || board.state())).await;
        let state = match read {
            Ok(Ok(Ok(state))) => state,
            Ok(Ok(Err(error))) => return vec![Check::of("alerting".into(), false, Some(told(&error)), Value::Null)],
            _ => return vec![Check::of("alerting".into(), false, Some("its files do not answer".into()), Value::Null)],
        };
        let (started, now) = (self.started.elapsed(), now_ms());
        let Some(state) = state else {
            let problem = (started > WATCHED).then(|| "nobody has looked yet".to_owned());
            return vec![Check::of("alerting".into(), false, problem, Value::Null)];
        };
        let age = Duration::from_millis(now.saturating_sub(state.at_ms).max(0).unsigned_abs());
        let patience = WATCHED.max(Duration::from_secs(3 * u64::from(state.every_seconds)));
        let silent = age > patience && started > patience;
        let problem = silent.then(|| format!("nobody has looked for {} s: no alerts are told", age.as_secs()));
        let measured = json!({ "looked_seconds_ago": age.as_secs_f64(), "every_seconds": state.every_seconds });
        let mut checks = vec![Check::of("alerting".into(), false, problem, measured)];
        for kind in OF_MAIL.into_iter().filter(|_| !silent) {
            let alert = state.alerts.iter().find(|alert| alert.kind == kind);
            let bad = alert.filter(|alert| alert.severity.is_some());
            let problem = bad.map(|alert| format!("{}: {}", kind.title(), alert.words()));
            let value = alert.and_then(|alert| alert.value);
            checks.push(Check::of(kind.as_str().to_owned(), false, problem, json!({ "value": value })));
        }
        checks
    }

    fn show(&self, checks: &[Check]) {
        let names: BTreeSet<String> = checks.iter().map(|check| check.name.clone()).collect();
        for check in checks {
            self.metrics.checks.with_label_values(&[&check.name]).set(check.status as i64);
            self.metrics.check_seconds.with_label_values(&[&check.name]).set(check.took_ms / 1_000.0);
            if check.measured.is_null() {
                // What it was before is no reading of now.
                self.forget(&check.name);
            }
        }
        let mut shown = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for gone in shown.difference(&names) {
            // A service that a new configuration does not name.
            let _ = self.metrics.checks.remove_label_values(&[gone]);
            let _ = self.metrics.check_seconds.remove_label_values(&[gone]);
            self.forget(gone);
        }
        *shown = names;
    }

    /// Takes away what a check has measured.
    fn forget(&self, check: &str) {
        let Metrics { certificates, feeds, free_bytes, free_ratio, .. } = &*self.metrics;
        // What was never measured is not there to be removed.
        let _ = match check.split_once(':') {
            Some(("certificate", name)) => certificates.remove_label_values(&[name]),
            Some(("feed", name)) => feeds.remove_label_values(&[name]),
            _ => match check {
                "disk" => free_bytes.remove_label_values(&["data"]).and(free_ratio.remove_label_values(&["data"])),
                "body_store" => {
                    free_bytes.remove_label_values(&["bodies"]).and(free_ratio.remove_label_values(&["bodies"]))
                }
                _ => Ok(()),
            },
        };
    }
}

/// The check of somebody who is called, by his snapshot; `without`: what an open breaker means.
fn service(measured: Value, without: &str) -> Check {
    let recent = |key: &str| measured[key].as_u64().unwrap_or(0);
    let (answered, failed) = (recent("recent_succeeded"), recent("recent_failed"));
    let problem = match (measured["state"] == "closed", failed > 0 && answered == 0) {
        (false, _) => Some(format!("the breaker is not closed: {without}")),
        (true, true) => Some(format!("none of the last calls was answered ({failed} failed)")),
        (true, false) => None,
    };
    Check::of(format!("service:{}", measured["name"].as_str().unwrap_or_default()), false, problem, measured)
}

/// Our clock and one that cannot be set, as they were at the last look.
struct Clocks {
    steady: Instant,
    wall: SystemTime,
    /// When ours was found set, and by how much, in milliseconds.
    step: Option<(Instant, i64)>,
}

impl Clocks {
    fn new(steady: Instant, wall: SystemTime) -> Self {
        Self { steady, wall, step: None }
    }

    /// By how much ours was set, for a while after it was; from now on it is the one that counts.
    fn look(&mut self, steady: Instant, wall: SystemTime) -> Option<i64> {
        let expected = self.wall + steady.saturating_duration_since(self.steady);
        let stepped = wall.duration_since(expected).map_or_else(|late| -millis(late.duration()), millis);
        (self.steady, self.wall) = (steady, wall);
        if stepped.abs() > CLOCK_MS {
            self.step = Some((steady, stepped));
        }
        self.step = self.step.filter(|(at, _)| steady.saturating_duration_since(*at) < STEP_TOLD);
        self.step.map(|(_, stepped)| stepped)
    }
}

async fn queue(work: &Workforce) -> Result<Found, String> {
    let depth = work.queue.depth().await.map_err(|error| told(&error))?;
    let priorities = ["high", "medium", "low"].into_iter().zip(depth.by_priority);
    let priorities: serde_json::Map<_, _> =
        priorities.map(|(name, waiting)| (name.to_owned(), json!(waiting))).collect();
    let measured = json!({ "by_priority": priorities, "dead_letters": depth.dead, "place": work.queue.place() });
    let oldest = depth.oldest_ms();
    Ok(Found::new(measured).with(oldest > LATE_MS, || format!("the oldest job waits {} s", oldest / 1_000)))
}

async fn redis(work: &Workforce) -> Result<Found, String> {
    let server = work.queue.server().await.map_err(|error| told(&error))?;
    let full = server.is_some_and(|s| s.memory_max_bytes.is_some_and(|most| s.memory_bytes > most / 10 * 9));
    Ok(Found::new(json!(server)).with(full, || "Redis has used nine tenths of maxmemory".into()))
}

fn workers(work: &Workforce) -> Found {
    let Some(crew) = &work.crew else { return Found::new(Value::Null) };
    let (target, workers) = (crew.target(), crew.workers().len());
    Found::new(json!({ "target": target, "workers": workers }))
}

/// Files below a folder, and when the newest was written; a feed may be one file, too.
pub(crate) fn newest_file(folder: &Path) -> std::io::Result<(usize, Option<SystemTime>)> {
    if let Some(file) = folder.metadata().ok().filter(std::fs::Metadata::is_file) {
        return Ok((1, file.modified().ok()));
    }
    let (mut files, mut newest) = (0, None);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            // Links are not followed, hidden ones not looked at: as the rules are read.
            let data = entry.metadata()?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if data.is_dir() {
                folders.push(entry.path());
            } else {
                files += 1;
                newest = newest.max(data.modified().ok());
            }
            if files >= FEED_FILES {
                return Ok((files, newest));
            }
        }
    }
    Ok((files, newest))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// An error and its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_is_a_folder_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(newest_file(folder.path()).unwrap(), (0, None));
        let file = folder.path().join("a.yml");
        std::fs::write(&file, "").unwrap();
        let written = file.metadata().unwrap().modified().ok();
        assert_eq!(newest_file(&file).unwrap(), (1, written));
        assert_eq!(newest_file(folder.path()).unwrap(), (1, written));
        assert!(newest_file(&folder.path().join("gone")).is_err());
    }

    #[test]
    fn a_clock_that_was_set_is_told_for_a_while() {
        let (steady, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600));
        let at = |seconds: u64| steady + Duration::from_secs(seconds);
        let mut clocks = Clocks::new(steady, wall);
        // Slewed, as NTP does it, for as long as it likes.
        for minute in 1..=100 {
            assert_eq!(clocks.look(at(minute * 60), wall + Duration::from_secs(minute * 61)), None, "{minute}");
        }
        let set = wall + Duration::from_secs(6_100) - Duration::from_secs(3_600);
        assert_eq!(clocks.look(at(6_000), set), Some(-3_600_000));
        assert_eq!(clocks.look(at(6_060), set + Duration::from_secs(60)), Some(-3_600_000), "told for a while");
        assert_eq!(clocks.look(at(6_601), set + Duration::from_secs(601)), None, "and over");
        // And set right again.
        assert_eq!(clocks.look(at(6_661), wall + Duration::from_secs(6_761)), Some(3_600_000));
    }
}
