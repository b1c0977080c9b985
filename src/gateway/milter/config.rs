//! Settings of the milter door.

use serde::{Deserialize, Serialize};

use super::Endpoint;
use crate::protocol::milter::Limits;

/// The milter door: where it listens, how long it waits, what it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether the door is open at all.
    pub enabled: bool,
    /// Where MTAs connect: `inet:HOST:PORT` or `unix:PATH`. The protocol has no authentication: whoever can connect is believed.
    pub listen: Endpoint,
    /// Permissions of a unix socket, octal. Those who may write to it may connect.
    pub socket_mode: String,
    /// Owner of a unix socket, name or number; empty leaves it to the user who started us.
    pub socket_owner: String,
    /// Group of a unix socket, name or number (`postfix`, so that Postfix can connect); empty leaves it.
    pub socket_group: String,
    /// Most connections at a time. Those beyond are closed at once, and the MTA does what its own default action says.
    pub connections: usize,
    /// How long a peer may take over one frame from its first byte to its last, over its first words, and over taking a
    /// reply, in seconds. Slow bytes do not make it longer.
    pub command_seconds: u64,
    /// How long header and body of one message may take to come, altogether, in seconds.
    pub content_seconds: u64,
    /// How long a connection may say nothing between messages or between the commands of an envelope, in seconds. Longer than
    /// an SMTP client may think: RFC 5321 gives it 5 minutes a command.
    pub idle_seconds: u64,
    /// How often the MTA is told that a verdict is still being found, in seconds; it would stop waiting after 30 to 300.
    pub progress_seconds: u64,
    /// How long a verdict may take, in seconds; then the sender is asked to try again (451). Below the MTA's 300.
    pub verdict_seconds: u64,
    /// How long to wait before taking connections again when the system has no resources for one (file handles, memory), in
    /// milliseconds.
    pub accept_backoff_ms: u64,
    /// Bounds on what a peer may send.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: Endpoint::Inet("127.0.0.1:8893".to_owned()),
            socket_mode: "0660".to_owned(),
            socket_owner: String::new(),
            socket_group: String::new(),
            connections: 1_000,
            command_seconds: 30,
            content_seconds: 600,
            idle_seconds: 3_600,
            progress_seconds: 10,
            verdict_seconds: 250,
            accept_backoff_ms: 100,
            limits: Limits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_from_toml() {
        let text = "listen = \"unix:/run/mailweir/milter.sock\"\ncommand_seconds = 5\n[limits]\nmessage_bytes = 1000\n";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.listen, Endpoint::Unix("/run/mailweir/milter.sock".into()));
        assert_eq!((config.command_seconds, config.limits.message_bytes), (5, 1_000));
        assert_eq!(config.idle_seconds, Config::default().idle_seconds);
        for wrong in ["listen = \"tcp:1\"", "lissten = \"inet:a:1\"", "[limits]\nmessage = 1"] {
            assert!(toml::from_str::<Config>(wrong).is_err(), "{wrong}");
        }
        let back: Config = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(back, config);
    }
}
