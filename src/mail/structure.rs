//! The walk over a message's bytes: header blocks and MIME structure (RFC 5322, RFC 2046), iterative and bounded.
//!
//! One pass, no recursion, nothing copied: parts are ranges. LF alone ends a line as well, so that files can be read.
//! Where a message can be read in two ways both are taken (all boundaries of a multipart part it, parts after its end
//! count) and a finding says so. Not here: decoding (`draft.rs`), text and links (`body.rs`).

use std::ops::Range;

use super::draft::Draft;
use super::finding::{FindingKind, Findings};
use super::header::{self, Field, FieldPlace};
use super::{MessageLimits, PartKind};

/// Boundaries in force at one time, all levels together.
const MAX_BOUNDARIES: usize = 64;

/// What the walk found.
pub(super) struct Structure {
    pub(super) fields: Vec<FieldPlace>,
    pub(super) drafts: Vec<Draft>,
    pub(super) findings: Findings,
    /// Preambles and epilogues that read like content: (container, range).
    pub(super) asides: Vec<(usize, Range<usize>)>,
}

/// Walks over the whole message.
pub(super) fn walk(raw: &[u8], limits: &MessageLimits) -> Structure {
    let mut walker = Walker {
        raw,
        limits,
        levels: Vec::new(),
        delimiter_start: memchr::memmem::Finder::new(b"\n--"),
        out: Structure { fields: Vec::new(), drafts: Vec::new(), findings: Findings::default(), asides: Vec::new() },
    };
    walker.run();
    walker.out
}

struct Level {
    part: usize,
    boundaries: Vec<Vec<u8>>,
    closed: bool,
}

#[derive(Clone, Copy)]
enum Region {
    Body(usize),
    Preamble(usize),
    Epilogue(usize),
}

struct Delimiter {
    level: usize,
    closes: bool,
    line: usize,
    next: usize,
}

struct Walker<'a> {
    raw: &'a [u8],
    limits: &'a MessageLimits,
    levels: Vec<Level>,
    delimiter_start: memchr::memmem::Finder<'static>,
    out: Structure,
}

impl Walker<'_> {
    fn run(&mut self) {
        let (mut region, mut start) = self.entity(None, 0);
        loop {
            let found = self.next_delimiter(start);
            let end = found.as_ref().map_or(self.raw.len(), |d| self.before_line_end(start, d.line));
            self.finish(region, start..end);
            let Some(delimiter) = found else { break };
            self.close_levels_above(delimiter.level, end);
            let level = &mut self.levels[delimiter.level];
            let container = level.part;
            start = delimiter.next;
            if delimiter.closes {
                level.closed = true;
                region = Region::Epilogue(container);
                continue;
            }
            if level.closed {
                self.out.findings.add(FindingKind::PartAfterClose, container);
            }
            if self.out.drafts.len() >= self.limits.max_parts {
                self.out.findings.add(FindingKind::TooManyParts, container);
                break;
            }
            (region, start) = self.entity(Some(container), start);
        }
        if let Some(outermost) = self.levels.first() {
            let part = outermost.part;
            self.close_levels_above(0, self.raw.len());
            if !self.levels[0].closed {
                self.out.findings.add(FindingKind::UnclosedBoundary, part);
            }
            self.out.drafts[part].body.end = self.raw.len();
        }
    }

    /// Reads an entity's header and makes its part; gives what the bytes after it are.
    fn entity(&mut self, parent: Option<usize>, at: usize) -> (Region, usize) {
        let index = self.out.drafts.len();
        let (fields, body) = self.header_block(index, at);
        let depth = parent.map_or(0, |p| self.out.drafts[p].depth + 1);
        let in_digest = parent.is_some_and(|p| self.out.drafts[p].content_type.value == "multipart/digest");
        let raw = self.raw;
        let all = self.out.fields[fields.clone()].iter().map(|place| Field::new(raw, place));
        let mut draft = Draft::new(all, in_digest, index, &mut self.out.findings);
        (draft.parent, draft.depth, draft.fields, draft.body) = (parent, depth, fields, body..body);
        let mut region = Region::Body(index);
        if draft.kind == PartKind::Multipart {
            let boundaries = self.boundaries(&draft, index, body);
            let in_force: usize = self.levels.iter().map(|l| l.boundaries.len()).sum();
            if depth >= self.limits.max_depth || in_force + boundaries.len() > MAX_BOUNDARIES {
                self.out.findings.add(FindingKind::TooDeep, index);
                draft.kind = PartKind::Other;
            } else if boundaries.is_empty() {
                draft.kind = PartKind::Plain;
            } else {
                self.levels.push(Level { part: index, boundaries, closed: false });
                region = Region::Preamble(index);
            }
        }
        self.out.drafts.push(draft);
        (region, body)
    }

    fn boundaries(&mut self, draft: &Draft, index: usize, body: usize) -> Vec<Vec<u8>> {
        let mut list: Vec<Vec<u8>> = Vec::new();
        for text in draft.boundaries() {
            let boundary = text.trim_end().as_bytes().to_vec();
            if !boundary.is_empty() && !list.contains(&boundary) && list.len() < 4 {
                list.push(boundary);
            }
        }
        if list.len() > 1 {
            self.out.findings.add(FindingKind::SeveralBoundaries, index);
        }
        if list.is_empty() {
            self.out.findings.add(FindingKind::MissingBoundary, index);
            // Some readers guess: the first line with two hyphens.
            let first = if self.raw[body..].starts_with(b"--") {
                Some(body)
            } else {
                self.delimiter_start.find(&self.raw[body..]).map(|at| body + at + 1)
            };
            if let Some(at) = first {
                let line = self.raw[at + 2..self.line_end(at).0].trim_ascii_end();
                list.extend((!line.is_empty() && line.len() <= 200).then(|| line.to_vec()));
            }
        }
        list
    }

    /// Reads fields up to the empty line, a delimiter, or a line that is no field. Gives their range and the body's start.
    fn header_block(&mut self, part: usize, start: usize) -> (Range<usize>, usize) {
        let first = self.out.fields.len();
        let mut at = start;
        let mut open: Option<usize> = None;
        let body = loop {
            if at >= self.raw.len() {
                break self.raw.len();
            }
            let (end, next) = self.line_end(at);
            let line = &self.raw[at..end];
            if line.is_empty() {
                break next;
            }
            if next - start > self.limits.max_header_bytes {
                self.out.findings.add(FindingKind::HeaderTooLong, part);
                break at;
            }
            match line[0] {
                b' ' | b'\t' if at > start => {
                    if let Some(field) = open {
                        self.out.fields[field].value.end = end;
                    }
                }
                b'-' if line.starts_with(b"--") && self.match_delimiter(at).is_some() => break at,
                _ => match header::field_name(line) {
                    Some((name, spaced)) => open = self.field(part, at, name, spaced, end),
                    // The separator line of a mailbox file is no part of the message.
                    None if at == 0 && (line.starts_with(b"From ") || line.starts_with(b">From ")) => {}
                    None => {
                        self.out.findings.add(FindingKind::HeaderWithoutColon, part);
                        break at;
                    }
                },
            }
            at = next;
        };
        (first..self.out.fields.len(), body)
    }

    fn field(&mut self, part: usize, at: usize, name: usize, spaced: bool, end: usize) -> Option<usize> {
        if self.out.fields.len() >= self.limits.max_header_count {
            self.out.findings.add(FindingKind::TooManyHeaders, part);
            return None;
        }
        if spaced {
            self.out.findings.add(FindingKind::SpaceBeforeColon, part);
        }
        let colon = at + name + memchr::memchr(b':', &self.raw[at + name..end]).unwrap_or(0);
        self.out.fields.push(FieldPlace { name: at..at + name, value: colon + 1..end });
        Some(self.out.fields.len() - 1)
    }

    /// End of a line without its line end, and the start of the next.
    fn line_end(&self, at: usize) -> (usize, usize) {
        match memchr::memchr(b'\n', &self.raw[at..]) {
            Some(offset) => {
                let newline = at + offset;
                let end = if newline > at && self.raw[newline - 1] == b'\r' { newline - 1 } else { newline };
                (end, newline + 1)
            }
            None => (self.raw.len(), self.raw.len()),
        }
    }

    /// The line end before a delimiter belongs to the delimiter (RFC 2046, 5.1.1).
    fn before_line_end(&self, start: usize, line: usize) -> usize {
        let mut end = line;
        if end > start && self.raw[end - 1] == b'\n' {
            end -= 1;
            if end > start && self.raw[end - 1] == b'\r' {
                end -= 1;
            }
        }
        end
    }

    fn next_delimiter(&mut self, start: usize) -> Option<Delimiter> {
        if self.levels.is_empty() {
            return None;
        }
        let mut at = start;
        loop {
            if self.raw[at..].starts_with(b"--")
                && let Some(delimiter) = self.match_delimiter(at)
            {
                return Some(delimiter);
            }
            at += self.delimiter_start.find(&self.raw[at..])? + 1;
        }
    }

    /// Whether the line at `line`, which starts with two hyphens, is a delimiter; the innermost level is asked first.
    fn match_delimiter(&mut self, line: usize) -> Option<Delimiter> {
        let (end, next) = self.line_end(line);
        let text = self.raw[line + 2..end].trim_ascii_end();
        let first = *text.first()?;
        for (level, open) in self.levels.iter().enumerate().rev() {
            for boundary in open.boundaries.iter().filter(|b| b[0] == first) {
                let Some(rest) = text.strip_prefix(boundary.as_slice()) else { continue };
                if rest.is_empty() {
                    return Some(Delimiter { level, closes: false, line, next });
                }
                if let Some(more) = rest.strip_prefix(b"--") {
                    if !more.is_empty() {
                        self.out.findings.add(FindingKind::OddDelimiter, open.part);
                    }
                    return Some(Delimiter { level, closes: true, line, next });
                }
            }
        }
        None
    }

    fn close_levels_above(&mut self, level: usize, end: usize) {
        for inner in self.levels.drain(level + 1..) {
            if !inner.closed {
                self.out.findings.add(FindingKind::UnclosedBoundary, inner.part);
            }
            self.out.drafts[inner.part].body.end = end;
        }
    }

    fn finish(&mut self, region: Region, range: Range<usize>) {
        let (part, kind) = match region {
            Region::Body(part) => {
                self.out.drafts[part].body = range;
                return;
            }
            Region::Preamble(part) => (part, FindingKind::PreambleContent),
            Region::Epilogue(part) => (part, FindingKind::EpilogueContent),
        };
        if reads_like_content(&self.raw[range.clone()]) {
            self.out.findings.add(kind, part);
            if self.out.asides.len() < 64 {
                self.out.asides.push((part, range));
            }
        }
    }
}

/// Text outside of all parts: the usual "this is a message in MIME format" is fine, links and markup are not.
fn reads_like_content(text: &[u8]) -> bool {
    let has = |needle: &[u8]| memchr::memmem::find(text, needle).is_some();
    text.len() > 4 && (has(b"://") || has(b"<a ") || has(b"<A ") || has(b"ontent-") || has(b"ONTENT-"))
}
