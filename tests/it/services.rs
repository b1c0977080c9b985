//! Services that are asked about messages: what they find, and what happens when each breaks in every way.
//!
//! Longer than most: one fixture, and each test a table or a story of its own; the real clamd stands at the end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mailweir::analysis::{Code, ListingOf, Site};
use mailweir::app::mock_services::{Fault, Mock, Service};
use mailweir::egress::{BreakerConfig, BreakerState, CallConfig, RetryConfig};
use mailweir::enrichment::{
    BlockListsConfig, ClamdConfig, Config, FunctionsConfig, OnFailure, Outside, PersonalLinks, RdapConfig, SenderAuth,
    SenderAuthConfig, ServiceConfig, Services, TextDialect, TextServiceConfig, UrlServiceConfig, ZoneConfig, ZoneOf,
};
use mailweir::mail::{Connection, Door, Envelope, MessageId, Path};
use mailweir::pipeline::{self, Abilities, Answer, Inspect, Metrics, Pipeline, Standing, Transaction};
use mailweir::policy::mql::{Capability, Needs};
use mailweir::policy::{self, Action, Feed, Judge, PolicyFiles, RuleFile, RuleSet};
use mailweir::records::Record;
use tempfile::TempDir;

use crate::support::clamd::{self, Clamd, EICAR};
use crate::support::dns::{Answer as Says, Dns};

/// All mock services, and a pipeline that asks them.
struct Scene {
    clamd: Mock,
    http: Mock,
    dns: Mock,
    folder: TempDir,
}

/// Which service is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
enum One {
    Clamd,
    Lists,
    Urls,
    Text,
    Chat,
    Rdap,
}

const ALL: [One; 6] = [One::Clamd, One::Lists, One::Urls, One::Text, One::Chat, One::Rdap];

impl One {
    /// The fact that it fills.
    fn fact(self) -> &'static str {
        match self {
            Self::Clamd => "malware",
            Self::Lists => "lists",
            Self::Urls => "urls",
            Self::Text | Self::Chat => "text",
            Self::Rdap => "domains",
        }
    }

    /// The names of its dependencies.
    fn dependencies(self) -> &'static [&'static str] {
        match self {
            Self::Clamd => &["clamd"],
            Self::Lists => &["block_list:ip.mock", "block_list:domain.mock"],
            Self::Urls => &["url_service"],
            Self::Text | Self::Chat => &["text_service"],
            Self::Rdap => &["rdap"],
        }
    }
}

impl Scene {
    async fn start() -> Self {
        let start = async |service| Mock::start(service, 0, Fault::None).await.unwrap();
        let (clamd, http, dns) = (start(Service::Clamd).await, start(Service::Http).await, start(Service::Dnsbl).await);
        let folder = tempfile::tempdir().unwrap();
        let places = serde_json::json!({"services": [[["example", "test"], [format!("http://{}", http.address())]]]});
        std::fs::write(folder.path().join("dns.json"), places.to_string()).unwrap();
        Self { clamd, http, dns, folder }
    }

    fn mock(&self, one: One) -> &Mock {
        match one {
            One::Clamd => &self.clamd,
            One::Lists => &self.dns,
            One::Urls | One::Text | One::Chat | One::Rdap => &self.http,
        }
    }

    /// Settings that ask these services, quick to give up, and with nothing kept.
    fn config(&self, which: &[One]) -> Config {
        let breaker = BreakerConfig {
            consecutive_failures: 3,
            recovery_seconds: 1,
            success_threshold: 1,
            ..BreakerConfig::default()
        };
        let retry = RetryConfig { attempts: 1, ..RetryConfig::default() };
        let call = CallConfig { deadline_ms: 1_500, max_answer_bytes: 4_096, breaker, retry, ..CallConfig::default() };
        let service = ServiceConfig { cache_entries: 0, call, ..ServiceConfig::default() };
        let on = |one| which.contains(&one);
        let zone = |name: &str, of| ZoneConfig {
            name: name.into(),
            of,
            codes: Default::default(),
            percent: 100,
            test_listed: String::new(),
            test_free: String::new(),
        };
        let at = |path: &str| format!("http://{}{path}", self.http.address());
        Config {
            allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
            sender_auth: SenderAuthConfig {
                resolvers: vec![self.dns.address()],
                query_ms: 200,
                cache_entries: 0,
                ..SenderAuthConfig::default()
            },
            clamd: ClamdConfig {
                enabled: on(One::Clamd),
                address: format!("inet:{}", self.clamd.address()),
                on_failure: OnFailure::Open,
                service: service.clone(),
                ..ClamdConfig::default()
            },
            block_lists: BlockListsConfig {
                enabled: on(One::Lists),
                zones: vec![zone("ip.mock", ZoneOf::Addresses), zone("domain.mock", ZoneOf::Domains)],
                service: service.clone(),
                ..BlockListsConfig::default()
            },
            url_service: UrlServiceConfig {
                enabled: on(One::Urls),
                url: at("/v1/url"),
                service: service.clone(),
                ..UrlServiceConfig::default()
            },
            text_service: TextServiceConfig {
                enabled: on(One::Text) || on(One::Chat),
                url: at(if on(One::Chat) { "/v1/chat/completions" } else { "/v1/analyse" }),
                dialect: if on(One::Chat) { TextDialect::Chat } else { TextDialect::Plain },
                risk_from: 0.0,
                risk_to: 100.0,
                service: service.clone(),
                ..TextServiceConfig::default()
            },
            rdap: RdapConfig {
                enabled: on(One::Rdap),
                bootstrap_file: Some(self.folder.path().join("dns.json")),
                service,
                ..RdapConfig::default()
            },
            ..Config::default()
        }
    }
}

/// A pipeline over the services of a configuration, and what it stands on.
fn pipeline(config: &Config) -> (Pipeline, Arc<Outside>) {
    pipeline_with(config, RuleSet::build(Vec::new(), Arc::default(), &Default::default(), &Default::default()).0)
}

fn pipeline_with(config: &Config, rules: RuleSet) -> (Pipeline, Arc<Outside>) {
    let outside = Arc::new(Outside::new(&prometheus::Registry::new()).unwrap());
    let standing = Standing {
        judge: Judge::new(&policy::Config::default(), &PolicyFiles::default()).unwrap(),
        site: Site::default(),
        sender_auth: SenderAuth::offline(),
        services: Services::new(config, &outside).unwrap(),
        authserv_id: "mx.example.org".into(),
        own_networks: vec!["10.0.0.0/8".parse().unwrap()],
        needs_history: false,
        rules: Arc::new(rules),
        rule_budget: Default::default(),
        rule_time: Duration::from_secs(1),
        config: pipeline::Config::default(),
        deep: Default::default(),
    };
    let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
    (Pipeline::new(standing, None, None, metrics), outside)
}

fn transaction(ip: &str, sender: &str, body: &str) -> Transaction {
    let raw = format!(
        "From: A <{sender}>\r\nTo: user@example.org\r\nSubject: hello\r\nDate: Fri, 20 Nov 2026 10:00:00 +0000\r\n\
         Message-ID: <1@m.example>\r\n\r\n{body}\r\n"
    );
    let connection = Connection { client_ip: Some(ip.parse().unwrap()), ..Connection::unknown(Door::Relay) };
    Transaction {
        id: MessageId::new(1, [1; 10]),
        connection: Arc::new(connection),
        envelope: Envelope { sender: Path::new(sender), recipients: vec![Path::new("user@example.org")] },
        raw: Bytes::from(raw),
        // 2026-11-22T00:00:00Z
        received: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_305_600),
        abilities: Abilities { edit_headers: true, drop_recipients: true, hold_at_mta: false },
    }
}

async fn judge(pipeline: &Pipeline, transaction: &Transaction) -> Record {
    let standing = pipeline.standing();
    let deadline = Duration::from_millis(standing.config.deadline_ms);
    // Far above what a judgement may take: this is for one that never ends.
    let judged = tokio::time::timeout(deadline * 5, pipeline.judge(&standing, transaction)).await;
    judged.expect("a message is answered in its time").record
}

fn has(record: &Record, code: Code) -> bool {
    record.score.terms.iter().any(|term| term.code == code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_services_find_becomes_evidence() {
    let scene = Scene::start().await;
    let (pipeline, _) = pipeline(&scene.config(&[One::Clamd, One::Lists, One::Urls, One::Text, One::Rdap]));
    let body = format!("Your password: https://evil.test/login and https://new.example/ {EICAR}");
    let bad = judge(&pipeline, &transaction("203.0.113.66", "a@evil.example", &body)).await;
    assert_eq!(bad.degraded, Vec::<String>::new(), "{:?}", bad.facts);
    for code in [
        Code::MalwareFound,
        Code::ListedClient,
        Code::ListedSender,
        Code::ListedLink,
        Code::UrlBad,
        Code::TextPhishing,
        Code::YoungLink,
    ] {
        assert!(has(&bad, code), "{code} is not in {:?}", bad.score.terms);
    }
    assert_eq!(bad.verdicts[0].verdict.action, Action::Reject, "malware is refused");
    let listed = &bad.facts.services.lists.known().unwrap().listings;
    let client = listed.iter().find(|one| one.of == ListingOf::Client).unwrap();
    assert_eq!((client.zone.as_str(), client.meaning.as_str()), ("ip.mock", "127.0.0.2"));

    let good = judge(&pipeline, &transaction("203.0.113.7", "a@firm.example", "Hello https://firm.example/x")).await;
    assert_eq!(good.degraded, Vec::<String>::new());
    for code in [Code::MalwareFound, Code::ListedClient, Code::ListedSender, Code::ListedLink, Code::UrlBad]
        .into_iter()
        .chain([Code::TextPhishing, Code::YoungSender, Code::YoungLink, Code::ServiceUnknown])
    {
        assert!(!has(&good, code), "{code} is in {:?}", good.score.terms);
    }
    assert!(good.facts.services.malware.known().unwrap().is_empty());

    // Our own clients are nobody's business.
    let before = scene.dns.seen();
    let own = judge(&pipeline, &transaction("10.1.2.3", "a@192.0.2.1", "Hello")).await;
    assert!(own.facts.services.lists.known().unwrap().listings.is_empty());
    assert_eq!(scene.dns.seen(), before);
}

/// Rules that hang on services; the last must not match when nobody answers.
fn asking_rules(given: Needs) -> RuleSet {
    let sources = [
        ("young", "network.whois(sender.email.domain).days_old < 30"),
        ("link", "any(body.links, ml.link_analysis(.).credphish.disposition == 'phishing')"),
        (
            "intent",
            "any(ml.nlu_classifier(body.current_thread.text).intents, .name == 'cred_theft' and .confidence == 'high')",
        ),
        ("not benign", "not any(ml.nlu_classifier(body.current_thread.text).intents, .name == 'cred_theft')"),
    ];
    let feed = Arc::new(Feed::own("test", "test"));
    let files = sources.map(|(name, source)| {
        let text = format!("name: {name}\ntype: rule\nseverity: high\nsource: \"{source}\"\n");
        (Arc::clone(&feed), RuleFile::parse_in_feed(name, name, &text).unwrap())
    });
    let (rules, errors) = RuleSet::build_with(
        files.into(),
        Arc::default(),
        (&Default::default(), &Default::default()),
        &Default::default(),
        given,
    );
    assert!(errors.is_empty(), "{errors:?}");
    rules
}

/// A rule can read that something gave no answer, and say what follows; what is switched off is not missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_reads_what_is_missing() {
    let feed = Arc::new(Feed::own("test", "test"));
    let rules = || {
        let sources = [
            ("no scanner", "mailweir.unanswered('malware') and strings.icontains(body.current_thread.text, 'hello')"),
            ("no list", "mailweir.unanswered('lists')"),
            ("scanned", "not mailweir.unanswered('malware')"),
            ("no fact", "mailweir.unanswered('malwear')"),
        ];
        let files = sources.map(|(name, source)| {
            let text = format!("name: {name}\ntype: rule\nseverity: high\nsource: \"{source}\"\n");
            (Arc::clone(&feed), RuleFile::parse_in_feed(name, name, &text).unwrap())
        });
        let (rules, errors) = RuleSet::build(files.into(), Arc::default(), &Default::default(), &Default::default());
        assert!(errors.is_empty(), "{errors:?}");
        rules
    };
    let scene = Scene::start().await;
    let hello = transaction("203.0.113.7", "a@firm.example", "Hello");
    let (off, _) = pipeline_with(&scene.config(&[]), rules());
    assert_eq!(matched(&judge(&off, &hello).await), ["scanned"]);
    let (on, _) = pipeline_with(&scene.config(&[One::Clamd, One::Lists]), rules());
    assert_eq!(matched(&judge(&on, &hello).await), ["scanned"]);
    scene.clamd.set(Fault::ServerError);
    assert_eq!(matched(&judge(&on, &hello).await), ["no scanner"]);
    scene.clamd.set(Fault::None);
    assert_eq!(matched(&judge(&on, &hello).await), ["scanned"]);
}

/// Domains that do not answer are their owners' business; a resolver that knows nothing at all is left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resolver_that_hangs_is_left_alone_and_silent_domains_are_not_its_fault() {
    let dns = Dns::start();
    dns.says("slow.example", Says::Silence);
    dns.says("_dmarc.slow.example", Says::Silence);
    let outside = Outside::new(&prometheus::Registry::new()).unwrap();
    let auth = |resolver| {
        let breaker = BreakerConfig { recovery_seconds: 600, ..BreakerConfig::default() };
        let config = SenderAuthConfig {
            resolvers: vec![resolver],
            query_ms: 100,
            deadline_ms: 400,
            cache_entries: 0,
            breaker,
            ..SenderAuthConfig::default()
        };
        SenderAuth::new(&config, "mx.example.org").unwrap().guarded(&outside).unwrap()
    };
    let message = transaction("203.0.113.7", "a@slow.example", "Hello");
    let ask = async |auth: &SenderAuth| auth.ask(&message.connection, &message.envelope.sender, &message.raw).await;
    let resolver = || outside.snapshots().into_iter().find(|one| one.name == "resolver").unwrap();
    let well = auth(dns.address);
    for _ in 0..8 {
        let facts = ask(&well).await;
        assert!(facts.spf.unknown().is_some_and(|why| why.is_failure()), "{:?}", facts.spf);
    }
    assert_eq!((resolver().state, resolver().failed), (BreakerState::Closed, 0));

    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    outside.dependencies.commit(|_| false);
    let ill = auth(silent.local_addr().unwrap());
    for _ in 0..5 {
        assert!(ask(&ill).await.spf.unknown().is_some_and(|why| why.is_failure()));
    }
    assert_eq!(resolver().state, BreakerState::Open);
    let facts = ask(&ill).await;
    assert_eq!(
        (facts.spf.unknown(), facts.client_ip),
        (Some(mailweir::analysis::Why::BreakerOpen), message.connection.client_ip)
    );
}

/// Stages that are no services: DNS about the sender, and a message with more than is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_failure_policy_of_stages_decides() {
    use mailweir::pipeline::StagesConfig;
    let scene = Scene::start().await;
    // Nobody answers there.
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let auth = SenderAuthConfig {
        resolvers: vec![silent.local_addr().unwrap()],
        query_ms: 50,
        deadline_ms: 200,
        ..SenderAuthConfig::default()
    };
    let (pipeline, _) = self::pipeline(&scene.config(&[]));
    let hello = || transaction("203.0.113.7", "a@firm.example", "Hello https://a.example https://b.example");
    for (sender_auth, unread, defer_seconds, wanted) in [
        (OnFailure::Open, OnFailure::Open, 300, "deliver"),
        (OnFailure::Defer, OnFailure::Open, 300, "later"),
        (OnFailure::Defer, OnFailure::Open, 0, "deliver"),
        (OnFailure::Closed, OnFailure::Open, 300, "hold"),
        (OnFailure::Open, OnFailure::Closed, 300, "hold"),
        (OnFailure::Open, OnFailure::Defer, 300, "hold"),
        (OnFailure::Defer, OnFailure::Closed, 300, "hold"),
    ] {
        let old = pipeline.standing();
        let on_failure = StagesConfig { sender_auth, unread, defer_seconds, ..StagesConfig::default() };
        let mut config = mailweir::pipeline::Config { on_failure, ..Default::default() };
        config.message.max_links = 1;
        pipeline.replace(Standing {
            judge: Judge::new(&policy::Config::default(), &PolicyFiles::default()).unwrap(),
            site: Site::default(),
            sender_auth: SenderAuth::new(&auth, "mx.example.org").unwrap(),
            services: Services::default(),
            authserv_id: "mx.example.org".into(),
            own_networks: Vec::new(),
            needs_history: false,
            rules: Arc::clone(&old.rules),
            rule_budget: Default::default(),
            rule_time: Duration::from_secs(1),
            config,
            deep: Default::default(),
        });
        let answer = pipeline.inspect(hello()).await;
        let is = match &answer {
            // There are no records here to hold it in: 451 and never 250.
            Answer::Defer(refusal) if refusal.enhanced == [4, 3, 0] => "hold",
            Answer::Defer(_) => "later",
            Answer::Deliver { held, .. } if held.is_empty() => "deliver",
            _ => "something else",
        };
        assert_eq!(is, wanted, "{sender_auth:?} {unread:?} {defer_seconds}: {answer:?}");
    }
}

fn matched(record: &Record) -> Vec<&str> {
    let mut names: Vec<&str> = record.rules.matches.iter().map(|one| one.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_ask_services_within_the_deadline() {
    let scene = Scene::start().await;
    let all = [Capability::Nlu, Capability::Whois, Capability::LinkAnalysis];
    let given = all.into_iter().fold(Needs::NONE, |needs, one| needs.and(Needs::of(one)));
    let config = scene.config(&[One::Urls, One::Text, One::Rdap]);
    let evil = transaction("203.0.113.7", "a@mail.new.example", "Your password: https://evil.test/login");
    let undecided = |record: &Record| record.rules.undecided.clone();

    let (asking, _) = pipeline_with(&config, asking_rules(given));
    let record = judge(&asking, &evil).await;
    assert_eq!(matched(&record), ["intent", "link", "young"], "{:?}", record.rules);
    assert_eq!((undecided(&record), record.degraded.len()), (Vec::new(), 0), "{:?}", record.degraded);
    let whois = record.facts.answers.get("network.whois", "mail.new.example").unwrap();
    assert_eq!((whois["found"].as_bool(), whois["days_old"].as_i64()), (Some(true), Some(2)));
    // Frozen: what is read back is what was known.
    let read: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
    assert_eq!(read.facts.answers, record.facts.answers);

    // The chat dialect answers the same functions, if the model gives the member; the mock's does not.
    let (chat, _) = pipeline_with(&scene.config(&[One::Chat]), asking_rules(Needs::of(Capability::Nlu)));
    let record = judge(&chat, &evil).await;
    assert_eq!(matched(&record), Vec::<&str>::new());
    assert!(undecided(&record).contains(&("nlu".to_owned(), 2)), "{:?}", record.rules);

    // Nobody is asked more often than the settings allow, and what was not asked is not known.
    let functions = FunctionsConfig { max_asks: 1, ..FunctionsConfig::default() };
    let (frugal, _) = pipeline_with(&Config { functions, ..config.clone() }, asking_rules(given));
    let record = judge(&frugal, &evil).await;
    assert_eq!(
        matched(&record).len() + undecided(&record).iter().map(|(_, n)| n).sum::<usize>(),
        4,
        "{:?}",
        record.rules
    );
    assert!(matched(&record).len() <= 1, "{:?}", record.rules);

    // An answer that is too large is none.
    let functions = FunctionsConfig { max_answer_bytes: 10, ..FunctionsConfig::default() };
    let (narrow, _) = pipeline_with(&Config { functions, ..config.clone() }, asking_rules(given));
    let record = judge(&narrow, &evil).await;
    assert!(matched(&record).is_empty() && record.facts.answers.is_empty(), "{:?}", record.rules);
    assert!(record.degraded.contains(&"whois=too_large".to_owned()), "{:?}", record.degraded);

    // Services that fail leave it undecided, whichever way: neither a match of what is negated nor a clean word.
    for fault in [Fault::Hang, Fault::Garbage, Fault::ServerError] {
        scene.http.set(fault);
        let (asking, _) = pipeline_with(&config, asking_rules(given));
        let record = judge(&asking, &evil).await;
        assert_eq!(matched(&record), Vec::<&str>::new(), "{fault:?}");
        assert_eq!(undecided(&record).iter().map(|(_, n)| n).sum::<usize>(), 4, "{fault:?} {:?}", record.rules);
        for what in ["nlu=", "whois=", "link_analysis="] {
            assert!(record.degraded.iter().any(|mark| mark.starts_with(what)), "{fault:?} {:?}", record.degraded);
        }
    }

    // Rules that rest on services that nobody gives are not run, and ask nothing.
    scene.http.set(Fault::None);
    let (deaf, _) = pipeline_with(&scene.config(&[]), asking_rules(Needs::NONE));
    let before = scene.http.seen();
    let record = judge(&deaf, &evil).await;
    assert_eq!((matched(&record), scene.http.seen() - before), (Vec::new(), 0));
    assert_eq!(record.degraded, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chat_dialect_and_the_band() {
    let scene = Scene::start().await;
    let mut config = scene.config(&[One::Chat]);
    let phish = transaction("203.0.113.7", "a@firm.example", "Please verify your password");
    let (asked, _) = pipeline(&config);
    let record = judge(&asked, &phish).await;
    assert!(has(&record, Code::TextPhishing), "{:?}", record.facts.services.text);
    config.text_service.risk_from = 99.0;
    let (never, _) = pipeline(&config);
    let before = scene.http.seen();
    let record = judge(&never, &phish).await;
    assert!(!has(&record, Code::TextPhishing) && record.degraded.is_empty());
    assert_eq!(scene.http.seen(), before, "clear cases are not asked about");
}

/// One service, one fault: marked while broken, left alone after three failures, well again after it is mended.
async fn breaks_and_recovers(one: One, fault: Fault) -> (u32, Duration) {
    let what = format!("{one:?} {fault:?}");
    let scene = Scene::start().await;
    let (pipeline, outside) = pipeline(&scene.config(&[one]));
    let message = transaction("203.0.113.7", "a@firm.example", "Hello https://firm.example/x");
    let ask = async || judge(&pipeline, &message).await;
    let state = |wanted: BreakerState| {
        let snapshots = outside.dependencies.snapshots();
        // A registry is known by its host.
        let called = |is: &str, name: &str| is == name || (name == "rdap" && is.starts_with("rdap:"));
        let of = |name: &&str| snapshots.iter().any(|s| called(&s.name, name) && s.state == wanted);
        one.dependencies().iter().all(of)
    };
    let begun = tokio::time::Instant::now();
    while let degraded = ask().await.degraded
        && !degraded.is_empty()
    {
        // A machine that is busy with something else.
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: well at first: {degraded:?}");
    }
    // What the resolver remembers for a second must be forgotten.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    scene.mock(one).set(fault);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut asked = 0;
    while !state(BreakerState::Open) {
        asked += 1;
        assert!(asked < 100, "{what}: the breaker does not open: {:?}", outside.dependencies.snapshots());
        let record = ask().await;
        let marked = record.degraded.iter().any(|mark| mark.starts_with(&format!("{}=", one.fact())));
        assert!(marked, "{what}: not marked: {:?} {:?}", record.degraded, record.facts.services);
        assert!(has(&record, Code::ServiceUnknown), "{what}");
        assert!(!has(&record, Code::MalwareFound) && !has(&record, Code::ListedClient), "{what}");
        if fault == Fault::TooMany {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    scene.mock(one).set(Fault::None);
    let mended = tokio::time::Instant::now();
    loop {
        let record = ask().await;
        if record.degraded.is_empty() && state(BreakerState::Closed) {
            return (asked, mended.elapsed());
        }
        assert!(mended.elapsed() < Duration::from_secs(30), "{what}: not recovered: {:?}", record.degraded);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_service_breaks_in_every_way_and_recovers() {
    let mut all = tokio::task::JoinSet::new();
    for one in ALL {
        for fault in Fault::BROKEN {
            all.spawn(async move { (one, fault, breaks_and_recovers(one, fault).await) });
            // Some at a time: the machine is small, the deadlines are real.
            if all.len() >= 8 {
                print_row(all.join_next().await.unwrap().unwrap());
            }
        }
    }
    while let Some(done) = all.join_next().await {
        print_row(done.unwrap());
    }
}

fn print_row((one, fault, (asked, recovered)): (One, Fault, (u32, Duration))) {
    println!("{one:?}\t{fault:?}\tmessages until the breaker opened: {asked}\tback after {recovered:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_failure_policy_decides() {
    let scene = Scene::start().await;
    scene.clamd.set(Fault::ServerError);
    let hello = || transaction("203.0.113.7", "a@firm.example", "Hello");
    for (on_failure, defer_seconds) in [(OnFailure::Open, 300), (OnFailure::Defer, 0), (OnFailure::Defer, 300)]
        .into_iter()
        .chain([(OnFailure::Closed, 0)])
    {
        let mut config = scene.config(&[One::Clamd]);
        config.clamd.on_failure = on_failure;
        config.clamd.service.defer_seconds = defer_seconds;
        let (pipeline, _) = pipeline(&config);
        let answer = pipeline.inspect(hello()).await;
        let as_wanted = match (on_failure, defer_seconds) {
            (OnFailure::Defer, 300) => matches!(&answer, Answer::Defer(refusal) if refusal.code == 451),
            // There are no records here to hold it in: 451 and never 250.
            (OnFailure::Closed, _) => matches!(&answer, Answer::Defer(refusal) if refusal.enhanced == [4, 3, 0]),
            _ => matches!(&answer, Answer::Deliver { held, .. } if held.is_empty()),
        };
        assert!(as_wanted, "{on_failure:?} {defer_seconds}: {answer:?}");
    }
    // What is too large for the scanner is not scanned, and trying later would not change it.
    scene.clamd.set(Fault::None);
    let mut config = scene.config(&[One::Clamd]);
    config.clamd.on_failure = OnFailure::Defer;
    config.clamd.max_stream_bytes = 10;
    let (pipeline, outside) = pipeline(&config);
    let answer = pipeline.inspect(hello()).await;
    assert!(matches!(answer, Answer::Deliver { .. }), "{answer:?}");
    assert_eq!(judge(&pipeline, &hello()).await.degraded, ["malware=declined"]);
    assert_eq!(outside.dependencies.snapshots()[0].failed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_fails_always_is_deferred_no_longer_than_others() {
    let scene = Scene::start().await;
    let mut config = scene.config(&[One::Clamd]);
    config.clamd.on_failure = OnFailure::Defer;
    config.clamd.service.defer_seconds = 1;
    let (pipeline, outside) = pipeline(&config);
    // Each try with the time that the hop before writes, as Postfix does before a proxy.
    let tries = std::cell::Cell::new(0);
    let failing = |what: &str| {
        let transaction = transaction("203.0.113.7", "a@firm.example", what);
        tries.set(tries.get() + 1);
        let trace = format!("Received: from a.example\r\n\tby mx.example; 20 Nov 2026 10:00:0{}\r\n", tries.get());
        Transaction { raw: Bytes::from([trace.as_bytes(), &transaction.raw].concat()), ..transaction }
    };
    let deferred = |answer: Answer| matches!(answer, Answer::Defer(refusal) if refusal.code == 451);
    scene.clamd.set(Fault::ServerError);
    assert!(deferred(pipeline.inspect(failing("one")).await));
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    // The scanner is well with everything else: what it chokes on is this message.
    scene.clamd.set(Fault::None);
    assert!(!deferred(pipeline.inspect(failing("another")).await));
    scene.clamd.set(Fault::ServerError);
    assert!(outside.dependencies.snapshots()[0].recent_succeeded > 0);
    assert!(!deferred(pipeline.inspect(failing("one")).await), "its sender has tried long enough");
    assert!(deferred(pipeline.inspect(failing("a third")).await), "others have their own time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_asks_nothing_does_not_say_that_a_service_is_well() {
    let scene = Scene::start().await;
    let mut config = scene.config(&[One::Urls]);
    config.url_service.on_failure = OnFailure::Defer;
    config.url_service.service.defer_seconds = 1;
    let (pipeline, _) = pipeline(&config);
    scene.http.set(Fault::ServerError);
    let mail = |body: &str| transaction("203.0.113.7", "a@firm.example", body);
    let deferred = |answer: Answer| matches!(answer, Answer::Defer(refusal) if refusal.code == 451);
    assert!(deferred(pipeline.inspect(mail("https://a.example/")).await));
    for _ in 0..3 {
        assert!(!deferred(pipeline.inspect(mail("no link")).await));
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert!(!deferred(pipeline.inspect(mail("https://b.example/")).await), "it has been down for longer than a second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_registry_that_fails_hides_nothing_of_the_others() {
    let scene = Scene::start().await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let places = serde_json::json!({"services": [
        [["example"], [format!("http://{}", scene.http.address())]], [["test"], [format!("http://{gone}")]],
    ]});
    std::fs::write(scene.folder.path().join("dns.json"), places.to_string()).unwrap();
    let (pipeline, outside) = pipeline(&scene.config(&[One::Rdap]));
    let message = transaction("203.0.113.7", "a@new.example", "https://decoy.test/ https://old.example/");
    for _ in 0..5 {
        let record = judge(&pipeline, &message).await;
        let ages = record.facts.services.domains.known().expect("the others' answers stand");
        let of = |domain: &str| ages.iter().find(|age| age.domain == domain).unwrap();
        assert!(of("new.example").days.is_some() && of("new.example").unknown.is_none(), "{ages:?}");
        assert!(of("decoy.test").unknown.is_some(), "{ages:?}");
        assert!(has(&record, Code::YoungSender));
        assert!(record.degraded.iter().any(|one| one.starts_with("domains=")), "{:?}", record.degraded);
    }
    let open = outside.dependencies.snapshots().into_iter().filter(|one| one.state == BreakerState::Open);
    let open: Vec<String> = open.map(|one| one.name).collect();
    assert_eq!(open, [format!("rdap:{gone}")]);
}

#[tokio::test]
async fn answers_are_kept() {
    let scene = Scene::start().await;
    let mut config = scene.config(&[One::Clamd, One::Rdap]);
    for service in [&mut config.clamd.service, &mut config.rdap.service] {
        service.cache_entries = 100;
    }
    let (pipeline, _) = pipeline(&config);
    let message = transaction("203.0.113.7", "a@unknown.example", "Hello");
    for _ in 0..3 {
        let record = judge(&pipeline, &message).await;
        assert!(record.degraded.is_empty());
        assert_eq!(record.facts.services.domains.known().unwrap()[0].days, None, "nothing known is an answer too");
    }
    assert_eq!((scene.clamd.seen(), scene.http.seen()), (1, 1));
}

#[tokio::test]
async fn what_is_known_stands_when_another_question_fails() {
    let scene = Scene::start().await;
    let dns = Dns::start();
    for name in ["test.d.test", "evil.example.d.test"] {
        dns.says(name, Says::A(vec![[127, 0, 0, 2].into()]));
    }
    dns.says("broken.example.d.test", Says::Silence);
    let mut config = scene.config(&[One::Lists, One::Urls]);
    config.sender_auth.resolvers = vec![dns.address];
    let zone = ZoneConfig {
        name: "d.test".into(),
        of: ZoneOf::Domains,
        codes: Default::default(),
        percent: 100,
        test_listed: String::new(),
        test_free: String::new(),
    };
    config.block_lists.zones = vec![zone];
    let (pipeline, _) = pipeline(&config);
    let body = "https://broken.example/ https://evil.test/";
    let record = judge(&pipeline, &transaction("203.0.113.7", "a@evil.example", body)).await;
    assert!(has(&record, Code::ListedSender) && has(&record, Code::UrlBad), "{:?}", record.facts.services);
    assert_eq!(record.degraded, ["lists=timeout"], "which of the links are listed is not all known");
    // That nothing is bad is not known when one was not asked about.
    let body = "https://broken.example/ https://firm.example/";
    let record = judge(&pipeline, &transaction("203.0.113.7", "a@evil.example", body)).await;
    assert_eq!(record.degraded, ["lists=timeout", "urls=status"]);
}

/// A list that lists everything, as dead ones do, is not believed.
#[tokio::test]
async fn lists_that_fail_their_test_points_are_not_believed() {
    let scene = Scene::start().await;
    let dns = Dns::start();
    let listed = || Says::A(vec![[127, 0, 0, 2].into()]);
    for name in ["2.0.0.127.dead.test", "1.0.0.127.dead.test", "7.113.0.203.dead.test", "2.0.0.127.good.test"] {
        dns.says(name, listed());
    }
    dns.says("7.113.0.203.good.test", Says::A(vec![[127, 0, 0, 10].into()]));
    let mut config = scene.config(&[One::Lists]);
    config.sender_auth.resolvers = vec![dns.address];
    let zone = |name: &str, codes: &[(&str, &str)]| ZoneConfig {
        name: name.into(),
        of: ZoneOf::Addresses,
        codes: codes.iter().map(|(code, meaning)| ((*code).to_owned(), (*meaning).to_owned())).collect(),
        percent: 50,
        test_listed: String::new(),
        test_free: String::new(),
    };
    let message = transaction("203.0.113.7", "a@firm.example", "Hello");
    config.block_lists.zones = vec![zone("dead.test", &[]), zone("good.test", &[("127.0.0.10", "a dial-up address")])];
    let (first, _) = pipeline(&config);
    let record = judge(&first, &message).await;
    let lists = record.facts.services.lists.known().unwrap();
    assert_eq!(lists.listings.len(), 1, "{lists:?}");
    let one = &lists.listings[0];
    assert_eq!((one.zone.as_str(), one.meaning.as_str(), one.percent), ("good.test", "a dial-up address", 50));
    assert_eq!(lists.silent[0].0, "dead.test");
    assert_eq!(record.degraded, ["lists=malformed"]);
    // An answer that the operator gave no meaning counts for nothing.
    config.block_lists.zones = vec![zone("good.test", &[("127.0.0.2", "spam source")])];
    let (second, _) = pipeline(&config);
    let record = judge(&second, &message).await;
    assert!(record.facts.services.lists.known().unwrap().listings.is_empty() && record.degraded.is_empty());
}

/// A list of what links lead to is asked about domains and addresses of links, nobody else; its test points are its own.
#[tokio::test]
async fn a_list_of_urls_is_asked_about_links() {
    let scene = Scene::start().await;
    let dns = Dns::start();
    let listed = || Says::A(vec![[127, 0, 0, 2].into()]);
    for name in ["point.example.u.test", "evil.example.u.test", "7.100.51.198.u.test", "firm.example.u.test"] {
        dns.says(name, listed());
    }
    let mut config = scene.config(&[One::Lists]);
    config.sender_auth.resolvers = vec![dns.address];
    config.block_lists.zones = vec![ZoneConfig {
        name: "u.test".into(),
        of: ZoneOf::Urls,
        codes: Default::default(),
        percent: 100,
        test_listed: "point.example".into(),
        test_free: "free.example".into(),
    }];
    let (pipeline, _) = pipeline(&config);
    let body = "https://www.evil.example/x http://198.51.100.7/y http://10.0.0.1/z https://other.example/";
    let record = judge(&pipeline, &transaction("203.0.113.7", "a@firm.example", body)).await;
    let lists = record.facts.services.lists.known().expect("its own test points are right");
    let names: Vec<&str> = lists.listings.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["evil.example", "198.51.100.7"], "{lists:?}");
    assert!(has(&record, Code::ListedLink) && !has(&record, Code::ListedSender));
}

/// An analyser opens what it is told: of links that are the reader's alone it is told the host.
#[tokio::test]
async fn of_personal_links_the_analyser_is_told_the_host() {
    let scene = Scene::start().await;
    let body = "https://evil.example/unsubscribe?u=7 https://evil.example/page";
    let told = async |personal_links| {
        let mut config = scene.config(&[One::Urls]);
        config.url_service.personal_links = personal_links;
        let (pipeline, _) = pipeline(&config);
        let record = judge(&pipeline, &transaction("203.0.113.7", "a@firm.example", body)).await;
        let readings = record.facts.services.urls.known().unwrap().iter().map(|one| one.url.clone());
        readings.collect::<Vec<_>>()
    };
    let page = "https://evil.example/page";
    assert_eq!(told(PersonalLinks::Host).await, ["https://evil.example/", page]);
    assert_eq!(told(PersonalLinks::Skip).await, [page]);
    assert_eq!(told(PersonalLinks::Whole).await, ["https://evil.example/unsubscribe?u=7", page]);
}

#[test]
fn wrong_settings_are_named() {
    let outside = Outside::new(&prometheus::Registry::new()).unwrap();
    let wrong = |config: Config| Services::new(&config, &outside).err().expect("refused").to_string();
    let clamd = ClamdConfig { enabled: true, address: "clamd:3310".into(), ..ClamdConfig::default() };
    assert!(wrong(Config { clamd, ..Config::default() }).contains("enrichment.clamd.address: `clamd:3310`"));
    let url_service = UrlServiceConfig { enabled: true, url: "ftp://a/".into(), ..UrlServiceConfig::default() };
    assert!(wrong(Config { url_service, ..Config::default() }).contains("enrichment.url_service.url: `ftp://a/`"));
    let rdap = RdapConfig { enabled: true, ..RdapConfig::default() };
    assert!(wrong(Config { rdap, ..Config::default() }).contains("enrichment.rdap.bootstrap_file is not set"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clamd_over_both_sockets_killed_and_back() {
    let scene = Scene::start().await;
    if !clamd::available("services::clamd_over_both_sockets_killed_and_back") {
        return;
    }
    let mut clamd = Clamd::start().await;
    let base64 = |bytes: &[u8]| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(bytes)
    };
    let packed = |content: &[u8]| {
        let body = base64(content);
        let lines: Vec<&str> = body.as_bytes().chunks(76).map(|line| str::from_utf8(line).unwrap()).collect();
        Transaction {
            raw: Bytes::from(format!(
                "From: A <a@firm.example>\r\nSubject: file\r\nMIME-Version: 1.0\r\nContent-Type: \
                 application/octet-stream; name=a.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n",
                lines.join("\r\n")
            )),
            ..transaction("203.0.113.7", "a@firm.example", "")
        }
    };
    let malware = packed(EICAR.as_bytes());
    let harmless = packed(b"nothing to see");
    let large = packed(&vec![b'x'; 300 << 10]);
    for address in [clamd.unix(), format!("inet:{}", clamd.address)] {
        let mut config = scene.config(&[One::Clamd]);
        config.clamd.address = address.clone();
        let (pipeline, _) = pipeline(&config);
        let version = &pipeline.standing().services.probe().await[0];
        assert!(version.result.as_ref().unwrap().starts_with("ClamAV"), "{version:?}");
        let found = judge(&pipeline, &malware).await;
        let names = found.facts.services.malware.known().unwrap_or_else(|| panic!("{address}: {:?}", found.degraded));
        assert_eq!(names, &["Own.Test.Eicar.UNOFFICIAL"], "{address}");
        assert_eq!(found.verdicts[0].verdict.action, Action::Reject);
        let clean = judge(&pipeline, &harmless).await;
        assert_eq!(clean.facts.services.malware.known(), Some(&Vec::new()), "{address}: {:?}", clean.degraded);
        // Above clamd's own limit: not scanned, never clean.
        let unscanned = judge(&pipeline, &large).await;
        assert_eq!(unscanned.degraded, ["malware=declined"], "{address}");
    }
    let mut config = scene.config(&[One::Clamd]);
    config.clamd.address = format!("inet:{}", clamd.address);
    let (pipeline, outside) = pipeline(&config);
    assert!(judge(&pipeline, &harmless).await.degraded.is_empty());
    clamd.kill();
    let state = || outside.dependencies.snapshots()[0].state;
    while state() != BreakerState::Open {
        assert_eq!(judge(&pipeline, &malware).await.degraded, ["malware=unreachable"]);
    }
    assert_eq!(judge(&pipeline, &malware).await.degraded, ["malware=breaker_open"]);
    clamd.start_again().await;
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while !judge(&pipeline, &harmless).await.degraded.is_empty() {
        assert!(tokio::time::Instant::now() < until, "not recovered");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(state(), BreakerState::Closed);
}
