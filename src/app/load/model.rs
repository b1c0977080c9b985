//! The model: gateways, queue and workers in steps of time. No clock, no threads; a seed decides the chance.
//!
//! Messages of a step arrive together (Poisson), so the work of the model does not grow with the rate: a step touches one
//! cohort of waiting jobs and at most one completion for each of the 64 service times that stand for their distribution.
//! A job occupies a worker for its time; a time that is no whole number of steps is rounded up or down by chance, so that
//! the mean is right. The number of workers of each process follows the product's own scaling machine, asked once a second
//! as the product does; the work is spread over processes as their workers are. What the model leaves out: failures, retries, priorities, the pump of the outbox (it adds up to `queue.pump_ms`).

use std::collections::VecDeque;

use super::cli::Times;
use super::dice::Dice;
use super::figures::Histogram;
use crate::deferred::{Load, Scaling, ScalingConfig};

/// Service times that stand for all of them; each is equally likely.
const CLASSES: usize = 64;
/// Cohorts of waiting jobs; beyond that neighbours become one, and the younger of them looks older than it is.
const COHORTS: usize = 100_000;
/// How often the load is measured, in milliseconds, as the pool does.
const MEASURE_MS: u64 = 1_000;
/// Over how long the need of gateways is averaged, in milliseconds.
const GATEWAY_MS: u64 = 60_000;

/// Times that a job takes, in milliseconds.
#[derive(Debug, Clone)]
pub(super) struct Service([f64; CLASSES]);

impl Service {
    pub(super) fn new(times: Times) -> Self {
        let class = |at: usize| (at as f64 + 0.5) / CLASSES as f64;
        Self(std::array::from_fn(|at| match times {
            Times::Mean(mean) => mean,
            Times::Quantiles(known) => between(known, class(at)),
        }))
    }

    pub(super) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / CLASSES as f64
    }

    /// One of them.
    pub(super) fn draw(&self, dice: &mut Dice) -> f64 {
        self.0[dice.below(CLASSES)]
    }
}

/// A straight line from half the median at 0 through the median, the 95th and the 99th percentile, level from there on.
fn between([p50, p95, p99]: [f64; 3], share: f64) -> f64 {
    let line = |from: (f64, f64), to: (f64, f64)| from.1 + (to.1 - from.1) * (share - from.0) / (to.0 - from.0);
    match share {
        share if share < 0.5 => line((0.0, p50 / 2.0), (0.5, p50)),
        share if share < 0.95 => line((0.5, p50), (0.95, p95)),
        share if share < 0.99 => line((0.95, p95), (0.99, p99)),
        _ => p99,
    }
}

/// What is modelled.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) tick_ms: u64,
    pub(super) ticks: u64,
    /// Share of messages that become jobs.
    pub(super) looked_again: f64,
    pub(super) service: Service,
    /// Share of the service time that takes CPU.
    pub(super) cpu_share: f64,
    /// A job is ended after this, in milliseconds.
    pub(super) hard_ms: u64,
    pub(super) processes: u32,
    pub(super) worker_cores: u32,
    pub(super) scaling: ScalingConfig,
    /// Jobs that a process claims ahead.
    pub(super) prefetch: u64,
    /// Pause before an empty queue is asked again.
    pub(super) idle_ms: u64,
    /// Jobs that the queue takes through their life in a second.
    pub(super) queue_per_second: f64,
    /// Time that putting into the queue and claiming takes a job.
    pub(super) queue_ms: f64,
    pub(super) gateway_cpu_ms: f64,
    pub(super) gateway_cores: u32,
    /// How busy a gateway may be, as a share.
    pub(super) busy: f64,
    pub(super) seed: u64,
}

/// Least, mean and most of something over time.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(super) struct Range {
    pub(super) min: f64,
    pub(super) mean: f64,
    pub(super) peak: f64,
    #[serde(skip)]
    count: u64,
}

impl Range {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1;
        self.min = if self.count == 1 { value } else { self.min.min(value) };
        self.peak = self.peak.max(value);
        self.mean += (value - self.mean) / self.count as f64;
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) messages: u64,
    pub(super) jobs: u64,
    pub(super) started: u64,
    /// Jobs that wait at the end.
    pub(super) left: u64,
    /// How long jobs waited, in microseconds.
    pub(super) age: Histogram,
    pub(super) depth_peak: u64,
    /// Workers, all processes together.
    pub(super) workers: Range,
    /// Gateways needed, over a minute each.
    pub(super) gateways: Range,
    /// Share of the workers' time in which they work.
    pub(super) utilisation: f64,
    /// Cores that workers keep busy, on average.
    pub(super) worker_cores: f64,
    /// Changes of the number of workers, all processes together.
    pub(super) scalings: u64,
    /// Changes of direction in the process that has the most of them.
    pub(super) turns: u64,
}

/// The workers of one process.
struct Crew {
    scaling: Scaling,
    workers: u32,
    last_up: Option<bool>,
    turns: u64,
}

struct Run<'a> {
    site: &'a Site,
    dice: Dice,
    /// Jobs that end, by tick modulo its length.
    ends: Vec<u64>,
    /// Jobs that wait: tick of arrival and number.
    waiting: VecDeque<(u64, u64)>,
    depth: u64,
    running: u64,
    crews: Vec<Crew>,
    /// In all of them.
    workers: u32,
    /// Jobs at work in each step since the last measurement, summed up, and steps.
    at_work: (u64, u64),
    asleep_until_ms: f64,
    /// Jobs that the queue may still hand out in this tick.
    credit: f64,
    busy_ms: f64,
    out: Outcome,
}

/// Runs the model. `rate` gives messages a second at a millisecond.
pub(super) fn run(site: &Site, rate: impl Fn(u64) -> f64) -> Outcome {
    let longest = (site.hard_ms / site.tick_ms.max(1)) as usize + 2;
    let mut run = Run {
        site,
        dice: Dice::new(site.seed),
        ends: vec![0; longest],
        waiting: VecDeque::new(),
        depth: 0,
        running: 0,
        crews: (0..u64::from(site.processes)).map(|at| Crew::new(site, at)).collect(),
        workers: site.scaling.min.saturating_mul(site.processes),
        at_work: (0, 0),
        asleep_until_ms: 0.0,
        credit: 0.0,
        busy_ms: 0.0,
        out: Outcome::default(),
    };
    let mut minute = 0u64;
    let minute_ms = GATEWAY_MS.min(site.ticks * site.tick_ms).max(1);
    let seconds = site.tick_ms as f64 / 1_000.0;
    for tick in 0..site.ticks {
        let now_ms = tick * site.tick_ms;
        let slot = (tick % longest as u64) as usize;
        run.running -= std::mem::take(&mut run.ends[slot]);
        let messages = run.dice.poisson(rate(now_ms) * seconds);
        minute += messages;
        run.arrive(tick, messages);
        run.work(tick, now_ms as f64);
        run.at_work = (run.at_work.0 + run.running, run.at_work.1 + 1);
        if now_ms % MEASURE_MS < site.tick_ms {
            run.out.workers.add(f64::from(run.workers));
            run.scale(tick, now_ms);
        }
        if (now_ms + site.tick_ms) % minute_ms < site.tick_ms {
            let cores = minute as f64 / (minute_ms as f64 / 1_000.0) * site.gateway_cpu_ms / 1_000.0;
            let each = f64::from(site.gateway_cores) * site.busy;
            run.out.gateways.add((cores / each).ceil().max(1.0));
            minute = 0;
        }
    }
    run.finish()
}

impl Crew {
    fn new(site: &Site, at: u64) -> Self {
        let seed = site.seed.wrapping_add(at.wrapping_mul(0x9e37_79b9));
        Self { scaling: Scaling::new(seed), workers: site.scaling.min, last_up: None, turns: 0 }
    }
}

impl Run<'_> {
    fn arrive(&mut self, tick: u64, messages: u64) {
        self.out.messages += messages;
        let jobs = self.dice.binomial(messages, self.site.looked_again);
        if jobs == 0 {
            return;
        }
        self.out.jobs += jobs;
        self.depth += jobs;
        self.waiting.push_back((tick, jobs));
        self.out.depth_peak = self.out.depth_peak.max(self.depth);
        if self.waiting.len() > COHORTS {
            let all = std::mem::take(&mut self.waiting);
            let mut all = all.into_iter();
            while let Some((at, count)) = all.next() {
                self.waiting.push_back((at, count + all.next().map_or(0, |(_, count)| count)));
            }
        }
    }

    fn work(&mut self, tick: u64, now_ms: f64) {
        let site = self.site;
        let each = site.queue_per_second * site.tick_ms as f64 / 1_000.0;
        self.credit = (self.credit + each).min(each.max(1.0));
        if now_ms < self.asleep_until_ms {
            return;
        }
        if self.depth == 0 {
            self.asleep_until_ms = now_ms + site.idle_ms as f64 / f64::from(site.processes);
            return;
        }
        loop {
            let all = u64::from(self.workers);
            let count = all.saturating_sub(self.running).min(self.depth).min(self.credit as u64);
            if count == 0 {
                return;
            }
            self.credit -= count as f64;
            self.take(tick, count);
            self.start(tick, count);
        }
    }

    /// The oldest so many jobs wait no longer.
    fn take(&mut self, tick: u64, count: u64) {
        self.depth -= count;
        self.out.started += count;
        let mut left = count;
        while left > 0
            && let Some((at, jobs)) = self.waiting.front_mut()
        {
            let some = left.min(*jobs);
            // Within their tick jobs arrive evenly.
            let waited_ms = ((tick - *at) as f64 + 0.5) * self.site.tick_ms as f64 + self.site.queue_ms;
            self.out.age.add_many((waited_ms * 1_000.0) as u64, some);
            *jobs -= some;
            left -= some;
            if *jobs == 0 {
                self.waiting.pop_front();
            }
        }
    }

    fn start(&mut self, tick: u64, count: u64) {
        let site = self.site;
        // With more to compute than there are cores, all of it takes longer.
        let cores = f64::from(site.processes) * f64::from(site.worker_cores);
        let crowded = ((self.running + count) as f64 * site.cpu_share / cores).max(1.0);
        let stretch = 1.0 - site.cpu_share + site.cpu_share * crowded;
        let (each, rest) = (count / CLASSES as u64, count % CLASSES as u64);
        if each > 0 {
            for class in 0..CLASSES {
                self.occupy(tick, each, site.service.0[class] * stretch);
            }
        }
        for _ in 0..rest {
            let time = site.service.draw(&mut self.dice) * stretch;
            self.occupy(tick, 1, time);
        }
    }

    /// So many workers work for so long.
    fn occupy(&mut self, tick: u64, count: u64, time_ms: f64) {
        let time_ms = time_ms.min(self.site.hard_ms as f64);
        self.busy_ms += time_ms * count as f64;
        let ticks = time_ms / self.site.tick_ms as f64;
        let longer = self.dice.binomial(count, ticks.fract());
        for (ticks, count) in [(ticks as u64, count - longer), (ticks as u64 + 1, longer)] {
            if ticks > 0 && count > 0 {
                let slot = ((tick + ticks) % self.ends.len() as u64) as usize;
                self.ends[slot] += count;
                self.running += count;
            }
        }
    }

    /// Each process measures and decides.
    fn scale(&mut self, tick: u64, now_ms: u64) {
        let seen = self.load(tick);
        for crew in &mut self.crews {
            let busy = seen.busy * f64::from(crew.workers) / f64::from(self.workers.max(1));
            let load = Load { workers: crew.workers, busy, ..seen };
            if let Some(change) = crew.scaling.decide(&self.site.scaling, now_ms as i64, &load) {
                let up = change.to > crew.workers;
                crew.turns += u64::from(crew.last_up.replace(up).is_some_and(|before| before != up));
                crew.workers = change.to;
                self.out.scalings += 1;
            }
        }
        self.workers = self.crews.iter().map(|crew| crew.workers).sum();
    }

    /// What a pool would measure, with the workers of all: what they have claimed ahead is not in the queue any more.
    fn load(&mut self, tick: u64) -> Load {
        let site = self.site;
        let ahead = site.prefetch * u64::from(site.processes);
        let depth = self.depth.saturating_sub(ahead);
        let oldest = self.waiting.front().filter(|_| depth > 0).map_or(0, |(at, _)| (tick - at) * site.tick_ms);
        let cores = f64::from(site.processes) * f64::from(site.worker_cores);
        let cpu = (self.running as f64 * site.cpu_share / cores * 100.0).min(100.0);
        let (worked, steps) = std::mem::take(&mut self.at_work);
        let busy = worked as f64 / steps.max(1) as f64;
        Load { depth, oldest_ms: oldest, cpu_percent: Some(cpu), workers: self.workers, busy }
    }

    fn finish(mut self) -> Outcome {
        let site = self.site;
        let span_ms = (site.ticks * site.tick_ms) as f64;
        let there = self.out.workers.mean * span_ms;
        self.out.utilisation = if there > 0.0 { (self.busy_ms / there).min(1.0) } else { 0.0 };
        self.out.worker_cores = self.busy_ms * site.cpu_share / span_ms.max(1.0);
        self.out.left = self.depth;
        self.out.turns = self.crews.iter().map(|crew| crew.turns).max().unwrap_or(0);
        self.out
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::deferred::Mode;

    pub(in crate::app::load) fn site(workers: u32, service_ms: f64, seconds: u64) -> Site {
        Site {
            tick_ms: 1,
            ticks: seconds * 1_000,
            looked_again: 1.0,
            service: Service::new(Times::Mean(service_ms)),
            cpu_share: 0.0,
            hard_ms: 60_000,
            processes: 1,
            worker_cores: 1,
            scaling: ScalingConfig { mode: Mode::Manual, min: workers, max: workers, ..ScalingConfig::default() },
            prefetch: 0,
            idle_ms: 0,
            queue_per_second: 1e9,
            queue_ms: 0.0,
            gateway_cpu_ms: 2.0,
            gateway_cores: 2,
            busy: 0.5,
            seed: 5,
        }
    }

    /// M/D/1: the mean wait is known exactly (Pollaczek and Khinchine).
    #[test]
    fn a_queue_that_theory_knows() {
        for (rate, service_ms) in [(50.0, 10.0), (80.0, 10.0), (40.0, 20.0)] {
            let out = run(&site(1, service_ms, 4_000), |_| rate);
            let load = rate * service_ms / 1_000.0;
            let expected_ms = load * service_ms / (2.0 * (1.0 - load));
            let found_ms = out.age.mean() / 1_000.0 - 0.5;
            assert!((found_ms / expected_ms - 1.0).abs() < 0.1, "{rate}: {found_ms} for {expected_ms}");
            assert!((out.utilisation / load - 1.0).abs() < 0.03, "{} for {load}", out.utilisation);
            assert_eq!(out.jobs, out.started + out.left);
        }
    }

    /// Times that are no whole numbers of steps, many workers, large steps: nothing is lost, and the mean holds.
    #[test]
    fn coarse_steps_keep_the_flow() {
        let mut coarse = site(400, 33.0, 600);
        (coarse.tick_ms, coarse.ticks) = (50, 12_000);
        coarse.service = Service::new(Times::Quantiles([20.0, 90.0, 200.0]));
        let mean = coarse.service.mean();
        let out = run(&coarse, |_| 5_000.0);
        assert_eq!((out.jobs, out.left), (out.started, 0));
        let expected = 5_000.0 * mean / 1_000.0 / 400.0;
        assert!((out.utilisation / expected - 1.0).abs() < 0.03, "{} for {expected}", out.utilisation);
        assert!(out.age.quantile(0.99) < 60_000.0, "{}", out.age.quantile(0.99));
        // 5,000 messages of 2 ms: ten cores, at half load twenty, in pairs ten gateways; chance adds one.
        assert!((10.0..=11.0).contains(&out.gateways.peak), "{:?}", out.gateways);
    }

    #[test]
    fn too_few_workers_fall_behind() {
        let out = run(&site(1, 100.0, 100), |_| 20.0);
        assert!((out.left as f64 / 1_000.0 - 1.0).abs() < 0.15, "half of 2,000 is left: {}", out.left);
        assert!(out.utilisation > 0.98 && out.depth_peak >= out.left);
    }

    #[test]
    fn the_products_own_machine_scales() {
        let mut site = site(2, 100.0, 900);
        site.scaling = ScalingConfig { mode: Mode::Queue, ..ScalingConfig::default() };
        let out = run(&site, |now| if (60_000..300_000).contains(&now) { 130.0 } else { 2.0 });
        assert_eq!((out.workers.min, out.left, out.turns), (2.0, 0, 1));
        assert!(out.workers.peak >= 16.0 && out.scalings > 10, "{:?}", out.workers);
    }

    /// Hours of the same load: up to what it needs, back to where a little is left to spare, and then nothing more.
    #[test]
    fn flat_load_does_not_thrash() {
        for (processes, rate) in [(1, 35.0), (1, 100.0), (25, 875.0)] {
            let mut flat = site(2, 100.0, 0);
            (flat.tick_ms, flat.ticks, flat.processes) = (20, 8 * 3_600 * 50, processes);
            (flat.prefetch, flat.idle_ms) = (8, 100);
            flat.scaling = ScalingConfig { mode: Mode::Queue, ..ScalingConfig::default() };
            let out = run(&flat, |_| rate);
            assert!(out.turns <= 1 && out.left < 1_000, "{processes} processes: {out:?}");
            assert!(out.scalings <= 20 * u64::from(processes), "{processes} processes: {} changes", out.scalings);
        }
    }

    #[test]
    fn a_crowded_machine_is_slower() {
        let mut crowded = site(10, 100.0, 100);
        (crowded.cpu_share, crowded.worker_cores) = (1.0, 1);
        // Ten workers on one core do ten jobs a second, not a hundred.
        let out = run(&crowded, |_| 50.0);
        let done = out.started as f64 / 100.0;
        assert!((8.0..14.0).contains(&done), "{done}");
    }
}
