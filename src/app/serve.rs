//! The life of the gateway: settings checked, stores opened, ports bound, said what is listening, run, signal, drain.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::alerts::{Alerting, Tellers};
use super::cli::Common;
use super::config::{Config, Loaded};
use super::load::demo::DemoLoad;
use super::reinject::IntoNextHop;
use super::reload::Reload;
use super::terminal::{Terminal, Tone};
use super::work::{Hands, Work};
use super::{check, data, shelf, spans, standing, telemetry};
use crate::admin::{Admin, NextHopStates, Others, RuleFeeds, Surroundings, Workforce};
use crate::egress;
use crate::enforcement::Release;
use crate::enforcement::alert::Board;
use crate::enrichment::Outside;
use crate::gateway::next_hop::{NextHopMetrics, NextHops};
use crate::gateway::relay::{Relay, RelayMetrics};
use crate::gateway::tls::ServerTls;
use crate::gateway::{milter, next_hop};
use crate::observe::{self, event};
use crate::pipeline::{self, Pipeline};
use crate::records::{self, Records};

/// How often the retention looks for what is too old.
const RETENTION_EVERY: Duration = Duration::from_secs(60 * 60);

/// How often it is asked whether a look at a service is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Everything that runs, before it runs.
struct Gateway {
    config: Arc<Config>,
    records: Arc<Records>,
    pipeline: Arc<Pipeline>,
    next_hops: Arc<NextHops>,
    admin: Option<(TcpListener, Admin)>,
    milter: Option<(milter::Listener, Arc<milter::Metrics>)>,
    relay: Option<(Vec<TcpListener>, Relay<Pipeline>)>,
    work: Work,
    tellers: Arc<Tellers>,
    alerting: Option<Alerting>,
}

/// Runs the gateway until SIGTERM or SIGINT.
///
/// # Errors
/// What could not be set up, or which part ended by itself.
pub(super) async fn serve(loaded: Loaded, common: &Common) -> anyhow::Result<()> {
    // One that comes while we start ends nothing.
    drop(super::reload::hangups());
    check::settings(&loaded.config)?;
    let levels = telemetry::start(&loaded.config)?;
    let config = Arc::new(loaded.config.clone());
    let registry = Registry::new();
    observe::register(&registry)?;
    spans::register(&registry)?;
    let outside = Arc::new(shelf::outside(&config, &registry)?);
    let collector = outside.dependencies.beside();
    let exporting = spans::export(&config, &levels, &collector)?;
    let (standing, report) = standing::build(&config, false, &outside)?;
    report.log();
    data::prepare(&config)?;
    let metrics = Arc::new(records::Metrics::new(&registry)?);
    let (records, writer) = Records::open(&config.store, &config.data, metrics).await.map_err(with_causes)?;
    // The writer outlives everything that writes; it ends when the last of them has let go.
    let writer = tokio::spawn(writer);
    let filter = records.filtered(&config.data).map(tokio::spawn);
    let around = (&outside, &levels, collector);
    let gateway = set_up(Arc::clone(&config), standing, records, around, &registry).await?;
    say_what_listens(&gateway, common)?;

    let stop = CancellationToken::new();
    let follower = Arc::clone(&outside);
    let parts = (Arc::clone(&gateway.pipeline), levels, outside, Arc::clone(&gateway.tellers));
    let reload = Reload::new(loaded, common.clone(), parts, &registry)?;
    let following = tokio::spawn(async move { follower.follow().await });
    let seen = Arc::clone(&gateway.pipeline);
    let looking = tokio::spawn(async move {
        look_at_services(&seen).await;
        look_again(seen).await;
    });
    let result = run(gateway, reload, stop).await;
    looking.abort();
    following.abort();
    filter.inspect(|filter| filter.abort());
    if tokio::time::timeout(Duration::from_secs(5), writer).await.is_err() {
        tracing::error!(event = event::SYSTEM, "the records did not close in time");
    }
    if let Some(exporting) = exporting {
        exporting.finish().await;
    }
    result
}

async fn set_up(
    config: Arc<Config>,
    standing: pipeline::Standing,
    records: Arc<Records>,
    (outside, levels, collector): (&Arc<Outside>, &Arc<telemetry::Levels>, egress::Registry),
    registry: &Registry,
) -> anyhow::Result<Gateway> {
    let host = standing::host_name(&config);
    let key = data::pass_key(&config)?;
    let metrics = Arc::new(pipeline::Metrics::new(registry)?);
    let pipeline = Arc::new(Pipeline::new(standing, Some(Arc::clone(&records)), Some(key.clone()), metrics));
    let next_hops = NextHops::new(&config.next_hop, &host, NextHopMetrics::new(registry)?).context("[next_hop]")?;
    let next_hops = Arc::new(next_hops);

    let milter = if config.milter.enabled {
        let listener = milter::Listener::bind(&config.milter).await.context("[milter]")?;
        Some((listener, Arc::new(milter::Metrics::new(registry)?)))
    } else {
        None
    };
    let relay = if config.relay.listen.is_empty() {
        None
    } else {
        let mut settings = config.relay.clone();
        if settings.host_name.is_empty() {
            settings.host_name.clone_from(&host);
        }
        let tls = relay_tls(&config, &host)?;
        let (inspect, hops, metrics) = (Arc::clone(&pipeline), Arc::clone(&next_hops), RelayMetrics::new(registry)?);
        let relay = Relay::new(Arc::new(settings), inspect, hops, tls, metrics).context("[relay]")?;
        let mut listeners = Vec::new();
        for address in &config.relay.listen {
            listeners.push(bind("relay.listen", *address).await?);
        }
        Some((listeners, relay))
    };
    let tellers = Arc::new(Tellers::new(&config, outside, &next_hops, registry)?);
    let hands = config.workers.enabled.then(|| Hands {
        pipeline: Arc::clone(&pipeline),
        next_hops: Arc::clone(&next_hops),
        key: key.clone(),
        tellers: Arc::clone(&tellers),
    });
    let work = Work::open(&config, &records, registry, hands).await?;
    let mut doors = Vec::new();
    if let Some((listener, _)) = &milter {
        let address = listener.local_addr().map_or_else(|| config.milter.listen.to_string(), |a| a.to_string());
        doors.push(("milter".to_owned(), address));
    }
    for listener in relay.iter().flat_map(|(listeners, _)| listeners) {
        doors.push(("relay".to_owned(), listener.local_addr()?.to_string()));
    }
    let surroundings = Surroundings {
        outside: Some(Arc::clone(outside)),
        certificates: relay.as_ref().and(relay_certificate(&config)).into_iter().collect(),
        feeds: Some(Arc::new(Feeds(Arc::clone(&pipeline)))),
        data: Some(config.data.clone()),
        levels: Some(Arc::clone(levels) as _),
        next_hops: relay.as_ref().map(|_| Arc::new(Standing(Arc::clone(&next_hops))) as _),
        others: Some(Arc::new(Besides::new(&tellers, collector))),
    };
    let admin = admin_with(&config, &records, registry, (&next_hops, key), work.workforce(doors), surroundings).await?;
    let parts = (&records, outside, &next_hops, &pipeline);
    let alerting = Alerting::new(&config, parts, &tellers, &work.queue, registry);
    Ok(Gateway { config, records, pipeline, next_hops, admin, milter, relay, work, tellers, alerting })
}

/// The HTTP side of a process that has no doors, if it is wanted.
pub(super) async fn admin_side(
    config: &Config,
    records: &Arc<Records>,
    registry: &Registry,
    next_hops: &Arc<NextHops>,
    work: &Work,
    surroundings: Surroundings,
) -> anyhow::Result<Option<(TcpListener, Admin)>> {
    let key = data::pass_key(config)?;
    let work = work.workforce(Vec::new());
    admin_with(config, records, registry, (next_hops, key), work, surroundings).await
}

async fn admin_with(
    config: &Config,
    records: &Arc<Records>,
    registry: &Registry,
    (next_hops, key): (&Arc<NextHops>, records::PassKey),
    work: Workforce,
    surroundings: Surroundings,
) -> anyhow::Result<Option<(TcpListener, Admin)>> {
    if !config.http.enabled {
        return Ok(None);
    }
    let release = Release::new(Arc::clone(records), key, IntoNextHop(Arc::clone(next_hops)), config.release.clone());
    let token = data::admin_token(config)?;
    let (records, release) = (Arc::clone(records), Arc::new(release));
    let admin = Admin::new(&config.http, token, records, release, registry.clone(), Some(work), surroundings)?;
    let admin = admin.with_metrics_token(&data::metrics_token(config)?)?.with_callers(&config.signing, &config.data)?;
    let admin = if config.alerts.enabled { admin.with_alerts(Board::new(&config.data)) } else { admin };
    // Its metric is there in any case.
    let demo = DemoLoad::new(config, registry)?;
    let admin = if config.http.demo.enabled { admin.with_demo(Arc::new(demo)) } else { admin };
    Ok(Some((bind("http.listen", config.http.listen).await?, admin)))
}

/// The feeds of rules as health sees them: those of the policy that stands.
struct Feeds(Arc<Pipeline>);

impl std::fmt::Debug for Feeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.feeds()).finish()
    }
}

impl RuleFeeds for Feeds {
    fn feeds(&self) -> Vec<(String, PathBuf)> {
        self.0.standing().rules.feeds().to_vec()
    }
}

/// Who is called besides the services, as health sees them.
#[derive(Debug)]
pub(super) struct Besides {
    channels: egress::Registry,
    actions: egress::Registry,
    collector: egress::Registry,
}

impl Besides {
    pub(super) fn new(tellers: &Tellers, collector: egress::Registry) -> Self {
        let (channels, actions) = tellers.called();
        Self { channels, actions, collector }
    }
}

impl Others for Besides {
    fn snapshots(&self) -> Vec<serde_json::Value> {
        // What [actions] names goes by the same kinds of channels, and is another of its own.
        let actions = self.actions.snapshots().into_iter().map(|snapshot| {
            let name = snapshot.name.replacen("alert_", "action_", 1);
            egress::Snapshot { name, ..snapshot }
        });
        let channels = self.channels.snapshots().into_iter();
        channels.chain(actions).chain(self.collector.snapshots()).map(|one| serde_json::json!(one)).collect()
    }
}

/// The next hops as health sees them.
#[derive(Debug)]
struct Standing(Arc<NextHops>);

impl NextHopStates for Standing {
    fn states(&self) -> Vec<(String, Option<Duration>)> {
        self.0.standing()
    }
}

/// The certificate that the relay shows: its name for people, and its file.
fn relay_certificate(config: &Config) -> Option<(String, PathBuf)> {
    let tls = &config.relay.tls;
    let file = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(_)) => cert.clone(),
        _ => config.data.join("certs").join("relay.crt"),
    };
    tls.enabled.then(|| ("relay".to_owned(), file))
}

async fn bind(setting: &str, address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{setting}: cannot listen on {address}"))
}

fn relay_tls(config: &Config, host: &str) -> anyhow::Result<Option<Arc<ServerTls>>> {
    let tls = &config.relay.tls;
    if !tls.enabled {
        return Ok(None);
    }
    let made = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => ServerTls::from_files(cert.clone(), key.clone()),
        _ => {
            let folder: PathBuf = config.data.join("certs");
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            ServerTls::self_signed(&folder, host)
        }
    };
    Ok(Some(Arc::new(made.context("[relay.tls]")?)))
}

/// Runs all parts until a signal, then drains them: listeners close first, messages in flight are answered.
async fn run(gateway: Gateway, reload: Reload, stop: CancellationToken) -> anyhow::Result<()> {
    let Gateway { config, records, pipeline, next_hops, admin, milter, relay, work, alerting, .. } = gateway;
    let mut parts: JoinSet<&'static str> = JoinSet::new();
    if let Some((listener, metrics)) = milter {
        let (inspect, settings, stop) = (Arc::clone(&pipeline), Arc::new(config.milter.clone()), stop.clone());
        parts.spawn(async move {
            milter::serve(listener, inspect, settings, metrics, stop).await;
            "milter"
        });
    }
    if let Some((listeners, relay)) = relay {
        for listener in listeners {
            let (relay, stop) = (relay.clone(), stop.clone());
            parts.spawn(async move {
                relay.serve(listener, stop).await;
                "relay"
            });
        }
    }
    // HTTP answers until the mail has drained: whoever watches must see it happen.
    let http_stop = CancellationToken::new();
    let http = admin.map(|(listener, admin)| {
        let (draining, stop) = (stop.clone(), http_stop.clone());
        tokio::spawn(async move { admin.serve(listener, draining, stop).await })
    });
    let retention = tokio::spawn(expire(Arc::clone(&records)));
    let working = work.start();
    let reload = tokio::spawn(reload.run());
    // Until the mail has drained: what goes wrong meanwhile is told too.
    let watch_stop = CancellationToken::new();
    let alerting = alerting.map(|alerting| tokio::spawn(alerting.run(watch_stop.clone())));

    let ended = tokio::select! {
        signal = shutdown_signal() => {
            tracing::info!(
                event = event::SYSTEM,
                signal = signal?, "stopping: listeners close, messages in flight are answered"
            );
            None
        }
        Some(part) = parts.join_next() => Some(part),
    };
    stop.cancel();
    working.drain();
    let drain = async { while parts.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_secs(config.drain_seconds), drain).await.is_err() {
        tracing::warn!(
            event = event::SYSTEM,
            connections = "cut",
            "not everything was answered in time: those senders will try again"
        );
        parts.shutdown().await;
    }
    reload.abort();
    retention.abort();
    // Before the queue closes: what cannot be told any more waits there for the next start.
    watch_stop.cancel();
    if let Some(alerting) = alerting {
        let _ = tokio::time::timeout(Duration::from_secs(5), alerting).await;
    }
    working.finish().await;
    http_stop.cancel();
    if let Some(http) = http {
        let _ = tokio::time::timeout(Duration::from_secs(2), http).await;
    }
    next_hop::NextHops::close(&next_hops).await;
    tracing::info!(event = event::SYSTEM, "stopped");
    match ended {
        None => Ok(()),
        Some(part) => bail!("a part of the gateway ended by itself: {}", part.unwrap_or("(broke down)")),
    }
}

/// Says at the start which services answer: mail does not wait for it.
async fn look_at_services(pipeline: &Pipeline) {
    for look in pipeline.standing().services.probe().await {
        match look.result {
            Ok(said) => tracing::info!(event = event::SYSTEM, service = %look.name, said, "a service answers"),
            Err(error) => {
                tracing::warn!(
                    event = event::SYSTEM,
                    service = %look.name, %error, meanwhile = look.on_failure.words(), "a service does not answer"
                )
            }
        }
    }
}

/// Looks for ever which of the services that are left alone are back.
pub(super) async fn look_again(pipeline: Arc<Pipeline>) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let standing = pipeline.standing();
        tokio::join!(standing.services.look(), standing.sender_auth.look());
    }
}

async fn expire(records: Arc<Records>) {
    let mut every = tokio::time::interval(RETENTION_EVERY);
    loop {
        every.tick().await;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        if let Err(error) = records.expire(i64::try_from(now.as_millis()).unwrap_or(i64::MAX)).await {
            tracing::warn!(event = event::SYSTEM, error = %with_causes(error), "retention: tried again in an hour");
        }
    }
}

pub(super) async fn shutdown_signal() -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

fn say_what_listens(gateway: &Gateway, common: &Common) -> anyhow::Result<()> {
    let terminal = Terminal::new(common.colour);
    let config = &gateway.config;
    let mut lines = vec![terminal.toned(Tone::Strong, concat!("Mailweir ", env!("CARGO_PKG_VERSION")))];
    let mut row = |name: &str, value: String| lines.push(format!("  {name:<10}{value}"));
    if let Some((listener, _)) = &gateway.milter {
        let address = listener.local_addr().map_or_else(|| config.milter.listen.to_string(), |a| format!("inet:{a}"));
        row("milter", address);
    }
    if let Some((listeners, _)) = &gateway.relay {
        let hops: Vec<&str> = config.next_hop.hops.iter().map(|hop| hop.address.as_str()).collect();
        for listener in listeners {
            row("relay", format!("{} to {}", listener.local_addr()?, hops.join(", ")));
        }
    }
    if let Some((listener, _)) = &gateway.admin {
        row("http", format!("http://{}", listener.local_addr()?));
        row("token", data::token_file(config).display().to_string());
    }
    let (database, bodies) = gateway.records.places();
    row("data", config.data.display().to_string());
    row("store", format!("{database}, bodies in {bodies}"));
    row("queue", gateway.work.queue.place());
    lines.push(String::new());
    if let Some((listener, _)) = &gateway.milter
        && let Some(address) = listener.local_addr()
    {
        lines.push(format!(
            "Postfix asks it with:  postconf -e smtpd_milters=inet:{address} milter_default_action=tempfail"
        ));
    }
    lines.push("Look closer with:      mailweir doctor, mailweir scan FILE, deploy/postfix/README.md".into());
    terminal.line(&lines.join("\n"))?;
    Ok(())
}

/// An error with its causes in one.
pub(super) fn with_causes(error: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
    anyhow::Error::new(error)
}
