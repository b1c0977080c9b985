//! Bodies as files: `FOLDER/ab/cd/<sha256>.zst`, mode 0600, written beside, synced, renamed, the folder synced.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::BodyPage;
use crate::records::StoreError;

/// A folder of bodies.
#[derive(Debug)]
pub(in crate::records) struct Files {
    folder: PathBuf,
    min_free_bytes: u64,
    /// Tells apart writers of the same body at the same time.
    serial: AtomicU64,
    /// Held while a body gets its name, and from the look at its age until it is removed: no other comes in between.
    placing: Arc<Mutex<()>>,
}

impl Files {
    pub(super) fn open(folder: PathBuf, min_free_bytes: u64) -> Result<Self, StoreError> {
        make_folder(&folder).map_err(failed("make", &folder))?;
        Ok(Self { folder, min_free_bytes, serial: AtomicU64::new(0), placing: Arc::default() })
    }

    pub(super) fn place(&self) -> String {
        self.folder.display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(&name[..2]).join(&name[2..4]).join(format!("{name}.zst"))
    }

    pub(super) async fn put(&self, name: &str, packed: Vec<u8>) -> Result<(), StoreError> {
        let path = self.path(name);
        let aside =
            path.with_extension(format!("{}-{}.part", std::process::id(), self.serial.fetch_add(1, Ordering::Relaxed)));
        let (folder, keep, placing) = (self.folder.clone(), self.min_free_bytes, Arc::clone(&self.placing));
        blocking(move || {
            check_space(&folder, keep)?;
            let written = write_synced(&folder, &aside, &path, (&packed, &placing));
            if written.is_err() {
                // Best effort: a part left behind is removed by the retention.
                let _ = fs::remove_file(&aside);
            }
            written.map_err(failed("write", &path))
        })
        .await
    }

    pub(super) async fn get(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.path(name);
        blocking(move || fs::read(&path).map_err(failed("read", &path))).await
    }

    pub(super) async fn delete_older(&self, name: &str, unix_ms: i64) -> Result<bool, StoreError> {
        let path = self.path(name);
        let (before, placing) = (time(unix_ms), Arc::clone(&self.placing));
        blocking(move || {
            let _alone = placing.lock().unwrap_or_else(PoisonError::into_inner);
            let gone = match fs::metadata(&path).and_then(|m| m.modified()) {
                Ok(at) if at >= before => return Ok(false),
                Ok(_) => fs::remove_file(&path),
                Err(error) => Err(error),
            };
            match gone {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed("delete", &path)(error)),
                other => Ok(other.is_ok()),
            }
        })
        .await
    }

    /// One page: folders before the one where the last page ended are not looked into again.
    pub(super) async fn older_than(
        &self,
        unix_ms: i64,
        after: Option<String>,
        limit: usize,
    ) -> Result<BodyPage, StoreError> {
        let folder = self.folder.clone();
        let before = time(unix_ms);
        blocking(move || {
            let after: Vec<OsString> = after.iter().flat_map(|after| after.split('/')).map(OsString::from).collect();
            let (mut page, mut seen) = (BodyPage::default(), 0);
            for (outer, first) in from(&folder, after.first())? {
                for (inner, first) in from(&outer, after.get(1).filter(|_| first))? {
                    for (file, last) in from(&inner, after.get(2).filter(|_| first))? {
                        if last {
                            continue;
                        }
                        let old = fs::metadata(&file).and_then(|m| m.modified()).is_ok_and(|at| at < before);
                        match (file.extension().and_then(|e| e.to_str()), file.file_stem().and_then(|s| s.to_str())) {
                            (Some("zst"), Some(name)) if old && name.len() == 64 => page.names.push(name.to_owned()),
                            (Some("part"), _) if old => drop(fs::remove_file(&file)),
                            _ => {}
                        }
                        seen += 1;
                        if seen >= limit {
                            page.next = file.strip_prefix(&folder).ok().and_then(Path::to_str).map(str::to_owned);
                            return Ok(page);
                        }
                    }
                }
            }
            Ok(page)
        })
        .await
    }
}

/// What is in a folder in the order of names, from a name on; and whether it is that one.
fn from(folder: &Path, name: Option<&OsString>) -> Result<Vec<(PathBuf, bool)>, StoreError> {
    let mut found = entries(folder)?;
    found.retain(|path| name.is_none_or(|name| path.file_name() >= Some(name)));
    found.sort_unstable();
    let is_it = |path: PathBuf| {
        let it = name.is_some_and(|name| path.file_name() == Some(name));
        (path, it)
    };
    Ok(found.into_iter().map(is_it).collect())
}

fn time(unix_ms: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms.max(0) as u64)
}

fn write_synced(
    folder: &Path,
    aside: &Path,
    path: &Path,
    (packed, placing): (&[u8], &Mutex<()>),
) -> std::io::Result<()> {
    let parent = path.parent().unwrap_or(folder);
    if !parent.is_dir() {
        make_folder(parent)?;
        // The names of new folders must be durable as well.
        for above in parent.ancestors().skip(1).take_while(|above| above.starts_with(folder)) {
            File::open(above)?.sync_all()?;
        }
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(aside)?;
    file.write_all(packed)?;
    file.sync_all()?;
    drop(file);
    {
        let _alone = placing.lock().unwrap_or_else(PoisonError::into_inner);
        fs::rename(aside, path)?;
    }
    File::open(parent)?.sync_all()
}

fn check_space(folder: &Path, needed: u64) -> Result<(), StoreError> {
    let stat = rustix::fs::statvfs(folder).map_err(|e| failed("measure", folder)(e.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < needed { Err(StoreError::DiskFull { path: folder.to_owned(), free, needed }) } else { Ok(()) }
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// What is in a folder; nothing when it is none.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.filter_map(|entry| entry.ok().map(|e| e.path())).collect()),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(failed("list", folder)(error)),
    }
}

fn failed(attempt: &'static str, place: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    move |source| StoreError::Body { attempt, place: place.display().to_string(), source }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let lost =
        |error| StoreError::Body { attempt: "wait for", place: "worker".into(), source: std::io::Error::other(error) };
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Page by page, each body once, and what was left half written goes.
    #[tokio::test]
    async fn pages() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path().join("bodies"), 0).unwrap();
        // Two of them in one folder.
        let mut names: Vec<String> = ["00aa", "00ab", "00ab", "7f00", "ffff"]
            .iter()
            .zip('a'..)
            .map(|(at, c)| format!("{at}{}", c.to_string().repeat(60)))
            .collect();
        for name in &names {
            files.put(name, vec![1]).await.unwrap();
        }
        let part = files.path(&names[0]).with_extension("1-1.part");
        fs::write(&part, "half").unwrap();
        let soon = i64::MAX / 2;
        for limit in 1..8 {
            let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
            loop {
                let page = files.older_than(soon, after, limit).await.unwrap();
                assert!(page.names.len() <= limit);
                seen.extend(page.names);
                (after, pages) = (page.next, pages + 1);
                if after.is_none() {
                    break;
                }
            }
            names.sort();
            assert_eq!((&seen, pages >= 5 / limit), (&names, true), "{limit}");
        }
        assert!(!part.exists());
        // One that was written since it was listed stays.
        assert!(!files.delete_older(&names[0], 0).await.unwrap());
        assert_eq!(files.get(&names[0]).await.unwrap(), [1]);
        assert!(files.delete_older(&names[0], soon).await.unwrap());
        assert!(files.get(&names[0]).await.is_err());
        assert!(!files.delete_older(&names[0], soon).await.unwrap(), "gone already");
        assert_eq!(files.older_than(0, None, 9).await.unwrap(), BodyPage::default(), "none is that old");
    }
}
