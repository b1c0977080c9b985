//! Figures: percentiles in bounded memory, and runs that can be saved and compared.
//!
//! A run has rounds. A figure is the median of its rounds; its noise is half of what lies between the least and the largest
//! of them, as a share of the median.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// Steps to the double: values are known within 1.6 %.
const STEPS: u32 = 6;

/// Counts of values, close where they are small: 2^6 steps to each power of two.
#[derive(Debug, Clone, Default)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum: f64,
    max: u64,
}

fn place(value: u64) -> usize {
    let power = 63 - value.max(1).leading_zeros();
    if power <= STEPS {
        return value as usize;
    }
    let shift = power - STEPS;
    (((shift as usize) + 1) << STEPS) + ((value >> shift) as usize - (1 << STEPS))
}

/// The middle of the values of a place.
fn value(place: usize) -> f64 {
    let first = 1usize << STEPS;
    if place < 2 * first {
        return place as f64;
    }
    let shift = (place >> STEPS) - 1;
    let low = ((place & (first - 1)) + first) as f64;
    (low + 0.5) * (1u64 << shift) as f64
}

impl Histogram {
    pub(super) fn add(&mut self, value: u64) {
        self.add_many(value, 1);
    }

    pub(super) fn add_many(&mut self, value: u64, count: u64) {
        if count == 0 {
            return;
        }
        let at = place(value);
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += count;
        self.total += count;
        self.sum += value as f64 * count as f64;
        self.max = self.max.max(value);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    pub(super) fn count(&self) -> u64 {
        self.total
    }

    pub(super) fn mean(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.sum / self.total as f64 }
    }

    pub(super) fn max(&self) -> f64 {
        self.max as f64
    }

    /// The value that this share of the values does not exceed; 0 when there are none.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        if wanted >= self.total {
            return self.max as f64;
        }
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return value(at).min(self.max as f64);
            }
        }
        0.0
    }
}

/// Which way a figure improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Better {
    More,
    Less,
    /// Neither: a fact about the run.
    Neither,
}

/// One number of one round.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    pub(super) name: String,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    pub(super) value: f64,
}

impl Reading {
    pub(super) fn new(name: impl Into<String>, unit: &'static str, better: Better, value: f64) -> Self {
        Self { name: name.into(), unit, better, value }
    }

    /// Percentiles of times in microseconds, in milliseconds.
    pub(super) fn times(name: &str, times: &Histogram) -> Vec<Self> {
        let of = |what: &str, us: f64| Self::new(format!("{name} {what}"), "ms", Better::Less, us / 1_000.0);
        let mut all: Vec<Self> =
            [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)].map(|(what, share)| of(what, times.quantile(share))).into();
        all.push(of("max", times.max()));
        all
    }
}

/// A figure over all rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) unit: String,
    pub(super) better: Better,
    /// Median of the rounds.
    pub(super) value: f64,
    /// Half of what lies between the least and the largest round, as a share of the median.
    pub(super) noise: f64,
    pub(super) rounds: Vec<f64>,
}

/// A run as it is saved: JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    /// `queue`, `pipeline`, `end-to-end`, `step`.
    pub(super) bench: String,
    /// Of Mailweir.
    pub(super) version: String,
    /// When it ended, milliseconds since 1970.
    pub(super) at_ms: i64,
    /// Processors of the machine.
    pub(super) processors: usize,
    /// Whether the program was built without optimisation: such figures say nothing about a release.
    pub(super) debug_build: bool,
    /// What was measured, with which options.
    pub(super) options: serde_json::Value,
    pub(super) figures: Vec<Figure>,
    /// Answers by code, counts by action.
    pub(super) counts: std::collections::BTreeMap<String, u64>,
    /// What a reader should know.
    pub(super) notes: Vec<String>,
}

impl Run {
    /// A run of these rounds. Each has the same readings in the same order.
    pub(super) fn new(bench: &str, options: serde_json::Value, rounds: &[Vec<Reading>]) -> Self {
        let first = rounds.first().map(Vec::as_slice).unwrap_or_default();
        let figure = |(at, reading): (usize, &Reading)| {
            let values: Vec<f64> = rounds.iter().filter_map(|round| round.get(at)).map(|r| r.value).collect();
            let (value, noise) = median_and_noise(&values);
            Figure {
                name: reading.name.clone(),
                unit: reading.unit.to_owned(),
                better: reading.better,
                value,
                noise,
                rounds: values,
            }
        };
        Self {
            bench: bench.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at_ms: super::bench::now_ms(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            debug_build: cfg!(debug_assertions),
            options,
            figures: first.iter().enumerate().map(figure).collect(),
            counts: Default::default(),
            notes: Vec::new(),
        }
    }

    /// The value of a figure.
    pub(super) fn figure(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    /// # Errors
    /// Names the file that cannot be read, or is no run.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no run of `bench … --save`", file.display()))
    }

    /// # Errors
    /// Names the file that cannot be written.
    pub(super) fn save(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

fn median_and_noise(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some((least, most)) = sorted.first().zip(sorted.last()) else { return (0.0, 0.0) };
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
    let noise = if median.abs() > f64::EPSILON { (most - least) / 2.0 / median.abs() } else { 0.0 };
    (median, noise)
}

/// A number with three or four digits that matter.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        at if at >= 100.0 => {
            let digits = format!("{:.0}", value.abs());
            let mut out = String::new();
            for (n, digit) in digits.chars().enumerate() {
                if n > 0 && (digits.len() - n).is_multiple_of(3) {
                    out.push(',');
                }
                out.push(digit);
            }
            if value < 0.0 { format!("-{out}") } else { out }
        }
        at if at.fract() == 0.0 => format!("{value:.0}"),
        at if at >= 10.0 => format!("{value:.1}"),
        at if at >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close() {
        let mut histogram = Histogram::default();
        (1..=100_000u64).for_each(|n| histogram.add(n));
        for share in [0.01, 0.5, 0.95, 0.99, 1.0] {
            let (found, exact) = (histogram.quantile(share), share * 100_000.0);
            assert!((found / exact - 1.0).abs() < 0.02, "{share}: {found}");
        }
        assert_eq!((histogram.count(), histogram.max(), histogram.mean()), (100_000, 100_000.0, 50_000.5));
        assert_eq!(Histogram::default().quantile(0.5), 0.0);
        let mut edge = Histogram::default();
        [0, 1, 63, 64, 127, 128, 129, u64::MAX].into_iter().for_each(|n| edge.add(n));
        let other = edge.clone();
        edge.merge(&other);
        assert_eq!((edge.count(), edge.quantile(0.0), edge.quantile(1.0)), (16, 0.0, u64::MAX as f64));
        // Places follow each other without a gap.
        assert!((1..100_000u64).all(|n| place(n) - place(n - 1) <= 1));
    }

    #[test]
    fn a_figure_is_the_median_and_knows_its_noise() {
        let round = |value| vec![Reading::new("life", "jobs/s", Better::More, value)];
        let run = Run::new("queue", serde_json::json!({}), &[round(90.0), round(110.0), round(100.0)]);
        assert_eq!((run.figure("life"), run.figures[0].noise), (Some(100.0), 0.1));
        assert_eq!(run.figure("no such"), None);
        assert_eq!(median_and_noise(&[]), (0.0, 0.0));
        assert_eq!(median_and_noise(&[1.0, 3.0]).0, 2.0);
    }

    #[test]
    fn saved_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run.json");
        let run = Run::new("queue", serde_json::json!({"batch": 2}), &[Reading::times("claim", &Histogram::default())]);
        run.save(&file).unwrap();
        assert_eq!(Run::read(&file).unwrap(), run);
        std::fs::write(&file, "{}").unwrap();
        assert!(Run::read(&file).unwrap_err().to_string().contains("is no run"));
    }

    #[test]
    fn short_numbers() {
        let cases = [
            (1_234_567.0, "1,234,567"),
            (100.4, "100"),
            (99.94, "99.9"),
            (7.0, "7"),
            (-2.0, "-2"),
            (1.234, "1.23"),
            (0.0, "0"),
            (0.0123, "0.012"),
            (-1e3, "-1,000"),
        ];
        for (value, expected) in cases {
            assert_eq!(short(value), expected);
        }
    }
}
