//! Metrics of the stores.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use sqlx::AnyPool;
use tokio::time::Instant;

use super::StoreError;
use super::replica::Replica;
use super::store::Store;
use crate::observe::{self, Fault, event};

/// What the database is asked for, as named in the metrics.
const OPERATIONS: [&str; 31] = [
    "action_done",
    "actions_read",
    "actions_want",
    "add_pass",
    "campaign",
    "clock",
    "count",
    "delete_held",
    "expire",
    "held",
    "history",
    "hold",
    "is_kept",
    "keep",
    "kept_bytes",
    "ledger",
    "messages",
    "outbox_bury",
    "outbox_done",
    "outbox_order",
    "outbox_purge",
    "outbox_queued",
    "outbox_read",
    "outbox_revive",
    "ping",
    "record",
    "release",
    "second_note",
    "second_read",
    "use_pass",
    "withdraw",
];

/// Counters and histograms of the stores; declared here, with help, and nowhere else.
#[derive(Debug)]
pub struct Metrics {
    pub(super) ledger_dropped: IntCounter,
    pub(super) held: IntCounterVec,
    pub(super) commit_seconds: Histogram,
    pub(super) body_seconds: Histogram,
    pub(super) expired: IntCounterVec,
    pub(super) ledger_rows: IntCounter,
    pub(super) ledger_waiting: IntGauge,
    pub(super) rows: IntGaugeVec,
    pub(super) seen: SeenMetrics,
    pub(super) replica_fallbacks: IntCounter,
    /// Without labels, and not there until it is known.
    pub(super) replica_lag: GaugeVec,
    slow: IntCounterVec,
    /// Microseconds from which a call is slow.
    slow_from_us: AtomicU64,
    seconds: HistogramVec,
    errors: IntCounterVec,
    registry: Registry,
}

impl Metrics {
    /// Declares them at a registry.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            ledger_dropped: IntCounter::new(
                "mailweir_ledger_rows_dropped_total",
                "Ledger rows lost because the database did not take them in time; the mail itself was answered.",
            )?,
            held: IntCounterVec::new(
                Opts::new(
                    "mailweir_quarantine_commits_total",
                    "Messages that were to be held, by outcome of the commit.",
                ),
                &["outcome"],
            )?,
            commit_seconds: Histogram::with_opts(
                HistogramOpts::new("mailweir_quarantine_commit_seconds", "Time of one commit of quarantine rows.")
                    .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]),
            )?,
            body_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "mailweir_body_store_seconds",
                    "Time to store the body of one held message, synced.",
                )
                .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]),
            )?,
            expired: IntCounterVec::new(
                Opts::new("mailweir_retention_expired_total", "Rows and bodies removed by retention, by kind."),
                &["kind"],
            )?,
            ledger_rows: IntCounter::new("mailweir_ledger_rows_total", "Ledger rows committed.")?,
            ledger_waiting: IntGauge::new("mailweir_ledger_rows_waiting", "Ledger rows that wait for their commit.")?,
            rows: IntGaugeVec::new(
                Opts::new("mailweir_database_rows", "Rows of the tables when they were last counted."),
                &["table"],
            )?,
            seconds: HistogramVec::new(
                HistogramOpts::new("mailweir_database_seconds", "Time of a call to the database, by operation.")
                    .buckets(vec![
                        0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
                    ]),
                &["operation"],
            )?,
            errors: IntCounterVec::new(
                Opts::new("mailweir_database_errors_total", "Calls to the database that failed, by operation."),
                &["operation"],
            )?,
            replica_fallbacks: IntCounter::new(
                "mailweir_database_replica_fallbacks_total",
                "Searches that went to the first database because its copy (store.replica_url) did not answer or was behind.",
            )?,
            replica_lag: GaugeVec::new(
                Opts::new(
                    "mailweir_database_replica_lag_seconds",
                    "How long the first row of the ledger has been there that the copy for searches (store.replica_url) lacks.",
                ),
                &[],
            )?,
            slow: IntCounterVec::new(
                Opts::new(
                    "mailweir_database_slow_total",
                    "Calls to the database that took store.slow_query_ms or longer, by operation.",
                ),
                &["operation"],
            )?,
            slow_from_us: AtomicU64::new(u64::MAX),
            seen: SeenMetrics::new(registry)?,
            registry: registry.clone(),
        };
        registry.register(Box::new(metrics.ledger_rows.clone()))?;
        registry.register(Box::new(metrics.ledger_waiting.clone()))?;
        registry.register(Box::new(metrics.rows.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.errors.clone()))?;
        registry.register(Box::new(metrics.replica_fallbacks.clone()))?;
        registry.register(Box::new(metrics.replica_lag.clone()))?;
        registry.register(Box::new(metrics.slow.clone()))?;
        for operation in OPERATIONS {
            metrics.slow.with_label_values(&[operation]);
            metrics.seconds.with_label_values(&[operation]);
            metrics.errors.with_label_values(&[operation]);
        }
        for outcome in ["committed", "failed"] {
            metrics.held.with_label_values(&[outcome]);
        }
        for kind in ["ledger", "quarantine", "history", "body"] {
            metrics.expired.with_label_values(&[kind]);
        }
        registry.register(Box::new(metrics.ledger_dropped.clone()))?;
        registry.register(Box::new(metrics.held.clone()))?;
        registry.register(Box::new(metrics.commit_seconds.clone()))?;
        registry.register(Box::new(metrics.body_seconds.clone()))?;
        registry.register(Box::new(metrics.expired.clone()))?;
        Ok(metrics)
    }

    /// Times one call to the database, and counts it when it failed. That something is not there is no failure.
    pub(super) async fn timed<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let result = call.await;
        if let Err(error) = &result
            && error.is_failure()
        {
            observe::count("records", error.category());
        }
        self.took(operation, started, matches!(result, Err(ref error) if error.is_failure()));
        result
    }

    /// The same for a call whose result is told otherwise.
    pub(super) fn took(&self, operation: &'static str, started: Instant, failed: bool) {
        let took = started.elapsed();
        self.seconds.with_label_values(&[operation]).observe(took.as_secs_f64());
        if took.as_micros() >= u128::from(self.slow_from_us.load(Ordering::Relaxed)) {
            self.slow.with_label_values(&[operation]).inc();
            let ms = took.as_millis() as u64;
            tracing::warn!(event = event::PERFORMANCE, operation, ms, failed, "a call to the database took long");
        }
        if failed {
            self.errors.with_label_values(&[operation]).inc();
        }
    }

    /// From how long on a call is slow; 0: none is.
    pub(super) fn slow_from(&self, ms: u64) {
        let us = if ms == 0 { u64::MAX } else { ms.saturating_mul(1_000) };
        self.slow_from_us.store(us, Ordering::Relaxed);
    }

    /// Shows the connections of a database that was opened. A second one in the same process is not shown.
    pub(super) fn watch(&self, store: &Store) {
        let Ok(pools) = Pools::new(store) else { return };
        if let Err(error) = self.registry.register(Box::new(pools)) {
            tracing::debug!(%error, "the connections of this database are not in the metrics");
        }
    }
}

/// Metrics of the filter before the history.
#[derive(Debug, Clone)]
pub(super) struct SeenMetrics {
    pub(super) new: IntCounter,
    pub(super) known: IntCounter,
    pub(super) mistaken: IntCounter,
    pub(super) asked: IntCounter,
    pub(super) saved: IntCounter,
    pub(super) fill: Gauge,
}

impl SeenMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let names = IntCounterVec::new(
            Opts::new(
                "mailweir_history_filter_names_total",
                "Names that the filter before the history was asked for: new (never seen), known, or mistaken (asked for in vain).",
            ),
            &["outcome"],
        )?;
        let lookups = IntCounterVec::new(
            Opts::new(
                "mailweir_history_lookups_total",
                "Look-ups of messages in the history: asked (of the database) or saved (the filter knew that nobody was seen before).",
            ),
            &["outcome"],
        )?;
        let fill = Gauge::new(
            "mailweir_history_filter_fill_ratio",
            "Share of the filter's bits that are set, 0 to 1: above a half it lets too much through.",
        )?;
        registry.register(Box::new(names.clone()))?;
        registry.register(Box::new(lookups.clone()))?;
        registry.register(Box::new(fill.clone()))?;
        let [new, known, mistaken] = ["new", "known", "mistaken"].map(|outcome| names.with_label_values(&[outcome]));
        let [asked, saved] = ["asked", "saved"].map(|outcome| lookups.with_label_values(&[outcome]));
        Ok(Self { new, known, mistaken, asked, saved, fill })
    }
}

/// Connections to the database, looked at when the metrics are read.
struct Pools {
    pools: Vec<(&'static str, AnyPool)>,
    open: IntGaugeVec,
    most: IntGaugeVec,
}

impl Pools {
    fn new(store: &Store) -> Result<Self, prometheus::Error> {
        Ok(Self {
            pools: [
                ("read", Some(&store.read)),
                ("write", Some(&store.write)),
                ("replica", store.replica.as_ref().map(Replica::pool)),
            ]
            .into_iter()
            .filter_map(|(name, pool)| Some((name, pool?.clone())))
            .collect(),
            open: IntGaugeVec::new(
                Opts::new("mailweir_database_connections", "Open connections to the database, by pool and state."),
                &["pool", "state"],
            )?,
            most: IntGaugeVec::new(
                Opts::new("mailweir_database_connections_max", "Connections that a pool may open."),
                &["pool"],
            )?,
        })
    }
}

impl Collector for Pools {
    fn desc(&self) -> Vec<&Desc> {
        self.open.desc().into_iter().chain(self.most.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (name, pool) in &self.pools {
            let idle = i64::try_from(pool.num_idle()).unwrap_or(i64::MAX);
            self.open.with_label_values(&[name, "idle"]).set(idle);
            self.open.with_label_values(&[name, "busy"]).set((i64::from(pool.size()) - idle).max(0));
            self.most.with_label_values(&[name]).set(i64::from(pool.options().get_max_connections()));
        }
        self.open.collect().into_iter().chain(self.most.collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn slow_calls_are_counted_from_their_limit_on() {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let call = async |ms| {
            let sleep = async {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(())
            };
            metrics.timed("ping", sleep).await.unwrap();
            metrics.slow.with_label_values(&["ping"]).get()
        };
        assert_eq!(call(60_000).await, 0, "no limit is set");
        metrics.slow_from(500);
        assert_eq!(call(499).await, 0);
        assert_eq!(call(500).await, 1);
        metrics.slow_from(0);
        assert_eq!(call(60_000).await, 1);
    }
}
