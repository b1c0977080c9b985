//! A webhook of the operator's own: a POST of JSON, signed (`enforcement::signing`); any 2xx is taken for "got it".
//!
//! Each try is signed anew, for a nonce counts once. The keys are read again each time, so that a rotation needs no restart.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};
use url::Url;

use crate::egress::{Failure, HttpClient, Repeat, Request};
use crate::enforcement::alert::notice::{Line, Notice};
use crate::enforcement::signing::{Asked, Keys, Signer, SigningConfig};

pub(super) struct Webhook {
    client: HttpClient,
    url: Url,
    path: String,
    signer: Signer,
    signing: SigningConfig,
    key_file: PathBuf,
}

impl Webhook {
    pub(super) fn new(client: HttpClient, url: Url, signing: &SigningConfig, data: &Path) -> Self {
        let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let key_file = Keys::file(signing, data);
        Self { client, url, path, signer: Signer::new(signing), signing: signing.clone(), key_file }
    }

    pub(super) async fn deliver(&self, notice: &Notice) -> Result<(), Failure> {
        let body = body(notice).to_string();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        // Our own trouble, which may pass.
        let own = |error: &dyn std::fmt::Display| Failure::unreachable(std::io::Error::other(error.to_string()));
        let keys = Keys::load(&self.key_file, &self.signing, now_ms).map_err(|error| own(&error))?;
        let asked = Asked { method: "POST", path: &self.path, body: body.as_bytes() };
        let signed = self.signer.sign(&keys, &asked, now_ms).ok_or_else(|| own(&"no key signs"))?;
        let request = Request::post_json(self.url.clone(), body);
        let request = request.headers(signed.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let request = request.ok_or_else(|| Failure::Declined("signing.header_prefix makes no header".into()))?;
        self.client.call(Repeat::Never, None, &request, |_| Ok(())).await
    }
}

fn body(notice: &Notice) -> Value {
    let line = |line: &Line| {
        json!({
            "what": line.what, "severity": line.severity, "key": line.key, "kind": line.kind, "title": line.title,
            "value": line.value, "words": line.words, "note": line.note, "advice": line.advice,
            "since_ms": line.since_ms, "correlation": line.correlation,
        })
    };
    let alerts: Vec<Value> = notice.lines.iter().map(line).collect();
    // The same at every try: who is told twice, because the answer to a try was lost, can see it.
    let id = notice.id();
    json!({"version": 1, "id": id, "node": notice.node, "node_id": notice.node_id, "at_ms": notice.at_ms, "link_url": notice.link_url, "alerts": alerts})
}
