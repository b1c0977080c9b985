//! `mailweir dev mock-services`

use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::cli::{Common, DevCommand};
use crate::app::mock_services::{Fault, Mock, Service};
use crate::app::terminal::{Terminal, Tone};

/// Runs the command until it is interrupted.
pub(in crate::app) async fn run(command: &DevCommand, common: &Common) -> anyhow::Result<ExitCode> {
    let DevCommand::MockServices { fault, port } = command;
    let terminal = Terminal::new(common.colour);
    let start = async |service, above: u16| {
        let port = port.saturating_add(above);
        Mock::start(service, port, *fault).await.with_context(|| format!("port {port}"))
    };
    let clamd = start(Service::Clamd, 0).await?;
    let http = start(Service::Http, 1).await?;
    let dns = start(Service::Dnsbl, 2).await?;
    let bootstrap = std::env::temp_dir().join(format!("mailweir-mock-rdap-{}.json", http.address().port()));
    let places = serde_json::json!({"services": [[["com", "net", "org", "example", "test"], [format!("http://{}/", http.address())]]]});
    std::fs::write(&bootstrap, places.to_string()).with_context(|| bootstrap.display().to_string())?;
    if *fault != Fault::None {
        terminal.line(&terminal.toned(Tone::Warning, &format!("# broken: {fault:?}")))?;
    }
    terminal.line(&settings(&clamd, &http, &dns, &bootstrap.display().to_string()))?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    std::fs::remove_file(&bootstrap)?;
    Ok(ExitCode::SUCCESS)
}

/// What lets the gateway ask them.
fn settings(clamd: &Mock, http: &Mock, dns: &Mock, bootstrap: &str) -> String {
    let (clamd, http, dns) = (clamd.address(), http.address(), dns.address());
    format!(
        r#"[enrichment]
allow_networks = ["127.0.0.0/8"] # the mock registries
[enrichment.sender_auth]
resolvers = ["{dns}"] # knows the block lists and nothing else
[enrichment.clamd]
enabled = true
address = "inet:{clamd}"
[enrichment.block_lists]
enabled = true
zones = [{{ name = "ip.mock", of = "addresses" }}, {{ name = "domain.mock", of = "domains" }}]
[enrichment.url_service]
enabled = true
url = "http://{http}/v1/url"
[enrichment.text_service]
enabled = true
url = "http://{http}/v1/analyse" # or dialect = "chat", a model, and /v1/chat/completions
[enrichment.rdap]
enabled = true
bootstrap_file = "{bootstrap}""#
    )
}
