//! Why a release did not happen. Nothing is lost by any of these: the message is still held, or still at work.

use crate::mail::MessageId;
use crate::observe::{Category, Fault};
use crate::records::StoreError;

/// Why a release did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The records could not be read or written.
    #[error("release of {id}: the records failed")]
    Store {
        /// Which message.
        id: MessageId,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// Nothing waits for the named recipients.
    #[error("nothing of message {0} waits for these recipients: it was released, deleted, or is being released now")]
    NothingHeld(MessageId),
}

impl Fault for ReleaseError {
    fn category(&self) -> Category {
        match self {
            Self::Store { source, .. } => source.category(),
            Self::NothingHeld(_) => Category::Validation,
        }
    }

    fn is_retryable(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.is_retryable())
    }
}
