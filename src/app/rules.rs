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

use crate::observe::event;
use crate::policy::mql::Needs;
use crate::policy::{
    BUILT_IN_FEED, BUILT_IN_RULES, Config, Feed, FeedConfig, ListFile, Lists, NamedListsConfig, Organisation,
    RuleError, RuleFile, RuleMode, RuleSet, RuleWeights, RulesConfig, list_name, manifest,
};

/// Folders inside one another that are read.
const MAX_DEPTH: usize = 16;
/// Most files of one folder of lists, others than lists counted too.
const MAX_LIST_FILES: usize = 10_000;
/// Largest manifest of lists, in bytes.
const MAX_MANIFEST_BYTES: u64 = 8 << 20;

/// Rules as read, not yet compiled.
pub(super) struct Sources {
    /// Files with their feeds.
    pub files: Vec<(Arc<Feed>, RuleFile)>,
    /// All named lists.
    pub lists: Arc<Lists>,
    /// Files that cannot be read as rules.
    pub broken: Vec<RuleError>,
}

/// Where rules come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Feeds<'a> {
    /// The feeds of the settings, and our own rules.
    Configured,
    /// Only these: to look at rules that are not configured.
    Only(&'a [FeedConfig]),
}

/// Reads rules and the configured lists.
///
/// # Errors
/// A folder that cannot be read, a broken list, too many files.
pub(super) fn read_rules(feeds: Feeds<'_>, config: &Config) -> anyhow::Result<Sources> {
    let (paths, own) = match feeds {
        Feeds::Configured => (config.rules.paths.as_slice(), true),
        Feeds::Only(paths) => (paths, false),
    };
    let (mut files, broken) = read_feeds(paths, &config.rules)?;
    if own {
        add_built_in(&mut files);
    }
    let lists = read_lists(config, &folded_names(&files))?;
    Ok(Sources { files, lists: Arc::new(lists), broken })
}

/// Reads rules and compiles them; services give what is `given`. The second value names those that are broken and were left out.
///
/// # Errors
/// As [`read_rules`].
pub(super) fn load_rules(
    feeds: Feeds<'_>,
    config: &Config,
    weights: &RuleWeights,
    given: Needs,
) -> anyhow::Result<(RuleSet, Vec<RuleError>)> {
    let Sources { files, lists, mut broken } = read_rules(feeds, config)?;
    let (rules, wrong) = RuleSet::build_with(files, lists, (&config.rules.modes, &config.rules.stages), weights, given);
    broken.extend(wrong);
    let feeds = if let Feeds::Configured = feeds { config.rules.paths.as_slice() } else { &[] };
    let feeds = feeds.iter().map(|feed| (feed_name(feed), feed.path.clone())).collect();
    Ok((rules.with_feeds(feeds), broken))
}

/// Our own rules. An operator's rule of the same id takes the place of ours.
fn add_built_in(files: &mut Files) {
    let feed = Arc::new(Feed::own(BUILT_IN_FEED, "built in"));
    let known: BTreeSet<String> = files.iter().map(|(_, file)| file.id.clone()).collect();
    for (name, text) in BUILT_IN_RULES {
        // A test holds that they load.
        if let Ok(file) = RuleFile::parse_in_feed(&format!("policies/rules/{name}"), name, text)
            && !known.contains(&file.id)
        {
            files.push((Arc::clone(&feed), file));
        }
    }
}

/// What tells apart two sets of rules: identities, sources, modes, the lists they ask. Empty without rules.
pub(super) fn digest(rules: &RuleSet) -> String {
    if rules.rules().is_empty() {
        return String::new();
    }
    let mut digest = Sha256::new();
    digest.update(rules.engine().lists().digest());
    for rule in rules.rules() {
        digest.update(&rule.file.id);
        digest.update([0, rule.mode as u8]);
        digest.update(&rule.file.source);
        digest.update([0]);
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Lists that rules name and nobody configured. Our own rules ask for lists of the organisation, which need not be there.
pub(super) fn missing_lists(rules: &RuleSet) -> BTreeSet<String> {
    let programs = rules.rules().iter().zip(rules.engine().programs());
    let others = programs.filter(|(rule, _)| rule.feed.name != BUILT_IN_FEED);
    others.flat_map(|(_, program)| program.missing_lists().iter().cloned()).collect()
}

type Files = Vec<(Arc<Feed>, RuleFile)>;

fn read_feeds(feeds: &[FeedConfig], config: &RulesConfig) -> anyhow::Result<(Files, Vec<RuleError>)> {
    let (mut files, mut problems) = (Files::new(), Vec::new());
    let mut known: HashMap<String, String> = HashMap::new();
    let mut count = 0;
    for settings in feeds {
        let feed = Arc::new(feed(settings));
        let mut paths = Vec::new();
        gather(&settings.path, &["yml", "yaml"], config.max_files - count, &mut paths)
            .with_context(|| format!("policy.rules.paths: {} (policy.rules.max_files)", settings.path.display()))?;
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
            match RuleFile::parse_in_feed(&label, &within(&settings.path, &path), &text) {
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

/// The path of a file within its feed, with `/` between folders; a feed of one file gives the file's name.
fn within(feed: &Path, file: &Path) -> String {
    let inner = file.strip_prefix(feed).ok().filter(|inner| !inner.as_os_str().is_empty());
    let parts: Vec<_> = match inner {
        Some(inner) => inner.iter().map(|part| part.to_string_lossy()).collect(),
        None => file.file_name().map(|name| name.to_string_lossy()).into_iter().collect(),
    };
    parts.join("/")
}

/// The name of a feed: its own, else its folder's.
fn feed_name(settings: &FeedConfig) -> String {
    let folder = || settings.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if settings.name.is_empty() { folder() } else { settings.name.clone() }
}

fn feed(settings: &FeedConfig) -> Feed {
    let name = feed_name(settings);
    Feed { name, label: settings.path.display().to_string(), default_mode: settings.mode }
}

/// Other YAML lies about in folders of rules; what has neither a name nor a source is no broken rule.
pub(super) fn looks_like_rule(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').lines().any(|line| line.starts_with("name:") || line.starts_with("source:"))
}

/// All rule files below these paths.
///
/// # Errors
/// A folder that cannot be read, too many files.
pub(super) fn rule_files(paths: &[PathBuf], max_files: usize) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let mut below = Vec::new();
        gather(path, &["yml", "yaml"], max_files.saturating_sub(files.len()), &mut below)?;
        files.extend(below);
    }
    Ok(files)
}

/// All rule files below a path, in order of their names.
pub(super) fn gather(path: &Path, kinds: &[&str], max_files: usize, into: &mut Vec<PathBuf>) -> anyhow::Result<()> {
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
            } else if below.extension().is_some_and(|ending| kinds.iter().any(|kind| ending == *kind))
                && below.is_file()
            {
                if into.len() >= max_files {
                    bail!("more rule files than there may be");
                }
                into.push(below);
            }
        }
    }
    into.sort();
    Ok(())
}

/// The text of a file, or what is wrong with it.
pub(super) fn read_text(path: &Path, max_bytes: u64) -> anyhow::Result<Result<String, String>> {
    let bytes = read_bounded(path, max_bytes)?;
    Ok(match bytes {
        None => Err(format!("more than {max_bytes} bytes: raise policy.rules.max_file_bytes")),
        Some(bytes) => String::from_utf8(bytes).map_err(|_| "not UTF-8: write the file anew as UTF-8".to_owned()),
    })
}

/// The bytes of a file; `None` when it has more than that.
pub(super) fn read_bounded(path: &Path, max_bytes: u64) -> anyhow::Result<Option<Vec<u8>>> {
    let cannot = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    let file = fs::File::open(path).with_context(cannot)?;
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).with_context(cannot)?;
    Ok((bytes.len() as u64 <= max_bytes).then_some(bytes))
}

/// Lists that some rule asks without regard to case: `in~ $name`.
fn folded_names(files: &[(Arc<Feed>, RuleFile)]) -> BTreeSet<String> {
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

/// The named lists of these settings for these rules.
///
/// # Errors
/// A folder that cannot be read, a broken list.
pub(super) fn lists_for(config: &Config, files: &[(Arc<Feed>, RuleFile)]) -> anyhow::Result<Lists> {
    read_lists(config, &folded_names(files))
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

/// What became of the rules of the settings.
#[derive(Debug)]
pub(super) struct RuleReport {
    enforced: usize,
    shadow: usize,
    broken: Vec<RuleError>,
    missing_lists: BTreeSet<String>,
    /// What nobody would do.
    undone: Vec<String>,
}

impl RuleReport {
    pub(super) fn new(rules: &RuleSet, broken: Vec<RuleError>) -> Self {
        let of = |mode| rules.rules().iter().filter(|rule| rule.mode == mode).count();
        let (enforced, shadow) = (of(RuleMode::Enforce), of(RuleMode::Shadow));
        Self { enforced, shadow, broken, missing_lists: missing_lists(rules), undone: Vec::new() }
    }

    /// The same with what nobody would do with these settings.
    pub(super) fn with_undone(self, undone: Vec<String>) -> Self {
        Self { undone, ..self }
    }

    /// Says it in the log.
    pub(super) fn log(&self) {
        let Self { enforced, shadow, broken, missing_lists, undone } = self;
        undone.iter().for_each(|what| tracing::warn!(event = event::SYSTEM, "{what}"));
        for error in broken {
            tracing::warn!(event = event::SYSTEM, %error, "a rule is left out");
        }
        tracing::info!(event = event::SYSTEM, enforced, shadow, left_out = broken.len(), "rules loaded");
        if !missing_lists.is_empty() {
            tracing::warn!(
                event = event::SYSTEM,
                lists = ?missing_lists, "rules name lists that are not configured: what hangs on them is undecided"
            );
        }
    }

    /// What is wrong, for people: each rule that is left out with its place and mend, then the lists that are not there.
    pub(super) fn warnings(&self) -> Vec<String> {
        let left_out = self.broken.iter().map(|error| format!("a rule is left out: {error}"));
        let missing = (!self.missing_lists.is_empty()).then(|| {
            let names: Vec<&str> = self.missing_lists.iter().map(String::as_str).collect();
            format!(
                "rules name lists that are not configured, what hangs on them is undecided: ${} (put NAME.txt into a folder of policy.named_lists.paths)",
                names.join(", $")
            )
        });
        self.undone.iter().cloned().chain(left_out).chain(missing).collect()
    }
}
