//! How many workers there should be: a machine without clock or threads. Time and load in, decision out.
//!
//! Up fast: the number doubles. Down slowly: by one, and only when for a whole pause little waited and those that would remain
//! had time to spare. After any change the same pause passes before the next one, so that a change is seen to work before
//! another is made. An empty queue alone says nothing: it is empty too while just enough workers are all busy, and one of
//! them less would fill it again.
//!
//! Many processes look at the same queue. So that they do not act in step, each draws its own share of `jitter_percent`.

use serde::{Deserialize, Serialize};

use super::ScalingConfig;

/// What the number of workers follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Orders only.
    Manual,
    /// How busy the machine is.
    Cpu,
    /// What waits, and for how long.
    Queue,
    /// Both.
    Hybrid,
}

/// What the decision is made from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Load {
    /// Jobs that could be claimed now.
    pub depth: u64,
    /// How long the oldest of them has waited, in milliseconds.
    pub oldest_ms: u64,
    /// How busy the machine is, in percent; unknown where the system does not say.
    pub cpu_percent: Option<f64>,
    /// Workers there are.
    pub workers: u32,
    /// How many of them were at work since the last measurement, on average.
    pub busy: f64,
}

/// Why the number of workers changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// More jobs wait than `up_depth`.
    Depth,
    /// A job has waited for longer than `up_age_seconds`.
    Age,
    /// The machine is busier than `up_cpu_percent`, and jobs wait.
    Cpu,
    /// There was little to do for a whole pause.
    Quiet,
    /// The number lay outside of min and max.
    Bounds,
    /// Somebody asked for it.
    Asked,
}

impl Cause {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Depth => "depth",
            Self::Age => "age",
            Self::Cpu => "cpu",
            Self::Quiet => "quiet",
            Self::Bounds => "bounds",
            Self::Asked => "asked",
        }
    }
}

/// A change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Workers from now on.
    pub to: u32,
    /// Why.
    pub cause: Cause,
}

/// The machine's memory. The default one has no jitter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scaling {
    changed_ms: Option<i64>,
    quiet_since_ms: Option<i64>,
    pressed_since_ms: Option<i64>,
    /// Workers at work, averaged over about a pause, and when that was taken.
    busy: Option<(i64, f64)>,
    /// State of the chance; `None`: none is left to it.
    dice: Option<u64>,
    /// This pause's share of the jitter, 0 to 1.
    share: f64,
}

impl Scaling {
    /// One with jitter of its own; `seed` tells it from those of other processes.
    pub fn new(seed: u64) -> Self {
        let mut new = Self { dice: Some(seed), ..Self::default() };
        new.share = new.draw();
        new
    }

    /// What is to be done now; `None`: nothing. A change that is given is taken as made.
    pub fn decide(&mut self, config: &ScalingConfig, now_ms: i64, load: &Load) -> Option<Change> {
        let cooldown_ms = config.cooldown_seconds.saturating_mul(1_000) as f64;
        let busy = self.average(now_ms, load.busy, cooldown_ms);
        let bounded = load.workers.clamp(config.min, config.max);
        if bounded != load.workers {
            return Some(self.change(now_ms, bounded, Cause::Bounds));
        }
        let jitter_ms = cooldown_ms * f64::from(config.jitter_percent) / 100.0 * self.share;
        let over = |since: Option<i64>, ms: f64| since.is_none_or(|since| now_ms.saturating_sub(since) as f64 >= ms);
        let pause_ms = cooldown_ms + jitter_ms;
        let pressure = pressure(config, load);
        let spare = busy < share(config.busy_percent) * f64::from(load.workers.saturating_sub(1));
        let quiet = pressure.is_none() && config.mode != Mode::Manual && load.depth < config.down_depth && spare;
        since(&mut self.quiet_since_ms, quiet, now_ms);
        since(&mut self.pressed_since_ms, pressure.is_some(), now_ms);
        if !over(self.changed_ms, pause_ms) {
            return None;
        }
        if let Some(cause) = pressure {
            let to = load.workers.saturating_mul(2).min(config.max);
            let due = to > load.workers && over(self.pressed_since_ms, jitter_ms);
            return due.then(|| self.change(now_ms, to, cause));
        }
        let down = quiet && over(self.quiet_since_ms, pause_ms) && load.workers > config.min;
        down.then(|| self.change(now_ms, load.workers - 1, Cause::Quiet))
    }

    /// Somebody changed the number: the pause begins.
    pub(super) fn asked(&mut self, now_ms: i64, to: u32) -> Change {
        self.change(now_ms, to, Cause::Asked)
    }

    fn change(&mut self, now_ms: i64, to: u32, cause: Cause) -> Change {
        // The quiet goes on through steps down, each of which waits for its pause; anything else begins it anew.
        if cause != Cause::Quiet {
            self.quiet_since_ms = None;
        }
        self.pressed_since_ms = None;
        self.changed_ms = Some(now_ms);
        self.share = self.draw();
        Change { to, cause }
    }

    /// The running mean: what is older than a pause counts for little.
    fn average(&mut self, now_ms: i64, busy: f64, over_ms: f64) -> f64 {
        let mean = match self.busy {
            None => busy,
            Some((at_ms, mean)) => {
                let past_ms = now_ms.saturating_sub(at_ms).max(0) as f64;
                mean + (busy - mean) * (1.0 - (-past_ms / over_ms.max(1.0)).exp())
            }
        };
        self.busy = Some((now_ms, mean));
        mean
    }

    /// The next number of the chance, 0 to 1 (splitmix64).
    fn draw(&mut self) -> f64 {
        let Some(state) = &mut self.dice else { return 0.0 };
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Since when something has been so.
fn since(at: &mut Option<i64>, so: bool, now_ms: i64) {
    *at = so.then(|| at.unwrap_or(now_ms));
}

fn share(percent: u32) -> f64 {
    f64::from(percent) / 100.0
}

/// Why there should be more workers. More of them help only when those there are have no time to spare: half way between what
/// those that remain may be and wholly busy.
fn pressure(config: &ScalingConfig, load: &Load) -> Option<Cause> {
    if load.busy < (share(config.busy_percent) + 1.0) / 2.0 * f64::from(load.workers) {
        return None;
    }
    let by_queue = matches!(config.mode, Mode::Queue | Mode::Hybrid);
    let by_cpu = matches!(config.mode, Mode::Cpu | Mode::Hybrid);
    if by_queue && load.depth > config.up_depth {
        return Some(Cause::Depth);
    }
    if by_queue && load.oldest_ms > config.up_age_seconds.saturating_mul(1_000) {
        return Some(Cause::Age);
    }
    let busy = load.cpu_percent.is_some_and(|percent| percent > f64::from(config.up_cpu_percent));
    (by_cpu && busy && load.depth > 0).then_some(Cause::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(depth: u64, oldest_seconds: u64, cpu: f64, workers: u32) -> Load {
        let busy = if depth > 0 { f64::from(workers) } else { 0.0 };
        Load { depth, oldest_ms: oldest_seconds * 1_000, cpu_percent: Some(cpu), workers, busy }
    }

    fn config(mode: Mode) -> ScalingConfig {
        ScalingConfig { mode, ..ScalingConfig::default() }
    }

    #[test]
    fn each_mode_follows_what_it_says() {
        use Cause::{Age, Cpu, Depth};
        let cases = [
            (Mode::Queue, load(51, 0, 0.0, 2), Some((4, Depth))),
            (Mode::Queue, load(50, 0, 99.0, 2), None),
            (Mode::Queue, load(1, 31, 0.0, 3), Some((6, Age))),
            (Mode::Cpu, load(1_000, 900, 70.0, 2), None),
            (Mode::Cpu, load(1, 0, 71.0, 2), Some((4, Cpu))),
            (Mode::Cpu, load(0, 0, 100.0, 2), None),
            (Mode::Hybrid, load(51, 31, 99.0, 12), Some((20, Depth))),
            (Mode::Hybrid, load(20, 0, 71.0, 2), Some((4, Cpu))),
            (Mode::Hybrid, load(1_000, 900, 100.0, 20), None),
            (Mode::Manual, load(1_000, 900, 100.0, 2), None),
            (Mode::Hybrid, Load { cpu_percent: None, ..load(20, 0, 0.0, 2) }, None),
            // Workers that have time to spare are not what is missing.
            (Mode::Hybrid, Load { busy: 1.7, ..load(51, 31, 99.0, 2) }, None),
            (Mode::Hybrid, Load { busy: 1.9, ..load(51, 31, 99.0, 2) }, Some((4, Depth))),
        ];
        for (mode, load, expected) in cases {
            let found = Scaling::default().decide(&config(mode), 0, &load).map(|c| (c.to, c.cause));
            assert_eq!(found, expected, "{mode:?} {load:?}");
        }
    }

    /// Jobs come in a step; each worker does ten a second. Up in doubling steps, never thrashing, and back to the least.
    #[test]
    fn a_step_of_load() {
        let config = config(Mode::Queue);
        let (mut scaling, mut workers, mut waiting) = (Scaling::default(), config.min, 0_i64);
        let mut steps = Vec::new();
        for second in 0..1_800_i64 {
            let arriving = if (60..600).contains(&second) { 130 } else { 1 };
            let done = (waiting + arriving).min(i64::from(workers) * 10);
            waiting += arriving - done;
            let load =
                Load { depth: waiting as u64, oldest_ms: 0, cpu_percent: None, workers, busy: done as f64 / 10.0 };
            if let Some(change) = scaling.decide(&config, second * 1_000, &load) {
                steps.push((second, workers, change.to));
                workers = change.to;
            }
        }
        let up: Vec<(u32, u32)> = steps.iter().take(4).map(|(_, from, to)| (*from, *to)).collect();
        assert_eq!(up, [(2, 4), (4, 8), (8, 16), (16, 20)]);
        assert!(steps.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 30), "a pause between any two: {steps:?}");
        let turns = steps.windows(2).filter(|pair| (pair[0].2 > pair[0].1) != (pair[1].2 > pair[1].1)).count();
        assert!(turns <= 3, "it thrashes: {steps:?}");
        assert_eq!(workers, config.min);
    }

    #[test]
    fn down_only_after_a_quiet_pause() {
        let config = config(Mode::Queue);
        let mut scaling = Scaling::default();
        let mut at = |second: i64, depth| {
            let load = Load { busy: 1.0, ..load(depth, 0, 0.0, 10) };
            scaling.decide(&config, second * 1_000, &load).map(|change| change.to)
        };
        assert_eq!(at(0, 0), None, "quiet begins");
        assert_eq!(at(29, 9), None);
        assert_eq!(at(30, 9), Some(9));
        assert_eq!(at(59, 0), None, "cooldown");
        assert_eq!(at(60, 10), None, "not quiet");
        assert_eq!(at(61, 0), None, "quiet begins anew");
        assert_eq!(at(90, 0), None);
        assert_eq!(at(91, 0), Some(9));
    }

    #[test]
    fn bounds_and_orders() {
        let mut scaling = Scaling::default();
        let config = config(Mode::Manual);
        assert_eq!(scaling.decide(&config, 0, &load(0, 0, 0.0, 0)), Some(Change { to: 2, cause: Cause::Bounds }));
        assert_eq!(scaling.decide(&config, 0, &load(0, 0, 0.0, 30)), Some(Change { to: 20, cause: Cause::Bounds }));
        assert_eq!(scaling.asked(1, 7), Change { to: 7, cause: Cause::Asked });
        assert_eq!(scaling.decide(&config, 1_000_000, &load(0, 0, 0.0, 7)), None, "manual stays");
    }

    /// As much work all the time, with an empty queue: as many workers as have it done with time to spare, and no change after.
    #[test]
    fn flat_load_settles() {
        let config = config(Mode::Queue);
        for (work, expected) in [(3.5, 5), (1.0, 2), (3.1, 4), (3.3, 5), (15.0, 19)] {
            let (mut scaling, mut workers, mut changed) = (Scaling::default(), 20, 0);
            for second in 0..86_400_i64 {
                let load = Load { depth: 0, oldest_ms: 0, cpu_percent: None, workers, busy: work };
                if let Some(change) = scaling.decide(&config, second * 1_000, &load) {
                    assert!(change.to < workers, "{work}: up from {workers}");
                    (workers, changed) = (change.to, second);
                }
            }
            assert_eq!(workers, expected, "{work}");
            assert!(changed < 20 * 40, "{work}: still changing after {changed} s");
        }
    }

    /// Two processes that see the same act at different times; a pause is never shorter than the setting.
    #[test]
    fn not_in_step() {
        let config = config(Mode::Queue);
        let times = |mut scaling: Scaling| -> Vec<i64> {
            let (mut workers, mut times) = (20, Vec::new());
            for ms in (0..900_000).step_by(100) {
                let load = Load { busy: 0.0, ..load(0, 0, 0.0, workers) };
                if let Some(change) = scaling.decide(&config, ms, &load) {
                    workers = change.to;
                    times.push(ms);
                }
            }
            times
        };
        let (one, other) = (times(Scaling::new(1)), times(Scaling::new(2)));
        assert_eq!((one.len(), other.len()), (18, 18));
        assert!(one.iter().zip(&other).filter(|(one, other)| one == other).count() < 3, "{one:?} {other:?}");
        for times in [one, other] {
            assert!(times.windows(2).all(|pair| (30_000..=37_600).contains(&(pair[1] - pair[0]))), "{times:?}");
        }
    }
}
