//! Logs: one line an event to standard error, as text or JSON; levels can be changed by a reload, and for a while by HTTP.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::task::AbortHandle;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use super::config::{Config, LogFormat};
use crate::admin::{LogLevels, LogState};
use crate::observe::event;

/// What a room of the log may be called; `all` is everything, libraries too but for those of [`QUIET`].
const ROOMS: [&str; 16] = [
    "all",
    "admin",
    "analysis",
    "app",
    "content",
    "deferred",
    "egress",
    "enforcement",
    "enrichment",
    "gateway",
    "mail",
    "observe",
    "pipeline",
    "policy",
    "protocol",
    "records",
];
/// Libraries that say something.
const LIBRARIES: [&str; 19] = [
    "axum",
    "h2",
    "hickory_net",
    "hickory_proto",
    "hickory_resolver",
    "html5ever",
    "hyper",
    "hyper_util",
    "lopdf",
    "mail_auth",
    "notify",
    "object_store",
    "redis",
    "reqwest",
    "rustls",
    "sqlx",
    "tokio",
    "tower",
    "tower_http",
];
/// Libraries that read what strangers send, and complain of it line by line: whoever likes could fill the log. What the settings
/// say of one of them by its name goes before this. lopdf calls an error what is wrong with the file.
const QUIET: &str = "hickory_proto=error,html5ever=error,lopdf=off,rustls=error";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The levels of the running process.
#[derive(Debug)]
pub(super) struct Levels {
    handle: reload::Handle<EnvFilter, Registry>,
    state: Mutex<State>,
    /// What is to be exported.
    #[cfg(feature = "otlp")]
    pub(super) spans: super::otlp::Taken,
}

#[derive(Debug)]
struct State {
    configured: String,
    asked: BTreeMap<String, String>,
    until_ms: Option<i64>,
    /// Ends what was asked for.
    timer: Option<AbortHandle>,
}

/// Starts logging. Bodies, subjects and tokens are never logged at `info`.
///
/// # Errors
/// When the level is not understood.
pub(super) fn start(config: &Config) -> anyhow::Result<Arc<Levels>> {
    #[cfg(feature = "otlp")]
    let (layer, spans) = super::otlp::layer(&config.otlp);
    let config = &config.log;
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    let registry = tracing_subscriber::registry().with(filter);
    #[cfg(feature = "otlp")]
    let registry = registry.with(layer);
    let result = match config.format {
        LogFormat::Json => {
            let json = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(true);
            registry.with(json.with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry.with(fmt::layer().with_ansi(colours).with_writer(std::io::stderr)).try_init()
        }
    };
    // A second start in one process (tests) keeps the first.
    drop(result);
    let state = State { configured: config.level.clone(), asked: BTreeMap::new(), until_ms: None, timer: None };
    Ok(Arc::new(Levels {
        handle,
        state: Mutex::new(state),
        #[cfg(feature = "otlp")]
        spans,
    }))
}

/// Reads a level.
///
/// # Errors
/// When it is not understood.
pub(super) fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    if let Some(target) = level.split(',').filter_map(target).find(|target| !is_known(target)) {
        let rooms = ROOMS[1..].join(", ");
        anyhow::bail!(
            "log.level `{level}`: nothing is called `{target}`: write mailweir::ROOM=LEVEL, such as \
             mailweir::gateway=debug (rooms: {rooms}), or name a library ({})",
            LIBRARIES.join(", ")
        );
    }
    EnvFilter::try_new(format!("{QUIET},{level}")).map_err(|error| {
        anyhow::anyhow!("log.level `{level}`: {error} (use error, warn, info, debug, trace, or room by room)")
    })
}

/// What a directive is about; none for all.
fn target(directive: &str) -> Option<&str> {
    let target = directive.split_once(['=', '[']).map_or(directive, |(target, _)| target).trim();
    let all = target.is_empty() || target.parse::<tracing::level_filters::LevelFilter>().is_ok();
    (!all).then_some(target)
}

/// Whether anything of that name is in the log.
fn is_known(target: &str) -> bool {
    let mut steps = target.split("::");
    match (steps.next(), steps.next()) {
        (Some("mailweir"), Some(room)) => ROOMS[1..].contains(&room),
        (Some("mailweir"), None) => true,
        (Some(library), _) => LIBRARIES.contains(&library),
        (None, _) => false,
    }
}

impl Levels {
    /// Follows the configuration; what was asked for besides is over.
    ///
    /// # Errors
    /// When the level is not understood; nothing is changed then.
    pub(super) fn configure(&self, level: &str) -> anyhow::Result<()> {
        let filter = filter(level)?;
        let mut state = self.state();
        level.clone_into(&mut state.configured);
        self.put(&mut state, filter);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a filter in and forgets what was asked for.
    fn put(&self, state: &mut State, filter: EnvFilter) {
        state.asked.clear();
        state.until_ms = None;
        if let Some(timer) = state.timer.take() {
            timer.abort();
        }
        if self.handle.reload(filter).is_err() {
            tracing::warn!(event = event::SYSTEM, "the log level could not be changed");
        }
    }

    fn seen(state: &State) -> LogState {
        LogState { configured: state.configured.clone(), levels: state.asked.clone(), until_ms: state.until_ms }
    }
}

/// The directives for rooms, after what is configured.
fn directives(configured: &str, levels: &BTreeMap<String, String>) -> Result<String, String> {
    let mut text = configured.to_owned();
    for (room, level) in levels {
        if !LEVELS.contains(&level.as_str()) {
            return Err(format!("`{level}` is no level: {}", LEVELS.join(", ")));
        }
        match room.as_str() {
            "all" => text = format!("{text},{level}"),
            room if ROOMS.contains(&room) => text = format!("{text},mailweir::{room}={level}"),
            other => return Err(format!("`{other}` is no room: {}", ROOMS.join(", "))),
        }
    }
    Ok(text)
}

impl LogLevels for Levels {
    fn state(&self) -> LogState {
        Self::seen(&Levels::state(self))
    }

    fn set(self: Arc<Self>, levels: BTreeMap<String, String>, minutes: u32) -> Result<LogState, String> {
        let wait = Duration::from_secs(u64::from(minutes) * 60);
        let mut state = Levels::state(&self);
        let text = directives(&state.configured, &levels)?;
        let filter = filter(&text).map_err(|error| error.to_string())?;
        self.put(&mut state, filter);
        let until = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + wait;
        state.until_ms = i64::try_from(until.as_millis()).ok();
        state.asked = levels;
        let levels = Arc::downgrade(&self);
        let timer = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            if let Some(levels) = levels.upgrade() {
                // Not its own end: it is over anyway.
                Levels::state(&levels).timer = None;
                levels.reset();
                tracing::info!(
                    event = event::AUDIT,
                    action = "logging.reset",
                    by = "time",
                    "levels are as configured again"
                );
            }
        });
        state.timer = Some(timer.abort_handle());
        Ok(Self::seen(&state))
    }

    fn reset(&self) -> LogState {
        let mut state = Levels::state(self);
        // It was understood when it was configured.
        if let Ok(filter) = filter(&state.configured) {
            self.put(&mut state, filter);
        }
        Self::seen(&state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(configured: &str) -> Arc<Levels> {
        let (layer, handle) = reload::Layer::new(filter(configured).unwrap());
        // The handle serves as long as its layer.
        std::mem::forget(layer);
        let state = State { configured: configured.into(), asked: BTreeMap::new(), until_ms: None, timer: None };
        Arc::new(Levels {
            handle,
            state: Mutex::new(state),
            #[cfg(feature = "otlp")]
            spans: Default::default(),
        })
    }

    fn asked(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(room, level)| ((*room).to_owned(), (*level).to_owned())).collect()
    }

    fn in_effect(levels: &Levels) -> String {
        levels.handle.with_current(ToString::to_string).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn asked_for_levels_end_by_themselves() {
        let levels = levels("info");
        let before = in_effect(&levels);
        let state = Arc::clone(&levels).set(asked(&[("gateway", "debug")]), 10).unwrap();
        assert_eq!((state.levels.len(), state.until_ms.is_some()), (1, true));
        assert!(in_effect(&levels).contains("mailweir::gateway=debug"), "{}", in_effect(&levels));
        tokio::time::sleep(Duration::from_secs(9 * 60)).await;
        let renewed = Arc::clone(&levels).set(asked(&[("records", "trace")]), 10).unwrap();
        assert_eq!(renewed.levels, asked(&[("records", "trace")]));
        tokio::time::sleep(Duration::from_secs(9 * 60)).await;
        assert!(in_effect(&levels).contains("mailweir::records=trace"), "the first timer is gone");
        tokio::time::sleep(Duration::from_secs(2 * 60)).await;
        assert_eq!(in_effect(&levels), before);
        assert_eq!(LogLevels::state(&*levels).until_ms, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_ends_them_too() {
        let levels = levels("info");
        Arc::clone(&levels).set(asked(&[("all", "debug")]), 10).unwrap();
        levels.configure("warn").unwrap();
        let warn = filter("warn").unwrap().to_string();
        assert_eq!(in_effect(&levels), warn);
        tokio::time::sleep(Duration::from_secs(11 * 60)).await;
        assert_eq!(in_effect(&levels), warn);
    }

    #[test]
    fn parsers_of_what_strangers_send_are_quiet_unless_they_are_named() {
        let of = |level: &str| filter(level).unwrap().to_string();
        for level in ["info", "debug,mailweir::gateway=trace"] {
            assert!(QUIET.split(',').all(|directive| of(level).contains(directive)), "{}", of(level));
            assert!(level.split(',').all(|directive| of(level).contains(directive)), "{}", of(level));
        }
        let named = of("info,lopdf=debug");
        assert!(named.contains("lopdf=debug") && !named.contains("lopdf=off"), "{named}");
        assert!(QUIET.split(',').all(|directive| LIBRARIES.contains(&target(directive).unwrap())));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let refused = |room, level| directives("info", &asked(&[(room, level)])).unwrap_err();
        assert!(
            refused("cellar", "debug").contains("`cellar` is no room: all, admin"),
            "{}",
            refused("cellar", "debug")
        );
        assert!(refused("mail", "loud").contains("`loud` is no level: off"));
        assert!(refused("mail", "info,hyper=trace").contains("is no level"));
    }
}
