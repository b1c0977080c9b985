//! Kinds of events: the field `event` of every log line from `info` up. A test holds all lines to it.

/// What became of a message.
pub const MAIL: &str = "mail";
/// Failed authentication, breaches of a protocol, signatures and passes that do not fit.
pub const SECURITY: &str = "security";
/// Somebody changed something: who, what, with which outcome.
pub const AUDIT: &str = "audit";
/// Requests to the HTTP side.
pub const API: &str = "api";
/// Something took longer than it should.
pub const PERFORMANCE: &str = "performance";
/// The process and what it depends on.
pub const SYSTEM: &str = "system";

/// All of them.
pub const ALL: [&str; 6] = [MAIL, SECURITY, AUDIT, API, PERFORMANCE, SYSTEM];
