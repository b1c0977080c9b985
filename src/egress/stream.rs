//! Plain TCP and unix sockets to third parties.
//!
//! A conversation from connecting to its last byte is one call of its dependency, under that one deadline. Names are resolved
//! here, and only addresses that passed the fence are connected to.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};

use super::http::allowed;
use super::{Dependency, Failure, Fence, Names, Reach, Repeat};

/// How long an address has before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

/// Where a service listens: `inet:HOST:PORT` or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// TCP.
    Inet {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

/// A text that is no place where a service can listen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address of a service: write inet:HOST:PORT or unix:PATH")]
pub struct InvalidTarget(String);

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let invalid = || InvalidTarget(without_secrets(text));
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(invalid()) } else { Ok(Self::Unix(path.into())) };
        }
        let (host, port) = text.strip_prefix("inet:").and_then(|rest| rest.rsplit_once(':')).ok_or_else(invalid)?;
        let host = host.trim_matches(['[', ']']);
        let port = port.parse().map_err(|_| invalid())?;
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if host.is_empty() || !host.chars().all(named) {
            Err(invalid())
        } else {
            Ok(Self::Inet { host: host.to_owned(), port })
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet { host, port } if host.contains(':') => write!(f, "inet:[{host}]:{port}"),
            Self::Inet { host, port } => write!(f, "inet:{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address fit to be shown although nothing can be made of it: without user and password, query and fragment.
pub fn without_secrets(address: &str) -> String {
    // Whatever a password is made of, it is before the last @.
    let (who, place) = address.rsplit_once('@').map_or((None, address), |(who, place)| (Some(who), place));
    let end = place.find(['?', '#']).unwrap_or(place.len());
    let scheme = who.map(|who| who.find("://").map_or("***@".to_owned(), |at| format!("{}***@", &who[..at + 3])));
    format!("{}{}", scheme.unwrap_or_default(), &place[..end])
}

/// TCP or a unix socket to one dependency, at a place that the operator named.
#[derive(Clone)]
pub struct StreamClient {
    dependency: Arc<Dependency>,
    target: Target,
    names: Names,
    fence: Fence,
}

impl StreamClient {
    /// A client; connects only when called.
    pub fn new(dependency: Arc<Dependency>, target: Target, names: Names, fence: Fence) -> Self {
        Self { dependency, target, names, fence }
    }

    /// The dependency that is asked.
    pub fn dependency(&self) -> &Arc<Dependency> {
        &self.dependency
    }

    /// Connects and talks.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn call<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        repeat: Repeat,
        until: Option<Instant>,
        talk: impl Fn(Stream) -> F,
    ) -> Result<T, Failure> {
        let talk = &talk;
        self.dependency.call(repeat, until, |_| async move { talk(self.connect().await?).await }).await
    }

    async fn connect(&self) -> Result<Stream, Failure> {
        let limit = self.dependency.config().max_answer_bytes;
        let (host, port) = match &self.target {
            Target::Unix(path) => {
                let inner = UnixStream::connect(path).await.map_err(Failure::unreachable)?;
                return Ok(Stream { inner: Box::new(inner), limit });
            }
            Target::Inet { host, port } => (host, *port),
        };
        let addresses = allowed(&self.names, &self.fence, host, Reach::Configured).await?;
        let inner =
            race(addresses, |address| TcpStream::connect((address, port))).await.map_err(Failure::unreachable)?;
        // Without it small frames wait for acknowledgements.
        let _ = inner.set_nodelay(true);
        Ok(Stream { inner: Box::new(inner), limit })
    }
}

/// The first connection that comes about (RFC 8305, 5): the next address is tried when the one before has failed, or has said
/// nothing for a moment; those that are under way go on. An address that swallows everything costs that moment.
async fn race<A, T, F: Future<Output = io::Result<T>>>(
    addresses: impl IntoIterator<Item = A>,
    connect: impl Fn(A) -> F,
) -> io::Result<T> {
    let mut addresses = addresses.into_iter().fuse();
    let mut trying = FuturesUnordered::new();
    let mut last = io::ErrorKind::NotFound.into();
    loop {
        let more = addresses.next().map(|address| trying.push(connect(address))).is_some();
        match timeout(if more { STAGGER } else { Duration::MAX }, trying.next()).await {
            Ok(Some(Ok(connection))) => return Ok(connection),
            Ok(Some(Err(error))) => last = error,
            // Nothing is under way, and there is no other address.
            Ok(None) => return Err(last),
            Err(_) => {}
        }
    }
}

trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

/// A connection; what is read of it is bounded.
pub struct Stream {
    inner: Box<dyn ReadWrite>,
    limit: usize,
}

impl Stream {
    /// Sends bytes.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] when the peer is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.inner.write_all(bytes).await.map_err(Failure::unreachable)
    }

    /// Pushes out what was sent.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn flush(&mut self) -> Result<(), Failure> {
        self.inner.flush().await.map_err(Failure::unreachable)
    }

    /// Reads until a byte comes, which is not part of the answer.
    ///
    /// # Errors
    /// [`Failure::TooLarge`]; [`Failure::Unreachable`] when the peer closes before.
    pub async fn receive_until(&mut self, end: u8) -> Result<Vec<u8>, Failure> {
        let mut answer = Vec::new();
        let mut chunk = [0; 1_024];
        loop {
            let read = self.inner.read(&mut chunk).await.map_err(Failure::unreachable)?;
            if read == 0 {
                return Err(Failure::unreachable(io::ErrorKind::UnexpectedEof.into()));
            }
            let got = &chunk[..read];
            let done = memchr::memchr(end, got);
            answer.extend_from_slice(&got[..done.unwrap_or(read)]);
            if answer.len() > self.limit {
                return Err(Failure::TooLarge { limit: self.limit });
            }
            if done.is_some() {
                return Ok(answer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_black_hole_costs_a_moment_and_every_address_has_its_turn() {
        let began = Instant::now();
        // An address that swallows, one that refuses, one that answers after a second.
        let connect = async |address: u32| match address {
            0 => std::future::pending().await,
            1 => Err(io::ErrorKind::ConnectionRefused.into()),
            slow => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(slow)
            }
        };
        assert_eq!(race([0, 1, 2], connect).await.unwrap(), 2);
        assert_eq!(began.elapsed(), STAGGER + Duration::from_secs(1));
        assert_eq!(race([2, 0], connect).await.unwrap(), 2, "who is slow goes on");
        assert_eq!(race([1, 1], connect).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(race([], connect).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn addresses_are_shown_without_secrets() {
        for (address, shown) in [
            ("ftp://u:s3?c@r#et@h/x?k=v#f", "ftp://***@h/x"),
            ("u:secret@h", "***@h"),
            ("https://h/?k=v", "https://h/"),
            ("clamd:3310", "clamd:3310"),
            ("", ""),
        ] {
            assert_eq!(without_secrets(address), shown);
        }
        let told = "inet:u:s3cret@h:x".parse::<Target>().unwrap_err().to_string();
        assert!(!told.contains("s3cret"), "{told}");
    }

    #[test]
    fn targets() {
        for text in ["inet:127.0.0.1:3310", "inet:clamd:3310", "inet:[::1]:3310", "unix:/run/clamav/clamd.ctl"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in
            ["", "clamd:3310", "inet:clamd", "inet::3310", "inet:clamd:99999", "inet:cl am:1", "unix:", "tcp:a:1"]
        {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
