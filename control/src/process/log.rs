//! A workspace's output: a file that its processes append to and Usher trims.
//!
//! A file and not a pipe: a pipe would break when Usher ends, and take its workspaces along.

use crate::text::last_lines;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::sleep;

/// How often the size is looked at: what is written in between is how far the file may exceed its limit.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How the line begins that is written at every start: what comes before belongs to an earlier start.
const START_LINE: &str = "=== usher: start ";
/// How much is shown of a log.
const TAIL_LINES: usize = 64;
/// See [`TAIL_LINES`].
const TAIL_BYTES: usize = 16 << 10;

/// The log of one workspace.
#[derive(Debug, Clone)]
pub(super) struct Log {
    path: PathBuf,
}

impl Log {
    /// The log at this path, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Opens it for a process that is to be started, beneath a line that says so.
    pub fn begin(&self, generation: &str) -> io::Result<File> {
        if let Some(folder) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        writeln!(file, "{START_LINE}{generation}")?;
        Ok(file)
    }

    /// Does `work`, and meanwhile keeps the file within `limit` bytes, from time to time.
    pub async fn bounded_during<T>(&self, limit: u64, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            () = self.keep_bounded(limit) => unreachable!("the file is looked after for ever"),
        }
    }

    async fn keep_bounded(&self, limit: u64) {
        loop {
            sleep(LOOK_EVERY).await;
            let path = self.path.clone();
            let trimmed = tokio::task::spawn_blocking(move || trim(&path, limit)).await;
            if let Ok(Err(error)) = trimmed
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(log.path = %self.path.display(), %error, "cannot trim a workspace's log");
            }
        }
    }

    /// The last lines since the last start. Empty if there are none.
    pub async fn tail(&self) -> String {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read_end(&path, TAIL_BYTES as u64)).await;
        tail_of(&read.ok().and_then(Result::ok).unwrap_or_default(), TAIL_LINES, TAIL_BYTES)
    }

    /// Removes the file.
    pub fn remove(&self) -> io::Result<()> {
        remove_file(&self.path)
    }
}

/// Removes a file that need not be there.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The last lines of an output, cleaned: at most so many lines and bytes.
pub(super) fn tail_of(output: &[u8], lines: usize, bytes: usize) -> String {
    let text = String::from_utf8_lossy(output);
    let this_start = match text.rfind(START_LINE) {
        Some(at) => text[at..].split_once('\n').map_or("", |(_, after)| after),
        None => &text,
    };
    last_lines(this_start, lines, bytes)
}

fn read_end(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut end = Vec::new();
    file.take(most).read_to_end(&mut end)?;
    Ok(end)
}

/// Keeps the newest half of `limit` if the file exceeds it.
///
/// The newest part is copied to the front and the rest cut off. What a process appends between the last read
/// and the cut is lost: a few microseconds' worth, once in half a limit.
fn trim(path: &Path, limit: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    if length <= limit {
        return Ok(());
    }
    let mut from = length - limit / 2;
    let mut to = 0;
    let mut chunk = vec![0; 64 << 10];
    // One that writes faster than this copies is cut off at the limit.
    while to < limit {
        let read = file.read_at(&mut chunk, from)?;
        if read == 0 {
            break;
        }
        file.write_all_at(&chunk[..read], to)?;
        from += read as u64;
        to += read as u64;
    }
    file.set_len(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_begins_at_the_last_start_and_is_bounded() {
        assert_eq!(
            tail_of(b"old\n=== usher: start 1\nmiddle\n=== usher: start 2\nnew\nest\n", 64, 100),
            "new\nest"
        );
        assert_eq!(tail_of(b"=== usher: start 2\n", 64, 100), "");
        assert_eq!(tail_of(b"1\n2\n3\n4", 2, 100), "3\n4");
        assert_eq!(tail_of("größer".as_bytes(), 64, 4), "ßer");
        assert_eq!(tail_of(b"\xff\xfe", 64, 100), "\u{fffd}\u{fffd}");
        assert_eq!(tail_of(b"", 64, 100), "");
    }

    #[test]
    fn a_log_within_its_limit_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, [b'x'; 100]).unwrap();
        trim(&path, 100).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 100);
    }

    #[test]
    fn a_trimmed_log_keeps_the_newest_and_is_still_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::new(folder.path().join("logs/alice.log"));
        let mut process = log.begin("1").unwrap();
        for n in 0..100_000 {
            writeln!(process, "line {n}").unwrap();
        }
        trim(&log.path, 200_000).unwrap();
        assert_eq!(std::fs::metadata(&log.path).unwrap().len(), 100_000);
        writeln!(process, "line 100000").unwrap();
        let kept = std::fs::read_to_string(&log.path).unwrap();
        assert!(kept.ends_with("\nline 99998\nline 99999\nline 100000\n"), "{:?}", &kept[kept.len() - 60..]);
        assert_eq!(kept.len(), 100_000 + "line 100000\n".len());
    }
}
