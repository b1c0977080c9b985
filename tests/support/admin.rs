//! The HTTP side on a port of its own, with real records on SQLite and a next hop that does as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mailweir::admin::{Admin, Config, Surroundings, Workforce};
use mailweir::analysis::{Code, Facts, Why};
use mailweir::deferred::{self, Handlers, Pool, QueueConfig, WorkersConfig};
use mailweir::enforcement::alert::Board;
use mailweir::enforcement::signing::SigningConfig;
use mailweir::enforcement::{Refused, Reinject, Release, ReleaseConfig};
use mailweir::mail::{Connection, Door, Envelope, MessageId, Path};
use mailweir::policy::{Action, Reason, Score, Term, Verdict};
use mailweir::records::{self, PassKey, RecipientVerdict, Record, Records, Timing};
use prometheus::Registry;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::http::{Answer, request};
use super::outbox::OfRecords;

pub const TOKEN: &str = "correct-horse-battery-staple";
pub const METRICS_TOKEN: &str = "correct-metre-battery-staple";
pub const START_MS: u64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

/// A next hop that does what the recipient's name says.
#[derive(Clone, Default)]
pub struct NextHop {
    pub got: Arc<Mutex<Vec<(Envelope, Bytes)>>>,
}

impl Reinject for NextHop {
    async fn reinject(&self, envelope: Envelope, raw: Bytes) -> Result<String, Refused> {
        let to = envelope.recipients[0].text.clone();
        if to.starts_with("slow") {
            sleep(Duration::from_millis(1_500)).await;
        }
        assert!(!to.starts_with("panic"), "as the test wants it");
        if to.starts_with("full") {
            return Err(Refused { why: "452 4.2.2 mailbox full".into(), for_good: false });
        }
        self.got.lock().unwrap().push((envelope, raw));
        Ok("250 2.0.0 queued".into())
    }
}

pub struct Gateway {
    pub address: SocketAddr,
    pub records: Arc<Records>,
    pub next_hop: NextHop,
    pub draining: CancellationToken,
    pub stop: CancellationToken,
    pub served: JoinHandle<()>,
    pub folder: tempfile::TempDir,
}

impl Gateway {
    pub async fn start(config: Config) -> Self {
        Self::start_with(config, &SigningConfig::default()).await
    }

    /// With keys of those who sign.
    pub async fn start_with(config: Config, signing: &SigningConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new();
        let metrics = Arc::new(records::Metrics::new(&registry).unwrap());
        let store = records::Config { ledger_linger_ms: 1, min_free_bytes: 1, ..records::Config::default() };
        let (records, run) = Records::open(&store, folder.path(), metrics).await.unwrap();
        tokio::spawn(run);
        let next_hop = NextHop::default();
        let key = PassKey::new([7; 32]);
        let release = Arc::new(Release::new(Arc::clone(&records), key, next_hop.clone(), ReleaseConfig::default()));
        let work = workforce(folder.path(), &registry, &records).await;
        let around = Surroundings { data: Some(folder.path().to_owned()), ..Surroundings::default() };
        let admin =
            Admin::new(&config, TOKEN.into(), Arc::clone(&records), release, registry, Some(work), around).unwrap();
        let admin = admin.with_metrics_token(METRICS_TOKEN).unwrap().with_callers(signing, folder.path()).unwrap();
        let admin = admin.with_alerts(Board::new(folder.path()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (draining, stop) = (CancellationToken::new(), CancellationToken::new());
        let served = tokio::spawn(admin.serve(listener, draining.clone(), stop.clone()));
        Self { address, records, next_hop, draining, stop, served, folder }
    }

    /// With the token.
    pub async fn ask(&self, method: &str, target: &str, body: &str) -> Answer {
        let token = format!("Authorization: Bearer {TOKEN}");
        let answer = request(self.address, method, target, &[&token, "Content-Type: application/json"], body).await;
        check_headers(&answer);
        answer
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, "").await
    }

    pub async fn items(&self, target: &str) -> Vec<Value> {
        let answer = self.get(target).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        answer.json()["items"].as_array().unwrap().clone()
    }

    /// Notes records and waits until the last of them is there.
    pub async fn note(&self, records: &[Record]) {
        records.iter().for_each(|record| self.records.note(record));
        let last = records.last().unwrap().id;
        while self.records.record(last).await.unwrap().is_none() {
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn hold(&self, number: u64, raw: &'static [u8], recipients: &[&str]) -> MessageId {
        let record = record(number, "held", recipients);
        let all: Vec<usize> = (0..recipients.len()).collect();
        self.records.hold(&record, Bytes::from_static(raw), &all).await.unwrap();
        record.id
    }

    pub async fn state(&self, id: MessageId, recipient: &str) -> String {
        let view = self.get(&format!("/api/v1/quarantine/{id}")).await.json();
        let rows = view["held"]["recipients"].as_array().unwrap().clone();
        let row = rows.iter().find(|row| row["recipient"] == recipient).unwrap();
        row["state"].as_str().unwrap().to_owned()
    }
}

/// A queue and workers that do not work.
async fn workforce(folder: &std::path::Path, registry: &Registry, records: &Arc<Records>) -> Workforce {
    let (config, workers) = (QueueConfig::default(), WorkersConfig::default());
    let queue = deferred::open(&config, folder).await.unwrap();
    let metrics = Arc::new(deferred::Metrics::new(registry).unwrap());
    let pool = Pool::new(Arc::clone(&queue), None, Handlers::new(), (&config, &workers), metrics).unwrap();
    Workforce { queue, outbox: Arc::new(OfRecords(Arc::clone(records))), crew: Some(pool.crew()), doors: Vec::new() }
}

pub fn record(number: u64, subject: &str, recipients: &[&str]) -> Record {
    let verdict = Verdict { action: Action::Quarantine, reason: Reason::Score };
    let received = START_MS + number * 1_000;
    Record {
        id: MessageId::new(received, [number as u8; 10]),
        received_ms: received as i64,
        connection: Connection {
            client_ip: Some([192, 0, 2, number as u8].into()),
            ..Connection::unknown(Door::Relay)
        },
        envelope: Envelope {
            sender: Path::new("O'Brien@Sender.Example"),
            recipients: recipients.iter().map(|to| Path::new(*to)).collect(),
        },
        size: 100,
        from: vec!["boss@from.example".into()],
        subject: subject.into(),
        header_id: format!("{number}@h.example"),
        action: if number.is_multiple_of(2) { Action::Reject } else { Action::Quarantine },
        verdicts: recipients
            .iter()
            .map(|to| RecipientVerdict { recipient: (*to).into(), tenant: "default".into(), verdict: verdict.clone() })
            .collect(),
        score: Score {
            risk: 50.0 + number as f64,
            log_odds: 0.0,
            bias: 0.0,
            terms: vec![Term { code: Code::ALL[0], weight: 1.0, uncapped: None, evidence: vec![] }],
            rules: vec![],
        },
        facts: Facts::unknown(Why::Disabled),
        findings: vec![],
        degraded: vec![],
        policy_version: "1".into(),
        rules: Default::default(),
        contact: Default::default(),
        timing: Timing::default(),
        likeness: None,
        in_campaign: false,
        reply: None,
    }
}

pub fn check_headers(answer: &Answer) {
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.header("content-security-policy").starts_with("default-src 'none'"));
    if answer.status >= 400 && !answer.body.is_empty() && answer.header("content-type").contains("problem") {
        let problem = answer.json();
        assert_eq!(problem["status"], answer.status, "{problem}");
        assert!(problem["title"].is_string() && problem["type"].is_string() && problem["detail"].is_string());
    } else {
        assert!(answer.status < 400 || answer.body.is_empty() || answer.status == 503, "no problem: {answer:?}");
    }
}
