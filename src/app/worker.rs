//! `mailweir worker`: works on the queue and takes no mail. Any number of them, on any number of machines, started and stopped
//! at will; all of them share the queue (Redis) and the records (PostgreSQL) with the gateways. It reloads as the gateway does:
//! second looks that begin after SIGHUP, or after a change of the file, judge by the new settings.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use super::alerts::Tellers;
use super::cli::Common;
use super::config::Loaded;
use super::reload::Reload;
use super::serve::{Besides, admin_side, look_again, shutdown_signal, with_causes};
use super::terminal::{Terminal, Tone};
use super::work::{Hands, Work};
use super::{check, data, shelf, spans, standing, telemetry};
use crate::admin::Surroundings;
use crate::gateway::next_hop::{NextHopMetrics, NextHops};
use crate::observe::{self, event};
use crate::pipeline::{self, Pipeline};
use crate::records::{self, Records};

/// Says what to do when the gateway of the same configuration has the address.
fn address_hint(error: anyhow::Error) -> anyhow::Error {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    if io.is_none_or(|io| io.kind() != std::io::ErrorKind::AddrInUse) {
        return error;
    }
    error.context(
        "the gateway or another worker has this address: give this worker one of its own \
         (MAILWEIR__HTTP__LISTEN=127.0.0.1:0 takes any that is free), or none (MAILWEIR__HTTP__ENABLED=false)",
    )
}

/// Works until SIGTERM or SIGINT, then ends the jobs at work.
///
/// # Errors
/// What could not be set up.
pub(super) async fn run(loaded: Loaded, common: &Common) -> anyhow::Result<()> {
    // One that comes while we start ends nothing.
    drop(super::reload::hangups());
    let config = loaded.config.clone();
    check::settings(&config)?;
    let levels = telemetry::start(&config)?;
    let config = Arc::new(config);
    data::prepare(&config)?;
    let registry = Registry::new();
    observe::register(&registry)?;
    spans::register(&registry)?;
    let metrics = Arc::new(records::Metrics::new(&registry)?);
    let (records, writer) = Records::open(&config.store, &config.data, metrics).await.map_err(with_causes)?;
    let writer = tokio::spawn(writer);
    let outside = Arc::new(shelf::outside(&config, &registry)?);
    let collector = outside.dependencies.beside();
    let exporting = spans::export(&config, &levels, &collector)?;
    let (standing, rules) = standing::build(&config, false, &outside)?;
    rules.log();
    let key = data::pass_key(&config)?;
    let metrics = Arc::new(pipeline::Metrics::new(&registry)?);
    let pipeline = Arc::new(Pipeline::new(standing, Some(Arc::clone(&records)), Some(key.clone()), metrics));
    let host = standing::host_name(&config);
    let next_hops = NextHops::new(&config.next_hop, &host, NextHopMetrics::new(&registry)?).context("[next_hop]")?;
    let next_hops = Arc::new(next_hops);
    let tellers = Arc::new(Tellers::new(&config, &outside, &next_hops, &registry)?);
    let seen = Arc::clone(&pipeline);
    let hands = Hands { pipeline, next_hops: Arc::clone(&next_hops), key, tellers: Arc::clone(&tellers) };
    let work = Work::open(&config, &records, &registry, Some(hands)).await?;
    let surroundings = Surroundings {
        outside: Some(Arc::clone(&outside)),
        data: Some(config.data.clone()),
        levels: Some(Arc::clone(&levels) as _),
        others: Some(Arc::new(Besides::new(&tellers, collector))),
        ..Surroundings::default()
    };
    let admin = admin_side(&config, &records, &registry, &next_hops, &work, surroundings).await;
    let admin = admin.map_err(address_hint)?;

    let terminal = Terminal::new(common.colour);
    let mut lines = vec![terminal.toned(Tone::Strong, concat!("Mailweir ", env!("CARGO_PKG_VERSION"), " worker"))];
    lines.push(format!("  queue     {}", work.queue.place()));
    if let Some((listener, _)) = &admin {
        lines.push(format!("  http      http://{}", listener.local_addr()?));
    }
    terminal.line(&lines.join("\n"))?;

    let (draining, http_stop) = (CancellationToken::new(), CancellationToken::new());
    let http = admin.map(|(listener, admin)| {
        let (draining, stop) = (draining.clone(), http_stop.clone());
        tokio::spawn(async move { admin.serve(listener, draining, stop).await })
    });
    let working = work.start();
    let follower = Arc::clone(&outside);
    let parts = (Arc::clone(&seen), levels, outside, tellers);
    let reload = Reload::new(loaded, common.clone(), parts, &registry)?;
    let reloading = tokio::spawn(reload.run());
    let following = tokio::spawn(async move { follower.follow().await });
    let looking = tokio::spawn(look_again(seen));
    tracing::info!(
        event = event::SYSTEM,
        signal = shutdown_signal().await?,
        "stopping: jobs at work are ended, the others go back"
    );
    draining.cancel();
    working.finish().await;
    reloading.abort();
    following.abort();
    looking.abort();
    http_stop.cancel();
    if let Some(http) = http {
        let _ = tokio::time::timeout(Duration::from_secs(2), http).await;
    }
    next_hops.close().await;
    drop(records);
    if let Some(exporting) = exporting {
        exporting.finish().await;
    }
    if tokio::time::timeout(Duration::from_secs(5), writer).await.is_err() {
        bail!("the records did not close in time");
    }
    tracing::info!(event = event::SYSTEM, "stopped");
    Ok(())
}
