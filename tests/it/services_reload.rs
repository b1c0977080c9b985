//! What outlives a reload of the services' settings, what a refused one leaves alone, and lists that died.

use std::time::Duration;

use bytes::Bytes;
use mailweir::analysis::ServiceFacts;
use mailweir::app::mock_services::{Fault, Mock, Service};
use mailweir::egress::{BreakerConfig, BreakerState, CallConfig, RetryConfig, Snapshot};
use mailweir::enrichment::{
    BlockListsConfig, ClamdConfig, Config, OnFailure, Outside, Question, RdapConfig, SenderAuthConfig, ServiceConfig,
    Services, TextServiceConfig, ZoneConfig, ZoneOf,
};
use mailweir::mail::{Connection, Door, Envelope, Message, MessageLimits, Path};
use tempfile::TempDir;

use crate::support::dns::{Answer as Says, Dns};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

async fn ask(services: &Services, from: &str) -> ServiceFacts {
    let raw = Bytes::from(format!("From: {from}\r\nSubject: hello\r\n\r\nHello\r\n"));
    let message = Message::parse(raw.clone(), &MessageLimits::default());
    let envelope = Envelope { sender: Path::new("a@envelope.example"), recipients: vec![Path::new("b@b.example")] };
    let connection = Connection { client_ip: Some("203.0.113.7".parse().unwrap()), ..Connection::unknown(Door::Relay) };
    let question = Question {
        message: &message,
        envelope: &envelope,
        connection: &connection,
        raw: &raw,
        now: 1_795_305_600,
        again: false,
        led_to: &[],
    };
    services.ask(&question, tokio::time::Instant::now() + Duration::from_secs(4)).await
}

fn outside() -> Outside {
    Outside::new(&prometheus::Registry::new()).unwrap()
}

fn of(outside: &Outside, name: &str) -> Option<Snapshot> {
    outside.snapshots().into_iter().find(|one| one.name == name)
}

fn service(look_seconds: u32) -> ServiceConfig {
    let breaker = BreakerConfig {
        consecutive_failures: 3,
        recovery_seconds: 600,
        look_seconds,
        success_threshold: 1,
        ..BreakerConfig::default()
    };
    let retry = RetryConfig { attempts: 1, ..RetryConfig::default() };
    let call = CallConfig { deadline_ms: 1_500, breaker, retry, ..CallConfig::default() };
    ServiceConfig { call, ..ServiceConfig::default() }
}

fn zone(name: &str, of: ZoneOf) -> ZoneConfig {
    ZoneConfig {
        name: name.into(),
        of,
        codes: Default::default(),
        percent: 100,
        test_listed: String::new(),
        test_free: String::new(),
    }
}

fn lists(dns: &Dns, zones: Vec<ZoneConfig>) -> Config {
    Config {
        sender_auth: SenderAuthConfig { resolvers: vec![dns.address], cache_entries: 0, ..SenderAuthConfig::default() },
        block_lists: BlockListsConfig {
            enabled: true,
            zones,
            on_failure: OnFailure::Defer,
            service: ServiceConfig { defer_seconds: 1, ..service(1) },
            ..BlockListsConfig::default()
        },
        ..Config::default()
    }
}

/// Beside one that works: its breaker opens, health hears of it, and its senders are not asked to wait for ever.
#[tokio::test]
async fn a_list_that_died_is_a_dependency_that_fails() {
    let listed = || Says::A(vec![[127, 0, 0, 2].into()]);
    for dead in ["nothing.test", "everything.test"] {
        let dns = Dns::start();
        dns.says("2.0.0.127.good.test", listed());
        for name in ["2.0.0.127.everything.test", "1.0.0.127.everything.test"] {
            dns.says(name, listed());
        }
        let outside = outside();
        let zones = [dead, "good.test"].map(|name| zone(name, ZoneOf::Addresses));
        let services = Services::new(&lists(&dns, zones.to_vec()), &outside).unwrap();
        let means = |facts: &ServiceFacts| services.on_failure(facts, Duration::ZERO);
        let first = ask(&services, "a@firm.example").await;
        assert_eq!(means(&first), OnFailure::Defer, "{first:?}");
        for _ in 0..3 {
            ask(&services, "a@firm.example").await;
        }
        let name = format!("block_list:{dead}");
        let told = of(&outside, &name).unwrap();
        assert_eq!((told.state, told.failed), (BreakerState::Open, 3), "{told:?}");
        assert_eq!(told.success_ratio, Some(0.0));
        assert!(told.last_failure.as_deref().is_some_and(|what| what.contains("RFC 5782")), "{told:?}");
        assert_eq!(of(&outside, "block_list:good.test").unwrap().state, BreakerState::Closed);

        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let later = ask(&services, "a@firm.example").await;
        assert!(later.unknowns().any(|(name, _)| name == "lists"), "{later:?}");
        assert_eq!(means(&later), OnFailure::Open, "it has been dead for longer than a second");

        // It is looked at by its test points, without mail.
        dns.forget(&format!("1.0.0.127.{dead}"));
        if dead == "nothing.test" {
            dns.says("2.0.0.127.nothing.test", listed());
        }
        closes(&services, &outside, &name).await;
    }
}

/// Looks as the gateway does, until the breaker has closed; no mail comes.
async fn closes(services: &Services, outside: &Outside, name: &str) {
    let looking = async {
        while of(outside, name).unwrap().state != BreakerState::Closed {
            services.look().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{name} is not looked at"));
}

#[tokio::test]
async fn senders_cannot_order_any_number_of_questions() {
    let dns = Dns::start();
    dns.says("test.d.test", Says::A(vec![[127, 0, 0, 2].into()]));
    dns.says("envelope.example.d.test", Says::A(vec![[127, 0, 0, 2].into()]));
    let outside = outside();
    let services = Services::new(&lists(&dns, vec![zone("d.test", ZoneOf::Domains)]), &outside).unwrap();
    let from: Vec<String> = (0..1_900).map(|number| format!("a@d{number}.example")).collect();
    let facts = ask(&services, &from.join(",\r\n ")).await;
    let found = facts.lists.known().expect("all that is asked is answered in time");
    assert_eq!(found.listings.len(), 1, "the envelope's is among those that are asked about");
    assert_eq!(found.left_out, 1_891);
    let asked = dns.asked().iter().filter(|name| name.ends_with(".example.d.test")).count();
    assert_eq!(asked, BlockListsConfig::default().max_domains);
    let told = of(&outside, "block_list:d.test").unwrap();
    assert_eq!((told.succeeded, told.failed), (11, 0), "{told:?}");
}

/// A registry that a bootstrap file names, and the settings that ask it.
struct Registries {
    mock: Mock,
    folder: TempDir,
}

impl Registries {
    async fn start() -> Self {
        let registries = Self {
            mock: Mock::start(Service::Http, 0, Fault::None).await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        registries.name(&registries.mock.address().to_string());
        registries
    }

    fn name(&self, place: &str) {
        let places = serde_json::json!({"services": [[["example", "test"], [format!("http://{place}")]]]});
        std::fs::write(self.folder.path().join("dns.json"), places.to_string()).unwrap();
    }

    fn config(&self) -> Config {
        Config {
            allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
            rdap: RdapConfig {
                enabled: true,
                bootstrap_file: Some(self.folder.path().join("dns.json")),
                max_domains: 1,
                service: service(1),
                ..RdapConfig::default()
            },
            ..Config::default()
        }
    }

    fn dependency(&self) -> String {
        format!("rdap:{}", self.mock.address())
    }
}

#[tokio::test]
async fn breakers_looks_and_caches_outlive_a_reload() {
    let registries = Registries::start().await;
    let (outside, name) = (outside(), registries.dependency());
    let before = Services::new(&registries.config(), &outside).unwrap();
    assert!(ask(&before, "a@new.example").await.domains.known().is_some());
    registries.mock.set(Fault::ServerError);
    for number in 0..3 {
        ask(&before, &format!("a@d{number}.test")).await;
    }
    assert_eq!(of(&outside, &name).unwrap().state, BreakerState::Open);

    // As the gateway does it: the new ones are built while the old ones are in use.
    let after = Services::new(&registries.config(), &outside).unwrap();
    drop(before);
    assert_eq!(of(&outside, &name).unwrap().state, BreakerState::Open, "as it was");
    let seen = registries.mock.seen();
    assert!(ask(&after, "a@new.example").await.domains.known().is_some(), "kept");
    assert_eq!(registries.mock.seen(), seen);

    let again = Services::new(&registries.config(), &outside).unwrap();
    drop(after);
    registries.mock.set(Fault::None);
    closes(&again, &outside, &name).await;

    // Of a registry that no file names any more nothing is told, and it is not looked at.
    registries.name("127.0.0.1:9");
    let last = Services::new(&registries.config(), &outside).unwrap();
    assert!(of(&outside, &name).is_none(), "{:?}", outside.snapshots());
    last.look().await;
    assert!(of(&outside, &name).is_none());
}

/// A question that is refused at once says what to ask when it is looked at.
#[tokio::test]
async fn a_registry_is_looked_at_by_what_was_asked_while_it_was_left_alone() {
    let registries = Registries::start().await;
    let (outside, name) = (outside(), registries.dependency());
    let services = Services::new(&registries.config(), &outside).unwrap();
    registries.mock.set(Fault::ServerError);
    for number in 0..3 {
        ask(&services, &format!("a@d{number}.test")).await;
    }
    drop(services);
    // Nobody remembers what was asked, but the breaker is the same.
    let after = Services::new(&registries.config(), &outside).unwrap();
    assert!(ask(&after, "a@later.example").await.domains.unknown().is_some());
    registries.mock.set(Fault::None);
    closes(&after, &outside, &name).await;
}

#[tokio::test]
async fn a_refused_reload_leaves_dependencies_alone() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let clamd =
        ClamdConfig { enabled: true, address: format!("inet:{gone}"), service: service(0), ..ClamdConfig::default() };
    let config = Config { clamd, ..Config::default() };
    let outside = outside();
    let services = Services::new(&config, &outside).unwrap();
    ask(&services, "a@firm.example").await;
    assert_eq!(of(&outside, "clamd").unwrap().failed, 1);

    // Each gives the scanner other settings and fails after that, at another place.
    let mut other = config.clone();
    other.clamd.service.call.concurrent += 1;
    let text = |change: fn(&mut TextServiceConfig)| {
        let mut text =
            TextServiceConfig { enabled: true, url: "http://text.example/".into(), ..TextServiceConfig::default() };
        change(&mut text);
        Config { text_service: text, ..other.clone() }
    };
    let bootstrap_file = Some("/nonexistent/dns.json".into());
    for refused in [
        text(|text| text.url = "nothing".into()),
        text(|text| text.token_file = Some("/nonexistent/token".into())),
        Config { rdap: RdapConfig { enabled: true, bootstrap_file, ..RdapConfig::default() }, ..other.clone() },
    ] {
        assert!(Services::new(&refused, &outside).is_err());
        let names: Vec<String> = outside.snapshots().into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["clamd"]);
    }
    ask(&services, "a@firm.example").await;
    assert_eq!(of(&outside, "clamd").unwrap().failed, 2, "what is told is what is in use");
    // One that is not refused is told at once.
    let _after = Services::new(&other, &outside).unwrap();
    assert_eq!(of(&outside, "clamd").unwrap().failed, 0);
}
