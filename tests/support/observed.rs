//! A running gateway of which every part has something to count: mail of every fate by both doors, services that answer and one
//! that does not, rules, a job, wrong tokens, breaches of the protocol.

use std::net::SocketAddr;
use std::time::Duration;

use mailweir::deferred::{self, Job, QueueConfig};
use mailweir::gateway::milter::Endpoint;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::gateway::{Gateway, free_port};
use super::http::{Answer, request};
use super::milter::Mta;
use super::mock_services::{MockServices, three_ports};
use super::sink::Sink;

const RULES: [(&str, &str); 2] = [
    (
        "matches.yml",
        "name: \"Observed\"\ntype: \"rule\"\nsource: |\n  strings.icontains(subject.subject, \"observed\")\n",
    ),
    (
        "undecided.yml",
        "name: \"Undecided\"\ntype: \"rule\"\nsource: |\n  any(ml.logo_detect(file.message_screenshot()).brands, .name == \"Any\")\n",
    ),
];

pub struct Observed {
    pub gateway: Gateway,
    pub http: SocketAddr,
    pub token: String,
    _sink: Sink,
    _services: MockServices,
    _folder: tempfile::TempDir,
}

impl Observed {
    pub async fn start() -> Self {
        let sink = Sink::start().await;
        let port = three_ports();
        let services = tokio::task::spawn_blocking(move || MockServices::start(port, "none")).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("rules");
        std::fs::create_dir(&rules).unwrap();
        for (name, text) in RULES {
            std::fs::write(rules.join(name), text).unwrap();
        }
        let (http, nobody) = (free_port(), free_port());
        let more = format!(
            "[http]\nenabled = true\nlisten = \"{http}\"\nsnapshot_seconds = 1\nfailed_tokens_per_minute = 100000\nsnapshots = 3\nlow_space_bytes = 1\nmetrics_file = \"{0}/metrics.json\"\n\
             metrics_file_seconds = 1\n[relay.tls]\nenabled = true\n[enrichment.clamd]\naddress = \"inet:{nobody}\"\n\
             [[policy.rules.paths]]\npath = \"{0}/rules\"\nname = \"observed\"\nmode = \"enforce\"\n",
            folder.path().display()
        );
        let mut settings: toml::Table = toml::from_str(&services.quick(0.0)).unwrap();
        super::gateway::lay_over(&mut settings, toml::from_str(&more).unwrap());
        let gateway = Gateway::prepare(sink.address, "");
        // Its own database is the copy of itself.
        let copy = format!("[store]\nreplica_url = \"sqlite:{}/mailweir.db\"\n", gateway.data().display());
        super::gateway::lay_over(&mut settings, toml::from_str(&copy).unwrap());
        gateway.configure(sink.address, &toml::to_string(&settings).unwrap());
        gateway.start().await;
        // The HTTP side is set up last.
        let until = Instant::now() + Duration::from_secs(30);
        while tokio::net::TcpStream::connect(http).await.is_err() {
            assert!(Instant::now() < until, "{}", gateway.log());
            sleep(Duration::from_millis(20)).await;
        }
        let token = std::fs::read_to_string(gateway.data().join("admin.token")).unwrap().trim().to_owned();
        let observed = Self { gateway, http, token, _sink: sink, _services: services, _folder: folder };
        observed.job().await;
        observed
    }

    /// With the token.
    pub async fn get(&self, target: &str) -> Answer {
        request(self.http, "GET", target, &[&format!("Authorization: Bearer {}", self.token)], "").await
    }

    pub async fn json(&self, target: &str) -> Value {
        let answer = self.get(target).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        answer.json()
    }

    /// Where the summaries are written.
    pub fn metrics_file(&self) -> std::path::PathBuf {
        self._folder.path().join("metrics.json")
    }

    /// A little of everything.
    pub async fn traffic(&self) {
        let message = |line: &str| {
            format!(
                "From: A <a@firm.example>\r\nTo: b@example.com\r\nSubject: Observed\r\nMessage-ID: <{line}@firm.example>\r\n\
                 Date: Fri, 20 Nov 2026 10:00:00 +0000\r\n\r\nSee https://firm.example/{line} there\r\n{line}\r\n"
            )
        };
        // In two halves, so that this file is none.
        let pattern =
            |letter| format!("{letter}JS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD{}", "-ANTI-UBE-TEST-EMAIL*C.34X");
        let mut client = Client::connect(self.gateway.relay).await;
        for (line, reply) in [("plain".to_owned(), "250"), (pattern('X'), "550"), (pattern('Y'), "250")] {
            let said = client.send("a@firm.example", &["b@example.com"], message(&line).as_bytes()).await;
            assert!(said.starts_with(reply), "{line}: {said}\n{}", self.gateway.log());
        }
        client.write(b"NOOP\n").await;
        let _ = client.reply().await;
        let mut mta = Mta::connect(&Endpoint::Inet(self.gateway.milter.to_string())).await.unwrap();
        mta.greet().await;
        assert!(!mta.message("Observed", b"Hello\r\n").await.is_empty());
        for token in ["Authorization: Bearer not-the-token-of-anybody", "X-None: 1"] {
            assert_eq!(request(self.http, "GET", "/metrics", &[token], "").await.status, 401);
        }
        assert_eq!(self.get("/health").await.status, 200);
    }

    /// A job that nobody can do: it becomes a dead letter.
    async fn job(&self) {
        let queue = deferred::open(&QueueConfig::default(), &self.gateway.data()).await.unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        queue.enqueue(&[Job::new("nobody", "observed", "x", now.as_millis() as i64)]).await.unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while queue.depth().await.unwrap().dead == 0 {
            assert!(Instant::now() < until, "the job is not worked on\n{}", self.gateway.log());
            sleep(Duration::from_millis(50)).await;
        }
        queue.close().await;
    }
}
