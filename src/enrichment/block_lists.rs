//! DNS block lists (RFC 5782): addresses of clients, domains of senders and links.
//!
//! A list that answers outside 127.0.0.0/8, or with 127.255.255.0/24 ("you ask through a public resolver", "you ask too
//! much"), or that fails its own test points, is one that could not be asked: never a listing, never an all-clear. Each list is a
//! dependency of its own, tested by its points before it is believed and again every hour.

use std::cell::LazyCell;
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, Either, ready};
use tokio::time::{Instant, timeout_at};
use url::Host;

use super::cache::Cache;
use super::services::{Asking, Outside, Question};
use super::{BlockListsConfig, ServiceConfig, Tag, ZoneConfig, ZoneOf};
use crate::analysis::{BlockLists as Found, Listing, ListingOf};
use crate::egress::{Dependency, Failure, Names, Repeat};
use crate::mail::registrable_domain;

/// How long a list that passed its test points is believed.
const TESTED_SECONDS: u32 = 3_600;
/// Questions of one message under way at a time.
const AT_A_TIME: usize = 8;
/// Answers about one name; a list that says more is none.
const MAX_CODES: usize = 32;

pub(super) struct BlockLists {
    zones: Vec<Arc<Zone>>,
    max_domains: usize,
}

struct Zone {
    config: ZoneConfig,
    dependency: Arc<Dependency>,
    names: Names,
    answers: Cache<Vec<Ipv4Addr>>,
    tests: Cache<()>,
}

/// The answers about one name, or why there are none.
type Answered = Result<Vec<Ipv4Addr>, Failure>;

/// Who is asked about.
#[derive(Clone)]
struct Asked {
    of: ListingOf,
    name: String,
    /// The address that it is, if it is no domain.
    ip: Option<IpAddr>,
}

impl Asked {
    fn address(of: ListingOf, ip: IpAddr) -> Self {
        Self { of, name: ip.to_string(), ip: Some(ip) }
    }

    fn domain(of: ListingOf, name: impl Into<String>) -> Self {
        Self { of, name: name.into(), ip: None }
    }

    /// What stands before the zone.
    fn label(&self) -> String {
        self.ip.map_or_else(|| self.name.clone(), reversed)
    }
}

impl BlockLists {
    pub(super) fn new(config: &BlockListsConfig, outside: &Outside, names: &Names) -> Self {
        let entries = config.service.cache_entries.max(1);
        let tested = ServiceConfig { fresh_seconds: TESTED_SECONDS, cache_entries: entries, ..config.service.clone() };
        let zone = |zone: &ZoneConfig| {
            let (name, tiers) = (dependency_name(&zone.name), &outside.tiers);
            let dependency = outside.dependencies.dependency(&name, &config.service.call);
            Arc::new(Zone {
                names: names.clone(),
                answers: Cache::new(("block_lists", &name, ""), &config.service, tiers, &dependency),
                // Whether a list answers us is nobody else's answer.
                tests: Cache::own(("block_list_tests", &format!("{zone:?}")), &tested, tiers, &dependency),
                config: zone.clone(),
                dependency,
            })
        };
        Self { zones: config.zones.iter().map(zone).collect(), max_domains: config.max_domains }
    }

    /// How long lists have been failing: of those that do, the latest to begin. One that is dead for weeks says nothing about the
    /// others.
    pub(super) fn failing_for(&self) -> Duration {
        let failing = self.zones.iter().map(|zone| zone.dependency.failing_for());
        failing.filter(|time| !time.is_zero()).min().unwrap_or_default()
    }

    /// What all lists say about a message; each that fails is named.
    pub(super) fn ask(&self, question: &Question<'_>, until: Instant) -> Asking<'static, Found> {
        // Made when the first list that is asked wants them.
        let client = client(question);
        let addresses = LazyCell::new(|| client.map(|ip| Asked::address(ListingOf::Client, ip)).into_iter().collect());
        let urls = LazyCell::new(|| self.urls(question));
        let domains = LazyCell::new(|| self.domains(question, &urls));
        let has_domains = || {
            let mut links = links(question);
            from(question).next().is_some() || envelope(question).is_some() || links.any(|one| one.ip.is_none())
        };
        let (again, left) = (question.again, until.saturating_duration_since(Instant::now()));
        let (mut found, mut failures) = (Found::default(), BTreeMap::new());
        let mut each: Vec<BoxFuture<'static, _>> = Vec::new();
        for zone in &self.zones {
            let concerned = match zone.config.of {
                ZoneOf::Addresses => client.is_some(),
                ZoneOf::Domains => has_domains(),
                ZoneOf::Urls => links(question).next().is_some(),
            };
            if !concerned {
                continue;
            }
            if let Some(failure) = zone.refuses() {
                failures.insert(zone.config.name.clone(), failure);
                continue;
            }
            let about = match zone.config.of {
                ZoneOf::Addresses => &*addresses as &Vec<Asked>,
                ZoneOf::Domains => &domains.0,
                ZoneOf::Urls => &*urls,
            };
            if zone.config.of == ZoneOf::Domains {
                found.left_out = domains.1;
            }
            for asked in about {
                let (zone, asked) = (Arc::clone(zone), asked.clone());
                each.push(Box::pin(async move {
                    // Each on its own: what the others said stands when the message's time is over.
                    let answer = timeout_at(until, Arc::clone(&zone).ask(&asked, again, until)).await;
                    let answer = answer.unwrap_or_else(|_| Err(Failure::timeout(left)));
                    (zone, asked, answer)
                }));
            }
        }
        if each.is_empty() {
            return Either::Left(ready(found_by(found, failures, Vec::new())));
        }
        Either::Right(Box::pin(async move {
            let answers = futures_util::stream::iter(each).buffered(AT_A_TIME).collect().await;
            found_by(found, failures, answers)
        }))
    }

    /// Tests each list by its points.
    pub(super) async fn probe(&self) -> Vec<(String, Result<String, Failure>)> {
        let mut looks = Vec::new();
        for zone in &self.zones {
            let tested =
                Zone::test(Arc::clone(zone), Repeat::Safe).await.map(|()| "its test points are right".to_owned());
            looks.push((dependency_name(&zone.config.name), tested));
        }
        looks
    }

    /// The same for those where a look is due.
    #[allow(clippy::disallowed_methods)] // As many as the operator has named.
    pub(super) async fn look(&self) {
        let due = self.zones.iter().filter(|zone| zone.dependency.wants_look());
        futures_util::future::join_all(due.map(|zone| Zone::test(Arc::clone(zone), Repeat::Look))).await;
    }

    /// Where links lead, each once.
    fn urls(&self, question: &Question<'_>) -> Vec<Asked> {
        let mut asked: Vec<Asked> = Vec::new();
        for one in links(question) {
            if asked.len() == self.max_domains {
                break;
            }
            if asked.iter().all(|other| other.name != one.name) {
                asked.push(one);
            }
        }
        asked
    }

    /// Domains of senders, the envelope's first, and of the links, each once; and how many senders are left out.
    fn domains(&self, question: &Question<'_>, urls: &[Asked]) -> (Vec<Asked>, usize) {
        let mut seen = HashSet::new();
        let envelope = envelope(question);
        let senders = envelope.as_deref().into_iter().chain(from(question));
        let senders: Vec<&str> = senders.filter(|domain| seen.insert(*domain)).collect();
        let asked = senders.iter().take(self.max_domains);
        let mut asked: Vec<Asked> = asked.map(|domain| Asked::domain(ListingOf::Sender, *domain)).collect();
        let left_out = senders.len() - asked.len();
        // Lists of domains say something else about numbers, or that they must not be asked about them.
        let links = urls.iter().filter(|url| url.ip.is_none());
        let links: Vec<Asked> = links.filter(|url| asked.iter().all(|one| one.name != url.name)).cloned().collect();
        asked.extend(links);
        (asked, left_out)
    }
}

/// What lists said, beside those that failed before.
fn found_by(
    mut found: Found,
    mut failures: BTreeMap<String, Failure>,
    answers: Vec<(Arc<Zone>, Asked, Answered)>,
) -> Result<Found, Failure> {
    let mut answered = false;
    for (zone, asked, answer) in answers {
        match answer {
            Ok(codes) => {
                answered = true;
                let percent = zone.config.percent.min(100);
                found.listings.extend(codes.iter().filter_map(|code| {
                    let meaning = zone.meaning(*code)?;
                    let (zone, name) = (zone.config.name.clone(), asked.name.clone());
                    Some(Listing { zone, of: asked.of, name, meaning, percent })
                }));
            }
            Err(failure) => {
                failures.entry(zone.config.name.clone()).or_insert(failure);
            }
        }
    }
    found.silent = failures.iter().map(|(zone, failure)| (zone.clone(), super::services::why(failure))).collect();
    match failures.into_values().next() {
        Some(failure) if !answered => Err(failure),
        _ => Ok(found),
    }
}

/// The name of a list's dependency, as in health and metrics.
fn dependency_name(zone: &str) -> String {
    format!("block_list:{zone}")
}

/// The client, when it is a stranger's.
fn client(question: &Question<'_>) -> Option<IpAddr> {
    question.connection.client_ip.filter(|_| question.connection.login.is_none()).and_then(public)
}

/// Where links lead: domains and public addresses.
fn links<'q>(question: &'q Question<'_>) -> impl Iterator<Item = Asked> + 'q {
    let named = |name: &str| Asked::domain(ListingOf::Link, name);
    let numbered = |ip: IpAddr| Asked::address(ListingOf::Link, ip);
    let followed = question.led_to.iter().filter_map(move |url| match url.host()? {
        Host::Domain(domain) => registrable_domain(domain).map(named),
        Host::Ipv4(ip) => public(ip.into()).map(numbered),
        Host::Ipv6(ip) => public(ip.into()).map(numbered),
    });
    let links = question.message.links().iter().filter(|link| link.is_web());
    let links = links.filter_map(move |link| match link.ip() {
        Some(ip) => public(ip).map(numbered),
        None => link.registrable().map(named),
    });
    followed.chain(links)
}

/// The domain of the envelope's sender.
fn envelope(question: &Question<'_>) -> Option<String> {
    registrable_domain(&question.envelope.sender.address()?.domain).map(str::to_owned)
}

/// Domains of those in From.
fn from<'q>(question: &Question<'q>) -> impl Iterator<Item = &'q str> {
    let from = question.message.from().iter().filter_map(|mailbox| mailbox.address.as_ref());
    from.filter_map(|address| registrable_domain(&address.domain))
}

/// An address that others know as well: of private ones they know nothing, and are not told.
fn public(ip: IpAddr) -> Option<IpAddr> {
    let ip = ip.to_canonical();
    let ours = match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            // RFC 6598: between a carrier and its customers.
            let shared = a == 100 && b & 0xc0 == 64;
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || shared
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified(),
    };
    (!ours).then_some(ip)
}

/// An address as a list wants it: octets, or nibbles, from the last to the first.
fn reversed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect::<Vec<_>>().join(".")
        }
    }
}

impl Zone {
    async fn ask(self: Arc<Self>, asked: &Asked, again: bool, until: Instant) -> Result<Vec<Ipv4Addr>, Failure> {
        let dependency = || Tag::dependency(self.dependency.name());
        self.tests
            .get(self.config.name.clone(), || vec![dependency()], Self::test(Arc::clone(&self), Repeat::Safe))
            .await?;
        let (zone, label) = (Arc::clone(&self), asked.label());
        let key = label.clone();
        let about = || {
            let named = if asked.ip.is_some() { Tag::host(&asked.name) } else { Tag::domain(&asked.name) };
            vec![Tag::dependency("block_lists"), dependency(), named]
        };
        let look_up = async move { zone.look_up(&label, Repeat::Safe, Some(until)).await };
        self.answers.fetch(key, about, again, look_up).await
    }

    /// Why it cannot be asked at the moment, when it never passed its test.
    fn refuses(&self) -> Option<Failure> {
        self.tests.refuses()
    }

    /// RFC 5782, 5: what must be listed is, what must not be is not. One call: a list that answers both wrongly has failed, and its
    /// breaker hears of it.
    async fn test(self: Arc<Self>, repeat: Repeat) -> Result<(), Failure> {
        let (listed, free) = match self.config.of {
            ZoneOf::Addresses => ("2.0.0.127", "1.0.0.127"),
            ZoneOf::Domains | ZoneOf::Urls => ("test", "invalid"),
        };
        let point = |own: &'_ str, usual| if own.is_empty() { usual } else { own.to_owned() };
        let listed = &point(&self.config.test_listed, listed.to_owned());
        let free = &point(&self.config.test_free, free.to_owned());
        let ask = |_| async {
            let (listed, free) = tokio::try_join!(self.codes(listed), self.codes(free))?;
            let wrong = match (listed.is_empty(), free.is_empty()) {
                (true, _) => "does not list its test point: it is no block list, or does not answer us",
                (false, false) => "lists everything",
                (false, true) => return Ok(()),
            };
            Err(Failure::Malformed(format!("{} {wrong} (RFC 5782, 5)", self.config.name)))
        };
        self.dependency.call(repeat, None, ask).await
    }

    /// The answers about one name; empty: not listed.
    async fn look_up(&self, label: &str, repeat: Repeat, until: Option<Instant>) -> Result<Vec<Ipv4Addr>, Failure> {
        self.dependency.call(repeat, until, |_| self.codes(label)).await
    }

    async fn codes(&self, label: &str) -> Result<Vec<Ipv4Addr>, Failure> {
        let codes = self.names.ipv4(&format!("{label}.{}", self.config.name)).await?;
        if codes.len() > MAX_CODES {
            return Err(Failure::TooLarge { limit: MAX_CODES * 4 });
        }
        match codes.iter().find(|code| code.octets()[0] != 127 || code.octets()[..3] == [127, 255, 255]) {
            Some(code) => Err(Failure::Reported(format!("{} answers {code}: it refuses us", self.config.name))),
            None => Ok(codes),
        }
    }

    /// What an answer means; `None` when it is none that counts.
    fn meaning(&self, code: Ipv4Addr) -> Option<String> {
        let code = code.to_string();
        if self.config.codes.is_empty() { Some(code) } else { self.config.codes.get(&code).cloned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_about_private_addresses() {
        for ours in
            ["10.1.2.3", "127.0.0.1", "169.254.1.1", "100.64.0.1", "::1", "fd00::1", "fe80::1", "::ffff:192.168.1.1"]
        {
            assert_eq!(public(ours.parse().unwrap()), None, "{ours}");
        }
        let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        assert_eq!(public(mapped), Some("192.0.2.7".parse().unwrap()));
        assert!(public("2001:db8::1".parse().unwrap()).is_some());
    }

    #[test]
    fn addresses_stand_backwards() {
        assert_eq!(reversed("192.0.2.7".parse().unwrap()), "7.2.0.192");
        // The example of RFC 5782, 2.4.
        assert_eq!(
            reversed("2001:db8:1:2:3:4:567:89ab".parse().unwrap()),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2"
        );
    }
}
