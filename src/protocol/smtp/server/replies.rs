//! The server's own replies, in one table.

use crate::protocol::smtp::Reply;

pub(super) const OK: Reply = Reply::new(250, [2, 0, 0], "Ok");
pub(super) const BYE: Reply = Reply::new(221, [2, 0, 0], "Bye");
pub(super) const VRFY: Reply = Reply::new(252, [2, 5, 0], "Cannot verify, send some mail");
pub(super) const HELP: Reply = Reply::new(214, [2, 0, 0], "See RFC 5321");
pub(super) const CHUNK_TAKEN: Reply = Reply::new(250, [2, 0, 0], "Ok, octets received");
pub(super) const TLS_READY: Reply = Reply::new(220, [2, 0, 0], "Ready to start TLS");
pub(super) const GO_AHEAD: Reply =
    Reply { code: 354, enhanced: None, text: std::borrow::Cow::Borrowed("End data with <CR><LF>.<CR><LF>") };

pub(super) const SHUTTING_DOWN: Reply = Reply::new(421, [4, 3, 2], "Service shutting down, try again later");
pub(super) const TIMEOUT: Reply = Reply::new(421, [4, 4, 2], "Timeout exceeded");
pub(super) const TOO_MANY_ERRORS: Reply = Reply::new(421, [4, 7, 0], "Too many errors");
pub(super) const INTERNAL: Reply = Reply::new(421, [4, 3, 0], "Internal error, try again later");
pub(super) const TOO_MANY_RECIPIENTS: Reply = Reply::new(452, [4, 5, 3], "Too many recipients");

pub(super) const UNKNOWN: Reply = Reply::new(500, [5, 5, 2], "Command not recognized");
pub(super) const LINE_TOO_LONG: Reply = Reply::new(500, [5, 5, 2], "Line too long");
pub(super) const BAD_CHARACTERS: Reply = Reply::new(500, [5, 5, 2], "Bad character in command");
pub(super) const BARE_LF: Reply = Reply::new(521, [5, 5, 2], "Bare LF received");
pub(super) const BAD_PATH: Reply = Reply::new(501, [5, 1, 3], "Bad address syntax");
pub(super) const BAD_PARAMETER: Reply = Reply::new(501, [5, 5, 4], "Bad parameter value");
pub(super) const NOT_IMPLEMENTED: Reply = Reply::new(502, [5, 5, 1], "Command not implemented");
pub(super) const HELO_FIRST: Reply = Reply::new(503, [5, 5, 1], "Send HELO or EHLO first");
pub(super) const MAIL_FIRST: Reply = Reply::new(503, [5, 5, 1], "Need MAIL command");
pub(super) const NESTED_MAIL: Reply = Reply::new(503, [5, 5, 1], "Nested MAIL command");
pub(super) const BAD_SEQUENCE: Reply = Reply::new(503, [5, 5, 1], "Bad sequence of commands");
pub(super) const TOO_MANY_COMMANDS: Reply = Reply::new(503, [5, 5, 1], "Too many commands without mail");
pub(super) const TLS_FIRST: Reply = Reply::new(530, [5, 7, 0], "Must issue a STARTTLS command first");
pub(super) const NOT_TRUSTED: Reply = Reply::new(550, [5, 7, 0], "Not authorized");
pub(super) const NUL_IN_MESSAGE: Reply = Reply::new(550, [5, 6, 11], "NUL in message");
pub(super) const BARE_IN_MESSAGE: Reply = Reply::new(550, [5, 6, 11], "Bare CR or LF in message");
pub(super) const TOO_BIG: Reply = Reply::new(552, [5, 3, 4], "Message too big");
pub(super) const TOO_BIG_TO_READ: Reply = Reply::new(521, [5, 3, 4], "Message too big");
pub(super) const MESSAGE_LINE_TOO_LONG: Reply = Reply::new(552, [5, 6, 0], "Line too long in message");
pub(super) const NO_SMTPUTF8: Reply = Reply::new(553, [5, 6, 7], "Internationalized addresses are not supported here");
pub(super) const EARLY: Reply = Reply::new(554, [5, 5, 0], "SMTP protocol synchronization error");
pub(super) const NO_RECIPIENTS: Reply = Reply::new(554, [5, 5, 1], "No valid recipients");
pub(super) const UNKNOWN_PARAMETER: Reply = Reply::new(555, [5, 5, 4], "Parameter not recognized");
