//! Names to addresses, by hickory: the way to DNS of everything that goes out.
//!
//! Answers are cached for as long as their TTL says. "No such name" and "no such record" are answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData};
use hickory_resolver::system_conf::read_system_conf;

use tokio::time::Instant;

use super::Failure;

/// Where names are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct NamesConfig {
    /// Resolvers. Empty: those of `/etc/resolv.conf`.
    pub resolvers: Vec<SocketAddr>,
    /// Time for one question to one resolver.
    pub query: Duration,
    /// Answers kept.
    pub cache_entries: u64,
    /// Longest time an answer is kept.
    pub cache_max: Duration,
}

/// The resolver cannot be set up.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the resolver cannot be set up: {0}")]
pub struct NamesError(String);

/// Asks DNS.
#[derive(Clone)]
pub struct Names(TokioResolver);

impl Names {
    /// Sets the resolver up; asks nothing yet.
    ///
    /// # Errors
    /// When the system's settings cannot be read or the library refuses the settings.
    pub fn new(config: &NamesConfig) -> Result<Self, NamesError> {
        let failed = |error: NetError| NamesError(error.to_string());
        let (servers, mut options) = if config.resolvers.is_empty() {
            read_system_conf().map_err(failed)?
        } else {
            let server = |address: &SocketAddr| {
                let connection = |protocol| {
                    let mut connection = ConnectionConfig::new(protocol);
                    connection.port = address.port();
                    connection
                };
                let ways = vec![connection(ProtocolConfig::Udp), connection(ProtocolConfig::Tcp)];
                NameServerConfig::new(address.ip(), true, ways)
            };
            let servers = config.resolvers.iter().map(server).collect();
            (ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default())
        };
        options.timeout = config.query;
        options.attempts = 2;
        options.cache_size = config.cache_entries;
        options.positive_max_ttl = Some(config.cache_max);
        options.negative_max_ttl = Some(config.cache_max.min(Duration::from_secs(300)));
        let mut builder = TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        builder.build().map(Self).map_err(failed)
    }

    /// All addresses of a host; empty when it has none, also when DNS can have no such name: senders choose what is asked about,
    /// and the resolver is not to blame for that.
    ///
    /// # Errors
    /// [`Failure::Timeout`], or [`Failure::Reported`] when the resolver refuses or fails.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Failure> {
        let Some(host) = absolute(host) else { return Ok(Vec::new()) };
        let begun = Instant::now();
        match self.0.lookup_ip(host).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) => nothing_or(error, begun),
        }
    }

    /// The A records of a name; empty when there are none.
    ///
    /// # Errors
    /// As [`Self::addresses`].
    pub async fn ipv4(&self, name: &str) -> Result<Vec<Ipv4Addr>, Failure> {
        let address = |data: &RData| match data {
            RData::A(a) => Some(a.0),
            _ => None,
        };
        let Some(name) = absolute(name) else { return Ok(Vec::new()) };
        let begun = Instant::now();
        match self.0.ipv4_lookup(name).await {
            Ok(found) => Ok(found.answers().iter().filter_map(|record| address(&record.data)).collect()),
            Err(error) => nothing_or(error, begun),
        }
    }
}

/// The name with nothing of a search list behind it; `None` when DNS can have none like it (RFC 1035, 2.3.4: too long, an empty
/// label; signs that stand in no host).
fn absolute(name: &str) -> Option<Name> {
    let name = name.trim_end_matches('.');
    let mut name = Name::from_ascii(name).or_else(|_| Name::from_utf8(name)).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn nothing_or<T>(error: NetError, begun: Instant) -> Result<Vec<T>, Failure> {
    match error {
        // The library says "no records" for SERVFAIL and REFUSED too: only these two are answers.
        NetError::Dns(DnsError::NoRecordsFound(NoRecords {
            response_code: ResponseCode::NoError | ResponseCode::NXDomain,
            ..
        })) => Ok(Vec::new()),
        NetError::Timeout => Err(Failure::timeout(begun.elapsed())),
        NetError::Io(error) => Err(Failure::Unreachable(error)),
        error => Err(Failure::Reported(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_that_cannot_be_have_nothing_and_blame_nobody() {
        // Nobody answers there: what is asked fails.
        let names = Names::new(&NamesConfig {
            resolvers: vec!["127.0.0.1:1".parse().unwrap()],
            query: Duration::from_millis(50),
            cache_entries: 0,
            cache_max: Duration::ZERO,
        })
        .unwrap();
        let long = format!("{}.example", "a".repeat(64));
        let longer = "a234567.".repeat(40);
        for wrong in ["ex ample.com.list.example", "a..b.example", "a$(b).example", "\u{1}.example", &long, &longer] {
            assert_eq!(names.ipv4(wrong).await.unwrap(), Vec::<Ipv4Addr>::new(), "{wrong:?}");
            assert_eq!(names.addresses(wrong).await.unwrap(), Vec::<IpAddr>::new(), "{wrong:?}");
        }
        for fine in ["example.com.list.example", "under_score.example", "b\u{fc}cher.example", "xn--bcher-kva.example"]
        {
            assert!(names.ipv4(fine).await.is_err(), "{fine:?} is asked");
        }
    }
}
