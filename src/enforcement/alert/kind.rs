//! What is watched: kinds with their words and units, severities, thresholds.

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

impl Severity {
    /// The word used in alerts and settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// From where on something is bad. What is bad when low (free space, days left, availability) is so below; the rest at or
/// above.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// A warning from here; 0: never.
    pub warning: f64,
    /// Critical from here; 0: never.
    pub critical: f64,
}

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Time to an answer of the HTTP side.
    ApiLatency,
    /// Connections, messages and requests refused by a rate limit.
    RateLimitAbuse,
    /// Wrong or missing tokens.
    AuthFailures,
    /// Share of calls to a service that were answered.
    ServiceAvailability,
    /// Jobs that wait.
    QueueDepth,
    /// Time since the queue answered last.
    Queue,
    /// How long the oldest job waits that could be done.
    QueueAge,
    /// Jobs that are not tried again.
    DeadLetters,
    /// Time to an answer of the database.
    DatabaseLatency,
    /// Time that a service has been left alone.
    BreakerOpen,
    /// Free space.
    Disk,
    /// Life of a certificate.
    Certificate,
    /// Age of a folder of rules.
    FeedAge,
    /// Change of the share of messages that are not passed on.
    VerdictMix,
    /// Time that a next hop could not be connected to.
    NextHop,
    /// Messages that were to be held and could not be.
    FailedHolds,
    /// Share of messages and recipients that were answered 451.
    Deferrals,
    /// Parts of the gateway that broke down over a message or a request.
    Panics,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::ApiLatency,
        Self::RateLimitAbuse,
        Self::AuthFailures,
        Self::ServiceAvailability,
        Self::Queue,
        Self::QueueDepth,
        Self::QueueAge,
        Self::DeadLetters,
        Self::DatabaseLatency,
        Self::BreakerOpen,
        Self::Disk,
        Self::Certificate,
        Self::FeedAge,
        Self::VerdictMix,
        Self::NextHop,
        Self::FailedHolds,
        Self::Deferrals,
        Self::Panics,
    ];

    /// The word used in keys and settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiLatency => "api_latency",
            Self::RateLimitAbuse => "rate_limit_abuse",
            Self::AuthFailures => "auth_failures",
            Self::ServiceAvailability => "service_availability",
            Self::Queue => "queue",
            Self::QueueDepth => "queue_depth",
            Self::QueueAge => "queue_age",
            Self::DeadLetters => "dead_letters",
            Self::DatabaseLatency => "database_latency",
            Self::BreakerOpen => "breaker_open",
            Self::Disk => "disk",
            Self::Certificate => "certificate",
            Self::FeedAge => "feed_age",
            Self::VerdictMix => "verdict_mix",
            Self::NextHop => "next_hop",
            Self::FailedHolds => "failed_holds",
            Self::Deferrals => "deferrals",
            Self::Panics => "panics",
        }
    }

    /// The kind of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Whether low values are the bad ones.
    pub fn low_is_bad(self) -> bool {
        matches!(self, Self::ServiceAvailability | Self::Disk | Self::Certificate)
    }

    /// A value in words. `None`: there was no answer at all.
    pub fn words(self, value: Option<f64>) -> String {
        let Some(value) = value else {
            let silent = match self {
                Self::Certificate | Self::Disk => "it cannot be read",
                Self::FeedAge => "it cannot be read, or nothing is there",
                _ => "no answer",
            };
            return silent.to_owned();
        };
        match self {
            Self::ApiLatency => format!("95% of answers within {}", seconds(value)),
            Self::RateLimitAbuse => format!("{value:.0} refused within an hour"),
            Self::AuthFailures => format!("{value:.0} failures within an hour"),
            Self::ServiceAvailability => format!("{:.1}% of calls answered", value * 100.0),
            Self::Queue if value == 0.0 => "it answers".to_owned(),
            Self::Queue => format!("no answer for {}", seconds(value)),
            Self::QueueDepth => format!("{value:.0} jobs wait"),
            Self::QueueAge => format!("the oldest job has waited for {}", seconds(value)),
            Self::DeadLetters => format!("{value:.0} jobs are not tried again"),
            Self::DatabaseLatency => format!("an answer took {}", seconds(value)),
            Self::BreakerOpen => format!("left alone for {}", seconds(value)),
            Self::Disk => format!("{:.1}% free", value * 100.0),
            Self::Certificate if value < 0.0 => format!("expired {:.1} days ago", -value),
            // Those that we make ourselves end in some thousand years.
            Self::Certificate if value > MANY_DAYS => format!("{:.0} years left", value / 365.25),
            Self::Certificate => format!("{value:.1} days left"),
            Self::FeedAge => format!("{value:.1} days old"),
            Self::VerdictMix => format!("the share of stopped messages changed by {:.0} points", value * 100.0),
            Self::NextHop if value == 0.0 => "it can be reached".to_owned(),
            Self::NextHop => format!("not reached for {}", seconds(value)),
            Self::FailedHolds => format!("{value:.0} messages could not be held"),
            Self::Deferrals => format!("{:.1}% were asked to try again later", value * 100.0),
            Self::Panics => format!("{value:.0} breakdowns"),
        }
    }

    /// What an alert of this kind is about, for its headline.
    pub fn title(self) -> &'static str {
        match self {
            Self::ApiLatency => "The HTTP side is slow",
            Self::RateLimitAbuse => "Somebody runs into rate limits",
            Self::AuthFailures => "Failed authentications",
            Self::ServiceAvailability => "A service often fails",
            Self::Queue => "The job queue does not answer",
            Self::QueueDepth => "A queue is long",
            Self::QueueAge => "Jobs wait for long",
            Self::DeadLetters => "There are dead letters",
            Self::DatabaseLatency => "The database is slow",
            Self::BreakerOpen => "A service is left alone after failures",
            Self::Disk => "Space runs out",
            Self::Certificate => "A certificate ends soon",
            Self::FeedAge => "A rule feed is old",
            Self::VerdictMix => "The mix of verdicts has changed",
            Self::NextHop => "A next hop cannot be reached",
            Self::FailedHolds => "Messages cannot be held",
            Self::Deferrals => "Mail is put off",
            Self::Panics => "The gateway breaks down over messages or requests",
        }
    }

    /// What to look at first.
    pub fn advice(self) -> &'static str {
        match self {
            Self::ApiLatency => "Look at mailweir_http_request_seconds by route, and at the database.",
            Self::RateLimitAbuse => {
                "Look at mailweir_relay_refused_total and mailweir_milter_overruns_total by limit, and in the log for clients."
            }
            Self::AuthFailures => "Look in the log for the addresses; change the admin token if in doubt.",
            Self::ServiceAvailability => {
                "What becomes of mail meanwhile its on_failure says; it is marked. `mailweir doctor` asks it."
            }
            Self::Queue => "Is Redis up, or the disk full? Mail is answered meanwhile; second looks and releases wait.",
            Self::QueueDepth => "Look whether workers run and what they wait for.",
            Self::QueueAge => "Look whether workers run (mailweir_workers) and what they wait for.",
            Self::DeadLetters => "`mailweir queue dead list` says why; replay or purge them.",
            Self::DatabaseLatency => "What must be held is deferred while it does not answer. Look at disk and server.",
            Self::BreakerOpen => {
                "What becomes of mail meanwhile its on_failure says; it is marked. `mailweir doctor` asks it."
            }
            Self::Disk => "Below store.min_free_bytes nothing more is held. Make room, or keep less (store.*_days).",
            Self::Certificate => "Renew it; changed files are read without a restart.",
            Self::FeedAge => "Update the folder, or set alerts.thresholds.feed_age_days.",
            Self::VerdictMix => {
                "An attack, a new rule or a service that fails: `mailweir explain` some of the messages."
            }
            Self::NextHop => "Its mail stays with the senders. Is the server up, and does it take our connections?",
            Self::FailedHolds => "Their senders were told 451. Look at the database, the disk and the body store.",
            Self::Deferrals => "Senders try again for some days. Look at the next hops, the database and the log.",
            Self::Panics => "The senders were told 451. The log names messages and places: please report them.",
        }
    }
}

/// Days from which a life is told in years.
const MANY_DAYS: f64 = 3_650.0;

fn seconds(value: f64) -> String {
    match value {
        short if short < 10.0 => format!("{short:.2} s"),
        long if long < 600.0 => format!("{long:.0} s"),
        longer => format!("{:.0} min", longer / 60.0),
    }
}
