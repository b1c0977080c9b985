//! `mailweir doctor`: looks at what the gateway depends on, and says what to mend.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::app::cli::{Common, Doctor};
use crate::app::config::{Config, Loaded};
use crate::app::terminal::{Terminal, Tone, plain};
use crate::app::{shelf, standing};
use crate::deferred;
use crate::enrichment::{Outside, SenderAuth, ServiceLook, Services};
use crate::records::{Metrics, Records};

/// Time for each look.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines of a greeting read at most.
const LINES: usize = 100;
/// Where Debian and most others keep Postfix's settings.
const POSTFIX: &str = "/etc/postfix/main.cf";
/// Seconds since 1970 before which a clock is wrong: the year this was written.
const CLOCK_FLOOR: u64 = 1_763_000_000;

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Finding {
    Ok,
    Note,
    Problem,
}

#[derive(Debug, Serialize)]
struct Look {
    what: String,
    finding: Finding,
    detail: String,
}

fn look(what: &str, finding: Finding, detail: impl Into<String>) -> Look {
    Look { what: what.to_owned(), finding, detail: detail.into() }
}

/// Runs the command. Exit code 1 when there is a problem.
pub(in crate::app) async fn run(options: &Doctor, loaded: &Loaded, common: &Common) -> anyhow::Result<ExitCode> {
    let terminal = Terminal::new(common.colour);
    let config = &loaded.config;
    let mut looks = vec![configuration(loaded), clock(), data_folder(config)];
    looks.push(store(config).await);
    looks.push(queue(config).await);
    looks.extend(cache(config).await);
    looks.push(resolver(config).await);
    looks.extend(services(config).await);
    looks.extend(ports(config).await);
    looks.extend(next_hops(config).await);
    looks.extend(postfix(config, Path::new(POSTFIX)));
    let problems = looks.iter().filter(|look| look.finding == Finding::Problem).count();
    if options.json {
        looks.iter().try_for_each(|look| terminal.json(look))?;
    } else {
        for look in &looks {
            let (tone, word) = match look.finding {
                Finding::Ok => (Tone::Good, "ok     "),
                Finding::Note => (Tone::Warning, "note   "),
                Finding::Problem => (Tone::Bad, "problem"),
            };
            terminal.line(&format!("{} {:<14} {}", terminal.toned(tone, word), look.what, plain(&look.detail, 400)))?;
        }
    }
    Ok(if problems > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn configuration(loaded: &Loaded) -> Look {
    let place = loaded.file.as_ref().map_or("built-in defaults".to_owned(), |file| file.display().to_string());
    match super::config::usable(&loaded.config) {
        Ok(warnings) if warnings.is_empty() => look("configuration", Finding::Ok, place),
        Ok(warnings) => look("configuration", Finding::Note, format!("{place}: {}", warnings.join("; "))),
        Err(error) => look("configuration", Finding::Problem, format!("{place}: {error:#}")),
    }
}

fn clock() -> Look {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let shown = super::super::terminal::time(i64::try_from(now).unwrap_or_default().saturating_mul(1_000));
    if now < CLOCK_FLOOR {
        look(
            "clock",
            Finding::Problem,
            format!("{shown} cannot be: signatures and certificates will not verify; start NTP"),
        )
    } else {
        look("clock", Finding::Ok, shown)
    }
}

fn data_folder(config: &Config) -> Look {
    let folder = &config.data;
    let Ok(metadata) = std::fs::metadata(folder) else {
        return look("data", Finding::Note, format!("{} is not there yet: the first start makes it", folder.display()));
    };
    let mode = metadata.permissions().mode() & 0o777;
    let probe = folder.join(".doctor");
    if let Err(error) = std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)) {
        return look("data", Finding::Problem, format!("{} cannot be written: {error}", folder.display()));
    }
    if mode & 0o077 != 0 {
        let mend = format!("chmod 700 {}", folder.display());
        return look(
            "data",
            Finding::Problem,
            format!("{} has mode {mode:o}: others can read held mail; {mend}", folder.display()),
        );
    }
    let free = rustix::fs::statvfs(folder).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    let detail = format!("{}, mode {mode:o}, {} MiB free", folder.display(), free >> 20);
    let scarce = free < config.store.min_free_bytes;
    look("data", if scarce { Finding::Problem } else { Finding::Ok }, detail)
}

async fn store(config: &Config) -> Look {
    if config.store.url.is_empty() && config.store.url_file.is_none() && !config.data.join("mailweir.db").exists() {
        return look("store", Finding::Note, "the embedded database is not there yet: the first start makes it");
    }
    let opened = async {
        let metrics = Metrics::new(&prometheus::Registry::new())?;
        let (records, _writer) = Records::open(&config.store, &config.data, metrics.into()).await?;
        let started = Instant::now();
        records.ping().await?;
        Ok::<_, anyhow::Error>(format!("{} answers in {} µs", records.places().0, started.elapsed().as_micros()))
    };
    match timeout(PATIENCE, opened).await {
        Ok(Ok(detail)) => look("store", Finding::Ok, detail),
        Ok(Err(error)) => look("store", Finding::Problem, format!("{error:#}")),
        Err(_) => look("store", Finding::Problem, "no answer within 5 s"),
    }
}

async fn queue(config: &Config) -> Look {
    if config.queue.url.is_empty() && config.queue.url_file.is_none() && !config.data.join("queue.sqlite").exists() {
        return look("queue", Finding::Note, "the embedded queue is not there yet: the first start makes it");
    }
    let opened = async {
        let queue = deferred::open(&config.queue, &config.data).await?;
        let depth = queue.depth().await;
        queue.close().await;
        Ok::<_, anyhow::Error>((queue.place(), depth?))
    };
    match timeout(PATIENCE, opened).await {
        Ok(Ok((place, depth))) => {
            let finding = if depth.dead > 0 { Finding::Note } else { Finding::Ok };
            look("queue", finding, format!("{place}: {} jobs, {} dead letters", depth.total(), depth.dead))
        }
        Ok(Err(error)) => look("queue", Finding::Problem, format!("{error:#}: jobs wait in the outbox")),
        Err(_) => look("queue", Finding::Problem, "no answer within 5 s: jobs wait in the outbox"),
    }
}

/// The cache that gateways share, where there is one.
async fn cache(config: &Config) -> Option<Look> {
    let shelf = match shelf::open(config) {
        Ok(shelf) => shelf?,
        Err(error) => return Some(look("cache", Finding::Problem, format!("{error:#}"))),
    };
    let without = "answers of services are kept in memory only";
    Some(match timeout(PATIENCE, shelf.news(None)).await {
        Ok(Ok(_)) => look("cache", Finding::Ok, format!("{} answers", shelf.place())),
        Ok(Err(error)) => look("cache", Finding::Problem, format!("{}: {error}: {without}", shelf.place())),
        Err(_) => look("cache", Finding::Problem, format!("{}: no answer within 5 s: {without}", shelf.place())),
    })
}

async fn resolver(config: &Config) -> Look {
    if !config.enrichment.sender_auth.enabled {
        return look("resolver", Finding::Note, "not asked: enrichment.sender_auth.enabled is false");
    }
    let auth = match SenderAuth::new(&config.enrichment.sender_auth, &standing::host_name(config)) {
        Ok(auth) => auth,
        Err(error) => return look("resolver", Finding::Problem, error.to_string()),
    };
    let started = Instant::now();
    match timeout(PATIENCE, auth.probe()).await {
        Ok(Ok(())) => look("resolver", Finding::Ok, format!("answers in {} ms", started.elapsed().as_millis())),
        Ok(Err(error)) => look("resolver", Finding::Problem, format!("{error}: SPF, DKIM and DMARC will be unknown")),
        Err(_) => look("resolver", Finding::Problem, "no answer within 5 s: SPF, DKIM and DMARC will be unknown"),
    }
}

async fn services(config: &Config) -> Vec<Look> {
    let built = Outside::new(&prometheus::Registry::new()).map_err(|error| error.to_string());
    let built = built.and_then(|o| Services::new(&config.enrichment, &o).map_err(|error| error.to_string()));
    let services = match built {
        Ok(services) => services,
        Err(error) => return vec![look("services", Finding::Problem, error)],
    };
    let Ok(looks) = timeout(PATIENCE, services.probe()).await else {
        return vec![look("services", Finding::Problem, "no answer within 5 s")];
    };
    let shown = |one: ServiceLook| match one.result {
        Ok(said) => look(&one.name, Finding::Ok, said),
        Err(error) => look(&one.name, Finding::Problem, format!("{error}: {}", one.on_failure.words())),
    };
    let ocr = &config.enrichment.ocr;
    let missing = (ocr.enabled && ocr.program().is_none()).then(|| {
        let detail = format!("{} is not installed: text in pictures is not read", ocr.command.display());
        look("ocr", Finding::Note, detail)
    });
    looks.into_iter().map(shown).chain(missing).collect()
}

async fn ports(config: &Config) -> Vec<Look> {
    let mut addresses = Vec::new();
    if let (true, Some(address)) = (config.milter.enabled, config.milter.listen.to_string().strip_prefix("inet:")) {
        addresses.push(("milter", address.to_owned()));
    }
    addresses.extend(config.relay.listen.iter().map(|address| ("relay", address.to_string())));
    if config.http.enabled {
        addresses.push(("http", config.http.listen.to_string()));
    }
    let mut looks = Vec::new();
    for (what, address) in addresses {
        looks.push(match tokio::net::TcpListener::bind(&address).await {
            Ok(_) => look(what, Finding::Note, format!("{address} is free: the gateway is not running")),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                look(what, Finding::Ok, format!("{address} is taken (by the gateway, if it is running)"))
            }
            Err(error) => look(what, Finding::Problem, format!("{address} cannot be listened on: {error}")),
        });
    }
    looks
}

async fn next_hops(config: &Config) -> Vec<Look> {
    let mut looks = Vec::new();
    for hop in &config.next_hop.hops {
        let what = format!("next hop {}", hop.name);
        looks.push(match timeout(PATIENCE, greeting(&hop.address)).await {
            Ok(Ok(offers)) => look(&what, Finding::Ok, format!("{} offers {}", hop.address, offers.join(", "))),
            Ok(Err(error)) => look(
                &what,
                Finding::Problem,
                format!("{}: {error}: mail is deferred (451) until it answers", hop.address),
            ),
            Err(_) => look(&what, Finding::Problem, format!("{}: no greeting within 5 s", hop.address)),
        });
    }
    looks
}

/// What a server offers after EHLO.
async fn greeting(address: &str) -> std::io::Result<Vec<String>> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    reply(&mut stream).await?;
    stream.write_all(b"EHLO doctor.mailweir.localdomain\r\n").await?;
    let lines = reply(&mut stream).await?;
    stream.write_all(b"QUIT\r\n").await?;
    Ok(lines.into_iter().skip(1).collect())
}

/// The texts of one reply.
async fn reply(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<String>> {
    let mut texts = Vec::new();
    while texts.len() < LINES {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if !line.starts_with('2') {
            return Err(std::io::Error::other(format!("it answered {}", plain(line.trim(), 120))));
        }
        texts.push(line.get(4..).unwrap_or_default().trim().to_owned());
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(texts);
        }
    }
    Err(std::io::Error::other("its reply has no end"))
}

/// What Postfix on this machine is set to, as far as it concerns us.
fn postfix(config: &Config, file: &Path) -> Vec<Look> {
    let Ok(text) = std::fs::read_to_string(file) else { return Vec::new() };
    let settings = main_cf(&text);
    let get = |name: &str| settings.iter().rev().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str());
    let mut looks = Vec::new();
    let asks = config.milter.listen.to_string();
    if get("smtpd_milters").contains(asks.trim_start_matches("inet:")) {
        looks.push(look("postfix", Finding::Ok, format!("smtpd_milters asks {asks}")));
        let default = get("milter_default_action");
        if !matches!(default, "" | "tempfail" | "quarantine") {
            let mend = "set milter_default_action=tempfail";
            looks.push(look(
                "postfix",
                Finding::Problem,
                format!("milter_default_action={default}: mail passes unjudged when the gateway is down; {mend}"),
            ));
        }
    } else {
        looks.push(look("postfix", Finding::Note, format!("smtpd_milters does not ask {asks} (see deploy/postfix)")));
    }
    if get("smtpd_forbid_bare_newline").is_empty() {
        looks.push(look(
            "postfix",
            Finding::Note,
            "smtpd_forbid_bare_newline is not set: set it to normalize or reject where mail comes in",
        ));
    }
    looks
}

/// `name = value` lines, continued where the next begins with white space (postconf(5)).
fn main_cf(text: &str) -> Vec<(String, String)> {
    let mut settings: Vec<(String, String)> = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty()) {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = settings.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once('=') {
            settings.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postfix_settings() {
        let text = "# c\nsmtpd_milters =\n  inet:127.0.0.1:8893\nmilter_default_action = accept\n\n#x = y\n";
        assert_eq!(main_cf(text)[0], ("smtpd_milters".into(), " inet:127.0.0.1:8893".into()));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let looks = postfix(&Config::default(), file.path());
        let found: Vec<Finding> = looks.iter().map(|look| look.finding).collect();
        assert_eq!(found, [Finding::Ok, Finding::Problem, Finding::Note], "{looks:?}");
    }
}
