//! What is done after the reply: release from quarantine, the actions that a second verdict wants, alerts, signed requests.
//!
//! May import `mail`, `policy`, `egress`, `deferred` and `records`. Not here: how a message gets to the next hop (whoever wires
//! this room says so by [`Reinject`]), who may ask for it (`admin`, `app`), and where alerts get their readings (`app`).

mod actions;
pub mod alert;
mod config;
mod error;
mod release;
pub mod signing;
mod tell;

pub use actions::{RECORDED, RELEASE, Recorded, ReleaseJobs};
pub use config::{ActionWebhookConfig, ActionsConfig, NotifyConfig, ReleaseConfig};
pub use error::ReleaseError;
pub use release::{Refused, Reinject, Release, Released};
pub use tell::{ALERT, NOTIFY, Tell, WEBHOOK};
