//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Inline mail gateway: judges every message before the sender is answered.
///
/// Without a command it serves: milter on 127.0.0.1:8893, SMTP relay on 127.0.0.1:2525, HTTP on 127.0.0.1:8025.
///
/// Exit codes: 0 done; 1 failed, or something bad was found where the command asks for it; 2 wrong command line or configuration.
#[derive(Debug, Parser)]
#[command(name = "mailweir", version, about, long_about, max_term_width = 110)]
pub(in crate::app) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of all commands.
    #[command(flatten)]
    pub common: Common,
}

/// Options of all commands.
#[derive(Debug, Clone, Args)]
pub(in crate::app) struct Common {
    /// Configuration file (TOML; `conf/mailweir.toml` names every key). Without it: `MAILWEIR_CONFIG`, else the built-in defaults.
    #[arg(long, short = 'c', global = true, env = "MAILWEIR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of database, held messages, keys and admin token. Without it: `data` of the configuration, else ./data.
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = Colours::Auto, value_name = "WHEN")]
    pub colour: Colours,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::app) enum Colours {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(in crate::app) enum Command {
    /// Run the gateway (the default).
    Serve,
    /// Work on the job queue and take no mail. Shares queue, records and settings with the gateways.
    Worker,
    /// Look at the job queue and its dead letters.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Judge messages in files, without doing anything about them.
    Scan(Scan),
    /// Show why a message was judged as it was.
    Explain(Explain),
    /// Look at held messages, release or delete them.
    #[command(subcommand)]
    Quarantine(Quarantine),
    /// Check, explain or print the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at rules: check a folder of them, run them over messages.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Send the messages of a folder to an SMTP server and count what it answers.
    Replay(Replay),
    /// Look at what the gateway depends on: resolver, clock, ports, next hop, permissions, Postfix.
    Doctor(Doctor),
}

/// `mailweir scan`
#[derive(Debug, Clone, Args)]
pub(in crate::app) struct Scan {
    /// A message, a folder of messages (looked through to the bottom), or `-` for standard input.
    #[arg(required = true, value_name = "FILE|DIR|-")]
    pub paths: Vec<PathBuf>,
    /// One JSON object a line: path, action, score, signals, unknown, micros.
    #[arg(long)]
    pub json: bool,
    /// Ask nothing of the network.
    #[arg(long)]
    pub offline: bool,
    /// Envelope sender. Without it: `Return-Path`, else From.
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// Envelope recipient; may be given several times. Without it: none, and the default tenant's thresholds.
    #[arg(long, value_name = "ADDRESS")]
    pub rcpt: Vec<String>,
    /// Address of the SMTP client.
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<IpAddr>,
    /// What the client said after EHLO.
    #[arg(long, value_name = "NAME")]
    pub helo: Option<String>,
    /// Exit with 1 when a message would not be passed on.
    #[arg(long)]
    pub exit_code: bool,
}

/// `mailweir explain`
#[derive(Debug, Args)]
pub(in crate::app) struct Explain {
    /// The gateway's id, as in the SMTP reply, the log and `X-Mailweir-Id`.
    #[arg(value_name = "ID")]
    pub id: String,
    /// The whole record as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `mailweir quarantine`
#[derive(Debug, Subcommand)]
pub(in crate::app) enum Quarantine {
    /// List held messages, the newest first.
    List {
        /// State: held (also those being released), released, deleted.
        #[arg(long, default_value = "held")]
        state: String,
        /// Only those for this recipient.
        #[arg(long, value_name = "ADDRESS")]
        to: Option<String>,
        /// Rows at most.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
        /// Only those older than this one: the last id of the page before.
        #[arg(long, value_name = "ID")]
        before: Option<String>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show one held message: why, for whom, its headers and text (defanged).
    Show {
        /// The gateway's id.
        id: String,
        /// The message as it came, to standard output.
        #[arg(long)]
        raw: bool,
        /// JSON.
        #[arg(long, conflicts_with = "raw")]
        json: bool,
    },
    /// Give a held message to the next hop. Done only after its 250.
    Release {
        /// The gateway's ids.
        #[arg(required = true)]
        ids: Vec<String>,
        /// Only for this recipient; may be given several times.
        #[arg(long, value_name = "ADDRESS")]
        to: Vec<String>,
        /// JSON.
        #[arg(long)]
        json: bool,
    },
    /// Throw a held message away.
    Delete {
        /// The gateway's ids.
        #[arg(required = true)]
        ids: Vec<String>,
        /// Only for this recipient; may be given several times.
        #[arg(long, value_name = "ADDRESS")]
        to: Vec<String>,
        /// JSON.
        #[arg(long)]
        json: bool,
    },
}

/// `mailweir queue`
#[derive(Debug, Subcommand)]
pub(in crate::app) enum QueueCommand {
    /// What waits, what is worked on, what is dead.
    Status {
        /// JSON.
        #[arg(long)]
        json: bool,
    },
    /// Jobs that are not tried again.
    #[command(subcommand)]
    Dead(Dead),
}

/// `mailweir queue dead`
#[derive(Debug, Subcommand)]
pub(in crate::app) enum Dead {
    /// List dead letters, the newest first.
    List {
        /// Rows at most.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Put dead letters into the queue again, as new jobs.
    Replay(Chosen),
    /// Throw dead letters away.
    Purge(Chosen),
}

/// Which dead letters.
#[derive(Debug, Args)]
pub(in crate::app) struct Chosen {
    /// Keys of the jobs.
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "KEY")]
    pub keys: Vec<String>,
    /// All of them.
    #[arg(long)]
    pub all: bool,
    /// JSON.
    #[arg(long)]
    pub json: bool,
}

/// `mailweir rules`
#[derive(Debug, Subcommand)]
pub(in crate::app) enum RulesCommand {
    /// Load a folder of rules (or one file): what is broken, what each needs. Exit code 1 when a rule is broken.
    Check {
        /// Folder, looked through to the bottom, or file.
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run rules over messages: what matches, by which clauses. Nothing is asked of the network.
    Run {
        /// Folder of rules, or one file.
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// Messages, or folders of them.
        #[arg(required = true, value_name = "FILE|DIR")]
        messages: Vec<PathBuf>,
        /// One JSON object a line: path, matches, undecided.
        #[arg(long)]
        json: bool,
    },
}

/// `mailweir config`
#[derive(Debug, Subcommand)]
pub(in crate::app) enum ConfigCommand {
    /// Check the configuration and all files it names. Exit code 2 when it cannot be used.
    Check {
        /// JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show each setting, its value, and where the value comes from.
    Explain {
        /// Only settings whose name contains this.
        filter: Option<String>,
        /// JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the configuration in effect as TOML.
    Print {
        /// As JSON instead.
        #[arg(long)]
        json: bool,
    },
}

/// `mailweir replay`
#[derive(Debug, Clone, Args)]
pub(in crate::app) struct Replay {
    /// Folder of messages (looked through to the bottom).
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// SMTP server.
    #[arg(long, value_name = "HOST:PORT")]
    pub to: String,
    /// Envelope sender. Without it: `Return-Path`, else From, else `<>`.
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// Envelope recipient; may be given several times.
    #[arg(long, value_name = "ADDRESS", default_value = "postmaster@localhost")]
    pub rcpt: Vec<String>,
    /// Connections at a time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub connections: u16,
    /// Messages at most.
    #[arg(long)]
    pub limit: Option<usize>,
    /// JSON.
    #[arg(long)]
    pub json: bool,
}

/// `mailweir doctor`
#[derive(Debug, Args)]
pub(in crate::app) struct Doctor {
    /// JSON.
    #[arg(long)]
    pub json: bool,
}
