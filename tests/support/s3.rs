//! As much of S3 as a store of bodies needs: PUT, GET, DELETE, ListObjectsV2 and DeleteObjects on one bucket, in memory.
//!
//! Nothing is answered to a request without a signature of version 4 (its value is not checked).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::task::JoinHandle;

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Vec<u8>>,
    requests: Vec<String>,
    unsigned: usize,
    fails: bool,
    /// Keys that are young when asked for, though they were listed as old.
    rewritten: BTreeSet<String>,
}

/// The running store; ends when dropped.
pub struct S3 {
    pub address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    task: JoinHandle<()>,
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl S3 {
    pub async fn start() -> Self {
        let inner = Arc::new(Mutex::new(Inner::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&inner));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, inner, task }
    }

    /// Keys with their bucket, and what they hold.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.inner.lock().unwrap().objects.clone()
    }

    /// Puts an object there behind the product's back.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        self.inner.lock().unwrap().objects.insert(key.to_owned(), bytes.to_vec());
    }

    /// An object that is written again between a listing and what follows from it.
    pub fn rewritten(&self, key: &str) {
        self.inner.lock().unwrap().rewritten.insert(key.to_owned());
    }

    /// Method and path of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.inner.lock().unwrap().requests.clone()
    }

    /// Requests without a signature.
    pub fn unsigned(&self) -> usize {
        self.inner.lock().unwrap().unsigned
    }

    /// Answers 503 to everything from now on, or no more.
    pub fn fail(&self, fails: bool) {
        self.inner.lock().unwrap().fails = fails;
    }
}

async fn answer(
    State(inner): State<Arc<Mutex<Inner>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut inner = inner.lock().unwrap();
    inner.requests.push(format!("{method} {uri}"));
    let signature = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !(signature.starts_with("AWS4-HMAC-SHA256 Credential=") && signature.contains("Signature=")) {
        inner.unsigned += 1;
        return (StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>").into_response();
    }
    if inner.fails {
        return (StatusCode::SERVICE_UNAVAILABLE, "<Error><Code>SlowDown</Code></Error>").into_response();
    }
    let key = uri.path().trim_start_matches('/').to_owned();
    let query = uri.query().unwrap_or_default();
    if method == Method::PUT {
        inner.objects.insert(key, body.to_vec());
        return [("etag", "\"1\"")].into_response();
    }
    if method == Method::GET && query.contains("list-type=2") {
        return ([("content-type", "application/xml")], list(&inner, &key, query)).into_response();
    }
    if method == Method::POST && query.contains("delete") {
        let text = String::from_utf8_lossy(&body).into_owned();
        let keys = text.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap().to_owned());
        let mut deleted = String::new();
        for one in keys {
            inner.objects.remove(&format!("{}/{one}", key.trim_end_matches('/')));
            deleted += &format!("<Deleted><Key>{one}</Key></Deleted>");
        }
        return format!("<DeleteResult>{deleted}</DeleteResult>").into_response();
    }
    if method == Method::DELETE {
        inner.objects.remove(&key);
        return StatusCode::NO_CONTENT.into_response();
    }
    match inner.objects.get(&key) {
        Some(bytes) => {
            let young = inner.rewritten.contains(&key);
            let at = if young { "Fri, 31 Dec 2100 10:00:00 GMT" } else { "Mon, 02 Nov 2020 10:00:00 GMT" };
            ([("etag", "\"1\""), ("last-modified", at)], bytes.clone()).into_response()
        }
        None => (StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>").into_response(),
    }
}

/// Keys on one page.
const PAGE: usize = 300;

/// One page of keys below the prefix; all of them as old as can be. The token of the next page is the last key.
fn list(inner: &Inner, bucket: &str, query: &str) -> String {
    let parameter =
        |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)).map(|value| value.replace("%2F", "/"));
    let prefix = parameter("prefix=").unwrap_or_default();
    let after = parameter("continuation-token=").or_else(|| parameter("start-after=")).unwrap_or_default();
    let bucket = bucket.trim_end_matches('/');
    let (mut contents, mut count, mut next) = (String::new(), 0, String::new());
    for (key, bytes) in &inner.objects {
        let Some(key) = key.strip_prefix(&format!("{bucket}/")).filter(|key| key.starts_with(&prefix)) else {
            continue;
        };
        if !after.is_empty() && *key <= *after {
            continue;
        }
        if count == PAGE {
            break;
        }
        count += 1;
        next = key.to_owned();
        contents += &format!(
            "<Contents><Key>{key}</Key><LastModified>2020-11-02T10:00:00.000Z</LastModified><ETag>\"1\"</ETag>\
             <Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
            bytes.len()
        );
    }
    let more = match count {
        PAGE => format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>"),
        _ => "<IsTruncated>false</IsTruncated>".to_owned(),
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>{bucket}</Name><Prefix>{prefix}</Prefix>\
         {more}{contents}</ListBucketResult>"
    )
}
