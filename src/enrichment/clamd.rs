//! The virus scanner: clamd's `INSTREAM` (clamd(8)) over TCP or a unix socket.
//!
//! Only `stream: OK` is clean. `ERROR`, the size limit, an answer cut off or unknown: not scanned. The reply is hostile text
//! like any other: bounded, printable, and taken apart by fixed words alone.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::cache::Cache;
use super::services::Outside;
use super::{ClamdConfig, ServiceError, Tag};
use crate::egress::{Dependency, Failure, Fence, Names, Repeat, Stream, StreamClient};

/// Bytes of one chunk of the stream.
const CHUNK: usize = 64 << 10;
/// Longest name of malware kept, in characters.
const NAME_CHARS: usize = 100;

pub(super) struct Clamd {
    client: Arc<StreamClient>,
    cache: Cache<Vec<String>>,
    max: usize,
}

impl Clamd {
    pub(super) fn new(
        config: &ClamdConfig,
        outside: &Outside,
        names: &Names,
        fence: &Fence,
    ) -> Result<Self, ServiceError> {
        let target = config.address.parse().map_err(|source| ServiceError::Address { key: "clamd.address", source })?;
        let dependency = outside.dependencies.dependency("clamd", &config.service.call);
        Ok(Self {
            cache: Cache::new(("clamd", "clamd", ""), &config.service, &outside.tiers, &dependency),
            client: Arc::new(StreamClient::new(dependency, target, names.clone(), fence.clone())),
            max: config.max_stream_bytes,
        })
    }

    pub(super) fn dependency(&self) -> &Dependency {
        self.client.dependency()
    }

    /// Names of the malware found in a message; empty: none.
    pub(super) async fn scan(&self, raw: &Bytes, until: Instant) -> Result<Vec<String>, Failure> {
        if raw.len() > self.max {
            return Err(Failure::Declined(format!("larger than {} bytes (clamd.max_stream_bytes)", self.max)));
        }
        if let Some(failure) = self.cache.refuses() {
            return Err(failure);
        }
        let key: String = Sha256::digest(raw).iter().map(|byte| format!("{byte:02x}")).collect();
        let about = || vec![Tag::dependency("clamd"), Tag::message(&key)];
        let (client, raw) = (Arc::clone(&self.client), raw.clone());
        let ask = async move {
            let talk = |stream| scan(stream, raw.clone());
            client.call(Repeat::Safe, Some(until), talk).await
        };
        self.cache.get(key.clone(), about, ask).await
    }

    /// Whether it scans, when a look is due: its version it may tell even when it cannot.
    pub(super) async fn look(&self) {
        if self.client.dependency().wants_look() {
            let talk = |stream| scan(stream, Bytes::from_static(b"Subject: Hello\r\n\r\nHello\r\n"));
            let _ = self.client.call(Repeat::Look, None, talk).await;
        }
    }

    /// Asks it for its version.
    pub(super) async fn version(&self) -> Result<String, Failure> {
        let talk = |mut stream: Stream| async move {
            stream.send(b"zVERSION\0").await?;
            stream.flush().await?;
            Ok(printable(&stream.receive_until(0).await?))
        };
        let version = self.client.call(Repeat::Safe, None, talk).await?;
        if version.starts_with("ClamAV") { Ok(version) } else { Err(Failure::Malformed(version)) }
    }
}

async fn scan(mut stream: Stream, raw: Bytes) -> Result<Vec<String>, Failure> {
    // clamd may refuse in the middle of the stream and close: its reply says why, so it is read even then.
    let sent = send(&mut stream, &raw).await;
    let reply = stream.receive_until(0).await;
    match (reply, sent) {
        (Ok(reply), _) => read(&reply),
        (Err(_), Err(failure)) | (Err(failure), Ok(())) => Err(failure),
    }
}

async fn send(stream: &mut Stream, raw: &[u8]) -> Result<(), Failure> {
    stream.send(b"zINSTREAM\0").await?;
    for chunk in raw.chunks(CHUNK) {
        let length = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        stream.send(&length.to_be_bytes()).await?;
        stream.send(chunk).await?;
    }
    stream.send(&0u32.to_be_bytes()).await?;
    stream.flush().await
}

/// What clamd's reply says.
fn read(reply: &[u8]) -> Result<Vec<String>, Failure> {
    let text = printable(reply);
    if text == "stream: OK" {
        return Ok(Vec::new());
    }
    if let Some(name) = text.strip_prefix("stream: ").and_then(|rest| rest.strip_suffix(" FOUND")) {
        return Ok(vec![name.chars().take(NAME_CHARS).collect()]);
    }
    if text.starts_with("INSTREAM size limit exceeded") {
        return Err(Failure::Declined("larger than clamd's StreamMaxLength".into()));
    }
    if text.ends_with("ERROR") { Err(Failure::Reported(text)) } else { Err(Failure::Malformed(text)) }
}

fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_ok_is_clean() {
        assert_eq!(read(b"stream: OK").unwrap(), Vec::<String>::new());
        assert_eq!(read(b"stream: OK\n").unwrap(), Vec::<String>::new());
        assert_eq!(read(b"stream: Win.Test.EICAR_HDB-1 FOUND").unwrap(), ["Win.Test.EICAR_HDB-1"]);
        assert_eq!(read(b"stream: Heuristics.A B FOUND").unwrap(), ["Heuristics.A B"]);
        for (reply, word) in [
            (&b"INSTREAM size limit exceeded. ERROR"[..], "declined"),
            (b"stream: Can't allocate memory ERROR", "reported"),
            (b"INSTREAM: Can't write to temporary file. ERROR", "reported"),
            (b"COMMAND READ TIMED OUT", "malformed"),
            (b"UNKNOWN COMMAND", "malformed"),
            (b"OK", "malformed"),
            (b"stream: OK FOUND OK", "malformed"),
            (b"stream: not OK", "malformed"),
            (b"", "malformed"),
            (b"\xff\xfe\x00", "malformed"),
        ] {
            assert_eq!(read(reply).unwrap_err().as_str(), word, "{}", String::from_utf8_lossy(reply));
        }
        assert_eq!(read(&[b"stream: ", &[b'x'; 5_000][..], b" FOUND"].concat()).unwrap_err().as_str(), "malformed");
    }
    proptest! {
        /// Whatever the scanner says: nothing but its one word is clean, and nothing breaks.
        #[test]
        fn no_other_reply_is_clean(reply in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..20) {
            for reply in [reply.as_slice(), &[b"stream: ", &reply[..]].concat(), &b"stream: OK"[..cut.min(9)]] {
                if read(reply).is_ok_and(|found| found.is_empty()) {
                    prop_assert_eq!(reply.trim_ascii(), b"stream: OK");
                }
            }
        }
    }
}
