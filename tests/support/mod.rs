//! What the tests stand on: servers to talk to, clients that talk.

pub mod admin;
pub mod http;
pub mod milter;
pub mod sink;
