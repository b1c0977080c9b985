//! Text and links of the message.

use super::{Value, class, name, subject, url};
use crate::mail::{Banner, BodyLink, HtmlContent, Link, Message, PartKind, Thread};
use crate::policy::mql::value::{Source, Store};

pub(super) fn body<'m>(message: &'m Message, store: &'m Store) -> Value<'m> {
    store.object(class("Body"), BodySource(message))
}

struct BodySource<'m>(&'m Message);

impl<'m> Source<'m> for BodySource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let message = self.0;
        let thread = |thread: &'m Thread, index: usize| ThreadSource { message, thread, index };
        match field {
            "current_thread" => store.object(class("Thread"), thread(&message.threads().current, 0)),
            "previous_threads" => {
                let previous = message.threads().previous.iter().enumerate();
                store.array(previous.map(|(i, one)| store.object(class("PreviousThread"), thread(one, i))))
            }
            "html" => match message.parts().iter().find(|part| part.is_body() && part.kind == PartKind::Html) {
                Some(part) => {
                    let content = message.body().html.first().map(|(_, content)| content);
                    let links = message.links();
                    store.object(class("Html"), HtmlSource { raw: part.text(), content, links })
                }
                None => Value::Null,
            },
            "plain" => match message.plain() {
                Some(_) => store.object(class("Plain"), PlainSource(message)),
                None => Value::Null,
            },
            "links" => url::body_links(message.body_links().iter(), store),
            _ => Value::Array(&[]),
        }
    }
}

/// Links of a message by their places.
fn placed<'m>(message: &'m Message, places: &'m [usize], store: &'m Store) -> Value<'m> {
    url::body_links(places.iter().filter_map(|place| message.body_links().get(*place)), store)
}

struct ThreadSource<'m> {
    message: &'m Message,
    thread: &'m Thread,
    index: usize,
}

impl<'m> Source<'m> for ThreadSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let (message, thread) = (self.message, self.thread);
        match field {
            "text" => Value::Text(&thread.text),
            "preamble" if thread.preamble.is_empty() => Value::Null,
            "preamble" => Value::Text(&thread.preamble),
            "links" => placed(message, &thread.links, store),
            "banners" => store.array(
                thread.banners.iter().map(|banner| store.object(class("Banner"), BannerSource { message, banner })),
            ),
            "sender" => match &thread.header.sender {
                Some(sender) => name::mailbox(sender, store),
                None => Value::Null,
            },
            "recipients" => store.object(class("Recipients"), QuotedRecipients(thread)),
            "subject" => subject(thread.header.subject.clone(), store),
            "date" => super::headers::time(thread.header.date, store),
            _ => Value::Int(i64::try_from(self.index).unwrap_or(i64::MAX)),
        }
    }
}

struct QuotedRecipients<'m>(&'m Thread);

impl<'m> Source<'m> for QuotedRecipients<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let header = &self.0.header;
        let named = match field {
            "to" => &header.to,
            "cc" => &header.cc,
            _ => &header.bcc,
        };
        store.array(named.iter().map(|mailbox| name::mailbox(mailbox, store)))
    }
}

struct BannerSource<'m> {
    message: &'m Message,
    banner: &'m Banner,
}

impl<'m> Source<'m> for BannerSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            "text" => Value::Text(&self.banner.text),
            _ => placed(self.message, &self.banner.links, store),
        }
    }
}

struct PlainSource<'m>(&'m Message);

impl<'m> Source<'m> for PlainSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            "raw" => Value::text_or_null(self.0.plain()),
            "links" => {
                let plain = |link: &&BodyLink| !link.hyperlink;
                url::body_links(self.0.body_links().iter().filter(plain), store)
            }
            _ => Value::Null,
        }
    }
}

/// HTML: of the message, of a file, of a text.
#[derive(Clone, Copy)]
pub(in crate::policy::mql) struct HtmlSource<'m> {
    pub(in crate::policy::mql) raw: &'m str,
    pub(in crate::policy::mql) content: Option<&'m HtmlContent>,
    pub(in crate::policy::mql) links: &'m [Link],
}

impl<'m> HtmlSource<'m> {
    /// Reads HTML that is not a body.
    pub(in crate::policy::mql) fn read(raw: &'m str, max_links: usize, store: &'m Store) -> Self {
        let read = store.keep(HtmlContent::read(raw, max_links));
        Self { raw, content: Some(&read.0), links: &read.1 }
    }
}

impl<'m> Source<'m> for HtmlSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            "raw" => Value::Text(self.raw),
            "display_text" => Value::text_or_null(self.content.map(|content| content.visible.as_str())),
            "inner_text" => match self.content {
                // Hidden text included, after what is seen.
                Some(content) if content.hidden.is_empty() => Value::Text(&content.visible),
                Some(content) => Value::Text(store.text(&format!("{}\n{}", content.visible, content.hidden))),
                None => Value::Null,
            },
            "links" => url::links(self.links, store),
            _ => Value::Null,
        }
    }
}
