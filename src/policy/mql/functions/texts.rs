//! `strings.*` and `hash.*`.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

use super::{NodeId, Run, Value};
use crate::policy::fold;
use crate::policy::mql::model;
use crate::policy::mql::needs::{Capability, Needs};
use crate::policy::mql::value::Store;

/// Levels of JSON that are read.
const MAX_JSON_DEPTH: usize = 64;
/// Shortest run of base64 characters that is taken for a text.
const MIN_BASE64: usize = 8;

pub(super) fn call<'m>(run: &Run<'m>, name: &str, values: &[Value<'m>]) -> Value<'m> {
    let Some(text) = values[0].as_text() else { return Value::Null };
    let store = run.store;
    if !run.spend(text.len() / 16) {
        return Value::Unavailable(Needs::of(Capability::Budget));
    }
    let flag = |place: usize| values[place].truth().0.is_true();
    match name {
        "strings.count" | "strings.icount" => {
            let Some(needle) = values[1].as_text() else { return Value::Null };
            count(text, needle, name.ends_with("icount"))
        }
        "strings.levenshtein" | "strings.ilevenshtein" => {
            let Some(other) = values[1].as_text() else { return Value::Null };
            let most = run.budget.max_distance_chars;
            if text.chars().nth(most).is_some() || other.chars().nth(most).is_some() {
                return Value::Unavailable(Needs::of(Capability::Budget));
            }
            run.spend(text.len() * other.len() / 16);
            let distance = match name {
                "strings.levenshtein" => crate::policy::mql::error::distance(text, other),
                _ => crate::policy::mql::error::distance(&fold::folded(text), &fold::folded(other)),
            };
            Value::Int(i64::try_from(distance).unwrap_or(i64::MAX))
        }
        "strings.replace_confusables" if text.is_ascii() => Value::Text(text),
        "strings.replace_confusables" => Value::Text(store.text(&replace_confusables(text))),
        "strings.parse_domain" => {
            let host = text.trim().trim_end_matches('.');
            let odd = |c: char| c.is_whitespace() || matches!(c, '/' | '@' | ':');
            if host.is_empty() || host.contains(odd) || !host.contains('.') {
                Value::Null
            } else {
                model::domain(host, store)
            }
        }
        "strings.parse_email" => match crate::mail::Address::parse(text) {
            Some(_) => model::email_address(text, store),
            None => Value::Null,
        },
        "strings.parse_url" => {
            let strict = values[1].is_null() || flag(1);
            model::url(text, strict, store)
        }
        "strings.parse_html" => {
            let limit = run.root.view.content.max_links;
            store.object(model::class("Html"), model::HtmlSource::read(text, limit, store))
        }
        "strings.parse_json" => match serde_json::from_str(text) {
            Ok(json) => from_json(store.keep(json), store, 0),
            Err(_) => Value::Null,
        },
        "strings.parse_float" => match text.trim().parse::<f64>() {
            Ok(n) if n.is_finite() => Value::Float(n),
            _ => Value::Null,
        },
        "strings.decode_base64" => {
            let decoded = decode(text.trim(), flag(2), values[3]).and_then(|bytes| as_text(&bytes, values[1]));
            Value::text_or_null(decoded.map(|text| &*store.text(&text)))
        }
        "strings.decode_hex" => {
            let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
            let pair = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
            let bytes: Option<Vec<u8>> = digits.chunks(2).map(|p| if p.len() == 2 { pair(p) } else { None }).collect();
            let decoded = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            Value::text_or_null(decoded.map(|text| &*store.text(&text)))
        }
        "strings.scan_base64" | "beta.scan_base64" => {
            let found = scan_base64(text, flag(2), values[3], values[1]);
            store.texts(found)
        }
        "hash.sha256" => Value::Text(store.text(&model::hex(&Sha256::digest(text)))),
        "hash.sha1" => Value::Text(store.text(&model::hex(&Sha1::digest(text)))),
        "hash.md5" => Value::Text(store.text(&model::hex(&Md5::digest(text)))),
        _ => Value::Null,
    }
}

/// `strings.concat`: null when any part is.
pub(super) fn concat<'m>(run: &Run<'m>, args: &[NodeId]) -> Value<'m> {
    let mut joined = String::new();
    let mut null = false;
    for arg in args {
        match run.eval(*arg) {
            Value::Text(text) => joined.push_str(text),
            Value::Int(n) => joined.push_str(&n.to_string()),
            other => match other.unavailable() {
                Some(needs) => return Value::Unavailable(needs),
                None => null = true,
            },
        }
        if !run.spend(joined.len() / 256) {
            return Value::Unavailable(Needs::of(Capability::Budget));
        }
    }
    if null { Value::Null } else { Value::Text(run.store.text(&joined)) }
}

fn count<'m>(text: &str, needle: &str, folded: bool) -> Value<'m> {
    let (text, needle) = match folded {
        true => (fold::folded(text), fold::folded(needle)),
        false => (text.into(), needle.into()),
    };
    let count = if needle.is_empty() { 0 } else { text.matches(&*needle).count() };
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Look-alikes to the letters they look like: compatibility forms, then prototypes of UTS #39 that are ASCII. What is
/// ASCII stays as it is.
fn replace_confusables(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
            continue;
        }
        let mut one = [0; 4];
        let one = c.encode_utf8(&mut one);
        // Full-width and mathematical letters, accents off.
        let plain: String = one.nfkd().filter(|c| !unicode_normalization::char::is_combining_mark(*c)).collect();
        if !plain.is_empty() && plain.is_ascii() {
            out.push_str(&plain);
            continue;
        }
        let skeleton: String = unicode_security::skeleton(one).collect();
        if !skeleton.is_empty() && skeleton.is_ascii() {
            // A prototype has no case: the letter's own is kept.
            let upper = c.is_uppercase() && skeleton.chars().count() == 1;
            match upper {
                true => out.push_str(&skeleton.to_ascii_uppercase()),
                false => out.push_str(&skeleton),
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn engine(padding: bool, format: Value<'_>) -> GeneralPurpose {
    let alphabet = if format.as_text() == Some("url") { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    let mode = if padding { DecodePaddingMode::Indifferent } else { DecodePaddingMode::RequireCanonical };
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(mode).with_decode_allow_trailing_bits(padding);
    GeneralPurpose::new(alphabet, config)
}

fn decode(text: &str, ignore_padding: bool, format: Value<'_>) -> Option<Vec<u8>> {
    engine(ignore_padding, format).decode(text).ok()
}

/// Text in one of the encodings asked for; printable, or it is none.
fn as_text(bytes: &[u8], encodings: Value<'_>) -> Option<String> {
    let asked = |name: &str| match encodings {
        Value::Array(names) => names.iter().any(|one| one.as_text().is_some_and(|t| t.eq_ignore_ascii_case(name))),
        _ => matches!(name, "ascii" | "utf8"),
    };
    let printable = |text: &str| text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace());
    if asked("utf16-le") && bytes.len() >= 2 && bytes.len().is_multiple_of(2) {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        if let Some(text) = String::from_utf16(&units).ok().filter(|text| printable(text)) {
            return Some(text);
        }
    }
    let text = str::from_utf8(bytes).ok().filter(|text| printable(text))?;
    (asked("utf8") || asked("ascii") && text.is_ascii()).then(|| text.to_owned())
}

/// Texts of all runs of base64 characters; lines that continue one another are joined.
fn scan_base64(text: &str, ignore_padding: bool, format: Value<'_>, encodings: Value<'_>) -> Vec<String> {
    let url = format.as_text() == Some("url");
    let is = |b: u8| b.is_ascii_alphanumeric() || if url { b"-_".contains(&b) } else { b"+/".contains(&b) };
    let bytes = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        if !is(bytes[at]) {
            at += 1;
            continue;
        }
        let mut run = String::new();
        loop {
            let start = at;
            at += bytes[at..].iter().take_while(|b| is(**b)).count();
            run.push_str(&text[start..at]);
            // A folded line: the run goes on after the line break.
            let fold = bytes[at..].iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            if fold == 0 || at - start < 60 || !bytes.get(at + fold).is_some_and(|b| is(*b)) {
                break;
            }
            at += fold;
        }
        let padding = bytes[at..].iter().take(2).take_while(|b| **b == b'=').count();
        at += padding;
        if run.len() < MIN_BASE64 {
            continue;
        }
        run.push_str(&"="[..1].repeat(padding));
        if let Some(text) = decode(&run, ignore_padding, format).and_then(|bytes| as_text(&bytes, encodings)) {
            found.push(text);
        }
        if found.len() >= 1_000 {
            break;
        }
    }
    found
}

pub(super) fn from_json<'m>(json: &'m serde_json::Value, store: &'m Store, depth: usize) -> Value<'m> {
    use serde_json::Value as Json;
    if depth > MAX_JSON_DEPTH {
        return Value::Null;
    }
    match json {
        Json::Null => Value::Null,
        Json::Bool(is) => Value::bool(*is),
        Json::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => Value::Int(n),
            (None, Some(n)) => Value::Float(n),
            _ => Value::Null,
        },
        Json::String(text) => Value::Text(text),
        Json::Array(items) => store.array(items.iter().map(|item| from_json(item, store, depth + 1))),
        Json::Object(map) => {
            store.map(map.iter().map(|(key, value)| (key.as_str(), from_json(value, store, depth + 1))))
        }
    }
}
