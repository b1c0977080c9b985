//! Where links lead: they are followed hop by hop, in the second look only.
//!
//! One hop is a HEAD, and a GET of which a little is read where that did not tell: then a page's own `<meta http-equiv=refresh>`
//! counts too. No cookies, no referrer, no scripts. Bounded in links, hops, bytes and time; every hop is fenced against private
//! networks, and what only the reader may open ([`Untouchable`]) is not. Whatever ends a link is part of the answer. A hop's
//! answer is kept like any service's.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tokio::time::Instant;
use url::Url;

use super::cache::Cache;
use super::services::{Outside, Question, Way};
use super::{RedirectsConfig, ServiceError, Tag, Untouchable};
use crate::analysis::{FollowedLink, LinkEnd, leads_on};
use crate::egress::{Failure, HttpClient, Request};
use crate::mail::{HtmlContent, registrable_domain};

/// Links of one message that are followed at a time.
const AT_A_TIME: usize = 5;
/// Longer URLs are not opened, nor kept as a hop.
const MAX_URL: usize = 4_000;

pub(super) struct Redirects {
    opener: Arc<Opener>,
    cache: Cache<Option<Hop>>,
    config: RedirectsConfig,
}

struct Opener {
    client: HttpClient,
    agent: String,
    max_page_bytes: usize,
}

/// What one place answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hop {
    status: u16,
    next: Option<String>,
}

impl Redirects {
    pub(super) fn new(config: &RedirectsConfig, outside: &Outside, way: &Way) -> Result<Self, ServiceError> {
        let client = way.anywhere("redirects", &config.service.call, &outside.dependencies, 0)?;
        let cache = Cache::new(("redirects", "hop", ""), &config.service, &outside.tiers, client.dependency());
        let opener = Opener { client, agent: config.user_agent.clone(), max_page_bytes: config.max_page_bytes };
        Ok(Self { opener: Arc::new(opener), cache, config: config.clone() })
    }

    /// Follows the links of a message that do nothing but lead on.
    pub(super) async fn follow(&self, question: &Question<'_>, until: Instant) -> Vec<FollowedLink> {
        let until = self.until(until);
        let untouchable = Untouchable::of(question.message, question.envelope);
        let mut seen = HashSet::new();
        let links = question.message.links().iter().filter(|link| link.kind.is_followed() && link.is_web());
        let links = links.filter_map(|link| link.url.as_ref()).filter(|url| leads_on(url));
        let links = links.filter(|url| url.as_str().len() <= MAX_URL && seen.insert(url.as_str()));
        let links: Vec<Url> = links.take(self.config.max_links).cloned().collect();
        let each = links.into_iter().map(|url| self.one(url, &untouchable, until));
        futures_util::stream::iter(each).buffered(AT_A_TIME).collect().await
    }

    /// What is known of a link for `ml.link_analysis` when it was followed; `None` when it could not be.
    pub(super) async fn analysis(&self, url: &str, untouchable: &Untouchable, until: Instant) -> Option<Json> {
        let url = Url::parse(url).ok().filter(|url| url.as_str().len() <= MAX_URL)?;
        let led = self.one(url, untouchable, self.until(until)).await;
        // Where it was not opened nothing is known of it.
        let known = !led.hops.is_empty() || matches!(led.end, LinkEnd::Page(_));
        let mut known = known.then(|| {
            let before = std::iter::once(&led.url).chain(&led.hops).take(led.hops.len());
            json!({"partial": true, "effective_url": led.effective(), "redirect_history": before.collect::<Vec<_>>()})
        })?;
        if let LinkEnd::Page(status) = led.end {
            known["status_code"] = status.into();
        }
        Some(known)
    }

    fn until(&self, until: Instant) -> Instant {
        until.min(Instant::now() + Duration::from_millis(self.config.deadline_ms))
    }

    async fn one(&self, url: Url, untouchable: &Untouchable, until: Instant) -> FollowedLink {
        let (mut at, mut hops) = (url.clone(), Vec::new());
        let mut been = HashSet::new();
        let end = loop {
            if untouchable.holds(&at) {
                break LinkEnd::Acts;
            }
            // It is never sent.
            at.set_fragment(None);
            if !been.insert(at.to_string()) {
                break LinkEnd::Loop;
            }
            let hop = match tokio::time::timeout_at(until, self.hop(&at, until)).await {
                Ok(Ok(hop)) => hop,
                Ok(Err(failure)) => break ended(&failure),
                Err(_) => break LinkEnd::Timeout,
            };
            let Some(next) = hop.next.and_then(|next| Url::parse(&next).ok()) else { break LinkEnd::Page(hop.status) };
            if hops.len() >= self.config.max_hops {
                break LinkEnd::TooManyHops;
            }
            hops.push(next.to_string());
            at = next;
        };
        FollowedLink { url: url.into(), hops, end }
    }

    async fn hop(&self, url: &Url, until: Instant) -> Result<Hop, Failure> {
        let (opener, place) = (Arc::clone(&self.opener), url.clone());
        let open = async move { opener.open(&place, until).await.map(Some) };
        let hop = self.cache.get(url.to_string(), || about(url), open).await?;
        hop.ok_or(Failure::Disabled)
    }
}

impl Opener {
    async fn open(&self, url: &Url, until: Instant) -> Result<Hop, Failure> {
        let as_us = [("user-agent", self.agent.as_str()), ("accept", "text/html, */*;q=0.5")];
        let asked = |request: Request| {
            request.headers(as_us).ok_or_else(|| Failure::Malformed("the user agent cannot stand in a header".into()))
        };
        let seen = self.client.visit(until, &asked(Request::head(url.clone()))?, 0).await?;
        let found = (200..300).contains(&seen.status);
        // What is no page sends nobody on, and is not loaded.
        if seen.location.is_some() || (found && !seen.html) {
            return Ok(Hop { status: seen.status, next: seen.location.and_then(kept) });
        }
        let seen = self.client.visit(until, &asked(Request::get(url.clone()))?, self.max_page_bytes).await?;
        let refresh = || {
            let (page, _) = HtmlContent::read(&String::from_utf8_lossy(&seen.start), 0);
            page.refresh.and_then(|place| url.join(place.trim()).ok())
        };
        let next = seen.location.clone().or_else(|| if seen.html { refresh() } else { None });
        Ok(Hop { status: seen.status, next: next.and_then(kept) })
    }
}

/// A hop that is kept and gone to: to the web, and not endless.
fn kept(next: Url) -> Option<String> {
    (matches!(next.scheme(), "http" | "https") && next.as_str().len() <= MAX_URL).then(|| next.into())
}

fn ended(failure: &Failure) -> LinkEnd {
    match failure {
        Failure::Fenced(_) => LinkEnd::Fenced,
        Failure::Timeout { .. } => LinkEnd::Timeout,
        Failure::Busy | Failure::RateLimited { .. } | Failure::BreakerOpen { .. } | Failure::Disabled => {
            LinkEnd::NotAsked
        }
        _ => LinkEnd::Unreachable,
    }
}

fn about(url: &Url) -> Vec<Tag> {
    let host = url.host_str().unwrap_or_default();
    let domain = registrable_domain(host).map(Tag::domain);
    [Tag::dependency("redirects"), Tag::host(host)].into_iter().chain(domain).collect()
}
