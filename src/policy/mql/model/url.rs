//! URLs in parts, and links as the model has them.

use super::{Value, class, name};
use crate::mail::{BodyLink, Link, Unwrapped, UrlHost, UrlParts, unwrap_url};
use crate::policy::mql::value::{Source, Store};

/// A URL, known rewriters taken off; null when the text is none.
pub(in crate::policy::mql) fn url<'m>(text: &str, strict: bool, store: &'m Store) -> Value<'m> {
    match UrlParts::parse(text, strict) {
        Some(parts) => store.object(class("Url"), UrlSource(store.keep(unwrap_url(parts)))),
        None => Value::Null,
    }
}

struct UrlSource<'m>(&'m Unwrapped);

impl<'m> Source<'m> for UrlSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let parts = &self.0.target;
        match field {
            "url" => Value::Text(&parts.url),
            "scheme" => Value::text_or_null(parts.scheme()),
            "domain" => parts.domain().map_or(Value::Null, |host| name::domain(host, store)),
            "ip" => match &parts.host {
                Some(UrlHost::Ip(ip, encoder)) => name::ip(*ip, encoder.map(|e| (parts.url.as_str(), e)), store),
                _ => Value::Null,
            },
            "port" => Value::int_or_null(parts.port.map(i64::from)),
            "path" => Value::text_or_null(parts.path()),
            "query_params" => Value::text_or_null(parts.query()),
            "query_params_decoded" => {
                let decoded = store.keep(parts.query_decoded());
                store.map(decoded.iter().map(|(key, values)| (key.as_str(), store.texts(values))))
            }
            "fragment" => Value::text_or_null(parts.fragment()),
            "username" => Value::text_or_null(parts.username()),
            "password" => Value::text_or_null(parts.password()),
            _ => store.object(class("Rewrite"), RewriteSource(self.0)),
        }
    }
}

struct RewriteSource<'m>(&'m Unwrapped);

impl<'m> Source<'m> for RewriteSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        match field {
            "encoders" => store.texts(&self.0.encoders),
            _ => Value::text_or_null(self.0.original.as_deref()),
        }
    }
}

/// Links as objects.
pub(super) fn body_links<'m>(links: impl Iterator<Item = &'m BodyLink>, store: &'m Store) -> Value<'m> {
    store.array(links.map(|link| store.object(class("Link"), LinkSource(link))))
}

/// Links of a page that is not a body.
pub(in crate::policy::mql) fn links<'m>(links: &[Link], store: &'m Store) -> Value<'m> {
    body_links(store.keep(BodyLink::all(links)).iter(), store)
}

struct LinkSource<'m>(&'m BodyLink);

impl<'m> Source<'m> for LinkSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let link = self.0;
        match field {
            "href_url" => store.object(class("Url"), UrlSource(&link.href)),
            "display_text" => Value::text_or_null(link.display_text.as_deref()),
            "display_url" => match &link.display_url {
                Some(url) => {
                    let plain = Unwrapped { target: url.clone(), encoders: Vec::new(), original: None };
                    store.object(class("Url"), UrlSource(store.keep(plain)))
                }
                None => Value::Null,
            },
            "mismatched" => Value::bool_or_null(link.mismatched()),
            "parser" => Value::Text(if link.hyperlink { "hyperlink" } else { "plain" }),
            _ => Value::bool(link.visible),
        }
    }
}
