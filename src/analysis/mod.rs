//! From message and facts to named evidence.
//!
//! Pure: no sockets, no files, no clock. May import `mail` and `content`. Not here: what evidence is worth (`policy`).

mod facts;
mod signal;

pub use facts::{
    Arc, ArcResult, DkimResult, DkimSignature, Dmarc, DmarcPolicy, DmarcResult, Fact, Facts, Spf, SpfResult, Why,
};
pub use signal::{Code, Group, Input, Signal, Site, analyse};
