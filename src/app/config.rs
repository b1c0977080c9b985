//! The configuration: one TOML file, over it `MAILWEIR__SECTION__KEY` of the environment.
//!
//! Each room owns its section. Unknown keys are refused; an error names file, line and column, or the variable.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::secrets;
use crate::{admin, analysis, deferred, enforcement, enrichment, gateway, pipeline, policy, records};

/// Prefix of overriding variables; `__` parts the levels.
pub(super) const PREFIX: &str = "MAILWEIR__";

/// All settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of database, held messages, keys and admin token.
    pub data: PathBuf,
    /// Our host name, in `Received`, in EHLO, and as authserv-id. Empty: the system's.
    pub host_name: String,
    /// Time that messages in flight get at shutdown, in seconds; then their connections are cut, and their senders try again.
    pub drain_seconds: u64,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Where spans go.
    pub otlp: OtlpConfig,
    /// The milter door.
    pub milter: gateway::milter::Config,
    /// The SMTP relay.
    pub relay: gateway::relay::RelayConfig,
    /// Where accepted and released mail goes.
    pub next_hop: gateway::next_hop::NextHopsConfig,
    /// HTTP: API, health, metrics.
    pub http: admin::Config,
    /// How long a message may be looked at, and what is said about it.
    pub inspection: pipeline::Config,
    /// Which messages are looked at again after the reply, and what follows.
    pub reassess: pipeline::ReassessConfig,
    /// Messages that say the same.
    pub campaigns: analysis::CampaignConfig,
    /// What is asked outside.
    pub enrichment: enrichment::Config,
    /// How messages are judged.
    pub policy: policy::Config,
    /// Database and bodies.
    pub store: records::Config,
    /// Release from quarantine.
    pub release: enforcement::ReleaseConfig,
    /// Who acts when a second verdict is worse.
    pub actions: enforcement::ActionsConfig,
    /// Where jobs wait that are done after the reply.
    pub queue: deferred::QueueConfig,
    /// Who does them.
    pub workers: deferred::WorkersConfig,
    /// Answers of services that gateways keep together.
    pub cache: enrichment::CacheConfig,
    /// What is watched, when it is told, and to whom.
    pub alerts: enforcement::alert::AlertsConfig,
    /// Signatures of webhooks and callbacks.
    pub signing: enforcement::signing::SigningConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./data"),
            host_name: String::new(),
            drain_seconds: 25,
            log: LogConfig::default(),
            otlp: OtlpConfig::default(),
            milter: Default::default(),
            relay: Default::default(),
            next_hop: Default::default(),
            http: Default::default(),
            inspection: Default::default(),
            reassess: Default::default(),
            campaigns: Default::default(),
            enrichment: Default::default(),
            policy: Default::default(),
            store: Default::default(),
            release: Default::default(),
            actions: Default::default(),
            queue: Default::default(),
            workers: Default::default(),
            cache: Default::default(),
            alerts: Default::default(),
            signing: Default::default(),
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or by room: `info,mailweir::gateway=debug`.
    pub level: String,
    /// `text` or `json`, one line an event, to standard error.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// Spans to a collector, OTLP over HTTP as JSON; needs a build with the feature `otlp`. Takes effect at start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// URL such as `http://collector.example:4318/v1/traces`. Empty: nothing is exported.
    pub endpoint: String,
    /// Certificates (PEM) that the collector's is checked against besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Time for one batch to be taken.
    pub deadline_ms: u64,
    /// Spans that may wait; beyond that they are dropped and counted, mail never waits.
    pub max_queued_spans: usize,
    /// Spans in one batch at most.
    pub max_batch_spans: usize,
    /// How long a batch is gathered.
    pub linger_ms: u64,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            ca_file: None,
            deadline_ms: 5_000,
            max_queued_spans: 4_096,
            max_batch_spans: 512,
            linger_ms: 1_000,
        }
    }
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {file}: {source}")]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what is expected; the text names line and column.
    #[error("{file}:{line}:{column}: {message}\n{excerpt}")]
    Syntax {
        /// Which file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong, and what would be right.
        message: String,
        /// The line, with a caret under the place.
        excerpt: String,
    },
    /// A variable of the environment does not fit.
    #[error("environment: {variable}: {message}")]
    Variable {
        /// Which variable.
        variable: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// Settings that do not go together.
    #[error("{0}")]
    Contradiction(String),
}

/// A configuration, and where it comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings in effect.
    pub config: Config,
    /// The file, if any.
    pub file: Option<PathBuf>,
    /// Its text.
    pub text: String,
    /// Names (`section.key`) set by the environment.
    pub overridden: Vec<String>,
}

/// Loads a configuration: file, then environment, then `--data`.
///
/// # Errors
/// Names file, line and column, or the variable, and the mend.
pub fn load(
    file: Option<&Path>,
    data: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let text = match file {
        Some(file) => {
            std::fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })?
        }
        None => String::new(),
    };
    let place = file.unwrap_or(Path::new("(built in)"));
    // First the file alone: its errors have places.
    let mut config: Config = toml::from_str(&text).map_err(|error| syntax(place, &text, &error))?;
    let mut variables: Vec<(String, String)> = environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    let mut overridden = Vec::new();
    if !variables.is_empty() {
        let mut table: toml::Table = toml::from_str(&text).map_err(|error| syntax(place, &text, &error))?;
        for (variable, value) in variables {
            let path: Vec<String> = variable[PREFIX.len()..].split("__").map(str::to_lowercase).collect();
            config = set(&mut table, &path, &value).map_err(|message| {
                let message = secrets::told(&message);
                ConfigError::Variable { variable, message }
            })?;
            overridden.push(path.join("."));
        }
    }
    if let Some(data) = data {
        config.data = data.to_owned();
        overridden.push("data".into());
    }
    Ok(Loaded { config, file: file.map(Path::to_owned), text, overridden })
}

/// Sets one value in the table and reads the whole again. A value is TOML where it can be, else a string.
fn set(table: &mut toml::Table, path: &[String], value: &str) -> Result<Config, String> {
    let (last, above) = path.split_last().ok_or("names no setting")?;
    let read = |value: toml::Value, table: &toml::Table| {
        let mut whole = table.clone();
        let mut at = &mut whole;
        for name in above {
            let next = at.entry(name.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            at = next.as_table_mut().ok_or_else(|| format!("`{name}` is no section"))?;
        }
        at.insert(last.clone(), value);
        let config = Config::deserialize(toml::Value::Table(whole.clone())).map_err(|e| e.to_string())?;
        Ok::<_, String>((config, whole))
    };
    let typed = toml::from_str::<toml::Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
    let as_text = read(toml::Value::String(value.to_owned()), table);
    let (config, whole) = match typed {
        Some(typed) => read(typed, table).or_else(|error| as_text.map_err(|_| error)),
        None => as_text,
    }?;
    *table = whole;
    Ok(config)
}

fn syntax(file: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = text[start..at].chars().count() + 1;
    let shown = text[start..].lines().next().unwrap_or_default();
    let excerpt = format!("    {}\n    {}^", secrets::told(shown), " ".repeat(column - 1));
    ConfigError::Syntax { file: file.to_owned(), line, column, message: secrets::told(error.message()), excerpt }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mailweir.toml");
        std::fs::write(&file, text).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        load(Some(&file), None, environment).map_err(|error| error.to_string())
    }

    #[test]
    fn errors_name_line_and_column() {
        let error = with("host_name = \"x\"\n[store]\nledger_dayz = 3\n", &[]).unwrap_err();
        assert!(error.contains("mailweir.toml:3:1: unknown field `ledger_dayz`"), "{error}");
        assert!(error.contains("`ledger_days`") && error.contains("\n    ledger_dayz = 3\n    ^"), "{error}");
        let error = with("[store]\nledger_days = \"many\"\n", &[]).unwrap_err();
        assert!(error.contains("mailweir.toml:2:15: invalid type: string \"many\", expected u32"), "{error}");
        let error = with("[store\n", &[]).unwrap_err();
        assert!(error.contains("mailweir.toml:1:7"), "{error}");
    }

    #[test]
    fn the_environment_overrides() {
        let loaded = with(
            "[store]\nledger_days = 3\n",
            &[
                ("MAILWEIR__STORE__LEDGER_DAYS", "7"),
                ("MAILWEIR__HOST_NAME", "mx.example.org"),
                ("MAILWEIR__POLICY__OWN_DOMAINS", "[\"example.org\"]"),
                ("MAILWEIR_CONFIG", "ignored"),
                ("PATH", "ignored"),
            ],
        )
        .unwrap();
        assert_eq!(loaded.config.store.ledger_days, 7);
        assert_eq!(loaded.config.host_name, "mx.example.org");
        assert_eq!(loaded.config.policy.own_domains, ["example.org"]);
        assert_eq!(loaded.overridden, ["host_name", "policy.own_domains", "store.ledger_days"]);
    }

    #[test]
    fn wrong_variables_are_named() {
        let error = with("", &[("MAILWEIR__STORE__LEDGER_DAYS", "many")]).unwrap_err();
        assert!(error.contains("MAILWEIR__STORE__LEDGER_DAYS") && error.contains("u32"), "{error}");
        let error = with("", &[("MAILWEIR__STOR__LEDGER_DAYS", "1")]).unwrap_err();
        assert!(error.contains("MAILWEIR__STOR__LEDGER_DAYS") && error.contains("`store`"), "{error}");
    }
}
