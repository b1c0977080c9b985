//! History of senders: counted by day with the ledger's commit, read as it was at a given time.
//!
//! A row counts only when nothing in it is younger than the time asked for; first times count by themselves. So nothing
//! from after that time is seen; of the day itself a replay may see less than there was. All keys of a message are one
//! query over the primary key. A commit whose answer is lost and that is tried again may count a message twice.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::sql::Sql;
use super::store::Store;
use super::{Record, StoreError};
use crate::analysis::{DmarcResult, Fact, History, HistoryKeys, Membership, Prevalence, Profile, Why};
use crate::mail::registrable_domain;
use crate::policy::{Action, Reason};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const HOUR_MS: i64 = 60 * 60 * 1_000;
/// A first time that never was.
const NEVER: i64 = i64::MAX;
/// The row of the very first message.
pub(super) const START: &str = "*";
/// Longest time for a transaction; half of what its sign is good for.
const COMMIT: Duration = Duration::from_secs(30);
/// Rows in one statement: 13 values each, and PostgreSQL takes at most 65,535.
const ROWS: usize = 2_048;

/// What is remembered of senders, and what their prevalence means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryConfig {
    /// Days that the history is kept. 0: for ever.
    pub keep_days: u32,
    /// Days after the first message during which nothing is said: everybody would be new.
    pub warm_up_days: u32,
    /// Hours after first contact during which a sender is `new`.
    pub new_hours: u32,
    /// Days that are looked back to tell how often somebody writes.
    pub prevalence_days: u32,
    /// Messages within those days up to which a known sender is an `outlier`.
    pub outlier_messages: u32,
    /// Messages within those days from which a sender is `common`; between the two it is `rare`.
    pub common_messages: u32,
    /// Different days on which a `common` sender wrote.
    pub common_days: u32,
    /// Addresses and domains of one message that are looked up.
    pub max_names: usize,
    /// Size of the filter that tells without the database who never wrote; at 10 MB one of a hundred of eight million is asked
    /// about in vain. 0: none. Only with the embedded database: others write to PostgreSQL too, and a filter that does not know of
    /// it would deny them.
    pub filter_bytes: u64,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self {
            keep_days: 400,
            warm_up_days: 14,
            new_hours: 12,
            prevalence_days: 90,
            outlier_messages: 2,
            common_messages: 10,
            common_days: 3,
            max_names: 200,
            filter_bytes: 10 << 20,
        }
    }
}

/// What is added to one row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    inbound: i64,
    outbound: i64,
    benign: i64,
    malicious: i64,
    false_positive: i64,
    auth_failed: i64,
    first_in_ms: i64,
    last_in_ms: i64,
    first_out_ms: i64,
    last_out_ms: i64,
    last_ms: i64,
}

impl Counts {
    const NONE: Self = Self {
        inbound: 0,
        outbound: 0,
        benign: 0,
        malicious: 0,
        false_positive: 0,
        auth_failed: 0,
        first_in_ms: NEVER,
        last_in_ms: 0,
        first_out_ms: NEVER,
        last_out_ms: 0,
        last_ms: 0,
    };

    fn received(at: i64) -> Self {
        Self { inbound: 1, first_in_ms: at, last_in_ms: at, last_ms: at, ..Self::NONE }
    }

    fn sent(at: i64) -> Self {
        Self { outbound: 1, first_out_ms: at, last_out_ms: at, last_ms: at, ..Self::NONE }
    }

    fn add(&mut self, other: &Self) {
        self.inbound += other.inbound;
        self.outbound += other.outbound;
        self.benign += other.benign;
        self.malicious += other.malicious;
        self.false_positive += other.false_positive;
        self.auth_failed += other.auth_failed;
        self.first_in_ms = self.first_in_ms.min(other.first_in_ms);
        self.last_in_ms = self.last_in_ms.max(other.last_in_ms);
        self.first_out_ms = self.first_out_ms.min(other.first_out_ms);
        self.last_out_ms = self.last_out_ms.max(other.last_out_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
    }
}

/// What messages add, by row; in the order of the key, so that two writers never wait for each other crosswise.
pub(super) type Additions = BTreeMap<(String, i64), Counts>;

/// What one message adds.
pub(super) fn additions(record: &Record) -> Additions {
    let at = record.received_ms;
    let mut all = Additions::new();
    add(&mut all, START.to_owned(), 0, &Counts { first_in_ms: at, ..Counts::NONE });
    let failed = record.facts.dmarc.known().is_some_and(|dmarc| dmarc.result == DmarcResult::Fail);
    let auth_failed = i64::from(failed);
    let from_outside = match record.action {
        Action::Allow => Counts { benign: 1, auth_failed, ..Counts::received(at) },
        Action::Tag => Counts { auth_failed, ..Counts::received(at) },
        // What it is worth is not known yet.
        Action::Quarantine if waits(record) => Counts { auth_failed, last_ms: at, ..Counts::NONE },
        Action::Quarantine | Action::Reject => Counts { malicious: 1, auth_failed, last_ms: at, ..Counts::NONE },
        // It will come again.
        Action::Defer => return all,
    };
    add_senders(&mut all, record, at, &from_outside);
    if matches!(record.action, Action::Allow | Action::Tag) {
        add_names(&mut all, &record.contact.we_wrote_to, at, &Counts::sent(at));
        for name in &record.contact.we_wrote_to {
            add(&mut all, format!("r:{name}"), at / DAY_MS, &Counts::sent(at));
        }
    }
    all
}

/// What the release of a held message at `at` adds: it was received after all, and was no harm.
pub(super) fn released(record: &Record, at: i64) -> Additions {
    let mut all = Additions::new();
    let counts = if waits(record) {
        Counts { benign: 1, ..Counts::received(at) }
    } else {
        Counts { false_positive: 1, ..Counts::received(at) }
    };
    add_senders(&mut all, record, at, &counts);
    all
}

/// Whether it was held only until it would be looked at again.
fn waits(record: &Record) -> bool {
    record.verdicts.iter().any(|one| one.verdict.reason == Reason::Waiting)
}

fn add_senders(all: &mut Additions, record: &Record, at: i64, counts: &Counts) {
    add_names(all, &record.contact.wrote_to_us, at, counts);
    for name in &record.contact.reply_to {
        add(all, format!("r:{name}"), at / DAY_MS, counts);
    }
}

/// Adds to addresses and to their domains, to each once a message.
fn add_names(all: &mut Additions, addresses: &[String], at: i64, counts: &Counts) {
    let mut names: Vec<String> = Vec::new();
    for address in addresses {
        names.push(format!("a:{address}"));
        if let Some((_, domain)) = address.rsplit_once('@') {
            names.push(format!("d:{domain}"));
            names.extend(registrable_domain(domain).map(|above| format!("d:{above}")));
        }
    }
    names.sort();
    names.dedup();
    names.into_iter().for_each(|name| add(all, name, at / DAY_MS, counts));
}

fn add(all: &mut Additions, who: String, day: i64, counts: &Counts) {
    all.entry((who.replace('\0', "\u{fffd}"), day)).or_insert(Counts::NONE).add(counts);
}

/// Puts the additions of several messages together.
pub(super) fn together<'a>(each: impl Iterator<Item = &'a Additions>) -> Additions {
    let mut all = Additions::new();
    for ((who, day), counts) in each.flatten() {
        add(&mut all, who.clone(), *day, counts);
    }
    all
}

/// Writes additions within a transaction.
pub(super) async fn write(
    additions: &Additions,
    sqlite: bool,
    transaction: &mut sqlx::AnyConnection,
) -> Result<(), sqlx::Error> {
    let rows: Vec<_> = additions.iter().collect();
    for some in rows.chunks(ROWS) {
        let into = "INSERT INTO history (who, day, inbound, outbound, benign, malicious, false_positive, auth_failed, \
                    first_in_ms, last_in_ms, first_out_ms, last_out_ms, last_ms) VALUES ";
        let mut sql = Sql::many(into, sqlite);
        sql.rows(some, |sql, ((who, day), c)| {
            sql.text(who).comma().bind(*day);
            let counts = [c.inbound, c.outbound, c.benign, c.malicious, c.false_positive, c.auth_failed];
            let times = [c.first_in_ms, c.last_in_ms, c.first_out_ms, c.last_out_ms, c.last_ms];
            for value in counts.into_iter().chain(times) {
                sql.comma().bind(value);
            }
        });
        sql.push(
            " ON CONFLICT (who, day) DO UPDATE SET \
             inbound = history.inbound + excluded.inbound, \
             outbound = history.outbound + excluded.outbound, \
             benign = history.benign + excluded.benign, \
             malicious = history.malicious + excluded.malicious, \
             false_positive = history.false_positive + excluded.false_positive, \
             auth_failed = history.auth_failed + excluded.auth_failed, \
             first_in_ms = CASE WHEN excluded.first_in_ms < history.first_in_ms THEN excluded.first_in_ms ELSE history.first_in_ms END, \
             last_in_ms = CASE WHEN excluded.last_in_ms > history.last_in_ms THEN excluded.last_in_ms ELSE history.last_in_ms END, \
             first_out_ms = CASE WHEN excluded.first_out_ms < history.first_out_ms THEN excluded.first_out_ms ELSE history.first_out_ms END, \
             last_out_ms = CASE WHEN excluded.last_out_ms > history.last_out_ms THEN excluded.last_out_ms ELSE history.last_out_ms END, \
             last_ms = CASE WHEN excluded.last_ms > history.last_ms THEN excluded.last_ms ELSE history.last_ms END",
        );
        sql.execute(&mut *transaction).await?;
    }
    Ok(())
}

/// What is known of one name at a time.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    first_in_ms: Option<i64>,
    last_in_ms: Option<i64>,
    first_out_ms: Option<i64>,
    last_out_ms: Option<i64>,
    benign: bool,
    malicious: bool,
    false_positive: bool,
    auth_failed: bool,
    recent_messages: i64,
    recent_days: i64,
}

impl Known {
    fn read(row: &AnyRow) -> Result<(String, Self), sqlx::Error> {
        let number = |column: &str| row.try_get::<i64, _>(column);
        let first = |column: &str| Ok::<_, sqlx::Error>(Some(number(column)?).filter(|ms| *ms != NEVER));
        let last = |column: &str| Ok::<_, sqlx::Error>(Some(number(column)?).filter(|ms| *ms != 0));
        let known = Self {
            first_in_ms: first("first_in")?,
            last_in_ms: last("last_in")?,
            first_out_ms: first("first_out")?,
            last_out_ms: last("last_out")?,
            benign: number("benign")? > 0,
            malicious: number("malicious")? > 0,
            false_positive: number("false_positive")? > 0,
            auth_failed: number("auth_failed")? > 0,
            recent_messages: number("recent_messages")?,
            recent_days: number("recent_days")?,
        };
        Ok((row.try_get("who")?, known))
    }

    fn profile(&self, at: i64, config: &HistoryConfig) -> Profile {
        let first = [self.first_in_ms, self.first_out_ms].into_iter().flatten().min();
        // The first time of a day is known where the last one is hidden behind a later message.
        let last_in = self.last_in_ms.max(self.first_in_ms);
        let last_out = self.last_out_ms.max(self.first_out_ms);
        let days = |then: Option<i64>| then.map(|then| (at - then).max(0) / DAY_MS);
        let new_ms = i64::from(config.new_hours) * HOUR_MS;
        let prevalence = match first {
            None => Prevalence::New,
            Some(first) if at - first < new_ms => Prevalence::New,
            _ if self.recent_messages <= i64::from(config.outlier_messages) => Prevalence::Outlier,
            _ if self.recent_messages >= i64::from(config.common_messages)
                && self.recent_days >= i64::from(config.common_days) =>
            {
                Prevalence::Common
            }
            _ => Prevalence::Rare,
        };
        Profile {
            prevalence,
            solicited: self.first_out_ms.is_some(),
            any_messages_benign: self.benign,
            any_messages_malicious_or_spam: self.malicious,
            any_false_positives: self.false_positive,
            auth_failed: self.auth_failed,
            days_known: days(first).unwrap_or(0),
            days_since_first_contact: days(first),
            days_since_last_contact: days(last_in.max(last_out)),
            days_since_last_inbound: days(last_in),
            days_since_last_outbound: days(last_out),
        }
    }
}

impl Store {
    /// What was known at `at` (milliseconds since 1970), not counting anything from that moment on.
    pub(super) async fn history(
        &self,
        at: i64,
        keys: &HistoryKeys,
        config: &HistoryConfig,
    ) -> Result<Fact<History>, StoreError> {
        let name = |name: &str| format!("{}:{name}", if name.contains('@') { 'a' } else { 'd' });
        let mut who: Vec<String> = keys.names.iter().map(|n| name(n)).collect();
        who.extend(keys.sender_email.as_deref().map(|n| format!("a:{n}")));
        who.extend(keys.sender_domain.as_deref().map(|n| format!("d:{n}")));
        who.extend(keys.reply_to.as_deref().map(|n| format!("r:{n}")));
        who.sort();
        who.dedup();
        let warm_up_ms = i64::from(config.warm_up_days) * DAY_MS;
        let (rows, started) =
            self.known(at, who, warm_up_ms, config).await.map_err(StoreError::query("read the history"))?;
        if started.is_none_or(|started| at - started < warm_up_ms) {
            return Ok(Fact::Unknown(Why::WarmingUp));
        }
        let known = |who: String| rows.get(&who.replace('\0', "\u{fffd}")).copied().unwrap_or_default();
        let profile = |kind: char, name: &Option<String>| {
            name.as_deref().map(|name| known(format!("{kind}:{name}")).profile(at, config))
        };
        let by_sender_email = profile('a', &keys.sender_email);
        let by_sender_domain = profile('d', &keys.sender_domain);
        let member = |n: &String| {
            let known = known(name(n));
            let membership =
                Membership { sender: known.first_in_ms.is_some(), recipient: known.first_out_ms.is_some() };
            (n.clone(), membership)
        };
        Ok(Fact::Known(History {
            by_sender: if keys.free_mail { by_sender_email.clone() } else { by_sender_domain.clone() },
            by_sender_email,
            by_sender_domain,
            by_reply_to: profile('r', &keys.reply_to),
            members: keys.names.iter().map(member).collect(),
        }))
    }

    /// What is known of these names, and when the first message came. Those that were never seen are not asked about; when that
    /// is all of them, and the first message came long enough ago, the database is not asked at all.
    async fn known(
        &self,
        at: i64,
        who: Vec<String>,
        warm_up_ms: i64,
        config: &HistoryConfig,
    ) -> Result<(BTreeMap<String, Known>, Option<i64>), sqlx::Error> {
        let seen = self.seen.get().filter(|seen| seen.is_whole());
        let mut asked: Vec<String> = who.iter().map(|name| name.replace('\0', "\u{fffd}")).collect();
        if let Some(seen) = seen {
            asked = seen.known(&asked);
            let started = seen.started_ms().filter(|started| at.saturating_sub(*started) >= warm_up_ms);
            if asked.is_empty() && started.is_some() {
                self.meters.saved.inc();
                return Ok((BTreeMap::new(), started));
            }
        }
        self.meters.asked.inc();
        let names = asked.len();
        asked.push(START.to_owned());
        let rows = self.history_rows(at, &asked, config).await?;
        let started = rows.get(START).and_then(|known| known.first_in_ms);
        if let Some(seen) = seen {
            seen.found(names, rows.len() - usize::from(rows.contains_key(START)));
            started.into_iter().for_each(|ms| seen.starts(ms));
        }
        Ok((rows, started))
    }

    /// To be called before a transaction that writes these: see [`super::seen`].
    pub(super) fn history_comes(&self, additions: &Additions) -> Result<(), sqlx::Error> {
        match (self.seen.get(), &self.sign) {
            (Some(seen), _) => seen.comes(additions),
            (None, Some(sign)) => super::seen::touch(sign)?,
            (None, None) => {}
        }
        Ok(())
    }

    async fn history_rows(
        &self,
        at: i64,
        who: &[String],
        config: &HistoryConfig,
    ) -> Result<BTreeMap<String, Known>, sqlx::Error> {
        let mut sql = Sql::new("SELECT who");
        for (sum, name) in [
            (", CAST(SUM(CASE WHEN last_ms < ", " THEN benign ELSE 0 END) AS BIGINT) AS benign"),
            (", CAST(SUM(CASE WHEN last_ms < ", " THEN malicious ELSE 0 END) AS BIGINT) AS malicious"),
            (", CAST(SUM(CASE WHEN last_ms < ", " THEN false_positive ELSE 0 END) AS BIGINT) AS false_positive"),
            (", CAST(SUM(CASE WHEN last_ms < ", " THEN auth_failed ELSE 0 END) AS BIGINT) AS auth_failed"),
            (", CAST(MAX(CASE WHEN last_in_ms < ", " THEN last_in_ms ELSE 0 END) AS BIGINT) AS last_in"),
            (", CAST(MAX(CASE WHEN last_out_ms < ", " THEN last_out_ms ELSE 0 END) AS BIGINT) AS last_out"),
            (
                ", CAST(MIN(CASE WHEN first_in_ms < ",
                " THEN first_in_ms ELSE 9223372036854775807 END) AS BIGINT) AS first_in",
            ),
            (
                ", CAST(MIN(CASE WHEN first_out_ms < ",
                " THEN first_out_ms ELSE 9223372036854775807 END) AS BIGINT) AS first_out",
            ),
        ] {
            sql.push(sum).bind(at).push(name);
        }
        let since = at / DAY_MS - i64::from(config.prevalence_days);
        sql.push(", CAST(SUM(CASE WHEN day > ").bind(since).push(" AND last_ms < ").bind(at);
        sql.push(" THEN inbound + outbound ELSE 0 END) AS BIGINT) AS recent_messages");
        sql.push(", CAST(SUM(CASE WHEN day > ").bind(since).push(" AND last_ms < ").bind(at);
        sql.push(" AND inbound + outbound > 0 THEN 1 ELSE 0 END) AS BIGINT) AS recent_days");
        sql.push(" FROM history WHERE day <= ").bind(at / DAY_MS).push(" AND who IN (");
        for (place, one) in who.iter().enumerate() {
            sql.push(if place == 0 { "" } else { ", " }).text(one);
        }
        sql.push(") GROUP BY who");
        sql.fetch(&self.read).await?.iter().map(Known::read).collect()
    }

    /// Writes what a release adds.
    pub(super) async fn add_history(&self, additions: &Additions) -> Result<(), StoreError> {
        let inserts = async {
            self.history_comes(additions)?;
            let mut transaction = self.write.begin().await?;
            write(additions, self.sqlite, &mut transaction).await?;
            transaction.commit().await
        };
        in_time(inserts).await.map_err(StoreError::query("add to the history"))
    }
}

/// A commit that comes later than the sign before it is good for must not come at all.
pub(super) async fn in_time<T>(inserts: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(COMMIT, inserts).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
