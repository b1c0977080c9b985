//! Why the HTTP side could not be set up. What a request is told is in `problem`.

use crate::deferred::QueueError;
use crate::enforcement::signing::KeyFileError;

/// Why the HTTP side could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The token can be guessed, or cannot be sent in a header.
    #[error("the admin token must be at least {0} printable ASCII characters without spaces")]
    Token(usize),
    /// A setting that must not be zero is.
    #[error("http.{0} 0: must be at least 1")]
    Zero(&'static str),
    /// A line of `http.callers` that names nobody.
    #[error("http.callers: `{0}` is no id of a key: letters, digits and dashes, or *")]
    Caller(String),
    /// The keys of those who sign cannot be used.
    #[error("http.callers: signatures cannot be verified")]
    Keys(#[from] KeyFileError),
    /// Where used nonces are remembered cannot be used.
    #[error("http.callers: signatures cannot be verified")]
    Nonces(#[from] QueueError),
    /// A metric could not be declared.
    #[error("cannot declare the metrics of the HTTP side")]
    Metrics(#[from] prometheus::Error),
}
