//! A Prometheus of its own with the files of `deploy/prometheus`: it reads one gateway every second. Where it is not
//! installed, tests are left out by [`available`], except in CI.
#![allow(clippy::disallowed_methods)] // Starts prometheus and promtool; nothing here comes from mail.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::gateway::free_port;
use super::http::exchange;

/// A server, killed on drop.
pub struct Prometheus {
    address: SocketAddr,
    child: Child,
    folder: TempDir,
}

/// The folder of files for Prometheus.
pub fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

/// Whether Prometheus can be started; if not, says that the test `name` is left out, or, in CI, fails.
pub fn available(name: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let installed = |program: &str| std::env::split_paths(&folders).any(|folder| folder.join(program).exists());
    if installed("prometheus") && installed("promtool") {
        return true;
    }
    let why = "prometheus is not installed";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{name}: {why}, and in CI nothing is left out");
    println!("left out: {name}: {why}");
    false
}

/// Runs promtool; what it said, when it was content.
pub fn promtool(arguments: &[&str]) -> String {
    let ran = Command::new("promtool").args(arguments).current_dir(files()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "promtool {arguments:?}\n{said}");
    said
}

impl Prometheus {
    /// Starts it with the configuration that we ship, made quick, and waits until it answers.
    pub async fn start(target: SocketAddr, token: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("mailweir-prometheus-").tempdir().unwrap();
        let read = |name: &str| std::fs::read_to_string(files().join(name)).unwrap();
        let shipped = read("prometheus.yml");
        let config = shipped.replace("127.0.0.1:8025", &target.to_string()).replace("15s", "1s");
        assert_ne!(config, shipped);
        for (name, text) in [
            ("prometheus.yml", config.as_str()),
            ("mailweir.rules.yml", &read("mailweir.rules.yml")),
            ("mailweir.token", token),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let address = free_port();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { address, child, folder };
        let until = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "{}", server.log());
            sleep(Duration::from_millis(50)).await;
        }
        server
    }

    /// The result of a query, or what is wrong with it.
    pub async fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let mut encoded = String::new();
        query.bytes().for_each(|byte| write!(encoded, "%{byte:02X}").unwrap());
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).await;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default()),
            _ => Err(answer["error"].to_string()),
        }
    }

    /// All alert rules, as it evaluates them.
    pub async fn rules(&self) -> Vec<Value> {
        let answer = self.get("/api/v1/rules").await;
        let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
    }

    async fn get(&self, target: &str) -> Value {
        // HTTP/1.0: the answer comes in one piece.
        let answer = exchange(self.address, format!("GET {target} HTTP/1.0\r\nHost: test\r\n\r\n").as_bytes()).await;
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a header");
        serde_json::from_slice(&answer[end + 4..]).unwrap_or_else(|error| panic!("{target}: {error}"))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
