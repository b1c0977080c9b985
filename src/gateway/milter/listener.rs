//! The listening socket, and the two kinds of connection it gives.
//!
//! A unix socket is made under another name, given its mode, owner and group, and then moved into place: it never stands there
//! with the wrong ones. What is left of a process that died is replaced, a socket on which somebody answers is not.
//! Names of users and groups are looked up in `/etc/passwd` and `/etc/group`; those of a directory service need numbers.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::{BindError, Config, Endpoint};

/// A bound socket. Dropping it closes it and removes its socket file.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Inet(TcpListener),
    Unix { listener: UnixListener, file: SocketFile },
}

impl Listener {
    /// Binds what `config.listen` says. Must be called within a tokio runtime.
    pub async fn bind(config: &Config) -> Result<Self, BindError> {
        match &config.listen {
            Endpoint::Inet(address) => {
                let listener = TcpListener::bind(address.as_str()).await;
                let listener = listener.map_err(|source| listen(config, source))?;
                Ok(Self(Kind::Inet(listener)))
            }
            Endpoint::Unix(path) => bind_unix(path, config),
        }
    }

    /// The address it really listens on; `None` for a unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Inet(listener) => listener.local_addr().ok(),
            Kind::Unix { .. } => None,
        }
    }

    /// Where it really listens, in the words of MTAs.
    pub fn endpoint(&self) -> Endpoint {
        match &self.0 {
            Kind::Inet(listener) => {
                Endpoint::Inet(listener.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string()))
            }
            Kind::Unix { file, .. } => Endpoint::Unix(file.path.clone()),
        }
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        match &self.0 {
            Kind::Inet(listener) => {
                let (stream, _) = listener.accept().await?;
                // Without it, a reply could wait 40 ms for the acknowledgement of the one before. Only speed is lost.
                let _ = stream.set_nodelay(true);
                Ok(Socket::Inet(stream))
            }
            Kind::Unix { listener, .. } => Ok(Socket::Unix(listener.accept().await?.0)),
        }
    }
}

fn listen(config: &Config, source: io::Error) -> BindError {
    BindError::Listen { endpoint: config.listen.clone(), source }
}

/// A socket file of ours, removed on drop unless another one has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind_unix(path: &Path, config: &Config) -> Result<Listener, BindError> {
    let mode = u32::from_str_radix(&config.socket_mode, 8).ok().filter(|mode| *mode <= 0o777);
    let mode = mode.ok_or_else(|| BindError::Mode(config.socket_mode.clone()))?;
    let owner = number(&config.socket_owner, "socket_owner", "/etc/passwd")?;
    let group = number(&config.socket_group, "socket_group", "/etc/group")?;
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(listen(config, error)),
            Ok(_) => return Err(BindError::InUse(path.to_owned())),
        }
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let unready = path.with_file_name(name);
    let _ = fs::remove_file(&unready);
    let listener = UnixListener::bind(&unready).map_err(|source| listen(config, source))?;
    let put = || -> io::Result<(u64, u64)> {
        if owner.is_some() || group.is_some() {
            chown(&unready, owner, group)?;
        }
        fs::set_permissions(&unready, fs::Permissions::from_mode(mode))?;
        let metadata = fs::symlink_metadata(&unready)?;
        fs::rename(&unready, path)?;
        Ok((metadata.dev(), metadata.ino()))
    };
    match put() {
        Ok(identity) => Ok(Listener(Kind::Unix { listener, file: SocketFile { path: path.to_owned(), identity } })),
        Err(source) => {
            let _ = fs::remove_file(&unready);
            Err(BindError::Permissions { path: path.to_owned(), source })
        }
    }
}

/// The number of a user or group: given as such, or found by its name in the third field of `file`.
fn number(name: &str, setting: &'static str, file: &'static str) -> Result<Option<u32>, BindError> {
    if name.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let entries = fs::read_to_string(file).unwrap_or_default();
    let found = entries.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    found.map(Some).ok_or_else(|| BindError::NoSuchName { setting, name: name.to_owned(), file })
}

/// One connection.
#[derive(Debug)]
pub(super) enum Socket {
    Inet(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Waits for bytes, without a buffer for them.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Inet(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
        }
    }

    /// Appends what has come to the buffer, up to its capacity; 0: the peer has closed.
    pub(super) async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Inet(stream) => stream.read_buf(buffer).await,
            Self::Unix(stream) => stream.read_buf(buffer).await,
        }
    }

    /// Writes all of it.
    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Inet(stream) => stream.write_all(bytes).await,
            Self::Unix(stream) => stream.write_all(bytes).await,
        }
    }
}
