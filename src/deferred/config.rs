//! Settings of the queue and of the workers: sections `[queue]` and `[workers]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::QueueError;
use super::scaling::Mode;

/// Where jobs wait, and how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// Engine: empty for `DATA/queue.sqlite`, or Redis 7: `redis://[USER:PASSWORD@]HOST:PORT/DB`, `redis+unix:///PATH`,
    /// `redis-sentinel://HOST:PORT,HOST:PORT/MASTER/DB`, `redis-cluster://HOST:PORT,HOST:PORT`; with TLS `rediss…://`. Other
    /// characters than letters and digits of a password are written as %3F. Sentinels with a password of their own:
    /// `…/MASTER/DB?sentinel_user=USER&sentinel_password=PASSWORD`.
    pub url: String,
    /// File that holds the address instead, so that a password stays out of the configuration.
    pub url_file: Option<PathBuf>,
    /// Certificate authorities that the server's certificate is checked against with `rediss…://`, as PEM; none: the machine's
    /// own.
    pub ca_file: Option<PathBuf>,
    /// Our certificate (with its chain), for a server that asks for one, as PEM.
    pub cert_file: Option<PathBuf>,
    /// Its key, as PEM.
    pub key_file: Option<PathBuf>,
    /// Beginning of all keys in Redis. Sites that share a Redis need different ones.
    pub prefix: String,
    /// Jobs in the queue at most; beyond that they stay in the outbox.
    pub max_jobs: u64,
    /// Largest payload of one job, in bytes.
    pub max_payload_bytes: usize,
    /// Dead letters kept at most; beyond that the oldest go.
    pub max_dead: u64,
    /// How long a claimed job is left to a worker that gives no sign of life, in seconds. Workers give one three times as often.
    pub lease_seconds: u64,
    /// Deadline of one command to the queue, connecting included, in milliseconds.
    pub command_ms: u64,
    /// How often the outbox is looked at, in milliseconds.
    pub pump_ms: u64,
    /// Time after which a job that has no result is put into the queue again, in case the queue lost it. While it is still
    /// there that changes nothing. In seconds.
    pub resend_seconds: u64,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            url_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            prefix: "mailweir".into(),
            max_jobs: 1_000_000,
            max_payload_bytes: 64 * 1024,
            max_dead: 100_000,
            lease_seconds: 30,
            command_ms: 2_000,
            pump_ms: 200,
            resend_seconds: 600,
        }
    }
}

/// Who works, and how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkersConfig {
    /// Whether the gateway's process works too. `mailweir worker` always does.
    pub enabled: bool,
    /// How many work, and when that changes.
    pub scaling: ScalingConfig,
    /// Time after which a job is asked to come to an end, in seconds.
    pub soft_seconds: u64,
    /// Time after which a job is ended; that counts as a failed attempt, unless it delivers. A release gets
    /// `release.copy_seconds` more. In seconds.
    pub hard_seconds: u64,
    /// Attempts of one job before it becomes a dead letter. A worker that dies over it counts; jobs that were only claimed ahead
    /// then are charged once, and claimed one at a time from there on. What fails for no fault of its own does not count
    /// (`patience`).
    pub attempts: u32,
    /// Longest wait before the second attempt; it doubles from attempt to attempt, and each wait is drawn at random between
    /// nothing and that. In milliseconds.
    pub backoff_ms: u64,
    /// Longest wait between two attempts, in seconds.
    pub backoff_max_seconds: u64,
    /// What is tried by time.
    pub patience: PatienceConfig,
    /// Shares of the priorities high, medium and low when all of them wait: none starves.
    pub shares: [u32; 3],
    /// Jobs claimed ahead of the workers.
    pub prefetch: usize,
    /// Pause before an empty queue is asked again, in milliseconds.
    pub idle_ms: u64,
    /// Time that jobs at work get at shutdown, in seconds; then they go back to the queue. A release begins no new copy then; the
    /// one that it is giving gets `release.copy_seconds` more.
    pub drain_seconds: u64,
}

impl Default for WorkersConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            scaling: ScalingConfig::default(),
            soft_seconds: 30,
            hard_seconds: 60,
            attempts: 5,
            backoff_ms: 1_000,
            backoff_max_seconds: 900,
            patience: PatienceConfig::default(),
            shares: [8, 3, 1],
            prefetch: 8,
            idle_ms: 100,
            drain_seconds: 20,
        }
    }
}

/// What is tried by time, not by attempts: deliveries (`release`, `alert`, `notify`, `webhook`, `remediate`) to somebody who does
/// not take them now, and any job while what it needs (database, bodies, a service that must be asked) is away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PatienceConfig {
    /// Shortest wait before it is tried again, in milliseconds.
    pub wait_ms: u64,
    /// Longest wait, in seconds. Between the two a wait is about as long as the job is old: they double.
    pub wait_max_seconds: u64,
    /// Age at which it is given up and becomes a dead letter, in hours.
    pub give_up_hours: u64,
}

impl Default for PatienceConfig {
    fn default() -> Self {
        Self { wait_ms: 1_000, wait_max_seconds: 300, give_up_hours: 72 }
    }
}

/// How many work, and when that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScalingConfig {
    /// What the number of workers follows: `manual` (nothing but orders), `cpu`, `queue` or `hybrid` (both).
    pub mode: Mode,
    /// Workers at least, and at start.
    pub min: u32,
    /// Workers at most.
    pub max: u32,
    /// More workers when more jobs than this wait.
    pub up_depth: u64,
    /// More workers when a job has waited longer than this, in seconds.
    pub up_age_seconds: u64,
    /// More workers when the machine is busier than this while jobs wait, in percent.
    pub up_cpu_percent: u32,
    /// Fewer workers when fewer jobs than this have waited for the whole of the pause.
    pub down_depth: u64,
    /// And only when those that remain would be at work for less than this share of their time, in percent. More workers only
    /// when those there are have less than half of what is left of it to spare.
    pub busy_percent: u32,
    /// Pause between two changes, in seconds.
    pub cooldown_seconds: u64,
    /// A pause is longer by up to this, by chance, so that many processes do not act in step; in percent.
    pub jitter_percent: u32,
}

impl Default for ScalingConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Hybrid,
            min: 2,
            max: 20,
            up_depth: 50,
            up_age_seconds: 30,
            up_cpu_percent: 70,
            down_depth: 10,
            busy_percent: 80,
            cooldown_seconds: 30,
            jitter_percent: 25,
        }
    }
}

/// Workers in one process at most, whatever is configured.
const WORKERS: u32 = 1_024;

impl ScalingConfig {
    /// Refuses bounds between which no number lies.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<(), QueueError> {
        let wrong = |setting, why| Err(QueueError::Setting { setting, why });
        match self {
            Self { min: 0, .. } => wrong("workers.scaling.min", "must be at least 1"),
            Self { min, max, .. } if min > max => wrong("workers.scaling.max", "must not be less than min"),
            Self { max, .. } if *max > WORKERS => wrong("workers.scaling.max", "must be at most 1024"),
            Self { down_depth, up_depth, .. } if down_depth > up_depth => {
                wrong("workers.scaling.down_depth", "must not be more than up_depth")
            }
            Self { busy_percent: 0 | 101.., .. } => wrong("workers.scaling.busy_percent", "must be from 1 to 100"),
            Self { jitter_percent: 101.., .. } => wrong("workers.scaling.jitter_percent", "must be at most 100"),
            _ => Ok(()),
        }
    }
}

impl QueueConfig {
    /// [`Self::resend_seconds`] in milliseconds.
    pub(super) fn resend_ms(&self) -> i64 {
        i64::try_from(self.resend_seconds.saturating_mul(1_000)).unwrap_or(i64::MAX)
    }

    /// Whether no other process can share it.
    pub fn is_embedded(&self) -> bool {
        self.url.is_empty() && self.url_file.is_none()
    }

    /// Refuses settings under which no job could be done.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<(), QueueError> {
        let sizes = [
            ("queue.max_jobs", self.max_jobs),
            ("queue.max_payload_bytes", self.max_payload_bytes as u64),
            ("queue.max_dead", self.max_dead),
            ("queue.lease_seconds", self.lease_seconds),
            ("queue.command_ms", self.command_ms),
            ("queue.pump_ms", self.pump_ms),
            ("queue.resend_seconds", self.resend_seconds),
        ];
        // The braces of the hash tag must be ours: other braces in the prefix would make another tag.
        if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            return Err(QueueError::Setting { setting: "queue.prefix", why: "must not be empty or have braces in it" });
        }
        positive(&sizes)
    }
}

impl WorkersConfig {
    /// Refuses settings under which no job could be done.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<(), QueueError> {
        self.scaling.check()?;
        let sizes = [
            ("workers.soft_seconds", self.soft_seconds),
            ("workers.hard_seconds", self.hard_seconds),
            ("workers.attempts", self.attempts.into()),
            ("workers.backoff_ms", self.backoff_ms),
            ("workers.backoff_max_seconds", self.backoff_max_seconds),
            ("workers.patience.wait_ms", self.patience.wait_ms),
            ("workers.patience.wait_max_seconds", self.patience.wait_max_seconds),
            ("workers.patience.give_up_hours", self.patience.give_up_hours),
            ("workers.prefetch", self.prefetch as u64),
            ("workers.idle_ms", self.idle_ms),
            ("workers.shares", self.shares.iter().copied().min().unwrap_or(0).into()),
        ];
        positive(&sizes)
    }
}

fn positive(sizes: &[(&'static str, u64)]) -> Result<(), QueueError> {
    match sizes.iter().find(|(_, value)| *value == 0) {
        Some((setting, _)) => Err(QueueError::Setting { setting, why: "must be at least 1" }),
        None => Ok(()),
    }
}
