//! One client: the server machine with a socket, time, and a transaction towards the next hop.
//!
//! The machine decides what is due; this file reads, writes and asks. Every wait has a deadline. Whatever ends the
//! conversation, the transaction with the next hop is ended too and its connection kept only without doubt.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::gateway::next_hop::{Delivery, LinkError};
use crate::gateway::stream::Stream;
use crate::mail::{Connection, Door, Network, Path, TlsSession};
use crate::observe::{self, Category, Fault, event};
use crate::pipeline::Inspect;
use crate::protocol::smtp::{Event, Extension, Extensions, Identity, Reply, Server, Trust};

use super::listener::Shared;

const OK: Reply = Reply::new(250, [2, 1, 0], "Ok");
const RATE: Reply = Reply::new(451, [4, 7, 1], "Too many messages, try again later");
const ONE_AT_A_TIME: Reply = Reply::new(452, [4, 5, 3], "Too many recipients, send separately");
const NO_ROOM: Reply = Reply::new(452, [4, 3, 1], "Insufficient system storage, try again later");
const UNREACHABLE: Reply = Reply::new(451, [4, 4, 1], "Next hop cannot be reached, try again later");

pub(super) struct Session<I> {
    pub(super) shared: Arc<Shared<I>>,
    stream: Option<Stream>,
    input: BytesMut,
    pub(super) server: Server,
    pub(super) delivery: Option<Delivery>,
    sender: Path,
    memory: Option<OwnedSemaphorePermit>,
    source: SocketAddr,
    correlation: String,
    tls: Option<TlsSession>,
    stop: CancellationToken,
    drain_until: Option<Instant>,
}

impl<I: Inspect> Session<I> {
    pub(super) fn new(
        shared: Arc<Shared<I>>,
        stream: TcpStream,
        input: BytesMut,
        (peer, source, correlation): (SocketAddr, SocketAddr, String),
        stop: CancellationToken,
    ) -> Self {
        let config = &shared.config;
        let mut own = Extensions::own(config.max_message_bytes);
        if shared.tls.is_some() {
            own = own.with(Extension::StartTls);
        }
        if config.chunking {
            own = own.with(Extension::Chunking);
        }
        let trusted = |networks: &[Network]| networks.iter().any(|network| network.contains(peer.ip()));
        let trust = Trust { xclient: trusted(&config.xclient_from), xforward: trusted(&config.xforward_from) };
        let identity = Identity { addr: Some(source.ip()), port: Some(source.port()), ..Identity::default() };
        let offer = shared.next_hops.offer(own);
        let server = Server::new(shared.settings.clone(), offer, trust, identity, now());
        Self {
            shared,
            stream: Some(Stream::Plain(stream)),
            input,
            server,
            delivery: None,
            sender: Path::default(),
            memory: None,
            source,
            correlation,
            tls: None,
            stop,
            drain_until: None,
        }
    }

    /// The whole conversation.
    pub(super) async fn run(mut self) {
        if self.wait_for_silence().await.is_ok() {
            self.server.greet(&self.input, now());
            if let Err(error) = self.converse().await {
                tracing::debug!(client = %self.source, %error, "conversation ended");
            }
        }
        self.end_delivery().await;
        if let Some(stream) = &mut self.stream {
            let _ = timeout(Duration::from_secs(1), stream.shutdown()).await;
        }
    }

    /// The greet delay; whoever speaks meanwhile is found out by the machine.
    async fn wait_for_silence(&mut self) -> io::Result<()> {
        let delay = Duration::from_millis(self.shared.config.greet_delay_ms);
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if !self.input.is_empty() {
            return Ok(());
        }
        if delay.is_zero() {
            if let Stream::Plain(stream) = stream {
                match stream.try_read_buf(&mut self.input) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
            }
            return Ok(());
        }
        match timeout(delay, stream.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    async fn converse(&mut self) -> io::Result<()> {
        loop {
            let event = self.server.receive(&mut self.input, now());
            for violation in self.server.take_violations() {
                self.shared.metrics.violations.with_label_values(&[violation.as_str()]).inc();
                observe::count("gateway", Category::Protocol);
                tracing::info!(
                    event = event::SECURITY,
                    client = %self.source, kind = violation.as_str(), "breach of the protocol"
                );
            }
            match event {
                Some(Event::Mail(sender)) => {
                    let reply = self.mail(sender);
                    self.server.answer(&reply, now());
                }
                Some(Event::Rcpt(recipient)) => {
                    let reply = self.rcpt(&recipient).await;
                    self.server.answer(&reply, now());
                }
                Some(Event::Message { envelope, raw }) => {
                    let reply = self.message(envelope, raw).await;
                    // At once: between the next hop's 250 and ours a crash means a duplicate.
                    self.server.answer(&reply, now());
                    self.flush().await?;
                    self.end_delivery().await;
                }
                Some(Event::Reset) => {
                    self.flush().await?;
                    self.end_delivery().await;
                }
                Some(Event::StartTls) => {
                    self.end_delivery().await;
                    self.flush().await?;
                    self.upgrade().await?;
                }
                Some(Event::Reconnected) => self.end_delivery().await,
                Some(Event::Close) => return self.flush().await,
                None => {
                    self.flush().await?;
                    self.fill().await?;
                }
            }
        }
    }

    fn mail(&mut self, sender: Path) -> Reply {
        let address = self.server.identity().addr.unwrap_or(self.source.ip());
        if !self.shared.limits.may_send(address) {
            self.shared.metrics.refused.with_label_values(&["message_rate"]).inc();
            return RATE;
        }
        self.sender = sender;
        OK
    }

    /// Passes one recipient on; the first one opens the transaction with its next hop.
    async fn rcpt(&mut self, recipient: &Path) -> Reply {
        let route = self.shared.next_hops.route(recipient);
        if let Some(delivery) = &self.delivery
            && !delivery.accepted().is_empty()
            && (delivery.route() != route || self.shared.next_hops.takes_one_recipient(route))
        {
            return ONE_AT_A_TIME;
        }
        let mut delivery = match self.delivery.take() {
            Some(delivery) if delivery.route() == route => delivery,
            // None of the other route's recipients was taken: this transaction may go another way.
            other => {
                self.delivery = other;
                self.end_delivery().await;
                Delivery::new(self.shared.next_hops.clone(), route, self.forwarded_identity(), self.sender.clone())
            }
        };
        let outcome = delivery.rcpt(recipient).await;
        self.delivery = Some(delivery);
        let reply = match outcome {
            Ok(reply) if matches!(reply.code / 100, 2 | 4 | 5) => reply.with_enhanced([0, 0]),
            Ok(_) => UNREACHABLE,
            Err(error) => {
                observe::count("gateway", error.category());
                tracing::warn!(
                    event = event::MAIL,
                    client = %self.source, %error, cause = ?std::error::Error::source(&error), "recipient could not be passed on"
                );
                refusal_of(&error)
            }
        };
        let told = match reply.code / 100 {
            2 => "taken",
            4 => "deferred",
            _ => "refused",
        };
        self.shared.metrics.recipients.with_label_values(&[told]).inc();
        reply
    }

    fn forwarded_identity(&self) -> Identity {
        let mut identity = self.server.identity().clone();
        identity.helo = self.server.helo().map(str::to_owned);
        if identity.proto.is_none() {
            identity.proto = Some(if self.server.is_extended() { "ESMTP" } else { "SMTP" }.to_owned());
        }
        identity
    }

    /// The client as the pipeline gets to know it.
    pub(super) fn connection(&self) -> Connection {
        let identity = self.server.identity();
        Connection {
            client_ip: identity.addr,
            client_port: identity.port,
            client_name: identity.name.clone(),
            helo: self.server.helo().map(str::to_owned),
            receiver: Some(self.shared.config.host_name.clone()),
            tls: self.tls.clone(),
            login: identity.login.clone(),
            queue_id: identity.ident.clone(),
            correlation: Some(self.correlation.clone()),
            ..Connection::unknown(Door::Relay)
        }
    }

    async fn end_delivery(&mut self) {
        self.memory = None;
        if let Some(delivery) = self.delivery.take() {
            delivery.finish().await;
        }
    }

    async fn upgrade(&mut self) -> io::Result<()> {
        let (Some(Stream::Plain(plain)), Some(config)) = (self.stream.take(), self.shared.tls_config()) else {
            return Err(io::Error::other("STARTTLS was offered without TLS"));
        };
        let limit = Duration::from_secs(self.shared.config.handshake_seconds);
        let handshake = timeout(limit, tokio_rustls::TlsAcceptor::from(config).accept(plain)).await;
        let result = if matches!(handshake, Ok(Ok(_))) { "ok" } else { "failed" };
        self.shared.metrics.tls.with_label_values(&[result]).inc();
        let stream = Stream::Tls(Box::new(handshake.map_err(io::Error::from)??.into()));
        self.tls = stream.tls_session();
        self.stream = Some(stream);
        self.server.tls_started(now());
        Ok(())
    }

    /// Writes the queued replies.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        let limit = Duration::from_secs(self.shared.config.write_seconds);
        let (Some(stream), out) = (&mut self.stream, self.server.output()) else { return Ok(()) };
        if out.is_empty() {
            return Ok(());
        }
        timeout(limit, async {
            stream.write_all(out).await?;
            stream.flush().await
        })
        .await??;
        out.clear();
        Ok(())
    }

    /// Reads once, until the machine's deadline or the end of the service.
    async fn fill(&mut self) -> io::Result<()> {
        let mut deadline =
            self.server.deadline().map_or_else(|| Instant::now() + Duration::from_secs(60), Instant::from_std);
        let stopping = self.stop.is_cancelled();
        if stopping {
            if !self.server.in_transaction() {
                self.server.shut_down();
                return Ok(());
            }
            let limit = Duration::from_secs(self.shared.config.drain_seconds);
            deadline = deadline.min(*self.drain_until.get_or_insert_with(|| Instant::now() + limit));
        }
        let Some(stream) = &mut self.stream else { return Err(io::ErrorKind::NotConnected.into()) };
        // Large steps for content, small ones for commands: memory follows what is really in hand.
        self.input.reserve(if self.server.held_bytes() > 0 { 64 * 1024 } else { 4 * 1024 });
        let read = tokio::select! {
            biased;
            read = timeout_at(deadline, stream.read_buf(&mut self.input)) => read,
            () = self.stop.cancelled(), if !stopping => return Ok(()),
        };
        match read {
            Ok(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(_)) => {
                // What is read here and not yet taken by the machine counts too.
                let bytes = self.server.held_bytes() + if self.server.held_bytes() > 0 { self.input.len() } else { 0 };
                if bytes > 0 && !self.shared.limits.cover(&mut self.memory, bytes) {
                    self.shared.metrics.refused.with_label_values(&["memory"]).inc();
                    self.server.refuse_message(NO_ROOM);
                    self.memory = None;
                }
                Ok(())
            }
            Ok(Err(error)) => Err(error),
            Err(_) if stopping => {
                self.server.shut_down();
                Ok(())
            }
            Err(_) => {
                self.server.timed_out();
                Ok(())
            }
        }
    }
}

/// What the client is told when the next hop gave no answer: always "later", never why.
pub(super) fn refusal_of(error: &LinkError) -> Reply {
    match error {
        LinkError::Refused(_) => Reply::new(451, [4, 3, 0], "Next hop is not ready, try again later"),
        LinkError::Lost(_) | LinkError::Timeout(_) | LinkError::Protocol(_) => {
            Reply::new(451, [4, 4, 2], "Next hop was lost, try again later")
        }
        LinkError::Connect(_) | LinkError::Down | LinkError::Busy | LinkError::Tls(_) => UNREACHABLE,
    }
}

pub(super) fn now() -> std::time::Instant {
    Instant::now().into_std()
}
