//! Mail made up for load: plain letters, notices in HTML, newsletters with links, attachments. A seed decides all of it.
//!
//! Names are reserved ones (RFC 2606), so that nobody is asked about or written to. Nothing here is known to be bad.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::dice::Dice;

const NAMES: &[&str] =
    &["Ada Winter", "Bruno Falk", "Chiara Ott", "Dmitri Lang", "Emi Sato", "Farid Noor", "Greta Holm"];
const DOMAINS: &[&str] = &["example.com", "example.net", "example.org", "shop.example", "post.example", "work.test"];
const WORDS: &[&str] = &[
    "the", "meeting", "on", "monday", "report", "please", "find", "attached", "invoice", "for", "your", "order", "was",
    "sent", "team", "project", "deadline", "we", "will", "call", "you", "tomorrow", "regards", "and", "thanks",
    "number", "account", "delivery", "Grüße", "café", "schedule", "update", "draft", "review", "budget", "with", "to",
    "in", "of", "a",
];

/// The kinds, in the order in which [`Mails`] counts them.
pub(super) const KINDS: [&str; 4] = ["plain", "html", "newsletter", "attachment"];

/// An endless row of messages.
#[derive(Debug, Clone)]
pub(super) struct Mails {
    dice: Dice,
    date: String,
    count: u64,
}

impl Mails {
    /// The row of this seed; `date` is what the messages say.
    pub(super) fn new(seed: u64, date: OffsetDateTime) -> Self {
        Self { dice: Dice::new(seed), date: date.format(&Rfc2822).unwrap_or_default(), count: 0 }
    }

    /// The next message, with CRLF: 0.5 to 100 KB.
    pub(super) fn next(&mut self) -> Bytes {
        self.count += 1;
        let kind = match self.dice.below(10) {
            0..4 => 0,
            4..7 => 1,
            7..9 => 2,
            _ => 3,
        };
        let mut out = self.header(KINDS[kind]);
        let boundary = format!("=_{:016x}", self.dice.next());
        match kind {
            0 => {
                out.push_str("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
                let (paragraphs, words) = (1 + self.dice.below(8), 40);
                self.text(&mut out, paragraphs, words);
            }
            1 | 2 => {
                let _ =
                    write!(out, "Content-Type: multipart/alternative; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n");
                out.push_str("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
                self.text(&mut out, 2, 30);
                let _ = write!(out, "--{boundary}\r\nContent-Type: text/html; charset=utf-8\r\n");
                out.push_str("Content-Transfer-Encoding: 8bit\r\n\r\n");
                let blocks = if kind == 1 { 2 + self.dice.below(4) } else { 15 + self.dice.below(25) };
                self.html(&mut out, blocks);
                let _ = write!(out, "--{boundary}--\r\n");
            }
            _ => {
                let _ = write!(out, "Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n");
                out.push_str("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
                self.text(&mut out, 2, 30);
                self.attachment(&mut out, &boundary);
                let _ = write!(out, "--{boundary}--\r\n");
            }
        }
        out.into()
    }

    fn header(&mut self, kind: &str) -> String {
        let (from, to) = (self.dice.one(NAMES), self.dice.one(NAMES));
        let (at, here) = (self.dice.one(DOMAINS), self.dice.one(DOMAINS));
        let local = |name: &str| name.to_lowercase().replace(' ', ".");
        let subject: Vec<&str> = (0..3 + self.dice.below(5)).map(|_| self.dice.one(&WORDS[..30])).collect();
        // Words beyond ASCII go into encoded words.
        let subject = format!("=?utf-8?B?{}?=", STANDARD.encode(subject.join(" ")));
        let mut out = String::with_capacity(8 * 1024);
        let _ = write!(
            out,
            "Received: from mail.{at} (mail.{at} [192.0.2.{}]) by mx.{here}; {date}\r\nMessage-ID: <{:016x}.{}@{at}>\r\n\
             Date: {date}\r\nFrom: {from} <{}@{at}>\r\nTo: {to} <{}@{here}>\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n\
             X-Mailer: mailweir-load {kind}\r\n",
            1 + self.dice.below(250),
            self.dice.next(),
            self.count,
            local(from),
            local(to),
            date = self.date,
        );
        out
    }

    fn text(&mut self, out: &mut String, paragraphs: usize, words: usize) {
        for _ in 0..paragraphs {
            let mut column = 0;
            for _ in 0..1 + self.dice.below(words * 2) {
                let word = self.dice.one(WORDS);
                if column > 60 {
                    out.push_str("\r\n");
                    column = 0;
                }
                out.push_str(word);
                out.push(' ');
                column += word.len() + 1;
            }
            out.push_str("\r\n\r\n");
        }
    }

    fn html(&mut self, out: &mut String, blocks: usize) {
        out.push_str(
            "<!DOCTYPE html><html><head><title>Notice</title><style>p{margin:0 0 1em}</style></head><body>\r\n",
        );
        for _ in 0..blocks {
            let colour = self.dice.next() & 0xff_ffff;
            let _ = write!(out, "<table width=\"600\"><tr><td style=\"color:#{colour:06x}\"><p>\r\n");
            self.text(out, 1, 30);
            let (host, path) = (self.dice.one(DOMAINS), self.dice.next());
            let label = self.dice.one(WORDS);
            let _ = write!(out, "</p><a href=\"https://www.{host}/{path:x}?id={}\">{label}</a>", self.count);
            let _ =
                write!(out, "<img src=\"https://img.{host}/{path:x}.png\" width=\"1\" alt=\"\"></td></tr></table>\r\n");
        }
        out.push_str("</body></html>\r\n");
    }

    fn attachment(&mut self, out: &mut String, boundary: &str) {
        let rows = 20 + self.dice.below(1_500);
        let (kind, name, content) = if self.dice.below(2) == 0 {
            let mut table = String::from("day;item;amount\r\n");
            for row in 0..rows {
                let _ = write!(table, "{row};{};{}\r\n", self.dice.one(WORDS), self.dice.below(10_000));
            }
            ("text/csv", "figures.csv", table.into_bytes())
        } else {
            let size = 1_024 + self.dice.below(40_000);
            let mut picture = b"\x89PNG\r\n\x1a\n".to_vec();
            picture.extend((0..size).map(|_| self.dice.next() as u8));
            ("image/png", "scan.png", picture)
        };
        let _ = write!(
            out,
            "--{boundary}\r\nContent-Type: {kind}; name=\"{name}\"\r\nContent-Disposition: attachment; filename=\"{name}\"\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n"
        );
        for line in STANDARD.encode(content).as_bytes().chunks(76) {
            out.push_str(&String::from_utf8_lossy(line));
            out.push_str("\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Message, MessageLimits};

    #[test]
    fn varied_valid_and_repeatable() {
        let row = |seed| {
            let mut mails = Mails::new(seed, OffsetDateTime::UNIX_EPOCH);
            (0..200).map(|_| mails.next()).collect::<Vec<_>>()
        };
        let mails = row(1);
        assert_eq!(mails, row(1));
        assert_ne!(mails, row(2));
        let (mut attached, mut links) = (0, 0);
        for raw in &mails {
            assert!((300..120_000).contains(&raw.len()), "{}", raw.len());
            let text = String::from_utf8_lossy(raw);
            assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "line ends");
            let message = Message::parse(raw.clone(), &MessageLimits::default());
            assert_eq!(message.from().len(), 1);
            attached += usize::from(text.contains("Content-Disposition: attachment"));
            links += usize::from(text.contains("<a href="));
        }
        assert!(attached > 5 && links > 50 && attached + links < 190, "{attached} {links}");
    }
}
