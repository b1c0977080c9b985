//! `conf/mailweir.toml` names every key, with its default.

use std::os::unix::fs::symlink;
use std::path::Path;

use mailweir::app::config::{Config, load};

use crate::support::gateway::Gateway;

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

/// As Kubernetes mounts a ConfigMap: the file is a link into a folder that is a link itself, and that one is replaced.
#[tokio::test]
async fn a_config_map_is_reloaded_each_time() {
    let gateway = Gateway::prepare(([127, 0, 0, 1], 9).into(), "[log]\nlevel = \"info\"\n");
    let file = gateway.file();
    let folder = file.parent().unwrap().to_owned();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let version = |number: u32| {
        let name = format!("..{number}");
        std::fs::create_dir(folder.join(&name)).unwrap();
        let text = format!("{text}\n[policy.default]\ntag_at = {}.0\n", 40 + number);
        std::fs::write(folder.join(&name).join("mailweir.toml"), text).unwrap();
        symlink(&name, folder.join("..data_tmp")).unwrap();
        std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    version(0);
    symlink("..data/mailweir.toml", &file).unwrap();
    gateway.start_worker();
    let until = async |what: &str, count: usize| {
        let end = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        while gateway.log().matches(what).count() < count {
            assert!(tokio::time::Instant::now() < end, "not {count} times `{what}`:\n{}", gateway.log());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    until("worker\n  queue", 1).await;
    for number in 1..=3 {
        version(number);
        std::fs::remove_dir_all(folder.join(format!("..{}", number - 1))).unwrap();
        until("configuration reloaded", number as usize).await;
        until(&format!("{}.0", 40 + number), 1).await;
    }
    assert!(gateway.terminate().await.success(), "{}", gateway.log());
}
