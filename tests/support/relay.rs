//! The relay on a free port, in front of next hops of the test, with a verdict of the test.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mailweir::gateway::next_hop::{HopConfig, NextHopMetrics, NextHops, NextHopsConfig};
use mailweir::gateway::relay::{Relay, RelayConfig, RelayMetrics};
use mailweir::gateway::tls::ServerTls;
use mailweir::pipeline::{Answer, Inspect, Transaction};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Answers as told and remembers what it was shown.
pub struct Judge {
    pub answer: Mutex<Answer>,
    pub seen: Mutex<Vec<Transaction>>,
    pub delay: Mutex<Duration>,
    pub panics: bool,
}

impl Default for Judge {
    fn default() -> Self {
        let answer = Mutex::new(Answer::Deliver { edits: Vec::new(), held: Vec::new() });
        Self { answer, seen: Mutex::default(), delay: Mutex::default(), panics: false }
    }
}

impl Inspect for Judge {
    async fn inspect(&self, transaction: Transaction) -> Answer {
        self.seen.lock().unwrap().push(transaction);
        assert!(!self.panics, "as told");
        let delay = *self.delay.lock().unwrap();
        tokio::time::sleep(delay).await;
        self.answer.lock().unwrap().clone()
    }
}

pub struct TestRelay {
    pub address: SocketAddr,
    pub judge: Arc<Judge>,
    pub next_hops: Arc<NextHops>,
    pub registry: prometheus::Registry,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
    _certs: tempfile::TempDir,
}

impl Drop for TestRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A hop at this address.
pub fn hop(name: &str, address: SocketAddr) -> HopConfig {
    HopConfig { name: name.to_owned(), address: address.to_string(), ..HopConfig::default() }
}

/// One hop, short times.
pub fn hops(hops: Vec<HopConfig>) -> NextHopsConfig {
    NextHopsConfig { hops, connect_seconds: 1, command_seconds: 5, final_reply_seconds: 5, ..Default::default() }
}

impl TestRelay {
    pub async fn start(config: RelayConfig, next_hops: NextHopsConfig) -> Self {
        Self::start_with(config, next_hops, Judge::default()).await
    }

    pub async fn start_with(config: RelayConfig, next_hops: NextHopsConfig, judge: Judge) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, config, next_hops, judge).await
    }

    pub async fn start_on(listener: TcpListener, config: RelayConfig, next_hops: NextHopsConfig, judge: Judge) -> Self {
        let config = RelayConfig { host_name: "relay.example".into(), ..config };
        let registry = prometheus::Registry::new();
        let certs = tempfile::tempdir().unwrap();
        let tls = config.tls.enabled.then(|| Arc::new(ServerTls::self_signed(certs.path(), "relay.example").unwrap()));
        let metrics = NextHopMetrics::new(&registry).unwrap();
        let next_hops = Arc::new(NextHops::new(&next_hops, &config.host_name, metrics).unwrap());
        // What the hops offer is known before the first client comes.
        next_hops.maintain().await;
        let judge = Arc::new(judge);
        let metrics = RelayMetrics::new(&registry).unwrap();
        let relay = Relay::new(Arc::new(config), judge.clone(), next_hops.clone(), tls, metrics).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let token = stop.clone();
        let task = tokio::spawn(async move { relay.serve(listener, token).await });
        Self { address, judge, next_hops, registry, stop, task, _certs: certs }
    }

    pub fn answer(&self, answer: Answer) {
        *self.judge.answer.lock().unwrap() = answer;
    }

    /// Sum over all labels of a counter.
    pub fn counted(&self, name: &str, label: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().filter(|family| family.name() == name);
        let metrics = family.flat_map(|family| family.get_metric());
        let with = metrics.filter(|m| label.is_empty() || m.get_label().iter().any(|pair| pair.value() == label));
        with.map(|m| m.get_counter().get_value() as u64).sum()
    }
}
