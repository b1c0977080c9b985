//! The next hop: which one, over which connection, and what it said.
//!
//! [`NextHops`] knows the configured hops, routes recipients to them by domain, keeps idle connections and what each hop offers.
//! [`Delivery`] is one transaction with a hop, as the relay drives it; [`NextHops::send`] is "deliver this message now".
//! A connection is used again only when its last transaction ended without any doubt. Not here: a queue of our own, retries in time.

mod config;
mod delivery;
mod error;
mod hops;
mod link;
mod metrics;

pub use config::{HopConfig, NextHopsConfig, ProxyVersion, RouteConfig, TlsMode};
pub use delivery::{Delivery, Failed};
pub use error::{ConfigError, LinkError, SendError};
pub use hops::{NextHops, RouteId};
pub use metrics::NextHopMetrics;
