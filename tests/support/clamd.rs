//! A clamd of its own with a signature of ours, in a temporary folder, killed on drop. Where it is not installed, tests are left
//! out by [`available`], except in CI.
#![allow(clippy::disallowed_methods)] // Starts clamd; nothing here comes from mail.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::gateway::free_port;

const PROGRAM: &str = "/usr/sbin/clamd";
/// What it calls malware: the standard test file, in two halves, so that this file is none.
pub const EICAR: &str = concat!("X5O!P%@AP[4\\PZX54(P^)7CC)7}$", "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*");
/// And what only it calls malware.
pub const SAMPLE: &str = "A sample that only the scanner knows, 7f3a41c9";

/// Whether it can be started; if not, says that the test `name` is left out, or, in CI, fails.
pub fn available(name: &str) -> bool {
    if Path::new(PROGRAM).exists() {
        return true;
    }
    let why = "clamd is not installed (apt-get install clamav-daemon)";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{name}: {why}, and in CI nothing is left out");
    println!("left out: {name}: {why}");
    false
}

/// A server that may or may not run at the moment.
pub struct Clamd {
    /// Where it listens over TCP.
    pub address: SocketAddr,
    server: Option<Child>,
    folder: TempDir,
}

impl Clamd {
    pub async fn start() -> Self {
        let (folder, address) = (tempfile::Builder::new().prefix("mailweir-clamd-").tempdir().unwrap(), free_port());
        let at = folder.path();
        std::fs::create_dir_all(at.join("db")).unwrap();
        // Each text in hexadecimal, wherever it stands in a file of any kind.
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let signatures = format!("Own.Test.Eicar:0:*:{}\nOwn.Test.Sample:0:*:{}\n", hex(EICAR), hex(SAMPLE));
        std::fs::write(at.join("db/own.ndb"), signatures).unwrap();
        let settings = format!(
            "Foreground yes\nDatabaseDirectory {0}/db\nLocalSocket {0}/clamd.sock\nTCPSocket {1}\nTCPAddr 127.0.0.1\n\
             StreamMaxLength 100K\nTemporaryDirectory {0}\nLogFile {0}/log\nConcurrentDatabaseReload no\n",
            at.display(),
            address.port()
        );
        std::fs::write(at.join("clamd.conf"), settings).unwrap();
        let mut clamd = Self { address, server: None, folder };
        clamd.start_again().await;
        clamd
    }

    /// Starts the server and waits until it answers.
    pub async fn start_again(&mut self) {
        let mut command = Command::new(PROGRAM);
        command.arg(format!("--config-file={}/clamd.conf", self.folder.path().display()));
        self.server = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        while tokio::net::TcpStream::connect(self.address).await.is_err() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(tokio::time::Instant::now() < until, "clamd does not listen: {log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The same as `clamd.address` has it, over its unix socket.
    pub fn unix(&self) -> String {
        format!("unix:{}/clamd.sock", self.folder.path().display())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Drop for Clamd {
    fn drop(&mut self) {
        self.kill();
    }
}
