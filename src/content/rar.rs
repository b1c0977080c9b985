//! RAR: names, sizes and the password flag of its members, of format 4 and 5. Contents stay closed: no free unpacker.
//!
//! Headers are walked by their sizes; a broken one ends the list.

/// A member as its header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Size unpacked, in bytes.
    pub(super) size: u64,
    pub(super) encrypted: bool,
}

/// Lists at most `most` members.
pub(super) fn list(bytes: &[u8], most: usize) -> Vec<Entry> {
    let mut out = Vec::new();
    if let Some(rest) = bytes.strip_prefix(b"Rar!\x1a\x07\x01\0") {
        five(rest, most, &mut out);
    } else if let Some(rest) = bytes.strip_prefix(b"Rar!\x1a\x07\0") {
        four(rest, most, &mut out);
    }
    out
}

fn four(mut rest: &[u8], most: usize, out: &mut Vec<Entry>) {
    while out.len() < most {
        let le16 = |at: usize| Some(u16::from_le_bytes(*rest.get(at..)?.first_chunk()?));
        let le32 = |at: usize| Some(u32::from_le_bytes(*rest.get(at..)?.first_chunk()?));
        let read = || {
            let (kind, flags, size) = (*rest.get(2)?, le16(3)?, usize::from(le16(5)?));
            let mut whole = size.max(7) as u64;
            let mut entry = None;
            if kind == 0x74 {
                let mut name_at = 32;
                let (mut packed, mut unpacked) = (u64::from(le32(7)?), u64::from(le32(11)?));
                if flags & 0x100 != 0 {
                    packed |= u64::from(le32(32)?) << 32;
                    unpacked |= u64::from(le32(36)?) << 32;
                    name_at = 40;
                }
                let name = rest.get(name_at..name_at + usize::from(le16(26)?))?;
                let name = name.split(|b| *b == 0).next().unwrap_or_default();
                let folder = flags & 0xe0 == 0xe0;
                let name = String::from_utf8_lossy(name).into_owned();
                entry = (!folder).then_some(Entry { name, size: unpacked, encrypted: flags & 4 != 0 });
                whole = whole.checked_add(packed)?;
            } else if flags & 0x8000 != 0 {
                whole += u64::from(le32(7)?);
            }
            Some((kind, usize::try_from(whole).ok()?, entry))
        };
        let Some((kind, whole, entry)) = read() else { return };
        out.extend(entry);
        match rest.get(whole..) {
            Some(next) if kind != 0x7b => rest = next,
            _ => return,
        }
    }
}

/// A number of seven bits a byte, the low ones first.
fn number(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn five(mut rest: &[u8], most: usize, out: &mut Vec<Entry>) {
    while out.len() < most {
        let read = || {
            let mut at = 4;
            let size = usize::try_from(number(rest, &mut at)?).ok()?;
            let end = at.checked_add(size)?;
            let header = rest.get(..end)?;
            let (kind, flags) = (number(header, &mut at)?, number(header, &mut at)?);
            let extra = if flags & 1 != 0 { number(header, &mut at)? } else { 0 };
            let data = if flags & 2 != 0 { number(header, &mut at)? } else { 0 };
            let mut entry = None;
            if kind == 2 {
                let file_flags = number(header, &mut at)?;
                let size = number(header, &mut at)?;
                number(header, &mut at)?;
                at += if file_flags & 2 != 0 { 4 } else { 0 };
                at += if file_flags & 4 != 0 { 4 } else { 0 };
                number(header, &mut at)?;
                number(header, &mut at)?;
                let length = usize::try_from(number(header, &mut at)?).ok()?;
                let name = String::from_utf8_lossy(header.get(at..at.checked_add(length)?)?).into_owned();
                // Records of the extra area: size, kind; kind 1 is encryption.
                let mut at = end - usize::try_from(extra).ok()?.min(end);
                let mut encrypted = false;
                while extra > 0 && at < end {
                    let size = usize::try_from(number(header, &mut at)?).ok()?;
                    let start = at;
                    encrypted |= number(header, &mut at)? == 1;
                    at = start.checked_add(size.max(1))?;
                }
                entry = (file_flags & 1 == 0).then_some(Entry { name, size, encrypted });
            }
            Some((kind, end.checked_add(usize::try_from(data).ok()?)?, entry))
        };
        let Some((kind, whole, entry)) = read() else { return };
        out.extend(entry);
        match rest.get(whole..) {
            Some(next) if !matches!(kind, 4 | 5) => rest = next,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format_five() -> Vec<u8> {
        let mut bytes = b"Rar!\x1a\x07\x01\0".to_vec();
        bytes.extend([0, 0, 0, 0, 3, 1, 0, 0]);
        // File: extra 3, data 2, no flags, size 200, attributes, method, system, name, encryption record.
        let mut body = vec![2, 3, 3, 2, 0, 0xc8, 1, 0, 0, 0, 5];
        body.extend(b"a.exe");
        body.extend([2, 1, 0]);
        bytes.extend([0, 0, 0, 0, u8::try_from(body.len()).unwrap()]);
        bytes.extend(body);
        bytes.extend([9, 9]);
        bytes.extend([0, 0, 0, 0, 3, 5, 0, 0]);
        bytes
    }

    fn format_four() -> Vec<u8> {
        let mut bytes = b"Rar!\x1a\x07\0".to_vec();
        bytes.extend([0, 0, 0x73, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0]);
        let mut head = vec![0, 0, 0x74, 4, 0x80, 37, 0, 2, 0, 0, 0, 99, 0, 0, 0];
        head.resize(26, 0);
        head.extend([5, 0]);
        head.resize(32, 0);
        head.extend(b"b.pdf");
        bytes.extend(head);
        bytes.extend([9, 9]);
        bytes.extend([0, 0, 0x7b, 0, 0x40, 7, 0]);
        bytes
    }

    #[test]
    fn lists() {
        assert_eq!(list(&format_five(), 9), [Entry { name: "a.exe".into(), size: 200, encrypted: true }]);
        assert_eq!(list(&format_four(), 9), [Entry { name: "b.pdf".into(), size: 99, encrypted: true }]);
        assert!(list(&format_four(), 0).is_empty());
    }

    #[test]
    fn cut_and_changed_anywhere() {
        for whole in [format_five(), format_four()] {
            for at in 0..whole.len() {
                list(&whole[..at], 9);
                for value in [0, 0x7f, 0xff] {
                    let mut changed = whole.clone();
                    changed[at] = value;
                    list(&changed, 9);
                }
            }
        }
    }
}
