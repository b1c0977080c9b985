//! The pool: claims jobs, gives them to workers, settles them, and keeps the number of workers right.
//!
//! One future of five parts: the feeder claims, workers do, the settler settles in batches, the keeper renews leases, the
//! staffing changes the number of workers. A job at work is cut off at the hard deadline, or when its lease was lost. At
//! `stop` nothing more is claimed; jobs at work get `workers.drain_seconds`, and the grace of their handlers; what is left goes
//! back to the queue.

mod crew;
mod settle;
mod staff;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::error::with_causes;
use super::shares::Shares;
use super::{Claim, Job, Metrics, Outbox, Queue, QueueConfig, QueueError, WorkersConfig};
use crate::observe::{self, Category, Fault, event};

pub use crew::{Crew, JobRun, Outcome, Sample, ScalingEvent, WorkerState, WorkerStatus};

/// Settlements that wait for their batch; beyond that workers wait.
const SETTLING: usize = 1_024;
/// Pause after the queue could not be asked.
const FAILED_PAUSE: Duration = Duration::from_millis(500);

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Another attempt may succeed.
    Again {
        /// What happened.
        error: String,
        /// Pause at least this long, as when a service said so.
        not_before: Duration,
        /// What kind of thing it was.
        category: Category,
    },
    /// What it needs is not there now, or somebody does not take what is given: tried by time (`workers.patience`), no attempt
    /// is used up.
    Later {
        /// What happened.
        error: String,
        /// Pause at least this long.
        not_before: Duration,
        /// What kind of thing it was.
        category: Category,
    },
    /// It got on, and there is more of it than fits one turn: it goes on at once.
    More,
    /// No attempt will ever succeed.
    Never {
        /// What happened.
        error: String,
        /// What kind of thing it was.
        category: Category,
    },
}

impl Failure {
    /// To be tried again whenever it suits: somebody else did not do what was asked.
    pub fn again(error: impl Into<String>) -> Self {
        Self::Again { error: error.into(), not_before: Duration::ZERO, category: Category::External }
    }

    /// What the job asks for makes no sense.
    pub fn never(error: impl Into<String>) -> Self {
        Self::Never { error: error.into(), category: Category::Validation }
    }

    /// To be tried by time.
    pub fn later(error: impl Into<String>) -> Self {
        Self::Later { error: error.into(), not_before: Duration::ZERO, category: Category::External }
    }

    /// As the error says of itself: what may help another time is no fault of the job's.
    pub fn of(error: &dyn Fault) -> Self {
        let failure = if error.is_retryable() { Self::later } else { Self::never };
        failure(error.to_string()).because(error.category())
    }

    /// The same with another kind of cause.
    #[must_use]
    pub fn because(mut self, what: Category) -> Self {
        match &mut self {
            Self::Again { category, .. } | Self::Later { category, .. } | Self::Never { category, .. } => {
                *category = what
            }
            Self::More => {}
        }
        self
    }

    /// What kind of thing it was; `None`: nothing went wrong.
    pub fn category(&self) -> Option<Category> {
        match self {
            Self::Again { category, .. } | Self::Later { category, .. } | Self::Never { category, .. } => {
                Some(*category)
            }
            Self::More => None,
        }
    }
}

/// Does the jobs of one kind.
pub trait Handler: Send + Sync {
    /// Does one job. It can have been done before, wholly or in part: doing it again must be harmless.
    ///
    /// `soon` is cancelled at the soft deadline: what is there by then should be made the result. At the hard deadline, or when
    /// the lease is lost, the future is dropped.
    fn run<'a>(&'a self, job: &'a Job, soon: CancellationToken) -> BoxFuture<'a, Result<(), Failure>>;

    /// Whether it gives something to somebody else, who may be slow: not done in time is no fault of the job's then.
    fn delivers(&self) -> bool {
        false
    }

    /// Time it gets beyond the hard deadline, and beyond the drain when the workers stop: where to cut it off may have it done
    /// twice. It still ends at `soon` what it can; with a grace, `soon` is cancelled at the stop too.
    fn grace(&self) -> Duration {
        Duration::ZERO
    }
}

/// Who does which kind of job.
pub type Handlers = BTreeMap<String, Arc<dyn Handler>>;

/// A claim in this process.
#[derive(Clone)]
struct Held {
    number: u64,
    claim: Arc<Claim>,
    /// Another worker may have it by now.
    lost: CancellationToken,
}

/// A claim, and whether its settlement is on its way.
struct Active {
    held: Held,
    settling: bool,
}

/// What the parts share.
struct Shop {
    queue: Arc<dyn Queue>,
    outbox: Option<Arc<dyn Outbox>>,
    handlers: Handlers,
    config: WorkersConfig,
    lease: Duration,
    resend_ms: i64,
    metrics: Arc<Metrics>,
    crew: Arc<Crew>,
    active: Mutex<HashMap<u64, Active>>,
    claimed: AtomicU64,
}

/// Workers, before they work.
pub struct Pool {
    shop: Arc<Shop>,
}

impl Pool {
    /// Puts a pool together. The outbox, if there is one, forgets jobs that are done and notes those that
    /// are dead.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub fn new(
        queue: Arc<dyn Queue>,
        outbox: Option<Arc<dyn Outbox>>,
        handlers: Handlers,
        (queue_config, config): (&QueueConfig, &WorkersConfig),
        metrics: Arc<Metrics>,
    ) -> Result<Self, QueueError> {
        config.check()?;
        let shop = Shop {
            queue,
            outbox,
            handlers,
            lease: Duration::from_secs(queue_config.lease_seconds),
            resend_ms: queue_config.resend_ms(),
            crew: Arc::new(Crew::new(&config.scaling, Arc::clone(&metrics))),
            config: config.clone(),
            metrics,
            active: Mutex::default(),
            claimed: AtomicU64::new(0),
        };
        Ok(Self { shop: Arc::new(shop) })
    }

    /// What can be seen and asked of the workers, also while they work.
    pub fn crew(&self) -> Arc<Crew> {
        Arc::clone(&self.shop.crew)
    }

    /// Longest time from `stop` until the last job at work is done or cut off.
    pub fn patience(&self) -> Duration {
        let grace = self.shop.handlers.values().map(|handler| handler.grace()).max().unwrap_or_default();
        Duration::from_secs(self.shop.config.drain_seconds).saturating_add(grace)
    }

    /// Works until `stop`, and then until everything is settled or given back.
    pub async fn run(self, stop: CancellationToken) {
        let shop = &self.shop;
        let (hand, take) = mpsc::channel(shop.config.prefetch);
        let (tell, told) = mpsc::channel(SETTLING);
        let over = CancellationToken::new();
        let work = async {
            tokio::join!(
                feed(shop, hand, &stop),
                staff::staff(Arc::clone(shop), take, tell, stop.clone()),
                settle::settle(shop, told, &stop),
            );
            over.cancel();
        };
        tokio::join!(work, settle::keep(shop, &over));
    }
}

impl Shop {
    fn active(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The longest grace among the jobs at work.
    fn grace_at_work(&self) -> Duration {
        let kinds = self.crew.workers().into_iter().filter_map(|worker| worker.kind);
        let graces = kinds.filter_map(|kind| Some(self.handlers.get(&kind)?.grace()));
        graces.max().unwrap_or_default()
    }

    /// Takes note of a claim.
    fn hold(&self, claim: Claim) -> Held {
        let number = self.claimed.fetch_add(1, Ordering::Relaxed);
        let held = Held { number, claim: Arc::new(claim), lost: CancellationToken::new() };
        self.active().insert(number, Active { held: held.clone(), settling: false });
        held
    }

    /// The claim's settlement is on its way; from here on nobody else may settle it.
    fn settles(&self, held: &Held) {
        if let Some(active) = self.active().get_mut(&held.number) {
            active.settling = true;
        }
    }

    fn forget(&self, held: &Held) {
        self.active().remove(&held.number);
    }

    /// Counts a call to the queue that failed, and logs the first of a row.
    fn failed(&self, attempt: &str, error: &QueueError, failing: &mut bool) {
        self.metrics.failures.with_label_values(&[attempt]).inc();
        observe::count("deferred", error.category());
        if !std::mem::replace(failing, true) {
            tracing::warn!(
                event = event::SYSTEM,
                attempt,
                error = with_causes(error),
                "the queue does not answer as it should"
            );
        }
    }
}

/// Claims jobs while there is room for them.
async fn feed(shop: &Shop, hand: mpsc::Sender<Held>, stop: &CancellationToken) {
    let mut shares = Shares::new(shop.config.shares);
    let mut failing = false;
    loop {
        let room = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            room = hand.reserve() => room.is_ok(),
        };
        if !room {
            return;
        }
        // Not cut short by `stop`: what was claimed must be known, so that it can be given back.
        let pause = match shop.queue.claim(shares.split(hand.capacity())).await {
            Ok(claims) => {
                failing = false;
                let none = claims.is_empty();
                for claim in claims {
                    let held = shop.hold(claim);
                    // There is room: nobody else sends.
                    if hand.try_send(held.clone()).is_err() && hand.send(held).await.is_err() {
                        return;
                    }
                }
                if none { Duration::from_millis(shop.config.idle_ms) } else { Duration::ZERO }
            }
            Err(error) => {
                shop.failed("claim", &error, &mut failing);
                FAILED_PAUSE
            }
        };
        if !pause.is_zero() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
