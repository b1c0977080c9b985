//! Work after the reply: a queue of jobs with two engines, and a pool of workers that scales. Knows nothing of mail.
//!
//! A [`Job`] is a value. It waits in the [`Outbox`] of whoever caused it from the commit of its cause until it is done; the
//! [`pump`] puts it into the [`Queue`]: embedded (SQLite) for one node, Redis Streams for many. A [`Pool`] claims jobs under a
//! lease, runs their [`Handler`] and settles them: done, again after a pause, or dead with its reason. Every job that was
//! committed has at least one effect and exactly one result; an effect can happen twice and must be harmless then.
//!
//! [`RedisLink`] is the connection to Redis; others borrow it for what gateways share.
//!
//! Imports `observe` only. Not here: what jobs do (handlers come from `app`), the table of the outbox (`records`).

mod config;
mod cpu;
mod error;
mod job;
mod metrics;
mod outbox;
mod pool;
mod queue;
#[cfg(feature = "redis")]
mod redis;
mod retry;
mod scaling;
mod shares;
mod sqlite;

pub use config::{PatienceConfig, QueueConfig, ScalingConfig, WorkersConfig};
pub use error::QueueError;
pub use job::{DeadJob, DeadPlace, DeadPlaceError, Job, JobError, Priority, Reason};
pub use metrics::{Metrics, watch};
pub use outbox::{Outbox, OutboxError, pump, purge, replay};
pub use pool::{
    Crew, Failure, Handler, Handlers, JobRun, Outcome, Pool, Sample, ScalingEvent, WorkerState, WorkerStatus,
};
pub use queue::{
    Answer, Claim, DEAD_PAGE_MAX, Depth, Placed, Queue, ServerFacts, Settlement, Ticket, Waiting, check, open,
};
#[cfg(feature = "redis")]
pub use redis::{LinkUse, RedisAddress, RedisLink};
pub use scaling::{Cause, Change, Load, Mode, Scaling};
