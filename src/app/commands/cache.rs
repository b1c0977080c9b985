//! `mailweir cache flush`: answers of services are forgotten before their time, in the cache that gateways share. Each of them
//! learns of it within `cache.follow_ms`.

use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::json;

use crate::app::cli::{CacheCommand, Common};
use crate::app::config::Config;
use crate::app::shelf;
use crate::app::terminal::Terminal;
use crate::enrichment::Tag;

/// Runs the command.
pub(in crate::app) async fn run(command: &CacheCommand, config: &Config, common: &Common) -> anyhow::Result<ExitCode> {
    let CacheCommand::Flush { tag, dependency, everything, json } = command;
    let terminal = Terminal::new(common.colour);
    let tags = tag.iter().map(|tag| Tag::parse(tag));
    let tags: Vec<Tag> = tags.collect::<Result<_, _>>()?;
    let tags: Vec<Tag> = tags.into_iter().chain(dependency.iter().map(|name| Tag::dependency(name))).collect();
    if tags.is_empty() != *everything {
        bail!("say what: --tag, --dependency, or --everything, and not both");
    }
    let Some(shelf) = shelf::open(config)? else {
        bail!("gateways share no cache (cache.url): ask each of them, POST /api/v1/caches/invalidations");
    };
    tokio::time::timeout(config.cache.call.deadline() * 20, shelf.forget(&tags)).await.context("no answer")??;
    if *json {
        let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        terminal.json(&json!({"tags": tags, "everything": everything, "shared": shelf.place()}))?;
    } else {
        let what = if *everything {
            "everything".to_owned()
        } else {
            tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(", ")
        };
        terminal.line(&format!(
            "{what}: forgotten in {}; gateways follow within {} ms",
            shelf.place(),
            config.cache.follow_ms
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
