//! What a file's name says: extension, and the tricks played with names.
//!
//! Lists are of Windows' and common desktops' habits: what a double click runs. Not here: what the bytes say.

use super::FileType;

/// A double click runs it.
const PROGRAMS: &[&str] = &[
    "exe",
    "scr",
    "com",
    "pif",
    "cpl",
    "msi",
    "msp",
    "dll",
    "sys",
    "jar",
    "apk",
    "app",
    "gadget",
    "application",
    "appx",
    "msix",
    "appinstaller",
    "xll",
    "reg",
];

/// A double click hands it to an interpreter.
const SCRIPTS: &[&str] = &[
    "js",
    "jse",
    "vbs",
    "vbe",
    "wsf",
    "wsh",
    "wsc",
    "sct",
    "hta",
    "ps1",
    "psm1",
    "bat",
    "cmd",
    "sh",
    "py",
    "chm",
    "cmdline",
    "command",
    "library-ms",
    "settingcontent-ms",
];

const SHORTCUTS: &[&str] = &["lnk", "url", "website", "scf", "desktop", "search-ms"];

const IMAGES_OF_DISKS: &[&str] = &["iso", "img", "vhd", "vhdx", "dmg", "udf"];

/// Extensions that look harmless in front of another one.
const HARMLESS: &[&str] = &[
    "pdf", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "txt", "rtf", "jpg", "jpeg", "png", "gif", "mp3", "mp4", "htm",
    "html", "zip", "csv", "wav", "eml",
];

/// The last extension in lower case, trailing dots and blanks aside.
pub(super) fn extension(name: &str) -> Option<String> {
    let name = name.trim_end_matches(['.', ' ']);
    let (stem, extension) = name.rsplit_once('.')?;
    let plausible = !extension.is_empty() && extension.len() <= 20 && !stem.is_empty();
    plausible.then(|| extension.trim().to_lowercase())
}

pub(super) fn is_script(name: &str) -> bool {
    in_list(name, SCRIPTS)
}

pub(super) fn is_program(name: &str) -> bool {
    in_list(name, PROGRAMS)
}

pub(super) fn is_shortcut(name: &str) -> bool {
    in_list(name, SHORTCUTS)
}

pub(super) fn is_disk_image(name: &str) -> bool {
    in_list(name, IMAGES_OF_DISKS)
}

fn in_list(name: &str, list: &[&str]) -> bool {
    extension(name).is_some_and(|e| list.contains(&e.as_str()))
}

/// `invoice.pdf.exe`, also with blanks in between: a harmless extension in front of one that runs.
pub(super) fn is_double(name: &str) -> bool {
    let runs = is_program(name) || is_script(name) || is_shortcut(name);
    let inner = name.trim_end_matches(['.', ' ']).rsplit_once('.').map_or("", |(stem, _)| stem.trim_end());
    runs && extension(inner).is_some_and(|e| HARMLESS.contains(&e.as_str()))
}

/// A right-to-left override or similar: the name is shown in another order than it stands.
pub(super) fn is_reordered(name: &str) -> bool {
    name.contains(['\u{202a}', '\u{202b}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}'])
}

/// A path out of the folder it is unpacked to.
pub(super) fn is_traversal(name: &str) -> bool {
    let absolute = name.starts_with(['/', '\\']) || name.as_bytes().get(1) == Some(&b':');
    absolute || name.split(['/', '\\']).any(|piece| piece == "..")
}

/// Whether the name promises another kind of file than the bytes are, in a way that misleads.
pub(super) fn misleads(name: &str, found: FileType) -> bool {
    let Some(extension) = extension(name) else { return false };
    let promises = match extension.as_str() {
        "pdf" => FileType::Pdf,
        "jpg" | "jpeg" | "png" | "gif" | "bmp" | "webp" => FileType::Image,
        "docx" | "xlsx" | "pptx" => FileType::OfficeXml,
        "mp3" | "wav" | "mp4" => FileType::Media,
        "txt" | "csv" | "log" => FileType::Text,
        _ => return false,
    };
    let dangerous = found.is_runnable()
        || found.is_archive()
        || matches!(found, FileType::Html | FileType::Svg | FileType::DiskImage | FileType::OneNote);
    // Encrypted Office files are compound files.
    dangerous && promises != found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(extension("a.b.EXE. "), Some("exe".to_owned()));
        assert_eq!(extension(".bashrc"), None);
        assert_eq!(extension("none"), None);
        for name in ["invoice.pdf.exe", "a.doc      .js", "a.jpg.lnk", "x.PDF.ScR"] {
            assert!(is_double(name), "{name}");
        }
        for name in ["a.tar.gz", "a.exe", "jquery.min.js", "v1.2.pdf", "pdf.exe", "a.min.js"] {
            assert!(!is_double(name), "{name}");
        }
        assert!(is_reordered("a\u{202e}fdp.exe") && !is_reordered("a.pdf"));
        for name in ["../a", "/etc/passwd", "C:\\a", "a/../../b", "a\\..\\b"] {
            assert!(is_traversal(name), "{name}");
        }
        assert!(!is_traversal("a/b..c/d"));
        assert!(misleads("a.pdf", FileType::Executable) && misleads("a.pdf", FileType::Html));
        assert!(
            !misleads("a.pdf", FileType::Pdf)
                && !misleads("a.docx", FileType::Ole)
                && !misleads("a.html", FileType::Text)
        );
        assert!(!misleads("a.png", FileType::Image) && !misleads("a.txt", FileType::Text));
    }
}
