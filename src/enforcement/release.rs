//! Release: a held message is given to the next hop as it came, with a pass that opens our own doors to it once.
//!
//! It counts as released only after the next hop's 250; anything else leaves it held, to be tried again. Each recipient's copy
//! is leased when its turn comes, and the lease renewed while the next hop has it: who dies leaves one recipient waiting for
//! the end of one short lease. When he dies between that 250 and the note of it, the next one delivers a second copy: rather
//! twice than never. What somebody else is releasing is told as such: only he knows what becomes of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{ReleaseConfig, ReleaseError};
use crate::mail::{Envelope, MessageId};
use crate::observe::event;
use crate::records::{HeldMessage, Pass, PassKey, RELEASE_HEADER, RELEASE_RENEW, Records, ReleaseLease};

/// Gives a message to the next hop and waits for its final word.
pub trait Reinject: Send + Sync + 'static {
    /// `Ok` with the next hop's reply only if it answered the content with 250 for every recipient.
    fn reinject(&self, envelope: Envelope, raw: Bytes) -> impl Future<Output = Result<String, Refused>> + Send;
}

/// The next hop did not take a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What it said, or why it could not be asked, in one line.
    pub why: String,
    /// It said that it never will (5yz).
    pub for_good: bool,
}

/// What became of a release, recipient by recipient.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Released {
    /// Those whose copy the next hop took.
    pub released: Vec<String>,
    /// Those whose copy it did not take, and what it said: still held, to be tried again.
    pub failed: Vec<Failure>,
    /// Those whose copy somebody else is giving to the next hop.
    #[serde(skip)]
    pub elsewhere: Vec<String>,
    /// When the first of those may be taken over, should he not be heard of, milliseconds since 1970.
    #[serde(skip)]
    pub elsewhere_until_ms: i64,
    /// Those whose turn did not come.
    #[serde(skip)]
    pub left: Vec<String>,
}

/// A recipient whose copy is still held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Address.
    pub recipient: String,
    /// What the next hop said, or why it could not be asked.
    pub why: String,
    /// The next hop will never take it.
    #[serde(skip)]
    pub for_good: bool,
}

/// Releases held messages.
pub struct Release<R> {
    records: Arc<Records>,
    key: PassKey,
    next_hop: R,
    config: ReleaseConfig,
}

impl<R: Reinject> Release<R> {
    /// A release into this next hop.
    pub fn new(records: Arc<Records>, key: PassKey, next_hop: R, config: ReleaseConfig) -> Self {
        Self { records, key, next_hop, config }
    }

    /// Time that giving one copy may take.
    pub(super) fn copy_time(&self) -> Duration {
        Duration::from_secs(self.config.copy_seconds)
    }

    /// Releases a held message for the named recipients, or for all that wait when none is named.
    ///
    /// Each recipient has a transaction of his own, so that each has the next hop's own word.
    ///
    /// # Errors
    /// When nothing waits for them, or the records fail; the message is still held then, but for those already released.
    pub async fn release(&self, id: MessageId, recipients: &[String]) -> Result<Released, ReleaseError> {
        self.release_until(id, recipients, &CancellationToken::new()).await
    }

    /// The same; from `soon` on no other recipient's turn comes.
    pub(super) async fn release_until(
        &self,
        id: MessageId,
        recipients: &[String],
        soon: &CancellationToken,
    ) -> Result<Released, ReleaseError> {
        let failed = |source| ReleaseError::Store { id, source };
        let held = self.records.held_message(id).await.map_err(failed)?;
        let named = |name: &str| recipients.is_empty() || recipients.iter().any(|r| r.eq_ignore_ascii_case(name));
        let mut wanted: Vec<_> = held.recipients.iter().filter(|r| r.is_held() && named(&r.recipient)).collect();
        if wanted.is_empty() {
            return Err(ReleaseError::NothingHeld(id));
        }
        // Those that failed before do not keep the others from their turn.
        wanted.sort_by_key(|r| r.attempts);
        let raw = self.records.held_bytes(&held).await.map_err(failed)?;
        let mut outcome = Released::default();
        let mut taken = Vec::new();
        for recipient in wanted.into_iter().map(|r| r.recipient.clone()) {
            if soon.is_cancelled() {
                outcome.left.push(recipient);
                continue;
            }
            let one = std::slice::from_ref(&recipient);
            match self.records.begin_release(id, one, now_ms()).await.map_err(failed)?.pop() {
                Some(lease) => self.release_one(&held, lease, &raw, &mut outcome).await,
                None => taken.push(recipient),
            }
        }
        if !taken.is_empty() {
            let now = self.records.held_message(id).await.map_err(failed)?;
            let busy = now.recipients.iter().filter(|r| r.is_held() && taken.contains(&r.recipient));
            outcome.elsewhere_until_ms = busy.clone().map(|r| r.lease_ms).min().unwrap_or_default();
            outcome.elsewhere = busy.map(|r| r.recipient.clone()).collect();
        }
        tracing::info!(
            event = event::MAIL,
            %id, released = outcome.released.len(), failed = outcome.failed.len(), "release from quarantine"
        );
        Ok(outcome)
    }

    /// Gives one recipient's copy to the next hop, and notes its word.
    async fn release_one(&self, held: &HeldMessage, lease: ReleaseLease, raw: &[u8], outcome: &mut Released) {
        let id = held.id;
        let one = std::slice::from_ref(&lease);
        let copy =
            timeout(self.copy_time(), self.reinject(id, held.envelope(std::slice::from_ref(&lease.recipient)), raw));
        let result = tokio::select! {
            biased;
            ended = copy => ended.unwrap_or_else(|_| Err(Refused { why: "not done in time".into(), for_good: false })),
            never = self.renew(id, &lease) => match never {},
        };
        let noted = match &result {
            Ok(_) => self.records.end_release(id, one, Ok(now_ms())).await,
            Err(refused) => self.records.end_release(id, one, Err(&refused.why)).await,
        };
        // The next hop has its word: that it could not be noted must not look like another.
        if let Err(error) = noted {
            tracing::error!(
                event = event::MAIL,
                %id, %error, "the end of a release could not be noted; its lease runs out by itself"
            );
        }
        let ReleaseLease { recipient, .. } = lease;
        match result {
            Ok(_) => outcome.released.push(recipient),
            Err(Refused { why, for_good }) => outcome.failed.push(Failure { recipient, why, for_good }),
        }
    }

    /// Gives signs of life.
    async fn renew(&self, id: MessageId, lease: &ReleaseLease) -> std::convert::Infallible {
        loop {
            sleep(RELEASE_RENEW).await;
            match self.records.renew_release(id, lease, now_ms()).await {
                Ok(true) => {}
                // What the next hop has cannot be called back.
                Ok(false) => {
                    tracing::warn!(event = event::MAIL, %id, "somebody else took up a release that still runs")
                }
                Err(error) => tracing::warn!(event = event::MAIL, %id, %error, "the lease of a release is not renewed"),
            }
        }
    }

    async fn reinject(&self, id: MessageId, envelope: Envelope, raw: &[u8]) -> Result<String, Refused> {
        let later = |why: &str| Refused { why: why.to_owned(), for_good: false };
        let mut chance = [0; 16];
        getrandom::fill(&mut chance).map_err(|_| later("the system has no random numbers"))?;
        let nonce: String = chance.iter().map(|byte| format!("{byte:02x}")).collect();
        let lifetime = i64::try_from(self.config.pass_seconds).unwrap_or(i64::MAX / 2_000).saturating_mul(1_000);
        let pass = Pass { id, nonce, expires_ms: now_ms().saturating_add(lifetime) };
        let noted = self.records.add_pass(&pass.nonce, id, pass.expires_ms).await;
        noted.map_err(|_| later("the records do not answer"))?;
        let header = format!("{RELEASE_HEADER}: {}\r\n", self.key.sign(&pass, raw).replace("; ", ";\r\n\t"));
        let mut message = BytesMut::with_capacity(header.len() + raw.len());
        message.put_slice(header.as_bytes());
        message.put_slice(raw);
        self.next_hop.reinject(envelope, message.freeze()).await
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
