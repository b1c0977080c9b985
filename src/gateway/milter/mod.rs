//! The milter door: takes connections of MTAs, hands each message to the pipeline, carries its answer back.
//!
//! [`Listener::bind`] first, then [`serve`] until it is cancelled. Every wait has a deadline of its own, none starts anew with
//! each byte. A peer that breaks the protocol, stalls or vanishes loses its own connection and nothing else; what it did is
//! counted in [`Metrics`]. Without a verdict in time the sender is asked to try again (451).
//!
//! Not here: the protocol (`protocol::milter`), verdicts (`pipeline`), and when to stop waiting at shutdown (the caller's).

mod config;
mod connection;
mod endpoint;
mod error;
mod listener;
mod metrics;
mod server;
mod verdict;

pub use config::Config;
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use error::BindError;
pub use listener::Listener;
pub use metrics::Metrics;
pub use server::serve;
