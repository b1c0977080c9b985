//! The HTTP side: health for probes, metrics, and the API over records and quarantine.
//!
//! Three paths (`/alive`, `/ready`, `/health`) are open; everything else, unknown paths included, needs the bearer token, or a
//! signature with a key that may ask. Both are asked for before a path is looked at, so router and guard cannot disagree about
//! what a path means; what a key may is asked where the router has chosen its route.
//! May import all rooms but `protocol`, `gateway`, `egress` and `app`. Not here: TLS (put a proxy in front before you open the
//! port to others), users (one token is one administrator, another sees metrics and
//! health, a key has one of four roles), the console.

mod access;
mod api;
mod callers;
mod certificate;
mod channels;
mod config;
mod error;
mod examination;
mod front;
mod full_health;
mod health;
mod levels;
mod metrics;
mod numbers;
mod paced;
mod problem;
mod process;
mod router;
mod server;
mod summary;

pub use crate::mail::{clean, defang};
pub use api::{Demo, DemoBusy, DemoOrder, DemoState, Workforce};
pub use config::{Config, DemoConfig, Role};
pub use error::AdminError;
pub(crate) use examination::newest_file;
pub use examination::{Others, RuleFeeds, Surroundings};
pub use health::NextHopStates;
pub use levels::{LogLevels, LogState};
pub use router::openapi;
pub use server::Admin;
