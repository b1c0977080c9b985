//! Settings of the enrichment: section `[enrichment]`. Over 500 lines: each field's sentence is the reference that operators read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::egress::{BreakerConfig, CallConfig, RateConfig, RetryConfig};
use crate::mail::Network;

/// What is asked outside, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Private networks that may be asked although nobody named the host: where redirects or registries lead.
    pub allow_networks: Vec<Network>,
    /// Certificates (PEM) that servers are checked against besides the system's.
    pub ca_file: Option<PathBuf>,
    /// SPF, DKIM, DMARC, ARC.
    pub sender_auth: SenderAuthConfig,
    /// The virus scanner.
    pub clamd: ClamdConfig,
    /// DNS block lists.
    pub block_lists: BlockListsConfig,
    /// The URL analyser.
    pub url_service: UrlServiceConfig,
    /// The text analyser.
    pub text_service: TextServiceConfig,
    /// Registries: when a domain was registered.
    pub rdap: RdapConfig,
    /// Text in pictures, read by Tesseract in the second look.
    pub ocr: OcrConfig,
    /// Where links lead, found by following them in the second look.
    pub redirects: RedirectsConfig,
    /// What rules ask of the services above: `network.whois`, `ml.link_analysis`, `ml.nlu_classifier`.
    pub functions: FunctionsConfig,
}

impl Config {
    /// The settings of every service that is switched on, by its name.
    pub fn enabled(&self) -> impl Iterator<Item = (&'static str, &ServiceConfig)> {
        [
            ("clamd", self.clamd.enabled, &self.clamd.service),
            ("block_lists", self.block_lists.enabled, &self.block_lists.service),
            ("url_service", self.url_service.enabled, &self.url_service.service),
            ("text_service", self.text_service.enabled, &self.text_service.service),
            ("rdap", self.rdap.enabled, &self.rdap.service),
            ("redirects", self.redirects.enabled, &self.redirects.service),
        ]
        .into_iter()
        .filter_map(|(name, enabled, service)| enabled.then_some((name, service)))
    }
}

/// Text in pictures, read by Tesseract in the second look. Off while the program is not installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OcrConfig {
    /// Whether it is used when it is installed.
    pub enabled: bool,
    /// The program: a path, or a name that is looked for in `PATH`.
    pub command: PathBuf,
    /// Languages, joined by `+`, as Tesseract names them: `eng+deu`. Their data must be installed.
    pub languages: String,
    /// Pictures of one message that are read.
    pub max_pictures: usize,
    /// Largest picture, in bytes.
    pub max_picture_bytes: usize,
    /// Largest picture, in pixels.
    pub max_pixels: u64,
    /// Pictures with a shorter side than this hold no text.
    pub min_side_pixels: u32,
    /// Bytes of text taken from one picture.
    pub max_text_bytes: usize,
    /// Memory that the program may take, in bytes.
    pub max_memory_bytes: u64,
    /// Time for one picture.
    pub deadline_ms: u64,
    /// Pictures read at once in this process.
    pub at_once: usize,
}

impl Default for OcrConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            command: "tesseract".into(),
            languages: "eng".into(),
            max_pictures: 8,
            max_picture_bytes: 8 << 20,
            max_pixels: 25_000_000,
            min_side_pixels: 24,
            max_text_bytes: 64 << 10,
            max_memory_bytes: 1 << 30,
            deadline_ms: 8_000,
            at_once: 2,
        }
    }
}

/// What is done with a message that would be passed on although a service could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It goes on without; the verdict is marked.
    Open,
    /// The sender is asked to try later, until the service has failed, or the message been deferred, for `defer_seconds`; then
    /// `open`.
    Defer,
    /// It is held.
    Closed,
}

impl OnFailure {
    /// What becomes of mail, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Open => "mail is judged without it",
            Self::Defer => {
                "mail that would be passed on is asked to try later, for a while (on_failure, defer_seconds)"
            }
            Self::Closed => "mail that would be passed on is held (on_failure)",
        }
    }
}

/// How long a service's answers are kept, and how it may be called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceConfig {
    /// How long a service may fail, or a message be deferred, before `defer` becomes `open`.
    pub defer_seconds: u32,
    /// Answers kept in memory.
    pub cache_entries: u64,
    /// How long an answer is fresh.
    pub fresh_seconds: u32,
    /// How long "nothing there" is fresh; not longer than `fresh_seconds`. "Clean" is such an answer.
    pub nothing_seconds: u32,
    /// How much longer it is still used while a new one is fetched.
    pub stale_seconds: u32,
    /// How long an answer that nobody asks for stays in memory; 0: as long as any.
    pub idle_seconds: u32,
    /// How it may be called.
    pub call: CallConfig,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            defer_seconds: 300,
            cache_entries: 20_000,
            fresh_seconds: 600,
            nothing_seconds: 300,
            stale_seconds: 600,
            idle_seconds: 0,
            call: CallConfig::default(),
        }
    }
}

/// The cache of services' answers that gateways share: section `[cache]`. In memory each has one of its own in any case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Redis that keeps answers for all gateways, in the forms of `queue.url`; empty: none. Who can write there can call
    /// anything clean: let nobody else in. `maxmemory-policy` may be any; the queue's Redis is better left to the queue.
    pub url: String,
    /// File that holds the address instead, so that a password stays out of the configuration.
    pub url_file: Option<PathBuf>,
    /// Certificate authorities that the server's certificate is checked against with `rediss…://`, as PEM; none: the machine's
    /// own.
    pub ca_file: Option<PathBuf>,
    /// Our certificate (with its chain), for a server that asks for one, as PEM.
    pub cert_file: Option<PathBuf>,
    /// Its key, as PEM.
    pub key_file: Option<PathBuf>,
    /// Beginning of all keys in Redis. Sites that ask other services, or ask them otherwise, need different ones.
    pub prefix: String,
    /// Answers larger than this, as JSON, are compressed.
    pub compress_above_bytes: usize,
    /// Larger answers, as JSON, stay in memory only.
    pub max_answer_bytes: usize,
    /// How often it is asked what other gateways have forgotten: how much longer they may be believed here.
    pub follow_ms: u64,
    /// How it may be called. Its `deadline_ms` is what a look-up may cost a message while it hangs, until its breaker opens.
    pub call: CallConfig,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            url_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            prefix: "mailweir".into(),
            compress_above_bytes: 1_024,
            max_answer_bytes: 256 * 1024,
            follow_ms: 1_000,
            call: CallConfig {
                deadline_ms: 50,
                concurrent: 256,
                max_wait_ms: 0,
                breaker: BreakerConfig { recovery_seconds: 5, ..BreakerConfig::default() },
                rate: RateConfig { per_second: 0, adaptive: false, ..RateConfig::default() },
                retry: RetryConfig { attempts: 1, ..RetryConfig::default() },
                ..CallConfig::default()
            },
        }
    }
}

/// The virus scanner: clamd over INSTREAM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClamdConfig {
    /// Whether it is asked.
    pub enabled: bool,
    /// Where it listens: `unix:PATH` or `inet:HOST:PORT`; a whole name.
    pub address: String,
    /// Largest message sent to it; larger ones are not scanned. Not above clamd's `StreamMaxLength`.
    pub max_stream_bytes: usize,
    /// What is done with a message that would be passed on although it was not asked: `open`, `defer`, `closed`.
    pub on_failure: OnFailure,
    /// How it may be called.
    pub service: ServiceConfig,
}

impl Default for ClamdConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            address: "unix:/run/clamav/clamd.ctl".into(),
            max_stream_bytes: 25 << 20,
            on_failure: OnFailure::Defer,
            service: ServiceConfig::default(),
        }
    }
}

/// DNS block lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlockListsConfig {
    /// Whether they are asked.
    pub enabled: bool,
    /// The lists.
    pub zones: Vec<ZoneConfig>,
    /// Domains of links asked about in one message, and as many of senders, the envelope's first.
    pub max_domains: usize,
    /// What is done with a message that would be passed on although it was not asked: `open`, `defer`, `closed`.
    pub on_failure: OnFailure,
    /// How each of them may be called.
    pub service: ServiceConfig,
}

impl Default for BlockListsConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            zones: Vec::new(),
            max_domains: 10,
            on_failure: OnFailure::Open,
            service: ServiceConfig::default(),
        }
    }
}

/// What a block list lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZoneOf {
    /// Addresses of clients.
    Addresses,
    /// Domains of senders and links.
    Domains,
    /// Domains and addresses that links lead to.
    Urls,
}

/// One block list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneConfig {
    /// Its zone, as in `zen.example.org`.
    pub name: String,
    /// What it lists: `addresses` (of clients), `domains` (of senders and links), or `urls` (domains and addresses that links
    /// lead to).
    pub of: ZoneOf,
    /// What its answers mean: `"127.0.0.2" = "spam source"`. With entries here only these count; without, all of 127.0.0.0/8
    /// but 127.255.255.0/24, which is always an error.
    #[serde(default)]
    pub codes: BTreeMap<String, String>,
    /// How much it is believed, 0 to 100.
    #[serde(default = "whole")]
    pub percent: u8,
    /// A name that it must list, and one that it must not, in the form it is asked for: its own test points. Empty: those of
    /// RFC 5782, 5, which are `2.0.0.127` and `1.0.0.127` for addresses, `test` and `invalid` for names.
    #[serde(default)]
    pub test_listed: String,
    /// See `test_listed`.
    #[serde(default)]
    pub test_free: String,
}

fn whole() -> u8 {
    100
}

/// What the URL analyser is told of a link that is the reader's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonalLinks {
    /// The whole URL.
    Whole,
    /// Scheme and host.
    Host,
    /// Nothing.
    Skip,
}

/// The URL analyser: one POST of `{"url": …}` for each URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UrlServiceConfig {
    /// Whether it is asked.
    pub enabled: bool,
    /// Where: `https://analyser.example/v1/url`.
    pub url: String,
    /// File with the bearer token.
    pub token_file: Option<PathBuf>,
    /// URLs asked about in one message.
    pub max_urls: usize,
    /// What it is told of links made for one reader, or that do something when they are opened: it may open what it is told.
    pub personal_links: PersonalLinks,
    /// What is done with a message that would be passed on although it was not asked: `open`, `defer`, `closed`.
    pub on_failure: OnFailure,
    /// How it may be called.
    pub service: ServiceConfig,
}

impl Default for UrlServiceConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            url: String::new(),
            token_file: None,
            max_urls: 10,
            personal_links: PersonalLinks::Host,
            on_failure: OnFailure::Open,
            service: ServiceConfig::default(),
        }
    }
}

/// How the text analyser is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextDialect {
    /// One POST of `{"subject": …, "text": …}`.
    Plain,
    /// An OpenAI-compatible chat endpoint (`…/v1/chat/completions`).
    Chat,
}

/// The text analyser. It gets redacted text only, and only while the risk is in its band.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextServiceConfig {
    /// Whether it is asked.
    pub enabled: bool,
    /// Where.
    pub url: String,
    /// How it is spoken to: `plain` or `chat`.
    pub dialect: TextDialect,
    /// Name of the chat model; with `chat` it has to be there.
    pub model: String,
    /// File with the bearer token.
    pub token_file: Option<PathBuf>,
    /// Characters of text sent.
    pub max_chars: usize,
    /// Risk from which it is asked.
    pub risk_from: f64,
    /// Risk up to which it is asked: above it the verdict is clear already.
    pub risk_to: f64,
    /// What is done with a message that would be passed on although it was not asked: `open`, `defer`, `closed`.
    pub on_failure: OnFailure,
    /// How it may be called.
    pub service: ServiceConfig,
}

impl Default for TextServiceConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            url: String::new(),
            dialect: TextDialect::Plain,
            model: String::new(),
            token_file: None,
            max_chars: 4_000,
            risk_from: 20.0,
            risk_to: 60.0,
            on_failure: OnFailure::Open,
            service: ServiceConfig::default(),
        }
    }
}

/// Registries (RDAP, RFC 9082 and 9083).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RdapConfig {
    /// Whether they are asked.
    pub enabled: bool,
    /// Which registry to ask about which suffix: IANA's file (RFC 9224), from <https://data.iana.org/rdap/dns.json>.
    pub bootstrap_file: Option<PathBuf>,
    /// Domains asked about in one message, the sender's first.
    pub max_domains: usize,
    /// What is done with a message that would be passed on although it was not asked: `open`, `defer`, `closed`.
    pub on_failure: OnFailure,
    /// How they may be called.
    pub service: ServiceConfig,
}

impl Default for RdapConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            bootstrap_file: None,
            max_domains: 3,
            on_failure: OnFailure::Open,
            service: ServiceConfig::default(),
        }
    }
}

/// Where links lead, found by following them in the second look, never while the sender waits: links of shorteners and open
/// redirectors, and those that rules ask about and the URL analyser has no answer for. Off unless switched on: whoever sent the
/// message learns that somebody looks, and from which address, and a link that was made for one reader could act for him. So links
/// are not opened that carry a recipient's address or what looks like a token, or that speak of leaving, confirming, accepting
/// and the like; that goes for every hop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedirectsConfig {
    /// Whether links are followed.
    pub enabled: bool,
    /// Links of one message that are followed.
    pub max_links: usize,
    /// Hops of one link.
    pub max_hops: usize,
    /// Bytes of a page that are read, to find where it sends on to.
    pub max_page_bytes: usize,
    /// Time for all links of a message, within that of the second look.
    pub deadline_ms: u64,
    /// As what we look. No cookies and no referrer are sent with it.
    pub user_agent: String,
    /// Answers, calls: as `[enrichment.clamd.service]`. `call.deadline_ms` is the time for one hop.
    pub service: ServiceConfig,
}

impl Default for RedirectsConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            max_links: 5,
            max_hops: 8,
            max_page_bytes: 64 << 10,
            deadline_ms: 10_000,
            user_agent: "Mozilla/5.0 (compatible)".into(),
            service: ServiceConfig::default(),
        }
    }
}

/// What rules ask of services: `network.whois` of the registries, `ml.link_analysis` of the URL analyser,
/// `ml.nlu_classifier` and `beta.ml_topic` of the text analyser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FunctionsConfig {
    /// Questions of all rules about one message; what further ones rest on stays undecided. 0: rules ask nothing.
    pub max_asks: usize,
    /// Largest answer that is kept in the record, as JSON; a larger one counts as none.
    pub max_answer_bytes: usize,
}

impl Default for FunctionsConfig {
    fn default() -> Self {
        Self { max_asks: 8, max_answer_bytes: 64 * 1024 }
    }
}

/// Sender authentication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SenderAuthConfig {
    /// Whether DNS is asked at all.
    pub enabled: bool,
    /// Resolvers, `ADDRESS:PORT` each. Empty: those of `/etc/resolv.conf`, without its search list: names are whole names.
    pub resolvers: Vec<SocketAddr>,
    /// Time for all of a message's questions together.
    pub deadline_ms: u64,
    /// Time for one question to one resolver.
    pub query_ms: u64,
    /// Answers kept in memory, for as long as their TTL says.
    pub cache_entries: u64,
    /// Longest time an answer is kept, whatever its TTL says.
    pub cache_max_seconds: u64,
    /// When the resolver is left alone because it answers nothing, and when it is asked again. Domains that do not answer do not
    /// count.
    pub breaker: BreakerConfig,
    /// DKIM signatures verified in one message; further ones are not looked at.
    pub max_signatures: usize,
    /// Name in `Authentication-Results` (RFC 8601). Empty: the host name.
    pub authserv_id: String,
    /// Domains whose ARC seal is believed when it says that DMARC passed before a forwarder changed the message.
    pub trusted_arc_sealers: Vec<String>,
}

impl Default for SenderAuthConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            resolvers: Vec::new(),
            deadline_ms: 2_500,
            query_ms: 1_000,
            cache_entries: 65_536,
            cache_max_seconds: 3_600,
            breaker: BreakerConfig { recovery_seconds: 10, ..BreakerConfig::default() },
            max_signatures: 10,
            authserv_id: String::new(),
            trusted_arc_sealers: Vec::new(),
        }
    }
}
