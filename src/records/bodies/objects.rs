//! Bodies as objects in S3 or what speaks like it: `s3://BUCKET/PREFIX/ab/cd/<sha256>.zst`.
//!
//! A put is durable when the store has answered it; each request has a deadline.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt};

use super::BodyPage;
use crate::records::StoreError;
use crate::records::config::S3Config;

/// A bucket, or a prefix in one.
#[derive(Debug)]
pub(in crate::records) struct Objects {
    store: Arc<dyn ObjectStore>,
    bucket: String,
    prefix: String,
    deadline: Duration,
}

impl Objects {
    pub(super) fn open(place: &str, config: &S3Config) -> Result<Self, StoreError> {
        let refuse = |why: String| StoreError::Bodies(format!("s3://{place}: {why}"));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(refuse("names no bucket: write s3://BUCKET or s3://BUCKET/PREFIX".into()));
        }
        let deadline = Duration::from_secs(config.request_seconds.max(1));
        let client = ClientOptions::new().with_timeout(deadline).with_allow_http(config.allow_http);
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_region(&config.region)
            .with_client_options(client);
        if !config.endpoint.is_empty() {
            builder = builder.with_endpoint(&config.endpoint);
        }
        if !config.access_key_id.is_empty() {
            builder = builder.with_access_key_id(&config.access_key_id);
        }
        if let Some(file) = &config.secret_access_key_file {
            let secret = std::fs::read_to_string(file)
                .map_err(|e| refuse(format!("store.s3.secret_access_key_file {}: {e}", file.display())))?;
            builder = builder.with_secret_access_key(secret.trim());
        }
        let store = builder.build().map_err(|e| refuse(e.to_string()))?;
        Ok(Self { store: Arc::new(store), bucket: bucket.into(), prefix: prefix.trim_matches('/').into(), deadline })
    }

    pub(super) fn place(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }

    fn path(&self, name: &str) -> Path {
        let prefix = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        Path::from(format!("{prefix}{}/{}/{name}.zst", &name[..2], &name[2..4]))
    }

    pub(super) async fn put(&self, name: &str, packed: Vec<u8>) -> Result<(), StoreError> {
        let path = self.path(name);
        self.within("write", name, async { self.store.put(&path, packed.into()).await }).await.map(drop)
    }

    pub(super) async fn get(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.path(name);
        let read = async { self.store.get(&path).await?.bytes().await };
        self.within("read", name, read).await.map(|bytes| bytes.to_vec())
    }

    /// Asks for an object that is not there.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let path = self.path("ping");
        let ask = async {
            match self.store.head(&path).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                other => other.map(drop),
            }
        };
        self.within("reach", "", ask).await
    }

    /// Asks for its age and deletes it: two requests, between which a store knows no lock.
    pub(super) async fn delete_older(&self, name: &str, unix_ms: i64) -> Result<bool, StoreError> {
        let path = self.path(name);
        let delete = async {
            match self.store.head(&path).await {
                Ok(object) if object.last_modified.timestamp_millis() >= unix_ms => return Ok(false),
                Err(object_store::Error::NotFound { .. }) => return Ok(false),
                other => other?,
            };
            match self.store.delete(&path).await {
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                other => other.map(|()| true),
            }
        };
        self.within("delete", name, delete).await
    }

    /// One page: the deadline is for each.
    pub(super) async fn older_than(
        &self,
        unix_ms: i64,
        after: Option<String>,
        limit: usize,
    ) -> Result<BodyPage, StoreError> {
        let prefix = (!self.prefix.is_empty()).then(|| Path::from(self.prefix.as_str()));
        let list = async {
            let objects = match after.map(Path::from) {
                Some(after) => self.store.list_with_offset(prefix.as_ref(), &after),
                None => self.store.list(prefix.as_ref()),
            };
            let (mut page, mut seen, mut objects) = (BodyPage::default(), 0, objects);
            while let Some(object) = objects.next().await.transpose()? {
                let name = object.location.filename().and_then(|file| file.strip_suffix(".zst")).map(str::to_owned);
                let old = object.last_modified.timestamp_millis() < unix_ms;
                page.names.extend(name.filter(|name| name.len() == 64 && old));
                seen += 1;
                if seen >= limit {
                    page.next = Some(object.location.to_string());
                    break;
                }
            }
            Ok(page)
        };
        self.within("list", "", list).await
    }

    async fn within<T>(
        &self,
        attempt: &'static str,
        name: &str,
        work: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, StoreError> {
        let failed = |source| StoreError::Body { attempt, place: format!("{}/{name}", self.place()), source };
        match tokio::time::timeout(self.deadline, work).await {
            Ok(result) => result.map_err(|e| failed(std::io::Error::other(e))),
            Err(_) => Err(failed(std::io::ErrorKind::TimedOut.into())),
        }
    }
}
