//! The way out, over real sockets on loopback: services that break in every way, and names that lead where they must not.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use mailweir::app::mock_services::{Fault, Mock, Service};
use mailweir::egress::{
    Answer, BreakerConfig, BreakerState, CallConfig, Dependency, Failure, Fence, HttpClient, Metrics, Names,
    NamesConfig, Registry, Repeat, Request, RetryConfig, Stream, StreamClient, Target, TlsRoots,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use url::Url;

use crate::support::dns::{self, Dns};

fn config() -> CallConfig {
    let breaker = BreakerConfig {
        consecutive_failures: 3,
        recovery_seconds: 1,
        success_threshold: 1,
        ..BreakerConfig::default()
    };
    let retry = RetryConfig { attempts: 1, ..RetryConfig::default() };
    CallConfig {
        deadline_ms: 2_000,
        max_wait_ms: 100,
        max_answer_bytes: 4_096,
        breaker,
        retry,
        ..CallConfig::default()
    }
}

fn dependency(config: CallConfig) -> Arc<Dependency> {
    Registry::new(Metrics::new(&prometheus::Registry::new()).unwrap()).dependency("test", &config)
}

fn names(resolvers: &[SocketAddr]) -> Names {
    let config = NamesConfig {
        // Nobody is asked where none is given.
        resolvers: if resolvers.is_empty() { vec!["127.0.0.1:9".parse().unwrap()] } else { resolvers.to_vec() },
        query: Duration::from_millis(200),
        cache_entries: 0,
        cache_max: Duration::from_secs(1),
    };
    Names::new(&config).unwrap()
}

fn loopback() -> Fence {
    let number = |ip: [u8; 4]| u128::from(Ipv4Addr::from(ip).to_ipv6_mapped());
    Fence::allowing([(number([127, 0, 0, 0]), number([127, 255, 255, 255]))])
}

/// Reading the system's certificates takes a while.
static ROOTS: LazyLock<TlsRoots> = LazyLock::new(|| TlsRoots::load(None).unwrap());

fn http(config: CallConfig, resolvers: &[SocketAddr], fence: Fence, named: &[&str], redirects: u8) -> HttpClient {
    let named = named.iter().map(|host| (*host).to_owned());
    HttpClient::new(dependency(config), names(resolvers), fence, named, &ROOTS, redirects).unwrap()
}

fn url(text: impl AsRef<str>) -> Url {
    Url::parse(text.as_ref()).unwrap()
}

async fn get(client: &HttpClient, target: impl AsRef<str>) -> Result<serde_json::Value, Failure> {
    client.call(Repeat::Safe, None, &Request::get(url(target)), |answer: Answer| answer.json()).await
}

async fn ping(client: &StreamClient) -> Result<Vec<u8>, Failure> {
    let talk = |mut stream: Stream| async move {
        stream.send(b"zPING\0").await?;
        stream.flush().await?;
        match stream.receive_until(0).await? {
            pong if pong == b"PONG" => Ok(pong),
            other => Err(Failure::malformed(String::from_utf8_lossy(&other))),
        }
    };
    client.call(Repeat::Safe, None, talk).await
}

/// What each way to break looks like over HTTP and over a plain connection.
const TOLD: [(Fault, &str, &str); 8] = [
    (Fault::Refuse, "unreachable", "unreachable"),
    (Fault::Hang, "timeout", "timeout"),
    (Fault::Drip, "timeout", "timeout"),
    (Fault::Reset, "unreachable", "unreachable"),
    (Fault::Garbage, "malformed", "malformed"),
    (Fault::Huge, "too_large", "too_large"),
    (Fault::ServerError, "status", "malformed"),
    (Fault::TooMany, "status", "malformed"),
];

/// Fails three times as told, is left alone, and is asked again when the recovery time is over.
async fn breaks_and_recovers<T, F: Future<Output = Result<T, Failure>>>(
    mock: &Mock,
    dependency: &Dependency,
    (fault, word): (Fault, &str),
    ask: impl Fn() -> F,
) {
    assert!(ask().await.is_ok(), "{fault:?}: well at first");
    mock.set(fault);
    // The listener closes a moment after it is told.
    while fault == Fault::Refuse && tokio::net::TcpStream::connect(mock.address()).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    loop {
        match ask().await.err().unwrap_or_else(|| panic!("{fault:?} gave an answer")) {
            Failure::BreakerOpen { .. } => break,
            Failure::RateLimited { .. } if fault == Fault::TooMany => {
                tokio::time::sleep(Duration::from_millis(50)).await
            }
            failure => assert_eq!(failure.as_str(), word, "{fault:?}: {failure}"),
        }
    }
    let snapshot = dependency.snapshot();
    assert_eq!((snapshot.state, snapshot.failed), (BreakerState::Open, 3), "{fault:?}");
    mock.set(Fault::None);
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while let Err(failure) = ask().await {
        assert!(tokio::time::Instant::now() < until, "{fault:?} did not recover: {failure}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(dependency.snapshot().state, BreakerState::Closed, "{fault:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_told_apart_opens_the_breaker_and_is_recovered_from() {
    // Not while deadlines run.
    LazyLock::force(&ROOTS);
    let mut all = tokio::task::JoinSet::new();
    for (fault, over_http, over_stream) in TOLD {
        all.spawn(async move {
            let mock = Mock::start(Service::Http, 0, Fault::None).await.unwrap();
            let client = http(config(), &[], loopback(), &[], 0);
            let target = format!("http://{}/domain/old.example", mock.address());
            let ask = || get(&client, &target);
            breaks_and_recovers(&mock, client.dependency(), (fault, over_http), ask).await;
        });
        all.spawn(async move {
            let mock = Mock::start(Service::Clamd, 0, Fault::None).await.unwrap();
            let target = Target::Inet { host: "127.0.0.1".into(), port: mock.address().port() };
            let client = StreamClient::new(dependency(config()), target, names(&[]), Fence::default());
            breaks_and_recovers(&mock, client.dependency(), (fault, over_stream), || ping(&client)).await;
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn names_that_lead_inside_are_not_asked() {
    let mock = Mock::start(Service::Http, 0, Fault::None).await.unwrap();
    let port = mock.address().port();
    let dns = Dns::start();
    dns.says("inside.test", dns::Answer::A(vec![Ipv4Addr::LOCALHOST]));
    dns.says("metadata.test", dns::Answer::A(vec![Ipv4Addr::new(169, 254, 169, 254)]));
    dns.says("both.test", dns::Answer::A(vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::LOCALHOST]));
    let client = http(config(), &[dns.address], Fence::default(), &["named.test", "metadata.test"], 3);
    for host in ["inside.test", "both.test", "metadata.test", "127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1"]
        .into_iter()
        .chain(["[::ffff:127.0.0.1]", "[::1]", "[64:ff9b::7f00:1]", "0.0.0.0", "169.254.169.254"])
    {
        let failure = get(&client, format!("http://{host}:{port}/domain/a.example")).await.unwrap_err();
        assert!(matches!(failure, Failure::Fenced(_)), "{host}: {failure}");
    }
    for other in ["file:///etc/passwd", "gopher://127.0.0.1/", "ftp://inside.test/"] {
        let failure = get(&client, other).await.unwrap_err();
        assert!(matches!(failure, Failure::Fenced(_)), "{other}: {failure}");
    }
    assert_eq!(mock.seen(), 0, "nothing was connected to");
    assert_eq!(client.dependency().snapshot().state, BreakerState::Closed, "and it speaks against nobody");

    // The operator may name a host that is inside.
    dns.says("named.test", dns::Answer::A(vec![Ipv4Addr::LOCALHOST]));
    get(&client, format!("http://named.test:{port}/domain/a.example")).await.unwrap();
    assert_eq!(mock.seen(), 1);
    let gone = get(&client, format!("http://nowhere.test:{port}/")).await.unwrap_err();
    assert!(matches!(gone, Failure::Unreachable(_)), "{gone}");
}

#[tokio::test]
async fn a_name_that_changes_its_answer_gains_nothing() {
    let mock = Mock::start(Service::Http, 0, Fault::None).await.unwrap();
    let port = mock.address().port();
    let dns = Dns::start();
    // Whoever resolved once to check and once more to connect would reach loopback with the second answer.
    dns.says("rebind.test", dns::Answer::A(vec![Ipv4Addr::new(93, 184, 216, 34)]));
    let client = http(config(), &[dns.address], Fence::default(), &[], 0);
    let target = format!("http://rebind.test:{port}/domain/a.example");
    let first = get(&client, &target).await.unwrap_err();
    assert!(matches!(first, Failure::Timeout { .. } | Failure::Unreachable(_)), "{first}");
    dns.forget("rebind.test");
    dns.says("rebind.test", dns::Answer::A(vec![Ipv4Addr::LOCALHOST]));
    let asked = dns.asked().len();
    let second = get(&client, &target).await.unwrap_err();
    assert!(matches!(second, Failure::Fenced(_)), "{second}");
    assert!(dns.asked().len() > asked, "the name was asked about again, so the answer was seen");
    assert_eq!(mock.seen(), 0);
}

/// Answers every connection with the same bytes and keeps what it was sent.
async fn says(answer: Vec<u8>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 8_192];
            let read = stream.read(&mut request).await.unwrap_or(0);
            kept.lock().unwrap().push(String::from_utf8_lossy(&request[..read]).to_lowercase());
            let _ = stream.write_all(&answer).await;
        }
    });
    (address, heard)
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

const NULL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnull";

#[tokio::test]
async fn redirects_are_followed_only_as_far_as_allowed() {
    let (end, heard) = says(NULL.to_vec()).await;
    let (step, _) = says(redirect(&format!("http://{end}/end"))).await;
    let ask = async |client: &HttpClient, to: SocketAddr| {
        let request = Request::get(url(format!("http://{to}/start"))).bearer("secret");
        client.call(Repeat::Safe, None, &request, |answer| answer.json::<serde_json::Value>()).await
    };
    let none = ask(&http(config(), &[], loopback(), &[], 0), step).await.unwrap_err();
    assert!(matches!(none, Failure::Status { code: 302, .. }), "{none}");
    assert_eq!(heard.lock().unwrap().len(), 0);

    ask(&http(config(), &[], loopback(), &[], 1), step).await.unwrap();
    let seen = heard.lock().unwrap().clone();
    assert!(seen[0].starts_with("get /end ") && !seen[0].contains("secret"), "the token must not travel: {seen:?}");
    ask(&http(config(), &[], loopback(), &[], 0), end).await.unwrap();
    assert!(heard.lock().unwrap()[1].contains("authorization: bearer secret"));

    let (round, _) = says(redirect("/again")).await;
    let endless = ask(&http(config(), &[], loopback(), &[], 5), round).await.unwrap_err();
    assert!(matches!(endless, Failure::Status { code: 302, .. }), "{endless}");
}

#[tokio::test]
async fn redirects_do_not_lead_inside() {
    let inside = Mock::start(Service::Http, 0, Fault::None).await.unwrap();
    let dns = Dns::start();
    dns.says("outside.test", dns::Answer::A(vec![Ipv4Addr::LOCALHOST]));
    dns.says("inside.test", dns::Answer::A(vec![Ipv4Addr::LOCALHOST]));
    for to in [
        format!("http://{}/domain/a.example", inside.address()),
        format!("http://inside.test:{}/domain/a.example", inside.address().port()),
        "http://169.254.169.254/latest/meta-data/".into(),
        "file:///etc/passwd".into(),
    ] {
        let (step, _) = says(redirect(&to)).await;
        // The first host is one that the operator named, so it may be local; where it leads may not.
        let client = http(config(), &[dns.address], Fence::default(), &["outside.test"], 3);
        let failure = get(&client, format!("http://outside.test:{}/", step.port())).await.unwrap_err();
        assert!(matches!(failure, Failure::Fenced(_)), "{to}: {failure}");
    }
    assert_eq!(inside.seen(), 0);
}

#[tokio::test]
async fn the_size_cap_counts_what_comes_out_of_compression() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&vec![b' '; 1 << 20]).unwrap();
    gzip.write_all(b"null").unwrap();
    let body = gzip.finish().unwrap();
    assert!(body.len() < 4_096, "the answer itself is within the limit: {}", body.len());
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
    let (bomb, _) = says([head.as_bytes(), &body].concat()).await;
    let failure = get(&http(config(), &[], loopback(), &[], 0), format!("http://{bomb}/")).await.unwrap_err();
    assert!(matches!(failure, Failure::TooLarge { limit: 4_096 }), "{failure}");
    let enough = CallConfig { max_answer_bytes: 2 << 20, ..config() };
    get(&http(enough, &[], loopback(), &[], 0), format!("http://{bomb}/")).await.unwrap();
}

#[tokio::test]
async fn unix_sockets_and_names_for_plain_connections() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("service.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut command = [0; 6];
            stream.read_exact(&mut command).await.unwrap();
            assert_eq!(&command, b"zPING\0");
            // Split, and more than was asked for.
            for piece in [&b"PO"[..], b"NG\0more"] {
                stream.write_all(piece).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let client = |target| StreamClient::new(dependency(config()), target, names(&[]), Fence::default());
    ping(&client(Target::Unix(path))).await.unwrap();
    let gone = ping(&client(Target::Unix(folder.path().join("none")))).await.unwrap_err();
    assert!(matches!(gone, Failure::Unreachable(_)), "{gone}");

    let mock = Mock::start(Service::Clamd, 0, Fault::None).await.unwrap();
    let dns = Dns::start();
    dns.says("clamd.test", dns::Answer::A(vec![Ipv4Addr::LOCALHOST]));
    dns.says("bad.test", dns::Answer::A(vec![Ipv4Addr::new(169, 254, 169, 254)]));
    let client = |host: &str| {
        let target = Target::Inet { host: host.into(), port: mock.address().port() };
        StreamClient::new(dependency(config()), target, names(&[dns.address]), Fence::default())
    };
    ping(&client("clamd.test")).await.unwrap();
    assert!(matches!(ping(&client("bad.test")).await.unwrap_err(), Failure::Fenced(_)));
}

#[tokio::test]
async fn metrics_tell_each_dependency_apart() {
    let registry = prometheus::Registry::new();
    let dependencies = Registry::new(Metrics::new(&registry).unwrap());
    let asked = dependencies.dependency("asked", &config());
    dependencies.dependency("idle", &config());
    let _ = asked.call(Repeat::Never, None, |_| std::future::ready(Ok::<_, Failure>(()))).await;
    for _ in 0..4 {
        let _ = asked.call(Repeat::Never, None, |_| std::future::ready(Err::<(), _>(Failure::malformed("x")))).await;
    }
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        "mailweir_dependency_calls_total{dependency=\"asked\",outcome=\"ok\"} 1",
        "mailweir_dependency_calls_total{dependency=\"asked\",outcome=\"malformed\"} 3",
        "mailweir_dependency_calls_total{dependency=\"asked\",outcome=\"breaker_open\"} 1",
        "mailweir_dependency_breaker_state{dependency=\"asked\"} 2",
        "mailweir_dependency_breaker_state{dependency=\"idle\"} 0",
        "mailweir_dependency_breaker_opened_total{dependency=\"asked\"} 1",
        "mailweir_dependency_success_ratio{dependency=\"asked\"} 0.25",
        "mailweir_dependency_success_ratio{dependency=\"idle\"} 1",
        "mailweir_dependency_calls_in_flight{dependency=\"asked\"} 0",
        "mailweir_dependency_call_seconds_count{dependency=\"asked\"} 4",
        "mailweir_dependency_rate_ratio{dependency=\"asked\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn certificates_are_checked_against_the_system_and_what_the_operator_adds() {
    let pair = rcgen::generate_simple_self_signed(vec!["named.test".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, pair.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 8_192]).await;
            let _ = stream.write_all(NULL).await;
            let _ = stream.shutdown().await;
        }
    });
    let dns = Dns::start();
    for name in ["named.test", "other.test"] {
        dns.says(name, dns::Answer::A(vec![Ipv4Addr::LOCALHOST]));
    }
    let client = |roots: &TlsRoots| {
        let config = CallConfig { deadline_ms: 5_000, ..config() };
        HttpClient::new(dependency(config), names(&[dns.address]), loopback(), [], roots, 0).unwrap()
    };
    let known = client(&TlsRoots::load(Some(&file)).unwrap());
    get(&known, format!("https://named.test:{port}/")).await.unwrap();
    for (client, name) in [(&known, "other.test"), (&client(&TlsRoots::load(None).unwrap()), "named.test")] {
        let failure = get(client, format!("https://{name}:{port}/")).await.unwrap_err();
        assert!(matches!(failure, Failure::Unreachable(_)), "{name}: {failure}");
        assert!(failure.to_string().contains("certificate"), "{name}: {failure}");
    }
    let nobody = get(&known, format!("https://named.test:{}/", crate::support::gateway::free_port().port())).await;
    let told = nobody.unwrap_err().to_string();
    assert!(told.contains("refused") && !told.contains("named.test"), "{told}");
    std::fs::write(&file, "no certificate").unwrap();
    assert!(TlsRoots::load(Some(&folder.path().join("none"))).is_err());
}
