//! One rule file: every documented key typed, every other kept.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Stage;
use super::id;
use super::place::{Position, SourcePlace, with_source};
use super::yaml::{Keys, RuleError, scalar};
use crate::policy::tenant::Wait;

/// What a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// Evidence when it matches (`rule`, `dlp`).
    Detection,
    /// A match leaves the message out of judgement by rules (`exclusion`).
    Exclusion,
    /// A value shown to people (`query`).
    Insight,
    /// Decides what is done about messages that were flagged (`triage_rule`).
    Automation,
}

/// How bad a match is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words of the format")]
pub enum Severity {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// All of them, the least first.
    pub const ALL: [Self; 5] = [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The word in files and settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// Who wrote a rule: what the file says, by the service's name (`name`, `github`, `twitter`, `email`, …).
pub type Author = Vec<(String, String)>;

/// What a test of a rule expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// It matches.
    #[serde(rename = "match")]
    Match,
    /// It does not.
    #[serde(rename = "no_match")]
    NoMatch,
    /// Something it needs is not known.
    #[serde(rename = "undecided")]
    Undecided,
}

/// The message of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestMessage {
    /// Its text, with bare line ends.
    Inline(String),
    /// Path of a file, beside the rule's.
    File(String),
}

/// A test that stands in the rule's file, as data.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleTest {
    /// Name, for people.
    pub name: String,
    /// Its message.
    pub message: TestMessage,
    /// What is expected.
    pub expect: Expect,
    /// Everything else: facts, envelope, the organisation.
    pub given: serde_json::Map<String, Value>,
}

/// One rule file.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleFile {
    /// Path of the file, for people.
    pub label: String,
    /// UUID, lower case; made out of the file's path within its feed when the file gives none.
    pub id: String,
    /// Name.
    pub name: String,
    /// What it is for.
    pub kind: RuleKind,
    /// `type` as written: `rule`, `dlp`, `exclusion`, `query` or `triage_rule`.
    pub written_type: String,
    /// The expression.
    pub source: String,
    /// Where the expression is.
    pub source_place: SourcePlace,
    /// What it finds, for people.
    pub description: String,
    /// How bad a match is.
    pub severity: Option<Severity>,
    /// `active: false` switches it off.
    pub active: bool,
    /// Kinds of attack.
    pub attack_types: Vec<String>,
    /// Tactics and techniques.
    pub tactics_and_techniques: Vec<String>,
    /// What it looks at.
    pub detection_methods: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Addresses of pages about it.
    pub references: Vec<String>,
    /// Who wrote it.
    pub authors: Vec<Author>,
    /// What it is known to match wrongly.
    pub false_positives: Vec<String>,
    /// What an automation does.
    pub default_actions: Vec<String>,
    /// When it is run, as the file says.
    pub stage: Stage,
    /// A match orders a second look, for which the message waits so.
    pub wait: Option<Wait>,
    /// Tests.
    pub tests: Vec<RuleTest>,
    /// All other keys, in their order.
    pub other: Vec<(String, Value)>,
}

impl RuleFile {
    /// Reads a file that stands alone; `label` is its path, whose last part gives the identity of a rule without one.
    ///
    /// # Errors
    /// Names the first mistake by file, line and column.
    pub fn parse(label: &str, text: &str) -> Result<Self, RuleError> {
        Self::parse_in_feed(label, label.rsplit('/').next().unwrap_or_default(), text)
    }

    /// Reads a file of a feed; `label` is its path, for people, `path` its path within the feed (`folder/name.yml`), for the
    /// identity of a rule without one.
    ///
    /// # Errors
    /// Names the first mistake by file, line and column.
    pub fn parse_in_feed(label: &str, path: &str, text: &str) -> Result<Self, RuleError> {
        let mut keys = Keys::read(label, text)?;
        let name = keys.needed("name")?;
        let source = keys.needed("source")?;
        let written_type = keys.needed("type")?;
        let kind = match written_type.as_str() {
            "rule" | "dlp" => RuleKind::Detection,
            "exclusion" => RuleKind::Exclusion,
            "query" => RuleKind::Insight,
            "triage_rule" => RuleKind::Automation,
            other => {
                let reason = format!("type `{other}`: write rule, dlp, exclusion, query or triage_rule");
                return Err(keys.wrong("type", reason));
            }
        };
        let id = match keys.text("id")? {
            None => id::of_file(path),
            Some(written) => id::uuid(written.trim()).ok_or_else(|| {
                keys.wrong(
                    "id",
                    format!(
                        "id `{written}` is no UUID: correct it, or leave it out to have one made of the file's path"
                    ),
                )
            })?,
        };
        let severity = keys.text("severity")?.map(|word| {
            let known = Severity::ALL.into_iter().find(|severity| word.eq_ignore_ascii_case(severity.as_str()));
            known.ok_or_else(|| {
                keys.wrong("severity", format!("severity `{word}`: write informational, low, medium, high or critical"))
            })
        });
        let severity = severity.transpose()?;
        let (stage, wait) = (stage(&mut keys)?, wait(&mut keys)?);
        let authors = keys.list("authors")?.into_iter().map(author).collect::<Option<_>>();
        let authors = authors.ok_or_else(|| keys.wrong("authors", "`authors` must be a list of `- name: …`"))?;
        let tests = keys.list("tests")?.into_iter().enumerate().map(|(place, value)| {
            test(value).map_err(|reason| keys.wrong("tests", format!("test {}: {reason}", place + 1)))
        });
        let tests = tests.collect::<Result<_, _>>()?;
        Ok(Self {
            label: label.to_owned(),
            id,
            name,
            kind,
            written_type,
            source_place: SourcePlace::find(text, &source),
            source,
            description: keys.text("description")?.unwrap_or_default(),
            severity,
            active: keys.boolean("active")?.unwrap_or(true),
            attack_types: keys.texts("attack_types")?,
            tactics_and_techniques: keys.texts("tactics_and_techniques")?,
            detection_methods: keys.texts("detection_methods")?,
            tags: keys.texts("tags")?,
            references: keys.texts("references")?,
            authors,
            false_positives: keys.texts("false_positives")?,
            default_actions: keys.texts("default_actions")?,
            stage,
            wait,
            tests,
            other: keys.rest(),
        })
    }

    /// A mistake in the source, at its line and column (from 1), as a mistake in the file.
    pub fn source_error(&self, line: usize, column: usize, reason: &str) -> RuleError {
        let Position { line: file_line, column: file_column, exact } = self.source_place.locate(line, column);
        let reason = if exact { reason.to_owned() } else { format!("in source, {line}:{column}: {reason}") };
        RuleError { file: self.label.clone(), line: file_line, column: file_column, reason }
    }

    /// The file's text with another source, every other byte as it is; `text` is the text that was read. `None` when the
    /// source is no literal block (`|`).
    pub fn with_source(&self, text: &str, source: &str) -> Option<String> {
        with_source(text, self.source_place, source)
    }

    /// Whether it speaks of data that must not get out (`dlp`).
    pub fn is_dlp(&self) -> bool {
        self.written_type == "dlp"
    }
}

fn stage(keys: &mut Keys<'_>) -> Result<Stage, RuleError> {
    match keys.text("stage")?.as_deref() {
        None | Some("inline") => Ok(Stage::Inline),
        Some("deferred") => Ok(Stage::Deferred),
        Some(other) => Err(keys.wrong("stage", format!("stage `{other}`: write inline or deferred"))),
    }
}

fn wait(keys: &mut Keys<'_>) -> Result<Option<Wait>, RuleError> {
    match keys.text("wait")?.as_deref() {
        None => Ok(None),
        Some("deliver") => Ok(Some(Wait::Deliver)),
        Some("hold") => Ok(Some(Wait::Hold)),
        Some(other) => Err(keys.wrong("wait", format!("wait `{other}`: write deliver or hold"))),
    }
}

fn author(value: Value) -> Option<Author> {
    match value {
        Value::Object(map) => map.into_iter().map(|(service, name)| Some((service, scalar(name)?))).collect(),
        other => Some(vec![("name".to_owned(), scalar(other)?)]),
    }
}

fn test(value: Value) -> Result<RuleTest, String> {
    let Value::Object(mut given) = value else {
        return Err("write a mapping with name, message and expect".into());
    };
    let mut text = |key: &str| given.remove(key).and_then(scalar);
    let name = text("name").ok_or("`name` is missing")?;
    // A message is more than one line: header, empty line, text.
    let message = match text("message") {
        Some(text) if text.trim().is_empty() => return Err(format!("`{name}`: `message` is empty")),
        Some(text) if text.trim().contains('\n') => TestMessage::Inline(text),
        Some(path) => TestMessage::File(path.trim().to_owned()),
        None => return Err(format!("`{name}`: `message` is missing: the text of a message, or the path of one")),
    };
    let expect = match text("expect").as_deref() {
        Some("match") => Expect::Match,
        Some("no_match" | "no match") => Expect::NoMatch,
        Some("undecided") => Expect::Undecided,
        _ => return Err(format!("`{name}`: `expect` is match, no_match or undecided")),
    };
    Ok(RuleTest { name, message, expect, given })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "name: \"A rule\"\ndescription: |\n  Two\n  lines.\ntype: rule\nseverity: High\nsource: |\n  type.inbound\n  // why\n  and subject.subject == 'x'\n\ntags: [\"one\", two]\nreferences:\nauthors:\n  - twitter: \"ada\"\n  - Bob\nzeta: 1\nalpha: {b: [1, null]}\n";

    fn fails(text: &str) -> String {
        RuleFile::parse("f/x.yml", text).unwrap_err().to_string()
    }

    #[test]
    fn every_key() {
        let rule = RuleFile::parse("f/x.yml", RULE).unwrap();
        assert_eq!(
            (rule.name.as_str(), rule.description.as_str(), rule.kind),
            ("A rule", "Two\nlines.\n", RuleKind::Detection)
        );
        assert_eq!((rule.severity, rule.active, rule.is_dlp()), (Some(Severity::High), true, false));
        assert_eq!(rule.tags, ["one", "two"]);
        assert!(rule.references.is_empty());
        assert_eq!(
            rule.authors,
            [vec![("twitter".to_owned(), "ada".to_owned())], vec![("name".to_owned(), "Bob".to_owned())]]
        );
        let other: Vec<&str> = rule.other.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(other, ["zeta", "alpha"]);
        assert_eq!(rule.other[1].1, serde_json::json!({"b": [1, null]}));
        assert_eq!(rule.id, id::of_file("x.yml"));
    }

    #[test]
    fn kinds_and_scalars() {
        for (written, kind) in [
            ("dlp", RuleKind::Detection),
            ("exclusion", RuleKind::Exclusion),
            ("query", RuleKind::Insight),
            ("triage_rule", RuleKind::Automation),
        ] {
            let rule =
                RuleFile::parse("x.yml", &format!("name: n\ntype: {written}\nsource: true\nactive: false\n")).unwrap();
            assert_eq!((rule.kind, rule.source.as_str(), rule.active), (kind, "true", false));
        }
    }

    #[test]
    fn the_source_is_found_in_the_file() {
        let place = |source: &str, line: usize, column: usize| {
            let text = format!("name: n\nsource:{source}type: rule\n");
            let rule = RuleFile::parse("x.yml", &text).unwrap();
            let error = rule.source_error(line, column, "no");
            (error.line, error.column, error.reason)
        };
        let no = || "no".to_owned();
        assert_eq!(place(" |\n    a\n      b\n", 2, 3), (4, 7, no()));
        assert_eq!(place(" |-\n\n  a\n", 2, 1), (4, 3, no()));
        assert_eq!(place(" |2\n    a\n  b\n", 1, 3), (3, 5, no()));
        assert_eq!(place("  a == 1\n", 1, 3), (2, 12, no()));
        assert_eq!(place(" \"a == 1\" # why\n", 1, 3).0, 2);
        assert_eq!(place(" 'a == 1'\n", 1, 3), (2, 12, no()));
        for changed in [" >\n  a\n  b\n", " a\n  b\n", " \"a \\\"b\\\"\"\n", " 'it''s'\n"] {
            assert_eq!(place(changed, 1, 3), (2, 1, "in source, 1:3: no".to_owned()), "{changed}");
        }
        // Byte order mark and CRLF.
        let rule = RuleFile::parse("x.yml", "\u{feff}name: n\r\ntype: rule\r\nsource: |\r\n  a\r\n  b\r\n").unwrap();
        assert_eq!((rule.source.as_str(), rule.source_error(2, 1, "").line), ("a\nb\n", 5));
    }

    #[test]
    fn another_source_changes_nothing_else() {
        for (text, expected) in [
            (
                "name: n\nsource: |\n    a\n      b\n\n\ntype: rule # x\n",
                "name: n\nsource: |\n    x\n\n      y\n\n\ntype: rule # x\n",
            ),
            ("name: n\r\ntype: rule\r\nsource: |-\r\n  a", "name: n\r\ntype: rule\r\nsource: |-\r\n  x\r\n\r\n    y"),
        ] {
            let rule = RuleFile::parse("x.yml", text).unwrap();
            let again = rule.with_source(text, "x\n\n  y\n").unwrap();
            assert_eq!(again, expected);
            assert_eq!(RuleFile::parse("x.yml", &again).unwrap().source.trim_end(), "x\n\n  y");
        }
        let line = "name: n\ntype: rule\nsource: a\n";
        assert_eq!(RuleFile::parse("x.yml", line).unwrap().with_source(line, "x"), None);
    }

    #[test]
    fn tests_are_data() {
        let text = "name: n\ntype: rule\nsource: a\ntests:\n  - name: one\n    message: |\n      Subject: x\n\n      y\n    expect: no_match\n    facts: {spf: pass}\n  - {name: two, message: a.eml, expect: undecided}\n";
        let rule = RuleFile::parse("x.yml", text).unwrap();
        assert_eq!(rule.tests[0].message, TestMessage::Inline("Subject: x\n\ny\n".into()));
        assert_eq!((rule.tests[0].expect, rule.tests[1].expect), (Expect::NoMatch, Expect::Undecided));
        assert_eq!(rule.tests[0].given["facts"]["spf"], "pass");
        assert_eq!(rule.tests[1].message, TestMessage::File("a.eml".into()));
        let wrong = |test: &str| fails(&format!("name: n\ntype: rule\nsource: a\ntests:\n  - {test}\n"));
        assert!(wrong("{name: x, expect: match}").starts_with("f/x.yml:4:1: test 1: `x`: `message` is missing"));
        assert!(wrong("{name: x, message: ' ', expect: match}").contains("is empty"));
        assert!(wrong("{name: x, message: y, expect: maybe}").contains("undecided"));
        assert!(wrong("text").contains("mapping"));
    }

    #[test]
    fn mistakes_name_place_and_mend() {
        assert!(fails("name: n\ntype: rule\n").contains("`source` is missing"));
        assert!(fails("name: n\nsource: a\ntype: roole\n").starts_with("f/x.yml:3:1: type `roole`: write rule"));
        assert!(fails("name: n\nsource: a\ntype: rule\nseverity: huge\n").starts_with("f/x.yml:4:1: "));
        assert!(fails("name: n\nsource: a\ntype: rule\nid: 7\n").starts_with("f/x.yml:4:1: id `7` is no UUID"));
        assert!(fails("name: n\nsource: a\ntype: rule\ntags: x\n").contains("must be a list"));
        assert!(fails("name: n\nsource: a\ntype: rule\nactive: x\n").contains("true or false"));
        assert!(fails("name: [n]\nsource: a\ntype: rule\n").starts_with("f/x.yml:1:1: `name` must be a text"));
        assert!(fails("name: n\nname: m\n").starts_with("f/x.yml:2:1: "));
        let broken = fails("name: n\nsource: 'a\n");
        assert!(broken.starts_with("f/x.yml:3:"), "{broken}");
        for text in ["", "[]", "text", "- a\n", "name", "\0", "&a [*a]", "{", "name: !!binary x"] {
            fails(text);
        }
    }

    #[test]
    fn cut_anywhere_it_is_read_or_refused() {
        for end in (0..RULE.len()).filter(|end| RULE.is_char_boundary(*end)) {
            if let Ok(rule) = RuleFile::parse("x.yml", &RULE[..end]) {
                assert!(!rule.source.is_empty());
            }
        }
        fails(&"[".repeat(100_000));
        fails(&format!("a: {}", "{b: ".repeat(10_000)));
        fails("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\nname: [*b,*b,*b,*b]\n");
    }
}
