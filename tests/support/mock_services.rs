//! `mailweir dev mock-services`: all services that a gateway asks, on private ports, ended on drop.
#![allow(clippy::disallowed_methods)] // Starts the program under test; nothing here comes from mail.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::gateway::free_port;

/// The first of three ports in a row that nobody else was given.
pub fn three_ports() -> u16 {
    loop {
        let [first, second, third] = [free_port().port(), free_port().port(), free_port().port()];
        if (second, third) == (first + 1, first + 2) {
            return first;
        }
    }
}

/// The command while it runs, and the settings that it printed.
pub struct MockServices {
    child: Child,
    /// What turns all of them on.
    pub settings: toml::Table,
}

impl MockServices {
    /// Starts it on three ports, and waits until it has said its settings.
    pub fn start(port: u16, fault: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailweir"));
        command.args(["dev", "mock-services", "--fault", fault, "--port", &port.to_string(), "--colour", "never"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            text += &line;
            text.push('\n');
            // The last setting.
            if line.starts_with("bootstrap_file") {
                break;
            }
        }
        let settings = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        Self { child, settings }
    }

    /// The settings, quick to give up and to try again.
    pub fn quick(&self, text_band: f64) -> String {
        let mut settings = self.settings.clone();
        let call: toml::Table = toml::from_str(
            "deadline_ms = 700\n[breaker]\nconsecutive_failures = 3\nrecovery_seconds = 3\nsuccess_threshold = 1\n[retry]\nattempts = 1\n",
        )
        .unwrap();
        let services = settings["enrichment"].as_table_mut().unwrap();
        for name in ["clamd", "block_lists", "url_service", "text_service", "rdap"] {
            let service = services[name].as_table_mut().unwrap();
            let mut own = toml::Table::new();
            own.insert("call".into(), call.clone().into());
            own.insert("cache_entries".into(), 0.into());
            service.insert("service".into(), own.into());
            service.insert("on_failure".into(), "open".into());
        }
        services["text_service"].as_table_mut().unwrap().insert("risk_from".into(), text_band.into());
        services["sender_auth"].as_table_mut().unwrap().insert("cache_max_seconds".into(), 0.into());
        toml::to_string(&settings).unwrap()
    }
}

impl Drop for MockServices {
    fn drop(&mut self) {
        // It takes its file away with it.
        let _ = kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), Signal::TERM);
        let _ = self.child.wait();
    }
}
