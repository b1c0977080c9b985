//! Facts from outside: what DNS says about the sender.
//!
//! May import `mail`, `content`, `analysis` and `egress`. Every question has a deadline; what could not be asked is an
//! [`Unknown`](crate::analysis::Fact::Unknown), never a failure. Not here: what a fact is worth (`analysis`, `policy`).

mod config;
mod sender_auth;

pub use config::{Config, SenderAuthConfig};
pub use sender_auth::{ResolverError, SenderAuth, authentication_results, forged_results};
