//! The plans of real queries: none that runs for a message or for the API reads a whole big table. And the copy for searches.
//!
//! The statements are those that the records ran: `sqlx` traces their text, without values.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mailweir::analysis::{CampaignConfig, HistoryKeys, Likeness};
use mailweir::records::{
    BY_LOOK, Burial, Change, Config, HeldQuery, MessageQuery, OutboxJob, Reassessment, WantedAction,
};
use sqlx::any::AnyPoolOptions;
use sqlx::{AssertSqlSafe, Row};
use tracing::field::{Field, Visit};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

use crate::support::postgres::{Postgres, available};
use crate::support::records::{Open, Place, id_at, now_ms, record};

/// The tables that grow.
const BIG: [&str; 11] = [
    "actions",
    "history",
    "kept",
    "likenesses",
    "message_recipients",
    "messages",
    "outbox",
    "quarantine",
    "quarantine_recipients",
    "reassessments",
    "release_passes",
];

/// Every statement that was run in this process since it was looked at.
static STATEMENTS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

struct Statements;

#[derive(Default)]
struct Text {
    summary: String,
    statement: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.statement),
            _ => {}
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn std::fmt::Debug) {}
}

impl<S: tracing::Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let statement = if text.statement.is_empty() { text.summary } else { text.statement };
        let mut all = STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(statement.trim().to_owned());
    }
}

/// Listens to all threads: the drivers have threads of their own.
fn listen() {
    let only = Targets::new().with_target("sqlx::query", LevelFilter::TRACE);
    // The second test finds the first one's.
    let _ = tracing::subscriber::set_global_default(Registry::default().with(Statements.with_filter(only)));
}

/// Whether a statement is ours to look at.
fn looked_at(statement: &str) -> bool {
    let verb = ["SELECT ", "UPDATE ", "DELETE ", "WITH "].iter().any(|verb| statement.starts_with(verb));
    let ours = statement.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| BIG.contains(&word));
    // Operators' counts (every five minutes at most), retention (hourly, in steps), the filter's filling at the start.
    let seldom = [
        "SELECT count(*)",
        "SELECT DISTINCT who",
        "DELETE FROM history",
        "DELETE FROM messages",
        "DELETE FROM outbox WHERE dead_ms > 0 AND dead_ms <",
    ];
    let tests = statement.contains("pg_") || statement.contains("sqlite_");
    verb && ours && !tests && !seldom.iter().any(|start| statement.starts_with(start))
}

/// Everything that runs for a message, for its second look, or for the API.
async fn exercise(open: &Open) {
    let (records, now) = (&open.records, now_ms());
    let one = record(id_at(now, 1), "plans", &["a@example.com", "b@example.com"]);
    let id = one.id;
    open.note(std::slice::from_ref(&one)).await;
    open.hold(&one, b"raw").await.unwrap();
    let some = |text: &str| Some(text.to_owned());
    let none = || MessageQuery { limit: 50, ..MessageQuery::default() };
    let queries = [
        none(),
        MessageQuery { from: some("a@b.example"), ..none() },
        MessageQuery { from: some("b.example"), ..none() },
        MessageQuery { sender: some("a@b.example"), ..none() },
        MessageQuery { sender: some("b.example"), ..none() },
        MessageQuery { to: some("a@example.com"), ..none() },
        MessageQuery { subject: some("plans"), ..none() },
        MessageQuery { client_ip: some("192.0.2.7"), ..none() },
        MessageQuery { header_id: some("x@y"), ..none() },
        MessageQuery { action: some("reject"), ..none() },
        MessageQuery { signal: some("EICAR"), ..none() },
        MessageQuery { tenant: some("default"), ..none() },
        MessageQuery { since_ms: Some(1), until_ms: Some(u64::MAX >> 20), ..none() },
        MessageQuery { risk_min: Some(50.0), before: Some(id), ..none() },
    ];
    for query in &queries {
        records.messages(query).await.unwrap();
    }
    let held = || HeldQuery { limit: 50, ..HeldQuery::default() };
    for query in [
        held(),
        HeldQuery { state: some("released"), ..held() },
        HeldQuery { to: some("a@example.com"), ..held() },
        HeldQuery { tenant: some("default"), before: Some(id), ..held() },
    ] {
        records.held(&query).await.unwrap();
    }
    records.held_message(id).await.unwrap();
    let mut keys = HistoryKeys {
        sender_email: some("a@b.example"),
        sender_domain: some("b.example"),
        reply_to: some("r@b.example"),
        ..HistoryKeys::default()
    };
    keys.names.insert("c@d.example".into());
    records.history(now, &keys).await.unwrap();
    let likeness = Likeness { text: 7, words: 40, links: 7, sender: "a@b.example".into() };
    let campaigns = CampaignConfig { enabled: true, ..CampaignConfig::default() };
    records.campaign(now, (id, &likeness, &one.envelope), &campaigns).await.unwrap();
    let job = |key: &str| OutboxJob {
        key: key.into(),
        kind: "reassess".into(),
        priority: 1,
        payload: b"{}".to_vec(),
        correlation: "c".into(),
        enqueued_ms: now,
        not_before_ms: 0,
    };
    let two = record(id_at(now, 2), "kept", &["a@example.com"]);
    let jobs = (vec![job("reassess:1")], vec![job("reassess:2")]);
    records.keep_and_note(&two, Bytes::from_static(b"raw"), (1 << 20, 0), jobs).await.unwrap();
    assert!(records.kept_bytes(two.id).await.unwrap().is_some());
    let second = Reassessment { at_ms: now, change: Change::Worse, record: two.clone() };
    let action = WantedAction { kind: "alert".into(), cause: BY_LOOK, recipients: vec!["a@example.com".into()] };
    records.note_reassessment(&second, vec![action.clone()], vec![job("alert:2")]).await.unwrap();
    records.want_actions(two.id, vec![action], Vec::new(), now).await.unwrap();
    records.action_done(two.id, ("alert", BY_LOOK), "told", now).await.unwrap();
    records.reassessment(two.id).await.unwrap();
    records.actions(two.id).await.unwrap();
    records.unfinished(now, 10).await.unwrap();
    records.queued(&[("alert:2".into(), now)]).await.unwrap();
    let burial = |key: &str| Burial {
        key: key.into(),
        reason: "attempts".into(),
        error: String::new(),
        attempts: 1,
        dead_ms: now,
    };
    records.bury(&[burial("alert:2")], now).await.unwrap();
    records.buried(now, 10).await.unwrap();
    records.revive(Some(&["alert:2".into()]), now).await.unwrap();
    records.purge_dead(Some(&["alert:2".into()])).await.unwrap();
    records.done(&["alert:2".into()]).await.unwrap();
    records.add_pass("nonce", id, now + 1_000).await.unwrap();
    records.use_pass("nonce", now).await.unwrap();
    let leases = records.begin_release(id, &["a@example.com".into()], now).await.unwrap();
    records.renew_release(id, &leases[0], now).await.unwrap();
    records.end_release(id, &leases, Ok(now)).await.unwrap();
    records.delete_held(id, &["b@example.com".into()], now).await.unwrap();
    records.ping().await.unwrap();
    records.expire(now).await.unwrap();
}

fn statements() -> Vec<String> {
    let all = STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let ours: Vec<String> = all.iter().filter(|statement| looked_at(statement)).cloned().collect();
    assert!(ours.len() > 40, "only {} statements were seen: {ours:#?}", ours.len());
    ours
}

#[tokio::test]
async fn sqlite_reads_no_whole_table() {
    listen();
    let place = Place::new("");
    let open = place.open().await;
    exercise(&open).await;
    let ours = statements();
    let pool = AnyPoolOptions::new().max_connections(1).connect(&place.url()).await.unwrap();
    let mut wrong = Vec::new();
    for statement in ours {
        let explain = format!("EXPLAIN QUERY PLAN {statement}");
        // A statement of another test, against PostgreSQL only.
        let Ok(plan) = sqlx::query(AssertSqlSafe(explain)).fetch_all(&pool).await else { continue };
        for row in plan {
            let detail: String = row.try_get("detail").unwrap();
            let Some(table) = detail.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next()) else { continue };
            // By an index, in order, to the end of a page; and what is kept, which has a bound, by an index of its own.
            let paged = statement.contains("LIMIT") && detail.contains("USING");
            let summed = statement.contains("SUM(size)") && detail.contains("COVERING INDEX kept_size");
            if BIG.contains(&table) && !paged && !summed {
                wrong.push(format!("{detail}: {statement}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    open.close().await;
}

#[tokio::test]
async fn postgresql_has_an_index_for_every_query() {
    if !available("plans::postgresql_has_an_index_for_every_query") {
        return;
    }
    listen();
    let postgres = Postgres::start().await;
    let place = Place::new(&postgres.url);
    let open = place.open().await;
    exercise(&open).await;
    let ours = statements();
    let pool = AnyPoolOptions::new().max_connections(1).connect(&place.url()).await.unwrap();
    for setting in ["SET enable_seqscan = off", "SET plan_cache_mode = force_generic_plan"] {
        sqlx::raw_sql(setting).execute(&pool).await.unwrap();
    }
    let (mut wrong, mut explained) = (Vec::new(), 0);
    for (number, statement) in ours.iter().enumerate() {
        let prepare = format!("PREPARE p{number} AS {statement}");
        // A statement of another test, against SQLite only: `?` for a value.
        if sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&pool).await.is_err() {
            continue;
        }
        let values = (1..=2_000).take_while(|n| statement.contains(&format!("${n}"))).count();
        let values = vec!["NULL"; values].join(", ");
        let values = if values.is_empty() { values } else { format!("({values})") };
        let explain = format!("EXPLAIN EXECUTE p{number}{values}");
        let plan = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&pool).await;
        let plan = plan.unwrap_or_else(|error| panic!("{error}: {statement}"));
        explained += 1;
        for row in plan {
            let line: String = row.try_get(0).unwrap();
            let scanned = line.split_once("Seq Scan on ").and_then(|(_, rest)| rest.split(' ').next());
            if scanned.is_some_and(|table| BIG.contains(&table)) {
                wrong.push(format!("{}: {statement}", line.trim()));
            }
        }
    }
    assert!(explained > 40, "only {explained}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    open.close().await;
}

#[tokio::test]
async fn searches_go_to_the_copy_and_come_back_when_it_is_gone() {
    let (first, copy) = (Place::new(""), Place::new(""));
    let now = now_ms();
    let (here, there) =
        (record(id_at(now, 1), "first", &["a@example.com"]), record(id_at(now, 2), "copy", &["a@example.com"]));
    let open = copy.open().await;
    open.note(std::slice::from_ref(&there)).await;
    open.hold(&there, b"raw").await.unwrap();
    open.close().await;
    let with = |url: String| Place {
        config: Config { replica_url: url, ..first.config.clone() },
        data: tempfile::tempdir().unwrap(),
    };
    let place = with(copy.url());
    let open = place.open().await;
    open.note(std::slice::from_ref(&here)).await;
    open.hold(&here, b"raw").await.unwrap();
    let query = MessageQuery { limit: 10, ..MessageQuery::default() };
    let found = async |open: &Open| {
        let messages = open.records.messages(&query).await.unwrap();
        let held = open.records.held(&HeldQuery { limit: 10, ..HeldQuery::default() }).await.unwrap();
        assert!(held.iter().all(|one| one.recipients.len() == 1), "{held:?}");
        (
            messages.into_iter().map(|one| one.id).collect::<Vec<_>>(),
            held.into_iter().map(|one| one.id).collect::<Vec<_>>(),
        )
    };
    assert_eq!(found(&open).await, (vec![there.id], vec![there.id]));
    assert!(open.records.record(here.id).await.unwrap().is_some(), "a single message is looked up where it is written");
    assert_eq!(open.metric("mailweir_database_replica_fallbacks_total"), 0);
    open.close().await;
    let gone = with(format!("sqlite://{}", copy.path().join("gone.db").display()));
    let open = gone.open().await;
    open.note(std::slice::from_ref(&here)).await;
    assert_eq!(found(&open).await, (vec![here.id], Vec::new()));
    assert!(open.metric("mailweir_database_replica_fallbacks_total") >= 2);
    open.close().await;
    assert!(!copy.path().join("gone.db").exists(), "nothing is made there");
}

/// A copy that stands still is not asked: who searches would be told that there is nothing.
#[tokio::test]
async fn a_copy_that_is_behind_is_not_asked() {
    if !available("plans::a_copy_that_is_behind") {
        return;
    }
    let postgres = Postgres::start().await;
    let url = |name: &str| format!("{}{name}", postgres.url.strip_suffix("postgres").expect("a database's name"));
    let pool = AnyPoolOptions::new().max_connections(1).connect(&postgres.url).await.unwrap();
    for name in ["first", "copy"] {
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&pool).await.unwrap();
    }
    let now = now_ms();
    let old = record(id_at(now - 600_000, 1), "both have it", &["a@example.com"]);
    let open = Place::new(&url("copy")).open().await;
    open.note(std::slice::from_ref(&old)).await;
    open.close().await;
    let first = Place::new(&url("first"));
    let config = Config { replica_url: url("copy"), replica_max_lag_seconds: 60, ..first.config.clone() };
    let place = Place { config, data: tempfile::tempdir().unwrap() };
    let found = async |open: &Open| {
        let query = MessageQuery { limit: 10, ..MessageQuery::default() };
        open.records.messages(&query).await.unwrap().into_iter().map(|one| one.id).collect::<Vec<_>>()
    };
    let open = place.open().await;
    open.note(std::slice::from_ref(&old)).await;
    assert_eq!(open.records.replica_lag().await.unwrap(), Duration::ZERO);
    // A little behind: it is asked, and told how much.
    let young = record(id_at(now - 20_000, 2), "the copy lacks it", &["a@example.com"]);
    open.note(std::slice::from_ref(&young)).await;
    let lag = open.records.replica_lag().await.unwrap().as_secs();
    assert!((20..60).contains(&lag), "{lag}");
    assert_eq!(found(&open).await, [old.id]);
    assert_eq!(open.metric("mailweir_database_replica_fallbacks_total"), 0);
    // Too far behind.
    let middle = record(id_at(now - 120_000, 3), "the copy lacks it for long", &["a@example.com"]);
    open.note(std::slice::from_ref(&middle)).await;
    let lag = open.records.replica_lag().await.unwrap().as_secs();
    assert!((120..600).contains(&lag), "{lag}");
    assert_eq!(found(&open).await, [young.id, middle.id, old.id], "nothing is missing");
    assert!(open.metric("mailweir_database_replica_fallbacks_total") >= 1);
    open.close().await;
    // And known at once after a start.
    let open = place.open().await;
    assert_eq!(found(&open).await.len(), 3);
    open.close().await;
    // It catches up.
    let copy = Place::new(&url("copy")).open().await;
    copy.note(&[young.clone(), middle.clone()]).await;
    copy.close().await;
    let open = place.open().await;
    assert_eq!(found(&open).await.len(), 3);
    assert_eq!(open.metric("mailweir_database_replica_fallbacks_total"), 0);
    open.close().await;
}
