//! The conversation in a message: what its sender wrote now, and what is quoted below (or above, or between).
//!
//! Works on the visible text, one line a block. A quoted message begins at a known preamble (`quotation.rs`), where the
//! depth of quotation grows (`>`, or what mail programs enclose quotes with), or at a mark that a program left. Text
//! that comes back to a lower depth belongs to the message it interrupts, so answers between the quoted lines, and
//! below, are part of the newest one. A message that is nothing but a forward or quote counts as the newest itself, with
//! its preamble: what a person is shown first must not be out of the rules' sight. Linear. Not here: any judgement.

use super::body::Body;
use super::body_link;
use super::quotation::{self, QuotedHeader};

/// Quoted messages told apart; what follows belongs to the last.
const MAX_THREADS: usize = 200;
const MAX_BANNERS: usize = 8;
const MAX_BANNER_BYTES: usize = 700;

/// The conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Threads {
    /// The newest part, banners removed.
    pub current: Thread,
    /// Quoted messages in the order in which they stand.
    pub previous: Vec<Thread>,
}

/// One part of the conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Thread {
    /// Its text, trimmed, a line a block.
    pub text: String,
    /// The lines before it that say who wrote it; empty when there are none.
    pub preamble: String,
    /// What those lines say.
    pub header: QuotedHeader,
    /// Its links, as places in `Message::body_links`, each once.
    pub links: Vec<usize>,
    /// Warnings that some gateway put in (newest part only).
    pub banners: Vec<Banner>,
}

/// A warning put into a message on its way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Banner {
    /// Its text.
    pub text: String,
    /// Its links, as places in `Message::body_links`.
    pub links: Vec<usize>,
}

#[derive(Default)]
struct Segment {
    depth: usize,
    /// Lines of the preamble and of the text.
    preamble: Vec<usize>,
    header: QuotedHeader,
    lines: Vec<usize>,
    has_text: bool,
}

struct Line<'t> {
    start: usize,
    end: usize,
    text: &'t str,
    depth: usize,
    /// Whether a mail program marked the begin of a quoted message here.
    marked: bool,
}

/// Reads the conversation; `links` gives the place of each link of the message among those a person can follow.
pub(super) fn read(body: &Body, links: &[Option<usize>]) -> Threads {
    let html = !body.visible.trim().is_empty() && !body.html.is_empty();
    let (text, mut places) = if html { (&body.visible, visible_places(body)) } else { (&body.plain, Vec::new()) };
    if !html {
        places.extend(body.plain_places.iter().map(|place| (place.at, place.link)));
    }
    let mut places: Vec<(usize, usize)> =
        places.into_iter().filter_map(|(at, link)| Some((at, (*links.get(link)?)?))).collect();
    places.sort_by_key(|(at, _)| *at);
    let lines = if html { html_lines(body) } else { plain_lines(text) };
    let segments = split(&lines);
    finish(segments, &lines, &places)
}

/// Where the links of the HTML bodies stand in `visible`.
fn visible_places(body: &Body) -> Vec<(usize, usize)> {
    let mut out: Vec<_> = body.visible_places.iter().map(|place| (place.at, place.link)).collect();
    for (place, (_, content)) in body.html.iter().enumerate() {
        let base = body.visible_base(place);
        out.extend(content.places.iter().map(|link| (base + link.at, link.link)));
    }
    out
}

/// Lines with their places; `signs`: whether `>` means quotation, which in HTML is an ornament of buttons.
fn raw_lines(text: &str, base: usize, signs: bool) -> impl Iterator<Item = Line<'_>> {
    let mut start = 0;
    text.split_inclusive('\n').map(move |line| {
        let (from, to) = (start, start + line.len());
        start = to;
        let line = line.trim();
        let ornament = !signs || line.ends_with('<');
        let (inner, depth) = if ornament { (line, 0) } else { unquote(line) };
        Line { start: base + from, end: base + to, text: inner, depth, marked: false }
    })
}

fn plain_lines(text: &str) -> Vec<Line<'_>> {
    raw_lines(text, 0, true).collect()
}

fn html_lines(body: &Body) -> Vec<Line<'_>> {
    let mut out = Vec::new();
    for (place, (_, content)) in body.html.iter().enumerate() {
        let base = body.visible_base(place);
        let (mut quotes, mut depth) = (content.quotes.iter().peekable(), 0);
        let mut marks = content.replies.iter().peekable();
        for mut line in raw_lines(&content.visible, base, false) {
            // A change inside of the line counts from the next one on, unless the line begins with it.
            while let Some((_, new)) = quotes.next_if(|(at, _)| base + at <= line.start + 1) {
                depth = usize::from(*new);
            }
            while marks.next_if(|at| base + **at < line.end).is_some() {
                line.marked = true;
            }
            line.depth += depth;
            out.push(line);
        }
    }
    out
}

/// Takes the quotation signs off a line and counts them.
fn unquote(line: &str) -> (&str, usize) {
    let (mut rest, mut depth) = (line, 0);
    while let Some(inner) = rest.strip_prefix('>') {
        rest = inner.trim_start();
        depth += 1;
    }
    (rest, depth)
}

fn split(lines: &[Line<'_>]) -> Vec<Segment> {
    let texts: Vec<&str> = lines.iter().map(|line| line.text).collect();
    let mut segments = vec![Segment::default()];
    let mut open = vec![0];
    let mut at = 0;
    while at < lines.len() {
        let line = &lines[at];
        let mut top = open.last().copied().unwrap_or(0);
        if line.text.is_empty() {
            segments[top].lines.push(at);
            at += 1;
            continue;
        }
        while open.len() > 1 && segments[top].depth > line.depth {
            open.pop();
            top = open.last().copied().unwrap_or(0);
        }
        let found = quotation::preamble(&texts[at..]);
        let deeper = line.depth > segments[top].depth;
        if (found.is_some() || deeper || line.marked) && segments.len() < MAX_THREADS {
            // What has a preamble and no text yet is what this belongs to.
            if top == 0 || segments[top].has_text {
                segments.push(Segment::default());
                top = segments.len() - 1;
                open.push(top);
            }
            segments[top].depth = line.depth;
        }
        let segment = &mut segments[top];
        match found {
            Some(preamble) if top > 0 => {
                segment.preamble.extend(at..at + preamble.lines);
                merge(&mut segment.header, preamble.header);
                at += preamble.lines;
            }
            _ => {
                segment.lines.push(at);
                segment.has_text = true;
                at += 1;
            }
        }
    }
    segments
}

fn merge(known: &mut QuotedHeader, new: QuotedHeader) {
    let date = new.date.or(known.date);
    if new.subject.is_some() || !new.to.is_empty() || known.sender.is_none() {
        *known = new;
    }
    known.date = date;
}

fn finish(mut segments: Vec<Segment>, lines: &[Line<'_>], places: &[(usize, usize)]) -> Threads {
    let mut banners = banners(&mut segments[0], lines);
    if !has_text(&segments[0], lines) && segments.len() > 1 {
        segments.remove(0);
        banners.extend(self::banners(&mut segments[0], lines));
    }
    let links = |of: &[usize]| {
        let of_line = |line: &usize| {
            let Line { start, end, .. } = lines[*line];
            let first = places.partition_point(|(at, _)| *at < start);
            places[first..].iter().take_while(move |(at, _)| *at < end).map(|(_, link)| *link)
        };
        body_link::unique(of.iter().flat_map(of_line))
    };
    let mut threads = segments.into_iter().map(|segment| Thread {
        text: joined(&segment.lines, lines),
        preamble: joined(&segment.preamble, lines),
        links: links(&segment.lines),
        header: segment.header,
        banners: Vec::new(),
    });
    let mut current = threads.next().unwrap_or_default();
    let previous = threads.collect();
    // Links at the very end of the text, after its last line end.
    let end = lines.last().map_or(0, |line| line.end);
    if places.last().is_some_and(|(at, _)| *at >= end) {
        let rest = places.iter().filter(|(at, _)| *at >= end).map(|(_, link)| *link);
        current.links = body_link::unique(current.links.into_iter().chain(rest));
    }
    current.banners = banners.into_iter().map(|of| Banner { text: joined(&of, lines), links: links(&of) }).collect();
    Threads { current, previous }
}

fn has_text(segment: &Segment, lines: &[Line<'_>]) -> bool {
    segment.lines.iter().any(|line| !lines[*line].text.is_empty())
}

/// The lines with a line end between them, empty ones in a row as one.
fn joined(of: &[usize], lines: &[Line<'_>]) -> String {
    let mut out = String::with_capacity(of.iter().map(|line| lines[*line].text.len() + 1).sum());
    for line in of {
        let text = lines[*line].text;
        if !text.is_empty() || !(out.is_empty() || out.ends_with("\n\n")) {
            out.push_str(text);
            out.push('\n');
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// How a warning begins.
const WARNINGS: &[&str] = &[
    "caution",
    "warning",
    "external",
    "attention",
    "notice",
    "alert",
    "be careful",
    "beware",
    "achtung",
    "vorsicht",
    "externe",
    "security notice",
    "this email",
    "this message",
    "you don't often",
    "you do not often",
    "some people who received",
    "sent from outside",
    "email from external",
];
/// What only a warning says.
#[rustfmt::skip]
const SAYS: &[&str] = &["originated from outside", "originates from outside", "came from outside", "sent from outside",
    "from an external s", "from an external e", "external email", "external sender", "external message", "outside of your organi",
    "outside of the organi", "outside your organi", "outside the organi", "outside our organi", "outside of our organi",
    "outside the company", "do not click links or open attachments", "do not click on links or open attachments",
    "don't often get email from", "do not often get email from", "don't often receive email from", "learn why this is important",
    "von einem externen absender", "externe e-mail", "von außerhalb", "expéditeur externe", "remitente externo", "outside of the company"];

/// Takes warnings out of the segment's lines, looking at both of its ends only.
fn banners(segment: &mut Segment, lines: &[Line<'_>]) -> Vec<Vec<usize>> {
    let filled: Vec<usize> = (0..segment.lines.len()).filter(|at| !lines[segment.lines[*at]].text.is_empty()).collect();
    let mut out: Vec<Vec<usize>> = Vec::new();
    let mut taken: Vec<usize> = Vec::new();
    for (place, at) in filled.iter().enumerate() {
        if (place >= 10 && place + 5 < filled.len()) || out.len() >= MAX_BANNERS {
            continue;
        }
        let text = lines[segment.lines[*at]].text;
        let says = text.len() <= MAX_BANNER_BYTES && is_warning(text);
        let next = filled.get(place + 1).map(|at| lines[segment.lines[*at]].text);
        // `CAUTION:` on a line of its own, and the warning on the next.
        let heads = is_head(text) && next.is_some_and(|next| next.len() <= MAX_BANNER_BYTES && is_warning(next));
        if says || heads || is_tag(text) {
            match out.last_mut().filter(|_| taken.last().is_some_and(|last| place > 0 && *last == filled[place - 1])) {
                Some(banner) => banner.push(segment.lines[*at]),
                None => out.push(vec![segment.lines[*at]]),
            }
            taken.push(*at);
        }
    }
    let mut taken = taken.into_iter().peekable();
    let mut at = 0;
    segment.lines.retain(|_| {
        let gone = taken.next_if_eq(&at).is_some();
        at += 1;
        !gone
    });
    out
}

fn is_warning(text: &str) -> bool {
    let lower = text.to_lowercase();
    let start = lower.trim_start_matches(|c: char| !c.is_alphanumeric());
    let begins = WARNINGS.iter().any(|word| start.starts_with(word));
    let mut said = SAYS.iter().filter(|phrase| lower.contains(*phrase));
    said.next().is_some() && (begins || said.next().is_some())
}

fn is_head(text: &str) -> bool {
    let word = text.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    word.len() <= 30 && WARNINGS.iter().take(13).any(|head| word.starts_with(head)) && word.split(' ').count() <= 3
}

/// `[EXTERNAL]` and the like as a whole line.
fn is_tag(text: &str) -> bool {
    let inner = text.strip_prefix(['[', '*', '<', '(']).and_then(|rest| rest.strip_suffix([']', '*', '>', ')']));
    inner.is_some_and(|inner| {
        let word = inner.trim_matches(['*', ' ', '[', ']', ':', '!']).to_lowercase();
        matches!(
            word.as_str(),
            "external" | "external email" | "external sender" | "ext" | "extern" | "caution: external email"
        )
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::mail::{Message, MessageLimits};

    fn message(kind: &str, text: &str) -> Message {
        let raw = format!("Content-Type: text/{kind}; charset=utf-8\r\n\r\n{text}");
        Message::parse(Bytes::from(raw), &MessageLimits::default())
    }

    /// Newest text, then preamble and text of each quoted part.
    fn split(kind: &str, text: &str) -> (String, Vec<(String, String)>) {
        let message = message(kind, text);
        let threads = message.threads().clone();
        let previous = threads.previous.into_iter().map(|t| (t.preamble, t.text)).collect();
        (threads.current.text, previous)
    }

    fn check(kind: &str, text: &str, newest: &str, quoted: &[(&str, &str)]) {
        let (got, previous) = split(kind, text);
        let previous: Vec<_> = previous.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
        assert_eq!((got.as_str(), previous.as_slice()), (newest, quoted), "{text}");
    }

    #[test]
    fn plain_text() {
        let wrote = "On 1 Jan 2024, Ann <ann@example.org> wrote:";
        check("plain", "Hello\n\n\nyou\n", "Hello\n\nyou", &[]);
        check("plain", &format!("Yes.\n\n{wrote}\n> Shall we?\n> Ann\n"), "Yes.", &[(wrote, "Shall we?\nAnn")]);
        check("plain", &format!("{wrote}\n> One?\nYes.\n> Two?\nNo.\n"), "Yes.\nNo.", &[(wrote, "One?"), ("", "Two?")]);
        check("plain", &format!("C\n{wrote}\n> B\n> {wrote}\n>> A\n>> a\n"), "C", &[(wrote, "B"), (wrote, "A\na")]);
        check(
            "plain",
            "New\n-----Original Message-----\nFrom: Ann\nSent: Monday\nTo: Bob\nSubject: Hi\n\nOld\n",
            "New",
            &[("-----Original Message-----\nFrom: Ann\nSent: Monday\nTo: Bob\nSubject: Hi", "Old")],
        );
    }

    #[test]
    fn html() {
        check(
            "html",
            "<div>Yes.</div><div class=gmail_quote><div class=gmail_attr>On 1 Jan 2024, Ann &lt;<a href='mailto:ann@example.org'>\
             ann@example.org</a>&gt; wrote:<br></div><blockquote class=gmail_quote>Shall we?<p>Ann</p></blockquote></div>",
            "Yes.",
            &[("On 1 Jan 2024, Ann <ann@example.org> wrote:", "Shall we?\nAnn")],
        );
        check(
            "html",
            "<p>Yes.</p><hr><div id=divRplyFwdMsg><b>Lähettäjä:</b> x<br><b>Foo:</b> y</div><p>Old</p>",
            "Yes.",
            &[("", "Lähettäjä: x\nFoo: y\nOld")],
        );
        check(
            "html",
            "<p>Yes.</p><div><b>From:</b> Ann<br><b>Sent:</b> Monday<br><b>To:</b> Bob<br><b>Subject:</b> Hi</div><p>Old</p>",
            "Yes.",
            &[("From: Ann\nSent: Monday\nTo: Bob\nSubject: Hi", "Old")],
        );
        check("html", "<p>Hello</p><p>&gt;&gt; Click</p>", "Hello\n>> Click", &[]);
        check("html", "<blockquote type=cite>A</blockquote><p>B</p>", "B", &[("", "A")]);
        check("html", "<blockquote>A</blockquote><p>B</p><p style='display:none'>h</p>", "A\nB", &[]);
    }

    #[test]
    fn nothing_but_a_forward() {
        let message = message("plain", "Begin forwarded message:\n\nFrom: Ann\nDate: x\nSubject: y\n\nPlease pay.\n");
        let threads = message.threads();
        assert_eq!((threads.current.text.as_str(), threads.previous.len()), ("Please pay.", 0));
        assert!(threads.current.preamble.starts_with("Begin forwarded message:\nFrom: Ann"));
        assert_eq!(threads.current.header.subject.as_deref(), Some("y"));
    }

    #[test]
    fn banners_are_cut() {
        let warning = "CAUTION: This email originated from outside of your organization.";
        let message = message(
            "html",
            &format!(
                "<p>[EXTERNAL]</p><p>{warning} <a href=http://w.example.com>Why?</a></p><p>Pay now.</p>\
             <a href=http://p.example.com/>here</a>"
            ),
        );
        let current = &message.threads().current;
        assert_eq!(current.text, "Pay now.\nhere");
        assert_eq!(current.banners.len(), 1);
        assert_eq!(current.banners[0].text, format!("[EXTERNAL]\n{warning} Why?"));
        assert_eq!((current.banners[0].links.as_slice(), current.links.as_slice()), (&[0][..], &[1][..]));
    }

    #[test]
    fn links_go_with_their_text() {
        let message = message(
            "plain",
            "See http://a.example.com/ and http://b.example.com/\nOn 1 Jan 2024 a@example.org wrote:\n> http://c.example.com/\n> http://a.example.com/\n",
        );
        let threads = message.threads();
        assert_eq!(threads.current.links, [0, 1]);
        assert_eq!(threads.previous[0].links, [2, 0]);
    }

    #[test]
    fn hostile_depth() {
        let text = (0..5_000).map(|n| ">".repeat(n % 300) + " x\n").collect::<String>();
        let (_, previous) = split("plain", &text);
        assert!(previous.len() < 300);
        split("html", &"<blockquote type=cite>x".repeat(20_000));
    }
}
