//! The integration tests: one binary, one module a subject. Data is in `tests/cases` and `tests/conversations`.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod relay;
mod smtp_conversation;
mod smtp_machines;
mod smuggling;
