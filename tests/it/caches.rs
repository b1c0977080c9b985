//! The cache that gateways share: a real Redis between two of them, killed, hanging, and back again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mailweir::app::config::Config;
use mailweir::app::mock_services::{Fault, Mock, Service};
use mailweir::app::shelf;
use mailweir::egress::{BreakerState, RateConfig, RetryConfig};
use mailweir::enrichment::{Config as EnrichmentConfig, Outside, Question, Services, Tag, UrlServiceConfig};
use mailweir::mail::{Connection, Door, Envelope, Message, MessageLimits, Path};
use tokio::net::TcpListener;

use crate::support::gateway::{Gateway, free_port};
use crate::support::http::request;
use crate::support::redis::{Keep, Redis, available};
use crate::support::sink::Sink;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// One gateway's services: the URL analyser, and what is behind it.
struct Node {
    services: Services,
    outside: Arc<Outside>,
    registry: prometheus::Registry,
}

fn config(redis: &str, change: impl Fn(&mut Config)) -> Config {
    let mut config = Config::default();
    config.cache.url = redis.to_owned();
    config.cache.follow_ms = 20;
    // A test's machine is slow at times; what a dead Redis costs is asked for elsewhere.
    config.cache.call.deadline_ms = 2_000;
    config.cache.call.breaker.recovery_seconds = 1;
    config.cache.call.breaker.success_threshold = 1;
    change(&mut config);
    config
}

impl Node {
    fn new(analyser: &Mock, config: &Config) -> Self {
        let registry = prometheus::Registry::new();
        let outside = Arc::new(shelf::outside(config, &registry).unwrap());
        let mut url_service = UrlServiceConfig {
            enabled: true,
            url: format!("http://{}/v1/url", analyser.address()),
            ..UrlServiceConfig::default()
        };
        url_service.service.call.rate = RateConfig { per_second: 0, ..RateConfig::default() };
        url_service.service.call.retry = RetryConfig { attempts: 3, ..RetryConfig::default() };
        let services = Services::new(&EnrichmentConfig { url_service, ..Default::default() }, &outside).unwrap();
        Self { services, outside, registry }
    }

    /// Asks about a message with this link; whether there was an answer.
    async fn ask(&self, url: &str) -> bool {
        let raw = Bytes::from(format!("Subject: hello\r\n\r\nsee {url} please\r\n"));
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
        let until = tokio::time::Instant::now() + PATIENCE;
        self.services.ask(&question, until).await.urls.known().is_some()
    }

    fn count(&self, family: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|one| one.name() == family);
        let metrics = family.into_iter().flat_map(|family| family.get_metric());
        let found = metrics.filter(|metric| metric.get_label().iter().any(|pair| pair.value() == label));
        found.map(|metric| metric.get_counter().get_value()).sum()
    }

    fn shared(&self, outcome: &str) -> f64 {
        self.count("mailweir_shared_cache_lookups_total", outcome)
    }

    fn breaker(&self) -> BreakerState {
        self.outside.snapshots().into_iter().find(|one| one.name == "cache").unwrap().state
    }
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("waited for: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gateway_asks_for_all_and_all_forget_what_one_forgets() {
    if !available("caches::one_gateway_asks_for_all") {
        return;
    }
    let redis = Redis::start(Keep::Nothing).await;
    for compress_above_bytes in [0, 1_024] {
        assert!(redis.ask("FLUSHALL").starts_with("+OK"));
        let analyser = Mock::start(Service::Http, 0, Fault::None).await.unwrap();
        let config = config(&redis.url(), |config| config.cache.compress_above_bytes = compress_above_bytes);
        let (one, two) = (Node::new(&analyser, &config), Node::new(&analyser, &config));
        let follower = Arc::clone(&two.outside);
        let following = tokio::spawn(async move { follower.follow().await });

        // A bad one, and one that the analyser never saw: nothing is an answer too.
        let (bad, good) = ("https://www.evil.test/login", "https://www.firm.example/never-seen");
        assert!(one.ask(bad).await && one.ask(good).await);
        assert_eq!(analyser.seen(), 2);
        let kept = || redis.ask("KEYS *answers*:a:url:*").matches("answers}:a:").count();
        until("both are kept", async || kept() == 2).await;
        // What it knew before it followed is forgotten when it begins to: until that is over.
        until("the other follows", async || {
            two.outside.snapshots().iter().any(|one| one.name == "cache" && one.succeeded > 0)
        })
        .await;
        assert!(two.ask(bad).await && two.ask(good).await);
        assert_eq!((analyser.seen(), two.shared("hit")), (2, 2.0), "the other's answers");
        assert!(two.ask(bad).await);
        assert_eq!(two.shared("hit"), 2.0, "out of its own memory");
        let left: i64 = redis.ask("PTTL {mailweir:answers}:state").trim_matches([':', '\r', '\n']).parse().unwrap();
        assert_eq!(left, -1, "the state stays");

        // By the domain; the other learns of it, and only of that.
        one.outside.forget(&[Tag::parse("domain:evil.test").unwrap()]).await.unwrap();
        assert!(one.ask(bad).await && one.ask(good).await);
        assert_eq!(analyser.seen(), 3, "asked again, the other one was not");
        until("the other learns of it", async || {
            two.count("mailweir_service_cache_forgotten_total", "elsewhere") > 0.0
        })
        .await;
        until("the new answer is kept", async || {
            assert!(two.ask(bad).await);
            two.shared("hit") >= 3.0 || analyser.seen() > 3
        })
        .await;
        let before = (two.shared("hit"), analyser.seen());
        assert!(two.ask(good).await);
        assert_eq!((two.shared("hit"), analyser.seen()), before, "nobody forgot this one");

        // By the dependency, and everything.
        for tags in [vec![Tag::dependency("url_service")], Vec::new()] {
            let seen = analyser.seen();
            one.outside.forget(&tags).await.unwrap();
            assert!(one.ask(bad).await && one.ask(good).await);
            assert_eq!(analyser.seen(), seen + 2, "{tags:?}");
        }
        following.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_and_comes_back_costs_no_answer() {
    if !available("caches::a_redis_that_is_killed") {
        return;
    }
    let mut redis = Redis::start(Keep::Nothing).await;
    let analyser = Mock::start(Service::Http, 0, Fault::None).await.unwrap();
    let config = config(&redis.url(), |config| config.cache.call.deadline_ms = 200);
    let node = Arc::new(Node::new(&analyser, &config));
    let follower = Arc::clone(&node.outside);
    let following = tokio::spawn(async move { follower.follow().await });
    let asked = Arc::new(AtomicU32::new(0));
    let askers: Vec<_> = (0..4)
        .map(|asker| {
            let (node, asked) = (Arc::clone(&node), Arc::clone(&asked));
            tokio::spawn(async move {
                for number in 0.. {
                    assert!(node.ask(&format!("https://a{asker}.example/{number}")).await, "{asker} {number}");
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        })
        .collect();
    let more = async |what: &str| {
        let now = asked.load(Ordering::Relaxed);
        until(what, async || asked.load(Ordering::Relaxed) > now + 50).await;
    };
    more("answers with Redis").await;
    for _ in 0..2 {
        redis.kill();
        until("the breaker opens", async || node.breaker() == BreakerState::Open).await;
        more("answers without Redis").await;
        // Forgetting says when it did not get everywhere.
        assert!(node.outside.forget(&[]).await.is_err());
        redis.start_again().await;
        until("the breaker closes", async || node.breaker() == BreakerState::Closed).await;
        let missed = node.shared("miss");
        until("it is asked again", async || node.shared("miss") > missed).await;
    }
    assert!(node.shared("failed") > 0.0);
    for asker in &askers {
        assert!(!asker.is_finished(), "each was answered each time");
        asker.abort();
    }
    following.abort();
}

/// A server that comes back from a dump older than a forgetting has what was forgotten: it is not given out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_forgotten_does_not_come_back_with_an_old_dump() {
    if !available("caches::what_was_forgotten_does_not_come_back") {
        return;
    }
    let mut redis = Redis::start(Keep::Nothing).await;
    let analyser = Mock::start(Service::Http, 0, Fault::None).await.unwrap();
    let config = config(&redis.url(), |_| ());
    let bad = "https://www.evil.test/login";
    let kept = |redis: &Redis| redis.ask("KEYS *answers*:a:url:*").matches("answers}:a:").count();
    // Somebody saw the forgetting, or nobody did who is still there.
    for seen_by_others in [true, false] {
        assert!(redis.ask("FLUSHALL").starts_with("+OK"));
        let follow = |node: &Node| {
            let follower = Arc::clone(&node.outside);
            tokio::spawn(async move { follower.follow().await })
        };
        let follows = async |node: &Node| {
            let succeeded = || node.outside.snapshots().iter().find(|one| one.name == "cache").unwrap().succeeded;
            let before = succeeded();
            until("it follows", async || succeeded() > before).await;
        };
        let one = Node::new(&analyser, &config);
        let following = follow(&one);
        follows(&one).await;
        assert!(one.ask(bad).await);
        until("it is kept", async || kept(&redis) == 1).await;
        assert!(redis.ask("SAVE").starts_with("+OK"));
        one.outside.forget(&[Tag::parse("domain:evil.test").unwrap()]).await.unwrap();
        if !seen_by_others {
            following.abort();
        }
        redis.kill();
        redis.start_again().await;
        assert_eq!(kept(&redis), 1, "the dump has it");
        let two = Node::new(&analyser, &config);
        let also_following = follow(&two);
        follows(if seen_by_others { &one } else { &two }).await;
        let seen = analyser.seen();
        assert!(two.ask(bad).await);
        assert_eq!(analyser.seen(), seen + 1, "asked again; seen by others: {seen_by_others}");
        following.abort();
        also_following.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_costs_its_deadline_until_its_breaker_opens() {
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let hanging = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            held.push(stream);
        }
    });
    let analyser = Mock::start(Service::Http, 0, Fault::None).await.unwrap();
    let node = Node::new(&analyser, &config(&url, |config| config.cache.call = Config::default().cache.call));
    for number in 0..20 {
        assert!(node.ask(&format!("https://a.example/{number}")).await);
    }
    assert_eq!(node.breaker(), BreakerState::Open);
    assert_eq!((analyser.seen(), node.shared("failed")), (20, 20.0));
    let tried = node.count("mailweir_dependency_calls_total", "timeout")
        + node.count("mailweir_dependency_calls_total", "unreachable");
    assert!(tried <= 8.0, "{tried} look-ups waited");
    hanging.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_http_and_by_command() {
    if !available("caches::by_http_and_by_command") {
        return;
    }
    let redis = Redis::start(Keep::Nothing).await;
    let http = free_port();
    let settings = format!(
        "[http]\nenabled = true\nlisten = \"{http}\"\n[cache]\nurl = \"{}\"\n[cache.call]\ndeadline_ms = 2000\n",
        redis.url()
    );
    let gateway = Gateway::start_with(Sink::start().await.address, &settings).await;
    let file = gateway.data().join("admin.token");
    until("there is a token", async || file.exists()).await;
    until("it answers", async || tokio::net::TcpStream::connect(http).await.is_ok()).await;
    let token = std::fs::read_to_string(file).unwrap();
    let authorization = format!("Authorization: Bearer {}", token.trim());
    let post = async |body: &str| {
        let headers = [authorization.as_str(), "Content-Type: application/json"];
        request(http, "POST", "/api/v1/caches/invalidations", &headers, body).await
    };
    for (body, status, words) in [
        (r#"{"tags": ["host:WWW.evil.test"]}"#, 200, "host:www.evil.test"),
        (r#"{"dependency": "rdap"}"#, 200, "dependency:rdap"),
        (r#"{"everything": true}"#, 200, "redis://127.0.0.1"),
        (r"{}", 400, "everything"),
        (r#"{"everything": true, "dependency": "rdap"}"#, 400, "both"),
        (r#"{"tags": ["all"]}"#, 400, "is no tag"),
    ] {
        let answer = post(body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(answer.text().contains(words), "{body}: {}", answer.text());
    }
    assert!(redis.ask("HGET {mailweir:answers}:state number").contains("\r\n3\r\n"));
    let done = gateway.command(&["cache", "flush", "--tag", "domain:evil.test", "--json"]).await;
    assert!(done.ok && done.text().contains("domain:evil.test"), "{}", done.stderr);
    assert!(redis.ask("ZRANGE {mailweir:answers}:tags 0 -1").contains("domain:evil.test"));
}
