//! The protocol machines without sockets: bytes and `now` in, events and bytes out.
