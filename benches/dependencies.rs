//! What the gateway does while everything that it asks hangs: `cargo bench --bench dependencies`.
//!
//! Messages through the milter door, in one process, by connections that send one after the other: once with nothing to ask, and
//! once with all services, the resolver and the shared cache configured, each of which takes what it is sent and says nothing.
//! Prints messages a second after the breakers have opened, the share of those without dependencies, and the latest answers
//! with the inspection's deadline.
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used, clippy::panic, clippy::expect_used)]
#![allow(missing_docs, unreachable_pub, dead_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mailweir::app::config::Config;
use mailweir::app::mock_services::{Fault, Mock, Service};
use mailweir::app::shelf;
use mailweir::egress::BreakerState;
use mailweir::enrichment::{OnFailure, Outside, SenderAuth, Services, ZoneConfig, ZoneOf};
use mailweir::gateway::milter::{self, Endpoint, Listener, serve};
use mailweir::pipeline::{Metrics, Pipeline, Standing};
use mailweir::policy::{Judge, PolicyFiles, RuleSet};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[path = "../tests/support/milter.rs"]
mod door;

/// Connections at a time: as many MTA processes.
const CONNECTIONS: usize = 32;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
/// What a message with everything in order is: a few kilobytes with a link or two.
const TEXT: usize = 4_000;

struct Gateway {
    endpoint: Endpoint,
    outside: Arc<Outside>,
    sent: AtomicU64,
}

impl Gateway {
    async fn start(config: &Config) -> Self {
        let outside = Arc::new(shelf::outside(config, &prometheus::Registry::new()).unwrap());
        let (rules, _) = RuleSet::build(Vec::new(), Arc::default(), &Default::default(), &Default::default());
        let auth = SenderAuth::new(&config.enrichment.sender_auth, "mx.example.org").unwrap();
        let standing = Standing {
            judge: Judge::new(&config.policy, &PolicyFiles::default()).unwrap(),
            site: Default::default(),
            sender_auth: auth.guarded(&outside).unwrap(),
            services: Services::new(&config.enrichment, &outside).unwrap(),
            authserv_id: "mx.example.org".into(),
            own_networks: Vec::new(),
            needs_history: false,
            rules: Arc::new(rules),
            rule_budget: Default::default(),
            rule_time: Duration::from_secs(1),
            config: config.inspection.clone(),
            deep: Default::default(),
        };
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let pipeline = Arc::new(Pipeline::new(standing, None, None, metrics));
        let settings = milter::Config { listen: Endpoint::Inet("127.0.0.1:0".into()), ..milter::Config::default() };
        let listener = Listener::bind(&settings).await.unwrap();
        let endpoint = listener.endpoint();
        let metrics = Arc::new(milter::Metrics::new(&prometheus::Registry::new()).unwrap());
        tokio::spawn(serve(listener, pipeline, Arc::new(settings), metrics, CancellationToken::new()));
        Self { endpoint, outside, sent: AtomicU64::new(0) }
    }

    /// Sends for so long; messages a second and the latest answer.
    async fn load(self: &Arc<Self>, time: Duration) -> (f64, Duration) {
        let started = Instant::now();
        let senders: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let gateway = Arc::clone(self);
                tokio::spawn(async move {
                    let mut mta = door::Mta::connect(&gateway.endpoint).await.unwrap();
                    mta.greet().await;
                    let (mut count, mut latest) = (0u64, Duration::ZERO);
                    while started.elapsed() < time {
                        // Nobody was asked about this one before.
                        let number = gateway.sent.fetch_add(1, Ordering::Relaxed);
                        let text = "All good things come to those who wait. ".repeat(TEXT / 40);
                        let body = format!("Hello, see https://www.a{number}.example/x for more.\r\n{text}\r\n");
                        let began = Instant::now();
                        let frames = mta.message(&format!("message {number}"), body.as_bytes()).await;
                        latest = latest.max(began.elapsed());
                        // Passed on: as it is, or with changes (a tag, when nobody vouches for it).
                        let last = frames.last().map(|(command, _)| char::from(*command));
                        assert!(matches!(last, Some('a' | 'c')), "{last:?}");
                        count += 1;
                    }
                    (count, latest)
                })
            })
            .collect();
        let (mut all, mut latest) = (0, Duration::ZERO);
        for sender in senders {
            let (count, late) = sender.await.unwrap();
            (all, latest) = (all + count, latest.max(late));
        }
        (all as f64 / started.elapsed().as_secs_f64(), latest)
    }

    fn closed(&self) -> Vec<String> {
        let snapshots = self.outside.snapshots();
        let closed = snapshots.into_iter().filter(|one| one.state == BreakerState::Closed);
        closed.map(|one| one.name).collect()
    }
}

/// Asks everything, and is told nothing.
fn hanging(clamd: &Mock, http: &Mock, dns: &Mock, redis: &TcpListener, places: &std::path::Path) -> Config {
    let mut config = Config::default();
    let at = |path: &str| format!("http://{}{path}", http.address());
    config.cache.url = format!("redis://{}", redis.local_addr().unwrap());
    let enrichment = &mut config.enrichment;
    enrichment.allow_networks = vec!["127.0.0.0/8".parse().unwrap()];
    enrichment.sender_auth.resolvers = vec![dns.address()];
    enrichment.clamd.enabled = true;
    enrichment.clamd.address = format!("inet:{}", clamd.address());
    enrichment.clamd.on_failure = OnFailure::Open;
    enrichment.block_lists.enabled = true;
    let zone = |name: &str, of| ZoneConfig { name: name.into(), of, codes: Default::default(), percent: 100 };
    enrichment.block_lists.zones = vec![zone("ip.mock", ZoneOf::Addresses), zone("domain.mock", ZoneOf::Domains)];
    enrichment.block_lists.on_failure = OnFailure::Open;
    enrichment.url_service.enabled = true;
    enrichment.url_service.url = at("/v1/url");
    enrichment.url_service.on_failure = OnFailure::Open;
    enrichment.text_service.enabled = true;
    enrichment.text_service.url = at("/v1/analyse");
    (enrichment.text_service.risk_from, enrichment.text_service.risk_to) = (0.0, 100.0);
    enrichment.text_service.on_failure = OnFailure::Open;
    enrichment.rdap.enabled = true;
    enrichment.rdap.bootstrap_file = Some(places.to_owned());
    config
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let start = async |service| Mock::start(service, 0, Fault::Hang).await.unwrap();
    let (clamd, http, dns) = (start(Service::Clamd).await, start(Service::Http).await, start(Service::Dnsbl).await);
    // A listener that nobody accepts from takes connections and says nothing.
    let redis = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let places = folder.path().join("dns.json");
    let text = serde_json::json!({"services": [[["example", "net"], [format!("http://{}", http.address())]]]});
    std::fs::write(&places, text.to_string()).unwrap();

    let mut none = Config::default();
    none.enrichment.sender_auth.enabled = false;
    let none = Arc::new(Gateway::start(&none).await);
    let config = hanging(&clamd, &http, &dns, &redis, &places);
    let all = Arc::new(Gateway::start(&config).await);

    let (mut opening, mut latest) = (Duration::ZERO, Duration::ZERO);
    while !all.closed().is_empty() {
        let (_, late) = all.load(Duration::from_millis(500)).await;
        (opening, latest) = (opening + Duration::from_millis(500), latest.max(late));
        assert!(opening < Duration::from_secs(30), "closed still: {:?}", all.closed());
    }
    let deadline = config.inspection.deadline_ms;
    println!("{} dependencies hang; while their breakers opened", all.outside.snapshots().len());
    println!("  latest answer       {:8.0} ms (inspection.deadline_ms {deadline})", latest.as_secs_f64() * 1e3);
    let (mut best, mut late) = ([0.0f64; 2], [Duration::ZERO; 2]);
    for _ in 0..ROUNDS {
        for (place, gateway) in [&none, &all].into_iter().enumerate() {
            let (rate, latest) = gateway.load(ROUND).await;
            (best[place], late[place]) = (best[place].max(rate), late[place].max(latest));
        }
    }
    for (place, name) in ["nothing to ask", "all of it hangs"].into_iter().enumerate() {
        let late = late[place].as_secs_f64() * 1e3;
        println!("{name:18} {:8.0} messages a second, best of {ROUNDS}; latest answer {late:.0} ms", best[place]);
    }
    println!("share              {:8.2}", best[1] / best[0]);
}
