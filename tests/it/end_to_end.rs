//! The built program with a real Postfix: as its milter, as its before-queue filter, and in front of it.
//!
//! Each way of standing there goes through the same course ([`Scene::course`]); what only one of them can do has its own test.

use std::time::Duration;

use mail_auth::dkim::Canonicalization;
use serde_json::Value;

use crate::support::client::Client;
use crate::support::dkim::{Signer, verify};
use crate::support::dns::{Answer, Dns};
use crate::support::gateway::{Gateway, free_port};
use crate::support::postfix::{Options, Postfix, available};
use crate::support::sink::{Mail, Sink};

/// The letter in front says what is asked for: X reject, Y quarantine, Z tag. In two halves, so that this file is none.
fn pattern(letter: char) -> String {
    format!("{letter}JS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD{}", "-ANTI-UBE-TEST-EMAIL*C.34X")
}

/// A message that is odd in every way that is allowed: what rewrites anything rewrites some of it.
fn odd_message(subject: &str, line: &str) -> Vec<u8> {
    format!(
        "From:Ada  Lovelace <ada@sender.example>\r\nTo:  \"Bob\"\r\n\t<bob@example.com>\r\nSubject: {subject}\r\n\
         Message-ID: <{subject}@sender.example>\r\nDate: Mon,  2 Nov 2026 10:00:00 +0000\r\nX-Empty:\r\nX-Tab:\ttab \r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
         Hello Bob,\r\n\r\n.dot\r\n..two dots\r\n.\t\r\n  spaces  \r\nFrom here on: \u{e9}\u{4e2d}\r\n{line}\r\n\
         See you on Monday.\r\n   \r\n\r\n"
    )
    .into_bytes()
}

/// How the gateway stands to Postfix.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Standing {
    Milter,
    BeforeQueue,
    InFront,
}

struct Scene {
    standing: Standing,
    sink: Sink,
    dns: Dns,
    signer: Signer,
    gateway: Gateway,
    postfix: Postfix,
}

impl Scene {
    async fn set(standing: Standing, settings: &str) -> Self {
        let sink = Sink::start().await;
        let (dns, signer) = (Dns::start(), Signer::new("sender.example"));
        let (name, key) = signer.record();
        dns.txt(&name, key);
        dns.txt("sender.example", "v=spf1 ip4:127.0.0.1 -all");
        dns.txt("_dmarc.sender.example", "v=DMARC1; p=reject; adkim=s");
        dns.says("sender.example", Answer::A(vec![[127, 0, 0, 1].into()]));
        let (smtp, reinject) = (free_port(), free_port());
        let next_hop = if standing == Standing::BeforeQueue { reinject } else { smtp };
        let settings = format!(
            "{settings}\n[enrichment.sender_auth]\nenabled = true\nresolvers = [\"{}\"]\nauthserv_id = \"gw.example.com\"\n",
            dns.address
        );
        let gateway = Gateway::start_with(next_hop, &settings).await;
        let mut options =
            Options { sink: Some(sink.address), smtp: Some(smtp), reinject: Some(reinject), ..Options::default() };
        match standing {
            Standing::Milter => options.milter = Some(format!("inet:{}", gateway.milter)),
            Standing::BeforeQueue => options.proxy_filter = Some(gateway.relay),
            Standing::InFront => {}
        }
        let postfix = Postfix::start(options).await;
        Self { standing, sink, dns, signer, gateway, postfix }
    }

    /// Sends a message the way a stranger would; the last reply.
    async fn send(&self, recipients: &[&str], raw: &[u8]) -> String {
        let door = if self.standing == Standing::InFront { self.gateway.relay } else { self.postfix.smtp };
        let mut client = Client::connect(door).await;
        client.send("ada@sender.example", recipients, raw).await
    }

    /// All mail that came to the end with this in it.
    fn arrived(&self, text: &str) -> Vec<Mail> {
        let has = |mail: &Mail| memchr::memmem::find(&mail.raw, text.as_bytes()).is_some();
        self.sink.mails().into_iter().filter(has).collect()
    }

    /// Waits for so many messages with this in them.
    async fn wait_for(&self, text: &str, count: usize) -> Vec<Mail> {
        for _ in 0..1_000 {
            let mails = self.arrived(text);
            if mails.len() >= count {
                return mails;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{count} times {text} did not come\n{}\n{}", self.postfix.log(), self.gateway.log());
    }

    /// The held messages with this subject.
    async fn held(&self, subject: &str) -> Vec<Value> {
        let listed = self.gateway.command(&["quarantine", "list", "--json"]).await;
        assert!(listed.ok, "{listed:?}");
        listed.json().into_iter().filter(|message| message["subject"] == subject).collect()
    }

    /// The one held message with this subject: its id and its bytes.
    async fn held_one(&self, subject: &str) -> (String, Vec<u8>) {
        let held = self.held(subject).await;
        assert_eq!(held.len(), 1, "{held:?}\n{}", self.gateway.log());
        let id = held[0]["id"].as_str().unwrap().to_owned();
        let raw = self.gateway.command(&["quarantine", "show", &id, "--raw"]).await;
        assert!(raw.ok, "{raw:?}");
        (id, raw.stdout)
    }

    async fn release(&self, id: &str) -> (bool, Value) {
        let ran = self.gateway.command(&["quarantine", "release", id, "--json"]).await;
        (ran.ok, ran.json().pop().unwrap_or_else(|| panic!("{ran:?}")))
    }

    /// The ledger is written after the answer: waits for the record.
    async fn explained(&self, id: &str) -> Value {
        for _ in 0..100 {
            let ran = self.gateway.command(&["explain", id, "--json"]).await;
            if ran.ok {
                return ran.json().pop().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no record of {id}\n{}", self.gateway.log());
    }

    async fn course(&self) {
        self.good_mail().await;
        self.rejected().await;
        self.held_and_released().await;
        self.tagged().await;
    }

    /// A signed message arrives byte for byte; its signature, which allows no change at all, still verifies.
    async fn good_mail(&self) {
        let raw = self.signer.sign(&odd_message("good", "Nothing special."), Canonicalization::Simple);
        let reply = self.send(&["bob@example.com"], &raw).await;
        assert!(reply.starts_with("250"), "{reply}\n{}", self.gateway.log());
        let mail = self.wait_for("Subject: good\r\n", 1).await.remove(0);
        let on_top = on_top(&mail, &raw);
        for name in ["X-Mailweir-Id", "X-Mailweir-Verdict", "X-Mailweir-Signals", "Authentication-Results", "Received"]
        {
            assert!(on_top.iter().any(|(n, _)| n == name), "{name}: {on_top:?}");
        }
        let (_, results) = on_top.iter().find(|(name, _)| name == "Authentication-Results").unwrap();
        for result in ["gw.example.com", "dkim=pass", "spf=pass", "dmarc=pass"] {
            assert!(results.contains(result), "{result}: {results}");
        }
        assert_eq!(verify(&mail.raw, self.dns.address).await, ["pass"]);
        let (_, id) = on_top.iter().find(|(name, _)| name == "X-Mailweir-Id").unwrap();
        let record = self.explained(id.trim()).await;
        assert_eq!((record["action"].as_str(), record["subject"].as_str()), (Some("allow"), Some("good")));
        assert_eq!(record["envelope"]["recipients"][0]["text"], "bob@example.com");
        assert_eq!(record["connection"]["client_ip"], "127.0.0.1");
        assert_eq!(record["connection"]["helo"], "client.example.net", "{record}");
    }

    async fn rejected(&self) {
        let reply = self.send(&["bob@example.com"], &odd_message("bad", &pattern('X'))).await;
        assert!(reply.starts_with("550 5.7.1 "), "{reply}");
        let words = || reply.split([' ', '\n']);
        let id = words().find(|word| word.parse::<mailweir::mail::MessageId>().is_ok());
        let id = id.unwrap_or_else(|| panic!("no id in {reply}"));
        let lower = reply.to_lowercase();
        assert!(!["gtube", "pattern", "127.0.0.1", "mailweir"].iter().any(|w| lower.contains(w)), "{reply}");
        for code in mailweir::analysis::Code::ALL {
            assert!(words().all(|word| word != code.as_str()), "{reply}");
        }
        let record = self.explained(id).await;
        assert_eq!((record["action"].as_str(), record["subject"].as_str()), (Some("reject"), Some("bad")));
        assert!(self.held("bad").await.is_empty());
        assert!(self.arrived("Subject: bad").is_empty());
    }

    async fn held_and_released(&self) {
        let sent = odd_message("held", &pattern('Y'));
        let reply = self.send(&["bob@example.com", "carol@example.com"], &sent).await;
        assert!(reply.starts_with("250"), "{reply}");
        let (id, raw) = self.held_one("held").await;
        // Before the queue, what comes to us has Postfix's own trace on top already.
        let trace = on_top_of(&raw, &sent);
        assert_eq!(trace.len(), usize::from(self.standing == Standing::BeforeQueue), "{trace:?}");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(self.arrived("Subject: held").is_empty(), "held mail is not passed on");

        let (ok, outcome) = self.release(&id).await;
        assert!(ok, "{outcome}\n{}", self.gateway.log());
        assert_eq!(outcome["released"].as_array().unwrap().len(), 2, "{outcome}");
        let mails = self.wait_for("Subject: held", 2).await;
        for mail in &mails {
            let on_top = on_top(mail, &raw);
            let passes = on_top.iter().filter(|(name, _)| name == "X-Mailweir-Release").count();
            // Only where the released message came through our own door could the door take the pass off.
            assert_eq!(passes, usize::from(self.standing != Standing::Milter), "{on_top:?}");
            assert!(on_top.iter().all(|(name, _)| name != "X-Mailweir-Verdict"), "judged again: {on_top:?}");
            assert_eq!(mail.recipients.len(), 1);
        }
        let (again, outcome) = self.release(&id).await;
        assert!(!again, "{outcome}");
        assert!(self.held("held").await.is_empty(), "nothing waits any more");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(self.arrived("Subject: held").len(), 2, "one copy for each recipient");
    }

    async fn tagged(&self) {
        let raw = odd_message("tag", &pattern('Z'));
        let reply = self.send(&["bob@example.com"], &raw).await;
        assert!(reply.starts_with("250"), "{reply}");
        let mail = self.wait_for("[suspicious] tag", 1).await.remove(0);
        let expected = String::from_utf8(raw).unwrap().replace("Subject: tag", "Subject: [suspicious] tag");
        on_top(&mail, expected.as_bytes());
    }

    /// A message for two tenants, of whom one holds everything: delivered to the one, held for the other.
    async fn two_tenants(&self) {
        let raw = odd_message("both", "For two houses.");
        let reply = self.send(&["bob@example.com", "carol@strict.example"], &raw).await;
        assert!(reply.starts_with("250"), "{reply}");
        let mail = self.wait_for("Subject: both", 1).await.remove(0);
        assert_eq!(mail.recipients.len(), 1, "{mail:?}");
        assert!(mail.recipients[0].contains("bob@example.com"), "{:?}", mail.recipients);
        let held = self.held("both").await;
        let recipients = held[0]["recipients"].as_array().unwrap();
        assert_eq!(recipients.len(), 1, "{held:?}");
        assert_eq!(recipients[0]["recipient"], "carol@strict.example");
        assert_eq!(recipients[0]["tenant"], "strict");
        let (id, _) = self.held_one("both").await;
        assert!(self.release(&id).await.0);
        let mails = self.wait_for("Subject: both", 2).await;
        assert!(mails[1].recipients[0].contains("carol@strict.example"), "{:?}", mails[1].recipients);
        assert_eq!(mails.len(), 2);
    }
}

/// Fields (name, value) above `below`, with which the message must end; all of them ours or an MTA's.
#[track_caller]
fn on_top(mail: &Mail, below: &[u8]) -> Vec<(String, String)> {
    let fields = on_top_of(&mail.raw, below);
    let ours = |name: &str| name.starts_with("X-Mailweir-") || name == "Authentication-Results" || name == "Received";
    assert!(fields.iter().all(|(name, _)| ours(name)), "{fields:?}");
    fields
}

#[track_caller]
fn on_top_of(raw: &[u8], below: &[u8]) -> Vec<(String, String)> {
    assert!(raw.ends_with(below), "not byte for byte:\n{}\nis no end of\n{}", below.escape_ascii(), raw.escape_ascii());
    let top = String::from_utf8(raw[..raw.len() - below.len()].to_vec()).unwrap();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in top.split_terminator("\r\n") {
        match line.split_once(':') {
            Some((name, value)) if !line.starts_with([' ', '\t']) => fields.push((name.into(), value.into())),
            _ => fields.last_mut().expect("a field before its continuation").1 += line,
        }
    }
    fields
}

const STRICT: &str =
    "[[policy.tenants]]\nname = \"strict\"\ndomains = [\"strict.example\"]\ntag_at = 0.0\nquarantine_at = 0.0\n";

#[tokio::test]
async fn as_a_milter() {
    if !available("end_to_end::as_a_milter") {
        return;
    }
    let scene = Scene::set(Standing::Milter, STRICT).await;
    scene.course().await;
    scene.two_tenants().await;
    let log = scene.postfix.log();
    assert!(!log.contains("warning: milter"), "{log}");
}

#[tokio::test]
async fn before_the_queue() {
    if !available("end_to_end::before_the_queue") {
        return;
    }
    let scene = Scene::set(Standing::BeforeQueue, STRICT).await;
    scene.course().await;
    scene.two_tenants().await;
}

#[tokio::test]
async fn in_front() {
    if !available("end_to_end::in_front") {
        return;
    }
    let mut scene = Scene::set(Standing::InFront, STRICT).await;
    scene.course().await;
    scene.two_tenants().await;

    // The next hop goes away: the sender keeps his mail, a held message stays held, and both go through later.
    let raw = odd_message("later", "Not yet.");
    assert!(scene.send(&["bob@example.com"], &odd_message("kept", &pattern('Y'))).await.starts_with("250"));
    let (id, _) = scene.held_one("kept").await;
    scene.postfix.stop();
    let reply = scene.send(&["bob@example.com"], &raw).await;
    assert!(reply.starts_with("451") || reply.starts_with("421"), "{reply}");
    let (ok, outcome) = scene.release(&id).await;
    assert!(!ok, "{outcome}");
    assert_eq!(outcome["failed"][0]["recipient"], "bob@example.com", "{outcome}");
    let held = scene.held("kept").await;
    assert_eq!(held[0]["recipients"][0]["state"], "held", "{held:?}");
    assert!(!held[0]["recipients"][0]["last_error"].as_str().unwrap_or_default().is_empty(), "{held:?}");
    scene.postfix.start_again().await;
    let mut reply = String::new();
    for _ in 0..100 {
        reply = scene.send(&["bob@example.com"], &raw).await;
        if reply.starts_with("250") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(reply.starts_with("250"), "{reply}");
    assert!(scene.release(&id).await.0);
    on_top(&scene.wait_for("Subject: later", 1).await[0], &raw);
    scene.wait_for("Subject: kept", 1).await;
}

/// A release goes through our own door once; a copy of its pass is worth nothing.
#[tokio::test]
async fn a_pass_opens_once() {
    if !available("end_to_end::a_pass_opens_once") {
        return;
    }
    let scene = Scene::set(Standing::Milter, "").await;
    let sent = odd_message("pass", &pattern('Y'));
    assert!(scene.send(&["bob@example.com"], &sent).await.starts_with("250"));
    let (id, _) = scene.held_one("pass").await;
    // Released to somewhere else, so that the pass is seen before it is used.
    let elsewhere = Sink::start().await;
    let hops = format!("[{{ name = \"else\", address = \"{}\" }}]", elsewhere.address);
    let variables = [("MAILWEIR__NEXT_HOP__HOPS", hops.as_str())];
    let ran = scene.gateway.command_with(&["quarantine", "release", &id, "--json"], &variables).await;
    assert!(ran.ok, "{ran:?}");
    let with_pass = elsewhere.wait_for(1).await.remove(0).raw;
    assert!(with_pass.starts_with(b"X-Mailweir-Release: ") && with_pass.ends_with(&sent));

    // The pass was made for this body: on another it is worth nothing, and is not used up by the try.
    let other = String::from_utf8(with_pass.clone()).unwrap().replace("See you on Monday", "See you on Tuesday");
    assert!(scene.send(&["bob@example.com"], other.as_bytes()).await.starts_with("250"));
    assert_eq!(scene.held("pass").await.len(), 1, "judged");
    assert!(scene.send(&["bob@example.com"], &with_pass).await.starts_with("250"));
    let mail = scene.wait_for("Subject: pass", 1).await.remove(0);
    let fields = on_top(&mail, &sent);
    assert!(fields.iter().all(|(name, _)| name == "Received"), "unjudged, the pass taken off: {fields:?}");
    assert!(scene.send(&["bob@example.com"], &with_pass).await.starts_with("250"));
    assert_eq!(scene.held("pass").await.len(), 2, "judged");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(scene.arrived("Subject: pass").len(), 1);
}

/// When nothing can be held, what would be held is deferred: neither delivered nor half held.
#[tokio::test]
async fn a_store_that_fails() {
    let sink = Sink::start().await;
    let full = "[store]\nmin_free_bytes = 9000000000000000000\n";
    let gateway = Gateway::start_with(sink.address, full).await;
    let mut client = Client::connect(gateway.relay).await;
    let to = ["bob@example.com"];
    let reply = client.send("ada@sender.example", &to, &odd_message("full", &pattern('Y'))).await;
    assert!(reply.starts_with("451 4.3.0"), "{reply}");
    assert!(!reply.contains("disk") && !reply.contains("data"), "{reply}");
    let reply = client.send("ada@sender.example", &to, &odd_message("fine", "Nothing special.")).await;
    assert!(reply.starts_with("250"), "other mail is not kept waiting: {reply}");
    assert_eq!(sink.wait_for(1).await.len(), 1);
    let listed = gateway.command(&["quarantine", "list", "--json"]).await;
    assert_eq!((listed.ok, listed.stdout.len()), (true, 0), "{listed:?}");
    let log = gateway.log();
    assert!(log.contains("could not be held") && log.contains("bytes free"), "the log says why: {log}");
}

/// SIGTERM ends it with what is in flight answered; SIGHUP takes new settings, and wrong ones not at all.
#[tokio::test]
async fn signals() {
    let sink = Sink::start().await;
    let gateway = Gateway::start_with(sink.address, "").await;
    let to = ["bob@strict.example"];
    let mut client = Client::connect(gateway.relay).await;
    let mut send = async |subject: &str| client.send("a@sender.example", &to, &odd_message(subject, "Hi.")).await;
    assert!(send("one").await.starts_with("250"));
    gateway.configure(sink.address, STRICT);
    gateway.hang_up();
    let strict = async || gateway.command(&["quarantine", "list", "--json"]).await.json().len();
    let mut sent = 1;
    while strict().await == 0 {
        assert!(sent < 100, "the settings are not read anew:\n{}", gateway.log());
        assert!(send("again").await.starts_with("250"));
        sent += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Wrong settings change nothing.
    gateway.configure(sink.address, "[policy.default]\ntag_at = 99.0\nquarantine_at = 1.0\n");
    gateway.hang_up();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let before = strict().await;
    assert!(send("still strict").await.starts_with("250"));
    assert_eq!(strict().await, before + 1, "{}", gateway.log());

    // A message under way when the gateway is told to end is answered by the next hop's own word.
    gateway.configure(sink.address, "");
    gateway.hang_up();
    tokio::time::sleep(Duration::from_millis(700)).await;
    sink.set(|replies| replies.end_delay = Duration::from_millis(800));
    let last = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        gateway.terminate().await
    };
    let (reply, status) = tokio::join!(send("last"), last);
    assert!(reply.starts_with("250 2.0.0 Ok: kept"), "{reply}");
    assert!(status.success(), "{status:?}\n{}", gateway.log());
    assert!(std::net::TcpStream::connect(gateway.relay).is_err());
}

/// A feed in `enforce` decides while Postfix waits. `MAILWEIR_FEED` names a folder of rules that are enforced beside ours.
#[tokio::test]
async fn a_feed_of_rules_answers_postfix() {
    if !available("end_to_end::a_feed_of_rules_answers_postfix") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rule = |name: &str, source: &str| {
        let text = format!("name: {name}\ntype: rule\nseverity: critical\nsource: |\n  {source}\n");
        std::fs::write(folder.path().join(format!("{name}.yml")), text).unwrap();
    };
    rule(
        "quokka",
        "type.inbound and strings.icontains(subject.subject, 'quokka') and any(body.links, .href_url.domain.tld == 'example')",
    );
    rule("wombat", "any(attachments, .file_extension == 'wombat') and length(recipients.to) == 1");
    let mut settings =
        format!("[[policy.rules.paths]]\npath = {:?}\nname = \"ours\"\nmode = \"enforce\"\n", folder.path());
    if let Ok(feed) = std::env::var("MAILWEIR_FEED") {
        settings += &format!("[[policy.rules.paths]]\npath = {feed:?}\nname = \"feed\"\nmode = \"enforce\"\n");
    }
    let scene = Scene::set(Standing::Milter, &settings).await;
    let send = async |subject: &str, line: &str| {
        let raw = scene.signer.sign(&odd_message(subject, line), Canonicalization::Simple);
        assert!(scene.send(&["bob@example.com"], &raw).await.starts_with("250"), "{}", scene.gateway.log());
        let mail = scene.wait_for(&format!("Subject: {subject}\r\n"), 1).await.remove(0);
        on_top(&mail, &raw).into_iter().map(|(_, value)| value).collect::<String>()
    };
    let good = send("morning", "Nothing of a quokka in the subject, http://a.example/ in the body.").await;
    assert!(!good.contains("RULE_"), "{good}");
    let bad = send("QUOKKA", "Look: http://quokka.example/").await;
    assert!(bad.contains("RULE_"), "{bad}");
}
