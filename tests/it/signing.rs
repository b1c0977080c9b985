//! Signed requests as others verify them: the examples of `deploy/webhooks`, each over good and bad requests.
#![allow(clippy::disallowed_methods)] // Starts the examples with arguments of our own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use mailweir::enforcement::signing::{
    Asked, Keys, NonceError, SignatureError, Signer, SigningConfig, SiteNonces, Verifier,
};

use crate::support::redis::{Keep, Redis, available};

const BODY: &[u8] = b"{\"version\": 1, \"node\": \"gr\xc3\xbcn\"}";

struct Case {
    name: &'static str,
    good: bool,
    path: &'static str,
    headers: Vec<(String, String)>,
    body: &'static [u8],
}

fn cases(keys: &Keys, others: &Keys, now_ms: i64) -> Vec<Case> {
    let signer = Signer::new(&SigningConfig::default());
    let path = "/hook?a=1&b=%20";
    let asked = Asked { method: "POST", path, body: BODY };
    let signed = |keys: &Keys, at_ms: i64| signer.sign(keys, &asked, at_ms).unwrap();
    let good = signed(keys, now_ms);
    let with = |name: &str, value: Option<&str>| -> Vec<(String, String)> {
        let name = format!("X-Mailweir-{name}");
        let change = |(n, v): &(String, String)| match (*n == name, value) {
            (true, None) => None,
            (true, Some(value)) => Some((n.clone(), value.to_owned())),
            _ => Some((n.clone(), v.clone())),
        };
        good.iter().filter_map(change).collect()
    };
    let case = |name, good, headers| Case { name, good, path, headers, body: BODY };
    vec![
        case("good", true, good.clone()),
        case("a while ago", true, signed(keys, now_ms - 200_000)),
        case("too old", false, signed(keys, now_ms - 400_000)),
        case("too early", false, signed(keys, now_ms + 400_000)),
        case("another key", false, signed(others, now_ms)),
        case("no signature", false, with("Signature", None)),
        case("empty signature", false, with("Signature", Some("v1="))),
        case("wrong signature", false, with("Signature", Some(&format!("v1={}", "0".repeat(64))))),
        case("another nonce", false, with("Nonce", Some("0123"))),
        case("odd time", false, with("Timestamp", Some("1e9"))),
        case("no time", false, with("Timestamp", None)),
        Case { name: "another path", good: false, path: "/hook", headers: good.clone(), body: BODY },
        Case { name: "another body", good: false, path, headers: good, body: b"{}" },
    ]
}

#[test]
fn the_examples_verify_what_we_sign() {
    let folder = tempfile::tempdir().unwrap();
    let config = SigningConfig::default();
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    let key_file = folder.path().join("signing.keys");
    let mut keys = Keys::load(&key_file, &config, now_ms - 1_000_000).unwrap();
    // Signed with the first, of several.
    keys.rotate(&config, false, now_ms).unwrap();
    let others = Keys::load(&folder.path().join("other.keys"), &config, now_ms - 1_000_000).unwrap();
    let text: String = keys.keys().iter().map(|key| format!("{} {}\n", key.id, key.secret())).collect();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("keys"), text).unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/webhooks");
    let mut tried = 0;
    for (program, script) in [("python3", "verify.py"), ("node", "verify.mjs"), ("sh", "verify.sh")] {
        let needed = if program == "sh" { "openssl" } else { program };
        let argument = if program == "sh" { "version" } else { "--version" };
        if !Command::new(needed).arg(argument).output().is_ok_and(|output| output.status.success()) {
            println!("left out: {script}, for {needed} is not there");
            continue;
        }
        tried += 1;
        for case in cases(&keys, &others, now_ms) {
            let headers: String = case.headers.iter().map(|(n, v)| format!("{}: {v}\r\n", n.to_lowercase())).collect();
            fs::write(at("headers"), headers).unwrap();
            fs::write(at("body"), case.body).unwrap();
            let mut command = Command::new(program);
            command
                .arg(scripts.join(script))
                .arg(at("keys"))
                .args(["post", case.path])
                .args([at("headers"), at("body")]);
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), case.good, "{script}: {}: {said}", case.name);
            assert!(!said.contains("Traceback") && !said.contains("    at "), "{script}: {}: {said}", case.name);
            assert_eq!(said.is_empty(), case.good, "{script}: {}: {said}", case.name);
        }
    }
    println!("{tried} of 3 examples tried");
    assert!(tried > 0);
}

#[tokio::test]
async fn a_nonce_counts_once_for_all_gateways() {
    if !available("signing::a_nonce_counts_once") {
        return;
    }
    let mut redis = Redis::start(Keep::Nothing).await;
    let folder = tempfile::tempdir().unwrap();
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    let config = SigningConfig { nonces_url: redis.url(), nonces_ms: 2_000, ..SigningConfig::default() };
    let keys = Keys::load(&folder.path().join("keys"), &config, now_ms).unwrap();
    let gateway = || Verifier::new(&config, SiteNonces::new(&config).unwrap());
    let (one, two) = (gateway(), gateway());
    // Redis remembers since long ago.
    redis.ask(&format!("ZADD mailweir:nonces -{} since", now_ms - 600_000));
    let asked = Asked { method: "POST", path: "/hook", body: BODY };
    let verify = async |verifier: &Verifier<SiteNonces>, headers: &[(String, String)]| {
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        verifier.verify(&keys, &asked, header, now_ms).await
    };
    let sign = || Signer::new(&config).sign(&keys, &asked, now_ms).unwrap();
    let first = sign();
    assert!(verify(&one, &first).await.is_ok());
    assert_eq!(verify(&two, &first).await, Err(SignatureError::Replayed), "the other gateway knows");
    assert_eq!(verify(&one, &first).await, Err(SignatureError::Replayed));
    // It is forgotten, but not before its signature is too old.
    assert_eq!(redis.ask("ZCARD mailweir:nonces"), ":2\r\n");
    assert_eq!(redis.ask("TTL mailweir:nonces"), ":-1\r\n", "nothing that Redis may evict by itself");
    let at = async |now_ms: i64| {
        let headers = Signer::new(&config).sign(&keys, &asked, now_ms).unwrap();
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        two.verify(&keys, &asked, header, now_ms).await
    };
    at(now_ms + 290_000).await.unwrap();
    assert_eq!(redis.ask("ZCARD mailweir:nonces"), ":3\r\n");
    at(now_ms + 301_500).await.unwrap();
    assert_eq!(redis.ask("ZCARD mailweir:nonces"), ":3\r\n", "the first is forgotten");

    // Redis loses its memory: what it may have known is not taken again, what is signed three seconds later is.
    let taken = Signer::new(&config).sign(&keys, &asked, now_ms + 2_000).unwrap();
    assert!(verify(&one, &taken).await.is_ok());
    redis.ask("FLUSHALL");
    let before = |answer| answer == Err(SignatureError::Nonces(NonceError::Before));
    assert!(before(verify(&one, &taken).await) && before(verify(&two, &taken).await), "it came before");
    assert!(before(verify(&one, &sign()).await), "so may this have, for all that is known");
    assert!(before(at(now_ms + 2_000).await));
    assert!(at(now_ms + 4_000).await.is_ok());
    // Evicted under `allkeys-…`: all of it.
    redis.ask("DEL mailweir:nonces");
    assert!(before(at(now_ms + 4_000).await));

    redis.kill();
    let silent = verify(&one, &sign()).await;
    assert!(matches!(silent, Err(SignatureError::Nonces(NonceError::Silent(_)))), "{silent:?}");
    redis.start_again().await;
    redis.ask(&format!("ZADD mailweir:nonces -{} since", now_ms - 600_000));
    let back = async {
        while verify(&two, &sign()).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), back).await.expect("it is asked again");
}

/// One gateway's clock is an hour ahead: when it lets the memory begin, and when it forgets what the others still need.
#[tokio::test]
async fn a_clock_that_was_ahead_locks_nobody_out() {
    if !available("signing::a_clock_that_was_ahead") {
        return;
    }
    let redis = Redis::start(Keep::Nothing).await;
    let folder = tempfile::tempdir().unwrap();
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    let ahead_ms = now_ms + 3_600_000;
    let config = SigningConfig { nonces_url: redis.url(), nonces_ms: 2_000, ..SigningConfig::default() };
    let keys = Keys::load(&folder.path().join("keys"), &config, now_ms).unwrap();
    let verifier = Verifier::new(&config, SiteNonces::new(&config).unwrap());
    let asked = Asked { method: "POST", path: "/hook", body: BODY };
    let sign = |at_ms: i64| Signer::new(&config).sign(&keys, &asked, at_ms).unwrap();
    let verify = async |headers: &[(String, String)], at_ms: i64| {
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        verifier.verify(&keys, &asked, header, at_ms).await
    };
    let before = Err(SignatureError::Nonces(NonceError::Before));
    verifier.nonces().prepare(ahead_ms).await;
    let fast = sign(ahead_ms + 4_000);
    assert!(verify(&fast, ahead_ms + 4_000).await.is_ok(), "by a clock like ours");
    // The right clock.
    let early = sign(now_ms);
    assert_eq!(verify(&early, now_ms).await, before);
    let good = sign(now_ms + 4_000);
    assert!(verify(&good, now_ms + 4_000).await.is_ok(), "not an hour later");
    assert_eq!(verify(&good, now_ms + 4_000).await, Err(SignatureError::Replayed));
    assert_eq!(verify(&early, now_ms + 4_000).await, before, "it stays refused");
    // Ahead again: what the others took is forgotten there, and yet does not count again.
    assert!(verify(&sign(ahead_ms + 5_000), ahead_ms + 5_000).await.is_ok());
    assert_eq!(verify(&good, now_ms + 5_000).await, before);
    assert!(verify(&sign(now_ms + 6_000), now_ms + 6_000).await.is_ok(), "others are not kept waiting");
    assert_eq!(verify(&fast, ahead_ms + 4_000).await, Err(SignatureError::Replayed), "when its time comes");
    // A gateway that starts with the right clock mends it before anybody asks.
    redis.ask("FLUSHALL");
    verifier.nonces().prepare(ahead_ms).await;
    verifier.nonces().prepare(now_ms).await;
    assert!(verify(&sign(now_ms + 4_000), now_ms + 4_000).await.is_ok());
}
