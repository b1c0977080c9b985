//! Releases as jobs, with the attempts and leases that are the default: killed, slow, refused, to many; the next hop and the
//! database away for longer than any number of attempts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mailweir::deferred::{
    Failure, Handler, Handlers, Metrics, Outbox, PatienceConfig, Pool, Queue, QueueConfig, Reason, WorkersConfig, open,
    pump,
};
use mailweir::enforcement::{RELEASE, Refused, Reinject, Release, ReleaseConfig, ReleaseJobs};
use mailweir::mail::{Envelope, MessageId};
use mailweir::policy::Action;
use mailweir::records::{ActionOrder, BY_LOOK, Change, HeldState, OutboxJob, PassKey, Reassessment, WantedAction};
use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::outbox::OfRecords;
use crate::support::postgres::{Postgres, available};
use crate::support::records::{Open, Place, id_at, now_ms, record};

const PATIENCE: Duration = Duration::from_secs(60);
const RAW: &[u8] = b"From: a@a.example\r\nSubject: x\r\n\r\nhello\r\n";

/// A next hop that does as it is told, and counts.
#[derive(Clone, Default)]
struct Hop {
    copies: Arc<Mutex<BTreeMap<String, usize>>>,
    asked: Arc<AtomicUsize>,
    down: Arc<AtomicBool>,
    slow: Duration,
}

impl Reinject for Hop {
    async fn reinject(&self, envelope: Envelope, _raw: Bytes) -> Result<String, Refused> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let to = envelope.recipients[0].text.clone();
        if self.down.load(Ordering::Relaxed) {
            return Err(Refused { why: "connecting: refused".into(), for_good: false });
        }
        if to.starts_with("never") {
            return Err(Refused { why: "the next hop answered 550 no such user".into(), for_good: true });
        }
        // It has it; its reply takes as long as it takes.
        *self.copies.lock().unwrap().entry(to).or_default() += 1;
        tokio::time::sleep(self.slow).await;
        Ok("250 2.0.0 queued".into())
    }
}

/// Records, a next hop, and workers with the default attempts.
struct Scene {
    place: Place,
    open: Open,
    hop: Hop,
    queue: Arc<dyn Queue>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// Waits are short; attempts, and what uses them up, are as by default.
fn workers() -> WorkersConfig {
    let patience = PatienceConfig { wait_ms: 1, wait_max_seconds: 1, ..PatienceConfig::default() };
    WorkersConfig { patience, backoff_ms: 1, idle_ms: 10, ..WorkersConfig::default() }
}

impl Scene {
    async fn start(url: &str, hop: Hop, workers: WorkersConfig) -> Self {
        let mut place = Place::new(url);
        place.config.acquire_ms = 500;
        let open = place.open().await;
        let (queue, stop, tasks) = Self::work(&place, &open, &hop, &workers).await;
        Self { place, open, hop, queue, stop, tasks }
    }

    async fn work(
        place: &Place,
        opened: &Open,
        hop: &Hop,
        workers: &WorkersConfig,
    ) -> (Arc<dyn Queue>, CancellationToken, Vec<JoinHandle<()>>) {
        let config = QueueConfig { pump_ms: 20, ..QueueConfig::default() };
        let queue = open(&config, place.path()).await.unwrap();
        let outbox: Arc<dyn Outbox> = Arc::new(OfRecords(Arc::clone(&opened.records)));
        let release = Release::new(
            Arc::clone(&opened.records),
            PassKey::new([7; 32]),
            hop.clone(),
            ReleaseConfig { copy_seconds: 10, ..ReleaseConfig::default() },
        );
        let handler: Arc<dyn Handler> = Arc::new(ReleaseJobs::new(Arc::new(release), Arc::clone(&opened.records)));
        let handlers = Handlers::from([(RELEASE.to_owned(), handler)]);
        let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
        let sections = (&config, workers);
        let pool =
            Pool::new(Arc::clone(&queue), Some(Arc::clone(&outbox)), handlers, sections, Arc::clone(&metrics)).unwrap();
        let stop = CancellationToken::new();
        let tasks = vec![
            tokio::spawn(pump(outbox, Arc::clone(&queue), config, metrics, stop.clone())),
            tokio::spawn(pool.run(stop.clone())),
        ];
        (queue, stop, tasks)
    }

    /// Holds a message, without a job.
    async fn hold(&self, number: u16, recipients: &[&str]) -> MessageId {
        let one = record(id_at(now_ms(), number), "held", recipients);
        self.open.hold(&one, RAW).await.unwrap();
        one.id
    }

    async fn order(&self, id: MessageId, recipients: &[&str]) {
        let recipients = recipients.iter().map(|&one| one.to_owned()).collect();
        let action = WantedAction { kind: RELEASE.into(), cause: BY_LOOK, recipients };
        let job = OutboxJob {
            key: format!("release:{id}"),
            kind: RELEASE.into(),
            priority: 0,
            payload: ActionOrder::new(id, BY_LOOK).to_bytes(),
            correlation: id.to_string(),
            enqueued_ms: now_ms(),
            not_before_ms: 0,
        };
        self.open.records.want_actions(id, vec![action], vec![job], now_ms()).await.unwrap();
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn(&Self) -> bool) {
        let until = tokio::time::Instant::now() + PATIENCE;
        while !is_so(self).await {
            assert!(tokio::time::Instant::now() < until, "never came: {what}; {:?}", self.queue.dead(None, 9).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn result(&self, id: MessageId) -> Option<String> {
        self.open.records.actions(id).await.ok()?.into_iter().find_map(|action| action.result)
    }

    async fn done(&self, id: MessageId) -> String {
        self.until("the release has its result", async |scene| scene.result(id).await.is_some()).await;
        self.until("its job is done", async |scene| scene.queue.depth().await.is_ok_and(|d| d.total() == 0)).await;
        assert!(self.queue.dead(None, 9).await.unwrap().is_empty());
        self.result(id).await.unwrap()
    }

    async fn states(&self, id: MessageId) -> Vec<HeldState> {
        self.open.records.held_message(id).await.unwrap().recipients.into_iter().map(|one| one.state).collect()
    }

    fn copies(&self) -> Vec<usize> {
        self.hop.copies.lock().unwrap().values().copied().collect()
    }
}

#[tokio::test]
async fn what_a_killed_worker_was_releasing_is_released() {
    let scene = Scene::start("", Hop::default(), workers()).await;
    let names = ["a@x.example", "b@x.example"];
    let owned = names.map(str::to_owned);
    // Killed a minute and a second ago: the lease has run out.
    let id = scene.hold(1, &names).await;
    assert_eq!(scene.open.records.begin_release(id, &owned, now_ms() - 61_000).await.unwrap().len(), 2);
    scene.order(id, &names).await;
    assert_eq!(scene.done(id).await, "released for a@x.example, b@x.example");
    assert_eq!((scene.states(id).await, scene.copies()), (vec![HeldState::Released; 2], vec![1, 1]));

    // Killed just now, or at work elsewhere: that is no success, and no failure.
    let id = scene.hold(2, &names).await;
    let leases = scene.open.records.begin_release(id, &owned[..1], now_ms()).await.unwrap();
    scene.order(id, &names).await;
    scene.until("the other one is released", async |s| s.states(id).await[1] == HeldState::Released).await;
    scene
        .until("the job waits for the end of the lease", async |s| {
            s.queue.depth().await.unwrap().by_priority[0].later == 1
        })
        .await;
    assert_eq!((scene.result(id).await, scene.states(id).await[0]), (None, HeldState::Releasing));
    assert_eq!(scene.open.records.unfinished(i64::MAX, 9).await.unwrap().len(), 1, "the outbox knows of it");
    // He lives, and has the next hop's word.
    scene.open.records.end_release(id, &leases, Ok(now_ms())).await.unwrap();
    assert_eq!(scene.states(id).await, [HeldState::Released; 2]);
}

#[tokio::test]
async fn a_lease_is_renewed_and_lost() {
    let place = Place::new("");
    let open = place.open().await;
    let one = record(id_at(now_ms(), 1), "held", &["a@x.example"]);
    open.hold(&one, RAW).await.unwrap();
    let (records, names, now) = (&open.records, ["a@x.example".to_owned()], now_ms());
    let first = records.begin_release(one.id, &names, now).await.unwrap();
    assert!(records.renew_release(one.id, &first[0], now + 50_000).await.unwrap());
    assert!(records.begin_release(one.id, &names, now + 100_000).await.unwrap().is_empty(), "renewed");
    let second = records.begin_release(one.id, &names, now + 111_000).await.unwrap();
    assert_eq!(second.len(), 1);
    assert!(!records.renew_release(one.id, &first[0], now + 112_000).await.unwrap(), "lost");
    // Who lost it cannot give it to a third, …
    records.end_release(one.id, &first, Err("too late")).await.unwrap();
    assert!(records.begin_release(one.id, &names, now + 112_000).await.unwrap().is_empty());
    // … but what he delivered is delivered.
    records.end_release(one.id, &second, Err("refused")).await.unwrap();
    records.end_release(one.id, &first, Ok(now)).await.unwrap();
    assert!(!records.held_message(one.id).await.unwrap().is_held());
}

#[tokio::test]
async fn a_next_hop_that_is_slow_at_the_dot_gets_one_copy() {
    let hop = Hop { slow: Duration::from_secs(3), ..Hop::default() };
    let scene = Scene::start("", hop, WorkersConfig { soft_seconds: 1, hard_seconds: 1, ..workers() }).await;
    let id = scene.hold(1, &["a@x.example"]).await;
    scene.order(id, &["a@x.example"]).await;
    assert_eq!(scene.done(id).await, "released for a@x.example");
    assert_eq!(scene.copies(), [1]);
}

#[tokio::test]
async fn many_one_after_another_take_several_turns_and_get_one_copy_each() {
    let hop = Hop { slow: Duration::from_millis(300), ..Hop::default() };
    let scene = Scene::start("", hop, WorkersConfig { soft_seconds: 1, hard_seconds: 2, ..workers() }).await;
    let names: Vec<String> = (0..9).map(|n| format!("r{n}@x.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let id = scene.hold(1, &names).await;
    scene.order(id, &names).await;
    scene.done(id).await;
    assert_eq!((scene.states(id).await, scene.copies()), (vec![HeldState::Released; 9], vec![1; 9]));
}

#[tokio::test]
async fn a_next_hop_that_is_away_uses_up_no_attempts() {
    let scene = Scene::start("", Hop::default(), workers()).await;
    scene.hop.down.store(true, Ordering::Relaxed);
    let id = scene.hold(1, &["a@x.example"]).await;
    scene.order(id, &["a@x.example"]).await;
    let attempts = WorkersConfig::default().attempts as usize;
    scene.until("it was tried often", async |s| s.hop.asked.load(Ordering::Relaxed) > attempts + 2).await;
    assert_eq!((scene.queue.dead(None, 9).await.unwrap().len(), scene.states(id).await), (0, vec![HeldState::Held]));
    scene.hop.down.store(false, Ordering::Relaxed);
    assert_eq!(scene.done(id).await, "released for a@x.example");
    assert_eq!(scene.copies(), [1]);
}

#[tokio::test]
async fn what_the_next_hop_never_takes_is_a_dead_letter_and_held() {
    let scene = Scene::start("", Hop::default(), workers()).await;
    let id = scene.hold(1, &["a@x.example", "never@x.example"]).await;
    scene.order(id, &["a@x.example", "never@x.example"]).await;
    scene.until("a dead letter", async |s| s.queue.depth().await.unwrap().dead == 1).await;
    let dead = scene.queue.dead(None, 9).await.unwrap().remove(0);
    assert_eq!((dead.reason, dead.job.attempt), (Reason::Attempts, 5));
    assert!(dead.job.last_error.unwrap().contains("550 no such user"));
    assert_eq!((scene.states(id).await, scene.copies()), (vec![HeldState::Released, HeldState::Held], vec![1]));
}

#[tokio::test]
async fn a_database_that_is_away_uses_up_no_attempts() {
    if !available("releases::a_database_that_is_away_uses_up_no_attempts") {
        return;
    }
    let mut postgres = Postgres::start().await;
    let hop = Hop { slow: Duration::from_millis(700), ..Hop::default() };
    let scene = Scene::start(&postgres.url, hop, workers()).await;
    let names = ["a@x.example", "b@x.example"];
    let id = scene.hold(1, &names).await;
    scene.order(id, &names).await;
    scene.until("it is at work", async |s| s.hop.asked.load(Ordering::Relaxed) == 1).await;
    postgres.stop();
    // Longer than five attempts take.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(scene.queue.dead(None, 9).await.unwrap().len(), 0);
    postgres.start_again().await;
    // The first one's end could not be noted: his lease is of one who died. Nobody waits a minute for it here.
    let until = tokio::time::Instant::now() + PATIENCE;
    while scene.open.records.begin_release(id, &[], now_ms()).await.is_err() {
        assert!(tokio::time::Instant::now() < until);
    }
    scene.until("the other one is released", async |s| s.states(id).await[1] == HeldState::Released).await;
    assert_eq!((scene.queue.dead(None, 9).await.unwrap().len(), scene.copies()), (0, vec![1, 1]));
}

#[tokio::test]
async fn a_thousand_with_long_names() {
    let scene = Scene::start("", Hop::default(), workers()).await;
    let names: Vec<String> = (0..1_000).map(|n| format!("{}{n:04}@long.example", "r".repeat(67))).collect();
    assert_eq!(names[0].len(), 84);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let id = scene.hold(1, &names).await;
    scene.order(id, &names).await;
    scene.until("all are released", async |s| !s.open.records.held_message(id).await.unwrap().is_held()).await;
    let result = scene.done(id).await;
    assert!(result.starts_with("released for rrr") && result.len() < 1_000, "{result}");
    assert!(scene.copies().len() == 1_000 && scene.copies().iter().all(|copies| *copies == 1));
}

#[tokio::test]
async fn what_can_never_be_queued_is_a_dead_letter() {
    let scene = Scene::start("", Hop::default(), workers()).await;
    let id = scene.hold(1, &["a@x.example"]).await;
    let job = OutboxJob {
        key: "release:large".into(),
        kind: RELEASE.into(),
        priority: 0,
        payload: vec![b'x'; QueueConfig::default().max_payload_bytes + 1],
        correlation: id.to_string(),
        enqueued_ms: now_ms(),
        not_before_ms: 0,
    };
    scene.open.records.want_actions(id, Vec::new(), vec![job], now_ms()).await.unwrap();
    scene.until("a dead letter", async |s| s.queue.depth().await.unwrap().dead == 1).await;
    let dead = scene.queue.dead(None, 9).await.unwrap().remove(0);
    assert_eq!((dead.job.key.as_str(), dead.reason), ("release:large", Reason::Refused));
    assert!(dead.job.last_error.unwrap().contains("queue.max_payload_bytes"));
    scene
        .until("the outbox forgets it", async |s| s.open.records.unfinished(i64::MAX, 9).await.unwrap().is_empty())
        .await;
}

/// While the release waits for the next hop, another look finds out more.
#[tokio::test]
async fn who_is_judged_worse_meanwhile_stays_held() {
    let scene = Scene::start("", Hop::default(), workers()).await;
    let mut one = record(id_at(now_ms(), 1), "held", &["a@x.example", "b@x.example"]);
    scene.open.hold(&one, RAW).await.unwrap();
    one.verdicts[0].verdict.action = Action::Allow;
    let second = Reassessment { at_ms: now_ms(), change: Change::Worse, record: one.clone() };
    scene.open.records.note_reassessment(&second, Vec::new(), Vec::new()).await.unwrap();
    scene.order(one.id, &["a@x.example", "b@x.example"]).await;
    let result = "released for a@x.example; judged worse since, stays held for b@x.example";
    assert_eq!(scene.done(one.id).await, result);
    assert_eq!(scene.states(one.id).await, [HeldState::Released, HeldState::Held]);
}

/// The first got his copy, the second was deleted by hand before his turn.
#[tokio::test]
async fn the_result_tells_of_all_turns() {
    let scene = Scene::start("", Hop::default(), workers()).await;
    let (names, id) = (["a@x.example", "b@x.example"], scene.hold(1, &["a@x.example", "b@x.example"]).await);
    let leases = scene.open.records.begin_release(id, &[names[0].to_owned()], now_ms()).await.unwrap();
    scene.open.records.end_release(id, &leases, Ok(now_ms())).await.unwrap();
    assert_eq!(scene.open.records.delete_held(id, &[names[1].to_owned()], now_ms()).await.unwrap(), 1);
    scene.order(id, &names).await;
    assert_eq!(scene.done(id).await, "released for a@x.example; deleted for b@x.example");
    assert!(scene.copies().is_empty());
}

/// At a stop the copy that the next hop has is awaited, no other is begun, and the next process goes on: one copy each.
#[tokio::test]
async fn a_restart_in_the_middle() {
    let hop = Hop { slow: Duration::from_secs(2), ..Hop::default() };
    let mut scene = Scene::start("", hop, WorkersConfig { drain_seconds: 0, ..workers() }).await;
    let names = ["a@x.example", "b@x.example", "c@x.example"];
    let id = scene.hold(1, &names).await;
    scene.order(id, &names).await;
    scene.until("it is at work", async |s| s.hop.asked.load(Ordering::Relaxed) == 1).await;
    scene.stop.cancel();
    for task in scene.tasks.drain(..) {
        tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    }
    scene.queue.close().await;
    assert_eq!(scene.states(id).await, [HeldState::Released, HeldState::Held, HeldState::Held]);
    assert_eq!(scene.copies(), [1]);
    let (queue, stop, tasks) = Scene::work(&scene.place, &scene.open, &scene.hop, &workers()).await;
    (scene.queue, scene.stop, scene.tasks) = (queue, stop, tasks);
    assert_eq!(scene.done(id).await, "released for a@x.example, b@x.example, c@x.example");
    assert_eq!(scene.copies(), [1, 1, 1]);
}

/// Failures say whose fault they are.
#[tokio::test]
async fn environment_is_nobodys_fault() {
    let away = Failure::of(&mailweir::records::StoreError::Away);
    assert!(matches!(away, Failure::Later { .. }), "{away:?}");
    let held = Failure::of(&mailweir::records::StoreError::NotHeld(MessageId::new(1, [1; 10])));
    assert!(matches!(held, Failure::Never { .. }), "{held:?}");
}
