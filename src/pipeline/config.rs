//! Settings of the inspection: section `[inspection]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::content::{ContentLimits, YaraConfig};
use crate::enrichment::OnFailure;
use crate::mail::MessageLimits;
use crate::policy::Wait;

/// How long a message may be looked at, and what is said about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time for one message; at the deadline there is a verdict, marked degraded. Of it a twentieth is left for judging what was
    /// learnt from outside.
    pub deadline_ms: u64,
    /// A message that is to be held must be durable by the same deadline, else the sender is answered 451. So long it may take in
    /// any case, should the questions have used up their time.
    pub settle_ms: u64,
    /// Time of all stages together from which the log tells of a message that took long, stage by stage.
    pub slow_ms: u64,
    /// Which headers tell the verdict: `full` (with each signal's weight), `brief` or `none`.
    pub headers: ResultHeaders,
    /// What is done with a message that broke the judgement again and again: `quarantine`, `allow` or `defer`.
    pub after_panics: AfterPanics,
    /// Tries of the same message within an hour that are answered 451 before that.
    pub panic_retries: u32,
    /// What is done with a message that would be passed on although a stage of its judgement failed.
    pub on_failure: StagesConfig,
    /// Bounds of what is read of one message.
    pub message: MessageLimits,
    /// Bounds of what is opened inside attachments.
    pub content: ContentLimits,
    /// YARA rules over attachments and what is in them.
    pub yara: YaraConfig,
}

impl Config {
    /// Time for one message.
    pub(super) fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// Time for making it durable at least.
    pub(super) fn settle(&self) -> Duration {
        Duration::from_millis(self.settle_ms)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deadline_ms: 4_000,
            settle_ms: 500,
            slow_ms: 5_000,
            headers: ResultHeaders::Full,
            after_panics: AfterPanics::Quarantine,
            panic_retries: 3,
            on_failure: StagesConfig::default(),
            message: MessageLimits::default(),
            content: ContentLimits::default(),
            yara: YaraConfig::default(),
        }
    }
}

/// What is done with a message that would be passed on although a stage of its judgement failed: `open` (it goes on, marked),
/// `defer` (the sender tries later, until the stage has failed, or the message been deferred, for `defer_seconds`; then `open`),
/// `closed` (it is held). Services have a choice of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StagesConfig {
    /// DNS said nothing about the sender: SPF, DKIM, DMARC or ARC is not known.
    pub sender_auth: OnFailure,
    /// What is remembered of the sender could not be read.
    pub history: OnFailure,
    /// Rules ran out of their budget: some of them are undecided.
    pub rules: OnFailure,
    /// The message has more than is read of one (`inspection.message`). It will be no smaller when it comes again: `defer`
    /// counts as `closed`.
    pub unread: OnFailure,
    /// How long a stage may fail, or a message be deferred, before `defer` becomes `open`.
    pub defer_seconds: u32,
}

impl Default for StagesConfig {
    fn default() -> Self {
        let open = OnFailure::Open;
        Self { sender_auth: open, history: open, rules: open, unread: open, defer_seconds: 300 }
    }
}

/// Which messages are looked at again after the reply, and what follows: section `[reassess]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReassessConfig {
    /// Whether messages are looked at again. Workers do it: here (`workers.enabled`) or in processes of their own.
    pub enabled: bool,
    /// How a message waits for it: `deliver` (it flows; a worse second verdict raises actions) or `hold` (it waits in quarantine
    /// for `hold_seconds` at most, and is released when it is found clean). A tenant's `wait` and a rule's go before it.
    pub wait: Wait,
    /// How long a message waits with `hold`.
    pub hold_seconds: u64,
    /// What is done with a message that waited so long in vain: `release` or `keep`.
    pub after_hold: AfterHold,
    /// Look again when something could not be asked.
    pub degraded: bool,
    /// Look again at a risk from this …
    pub risk_from: f64,
    /// … up to this.
    pub risk_to: f64,
    /// Look again at mail with links or attachments from an address that never wrote before.
    pub first_contact: bool,
    /// Look again when rules stayed undecided for want of what a service or the second look gives.
    pub undecided: bool,
    /// Share of all other messages that are looked at again, 0 to 1.
    pub share: f64,
    /// Time for all questions to the outside in the second look. Below `workers.soft_seconds`.
    pub deadline_ms: u64,
    /// How many times the budgets of the inspection (rules, unpacking) the second look has.
    pub times_budgets: u32,
    /// Bounds of what is opened inside attachments, instead of `times_budgets`; what is not given has its default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentLimits>,
    /// Looks at a message while something still cannot be asked; the last one counts as it is. Not above `workers.attempts`.
    pub looks: u32,
    /// Least pause between two such looks, in seconds.
    pub look_pause_seconds: u64,
    /// Largest delivered message whose bytes are kept for the second look; larger ones are not looked at again.
    pub max_kept_message_bytes: usize,
    /// Whether mail that was held for its risk is released when the second look finds it clean. Careful: who is looked at can show
    /// the second look something else than the first, and its recipients know that it is held. Mail that was held because
    /// something could not be asked (`closed`) or because its judgement broke down is released in any case.
    pub release_held_for_risk: bool,
    /// Bytes of delivered messages that are kept for their second look at a time; beyond that none is looked at again.
    pub max_kept_bytes: u64,
    /// What is done when the second verdict is worse: any of `remediate` (only of what was delivered), `alert`,
    /// `notify`, `webhook`. Who acts: `[alerts]`, `[actions]`.
    pub on_worse: Vec<OnWorse>,
}

impl Default for ReassessConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            wait: Wait::Deliver,
            hold_seconds: 120,
            after_hold: AfterHold::Release,
            degraded: true,
            risk_from: 20.0,
            risk_to: 60.0,
            first_contact: true,
            undecided: false,
            share: 0.0,
            deadline_ms: 20_000,
            times_budgets: 5,
            content: None,
            looks: 3,
            look_pause_seconds: 10,
            max_kept_message_bytes: 32 * 1024 * 1024,
            release_held_for_risk: false,
            max_kept_bytes: 1 << 30,
            on_worse: vec![OnWorse::Remediate, OnWorse::Alert],
        }
    }
}

/// What is done with a message that waited in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterHold {
    /// It goes to its recipients.
    Release,
    /// It stays held.
    Keep,
}

/// What is done when a second verdict is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnWorse {
    /// Take it back from the mailboxes.
    Remediate,
    /// Tell the operators.
    Alert,
    /// Tell people by mail.
    Notify,
    /// Tell a program of the operator's.
    Webhook,
}

/// Which headers tell the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultHeaders {
    /// Id, verdict, risk and each signal's weight.
    Full,
    /// Id, verdict and risk.
    Brief,
    /// None; `Authentication-Results` is still written.
    None,
}

/// What is done with a message that breaks the judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterPanics {
    /// Hold it.
    Quarantine,
    /// Pass it on, marked as not judged.
    Allow,
    /// Go on asking the sender to try later.
    Defer,
}
