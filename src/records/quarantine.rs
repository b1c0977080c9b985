//! The quarantine: what is held, for whom, and what became of it.
//!
//! A message is held once; each of its recipients has a state of his own:
//!
//! ```text
//! held ──lease──▶ releasing ──next hop said 250──▶ released
//!   ▲                 │ failed, or the lease ran out
//!   └─────────────────┘
//! held ──▶ deleted
//! ```
//!
//! The lease keeps two releases from running at once. It is short and renewed while the release runs ([`RELEASE_RENEW`]), so
//! that one that was killed half-way becomes possible again soon. Who lost his lease can end nothing but by a 250: a recipient
//! counts as released only after the next hop's, and then whoever brought it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::sql::Sql;
use super::store::Store;
use super::{OutboxJob, PAGE_MAX, StoreError};
use crate::mail::{Envelope, MessageId, Path};
use crate::policy::Reason;

/// What is attempted when held messages are looked at.
const READ: &str = "read the quarantine";
/// How long a release that gives no sign of life is left alone before another may take it up.
const LEASE_MS: i64 = 60 * 1_000;
/// How often a release that runs has to give one.
pub const RELEASE_RENEW: Duration = Duration::from_secs(15);
/// The word for [`Reason::Waiting`] in [`RecipientState::reason`].
const WAITING: &str = "waiting";

/// A message to be held: written in one commit.
#[derive(Debug, Clone)]
pub(super) struct HeldRow {
    pub(super) id: MessageId,
    pub(super) held_ms: i64,
    pub(super) reason: String,
    pub(super) risk: f64,
    pub(super) sender: Path,
    pub(super) from_address: String,
    pub(super) subject: String,
    pub(super) client_ip: Option<String>,
    pub(super) size: i64,
    pub(super) body: String,
    pub(super) recipients: Vec<HeldRecipient>,
    /// What is to be done because it is held.
    pub(super) jobs: Vec<OutboxJob>,
}

#[derive(Debug, Clone)]
pub(super) struct HeldRecipient {
    pub(super) path: Path,
    pub(super) tenant: String,
    pub(super) reason: String,
}

/// A reason as the quarantine writes it.
pub(super) fn word(reason: &Reason) -> String {
    serde_json::to_string(reason).unwrap_or_default().replace('"', "")
}

impl HeldRow {
    pub(super) const INSERT: &'static str = "INSERT INTO quarantine (id, held_ms, reason, risk, sender, sender_params, \
         from_address, subject, client_ip, size, body) VALUES ";
    pub(super) const INSERT_RECIPIENT: &'static str = "INSERT INTO quarantine_recipients (message_id, recipient, params, \
         tenant, state, lease_ms, attempts, reason) VALUES ";

    pub(super) fn bind(&self, sql: &mut Sql) {
        sql.bind(self.id.to_string()).comma().bind(self.held_ms).comma().text(&self.reason).comma();
        sql.bind(self.risk).comma().text(&self.sender.text).comma().text(&self.sender.params.join(" ")).comma();
        sql.text(&self.from_address).comma().text(&self.subject).comma().bind(self.client_ip.clone()).comma();
        sql.bind(self.size).comma().bind(self.body.as_str());
    }
}

impl HeldRecipient {
    pub(super) fn bind(&self, message: &HeldRow, sql: &mut Sql) {
        sql.bind(message.id.to_string())
            .comma()
            .text(&self.path.text)
            .comma()
            .text(&self.path.params.join(" "))
            .comma();
        sql.text(&self.tenant).comma().bind("held").comma().bind(0i64).comma().bind(0i64).comma();
        sql.text(&self.reason);
    }
}

/// What became of a held message for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldState {
    /// Waits.
    Held,
    /// Is being given to the next hop.
    Releasing,
    /// The next hop took it.
    Released,
    /// Was thrown away.
    Deleted,
}

impl HeldState {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "held" => Self::Held,
            "releasing" => Self::Releasing,
            "released" => Self::Released,
            "deleted" => Self::Deleted,
            _ => return None,
        })
    }

    /// The word in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Releasing => "releasing",
            Self::Released => "released",
            Self::Deleted => "deleted",
        }
    }
}

/// One recipient of a held message.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecipientState {
    /// Address.
    pub recipient: String,
    /// ESMTP parameters as sent.
    #[serde(skip)]
    pub params: Vec<String>,
    /// Tenant.
    pub tenant: String,
    /// Why this one does not get it; empty: the message's reason stands for it.
    pub reason: String,
    /// What became of it.
    pub state: HeldState,
    /// While it is being released: when that release may be taken over, unless it gives a sign of life, milliseconds since 1970.
    #[serde(skip)]
    pub lease_ms: i64,
    /// Releases tried.
    pub attempts: i64,
    /// Why the last release failed.
    pub last_error: Option<String>,
    /// When it was released or deleted, milliseconds since 1970.
    pub settled_ms: Option<i64>,
}

impl RecipientState {
    /// Whether it has not got the message, and may.
    pub fn is_held(&self) -> bool {
        matches!(self.state, HeldState::Held | HeldState::Releasing)
    }

    /// Whether it only waits for the second look; `None`: an earlier version held it and did not say.
    pub fn waits(&self) -> Option<bool> {
        (!self.reason.is_empty()).then(|| self.reason == WAITING)
    }
}

/// The right to release one recipient's copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseLease {
    /// Whose.
    pub recipient: String,
    /// Which try it is: a later one has another.
    pub turn: i64,
}

/// A held message.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeldMessage {
    /// The gateway's id.
    pub id: MessageId,
    /// When it was held, milliseconds since 1970.
    pub held_ms: i64,
    /// Why.
    pub reason: String,
    /// Risk, 0 to 100.
    pub risk: f64,
    /// Envelope sender.
    pub sender: String,
    /// ESMTP parameters of the sender as sent.
    #[serde(skip)]
    pub sender_params: Vec<String>,
    /// Address in From.
    pub from: String,
    /// Subject, decoded.
    pub subject: String,
    /// Address of the client.
    pub client_ip: Option<String>,
    /// Bytes.
    pub size: i64,
    /// Name of the body in the body store.
    #[serde(skip)]
    pub body: String,
    /// The recipients it is held for.
    pub recipients: Vec<RecipientState>,
}

impl HeldMessage {
    /// Whether anything of it still waits.
    pub fn is_held(&self) -> bool {
        self.recipients.iter().any(RecipientState::is_held)
    }

    /// The envelope for those of its recipients that are named.
    pub fn envelope(&self, recipients: &[String]) -> Envelope {
        let path = |r: &RecipientState| Path { text: r.recipient.clone(), params: r.params.clone() };
        Envelope {
            sender: Path { text: self.sender.clone(), params: self.sender_params.clone() },
            recipients: self.recipients.iter().filter(|r| recipients.contains(&r.recipient)).map(path).collect(),
        }
    }
}

/// Which held messages to list. Every given condition must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeldQuery {
    /// State of at least one recipient. `None`: those that still wait.
    pub state: Option<String>,
    /// Recipient, exactly.
    pub to: Option<String>,
    /// Tenant by name.
    pub tenant: Option<String>,
    /// Only those older than this one: the last id of the page before.
    pub before: Option<MessageId>,
    /// Rows wanted, at most [`PAGE_MAX`].
    pub limit: u32,
}

impl Store {
    pub(super) async fn held(&self, query: &HeldQuery) -> Result<Vec<HeldMessage>, StoreError> {
        let fail = || StoreError::query(READ);
        let rows = self.search(READ, || list(query)).await?;
        let messages: Vec<HeldMessage> = rows.iter().map(read_message).collect::<Result<_, _>>().map_err(fail())?;
        if messages.is_empty() {
            return Ok(messages);
        }
        let recipients = self.search(READ, || recipients_of(&messages)).await?;
        with_recipients(messages, &recipients).map_err(fail())
    }

    pub(super) async fn held_message(&self, id: MessageId) -> Result<HeldMessage, StoreError> {
        let mut sql = Sql::new(
            "SELECT id, held_ms, reason, risk, sender, sender_params, from_address, subject, client_ip, size, body \
             FROM quarantine WHERE id = ",
        );
        sql.bind(id.to_string());
        self.read_held(sql).await?.pop().ok_or(StoreError::NotHeld(id))
    }

    async fn read_held(&self, sql: Sql) -> Result<Vec<HeldMessage>, StoreError> {
        let fail = || StoreError::query(READ);
        let rows = sql.fetch(&self.read).await.map_err(fail())?;
        let messages: Vec<HeldMessage> = rows.iter().map(read_message).collect::<Result<_, _>>().map_err(fail())?;
        if messages.is_empty() {
            return Ok(messages);
        }
        let recipients = recipients_of(&messages).fetch(&self.read).await.map_err(fail())?;
        with_recipients(messages, &recipients).map_err(fail())
    }

    /// Takes the lease for those of the named recipients that wait; gives the ones it got.
    pub(super) async fn lease(
        &self,
        id: MessageId,
        names: &[String],
        now_ms: i64,
    ) -> Result<Vec<ReleaseLease>, StoreError> {
        let fail = || StoreError::query("begin a release");
        let mut got = Vec::new();
        for name in names {
            let mut sql =
                Sql::new("UPDATE quarantine_recipients SET state = 'releasing', attempts = attempts + 1, lease_ms = ");
            sql.bind(now_ms + LEASE_MS).push(" WHERE message_id = ").bind(id.to_string());
            sql.push(" AND recipient = ").text(name);
            sql.push(" AND (state = 'held' OR (state = 'releasing' AND lease_ms < ").bind(now_ms);
            sql.push(")) RETURNING attempts");
            if let Some(row) = sql.fetch(&self.write).await.map_err(fail())?.first() {
                got.push(ReleaseLease { recipient: name.clone(), turn: row.try_get("attempts").map_err(fail())? });
            }
        }
        Ok(got)
    }

    /// A sign of life; `false`: the lease is lost.
    pub(super) async fn renew(&self, id: MessageId, lease: &ReleaseLease, now_ms: i64) -> Result<bool, StoreError> {
        let mut sql = Sql::new("UPDATE quarantine_recipients SET lease_ms = ");
        sql.bind(now_ms + LEASE_MS).push(" WHERE message_id = ").bind(id.to_string());
        sql.push(" AND recipient = ").text(&lease.recipient).push(" AND state = 'releasing' AND attempts = ");
        sql.bind(lease.turn);
        Ok(sql.execute(&self.write).await.map_err(StoreError::query("renew a release"))? == 1)
    }

    /// Ends a release: `released` after the next hop's 250, or `held` again with the reason.
    pub(super) async fn end_release(
        &self,
        id: MessageId,
        leases: &[ReleaseLease],
        outcome: Result<i64, &str>,
    ) -> Result<(), StoreError> {
        for lease in leases {
            let mut sql = Sql::new("UPDATE quarantine_recipients SET ");
            match outcome {
                Ok(now_ms) => sql.push("state = 'released', last_error = NULL, settled_ms = ").bind(now_ms),
                Err(why) => sql.push("state = 'held', lease_ms = 0, last_error = ").text(why),
            };
            sql.push(" WHERE message_id = ").bind(id.to_string()).push(" AND recipient = ").text(&lease.recipient);
            match outcome {
                // Whoever has the lease by now: it was delivered.
                Ok(_) => sql.push(" AND state IN ('held', 'releasing')"),
                Err(_) => sql.push(" AND state = 'releasing' AND attempts = ").bind(lease.turn),
            };
            sql.execute(&self.write).await.map_err(StoreError::query("end a release"))?;
        }
        Ok(())
    }

    /// Marks waiting recipients deleted; all of them when none is named. Gives how many.
    pub(super) async fn delete_held(&self, id: MessageId, names: &[String], now_ms: i64) -> Result<u64, StoreError> {
        let mut sql = Sql::new("UPDATE quarantine_recipients SET state = 'deleted', settled_ms = ");
        sql.bind(now_ms).push(" WHERE message_id = ").bind(id.to_string());
        sql.push(" AND (state = 'held' OR (state = 'releasing' AND lease_ms < ").bind(now_ms).push("))");
        if !names.is_empty() {
            sql.push(" AND recipient IN (");
            for (place, name) in names.iter().enumerate() {
                sql.push(if place == 0 { "" } else { ", " }).text(name);
            }
            sql.push(")");
        }
        sql.execute(&self.write).await.map_err(StoreError::query("delete from the quarantine"))
    }

    /// Notes a single-use pass.
    pub(super) async fn add_pass(&self, nonce: &str, id: MessageId, expires_ms: i64) -> Result<(), StoreError> {
        let mut sql = Sql::new("INSERT INTO release_passes (nonce, message_id, expires_ms) VALUES (");
        sql.bind(nonce).comma().bind(id.to_string()).comma().bind(expires_ms).push(")");
        sql.execute(&self.write).await.map(drop).map_err(StoreError::query("note a release pass"))
    }

    /// Uses a pass up; `false` when it is unknown, used or too old.
    pub(super) async fn use_pass(&self, nonce: &str, now_ms: i64) -> Result<bool, StoreError> {
        let mut sql = Sql::new("UPDATE release_passes SET used_ms = ");
        sql.bind(now_ms)
            .push(" WHERE nonce = ")
            .text(nonce)
            .push(" AND used_ms IS NULL AND expires_ms >= ")
            .bind(now_ms);
        Ok(sql.execute(&self.write).await.map_err(StoreError::query("use a release pass"))? == 1)
    }
}

/// The statement of a list.
fn list(query: &HeldQuery) -> Sql {
    let mut sql = Sql::new(
        "SELECT id, held_ms, reason, risk, sender, sender_params, from_address, subject, client_ip, size, body \
         FROM quarantine WHERE id IN (SELECT message_id FROM quarantine_recipients WHERE ",
    );
    match &query.state {
        Some(state) => sql.push("state = ").text(state),
        None => sql.push("state IN ('held', 'releasing')"),
    };
    if let Some(to) = &query.to {
        sql.push(" AND LOWER(recipient) = ").text(&to.to_lowercase());
    }
    if let Some(tenant) = &query.tenant {
        sql.push(" AND tenant = ").text(tenant);
    }
    sql.push(")");
    if let Some(before) = query.before {
        sql.push(" AND id < ").bind(before.to_string());
    }
    sql.push(" ORDER BY id DESC LIMIT ").bind(i64::from(query.limit.clamp(1, PAGE_MAX)));
    sql
}

/// The statement for the recipients of these messages.
fn recipients_of(messages: &[HeldMessage]) -> Sql {
    let mut sql = Sql::new(
        "SELECT message_id, recipient, params, tenant, reason, state, lease_ms, attempts, last_error, settled_ms \
         FROM quarantine_recipients WHERE message_id IN (",
    );
    for (place, message) in messages.iter().enumerate() {
        sql.push(if place == 0 { "" } else { ", " }).bind(message.id.to_string());
    }
    sql.push(") ORDER BY message_id, recipient");
    sql
}

fn with_recipients(mut messages: Vec<HeldMessage>, rows: &[AnyRow]) -> Result<Vec<HeldMessage>, sqlx::Error> {
    let mut recipients: BTreeMap<String, Vec<RecipientState>> = BTreeMap::new();
    for row in rows {
        let (id, recipient) = read_recipient(row)?;
        recipients.entry(id).or_default().push(recipient);
    }
    for message in &mut messages {
        message.recipients = recipients.remove(&message.id.to_string()).unwrap_or_default();
    }
    Ok(messages)
}

fn words(text: String) -> Vec<String> {
    text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn read_message(row: &AnyRow) -> Result<HeldMessage, sqlx::Error> {
    let id: String = row.try_get("id")?;
    Ok(HeldMessage {
        id: id.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
        held_ms: row.try_get("held_ms")?,
        reason: row.try_get("reason")?,
        risk: row.try_get("risk")?,
        sender: row.try_get("sender")?,
        sender_params: words(row.try_get("sender_params")?),
        from: row.try_get("from_address")?,
        subject: row.try_get("subject")?,
        client_ip: row.try_get("client_ip")?,
        size: row.try_get("size")?,
        body: row.try_get("body")?,
        recipients: Vec::new(),
    })
}

fn read_recipient(row: &AnyRow) -> Result<(String, RecipientState), sqlx::Error> {
    let state: String = row.try_get("state")?;
    let state = HeldState::parse(&state).ok_or_else(|| sqlx::Error::Decode(format!("unknown state {state}").into()))?;
    let recipient = RecipientState {
        recipient: row.try_get("recipient")?,
        params: words(row.try_get("params")?),
        tenant: row.try_get("tenant")?,
        reason: row.try_get("reason")?,
        state,
        lease_ms: row.try_get("lease_ms")?,
        attempts: row.try_get("attempts")?,
        last_error: row.try_get("last_error")?,
        settled_ms: row.try_get("settled_ms")?,
    };
    Ok((row.try_get("message_id")?, recipient))
}
