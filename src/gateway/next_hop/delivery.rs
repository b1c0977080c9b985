//! One transaction with a next hop, recipient by recipient, as the relay's client goes through it.
//!
//! A connection found dead before any content was sent is replaced once and the transaction repeated there; after the
//! final dot nothing is repeated: [`Failed::Unknown`]. A sender refused by the hop stays refused for every recipient.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::mail::Path;
use crate::protocol::smtp::{Identity, Reply};

use super::error::LinkError;
use super::hops::{NextHops, RouteId};
use super::link::Link;

/// A message that got no answer from the next hop.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// Lost before the final dot: the next hop does not have the message.
    #[error("not sent")]
    NotSent(#[source] LinkError),
    /// Lost after the final dot: it may have it or not.
    #[error("sent, outcome unknown")]
    Unknown(#[source] LinkError),
}

/// The transaction.
#[derive(Debug)]
pub struct Delivery {
    hops: Arc<NextHops>,
    route: RouteId,
    identity: Identity,
    sender: Path,
    accepted: Vec<Path>,
    link: Option<Link>,
    sender_refused: Option<Reply>,
    /// A dead connection has been replaced already.
    replaced: bool,
}

impl Delivery {
    /// A transaction that has not begun: the hop is asked at the first recipient.
    pub fn new(hops: Arc<NextHops>, route: RouteId, identity: Identity, sender: Path) -> Self {
        let accepted = Vec::new();
        Self { hops, route, identity, sender, accepted, link: None, sender_refused: None, replaced: false }
    }

    /// Where it goes.
    pub fn route(&self) -> RouteId {
        self.route
    }

    /// Recipients taken by the hop so far.
    pub fn accepted(&self) -> &[Path] {
        &self.accepted
    }

    /// Passes one recipient on; the reply is the hop's own.
    pub async fn rcpt(&mut self, recipient: &Path) -> Result<Reply, LinkError> {
        if let Some(reply) = &self.sender_refused {
            return Ok(reply.clone());
        }
        let asked = match &mut self.link {
            Some(link) => link.rcpt(recipient).await,
            None => self.begin_with(recipient, false).await,
        };
        let reply = match asked {
            Ok(reply) => reply,
            Err(error) if self.may_replace(&error) => self.begin_with(recipient, true).await?,
            Err(error) => {
                self.link = None;
                return Err(error);
            }
        };
        if reply.is_positive() {
            self.accepted.push(recipient.clone());
        }
        Ok(reply)
    }

    /// Sends the message to the accepted recipients but those at the places in `held`; the reply is the hop's own.
    pub async fn deliver(&mut self, held: &[usize], segments: &[Bytes]) -> Result<Reply, Failed> {
        if !held.is_empty() {
            let mut place = 0;
            self.accepted.retain(|_| {
                place += 1;
                !held.contains(&(place - 1))
            });
            self.begin_again(false).await.map_err(Failed::NotSent)?;
        }
        let reply = match self.data().await {
            Err(error) if self.may_replace(&error) => {
                self.begin_again(true).await.map_err(Failed::NotSent)?;
                self.data().await
            }
            answered => answered,
        };
        let reply = reply.map_err(Failed::NotSent)?;
        if reply.code / 100 != 3 {
            self.count(&reply);
            return Ok(reply);
        }
        let Some(link) = &mut self.link else { return Err(Failed::NotSent(LinkError::Down)) };
        let last = link.write_content(segments).await.map_err(Failed::NotSent)?;
        match link.finish_content(&last).await {
            Ok(reply) => {
                self.count(&reply);
                Ok(reply)
            }
            // 421 is an answer: the hop has not taken it.
            Err(error @ LinkError::Refused(_)) => Err(Failed::NotSent(error)),
            Err(error) => Err(Failed::Unknown(error)),
        }
    }

    /// Ends the transaction, delivered or not; the connection is kept when there is no doubt about it.
    pub async fn finish(mut self) {
        if let Some(mut link) = self.link.take()
            && link.reset().await.is_ok()
        {
            self.hops.give_back(link).await;
        }
    }

    async fn data(&mut self) -> Result<Reply, LinkError> {
        match &mut self.link {
            Some(link) => link.data().await,
            None => Err(LinkError::Down),
        }
    }

    /// Whether this failure may be mended by another connection. Only before content, only once.
    fn may_replace(&mut self, error: &LinkError) -> bool {
        let lost = matches!(error, LinkError::Lost(_) | LinkError::Refused(_) | LinkError::Protocol(_));
        let may = lost && self.link.is_some() && !self.replaced;
        if may {
            self.replaced = true;
            self.hops.metrics.retried.inc();
        }
        may
    }

    /// MAIL, the recipients accepted before, and this one.
    async fn begin_with(&mut self, recipient: &Path, fresh: bool) -> Result<Reply, LinkError> {
        let mut recipients = self.accepted.clone();
        recipients.push(recipient.clone());
        let mut replies = self.begin(&recipients, fresh).await?;
        Ok(replies.pop().unwrap_or(Reply::new(451, [4, 3, 0], "No answer")))
    }

    /// The same transaction with the recipients accepted before: all of them must be taken again.
    async fn begin_again(&mut self, fresh: bool) -> Result<(), LinkError> {
        let recipients = self.accepted.clone();
        let replies = self.begin(&recipients, fresh).await?;
        match replies.into_iter().find(|reply| !reply.is_positive()) {
            Some(refusal) => Err(LinkError::Refused(refusal)),
            None => Ok(()),
        }
    }

    /// Replies to the recipients; to the last only, the sender's refusal, when the hop takes none.
    async fn begin(&mut self, recipients: &[Path], fresh: bool) -> Result<Vec<Reply>, LinkError> {
        if fresh {
            self.link = None;
        }
        let source = self.identity.addr.map(|addr| SocketAddr::new(addr, self.identity.port.unwrap_or(0)));
        let mut tried = fresh;
        let begun = loop {
            let (mut link, pooled) = match self.link.take() {
                Some(link) => (link, false),
                None => self.hops.acquire(self.route, source, tried).await?,
            };
            match link.begin(&self.identity, &self.sender, recipients).await {
                Ok(begun) => {
                    self.link = Some(link);
                    break begun;
                }
                // An idle connection may have died since; a new one is the hop's fault.
                Err(_) if pooled => tried = true,
                Err(error) => {
                    // `may_replace` must know that there was one.
                    self.link = Some(link);
                    return Err(error);
                }
            }
        };
        if !begun.mail.is_positive() {
            self.sender_refused = Some(begun.mail.clone());
            return Ok(vec![begun.mail]);
        }
        let known = self.accepted.len().min(recipients.len());
        if begun.recipients.iter().take(known).any(|reply| !reply.is_positive()) {
            // Taken before, refused now: the transaction cannot be what the client was told it is.
            self.link = None;
            return Err(LinkError::Refused(Reply::new(451, [4, 3, 0], "A recipient is no longer taken")));
        }
        Ok(begun.recipients)
    }

    fn count(&self, reply: &Reply) {
        let Some(link) = &self.link else { return };
        let result = match reply.code / 100 {
            2 => "accepted",
            4 => "deferred",
            _ => "refused",
        };
        self.hops.metrics.results.with_label_values(&[link.hop.config.name.as_str(), result]).inc();
    }
}
