//! The file of the keys: read whole, replaced whole, by one at a time.
//!
//! Who changes it holds the lock of a file beside it (`.NAME.lock`, flock(2)) and has read it under that lock, so that no change
//! undoes another. The new file belongs to whom the old one did, or else to whom the folder does: a command run by root takes it
//! from nobody. A symbolic link stays one; what it leads to is replaced.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use super::key::hex;

/// Links followed: what the kernel follows (path_resolution(7)).
const LINKS: usize = 40;

/// The file, held for a change until this is dropped.
pub(super) struct Held {
    file: PathBuf,
    folder: PathBuf,
    _lock: File,
}

impl Held {
    /// Waits until nobody else changes it.
    pub(super) fn new(file: &Path) -> io::Result<Self> {
        let file = target(file)?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        let place = folder.join(beside(&file, ".lock"));
        let lock = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&place)?;
        give(&place, &lock.metadata()?, &owner(&file, &folder)?)?;
        lock.lock()?;
        Ok(Self { file, folder, _lock: lock })
    }

    /// What the file says; none when there is none.
    pub(super) fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(&self.file) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces it: whole or not at all.
    pub(super) fn write(&self, text: &[u8]) -> io::Result<()> {
        let mut chance = [0; 8];
        getrandom::fill(&mut chance).map_err(|error| io::Error::other(error.to_string()))?;
        let draft = self.folder.join(beside(&self.file, &format!(".{}", hex(&chance))));
        let written = self.write_draft(&draft, text).and_then(|()| fs::rename(&draft, &self.file));
        if written.is_err() {
            // What is left of it helps nobody.
            let _ = fs::remove_file(&draft);
        }
        written.and_then(|()| File::open(&self.folder)?.sync_all())
    }

    fn write_draft(&self, draft: &Path, text: &[u8]) -> io::Result<()> {
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
        new.write_all(text)?;
        give(draft, &new.metadata()?, &owner(&self.file, &self.folder)?)?;
        new.sync_all()
    }
}

/// Where a path leads, whether something is there or not.
fn target(file: &Path) -> io::Result<PathBuf> {
    let mut at = file.to_owned();
    for _ in 0..LINKS {
        match fs::read_link(&at) {
            Ok(to) => at = at.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => return Ok(at),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// `.NAME` with an ending.
fn beside(file: &Path, ending: &str) -> OsString {
    let mut name = OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(ending);
    name
}

/// Whose the file is, or else the folder.
fn owner(file: &Path, folder: &Path) -> io::Result<Metadata> {
    fs::metadata(file).or_else(|_| fs::metadata(folder))
}

/// Gives what we made to its owner. Only root can; who else cannot read it afterwards must not take it away either. The group
/// alone is not worth a failure: it may not read in any case.
fn give(place: &Path, made: &Metadata, owner: &Metadata) -> io::Result<()> {
    if made.uid() == owner.uid() && made.gid() == owner.gid() {
        return Ok(());
    }
    let given = chown(place, Some(owner.uid()), Some(owner.gid()));
    if made.uid() == owner.uid() { Ok(()) } else { given }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn it_stays_whose_it_is_and_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("real")).unwrap();
        symlink("real/keys", at("keys")).unwrap();
        // By root: to whom the folder belongs. Who is not root has only files of his own.
        let root = fs::metadata(at("real")).unwrap().uid() == 0;
        let (uid, gid) = if root { (1_234, 4_321) } else { (fs::metadata(at("real")).unwrap().uid(), 0) };
        let whose = |name: &str| {
            let data = fs::metadata(at(name)).unwrap();
            if root { (data.uid(), data.gid(), data.permissions().mode() & 0o777) } else { (uid, gid, 0o600) }
        };
        if root {
            chown(at("real"), Some(uid), Some(gid)).unwrap();
        }
        Held::new(&at("keys")).unwrap().write(b"one").unwrap();
        assert_eq!(fs::read_link(at("keys")).unwrap(), Path::new("real/keys"), "a link stays one");
        assert_eq!(fs::read(at("real/keys")).unwrap(), b"one");
        assert_eq!(whose("real/keys"), (uid, gid, 0o600));
        assert_eq!(whose("real/.keys.lock"), (uid, gid, 0o600), "the service can lock it too");
        if root {
            chown(at("real/keys"), Some(uid + 1), Some(gid + 1)).unwrap();
        }
        let held = Held::new(&at("keys")).unwrap();
        assert_eq!(held.read().unwrap().unwrap(), b"one");
        held.write(b"two").unwrap();
        if root {
            assert_eq!(whose("real/keys"), (uid + 1, gid + 1, 0o600));
        }
        let mut names: Vec<_> = fs::read_dir(at("real")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".keys.lock", "keys"], "no draft is left");
        symlink("round", at("round")).unwrap();
        assert!(Held::new(&at("round")).is_err());
    }
}
