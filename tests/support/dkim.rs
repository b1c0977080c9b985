//! Keys and signatures of test senders (DKIM with ed25519, RFC 8463), and a verifier that is not the product's.

use std::net::SocketAddr;

use base64::Engine;
use mail_auth::arc::ArcSealer;
use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::{Canonicalization, DkimSigner};
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts,
};
use mail_auth::{AuthenticatedMessage, AuthenticationResults, DkimResult, MessageAuthenticator, SpfOutput};

/// A domain with a signing key.
pub struct Signer {
    pub domain: String,
    pkcs8: Vec<u8>,
}

/// The selector of all test keys.
pub const SELECTOR: &str = "weir";

impl Signer {
    pub fn new(domain: &str) -> Self {
        Self { domain: domain.to_owned(), pkcs8: Ed25519Key::generate_pkcs8().unwrap() }
    }

    /// The key, for whoever signs by himself.
    pub fn key(&self) -> Ed25519Key {
        Ed25519Key::from_pkcs8_der(&self.pkcs8).unwrap()
    }

    /// Name and text of the TXT record.
    pub fn record(&self) -> (String, String) {
        let key = base64::engine::general_purpose::STANDARD.encode(self.key().public_key());
        (format!("{SELECTOR}._domainkey.{}", self.domain), format!("v=DKIM1; k=ed25519; p={key}"))
    }

    /// The message with its signature on top; header and body canonicalised alike.
    pub fn sign(&self, raw: &[u8], canonicalization: Canonicalization) -> Vec<u8> {
        let signer = DkimSigner::from_key(self.key())
            .domain(&self.domain)
            .selector(SELECTOR)
            .headers(["From", "To", "Subject", "Date", "Message-ID"])
            .header_canonicalization(canonicalization)
            .body_canonicalization(canonicalization);
        let header = signer.sign(raw).unwrap().to_header();
        [header.as_bytes(), raw].concat()
    }
}

/// Verifies all signatures of a message with the keys that this DNS server publishes.
pub async fn verify(raw: &[u8], dns: SocketAddr) -> Vec<String> {
    let verifier = verifier(dns);
    let message = AuthenticatedMessage::parse(raw).expect("a message");
    let outputs = verifier.verify_dkim(&message).await;
    let word = |result: &DkimResult| if *result == DkimResult::Pass { "pass".into() } else { format!("{result:?}") };
    outputs.iter().map(|output| word(output.result())).collect()
}

/// A resolver that asks this DNS server and nobody else.
fn verifier(dns: SocketAddr) -> MessageAuthenticator {
    let mut udp = ConnectionConfig::new(ProtocolConfig::Udp);
    udp.port = dns.port();
    let servers = vec![NameServerConfig::new(dns.ip(), true, vec![udp])];
    MessageAuthenticator::new(ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default()).unwrap()
}

/// What a forwarder sends on: `changed`, sealed (RFC 8617) with what it found out about the message `as_it_came`.
pub async fn forwarded(sealer: &Signer, as_it_came: &[u8], changed: &[u8], dns: SocketAddr) -> Vec<u8> {
    let verifier = verifier(dns);
    let came = AuthenticatedMessage::parse(as_it_came).expect("a message");
    let dkim = verifier.verify_dkim(&came).await;
    let nothing = SpfOutput::new(String::new());
    let parameters = DmarcParameters {
        message: &came,
        dkim_output: &dkim,
        dkim2_output: None,
        rfc5321_mail_from_domain: "",
        spf_output: &nothing,
    };
    let dmarc = verifier.verify_dmarc(parameters).await;
    let results = AuthenticationResults::new(&sealer.domain).with_dmarc_result(&dmarc);
    let message = AuthenticatedMessage::parse(changed).expect("a message");
    let chain = verifier.verify_arc(&message).await;
    let arc = ArcSealer::from_key(sealer.key())
        .domain(&sealer.domain)
        .selector(SELECTOR)
        .headers(["From", "To", "Subject", "Date", "Message-ID", "DKIM-Signature"])
        .seal(&message, &results, &chain)
        .unwrap();
    [arc.to_header().as_bytes(), changed].concat()
}
