//! What is remembered of senders, on SQLite and on PostgreSQL by the same tests: as of a time, warm-up, thresholds.

use std::time::Duration;

use mailweir::analysis::{Contact, Fact, History, HistoryKeys, Membership, Prevalence, Profile, Why};
use mailweir::mail::MessageId;
use mailweir::policy::{Action, Reason};
use mailweir::records::Record;

use crate::support::postgres::{Postgres, available};
use crate::support::records::{Open, Place, id_at, now_ms, record};

const HOUR: i64 = 60 * 60 * 1_000;
const DAY: i64 = 24 * HOUR;
/// Noon of some day.
const NOON: i64 = 20_000 * DAY + 12 * HOUR;

#[tokio::test]
async fn sqlite() {
    everything("").await;
}

#[tokio::test]
async fn sqlite_behind_the_filter() {
    let place = Place::new("");
    let open = place.open().await;
    let filter = tokio::spawn(open.records.filtered(place.path()).expect("nobody else has it"));
    in_use(&open).await;
    all_parts(&open).await;
    assert!(filtered(&open, "new") > 0.0 && filtered(&open, "known") > 0.0);
    filter.abort();
    let _ = filter.await;
    open.close().await;

    // Another process: the names are read from the database, in several batches.
    let open = place.open().await;
    let filter = tokio::spawn(open.records.filtered(place.path()).unwrap());
    let days = (0..6_000).map(|number| mail(NOON - number, 1, &format!("many{number}@many.example")));
    for some in days.collect::<Vec<_>>().chunks(1_000) {
        open.note(some).await;
    }
    filter.abort();
    let _ = filter.await;
    open.close().await;
    let open = place.open().await;
    let filter = tokio::spawn(open.records.filtered(place.path()).unwrap());
    in_use(&open).await;
    for number in (0..6_000).step_by(97) {
        let known = history(&open, NOON + 30 * DAY, &format!("many{number}@many.example")).await;
        assert_eq!(known.by_sender_email.unwrap().days_since_first_contact, Some(30), "{number}");
    }
    let before = count(&open, "mailweir_history_lookups_total", "saved");
    for number in 0..100 {
        let known = history(&open, NOON + 30 * DAY, &format!("a@never{number}.example")).await;
        assert_eq!(known.by_sender_email.unwrap().prevalence, Prevalence::New);
    }
    assert!(count(&open, "mailweir_history_lookups_total", "saved") > before + 90.0, "strangers cost no query");
    filter.abort();
    let _ = filter.await;
    open.close().await;
}

#[tokio::test]
async fn what_others_write_is_never_denied() {
    let place = Place::new("");
    let (open, other) = (place.open().await, place.open().await);
    let _filter = tokio::spawn(open.records.filtered(place.path()).unwrap());
    assert!(other.records.filtered(place.path()).is_none(), "one has it");
    open.note(&[mail(NOON, 1, "first@a.example")]).await;
    in_use(&open).await;
    let at = NOON + 30 * DAY;
    let days = async |who: &str| history(&open, at, who).await.by_sender_email.unwrap().days_since_first_contact;
    assert_eq!(days("stranger@b.example").await, None);
    let new = filtered(&open, "new");
    other.note(&[mail(NOON + DAY, 2, "stranger@b.example")]).await;
    assert_eq!(days("stranger@b.example").await, Some(29));
    assert_eq!(days("nobody@c.example").await, None);
    assert_eq!(filtered(&open, "new"), new, "nothing is told without the database any more");
    other.close().await;
}

/// Waits until the filter is asked.
async fn in_use(open: &Open) {
    let begun = filtered(open, "new");
    let asked = async {
        while filtered(open, "new") <= begun {
            let _ = open.records.history(NOON, &keys("is-it@in-use.example")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked).await.expect("the filter is in use");
}

fn filtered(open: &Open, outcome: &str) -> f64 {
    count(open, "mailweir_history_filter_names_total", outcome)
}

fn count(open: &Open, family: &str, outcome: &str) -> f64 {
    let families = open.registry.gather();
    let metrics = families.iter().find(|one| one.name() == family).unwrap().get_metric();
    let found = metrics.iter().find(|metric| metric.get_label()[0].value() == outcome);
    found.unwrap().get_counter().get_value()
}

#[tokio::test]
async fn postgresql() {
    if !available("history::postgresql") {
        return;
    }
    let postgres = Postgres::start().await;
    everything(&postgres.url).await;
}

async fn everything(url: &str) {
    let place = Place::new(url);
    let open = place.open().await;
    // Others write there too.
    assert!(url.is_empty() || open.records.filtered(place.path()).is_none());
    all_parts(&open).await;
    open.close().await;
}

async fn all_parts(open: &Open) {
    warm_up(open).await;
    as_of(open).await;
    thresholds(open).await;
    judged_and_released(open).await;
    expired(open).await;
}

fn mail(at: i64, number: u16, from: &str) -> Record {
    let one = record(id_at(at, number), "history", &["bob@own.example"]);
    let contact =
        Contact { wrote_to_us: vec![from.into()], reply_to: vec![format!("re-{from}")], we_wrote_to: Vec::new() };
    Record { action: Action::Allow, contact, ..one }
}

fn to(at: i64, number: u16, recipient: &str) -> Record {
    let contact = Contact { we_wrote_to: vec![recipient.into()], ..Contact::default() };
    Record { contact, ..mail(at, number, "") }
}

fn keys(address: &str) -> HistoryKeys {
    let domain = address.rsplit_once('@').unwrap().1.to_owned();
    HistoryKeys {
        sender_email: Some(address.into()),
        sender_domain: Some(domain.clone()),
        free_mail: domain == "gmail.com",
        reply_to: Some(format!("re-{address}")),
        names: [address.to_owned(), domain].into(),
    }
}

async fn history(open: &Open, at: i64, address: &str) -> History {
    match open.records.history(at, &keys(address)).await.unwrap() {
        Fact::Known(history) => history,
        Fact::Unknown(why) => panic!("{why:?}"),
    }
}

async fn profile(open: &Open, at: i64, address: &str) -> Profile {
    history(open, at, address).await.by_sender_email.unwrap()
}

/// Before anything, and for the first days, nothing is said.
async fn warm_up(open: &Open) {
    let ask = async |at| open.records.history(at, &keys("a@x.example")).await.unwrap();
    assert_eq!(ask(NOON).await, Fact::Unknown(Why::WarmingUp));
    let start = NOON - 100 * DAY;
    open.note(&[mail(start, 1, "first@first.example")]).await;
    assert_eq!(ask(start).await, Fact::Unknown(Why::WarmingUp));
    assert_eq!(ask(start + 14 * DAY - 1).await, Fact::Unknown(Why::WarmingUp));
    let Fact::Known(history) = ask(start + 14 * DAY).await else { panic!("warm by now") };
    let nobody = history.by_sender.unwrap();
    assert_eq!((nobody.prevalence, nobody.solicited, nobody.days_known), (Prevalence::New, false, 0));
    assert_eq!(nobody.days_since_first_contact, None);
    assert_eq!(history.members["a@x.example"], Membership::default());
    // A replay of the time before does not see what came since.
    assert_eq!(ask(start + DAY).await, Fact::Unknown(Why::WarmingUp));
    let nobody = open.records.history(NOON, &HistoryKeys::default()).await.unwrap();
    assert!(matches!(nobody, Fact::Known(History { by_sender: None, by_reply_to: None, .. })));
}

/// Nothing of a later time is seen, not even of the same day.
async fn as_of(open: &Open) {
    let ada = "ada@mail.corp.example";
    open.note(&[mail(NOON - 10 * DAY, 1, ada), mail(NOON, 2, ada), to(NOON + HOUR, 3, ada)]).await;
    let before = profile(open, NOON - 10 * DAY, ada).await;
    assert_eq!((before.prevalence, before.days_since_first_contact), (Prevalence::New, None));
    let after = profile(open, NOON - 9 * DAY, ada).await;
    assert_eq!((after.prevalence, after.any_messages_benign, after.days_known), (Prevalence::Outlier, true, 1));
    let between = profile(open, NOON + HOUR, ada).await;
    assert!(!between.solicited);
    assert_eq!((between.days_since_last_inbound, between.days_since_last_outbound), (Some(0), None));
    let now = history(open, NOON + HOUR + 1, ada).await;
    let by_email = now.by_sender_email.unwrap();
    assert!(by_email.solicited);
    assert_eq!(by_email.days_since_last_outbound, Some(0));
    assert_eq!(now.members[ada], Membership { sender: true, recipient: true });
    assert_eq!(now.members["mail.corp.example"], Membership { sender: true, recipient: true });
    // The registrable domain is counted too, and other addresses of it are known by it.
    let mut other = keys("eve@corp.example");
    other.names.insert("corp.example".into());
    let Fact::Known(other) = open.records.history(NOON + 2 * HOUR, &other).await.unwrap() else { panic!() };
    assert_eq!(other.members["eve@corp.example"], Membership::default());
    assert!(other.by_sender.unwrap().solicited && !other.by_sender_email.unwrap().solicited);
    // Not so at a free mail provider.
    open.note(&[mail(NOON, 4, "one@gmail.com")]).await;
    let two = history(open, NOON + 2 * DAY, "two@gmail.com").await;
    assert_eq!(two.by_sender.unwrap().prevalence, Prevalence::New);
    assert_eq!(two.by_sender_domain.unwrap().prevalence, Prevalence::Outlier);
    // Reply-To has a profile of its own; who is written to is solicited there as well.
    let one = history(open, NOON + 2 * DAY, "one@gmail.com").await;
    assert!(one.by_reply_to.unwrap().any_messages_benign);
    let mut written = keys(ada);
    written.reply_to = Some(ada.into());
    let Fact::Known(written) = open.records.history(NOON + 2 * DAY, &written).await.unwrap() else { panic!() };
    assert!(written.by_reply_to.unwrap().solicited);
}

/// New for twelve hours, then by number of messages and days.
async fn thresholds(open: &Open) {
    let who = "edge@edge.example";
    let start = NOON - 30 * DAY;
    let mut notes: Vec<Record> = (0..2).map(|n| mail(start + n, 10, who)).collect();
    open.note(&notes).await;
    let is = async |at| profile(open, at, who).await.prevalence;
    assert_eq!(is(start + 12 * HOUR - 1).await, Prevalence::New);
    assert_eq!(is(start + 12 * HOUR).await, Prevalence::Outlier);
    open.note(&[mail(start + 2, 11, who)]).await;
    assert_eq!(is(start + DAY).await, Prevalence::Rare);
    // Seven more: ten, but on two days only.
    notes = (0..6).map(|n| mail(start + DAY + n, 12, who)).collect();
    open.note(&notes).await;
    assert_eq!(is(start + 2 * DAY).await, Prevalence::Rare);
    open.note(&[mail(start + DAY + HOUR, 13, who)]).await;
    assert_eq!(is(start + 2 * DAY).await, Prevalence::Rare);
    open.note(&[mail(start + 2 * DAY, 14, who)]).await;
    assert_eq!(is(start + 3 * DAY).await, Prevalence::Common);
    // All of it long ago: an outlier again.
    assert_eq!(is(start + 200 * DAY).await, Prevalence::Outlier);
}

/// Refused and held mail is malicious and not received; a release makes it a false positive, from then on.
async fn judged_and_released(open: &Open) {
    let who = "bad@held.example";
    let start = now_ms() - DAY;
    let held = Record { action: Action::Quarantine, ..mail(start, 20, who) };
    let refused = Record { action: Action::Reject, ..mail(start + 1, 21, "bad@refused.example") };
    let deferred = Record { action: Action::Defer, ..mail(start + 2, 22, "bad@deferred.example") };
    open.hold(&held, b"Subject: x\r\n\r\nx\r\n").await.unwrap();
    open.note(&[held.clone(), refused, deferred]).await;
    let now = now_ms();
    for (address, malicious) in [(who, true), ("bad@refused.example", true), ("bad@deferred.example", false)] {
        let history = history(open, now, address).await;
        assert_eq!(history.members[address], Membership::default(), "{address}");
        let profile = history.by_sender_email.unwrap();
        assert_eq!((profile.prevalence, profile.any_messages_benign), (Prevalence::New, false));
        assert_eq!(profile.any_messages_malicious_or_spam, malicious, "{address}");
    }
    let names = ["bob@own.example".to_owned()];
    let leases = open.records.begin_release(held.id, &names, now).await.unwrap();
    open.records.end_release(held.id, &leases, Err("no route")).await.unwrap();
    assert!(!profile(open, now + 1, who).await.any_false_positives);
    let leases = open.records.begin_release(held.id, &names, now).await.unwrap();
    open.records.end_release(held.id, &leases, Ok(now)).await.unwrap();
    assert!(!profile(open, now, who).await.any_false_positives, "as of before");
    let after = history(open, now + 1, who).await;
    assert!(after.by_sender_email.unwrap().any_false_positives && after.members[who].sender);
    // What only waited for its second look was no harm before, and is no false positive after.
    let waits = "good@waits.example";
    let mut waiting = Record { action: Action::Quarantine, ..mail(start + 3, 23, waits) };
    waiting.verdicts[0].verdict.reason = Reason::Waiting;
    open.hold(&waiting, b"Subject: y\r\n\r\ny\r\n").await.unwrap();
    open.note(std::slice::from_ref(&waiting)).await;
    let before = profile(open, now, waits).await;
    assert!(!before.any_messages_malicious_or_spam && !before.any_messages_benign);
    let leases = open.records.begin_release(waiting.id, &names, now).await.unwrap();
    open.records.end_release(waiting.id, &leases, Ok(now)).await.unwrap();
    let after = profile(open, now + 1, waits).await;
    assert!(after.any_messages_benign && !after.any_false_positives && !after.any_messages_malicious_or_spam);
    // A release of something that nobody knows is no failure of the release.
    open.records.end_release(MessageId::new(7, [7; 10]), &leases, Ok(now)).await.unwrap();
}

/// Old days go, the time of the first message stays.
async fn expired(open: &Open) {
    let at = NOON + 500 * DAY;
    assert!(profile(open, at, "edge@edge.example").await.days_known > 500);
    tokio::time::timeout(Duration::from_secs(60), open.records.expire(at)).await.unwrap().unwrap();
    assert_eq!(profile(open, at, "edge@edge.example").await.days_since_first_contact, None);
}
