//! Counts over the last so many seconds, in ten steps: what is older than the window is forgotten step by step.
//!
//! Pure: `now` is an argument. The oldest step counts whole, so a window never forgets too early. Counts saturate.

use std::time::Duration;

use tokio::time::Instant;

const STEPS: usize = 10;

/// Good and bad counts of a sliding window.
#[derive(Debug, Clone)]
pub struct Window {
    step: Duration,
    begun: Option<Instant>,
    /// Number of the newest step since `begun`.
    newest: u64,
    counts: [(u32, u32); STEPS],
}

impl Window {
    /// An empty window of this length; at least 10 ms.
    pub fn new(length: Duration) -> Self {
        let step = (length / STEPS as u32).max(Duration::from_millis(1));
        Self { step, begun: None, newest: 0, counts: [(0, 0); STEPS] }
    }

    /// Counts one.
    pub fn add(&mut self, good: bool, now: Instant) {
        self.turn(now);
        let (ok, bad) = &mut self.counts[(self.newest % STEPS as u64) as usize];
        let count = if good { ok } else { bad };
        *count = count.saturating_add(1);
    }

    /// Good and bad ones within the window.
    pub fn counts(&mut self, now: Instant) -> (u32, u32) {
        self.turn(now);
        self.counts.iter().fold((0u32, 0u32), |(a, b), (ok, bad)| (a.saturating_add(*ok), b.saturating_add(*bad)))
    }

    /// Time until the oldest step that holds something is forgotten; zero when nothing is held.
    pub fn forgets_in(&mut self, now: Instant) -> Duration {
        self.turn(now);
        let Some(begun) = self.begun else { return Duration::ZERO };
        let oldest = self.newest.saturating_sub(STEPS as u64 - 1);
        let held = (oldest..=self.newest).find(|step| self.counts[(step % STEPS as u64) as usize] != (0, 0));
        let Some(held) = held else { return Duration::ZERO };
        let ends = self.step.saturating_mul(u32::try_from(held + STEPS as u64).unwrap_or(u32::MAX));
        (begun + ends).saturating_duration_since(now)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.begun = None;
        self.newest = 0;
        self.counts = [(0, 0); STEPS];
    }

    fn turn(&mut self, now: Instant) {
        let begun = *self.begun.get_or_insert(now);
        let passed = now.saturating_duration_since(begun).as_nanos() / self.step.as_nanos();
        let step = u64::try_from(passed).unwrap_or(u64::MAX);
        let turned = step.saturating_sub(self.newest);
        for behind in 0..turned.min(STEPS as u64) {
            self.counts[((step - behind) % STEPS as u64) as usize] = (0, 0);
        }
        self.newest = self.newest.max(step);
        // Step numbers stay small: a window that was empty for long begins anew.
        if turned >= STEPS as u64 {
            self.begun = Some(now);
            self.newest = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_old_is_forgotten_step_by_step() {
        let start = Instant::now();
        let mut window = Window::new(seconds(10));
        window.add(true, start);
        window.add(false, start + seconds(5));
        assert_eq!(window.counts(start + seconds(9)), (1, 1));
        assert_eq!(window.forgets_in(start + seconds(9)), seconds(1));
        assert_eq!(window.counts(start + seconds(10)), (0, 1));
        assert_eq!(window.forgets_in(start + seconds(10)), seconds(5));
        assert_eq!(window.counts(start + seconds(15)), (0, 0));
        assert_eq!(window.forgets_in(start + seconds(15)), Duration::ZERO);
        window.add(false, start + seconds(1_000));
        assert_eq!(window.counts(start + seconds(1_009)), (0, 1));
        window.clear();
        assert_eq!(window.counts(start + seconds(1_009)), (0, 0));
    }

    proptest! {
        /// Against a list of times: what is younger than nine tenths is always counted, what is older than the whole never.
        #[test]
        fn agrees_with_a_list(gaps in prop::collection::vec((0u64..4_000, any::<bool>()), 1..200)) {
            let start = Instant::now();
            let mut window = Window::new(seconds(10));
            let (mut at, mut list) = (0, Vec::new());
            for (gap, good) in gaps {
                at += gap;
                let now = start + Duration::from_millis(at);
                window.add(good, now);
                list.push((at, good));
                let within = |length: u64| {
                    list.iter().filter(|(then, _)| at - then < length).fold((0, 0), |(a, b), (_, good)| match good {
                        true => (a + 1, b),
                        false => (a, b + 1),
                    })
                };
                let (ok, bad) = window.counts(now);
                let (least, most) = (within(9_000), within(10_000));
                prop_assert!(least.0 <= ok && ok <= most.0, "{least:?} {ok} {most:?}");
                prop_assert!(least.1 <= bad && bad <= most.1, "{least:?} {bad} {most:?}");
            }
        }
    }
}
