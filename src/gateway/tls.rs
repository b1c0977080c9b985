//! TLS on both sides, by rustls with the ring provider and no other.
//!
//! Server: certificate and key from files, looked at again when they change (checked at most every two seconds, or by
//! [`ServerTls::reload`]); a reload that fails keeps what is in use. Without files a self-signed pair is made once in the folder given.
//! Client: verifying with native roots or a CA file; unverified only where the operator asked for `opportunistic`.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio::time::Instant;

use crate::observe::event;

const CHECK_EVERY: Duration = Duration::from_secs(2);

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no PEM of the kind needed.
    #[error("{path}: no usable PEM: {source}")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// A file holds no certificate.
    #[error("{path}: no certificate in PEM stands there")]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// A self-signed certificate could not be made.
    #[error("making a self-signed certificate")]
    SelfSigned(#[from] rcgen::Error),
    /// rustls refuses certificate and key.
    #[error("certificate and key do not serve")]
    Rustls(#[from] rustls::Error),
    /// No root certificate to verify with.
    #[error("no root certificates found on this machine")]
    NoRoots,
}

/// The server side, following its files.
#[derive(Debug)]
pub struct ServerTls {
    cert_file: PathBuf,
    key_file: PathBuf,
    current: arc_swap::ArcSwap<ServerConfig>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    checked: Instant,
    modified: [Option<SystemTime>; 2],
}

impl ServerTls {
    /// Reads certificate chain and key (PEM).
    pub fn from_files(cert_file: PathBuf, key_file: PathBuf) -> Result<Self, TlsError> {
        let config = server_config(&cert_file, &key_file)?;
        let seen = Seen { checked: Instant::now(), modified: [modified(&cert_file), modified(&key_file)] };
        Ok(Self { cert_file, key_file, current: arc_swap::ArcSwap::new(config), seen: Mutex::new(seen) })
    }

    /// Reads `relay.crt` and `relay.key` in `folder`; makes a self-signed pair for `host_name` when the certificate is not there.
    pub fn self_signed(folder: &Path, host_name: &str) -> Result<Self, TlsError> {
        let (cert_file, key_file) = (folder.join("relay.crt"), folder.join("relay.key"));
        if !cert_file.exists() {
            let file = |path: &Path| {
                let path = path.to_owned();
                move |source| TlsError::File { path, source }
            };
            fs::create_dir_all(folder).map_err(file(folder))?;
            let pair = rcgen::generate_simple_self_signed(vec![host_name.to_owned()])?;
            // The key first: a certificate without a key would never be mended by the next start.
            write_with_mode(&key_file, &pair.signing_key.serialize_pem(), 0o600).map_err(file(&key_file))?;
            write_with_mode(&cert_file, &pair.cert.pem(), 0o644).map_err(file(&cert_file))?;
        }
        Self::from_files(cert_file, key_file)
    }

    /// The configuration for the next handshake.
    pub fn current(&self) -> Arc<ServerConfig> {
        if self.has_changed()
            && let Err(error) = self.reload()
        {
            tracing::warn!(
                event = event::SYSTEM,
                %error, "certificate files have changed and do not serve, keeping the old ones"
            );
        }
        self.current.load_full()
    }

    /// Reads the files again; on failure what is in use stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = server_config(&self.cert_file, &self.key_file)?;
        self.current.store(config);
        Ok(())
    }

    fn has_changed(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.checked.elapsed() < CHECK_EVERY {
            return false;
        }
        seen.checked = Instant::now();
        let now = [modified(&self.cert_file), modified(&self.key_file)];
        std::mem::replace(&mut seen.modified, now) != now
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn write_with_mode(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |source| TlsError::Pem { path: path.to_owned(), source };
    CertificateDer::pem_file_iter(path).map_err(pem)?.collect::<Result<_, _>>().map_err(pem)
}

fn server_config(cert_file: &Path, key_file: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(cert_file)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: cert_file.to_owned() });
    }
    let key =
        PrivateKeyDer::from_pem_file(key_file).map_err(|source| TlsError::Pem { path: key_file.to_owned(), source })?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

/// A client that verifies name and chain, with the roots of `ca_file` or else the machine's own.
pub fn verifying_client(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    let certificates = match ca_file {
        Some(path) => certificates(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A client that takes any certificate: better than plain text, no proof of who is there.
pub fn opportunistic_client() -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Takes any certificate; the handshake's own signatures are checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
