//! Configuration, wiring, commands. Imports all rooms; none imports it. Only here are long-lived tasks spawned.

mod alerts;
mod check;
mod cli;
mod commands;
pub mod config;
mod data;
mod load;
pub mod mock_services;
#[cfg(feature = "otlp")]
mod otlp;
mod reinject;
mod reload;
mod rules;
mod secrets;
mod serve;
pub mod shelf;
mod spans;
mod standing;
mod telemetry;
mod terminal;
mod watched_file;
mod work;
mod worker;
mod yara;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use config::ConfigError;

/// Exit code of a wrong command line or configuration; the command line's own errors have it too.
const USAGE: u8 = 2;

/// Parses the command line and does what it says; gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // One provider for all TLS; a second call in one process would be refused, and is harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::anyhow!("cannot start: {error}")),
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { command, common } = cli;
    let loaded = config::load(common.config.as_deref(), common.data.as_deref(), std::env::vars());
    if let Some(Command::Config(command)) = &command {
        return commands::config::run(command, loaded, &common);
    }
    let loaded = loaded?;
    match command.unwrap_or(Command::Serve) {
        Command::Serve => Box::pin(serve::serve(loaded, &common)).await.map(|()| ExitCode::SUCCESS),
        Command::Worker => Box::pin(worker::run(loaded, &common)).await.map(|()| ExitCode::SUCCESS),
        Command::Queue(command) => commands::queue::run(&command, &loaded.config, &common).await,
        Command::Scan(options) => commands::scan::run(&options, &loaded.config, &common).await,
        Command::Explain(options) => commands::explain::run(&options, &loaded.config, &common).await,
        Command::Quarantine(command) => commands::quarantine::run(&command, &loaded.config, &common).await,
        Command::Rules(command) => commands::rules::run(&command, &loaded.config, &common),
        Command::Replay(options) => commands::replay::run(&options, &common).await,
        Command::Doctor(options) => commands::doctor::run(&options, &loaded, &common).await,
        Command::Alert(command) => commands::alert::run(&command, &loaded.config, &common).await,
        Command::Cache(command) => commands::cache::run(&command, &loaded.config, &common).await,
        Command::Keys(command) => commands::keys::run(&command, &loaded.config, &common),
        Command::Log(command) => commands::log::run(&command, &loaded.config, &common).await,
        Command::Bench(command) => Box::pin(load::bench::run(&command, &loaded.config, &common)).await,
        Command::Simulate(options) => Box::pin(load::simulate::run(&options, &loaded.config, &common)).await,
        Command::Dev(command) => commands::dev::run(&command, &common).await,
        Command::Config(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Says what went wrong, with its causes. Output that nobody reads any more is no failure.
fn fail(error: &anyhow::Error) -> ExitCode {
    let gone = error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe);
    if gone {
        return ExitCode::SUCCESS;
    }
    // Nothing is left to do if standard error is gone too.
    let _ = writeln!(std::io::stderr(), "mailweir: {error:#}");
    let usage = error.is::<ConfigError>() || error.is::<load::Refused>();
    if usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}
