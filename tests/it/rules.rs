//! Rules in the gateway: feeds from folders, modes, terms, exclusions, broken ones; by way of `mailweir scan` and `serve`'s
//! own configuration.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const MESSAGE: &str = "From: Ada <ada@sender.example>\r\nTo: bob@site.example\r\nSubject: Quokka invoice 17\r\n\
    Date: Mon, 5 Jan 2026 10:00:00 +0000\r\nMessage-ID: <one@sender.example>\r\n\r\nPlease see https://quokka.example/pay\r\n";

/// A rule file with an id made of a number.
fn rule(folder: &Path, number: u32, kind: &str, source: &str) {
    let text = format!(
        "name: Quokka {number}\ntype: {kind}\nseverity: high\nid: 00000000-0000-5000-8000-{number:012}\nsource: |\n  {source}\n"
    );
    write(&folder.join(format!("rule_{number}.yml")), &text);
}

fn write(file: &Path, text: &str) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

/// Runs `scan` over the message with these settings.
fn run(folder: &Path, settings: &str, arguments: &[&str]) -> Output {
    write(&folder.join("mailweir.toml"), settings);
    write(&folder.join("message.eml"), MESSAGE);
    #[allow(clippy::disallowed_methods)] // Starts the program under test; nothing here comes from mail.
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailweir"));
    command.arg("scan").args(arguments).arg("--config").arg(folder.join("mailweir.toml"));
    command.arg("--offline").arg(folder.join("message.eml"));
    command.output().unwrap()
}

fn scan(folder: &Path, settings: &str) -> (Value, String) {
    let output = run(folder, settings, &["--json"]);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {log}"));
    (line, log)
}

fn feed(folder: &Path, name: &str, mode: &str) -> String {
    let path = folder.join(name);
    format!("[[policy.rules.paths]]\npath = {:?}\nname = \"{name}\"\nmode = \"{mode}\"\n", path.display().to_string())
}

fn ids(line: &Value) -> Vec<(String, String, f64)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let matches = line["rules"]["matches"].as_array().unwrap().iter();
    matches.map(|one| (text(&one["name"]), text(&one["mode"]), one["weight"].as_f64().unwrap())).collect()
}

#[test]
fn enforced_rules_count_and_those_in_shadow_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    rule(
        &folder.join("ours/deep"),
        1,
        "rule",
        "strings.icontains(subject.subject, 'QUOKKA') and length(body.links) > 0",
    );
    rule(&folder.join("ours"), 2, "rule", "strings.icontains(subject.subject, 'wombat')");
    rule(&folder.join("theirs"), 3, "rule", "sender.email.domain.domain == 'sender.example'");
    write(&folder.join("ours/.github/workflow.yml"), "name: CI\non: push\n");
    write(&folder.join("ours/other.yaml"), "on: push\njobs: {}\n");
    let (none, _) = scan(folder, "");
    assert!(ids(&none).is_empty());
    let (shadow, log) = scan(folder, &feed(folder, "theirs", "shadow"));
    assert_eq!(ids(&shadow), [("Quokka 3".into(), "shadow".into(), 0.0)], "{log}");
    assert_eq!(shadow["score"], none["score"]);
    let both = format!("{}{}", feed(folder, "theirs", "shadow"), feed(folder, "ours", "enforce"));
    let (enforced, log) = scan(folder, &both);
    assert_eq!(
        ids(&enforced),
        [("Quokka 1".into(), "enforce".into(), 2.6), ("Quokka 3".into(), "shadow".into(), 0.0)],
        "{log}"
    );
    assert!(enforced["score"].as_f64().unwrap() > none["score"].as_f64().unwrap() + 5.0, "{enforced} {none}");
    let clauses = enforced["rules"]["matches"][0]["clauses"].as_array().unwrap();
    assert_eq!(clauses.len(), 2, "{clauses:?}");
    // The operator's word on one rule counts before the feed's.
    let off = format!("{both}[policy.rules.modes]\nids = {{\"00000000-0000-5000-8000-000000000001\" = \"off\"}}\n");
    assert_eq!(scan(folder, &off).0["score"], none["score"]);
    let text = run(folder, &both, &[]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("RULE 00000000-0000-5000-8000-000000000001") && text.contains("+2.60"), "{text}");
    assert!(text.contains("rule Quokka 3 (in shadow, theirs)"), "{text}");
}

#[test]
fn a_broken_rule_is_left_out_and_a_missing_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    rule(&folder.join("ours"), 1, "rule", "strings.icontains(subject.subject, 'quokka')");
    rule(&folder.join("ours"), 2, "rule", "subject.subject ===");
    write(&folder.join("ours/again.yml"), &std::fs::read_to_string(folder.join("ours/rule_1.yml")).unwrap());
    write(&folder.join("ours/nameless.yml"), "type: rule\nsource: 'true'\n");
    let (line, _) = scan(folder, &feed(folder, "ours", "enforce"));
    assert_eq!(ids(&line).len(), 1, "neither twice nor not at all");
    let output = run(folder, &feed(folder, "nowhere", "enforce"), &["--json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("policy.rules.paths") && said.contains("nowhere"), "{said}");
}

#[test]
fn an_exclusion_leaves_the_message_out_unless_it_is_in_shadow() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    rule(&folder.join("ours"), 1, "rule", "strings.icontains(subject.subject, 'quokka')");
    rule(&folder.join("left"), 2, "exclusion", "sender.email.domain.domain == 'sender.example'");
    let (none, _) = scan(folder, "");
    let (counted, _) = scan(folder, &format!("{}{}", feed(folder, "ours", "enforce"), feed(folder, "left", "shadow")));
    assert!(counted["rules"]["excluded"].is_null() && counted["score"] != none["score"], "{counted}");
    assert_eq!(ids(&counted).len(), 2);
    let (excluded, _) =
        scan(folder, &format!("{}{}", feed(folder, "ours", "enforce"), feed(folder, "left", "enforce")));
    assert_eq!(excluded["rules"]["excluded"], "00000000-0000-5000-8000-000000000002");
    assert_eq!(excluded["score"], none["score"]);
}

#[test]
fn lists_are_read_and_an_unknown_one_leaves_a_rule_undecided() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    rule(&folder.join("ours"), 1, "rule", "sender.email.domain.domain in~ $friends");
    let rules = feed(folder, "ours", "enforce");
    let (unknown, _) = scan(folder, &rules);
    assert_eq!((ids(&unknown).len(), &unknown["rules"]["undecided"][0][0]), (0, &Value::from("list")));
    write(&folder.join("lists/friends.txt"), "Sender.Example\n");
    write(&folder.join("lists/README.md"), "no list\n");
    let lists = format!("[policy.named_lists]\npaths = [{:?}]\n", folder.join("lists").display().to_string());
    let (known, log) = scan(folder, &format!("{rules}{lists}"));
    assert_eq!(ids(&known).len(), 1, "{known} {log}");
    write(&folder.join("lists/friends.txt"), "Sender.Example\n");
    std::fs::write(folder.join("lists/broken.txt"), b"a\n\xff\n").unwrap();
    let output = run(folder, &format!("{rules}{lists}"), &["--json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("broken.txt:2"), "{said}");
}
