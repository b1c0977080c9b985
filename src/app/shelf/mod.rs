//! The shelf of services' answers in Redis: what `enrichment` asks for, over the connection that `deferred` has.
//!
//! | key | type | holds |
//! | --- | --- | --- |
//! | `{PREFIX:answers}:a:KIND:SHA256` | hash | an answer, the epoch and number it was asked for at; expires by itself |
//! | `{PREFIX:answers}:state` | hash | epoch, number of the newest forgetting, floor: what is older is not good; run: which server's life it is |
//! | `{PREFIX:answers}:tags` | sorted set | tag → number under which it was last forgotten; 10,000 at most |
//!
//! One hash tag, so that in a cluster each call is one script on one node. If Redis loses or evicts the state, the next call
//! begins a new epoch, and nothing of before is good. So it is when the server has started anew (from a dump that may be older
//! than what was forgotten last) or another has taken its place: whoever follows sees it within `follow_ms`.

#[cfg(feature = "redis")]
mod redis_shelf;

use std::sync::Arc;

use anyhow::Context;

use super::config::Config;
use crate::enrichment::{Outside, Shelf};

/// What all services share, with the shelf that is configured.
///
/// # Errors
/// Names the setting that cannot be used.
pub fn outside(config: &Config, registry: &prometheus::Registry) -> anyhow::Result<Outside> {
    let outside = Outside::new(registry)?;
    Ok(match open(config)? {
        Some(shelf) => outside.with_shelf(shelf, &config.cache),
        None => outside,
    })
}

/// The shelf that is configured; nothing is connected yet.
///
/// # Errors
/// Names the setting that cannot be used.
pub fn open(config: &Config) -> anyhow::Result<Option<Arc<dyn Shelf>>> {
    let cache = &config.cache;
    let url = match &cache.url_file {
        Some(file) => {
            let text = std::fs::read_to_string(file);
            text.with_context(|| format!("cache.url_file: cannot read {}", file.display()))?.trim().to_owned()
        }
        None => cache.url.clone(),
    };
    if url.is_empty() { Ok(None) } else { by_address(config, &url).map(Some) }
}

#[cfg(feature = "redis")]
fn by_address(config: &Config, url: &str) -> anyhow::Result<Arc<dyn Shelf>> {
    Ok(Arc::new(redis_shelf::RedisShelf::new(&config.cache, url)?))
}

#[cfg(not(feature = "redis"))]
fn by_address(_config: &Config, _url: &str) -> anyhow::Result<Arc<dyn Shelf>> {
    anyhow::bail!("cache.url: this build has no Redis in it")
}
