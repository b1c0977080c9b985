//! Alerts: what is watched, when it is told, and to whom.
//!
//! [`Readings`] come from outside every few seconds; [`Gauges`] make measures of them, [`Machine`] levels and changes (both
//! pure), [`Channels`] tell them: Slack, PagerDuty, e-mail, a signed webhook, each with a queue of its own and behind `egress`.
//! [`Watch`] is one look at all of it, [`Board`] what other processes see. Not here: where readings come from (`app`).

mod board;
mod channels;
mod config;
mod kind;
mod later;
mod machine;
mod measure;
mod metrics;
mod notice;
mod order;
mod readings;
mod untold;
mod watch;

pub use board::{Board, BoardError, BoardState};
pub use channels::{Channel, ChannelError, ChannelName, Channels, Delivery, Mailer, Ways};
pub use config::{
    AlertMailConfig, AlertsConfig, DeliveryConfig, PagerDutyConfig, SlackConfig, Thresholds, WebhookConfig,
};
pub use kind::{Kind, Severity, Threshold};
pub use later::{AlertJobs, DELIVER_ALERT, Later};
pub use machine::{Alert, Change, Machine, Now, What, key};
pub use measure::{Gauges, Measure, Memory};
pub use metrics::AlertMetrics;
pub use notice::{Line, Node, Notice};
pub use order::{Act, MAX_SILENCE_MINUTES, Order, OrderError, SECOND_VERDICT};
pub use readings::{Answers, Breaker, Database, Readings, Service, Times, Verdicts};
pub use untold::{Undelivered, Untold};
pub use watch::Watch;
