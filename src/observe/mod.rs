//! What is said of a running process: kinds of events, the id that binds log lines together, categories of failures.
//!
//! Every room that does something may import it; it imports none. Not here: how lines are written and where to (`app`), metrics
//! of the rooms (each has its own).

mod correlation;
pub mod event;
mod fault;

pub use correlation::{correlation, is_correlation};
pub use fault::{Category, Fault, count, register};
