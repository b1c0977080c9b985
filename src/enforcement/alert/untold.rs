//! Notices that a channel has been given and has neither taken nor refused, nor let wait as a job.
//!
//! The board keeps them with what receivers were told: a gateway that ends, however it ends, tells them when it is back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::channels::ChannelName;
use super::notice::Notice;

/// A notice on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Undelivered {
    /// Who is told.
    pub channel: ChannelName,
    /// What.
    pub notice: Notice,
}

/// All notices on their way, in the order in which they were told. Shared; as many as the channels' queues hold.
#[derive(Debug, Clone, Default)]
pub struct Untold(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    kept: Mutex<Kept>,
    fewer: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    next: u64,
    notices: BTreeMap<u64, Undelivered>,
}

impl Untold {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a notice until it is [`Self::done`]; its number.
    pub(super) fn add(&self, channel: ChannelName, notice: &Notice) -> u64 {
        let mut kept = self.kept();
        let number = kept.next;
        kept.next += 1;
        kept.notices.insert(number, Undelivered { channel, notice: notice.clone() });
        number
    }

    /// What is left of a notice.
    pub(super) fn left(&self, number: u64, notice: &Notice) {
        if let Some(kept) = self.kept().notices.get_mut(&number) {
            kept.notice.clone_from(notice);
        }
    }

    /// It need not be kept any more.
    pub(super) fn done(&self, number: u64) {
        self.kept().notices.remove(&number);
        self.0.fewer.notify_one();
    }

    /// Waits until something need not be kept any more that had to be at the last call.
    pub async fn fewer(&self) {
        self.0.fewer.notified().await;
    }

    /// All of them with their numbers.
    pub(super) fn numbered(&self) -> Vec<(u64, Undelivered)> {
        self.kept().notices.iter().map(|(number, one)| (*number, one.clone())).collect()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Undelivered> {
        self.kept().notices.values().cloned().collect()
    }
}
