//! The stages of one message, in their order: parse, enrich, analyse, judge, settle.
//!
//! Longer than most: the stages share the message, and each hands on to the next.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use super::Standing;
use super::again::Returning;
use super::answer::{self, Decision};
use super::asks::{self, Asking};
use super::headers;
use super::metrics;
use super::reassess::{self, Again};
use super::record::{self, unix_millis};
use super::stages::Stages;
use super::standing::Effort;
use super::{Answer, Inspect, Metrics, Refusal, Transaction};
use crate::analysis::{self, Campaign, Fact, Facts, History, HistoryKeys, Likeness, Signal, Site, Why};
use crate::content::{self, FileType};
use crate::enrichment::{OnFailure, Question};
use crate::mail::{Address, Connection, Door, Edit, Message};
use crate::observe::event;
use crate::policy::mql::{Ask, View};
use crate::policy::{Action, Gtube, Judgement, RuleFindings, Subject, gtube};
use crate::records::{OutboxJob, PassKey, RELEASE_HEADER, Record, Records, Timing};

/// Bytes of a message beyond which it is parsed where it does not keep other connections waiting.
const LARGE: usize = 256 * 1024;

/// The share of the deadline that is left for judging what was learnt: a twentieth.
const JUDGING_SHARE: u32 = 20;

/// How long a message that broke the judgement is remembered.
const BROKEN_MEMORY: Duration = Duration::from_secs(60 * 60);

/// How long one that was deferred is: senders try again within hours.
const DEFERRED_MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// Pictures of one document that are read.
const MAX_DOCUMENT_PICTURES: usize = 8;

/// Judges messages: what the doors call.
pub struct Pipeline {
    standing: ArcSwap<Standing>,
    records: Option<Arc<Records>>,
    pass_key: Option<PassKey>,
    pub(super) metrics: Arc<Metrics>,
    /// What broke the judgement.
    broken: Returning,
    /// What was deferred because something could not be asked.
    deferred: Returning,
    pub(super) stages: Stages,
}

/// A message judged, before anything was done about it.
pub struct Inspected {
    /// Everything that led to the verdict.
    pub record: Record,
    pub(super) judgement: Judgement,
    pub(super) message: Message,
}

impl Pipeline {
    /// A pipeline that settles into these records. Without records nothing is held and nothing remembered: for `scan`.
    pub fn new(
        standing: Standing,
        records: Option<Arc<Records>>,
        pass_key: Option<PassKey>,
        metrics: Arc<Metrics>,
    ) -> Self {
        metrics.loaded(&standing.rules, standing.site.yara.as_deref());
        Self {
            standing: ArcSwap::from_pointee(standing),
            records,
            pass_key,
            metrics,
            broken: Returning::new(BROKEN_MEMORY),
            deferred: Returning::new(DEFERRED_MEMORY),
            stages: Stages::default(),
        }
    }

    /// Replaces all that judging depends on; messages under way keep what they began with.
    pub fn replace(&self, standing: Standing) {
        self.metrics.loaded(&standing.rules, standing.site.yara.as_deref());
        self.standing.store(Arc::new(standing));
    }

    /// What judging depends on now.
    pub fn standing(&self) -> Arc<Standing> {
        self.standing.load_full()
    }

    /// Judges a message without doing anything about it.
    pub async fn judge(&self, standing: &Standing, transaction: &Transaction) -> Inspected {
        self.judge_with(standing, standing.inline(), transaction).await
    }

    /// Judges a message with this effort.
    pub(super) async fn judge_with(
        &self,
        standing: &Standing,
        effort: Effort<'_>,
        transaction: &Transaction,
    ) -> Inspected {
        let mut timing = Timing::default();
        let started = Instant::now();
        let limits = &standing.config.message;
        let parse = || {
            let message = Message::parse(transaction.raw.clone(), limits);
            message.body();
            message
        };
        // Large messages leave the thread to others meanwhile; on a runtime with one thread there are no others.
        let large = (effort.again || transaction.raw.len() > LARGE) && runtime_has_threads();
        let message = if large { tokio::task::block_in_place(parse) } else { parse() };
        let likeness = record::likeness(standing, transaction, &message);
        timing.parse_us = micros(started);

        let asked = Instant::now();
        let until = started + effort.deadline - effort.deadline / JUDGING_SHARE;
        let patience = until.saturating_duration_since(asked);
        let client = stranger(standing, &transaction.connection);
        let question = Question {
            message: &message,
            envelope: &transaction.envelope,
            connection: &client,
            raw: &transaction.raw,
            now: unix_millis(transaction.received) / 1_000,
            again: effort.again,
            led_to: &[],
        };
        let campaign = timeout(patience, self.campaign(standing, transaction, likeness.as_ref(), effort.again));
        let enriched = self.enrich(standing, transaction, &question, (patience, until));
        let (mut facts, campaign) = tokio::join!(enriched, campaign);
        facts.campaign = campaign.unwrap_or(Fact::Unknown(Why::Timeout));
        timing.enrich_us = micros(asked);

        let judged = Instant::now();
        let mut asking = Asking::new(&standing.services, &question, until);
        let late = || effort.soon.is_cancelled();
        if effort.again && standing.services.max_pictures() > 0 && !late() {
            let pictures = pictures(&message, effort.site);
            asking.read_pictures(pictures, &mut facts.answers).await;
        }
        let judging = Judging::new(standing, &effort, transaction, &message);
        let seen = aside(large, || judging.look(&facts));
        let (mut found, mut asks) = aside(large, || judging.find(&facts));
        let mut judgement = judging.judge(&seen, &found, &facts);
        timing.judge_us = micros(judged);
        // The text analyser is asked only where the verdict is not clear, and rules ask only what they hang on: so only now.
        for round in 0..asks::ROUNDS {
            if late() {
                break;
            }
            let asked = Instant::now();
            let about_text = async {
                if round > 0 {
                    return None;
                }
                Box::pin(standing.services.ask_about_text(&question, judgement.score.risk, until)).await
            };
            let (text, came) = tokio::join!(about_text, Box::pin(asking.ask(asks, &mut facts.answers)));
            if text.is_none() && !came {
                break;
            }
            timing.enrich_us += micros(asked);
            let judged = Instant::now();
            let failed = text.as_ref().is_some_and(|text| text.unknown().is_some_and(Why::is_failure));
            facts.services.text = text.unwrap_or(facts.services.text);
            asks = Vec::new();
            if came || (failed && standing.rules.ask_who_failed()) {
                (found, asks) = aside(large, || judging.find(&facts));
            }
            judgement = judging.judge(&seen, &found, &facts);
            timing.judge_us += micros(judged);
        }

        let members = standing.site.campaigns.members;
        let in_campaign = facts.campaign.known().is_some_and(|campaign| campaign.messages >= members);
        let record = Record {
            rules: found,
            likeness,
            in_campaign,
            ..record::judged(standing, transaction, &message, facts, &judgement, timing)
        };
        let mut record = record::with_degraded_rules(record);
        record.degraded.extend(asking.failed.iter().map(|(what, why)| format!("{what}={why}")));
        if late() {
            record.degraded.push("soft_deadline=timeout".into());
        }
        Inspected { record, judgement, message }
    }

    async fn enrich(
        &self,
        standing: &Standing,
        transaction: &Transaction,
        question: &Question<'_>,
        (deadline, until): (Duration, Instant),
    ) -> Facts {
        // Boxed: joined with other questions it would make every future above it too large.
        let sender = &transaction.envelope.sender;
        let ask = Box::pin(standing.sender_auth.ask(question.connection, sender, &transaction.raw));
        let asked = async { timeout(deadline, ask).await.unwrap_or_else(|_| Facts::unknown(Why::Timeout)) };
        let history = timeout(deadline, self.history(standing, transaction, question.message));
        let services = Box::pin(standing.services.ask(question, until));
        let (facts, history, services) = tokio::join!(asked, history, services);
        Facts { history: history.unwrap_or(Fact::Unknown(Why::Timeout)), services, ..facts }
    }

    /// What is remembered of the people around the message, if some rule asks.
    async fn history(&self, standing: &Standing, transaction: &Transaction, message: &Message) -> Fact<History> {
        let Some(records) = self.records.as_ref().filter(|_| standing.needs_history) else {
            return Fact::Unknown(Why::Disabled);
        };
        let keys = HistoryKeys::of(message, &transaction.envelope, records.history_names());
        records.history(unix_millis(transaction.received), &keys).await.unwrap_or_else(|error| {
            tracing::warn!(event = event::MAIL, id = %transaction.id, %error, "the history of the sender is not known");
            Fact::Unknown(Why::Malformed)
        })
    }

    /// What came like it. While the sender waits, what came before it; later, what came until now.
    async fn campaign(
        &self,
        standing: &Standing,
        transaction: &Transaction,
        likeness: Option<&Likeness>,
        again: bool,
    ) -> Fact<Campaign> {
        let config = &standing.site.campaigns;
        let Some(records) = self.records.as_ref().filter(|_| config.enabled) else {
            return Fact::Unknown(Why::Disabled);
        };
        let Some(likeness) = likeness else { return Fact::Known(Campaign::default()) };
        let at = unix_millis(if again { std::time::SystemTime::now() } else { transaction.received });
        let found = records.campaign(at, (transaction.id, likeness, &transaction.envelope), config).await;
        found.map(Fact::Known).unwrap_or_else(|error| {
            tracing::warn!(
                event = event::MAIL,
                id = %transaction.id, %error, "whether it is one of a campaign is not known"
            );
            Fact::Unknown(Why::Malformed)
        })
    }

    async fn inspect_and_settle(&self, transaction: Transaction) -> Answer {
        let standing = self.standing.load_full();
        let until = Instant::now() + standing.config.deadline();
        // However long it took, a message that can be held at once is.
        let until = || until.max(Instant::now() + standing.config.settle());
        if let Some(answer) = self.released(&transaction).await {
            return answer;
        }
        let Inspected { mut record, mut judgement, message } = self.judge(&standing, &transaction).await;
        self.metrics.saw(&message);
        let wanted = self.wanted(&standing, &record, &message, &transaction);
        if wanted == OnFailure::Closed {
            answer::hold_unasked(&mut judgement, &mut record.verdicts);
        }
        let again = reassess::wanted(&standing, (&record, &judgement), &message, self.records.is_some());
        if let Some(again) = &again {
            again.count(&self.metrics);
        }
        let waiting = again.as_ref().filter(|again| again.waits() && wanted != OnFailure::Defer);
        if let Some(again) = waiting {
            answer::hold_waiting(&mut judgement, &mut record.verdicts, &again.waits);
        }
        let decision = match answer::combine(&judgement, transaction.abilities) {
            // Out of the MTA's queue we can release nothing.
            Decision::HoldAtMta if waiting.is_some() => Decision::Hold,
            decision => decision,
        };
        record.action = decision.action();
        if wanted == OnFailure::Defer && matches!(decision, Decision::Deliver { .. }) {
            record.action = Action::Defer;
            let answer = Answer::Defer(Refusal::later(transaction.id));
            self.remember(record, &answer, None);
            return answer;
        }
        let edits = || headers::edits(&standing, &transaction, &message, &record, record.action);
        // Jobs of what is held are committed with the hold: the row of the ledger may be dropped.
        let with_hold = again.as_ref().filter(|_| waiting.is_some() || matches!(decision, Decision::Hold));
        let jobs = with_hold.map(|again| again.jobs(&record, &standing.deep.config, true)).unwrap_or_default();
        let noted = with_hold.is_some();
        let result = match decision {
            Decision::Deliver { held, tag } => {
                let edits = edits();
                let edits = if transaction.abilities.edit_headers {
                    answer::tagged(edits, &message, tag.as_deref())
                } else {
                    Vec::new()
                };
                self.settle(&mut record, &transaction, (&held, jobs), until())
                    .await
                    .map(|()| Answer::Deliver { edits, held })
            }
            Decision::HoldAtMta => {
                let edits = if transaction.abilities.edit_headers { edits() } else { Vec::new() };
                Ok(Answer::HoldAtMta { reason: format!("Mailweir {} risk {:.0}", record.id, record.score.risk), edits })
            }
            Decision::Hold => {
                let all: Vec<usize> = (0..transaction.envelope.recipients.len()).collect();
                self.settle(&mut record, &transaction, (&all, jobs), until()).await.map(|()| Answer::Hold)
            }
            Decision::Reject => Ok(Answer::Reject(Refusal::refused(transaction.id))),
        };
        let answer = result.unwrap_or_else(|refusal| {
            record.action = Action::Defer;
            Answer::Defer(refusal)
        });
        let again = if noted { None } else { again };
        self.remember(record, &answer, again.map(|again| (again, &*standing, transaction.raw)));
        answer
    }

    /// What is done with a message that would be passed on, because of what could not be asked. The patience of `defer` is for
    /// each message: else one that the virus scanner chokes on would be deferred until it bounces.
    fn wanted(&self, standing: &Standing, record: &Record, message: &Message, transaction: &Transaction) -> OnFailure {
        let after = |deferred| {
            let stages = self.stages.wanted(&standing.config.on_failure, record, message, deferred);
            standing.services.on_failure(&record.facts.services, deferred).max(stages)
        };
        match after(Duration::ZERO) {
            OnFailure::Defer => after(self.deferred.again(transaction, Instant::now()).first.elapsed()),
            decided => decided,
        }
    }

    /// Makes durable what must be, until then: the copies of recipients that must not get the message.
    async fn settle(
        &self,
        record: &mut Record,
        transaction: &Transaction,
        (held, jobs): (&[usize], Vec<OutboxJob>),
        until: Instant,
    ) -> Result<(), Refusal> {
        if held.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let Some(records) = &self.records else { return Err(Refusal::store(transaction.id)) };
        let result = records.hold_until(record, transaction.raw.clone(), held, jobs, until).await;
        record.timing.settle_us = micros(started);
        result.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(
                event = event::MAIL,
                id = %transaction.id, %error, cause, "a message could not be held and was deferred"
            );
            Refusal::store(transaction.id)
        })
    }

    /// A message that was released from quarantine and comes through our door again: passed on unjudged, once.
    async fn released(&self, transaction: &Transaction) -> Option<Answer> {
        let (Some(key), Some(records)) = (&self.pass_key, &self.records) else { return None };
        let value = headers::first_value(&transaction.raw, RELEASE_HEADER)?;
        let now_ms = unix_millis(transaction.received);
        let pass = key.verify(&value, &transaction.raw, now_ms)?;
        if !records.use_pass(&pass.nonce, now_ms).await.unwrap_or(false) {
            tracing::warn!(
                event = event::SECURITY,
                id = %transaction.id, released = %pass.id, "a release pass was shown twice or is unknown: judged as any other"
            );
            return None;
        }
        tracing::info!(event = event::MAIL, id = %transaction.id, released = %pass.id, "released message passed on");
        self.metrics.messages.with_label_values(&[transaction.connection.door.as_str(), "released"]).inc();
        let edits = vec![Edit::Remove { name: RELEASE_HEADER.into(), occurrence: 1 }];
        let edits = if transaction.abilities.edit_headers { edits } else { Vec::new() };
        Some(Answer::Deliver { edits, held: Vec::new() })
    }

    fn remember(&self, mut record: Record, answer: &Answer, again: Option<(Again, &Standing, Bytes)>) {
        if let Answer::Reject(refusal) | Answer::Defer(refusal) = answer {
            let [class, subject, detail] = refusal.enhanced;
            record.reply = Some(format!("{} {class}.{subject}.{detail} {}", refusal.code, refusal.text));
        }
        let metrics = &self.metrics;
        metrics.messages.with_label_values(&[record.connection.door.as_str(), record.action.as_str()]).inc();
        for one in &record.verdicts {
            metrics.verdicts.with_label_values(&[one.tenant.as_str(), one.verdict.action.as_str()]).inc();
        }
        let timing = &record.timing;
        let whole = timing.parse_us + timing.enrich_us + timing.judge_us + timing.settle_us;
        for (stage, us) in [
            ("parse", record.timing.parse_us),
            ("enrich", record.timing.enrich_us),
            ("judge", record.timing.judge_us),
            ("settle", record.timing.settle_us),
            ("whole", whole),
        ] {
            metrics.stage_seconds.with_label_values(&[stage]).observe(us as f64 / 1e6);
        }
        metrics.risk.observe(record.score.risk);
        metrics.size_bytes.observe(record.size as f64);
        for (what, why) in record.facts.unknowns().into_iter().filter(|(_, why)| why.is_failure()) {
            metrics.degraded.with_label_values(&[what, why.as_str()]).inc();
        }
        metrics.count_rules(&record.rules);
        metrics.count_reasons(&record);
        self.say(&record);
        if let Some(records) = &self.records {
            match again {
                Some((again, standing, raw)) => again.note(records, &self.metrics, record, answer, standing, raw),
                None => records.note_with_jobs(&record, reassess::for_campaign(&record)),
            }
        }
    }

    /// The one line that every message has, and another when it took long.
    fn say(&self, record: &Record) {
        let risk = (record.score.risk * 10.0).round() / 10.0;
        let reasons: BTreeSet<&str> = record.verdicts.iter().map(|one| metrics::word(&one.verdict.reason)).collect();
        let reasons = reasons.into_iter().collect::<Vec<_>>().join(",");
        let ms = record.timing.total_us() / 1_000;
        tracing::info!(
            event = event::MAIL, id = %record.id, door = record.connection.door.as_str(),
            action = record.action.as_str(), risk, reasons, recipients = record.envelope.recipients.len(),
            size = record.size, degraded = !record.degraded.is_empty(), ms, "judged"
        );
        if ms >= self.standing.load().config.slow_ms {
            let Timing { parse_us, enrich_us, judge_us, settle_us } = record.timing;
            tracing::warn!(
                event = event::PERFORMANCE, id = %record.id, ms, parse_us, enrich_us, judge_us, settle_us,
                size = record.size, "a message took long"
            );
        }
    }

    /// After a panic: 451, and when the same message does it again and again, what the operator chose.
    async fn after_panic(&self, transaction: Transaction) -> Answer {
        self.metrics.panics.inc();
        let standing = self.standing.load_full();
        let times = self.broken.again(&transaction, Instant::now()).times;
        tracing::error!(event = event::MAIL, id = %transaction.id, times, "the judgement of a message broke down");
        if times <= standing.config.panic_retries {
            return Answer::Defer(Refusal::later(transaction.id));
        }
        let result = match standing.config.after_panics {
            super::AfterPanics::Defer => Err(Refusal::later(transaction.id)),
            super::AfterPanics::Allow => {
                let edit = Edit::Prepend { name: "X-Mailweir-Status".into(), value: "unscanned".into() };
                Ok(Answer::Deliver {
                    edits: if transaction.abilities.edit_headers { vec![edit] } else { Vec::new() },
                    held: Vec::new(),
                })
            }
            super::AfterPanics::Quarantine => {
                let mut record = record::unjudged(&standing, &transaction);
                let all: Vec<usize> = (0..transaction.envelope.recipients.len()).collect();
                let jobs = reassess::for_unjudged(&record, &standing.deep.config);
                let until = Instant::now() + standing.config.deadline();
                let held = self.settle(&mut record, &transaction, (&all, jobs), until).await;
                held.map(|()| {
                    self.remember(record, &Answer::Hold, None);
                    Answer::Hold
                })
            }
        };
        result.unwrap_or_else(Answer::Defer)
    }
}

impl Inspect for Pipeline {
    async fn inspect(&self, transaction: Transaction) -> Answer {
        self.metrics.in_flight.inc();
        let judged = AssertUnwindSafe(self.inspect_and_settle(transaction.clone())).catch_unwind().await;
        let answer = match judged {
            Ok(answer) => answer,
            Err(_) => self.after_panic(transaction).await,
        };
        self.metrics.in_flight.dec();
        answer
    }
}

/// The client as strangers are asked about it: our own have no address there, nobody outside knows them.
fn stranger<'c>(standing: &Standing, connection: &'c Connection) -> Cow<'c, Connection> {
    let own = |ip: IpAddr| standing.own_networks.iter().any(|network| network.contains(ip));
    match connection.client_ip {
        Some(ip) if own(ip) => Cow::Owned(Connection { client_ip: None, ..connection.clone() }),
        _ => Cow::Borrowed(connection),
    }
}

/// Large messages leave the thread to others meanwhile.
fn aside<T>(large: bool, work: impl FnOnce() -> T) -> T {
    if large { tokio::task::block_in_place(work) } else { work() }
}

/// One message being judged: what is looked at once, and what depends on answers that come later.
struct Judging<'j> {
    standing: &'j Standing,
    effort: &'j Effort<'j>,
    transaction: &'j Transaction,
    message: &'j Message,
    from: Vec<Address>,
    sender: Option<Address>,
    hashes: Vec<String>,
    pattern: Option<Gtube>,
}

impl<'j> Judging<'j> {
    fn new(standing: &'j Standing, effort: &'j Effort<'j>, transaction: &'j Transaction, message: &'j Message) -> Self {
        let from = message.from().iter().filter_map(|mailbox| mailbox.address.clone()).collect();
        let sender = transaction.envelope.sender.address();
        let hashes = if standing.judge.needs_hashes() { attachment_hashes(message) } else { Vec::new() };
        let pattern = gtube(&transaction.raw).or_else(|| gtube(message.text().as_bytes()));
        Self { standing, effort, transaction, message, from, sender, hashes, pattern }
    }

    /// What the detectors see.
    fn look(&self, facts: &Facts) -> Vec<Signal> {
        let Self { transaction, message, effort, .. } = self;
        let (connection, envelope) = (&*transaction.connection, &transaction.envelope);
        analysis::look(&analysis::Input { message, envelope, connection, facts, site: effort.site })
    }

    /// What the rules say, and what they would ask; those that the time is not enough for are undecided.
    fn find(&self, facts: &Facts) -> (RuleFindings, Vec<Ask>) {
        let Self { standing, effort, transaction, message, .. } = self;
        let envelope = &transaction.envelope;
        // A message out of a file that nobody gave an envelope has none.
        let bare = transaction.connection.door == Door::Scan && envelope.recipients.iter().all(|path| path.is_null());
        let view = View {
            message,
            envelope: (!bare).then_some(envelope),
            connection: Some(&transaction.connection),
            facts,
            site: effort.site,
            content: &effort.site.content,
            now: unix_millis(transaction.received) / 1_000,
        };
        let until = Instant::now() + effort.rule_time;
        standing.rules.find_and_ask(view, effort.rule_budget, &|| Instant::now() >= until, effort.stage())
    }

    /// The verdict, by what was seen and found, and what services said.
    fn judge(&self, seen: &[Signal], found: &RuleFindings, facts: &Facts) -> Judgement {
        let Self { standing, transaction, from, sender, hashes, pattern, .. } = self;
        let evidence = analysis::with_services(seen.to_vec(), &facts.services);
        let connection = &*transaction.connection;
        let subject = Subject { connection, sender: sender.as_ref(), from, facts, hashes };
        standing.judge.judge(evidence, found, &subject, *pattern, &transaction.envelope.recipients)
    }
}

/// The pictures of a message, in archives that it gives passwords for as well.
fn pictures(message: &Message, site: &Site) -> Vec<(String, Bytes)> {
    let open = || {
        let files = content::explode_with(message, &site.content, &site.means(message, &site.content));
        let inside = |file: content::File| {
            let most = if file.kind == FileType::Image { 1 } else { MAX_DOCUMENT_PICTURES };
            let read = matches!(file.kind, FileType::Image | FileType::Pdf | FileType::OfficeXml);
            let all = if read { content::pictures_in(&file.name, file.bytes, &site.content, most) } else { Vec::new() };
            all.into_iter().map(|bytes| (file.name.clone(), bytes)).collect::<Vec<_>>()
        };
        files.into_iter().flat_map(inside).collect()
    };
    if runtime_has_threads() { tokio::task::block_in_place(open) } else { open() }
}

fn attachment_hashes(message: &Message) -> Vec<String> {
    let hex = |hash: &[u8; 32]| hash.iter().map(|byte| format!("{byte:02x}")).collect();
    message.attachments().map(|(_, part)| hex(part.sha256())).collect()
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn runtime_has_threads() -> bool {
    tokio::runtime::Handle::try_current()
        .is_ok_and(|handle| handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::analysis::Site;
    use crate::enrichment::{SenderAuth, Services};
    use crate::mail::{Envelope, MessageId, Path};
    use crate::pipeline::{Abilities, AfterPanics, Config};
    use crate::policy::{self, Judge, PolicyFiles, RuleSet};

    fn pipeline(after_panics: AfterPanics) -> Pipeline {
        let standing = Standing {
            judge: Judge::new(&policy::Config::default(), &PolicyFiles::default()).unwrap(),
            site: Site::default(),
            sender_auth: SenderAuth::offline(),
            services: Services::default(),
            authserv_id: "mx.example.org".into(),
            own_networks: Vec::new(),
            needs_history: false,
            rules: Arc::new(RuleSet::build(Vec::new(), Arc::default(), &Default::default(), &Default::default()).0),
            rule_budget: Default::default(),
            rule_time: Duration::from_secs(1),
            config: Config { after_panics, panic_retries: 2, ..Config::default() },
            deep: Default::default(),
        };
        Pipeline::new(standing, None, None, Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap()))
    }

    fn transaction(raw: &'static [u8]) -> Transaction {
        Transaction {
            id: MessageId::new(1, [1; 10]),
            connection: Arc::new(Connection::unknown(Door::Relay)),
            envelope: Envelope { sender: Path::new("a@a.example"), recipients: vec![Path::new("b@b.example")] },
            raw: Bytes::from_static(raw),
            received: std::time::SystemTime::UNIX_EPOCH,
            abilities: Abilities { edit_headers: true, drop_recipients: true, hold_at_mta: false },
        }
    }

    #[tokio::test]
    async fn what_breaks_the_judgement_is_deferred_and_then_what_the_operator_chose() {
        let answers = async |after| {
            let pipeline = pipeline(after);
            let mut answers = Vec::new();
            // The hop before writes the time of each try.
            for raw in [
                &b"Received: by mx; 10:00\r\nSubject: x\r\n\r\n"[..],
                b"Received: by mx;\r\n\t10:05\r\nSubject: x\r\n\r\n",
                b"Received: by mx; 10:15\r\nSubject: x\r\n\r\n",
            ] {
                answers.push(pipeline.after_panic(transaction(raw)).await);
            }
            assert_eq!(pipeline.metrics.panics.get(), 3);
            answers
        };
        let deferred = |answer: &Answer| matches!(answer, Answer::Defer(refusal) if refusal.code == 451);
        let allowed = answers(AfterPanics::Allow).await;
        assert!(deferred(&allowed[0]) && deferred(&allowed[1]), "{allowed:?}");
        let Answer::Deliver { edits, .. } = &allowed[2] else { panic!("{allowed:?}") };
        assert!(
            matches!(&edits[..], [Edit::Prepend { name, value }] if name == "X-Mailweir-Status" && value == "unscanned")
        );
        assert!(answers(AfterPanics::Defer).await.iter().all(deferred));
        // Nowhere to hold it: it must not be called held.
        assert!(answers(AfterPanics::Quarantine).await.iter().all(deferred));
    }

    #[tokio::test]
    async fn forged_results_go_and_ours_come() {
        let raw = b"Authentication-Results: mx.example.org; dmarc=pass\r\nX-Mailweir-Verdict: allow\r\nSubject: hello\r\n\r\nhello\r\n";
        let answer = pipeline(AfterPanics::Defer).inspect(transaction(raw)).await;
        let Answer::Deliver { edits, held } = answer else { panic!("{answer:?}") };
        assert!(held.is_empty());
        for name in ["Authentication-Results", "X-Mailweir-Verdict"] {
            let removed = |e: &Edit| matches!(e, Edit::Remove { name: n, occurrence: 1 } if n == name);
            let added = |e: &Edit| matches!(e, Edit::Prepend { name: n, .. } if n == name);
            assert!(edits.iter().any(removed) && edits.iter().any(added), "{name}: {edits:?}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_held_is_deferred() {
        let raw =
            concat!("Subject: x\r\n\r\nYJS*C4JDBQADN1.NSBN3*2IDNEN*", "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n");
        let answer = pipeline(AfterPanics::Defer).inspect(transaction(raw.as_bytes())).await;
        assert!(matches!(answer, Answer::Defer(refusal) if refusal.code == 451 && refusal.enhanced == [4, 3, 0]));
    }
}
