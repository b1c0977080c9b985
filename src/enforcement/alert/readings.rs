//! What is read of the gateway at one moment. What is not there is not read, and then not judged.

use serde::{Deserialize, Serialize};

/// What is read of the gateway at one moment. Counts are since the start of the process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Readings {
    /// Times to an answer of the HTTP side; none without an HTTP side.
    pub api: Option<Times>,
    /// Refused by a rate limit.
    pub rate_limited: Option<u64>,
    /// Wrong tokens and signatures.
    pub auth_failures: Option<u64>,
    /// Services that are asked.
    pub services: Vec<Service>,
    /// Seconds since the job queue answered last; 0 when it does.
    pub queue_silent: Option<f64>,
    /// Jobs that wait, by queue; like what follows nothing while the queue does not answer.
    pub queues: Vec<(String, u64)>,
    /// How long the oldest job waits that could be done, in seconds, by queue.
    pub queue_ages: Vec<(String, f64)>,
    /// Jobs that are not tried again; none where there is no queue.
    pub dead_letters: Option<u64>,
    /// The database.
    pub database: Option<Database>,
    /// Share of free space or of free inodes, the smaller, 0 to 1, by what is kept there; none where that cannot be read.
    pub disks: Vec<(String, Option<f64>)>,
    /// Days that certificates are still good, by whose they are; negative when they are over, none when they cannot be read.
    pub certificates: Vec<(String, Option<f64>)>,
    /// Days since anything changed, by name of the feed; none of one that cannot be read or has nothing.
    pub feeds: Vec<(String, Option<f64>)>,
    /// Messages judged.
    pub verdicts: Option<Verdicts>,
    /// Seconds since when next hops cannot be connected to, by name; 0 when they can. One that this process has not connected to
    /// yet is not among them.
    pub next_hops: Vec<(String, f64)>,
    /// Messages that were to be held and could not be.
    pub failed_holds: Option<u64>,
    /// Messages, and recipients for whom a next hop was asked.
    pub answers: Option<Answers>,
    /// Panics that were caught.
    pub panics: Option<u64>,
}

/// What was answered to clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// All.
    pub all: u64,
    /// Those that were asked to try again later.
    pub deferred: u64,
}

/// How many answers took how long: bucket by bucket, as a histogram counts them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Times {
    /// Upper bounds in seconds, ascending; a last bucket without bound is implied.
    pub bounds: Vec<f64>,
    /// How many took no longer than each bound.
    pub within: Vec<u64>,
    /// All.
    pub count: u64,
}

/// A service that is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// The name it has in the configuration.
    pub name: String,
    /// Calls that gave an answer.
    pub answered: u64,
    /// Calls that failed, and those that were not made because it is left alone.
    pub failed: u64,
    /// Its breaker.
    pub breaker: Breaker,
    /// What went wrong last.
    pub last_failure: Option<String>,
}

/// The breaker of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Breaker {
    /// Closed for all that is known: nothing has been answered in this process.
    #[default]
    Unasked,
    /// Closed, and that was right at least once.
    Closed,
    /// Not closed for so many seconds, in its present state.
    Open(u64),
}

/// The database.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Database {
    /// It answered, after so many seconds.
    After(f64),
    /// It was asked so many seconds ago and has not answered yet.
    Open(f64),
    /// It says no, or cannot be asked, for so many seconds.
    Silent(f64),
}

/// Messages judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// All.
    pub all: u64,
    /// Those that were not passed on: held, refused, deferred.
    pub stopped: u64,
}
