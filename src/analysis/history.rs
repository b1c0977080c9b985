//! What is remembered of the people around a message, as it was before that message: profiles and four lists.
//!
//! A value like any other fact: frozen into the record. Addresses and domains are in lower case. Mail counts as received
//! from somebody when it was delivered; what was refused or is still held only counts as malicious. Not here: where it is
//! kept and how it is asked (`records`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Site;
use super::hosts::is_free_mail;
use crate::mail::{Address, Envelope, Mailbox, Message, registrable_domain};

/// How often somebody writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prevalence {
    /// First contact was a moment ago, or this is it.
    New,
    /// Hardly ever.
    Outlier,
    /// Now and then.
    Rare,
    /// Often and on several days.
    Common,
}

impl Prevalence {
    /// The word in rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Outlier => "outlier",
            Self::Rare => "rare",
            Self::Common => "common",
        }
    }
}

/// What is remembered of a sender. Days are whole days before the message; `None`: never.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// How often.
    pub prevalence: Prevalence,
    /// Somebody here wrote to that address (or domain) before.
    pub solicited: bool,
    /// Some mail of it was passed without a mark.
    pub any_messages_benign: bool,
    /// Some mail of it was held or refused.
    pub any_messages_malicious_or_spam: bool,
    /// Some mail of it was released from quarantine.
    pub any_false_positives: bool,
    /// Some mail of it failed DMARC.
    pub auth_failed: bool,
    /// Days since first contact, 0 without any.
    pub days_known: i64,
    /// Days since the first mail in either direction.
    pub days_since_first_contact: Option<i64>,
    /// Days since the last mail in either direction.
    pub days_since_last_contact: Option<i64>,
    /// Days since the last mail received.
    pub days_since_last_inbound: Option<i64>,
    /// Days since the last mail sent.
    pub days_since_last_outbound: Option<i64>,
}

/// On which of the lists an address or domain is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// `$sender_emails` or `$sender_domains`.
    pub sender: bool,
    /// `$recipient_emails` or `$recipient_domains`.
    pub recipient: bool,
}

/// Everything remembered that a rule may ask about one message. Profiles are `None` when the message names nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// By address at free mail providers, else by registrable domain.
    pub by_sender: Option<Profile>,
    /// By the address in From.
    pub by_sender_email: Option<Profile>,
    /// By the registrable domain in From.
    pub by_sender_domain: Option<Profile>,
    /// By the first address in Reply-To.
    pub by_reply_to: Option<Profile>,
    /// Of each address and domain of the message.
    pub members: BTreeMap<String, Membership>,
}

impl History {
    /// On which lists an address or domain (lower case) is. `None`: it was not asked about, so it is not known.
    pub fn member(&self, name: &str) -> Option<Membership> {
        self.members.get(name).copied()
    }
}

/// Whom to ask about for one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryKeys {
    /// Address in From.
    pub sender_email: Option<String>,
    /// Its registrable domain (the whole domain when it has none).
    pub sender_domain: Option<String>,
    /// Whether that domain gives anybody a mailbox.
    pub free_mail: bool,
    /// First address in Reply-To.
    pub reply_to: Option<String>,
    /// All addresses and domains whose membership may be asked.
    pub names: BTreeSet<String>,
}

impl HistoryKeys {
    /// The keys of a message; at most `max_names` names, those of the senders first.
    pub fn of(message: &Message, envelope: &Envelope, max_names: usize) -> Self {
        let mut keys = Self::default();
        let reply_to = message.reply_to();
        if let Some(from) = first(message.from()) {
            let domain = registrable_domain(&from.domain).unwrap_or(&from.domain);
            keys.free_mail = is_free_mail(domain);
            keys.sender_domain = Some(domain.to_owned());
            keys.sender_email = Some(lower(from));
        }
        keys.reply_to = first(&reply_to).map(lower);
        let (return_path, to, cc) = (message.mailboxes("Return-Path"), message.to(), message.cc());
        let header = [message.from(), &reply_to, &return_path, &to, &cc];
        let header = header.into_iter().flatten().filter_map(|mailbox| mailbox.address.clone());
        let sender = envelope.sender.address();
        let all = sender.into_iter().chain(header).chain(envelope.recipients.iter().filter_map(|path| path.address()));
        for address in all {
            let registrable = registrable_domain(&address.domain).map(str::to_owned);
            for name in [Some(lower(&address)), Some(address.domain), registrable].into_iter().flatten() {
                if keys.names.len() < max_names {
                    keys.names.insert(name);
                }
            }
        }
        keys
    }
}

fn first(mailboxes: &[Mailbox]) -> Option<&Address> {
    mailboxes.iter().find_map(|mailbox| mailbox.address.as_ref())
}

fn lower(address: &Address) -> String {
    address.to_string().to_lowercase()
}

/// What a message adds to what is remembered, beside its verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Addresses in From of mail from outside; empty for our own.
    pub wrote_to_us: Vec<String>,
    /// Addresses in Reply-To of mail from outside.
    pub reply_to: Vec<String>,
    /// Recipients outside of our own mail.
    pub we_wrote_to: Vec<String>,
}

impl Contact {
    /// Names kept of one message in each of the three.
    const MAX: usize = 100;

    /// What a message adds. `own_client`: it comes from a client of ours (logged in, or in our networks): only such mail
    /// tells whom we write to, since anybody may claim one of our addresses.
    pub fn of(message: &Message, envelope: &Envelope, site: &Site, own_client: bool) -> Self {
        let outside = |address: &Address| !site.owns(&address.domain);
        let names = |mailboxes: &[Mailbox]| -> Vec<String> {
            let addresses = mailboxes.iter().filter_map(|mailbox| mailbox.address.as_ref());
            addresses.filter(|address| outside(address)).map(lower).take(Self::MAX).collect()
        };
        let ours = first(message.from()).is_some_and(|from| site.owns(&from.domain));
        if own_client && ours {
            let recipients = envelope.recipients.iter().filter_map(|path| path.address());
            let we_wrote_to = recipients.filter(outside).map(|address| lower(&address)).take(Self::MAX).collect();
            return Self { we_wrote_to, ..Self::default() };
        }
        let wrote_to_us = names(message.from());
        Self { wrote_to_us, reply_to: names(&message.reply_to()), we_wrote_to: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mail::{MessageLimits, Path};

    fn message(raw: &'static str) -> Message {
        Message::parse(Bytes::from_static(raw.as_bytes()), &MessageLimits::default())
    }

    fn envelope(sender: &str, recipients: &[&str]) -> Envelope {
        Envelope { sender: Path::new(sender), recipients: recipients.iter().map(|r| Path::new(*r)).collect() }
    }

    const RAW: &str = "From: Ada <Ada@mail.Sender.example>\r\nReply-To: x@gmail.com\r\nTo: bob@own.example\r\n\
                       Cc: carl@other.example\r\n\r\nx\r\n";

    #[test]
    fn keys() {
        let keys = HistoryKeys::of(&message(RAW), &envelope("bounce@list.example", &["bob@own.example"]), 100);
        assert_eq!(keys.sender_email.as_deref(), Some("ada@mail.sender.example"));
        assert_eq!(keys.sender_domain.as_deref(), Some("sender.example"));
        assert_eq!((keys.reply_to.as_deref(), keys.free_mail), (Some("x@gmail.com"), false));
        for name in
            ["bounce@list.example", "mail.sender.example", "sender.example", "carl@other.example", "own.example"]
        {
            assert!(keys.names.contains(name), "{name}");
        }
        assert_eq!(HistoryKeys::of(&message(RAW), &envelope("", &[]), 2).names.len(), 2);
        let none = HistoryKeys::of(&message("Subject: x\r\n\r\n"), &envelope("", &[]), 100);
        assert_eq!(none, HistoryKeys::default());
    }

    #[test]
    fn contacts() {
        let site = Site::new(&["own.example".into()], &[]);
        let outgoing = message("From: bob@own.example\r\n\r\n");
        let to = envelope("bob@own.example", &["Ada@sender.example", "eve@own.example"]);
        assert_eq!(Contact::of(&outgoing, &to, &site, true).we_wrote_to, ["ada@sender.example"]);
        assert_eq!(Contact::of(&outgoing, &to, &site, false), Contact::default(), "a claim is no proof");
        let incoming = Contact::of(&message(RAW), &envelope("", &["bob@own.example"]), &site, false);
        assert_eq!(incoming.wrote_to_us, ["ada@mail.sender.example"]);
        assert_eq!((incoming.reply_to.len(), incoming.we_wrote_to.len()), (1, 0));
    }
}
