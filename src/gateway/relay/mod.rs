//! The SMTP relay: clients come in here, the next hop's answers go back to them.
//!
//! [`Relay::serve`] accepts connections until told to stop; each is a [`Server`](crate::protocol::smtp::Server) machine with a socket.
//! Recipients are passed on one by one, the message is judged by an [`Inspect`](crate::pipeline::Inspect) before the sender is answered,
//! and 250 for a delivered message is the next hop's own. Nothing is kept here beyond the message in hand.
//! Not here: protocol grammar (`protocol::smtp`), connections to the next hop (`next_hop`), judgement (`pipeline`).

mod config;
mod limits;
mod listener;
mod message;
mod metrics;
mod session;
mod trace;

pub use config::{ConfigError, RelayConfig, RelayTls};
pub use listener::Relay;
pub use metrics::RelayMetrics;
