//! One file opened in depth: the tree, and what is asked about each file in it.

use std::io::{Cursor, Write};

use bytes::Bytes;
use mailweir::content::{ContentLimits, File, FileType, Means, Trait, explode_file, explode_file_with};
use zip::write::SimpleFileOptions;

fn open(name: &str, bytes: impl Into<Bytes>) -> Vec<File> {
    explode_file(name, "", bytes.into(), &ContentLimits::default())
}

fn pack(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn names(files: &[File]) -> Vec<(Option<usize>, usize, &str)> {
    files.iter().map(|file| (file.parent, file.depth, file.name.as_str())).collect()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// A PDF of numbered objects with a cross-reference table.
fn pdf(objects: &[Vec<u8>], trailer: &str) -> Vec<u8> {
    let mut out = b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut places = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        places.push(out.len());
        out.extend(format!("{} 0 obj\n", number + 1).bytes());
        out.extend(object);
        out.extend(b"\nendobj\n");
    }
    let start = out.len();
    out.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).bytes());
    for place in places {
        out.extend(format!("{place:010} 00000 n \n").bytes());
    }
    let size = objects.len() + 1;
    out.extend(format!("trailer\n<</Size {size}/Root 1 0 R{trailer}>>\nstartxref\n{start}\n%%EOF\n").bytes());
    out
}

fn stream(dictionary: &str, content: &[u8]) -> Vec<u8> {
    let packed = deflate(content);
    let mut out = format!("<</Filter/FlateDecode/Length {}{dictionary}>>\nstream\n", packed.len()).into_bytes();
    out.extend(packed);
    out.extend(b"\nendstream");
    out
}

fn sample_pdf() -> Vec<u8> {
    let objects = [
        b"<</Type/Catalog/Pages 2 0 R/OpenAction 6 0 R/Names<</EmbeddedFiles<</Names[(a.exe) 8 0 R]>>>>>>".to_vec(),
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>".to_vec(),
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R/Annots[5 0 R]/Resources<</Font<</F1 10 0 R>>>>>>"
            .to_vec(),
        stream("", b"BT /F1 12 Tf (Please sign in at https://text.example/x) Tj ET"),
        b"<</Type/Annot/Subtype/Link/A<</S/URI/URI(https://link.example/a\\(b\\))>>>>".to_vec(),
        b"<</S/JavaScript/JS(app.alert\\('hi'\\))>>".to_vec(),
        stream("/Type/EmbeddedFile", b"MZ\x90\0 program"),
        b"<</Type/Filespec/F(a.exe)/UF(\xfe\xff\0b\0.\0e\0x\0e)/EF<</F 7 0 R>>>>".to_vec(),
        b"<</Producer(Skia/PDF m1)/Creator(Maker)/Title(Pay)/Author(Ann)/CreationDate(D:2026)>>".to_vec(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>".to_vec(),
    ];
    pdf(&objects, "/Info 9 0 R")
}

#[test]
#[cfg(feature = "pdf")]
fn a_pdf() {
    let files = open("a.pdf", sample_pdf());
    let found = files[0].pdf().unwrap();
    assert_eq!(found.urls, ["https://link.example/a(b)"]);
    assert_eq!(found.page_count, Some(1));
    assert!(found.text.contains("Please sign in"), "{:?}", found.text);
    assert_eq!(found.scripts, ["app.alert('hi')"]);
    let exif = files[0].exif();
    assert_eq!((exif.producer(), exif.creator(), exif.title()), (Some("Skia/PDF m1"), Some("Maker"), Some("Pay")));
    assert_eq!((exif.author(), exif.page_count(), exif.get("CreateDate")), (Some("Ann"), Some(1), Some("D:2026")));
    assert_eq!(files[0].urls().urls, ["https://link.example/a(b)", "https://text.example/x"]);
    assert_eq!(names(&files)[1..], [(Some(0), 1, "text"), (Some(0), 1, "javascript"), (Some(0), 1, "b.exe")]);
    assert_eq!(files[1].mime(), "text/plain");
    assert_eq!(files[2].javascript().unwrap().identifiers, ["app", "alert"]);
    assert!(files[3].is(Trait::Program));
}

#[test]
#[cfg(feature = "pdf")]
fn an_object_stream() {
    let inner =
        b"1 0 2 35 <</Type/Catalog/Pages 2 0 R     >> <</Type/Pages/Kids[]/Count 0/X<</URI(https://in.example/)>>>>";
    let first = inner.windows(2).position(|w| w == b"<<").unwrap();
    let mut out = b"%PDF-1.5\n".to_vec();
    let at = out.len();
    out.extend(b"3 0 obj\n");
    out.extend(stream(&format!("/Type/ObjStm/N 2/First {first}"), inner));
    out.extend(b"\nendobj\n");
    let start = out.len();
    let mut table = vec![0, 0, 0, 0, 2, 0, 3, 0, 2, 0, 3, 1, 1];
    table.extend(u16::try_from(at).unwrap().to_be_bytes());
    table.push(0);
    table.push(1);
    table.extend(u16::try_from(start).unwrap().to_be_bytes());
    table.push(0);
    out.extend(b"4 0 obj\n");
    out.extend(stream("/Type/XRef/Size 5/W[1 2 1]/Root 1 0 R", &table));
    out.extend(format!("\nendobj\nstartxref\n{start}\n%%EOF\n").bytes());
    assert_eq!(open("a.pdf", out)[0].pdf().unwrap().urls, ["https://in.example/"]);
}

#[test]
#[cfg(feature = "pdf")]
fn pdf_cut_anywhere_and_bombs() {
    let whole = Bytes::from(sample_pdf());
    for at in (0..whole.len()).step_by(5) {
        explode_file("a.pdf", "", whole.slice(..at), &ContentLimits::default()).iter().for_each(ask);
    }
    let bomb = pdf(&[b"<</Type/Catalog>>".to_vec(), stream("/Type/EmbeddedFile", &vec![0; 4 << 20])], "");
    let limits = ContentLimits { max_member_bytes: 1 << 20, ..ContentLimits::default() };
    let files = explode_file("a.pdf", "", bomb.into(), &limits);
    assert!(files.iter().all(|file| file.bytes.len() <= 1 << 20), "{:?}", names(&files));
}

/// Asks everything, so that nothing panics.
fn ask(file: &File) {
    let _ = (file.file_type_name(), file.mime(), file.yara_flavors(), file.entropy(), file.hashes(), file.exif());
    let _ =
        (file.urls(), file.javascript(), file.html(), file.xml(), file.ics(), file.zip(), file.qr(), file.oletools());
    assert!(file.strings().all(|run| run.len() >= 4));
}

#[test]
fn archives_in_archives() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&pack(&[("in/a.js", b"var a = document.b;"), ("in/b.txt", b"text")])).unwrap();
    let outer = pack(&[("c.zip.gz", &packed.finish().unwrap()), ("d/", b"")]);
    let files = open("o.zip", outer);
    let expected = [
        (None, 0, "o.zip"),
        (Some(0), 1, "c.zip.gz"),
        (Some(1), 2, "c.zip"),
        (Some(2), 3, "in/a.js"),
        (Some(2), 3, "in/b.txt"),
    ];
    assert_eq!(names(&files), expected);
    let zip = files[0].zip().unwrap();
    assert_eq!((zip.all_paths.len(), zip.attempted_files.len(), zip.encrypted), (2, 1, false));
    assert_eq!(files[0].exif().zip_file_name(), Some("c.zip.gz"));
    assert_eq!(files[3].javascript().unwrap().identifiers, ["a", "document", "b"]);
    let tight = ContentLimits { max_depth: 1, ..ContentLimits::default() };
    let outer = Bytes::from(pack(&[("c.zip", &pack(&[("a", b"1")]))]));
    let files = explode_file("o.zip", "", outer.clone(), &tight);
    assert!(files.len() == 2 && files[1].is(Trait::TooDeep));
    let tight = ContentLimits { max_work_bytes: outer.len() + 1, ..ContentLimits::default() };
    let files = explode_file("o.zip", "", outer, &tight);
    assert!(files.len() == 2 && files[1].is(Trait::Cut));
}

#[test]
fn an_office_file() {
    let rels = b"<Relationships><Relationship Type=\"http://s/oleObject\" Target=\"mhtml:http://x.example/a!x\" \
        TargetMode=\"External\"/></Relationships>";
    let bytes = pack(&[
        ("[Content_Types].xml", b"<?xml version='1.0'?><Types/>"),
        (
            "word/document.xml",
            b"<?xml version='1.0'?><w:document><w:p><w:t>See https://y.example/</w:t></w:p></w:document>",
        ),
        ("word/_rels/document.xml.rels", rels),
        ("docProps/core.xml", b"<c><dc:creator>root</dc:creator></c>"),
    ]);
    let files = open("a.docx", bytes);
    assert_eq!((files[0].file_type_name(), files[0].kind), ("docx", FileType::OfficeXml));
    assert_eq!(files[0].docx().and_then(|office| office.author()), Some("root"));
    assert_eq!(files[0].exif().get("Creator"), Some("root"));
    let ole = files[0].oletools().unwrap();
    assert_eq!((ole.relationships[0].name.as_str(), ole.external_relationships), ("oleObject", 1));
    assert_eq!(ole.relationships[0].target, "mhtml:http://x.example/a!x");
    assert_eq!((ole.vba_macros.exists, ole.vba_macros.risk, ole.encryption), (false, "none", false));
    assert_eq!(files[0].urls().urls, ["mhtml:http://x.example/a!x", "https://y.example/"]);
    let relations = files.iter().find(|file| file.name.ends_with(".rels")).unwrap();
    assert!(relations.strings().any(|run| run.contains("oleObject")));
    assert!(files.iter().any(|file| file.name == "text" && file.text() == Some("See https://y.example/\n")));
}

#[test]
fn a_page_and_a_picture() {
    let text = "<html><title>Sign in</title><script>var x = atob('aGk=');</script><a href='https://h.example/'>go</a>\
        <img src='data:image/gif;base64,R0lGODlhAQACAAAAACw='></html>";
    let files = open("a.html", text.as_bytes().to_vec());
    let page = files[0].html().unwrap();
    assert_eq!((page.title.as_deref(), page.scripts.len()), (Some("Sign in"), 1));
    assert_eq!(files[0].javascript().unwrap().strings, ["aGk="]);
    assert_eq!(files[0].urls().urls, ["https://h.example/"]);
    assert_eq!((files[0].mime(), files[0].file_type_name()), ("text/html", "html"));
    assert_eq!(names(&files)[1..], [(Some(0), 1, "script_0"), (Some(0), 1, "")]);
    assert_eq!((files[2].file_type_name(), files[2].exif().image_height()), ("gif", Some(2)));
    let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert_eq!(explode_file("a.html", "", wide.into(), &ContentLimits::default())[0].text(), Some(text));
}

#[test]
fn mail_and_calendar() {
    let mail = "From: a@a.example\nSubject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\
        Content-Type: text/calendar; name=a.ics\nContent-Disposition: attachment; filename=a.ics\n\nBEGIN:VCALENDAR\n\
        BEGIN:VEVENT\nUID:1\nDESCRIPTION:https://c.exam\n ple/\\nbye\nEND:VEVENT\nEND:VCALENDAR\n--b--\n";
    let files = explode_file("a.eml", "message/rfc822", mail.into(), &ContentLimits::default());
    assert_eq!((files[0].file_type_name(), files[0].mime()), ("eml", "message/rfc822"));
    assert_eq!(names(&files)[1], (Some(0), 1, "a.ics"));
    assert_eq!(files[1].ics().unwrap()[0].events().next().and_then(|event| event.uid()), Some("1"));
    assert_eq!(files[1].urls().urls, ["https://c.example/"]);
}

/// All PDF files of a message are read with one allowance: what is beyond it is a finding of that file.
#[test]
fn work_on_pdf_is_bounded_for_a_message() {
    let sample: Bytes = sample_pdf().into();
    let read = |limits: &ContentLimits| {
        let means = Means::new(limits, None);
        [(); 3].map(|()| {
            let files = explode_file_with("a.pdf", "", sample.clone(), limits, &means, &|| false);
            (files[0].is(Trait::Cut), files[0].is(Trait::Broken), files.len())
        })
    };
    let whole = read(&ContentLimits::default());
    assert!(whole[0].2 > 1 && whole.iter().all(|one| *one == (false, false, whole[0].2)), "{whole:?}");
    // The least with which one file is whole; with as much again and half, two are not.
    let of = |max_pdf_bytes| ContentLimits { max_pdf_bytes, ..ContentLimits::default() };
    let one = (1..200).map(|n| n * 512).find(|bytes| !read(&of(*bytes))[0].0).unwrap();
    let [first, second, third] = read(&of(one * 3 / 2));
    assert!(!first.0 && second.0 && third.0 && !second.1 && !third.1);
    assert_eq!(read(&of(0)).map(|one| (one.0, one.1)), [(true, false); 3]);
}

/// Tens of thousands of object streams, each small and growing a thousandfold, share what one PDF may take.
#[test]
fn many_growing_object_streams() {
    let object = stream("/Type/ObjStm/N 1/First 4", &[b' '; 1 << 20]);
    let bytes = pdf(&vec![object; 400], "");
    let limits = ContentLimits { max_pdf_bytes: 8 << 20, ..ContentLimits::default() };
    let files = explode_file("a.pdf", "", bytes.into(), &limits);
    assert_eq!(files[0].kind, FileType::Pdf);
}

#[test]
fn files_are_opened_while_there_is_time() {
    let members: Vec<(String, &[u8])> = (0..9).map(|n| (format!("{n}.txt"), &b"text"[..])).collect();
    let members: Vec<(&str, &[u8])> = members.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let limits = ContentLimits::default();
    let asked = std::cell::Cell::new(0);
    let late = || asked.replace(asked.get() + 1) >= 4;
    let means = Means::new(&limits, None);
    let files = explode_file_with("a.zip", "", pack(&members).into(), &limits, &means, &late);
    let cut: Vec<bool> = files.iter().map(|file| file.is(Trait::Cut)).collect();
    assert_eq!(cut, [vec![false; 4], vec![true; 6]].concat());
}
