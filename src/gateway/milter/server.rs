//! Takes connections until told to stop, then lets the messages in flight finish.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::connection::Driver;
use super::listener::Socket;
use super::{Config, Listener, Metrics};
use crate::observe::event;
use crate::pipeline::Inspect;

/// Serves MTAs until `cancel`; returns when the last connection is gone.
///
/// On cancel the listener closes first; connections between messages close at once, the others after the answer to their
/// message. How long that may take is the caller's to say: dropping the future ends all of them.
pub async fn serve<I: Inspect>(
    listener: Listener,
    inspect: Arc<I>,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(socket) if connections.len() < config.connections => {
                let driver = Driver::new(socket, inspect.clone(), config.clone(), metrics.clone(), cancel.clone());
                connections.spawn(driver.run());
            }
            Ok(socket) => refuse(socket, &config, &metrics),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                metrics.accept_errors_total.inc();
                tracing::warn!(
                    event = event::SYSTEM,
                    %error, listener = %listener.endpoint(), "cannot take a milter connection, waiting"
                );
                tokio::select! {
                    () = cancel.cancelled() => break,
                    () = sleep(Duration::from_millis(config.accept_backoff_ms)) => {}
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Closing at once makes the MTA act (451 by default) instead of waiting for its timeout.
fn refuse(socket: Socket, config: &Config, metrics: &Metrics) {
    drop(socket);
    metrics.connections_refused_total.inc();
    tracing::warn!(event = event::SYSTEM, limit = config.connections, "milter connection refused: too many");
}
