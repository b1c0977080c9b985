//! The listener: connections, their limits, and the end of the service in good order.
//!
//! HTTP/1.1 only, by hyper. A client has `header_seconds` for each header (that is also how long a connection may idle),
//! `request_seconds` for the rest, and must not leave an answer unread for `write_seconds`.

use std::convert::Infallible;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::api::{Api, Workforce};
use super::callers::Callers;
use super::examination::{Examination, Surroundings};
use super::front::Front;
use super::full_health::FullHealth;
use super::health::Health;
use super::metrics::Metrics;
use super::paced::Paced;
use super::router::{self, Shared};
use super::summary::Snapshots;
use super::{AdminError, Config, Demo};
use crate::enforcement::alert::Board;
use crate::enforcement::signing::SigningConfig;
use crate::enforcement::{Reinject, Release};
use crate::observe::event;
use crate::records::Records;

/// Bytes of the header of one request at most; more is answered 431.
const HEADER_BYTES: usize = 32 * 1024;

/// The HTTP side, ready to serve.
pub struct Admin {
    config: Config,
    shared: Arc<Shared>,
    front: Arc<Front>,
}

impl Admin {
    /// Puts it together: what is asked comes from `records`, releases go through `release`, `/metrics` shows `registry`;
    /// `work` is the process's queue and workers, `surroundings` what health looks at besides.
    ///
    /// # Errors
    /// When a setting or the token is of no use, or a metric's name is taken in the registry.
    pub fn new<R: Reinject>(
        config: &Config,
        token: String,
        records: Arc<Records>,
        release: Arc<Release<R>>,
        registry: Registry,
        work: Option<Workforce>,
        surroundings: Surroundings,
    ) -> Result<Self, AdminError> {
        config.check()?;
        let access = Access::new(&token, config.failed_tokens_per_minute)?;
        let metrics = Arc::new(Metrics::new(registry)?);
        let queue = work.as_ref().map(|work| Arc::clone(&work.queue));
        let (store, its) = (Arc::clone(&records), Arc::clone(&metrics));
        let next_hops = surroundings.next_hops.clone();
        let examination = Examination::new(config, store, work.clone(), surroundings, its);
        let shared = Arc::new(Shared {
            health: Health::new(Arc::clone(&records), queue, next_hops, config.low_space_bytes),
            full_health: FullHealth::new(examination, Arc::clone(&metrics), config.snapshot_seconds),
            snapshots: Snapshots::new(config, Arc::clone(&metrics)),
            api: Api::new(config, records, release, work),
            metrics: Arc::clone(&metrics),
        });
        let front = Front::new(config, access, metrics, router::router(Arc::clone(&shared)));
        Ok(Self { config: config.clone(), shared, front: Arc::new(front) })
    }

    /// Shows these alerts under `/api/v1/alerts`.
    #[must_use]
    pub fn with_alerts(self, board: Board) -> Self {
        // Set once: nobody serves yet.
        let _ = self.shared.full_health.examination.board.set(board.clone());
        let _ = self.shared.api.alerts.set(board);
        self
    }

    /// Lets whoever has this token see metrics and health.
    ///
    /// # Errors
    /// When the token is of no use.
    pub fn with_metrics_token(self, token: &str) -> Result<Self, AdminError> {
        self.front.access.allow_metrics(token)?;
        Ok(self)
    }

    /// Lets those of `http.callers` ask who sign their requests so; their keys are in the file that these settings name.
    ///
    /// # Errors
    /// When a line names nobody, or the keys or the place of used nonces cannot be used.
    pub fn with_callers(self, signing: &SigningConfig, data: &Path) -> Result<Self, AdminError> {
        if !self.config.callers.is_empty() {
            // Set once: nobody serves yet.
            let _ = self.front.callers.set(Callers::new(self.config.callers.clone(), signing, data)?);
        }
        Ok(self)
    }

    /// Lets the API start these demo runs.
    #[must_use]
    pub fn with_demo(self, demo: Arc<dyn Demo>) -> Self {
        // Set once: nobody serves yet.
        let _ = self.shared.api.demo.set(demo);
        self
    }

    /// Answers until `stop`: then the listener closes, requests in hand are answered (for `request_seconds` at most), idle
    /// connections close, releases that have begun end, and it returns. `/ready` says no from `draining` on.
    pub async fn serve(self, listener: TcpListener, draining: CancellationToken, stop: CancellationToken) {
        self.shared.health.drains_with(draining);
        let mut clients = JoinSet::new();
        let (snapshots, looks) = (self.shared.snapshots.run(), self.shared.full_health.run());
        let prepare = async {
            if let Some(callers) = self.front.callers.get() {
                callers.prepare().await;
            }
        };
        let watch = async { tokio::join!(snapshots, looks, self.shared.health.run(), prepare) };
        let mut watch = std::pin::pin!(watch);
        let mut pause = Duration::from_millis(5);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = &mut watch => {}
                Some(_) = clients.join_next(), if !clients.is_empty() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        pause = Duration::from_millis(5);
                        if clients.len() < self.config.connections {
                            clients.spawn(self.connection(stream, peer.ip(), stop.clone()));
                        } else {
                            self.shared.metrics.connections_refused.inc();
                        }
                    }
                    // No descriptors left, most likely: accepting in a tight loop would make it worse.
                    Err(error) => {
                        tracing::warn!(event = event::API, %error, "accepting an HTTP connection failed");
                        sleep(pause).await;
                        pause = (pause * 2).min(Duration::from_secs(1));
                    }
                },
            }
        }
        drop(listener);
        let last = async { while clients.join_next().await.is_some() {} };
        if timeout(Duration::from_secs(self.config.request_seconds), last).await.is_err() {
            tracing::warn!(
                event = event::API,
                connections = clients.len(),
                "HTTP clients that did not take their answers are cut"
            );
        }
        drop(clients);
        self.shared.api.finish().await;
    }

    fn connection(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let front = Arc::clone(&self.front);
        let open = OpenConnection::new(&self.shared.metrics);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(self.config.header_seconds))
            .max_buf_size(HEADER_BYTES);
        let stream = Paced::new(stream, Duration::from_secs(self.config.write_seconds));
        async move {
            let _open = open;
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let front = Arc::clone(&front);
                async move { Ok::<_, Infallible>(front.answer(peer, request.map(axum::body::Body::new)).await) }
            });
            let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "an HTTP connection ended badly");
            }
        }
    }
}

/// Counts a connection while it is there.
struct OpenConnection(Arc<Metrics>);

impl OpenConnection {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.connections.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}
