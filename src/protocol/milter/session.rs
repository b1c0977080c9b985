//! One milter connection as a state machine: bytes in, events out, replies appended where they are owed.
//!
//! After every event but macros, ABORT, QUIT and those agreed to go unanswered, exactly one reply is owed; one too many or
//! too few would shift every later one. So replies are given here and nowhere else: all but the verdict on the spot, the verdict
//! for a [`Judging`], which exists once a message and is used up by [`Session::answer`]. Until then no further frame is read.
//!
//! Order: `O  C H* (M R* T? L* N? B* E | A)* Q`, `K` back to before `C`. Tolerated, because real MTAs do it: ABORT at any time, also
//! after a finished message and twice; a second MAIL or a HELO where a message was begun (it is forgotten); commands nobody
//! knows (passed over unanswered, as libmilter does). Everything else out of order is an [`Error`], after which the session is closed.

use std::net::IpAddr;

use super::answer::{Decision, Said, Verdict, write_refusal};
use super::assembly::{Assembly, Message, Overrun, cut};
use super::command::{smfic, smfir};
use super::frame::{Frame, FrameReader, write_frame};
use super::macros::Macros;
use super::negotiate::{Agreement, Offer, protocol};
use super::{Error, Limits};
use crate::mail::{Connection, Door, TlsSession};

/// What came in.
#[derive(Debug)]
pub enum Event {
    /// Options were agreed on.
    Negotiated(Offer, Agreement),
    /// A message is whole; the peer waits for [`Session::answer`].
    Message(Box<Message>, Judging),
    /// A message passed a limit and was refused already.
    Refused(Overrun),
    /// The peer says goodbye; the connection is to be closed.
    Quit,
}

/// The one verdict owed, for the message that was given out with it. Not turning it in leaves the peer waiting.
#[derive(Debug)]
#[must_use = "the MTA waits for the verdict"]
pub struct Judging {
    recipients: Vec<u8>,
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing was negotiated.
    Opened,
    /// Options are agreed on; CONNECT is next.
    Ready,
    /// A client is connected to the MTA; between messages.
    Connected,
    /// After MAIL. May last as long as the SMTP client takes.
    Envelope,
    /// In the header or body of a message.
    Content,
    /// The verdict is owed.
    Judging,
    /// Over, by QUIT or by an error.
    Closed,
}

/// One connection of an MTA.
#[derive(Debug)]
pub struct Session {
    reader: FrameReader,
    frames: u64,
    conversation: Conversation,
}

impl Session {
    /// A session before its first byte.
    pub fn new(limits: Limits) -> Self {
        let reader = FrameReader::new(limits.frame_bytes);
        Self { reader, frames: 0, conversation: Conversation::new(limits) }
    }

    /// Takes bytes off the front of `input` until an event comes or they are used up; appends to `out` what is to be sent.
    ///
    /// `None`: more bytes are needed, or the verdict is (then `input` is left as it is). After an error the session is closed.
    pub fn advance(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<Option<Event>, Error> {
        while !matches!(self.conversation.stage, Stage::Judging | Stage::Closed) {
            let taken = match self.reader.next(input) {
                Ok(Some(frame)) => {
                    self.frames += 1;
                    self.conversation.take(frame, out)
                }
                Ok(None) => break,
                Err(error) => Err(error),
            };
            match taken {
                Ok(None) => {}
                Ok(event) => return Ok(event),
                Err(error) => {
                    self.conversation.close();
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Gives the verdict; what the MTA cannot carry out is cut down (see [`Decision`]), and what was said comes back.
    pub fn answer(&mut self, judging: Judging, decision: &Decision<'_>, out: &mut Vec<u8>) -> Said {
        let verdict = Verdict { agreement: self.conversation.agreement, recipients: &judging.recipients };
        let said = verdict.write(decision, out);
        self.conversation.stage = Stage::Connected;
        self.reader.shrink();
        said
    }

    /// Appends PROGRESS: the verdict takes longer, the MTA is to wait on.
    pub fn progress(&self, _: &Judging, out: &mut Vec<u8>) {
        write_frame(out, smfir::PROGRESS, &[]);
    }

    /// Where the session stands.
    pub fn stage(&self) -> Stage {
        self.conversation.stage
    }

    /// What was agreed on; nothing at all before the negotiation.
    pub fn agreement(&self) -> Agreement {
        self.conversation.agreement
    }

    /// How many frames have come; what a dripping peer does not make grow.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// How many messages were begun.
    pub fn messages(&self) -> u64 {
        self.conversation.messages
    }

    /// Whether part of a frame has come and its end has not.
    pub fn is_amid_frame(&self) -> bool {
        self.reader.is_amid()
    }

    /// Whether nothing is under way: no message begun, no verdict owed, no part of a frame.
    pub fn is_at_rest(&self) -> bool {
        !self.reader.is_amid() && matches!(self.stage(), Stage::Opened | Stage::Ready | Stage::Connected)
    }
}

/// The client as CONNECT and HELO tell of it.
#[derive(Debug, Default)]
struct Client {
    name: Option<String>,
    ip: Option<IpAddr>,
    port: Option<u16>,
    helo: Option<String>,
}

/// What is beyond the frames.
#[derive(Debug)]
struct Conversation {
    limits: Limits,
    stage: Stage,
    agreement: Agreement,
    client: Client,
    macros: Macros,
    /// How many messages were begun.
    messages: u64,
    /// There in stages Envelope and Content only.
    message: Option<Assembly>,
}

impl Conversation {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            stage: Stage::Opened,
            agreement: Agreement { version: 0, actions: 0, protocol: 0 },
            client: Client::default(),
            macros: Macros::default(),
            messages: 0,
            message: None,
        }
    }

    fn close(&mut self) {
        self.stage = Stage::Closed;
        self.message = None;
    }

    fn take(&mut self, frame: Frame<'_>, out: &mut Vec<u8>) -> Result<Option<Event>, Error> {
        let Frame { command, data } = frame;
        let out_of_order = Error::OutOfOrder { command, stage: self.stage };
        match (command, self.stage) {
            (smfic::MACRO, _) => self.macros.take(data, &self.limits),
            (smfic::QUIT, _) => {
                self.close();
                return Ok(Some(Event::Quit));
            }
            (smfic::OPTNEG, Stage::Opened | Stage::Ready) => return self.negotiate(data, out).map(Some),
            (smfic::ABORT, Stage::Opened) => return Err(out_of_order),
            (smfic::ABORT, _) => self.forget_message(),
            (smfic::QUIT_NC, stage) if stage != Stage::Opened => {
                self.forget_message();
                self.macros.forget_all();
                self.client = Client::default();
                self.stage = Stage::Ready;
            }
            (smfic::CONNECT, Stage::Ready) => {
                self.client = client(data)?;
                self.stage = Stage::Connected;
                self.go_on(protocol::NR_CONN, out);
            }
            (smfic::HELO, Stage::Connected | Stage::Envelope) => {
                // EHLO in a transaction ends it (RFC 5321, 4.1.4), whether or not the MTA says ABORT.
                self.forget_message();
                let name = cut(data).map_or(data, |(name, _)| name);
                self.client.helo = Some(String::from_utf8_lossy(name).into_owned());
                self.go_on(protocol::NR_HELO, out);
            }
            (smfic::MAIL, Stage::Connected | Stage::Envelope) => {
                self.macros.forget_after_mail();
                self.message = Some(Assembly::begin(data, &self.limits)?);
                self.messages += 1;
                self.stage = Stage::Envelope;
                self.go_on(protocol::NR_MAIL, out);
            }
            (smfic::UNKNOWN, stage) if stage != Stage::Opened => self.go_on(protocol::NR_UNKN, out),
            (smfic::RCPT | smfic::DATA, Stage::Envelope) => self.envelope(frame, out)?,
            (smfic::HEADER | smfic::EOH | smfic::BODY | smfic::BODYEOB, Stage::Envelope | Stage::Content) => {
                self.stage = Stage::Content;
                return self.content(frame, out);
            }
            (
                smfic::OPTNEG
                | smfic::CONNECT
                | smfic::HELO
                | smfic::MAIL
                | smfic::RCPT
                | smfic::DATA
                | smfic::HEADER
                | smfic::EOH
                | smfic::BODY
                | smfic::BODYEOB
                | smfic::UNKNOWN
                | smfic::QUIT_NC,
                _,
            ) => return Err(out_of_order),
            // Nobody knows it. A peer that was never one of ours must not be read on for ever, though.
            (_, Stage::Opened) => return Err(out_of_order),
            _ => {}
        }
        Ok(None)
    }

    fn negotiate(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<Event, Error> {
        let offer = Offer::parse(data)?;
        self.agreement = Agreement::of(offer, self.limits.frame_bytes)?;
        self.agreement.write(out);
        self.stage = Stage::Ready;
        Ok(Event::Negotiated(offer, self.agreement))
    }

    /// RCPT and DATA.
    fn envelope(&mut self, frame: Frame<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let Some(message) = self.message.as_mut() else { return Ok(()) };
        if frame.command == smfic::DATA {
            self.go_on(protocol::NR_DATA, out);
            return Ok(());
        }
        // With RCPT_REJ agreed on, or from Sendmail, those come too that the MTA itself refused.
        let refused = self.macros.of_recipient("rcpt_mailer") == Some(b"error");
        if refused || message.recipient(frame.data, &self.limits)? {
            self.go_on(protocol::NR_RCPT, out);
        } else if self.agreement.has(protocol::NR_RCPT) {
            message.overrun(Overrun::Recipients);
        } else {
            write_refusal(&Overrun::Recipients.refusal(), out);
        }
        Ok(())
    }

    /// Header, its end, body and end of message.
    fn content(&mut self, frame: Frame<'_>, out: &mut Vec<u8>) -> Result<Option<Event>, Error> {
        let Some(message) = self.message.as_mut() else { return Ok(None) };
        match frame.command {
            smfic::HEADER if message.has_ended_header() => {
                return Err(Error::OutOfOrder { command: frame.command, stage: self.stage });
            }
            smfic::HEADER => {
                message.header(frame.data, self.agreement.keeps_leading_space(), &self.limits)?;
                self.go_on(protocol::NR_HDR, out);
            }
            smfic::EOH => {
                message.end_header();
                self.go_on(protocol::NR_EOH, out);
            }
            smfic::BODY => {
                message.body(frame.data, &self.limits);
                // SKIP where the MTA listens: it need not send what is not kept.
                if message.overrun.is_some()
                    && self.agreement.has(protocol::SKIP)
                    && !self.agreement.has(protocol::NR_BODY)
                {
                    write_frame(out, smfir::SKIP, &[]);
                } else {
                    self.go_on(protocol::NR_BODY, out);
                }
            }
            _ => {
                if !frame.data.is_empty() {
                    message.body(frame.data, &self.limits);
                }
                return Ok(self.end_of_message(out));
            }
        }
        Ok(None)
    }

    fn end_of_message(&mut self, out: &mut Vec<u8>) -> Option<Event> {
        let message = self.message.take()?;
        if let Some(overrun) = message.overrun {
            write_refusal(&overrun.refusal(), out);
            self.forget_message();
            return Some(Event::Refused(overrun));
        }
        let (message, recipients) = message.finish(self.connection());
        self.forget_message();
        self.stage = Stage::Judging;
        Some(Event::Message(Box::new(message), Judging { recipients }))
    }

    /// ABORT, HELO and the end of every message: nothing of it may touch the next one.
    fn forget_message(&mut self) {
        self.message = None;
        self.macros.forget_message();
        if matches!(self.stage, Stage::Envelope | Stage::Content) {
            self.stage = Stage::Connected;
        }
    }

    /// CONTINUE, unless it was agreed that this event goes unanswered.
    fn go_on(&self, unanswered: u32, out: &mut Vec<u8>) {
        if !self.agreement.has(unanswered) {
            write_frame(out, smfir::CONTINUE, &[]);
        }
    }

    fn connection(&self) -> Connection {
        let macros = &self.macros;
        let tls = macros
            .text("tls_version")
            .map(|version| TlsSession { version, cipher: macros.text("cipher").unwrap_or_default() });
        Connection {
            door: Door::Milter,
            client_ip: self.client.ip.or_else(|| macros.value("client_addr").and_then(ip)),
            client_port: self.client.port.or_else(|| port(macros.text("client_port")?.parse().ok()?)),
            client_name: self.client.name.clone().filter(|_| macros.value("client_resolve").is_none_or(|r| r == b"OK")),
            helo: self.client.helo.clone(),
            receiver: macros.text("j"),
            tls,
            login: macros.text("auth_authen"),
            queue_id: macros.text("i"),
            correlation: None,
        }
    }
}

/// Reads CONNECT: name NUL, family (`U`nknown, `L`ocal, `4`, `6`), port, address NUL.
fn client(data: &[u8]) -> Result<Client, Error> {
    let malformed = |what| Error::Malformed { command: smfic::CONNECT, what };
    let (name, rest) = cut(data).ok_or(malformed("no NUL after the host name"))?;
    // `[192.0.2.1]` and `unknown` stand for a name that is not known or not confirmed.
    let known = !name.is_empty() && !name.starts_with(b"[") && !name.eq_ignore_ascii_case(b"unknown");
    let name = known.then(|| String::from_utf8_lossy(name).into_owned());
    let (port_number, address) = match rest {
        [b'4' | b'6', high, low, address @ ..] => (u16::from_be_bytes([*high, *low]), address),
        [b'4' | b'6', ..] => return Err(malformed("no port after the family")),
        // Local, unknown, or a family of tomorrow: no address that could be used.
        _ => return Ok(Client { name, ..Client::default() }),
    };
    let address = cut(address).map_or(address, |(address, _)| address);
    Ok(Client { name, ip: ip(address), port: port(port_number), helo: None })
}

/// An address as MTAs write it: Sendmail puts `IPv6:` before some.
fn ip(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    let bare = match text.get(..5) {
        Some(prefix) if prefix.eq_ignore_ascii_case("ipv6:") => &text[5..],
        _ => text,
    };
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

fn port(number: u16) -> Option<u16> {
    (number != 0).then_some(number)
}
