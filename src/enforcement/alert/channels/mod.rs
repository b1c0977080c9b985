//! The channels: each has a queue and a future of its own, so that one that hangs keeps nobody else waiting.
//!
//! What a channel does not take waits ([`teller`], [`Later`]); what waits here outlives the process by the board ([`Untold`]).
//! Rather told twice than never.

mod mail;
mod pagerduty;
mod slack;
mod teller;
mod webhook;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard, mpsc};
use url::Url;

use super::config::{AlertsConfig, DeliveryConfig};
use super::kind::Severity;
use super::later::Later;
use super::machine::{Alert, Change};
use super::metrics::AlertMetrics;
use super::notice::{Node, Notice};
use super::untold::{Undelivered, Untold};
use crate::egress::{
    Backoff, Curve, Failure, Fence, HttpClient, HttpError, Names, NamesConfig, NamesError, Registry, TlsRoots,
};
use crate::enforcement::signing::SigningConfig;
use crate::observe::event;

use teller::Teller;

pub use mail::Mailer;

/// Longest link, in bytes: Slack's limit of a button.
const LINK_BYTES: usize = 3_000;
/// Longest secret file read, in bytes.
const SECRET_BYTES: usize = 8 << 10;

/// The channels there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelName {
    /// Slack.
    Slack,
    /// PagerDuty.
    PagerDuty,
    /// E-mail.
    Mail,
    /// A webhook.
    Webhook,
}

impl ChannelName {
    /// The word used in settings and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::PagerDuty => "pagerduty",
            Self::Mail => "mail",
            Self::Webhook => "webhook",
        }
    }

    /// Its name among the dependencies.
    fn dependency(self) -> &'static str {
        match self {
            Self::Slack => "alert_slack",
            Self::PagerDuty => "alert_pagerduty",
            Self::Mail => "alert_mail",
            Self::Webhook => "alert_webhook",
        }
    }
}

/// A channel that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// A file of a secret cannot be read.
    #[error("{section}.{key}: cannot read {file}")]
    File {
        /// Where the setting is.
        section: &'static str,
        /// The setting.
        key: &'static str,
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What should be a URL is none. It is not shown: it may be a secret.
    #[error("{section}.{key}: no http or https URL stands there")]
    Url {
        /// Where the setting is.
        section: &'static str,
        /// The setting.
        key: &'static str,
    },
    /// A routing key is none.
    #[error("alerts.pagerduty.routing_key_file: a routing key has 32 letters and digits")]
    RoutingKey,
    /// A recipient or sender is no address.
    #[error("{section}: `{address}` is no mail address")]
    Address {
        /// Where the setting is.
        section: &'static str,
        /// What stands there.
        address: String,
    },
    /// The resolver.
    #[error("alerts")]
    Names(#[from] NamesError),
    /// TLS or HTTP.
    #[error("alerts")]
    Http(#[from] HttpError),
}

impl ChannelError {
    /// The same error of a channel whose settings are those of `[actions]`.
    pub(in crate::enforcement) fn of_actions(self) -> Self {
        match self {
            Self::File { key, file, source, .. } => Self::File { section: "actions", key, file, source },
            Self::Url { key, .. } => Self::Url { section: "actions", key },
            Self::Address { address, .. } => Self::Address { section: "actions.notify", address },
            other => other,
        }
    }
}

/// What channels go out by.
pub struct Ways {
    /// All dependencies of channels.
    pub dependencies: Registry,
    /// Gives mail to a server.
    pub mailer: Arc<dyn Mailer>,
    /// Resolvers. Empty: those of the system.
    pub resolvers: Vec<SocketAddr>,
    /// Our host name.
    pub host_name: String,
    /// How webhooks are signed.
    pub signing: SigningConfig,
    /// The folder of data.
    pub data: PathBuf,
}

/// One channel.
pub struct Channel {
    name: ChannelName,
    from: Severity,
    kind: Kind,
    /// After how long its breaker lets somebody try.
    recovery: Duration,
    /// One at a time: what waited as a job does not get between what is told now.
    turn: Mutex<()>,
}

enum Kind {
    Slack(slack::Slack),
    PagerDuty(pagerduty::PagerDuty),
    Mail(mail::Mail),
    Webhook(Box<webhook::Webhook>),
}

impl Channel {
    /// All channels that are configured; nothing is asked yet.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub fn configured(config: &AlertsConfig, ways: &Ways) -> Result<Vec<Self>, ChannelError> {
        // Slack refuses a whole message for a button that leads nowhere, and an alert must not be lost by that.
        if !config.link_url.is_empty() && (config.link_url.len() > LINK_BYTES || web_url(&config.link_url).is_none()) {
            return Err(ChannelError::Url { section: "alerts", key: "link_url" });
        }
        let recovery = Duration::from_secs(config.call.breaker.recovery_seconds.max(1).into());
        let channel = |name, from, kind| Self { name, from, kind, recovery, turn: Mutex::default() };
        let mut channels = Vec::new();
        let mut web = Web { config, ways, clients: None };
        if let Some(file) = &config.slack.url_file {
            let key = "slack.url_file";
            let (client, url) = web.client(ChannelName::Slack, key, &secret(key, file)?)?;
            let kind = Kind::Slack(slack::Slack::new(client, url));
            channels.push(channel(ChannelName::Slack, config.slack.from, kind));
        }
        if let Some(file) = &config.pagerduty.routing_key_file {
            let routing_key = secret("pagerduty.routing_key_file", file)?;
            let (client, url) = web.client(ChannelName::PagerDuty, "pagerduty.url", &config.pagerduty.url)?;
            let kind = Kind::PagerDuty(pagerduty::PagerDuty::new(client, url, routing_key)?);
            channels.push(channel(ChannelName::PagerDuty, config.pagerduty.from, kind));
        }
        if !config.mail.to.is_empty() {
            let dependency = ways.dependencies.dependency(ChannelName::Mail.dependency(), &config.call);
            let kind =
                Kind::Mail(mail::Mail::new(dependency, &config.mail, &ways.host_name, Arc::clone(&ways.mailer))?);
            channels.push(channel(ChannelName::Mail, config.mail.from, kind));
        }
        let address = match &config.webhook.url_file {
            Some(file) => secret("webhook.url_file", file)?,
            None => config.webhook.url.clone(),
        };
        if !address.is_empty() {
            let (client, url) = web.client(ChannelName::Webhook, "webhook.url", &address)?;
            let kind = Kind::Webhook(Box::new(webhook::Webhook::new(client, url, &ways.signing, &ways.data)));
            channels.push(channel(ChannelName::Webhook, config.webhook.from, kind));
        }
        Ok(channels)
    }

    /// The least severity that it is told.
    pub(in crate::enforcement) fn from(&self) -> Severity {
        self.from
    }

    /// Whether trying again would be told the same.
    pub(in crate::enforcement) fn is_final(failure: &Failure) -> bool {
        is_final(failure)
    }

    /// Its name.
    pub fn name(&self) -> ChannelName {
        self.name
    }

    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Gives it one notice, once (each call with the tries of `alerts.call.retry`).
    ///
    /// # Errors
    /// Why it did not take it.
    pub async fn deliver(&self, notice: &Notice) -> Result<(), Failure> {
        let mut left = notice.clone();
        match self.deliver_left(&mut left).await {
            // Whoever cannot remember who is left tells nobody twice: one recipient that took it is enough.
            Err(_) if self.is_partly(&left) => Ok(()),
            result => result,
        }
    }

    /// Whether some have been told of a notice that is left like this, and others not.
    pub(in crate::enforcement) fn is_partly(&self, left: &Notice) -> bool {
        !left.left.is_empty() && left.left.len() < self.recipients()
    }

    /// To how many it is delivered, one by one.
    fn recipients(&self) -> usize {
        if let Kind::Mail(mail) = &self.kind { mail.recipients() } else { 1 }
    }

    /// The same; what is left of the notice is what is to be told when it is tried again.
    pub(in crate::enforcement) async fn deliver_left(&self, notice: &mut Notice) -> Result<(), Failure> {
        match &self.kind {
            Kind::Slack(slack) => slack.deliver(notice).await,
            Kind::PagerDuty(pagerduty) => pagerduty.deliver(notice).await,
            Kind::Mail(mail) => mail.deliver(notice).await,
            Kind::Webhook(webhook) => webhook.deliver(notice).await,
        }
    }
}

/// Makes clients; the resolver and the certificates are read once, and only when somebody needs them.
struct Web<'a> {
    config: &'a AlertsConfig,
    ways: &'a Ways,
    clients: Option<(Names, Fence, TlsRoots)>,
}

impl Web<'_> {
    fn client(&mut self, name: ChannelName, key: &'static str, url: &str) -> Result<(HttpClient, Url), ChannelError> {
        let wrong = ChannelError::Url { section: "alerts", key };
        let Some((url, host)) = web_url(url).and_then(|url| Some((url.clone(), url.host_str()?.to_owned()))) else {
            return Err(wrong);
        };
        if self.clients.is_none() {
            let call = &self.config.call;
            let names = NamesConfig {
                resolvers: self.ways.resolvers.clone(),
                query: call.deadline() / 2,
                cache_entries: 64,
                cache_max: Duration::from_secs(300),
            };
            // Nothing leads anywhere but to the host that the settings name.
            let fence = Fence::allowing([]);
            self.clients = Some((Names::new(&names)?, fence, TlsRoots::load(self.config.ca_file.as_deref())?));
        }
        let Some((names, fence, roots)) = &self.clients else { return Err(wrong) };
        let dependency = self.ways.dependencies.dependency(name.dependency(), &self.config.call);
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok((HttpClient::new(dependency, names.clone(), fence.clone(), [host], roots, 0)?, url))
    }
}

fn web_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn secret(key: &'static str, file: &Path) -> Result<String, ChannelError> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|source| ChannelError::File { section: "alerts", key, file: file.to_owned(), source })?;
    Ok(text.trim().chars().take(SECRET_BYTES).collect())
}

/// Whether trying again would be told the same.
pub(super) fn is_final(failure: &Failure) -> bool {
    match failure {
        Failure::Status { code, .. } => (300..500).contains(code) && !matches!(code, 408 | 425 | 429),
        Failure::Declined(_) | Failure::Fenced(_) | Failure::Disabled => true,
        _ => false,
    }
}

/// The future of one channel: to be run until it returns, which it does when its queue is closed and empty.
pub type Delivery = BoxFuture<'static, ()>;

/// A notice, and the number under which it is kept until it is told; none: it is not.
type Given = (Option<u64>, Notice);

/// What the last look found; none before it.
type Known = Arc<RwLock<Option<Arc<[Alert]>>>>;

/// The queues of all channels.
#[derive(Debug, Clone, Default)]
pub struct Channels {
    queues: Vec<(ChannelName, Severity, mpsc::Sender<Given>)>,
    untold: Untold,
    known: Known,
    metrics: Option<AlertMetrics>,
}

impl Channels {
    /// Queues, and the futures that empty them.
    pub fn new(
        channels: Vec<Arc<Channel>>,
        config: &DeliveryConfig,
        metrics: &AlertMetrics,
        later: Option<&Later>,
    ) -> (Self, Vec<Delivery>) {
        let (untold, known) = (Untold::default(), Known::default());
        let mut queues = Vec::new();
        let mut deliveries = Vec::new();
        for channel in channels {
            let (sender, notices) = mpsc::channel(config.queue.max(1));
            queues.push((channel.name, channel.from, sender));
            let teller = Teller {
                channel,
                config: config.clone(),
                metrics: metrics.clone(),
                later: later.cloned(),
                untold: untold.clone(),
                known: Arc::clone(&known),
            };
            deliveries.push(teller.run(notices).boxed());
        }
        (Self { queues, untold, known, metrics: Some(metrics.clone()) }, deliveries)
    }

    /// Lets channels know what holds: told late is nothing else.
    pub(super) fn know<'a>(&self, alerts: impl Iterator<Item = &'a Alert>) {
        if !self.queues.is_empty() {
            let alerts = Some(alerts.cloned().collect());
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = alerts;
        }
    }

    /// Tells each channel what it wants to know; never waits.
    pub fn tell(&self, node: &Node, link_url: &str, changes: &[Change], at_ms: i64) {
        for (name, from, queue) in &self.queues {
            let Some(notice) = Notice::new(node, link_url, changes, *from, at_ms) else { continue };
            self.put(*name, queue, notice);
        }
    }

    /// Tells what an earlier process could not; to be called before anything else is told.
    pub fn resume(&self, untold: Vec<Undelivered>) {
        for Undelivered { channel, notice } in untold {
            match self.queues.iter().find(|(name, ..)| *name == channel) {
                Some((name, _, queue)) => self.put(*name, queue, notice),
                None => tracing::warn!(
                    event = event::SYSTEM,
                    channel = channel.as_str(),
                    "an alert is not delivered: the channel is not configured any more"
                ),
            }
        }
    }

    /// What no channel has taken yet.
    pub fn untold(&self) -> &Untold {
        &self.untold
    }

    /// Tells the webhook that we watch; never waits.
    pub fn beat(&self, node: &Node, at_ms: i64) {
        for (name, _, queue) in self.queues.iter().filter(|(name, ..)| *name == ChannelName::Webhook) {
            self.put(*name, queue, Notice::heartbeat(node, at_ms));
        }
    }

    fn put(&self, name: ChannelName, queue: &mpsc::Sender<Given>, notice: Notice) {
        let kept = (!notice.lines.is_empty()).then(|| self.untold.add(name, &notice));
        if queue.try_send((kept, notice)).is_err() {
            kept.inspect(|number| self.untold.done(*number));
            tracing::error!(
                event = event::SYSTEM,
                channel = name.as_str(),
                "an alert is not delivered: too many wait for this channel"
            );
            if let Some(metrics) = &self.metrics {
                metrics.deliveries.with_label_values(&[name.as_str(), "dropped"]).inc();
            }
        }
    }
}

/// How long to wait after so many tries, the last of which failed so.
pub(super) fn waits(config: &DeliveryConfig, tried: u32, failure: &Failure) -> Duration {
    let waits = Backoff {
        curve: Curve::Exponential,
        base: Duration::from_millis(config.wait_ms),
        longest: Duration::from_millis(config.max_wait_ms),
    };
    let told = match failure {
        Failure::BreakerOpen { retry_in } | Failure::RateLimited { retry_in } => *retry_in,
        Failure::Status { retry_after: Some(wait), .. } => (*wait).min(waits.longest),
        _ => Duration::ZERO,
    };
    waits.wait(tried, 1.0).max(told)
}
