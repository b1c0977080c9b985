//! The ways in which a service breaks.

use clap::ValueEnum;

/// How a service is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// Not at all.
    None,
    /// Nobody listens.
    Refuse,
    /// It takes the question and never answers.
    Hang,
    /// It answers one byte a second.
    Drip,
    /// It takes the question and resets the connection.
    Reset,
    /// It answers with something that is no answer.
    Garbage,
    /// It answers and does not stop.
    Huge,
    /// It says that it has an error: HTTP 500, clamd ERROR, DNS SERVFAIL.
    #[value(name = "5xx")]
    ServerError,
    /// It says that it is asked too much: HTTP 429 with Retry-After, clamd ERROR, a refusing block list.
    #[value(name = "429")]
    TooMany,
}

impl Fault {
    /// Every way to be broken.
    pub const BROKEN: [Self; 8] = [
        Self::Refuse,
        Self::Hang,
        Self::Drip,
        Self::Reset,
        Self::Garbage,
        Self::Huge,
        Self::ServerError,
        Self::TooMany,
    ];
}
