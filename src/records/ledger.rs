//! The ledger: one row a judged message, searched by an index and paged by id (newest first).

use serde::Serialize;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::campaign::LikenessRow;
use super::history::Additions;
use super::sql::Sql;
use super::store::Store;
use super::{OutboxJob, Record, StoreError};
use crate::mail::MessageId;

/// Rows on one page at most.
pub const PAGE_MAX: u32 = 500;

/// What the ledger holds of a message: the columns it is searched by, and the whole record as JSON.
#[derive(Debug, Clone)]
pub(super) struct LedgerRow {
    pub(super) id: MessageId,
    pub(super) received_ms: i64,
    pub(super) door: &'static str,
    pub(super) tenant: String,
    pub(super) action: &'static str,
    pub(super) risk: f64,
    pub(super) degraded: bool,
    pub(super) client_ip: Option<String>,
    pub(super) sender: String,
    pub(super) from_address: String,
    pub(super) subject: String,
    pub(super) header_id: String,
    pub(super) size: i64,
    /// Codes with a comma before and after each, so that `,CODE,` finds one.
    pub(super) signals: String,
    /// Lower case.
    pub(super) recipients: Vec<String>,
    pub(super) record: String,
    pub(super) history: Additions,
    pub(super) likeness: Option<LikenessRow>,
    /// What is to be done because of it.
    pub(super) jobs: Vec<OutboxJob>,
}

/// Longest subject and address kept in a column; the record has no more either.
const COLUMN_CHARS: usize = 500;

fn clip(text: &str) -> &str {
    text.char_indices().nth(COLUMN_CHARS).map_or(text, |(end, _)| &text[..end])
}

/// The domain of an address in a column; empty when there is none.
fn domain(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

impl LedgerRow {
    pub(super) const INSERT: &'static str = "INSERT INTO messages (id, received_ms, door, tenant, action, risk, degraded, \
         client_ip, sender, sender_domain, from_address, from_domain, subject, header_id, size, signals, record, \
         subject_folded) VALUES ";

    pub(super) fn bind(&self, sql: &mut Sql) {
        sql.bind(self.id.to_string()).comma().bind(self.received_ms).comma().bind(self.door).comma();
        sql.text(&self.tenant).comma().bind(self.action).comma().bind(self.risk).comma();
        sql.bind(i64::from(self.degraded)).comma().bind(self.client_ip.clone()).comma();
        sql.text(clip(&self.sender)).comma().text(domain(clip(&self.sender))).comma();
        sql.text(clip(&self.from_address)).comma().text(domain(clip(&self.from_address))).comma();
        sql.text(clip(&self.subject)).comma().text(clip(&self.header_id)).comma();
        sql.bind(self.size).comma().bind(self.signals.as_str()).comma().text(&self.record).comma();
        sql.text(&clip(&self.subject).to_lowercase());
    }
}

/// What to look for. Every given condition must hold; texts are compared without regard to case unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MessageQuery {
    /// Address (`a@b.example`) or domain (`b.example`) in the From header.
    pub from: Option<String>,
    /// Address or domain of the envelope sender.
    pub sender: Option<String>,
    /// Address of an envelope recipient.
    pub to: Option<String>,
    /// Words anywhere in the subject.
    pub subject: Option<String>,
    /// Address of the client.
    pub client_ip: Option<String>,
    /// `Message-ID` header, exactly.
    pub header_id: Option<String>,
    /// Action taken, such as `reject`.
    pub action: Option<String>,
    /// Code of a signal, such as `EICAR`.
    pub signal: Option<String>,
    /// Tenant by name.
    pub tenant: Option<String>,
    /// Received at or after, milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Received before, milliseconds since 1970.
    pub until_ms: Option<u64>,
    /// Risk at least.
    pub risk_min: Option<f64>,
    /// Only those older than this one: the last id of the page before.
    pub before: Option<MessageId>,
    /// Rows wanted, at most [`PAGE_MAX`].
    pub limit: u32,
}

/// One row of a page.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MessageSummary {
    /// The gateway's id.
    pub id: MessageId,
    /// Milliseconds since 1970.
    pub received_ms: i64,
    /// Which door took it.
    pub door: String,
    /// Tenant of the first recipient.
    pub tenant: String,
    /// Action taken.
    pub action: String,
    /// Risk, 0 to 100.
    pub risk: f64,
    /// Whether something could not be asked.
    pub degraded: bool,
    /// Address of the client.
    pub client_ip: Option<String>,
    /// Envelope sender.
    pub sender: String,
    /// Address in From.
    pub from: String,
    /// Subject, decoded.
    pub subject: String,
    /// Bytes.
    pub size: i64,
    /// Codes of the signals that fired.
    pub signals: Vec<String>,
}

impl MessageSummary {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let signals: String = row.try_get("signals")?;
        let id: String = row.try_get("id")?;
        Ok(Self {
            id: id.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
            received_ms: row.try_get("received_ms")?,
            door: row.try_get("door")?,
            tenant: row.try_get("tenant")?,
            action: row.try_get("action")?,
            risk: row.try_get("risk")?,
            degraded: row.try_get::<i64, _>("degraded")? != 0,
            client_ip: row.try_get("client_ip")?,
            sender: row.try_get("sender")?,
            from: row.try_get("from_address")?,
            subject: row.try_get("subject")?,
            size: row.try_get("size")?,
            signals: signals.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect(),
        })
    }
}

impl Store {
    pub(super) async fn messages(&self, query: &MessageQuery) -> Result<Vec<MessageSummary>, StoreError> {
        let rows = select(query).fetch(&self.read).await.map_err(StoreError::query("search messages"))?;
        rows.iter().map(MessageSummary::read).collect::<Result<_, _>>().map_err(StoreError::query("search messages"))
    }

    pub(super) async fn record(&self, id: MessageId) -> Result<Option<Record>, StoreError> {
        let fail = StoreError::query("read a record");
        let text: Option<String> = sqlx::query_scalar("SELECT record FROM messages WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.read)
            .await
            .map_err(fail)?;
        let Some(text) = text else { return Ok(None) };
        let unreadable = |_| StoreError::Row { id: id.to_string(), column: "record" };
        serde_json::from_str(&text).map(Some).map_err(unreadable)
    }
}

fn select(query: &MessageQuery) -> Sql {
    let mut sql = Sql::new(
        "SELECT id, received_ms, door, tenant, action, risk, degraded, client_ip, sender, from_address, subject, size, \
         signals FROM messages WHERE 1 = 1",
    );
    let lower = |text: &Option<String>| text.as_deref().map(str::to_lowercase);
    if let Some(from) = lower(&query.from) {
        sql.push(if from.contains('@') { " AND from_address = " } else { " AND from_domain = " }).text(&from);
    }
    if let Some(sender) = lower(&query.sender) {
        sql.push(if sender.contains('@') { " AND sender = " } else { " AND sender_domain = " }).text(&sender);
    }
    if let Some(to) = lower(&query.to) {
        sql.push(" AND id IN (SELECT message_id FROM message_recipients WHERE recipient = ").text(&to).push(")");
    }
    if let Some(subject) = lower(&query.subject) {
        let pattern = format!("%{}%", subject.replace('!', "!!").replace('%', "!%").replace('_', "!_"));
        sql.push(" AND subject_folded LIKE ").text(&pattern).push(" ESCAPE '!'");
    }
    for (column, value) in [
        (" AND client_ip = ", &query.client_ip),
        (" AND header_id = ", &query.header_id),
        (" AND action = ", &query.action),
        (" AND tenant = ", &query.tenant),
    ] {
        if let Some(value) = value {
            sql.push(column).text(value);
        }
    }
    if let Some(code) = &query.signal {
        let pattern = format!("%,{},%", code.replace('!', "!!").replace('%', "!%").replace('_', "!_"));
        sql.push(" AND signals LIKE ").text(&pattern).push(" ESCAPE '!'");
    }
    if let Some(since) = query.since_ms {
        // The id begins with the time: the primary key serves the range.
        sql.push(" AND id >= ").bind(MessageId::new(since, [0; 10]).to_string());
    }
    if let Some(until) = query.until_ms {
        sql.push(" AND id < ").bind(MessageId::new(until, [0; 10]).to_string());
    }
    if let Some(risk) = query.risk_min {
        sql.push(" AND risk >= ").bind(risk);
    }
    if let Some(before) = query.before {
        sql.push(" AND id < ").bind(before.to_string());
    }
    sql.push(" ORDER BY id DESC LIMIT ").bind(i64::from(query.limit.clamp(1, PAGE_MAX)));
    sql
}
