//! `mailweir rules test`: the tests that stand in rules, and messages beside them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Looking, feed_of, progress, say_clauses};
use crate::analysis::{Facts, Why};
use crate::app::commands::scan::{read_message, with_crlf};
use crate::app::config::Config;
use crate::app::rules::{Feeds, Sources, lists_for, read_rules};
use crate::app::terminal::{Terminal, Tone, plain};
use crate::mail::{Connection, Door, Envelope, Message, Path as MailPath};
use crate::policy::mql::{Budget, Builder, Engine, Examination, Outcome, Seen, View};
use crate::policy::{Expect, Lists, RuleFile, RuleKind, RuleTest, TestMessage};

/// One test, done.
#[derive(Serialize)]
struct Done<'a> {
    file: &'a str,
    rule: &'a str,
    test: String,
    expected: Expect,
    /// `null`: the test could not be run.
    got: Option<Expect>,
    passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clauses: Option<Seen>,
}

/// Lists of an organisation that tests describe, built once each.
type Organisations = HashMap<(Vec<String>, Vec<String>), Arc<Lists>>;

struct Testing<'a> {
    config: &'a Config,
    sources: &'a Sources,
    organisations: Organisations,
    folders: HashMap<PathBuf, Vec<String>>,
    budget: Budget,
}

pub(super) fn test(paths: &[PathBuf], json: bool, config: &Config, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let feeds: Vec<_> = paths.iter().map(|path| feed_of(path)).collect();
    let sources = read_rules(Feeds::Only(&feeds), &config.policy)?;
    let mut testing = Testing {
        config,
        sources: &sources,
        organisations: HashMap::new(),
        folders: HashMap::new(),
        budget: config.policy.rules.budget(),
    };
    let (mut passed, mut failed, mut tested, mut broken) = (0, 0, 0, Vec::new());
    broken.extend(sources.broken.iter().map(ToString::to_string));
    let bar = progress(sources.files.len(), "rules");
    for (_, file) in &sources.files {
        let tests = testing.all(file)?;
        match one_engine(file, &sources.lists) {
            Ok(_) if tests.is_empty() => {}
            Ok(engine) => {
                tested += 1;
                for test in &tests {
                    let done = testing.run(file, &engine, test);
                    if done.passed {
                        passed += 1
                    } else {
                        failed += 1
                    }
                    if json {
                        bar.suspend(|| terminal.json(&done))?;
                    } else if !done.passed {
                        bar.suspend(|| say(&done, terminal))?;
                    }
                }
            }
            Err(error) => broken.push(super::source_error(file, &error).to_string()),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if json {
        broken.iter().try_for_each(|error| terminal.json(&json!({"broken": error})))?;
    } else {
        broken.iter().try_for_each(|error| terminal.line(&terminal.toned(Tone::Bad, error)))?;
        let rules = sources.files.len() + sources.broken.len();
        let line = format!(
            "{passed} tests passed, {failed} failed; {tested} of {rules} rules have tests, {} are broken",
            broken.len()
        );
        let tone = if failed > 0 || !broken.is_empty() { Tone::Bad } else { Tone::Good };
        terminal.line(&terminal.toned(tone, &line))?;
    }
    Ok(if failed > 0 || !broken.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn one_engine(file: &RuleFile, lists: &Arc<Lists>) -> Result<Engine, crate::policy::mql::Error> {
    let mut builder = Builder::new(Arc::clone(lists));
    match file.kind {
        RuleKind::Insight => builder.query(&file.source)?,
        _ => builder.rule(&file.source)?,
    };
    Ok(builder.build())
}

impl Testing<'_> {
    /// The tests of a rule: its own, then the messages beside it.
    fn all(&mut self, file: &RuleFile) -> anyhow::Result<Vec<RuleTest>> {
        let mut tests = file.tests.clone();
        let path = Path::new(&file.label);
        let Some(stem) = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()) else { return Ok(tests) };
        let folder = folder_of(path);
        let names = match self.folders.get(&folder) {
            Some(names) => names,
            None => {
                let mut names = Vec::new();
                for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
                    let name = entry?.file_name().to_string_lossy().into_owned();
                    if name.ends_with(".eml") {
                        names.push(name);
                    }
                }
                names.sort();
                self.folders.entry(folder).or_insert(names)
            }
        };
        for name in names {
            let rest = name.strip_prefix(&stem).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
            let expect = match rest {
                rest if rest.starts_with("nomatch") => Expect::NoMatch,
                rest if rest.starts_with("match") => Expect::Match,
                _ => continue,
            };
            let message = TestMessage::File(name.clone());
            tests.push(RuleTest { name: name.clone(), message, expect, given: Map::new() });
        }
        Ok(tests)
    }

    fn run<'f>(&mut self, file: &'f RuleFile, engine: &Engine, test: &RuleTest) -> Done<'f> {
        let mut done = Done {
            file: &file.label,
            rule: &file.name,
            test: test.name.clone(),
            expected: test.expect,
            got: None,
            passed: false,
            error: None,
            clauses: None,
        };
        match self.outcome(file, engine, test) {
            Ok((got, clauses)) => {
                (done.got, done.passed, done.clauses) = (Some(got), got == test.expect, clauses);
            }
            Err(error) => done.error = Some(format!("{error:#}")),
        }
        done
    }

    /// What came of it, and the clauses when that was not expected.
    fn outcome(&mut self, file: &RuleFile, engine: &Engine, test: &RuleTest) -> anyhow::Result<(Expect, Option<Seen>)> {
        let raw = match &test.message {
            TestMessage::Inline(text) => Bytes::from(with_crlf(text.clone().into_bytes())),
            TestMessage::File(path) => read_message(&folder_of(Path::new(&file.label)).join(path))?,
        };
        let message = Message::parse(raw, &self.config.inspection.message);
        let given = Given::read(&test.given, &message)?;
        let (own_domains, vips) = (given.own_domains.clone(), given.vips.clone());
        let mut looking = Looking::new(self.config);
        let (lists, own);
        let (engine, lists) = if own_domains.is_empty() && vips.is_empty() {
            (engine, &self.sources.lists)
        } else {
            looking = Looking::of(self.config, &own_domains, &vips);
            lists = self.organisation(own_domains, vips)?;
            own = one_engine(file, &lists)?;
            (&own, &lists)
        };
        let view = View {
            facts: &given.facts,
            envelope: given.envelope.as_ref(),
            connection: given.connection.as_ref(),
            ..looking.view(&message)
        };
        let got = match file.kind {
            RuleKind::Insight => match engine.value(0, view, self.budget) {
                None => Expect::Undecided,
                Some(Value::Null | Value::Bool(false)) => Expect::NoMatch,
                Some(Value::Array(items)) if items.is_empty() => Expect::NoMatch,
                Some(_) => Expect::Match,
            },
            _ => match engine.run(view, self.budget, &|| false).outcomes.first() {
                Some(Outcome::Match) => Expect::Match,
                Some(Outcome::Undecided(_)) => Expect::Undecided,
                Some(Outcome::NoMatch) | None => Expect::NoMatch,
            },
        };
        let clauses = if got == test.expect {
            None
        } else {
            Some(Examination::new(&file.source, Arc::clone(lists))?.look(view, self.budget))
        };
        Ok((got, clauses))
    }

    fn organisation(&mut self, own_domains: Vec<String>, vips: Vec<String>) -> anyhow::Result<Arc<Lists>> {
        let key = (own_domains, vips);
        if let Some(lists) = self.organisations.get(&key) {
            return Ok(Arc::clone(lists));
        }
        let policy =
            crate::policy::Config { own_domains: key.0.clone(), vips: key.1.clone(), ..self.config.policy.clone() };
        let lists = Arc::new(lists_for(&policy, &self.sources.files)?);
        self.organisations.insert(key, Arc::clone(&lists));
        Ok(lists)
    }
}

/// What a test says of the world around its message.
struct Given {
    facts: Facts,
    envelope: Option<Envelope>,
    connection: Option<Connection>,
    own_domains: Vec<String>,
    vips: Vec<String>,
}

impl Given {
    fn read(given: &Map<String, Value>, message: &Message) -> anyhow::Result<Self> {
        let mut world = Self {
            facts: Facts::unknown(Why::Disabled),
            envelope: None,
            connection: None,
            own_domains: Vec::new(),
            vips: Vec::new(),
        };
        let (mut sender, mut recipients) = (None, Vec::new());
        for (key, value) in given {
            match key.as_str() {
                "facts" => world.facts = facts(value, message)?,
                "own_domains" => world.own_domains = texts(key, value)?,
                "vips" => world.vips = texts(key, value)?,
                "from" => sender = texts(key, value)?.pop(),
                "to" => recipients = texts(key, value)?,
                "ip" => {
                    let ip: IpAddr = value.as_str().unwrap_or_default().parse().context("`ip` is no address")?;
                    let mut connection = Connection::unknown(Door::Scan);
                    connection.client_ip = Some(ip);
                    world.connection = Some(connection);
                }
                _ => anyhow::bail!("`{key}` is no key of a test: facts, own_domains, vips, from, to, ip"),
            }
        }
        if sender.is_some() || !recipients.is_empty() {
            let recipients = recipients.into_iter().map(MailPath::new).collect();
            world.envelope = Some(Envelope { sender: MailPath::new(sender.unwrap_or_default()), recipients });
        }
        Ok(world)
    }
}

fn texts(key: &str, value: &Value) -> anyhow::Result<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let all: Option<Vec<String>> = match value {
        Value::Array(values) => values.iter().map(text).collect(),
        other => text(other).map(|text| vec![text]),
    };
    all.with_context(|| format!("`{key}` is a text or a list of texts"))
}

/// Facts as a record keeps them, or `spf` and `dmarc` as one word of the sender's own domain. The rest is not known.
fn facts(value: &Value, message: &Message) -> anyhow::Result<Facts> {
    let given = value.as_object().context("`facts` is a mapping")?;
    let mut all = serde_json::to_value(Facts::unknown(Why::Disabled))?;
    let domain = message.from().iter().find_map(|from| Some(from.address.as_ref()?.domain.clone())).unwrap_or_default();
    for (key, value) in given {
        let Some(place) = all.get_mut(key) else { anyhow::bail!("`facts.{key}` is no fact") };
        *place = match (key.as_str(), value) {
            ("spf", Value::String(result)) => json!({"known": {"result": result, "domain": domain}}),
            ("dmarc", Value::String(result)) => {
                let aligned = result == "pass";
                json!({"known": {
                    "result": result, "policy": "none", "domain": domain, "spf_aligned": aligned, "dkim_aligned": aligned,
                }})
            }
            _ => value.clone(),
        };
    }
    serde_json::from_value(all).context("`facts`")
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

fn say(done: &Done<'_>, terminal: &Terminal) -> std::io::Result<()> {
    let word = |expect: Expect| match expect {
        Expect::Match => "a match",
        Expect::NoMatch => "no match",
        Expect::Undecided => "undecided",
    };
    let test = format!("{}: {}", plain(done.rule, 100), plain(&done.test, 100));
    let why = match (&done.error, done.got) {
        (Some(error), _) => plain(error, 400),
        (None, got) => format!("expected {}, got {}", word(done.expected), got.map_or("nothing", word)),
    };
    terminal.line(&format!("{} {test}: {why}", terminal.toned(Tone::Bad, "failed")))?;
    terminal.line(&terminal.toned(Tone::Quiet, &format!("  {}", done.file)))?;
    done.clauses.iter().try_for_each(|seen| say_clauses(seen, terminal))
}
