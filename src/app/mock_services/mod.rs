//! Services to try the gateway against: clamd, DNS block list, NLP service, URL analyser, chat endpoint, RDAP, on loopback,
//! each breakable at run time in every way that a service breaks. `mailweir dev mock-services` runs them, the tests too.
//!
//! What they find is fixed: see each file. They are no services: they know a few words and names.

mod clamd;
mod dnsbl;
mod fault;
mod http;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use fault::Fault;

/// Which service is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// clamd over TCP.
    Clamd,
    /// DNS block lists over UDP.
    Dnsbl,
    /// NLP, URL analyser, OpenAI-compatible chat and RDAP over HTTP, by path.
    Http,
}

/// A service that runs until it is dropped.
pub struct Mock {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    seen: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Mock {
    /// Starts a service on a loopback port (0: any free one).
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn start(service: Service, port: u16, fault: Fault) -> std::io::Result<Self> {
        let (sender, receiver) = watch::channel(fault);
        let seen = Arc::new(AtomicU64::new(0));
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        let (address, task) = match service {
            Service::Clamd => wire::listen(at, receiver, Arc::clone(&seen), clamd::Clamd).await?,
            Service::Http => wire::listen(at, receiver, Arc::clone(&seen), http::Http).await?,
            Service::Dnsbl => dnsbl::listen(at, receiver, Arc::clone(&seen)).await?,
        };
        Ok(Self { address, fault: sender, seen, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks it, or mends it with [`Fault::None`]. Conversations under way go on as they began.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Requests seen so far.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.task.abort();
    }
}
