//! What a queue promises, whichever engine keeps it.
//!
//! A job that was taken in is claimed at least once, until somebody settles it as done or dead. A claim is a lease: who gives
//! no sign of life loses it, and whoever lost it can settle nothing. One handle is one worker's name.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;

use super::sqlite::Embedded;
use super::{DeadJob, DeadPlace, Job, Priority, QueueConfig, QueueError, Reason};

/// Rows of dead letters that can be asked for at a time.
pub const DEAD_PAGE_MAX: usize = 500;

/// The future of an answer of the queue.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, QueueError>>;

/// What became of a job that was to be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It is in the queue.
    Queued,
    /// One with its key is there already, and not done.
    Duplicate,
    /// The queue has `queue.max_jobs`.
    Full,
    /// It can never be queued: see [`Job::check`].
    Refused,
}

impl Placed {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Duplicate => "duplicate",
            Self::Full => "full",
            Self::Refused => "refused",
        }
    }
}

/// Proof of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Place in the engine.
    pub(super) entry: String,
    /// How often this job was claimed since its last failure.
    pub(super) delivery: u32,
}

/// A job that is ours to do until its lease runs out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The job, with the number of this attempt.
    pub job: Job,
    /// Proof.
    pub ticket: Ticket,
}

impl Claim {
    /// Workers that had it before and neither settled it nor gave it back.
    pub fn lost_by(&self) -> u32 {
        self.ticket.delivery.saturating_sub(1)
    }

    /// The job after an attempt that does not count. Who ended in order did not die over it: those before are forgiven too.
    pub(super) fn excused(&self, error: &str) -> Job {
        Job { attempt: self.job.attempt.saturating_sub(self.ticket.delivery), ..self.job.failed(error) }
    }
}

/// What becomes of a claimed job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// Done; it is forgotten.
    Done,
    /// Failed; to be tried again.
    Again {
        /// Not before this, milliseconds since 1970.
        due_ms: i64,
        /// Why it failed.
        error: String,
    },
    /// Failed for no fault of its own; to be tried again, and no attempt is used up.
    Later {
        /// Not before this, milliseconds since 1970.
        due_ms: i64,
        /// What is away.
        error: String,
    },
    /// Not to be tried again.
    Dead {
        /// Why not.
        reason: Reason,
        /// What happened last.
        error: String,
    },
    /// Given back unworked: the attempt does not count.
    Back,
}

/// What waits, by priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Waiting {
    /// Jobs that could be claimed now: those that a worker lost, and those whose time has come, are among them.
    pub waiting: u64,
    /// Jobs that are claimed.
    pub running: u64,
    /// Jobs whose time has not come.
    pub later: u64,
    /// How long the oldest of those that could be claimed has waited, in milliseconds; 0 when there is none.
    pub oldest_ms: u64,
}

/// What is in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Depth {
    /// High, medium, low.
    pub by_priority: [Waiting; 3],
    /// Dead letters.
    pub dead: u64,
}

impl Depth {
    /// Jobs that could be claimed now.
    pub fn waiting(&self) -> u64 {
        self.by_priority.iter().map(|p| p.waiting).sum()
    }

    /// All jobs that are not done.
    pub fn total(&self) -> u64 {
        self.by_priority.iter().map(|p| p.waiting + p.running + p.later).sum()
    }

    /// Of those that could be claimed now, how long the oldest has waited, in milliseconds.
    pub fn oldest_ms(&self) -> u64 {
        self.by_priority.iter().map(|p| p.oldest_ms).max().unwrap_or(0)
    }
}

/// What a server that keeps the queue says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ServerFacts {
    /// Memory in use, in bytes.
    pub memory_bytes: u64,
    /// Memory that it may use, in bytes; `None`: as much as there is.
    pub memory_max_bytes: Option<u64>,
    /// Keys in its database, those of others too.
    pub keys: u64,
}

/// A queue.
pub trait Queue: fmt::Debug + Send + Sync {
    /// Takes jobs in; one answer for each. With `Err` nothing is known of any of them: to do it again is safe. A dead letter
    /// with the key of one that is queued is gone.
    fn enqueue<'a>(&'a self, jobs: &'a [Job]) -> Answer<'a, Vec<Placed>>;

    /// Claims as many jobs as wanted of each priority, and in place of those that are not there others, the first
    /// priorities first. Claims of the dead are among them, one at a time: while a worker has a job that others have lost, it
    /// gets no other such job. Does not wait.
    fn claim(&self, wanted: [usize; 3]) -> Answer<'_, Vec<Claim>>;

    /// A sign of life: the leases begin anew. `false`: that claim is lost.
    fn beat<'a>(&'a self, claims: &'a [Arc<Claim>]) -> Answer<'a, Vec<bool>>;

    /// Settles claims. `false`: that claim was lost before, and nothing was settled.
    fn settle<'a>(&'a self, claims: &'a [(Arc<Claim>, Settlement)]) -> Answer<'a, Vec<bool>>;

    /// What is in it.
    fn depth(&self) -> Answer<'_, Depth>;

    /// Dead letters, the newest first; after a place, those that follow it.
    fn dead<'a>(&'a self, after: Option<&'a DeadPlace>, limit: usize) -> Answer<'a, Vec<DeadJob>>;

    /// Takes in dead letters: what cannot be queued, what somebody else gave up, what the queue may have lost. Those that it
    /// has, as dead letters or as jobs, stay as they are; beyond `queue.max_dead` the oldest are left out. Gives how many came
    /// in.
    fn bury<'a>(&'a self, dead: &'a [DeadJob]) -> Answer<'a, u64>;

    /// Puts dead letters into the queue again, as new jobs; all of them without keys. Gives how many. A job with its key that
    /// is in the queue already stays as it is, and the dead letter too.
    fn replay<'a>(&'a self, keys: Option<&'a [String]>) -> Answer<'a, u64>;

    /// Throws dead letters away; all of them without keys. Gives how many.
    fn purge<'a>(&'a self, keys: Option<&'a [String]>) -> Answer<'a, u64>;

    /// What the server says of itself; `None` where there is no server.
    fn server(&self) -> Answer<'_, Option<ServerFacts>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Where it is, for people; without password.
    fn place(&self) -> String;

    /// Lets go of files and connections.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Opens the configured queue; the embedded one is in the folder `data`.
///
/// # Errors
/// Names what could not be opened and why. That Redis is not there at the moment is no error.
pub async fn open(config: &QueueConfig, data: &Path) -> Result<Arc<dyn Queue>, QueueError> {
    config.check()?;
    let url = address(config)?;
    if url.is_empty() {
        return Ok(Arc::new(Embedded::open(config, &data.join("queue.sqlite")).await?));
    }
    by_address(config, &url)
}

/// Refuses settings under which no queue could be opened: reads address and certificates, and connects to nothing.
///
/// # Errors
/// Names the setting or file.
pub fn check(config: &QueueConfig) -> Result<(), QueueError> {
    config.check()?;
    let url = address(config)?;
    if url.is_empty() { Ok(()) } else { by_address(config, &url).map(drop) }
}

fn address(config: &QueueConfig) -> Result<String, QueueError> {
    match &config.url_file {
        Some(file) => {
            let read = std::fs::read_to_string(file);
            let place = format!("(queue.url_file {})", file.display());
            let read =
                read.map_err(|error| QueueError::Address { setting: "queue.url", place, why: error.to_string() })?;
            Ok(read.trim().to_owned())
        }
        None => Ok(config.url.clone()),
    }
}

#[cfg(feature = "redis")]
fn by_address(config: &QueueConfig, url: &str) -> Result<Arc<dyn Queue>, QueueError> {
    Ok(Arc::new(super::redis::Streams::new(config, url)?))
}

#[cfg(not(feature = "redis"))]
fn by_address(_config: &QueueConfig, url: &str) -> Result<Arc<dyn Queue>, QueueError> {
    let place = url.split("://").next().unwrap_or_default().to_owned();
    Err(QueueError::Address { setting: "queue.url", place, why: "this build has no Redis in it".into() })
}

/// A name that no other handle has.
pub(super) fn new_owner() -> Result<String, QueueError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| QueueError::Random)?;
    Ok(format!("{}-{:016x}", std::process::id(), u64::from_be_bytes(bytes)))
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The priority of a place in an array of three.
pub(super) fn in_order() -> impl Iterator<Item = (usize, Priority)> {
    Priority::ALL.into_iter().enumerate()
}
