//! YARA rules: from the paths of the settings to what runs. At start and on reload; whole or not at all.

use anyhow::{Context, bail};

use super::rules::{gather, read_bounded};
use crate::content::{Yara, YaraConfig, YaraSource};
use crate::observe::event;
use crate::policy::mql::{Capability, Needs};

/// Reads and compiles them; `None` when no path is set.
///
/// # Errors
/// Names the path that cannot be read, or file, line and column of the first mistake.
pub(super) fn load(config: &YaraConfig) -> anyhow::Result<Option<Yara>> {
    if config.paths.is_empty() {
        return Ok(None);
    }
    let mut texts = Vec::new();
    for path in &config.paths {
        let mut files = Vec::new();
        let left = config.max_rule_files.saturating_sub(texts.len());
        gather(path, &["yar", "yara"], left, &mut files)
            .with_context(|| format!("inspection.yara.paths: {} (inspection.yara.max_rule_files)", path.display()))?;
        for file in files {
            let Some(bytes) = read_bounded(&file, config.max_rule_file_bytes)? else {
                bail!("{}: larger than inspection.yara.max_rule_file_bytes", file.display());
            };
            // Old rule files have authors' names in Latin 1; patterns are ASCII.
            texts.push((file.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    let sources: Vec<YaraSource<'_>> = texts.iter().map(|(name, text)| YaraSource { name, text }).collect();
    let yara = Yara::compile(&sources, config).context("inspection.yara.paths")?;
    tracing::info!(event = event::SYSTEM, files = sources.len(), rules = yara.rules(), "YARA rules loaded");
    Ok(Some(yara))
}

/// What they give to rules in MQL, with these settings.
pub(super) fn given(config: &YaraConfig) -> Needs {
    if config.paths.is_empty() { Needs::NONE } else { Needs::of(Capability::Yara) }
}

/// What tells apart two sets of rules, for records: the start of the digest.
pub(super) fn digest(yara: &Yara) -> String {
    let start = yara.digest().iter().take(8).map(|byte| format!("{byte:02x}"));
    std::iter::once("+".to_owned()).chain(start).collect()
}
