//! Why a release did not happen. Nothing is lost by any of these: the message is still held, or still at work.

use crate::mail::MessageId;
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
