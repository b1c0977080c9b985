//! What is done after the reply: release from quarantine.
//!
//! May import `mail`, `policy`, `egress`, `deferred` and `records`. Not here: how a message gets to the next hop (whoever wires
//! this room says so by [`Reinject`]), and who may ask for it (`admin`, `app`).

mod config;
mod error;
mod release;

pub use config::ReleaseConfig;
pub use error::ReleaseError;
pub use release::{Refused, Reinject, Release, Released};
