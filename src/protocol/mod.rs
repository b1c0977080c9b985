//! The protocol machines without sockets: bytes and `now` in, events and bytes out.
//!
//! Pure: may import `mail` only. Not here: tokio, sockets, files, a clock, and any judgement; the drivers are in `gateway`.

pub mod smtp;
