//! What the tests stand on: servers to talk to, clients that talk.

pub mod admin;
pub mod client;
pub mod http;
pub mod milter;
pub mod next_hop;
pub mod postfix;
pub mod relay;
pub mod sink;
pub mod smtp_client;
