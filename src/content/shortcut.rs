//! Windows shortcuts ([MS-SHLLINK]): target, arguments, working folder, icon, size of the target.
//!
//! Never fails: fields after a broken one are absent. Not here: the item list, tracker data.

use super::exif::Exif;

/// Reads a shortcut into ExifTool's keys.
pub(super) fn read(bytes: &[u8], out: &mut Exif) {
    let _ = fields(bytes, out);
}

fn fields(bytes: &[u8], out: &mut Exif) -> Option<()> {
    let le16 = |at: usize| Some(usize::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?)));
    let le32 = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let flags = le32(20)?;
    out.push("TargetFileSize", le32(52)?.to_string());
    let mut at = 76;
    if flags & 1 != 0 {
        at += 2 + le16(at)?;
    }
    if flags & 2 != 0 {
        let size = usize::try_from(le32(at)?).ok()?;
        let path = usize::try_from(le32(at + 16)?).ok()?;
        // The local path, in the system's code page.
        if path != 0
            && path < size
            && let Some(rest) = bytes.get(at.checked_add(path)?..)
        {
            let end = memchr::memchr(0, &rest[..rest.len().min(1_024)]).unwrap_or(0);
            out.push("LocalBasePath", String::from_utf8_lossy(&rest[..end]));
        }
        at = at.checked_add(size)?;
    }
    let keys = ["Description", "RelativePath", "WorkingDirectory", "CommandLineArguments", "IconFileName"];
    for (bit, key) in keys.into_iter().enumerate() {
        if flags & (4 << bit) == 0 {
            continue;
        }
        let count = le16(at)?;
        let wide = flags & 0x80 != 0;
        let content = bytes.get(at + 2..at + 2 + count * if wide { 2 } else { 1 })?;
        let value = match wide {
            true => {
                let units: Vec<u16> = content.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
                String::from_utf16_lossy(&units)
            }
            false => String::from_utf8_lossy(content).into_owned(),
        };
        out.push(key, value);
        at += 2 + content.len();
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let mut bytes = b"\x4c\0\0\0\x01\x14\x02\0".to_vec();
        bytes.resize(76, 0);
        bytes[20..24].copy_from_slice(&(4_u32 << 3 | 0x80 | 1).to_le_bytes());
        bytes[52] = 7;
        bytes.extend([3, 0, 1, 2, 3]);
        let text = "/c start é";
        bytes.extend(u16::try_from(text.encode_utf16().count()).unwrap().to_le_bytes());
        bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        let mut out = Exif::default();
        read(&bytes, &mut out);
        assert_eq!((out.get("CommandLineArguments"), out.get("TargetFileSize")), (Some(text), Some("7")));
        for at in 0..bytes.len() {
            read(&bytes[..at], &mut Exif::default());
            let mut with_info = bytes[..at].to_vec();
            with_info.iter_mut().skip(20).take(1).for_each(|b| *b = 0xff);
            read(&with_info, &mut Exif::default());
        }
    }
}
