//! The metrics of the process by name: sums, shares by a label, quantiles of histograms. What is not there is zero or absent.

use std::collections::BTreeMap;

use prometheus::proto::{Metric, MetricFamily, MetricType};

/// All metrics at one moment.
pub(super) struct Numbers(BTreeMap<String, MetricFamily>);

/// A histogram, over all its labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Spread {
    /// Observations.
    pub(super) count: u64,
    /// Their sum.
    pub(super) sum: f64,
    /// Upper bounds, and how many are not above them.
    buckets: Vec<(f64, u64)>,
}

impl Spread {
    /// The mean; `None` without observations.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// A quantile, as Prometheus reckons it: evenly within the bucket; the largest bound when it lies above all.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let (rank, mut below, mut from) = (share * self.count as f64, 0, 0.0);
        if self.count == 0 {
            return None;
        }
        for (bound, count) in self.buckets.iter().filter(|(bound, _)| bound.is_finite()) {
            if *count as f64 >= rank {
                let within = (count - below) as f64;
                let part = if within > 0.0 { (rank - below as f64) / within } else { 1.0 };
                return Some(from + (bound - from) * part);
            }
            (below, from) = (*count, *bound);
        }
        Some(from)
    }

    /// A quantile of whole numbers: the upper bound of its bucket, for there is nothing between them; the largest bound when it
    /// lies above all.
    pub(super) fn bound(&self, share: f64) -> Option<f64> {
        let rank = share * self.count as f64;
        let bounds = || self.buckets.iter().filter(|(bound, _)| bound.is_finite());
        let bucket = bounds().find(|(_, count)| *count as f64 >= rank).or_else(|| bounds().next_back());
        bucket.filter(|_| self.count > 0).map(|(bound, _)| *bound)
    }

    fn add(&mut self, metric: &Metric) {
        let histogram = metric.get_histogram();
        self.count += histogram.get_sample_count();
        self.sum += histogram.get_sample_sum();
        for (place, bucket) in histogram.get_bucket().iter().enumerate() {
            let (bound, count) = (bucket.upper_bound(), bucket.cumulative_count());
            match self.buckets.get_mut(place) {
                Some((_, so_far)) => *so_far += count,
                None => self.buckets.push((bound, count)),
            }
        }
    }
}

impl Numbers {
    pub(super) fn new(families: Vec<MetricFamily>) -> Self {
        Self(families.into_iter().map(|family| (family.name().to_owned(), family)).collect())
    }

    fn metrics(&self, name: &str) -> &[Metric] {
        self.0.get(name).map_or(&[], |family| family.get_metric())
    }

    /// The sum over all labels.
    pub(super) fn sum(&self, name: &str) -> f64 {
        // The sum of nothing would be -0.
        self.by(name, "").into_values().fold(0.0, std::ops::Add::add)
    }

    /// Sums by the values of one label; without the label all are under the empty text.
    pub(super) fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let rows = self.table(name, label, "").into_iter();
        rows.map(|(value, row)| (value, row.into_values().sum())).collect()
    }

    /// Sums by the values of one label, and in each by those of another.
    pub(super) fn table(&self, name: &str, row: &str, column: &str) -> BTreeMap<String, BTreeMap<String, f64>> {
        let mut sums: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
        let kind = self.0.get(name).map(MetricFamily::get_field_type);
        for metric in self.metrics(name) {
            let value = match kind {
                Some(MetricType::COUNTER) => metric.get_counter().get_value(),
                Some(MetricType::GAUGE) => metric.get_gauge().get_value(),
                _ => continue,
            };
            *sums.entry(value_of(metric, row)).or_default().entry(value_of(metric, column)).or_insert(0.0) += value;
        }
        sums
    }

    /// A histogram by the values of one label; without the label all under the empty text.
    pub(super) fn spreads(&self, name: &str, label: &str) -> BTreeMap<String, Spread> {
        let mut spreads: BTreeMap<String, Spread> = BTreeMap::new();
        if self.0.get(name).map(MetricFamily::get_field_type) != Some(MetricType::HISTOGRAM) {
            return spreads;
        }
        for metric in self.metrics(name) {
            spreads.entry(value_of(metric, label)).or_default().add(metric);
        }
        spreads
    }
}

fn value_of(metric: &Metric, label: &str) -> String {
    let pair = metric.get_label().iter().find(|pair| pair.name() == label);
    pair.map(|pair| pair.value().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

    use super::*;

    #[test]
    fn sums_and_quantiles() {
        let registry = Registry::new();
        let counter = IntCounterVec::new(Opts::new("c", "c"), &["a", "b"]).unwrap();
        let options = HistogramOpts::new("h", "h").buckets(vec![1.0, 2.0, 4.0]);
        let histogram = HistogramVec::new(options, &["a"]).unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        registry.register(Box::new(histogram.clone())).unwrap();
        counter.with_label_values(&["x", "1"]).inc_by(2);
        counter.with_label_values(&["x", "2"]).inc_by(3);
        counter.with_label_values(&["y", "1"]).inc_by(5);
        for (label, value) in [("x", 0.5), ("x", 1.5), ("y", 1.5), ("y", 100.0)] {
            histogram.with_label_values(&[label]).observe(value);
        }
        let numbers = Numbers::new(registry.gather());
        assert_eq!(numbers.sum("c"), 10.0);
        assert_eq!(numbers.by("c", "a"), [("x".to_owned(), 5.0), ("y".to_owned(), 5.0)].into());
        assert_eq!(numbers.table("c", "a", "b")["x"], [("1".to_owned(), 2.0), ("2".to_owned(), 3.0)].into());
        assert_eq!(numbers.sum("nothing").to_string(), "0", "and not -0");
        let all = &numbers.spreads("h", "")[""];
        assert_eq!((all.count, all.mean()), (4, Some(103.5 / 4.0)));
        assert_eq!(all.quantile(0.25), Some(1.0));
        assert_eq!(all.quantile(0.5), Some(1.5));
        assert_eq!(all.quantile(0.99), Some(4.0), "above all bounds");
        assert_eq!((all.bound(0.25), all.bound(0.5), all.bound(0.99)), (Some(1.0), Some(2.0), Some(4.0)));
        assert_eq!((Spread::default().quantile(0.5), Spread::default().bound(0.5)), (None, None));
        assert_eq!(numbers.spreads("h", "a").len(), 2);
    }
}
