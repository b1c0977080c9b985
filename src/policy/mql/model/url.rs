//! URLs in parts, and links as the model has them.

use super::{Value, class, name};
use crate::mail::{Link, LinkKind, Unwrapped, UrlHost, UrlParts, unwrap_url};
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

/// Links that a person follows, each target with each text once.
pub(super) fn links<'m>(links: impl Iterator<Item = &'m Link>, store: &'m Store) -> Value<'m> {
    let mut seen = std::collections::HashSet::new();
    let kinds = |link: &&Link| matches!(link.kind, LinkKind::Anchor | LinkKind::Area | LinkKind::Plain | LinkKind::Form);
    store.array(
        links
            .filter(kinds)
            .filter(|link| seen.insert((link.text.as_str(), link.shown.as_str())))
            .map(|link| store.object(class("Link"), LinkSource(link))),
    )
}

struct LinkSource<'m>(&'m Link);

impl LinkSource<'_> {
    /// The text as a URL, when it is one as a whole.
    fn shown_url(&self) -> Option<UrlParts> {
        let shown = self.0.shown.trim();
        let plain = self.0.kind == LinkKind::Plain;
        (!shown.is_empty() && (plain || self.0.shown_host().is_some()))
            .then(|| UrlParts::parse(shown, false))
            .flatten()
    }
}

impl<'m> Source<'m> for LinkSource<'m> {
    fn field(&self, field: &'static str, store: &'m Store) -> Value<'m> {
        let link = self.0;
        match field {
            "href_url" => url(&link.text, false, store),
            "display_text" => match self.shown_url() {
                None if !link.shown.is_empty() => Value::Text(&link.shown),
                _ => Value::Null,
            },
            "display_url" => match self.shown_url() {
                Some(_) => url(link.shown.trim(), false, store),
                None => Value::Null,
            },
            "mismatched" => {
                let root = |value: Value<'m>| {
                    let domain = value.as_object()?.named("domain", store).as_object()?;
                    let valid = domain.named("valid", store).truth().0.is_true();
                    if valid { domain.named("root_domain", store).as_text() } else { None }
                };
                match (root(url(&link.text, false, store)), self.shown_url()) {
                    (Some(target), Some(_)) => match root(url(link.shown.trim(), false, store)) {
                        Some(shown) => Value::bool(shown != target),
                        None => Value::Null,
                    },
                    _ => Value::Null,
                }
            }
            "parser" => Value::Text(if link.kind == LinkKind::Plain { "plain" } else { "hyperlink" }),
            _ => Value::bool(link.visible),
        }
    }
}
