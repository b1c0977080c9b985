//! The path of one message under one deadline: inspect, deadline, degrade, settle; and the second look after the reply.
//!
//! A door ([`gateway`](crate::gateway)) hands over a [`Transaction`] and gets an [`Answer`] that it can give as it is:
//! whatever must be durable is durable by then. May import `observe`, `mail`, `content`, `analysis`, `policy`, `deferred`, `enrichment`
//! and `records`. Not here: sockets, replies in any protocol's words.

mod again;
mod answer;
mod asks;
mod config;
mod headers;
mod inspect;
mod metrics;
mod reassess;
mod record;
mod stages;
mod standing;
mod transaction;

pub use config::{AfterHold, AfterPanics, Config, OnWorse, ReassessConfig, ResultHeaders, StagesConfig};
pub use inspect::{Inspected, Pipeline};
pub use metrics::Metrics;
pub use reassess::{REASSESS, Reassess, WAITED, Waited, asked_look};
pub use standing::{Deep, Standing};
pub use transaction::{Abilities, Answer, Inspect, Refusal, Transaction};
