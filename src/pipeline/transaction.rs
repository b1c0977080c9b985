//! What a door hands over and what it gets back: one function from a transaction to an answer.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::mail::{Connection, Edit, Envelope, MessageId};

/// One message as a door received it.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// The gateway's id of the message, given by the door when the transaction began.
    pub id: MessageId,
    /// The client's connection.
    pub connection: Arc<Connection>,
    /// Sender and the recipients that were accepted.
    pub envelope: Envelope,
    /// The message with CRLF line ends, without dot-stuffing and without the final dot.
    pub raw: Bytes,
    /// When the last byte had come.
    pub received: SystemTime,
    /// What the door can carry out.
    pub abilities: Abilities,
}

/// What a door can carry out; the pipeline answers with nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Headers can be added, replaced and removed.
    pub edit_headers: bool,
    /// Single recipients can be left out of the delivery.
    pub drop_recipients: bool,
    /// The MTA has a hold queue ([`Answer::HoldAtMta`]).
    pub hold_at_mta: bool,
}

/// The answer for one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Pass it on.
    Deliver {
        /// Changes to the header, all of them or none.
        edits: Vec<Edit>,
        /// Recipients (places in `Envelope::recipients`) that must not get it: their copy is in quarantine, durably.
        held: Vec<usize>,
    },
    /// The message is in quarantine, durably, for all recipients: tell the sender 250 and pass nothing on.
    Hold,
    /// Let the MTA hold it in its own queue.
    HoldAtMta {
        /// One line, for the MTA's queue listing.
        reason: String,
        /// Changes to the header.
        edits: Vec<Edit>,
    },
    /// Refuse for good (5xx).
    Reject(Refusal),
    /// Ask the sender to try again later (4xx).
    Defer(Refusal),
}

/// What the sender is told. Never names a rule, a host, a file or a detector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 4xx or 5xx.
    pub code: u16,
    /// Enhanced status code (RFC 3463); its class equals the first digit of `code`.
    pub enhanced: [u16; 3],
    /// One line of printable ASCII.
    pub text: String,
}

/// Judges messages. The doors know no more of the product than this.
pub trait Inspect: Send + Sync + 'static {
    /// Judges one message within the inspection's deadline and settles it. Never panics, never hangs.
    fn inspect(&self, transaction: Transaction) -> impl Future<Output = Answer> + Send;
}
