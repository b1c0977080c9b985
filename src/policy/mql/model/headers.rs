//! Header fields, hops and what authentication says.

use std::net::IpAddr;

use super::{Value, View, class, facts_missing, name};
use crate::analysis::{DmarcResult, Fact, SpfResult};
use crate::mail::{Message, Path};
use crate::policy::mql::value::{Source, Store};

pub(super) fn headers<'m>(message: &'m Message, view: Option<&'m View<'m>>, store: &'m Store) -> Value<'m> {
    store.object(class("Headers"), HeadersSource { message, view })
}

#[derive(Clone, Copy)]
struct HeadersSource<'m> {
    message: &'m Message,
    view: Option<&'m View<'m>>,
}

impl<'m> Source<'m> for HeadersSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let message = self.message;
        let text = |name: &str| {
            let value = message.header(name).map(|field| field.text().trim().to_owned());
            Value::text_or_null(value.filter(|text| !text.is_empty()).map(|text| &*store.text(&text)))
        };
        let address = |name: &str| match message.mailboxes(name).into_iter().next() {
            Some(mailbox) => name::email_address(store.text(&mailbox.text), store),
            None => Value::Null,
        };
        match field {
            "hops" => hops(message, store),
            "auth_summary" => store.object(class("AuthSummary"), *self),
            "dmarc" => match self.view.map(|view| &view.facts.dmarc) {
                Some(Fact::Known(_)) => store.object(class("DmarcSummary"), DmarcSource(*self)),
                Some(Fact::Unknown(_)) => facts_missing(),
                None => Value::Null,
            },
            "spf" => match self.view.map(|view| &view.facts.spf) {
                Some(Fact::Known(_)) => store.object(class("SpfSummary"), SpfSource(*self)),
                Some(Fact::Unknown(_)) => facts_missing(),
                None => Value::Null,
            },
            "references" => ids(message, "References", store),
            "in_reply_to" => match ids(message, "In-Reply-To", store) {
                Value::Array([first, ..]) => *first,
                _ => Value::Null,
            },
            "reply_to" => {
                store.array(store.keep(message.reply_to()).iter().map(|mailbox| name::mailbox(mailbox, store)))
            }
            "return_path" => match self.view.and_then(|view| view.envelope) {
                Some(envelope) => path(&envelope.sender, store),
                None => address("Return-Path"),
            },
            "domains" => {
                let hosts = received(message).flat_map(|text| host_names(&text)).collect::<Vec<_>>();
                distinct(hosts, |host| name::domain(host, store), store)
            }
            "ips" => {
                let mut ips: Vec<String> = received(message).flat_map(|text| addresses(&text)).map(|ip| ip.to_string()).collect();
                if let Some(ip) = self.view.and_then(|view| view.connection).and_then(|c| c.client_ip) {
                    ips.insert(0, ip.to_string());
                }
                distinct(ips, |ip| ip.parse().map_or(Value::Null, |ip| name::ip(ip, None, store)), store)
            }
            "message_id" => match ids(message, "Message-ID", store) {
                Value::Array([first, ..]) => *first,
                _ => Value::Null,
            },
            "mailer" => match text("X-Mailer") {
                Value::Null => text("User-Agent"),
                mailer => mailer,
            },
            "date_original_offset" => {
                let date = message.header("Date").map(|field| field.text()).unwrap_or_default();
                let offset = date.split_whitespace().find(|word| {
                    word.len() == 5 && word.starts_with(['+', '-']) && word[1..].bytes().all(|b| b.is_ascii_digit())
                });
                Value::text_or_null(offset.map(|offset| &*store.text(offset)))
            }
            "date" => match message.date().and_then(|at| time::OffsetDateTime::from_unix_timestamp(at).ok()) {
                Some(at) => {
                    let text = at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
                    Value::Text(store.text(&text))
                }
                None => Value::Null,
            },
            "from" => match message.from().first() {
                Some(from) => name::mailbox(from, store),
                None => Value::Null,
            },
            "delivered_to" => address("Delivered-To"),
            "x_sender" => address("X-Sender"),
            "x_authenticated_sender" => address("X-Authenticated-Sender"),
            "x_secure_server_account" => text("X-SecureServer-Acct"),
            "x_authenticated_domain" => match text("X-Authenticated-Domain") {
                Value::Text(host) => name::domain(host, store),
                other => other,
            },
            "x_originating_ip" | "x_client_ip" => {
                let name = if field == "x_client_ip" { "X-Client-IP" } else { "X-Originating-IP" };
                match text(name) {
                    Value::Text(text) => match text.trim_matches(['[', ']', ' ']).parse() {
                        Ok(ip) => name::ip(ip, None, store),
                        Err(_) => Value::Null,
                    },
                    other => other,
                }
            }
            _ => Value::Null,
        }
    }
}

fn path<'m>(path: &Path, store: &'m Store) -> Value<'m> {
    match path.address() {
        Some(address) => name::email_address(store.text(&address.to_string()), store),
        None => Value::Null,
    }
}

fn distinct<'m>(mut texts: Vec<String>, make: impl Fn(&str) -> Value<'m>, store: &'m Store) -> Value<'m> {
    let mut seen = std::collections::HashSet::new();
    texts.retain(|text| seen.insert(text.clone()));
    store.array(texts.iter().map(|text| make(text)))
}

fn ids<'m>(message: &'m Message, name: &str, store: &'m Store) -> Value<'m> {
    let Some(field) = message.header(name) else { return Value::Array(&[]) };
    let text = field.unfolded();
    let ids = text.split(['<', '>', ' ', '\t', ',']).map(str::trim).filter(|id| !id.is_empty()).take(500);
    store.texts(ids)
}

fn received(message: &Message) -> impl Iterator<Item = String> {
    message.received().map(|field| field.unfolded().into_owned())
}

/// Words of a text that are host names under a known suffix.
fn host_names(text: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.split(|c: char| !is_name(c))
        .map(|word| word.trim_matches('.').to_ascii_lowercase())
        .filter(|word| word.contains('.') && crate::mail::registrable_domain(word).is_some())
        .collect()
}

fn addresses(text: &str) -> Vec<IpAddr> {
    let is_address = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':');
    text.split(|c: char| !is_address(c))
        .filter(|word| word.contains('.') || word.matches(':').count() > 1)
        .filter_map(|word| word.trim_end_matches('.').parse().ok())
        .collect()
}

struct DmarcSource<'m>(HeadersSource<'m>);

impl<'m> Source<'m> for DmarcSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let Some(dmarc) = self.0.view.and_then(|view| view.facts.dmarc.known()) else { return Value::Null };
        let error = matches!(dmarc.result, DmarcResult::TempError | DmarcResult::PermError);
        match field {
            // Without a published policy there is no pass or fail.
            "pass" => match dmarc.result {
                DmarcResult::None => Value::Null,
                DmarcResult::Pass => Value::bool(true),
                _ => Value::bool(false),
            },
            "error" => Value::bool(error),
            "details" => store.object(class("Dmarc"), DmarcDetails(dmarc)),
            _ => Value::Null,
        }
    }
}

struct DmarcDetails<'m>(&'m crate::analysis::Dmarc);

impl<'m> Source<'m> for DmarcDetails<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        use crate::analysis::DmarcPolicy;
        match field {
            "verdict" => Value::Text(match self.0.result {
                DmarcResult::None => "none",
                DmarcResult::Pass => "pass",
                DmarcResult::Fail => "fail",
                DmarcResult::TempError => "temperror",
                DmarcResult::PermError => "permerror",
            }),
            "policy" | "action" => match self.0.policy {
                DmarcPolicy::Unspecified => Value::Null,
                DmarcPolicy::None => Value::Text("none"),
                DmarcPolicy::Quarantine => Value::Text("quarantine"),
                DmarcPolicy::Reject => Value::Text("reject"),
            },
            "from" => name::domain(&self.0.domain, store),
            _ => Value::Null,
        }
    }
}

struct SpfSource<'m>(HeadersSource<'m>);

impl<'m> Source<'m> for SpfSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let Some(spf) = self.0.view.and_then(|view| view.facts.spf.known()) else { return Value::Null };
        let (word, error) = match spf.result {
            SpfResult::None => ("none", false),
            SpfResult::Neutral => ("neutral", false),
            SpfResult::Pass => ("pass", false),
            SpfResult::Fail => ("fail", false),
            SpfResult::SoftFail => ("softfail", false),
            SpfResult::TempError => ("temperror", true),
            SpfResult::PermError => ("permerror", true),
        };
        match field {
            "pass" => Value::bool(spf.result == SpfResult::Pass),
            "error" => Value::bool(error),
            "details" => store.object(class("Spf"), SpfDetails { source: self.0, word, domain: &spf.domain }),
            _ => Value::Null,
        }
    }
}

struct SpfDetails<'m> {
    source: HeadersSource<'m>,
    word: &'static str,
    domain: &'m str,
}

impl<'m> Source<'m> for SpfDetails<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let connection = self.source.view.and_then(|view| view.connection);
        match field {
            "verdict" => Value::Text(self.word),
            "designator" => Value::Text(self.domain),
            "client_ip" => match connection.and_then(|c| c.client_ip) {
                Some(ip) => name::ip(ip, None, store),
                None => Value::Null,
            },
            "helo" => match connection.and_then(|c| c.helo.as_deref()) {
                Some(helo) => name::domain(helo, store),
                None => Value::Null,
            },
            _ => Value::Null,
        }
    }
}

/// Header blocks, one a Received field; 0 is where the message came from.
fn hops<'m>(message: &'m Message, store: &'m Store) -> Value<'m> {
    let fields: Vec<_> = message.headers().collect();
    let mut blocks: Vec<Vec<(usize, &str, String)>> = vec![Vec::new()];
    for (position, field) in fields.iter().enumerate() {
        // A Received field begins the block of the server that put it on top.
        if field.is("Received") && blocks.last().is_some_and(|b| b.iter().any(|(_, n, _)| n.eq_ignore_ascii_case("Received"))) {
            blocks.push(Vec::new());
        }
        if let Some(block) = blocks.last_mut() {
            block.push((position, store.text(&field.name()), field.text()));
        }
    }
    let hops: Vec<Value<'m>> = blocks
        .into_iter()
        .rev()
        .enumerate()
        .map(|(index, block)| {
            let fields = store.array(block.iter().map(|(position, name, value)| {
                store.object(class("HopField"), HopField { position: *position, name: store.text(name), value: store.text(value) })
            }));
            store.object(class("Hop"), Hop { index, fields })
        })
        .collect();
    store.array(hops)
}

struct HopField<'m> {
    position: usize,
    name: &'m str,
    value: &'m str,
}

impl<'m> Source<'m> for HopField<'m> {
    fn field(&self, field: &'static str, _: &'m Store) -> Value<'m> {
        match field {
            "name" => Value::Text(self.name),
            "value" => Value::Text(self.value),
            _ => Value::Int(i64::try_from(self.position).unwrap_or(i64::MAX)),
        }
    }
}

struct Hop<'m> {
    index: usize,
    fields: Value<'m>,
}

impl<'m> Source<'m> for Hop<'m> {
    fn field(&self, field: &'static str, _: &'m Store) -> Value<'m> {
        match field {
            "index" => Value::Int(i64::try_from(self.index).unwrap_or(i64::MAX)),
            "fields" => self.fields,
            // Parsed trace fields come with the reading of Received and Authentication-Results.
            _ => facts_missing(),
        }
    }
}
