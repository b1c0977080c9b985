//! Archives and packed streams as other programs write them: what is in them, in the fast look and in depth alike.
//!
//! The samples in `tests/support/archives` were made by us with 7zz, bzip2, xz, gcab and genisoimage.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mailweir::content::{ContentLimits, File, FileType, Trait, explode, explode_file};
use mailweir::mail::{Message, MessageLimits};

const PROGRAM: &[u8] = b"MZ\x90\0 a program";
const NOTE: &[u8] = b"hello hello hello hello\n";
const LINK: &[u8] = b"https://in.example/path\n";

macro_rules! sample {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../support/archives/", $name)).as_slice())
    };
}

const SAMPLES: &[(&str, &[u8])] = &[
    sample!("lzma2.7z"),
    sample!("lzma.7z"),
    sample!("copy.7z"),
    sample!("deflate.7z"),
    sample!("bzip2.7z"),
    sample!("delta.7z"),
    sample!("files.7z"),
    sample!("bcj.7z"),
    sample!("bcj2.7z"),
    sample!("ppmd.7z"),
    sample!("encrypted.7z"),
    sample!("hidden.7z"),
    sample!("invoice.exe.bz2"),
    sample!("all.tbz2"),
    sample!("all.tar.xz"),
    sample!("note.txt.xz"),
    sample!("note.txt.lzma"),
    sample!("prog.bin.xz"),
    sample!("stored.cab"),
    sample!("mszip.cab"),
    sample!("joliet.iso.xz"),
    sample!("plain.iso.xz"),
];

fn bytes(name: &str) -> &'static [u8] {
    SAMPLES.iter().find(|(sample, _)| *sample == name).unwrap().1
}

/// The files of an attachment, as detectors see them; rules must see the same ones.
fn open_with(name: &str, bytes: &[u8], limits: &ContentLimits) -> Vec<File> {
    let text = format!(
        "From: a@a.example\nContent-Type: application/octet-stream\nContent-Disposition: attachment; filename=\"{name}\"\n\
         Content-Transfer-Encoding: base64\n\n{}\n",
        STANDARD.encode(bytes)
    );
    let message = Message::parse(Bytes::from(text), &MessageLimits::default());
    let files = explode(&message, limits);
    let deep = explode_file(name, "", Bytes::copy_from_slice(bytes), limits);
    let show = |files: &[File]| {
        let one = |f: &File| (f.parent, f.name.clone(), f.kind, f.size, f.bytes.clone(), f.traits.clone());
        files.iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(show(&files), show(&deep), "{name}: detectors and rules see the same");
    files
}

fn open(name: &str) -> Vec<File> {
    open_with(name, bytes(name), &ContentLimits::default())
}

fn contents(files: &[File]) -> Vec<(&str, &[u8])> {
    files.iter().skip(1).map(|file| (file.name.as_str(), &file.bytes[..])).collect()
}

#[test]
fn seven_zip() {
    let all: [(&str, &[u8]); 4] =
        [("empty.txt", b""), ("note.txt", NOTE), ("invoice.exe", PROGRAM), ("sub/link.url", LINK)];
    for name in ["lzma2.7z", "lzma.7z", "copy.7z", "deflate.7z", "bzip2.7z", "delta.7z", "files.7z"] {
        let files = open(name);
        let mut found = contents(&files);
        found.sort_unstable();
        let mut expected = all;
        expected.sort_unstable();
        assert_eq!((files[0].kind, found), (FileType::SevenZip, expected.to_vec()), "{name}");
        assert!(files[0].traits.is_empty(), "{name} {:?}", files[0].traits);
        let program = files.iter().find(|file| file.name == "invoice.exe").unwrap();
        assert_eq!((program.kind, program.traits.as_slice()), (FileType::Executable, &[Trait::Program][..]), "{name}");
    }
}

#[test]
fn programs_behind_branch_filters() {
    let mut expected = vec![0x90; 300];
    for _ in 0..5 {
        expected.extend(b"\xe8\x10\0\0\0\xe9\x20\0\0\0\x0f\x84\x10\0\0\0");
    }
    for name in ["bcj.7z", "bcj2.7z", "prog.bin.xz"] {
        let files = open(name);
        assert_eq!(contents(&files), [("prog.bin", &expected[..])], "{name}");
    }
}

#[test]
fn seven_zip_that_stays_closed() {
    let closed = |name: &str| {
        let files = open(name);
        let members = files[1..].iter().filter(|file| file.size > 0);
        let shown: Vec<_> = members.map(|f| (f.name.clone(), f.size, f.traits.clone())).collect();
        assert!(files[1..].iter().all(|file| file.bytes.is_empty()), "{name}");
        (files[0].traits.clone(), shown)
    };
    let (archive, members) = closed("encrypted.7z");
    assert_eq!(archive, [Trait::Encrypted]);
    assert!(members.contains(&(
        "invoice.exe".to_owned(),
        PROGRAM.len() as u64,
        vec![Trait::Cut, Trait::Encrypted, Trait::Program]
    )));
    assert_eq!(closed("hidden.7z"), (vec![Trait::Encrypted], vec![]));
    let (archive, members) = closed("ppmd.7z");
    assert_eq!((archive, members.len()), (vec![], 3));
    assert!(members.iter().all(|(.., traits)| traits.contains(&Trait::Cut)));
}

#[test]
fn packed_streams() {
    assert_eq!(contents(&open("invoice.exe.bz2")), [("invoice.exe", PROGRAM)]);
    assert_eq!(contents(&open("note.txt.xz")), [("note.txt", NOTE)]);
    assert_eq!(contents(&open("note.txt.lzma")), [("note.txt", NOTE)]);
    for name in ["all.tbz2", "all.tar.xz"] {
        let files = open(name);
        assert_eq!((files[1].name.as_str(), files[1].kind), ("all.tar", FileType::Tar), "{name}");
        assert_eq!(
            contents(&files)[1..],
            [("note.txt", NOTE), ("invoice.exe", PROGRAM), ("sub/link.url", LINK)],
            "{name}"
        );
        assert!(files[3].is(Trait::Program) && files[3].depth == 2);
    }
}

#[test]
fn cabinets() {
    for name in ["stored.cab", "mszip.cab"] {
        let files = open(name);
        assert_eq!(contents(&files), [("note.txt", NOTE), ("invoice.exe", PROGRAM)], "{name}");
        assert!(files[2].is(Trait::Program));
    }
    let files = open_with("lzx.cab", &lzx(NOTE), &ContentLimits::default());
    assert_eq!(contents(&files), [("a.txt", NOTE)]);
}

/// A cabinet with one file in one LZX block that is not compressed ([MS-PATCH] 2.7): no packer of ours writes LZX.
fn lzx(content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len()).unwrap();
    // One bit: no translation of calls. Three: kind 3. Twenty-four: size. Then to the next sixteen, in words of 16 bits.
    let bits = 3_u32 << 28 | size << 4;
    let mut data = Vec::new();
    data.extend(u16::try_from(bits >> 16).unwrap().to_le_bytes());
    data.extend(u16::try_from(bits & 0xffff).unwrap().to_le_bytes());
    for repeated in [1_u32; 3] {
        data.extend(repeated.to_le_bytes());
    }
    data.extend(content);
    let mut out = b"MSCF".to_vec();
    let name = b"a.txt\0";
    let (files, start) = (36 + 8, 36 + 8 + 16 + name.len());
    for word in [0, u32::try_from(start + 8 + data.len()).unwrap(), 0, u32::try_from(files).unwrap(), 0] {
        out.extend(word.to_le_bytes());
    }
    out.extend([3, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // The folder: where its data is, one block, LZX with a window of 2^15.
    out.extend(u32::try_from(start).unwrap().to_le_bytes());
    out.extend([1, 0, 3, 15]);
    for word in [size, 0] {
        out.extend(word.to_le_bytes());
    }
    out.extend([0; 8]);
    out.extend(name);
    out.extend([0; 4]);
    out.extend(u16::try_from(data.len()).unwrap().to_le_bytes());
    out.extend(u16::try_from(size).unwrap().to_le_bytes());
    out.extend(data);
    out
}

#[test]
fn disk_images() {
    let files = open("joliet.iso.xz");
    assert_eq!((files[1].name.as_str(), files[1].kind), ("joliet.iso", FileType::DiskImage));
    assert!(files[1].is(Trait::DiskImage));
    assert_eq!(contents(&files)[1..], [("invoice.exe", PROGRAM), ("docs/A long name of a letter.js", b"x")]);
    assert!(files[2].is(Trait::Program) && files[3].is(Trait::ScriptFile));
    assert_eq!(files[2].parent, Some(1));
    let files = open("plain.iso.xz");
    assert_eq!(contents(&files)[1..], [("INVOICE.EXE", PROGRAM), ("DOCS/A_LONG_N.JS", b"x")]);
}

#[test]
fn images_that_are_only_recognised() {
    let mut fixed = vec![0; 4_096];
    fixed[4_096 - 512..][..8].copy_from_slice(b"conectix");
    let mut udf = vec![0; 0x9000];
    udf[0x8001..0x8006].copy_from_slice(b"BEA01");
    for bytes in [fixed, udf, b"conectix".to_vec()] {
        let files = open_with("disk.bin", &bytes, &ContentLimits::default());
        assert_eq!((files.len(), files[0].kind), (1, FileType::DiskImage));
    }
}

fn xz_of_zeros() -> Vec<u8> {
    include_bytes!("../support/archives/zeros.xz").to_vec()
}

#[test]
fn limits_hold() {
    let default = ContentLimits::default();
    // Sixteen mebibytes of zeros.
    let files = open_with("zeros.xz", &xz_of_zeros(), &default);
    assert_eq!((files[0].traits.as_slice(), files[1].bytes.len()), (&[Trait::Bomb][..], 1 << 20));
    assert!(files[1].is(Trait::Cut));
    let wide = ContentLimits { max_ratio: 1_000_000, ..default.clone() };
    let files = open_with("zeros.xz", &xz_of_zeros(), &wide);
    assert_eq!((files[0].traits.as_slice(), files[1].bytes.len()), (&[Trait::Cut][..], wide.max_member_bytes));
    // A dictionary that is too large is not filled.
    let small = ContentLimits { max_dictionary_bytes: 64 << 10, ..wide };
    let files = open_with("zeros.xz", &xz_of_zeros(), &small);
    assert_eq!((files[0].traits.as_slice(), files[1].bytes.len()), (&[Trait::Broken][..], 0));

    let bomb = include_bytes!("../support/archives/zeros.7z");
    let files = open_with("zeros.7z", bomb, &default);
    assert_eq!((files[0].traits.as_slice(), files[1].name.as_str()), (&[Trait::Bomb][..], "zeros"));
    assert!(files[1].bytes.is_empty() && files[1].is(Trait::Cut) && files[1].size == 16 << 20);

    let two = ContentLimits { max_members: 2, ..default.clone() };
    for name in ["lzma2.7z", "copy.7z", "all.tbz2"] {
        let files = open_with(name, bytes(name), &two);
        assert!(files.iter().any(|file| file.is(Trait::TooManyMembers)), "{name}");
    }
    let one = ContentLimits { max_members: 1, ..default.clone() };
    assert!(open_with("stored.cab", bytes("stored.cab"), &one)[0].is(Trait::TooManyMembers));
    assert!(open_with("joliet.iso.xz", bytes("joliet.iso.xz"), &one)[1].is(Trait::TooManyMembers));

    // What may still be unpacked is shared by all: the rest is listed, and cut.
    let tight = ContentLimits { max_unpacked_bytes: 200, ..default.clone() };
    for name in ["files.7z", "lzma2.7z"] {
        let files = open_with(name, bytes(name), &tight);
        assert!(files.iter().map(|file| file.bytes.len()).skip(1).sum::<usize>() <= 200, "{name}");
    }
    let tight = ContentLimits { max_unpacked_bytes: 30, ..default.clone() };
    for name in ["copy.7z", "stored.cab", "mszip.cab"] {
        let files = open_with(name, bytes(name), &tight);
        assert!(files.iter().map(|file| file.bytes.len()).skip(1).sum::<usize>() <= 30, "{name}");
        assert!(files.iter().any(|file| file.is(Trait::Cut)), "{name}");
    }
    let flat = ContentLimits { max_depth: 1, ..default };
    let files = open_with("joliet.iso.xz", bytes("joliet.iso.xz"), &flat);
    assert!(files.len() == 2 && files[1].is(Trait::TooDeep));
}

/// A member that is larger than a file may be does not close what stands behind it in the same block.
#[test]
fn a_long_member_is_skipped() {
    let tight = ContentLimits { max_member_bytes: 20, ..ContentLimits::default() };
    let files = open_with("copy.7z", bytes("copy.7z"), &tight);
    let found: Vec<_> = contents(&files).into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
    let program = files.iter().find(|file| file.name == "invoice.exe").unwrap();
    assert_eq!(program.bytes, PROGRAM, "{found:?}");
    let note = files.iter().find(|file| file.name == "note.txt").unwrap();
    assert_eq!((&note.bytes[..], note.is(Trait::Cut)), (&NOTE[..20], true));
}

#[test]
fn cut_anywhere() {
    let limits = ContentLimits { max_unpacked_bytes: 1 << 20, ..ContentLimits::default() };
    let lzx = lzx(NOTE);
    let samples = SAMPLES.iter().copied().chain([("lzx.cab", &lzx[..])]);
    for (name, whole) in samples {
        for at in 0..whole.len() {
            explode_file(name, "", Bytes::copy_from_slice(&whole[..at]), &limits);
        }
    }
}

#[test]
fn changed_anywhere() {
    let limits = ContentLimits { max_unpacked_bytes: 1 << 20, ..ContentLimits::default() };
    let lzx = lzx(NOTE);
    let samples = SAMPLES.iter().copied().chain([("lzx.cab", &lzx[..])]);
    for (name, whole) in samples {
        // Images are large once unpacked: fewer of their bytes.
        let step = if name.ends_with(".iso.xz") { 9 } else { 1 };
        for at in (0..whole.len()).step_by(step) {
            for change in [0x01, 0xff] {
                let mut changed = whole.to_vec();
                changed[at] ^= change;
                let files = explode_file(name, "", changed.into(), &limits);
                let unpacked: usize = files.iter().filter(|f| f.parent == Some(0)).map(|f| f.bytes.len()).sum();
                assert!(unpacked <= 1 << 20, "{name} {at}");
            }
        }
    }
}

/// The images themselves, not only their packed form: bytes of descriptors and folders changed.
#[test]
fn changed_disk_images() {
    let limits = ContentLimits::default();
    for name in ["joliet.iso.xz", "plain.iso.xz"] {
        let image = open(name)[1].bytes.clone();
        let used: Vec<usize> = (0x8000..image.len()).filter(|at| image[*at] != 0).collect();
        // Without the sectors of zeros behind it.
        let image = image.slice(..used.last().unwrap() + 1);
        for at in used.into_iter().step_by(3) {
            for value in [0, 0xff] {
                let mut changed = image.to_vec();
                changed[at] = value;
                let files = explode_file("a.iso", "", changed.into(), &limits);
                assert!(files.len() <= limits.max_files);
            }
        }
        for at in (0x8000..image.len()).step_by(397) {
            explode_file("a.iso", "", image.slice(..at), &limits);
        }
    }
}
