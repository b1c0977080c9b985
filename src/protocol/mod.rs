//! The protocol machines without sockets: bytes and `now` in, events and bytes out.
//!
//! Pure: no tokio, no sockets, no files, no clock. May import `mail` and nothing else. Not here: who listens, deadlines,
//! and any decision about a message (`gateway` carries those between the machines and the pipeline).

pub mod milter;
pub mod smtp;
