//! PagerDuty, by Events API v2: one event a change, told apart by its dedup key, so that sending one twice changes nothing.
//!
//! 202 is the answer; 400 is final, 429 and 5xx pass. Summary at most 1,024 characters, dedup key 255.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::{ChannelError, is_final};
use crate::egress::{Failure, HttpClient, Repeat, Request};
use crate::enforcement::alert::machine::What;
use crate::enforcement::alert::notice::{Line, Notice, utc};

const SUMMARY: usize = 1_024;
const DEDUP_KEY: usize = 255;

pub(super) struct PagerDuty {
    client: HttpClient,
    url: Url,
    routing_key: String,
}

impl PagerDuty {
    pub(super) fn new(client: HttpClient, url: Url, routing_key: String) -> Result<Self, ChannelError> {
        if routing_key.len() != 32 || !routing_key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(ChannelError::RoutingKey);
        }
        Ok(Self { client, url, routing_key })
    }

    /// Sends an event for each line. One that is refused for good keeps no other back; it is told when all are sent.
    pub(super) async fn deliver(&self, notice: &Notice) -> Result<(), Failure> {
        let mut refused = Ok(());
        for line in &notice.lines {
            let Some(event) = event(notice, line, &self.routing_key) else { continue };
            let request = Request::post_json(self.url.clone(), event.to_string());
            match self.client.call(Repeat::Safe, None, &request, |_| Ok(())).await {
                Err(failure) if is_final(&failure) => refused = Err(failure),
                sent => sent?,
            }
        }
        refused
    }
}

fn event(notice: &Notice, line: &Line, routing_key: &str) -> Option<Value> {
    let action = match line.what {
        What::Fired | What::Escalated | What::Eased => "trigger",
        What::Acknowledged => "acknowledge",
        What::Resolved => "resolve",
        // It has an escalation of its own.
        What::Repeated => return None,
    };
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": dedup_key(notice, &line.key),
    });
    if action == "trigger" {
        let summary: String = format!("{}, {}", line.headline(), line.words).chars().take(SUMMARY).collect();
        event["payload"] = json!({
            "summary": summary,
            "source": notice.node,
            "severity": line.severity.as_str(),
            "timestamp": utc(notice.at_ms).replacen(' ', "T", 1),
            "component": "mailweir",
            "class": line.kind,
            "custom_details": {"value": line.words, "note": line.note, "advice": line.advice, "key": line.shown_key()},
        });
        if !notice.link_url.is_empty() {
            event["links"] = json!([{"href": notice.link_url, "text": "Mailweir"}]);
        }
    }
    Some(event)
}

/// The same for all events of one alert of one gateway, whatever others are named.
fn dedup_key(notice: &Notice, key: &str) -> String {
    let node = if notice.node_id.is_empty() { &notice.node } else { &notice.node_id };
    let whole = format!("mailweir/{node}/{key}");
    if whole.len() <= DEDUP_KEY {
        return whole;
    }
    let hash = Sha256::digest(whole.as_bytes());
    format!("mailweir/{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_from_trigger_to_resolve() {
        let of = |what| {
            let notice = Notice::test("gw", "", what, 0);
            event(&notice, &notice.lines[0], &"r".repeat(32))
        };
        let fired = of(What::Fired).unwrap();
        assert_eq!(fired["payload"]["severity"], "warning");
        assert_eq!(fired["payload"]["timestamp"], "1970-01-01T00:00:00Z");
        for (what, action) in
            [(What::Acknowledged, "acknowledge"), (What::Resolved, "resolve"), (What::Eased, "trigger")]
        {
            let event = of(what).unwrap();
            assert_eq!(event["event_action"], action);
            assert_eq!(event["dedup_key"], fired["dedup_key"]);
        }
        assert!(of(What::Repeated).is_none());
        let mut notice = Notice::test("gw", "", What::Fired, 0);
        let (a, b) = (dedup_key(&notice, &"x".repeat(300)), dedup_key(&notice, &"x".repeat(301)));
        assert!(a.len() <= DEDUP_KEY && a != b);
        let nameless = dedup_key(&notice, "disk");
        notice.node_id = "0123456789abcdef".into();
        assert_ne!(dedup_key(&notice, "disk"), nameless, "gateways of one name");
    }
}
