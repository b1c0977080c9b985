//! Functions of rules that services answer, in the shape that the data model gives their results.
//!
//! `network.whois` is answered by the registries (RDAP); `ml.link_analysis` and `ml.nlu_classifier` by the two analysers, when
//! they give the member `link_analysis` or `nlu`: without it they have no answer, and what a rule rests on it stays undecided. In a
//! second look a link that the analyser has no answer for is followed, where that is switched on: then it is known where it leads,
//! and nothing else of it (`"partial": true`).
//! An answer larger than `functions.max_answer_bytes` counts as none: it is frozen into the record.

use bytes::Bytes;
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::ocr::Ocr;
use super::{Config, Services, Untouchable};
use crate::analysis::{Fact, Why};
use crate::content::{self, ContentLimits};

/// What a function asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionAsk {
    /// Age and owner of a domain.
    Whois {
        /// The domain; its registrable part is asked about.
        domain: String,
    },
    /// Where a link leads and what is there.
    Link {
        /// The URL.
        url: String,
        /// How thoroughly, in the rule's word.
        mode: Option<String>,
        /// What must not be opened.
        untouchable: Untouchable,
        /// It is a second look: it may be followed.
        follow: bool,
    },
    /// What is written in a picture, or in the pictures in a file. Only in a second look: it takes seconds.
    Picture {
        /// Name of the file.
        name: String,
        /// Its content.
        bytes: Bytes,
    },
    /// What a text wants.
    Text {
        /// The text; it is redacted before it is sent.
        text: String,
        /// The subject that belongs to it.
        subject: Option<String>,
    },
}

/// Which kind of function a deployment answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionNeed {
    /// [`FunctionAsk::Whois`].
    Whois,
    /// [`FunctionAsk::Link`].
    Link,
    /// [`FunctionAsk::Text`].
    Text,
    /// [`FunctionAsk::Picture`].
    Ocr,
}

impl Config {
    /// Which functions of rules are answered with these settings.
    pub fn answers(&self) -> impl Iterator<Item = FunctionNeed> {
        let asked = self.functions.max_asks > 0;
        [
            (FunctionNeed::Whois, self.rdap.enabled),
            (FunctionNeed::Link, self.url_service.enabled || self.redirects.enabled),
            (FunctionNeed::Text, self.text_service.enabled),
            (FunctionNeed::Ocr, self.ocr.program().is_some()),
        ]
        .into_iter()
        .filter_map(move |(need, on)| (asked && on).then_some(need))
    }
}

impl Services {
    /// Questions of rules about one message.
    pub fn max_asks(&self) -> usize {
        self.functions.max_asks
    }

    /// The answer to a function as JSON of the data model's shape. `Known(None)`: the service has none of that shape.
    /// `now`: seconds since 1970, when the message came.
    pub async fn answer(&self, ask: &FunctionAsk, now: i64, until: Instant) -> Fact<Option<Json>> {
        let off = Fact::Unknown(Why::Disabled);
        let answer = match ask {
            FunctionAsk::Whois { domain } => match &self.rdap {
                Some(rdap) => rdap.fact("rdap", rdap.service.whois(domain, now, until).await),
                None => off,
            },
            FunctionAsk::Link { url, mode, untouchable, follow } => {
                let answer = match &self.urls {
                    Some(urls) => {
                        let asked = urls.service.analysis(url, (mode.as_deref(), untouchable), until).await;
                        urls.fact("url_service", asked)
                    }
                    None => off,
                };
                match (&answer, &self.redirects) {
                    (Fact::Known(Some(_)), _) | (_, None) => answer,
                    (_, Some(_)) if !follow => answer,
                    (_, Some(redirects)) => {
                        redirects.analysis(url, untouchable, until).await.map_or(answer, |led| Fact::Known(Some(led)))
                    }
                }
            }
            FunctionAsk::Picture { name, bytes } => self.written_in(name, bytes, until).await,
            FunctionAsk::Text { text, subject } => match &self.text {
                Some(service) => {
                    let asked = service.service.nlu(subject.as_deref().unwrap_or_default(), text, until).await;
                    service.fact("text_service", asked)
                }
                None => off,
            },
        };
        // What is written in pictures has bounds of its own.
        if matches!(ask, FunctionAsk::Picture { .. }) {
            return answer;
        }
        let fits = |json: &Json| json.to_string().len() <= self.functions.max_answer_bytes;
        match answer {
            Fact::Known(Some(json)) if !fits(&json) => Fact::Unknown(Why::TooLarge),
            answer => answer,
        }
    }

    /// Pictures of one message that are read; none: nobody reads them.
    pub fn max_pictures(&self) -> usize {
        self.ocr.as_ref().map_or(0, Ocr::max_pictures)
    }

    async fn written_in(&self, name: &str, bytes: &Bytes, until: Instant) -> Fact<Option<Json>> {
        let Some(ocr) = &self.ocr else { return Fact::Unknown(Why::Disabled) };
        let pictures = match content::is_picture(bytes) {
            true => vec![bytes.clone()],
            false => {
                let (name, bytes, most) = (name.to_owned(), bytes.clone(), ocr.max_pictures());
                let open = move || content::pictures_in(&name, bytes, &ContentLimits::default(), most);
                tokio::task::spawn_blocking(open).await.unwrap_or_default()
            }
        };
        let mut pages = Vec::new();
        for picture in pictures {
            match ocr.text(&picture, until).await {
                Fact::Known(Some(text)) => pages.push(text),
                Fact::Known(None) => {}
                Fact::Unknown(why) => return Fact::Unknown(why),
            }
        }
        let results: Vec<Json> = pages.iter().map(|text| json!({"text": text})).collect();
        let text = pages.join("\n");
        Fact::Known(Some(json!({"text": text, "success": !pages.is_empty(), "page_results": results})))
    }
}
