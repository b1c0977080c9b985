//! Listeners and drivers: the machines of `protocol` get sockets and time here, and the next hop is reached from here.
//!
//! May import `mail`, `protocol`, `policy`, `deferred`, `records`, `pipeline`. Not here: any judgement (the doors know
//! [`Inspect`](crate::pipeline::Inspect) and no more of it), protocol grammar, and who supervises the listeners (`app`).

pub mod next_hop;
pub mod relay;
mod stream;
pub mod tls;
