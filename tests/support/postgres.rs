//! A PostgreSQL of its own: a cluster in a temporary folder, a port of its own, ended on drop.
//!
//! The server refuses to run as root: it is started as the user `postgres` then. Where it is not installed, tests are left out
//! by [`available`], except in CI, where that fails.
#![allow(clippy::disallowed_methods)] // Starts PostgreSQL; nothing here comes from mail.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

use super::gateway::free_port;

/// A cluster that may or may not run at the moment.
pub struct Postgres {
    /// Address of its one database, as `store.url` takes it.
    pub url: String,
    port: u16,
    folder: TempDir,
    server: Option<Child>,
}

/// The folder of the newest server's programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    folders.filter(|folder| folder.join("initdb").exists()).max()
}

/// Whether PostgreSQL can be started; if not, says that the test `name` is left out, or, in CI, fails.
pub fn available(name: &str) -> bool {
    if programs().is_some() {
        return true;
    }
    let why = "postgresql is not installed";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{name}: {why}, and in CI nothing is left out");
    println!("left out: {name}: {why}");
    false
}

/// One of the server's programs, as a user whom it accepts.
fn program(name: &str) -> Command {
    let mut command = Command::new(programs().unwrap().join(name));
    if let Some((user, group)) = owner() {
        command.uid(user).gid(group);
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// User and group that the server runs as; `None`: our own.
fn owner() -> Option<(u32, u32)> {
    if !getuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("the package made its user");
    let mut fields = line.split(':').skip(2).map(|id| id.parse().unwrap());
    Some((fields.next().unwrap(), fields.next().unwrap()))
}

impl Postgres {
    /// Makes a cluster and starts it.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("mailweir-postgres-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        if let Some((user, group)) = owner() {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let made = program("initdb")
            .args(["--auth=trust", "--username=weir", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-D"])
            .arg(folder.path().join("data"))
            .status()
            .unwrap();
        assert!(made.success(), "initdb: {made}");
        let port = free_port().port();
        let url = format!("postgres://weir@127.0.0.1:{port}/postgres");
        let mut postgres = Self { url, port, folder, server: None };
        postgres.start_again().await;
        postgres
    }

    /// Starts the server and waits until it answers.
    pub async fn start_again(&mut self) {
        let server = program("postgres")
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-k"])
            .arg(self.folder.path())
            .stderr(fs::File::create(self.folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        self.server = Some(server);
        for _ in 0..500 {
            let mut ask = program("pg_isready");
            ask.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            if ask.status().unwrap().success() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        panic!("postgresql does not answer:\n{log}");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of the database by another way.
    pub fn url_at(&self, place: std::net::SocketAddr) -> String {
        format!("postgres://weir@{place}/postgres")
    }

    /// Ends the server as a crash does: nothing is finished or written, and it has to recover at its next start.
    pub fn kill(&mut self) {
        self.end(Signal::QUIT);
    }

    /// Ends the server; connections are cut.
    pub fn stop(&mut self) {
        // Fast shutdown.
        self.end(Signal::INT);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut server) = self.server.take() {
            let _ = kill_process(Pid::from_raw(server.id() as i32).unwrap(), signal);
            let _ = server.wait();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}
