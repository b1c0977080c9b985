//! What comes before the content: greeting, TLS, who the client is, sender and recipients.

use bytes::BytesMut;

use crate::mail::Path;
use crate::protocol::smtp::{Attribute, Extension, Reply};

use super::{Event, Helo, Phase, Question, Server, Violation, say};

impl Server {
    pub(super) fn greeted(&mut self, name: String, extended: bool) -> Option<Event> {
        let ended = self.end_transaction();
        self.helo = Some(Helo { name, extended });
        let reply = if extended {
            let mut offer = self.extensions;
            if self.trust.xforward {
                offer = offer.with_xforward();
            }
            if self.trust.xclient {
                offer = offer.with_xclient();
            }
            offer.reply(&self.settings.host_name)
        } else {
            Reply::composed(250, None, self.settings.host_name.clone())
        };
        self.idle(&reply);
        ended.then_some(Event::Reset)
    }

    pub(super) fn mail(&mut self, path: Path) -> Option<Event> {
        if self.settings.require_tls && !self.tls {
            return self.refuse(&say::TLS_FIRST);
        }
        if self.helo.is_none() {
            return self.refuse(&say::HELO_FIRST);
        }
        if self.transaction.is_some() {
            return self.refuse(&say::NESTED_MAIL);
        }
        let mut smtputf8 = false;
        for param in &path.params {
            let (keyword, value) = param.split_once('=').map_or((param.as_str(), None), |(k, v)| (k, Some(v)));
            let known = match (keyword.to_ascii_uppercase().as_str(), value) {
                ("SIZE", Some(digits)) => match digits.parse::<u64>() {
                    Ok(size) if size > self.max_size() => return self.refuse(&say::TOO_BIG),
                    Ok(_) => true,
                    // More digits than any limit.
                    Err(_) if digits.bytes().all(|b| b.is_ascii_digit()) => return self.refuse(&say::TOO_BIG),
                    Err(_) => return self.refuse(&say::BAD_PARAMETER),
                },
                ("BODY", Some(body)) if self.extensions.has(Extension::EightBitMime) => {
                    if !body.eq_ignore_ascii_case("7BIT") && !body.eq_ignore_ascii_case("8BITMIME") {
                        return self.refuse(&say::BAD_PARAMETER);
                    }
                    true
                }
                ("SMTPUTF8", None) if self.extensions.has(Extension::SmtpUtf8) => {
                    smtputf8 = true;
                    true
                }
                ("SMTPUTF8", _) => return self.refuse(&say::NO_SMTPUTF8),
                ("RET" | "ENVID", Some(_)) => self.extensions.has(Extension::Dsn),
                _ => false,
            };
            if !known {
                return self.refuse(&say::UNKNOWN_PARAMETER);
            }
        }
        if !smtputf8 && !is_ascii(&path) {
            return self.refuse(&say::NO_SMTPUTF8);
        }
        self.ask(Question::Mail(path.clone()), Event::Mail(path))
    }

    pub(super) fn rcpt(&mut self, path: Path) -> Option<Event> {
        let Some(transaction) = &self.transaction else { return self.refuse(&say::MAIL_FIRST) };
        if transaction.chunks.is_some() || transaction.chunk_failed {
            return self.refuse(&say::BAD_SEQUENCE);
        }
        if transaction.envelope.recipients.len() >= self.settings.max_recipients {
            return self.refuse(&say::TOO_MANY_RECIPIENTS);
        }
        if !transaction.smtputf8 && !is_ascii(&path) {
            return self.refuse(&say::NO_SMTPUTF8);
        }
        let dsn = self.extensions.has(Extension::Dsn);
        let known = path.params.iter().all(|param| {
            let keyword = param.split('=').next().unwrap_or_default().to_ascii_uppercase();
            dsn && param.contains('=') && matches!(keyword.as_str(), "NOTIFY" | "ORCPT")
        });
        if !known {
            return self.refuse(&say::UNKNOWN_PARAMETER);
        }
        self.ask(Question::Rcpt(path.clone()), Event::Rcpt(path))
    }

    pub(super) fn ask(&mut self, question: Question, event: Event) -> Option<Event> {
        self.phase = Phase::Asked(question);
        Some(event)
    }

    pub(super) fn start_tls(&mut self, input: &mut BytesMut) -> Option<Event> {
        if !self.extensions.has(Extension::StartTls) {
            return self.refuse(&if self.tls { say::BAD_SEQUENCE } else { say::NOT_IMPLEMENTED });
        }
        // RFC 3207: nothing that came in plain text may be taken for protected (CVE-2011-0411).
        if !input.is_empty() {
            self.violations.push(Violation::TlsInjection);
            input.clear();
        }
        self.lines.clear();
        self.end_transaction();
        say::TLS_READY.write(&mut self.out);
        self.phase = Phase::TlsHandshake;
        Some(Event::StartTls)
    }

    pub(super) fn xclient(&mut self, attributes: &[(Attribute, String)]) -> Option<Event> {
        if !self.trust.xclient {
            return self.refuse(&say::NOT_TRUSTED);
        }
        if self.transaction.is_some() {
            return self.refuse(&say::BAD_SEQUENCE);
        }
        let Some(next) = self.peer.overridden(attributes) else { return self.refuse(&say::BAD_PARAMETER) };
        self.peer = next;
        self.forwarded = None;
        self.helo = None;
        self.banner();
        Some(Event::Reconnected)
    }

    pub(super) fn xforward(&mut self, attributes: &[(Attribute, String)]) -> Option<Event> {
        if !self.trust.xforward {
            return self.refuse(&say::NOT_TRUSTED);
        }
        if self.transaction.is_some() {
            return self.refuse(&say::BAD_SEQUENCE);
        }
        let base = self.forwarded.take().unwrap_or_default();
        let Some(next) = base.overridden(attributes) else { return self.refuse(&say::BAD_PARAMETER) };
        self.forwarded = Some(next);
        self.refuse(&say::OK)
    }
}

fn is_ascii(path: &Path) -> bool {
    path.text.is_ascii() && path.params.iter().all(|param| param.is_ascii())
}

pub(super) fn has_param(path: &Path, keyword: &str) -> bool {
    path.params.iter().any(|param| param.split('=').next().is_some_and(|k| k.eq_ignore_ascii_case(keyword)))
}
