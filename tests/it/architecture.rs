//! Holds the code to the table of rooms: who may import whom, and what a pure room may not touch.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room, whether it is pure, and what it may import.
const ROOMS: &[(&str, bool, &[&str])] = &[
    ("observe", false, &[]),
    ("mail", true, &[]),
    ("protocol", true, &["mail"]),
    ("content", true, &["mail"]),
    ("analysis", true, &["mail", "content"]),
    ("policy", true, &["mail", "content", "analysis"]),
    ("egress", false, &["observe"]),
    ("deferred", false, &["observe"]),
    ("enrichment", false, &["observe", "mail", "content", "analysis", "egress"]),
    ("records", false, &["observe", "mail", "analysis", "policy"]),
    ("enforcement", false, &["observe", "mail", "policy", "egress", "deferred", "records"]),
    ("pipeline", false, &["observe", "mail", "content", "analysis", "policy", "deferred", "enrichment", "records"]),
    ("gateway", false, &["observe", "mail", "protocol", "policy", "deferred", "records", "pipeline"]),
    (
        "admin",
        false,
        &[
            "observe",
            "mail",
            "content",
            "analysis",
            "policy",
            "deferred",
            "enrichment",
            "records",
            "enforcement",
            "pipeline",
        ],
    ),
    (
        "app",
        false,
        &[
            "observe",
            "mail",
            "protocol",
            "content",
            "analysis",
            "policy",
            "egress",
            "deferred",
            "enrichment",
            "records",
            "enforcement",
            "pipeline",
            "gateway",
            "admin",
        ],
    ),
];

/// Words that a pure room does not say: runtime, sockets, files, clocks, chance, processes.
const IMPURE: &[&str] = &[
    "tokio",
    "std::net::Tcp",
    "std::net::Udp",
    "std::fs",
    "std::process",
    "std::thread",
    "::now()",
    "getrandom",
    "std::env",
];

const DRAWERS: &[&str] = &["util", "utils", "common", "core", "helper", "helpers", "types", "misc"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The code of a file without comments and without its tests at the end.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The rooms that a file names by `crate::room`, in braces too.
fn imports(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    let name = |text: &str| {
        text.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_owned()
    };
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut item = String::new();
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        rooms.insert(name(&item));
                        item.clear();
                        continue;
                    }
                    _ => {}
                }
                item.push(c);
            }
            rooms.insert(name(&item));
        } else {
            rooms.insert(name(rest));
        }
    }
    rooms
}

#[test]
fn rooms_import_only_what_they_may() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let known: BTreeSet<&str> = ROOMS.iter().map(|(name, ..)| *name).collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(&src).unwrap() {
        let room = entry.unwrap().path();
        if !room.is_dir() {
            continue;
        }
        let name = room.file_name().unwrap().to_str().unwrap().to_owned();
        let Some((_, pure, may)) = ROOMS.iter().find(|(n, ..)| *n == name) else {
            wrong.push(format!("src/{name} is no room of the table"));
            continue;
        };
        for file in sources(&room) {
            seen += 1;
            let shown = file.strip_prefix(&src).unwrap().display().to_string();
            let code = code(&file);
            for import in imports(&code) {
                if known.contains(import.as_str()) && import != name && !may.contains(&import.as_str()) {
                    wrong.push(format!("{shown} imports crate::{import}"));
                }
            }
            if *pure {
                wrong.extend(
                    IMPURE.iter().filter(|w| code.contains(**w)).map(|w| format!("{shown} is pure and says {w}")),
                );
            }
            let stem = file.file_stem().unwrap().to_str().unwrap();
            if DRAWERS.contains(&stem) {
                wrong.push(format!("{shown} is a drawer: give it the name of what it holds"));
            }
        }
    }
    assert!(seen > 100, "only {seen} files were looked at");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_opens_with_what_it_is() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (name, ..) in ROOMS {
        let Ok(text) = fs::read_to_string(src.join(name).join("mod.rs")) else { continue };
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(
            head.len() > 80 && (head.contains("mport")),
            "src/{name}/mod.rs does not say what it does and may import"
        );
    }
}

/// The check itself must be able to fail.
#[test]
fn imports_are_found() {
    let code = "use crate::mail::{Edit, Path};\nuse crate::{admin, policy::Judge, records::{A, B}};\nlet x = crate::gateway::tls::y();";
    let found: Vec<String> = imports(code).into_iter().collect();
    assert_eq!(found, ["admin", "gateway", "mail", "policy", "records"]);
}
