//! Functions that rest on something outside the message: what is known of their answers, and what they would have asked.
//!
//! A rule never calls out. It asks [`Answers`], which hold what services said about the arguments of a function; what
//! they do not hold is noted as an [`Ask`] and stays unavailable. Whoever runs the rules may fetch the answers and run
//! them again: the same answers give the same outcome, today and over history.

use super::{Run, Value};
use crate::analysis::Profile;
use crate::policy::mql::model::{self, FileBytes, HtmlSource, class, facts_missing, hex};
use crate::policy::mql::needs::{Capability, Needs};
use crate::policy::mql::schema::{Class, ClassId, Type, schema};
use crate::policy::mql::signature::Signature;
use crate::policy::mql::value::{Source, Store};
use bytes::Bytes;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

/// What a function was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// The message as a whole.
    Message,
    /// A text: what people wrote, a domain, a URL.
    Text(String),
    /// A file.
    File {
        /// Its name; may be empty.
        name: String,
        /// Its content.
        bytes: Bytes,
    },
}

/// A question that nobody answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// What it rests on.
    pub capability: Capability,
    /// The function as rules call it: `network.whois`.
    pub function: &'static str,
    /// Where its answer is looked up in [`crate::analysis::Answers`].
    pub key: String,
    /// Its first argument.
    pub about: About,
    /// Its named arguments that are texts.
    pub named: Vec<(&'static str, String)>,
}

/// Links read of a page in an answer.
const MAX_ANSWER_LINKS: usize = 1_000;

/// The answer of a function that rests on a capability.
pub(super) fn call<'m>(
    run: &Run<'m>,
    signature: &'static Signature,
    capability: Capability,
    values: &[Value<'m>],
) -> Value<'m> {
    let Some(about) = about(signature, values) else { return Value::Unavailable(Needs::of(capability)) };
    let key = key(&about, &values[signature.args.len().min(1)..]);
    match run.root.view.facts.answers.get(signature.name, &key) {
        Some(answer) => typed(answer, &signature.result, run.store),
        None => {
            run.asks(|| {
                let named = signature.named.iter().zip(values.iter().skip(signature.args.len()));
                let named = named.filter_map(|((name, _), value)| match value {
                    Value::Text(text) => Some((*name, (*text).to_owned())),
                    _ => None,
                });
                Ask { capability, function: signature.name, key, about, named: named.collect() }
            });
            Value::Unavailable(Needs::of(capability))
        }
    }
}

/// What is remembered of the sender; null when the message names none.
pub(super) fn profile<'m>(run: &Run<'m>, function: &str) -> Value<'m> {
    let Some(history) = run.root.view.facts.history.known() else {
        return Value::Unavailable(Needs::of(Capability::History));
    };
    let profile = match function {
        "profile.by_sender" => &history.by_sender,
        "profile.by_sender_email" => &history.by_sender_email,
        "profile.by_sender_domain" => &history.by_sender_domain,
        _ => &history.by_reply_to,
    };
    match profile {
        Some(profile) => run.store.object(class("Profile"), ProfileSource(profile)),
        None => Value::Null,
    }
}

struct ProfileSource<'m>(&'m Profile);

impl<'m> Source<'m> for ProfileSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let profile = self.0;
        match field {
            "prevalence" => Value::Text(profile.prevalence.as_str()),
            "solicited" => Value::bool(profile.solicited),
            "any_messages_benign" => Value::bool(profile.any_messages_benign),
            "any_messages_malicious_or_spam" => Value::bool(profile.any_messages_malicious_or_spam),
            "any_false_positives" => Value::bool(profile.any_false_positives),
            "auth_failed" => Value::bool(profile.auth_failed),
            "days_known" => Value::Int(profile.days_known),
            "days_since" => store.object(class("DaysSince"), Self(profile)),
            "first_contact" => Value::int_or_null(profile.days_since_first_contact),
            "last_contact" => Value::int_or_null(profile.days_since_last_contact),
            "last_inbound" => Value::int_or_null(profile.days_since_last_inbound),
            "last_outbound" => Value::int_or_null(profile.days_since_last_outbound),
            _ => Value::Null,
        }
    }
}

/// What the first argument is; `None` for what nobody could be asked about.
fn about(signature: &Signature, values: &[Value<'_>]) -> Option<About> {
    if signature.args.is_empty() {
        return Some(About::Message);
    }
    match values[0] {
        Value::Text(text) => Some(About::Text(text.to_owned())),
        Value::Object(object) => {
            let file = object.source().as_any().and_then(|any| any.downcast_ref::<FileBytes>());
            file.map(|file| About::File { name: file.name.clone(), bytes: file.bytes.clone() })
        }
        _ => None,
    }
}

/// The text that stands for an object: a URL, a domain.
pub(super) fn plain<'m>(value: Value<'m>, store: &'m Store) -> Value<'m> {
    let Value::Object(object) = value else { return value };
    let field = match object.class().name {
        "Link" => return plain(object.named("href_url", store), store),
        "Url" => "url",
        "Domain" => "domain",
        "EmailAddress" => "email",
        _ => return value,
    };
    object.named(field, store)
}

/// Short texts stand for themselves, all else for its hash.
fn key(about: &About, more: &[Value<'_>]) -> String {
    let mut key = match about {
        About::Message => String::new(),
        About::Text(text) if text.len() <= 256 => text.clone(),
        About::Text(text) => hex(&Sha256::digest(text)),
        About::File { bytes, .. } => hex(&Sha256::digest(bytes)),
    };
    for value in more {
        if let Value::Text(text) = value {
            key.push('\u{1f}');
            key.push_str(&if text.len() <= 64 { (*text).to_owned() } else { hex(&Sha256::digest(text)) });
        }
    }
    key
}

/// An answer as a value of the type that rules were checked against; what does not fit is null.
fn typed<'m>(json: &'m Json, kind: &Type, store: &'m Store) -> Value<'m> {
    match (kind, json) {
        (_, Json::Null) => Value::Null,
        (Type::Bool, Json::Bool(is)) => Value::bool(*is),
        (Type::Int, Json::Number(n)) => Value::int_or_null(n.as_i64()),
        (Type::Float, Json::Number(n)) => n.as_f64().map_or(Value::Null, Value::Float),
        (Type::Text, Json::String(text)) => Value::Text(text),
        (Type::Array(item), Json::Array(items)) => store.array(items.iter().map(|one| typed(one, item, store))),
        (Type::Map(item), Json::Object(map)) => {
            store.map(map.iter().map(|(key, one)| (key.as_str(), typed(one, item, store))))
        }
        (Type::Object(id), json) => object(json, *id, store),
        (Type::Json | Type::Any, json) => super::texts::from_json(json, store, 0),
        _ => Value::Null,
    }
}

fn object<'m>(json: &'m Json, id: ClassId, store: &'m Store) -> Value<'m> {
    match (schema().classes[id.0].name, json) {
        ("Domain", Json::String(text)) => model::domain(text, store),
        ("Url", Json::String(text)) => model::url(text, false, store),
        ("Html", Json::String(text)) => store.object(id, HtmlSource::read(text, MAX_ANSWER_LINKS, store)),
        // Files and pictures are not part of an answer.
        ("Attachment", _) => facts_missing(),
        (_, Json::Object(_)) => store.object(id, Answer { json, class: &schema().classes[id.0] }),
        _ => Value::Null,
    }
}

struct Answer<'m> {
    json: &'m Json,
    class: &'static Class,
}

impl<'m> Source<'m> for Answer<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let Some(place) = self.class.place(field) else { return Value::Null };
        match (&self.class.fields[place].kind, self.json.get(field)) {
            (kind, Some(json)) => typed(json, kind, store),
            // Whoever answered knows no more than he gave.
            (_, None) if self.json["partial"] == true => Value::Unavailable(Needs::of(Capability::LinkAnalysis)),
            // An array that is not given is empty, as everywhere in the model.
            (Type::Array(_), None) => Value::Array(&[]),
            (_, None) => Value::Null,
        }
    }
}
