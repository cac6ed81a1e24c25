//! The folder itself, as one thread at a time uses it.

use super::OpenError;
use super::file::{self, Found, VERSION_MAX};
use crate::store::{Change, Document, NAME_MAX, StoreError, VALUE_MAX, Version, is_name};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::sync::broadcast;

/// Ends the file name of a document.
const DOCUMENT: &str = ".json";
/// Ends the file name of what stood where a document was made anew.
const BROKEN: &str = ".json.broken";
/// What is being written, until it takes its place.
const NEW: &str = ".new";
/// A number up to which versions may have been given out: so they grow even if the newest document is gone.
const VERSIONS: &str = ".versions";
/// How many versions are reserved at once, so that few writes take a second file.
pub(super) const RESERVED: u64 = 1000;
/// How many changes a watcher may be behind before it looks at everything again.
const BEHIND: usize = 64;

// The longest file name of all file systems in use.
const _: () = assert!(NAME_MAX + BROKEN.len() <= 255);

pub(super) struct Folder {
    path: PathBuf,
    /// The last version that was given out.
    last: u64,
    /// Up to where versions may be given out.
    reserved: u64,
    changes: broadcast::Sender<Change>,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Unusable { path: path.to_owned(), source };
        make(path).map_err(unusable)?;
        let metadata = fs::metadata(path).map_err(unusable)?;
        if !metadata.is_dir() {
            return Err(unusable(ErrorKind::NotADirectory.into()));
        }
        check(path, &metadata, 0o700)?;
        remove_if_there(&path.join(NEW)).map_err(unusable)?;
        for entry in fs::read_dir(path).map_err(unusable)? {
            let entry = entry.map_err(unusable)?;
            if entry.file_name().to_str().is_some_and(is_ours) {
                check_file(&entry.path())?;
            }
        }
        let reserved = read_reserved(path).map_err(unusable)?;
        let mut folder =
            Self { path: path.to_owned(), last: reserved, reserved, changes: broadcast::channel(BEHIND).0 };
        let documents = folder.read_all().map_err(unusable)?;
        // What was reserved is lost only with the file that says so.
        folder.last = documents.iter().map(|document| document.version.0).max().unwrap_or(0).max(reserved);
        Ok(folder)
    }

    pub(super) fn list(&self) -> Result<Vec<Document>, StoreError> {
        self.read_all().map_err(|error| self.unusable(&error))
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<Document>, StoreError> {
        match self.find(name)? {
            Found::Whole(document) => Ok(Some(document)),
            Found::Nothing => Ok(None),
            Found::Broken(reason) => {
                self.warn(name, &reason);
                Ok(None)
            }
        }
    }

    /// All documents now, and every change from then on.
    pub(super) fn watch(&self) -> Result<(Vec<Document>, broadcast::Receiver<Change>), StoreError> {
        Ok((self.list()?, self.changes.subscribe()))
    }

    pub(super) fn create(&mut self, name: &str, value: Vec<u8>) -> Result<Version, StoreError> {
        match self.find(name)? {
            Found::Whole(_) => Err(StoreError::Exists(name.to_owned())),
            Found::Nothing => self.put(name, value),
            Found::Broken(reason) => {
                let kept = self.path.join(format!("{name}{BROKEN}"));
                fs::rename(self.file(name), &kept).map_err(|error| self.unusable(&error))?;
                tracing::warn!(file = %kept.display(), reason, "a broken document is made anew; the old file is kept");
                self.put(name, value)
            }
        }
    }

    pub(super) fn replace(
        &mut self,
        name: &str,
        version: Version,
        value: Vec<u8>,
    ) -> Result<Version, StoreError> {
        match self.find(name)? {
            Found::Whole(document) if document.version == version => self.put(name, value),
            _ => Err(StoreError::Conflict(name.to_owned())),
        }
    }

    pub(super) fn delete(&mut self, name: &str) -> Result<bool, StoreError> {
        if matches!(self.find(name)?, Found::Nothing) {
            return Ok(false);
        }
        fs::remove_file(self.file(name)).map_err(|error| self.unusable(&error))?;
        self.tell(Change::Deleted(name.to_owned()));
        self.sync().map_err(|error| self.unusable(&error))?;
        Ok(true)
    }

    /// Every path of the store is made here, of a name that was looked at.
    fn find(&self, name: &str) -> Result<Found, StoreError> {
        if !is_name(name) {
            return Err(StoreError::Unusable(format!("{name:?} is no name of a document")));
        }
        file::read(&self.file(name), name).map_err(|error| self.unusable(&error))
    }

    fn put(&mut self, name: &str, value: Vec<u8>) -> Result<Version, StoreError> {
        if value.len() > VALUE_MAX {
            return Err(StoreError::Unusable(format!(
                "{name} would be longer than {} KiB",
                VALUE_MAX / 1024
            )));
        }
        let version = self.next_version().map_err(|error| self.unusable(&error))?;
        let text = file::encode(version, value.clone());
        self.write(&self.file(name), &text).map_err(|error| self.unusable(&error))?;
        self.tell(Change::Put(Document { name: name.to_owned(), version, value }));
        self.sync().map_err(|error| self.unusable(&error))?;
        Ok(version)
    }

    fn next_version(&mut self) -> io::Result<Version> {
        let spent = || io::Error::other(format!("the number in {VERSIONS} is too large"));
        if self.last >= self.reserved {
            let reserved = self.last.checked_add(RESERVED).ok_or_else(spent)?;
            self.write(&self.path.join(VERSIONS), format!("{reserved}\n").as_bytes())?;
            self.sync()?;
            self.reserved = reserved;
        }
        self.last += 1;
        Ok(Version(self.last))
    }

    /// The old file or the new one is there at any time, whole.
    fn write(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        let new = self.path.join(NEW);
        remove_if_there(&new)?;
        let written = write_new(&new, text).and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            // It takes room that others need; where even this fails, the next write or start removes it.
            let _ = remove_if_there(&new);
        }
        written
    }

    /// Makes what was renamed or removed last.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Told before it is known to last: it is what readers see from now on.
    fn tell(&self, change: Change) {
        // Fails when nobody watches, which is fine.
        let _ = self.changes.send(change);
    }

    fn read_all(&self) -> io::Result<Vec<Document>> {
        let mut documents = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let file_name = entry?.file_name();
            let Some(name) = file_name.to_str().and_then(document_name) else { continue };
            match file::read(&self.file(name), name)? {
                Found::Whole(document) => documents.push(document),
                Found::Nothing => {}
                Found::Broken(reason) => self.warn(name, &reason),
            }
        }
        documents.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(documents)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}{DOCUMENT}"))
    }

    fn unusable(&self, error: &io::Error) -> StoreError {
        StoreError::Unusable(format!("{}: {error}", self.path.display()))
    }

    fn warn(&self, name: &str, reason: &str) {
        let file = self.file(name);
        tracing::warn!(
            file = %file.display(),
            reason,
            hint = "put it back from a backup and restart; else it is made anew when it is needed",
            "a document of the store is broken and passed over"
        );
    }
}

/// The name of the document that a file of this name is.
fn document_name(file_name: &str) -> Option<&str> {
    file_name.strip_suffix(DOCUMENT).filter(|name| is_name(name))
}

fn is_ours(file_name: &str) -> bool {
    let broken = file_name.strip_suffix(BROKEN).is_some_and(is_name);
    file_name == VERSIONS || broken || document_name(file_name).is_some()
}

/// Makes the folder if it is not there, its owner's alone from the first moment.
fn make(path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // The umask may have taken rights of the owner, too.
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn check_file(path: &Path) -> Result<(), OpenError> {
    let metadata =
        fs::symlink_metadata(path).map_err(|source| OpenError::Unusable { path: path.to_owned(), source })?;
    if !metadata.is_file() {
        return Err(OpenError::NotAFile { path: path.to_owned() });
    }
    check(path, &metadata, 0o600)
}

fn check(path: &Path, metadata: &Metadata, wanted: u32) -> Result<(), OpenError> {
    let runs_as = rustix::process::geteuid().as_raw();
    if metadata.uid() != runs_as {
        return Err(OpenError::Foreign { path: path.to_owned(), owner: metadata.uid(), runs_as });
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(OpenError::TooOpen { path: path.to_owned(), mode, wanted });
    }
    Ok(())
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text)?;
    file.sync_all()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Zero where nothing is said.
fn read_reserved(folder: &Path) -> io::Result<u64> {
    let path = folder.join(VERSIONS);
    let mut text = String::new();
    match File::open(&path).and_then(|file| file.take(32).read_to_string(&mut text)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) if error.kind() != ErrorKind::InvalidData => return Err(error),
        _ => {}
    }
    let number = text.trim_end().parse().ok().filter(|number| *number <= VERSION_MAX);
    if number.is_none() {
        tracing::warn!(file = %path.display(), "the number of versions cannot be read; the documents tell it");
    }
    Ok(number.unwrap_or(0))
}
