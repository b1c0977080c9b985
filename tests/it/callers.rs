//! Who asks with a signature instead of the token: what is taken, what is not, what each role may, and that the examples do it.
#![allow(clippy::disallowed_methods)] // Starts the examples with arguments of our own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use mailweir::admin::{Config, Role, openapi};
use mailweir::enforcement::signing::{Asked, KeyState, Keys, Signer, SigningConfig};

use crate::support::admin::{Gateway, record};
use crate::support::http::{Answer, request};
use crate::support::redis::{Keep, Redis, available};

/// Keys in a file of their own, made an hour ago, and a gateway to be that knows it.
struct Site {
    folder: tempfile::TempDir,
    signing: SigningConfig,
    keys: Keys,
}

impl Site {
    fn new(signing: SigningConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signing = SigningConfig { key_file: Some(folder.path().join("keys")), ..signing };
        let keys = Keys::load(&folder.path().join("keys"), &signing, now_ms() - 3_600_000).unwrap();
        Self { folder, signing, keys }
    }

    /// The id of the key that signs.
    fn key(&self) -> String {
        self.keys.signing(now_ms()).unwrap().id.clone()
    }

    async fn gateway(&self, callers: &[(&str, Role)]) -> Gateway {
        let callers: BTreeMap<String, Role> = callers.iter().map(|(id, role)| ((*id).to_owned(), *role)).collect();
        start(Config { callers, ..Config::default() }, &self.signing).await
    }

    /// A new key takes over at once.
    fn rotate(&mut self) {
        let (file, now) = (self.signing.key_file.as_ref().unwrap(), now_ms());
        let rotate = |keys: &mut Keys| keys.rotate(&self.signing, true, now).map(drop);
        self.keys = Keys::change(file, &self.signing, now, rotate).unwrap().0;
    }

    fn signed(&self, method: &str, path: &str, body: &str) -> Vec<String> {
        sign(&self.signing, &self.keys, (method, path, body), now_ms())
    }
}

async fn start(config: Config, signing: &SigningConfig) -> Gateway {
    let gateway = Gateway::start_with(config, signing).await;
    // What is signed just after the start may have been taken before it; in Redis, before the first start.
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    gateway
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn sign(signing: &SigningConfig, keys: &Keys, (method, path, body): (&str, &str, &str), at_ms: i64) -> Vec<String> {
    let asked = Asked { method, path, body: body.as_bytes() };
    let headers = Signer::new(signing).sign(keys, &asked, at_ms).unwrap();
    let json = "Content-Type: application/json".to_owned();
    headers.into_iter().map(|(name, value)| format!("{name}: {value}")).chain([json]).collect()
}

async fn send(gateway: &Gateway, (method, path, body): (&str, &str, &str), headers: &[String]) -> Answer {
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    request(gateway.address, method, path, &headers, body).await
}

async fn ask(gateway: &Gateway, site: &Site, method: &str, path: &str, body: &str) -> Answer {
    send(gateway, (method, path, body), &site.signed(method, path, body)).await
}

const ACK: (&str, &str, &str) = ("POST", "/api/v1/alerts/acknowledgements", r#"{"alert": "disk"}"#);

#[tokio::test]
async fn nobody_may_unless_named() {
    let site = Site::new(SigningConfig::default());
    let gateway = site.gateway(&[]).await;
    let answer = ask(&gateway, &site, "GET", "/api/v1/alerts", "").await;
    assert_eq!(answer.status, 401);
    assert!(answer.text().contains("send the token"), "{}", answer.text());
    let gateway = site.gateway(&[("k00000000", Role::Admin)]).await;
    let answer = ask(&gateway, &site, "GET", "/api/v1/alerts", "").await;
    assert_eq!((answer.status, answer.text().contains("signature: ")), (401, true), "{}", answer.text());
}

#[tokio::test]
async fn a_request_counts_once_and_only_as_it_was_signed() {
    let site = Site::new(SigningConfig { header_prefix: "X-Weir".into(), ..SigningConfig::default() });
    let gateway = site.gateway(&[(&site.key(), Role::Respond)]).await;
    let headers = site.signed(ACK.0, ACK.1, ACK.2);
    let taken = send(&gateway, ACK, &headers).await;
    assert_eq!(taken.status, 201, "{}", taken.text());
    assert_eq!(taken.json()["by"], format!("HTTP from key {} from 127.0.0.1", site.key()));
    let others = Keys::load(&site.folder.path().join("others"), &site.signing, now_ms() - 1_000).unwrap();
    let fresh = || site.signed(ACK.0, ACK.1, ACK.2);
    let at = |ms: i64| sign(&site.signing, &site.keys, ACK, now_ms() + ms);
    let mut twice = fresh();
    twice.push(twice.iter().find(|header| header.starts_with("X-Weir-Nonce")).unwrap().clone());
    let without = |name: &str| fresh().into_iter().filter(|header| !header.contains(name)).collect::<Vec<_>>();
    let changed = (ACK.0, ACK.1, r#"{"alert": "*"}"#);
    for (what, request, headers, class) in [
        ("replayed", ACK, headers, "replayed: "),
        ("old", ACK, at(-301_000), "stale: "),
        ("early", ACK, at(302_000), "stale: "),
        ("ahead of a clock that alone knows the nonces", ACK, at(60_000), "stale: "),
        ("another body", changed, fresh(), "signature: "),
        ("another path", (ACK.0, "/api/v1/alerts/silences", ACK.2), fresh(), "signature: "),
        ("another method", ("GET", "/api/v1/alerts", ""), fresh(), "signature: "),
        ("another query", (ACK.0, "/api/v1/alerts/acknowledgements?x=1", ACK.2), fresh(), "signature: "),
        ("another key", ACK, sign(&site.signing, &others, ACK, now_ms()), "signature: "),
        ("two nonces", ACK, twice, "signature: "),
        ("no key id", ACK, without("Key-Id"), "signature: "),
        ("no nonce", ACK, without("Nonce"), "signature: "),
    ] {
        let answer = send(&gateway, request, &headers).await;
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(answer.status == 401 && detail.starts_with(class), "{what}: {}", answer.text());
        assert!(!answer.text().contains(&site.key()), "{what}: {}", answer.text());
    }
    // Whether it came before we began is not known: that is our memory, and not held against the caller.
    let answer = send(&gateway, ACK, &at(-60_000)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{}", answer.text());
    assert!(answer.text().contains("forgotten: what this gateway remembers"), "{}", answer.text());
    assert_eq!(send(&gateway, ACK, &fresh()).await.status, 201, "honest ones go on");
    let metrics = gateway.get("/metrics").await.text();
    for (reason, count) in [("replayed", 1), ("stale", 3), ("signature", 8), ("role", 0)] {
        let line = format!("mailweir_http_auth_failures_total{{reason=\"{reason}\"}} {count}");
        assert!(metrics.contains(&line), "{line}:\n{metrics}");
    }
    // With both, the token counts: a wrong one is not mended by a signature.
    let both = [fresh(), vec!["Authorization: Bearer wrong-horse-battery".into()]].concat();
    assert!(send(&gateway, ACK, &both).await.text().contains("not the token"));
}

#[tokio::test]
async fn guessing_is_cut_short_and_bodies_are_bounded() {
    let site = Site::new(SigningConfig::default());
    let callers = BTreeMap::from([("*".to_owned(), Role::Admin)]);
    let config = Config { callers, failed_tokens_per_minute: 2, request_bytes: 100, ..Config::default() };
    let gateway = start(config, &site.signing).await;
    let large = format!("{{\"alert\": \"{}\"}}", "d".repeat(100));
    assert_eq!(ask(&gateway, &site, "POST", ACK.1, &large).await.status, 413);
    for expected in [401, 401, 429] {
        let answer = send(&gateway, (ACK.0, ACK.1, "{}"), &site.signed(ACK.0, ACK.1, ACK.2)).await;
        assert_eq!(answer.status, expected, "{}", answer.text());
    }
    assert_eq!(send(&gateway, ACK, &site.signed(ACK.0, ACK.1, ACK.2)).await.status, 429, "even a good one");
}

#[tokio::test]
async fn each_role_may_what_it_says() {
    let site = Site::new(SigningConfig::default());
    // Method, path, who may at least.
    let document = serde_json::to_value(openapi()).unwrap();
    let mut responses = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        responses.extend(item.as_object().unwrap().keys().filter(|m| *m != "get").map(|m| format!("{m} {path}")));
    }
    for (role, allowed, refused) in [
        (Role::Metrics, &["GET /metrics", "GET /health/full"][..], responses.len()),
        (Role::Read, &["GET /metrics", "GET /api/v1/messages", "GET /api/v1/quarantine"][..], responses.len()),
        (Role::Respond, &["GET /openapi.json"], responses.len() - 4),
        (Role::Admin, &["GET /health/metrics"], 0),
    ] {
        let gateway = site.gateway(&[("*", role)]).await;
        let id = gateway.hold(1, b"Subject: x\r\n\r\nbody\r\n", &["a@x.example"]).await.to_string();
        for target in allowed {
            let (method, path) = target.split_once(' ').unwrap();
            assert_eq!(ask(&gateway, &site, method, path, "").await.status, 200, "{role:?} {target}");
        }
        let mut denied = 0;
        for target in &responses {
            let (method, path) = target.split_once(' ').unwrap();
            let path = path.replace("{id}", &id);
            let answer = ask(&gateway, &site, &method.to_uppercase(), &path, "").await;
            if answer.status == 403 {
                assert!(answer.json()["detail"].as_str().unwrap().starts_with("role: "), "{}", answer.text());
                denied += 1;
            } else {
                assert!(answer.status != 401, "{role:?} {target}");
            }
        }
        assert_eq!(denied, refused, "{role:?}");
        let raw = ask(&gateway, &site, "GET", &format!("/api/v1/quarantine/{id}/raw"), "").await.status;
        assert_eq!(raw == 403, role != Role::Admin, "{role:?}");
        assert_eq!(ask(&gateway, &site, "GET", "/nowhere", "").await.status, 404);
    }
}

#[tokio::test]
async fn keys_follow_each_other() {
    let mut site = Site::new(SigningConfig { overlap_hours: 1, ..SigningConfig::default() });
    let (old, before) = (site.key(), site.keys.clone());
    let gateway = site.gateway(&[(&old, Role::Respond)]).await;
    site.rotate();
    let by_old = || sign(&site.signing, &before, ACK, now_ms());
    assert_eq!(send(&gateway, ACK, &by_old()).await.status, 201, "within the overlap");
    assert_eq!(ask(&gateway, &site, ACK.0, ACK.1, ACK.2).await.status, 401, "the new one is not named");
    drop(gateway);
    let gateway = site.gateway(&[(&old, Role::Read), (&site.key(), Role::Respond)]).await;
    assert_eq!(send(&gateway, ACK, &by_old()).await.status, 403);
    assert_eq!(ask(&gateway, &site, ACK.0, ACK.1, ACK.2).await.status, 201);
    drop(gateway);
    // Without an overlap the old one ends with its successor's beginning.
    let signing = SigningConfig { overlap_hours: 0, ..site.signing.clone() };
    let callers = BTreeMap::from([("*".to_owned(), Role::Admin)]);
    let gateway = start(Config { callers, ..Config::default() }, &signing).await;
    assert_eq!(send(&gateway, ACK, &by_old()).await.status, 401);
    assert_eq!(ask(&gateway, &site, ACK.0, ACK.1, ACK.2).await.status, 201);
}

/// A key in wrong hands: rotated, it would verify for the overlap; revoked, it is good for nothing from the next request on.
#[tokio::test]
async fn a_revoked_key_is_not_taken() {
    let mut site = Site::new(SigningConfig::default());
    let (old, before) = (site.key(), site.keys.clone());
    let gateway = site.gateway(&[("*", Role::Respond)]).await;
    let by_old = || sign(&site.signing, &before, ACK, now_ms());
    assert_eq!(send(&gateway, ACK, &by_old()).await.status, 201);
    let file = site.signing.key_file.clone().unwrap();
    let config = site.folder.path().join("mailweir.toml");
    fs::write(&config, format!("data = {:?}\n[signing]\nkey_file = {file:?}\n", site.folder.path().join("data")))
        .unwrap();
    let revoke = |id: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailweir"));
        command
            .arg("--config")
            .arg(&config)
            .args(["keys", "revoke", id, "--json"])
            .env("USER", "ann")
            .env_remove("SUDO_USER");
        command.output().unwrap()
    };
    assert!(!revoke("k0").status.success(), "there is none of this name");
    let done = revoke(&old);
    let said: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&said["id"], &said["state"]), (&old.clone().into(), &"revoked".into()), "{said}");
    assert_eq!(send(&gateway, ACK, &by_old()).await.status, 401, "at once");
    site.keys = Keys::load(&file, &site.signing, now_ms()).unwrap();
    assert_eq!(said["successor"], site.key());
    let revoked = site.keys.list(now_ms()).into_iter().find(|key| key.id == old).unwrap();
    assert_eq!((revoked.state, revoked.revoked_by.as_deref()), (KeyState::Revoked, Some("ann")));
    assert_eq!(ask(&gateway, &site, ACK.0, ACK.1, ACK.2).await.status, 201, "the next one signs");
}

#[tokio::test]
async fn gateways_that_share_their_nonces_take_a_request_once() {
    if !available("callers::gateways_that_share_their_nonces") {
        return;
    }
    let mut redis = Redis::start(Keep::Nothing).await;
    let site = Site::new(SigningConfig { nonces_url: redis.url(), nonces_ms: 2_000, ..SigningConfig::default() });
    let (one, two) = (site.gateway(&[("*", Role::Respond)]).await, site.gateway(&[("*", Role::Respond)]).await);
    // Redis remembers longer than the gateways are there.
    redis.ask(&format!("ZADD mailweir:nonces -{} since", now_ms() - 600_000));
    let headers = sign(&site.signing, &site.keys, ACK, now_ms() - 60_000);
    assert_eq!(send(&one, ACK, &headers).await.status, 201);
    for gateway in [&two, &one] {
        let again = send(gateway, ACK, &headers).await;
        assert!(again.status == 401 && again.text().contains("replayed: "), "{}", again.text());
    }
    redis.ask("FLUSHALL");
    let again = send(&one, ACK, &headers).await;
    assert!(again.status == 503 && again.text().contains("forgotten: "), "Redis has forgotten it: {}", again.text());
    redis.kill();
    let silent = ask(&two, &site, ACK.0, ACK.1, ACK.2).await;
    assert_eq!((silent.status, silent.header("retry-after")), (503, "5"), "{}", silent.text());
}

#[tokio::test]
async fn a_second_look_is_ordered_once() {
    let site = Site::new(SigningConfig::default());
    let gateway = site.gateway(&[("*", Role::Respond)]).await;
    let look = async |id: &str, body: &str| {
        ask(&gateway, &site, "POST", &format!("/api/v1/messages/{id}/second-look"), body).await
    };
    let held = record(1, "held", &["a@x.example"]);
    gateway.hold(1, b"Subject: x\r\n\r\nbody\r\n", &["a@x.example"]).await;
    let gone = record(2, "passed on", &["a@x.example"]);
    gateway.note(&[held.clone(), gone.clone()]).await;
    let comment = r#"{"comment": "the link is phishing since 9:00"}"#;
    let ordered = look(&held.id.to_string(), comment).await;
    assert_eq!(ordered.status, 202, "{}", ordered.text());
    assert_eq!(ordered.json()["job"], format!("reassess:{}", held.id));
    assert_eq!(look(&held.id.to_string(), "").await.status, 202, "twice is once");
    let ordered = gateway.records.unfinished(now_ms(), 9).await.unwrap();
    let ordered: Vec<_> = ordered.iter().map(|job| (job.key.as_str(), job.priority)).collect();
    assert_eq!(ordered, [(format!("reassess:{}", held.id).as_str(), 0)], "in the outbox, where no queue loses it");
    assert_eq!(look(&gone.id.to_string(), "").await.status, 410);
    assert_eq!(look("01jd3q5xk9v7m2r8t4w6y0z1ab", "").await.status, 404);
    assert_eq!(look(&held.id.to_string(), r#"{"verdict": "bad"}"#).await.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_are_taken() {
    let site = Site::new(SigningConfig::default());
    let gateway = site.gateway(&[("*", Role::Respond)]).await;
    let file = site.folder.path().join("call.keys");
    let text: String = site.keys.keys().iter().map(|key| format!("{} {}\n", key.id, key.secret())).collect();
    fs::write(&file, text).unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/webhooks");
    let url = |path: &str| format!("http://{}{path}", gateway.address);
    for (program, script) in [("python3", "call.py"), ("sh", "call.sh")] {
        let call = async |method: &str, path: &str, body: &[&str]| -> Output {
            let mut command = Command::new(program);
            command.arg(scripts.join(script)).arg(&file).arg(site.key()).arg(method).arg(url(path)).args(body);
            command.env("no_proxy", "*").env("NO_PROXY", "*");
            tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
        };
        let acknowledged = call("post", ACK.1, &[ACK.2]).await;
        let said = String::from_utf8_lossy(&acknowledged.stdout);
        assert!(acknowledged.status.success() && said.contains("acknowledge"), "{script}: {acknowledged:?}");
        let listed = call("GET", "/api/v1/messages?limit=3", &[]).await;
        assert!(listed.status.success(), "{script}: {listed:?}");
        let refused = call("POST", "/api/v1/caches/invalidations", &[r#"{"everything": true}"#]).await;
        let said = format!("{refused:?}");
        assert!(!refused.status.success() && said.contains("http.callers"), "{script}: {said}");
    }
}
