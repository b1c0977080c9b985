//! One connection to a next hop: the client machine with a socket and time.
//!
//! Any failure makes the link unusable; whoever holds it drops it. Every wait has a limit of its own (seconds, configured).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use crate::gateway::stream::Stream;
use crate::mail::Path;
use crate::observe::event;
use crate::protocol::smtp::{
    Attribute, Client, Dialect, DotStuffer, Extension, Extensions, Identity, Reply, Step, write_proxy_v1,
    write_proxy_v2,
};

use super::config::{ProxyVersion, TlsMode};
use super::error::LinkError;
use super::hops::Hop;

const PIECE_BYTES: usize = 64 * 1024;
const NO_SMTPUTF8: Reply = Reply::new(553, [5, 6, 7], "Internationalized addresses are not supported there");

/// A connection that has been greeted.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) hop: Arc<Hop>,
    stream: Stream,
    client: Client,
    input: BytesMut,
    /// Transactions begun on it.
    pub(super) uses: u32,
    pub(super) idle_since: Instant,
    _permit: OwnedSemaphorePermit,
}

/// Replies to the beginning of a transaction.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) mail: Reply,
    pub(super) recipients: Vec<Reply>,
}

impl Link {
    /// Connects and greets; TLS as configured for the hop. `source` is the client for the PROXY protocol.
    pub(super) async fn connect(
        hop: &Arc<Hop>,
        source: Option<SocketAddr>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, LinkError> {
        let mut link = Self::open(hop, source, permit).await?;
        link.greet().await?;
        let offered = link.client.extensions().has(Extension::StartTls);
        match hop.config.tls {
            TlsMode::None => {}
            TlsMode::Opportunistic if !offered => {}
            TlsMode::Verify if !offered => {
                return Err(LinkError::Tls(io::Error::other("STARTTLS is not offered")));
            }
            mode => match link.start_tls().await {
                Ok(tls) => link = tls,
                Err((error, Some(permit))) if mode == TlsMode::Opportunistic => {
                    tracing::info!(
                        event = event::SYSTEM,
                        hop = hop.config.name, %error, "TLS could not be had, going on in plain text"
                    );
                    link = Self::open(hop, source, permit).await?;
                    link.greet().await?;
                }
                Err((error, _)) => return Err(error),
            },
        }
        Ok(link)
    }

    async fn open(hop: &Arc<Hop>, source: Option<SocketAddr>, permit: OwnedSemaphorePermit) -> Result<Self, LinkError> {
        let connecting = timeout(hop.limits.connect, TcpStream::connect(&hop.config.address));
        let mut stream = match connecting.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(LinkError::Connect(error)),
            Err(_) => return Err(LinkError::Connect(io::ErrorKind::TimedOut.into())),
        };
        stream.set_nodelay(true).map_err(LinkError::Connect)?;
        let destination = stream.peer_addr().map_err(LinkError::Connect)?;
        let header = match hop.config.proxy_protocol {
            ProxyVersion::None => Vec::new(),
            ProxyVersion::V1 => write_proxy_v1(source, destination),
            ProxyVersion::V2 => write_proxy_v2(source, destination),
        };
        within(hop.limits.connect, Step::Banner, async { stream.write_all(&header).await.map_err(LinkError::Lost) })
            .await?;
        Ok(Self {
            hop: hop.clone(),
            stream: Stream::Plain(stream),
            client: Client::new(hop.config.dialect),
            input: BytesMut::with_capacity(2048),
            uses: 0,
            idle_since: Instant::now(),
            _permit: permit,
        })
    }

    async fn greet(&mut self) -> Result<(), LinkError> {
        let (_, banner) = self.reply(self.hop.limits.command).await?;
        if !banner.is_positive() {
            return Err(LinkError::Refused(banner));
        }
        self.hello().await
    }

    async fn hello(&mut self) -> Result<(), LinkError> {
        self.client.greet(&self.hop.helo_name)?;
        let (_, mut reply) = self.reply(self.hop.limits.command).await?;
        if reply.is_permanent() && self.hop.config.dialect == Dialect::Smtp {
            self.client.greet_old(&self.hop.helo_name)?;
            (_, reply) = self.reply(self.hop.limits.command).await?;
        }
        if reply.is_positive() { Ok(()) } else { Err(LinkError::Refused(reply)) }
    }

    /// Upgrades; on failure gives back the permit for another try in plain text.
    async fn start_tls(mut self) -> Result<Self, (LinkError, Option<OwnedSemaphorePermit>)> {
        if let Err(error) = self.agree_on_tls().await {
            return Err((error, Some(self._permit)));
        }
        let Self { hop, stream, client, input, uses, idle_since, _permit } = self;
        let (Stream::Plain(plain), Some((config, name))) = (stream, hop.tls.clone()) else {
            return Err((LinkError::Tls(io::Error::other("TLS is not configured")), None));
        };
        let connector = tokio_rustls::TlsConnector::from(config);
        let stream = match timeout(hop.limits.command, connector.connect(name, plain)).await {
            Ok(Ok(stream)) => Stream::Tls(Box::new(stream.into())),
            Ok(Err(error)) => return Err((LinkError::Tls(error), Some(_permit))),
            Err(_) => return Err((LinkError::Timeout(Step::StartTls), Some(_permit))),
        };
        let mut link = Self { hop, stream, client, input, uses, idle_since, _permit };
        match link.hello().await {
            Ok(()) => Ok(link),
            Err(error) => Err((error, None)),
        }
    }

    async fn agree_on_tls(&mut self) -> Result<(), LinkError> {
        self.client.start_tls()?;
        let (_, reply) = self.reply(self.hop.limits.command).await?;
        if !reply.is_positive() {
            return Err(LinkError::Tls(io::Error::other("STARTTLS was refused")));
        }
        self.client.tls_started(&self.input)?;
        Ok(())
    }

    /// What the hop offers.
    pub(super) fn extensions(&self) -> Extensions {
        self.client.extensions()
    }

    /// Whether it can be used for another transaction: nothing due, nothing received, not closed.
    pub(super) fn is_fit(&mut self) -> bool {
        if !self.client.is_ready() || !self.input.is_empty() {
            return false;
        }
        let mut byte = [0];
        // Without the scheduler's budget, which could hide what is there.
        tokio::task::coop::unconstrained(self.stream.read(&mut byte)).now_or_never().is_none()
    }

    /// Whether nothing speaks against keeping it, after the transaction has ended.
    pub(super) fn is_reusable(&self) -> bool {
        self.client.is_ready()
            && self.input.is_empty()
            && self.uses < self.hop.limits.max_messages
            && self.hop.config.proxy_protocol == ProxyVersion::None
    }

    /// Begins a transaction: (RSET,) XFORWARD, MAIL and RCPTs, in one group where the hop takes groups.
    pub(super) async fn begin(
        &mut self,
        identity: &Identity,
        sender: &Path,
        recipients: &[Path],
    ) -> Result<Begun, LinkError> {
        let offered = self.client.extensions();
        if !offered.has(Extension::SmtpUtf8) && sender.params.iter().any(|p| p.eq_ignore_ascii_case("SMTPUTF8")) {
            return Ok(Begun { mail: NO_SMTPUTF8, recipients: Vec::new() });
        }
        let mut replies = Vec::with_capacity(recipients.len() + 3);
        if self.client.in_transaction() {
            self.client.reset()?;
            self.settle(&mut replies).await?;
        }
        if self.hop.config.xforward && offered.has_xforward() {
            self.client.xforward(&forwarded(identity, offered))?;
            self.settle(&mut replies).await?;
        }
        self.uses += 1;
        self.client.mail(&adapted(sender, offered))?;
        self.settle(&mut replies).await?;
        for recipient in recipients {
            if replies.iter().any(|(step, reply)| *step == Step::Mail && !reply.is_positive()) {
                break;
            }
            self.client.rcpt(&adapted(recipient, offered))?;
            self.settle(&mut replies).await?;
        }
        while self.client.due() > 0 {
            replies.push(self.reply(self.hop.limits.command).await?);
        }
        let mut begun = Begun { mail: Reply::new(451, [4, 3, 0], "No answer"), recipients: Vec::new() };
        for (step, reply) in replies {
            match step {
                Step::Mail => begun.mail = reply,
                Step::Rcpt => begun.recipients.push(reply),
                _ => {}
            }
        }
        Ok(begun)
    }

    /// Without pipelining: waits for the reply to what has just been queued.
    async fn settle(&mut self, replies: &mut Vec<(Step, Reply)>) -> Result<(), LinkError> {
        if !self.client.pipelines() {
            replies.push(self.reply(self.hop.limits.command).await?);
        }
        Ok(())
    }

    /// One recipient more.
    pub(super) async fn rcpt(&mut self, recipient: &Path) -> Result<Reply, LinkError> {
        self.client.rcpt(&adapted(recipient, self.client.extensions()))?;
        Ok(self.reply(self.hop.limits.command).await?.1)
    }

    /// DATA: 354, or the refusal.
    pub(super) async fn data(&mut self) -> Result<Reply, LinkError> {
        self.client.data()?;
        Ok(self.reply(self.hop.limits.command).await?.1)
    }

    /// Writes the content up to and without the last piece, which holds the final dot: until that is written nothing is delivered.
    pub(super) async fn write_content(&mut self, segments: &[Bytes]) -> Result<Vec<u8>, LinkError> {
        let limit = self.hop.limits.content;
        let (mut stuffer, mut wire) = (DotStuffer::default(), Vec::with_capacity(PIECE_BYTES));
        let stream = &mut self.stream;
        let writing = async {
            for piece in segments.iter().flat_map(|segment| segment.chunks(PIECE_BYTES)) {
                if wire.len() >= PIECE_BYTES {
                    stream.write_all(&wire).await.map_err(LinkError::Lost)?;
                    wire.clear();
                }
                stuffer.write(piece, &mut wire);
            }
            stuffer.finish(&mut wire);
            Ok(())
        };
        let written = within(limit, Step::Content, writing).await;
        if written.is_err() {
            self.client.give_up();
        }
        written.map(|()| wire)
    }

    /// Writes the last piece with the dot and waits for the final answer. From here on a failure leaves the outcome unknown.
    pub(super) async fn finish_content(&mut self, last: &[u8]) -> Result<Reply, LinkError> {
        let stream = &mut self.stream;
        let writing = async {
            stream.write_all(last).await.map_err(LinkError::Lost)?;
            stream.flush().await.map_err(LinkError::Lost)
        };
        if let Err(error) = within(self.hop.limits.content, Step::Content, writing).await {
            self.client.give_up();
            return Err(error);
        }
        self.client.content_sent()?;
        Ok(self.reply(self.hop.limits.final_reply).await?.1)
    }

    /// Leaves the transaction; an unusable link is what it was.
    pub(super) async fn reset(&mut self) -> Result<(), LinkError> {
        if self.client.in_transaction() {
            self.client.reset()?;
            self.reply(self.hop.limits.command).await?;
        }
        Ok(())
    }

    /// Says QUIT without waiting for the answer, and closes.
    pub(super) async fn close(mut self) {
        if self.client.quit().is_ok() {
            let _ = timeout(Duration::from_secs(1), self.write_commands()).await;
        }
    }

    async fn write_commands(&mut self) -> io::Result<()> {
        let out = self.client.output();
        if !out.is_empty() {
            self.stream.write_all(out).await?;
            out.clear();
            self.stream.flush().await?;
        }
        Ok(())
    }

    /// Writes what is queued and waits for one reply.
    async fn reply(&mut self, limit: Duration) -> Result<(Step, Reply), LinkError> {
        let waiting = async {
            self.write_commands().await.map_err(LinkError::Lost)?;
            loop {
                if let Some(answer) = self.client.receive(&mut self.input)? {
                    return Ok(answer);
                }
                self.input.reserve(1024);
                if self.stream.read_buf(&mut self.input).await.map_err(LinkError::Lost)? == 0 {
                    return Err(LinkError::Lost(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        };
        match within(limit, Step::Data, waiting).await {
            Ok((_, reply)) if reply.code == 421 => Err(LinkError::Refused(reply)),
            Ok(answer) => Ok(answer),
            Err(error) => {
                self.client.give_up();
                Err(error)
            }
        }
    }
}

async fn within<T>(
    limit: Duration,
    step: Step,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    timeout(limit, work).await.unwrap_or(Err(LinkError::Timeout(step)))
}

/// The path with the parameters the hop knows. DSN requests end here when it knows none (RFC 3461, 5.2.2), 8-bit content goes as it is.
fn adapted(path: &Path, offered: Extensions) -> Path {
    let known = |param: &&String| {
        let keyword = param.split('=').next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_str() {
            "SIZE" => offered.has(Extension::Size),
            "BODY" => offered.has(Extension::EightBitMime),
            "RET" | "ENVID" | "NOTIFY" | "ORCPT" => offered.has(Extension::Dsn),
            _ => true,
        }
    };
    Path { text: path.text.clone(), params: path.params.iter().filter(known).cloned().collect() }
}

fn forwarded(identity: &Identity, offered: Extensions) -> String {
    let mut text = String::with_capacity(120);
    for attribute in Attribute::XFORWARD {
        let value = identity.forwarded(attribute);
        let unsaid = matches!(attribute, Attribute::Ident | Attribute::Source) && value.starts_with('[');
        if offered.xforwards(attribute) && !unsaid {
            text.push_str(if text.is_empty() { "" } else { " " });
            text.push_str(attribute.name());
            text.push('=');
            text.push_str(&value);
        }
    }
    text
}
