//! Signing and verifying one request.
//!
//! Verifying asks in this order: headers there and well formed, time, key, body, signature in constant time, and only then the
//! nonce, so that strangers cannot use up anybody's nonces or our memory.

use hmac::Mac;
use sha2::{Digest, Sha256};

use super::key::{hex, unhex};
use super::{Keys, Life, Nonces, SignatureError, SigningConfig, SigningKey};

/// Longest nonce taken.
const MAX_NONCE: usize = 128;

/// What is signed of a request.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Such as `POST`.
    pub method: &'a str,
    /// Path and query as in the request line.
    pub path: &'a str,
    /// The body as it is sent.
    pub body: &'a [u8],
}

impl Asked<'_> {
    fn mac(&self, key: &SigningKey, timestamp: &str, nonce: &str, body_sha256: &str) -> hmac::Hmac<Sha256> {
        let mut mac = key.mac();
        for line in ["mailweir-v1", timestamp, nonce, &self.method.to_ascii_uppercase(), self.path, body_sha256] {
            mac.update(line.as_bytes());
            mac.update(b"\n");
        }
        mac
    }
}

/// Signs what goes out.
#[derive(Debug, Clone)]
pub struct Signer {
    prefix: String,
}

impl Signer {
    /// As the settings say.
    pub fn new(config: &SigningConfig) -> Self {
        Self { prefix: config.header_prefix.clone() }
    }

    /// The headers of a request. `None` when no key signs yet or the system has no random numbers.
    pub fn sign(&self, keys: &Keys, asked: &Asked<'_>, now_ms: i64) -> Option<Vec<(String, String)>> {
        let mut chance = [0; 16];
        getrandom::fill(&mut chance).ok()?;
        let key = keys.signing(now_ms)?;
        let (timestamp, nonce) = ((now_ms / 1_000).to_string(), hex(&chance));
        let body = hex(&Sha256::digest(asked.body));
        let signature = asked.mac(key, &timestamp, &nonce, &body).finalize().into_bytes();
        let named = |name: &str, value: String| (format!("{}-{name}", self.prefix), value);
        Some(vec![
            named("Signature", format!("v1={}", hex(&signature))),
            named("Timestamp", timestamp),
            named("Nonce", nonce),
            named("Body-SHA256", body),
            named("Key-Id", key.id.clone()),
        ])
    }
}

/// Verifies what comes in.
#[derive(Debug)]
pub struct Verifier<N> {
    prefix: String,
    max_age_ms: i64,
    nonces: N,
}

impl<N: Nonces> Verifier<N> {
    /// As the settings say.
    pub fn new(config: &SigningConfig, nonces: N) -> Self {
        let max_age_ms = i64::from(config.max_age_seconds) * 1_000;
        Self { prefix: config.header_prefix.clone(), max_age_ms, nonces }
    }

    /// What remembers nonces.
    pub fn nonces(&self) -> &N {
        &self.nonces
    }

    /// The id of the key that the request was signed with. `header` gives a header's value by its name, whatever its case.
    ///
    /// # Errors
    /// Why it is not taken for signed. Tell the peer no more than that.
    pub async fn verify<'h>(
        &self,
        keys: &Keys,
        asked: &Asked<'_>,
        header: impl Fn(&str) -> Option<&'h str>,
        now_ms: i64,
    ) -> Result<String, SignatureError> {
        let name = |what: &str| format!("{}-{what}", self.prefix);
        let value = |what: &str| header(&name(what)).ok_or_else(|| SignatureError::Missing(name(what)));
        let malformed = |what: &str| SignatureError::Malformed(name(what));
        let (timestamp, nonce, body_sha256) = (value("Timestamp")?, value("Nonce")?, value("Body-SHA256")?);
        let signature =
            value("Signature")?.strip_prefix("v1=").and_then(unhex).ok_or_else(|| malformed("Signature"))?;
        if nonce.is_empty() || nonce.len() > MAX_NONCE || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(malformed("Nonce"));
        }
        let digits = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let signed_ms = timestamp.parse::<i64>().ok().filter(|_| digits).and_then(|s| s.checked_mul(1_000));
        let signed_ms = signed_ms.ok_or_else(|| malformed("Timestamp"))?;
        let away = now_ms.abs_diff(signed_ms);
        if away > self.max_age_ms.unsigned_abs() {
            return Err(SignatureError::Stale { seconds: away / 1_000 });
        }
        let key = keys.verifying(value("Key-Id")?, now_ms).ok_or(SignatureError::UnknownKey)?;
        if hex(&Sha256::digest(asked.body)) != body_sha256 {
            return Err(SignatureError::Body);
        }
        // Compares in constant time.
        let mac = asked.mac(key, timestamp, nonce, body_sha256);
        mac.verify_slice(&signature).map_err(|_| SignatureError::Mismatch)?;
        let life = Life { signed_ms, until_ms: signed_ms.saturating_add(self.max_age_ms) };
        // Nonces of one key say nothing about those of another.
        match self.nonces.first_use(&format!("{}:{nonce}", key.id), life, now_ms).await {
            Ok(true) => Ok(key.id.clone()),
            Ok(false) => Err(SignatureError::Replayed),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryNonces;
    use super::*;

    const NOW: i64 = 1_767_225_600_000;

    fn keys(config: &SigningConfig) -> Keys {
        Keys::new(vec![SigningKey::new(NOW, NOW).unwrap()], config)
    }

    #[test]
    fn the_signature_is_what_others_compute() {
        // printf 'mailweir-v1\n1767225600\nn1\nPOST\n/hook?a=1\n%s\n' "$(printf '{}' | sha256sum | cut -d' ' -f1)" |
        //   openssl dgst -sha256 -mac HMAC -macopt hexkey:$(printf '01%.0s' $(seq 32))
        let text = format!(r#"{{"id":"k1","secret":"{}","created_ms":0,"active_from_ms":0}}"#, "01".repeat(32));
        let key: SigningKey = serde_json::from_str(&text).unwrap();
        let asked = Asked { method: "post", path: "/hook?a=1", body: b"{}" };
        let mac = asked.mac(&key, "1767225600", "n1", &hex(&Sha256::digest(b"{}"))).finalize().into_bytes();
        assert_eq!(hex(&mac), "81521415427c9579c3ce58afb8289368e2f41a1fb77462d539e62ab66e465c82");
    }

    #[tokio::test]
    async fn only_the_same_request_once_in_time() {
        let config = SigningConfig { header_prefix: "X-Other".into(), ..SigningConfig::default() };
        let (keys, strangers) = (keys(&config), keys(&config));
        let verifier = Verifier::new(&config, MemoryNonces::new(10));
        verifier.nonces().prepare(NOW - 600_000);
        let asked = Asked { method: "POST", path: "/hook", body: b"{}" };
        let headers = Signer::new(&config).sign(&keys, &asked, NOW).unwrap();
        let get = |headers: &[(String, String)], name: &str| -> Option<String> {
            headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone())
        };
        let verify = async |keys: &Keys, asked: Asked<'_>, headers: &[(String, String)], now: i64| {
            let found = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
            verifier.verify(keys, &asked, found, now).await
        };
        let with = |name: &str, value: &str| -> Vec<(String, String)> {
            let name = format!("X-Other-{name}");
            headers.iter().map(|(n, v)| (n.clone(), if *n == name { value.to_owned() } else { v.clone() })).collect()
        };
        assert!(get(&headers, "x-other-signature").is_some_and(|s| s.starts_with("v1=") && s.len() == 67));
        let flipped = get(&headers, "X-Other-Signature").unwrap().replace("v1=", "v1=0");
        let other_body = Asked { body: b"{ }", ..asked };
        let hash = hex(&Sha256::digest(b"{ }"));
        let late = NOW + 301_000;
        let cases: Vec<(&str, Result<String, SignatureError>, SignatureError)> = vec![
            ("body", verify(&keys, other_body, &headers, NOW).await, SignatureError::Body),
            (
                "body and hash",
                verify(&keys, other_body, &with("Body-SHA256", &hash), NOW).await,
                SignatureError::Mismatch,
            ),
            ("method", verify(&keys, Asked { method: "PUT", ..asked }, &headers, NOW).await, SignatureError::Mismatch),
            ("path", verify(&keys, Asked { path: "/", ..asked }, &headers, NOW).await, SignatureError::Mismatch),
            ("nonce", verify(&keys, asked, &with("Nonce", "other"), NOW).await, SignatureError::Mismatch),
            ("time", verify(&keys, asked, &with("Timestamp", "1767225601"), NOW).await, SignatureError::Mismatch),
            ("late", verify(&keys, asked, &headers, late).await, SignatureError::Stale { seconds: 301 }),
            ("early", verify(&keys, asked, &headers, NOW - 301_000).await, SignatureError::Stale { seconds: 301 }),
            ("other key", verify(&strangers, asked, &headers, NOW).await, SignatureError::UnknownKey),
            (
                "odd digits",
                verify(&keys, asked, &with("Signature", &flipped), NOW).await,
                SignatureError::Malformed("X-Other-Signature".into()),
            ),
            (
                "sign",
                verify(&keys, asked, &with("Timestamp", "+1767225600"), NOW).await,
                SignatureError::Malformed("X-Other-Timestamp".into()),
            ),
            ("none", verify(&keys, asked, &[], NOW).await, SignatureError::Missing("X-Other-Timestamp".into())),
            (
                "no nonce",
                verify(&keys, asked, &with("Nonce", ""), NOW).await,
                SignatureError::Malformed("X-Other-Nonce".into()),
            ),
        ];
        for (what, got, expected) in cases {
            assert_eq!(got, Err(expected), "{what}");
        }
        // None of these used the nonce up.
        assert_eq!(verify(&keys, asked, &headers, NOW + 300_000).await, Ok(keys.keys()[0].id.clone()));
        assert_eq!(verify(&keys, asked, &headers, NOW).await, Err(SignatureError::Replayed));
    }
}
