//! Rules and named lists: from folders to what runs. Used at start, on reload, by `scan` and by `mailweir rules`.
//!
//! A folder that cannot be read, a list that is broken and too many files are errors: nothing is replaced then. A rule that is
//! broken is left out and named; the others load. Hidden files and folders are passed over, and links to folders, which may
//! lead round in a circle. Not here: what rules and lists mean (`policy`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use crate::policy::{
    Config, Feed, FeedConfig, ListFile, Lists, NamedListsConfig, Organisation, RuleError, RuleFile, RuleMode, RuleSet,
    RuleWeights, RulesConfig, list_name, manifest,
};

/// Folders inside one another that are read.
const MAX_DEPTH: usize = 16;
/// Most files of one folder of lists, others than lists counted too.
const MAX_LIST_FILES: usize = 10_000;
/// Largest manifest of lists, in bytes.
const MAX_MANIFEST_BYTES: u64 = 8 << 20;

/// Reads these feeds and the configured lists, and compiles the rules. The feeds of the settings are
/// `config.rules.paths`; others may be given to look at rules that are not configured. The second value names the rules
/// that are broken and were left out.
///
/// # Errors
/// A folder that cannot be read, a broken list, too many files.
pub(super) fn load_rules(
    feeds: &[FeedConfig],
    config: &Config,
    weights: &RuleWeights,
) -> anyhow::Result<(RuleSet, Vec<RuleError>)> {
    let (files, mut problems) = read_feeds(feeds, &config.rules)?;
    let lists = if files.is_empty() && config.named_lists.paths.is_empty() {
        Lists::default()
    } else {
        read_lists(config, &folded_names(&files))?
    };
    let (rules, broken) = RuleSet::build(files, Arc::new(lists), &config.rules.modes, weights);
    problems.extend(broken);
    Ok((rules, problems))
}

/// What tells apart two sets of rules: identities, sources, modes. Empty without rules.
pub(super) fn digest(rules: &RuleSet) -> String {
    if rules.rules().is_empty() {
        return String::new();
    }
    let mut digest = Sha256::new();
    for rule in rules.rules() {
        digest.update(&rule.file.id);
        digest.update([0, rule.mode as u8]);
        digest.update(&rule.file.source);
        digest.update([0]);
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Lists that rules name and nobody configured.
pub(super) fn missing_lists(rules: &RuleSet) -> BTreeSet<String> {
    rules.engine().programs().iter().flat_map(|program| program.missing_lists().iter().cloned()).collect()
}

type Files = Vec<(Arc<Feed>, RuleFile)>;

fn read_feeds(feeds: &[FeedConfig], config: &RulesConfig) -> anyhow::Result<(Files, Vec<RuleError>)> {
    let (mut files, mut problems) = (Files::new(), Vec::new());
    let mut known: HashMap<String, String> = HashMap::new();
    let mut count = 0;
    for settings in feeds {
        let feed = Arc::new(feed(settings));
        let mut paths = Vec::new();
        gather(&settings.path, config.max_files - count, &mut paths)
            .with_context(|| format!("policy.rules.paths: {}", settings.path.display()))?;
        count += paths.len();
        for path in paths {
            let label = path.display().to_string();
            let problem = |reason: String| RuleError { file: label.clone(), line: 1, column: 1, reason };
            let text = match read_text(&path, config.max_file_bytes)? {
                Ok(text) => text,
                Err(reason) => {
                    problems.push(problem(reason));
                    continue;
                }
            };
            match RuleFile::parse(&label, &text) {
                Err(_) if !looks_like_rule(&text) => {}
                Err(error) => problems.push(error),
                Ok(file) => match known.get(&file.id) {
                    Some(first) => problems.push(problem(format!("id {} is that of {first} already", file.id))),
                    None => {
                        known.insert(file.id.clone(), label);
                        files.push((Arc::clone(&feed), file));
                    }
                },
            }
        }
    }
    Ok((files, problems))
}

fn feed(settings: &FeedConfig) -> Feed {
    let folder = || settings.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = if settings.name.is_empty() { folder() } else { settings.name.clone() };
    Feed { name, label: settings.path.display().to_string(), default_mode: settings.mode }
}

/// Other YAML lies about in folders of rules; what has neither a name nor a source is no broken rule.
fn looks_like_rule(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').lines().any(|line| line.starts_with("name:") || line.starts_with("source:"))
}

/// All rule files below a path, in order of their names.
fn gather(path: &Path, max_files: usize, into: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let cannot = |path: &Path| format!("cannot read {}", path.display());
    if !fs::metadata(path).with_context(|| cannot(path))?.is_dir() {
        into.push(path.to_owned());
        return Ok(());
    }
    let mut folders = vec![(path.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| cannot(&folder))? {
            let entry = entry.with_context(|| cannot(&folder))?;
            let below = entry.path();
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            if entry.file_type().with_context(|| cannot(&below))?.is_dir() {
                if depth < MAX_DEPTH {
                    folders.push((below, depth + 1));
                }
            } else if below.extension().is_some_and(|ending| ending == "yml" || ending == "yaml") && below.is_file() {
                if into.len() >= max_files {
                    bail!("more rule files than policy.rules.max_files");
                }
                into.push(below);
            }
        }
    }
    into.sort();
    Ok(())
}

/// The text of a file, or what is wrong with it.
fn read_text(path: &Path, max_bytes: u64) -> anyhow::Result<Result<String, String>> {
    let bytes = read_bounded(path, max_bytes)?;
    Ok(match bytes {
        None => Err(format!("more than {max_bytes} bytes: raise policy.rules.max_file_bytes")),
        Some(bytes) => String::from_utf8(bytes).map_err(|_| "not UTF-8: write the file anew as UTF-8".to_owned()),
    })
}

/// The bytes of a file; `None` when it has more than that.
fn read_bounded(path: &Path, max_bytes: u64) -> anyhow::Result<Option<Vec<u8>>> {
    let cannot = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    let file = fs::File::open(path).with_context(cannot)?;
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).with_context(cannot)?;
    Ok((bytes.len() as u64 <= max_bytes).then_some(bytes))
}

/// Lists that some rule asks without regard to case: `in~ $name`.
fn folded_names(files: &Files) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, file) in files {
        for after in file.source.split("in~").skip(1) {
            let list = after.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
            if let Some(name) = list.strip_prefix('$') {
                let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
                names.insert(name[..end].to_owned());
            }
        }
    }
    names
}

fn read_lists(config: &Config, folded: &BTreeSet<String>) -> anyhow::Result<Lists> {
    let NamedListsConfig { paths, max_list_bytes, display_names, tenant_domains, brand_names } = &config.named_lists;
    let organisation = Organisation {
        display_names: display_names.clone(),
        tenant_domains: tenant_domains.clone(),
        brand_names: brand_names.clone(),
        ..Organisation::new(&config.own_domains, &config.vips)
    };
    let mut read = Vec::new();
    for folder in paths {
        let context = || format!("policy.named_lists.paths: {}", folder.display());
        read_list_folder(folder, *max_list_bytes, &mut read).with_context(context)?;
    }
    let files = read.iter().map(|(label, bytes, hint)| ListFile { label: label.clone(), bytes, hint: hint.clone() });
    Lists::build(&organisation, files, *max_list_bytes, |name| folded.contains(name)).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("policy.named_lists: {}", lines.join("\n"))
    })
}

type ReadList = (String, Vec<u8>, Option<crate::policy::ListHint>);

fn read_list_folder(folder: &Path, max_list_bytes: usize, into: &mut Vec<ReadList>) -> anyhow::Result<()> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).context("cannot read the folder")? {
        paths.push(entry.context("cannot read the folder")?.path());
        if paths.len() > MAX_LIST_FILES {
            bail!("more than {MAX_LIST_FILES} files");
        }
    }
    paths.sort();
    let about = folder.join("manifest.json");
    let mut hints = BTreeMap::new();
    if about.is_file() {
        let Some(json) = read_bounded(&about, MAX_MANIFEST_BYTES)? else { bail!("manifest.json is too large") };
        hints = manifest(&about.display().to_string(), &json)?;
    }
    for path in paths {
        let label = path.display().to_string();
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if file.starts_with('.') || list_name(&label).is_none() || !path.is_file() {
            continue;
        }
        let Some(bytes) = read_bounded(&path, max_list_bytes as u64)? else {
            bail!("{file} has more than {max_list_bytes} bytes: raise policy.named_lists.max_list_bytes");
        };
        into.push((label, bytes, hints.get(&file).cloned()));
    }
    Ok(())
}

/// Says in the log what was loaded and what was not.
pub(super) fn report(rules: &RuleSet, broken: &[RuleError]) {
    for error in broken {
        tracing::warn!(%error, "a rule is left out");
    }
    if rules.rules().is_empty() && broken.is_empty() {
        return;
    }
    let of = |mode| rules.rules().iter().filter(|rule| rule.mode == mode).count();
    let (enforced, shadow) = (of(RuleMode::Enforce), of(RuleMode::Shadow));
    tracing::info!(enforced, shadow, left_out = broken.len(), "rules loaded");
    let missing = missing_lists(rules);
    if !missing.is_empty() {
        tracing::warn!(lists = ?missing, "rules name lists that are not configured: what hangs on them is undecided");
    }
}
