//! Sender authentication: SPF (RFC 7208), DKIM (RFC 6376), DMARC (RFC 9989), ARC (RFC 8617), by mail-auth over hickory.
//!
//! All questions of a message share one deadline; SPF, DKIM and ARC are asked at once, DMARC of their answers. What is not
//! answered in time is unknown, the rest stands. Answers are cached by the resolver for as long as their TTL says.

mod body_hash;
mod guard;
mod results;

use std::net::IpAddr;
use std::time::Duration;

use mail_auth::dkim::DkimError;
use mail_auth::dmarc::Policy;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts,
};
use mail_auth::hickory_resolver::proto::rr::RData;
use mail_auth::hickory_resolver::system_conf::read_system_conf;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{
    ArcOutput, AuthenticatedMessage, DkimOutput, DkimResult as Dkim, DmarcOutput, DmarcResult as DmarcAnswer,
    Error as DkimFault, MessageAuthenticator, SpfOutput, SpfResult as SpfAnswer,
};
use tokio::time::{Instant, timeout_at};

use super::{Outside, SenderAuthConfig};
use crate::analysis::{
    Answers, Arc, ArcResult, DkimResult, DkimSignature, Dmarc, DmarcPolicy, DmarcResult, Fact, Facts, ServiceFacts,
    Spf, SpfResult, Why,
};
use crate::egress::NamesError;
use crate::mail::{Connection, Path, registrable_domain};
use guard::Guard;

pub use results::{authentication_results, forged_results};

/// The resolver cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// `/etc/resolv.conf` cannot be used.
    #[error("the system's resolver settings cannot be used (set enrichment.sender_auth.resolvers): {0}")]
    System(String),
    /// The library refuses the settings.
    #[error("resolver: {0}")]
    Setup(String),
}

/// Asks DNS about senders.
pub struct SenderAuth {
    /// `None`: nothing is asked.
    dns: Option<MessageAuthenticator>,
    config: SenderAuthConfig,
    host: String,
    /// `None`: the resolver is asked however ill it is.
    guard: Option<Guard>,
}

impl SenderAuth {
    /// Sets the resolver up; `host` is our own name, for SPF macros.
    ///
    /// # Errors
    /// When the system's settings cannot be read or the library refuses the settings.
    pub fn new(config: &SenderAuthConfig, host: &str) -> Result<Self, ResolverError> {
        let dns = if config.enabled { Some(resolver(config)?) } else { None };
        Ok(Self { dns, config: config.clone(), host: host.to_owned(), guard: None })
    }

    /// One that asks nothing: all facts are unknown because they are disabled.
    pub fn offline() -> Self {
        let config = SenderAuthConfig { enabled: false, ..SenderAuthConfig::default() };
        Self { dns: None, config, host: String::new(), guard: None }
    }

    /// With a breaker before the resolver: while it answers nothing, nobody waits for it.
    ///
    /// # Errors
    /// When the resolver cannot be set up.
    pub fn guarded(self, outside: &Outside) -> Result<Self, NamesError> {
        let guard = self.dns.is_some().then(|| Guard::new(&self.config, outside)).transpose()?;
        Ok(Self { guard, ..self })
    }

    /// Asks the resolver for something that is always there.
    ///
    /// # Errors
    /// What the resolver said instead.
    pub async fn probe(&self) -> Result<(), ResolverError> {
        let Some(dns) = &self.dns else { return Ok(()) };
        let answer = dns.resolver().lookup(".", mail_auth::hickory_resolver::proto::rr::RecordType::NS).await;
        answer.map(drop).map_err(|error| ResolverError::Setup(error.to_string()))
    }

    /// Looks whether the resolver is back, when that is due ([`Services::look`](super::Services::look)).
    pub async fn look(&self) {
        if let Some(guard) = &self.guard {
            guard.look().await;
        }
    }

    /// Finds out what DNS says about a message's sender.
    ///
    /// Clients that logged in, and those without an address, are not asked about by SPF: they are ours.
    pub async fn ask(&self, connection: &Connection, sender: &Path, raw: &[u8]) -> Facts {
        let Some(dns) = &self.dns else {
            return Facts { client_ip: connection.client_ip, ..Facts::unknown(Why::Disabled) };
        };
        let ask = self.ask_dns(dns, connection, sender, raw);
        match &self.guard {
            None => ask.await,
            Some(guard) => {
                let nothing = |why| Facts { client_ip: connection.client_ip, ..Facts::unknown(why) };
                guard.ask(ask).await.unwrap_or_else(nothing)
            }
        }
    }

    async fn ask_dns(&self, dns: &MessageAuthenticator, connection: &Connection, sender: &Path, raw: &[u8]) -> Facts {
        let deadline = Instant::now() + Duration::from_millis(self.config.deadline_ms);
        let Some(mut message) = AuthenticatedMessage::parse_with_opts(raw, None, true) else {
            return Facts { client_ip: connection.client_ip, ..Facts::unknown(Why::Malformed) };
        };
        body_hash::mend_relaxed(&mut message);
        message.dkim_headers.truncate(self.config.max_signatures);
        let client = connection.client_ip.filter(|_| connection.login.is_none());
        let helo = connection.helo.as_deref().unwrap_or_default();
        let asks_helo = helo.contains('.') && !helo.starts_with('[');
        let spf = async |mail_from: Option<&str>| match (client, mail_from) {
            (Some(ip), Some(from)) => Some(self.spf(dns, deadline, ip, helo, from).await),
            (Some(ip), None) if asks_helo => Some(self.spf_helo(dns, deadline, ip, helo).await),
            _ => None,
        };
        let mail_from = (!sender.is_null()).then_some(sender.text.as_str());
        let arc_asked = !message.as_headers.is_empty() || message.has_arc_errors;
        let arc = async {
            if arc_asked {
                timeout_at(deadline, dns.verify_arc(&message)).await.ok()
            } else {
                Some(ArcOutput::default())
            }
        };
        let dkim = timeout_at(deadline, dns.verify_dkim(&message));
        let (spf_helo, spf_from, dkim, arc) =
            tokio::join!(spf(None), async { if mail_from.is_some() { spf(mail_from).await } else { None } }, dkim, arc);
        // RFC 7208, 2.4: for a bounce the HELO name stands in for the sender.
        let spf = if mail_from.is_some() { spf_from } else { spf_helo.clone() };
        let dkim = dkim.ok();
        let dmarc = self.dmarc(dns, deadline, &message, sender, spf.as_ref(), dkim.as_deref()).await;
        Facts {
            client_ip: connection.client_ip,
            spf_helo: spf_fact(spf_helo.as_ref()),
            spf: spf_fact(spf.as_ref()),
            dkim: dkim.as_deref().map_or(Fact::Unknown(Why::Timeout), |all| Fact::Known(dkim_facts(all))),
            dmarc,
            arc: arc.as_ref().map_or(Fact::Unknown(Why::Timeout), |arc| self.arc_fact(arc)),
            history: Fact::Unknown(Why::Disabled),
            campaign: Fact::Unknown(Why::Disabled),
            answers: Answers::default(),
            services: ServiceFacts::default(),
        }
    }

    async fn spf(
        &self,
        dns: &MessageAuthenticator,
        by: Instant,
        ip: IpAddr,
        helo: &str,
        from: &str,
    ) -> Option<SpfOutput> {
        let checked = async {
            let output = dns.verify_spf(SpfParameters::verify_mail_from(ip, helo, &self.host, from)).await;
            let asks_again = !matches!(output.result(), SpfAnswer::None | SpfAnswer::TempError | SpfAnswer::PermError);
            if asks_again && has_two_records(dns, output.domain()).await {
                return output.with_result(SpfAnswer::PermError);
            }
            output
        };
        timeout_at(by, checked).await.ok()
    }

    async fn spf_helo(&self, dns: &MessageAuthenticator, by: Instant, ip: IpAddr, helo: &str) -> Option<SpfOutput> {
        timeout_at(by, dns.verify_spf(SpfParameters::verify_ehlo(ip, helo, &self.host))).await.ok()
    }

    async fn dmarc(
        &self,
        dns: &MessageAuthenticator,
        deadline: Instant,
        message: &AuthenticatedMessage<'_>,
        sender: &Path,
        spf: Option<&Option<SpfOutput>>,
        dkim: Option<&[DkimOutput<'_>]>,
    ) -> Fact<Dmarc> {
        let nothing = SpfOutput::new(String::new());
        let spf = match spf {
            Some(Some(spf)) => spf,
            Some(None) => return Fact::Unknown(Why::Timeout),
            None => &nothing,
        };
        let Some(dkim) = dkim else { return Fact::Unknown(Why::Timeout) };
        let mail_from = sender.address().map(|address| address.domain);
        let parameters = DmarcParameters {
            message,
            dkim_output: dkim,
            dkim2_output: None,
            rfc5321_mail_from_domain: mail_from.as_deref().unwrap_or_else(|| spf.domain()),
            spf_output: spf,
        };
        let Ok(output) = timeout_at(deadline, dns.verify_dmarc(parameters)).await else {
            return Fact::Unknown(Why::Timeout);
        };
        if message.from.len() > 1 {
            // Whoever signed or sent for one of several authors vouches for none of the others: nothing is proven
            // (RFC 7489, 6.6.1), whatever a signature that covers only the lower From says.
            return Fact::Known(Dmarc {
                result: DmarcResult::None,
                policy: DmarcPolicy::Unspecified,
                domain: String::new(),
                spf_aligned: false,
                dkim_aligned: false,
            });
        }
        dmarc_fact(&output, spf, dkim)
    }

    fn arc_fact(&self, output: &ArcOutput<'_>) -> Fact<Arc> {
        let result = match output.result() {
            Dkim::Pass => ArcResult::Pass,
            Dkim::None => ArcResult::None,
            Dkim::TempError(_) => return Fact::Unknown(Why::Timeout),
            Dkim::Neutral(_) | Dkim::Fail(_) | Dkim::PermError(_) => ArcResult::Fail,
        };
        let last = output.sets().last();
        let sealer = last.map(|set| set.seal.header.d.to_lowercase());
        let trusted = sealer
            .as_ref()
            .is_some_and(|sealer| self.config.trusted_arc_sealers.iter().any(|name| name.eq_ignore_ascii_case(sealer)));
        let saw_pass = last.is_some_and(|set| results::says_dmarc_pass(set.results.value));
        Fact::Known(Arc { result, sealer, trusted_pass: result == ArcResult::Pass && trusted && saw_pass })
    }
}

/// Whether a domain publishes two SPF records: RFC 7208, 4.5 makes that an error, the library takes the first. The answer is
/// in the resolver's cache by now.
async fn has_two_records(dns: &MessageAuthenticator, domain: &str) -> bool {
    let name = format!("{}.", domain.trim_end_matches('.'));
    let Ok(lookup) = dns.resolver().txt_lookup(name).await else { return false };
    let is_spf = |record: &RData| match record {
        RData::TXT(txt) => {
            txt.txt_data.first().is_some_and(|text| text[..] == b"v=spf1"[..] || text.starts_with(b"v=spf1 "))
        }
        _ => false,
    };
    lookup.answers().iter().filter(|record| is_spf(&record.data)).count() > 1
}

fn resolver(config: &SenderAuthConfig) -> Result<MessageAuthenticator, ResolverError> {
    let (servers, mut options) = if config.resolvers.is_empty() {
        read_system_conf().map_err(|e| ResolverError::System(e.to_string()))?
    } else {
        let server = |address: &std::net::SocketAddr| {
            let connection = |protocol| {
                let mut connection = ConnectionConfig::new(protocol);
                connection.port = address.port();
                connection
            };
            NameServerConfig::new(
                address.ip(),
                true,
                vec![connection(ProtocolConfig::Udp), connection(ProtocolConfig::Tcp)],
            )
        };
        let servers = config.resolvers.iter().map(server).collect();
        (ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default())
    };
    options.timeout = Duration::from_millis(config.query_ms);
    options.attempts = 2;
    options.cache_size = config.cache_entries;
    options.positive_max_ttl = Some(Duration::from_secs(config.cache_max_seconds));
    options.negative_max_ttl = Some(Duration::from_secs(config.cache_max_seconds.min(300)));
    MessageAuthenticator::new(servers, options).map_err(|e| ResolverError::Setup(e.to_string()))
}

fn spf_fact(output: Option<&Option<SpfOutput>>) -> Fact<Spf> {
    let output = match output {
        None => return Fact::Unknown(Why::Disabled),
        Some(None) => return Fact::Unknown(Why::Timeout),
        Some(Some(output)) => output,
    };
    let result = match output.result() {
        SpfAnswer::Pass => SpfResult::Pass,
        SpfAnswer::Fail => SpfResult::Fail,
        SpfAnswer::SoftFail => SpfResult::SoftFail,
        SpfAnswer::Neutral => SpfResult::Neutral,
        SpfAnswer::PermError => SpfResult::PermError,
        SpfAnswer::None => SpfResult::None,
        SpfAnswer::TempError => return Fact::Unknown(Why::Timeout),
    };
    Fact::Known(Spf { result, domain: output.domain().trim_end_matches('.').to_lowercase() })
}

fn dkim_facts(outputs: &[DkimOutput<'_>]) -> Vec<DkimSignature> {
    let fact = |output: &DkimOutput<'_>| {
        let (result, error) = match output.result() {
            Dkim::Pass => (DkimResult::Pass, None),
            Dkim::None => (DkimResult::None, None),
            // The library is neutral about a body that was changed; RFC 6376, 6.1.3 is not.
            Dkim::Neutral(e @ DkimFault::Dkim(DkimError::FailedBodyHashMatch)) => (DkimResult::Fail, Some(e)),
            Dkim::Neutral(e) => (DkimResult::Neutral, Some(e)),
            Dkim::Fail(e) => (DkimResult::Fail, Some(e)),
            Dkim::PermError(e) => (DkimResult::PermError, Some(e)),
            Dkim::TempError(e) => (DkimResult::TempError, Some(e)),
        };
        let signature = output.signature();
        DkimSignature {
            result,
            domain: signature.map(|s| s.d.to_lowercase()).unwrap_or_default(),
            selector: signature.map(|s| s.s.clone()).unwrap_or_default(),
            reason: error.map(ToString::to_string),
        }
    };
    outputs.iter().map(fact).collect()
}

fn dmarc_fact(output: &DmarcOutput, spf: &SpfOutput, dkim: &[DkimOutput<'_>]) -> Fact<Dmarc> {
    let result = match output.result() {
        DmarcAnswer::Pass => DmarcResult::Pass,
        DmarcAnswer::Fail(_) => DmarcResult::Fail,
        DmarcAnswer::PermError(_) => DmarcResult::PermError,
        DmarcAnswer::None => DmarcResult::None,
        DmarcAnswer::TempError(_) => return Fact::Unknown(Why::Timeout),
    };
    let has_record = output.dmarc_record().is_some();
    let policy = match output.policy() {
        // Nobody asked for anything; the library says "none" then.
        _ if !has_record => DmarcPolicy::Unspecified,
        Policy::None => DmarcPolicy::None,
        Policy::Quarantine => DmarcPolicy::Quarantine,
        Policy::Reject => DmarcPolicy::Reject,
        Policy::Unspecified => DmarcPolicy::Unspecified,
    };
    let domain = output.domain().trim_end_matches('.').to_lowercase();
    // Where there is a record its owner says what counts as aligned; where there is none, the relaxed rule.
    let relaxed = |other: &str| {
        let other = other.trim_end_matches('.').to_lowercase();
        !domain.is_empty()
            && (other == domain || registrable_domain(&other).is_some_and(|o| Some(o) == registrable_domain(&domain)))
    };
    let spf_aligned = match output.spf_result() {
        DmarcAnswer::Pass => true,
        _ if has_record => false,
        _ => spf.result() == SpfAnswer::Pass && relaxed(spf.domain()),
    };
    let dkim_aligned = match output.dkim_result() {
        DmarcAnswer::Pass => true,
        _ if has_record => false,
        _ => dkim.iter().any(|o| *o.result() == Dkim::Pass && o.signature().is_some_and(|s| relaxed(&s.d))),
    };
    Fact::Known(Dmarc { result, policy, domain, spf_aligned, dkim_aligned })
}
