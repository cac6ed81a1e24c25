//! What `usher login` keeps, in a file that nobody else may read, and under a lock while it is open.

use super::CommandLineError;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A login at one portal.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) user: String,
    pub(super) access_token: String,
    pub(super) expires_at: SystemTime,
    pub(super) refresh_token: String,
}

/// The same as it is written down.
#[derive(Serialize, Deserialize)]
struct KeptDocument {
    user: String,
    access_token: String,
    /// In seconds since 1970.
    expires_at: u64,
    refresh_token: String,
}

/// All logins of this user on this machine. Whoever else opens them waits until this is dropped.
pub(super) struct Credentials {
    file: PathBuf,
    logins: BTreeMap<String, Kept>,
    _lock: File,
}

/// `$XDG_CONFIG_HOME/usher`, or `~/.config/usher`.
pub(super) fn folder() -> Result<PathBuf, CommandLineError> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    base.map(|base| base.join("usher")).ok_or_else(|| CommandLineError::Credentials {
        file: PathBuf::from("~/.config/usher/credentials.json"),
        problem: "neither XDG_CONFIG_HOME nor HOME is set".to_owned(),
    })
}

impl Credentials {
    /// Opens those of a folder, which is made if there is none; waits for whoever else has them open.
    pub(super) fn open(folder: &Path) -> Result<Self, CommandLineError> {
        let file = folder.join("credentials.json");
        let unusable = |problem: String| CommandLineError::Credentials { file: file.clone(), problem };
        let failed = |error: io::Error| unusable(error.to_string());
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let mut options = OpenOptions::new();
        let lock = options.write(true).create(true).truncate(false).mode(0o600);
        let lock = lock.open(folder.join("credentials.lock")).map_err(failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        let logins = match File::open(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(failed(error)),
            Ok(opened) => {
                let mode = opened.metadata().map_err(failed)?.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    let file = file.display();
                    return Err(unusable(format!(
                        "others may read it (mode {mode:03o}); run: chmod 600 {file}"
                    )));
                }
                let read: BTreeMap<String, KeptDocument> = serde_json::from_reader(opened)
                    .map_err(|error| unusable(format!("{error}; delete it and log in again")))?;
                read.into_iter().map(|(portal, kept)| (portal, kept.into())).collect()
            }
        };
        Ok(Self { file, logins, _lock: lock })
    }

    /// The portal, if there is one alone.
    pub(super) fn only(&self) -> Result<String, CommandLineError> {
        let mut portals = self.logins.keys();
        match (portals.next(), portals.next()) {
            (Some(only), None) => Ok(only.clone()),
            _ => Err(CommandLineError::NoPortal),
        }
    }

    pub(super) fn get(&self, portal: &str) -> Option<&Kept> {
        self.logins.get(portal)
    }

    pub(super) fn put(&mut self, portal: &str, kept: Kept) {
        self.logins.insert(portal.to_owned(), kept);
    }

    pub(super) fn remove(&mut self, portal: &str) {
        self.logins.remove(portal);
    }

    /// Writes them down: all or nothing.
    pub(super) fn write(&self) -> Result<(), CommandLineError> {
        let logins: BTreeMap<&String, KeptDocument> =
            self.logins.iter().map(|(portal, kept)| (portal, kept.clone().into())).collect();
        let text = serde_json::to_vec_pretty(&logins).expect("texts and numbers are JSON");
        let new = self.file.with_extension("new");
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.set_permissions(PermissionsExt::from_mode(0o600))?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.file)
        };
        write().map_err(|error: io::Error| CommandLineError::Credentials {
            file: self.file.clone(),
            problem: error.to_string(),
        })
    }
}

impl From<KeptDocument> for Kept {
    fn from(KeptDocument { user, access_token, expires_at, refresh_token }: KeptDocument) -> Self {
        let expires_at = UNIX_EPOCH.checked_add(Duration::from_secs(expires_at)).unwrap_or(UNIX_EPOCH);
        Self { user, access_token, expires_at, refresh_token }
    }
}

impl From<Kept> for KeptDocument {
    fn from(Kept { user, access_token, expires_at, refresh_token }: Kept) -> Self {
        let expires_at = expires_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { user, access_token, expires_at, refresh_token }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(secret: &str) -> Kept {
        Kept {
            user: "alice".to_owned(),
            access_token: "a".to_owned(),
            expires_at: UNIX_EPOCH + Duration::from_secs(5),
            refresh_token: secret.to_owned(),
        }
    }

    #[test]
    fn what_is_kept_reads_back_and_is_for_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("usher");
        let mut credentials = Credentials::open(&folder).unwrap();
        assert!(credentials.only().is_err());
        credentials.put("http://one", kept("1"));
        credentials.write().unwrap();
        drop(credentials);
        let mut credentials = Credentials::open(&folder).unwrap();
        assert_eq!(credentials.only().unwrap(), "http://one");
        let read = credentials.get("http://one").unwrap();
        assert_eq!((read.refresh_token.as_str(), read.expires_at), ("1", kept("").expires_at));
        credentials.put("http://two", kept("2"));
        assert!(credentials.only().is_err(), "there are two");
        drop(credentials);
        let file = folder.join("credentials.json");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        let told = Credentials::open(&folder).err().unwrap().to_string();
        assert!(told.contains("mode 640") && told.contains("chmod 600"), "{told}");
    }
}
