//! Slack, by an incoming webhook: blocks, no unfurling, everything escaped and defanged.
//!
//! Limits of Slack: 50 blocks, 150 characters of a header, 3,000 of a section; the sum is kept below 8,000. One message a second
//! and channel: `alerts.call.rate`. 200 is "ok"; other 4xx than 429 are final.

use serde_json::{Value, json};
use url::Url;

use crate::egress::{Failure, HttpClient, Repeat, Request};
use crate::enforcement::alert::Severity;
use crate::enforcement::alert::machine::What;
use crate::enforcement::alert::notice::{Line, Notice, utc};

/// Changes shown; the rest is counted.
const LINES: usize = 8;
const HEADER: usize = 150;
/// Longest text of one field, in characters before escaping, which makes five of one at most.
const FIELD: usize = 110;
/// Bytes of all sections.
const SECTIONS: usize = 7_000;

pub(super) struct Slack {
    client: HttpClient,
    url: Url,
}

impl Slack {
    pub(super) fn new(client: HttpClient, url: Url) -> Self {
        Self { client, url }
    }

    pub(super) async fn deliver(&self, notice: &Notice) -> Result<(), Failure> {
        let request = Request::post_json(self.url.clone(), message(notice).to_string());
        // A message shown twice is better than one not shown.
        self.client.call(Repeat::Safe, None, &request, |_| Ok(())).await
    }
}

fn message(notice: &Notice) -> Value {
    let headline: String = notice.headline().chars().take(HEADER).collect();
    let mut blocks = vec![json!({"type": "header", "text": {"type": "plain_text", "text": headline, "emoji": false}})];
    let mut bytes = 0;
    for line in notice.lines.iter().take(LINES) {
        let text = section(line);
        bytes += text.len();
        if bytes > SECTIONS {
            break;
        }
        blocks.push(json!({"type": "section", "text": {"type": "mrkdwn", "text": text}}));
    }
    let more = (notice.lines.len() + 1).saturating_sub(blocks.len());
    let mut context = format!("{} · {}", escaped(&notice.node), utc(notice.at_ms));
    if more > 0 {
        context = format!("and {more} more · {context}");
    }
    blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": context}]}));
    if !notice.link_url.is_empty() {
        let button = |text: &str, action: &str| json!({"type": "button", "text": {"type": "plain_text", "text": text}, "url": notice.link_url, "action_id": action});
        blocks.push(json!({"type": "actions", "elements": [button("Open Mailweir", "open")]}));
    }
    json!({"text": escaped(&notice.headline()), "blocks": blocks, "unfurl_links": false, "unfurl_media": false})
}

fn section(line: &Line) -> String {
    let sign = match (line.what, line.severity) {
        (What::Resolved, _) => ":white_check_mark:",
        (_, Severity::Warning) => ":warning:",
        (_, Severity::Critical) => ":rotating_light:",
    };
    let mut text = format!("{sign} *{}*\n{}", escaped(&line.headline()), escaped(&line.words));
    if !line.note.is_empty() {
        text.push_str(&format!("\n_{}_", escaped(&line.note)));
    }
    if line.what != What::Resolved {
        text.push_str(&format!("\n{}", escaped(&line.advice)));
    }
    text.push_str(&format!("\n`{}` since {}", escaped(&line.shown_key()), utc(line.since_ms)));
    text
}

/// Cut, and without the three characters that mean something in Slack's text; so nobody is mentioned and nothing is linked.
fn escaped(text: &str) -> String {
    let text: String = text.chars().take(FIELD).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_linked_or_mentioned_and_limits_are_kept() {
        let mut notice = Notice::test("gw", "https://console.example", What::Fired, 0);
        let mut line = notice.lines[0].clone();
        line.note = "<!channel> <https://x|y> & ".repeat(20);
        notice.lines = vec![line; 50];
        let message = message(&notice);
        let text = message.to_string();
        assert!(!text.contains("<!channel>") && text.contains("&lt;!channel&gt;"));
        assert_eq!((message["unfurl_links"].as_bool(), message["unfurl_media"].as_bool()), (Some(false), Some(false)));
        let blocks = message["blocks"].as_array().unwrap();
        assert_eq!(blocks.len(), 1 + LINES + 2);
        assert!(blocks.iter().all(|block| block["text"]["text"].as_str().is_none_or(|text| text.len() < 3_000)));
        assert!(text.contains("and 42 more"));
        let button = &blocks.last().unwrap()["elements"][0];
        assert_eq!((&button["type"], &button["url"]), (&"button".into(), &"https://console.example".into()));
        notice.link_url.clear();
        assert!(!super::message(&notice).to_string().contains("button"));
        for line in &mut notice.lines {
            (line.note, line.key, line.title) = ("&".repeat(300), "&".repeat(300), "&".repeat(300));
        }
        let text = super::message(&notice).to_string();
        assert!(text.len() < 9_000 && text.contains("and 46 more"), "{} {text}", text.len());
    }
}
