//! Message content: DATA and BDAT, up to the event or the refusal (RFC 5321, 4.1.1.4; RFC 3030, 2).
//!
//! Octets of a refused BDAT are consumed all the same: they must not run as commands.

use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use crate::protocol::smtp::data::{BareNewline, DataFramer, Finding, Findings};
use crate::protocol::smtp::{Extension, Reply};

use super::{Event, Phase, Question, Server, Violation, say};

impl Server {
    pub(super) fn content_deadline(&self, received: u64) -> Instant {
        let rate = self.settings.data_min_bytes_per_second.max(1);
        let earned = self.settings.command_timeout + Duration::from_secs(received / rate);
        self.since + earned.min(self.settings.data_timeout)
    }

    pub(super) fn data(&mut self, input: &BytesMut) -> Option<Event> {
        let Some(transaction) = &self.transaction else { return self.refuse(&say::MAIL_FIRST) };
        if transaction.chunks.is_some() || transaction.chunk_failed {
            return self.refuse(&say::BAD_SEQUENCE);
        }
        if transaction.envelope.recipients.is_empty() {
            return self.refuse(&say::NO_RECIPIENTS);
        }
        // RFC 2920, 3.1: DATA ends a group. Content sent before 354 comes from one who does not listen.
        if !input.is_empty() {
            self.violations.push(Violation::EarlyTalk);
            self.close(say::EARLY);
            return None;
        }
        say::GO_AHEAD.write(&mut self.out);
        self.phase = Phase::Data(Box::new(self.framer()));
        None
    }

    pub(super) fn framer(&self) -> DataFramer {
        let settings = &self.settings;
        DataFramer::new(settings.bare_newline, self.max_size(), settings.max_line_bytes)
    }

    pub(super) fn max_size(&self) -> u64 {
        self.extensions.size.map_or(self.settings.max_message_bytes, |size| size.min(self.settings.max_message_bytes))
    }

    /// The content is complete: ask for the message's answer, or refuse what must not be passed on.
    pub(super) fn message(&mut self, framer: DataFramer) -> Event {
        let (raw, findings) = framer.finish();
        self.note(findings);
        let refusal = self.refusal.take().or_else(|| self.objection(findings));
        if let Some(reply) = refusal {
            self.end_transaction();
            self.say(&reply);
            return Event::Reset;
        }
        let Some(transaction) = &mut self.transaction else {
            self.close(say::INTERNAL);
            return Event::Reset;
        };
        let envelope = std::mem::take(&mut transaction.envelope);
        self.phase = Phase::Asked(Question::Message);
        Event::Message { envelope, raw }
    }

    pub(super) fn objection(&self, findings: Findings) -> Option<Reply> {
        let bare = findings.has(Finding::BareCr) || findings.has(Finding::BareLf);
        match () {
            () if findings.has(Finding::Nul) => Some(say::NUL_IN_MESSAGE),
            () if bare && self.settings.bare_newline == BareNewline::Reject => Some(say::BARE_IN_MESSAGE),
            () if findings.has(Finding::TooBig) => Some(say::TOO_BIG),
            () if findings.has(Finding::LineTooLong) => Some(say::MESSAGE_LINE_TOO_LONG),
            () => None,
        }
    }

    pub(super) fn note(&mut self, findings: Findings) {
        for (finding, violation) in [
            (Finding::BareCr, Violation::BareCr),
            (Finding::BareLf, Violation::BareLf),
            (Finding::Nul, Violation::Nul),
            (Finding::LineTooLong, Violation::LineTooLong),
        ] {
            if findings.has(finding) {
                self.violations.push(violation);
            }
        }
    }

    pub(super) fn bdat(&mut self, size: u64, last: bool) -> Option<Event> {
        // Octets must be consumed whatever the answer is, or they would run as commands.
        let refusal = match &self.transaction {
            _ if !self.extensions.has(Extension::Chunking) => Some(say::NOT_IMPLEMENTED),
            None => Some(say::MAIL_FIRST),
            Some(open) if open.chunk_failed => Some(say::BAD_SEQUENCE),
            Some(open) if open.envelope.recipients.is_empty() => Some(say::NO_RECIPIENTS),
            Some(_) => None,
        };
        if let (None, true) = (&refusal, self.transaction.as_ref().is_some_and(|open| open.chunks.is_none())) {
            let framer = Box::new(self.framer());
            if let Some(open) = &mut self.transaction {
                open.chunks = Some(framer);
            }
        }
        if let (Some(_), Some(open)) = (&refusal, &mut self.transaction) {
            open.chunk_failed = true;
            open.chunks = None;
        }
        // More than any message may have: nobody waits for the end of that.
        if size > self.max_size().saturating_mul(2) {
            self.close(say::TOO_BIG_TO_READ);
            return None;
        }
        self.phase = Phase::Chunk { left: size, last, refusal };
        None
    }

    /// `None`: more octets are needed. `Some(None)`: the chunk is complete and answered.
    pub(super) fn chunk(&mut self, input: &mut BytesMut, now: Instant) -> Option<Option<Event>> {
        let Phase::Chunk { left, last, refusal } = &mut self.phase else { return Some(None) };
        let take = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
        let framer = self.transaction.as_mut().and_then(|open| open.chunks.as_mut());
        if let (None, Some(framer)) = (&refusal, framer) {
            framer.receive_chunk(&input[..take]);
        }
        input.advance(take);
        *left -= take as u64;
        if *left > 0 {
            return None;
        }
        let (last, refusal) = (*last, refusal.take());
        self.phase = Phase::Command;
        self.since = now;
        if let Some(reply) = refusal {
            self.say(&reply);
            return Some(None);
        }
        let Some(framer) = self.transaction.as_mut().and_then(|open| if last { open.chunks.take() } else { None })
        else {
            say::CHUNK_TAKEN.write(&mut self.out);
            return Some(None);
        };
        Some(Some(self.message(*framer)))
    }
}
