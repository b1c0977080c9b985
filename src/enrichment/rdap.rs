//! Registries: when a domain was registered (RDAP, RFC 9082, RFC 9083).
//!
//! Which registry knows a suffix is told by IANA's bootstrap file (RFC 9224), which the operator keeps. Each registry is a
//! dependency of its own, `rdap:HOST`, from when it is first asked: the trouble of one says nothing about the others, and senders
//! choose which are asked. A suffix without a registry, and a domain that its registry does not know, are answers: no date. The same answers
//! serve `network.whois`; there a suffix without a registry is no answer.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, ready};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;
use url::Url;

use super::cache::Cache;
use super::services::{Asking, Outside, Question, Way};
use super::tiers::Tiers;
use super::{RdapConfig, ServiceError, Tag};
use crate::analysis::DomainAge;
use crate::egress::{Answer, CallConfig, Failure, HttpClient, Registry as Dependencies, Repeat, Request};
use crate::mail::registrable_domain;

/// Redirects followed: registries send on to registrars.
const REDIRECTS: u8 = 3;
/// Name servers kept of a domain.
const MAX_SERVERS: usize = 20;

/// Registries that are dependencies of their own; further ones share one, `rdap`.
const MAX_REGISTRIES: usize = 100;
/// The name before a registry's, and of those that share one.
const RDAP: &str = "rdap";

pub(super) struct Rdap {
    /// Suffixes, and where they are known.
    places: HashMap<String, Arc<Place>>,
    asked: Mutex<BTreeMap<String, Arc<Registry>>>,
    others: Arc<Registry>,
    cache: Cache<Option<Registration>>,
    way: Way,
    call: CallConfig,
    dependencies: Dependencies,
    tiers: Arc<Tiers>,
    max_domains: usize,
}

/// Where suffixes are known, and who is asked there once somebody was.
struct Place {
    base: Url,
    registry: OnceLock<Arc<Registry>>,
}

/// A registry, and which domain it was asked about last. That outlives a reload, as its breaker does: by that it is looked at.
struct Registry {
    client: HttpClient,
    last: Arc<Mutex<String>>,
}

/// A domain that is asked about, and whether it is the sender's.
type Wanted<'q> = (&'q str, bool);
/// What is known of a domain, or why nothing is.
type Answered = Result<Option<Registration>, Failure>;

/// IANA's file: lists of suffixes, each with the places that know them.
#[derive(Deserialize)]
struct Bootstrap {
    services: Vec<(Vec<String>, Vec<String>)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    event_action: String,
    event_date: String,
}

#[derive(Deserialize)]
struct Domain {
    #[serde(default)]
    events: Vec<Event>,
    #[serde(default)]
    entities: Vec<Json>,
    #[serde(default)]
    nameservers: Vec<Json>,
}

/// What a registry says about a domain that it knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Registration {
    /// Seconds since 1970.
    at: Option<i64>,
    /// Fields of the data model's `Whois`, those that are told.
    told: serde_json::Map<String, Json>,
}

impl Rdap {
    pub(super) fn new(config: &RdapConfig, outside: &Outside, way: Way) -> Result<Self, ServiceError> {
        let file = config.bootstrap_file.as_deref().ok_or(ServiceError::Missing { key: "rdap.bootstrap_file" })?;
        let (call, dependencies) = (config.service.call.clone(), outside.dependencies.clone());
        let tiers = Arc::clone(&outside.tiers);
        let others = Registry::new(way.anywhere(RDAP, &call, &dependencies, REDIRECTS)?, &tiers);
        let cache = Cache::new((RDAP, RDAP, ""), &config.service, &tiers, others.client.dependency());
        let rdap = Self {
            places: bootstrap(file)?,
            asked: Mutex::default(),
            others: Arc::new(others),
            cache,
            way,
            call,
            dependencies,
            tiers,
            max_domains: config.max_domains,
        };
        // Those that were asked before a reload are looked at as before, and the others are none of ours any more.
        for place in rdap.places.values().filter(|place| rdap.dependencies.has(&name_of(&place.base))) {
            place.registry.get_or_init(|| rdap.registry(&place.base));
        }
        Ok(rdap)
    }

    /// How long registries have been failing: of those that do, the latest to begin. One that is gone for weeks says nothing about
    /// the others.
    pub(super) fn failing_for(&self) -> Duration {
        let failing = self.all().into_iter().map(|one| one.client.dependency().failing_for());
        failing.filter(|time| !time.is_zero()).min().unwrap_or_default()
    }

    /// When the domains of sender and links were registered; whole days before `question.now`. One that could not be asked about
    /// takes nothing from the others.
    pub(super) fn ask<'q>(&'q self, question: &Question<'q>, until: Instant) -> Asking<'q, Vec<DomainAge>> {
        let from = question.message.from().iter().filter_map(|mailbox| mailbox.address.as_ref());
        let senders = from.filter_map(|address| Some((registrable_domain(&address.domain)?, true)));
        let links = question.message.links().iter().filter(|link| link.kind.is_followed() && link.is_web());
        let links = links.filter(|link| link.ip().is_none()).filter_map(|link| link.registrable());
        let led_to = question.led_to.iter().filter_map(Url::domain).filter_map(registrable_domain);
        let links = led_to.chain(links).map(|domain| (domain, false));
        let mut asked: Vec<(&str, bool)> = Vec::new();
        for (domain, sender) in senders.chain(links) {
            if asked.len() < self.max_domains && asked.iter().all(|(other, _)| *other != domain) {
                asked.push((domain, sender));
            }
        }
        let now = question.now;
        let at_hand: Vec<_> = asked.iter().map(|(domain, _)| self.at_hand(domain)).collect();
        if at_hand.iter().all(Option::is_some) {
            let answers = asked.into_iter().zip(at_hand.into_iter().flatten());
            return Either::Left(ready(ages(answers.collect(), now)));
        }
        let each = asked.into_iter().zip(at_hand);
        Either::Right(Box::pin(async move { ages(self.ask_each(each.collect(), until).await, now) }))
    }

    /// The answers at hand, and those of the registries.
    #[allow(clippy::disallowed_methods)] // At most `max_domains`.
    async fn ask_each<'q>(
        &self,
        each: Vec<(Wanted<'q>, Option<Answered>)>,
        until: Instant,
    ) -> Vec<(Wanted<'q>, Answered)> {
        let each = each.into_iter().map(async |((domain, sender), at_hand)| {
            let answer = match at_hand {
                Some(answer) => answer,
                None => Box::pin(self.registration(domain, until)).await,
            };
            ((domain, sender), answer)
        });
        futures_util::future::join_all(each).await
    }

    /// Age and owner of a domain, as `network.whois` gives them; `None` where nobody can be asked.
    pub(super) async fn whois(&self, domain: &str, now: i64, until: Instant) -> Result<Option<Json>, Failure> {
        let Some(domain) = registrable_domain(domain).map(str::to_lowercase) else { return Ok(None) };
        if self.place(&domain).is_none() {
            return Ok(None);
        }
        Ok(Some(match self.registration(&domain, until).await? {
            None => json!({ "found": false }),
            Some(Registration { at, mut told }) => {
                told.insert("found".into(), true.into());
                told.insert("days_old".into(), at.map(|at| (now - at).max(0) / 86_400).into());
                Json::Object(told)
            }
        }))
    }

    /// Asks each registry what it was asked last once more, when a look at it is due.
    #[allow(clippy::disallowed_methods)] // As many as there may be registries.
    pub(super) async fn look(&self) {
        // Before it is asked whether a look is due: to say so takes it.
        let known = self.all().into_iter().filter_map(|one| {
            let domain = one.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let place = Arc::clone(self.place(&domain)?);
            // Another registry's by now, perhaps.
            let is_here = Arc::ptr_eq(place.registry.get_or_init(|| self.registry(&place.base)), &one);
            is_here.then_some((place, one, domain))
        });
        let due = known.filter(|(_, one, _)| one.client.dependency().wants_look());
        let each = due.map(|(place, one, domain)| async move {
            let until = Instant::now() + self.call.deadline();
            let _ = one.ask(&place.base, &domain, Repeat::Look, until).await;
        });
        futures_util::future::join_all(each).await;
    }

    /// How many suffixes have a registry.
    pub(super) fn known(&self) -> usize {
        self.places.len()
    }

    /// What needs no question to a registry.
    fn at_hand(&self, domain: &str) -> Option<Answered> {
        let Some(place) = self.place(domain) else { return Some(Ok(None)) };
        let registry = place.registry.get()?;
        let answer = self.cache.of(registry.client.dependency()).at_hand(domain, false);
        if let Some(Err(_)) = answer {
            registry.is_asked(domain);
        }
        answer
    }

    /// What its registry says about a domain, or what is kept of that; `None` when it knows nothing of it.
    async fn registration(&self, domain: &str, until: Instant) -> Answered {
        let Some(place) = self.place(domain).cloned() else { return Ok(None) };
        let registry = Arc::clone(place.registry.get_or_init(|| self.registry(&place.base)));
        registry.is_asked(domain);
        let cache = self.cache.of(registry.client.dependency());
        let name = domain.to_owned();
        let ask = async move { registry.ask(&place.base, &name, Repeat::Safe, until).await };
        cache.get(domain.to_owned(), || about(domain), ask).await
    }

    fn place(&self, domain: &str) -> Option<&Arc<Place>> {
        self.places.get(domain.rsplit('.').next().unwrap_or_default())
    }

    fn registry(&self, base: &Url) -> Arc<Registry> {
        let name = name_of(base);
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = asked.get(&name) {
            return Arc::clone(found);
        }
        if asked.len() >= MAX_REGISTRIES {
            return Arc::clone(&self.others);
        }
        // What can be wrong with the settings was wrong with those of the others.
        let client = self.way.anywhere(&name, &self.call, &self.dependencies, REDIRECTS);
        let made =
            client.map_or_else(|_| Arc::clone(&self.others), |client| Arc::new(Registry::new(client, &self.tiers)));
        asked.insert(name, Arc::clone(&made));
        made
    }

    fn all(&self) -> Vec<Arc<Registry>> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.values().cloned().chain([Arc::clone(&self.others)]).collect()
    }
}

impl Registry {
    fn new(client: HttpClient, tiers: &Tiers) -> Self {
        let last = tiers.standing(format!("asked last\u{1f}{}", client.dependency().name()), Mutex::default);
        Self { client, last }
    }

    /// Whatever becomes of the question.
    fn is_asked(&self, domain: &str) {
        domain.clone_into(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn ask(
        &self,
        base: &Url,
        domain: &str,
        repeat: Repeat,
        until: Instant,
    ) -> Result<Option<Registration>, Failure> {
        let url = base.join(&format!("domain/{domain}")).map_err(Failure::malformed)?;
        let request = Request::get(url).header("accept", "application/rdap+json, application/json").answers(&[404]);
        self.client.call(repeat, Some(until), &request, read).await
    }
}

/// Whole days before `now`; of those that are not known, why.
fn ages(answers: Vec<(Wanted<'_>, Answered)>, now: i64) -> Result<Vec<DomainAge>, Failure> {
    let (mut ages, mut failed, mut answered) = (Vec::new(), None, false);
    for ((domain, sender), answer) in answers {
        let (at, unknown) = match answer {
            Ok(registered) => {
                answered = true;
                (registered.and_then(|one| one.at), None)
            }
            Err(failure) => {
                let unknown = Some(super::services::why(&failure));
                failed.get_or_insert(failure);
                (None, unknown)
            }
        };
        let days = at.map(|at| u32::try_from((now - at).max(0) / 86_400).unwrap_or(u32::MAX));
        ages.push(DomainAge { domain: domain.to_owned(), sender, days, unknown });
    }
    match failed {
        Some(failure) if !answered => Err(failure),
        _ => Ok(ages),
    }
}

/// The name of a registry's dependency.
fn name_of(base: &Url) -> String {
    let port = base.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{RDAP}:{}{port}", base.host_str().unwrap_or_default())
}

fn about(domain: &str) -> Vec<Tag> {
    vec![Tag::dependency(RDAP), Tag::domain(domain)]
}

fn read(answer: Answer) -> Result<Option<Registration>, Failure> {
    if answer.status == 404 {
        return Ok(None);
    }
    let domain: Domain = answer.json()?;
    let event = domain.events.iter().find(|event| event.event_action == "registration");
    let date = |event: &Event| OffsetDateTime::parse(&event.event_date, &Rfc3339).map_err(Failure::malformed);
    let at = event.map(date).transpose()?.map(OffsetDateTime::unix_timestamp);
    Ok(Some(Registration { at, told: told(&domain) }))
}

/// Who is named (RFC 9083, 5.1; jCard, RFC 7095). What is redacted or of another form is left out.
fn told(domain: &Domain) -> serde_json::Map<String, Json> {
    let has = |entity: &&Json, role: &str| {
        entity["roles"].as_array().is_some_and(|roles| roles.iter().any(|one| one.as_str() == Some(role)))
    };
    let of = |role: &str| domain.entities.iter().find(|entity| has(entity, role));
    let property = |role: &str, name: &str| {
        let card = of(role)?["vcardArray"][1].as_array()?;
        card.iter().find(|property| property[0].as_str() == Some(name)).cloned()
    };
    let value = |role: &str, name: &str| property(role, name).map(|property| property[3].clone());
    let fields = [
        ("registrar_name", value("registrar", "fn")),
        ("registrant_company", value("registrant", "org")),
        ("registrant_country", property("registrant", "adr").map(|adr| adr[3][6].clone())),
        ("registrant_country_code", property("registrant", "adr").map(|adr| adr[1]["cc"].clone())),
        ("registrant_email", value("registrant", "email")),
        ("administrative_email", value("administrative", "email")),
        ("technical_email", value("technical", "email")),
    ];
    let text = |value: Json| value.as_str().filter(|text| !text.is_empty()).map(Json::from);
    let mut told: serde_json::Map<String, Json> =
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), text(value?)?))).collect();
    let servers = domain.nameservers.iter().take(MAX_SERVERS);
    let servers: Vec<Json> = servers.filter_map(|one| text(one["ldhName"].clone())).collect();
    told.insert("name_servers".into(), servers.into());
    told
}

fn bootstrap(file: &Path) -> Result<HashMap<String, Arc<Place>>, ServiceError> {
    let key = "rdap.bootstrap_file";
    let text = std::fs::read(file).map_err(|source| ServiceError::File { key, file: file.to_owned(), source })?;
    let read: Bootstrap = serde_json::from_slice(&text).map_err(|source| ServiceError::File {
        key,
        file: file.to_owned(),
        source: source.into(),
    })?;
    let mut registries = HashMap::new();
    for (suffixes, places) in read.services {
        // RFC 9224, 3: https first.
        let https = places.iter().find(|place| place.starts_with("https://")).or(places.first());
        let Some(base) = https.and_then(|place| Url::parse(&format!("{}/", place.trim_end_matches('/'))).ok()) else {
            continue;
        };
        let place = Arc::new(Place { base, registry: OnceLock::new() });
        registries.extend(suffixes.into_iter().map(|suffix| (suffix.to_lowercase(), Arc::clone(&place))));
    }
    Ok(registries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_the_registrations() {
        let of = |status, body: &str| read(Answer { status, body: body.into() });
        let body = r#"{"events": [{"eventAction": "expiration", "eventDate": "2030-01-01T00:00:00Z"},
            {"eventAction": "registration", "eventDate": "1970-01-02T01:00:00+01:00"}]}"#;
        let at = |status, body: &str| of(status, body).unwrap().map(|one| one.at);
        assert_eq!(at(200, body), Some(Some(86_400)));
        assert_eq!(at(200, "{}"), Some(None));
        assert_eq!(of(404, "nothing").unwrap(), None);
        assert!(of(200, "<html>").is_err());
        assert!(of(200, r#"{"events": [{"eventAction": "registration", "eventDate": "yesterday"}]}"#).is_err());
    }

    #[test]
    fn the_owner_is_read_where_he_is_told() {
        let body = r#"{"entities": [{"roles": ["registrar"], "vcardArray": ["vcard", [["version", {}, "text", "4.0"],
            ["fn", {}, "text", "Reg Inc."]]]}, {"roles": ["registrant"], "vcardArray": ["vcard", [["adr", {"cc": "US"}, "text",
            ["", "", "", "", "", "", "United States"]], ["org", {}, "text", ""]]]}, {"roles": 7}, 7],
            "nameservers": [{"ldhName": "ns1.a.example"}, {}]}"#;
        let told = read(Answer { status: 200, body: body.into() }).unwrap().unwrap().told;
        assert_eq!(
            Json::Object(told),
            json!({"registrar_name": "Reg Inc.", "registrant_country": "United States", "registrant_country_code": "US",
                "name_servers": ["ns1.a.example"]})
        );
    }

    #[test]
    fn the_bootstrap_file_tells_where_to_ask() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"version": "1.0", "services": [[["COM", "net"], ["http://a.example/", "https://b.example/x"]], [["zz"], []]]}"#;
        std::fs::write(file.path(), text).unwrap();
        let registries = bootstrap(file.path()).unwrap();
        assert_eq!(registries["com"].base.as_str(), "https://b.example/x/");
        assert_eq!(registries.len(), 2);
        std::fs::write(file.path(), "<html>").unwrap();
        assert!(matches!(bootstrap(file.path()), Err(ServiceError::File { .. })));
    }
}
