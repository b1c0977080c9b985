//! Where a message comes from: the client's connection, as the door that took it knows it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Which door a message came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// An MTA asked by the milter protocol.
    Milter,
    /// The gateway's own SMTP relay.
    Relay,
    /// `mailweir scan`: a file, no conversation.
    Scan,
}

impl Door {
    /// The word used in records, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Milter => "milter",
            Self::Relay => "relay",
            Self::Scan => "scan",
        }
    }
}

/// TLS between the client and the door (or the MTA that asked the door).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsSession {
    /// Such as `TLSv1.3`.
    pub version: String,
    /// Cipher suite by the name its library uses.
    pub cipher: String,
}

/// The client's connection. What is not known is `None`: a milter may hide it, a file never had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Which door took the message.
    pub door: Door,
    /// Address of the SMTP client; `None` for a local or unknown one.
    pub client_ip: Option<IpAddr>,
    /// Port of the SMTP client.
    pub client_port: Option<u16>,
    /// Name of the client, verified by the MTA (forward-confirmed reverse name). `None`: not known or not confirmed.
    pub client_name: Option<String>,
    /// What the client said after HELO, EHLO or LHLO, unverified.
    pub helo: Option<String>,
    /// Name of the host that received the message (`j` macro, or our own host name).
    pub receiver: Option<String>,
    /// TLS of the client's connection; `None`: plain text.
    pub tls: Option<TlsSession>,
    /// Login name when the client authenticated itself (`{auth_authen}`, XCLIENT LOGIN).
    pub login: Option<String>,
    /// Queue id at the MTA that asked (`i` macro), when it has given one.
    pub queue_id: Option<String>,
    /// What binds together the log lines of the connection, of its messages, and of everything that follows from these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
}

impl Connection {
    /// A connection of which only the door is known.
    pub fn unknown(door: Door) -> Self {
        Self {
            door,
            client_ip: None,
            client_port: None,
            client_name: None,
            helo: None,
            receiver: None,
            tls: None,
            login: None,
            queue_id: None,
            correlation: None,
        }
    }
}
