//! Links that nobody opens but the reader: those that carry who he is, and those that do something when they are opened.
//!
//! A link made for one reader tells its sender that he read the message, and may leave a list, confirm an order or accept a
//! contract in his name. What can be seen of that is in the URL, and where in doubt it stays closed: where it leads is then not
//! known, which harms nobody. Pure; nothing is opened here.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use url::Url;

use crate::mail::{Envelope, Message};

/// Recipients whose traces are looked for.
const MAX_RECIPIENTS: usize = 20;
/// Links of `List-Unsubscribe`.
const MAX_LISTED: usize = 10;
/// A run of letters and digits that is shorter is no token: shorteners' own codes are.
const TOKEN: usize = 20;
/// And one with fewer turns is made of words.
const TURNS: usize = 5;
/// Digits that are shorter are a number of something, not of somebody.
const NUMBER: usize = 16;

/// Words of links that act.
const ACTS: [&str; 48] = [
    "unsubscribe",
    "unsubscribed",
    "unsub",
    "optout",
    "optin",
    "subscribe",
    "subscription",
    "subscriptions",
    "preferences",
    "preference",
    "abmelden",
    "abbestellen",
    "austragen",
    "desinscription",
    "desabonner",
    "baja",
    "confirm",
    "confirmation",
    "confirmed",
    "bestaetigen",
    "activate",
    "activation",
    "verify",
    "verification",
    "validate",
    "validation",
    "approve",
    "approval",
    "accept",
    "decline",
    "reject",
    "rsvp",
    "vote",
    "delete",
    "remove",
    "revoke",
    "cancel",
    "reset",
    "invite",
    "invitation",
    "join",
    "magic",
    "oneclick",
    "acknowledge",
    "pay",
    "checkout",
    "logout",
    "signout",
];
/// Names of parameters that say who reads.
const NAMES: [&str; 30] = [
    "token",
    "auth",
    "sig",
    "signature",
    "otp",
    "jwt",
    "uid",
    "user",
    "userid",
    "email",
    "mail",
    "e",
    "rcpt",
    "recipient",
    "to",
    "subscriber",
    "sid",
    "cid",
    "eid",
    "mc_eid",
    "mkt_tok",
    "_hsenc",
    "vero_id",
    "contact",
    "contactid",
    "member",
    "ticket",
    "session",
    "login",
    "key",
];

/// What of one message must not be opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Untouchable(Arc<Traces>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Traces {
    /// Recipients' addresses and their digests, lower case.
    lower: Vec<String>,
    /// The same in base64: letters count.
    exact: Vec<String>,
    /// Links by which a reader leaves a list.
    listed: Vec<String>,
}

impl Untouchable {
    /// Of a message: its recipients' traces, and the links of `List-Unsubscribe`.
    pub fn of(message: &Message, envelope: &Envelope) -> Self {
        let mut traces = Traces::default();
        for address in envelope.recipients.iter().filter_map(|path| path.address()).take(MAX_RECIPIENTS) {
            let plain = address.to_string().to_lowercase();
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            traces.exact.push(STANDARD_NO_PAD.encode(&plain));
            traces.lower.extend([hex(&Md5::digest(&plain)), hex(&Sha1::digest(&plain)), hex(&Sha256::digest(&plain))]);
            traces.lower.push(plain);
        }
        let header = message.header("List-Unsubscribe").map(|header| header.text()).unwrap_or_default();
        let listed = header.split(['<', '>', ',']).filter_map(|text| Url::parse(text.trim()).ok());
        traces.listed.extend(listed.take(MAX_LISTED).map(String::from));
        Self(Arc::new(traces))
    }

    /// Whether opening it could do something in the reader's name, or tell who he is.
    pub fn holds(&self, url: &Url) -> bool {
        let Traces { lower, exact, listed } = &*self.0;
        let text = url.as_str();
        let open = decoded(text);
        let small = open.to_lowercase();
        let traced = lower.iter().any(|trace| small.contains(trace))
            || exact.iter().any(|trace| trace.len() > 8 && (text.contains(trace) || open.contains(trace)));
        traced
            || listed.iter().any(|one| one == text)
            || !url.username().is_empty()
            || small.contains('@') && !url.path().starts_with("/@")
            || acts(url)
            || names_somebody(url)
    }
}

/// What stands after the host: segments of the path, names and values of the query, the fragment.
fn pieces(url: &Url) -> impl Iterator<Item = String> {
    let segments = url.path().split('/').map(decoded);
    let query: Vec<(String, String)> = url.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
    let query = query.into_iter().flat_map(|(name, value)| [name, value]);
    segments.chain(query).chain(url.fragment().map(decoded))
}

fn acts(url: &Url) -> bool {
    let speaks = |piece: String| {
        let lower = piece.to_lowercase();
        let split = ["opt-out", "opt_out", "opt-in", "one-click", "one_click", "sign-out"];
        split.iter().any(|word| lower.contains(word))
            || lower.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| ACTS.contains(&word))
    };
    pieces(url).any(speaks)
}

fn names_somebody(url: &Url) -> bool {
    let named = |(name, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)| {
        !value.is_empty() && NAMES.contains(&name.to_ascii_lowercase().as_str())
    };
    // A place that stands in another's query is looked at when it is reached.
    let place = |piece: &String| piece.contains("://");
    url.query_pairs().any(named)
        || pieces(url).filter(|piece| !place(piece)).any(|piece| {
            piece.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '+' | '=')).any(is_token)
        })
}

/// Long, and made by chance: letters and digits, or large and small letters, take turns.
fn is_token(word: &str) -> bool {
    if word.len() >= NUMBER && word.bytes().all(|b| b.is_ascii_digit()) {
        return true;
    }
    let kind = |b: u8| match b {
        b'0'..=b'9' => 0,
        b'A'..=b'Z' => 1,
        b'a'..=b'z' => 2,
        _ => 3,
    };
    let bytes = word.as_bytes();
    // Words of a headline begin with a capital: from there to small letters is no turn.
    let turns = |pair: &&[u8]| match (kind(pair[0]), kind(pair[1])) {
        (1, 2) | (3, _) | (_, 3) => false,
        (one, other) => one != other,
    };
    word.len() >= TOKEN && bytes.windows(2).filter(turns).count() >= TURNS
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.filter(|_| byte == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{MessageLimits, Path};

    fn untouchable() -> Untouchable {
        let raw =
            "From: a@a.example\r\nList-Unsubscribe: <mailto:x@a.example>, <https://a.example/l/7>\r\n\r\nhello\r\n";
        let message = Message::parse(raw.into(), &MessageLimits::default());
        let envelope = Envelope { sender: Path::new("a@a.example"), recipients: vec![Path::new("Bob@firm.example")] };
        Untouchable::of(&message, &envelope)
    }

    #[test]
    fn what_is_the_readers_alone() {
        let untouchable = untouchable();
        for url in [
            "https://a.example/l/7",
            "https://a.example/unsubscribe",
            "https://a.example/Unsub.aspx?id=3",
            "https://a.example/x?do=opt-out",
            "https://a.example/order/confirm/12",
            "https://a.example/account/verify",
            "https://a.example/?bob@firm.example",
            "https://a.example/?x=Bob%40Firm.example",
            "https://a.example/p/Ym9iQGZpcm0uZXhhbXBsZQ",
            "https://a.example/p#Ym9iQGZpcm0uZXhhbXBsZQ==",
            "https://a.example/h/6b1d1d0a4c8a3f3e9ab0c0aa1f2e3d4c",
            "https://a.example/x?t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.x",
            "https://a.example/c/0b5d9f7e-3c1a-4a52-9a6b-7f0b1d2c3e4f",
            "https://a.example/o?subscriber=8",
            "https://a.example/o/1234567890123456",
            "https://user@a.example/",
            "https://leads.example/?u=https%3A%2F%2Fb.example%2Funsubscribe",
        ] {
            assert!(untouchable.holds(&Url::parse(url).unwrap()), "{url}");
        }
    }

    #[test]
    fn what_anybody_may_open() {
        let untouchable = untouchable();
        for url in [
            "https://bit.ly/3xYzAb9",
            "https://t.co/AbC123dEf4",
            "https://a.example/",
            "https://a.example/2026/11/how-to-keep-a-weir-in-2026-and-later",
            "https://a.example/The-Great-Book-Of-Weirs-And-Other-Works",
            "https://www.youtube.com/@weir/videos",
            "https://a.example/login?next=/home",
            "https://www.google.com/url?q=https%3A%2F%2Fb.example%2Fpage",
            "https://a.example/files/report_final_v2.pdf",
        ] {
            assert!(!untouchable.holds(&Url::parse(url).unwrap()), "{url}");
        }
    }

    #[test]
    fn digests_of_the_address_are_known() {
        let hex: String = Md5::digest("bob@firm.example").iter().map(|byte| format!("{byte:02X}")).collect();
        assert!(untouchable().holds(&Url::parse(&format!("https://a.example/{hex}")).unwrap()));
    }
}
