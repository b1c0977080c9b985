//! The end of data: loop check, verdict, and what becomes of the message.
//!
//! Whatever fails here is answered 451: the message stays with the sender. Nothing happens between the next hop's answer and
//! the client's.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use crate::gateway::next_hop::Failed;
use crate::mail::{Connection, Edit, Envelope, MessageId};
use crate::observe::{self, Fault, event};
use crate::pipeline::{Abilities, Answer, Inspect, Refusal, Transaction};
use crate::protocol::smtp::Reply;

use super::session::{Session, refusal_of};
use super::trace::{Trace, count_received, received_field};

const LOOP: Reply = Reply::new(554, [5, 4, 6], "Too many hops: mail loop");
const NO_VERDICT: Reply = Reply::new(451, [4, 3, 0], "Message could not be checked, try again later");
const UNKNOWN: Reply = Reply::new(451, [4, 4, 2], "Next hop was lost, try again later");

impl<I: Inspect> Session<I> {
    /// Judges and passes on, holds or refuses; the reply is the client's.
    pub(super) async fn message(&mut self, envelope: Envelope, raw: Bytes) -> Reply {
        let began = Instant::now();
        let (answer, reply) = self.decide(envelope, raw).await;
        self.shared.metrics.messages.with_label_values(&[answer]).inc();
        self.shared.metrics.seconds.observe(began.elapsed().as_secs_f64());
        reply
    }

    async fn decide(&mut self, envelope: Envelope, raw: Bytes) -> (&'static str, Reply) {
        let shared = self.shared.clone();
        let config = &shared.config;
        let (received, own) = count_received(&raw, &config.host_name);
        if received > config.max_received || own > config.max_own_received {
            return ("loop", LOOP);
        }
        let connection = Arc::new(self.connection());
        let now = SystemTime::now();
        let Some(id) = new_id(now) else { return ("failed", NO_VERDICT) };
        self.decide_on((id, now), connection, envelope, raw).instrument(tracing::info_span!("message", %id)).await
    }

    async fn decide_on(
        &mut self,
        (id, now): (MessageId, SystemTime),
        connection: Arc<Connection>,
        envelope: Envelope,
        raw: Bytes,
    ) -> (&'static str, Reply) {
        let shared = self.shared.clone();
        let config = &shared.config;
        let trace = Trace {
            connection: &connection,
            host_name: &config.host_name,
            id,
            extended: self.server.is_extended(),
            received: now,
        };
        let top = Bytes::from(received_field(&trace));
        let transaction = Transaction {
            id,
            connection: connection.clone(),
            envelope,
            raw: raw.clone(),
            received: now,
            abilities: Abilities { edit_headers: true, drop_recipients: true, hold_at_mta: false },
        };
        let judging = AssertUnwindSafe(shared.inspect.inspect(transaction)).catch_unwind();
        let answer = match timeout(Duration::from_secs(config.verdict_seconds), judging).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                shared.metrics.panics.inc();
                tracing::error!(event = event::MAIL, %id, "judging the message panicked");
                return ("failed", NO_VERDICT);
            }
            Err(_) => {
                tracing::warn!(event = event::MAIL, %id, "no verdict in time");
                return ("failed", NO_VERDICT);
            }
        };
        match answer {
            Answer::Deliver { edits, held } => self.deliver(id, top, &raw, &edits, &held).await,
            Answer::Hold => ("held", Reply::composed(250, Some([2, 0, 0]), format!("Ok: queued as {id}"))),
            Answer::Reject(refusal) => ("rejected", reply_of(refusal, 5)),
            Answer::Defer(refusal) => ("deferred", reply_of(refusal, 4)),
            Answer::HoldAtMta { .. } => {
                tracing::error!(
                    event = event::MAIL,
                    %id, "the pipeline asked for the MTA's hold queue, which this door does not have"
                );
                ("failed", NO_VERDICT)
            }
        }
    }

    async fn deliver(
        &mut self,
        id: MessageId,
        top: Bytes,
        raw: &Bytes,
        edits: &[Edit],
        held: &[usize],
    ) -> (&'static str, Reply) {
        let Some(delivery) = &mut self.delivery else { return ("failed", NO_VERDICT) };
        if held.len() >= delivery.accepted().len() {
            tracing::error!(event = event::MAIL, %id, "all recipients held and delivery asked for");
            return ("failed", NO_VERDICT);
        }
        let mut segments = vec![top];
        segments.extend(Edit::apply(raw, edits));
        match delivery.deliver(held, &segments).await {
            Ok(reply) if reply.is_positive() => ("delivered", reply.with_enhanced([0, 0])),
            Ok(reply) if reply.is_permanent() => ("refused_by_next_hop", reply.with_enhanced([0, 0])),
            Ok(reply) if reply.is_transient() => ("deferred_by_next_hop", reply.with_enhanced([0, 0])),
            Ok(_) => ("failed", UNKNOWN),
            Err(failed) => {
                let (reply, error) = match &failed {
                    Failed::NotSent(error) => (refusal_of(error), error),
                    Failed::Unknown(error) => (UNKNOWN, error),
                };
                observe::count("gateway", error.category());
                tracing::warn!(event = event::MAIL, %id, %failed, %error, "message could not be passed on");
                ("failed", reply)
            }
        }
    }
}

fn new_id(now: SystemTime) -> Option<MessageId> {
    let mut chance = [0; 10];
    getrandom::fill(&mut chance).ok()?;
    let millis = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    Some(MessageId::new(millis, chance))
}

/// The refusal as a reply of the class it must have, whatever its code says.
fn reply_of(refusal: Refusal, class: u16) -> Reply {
    let (code, fallback) = if class == 5 { (550, [5, 7, 1]) } else { (451, [4, 7, 1]) };
    let fits = refusal.code / 100 == class && refusal.enhanced[0] == class && refusal.code != 421;
    let (code, enhanced) = if fits { (refusal.code, refusal.enhanced) } else { (code, fallback) };
    Reply::composed(code, Some(enhanced), refusal.text.replace('\n', " "))
}
