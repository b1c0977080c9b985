//! The message as detectors look at it: what several of them need, computed once.

use std::collections::HashMap;

use super::brands::{BrandSet, owners};
use super::depth::Depth;
use super::words;
use super::{ArcResult, Code, DkimResult, Fact, Input, SpfResult};
use crate::content::File;
use crate::mail::{Address, Link, Mailbox, Message, registrable_domain};

/// Bytes of text read for wording; what a letter is about is said at its start.
const MAX_WORDING_BYTES: usize = 64 << 10;

/// A host that links lead to.
pub(super) struct Host<'a> {
    pub(super) name: &'a str,
    /// Its registrable domain; `None` for addresses and bare suffixes.
    pub(super) domain: Option<&'a str>,
    /// Brands it belongs to.
    pub(super) owners: BrandSet,
}

/// A link that a person follows.
#[derive(Clone, Copy)]
pub(super) struct Followed<'a> {
    pub(super) link: &'a Link,
    /// Where its host stands in [`View::hosts`].
    pub(super) host: usize,
    /// Whether no link before it leads to that host.
    pub(super) first: bool,
}

/// What detectors share.
pub(super) struct View<'a> {
    pub(super) input: Input<'a>,
    /// The first From mailbox that has an address.
    pub(super) sender: Option<&'a Mailbox>,
    /// Its address.
    pub(super) from: Option<&'a Address>,
    /// Its domain; empty without one.
    pub(super) from_host: &'a str,
    /// Registrable domain of it; empty without one.
    pub(super) from_domain: &'a str,
    /// Its display name, lower case.
    pub(super) display: String,
    pub(super) subject: String,
    pub(super) subject_lower: String,
    /// Subject and visible text, lower case, white space collapsed, quoted lines left out.
    pub(super) text: String,
    pub(super) phrases: HashMap<Code, usize>,
    pub(super) envelope_from: Option<Address>,
    pub(super) recipients: Vec<Address>,
    /// Whether the From domain is proved; `None`: not known.
    pub(super) proved: Option<bool>,
    /// Brands that the From domain belongs to.
    pub(super) from_owners: BrandSet,
    /// Links a person follows, to the web.
    pub(super) links: Vec<Followed<'a>>,
    /// Their hosts, each once, in order.
    pub(super) hosts: Vec<Host<'a>>,
    pub(super) files: Vec<File>,
    /// Hosts that QR codes lead to.
    pub(super) codes: &'a [String],
    /// Files whose macros run by themselves and start or load something, and the word that says so.
    pub(super) macros: &'a [(String, String)],
}

impl<'a> View<'a> {
    pub(super) fn new(input: &Input<'a>, files: Vec<File>, depth: &'a Depth) -> Self {
        let input = *input;
        let message = input.message;
        let sender = message.from().iter().find(|m| m.address.is_some()).or(message.from().first());
        let named = message.from().iter().find(|m| !m.display.is_empty());
        let from = sender.and_then(|m| m.address.as_ref());
        let from_host = from.map_or("", |a| a.domain.as_str());
        let subject = message.subject();
        let subject_lower = subject.to_lowercase();
        let mut text = wording(&subject_lower, message.text());
        if !depth.text.is_empty() {
            text.push_str(&wording("", &depth.text));
        }
        let phrases = words::find(&text).into_iter().map(|(code, found)| (code, found.len())).collect();
        let from_domain = registrable_domain(from_host);
        let (links, hosts) = followed(message, &depth.links);
        Self {
            input,
            sender,
            from,
            from_host,
            from_domain: from_domain.unwrap_or_default(),
            // The first name is what a reader shows, whichever address it belongs to.
            display: named.map(|m| m.display.trim().to_lowercase()).unwrap_or_default(),
            subject,
            subject_lower,
            text,
            phrases,
            envelope_from: input.envelope.sender.address(),
            recipients: input.envelope.recipients.iter().filter_map(|r| r.address()).collect(),
            proved: proved(&input, from_host),
            from_owners: owners(from_host, from_domain),
            links,
            hosts,
            files,
            codes: &depth.codes,
            macros: &depth.macros,
        }
    }

    /// How many different phrases of a subject occur.
    pub(super) fn phrases(&self, code: Code) -> usize {
        self.phrases.get(&code).copied().unwrap_or(0)
    }

    /// The host that a link leads to.
    pub(super) fn host(&self, link: &Followed<'_>) -> &Host<'a> {
        &self.hosts[link.host]
    }

    /// Brands that the targets of all links belong to; none without links.
    pub(super) fn owners_of_all_links(&self) -> BrandSet {
        self.hosts.iter().map(|host| host.owners).reduce(BrandSet::and).unwrap_or_default()
    }

    /// Whether the sender's domain is ours.
    pub(super) fn is_own(&self) -> bool {
        self.input.site.owns(self.from_host)
    }

    /// Whether it says to be an answer: `In-Reply-To` or `References`, and a subject that answers.
    pub(super) fn is_reply(&self) -> bool {
        let prefixes = ["re:", "aw:", "sv:", "rv:", "res:", "antw:", "odp:", "re :", "fwd:", "fw:", "wg:"];
        self.input.message.is_reply() && prefixes.iter().any(|p| self.subject_lower.contains(p))
    }

    /// Whether a good signature is by a domain of the From's organisation.
    pub(super) fn dkim_pass(&self, of: impl Fn(&str) -> bool) -> bool {
        let signatures = self.input.facts.dkim.known();
        signatures.is_some_and(|list| list.iter().any(|s| s.result == DkimResult::Pass && of(&s.domain)))
    }
}

/// The links to the web that a person follows, and their hosts.
fn followed<'a>(message: &'a Message, more: &'a [Link]) -> (Vec<Followed<'a>>, Vec<Host<'a>>) {
    let (mut links, mut hosts) = (Vec::new(), Vec::new());
    let mut places: HashMap<&str, usize> = HashMap::new();
    for link in message.links().iter().chain(more).filter(|l| l.kind.is_followed() && l.is_web()) {
        // A link to the web always has a host.
        let name = link.host().unwrap_or_default();
        let place = *places.entry(name).or_insert(hosts.len());
        let first = place == hosts.len();
        if first {
            let domain = registrable_domain(name);
            hosts.push(Host { name, domain, owners: owners(name, domain) });
        }
        links.push(Followed { link, host: place, first });
    }
    (links, hosts)
}

/// Whether the From domain is proved. An aligned pass proves it; known failure of everything disproves it.
fn proved(input: &Input<'_>, from_host: &str) -> Option<bool> {
    // Of several authors none vouches for another.
    if input.message.from().len() > 1 {
        return input.facts.dmarc.known().map(|_| false);
    }
    if input.facts.proven_from().is_some() {
        return Some(true);
    }
    let from = registrable_domain(from_host)?;
    let arc = input.facts.arc.known().is_some_and(|arc| arc.result == ArcResult::Pass && arc.trusted_pass);
    let aligned = |domain: &str| registrable_domain(domain) == Some(from);
    let dkim = match &input.facts.dkim {
        Fact::Known(list) => Some(list.iter().any(|s| s.result == DkimResult::Pass && aligned(&s.domain))),
        Fact::Unknown(_) => None,
    };
    let spf = match &input.facts.spf {
        Fact::Known(spf) => Some(spf.result == SpfResult::Pass && aligned(&spf.domain)),
        Fact::Unknown(_) => None,
    };
    match (arc, dkim, spf) {
        (true, _, _) | (_, Some(true), _) | (_, _, Some(true)) => Some(true),
        (_, Some(false), Some(false)) => Some(false),
        _ => input.facts.dmarc.known().map(super::Dmarc::is_aligned),
    }
}

/// Subject and text in one line, lower case; what is quoted from an earlier message is left out.
fn wording(subject: &str, text: &str) -> String {
    let mut out = String::with_capacity(subject.len() + text.len().min(MAX_WORDING_BYTES) + 2);
    out.push_str(subject);
    out.push_str(" . ");
    let end = text.floor_char_boundary(MAX_WORDING_BYTES);
    for line in text[..end].lines().filter(|line| !line.starts_with('>')) {
        for word in line.split_whitespace() {
            let start = out.len();
            match word.is_ascii() {
                true => {
                    out.push_str(word);
                    out[start..].make_ascii_lowercase();
                }
                false => out.push_str(&word.to_lowercase()),
            }
            out.push(' ');
        }
    }
    if out.is_ascii() { out } else { out.replace('\u{2019}', "'") }
}
