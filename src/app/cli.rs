//! The command line.
//!
//! Over 500 lines: the help of every command stands together, as it is read.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::load::cli::{BenchCommand, Simulate};
use super::mock_services::Fault;

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
    /// Measure what this machine, a queue or a running gateway can do.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Calculate how many gateways and workers a rate of mail needs, how long jobs wait for their second look, and what a
    /// million messages cost.
    ///
    /// A model in steps of time, fed with measured service times; the number of workers follows the very machine and the
    /// settings ([workers.scaling]) by which the product scales. A day at 10,000 messages a second takes seconds. Nothing is
    /// sent anywhere. All worker processes see the same queue, so all of them change their number together.
    ///
    /// Example: mailweir simulate --rate 10000/s --hours 24 --shape office --looked-again 0.1 --look-ms 80,300,900
    ///
    /// Exit codes: 0 done; 1 with --validate, when jobs of the real load were lost; 2 the command line or a file is wrong.
    #[command(verbatim_doc_comment)]
    Simulate(Simulate),
    /// Look at what the gateway depends on: resolver, clock, ports, next hop, permissions, Postfix.
    Doctor(Doctor),
    /// Look at alerts, silence them, try their channels out.
    #[command(subcommand)]
    Alert(AlertCommand),
    /// Forget answers of services that gateways keep together.
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Look at the keys that webhooks are signed with; make a new one.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Look at what a running gateway logs; let it log more, or less, for a while.
    #[command(subcommand)]
    Log(LogCommand),
    /// Try the gateway out.
    #[command(subcommand)]
    Dev(DevCommand),
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
        /// Only those before this one: what the page before named last.
        #[arg(long, value_name = "PLACE")]
        before: Option<String>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Put dead letters into the queue again, as new jobs.
    Replay(Chosen),
    /// Throw dead letters away. Of all of them it asks first.
    Purge {
        #[command(flatten)]
        chosen: Chosen,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
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
    /// Show one rule: where it is, its mode and why, weight, what it needs and what of that is not there, its source.
    Explain {
        /// The rule's id, its name, or the beginning of one of them.
        #[arg(value_name = "ID|NAME")]
        rule: String,
        /// Look for it in this folder or file. Without it: in the feeds of the configuration and among our own rules.
        #[arg(long, value_name = "PATH")]
        rules: Option<PathBuf>,
        /// What each of its clauses comes to over this message (`-` for standard input). Nothing is asked of the network.
        #[arg(long, value_name = "FILE")]
        message: Option<PathBuf>,
        /// JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write the sources of rules anew in the style of the public feed; comments and all other keys stay.
    ///
    /// Only the block of `source: |` is rewritten. A source that is no such block is left as it is. Exit code 1 when a file
    /// is broken, and with --check when one would be changed.
    Fmt {
        /// Files, or folders looked through to the bottom; `-`: a rule file or a bare source from standard input to standard
        /// output.
        #[arg(required = true, value_name = "PATH|-")]
        paths: Vec<PathBuf>,
        /// Change nothing, name the files that would be changed.
        #[arg(long)]
        check: bool,
    },
    /// Run the tests of rules: their `tests:` keys, and messages beside them (NAME.match*.eml, NAME.nomatch*.eml).
    ///
    /// Exit code 1 when a test fails or a rule is broken. A failure shows what each clause came to.
    Test {
        /// Files, or folders looked through to the bottom.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// One JSON object a test: file, rule, test, expected, got, passed, clauses when it failed.
        #[arg(long)]
        json: bool,
    },
    /// Measure rules over messages: microseconds a message, the slowest rules, how many ever matched.
    ///
    /// First all rules run together over each message, as the gateway runs them: median, 99th percentile and maximum are of
    /// that run, reading and parsing the message not counted. Then each rule, compiled by itself, runs over all messages:
    /// its own time is what the rule would cost alone, attachments it opens and texts it searches included, though together
    /// such work is shared. One thread, wall clock.
    Bench {
        /// Folder of rules, or one file.
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// Messages, or folders of them.
        #[arg(required = true, value_name = "FILE|DIR")]
        messages: Vec<PathBuf>,
        /// How many of the slowest rules are shown; 0 leaves out their run.
        #[arg(long, default_value_t = 10)]
        slowest: usize,
        /// Messages at most.
        #[arg(long)]
        limit: Option<usize>,
        /// JSON.
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

/// `mailweir alert`
#[derive(Debug, Subcommand)]
pub(in crate::app) enum AlertCommand {
    /// Show everything that is watched, as the gateway last saw it, the silences, and what there is no reading of.
    ///
    /// Exit code 1 when an alert fires that is neither silenced nor acknowledged, or the gateway does not look any more.
    List {
        /// Only alerts that fire.
        #[arg(long)]
        firing: bool,
        /// JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tell nothing of some alerts for a while. What was told already is told when it is over. Exit code 1 when no alert is known by
    /// that key: the silence holds all the same.
    Silence {
        /// `*`, a kind (such as `disk`) or a key (such as `disk:data`).
        #[arg(value_name = "ALERT", required_unless_present = "end")]
        alert: Option<String>,
        /// For how long: 90d, 12h, 30m.
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = minutes)]
        minutes: u32,
        /// Why.
        #[arg(long, default_value = "")]
        comment: String,
        /// End the silence of this id instead.
        #[arg(long, value_name = "ID", conflicts_with_all = ["alert", "comment"])]
        end: Option<String>,
        /// JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say that you look at an alert: it is not repeated until it becomes worse. Exit code 1 when no such alert fires.
    Ack {
        /// `*`, a kind or a key.
        alert: String,
        /// JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send a test alert, and its end, through a channel: now, from here, with the settings of the gateway.
    Test {
        /// Which.
        #[arg(value_enum)]
        channel: AlertChannel,
        /// JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Channels of alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::app) enum AlertChannel {
    /// Slack.
    Slack,
    /// PagerDuty.
    Pagerduty,
    /// E-mail.
    Mail,
    /// The signed webhook.
    Webhook,
}

/// `mailweir cache`
#[derive(Debug, Subcommand)]
pub(in crate::app) enum CacheCommand {
    /// Forget kept answers before their time, in the cache that gateways share (`cache.url`), and with it in all of them.
    Flush {
        /// What they are about: `host:NAME`, `domain:NAME`, `message:SHA256`, `dependency:NAME`; may be given several times.
        #[arg(long, value_name = "TAG")]
        tag: Vec<String>,
        /// All answers of a service: clamd, block_lists, url_service, text_service, rdap, redirects.
        #[arg(long, value_name = "NAME")]
        dependency: Option<String>,
        /// All answers there are.
        #[arg(long)]
        everything: bool,
        /// JSON.
        #[arg(long)]
        json: bool,
    },
}

/// `mailweir keys`
#[derive(Debug, Subcommand)]
pub(in crate::app) enum KeysCommand {
    /// List the keys and what each is good for.
    List {
        /// Show the secrets, to give them to receivers.
        #[arg(long)]
        secrets: bool,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Make a new key. It signs after `signing.announce_hours`; the one before verifies `signing.overlap_hours` longer.
    Rotate {
        /// It signs at once: for when a key got into wrong hands (and then `revoke` the one before).
        #[arg(long)]
        now: bool,
        /// JSON.
        #[arg(long)]
        json: bool,
    },
    /// Declare a key of no use from now on: nothing that is signed with it is taken any more, here and by receivers that are told.
    /// If it is the one that signs, a new key takes its place at once.
    Revoke {
        /// Its id (`mailweir keys list`).
        id: String,
        /// JSON.
        #[arg(long)]
        json: bool,
    },
}

/// `mailweir log`
#[derive(Debug, Subcommand)]
pub(in crate::app) enum LogCommand {
    /// Show the levels of a running gateway's log; with ROOM=LEVEL let it log at other levels for a while, without a restart.
    ///
    /// Asks the HTTP side of the gateway (`[http]` of the configuration) with its admin token: run it where the gateway runs, as
    /// its user, or name another one by --url and --token-file. What was asked for before is forgotten. When the time is over,
    /// with --reset, and when the gateway reads its configuration anew, `log.level` counts again.
    ///
    /// Examples:
    ///   mailweir log level                                  what is logged now
    ///   mailweir log level gateway=debug records=debug      more of two rooms, for 15 minutes
    ///   mailweir log level debug --for 2m                   more of everything, libraries too
    ///   mailweir log level egress=off --for 12h             nothing of one room
    ///   mailweir log level --reset                          as configured again
    ///
    /// Exit codes: 0 done; 1 the gateway does not answer or refuses it; 2 the command line is wrong.
    #[command(verbatim_doc_comment)]
    Level {
        /// Room (admin, analysis, app, content, deferred, egress, enforcement, enrichment, gateway, mail, observe, pipeline,
        /// policy, protocol, records; all: everything) and level (off, error, warn, info, debug, trace). A level by itself: all.
        #[arg(value_name = "ROOM=LEVEL", value_parser = room_level)]
        levels: Vec<(String, String)>,
        /// For how long, a day at most: 15m, 12h, 1d.
        #[arg(long = "for", value_name = "TIME", default_value = "15m", value_parser = minutes)]
        minutes: u32,
        /// What is configured counts again.
        #[arg(long, conflicts_with = "levels")]
        reset: bool,
        /// The gateway's HTTP side. Without it: `http.listen` of the configuration.
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// File with its admin token. Without it: `http.token_file` of the configuration, else DATA/admin.token.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// JSON.
        #[arg(long)]
        json: bool,
    },
}

/// `ROOM=LEVEL`, or a level for all rooms. Which there are the gateway knows.
fn room_level(text: &str) -> Result<(String, String), String> {
    let (room, level) = text.split_once('=').unwrap_or(("all", text));
    if room.is_empty() || level.is_empty() {
        return Err(format!("`{text}`: write ROOM=LEVEL, such as gateway=debug, or a level for everything"));
    }
    Ok((room.to_owned(), level.to_owned()))
}

/// Minutes of a time such as `90d`, `12h`, `30m`.
fn minutes(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` is no time: write 30m, 12h or 90d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let each = match unit {
        "m" => 1,
        "h" => 60,
        "d" => 24 * 60,
        _ => return Err(wrong()),
    };
    number.parse::<u32>().ok().and_then(|number| number.checked_mul(each)).ok_or_else(wrong)
}

/// `mailweir dev`
#[derive(Debug, Subcommand)]
pub(in crate::app) enum DevCommand {
    /// Run mock services on loopback until interrupted: clamd, DNS block lists, NLP, chat, URL analyser, RDAP. Prints the
    /// settings that let the gateway ask them.
    MockServices {
        /// How they are broken.
        #[arg(long, value_enum, default_value_t = Fault::None, value_name = "MODE")]
        fault: Fault,
        /// First of three ports: clamd, HTTP, DNS.
        #[arg(long, default_value_t = 13_310)]
        port: u16,
    },
}
