//! The message as detectors look at it: what several of them need, computed once.

use std::collections::HashMap;

use super::words;
use super::{ArcResult, Code, DkimResult, Fact, Input, SpfResult};
use crate::content::{self, File};
use crate::mail::{Address, Link, Mailbox, registrable_domain};

/// Bytes of text read for wording; what a letter is about is said at its start.
const MAX_WORDING_BYTES: usize = 64 << 10;

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
    /// Links a person follows, to the web.
    pub(super) links: Vec<&'a Link>,
    pub(super) files: Vec<File>,
}

impl<'a> View<'a> {
    pub(super) fn new(input: &Input<'a>) -> Self {
        let input = *input;
        let message = input.message;
        let sender = message.from().iter().find(|m| m.address.is_some()).or(message.from().first());
        let named = message.from().iter().find(|m| !m.display.is_empty());
        let from = sender.and_then(|m| m.address.as_ref());
        let from_host = from.map_or("", |a| a.domain.as_str());
        let subject = message.subject();
        let subject_lower = subject.to_lowercase();
        let text = wording(&subject_lower, message.text());
        let phrases = words::find(&text).into_iter().map(|(code, found)| (code, found.len())).collect();
        let files = match message.attachments().next() {
            Some(_) => content::explode(message, &input.site.content),
            None => Vec::new(),
        };
        Self {
            input,
            sender,
            from,
            from_host,
            from_domain: registrable_domain(from_host).unwrap_or_default(),
            // The first name is what a reader shows, whichever address it belongs to.
            display: named.map(|m| m.display.trim().to_lowercase()).unwrap_or_default(),
            subject,
            subject_lower,
            text,
            phrases,
            envelope_from: input.envelope.sender.address(),
            recipients: input.envelope.recipients.iter().filter_map(|r| r.address()).collect(),
            proved: proved(&input, from_host),
            links: message.links().iter().filter(|l| l.kind.is_followed() && l.is_web()).collect(),
            files,
        }
    }

    /// How many different phrases of a subject occur.
    pub(super) fn phrases(&self, code: Code) -> usize {
        self.phrases.get(&code).copied().unwrap_or(0)
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

/// Whether the From domain is proved. An aligned pass proves it; known failure of everything disproves it.
fn proved(input: &Input<'_>, from_host: &str) -> Option<bool> {
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
            match word.is_ascii() {
                true => out.extend(word.bytes().map(|b| b.to_ascii_lowercase() as char)),
                false => out.push_str(&word.to_lowercase()),
            }
            out.push(' ');
        }
    }
    out.replace('\u{2019}', "'")
}
