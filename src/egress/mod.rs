//! The only way out to third parties: deadline, breaker, rate limit, retries, size cap, and a fence against private networks.
//!
//! A [`Dependency`] is one service, made by the [`Registry`], which knows the state of all of them. Every call out goes through
//! [`Dependency::call`], [`HttpClient`] or [`StreamClient`] and gives the answer or the exact [`Failure`]. It never takes longer
//! than its total deadline, however slowly a peer drips. May import `observe` only. Not here: what an answer means, caches and
//! failure policies (`enrichment`), metrics of mail.

mod backoff;
mod breaker;
mod config;
mod dependency;
mod failure;
mod fence;
mod http;
mod limiter;
mod metrics;
mod names;
mod registry;
mod retry_after;
mod stream;
mod window;
mod wrong_setting;

pub use backoff::{Backoff, Curve};
pub use breaker::{Breaker, BreakerConfig, BreakerState, Permit};
pub use config::{CallConfig, RateConfig, RetryConfig};
pub use dependency::{Dependency, Repeat};
pub use failure::Failure;
pub use fence::{Fence, Fenced, Reach};
pub use http::{Answer, HttpClient, HttpError, Request, TlsRoots, Visit};
pub use limiter::Limiter;
pub use metrics::Metrics;
pub use names::{Names, NamesConfig, NamesError};
pub use registry::{Registry, Snapshot};
pub use retry_after::parse_retry_after;
pub use stream::{InvalidTarget, Stream, StreamClient, Target, without_secrets};
pub use window::Window;
pub use wrong_setting::{WrongSetting, wrong};
