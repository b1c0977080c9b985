//! The accept loop: limits, the PROXY header of trusted peers, and the end of the service in good order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::gateway::next_hop::NextHops;
use crate::gateway::tls::ServerTls;
use crate::observe::{correlation, event};
use crate::pipeline::Inspect;
use crate::protocol::smtp::{ProxyHeader, Reply, ServerSettings, parse_proxy_header};

use super::config::{ConfigError, RelayConfig};
use super::limits::Limits;
use super::metrics::RelayMetrics;
use super::session::Session;

const MAINTAIN_EVERY: Duration = Duration::from_secs(5);
const BUSY: Reply = Reply::new(421, [4, 3, 2], "Too many connections, try again later");

/// The relay with all it needs; cheap to clone.
#[derive(Debug)]
pub struct Relay<I> {
    shared: Arc<Shared<I>>,
}

impl<I> Clone for Relay<I> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

/// What all conversations share.
#[derive(Debug)]
pub(super) struct Shared<I> {
    pub(super) config: Arc<RelayConfig>,
    pub(super) settings: Arc<ServerSettings>,
    pub(super) inspect: Arc<I>,
    pub(super) next_hops: Arc<NextHops>,
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) limits: Limits,
    pub(super) metrics: RelayMetrics,
}

impl<I> Shared<I> {
    pub(super) fn tls_config(&self) -> Option<Arc<ServerConfig>> {
        self.tls.as_ref().map(|tls| tls.current())
    }
}

impl<I: Inspect> Relay<I> {
    /// A relay. `tls` is `None` when STARTTLS is not to be offered.
    pub fn new(
        config: Arc<RelayConfig>,
        inspect: Arc<I>,
        next_hops: Arc<NextHops>,
        tls: Option<Arc<ServerTls>>,
        metrics: RelayMetrics,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let settings = Arc::new(config.server_settings());
        let limits = Limits::new(&config);
        Ok(Self { shared: Arc::new(Shared { config, settings, inspect, next_hops, tls, limits, metrics }) })
    }

    /// Takes connections until `stop`: then the listener closes, messages in hand are answered, idle clients get 421,
    /// and it returns when all are gone.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) {
        let shared = &self.shared;
        let mut clients = JoinSet::new();
        let maintenance = async {
            loop {
                shared.next_hops.maintain().await;
                shared.limits.forget_old();
                sleep(MAINTAIN_EVERY).await;
            }
        };
        let accepting = async {
            let mut pause = Duration::from_millis(5);
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    Some(_) = clients.join_next(), if !clients.is_empty() => {}
                    accepted = listener.accept() => match accepted {
                        Ok((stream, peer)) => {
                            pause = Duration::from_millis(5);
                            let too_many = clients.len() >= shared.config.max_connections;
                            let correlation = correlation();
                            let span = tracing::info_span!("relay", correlation);
                            let client =
                                client(shared.clone(), stream, (peer, correlation), too_many, stop.clone());
                            clients.spawn(client.instrument(span));
                        }
                        // No descriptors left, most likely: accepting in a tight loop would make it worse.
                        Err(error) => {
                            tracing::warn!(event = event::SYSTEM, %error, "accepting a connection failed");
                            sleep(pause).await;
                            pause = (pause * 2).min(Duration::from_secs(1));
                        }
                    },
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = maintenance => {}
        }
        drop(listener);
        while clients.join_next().await.is_some() {}
        shared.next_hops.close().await;
    }
}

async fn client<I: Inspect>(
    shared: Arc<Shared<I>>,
    mut stream: TcpStream,
    (peer, correlation): (SocketAddr, String),
    too_many: bool,
    stop: CancellationToken,
) {
    let metrics = &shared.metrics;
    metrics.connections.inc();
    if too_many {
        metrics.refused.with_label_values(&["connections"]).inc();
        return turn_away(stream).await;
    }
    let _ = stream.set_nodelay(true);
    let mut input = BytesMut::with_capacity(4096);
    let mut source = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    if shared.config.proxy_protocol_from.iter().any(|network| network.contains(peer.ip())) {
        match proxy_header(&mut stream, &mut input).await {
            Some(ProxyHeader::Client { source: told, .. }) => source = told,
            Some(ProxyHeader::Local) => {}
            None => {
                metrics.refused.with_label_values(&["proxy_header"]).inc();
                tracing::info!(event = event::SECURITY, %peer, "no PROXY header from a peer that must send one");
                return;
            }
        }
    }
    let Some(_slot) = shared.limits.connect(source.ip()) else {
        metrics.refused.with_label_values(&["connections_per_client"]).inc();
        return turn_away(stream).await;
    };
    metrics.open.inc();
    let open = metrics.open.clone();
    Box::pin(Session::new(shared, stream, input, (peer, source, correlation), stop).run()).await;
    open.dec();
}

async fn turn_away(mut stream: TcpStream) {
    let mut out = Vec::new();
    BUSY.write(&mut out);
    let _ = timeout(Duration::from_secs(5), stream.write_all(&out)).await;
    // Reading what the client may have said keeps the reply from being lost in a reset.
    let _ = stream.shutdown().await;
    let _ = timeout(Duration::from_secs(1), stream.read(&mut [0; 512])).await;
}

async fn proxy_header(stream: &mut TcpStream, input: &mut BytesMut) -> Option<ProxyHeader> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        if let Some(header) = parse_proxy_header(input).ok()? {
            return Some(header);
        }
        if tokio::time::timeout_at(deadline, stream.read_buf(input)).await.ok()?.ok()? == 0 {
            return None;
        }
    }
}
