//! A wire that can be cut: passes TCP connections on to a server until it is cut, and again when it is mended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::gateway::free_port;

/// A wire to a server.
pub struct Wire {
    /// Where clients connect.
    pub address: SocketAddr,
    server: SocketAddr,
    running: Option<(CancellationToken, JoinHandle<()>)>,
    /// Cancelled: nothing is carried.
    silence: CancellationToken,
    passed: Arc<AtomicU64>,
}

impl Wire {
    pub async fn to(server: SocketAddr) -> Self {
        let mut wire = Self {
            address: free_port(),
            server,
            running: None,
            silence: CancellationToken::new(),
            passed: Arc::default(),
        };
        wire.mend().await;
        wire
    }

    /// The address it had: somebody else may have it for a moment, as what a connection comes from.
    async fn listener(&self) -> TcpListener {
        let until = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => return listener,
                Err(error) => assert!(tokio::time::Instant::now() < until, "{}: {error}", self.address),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Takes connections (again).
    pub async fn mend(&mut self) {
        let listener = self.listener().await;
        let (cut, server, passed) = (CancellationToken::new(), self.server, Arc::clone(&self.passed));
        let (token, silence) = (cut.clone(), CancellationToken::new());
        self.silence = silence.clone();
        let task = tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = token.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((mut client, _)) = accepted else { continue };
                passed.fetch_add(1, Ordering::Relaxed);
                let (token, silence) = (token.clone(), silence.clone());
                tokio::spawn(async move {
                    let Ok(mut behind) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        () = token.cancelled() => {}
                        () = silence.cancelled() => token.cancelled().await,
                        _ = copy_bidirectional(&mut client, &mut behind) => {}
                    }
                });
            }
        });
        self.running = Some((cut, task));
    }

    /// Carries nothing any more, but holds every connection and takes new ones; until it is cut.
    pub fn hang(&self) {
        self.silence.cancel();
    }

    /// Cuts every connection, in the middle of whatever it carries, and takes no new ones.
    pub async fn cut(&mut self) {
        if let Some((cut, task)) = self.running.take() {
            cut.cancel();
            task.await.unwrap();
        }
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}
