//! How the detectors do on labelled mail: `MAILWEIR_CORPUS=FOLDER cargo bench --bench accuracy`.
//!
//! The folder holds `MANIFEST.tsv` and the files it names. Facts are taken from its columns: what the receiver wrote then.
//! Asserts nothing about shares: it prints them. For tuning by idea, never for fitting.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, HashMap};
use std::path::Path as FilePath;

use bytes::Bytes;
use mailweir::analysis::*;
use mailweir::mail::{Connection, Door, Envelope, Message, MessageLimits, Path, registrable_domain};
use mailweir::policy::{BUILT_IN_WEIGHTS, RuleFindings, Weights, score};

fn main() {
    let Ok(folder) = std::env::var("MAILWEIR_CORPUS") else {
        return println!(
            "left out: accuracy: MAILWEIR_CORPUS names no folder with MANIFEST.tsv and the messages it names"
        );
    };
    let folder = FilePath::new(&folder);
    let weights = Weights::parse(BUILT_IN_WEIGHTS).unwrap();
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let mut lines = manifest.lines();
    let names: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let site = Site::new(&["example.org".to_owned()], &[]);
    let verbose = std::env::var("MAILWEIR_SHOW").unwrap_or_default();
    let mut classes: BTreeMap<String, Class> = BTreeMap::new();
    for line in lines {
        let row: HashMap<&str, &str> = names.iter().copied().zip(line.split('\t')).collect();
        let Ok(raw) = std::fs::read(folder.join(row["path"])) else { continue };
        let message = Message::parse(Bytes::from(raw), &MessageLimits::default());
        let facts = facts(&row, &message);
        let envelope = Envelope {
            sender: Path::new(row["mail_from"].trim_matches('-')),
            recipients: vec![Path::new("user@example.org")],
        };
        let mut connection = Connection::unknown(Door::Scan);
        connection.client_ip = row["client_ip"].parse().ok();
        connection.helo = Some(row["helo"].to_owned()).filter(|h| h != "-");
        let signals = analyse(&Input {
            message: &message,
            envelope: &envelope,
            connection: &connection,
            facts: &facts,
            site: &site,
        });
        let judged = score(signals, &RuleFindings::default(), &weights);
        if verbose == row["class"] && ((judged.risk >= 60.0) != (row["class"] == "phish" || row["class"] == "spam")) {
            let terms: Vec<_> =
                judged.terms.iter().map(|t| format!("{} {:.1} {:?}", t.code, t.weight, t.evidence)).collect();
            println!(
                "{} {:.0} | {} | {}",
                row["path"],
                judged.risk,
                message.from().first().map_or("", |f| &f.text),
                terms.join("; ")
            );
        }
        for class in [row["class"].to_owned(), format!("{} {} reply={}", row["class"], row["era"], row["reply"])] {
            let class = classes.entry(class).or_default();
            class.messages += 1;
            class.held += usize::from(judged.risk >= 60.0);
            class.refused += usize::from(judged.risk >= 90.0);
            for term in &judged.terms {
                *class.codes.entry(term.code.as_str()).or_default() += 1;
            }
        }
    }
    for (name, class) in &classes {
        let percent = |n: usize| n as f64 * 100.0 / class.messages as f64;
        println!(
            "{name:24} {:5} messages, >= 60: {:6.2} %, >= 90: {:6.2} %",
            class.messages,
            percent(class.held),
            percent(class.refused)
        );
    }
    for name in ["ham", "ham_hard", "phish", "spam"] {
        let Some(class) = classes.get(name) else { continue };
        let mut codes: Vec<_> = class.codes.iter().map(|(code, n)| (*n * 1000 / class.messages, *code)).collect();
        codes.sort_unstable_by(|a, b| b.cmp(a));
        println!("{name}, per mille: {codes:?}");
    }
}

#[derive(Default)]
struct Class {
    messages: usize,
    held: usize,
    refused: usize,
    codes: HashMap<&'static str, usize>,
}

fn facts(row: &HashMap<&str, &str>, message: &Message) -> Facts {
    let mut facts = Facts::unknown(Why::Disabled);
    let word = |name: &str| row[name].to_lowercase();
    let from = message.from().first().and_then(|f| f.address.clone()).map(|a| a.domain).unwrap_or_default();
    let envelope = row["mail_from"].rsplit('@').next().unwrap_or_default().to_lowercase();
    let spf = match word("spf_recorded").as_str() {
        "pass" => Some(SpfResult::Pass),
        "fail" | "hardfail" => Some(SpfResult::Fail),
        "softfail" => Some(SpfResult::SoftFail),
        "none" => Some(SpfResult::None),
        "neutral" => Some(SpfResult::Neutral),
        "temperror" => Some(SpfResult::TempError),
        "permerror" => Some(SpfResult::PermError),
        _ => None,
    };
    if let Some(result) = spf {
        facts.spf = Fact::Known(Spf { result, domain: envelope.clone() });
    }
    let signer = message.header("DKIM-Signature").and_then(|f| {
        let text = f.unfolded().replace(' ', "");
        text.split(';').find_map(|tag| tag.trim().strip_prefix("d=").map(str::to_lowercase))
    });
    let signature = |result| DkimSignature {
        result,
        domain: signer.clone().unwrap_or_default(),
        selector: "s".into(),
        reason: None,
    };
    match word("dkim_recorded").as_str() {
        "pass" => facts.dkim = Fact::Known(vec![signature(DkimResult::Pass)]),
        "fail" | "hardfail" => facts.dkim = Fact::Known(vec![signature(DkimResult::Fail)]),
        "none" => facts.dkim = Fact::Known(vec![]),
        "permerror" => facts.dkim = Fact::Known(vec![signature(DkimResult::PermError)]),
        "neutral" => facts.dkim = Fact::Known(vec![signature(DkimResult::Neutral)]),
        _ => {}
    }
    let same =
        |domain: &str| registrable_domain(domain).is_some() && registrable_domain(domain) == registrable_domain(&from);
    let spf_aligned = spf == Some(SpfResult::Pass) && same(&envelope);
    let dkim_aligned = word("dkim_recorded") == "pass" && signer.as_deref().is_some_and(same);
    let result = match word("dmarc_recorded").as_str() {
        "pass" | "bestguesspass" => Some(DmarcResult::Pass),
        "fail" => Some(DmarcResult::Fail),
        "none" => Some(DmarcResult::None),
        "temperror" => Some(DmarcResult::TempError),
        "permerror" => Some(DmarcResult::PermError),
        _ => None,
    };
    if let Some(result) = result {
        let policy = if result == DmarcResult::None { DmarcPolicy::Unspecified } else { DmarcPolicy::None };
        let passed = result == DmarcResult::Pass && !spf_aligned && !dkim_aligned;
        facts.dmarc =
            Fact::Known(Dmarc { result, policy, domain: from, spf_aligned, dkim_aligned: dkim_aligned || passed });
    }
    facts
}
