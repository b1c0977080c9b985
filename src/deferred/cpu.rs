//! How busy the machine is, as Linux tells it in `/proc/stat`; where that is hidden (`ProcSubset=pid`), how much of the machine
//! this process takes; unknown elsewhere.

use tokio::time::Instant;

/// Ticks of process times a second: fixed by Linux towards programs.
const TICKS: f64 = 100.0;

/// Remembers the last readings: busy is what happened between two.
#[derive(Debug, Default)]
pub(super) struct Cpu {
    machine: Option<(u64, u64)>,
    own: Option<(u64, Instant)>,
}

impl Cpu {
    /// Percent since the last call; nothing at the first one.
    pub(super) fn percent(&mut self) -> Option<f64> {
        match std::fs::read_to_string("/proc/stat").ok().as_deref().and_then(times) {
            Some(now) => between(self.machine.replace(now)?, now),
            None => self.own_percent(),
        }
    }

    fn own_percent(&mut self) -> Option<f64> {
        let now = (own_ticks(&std::fs::read_to_string("/proc/self/stat").ok()?)?, Instant::now());
        let then = self.own.replace(now)?;
        let seconds = now.1.duration_since(then.1).as_secs_f64();
        let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let busy = now.0.saturating_sub(then.0) as f64 / TICKS;
        (seconds > 0.0).then(|| (busy / seconds / processors * 100.0).min(100.0))
    }
}

/// Ticks that this process has used, in user and in kernel mode.
fn own_ticks(stat: &str) -> Option<u64> {
    // The name of the program is in brackets and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(fields.next()?.ok()? + fields.next()?.ok()?)
}

/// Busy and all ticks, from the line of all processors together.
fn times(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; guest times are in user already.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|n| n.parse().ok()).collect();
    let all: u64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((all - idle, all))
}

fn between(then: (u64, u64), now: (u64, u64)) -> Option<f64> {
    let (busy, all) = (now.0.saturating_sub(then.0), now.1.saturating_sub(then.1));
    (all > 0).then(|| (busy as f64 / all as f64 * 100.0).min(100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_compared() {
        let stat = "cpu  100 5 45 800 40 0 10 0 0 0\ncpu0 1 1 1 1 1 1 1 1\n";
        assert_eq!(times(stat), Some((160, 1_000)));
        assert_eq!(times("cpu  1 2\n"), None);
        assert_eq!(times("intr 1\n"), None);
        assert_eq!(own_ticks("7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20"), Some(150));
        assert_eq!(own_ticks("7 (x) S 1"), None);
        assert_eq!(between((160, 1_000), (235, 1_100)), Some(75.0));
        assert_eq!(between((160, 1_000), (160, 1_000)), None);
    }
}
