//! The URL analyser: an HTTP service that is asked about each URL.
//!
//! Contract: `POST` of `{"url": "https://…"}` with `Authorization: Bearer …` when there is a token; the answer is 200 with
//! `{"verdict": "clean" | "suspicious" | "phishing" | "malware", "confidence": 0.0 … 1.0}`, or 404 for "never seen". More
//! members are ignored. For `ml.link_analysis` of a rule the question is `{"url": …, "want": "link_analysis", "mode": …}` and
//! the answer has the member `"link_analysis": {"credphish": {"disposition": "phishing", …}, "effective_url": "https://…", …}`
//! in the data model's shape (`final_dom` as HTML text, URLs as texts); without it that is not answered. User names, passwords
//! and fragments are cut off before a URL is sent; of links that are the reader's alone ([`Untouchable`]) only the host is told,
//! unless the settings say otherwise: an analyser opens what it is told.

use std::cell::LazyCell;
use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, Either, ready};
use serde::Deserialize;
use serde_json::Value as Json;
use tokio::time::Instant;
use url::Url;

use super::cache::Cache;
use super::services::{Asking, Outside, Question, Way};
use super::{PersonalLinks, ServiceError, Tag, Untouchable, UrlServiceConfig};
use crate::analysis::{UrlReading, UrlVerdict};
use crate::egress::{Answer, Dependency, Failure, HttpClient, Repeat, Request};
use crate::mail::registrable_domain;

/// Questions of one message under way at a time.
const AT_A_TIME: usize = 5;
/// Longer URLs are not sent.
const MAX_URL: usize = 2_000;

pub(super) struct UrlService {
    asker: Arc<Asker>,
    cache: Cache<Option<(UrlVerdict, u8)>>,
    analyses: Cache<Option<Json>>,
    max_urls: usize,
    personal_links: PersonalLinks,
}

#[derive(Deserialize)]
struct Reply {
    verdict: UrlVerdict,
    confidence: f64,
}

impl UrlService {
    pub(super) fn new(config: &UrlServiceConfig, outside: &Outside, way: &Way) -> Result<Self, ServiceError> {
        let (client, url) = way.to("url_service", &config.url, &config.service.call, outside)?;
        let token = super::services::token("url_service.token_file", config.token_file.as_deref())?;
        let (service, tiers, dependency) = (&config.service, &outside.tiers, client.dependency());
        let cache = Cache::new(("url_service", "url", &config.url), service, tiers, dependency);
        let analyses = Cache::new(("url_service", "link", &config.url), service, tiers, dependency);
        let (max_urls, personal_links) = (config.max_urls, config.personal_links);
        Ok(Self { asker: Arc::new((client, url, token)), cache, analyses, max_urls, personal_links })
    }

    pub(super) fn dependency(&self) -> &Dependency {
        self.asker.0.dependency()
    }

    /// What the analyser says about a message's URLs; those it never saw are left out. A URL that it calls bad stands, even when
    /// another could not be asked about; that nothing is bad is known only when all were.
    pub(super) fn ask<'q>(&'q self, question: &Question<'_>, until: Instant) -> Asking<'q, Vec<UrlReading>> {
        if self.asks_anything(question)
            && let Some(failure) = self.cache.refuses()
        {
            return Either::Left(ready(Err(failure)));
        }
        let urls = self.urls(question);
        if urls.is_empty() {
            return Either::Left(ready(Ok(Vec::new())));
        }
        Either::Right(Box::pin(self.ask_each(urls, question.again, until)))
    }

    async fn ask_each(&self, urls: Vec<String>, again: bool, until: Instant) -> Result<Vec<UrlReading>, Failure> {
        let mut each: Vec<BoxFuture<'_, _>> = Vec::new();
        for url in urls {
            if let Some(answer) = self.cache.at_hand(&url, again) {
                each.push(Box::pin(ready((url, answer))));
                continue;
            }
            let (asker, asked) = (Arc::clone(&self.asker), url.clone());
            let ask = async move { ask(&asker, &asked, Repeat::Safe, until).await };
            each.push(Box::pin(async move {
                let answer = self.cache.fetch(url.clone(), || about(&url), again, ask).await;
                (url, answer)
            }));
        }
        let mut answers = futures_util::stream::iter(each).buffered(AT_A_TIME);
        let (mut readings, mut failed) = (Vec::new(), None);
        while let Some((url, answer)) = answers.next().await {
            match answer {
                Ok(Some((verdict, percent))) => readings.push(UrlReading { url, verdict, percent }),
                Ok(None) => {}
                Err(failure) => failed = Some(failure),
            }
        }
        let bad = readings.iter().any(|reading| reading.verdict != UrlVerdict::Clean);
        match failed {
            Some(failure) if !bad => Err(failure),
            _ => Ok(readings),
        }
    }

    /// What `ml.link_analysis` gives for a URL; `None` when the analyser has no such thing.
    pub(super) async fn analysis(
        &self,
        url: &str,
        (mode, untouchable): (Option<&str>, &Untouchable),
        until: Instant,
    ) -> Result<Option<Json>, Failure> {
        let web = |url: &Url| matches!(url.scheme(), "http" | "https");
        let url = Url::parse(url).ok().filter(web).and_then(|url| self.told(&url, |url| untouchable.holds(url)));
        let url = url.filter(|url| url.len() <= MAX_URL);
        let Some(url) = url else { return Ok(None) };
        let mut body = serde_json::json!({ "url": url, "want": "link_analysis" });
        if let Some(mode) = mode {
            body["mode"] = mode.into();
        }
        let asker = Arc::clone(&self.asker);
        let key = format!("{}\u{1f}{url}", mode.unwrap_or_default());
        let ask = async move {
            let read = |answer: Answer| {
                let found = (answer.status != 404).then(|| answer.json::<Json>()).transpose()?;
                Ok(found.and_then(|mut found| Some(found["link_analysis"].take()).filter(Json::is_object)))
            };
            post(&asker, (body, Repeat::Safe), until, read).await
        };
        self.analyses.get(key, || about(&url), ask).await
    }

    /// What the analyser is asked about a message, each once.
    fn urls(&self, question: &Question<'_>) -> Vec<String> {
        let untouchable = LazyCell::new(|| Untouchable::of(question.message, question.envelope));
        let (mut seen, holds) = (HashSet::new(), |url: &Url| untouchable.holds(url));
        let urls = places(question).filter_map(|url| self.told(url, holds));
        urls.filter(|url| url.len() <= MAX_URL && seen.insert(url.clone())).take(self.max_urls).collect()
    }

    /// Whether there is something that it would be asked about, whatever links are the reader's alone.
    fn asks_anything(&self, question: &Question<'_>) -> bool {
        self.personal_links != PersonalLinks::Skip && places(question).any(|url| url.as_str().len() <= MAX_URL)
    }

    /// What the analyser is told of a link, by whether it is the reader's alone.
    fn told(&self, url: &Url, holds: impl Fn(&Url) -> bool) -> Option<String> {
        match self.personal_links {
            PersonalLinks::Host if holds(url) => url.join("/").ok().map(|root| bare(&root)),
            PersonalLinks::Skip if holds(url) => None,
            _ => Some(bare(url)),
        }
    }

    /// Asks about a URL of documentation.
    pub(super) async fn probe(&self) -> Result<String, Failure> {
        let until = Instant::now() + self.asker.0.dependency().config().deadline();
        ask(&self.asker, HARMLESS, Repeat::Safe, until).await.map(|_| "answers".to_owned())
    }

    /// The same, when a look is due.
    pub(super) async fn look(&self) {
        let dependency = self.asker.0.dependency();
        if dependency.wants_look() {
            let _ = ask(&self.asker, HARMLESS, Repeat::Look, Instant::now() + dependency.config().deadline()).await;
        }
    }
}

/// Where a message's links lead, as far as that is known.
fn places<'q>(question: &'q Question<'_>) -> impl Iterator<Item = &'q Url> {
    let followed = question.message.links().iter().filter(|link| link.kind.is_followed() && link.is_web());
    question.led_to.iter().chain(followed.filter_map(|link| link.url.as_ref()))
}

/// A page of documentation (RFC 2606).
const HARMLESS: &str = "https://www.example.com/";

type Asker = (HttpClient, Url, Option<String>);

async fn post<T>(
    (client, at, token): &Asker,
    (body, repeat): (Json, Repeat),
    until: Instant,
    read: impl Fn(Answer) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let request = Request::post_json(at.clone(), body.to_string()).answers(&[404]);
    let request = token.iter().fold(request, |request, token| request.bearer(token));
    client.call(repeat, Some(until), &request, read).await
}

async fn ask(asker: &Asker, url: &str, repeat: Repeat, until: Instant) -> Result<Option<(UrlVerdict, u8)>, Failure> {
    let read = |answer: Answer| {
        if answer.status == 404 {
            return Ok(None);
        }
        let reply: Reply = answer.json()?;
        Ok(Some((reply.verdict, super::services::percent(reply.confidence)?)))
    };
    post(asker, (serde_json::json!({ "url": url }), repeat), until, read).await
}

/// The host and its domain: all that was said about a host can be forgotten at once.
fn about(url: &str) -> Vec<Tag> {
    let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let domain = registrable_domain(&host).map(Tag::domain);
    [Tag::dependency("url_service"), Tag::host(&host)].into_iter().chain(domain).collect()
}

/// Without what is a secret or never sent to a server.
fn bare(url: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    // Both fail only for URLs that can have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_cut_off() {
        let url = Url::parse("https://user:secret@a.example/path?q=1#token=2").unwrap();
        assert_eq!(bare(&url), "https://a.example/path?q=1");
    }
}
