//! The second look: which messages are looked at again after the reply, and what follows from the second verdict.
//!
//! A job of kind [`REASSESS`] commits with the record (or with the hold, when the message is held), runs the message path again
//! with larger budgets and asks anew what was kept, and puts the second verdict beside the first. What follows are jobs again:
//! `release` of what waited and is clean; `remediate`, `alert`, `notify`, `webhook` when the second verdict is worse. A message that waits
//! has a job of kind [`WAITED`] besides, which ends the wait for all who are still held for it. What was held because something
//! that must be asked could not be, or because its judgement broke down, is released too when it is found clean; while it still
//! cannot be asked, the look is tried again by time. Every job may run twice: the second verdict is written once, with its
//! actions. Not here: who acts (`enforcement`).
//! Longer than most by its tests, which are tables over one record.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::answer;
use super::stages::{holds_failed, holds_unread};
use super::{Abilities, AfterHold, Answer, Metrics, OnWorse, Pipeline, ReassessConfig, Standing, Transaction};
use crate::analysis::{CampaignConfig, Prevalence};
use crate::deferred::{Failure, Handler, Job, Priority};
use crate::enrichment::OnFailure;
use crate::mail::{Door, Message, MessageId};
use crate::observe::{Category, event};
use crate::policy::mql::Needs;
use crate::policy::{Action, Judgement, Reason, RuleMode, Verdict, Wait};
use crate::records::{
    ActionOrder, ActionTaken, BY_CAMPAIGN, BY_LOOK, Change, HeldMessage, HeldState, OutboxJob, Reassessment,
    RecipientVerdict, Record, Records, StoreError, WantedAction,
};

/// Kind of the job that looks again.
pub const REASSESS: &str = "reassess";
/// Kind of the job that ends a wait.
pub const WAITED: &str = "waited";
/// Kind of the job that releases.
const RELEASE: &str = "release";
/// The hold commits at once and the record a moment later: so long the second look of what waits has to wait.
const RECORD_MS: i64 = 1_000;

/// Pause before a record is asked for again that was not there.
const RECORD_PAUSE: Duration = Duration::from_secs(5);

/// A message that is to be looked at again.
#[derive(Debug, Clone)]
pub(super) struct Again {
    priority: Priority,
    /// Why: `degraded`, `grey`, `first_contact`, `campaign`, `rule`, `undecided`, `sample`. Empty: it is only kept, should it be one of a campaign.
    reasons: Vec<&'static str>,
    /// Its bytes are kept so long at least, milliseconds since 1970.
    keep_until_ms: i64,
    /// Which recipients do not get it meanwhile.
    pub(super) waits: Vec<bool>,
}

/// What decides besides the record.
struct Terms<'a> {
    config: &'a ReassessConfig,
    campaigns: &'a CampaignConfig,
    /// What services and the second look give to rules.
    gives: Needs,
    /// How each recipient's tenant has mail wait.
    tenants: Vec<Option<Wait>>,
    /// There are records to keep it in.
    durable: bool,
}

/// Whether a message is looked at again. `durable`: there are records to keep it in.
pub(super) fn wanted(
    standing: &Standing,
    (record, judgement): (&Record, &Judgement),
    message: &Message,
    durable: bool,
) -> Option<Again> {
    let terms = Terms {
        config: &standing.deep.config,
        campaigns: &standing.site.campaigns,
        gives: standing.deep.gives,
        tenants: judgement.verdicts.iter().map(|(tenant, _)| tenant.thresholds.wait).collect(),
        durable,
    };
    wanted_by(&terms, record, message)
}

fn wanted_by(terms: &Terms<'_>, record: &Record, message: &Message) -> Option<Again> {
    let Terms { config, campaigns, gives, tenants, durable } = terms;
    let refused = record.verdicts.iter().all(|one| one.verdict.action == Action::Reject);
    if !config.enabled || !*durable || refused || record.connection.door == Door::Scan {
        return None;
    }
    let risk = record.score.risk;
    let carries = || message.attachments().next().is_some() || message.links().iter().any(|link| link.is_web());
    let history = record.facts.history.known();
    let sender = history.and_then(|history| history.by_sender_email.as_ref()).map(|profile| profile.prevalence);
    let unknown_sender = || sender == Some(Prevalence::New);
    let asking = || record.rules.matches.iter().filter(|one| one.mode == RuleMode::Enforce).filter_map(|one| one.wait);
    let undecided = || record.rules.undecided.iter().any(|(what, _)| gives.iter().any(|one| one.as_str() == what));
    let reasons = [
        ("degraded", config.degraded && !record.degraded.is_empty()),
        ("grey", (config.risk_from..=config.risk_to).contains(&risk)),
        ("first_contact", config.first_contact && unknown_sender() && carries()),
        ("campaign", record.in_campaign),
        ("rule", asking().next().is_some()),
        ("undecided", config.undecided && undecided()),
    ];
    let mut reasons: Vec<&str> = reasons.into_iter().filter_map(|(reason, is)| is.then_some(reason)).collect();
    let sampled = reasons.is_empty() && drawn(record.id) < config.share;
    if sampled {
        reasons.push("sample");
    }
    // Nobody vouches for it: it may turn out to be one of many.
    let vouched = record.facts.proven_from().is_some() && sender.is_some_and(|sender| sender != Prevalence::New);
    let kept = campaigns.enabled && campaigns.keep && record.likeness.is_some() && !vouched;
    if reasons.is_empty() && !kept {
        return None;
    }
    let keep_until_ms = if kept { record.received_ms.saturating_add(campaigns.window_ms()) } else { 0 };
    // A rule that says hold goes before all; one that alone ordered the look goes before the tenant.
    let wait = |tenant: Option<Wait>| match () {
        () if asking().any(|wait| wait == Wait::Hold) => Wait::Hold,
        () if reasons == ["rule"] => Wait::Deliver,
        () => tenant.unwrap_or(config.wait),
    };
    let looks = !sampled && !reasons.is_empty();
    let tenants = tenants.iter().copied().chain(std::iter::repeat(None));
    let waits = |(one, tenant): (&RecipientVerdict, Option<Wait>)| {
        looks && passed(one.verdict.action) && wait(tenant) == Wait::Hold
    };
    let waits: Vec<bool> = record.verdicts.iter().zip(tenants).map(waits).collect();
    let priority = match risk {
        _ if waits.contains(&true) => Priority::High,
        _ if sampled => Priority::Low,
        risk if risk >= config.risk_from => Priority::High,
        _ => Priority::Medium,
    };
    Some(Again { priority, reasons, keep_until_ms, waits })
}

/// A number from 0 to 1 that belongs to a message: the same every time.
fn drawn(id: MessageId) -> f64 {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(id.to_string());
    f64::from(u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])) / (f64::from(u32::MAX) + 1.0)
}

fn passed(action: Action) -> bool {
    matches!(action, Action::Allow | Action::Tag)
}

impl Again {
    /// Whether somebody waits.
    pub(super) fn waits(&self) -> bool {
        self.waits.contains(&true)
    }

    pub(super) fn count(&self, metrics: &Metrics) {
        for reason in &self.reasons {
            metrics.second_looks.with_label_values(&[*reason]).inc();
        }
    }

    /// Its jobs. `with_hold`: they are committed with the hold, and so a moment before the record.
    pub(super) fn jobs(&self, record: &Record, config: &ReassessConfig, with_hold: bool) -> Vec<OutboxJob> {
        if self.reasons.is_empty() {
            return Vec::new();
        }
        let now = now_ms();
        let mut jobs = vec![job(REASSESS, (record.id, correlation(record)), self.priority, "", now)];
        if with_hold {
            jobs[0].not_before_ms = now.saturating_add(RECORD_MS);
        }
        if self.waits() {
            let until =
                now.saturating_add(i64::try_from(config.hold_seconds).unwrap_or(i64::MAX).saturating_mul(1_000));
            // Of age at the end of the wait: what fails then is tried again soon.
            let waited = job(WAITED, (record.id, correlation(record)), Priority::High, "", until);
            jobs.push(OutboxJob { not_before_ms: until, ..waited });
        }
        jobs
    }

    /// Notes the record of a message that is not held as a whole, with its job, and keeps its bytes where nobody else does.
    pub(super) fn note(
        self,
        records: &Arc<Records>,
        metrics: &Arc<Metrics>,
        record: Record,
        answer: &Answer,
        standing: &Standing,
        raw: Bytes,
    ) {
        let config = &standing.deep.config;
        let others = for_campaign(&record);
        let unkept = match answer {
            Answer::Deliver { held, .. } => held.is_empty(),
            Answer::Hold => false,
            _ => return records.note_with_jobs(&record, others),
        };
        let mut jobs = self.jobs(&record, config, false);
        let looks = !jobs.is_empty();
        if !unkept {
            jobs.extend(others);
            return records.note_with_jobs(&record, jobs);
        }
        let dropped = |why| {
            if looks {
                metrics.not_looked_at_again.with_label_values(&[why]).inc();
            }
        };
        if raw.len() > config.max_kept_message_bytes {
            dropped("too_large");
            return records.note_with_jobs(&record, others);
        }
        let Some(leave) = records.keeping() else {
            dropped("busy");
            return records.note_with_jobs(&record, others);
        };
        let (records, metrics) = (Arc::clone(records), Arc::clone(metrics));
        // What is only kept in case leaves room for what is to be looked at.
        let most = if looks { config.max_kept_bytes } else { config.max_kept_bytes / 2 };
        let keep = (most, self.keep_until_ms);
        // The sender has had the reply by then, or has it at once; the writer ends only after this.
        let keeping = async move {
            let _leave = leave;
            if let Err(error) = records.keep_and_note(&record, raw, keep, (jobs, others)).await
                && looks
            {
                let why = if matches!(error, StoreError::Kept(_)) { "no_room" } else { "store" };
                metrics.not_looked_at_again.with_label_values(&[why]).inc();
                tracing::warn!(event = event::MAIL, id = %record.id, %error, "a message cannot be looked at again");
            }
        };
        tokio::spawn(keeping.in_current_span());
    }
}

/// The second looks that a message orders at those before it, when it shows that they are a campaign.
pub(super) fn for_campaign(record: &Record) -> Vec<OutboxJob> {
    let untold = record.facts.campaign.known().map(|campaign| campaign.untold.as_slice()).unwrap_or_default();
    let now = now_ms();
    let job = |id: &MessageId| OutboxJob {
        key: format!("{REASSESS}:{id}:campaign"),
        payload: ActionOrder { campaign: true, ..ActionOrder::new(*id, "") }.to_bytes(),
        ..job(REASSESS, (*id, correlation(record)), Priority::Medium, "", now)
    };
    untold.iter().map(job).collect()
}

/// The second look at a message that is held because its judgement broke down.
pub(super) fn for_unjudged(record: &Record, config: &ReassessConfig) -> Vec<OutboxJob> {
    if !(config.enabled && config.degraded) {
        return Vec::new();
    }
    let now = now_ms();
    let look = job(REASSESS, (record.id, correlation(record)), Priority::Low, "", now);
    vec![OutboxJob { not_before_ms: now.saturating_add(RECORD_MS), ..look }]
}

/// The second look that somebody asks for. It finds nothing to do where there was one.
pub fn asked_look(record: &Record, now_ms: i64) -> OutboxJob {
    // The key that it has by itself: asked for twice it is one job.
    job(REASSESS, (record.id, correlation(record)), Priority::High, "", now_ms)
}

/// What binds its log lines together: of the connection it came by, else its id.
fn correlation(record: &Record) -> String {
    record.connection.correlation.clone().unwrap_or_else(|| record.id.to_string())
}

fn job(kind: &str, (id, correlation): (MessageId, String), priority: Priority, cause: &str, now_ms: i64) -> OutboxJob {
    let by = if cause.is_empty() || cause == BY_LOOK { String::new() } else { format!(":{cause}") };
    OutboxJob {
        key: format!("{kind}:{id}{by}"),
        kind: kind.to_owned(),
        priority: priority.place() as u8,
        payload: ActionOrder::new(id, cause).to_bytes(),
        correlation,
        enqueued_ms: now_ms,
        not_before_ms: 0,
    }
}

/// Looks at messages again: handler of [`REASSESS`].
pub struct Reassess {
    pipeline: Arc<Pipeline>,
    records: Arc<Records>,
}

impl Reassess {
    /// Looks again with what this pipeline stands on at the time.
    pub fn new(pipeline: Arc<Pipeline>, records: Arc<Records>) -> Self {
        Self { pipeline, records }
    }

    async fn look(&self, job: &Job, soon: &CancellationToken) -> Result<(), Failure> {
        let ActionOrder { id, campaign, .. } = ActionOrder::read(&job.payload).map_err(Failure::never)?;
        let metrics = &self.pipeline.metrics;
        // What is known of a campaign is worth another look, once.
        let known = |second: Reassessment| !campaign || second.record.in_campaign;
        if self.records.reassessment(id).await.map_err(again)?.is_some_and(known) {
            return Ok(());
        }
        let Some(first) = self.records.record(id).await.map_err(again)? else {
            // The hold commits before it: it may be on its way.
            let error = "the record of the message is not there".to_owned();
            return Err(Failure::Again { error, not_before: RECORD_PAUSE, category: Category::Database });
        };
        if first.action == Action::Defer {
            return not_taken(&self.records, id).await;
        }
        let Some(raw) = self.records.kept_bytes(id).await.map_err(again)? else {
            if campaign {
                metrics.not_looked_at_again.with_label_values(&["gone"]).inc();
                return Ok(());
            }
            return Err(Failure::never("the bytes of the message are not kept any more").because(Category::Resource));
        };
        if campaign {
            metrics.second_looks.with_label_values(&["campaign"]).inc();
        }
        let standing = self.pipeline.standing();
        let config = &standing.deep.config;
        let received = UNIX_EPOCH + Duration::from_millis(u64::try_from(first.received_ms).unwrap_or(0));
        let transaction = Transaction {
            id,
            connection: Arc::new(first.connection.clone()),
            envelope: first.envelope.clone(),
            raw,
            received,
            abilities: Abilities { edit_headers: false, drop_recipients: true, hold_at_mta: false },
        };
        let inspected = self.pipeline.judge_with(&standing, standing.deep(soon), &transaction).await;
        let mut second = inspected.record;
        let whereabouts = self.whereabouts(id).await?;
        let stages = &standing.config.on_failure;
        let closed = standing.services.on_failure(&second.facts.services, Duration::ZERO) == OnFailure::Closed
            || holds_failed(stages, &second);
        let asked = !closed && !holds_unread(stages, &inspected.message);
        let pause = Duration::from_secs(config.look_pause_seconds);
        let error = || format!("still not known: {}", second.degraded.join(", "));
        if closed && hangs(&first, &second, &whereabouts) {
            // Held until it can be asked: that takes as long as it takes.
            return Err(Failure::Later { error: error(), not_before: pause, category: Category::External });
        }
        if !second.degraded.is_empty() && job.attempt < config.looks && !soon.is_cancelled() {
            return Err(Failure::Again { error: error(), not_before: pause, category: Category::External });
        }
        second.action = answer::combine(&inspected.judgement, transaction.abilities).action();
        let (change, mut wanted) = compare(config, &first, (&second, asked), &whereabouts);
        let cause = if campaign { BY_CAMPAIGN } else { BY_LOOK };
        if campaign {
            leave_out(&mut wanted, &self.records.actions(id).await.map_err(again)?);
        }
        let now = now_ms();
        let order = |kind: &str| self::job(kind, (id, job.correlation.clone()), Priority::High, cause, now);
        let (actions, jobs) = wanted
            .into_iter()
            .map(|(kind, recipients)| (WantedAction { kind: kind.to_owned(), cause, recipients }, order(kind)))
            .unzip();
        metrics.second_verdicts.with_label_values(&[change.as_str()]).inc();
        tracing::info!(
            event = event::MAIL,
            %id, change = change.as_str(), risk = second.score.risk, was = first.score.risk, "looked at again"
        );
        let reassessment = Reassessment { at_ms: now, change, record: second };
        self.records.note_reassessment(&reassessment, actions, jobs).await.map_err(again)
    }

    /// What the quarantine knows of its copies.
    async fn whereabouts(&self, id: MessageId) -> Result<Whereabouts, Failure> {
        match self.records.held_message(id).await {
            Ok(held) => Ok(Whereabouts::of(held)),
            Err(StoreError::NotHeld(_)) => Ok(Whereabouts::default()),
            Err(error) => Err(again(error)),
        }
    }
}

/// Where the copies are of a message that was held.
#[derive(Debug, Default)]
struct Whereabouts {
    /// Those who have not got it.
    held: Vec<String>,
    /// Those whose copy went out, or is going out.
    out: Vec<String>,
}

impl Whereabouts {
    fn of(held: HeldMessage) -> Self {
        let mut all = Self::default();
        for one in held.recipients {
            match one.state {
                HeldState::Held => all.held.push(one.recipient),
                HeldState::Releasing | HeldState::Released => all.out.push(one.recipient),
                HeldState::Deleted => {}
            }
        }
        all
    }
}

/// Leaves out whom an action was ordered for before.
fn leave_out(wanted: &mut Vec<(&'static str, Vec<String>)>, before: &[ActionTaken]) {
    for (kind, recipients) in wanted.iter_mut() {
        let same = before.iter().filter(|action| action.kind == *kind && action.cause != BY_CAMPAIGN);
        let known: HashSet<&str> = same.flat_map(|action| action.recipients.iter().map(String::as_str)).collect();
        recipients.retain(|one| !known.contains(one.as_str()));
    }
    wanted.retain(|(_, recipients)| !recipients.is_empty());
}

/// Whether a clean second look releases what was held for this. `sure`: all that must be asked was, and nothing was left out.
fn may_go(config: &ReassessConfig, verdict: &Verdict, (asked, sure): (bool, bool)) -> bool {
    match verdict.reason {
        Reason::Waiting => true,
        Reason::Unasked | Reason::Unjudged => asked,
        Reason::Score => config.release_held_for_risk && verdict.action == Action::Quarantine && asked && sure,
        Reason::Gtube | Reason::BlockList(_) | Reason::AllowList(_) | Reason::Malware(_) => false,
    }
}

/// Whether somebody is held whom the second verdict would release: what must be asked decides.
fn hangs(first: &Record, second: &Record, whereabouts: &Whereabouts) -> bool {
    let mut both = first.verdicts.iter().zip(&second.verdicts);
    both.any(|(was, is)| {
        let undecided = matches!(was.verdict.reason, Reason::Waiting | Reason::Unasked | Reason::Unjudged);
        undecided && passed(is.verdict.action) && whereabouts.held.contains(&was.recipient)
    })
}

/// What the second verdict means, and what is to be done for whom.
fn compare(
    config: &ReassessConfig,
    first: &Record,
    (second, asked): (&Record, bool),
    whereabouts: &Whereabouts,
) -> (Change, Vec<(&'static str, Vec<String>)>) {
    let held: HashSet<&String> = whereabouts.held.iter().collect();
    let out: HashSet<&String> = whereabouts.out.iter().collect();
    let sure = (asked, second.degraded.is_empty());
    let (mut release, mut take_back, mut keep, mut better) = (Vec::new(), Vec::new(), Vec::new(), false);
    let (mut with_others, mut stay) = (Vec::new(), false);
    for (was, is) in first.verdicts.iter().zip(&second.verdicts) {
        let (whom, clean) = (&was.recipient, passed(is.verdict.action));
        let (waited, would) = (was.verdict.reason == Reason::Waiting, passed(was.verdict.action));
        // A message that was held as a whole, because one of its recipients must not get it, did not go out.
        let delivered = out.contains(whom) || (would && passed(first.action));
        better |= clean && !delivered && !would && !waited;
        if held.contains(whom) {
            match (clean, would) {
                (true, true) => with_others.push(whom.clone()),
                (true, false) if may_go(config, &was.verdict, sure) => release.push(whom.clone()),
                (false, false) if waited => keep.push(whom.clone()),
                _ => {}
            }
            stay |= !clean || !(would || may_go(config, &was.verdict, sure));
        } else if delivered && !clean {
            take_back.push(whom.clone());
        }
    }
    // Held only because of others: they go when those go.
    if !stay && !release.is_empty() {
        release.append(&mut with_others);
    }
    let change = match () {
        () if !take_back.is_empty() || !keep.is_empty() => Change::Worse,
        () if better => Change::Better,
        () => Change::Same,
    };
    let mut wanted = Vec::new();
    if change == Change::Worse {
        let all: Vec<String> = take_back.iter().chain(&keep).cloned().collect();
        for kind in &config.on_worse {
            match kind {
                OnWorse::Remediate if take_back.is_empty() => {}
                OnWorse::Remediate => wanted.push(("remediate", take_back.clone())),
                OnWorse::Alert => wanted.push(("alert", all.clone())),
                OnWorse::Notify => wanted.push(("notify", all.clone())),
                OnWorse::Webhook => wanted.push(("webhook", all.clone())),
            }
        }
    }
    if !release.is_empty() {
        wanted.push((RELEASE, release));
    }
    (change, wanted)
}

impl Handler for Reassess {
    fn run<'a>(&'a self, job: &'a Job, soon: CancellationToken) -> BoxFuture<'a, Result<(), Failure>> {
        async move { self.look(job, &soon).await }.boxed()
    }
}

/// Ends waits: handler of [`WAITED`].
pub struct Waited {
    pipeline: Arc<Pipeline>,
    records: Arc<Records>,
}

impl Waited {
    /// Ends waits as the settings say at the time.
    pub fn new(pipeline: Arc<Pipeline>, records: Arc<Records>) -> Self {
        Self { pipeline, records }
    }

    async fn end(&self, job: &Job) -> Result<(), Failure> {
        let order = ActionOrder::read(&job.payload).map_err(Failure::never)?;
        let id = order.id;
        let held = match self.records.held_message(id).await {
            Ok(held) => held,
            Err(StoreError::NotHeld(_)) => return Ok(()),
            Err(error) => return Err(again(error)),
        };
        let waits = held
            .recipients
            .into_iter()
            .filter(|one| one.is_held() && one.waits().unwrap_or_else(|| order.recipients.contains(&one.recipient)));
        let mut recipients: Vec<String> = waits.map(|one| one.recipient).collect();
        if let Some(second) = self.records.reassessment(id).await.map_err(again)? {
            // Who was judged worse stays held; the release of the others was ordered then, and is tried until it is done.
            let clean = |name: &String| {
                second.record.verdicts.iter().any(|one| one.recipient == *name && passed(one.verdict.action))
            };
            let actions = self.records.actions(id).await.map_err(again)?;
            let ordered =
                |name: &String| actions.iter().any(|one| one.kind == RELEASE && one.recipients.contains(name));
            recipients.retain(|name| clean(name) && !ordered(name));
        }
        if recipients.is_empty() {
            return Ok(());
        }
        if self.records.record(id).await.map_err(again)?.is_some_and(|first| first.action == Action::Defer) {
            return not_taken(&self.records, id).await;
        }
        let now = now_ms();
        match self.pipeline.standing().deep.config.after_hold {
            AfterHold::Release => {
                tracing::warn!(
                    event = event::MAIL,
                    %id, "a message waited for its second look in vain and is released"
                );
                let action = WantedAction { kind: RELEASE.into(), cause: WAITED, recipients };
                let jobs = vec![self::job(RELEASE, (id, job.correlation.clone()), Priority::High, WAITED, now)];
                self.records.want_actions(id, vec![action], jobs, now).await.map_err(again)
            }
            AfterHold::Keep => {
                tracing::warn!(event = event::MAIL, %id, "a message waited for its second look in vain and stays held");
                let action = WantedAction { kind: WAITED.into(), cause: WAITED, recipients };
                self.records.want_actions(id, vec![action], Vec::new(), now).await.map_err(again)?;
                let result = "not looked at in time: stays held";
                self.records.action_done(id, (WAITED, WAITED), result, now).await.map_err(again)
            }
        }
    }
}

impl Handler for Waited {
    fn run<'a>(&'a self, job: &'a Job, _soon: CancellationToken) -> BoxFuture<'a, Result<(), Failure>> {
        self.end(job).boxed()
    }
}

/// A commit came through although its answer was lost: the sender was told to come again, and will. Nobody acts on this copy.
async fn not_taken(records: &Records, id: MessageId) -> Result<(), Failure> {
    tracing::warn!(event = event::MAIL, %id, "a message that was deferred is held as well: that copy is taken back");
    records.withdraw(id).await.map_err(again)
}

fn again(error: StoreError) -> Failure {
    Failure::of(&error)
}

fn now_ms() -> i64 {
    super::record::unix_millis(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Fact, Facts, History, Profile, Why};
    use crate::mail::{Connection, Envelope, MessageLimits, Path};
    use crate::policy::mql::Capability;
    use crate::policy::{RuleMatch, Score};
    use crate::records::Timing;

    fn record(action: Action, verdicts: &[(Action, Reason)]) -> Record {
        let names: Vec<String> = (0..verdicts.len()).map(|n| format!("r{n}@b.example")).collect();
        let verdict = |(name, (action, reason)): (&String, &(Action, Reason))| RecipientVerdict {
            recipient: name.clone(),
            tenant: "default".into(),
            verdict: Verdict { action: *action, reason: reason.clone() },
        };
        Record {
            id: MessageId::new(1, [1; 10]),
            received_ms: 0,
            connection: Connection::unknown(Door::Relay),
            envelope: Envelope { sender: Path::new("a@a.example"), recipients: names.iter().map(Path::new).collect() },
            size: 1,
            from: Vec::new(),
            subject: String::new(),
            header_id: String::new(),
            action,
            verdicts: names.iter().zip(verdicts).map(verdict).collect(),
            score: Score { risk: 1.0, log_odds: 0.0, bias: 0.0, terms: Vec::new(), rules: Vec::new() },
            facts: Facts::unknown(Why::Disabled),
            findings: Vec::new(),
            degraded: Vec::new(),
            policy_version: String::new(),
            rules: Default::default(),
            likeness: None,
            in_campaign: false,
            contact: Default::default(),
            timing: Timing::default(),
            reply: None,
        }
    }

    fn message(body: &str) -> Message {
        let raw = format!("From: a@a.example\r\nSubject: x\r\n\r\n{body}\r\n");
        Message::parse(raw.into(), &MessageLimits::default())
    }

    fn terms<'a>(config: &'a ReassessConfig, campaigns: &'a CampaignConfig) -> Terms<'a> {
        let (gives, tenants) = (Needs::of(Capability::Ocr), Vec::new());
        Terms { config, campaigns, gives, tenants, durable: true }
    }

    #[test]
    fn rules_and_tenants_say_how_it_waits() {
        let config = ReassessConfig { enabled: true, undecided: true, ..ReassessConfig::default() };
        let off = CampaignConfig::default();
        let two = record(Action::Allow, &[(Action::Allow, Reason::Score), (Action::Tag, Reason::Score)]);
        let matched = |mode, wait| RuleMatch {
            id: "i".into(),
            name: "n".into(),
            feed: "f".into(),
            severity: None,
            mode,
            weight: 0.0,
            wait,
            attack_types: Vec::new(),
            tags: Vec::new(),
            clauses: Vec::new(),
        };
        let with = |matches: &[(RuleMode, Option<Wait>)], undecided: &[&str]| {
            let mut one = two.clone();
            one.rules.matches = matches.iter().map(|(mode, wait)| matched(*mode, *wait)).collect();
            one.rules.undecided = undecided.iter().map(|what| ((*what).to_owned(), 1)).collect();
            one
        };
        let looked = |record: &Record, tenants: [Option<Wait>; 2]| {
            let terms = Terms { tenants: tenants.to_vec(), ..terms(&config, &off) };
            wanted_by(&terms, record, &message("hello")).map(|again| (again.reasons.join(" "), again.waits))
        };
        use RuleMode::{Enforce, Shadow};
        let (hold, deliver) = (Some(Wait::Hold), Some(Wait::Deliver));
        let both = |reasons: &str, first, second| Some((reasons.to_owned(), vec![first, second]));
        assert_eq!(looked(&with(&[(Enforce, None)], &[]), [hold, hold]), None, "a match asks for nothing");
        assert_eq!(looked(&with(&[(Shadow, hold)], &[]), [hold, hold]), None, "in shadow");
        assert_eq!(looked(&with(&[(Enforce, hold)], &[]), [deliver, None]), both("rule", true, true));
        assert_eq!(looked(&with(&[(Enforce, deliver)], &[]), [hold, hold]), both("rule", false, false));
        assert_eq!(looked(&with(&[], &["ocr"]), [hold, None]), both("undecided", true, false));
        assert_eq!(looked(&with(&[], &["ocr"]), [deliver, hold]), both("undecided", false, true));
        assert_eq!(looked(&with(&[(Enforce, deliver)], &["ocr"]), [hold, None]), both("rule undecided", true, false));
        assert_eq!(looked(&with(&[], &["screenshot"]), [hold, hold]), None, "nobody gives that");
        let mut held = with(&[(Enforce, hold)], &[]);
        held.verdicts[0].verdict.action = Action::Quarantine;
        assert_eq!(looked(&held, [None, None]), both("rule", false, true), "held anyway");
    }

    #[test]
    fn who_is_looked_at_again() {
        let config = ReassessConfig { enabled: true, ..ReassessConfig::default() };
        let (plain, link) = (message("hello"), message("https://a.example/"));
        let allowed = record(Action::Allow, &[(Action::Allow, Reason::Score)]);
        let reasons = |config: &ReassessConfig, record: &Record, message: &Message| {
            wanted_by(&terms(config, &CampaignConfig::default()), record, message)
                .map(|again| (again.reasons.join(" "), again.priority, again.waits()))
        };
        assert_eq!(reasons(&config, &allowed, &link), None);
        let degraded = Record { degraded: vec!["urls=timeout".into()], ..allowed.clone() };
        let medium = Some(("degraded".to_owned(), Priority::Medium, false));
        assert_eq!(reasons(&config, &degraded, &plain), medium);
        assert!(
            wanted_by(&Terms { durable: false, ..terms(&config, &CampaignConfig::default()) }, &degraded, &plain)
                .is_none(),
            "nowhere to keep it"
        );
        assert_eq!(reasons(&ReassessConfig::default(), &degraded, &plain), None, "off");
        for (risk, is) in [(19.9, false), (20.0, true), (60.0, true), (60.1, false)] {
            let grey = Record { score: Score { risk, ..allowed.score.clone() }, ..allowed.clone() };
            let high = is.then(|| ("grey".to_owned(), Priority::High, false));
            assert_eq!(reasons(&config, &grey, &plain), high, "{risk}");
        }
        let profile = Profile { prevalence: Prevalence::New, ..profile() };
        let history = |profile| Fact::Known(History { by_sender_email: Some(profile), ..history() });
        let facts = Facts { history: history(profile.clone()), ..allowed.facts.clone() };
        let new = Record { facts, ..allowed.clone() };
        assert_eq!(reasons(&config, &new, &link), Some(("first_contact".to_owned(), Priority::Medium, false)));
        assert_eq!(reasons(&config, &new, &plain), None, "nothing that could harm");
        let facts =
            Facts { history: history(Profile { prevalence: Prevalence::Rare, ..profile }), ..allowed.facts.clone() };
        assert_eq!(reasons(&config, &Record { facts, ..allowed.clone() }, &link), None);

        let hold = ReassessConfig { wait: Wait::Hold, ..config.clone() };
        assert_eq!(reasons(&hold, &degraded, &plain), Some(("degraded".to_owned(), Priority::High, true)));
        let held = record(Action::Quarantine, &[(Action::Quarantine, Reason::Score)]);
        let held = Record { degraded: degraded.degraded.clone(), ..held };
        assert_eq!(reasons(&hold, &held, &plain), medium, "held anyway");
        let refused = record(Action::Reject, &[(Action::Reject, Reason::Score)]);
        assert_eq!(reasons(&hold, &Record { degraded: degraded.degraded, ..refused }, &plain), None);
        // Samples are delivered meanwhile.
        let all = ReassessConfig { share: 1.0, ..hold };
        assert_eq!(reasons(&all, &allowed, &plain), Some(("sample".to_owned(), Priority::Low, false)));
    }

    #[test]
    fn what_may_be_one_of_many_is_kept() {
        let config = ReassessConfig { enabled: true, first_contact: false, ..ReassessConfig::default() };
        let campaigns = CampaignConfig { enabled: true, ..CampaignConfig::default() };
        let likeness = crate::analysis::Likeness { text: 1, words: 30, links: 0, sender: "a.example".into() };
        let one = Record { likeness: Some(likeness), ..record(Action::Allow, &[(Action::Allow, Reason::Score)]) };
        let kept = |campaigns: &CampaignConfig, record: &Record| {
            let again = wanted_by(&terms(&config, campaigns), record, &message("hello"))?;
            Some((
                again.reasons.join(" "),
                again.jobs(record, &config, false).len(),
                again.keep_until_ms,
                again.waits(),
            ))
        };
        let day = 24 * 60 * 60 * 1_000;
        assert_eq!(kept(&campaigns, &one), Some((String::new(), 0, day, false)));
        assert_eq!(kept(&CampaignConfig { keep: false, ..campaigns.clone() }, &one), None);
        assert_eq!(kept(&CampaignConfig::default(), &one), None, "off");
        assert_eq!(kept(&campaigns, &Record { likeness: None, ..one.clone() }), None, "nothing to compare");
        let member = Record { in_campaign: true, ..one.clone() };
        assert_eq!(kept(&campaigns, &member), Some(("campaign".into(), 1, day, false)));
        let known = History { by_sender_email: Some(profile()), ..history() };
        let dmarc = crate::analysis::Dmarc {
            result: crate::analysis::DmarcResult::Pass,
            policy: crate::analysis::DmarcPolicy::None,
            domain: "a.example".into(),
            spf_aligned: false,
            dkim_aligned: true,
        };
        let facts = Facts { history: Fact::Known(known), dmarc: Fact::Known(dmarc), ..one.facts.clone() };
        assert_eq!(kept(&campaigns, &Record { facts, ..one }), None, "we know who it is");
    }

    #[test]
    fn a_campaign_orders_looks_at_those_before() {
        let id = |n| MessageId::new(n, [1; 10]);
        let mut one = record(Action::Allow, &[(Action::Allow, Reason::Score)]);
        assert!(for_campaign(&one).is_empty());
        let untold = vec![id(7), id(8)];
        one.facts.campaign = Fact::Known(crate::analysis::Campaign { messages: 5, senders: 1, recipients: 5, untold });
        let jobs = for_campaign(&one);
        let keys: Vec<_> = jobs.iter().map(|job| job.key.clone()).collect();
        assert_eq!(keys, [format!("reassess:{}:campaign", id(7)), format!("reassess:{}:campaign", id(8))]);
        assert!(ActionOrder::read(&jobs[1].payload).unwrap().campaign);
        assert_eq!((jobs[1].correlation.clone(), jobs[1].kind.as_str()), (one.id.to_string(), REASSESS));
    }

    fn profile() -> Profile {
        Profile {
            prevalence: Prevalence::Common,
            solicited: false,
            any_messages_benign: false,
            any_messages_malicious_or_spam: false,
            any_false_positives: false,
            auth_failed: false,
            days_known: 0,
            days_since_first_contact: None,
            days_since_last_contact: None,
            days_since_last_inbound: None,
            days_since_last_outbound: None,
        }
    }

    fn history() -> History {
        History {
            by_sender: None,
            by_sender_email: None,
            by_sender_domain: None,
            by_reply_to: None,
            members: Default::default(),
        }
    }

    #[test]
    fn a_share_is_drawn_and_drawn_alike() {
        let drawn: Vec<f64> = (0..1_000u64).map(|n| super::drawn(MessageId::new(n, [7; 10]))).collect();
        let below = drawn.iter().filter(|one| **one < 0.1).count();
        assert!((60..140).contains(&below), "{below}");
        assert!(drawn.iter().all(|one| (0.0..1.0).contains(one)));
        assert_eq!(super::drawn(MessageId::new(3, [7; 10])), drawn[3]);
    }

    #[test]
    fn what_follows_from_the_second_verdict() {
        use Action::{Allow, Quarantine, Reject, Tag};
        let config = ReassessConfig { on_worse: vec![OnWorse::Remediate, OnWorse::Alert], ..ReassessConfig::default() };
        let (score, waits) = (Reason::Score, Reason::Waiting);
        let first = |action, all: &[(Action, &Reason)]| {
            record(action, &all.iter().map(|(action, reason)| (*action, (*reason).clone())).collect::<Vec<_>>())
        };
        let second =
            |all: &[Action]| record(Allow, &all.iter().map(|action| (*action, Reason::Score)).collect::<Vec<_>>());
        let kinds = |first: &Record, again: &[Action], out: &[String]| {
            let held = first.verdicts.iter().filter(|one| !passed(one.verdict.action) || !passed(first.action));
            let held = held.map(|one| one.recipient.clone()).filter(|name| !out.contains(name)).collect();
            let whereabouts = Whereabouts { held, out: out.to_vec() };
            let (change, wanted) = compare(&config, first, (&second(again), true), &whereabouts);
            (change, wanted.into_iter().map(|(kind, whom)| format!("{kind} {}", whom.join(","))).collect::<Vec<_>>())
        };
        let none: [String; 0] = [];
        let both = first(Allow, &[(Allow, &score), (Tag, &score)]);
        assert_eq!(kinds(&both, &[Allow, Allow], &[]), (Change::Same, none.to_vec()));
        let taken = ["remediate r1@b.example".to_owned(), "alert r1@b.example".to_owned()];
        assert_eq!(kinds(&both, &[Allow, Reject], &[]), (Change::Worse, taken.to_vec()));
        let held = first(Quarantine, &[(Quarantine, &score)]);
        assert_eq!(
            kinds(&held, &[Allow], &[]),
            (Change::Better, none.to_vec()),
            "nobody releases what was held for a reason"
        );
        // Held as a whole, because of the other recipient: nothing is to be taken back.
        let whole = first(Quarantine, &[(Quarantine, &score), (Allow, &score)]);
        assert_eq!(kinds(&whole, &[Quarantine, Quarantine], &[]), (Change::Same, none.to_vec()));
        let waiting = first(Quarantine, &[(Quarantine, &waits), (Quarantine, &score)]);
        assert_eq!(kinds(&waiting, &[Tag, Quarantine], &[]), (Change::Same, vec!["release r0@b.example".into()]));
        assert_eq!(kinds(&waiting, &[Quarantine, Quarantine], &[]), (Change::Worse, vec!["alert r0@b.example".into()]));
        let out = ["r0@b.example".to_owned()];
        let late = ["remediate r0@b.example".to_owned(), "alert r0@b.example".to_owned()];
        assert_eq!(
            kinds(&waiting, &[Quarantine, Quarantine], &out),
            (Change::Worse, late.to_vec()),
            "it went out meanwhile"
        );
        assert_eq!(kinds(&waiting, &[Allow, Quarantine], &out), (Change::Same, none.to_vec()));
    }

    #[test]
    fn what_a_clean_second_look_releases() {
        use Action::{Allow, Quarantine, Reject};
        let careful = ReassessConfig::default();
        let freely = ReassessConfig { release_held_for_risk: true, ..ReassessConfig::default() };
        let released = |config: &ReassessConfig,
                        verdicts: &[(Action, Reason)],
                        again: &[Action],
                        asked: bool,
                        sure: bool| {
            let first = record(Quarantine, verdicts);
            let mut second = record(Allow, &again.iter().map(|one| (*one, Reason::Score)).collect::<Vec<_>>());
            if !sure {
                second.degraded.push("dkim=timeout".into());
            }
            let held = first.verdicts.iter().map(|one| one.recipient.clone()).collect();
            let (change, wanted) = compare(config, &first, (&second, asked), &Whereabouts { held, out: Vec::new() });
            (
                change,
                wanted.into_iter().filter(|(kind, _)| *kind == RELEASE).flat_map(|(_, whom)| whom).collect::<Vec<_>>(),
            )
        };
        let r0 = || vec!["r0@b.example".to_owned()];
        let one =
            |config, reason: Reason, asked, sure| released(config, &[(Quarantine, reason)], &[Allow], asked, sure);
        for reason in [Reason::Unasked, Reason::Unjudged] {
            assert_eq!(one(&careful, reason.clone(), true, false), (Change::Better, r0()), "{reason:?}");
            assert_eq!(one(&careful, reason, false, true), (Change::Better, vec![]), "it still cannot be asked");
        }
        assert_eq!(one(&careful, Reason::Waiting, false, false), (Change::Same, r0()));
        assert_eq!(one(&careful, Reason::Score, true, true), (Change::Better, vec![]));
        assert_eq!(one(&freely, Reason::Score, true, true), (Change::Better, r0()));
        assert_eq!(one(&freely, Reason::Score, true, false), (Change::Better, vec![]), "something is not known");
        for reason in [Reason::Gtube, Reason::BlockList("x".into())] {
            assert_eq!(one(&freely, reason.clone(), true, true), (Change::Better, vec![]), "{reason:?}");
        }
        let bad = released(&careful, &[(Quarantine, Reason::Unasked)], &[Quarantine], true, true);
        assert_eq!(bad, (Change::Same, vec![]), "held anyway");
        let refused =
            released(&freely, &[(Reject, Reason::Score), (Quarantine, Reason::Score)], &[Allow, Allow], true, true);
        assert_eq!(refused, (Change::Better, vec!["r1@b.example".to_owned()]));
        // Held only because of the other one: goes with him, or stays.
        let both = |first: Reason, again: &[Action]| {
            released(&careful, &[(Quarantine, first), (Allow, Reason::Score)], again, true, true).1
        };
        assert_eq!(both(Reason::Waiting, &[Allow, Allow]), ["r0@b.example", "r1@b.example"]);
        assert_eq!(both(Reason::Waiting, &[Allow, Quarantine]), ["r0@b.example"]);
        assert!(both(Reason::Waiting, &[Quarantine, Allow]).is_empty());
        assert!(both(Reason::Score, &[Allow, Allow]).is_empty());
    }

    #[test]
    fn a_later_look_adds_to_the_first() {
        let taken = |cause: &str, whom: &str| ActionTaken {
            kind: "remediate".into(),
            cause: cause.into(),
            recipients: vec![whom.into()],
            wanted_ms: 0,
            result: None,
            result_ms: None,
        };
        let before = [taken(BY_LOOK, "a@b.example")];
        let mut wanted = vec![
            ("remediate", vec!["a@b.example".into(), "b@b.example".into()]),
            ("alert", vec!["a@b.example".into()]),
        ];
        leave_out(&mut wanted, &before);
        assert_eq!(wanted, [("remediate", vec!["b@b.example".to_owned()]), ("alert", vec!["a@b.example".to_owned()])]);
        leave_out(&mut wanted, &[taken("", "b@b.example")]);
        assert_eq!(wanted.len(), 1, "nobody is left");
    }

    #[test]
    fn orders_are_small_and_of_their_own() {
        let many = vec![(Action::Quarantine, Reason::Waiting); 1_000];
        let again =
            Again { priority: Priority::High, reasons: vec!["grey"], keep_until_ms: 0, waits: vec![true; 1_000] };
        let jobs = again.jobs(&record(Action::Quarantine, &many), &ReassessConfig::default(), true);
        assert_eq!(jobs.iter().map(|job| job.kind.as_str()).collect::<Vec<_>>(), [REASSESS, WAITED]);
        assert!(jobs.iter().all(|job| job.payload.len() < 200));
        let id = (MessageId::new(1, [1; 10]), String::new());
        let keys =
            ["", BY_LOOK, BY_CAMPAIGN, WAITED].map(|cause| job(RELEASE, id.clone(), Priority::High, cause, 0).key);
        assert_eq!(keys[0], keys[1]);
        assert!(keys[1] != keys[2] && keys[2] != keys[3]);
        let config = ReassessConfig { enabled: true, ..ReassessConfig::default() };
        let unjudged = record(Action::Quarantine, &[(Action::Quarantine, Reason::Unjudged)]);
        assert_eq!(for_unjudged(&unjudged, &config)[0].key, format!("{REASSESS}:{}", unjudged.id));
        assert!(for_unjudged(&unjudged, &ReassessConfig::default()).is_empty(), "off");
    }
}
