//! The ring as a file of the state folder: JSON, readable by its owner alone.

use super::KeysError;
use super::document::{ListedKey, TEXT_MAX, fresh, parse};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

const NAME: &str = "keys.json";

/// The keys of the folder's file, newest first and at least one; the file is made if it is not there.
pub(super) fn read_or_make(folder: &Path) -> Result<Vec<ListedKey>, KeysError> {
    let file = folder.join(NAME);
    match read(&file) {
        Ok(text) => parse(&text).map_err(|reason| KeysError::Malformed { file, reason }),
        Err(KeysError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let text = fresh(SystemTime::now());
            let made = make(folder, &file, &text);
            made.map_err(|source| KeysError::Io { file: file.clone(), action: "made", source })?;
            parse(&text).map_err(|reason| KeysError::Malformed { file, reason })
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
    Read::by_ref(&mut file).take(TEXT_MAX as u64 + 1).read_to_end(&mut text).map_err(failed)?;
    Ok(text)
}

/// Writes the first ring: whole or not at all, and on the disk when this returns.
fn make(folder: &Path, file: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = file.with_extension("json.new");
    // What a process that died here left behind would keep its mode.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    written.write_all(text)?;
    written.sync_all()?;
    fs::rename(&temporary, file)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::document::SECRET_LEN;
    use super::super::{Keys, Purpose};
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use std::os::unix::fs::PermissionsExt;
    use std::time::UNIX_EPOCH;

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
        for (text, reason) in [("", "it does not parse"), (r#"{"keys":[]}"#, "it lists no key")] {
            let folder = folder_with(text, 0o600);
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
