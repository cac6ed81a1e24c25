//! The ring as a file of the state folder: JSON, readable by its owner alone.

use super::random;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A key of the ring as it is kept.
pub(super) struct ListedKey {
    pub(super) secret: [u8; SECRET_LEN],
    /// When it began to seal.
    pub(super) since: SystemTime,
}

pub(super) const SECRET_LEN: usize = 32;
const NAME: &str = "keys.json";
/// Far more than a ring of any sense needs; a larger file is not ours.
const FILE_MAX: u64 = 64 * 1024;
/// Some thirty thousand years on: later times are no times, and would overflow when a day is added.
const SINCE_MAX: u64 = 1 << 40;

/// Why there is no ring of keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Others than the owner may read or write it.
    #[error(
        "{file} has mode {mode:04o}: others may read the keys that all sessions are sealed with; set it to 0600"
    )]
    TooOpen {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is there, but is no ring.
    #[error(
        "{file} is no ring of keys: {reason}; move it away to start with a fresh one (everybody logs in anew)"
    )]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong; never a part of the content.
        reason: &'static str,
    },
    /// It cannot be read or made.
    #[error("{file} cannot be {action}")]
    Io {
        /// The file.
        file: PathBuf,
        /// `read` or `made`.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Ring {
    /// Newest first.
    keys: Vec<Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    /// 32 bytes, URL-safe base64 without padding.
    secret: String,
    /// Seconds since 1970.
    since: u64,
}

/// The keys of the folder's file, newest first and at least one; the file is made if it is not there.
pub(super) fn read_or_make(folder: &Path) -> Result<Vec<ListedKey>, KeysError> {
    let file = folder.join(NAME);
    match read(&file) {
        Ok(text) => parse(&text).map_err(|reason| KeysError::Malformed { file, reason }),
        Err(KeysError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let key = ListedKey { secret: random(), since: SystemTime::now() };
            make(folder, &file, &key).map_err(|source| KeysError::Io { file, action: "made", source })?;
            Ok(vec![key])
        }
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, KeysError> {
    let failed = |source| KeysError::Io { file: path.to_owned(), action: "read", source };
    let mut file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeysError::TooOpen { file: path.to_owned(), mode });
    }
    let mut text = Vec::new();
    Read::by_ref(&mut file).take(FILE_MAX).read_to_end(&mut text).map_err(failed)?;
    Ok(text)
}

fn parse(text: &[u8]) -> Result<Vec<ListedKey>, &'static str> {
    let ring: Ring = serde_json::from_slice(text).map_err(|_| "it does not parse")?;
    if ring.keys.is_empty() {
        return Err("it lists no key");
    }
    if !ring.keys.is_sorted_by(|newer, older| newer.since >= older.since) {
        return Err("its keys are not in order, newest first");
    }
    let listed = ring.keys.iter().map(|kept| {
        let secret = URL_SAFE_NO_PAD.decode(&kept.secret).ok()?.try_into().ok()?;
        (kept.since < SINCE_MAX)
            .then(|| ListedKey { secret, since: UNIX_EPOCH + Duration::from_secs(kept.since) })
    });
    listed.collect::<Option<_>>().ok_or("one of its keys is not 32 bytes of base64 with a time")
}

/// Writes the first ring: whole or not at all, and on the disk when this returns.
fn make(folder: &Path, file: &Path, key: &ListedKey) -> io::Result<()> {
    let since = key.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let ring = Ring { keys: vec![Kept { secret: URL_SAFE_NO_PAD.encode(key.secret), since }] };
    let temporary = file.with_extension("json.new");
    // What a process that died here left behind would keep its mode.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    written.write_all(&serde_json::to_vec_pretty(&ring)?)?;
    written.sync_all()?;
    fs::rename(&temporary, file)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::{Keys, Purpose};
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder_with(text: &str, mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(NAME);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        folder
    }

    #[test]
    fn the_first_use_makes_the_file_for_its_owner_alone_and_the_next_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let made = Keys::open_dir(folder.path()).unwrap();
        let sealed = made.seal(Purpose::Ticket, "h", b"v");
        let read = Keys::open_dir(folder.path()).unwrap();
        assert_eq!(read.open(Purpose::Ticket, "h", sealed.as_bytes()), Ok(b"v".to_vec()));
        let names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [NAME]);
        assert_eq!(fs::metadata(folder.path().join(NAME)).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_its_mode_and_the_remedy() {
        for mode in [0o640, 0o604, 0o620] {
            let error = Keys::open_dir(folder_with("{}", mode).path()).unwrap_err();
            assert!(matches!(error, KeysError::TooOpen { mode: told, .. } if told == mode), "{error}");
            assert!(error.to_string().contains("set it to 0600"));
        }
    }

    #[test]
    fn a_broken_file_is_refused_and_left_as_it_is() {
        let key = |secret: &str, since: u64| format!(r#"{{"secret":"{secret}","since":{since}}}"#);
        let good = URL_SAFE_NO_PAD.encode([1; SECRET_LEN]);
        for (text, reason) in [
            (String::new(), "it does not parse"),
            (r#"{"keys":[]}"#.to_owned(), "it lists no key"),
            (
                format!(r#"{{"keys":[{}]}}"#, key("c2hvcnQ", 1)),
                "one of its keys is not 32 bytes of base64 with a time",
            ),
            (
                format!(r#"{{"keys":[{},{}]}}"#, key(&good, 1), key(&good, 2)),
                "its keys are not in order, newest first",
            ),
        ] {
            let folder = folder_with(&text, 0o600);
            let error = Keys::open_dir(folder.path()).unwrap_err();
            assert!(matches!(error, KeysError::Malformed { reason: told, .. } if told == reason), "{error}");
            assert_eq!(fs::read_to_string(folder.path().join(NAME)).unwrap(), text);
        }
    }

    #[test]
    fn an_older_key_of_the_file_opens_for_a_day_after_the_newer_one_began() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let (old, new) = (URL_SAFE_NO_PAD.encode([1; SECRET_LEN]), URL_SAFE_NO_PAD.encode([2; SECRET_LEN]));
        let ring = |newer_since: u64| {
            let text = format!(
                r#"{{"keys":[{{"secret":"{new}","since":{newer_since}}},{{"secret":"{old}","since":0}}]}}"#
            );
            Keys::open_dir(folder_with(&text, 0o600).path()).unwrap()
        };
        let alone = format!(r#"{{"keys":[{{"secret":"{old}","since":0}}]}}"#);
        let sealed =
            Keys::open_dir(folder_with(&alone, 0o600).path()).unwrap().seal(Purpose::Csrf, "h", b"v");
        assert!(ring(now - 60).open(Purpose::Csrf, "h", sealed.as_bytes()).is_ok());
        assert!(ring(now - 25 * 3600).open(Purpose::Csrf, "h", sealed.as_bytes()).is_err());
    }
}
