//! All services together: built from settings, asked at once about a message, each failure on its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, Ready};
use tokio::time::Instant;
use url::Url;

use super::block_lists::BlockLists;
use super::clamd::Clamd;
use super::ocr::Ocr;
use super::rdap::Rdap;
use super::redirects::Redirects;
use super::text_service::TextService;
use super::tiers::Tiers;
use super::url_service::UrlService;
use super::{CacheConfig, Config, FunctionsConfig, Metrics, OnFailure, Shelf, Tag};
use crate::analysis::{Fact, ServiceFacts, Why};
use crate::egress::{
    CallConfig, Failure, Fence, HttpClient, HttpError, InvalidTarget, Names, NamesConfig, NamesError, Registry,
    Snapshot, TlsRoots, without_secrets,
};
use crate::mail::{Connection, Envelope, Message};

/// The shelf's name among the dependencies.
const CACHE: &str = "cache";
/// The resolver's.
pub(super) const RESOLVER: &str = "resolver";

/// A service that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// An address that is none.
    #[error("enrichment.{key}: {source}")]
    Address {
        /// The setting.
        key: &'static str,
        /// What is wrong.
        source: InvalidTarget,
    },
    /// A URL that is none, or neither http nor https.
    #[error("enrichment.{key}: `{url}` is no http or https URL")]
    Url {
        /// The setting.
        key: String,
        /// What stands there, without what may be secret in it.
        url: String,
    },
    /// A setting that an enabled service needs.
    #[error("enrichment.{key} is not set")]
    Missing {
        /// The setting.
        key: &'static str,
    },
    /// A file that cannot be read.
    #[error("enrichment.{key}: cannot read {file}: {source}")]
    File {
        /// The setting.
        key: &'static str,
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that holds something else than a token.
    #[error("enrichment.{key}: {file} has to hold one line of visible ASCII characters, and nothing else")]
    Token {
        /// The setting.
        key: &'static str,
        /// Which file.
        file: PathBuf,
    },
    /// The resolver.
    #[error(transparent)]
    Names(#[from] NamesError),
    /// TLS or HTTP.
    #[error("enrichment: {0}")]
    Http(#[from] HttpError),
}

/// What all services share, and what outlives a reload.
#[derive(Debug)]
pub struct Outside {
    /// All dependencies.
    pub dependencies: Registry,
    pub(super) tiers: Arc<Tiers>,
    metrics: Arc<Metrics>,
}

impl Outside {
    /// Declares the metrics at a registry.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn new(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let dependencies = Registry::new(crate::egress::Metrics::new(registry)?);
        let metrics = Arc::new(Metrics::new(registry)?);
        Ok(Self { dependencies, tiers: Tiers::new(None, Arc::clone(&metrics)), metrics })
    }

    /// With a shelf behind the caches; before any service is built.
    #[must_use]
    pub fn with_shelf(self, shelf: Arc<dyn Shelf>, config: &CacheConfig) -> Self {
        let dependency = self.dependencies.dependency(CACHE, &config.call);
        let tiers = Tiers::new(Some((shelf, dependency, config.clone())), Arc::clone(&self.metrics));
        Self { tiers, ..self }
    }

    /// The same for a set-up in the making: dependencies that [`Services`] and others make of it are nobody's, and neither health
    /// nor metrics hear of them, until [`Self::commit`].
    #[must_use]
    pub fn draft(&self) -> Self {
        let (tiers, metrics) = (Arc::clone(&self.tiers), Arc::clone(&self.metrics));
        Self { dependencies: self.dependencies.draft(), tiers, metrics }
    }

    /// A draft comes into effect; dependencies that it did not ask for are gone.
    pub fn commit(&self) {
        self.dependencies.commit(|name| name == CACHE);
    }

    /// Where the shelf is, if there is one; without password.
    pub fn shelf(&self) -> Option<String> {
        self.tiers.place()
    }

    /// Forgets all answers with one of these tags, all there are without any: here at once, in other gateways that share the
    /// shelf within `cache.follow_ms`.
    ///
    /// # Errors
    /// When the shelf could not be told: then it is forgotten here, and what is on the shelf may come back from there.
    pub async fn forget(&self, tags: &[Tag]) -> Result<(), Failure> {
        self.tiers.forget(tags).await
    }

    /// Learns what other gateways forget; to be run as long as anything is asked. Ends at once without a shelf.
    pub async fn follow(&self) {
        self.tiers.follow().await;
    }

    /// How each dependency is doing, by name: for health and people.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.dependencies.snapshots()
    }
}

/// The message that services are asked about.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The message.
    pub message: &'a Message,
    /// Sender and recipients.
    pub envelope: &'a Envelope,
    /// The client; without an address when it is one of our own.
    pub connection: &'a Connection,
    /// The message as it came.
    pub raw: &'a Bytes,
    /// When it came, seconds since 1970.
    pub now: i64,
    /// It was asked about before, and what was kept since is not good enough.
    pub again: bool,
    /// Where its links led when they were followed.
    pub led_to: &'a [Url],
}

/// The way to HTTP services.
#[derive(Clone)]
pub(super) struct Way {
    names: Names,
    fence: Fence,
    roots: TlsRoots,
}

impl Way {
    /// A client to the one place that a setting names.
    pub(super) fn to(
        &self,
        name: &str,
        url: &str,
        call: &CallConfig,
        outside: &Outside,
    ) -> Result<(HttpClient, Url), ServiceError> {
        let wrong = || ServiceError::Url { key: format!("{name}.url"), url: without_secrets(url) };
        let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(wrong)?;
        let host = parsed.host_str().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        let dependency = outside.dependencies.dependency(name, call);
        let client = HttpClient::new(dependency, self.names.clone(), self.fence.clone(), [host], &self.roots, 0)?;
        Ok((client, parsed))
    }

    /// A client to public places that nobody named.
    pub(super) fn anywhere(
        &self,
        name: &str,
        call: &CallConfig,
        dependencies: &Registry,
        redirects: u8,
    ) -> Result<HttpClient, ServiceError> {
        let dependency = dependencies.dependency(name, call);
        Ok(HttpClient::new(dependency, self.names.clone(), self.fence.clone(), [], &self.roots, redirects)?)
    }
}

/// What a look at one service found.
#[derive(Debug)]
pub struct ServiceLook {
    /// The service.
    pub name: String,
    /// What it says of itself, or why it does not answer.
    pub result: Result<String, Failure>,
    /// What is done with mail while it does not answer.
    pub on_failure: OnFailure,
}

/// What needs nobody to be asked, or the asking: large, so it is made only then.
pub(super) type Asking<'a, T> = Either<Ready<Result<T, Failure>>, BoxFuture<'a, Result<T, Failure>>>;

/// A service and what its failure means.
pub(super) struct Watched<S> {
    pub(super) service: S,
    on_failure: OnFailure,
    patience: Duration,
}

impl<S> Watched<S> {
    fn new(service: S, on_failure: OnFailure, defer_seconds: u32) -> Self {
        Self { service, on_failure, patience: Duration::from_secs(defer_seconds.into()) }
    }

    pub(super) fn fact<T>(&self, name: &str, result: Result<T, Failure>) -> Fact<T> {
        match result {
            Ok(answer) => Fact::Known(answer),
            Err(failure) => {
                tracing::debug!(service = name, %failure, "a service gave no answer");
                Fact::Unknown(why(&failure))
            }
        }
    }

    /// What its failure means, when the service has been failing for so long and this message been deferred for so long.
    fn means(&self, why: Why, failing: Duration, deferred: Duration) -> OnFailure {
        match self.on_failure {
            // Trying later changes nothing about a message that is too large; nor, it seems, about this one.
            OnFailure::Defer if why == Why::Declined || failing.max(deferred) >= self.patience => OnFailure::Open,
            chosen => chosen,
        }
    }
}

/// All services that are switched on.
#[derive(Default)]
pub struct Services {
    clamd: Option<Watched<Clamd>>,
    lists: Option<Watched<BlockLists>>,
    pub(super) urls: Option<Watched<UrlService>>,
    pub(super) text: Option<Watched<TextService>>,
    pub(super) rdap: Option<Watched<Rdap>>,
    pub(super) functions: FunctionsConfig,
    pub(super) ocr: Option<Ocr>,
    pub(super) redirects: Option<Redirects>,
}

impl Services {
    /// Builds those that are enabled; asks nothing yet. A dependency keeps its state while its settings stay the same; those of
    /// services that are not enabled are gone.
    ///
    /// # Errors
    /// Names the setting that cannot be used; then nothing has changed.
    pub fn new(config: &Config, outside: &Outside) -> Result<Self, ServiceError> {
        let draft = outside.draft();
        let services = Self::drafted(config, &draft)?;
        // The resolver is somebody else's.
        draft.dependencies.commit(|name| [CACHE, RESOLVER].contains(&name));
        Ok(services)
    }

    /// The same as part of a larger set-up; [`Outside::commit`] is left to whoever made the draft.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub fn drafted(config: &Config, outside: &Outside) -> Result<Self, ServiceError> {
        let Config { clamd, block_lists, url_service, text_service, rdap, redirects, .. } = config;
        if config.enabled().next().is_none() {
            let (functions, ocr) = (config.functions.clone(), Ocr::find(&config.ocr));
            return Ok(Self { functions, ocr, ..Self::default() });
        }
        let way = way(config)?;
        let made = |on: bool| on.then_some(());
        let clamd = made(clamd.enabled).map(|()| {
            let service = Clamd::new(clamd, outside, &way.names, &way.fence)?;
            Ok::<_, ServiceError>(Watched::new(service, clamd.on_failure, clamd.service.defer_seconds))
        });
        let urls = made(url_service.enabled).map(|()| {
            let service = UrlService::new(url_service, outside, &way)?;
            Ok::<_, ServiceError>(Watched::new(service, url_service.on_failure, url_service.service.defer_seconds))
        });
        let text = made(text_service.enabled).map(|()| {
            let service = TextService::new(text_service, outside, &way)?;
            Ok::<_, ServiceError>(Watched::new(service, text_service.on_failure, text_service.service.defer_seconds))
        });
        let rdap = made(rdap.enabled).map(|()| {
            let service = Rdap::new(rdap, outside, way.clone())?;
            Ok::<_, ServiceError>(Watched::new(service, rdap.on_failure, rdap.service.defer_seconds))
        });
        let lists = made(block_lists.enabled).map(|()| {
            let service = BlockLists::new(block_lists, outside, &way.names);
            Watched::new(service, block_lists.on_failure, block_lists.service.defer_seconds)
        });
        Ok(Self {
            clamd: clamd.transpose()?,
            lists,
            urls: urls.transpose()?,
            text: text.transpose()?,
            rdap: rdap.transpose()?,
            functions: config.functions.clone(),
            ocr: Ocr::find(&config.ocr),
            redirects: made(redirects.enabled).map(|()| Redirects::new(redirects, outside, &way)).transpose()?,
        })
    }

    /// Asks all but the text analyser, at once; in a second look links are followed first, so that all are asked about where they
    /// lead, too. What does not answer by `until` is unknown; the rest stands.
    pub async fn ask(&self, question: &Question<'_>, until: Instant) -> ServiceFacts {
        let redirects = self.redirects.as_ref().filter(|_| question.again);
        let followed = match redirects {
            Some(redirects) => Some(Box::pin(redirects.follow(question, until)).await),
            None => None,
        };
        let ends = followed.iter().flatten().filter(|link| !link.hops.is_empty());
        let led_to: Vec<Url> = ends.filter_map(|link| Url::parse(link.effective()).ok()).collect();
        let question = &Question { led_to: &led_to, ..*question };
        let (malware, lists, urls, domains) = tokio::join!(
            async {
                let clamd = self.clamd.as_ref()?;
                Some(clamd.fact("clamd", clamd.service.scan(question.raw, until).await))
            },
            async {
                let lists = self.lists.as_ref()?;
                Some(lists.fact("block_lists", lists.service.ask(question, until).await))
            },
            async {
                let urls = self.urls.as_ref()?;
                Some(urls.fact("url_service", urls.service.ask(question, until).await))
            },
            async {
                let rdap = self.rdap.as_ref()?;
                Some(rdap.fact("rdap", rdap.service.ask(question, until).await))
            },
        );
        let off = ServiceFacts::default();
        ServiceFacts {
            malware: malware.unwrap_or(off.malware),
            lists: lists.unwrap_or(off.lists),
            urls: urls.unwrap_or(off.urls),
            text: off.text,
            domains: domains.unwrap_or(off.domains),
            followed: followed.map_or(off.followed, Fact::Known),
        }
    }

    /// Asks the text analyser, when a message of this risk is in its band or is looked at again.
    pub async fn ask_about_text(
        &self,
        question: &Question<'_>,
        risk: f64,
        until: Instant,
    ) -> Option<Fact<crate::analysis::TextReading>> {
        let text = self.text.as_ref().filter(|text| question.again || text.service.wants(risk))?;
        Some(text.fact("text_service", text.service.ask(question, until).await))
    }

    /// What is done with a message that would be passed on, by the services that failed: the strictest of them. `deferred`:
    /// since when its sender has been asked to try later.
    pub fn on_failure(&self, facts: &ServiceFacts, deferred: Duration) -> OnFailure {
        let Self { clamd, lists, urls, text, rdap, .. } = self;
        let means = |name: &str, why| match name {
            "malware" => clamd.as_ref().map(|s| s.means(why, s.service.dependency().failing_for(), deferred)),
            "lists" => lists.as_ref().map(|s| s.means(why, s.service.failing_for(), deferred)),
            "urls" => urls.as_ref().map(|s| s.means(why, s.service.dependency().failing_for(), deferred)),
            "text" => text.as_ref().map(|s| s.means(why, s.service.dependency().failing_for(), deferred)),
            _ => rdap.as_ref().map(|s| s.means(why, s.service.failing_for(), deferred)),
        };
        let failed = facts.unknowns().filter(|(_, why)| why.is_failure());
        failed.filter_map(|(name, why)| means(name, why)).max().unwrap_or(OnFailure::Open)
    }

    /// Looks whether those are back that are left alone, each when that is due (`look_seconds`); to be called every second.
    /// Takes no longer than the longest deadline.
    pub async fn look(&self) {
        tokio::join!(
            async {
                if let Some(clamd) = &self.clamd {
                    clamd.service.look().await;
                }
            },
            async {
                if let Some(lists) = &self.lists {
                    lists.service.look().await;
                }
            },
            async {
                if let Some(urls) = &self.urls {
                    urls.service.look().await;
                }
            },
            async {
                if let Some(text) = &self.text {
                    text.service.look().await;
                }
            },
            async {
                if let Some(rdap) = &self.rdap {
                    rdap.service.look().await;
                }
            },
        );
    }

    /// Asks each service something harmless: at the start, and for `doctor`.
    pub async fn probe(&self) -> Vec<ServiceLook> {
        let mut looks = Vec::new();
        let mut look =
            |name: &str, result, on_failure| looks.push(ServiceLook { name: name.to_owned(), result, on_failure });
        if let Some(clamd) = &self.clamd {
            look("clamd", clamd.service.version().await, clamd.on_failure);
        }
        if let Some(lists) = &self.lists {
            for (name, result) in lists.service.probe().await {
                look(&name, result, lists.on_failure);
            }
        }
        if let Some(urls) = &self.urls {
            look("url_service", urls.service.probe().await, urls.on_failure);
        }
        if let Some(text) = &self.text {
            look("text_service", text.service.probe().await, text.on_failure);
        }
        if let Some(ocr) = &self.ocr {
            let version = ocr.version().await.map_err(|error| Failure::Unreachable(std::sync::Arc::new(error)));
            look("ocr", version, OnFailure::Open);
        }
        if let Some(rdap) = &self.rdap {
            look("rdap", Ok(format!("registries of {} suffixes", rdap.service.known())), rdap.on_failure);
        }
        looks
    }
}

fn way(config: &Config) -> Result<Way, ServiceError> {
    let auth = &config.sender_auth;
    let names = Names::new(&NamesConfig {
        resolvers: auth.resolvers.clone(),
        query: Duration::from_millis(auth.query_ms),
        cache_entries: auth.cache_entries,
        cache_max: Duration::from_secs(auth.cache_max_seconds),
    })?;
    let fence = Fence::allowing(config.allow_networks.iter().map(|network| network.range()));
    Ok(Way { names, fence, roots: TlsRoots::load(config.ca_file.as_deref())? })
}

/// The token in a file, without the line's end.
pub(super) fn token(key: &'static str, file: Option<&Path>) -> Result<Option<String>, ServiceError> {
    let Some(file) = file else { return Ok(None) };
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|source| ServiceError::File { key, file: file.to_owned(), source })?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ServiceError::Token { key, file: file.to_owned() });
    }
    Ok(Some(token.to_owned()))
}

/// A share from 0 to 1 as hundredths.
pub(super) fn percent(share: f64) -> Result<u8, Failure> {
    if !(0.0..=1.0).contains(&share) {
        return Err(Failure::Malformed(format!("{share} is not between 0 and 1")));
    }
    Ok((share * 100.0).round() as u8)
}

/// The fact's word for a failure: one for each.
pub(super) fn why(failure: &Failure) -> Why {
    match failure {
        Failure::Disabled => Why::Disabled,
        Failure::Timeout { .. } => Why::Timeout,
        Failure::BreakerOpen { .. } => Why::BreakerOpen,
        Failure::RateLimited { .. } => Why::RateLimited,
        Failure::Busy => Why::Busy,
        Failure::Unreachable(_) => Why::Unreachable,
        Failure::Fenced(_) => Why::Fenced,
        Failure::TooLarge { .. } => Why::TooLarge,
        Failure::Malformed(_) => Why::Malformed,
        Failure::Status { .. } => Why::Status,
        Failure::Reported(_) => Why::Reported,
        Failure::Declined(_) => Why::Declined,
    }
}
