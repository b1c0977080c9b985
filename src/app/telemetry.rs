//! Logs: one line an event to standard error, as text or JSON; the level can be changed at reload.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use super::config::{LogConfig, LogFormat};

/// Changes the level of a running process.
pub(super) type LevelHandle = reload::Handle<EnvFilter, Registry>;

/// Starts logging. Bodies, subjects and tokens are never logged at `info`.
///
/// # Errors
/// When the level is not understood.
pub(super) fn start(config: &LogConfig) -> anyhow::Result<LevelHandle> {
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let result = match config.format {
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry.with(fmt::layer().with_ansi(colours).with_writer(std::io::stderr)).try_init()
        }
    };
    // A second start in one process (tests) keeps the first.
    drop(result);
    Ok(handle)
}

/// Reads a level.
///
/// # Errors
/// When it is not understood.
pub(super) fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(level).map_err(|error| {
        anyhow::anyhow!("log.level `{level}`: {error} (use error, warn, info, debug, trace, or room by room)")
    })
}
