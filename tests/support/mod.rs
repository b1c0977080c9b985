//! What the tests stand on: servers to talk to, clients that talk.
