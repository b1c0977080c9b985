//! The path of one message under one deadline: inspect, deadline, degrade, settle.
//!
//! A door ([`gateway`](crate::gateway)) hands over a [`Transaction`] and gets an [`Answer`] that it can give as it is:
//! whatever must be durable is durable by then. May import `mail`, `content`, `analysis`, `policy`, `deferred`, `enrichment`
//! and `records`. Not here: sockets, replies in any protocol's words.

mod answer;
mod broken;
mod config;
mod headers;
mod inspect;
mod metrics;
mod record;
mod standing;
mod transaction;

pub use config::{AfterPanics, Config, ResultHeaders};
pub use inspect::{Inspected, Pipeline};
pub use metrics::Metrics;
pub use standing::Standing;
pub use transaction::{Abilities, Answer, Inspect, Refusal, Transaction};
