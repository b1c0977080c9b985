//! Jobs that tell somebody of a second verdict: `alert` the operators by their channels, `notify` people by mail, `webhook` a
//! program of the operator's, signed.
//!
//! Each is done once: what has a result on the record is not done again. A channel that does not take it has the job come again;
//! one that refuses it for good ends it, and the record says so. When several channels of `alert` are told and some take it, it
//! waits for the others like an alert of the gateway's own ([`Later`]). When several are told by `notify`, one that took it is
//! enough: the others are named in the result. A crash between telling and noting may tell twice: rather twice than never. A
//! silence that covers it (`*`, `second_verdict`, or the key `second_verdict:ID`) holds for `alert`: the result names who ordered
//! it, and it is not told later. Silences are those in the data folder of the process that works.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::actions::{NOBODY, done, now_ms, ordered};
use super::alert::{
    Act, AlertMailConfig, AlertMetrics, AlertsConfig, Board, Channel, ChannelError, Later, Line, Notice, Order,
    SECOND_VERDICT, Severity, Ways, WebhookConfig, What,
};
use super::{ActionWebhookConfig, ActionsConfig};
use crate::deferred::{Failure, Handler, Job};
use crate::mail::MessageId;
use crate::observe::{self, Fault};
use crate::policy::Action;
use crate::records::{ActionOrder, Change, Explained, Records};

/// Kind of the job that alerts.
pub const ALERT: &str = "alert";
/// Kind of the job that notifies.
pub const NOTIFY: &str = "notify";
/// Kind of the job that calls a webhook.
pub const WEBHOOK: &str = "webhook";

/// Tells of second verdicts: handler of [`ALERT`], [`NOTIFY`] and [`WEBHOOK`].
pub struct Tell {
    records: Arc<Records>,
    operators: Vec<Arc<Channel>>,
    /// Where it waits for operators who do not take it, and where it is counted.
    later: Option<(Later, AlertMetrics)>,
    people: People,
    board: Board,
    webhook: Option<Channel>,
}

/// Mails people: with the settings of alerts as far as `[actions]` has none of its own.
struct People {
    alerts: AlertsConfig,
    actions: ActionsConfig,
    ways: Ways,
}

impl Tell {
    /// Tells operators by their channels, and people and programs by these ways.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub fn new(
        records: Arc<Records>,
        operators: Vec<Arc<Channel>>,
        sections: (&AlertsConfig, &ActionsConfig),
        ways: Ways,
    ) -> Result<Self, ChannelError> {
        let board = Board::new(&ways.data);
        let (people, webhook) = told(sections, ways)?;
        Ok(Self { records, operators, later: None, people, board, webhook })
    }

    /// What operators do not take waits here, and is counted.
    #[must_use]
    pub fn waiting_in(self, later: Later, metrics: AlertMetrics) -> Self {
        Self { later: Some((later, metrics)), ..self }
    }

    /// Whether these settings can be used; asks nobody.
    ///
    /// # Errors
    /// Names the setting that cannot.
    pub fn check(sections: (&AlertsConfig, &ActionsConfig), ways: Ways) -> Result<(), ChannelError> {
        told(sections, ways).map(drop)
    }

    async fn tell(&self, job: &Job) -> Result<(), Failure> {
        let Some(order) = ordered(&self.records, job).await? else { return Ok(()) };
        let again = |error: crate::records::StoreError| Failure::of(&error);
        let Some(explained) = self.records.explained(order.id).await.map_err(again)? else {
            return Err(Failure::again("the record of the message is not there"));
        };
        let result = match job.kind.as_str() {
            ALERT => match self.silence(order.id).await {
                Some(silence) => format!("silenced by {}", silence.by),
                None => {
                    let operators = self.operators.iter().map(|one| &**one);
                    by(operators, &self.notice(&explained, &order, false), self.later.as_ref()).await?
                }
            },
            WEBHOOK => by(self.webhook.iter(), &self.notice(&explained, &order, false), None).await?,
            _ => self.notify(&explained, &order).await?,
        };
        done(&self.records, job, &order, &result).await
    }

    /// The silence that covers what is told of a message.
    async fn silence(&self, id: MessageId) -> Option<Order> {
        let (board, now_ms) = (self.board.clone(), now_ms(SystemTime::now()));
        // Files: read where they keep nobody waiting. That they cannot be read is no silence.
        let orders = tokio::task::spawn_blocking(move || board.orders(now_ms)).await.unwrap_or_default();
        orders.into_iter().find(|order| order.act == Act::Silence && order.covers(&key(id), now_ms))
    }

    /// Mails the configured people, and each recipient by himself: none is to see the others.
    async fn notify(&self, explained: &Explained, order: &ActionOrder) -> Result<String, Failure> {
        let notify = &self.people.actions.notify;
        let mut channels = Vec::new();
        if let Ok(Some(channel)) = self.people.mail_to(&notify.to) {
            channels.push(channel);
        }
        for recipient in order.recipients.iter().filter(|_| notify.recipients).take(notify.max_recipients) {
            // Addresses that no plain header can name are left out.
            channels.extend(self.people.mail_to(std::slice::from_ref(recipient)).ok().flatten());
        }
        let notice = self.notice(explained, order, true);
        by(channels.iter(), &notice, None).await
    }

    /// What is told: to operators what happened, to people what it means for them.
    fn notice(&self, explained: &Explained, order: &ActionOrder, people: bool) -> Notice {
        let first = &explained.record;
        let second = explained.second.as_ref();
        let (record, at_ms) =
            second.map_or((first, now_ms(SystemTime::now())), |second| (&second.record, second.at_ms));
        let refused = record.verdicts.iter().any(|one| one.verdict.action == Action::Reject);
        let worse = second.is_some_and(|second| second.change == Change::Worse);
        let severity = if refused && worse { Severity::Critical } else { Severity::Warning };
        let signals: Vec<&str> =
            record.score.terms.iter().filter(|t| t.weight > 0.0).map(|t| t.code.as_str()).collect();
        let from = record.from.join(", ");
        let line = Line {
            what: What::Fired,
            severity,
            key: key(order.id),
            kind: SECOND_VERDICT.into(),
            title: match people {
                true => "A message to you turned out to be dangerous".into(),
                false => format!("A message is judged worse at a second look: {}", order.id),
            },
            value: Some(record.score.risk),
            words: match people {
                true => format!("\u{201c}{}\u{201d} from {from}", record.subject),
                false => format!("risk {:.1}, was {:.1}", record.score.risk, first.score.risk),
            },
            note: match people {
                true => format!("reference {}", order.id),
                false => format!("for {}; {}", order.recipients.join(", "), signals.join(", ")),
            },
            advice: match people {
                true => "Do not follow its links, do not open what is attached, do not answer. Delete it.".into(),
                false => "`mailweir explain ID` shows both verdicts.".into(),
            },
            since_ms: first.received_ms,
            correlation: first.connection.correlation.clone(),
        };
        let link = if people { "" } else { self.people.alerts.link_url.as_str() };
        Notice::one(&self.people.ways.host_name, link, line, at_ms)
    }
}

/// Gives a notice to each channel; what came of it. When nobody takes it yet the job comes again; when some do, it waits in
/// `later` for the others, and without that they are named.
async fn by(
    channels: impl Iterator<Item = &Channel>,
    notice: &Notice,
    later: Option<&(Later, AlertMetrics)>,
) -> Result<String, Failure> {
    let count = |channel: &Channel, outcome| {
        later.inspect(|(_, metrics)| metrics.delivered(channel.name(), outcome));
    };
    let severity = notice.lines.first().map_or(Severity::Warning, |line| line.severity);
    let (mut took, mut refused, mut put_off) = (Vec::new(), Vec::new(), Vec::new());
    for channel in channels.filter(|channel| channel.from() <= severity) {
        let mut left = notice.clone();
        let Err(failure) = channel.deliver_left(&mut left).await else {
            count(channel, "ok");
            took.push(channel.name().as_str());
            continue;
        };
        observe::count("enforcement", failure.category());
        if Channel::is_final(&failure) {
            count(channel, "refused");
            refused.push(format!("{}: {failure}", channel.name().as_str()));
            continue;
        }
        if channel.is_partly(&left) {
            took.push(channel.name().as_str());
        }
        put_off.push((channel, left, failure));
    }
    if took.is_empty()
        && let Some((channel, _, failure)) = put_off.first()
    {
        put_off.iter().for_each(|(channel, ..)| count(channel, "retried"));
        return Err(Failure::later(format!("{}: {failure}", channel.name().as_str())));
    }
    let mut waits = Vec::new();
    for (channel, left, failure) in put_off {
        let said = format!("{}: {failure}", channel.name().as_str());
        match later {
            Some((later, _)) if later.wait(channel, &left, &failure).await => {
                count(channel, "queued");
                waits.push(channel.name().as_str());
            }
            // Rather told twice than never.
            Some(_) => {
                count(channel, "retried");
                return Err(Failure::later(said));
            }
            None => refused.push(said),
        }
    }
    let parts = [("told by", took.join(", ")), ("waits for", waits.join(", ")), ("not by", refused.join("; "))];
    let parts: Vec<String> =
        parts.iter().filter(|(_, who)| !who.is_empty()).map(|(what, who)| format!("{what} {who}")).collect();
    match took.is_empty() {
        true if refused.is_empty() => Ok(NOBODY.to_owned()),
        true => Ok(format!("refused by {}", refused.join("; "))),
        false => Ok(parts.join("; ")),
    }
}

/// The people and the program that `[actions]` names.
fn told(
    (alerts, actions): (&AlertsConfig, &ActionsConfig),
    ways: Ways,
) -> Result<(People, Option<Channel>), ChannelError> {
    let ActionWebhookConfig { url, url_file } = actions.webhook.clone();
    let webhook = WebhookConfig { url, url_file, ..WebhookConfig::default() };
    let channels = Channel::configured(&AlertsConfig { webhook, ..bare(alerts) }, &ways);
    let webhook = channels.map_err(ChannelError::of_actions)?.pop();
    let people = People { alerts: alerts.clone(), actions: actions.clone(), ways };
    // The addresses are looked at now, not when the first message turns bad.
    people.mail_to(&actions.notify.to)?;
    Ok((people, webhook))
}

impl People {
    /// A channel that mails these people.
    fn mail_to(&self, to: &[String]) -> Result<Option<Channel>, ChannelError> {
        let sender = match self.actions.notify.sender.is_empty() {
            true => self.alerts.mail.sender.clone(),
            false => self.actions.notify.sender.clone(),
        };
        let mail = AlertMailConfig { to: to.to_vec(), sender, ..AlertMailConfig::default() };
        let channels = Channel::configured(&AlertsConfig { mail, ..bare(&self.alerts) }, &self.ways);
        Ok(channels.map_err(ChannelError::of_actions)?.pop())
    }
}

/// The key that a second verdict is told and silenced by.
fn key(id: MessageId) -> String {
    format!("{SECOND_VERDICT}:{id}")
}

/// The settings of alerts without any channel.
fn bare(alerts: &AlertsConfig) -> AlertsConfig {
    let none = AlertsConfig::default();
    AlertsConfig { call: alerts.call.clone(), ca_file: alerts.ca_file.clone(), ..none }
}

impl Handler for Tell {
    fn run<'a>(&'a self, job: &'a Job, _soon: CancellationToken) -> BoxFuture<'a, Result<(), Failure>> {
        self.tell(job).boxed()
    }

    fn delivers(&self) -> bool {
        true
    }
}
