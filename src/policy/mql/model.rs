//! The Message Data Model as a view: objects over the message as parsed, each field read when a rule first asks.

mod attachment;
mod body;
mod headers;
mod name;
pub(super) mod scan;
mod url;

use super::compile;
use super::needs::{Capability, Needs};
use super::schema::{ClassId, schema};
use super::value::{Source, Store, Value};
use crate::analysis::{Facts, Membership, Site};
use crate::content::ContentLimits;
use crate::mail::{Connection, Envelope, Message, SubjectParts};
use crate::policy::fold;
use crate::policy::lists::Lists;

pub(super) use attachment::{AttachmentSource, FileBytes, hex};
pub(super) use body::HtmlSource;
pub(super) use name::{domain, email_address};
pub(super) use url::{links, url};

/// What rules look at.
#[derive(Debug, Clone, Copy)]
pub struct View<'m> {
    /// The message.
    pub message: &'m Message,
    /// Sender and recipients, when it is under way; `None` for messages from a file.
    pub envelope: Option<&'m Envelope>,
    /// The client's connection.
    pub connection: Option<&'m Connection>,
    /// What the outside said.
    pub facts: &'m Facts,
    /// What is known of the operator.
    pub site: &'m Site,
    /// How far attachments are opened.
    pub content: &'m ContentLimits,
    /// Seconds since 1970 at which it is judged.
    pub now: i64,
}

/// The view and the lists, for the whole evaluation.
pub(super) struct Root<'m> {
    pub(super) view: View<'m>,
    pub(super) lists: &'m Lists,
}

/// The class of that name.
pub(super) fn class(name: &str) -> ClassId {
    schema().class(name)
}

pub(super) fn facts_missing<'m>() -> Value<'m> {
    Value::Unavailable(Needs::of(Capability::Facts))
}

impl<'m> Root<'m> {
    pub(super) fn message(&'m self, store: &'m Store) -> Value<'m> {
        store.object(class("Message"), MessageSource { message: self.view.message, view: Some(&self.view) })
    }

    /// A message in an attachment: what the outside says is not known of it.
    pub(super) fn nested(&'m self, message: &'m Message, store: &'m Store) -> Value<'m> {
        store.object(class("Message"), MessageSource { message, view: None })
    }

    pub(super) fn vips(&'m self, store: &'m Store) -> Value<'m> {
        match self.lists.org_vips() {
            None => Value::Unavailable(Needs::of(Capability::List)),
            Some(vips) => store.array(vips.iter().map(|vip| {
                let pair = Pair { display_name: &vip.display_name, email: &vip.email };
                store.object(class("Vip"), pair)
            })),
        }
    }

    /// Whether an address or domain is on a list that history keeps.
    pub(super) fn remembered(&self, list: u8, name: &str) -> Value<'m> {
        let member = self.view.facts.history.known().and_then(|history| history.member(&fold::folded(name)));
        match member {
            Some(member) => Value::bool(on(list, member)),
            None => Value::Unavailable(Needs::of(Capability::History)),
        }
    }

    /// The names of the message that are on such a list; `None`: history is not known.
    pub(super) fn remembered_names(&self, list: u8) -> Option<impl Iterator<Item = &'m String>> {
        let members = &self.view.facts.history.known()?.members;
        // A list holds addresses or domains.
        let addresses = compile::HISTORY_LISTS.get(usize::from(list)).is_some_and(|name| name.ends_with("emails"));
        let names = members.iter().filter(move |(name, _)| name.contains('@') == addresses);
        Some(names.filter(move |(_, member)| on(list, **member)).map(|(name, _)| name))
    }
}

/// The lists stand in the order of [`compile::HISTORY_LISTS`]: those of senders first.
fn on(list: u8, member: Membership) -> bool {
    if list < 2 { member.sender } else { member.recipient }
}

struct Pair<'m> {
    display_name: &'m str,
    email: &'m str,
}

impl<'m> Source<'m> for Pair<'m> {
    fn field(&self, name: &'static str, _: &'m Store) -> Value<'m> {
        Value::Text(if name == "email" { self.email } else { self.display_name })
    }
}

#[derive(Clone, Copy)]
struct MessageSource<'m> {
    message: &'m Message,
    view: Option<&'m View<'m>>,
}

impl<'m> Source<'m> for MessageSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let message = self.message;
        match field {
            "type" => store.object(class("MessageType"), TypeSource(*self)),
            "sender" => name::sender(message, store),
            "recipients" => store.object(class("Recipients"), *self),
            "subject" => subject(message.header("Subject").map(|_| message.subject()), store),
            "headers" => headers::headers(message, self.view, store),
            "body" => body::body(message, store),
            "attachments" => attachment::attachments(message, store),
            "mailbox" => self.mailbox(store),
            "to" | "cc" | "bcc" => self.recipients(field, store),
            "_meta" | "external" => store.object(class(if field == "_meta" { "Meta" } else { "External" }), Nothing),
            _ => Value::Array(&[]),
        }
    }
}

impl<'m> MessageSource<'m> {
    fn recipients(&self, field: &str, store: &'m Store) -> Value<'m> {
        let named = match field {
            "to" => self.message.to(),
            "cc" => self.message.cc(),
            _ => self.message.mailboxes("Bcc"),
        };
        store.array(store.keep(named).iter().map(|mailbox| name::mailbox(mailbox, store)))
    }

    /// The mailbox the copy is for: the envelope's recipient, when there is one alone.
    fn mailbox(&self, store: &'m Store) -> Value<'m> {
        let recipients = self.view.and_then(|view| view.envelope).map(|e| e.recipients.as_slice());
        match recipients {
            Some([one]) => match one.address() {
                Some(address) => {
                    let text = store.text(&address.to_string());
                    store.object(class("MailboxExtended"), MailboxSource(text))
                }
                None => Value::Null,
            },
            _ => facts_missing(),
        }
    }
}

struct MailboxSource<'m>(&'m str);

impl<'m> Source<'m> for MailboxSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            "email" => name::email_address(self.0, store),
            // Names stand in a directory, which is not asked.
            _ => facts_missing(),
        }
    }
}

/// Direction, from the organisation's view.
struct TypeSource<'m>(MessageSource<'m>);

impl<'m> Source<'m> for TypeSource<'m> {
    fn field(&self, field: &'static str, _: &'m Store) -> Value<'m> {
        let Some(view) = self.0.view else { return Value::Null };
        let site = view.site;
        let from = self.0.message.from().iter().filter_map(|m| m.address.as_ref()).any(|a| site.owns(&a.domain));
        let proven = view.facts.proven_from().is_some();
        // Without domains of our own everything comes from outside.
        let inside = from && (proven || view.connection.is_some_and(|c| c.login.is_some()));
        let outside = |domain: &str| !site.owns(domain);
        let recipients = view.envelope.map_or(&[][..], |envelope| &envelope.recipients);
        let to_outside =
            !site.own_domains.is_empty() && recipients.iter().filter_map(|r| r.address()).any(|a| outside(&a.domain));
        Value::bool(match field {
            "inbound" => !inside,
            "internal" => inside && !to_outside,
            _ => inside && to_outside,
        })
    }
}

struct Nothing;

impl<'m> Source<'m> for Nothing {
    fn field(&self, _: &'static str, _: &'m Store) -> Value<'m> {
        Value::Null
    }
}

/// A subject; null when there is none.
pub(super) fn subject<'m>(text: Option<String>, store: &'m Store) -> Value<'m> {
    let kept = store.keep(text.map(|text| (SubjectParts::of(&text), text)));
    store.object(class("Subject"), SubjectSource(kept))
}

struct SubjectSource<'m>(&'m Option<(SubjectParts, String)>);

impl<'m> Source<'m> for SubjectSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let Some((parts, text)) = self.0 else {
            return if field == "tags" { Value::Array(&[]) } else { Value::Null };
        };
        match field {
            "subject" => Value::Text(text),
            "base" => Value::Text(&parts.base),
            "is_reply" => Value::bool(parts.is_reply),
            "is_forward" => Value::bool(parts.is_forward),
            "is_auto_reply" => Value::bool(parts.is_auto_reply),
            _ => store.texts(&parts.tags),
        }
    }
}
