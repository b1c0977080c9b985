//! What the tests stand on: servers to talk to, clients that talk.

pub mod client;
pub mod milter;
pub mod postfix;
pub mod sink;
