//! The form of a job in Redis: a line of JSON with everything but the key, a line feed, and the payload as it is.
//!
//! What cannot be read back (another version wrote it, or another program) becomes a job of a kind that nobody handles, and so a
//! dead letter with its bytes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::deferred::{DeadJob, Job, Priority, Reason};

/// Kind of what cannot be read.
const UNREADABLE: &str = "unreadable";

/// What stands before the payload.
#[derive(Serialize, Deserialize)]
struct Head {
    kind: String,
    priority: Priority,
    #[serde(default)]
    not_before_ms: i64,
    #[serde(default)]
    attempt: u32,
    enqueued_ms: i64,
    #[serde(default)]
    correlation: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dead: Option<Death>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Death {
    reason: Reason,
    at_ms: i64,
}

/// A job without its key, as bytes.
pub(super) fn encode(job: &Job) -> Vec<u8> {
    write(job, None)
}

/// What [`encode`] wrote.
pub(super) fn decode(key: &str, bytes: &[u8]) -> Job {
    read(key, bytes).0
}

/// A dead letter without its key, as bytes.
pub(super) fn encode_dead(dead: &DeadJob) -> Vec<u8> {
    write(&dead.job, Some(Death { reason: dead.reason, at_ms: dead.dead_ms }))
}

/// What [`encode_dead`] wrote.
pub(super) fn decode_dead(key: &str, bytes: &[u8]) -> DeadJob {
    let (job, death) = read(key, bytes);
    let Death { reason, at_ms } = death.unwrap_or(Death { reason: Reason::UnknownKind, at_ms: 0 });
    DeadJob { job, reason, dead_ms: at_ms }
}

fn write(job: &Job, dead: Option<Death>) -> Vec<u8> {
    let head = Head {
        kind: job.kind.clone(),
        priority: job.priority,
        not_before_ms: job.not_before_ms,
        attempt: job.attempt,
        enqueued_ms: job.enqueued_ms,
        correlation: job.correlation.clone(),
        last_error: job.last_error.clone(),
        dead,
    };
    // Texts and numbers always have a JSON form; an empty head would be read back as unreadable, not lost.
    let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
    bytes.reserve_exact(job.payload.len() + 1);
    bytes.push(b'\n');
    bytes.extend_from_slice(&job.payload);
    bytes
}

fn read(key: &str, bytes: &[u8]) -> (Job, Option<Death>) {
    let split = memchr::memchr(b'\n', bytes).map(|at| (&bytes[..at], &bytes[at + 1..]));
    let read = split.and_then(|(head, payload)| Some((serde_json::from_slice::<Head>(head).ok()?, payload)));
    let Some((head, payload)) = read else {
        return (Job::new(UNREADABLE, key, Bytes::copy_from_slice(bytes), 0), None);
    };
    let job = Job {
        key: key.to_owned(),
        kind: head.kind,
        priority: head.priority,
        payload: Bytes::copy_from_slice(payload),
        not_before_ms: head.not_before_ms,
        attempt: head.attempt,
        enqueued_ms: head.enqueued_ms,
        correlation: head.correlation,
        last_error: head.last_error,
    };
    (job, head.dead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut job = Job::new("reassess", "reassess:1\n:\u{e9}", &b"{\n\0\xff}\n"[..], 17);
        job.correlation = "01\"\n".into();
        job.attempt = 3;
        job.last_error = Some("no\nnot \u{1f600}".into());
        assert_eq!(decode(&job.key, &encode(&job)), job);
        let dead = DeadJob { job, reason: Reason::Poison, dead_ms: 99 };
        assert_eq!(decode_dead(&dead.job.key, &encode_dead(&dead)), dead);
    }

    #[test]
    fn what_cannot_be_read_is_kept() {
        for bytes in [&b""[..], b"x", b"{}\nx", b"{\"kind\":1}\n", b"\xff\n\n"] {
            let job = decode("k", bytes);
            assert_eq!((job.kind.as_str(), &job.payload[..]), (UNREADABLE, bytes));
        }
    }
}
