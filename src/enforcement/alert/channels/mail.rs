//! E-mail: text and HTML (RFC 2046, 5.1.4), both in base64, given to a server without passing our own doors.
//!
//! The envelope's sender is empty and the message says that a machine made it (RFC 3834), so nothing answers and nothing loops.
//! Each recipient has a transaction of its own: one that is refused keeps nobody else from being told. A final no (5xx) is an
//! answer of the server, so the breaker counts it as one, and ends the matter for this recipient; who is put off (4xx) is tried
//! again, and he alone.

use std::fmt::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};

use super::ChannelError;
use crate::egress::{Dependency, Failure, Repeat};
use crate::enforcement::alert::config::AlertMailConfig;
use crate::enforcement::alert::machine::What;
use crate::enforcement::alert::notice::{Line, Notice, utc};
use crate::enforcement::{Refused, Reinject};
use crate::mail::{Address, Envelope, Path};
use crate::observe::event;

/// Changes shown; the rest is counted.
const LINES: usize = 50;

/// [`Reinject`] without its type: gives a message to a server and waits for its word.
pub trait Mailer: Send + Sync {
    /// `Ok` only after the server's 250.
    fn send(&self, envelope: Envelope, raw: Bytes) -> BoxFuture<'_, Result<String, Refused>>;
}

impl<R: Reinject> Mailer for R {
    fn send(&self, envelope: Envelope, raw: Bytes) -> BoxFuture<'_, Result<String, Refused>> {
        self.reinject(envelope, raw).boxed()
    }
}

pub(super) struct Mail {
    dependency: Arc<Dependency>,
    mailer: Arc<dyn Mailer>,
    to: Vec<String>,
    sender: String,
    host_name: String,
}

impl Mail {
    pub(super) fn new(
        dependency: Arc<Dependency>,
        config: &AlertMailConfig,
        host_name: &str,
        mailer: Arc<dyn Mailer>,
    ) -> Result<Self, ChannelError> {
        let sender = if config.sender.is_empty() { format!("mailweir@{host_name}") } else { config.sender.clone() };
        let plain = |address: &String| {
            let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>' | ',' | ';' | '"');
            address.is_ascii() && !address.contains(odd) && Address::parse(address).is_some()
        };
        if let Some(wrong) = config.to.iter().chain([&sender]).find(|address| !plain(address)) {
            return Err(ChannelError::Address { section: "alerts.mail", address: wrong.clone() });
        }
        Ok(Self { dependency, mailer, to: config.to.clone(), sender, host_name: host_name.to_owned() })
    }

    /// How many recipients there are.
    pub(super) fn recipients(&self) -> usize {
        self.to.len()
    }

    /// Who was put off is left in the notice.
    pub(super) async fn deliver(&self, notice: &mut Notice) -> Result<(), Failure> {
        let raw = Bytes::from(self.message(notice));
        let (mut taken, mut refused, mut put_off) = (0, None, None);
        // An address that the settings do not name any more is not told any more.
        let left = std::mem::take(&mut notice.left);
        let wanted = self.to.iter().filter(|recipient| left.is_empty() || left.contains(recipient));
        for recipient in wanted {
            let send = |_| async {
                let envelope = Envelope { sender: Path::new(""), recipients: vec![Path::new(recipient.as_str())] };
                match self.mailer.send(envelope, raw.clone()).await {
                    Err(Refused { why, for_good: false }) => Err(Failure::Reported(why)),
                    answer => Ok(answer),
                }
            };
            let failure = match self.dependency.call(Repeat::Never, None, send).await {
                Ok(Ok(_)) => {
                    taken += 1;
                    continue;
                }
                Ok(Err(no)) => refused.insert(Failure::Declined(no.why)),
                Err(failure) => {
                    notice.left.push(recipient.clone());
                    put_off.insert(failure)
                }
            };
            tracing::warn!(event = event::SYSTEM, %recipient, %failure, "an alert was not taken for this recipient");
        }
        match (put_off, refused) {
            (Some(failure), _) => Err(failure),
            (None, Some(failure)) if taken == 0 && left.is_empty() => Err(failure),
            _ => Ok(()),
        }
    }

    fn message(&self, notice: &Notice) -> String {
        let (text, html) = (text(notice), html(notice));
        // The same for each recipient and try: whoever got it twice sees it once.
        let digest = Sha256::digest(format!("{}\n{text}", notice.id()).as_bytes());
        let id: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let to = self.to.join(",\r\n\t");
        let boundary = format!("=_{id}");
        let date = date(notice.at_ms);
        format!(
            "From: Mailweir <{}>\r\nTo: {to}\r\nSubject: {}\r\nDate: {date}\r\nMessage-ID: <{id}@{}>\r\n\
             Auto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: All\r\nX-Mailweir-Alert: {}\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/alternative; boundary=\"{boundary}\"\r\n\r\n\
             --{boundary}\r\n{}--{boundary}\r\n{}--{boundary}--\r\n",
            self.sender,
            encoded_words(&notice.headline()),
            self.host_name,
            notice.lines.len(),
            part("text/plain", &text),
            part("text/html", &html),
        )
    }
}

fn part(kind: &str, body: &str) -> String {
    let mut part = format!("Content-Type: {kind}; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n");
    for line in STANDARD.encode(body).as_bytes().chunks(76) {
        part.push_str(&String::from_utf8_lossy(line));
        part.push_str("\r\n");
    }
    part
}

/// A header's text as encoded words (RFC 2047), folded: its length and letters do not matter.
fn encoded_words(text: &str) -> String {
    let mut words = Vec::new();
    let mut word = String::new();
    for letter in text.chars().filter(|c| !c.is_control()).take(400) {
        if word.len() + letter.len_utf8() > 45 {
            words.push(std::mem::take(&mut word));
        }
        word.push(letter);
    }
    words.push(word);
    let encoded = words.iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
    encoded.collect::<Vec<_>>().join("\r\n\t")
}

fn date(at_ms: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(at_ms / 1_000).ok();
    at.and_then(|at| at.format(&time::format_description::well_known::Rfc2822).ok()).unwrap_or_default()
}

fn text(notice: &Notice) -> String {
    let mut text = String::new();
    for line in notice.lines.iter().take(LINES) {
        let _ = write!(text, "{}\r\n  {}\r\n", line.headline(), line.words);
        for more in details(line) {
            let _ = write!(text, "  {more}\r\n");
        }
        text.push_str("\r\n");
    }
    if notice.lines.len() > LINES {
        let _ = write!(text, "and {} more\r\n\r\n", notice.lines.len() - LINES);
    }
    if !notice.link_url.is_empty() {
        let _ = write!(text, "{}\r\n", notice.link_url);
    }
    let _ = write!(text, "{}, {}\r\n", notice.node, utc(notice.at_ms));
    text
}

fn html(notice: &Notice) -> String {
    let mut html = String::from(
        "<!doctype html><html><body style=\"font:14px/1.5 sans-serif;color:#1d2733\"><table cellpadding=\"8\" cellspacing=\"0\">",
    );
    for line in notice.lines.iter().take(LINES) {
        let colour = match (line.what, line.severity.as_str()) {
            (What::Resolved, _) => "#1a7f37",
            (_, "critical") => "#b42318",
            _ => "#9a6700",
        };
        let _ = write!(
            html,
            "<tr><td style=\"border-left:4px solid {colour};border-bottom:1px solid #e3e8ee\"><b style=\"color:{colour}\">{}</b><br>{}",
            escaped(&line.headline()),
            escaped(&line.words)
        );
        for more in details(line) {
            let _ = write!(html, "<br><span style=\"color:#5b6774\">{}</span>", escaped(&more));
        }
        html.push_str("</td></tr>\r\n");
    }
    html.push_str("</table>");
    if notice.lines.len() > LINES {
        let _ = write!(html, "<p>and {} more</p>", notice.lines.len() - LINES);
    }
    if !notice.link_url.is_empty() {
        let _ = write!(html, "<p><a href=\"{0}\">{0}</a></p>", escaped(&notice.link_url));
    }
    let _ =
        write!(html, "<p style=\"color:#5b6774\">{}, {}</p></body></html>", escaped(&notice.node), utc(notice.at_ms));
    html
}

fn details(line: &Line) -> impl Iterator<Item = String> {
    let advice = if line.what == What::Resolved { "" } else { &*line.advice };
    let since = format!("{} since {}", line.shown_key(), utc(line.since_ms));
    [line.note.clone(), advice.to_owned(), since].into_iter().filter(|text| !text.is_empty())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Message, MessageLimits};

    #[test]
    fn what_is_sent_reads_back() {
        let mut notice = Notice::test("gw.example", "https://console.example/?a=1&b=2", What::Fired, 1_767_225_600_000);
        notice.lines[0].title = "Grün <b>und</b> ".repeat(10);
        struct Nowhere;
        impl Reinject for Nowhere {
            async fn reinject(&self, _: Envelope, _: Bytes) -> Result<String, Refused> {
                Err(Refused { why: "nowhere".into(), for_good: false })
            }
        }
        let registry = crate::egress::Registry::new(crate::egress::Metrics::new(&prometheus::Registry::new()).unwrap());
        let dependency = registry.dependency("alert_mail", &crate::egress::CallConfig::default());
        let config =
            AlertMailConfig { to: vec!["a@x.example".into(), "b@x.example".into()], ..AlertMailConfig::default() };
        let mail = Mail::new(dependency.clone(), &config, "gw.example", Arc::new(Nowhere)).unwrap();
        let raw = mail.message(&notice);
        assert!(raw.is_ascii() && raw.split("\r\n").all(|line| line.len() <= 200), "{raw}");
        let message = Message::parse(Bytes::from(raw.clone()), &MessageLimits::default());
        assert_eq!(message.subject(), notice.headline());
        assert!(message.text().contains("Grün <b>und</b>"), "{}", message.text());
        assert!(raw.contains("Date: Thu, 01 Jan 2026 00:00:00 +0000\r\n"), "{raw}");
        assert!(html(&notice).contains("&lt;b&gt;") && html(&notice).contains("?a=1&amp;b=2"));
        for wrong in ["nobody", "a@x.example\r\nBcc: b", "A <a@x.example>", "a@x.example,b@x.example"] {
            let config = AlertMailConfig { to: vec![wrong.into()], ..AlertMailConfig::default() };
            assert!(Mail::new(dependency.clone(), &config, "gw", Arc::new(Nowhere)).is_err(), "{wrong}");
        }
    }
}
