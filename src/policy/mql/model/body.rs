//! Text and links of the message.

use std::any::Any;

use super::{Value, class, url};
use crate::mail::{HtmlContent, Link, Message, PartKind};
use crate::policy::mql::value::{Source, Store};

pub(super) fn body<'m>(message: &'m Message, store: &'m Store) -> Value<'m> {
    store.object(class("Body"), BodySource(message))
}

struct BodySource<'m>(&'m Message);

impl<'m> Source<'m> for BodySource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let message = self.0;
        match field {
            "current_thread" => store.object(class("Thread"), ThreadSource(message)),
            "previous_threads" => Value::Array(&[]),
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
            "links" => url::links(message.links().iter(), store),
            _ => Value::Array(&[]),
        }
    }
}

struct ThreadSource<'m>(&'m Message);

impl<'m> Source<'m> for ThreadSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            "text" => Value::Text(self.0.text()),
            "links" => url::links(self.0.links().iter(), store),
            "banners" => Value::Array(&[]),
            _ => Value::Null,
        }
    }
}

struct PlainSource<'m>(&'m Message);

impl<'m> Source<'m> for PlainSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            "raw" => Value::text_or_null(self.0.plain()),
            "links" => {
                let plain = |link: &&Link| link.kind == crate::mail::LinkKind::Plain;
                url::links(self.0.links().iter().filter(plain), store)
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
            "links" => url::links(self.links.iter(), store),
            _ => Value::Null,
        }
    }

    fn as_any(&self) -> Option<&'m dyn Any> {
        None
    }
}
