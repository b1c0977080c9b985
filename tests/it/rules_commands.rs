//! `mailweir rules` as people use it, and the rules that come with the program.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mailweir::policy::{BUILT_IN_RULES, BUILT_IN_WEIGHTS, Expect, RuleFile, RuleKind, Thresholds, Weights, risk};
use serde_json::Value;

const MESSAGE: &str = "From: Ada <ada@sender.example>\nTo: bob@site.example\nSubject: Quokka invoice 17\n\
    Message-ID: <one@sender.example>\n\nPlease see https://quokka.example/pay\n";

fn write(file: &Path, text: &str) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

fn mailweir(folder: &Path, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    #[allow(clippy::disallowed_methods)] // Starts the program under test; nothing here comes from mail.
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailweir"));
    command.args(arguments).current_dir(folder).env_remove("MAILWEIR_CONFIG");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Runs it and gives its exit code and what it wrote to standard output.
fn rules(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let (code, out, error) = mailweir(folder, &[&["rules"], arguments].concat(), "");
    assert_eq!(error, "", "{arguments:?}");
    (code, out)
}

fn shipped() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/rules")
}

#[test]
fn our_own_rules_load_are_told_apart_and_no_one_of_them_decides() {
    let in_folder: BTreeSet<String> =
        std::fs::read_dir(shipped()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let built_in: BTreeSet<String> = BUILT_IN_RULES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(in_folder, built_in, "every file of policies/rules is built in");
    let weights = Weights::parse(BUILT_IN_WEIGHTS).unwrap();
    let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (name, text) in BUILT_IN_RULES {
        let rule = RuleFile::parse(name, text).unwrap();
        assert!(text.contains(&rule.id), "{name}: its id stands in the file");
        assert!(ids.insert(rule.id.clone()) && names.insert(rule.name.clone()), "{name}: twice");
        assert!(!rule.description.is_empty() && !rule.tags.is_empty(), "{name}");
        let expects = |expect| rule.tests.iter().any(|test| test.expect == expect);
        assert!(expects(Expect::Match) && expects(Expect::NoMatch), "{name}: a match and its twin");
        if rule.kind == RuleKind::Detection {
            assert!(!rule.attack_types.is_empty(), "{name}");
            let alone = risk(weights.bias + weights.rules.of(rule.severity));
            assert!(alone < Thresholds::default().quarantine_at, "{name}: {alone}");
        }
    }
}

#[test]
fn our_own_rules_pass_their_tests_and_are_formatted() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = shipped();
    let shipped = shipped.to_str().unwrap();
    let (code, out) = rules(folder.path(), &["test", shipped]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains(&format!("{0} of {0} rules have tests", BUILT_IN_RULES.len())), "{out}");
    let (code, out) = rules(folder.path(), &["fmt", "--check", shipped]);
    assert_eq!(code, Some(0), "{out}");
}

const RULE: &str = "name: Quokka\ntype: rule\nseverity: high # as written\ntags: [Zoo]\n\
    source: |\n    strings.icontains(subject.subject,'QUOKKA') // the animal\n\n    and length( body.links )>0\n\
    \n# after it\nattack_types: [Spam]\n";

#[test]
fn two_files_of_one_name_in_two_folders_are_two_rules() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("feed/a/rule.yml"), RULE);
    write(&folder.join("feed/b/rule.yml"), RULE);
    write(&folder.join("feed/rule.yml"), RULE);
    let (code, out) = rules(folder, &["check", "feed", "--json"]);
    let checked: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &checked["rules"], checked["broken"].as_array().unwrap().len()), (Some(0), &Value::from(3), 0));
}

#[test]
fn fmt_rewrites_the_source_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = folder.join("feed/rule.yml");
    write(&file, RULE);
    write(&folder.join("feed/line.yml"), "name: n\ntype: rule\nsource: a==1\n");
    let (code, out) = rules(folder, &["fmt", "--check", "feed"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("feed/rule.yml\n") && out.contains("feed/line.yml: left as it is"), "{out}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), RULE, "only looked at");
    let (code, out) = rules(folder, &["fmt", "feed"]);
    assert_eq!(code, Some(0), "{out}");
    let expected = RULE
        .replace("subject,'QUOKKA')", "subject, 'QUOKKA')")
        .replace("length( body.links )>0", "length(body.links) > 0");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
    assert_eq!(rules(folder, &["fmt", "--check", "feed"]).0, Some(0));
    // Standard input: a file, or a source alone.
    assert_eq!(mailweir(folder, &["rules", "fmt", "-"], RULE).1, expected);
    assert_eq!(mailweir(folder, &["rules", "fmt", "-"], "a  and b").1, "a\nand b\n");
    assert_eq!(mailweir(folder, &["rules", "fmt", "--check", "-"], "a  and b").0, Some(1));
    let (code, _, error) = mailweir(folder, &["rules", "fmt", "-"], "a and");
    assert!(code == Some(1) && error.contains("-:1:6: expected a value"), "{error}");
    write(&folder.join("feed/broken.yml"), "name: n\ntype: rule\nsource: |\n  a and\n");
    let (code, out) = rules(folder, &["fmt", "feed"]);
    assert!(code == Some(1) && out.contains("feed/broken.yml:5:3: expected a value"), "{out}");
}

#[test]
fn explain_shows_a_rule_and_its_clauses() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let source = "strings.icontains(subject.subject, 'quokka')\n  and (sender.email.domain.domain in $friends or body.links[7].display_text == 'x')\n  and not profile.by_sender().solicited";
    write(
        &folder.join("feed/rule.yml"),
        &format!("name: Quokka friends\ntype: rule\nseverity: high\ntags: [Zoo]\nsource: |\n  {source}\n"),
    );
    write(&folder.join("message.eml"), MESSAGE);
    write(
        &folder.join("mailweir.toml"),
        "[[policy.rules.paths]]\npath = \"feed\"\nmode = \"enforce\"\n[policy.rules.modes]\ntags = {zoo = \"shadow\"}\n",
    );
    let look = |arguments: &[&str]| {
        let all = [&["rules", "explain"], arguments, &["--config", "mailweir.toml"]].concat();
        let (code, out, error) = mailweir(folder, &all, "");
        (code, out, error)
    };
    let (code, out, error) = look(&["quokka F", "--message", "message.eml"]);
    assert_eq!(code, Some(0), "{out}{error}");
    for shown in [
        "feed/rule.yml",
        "shadow (by policy.rules.modes.tags, `zoo`)",
        "high, weight +0.00",
        "$friends (not there)",
        "history",
        "profile.by_sender",
        "  and (\n",
        "true          strings.icontains(subject.subject, 'quokka')  <- ",
        "any of:",
        "unavailable     sender.email.domain.domain in $friends (list)",
        "null            body.links[7].display_text == 'x'",
    ] {
        assert!(out.contains(shown), "{shown}\n{out}");
    }
    let (_, json, _) = look(&["quokka friends", "--json", "--message", "message.eml"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["mode"], &json["lists"][0]["there"]), (&Value::from("shadow"), &Value::from(false)));
    assert_eq!(json["clauses"]["parts"][0]["state"], "true");
    assert_eq!(json["clauses"]["parts"][1]["parts"][0]["state"]["unavailable"][0], "list");
    // By id, among our own rules; unknown; several.
    let id = RuleFile::parse(BUILT_IN_RULES[0].0, BUILT_IN_RULES[0].1).unwrap().id;
    let (code, out, _) = look(&[&id]);
    assert!(code == Some(0) && out.contains("enforce (by the feed `mailweir`)"), "{out}");
    let (code, _, error) = look(&["no such rule"]);
    assert!(code == Some(1) && error.contains("no rule has the id or name"), "{error}");
    let (code, _, error) = look(&["callback"]);
    assert!(code == Some(1) && error.contains("rules begin so"), "{error}");
}

#[test]
fn tests_of_rules_pass_or_show_their_clauses() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let rule = "name: Quokka\ntype: rule\nsource: |\n  strings.icontains(subject.subject, 'quokka')\n  and headers.auth_summary.dmarc.pass\n\
        tests:\n  - {name: proved, message: one.eml, expect: match, facts: {dmarc: pass}}\n\
        \x20 - {name: not proved, message: one.eml, expect: no_match, facts: {dmarc: fail}}\n\
        \x20 - {name: not asked, message: one.eml, expect: undecided}\n";
    write(&folder.join("feed/deep/rule.yml"), rule);
    write(&folder.join("feed/deep/one.eml"), MESSAGE);
    write(&folder.join("feed/deep/rule.nomatch-other.eml"), "From: a@b.example\nSubject: wombat\n\nx\n");
    let (code, out) = rules(folder, &["test", "feed"]);
    assert!(code == Some(0) && out.contains("4 tests passed, 0 failed; 1 of 1 rules have tests"), "{out}");
    // The message beside it is not what its name says.
    write(&folder.join("feed/deep/rule.match2.eml"), "From: a@b.example\nSubject: wombat\n\nx\n");
    let (code, out) = rules(folder, &["test", "feed"]);
    assert_eq!(code, Some(1), "{out}");
    for shown in [
        "rule.match2.eml: expected a match, got no match",
        "false         strings.icontains",
        "4 tests passed, 1 failed",
    ] {
        assert!(out.contains(shown), "{shown}\n{out}");
    }
    let (_, json) = rules(folder, &["test", "feed", "--json"]);
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    let failed: Vec<&Value> = lines.iter().filter(|line| line["passed"] == false).collect();
    assert_eq!(
        (failed.len(), &failed[0]["got"], &failed[0]["clauses"]["joint"]),
        (1, &"no_match".into(), &"all".into())
    );
    // A test that cannot be run fails, and so does a broken rule.
    write(&folder.join("feed/deep/rule.yml"), &rule.replace("facts: {dmarc: pass}", "facts: {moon: full}"));
    let (code, out) = rules(folder, &["test", "feed"]);
    assert!(code == Some(1) && out.contains("`facts.moon` is no fact"), "{out}");
    write(&folder.join("feed/deep/rule.yml"), "name: n\ntype: rule\nsource: subject.sujbect == 'x'\n");
    let (code, out) = rules(folder, &["test", "feed"]);
    assert!(code == Some(1) && out.contains("feed/deep/rule.yml:3:") && out.contains("1 are broken"), "{out}");
}

#[test]
fn bench_counts_and_measures() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("feed/one.yml"), RULE);
    write(&folder.join("feed/two.yml"), "name: Never\ntype: rule\nsource: subject.subject == 'wombat'\n");
    write(&folder.join("mail/one.eml"), MESSAGE);
    write(&folder.join("mail/two.eml"), "From: a@b.example\nSubject: numbat\n\nx\n");
    let (code, out) = rules(folder, &["bench", "feed", "mail", "--json"]);
    let measured: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, Some(0));
    let number = |name: &str| measured[name].as_f64().unwrap();
    assert_eq!(
        (number("messages"), number("rules"), number("rules_matched"), number("messages_matched")),
        (2.0, 2.0, 1.0, 1.0)
    );
    assert_eq!(number("rules_matched_percent"), 50.0);
    let together = &measured["together"];
    assert!(together["median_micros"].as_f64() <= together["max_micros"].as_f64());
    let slowest = measured["slowest"].as_array().unwrap();
    let matches: BTreeSet<(String, u64)> = slowest
        .iter()
        .map(|one| (one["name"].as_str().unwrap().to_owned(), one["matches"].as_u64().unwrap()))
        .collect();
    assert_eq!(matches, BTreeSet::from([("Quokka".to_owned(), 1), ("Never".to_owned(), 0)]));
    let (code, out) = rules(folder, &["bench", "feed", "mail", "--slowest", "1"]);
    assert!(
        code == Some(0) && out.contains("2 rules (0 broken) over 2 messages") && out.contains("RULE, ALONE"),
        "{out}"
    );
}

#[test]
fn scan_and_config_check_name_broken_rules_and_missing_lists_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("feed/one.yml"), "name: One\ntype: rule\nsource: |\n  sender.email.domain.domain in $friends\n");
    write(&folder.join("feed/two.yml"), "name: Two\ntype: rule\nsource: |\n  sender.email.domian.domain in $friends\n");
    write(&folder.join("mailweir.toml"), "[[policy.rules.paths]]\npath = \"feed\"\n");
    write(&folder.join("mail/one.eml"), MESSAGE);
    write(&folder.join("mail/two.eml"), MESSAGE);
    let says = |text: &str| {
        assert_eq!(text.matches("feed/two.yml:4:").count(), 1, "{text}");
        assert_eq!(text.matches("did you mean `domain`?").count(), 1, "{text}");
        assert_eq!(text.matches("not configured").count(), 1, "{text}");
        assert!(text.contains("$friends"), "{text}");
    };
    let (code, out, error) = mailweir(folder, &["scan", "--offline", "--config", "mailweir.toml", "mail"], "");
    assert!(code == Some(0) && out.contains("mail/two.eml"), "{out}{error}");
    says(&error);
    let (code, out, _) = mailweir(folder, &["config", "check", "--config", "mailweir.toml"], "");
    assert_eq!(code, Some(0));
    says(&out);
    let (_, out, _) = mailweir(folder, &["config", "check", "--json", "--config", "mailweir.toml"], "");
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["ok"], json["warnings"].as_array().unwrap().len()), (&Value::Bool(true), 2));
}
