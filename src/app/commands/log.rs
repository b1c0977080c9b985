//! `mailweir log level`: levels of a running gateway's log, by its HTTP side (`/api/v1/logging`).
//!
//! One request, not tried again. Nothing of the configuration is changed, and no token is made: a gateway that never ran has none.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::app::cli::{Common, LogCommand};
use crate::app::config::Config;
use crate::app::data;
use crate::app::terminal::{Terminal, Tone, plain, time};
use crate::egress::{
    self, Answer, CallConfig, Failure, Fence, HttpClient, Names, NamesConfig, Repeat, Request, TlsRoots,
};

/// Time for the answer.
const DEADLINE_MS: u64 = 10_000;
/// Answers that say in words what is wrong.
const PROBLEMS: [u16; 7] = [400, 401, 403, 404, 405, 429, 503];

/// What the gateway says.
#[derive(Debug, serde::Serialize, Deserialize)]
struct State {
    configured: String,
    levels: BTreeMap<String, String>,
    until_ms: Option<i64>,
}

/// Why it was refused (RFC 9457).
#[derive(Debug, Deserialize)]
struct Problem {
    detail: String,
}

/// Runs the command.
pub(in crate::app) async fn run(command: &LogCommand, config: &Config, common: &Common) -> anyhow::Result<ExitCode> {
    let LogCommand::Level { levels, minutes, reset, url, token_file, json } = command;
    let terminal = Terminal::new(common.colour);
    if url.is_none() && !config.http.enabled {
        bail!("http.enabled is false: a running gateway cannot be asked; set log.level and send it SIGHUP");
    }
    let base = url.clone().unwrap_or_else(|| format!("http://{}", reachable(config.http.listen)));
    let base = Url::parse(&base).ok().filter(|base| matches!(base.scheme(), "http" | "https"));
    let url =
        base.and_then(|base| base.join("/api/v1/logging").ok()).context("--url: an http or https URL is needed")?;
    let token_file = token_file.clone().unwrap_or_else(|| data::token_file(config));
    let token = token(&token_file)?;
    let request = match (reset, levels.is_empty()) {
        (true, _) => Request::delete(url.clone()),
        (false, true) => Request::get(url.clone()),
        (false, false) => {
            let levels: BTreeMap<&String, &String> = levels.iter().map(|(room, level)| (room, level)).collect();
            Request::put_json(url.clone(), json!({"levels": levels, "minutes": minutes}).to_string())
        }
    };
    let answer = ask(&url, &request.bearer(&token).answers(&PROBLEMS)).await;
    let answer = answer.with_context(|| format!("no gateway answers at {url}: does it run there?"))?;
    if answer.status >= 300 {
        let said = answer.json::<Problem>().map_or_else(|_| format!("status {}", answer.status), |told| told.detail);
        let said = plain(&said, 500);
        match answer.status {
            401 => bail!("{url}: {said} (the token was read from {})", token_file.display()),
            _ => bail!("{url}: {said}"),
        }
    }
    let state: State = answer.json().with_context(|| format!("{url} is no gateway"))?;
    show(&terminal, &state, *json)?;
    Ok(ExitCode::SUCCESS)
}

fn show(terminal: &Terminal, state: &State, json: bool) -> std::io::Result<()> {
    if json {
        return terminal.json(state);
    }
    terminal.line(&format!("{} {}", terminal.toned(Tone::Quiet, "configured"), plain(&state.configured, 200)))?;
    let Some(until_ms) = state.until_ms else { return Ok(()) };
    for (room, level) in &state.levels {
        let room = terminal.toned(Tone::Strong, &plain(room, 40));
        terminal.line(&format!("{room} {} until {}", plain(level, 20), time(until_ms)))?;
    }
    Ok(())
}

/// Where a gateway that listens there is reached from its own machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn token(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| {
        format!(
            "cannot read the admin token in {}: run this as the gateway's user, or name it by --token-file",
            file.display()
        )
    })?;
    Ok(text.trim().to_owned())
}

async fn ask(url: &Url, request: &Request) -> anyhow::Result<Answer> {
    let registry = prometheus::Registry::new();
    let dependencies = egress::Registry::new(egress::Metrics::new(&registry)?);
    let call = CallConfig { deadline_ms: DEADLINE_MS, ..CallConfig::default() };
    let names = NamesConfig {
        resolvers: Vec::new(),
        query: call.deadline() / 2,
        cache_entries: 1,
        cache_max: Duration::from_secs(1),
    };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let dependency = dependencies.dependency("gateway", &call);
    let roots = TlsRoots::load(None)?;
    let client = HttpClient::new(dependency, Names::new(&names)?, Fence::allowing([]), [host], &roots, 0)?;
    let whole = |answer: Answer| Ok::<_, Failure>(answer);
    Ok(client.call(Repeat::Never, None, request, whole).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_here() {
        for (listen, asked) in
            [("0.0.0.0:8025", "127.0.0.1:8025"), ("[::]:8025", "[::1]:8025"), ("192.0.2.7:80", "192.0.2.7:80")]
        {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
