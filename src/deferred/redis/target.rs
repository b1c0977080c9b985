//! Where Redis is and how both sides prove who they are: an address in one of our forms and files of certificates, read into a
//! client that connects to nothing yet.
//!
//! With `ca_file` the server must have a certificate of one of those authorities, else of one that the machine knows. The same
//! goes for sentinels and for all nodes of a cluster. What cannot be read is an error that names the file.

use std::path::Path;
use std::time::Duration;

use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisError, RedisResult, TlsCertificates,
    TlsMode,
};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::deferred::QueueError;

/// Where Redis is, and how both prove who they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct RedisAddress<'a> {
    /// The address, as `queue.url` says.
    pub url: &'a str,
    /// Authorities that the server's certificate must be of, as PEM; none: the machine's own.
    pub ca_file: Option<&'a Path>,
    /// Our certificate, as PEM.
    pub cert_file: Option<&'a Path>,
    /// Its key, as PEM.
    pub key_file: Option<&'a Path>,
}

/// Whom to connect to.
pub(super) enum Target {
    One(Box<Client>),
    Sentinel(Box<SentinelClient>),
    Cluster(Box<ClusterClient>),
}

impl Target {
    /// Reads address and files; errors name `setting`.
    pub(super) fn new(
        address: &RedisAddress<'_>,
        deadline: Duration,
        setting: &'static str,
    ) -> Result<Self, QueueError> {
        let wrong = |why: String| QueueError::Address { setting, place: place(address.url), why };
        let tls = address.url.split("://").next().is_some_and(|scheme| scheme.starts_with("rediss"));
        let named = [address.ca_file, address.cert_file, address.key_file];
        if !tls && named.iter().any(Option::is_some) {
            return Err(wrong("certificates are configured for it, but it is without TLS: use rediss…://".into()));
        }
        if address.cert_file.is_some() != address.key_file.is_some() {
            return Err(wrong("our certificate and its key come together: one of the two files is missing".into()));
        }
        let certificates = if named.iter().any(Option::is_some) { Some(certificates(address, setting)?) } else { None };
        read(address.url, tls, certificates, deadline).map_err(|error| wrong(error.to_string()))
    }
}

fn read(url: &str, tls: bool, certificates: Option<TlsCertificates>, deadline: Duration) -> RedisResult<Target> {
    let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
    let one = if tls { "rediss" } else { "redis" };
    let (login, hosts) = match rest.rsplit_once('@') {
        Some((login, _)) if login.contains(['?', '#', '/']) => {
            return Err(wrong("in user and password ? is written as %3F, # as %23, / as %2F"));
        }
        Some((login, hosts)) => (format!("{login}@"), hosts),
        None => (String::new(), rest),
    };
    match scheme.trim_start_matches("rediss").trim_start_matches("redis") {
        "" => Ok(Target::One(Box::new(match certificates {
            Some(certificates) => Client::build_with_tls(url, certificates)?,
            None => Client::open(url)?,
        }))),
        "+unix" if !tls => Ok(Target::One(Box::new(Client::open(url)?))),
        "-cluster" => {
            let nodes = hosts.trim_end_matches('/').split(',').map(|host| format!("{one}://{login}{host}"));
            let mut cluster = ClusterClientBuilder::new(nodes.collect::<Vec<_>>());
            if let Some(certificates) = certificates {
                cluster = cluster.certs(certificates);
            }
            let cluster = cluster.connection_timeout(deadline).response_timeout(deadline);
            Ok(Target::Cluster(Box::new(cluster.build()?)))
        }
        "-sentinel" => Ok(Target::Sentinel(Box::new(sentinel(one, &login, hosts, certificates)?))),
        _ => Err(wrong("use redis://, rediss://, redis+unix://, redis-sentinel:// or redis-cluster://")),
    }
}

/// `hosts`: `HOST:PORT,HOST:PORT/MASTER/DB?sentinel_user=…&sentinel_password=…`. The login is the master's.
fn sentinel(one: &str, login: &str, hosts: &str, certificates: Option<TlsCertificates>) -> RedisResult<SentinelClient> {
    let missing = || wrong("the master's name is missing: …/MASTER");
    let (hosts, path) = hosts.split_once('/').ok_or_else(missing)?;
    let (master, database) = path.split_once('/').unwrap_or((path, "0"));
    if master.is_empty() {
        return Err(missing());
    }
    let (database, parameters) = database.split_once('?').unwrap_or((database, ""));
    let address = |host: &str| -> RedisResult<ConnectionAddr> {
        Ok(format!("{one}://{host}").into_connection_info()?.addr().clone())
    };
    let sentinels = hosts.split(',').map(address).collect::<RedisResult<Vec<_>>>()?;
    // Read in the form of an address, as everywhere.
    let node = format!("redis://{login}localhost/{database}").into_connection_info()?;
    let node = node.redis_settings();
    let mut client =
        SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?.set_client_to_redis_db(node.db());
    for (name, value) in url::form_urlencoded::parse(parameters.as_bytes()) {
        client = match name.as_ref() {
            "sentinel_user" => client.set_client_to_sentinel_username(value),
            "sentinel_password" => client.set_client_to_sentinel_password(value),
            _ => return Err(wrong("parameters of a sentinel's address are sentinel_user and sentinel_password")),
        };
    }
    if let Some(user) = node.username() {
        client = client.set_client_to_redis_username(user);
    }
    if let Some(password) = node.password() {
        client = client.set_client_to_redis_password(password);
    }
    if one == "rediss" {
        client = client.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    if let Some(certificates) = certificates {
        client = client
            .set_client_to_sentinel_certificates(certificates.clone())
            .set_client_to_redis_certificates(certificates);
    }
    client.build()
}

fn wrong(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, what))
}

/// The files' bytes, after they were found to hold what they should: the client would not say which of them does not.
fn certificates(address: &RedisAddress<'_>, setting: &'static str) -> Result<TlsCertificates, QueueError> {
    let read = |file: &Path, what, holds: &dyn Fn(&[u8]) -> Result<(), pem::Error>| {
        let read = std::fs::read(file).map_err(pem::Error::Io).and_then(|bytes| holds(&bytes).map(|()| bytes));
        read.map_err(|source| QueueError::Pem { setting, what, file: file.to_owned(), source })
    };
    let chain = |bytes: &[u8]| {
        let all = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(()) }
    };
    let key = |bytes: &[u8]| PrivateKeyDer::from_pem_slice(bytes).map(drop);
    let root_cert = match address.ca_file {
        Some(file) => Some(read(file, "certificate authorities", &chain)?),
        None => None,
    };
    let client_tls = match (address.cert_file, address.key_file) {
        (Some(certificate), Some(private)) => Some(ClientTlsConfig {
            client_cert: read(certificate, "certificate", &chain)?,
            client_key: read(private, "key", &key)?,
        }),
        _ => None,
    };
    Ok(TlsCertificates { client_tls, root_cert })
}

/// The address without login and parameters.
pub(super) fn place(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", ""));
    // First the login: what stands in a password that should be written otherwise is part of it too.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let rest = rest.split('?').next().unwrap_or_default();
    format!("{scheme}://{rest}")
}
