//! One connection of an MTA: reads, feeds the machine, has messages judged, writes.
//!
//! Deadlines are points in time, set when a wait begins and kept while bytes drip: a frame, a reply being taken and the first
//! words have `command_seconds`, the content of a message `content_seconds` altogether, silence `idle_seconds`, a verdict
//! `verdict_seconds`. A connection at rest holds no read buffer.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::listener::Socket;
use super::{Config, Metrics, verdict};
use crate::observe::{self, Category, correlation, event};
use crate::pipeline::{Answer, Inspect, Transaction};
use crate::protocol::milter::{self, Event, Judging, Message, Session, Stage};

/// Read at a time, in bytes: half a body chunk of Postfix. It is given back whenever the connection rests, and blocks from
/// 64 KiB on make the allocator tidy up each time.
const READ_BYTES: usize = 32 << 10;
/// Reply buffer kept between messages, in bytes.
const KEEP_BYTES: usize = 1 << 10;

/// Drives one connection to its end.
pub(super) struct Driver<I> {
    socket: Socket,
    session: Session,
    out: Vec<u8>,
    waiting: Waiting,
    inspect: Arc<I>,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
    correlation: String,
}

/// Why a connection ended that neither side had ended.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Protocol(#[from] milter::Error),
    #[error("the peer took too long at stage {0:?}")]
    Timeout(Stage),
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("no random numbers for a message id")]
    Random(#[from] getrandom::Error),
}

impl Fault {
    fn kind(&self) -> &'static str {
        match self {
            Self::Protocol(error) => error.kind(),
            Self::Timeout(_) => "timeout",
            Self::Io(_) => "io",
            Self::Random(_) => "random",
        }
    }
}

impl Fault {
    fn category(&self) -> Category {
        match self {
            Self::Protocol(_) => Category::Protocol,
            Self::Timeout(_) | Self::Io(_) => Category::Network,
            Self::Random(_) => Category::Internal,
        }
    }
}

impl<I: Inspect> Driver<I> {
    pub(super) fn new(
        socket: Socket,
        inspect: Arc<I>,
        config: Arc<Config>,
        metrics: Arc<Metrics>,
        cancel: CancellationToken,
    ) -> Self {
        let session = Session::new(config.limits.clone());
        Self {
            socket,
            session,
            out: Vec::new(),
            waiting: Waiting::new(),
            inspect,
            config,
            metrics,
            cancel,
            correlation: correlation(),
        }
    }

    /// Runs the connection; what goes wrong on it is counted and logged here, once, and goes no further.
    pub(super) async fn run(self) {
        let span = tracing::info_span!("milter", correlation = self.correlation);
        self.watched().instrument(span).await;
    }

    async fn watched(mut self) {
        self.metrics.connections_total.inc();
        self.metrics.connections.inc();
        let open = self.metrics.connections.clone();
        let _open = Counted(open);
        if let Err(fault) = self.drive().await {
            self.metrics.protocol_errors_total.with_label_values(&[fault.kind()]).inc();
            let category = fault.category();
            observe::count("gateway", category);
            let event = if category == Category::Protocol { event::SECURITY } else { event::SYSTEM };
            tracing::warn!(
                event,
                error = %fault, kind = fault.kind(), "milter connection ended by a fault"
            );
        }
    }

    async fn drive(&mut self) -> Result<(), Fault> {
        let mut buffer = Vec::new();
        while self.read(&mut buffer).await? {
            let mut input = &buffer[..];
            while let Some(event) = self.session.advance(&mut input, &mut self.out)? {
                match event {
                    Event::Negotiated(offer, agreement) => {
                        tracing::debug!(?offer, ?agreement, "milter options agreed on");
                    }
                    Event::Message(message, judging) => self.judge(*message, judging).await?,
                    Event::Refused(overrun) => {
                        self.metrics.overruns_total.with_label_values(&[overrun.kind()]).inc();
                        tracing::info!(
                            event = event::SECURITY,
                            limit = overrun.kind(),
                            "message refused: it passes a limit"
                        );
                    }
                    Event::Quit => return self.flush().await,
                }
            }
            self.flush().await?;
        }
        Ok(())
    }

    /// Reads what has come; false when the peer has closed, or when we are to stop and nothing is under way.
    async fn read(&mut self, buffer: &mut Vec<u8>) -> Result<bool, Fault> {
        let deadline = self.waiting.deadline(&self.session, &self.config);
        let stage = self.session.stage();
        if self.session.is_at_rest() {
            *buffer = Vec::new();
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Ok(false),
                ready = timeout_at(deadline, self.socket.readable()) => ready.map_err(|_| Fault::Timeout(stage))??,
            }
        }
        buffer.clear();
        buffer.reserve(READ_BYTES);
        let count = timeout_at(deadline, self.socket.read(buffer)).await.map_err(|_| Fault::Timeout(stage))??;
        Ok(count > 0)
    }

    /// Sends what is to be sent, in one write.
    async fn flush(&mut self) -> Result<(), Fault> {
        if self.out.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + Duration::from_secs(self.config.command_seconds);
        let written = timeout_at(deadline, self.socket.write_all(&self.out)).await;
        written.map_err(|_| Fault::Timeout(self.session.stage()))??;
        self.out.clear();
        self.out.shrink_to(KEEP_BYTES);
        Ok(())
    }

    async fn judge(&mut self, message: Message, judging: Judging) -> Result<(), Fault> {
        let transaction = verdict::transaction(message, self.session.agreement(), &self.correlation)?;
        let id = transaction.id;
        let span = tracing::info_span!("message", %id);
        let answer = match self.inspect(transaction, &judging).instrument(span).await? {
            Ok(answer) => answer,
            Err(kind) => {
                self.metrics.verdicts_missing_total.with_label_values(&[kind]).inc();
                tracing::error!(event = event::MAIL, %id, kind, "no verdict: the sender is asked to try again");
                verdict::missing(id)
            }
        };
        let said = self.session.answer(judging, &verdict::decision(&answer), &mut self.out);
        self.flush().await?;
        self.metrics.messages_total.with_label_values(&[said.action.as_str()]).inc();
        if said.degraded {
            self.metrics.degraded_total.inc();
            tracing::warn!(
                event = event::MAIL,
                %id, answer = said.action.as_str(), "answer cut down: the MTA did not offer what it needs"
            );
        }
        tracing::debug!(%id, answer = said.action.as_str(), "message answered");
        Ok(())
    }

    /// Has a message judged, telling the MTA to wait on meanwhile. The inner error says why there is no verdict.
    ///
    /// A panic ends here: the sender is to hear 451, not to see the connection break.
    async fn inspect(
        &mut self,
        transaction: Transaction,
        judging: &Judging,
    ) -> Result<Result<Answer, &'static str>, Fault> {
        let deadline = Instant::now() + Duration::from_secs(self.config.verdict_seconds);
        let every = Duration::from_secs(self.config.progress_seconds.max(1));
        let inspect = self.inspect.clone();
        // Boxed, or every idle connection would carry room for a whole inspection.
        let mut inspection =
            Box::pin(AssertUnwindSafe(async move { inspect.inspect(transaction).await }).catch_unwind());
        loop {
            tokio::select! {
                biased;
                answer = &mut inspection => return Ok(answer.map_err(|_| "panic")),
                () = sleep_until(deadline) => return Ok(Err("timeout")),
                () = sleep(every) => {}
            }
            self.session.progress(judging, &mut self.out);
            self.flush().await?;
        }
    }
}

/// A connection that is counted as open until it is dropped, however it ends.
struct Counted(prometheus::IntGauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What is being waited for, and since when.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    frames: u64,
    amid: bool,
    /// Which message's content is under way, and when that began.
    content: Option<(u64, Instant)>,
}

impl Waiting {
    fn new() -> Self {
        Self { since: Instant::now(), frames: 0, amid: false, content: None }
    }

    /// Until when the next bytes must have come. Only a whole frame, or the first byte of one, begins a new wait.
    fn deadline(&mut self, session: &Session, config: &Config) -> Instant {
        let (frames, amid, stage) = (session.frames(), session.is_amid_frame(), session.stage());
        let now = Instant::now();
        if frames != self.frames || amid != self.amid {
            (self.since, self.frames, self.amid) = (now, frames, amid);
        }
        let message = session.messages();
        self.content = match self.content {
            _ if stage != Stage::Content => None,
            Some((same, begun)) if same == message => Some((same, begun)),
            _ => Some((message, now)),
        };
        let command = self.since + Duration::from_secs(config.command_seconds);
        let content = self.content.map(|(_, begun)| begun + Duration::from_secs(config.content_seconds));
        match content {
            Some(content) if amid => content.min(command),
            Some(content) => content,
            None if amid || stage == Stage::Opened => command,
            None => self.since + Duration::from_secs(config.idle_seconds),
        }
    }
}
