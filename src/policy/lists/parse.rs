//! Files of lists: one entry a line, or CSV; packed with gzip or not.
//!
//! ```text
//! NAME.txt  NAME.txt.gz     one entry a line; a line that begins with `#` is a comment
//! NAME.csv  NAME.csv.gz     the column `entry`, as the first line or a manifest says; without both, `1,example.com`
//! manifest.json             {"lists": [{"file": "tranco.csv", "identifier": "tranco_1m", "headers": ["x", "entry"],
//!                           "includes_header": false, "format": "hostname"}]}
//! ```
//!
//! Any mistake is an [`InvalidList`] that names file and line. `format: hostname` means lower case. CSV is RFC 4180 without
//! line breaks inside fields.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use serde::Deserialize;

/// Longest entry.
const ENTRY_BYTES: usize = 4_096;

/// The bytes of one file.
#[derive(Debug, Clone)]
pub struct ListFile<'f> {
    /// Path, for people and for the list's name.
    pub label: String,
    /// Contents, packed or not.
    pub bytes: &'f [u8],
    /// What the manifest says about it.
    pub hint: Option<ListHint>,
}

/// What a manifest says about a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListHint {
    /// Name of the list, without `$`.
    pub name: String,
    /// Number of the column `entry`, from 0.
    pub column: Option<usize>,
    /// The first line is a heading.
    pub heading: bool,
    /// Entries are host names.
    pub hostname: bool,
}

/// A list that cannot be used: file, line (from 1), reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct InvalidList {
    /// Path.
    pub file: String,
    /// Line, from 1.
    pub line: Option<usize>,
    /// What is wrong and how to mend it.
    pub reason: String,
}

impl InvalidList {
    pub(super) fn new(file: &str, line: Option<usize>, reason: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, reason: reason.into() }
    }
}

impl fmt::Display for InvalidList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.reason),
            None => write!(f, "{}: {}", self.file, self.reason),
        }
    }
}

#[derive(Deserialize)]
struct Manifest {
    lists: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    file: Option<String>,
    url: Option<String>,
    identifier: String,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    includes_header: bool,
    format: Option<String>,
}

/// Reads a `manifest.json`: file name → what it says about that file.
///
/// # Errors
/// When it is no such JSON.
pub fn manifest(label: &str, json: &[u8]) -> Result<BTreeMap<String, ListHint>, InvalidList> {
    let manifest: Manifest = serde_json::from_slice(json)
        .map_err(|error| InvalidList::new(label, Some(error.line()), format!("not a manifest of lists: {error}")))?;
    let hint = |listed: Listed| {
        let place = listed.file.or(listed.url)?;
        let file = place.rsplit('/').next().unwrap_or_default().to_owned();
        let hint = ListHint {
            name: listed.identifier,
            column: listed.headers.iter().position(|header| header == "entry"),
            heading: listed.includes_header,
            hostname: listed.format.as_deref() == Some("hostname"),
        };
        Some((file, hint))
    };
    Ok(manifest.lists.into_iter().filter_map(hint).collect())
}

/// The name of the list in a file: `x` for `x.txt`, `x.csv`, `x.txt.gz`, `x.csv.gz`; `None` for any other file.
pub fn list_name(label: &str) -> Option<&str> {
    let file = label.rsplit('/').next().unwrap_or_default();
    let file = file.strip_suffix(".gz").unwrap_or(file);
    file.strip_suffix(".txt").or_else(|| file.strip_suffix(".csv"))
}

/// The name of the list, if it can be one.
pub(super) fn name_of(file: &ListFile<'_>) -> Option<String> {
    let name = file.hint.as_ref().map(|hint| hint.name.as_str()).or_else(|| list_name(&file.label))?;
    let fits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    fits.then(|| name.to_owned())
}

/// Whether a trimmed line of text is an entry.
pub(super) fn is_entry(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

/// The entries of a file; text and where in it they are.
pub(super) struct Entries<'f> {
    text: Cow<'f, str>,
    places: Vec<(u32, u32)>,
}

impl Entries<'_> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        self.places.iter().map(|(start, end)| &self.text[*start as usize..*end as usize])
    }
}

/// Reads a file.
pub(super) fn entries<'f>(file: &ListFile<'f>, max_list_bytes: usize) -> Result<Entries<'f>, InvalidList> {
    let invalid = |line, reason: &str| InvalidList::new(&file.label, line, reason);
    if name_of(file).is_none() {
        let reason = "the name of a list has letters, digits and `_` only: call the file NAME.txt or NAME.csv";
        return Err(invalid(None, reason));
    }
    let bytes = unpacked(file, max_list_bytes)?;
    let text = text(bytes).map_err(|line| invalid(Some(line), "not UTF-8: write the file anew as UTF-8"))?;
    let hint = file.hint.clone().unwrap_or_default();
    // Letters whose small form has another length would move what follows; host names have none outside ASCII.
    let text = if hint.hostname && text.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        text
    };
    let csv = file.label.trim_end_matches(".gz").ends_with(".csv");
    let mut column = hint.column;
    let mut heading = hint.heading;
    let mut places = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim().trim_start_matches('\u{feff}');
        if !is_entry(trimmed) {
            continue;
        }
        let entry = if csv {
            let column = match column {
                Some(column) => column,
                None => {
                    let (at, is_heading) = guess_column(trimmed).ok_or_else(|| {
                        invalid(Some(number + 1), "which column holds the entries? Head it `entry` in the first line")
                    })?;
                    heading |= is_heading;
                    *column.insert(at)
                }
            };
            if std::mem::take(&mut heading) {
                continue;
            }
            field(trimmed, column).ok_or_else(|| invalid(Some(number + 1), "this line has too few columns"))?
        } else {
            if std::mem::take(&mut heading) {
                continue;
            }
            trimmed
        };
        if entry.len() > ENTRY_BYTES {
            return Err(invalid(Some(number + 1), "an entry has 4096 bytes at most"));
        }
        if !entry.is_empty() {
            let start = entry.as_ptr() as usize - text.as_ptr() as usize;
            places.push((start as u32, (start + entry.len()) as u32));
        }
    }
    Ok(Entries { text, places })
}

fn unpacked<'f>(file: &ListFile<'f>, max_list_bytes: usize) -> Result<Cow<'f, [u8]>, InvalidList> {
    let max = max_list_bytes.min(u32::MAX as usize - 1);
    let invalid = |reason: String| InvalidList::new(&file.label, None, reason);
    let too_large = || invalid(format!("more than {max} bytes: raise policy.named_lists.max_list_bytes"));
    if !file.label.ends_with(".gz") {
        return if file.bytes.len() > max { Err(too_large()) } else { Ok(Cow::Borrowed(file.bytes)) };
    }
    let mut bytes = Vec::new();
    let mut reader = flate2::read::MultiGzDecoder::new(file.bytes).take(max as u64 + 1);
    reader.read_to_end(&mut bytes).map_err(|error| invalid(format!("damaged gzip: {error}")))?;
    if bytes.len() > max { Err(too_large()) } else { Ok(Cow::Owned(bytes)) }
}

/// The text, or the line where it is none.
fn text(bytes: Cow<'_, [u8]>) -> Result<Cow<'_, str>, usize> {
    let line = |bytes: &[u8], good: usize| bytes[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
    match bytes {
        Cow::Borrowed(bytes) => {
            std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|error| line(bytes, error.valid_up_to()))
        }
        Cow::Owned(bytes) => String::from_utf8(bytes)
            .map(Cow::Owned)
            .map_err(|error| line(error.as_bytes(), error.utf8_error().valid_up_to())),
    }
}

/// The column of the entries by the first line, and whether that line is a heading.
fn guess_column(line: &str) -> Option<(usize, bool)> {
    let fields: Vec<&str> = (0..64).map_while(|column| field(line, column)).collect();
    if let Some(column) = fields.iter().position(|field| *field == "entry") {
        return Some((column, true));
    }
    match fields.as_slice() {
        [_] => Some((0, false)),
        [rank, _] if rank.bytes().all(|b| b.is_ascii_digit()) && !rank.is_empty() => Some((1, false)),
        _ => None,
    }
}

/// One field of a line of CSV, without its quotes. Doubled quotes inside stay as they are.
fn field(line: &str, column: usize) -> Option<&str> {
    let mut rest = Some(line);
    for _ in 0..column {
        rest = split_field(rest?).1;
    }
    Some(split_field(rest?).0.trim())
}

fn split_field(line: &str) -> (&str, Option<&str>) {
    if let Some(quoted) = line.strip_prefix('"') {
        let mut from = 0;
        while let Some(at) = quoted[from..].find('"').map(|at| at + from) {
            if quoted[at + 1..].starts_with('"') {
                from = at + 2;
                continue;
            }
            return (&quoted[..at], quoted[at + 1..].split_once(',').map(|(_, rest)| rest));
        }
    }
    line.split_once(',').map_or((line, None), |(field, rest)| (field, Some(rest)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(label: &str, bytes: &[u8], hint: Option<ListHint>) -> Result<Vec<String>, InvalidList> {
        let file = ListFile { label: label.into(), bytes, hint };
        entries(&file, 100).map(|entries| entries.iter().map(str::to_owned).collect())
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    #[test]
    fn shapes() {
        let is = |label: &str, text: &str, expected: &[&str]| {
            assert_eq!(read(label, text.as_bytes(), None).unwrap(), expected, "{label} {text:?}");
        };
        is("x.txt", "# comment\r\n  one two \r\n\r\nB#c\n \nlast", &["one two", "B#c", "last"]);
        is("x.txt", "\u{feff}first\n", &["first"]);
        is("x.csv", "1,Example.com\r\n2,b.example\r\n", &["Example.com", "b.example"]);
        is("x.csv", "rank,entry,n\n1,\"a,b\",9\n2,c,\n", &["a,b", "c"]);
        is("x.csv", "alone\nother\n", &["alone", "other"]);
        is("x.csv", "", &[]);
        let hint = ListHint { name: "y".into(), column: Some(2), heading: true, hostname: true };
        assert_eq!(read("x.csv", b"a,b,c\n1,2,Host.Example\n", Some(hint)).unwrap(), ["host.example"]);
    }

    #[test]
    fn gzip_is_bounded_and_checked() {
        assert_eq!(read("x.txt.gz", &gz(b"one\ntwo\n"), None).unwrap(), ["one", "two"]);
        assert_eq!(read("x.csv.gz", &gz(b"1,a\n"), None).unwrap(), ["a"]);
        assert_eq!(read("x.txt.gz", &gz(&[b'a'; 100]), None).unwrap().len(), 1);
        assert!(read("x.txt.gz", &gz(&[b'a'; 101]), None).unwrap_err().to_string().contains("max_list_bytes"));
        assert!(read("x.txt.gz", &gz(&[b'a'; 10_000_000]), None).unwrap_err().to_string().contains("max_list_bytes"));
        assert!(read("x.txt", &[b'a'; 101], None).is_err());
        let packed = gz(b"one\ntwo\n");
        for end in 1..packed.len() {
            assert!(read("x.txt.gz", &packed[..end], None).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn mistakes_name_their_line() {
        let line = |label: &str, bytes: &[u8]| read(label, bytes, None).unwrap_err().line;
        assert_eq!(line("x.txt", b"a\nb\n\xc3\n"), Some(3));
        assert_eq!(line("x.csv", b"a,b,c\n"), Some(1));
        assert_eq!(line("x.csv", b"a,entry\n1,2\n3\n"), Some(3));
        assert_eq!(line("a b.txt", b""), None);
    }

    #[test]
    fn manifests() {
        let json = br#"{"lists": [{"file": "tranco.csv", "identifier": "tranco_1m", "headers": ["x", "entry"],
            "format": "hostname", "display_name": "?"}, {"url": "https://x.example/a/b.txt.gz", "identifier": "b"}]}"#;
        let hints = manifest("m", json).unwrap();
        let hint = ListHint { name: "tranco_1m".into(), column: Some(1), heading: false, hostname: true };
        assert_eq!(hints.get("tranco.csv"), Some(&hint));
        assert_eq!(hints.get("b.txt.gz").map(|hint| hint.name.as_str()), Some("b"));
        assert!(manifest("m", b"{").is_err() && manifest("m", b"[]").is_err());
    }
}
