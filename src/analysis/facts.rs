//! Facts: what the outside said about a message, each `Known` or `Unknown` with the reason.
//!
//! "Asked, nothing there" is `Known` (with a result such as `none`); "could not ask" is [`Fact::Unknown`]. A detector over an
//! unknown fact does not fire. Facts are frozen into the record of the message: rules re-run over history see what was known
//! then.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Answers, Campaign, History, ServiceFacts};

/// Something that was asked: the answer, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact<T> {
    /// The answer.
    Known(T),
    /// Why there is no answer.
    Unknown(Why),
}

impl<T> Fact<T> {
    /// The answer, if there is one.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// The reason why there is no answer.
    pub fn unknown(&self) -> Option<Why> {
        match self {
            Self::Known(_) => None,
            Self::Unknown(why) => Some(*why),
        }
    }
}

/// Why something is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// No answer within the deadline.
    Timeout,
    /// The dependency failed so often that it is not asked for a while.
    BreakerOpen,
    /// Asked too often already.
    RateLimited,
    /// Switched off, offline, or there is nothing to ask about (no client address).
    Disabled,
    /// The answer could not be understood, or the dependency reported an error.
    Malformed,
    /// Too little was seen yet to tell.
    WarmingUp,
    /// As many questions as are allowed are under way.
    Busy,
    /// Nobody answers there, or the connection broke.
    Unreachable,
    /// It leads where nothing may be asked.
    Fenced,
    /// The answer is larger than is allowed.
    TooLarge,
    /// An HTTP status that is no answer.
    Status,
    /// The dependency says that it has an error of its own.
    Reported,
    /// The dependency does not take this one question: the message is too large for it.
    Declined,
}

impl Why {
    /// Whether something failed: neither switched off nor merely too early.
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Disabled | Self::WarmingUp)
    }

    /// The word used in headers, records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::BreakerOpen => "breaker_open",
            Self::RateLimited => "rate_limited",
            Self::Disabled => "disabled",
            Self::Malformed => "malformed",
            Self::WarmingUp => "warming_up",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
            Self::Fenced => "fenced",
            Self::TooLarge => "too_large",
            Self::Status => "status",
            Self::Reported => "reported",
            Self::Declined => "declined",
        }
    }
}

/// Result of an SPF check (RFC 7208, 2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words of the RFC")]
pub enum SpfResult {
    None,
    Neutral,
    Pass,
    Fail,
    SoftFail,
    TempError,
    PermError,
}

/// One SPF check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spf {
    /// Its result.
    pub result: SpfResult,
    /// The domain that was checked, lower case.
    pub domain: String,
}

/// Result of one DKIM signature (RFC 8601, 2.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words of the RFC")]
pub enum DkimResult {
    None,
    Neutral,
    Pass,
    Fail,
    TempError,
    PermError,
}

/// One DKIM signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DkimSignature {
    /// Its result.
    pub result: DkimResult,
    /// `d=`, lower case.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// Why it is no pass, in a few words of our own.
    pub reason: Option<String>,
}

/// Result of the DMARC evaluation (RFC 7489, 11.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words of the RFC")]
pub enum DmarcResult {
    None,
    Pass,
    Fail,
    TempError,
    PermError,
}

/// What the owner of the From domain asks for (`p=` or `sp=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words of the RFC")]
pub enum DmarcPolicy {
    /// No record, or none readable.
    Unspecified,
    None,
    Quarantine,
    Reject,
}

/// The DMARC evaluation of the From domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dmarc {
    /// Its result; `none` when the domain publishes no record.
    pub result: DmarcResult,
    /// The policy that applies.
    pub policy: DmarcPolicy,
    /// The From domain, lower case; empty when there is not exactly one.
    pub domain: String,
    /// An SPF pass aligned with the From domain (relaxed). Known also when the domain has no record.
    pub spf_aligned: bool,
    /// A DKIM pass aligned with the From domain (relaxed). Known also when the domain has no record.
    pub dkim_aligned: bool,
}

impl Dmarc {
    /// Whether the From domain is proven: an aligned pass, with or without a published policy.
    pub fn is_aligned(&self) -> bool {
        self.spf_aligned || self.dkim_aligned
    }
}

/// Result of the ARC chain (RFC 8617).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words of the RFC")]
pub enum ArcResult {
    None,
    Pass,
    Fail,
}

/// The ARC chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arc {
    /// Its result.
    pub result: ArcResult,
    /// Domain of the last sealer, lower case.
    pub sealer: Option<String>,
    /// The chain passes, the last sealer is one the operator trusts, and it saw DMARC pass.
    pub trusted_pass: bool,
}

/// Everything that was asked about one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Address that the facts are about.
    pub client_ip: Option<IpAddr>,
    /// SPF of the HELO name.
    pub spf_helo: Fact<Spf>,
    /// SPF of the envelope sender (of the HELO name for bounces).
    pub spf: Fact<Spf>,
    /// Every DKIM signature, from the top; empty when the message has none.
    pub dkim: Fact<Vec<DkimSignature>>,
    /// DMARC.
    pub dmarc: Fact<Dmarc>,
    /// ARC.
    pub arc: Fact<Arc>,
    /// What is remembered of the people around the message. Only asked when a rule needs it.
    #[serde(default = "not_asked")]
    pub history: Fact<History>,
    /// Messages that say the same.
    #[serde(default = "not_asked")]
    pub campaign: Fact<Campaign>,
    /// What services answered to functions of rules.
    #[serde(default, skip_serializing_if = "Answers::is_empty")]
    pub answers: Answers,
    /// What services found: virus scanner, block lists, analysers.
    #[serde(default)]
    pub services: ServiceFacts,
}

/// Of records from before it was asked.
fn not_asked<T>() -> Fact<T> {
    Fact::Unknown(Why::Disabled)
}

impl Facts {
    /// Nothing could be asked.
    pub fn unknown(why: Why) -> Self {
        Self {
            client_ip: None,
            spf_helo: Fact::Unknown(why),
            spf: Fact::Unknown(why),
            dkim: Fact::Unknown(why),
            dmarc: Fact::Unknown(why),
            arc: Fact::Unknown(why),
            history: Fact::Unknown(Why::Disabled),
            campaign: Fact::Unknown(Why::Disabled),
            answers: Answers::default(),
            services: ServiceFacts::default(),
        }
    }

    /// Names of all facts that can be missing.
    pub const NAMES: [&str; 11] =
        ["spf_helo", "spf", "dkim", "dmarc", "arc", "history", "malware", "lists", "urls", "text", "domains"];

    /// Names of the facts that are not known, with the reason.
    pub fn unknowns(&self) -> Vec<(&'static str, Why)> {
        let history = self.history.unknown().map(|why| ("history", why));
        let campaign = self.campaign.unknown().map(|why| ("campaign", why));
        self.authentication_unknowns().chain(history).chain(campaign).chain(self.services.unknowns()).collect()
    }

    /// Those of them that are about the sender's authentication.
    pub fn authentication_unknowns(&self) -> impl Iterator<Item = (&'static str, Why)> {
        [
            ("spf_helo", self.spf_helo.unknown()),
            ("spf", self.spf.unknown()),
            ("dkim", self.dkim.unknown()),
            ("dmarc", self.dmarc.unknown()),
            ("arc", self.arc.unknown()),
        ]
        .into_iter()
        .filter_map(|(name, why)| Some((name, why?)))
    }

    /// The From domain, if an aligned pass (or a trusted ARC sealer that saw one) proves it.
    pub fn proven_from(&self) -> Option<&str> {
        let dmarc = self.dmarc.known()?;
        let arc = self.arc.known().is_some_and(|arc| arc.trusted_pass);
        (!dmarc.domain.is_empty() && (dmarc.is_aligned() || arc)).then_some(dmarc.domain.as_str())
    }
}
