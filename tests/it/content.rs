//! Attachments opened: each trait with a file that has it and one that has not.

use std::io::{Cursor, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mailweir::content::{ContentLimits, File, FileType, Trait, explode};
use mailweir::mail::{Message, MessageLimits};
use zip::write::SimpleFileOptions;

fn message(name: &str, bytes: &[u8]) -> Message {
    let text = format!(
        "From: a@a.example\nContent-Type: application/octet-stream\nContent-Disposition: attachment; filename=\"{name}\"\nContent-Transfer-Encoding: base64\n\n{}\n",
        STANDARD.encode(bytes)
    );
    Message::parse(Bytes::from(text), &MessageLimits::default())
}

fn open(name: &str, bytes: &[u8]) -> Vec<File> {
    explode(&message(name, bytes), &ContentLimits::default())
}

fn pack(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn eicar() -> Vec<u8> {
    [&br"X5O!P%@AP[4\PZX54(P^)7CC)7}$"[..], b"EICAR-STANDARD-ANTIVIRUS", b"-TEST-FILE!$H+H*"].concat()
}

fn wide(text: &str) -> Vec<u8> {
    let mut bytes = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".to_vec();
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    bytes
}

#[test]
fn traits_of_single_files() {
    let cases: &[(&str, Vec<u8>, FileType, &[Trait])] = &[
        ("a.txt", b"hello".to_vec(), FileType::Text, &[]),
        ("a.exe", b"MZ\x90\0".to_vec(), FileType::Executable, &[Trait::Program]),
        ("a.pdf", b"MZ\x90\0".to_vec(), FileType::Executable, &[Trait::Program, Trait::TypeMismatch]),
        ("a.pdf.js", b"var a".to_vec(), FileType::Script, &[Trait::ScriptFile, Trait::DoubleExtension]),
        ("x.lnk", b"\x4c\0\0\0\x01\x14\x02\0".to_vec(), FileType::Shortcut, &[Trait::Shortcut]),
        ("x.txt", eicar(), FileType::Text, &[Trait::Eicar]),
        ("a.doc", wide("Root Entry"), FileType::Ole, &[]),
        ("a.doc", wide("_VBA_PROJECT"), FileType::Ole, &[Trait::Macros]),
        ("a.docx", wide("EncryptedPackage"), FileType::Ole, &[Trait::Encrypted]),
        (
            "a.pdf",
            b"%PDF-1.4 /OpenAction 1 0 R /JS (x)".to_vec(),
            FileType::Pdf,
            &[Trait::PdfScript, Trait::PdfOpenAction],
        ),
        ("a.pdf", b"%PDF-1.4 /JSON /Encryption".to_vec(), FileType::Pdf, &[]),
        (
            "a.html",
            b"<html><form action=https://x.example/><input type=password></form>".to_vec(),
            FileType::Html,
            &[Trait::PasswordForm, Trait::Form],
        ),
        (
            "a.htm",
            b"<html><script>a.href=URL.createObjectURL(new Blob([x]))</script>".to_vec(),
            FileType::Html,
            &[Trait::HtmlScript, Trait::Smuggling],
        ),
        ("a.html", b"<html><p>plain</p>".to_vec(), FileType::Html, &[]),
        ("a.svg", b"<svg><script>x</script></svg>".to_vec(), FileType::Svg, &[Trait::SvgScript]),
        ("a.svg", b"<svg><rect/></svg>".to_vec(), FileType::Svg, &[]),
        ("a.rar", b"Rar!\x1a\x07\0\0\0\x73\x80\0".to_vec(), FileType::Rar, &[Trait::Encrypted]),
        ("a.rar", b"Rar!\x1a\x07\0\0\0\x73\0\0".to_vec(), FileType::Rar, &[]),
        ("a.zip", b"PK\x03\x04 nothing".to_vec(), FileType::Zip, &[Trait::Broken]),
    ];
    for (name, bytes, kind, expected) in cases {
        let files = open(name, bytes);
        assert_eq!((files[0].kind, files[0].traits.as_slice()), (*kind, *expected), "{name}");
    }
}

#[test]
fn inside_archives() {
    let inner = pack(&[("invoice.pdf.exe", b"MZ\x90\0"), ("t.txt", &eicar())]);
    let outer = pack(&[("inner.zip", &inner), ("../up.txt", b"x")]);
    let files = open("a.zip", &outer);
    let names: Vec<_> = files.iter().map(|f| (f.name.as_str(), f.depth, f.parent)).collect();
    assert_eq!(
        names,
        [
            ("a.zip", 0, None),
            ("inner.zip", 1, Some(0)),
            ("../up.txt", 1, Some(0)),
            ("invoice.pdf.exe", 2, Some(1)),
            ("t.txt", 2, Some(1)),
        ]
    );
    assert!(files[0].is(Trait::TraversalName));
    assert!(
        files[3].is(Trait::DoubleExtension) && files[3].is(Trait::Program) && files[3].kind == FileType::Executable
    );
    assert!(files[4].is(Trait::Eicar));
}

#[test]
fn office_xml() {
    let rels = br#"<Relationships><Relationship Id="1" Type="x/attachedTemplate" Target="https://t.example/a.dotm" TargetMode="External"/></Relationships>"#;
    let files = open("a.docx", &pack(&[("[Content_Types].xml", b"x"), ("word/_rels/settings.xml.rels", rels)]));
    assert_eq!((files[0].kind, files[0].traits.as_slice()), (FileType::OfficeXml, &[Trait::ExternalTemplate][..]));
    assert_eq!(files[0].links[0].host(), Some("t.example"));
    let files = open("a.docm", &pack(&[("[Content_Types].xml", b"x"), ("word/vbaProject.bin", b"x")]));
    assert_eq!(files[0].traits, [Trait::Macros]);
    let files = open("a.docx", &pack(&[("[Content_Types].xml", b"x"), ("word/document.xml", b"x")]));
    assert_eq!(files[0].traits, []);
}

#[test]
fn a_message_inside() {
    let inner = message("a.exe", b"MZ");
    let text = format!("From: a@a.example\nContent-Type: message/rfc822\n\n{}", String::from_utf8_lossy(inner.raw()));
    let outer = Message::parse(Bytes::from(text), &MessageLimits::default());
    let files = explode(&outer, &ContentLimits::default());
    assert_eq!((files[0].kind, files[1].name.as_str(), files[1].depth), (FileType::Mail, "a.exe", 1));
}

#[test]
fn limits_hold() {
    let zeros = vec![0; 4 << 20];
    let bomb = pack(&[("zeros", &zeros)]);
    let files = open("bomb.zip", &bomb);
    assert!(files[0].is(Trait::Bomb) && files[1].bytes.is_empty() && files[1].is(Trait::Cut));

    let many: Vec<_> = (0..30).map(|n| (format!("f{n}"), b"x")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(n, b)| (n.as_str(), &b[..])).collect();
    let tight = ContentLimits { max_members: 10, ..ContentLimits::default() };
    assert!(explode(&message("a.zip", &pack(&many)), &tight)[0].is(Trait::TooManyMembers));
    let tight = ContentLimits { max_files: 10, ..ContentLimits::default() };
    let files = explode(&message("a.zip", &pack(&many)), &tight);
    assert!(files.len() == 10 && files[0].is(Trait::TooManyMembers));

    let tight = ContentLimits { max_member_bytes: 3, ..ContentLimits::default() };
    let files = explode(&message("a.zip", &pack(&[("a", b"12345")])), &tight);
    assert!(files[1].is(Trait::Cut) && files[1].bytes.len() == 3);

    let mut nested = pack(&[("x.exe", b"MZ")]);
    for level in 0..8 {
        nested = pack(&[(&format!("{level}.zip"), &nested)]);
    }
    let files = open("a.zip", &nested);
    assert!(files.iter().any(|f| f.is(Trait::TooDeep)) && files.len() <= 7);
}

#[test]
fn a_tar() {
    let mut tar = vec![0u8; 512];
    tar[..5].copy_from_slice(b"a.exe");
    tar[124..135].copy_from_slice(b"00000000002");
    tar[156] = b'0';
    tar[257..262].copy_from_slice(b"ustar");
    tar.extend_from_slice(b"MZ");
    tar.resize(512 * 3, 0);
    let files = open("a.tar", &tar);
    assert_eq!((files[0].kind, files[1].name.as_str(), &files[1].bytes[..]), (FileType::Tar, "a.exe", &b"MZ"[..]));
    // A size beyond the end, or none at all, ends the list and nothing else.
    tar[124..135].copy_from_slice(b"77777777777");
    assert!(open("a.tar", &tar)[1].is(Trait::Cut));
    tar[124..135].copy_from_slice(b"notanumber!");
    assert!(open("a.tar", &tar)[0].is(Trait::Broken));
}
