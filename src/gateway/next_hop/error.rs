//! What can go wrong with a next hop.

use std::io;

use crate::gateway::tls::TlsError;
use crate::observe::{Category, Fault};
use crate::protocol::smtp::{ClientError, Reply, Step};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No hop at all.
    #[error("next hops: at least one hop is needed")]
    NoHops,
    /// Two hops of one name.
    #[error("next hops: the name {0:?} is there twice")]
    DuplicateName(String),
    /// A route to a hop that is not configured.
    #[error("next hops: a route names the hop {0:?}, which is not there")]
    UnknownHop(String),
    /// A route without hops or domains.
    #[error("next hops: a route needs domains and hops")]
    EmptyRoute,
    /// Not `host:port`.
    #[error("next hops: {0:?} is not host:port")]
    Address(String),
    /// Not a name for a certificate.
    #[error("next hops: {0:?} is no name a certificate can have")]
    TlsName(String),
    /// TLS towards a hop.
    #[error("next hops: TLS")]
    Tls(#[from] TlsError),
}

/// A connection that cannot be used (any more).
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Could not connect.
    #[error("connecting")]
    Connect(#[source] io::Error),
    /// All hops of the route have failed a moment ago.
    #[error("all next hops are down")]
    Down,
    /// Too many connections to this hop, for too long.
    #[error("no connection came free")]
    Busy,
    /// No answer in time.
    #[error("no answer to {0:?} in time")]
    Timeout(Step),
    /// Reading or writing failed, or the hop closed the connection.
    #[error("the connection was lost")]
    Lost(#[source] io::Error),
    /// The hop does not keep to the protocol.
    #[error("the next hop does not keep to the protocol")]
    Protocol(#[from] ClientError),
    /// The handshake failed, or verified TLS is configured and not offered.
    #[error("TLS could not be had")]
    Tls(#[source] io::Error),
    /// The hop refused to talk: banner, greeting, or 421 at any time.
    #[error("the next hop refused to talk: {}", .0.code)]
    Refused(Reply),
}

/// A message that was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The next hop refused the sender, all recipients or the content.
    #[error("the next hop answered {} {}", .0.code, .0.text)]
    Refused(Reply),
    /// Some recipients were taken and some were not: nothing was sent.
    #[error("the next hop refused {} of the recipients", .0.len())]
    Recipients(Vec<(usize, Reply)>),
    /// The recipients belong to different next hops, or to one that takes a recipient at a time: send one by one.
    #[error("the recipients cannot be served in one transaction")]
    Separate,
    /// The hop could not be reached or was lost before the final dot: nothing was delivered.
    #[error("the next hop could not be used")]
    Link(#[source] LinkError),
    /// Lost after the final dot: delivered or not, nobody knows.
    #[error("the next hop was lost after the final dot")]
    Unknown(#[source] LinkError),
}

impl Fault for LinkError {
    fn category(&self) -> Category {
        match self {
            Self::Connect(_) | Self::Down | Self::Timeout(_) | Self::Lost(_) | Self::Tls(_) => Category::Network,
            Self::Busy => Category::Resource,
            Self::Protocol(_) => Category::Protocol,
            Self::Refused(_) => Category::External,
        }
    }

    /// All that is not delivered stays with the sender, who tries again.
    fn is_retryable(&self) -> bool {
        true
    }
}
