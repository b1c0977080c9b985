//! The job queue: the same contract for the embedded engine and for Redis (one server, behind a sentinel, as a cluster), and
//! the pool of workers over it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mailweir::deferred::{
    Claim, Crew, DeadJob, Depth, Failure, Handler, Handlers, Job, Metrics, Mode, Outbox, Outcome, Placed, Pool,
    Priority, Queue, QueueConfig, Reason, ScalingConfig, Settlement, WorkersConfig, open, pump, purge, replay,
};
use mailweir::records::OutboxJob;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::support::gateway::{Gateway, free_port};
use crate::support::http::request;
use crate::support::outbox::OfRecords;
use crate::support::records::{Open, Place, id_at, now_ms, record};
use crate::support::redis::{Certificates, Keep, Redis, ask, available};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the queues of a test are. Each part has one of its own.
struct Site {
    url: String,
    /// Authorities, our certificate, our key.
    certificates: Option<[std::path::PathBuf; 3]>,
    data: TempDir,
    parts: AtomicU32,
}

impl Site {
    fn new(url: &str) -> Self {
        Self { url: url.to_owned(), certificates: None, data: tempfile::tempdir().unwrap(), parts: AtomicU32::new(0) }
    }

    fn with_certificates(mut self, ours: &Certificates) -> Self {
        self.certificates = Some(["ca.pem", "client.pem", "client.key"].map(|name| ours.file(name)));
        self
    }

    /// Settings of a queue that nobody else has.
    fn part(&self) -> Part {
        let number = self.parts.fetch_add(1, Ordering::Relaxed);
        let folder = self.data.path().join(number.to_string());
        std::fs::create_dir(&folder).unwrap();
        let [ca_file, cert_file, key_file] = match &self.certificates {
            Some(files) => files.clone().map(Some),
            None => Default::default(),
        };
        let config = QueueConfig {
            url: self.url.clone(),
            ca_file,
            cert_file,
            key_file,
            prefix: format!("part{number}"),
            max_jobs: 10_000,
            command_ms: 10_000,
            ..QueueConfig::default()
        };
        Part { config, folder }
    }
}

struct Part {
    config: QueueConfig,
    folder: std::path::PathBuf,
}

impl Part {
    fn with_short_leases(mut self) -> Self {
        self.config.lease_seconds = 1;
        self
    }

    /// Another handle, as another process has it.
    async fn open(&self) -> Arc<dyn Queue> {
        open(&self.config, &self.folder).await.unwrap()
    }
}

fn job(key: &str, priority: Priority) -> Job {
    Job { priority, ..Job::new("test", key, key.as_bytes().to_vec(), now_ms()) }
}

fn keys(claims: &[Claim]) -> Vec<&str> {
    claims.iter().map(|claim| claim.job.key.as_str()).collect()
}

async fn settle(queue: &dyn Queue, claim: &Claim, settlement: Settlement) -> bool {
    queue.settle(&[(Arc::new(claim.clone()), settlement)]).await.unwrap()[0]
}

/// Claims until there is something.
async fn claim_soon(queue: &dyn Queue, wanted: [usize; 3]) -> Vec<Claim> {
    let soon = async {
        loop {
            let claims = queue.claim(wanted).await.unwrap();
            if !claims.is_empty() {
                return claims;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, soon).await.expect("something can be claimed")
}

async fn contract(site: &Site) {
    taken_in(&site.part()).await;
    by_priority(&site.part()).await;
    later_and_again(&site.part()).await;
    leases(&site.part().with_short_leases()).await;
    nobody_left(&site.part().with_short_leases()).await;
    taken_over_singly(&site.part().with_short_leases()).await;
    dead_letters(&site.part()).await;
    dead_letters_come_back(&site.part()).await;
    bounds(site).await;
    server(site).await;
    each_once(&site.part()).await;
}

#[tokio::test]
async fn embedded() {
    contract(&Site::new("")).await;
}

#[tokio::test]
async fn redis() {
    if !available("queue::redis") {
        return;
    }
    let redis = Redis::start(Keep::Nothing).await;
    contract(&Site::new(&redis.url())).await;
}

#[tokio::test]
async fn redis_behind_a_sentinel() {
    if !available("queue::redis_behind_a_sentinel") {
        return;
    }
    let (_redis, port) = Redis::start_sentinel().await;
    contract(&Site::new(&format!("redis-sentinel://127.0.0.1:{port}/main"))).await;
}

/// A sentinel with a password of its own, which is not the server's.
#[tokio::test]
async fn redis_behind_a_sentinel_with_a_password() {
    if !available("queue::redis_behind_a_sentinel_with_a_password") {
        return;
    }
    let (_redis, port) = Redis::start_sentinel().await;
    let set = ask(port, "ACL SETUSER default resetpass >s3?cret");
    assert!(set.starts_with("+OK"), "{set}");
    let depth = async |parameters: &str| {
        let part = Site::new(&format!("redis-sentinel://127.0.0.1:{port}/main/0{parameters}")).part();
        let queue = part.open().await;
        assert!(!queue.place().contains("s3"), "{}", queue.place());
        queue.depth().await.map_err(|error| chain(&error))
    };
    assert_eq!(depth("?sentinel_password=s3%3Fcret").await, Ok(Depth::default()));
    for wrong in ["", "?sentinel_password=other"] {
        let error = depth(wrong).await.unwrap_err();
        assert!(!error.contains("s3"), "{error}");
    }
}

/// What the start would refuse `config check` refuses too, and neither tells the password.
#[tokio::test]
async fn a_wrong_address_is_found_before_the_start() {
    for (url, why) in [
        ("redis-sentinel://:s3cret?more@127.0.0.1:1/main", "%3F"),
        ("redis://:s3cret/more@127.0.0.1:1/0", "%2F"),
        ("redis-sentinel://:s3cret@127.0.0.1:1", "master"),
    ] {
        let gateway = Gateway::prepare(([127, 0, 0, 1], 9).into(), &format!("[queue]\nurl = \"{url}\"\n"));
        let checked = gateway.command(&["config", "check"]).await;
        let said = format!("{}{}", checked.text(), checked.stderr);
        assert!(!checked.ok && said.contains("queue.url") && said.contains(why), "{url}: {said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[tokio::test]
async fn redis_cluster() {
    if !available("queue::redis_cluster") {
        return;
    }
    let redis = Redis::start_cluster().await;
    contract(&Site::new(&format!("redis-cluster://127.0.0.1:{}", redis.port))).await;
}

#[tokio::test]
async fn redis_cluster_of_three() {
    if !available("queue::redis_cluster_of_three") {
        return;
    }
    let [first, second, third] = Redis::start_cluster_of_three(Keep::Nothing).await;
    // Parts of the contract have keys of their own, and so they are on different nodes.
    contract(&Site::new(&format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", first.port, third.port))).await;
    let used = [&first, &second, &third].iter().filter(|node| !node.ask("DBSIZE").starts_with(":0")).count();
    assert!(used > 1, "all on one node");
}

/// A server with a certificate of a private authority, which asks for ours.
#[tokio::test]
async fn redis_over_tls() {
    if !available("queue::redis_over_tls") {
        return;
    }
    let ours = Certificates::new();
    let redis = Redis::start_tls(&ours, &[]).await;
    let site = Site::new(&format!("rediss://127.0.0.1:{}", redis.tls_port)).with_certificates(&ours);
    contract(&site).await;
    refused(&site, &ours).await;
}

#[tokio::test]
async fn redis_over_tls_as_a_cluster() {
    if !available("queue::redis_over_tls_as_a_cluster") {
        return;
    }
    let (ours, bus) = (Certificates::new(), free_port().port().to_string());
    let cluster = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--tls-cluster", "yes"];
    let redis = Redis::start_tls(&ours, &cluster).await;
    assert!(redis.ask("CLUSTER ADDSLOTSRANGE 0 16383").starts_with("+OK"));
    redis.wait("cluster", || redis.ask("CLUSTER INFO").contains("cluster_state:ok")).await;
    let site = Site::new(&format!("rediss-cluster://127.0.0.1:{}", redis.tls_port)).with_certificates(&ours);
    contract(&site).await;
    refused(&site, &ours).await;
}

#[tokio::test]
async fn redis_over_tls_behind_a_sentinel() {
    if !available("queue::redis_over_tls_behind_a_sentinel") {
        return;
    }
    let ours = Certificates::new();
    let mut redis = Redis::start_tls(&ours, &["--tls-replication", "yes"]).await;
    let tls = free_port().port();
    let more = format!("tls-port {tls}\ntls-replication yes\n{}", ours.arguments("\n"));
    redis.watch(redis.tls_port, &more).await;
    let site = Site::new(&format!("rediss-sentinel://127.0.0.1:{tls}/main")).with_certificates(&ours);
    contract(&site).await;
    refused(&site, &ours).await;
}

/// Who is not who the certificates say is not spoken to, and the reason is said.
async fn refused(site: &Site, ours: &Certificates) {
    let strangers = Certificates::new();
    let error_of = async |change: &dyn Fn(&mut QueueConfig)| {
        let mut part = site.part();
        change(&mut part.config);
        let queue = match open(&part.config, &part.folder).await {
            Ok(queue) => queue,
            Err(error) => return chain(&error),
        };
        chain(&queue.depth().await.unwrap_err())
    };
    let wrong = error_of(&|config| config.ca_file = Some(strangers.file("ca.pem"))).await;
    assert!(wrong.contains("UnknownIssuer"), "{wrong}");
    let machine = error_of(&|config| config.ca_file = None).await;
    assert!(machine.contains("UnknownIssuer"), "{machine}");
    // The server says what it wants only after the handshake, or closes.
    let nobody = |config: &mut QueueConfig| (config.cert_file, config.key_file) = (None, None);
    assert!(!error_of(&nobody).await.is_empty());
    let half = error_of(&|config| config.key_file = None).await;
    assert!(half.contains("queue.url") && half.contains("come together"), "{half}");
    let clear = error_of(&|config| config.url = config.url.replacen("rediss", "redis", 1)).await;
    assert!(clear.contains("without TLS"), "{clear}");
    let none = error_of(&|config| config.ca_file = Some("/nowhere/ca.pem".into())).await;
    assert!(none.contains("/nowhere/ca.pem") && none.contains("No such file"), "{none}");
    let key = error_of(&|config| config.ca_file = Some(ours.file("client.key"))).await;
    assert!(key.contains("client.key") && key.contains("authorities"), "{key}");
}

fn chain(error: &dyn std::error::Error) -> String {
    let below = error.source().map(chain).unwrap_or_default();
    format!("{error}: {below}")
}

/// What the program says of certificates before it starts: `config check` of files, `doctor` of the server too.
#[tokio::test]
async fn the_program_names_certificates() {
    if !available("queue::the_program_names_certificates") {
        return;
    }
    let (ours, strangers) = (Certificates::new(), Certificates::new());
    let redis = Redis::start_tls(&ours, &["--tls-auth-clients", "no"]).await;
    let url = format!("rediss://127.0.0.1:{}", redis.tls_port);
    let told = async |command: &[&str], ca: &str| {
        let of = |section: &str| format!("[{section}]\nurl = \"{url}\"\nca_file = \"{ca}\"\n");
        let nonces = format!("[signing]\nnonces_url = \"{url}\"\nnonces_ca_file = \"{ca}\"\n");
        // However busy this machine is; no longer than a message may take.
        let patient = "[cache.call]\ndeadline_ms = 4000\n";
        let settings = format!("{}{}{patient}{nonces}", of("queue"), of("cache"));
        let gateway = Gateway::prepare(([127, 0, 0, 1], 9).into(), &settings);
        gateway.command(command).await.text()
    };
    let (good, wrong) = (ours.file("ca.pem"), strangers.file("ca.pem"));
    let good = good.to_str().unwrap();
    let check = told(&["config", "check"], good).await;
    assert!(check.starts_with("ok"), "{check}");
    let check = told(&["config", "check"], "/nowhere/ca.pem").await;
    assert!(check.contains("not usable") && check.contains("/nowhere/ca.pem"), "{check}");
    let line = |doctor: &str, what: &str| {
        doctor.lines().find(|line| line.split_whitespace().nth(1) == Some(what)).unwrap_or_default().to_owned()
    };
    let doctor = told(&["doctor"], good).await;
    for what in ["queue", "cache"] {
        assert!(line(&doctor, what).starts_with("ok"), "{doctor}");
    }
    let doctor = told(&["doctor"], wrong.to_str().unwrap()).await;
    for what in ["queue", "cache"] {
        let line = line(&doctor, what);
        assert!(line.starts_with("problem") && line.contains("UnknownIssuer"), "{doctor}");
    }
}

/// What is put in comes out as it was, in order, once; another with its key only after it is done.
async fn taken_in(part: &Part) {
    let queue = part.open().await;
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
    assert!(queue.claim([9, 9, 9]).await.unwrap().is_empty());
    let mut odd = job("odd \u{e9}'\"\n{}", Priority::Medium);
    odd.payload = (0..=255).collect::<Vec<u8>>().into();
    odd.correlation = "01jd3q5xk9".into();
    odd.last_error = Some("of before".into());
    let jobs = [odd.clone(), job("b", Priority::Medium), odd.clone(), job("c", Priority::Medium)];
    let placed = queue.enqueue(&jobs).await.unwrap();
    assert_eq!(placed, [Placed::Queued, Placed::Queued, Placed::Duplicate, Placed::Queued]);
    let other = part.open().await;
    assert_eq!(other.enqueue(&jobs[..1]).await.unwrap(), [Placed::Duplicate], "for all handles");
    assert!(other.enqueue(&[]).await.unwrap().is_empty());

    let claims = other.claim([0, 2, 0]).await.unwrap();
    assert_eq!(keys(&claims), [odd.key.as_str(), "b"]);
    assert_eq!(claims[0].job, Job { attempt: 1, ..odd.clone() });
    assert_eq!(claims[0].lost_by(), 0);
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.by_priority[1].waiting, depth.by_priority[1].running), (1, 2));
    assert_eq!(queue.enqueue(&jobs[..1]).await.unwrap(), [Placed::Duplicate], "while it is worked on");
    assert!(!settle(&*queue, &claims[0], Settlement::Done).await, "not ours");
    assert!(settle(&*other, &claims[0], Settlement::Done).await);
    assert!(!settle(&*other, &claims[0], Settlement::Done).await, "once");
    assert_eq!(queue.enqueue(&jobs[..1]).await.unwrap(), [Placed::Queued], "done: the key is free");
    assert!(settle(&*other, &claims[1], Settlement::Back).await);
    let again = queue.claim([0, 9, 0]).await.unwrap();
    assert_eq!(again.len(), 3);
    let back = again.iter().find(|claim| claim.job.key == "b").unwrap();
    assert_eq!((back.job.attempt, back.lost_by()), (1, 0), "given back: no attempt");
    for claim in &again {
        assert!(settle(&*queue, claim, Settlement::Done).await);
    }
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
}

/// By shares; what one priority has not, others get.
async fn by_priority(part: &Part) {
    let queue = part.open().await;
    for priority in Priority::ALL {
        let jobs: Vec<Job> = (0..10).map(|n| job(&format!("{}{n}", priority.as_str()), priority)).collect();
        queue.enqueue(&jobs).await.unwrap();
    }
    let count = |claims: &[Claim]| Priority::ALL.map(|p| claims.iter().filter(|c| c.job.priority == p).count());
    assert_eq!(count(&queue.claim([3, 2, 1]).await.unwrap()), [3, 2, 1]);
    assert_eq!(count(&queue.claim([0, 0, 1]).await.unwrap()), [0, 0, 1], "the last is not starved");
    assert_eq!(count(&queue.claim([9, 0, 0]).await.unwrap()), [7, 2, 0], "in place of what is not there");
    assert_eq!(count(&queue.claim([0, 0, 99]).await.unwrap()), [0, 6, 8]);
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.total(), depth.waiting(), depth.oldest_ms()), (30, 0, 0));
}

async fn later_and_again(part: &Part) {
    let queue = part.open().await;
    let later = Job { not_before_ms: now_ms() + 3_600_000, ..job("later", Priority::High) };
    let soon = Job { not_before_ms: now_ms() + 300, ..job("soon", Priority::Low) };
    assert_eq!(queue.enqueue(&[later.clone(), soon]).await.unwrap(), [Placed::Queued; 2]);
    assert_eq!(queue.enqueue(&[later]).await.unwrap(), [Placed::Duplicate]);
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.by_priority[0].later, depth.waiting()), (1, depth.by_priority[2].waiting));
    let claims = claim_soon(&*queue, [5, 5, 5]).await;
    assert_eq!((keys(&claims), claims[0].job.attempt), (vec!["soon"], 1));
    let again = |due_ms, error: &str| Settlement::Again { due_ms, error: error.into() };
    assert!(settle(&*queue, &claims[0], again(now_ms() + 3_600_000, "later")).await);
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.by_priority[2].later, depth.total()), (1, 2));
    assert!(queue.claim([5, 5, 5]).await.unwrap().is_empty(), "its time has not come");

    queue.enqueue(&[job("again", Priority::Low)]).await.unwrap();
    for attempt in 1..=3 {
        let claims = claim_soon(&*queue, [5, 5, 5]).await;
        assert_eq!((keys(&claims), claims[0].job.attempt), (vec!["again"], attempt));
        assert_eq!((claims[0].lost_by(), &claims[0].job.payload[..]), (0, &b"again"[..]));
        let error = (attempt > 1).then(|| format!("try {}", attempt - 1));
        assert_eq!(claims[0].job.last_error, error);
        assert!(settle(&*queue, &claims[0], again(now_ms() + 30, &format!("try {attempt}"))).await);
    }
    let claims = claim_soon(&*queue, [5, 5, 5]).await;
    assert!(settle(&*queue, &claims[0], Settlement::Done).await);
    assert_eq!(queue.depth().await.unwrap().total(), 2);
}

/// Only who gives signs of life keeps a job; who lost it settles nothing.
async fn leases(part: &Part) {
    let (alive, other) = (part.open().await, part.open().await);
    alive.enqueue(&[job("kept", Priority::High), job("lost", Priority::Low)]).await.unwrap();
    let claims = alive.claim([1, 0, 1]).await.unwrap();
    assert_eq!(keys(&claims), ["kept", "lost"]);
    let kept = [Arc::new(claims[0].clone())];
    let stolen = loop {
        assert_eq!(alive.beat(&kept).await.unwrap(), [true]);
        let stolen = other.claim([9, 9, 9]).await.unwrap();
        if !stolen.is_empty() {
            break stolen;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(keys(&stolen), ["lost"]);
    assert_eq!((stolen[0].job.attempt, stolen[0].lost_by()), (2, 1), "that it was lost counts");
    let lost = Arc::new(claims[1].clone());
    assert_eq!(alive.beat(&[Arc::clone(&kept[0]), Arc::clone(&lost)]).await.unwrap(), [true, false]);
    for settlement in [
        Settlement::Done,
        Settlement::Back,
        Settlement::Again { due_ms: 0, error: "x".into() },
        Settlement::Dead { reason: Reason::Attempts, error: "x".into() },
    ] {
        assert!(!settle(&*alive, &lost, settlement.clone()).await, "{settlement:?}");
    }
    assert!(settle(&*other, &stolen[0], Settlement::Done).await);
    assert!(settle(&*alive, &claims[0], Settlement::Done).await);
    assert_eq!(alive.depth().await.unwrap(), Depth::default());
}

/// What dead workers had, and what has become due, waits and has an age, though nobody claims.
async fn nobody_left(part: &Part) {
    let queue = part.open().await;
    let due = Job { not_before_ms: now_ms() + 100, ..job("due", Priority::Low) };
    queue.enqueue(&[job("lost", Priority::High), due]).await.unwrap();
    assert_eq!(keys(&queue.claim([1, 0, 0]).await.unwrap()), ["lost"]);
    let running = queue.depth().await.unwrap().by_priority[0];
    assert_eq!((running.waiting, running.running), (0, 1));
    until("both wait, and grow older", async || {
        let [high, _, low] = queue.depth().await.unwrap().by_priority;
        let waits = |one: mailweir::deferred::Waiting| (one.waiting, one.running, one.later) == (1, 0, 0);
        waits(high) && waits(low) && high.oldest_ms > 300 && low.oldest_ms > 300
    })
    .await;
    for claim in [claim_soon(&*queue, [9, 9, 9]).await, queue.claim([9, 9, 9]).await.unwrap()].concat() {
        assert!(settle(&*queue, &claim, Settlement::Done).await);
    }
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
}

/// What others have lost is taken over one at a time; given back, it is not forgotten that it was lost.
async fn taken_over_singly(part: &Part) {
    let (dying, other) = (part.open().await, part.open().await);
    let jobs: Vec<Job> = (0..4).map(|n| job(&format!("lost{n}"), Priority::ALL[n % 3])).collect();
    dying.enqueue(&jobs).await.unwrap();
    assert_eq!(dying.claim([9, 9, 9]).await.unwrap().len(), 4);
    let lost = claim_soon(&*other, [9, 9, 9]).await;
    assert_eq!((lost.len(), lost[0].lost_by(), lost[0].job.attempt), (1, 1, 2));
    other.enqueue(&[job("fresh", Priority::Low)]).await.unwrap();
    let fresh = claim_soon(&*other, [9, 9, 9]).await;
    assert_eq!((keys(&fresh), fresh[0].lost_by()), (vec!["fresh"], 0), "no second one of the dead's");
    assert!(settle(&*other, &fresh[0], Settlement::Done).await);
    assert!(settle(&*other, &lost[0], Settlement::Back).await);
    assert!(!settle(&*other, &lost[0], Settlement::Done).await, "it is not ours any more");
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let claims = claim_soon(&*other, [9, 9, 9]).await;
        assert_eq!((claims.len(), claims[0].lost_by()), (1, 1), "{claims:?}");
        assert!(settle(&*other, &claims[0], Settlement::Done).await);
        seen.push(claims[0].job.key.clone());
    }
    seen.sort();
    assert_eq!(seen, ["lost0", "lost1", "lost2", "lost3"]);
    assert_eq!(other.depth().await.unwrap(), Depth::default());
}

async fn dead_letters(part: &Part) {
    let queue = part.open().await;
    let jobs: Vec<Job> = (0..4).map(|n| job(&format!("d{n}"), Priority::ALL[n % 3])).collect();
    queue.enqueue(&jobs).await.unwrap();
    for claim in queue.claim([9, 9, 9]).await.unwrap() {
        let error = format!("{} broke", claim.job.key);
        // In different milliseconds, so that their order is known.
        tokio::time::sleep(Duration::from_millis(3)).await;
        assert!(settle(&*queue, &claim, Settlement::Dead { reason: Reason::Poison, error }).await);
    }
    let dead = queue.dead(None, 10).await.unwrap();
    assert_eq!(dead.len(), 4);
    assert!(dead.windows(2).all(|pair| pair[0].dead_ms >= pair[1].dead_ms), "the newest first");
    let one = dead.iter().find(|dead| dead.job.key == "d1").unwrap();
    assert_eq!((one.reason, one.job.attempt, one.job.last_error.as_deref()), (Reason::Poison, 1, Some("d1 broke")));
    assert_eq!((&one.job.payload[..], one.job.priority), (&b"d1"[..], Priority::Medium));
    assert_eq!(queue.dead(None, 2).await.unwrap().len(), 2);
    assert_eq!(queue.depth().await.unwrap(), Depth { dead: 4, ..Depth::default() });

    let key = |key: &str| key.to_owned();
    assert_eq!(queue.replay(Some(&[key("d1"), key("nobody")])).await.unwrap(), 1);
    let claims = queue.claim([9, 9, 9]).await.unwrap();
    assert_eq!(keys(&claims), ["d1"]);
    assert_eq!((claims[0].job.attempt, claims[0].job.last_error.as_deref()), (1, Some("d1 broke")), "as new");
    assert_eq!(queue.purge(Some(&[key("d2"), key("nobody")])).await.unwrap(), 1);
    // A new job with its key takes the dead letter's place.
    assert_eq!(queue.enqueue(&[job("d0", Priority::Low)]).await.unwrap(), [Placed::Queued]);
    assert_eq!(queue.dead(None, 10).await.unwrap().iter().map(|d| d.job.key.as_str()).collect::<Vec<_>>(), ["d3"]);
    assert_eq!(queue.replay(Some(&[key("d0")])).await.unwrap(), 0, "it would run again");
    assert_eq!(queue.replay(Some(&[])).await.unwrap() + queue.purge(Some(&[])).await.unwrap(), 0);
    assert_eq!(queue.purge(None).await.unwrap(), 1);
    assert_eq!(queue.depth().await.unwrap().dead, 0);

    // What could not be queued is buried from outside, and can be replayed as any other.
    let large =
        Job { payload: vec![0; 100_000].into(), last_error: Some("too large".into()), ..job("large", Priority::Low) };
    let buried = DeadJob { job: large, reason: Reason::Refused, dead_ms: now_ms() };
    queue.bury(std::slice::from_ref(&buried)).await.unwrap();
    queue.bury(std::slice::from_ref(&buried)).await.unwrap();
    assert_eq!(queue.dead(None, 9).await.unwrap(), [buried]);
    assert_eq!(queue.replay(None).await.unwrap(), 1);
    let claims = queue.claim([9, 9, 9]).await.unwrap();
    let claim = claims.into_iter().find(|claim| claim.job.key == "large").unwrap();
    assert_eq!((claim.job.key.as_str(), claim.job.payload.len()), ("large", 100_000));

    // Failed for no fault of its own: it waits, and no attempt is used up.
    let later = |error: &str| Settlement::Later { due_ms: now_ms(), error: error.into() };
    assert!(settle(&*queue, &claim, later("away")).await);
    for _ in 0..7 {
        let claim = claim_soon(&*queue, [0, 0, 1]).await.remove(0);
        assert_eq!((claim.job.attempt, claim.job.last_error.as_deref()), (1, Some("away")));
        assert!(settle(&*queue, &claim, later("away")).await);
    }
    let claim = claim_soon(&*queue, [0, 0, 1]).await.remove(0);
    assert!(settle(&*queue, &claim, Settlement::Again { due_ms: now_ms(), error: "broke".into() }).await);
    let claim = claim_soon(&*queue, [0, 0, 1]).await.remove(0);
    assert_eq!(claim.job.attempt, 2);
    assert!(settle(&*queue, &claim, later("away")).await);
    assert_eq!(claim_soon(&*queue, [0, 0, 1]).await[0].job.attempt, 2, "what was used up stays so");
}

/// Page by page; and a queue that lost them takes them back, but for those that it has.
async fn dead_letters_come_back(part: &Part) {
    let queue = part.open().await;
    let dead: Vec<DeadJob> = (0..7)
        .map(|n| DeadJob { job: job(&format!("d{n}"), Priority::Low), reason: Reason::Refused, dead_ms: 1_000 + n / 3 })
        .collect();
    queue.enqueue(&[job("d6", Priority::Low)]).await.unwrap();
    assert_eq!(queue.bury(&dead).await.unwrap(), 6, "one is a job");
    assert_eq!(queue.bury(&dead).await.unwrap(), 0, "they are there");
    assert_eq!(queue.depth().await.unwrap().dead, 6);
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = queue.dead(after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.place().to_string().parse().unwrap());
        seen.extend(page.into_iter().map(|dead| dead.job.key));
    }
    assert_eq!(seen, ["d5", "d4", "d3", "d2", "d1", "d0"]);
    assert_eq!(queue.dead(None, 1).await.unwrap(), dead[5..6]);
    assert_eq!(queue.replay(None).await.unwrap(), 6);
    assert_eq!((queue.depth().await.unwrap().dead, queue.claim([9, 9, 9]).await.unwrap().len()), (0, 7));
}

async fn bounds(site: &Site) {
    let mut part = site.part();
    part.config = QueueConfig { max_jobs: 3, max_payload_bytes: 10, max_dead: 2, ..part.config };
    let queue = part.open().await;
    let large = Job { payload: vec![0; 11].into(), ..job("large", Priority::High) };
    let jobs = [job("a", Priority::Low), large, job("", Priority::Low), job("b", Priority::Low)];
    let placed = queue.enqueue(&jobs).await.unwrap();
    assert_eq!(placed, [Placed::Queued, Placed::Refused, Placed::Refused, Placed::Queued]);
    let jobs = [job("a", Priority::High), job("c", Priority::High), job("d", Priority::High)];
    assert_eq!(queue.enqueue(&jobs).await.unwrap()[1..], [Placed::Queued, Placed::Full]);
    for claim in queue.claim([9, 9, 9]).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(3)).await;
        settle(&*queue, &claim, Settlement::Dead { reason: Reason::Refused, error: String::new() }).await;
    }
    let dead: Vec<String> = queue.dead(None, 9).await.unwrap().into_iter().map(|dead| dead.job.key).collect();
    assert_eq!((dead.len(), queue.depth().await.unwrap().dead), (2, 2), "the oldest went: {dead:?}");
}

/// What the server says of itself, where there is one.
async fn server(site: &Site) {
    let part = site.part();
    let queue = part.open().await;
    let said = queue.server().await.unwrap();
    match said {
        None => assert!(site.url.is_empty(), "a server says something of itself"),
        Some(said) => assert!(!site.url.is_empty() && said.memory_bytes > 100_000 && said.keys > 0, "{said:?}"),
    }
}

/// Several handles at once: each job is claimed by one.
async fn each_once(part: &Part) {
    let queue = part.open().await;
    let jobs: Vec<Job> = (0..1_000).map(|n| job(&format!("{n}"), Priority::ALL[n % 3])).collect();
    let placed = queue.enqueue(&jobs).await.unwrap();
    assert_eq!(placed, vec![Placed::Queued; 1_000]);
    let mut hands = JoinSet::new();
    for _ in 0..4 {
        let queue = part.open().await;
        hands.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claims = queue.claim([8, 3, 1]).await.unwrap();
                if claims.is_empty() {
                    return mine;
                }
                let done: Vec<_> = claims.iter().map(|c| (Arc::new(c.clone()), Settlement::Done)).collect();
                let settled = queue.settle(&done).await.unwrap();
                mine.extend(claims.into_iter().zip(settled).filter(|(_, s)| *s).map(|(claim, _)| claim.job.key));
            }
        });
    }
    let mut all: Vec<String> = hands.join_all().await.into_iter().flatten().collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 1_000);
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
}

// The pool

/// Does what the payload says, and counts.
#[derive(Default)]
struct Scripted {
    attempts: Mutex<HashMap<String, u32>>,
    reminded: AtomicU32,
}

impl Handler for Scripted {
    fn run<'a>(&'a self, job: &'a Job, soon: CancellationToken) -> BoxFuture<'a, Result<(), Failure>> {
        let attempt = {
            let mut attempts = self.attempts.lock().unwrap();
            let attempt = attempts.entry(job.key.clone()).or_default();
            *attempt += 1;
            *attempt
        };
        async move {
            match &job.payload[..] {
                b"ok" => Ok(()),
                b"twice" if attempt == 1 => Err(Failure::again("not yet")),
                b"twice" => Ok(()),
                b"fails" => Err(Failure::again("it is broken")),
                b"never" => Err(Failure::never("makes no sense")),
                b"panics" => panic!("as the test wants it"),
                b"hangs" => std::future::pending().await,
                b"reminded" => {
                    soon.cancelled().await;
                    self.reminded.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                b"slow" => {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    Ok(())
                }
                other => panic!("{other:?}"),
            }
        }
        .boxed()
    }
}

struct Running {
    handler: Arc<Scripted>,
    crew: Arc<Crew>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(part: &Part, workers: WorkersConfig) -> Self {
        let handler = Arc::new(Scripted::default());
        let handlers = Handlers::from([("test".to_owned(), Arc::clone(&handler) as Arc<dyn Handler>)]);
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let pool = Pool::new(part.open().await, None, handlers, (&part.config, &workers), metrics).unwrap();
        let (crew, stop) = (pool.crew(), CancellationToken::new());
        let task = tokio::spawn(pool.run(stop.clone()));
        Self { handler, crew, stop, task }
    }

    async fn finish(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the pool ends").unwrap();
    }

    fn attempts(&self, key: &str) -> u32 {
        self.handler.attempts.lock().unwrap().get(key).copied().unwrap_or_default()
    }
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "never came: {what}");
}

fn quick() -> WorkersConfig {
    WorkersConfig {
        attempts: 3,
        backoff_ms: 5,
        soft_seconds: 1,
        hard_seconds: 2,
        idle_ms: 10,
        ..WorkersConfig::default()
    }
}

fn scripted(payload: &str) -> Job {
    Job::new("test", payload, payload.as_bytes().to_vec(), now_ms())
}

/// Every way a job can end.
/// Failures of jobs and of the queue so far, by category.
fn failures(registry: &prometheus::Registry) -> HashMap<String, f64> {
    let families = registry.gather();
    let all = families.iter().find(|family| family.name() == "mailweir_errors_total").unwrap();
    let label = |metric: &prometheus::proto::Metric, name: &str| -> String {
        metric.get_label().iter().find(|label| label.name() == name).unwrap().value().to_owned()
    };
    let ours = all.get_metric().iter().filter(|metric| label(metric, "room") == "deferred");
    ours.map(|metric| (label(metric, "category"), metric.get_counter().get_value())).collect()
}

async fn outcomes(site: &Site) {
    let part = site.part();
    let running = Running::start(&part, quick()).await;
    let queue = part.open().await;
    let registry = prometheus::Registry::new();
    mailweir::observe::register(&registry).unwrap();
    let before = failures(&registry);
    let mut jobs: Vec<Job> = ["ok", "twice", "fails", "never", "panics", "hangs", "reminded"].map(scripted).into();
    jobs.push(Job { kind: "of_tomorrow".into(), ..job("unknown", Priority::High) });
    queue.enqueue(&jobs).await.unwrap();
    until("all are settled", async || queue.depth().await.unwrap().total() == 0).await;
    let mut dead: Vec<(String, Reason, u32, String)> = queue
        .dead(None, 99)
        .await
        .unwrap()
        .into_iter()
        .map(|dead| (dead.job.key, dead.reason, dead.job.attempt, dead.job.last_error.unwrap_or_default()))
        .collect();
    dead.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("fails", Reason::Attempts, 3, "it is broken"),
        ("hangs", Reason::Attempts, 3, "not done within 2 s"),
        ("never", Reason::Refused, 1, "makes no sense"),
        ("panics", Reason::Attempts, 3, "the handler panicked"),
        ("unknown", Reason::UnknownKind, 1, "nobody here handles jobs of kind `of_tomorrow`"),
    ];
    let expected: Vec<_> =
        expected.map(|(key, reason, attempts, error)| (key.to_owned(), reason, attempts, error.to_owned())).into();
    assert_eq!(dead, expected);
    let attempts = ["ok", "twice", "fails", "never", "panics", "hangs", "reminded"].map(|key| running.attempts(key));
    assert_eq!(attempts, [1, 2, 3, 1, 3, 3, 1]);
    assert_eq!(running.handler.reminded.load(Ordering::Relaxed), 1);
    // All tests of this process count in one place.
    let after = failures(&registry);
    for (category, least) in
        [("external", 4.0), ("validation", 1.0), ("internal", 3.0), ("resource", 3.0), ("configuration", 1.0)]
    {
        let (was, is) = (before[category], after[category]);
        assert!(is - was >= least, "{category}: {was} to {is}");
    }
    let history = running.crew.history(None, 1_000);
    let outcomes =
        |key: &str| history.iter().rev().filter(|run| run.key == key).map(|run| run.outcome).collect::<Vec<_>>();
    assert_eq!(outcomes("twice"), [Outcome::Again, Outcome::Done]);
    assert_eq!(outcomes("fails"), [Outcome::Again, Outcome::Again, Outcome::Dead]);

    // Replayed by hand, it is a new job with new attempts.
    assert_eq!(queue.replay(Some(&["fails".to_owned()])).await.unwrap(), 1);
    until("it is dead again", async || running.attempts("fails") == 6 && queue.depth().await.unwrap().dead == 5).await;
    running.finish().await;
}

#[tokio::test]
async fn every_way_a_job_can_end_embedded() {
    outcomes(&Site::new("")).await;
}

#[tokio::test]
async fn every_way_a_job_can_end_redis() {
    if available("queue::every_way_a_job_can_end_redis") {
        let redis = Redis::start(Keep::Nothing).await;
        outcomes(&Site::new(&redis.url())).await;
    }
}

/// At the end jobs at work are ended, the others go back at once: nobody waits for a lease.
#[tokio::test]
async fn drained_not_killed() {
    let site = Site::new("");
    let part = site.part();
    let workers = WorkersConfig { drain_seconds: 1, hard_seconds: 60, ..quick() };
    let running = Running::start(&part, workers).await;
    let queue = part.open().await;
    let mut jobs = vec![scripted("slow"), scripted("hangs")];
    jobs.extend((0..5).map(|n| Job { key: format!("ok{n}"), ..scripted("ok") }));
    queue.enqueue(&jobs).await.unwrap();
    until("both workers are busy", async || running.attempts("slow") + running.attempts("hangs") == 2).await;
    let done = Arc::clone(&running.handler);
    running.finish().await;
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.waiting(), depth.total()), (depth.total(), depth.total()), "nothing is claimed");
    let left: Vec<String> = queue.claim([99, 99, 99]).await.unwrap().into_iter().map(|claim| claim.job.key).collect();
    assert!(left.contains(&"hangs".to_owned()) && !left.contains(&"slow".to_owned()), "{left:?}");
    let begun: Vec<String> = done.attempts.lock().unwrap().keys().cloned().collect();
    assert_eq!(begun.len() + left.len(), 8, "each is done or back, but for the one that was cut: {begun:?} {left:?}");
}

/// More workers under load, by order and by settings; each change with its cause.
#[tokio::test]
async fn the_number_of_workers_changes() {
    let site = Site::new("");
    let part = site.part();
    let scaling = ScalingConfig { mode: Mode::Queue, cooldown_seconds: 1, up_depth: 20, ..ScalingConfig::default() };
    let running = Running::start(&part, WorkersConfig { scaling: scaling.clone(), ..quick() }).await;
    let queue = part.open().await;
    let jobs: Vec<Job> = (0..200).map(|n| Job { key: format!("slow{n}"), ..scripted("slow") }).collect();
    queue.enqueue(&jobs).await.unwrap();
    let crew = Arc::clone(&running.crew);
    until("it scales up", async || crew.workers().len() >= 8).await;
    until("all is done", async || queue.depth().await.unwrap().total() == 0).await;
    until("it scales down", async || crew.target() < crew.events().iter().map(|e| e.to).max().unwrap()).await;
    let events = crew.events();
    let first = events.last().unwrap();
    assert_eq!((first.from, first.to, first.cause.as_str()), (2, 4, "depth"), "{first:?}");
    assert_eq!(events[0].cause.as_str(), "quiet", "{:?}", events[0]);

    crew.set_config(ScalingConfig { mode: Mode::Manual, ..scaling.clone() }).unwrap();
    assert_eq!((crew.ask(1_000), crew.ask(0)), (20, 20));
    until("as ordered", async || crew.workers().len() == 20).await;
    assert_eq!(crew.ask(-1_000), 2);
    until("as ordered", async || crew.workers().len() == 2).await;
    assert!(crew.set_config(ScalingConfig { min: 9, max: 3, ..scaling }).is_err());
    assert_eq!(crew.config().mode, Mode::Manual, "a wrong setting changes nothing");
    assert!(crew.workers().iter().all(|worker| (0.0..=1.0).contains(&worker.utilisation)));
    running.finish().await;
}

/// A job over which workers die becomes a dead letter, and others are done.
async fn poison(site: &Site) {
    let part = site.part().with_short_leases();
    let queue = part.open().await;
    queue.enqueue(&[Job { key: "poison".into(), ..scripted("hangs") }, scripted("ok")]).await.unwrap();
    let settled = async || queue.depth().await.unwrap().total() == 0;
    let mut deaths = 0;
    loop {
        let running = Running::start(&part, WorkersConfig { hard_seconds: 60, ..quick() }).await;
        until("it begins, or is dead", async || running.attempts("poison") > 0 || settled().await).await;
        if running.attempts("poison") == 0 {
            running.finish().await;
            break;
        }
        // As `kill -9` does: nothing is settled, nothing is given back.
        running.task.abort();
        let _ = running.task.await;
        deaths += 1;
        assert!(deaths <= 3, "it goes on killing");
    }
    assert_eq!(deaths, 3);
    let dead = queue.dead(None, 9).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].job.key.as_str(), dead[0].reason, dead[0].job.attempt), ("poison", Reason::Poison, 4));
    assert!(dead[0].job.last_error.as_ref().unwrap().starts_with("3 workers died over it"), "{dead:?}");
}

#[tokio::test]
async fn poison_embedded() {
    poison(&Site::new("")).await;
}

#[tokio::test]
async fn poison_redis() {
    if available("queue::poison_redis") {
        let redis = Redis::start(Keep::Nothing).await;
        poison(&Site::new(&redis.url())).await;
    }
}

/// A killer among eight, with the settings as they are: nobody dies with it.
async fn only_the_killer(site: &Site) {
    let part = site.part().with_short_leases();
    let queue = part.open().await;
    let workers = || WorkersConfig { idle_ms: 10, ..WorkersConfig::default() };
    let mut jobs: Vec<Job> = (0..7).map(|n| Job { key: format!("innocent{n}"), ..scripted("slow") }).collect();
    jobs.insert(3, Job { key: "killer".into(), ..scripted("hangs") });
    queue.enqueue(&jobs).await.unwrap();
    let over = async || queue.depth().await.unwrap().total() == 0;
    let mut deaths = 0;
    loop {
        let running = Running::start(&part, workers()).await;
        until("it begins, or all is over", async || running.attempts("killer") > 0 || over().await).await;
        if running.attempts("killer") == 0 {
            running.finish().await;
            break;
        }
        running.task.abort();
        let _ = running.task.await;
        deaths += 1;
        assert!(deaths <= 5, "it goes on killing");
    }
    let dead: Vec<String> = queue.dead(None, 9).await.unwrap().into_iter().map(|dead| dead.job.key).collect();
    assert_eq!((deaths, dead), (5, vec!["killer".to_owned()]));
}

#[tokio::test]
async fn only_the_killer_embedded() {
    only_the_killer(&Site::new("")).await;
}

#[tokio::test]
async fn only_the_killer_redis() {
    if available("queue::only_the_killer_redis") {
        let redis = Redis::start(Keep::Nothing).await;
        only_the_killer(&Site::new(&redis.url())).await;
    }
}

/// What is in Redis and cannot be read is a dead letter with its bytes, not an endless round.
#[tokio::test]
async fn what_cannot_be_read() {
    if !available("queue::what_cannot_be_read") {
        return;
    }
    let redis = Redis::start(Keep::Nothing).await;
    let part = Site::new(&redis.url()).part();
    redis.ask("HSET {part0}:jobs odd of-another-version");
    redis.ask("XADD {part0}:low * k odd");
    redis.ask("XADD {part0}:high * k leftover");
    let queue = part.open().await;
    let running = Running::start(&part, quick()).await;
    until("it is dead", async || queue.depth().await.unwrap() == Depth { dead: 1, ..Depth::default() }).await;
    running.finish().await;
    let dead = &queue.dead(None, 1).await.unwrap()[0];
    assert_eq!((dead.job.key.as_str(), dead.reason), ("odd", Reason::UnknownKind));
    assert_eq!(&dead.job.payload[..], b"of-another-version");
}

/// Flushes Redis at the first attempt of a job and says that it is hopeless; does it at the second, if it is told so.
struct Flushes {
    redis: Redis,
    attempts: AtomicU32,
    does_it: bool,
}

impl Handler for Flushes {
    fn run<'a>(&'a self, _job: &'a Job, _soon: CancellationToken) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
            match (self.does_it, attempt) {
                (true, 0) => {
                    self.redis.ask("FLUSHALL");
                    Err(Failure::never("hopeless"))
                }
                (true, _) => Ok(()),
                (false, _) => Err(Failure::never("hopeless")),
            }
        }
        .boxed()
    }
}

/// A queue in Redis, workers, and the outbox in the records, with one job in it.
struct WithOutbox {
    part: Part,
    queue: Arc<dyn Queue>,
    outbox: Arc<dyn Outbox>,
    records: Open,
    handler: Arc<Flushes>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    place: Place,
}

impl WithOutbox {
    async fn start(does_it: bool) -> Self {
        let redis = Redis::start(Keep::Nothing).await;
        let mut part = Site::new(&redis.url()).part();
        (part.config.resend_seconds, part.config.pump_ms) = (1, 20);
        let place = Place::new("");
        let records = place.open().await;
        let outbox: Arc<dyn Outbox> = Arc::new(OfRecords(Arc::clone(&records.records)));
        let queue = part.open().await;
        let handler = Arc::new(Flushes { redis, attempts: AtomicU32::new(0), does_it });
        let handlers = Handlers::from([("test".to_owned(), Arc::clone(&handler) as Arc<dyn Handler>)]);
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let (workers, stop) = (quick(), CancellationToken::new());
        let to_outbox = Some(Arc::clone(&outbox));
        let sections = (&part.config, &workers);
        let pool = Pool::new(Arc::clone(&queue), to_outbox, handlers, sections, Arc::clone(&metrics)).unwrap();
        let pump = pump(Arc::clone(&outbox), Arc::clone(&queue), part.config.clone(), metrics, stop.clone());
        let tasks = vec![tokio::spawn(pump), tokio::spawn(pool.run(stop.clone()))];
        let one = record(id_at(now_ms(), 1), "with a job", &["a@x.example"]);
        let job = OutboxJob {
            key: "one".into(),
            kind: "test".into(),
            priority: 1,
            payload: b"payload".to_vec(),
            correlation: "c".into(),
            enqueued_ms: now_ms(),
            not_before_ms: 0,
        };
        records.records.note_with_jobs(&one, vec![job]);
        Self { part, queue, outbox, records, handler, stop, tasks, place }
    }

    fn attempts(&self) -> u32 {
        self.handler.attempts.load(Ordering::Relaxed)
    }

    async fn dead(&self, count: usize) {
        until("dead letters", async || self.queue.dead(None, 9).await.is_ok_and(|dead| dead.len() == count)).await;
    }

    async fn in_outbox(&self) -> usize {
        let records = &self.records.records;
        let live = records.unfinished(i64::MAX, 9).await.unwrap().len();
        live + records.buried(i64::MAX, 9).await.unwrap().len()
    }

    async fn finish(self) {
        self.stop.cancel();
        for task in self.tasks {
            tokio::time::timeout(PATIENCE, task).await.expect("it ends").unwrap();
        }
        drop((self.outbox, self.queue, self.part));
        self.records.close().await;
        drop(self.place);
    }
}

/// A dead letter outlives its Redis, with its payload; so does its replay, and a purge is for good.
#[tokio::test]
async fn dead_letters_outlive_redis() {
    if !available("queue::dead_letters_outlive_redis") {
        return;
    }
    let site = WithOutbox::start(false).await;
    site.dead(1).await;
    until("the outbox knows", async || !site.records.records.buried(i64::MAX, 9).await.unwrap().is_empty()).await;
    site.handler.redis.ask("FLUSHALL");
    site.dead(1).await;
    let dead = site.queue.dead(None, 9).await.unwrap().remove(0);
    assert_eq!((dead.job.key.as_str(), &dead.job.payload[..], dead.reason), ("one", &b"payload"[..], Reason::Refused));
    assert_eq!((dead.job.last_error.as_deref(), dead.job.attempt), (Some("hopeless"), 1));
    assert_eq!((site.attempts(), site.in_outbox().await), (1, 1), "it was not tried again by itself");

    assert_eq!(replay(&*site.queue, &*site.outbox, None).await.unwrap(), 1);
    until("it was tried again", async || site.attempts() >= 2).await;
    site.dead(1).await;
    until("the outbox knows", async || !site.records.records.buried(i64::MAX, 9).await.unwrap().is_empty()).await;
    let before = site.attempts();
    site.handler.redis.ask("FLUSHALL");
    assert_eq!(replay(&*site.queue, &*site.outbox, Some(&["one".to_owned()])).await.unwrap(), 1, "from the outbox");
    until("it was tried again", async || site.attempts() > before).await;
    site.dead(1).await;
    until("the outbox knows", async || !site.records.records.buried(i64::MAX, 9).await.unwrap().is_empty()).await;
    assert_eq!(purge(&*site.queue, &*site.outbox, Some(&["nobody".to_owned()])).await.unwrap(), 0);
    assert_eq!(purge(&*site.queue, &*site.outbox, None).await.unwrap(), 1);
    assert_eq!((site.in_outbox().await, site.queue.depth().await.unwrap().dead), (0, 0));
    site.finish().await;
}

/// A job that was lost before it could be buried is no dead letter: the outbox still has it, and it is done.
#[tokio::test]
async fn what_was_lost_is_not_forgotten() {
    if !available("queue::what_was_lost_is_not_forgotten") {
        return;
    }
    let site = WithOutbox::start(true).await;
    until("it is done at the second attempt", async || site.attempts() == 2 && site.in_outbox().await == 0).await;
    assert_eq!(site.queue.depth().await.unwrap(), Depth::default());
    site.finish().await;
}

// The program

/// Gateway and `mailweir worker` share a Redis; the commands see the same queue.
async fn program(site: &Site, queue: &str) {
    let sink = crate::support::sink::Sink::start().await;
    let settings = format!("[queue]\nurl = \"{queue}\"\nprefix = \"part0\"\n[workers]\nidle_ms = 20\n");
    let gateway = Gateway::start_with(sink.address, &settings).await;
    let mut part = site.part();
    if queue.is_empty() {
        part.folder = gateway.data();
    }
    let handle = part.open().await;
    handle.enqueue(&[job("one", Priority::High), job("two", Priority::Low)]).await.unwrap();
    until("both are dead: nobody handles their kind", async || handle.depth().await.unwrap().dead == 2).await;
    let status = gateway.command(&["queue", "status", "--json"]).await;
    assert_eq!(status.json()[0]["dead"], 2, "{status:?}");
    assert_eq!(status.json()[0]["by_priority"]["high"]["waiting"], 0);
    let listed = gateway.command(&["queue", "dead", "list", "--json"]).await.json();
    assert_eq!((listed.len(), listed[0]["reason"].as_str()), (2, Some("unknown_kind")));
    assert!(!gateway.command(&["queue", "dead", "purge"]).await.ok, "of what?");
    let unasked = gateway.command(&["queue", "dead", "purge", "--all"]).await;
    assert!(!unasked.ok && unasked.stderr.contains("--yes"), "{unasked:?}");
    assert_eq!(gateway.command(&["queue", "dead", "purge", "one", "--json"]).await.json()[0]["purged"], 1);
    assert!(gateway.terminate().await.success());
    assert_eq!(gateway.command(&["queue", "dead", "replay", "--all", "--json"]).await.json()[0]["replayed"], 1);
    assert!(gateway.command(&["queue", "status"]).await.text().contains("dead letters: 0"));
    assert!(gateway.command(&["queue", "dead", "list"]).await.text().contains("LAST ERROR"));
    let purged = gateway.command(&["queue", "dead", "purge", "--all", "--yes"]).await;
    assert!(purged.ok && purged.text().contains("purged: 0"), "{purged:?}");
    assert!(purged.stderr.contains("dead_letters.purged"), "no audit event: {purged:?}");
}

#[tokio::test]
async fn the_program_embedded() {
    program(&Site::new(""), "").await;
}

#[tokio::test]
async fn the_program_redis() {
    if available("queue::the_program_redis") {
        let redis = Redis::start(Keep::Nothing).await;
        program(&Site::new(&redis.url()), &redis.url()).await;
    }
}

/// A process without doors does the jobs of others, and ends in good order.
#[tokio::test]
async fn a_worker_process() {
    let site = Site::new("");
    let gateway = Gateway::prepare(([127, 0, 0, 1], 9).into(), "[workers]\nidle_ms = 20\n");
    let part = Part { folder: gateway.data(), ..site.part() };
    std::fs::create_dir_all(&part.folder).unwrap();
    let handle = part.open().await;
    handle.enqueue(&[job("one", Priority::High)]).await.unwrap();
    gateway.start_worker();
    until("it is dead: nobody handles its kind", async || handle.depth().await.unwrap().dead == 1).await;
    assert!(gateway.terminate().await.success(), "{}", gateway.log());
    assert!(gateway.log().contains("worker\n  queue") && gateway.log().contains("stopped"), "{}", gateway.log());
}

/// Beside a gateway of the same configuration it says what to do about HTTP.
#[tokio::test]
async fn a_worker_beside_a_gateway() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = format!("[http]\nenabled = true\nlisten = \"{}\"\n", taken.local_addr().unwrap());
    let gateway = Gateway::prepare(([127, 0, 0, 1], 9).into(), &settings);
    gateway.start_worker();
    until("it ends", async || gateway.log().contains("MAILWEIR__HTTP__LISTEN")).await;
    assert!(gateway.log().contains("http.listen"), "{}", gateway.log());
}

/// SIGHUP does not end a worker process: it judges by the new settings from then on, and wrong ones change nothing.
#[tokio::test]
async fn a_worker_process_reloads() {
    let hop = ([127, 0, 0, 1], 9).into();
    let gateway = Gateway::prepare(hop, "[log]\nlevel = \"info\"\n");
    gateway.start_worker();
    until("it works", async || gateway.log().contains("worker\n  queue")).await;
    gateway.configure(hop, "[log]\nlevel = \"info\"\n[policy.default]\ntag_at = 41.0\n");
    let reloads = || gateway.log().matches("configuration reloaded").count();
    // By the signal, by the file, or by both.
    until("it is reloaded", async || {
        gateway.hang_up();
        reloads() > 0 && gateway.log().contains("tag_at: ")
    })
    .await;
    gateway.configure(hop, "[policy.default]\ntag_at = 99.0\nquarantine_at = 1.0\n");
    gateway.hang_up();
    until("it is refused", async || gateway.log().contains("the old one stays in effect")).await;
    assert!(gateway.terminate().await.success(), "{}", gateway.log());
}

/// What the API shows of queue and workers, and what can be ordered.
#[tokio::test]
async fn the_api() {
    let (http, sink) = (free_port(), crate::support::sink::Sink::start().await);
    let settings = format!("[http]\nenabled = true\nlisten = \"{http}\"\n[workers.scaling]\nmode = \"manual\"\n");
    let gateway = Gateway::start_with(sink.address, &settings).await;
    let part = Part { folder: gateway.data(), ..Site::new("").part() };
    part.open().await.enqueue(&[job("one", Priority::High)]).await.unwrap();
    // HTTP is the last to listen; the token is there by then.
    until("HTTP listens", async || TcpStream::connect(http).await.is_ok()).await;
    let token = std::fs::read_to_string(gateway.data().join("admin.token")).unwrap();
    let token = format!("Authorization: Bearer {}", token.trim());
    let ask = async |method: &str, path: &str, body: &str| {
        let path = format!("/api/v1/scalability/{path}");
        request(http, method, &path, &[&token, "Content-Type: application/json"], body).await
    };
    let get = async |path: &str| ask("GET", path, "").await.json();
    assert_eq!(request(http, "GET", "/api/v1/scalability/health", &[], "").await.status, 401);
    until("the job was tried", async || !get("jobs").await["items"].as_array().unwrap().is_empty()).await;
    let page = get("jobs?limit=1").await;
    assert_eq!((page["next"].as_u64(), page["items"][0]["number"].as_u64()), (Some(1), Some(1)), "{page}");
    assert_eq!(get("jobs?limit=1&before=1").await["items"], serde_json::json!([]));
    let run = page["items"][0].clone();
    assert_eq!(
        (run["key"].as_str(), run["outcome"].as_str(), run["attempt"].as_u64()),
        (Some("one"), Some("dead"), Some(1))
    );
    // It is settled a moment after it was tried.
    until("the job is dead", async || get("health").await["depth"]["dead"] == 1).await;
    let health = get("health").await;
    assert_eq!((health["status"].as_str(), &health["depth"]["dead"]), (Some("DEGRADED"), &1.into()), "{health}");

    until("it was measured", async || get("scaling/status").await["load"].is_object()).await;
    assert_eq!(ask("POST", "scale-up", "{\"by\": 3}").await.json()["target"], 5);
    assert_eq!(ask("POST", "scale-down", "").await.json()["target"], 4);
    assert_eq!(ask("POST", "scale-up", "{\"by\": -3}").await.status, 400);
    until("as ordered", async || get("scaling/status").await["workers"].as_array().unwrap().len() == 4).await;
    let status = get("scaling/status").await;
    assert_eq!((status["events"][0]["cause"].as_str(), status["events"][1]["to"].as_u64()), (Some("asked"), Some(5)));
    assert_eq!((status["mode"].as_str(), status["max"].as_u64()), (Some("manual"), Some(20)));

    let mut config = get("scaling/config").await;
    config["min"] = 6.into();
    assert_eq!(ask("PUT", "scaling/config", &config.to_string()).await.json()["min"], 6);
    until("the bounds hold", async || get("scaling/status").await["target"] == 6).await;
    config["max"] = 1.into();
    assert_eq!(ask("PUT", "scaling/config", &config.to_string()).await.status, 400);
    assert_eq!(ask("PUT", "scaling/config", "{\"maxx\": 1}").await.status, 400);
    assert_eq!(get("scaling/config").await["max"], 20, "what is refused changes nothing");
    assert!(get("metrics/performance").await["last_hour"]["seconds"].is_number());

    let picture = ask("GET", "architecture/diagram", "").await;
    assert_eq!((picture.status, picture.header("content-type")), (200, "image/svg+xml"));
    let svg = picture.text();
    assert!(svg.starts_with("<svg ") && svg.contains("relay 127.0.0.1") && svg.contains("Dead letters"), "{svg}");
    let metrics = request(http, "GET", "/metrics", &[&token], "").await.text().to_owned();
    for line in ["mailweir_jobs_total{kind=\"unknown\",outcome=\"dead\"} 1", "mailweir_queue_dead_letters 1"] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(gateway.terminate().await.success());
}
