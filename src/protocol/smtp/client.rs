//! One conversation with a next hop, as a machine: SMTP (RFC 5321) or LMTP (RFC 2033).
//!
//! The driver queues steps ([`Client::send`]), writes [`Client::output`] out, feeds what it reads to [`Client::receive`] and gets
//! each reply together with the step it belongs to. A late reply taken for the answer to the next command is the worst fault
//! of a proxy: a byte that was not asked for, a reply that is none, or 421 makes the connection unusable for good.
//! Content goes past the machine (`DotStuffer`), between the 354 and [`Client::content_sent`]. Not here: routing, pooling, time.

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::mail::Path;

use super::extension::{Extension, Extensions};
use super::reply::{Reply, ReplyError, ReplyReader};

/// Which language the next hop speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// SMTP.
    #[default]
    Smtp,
    /// LMTP: greeting `LHLO`, after the dot one reply for each recipient.
    Lmtp,
}

/// One command of ours, or the end of content, that a reply is due to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The connection itself: the banner.
    Banner,
    /// EHLO or LHLO.
    Greeting,
    /// HELO, after EHLO was refused.
    OldGreeting,
    /// STARTTLS.
    StartTls,
    /// XFORWARD.
    Xforward,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The final dot.
    Content,
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
}

/// Why the conversation cannot go on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ClientError {
    /// Bytes that answer nothing we asked.
    #[error("the next hop sent what nobody asked for")]
    Unsolicited,
    /// Bytes that are no reply.
    #[error("the next hop sent no reply")]
    Reply(#[from] ReplyError),
    /// A reply of a kind that this step does not know.
    #[error("the next hop answered {code} to {step:?}")]
    Unexpected {
        /// The step.
        step: Step,
        /// The code.
        code: u16,
    },
    /// Our own driver asked for a step that is not due.
    #[error("{0:?} is not due now")]
    OutOfOrder(Step),
    /// The connection was found unusable before.
    #[error("the connection is unusable")]
    Unusable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Up to the answer of EHLO.
    Greeting,
    /// Between transactions.
    Ready,
    /// From MAIL on.
    Transaction,
    /// Between 354 and the final reply.
    Content,
    /// Nothing more may be sent or believed.
    Unusable,
}

/// The machine.
#[derive(Debug)]
pub struct Client {
    dialect: Dialect,
    phase: Phase,
    extensions: Extensions,
    expected: VecDeque<Step>,
    replies: ReplyReader,
    /// Recipients the next hop has taken in this transaction.
    accepted: usize,
    out: Vec<u8>,
}

impl Client {
    /// A new connection: the banner is due.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            phase: Phase::Greeting,
            extensions: Extensions::default(),
            expected: VecDeque::from([Step::Banner]),
            replies: ReplyReader::default(),
            accepted: 0,
            out: Vec::with_capacity(256),
        }
    }

    /// What the next hop offers, from its last greeting.
    pub fn extensions(&self) -> Extensions {
        self.extensions
    }

    /// Bytes to be written; the driver empties it.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Nothing is due, no transaction is open, nothing has gone wrong.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready && self.expected.is_empty()
    }

    /// Whether a transaction is open.
    pub fn in_transaction(&self) -> bool {
        self.phase == Phase::Transaction
    }

    /// Replies that are still to come.
    pub fn due(&self) -> usize {
        self.expected.len()
    }

    /// Nothing more may be sent or believed.
    pub fn is_unusable(&self) -> bool {
        self.phase == Phase::Unusable
    }

    /// The driver has lost the connection, or patience.
    pub fn give_up(&mut self) {
        self.phase = Phase::Unusable;
    }

    /// EHLO or LHLO, by the dialect.
    pub fn greet(&mut self, name: &str) -> Result<(), ClientError> {
        let verb = if self.dialect == Dialect::Lmtp { "LHLO" } else { "EHLO" };
        self.push(Step::Greeting, Phase::Greeting, &[verb, " ", name])
    }

    /// HELO, when EHLO was refused.
    pub fn greet_old(&mut self, name: &str) -> Result<(), ClientError> {
        self.push(Step::OldGreeting, Phase::Greeting, &["HELO ", name])
    }

    /// STARTTLS; pipelines nothing.
    pub fn start_tls(&mut self) -> Result<(), ClientError> {
        if !self.expected.is_empty() {
            return Err(ClientError::OutOfOrder(Step::StartTls));
        }
        self.push(Step::StartTls, Phase::Ready, &["STARTTLS"])
    }

    /// TLS is up: the next hop must be greeted again. Plain text that came after its 220 would be an injection.
    pub fn tls_started(&mut self, leftover: &BytesMut) -> Result<(), ClientError> {
        if !leftover.is_empty() || !self.is_ready() {
            self.phase = Phase::Unusable;
            return Err(ClientError::Unsolicited);
        }
        self.phase = Phase::Greeting;
        self.extensions = Extensions::default();
        Ok(())
    }

    /// `XFORWARD` with attributes that are already xtext.
    pub fn xforward(&mut self, attributes: &str) -> Result<(), ClientError> {
        self.push(Step::Xforward, Phase::Ready, &["XFORWARD ", attributes])
    }

    /// `MAIL FROM`, with the parameters as they are.
    pub fn mail(&mut self, sender: &Path) -> Result<(), ClientError> {
        self.push(Step::Mail, Phase::Ready, &["MAIL FROM:<", &sender.text, ">", &joined(&sender.params)])?;
        self.phase = Phase::Transaction;
        self.accepted = 0;
        Ok(())
    }

    /// `RCPT TO`, with the parameters as they are.
    pub fn rcpt(&mut self, recipient: &Path) -> Result<(), ClientError> {
        self.push(Step::Rcpt, Phase::Transaction, &["RCPT TO:<", &recipient.text, ">", &joined(&recipient.params)])
    }

    /// `DATA`; only when all replies have come and a recipient was taken.
    pub fn data(&mut self) -> Result<(), ClientError> {
        if !self.expected.is_empty() || self.accepted == 0 {
            return Err(ClientError::OutOfOrder(Step::Data));
        }
        self.push(Step::Data, Phase::Transaction, &["DATA"])
    }

    /// The final dot has been written: the answer (LMTP: one for each recipient) is due.
    pub fn content_sent(&mut self) -> Result<(), ClientError> {
        if self.phase != Phase::Content || !self.expected.is_empty() {
            return Err(ClientError::OutOfOrder(Step::Content));
        }
        let replies = if self.dialect == Dialect::Lmtp { self.accepted } else { 1 };
        self.expected.extend(std::iter::repeat_n(Step::Content, replies));
        Ok(())
    }

    /// `RSET`.
    pub fn reset(&mut self) -> Result<(), ClientError> {
        let phase = if self.phase == Phase::Transaction { Phase::Transaction } else { Phase::Ready };
        self.push(Step::Reset, phase, &["RSET"])?;
        self.phase = Phase::Ready;
        Ok(())
    }

    /// `QUIT`.
    pub fn quit(&mut self) -> Result<(), ClientError> {
        self.push(Step::Quit, Phase::Ready, &["QUIT"])
    }

    /// The next reply and the step it answers, taken off the front of `input`; `None` when more bytes are needed.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<Option<(Step, Reply)>, ClientError> {
        if self.phase == Phase::Unusable {
            return Err(ClientError::Unusable);
        }
        let Some(&step) = self.expected.front() else {
            return if input.is_empty() { Ok(None) } else { Err(self.fail(ClientError::Unsolicited)) };
        };
        let reply = match self.replies.next(input) {
            Ok(Some(reply)) => reply,
            Ok(None) => return Ok(None),
            Err(error) => return Err(self.fail(error.into())),
        };
        self.expected.pop_front();
        self.take(step, &reply)?;
        if self.expected.is_empty() && !input.is_empty() {
            // The answer itself is good; the connection is not.
            self.phase = Phase::Unusable;
        }
        Ok(Some((step, reply)))
    }

    fn take(&mut self, step: Step, reply: &Reply) -> Result<(), ClientError> {
        let class = reply.code / 100;
        let known = match step {
            Step::Data => matches!(class, 3..=5),
            Step::Banner => reply.code == 220 || class > 3,
            _ => matches!(class, 2 | 4 | 5),
        };
        if !known {
            return Err(self.fail(ClientError::Unexpected { step, code: reply.code }));
        }
        let positive = class == 2;
        match step {
            Step::Greeting if positive => {
                self.extensions = Extensions::parse(reply);
                self.phase = Phase::Ready;
            }
            Step::OldGreeting if positive => {
                self.extensions = Extensions::default();
                self.phase = Phase::Ready;
            }
            Step::Rcpt if positive => self.accepted += 1,
            Step::Data if class == 3 => self.phase = Phase::Content,
            Step::Content if self.expected.is_empty() => self.phase = Phase::Ready,
            Step::Banner | Step::Reset if !positive => self.phase = Phase::Unusable,
            // Pipelined RCPTs are refused along with MAIL; RSET clears both sides.
            Step::Quit => self.phase = Phase::Unusable,
            _ => {}
        }
        if reply.code == 421 {
            self.phase = Phase::Unusable;
        }
        Ok(())
    }

    fn push(&mut self, step: Step, phase: Phase, words: &[&str]) -> Result<(), ClientError> {
        if self.phase == Phase::Unusable {
            return Err(ClientError::Unusable);
        }
        // Whatever was parsed or configured: a line break must not become a second command.
        let odd = |word: &&str| word.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0));
        if self.phase != phase || words.iter().any(odd) {
            return Err(ClientError::OutOfOrder(step));
        }
        for word in words {
            self.out.extend_from_slice(word.as_bytes());
        }
        self.out.extend_from_slice(b"\r\n");
        self.expected.push_back(step);
        Ok(())
    }

    fn fail(&mut self, error: ClientError) -> ClientError {
        self.phase = Phase::Unusable;
        error
    }

    /// Whether commands may be sent in groups.
    pub fn pipelines(&self) -> bool {
        self.extensions.has(Extension::Pipelining)
    }
}

fn joined(params: &[String]) -> String {
    params.iter().fold(String::new(), |text, param| text + " " + param)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
