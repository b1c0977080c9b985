//! Whether the channels of alerts deliver: by what has become of notices since the start, nobody is asked.
//!
//! A channel that refuses for good opens no breaker and is told by no other: it is in trouble from a notice that is lost until one
//! is delivered. Not here: its breaker, which is seen as that of any service.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::examination::Check;
use super::numbers::Numbers;

/// Outcomes of a notice that has reached nobody and is not tried again.
const LOST: [&str; 3] = ["refused", "given_up", "dropped"];

/// What was seen of each channel at the last look.
#[derive(Debug, Default)]
pub(super) struct ChannelHealth(Mutex<BTreeMap<String, Deliveries>>);

impl ChannelHealth {
    /// Looks at the channels among those who are called: at each `alert_NAME`.
    pub(super) fn look(&self, called: &[Value], numbers: &Numbers) -> Vec<Check> {
        let names: Vec<&str> = called.iter().filter_map(|one| one["name"].as_str()?.strip_prefix("alert_")).collect();
        let outcomes = numbers.table("mailweir_alert_deliveries_total", "channel", "outcome");
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|name, _| names.contains(&name.as_str()));
        let check = |name: &str| {
            let count = |outcome: &str| outcomes.get(name).and_then(|of| of.get(outcome)).copied().unwrap_or(0.0);
            let (delivered, lost) = (count("ok"), LOST.into_iter().map(count).fold(0.0, std::ops::Add::add));
            let in_trouble = seen.entry(name.to_owned()).or_default().look(delivered, lost);
            let problem = in_trouble.then(|| {
                format!(
                    "{lost} notices were not delivered, and none since: the log says why, `mailweir alert test {name}` \
                     whether it works"
                )
            });
            let measured = json!({ "delivered": delivered, "undelivered": lost });
            Check::of(format!("channel:{name}"), false, problem, measured)
        };
        names.iter().copied().map(check).collect()
    }
}

/// What had become of the notices of one.
#[derive(Debug, Default)]
struct Deliveries {
    delivered: f64,
    lost: f64,
    /// The last one of which more is known than that it is tried again was lost.
    in_trouble: bool,
}

impl Deliveries {
    /// Whether it is in trouble, by what was delivered and lost since the start. Where both came since the last look nobody knows
    /// which came last: it takes one more delivery.
    fn look(&mut self, delivered: f64, lost: f64) -> bool {
        self.in_trouble = lost > self.lost || (self.in_trouble && delivered <= self.delivered);
        (self.delivered, self.lost) = (delivered, lost);
        self.in_trouble
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_in_trouble_from_a_loss_to_a_delivery() {
        let mut deliveries = Deliveries::default();
        assert!(!deliveries.look(0.0, 0.0));
        assert!(!deliveries.look(2.0, 0.0));
        assert!(deliveries.look(2.0, 1.0));
        assert!(deliveries.look(2.0, 1.0), "nothing has changed");
        assert!(deliveries.look(3.0, 2.0), "which came last is not known");
        assert!(!deliveries.look(4.0, 2.0));
        assert!(!deliveries.look(4.0, 2.0));
        assert!(deliveries.look(4.0, 3.0));
    }
}
