//! Registries: when a domain was registered (RDAP, RFC 9082, RFC 9083).
//!
//! Which registry knows a suffix is told by IANA's bootstrap file (RFC 9224), which the operator keeps. All registries are one
//! dependency. A suffix without a registry, and a domain that its registry does not know, are answers: no date.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;
use url::Url;

use super::cache::Cache;
use super::services::{Outside, Question, Way};
use super::{RdapConfig, ServiceError};
use crate::analysis::DomainAge;
use crate::egress::{Answer, Failure, HttpClient, Repeat, Request};
use crate::mail::registrable_domain;

/// Redirects followed: registries send on to registrars.
const REDIRECTS: u8 = 3;

pub(super) struct Rdap {
    asker: Arc<(HttpClient, HashMap<String, Url>)>,
    cache: Cache<Option<i64>>,
    max_domains: usize,
}

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
}

impl Rdap {
    pub(super) fn new(config: &RdapConfig, outside: &Outside, way: &Way) -> Result<Self, ServiceError> {
        let file = config.bootstrap_file.as_deref().ok_or(ServiceError::Missing { key: "rdap.bootstrap_file" })?;
        let client = way.anywhere("rdap", &config.service.call, outside, REDIRECTS)?;
        let cache = Cache::new("rdap", &config.service, &outside.metrics);
        Ok(Self { asker: Arc::new((client, bootstrap(file)?)), cache, max_domains: config.max_domains })
    }

    /// When the domains of sender and links were registered; whole days before `question.now`.
    pub(super) async fn ask(&self, question: &Question<'_>, until: Instant) -> Result<Vec<DomainAge>, Failure> {
        let from = question.message.from().iter().filter_map(|mailbox| mailbox.address.as_ref());
        let senders = from.filter_map(|address| Some((registrable_domain(&address.domain)?, true)));
        let links = question.message.links().iter().filter(|link| link.kind.is_followed() && link.is_web());
        let links = links.filter(|link| link.ip().is_none()).filter_map(|link| Some((link.registrable()?, false)));
        let mut asked: Vec<(&str, bool)> = Vec::new();
        for (domain, sender) in senders.chain(links) {
            if asked.len() < self.max_domains && asked.iter().all(|(other, _)| *other != domain) {
                asked.push((domain, sender));
            }
        }
        let mut each: Vec<BoxFuture<'_, Result<DomainAge, Failure>>> = Vec::new();
        for (domain, sender) in asked {
            let (asker, name) = (Arc::clone(&self.asker), domain.to_owned());
            let ask = async move { registered(&asker, &name, until).await };
            let (domain, now) = (domain.to_owned(), question.now);
            each.push(Box::pin(async move {
                let registered = self.cache.get(domain.clone(), ask).await?;
                let days = registered.map(|at| u32::try_from((now - at).max(0) / 86_400).unwrap_or(u32::MAX));
                Ok(DomainAge { domain, sender, days })
            }));
        }
        // At most `max_domains`.
        futures_util::future::try_join_all(each).await
    }

    /// How many suffixes have a registry.
    pub(super) fn known(&self) -> usize {
        self.asker.1.len()
    }
}

/// Seconds since 1970 of a domain's registration; `None` when nobody says.
async fn registered(
    (client, registries): &(HttpClient, HashMap<String, Url>),
    domain: &str,
    until: Instant,
) -> Result<Option<i64>, Failure> {
    let suffix = domain.rsplit('.').next().unwrap_or_default();
    let Some(base) = registries.get(suffix) else { return Ok(None) };
    let url = base.join(&format!("domain/{domain}")).map_err(Failure::malformed)?;
    let request = Request::get(url).header("accept", "application/rdap+json, application/json").answers(&[404]);
    client.call(Repeat::Safe, Some(until), &request, read).await
}

fn read(answer: Answer) -> Result<Option<i64>, Failure> {
    if answer.status == 404 {
        return Ok(None);
    }
    let domain: Domain = answer.json()?;
    let event = domain.events.iter().find(|event| event.event_action == "registration");
    let date = |event: &Event| OffsetDateTime::parse(&event.event_date, &Rfc3339).map_err(Failure::malformed);
    Ok(event.map(date).transpose()?.map(OffsetDateTime::unix_timestamp))
}

fn bootstrap(file: &Path) -> Result<HashMap<String, Url>, ServiceError> {
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
        registries.extend(suffixes.into_iter().map(|suffix| (suffix.to_lowercase(), base.clone())));
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
        assert_eq!(of(200, body).unwrap(), Some(86_400));
        assert_eq!(of(200, "{}").unwrap(), None);
        assert_eq!(of(404, "nothing").unwrap(), None);
        assert!(of(200, "<html>").is_err());
        assert!(of(200, r#"{"events": [{"eventAction": "registration", "eventDate": "yesterday"}]}"#).is_err());
    }

    #[test]
    fn the_bootstrap_file_tells_where_to_ask() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"version": "1.0", "services": [[["COM", "net"], ["http://a.example/", "https://b.example/x"]], [["zz"], []]]}"#;
        std::fs::write(file.path(), text).unwrap();
        let registries = bootstrap(file.path()).unwrap();
        assert_eq!(registries["com"].as_str(), "https://b.example/x/");
        assert_eq!(registries.len(), 2);
        std::fs::write(file.path(), "<html>").unwrap();
        assert!(matches!(bootstrap(file.path()), Err(ServiceError::File { .. })));
    }
}
