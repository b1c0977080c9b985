//! How busy the machine is, as Linux tells it in `/proc/stat`; unknown elsewhere.

/// Remembers the last reading: busy is what happened between two.
#[derive(Debug, Default)]
pub(super) struct Cpu {
    last: Option<(u64, u64)>,
}

impl Cpu {
    /// Percent since the last call; nothing at the first one.
    pub(super) fn percent(&mut self) -> Option<f64> {
        let now = times(&std::fs::read_to_string("/proc/stat").ok()?)?;
        between(self.last.replace(now)?, now)
    }
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
        assert_eq!(between((160, 1_000), (235, 1_100)), Some(75.0));
        assert_eq!(between((160, 1_000), (160, 1_000)), None);
    }
}
