//! Reload on SIGHUP and when the configuration's file changes: whole or not at all; it says what changed.
//!
//! What judging depends on, and the log level, change at once; for the rest the log names what waits for a restart. Every
//! version that came into effect is kept in `DATA/config`, for the gateway's user only.

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus::{IntCounterVec, Opts, Registry};
use tokio::sync::mpsc;

use super::alerts::Tellers;
use super::check;
use super::cli::Common;
use super::config::{self, Config, Loaded};
use super::secrets;
use super::standing;
use super::telemetry::Levels;
use super::watched_file::WatchedFile;
use crate::enrichment::Outside;
use crate::observe::{self, Category, event};
use crate::pipeline::Pipeline;

/// Time for an editor to finish writing before the file is read.
const SETTLE: Duration = Duration::from_millis(300);
/// Versions kept.
const VERSIONS: usize = 20;
/// Sections that take effect without a restart.
const LIVE: [&str; 6] = ["policy.", "inspection.", "enrichment.", "log.", "alerts.", "actions."];
/// The one among them that does not.
const WATCHED: &str = "alerts.enabled";

/// Watches for new settings.
pub(super) struct Reload {
    loaded: Loaded,
    /// What the file said when it was last read, taken or not.
    read: Option<String>,
    common: Common,
    pipeline: Arc<Pipeline>,
    levels: Arc<Levels>,
    reloads: IntCounterVec,
    outside: Arc<Outside>,
    tellers: Arc<Tellers>,
}

impl Reload {
    pub(super) fn new(
        loaded: Loaded,
        common: Common,
        (pipeline, levels, outside, tellers): (Arc<Pipeline>, Arc<Levels>, Arc<Outside>, Arc<Tellers>),
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let reloads = IntCounterVec::new(
            Opts::new("mailweir_config_reloads_total", "Reloads of the configuration, by outcome."),
            &["outcome"],
        )?;
        registry.register(Box::new(reloads.clone()))?;
        for outcome in ["done", "refused"] {
            reloads.with_label_values(&[outcome]);
        }
        let read = Some(loaded.text.clone());
        let reload = Self { loaded, read, common, pipeline, levels, reloads, outside, tellers };
        reload.keep_version();
        Ok(reload)
    }

    /// Runs until it is aborted.
    pub(super) async fn run(mut self) {
        let hangups = hangups();
        let Ok(mut hangups) = hangups else { return };
        let (changed, mut changes) = mpsc::channel(1);
        let mut watched = self.watched(changed);
        // What was changed since the start.
        self.reload(false);
        loop {
            let by_signal = tokio::select! {
                got = hangups.recv() => { if got.is_none() { return } true }
                Some(()) = changes.recv() => false,
            };
            if !by_signal {
                tokio::time::sleep(SETTLE).await;
                let _ = changes.try_recv();
            }
            if let Some(Err(error)) = watched.as_mut().map(WatchedFile::renew) {
                cannot_watch(&error);
            }
            self.reload(by_signal);
        }
    }

    /// Watches the file, if there is one.
    fn watched(&self, changed: mpsc::Sender<()>) -> Option<WatchedFile> {
        let mut watched = WatchedFile::new(self.loaded.file.as_deref()?, changed).inspect_err(cannot_watch).ok()?;
        // The folders that can be watched are.
        let _ = watched.renew().inspect_err(cannot_watch);
        Some(watched)
    }

    fn reload(&mut self, by_signal: bool) {
        let read = self.loaded.file.as_deref().and_then(|file| std::fs::read_to_string(file).ok());
        if !by_signal && read == self.read {
            return;
        }
        self.read = read;
        let loaded = config::load(self.loaded.file.as_deref(), self.common.data.as_deref(), std::env::vars());
        let loaded = match loaded {
            // Files that the settings name (lists, weights) are read anew on SIGHUP even when the settings are the same.
            Ok(loaded) if loaded.config == self.loaded.config && !by_signal => return,
            Ok(loaded) => loaded,
            Err(error) => return self.keep_old(&error.to_string()),
        };
        if let Err(error) = check::settings(&loaded.config) {
            return self.keep_old(&format!("{error:#}"));
        }
        // On SIGHUP the files of their secrets are read anew too.
        let telling = if by_signal || told(&self.loaded.config) != told(&loaded.config) {
            match tokio::task::block_in_place(|| self.tellers.draft(&loaded.config)) {
                Ok(draft) => Some(draft),
                Err(error) => return self.keep_old(&format!("{error:#}")),
            }
        } else {
            None
        };
        let (standing, rules) =
            match tokio::task::block_in_place(|| standing::build(&loaded.config, false, &self.outside)) {
                Ok(built) => built,
                Err(error) => return self.keep_old(&format!("{error:#}")),
            };
        let changes = secrets::changes(&self.loaded.config, &loaded.config);
        rules.log();
        self.pipeline.replace(standing);
        if let Some(draft) = telling {
            draft.take_effect();
        }
        if let Err(error) = self.levels.configure(&loaded.config.log.level) {
            tracing::warn!(event = event::SYSTEM, %error, "the log level could not be changed");
        }
        let live = |name: &str| LIVE.iter().any(|section| name.starts_with(section)) && !name.starts_with(WATCHED);
        let (live, waiting): (Vec<&String>, Vec<&String>) = changes.iter().partition(|change| live(change));
        tracing::info!(
            event = event::AUDIT,
            changed = ?live, policy_version = self.pipeline.standing().judge.version(), "configuration reloaded"
        );
        if !waiting.is_empty() {
            tracing::warn!(event = event::SYSTEM, waiting = ?waiting, "these settings take effect after a restart");
        }
        self.reloads.with_label_values(&["done"]).inc();
        self.loaded = loaded;
        self.keep_version();
    }

    fn keep_old(&self, error: &str) {
        self.reloads.with_label_values(&["refused"]).inc();
        observe::count("app", Category::Configuration);
        tracing::error!(
            event = event::AUDIT,
            error,
            "the new configuration cannot be used: the old one stays in effect, nothing was changed"
        );
    }

    /// Keeps a copy of the file that is in effect; a failure is logged and harms nothing.
    fn keep_version(&self) {
        if self.loaded.file.is_none() {
            return;
        }
        if let Err(error) = keep(&self.loaded.config.data.join("config"), &self.loaded.text) {
            tracing::warn!(event = event::SYSTEM, %error, "a copy of the configuration could not be kept");
        }
    }
}

/// What telling people depends on.
fn told(config: &Config) -> impl PartialEq + '_ {
    (&config.alerts, &config.actions, &config.enrichment.sender_auth.resolvers)
}

fn cannot_watch(error: &notify::Error) {
    tracing::warn!(
        event = event::SYSTEM,
        %error, "a folder on the way to the configuration cannot be watched: reload with SIGHUP"
    );
}

/// Copies may hold what is secret: only the gateway's user reads them.
fn keep(folder: &Path, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut versions: Vec<PathBuf> = std::fs::read_dir(folder)?.filter_map(|e| Some(e.ok()?.path())).collect();
    versions.sort();
    // Copies that were made with other rights.
    versions.iter().try_for_each(|kept| std::fs::set_permissions(kept, Permissions::from_mode(0o600)))?;
    if versions.last().is_some_and(|last| std::fs::read_to_string(last).is_ok_and(|kept| kept == text)) {
        return Ok(());
    }
    let millis = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut copy = OpenOptions::new();
    copy.write(true).create(true).truncate(true).mode(0o600);
    copy.open(folder.join(format!("{millis:016}.toml")))?.write_all(text.as_bytes())?;
    let surplus = (versions.len() + 1).saturating_sub(VERSIONS);
    versions.iter().take(surplus).try_for_each(std::fs::remove_file)
}

/// SIGHUP, from when this is first called: before that it ends the process, as it does with any.
pub(super) fn hangups() -> std::io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
}
