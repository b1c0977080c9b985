//! Release: a held message is given to the next hop as it came, with a pass that opens our own doors to it once.
//!
//! It counts as released only after the next hop's 250; anything else leaves it held, to be tried again. When the process
//! dies between that 250 and the note of it, the lease runs out and a second release may deliver a second copy: rather twice
//! than never.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

use super::{ReleaseConfig, ReleaseError};
use crate::mail::{Envelope, MessageId};
use crate::observe::event;
use crate::records::{HeldState, Pass, PassKey, RELEASE_HEADER, Records};

/// Gives a message to the next hop and waits for its final word.
pub trait Reinject: Send + Sync + 'static {
    /// `Ok` with the next hop's reply only if it answered the content with 250 for every recipient.
    fn reinject(&self, envelope: Envelope, raw: Bytes) -> impl Future<Output = Result<String, Refused>> + Send;
}

/// The next hop did not take a message; what it said, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

/// What became of a release, recipient by recipient.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Released {
    /// Those whose copy the next hop took.
    pub released: Vec<String>,
    /// Those whose copy it did not take, and what it said: still held, to be tried again.
    pub failed: Vec<Failure>,
}

/// A recipient whose copy is still held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Address.
    pub recipient: String,
    /// What the next hop said, or why it could not be asked.
    pub why: String,
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

    /// Releases a held message for the named recipients, or for all that wait when none is named.
    ///
    /// Each recipient has a transaction of his own, so that each has the next hop's own word.
    ///
    /// # Errors
    /// When nothing waits for them, or the records fail; the message is still held then.
    pub async fn release(&self, id: MessageId, recipients: &[String]) -> Result<Released, ReleaseError> {
        let failed = |source| ReleaseError::Store { id, source };
        let held = self.records.held_message(id).await.map_err(failed)?;
        let waits = |state| matches!(state, HeldState::Held | HeldState::Releasing);
        let named = |name: &str| recipients.is_empty() || recipients.iter().any(|r| r.eq_ignore_ascii_case(name));
        let wanted = held.recipients.iter().filter(|r| waits(r.state) && named(&r.recipient));
        let wanted: Vec<String> = wanted.map(|r| r.recipient.clone()).collect();
        let raw = self.records.held_bytes(&held).await.map_err(failed)?;
        let leased = self.records.begin_release(id, &wanted, now_ms()).await.map_err(failed)?;
        if leased.is_empty() {
            return Err(ReleaseError::NothingHeld(id));
        }
        let mut outcome = Released::default();
        for recipient in leased {
            let one = std::slice::from_ref(&recipient);
            let result = self.reinject(id, held.envelope(one), &raw).await;
            let noted = match &result {
                Ok(_) => self.records.end_release(id, one, Ok(now_ms())).await,
                Err(why) => self.records.end_release(id, one, Err(why)).await,
            };
            // The next hop has its word: that it could not be noted must not look like another.
            if let Err(error) = noted {
                tracing::error!(
                    event = event::MAIL,
                    %id, %error, "the end of a release could not be noted; its lease runs out by itself"
                );
            }
            match result {
                Ok(_) => outcome.released.push(recipient),
                Err(why) => outcome.failed.push(Failure { recipient, why }),
            }
        }
        tracing::info!(
            event = event::MAIL,
            %id, released = outcome.released.len(), failed = outcome.failed.len(), "release from quarantine"
        );
        Ok(outcome)
    }

    async fn reinject(&self, id: MessageId, envelope: Envelope, raw: &[u8]) -> Result<String, String> {
        let mut chance = [0; 16];
        getrandom::fill(&mut chance).map_err(|_| "the system has no random numbers".to_owned())?;
        let nonce: String = chance.iter().map(|byte| format!("{byte:02x}")).collect();
        let lifetime = i64::try_from(self.config.pass_seconds).unwrap_or(i64::MAX / 2_000).saturating_mul(1_000);
        let pass = Pass { id, nonce, expires_ms: now_ms().saturating_add(lifetime) };
        let noted = self.records.add_pass(&pass.nonce, id, pass.expires_ms).await;
        noted.map_err(|_| "the records do not answer".to_owned())?;
        let header = format!("{RELEASE_HEADER}: {}\r\n", self.key.sign(&pass, raw).replace("; ", ";\r\n\t"));
        let mut message = BytesMut::with_capacity(header.len() + raw.len());
        message.put_slice(header.as_bytes());
        message.put_slice(raw);
        self.next_hop.reinject(envelope, message.freeze()).await.map_err(|Refused(why)| why)
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
