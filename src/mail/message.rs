//! The message: bytes taken apart once, then borrowed everywhere (RFC 5322, RFC 2045–2047, RFC 2231).
//!
//! Parsing never fails and never panics; limits met and double meanings become findings. Structure and decoding are
//! done at once, text and links when first asked for. Not here: what attachments hold (`content`).

use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use mail_parser::DateTime;

use super::body::{self, Body};
use super::finding::{Finding, FindingKind};
use super::header::{Field, FieldPlace};
use super::structure::{self, Structure};
use super::{BodyLink, Link, Mailbox, MessageLimits, Part, Threads, body_link, encoded_word, mailbox, threads};

/// A parsed message.
#[derive(Debug)]
pub struct Message {
    raw: Bytes,
    limits: MessageLimits,
    fields: Vec<FieldPlace>,
    parts: Vec<Part>,
    findings: Vec<Finding>,
    asides: Vec<(usize, Range<usize>)>,
    from: Vec<Mailbox>,
    body: OnceLock<Body>,
    body_links: OnceLock<(Vec<BodyLink>, Vec<Option<usize>>)>,
    threads: OnceLock<Threads>,
}

impl Message {
    /// Takes a message apart. Line ends may be CRLF or LF.
    pub fn parse(raw: Bytes, limits: &MessageLimits) -> Self {
        let Structure { fields, drafts, mut findings, asides } = structure::walk(&raw, limits);
        let mut budget = limits.max_decoded_bytes;
        let parts: Vec<Part> = drafts
            .into_iter()
            .enumerate()
            .map(|(index, draft)| draft.finish(&raw, index, &mut budget, &mut findings))
            .collect();
        let top = parts.first().map_or(0..0, |root| root.fields.clone());
        let mut note = |kind| findings.add(kind, 0);
        let from = read_from(&raw, &fields[top.clone()], limits, &mut note);
        note_bytes(&raw, &fields[top], &mut note);
        Self {
            raw,
            limits: limits.clone(),
            fields,
            parts,
            findings: findings.into_vec(),
            asides,
            from,
            body: OnceLock::new(),
            body_links: OnceLock::new(),
            threads: OnceLock::new(),
        }
    }

    /// The bytes as they came.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The message's own header fields, in order.
    pub fn headers(&self) -> impl DoubleEndedIterator<Item = Field<'_>> + Clone {
        self.headers_of(0)
    }

    /// The header fields of a part; part 0 is the message. Empty when there is no such part.
    pub fn headers_of(&self, part: usize) -> impl DoubleEndedIterator<Item = Field<'_>> + Clone {
        let range = self.parts.get(part).map_or(0..0, |p| p.fields.clone());
        self.fields[range].iter().map(|place| Field::new(&self.raw, place))
    }

    /// The first field of that name, without regard to case.
    pub fn header(&self, name: &str) -> Option<Field<'_>> {
        self.headers().find(|field| field.is(name))
    }

    /// All fields of that name, in order.
    pub fn headers_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Field<'a>> {
        self.headers().filter(move |field| field.is(name))
    }

    /// All mailboxes of all `From` fields.
    pub fn from(&self) -> &[Mailbox] {
        &self.from
    }

    /// All mailboxes of all `Reply-To` fields.
    pub fn reply_to(&self) -> Vec<Mailbox> {
        self.mailboxes("Reply-To")
    }

    /// All mailboxes of all `To` fields.
    pub fn to(&self) -> Vec<Mailbox> {
        self.mailboxes("To")
    }

    /// All mailboxes of all `Cc` fields.
    pub fn cc(&self) -> Vec<Mailbox> {
        self.mailboxes("Cc")
    }

    /// All mailboxes of all fields of that name.
    pub fn mailboxes(&self, name: &str) -> Vec<Mailbox> {
        self.headers_named(name).flat_map(|field| mailbox::parse(field.raw, self.limits.max_mailboxes).0).collect()
    }

    /// The first `Subject`, decoded; empty when there is none.
    pub fn subject(&self) -> String {
        self.header("Subject").map(|field| field.text()).unwrap_or_default()
    }

    /// `Message-ID` without brackets.
    pub fn message_id(&self) -> Option<String> {
        let text = self.header("Message-ID")?.unfolded().trim_matches(['<', '>', ' ']).to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// `Date` in seconds since 1970, UTC.
    pub fn date(&self) -> Option<i64> {
        let text = self.header("Date")?.unfolded().into_owned();
        // The parser goes by a whole line and is slow on rubbish.
        DateTime::parse_rfc822(text.get(..100).unwrap_or(&text)).filter(DateTime::is_valid).map(|d| d.to_timestamp())
    }

    /// The `Received` fields, newest first.
    pub fn received(&self) -> impl DoubleEndedIterator<Item = Field<'_>> + Clone {
        self.headers().filter(|field| field.is("Received"))
    }

    /// Whether it answers another message: `In-Reply-To` or `References` hold an id.
    pub fn is_reply(&self) -> bool {
        ["In-Reply-To", "References"].iter().any(|name| self.header(name).is_some_and(|f| f.raw.contains(&b'@')))
    }

    /// All parts, containers before what they hold; part 0 is the message itself.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Parts that a reader offers as files, with their indexes.
    pub fn attachments(&self) -> impl Iterator<Item = (usize, &Part)> {
        self.parts.iter().enumerate().filter(|(_, part)| part.is_attachment())
    }

    /// Text and links of all bodies; read when first asked for.
    pub fn body(&self) -> &Body {
        self.body.get_or_init(|| body::read(&self.raw, &self.parts, &self.asides, &self.limits))
    }

    /// What a person sees: the text of the HTML bodies, or of the plain ones when there is no HTML.
    pub fn text(&self) -> &str {
        &self.body().visible
    }

    /// Source of the first HTML body.
    pub fn html(&self) -> Option<&str> {
        self.first_body("text/html")
    }

    /// The first plain body.
    pub fn plain(&self) -> Option<&str> {
        self.first_body("text/plain")
    }

    /// Links of all bodies, in order.
    pub fn links(&self) -> &[Link] {
        &self.body().links
    }

    /// Links of all bodies that a person can follow, unique by target and shown text; read when first asked for.
    pub fn body_links(&self) -> &[BodyLink] {
        &self.link_table().0
    }

    fn link_table(&self) -> &(Vec<BodyLink>, Vec<Option<usize>>) {
        self.body_links.get_or_init(|| {
            let body = self.body();
            let mut pictures = vec![false; body.links.len()];
            for place in body.html.iter().flat_map(|(_, content)| &content.places) {
                pictures[place.link] = !place.words;
            }
            body_link::read(&body.links, |link| !pictures[link])
        })
    }

    /// The newest part of the conversation and what it quotes; read when first asked for.
    pub fn threads(&self) -> &Threads {
        self.threads.get_or_init(|| threads::read(self.body(), &self.link_table().1))
    }

    /// What was odd, each kind once a part.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().chain(&self.body().findings)
    }

    /// Whether something was odd in this way, anywhere in the message.
    pub fn has_finding(&self, kind: FindingKind) -> bool {
        self.findings().any(|finding| finding.kind == kind)
    }

    /// Reads everything there is to read, for fuzzing: nothing may panic, every range lies within the bytes.
    pub fn read_all(&self) {
        for part in self.parts() {
            let range = part.body_range();
            assert!(range.start <= range.end && range.end <= self.raw.len(), "{range:?} of {}", self.raw.len());
            part.text();
            part.sha256();
        }
        self.headers().for_each(|field| drop(field.text()));
        self.links().iter().for_each(|link| drop(link.shown_host()));
        self.date();
        self.message_id();
        for name in ["To", "Cc", "Reply-To", "Sender"] {
            self.mailboxes(name);
        }
        self.findings().count();
    }

    /// The limits it was parsed under.
    pub fn limits(&self) -> &MessageLimits {
        &self.limits
    }

    fn first_body(&self, kind: &str) -> Option<&str> {
        self.parts.iter().find(|part| part.is_body() && part.content_type.value == kind).map(Part::text)
    }
}

/// All mailboxes of all `From` fields, and what is odd about them.
fn read_from(
    raw: &[u8],
    fields: &[FieldPlace],
    limits: &MessageLimits,
    note: &mut impl FnMut(FindingKind),
) -> Vec<Mailbox> {
    let mut all = Vec::new();
    let mut count = 0;
    for field in fields.iter().map(|place| Field::new(raw, place)).filter(|field| field.is("From")) {
        count += 1;
        let (mut found, odd) = mailbox::parse(field.raw, limits.max_mailboxes.saturating_sub(all.len()));
        let several = found.iter().filter(|m| m.address.is_some()).count() > 1;
        for (is, kind) in [
            (several, FindingKind::SeveralFromMailboxes),
            (odd.group, FindingKind::FromGroup),
            (odd.encoded_address, FindingKind::EncodedAddress),
            (odd.too_many, FindingKind::TooManyMailboxes),
            (found.iter().all(|m| m.address.is_none()), FindingKind::FromWithoutAddress),
        ] {
            if is {
                note(kind);
            }
        }
        all.append(&mut found);
    }
    match count {
        0 => note(FindingKind::NoFrom),
        1 => {}
        _ => note(FindingKind::SeveralFrom),
    }
    all
}

fn note_bytes(raw: &[u8], fields: &[FieldPlace], note: &mut impl FnMut(FindingKind)) {
    if memchr::memchr(0, raw).is_some() {
        note(FindingKind::NulByte);
    }
    if memchr::memchr_iter(b'\r', raw).any(|at| raw.get(at + 1).is_some_and(|next| *next != b'\n')) {
        note(FindingKind::BareCr);
    }
    let mut once = [("Subject", 0), ("To", 0), ("Date", 0), ("Message-ID", 0), ("Reply-To", 0), ("Sender", 0)];
    for field in fields.iter().map(|place| Field::new(raw, place)) {
        if !field.raw.is_ascii() && str::from_utf8(field.raw).is_err() {
            note(FindingKind::EightBitHeader);
        }
        if field.is("Subject") && encoded_word::decode_text(field.raw).1 {
            note(FindingKind::BrokenEncodedWord);
        }
        if let Some((_, count)) = once.iter_mut().find(|(name, _)| field.is(name)) {
            *count += 1;
        }
    }
    if once.iter().any(|(_, count)| *count > 1) {
        note(FindingKind::RepeatedField);
    }
}
