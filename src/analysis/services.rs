//! Facts from services: virus scanner, DNS block lists, URL analyser, text analyser, registries.

use serde::{Deserialize, Serialize};

use super::{Fact, Why};

/// What services found. A service that is switched off was not asked: `Unknown(Disabled)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceFacts {
    /// Names of the malware that the virus scanner found; empty: it found none.
    pub malware: Fact<Vec<String>>,
    /// What DNS block lists said.
    pub lists: Fact<BlockLists>,
    /// What the URL analyser said, about each URL it was asked about.
    pub urls: Fact<Vec<UrlReading>>,
    /// What the text analyser said. Only asked while the risk is in its band.
    pub text: Fact<TextReading>,
    /// When the domains of sender and links were registered.
    pub domains: Fact<Vec<DomainAge>>,
    /// Where links lead that were followed, in a second look. What stopped a link is part of the answer: this one is not known
    /// only when nobody follows any.
    pub followed: Fact<Vec<FollowedLink>>,
}

impl Default for ServiceFacts {
    fn default() -> Self {
        Self {
            malware: Fact::Unknown(Why::Disabled),
            lists: Fact::Unknown(Why::Disabled),
            urls: Fact::Unknown(Why::Disabled),
            text: Fact::Unknown(Why::Disabled),
            domains: Fact::Unknown(Why::Disabled),
            followed: Fact::Unknown(Why::Disabled),
        }
    }
}

impl ServiceFacts {
    /// Names of those that are not known, with the reason; a list or a registry that did not answer among others that did, too.
    pub fn unknowns(&self) -> impl Iterator<Item = (&'static str, Why)> {
        let silent = self.lists.known().and_then(|lists| lists.silent.first().map(|(_, why)| *why));
        let unasked = self.domains.known().and_then(|ages| ages.iter().find_map(|age| age.unknown));
        [
            ("malware", self.malware.unknown()),
            ("lists", self.lists.unknown().or(silent)),
            ("urls", self.urls.unknown()),
            ("text", self.text.unknown()),
            ("domains", self.domains.unknown().or(unasked)),
        ]
        .into_iter()
        .filter_map(|(name, why)| Some((name, why?)))
    }
}

/// What DNS block lists said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockLists {
    /// What is listed; empty: nothing.
    pub listings: Vec<Listing>,
    /// Lists that did not answer, and why. What they would have said is not known.
    pub silent: Vec<(String, Why)>,
    /// Domains of senders that no list was asked about, because there were too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// One entry of a block list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The list's zone.
    pub zone: String,
    /// Whose address or domain it is.
    pub of: ListingOf,
    /// The address or domain.
    pub name: String,
    /// What the list means by its answer, as configured; else the answer.
    pub meaning: String,
    /// How much the list is believed, 0 to 100.
    pub percent: u8,
}

/// Whose address or domain is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListingOf {
    /// The client's address.
    Client,
    /// The domain of From or of the envelope sender.
    Sender,
    /// The domain of a link.
    Link,
}

/// What an analyser thinks of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UrlVerdict {
    /// Nothing speaks against it.
    Clean,
    /// Something is odd.
    Suspicious,
    /// It steals credentials.
    Phishing,
    /// It spreads malware.
    Malware,
}

/// What the analyser said about one URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlReading {
    /// The URL.
    pub url: String,
    /// What it thinks of it.
    pub verdict: UrlVerdict,
    /// How sure it is, 0 to 100.
    pub percent: u8,
}

/// What the text analyser said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextReading {
    /// How much the text looks like phishing, 0 to 100.
    pub percent: u8,
    /// What it wants, in a word of the analyser's.
    pub intent: String,
}

/// Where a link led.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowedLink {
    /// The link of the message.
    pub url: String,
    /// Where it led from there, in order; the last is where it ends. Empty: nowhere else.
    pub hops: Vec<String>,
    /// Why it goes no further.
    pub end: LinkEnd,
}

impl FollowedLink {
    /// Where it leads in the end.
    pub fn effective(&self) -> &str {
        self.hops.last().unwrap_or(&self.url)
    }
}

/// Why a link was followed no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkEnd {
    /// Something stands there, with this status.
    Page(u16),
    /// It leads back to where it was before.
    Loop,
    /// There are more hops than are followed.
    TooManyHops,
    /// It leads into a private network: not opened.
    Fenced,
    /// Opening it could do something in the recipient's name: not opened.
    Acts,
    /// Nobody answers there, or the certificate is not good.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// Not asked: as much is under way as is allowed.
    NotAsked,
}

/// When a domain was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainAge {
    /// The registrable domain.
    pub domain: String,
    /// Whether it is the sender's; else one that a link leads to.
    pub sender: bool,
    /// Whole days since; `None`: the registry knows nothing of it or does not say, or could not be asked.
    pub days: Option<u32>,
    /// Why the registry could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<Why>,
}
