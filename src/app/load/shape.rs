//! The course of a day: how much of the average comes at which hour.

use std::path::Path;

use anyhow::Context;

/// Rows of a file at most.
const ROWS: usize = 10_000;

/// Mail of an office, hour by hour: a peak before noon, another after, little at night. A made-up shape, not a measured one.
const OFFICE: [f64; 24] = [
    0.3, 0.25, 0.2, 0.2, 0.25, 0.35, 0.6, 1.1, 1.9, 2.3, 2.4, 2.1, 1.6, 1.8, 2.0, 1.9, 1.6, 1.1, 0.8, 0.6, 0.5, 0.45,
    0.4, 0.35,
];

/// Weights over a day, 1 on average.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// Hours, growing, and weights.
    points: Vec<(f64, f64)>,
}

impl Shape {
    /// `flat`, `office` or a file.
    ///
    /// # Errors
    /// Names the file, and the line that is wrong.
    pub(super) fn read(name: &str) -> anyhow::Result<Self> {
        match name {
            "flat" => Ok(Self { points: vec![(0.0, 1.0)] }),
            "office" => Ok(Self::of(OFFICE.iter().enumerate().map(|(hour, weight)| (hour as f64, *weight)).collect())),
            file => {
                let file = Path::new(file);
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("--shape: neither flat nor office nor a file: {}", file.display()))?;
                Self::parse(&text).with_context(|| format!("--shape {}", file.display()))
            }
        }
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            let cells = line.split_once([',', ';']).map(|(hour, weight)| (hour.trim().parse(), weight.trim().parse()));
            let (hour, weight) = match cells {
                Some((Ok(hour), Ok(weight))) => (hour, weight),
                // A head line.
                _ if points.is_empty() && number == 1 => continue,
                _ if line.is_empty() => continue,
                _ => anyhow::bail!("line {number}: `HOUR,WEIGHT` is expected"),
            };
            let (hour, weight): (f64, f64) = (hour, weight);
            let fits = (0.0..=24.0).contains(&hour) && (0.0..1e9).contains(&weight);
            anyhow::ensure!(fits, "line {number}: hours are 0 to 24, weights not below 0");
            anyhow::ensure!(points.last().is_none_or(|(last, _)| *last < hour), "line {number}: hours grow");
            anyhow::ensure!(points.len() < ROWS, "more than {ROWS} lines");
            points.push((hour, weight));
        }
        anyhow::ensure!(points.iter().any(|(_, weight)| *weight > 0.0), "no weight above 0");
        Ok(Self::of(points))
    }

    fn of(points: Vec<(f64, f64)>) -> Self {
        let mut shape = Self { points };
        let steps = 24 * 60;
        let mean = (0..steps).map(|at| shape.at(f64::from(at) / 60.0)).sum::<f64>() / f64::from(steps);
        shape.points.iter_mut().for_each(|(_, weight)| *weight /= mean);
        shape
    }

    /// The weight at an hour since the first midnight.
    pub(super) fn at(&self, hour: f64) -> f64 {
        let hour = hour.rem_euclid(24.0);
        let after = self.points.partition_point(|(at, _)| *at <= hour);
        let count = self.points.len();
        // Before the first point and after the last one: across midnight.
        let (from, before) = if after == 0 {
            (self.points[count - 1].0 - 24.0, count - 1)
        } else {
            (self.points[after - 1].0, after - 1)
        };
        let (to, next) = if after == count { (self.points[0].0 + 24.0, 0) } else { (self.points[after].0, after) };
        let (low, high) = (self.points[before].1, self.points[next].1);
        if to <= from { low } else { low + (high - low) * (hour - from) / (to - from) }
    }

    /// The largest weight within these hours.
    pub(super) fn peak(&self, hours: f64) -> f64 {
        let minutes = (hours * 60.0).ceil().clamp(1.0, 24.0 * 60.0) as u32;
        (0..minutes).map(|at| self.at(f64::from(at) / 60.0)).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_on_average_and_straight_between() {
        for name in ["flat", "office"] {
            let shape = Shape::read(name).unwrap();
            let mean = (0..2_400).map(|at| shape.at(f64::from(at) / 100.0)).sum::<f64>() / 2_400.0;
            assert!((mean - 1.0).abs() < 0.01, "{name}: {mean}");
        }
        let shape = Shape::parse("hour,weight\n6,0\n12;2\n18,0\n").unwrap();
        assert_eq!((shape.at(6.0), shape.at(0.0), shape.at(30.0)), (0.0, 0.0, 0.0));
        assert!((shape.at(9.0) * 2.0 - shape.at(12.0)).abs() < 1e-9);
        assert!((shape.peak(24.0) - shape.at(12.0)).abs() < 1e-9 && shape.peak(6.0) == 0.0);
        for wrong in ["", "1,2\nx\n", "2,1\n1,1\n", "25,1\n", "1,-1\n", "1,0\n", "1,NaN\n"] {
            assert!(Shape::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(Shape::read("/no/such/file").is_err());
    }
}
