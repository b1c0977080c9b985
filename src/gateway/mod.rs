//! The doors: listeners and drivers that carry bytes between sockets and the machines of `protocol`, and messages to the
//! [`Inspect`](crate::pipeline::Inspect) behind them; and the way to the next hop.
//!
//! May import `observe`, `mail`, `protocol`, `policy`, `deferred`, `records`, `pipeline`. Not here: what a protocol means (`protocol`), any
//! judgement (`pipeline` and the rooms behind it), who supervises the listeners (`app`).

pub mod milter;
pub mod next_hop;
pub mod relay;
mod stream;
pub mod tls;
