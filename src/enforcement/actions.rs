//! Actions as jobs: `release` through the release path; `remediate`, `alert` and `notify` into the record.
//!
//! Nobody is wired yet who takes mail back: [`Recorded`] says so in the record and calls nothing a success. A job may run twice: a
//! release finds nothing left to do then, a result that stands is not written over. For whom, the action on the record says.
//! The result of a release tells what became of each of those, in whichever turn and by whomever.
//! A release is done when nobody it is for is held any more or being released by somebody else; until then it is tried by
//! time. Who was judged worse since it was ordered stays held.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{Reinject, Release, ReleaseError};
use crate::deferred::{Failure, Handler, Job};
use crate::observe::{self, Category, Fault, event};
use crate::policy::Action;
use crate::records::{ActionOrder, HeldState, RecipientState, Records, StoreError};

/// Kind of the job that releases.
pub const RELEASE: &str = "release";
/// Kinds of the jobs that are recorded.
pub const RECORDED: [&str; 1] = ["remediate"];

/// Names in each part of the result of a release at most.
const NAMES: usize = 10;

/// The result of a release of what the quarantine does not know, or not for those it was ordered for.
const NOTHING: &str = "nothing was held any more";

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

    /// Notes what became of those it was ordered for.
    async fn done(&self, job: &Job, order: &ActionOrder) -> Result<(), Failure> {
        let result = match self.records.held_message(order.id).await {
            Ok(held) => result(&held.recipients, &order.recipients),
            Err(StoreError::NotHeld(_)) => NOTHING.to_owned(),
            Err(error) => return Err(Failure::of(&error)),
        };
        done(&self.records, job, order, &result).await
    }

    async fn release(&self, job: &Job, soon: &CancellationToken) -> Result<(), Failure> {
        let Some(order) = ordered(&self.records, job).await? else { return Ok(()) };
        let mut wanted = order.recipients.clone();
        let second = self.records.reassessment(order.id).await.map_err(|error| Failure::of(&error))?;
        if let Some(second) = second {
            let worse = |name: &str| {
                let verdict = second.record.verdicts.iter().find(|one| one.recipient == name);
                verdict.is_some_and(|one| !matches!(one.verdict.action, Action::Allow | Action::Tag))
            };
            wanted.retain(|name| !worse(name));
        }
        if wanted.is_empty() {
            return self.done(job, &order).await;
        }
        let outcome = match self.release.release_until(order.id, &wanted, soon).await {
            Ok(outcome) => outcome,
            Err(ReleaseError::NothingHeld(_) | ReleaseError::Store { source: StoreError::NotHeld(_), .. }) => {
                return self.done(job, &order).await;
            }
            Err(error) => {
                observe::count("enforcement", error.category());
                return Err(Failure::of(&error));
            }
        };
        if !outcome.failed.is_empty() {
            observe::count("enforcement", Category::External);
        }
        let passing = outcome.failed.iter().find(|failed| !failed.for_good);
        let said = |failed: &super::release::Failure| format!("{}: {}", failed.recipient, failed.why);
        match () {
            () if !outcome.left.is_empty() && !outcome.released.is_empty() => Err(Failure::More),
            () if passing.is_some() || !outcome.left.is_empty() => {
                Err(Failure::later(passing.map_or_else(|| "its turn did not come".to_owned(), said)))
            }
            () if !outcome.elsewhere.is_empty() => {
                let wait = outcome.elsewhere_until_ms.saturating_sub(now_ms(SystemTime::now()));
                Err(Failure::Later {
                    error: "somebody else is releasing it".into(),
                    not_before: Duration::from_millis(wait.max(0).unsigned_abs()),
                    category: Category::Resource,
                })
            }
            () => match outcome.failed.first() {
                Some(failed) => Err(Failure::again(said(failed))),
                None => self.done(job, &order).await,
            },
        }
    }
}

/// The result of a release that was ordered for these: what became of each. Who is held still was judged worse.
fn result(states: &[RecipientState], ordered: &[String]) -> String {
    let ours = |one: &&RecipientState| ordered.iter().any(|name| name.eq_ignore_ascii_case(&one.recipient));
    let (mut released, mut deleted, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for one in states.iter().filter(ours) {
        let names = match one.state {
            HeldState::Released => &mut released,
            HeldState::Deleted => &mut deleted,
            HeldState::Held | HeldState::Releasing => &mut held,
        };
        names.push(one.recipient.as_str());
    }
    let parts = [("released for", released), ("deleted for", deleted), ("judged worse since, stays held for", held)];
    let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
    let parts: Vec<String> = parts.map(|(what, names)| format!("{what} {}", named(&names))).collect();
    if parts.is_empty() { NOTHING.to_owned() } else { parts.join("; ") }
}

/// The first of them, and how many more.
fn named(names: &[&str]) -> String {
    let first = names[..names.len().min(NAMES)].join(", ");
    match names.len().saturating_sub(NAMES) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

impl<R: Reinject> Handler for ReleaseJobs<R> {
    fn run<'a>(&'a self, job: &'a Job, soon: CancellationToken) -> BoxFuture<'a, Result<(), Failure>> {
        async move { self.release(job, &soon).await }.boxed()
    }

    fn delivers(&self) -> bool {
        true
    }

    /// A copy that the next hop has is not cut off: it would be given again.
    fn grace(&self) -> Duration {
        self.release.copy_time()
    }
}

/// Notes that an action was wanted and nobody is there to act: handler of [`RECORDED`].
pub struct Recorded(pub Arc<Records>);

impl Handler for Recorded {
    fn run<'a>(&'a self, job: &'a Job, _soon: CancellationToken) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let Some(order) = ordered(&self.0, job).await? else { return Ok(()) };
            tracing::warn!(
                event = event::MAIL,
                id = %order.id, action = job.kind, "an action is wanted and nobody is configured to act"
            );
            done(&self.0, job, &order, NOBODY).await
        }
        .boxed()
    }

    fn delivers(&self) -> bool {
        true
    }
}

/// What a job orders, and for whom; `None`: it has its result already.
pub(super) async fn ordered(records: &Records, job: &Job) -> Result<Option<ActionOrder>, Failure> {
    let order = ActionOrder::read(&job.payload).map_err(Failure::never)?;
    let actions = records.actions(order.id).await.map_err(|error| Failure::of(&error))?;
    let action = actions.into_iter().find(|action| action.kind == job.kind && action.cause == order.cause);
    match action {
        Some(action) if action.result.is_some() => Ok(None),
        Some(action) => Ok(Some(ActionOrder { recipients: action.recipients, ..order })),
        // Nobody named must not become everybody.
        None if order.recipients.is_empty() => Err(Failure::never("the record does not say for whom")),
        None => Ok(Some(order)),
    }
}

pub(super) async fn done(records: &Records, job: &Job, order: &ActionOrder, result: &str) -> Result<(), Failure> {
    records
        .action_done(order.id, (&job.kind, &order.cause), result, now_ms(SystemTime::now()))
        .await
        .map_err(|error| Failure::of(&error))
}

/// Milliseconds since 1970.
pub(super) fn now_ms(now: SystemTime) -> i64 {
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
