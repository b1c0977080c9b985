//! [`Shelf`] in Redis 7: each call is one script.

use std::time::Duration;

use futures_util::FutureExt;
use redis::Script;

use crate::deferred::{LinkUse, QueueError, RedisAddress, RedisLink};
use crate::egress::Failure;
use crate::enrichment::{CacheConfig, Look, News, Shelf, Shelved, Stamp, Tag};

/// Tags remembered as forgotten.
const MAX_TAGS: usize = 10_000;
const LINK: LinkUse =
    LinkUse { setting: "cache.url", without: "answers of services are kept in memory only", keeps: false };

pub(super) struct RedisShelf {
    link: RedisLink,
    root: String,
    look: Script,
    put: Script,
    forget: Script,
    news: Script,
}

impl RedisShelf {
    pub(super) fn new(config: &CacheConfig, url: &str) -> anyhow::Result<Self> {
        // A little less than the caller's: then it is this that ends a call, and the connection is given up.
        let deadline = config.call.deadline().mul_f64(0.9);
        let address = RedisAddress {
            url,
            ca_file: config.ca_file.as_deref(),
            cert_file: config.cert_file.as_deref(),
            key_file: config.key_file.as_deref(),
        };
        Ok(Self {
            link: RedisLink::new(address, deadline, LINK)?,
            root: format!("{{{}:answers}}", config.prefix),
            look: Script::new(include_str!("look.lua")),
            put: Script::new(include_str!("put.lua")),
            forget: Script::new(include_str!("forget.lua")),
            news: Script::new(include_str!("news.lua")),
        })
    }

    fn answer(&self, key: &str) -> String {
        format!("{}:a:{key}", self.root)
    }

    fn state(&self) -> String {
        format!("{}:state", self.root)
    }

    fn tags(&self) -> String {
        format!("{}:tags", self.root)
    }
}

impl Shelf for RedisShelf {
    fn look<'a>(&'a self, key: &'a str, tags: &'a [Tag]) -> Shelved<'a, Look> {
        async move {
            let mut call = self.look.prepare_invoke();
            call.key(self.answer(key)).key(self.state()).key(self.tags()).arg(new_epoch()?);
            for tag in tags {
                call.arg(tag.as_str());
            }
            let mut said =
                self.link.run::<Vec<Vec<u8>>>("look an answer up", &call).await.map_err(failure)?.into_iter();
            let stamp = stamp(said.next(), said.next())?;
            let found = match (said.next(), said.next()) {
                (Some(answer), Some(left)) => {
                    let left = text(Some(left))?.parse::<i64>().map_err(Failure::malformed)?;
                    Some((answer, Duration::from_millis(u64::try_from(left).unwrap_or(0))))
                }
                _ => None,
            };
            Ok(Look { stamp, found })
        }
        .boxed()
    }

    fn put<'a>(&'a self, key: &'a str, stamp: &'a Stamp, answer: &'a [u8], keep: Duration) -> Shelved<'a, ()> {
        async move {
            let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 40);
            let mut call = self.put.prepare_invoke();
            call.key(self.answer(key)).arg(&stamp.epoch).arg(stamp.number).arg(answer).arg(keep);
            self.link.run::<i64>("keep an answer", &call).await.map(|_| ()).map_err(failure)
        }
        .boxed()
    }

    fn forget<'a>(&'a self, tags: &'a [Tag]) -> Shelved<'a, ()> {
        async move {
            let mut call = self.forget.prepare_invoke();
            call.key(self.state()).key(self.tags()).arg(new_epoch()?).arg(MAX_TAGS);
            for tag in tags {
                call.arg(tag.as_str());
            }
            self.link.run::<i64>("forget answers", &call).await.map(|_| ()).map_err(failure)
        }
        .boxed()
    }

    fn news<'a>(&'a self, since: Option<&'a Stamp>) -> Shelved<'a, News> {
        async move {
            let (epoch, number) = since.map_or(("", 0), |stamp| (&stamp.epoch, stamp.number));
            let mut call = self.news.prepare_invoke();
            call.key(self.state()).key(self.tags()).arg(new_epoch()?).arg(epoch).arg(number);
            let said = self.link.run::<Vec<Vec<u8>>>("ask what was forgotten", &call).await;
            let mut said = said.map_err(failure)?.into_iter();
            let stamp = stamp(said.next(), said.next())?;
            let everything = text(said.next())? == "1";
            // A tag that cannot be read was not kept by us: nothing of ours is about it.
            let tags = said.filter_map(|tag| Tag::parse(&text(Some(tag)).ok()?).ok()).collect();
            Ok(News { stamp, everything, tags })
        }
        .boxed()
    }

    fn place(&self) -> String {
        self.link.place().to_owned()
    }
}

fn stamp(epoch: Option<Vec<u8>>, number: Option<Vec<u8>>) -> Result<Stamp, Failure> {
    Ok(Stamp { epoch: text(epoch)?, number: text(number)?.parse().map_err(Failure::malformed)? })
}

fn text(bytes: Option<Vec<u8>>) -> Result<String, Failure> {
    let bytes = bytes.ok_or_else(|| Failure::malformed("something is missing"))?;
    String::from_utf8(bytes).map_err(Failure::malformed)
}

fn new_epoch() -> Result<String, Failure> {
    let mut chance = [0; 8];
    getrandom::fill(&mut chance).map_err(|_| Failure::Reported("no random numbers".into()))?;
    Ok(format!("{:016x}", u64::from_be_bytes(chance)))
}

fn failure(error: QueueError) -> Failure {
    match error {
        QueueError::Slow { ms, .. } => Failure::Timeout { after_ms: ms },
        QueueError::Redis { source, .. } if source.is_io_error() || source.is_connection_dropped() => {
            Failure::unreachable(std::io::Error::other(source))
        }
        other => {
            let cause = std::error::Error::source(&other).map(|cause| format!(": {cause}")).unwrap_or_default();
            Failure::Reported(format!("{other}{cause}"))
        }
    }
}
