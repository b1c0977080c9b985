//! The doors: listeners and drivers that carry bytes between sockets and the machines of `protocol`, and messages to the
//! [`Inspect`](crate::pipeline::Inspect) behind them.
//!
//! May import `mail`, `protocol`, `policy`, `deferred`, `records`, `pipeline`. Not here: what a protocol means (`protocol`)
//! and any judgement (`pipeline` and the rooms behind it).

pub mod milter;
