//! Runs `tests/cases/*.case`: for each detector what must fire, and its twin that must not.
//!
//! A case is lines `key: value` up to `message:`, then the message up to a line `===`.
//! `case` its name; `expect`, `absent` codes; `envelope` sender `->` recipient; `connection` `helo=… ip=… login=… receiver=…`;
//! `facts` `spf=result(domain) dkim=result(domain) dmarc=result/policy arc=trusted`, `none` for what is not named when
//! the line is there, unknown when it is not; `services` the facts of services as JSON, not asked when it is not there; `campaign` messages, senders, recipients;
//! `sender` `known` or `new`; `deep: yes` the second look, `ocr` what is written in a picture. A message without Date and Message-ID gets both, unless `bare: yes`.

use std::collections::HashSet;

use bytes::Bytes;
use mailweir::analysis::*;
use mailweir::mail::{Connection, Door, Envelope, Message, MessageLimits, Path, registrable_domain};

#[derive(Default)]
struct Case {
    name: String,
    expect: Vec<Code>,
    absent: Vec<Code>,
    envelope: String,
    connection: String,
    facts: Option<String>,
    services: Option<String>,
    campaign: Option<String>,
    known: Option<bool>,
    deep: bool,
    ocr: Option<String>,
    bare: bool,
    message: String,
}

#[test]
fn cases() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let (mut failures, mut count) = (Vec::new(), 0);
    let (mut fired, mut silent) = (HashSet::new(), HashSet::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "case") {
            continue;
        }
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        for case in read(&std::fs::read_to_string(&path).unwrap(), &file) {
            count += 1;
            let signals = run(&case);
            let has = |code: &Code| signals.iter().any(|s| s.code == *code);
            let missing: Vec<_> = case.expect.iter().filter(|c| !has(c)).collect();
            let wrong: Vec<_> = case.absent.iter().filter(|c| has(c)).collect();
            if !missing.is_empty() || !wrong.is_empty() {
                failures
                    .push(format!("{file}: {}: missing {missing:?}, not wanted {wrong:?}; got {signals:?}", case.name));
            }
            for signal in &signals {
                assert!((0.0..=1.0).contains(&signal.strength) && signal.evidence.len() <= 5, "{signal:?}");
            }
            fired.extend(case.expect);
            silent.extend(case.absent);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // YARA rules are the operator's: shown in `yara.rs`.
    let ours = Code::ALL.iter().filter(|c| **c != Code::YaraMatch);
    let without: Vec<_> = ours.filter(|c| !fired.contains(c) || !silent.contains(c)).collect();
    assert!(without.is_empty(), "no case, or no twin, for {without:?}");
    println!("{count} cases");
}

fn read(text: &str, file: &str) -> Vec<Case> {
    let (mut cases, mut case, mut in_message) = (Vec::new(), Case::default(), false);
    for line in text.lines() {
        if line == "===" {
            cases.push(std::mem::take(&mut case));
            in_message = false;
        } else if in_message {
            case.message.push_str(line);
            case.message.push('\n');
        } else if line == "message:" {
            in_message = true;
        } else if let Some((key, value)) = line.split_once(": ") {
            let codes = || value.split_whitespace().map(|c| code(c, file)).collect();
            match key {
                "case" => case.name = value.to_owned(),
                "expect" => case.expect = codes(),
                "absent" => case.absent = codes(),
                "envelope" => case.envelope = value.to_owned(),
                "connection" => case.connection = value.to_owned(),
                "facts" => case.facts = Some(value.to_owned()),
                "services" => case.services = Some(value.to_owned()),
                "campaign" => case.campaign = Some(value.to_owned()),
                "sender" => case.known = Some(value == "known"),
                "deep" => case.deep = true,
                "ocr" => case.ocr = Some(value.to_owned()),
                "bare" => case.bare = true,
                _ => panic!("{file}: {line}"),
            }
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "{file}: {line}");
        }
    }
    assert!(case.name.is_empty(), "{file}: {} has no end", case.name);
    cases
}

fn code(text: &str, file: &str) -> Code {
    *Code::ALL.iter().find(|c| c.as_str() == text).unwrap_or_else(|| panic!("{file}: no code {text}"))
}

fn run(case: &Case) -> Vec<Signal> {
    let usual = if case.bare { "" } else { "Date: Fri, 1 Mar 2024 10:00:00 +0000\nMessage-ID: <1@m.example>\n" };
    let message = Message::parse(Bytes::from(format!("{usual}{}", case.message)), &MessageLimits::default());
    let from = message.from().first().and_then(|f| f.address.clone()).map(|a| a.domain).unwrap_or_default();
    let (sender, recipient) = case.envelope.split_once("->").unwrap_or((&from, "user@example.org"));
    let sender = if case.envelope.is_empty() { format!("bounce@{from}") } else { sender.trim().to_owned() };
    let envelope = Envelope { sender: Path::new(sender.as_str()), recipients: vec![Path::new(recipient.trim())] };
    let mut connection = Connection::unknown(Door::Relay);
    for (key, value) in case.connection.split_whitespace().filter_map(|pair| pair.split_once('=')) {
        match key {
            "helo" => connection.helo = Some(value.to_owned()),
            "ip" => connection.client_ip = Some(value.parse().unwrap()),
            "login" => connection.login = Some(value.to_owned()),
            "receiver" => connection.receiver = Some(value.to_owned()),
            _ => panic!("{key}"),
        }
    }
    let mut facts = case.facts.as_ref().map_or_else(|| Facts::unknown(Why::Timeout), |text| facts(text, &from));
    if let Some(services) = &case.services {
        facts.services = serde_json::from_str(services).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    }
    if let Some(text) = &case.campaign {
        let numbers: Vec<u32> = text.split_whitespace().map(|n| n.parse().unwrap()).collect();
        let [messages, senders, recipients] = numbers[..] else { panic!("{text}") };
        facts.campaign = Fact::Known(Campaign { messages, senders, recipients, untold: Vec::new() });
    }
    if let Some(known) = case.known {
        facts.history = Fact::Known(remembered(if known { Prevalence::Rare } else { Prevalence::New }));
    }
    if let Some(text) = &case.ocr {
        facts.answers.insert("beta.ocr", "key".into(), serde_json::json!({"text": text}));
    }
    let mut site = Site::new(
        &["example.org".into(), "weirworks.example".into()],
        &["Erika Mustermann <erika@home.example>".into()],
    );
    site.deep = case.deep;
    analyse(&Input { message: &message, envelope: &envelope, connection: &connection, facts: &facts, site: &site })
}

/// A history in which only the sender's address is known.
fn remembered(prevalence: Prevalence) -> History {
    let profile = Profile {
        prevalence,
        solicited: false,
        any_messages_benign: false,
        any_messages_malicious_or_spam: false,
        any_false_positives: false,
        auth_failed: false,
        days_known: 0,
        days_since_first_contact: None,
        days_since_last_contact: None,
        days_since_last_inbound: None,
        days_since_last_outbound: None,
    };
    let by_sender_email = Some(profile);
    History { by_sender: None, by_sender_email, by_sender_domain: None, by_reply_to: None, members: Default::default() }
}

fn facts(text: &str, from: &str) -> Facts {
    let mut facts = Facts::unknown(Why::Disabled);
    facts.spf = Fact::Known(Spf { result: SpfResult::None, domain: String::new() });
    facts.spf_helo = Fact::Known(Spf { result: SpfResult::None, domain: String::new() });
    facts.arc = Fact::Known(Arc { result: ArcResult::None, sealer: None, trusted_pass: false });
    let (mut signatures, mut result, mut policy) = (Vec::new(), DmarcResult::None, DmarcPolicy::Unspecified);
    let (mut spf_aligned, mut dkim_aligned) = (false, false);
    let same =
        |domain: &str| registrable_domain(domain).is_some() && registrable_domain(domain) == registrable_domain(from);
    for pair in text.split_whitespace() {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (word, domain) = value.trim_end_matches(')').split_once('(').unwrap_or((value, ""));
        let quoted = format!("\"{word}\"");
        match key {
            "spf" => {
                let result: SpfResult = serde_json::from_str(&quoted).unwrap();
                spf_aligned = result == SpfResult::Pass && same(domain);
                facts.spf = Fact::Known(Spf { result, domain: domain.into() });
            }
            "dkim" => {
                let result: DkimResult = serde_json::from_str(&quoted).unwrap();
                dkim_aligned |= result == DkimResult::Pass && same(domain);
                signatures.push(DkimSignature { result, domain: domain.into(), selector: "s".into(), reason: None });
            }
            "dmarc" => {
                let (word, wanted) = word.split_once('/').unwrap_or((word, "unspecified"));
                result = serde_json::from_str(&format!("\"{word}\"")).unwrap();
                policy = serde_json::from_str(&format!("\"{wanted}\"")).unwrap();
            }
            "arc" => {
                let sealer = Some("list.example".to_owned());
                facts.arc = Fact::Known(Arc { result: ArcResult::Pass, sealer, trusted_pass: word == "trusted" });
            }
            "none" => {}
            _ => panic!("{pair}"),
        }
    }
    facts.dkim = Fact::Known(signatures);
    facts.dmarc = Fact::Known(Dmarc { result, policy, domain: from.into(), spf_aligned, dkim_aligned });
    facts
}
