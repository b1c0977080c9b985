//! What can be seen and asked of the workers: who does what, what was done, why the number changed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::deferred::queue::now_ms;
use crate::deferred::scaling::{Change, Scaling};
use crate::deferred::{Cause, Depth, Job, Load, Metrics, Priority, QueueError, ScalingConfig};
use crate::observe::event;

/// Attempts, changes and samples remembered.
const HISTORY: usize = 1_000;
const EVENTS: usize = 50;
const SAMPLES: usize = 360;
/// Time between two samples, in milliseconds: those remembered cover an hour.
const SAMPLE_MS: i64 = 10_000;

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Waits for a job.
    Idle,
    /// Does one.
    Busy,
    /// Does its last one.
    Draining,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkerStatus {
    /// Its number in this process.
    pub id: u32,
    /// What it does.
    pub state: WorkerState,
    /// Key of the job at work.
    pub job: Option<String>,
    /// Kind of the job at work.
    pub kind: Option<String>,
    /// Since when it does that, milliseconds since 1970.
    pub since_ms: i64,
    /// Attempts that it ended.
    pub attempts: u64,
    /// Share of its time in which it worked, 0 to 1.
    pub utilisation: f64,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Done,
    /// Failed; to be tried again.
    Again,
    /// Not to be tried again.
    Dead,
    /// Given back.
    Back,
    /// The lease was lost.
    Lost,
}

impl Outcome {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Again => "again",
            Self::Dead => "dead",
            Self::Back => "back",
            Self::Lost => "lost",
        }
    }
}

/// One attempt at a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobRun {
    /// Its number among the attempts of this process, from 1.
    pub number: u64,
    /// The job's key.
    pub key: String,
    /// Its kind.
    pub kind: String,
    /// Its priority.
    pub priority: Priority,
    /// What it belongs to.
    pub correlation: String,
    /// Who did it.
    pub worker: u32,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// When it began, milliseconds since 1970.
    pub started_ms: i64,
    /// How long the job had waited since it was made.
    pub waited_ms: u64,
    /// How long it took.
    pub took_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong.
    pub error: Option<String>,
}

/// A change of the number of workers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScalingEvent {
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// Workers before.
    pub from: u32,
    /// Workers after.
    pub to: u32,
    /// Why.
    pub cause: Cause,
    /// What was measured last before.
    pub load: Option<Load>,
}

/// What was measured at a moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// Load.
    pub load: Load,
    /// Workers at work.
    pub busy: u32,
    /// Attempts ended since the start of the process: done, failed or dead.
    pub attempts: u64,
    /// Of these, those that were not done.
    pub failed: u64,
    /// Time that all attempts took since the start of the process, in milliseconds.
    pub took_ms: u64,
}

struct Member {
    retire: CancellationToken,
    job: Option<(String, String)>,
    since_ms: i64,
    hired_ms: i64,
    attempts: u64,
    busy_ms: i64,
}

struct State {
    config: ScalingConfig,
    scaling: Scaling,
    target: u32,
    hired: u32,
    members: BTreeMap<u32, Member>,
    events: VecDeque<ScalingEvent>,
    history: VecDeque<JobRun>,
    samples: VecDeque<Sample>,
    depth: Option<Depth>,
    load: Option<Load>,
    attempts: u64,
    failed: u64,
    took_ms: u64,
    /// Time at work of those that are gone, in milliseconds.
    gone_busy_ms: i64,
    /// When was measured last, and how long all had been at work by then.
    worked: Option<(i64, i64)>,
}

/// The workers of one process, as they are seen from outside.
pub struct Crew {
    state: Mutex<State>,
    changed: Notify,
    metrics: Arc<Metrics>,
}

/// Tells this process' chance from that of others.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => u64::from(std::process::id()) ^ now_ms().unsigned_abs(),
    }
}

fn remember<T>(all: &mut VecDeque<T>, one: T, most: usize) {
    if all.len() >= most {
        all.pop_front();
    }
    all.push_back(one);
}

impl Crew {
    pub(super) fn new(config: &ScalingConfig, metrics: Arc<Metrics>) -> Self {
        let state = State {
            config: config.clone(),
            scaling: Scaling::new(seed()),
            target: config.min,
            hired: 0,
            members: BTreeMap::new(),
            events: VecDeque::new(),
            history: VecDeque::new(),
            samples: VecDeque::new(),
            depth: None,
            load: None,
            attempts: 0,
            failed: 0,
            took_ms: 0,
            gone_busy_ms: 0,
            worked: None,
        };
        Self { state: Mutex::new(state), changed: Notify::new(), metrics }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All workers.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        let now = now_ms();
        self.state().members.iter().map(|(id, member)| member.status(*id, now)).collect()
    }

    /// The last attempts, the newest first; `before` a number, those that came earlier.
    pub fn history(&self, before: Option<u64>, limit: usize) -> Vec<JobRun> {
        let state = self.state();
        let earlier = state.history.iter().rev().filter(|run| before.is_none_or(|before| run.number < before));
        earlier.take(limit).cloned().collect()
    }

    /// The last changes of the number of workers, the newest first.
    pub fn events(&self) -> Vec<ScalingEvent> {
        self.state().events.iter().rev().cloned().collect()
    }

    /// What was measured within the last hour, the oldest first.
    pub fn samples(&self) -> Vec<Sample> {
        self.state().samples.iter().cloned().collect()
    }

    /// What was measured last: queue and load.
    pub fn measurement(&self) -> Option<(Depth, Load)> {
        let state = self.state();
        state.depth.zip(state.load)
    }

    /// How many workers there should be.
    pub fn target(&self) -> u32 {
        self.state().target
    }

    /// The settings in effect.
    pub fn config(&self) -> ScalingConfig {
        self.state().config.clone()
    }

    /// Other settings, until the process ends.
    ///
    /// # Errors
    /// When they cannot be used; nothing changes then.
    pub fn set_config(&self, config: ScalingConfig) -> Result<(), QueueError> {
        config.check()?;
        self.state().config = config;
        Ok(())
    }

    /// So many workers more (or, below zero, fewer), within the bounds; gives how many there should be now. In a mode other
    /// than manual the load decides again after the pause.
    pub fn ask(&self, more: i32) -> u32 {
        let mut state = self.state();
        let (least, most) = (state.config.min, state.config.max);
        let to = state.target.saturating_add_signed(more).clamp(least, most);
        if to != state.target {
            let now = now_ms();
            let change = state.scaling.asked(now, to);
            self.change(&mut state, now, change);
        }
        drop(state);
        self.changed.notify_one();
        to
    }

    fn change(&self, state: &mut State, now_ms: i64, change: Change) {
        let (from, to, cause) = (state.target, change.to, change.cause);
        tracing::info!(event = event::SYSTEM, from, to, ?cause, "the number of workers changes");
        let load = state.load;
        remember(&mut state.events, ScalingEvent { at_ms: now_ms, from, to, cause, load }, EVENTS);
        state.target = to;
        self.metrics.scalings.with_label_values(&[cause.as_str()]).inc();
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How many workers are missing, or those that are to retire: idle ones first, then the youngest.
    pub(super) fn difference(&self) -> (u32, Vec<CancellationToken>) {
        let state = self.state();
        let staying: Vec<&Member> = state.members.values().filter(|member| !member.retire.is_cancelled()).collect();
        let count = u32::try_from(staying.len()).unwrap_or(u32::MAX);
        let surplus = count.saturating_sub(state.target) as usize;
        let (idle, busy): (Vec<&Member>, Vec<&Member>) = staying.into_iter().rev().partition(|m| m.job.is_none());
        let retired = idle.into_iter().chain(busy).take(surplus).map(|member| member.retire.clone()).collect();
        (state.target.saturating_sub(count), retired)
    }

    pub(super) fn hire(&self, now_ms: i64) -> (u32, CancellationToken) {
        let mut state = self.state();
        state.hired += 1;
        let (id, retire) = (state.hired, CancellationToken::new());
        let member =
            Member { retire: retire.clone(), job: None, since_ms: now_ms, hired_ms: now_ms, attempts: 0, busy_ms: 0 };
        state.members.insert(id, member);
        (id, retire)
    }

    pub(super) fn gone(&self, id: u32) {
        let mut state = self.state();
        if let Some(member) = state.members.remove(&id) {
            state.gone_busy_ms += member.busy_ms;
        }
    }

    /// How many workers were at work since this was asked last, on average.
    pub(super) fn busy(&self, now_ms: i64) -> f64 {
        let mut state = self.state();
        let worked_ms = state.gone_busy_ms + state.members.values().map(|member| member.worked_ms(now_ms)).sum::<i64>();
        let now = state.members.values().filter(|member| member.job.is_some()).count() as f64;
        match state.worked.replace((now_ms, worked_ms)) {
            Some((at_ms, before_ms)) if now_ms > at_ms => {
                (worked_ms.saturating_sub(before_ms).max(0)) as f64 / (now_ms - at_ms) as f64
            }
            _ => now,
        }
    }

    pub(super) fn begins(&self, id: u32, job: &Job, now_ms: i64) {
        if let Some(member) = self.state().members.get_mut(&id) {
            member.job = Some((job.key.clone(), job.kind.clone()));
            member.since_ms = now_ms;
        }
    }

    pub(super) fn ends(&self, run: JobRun) {
        let (mut state, now) = (self.state(), now_ms());
        if let Some(member) = state.members.get_mut(&run.worker) {
            member.job = None;
            member.busy_ms += now.saturating_sub(member.since_ms).max(0);
            member.since_ms = now;
            member.attempts += 1;
        }
        state.attempts += 1;
        state.failed += u64::from(run.outcome != Outcome::Done);
        state.took_ms = state.took_ms.saturating_add(run.took_ms);
        let number = state.attempts;
        remember(&mut state.history, JobRun { number, ..run }, HISTORY);
    }

    /// Takes note of a measurement and changes the number of workers if that is due.
    pub(super) fn measured(&self, now_ms: i64, depth: &Depth, load: &Load) {
        let mut state = self.state();
        state.depth = Some(*depth);
        state.load = Some(*load);
        let mut counts = [0_i64; 3];
        for (id, member) in &state.members {
            counts[member.status(*id, now_ms).state as usize] += 1;
        }
        self.metrics.measured(depth);
        for (state, count) in ["idle", "busy", "draining"].into_iter().zip(counts) {
            self.metrics.workers.with_label_values(&[state]).set(count);
        }
        let all = counts.iter().sum::<i64>().max(1) as f64;
        self.metrics.utilisation.set((all - counts[0] as f64) / all);
        if state.samples.back().is_none_or(|last| now_ms.saturating_sub(last.at_ms) >= SAMPLE_MS) {
            let busy = u32::try_from(counts[1] + counts[2]).unwrap_or(0);
            let (attempts, failed, took_ms) = (state.attempts, state.failed, state.took_ms);
            let sample = Sample { at_ms: now_ms, load: *load, busy, attempts, failed, took_ms };
            remember(&mut state.samples, sample, SAMPLES);
        }
        let config = state.config.clone();
        if let Some(change) = state.scaling.decide(&config, now_ms, load) {
            self.change(&mut state, now_ms, change);
        }
    }
}

impl Member {
    /// Time at work so far, in milliseconds.
    fn worked_ms(&self, now_ms: i64) -> i64 {
        let running = if self.job.is_some() { now_ms.saturating_sub(self.since_ms).max(0) } else { 0 };
        self.busy_ms.saturating_add(running)
    }

    fn status(&self, id: u32, now_ms: i64) -> WorkerStatus {
        let state = match (&self.job, self.retire.is_cancelled()) {
            (_, true) => WorkerState::Draining,
            (Some(_), false) => WorkerState::Busy,
            (None, false) => WorkerState::Idle,
        };
        let lived = now_ms.saturating_sub(self.hired_ms).max(1);
        WorkerStatus {
            id,
            state,
            job: self.job.as_ref().map(|(key, _)| key.clone()),
            kind: self.job.as_ref().map(|(_, kind)| kind.clone()),
            since_ms: self.since_ms,
            attempts: self.attempts,
            utilisation: (self.worked_ms(now_ms) as f64 / lived as f64).clamp(0.0, 1.0),
        }
    }
}
