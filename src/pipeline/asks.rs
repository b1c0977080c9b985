//! What rules ask services: questions that a first run noted are put, and their answers stand among the facts of the next run.
//!
//! At most `enrichment.functions.max_asks` questions a message, several at once, within what is left of its deadline. An answer can
//! lead to a further question (the age of the domain that a link leads to), so rules run up to [`ROUNDS`] times more.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use crate::analysis::{Answers, Fact, Why};
use crate::enrichment::{FunctionAsk, Question, Services, Untouchable};
use crate::mail::{Envelope, Message};
use crate::policy::mql::{About, Ask, Capability};

/// Runs of the rules after the first.
pub(super) const ROUNDS: usize = 2;

/// The function that reads pictures.
const OCR: &str = "beta.ocr";

/// Questions of one message under way at a time.
const AT_A_TIME: usize = 8;

/// Questions of one message, over all rounds.
pub(super) struct Asking<'s> {
    services: &'s Services,
    now: i64,
    until: Instant,
    asked: BTreeSet<(&'static str, String)>,
    /// Whose links they are.
    message: (&'s Message, &'s Envelope),
    untouchable: OnceLock<Untouchable>,
    /// It is a second look: there is time for pictures and for following links.
    again: bool,
    /// What could not be asked, and why: `nlu=timeout`.
    pub(super) failed: BTreeSet<(&'static str, &'static str)>,
}

impl<'s> Asking<'s> {
    pub(super) fn new(services: &'s Services, question: &Question<'s>, until: Instant) -> Self {
        Self {
            services,
            now: question.now,
            until,
            asked: BTreeSet::new(),
            message: (question.message, question.envelope),
            untouchable: OnceLock::new(),
            again: question.again,
            failed: BTreeSet::new(),
        }
    }

    /// Has the pictures of a message read, as rules would ask about them.
    pub(super) async fn read_pictures(&mut self, pictures: Vec<(String, Bytes)>, answers: &mut Answers) {
        let asks = pictures.into_iter().take(self.services.max_pictures()).map(|(name, bytes)| Ask {
            capability: Capability::Ocr,
            function: OCR,
            key: Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
            about: About::File { name, bytes },
            named: Vec::new(),
        });
        self.ask(asks.collect(), answers).await;
        // They were read: what has no answer is no picture.
        answers.insert(OCR, String::new(), Value::Null);
    }

    /// Puts those that were not put yet; gives whether an answer came.
    pub(super) async fn ask(&mut self, asks: Vec<Ask>, answers: &mut Answers) -> bool {
        let mut put = Vec::new();
        for ask in asks {
            let Some(question) = self.question(&ask) else { continue };
            let id = (ask.function, ask.key.clone());
            if self.asked.len() < self.services.max_asks() && self.asked.insert(id) {
                put.push((ask, question));
            }
        }
        let each = put.into_iter().map(async |(ask, question)| {
            let answer = Box::pin(self.services.answer(&question, self.now, self.until));
            (ask, timeout_at(self.until, answer).await.unwrap_or(Fact::Unknown(Why::Timeout)))
        });
        let mut came = false;
        let mut answered = futures_util::stream::iter(each).buffered(AT_A_TIME);
        while let Some((ask, answer)) = answered.next().await {
            match answer {
                Fact::Known(Some(json)) => {
                    answers.insert(ask.function, ask.key, json);
                    came = true;
                }
                Fact::Unknown(why) if why.is_failure() => {
                    self.failed.insert((ask.capability.as_str(), why.as_str()));
                }
                _ => {}
            }
        }
        came
    }

    /// The question that a service understands; `None`: nobody answers that function.
    fn question(&self, ask: &Ask) -> Option<FunctionAsk> {
        if let (About::File { name, bytes }, "beta.ocr", true) = (&ask.about, ask.function, self.again) {
            return Some(FunctionAsk::Picture { name: name.clone(), bytes: bytes.clone() });
        }
        let About::Text(text) = &ask.about else { return None };
        let named = |name: &str| ask.named.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone());
        Some(match ask.function {
            "network.whois" | "beta.whois" => FunctionAsk::Whois { domain: text.clone() },
            "ml.link_analysis" | "beta.linkanalysis" => {
                let untouchable = || Untouchable::of(self.message.0, self.message.1);
                let untouchable = self.untouchable.get_or_init(untouchable).clone();
                FunctionAsk::Link { url: text.clone(), mode: named("mode"), untouchable, follow: self.again }
            }
            "ml.nlu_classifier" | "beta.ml_topic" => {
                FunctionAsk::Text { text: text.clone(), subject: named("subject") }
            }
            _ => return None,
        })
    }
}
