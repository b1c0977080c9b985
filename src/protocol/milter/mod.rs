//! The milter protocol, the filter's side (Sendmail's libmilter, versions 2 to 6; as Postfix and Sendmail speak it).
//!
//! [`Session`] is one connection of an MTA: bytes in, [`Event`]s out, replies appended to a buffer of the caller's. It
//! knows which events an answer is owed to, given what was negotiated, and answers all of them itself except one: at the end
//! of a message it gives out a [`Judging`], which is turned in, once, with the [`Decision`].
//!
//! Everything from the peer is bounded by [`Limits`]; a frame that breaks the protocol is an [`Error`] and ends that
//! session, nothing else. Not here: sockets, deadlines (`gateway::milter`), and verdicts.

mod answer;
mod assembly;
mod command;
mod error;
mod exercise;
mod frame;
mod limits;
mod macros;
mod negotiate;
mod session;

pub use answer::{Action, Decision, Refuse, Said};
pub use assembly::{Message, Overrun};
pub use error::Error;
pub use exercise::exercise;
pub use frame::{Frame, FrameReader, write_frame};
pub use limits::Limits;
pub use negotiate::{Agreement, Offer};
pub use session::{Event, Judging, Session, Stage};
