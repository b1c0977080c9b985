//! One conversation with a client, as a machine (RFC 5321; 1870, 2920, 3030, 3207, 3461, 6152, 6531).
//!
//! Bytes and `now` go in by [`Server::receive`]; events, replies ([`Server::output`]) and the next deadline come out. An event that
//! asks ([`Event::Mail`], [`Event::Rcpt`], [`Event::Message`]) holds the conversation until [`Server::answer`].
//! Whatever ends a transaction goes through one function, `end_transaction`. Illegal input is answered and counted, too many
//! errors end the conversation with 421. Times are totals: a client that drips bytes gains nothing.
//! Not here: whom to trust, next hops, TLS itself, and any judgement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::mail::{Envelope, Path};

use super::command::{Command, CommandError};
use super::data::{BareNewline, DataFramer};
use super::extension::{Extension, Extensions};
use super::identity::Identity;
use super::line::{Line, LineReader};
use super::reply::Reply;

mod content;
mod envelope;
mod replies;
use replies as say;

/// Limits and names of all conversations of a listener.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Our name in the banner and in EHLO.
    pub host_name: String,
    /// Longest command line in bytes, CRLF included.
    pub max_command_line_bytes: usize,
    /// Longest message in bytes.
    pub max_message_bytes: u64,
    /// Longest line of a message in bytes, CRLF not counted.
    pub max_line_bytes: usize,
    /// Recipients a transaction; 452 beyond.
    pub max_recipients: usize,
    /// 5xx replies after which 421 ends the conversation.
    pub max_errors: u32,
    /// Commands that do nothing (NOOP, RSET, VRFY ...) between two messages before each counts as an error.
    pub max_idle_commands: u32,
    /// Total time for a command line to arrive.
    pub command_timeout: Duration,
    /// Total time for a message, whatever its rate.
    pub data_timeout: Duration,
    /// Rate a message must keep after the first `command_timeout`.
    pub data_min_bytes_per_second: u64,
    /// Bare CR and LF in messages.
    pub bare_newline: BareNewline,
    /// Mail only over TLS (530 otherwise).
    pub require_tls: bool,
}

/// What the peer may tell us of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trust {
    /// XCLIENT is taken.
    pub xclient: bool,
    /// XFORWARD is taken.
    pub xforward: bool,
}

/// What the driver must know or answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A new transaction: answer 2xx to begin it.
    Mail(Path),
    /// One recipient: answer 2xx to take it.
    Rcpt(Path),
    /// A whole message: the answer is the message's.
    Message {
        /// Sender and accepted recipients.
        envelope: Envelope,
        /// The content with CRLF line ends, without dot-stuffing.
        raw: Bytes,
    },
    /// The transaction has ended without a message (RSET, EHLO, refused content).
    Reset,
    /// 220 has been queued: write it out, drop all plain text read so far, shake hands, call [`Server::tls_started`].
    StartTls,
    /// The peer has told another client's identity (XCLIENT): the conversation begins anew.
    Reconnected,
    /// Write out what is queued and close.
    Close,
}

/// A breach of the protocol, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A bare CR in a line or a message.
    BareCr,
    /// A bare LF in a line or a message.
    BareLf,
    /// A NUL.
    Nul,
    /// Bytes before the banner or between DATA and 354.
    EarlyTalk,
    /// A command or content line too long.
    LineTooLong,
    /// Plain text after STARTTLS.
    TlsInjection,
    /// More errors than allowed.
    TooManyErrors,
}

impl Violation {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::BareCr,
        Self::BareLf,
        Self::Nul,
        Self::EarlyTalk,
        Self::LineTooLong,
        Self::TlsInjection,
        Self::TooManyErrors,
    ];

    /// The word used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BareCr => "bare_cr",
            Self::BareLf => "bare_lf",
            Self::Nul => "nul",
            Self::EarlyTalk => "early_talk",
            Self::LineTooLong => "line_too_long",
            Self::TlsInjection => "tls_injection",
            Self::TooManyErrors => "too_many_errors",
        }
    }
}

#[derive(Debug)]
enum Phase {
    /// The banner has not been sent.
    Start,
    /// Waiting for a command line.
    Command,
    /// Waiting for the driver's answer.
    Asked(Question),
    /// Between 354 and `CRLF . CRLF`.
    Data(Box<DataFramer>),
    /// Within the octets of BDAT; with a refusal they are read and thrown away.
    Chunk { left: u64, last: bool, refusal: Option<Reply> },
    /// Between the 220 of STARTTLS and the end of the handshake.
    TlsHandshake,
    /// Nothing more is read.
    Closed,
}

#[derive(Debug)]
enum Question {
    Mail(Path),
    Rcpt(Path),
    Message,
}

/// A transaction from MAIL on.
#[derive(Debug)]
struct Transaction {
    envelope: Envelope,
    smtputf8: bool,
    /// Content taken by BDAT so far.
    chunks: Option<Box<DataFramer>>,
    /// A BDAT has failed: 503 until RSET (RFC 3030, 2).
    chunk_failed: bool,
}

#[derive(Debug)]
struct Helo {
    name: String,
    extended: bool,
}

/// The machine.
#[derive(Debug)]
pub struct Server {
    settings: Arc<ServerSettings>,
    extensions: Extensions,
    trust: Trust,
    peer: Identity,
    forwarded: Option<Identity>,
    tls: bool,
    phase: Phase,
    lines: LineReader,
    helo: Option<Helo>,
    transaction: Option<Transaction>,
    refusal: Option<Reply>,
    errors: u32,
    idle_commands: u32,
    since: Instant,
    out: Vec<u8>,
    violations: Vec<Violation>,
}

impl Server {
    /// A conversation with `peer`, offering `extensions` (STARTTLS and CHUNKING among them when they are to be offered).
    pub fn new(
        settings: Arc<ServerSettings>,
        extensions: Extensions,
        trust: Trust,
        peer: Identity,
        now: Instant,
    ) -> Self {
        Self {
            lines: LineReader::new(settings.max_command_line_bytes),
            settings,
            extensions,
            trust,
            peer,
            forwarded: None,
            tls: false,
            phase: Phase::Start,
            helo: None,
            transaction: None,
            refusal: None,
            errors: 0,
            idle_commands: 0,
            since: now,
            out: Vec::with_capacity(512),
            violations: Vec::new(),
        }
    }

    /// Sends the banner, or refuses one who spoke before it (`input` not empty).
    pub fn greet(&mut self, input: &BytesMut, now: Instant) {
        self.since = now;
        self.phase = Phase::Command;
        if !input.is_empty() {
            self.violations.push(Violation::EarlyTalk);
            return self.close(say::EARLY);
        }
        self.banner();
    }

    /// Takes bytes off the front of `input` up to the next event; `None` when more bytes (or an answer) are needed.
    pub fn receive(&mut self, input: &mut BytesMut, now: Instant) -> Option<Event> {
        loop {
            match &mut self.phase {
                Phase::Start | Phase::Asked(_) | Phase::TlsHandshake => return None,
                Phase::Closed => return Some(Event::Close),
                Phase::Command => {
                    let line = self.lines.next(input)?;
                    self.since = now;
                    if let Some(event) = self.line(line, input) {
                        return Some(event);
                    }
                }
                Phase::Data(framer) => {
                    if !framer.receive(input) {
                        return None;
                    }
                    self.since = now;
                    if let Phase::Data(framer) = std::mem::replace(&mut self.phase, Phase::Command) {
                        return Some(self.message(*framer));
                    }
                }
                Phase::Chunk { .. } => {
                    if let Some(event) = self.chunk(input, now)? {
                        return Some(event);
                    }
                }
            }
        }
    }

    /// Answers the event that asked.
    pub fn answer(&mut self, reply: &Reply, now: Instant) {
        self.since = now;
        let Phase::Asked(question) = std::mem::replace(&mut self.phase, Phase::Command) else {
            // Nobody asked: the driver and the machine disagree. End it rather than confuse the client.
            return self.close(say::INTERNAL);
        };
        let taken = reply.is_positive();
        match question {
            Question::Mail(sender) if taken => {
                let smtputf8 = envelope::has_param(&sender, "SMTPUTF8");
                let envelope = Envelope { sender, recipients: Vec::new() };
                self.transaction = Some(Transaction { envelope, smtputf8, chunks: None, chunk_failed: false });
            }
            Question::Rcpt(recipient) => {
                if let (true, Some(transaction)) = (taken, &mut self.transaction) {
                    transaction.envelope.recipients.push(recipient);
                }
            }
            Question::Message => {
                self.end_transaction();
                self.idle_commands = 0;
            }
            Question::Mail(_) => {
                self.end_transaction();
            }
        }
        self.say(reply);
        if reply.code == 421 {
            self.phase = Phase::Closed;
        }
    }

    /// The message that is being received will be refused so; its content is not kept any more.
    pub fn refuse_message(&mut self, reply: Reply) {
        match (&mut self.phase, self.transaction.as_mut().and_then(|open| open.chunks.as_mut())) {
            (Phase::Data(framer), _) => framer.drop_content(),
            (_, Some(chunks)) => chunks.drop_content(),
            _ => return,
        }
        self.refusal = Some(reply);
    }

    /// Octets of content held at the moment.
    pub fn held_bytes(&self) -> usize {
        match &self.phase {
            Phase::Data(framer) => framer.kept_bytes(),
            _ => self.transaction.as_ref().and_then(|open| open.chunks.as_ref()).map_or(0, |c| c.kept_bytes()),
        }
    }

    /// TLS is up: everything known so far is forgotten (RFC 3207, 4.2).
    pub fn tls_started(&mut self, now: Instant) {
        self.tls = true;
        self.extensions = self.extensions.without(Extension::StartTls);
        self.helo = None;
        self.end_transaction();
        self.lines.clear();
        self.since = now;
        self.phase = Phase::Command;
    }

    /// When the conversation must have gone on; `None` while the driver is asked.
    pub fn deadline(&self) -> Option<Instant> {
        let settings = &self.settings;
        match &self.phase {
            Phase::Asked(_) | Phase::Closed => None,
            Phase::Start | Phase::Command | Phase::TlsHandshake => Some(self.since + settings.command_timeout),
            Phase::Data(framer) => Some(self.content_deadline(framer.received_bytes())),
            Phase::Chunk { .. } => {
                let received =
                    self.transaction.as_ref().and_then(|t| t.chunks.as_ref()).map_or(0, |c| c.received_bytes());
                Some(self.content_deadline(received))
            }
        }
    }

    /// The deadline has passed.
    pub fn timed_out(&mut self) {
        self.close(say::TIMEOUT);
    }

    /// The service stops.
    pub fn shut_down(&mut self) {
        self.close(say::SHUTTING_DOWN);
    }

    /// Ends the conversation with this reply.
    pub fn close(&mut self, reply: Reply) {
        self.end_transaction();
        reply.write(&mut self.out);
        self.phase = Phase::Closed;
    }

    /// Replies to be written out; the driver empties it.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Breaches seen since the last call.
    pub fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }

    /// Whether a transaction is open or a message is being received or answered.
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some() || !matches!(self.phase, Phase::Command)
    }

    /// The client: what XFORWARD said of it, else XCLIENT or the connection.
    pub fn identity(&self) -> &Identity {
        self.forwarded.as_ref().unwrap_or(&self.peer)
    }

    /// The name after HELO or EHLO: the client's as forwarded, else the peer's own.
    pub fn helo(&self) -> Option<&str> {
        self.identity().helo.as_deref().or_else(|| self.helo.as_ref().map(|helo| helo.name.as_str()))
    }

    /// Whether the client greeted with EHLO.
    pub fn is_extended(&self) -> bool {
        self.helo.as_ref().is_some_and(|helo| helo.extended)
    }

    fn banner(&mut self) {
        Reply::composed(220, None, format!("{} ESMTP", self.settings.host_name)).write(&mut self.out);
    }

    /// The one place where a transaction ends, however it ended. `true` when there was one.
    fn end_transaction(&mut self) -> bool {
        self.refusal = None;
        self.forwarded = None;
        self.transaction.take().is_some()
    }

    fn say(&mut self, reply: &Reply) {
        reply.write(&mut self.out);
        if reply.is_permanent() {
            self.errors += 1;
            if self.errors >= self.settings.max_errors {
                self.violations.push(Violation::TooManyErrors);
                self.close(say::TOO_MANY_ERRORS);
            }
        }
    }

    fn refuse(&mut self, reply: &Reply) -> Option<Event> {
        self.say(reply);
        None
    }

    fn line(&mut self, line: Line, input: &mut BytesMut) -> Option<Event> {
        let text = match line {
            Line::Whole(text) => text,
            Line::TooLong => {
                self.violations.push(Violation::LineTooLong);
                return self.refuse(&say::LINE_TOO_LONG);
            }
            // Where this line ends cannot be known, so what follows it cannot be trusted to be a command.
            Line::BareLf => {
                self.violations.push(Violation::BareLf);
                self.close(say::BARE_LF);
                return None;
            }
            Line::BareCr => {
                self.violations.push(Violation::BareCr);
                return self.refuse(&say::BAD_CHARACTERS);
            }
            Line::Nul => {
                self.violations.push(Violation::Nul);
                return self.refuse(&say::BAD_CHARACTERS);
            }
        };
        match Command::parse(&text) {
            Ok(command) => self.command(command, input),
            Err(CommandError::Unknown) => self.refuse(&say::UNKNOWN),
            Err(CommandError::NotImplemented) => self.refuse(&say::NOT_IMPLEMENTED),
            Err(CommandError::Syntax(text)) => self.refuse(&Reply::new(501, [5, 5, 4], text)),
            Err(CommandError::BadPath) => self.refuse(&say::BAD_PATH),
        }
    }

    fn command(&mut self, command: Command, input: &mut BytesMut) -> Option<Event> {
        match command {
            Command::Ehlo(name) => self.greeted(name, true),
            Command::Helo(name) => self.greeted(name, false),
            Command::Mail(path) => self.mail(path),
            Command::Rcpt(path) => self.rcpt(path),
            Command::Data => self.data(input),
            Command::Bdat { size, last } => self.bdat(size, last),
            Command::StartTls => self.start_tls(input),
            Command::Xclient(attributes) => self.xclient(&attributes),
            Command::Xforward(attributes) => self.xforward(&attributes),
            Command::Rset => {
                let ended = self.end_transaction();
                self.idle(&say::OK);
                ended.then_some(Event::Reset)
            }
            Command::Noop => self.idle(&say::OK),
            Command::Vrfy => self.idle(&say::VRFY),
            Command::Help => self.idle(&say::HELP),
            Command::Quit => {
                self.close(say::BYE);
                None
            }
        }
    }

    /// A command that does nothing: free for a while, an error each beyond.
    fn idle(&mut self, reply: &Reply) -> Option<Event> {
        self.idle_commands += 1;
        if self.idle_commands > self.settings.max_idle_commands {
            return self.refuse(&say::TOO_MANY_COMMANDS);
        }
        self.refuse(reply)
    }
}
