//! How many workers there should be: a machine without clock or threads. Time and load in, decision out.
//!
//! Up fast: the number doubles. Down slowly: by one, and only when there was little to do for a whole pause. After any change
//! the same pause passes before the next one, so that a change is seen to work before another is made.

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

/// The machine's memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scaling {
    changed_ms: Option<i64>,
    quiet_since_ms: Option<i64>,
}

impl Scaling {
    /// What is to be done now; `None`: nothing. A change that is given is taken as made.
    pub fn decide(&mut self, config: &ScalingConfig, now_ms: i64, load: &Load) -> Option<Change> {
        let bounded = load.workers.clamp(config.min, config.max);
        if bounded != load.workers {
            return Some(self.change(now_ms, bounded, Cause::Bounds));
        }
        let pause_ms = i64::try_from(config.cooldown_seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let over = |since: Option<i64>| since.is_none_or(|since| now_ms.saturating_sub(since) >= pause_ms);
        let pressure = pressure(config, load);
        let quiet = pressure.is_none() && config.mode != Mode::Manual && load.depth < config.down_depth;
        if !quiet {
            self.quiet_since_ms = None;
        } else if self.quiet_since_ms.is_none() {
            self.quiet_since_ms = Some(now_ms);
        }
        if !over(self.changed_ms) {
            return None;
        }
        if let Some(cause) = pressure {
            let to = load.workers.saturating_mul(2).min(config.max);
            return (to > load.workers).then(|| self.change(now_ms, to, cause));
        }
        let down = quiet && self.quiet_since_ms.is_some() && over(self.quiet_since_ms) && load.workers > config.min;
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
        self.changed_ms = Some(now_ms);
        Change { to, cause }
    }
}

/// Why there should be more workers.
fn pressure(config: &ScalingConfig, load: &Load) -> Option<Cause> {
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
        Load { depth, oldest_ms: oldest_seconds * 1_000, cpu_percent: Some(cpu), workers }
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
            waiting = (waiting + arriving - i64::from(workers) * 10).max(0);
            let load = Load { depth: waiting as u64, oldest_ms: 0, cpu_percent: None, workers };
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
            scaling.decide(&config, second * 1_000, &load(depth, 0, 0.0, 10)).map(|change| change.to)
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
}
