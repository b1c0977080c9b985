//! Ties the release (enforcement) to the next hop (gateway): those rooms do not know each other.

use std::sync::Arc;

use bytes::Bytes;

use crate::enforcement::{Refused, Reinject};
use crate::gateway::next_hop::{NextHops, SendError};
use crate::mail::Envelope;

/// The next hops, as the release sees them.
pub(super) struct IntoNextHop(pub(super) Arc<NextHops>);

impl Reinject for IntoNextHop {
    async fn reinject(&self, envelope: Envelope, raw: Bytes) -> Result<String, Refused> {
        let reply = self.0.send(&envelope, &[raw]).await;
        reply
            .map(|reply| format!("{} {}", reply.code, reply.text))
            .map_err(|error| Refused { why: reason(&error), for_good: for_good(&error) })
    }
}

/// Whether the next hop said that it never takes it.
fn for_good(error: &SendError) -> bool {
    match error {
        SendError::Refused(reply) => reply.code >= 500,
        SendError::Recipients(refused) => refused.iter().all(|(_, reply)| reply.code >= 500),
        _ => false,
    }
}

/// An error and its causes in one line.
fn reason(error: &SendError) -> String {
    if let SendError::Recipients(refused) = error
        && let Some((_, reply)) = refused.first()
    {
        return format!("the next hop answered {} {}", reply.code, reply.text);
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(below) = cause {
        text = format!("{text}: {below}");
        cause = below.source();
    }
    text
}
