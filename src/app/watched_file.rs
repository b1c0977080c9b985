//! A file that is watched wherever its path leads: the folder of the path as given, and of each symbolic link on the way.
//!
//! Folders, not files: editors, package managers and Kubernetes (`mailweir.toml` → `..data/mailweir.toml`, `..data` → a folder of
//! this version) replace what they change. Where the path leads may be another place after each change: [`WatchedFile::renew`].
//! A change of a name on the way is told; whether the content is another one, whoever is told must see.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Links followed: what the kernel follows (path_resolution(7)).
const LINKS: usize = 40;

/// A watch; it ends when this is dropped.
pub(super) struct WatchedFile {
    file: PathBuf,
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
    names: Arc<Mutex<BTreeSet<OsString>>>,
}

impl WatchedFile {
    /// Tells each change, one at a time: what was not taken yet stands for all that follow. Watches once it is renewed.
    ///
    /// # Errors
    /// When the system watches nothing.
    pub(super) fn new(file: &Path, changed: mpsc::Sender<()>) -> notify::Result<Self> {
        let names: Arc<Mutex<BTreeSet<OsString>>> = Arc::default();
        let on_the_way = Arc::clone(&names);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            let names = on_the_way.lock().unwrap_or_else(PoisonError::into_inner);
            let named = |path: &PathBuf| path.file_name().is_some_and(|name| names.contains(name));
            let writes = event.kind.is_modify() || event.kind.is_create();
            if event.need_rescan() || (writes && event.paths.iter().any(named)) {
                // Full: it is told already.
                let _ = changed.try_send(());
            }
        })?;
        Ok(Self { file: file.to_owned(), watcher, folders: BTreeSet::new(), names })
    }

    /// Follows the path anew; to be called before the file is read. What is changed after that is told.
    ///
    /// # Errors
    /// When a folder on the way cannot be watched; the others are.
    pub(super) fn renew(&mut self) -> notify::Result<()> {
        let (folders, names) = way(&self.file).into_iter().unzip();
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        let gone: Vec<PathBuf> = self.folders.difference(&folders).cloned().collect();
        for folder in gone {
            // One that was removed is not watched any more.
            let _ = self.watcher.unwatch(&folder);
        }
        let mut watched = Ok(());
        for folder in &folders {
            // Those of before too: another folder may be there by now.
            watched = self.watcher.watch(folder, RecursiveMode::NonRecursive).and(watched);
        }
        self.folders = folders;
        watched
    }
}

/// Folders, and what in them leads to the file: each link on the way, and the file itself.
fn way(file: &Path) -> Vec<(PathBuf, OsString)> {
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut steps: VecDeque<OsString> = whole.components().map(|step| step.as_os_str().to_owned()).collect();
    let (mut at, mut found, mut links) = (PathBuf::new(), Vec::new(), 0);
    while let Some(step) = steps.pop_front() {
        if step == Component::ParentDir.as_os_str() {
            at.pop();
            continue;
        }
        let place = at.join(&step);
        match std::fs::read_link(&place) {
            Ok(target) if links < LINKS => {
                links += 1;
                found.push((at.clone(), step));
                // An absolute one begins with the root, and joining that forgets what was before.
                target.components().rev().for_each(|step| steps.push_front(step.as_os_str().to_owned()));
            }
            _ if steps.is_empty() => found.push((at.clone(), step)),
            _ => at = place,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_way_is_followed_link_by_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().canonicalize().unwrap();
        fs::create_dir_all(at.join("a/..1")).unwrap();
        fs::write(at.join("a/..1/f"), "").unwrap();
        symlink("..1", at.join("a/..data")).unwrap();
        symlink("..data/f", at.join("a/f")).unwrap();
        symlink(at.join("a"), at.join("b")).unwrap();
        symlink("round", at.join("round")).unwrap();
        let of = |path: &str| -> Vec<(PathBuf, String)> {
            way(&at.join(path)).into_iter().map(|(at, name)| (at, name.to_str().unwrap().to_owned())).collect()
        };
        let step = |folder: &str, name: &str| (at.join(folder), name.to_owned());
        let inside = [step("a", "f"), step("a", "..data"), step("a/..1", "f")];
        assert_eq!(of("a/f"), inside);
        assert_eq!(of("a/../a/./f"), inside);
        assert_eq!(of("b/f"), [&[(at.clone(), "b".to_owned())], &inside[..]].concat());
        assert_eq!(of("a/none"), [step("a", "none")]);
        assert_eq!(of("round").len(), LINKS + 1);
    }

    #[tokio::test]
    async fn a_config_map_is_swapped_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let version = |name: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("mailweir.toml"), name).unwrap();
            symlink(name, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        version("..0");
        symlink("..data/mailweir.toml", at("mailweir.toml")).unwrap();
        let (changed, mut changes) = mpsc::channel(1);
        let mut watched = WatchedFile::new(&at("mailweir.toml"), changed).unwrap();
        watched.renew().unwrap();
        for (old, new) in [("..0", "..1"), ("..1", "..2"), ("..2", "..3")] {
            version(new);
            fs::remove_dir_all(at(old)).unwrap();
            // Told at least once; more may follow.
            let told = async {
                loop {
                    changes.recv().await.unwrap();
                    watched.renew().unwrap();
                    if fs::read_to_string(at("mailweir.toml")).unwrap() == new {
                        break;
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(20), told).await.unwrap_or_else(|_| panic!("{new} is not told"));
        }
        // And a file that is written where it is.
        while changes.try_recv().is_ok() {}
        fs::write(at("mailweir.toml"), "in place").unwrap();
        tokio::time::timeout(Duration::from_secs(20), changes.recv()).await.expect("a write is told").unwrap();
    }
}
