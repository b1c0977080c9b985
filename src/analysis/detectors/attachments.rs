//! What is attached, from the traits that `content` found.

use crate::analysis::Code;
use crate::analysis::signal::Signals;
use crate::analysis::view::View;
use crate::content::{File, FileType, Trait, has_eicar};
use crate::mail::{Part, PartKind};

pub(super) fn detect(view: &View<'_>, out: &mut Signals) {
    for file in &view.files {
        runs(file, &view.files, out);
        documents(view, file, out);
        yara(file, out);
        pages(file, out);
    }
    for (name, word) in view.macros {
        out.add(Code::MacroRuns, 1.0, format!("{name}: {word}"));
    }
    // In the text of the message as well: that is where an operator writes it to try the gateway.
    let in_text = |p: &Part| matches!(p.kind, PartKind::Plain | PartKind::Html) && has_eicar(p.bytes());
    if view.files.iter().any(|f| f.is(Trait::Eicar)) || view.input.message.parts().iter().any(in_text) {
        out.add(Code::Eicar, 1.0, "");
    }
}

fn runs(file: &File, files: &[File], out: &mut Signals) {
    let packed =
        file.parent.and_then(|p| files.get(p)).is_some_and(|p| p.kind.is_archive() || p.kind == FileType::DiskImage);
    if file.is(Trait::Program) || file.is(Trait::ScriptFile) {
        // Source code is sent among programmers, also packed: a script alone is weaker than a program.
        let strength = if file.is(Trait::Program) || !is_source(file) { 1.0 } else { 0.3 };
        out.add(if packed { Code::ExecutableInArchive } else { Code::ExecutableAttached }, strength, &file.name);
    }
    for (is, code) in [
        (Trait::DoubleExtension, Code::DoubleExtension),
        (Trait::ReorderedName, Code::NameTrick),
        (Trait::Shortcut, Code::ShortcutAttached),
        (Trait::DiskImage, Code::DiskImageAttached),
        (Trait::TypeMismatch, Code::TypeMismatch),
    ] {
        if file.is(is) {
            out.add(code, 1.0, &file.name);
        }
    }
}

fn is_source(file: &File) -> bool {
    file.extension().is_some_and(|e| matches!(e.as_str(), "py" | "sh" | "command" | "js"))
}

fn documents(view: &View<'_>, file: &File, out: &mut Signals) {
    if file.is(Trait::Macros) {
        out.add(Code::MacroDocument, 1.0, &file.name);
    }
    if file.is(Trait::ExternalTemplate) {
        out.add(Code::ExternalTemplate, 1.0, &file.name);
    }
    if file.is(Trait::PdfLaunch) || (file.is(Trait::PdfScript) && file.is(Trait::PdfOpenAction)) {
        out.add(Code::ActivePdf, 1.0, &file.name);
    }
    if file.is(Trait::Encrypted) && file.parent.is_none() {
        // The password in the same letter: for the reader, not against a thief.
        let words =
            ["password", "passwort", "kennwort", "mot de passe", "contraseña", "senha", "pass:", "pwd", "code:"];
        let given = words.iter().any(|word| view.text.contains(word));
        out.add(Code::EncryptedAttachment, if given { 1.0 } else { 0.5 }, &file.name);
    }
    if file.is(Trait::PasswordGiven) {
        out.add(Code::PasswordOpens, 1.0, &file.name);
    }
    if [Trait::Bomb, Trait::TooDeep, Trait::TooManyMembers].iter().any(|what| file.is(*what)) {
        out.add(Code::Unscannable, 1.0, &file.name);
    }
}

/// What the operator's YARA rules say. A rule without a severity counts as one of medium.
fn yara(file: &File, out: &mut Signals) {
    for one in file.yara().map(|found| found.matches.as_slice()).unwrap_or_default() {
        let strength = match one.severity().as_deref() {
            Some("informational" | "info" | "none") => continue,
            Some("low") => 0.3,
            Some("high") => 0.85,
            Some("critical") => 1.0,
            _ => 0.6,
        };
        out.add(Code::YaraMatch, strength, format!("{} in {}", one.name, file.name));
    }
}

fn pages(file: &File, out: &mut Signals) {
    match file.kind {
        FileType::Html => {
            if file.parent.is_none() {
                out.add(Code::HtmlAttachment, if file.is(Trait::HtmlScript) { 1.0 } else { 0.5 }, &file.name);
            }
            if file.is(Trait::Smuggling) || file.is(Trait::EncodedScript) {
                out.add(Code::HtmlSmuggling, 1.0, &file.name);
            }
            if file.is(Trait::PasswordForm) {
                out.add(Code::HtmlCredentialForm, 1.0, &file.name);
            }
        }
        FileType::Svg if file.is(Trait::SvgScript) => out.add(Code::SvgScript, 1.0, &file.name),
        _ => {}
    }
}
