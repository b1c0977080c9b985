//! Files packed into others without a directory: objects of RTF, files of OneNote.
//!
//! Found by their marks, never by walking structures, so that broken files show them all the same. Bounded by the number
//! of members and the bytes that may still be unpacked.

use memchr::memmem;

/// A file found: its name (empty when it has none) and content.
pub(super) type Found = (String, Vec<u8>);

/// Objects of RTF: the hexadecimal digits after `\objdata`; an OLE 1 package is taken out of its header.
pub(super) fn rtf(bytes: &[u8], most: usize, budget: &mut usize) -> Vec<Found> {
    let mut out = Vec::new();
    for at in memmem::find_iter(bytes, b"\\objdata").take(most) {
        let (mut content, mut half, mut control) = (Vec::new(), None, false);
        for byte in &bytes[at + 8..] {
            match byte {
                b'}' | b'{' if content.is_empty() && half.is_none() && *byte == b'{' => {}
                b'}' | b'{' => break,
                b'\\' => control = true,
                b' ' | b'\r' | b'\n' | b'\t' => control = false,
                _ if control => {}
                _ => match (char::from(*byte).to_digit(16), half.take()) {
                    (Some(low), Some(high)) => content.push((high * 16 + low) as u8),
                    (Some(high), None) => half = Some(high),
                    (None, kept) => half = kept,
                },
            }
            if content.len() >= *budget {
                break;
            }
        }
        *budget -= content.len().min(*budget);
        if !content.is_empty() {
            out.push((String::new(), unwrap(content)));
        }
    }
    out
}

/// The payload of an OLE 1 object ([MS-OLEDS] 2.2): compound files and packages are what is looked for.
fn unwrap(content: Vec<u8>) -> Vec<u8> {
    let start = &content[..content.len().min(4_096)];
    match memmem::find(start, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
        Some(at) => content[at..].to_vec(),
        None => content,
    }
}

/// Files of a OneNote section ([MS-ONESTORE] 2.6.13): a GUID, eight bytes of length, twelve unused, the content.
pub(super) fn onenote(bytes: &[u8], most: usize, budget: &mut usize) -> Vec<Found> {
    const MARK: &[u8] = b"\xe7\x16\xe3\xbd\x65\x26\x11\x45\xa4\xc4\x8d\x4d\x0b\x7a\x9e\xac";
    let mut out = Vec::new();
    for at in memmem::find_iter(bytes, MARK).take(most) {
        let Some(length) = bytes.get(at + 16..).and_then(|rest| rest.first_chunk()) else { break };
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some(rest) = bytes.get(at + 36..) else { break };
        let content = &rest[..rest.len().min(length).min(*budget)];
        *budget -= content.len();
        if !content.is_empty() {
            out.push((String::new(), content.to_vec()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_rtf() {
        let text = b"{\\rtf1{\\object\\objemb{\\*\\objclass Package}{\\*\\objdata 0105 0000\r\nd0cf11e0 \
            a1b11ae1 41 4}}{\\*\\objdata{\\x}4d5a}";
        let found = rtf(text, 10, &mut 1_000);
        assert_eq!(found[0].1, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1A");
        let mut budget = 3;
        rtf(text, 10, &mut budget);
        assert_eq!(budget, 0);
        for at in 0..text.len() {
            rtf(&text[..at], 10, &mut 1_000);
        }
    }

    #[test]
    fn files_of_onenote() {
        let mut bytes = b"\xe7\x16\xe3\xbd\x65\x26\x11\x45\xa4\xc4\x8d\x4d\x0b\x7a\x9e\xac".to_vec();
        bytes.extend(4_u64.to_le_bytes());
        bytes.extend([0; 12]);
        bytes.extend(b"MZ\x90\0tail");
        assert_eq!(onenote(&bytes, 9, &mut 100), [(String::new(), b"MZ\x90\0".to_vec())]);
        bytes[16..24].fill(0xff);
        assert_eq!(onenote(&bytes, 9, &mut 5)[0].1.len(), 5);
        for at in 0..bytes.len() {
            onenote(&bytes[..at], 9, &mut 100);
        }
    }
}
