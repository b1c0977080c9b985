//! Why the HTTP side could not be set up. What a request is told is in `problem`.

/// Why the HTTP side could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The token can be guessed, or cannot be sent in a header.
    #[error("the admin token must be at least {0} printable ASCII characters without spaces")]
    Token(usize),
    /// A setting that must not be zero is.
    #[error("http.{0} must be at least 1")]
    Zero(&'static str),
    /// A metric could not be declared.
    #[error("cannot declare the metrics of the HTTP side")]
    Metrics(#[from] prometheus::Error),
}
