//! What the way out adds to a call: `cargo bench --bench egress`. Prints nanoseconds, best of rounds.
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::panic, clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use mailweir::app::mock_services::{Fault, Mock, Service};
use mailweir::egress::{CallConfig, Failure, RateConfig, Repeat};
use mailweir::enrichment::{ClamdConfig, Config, FunctionAsk, Outside, Question, Services, UrlServiceConfig};
use mailweir::mail::{Connection, Door, Envelope, Message, MessageLimits, Path};

const ROUNDS: usize = 9;
const CALLS: u32 = 20_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outside = Outside::new(&prometheus::Registry::new()).unwrap();
    // As fast as it goes, and both limits in effect.
    let rate = RateConfig { per_second: 1_000_000_000, burst: 1_000_000_000, ..RateConfig::default() };
    let call = CallConfig { rate, ..CallConfig::default() };
    let dependency = outside.dependencies.dependency("bench", &call);
    measure("a call that answers at once", async || {
        let answer = dependency.call(Repeat::Safe, None, |_| std::future::ready(Ok::<_, Failure>(1))).await;
        assert!(black_box(answer).is_ok());
    })
    .await;
    let failing = outside.dependencies.dependency("failing", &call);
    measure("a call that the breaker refuses", async || {
        let fail = |_| std::future::ready(Err::<(), _>(Failure::malformed("bench")));
        assert!(black_box(failing.call(Repeat::Never, None, fail).await).is_err());
    })
    .await;

    // Breaker, limiter, and the cache that answers for them: a link that was asked about before.
    let http = Mock::start(Service::Http, 0, Fault::None).await.unwrap();
    let mut url_service = UrlServiceConfig {
        enabled: true,
        url: format!("http://{}/v1/url", http.address()),
        ..UrlServiceConfig::default()
    };
    url_service.service.fresh_seconds = 3_600;
    let links = Services::new(&Config { url_service, ..Config::default() }, &outside).unwrap();
    let ask = FunctionAsk::Link {
        url: "https://www.firm.example/x".into(),
        mode: None,
        untouchable: Default::default(),
        follow: false,
    };
    measure("a rule's question out of the cache", async || {
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(1);
        assert!(black_box(links.answer(&ask, 0, until).await).known().is_some());
    })
    .await;
    assert_eq!(http.seen(), 1, "the cache was asked");

    let clamd = Mock::start(Service::Clamd, 0, Fault::None).await.unwrap();
    let settings =
        ClamdConfig { enabled: true, address: format!("inet:{}", clamd.address()), ..ClamdConfig::default() };
    let services = Services::new(&Config { clamd: settings, ..Config::default() }, &outside).unwrap();
    let raw = Bytes::from_static(b"Subject: hello\r\n\r\nhello\r\n");
    let message = Message::parse(raw.clone(), &MessageLimits::default());
    let envelope = Envelope { sender: Path::new("a@a.example"), recipients: vec![Path::new("b@b.example")] };
    let connection = Connection::unknown(Door::Scan);
    let question = Question {
        message: &message,
        envelope: &envelope,
        connection: &connection,
        raw: &raw,
        now: 0,
        again: false,
        led_to: &[],
    };
    measure("an answer out of the cache", async || {
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(1);
        let facts = services.ask(&question, until).await;
        assert!(black_box(facts.malware.known()).is_some());
    })
    .await;
    assert_eq!(clamd.seen(), 1, "the cache was asked");
}

async fn measure(name: &str, work: impl AsyncFn()) {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for _ in 0..CALLS {
            work().await;
        }
        best = best.min(started.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS));
    }
    println!("{name:34} {best:8.0} ns");
}
