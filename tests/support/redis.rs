//! A Redis of its own: a server in a temporary folder, a port of its own, killed on drop; as one server, as a cluster of one
//! node or of three, or behind a sentinel, with a replica and without; in the clear and over TLS. Where it is not installed, tests are left out by [`available`], except in CI.
#![allow(clippy::disallowed_methods)] // Starts redis-server; nothing here comes from mail.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::gateway::free_port;

/// What is kept when the server is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// Everything: each write is synced.
    All,
}

/// A server that may or may not run at the moment.
pub struct Redis {
    pub port: u16,
    /// Its other port, where it speaks TLS.
    pub tls_port: u16,
    keep: Keep,
    arguments: Vec<String>,
    folder: TempDir,
    server: Option<Child>,
    sentinel: Option<Child>,
}

fn installed() -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join("redis-server").exists())
}

/// Whether Redis can be started; if not, says that the test `name` is left out, or, in CI, fails.
pub fn available(name: &str) -> bool {
    if installed() {
        return true;
    }
    let why = "redis-server is not installed";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{name}: {why}, and in CI nothing is left out");
    println!("left out: {name}: {why}");
    false
}

impl Redis {
    /// Starts one server.
    pub async fn start(keep: Keep) -> Self {
        Self::start_with(keep, &[]).await
    }

    async fn start_with(keep: Keep, arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("mailweir-redis-").tempdir().unwrap();
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let port = free_port().port();
        let mut redis = Self { port, tls_port: 0, keep, arguments, folder, server: None, sentinel: None };
        redis.start_again().await;
        redis
    }

    /// One server that speaks TLS too, as `certificates` say, and asks callers for a certificate.
    pub async fn start_tls(certificates: &Certificates, arguments: &[&str]) -> Self {
        let port = free_port().port();
        let given = format!("--tls-port {port} {}", certificates.arguments("--"));
        let mut arguments: Vec<&str> = arguments.to_vec();
        arguments.extend(given.split_whitespace());
        let mut redis = Self::start_with(Keep::Nothing, &arguments).await;
        redis.tls_port = port;
        redis
    }

    /// A replica of this server, when it has all.
    pub async fn start_replica(&self) -> Self {
        let master = self.port.to_string();
        let replica = Self::start_with(Keep::Nothing, &["--replicaof", "127.0.0.1", &master]).await;
        self.wait("replica", || replica.ask("INFO replication").contains("master_link_status:up")).await;
        replica
    }

    /// Three masters that share the slots.
    pub async fn start_cluster_of_three(keep: Keep) -> [Self; 3] {
        let node = async || {
            let bus = free_port().port().to_string();
            let timeout = ["--cluster-node-timeout", "2000"];
            Self::start_with(keep, &[&["--cluster-enabled", "yes", "--cluster-port", &bus], &timeout[..]].concat())
                .await
        };
        let nodes = [node().await, node().await, node().await];
        let mut command = Command::new("redis-cli");
        command.args(["--cluster", "create"]).args(nodes.each_ref().map(|node| format!("127.0.0.1:{}", node.port)));
        let made = command.args(["--cluster-replicas", "0", "--cluster-yes"]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        for node in &nodes {
            node.wait("cluster", || node.ask("CLUSTER INFO").contains("cluster_state:ok")).await;
        }
        nodes
    }

    /// A cluster of one node that has all slots.
    pub async fn start_cluster() -> Self {
        // Else it takes a port 10,000 above its own, which may be a connection's.
        let bus = free_port().port().to_string();
        let redis = Self::start_with(Keep::Nothing, &["--cluster-enabled", "yes", "--cluster-port", &bus]).await;
        let given = redis.ask("CLUSTER ADDSLOTSRANGE 0 16383");
        assert!(given.starts_with("+OK"), "{given}");
        redis.wait("cluster", || redis.ask("CLUSTER INFO").contains("cluster_state:ok")).await;
        redis
    }

    /// A server, and a sentinel that knows it as `main`; gives the sentinel's port too.
    pub async fn start_sentinel() -> (Self, u16) {
        let mut redis = Self::start(Keep::Nothing).await;
        let port = redis.watch(redis.port, "").await;
        (redis, port)
    }

    /// Starts a sentinel that knows `master` as `main`, quick to judge, and gives its port. `more`: further lines of its file.
    pub async fn watch(&mut self, master: u16, more: &str) -> u16 {
        let port = free_port().port();
        let file = self.folder.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nlogfile {}\n{more}\nsentinel monitor main 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n",
            self.folder.path().display(),
            self.folder.path().join("sentinel.log").display(),
        );
        fs::write(&file, text).unwrap();
        self.sentinel = Some(spawn(&[file.to_str().unwrap(), "--sentinel"], self.folder.path()));
        self.wait("sentinel", || ask(port, "SENTINEL GET-MASTER-ADDR-BY-NAME main").starts_with('*')).await;
        port
    }

    /// Starts the server and waits until it answers.
    pub async fn start_again(&mut self) {
        let (port, folder) = (self.port.to_string(), self.folder.path().to_owned());
        let append = if self.keep == Keep::All { "yes" } else { "no" };
        let mut arguments = vec!["--port", &port, "--bind", "127.0.0.1", "--dir", folder.to_str().unwrap()];
        arguments.extend(["--save", "", "--appendonly", append, "--appendfsync", "always"]);
        arguments.extend(self.arguments.iter().map(String::as_str));
        self.server = Some(spawn(&arguments, &folder));
        self.wait("redis-server", || self.ask("PING").starts_with("+PONG")).await;
    }

    pub async fn wait(&self, what: &str, is_there: impl Fn() -> bool) {
        for _ in 0..1_000 {
            if is_there() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what} does not answer:\n{}", fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Sends a command and gives the first of its answer; empty when nobody answers.
    pub fn ask(&self, command: &str) -> String {
        ask(self.port, command)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// Certificates of an authority of its own, in a folder: `ca.pem`, `server.pem` for 127.0.0.1, `client.pem`, and keys.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    pub fn new() -> Self {
        use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
        static MADE: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
        // Authorities of one name are taken for one, and who has his issuer's name for his own issuer.
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        authority.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        write("ca.pem", authority.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(authority, key);
        for (name, host) in [("server", "127.0.0.1"), ("client", "client.example")] {
            let key = KeyPair::generate().unwrap();
            let mut parameters = CertificateParams::new(vec![host.to_owned()]).unwrap();
            parameters.distinguished_name.push(DnType::CommonName, name);
            write(&format!("{name}.pem"), parameters.signed_by(&key, &issuer).unwrap().pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { folder }
    }

    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Settings of a server, each with `before` before it.
    pub fn arguments(&self, before: &str) -> String {
        let file = |name| self.file(name).display().to_string();
        format!(
            "{before}tls-cert-file {} {before}tls-key-file {} {before}tls-ca-cert-file {}",
            file("server.pem"),
            file("server.key"),
            file("ca.pem")
        )
    }
}

pub fn ask(port: u16, command: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let mut answer = [0; 4_096];
    let asked = stream.write_all(format!("{command}\r\n").as_bytes()).and_then(|()| stream.read(&mut answer));
    String::from_utf8_lossy(&answer[..asked.unwrap_or(0)]).into_owned()
}

fn spawn(arguments: &[&str], folder: &Path) -> Child {
    let log = || fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = Command::new("redis-server");
    command.args(arguments).stdin(Stdio::null()).stdout(log()).stderr(log());
    command.spawn().unwrap()
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        if let Some(mut sentinel) = self.sentinel.take() {
            let _ = sentinel.kill();
            let _ = sentinel.wait();
        }
    }
}
