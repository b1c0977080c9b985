//! `conf/mailweir.toml` names every key, with its default.

use std::path::Path;

use mailweir::app::config::{Config, load};

fn reference() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/mailweir.toml");
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn the_reference_is_the_default() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/mailweir.toml");
    let loaded = load(Some(&file), None, std::iter::empty()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.config, Config::default());
}

/// The keys that a section knows, as it says when it is given one that it does not.
fn known_keys(section: &str) -> Vec<String> {
    let text = match section {
        "" => "unknown_key = 1\n".to_owned(),
        section if section.starts_with("[[") => format!("{section}\nunknown_key = 1\n"),
        section => format!("[{section}]\nunknown_key = 1\n"),
    };
    let message = toml::from_str::<Config>(&text).unwrap_err().message().to_owned();
    let expected = message.split_once("expected ").unwrap_or_else(|| panic!("{section}: {message}")).1;
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_reference_names_every_key() {
    let text = reference();
    let mut section = String::new();
    let mut named: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let line = line.trim_start_matches(['#', ' ']);
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_matches(['[', ']', ' ']).to_owned();
        } else if let Some((key, _)) = line.split_once(" = ") {
            named.push((section.clone(), key.to_owned()));
        }
    }
    let has = |section: &str, key: &str| {
        let below = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        named.iter().any(|(s, k)| (s == section && k == key) || *s == below || s.starts_with(&format!("{below}.")))
    };
    let mut missing = Vec::new();
    let mut looked_at = 0;
    let mut todo = vec![String::new()];
    while let Some(section) = todo.pop() {
        for key in known_keys(&section) {
            looked_at += 1;
            let plain = section.trim_matches(['[', ']']).to_owned();
            if !has(&plain, &key) {
                missing.push(format!("{plain}.{key}"));
            }
            let below = if plain.is_empty() { key } else { format!("{plain}.{key}") };
            if text.contains(&format!("[[{below}]]")) {
                todo.push(format!("[[{below}]]"));
            } else if text.contains(&format!("[{below}]")) {
                todo.push(below);
            }
        }
    }
    assert!(looked_at > 100, "only {looked_at} keys were looked at");
    assert!(missing.is_empty(), "conf/mailweir.toml does not name: {}", missing.join(", "));
}
