//! What settings hold that nobody may read in a log, on a screen or in an answer: the one place that knows.
//!
//! Secrets of their own are in files (`*_file`), whose names may be shown. What is left are addresses: user and password, values of
//! the query, the fragment, and of webhooks the path as well. That is so for every setting, whatever its name: a new one is covered.
//! What is not an address is shown as it is. Not here: who keeps the files closed.

use std::collections::BTreeMap;

use serde::Serialize;
use toml::Value;

use super::config::Config;

/// What stands for a secret.
const HIDDEN: &str = "***";
/// Settings whose path is a secret too.
const HOOKS: [&str; 2] = ["alerts.webhook.url", "actions.webhook.url"];
/// Parameters of an address that everybody may read.
const OPEN: [&str; 3] = ["mode", "sslmode", "protocol"];
/// Where an address ends in a text.
const ENDS: [char; 5] = ['"', '\'', '`', '<', '>'];

/// Every setting by its full name, with its value as TOML, fit to be shown. Settings that are not set have no row.
pub(super) fn shown(config: &impl Serialize) -> BTreeMap<String, String> {
    flat(config).into_iter().map(|(name, value)| (name.clone(), covered(&name, value).to_string())).collect()
}

/// All settings, fit to be shown.
pub(super) fn whole(config: &Config) -> Result<Value, toml::ser::Error> {
    fn walk(name: &str, value: Value) -> Value {
        match value {
            Value::Table(table) => {
                let below = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
                Value::Table(table.into_iter().map(|(key, value)| (key.clone(), walk(&below(&key), value))).collect())
            }
            other => covered(name, other),
        }
    }
    Ok(walk("", Value::try_from(config)?))
}

/// Names of all settings whose values differ, as `section.key: old → new`, fit to be shown.
pub(super) fn changes(old: &Config, new: &Config) -> Vec<String> {
    let (old, new) = (flat(old), flat(new));
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let told = |name: &str, value: Option<&Value>| {
        value.map_or_else(|| "(none)".to_owned(), |value| covered(name, value.clone()).to_string())
    };
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| match (told(name, old.get(name)), told(name, new.get(name))) {
            (was, is) if was == is => format!("{name}: {is} (what is hidden has changed)"),
            (was, is) => format!("{name}: {was} → {is}"),
        })
        .collect()
}

/// A text that may quote settings: what is wrong with a configuration.
pub(super) fn told(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let from =
            rest[..at].rfind(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).map_or(0, |end| end + 1);
        // A blank within an address is a mistake, and then not its end: rather too much is hidden.
        // Passwords may have any quote in them but the one around the address.
        let opened = rest[..from].chars().next_back().filter(|c| ENDS.contains(c));
        let closes = opened.map(|c| if c == '<' { '>' } else { c });
        let end = rest[at..].find(|c: char| c == '\n' || Some(c) == closes).map_or(rest.len(), |end| at + end);
        told.push_str(&rest[..from]);
        told.push_str(&hidden(&rest[from..end], true));
        rest = &rest[end..];
    }
    told + rest
}

fn flat(config: &impl Serialize) -> BTreeMap<String, Value> {
    fn walk(prefix: &str, value: Value, into: &mut BTreeMap<String, Value>) {
        match value {
            Value::Table(table) if !table.is_empty() => {
                for (key, value) in table {
                    let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                    walk(&name, value, into);
                }
            }
            other => drop(into.insert(prefix.to_owned(), other)),
        }
    }
    let mut into = BTreeMap::new();
    if let Ok(value) = Value::try_from(config) {
        walk("", value, &mut into);
    }
    into
}

/// A value without what is secret in it.
fn covered(name: &str, value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(hidden(&text, HOOKS.contains(&name))),
        Value::Array(values) => Value::Array(values.into_iter().map(|value| covered(name, value)).collect()),
        Value::Table(table) => {
            Value::Table(table.into_iter().map(|(key, value)| (key, covered(name, value))).collect())
        }
        plain => plain,
    }
}

/// An address without user, password, values of the query and fragment; other texts as they are.
fn hidden(text: &str, hook: bool) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    // Whatever a password is made of, it is before the last @.
    let (mut shown, rest) = match rest.rsplit_once('@') {
        Some((who, rest)) => {
            let user = who.split_once(':').map_or(HIDDEN, |(user, _)| user);
            (format!("{scheme}://{user}:{HIDDEN}@"), rest)
        }
        None => (format!("{scheme}://"), rest),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    match place.split_once('/') {
        Some((host, path)) if hook && !path.is_empty() => shown.push_str(&format!("{host}/{HIDDEN}")),
        _ => shown.push_str(place),
    }
    for (place, parameter) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        shown.push(if place == 0 { '?' } else { '&' });
        match parameter.split_once('=') {
            Some((name, _)) if !OPEN.contains(&name) => shown.push_str(&format!("{name}={HIDDEN}")),
            Some(_) => shown.push_str(parameter),
            None => shown.push_str(HIDDEN),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: &str = "hunter2";

    #[test]
    fn addresses_are_shown_without_their_secrets() {
        for (text, hook, expected) in [
            (
                "postgres://weir:h/u?n#t@er@db/mail?sslmode=require",
                false,
                "postgres://weir:***@db/mail?sslmode=require",
            ),
            ("redis://:hunter2@a:1/0", false, "redis://:***@a:1/0"),
            ("https://hunter2@a.example/", false, "https://***:***@a.example/"),
            ("redis-sentinel://u:hunter2@a:1,b:2/m/0", false, "redis-sentinel://u:***@a:1,b:2/m/0"),
            ("http://a.example/x?key=hunter2&hunter2#hunter2", false, "http://a.example/x?key=***&***"),
            ("https://a.example/services/hunter2", true, "https://a.example/***"),
            ("https://a.example/", true, "https://a.example/"),
            ("sqlite:///var/lib/x.db?mode=rwc", false, "sqlite:///var/lib/x.db?mode=rwc"),
            ("inet:127.0.0.1:25", false, "inet:127.0.0.1:25"),
        ] {
            assert_eq!(hidden(text, hook), expected);
        }
        let error = "mailweir.toml:3:1: expected `x`\n    url = \"redis://u:hunter2@a\" # see https://k:hunter2@b/hunter2\n    ^";
        let told = told(error);
        assert!(
            !told.contains(MARKER) && told.contains("url = \"redis://u:***@a\"") && told.ends_with("\n    ^"),
            "{told}"
        );
    }

    /// Every setting that takes a text, filled with an address full of the marker: none is shown, changed or not.
    #[test]
    fn no_setting_shows_the_marker() {
        let reference = include_str!("../../conf/mailweir.toml");
        let mut names = flat(&Config::default()).into_keys().collect::<std::collections::BTreeSet<_>>();
        // Those without a default are in the reference as examples.
        let mut section = String::new();
        for line in reference.lines().map(|line| line.trim_start_matches(['#', ' '])) {
            match (line.strip_prefix('['), line.split_once(" = ")) {
                (Some(header), _) => section = header.trim_matches(['[', ']', ' ']).to_owned(),
                (None, Some((key, _))) if !key.contains(' ') => drop(names.insert(format!("{section}.{key}"))),
                _ => {}
            }
        }
        let mut filled = 0;
        for name in &names {
            for (marked, more) in [
                (format!("https://u:{MARKER}@a.example:1/x?k={MARKER}#{MARKER}"), "z"),
                (format!("redis://:{MARKER}@127.0.0.1:1/0"), "z"),
            ] {
                let with = |value: &str| {
                    let variable =
                        format!("{}{}", super::super::config::PREFIX, name.replace('.', "__").to_uppercase());
                    super::super::config::load(None, None, [(variable, value.to_owned())].into_iter())
                };
                let (Ok(one), Ok(two)) = (with(&marked), with(&marked.replace(MARKER, &format!("{MARKER}{more}"))))
                else {
                    continue;
                };
                filled += 1;
                let told = [
                    format!("{:?}", shown(&one.config)),
                    whole(&one.config).unwrap().to_string(),
                    format!("{:?}", changes(&one.config, &two.config)),
                    format!("{:?}", changes(&Config::default(), &one.config)),
                ];
                assert!(told.iter().all(|told| !told.contains(MARKER)), "{name}: {told:?}");
                assert_eq!(changes(&one.config, &two.config).len(), 1, "{name}: that it changed is told");
            }
        }
        assert!(filled > 60, "only {filled}");
        for hook in HOOKS {
            assert!(names.contains(hook), "{hook} is no setting");
        }
    }
}
