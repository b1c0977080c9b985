//! What can be known of settings before anything is opened: asked by `config check`, `doctor`, `serve`, `worker` and each reload, so
//! that all of them say the same. An error names the key, its value, and what would do.
//!
//! Not here: what judging is built of (`standing`), which is found when it is built.

use anyhow::{bail, ensure};

use super::config::Config;
use super::{alerts, spans, standing, telemetry};
use crate::deferred;
use crate::enforcement::alert::{AlertsConfig, Kind};
use crate::enforcement::signing::SiteNonces;
use crate::gateway::milter;
use crate::gateway::next_hop::{NextHopMetrics, NextHops};
use crate::gateway::relay::RelayConfig;
use crate::gateway::tls::{ServerTls, TlsError};

/// The longest header line of an MTA, and what stands around it.
const MIN_FRAME_BYTES: usize = 131_072;

/// Whether these settings can be used; connects to nothing.
///
/// # Errors
/// Names the setting that cannot.
pub(super) fn settings(config: &Config) -> anyhow::Result<()> {
    telemetry::filter(&config.log.level)?;
    spans::check(&config.otlp)?;
    http(config)?;
    config.store.check(&config.data)?;
    deferred::check(&config.queue)?;
    config.workers.check()?;
    config.signing.check()?;
    SiteNonces::new(&config.signing)?;
    milter(&config.milter)?;
    deadlines(config)?;
    watch(&config.alerts)?;
    alerts::check(config)?;
    let relay = relay(config);
    relay.check()?;
    relay_tls(&relay)?;
    // Builds the routing and reads certificate authorities.
    let metrics = NextHopMetrics::new(&prometheus::Registry::new())?;
    NextHops::new(&config.next_hop, &relay.host_name, metrics)?;
    Ok(())
}

/// The relay's settings with our host name.
fn relay(config: &Config) -> RelayConfig {
    let mut relay = config.relay.clone();
    if relay.host_name.is_empty() {
        relay.host_name = standing::host_name(config);
    }
    relay
}

/// The certificate that the relay is to show, and its key. Those that it makes itself are looked at when it starts.
fn relay_tls(relay: &RelayConfig) -> anyhow::Result<()> {
    let tls = &relay.tls;
    let (Some(cert), Some(key)) = (&tls.cert_file, &tls.key_file) else { return Ok(()) };
    if !tls.enabled || relay.listen.is_empty() {
        return Ok(());
    }
    let Err(error) = ServerTls::from_files(cert.clone(), key.clone()) else { return Ok(()) };
    let (name, file, mend) = match &error {
        TlsError::File { path, .. } | TlsError::Pem { path, .. } if path == key => {
            ("key_file", key, "name a private key in PEM without a passphrase, which the gateway may read")
        }
        TlsError::Rustls(rustls::Error::General(_)) => ("key_file", key, "name an RSA, ECDSA or Ed25519 key in PEM"),
        TlsError::Rustls(rustls::Error::InconsistentKeys(_)) => {
            ("key_file", key, "it is not the key of the first certificate in relay.tls.cert_file: name the one that is")
        }
        _ => ("cert_file", cert, "name a certificate in PEM, followed by its chain, which the gateway may read"),
    };
    Err(anyhow::Error::new(error).context(format!("relay.tls.{name} `{}`: {mend}", file.display())))
}

fn http(config: &Config) -> anyhow::Result<()> {
    if !config.http.enabled {
        return Ok(());
    }
    config.http.check()?;
    let Some(file) = &config.http.metrics_file else { return Ok(()) };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    ensure!(
        folder.is_none_or(std::path::Path::is_dir),
        "http.metrics_file `{}`: there is no such folder: make it, or name another file",
        file.display()
    );
    Ok(())
}

/// Limits of the milter door that would stop all mail.
fn milter(milter: &milter::Config) -> anyhow::Result<()> {
    if !milter.enabled {
        return Ok(());
    }
    let limits = &milter.limits;
    let numbers = [
        ("connections", milter.connections),
        ("command_seconds", usize::try_from(milter.command_seconds)?),
        ("content_seconds", usize::try_from(milter.content_seconds)?),
        ("idle_seconds", usize::try_from(milter.idle_seconds)?),
        ("progress_seconds", usize::try_from(milter.progress_seconds)?),
        ("verdict_seconds", usize::try_from(milter.verdict_seconds)?),
        ("accept_backoff_ms", usize::try_from(milter.accept_backoff_ms)?),
        ("limits.message_bytes", limits.message_bytes),
        ("limits.header_bytes", limits.header_bytes),
        ("limits.header_count", limits.header_count),
        ("limits.recipients", limits.recipients),
        ("limits.envelope_bytes", limits.envelope_bytes),
        // Without macros neither queue id nor client would be known.
        ("limits.macro_count", limits.macro_count),
        ("limits.macro_bytes", limits.macro_bytes),
    ];
    no_zero("milter", &numbers)?;
    let frame = limits.frame_bytes;
    ensure!(
        frame >= MIN_FRAME_BYTES,
        "milter.limits.frame_bytes {frame}: must be at least {MIN_FRAME_BYTES}, or the MTA's longest header cannot pass"
    );
    Ok(())
}

fn no_zero(section: &str, numbers: &[(&str, usize)]) -> anyhow::Result<()> {
    match numbers.iter().find(|(_, number)| *number == 0) {
        Some((name, _)) => bail!("{section}.{name} 0: must be at least 1"),
        None => Ok(()),
    }
}

/// The verdict must be there before the door, or the MTA, stops waiting for it.
fn deadlines(config: &Config) -> anyhow::Result<()> {
    let inspection = config.inspection.deadline_ms;
    let (milter, relay) = (&config.milter, &config.relay);
    let doors = [
        ("milter.verdict_seconds", milter.verdict_seconds, milter.enabled),
        ("relay.verdict_seconds", relay.verdict_seconds, !relay.listen.is_empty()),
    ];
    for (door, seconds, _) in doors.into_iter().filter(|(_, _, open)| *open) {
        ensure!(
            inspection < seconds.saturating_mul(1_000),
            "inspection.deadline_ms {inspection} is not below {door} ({seconds} s): the door would answer 451 before the \
             verdict is there; shorten the first or lengthen the second (below what the MTA waits)"
        );
    }
    Ok(())
}

/// Settings under which the watch would see nothing, or everything.
fn watch(alerts: &AlertsConfig) -> anyhow::Result<()> {
    let numbers = [
        ("every_seconds", alerts.every_seconds as usize),
        ("window_seconds", alerts.window_seconds as usize),
        ("mix_seconds", alerts.mix_seconds as usize),
        ("forget_after_seconds", alerts.forget_after_seconds as usize),
        ("delivery.attempts", alerts.delivery.attempts as usize),
        ("delivery.queue", alerts.delivery.queue),
    ];
    no_zero("alerts", &numbers)?;
    alerts.call.check().map_err(|error| error.below("alerts.call"))?;
    let hysteresis = alerts.hysteresis;
    ensure!((0.0..1.0).contains(&hysteresis), "alerts.hysteresis {hysteresis}: a share, from 0 to below 1 (0.1, say)");
    Kind::ALL.into_iter().try_for_each(|kind| threshold(alerts, kind))
}

fn threshold(alerts: &AlertsConfig, kind: Kind) -> anyhow::Result<()> {
    let (name, threshold) = (setting(kind), alerts.thresholds.of(kind));
    let (warning, critical) = (threshold.warning, threshold.critical);
    let told = format!("alerts.thresholds.{name} {{ warning = {warning}, critical = {critical} }}");
    let share = name.ends_with("_ratio") || kind == Kind::VerdictMix;
    for value in [warning, critical] {
        ensure!(value.is_finite() && value >= 0.0, "{told}: from 0 (never) on");
        ensure!(!share || value <= 1.0, "{told}: shares, from 0 to 1 (0.95, not 95)");
    }
    let (both, low) = (warning > 0.0 && critical > 0.0, kind.low_is_bad());
    let turned = both && if low { warning < critical } else { warning > critical };
    let order = if low { "above" } else { "below" };
    ensure!(!turned, "{told}: the warning comes first, so it must be {order} what is critical");
    Ok(())
}

/// The key of a kind's thresholds.
fn setting(kind: Kind) -> &'static str {
    match kind {
        Kind::ApiLatency => "api_latency_seconds",
        Kind::RateLimitAbuse => "rate_limit_abuse_per_hour",
        Kind::AuthFailures => "auth_failures_per_hour",
        Kind::ServiceAvailability => "service_availability_ratio",
        Kind::Queue => "queue_silent_seconds",
        Kind::QueueDepth => "queue_depth_jobs",
        Kind::QueueAge => "queue_age_seconds",
        Kind::DeadLetters => "dead_letters_jobs",
        Kind::DatabaseLatency => "database_latency_seconds",
        Kind::BreakerOpen => "breaker_open_seconds",
        Kind::Disk => "disk_free_ratio",
        Kind::Certificate => "certificate_days",
        Kind::FeedAge => "feed_age_days",
        Kind::VerdictMix => "verdict_mix_change",
        Kind::NextHop => "next_hop_down_seconds",
        Kind::FailedHolds => "failed_holds",
        Kind::Deferrals => "deferred_ratio",
        Kind::Panics => "panics",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let config: Config = toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        settings(&config).map_or_else(|error| format!("{error:#}"), |()| panic!("taken: {text}"))
    }

    #[test]
    fn each_names_its_key_and_its_mend() {
        settings(&Config::default()).unwrap();
        for (text, words) in [
            ("[http]\nsnapshot_seconds = 0", &["http.snapshot_seconds", "at least 1"][..]),
            ("[http]\nhealth_check_ms = 0", &["http.health_check_ms", "at least 1"]),
            ("[http]\nmetrics_file = \"/no/such/m.json\"", &["http.metrics_file `/no/such/m.json`", "folder"]),
            ("[http.callers]\n\"a b\" = \"read\"", &["http.callers", "`a b`"]),
            ("[store]\nreplica_url = \"mysql://u:pw@x\"", &["store.replica_url `mysql://u@x`", "postgres://"]),
            ("[store]\nurl = \"mysql://x\"", &["store.url `mysql://x`", "postgres://"]),
            ("[milter]\nconnections = 0", &["milter.connections 0", "at least 1"]),
            ("[milter]\ncontent_seconds = 0", &["milter.content_seconds 0", "at least 1"]),
            ("[milter.limits]\nrecipients = 0", &["milter.limits.recipients 0", "at least 1"]),
            ("[milter.limits]\nframe_bytes = 1000", &["milter.limits.frame_bytes 1000", "at least 131072"]),
            ("[actions.webhook]\nurl = \"gopher://x\"", &["actions.webhook.url", "no http or https URL"]),
            ("[store]\nconnections = 0", &["store.connections 0", "at least 1"]),
            ("[store]\nconnections = 2\nmin_connections = 3", &["store.min_connections 3", "store.connections (2)"]),
            ("[alerts.call]\ndeadline_ms = 0", &["alerts.call.deadline_ms", "at least 1"]),
            ("[alerts]\nevery_seconds = 0", &["alerts.every_seconds 0", "at least 1"]),
            ("[alerts]\nwindow_seconds = 0", &["alerts.window_seconds 0"]),
            ("[alerts]\nforget_after_seconds = 0", &["alerts.forget_after_seconds 0"]),
            ("[alerts]\nhysteresis = 1.0", &["alerts.hysteresis 1", "below 1"]),
            ("[alerts]\nhysteresis = -0.1", &["alerts.hysteresis -0.1"]),
            ("[alerts.delivery]\nattempts = 0", &["alerts.delivery.attempts 0"]),
            (
                "[alerts.thresholds]\nservice_availability_ratio = { warning = 95.0, critical = 80.0 }",
                &["alerts.thresholds.service_availability_ratio { warning = 95, critical = 80 }", "0.95, not 95"],
            ),
            (
                "[alerts.thresholds]\nservice_availability_ratio = { warning = 0.8, critical = 0.95 }",
                &["must be above"],
            ),
            ("[alerts.thresholds]\nverdict_mix_change = { warning = 25.0, critical = 0.0 }", &["verdict_mix_change"]),
            ("[alerts.thresholds]\nqueue_depth_jobs = { warning = 9.0, critical = 8.0 }", &["must be below"]),
            ("[alerts.thresholds]\npanics = { warning = -1.0, critical = 8.0 }", &["panics", "from 0"]),
            ("[log]\nlevel = \"info,gatway=debug\"", &["log.level", "`gatway`", "mailweir::gateway=debug"]),
            ("[log]\nlevel = \"gateway=debug\"", &["log.level", "`gateway`", "mailweir::gateway=debug"]),
            ("[log]\nlevel = \"mailweir::gatway=debug\"", &["log.level", "`mailweir::gatway`", "gateway"]),
            ("[signing]\nheader_prefix = \"bad header:\"", &["signing.header_prefix `bad header:`", "X-Mailweir"]),
            ("[signing]\nmax_age_seconds = 0", &["signing.max_age_seconds 0", "at least 1"]),
            ("[signing]\nmax_nonces = 0", &["signing.max_nonces 0"]),
            ("[signing]\nnonces_ms = 0", &["signing.nonces_ms 0"]),
            ("[signing]\nannounce_hours = 4294967295", &["signing.announce_hours 4294967295", "at most 8784, a year"]),
            (
                "[relay]\nlisten = [\"127.0.0.1:0\"]\nverdict_seconds = 4",
                &["inspection.deadline_ms 4000", "relay.verdict_seconds (4 s)"],
            ),
            (
                "[milter]\nenabled = true\n[inspection]\ndeadline_ms = 250000",
                &["inspection.deadline_ms 250000", "milter.verdict_seconds (250 s)"],
            ),
            #[cfg(not(feature = "otlp"))]
            ("[otlp]\nendpoint = \"http://c.example/v1/traces\"", &["otlp.endpoint", "feature `otlp`"]),
            #[cfg(feature = "otlp")]
            ("[otlp]\nendpoint = \"c.example\"", &["otlp.endpoint"]),
        ] {
            let error = refused(text);
            assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
            assert!(!error.contains("pw"), "{error}");
        }
        for text in [
            "[log]\nlevel = \"info,mailweir::gateway=debug,sqlx::query=trace,hyper=off,mailweir=info\"",
            "[http]\nenabled = false\nsnapshot_seconds = 0",
            "[milter]\nenabled = false\nverdict_seconds = 1",
            "[alerts.thresholds]\nqueue_depth_jobs = { warning = 0.0, critical = 8.0 }",
        ] {
            settings(&toml::from_str(text).unwrap()).unwrap_or_else(|error| panic!("{text}: {error:#}"));
        }
    }
    #[test]
    fn a_certificate_that_cannot_be_shown_names_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            file.display().to_string()
        };
        let pair = || rcgen::generate_simple_self_signed(vec!["mx.example".to_owned()]).unwrap();
        let (ours, other) = (pair(), pair());
        let (cert, key) = (file("cert", &ours.cert.pem()), file("key", &ours.signing_key.serialize_pem()));
        let another = file("another", &other.signing_key.serialize_pem());
        let (junk, gone) = (file("junk", "no PEM\n"), folder.path().join("gone").display().to_string());
        let block = |kind: &str| format!("-----BEGIN {kind}-----\nbm8gREVS\n-----END {kind}-----\n");
        let (no_cert, no_key) = (file("no_cert", &block("CERTIFICATE")), file("no_key", &block("PRIVATE KEY")));
        let settings_of = |listen: &str, cert: &str, key: &str| {
            format!("[relay]\nlisten = [{listen}]\n[relay.tls]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n")
        };
        let listen = "\"127.0.0.1:0\"";
        for (cert, key, setting, words) in [
            (&junk, &key, format!("relay.tls.cert_file `{junk}`"), "no certificate in PEM"),
            (&gone, &key, format!("relay.tls.cert_file `{gone}`"), "may read"),
            (&key, &key, format!("relay.tls.cert_file `{key}`"), "name a certificate"),
            (&no_cert, &key, format!("relay.tls.cert_file `{no_cert}`"), "name a certificate"),
            (&cert, &another, format!("relay.tls.key_file `{another}`"), "not the key of the first certificate"),
            (&cert, &junk, format!("relay.tls.key_file `{junk}`"), "name a private key"),
            (&cert, &gone, format!("relay.tls.key_file `{gone}`"), "may read"),
            (&cert, &no_key, format!("relay.tls.key_file `{no_key}`"), "RSA, ECDSA or Ed25519"),
        ] {
            let error = refused(&settings_of(listen, cert, key));
            assert!(error.starts_with(&setting) && error.contains(words), "{error}");
        }
        for text in [
            settings_of(listen, &cert, &key),
            // Nobody is shown it.
            settings_of("", &junk, &junk),
            settings_of(listen, &junk, &junk) + "enabled = false\n",
        ] {
            settings(&toml::from_str(&text).unwrap()).unwrap_or_else(|error| panic!("{text}: {error:#}"));
        }
    }
}
