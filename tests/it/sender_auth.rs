//! Sender authentication against a DNS server that says what it is told: SPF, DKIM, DMARC, ARC, and what is not known.

use std::net::IpAddr;
use std::time::Duration;

use mail_auth::dkim::Canonicalization;
use mailweir::analysis::{ArcResult, DkimResult, DmarcPolicy, DmarcResult, Facts, SpfResult, Why};
use mailweir::enrichment::{SenderAuth, SenderAuthConfig};
use mailweir::mail::{Connection, Door, Path};
use tokio::time::Instant;

use crate::support::dkim::{SELECTOR, Signer, forwarded};
use crate::support::dns::{Answer, Dns};

const RAW: &str = "From: Ada <ada@sender.example>\r\nTo: bob@example.com\r\nSubject:  odd \t spaces\r\n\
                   Date: Mon,  2 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n\r\nHello  Bob, \t\r\n\r\nAda\r\n";

struct Scene {
    dns: Dns,
    config: SenderAuthConfig,
}

impl Scene {
    fn new() -> Self {
        let dns = Dns::start();
        let config = SenderAuthConfig { resolvers: vec![dns.address], query_ms: 300, ..SenderAuthConfig::default() };
        Self { dns, config }
    }

    /// Publishes a signer's key.
    fn signer(&self, domain: &str) -> Signer {
        let signer = Signer::new(domain);
        let (name, text) = signer.record();
        self.dns.txt(&name, text);
        signer
    }

    fn auth(&self) -> SenderAuth {
        SenderAuth::new(&self.config, "gw.example.com").unwrap()
    }

    /// With nothing remembered of earlier questions.
    async fn ask(&self, client: &str, sender: &str, raw: impl AsRef<[u8]>) -> Facts {
        self.auth().ask(&connection(client), &Path::new(sender), raw.as_ref()).await
    }
}

fn connection(client: &str) -> Connection {
    let client_ip = Some(client.parse::<IpAddr>().unwrap());
    Connection { client_ip, helo: Some("mail.sender.example".into()), ..Connection::unknown(Door::Relay) }
}

#[tokio::test]
async fn spf() {
    let scene = Scene::new();
    scene.dns.txt("by-ip.example", "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all");
    scene.dns.txt("by-a.example", "v=spf1 a:out.by-a.example ~all");
    scene.dns.says("out.by-a.example", Answer::A(vec![[192, 0, 2, 1].into(), [192, 0, 2, 7].into()]));
    scene.dns.txt("by-mx.example", "v=spf1 mx ?all");
    scene.dns.says("by-mx.example", Answer::Mx("mx.by-mx.example".into()));
    scene.dns.says("mx.by-mx.example", Answer::A(vec![[192, 0, 2, 7].into()]));
    scene.dns.txt("by-include.example", "v=spf1 include:by-ip.example -all");
    scene.dns.txt("no-spf.example", "something else");
    scene.dns.txt("bad.example", "v=spf1 ip4:not-an-address -all");
    scene.dns.txt("loop.example", "v=spf1 include:loop.example -all");
    scene.dns.txt("twice.example", "v=spf1 ip4:192.0.2.7 -all");
    scene.dns.txt("twice.example", "v=spf1 ip4:198.51.100.1 -all");
    scene.dns.says("failing.example", Answer::Failure);
    scene.dns.says("silent.example", Answer::Silence);
    scene.dns.txt("below.example", "v=spf1 include:failing.example -all");
    let known = [
        ("twice.example", "192.0.2.7", SpfResult::PermError),
        ("by-ip.example", "192.0.2.7", SpfResult::Pass),
        ("by-ip.example", "2001:db8::7", SpfResult::Pass),
        ("by-ip.example", "198.51.100.1", SpfResult::Fail),
        ("by-a.example", "192.0.2.7", SpfResult::Pass),
        ("by-a.example", "198.51.100.1", SpfResult::SoftFail),
        ("by-mx.example", "192.0.2.7", SpfResult::Pass),
        ("by-mx.example", "198.51.100.1", SpfResult::Neutral),
        ("by-include.example", "192.0.2.7", SpfResult::Pass),
        ("no-spf.example", "192.0.2.7", SpfResult::None),
        ("nowhere.example", "192.0.2.7", SpfResult::None),
        ("bad.example", "192.0.2.7", SpfResult::PermError),
        ("loop.example", "192.0.2.7", SpfResult::PermError),
    ];
    for (domain, client, expected) in known {
        let facts = scene.ask(client, &format!("ada@{domain}"), RAW).await;
        let spf = facts.spf.known().unwrap_or_else(|| panic!("{domain} {client}: {:?}", facts.spf));
        assert_eq!((spf.result, spf.domain.as_str()), (expected, domain), "{client}");
    }
    for domain in ["failing.example", "below.example", "silent.example"] {
        let facts = scene.ask("192.0.2.7", &format!("ada@{domain}"), RAW).await;
        assert_eq!(facts.spf.unknown(), Some(Why::Timeout), "{domain}: {:?}", facts.spf);
    }
    // A bounce: the HELO name stands in for the sender. A client that logged in is ours, and not asked about.
    scene.dns.txt("mail.sender.example", "v=spf1 ip4:192.0.2.7 -all");
    let facts = scene.ask("192.0.2.7", "", RAW).await;
    assert_eq!(
        facts.spf.known().map(|spf| (spf.result, spf.domain.as_str())),
        Some((SpfResult::Pass, "mail.sender.example"))
    );
    let ours = Connection { login: Some("ada".into()), ..connection("192.0.2.7") };
    let facts = scene.auth().ask(&ours, &Path::new("ada@by-ip.example"), RAW.as_bytes()).await;
    assert_eq!(facts.spf.unknown(), Some(Why::Disabled));
    let offline =
        SenderAuth::offline().ask(&connection("192.0.2.7"), &Path::new("a@by-ip.example"), RAW.as_bytes()).await;
    assert!(offline.unknowns().iter().all(|(_, why)| *why == Why::Disabled));
    // The five of authentication, the history of senders, the campaign, and the five of services.
    assert_eq!((offline.authentication_unknowns().count(), offline.unknowns().len()), (5, 12));
}

#[tokio::test]
async fn dkim() {
    let scene = Scene::new();
    let signer = scene.signer("sender.example");
    let results = async |raw: Vec<u8>| {
        let facts = scene.ask("192.0.2.7", "ada@sender.example", raw).await;
        let signatures = facts.dkim.known().unwrap_or_else(|| panic!("{:?}", facts.dkim)).clone();
        assert!(signatures.iter().all(|s| s.domain.ends_with(".example") && s.selector == SELECTOR), "{signatures:?}");
        signatures.into_iter().map(|signature| signature.result).collect::<Vec<_>>()
    };
    let (relaxed, simple) = (Canonicalization::Relaxed, Canonicalization::Simple);
    assert_eq!(results(RAW.into()).await, []);
    let good = signer.sign(RAW.as_bytes(), relaxed);
    assert_eq!(results(good.clone()).await, [DkimResult::Pass]);
    assert_eq!(results(signer.sign(RAW.as_bytes(), simple)).await, [DkimResult::Pass]);
    // Relaxed: lines of white space at the end count for nothing (RFC 6376, 3.4.4), nor do spaces before a line's end.
    let trailing: [&[u8]; 4] = [b"\r\n", b" \r\n", b"\t \r\n\r\n  \r\n", b"\r\n\r\n \t\r\n"];
    for end in trailing {
        assert_eq!(results([&good[..], end].concat()).await, [DkimResult::Pass], "{}", end.escape_ascii());
    }
    let text = String::from_utf8(good.clone()).unwrap();
    assert_eq!(results(text.replace("Bob, \t\r\n", "Bob,\r\n").into()).await, [DkimResult::Pass]);
    assert_eq!(results(text.replace("Hello  Bob", "Hello Bob").into()).await, [DkimResult::Pass]);
    assert_eq!(results(text.replace("odd \t spaces", "odd spaces").into()).await, [DkimResult::Pass]);
    let strict = String::from_utf8(signer.sign(RAW.as_bytes(), simple)).unwrap();
    for (from, to) in [("Hello  Bob", "Hello Bob"), ("odd \t spaces", "odd spaces"), ("Ada\r\n", "Ada\r\n \r\n")] {
        let (head, tail) = strict.rsplit_once(from).unwrap();
        assert_eq!(results(format!("{head}{to}{tail}").into()).await, [DkimResult::Fail], "simple: {from}");
    }
    // Changed where it counts: in the body, in a signed header.
    for (from, to) in [("Hello", "Help"), ("Subject:  odd", "Subject:  even"), ("From: Ada", "From: Eve")] {
        assert_eq!(results(text.replace(from, to).into()).await, [DkimResult::Fail], "{to}");
    }
    // No key, somebody else's key, a key that is taken back, DNS that fails.
    let other = Signer::new("other.example");
    assert_eq!(results(other.sign(RAW.as_bytes(), relaxed)).await, [DkimResult::PermError]);
    scene.dns.txt(&other.record().0, signer.record().1);
    assert_eq!(results(other.sign(RAW.as_bytes(), relaxed)).await, [DkimResult::Fail]);
    scene.dns.forget(&other.record().0);
    scene.dns.txt(&other.record().0, "v=DKIM1; k=ed25519; p=");
    assert_eq!(results(other.sign(RAW.as_bytes(), relaxed)).await, [DkimResult::PermError]);
    scene.dns.forget(&other.record().0);
    scene.dns.says(&other.record().0, Answer::Failure);
    assert_eq!(results(other.sign(RAW.as_bytes(), relaxed)).await, [DkimResult::TempError]);
    // One good among bad ones is found, up to the limit.
    let both = signer.sign(&other.sign(RAW.as_bytes(), relaxed), relaxed);
    assert_eq!(results(both).await, [DkimResult::Pass, DkimResult::TempError]);
    let many = (0..15).fold(RAW.as_bytes().to_vec(), |raw, _| signer.sign(&raw, relaxed));
    assert_eq!(results(many).await, [DkimResult::Pass; 10]);
}

#[tokio::test]
async fn dmarc() {
    let scene = Scene::new();
    scene.dns.txt("sender.example", "v=spf1 ip4:192.0.2.7 -all");
    scene.dns.txt("news.sender.example", "v=spf1 ip4:192.0.2.7 -all");
    scene.dns.txt("other.example", "v=spf1 ip4:192.0.2.7 -all");
    let other = scene.signer("other.example");
    let (signer, below) = (scene.signer("sender.example"), scene.signer("news.sender.example"));
    let sign = |signer: &Signer| signer.sign(RAW.as_bytes(), Canonicalization::Relaxed);
    let plain = RAW.as_bytes().to_vec();
    let results = async |sender: &str, raw: Vec<u8>| {
        let facts = scene.ask("192.0.2.7", sender, raw).await;
        let dmarc = facts.dmarc.known().unwrap_or_else(|| panic!("{:?}", facts.dmarc)).clone();
        assert_eq!(facts.proven_from().is_some(), dmarc.is_aligned());
        (dmarc.result, dmarc.policy, dmarc.spf_aligned, dmarc.dkim_aligned)
    };
    use DmarcPolicy::{Quarantine, Reject, Unspecified};
    use DmarcResult::{Fail, None, Pass};
    // No record: what is aligned is known all the same.
    assert_eq!(results("a@sender.example", plain.clone()).await, (None, Unspecified, true, false));
    assert_eq!(results("a@other.example", plain.clone()).await, (None, Unspecified, false, false));
    assert_eq!(results("a@other.example", sign(&below)).await, (None, Unspecified, false, true));

    scene.dns.txt("_dmarc.sender.example", "v=DMARC1; p=reject; sp=quarantine");
    assert_eq!(results("a@sender.example", plain.clone()).await, (Pass, Reject, true, false));
    assert_eq!(results("a@news.sender.example", plain.clone()).await, (Pass, Reject, true, false), "relaxed");
    assert_eq!(results("a@other.example", sign(&signer)).await, (Pass, Reject, false, true));
    assert_eq!(results("a@other.example", sign(&other)).await, (Fail, Reject, false, false), "good, but another's");
    assert_eq!(results("a@other.example", plain.clone()).await, (Fail, Reject, false, false));
    let from_below = RAW.replace("ada@sender.example", "ada@shop.sender.example").into_bytes();
    assert_eq!(
        results("a@other.example", from_below).await,
        (Fail, Quarantine, false, false),
        "the policy for subdomains"
    );

    scene.dns.forget("_dmarc.sender.example");
    scene.dns.txt("_dmarc.sender.example", "v=DMARC1; p=reject; aspf=s; adkim=s");
    assert_eq!(results("a@news.sender.example", plain.clone()).await, (Fail, Reject, false, false), "strict");
    assert_eq!(results("a@other.example", sign(&below)).await, (Fail, Reject, false, false), "strict");
    assert_eq!(results("a@other.example", sign(&signer)).await, (Pass, Reject, false, true));
    // Two authors of different domains prove nothing about each other.
    let two = RAW.replace("From: Ada <ada@sender.example>", "From: ada@sender.example, eve@other.example");
    let facts = scene.ask("192.0.2.7", "a@sender.example", two).await;
    assert_eq!(facts.proven_from(), Option::None);
    // Nor does a second From put above a signed one, whose signature is still good.
    let signed = String::from_utf8(sign(&signer)).unwrap();
    let facts =
        scene.ask("192.0.2.7", "a@sender.example", format!("From: Boss <boss@sender.example>\r\n{signed}")).await;
    assert!(facts.dkim.known().is_some_and(|all| all.iter().any(|s| s.result == DkimResult::Pass)), "{:?}", facts.dkim);
    assert_eq!(facts.proven_from(), Option::None);
}

/// What could not be asked is unknown; it is neither a pass nor a fail.
#[tokio::test]
async fn unknown_is_not_no() {
    let scene = Scene::new();
    let signer = scene.signer("sender.example");
    scene.dns.txt("_dmarc.sender.example", "v=DMARC1; p=reject");
    scene.dns.txt("other.example", "v=spf1 -all");
    let signed = signer.sign(RAW.as_bytes(), Canonicalization::Relaxed);
    scene.dns.forget(&signer.record().0);
    scene.dns.says(&signer.record().0, Answer::Failure);
    let facts = scene.ask("192.0.2.7", "a@other.example", &signed).await;
    assert_eq!(facts.dkim.known().unwrap()[0].result, DkimResult::TempError);
    assert_eq!(facts.dmarc.unknown(), Some(Why::Timeout), "the key might have made it a pass: {:?}", facts.dmarc);
    assert_eq!(facts.spf.known().unwrap().result, SpfResult::Fail);
    // The same with SPF: had it been answered, it might have been an aligned pass.
    scene.dns.says("sender.example", Answer::Failure);
    let facts = scene.ask("192.0.2.7", "a@sender.example", RAW).await;
    assert_eq!(facts.dmarc.unknown(), Some(Why::Timeout), "{:?}", facts.dmarc);
    // And with the policy itself.
    scene.dns.forget("_dmarc.sender.example");
    scene.dns.says("_dmarc.sender.example", Answer::Failure);
    let facts = scene.ask("192.0.2.7", "a@other.example", RAW).await;
    assert_eq!(facts.dmarc.unknown(), Some(Why::Timeout), "{:?}", facts.dmarc);
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let mut scene = Scene::new();
    scene.config.deadline_ms = 400;
    scene.config.query_ms = 10_000;
    let signer = Signer::new("sender.example");
    for name in ["sender.example", "_dmarc.sender.example", "mail.sender.example", &signer.record().0] {
        scene.dns.says(name, Answer::Silence);
    }
    scene.dns.txt("other.example", "v=spf1 ip4:192.0.2.7 -all");
    let signed = signer.sign(RAW.as_bytes(), Canonicalization::Relaxed);
    let started = Instant::now();
    let facts = scene.ask("192.0.2.7", "a@sender.example", &signed).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    for why in [facts.spf.unknown(), facts.dkim.unknown(), facts.dmarc.unknown()] {
        assert_eq!(why, Some(Why::Timeout), "{facts:?}");
    }
    // What was answered in time stands.
    let facts = scene.ask("192.0.2.7", "a@other.example", &signed).await;
    assert_eq!(facts.spf.known().unwrap().result, SpfResult::Pass);
    assert_eq!(facts.dkim.unknown(), Some(Why::Timeout));
    assert_eq!(facts.arc.known().unwrap().result, ArcResult::None);
}

#[tokio::test]
async fn answers_are_remembered() {
    let scene = Scene::new();
    let signer = scene.signer("sender.example");
    scene.dns.txt("sender.example", "v=spf1 ip4:192.0.2.7 -all");
    scene.dns.txt("_dmarc.sender.example", "v=DMARC1; p=none");
    let signed = signer.sign(RAW.as_bytes(), Canonicalization::Relaxed);
    let auth = scene.auth();
    let ask = async || auth.ask(&connection("192.0.2.7"), &Path::new("a@sender.example"), &signed).await;
    let first = ask().await;
    let asked = scene.dns.asked().len();
    assert!(asked > 0);
    for _ in 0..5 {
        assert_eq!(ask().await, first);
    }
    assert_eq!(scene.dns.asked().len(), asked, "{:?}", scene.dns.asked());
}

/// A list changes the message and seals what it saw before: believed only when the operator trusts the sealer.
#[tokio::test]
async fn arc() {
    let mut scene = Scene::new();
    let (signer, list) = (scene.signer("sender.example"), scene.signer("list.example"));
    scene.dns.txt("_dmarc.sender.example", "v=DMARC1; p=reject");
    scene.dns.txt("list.example", "v=spf1 ip4:192.0.2.7 -all");
    let signed = signer.sign(RAW.as_bytes(), Canonicalization::Relaxed);
    let changed = [&signed[..], b"-- \r\nThe list's footer\r\n"].concat();
    let sealed = forwarded(&list, &signed, &changed, scene.dns.address).await;
    let ask = async |scene: &Scene, raw: &[u8]| {
        let facts = scene.ask("192.0.2.7", "bounce@list.example", raw).await;
        assert_eq!(facts.dmarc.known().unwrap().result, DmarcResult::Fail);
        let proven = facts.proven_from().map(str::to_owned);
        let arc = facts.arc.known().unwrap().clone();
        assert_eq!(proven.is_some(), arc.trusted_pass);
        (arc.result, arc.sealer, arc.trusted_pass)
    };
    let sealer = Some("list.example".to_owned());
    assert_eq!(ask(&scene, &sealed).await, (ArcResult::Pass, sealer.clone(), false), "not trusted");
    scene.config.trusted_arc_sealers = vec!["List.example".into()];
    assert_eq!(ask(&scene, &sealed).await, (ArcResult::Pass, sealer.clone(), true));
    assert_eq!(ask(&scene, &changed).await, (ArcResult::None, None, false));
    // Changed after the seal; sealed what had not passed.
    let later = [&sealed[..], b"One more line\r\n"].concat();
    assert_eq!(ask(&scene, &later).await, (ArcResult::Fail, sealer.clone(), false));
    let unsigned = forwarded(&list, RAW.as_bytes(), RAW.as_bytes(), scene.dns.address).await;
    assert_eq!(ask(&scene, &unsigned).await, (ArcResult::Pass, sealer, false));
}
