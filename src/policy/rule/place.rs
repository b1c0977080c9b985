//! Where the text of `source` is in its file: so that a mistake in the MQL is reported where an editor finds it.
//!
//! Works on files whose top level is a mapping in block style with its keys in the first column, as all rule files are.
//! Of a literal block (`|`) and of a value on one line every place is exact; of folded and escaped text only the first
//! line is given.

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// `false`: only the line where `source` begins is known.
    pub exact: bool,
}

/// How places in the source become places in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourcePlace {
    /// A literal block: its first line, and the characters of indentation before each line.
    Block {
        /// File's line of the source's first line, from 1.
        line: usize,
        /// Characters of indentation.
        indent: usize,
    },
    /// One line, as it is.
    Line {
        /// File's line, from 1.
        line: usize,
        /// File's column of the first character, from 1.
        column: usize,
    },
    /// Text that YAML changes on reading.
    Changed {
        /// File's line where it begins, from 1.
        line: usize,
    },
}

impl SourcePlace {
    /// Finds the value of `source` whose text was read as `source`.
    pub(super) fn find(text: &str, source: &str) -> Self {
        let Some((number, rest, column)) = value_of(text, "source") else { return Self::Changed { line: 1 } };
        let value = rest.trim_start();
        let column = column + rest.chars().count() - value.chars().count();
        if value.starts_with('|') {
            let block: Vec<&str> = text.lines().skip(number).collect();
            let indent =
                source.lines().zip(&block).find(|(read, _)| !read.trim().is_empty()).and_then(|(read, line)| {
                    // Counted backwards from what was read: the header of the block may name its own indentation.
                    line.strip_suffix(read).filter(|indent| indent.trim().is_empty()).map(str::len)
                });
            return indent.map_or(Self::Changed { line: number }, |indent| Self::Block { line: number + 1, indent });
        }
        let same = source.trim_end();
        let plain = value.trim_end();
        let quoted = plain.len() > 1 && plain.starts_with(['"', '\'']) && plain[1..plain.len() - 1] == *same;
        match () {
            () if quoted => Self::Line { line: number, column: column + 1 },
            () if plain == same || plain.strip_prefix(same).is_some_and(|rest| rest.trim_start().starts_with('#')) => {
                Self::Line { line: number, column }
            }
            () => Self::Changed { line: number },
        }
    }

    /// The place in the file of a place in the source (line and column from 1).
    pub fn locate(&self, line: usize, column: usize) -> Position {
        match *self {
            Self::Block { line: first, indent } => {
                Position { line: first + line.saturating_sub(1), column: indent + column, exact: true }
            }
            Self::Line { line: only, column: first } => {
                Position { line: only, column: first + column.saturating_sub(1), exact: line <= 1 }
            }
            Self::Changed { line } => Position { line, column: 1, exact: false },
        }
    }
}

/// The text of a file with another source, every other byte as it is; `None` when `source` is no literal block (`|`).
pub(super) fn with_source(text: &str, place: SourcePlace, source: &str) -> Option<String> {
    let SourcePlace::Block { line, indent } = place else { return None };
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let first = line.checked_sub(1)?;
    let margin = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let inside = |line: &&&str| line.trim().is_empty() || margin(line) >= indent;
    let block: Vec<&&str> = lines.get(first..)?.iter().take_while(inside).collect();
    // Empty lines at the end belong to the block and to nobody: they stay.
    let length = block.iter().rposition(|line| !line.trim().is_empty())? + 1;
    let ending = if lines[first.checked_sub(1)?].ends_with("\r\n") { "\r\n" } else { "\n" };
    let mut out: String = lines[..first].concat();
    for line in source.lines() {
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
            out.push_str(line);
        }
        out.push_str(ending);
    }
    let cut = if block[length - 1].ends_with('\n') { 0 } else { ending.len() };
    out.truncate(out.len() - cut);
    out.push_str(&lines[first + length..].concat());
    Some(out)
}

/// The line (from 1) of a key of the top level, the rest of that line after the colon, and the column where the rest begins.
pub(super) fn value_of<'t>(text: &'t str, key: &str) -> Option<(usize, &'t str, usize)> {
    text.lines().enumerate().find_map(|(number, line)| {
        let line_start = line.trim_start_matches('\u{feff}');
        let bare = line_start.strip_prefix(key);
        let quoted = || line_start.strip_prefix(['"', '\''])?.strip_prefix(key)?.strip_prefix(['"', '\'']);
        let rest = bare.or_else(quoted)?.trim_start().strip_prefix(':')?;
        (rest.is_empty() || rest.starts_with([' ', '\t'])).then(|| {
            let before = line.len() - rest.len();
            (number + 1, rest, line[..before].chars().count() + 1)
        })
    })
}
