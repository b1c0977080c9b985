//! What is done after the reply: release from quarantine, and the actions that a second verdict wants.
//!
//! May import `mail`, `policy`, `egress`, `deferred` and `records`. Not here: how a message gets to the next hop (whoever wires
//! this room says so by [`Reinject`]), and who may ask for it (`admin`, `app`).

mod actions;
mod config;
mod error;
mod release;

pub use actions::{RECORDED, RELEASE, Recorded, ReleaseJobs};
pub use config::ReleaseConfig;
pub use error::ReleaseError;
pub use release::{Refused, Reinject, Release, Released};
