//! The built program itself: its own ports, its own data folder, a generated configuration, killed on drop.
//!
//! Whatever waits for the program does so off the test's thread: the sinks and clients of a test live on that thread.
#![allow(clippy::disallowed_methods)] // Starts the program under test; nothing here comes from mail.

use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long the program may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway that may or may not run at the moment.
pub struct Gateway {
    /// Where MTAs ask the milter door.
    pub milter: SocketAddr,
    /// Where the relay takes mail.
    pub relay: SocketAddr,
    folder: TempDir,
    child: Mutex<Option<Child>>,
}

/// What one of the program's commands did.
#[derive(Debug)]
pub struct Ran {
    pub ok: bool,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output, one JSON value a line.
    pub fn json(&self) -> Vec<serde_json::Value> {
        let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{self:?}"));
        self.text().lines().map(line).collect()
    }
}

impl Gateway {
    /// Writes the configuration; nothing runs yet. `settings` is TOML laid over the tests' own.
    pub fn prepare(next_hop: SocketAddr, settings: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("mailweir-gateway-").tempdir().unwrap();
        let (milter, relay) = (free_port(), free_port());
        let gateway = Self { milter, relay, folder, child: Mutex::new(None) };
        gateway.configure(next_hop, settings);
        gateway
    }

    /// Writes the configuration anew; a running gateway reads it when told so by [`Self::hang_up`], or sees the change.
    pub fn configure(&self, next_hop: SocketAddr, settings: &str) {
        let data = self.data();
        let base = format!(
            "data = \"{}\"\nhost_name = \"gw.example.com\"\n[milter]\nlisten = \"inet:{}\"\n[relay]\nlisten = [\"{}\"]\n\
             xforward_from = [\"127.0.0.0/8\"]\n[relay.tls]\nenabled = false\n[http]\nenabled = false\n\
             [enrichment.sender_auth]\nenabled = false\n[[next_hop.hops]]\nname = \"mta\"\naddress = \"{next_hop}\"\n",
            data.display(),
            self.milter,
            self.relay,
        );
        let mut table: toml::Table = toml::from_str(&base).unwrap();
        lay_over(&mut table, toml::from_str(settings).unwrap());
        fs::write(self.file(), toml::to_string(&table).unwrap()).unwrap();
    }

    /// Prepares and starts.
    pub async fn start_with(next_hop: SocketAddr, settings: &str) -> Self {
        let gateway = Self::prepare(next_hop, settings);
        gateway.start().await;
        gateway
    }

    /// Starts the program and waits until both doors are open.
    pub async fn start(&self) {
        let log = || OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let child = program(&self.file()).arg("serve").stdout(log()).stderr(log()).spawn().unwrap();
        *self.child.lock().unwrap() = Some(child);
        let until = tokio::time::Instant::now() + PATIENCE;
        for door in [self.milter, self.relay] {
            while TcpStream::connect(door).is_err() {
                let ended = self.child.lock().unwrap().as_mut().unwrap().try_wait().unwrap();
                assert!(ended.is_none(), "the gateway ended by itself ({ended:?}):\n{}", self.log());
                assert!(tokio::time::Instant::now() < until, "the gateway does not listen:\n{}", self.log());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Starts `mailweir worker` in the gateway's place; it has no doors to wait for.
    pub fn start_worker(&self) {
        let log = || OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let child = program(&self.file()).arg("worker").stdout(log()).stderr(log()).spawn().unwrap();
        *self.child.lock().unwrap() = Some(child);
    }

    /// `kill -9`: nothing is finished, nothing is said.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap().take().expect("the gateway runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(&self) -> ExitStatus {
        let mut child = self.child.lock().unwrap().take().expect("the gateway runs");
        signal(&child, Signal::TERM);
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if tokio::time::Instant::now() > until {
                child.kill().unwrap();
                panic!("the gateway does not end on SIGTERM:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The process that runs.
    pub fn id(&self) -> u32 {
        self.child.lock().unwrap().as_ref().expect("the gateway runs").id()
    }

    /// SIGHUP: read the configuration anew.
    pub fn hang_up(&self) {
        signal(self.child.lock().unwrap().as_ref().expect("the gateway runs"), Signal::HUP);
    }

    /// Runs one of the program's commands with this gateway's configuration.
    pub async fn command(&self, arguments: &[&str]) -> Ran {
        self.command_with(arguments, &[]).await
    }

    /// The same, with variables of the environment over the configuration.
    pub async fn command_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        let mut command = program(&self.file());
        command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null());
        let run = move || command.output().unwrap();
        let Output { status, stdout, stderr } = tokio::task::spawn_blocking(run).await.unwrap();
        Ran { ok: status.success(), stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() }
    }

    /// What the gateway said and logged so far, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The folder of its data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its configuration.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("mailweir.toml")
    }
}

/// Waits half a minute at most for something to be so.
pub async fn until(what: &str, gateway: &Gateway, mut is: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not come to pass: {what}\n{}", gateway.log());
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            println!("the gateway's log:\n{}", self.log());
        }
    }
}

fn program(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailweir"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MAILWEIR")) {
        command.env_remove(name);
    }
    command.arg("--config").arg(config);
    command
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
}

/// Tables are merged, everything else replaced.
pub fn lay_over(table: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => lay_over(below, above),
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

/// A port that stays free while nothing listens on it: outside the range from which the system takes ports for connections.
pub fn free_port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 15_000;
    const SPAN: u16 = 15_000;
    // Test processes that run side by side begin at different places.
    let start = (std::process::id() % 97) as u16 * 150;
    for _ in 0..SPAN {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % SPAN;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free");
}

/// A file that only its owner may read, as secrets are.
pub fn is_private(file: &File) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().unwrap().permissions().mode() & 0o777 == 0o600
}
