//! The configured hops: routing by recipient domain, idle connections, failover, what each hop offers.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::gateway::tls;
use crate::mail::{Envelope, Path};
use crate::observe::event;
use crate::protocol::smtp::{Dialect, Extensions, Identity, Reply};

use super::config::{HopConfig, NextHopsConfig, TlsMode};
use super::delivery::{Delivery, Failed};
use super::error::{ConfigError, LinkError, SendError};
use super::link::Link;
use super::metrics::NextHopMetrics;

/// The hops a recipient's mail goes to: a place in the table of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteId(usize);

/// All next hops. Cheap to share; lives as long as the configuration.
#[derive(Debug)]
pub struct NextHops {
    hops: Vec<Arc<Hop>>,
    /// Hops of each route, in the order in which they are tried; the first entry is the default.
    groups: Vec<Vec<Arc<Hop>>>,
    /// Domains of each route but the default.
    domains: Vec<Vec<String>>,
    pub(super) metrics: NextHopMetrics,
}

/// One hop and its idle connections.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) config: HopConfig,
    pub(super) limits: Limits,
    pub(super) helo_name: String,
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    permits: Arc<Semaphore>,
    state: Mutex<HopState>,
}

/// Times and counts, from the configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    pub(super) command: Duration,
    pub(super) content: Duration,
    pub(super) final_reply: Duration,
    pub(super) max_messages: u32,
    idle: Duration,
    down: Duration,
    learn: Duration,
}

#[derive(Debug, Default)]
struct HopState {
    idle: Vec<Link>,
    down_until: Option<Instant>,
    /// Mail has asked for it, or it was there once: that it is not there matters.
    wanted: bool,
    /// Since when no connection has come about.
    failing_since: Option<Instant>,
    learned: Option<(Extensions, Instant)>,
}

impl NextHops {
    /// Checks the configuration and reads the certificates it names; connects nowhere.
    pub fn new(config: &NextHopsConfig, host_name: &str, metrics: NextHopMetrics) -> Result<Self, ConfigError> {
        let limits = Limits {
            connect: Duration::from_secs(config.connect_seconds),
            command: Duration::from_secs(config.command_seconds),
            content: Duration::from_secs(config.content_seconds),
            final_reply: Duration::from_secs(config.final_reply_seconds),
            max_messages: config.max_messages_per_connection,
            idle: Duration::from_secs(config.pool_idle_seconds),
            down: Duration::from_secs(config.down_seconds),
            learn: Duration::from_secs(config.learn_seconds),
        };
        let helo_name = if config.helo_name.is_empty() { host_name } else { &config.helo_name };
        let mut names = HashSet::new();
        let mut hops = Vec::new();
        for hop in &config.hops {
            if !names.insert(hop.name.as_str()) {
                return Err(ConfigError::DuplicateName(hop.name.clone()));
            }
            hops.push(Arc::new(Hop {
                config: hop.clone(),
                limits,
                helo_name: helo_name.to_owned(),
                tls: tls_of(hop)?,
                permits: Arc::new(Semaphore::new(config.max_connections_per_hop.min(Semaphore::MAX_PERMITS))),
                state: Mutex::new(HopState::default()),
            }));
        }
        if hops.is_empty() {
            return Err(ConfigError::NoHops);
        }
        for hop in &hops {
            // Until somebody has tried nothing is known against it.
            metrics.up.with_label_values(&[hop.config.name.as_str()]).set(1);
        }
        let (groups, domains) = routes(config, &hops)?;
        Ok(Self { hops, groups, domains, metrics })
    }

    /// Where a recipient's mail goes: the first route that names its domain, else the default hops.
    pub fn route(&self, recipient: &Path) -> RouteId {
        let Some(address) = recipient.address() else { return RouteId(0) };
        let fits = |pattern: &String| match pattern.strip_prefix('.') {
            Some(suffix) => address.domain.strip_suffix(suffix).is_some_and(|head| head.ends_with('.')),
            None => *pattern == address.domain,
        };
        RouteId(self.domains.iter().position(|domains| domains.iter().any(fits)).map_or(0, |place| place + 1))
    }

    /// Whether this route takes one recipient a transaction (LMTP: results could be mixed otherwise).
    pub fn takes_one_recipient(&self, route: RouteId) -> bool {
        self.group(route).iter().any(|hop| hop.config.dialect == Dialect::Lmtp)
    }

    /// What can be offered to clients: ours, and of the hops' own what all of them keep. A hop not yet known keeps nothing.
    pub fn offer(&self, own: Extensions) -> Extensions {
        let learned = self.hops.iter().map(|hop| hop.lock().learned.map_or(Extensions::default(), |(set, _)| set));
        own.limited_by(learned.reduce(Extensions::intersection).unwrap_or_default())
    }

    /// Asks the hops that have not been heard of lately what they offer, and closes connections idle too long.
    /// To be called every few seconds while mail is taken.
    pub async fn maintain(&self) {
        for hop in &self.hops {
            for link in hop.take_overdue() {
                link.close().await;
            }
            if (hop.is_unlearned() || hop.failing_for().is_some()) && !hop.is_down() {
                match self.connect(hop, None, false).await {
                    Ok(link) => self.give_back(link).await,
                    Err(error) => tracing::debug!(hop = hop.config.name, %error, "next hop cannot be asked"),
                }
            }
        }
    }

    /// Each hop, and for how long it could not be connected to; none when the last connection came about, or
    /// no mail has needed one yet.
    pub fn standing(&self) -> Vec<(String, Option<Duration>)> {
        self.hops.iter().map(|hop| (hop.config.name.clone(), hop.failing_for())).collect()
    }

    /// Closes all idle connections.
    pub async fn close(&self) {
        for hop in &self.hops {
            let idle = std::mem::take(&mut hop.lock().idle);
            for link in idle {
                link.close().await;
            }
        }
    }

    /// Delivers one message now: for release and replay. All recipients or none.
    pub async fn send(self: &Arc<Self>, envelope: &Envelope, segments: &[Bytes]) -> Result<Reply, SendError> {
        let Some(first) = envelope.recipients.first() else { return Err(SendError::Recipients(Vec::new())) };
        let route = self.route(first);
        let one = self.takes_one_recipient(route) && envelope.recipients.len() > 1;
        if one || envelope.recipients.iter().any(|recipient| self.route(recipient) != route) {
            return Err(SendError::Separate);
        }
        let mut delivery = Delivery::new(self.clone(), route, Identity::default(), envelope.sender.clone());
        let mut refused = Vec::new();
        for (place, recipient) in envelope.recipients.iter().enumerate() {
            let reply = delivery.rcpt(recipient).await.map_err(SendError::Link)?;
            if !reply.is_positive() {
                refused.push((place, reply));
            }
        }
        if !refused.is_empty() {
            delivery.finish().await;
            return Err(SendError::Recipients(refused));
        }
        let outcome = delivery.deliver(&[], segments).await;
        delivery.finish().await;
        match outcome {
            Ok(reply) if reply.is_positive() => Ok(reply),
            Ok(reply) => Err(SendError::Refused(reply)),
            Err(Failed::NotSent(error)) => Err(SendError::Link(error)),
            Err(Failed::Unknown(error)) => Err(SendError::Unknown(error)),
        }
    }

    /// An idle connection (unless `fresh`) or a new one, to the first hop of the route that can be had.
    pub(super) async fn acquire(
        &self,
        route: RouteId,
        source: Option<SocketAddr>,
        fresh: bool,
    ) -> Result<(Link, bool), LinkError> {
        let mut last = LinkError::Down;
        for hop in self.group(route) {
            if fresh {
                // One of them was dead: the others are no better.
                hop.lock().idle.clear();
            } else if let Some(link) = hop.take_idle() {
                self.metrics.reused.inc();
                return Ok((link, true));
            }
            if hop.is_down() {
                continue;
            }
            match self.connect(hop, source, true).await {
                Ok(link) => return Ok((link, false)),
                Err(error) => {
                    tracing::warn!(
                        event = event::SYSTEM,
                        hop = hop.config.name, %error, cause = ?std::error::Error::source(&error), "next hop cannot be used"
                    );
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// Keeps a connection for the next transaction, or closes it.
    pub(super) async fn give_back(&self, mut link: Link) {
        if link.is_reusable() {
            link.idle_since = Instant::now();
            let hop = link.hop.clone();
            hop.lock().idle.push(link);
        } else {
            link.close().await;
        }
    }

    async fn connect(&self, hop: &Arc<Hop>, source: Option<SocketAddr>, for_mail: bool) -> Result<Link, LinkError> {
        let waiting = timeout(hop.limits.connect, hop.permits.clone().acquire_owned());
        let Ok(Ok(permit)) = waiting.await else { return Err(LinkError::Busy) };
        let outcome = Link::connect(hop, source, permit).await;
        let result = if outcome.is_ok() { "ok" } else { "failed" };
        self.metrics.connections.with_label_values(&[hop.config.name.as_str(), result]).inc();
        let mut state = hop.lock();
        state.wanted |= for_mail || outcome.is_ok();
        state.failing_since = match &outcome {
            Err(_) if state.wanted => state.failing_since.or_else(|| Some(Instant::now())),
            _ => None,
        };
        self.metrics.up.with_label_values(&[hop.config.name.as_str()]).set(state.failing_since.is_none().into());
        match &outcome {
            Ok(link) => {
                state.down_until = None;
                state.learned = Some((link.extensions(), Instant::now()));
            }
            // Being refused costs nothing and may be tried again at once; being kept waiting must not happen to every message.
            Err(LinkError::Connect(error)) if error.kind() != std::io::ErrorKind::TimedOut => {}
            Err(LinkError::Connect(_) | LinkError::Timeout(_)) => {
                state.down_until = Some(Instant::now() + hop.limits.down);
            }
            Err(_) => {}
        }
        drop(state);
        outcome
    }

    fn group(&self, route: RouteId) -> &[Arc<Hop>] {
        self.groups.get(route.0).map_or(&[], Vec::as_slice)
    }
}

impl Hop {
    fn lock(&self) -> std::sync::MutexGuard<'_, HopState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_down(&self) -> bool {
        self.lock().down_until.is_some_and(|until| Instant::now() < until)
    }

    fn failing_for(&self) -> Option<Duration> {
        self.lock().failing_since.map(|since| since.elapsed())
    }

    fn is_unlearned(&self) -> bool {
        self.lock().learned.is_none_or(|(_, when)| when.elapsed() > self.limits.learn)
    }

    /// The connection that was used last; those that are dead, overdue or have something to say are dropped.
    fn take_idle(&self) -> Option<Link> {
        let mut state = self.lock();
        while let Some(mut link) = state.idle.pop() {
            if link.idle_since.elapsed() < self.limits.idle && link.is_fit() {
                return Some(link);
            }
        }
        None
    }

    fn take_overdue(&self) -> Vec<Link> {
        let mut state = self.lock();
        let (overdue, kept) =
            std::mem::take(&mut state.idle).into_iter().partition(|link| link.idle_since.elapsed() >= self.limits.idle);
        state.idle = kept;
        overdue
    }
}

type Routes = (Vec<Vec<Arc<Hop>>>, Vec<Vec<String>>);

fn routes(config: &NextHopsConfig, hops: &[Arc<Hop>]) -> Result<Routes, ConfigError> {
    let mut groups = vec![Vec::new()];
    let mut domains = Vec::new();
    let mut routed = HashSet::new();
    for route in &config.routes {
        if route.domains.is_empty() || route.hops.is_empty() {
            return Err(ConfigError::EmptyRoute);
        }
        let find = |name: &String| {
            routed.insert(name.clone());
            let found = hops.iter().find(|hop| hop.config.name == *name);
            found.cloned().ok_or_else(|| ConfigError::UnknownHop(name.clone()))
        };
        groups.push(route.hops.iter().map(find).collect::<Result<_, _>>()?);
        domains.push(route.domains.iter().map(|domain| domain.to_lowercase()).collect());
    }
    // The default hops are those that no route names; when all are named, all of them.
    groups[0] = hops.iter().filter(|hop| !routed.contains(&hop.config.name)).cloned().collect();
    if groups[0].is_empty() {
        groups[0] = hops.to_vec();
    }
    Ok((groups, domains))
}

fn tls_of(hop: &HopConfig) -> Result<Option<(Arc<ClientConfig>, ServerName<'static>)>, ConfigError> {
    let (host, port) = hop.address.rsplit_once(':').ok_or_else(|| ConfigError::Address(hop.address.clone()))?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(ConfigError::Address(hop.address.clone()));
    }
    let config = match hop.tls {
        TlsMode::None => return Ok(None),
        TlsMode::Opportunistic => tls::opportunistic_client()?,
        TlsMode::Verify => tls::verifying_client(hop.ca_file.as_deref())?,
    };
    let name = if hop.tls_name.is_empty() { host.trim_matches(['[', ']']) } else { &hop.tls_name };
    let name = ServerName::try_from(name.to_owned()).map_err(|_| ConfigError::TlsName(name.to_owned()))?;
    Ok(Some((config, name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::next_hop::RouteConfig;

    fn hop(name: &str) -> HopConfig {
        HopConfig { name: name.to_owned(), ..HopConfig::default() }
    }

    fn build(config: &NextHopsConfig) -> Result<NextHops, ConfigError> {
        NextHops::new(config, "us.example", NextHopMetrics::new(&prometheus::Registry::new()).unwrap())
    }

    #[test]
    fn routes_by_domain() {
        let route =
            |domain: &str, hop: &str| RouteConfig { domains: vec![domain.to_owned()], hops: vec![hop.to_owned()] };
        let config = NextHopsConfig {
            hops: vec![hop("a"), hop("b"), hop("c")],
            routes: vec![route("B.example", "b"), route(".c.example", "c")],
            ..Default::default()
        };
        let hops = build(&config).unwrap();
        let cases = [
            ("x@a.example", 0),
            ("x@B.EXAMPLE", 1),
            ("x@sub.b.example", 0),
            ("x@sub.c.example", 2),
            ("x@c.example", 0),
            ("x@notc.example", 0),
            ("postmaster", 0),
        ];
        for (recipient, expected) in cases {
            assert_eq!(hops.route(&Path::new(recipient)), RouteId(expected), "{recipient}");
        }
        assert_eq!(hops.groups[0].len(), 1);
    }

    #[test]
    fn refuses_bad_configurations() {
        let with = |hops| NextHopsConfig { hops, ..Default::default() };
        assert!(matches!(build(&with(vec![])), Err(ConfigError::NoHops)));
        assert!(matches!(build(&with(vec![hop("a"), hop("a")])), Err(ConfigError::DuplicateName(_))));
        let odd = HopConfig { address: "nowhere".to_owned(), ..hop("a") };
        assert!(matches!(build(&with(vec![odd])), Err(ConfigError::Address(_))));
        let route = RouteConfig { domains: vec!["x".to_owned()], hops: vec!["z".to_owned()] };
        let unknown = NextHopsConfig { routes: vec![route], ..Default::default() };
        assert!(matches!(build(&unknown), Err(ConfigError::UnknownHop(_))));
    }
}
