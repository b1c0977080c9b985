//! Compound files ([MS-CFB]): summary information and packed objects.
//!
//! Opened by `cfb`, which builds its tables from what is in the file; files above `max_read_bytes` are not opened by
//! callers. A panic in it counts as nothing found. Not here: macros (`vba`), the marker scan (`document`).

use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::exif::Exif;

/// A compound file that is open for reading.
pub(super) type Compound = cfb::CompoundFile<Cursor<Bytes>>;

/// Runs something over an opened compound file; `None` when it cannot be opened or panics.
pub(super) fn with<T>(bytes: &Bytes, run: impl FnOnce(&mut Compound) -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(|| run(&mut cfb::CompoundFile::open(Cursor::new(bytes.clone())).ok()?))).ok()?
}

/// One stream, at most `most` bytes.
pub(super) fn stream(file: &mut Compound, path: &str, most: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    file.open_stream(path).ok()?.take(most as u64).read_to_end(&mut out).ok()?;
    Some(out)
}

/// Paths of all streams, at most `most`.
pub(super) fn paths(file: &Compound, most: usize) -> Vec<String> {
    let streams = file.walk().filter(cfb::Entry::is_stream).take(most);
    streams.map(|entry| entry.path().to_string_lossy().into_owned()).collect()
}

/// Files in `Ole10Native` streams ([MS-OLEDS] 2.3.6) and whole packages: name and content.
pub(super) fn objects(bytes: &Bytes, most: usize, budget: &mut usize) -> Vec<(String, Vec<u8>)> {
    let found = with(bytes, |file| {
        let mut out = Vec::new();
        for path in paths(file, most) {
            let name = path.rsplit('/').next().unwrap_or_default().trim_start_matches('\u{1}').to_owned();
            if !matches!(name.as_str(), "Ole10Native" | "Package" | "CONTENTS" | "CompObjData") {
                continue;
            }
            let Some(content) = stream(file, &path, *budget) else { continue };
            *budget -= content.len();
            out.push(match name.as_str() {
                "Ole10Native" => native(&content).unwrap_or((String::new(), content)),
                _ => (String::new(), content),
            });
        }
        Some(out)
    });
    found.unwrap_or_default()
}

/// Length, flags, label, path, eight bytes, path again, length, content.
fn native(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut rest = bytes.get(6..)?;
    let text = |rest: &mut &[u8]| {
        let end = memchr::memchr(0, rest)?;
        let text = String::from_utf8_lossy(&rest[..end]).into_owned();
        *rest = &rest[end + 1..];
        Some(text)
    };
    let label = text(&mut rest)?;
    text(&mut rest)?;
    rest = rest.get(4..)?;
    let skip = usize::try_from(u32::from_le_bytes(*rest.first_chunk()?)).ok()?;
    rest = rest.get(4..)?.get(skip..)?;
    let length = usize::try_from(u32::from_le_bytes(*rest.first_chunk()?)).ok()?;
    let content = rest.get(4..)?;
    Some((label, content[..content.len().min(length)].to_vec()))
}

/// Summary information ([MS-OLEPS] 2.20) into ExifTool's keys.
pub(super) fn summary(bytes: &Bytes, out: &mut Exif) {
    let streams = with(bytes, |file| {
        let first = stream(file, "/\u{5}SummaryInformation", 1 << 20);
        Some((first, stream(file, "/\u{5}DocumentSummaryInformation", 1 << 20)))
    });
    let Some((first, second)) = streams else { return };
    properties(&first.unwrap_or_default(), false, out);
    properties(&second.unwrap_or_default(), true, out);
}

fn key(id: u32, document: bool) -> Option<&'static str> {
    Some(match (document, id) {
        (false, 2) => "Title",
        (false, 3) => "Subject",
        (false, 4) => "Author",
        (false, 5) => "Keywords",
        (false, 6) => "Comments",
        (false, 7) => "Template",
        (false, 8) => "LastModifiedBy",
        (false, 9) => "RevisionNumber",
        (false, 10) => "TotalEditTime",
        (false, 12) => "CreateDate",
        (false, 13) => "ModifyDate",
        (false, 14) => "Pages",
        (false, 15) => "Words",
        (false, 16) => "Characters",
        (false, 18) => "Software",
        (false, 19) => "Security",
        (true, 2) => "Category",
        (true, 14) => "Manager",
        (true, 15) => "Company",
        _ => return None,
    })
}

fn properties(bytes: &[u8], document: bool, out: &mut Exif) {
    let le32 = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let index = |at: usize| usize::try_from(le32(at)?).ok();
    let mut read = || {
        let set = index(44)?;
        let count = index(set.checked_add(4)?)?.min(64);
        for property in 0..count {
            let entry = set.checked_add(8 + property * 8)?;
            let Some(key) = key(le32(entry)?, document) else { continue };
            let Some(at) = index(entry + 4)?.checked_add(set) else { continue };
            let value = match le32(at) {
                Some(30) => {
                    index(at + 4).and_then(|length| bytes.get(at + 8..(at + 8).checked_add(length)?)).map(|text| {
                        let text: String = match std::str::from_utf8(text) {
                            Ok(text) => text.to_owned(),
                            Err(_) => text.iter().map(|b| char::from(*b)).collect(),
                        };
                        text.trim_end_matches('\0').to_owned()
                    })
                }
                Some(31) => {
                    index(at + 4).and_then(|length| bytes.get(at + 8..(at + 8).checked_add(length * 2)?)).map(|text| {
                        let units: Vec<u16> =
                            text.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
                        String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned()
                    })
                }
                Some(3) => le32(at + 4).map(|n| n.to_string()),
                // A span or a moment in units of 100 ns; spans are told in minutes, moments as seconds of 1970.
                Some(64) => le32(at + 4).zip(le32(at + 8)).map(|(low, high)| {
                    let ticks = u64::from(high) << 32 | u64::from(low);
                    match key {
                        "TotalEditTime" if ticks == 0 => "0".to_owned(),
                        "TotalEditTime" => format!("{} minutes", ticks / 600_000_000),
                        _ => moment(ticks),
                    }
                }),
                _ => None,
            };
            if let Some(value) = value {
                out.push(key, value);
            }
        }
        Some(())
    };
    read();
}

/// A moment of Windows as `2026:01:31 12:00:00`.
fn moment(ticks: u64) -> String {
    let seconds = i64::try_from(ticks / 10_000_000).unwrap_or_default() - 11_644_473_600;
    let Ok(at) = time::OffsetDateTime::from_unix_timestamp(seconds) else { return "0".to_owned() };
    let (date, (hour, minute, second)) = (at.date(), at.to_hms());
    format!("{:04}:{:02}:{:02} {hour:02}:{minute:02}:{second:02}", date.year(), u8::from(date.month()), date.day())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn summary_stream() -> Vec<u8> {
        let mut set = vec![0; 48];
        set[44..48].copy_from_slice(&48_u32.to_le_bytes());
        set.extend(0_u32.to_le_bytes());
        set.extend(2_u32.to_le_bytes());
        for (id, at) in [(4_u32, 24_u32), (12, 40)] {
            set.extend(id.to_le_bytes());
            set.extend(at.to_le_bytes());
        }
        set.extend(30_u32.to_le_bytes());
        set.extend(5_u32.to_le_bytes());
        set.extend(b"root\0\0\0\0");
        set.extend(64_u32.to_le_bytes());
        set.extend(116_444_736_000_000_000_u64.to_le_bytes());
        set
    }

    fn compound() -> Bytes {
        let mut file = cfb::CompoundFile::create(Cursor::new(Vec::new())).unwrap();
        file.create_stream("/\u{5}SummaryInformation").unwrap().write_all(&summary_stream()).unwrap();
        let mut native = vec![0; 6];
        native.extend(b"a.exe\0C:\\a.exe\0\0\0\x03\0\x02\0\0\0x\0\x04\0\0\0MZ\x90\0rest");
        file.create_storage("/ObjectPool").unwrap();
        file.create_stream("/ObjectPool/\u{1}Ole10Native").unwrap().write_all(&native).unwrap();
        file.flush().unwrap();
        file.into_inner().into_inner().into()
    }

    #[test]
    fn summary_and_objects() {
        let mut out = Exif::default();
        summary(&compound(), &mut out);
        assert_eq!((out.get("Author"), out.get("CreateDate")), (Some("root"), Some("1970:01:01 00:00:00")));
        let found = objects(&compound(), 10, &mut 1_000);
        assert_eq!(found, [("a.exe".to_owned(), b"MZ\x90\0".to_vec())]);
    }

    #[test]
    fn cut_anywhere() {
        let whole = compound();
        for at in (0..whole.len()).step_by(7) {
            summary(&whole.slice(..at), &mut Exif::default());
            objects(&whole.slice(..at), 10, &mut 1_000);
        }
        let set = summary_stream();
        for at in 0..set.len() {
            properties(&set[..at], false, &mut Exif::default());
            let mut changed = set.clone();
            changed[at] = 0xff;
            properties(&changed, true, &mut Exif::default());
            properties(&changed, false, &mut Exif::default());
        }
    }
}
