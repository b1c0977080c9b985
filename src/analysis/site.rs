//! What the detectors are given: the message and what is around it, and what they know of the operator.

use std::sync::Arc;

use super::{CampaignConfig, Facts};
use crate::content::{self, ContentLimits, Means, Yara};
use crate::mail::{Address, Connection, Envelope, Message};

/// Everything a detector may look at.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The message.
    pub message: &'a Message,
    /// Sender and recipients.
    pub envelope: &'a Envelope,
    /// The client's connection.
    pub connection: &'a Connection,
    /// What the outside said.
    pub facts: &'a Facts,
    /// What is known of the operator.
    pub site: &'a Site,
}

/// What detectors know of the operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Site {
    /// Our own domains, lower case; subdomains count with them.
    pub own_domains: Vec<String>,
    /// People whose names are worth borrowing.
    pub vips: Vec<Vip>,
    /// How far attachments are opened.
    pub content: ContentLimits,
    /// YARA rules that attachments are scanned with.
    pub yara: Option<Arc<Yara>>,
    /// It is the second look: attachments are opened with passwords out of the text, pictures are read.
    pub deep: bool,
    /// What makes a campaign.
    pub campaigns: CampaignConfig,
}

/// Passwords tried of one message.
const MAX_PASSWORDS: usize = 24;

impl Site {
    /// What the files of a message are looked at with, within these limits: in a second look also with the passwords
    /// that the message gives.
    pub fn means(&self, message: &Message, limits: &ContentLimits) -> Arc<Means> {
        let passwords = match self.deep {
            true => content::passwords(&format!("{}\n{}", message.subject(), message.text()), MAX_PASSWORDS),
            false => Vec::new(),
        };
        Means::with_passwords(limits, self.yara.as_ref(), passwords)
    }
}

/// A protected person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// Name as it is shown, lower case.
    pub name: String,
    /// The address this person writes from, own domains aside.
    pub address: Option<Address>,
}

impl Site {
    /// Our own domains, and protected people as `Display Name <address>` or the name alone.
    pub fn new(own_domains: &[String], vips: &[String]) -> Self {
        let vip = |text: &String| {
            let (name, address) = text.split_once('<').unwrap_or((text, ""));
            let name = name.trim().trim_matches('"').to_lowercase();
            (!name.is_empty()).then(|| Vip { name, address: Address::parse(address.trim_end_matches(['>', ' '])) })
        };
        Self {
            own_domains: own_domains.iter().map(|d| d.trim().trim_matches('.').to_lowercase()).collect(),
            vips: vips.iter().filter_map(vip).collect(),
            content: ContentLimits::default(),
            yara: None,
            deep: false,
            campaigns: CampaignConfig::default(),
        }
    }

    /// Whether a host is ours.
    pub fn owns(&self, host: &str) -> bool {
        let under = |own: &String| host.strip_suffix(own.as_str()).is_some_and(|r| r.is_empty() || r.ends_with('.'));
        !host.is_empty() && self.own_domains.iter().any(under)
    }
}
