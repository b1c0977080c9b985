//! SMTP and LMTP as machines (RFC 5321, 2033, 2920, 3030, 3461, 6531; XCLIENT, XFORWARD, PROXY protocol).
//!
//! [`Server`] holds one conversation with a client, [`Client`] one with a next hop. Both are fed bytes in whatever pieces
//! they come and give events, replies and the next deadline. What ends a line is `CRLF`, what ends data is `CRLF . CRLF`,
//! nothing else, in both directions. May import `mail` only. Not here: sockets, clocks, routing, TLS itself.

mod check;
mod client;
mod command;
mod data;
mod extension;
mod identity;
mod line;
mod proxy_protocol;
mod reply;
mod server;

pub use check::check_conversation;
pub use client::{Client, ClientError, Dialect, Step};
pub use command::{Command, CommandError};
pub use data::{BareNewline, DataFramer, DotStuffer, Finding, Findings};
pub use extension::{Extension, Extensions};
pub use identity::{Attribute, Identity, decode_xtext, encode_xtext};
pub use line::{Line, LineReader};
pub use proxy_protocol::{ProxyError, ProxyHeader, parse_proxy_header, write_proxy_v1, write_proxy_v2};
pub use reply::{Reply, ReplyError, ReplyReader};
pub use server::{Event, Server, ServerSettings, Trust, Violation};
