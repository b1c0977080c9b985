//! The record of one message: everything that led to its verdict, as it was known then.
//!
//! `mailweir explain`, the API and the console show the same record. It holds facts frozen, so that rules and weights can be
//! re-run over history without network and without hindsight. It holds no body.

use serde::{Deserialize, Serialize};

use crate::analysis::{Contact, Facts, Likeness};
use crate::mail::{Connection, Envelope, MessageId};
use crate::policy::{Action, RuleFindings, Score, Verdict};

/// Everything that led to a verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The gateway's id.
    pub id: MessageId,
    /// When the last byte had come, milliseconds since 1970.
    pub received_ms: i64,
    /// The client.
    pub connection: Connection,
    /// Sender and recipients.
    pub envelope: Envelope,
    /// Bytes of the message.
    pub size: u64,
    /// Addresses in From.
    pub from: Vec<String>,
    /// Subject, decoded, cut at 500 characters.
    pub subject: String,
    /// `Message-ID`.
    pub header_id: String,
    /// What was done with the message as a whole.
    pub action: Action,
    /// What was decided for each recipient, in the envelope's order.
    pub verdicts: Vec<RecipientVerdict>,
    /// The score and its terms.
    pub score: Score,
    /// What was known.
    pub facts: Facts,
    /// What was odd about the message's form.
    pub findings: Vec<String>,
    /// What could not be asked or finished: `dmarc=timeout`. Empty: the verdict is not degraded.
    pub degraded: Vec<String>,
    /// Version of weights and settings, to find out what changed.
    pub policy_version: String,
    /// What the rules found.
    #[serde(default)]
    pub rules: RuleFindings,
    /// Who wrote to whom, for the history.
    #[serde(default)]
    pub contact: Contact,
    /// What it is compared by; none for outgoing mail and when it says too little.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub likeness: Option<Likeness>,
    /// Whether it was judged knowing that it is one of a campaign.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_campaign: bool,
    /// Where the time went.
    pub timing: Timing,
    /// What the sender was told, when it was not a plain 250.
    pub reply: Option<String>,
}

/// What was decided for one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientVerdict {
    /// Address.
    pub recipient: String,
    /// Whose mail it is.
    pub tenant: String,
    /// What was decided.
    pub verdict: Verdict,
}

/// Microseconds of each stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timing {
    /// Headers, parts, text, links.
    pub parse_us: u64,
    /// Facts from outside; mostly waiting.
    pub enrich_us: u64,
    /// Detectors, score, verdict.
    pub judge_us: u64,
    /// Making it durable; 0 when nothing had to be.
    pub settle_us: u64,
}
