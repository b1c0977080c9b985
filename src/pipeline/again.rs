//! Messages that come again because their senders were told to try later, by hash: since when, and how often.
//!
//! The hash is of the envelope's sender and of the message below the trace fields at its top (RFC 5321, 4.4; RFC 7208, 9.1; RFC
//! 8601): the hop before writes those anew, with the time, at each try; and so it does with signatures (RFC 6376, 8617), where it
//! signs what it passes on.
//!
//! The memory is this process's own and bounded: [`MOST`] messages, each for a time from when it last came. Beyond that the
//! older half is forgotten; such a message is new.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::Transaction;

/// What each hop writes at the top, besides what `Received` is for. That of others below it is the same at each try.
const TRACE: [&str; 10] = [
    "Received",
    "Return-Path",
    "Delivered-To",
    "X-Original-To",
    "Received-SPF",
    "Authentication-Results",
    "DKIM-Signature",
    "ARC-Seal",
    "ARC-Message-Signature",
    "ARC-Authentication-Results",
];

/// Messages remembered at once: about 10 MB.
const MOST: usize = 100_000;

/// What came again, and for how long it is remembered.
#[derive(Debug)]
pub(super) struct Returning {
    memory: Duration,
    seen: Mutex<Halves>,
}

/// Those that came lately, and before them.
#[derive(Debug, Default)]
struct Halves {
    young: HashMap<[u8; 32], Seen>,
    old: HashMap<[u8; 32], Seen>,
    turned: Option<Instant>,
}

/// When a message first came, and how often by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) first: Instant,
    pub(super) times: u32,
}

impl Returning {
    /// Remembers a message for `memory` after it last came, at most twice that.
    pub(super) fn new(memory: Duration) -> Self {
        Self { memory, seen: Mutex::default() }
    }

    /// Notes that a message came and was turned away.
    pub(super) fn again(&self, transaction: &Transaction, now: Instant) -> Seen {
        self.note(sign(&transaction.envelope.sender.text, &transaction.raw), now)
    }

    fn note(&self, hash: [u8; 32], now: Instant) -> Seen {
        let mut halves = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let turned = *halves.turned.get_or_insert(now);
        if halves.young.len() >= MOST / 2 || now.duration_since(turned) >= self.memory {
            let long_ago = now.duration_since(turned) >= 2 * self.memory;
            halves.old = if long_ago { HashMap::new() } else { std::mem::take(&mut halves.young) };
            halves.young.clear();
            halves.turned = Some(now);
        }
        let before = halves.young.get(&hash).or_else(|| halves.old.get(&hash));
        let seen =
            before.map_or(Seen { first: now, times: 1 }, |one| Seen { times: one.times.saturating_add(1), ..*one });
        halves.young.insert(hash, seen);
        seen
    }
}

/// What a message is known by when it comes again.
fn sign(sender: &str, raw: &[u8]) -> [u8; 32] {
    // No sender has a line end in it.
    Sha256::new().chain_update(sender).chain_update(b"\n").chain_update(below_trace(raw)).finalize().into()
}

/// The message without the trace fields at its top, folded lines and all.
fn below_trace(raw: &[u8]) -> &[u8] {
    let mut rest = raw;
    while TRACE.iter().any(|name| is_field(rest, name)) {
        loop {
            rest = &rest[memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1)..];
            if !rest.starts_with(b" ") && !rest.starts_with(b"\t") {
                break;
            }
        }
    }
    rest
}

/// Whether a field of this name begins here. Spaces before the colon are obsolete and taken (RFC 5322, 4.5.8).
fn is_field(line: &[u8], name: &str) -> bool {
    let Some((begin, after)) = line.split_at_checked(name.len()) else { return false };
    begin.eq_ignore_ascii_case(name.as_bytes())
        && after.iter().find(|byte| !matches!(byte, b' ' | b'\t')).is_some_and(|byte| *byte == b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn counts_while_it_comes_again() {
        let returning = Returning::new(HOUR);
        let now = Instant::now();
        let times = |hash, at| returning.note([hash; 32], at).times;
        assert_eq!((times(1, now), times(1, now), times(2, now)), (1, 2, 1));
        let later = returning.note([1; 32], now + HOUR * 3 / 2);
        assert_eq!((later.first, later.times), (now, 3), "it is remembered from when it last came");
        assert_eq!(returning.note([1; 32], now + HOUR * 5).times, 1, "and forgotten after that");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let returning = Returning::new(HOUR);
        let now = Instant::now();
        let hash = |number: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_le_bytes());
            hash
        };
        for number in 0..3 * MOST {
            returning.note(hash(number), now);
        }
        let kept = {
            let halves = returning.seen.lock().unwrap();
            halves.young.len() + halves.old.len()
        };
        assert!(kept <= MOST, "{kept}");
        assert_eq!(returning.note(hash(3 * MOST - 1), now).times, 2);
        assert_eq!(returning.note(hash(0), now).times, 1);
    }

    #[test]
    fn the_time_that_the_hop_before_writes_makes_no_other_message() {
        let first = sign("a@a.example", b"Received: by mx; Fri, 20 Nov 2026 10:00:00 +0000\r\nSubject: x\r\n\r\nx\r\n");
        for raw in [
            &b"Subject: x\r\n\r\nx\r\n"[..],
            b"Received: by mx; Fri, 20 Nov 2026 10:05:00 +0000\r\nSubject: x\r\n\r\nx\r\n",
            b"received : from a\r\n\tby mx\r\n ; later\r\nSubject: x\r\n\r\nx\r\n",
            b"Return-Path: <a@a.example>\r\nDelivered-To: b\r\nX-Original-To: b\r\nReceived-SPF: pass\r\n t=1\r\n\
              Received:\r\nSubject: x\r\n\r\nx\r\n",
            b"Received: a\n\tb\nReceived: c\nSubject: x\r\n\r\nx\r\n",
            b"DKIM-Signature: v=1; t=1;\r\n\tb=one\r\nSubject: x\r\n\r\nx\r\n",
            b"ARC-Seal: i=1; t=2\r\nARC-Message-Signature: i=1\r\nARC-Authentication-Results: i=1; mx\r\n\
              Authentication-Results: mx; none\r\nReceived: a\r\nDKIM-Signature: v=1; t=2; b=two\r\nSubject: x\r\n\r\nx\r\n",
        ] {
            assert_eq!(sign("a@a.example", raw), first, "{}", String::from_utf8_lossy(raw));
        }
        for raw in [
            // What stands below the first other field belongs to the message.
            &b"Subject: x\r\nReceived: later\r\n\r\nx\r\n"[..],
            b"Received-By: x\r\nSubject: x\r\n\r\nx\r\n",
            b" Received: x\r\nSubject: x\r\n\r\nx\r\n",
            b"\r\nReceived: x\r\nSubject: x\r\n\r\nx\r\n",
            b"Subject: x\r\n\r\ny\r\n",
        ] {
            assert_ne!(sign("a@a.example", raw), first, "{}", String::from_utf8_lossy(raw));
        }
        assert_ne!(sign("b@a.example", b"Subject: x\r\n\r\nx\r\n"), first);
        for (raw, rest) in [
            (&b""[..], &b""[..]),
            (b"Received", b"Received"),
            (b"Received:", b""),
            (b"Received: a\r\n b", b""),
            (b"Received: a\n\nbody", b"\nbody"),
            (b"Received: a\r\n\r\nReceived: body", b"\r\nReceived: body"),
        ] {
            assert_eq!(below_trace(raw), rest, "{}", String::from_utf8_lossy(raw));
        }
    }
}
