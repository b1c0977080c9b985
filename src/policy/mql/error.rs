//! What is wrong with a rule and where: message, place in the source, and the mend.

use std::fmt;

/// A place in a source: bytes from, to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    pub(super) fn to(self, end: Self) -> Self {
        Self { start: self.start, end: end.end }
    }
}

/// An error in a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to write instead.
    pub help: Option<String>,
}

impl Error {
    pub(super) fn new(message: impl Into<String>, span: Span) -> Self {
        Self { message: message.into(), span, help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Line and column of the place in that source, both from 1; the column counts characters.
    pub fn place(&self, source: &str) -> (usize, usize) {
        let before = source.get(..self.span.start).unwrap_or(source);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }

    /// The line of the source with carets under the place, then the help, for people.
    pub fn excerpt(&self, source: &str) -> String {
        let (_, column) = self.place(source);
        let start = source[..self.span.start.min(source.len())].rfind('\n').map_or(0, |n| n + 1);
        let line = source[start..].lines().next().unwrap_or_default();
        // Rules of the feed have lines of 100 kB: only what stands around the place is shown.
        let skip = column.saturating_sub(60);
        let shown: String = line.chars().skip(skip).take(120).map(|c| if c == '\t' { ' ' } else { c }).collect();
        let width =
            source.get(self.span.start..self.span.end).map_or(1, |s| s.chars().take_while(|c| *c != '\n').count());
        let carets = "^".repeat(width.clamp(1, 60));
        let mut text = format!("  {shown}\n  {}{carets}", " ".repeat(column - 1 - skip.min(column - 1)));
        if let Some(help) = &self.help {
            text.push_str("\n  help: ");
            text.push_str(help);
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// The name that was probably meant, if one is near enough.
pub(super) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = wrong.len() / 3 + 1;
    known.map(|name| (distance(wrong, name), name)).filter(|(d, _)| *d <= limit).min_by_key(|(d, _)| *d).map(|(_, n)| n)
}

/// Edit distance over characters (Levenshtein).
pub(super) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (corner + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}
