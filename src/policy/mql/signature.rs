//! What functions take and give: `name(string, string...; strict=bool) -> bool`, and what they need.
//!
//! `T...` any number, at least one; `T?` may be left out; `file` is anything with bytes. Functions with an expression run for
//! each element (`any`, `map`, …) are of the grammar and stand in `compile`.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::needs::Capability;
use super::schema::{Type, schema};

/// A function's types.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) name: &'static str,
    pub(super) args: Vec<Type>,
    /// Arguments that must be there.
    pub(super) least: usize,
    /// The last argument may be repeated.
    pub(super) many: bool,
    pub(super) named: Vec<(&'static str, Type)>,
    pub(super) result: Type,
    /// What it rests on, and what is asked for it here.
    pub(super) needs: Option<Capability>,
    /// Estimated cost in steps.
    pub(super) cost: u32,
}

/// The function of that name.
pub(super) fn signature(name: &str) -> Option<(u16, &'static Signature)> {
    let all = &*SIGNATURES;
    let index = *all.1.get(name)?;
    Some((u16::try_from(index).unwrap_or(u16::MAX), &all.0[index]))
}

/// The function at that place.
pub(super) fn at(index: u16) -> &'static Signature {
    &SIGNATURES.0[usize::from(index)]
}

/// All names, those of the grammar included.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SIGNATURES.0.iter().map(|s| s.name).chain(GRAMMAR)
}

/// Functions that `compile` knows itself.
pub(super) const GRAMMAR: [&str; 30] = [
    "any",
    "all",
    "filter",
    "map",
    "distinct",
    "ratio",
    "sum",
    "coalesce",
    "ilike",
    "beta.ip_in",
    "html.xpath",
    "strings.contains",
    "strings.icontains",
    "strings.starts_with",
    "strings.istarts_with",
    "strings.ends_with",
    "strings.iends_with",
    "strings.like",
    "strings.ilike",
    "regex.contains",
    "regex.icontains",
    "regex.match",
    "regex.imatch",
    "regex.count",
    "regex.icount",
    "regex.extract",
    "regex.iextract",
    "min",
    "max",
    "length",
];

type Table = (Vec<Signature>, HashMap<&'static str, usize>);

static SIGNATURES: LazyLock<Table> = LazyLock::new(|| {
    let all: Vec<Signature> = FUNCTIONS.iter().map(|(text, needs, cost)| read(text, *needs, *cost)).collect();
    let names = all.iter().enumerate().map(|(index, s)| (s.name, index)).collect();
    (all, names)
});

fn read(text: &'static str, needs: Option<Capability>, cost: u32) -> Signature {
    let (head, result) = text.split_once(" -> ").unwrap_or((text, "any"));
    let (name, args) = head.trim_end_matches(')').split_once('(').unwrap_or((head, ""));
    let (places, named) = args.split_once(';').unwrap_or((args, ""));
    let list = |text: &'static str| text.split(',').map(str::trim).filter(|t| !t.is_empty());
    let kind = |text: &str| match text {
        "file" => Type::Any,
        name => schema().read(name),
    };
    let args: Vec<&str> = list(places).collect();
    let named = list(named).filter_map(|n| n.split_once('=')).map(|(name, t)| (name, kind(t))).collect();
    Signature {
        name,
        least: args.iter().filter(|a| !a.ends_with('?')).count(),
        many: args.last().is_some_and(|a| a.ends_with("...")),
        args: args.iter().map(|a| kind(a.trim_end_matches(['?', '.']))).collect(),
        named,
        result: schema().read(result),
        needs,
        cost,
    }
}

use Capability as C;

const FUNCTIONS: &[(&str, Option<Capability>, u32)] = &[
    ("flatten([any]) -> [any]", None, 5),
    ("keys(any) -> [string]", None, 5),
    ("values(any) -> [any]", None, 5),
    ("strings.concat(string...) -> string", None, 10),
    ("strings.count(string, string) -> int", None, 20),
    ("strings.icount(string, string) -> int", None, 30),
    ("strings.levenshtein(string, string) -> int", None, 50),
    ("strings.ilevenshtein(string, string) -> int", None, 50),
    ("strings.replace_confusables(string) -> string", None, 60),
    ("strings.parse_domain(string) -> Domain", None, 30),
    ("strings.parse_email(string) -> EmailAddress", None, 30),
    ("strings.parse_url(string; strict=bool) -> Url", None, 60),
    ("strings.parse_html(string) -> Html", None, 300),
    ("strings.parse_json(string) -> json", None, 100),
    ("strings.parse_float(string) -> float", None, 10),
    ("strings.decode_base64(string; encodings=[string], ignore_padding=bool, format=string) -> string", None, 60),
    ("strings.decode_hex(string) -> string", None, 40),
    ("strings.scan_base64(string; encodings=[string], ignore_padding=bool, format=string) -> [string]", None, 200),
    ("beta.scan_base64(string; encodings=[string], ignore_padding=bool, format=string) -> [string]", None, 200),
    ("mailweir.unanswered(string) -> bool", None, 10),
    ("hash.sha256(string) -> string", None, 60),
    ("hash.sha1(string) -> string", None, 60),
    ("hash.md5(string) -> string", None, 60),
    ("file.explode(file) -> [ScanRecord]", Some(C::Files), 5_000),
    ("file.expand_archives(file; max_depth=int) -> Archive", Some(C::Files), 2_000),
    ("file.parse_eml(file) -> Message", Some(C::Files), 1_000),
    ("file.parse_html(file) -> Html", Some(C::Files), 1_000),
    ("file.parse_text(file; encodings=[string]) -> ParsedText", Some(C::Files), 500),
    ("file.oletools(file) -> OleTools", Some(C::Files), 3_000),
    ("file.parse_ics(file) -> Ics", Some(C::Files), 500),
    ("beta.file.parse_ics(file) -> Ics", Some(C::Files), 500),
    ("beta.parse_exif(file) -> Exif", Some(C::Files), 1_000),
    ("beta.scan_qr(file) -> QrResult", Some(C::Files), 8_000),
    ("beta.ocr(file) -> Ocr", Some(C::Ocr), 50_000),
    ("file.message_screenshot() -> Attachment", Some(C::Screenshot), 50_000),
    ("beta.message_screenshot() -> Attachment", Some(C::Screenshot), 50_000),
    ("file.html_screenshot(any) -> Attachment", Some(C::Screenshot), 50_000),
    ("ml.logo_detect(file) -> Logos", Some(C::Logo), 50_000),
    ("ml.nlu_classifier(string; subject=string, display_name=string) -> Nlu", Some(C::Nlu), 20_000),
    ("beta.ml_topic(string; subject=string) -> Topics", Some(C::Nlu), 20_000),
    ("ml.macro_classifier(file) -> MacroVerdict", Some(C::Macros), 20_000),
    ("ml.attack_score() -> AttackScore", Some(C::AttackScore), 20_000),
    ("beta.fuzzy_attack_score() -> AttackScore", Some(C::AttackScore), 20_000),
    ("beta.ml_translate(string) -> Translated", Some(C::Translation), 20_000),
    ("beta.ml_extract_sensitive_information(string) -> Sensitive", Some(C::SensitiveData), 20_000),
    ("ml.link_analysis(any; mode=string) -> LinkAnalysis", Some(C::LinkAnalysis), 90_000),
    ("beta.linkanalysis(any; mode=string) -> LinkAnalysis", Some(C::LinkAnalysis), 90_000),
    ("network.whois(any) -> Whois", Some(C::Whois), 30_000),
    ("beta.whois(any) -> Whois", Some(C::Whois), 30_000),
    ("profile.by_sender() -> Profile", Some(C::History), 40),
    ("profile.by_sender_email() -> Profile", Some(C::History), 40),
    ("profile.by_sender_domain() -> Profile", Some(C::History), 40),
    ("profile.by_reply_to() -> Profile", Some(C::History), 40),
    ("beta.profile.by_reply_to() -> Profile", Some(C::History), 40),
];
