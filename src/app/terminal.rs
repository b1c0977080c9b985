//! What people see: tables, colours only where they belong, and strangers' text that cannot do anything to a terminal.

use std::io::{IsTerminal, Write};

use super::cli::Colours;
use crate::policy::Action;

/// Standard output.
pub(super) struct Terminal {
    colours: bool,
}

/// Meanings that have a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Warning,
    Bad,
    Quiet,
    Strong,
}

impl Terminal {
    pub(super) fn new(when: Colours) -> Self {
        let colours = match when {
            Colours::Always => true,
            Colours::Never => false,
            Colours::Auto => {
                std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            }
        };
        Self { colours }
    }

    /// Text in a tone, if colours are wanted.
    pub(super) fn toned(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
            Tone::Quiet => "2",
            Tone::Strong => "1",
        };
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Writes a line.
    ///
    /// # Errors
    /// When standard output is gone (`mailweir … | head`): the program then ends quietly.
    pub(super) fn line(&self, text: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")
    }

    /// Writes a value as one line of JSON.
    ///
    /// # Errors
    /// When standard output is gone.
    pub(super) fn json(&self, value: &impl serde::Serialize) -> std::io::Result<()> {
        self.line(&serde_json::to_string(value)?)
    }

    /// Writes rows in columns; the last column is not filled up.
    ///
    /// # Errors
    /// When standard output is gone.
    pub(super) fn table(&self, head: &[&str], rows: &[Vec<String>]) -> std::io::Result<()> {
        let width = |text: &str| text.chars().count();
        let mut widths: Vec<usize> = head.iter().map(|cell| width(cell)).collect();
        for row in rows {
            for (at, cell) in row.iter().enumerate() {
                widths[at] = widths[at].max(width(cell));
            }
        }
        let joined = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for (at, cell) in cells.enumerate() {
                line.push_str(cell);
                if at + 1 < widths.len() {
                    line.extend(std::iter::repeat_n(' ', widths[at] - width(cell) + 2));
                }
            }
            line.trim_end().to_owned()
        };
        self.line(&self.toned(Tone::Quiet, &joined(&mut head.iter().copied())))?;
        rows.iter().try_for_each(|row| self.line(&joined(&mut row.iter().map(String::as_str))))
    }
}

/// The colour of an action.
pub(super) fn tone(action: Action) -> Tone {
    match action {
        Action::Allow => Tone::Good,
        Action::Tag | Action::Defer => Tone::Warning,
        Action::Quarantine | Action::Reject => Tone::Bad,
    }
}

/// A stranger's text for a terminal: no control characters, no direction overrides, cut at a length.
pub(super) fn plain(text: &str, most: usize) -> String {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let mut out: String = text.chars().take(most).map(|c| if odd(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        out.push('…');
    }
    out
}

/// The time of a number of milliseconds since 1970, in UTC.
pub(super) fn time(unix_ms: i64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    time::OffsetDateTime::from_unix_timestamp(unix_ms / 1_000)
        .ok()
        .and_then(|at| at.format(&format).ok())
        .unwrap_or_else(|| unix_ms.to_string())
}
