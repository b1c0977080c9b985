//! Settings of alerts: section `[alerts]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::kind::{Kind, Severity, Threshold};
use crate::egress::{BreakerConfig, CallConfig, Curve, RateConfig, RetryConfig};

/// What is watched, when it is told, and to whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertsConfig {
    /// Whether anything is watched. Alerts are listed (`mailweir alert list`) without any channel too.
    pub enabled: bool,
    /// How often everything is looked at.
    pub every_seconds: u32,
    /// How much better than its threshold something must be to count as better, as a share of the threshold.
    pub hysteresis: f64,
    /// How long something must be bad before it is told; 0: at once.
    pub fire_after_seconds: u32,
    /// How long something must be better before that is told.
    pub resolve_after_seconds: u32,
    /// How long something may go without any reading before its alert is over: a service that is no longer configured.
    pub forget_after_seconds: u32,
    /// After how long an alert that goes on, unacknowledged, is told again; 0: never.
    pub repeat_seconds: u32,
    /// Time that the 95th percentile of the HTTP side, the availability of services, and what becomes of mail are taken over.
    pub window_seconds: u32,
    /// Requests, calls to a service, or messages, within that time below which nothing is said of their share: with so many one
    /// failure alone is not below the thresholds.
    pub minimum_calls: u32,
    /// Time of the recent mix of verdicts, compared to the 24 hours before.
    pub mix_seconds: u32,
    /// Messages within that time below which nothing is said of the mix; four times as many are needed before it.
    pub mix_minimum_messages: u32,
    /// Page that links and the button of Slack lead to, as people reach it with a browser (http or https): a dashboard of
    /// Grafana, say, or what to do. Empty: no links.
    pub link_url: String,
    /// From where on something is bad.
    pub thresholds: Thresholds,
    /// Slack.
    pub slack: SlackConfig,
    /// PagerDuty.
    pub pagerduty: PagerDutyConfig,
    /// E-mail.
    pub mail: AlertMailConfig,
    /// A webhook, signed as `[signing]` says.
    pub webhook: WebhookConfig,
    /// Delivery, the same for each channel.
    pub delivery: DeliveryConfig,
    /// How each channel may be called. There are no looks of our own (`look_seconds`): that a server takes a connection does not
    /// say that it takes a message. What waits in memory is the probe, `recovery_seconds` later at most; what waits in the job queue
    /// is given when its wait is over, and keeps nothing behind it waiting.
    pub call: CallConfig,
    /// Certificates (PEM) that channels are checked against besides the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            every_seconds: 10,
            hysteresis: 0.1,
            fire_after_seconds: 0,
            resolve_after_seconds: 60,
            forget_after_seconds: 3_600,
            repeat_seconds: 14_400,
            window_seconds: 300,
            minimum_calls: 20,
            mix_seconds: 900,
            mix_minimum_messages: 50,
            link_url: String::new(),
            thresholds: Thresholds::default(),
            slack: SlackConfig::default(),
            pagerduty: PagerDutyConfig::default(),
            mail: AlertMailConfig::default(),
            webhook: WebhookConfig::default(),
            delivery: DeliveryConfig::default(),
            call: CallConfig {
                deadline_ms: 10_000,
                concurrent: 2,
                max_wait_ms: 5_000,
                max_answer_bytes: 64 << 10,
                // Whoever is told of trouble is told again soon.
                breaker: BreakerConfig {
                    recovery_seconds: 15,
                    success_threshold: 1,
                    look_seconds: 0,
                    ..BreakerConfig::default()
                },
                // Slack takes one message a second.
                rate: RateConfig { per_second: 1, burst: 10, ..RateConfig::default() },
                retry: RetryConfig { attempts: 3, backoff: Curve::ExponentialJitter, base_ms: 200, max_ms: 2_000 },
            },
            ca_file: None,
        }
    }
}

/// From where on something is bad: `{ warning, critical }`, 0 for never.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// 95th percentile of the time to an answer of the HTTP side.
    pub api_latency_seconds: Threshold,
    /// Connections, messages and requests refused by a rate limit within an hour.
    pub rate_limit_abuse_per_hour: Threshold,
    /// Wrong tokens and signatures within an hour; requests without any do not count.
    pub auth_failures_per_hour: Threshold,
    /// Share of calls to a service that were answered, 0 to 1.
    pub service_availability_ratio: Threshold,
    /// Time that the job queue has not answered.
    pub queue_silent_seconds: Threshold,
    /// Jobs that wait.
    pub queue_depth_jobs: Threshold,
    /// How long the oldest job of one priority waits that could be done.
    pub queue_age_seconds: Threshold,
    /// Jobs that are not tried again.
    pub dead_letters_jobs: Threshold,
    /// Time to an answer of the database.
    pub database_latency_seconds: Threshold,
    /// Time that a service has been left alone.
    pub breaker_open_seconds: Threshold,
    /// Share of free space, or of free inodes where that is smaller, 0 to 1.
    pub disk_free_ratio: Threshold,
    /// Days that a certificate is still good.
    pub certificate_days: Threshold,
    /// Days since anything in a feed of rules changed. Rules of your own that need no change want 0 here.
    pub feed_age_days: Threshold,
    /// Change of the share of messages that are not passed on, 0 to 1.
    pub verdict_mix_change: Threshold,
    /// Time that a next hop of the relay could not be connected to.
    pub next_hop_down_seconds: Threshold,
    /// Messages within `window_seconds` that were to be held and could not be.
    pub failed_holds: Threshold,
    /// Share of messages, and of recipients for whom the next hop was asked, that were answered 451 within `window_seconds`, 0 to 1.
    pub deferred_ratio: Threshold,
    /// Breakdowns (panics that were caught) within `window_seconds`.
    pub panics: Threshold,
}

impl Default for Thresholds {
    fn default() -> Self {
        let from = |warning, critical| Threshold { warning, critical };
        Self {
            api_latency_seconds: from(1.0, 5.0),
            rate_limit_abuse_per_hour: from(100.0, 1_000.0),
            auth_failures_per_hour: from(10.0, 50.0),
            service_availability_ratio: from(0.95, 0.8),
            queue_silent_seconds: from(15.0, 60.0),
            queue_depth_jobs: from(1_000.0, 5_000.0),
            queue_age_seconds: from(300.0, 1_800.0),
            dead_letters_jobs: from(1.0, 100.0),
            database_latency_seconds: from(5.0, 10.0),
            breaker_open_seconds: from(60.0, 600.0),
            disk_free_ratio: from(0.1, 0.05),
            certificate_days: from(30.0, 7.0),
            feed_age_days: from(30.0, 0.0),
            verdict_mix_change: from(0.25, 0.5),
            next_hop_down_seconds: from(30.0, 120.0),
            failed_holds: from(1.0, 10.0),
            deferred_ratio: from(0.1, 0.5),
            panics: from(0.0, 1.0),
        }
    }
}

impl Thresholds {
    /// The thresholds of a kind.
    pub fn of(&self, kind: Kind) -> Threshold {
        match kind {
            Kind::ApiLatency => self.api_latency_seconds,
            Kind::RateLimitAbuse => self.rate_limit_abuse_per_hour,
            Kind::AuthFailures => self.auth_failures_per_hour,
            Kind::ServiceAvailability => self.service_availability_ratio,
            Kind::Queue => self.queue_silent_seconds,
            Kind::QueueDepth => self.queue_depth_jobs,
            Kind::QueueAge => self.queue_age_seconds,
            Kind::DeadLetters => self.dead_letters_jobs,
            Kind::DatabaseLatency => self.database_latency_seconds,
            Kind::BreakerOpen => self.breaker_open_seconds,
            Kind::Disk => self.disk_free_ratio,
            Kind::Certificate => self.certificate_days,
            Kind::FeedAge => self.feed_age_days,
            Kind::VerdictMix => self.verdict_mix_change,
            Kind::NextHop => self.next_hop_down_seconds,
            Kind::FailedHolds => self.failed_holds,
            Kind::Deferrals => self.deferred_ratio,
            Kind::Panics => self.panics,
        }
    }
}

/// Slack, by an incoming webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlackConfig {
    /// File that holds the webhook's URL, which is a secret. None: not told.
    pub url_file: Option<PathBuf>,
    /// The least severity that is told.
    pub from: Severity,
}

impl Default for SlackConfig {
    fn default() -> Self {
        Self { url_file: None, from: Severity::Warning }
    }
}

/// PagerDuty, by Events API v2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PagerDutyConfig {
    /// File that holds the routing key (32 characters) of the integration. None: not told.
    pub routing_key_file: Option<PathBuf>,
    /// Where events go; the service region of Europe has another address.
    pub url: String,
    /// The least severity that is told.
    pub from: Severity,
}

impl Default for PagerDutyConfig {
    fn default() -> Self {
        let url = "https://events.pagerduty.com/v2/enqueue".into();
        Self { routing_key_file: None, url, from: Severity::Warning }
    }
}

/// E-mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertMailConfig {
    /// Addresses. Empty: nobody is told.
    pub to: Vec<String>,
    /// Address in From. Empty: `mailweir@` and our host name. The envelope's sender is always empty: nothing bounces.
    pub sender: String,
    /// SMTP server, `HOST:PORT`, with STARTTLS when it offers it. Empty: the next hop, as for released mail.
    pub server: String,
    /// The least severity that is told.
    pub from: Severity,
}

impl Default for AlertMailConfig {
    fn default() -> Self {
        Self { to: Vec::new(), sender: String::new(), server: String::new(), from: Severity::Warning }
    }
}

/// A webhook of the operator's own: a signed POST of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to. Empty: not told.
    pub url: String,
    /// File that holds the address instead, so that a secret in it stays out of the configuration.
    pub url_file: Option<PathBuf>,
    /// How often it is told that we watch, with an empty list of alerts, whatever fires; 0: never. Whoever receives that must
    /// tell when it stays away: nobody else can tell that the gateway, or its machine, is gone.
    pub heartbeat_seconds: u32,
    /// The least severity that is told.
    pub from: Severity,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self { url: String::new(), url_file: None, heartbeat_seconds: 0, from: Severity::Warning }
    }
}

/// Delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryConfig {
    /// Notices that may wait for one channel; those beyond are dropped and counted.
    pub queue: usize,
    /// Times that a notice is given to a channel that fails, each with the tries of `alerts.call.retry`. Between them it waits
    /// in the job queue, where that is worked on, else in memory; there it is given besides, uncounted, whenever the breaker lets
    /// somebody try.
    pub attempts: u32,
    /// The first wait between them.
    pub wait_ms: u64,
    /// The longest; they double.
    pub max_wait_ms: u64,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self { queue: 256, attempts: 100, wait_ms: 1_000, max_wait_ms: 300_000 }
    }
}
