//! Where a milter listens, in the words of MTAs: `inet:HOST:PORT` or `unix:PATH`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A place to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// Host (name or address, an IPv6 one in brackets) and port; port 0 takes a free one.
    Inet(String),
    /// Absolute or relative path of a socket file.
    Unix(PathBuf),
}

/// A text that names no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a place to listen on: write inet:HOST:PORT (inet:127.0.0.1:8893) or unix:PATH")]
pub struct InvalidEndpoint(String);

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = || InvalidEndpoint(text.to_owned());
        match text.split_once(':').ok_or_else(invalid)? {
            ("inet" | "inet6", address) => {
                let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
                // An IPv6 address without brackets would lose its last group to the port.
                let bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
                if host.is_empty() || bare_ipv6 || port.parse::<u16>().is_err() {
                    return Err(invalid());
                }
                Ok(Self::Inet(address.to_owned()))
            }
            ("unix" | "local", path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => write!(f, "inet:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in ["inet:127.0.0.1:8893", "inet:[::1]:0", "inet:localhost:1", "unix:/run/a:b.sock"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in ["", "8893", "inet:8893", "inet::1", "inet:::1:25", "inet:a:99999", "unix:", "tcp:a:1"] {
            assert_eq!(text.parse::<Endpoint>(), Err(InvalidEndpoint(text.to_owned())));
        }
    }
}
