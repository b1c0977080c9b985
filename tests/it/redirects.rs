//! Links that are followed in the second look: where they lead, what bounds them, and what is never opened.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mailweir::analysis::{Fact, FollowedLink, LinkEnd};
use mailweir::egress::{BreakerConfig, BreakerState, CallConfig};
use mailweir::enrichment::{
    Config, FunctionAsk, Outside, Question, RedirectsConfig, SenderAuthConfig, ServiceConfig, Services, Untouchable,
};
use mailweir::mail::{Connection, Door, Envelope, Message, MessageLimits, Path};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::dns::{Answer, Dns};

/// What stands at a place.
#[derive(Clone)]
enum Place {
    /// Status and headers.
    Head(String),
    /// A page, to GET only: HEAD is not allowed.
    Page(String),
    /// Says that it is a page, and never ends.
    Endless,
    /// Takes the question and says nothing.
    Silent,
}

/// Places of a web that is one server.
struct Web {
    port: u16,
    seen: Arc<Mutex<Vec<(String, String)>>>,
    task: JoinHandle<()>,
}

impl Web {
    /// `places` by path, made with the server's port.
    async fn start(places: impl Fn(u16) -> BTreeMap<&'static str, Place>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (places, seen) = (Arc::new(places(port)), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (places, kept) = (Arc::clone(&places), Arc::clone(&kept));
                tokio::spawn(async move { drop(serve(stream, &places, &kept).await) });
            }
        });
        Self { port, seen, task }
    }

    /// First lines of what was asked, and all of it.
    fn seen(&self) -> Vec<(String, String)> {
        self.seen.lock().unwrap().clone()
    }

    fn was_asked(&self, what: &str) -> bool {
        self.seen().iter().any(|(first, _)| first.contains(what))
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    stream: TcpStream,
    places: &BTreeMap<&'static str, Place>,
    seen: &Mutex<Vec<(String, String)>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut asked = String::new();
    while !asked.ends_with("\r\n\r\n") {
        if stream.read_line(&mut asked).await? == 0 {
            return Ok(());
        }
    }
    let first = asked.lines().next().unwrap_or_default().to_owned();
    let path = first.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
    let head = first.starts_with("HEAD");
    seen.lock().unwrap().push((first, asked.to_lowercase()));
    let page = "200 OK\r\nContent-Type: text/html".to_owned();
    let (status, body) = match places.get(path.as_str()).cloned() {
        None => ("404 Not Found\r\nContent-Type: text/html".to_owned(), "nothing".to_owned()),
        Some(Place::Head(status)) => (status, "ok".to_owned()),
        Some(Place::Page(_)) if head => ("405 Method Not Allowed".to_owned(), String::new()),
        Some(Place::Page(text)) => (page, text),
        Some(Place::Silent) => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            return Ok(());
        }
        Some(Place::Endless) => {
            stream.write_all(format!("HTTP/1.1 {page}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
            if !head {
                loop {
                    stream.write_all(&[b'x'; 8_192]).await?;
                }
            }
            return Ok(());
        }
    };
    let body_of = if head { "" } else { body.as_str() };
    let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body_of}", body.len());
    stream.write_all(answer.as_bytes()).await
}

/// A place that sends on; a browser would keep its cookie.
fn on_to(url: impl std::fmt::Display) -> Place {
    Place::Head(format!("302 Found\r\nSet-Cookie: who=me; Path=/\r\nLocation: {url}"))
}

/// Speaks TLS with a certificate that nobody vouches for.
async fn untrusted() -> SocketAddr {
    let pair = rcgen::generate_simple_self_signed(vec!["evil.test".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    address
}

struct Scene {
    web: Web,
    services: Services,
    outside: Outside,
    _dns: Dns,
}

impl Scene {
    async fn start(change: impl Fn(&mut RedirectsConfig)) -> Self {
        let tls = untrusted().await.port();
        let web = Web::start(|port| {
            let evil = |path: &str| format!("http://evil.test:{port}{path}");
            let steps = ["/s0", "/s1", "/s2", "/s3", "/s4", "/s5"];
            let mut places = BTreeMap::from([
                ("/chain", on_to("/second")),
                ("/second", on_to(evil("/login#part"))),
                ("/login", Place::Page("<p>Who are you?</p>".into())),
                ("/round", on_to("/about")),
                ("/about", on_to("/round")),
                ("/inside", on_to("http://10.1.2.3/admin")),
                ("/named", on_to("http://inner.test/admin")),
                ("/silent", Place::Silent),
                ("/huge", Place::Endless),
                ("/tls", on_to(format!("https://evil.test:{tls}/"))),
                ("/meta", Place::Page(format!("<meta http-equiv=refresh content='0; url={}'>", evil("/login")))),
                ("/leave", on_to(evil("/unsubscribe?id=7"))),
                ("/file", on_to("ftp://evil.test/x")),
                ("/picture", Place::Head("200 OK\r\nContent-Type: image/png".into())),
            ]);
            places.extend(steps.windows(2).map(|pair| (pair[0], on_to(pair[1]))));
            places
        })
        .await;
        let dns = Dns::start();
        for name in ["bit.ly", "evil.test", "plain.test"] {
            dns.says(name, Answer::A(vec![Ipv4Addr::LOCALHOST]));
        }
        dns.says("inner.test", Answer::A(vec![Ipv4Addr::new(192, 168, 1, 7)]));
        let breaker = BreakerConfig { consecutive_failures: 2, minimum_calls: 2, ..BreakerConfig::default() };
        let call = CallConfig { deadline_ms: 1_500, breaker, ..CallConfig::default() };
        let mut redirects = RedirectsConfig {
            enabled: true,
            max_links: 50,
            max_hops: 4,
            max_page_bytes: 16 << 10,
            deadline_ms: 20_000,
            user_agent: "Quiet/1".into(),
            service: ServiceConfig { call, ..ServiceConfig::default() },
        };
        change(&mut redirects);
        let config = Config {
            allow_networks: vec!["127.0.0.1/32".parse().unwrap()],
            sender_auth: SenderAuthConfig { resolvers: vec![dns.address], ..SenderAuthConfig::default() },
            redirects,
            ..Config::default()
        };
        let outside = Outside::new(&prometheus::Registry::new()).unwrap();
        let services = Services::new(&config, &outside).unwrap();
        Self { web, services, outside, _dns: dns }
    }

    fn short(&self, path: &str) -> String {
        format!("http://bit.ly:{}{path}", self.web.port)
    }

    /// Where these links lead, in a second look or in the first.
    async fn followed(&self, links: &[String], again: bool) -> Fact<Vec<FollowedLink>> {
        let (message, envelope) = message(links);
        let (raw, connection) = (Bytes::new(), Connection::unknown(Door::Scan));
        let question = Question {
            message: &message,
            envelope: &envelope,
            connection: &connection,
            raw: &raw,
            now: 0,
            again,
            led_to: &[],
        };
        self.services.ask(&question, Instant::now() + Duration::from_secs(60)).await.followed
    }
}

fn message(links: &[String]) -> (Message, Envelope) {
    let raw = format!("From: a@a.example\r\nSubject: hello\r\n\r\n{}\r\n", links.join("\r\n"));
    let envelope = Envelope { sender: Path::new("a@a.example"), recipients: vec![Path::new("bob@b.example")] };
    (Message::parse(raw.into(), &MessageLimits::default()), envelope)
}

#[tokio::test]
async fn where_links_lead() {
    let scene = Scene::start(|_| {}).await;
    let port = scene.web.port;
    let evil = |path: &str| format!("http://evil.test:{port}{path}");
    let cases: Vec<(&str, Vec<String>, LinkEnd)> = vec![
        ("/chain", vec![scene.short("/second"), evil("/login#part")], LinkEnd::Page(200)),
        ("/round", vec![scene.short("/about"), scene.short("/round")], LinkEnd::Loop),
        ("/inside", vec!["http://10.1.2.3/admin".into()], LinkEnd::Fenced),
        ("/named", vec!["http://inner.test/admin".into()], LinkEnd::Fenced),
        ("/silent", vec![], LinkEnd::Timeout),
        ("/huge", vec![], LinkEnd::Page(200)),
        ("/meta", vec![evil("/login")], LinkEnd::Page(200)),
        ("/s0", ["/s1", "/s2", "/s3", "/s4"].map(|path| scene.short(path)).to_vec(), LinkEnd::TooManyHops),
        ("/leave", vec![evil("/unsubscribe?id=7")], LinkEnd::Acts),
        ("/file", vec![], LinkEnd::Page(302)),
        ("/picture", vec![], LinkEnd::Page(200)),
        ("/nothing", vec![], LinkEnd::Page(404)),
        ("/x?email=bob%40b.example", vec![], LinkEnd::Acts),
        ("/confirm/7", vec![], LinkEnd::Acts),
    ];
    let mut links: Vec<String> = cases.iter().map(|(path, ..)| scene.short(path)).collect();
    links.extend([scene.short("/tls"), format!("http://plain.test:{port}/page")]);
    let Fact::Known(found) = scene.followed(&links, true).await else { panic!("not followed") };
    for ((path, hops, end), one) in cases.iter().zip(&found) {
        assert_eq!((&one.url, &one.hops, one.end), (&scene.short(path), hops, *end));
    }
    let tls = &found[cases.len()];
    assert!(tls.effective().starts_with("https://evil.test:"), "{tls:?}");
    assert_eq!((tls.hops.len(), tls.end), (1, LinkEnd::Unreachable));
    assert_eq!(found.len(), cases.len() + 1, "what leads nowhere else is not followed");

    // What acts was never opened, and nobody learns more than he must.
    for never in ["unsubscribe", "confirm", "email=", "/page"] {
        assert!(!scene.web.was_asked(never), "{never} was opened");
    }
    let count = |first: &str| scene.web.seen().iter().filter(|(one, _)| one.starts_with(first)).count();
    assert_eq!((count("HEAD /chain "), count("GET /chain "), count("GET /picture ")), (1, 0, 0));
    for (first, asked) in scene.web.seen() {
        assert!(asked.contains("user-agent: quiet/1\r\n"), "{first}: {asked}");
        assert!(!asked.contains("cookie") && !asked.contains("referer"), "{first}: {asked}");
    }
    // Strangers that hang or refuse say nothing of the others.
    let state = scene.outside.snapshots().into_iter().find(|one| one.name == "redirects").unwrap().state;
    assert_eq!(state, BreakerState::Closed);

    // Asked again, what was answered is known.
    let before = scene.web.seen().len();
    let again = scene.followed(&[scene.short("/chain")], true).await;
    assert_eq!((again.known().unwrap()[0].hops.len(), scene.web.seen().len()), (2, before));
}

#[tokio::test]
async fn nothing_is_opened_while_the_sender_waits_nor_beyond_bounds() {
    let scene = Scene::start(|config| config.max_links = 2).await;
    let links = ["/chain", "/meta", "/picture"].map(|path| scene.short(path));
    assert!(scene.followed(&links, false).await.known().is_none());
    assert!(scene.web.seen().is_empty(), "{:?}", scene.web.seen());
    assert_eq!(scene.followed(&links, true).await.known().unwrap().len(), 2);
    assert!(!scene.web.was_asked("/picture"));
    // The time for all of them ends what hangs.
    let scene = Scene::start(|config| config.deadline_ms = 1).await;
    let found = scene.followed(&[scene.short("/silent")], true).await;
    assert_eq!(found.known().unwrap()[0].end, LinkEnd::Timeout);
}

/// What rules get when the URL analyser has no answer: where it leads, and nothing that nobody looked at.
#[tokio::test]
async fn rules_learn_where_a_link_leads() {
    let scene = Scene::start(|_| {}).await;
    let url = format!("http://plain.test:{}/chain", scene.web.port);
    let (message, envelope) = message(std::slice::from_ref(&url));
    let untouchable = Untouchable::of(&message, &envelope);
    let asked = async |url: &str, follow: bool| {
        let ask = FunctionAsk::Link { url: url.to_owned(), mode: None, untouchable: untouchable.clone(), follow };
        scene.services.answer(&ask, 0, Instant::now() + Duration::from_secs(30)).await
    };
    assert_eq!(asked(&url, false).await.known(), None, "while the sender waits");
    assert!(scene.web.seen().is_empty());
    let led = asked(&url, true).await;
    let port = scene.web.port;
    assert_eq!(
        led.known().unwrap().as_ref().unwrap(),
        &serde_json::json!({
            "partial": true,
            "effective_url": format!("http://evil.test:{port}/login#part"),
            "redirect_history": [url, format!("http://plain.test:{port}/second")],
            "status_code": 200,
        })
    );
    let acts = format!("http://plain.test:{port}/confirm/7");
    assert_eq!(asked(&acts, true).await.known(), None, "not opened, not known");
    assert!(!scene.web.was_asked("confirm"));
}
