//! Whom load may be sent to: this machine and private networks, unless the operator says that the host is theirs.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, bail};

/// Loopback, RFC 1918, unique local (RFC 4193), link local.
fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// A command line that asks for something we do not do; exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::app) struct Refused(pub(in crate::app) String);

/// The address of `HOST:PORT`, if load may be sent there: all addresses of the name must be near.
///
/// # Errors
/// Names what is not near, or cannot be resolved.
pub(super) async fn resolve(target: &str, own: bool) -> anyhow::Result<SocketAddr> {
    let found = tokio::net::lookup_host(target).await.with_context(|| format!("cannot resolve {target}"))?;
    let found: Vec<SocketAddr> = found.collect();
    let Some(first) = found.first() else { bail!("{target} has no address") };
    if let Some(far) = found.iter().find(|address| !own && !is_near(address.ip())) {
        return Err(Refused(format!(
            "{target} is {far}, which is neither this machine nor a private network: load may be sent to hosts of your own \
             only; say --i-own-this-host if it is one"
        ))
        .into());
    }
    Ok(*first)
}

/// The hosts of a queue's address, with ports: `scheme://[USER:PASSWORD@]HOST[:PORT][,HOST:PORT…][/…]`; none for sockets.
pub(super) fn hosts(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else { return Vec::new() };
    if scheme.contains("unix") {
        return Vec::new();
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let with_port = |host: &str| {
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        if has_port { host.to_owned() } else { format!("{host}:6379") }
    };
    hosts.split(',').filter(|host| !host.is_empty()).map(with_port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn strangers_are_refused() {
        for near in [
            "127.0.0.1:25",
            "[::1]:25",
            "10.1.2.3:25",
            "192.168.0.1:25",
            "172.31.0.1:25",
            "[fd00::1]:25",
            "[::ffff:10.0.0.1]:25",
        ] {
            assert!(resolve(near, false).await.is_ok(), "{near}");
        }
        for far in ["192.0.2.1:25", "172.32.0.1:25", "[2001:db8::1]:25", "[::ffff:192.0.2.1]:25", "100.64.0.1:25"] {
            let error = resolve(far, false).await.unwrap_err();
            assert!(error.is::<Refused>() && error.to_string().contains("--i-own-this-host"), "{far}: {error}");
            assert!(resolve(far, true).await.is_ok(), "{far}");
        }
        assert!(resolve("127.0.0.1", false).await.is_err(), "no port");
    }

    #[test]
    fn hosts_of_queues() {
        let cases: [(&str, &[&str]); 6] = [
            ("redis://u:p@ss@h:1/0", &["h:1"]),
            ("redis://h/0", &["h:6379"]),
            ("redis-sentinel://a:1,b:2/master/0", &["a:1", "b:2"]),
            ("rediss://[::1]:7", &["[::1]:7"]),
            ("redis+unix:///run/redis.sock", &[]),
            ("", &[]),
        ];
        for (url, expected) in cases {
            assert_eq!(hosts(url), expected, "{url}");
        }
    }
}
