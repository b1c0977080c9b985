//! What is known of alerts outside the process that watches: files in `DATA/alerts`.
//!
//! Files, not the database: it is one of the things that are watched. `state.json` (what fires, what was told, what is not yet
//! delivered) and `counts.json` (what counts over an hour or a day) are replaced at each look; `node` is our id; each order is a
//! file of its own, so that whoever orders and whoever reads never write the same one.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::machine::Alert;
use super::measure::Memory;
use super::order::{Order, random_id};
use super::untold::Undelivered;
use crate::observe::event;

/// Orders read; more are not looked at.
const ORDERS: usize = 1_000;
/// Largest file read.
const MAX_BYTES: u64 = 64 << 20;
/// Changes in notices that are kept; those told first beyond that are not.
const UNTOLD_LINES: usize = 10_000;

/// A file of alerts could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {file}")]
pub struct BoardError {
    what: &'static str,
    file: PathBuf,
    #[source]
    source: io::Error,
}

/// What a look found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BoardState {
    /// The gateway, by its name for people.
    pub node: String,
    /// What no other gateway has.
    #[serde(default)]
    pub node_id: String,
    /// When it looked, milliseconds since 1970.
    pub at_ms: i64,
    /// The same moment by the steady clock of its process.
    #[serde(default)]
    pub steady_ms: i64,
    /// How often it looks.
    pub every_seconds: u32,
    /// Everything that is watched.
    pub alerts: Vec<Alert>,
    /// What is not watched, for there is no reading of it.
    pub unread: Vec<Kind>,
    /// What was told, and not every channel has taken yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<Undelivered>,
}

/// The files.
#[derive(Debug, Clone)]
pub struct Board {
    folder: PathBuf,
}

impl Board {
    /// In the folder of data.
    pub fn new(data: &Path) -> Self {
        Self { folder: data.join("alerts") }
    }

    /// What tells this gateway from all others, whatever their names: 16 hexadecimal digits, made once.
    ///
    /// # Errors
    /// When it can neither be read nor made.
    pub fn node_id(&self) -> Result<String, BoardError> {
        let file = self.folder.join("node");
        let failed = |what| move |source| BoardError { what, file: self.folder.join("node"), source };
        match read(&file) {
            Ok(text) => {
                let id = String::from_utf8_lossy(&text).trim().to_owned();
                if id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Ok(id);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read")(error)),
        }
        let id = random_id().map_err(|_| failed("make")(io::Error::other("no random numbers")))?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(failed("make"))?;
        fs::write(&file, &id).map_err(failed("write"))?;
        Ok(id)
    }

    /// What the last look found; `None` before the first.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn state(&self) -> Result<Option<BoardState>, BoardError> {
        let file = self.folder.join("state.json");
        let failed = |source| BoardError { what: "read", file: file.clone(), source };
        match read(&file) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| failed(io::Error::other(e))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Replaces it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, state: &BoardState) -> Result<(), BoardError> {
        self.replace(&self.folder.join("state.json"), state)
    }

    /// Replaces what of it is on its way to channels.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn keep_untold(&self, untold: Vec<Undelivered>) -> Result<(), BoardError> {
        let Some(state) = self.state()? else { return Ok(()) };
        if state.untold == untold { Ok(()) } else { self.write(&BoardState { untold: bounded(untold), ..state }) }
    }

    /// What was counted at the last look; nothing before the first.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub(super) fn memory(&self) -> Result<Memory, BoardError> {
        let file = self.folder.join("counts.json");
        let text = match read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Memory::default()),
            Err(source) => return Err(BoardError { what: "read", file, source }),
        };
        serde_json::from_slice(&text).map_err(|e| BoardError { what: "read", file, source: io::Error::other(e) })
    }

    /// Replaces it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn remember(&self, memory: &Memory) -> Result<(), BoardError> {
        self.replace(&self.folder.join("counts.json"), memory)
    }

    /// All orders that still hold. Those that are over are removed, those that cannot be read passed over.
    pub fn orders(&self, now_ms: i64) -> Vec<Order> {
        let Ok(entries) = fs::read_dir(self.folder.join("orders")) else { return Vec::new() };
        let mut orders = Vec::new();
        for entry in entries.flatten().take(ORDERS) {
            let file = entry.path();
            if file.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&file).map(|text| serde_json::from_slice::<Order>(&text)) {
                Ok(Ok(order)) if order.until_ms <= now_ms => drop(fs::remove_file(&file)),
                Ok(Ok(order)) => orders.push(order),
                Ok(Err(error)) => {
                    tracing::warn!(
                        event = event::SYSTEM,
                        file = %file.display(), %error, "an order about alerts is not understood"
                    )
                }
                Err(error) => tracing::warn!(
                    event = event::SYSTEM,
                    file = %file.display(), %error, "an order about alerts cannot be read"
                ),
            }
        }
        orders.sort_by(|a: &Order, b: &Order| (a.until_ms, &a.id).cmp(&(b.until_ms, &b.id)));
        orders
    }

    /// Adds an order; it counts from the next look on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&self, order: &Order) -> Result<(), BoardError> {
        self.replace(&self.order_file(&order.id), order)
    }

    /// Removes an order; says whether there was one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, id: &str) -> Result<bool, BoardError> {
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(false);
        }
        let file = self.order_file(id);
        match fs::remove_file(&file) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(BoardError { what: "remove", file, source }),
        }
    }

    fn order_file(&self, id: &str) -> PathBuf {
        self.folder.join("orders").join(format!("{id}.json"))
    }

    /// Whole or not at all.
    fn replace(&self, file: &Path, value: &impl Serialize) -> Result<(), BoardError> {
        let write = || {
            let orders = self.folder.join("orders");
            fs::DirBuilder::new().recursive(true).mode(0o700).create(orders)?;
            let draft = file.with_extension(format!("new{}", std::process::id()));
            let new = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            serde_json::to_writer(io::BufWriter::new(new), value)?;
            fs::rename(&draft, file)
        };
        write().map_err(|source| BoardError { what: "write", file: file.to_owned(), source })
    }
}

/// The newest, as many as the file may hold.
pub(super) fn bounded(mut untold: Vec<Undelivered>) -> Vec<Undelivered> {
    let mut lines = 0;
    let fits = untold.iter().rev().take_while(|one| {
        lines += one.notice.lines.len();
        lines <= UNTOLD_LINES
    });
    let surplus = untold.len() - fits.count();
    untold.drain(..surplus);
    untold
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    use io::Read;
    let mut text = Vec::new();
    fs::File::open(file)?.take(MAX_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::new(folder.path());
        assert!(board.orders(0).is_empty() && board.state().unwrap().is_none());
        let long = Order::silence("*", 10, "ann", "works", 0).unwrap();
        let short = Order::silence("disk:data", 1, "bob", "", 0).unwrap();
        board.add(&long).unwrap();
        board.add(&short).unwrap();
        fs::write(folder.path().join("alerts/orders/x.json"), "?").unwrap();
        assert_eq!(board.orders(0), [short.clone(), long.clone()]);
        assert_eq!(board.orders(60_000), std::slice::from_ref(&long));
        assert!(!board.remove(&short.id).unwrap(), "over");
        assert!(!board.remove("../../state").unwrap());
        assert!(board.remove(&long.id).unwrap());
        assert!(board.orders(0).is_empty());
        for wrong in ["", "disks", "disk*"] {
            assert!(Order::silence(wrong, 1, "", "", 0).is_err(), "{wrong}");
        }
        assert!(Order::silence("*", 0, "", "", 0).is_err());
    }
}
