//! Messages that say the same: digests written with the ledger's commit, looked up by four bands over an index each.
//!
//! Who comes within the linger of the ledger's writer (`ledger_linger_ms`) is not seen yet: a burst is counted a moment late.

use std::collections::BTreeSet;

use sqlx::Row;
use sqlx::any::AnyRow;

use super::sql::Sql;
use super::store::Store;
use super::{Record, Records, StoreError};
use crate::analysis::{BANDS, Campaign, CampaignConfig, Likeness};
use crate::mail::{Envelope, MessageId};

/// Recipients kept of one message.
const MAX_RECIPIENTS: usize = 50;
/// Rows in one statement: 12 values each, and PostgreSQL takes at most 65,535.
const ROWS: usize = 2_048;

/// A digest as it is kept, and whom its message tells of.
#[derive(Debug, Clone)]
pub(super) struct LikenessRow {
    id: MessageId,
    received_ms: i64,
    likeness: Likeness,
    recipients: String,
    told: bool,
    untold: Vec<MessageId>,
}

impl LikenessRow {
    pub(super) fn of(record: &Record) -> Option<Self> {
        let likeness = record.likeness.clone()?;
        let untold = record.facts.campaign.known().map(|campaign| campaign.untold.clone()).unwrap_or_default();
        Some(Self {
            id: record.id,
            received_ms: record.received_ms,
            likeness,
            recipients: serde_json::to_string(&recipients(&record.envelope)).unwrap_or_default(),
            told: record.in_campaign,
            untold,
        })
    }
}

fn recipients(envelope: &Envelope) -> BTreeSet<String> {
    envelope.recipients.iter().take(MAX_RECIPIENTS).map(|path| path.text.to_lowercase()).collect()
}

/// Writes digests within a transaction.
pub(super) async fn write(
    rows: &[&LikenessRow],
    sqlite: bool,
    transaction: &mut sqlx::AnyConnection,
) -> Result<(), sqlx::Error> {
    for some in rows.chunks(ROWS) {
        let into = "INSERT INTO likenesses (message_id, received_ms, simhash, words, links, band_0, band_1, band_2, band_3, \
                    sender, recipients, told) VALUES ";
        let mut sql = Sql::many(into, sqlite);
        sql.rows(some, |sql, row| {
            let one = &row.likeness;
            sql.bind(row.id.to_string()).comma().bind(row.received_ms).comma().bind(one.text.cast_signed()).comma();
            sql.bind(i64::from(one.words)).comma().bind(one.links.cast_signed());
            for band in one.bands() {
                sql.comma().bind(band);
            }
            sql.comma().text(&one.sender).comma().text(&row.recipients).comma().bind(i64::from(row.told));
        });
        sql.push(" ON CONFLICT (message_id) DO NOTHING");
        sql.execute(&mut *transaction).await?;
    }
    let untold: BTreeSet<String> = rows.iter().flat_map(|row| &row.untold).map(ToString::to_string).collect();
    for some in untold.into_iter().collect::<Vec<_>>().chunks(ROWS) {
        let mut sql = Sql::many("UPDATE likenesses SET told = 1 WHERE message_id IN (", sqlite);
        for (place, id) in some.iter().enumerate() {
            sql.push(if place == 0 { "" } else { ", " }).bind(id.clone());
        }
        sql.push(")");
        sql.execute(&mut *transaction).await?;
    }
    Ok(())
}

/// A message that may say the same.
struct Candidate {
    id: String,
    likeness: Likeness,
    recipients: Vec<String>,
    told: bool,
}

impl Candidate {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let recipients: String = row.try_get("recipients")?;
        Ok(Self {
            id: row.try_get("message_id")?,
            likeness: Likeness {
                text: row.try_get::<i64, _>("simhash")?.cast_unsigned(),
                words: u32::try_from(row.try_get::<i64, _>("words")?).unwrap_or(u32::MAX),
                links: row.try_get::<i64, _>("links")?.cast_unsigned(),
                sender: row.try_get("sender")?,
            },
            recipients: serde_json::from_str(&recipients).map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
            told: row.try_get::<i64, _>("told")? != 0,
        })
    }
}

impl Records {
    /// What came like this message within the window before `at_ms` (milliseconds since 1970), the message itself counted.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn campaign(
        &self,
        at_ms: i64,
        (id, likeness, envelope): (MessageId, &Likeness, &Envelope),
        config: &CampaignConfig,
    ) -> Result<Campaign, StoreError> {
        let found = self.store.alike(at_ms, likeness, config);
        let found = self.metrics.timed("campaign", found).await?;
        let own = id.to_string();
        let mut senders: BTreeSet<&str> = BTreeSet::from([likeness.sender.as_str()]);
        let mut all = recipients(envelope);
        let (mut messages, mut untold) = (1_u32, Vec::new());
        for one in found.iter().filter(|one| one.id != own && one.likeness.is_like(likeness, config.distance)) {
            messages += 1;
            senders.insert(&one.likeness.sender);
            all.extend(one.recipients.iter().cloned());
            if !one.told && untold.len() < Campaign::MAX_UNTOLD {
                untold.extend(one.id.parse::<MessageId>().ok());
            }
        }
        if messages < config.members {
            untold.clear();
        }
        untold.sort_unstable();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Campaign { messages, senders: count(senders.len()), recipients: count(all.len()), untold })
    }
}

impl Store {
    /// Those that share a band; at most `max_candidates` of each, the newest.
    async fn alike(
        &self,
        at_ms: i64,
        likeness: &Likeness,
        config: &CampaignConfig,
    ) -> Result<Vec<Candidate>, StoreError> {
        const BAND: [&str; BANDS] = [
            "SELECT * FROM (SELECT * FROM likenesses WHERE band_0 = ",
            " UNION SELECT * FROM (SELECT * FROM likenesses WHERE band_1 = ",
            " UNION SELECT * FROM (SELECT * FROM likenesses WHERE band_2 = ",
            " UNION SELECT * FROM (SELECT * FROM likenesses WHERE band_3 = ",
        ];
        const NAME: [&str; BANDS] = [") AS b0", ") AS b1", ") AS b2", ") AS b3"];
        let mut sql = Sql::new("");
        for (place, band) in likeness.bands().into_iter().enumerate() {
            sql.push(BAND[place]).bind(band).push(" AND received_ms > ").bind(at_ms.saturating_sub(config.window_ms()));
            sql.push(" AND received_ms <= ").bind(at_ms).push(" ORDER BY received_ms DESC LIMIT ");
            sql.bind(i64::from(config.max_candidates)).push(NAME[place]);
        }
        let fail = || StoreError::query("look for a campaign");
        let rows = sql.fetch(&self.read).await.map_err(fail())?;
        rows.iter().map(Candidate::read).collect::<Result<_, _>>().map_err(fail())
    }
}
