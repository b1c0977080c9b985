//! Records on a store of the test's own, and messages to put into them.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use mailweir::analysis::{Code, Facts, Why};
use mailweir::mail::{Connection, Door, Envelope, MessageId, Path};
use mailweir::policy::{Action, Reason, Score, Term, Verdict};
use mailweir::records::{Config, Metrics, RecipientVerdict, Record, Records, StoreError, Timing};
use prometheus::Registry;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Where the records of a test are.
pub struct Place {
    pub config: Config,
    pub data: TempDir,
}

/// Open records.
pub struct Open {
    pub records: Arc<Records>,
    pub registry: Registry,
    writer: JoinHandle<()>,
}

impl Place {
    /// SQLite in a temporary folder when `url` is empty.
    pub fn new(url: &str) -> Self {
        let config = Config { url: url.to_owned(), ledger_linger_ms: 5, ..Config::default() };
        Self { config, data: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &FilePath {
        self.data.path()
    }

    /// Address for a second connection, past the product.
    pub fn url(&self) -> String {
        let sqlite = || format!("sqlite://{}", self.path().join("mailweir.db").display());
        if self.config.url.is_empty() { sqlite() } else { self.config.url.clone() }
    }

    pub async fn open(&self) -> Open {
        let registry = Registry::new();
        let metrics = Arc::new(Metrics::new(&registry).unwrap());
        let (records, writer) = Records::open(&self.config, self.path(), metrics).await.unwrap();
        Open { records, registry, writer: tokio::spawn(writer) }
    }
}

impl Open {
    /// Waits until everything is written and closed.
    pub async fn close(self) {
        drop(self.records);
        self.writer.await.unwrap();
    }

    /// Notes records and waits until they can be found.
    pub async fn note(&self, records: &[Record]) {
        for record in records {
            self.records.note(record);
        }
        for _ in 0..500 {
            let mut found = 0;
            for record in records {
                found += usize::from(self.records.record(record.id).await.unwrap().is_some());
            }
            if found == records.len() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the ledger does not show what was noted");
    }

    /// Holds a message for all its recipients.
    pub async fn hold(&self, record: &Record, raw: &[u8]) -> Result<(), StoreError> {
        let all: Vec<usize> = (0..record.envelope.recipients.len()).collect();
        self.records.hold(record, Bytes::copy_from_slice(raw), &all).await
    }

    /// How many values a histogram has, or what a counter says, over all its labels.
    pub fn metric(&self, name: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap_or_else(|| panic!("no {name}"));
        let value =
            |m: &prometheus::proto::Metric| m.get_histogram().get_sample_count() + m.get_counter().get_value() as u64;
        family.get_metric().iter().map(value).sum()
    }
}

pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// An id made at this time; `number` tells ids of one millisecond apart.
pub fn id_at(unix_ms: i64, number: u16) -> MessageId {
    let [high, low] = number.to_be_bytes();
    MessageId::new(unix_ms as u64, [0, 0, 0, 0, 0, 0, 0, 0, high, low])
}

/// A record with nothing special in it.
pub fn record(id: MessageId, subject: &str, recipients: &[&str]) -> Record {
    let verdict = |recipient: &&str| RecipientVerdict {
        recipient: (*recipient).to_owned(),
        tenant: "default".into(),
        verdict: Verdict { action: Action::Quarantine, reason: Reason::Gtube },
    };
    let term = Term { code: Code::ALL[0], weight: 1.0, uncapped: None, evidence: vec!["seen".into()] };
    Record {
        id,
        received_ms: id.unix_millis() as i64,
        connection: Connection { client_ip: "192.0.2.7".parse().ok(), ..Connection::unknown(Door::Relay) },
        envelope: Envelope {
            sender: Path { text: "Ada@Sender.example".into(), params: vec!["BODY=8BITMIME".into(), "SIZE=12".into()] },
            recipients: recipients
                .iter()
                .map(|r| Path { text: (*r).into(), params: vec!["NOTIFY=NEVER".into()] })
                .collect(),
        },
        size: 1_234,
        from: vec!["Ada@From.example".into()],
        subject: subject.into(),
        header_id: format!("{id}@sender.example"),
        action: Action::Quarantine,
        verdicts: recipients.iter().map(verdict).collect(),
        score: Score { risk: 12.5, log_odds: -1.9, bias: -2.9, terms: vec![term], rules: Vec::new() },
        facts: Facts::unknown(Why::Disabled),
        findings: vec!["a_finding".into()],
        degraded: Vec::new(),
        policy_version: "1".into(),
        rules: Default::default(),
        contact: Default::default(),
        timing: Timing::default(),
        likeness: None,
        in_campaign: false,
        reply: None,
    }
}
