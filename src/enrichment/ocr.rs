//! Text in pictures, read by Tesseract when it is installed: one process a picture, bytes in by its standard input.
//!
//! Only in second looks. The program is named by the operator and gets no argument, file name or environment out of mail; it runs
//! nicely, with a bound on memory and processor time, and is killed at the deadline. Pictures beyond the limits are not read. A
//! picture that Tesseract refuses has no text; that it took too long is unknown.
#![allow(clippy::disallowed_methods)] // The one child process there is; see above for what reaches it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit, setpriority_process};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::OcrConfig;
use crate::analysis::{Fact, Why};
use crate::content;

/// The nicest.
const NICE: i32 = 19;
/// Pause between two looks at whether it is done.
const POLL: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Ocr {
    program: PathBuf,
    config: OcrConfig,
    gate: Arc<Semaphore>,
}

impl OcrConfig {
    /// The program, if it is wanted and there.
    pub fn program(&self) -> Option<PathBuf> {
        let runs = |path: &Path| {
            use std::os::unix::fs::PermissionsExt;
            path.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
        };
        if !self.enabled {
            return None;
        }
        if self.command.is_absolute() {
            return Some(self.command.clone()).filter(|path| runs(path));
        }
        let folders = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&folders).map(|folder| folder.join(&self.command)).find(|path| runs(path))
    }
}

impl Ocr {
    pub(super) fn find(config: &OcrConfig) -> Option<Self> {
        let program = config.program()?;
        Some(Self { program, config: config.clone(), gate: Arc::new(Semaphore::new(config.at_once.max(1))) })
    }

    pub(super) fn max_pictures(&self) -> usize {
        self.config.max_pictures
    }

    /// The text of a picture; none when it is no picture that is read.
    pub(super) async fn text(&self, picture: &[u8], until: Instant) -> Fact<Option<String>> {
        let most = Duration::from_millis(self.config.deadline_ms);
        let until = until.min(Instant::now() + most);
        let fits = picture.len() <= self.config.max_picture_bytes
            && content::picture_size(picture).is_some_and(|(width, height)| {
                let pixels = u64::from(width) * u64::from(height);
                width.min(height) >= self.config.min_side_pixels && pixels <= self.config.max_pixels
            });
        if !fits {
            return Fact::Known(None);
        }
        let Ok(Ok(leave)) = tokio::time::timeout_at(until, Arc::clone(&self.gate).acquire_owned()).await else {
            return Fact::Unknown(Why::Busy);
        };
        let run = Run { program: self.program.clone(), config: self.config.clone(), picture: picture.to_vec() };
        let read = tokio::task::spawn_blocking(move || {
            let _leave = leave;
            run.read(until)
        });
        read.await.unwrap_or(Fact::Unknown(Why::Malformed))
    }

    /// What it says of itself.
    pub(super) async fn version(&self) -> Result<String, std::io::Error> {
        let program = self.program.clone();
        let run = tokio::task::spawn_blocking(move || Command::new(&program).arg("--list-langs").output());
        let out = run.await.map_err(std::io::Error::other)??;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let known: Vec<&str> = text.lines().skip(1).map(str::trim).collect();
        let missing: Vec<&str> = self.config.languages.split('+').filter(|one| !known.contains(one)).collect();
        match missing.is_empty() {
            true => Ok(format!("{} reads {}", self.program.display(), self.config.languages)),
            false => Err(std::io::Error::other(format!("no data for {} is installed", missing.join(", ")))),
        }
    }
}

struct Run {
    program: PathBuf,
    config: OcrConfig,
    picture: Vec<u8>,
}

impl Run {
    /// Blocks until it is done or killed.
    fn read(self, until: Instant) -> Fact<Option<String>> {
        let mut command = Command::new(&self.program);
        command.args(["stdin", "stdout", "-l", &self.config.languages]).env_clear();
        // One thread each: several pictures are read at once already.
        command.env("OMP_THREAD_LIMIT", "1").env("LC_ALL", "C.UTF-8").current_dir("/");
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                tracing::warn!(%error, program = %self.program.display(), "text in pictures cannot be read");
                return Fact::Unknown(Why::Unreachable);
            }
        };
        self.bound(&child);
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (picture, most) = (self.picture, self.config.max_text_bytes as u64);
        let text = std::thread::scope(|scope| {
            // It may end before it has read all: then it refused the picture.
            scope.spawn(move || stdin.map(|mut to| to.write_all(&picture)));
            let read = scope.spawn(move || {
                let mut text = Vec::new();
                let mut from = stdout?;
                from.by_ref().take(most).read_to_end(&mut text).ok()?;
                std::io::copy(&mut from, &mut std::io::sink()).ok()?;
                Some(text)
            });
            let ended = wait(&mut child, until);
            (ended, read.join().ok().flatten())
        });
        match text {
            (None, _) => Fact::Unknown(Why::Timeout),
            (Some(true), Some(text)) => Fact::Known(Some(String::from_utf8_lossy(&text).trim().to_owned())),
            (Some(_), _) => Fact::Known(None),
        }
    }

    fn bound(&self, child: &Child) {
        let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
        let limit = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
        // What cannot be bound still ends at its deadline.
        let _ = setpriority_process(Some(pid), NICE);
        let _ = prlimit(Some(pid), Resource::As, limit(self.config.max_memory_bytes));
        let _ = prlimit(Some(pid), Resource::Cpu, limit(self.config.deadline_ms.div_ceil(1_000) + 1));
    }
}

/// Whether it ended well; `None`: it was killed at the deadline.
fn wait(child: &mut Child, until: Instant) -> Option<bool> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) if Instant::now() < until => std::thread::sleep(POLL),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}
