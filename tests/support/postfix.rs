//! A real Postfix of its own: configuration, queue, data and log in a temporary folder, ports of its own, ended on drop.
//!
//! The system's Postfix is not touched: `master` is started directly with the private configuration. It needs root, as Postfix
//! changes users; without Postfix or root a test is left out by [`available`], except in CI, where that fails.
#![allow(clippy::disallowed_methods)] // Starts Postfix; nothing here comes from mail.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, getuid, kill_process_group};
use tempfile::TempDir;

const DAEMONS: &str = "/usr/lib/postfix/sbin";

/// How Postfix stands to the gateway.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `smtpd_milters`, such as `inet:127.0.0.1:8893`.
    pub milter: Option<String>,
    /// `smtpd_proxy_filter`: the gateway's relay; it sends on to [`Postfix::reinject`].
    pub proxy_filter: Option<SocketAddr>,
    /// Where all mail goes in the end (`relayhost`).
    pub sink: Option<SocketAddr>,
    /// Where clients send mail; any free port when not said.
    pub smtp: Option<SocketAddr>,
    /// Where a filter sends mail back to; any free port when not said.
    pub reinject: Option<SocketAddr>,
    /// Further lines of `main.cf`.
    pub main_cf: Vec<String>,
}

/// A running Postfix.
pub struct Postfix {
    /// Where clients send mail.
    pub smtp: SocketAddr,
    /// Where a filter sends mail back to, unfiltered from there on.
    pub reinject: SocketAddr,
    folder: TempDir,
    master: Child,
}

/// Whether Postfix can be started; if not, says that the test `name` is left out, or, in CI, fails.
pub fn available(name: &str) -> bool {
    let why = if !Path::new(DAEMONS).join("master").exists() {
        "postfix is not installed"
    } else if !getuid().is_root() {
        "postfix must be started by root"
    } else {
        return true;
    };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{name}: {why}, and in CI nothing is left out");
    println!("left out: {name}: {why}");
    false
}

impl Postfix {
    /// Starts Postfix and waits until it answers.
    pub async fn start(options: Options) -> Self {
        let folder = tempfile::Builder::new().prefix("mailweir-postfix-").tempdir().unwrap();
        // Postfix's own user must be able to pass.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let [smtp, reinject] = free_ports();
        let (smtp, reinject) = (options.smtp.unwrap_or(smtp), options.reinject.unwrap_or(reinject));
        make_folders(folder.path());
        fs::write(folder.path().join("conf/main.cf"), main_cf(folder.path(), &options)).unwrap();
        fs::write(folder.path().join("conf/master.cf"), master_cf(smtp, reinject, &options)).unwrap();
        let master = master(folder.path());
        let postfix = Self { smtp, reinject, folder, master };
        postfix.wait().await;
        postfix
    }

    /// Ends Postfix; its queue stays.
    pub fn stop(&mut self) {
        if matches!(self.master.try_wait(), Ok(Some(_))) {
            return;
        }
        if let Some(group) = Pid::from_raw(self.master.id() as i32) {
            let _ = kill_process_group(group, Signal::TERM);
        }
        let _ = self.master.wait();
    }

    /// Starts it again after [`Self::stop`], on the same queue and ports.
    pub async fn start_again(&mut self) {
        self.master = master(self.folder.path());
        self.wait().await;
    }

    async fn wait(&self) {
        for _ in 0..250 {
            if let Ok(stream) = tokio::net::TcpStream::connect(self.smtp).await {
                // Accepted by master; smtpd itself is there when it greets.
                let mut banner = [0; 4];
                use tokio::io::AsyncReadExt;
                let mut stream = stream;
                let read = tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut banner)).await;
                if matches!(read, Ok(Ok(_))) && &banner == b"220 " {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        panic!("postfix does not answer:\n{}", self.log());
    }

    /// What Postfix logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log/mail.log")).unwrap_or_default()
    }

    /// Runs one of Postfix's commands (`postqueue`, `postsuper`) on this Postfix; what it printed.
    pub fn command(&self, name: &str, arguments: &[&str]) -> String {
        let output = Command::new(format!("/usr/sbin/{name}"))
            .arg("-c")
            .arg(self.folder.path().join("conf"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The queue, a line of JSON for each message.
    pub fn queue(&self) -> Vec<String> {
        self.command("postqueue", &["-j"]).lines().map(str::to_owned).collect()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        self.stop();
    }
}

fn master(folder: &Path) -> Child {
    Command::new(format!("{DAEMONS}/master"))
        .args(["-d", "-c"])
        .arg(folder.join("conf"))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn free_ports<const N: usize>() -> [SocketAddr; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}

/// The folders that `postfix start` would make, with their owners.
fn make_folders(folder: &Path) {
    let user = id("/etc/passwd", "postfix");
    let drop_group = id("/etc/group", "postdrop");
    let make = |name: &str, mode: u32, owner: Option<u32>, group: Option<u32>| {
        let path: PathBuf = folder.join(name);
        fs::create_dir_all(&path).unwrap();
        chown(&path, owner, group).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in ["conf", "queue", "queue/pid", "log"] {
        make(name, 0o755, Some(0), Some(0));
    }
    make("data", 0o700, Some(user), None);
    for name in
        ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"]
    {
        make(&format!("queue/{name}"), 0o700, Some(user), None);
    }
    make("queue/maildrop", 0o730, Some(user), Some(drop_group));
    make("queue/public", 0o710, Some(user), Some(drop_group));
}

fn id(file: &str, name: &str) -> u32 {
    let entries = fs::read_to_string(file).unwrap();
    let line = entries.lines().find(|line| line.split(':').next() == Some(name)).expect("postfix made its users");
    line.split(':').nth(2).unwrap().parse().unwrap()
}

fn main_cf(folder: &Path, options: &Options) -> String {
    let folder = folder.display();
    let mut lines = vec![
        "compatibility_level = 3.6".to_owned(),
        format!("queue_directory = {folder}/queue"),
        format!("data_directory = {folder}/data"),
        format!("daemon_directory = {DAEMONS}"),
        format!("maillog_file = {folder}/log/mail.log"),
        format!("maillog_file_prefixes = {folder}"),
        "myhostname = mx.example.com".to_owned(),
        "inet_interfaces = 127.0.0.1".to_owned(),
        "inet_protocols = ipv4".to_owned(),
        "mydestination =".to_owned(),
        "alias_maps =".to_owned(),
        "alias_database =".to_owned(),
        "local_recipient_maps =".to_owned(),
        "mynetworks = 127.0.0.0/8".to_owned(),
        "smtpd_relay_restrictions = permit_mynetworks, reject".to_owned(),
        "smtpd_peername_lookup = no".to_owned(),
        "smtp_dns_support_level = disabled".to_owned(),
        "smtp_host_lookup = native".to_owned(),
        // Otherwise Postfix adds and rewrites headers of what comes from this machine.
        "local_header_rewrite_clients =".to_owned(),
        "message_size_limit = 104857600".to_owned(),
        "smtpd_client_connection_count_limit = 0".to_owned(),
        "smtpd_soft_error_limit = 1000".to_owned(),
        "smtpd_hard_error_limit = 1000".to_owned(),
        "smtp_tls_security_level = none".to_owned(),
        "milter_default_action = tempfail".to_owned(),
    ];
    lines.extend(options.milter.iter().map(|milter| format!("smtpd_milters = {milter}")));
    lines.extend(options.sink.iter().map(|sink| format!("relayhost = [{}]:{}", sink.ip(), sink.port())));
    lines.extend(options.main_cf.iter().cloned());
    lines.join("\n") + "\n"
}

fn master_cf(smtp: SocketAddr, reinject: SocketAddr, options: &Options) -> String {
    let mut lines = vec![format!("{smtp} inet n - n - - smtpd")];
    lines.extend(options.proxy_filter.iter().map(|filter| format!("  -o smtpd_proxy_filter={filter}")));
    lines.push(format!("{reinject} inet n - n - - smtpd"));
    for option in [
        "smtpd_milters=",
        "smtpd_proxy_filter=",
        "smtpd_authorized_xforward_hosts=127.0.0.0/8",
        "smtpd_recipient_restrictions=permit_mynetworks,reject",
        "receive_override_options=no_unknown_recipient_checks,no_milters",
    ] {
        lines.push(format!("  -o {option}"));
    }
    for (name, kind, wakeup, most, command) in [
        ("pickup", "unix n", "60", "1", "pickup"),
        ("cleanup", "unix n", "-", "0", "cleanup"),
        ("qmgr", "unix n", "300", "1", "qmgr"),
        ("rewrite", "unix -", "-", "-", "trivial-rewrite"),
        ("bounce", "unix -", "-", "0", "bounce"),
        ("defer", "unix -", "-", "0", "bounce"),
        ("trace", "unix -", "-", "0", "bounce"),
        ("flush", "unix n", "1000?", "0", "flush"),
        ("proxymap", "unix -", "-", "-", "proxymap"),
        ("smtp", "unix -", "-", "-", "smtp"),
        ("relay", "unix -", "-", "-", "smtp"),
        ("showq", "unix n", "-", "-", "showq"),
        ("error", "unix -", "-", "-", "error"),
        ("retry", "unix -", "-", "-", "error"),
        ("discard", "unix -", "-", "-", "discard"),
        ("anvil", "unix -", "-", "1", "anvil"),
        ("scache", "unix -", "-", "1", "scache"),
        ("tlsmgr", "unix -", "1000?", "1", "tlsmgr"),
        ("postlog", "unix-dgram n", "-", "1", "postlogd"),
    ] {
        let (kind, private) = kind.split_once(' ').unwrap();
        lines.push(format!("{name} {kind} {private} - n {wakeup} {most} {command}"));
    }
    lines.join("\n") + "\n"
}
