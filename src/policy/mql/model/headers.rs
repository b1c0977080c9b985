//! Header fields, hops and what authentication says.

use super::{Value, View, class, facts_missing, name};
use crate::analysis::{DmarcResult, Fact, SpfResult};
use crate::mail::{
    AuthenticationResults, Hop, HopField, Message, MethodResult, Path, Received, Signature, SpfRecord,
    received_domains, received_ips,
};
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
                let hosts = received_domains(message);
                distinct(hosts, |host| name::domain(host, store), store)
            }
            "ips" => {
                let mut ips: Vec<String> = received_ips(message).iter().map(ToString::to_string).collect();
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
            "date" => time(message.date(), store),
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
    let hops = store.keep(crate::mail::hops(message));
    store.array(hops.iter().map(|hop| store.object(class("Hop"), HopSource(hop))))
}

struct HopSource<'m>(&'m Hop);

impl<'m> Source<'m> for HopSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let hop = self.0;
        match field {
            "index" => Value::Int(i64::try_from(hop.index).unwrap_or(i64::MAX)),
            "fields" => store.array(hop.fields.iter().map(|one| store.object(class("HopField"), FieldSource(one)))),
            "received" => match &hop.received {
                Some(received) => store.object(class("Received"), ReceivedSource(received)),
                None => Value::Null,
            },
            "received_spf" => match &hop.received_spf {
                Some(spf) => store.object(class("Spf"), SpfRecordSource(spf)),
                None => Value::Null,
            },
            "signature" => match hop.signatures.first() {
                Some(signature) => store.object(class("Signature"), SignatureSource(signature)),
                None => Value::Null,
            },
            _ => match hop.authentication_results.first() {
                Some(results) => store.object(class("AuthResults"), ResultsSource(results)),
                None => Value::Null,
            },
        }
    }
}

struct FieldSource<'m>(&'m HopField);

impl<'m> Source<'m> for FieldSource<'m> {
    fn field(&self, field: &'static str, _: &'m Store) -> Value<'m> {
        match field {
            "name" => Value::Text(&self.0.name),
            "value" => Value::Text(&self.0.value),
            _ => Value::Int(i64::try_from(self.0.position).unwrap_or(i64::MAX)),
        }
    }
}

struct ReceivedSource<'m>(&'m Received);

struct RawText<'m>(&'m str);

impl<'m> Source<'m> for ReceivedSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let received = self.0;
        let raw = |text: &'m Option<String>| match text {
            Some(text) => store.object(class("RawText"), RawText(text)),
            None => Value::Null,
        };
        match field {
            "source" => raw(&received.source),
            "server" => raw(&received.server),
            "link" => raw(&received.link),
            "protocol" => raw(&received.protocol),
            "id" => raw(&received.id),
            "mailbox" => raw(&received.mailbox),
            "time" => time(received.time, store),
            "zone_offset" => Value::text_or_null(received.zone_offset.as_deref()),
            _ => Value::Null,
        }
    }
}

impl<'m> Source<'m> for RawText<'m> {
    fn field(&self, _: &'static str, _: &'m Store) -> Value<'m> {
        Value::Text(self.0)
    }
}

struct SpfRecordSource<'m>(&'m SpfRecord);

impl<'m> Source<'m> for SpfRecordSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let spf = self.0;
        let host = |text: &'m Option<String>| text.as_deref().map_or(Value::Null, |host| name::domain(host, store));
        match field {
            "verdict" => Value::Text(&spf.verdict),
            "description" => Value::text_or_null(spf.description.as_deref()),
            "designator" => Value::text_or_null(spf.designator.as_deref()),
            "helo" => host(&spf.helo),
            "server" => host(&spf.server),
            _ => match spf.client_ip.as_deref().and_then(|text| text.parse().ok()) {
                Some(ip) => name::ip(ip, None, store),
                None => Value::Null,
            },
        }
    }
}

struct SignatureSource<'m>(&'m Signature);

impl<'m> Source<'m> for SignatureSource<'m> {
    fn field(&self, field: &'static str, _: &'m Store) -> Value<'m> {
        let signature = self.0;
        let tag = match field {
            "algorithm" => "a",
            "body_hash" | "raw_body_hash" => "bh",
            "domain" => "d",
            "headers" => "h",
            "instance" => "i",
            "selector" => "s",
            "signature" => "b",
            "version" => "v",
            _ => return Value::Text(&signature.field),
        };
        Value::text_or_null(signature.tag(tag))
    }
}

struct ResultsSource<'m>(&'m AuthenticationResults);

struct MethodSource<'m>(&'m MethodResult);

impl<'m> Source<'m> for ResultsSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let results = self.0;
        match field {
            "dmarc" | "spf" | "dkim" => Value::text_or_null(results.verdict(field)),
            "dmarc_details" => method(results, "dmarc", "Dmarc", store),
            "compauth" => method(results, "compauth", "CompAuth", store),
            "dkim_details" => {
                let signatures = results.methods.iter().filter(|one| one.method == "dkim");
                store.array(signatures.map(|one| store.object(class("Signature"), MethodSource(one))))
            }
            "spf_details" => match results.spf() {
                Some(spf) => store.object(class("Spf"), SpfRecordSource(store.keep(spf))),
                None => Value::Null,
            },
            "server" => results.server.as_deref().map_or(Value::Null, |host| name::domain(host, store)),
            "instance" => Value::text_or_null(results.instance.as_deref()),
            _ => Value::Text(&results.field),
        }
    }
}

fn method<'m>(results: &'m AuthenticationResults, name: &str, kind: &str, store: &'m Store) -> Value<'m> {
    results.method(name).map_or(Value::Null, |one| store.object(class(kind), MethodSource(one)))
}

impl<'m> Source<'m> for MethodSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let result = self.0;
        let property = |name: &str| Value::text_or_null(result.property(name));
        match field {
            "verdict" => Value::Text(&result.verdict),
            "from" => result.property("header.from").map_or(Value::Null, |host| name::domain(host, store)),
            "domain" => property("header.d"),
            "selector" => property("header.s"),
            "signature" => property("header.b"),
            "algorithm" => property("header.a"),
            // Properties without a type: `action=none`, `reason=001`; in comments `p=REJECT sp=NONE dis=NONE`.
            "policy" => Value::text_or_null(result.in_comment("p")),
            "sub_policy" => Value::text_or_null(result.in_comment("sp")),
            "disposition" => Value::text_or_null(result.in_comment("dis")),
            _ => property(field),
        }
    }
}

/// A time as RFC 3339; null when there is none.
pub(super) fn time<'m>(at: Option<i64>, store: &'m Store) -> Value<'m> {
    let text = at
        .and_then(|at| time::OffsetDateTime::from_unix_timestamp(at).ok())
        .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok());
    Value::text_or_null(text.map(|text| &*store.text(&text)))
}
