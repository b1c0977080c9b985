//! `mailweir worker`: works on the queue and takes no mail. Any number of them, on any number of machines, started and stopped
//! at will; all of them share the queue (Redis) and the records (PostgreSQL) with the gateways.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use super::cli::Common;
use super::config::Config;
use super::serve::{admin_side, shutdown_signal, with_causes};
use super::terminal::{Terminal, Tone};
use super::work::Work;
use super::{data, telemetry};
use crate::records::{self, Records};

/// Works until SIGTERM or SIGINT, then ends the jobs at work.
///
/// # Errors
/// What could not be set up.
pub(super) async fn run(config: Config, common: &Common) -> anyhow::Result<()> {
    let _level = telemetry::start(&config.log)?;
    let config = Arc::new(config);
    data::prepare(&config)?;
    let registry = Registry::new();
    let metrics = Arc::new(records::Metrics::new(&registry)?);
    let (records, writer) = Records::open(&config.store, &config.data, metrics).await.map_err(with_causes)?;
    let writer = tokio::spawn(writer);
    let work = Work::open(&config, &records, &registry, true).await?;
    let admin = admin_side(&config, &records, &registry, &work).await?;

    let terminal = Terminal::new(common.colour);
    let mut lines = vec![terminal.toned(Tone::Strong, concat!("Mailweir ", env!("CARGO_PKG_VERSION"), " worker"))];
    lines.push(format!("  queue     {}", work.queue.place()));
    if let Some((listener, ..)) = &admin {
        lines.push(format!("  http      http://{}", listener.local_addr()?));
    }
    terminal.line(&lines.join("\n"))?;

    let (draining, http_stop) = (CancellationToken::new(), CancellationToken::new());
    let mut next_hops = None;
    let http = admin.map(|(listener, admin, hops)| {
        next_hops = Some(hops);
        let (draining, stop) = (draining.clone(), http_stop.clone());
        tokio::spawn(async move { admin.serve(listener, draining, stop).await })
    });
    let working = work.start();
    tracing::info!(signal = shutdown_signal().await?, "stopping: jobs at work are ended, the others go back");
    draining.cancel();
    working.finish().await;
    http_stop.cancel();
    if let Some(http) = http {
        let _ = tokio::time::timeout(Duration::from_secs(2), http).await;
    }
    if let Some(hops) = next_hops {
        hops.close().await;
    }
    drop(records);
    if tokio::time::timeout(Duration::from_secs(5), writer).await.is_err() {
        bail!("the records did not close in time");
    }
    tracing::info!("stopped");
    Ok(())
}
