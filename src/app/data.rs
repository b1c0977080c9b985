//! The data folder: its keys and tokens, made on first start, readable by nobody else.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::config::Config;
use crate::records::PassKey;

/// Makes the data folder if need be (mode 0700).
pub(super) fn prepare(config: &Config) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data)
        .with_context(|| format!("cannot make the data folder {}: choose another with --data", config.data.display()))
}

/// Where the admin token is.
pub(super) fn token_file(config: &Config) -> PathBuf {
    config.http.token_file.clone().unwrap_or_else(|| config.data.join("admin.token"))
}

/// The admin token; made on first start.
pub(super) fn admin_token(config: &Config) -> anyhow::Result<String> {
    let token = secret(&token_file(config))?;
    if token.len() < 16 {
        bail!("the admin token in {} is too short: 16 characters at least", token_file(config).display());
    }
    Ok(token)
}

/// The token for metrics and health; made on first start.
pub(super) fn metrics_token(config: &Config) -> anyhow::Result<String> {
    let file = config.http.metrics_token_file.clone().unwrap_or_else(|| config.data.join("metrics.token"));
    let token = secret(&file)?;
    if token.len() < 16 {
        bail!("the token of metrics in {} is too short: 16 characters at least", file.display());
    }
    Ok(token)
}

/// The key of release passes; made on first start.
pub(super) fn pass_key(config: &Config) -> anyhow::Result<PassKey> {
    let file = config.release.key_file.clone().unwrap_or_else(|| config.data.join("release.key"));
    let text = secret(&file)?;
    let byte = |at: usize| text.get(at * 2..at * 2 + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let mut key = [0; 32];
    for (at, place) in key.iter_mut().enumerate() {
        *place = byte(at).with_context(|| format!("{}: 64 hexadecimal digits are expected", file.display()))?;
    }
    Ok(PassKey::new(key))
}

/// The secret in a file; a new one of 32 bytes, in hexadecimal digits, when there is none yet.
fn secret(file: &Path) -> anyhow::Result<String> {
    let cannot = |what: &str| format!("cannot {what} {}", file.display());
    match fs::read_to_string(file) {
        Ok(text) => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| cannot("read"));
        }
        Err(_) => {}
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut new) => {
            writeln!(new, "{text}").and_then(|()| new.sync_all()).with_context(|| cannot("write"))?;
            Ok(text)
        }
        // Somebody else made it at the same moment: theirs counts.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Ok(fs::read_to_string(file).with_context(|| cannot("read"))?.trim().to_owned())
        }
        Err(error) => Err(error).with_context(|| cannot("write")),
    }
}
