//! Where the driver keeps things: homes, sockets, logs, its lock and the id of the installation.

use super::OpenError;
use super::log::{Log, remove_file};
use crate::lock;
use config::WorkspaceId;
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::time::{Instant, sleep};

/// What fits into `sockaddr_un` with its final zero (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// The folders of one installation. Its paths are absolute and UTF-8.
pub(super) struct Folders {
    state: PathBuf,
    /// The id of this installation: random, made once.
    pub installation: String,
    /// Held as long as this driver lives. A child that is forked but not yet executing holds it, too: so when the
    /// next Usher has it, every child of a killed one has executed, and shows its mark.
    _lock: File,
}

impl Folders {
    /// Makes what is missing, takes the lock, reads the id of the installation.
    pub async fn open(state: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Folder { path: state.to_owned(), error };
        make_private(state).map_err(failed)?;
        let state = state.canonicalize().map_err(failed)?;
        utf8(&state)?;
        let held = take_lock(&state.join("processes.lock")).await?;
        for folder in ["homes", "run", "logs"] {
            let path = state.join(folder);
            make_private(&path).map_err(|error| OpenError::Folder { path, error })?;
        }
        let id_file = state.join("installation");
        let installation =
            installation_id(&id_file).map_err(|error| OpenError::Folder { path: id_file, error })?;
        let folders = Self { state, installation, _lock: held };
        let length = folders.socket(&random_id()).as_os_str().len();
        if length > SOCKET_PATH_MAX {
            return Err(OpenError::PathTooLong { path: folders.state, by: length - SOCKET_PATH_MAX });
        }
        Ok(folders)
    }

    /// The working directory of a workspace.
    pub fn home(&self, id: &WorkspaceId) -> PathBuf {
        self.state.join("homes").join(id.to_string())
    }

    /// The socket of one start; of its own for each, so that no route leads to a later one.
    pub fn socket(&self, generation: &str) -> PathBuf {
        self.sockets().join(format!("{generation}.sock"))
    }

    /// The folder of all sockets.
    pub fn sockets(&self) -> PathBuf {
        self.state.join("run")
    }

    /// The output of a workspace.
    pub fn log(&self, id: &WorkspaceId) -> Log {
        Log::new(self.state.join("logs").join(format!("{id}.log")))
    }

    /// Makes a workspace's working directory. A link in its place is an error.
    pub fn make_home(&self, id: &WorkspaceId) -> io::Result<()> {
        let home = self.home(id);
        match DirBuilder::new().mode(0o700).create(&home) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => return done,
        }
        if !fs::symlink_metadata(&home)?.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                format!("{} is no directory", home.display()),
            ));
        }
        Ok(())
    }

    /// Removes a workspace's files. Links are removed, not followed. Blocks.
    pub fn remove_home(&self, id: &WorkspaceId) -> io::Result<()> {
        let home = self.home(id);
        match fs::symlink_metadata(&home) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
            Ok(found) if !found.is_dir() => return remove_file(&home),
            Ok(_) => {}
        }
        match fs::remove_dir_all(&home) {
            // Some tools write-protect their folders.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                make_removable(&home)?;
                fs::remove_dir_all(&home)
            }
            done => done,
        }
    }

    /// Removes sockets that are of no running workspace.
    pub fn remove_sockets_but(&self, kept: &[PathBuf]) -> io::Result<()> {
        for entry in fs::read_dir(self.sockets())? {
            let path = entry?.path();
            if !kept.contains(&path) {
                remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// 16 hexadecimal digits that were never used before.
pub(super) fn random_id() -> String {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
    format!("{:016x}", u64::from_be_bytes(bytes))
}

/// A path as text, for templates and records.
pub(super) fn utf8(path: &Path) -> Result<&str, OpenError> {
    path.to_str().ok_or_else(|| OpenError::NotUtf8(path.to_owned()))
}

fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

async fn take_lock(path: &Path) -> Result<File, OpenError> {
    let failed = |error| OpenError::Folder { path: path.to_owned(), error };
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
    let deadline = Instant::now() + lock::PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(OpenError::InUse { path: path.to_owned(), by: lock::holders(path) });
            }
            Err(TryLockError::WouldBlock) => sleep(lock::PAUSE).await,
        }
    }
}

/// The id in the file, or a new one. The lock is held, so nobody else makes one.
fn installation_id(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let id = text.trim();
            let fits = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            let bad =
                || io::Error::new(io::ErrorKind::InvalidData, "no id of 16 hexadecimal digits is in it");
            fits.then(|| id.to_owned()).ok_or_else(bad)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = random_id();
            let unfinished = path.with_extension("new");
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            writeln!(file, "{id}")?;
            file.sync_all()?;
            fs::rename(&unfinished, path)?;
            Ok(id)
        }
        Err(error) => Err(error),
    }
}

/// Gives the owner all rights on a folder and those beneath it.
fn make_removable(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // The type of the entry itself, not of what a link leads to.
        if entry.file_type()?.is_dir() {
            make_removable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> WorkspaceId {
        WorkspaceId::parse("alice").unwrap()
    }

    #[tokio::test]
    async fn the_id_of_an_installation_is_made_once() {
        let state = tempfile::tempdir().unwrap();
        let first = Folders::open(state.path()).await.unwrap().installation;
        assert_eq!(Folders::open(state.path()).await.unwrap().installation, first);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(Folders::open(other.path()).await.unwrap().installation, first);
        fs::write(state.path().join("installation"), "../x").unwrap();
        assert!(matches!(Folders::open(state.path()).await, Err(OpenError::Folder { .. })));
    }

    #[tokio::test]
    async fn a_folder_too_deep_for_sockets_is_refused_with_the_reason() {
        let state = tempfile::tempdir().unwrap();
        let deep = state.path().join("x".repeat(100));
        let error = Folders::open(&deep).await.err().unwrap();
        assert!(matches!(error, OpenError::PathTooLong { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_has_one_usher_at_a_time() {
        let state = tempfile::tempdir().unwrap();
        let _first = Folders::open(state.path()).await.unwrap();
        assert!(matches!(Folders::open(state.path()).await, Err(OpenError::InUse { .. })));
    }

    #[tokio::test]
    async fn removing_a_home_follows_no_link() {
        let state = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let folders = Folders::open(state.path()).await.unwrap();
        let home = folders.home(&alice());

        folders.make_home(&alice()).unwrap();
        std::os::unix::fs::symlink(outside.path(), home.join("link")).unwrap();
        fs::create_dir_all(home.join("protected/inner")).unwrap();
        fs::set_permissions(home.join("protected"), Permissions::from_mode(0o500)).unwrap();
        folders.remove_home(&alice()).unwrap();
        assert!(!home.exists());

        std::os::unix::fs::symlink(outside.path(), &home).unwrap();
        assert_eq!(folders.make_home(&alice()).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        folders.remove_home(&alice()).unwrap();
        assert!(fs::symlink_metadata(&home).is_err());
        folders.remove_home(&alice()).unwrap();
        assert!(outside.path().join("kept").exists());
    }
}
