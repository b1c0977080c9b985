//! Actions as jobs: `release` through the release path; `remediate`, `alert` and `notify` into the record.
//!
//! Nobody is wired yet who takes mail back or tells people: [`Recorded`] says so in the record and calls nothing a success. A
//! job may run twice: a release finds nothing left to do then, a result that stands is not written over.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{Reinject, Release, ReleaseError};
use crate::deferred::{Failure, Handler, Job};
use crate::observe::{self, Category, Fault, event};
use crate::records::{ActionOrder, Records, StoreError};

/// Kind of the job that releases.
pub const RELEASE: &str = "release";
/// Kinds of the jobs that are recorded.
pub const RECORDED: [&str; 1] = ["remediate"];

/// The result of what nobody does.
pub(super) const NOBODY: &str = "recorded, nobody configured to act";

/// Releases held messages: handler of [`RELEASE`].
pub struct ReleaseJobs<R> {
    release: Arc<Release<R>>,
    records: Arc<Records>,
}

impl<R: Reinject> ReleaseJobs<R> {
    /// Releases by this path.
    pub fn new(release: Arc<Release<R>>, records: Arc<Records>) -> Self {
        Self { release, records }
    }

    async fn release(&self, job: &Job) -> Result<(), Failure> {
        let order = ActionOrder::read(&job.payload).map_err(Failure::never)?;
        let id = order.id;
        let result = match self.release.release(id, &order.recipients).await {
            Ok(outcome) => match outcome.failed.first() {
                Some(failed) => {
                    observe::count("enforcement", Category::External);
                    return Err(Failure::again(format!("{}: {}", failed.recipient, failed.why)));
                }
                None => format!("released for {}", outcome.released.join(", ")),
            },
            Err(ReleaseError::NothingHeld(_)) => "nothing was held any more".to_owned(),
            Err(ReleaseError::Store { source: StoreError::NotHeld(_), .. }) => "nothing was held any more".to_owned(),
            Err(error) => {
                observe::count("enforcement", error.category());
                return Err(Failure::of(&error));
            }
        };
        done(&self.records, job, &order, &result).await
    }
}

impl<R: Reinject> Handler for ReleaseJobs<R> {
    fn run<'a>(&'a self, job: &'a Job, _soon: CancellationToken) -> BoxFuture<'a, Result<(), Failure>> {
        self.release(job).boxed()
    }
}

/// Notes that an action was wanted and nobody is there to act: handler of [`RECORDED`].
pub struct Recorded(pub Arc<Records>);

impl Handler for Recorded {
    fn run<'a>(&'a self, job: &'a Job, _soon: CancellationToken) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let order = ActionOrder::read(&job.payload).map_err(Failure::never)?;
            tracing::warn!(
                event = event::MAIL,
                id = %order.id, action = job.kind, "an action is wanted and nobody is configured to act"
            );
            done(&self.0, job, &order, NOBODY).await
        }
        .boxed()
    }
}

pub(super) async fn done(records: &Records, job: &Job, order: &ActionOrder, result: &str) -> Result<(), Failure> {
    records
        .action_done(order.id, &job.kind, result, now_ms(SystemTime::now()))
        .await
        .map_err(|error| Failure::of(&error))
}

/// Milliseconds since 1970.
pub(super) fn now_ms(now: SystemTime) -> i64 {
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
