//! The way a message took, from its `Received` fields (RFC 5321, 4.4): header blocks by hop, names and addresses.
//!
//! A hop is a `Received` field and what stands below it up to the next; fields above the topmost belong to the last hop.
//! Index 0 is the origin. Everything here is what strangers wrote, but for the fields of the own gateway. Lenient, linear.

use std::net::IpAddr;

use mail_parser::DateTime;

use super::authentication_results::{AuthenticationResults, SpfRecord, tags};
use super::{DomainParts, Message};

const MAX_HOPS: usize = 200;
const MAX_NAMES: usize = 500;
const MAX_VALUE_BYTES: usize = 16 << 10;

/// One hop.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hop {
    /// 0 at the origin.
    pub index: usize,
    /// All fields of the block, in order.
    pub fields: Vec<HopField>,
    /// The first field of the block taken apart; `None` when the message has no `Received` at all.
    pub received: Option<Received>,
    /// `Received-SPF`.
    pub received_spf: Option<SpfRecord>,
    /// `Authentication-Results` and its ARC and vendors' forms, in order.
    pub authentication_results: Vec<AuthenticationResults>,
    /// Tags of `DKIM-Signature`, `ARC-Message-Signature` and the like: field name, then tag and value.
    pub signatures: Vec<Signature>,
}

/// One field of a hop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HopField {
    /// As sent.
    pub name: String,
    /// Unfolded and trimmed, encoded words left as they are.
    pub value: String,
    /// Place in the message's header, from the top.
    pub position: usize,
}

/// A signature field: `d=`, `s=` and so on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signature {
    /// The field's name, as sent.
    pub field: String,
    /// Tags in lower case with their values, white space removed, in order.
    pub tags: Vec<(String, String)>,
}

impl Signature {
    /// The value of a tag.
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A `Received` field; clauses without their keyword, comments included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    /// `from`.
    pub source: Option<String>,
    /// `by`.
    pub server: Option<String>,
    /// `via`.
    pub link: Option<String>,
    /// `with`.
    pub protocol: Option<String>,
    /// `id`.
    pub id: Option<String>,
    /// `for`, brackets taken off.
    pub mailbox: Option<String>,
    /// Seconds since 1970.
    pub time: Option<i64>,
    /// `+0100`, as written.
    pub zone_offset: Option<String>,
}

impl Received {
    /// Reads an unfolded value.
    pub fn parse(value: &str) -> Self {
        let value = &value[..value.floor_char_boundary(MAX_VALUE_BYTES)];
        let (clauses, date) = match value.rfind(';') {
            Some(at) => (&value[..at], value[at + 1..].trim()),
            None => (value, ""),
        };
        let mut out = Self::default();
        let (mut depth, mut open, mut start) = (0usize, None::<Clause>, 0);
        for (at, word) in words(clauses) {
            let clause = if depth == 0 { Clause::of(word) } else { None };
            if let Some(clause) = clause.filter(|clause| out.slot(*clause).is_none() && open != Some(*clause)) {
                if let Some(open) = open {
                    out.set(open, &clauses[start..at]);
                }
                (open, start) = (Some(clause), at + word.len());
            }
            for byte in word.bytes() {
                match byte {
                    b'(' => depth += 1,
                    b')' => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
        }
        if let Some(open) = open {
            out.set(open, &clauses[start..]);
        }
        let date_text = date.get(..100).unwrap_or(date);
        out.time = DateTime::parse_rfc822(date_text).filter(DateTime::is_valid).map(|date| date.to_timestamp());
        let zone = date.split_whitespace().rfind(|word| {
            word.len() == 5 && word.starts_with(['+', '-']) && word.bytes().skip(1).all(|b| b.is_ascii_digit())
        });
        out.zone_offset = zone.map(str::to_owned);
        out
    }

    fn slot(&mut self, clause: Clause) -> &mut Option<String> {
        match clause {
            Clause::From => &mut self.source,
            Clause::By => &mut self.server,
            Clause::Via => &mut self.link,
            Clause::With => &mut self.protocol,
            Clause::Id => &mut self.id,
            Clause::For => &mut self.mailbox,
        }
    }

    fn set(&mut self, clause: Clause, text: &str) {
        let text = match clause {
            Clause::For => text.trim().trim_start_matches('<').split('>').next().unwrap_or_default(),
            _ => text.trim(),
        };
        *self.slot(clause) = (!text.is_empty()).then(|| text.to_owned());
    }

    /// Words of the clauses that name machines.
    fn machine_words(&self) -> impl Iterator<Item = &str> {
        let clauses = self.source.iter().chain(&self.server).chain(&self.link);
        clauses.flat_map(|text| text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'))))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clause {
    From,
    By,
    Via,
    With,
    Id,
    For,
}

impl Clause {
    fn of(word: &str) -> Option<Self> {
        [
            ("from", Self::From),
            ("by", Self::By),
            ("via", Self::Via),
            ("with", Self::With),
            ("id", Self::Id),
            ("for", Self::For),
        ]
        .into_iter()
        .find_map(|(name, clause)| word.eq_ignore_ascii_case(name).then_some(clause))
    }
}

/// Words with their places.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_ascii_whitespace().map(|word| (word.as_ptr().addr() - text.as_ptr().addr(), word))
}

/// The hops of a message, origin first.
pub fn hops(message: &Message) -> Vec<Hop> {
    let mut blocks: Vec<Hop> = vec![Hop::default()];
    let mut seen = 0;
    for (position, field) in message.headers().enumerate() {
        let value = field.unfolded().into_owned();
        if field.is("Received") {
            seen += 1;
            // What stands above the first belongs to it.
            if (2..=MAX_HOPS).contains(&seen) {
                blocks.push(Hop::default());
            }
        }
        let Some(hop) = blocks.last_mut() else { break };
        read_field(hop, field.name, &value);
        hop.fields.push(HopField { name: field.name.to_owned(), value, position });
    }
    blocks.reverse();
    blocks.iter_mut().enumerate().for_each(|(index, hop)| hop.index = index);
    blocks
}

fn read_field(hop: &mut Hop, name: &str, value: &str) {
    let is = |known: &[&str]| known.iter().any(|known| name.eq_ignore_ascii_case(known));
    if is(&["Received"]) && hop.received.is_none() {
        hop.received = Some(Received::parse(value));
    } else if is(&["Received-SPF"]) && hop.received_spf.is_none() {
        hop.received_spf = Some(SpfRecord::parse(value));
    } else if is(&[
        "DKIM-Signature",
        "DomainKey-Signature",
        "ARC-Message-Signature",
        "ARC-Seal",
        "X-Google-DKIM-Signature",
    ]) {
        hop.signatures.push(Signature { field: name.to_owned(), tags: tags(value) });
    } else if is(&["Authentication-Results", "ARC-Authentication-Results", "X-Original-Authentication-Results"]) {
        hop.authentication_results.push(AuthenticationResults::parse(name, value));
    }
}

/// All names of machines in `Received`, lower case, each once, newest hop first; names that the DNS could not hold left out.
pub fn received_domains(message: &Message) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for field in message.received().take(MAX_HOPS) {
        for word in Received::parse(&field.unfolded()).machine_words().filter(|word| word.contains('.')) {
            let name = word.trim_end_matches(['.', ':', '-']).to_ascii_lowercase();
            if name.parse::<IpAddr>().is_err() && DomainParts::of(&name).root_domain.is_some() && !is_number(&name) {
                let new = out.len() < MAX_NAMES && seen.insert(name.clone());
                out.extend(new.then_some(name));
            }
        }
    }
    out
}

fn is_number(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_digit() || b == b'.') || name.contains(':') || name.starts_with(['-', '.'])
}

/// All addresses in `Received`, each once, newest hop first.
pub fn received_ips(message: &Message) -> Vec<IpAddr> {
    let mut out: Vec<IpAddr> = Vec::new();
    for field in message.received().take(MAX_HOPS) {
        for word in Received::parse(&field.unfolded()).machine_words() {
            let word = word.get(..5).filter(|start| start.eq_ignore_ascii_case("ipv6:")).map_or(word, |_| &word[5..]);
            if let Ok(ip) = word.trim_end_matches(['.', ':']).parse::<IpAddr>()
                && out.len() < MAX_NAMES
                && !out.contains(&ip)
            {
                out.push(ip);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mail::MessageLimits;

    #[test]
    fn clauses() {
        let got = Received::parse(
            "from mx.example.org (by.example.org [192.0.2.1]) (using TLS with cipher x) by in.example.net \
             (Postfix) via TCP with ESMTPS id 4ABC for <bob@example.net>; Mon, 1 Jan 2024 10:00:00 +0100 (CET)",
        );
        assert_eq!(
            got.source.as_deref(),
            Some("mx.example.org (by.example.org [192.0.2.1]) (using TLS with cipher x)")
        );
        assert_eq!(got.server.as_deref(), Some("in.example.net (Postfix)"));
        assert_eq!((got.link.as_deref(), got.protocol.as_deref()), (Some("TCP"), Some("ESMTPS")));
        assert_eq!((got.id.as_deref(), got.mailbox.as_deref()), (Some("4ABC"), Some("bob@example.net")));
        assert_eq!((got.time, got.zone_offset.as_deref()), (Some(1_704_099_600), Some("+0100")));
        assert_eq!(Received::parse(""), Received::default());
        assert_eq!(Received::parse("by smtp.example.org").server.as_deref(), Some("smtp.example.org"));
    }

    #[test]
    fn blocks() {
        let raw = "Authentication-Results: in.example.net; dmarc=pass header.from=example.org\r\n\
                   Received: from mx.example.org (mx.example.org [192.0.2.1]) by in.example.net; x\r\n\
                   Received-SPF: pass (ok) client-ip=192.0.2.1;\r\n\
                   Received: from [IPv6:2001:db8::7] (helo=pc.lan) by mx.example.org with ESMTPA id 7\r\n\
                   X-Mailer: Test\r\nDKIM-Signature: v=1; d=example.org;\r\n s=k; h=From:To\r\nFrom: a@example.org\r\n\r\n";
        let message = Message::parse(Bytes::from(raw), &MessageLimits::default());
        let hops = hops(&message);
        let names = |hop: &Hop| hop.fields.iter().map(|f| f.name.clone()).collect::<Vec<_>>();
        assert_eq!(hops.len(), 2);
        assert_eq!(names(&hops[0]), ["Received", "X-Mailer", "DKIM-Signature", "From"]);
        assert_eq!(names(&hops[1]), ["Authentication-Results", "Received", "Received-SPF"]);
        assert_eq!(hops[0].signatures[0].tag("s"), Some("k"));
        assert_eq!(hops[1].authentication_results[0].verdict("dmarc"), Some("pass"));
        assert_eq!(hops[1].received_spf.as_ref().unwrap().client_ip.as_deref(), Some("192.0.2.1"));
        assert_eq!(received_domains(&message), ["mx.example.org", "in.example.net", "pc.lan"]);
        assert_eq!(received_ips(&message), ["192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::7".parse().unwrap()]);
    }

    #[test]
    fn without_received() {
        let message = Message::parse(Bytes::from("From: a@example.org\r\n\r\n"), &MessageLimits::default());
        let hops = hops(&message);
        assert_eq!((hops.len(), hops[0].received.is_none(), hops[0].fields.len()), (1, true, 1));
    }
}
