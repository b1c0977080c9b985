//! The path of one message under one deadline: inspect, deadline, degrade, settle.
//!
//! A door ([`gateway`](crate::gateway)) hands over a [`Transaction`] and gets an [`Answer`] that it can give as it is:
//! whatever must be durable is durable by then. Not here: sockets, replies in any protocol's words.

mod transaction;

pub use transaction::{Abilities, Answer, Inspect, Refusal, Transaction};
