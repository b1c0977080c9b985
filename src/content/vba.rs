//! VBA projects ([MS-OVBA]): the source of the modules, and which words in it mean what.
//!
//! Modules are found by the `dir` stream (2.3.4.2); their source is unpacked (2.4.1) within `max_text_bytes`. The word
//! lists follow the categories of the field (start without a click, suspicious, addresses, hidden strings). A project
//! that does not open has no macros here; the marker scan for detectors is `document`'s.

use std::collections::BTreeSet;

use base64::Engine;
use bytes::Bytes;

use super::ContentLimits;
use super::ole::{paths, stream, with};

/// One finding in macro source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyword {
    /// `AutoExec`, `Suspicious`, `IOC`, `Hex String` or `Base64 String`.
    pub kind: &'static str,
    /// The word or value found.
    pub keyword: String,
    /// What it means, or what it decodes to.
    pub description: String,
}

/// Macros of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vba {
    /// Source of the modules: name and text.
    pub modules: Vec<(String, String)>,
    /// What was found in the source, each once.
    pub keywords: Vec<Keyword>,
}

impl Vba {
    fn of(&self, kind: &'static str) -> impl Iterator<Item = &str> {
        self.keywords.iter().filter(move |k| k.kind == kind).map(|k| k.keyword.as_str())
    }

    /// Procedures that run by themselves.
    pub fn auto_exec(&self) -> impl Iterator<Item = &str> {
        self.of("AutoExec")
    }

    /// Words of attacks.
    pub fn suspicious(&self) -> impl Iterator<Item = &str> {
        self.of("Suspicious")
    }

    /// Addresses and names of programs.
    pub fn ioc(&self) -> impl Iterator<Item = &str> {
        self.of("IOC")
    }

    /// Strings hidden as hexadecimal digits, decoded.
    pub fn hex(&self) -> impl Iterator<Item = &str> {
        self.keywords.iter().filter(|k| k.kind == "Hex String").map(|k| k.description.as_str())
    }

    /// Strings hidden as base64, decoded.
    pub fn base64(&self) -> impl Iterator<Item = &str> {
        self.keywords.iter().filter(|k| k.kind == "Base64 String").map(|k| k.description.as_str())
    }
}

/// What macros do that install something, in the words of [`SUSPICIOUS`].
const HARMFUL: [&str; 4] = ["runs a program unseen", "runs PowerShell", "runs code in memory", "loads a file"];
/// Words that start programs, and hardly anything else.
const STARTERS: [&str; 4] = ["Shell", "ShellExecute", "WScript.Shell", "Shell.Application"];

impl Vba {
    /// The word by which a macro that runs by itself starts programs or loads files.
    pub fn attack(&self) -> Option<&str> {
        self.auto_exec().next()?;
        let harms = |word: &&Keyword| {
            word.kind == "Suspicious"
                && (HARMFUL.contains(&word.description.as_str()) || STARTERS.contains(&word.keyword.as_str()))
        };
        self.keywords.iter().find(harms).map(|word| word.keyword.as_str())
    }

    /// Addresses in the source and in what it hides, as texts.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        let open =
            self.keywords.iter().filter(|k| k.kind == "IOC" && k.description == "URL").map(|k| k.keyword.as_str());
        let hidden = self.hex().chain(self.base64()).flat_map(str::split_whitespace);
        open.chain(hidden.filter(|word| word.contains("://")))
    }
}

const AUTO: &[&str] = &[
    "AutoExec",
    "AutoOpen",
    "Auto_Open",
    "DocumentOpen",
    "Document_Open",
    "AutoExit",
    "AutoClose",
    "Auto_Close",
    "Document_Close",
    "DocumentBeforeClose",
    "DocumentChange",
    "AutoNew",
    "NewDocument",
    "Document_New",
    "Document_BeforeClose",
    "Workbook_Open",
    "Workbook_Activate",
    "Workbook_Close",
    "Workbook_BeforeClose",
    "Worksheet_Calculate",
    "InkPicture_Painted",
];

const SUSPICIOUS: &[(&str, &str)] = &[
    ("Environ", "reads the environment"),
    ("Open", "opens a file"),
    ("Write", "writes to a file"),
    ("Put", "writes to a file"),
    ("Print #", "writes to a file"),
    ("SaveToFile", "creates a file"),
    ("CreateTextFile", "creates a file"),
    ("FileCopy", "copies a file"),
    ("CopyFile", "copies a file"),
    ("Kill", "deletes a file"),
    ("Shell", "runs a program"),
    ("vbHide", "runs a program unseen"),
    ("vbNormal", "runs a program"),
    ("ShellExecute", "runs a program"),
    ("ShellExecuteA", "runs a program"),
    ("WScript.Shell", "runs a program"),
    ("Shell.Application", "runs a program"),
    ("Run", "runs a program"),
    ("powershell", "runs PowerShell"),
    ("CreateObject", "creates an object"),
    ("GetObject", "gets an object"),
    ("CreateThread", "runs code in memory"),
    ("VirtualAlloc", "runs code in memory"),
    ("RtlMoveMemory", "runs code in memory"),
    ("URLDownloadToFileA", "loads a file"),
    ("URLDownloadToFile", "loads a file"),
    ("MSXML2.XMLHTTP", "loads a file"),
    ("Microsoft.XMLHTTP", "loads a file"),
    ("WinHttp.WinHttpRequest", "loads a file"),
    ("ADODB.Stream", "writes binary files"),
    ("Net.WebClient", "loads a file"),
    ("DownloadFile", "loads a file"),
    ("SendKeys", "presses keys"),
    ("CallByName", "hides a call"),
    ("Chr", "hides strings"),
    ("ChrW", "hides strings"),
    ("ChrB", "hides strings"),
    ("StrReverse", "hides strings"),
    ("Xor", "hides strings"),
    ("RegWrite", "writes the registry"),
    ("RegRead", "reads the registry"),
    ("Lib", "calls a library"),
    ("ExecuteExcel4Macro", "runs an old macro"),
    ("Windows", "looks at windows"),
];

/// Reads a compound file; `None` when it holds no VBA project.
pub(super) fn read(bytes: &Bytes, limits: &ContentLimits) -> Option<Vba> {
    let modules = with(bytes, |file| {
        let all = paths(file, limits.max_members);
        let folder = all.iter().find_map(|path| {
            let (folder, name) = path.rsplit_once('/')?;
            name.eq_ignore_ascii_case("dir").then(|| folder.to_owned())
        })?;
        let dir = unpack(&stream(file, &format!("{folder}/dir"), limits.max_member_bytes)?, limits.max_text_bytes);
        let (mut out, mut budget) = (Vec::new(), limits.max_text_bytes);
        for (name, stream_name, offset) in modules(&dir).into_iter().take(limits.max_members) {
            let Some(content) = stream(file, &format!("{folder}/{stream_name}"), limits.max_member_bytes) else {
                continue;
            };
            let source = unpack(content.get(offset..).unwrap_or_default(), budget);
            budget -= source.len().min(budget);
            let text = match String::from_utf8(source) {
                Ok(text) => text,
                Err(bytes) => bytes.into_bytes().into_iter().map(char::from).collect(),
            };
            out.push((name, text));
        }
        Some(out)
    })?;
    let source: String = modules.iter().flat_map(|(_, text)| [text.as_str(), "\n"]).collect();
    Some(Vba { keywords: keywords(&source, limits.max_members), modules })
}

/// Name, stream and offset of the source of each module, from an unpacked `dir` stream.
fn modules(dir: &[u8]) -> Vec<(String, String, usize)> {
    let latin = |bytes: &[u8]| bytes.iter().map(|b| char::from(*b)).collect::<String>();
    let (mut out, mut at) = (Vec::new(), 0);
    let (mut name, mut stream) = (String::new(), String::new());
    while let Some(head) = dir.get(at..at + 6) {
        let id = u16::from_le_bytes([head[0], head[1]]);
        let mut size = usize::try_from(u32::from_le_bytes([head[2], head[3], head[4], head[5]])).unwrap_or(usize::MAX);
        // PROJECTVERSION has a size that leaves out its last two bytes.
        size = size.saturating_add(if id == 9 { 2 } else { 0 });
        let Some(body) = at.checked_add(6 + size.min(1 << 30)).and_then(|end| dir.get(at + 6..end)) else { break };
        match id {
            0x19 => name = latin(body),
            0x1a => stream = latin(body),
            // The stream's name in UTF-16 is the true one.
            0x32 => {
                let units: Vec<u16> = body.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
                stream = String::from_utf16_lossy(&units);
            }
            0x31 => {
                if let Some(offset) = body.first_chunk() {
                    let offset = usize::try_from(u32::from_le_bytes(*offset)).unwrap_or(usize::MAX);
                    out.push((name.clone(), stream.clone(), offset));
                }
            }
            _ => {}
        }
        at += 6 + size;
    }
    out
}

/// Unpacks a compressed container (2.4.1); what is broken ends it.
pub(super) fn unpack(bytes: &[u8], most: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(mut rest) = bytes.strip_prefix(&[1]) else { return out };
    while let Some(header) = rest.first_chunk().map(|pair| u16::from_le_bytes(*pair)) {
        let size = usize::from(header & 0x0fff) + 3;
        let chunk = &rest[2..rest.len().min(size)];
        if header & 0x7000 != 0x3000 || out.len() >= most {
            break;
        }
        if header & 0x8000 == 0 {
            out.extend_from_slice(chunk);
        } else if unpack_chunk(chunk, &mut out).is_none() {
            break;
        }
        rest = rest.get(size..).unwrap_or_default();
    }
    out.truncate(most);
    out
}

fn unpack_chunk(chunk: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    let mut at = 0;
    while let Some(&flags) = chunk.get(at) {
        at += 1;
        for bit in 0..8 {
            let Some(&byte) = chunk.get(at) else { return Some(()) };
            if flags >> bit & 1 == 0 {
                out.push(byte);
                at += 1;
                continue;
            }
            let token = u16::from_le_bytes([byte, *chunk.get(at + 1)?]);
            at += 2;
            let position = out.len() - start;
            let bits = (usize::BITS - position.saturating_sub(1).leading_zeros()).clamp(4, 12);
            let length = usize::from(token & (0xffff >> bits)) + 3;
            let offset = usize::from(token >> (16 - bits)) + 1;
            if offset > position || position + length > 4_096 {
                return None;
            }
            for _ in 0..length {
                out.push(out[out.len() - offset]);
            }
        }
    }
    Some(())
}

/// Classifies the words of macro source; at most `most` findings.
fn keywords(source: &str, most: usize) -> Vec<Keyword> {
    let mut out = Vec::new();
    let lower = source.to_ascii_lowercase();
    let has = |word: &str| {
        let word = word.to_ascii_lowercase();
        memchr::memmem::find_iter(lower.as_bytes(), word.as_bytes()).any(|at| {
            let edge = |b: Option<&u8>| b.is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'_');
            edge(at.checked_sub(1).and_then(|at| lower.as_bytes().get(at)))
                && edge(lower.as_bytes().get(at + word.len()))
        })
    };
    for word in AUTO.iter().filter(|word| has(word)) {
        let description = "Runs when the document is opened, closed or changed".to_owned();
        out.push(Keyword { kind: "AutoExec", keyword: (*word).to_owned(), description });
    }
    for (word, meaning) in SUSPICIOUS.iter().filter(|(word, _)| has(word)) {
        out.push(Keyword { kind: "Suspicious", keyword: (*word).to_owned(), description: (*meaning).to_owned() });
    }
    let mut seen = BTreeSet::new();
    let mut add = |kind: &'static str, keyword: &str, description: String| {
        if out.len() < most && seen.insert((kind, keyword.to_owned())) {
            out.push(Keyword { kind, keyword: keyword.to_owned(), description });
        }
    };
    for link in linkify::LinkFinder::new().links(source) {
        add("IOC", link.as_str(), "URL".to_owned());
    }
    // Names of programs stand inside words and quotes.
    let runs = [".exe", ".dll", ".ps1", ".vbs", ".bat", ".cmd", ".scr", ".js", ".hta", ".jar", ".lnk", ".pif"];
    for word in source.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        if runs.iter().any(|end| word.len() > end.len() && word.to_ascii_lowercase().ends_with(end)) {
            add("IOC", word, "Executable file name".to_owned());
        }
        let octets: Vec<_> = word.split('.').map(str::parse::<u8>).collect();
        if octets.len() == 4 && octets.iter().all(Result::is_ok) {
            add("IOC", word, "IPv4 address".to_owned());
        }
    }
    for literal in source.split('"').skip(1).step_by(2).filter(|text| text.len() >= 8) {
        let printable = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).ok()?;
            text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t' | b'\r' | b'\n')).then(|| text.to_owned())
        };
        let digits = literal.bytes().all(|b| b.is_ascii_hexdigit()) && literal.len().is_multiple_of(2);
        if digits {
            let value = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or_default(), 16).ok();
            let bytes: Option<Vec<u8>> = literal.as_bytes().as_chunks::<2>().0.iter().map(value).collect();
            if let Some(text) = bytes.and_then(|bytes| printable(&bytes)) {
                add("Hex String", literal, text);
            }
        } else if literal.len().is_multiple_of(4)
            && let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(literal)
            && let Some(text) = printable(&bytes)
        {
            add("Base64 String", literal, text);
        }
    }
    out.truncate(most);
    out
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    /// A container of literals only.
    fn pack(text: &[u8]) -> Vec<u8> {
        let mut out = vec![1];
        for chunk in text.chunks(3_000) {
            let body: Vec<u8> = chunk.chunks(8).flat_map(|eight| [&[0][..], eight].concat()).collect();
            out.extend((u16::try_from(body.len() - 1).unwrap() | 0xb000).to_le_bytes());
            out.extend(body);
        }
        out
    }

    const SOURCE: &str = "Attribute VB_Name = \"M\"\r\nSub AutoOpen()\r\nCreateObject(\"WScript.Shell\").Run \
        \"http://example.com/a\"\r\nx = \"6576696c2e657865\"\r\ny = \"aGVsbG8gd29ybGQ=\"\r\nz = \"c:\\run.exe 192.0.2.1\"\r\nEnd Sub\r\n";

    fn project() -> Bytes {
        let mut dir = Vec::new();
        for (id, body) in [(9_u16, &[0; 4][..]), (0x19, b"M"), (0x1a, b"M"), (0x32, b"M\0"), (0x31, &[3, 0, 0, 0])] {
            dir.extend(id.to_le_bytes());
            dir.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
            dir.extend(body);
            dir.extend(if id == 9 { &[0, 0][..] } else { &[] });
        }
        let mut file = cfb::CompoundFile::create(Cursor::new(Vec::new())).unwrap();
        file.create_storage("/VBA").unwrap();
        file.create_stream("/VBA/dir").unwrap().write_all(&pack(&dir)).unwrap();
        let module = [&b"xyz"[..], &pack(SOURCE.as_bytes())].concat();
        file.create_stream("/VBA/M").unwrap().write_all(&module).unwrap();
        file.flush().unwrap();
        file.into_inner().into_inner().into()
    }

    #[test]
    fn source_and_words() {
        let vba = read(&project(), &ContentLimits::default()).unwrap();
        assert_eq!(vba.modules, [("M".to_owned(), SOURCE.to_owned())]);
        assert_eq!(vba.auto_exec().collect::<Vec<_>>(), ["AutoOpen"]);
        assert!(vba.suspicious().any(|word| word == "WScript.Shell") && vba.suspicious().all(|word| word != "Xor"));
        let found: Vec<&str> = vba.ioc().collect();
        assert!(found.contains(&"http://example.com/a") && found.contains(&"run.exe") && found.contains(&"192.0.2.1"));
        assert_eq!(vba.hex().collect::<Vec<_>>(), ["evil.exe"]);
        assert_eq!(vba.base64().collect::<Vec<_>>(), ["hello world"]);
        assert_eq!((vba.attack(), vba.addresses().collect::<Vec<_>>()), (Some("Shell"), vec!["http://example.com/a"]));
        let quiet = Vba { keywords: keywords("Sub Tidy()\r\nShell \"calc\"\r\nEnd Sub", 100), ..Vba::default() };
        assert_eq!(quiet.attack(), None, "only when somebody starts it");
        let plain = Vba { keywords: keywords("Sub AutoOpen()\r\nOpen x\r\nRun y\r\nEnd Sub", 100), ..Vba::default() };
        assert_eq!(plain.attack(), None, "what macros of offices do");
    }

    /// The example of [MS-OVBA] 3.2.3: a run of one letter.
    #[test]
    fn copy_tokens() {
        assert_eq!(unpack(b"\x01\x03\xb0\x02\x61\x45\x00", 1_000), [b'a'; 73]);
        assert_eq!(unpack(b"\x01\x03\xb0\x02\x61\x45\x00", 10).len(), 10);
        assert!(unpack(b"\x01\x03\xb0\x03\x61\x45\x00", 1_000).is_empty());
    }

    #[test]
    fn cut_anywhere() {
        let packed = pack(SOURCE.as_bytes());
        for at in 0..packed.len() {
            unpack(&packed[..at], 1_000);
            modules(&packed[..at]);
        }
        let whole = project();
        for at in (0..whole.len()).step_by(13) {
            read(&whole.slice(..at), &ContentLimits::default());
        }
        assert!(read(&Bytes::from_static(b"\xd0\xcf\x11\xe0"), &ContentLimits::default()).is_none());
    }
}
