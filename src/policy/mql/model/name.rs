//! Domains, addresses, mailboxes.

use std::net::IpAddr;

use super::{Value, class};
use crate::mail::{Address, DomainParts, Mailbox, Message};
use crate::policy::mql::value::{Source, Store};

/// A host name in parts.
pub(in crate::policy::mql) fn domain<'m>(host: &str, store: &'m Store) -> Value<'m> {
    let host = store.text(host);
    host.make_ascii_lowercase();
    store.object(class("Domain"), DomainSource(DomainParts::of(host)))
}

struct DomainSource<'m>(DomainParts<'m>);

impl<'m> Source<'m> for DomainSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let parts = &self.0;
        match field {
            "domain" => Value::Text(parts.domain),
            "root_domain" => Value::text_or_null(parts.root_domain),
            "sld" => Value::text_or_null(parts.sld),
            "tld" => Value::text_or_null(parts.tld),
            "subdomain" => Value::text_or_null(parts.subdomain),
            "valid" => Value::bool(parts.valid),
            "punycode" => Value::text_or_null(parts.punycode().map(|text| &*store.text(&text))),
            _ => Value::Null,
        }
    }
}

/// An address in parts; its domain may be unroutable. Null fields when the text is no address at all.
pub(in crate::policy::mql) fn email_address<'m>(text: &'m str, store: &'m Store) -> Value<'m> {
    store.object(class("EmailAddress"), EmailSource(text))
}

struct EmailSource<'m>(&'m str);

impl<'m> Source<'m> for EmailSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let address = Address::parse(self.0);
        match (field, address) {
            ("email", Some(address)) => Value::Text(store.text(&address.to_string())),
            ("email", None) => {
                if self.0.is_empty() {
                    Value::Null
                } else {
                    Value::Text(self.0)
                }
            }
            ("local_part", Some(address)) => Value::Text(store.text(&address.local)),
            ("domain", Some(address)) => domain(&address.domain, store),
            // Every field of a domain that is not there is null, but it is known not to be valid.
            ("domain", None) => domain("", store),
            ("error", None) => Value::Text("not an address"),
            _ => Value::Null,
        }
    }
}

pub(super) fn mailbox<'m>(mailbox: &'m Mailbox, store: &'m Store) -> Value<'m> {
    store.object(class("Mailbox"), MailboxSource(mailbox))
}

struct MailboxSource<'m>(&'m Mailbox);

impl<'m> Source<'m> for MailboxSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            "display_name" if self.0.display.is_empty() => Value::Null,
            "display_name" => Value::Text(&self.0.display),
            "email" => email_address(&self.0.text, store),
            _ => Value::Array(&[]),
        }
    }
}

/// The sender: the first mailbox of From.
pub(super) fn sender<'m>(message: &'m Message, store: &'m Store) -> Value<'m> {
    let from = match message.from().first() {
        Some(from) => from,
        None => store.keep(Mailbox::default()),
    };
    store.object(class("Sender"), MailboxSource(from))
}

pub(super) fn ip<'m>(ip: IpAddr, original: Option<(&'m str, &'static str)>, store: &'m Store) -> Value<'m> {
    store.object(class("IP"), IpSource { ip, original })
}

struct IpSource<'m> {
    ip: IpAddr,
    original: Option<(&'m str, &'static str)>,
}

struct TranslationSource<'m>(&'m str, &'static str);

impl<'m> Source<'m> for IpSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            "ip" => Value::Text(store.text(&self.ip.to_string())),
            "version" => Value::Int(if self.ip.is_ipv4() { 4 } else { 6 }),
            _ => match self.original {
                Some((text, encoder)) => store.object(class("IpTranslation"), TranslationSource(text, encoder)),
                None => Value::Null,
            },
        }
    }
}

impl<'m> Source<'m> for TranslationSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            "original" => Value::Text(self.0),
            "encoders" => store.texts([self.1]),
            _ => Value::bool(false),
        }
    }
}
