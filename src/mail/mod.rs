//! The message and what travels with it, as values.
//!
//! Pure: no sockets, no files, no clock. Imports no other room; every other room may import this one.
//! Not here: what is inside attachments (`content`), what the outside says about the message (`enrichment`),
//! and any judgement (`analysis`, `policy`).

mod address;
mod connection;
mod edit;
mod envelope;
mod id;
mod network;

pub use address::{Address, registrable_domain};
pub use connection::{Connection, Door, TlsSession};
pub use edit::Edit;
pub use envelope::{Envelope, Path};
pub use id::{InvalidMessageId, MessageId};
pub use network::{InvalidNetwork, Network};
