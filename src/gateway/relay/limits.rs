//! What a client may have: connections at a time, messages a minute, and a share of the memory for messages in hand.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::config::RelayConfig;

/// Bytes that one permit of the memory budget stands for.
const UNIT_BYTES: usize = 1024;

#[derive(Debug)]
pub(super) struct Limits {
    per_client: Arc<Mutex<HashMap<IpAddr, usize>>>,
    max_per_client: usize,
    rate: Option<DefaultKeyedRateLimiter<IpAddr>>,
    memory: Arc<Semaphore>,
}

/// One connection of a client; counts until dropped.
#[derive(Debug)]
pub(super) struct ClientSlot {
    address: IpAddr,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Limits {
    pub(super) fn new(config: &RelayConfig) -> Self {
        let units = (config.max_inflight_bytes / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            per_client: Arc::default(),
            max_per_client: config.max_connections_per_client,
            rate: NonZeroU32::new(config.messages_per_minute_per_client)
                .map(|messages| RateLimiter::keyed(Quota::per_minute(messages))),
            memory: Arc::new(Semaphore::new(units)),
        }
    }

    /// A slot for one connection of this client; `None` when it has too many.
    pub(super) fn connect(&self, address: IpAddr) -> Option<ClientSlot> {
        let mut counts = self.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_insert(0);
        if *count >= self.max_per_client {
            return None;
        }
        *count += 1;
        Some(ClientSlot { address, counts: self.per_client.clone() })
    }

    /// Whether this client may send one message more now.
    pub(super) fn may_send(&self, address: IpAddr) -> bool {
        self.rate.as_ref().is_none_or(|rate| rate.check_key(&address).is_ok())
    }

    /// Makes `held` cover `bytes` of content; `false` when there is no room.
    pub(super) fn cover(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> bool {
        let have = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let need = bytes.div_ceil(UNIT_BYTES);
        let Some(more) = need.checked_sub(have).filter(|more| *more > 0) else { return true };
        // In steps of 64 KiB, not for each read.
        let more = u32::try_from(more.max(64)).unwrap_or(u32::MAX);
        match (self.memory.clone().try_acquire_many_owned(more), held.as_mut()) {
            (Ok(permit), Some(held)) => held.merge(permit),
            (Ok(permit), None) => *held = Some(permit),
            (Err(_), _) => return false,
        }
        true
    }

    /// Forgets clients that have not sent for a while; to be called now and then.
    pub(super) fn forget_old(&self) {
        if let Some(rate) = &self.rate {
            rate.retain_recent();
        }
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_given_back() {
        let limits = Limits::new(&RelayConfig { max_connections_per_client: 2, ..Default::default() });
        let address = "192.0.2.1".parse().unwrap();
        let (one, two) = (limits.connect(address), limits.connect(address));
        assert!(one.is_some() && two.is_some() && limits.connect(address).is_none());
        assert!(limits.connect("192.0.2.2".parse().unwrap()).is_some());
        drop(one);
        assert!(limits.connect(address).is_some());
        drop(two);
        assert!(limits.per_client.lock().unwrap().is_empty());
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let limits = Limits::new(&RelayConfig { max_inflight_bytes: 200 * 1024, ..Default::default() });
        let (mut a, mut b) = (None, None);
        assert!(limits.cover(&mut a, 1) && limits.cover(&mut a, 64 * 1024) && limits.cover(&mut a, 100 * 1024));
        assert!(limits.cover(&mut b, 70 * 1024));
        assert!(!limits.cover(&mut b, 100 * 1024));
        drop(a);
        assert!(limits.cover(&mut b, 100 * 1024));
    }

    #[test]
    fn rate() {
        let limits = Limits::new(&RelayConfig { messages_per_minute_per_client: 2, ..Default::default() });
        let address = "192.0.2.1".parse().unwrap();
        assert!(limits.may_send(address) && limits.may_send(address) && !limits.may_send(address));
        assert!(limits.may_send("192.0.2.2".parse().unwrap()));
    }
}
