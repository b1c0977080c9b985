//! What is remembered, on SQLite and on PostgreSQL by the same tests: each takes a [`Place`] and knows no more of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mailweir::analysis::Code;
use mailweir::mail::MessageId;
use mailweir::observe::Fault;
use mailweir::policy::{Action, Reason, Verdict};
use mailweir::records::{
    ActionOrder, BY_CAMPAIGN, BY_LOOK, Burial, Change, HeldQuery, HeldState, MessageQuery, OutboxJob, Reassessment,
    Record, StoreError, WantedAction,
};
use sqlx::{AnyConnection, Connection, Executor};
use tokio::task::JoinSet;

use crate::support::postgres::{Postgres, available};
use crate::support::records::{Open, Place, id_at, now_ms, record};
use crate::support::wire::Wire;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const RAW: &[u8] = b"Subject: x\r\n\r\nHello\r\n";

async fn everything(place: &Place) {
    let open = place.open().await;
    searched(&open).await;
    paged(&open).await;
    odd_text(&open).await;
    quarantine(&open).await;
    listed(&open).await;
    passes(&open).await;
    outbox(&open).await;
    dead_letters(place, &open).await;
    many_at_once(&open).await;
    half_a_failure(place, &open).await;
    expired(place, &open).await;
    Box::pin(second_look(&open)).await;
    reopened(place, open).await;
}

#[tokio::test]
async fn sqlite() {
    everything(&Place::new("")).await;
}

#[tokio::test]
async fn postgresql() {
    if !available("records::postgresql") {
        return;
    }
    let mut postgres = Postgres::start().await;
    let place = Place::new(&postgres.url);
    everything(&place).await;

    // The server goes away: nothing is held, and it works again when it is back.
    let open = place.open().await;
    assert!(open.hold(&record(id_at(now_ms(), 1), "before", &["a@x.example"]), RAW).await.is_ok());
    postgres.stop();
    let lost = record(id_at(now_ms(), 2), "down", &["a@x.example"]);
    assert!(open.hold(&lost, RAW).await.is_err());
    assert!(open.records.ping().await.is_err());
    postgres.start_again().await;
    assert!(open.hold(&record(id_at(now_ms(), 3), "after", &["a@x.example"]), RAW).await.is_ok());
    assert!(matches!(open.records.held_message(lost.id).await, Err(StoreError::NotHeld(_))));
    open.close().await;
}

/// What is committed after its sender was told to come again is taken back, also when nobody can know whether it was.
#[tokio::test]
async fn a_commit_that_comes_too_late_is_taken_back() {
    if !available("records::a_commit_that_comes_too_late") {
        return;
    }
    let postgres = Postgres::start().await;
    let place = Place::new(&postgres.url);
    let open = place.open().await;
    let mut beside = AnyConnection::connect(&postgres.url).await.unwrap();
    // The commit takes two seconds, and leaves a trace.
    let slow = "CREATE TABLE trace (id TEXT);
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_sleep(2); INSERT INTO trace VALUES (NEW.id); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON quarantine
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow();";
    beside.execute(slow).await.unwrap();
    let late = record(id_at(now_ms(), 1), "late", &["a@x.example"]);
    let job = OutboxJob {
        key: format!("waited:{}", late.id),
        kind: "waited".into(),
        priority: 0,
        payload: ActionOrder::new(late.id, "").to_bytes(),
        correlation: late.id.to_string(),
        enqueued_ms: now_ms(),
        not_before_ms: 0,
    };
    let until = tokio::time::Instant::now() + Duration::from_millis(300);
    let result = open.records.hold_until(&late, RAW.into(), &[0], vec![job], until).await;
    assert!(matches!(result, Err(StoreError::Slow(0..=300))), "{result:?}");
    let mut count = async |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql)).fetch_one(&mut beside).await.unwrap()
    };
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    while count("trace").await == 0 {
        assert!(tokio::time::Instant::now() < patience, "the late commit does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while count("quarantine").await + count("quarantine_recipients").await + count("outbox").await > 0 {
        assert!(tokio::time::Instant::now() < patience, "it is not taken back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(matches!(open.records.held_message(late.id).await, Err(StoreError::NotHeld(_))));
    beside.execute("DROP TRIGGER slow ON quarantine").await.unwrap();
    assert!(open.hold(&record(id_at(now_ms(), 2), "in time", &["a@x.example"]), RAW).await.is_ok());
    open.close().await;
}

/// A row that somebody else's transaction holds can be neither held nor taken back: the others do not wait for it.
#[tokio::test]
async fn a_row_that_is_stuck_stops_nobody() {
    if !available("records::a_row_that_is_stuck") {
        return;
    }
    let postgres = Postgres::start().await;
    let mut place = Place::new(&postgres.url);
    // Less than one try to take a row back may last.
    place.config.commit_ms = 2_000;
    let open = place.open().await;
    let mut beside = AnyConnection::connect(&postgres.url).await.unwrap();
    let stuck: Vec<Record> = (1..4).map(|n| record(id_at(now_ms(), n), "stuck", &["a@x.example"])).collect();
    beside.execute("BEGIN").await.unwrap();
    for one in &stuck {
        let row = "INSERT INTO quarantine (id, held_ms, reason, risk, sender, sender_params, from_address, subject, size, body) \
                   VALUES ($1, 1, '', 0, '', '', '', '', 1, '')";
        sqlx::query(row).bind(one.id.to_string()).execute(&mut beside).await.unwrap();
    }
    for one in &stuck {
        let error = open.hold(one, RAW).await.unwrap_err();
        assert!(matches!(error, StoreError::Query { .. }), "the server ends the wait: {error:?}");
    }
    for n in 10..20 {
        open.hold(&record(id_at(now_ms(), n), "free", &["a@x.example"]), RAW).await.unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    // Its commit comes through at last: then they are taken back.
    beside.execute("COMMIT").await.unwrap();
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    for one in &stuck {
        while !matches!(open.records.held_message(one.id).await, Err(StoreError::NotHeld(_))) {
            assert!(tokio::time::Instant::now() < patience, "it is not taken back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    open.close().await;
}

/// A server that says nothing any more costs no more time than there is.
#[tokio::test]
async fn a_silent_database_is_not_waited_for() {
    if !available("records::a_silent_database") {
        return;
    }
    let postgres = Postgres::start().await;
    let server = postgres.url.split(['@', '/']).nth(3).unwrap().parse().unwrap();
    let mut wire = Wire::to(server).await;
    let place = Place::new(&postgres.url.replace(&server.to_string(), &wire.address.to_string()));
    let open = place.open().await;
    assert!(open.hold(&record(id_at(now_ms(), 1), "before", &["a@x.example"]), RAW).await.is_ok());
    wire.hang();
    let lost = record(id_at(now_ms(), 2), "meanwhile", &["a@x.example"]);
    let (began, wait) = (tokio::time::Instant::now(), Duration::from_millis(400));
    let result = open.records.hold_until(&lost, RAW.into(), &[0], Vec::new(), began + wait).await;
    assert!(result.is_err_and(|error| error.is_retryable()));
    // Not the five seconds of `store.commit_ms`.
    assert!(began.elapsed() < Duration::from_millis(place.config.commit_ms) / 2, "{:?}", began.elapsed());
    wire.cut().await;
    wire.mend().await;
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut number = 3;
    while open.hold(&record(id_at(now_ms(), number), "after", &["a@x.example"]), RAW).await.is_err() {
        assert!(tokio::time::Instant::now() < patience, "it is not asked again");
        number += 1;
    }
    assert!(matches!(open.records.held_message(lost.id).await, Err(StoreError::NotHeld(_))));
    open.close().await;
}

/// Every filter finds what it should and nothing else.
async fn searched(open: &Open) {
    let start = now_ms();
    let mut records: Vec<Record> = (0..6).map(|n| record(id_at(start + n, 0), "plain", &["bob@x.example"])).collect();
    records[1].from = vec!["Eve@Other.example".into()];
    records[1].subject = "100% of it_all!".into();
    records[2].envelope.sender.text = "bounce@lists.example".into();
    records[2].action = Action::Reject;
    records[3].envelope.recipients[0].text = "Carol@Y.example".into();
    records[3].connection.client_ip = "2001:db8::1".parse().ok();
    records[4].score.terms[0].code = Code::ALL[1];
    records[4].score.risk = 99.0;
    records[4].verdicts[0].tenant = "strict".into();
    records[5].subject = "\u{dc}berweisung \u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}".into();
    open.note(&records).await;
    let all = || MessageQuery { since_ms: Some(start as u64), limit: 100, ..MessageQuery::default() };
    let text = |text: &str| Some(text.to_owned());
    let cases: Vec<(MessageQuery, &[usize])> = vec![
        (all(), &[5, 4, 3, 2, 1, 0]),
        (MessageQuery { from: text("EVE@other.example"), ..all() }, &[1]),
        (MessageQuery { from: text("Other.example"), ..all() }, &[1]),
        (MessageQuery { from: text("other.exampl_"), ..all() }, &[]),
        (MessageQuery { sender: text("lists.example"), ..all() }, &[2]),
        (MessageQuery { sender: text("Bounce@lists.example"), ..all() }, &[2]),
        (MessageQuery { to: text("carol@y.EXAMPLE"), ..all() }, &[3]),
        (MessageQuery { subject: text("OF IT"), ..all() }, &[1]),
        (MessageQuery { subject: text("100% of it_all!"), ..all() }, &[1]),
        (MessageQuery { subject: text("l%n"), ..all() }, &[]),
        (MessageQuery { subject: text("pl_in"), ..all() }, &[]),
        (MessageQuery { subject: text("' OR 1=1 --"), ..all() }, &[]),
        (MessageQuery { subject: text("\u{dc}berweisung"), ..all() }, &[5]),
        (MessageQuery { subject: text("\u{fc}berWEISUNG \u{43f}\u{420}"), ..all() }, &[5]),
        (MessageQuery { client_ip: text("2001:db8::1"), ..all() }, &[3]),
        (MessageQuery { header_id: Some(records[0].header_id.clone()), ..all() }, &[0]),
        (MessageQuery { action: text("reject"), ..all() }, &[2]),
        (MessageQuery { signal: text(Code::ALL[1].as_str()), ..all() }, &[4]),
        (MessageQuery { signal: text("%"), ..all() }, &[]),
        (MessageQuery { tenant: text("strict"), ..all() }, &[4]),
        (MessageQuery { risk_min: Some(98.5), ..all() }, &[4]),
        (MessageQuery { since_ms: Some(start as u64 + 2), until_ms: Some(start as u64 + 4), ..all() }, &[3, 2]),
        (MessageQuery { before: Some(records[2].id), ..all() }, &[1, 0]),
        (MessageQuery { action: text("quarantine"), from: text("from.example"), limit: 2, ..all() }, &[5, 4]),
    ];
    for (query, expected) in cases {
        let found = open.records.messages(&query).await.unwrap();
        let found: Vec<MessageId> = found.iter().map(|summary| summary.id).collect();
        let expected: Vec<MessageId> = expected.iter().map(|n| records[*n].id).collect();
        assert_eq!(found, expected, "{query:?}");
    }
    assert_eq!(open.records.record(records[4].id).await.unwrap().as_ref(), Some(&records[4]));
    assert_eq!(open.records.record(id_at(start, 9)).await.unwrap(), None);
}

async fn paged(open: &Open) {
    let start = now_ms() + 1_000;
    // Three ids in each millisecond.
    let ids: Vec<MessageId> = (0..30).map(|n| id_at(start + i64::from(n / 3), n)).collect();
    let records: Vec<Record> = ids.iter().map(|id| record(*id, "page", &["pages@x.example"])).collect();
    open.note(&records).await;
    let mut query = MessageQuery { to: Some("pages@x.example".into()), limit: 7, ..MessageQuery::default() };
    let mut found = Vec::new();
    loop {
        let page = open.records.messages(&query).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 7);
        query.before = Some(last.id);
        found.extend(page.into_iter().map(|summary| summary.id));
    }
    assert_eq!(found, ids.into_iter().rev().collect::<Vec<_>>());
}

/// NUL, quotes, other scripts, too long: kept as far as the database can, and never a failure.
async fn odd_text(open: &Open) {
    let texts = ["a\0b", "'; DROP TABLE messages; --", "\u{1f600} \u{202e}txt", "$1 ? %s :x", &"\u{e9}".repeat(3_000)];
    for (place, text) in texts.into_iter().enumerate() {
        let recipient = format!("\"{}\"@x.example", text.chars().take(60).collect::<String>());
        let mut one = record(id_at(now_ms(), 100 + place as u16), text, &[&recipient]);
        one.envelope.sender.text = format!("\"{recipient}");
        one.from = vec![text.to_owned()];
        one.header_id = text.to_owned();
        open.note(std::slice::from_ref(&one)).await;
        let raw = format!("Subject: {text}\r\n\r\n{text}\r\n");
        open.hold(&one, raw.as_bytes()).await.unwrap();
        let held = open.records.held_message(one.id).await.unwrap();
        assert_eq!(open.records.held_bytes(&held).await.unwrap(), raw.as_bytes());
        let readable = |text: &str| text.replace('\0', "\u{fffd}");
        assert_eq!(held.recipients[0].recipient, readable(&recipient));
        assert_eq!(held.sender, readable(&one.envelope.sender.text));
        assert_eq!(held.subject, readable(text));
        // What was read can be released by the name under which it was read.
        let names = [held.recipients[0].recipient.clone()];
        assert_eq!(open.records.begin_release(one.id, &names, now_ms()).await.unwrap()[0].recipient, names[0]);
    }
}

/// Jobs commit with their record and stay until they are done.
async fn outbox(open: &Open) {
    let now = now_ms();
    let job = |key: &str, enqueued_ms| OutboxJob {
        key: key.into(),
        kind: "reassess".into(),
        priority: 1,
        payload: (0..=255).collect(),
        correlation: "a\"b".into(),
        enqueued_ms,
        not_before_ms: now + 5,
    };
    let one = record(id_at(now, 400), "with jobs", &["a@x.example"]);
    open.records.note_with_jobs(&one, vec![job("first", now - 2), job("second", now - 1), job("first", now - 2)]);
    open.note(std::slice::from_ref(&one)).await;
    let due = async |at| {
        let jobs = open.records.unfinished(at, 10).await.unwrap();
        jobs.into_iter().map(|job| job.key).collect::<Vec<_>>()
    };
    assert_eq!(open.records.unfinished(now, 1).await.unwrap(), [job("first", now - 2)]);
    assert_eq!(due(now).await, ["first", "second"]);
    assert_eq!(due(now - 2).await, ["first"]);
    open.records
        .queued(&[("first".into(), now + 60), ("second".into(), now + 50), ("nobody".into(), 0)])
        .await
        .unwrap();
    assert!(due(now).await.is_empty(), "in the queue");
    assert_eq!(due(now + 60).await, ["second", "first"], "no result: due again");
    // The same cause again, and another one for the same job: it is there already.
    let two = record(id_at(now, 401), "with a job of before", &["a@x.example"]);
    open.records.note_with_jobs(&two, vec![job("first", now)]);
    open.note(std::slice::from_ref(&two)).await;
    assert_eq!(due(now + 60).await, ["second", "first"]);
    assert_eq!(open.records.done(&["first".into(), "nobody".into()]).await.unwrap(), 1);
    assert_eq!(open.records.done(&["first".into()]).await.unwrap(), 0, "one result");
    assert_eq!(due(i64::MAX).await, ["second"]);
    assert_eq!(open.records.done(&["second".into()]).await.unwrap(), 1);
}

/// A dead letter stays with its payload until somebody says what becomes of it; a row that cannot be read becomes one, and
/// keeps nobody else from the queue. High priorities go first.
async fn dead_letters(place: &Place, open: &Open) {
    let (now, records) = (now_ms(), &open.records);
    let job = |key: &str, priority| OutboxJob {
        key: key.into(),
        kind: "reassess".into(),
        priority,
        payload: key.as_bytes().to_vec(),
        correlation: String::new(),
        enqueued_ms: now - 10 + i64::from(priority),
        not_before_ms: 0,
    };
    let one = record(id_at(now, 410), "dead letters", &["a@x.example"]);
    records.note_with_jobs(&one, vec![job("low", 2), job("high", 0), job("broken", 0), job("medium", 1)]);
    open.note(std::slice::from_ref(&one)).await;
    let mut beside = AnyConnection::connect(&place.url()).await.unwrap();
    beside.execute("UPDATE outbox SET payload = '(' WHERE job_key = 'broken'").await.unwrap();
    beside.close().await.unwrap();
    let due = async |at| {
        let jobs = records.unfinished(at, 3).await.unwrap();
        jobs.into_iter().map(|job| job.key).collect::<Vec<_>>()
    };
    assert_eq!(due(now).await, ["high", "medium", "low"]);
    let (broken, why) = records.buried(now, 9).await.unwrap().remove(0);
    assert_eq!((&broken.key[..], &broken.payload[..], &why.reason[..]), ("broken", &b"("[..], "unreadable"));

    let burial = |key: &str| Burial {
        key: key.into(),
        reason: "attempts".into(),
        error: "it is\0broken".into(),
        attempts: 5,
        dead_ms: now,
    };
    records.bury(&[burial("high"), burial("broken"), burial("nobody")], now + 100).await.unwrap();
    assert_eq!(due(i64::MAX).await, ["medium", "low"]);
    assert_eq!(records.buried(now + 99, 9).await.unwrap().len(), 1, "the broken one was dead before");
    let found = records.buried(now + 100, 9).await.unwrap().into_iter().find(|(job, _)| job.key == "high").unwrap();
    assert_eq!(found, (job("high", 0), Burial { error: "it is\u{fffd}broken".into(), ..burial("high") }));
    records.queued(&[("high".into(), now + 200), ("broken".into(), now + 200)]).await.unwrap();
    assert!(records.buried(now + 199, 9).await.unwrap().is_empty(), "the queue has them");

    assert_eq!(records.revive(Some(&["high".into(), "low".into(), "nobody".into()]), now).await.unwrap(), 1);
    assert_eq!(due(now).await, ["high", "medium", "low"]);
    // A new job with its key takes the place of a dead one.
    records.bury(&[burial("high")], now).await.unwrap();
    let two = record(id_at(now, 411), "once more", &["a@x.example"]);
    records.note_with_jobs(&two, vec![OutboxJob { payload: b"new".to_vec(), ..job("high", 0) }, job("medium", 0)]);
    open.note(std::slice::from_ref(&two)).await;
    let jobs = records.unfinished(i64::MAX, 9).await.unwrap();
    assert_eq!((&jobs[0].payload[..], jobs[1].priority), (&b"new"[..], 1), "{jobs:?}");
    assert_eq!(records.purge_dead(Some(&["low".into()])).await.unwrap(), 0, "it is none");
    assert_eq!(records.purge_dead(None).await.unwrap(), 1);
    assert_eq!(records.done(&["high".into(), "medium".into(), "low".into()]).await.unwrap(), 3);
}

/// What a second look leaves: kept bytes, its verdict once, its actions with their jobs.
async fn second_look(open: &Open) {
    let (now, records) = (now_ms(), &open.records);
    let job = |kind: &str, id: MessageId| OutboxJob {
        key: format!("{kind}:{id}"),
        kind: kind.into(),
        priority: 0,
        payload: ActionOrder::new(id, BY_LOOK).to_bytes(),
        correlation: id.to_string(),
        enqueued_ms: now,
        not_before_ms: 0,
    };
    let keys = async || {
        let jobs = records.unfinished(i64::MAX, 100).await.unwrap();
        BTreeSet::from_iter(jobs.into_iter().map(|job| job.kind))
    };
    let one = record(id_at(now, 500), "looked at again", &["a@x.example"]);
    records.keep_and_note(&one, RAW.into(), (30, 0), (vec![job("reassess", one.id)], Vec::new())).await.unwrap();
    assert_eq!(records.kept_bytes(one.id).await.unwrap().unwrap(), RAW);
    // No room: the record is noted, without its job.
    let two = record(id_at(now, 501), "no room", &["a@x.example"]);
    let refused = records.keep_and_note(&two, RAW.into(), (30, 0), (vec![job("never", two.id)], Vec::new())).await;
    assert!(matches!(refused, Err(StoreError::Kept(30))), "{refused:?}");
    assert!(records.kept_bytes(two.id).await.unwrap().is_none());
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while records.record(two.id).await.unwrap().is_none() {
        assert!(tokio::time::Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(keys().await, BTreeSet::from(["reassess".to_owned()]));

    assert_eq!(records.reassessment(one.id).await.unwrap(), None);
    let second = |change, risk| {
        let mut record = one.clone();
        record.score.risk = risk;
        Reassessment { at_ms: now + 1, change, record }
    };
    let action =
        |kind: &str| WantedAction { kind: kind.into(), cause: BY_LOOK, recipients: vec!["a@x.example".into()] };
    let worse = second(Change::Worse, 99.0);
    records.note_reassessment(&worse, vec![action("alert")], vec![job("alert", one.id)]).await.unwrap();
    // Who comes second changes nothing.
    let late = second(Change::Same, 1.0);
    records.note_reassessment(&late, vec![action("release")], vec![job("release", one.id)]).await.unwrap();
    assert_eq!(records.reassessment(one.id).await.unwrap(), Some(worse));
    assert_eq!(keys().await, BTreeSet::from(["reassess".to_owned(), "alert".to_owned()]));
    assert!(records.kept_bytes(one.id).await.unwrap().is_none(), "forgotten");
    records.action_done(one.id, ("alert", BY_LOOK), "told", now + 2).await.unwrap();
    records.action_done(one.id, ("alert", BY_LOOK), "told again", now + 3).await.unwrap();
    let taken = records.actions(one.id).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].kind.as_str(), taken[0].result.as_deref()), ("alert", Some("told")));
    assert_eq!((taken[0].recipients.join(" "), taken[0].result_ms), ("a@x.example".to_owned(), Some(now + 2)));
    let explained = records.explained(one.id).await.unwrap().unwrap();
    assert_eq!((explained.record.score.risk, explained.second.unwrap().record.score.risk), (12.5, 99.0));

    // A look that knows of a campaign finds nothing worse: the worse verdict stands, its own actions are wanted too.
    let mut known = second(Change::Same, 3.0);
    known.record.in_campaign = true;
    let more = WantedAction { kind: "alert".into(), cause: BY_CAMPAIGN, recipients: vec!["b@x.example".into()] };
    let by_campaign = OutboxJob { key: format!("alert:{}:campaign", one.id), ..job("alert", one.id) };
    records.note_reassessment(&known, vec![more.clone()], vec![by_campaign]).await.unwrap();
    let stands = records.reassessment(one.id).await.unwrap().unwrap();
    assert_eq!((stands.change, stands.record.score.risk, stands.record.in_campaign), (Change::Worse, 99.0, true));
    let taken = records.actions(one.id).await.unwrap();
    let results: Vec<_> = taken.iter().map(|one| (one.cause.as_str(), one.result.as_deref())).collect();
    assert_eq!(results, [(BY_CAMPAIGN, None), (BY_LOOK, Some("told"))]);
    records.action_done(one.id, ("alert", BY_CAMPAIGN), "told too", now + 4).await.unwrap();
    // One that finds something worse stands.
    let fifth = record(id_at(now, 504), "looked at twice", &["a@x.example"]);
    let verdict = |change, in_campaign| {
        let record = Record { in_campaign, ..fifth.clone() };
        Reassessment { at_ms: now + 1, change, record }
    };
    records.note_reassessment(&verdict(Change::Same, false), Vec::new(), Vec::new()).await.unwrap();
    records.note_reassessment(&verdict(Change::Worse, true), Vec::new(), Vec::new()).await.unwrap();
    records.note_reassessment(&verdict(Change::Better, true), Vec::new(), Vec::new()).await.unwrap();
    assert_eq!(records.reassessment(fifth.id).await.unwrap(), Some(verdict(Change::Worse, true)));

    // Jobs of a hold commit with it; its bytes are those of the quarantine.
    let held = record(id_at(now, 502), "waits", &["a@x.example"]);
    records.hold_with_jobs(&held, RAW.into(), &[0], vec![job("waited", held.id)]).await.unwrap();
    assert!(keys().await.contains("waited"));
    assert_eq!(records.kept_bytes(held.id).await.unwrap().unwrap(), RAW);
    // What was kept for a look that never came goes after a week.
    let old = record(id_at(now - 8 * DAY_MS, 503), "never looked at", &["a@x.example"]);
    records.keep_and_note(&old, RAW.into(), (30, 0), (Vec::new(), Vec::new())).await.unwrap();
    assert!(records.kept_bytes(old.id).await.unwrap().is_some());
    records.expire(now).await.unwrap();
    assert!(records.kept_bytes(old.id).await.unwrap().is_none());
    let done: Vec<String> = records.unfinished(i64::MAX, 100).await.unwrap().into_iter().map(|job| job.key).collect();
    records.done(&done).await.unwrap();
    records.delete_held(held.id, &[], now).await.unwrap();
}

/// The life of a held message, recipient by recipient.
async fn quarantine(open: &Open) {
    let (one, now) = (record(id_at(now_ms(), 200), "life", &["a@x.example", "B@x.example", "c@x.example"]), now_ms());
    open.records.hold(&one, RAW.into(), &[0, 1]).await.unwrap();
    let held = open.records.held_message(one.id).await.unwrap();
    let names: Vec<&str> = held.recipients.iter().map(|r| r.recipient.as_str()).collect();
    assert_eq!(BTreeSet::from_iter(names), BTreeSet::from(["a@x.example", "B@x.example"]), "only those it is held for");
    assert_eq!((held.sender.as_str(), held.reason.as_str()), ("Ada@Sender.example", "gtube"));
    assert!(held.is_held());
    let envelope = held.envelope(&["B@x.example".into()]);
    assert_eq!(envelope.sender, one.envelope.sender, "with its parameters");
    assert_eq!(envelope.recipients, one.envelope.recipients[1..2]);

    // Held only because the other one waits: he waits too; because the other one must not get it: he does not.
    for (number, reason, expected) in [(210, Reason::Waiting, "waiting"), (211, Reason::Gtube, "score")] {
        let mut two = record(id_at(now, number), "whole", &["a@x.example", "b@x.example"]);
        two.verdicts[0].verdict = Verdict { action: Action::Allow, reason: Reason::Score };
        two.verdicts[1].verdict.reason = reason;
        open.records.hold(&two, RAW.into(), &[0, 1]).await.unwrap();
        let whole = open.records.held_message(two.id).await.unwrap();
        assert_eq!(whole.recipients[0].reason, expected);
        assert_eq!(whole.recipients[0].waits(), Some(expected == "waiting"));
        open.records.delete_held(two.id, &[], now).await.unwrap();
    }
    let (a, b) = (["a@x.example".to_owned()], ["B@x.example".to_owned()]);
    assert_eq!(held.recipients.iter().map(|r| r.reason.as_str()).collect::<Vec<_>>(), ["gtube", "gtube"]);
    // Twenty at once: one gets the lease.
    let mut tries = JoinSet::new();
    for _ in 0..20 {
        let (records, a, id) = (Arc::clone(&open.records), a.clone(), one.id);
        tries.spawn(async move { records.begin_release(id, &a, now).await.unwrap() });
    }
    let leases = tries.join_all().await.concat();
    assert_eq!(leases.len(), 1);
    assert_eq!(open.records.delete_held(one.id, &a, now).await.unwrap(), 0, "not while it is being released");
    open.records.end_release(one.id, &leases, Err("451 later")).await.unwrap();
    let state = async |name: &str| {
        let held = open.records.held_message(one.id).await.unwrap();
        let one = held.recipients.into_iter().find(|r| r.recipient == name).unwrap();
        (one.state, one.attempts, one.last_error, one.settled_ms)
    };
    assert_eq!(state("a@x.example").await, (HeldState::Held, 1, Some("451 later".into()), None));
    assert_eq!(open.records.begin_release(one.id, &a, now).await.unwrap().len(), 1, "retriable");
    // Whoever had the lease died: after a minute another may try.
    assert!(open.records.begin_release(one.id, &a, now + 59_000).await.unwrap().is_empty());
    let leases = open.records.begin_release(one.id, &a, now + 61_000).await.unwrap();
    open.records.end_release(one.id, &leases, Ok(now + 602_000)).await.unwrap();
    assert_eq!(state("a@x.example").await, (HeldState::Released, 3, None, Some(now + 602_000)));
    for later in [now, now + DAY_MS] {
        assert!(open.records.begin_release(one.id, &a, later).await.unwrap().is_empty(), "released once");
    }
    assert_eq!(open.records.delete_held(one.id, &[], now).await.unwrap(), 1, "the other one");
    assert_eq!(state("B@x.example").await.0, HeldState::Deleted);
    assert!(open.records.begin_release(one.id, &b, now + DAY_MS).await.unwrap().is_empty());
    assert!(!open.records.held_message(one.id).await.unwrap().is_held());
    let nobody = id_at(1, 1);
    assert!(matches!(open.records.held_message(nobody).await, Err(StoreError::NotHeld(id)) if id == nobody));
}

async fn listed(open: &Open) {
    let start = now_ms() + 2_000;
    for n in 0..25 {
        let mut one = record(id_at(start, n), "list", &["lists@x.example", "Second@x.example"]);
        one.verdicts[1].tenant = if n % 5 == 0 { "fifth".into() } else { "default".into() };
        open.hold(&one, RAW).await.unwrap();
    }
    let mut query = HeldQuery { to: Some("LISTS@x.example".into()), limit: 10, ..HeldQuery::default() };
    let mut found = Vec::new();
    loop {
        let page = open.records.held(&query).await.unwrap();
        let Some(last) = page.last() else { break };
        query.before = Some(last.id);
        assert!(page.iter().all(|held| held.recipients.len() == 2));
        found.extend(page.into_iter().map(|held| held.id));
    }
    assert_eq!(found, (0..25).rev().map(|n| id_at(start, n)).collect::<Vec<_>>());
    let by = |tenant: &str| HeldQuery { tenant: Some(tenant.into()), limit: 500, ..HeldQuery::default() };
    assert_eq!(open.records.held(&by("fifth")).await.unwrap().len(), 5);
    let deleted = HeldQuery { state: Some("deleted".into()), to: query.to.clone(), limit: 500, ..HeldQuery::default() };
    assert!(open.records.held(&deleted).await.unwrap().is_empty());
    open.records.delete_held(id_at(start, 3), &[], now_ms()).await.unwrap();
    assert_eq!(open.records.held(&deleted).await.unwrap().len(), 1);
    let waiting = HeldQuery { to: query.to.clone(), limit: 500, ..HeldQuery::default() };
    assert_eq!(open.records.held(&waiting).await.unwrap().len(), 24);
}

async fn passes(open: &Open) {
    let (now, id) = (now_ms(), id_at(now_ms(), 300));
    open.records.add_pass("nonce", id, now + 1_000).await.unwrap();
    let mut uses = JoinSet::new();
    for _ in 0..20 {
        let records = Arc::clone(&open.records);
        uses.spawn(async move { records.use_pass("nonce", now).await.unwrap() });
    }
    assert_eq!(uses.join_all().await.into_iter().filter(|used| *used).count(), 1, "single use");
    open.records.add_pass("old", id, now - 1).await.unwrap();
    assert!(!open.records.use_pass("old", now).await.unwrap(), "too old");
    assert!(!open.records.use_pass("unknown\0", now).await.unwrap());
    assert!(open.records.add_pass("nonce", id, now).await.is_err(), "a nonce is there once");
}

/// Two hundred at once share commits.
async fn many_at_once(open: &Open) {
    let (start, before) = (now_ms() + 3_000, open.metric("mailweir_quarantine_commit_seconds"));
    let mut holds = JoinSet::new();
    for n in 0..200 {
        let (records, one) = (Arc::clone(&open.records), record(id_at(start, n), "many", &["many@x.example"]));
        holds.spawn(async move { records.hold(&one, format!("Subject: {n}\r\n\r\n").into(), &[0]).await });
    }
    assert!(holds.join_all().await.iter().all(Result::is_ok));
    let query = HeldQuery { to: Some("many@x.example".into()), limit: 500, ..HeldQuery::default() };
    let held = open.records.held(&query).await.unwrap();
    assert_eq!(held.len(), 200);
    let commits = open.metric("mailweir_quarantine_commit_seconds") - before;
    assert!(commits < 150, "{commits} commits for 200 messages");
    // Many recipients: more values than one statement can bind.
    let names: Vec<String> = (0..9_000).map(|n| format!("r{n}@many.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let wide = record(id_at(start, 1_000), "wide", &names);
    open.hold(&wide, RAW).await.unwrap();
    assert_eq!(open.records.held_message(wide.id).await.unwrap().recipients.len(), 9_000);
    open.note(&[wide]).await;
}

/// The second of the two statements of a hold fails: the first has left nothing behind.
async fn half_a_failure(place: &Place, open: &Open) {
    sqlx::any::install_default_drivers();
    let mut past = AnyConnection::connect(&place.url()).await.unwrap();
    past.execute("ALTER TABLE quarantine_recipients RENAME TO away").await.unwrap();
    let (start, mut holds) = (now_ms() + 4_000, JoinSet::new());
    for n in 0..5 {
        let (records, one) = (Arc::clone(&open.records), record(id_at(start, n), "half", &["half@x.example"]));
        holds.spawn(async move { records.hold(&one, RAW.into(), &[0]).await });
    }
    assert!(holds.join_all().await.iter().all(Result::is_err));
    past.execute("ALTER TABLE away RENAME TO quarantine_recipients").await.unwrap();
    past.close().await.unwrap();
    for n in 0..5 {
        assert!(
            matches!(open.records.held_message(id_at(start, n)).await, Err(StoreError::NotHeld(_))),
            "half is there"
        );
    }
    open.hold(&record(id_at(start, 9), "half", &["half@x.example"]), RAW).await.unwrap();
    // One that is there already does not take the others of its commit with it.
    let mut holds = JoinSet::new();
    for n in 9..13 {
        let (records, one) = (Arc::clone(&open.records), record(id_at(start, n), "half", &["half@x.example"]));
        holds.spawn(async move { records.hold(&one, RAW.into(), &[0]).await.is_ok() });
    }
    assert_eq!(holds.join_all().await.into_iter().filter(|ok| *ok).count(), 3);
}

async fn expired(place: &Place, open: &Open) {
    let now = now_ms();
    let old =
        |days: u32, number| record(id_at(now - i64::from(days) * DAY_MS - 60_000, number), "old", &["old@x.example"]);
    let (ledger, quarantine) = (place.config.ledger_days, place.config.quarantine_days);
    let gone = [old(ledger, 1), old(quarantine, 2)];
    let stays = [old(ledger - 1, 3), old(quarantine - 1, 4)];
    for one in gone.iter().chain(&stays) {
        open.note(std::slice::from_ref(one)).await;
        open.hold(one, one.id.to_string().as_bytes()).await.unwrap();
    }
    let body_of = async |one: &Record| open.records.held_message(one.id).await.unwrap();
    let (gone_body, stays_body) = (body_of(&gone[0]).await, body_of(&stays[0]).await);
    open.records.expire(now).await.unwrap();
    for one in &gone {
        assert_eq!(open.records.record(one.id).await.unwrap(), None);
        assert!(matches!(open.records.held_message(one.id).await, Err(StoreError::NotHeld(_))));
    }
    let query = MessageQuery { to: Some("old@x.example".into()), limit: 9, ..MessageQuery::default() };
    assert_eq!(open.records.messages(&query).await.unwrap().len(), 2);
    // A young body may belong to a message whose row is not committed yet: it stays for an hour.
    assert!(open.records.held_bytes(&gone_body).await.is_ok());
    open.records.expire(now + 2 * 60 * 60 * 1_000).await.unwrap();
    assert!(open.records.held_bytes(&gone_body).await.is_err(), "nobody names it any more");
    assert_eq!(open.records.held_bytes(&stays_body).await.unwrap(), stays[0].id.to_string().as_bytes());
}

/// All that was there is there after closing and opening.
async fn reopened(place: &Place, open: Open) {
    let last = record(id_at(now_ms() + 5_000, 1), "last", &["last@x.example"]);
    open.hold(&last, RAW).await.unwrap();
    // Noted and not waited for: closing writes it.
    open.records.note(&last);
    open.close().await;
    let open = place.open().await;
    assert_eq!(open.records.record(last.id).await.unwrap().as_ref(), Some(&last));
    let held = open.records.held_message(last.id).await.unwrap();
    assert_eq!(open.records.held_bytes(&held).await.unwrap(), RAW);
    open.close().await;
}

/// Another process holds SQLite's lock for too long: the sender is asked to try later, and nothing is held afterwards.
#[tokio::test]
async fn a_locked_database() {
    let mut place = Place::new("");
    place.config.commit_ms = 300;
    let open = place.open().await;
    sqlx::any::install_default_drivers();
    let mut other = AnyConnection::connect(&place.url()).await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let one = record(id_at(now_ms(), 1), "locked", &["a@x.example"]);
    assert!(matches!(open.hold(&one, RAW).await, Err(StoreError::Slow(1..=300))));
    other.execute("COMMIT").await.unwrap();
    other.close().await.unwrap();
    // The writer gets the lock now and finds that nobody waits any more.
    let next = record(id_at(now_ms(), 2), "free", &["a@x.example"]);
    let held = async { while open.hold(&next, RAW).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), held).await.unwrap();
    assert!(matches!(open.records.held_message(one.id).await, Err(StoreError::NotHeld(_))), "invented");
    open.close().await;
}
