//! Why the door could not be opened.

use std::io;
use std::path::PathBuf;

use super::Endpoint;

/// The door could not be opened. Says what was attempted; the cause is the source.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on: taken, not ours, or not permitted.
    #[error("cannot listen on {endpoint}")]
    Listen {
        /// Where.
        endpoint: Endpoint,
        /// Why not.
        source: io::Error,
    },
    /// Somebody answers on the socket file: another gateway, most likely.
    #[error("cannot listen on unix:{}: another process does", .0.display())]
    InUse(PathBuf),
    /// Something else stands where the socket file should be.
    #[error("cannot listen on unix:{}: there is a file of another kind", .0.display())]
    NotASocket(PathBuf),
    /// The mode is no octal number of permissions.
    #[error("socket_mode = \"{0}\" is no mode: write it in octal, such as 0660")]
    Mode(String),
    /// A user or group that is not in the system's files.
    #[error("{setting} = \"{name}\": no such name in {file}; a number works as well")]
    NoSuchName {
        /// The setting.
        setting: &'static str,
        /// What it says.
        name: String,
        /// Where it was looked up.
        file: &'static str,
    },
    /// Mode or ownership could not be set.
    #[error("cannot set mode, owner and group of unix:{}", path.display())]
    Permissions {
        /// The socket file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}
