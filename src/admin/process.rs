//! Metrics of the process, as Linux tells them in `/proc/self`; the names are Prometheus' own. Elsewhere they are not there.

use std::time::SystemTime;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, IntGauge};

/// Ticks of the processor's time in a second: fixed at 100 on every Linux that programs see.
const TICKS: f64 = 100.0;

/// Looks at the process when the metrics are read.
pub(super) struct Process {
    started: Gauge,
    cpu: Counter,
    resident: IntGauge,
    mapped: IntGauge,
    threads: IntGauge,
    descriptors: IntGauge,
    descriptors_most: IntGauge,
}

impl Process {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let started = Gauge::new("process_start_time_seconds", "Start of the process in seconds since 1970.")?;
        started.set(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        Ok(Self {
            started,
            cpu: Counter::new("process_cpu_seconds_total", "Processor time that the process has used, in seconds.")?,
            resident: IntGauge::new("process_resident_memory_bytes", "Resident memory of the process in bytes.")?,
            mapped: IntGauge::new("process_virtual_memory_bytes", "Virtual memory of the process in bytes.")?,
            threads: IntGauge::new("process_threads", "Threads of the process.")?,
            descriptors: IntGauge::new("process_open_fds", "Open file descriptors.")?,
            descriptors_most: IntGauge::new("process_max_fds", "File descriptors that may be open.")?,
        })
    }

    fn look(&self) -> Option<()> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let field = |name: &str| -> Option<i64> {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            value.split_whitespace().next()?.parse().ok()
        };
        self.resident.set(field("VmRSS")? * 1024);
        self.mapped.set(field("VmSize")? * 1024);
        self.threads.set(field("Threads")?);
        // One of them reads the folder.
        let open = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
        self.descriptors.set(i64::try_from(open).unwrap_or(i64::MAX));
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        self.descriptors_most.set(most.and_then(|most| i64::try_from(most).ok()).unwrap_or(i64::MAX));
        // proc(5): the name in brackets may hold anything; utime and stime are the 12th and 13th after it.
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
        let more = ticks / TICKS - self.cpu.get();
        if more > 0.0 {
            self.cpu.inc_by(more);
        }
        Some(())
    }

    fn all(&self) -> [&dyn Collector; 7] {
        [
            &self.started,
            &self.cpu,
            &self.resident,
            &self.mapped,
            &self.threads,
            &self.descriptors,
            &self.descriptors_most,
        ]
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // What cannot be read keeps its last value.
        let _ = self.look();
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}
