//! Bodies of held messages, by the hash of their content: files, or objects in S3.
//!
//! A body is named by the SHA-256 of the message and stored as one zstd frame. [`Bodies::put`] returns when it is durable.
//! A body that is there already is written again: its age then tells the retention that it is in use.

mod files;
#[cfg(feature = "s3")]
mod objects;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Config, StoreError};
use files::Files;

/// Compression level: 3 takes about 0.2 ms for a message of 40 KB.
const ZSTD_LEVEL: i32 = 3;
/// Largest body read back, in bytes: more than any message limit, less than a bomb.
const BODY_MAX: usize = 1 << 30;

/// One page of bodies.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct BodyPage {
    /// Names of those that are old.
    pub(super) names: Vec<String>,
    /// Where it ended; none when it was the last.
    pub(super) next: Option<String>,
}

/// The store of bodies.
#[derive(Debug)]
pub(super) enum Bodies {
    Files(Files),
    #[cfg(feature = "s3")]
    Objects(objects::Objects),
}

impl Bodies {
    pub(super) fn open(config: &Config, data: &Path) -> Result<Self, StoreError> {
        if let Some(place) = config.bodies.strip_prefix("s3://") {
            #[cfg(feature = "s3")]
            return objects::Objects::open(place, &config.s3).map(Self::Objects);
            #[cfg(not(feature = "s3"))]
            return Err(StoreError::Bodies(format!("s3://{place} needs a build with the feature `s3`")));
        }
        let folder = if config.bodies.is_empty() { data.join("bodies") } else { PathBuf::from(&config.bodies) };
        Files::open(folder, config.min_free_bytes).map(Self::Files)
    }

    /// Stores a body durably; gives its name.
    pub(super) async fn put(&self, raw: Bytes) -> Result<String, StoreError> {
        let pack = tokio::task::spawn_blocking(move || {
            let name = hex(&Sha256::digest(&raw));
            zstd::bulk::compress(&raw, ZSTD_LEVEL).map(|packed| (name, packed))
        });
        let failed = |source| StoreError::Body { attempt: "compress", place: "message".into(), source };
        let (name, packed) = pack.await.map_err(|e| failed(std::io::Error::other(e)))?.map_err(failed)?;
        match self {
            Self::Files(files) => files.put(&name, packed).await?,
            #[cfg(feature = "s3")]
            Self::Objects(objects) => objects.put(&name, packed).await?,
        }
        Ok(name)
    }

    /// Reads a body back and checks its hash.
    pub(super) async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        let packed = match self {
            Self::Files(files) => files.get(name).await?,
            #[cfg(feature = "s3")]
            Self::Objects(objects) => objects.get(name).await?,
        };
        let raw = zstd::stream::decode_all(&packed[..]).map_err(|source| StoreError::Body {
            attempt: "unpack",
            place: name.to_owned(),
            source,
        })?;
        if raw.len() > BODY_MAX || hex(&Sha256::digest(&raw)) != name {
            return Err(StoreError::Damaged(name.to_owned()));
        }
        Ok(raw.into())
    }

    /// Names of bodies that were last written before a time: of the next `limit` bodies, in the order of their names.
    /// `after`: where the page before ended; none for the first.
    pub(super) async fn older_than(
        &self,
        unix_ms: i64,
        after: Option<String>,
        limit: usize,
    ) -> Result<BodyPage, StoreError> {
        match self {
            Self::Files(files) => files.older_than(unix_ms, after, limit).await,
            #[cfg(feature = "s3")]
            Self::Objects(objects) => objects.older_than(unix_ms, after, limit).await,
        }
    }

    /// Asks an object store for an answer.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        match self {
            Self::Files(_) => Ok(()),
            #[cfg(feature = "s3")]
            Self::Objects(objects) => objects.ping().await,
        }
    }

    /// Removes a body if it was last written before a time; gives whether it was there and did. Its age is asked for right before:
    /// since it was listed, somebody may have stored the same bytes again.
    pub(super) async fn delete_older(&self, name: &str, unix_ms: i64) -> Result<bool, StoreError> {
        match self {
            Self::Files(files) => files.delete_older(name, unix_ms).await,
            #[cfg(feature = "s3")]
            Self::Objects(objects) => objects.delete_older(name, unix_ms).await,
        }
    }

    /// Where the bodies are, for people.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Files(files) => files.place(),
            #[cfg(feature = "s3")]
            Self::Objects(objects) => objects.place(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
